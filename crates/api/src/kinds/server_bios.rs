//! Settings of a server's firmware.

use std::collections::BTreeMap;

use model::{firmware::ServerBios, order::Order};
use serde_json::{Value, json};

use super::server_bmc::{ask, ask_and_wait, silent};
use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    facts,
    kinds::server::{find, refuse_used},
    routes,
};

routes! {
    "getServerBios" => get,
    "updateServerBios" => update,
}

/// Most settings in one change.
const MANY: usize = 200;

async fn get(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = find(&ctx, &ctx.app.db().read).await?;
    let payload = serde_json::to_value(ServerBios { server_id: of.id, set: BTreeMap::new() })?;
    let title = format!("Read the firmware settings of {}", facts::server_name(&of));
    let answer = ask_and_wait(&ctx, &of, ServerBios::NAME, title, payload, 120).await?;
    answer.map(Reply::Json).ok_or_else(|| silent(&of))
}

/// In force after the next restart.
async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let wanted = ctx.body.get("attributes").and_then(Value::as_object);
    let set: BTreeMap<String, Value> = wanted.into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    if set.is_empty() || set.len() > MANY {
        return Err(ApiError::field("attributes", format!("must name at least one setting, and not more than {MANY}")));
    }
    if let Some((name, _)) = set.iter().find(|(_, v)| v.is_null() || v.is_array() || v.is_object()) {
        return Err(ApiError::field(format!("attributes.{name}"), "must be a text, a number, true or false"));
    }
    let of = find(&ctx, &ctx.app.db().read).await?;
    ctx.check_revision(of.revision)?;
    refuse_used(&ctx.app.db().read, &of, "given other firmware settings").await?;
    let title = format!("Change firmware settings of {}", facts::server_name(&of));
    let payload = serde_json::to_value(ServerBios { server_id: of.id, set })?;
    let (group_id, job_id) = ask(&ctx, &of, ServerBios::NAME, title, payload, 300).await?;
    Ok(Reply::Json(json!({"jobGroupId": group_id, "jobId": job_id})))
}
