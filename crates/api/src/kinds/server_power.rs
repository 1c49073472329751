//! Power and identification of servers.

use std::time::Duration;

use engine::NewGroup;
use model::{
    Id,
    bmc::PowerAction,
    job::{JobRefs, JobSpec, JobStatus, RetryPolicy, Target},
    order::{Order, ServerIdentify, ServerPower, ServerPowerStatus},
    server::ServerStatus,
};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use serde_json::{Value, json};
use store::{
    entity::{server, site_controller},
    time,
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    facts,
    kinds::{
        record,
        server::{find, refuse_production},
    },
    routes,
};

routes! {
    "getServerPowerStatus" => get,
    "setServerPowerState" => set,
    "identifyServer" => identify,
}

/// Seconds for which the last word about a server's power is new enough.
const FRESH_SECONDS: i64 = 30;
/// How long a caller waits for a BMC.
const PATIENCE: Duration = Duration::from_secs(10);
/// Seconds that an operating system is given to shut down.
const SOFT_SECONDS: u32 = 180;

/// A group of one job about one server, made in a transaction of its own with an event.
async fn order<P: Order>(
    ctx: &Ctx,
    row: &server::Model,
    kind: &str,
    title: String,
    payload: &P,
    timeout_seconds: u32,
    event: bool,
) -> Result<Id, ApiError> {
    let spec = JobSpec {
        key: format!("{}/server-{}", P::NAME, row.id),
        function: P::NAME.to_owned(),
        title: title.clone(),
        site_id: Some(row.site_id),
        target: Target { kind: "server".into(), id: row.id, generation: 0 },
        payload: serde_json::to_value(payload)?,
        depends_on: Vec::new(),
        retry: RetryPolicy { max: 2, ..RetryPolicy::default() },
        timeout_seconds,
        refs: JobRefs { server_id: Some(row.id), ..Default::default() },
        can_be_skipped: true,
        requires_confirmation: false,
    };
    let key = spec.key.clone();
    let group = NewGroup {
        kind: kind.into(),
        description: title.clone(),
        params: json!({"serverId": row.id}),
        server_id: Some(row.id),
        site_id: Some(row.site_id),
        ..Default::default()
    };
    let txn = ctx.app.db().begin().await?;
    let created = ctx.app.engine().create_group(&txn, group, vec![spec]).await?;
    if event {
        let context = json!({"jobGroupId": created.group_id});
        record(ctx, &txn, &kind.replacen('_', ".", 1), title, ("server", row.id), context).await?;
    }
    txn.commit().await?;
    ctx.app.engine().wake();
    ctx.app.wrote();
    created.job_ids.get(&key).copied().ok_or_else(|| ApiError::internal("a job was made without its key"))
}

/// The power as last seen; asked anew where that is a while ago and the site can be reached.
async fn get(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let found = find(&ctx, db).await?;
    let age = time::millis_between(&found.power_at, &time::now()).unwrap_or(i64::MAX);
    if found.power != "unknown" && age < FRESH_SECONDS * 1000 {
        return Ok(Reply::Json(json!(found.power)));
    }
    let reachable = site_controller::Entity::find()
        .filter(site_controller::Column::SiteId.eq(found.site_id))
        .filter(site_controller::Column::Connected.eq(true))
        .count(db)
        .await?
        > 0;
    if !reachable || found.bmc_username.is_none() {
        return Ok(Reply::Json(json!(found.power)));
    }
    let mut reports = ctx.app.engine().subscribe();
    let title = format!("Read the power of {}", facts::server_name(&found));
    let payload = ServerPowerStatus { server_id: found.id };
    let job_id = order(&ctx, &found, "server_power_status", title, &payload, 30, false).await?;
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
        Ok(Some(r)) if r.status == JobStatus::ReturnedSuccess => {
            let power = r.response.as_ref().and_then(|v| v["power"].as_str()).unwrap_or("unknown").to_owned();
            Ok(Reply::Json(Value::String(power)))
        }
        Ok(Some(r)) => Err(ApiError::conflict(format!(
            "the BMC of {} did not say: {}",
            facts::server_name(&found),
            r.error.unwrap_or_else(|| "the job was stopped".into())
        ))),
        _ => Ok(Reply::Json(json!(found.power))),
    }
}

async fn set(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    ctx.check_revision(found.revision)?;
    let (action, words) = match ctx.need_text("powerCommand")? {
        "on" => (PowerAction::On, "Power on"),
        "off" => (PowerAction::ForceOff, "Power off"),
        "soft" => (PowerAction::GracefulOff, "Shut down"),
        "reset" => (PowerAction::Reset, "Reset"),
        other => {
            return Err(ApiError::field("powerCommand", format!("{other:?} is none of: on, off, soft, reset")));
        }
    };
    refuse_busy(&found)?;
    let soft = action == PowerAction::GracefulOff;
    let payload =
        ServerPower { server_id: found.id, action, graceful_seconds: soft.then_some(SOFT_SECONDS), force_after: false };
    let title = format!("{words} server {}", facts::server_name(&found));
    order(&ctx, &found, "server_power", title, &payload, if soft { SOFT_SECONDS + 120 } else { 120 }, true).await?;
    Ok(Reply::Empty)
}

/// While jobs boot a machine for their own purposes, nobody pulls the plug by hand.
fn refuse_busy(found: &server::Model) -> Result<(), ApiError> {
    let busy = matches!(
        ServerStatus::parse(&found.status),
        Some(ServerStatus::Registering | ServerStatus::Cleaning | ServerStatus::UpdatingFirmware)
    );
    if busy && found.status_reason.is_none() {
        return Err(ApiError::conflict(format!(
            "server {} is {}: its power is under the control of a job; cancel that first",
            facts::server_name(found),
            found.status
        )));
    }
    refuse_production(found, "switched")?;
    if found.bmc_username.is_none() || found.bmc_address.is_none() {
        return Err(ApiError::conflict(format!("the login of the BMC of {} is not known", facts::server_name(found))));
    }
    Ok(())
}

async fn identify(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    if found.bmc_username.is_none() || found.bmc_address.is_none() {
        return Err(ApiError::conflict(format!("the login of the BMC of {} is not known", facts::server_name(&found))));
    }
    let title = format!("Blink the light of server {}", facts::server_name(&found));
    order(&ctx, &found, "server_identify", title, &ServerIdentify { server_id: found.id }, 60, true).await?;
    Ok(Reply::Empty)
}
