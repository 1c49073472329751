//! Jobs and job groups, and what operators do to them.

use std::collections::HashMap;

use axum::http::StatusCode;
use engine::{
    EngineError,
    entity::{job, job_attempt, job_group},
    query,
};
use model::{Id, job::JobCommand};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select};
use serde_json::{Value, json};
use store::{entity::infrastructure, time};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{list, record},
    routes,
};

routes! {
    "getJobs" => jobs,
    "getJob" => one,
    "getJobExceptions" => exceptions,
    "getJobsFromArchive" => archive,
    "getJobFromArchive" => archived,
    "getJobGroupStatistics" => group_statistics,
    "getJobsStatistics" => statistics,
    "getJobGroups" => groups,
    "getJobGroup" => group,
    "getJobGroupJobs" => group_jobs,
    "retryJob" => retry,
    "skipJob" => skip,
    "issueCommandForJob" => issue_command,
    "stopRetryingJob" => stop_retrying,
    "cancelJobGroup" => cancel,
}

impl From<EngineError> for ApiError {
    fn from(e: EngineError) -> Self {
        match e {
            EngineError::NotFound(kind, id) => Self::not_found(kind, id),
            EngineError::Db(e) => e.into(),
            other => Self::new(StatusCode::CONFLICT, other.to_string()),
        }
    }
}

fn wire(ctx: &Ctx, j: &job::Model) -> Value {
    let (percent, message) = match ctx.app.engine().live(j.id) {
        Some((percent, message)) => (i64::from(percent), Some(message)),
        None => (i64::from(j.percent), j.message.clone()),
    };
    let end = j.finished_at.clone().or_else(|| j.started_at.as_ref().map(|_| time::now()));
    json!({
        "jobId": j.id, "siteId": j.site_id, "instanceId": j.instance_id, "serverId": j.server_id, "networkDeviceId": j.network_device_id, "infrastructureId": j.infrastructure_id,
        "jobGroupId": j.group_id, "type": "asynchronous", "status": j.status, "functionName": j.function, "response": if j.response == Value::Null { json!({}) } else { j.response.clone() },
        "callCount": j.call_count, "retryMax": j.retry_max, "retryCount": j.retry_count, "retryMinSeconds": j.retry_min_seconds,
        "exception": j.error.as_ref().map(|e| json!({"message": e})), "extraInfo": {}, "durationMilliseconds": j.started_at.as_deref().zip(end.as_deref()).and_then(|(a, b)| time::millis_between(a, b)),
        "requiresConfirmation": j.requires_confirmation, "options": {"canBeRetriedIfSuccessful": true, "canBeSkipped": j.can_be_skipped},
        "createdTimestamp": j.created_at, "updatedTimestamp": j.updated_at, "startTimestamp": j.started_at, "uniqueIdentifier": j.key, "links": [],
        "title": j.title, "key": j.key, "percent": percent, "message": message, "error": j.error, "finishedTimestamp": j.finished_at,
    })
}

fn wire_group(g: &job_group::Model) -> Value {
    json!({
        "id": g.id, "type": g.kind, "description": g.description, "createdTimestamp": g.created_at, "finishedTimestamp": g.finished_at, "params": if g.params == Value::Null { json!({}) } else { g.params.clone() },
        "archived": i32::from(g.archived), "infrastructureId": g.infrastructure_id, "serverId": g.server_id, "networkDeviceId": g.network_device_id, "cancelReason": g.cancel_reason, "links": {},
    })
}

/// Infrastructures of the caller, as a subquery: what a tenant may see of the queue.
fn own() -> sea_orm::Select<infrastructure::Entity> {
    infrastructure::Entity::find().select_only().column(infrastructure::Column::Id)
}

/// Jobs that the caller may see.
pub fn visible_jobs(ctx: &Ctx) -> Select<job::Entity> {
    let select = job::Entity::find();
    if ctx.caller.is_admin {
        return select;
    }
    select.filter(
        job::Column::InfrastructureId
            .in_subquery(own().filter(infrastructure::Column::AccountId.eq(ctx.caller.account_id)).into_query()),
    )
}

fn visible_groups(ctx: &Ctx) -> Select<job_group::Entity> {
    let select = job_group::Entity::find();
    if ctx.caller.is_admin {
        return select;
    }
    select.filter(
        job_group::Column::InfrastructureId
            .in_subquery(own().filter(infrastructure::Column::AccountId.eq(ctx.caller.account_id)).into_query()),
    )
}

async fn find(ctx: &Ctx) -> Result<job::Model, ApiError> {
    let id = ctx.id("jobId")?;
    visible_jobs(ctx)
        .filter(job::Column::Id.eq(id))
        .one(&ctx.app.db().read)
        .await?
        .ok_or_else(|| ApiError::not_found("job", id))
}

async fn find_group(ctx: &Ctx) -> Result<job_group::Model, ApiError> {
    let id = ctx.id("jobGroupId")?;
    visible_groups(ctx)
        .filter(job_group::Column::Id.eq(id))
        .one(&ctx.app.db().read)
        .await?
        .ok_or_else(|| ApiError::not_found("job group", id))
}

async fn jobs(ctx: Ctx) -> Result<Reply, ApiError> {
    page(&ctx, visible_jobs(&ctx).filter(job::Column::Archived.eq(false))).await
}

/// Jobs whose group ended a while ago: they leave the ordinary list.
async fn archive(ctx: Ctx) -> Result<Reply, ApiError> {
    page(&ctx, visible_jobs(&ctx).filter(job::Column::Archived.eq(true))).await
}

async fn archived(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx).await?;
    if !found.archived {
        return Err(ApiError::not_found("job in the archive", found.id));
    }
    Ok(Reply::Json(wire(&ctx, &found)))
}

async fn group_statistics(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find_group(&ctx).await?;
    let counts = ctx.app.engine().group_statistics(&[found.id]).await?;
    let counts = counts.get(&found.id).ok_or_else(|| ApiError::not_found("job group", found.id))?;
    Ok(Reply::Json(json!({
        "groupId": found.id, "groupCreatedTimestamp": counts.created_at, "groupCompletedTimestamp": counts.finished_at.as_deref().unwrap_or_default(),
        "jobsThrownError": counts.thrown_error, "jobsCompleted": counts.completed, "jobsTotal": counts.total,
    })))
}

async fn page(ctx: &Ctx, select: Select<job::Entity>) -> Result<Reply, ApiError> {
    Ok(Reply::Json(
        list(ctx, select, query::JOB_FIELDS, &[job::Column::Function, job::Column::Title], job::Column::Id, |j| {
            wire(ctx, j)
        })
        .await?,
    ))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx).await?;
    Ok(Reply::Json(wire(&ctx, &found)))
}

async fn exceptions(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx).await?;
    let select = job_attempt::Entity::find().filter(job_attempt::Column::JobId.eq(found.id));
    let wire = |a: &job_attempt::Model| json!({"exceptionId": a.id, "jobId": a.job_id, "exception": {"message": a.error, "attempt": a.attempt}, "createdTimestamp": a.ended_at, "links": {}});
    Ok(Reply::Json(list(&ctx, select, query::EXCEPTION_FIELDS, &[], job_attempt::Column::Id, wire).await?))
}

async fn statistics(ctx: Ctx) -> Result<Reply, ApiError> {
    if !ctx.caller.is_admin {
        let archived = visible_jobs(&ctx).filter(job::Column::Archived.eq(true)).count(&ctx.app.db().read).await?;
        let open = visible_jobs(&ctx)
            .filter(job::Column::Archived.eq(false))
            .select_only()
            .column(job::Column::Status)
            .column_as(job::Column::Id.count(), "n")
            .group_by(job::Column::Status);
        let counts: HashMap<String, i64> =
            open.into_tuple::<(String, i64)>().all(&ctx.app.db().read).await?.into_iter().collect();
        return Ok(Reply::Json(json!({"statusToCount": counts, "archivedCount": archived})));
    }
    let all = ctx.app.engine().statistics().await?;
    let counts: HashMap<&str, u64> = all.by_status.iter().map(|(s, n)| (s.as_str(), *n)).collect();
    Ok(Reply::Json(json!({"statusToCount": counts, "archivedCount": all.archived})))
}

async fn groups(ctx: Ctx) -> Result<Reply, ApiError> {
    Ok(Reply::Json(
        list(
            &ctx,
            visible_groups(&ctx),
            query::GROUP_FIELDS,
            &[job_group::Column::Description, job_group::Column::Kind],
            job_group::Column::Id,
            wire_group,
        )
        .await?,
    ))
}

async fn group(ctx: Ctx) -> Result<Reply, ApiError> {
    Ok(Reply::Json(wire_group(&find_group(&ctx).await?)))
}

/// All jobs of a group with what each waits for: a graph needs them all at once.
async fn group_jobs(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find_group(&ctx).await?;
    let rows = job::Entity::find()
        .filter(job::Column::GroupId.eq(found.id))
        .order_by_asc(job::Column::Id)
        .all(&ctx.app.db().read)
        .await?;
    let keys: HashMap<Id, &str> = rows.iter().map(|j| (j.id, j.key.as_str())).collect();
    let mut waits: HashMap<Id, Vec<&str>> = HashMap::new();
    for (job, on) in ctx.app.engine().group_dependencies(found.id).await? {
        waits.entry(job).or_default().extend(keys.get(&on));
    }
    let data: Vec<Value> = rows
        .iter()
        .map(|j| {
            let mut v = wire(&ctx, j);
            v["dependsOn"] = json!(waits.get(&j.id).cloned().unwrap_or_default());
            v
        })
        .collect();
    Ok(Reply::Json(json!({"data": data, "group": wire_group(&found)})))
}

async fn say(ctx: &Ctx, command: JobCommand, verb: &str, object: (&str, Id)) -> Result<Reply, ApiError> {
    ctx.app.engine().command(command).await?;
    let why = ctx.text("reason").unwrap_or("");
    let title = format!(
        "{} {}: {verb}{}",
        object.0.replace('_', " "),
        object.1,
        if why.is_empty() { String::new() } else { format!(" ({why})") }
    );
    record(ctx, &ctx.app.db().write, &format!("job.{verb}"), title, object, json!({"reason": why})).await?;
    Ok(Reply::Empty)
}

async fn retry(ctx: Ctx) -> Result<Reply, ApiError> {
    let id = find(&ctx).await?.id;
    say(
        &ctx,
        JobCommand::Retry { job_id: id, even_if_successful: ctx.flag("retryEvenIfSuccessful").unwrap_or(false) },
        "retry",
        ("job", id),
    )
    .await
}

async fn skip(ctx: Ctx) -> Result<Reply, ApiError> {
    let id = find(&ctx).await?.id;
    // The field's command line client sends no body here.
    let reason = ctx.text("reason").unwrap_or("no reason given").to_owned();
    say(&ctx, JobCommand::Skip { job_id: id, reason }, "skip", ("job", id)).await
}

async fn issue_command(ctx: Ctx) -> Result<Reply, ApiError> {
    let id = find(&ctx).await?.id;
    match ctx.text("command") {
        Some("kill" | "kill_and_stop_retrying") => {
            say(&ctx, JobCommand::Kill { job_id: id }, "kill", ("job", id)).await
        }
        Some("stop_retrying") => say(&ctx, JobCommand::StopRetrying { job_id: id }, "stop-retrying", ("job", id)).await,
        Some("keep_alive") => Ok(Reply::Empty),
        _ => Err(ApiError::field("command", "is required: kill, stop_retrying, kill_and_stop_retrying or keep_alive")),
    }
}

async fn stop_retrying(ctx: Ctx) -> Result<Reply, ApiError> {
    let id = find(&ctx).await?.id;
    say(&ctx, JobCommand::StopRetrying { job_id: id }, "stop-retrying", ("job", id)).await
}

async fn cancel(ctx: Ctx) -> Result<Reply, ApiError> {
    let id = find_group(&ctx).await?.id;
    let reason = ctx.need_text("reason")?.to_owned();
    say(&ctx, JobCommand::CancelGroup { group_id: id, reason }, "cancel", ("job_group", id)).await
}
