//! Jobs on a schedule.

use sea_orm::{ActiveModelTrait, ActiveValue::Set, ConnectionTrait, EntityTrait};
use serde_json::{Map, Value, json};
use store::{
    entity::cron_job,
    list::{Revisioned, cas},
};

use crate::{
    context::{Ctx, Reply, whole},
    error::ApiError,
    kinds::{list, record},
    routes,
    schedule::{FUNCTIONS, Schedule},
};

routes! {
    "getCronJobs" => all,
    "getCronJob" => one,
    "getCronJobsSupportedFunctions" => functions,
    "createCronJob" => create,
    "updateCronJob" => update,
    "deleteCronJob" => delete,
}

fn wire(c: &cron_job::Model) -> Value {
    json!({
        "id": c.id, "revision": c.revision, "label": c.label, "description": c.extra["description"].as_str().unwrap_or_default(), "functionName": c.function,
        "params": c.params, "schedule": c.schedule, "waitForCompletion": i32::from(c.wait_for_completion), "lifetimeSeconds": c.extra["lifetimeSeconds"].as_i64().unwrap_or(0),
        "disabled": i32::from(c.disabled), "lastRunTimestamp": c.extra.get("lastRunTimestamp"), "links": {},
    })
}

async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<cron_job::Model, ApiError> {
    let id = ctx.id("cronJobId")?;
    cron_job::Entity::find_by_id(id).one(db).await?.ok_or_else(|| ApiError::not_found("cron job", id))
}

async fn all(ctx: Ctx) -> Result<Reply, ApiError> {
    let alias = [("functionName", "function")];
    let search = [cron_job::Column::Label, cron_job::Column::Function];
    Ok(Reply::Json(list(&ctx, cron_job::Entity::find(), &alias, &search, cron_job::Column::Id, wire).await?))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    Ok(Reply::Json(wire(&find(&ctx, &ctx.app.db().read).await?)))
}

async fn functions(_: Ctx) -> Result<Reply, ApiError> {
    let schema = |parameter: &str| json!({"type": "object", "properties": {parameter: {"type": "integer"}}});
    let all = FUNCTIONS
        .iter()
        .map(|(name, words, parameter)| json!({"name": name, "description": words, "paramsSchema": schema(parameter)}));
    Ok(Reply::Json(all.collect()))
}

/// Puts what the body has into the row; all of it is checked.
fn fill(ctx: &Ctx, row: &mut cron_job::ActiveModel, extra: &Value) -> Result<(), ApiError> {
    if let Some(label) = ctx.text("label") {
        row.label = Set(model::validate::name("label", label)?);
    }
    if let Some(name) = ctx.text("functionName") {
        if !FUNCTIONS.iter().any(|(known, ..)| *known == name) {
            let known: Vec<&str> = FUNCTIONS.iter().map(|(known, ..)| *known).collect();
            return Err(ApiError::field("functionName", format!("{name:?} is none of: {}", known.join(", "))));
        }
        row.function = Set(name.to_owned());
    }
    if let Some(params) = ctx.body.get("params").filter(|p| p.is_array()) {
        row.params = Set(params.clone());
    }
    if let Some(schedule) = ctx.text("schedule") {
        Schedule::parse(schedule).map_err(|words| ApiError::field("schedule", words))?;
        row.schedule = Set(schedule.to_owned());
    }
    if let Some(wait) = ctx.flag("waitForCompletion") {
        row.wait_for_completion = Set(wait);
    }
    if let Some(disabled) = ctx.flag("disabled") {
        row.disabled = Set(disabled);
    }
    let mut extra = extra.as_object().cloned().unwrap_or_else(Map::new);
    if let Some(words) = ctx.text("description") {
        extra.insert("description".into(), json!(words));
    }
    if let Some(seconds) = ctx.body.get("lifetimeSeconds").and_then(whole) {
        extra.insert("lifetimeSeconds".into(), json!(seconds));
    }
    row.extra = Set(Value::Object(extra));
    Ok(())
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    for field in ["label", "functionName", "schedule"] {
        ctx.need_text(field)?;
    }
    let mut row = cron_job::new();
    row.params = Set(json!([]));
    row.disabled = Set(false);
    row.wait_for_completion = Set(false);
    fill(&ctx, &mut row, &json!({}))?;
    let txn = ctx.app.db().begin().await?;
    let made = row.insert(&txn).await?;
    let title = format!("Scheduled job {} created", made.label);
    record(&ctx, &txn, "cron_job.create", title, ("cron_job", made.id), json!({"after": wire(&made)})).await?;
    txn.commit().await?;
    Ok(Reply::Json(wire(&made)))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    let mut row = found.edit();
    fill(&ctx, &mut row, &found.extra)?;
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    let title = format!("Scheduled job {} changed", after.label);
    let context = json!({"before": wire(&found), "after": wire(&after)});
    record(&ctx, &txn, "cron_job.update", title, ("cron_job", after.id), context).await?;
    txn.commit().await?;
    Ok(Reply::Json(wire(&after)))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    cron_job::Entity::delete_by_id(found.id).exec(&txn).await?;
    let title = format!("Scheduled job {} deleted", found.label);
    record(&ctx, &txn, "cron_job.delete", title, ("cron_job", found.id), json!({"before": wire(&found)})).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
