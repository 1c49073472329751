//! What only a server's BMC can do: its own restart, an interrupt, boot order, SNMP, syslog, settings of the factory, virtual media.

use std::time::Duration;

use engine::NewGroup;
use model::{
    Id,
    firmware::{BmcAction, ServerBmc},
    job::{JobRefs, JobSpec, JobStatus, RetryPolicy, Target},
    order::Order,
};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use serde_json::{Value, json};
use store::entity::{server, server_instance, site_controller};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    facts,
    kinds::{
        record,
        server::{find, refuse_used},
    },
    routes,
};

routes! {
    "resetServerBmc" => reset,
    "sendServerNmi" => nmi,
    "getServerBootOrder" => boot_order,
    "updateServerBootOrder" => set_boot_order,
    "updateServerEnableSnmp" => snmp,
    "enableServerSyslog" => syslog,
    "resetServerToFactoryDefaults" => factory,
    "ejectServerVirtualMedia" => eject,
    "getServerPowerPolicy" => power_policy,
    "updateServerPowerPolicy" => set_power_policy,
}

/// How long a caller waits for a BMC.
const PATIENCE: Duration = Duration::from_secs(25);

/// Refuses what is not to be done to a server that is in production outside of this platform.
pub(super) fn refuse_outside(found: &server::Model, what: &str) -> Result<(), ApiError> {
    if !facts::hands_off(found) {
        return Ok(());
    }
    Err(ApiError::conflict(format!(
        "server {} is in production outside of this platform (it is {}): it cannot be {what}",
        facts::server_name(found),
        found.administration_state
    )))
}

/// A group of one job for one server, with its event.
pub(super) async fn ask(
    ctx: &Ctx,
    of: &server::Model,
    function: &str,
    title: String,
    payload: Value,
    seconds: u32,
) -> Result<(Id, Id), ApiError> {
    if of.bmc_username.is_none() || of.bmc_address.is_none() {
        return Err(ApiError::conflict(format!("the login of the BMC of {} is not known", facts::server_name(of))));
    }
    let txn = ctx.app.db().begin().await?;
    // Orders for a server in use say for which instance they are, so that they are void when somebody else has it.
    let holder = server_instance::Entity::find().filter(server_instance::Column::ServerId.eq(of.id)).one(&txn).await?;
    let spec = JobSpec {
        key: format!("{function}/server-{}", of.id),
        function: function.to_owned(),
        title: title.clone(),
        site_id: Some(of.site_id),
        target: Target { kind: "server".into(), id: of.id, generation: 0 },
        payload,
        depends_on: Vec::new(),
        retry: RetryPolicy { max: 2, ..RetryPolicy::default() },
        timeout_seconds: seconds,
        refs: JobRefs { server_id: Some(of.id), instance_id: holder.map(|h| h.id), ..Default::default() },
        can_be_skipped: true,
        requires_confirmation: false,
    };
    let key = spec.key.clone();
    let kind = function.replace('.', "_");
    let group = NewGroup {
        kind,
        description: title.clone(),
        params: json!({"serverId": of.id}),
        server_id: Some(of.id),
        site_id: Some(of.site_id),
        ..Default::default()
    };
    let created = ctx.app.engine().create_group(&txn, group, vec![spec]).await?;
    // Looking changes nothing: it is no event.
    if ctx.operation.method != "GET" {
        record(ctx, &txn, function, title, ("server", of.id), json!({"jobGroupId": created.group_id})).await?;
    }
    txn.commit().await?;
    ctx.app.engine().wake();
    ctx.app.wrote();
    let job_id =
        created.job_ids.get(&key).copied().ok_or_else(|| ApiError::internal("a job was made without its key"))?;
    Ok((created.group_id, job_id))
}

/// The same, and its answer; `None` where the BMC takes longer than anybody waits, or the site cannot be reached.
pub(super) async fn ask_and_wait(
    ctx: &Ctx,
    of: &server::Model,
    function: &str,
    title: String,
    payload: Value,
    seconds: u32,
) -> Result<Option<Value>, ApiError> {
    let reachable = site_controller::Entity::find()
        .filter(site_controller::Column::SiteId.eq(of.site_id))
        .filter(site_controller::Column::Connected.eq(true))
        .count(&ctx.app.db().read)
        .await?
        > 0;
    if !reachable {
        return Ok(None);
    }
    let mut reports = ctx.app.engine().subscribe();
    let (_, job_id) = ask(ctx, of, function, title, payload, seconds).await?;
    let answer = tokio::time::timeout(PATIENCE, async {
        loop {
            match reports.recv().await {
                Ok(r) if r.job_id == job_id && r.status.is_final() => break Some(r),
                Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => break None,
            }
        }
    })
    .await;
    match answer {
        Ok(Some(r)) if r.status == JobStatus::ReturnedSuccess => Ok(r.response),
        Ok(Some(r)) => Err(ApiError::conflict(format!(
            "the BMC of {} did not say: {}",
            facts::server_name(of),
            r.error.unwrap_or_else(|| "the job was stopped".into())
        ))),
        _ => Ok(None),
    }
}

/// What is answered when a BMC did not answer in time.
pub(super) fn silent(of: &server::Model) -> ApiError {
    ApiError::new(
        axum::http::StatusCode::GATEWAY_TIMEOUT,
        format!(
            "the BMC of {} did not answer in time, or its site is not connected; try again later",
            facts::server_name(of)
        ),
    )
}

async fn act(ctx: &Ctx, of: &server::Model, action: BmcAction, title: String, seconds: u32) -> Result<Value, ApiError> {
    let payload = serde_json::to_value(ServerBmc { server_id: of.id, action })?;
    let (group_id, job_id) = ask(ctx, of, ServerBmc::NAME, title, payload, seconds).await?;
    Ok(json!({"jobGroupId": group_id, "jobId": job_id}))
}

/// The server of the path at the caller's revision, if its BMC may be given orders.
async fn ours(ctx: &Ctx, what: &str) -> Result<(server::Model, String), ApiError> {
    let of = find(ctx, &ctx.app.db().read).await?;
    ctx.check_revision(of.revision)?;
    refuse_outside(&of, what)?;
    let name = facts::server_name(&of);
    Ok((of, name))
}

async fn reset(ctx: Ctx) -> Result<Reply, ApiError> {
    let (of, name) = ours(&ctx, "given another BMC state").await?;
    Ok(Reply::Json(act(&ctx, &of, BmcAction::Reset, format!("Restart the BMC of {name}"), 900).await?))
}

async fn nmi(ctx: Ctx) -> Result<Reply, ApiError> {
    let (of, name) = ours(&ctx, "interrupted").await?;
    if of.power == "off" {
        return Err(ApiError::conflict(format!("server {name} is off: there is nothing to interrupt")));
    }
    let title = format!("Interrupt the operating system of {name} (NMI)");
    Ok(Reply::Json(act(&ctx, &of, BmcAction::Nmi, title, 120).await?))
}

async fn boot_order(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = find(&ctx, &ctx.app.db().read).await?;
    let payload = serde_json::to_value(ServerBmc { server_id: of.id, action: BmcAction::BootOrder })?;
    let title = format!("Read the boot order of {}", facts::server_name(&of));
    let answer = ask_and_wait(&ctx, &of, ServerBmc::NAME, title, payload, 120).await?;
    answer.map(Reply::Json).ok_or_else(|| silent(&of))
}

async fn set_boot_order(ctx: Ctx) -> Result<Reply, ApiError> {
    let list = ctx.body.get("order").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let order: Vec<String> = list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    if order.is_empty() || order.len() > 64 {
        return Err(ApiError::field("order", "must name all boot options, the first first"));
    }
    let (of, name) = ours(&ctx, "given another boot order").await?;
    refuse_used(&ctx.app.db().read, &of, "given another boot order").await?;
    let title = format!("Change the boot order of {name}");
    Ok(Reply::Json(act(&ctx, &of, BmcAction::SetBootOrder { order }, title, 180).await?))
}

/// The contract answers with a number: the job.
async fn snmp(ctx: Ctx) -> Result<Reply, ApiError> {
    let (of, name) = ours(&ctx, "changed").await?;
    let info = act(&ctx, &of, BmcAction::EnableSnmp, format!("Switch on SNMP at the BMC of {name}"), 180).await?;
    Ok(Reply::Json(info["jobId"].clone()))
}

/// Where events are sent by syslog: what the body says, else the site.
async fn syslog(ctx: Ctx) -> Result<Reply, ApiError> {
    let (of, name) = ours(&ctx, "changed").await?;
    let target = match ctx.text("target").map(str::trim).filter(|t| !t.is_empty()) {
        Some(text) => {
            let (host, port) = text.rsplit_once(':').unwrap_or((text, "514"));
            let good = port.parse::<u16>().is_ok_and(|p| p > 0)
                && (host.parse::<std::net::IpAddr>().is_ok() || model::validate::hostname("target", host).is_ok());
            if !good {
                return Err(ApiError::field("target", format!("{text:?} is not address:port of a syslog server")));
            }
            format!("{host}:{port}")
        }
        None => {
            let at = site_controller::Entity::find()
                .filter(site_controller::Column::SiteId.eq(of.site_id))
                .one(&ctx.app.db().read)
                .await?
                .map(|c| c.address)
                .filter(|a| !a.is_empty());
            let at =
                at.ok_or_else(|| ApiError::field("target", "is required: the site has no address of its own yet"))?;
            format!("{at}:514")
        }
    };
    act(&ctx, &of, BmcAction::Syslog { target }, format!("Send events of the BMC of {name} by syslog"), 180).await?;
    Ok(Reply::Empty)
}

async fn factory(ctx: Ctx) -> Result<Reply, ApiError> {
    let (of, name) = ours(&ctx, "put back to the settings of the factory").await?;
    refuse_used(&ctx.app.db().read, &of, "put back to the settings of the factory").await?;
    act(&ctx, &of, BmcAction::FactoryReset, format!("Put {name} back to the settings of the factory"), 600).await?;
    Ok(Reply::Empty)
}

async fn eject(ctx: Ctx) -> Result<Reply, ApiError> {
    let (of, name) = ours(&ctx, "given another medium").await?;
    let title = format!("Take the image out of the virtual drive of {name}");
    Ok(Reply::Json(act(&ctx, &of, BmcAction::EjectMedia, title, 180).await?))
}

async fn power_policy(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = find(&ctx, &ctx.app.db().read).await?;
    let payload = serde_json::to_value(ServerBmc { server_id: of.id, action: BmcAction::AfterPowerLoss })?;
    let title = format!("Read what {} does after a loss of power", facts::server_name(&of));
    let answer = ask_and_wait(&ctx, &of, ServerBmc::NAME, title, payload, 120).await?;
    answer.map(Reply::Json).ok_or_else(|| silent(&of))
}

/// It changes nothing about a running system, so that a server in use may be given it too.
async fn set_power_policy(ctx: Ctx) -> Result<Reply, ApiError> {
    let wanted = ctx.body.get("afterPowerLoss").cloned().unwrap_or_default();
    let wanted = serde_json::from_value(wanted)
        .map_err(|_| ApiError::field("afterPowerLoss", "is one of stay_off, last_state, start"))?;
    let (of, name) = ours(&ctx, "told what to do after a loss of power").await?;
    let title = format!("Tell {name} what to do after a loss of power");
    Ok(Reply::Json(act(&ctx, &of, BmcAction::SetAfterPowerLoss { wanted }, title, 180).await?))
}
