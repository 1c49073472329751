//! Power of server instances: what their tenants may do while they run.

use std::collections::HashMap;

use engine::NewGroup;
use model::{
    Id,
    bmc::PowerAction,
    job::{JobRefs, JobSpec, RetryPolicy, Target},
    order::{Order, ServerPower},
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
use serde_json::{Map, Value, json};
use store::entity::{infrastructure, server, server_instance as instance};

use crate::{
    context::{Ctx, Reply, whole},
    error::ApiError,
    kinds::{infrastructure as infrastructures, record, server_instance},
    routes,
};

routes! {
    "getPowerFromServerInstance" => power_get,
    "setPowerToServerInstance" => power_set,
    "resetServerInstance" => reset,
    "getPowerStatusBatch" => power_get_batch,
    "setPowerStatusBatch" => power_set_batch,
}

/// Seconds that an operating system gets to shut down.
const GRACE_SECONDS: u32 = 180;

async fn states(ctx: &Ctx, rows: &[instance::Model]) -> Result<HashMap<Id, String>, ApiError> {
    let servers: Vec<Id> = rows.iter().filter_map(|i| i.server_id).collect();
    Ok(server::Entity::find()
        .select_only()
        .columns([server::Column::Id, server::Column::Power])
        .filter(server::Column::Id.is_in(servers))
        .into_tuple::<(i64, String)>()
        .all(&ctx.app.db().read)
        .await?
        .into_iter()
        .collect())
}

fn state(row: &instance::Model, states: &HashMap<Id, String>) -> String {
    row.server_id.and_then(|id| states.get(&id)).cloned().unwrap_or_else(|| "unknown".to_owned())
}

/// The power as its site saw it last: sites look often.
async fn power_get(ctx: Ctx) -> Result<Reply, ApiError> {
    let (found, _) = server_instance::find(&ctx, &ctx.app.db().read).await?;
    let states = states(&ctx, std::slice::from_ref(&found)).await?;
    Ok(Reply::Json(Value::String(state(&found, &states))))
}

async fn power_set(ctx: Ctx) -> Result<Reply, ApiError> {
    let action = action(&ctx)?;
    let (found, of) = server_instance::find(&ctx, &ctx.app.db().read).await?;
    ctx.check_revision(found.revision)?;
    order(&ctx, &of, &[found], action).await
}

async fn reset(ctx: Ctx) -> Result<Reply, ApiError> {
    let (found, of) = server_instance::find(&ctx, &ctx.app.db().read).await?;
    ctx.check_revision(found.revision)?;
    order(&ctx, &of, &[found], PowerAction::Reset).await
}

fn action(ctx: &Ctx) -> Result<PowerAction, ApiError> {
    match ctx.text("powerCommand") {
        Some("on") => Ok(PowerAction::On),
        Some("off") => Ok(PowerAction::ForceOff),
        Some("soft") => Ok(PowerAction::GracefulOff),
        Some("reset") => Ok(PowerAction::Reset),
        _ => Err(ApiError::field("powerCommand", "is required: on, off, soft or reset")),
    }
}

/// Instances that a batch names, all of one infrastructure; one that is not there is an error of its place in the list.
async fn named(ctx: &Ctx, of: &infrastructure::Model, list: &[Value]) -> Result<Vec<instance::Model>, ApiError> {
    let mut ids = Vec::new();
    for (n, value) in list.iter().enumerate() {
        let id = whole(value).ok_or_else(|| ApiError::field(format!("instances[{n}]"), "is not an id"))?;
        ids.push(id);
    }
    let rows = instance::Entity::find()
        .filter(instance::Column::InfrastructureId.eq(of.id))
        .filter(instance::Column::Id.is_in(ids.clone()))
        .all(&ctx.app.db().read)
        .await?;
    for (n, id) in ids.iter().enumerate() {
        if !rows.iter().any(|i| i.id == *id) {
            return Err(ApiError::field(
                format!("instances[{n}]"),
                format!("{} has no server instance {id}", of.label),
            ));
        }
    }
    Ok(rows)
}

async fn power_get_batch(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = infrastructures::find(&ctx, &ctx.app.db().read, ctx.id("infrastructureId")?).await?;
    let list: Vec<Value> = serde_json::from_slice(&ctx.raw)
        .map_err(|_| ApiError::bad_request("the body must be a list of server instance ids"))?;
    let rows = named(&ctx, &of, &list).await?;
    let states = states(&ctx, &rows).await?;
    let all: Map<String, Value> = rows.iter().map(|i| (i.id.to_string(), state(i, &states).into())).collect();
    Ok(Reply::Json(Value::Object(all)))
}

async fn power_set_batch(ctx: Ctx) -> Result<Reply, ApiError> {
    let action = action(&ctx)?;
    let of = infrastructures::find(&ctx, &ctx.app.db().read, ctx.id("infrastructureId")?).await?;
    let list = ctx.body.get("instances").and_then(Value::as_array).cloned().unwrap_or_default();
    let rows = named(&ctx, &of, &list).await?;
    if rows.is_empty() {
        return Err(ApiError::field("instances", "names no server instance"));
    }
    order(&ctx, &of, &rows, action).await
}

/// One job an instance, in one group.
async fn order(
    ctx: &Ctx,
    of: &infrastructure::Model,
    rows: &[instance::Model],
    action: PowerAction,
) -> Result<Reply, ApiError> {
    if of.locked {
        return Err(ApiError::conflict(format!(
            "infrastructure {} is being deployed, which switches its servers itself; wait for its end",
            of.label
        )));
    }
    let word = serde_json::to_value(action)?.as_str().unwrap_or_default().replace('_', " ");
    let mut jobs = Vec::new();
    for row in rows {
        let Some(server_id) = row.server_id.filter(|_| row.deployed.get("server_id").is_some()) else {
            return Err(ApiError::conflict(format!(
                "server {} is not deployed, so it has no power to switch",
                row.label
            )));
        };
        let graceful = action == PowerAction::GracefulOff;
        let payload =
            ServerPower { server_id, action, graceful_seconds: graceful.then_some(GRACE_SECONDS), force_after: false };
        jobs.push(JobSpec {
            key: format!("power/instance-{}", row.id),
            function: ServerPower::NAME.to_owned(),
            title: format!("Power {word}: {}", row.label),
            site_id: Some(of.site_id),
            target: Target { kind: "server".into(), id: server_id, generation: 0 },
            payload: serde_json::to_value(&payload)?,
            depends_on: Vec::new(),
            retry: RetryPolicy::default(),
            timeout_seconds: 300 + GRACE_SECONDS,
            refs: JobRefs {
                server_id: Some(server_id),
                instance_id: Some(row.id),
                infrastructure_id: Some(of.id),
                ..JobRefs::default()
            },
            can_be_skipped: true,
            requires_confirmation: false,
        });
    }
    let title = match rows {
        [one] => format!("Power {word}: {} of {}", one.label, of.label),
        many => format!("Power {word}: {} servers of {}", many.len(), of.label),
    };
    let txn = ctx.app.db().begin().await?;
    let group = NewGroup {
        kind: "server_power".into(),
        description: title.clone(),
        params: json!({"powerCommand": action}),
        infrastructure_id: Some(of.id),
        site_id: Some(of.site_id),
        ..NewGroup::default()
    };
    let made = ctx.app.engine().create_group(&txn, group, jobs).await?;
    let ids: Vec<Id> = rows.iter().map(|i| i.id).collect();
    let object = ("infrastructure", of.id);
    record(ctx, &txn, "server_instance.power", title, object, json!({"action": action, "serverInstanceIds": ids}))
        .await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    ctx.app.wrote();
    Ok(Reply::Json(json!({"jobGroupId": made.group_id, "jobId": made.job_ids.values().next()})))
}
