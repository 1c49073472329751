//! How a server's hardware is: sensors and event log.

use model::{
    firmware::{ServerEventLog, ServerSensors},
    order::Order,
};
use serde_json::json;

use super::server_bmc::{ask, ask_and_wait, refuse_outside, silent};
use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    facts,
    kinds::server::find,
    routes,
};

routes! {
    "getServerSensors" => sensors,
    "getServerEventLog" => log,
    "clearServerEventLog" => clear,
}

async fn sensors(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = find(&ctx, &ctx.app.db().read).await?;
    // The site's last reading will do, however old it is (it says so itself), unless a fresh one is asked for.
    let now = ctx.query.iter().any(|(name, value)| name == "now" && matches!(value.as_str(), "true" | "1"));
    let payload = ServerSensors { server_id: of.id, max_age_seconds: (!now).then_some(u32::MAX) };
    let payload = serde_json::to_value(payload)?;
    let title = format!("Read the sensors of {}", facts::server_name(&of));
    let answer = ask_and_wait(&ctx, &of, ServerSensors::NAME, title, payload, 120).await?;
    answer.map(Reply::Json).ok_or_else(|| silent(&of))
}

async fn log(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = find(&ctx, &ctx.app.db().read).await?;
    let payload = serde_json::to_value(ServerEventLog { server_id: of.id, clear: false })?;
    let title = format!("Read the event log of {}", facts::server_name(&of));
    let answer = ask_and_wait(&ctx, &of, ServerEventLog::NAME, title, payload, 180).await?;
    answer.map(Reply::Json).ok_or_else(|| silent(&of))
}

/// What was in it is kept in the answer of the job.
async fn clear(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = find(&ctx, &ctx.app.db().read).await?;
    ctx.check_revision(of.revision)?;
    refuse_outside(&of, "given an empty event log")?;
    let title = format!("Empty the event log of {}", facts::server_name(&of));
    let payload = serde_json::to_value(ServerEventLog { server_id: of.id, clear: true })?;
    let (group_id, job_id) = ask(&ctx, &of, ServerEventLog::NAME, title, payload, 300).await?;
    Ok(Reply::Json(json!({"jobGroupId": group_id, "jobId": job_id})))
}
