//! Cleaning certificates: what was erased from a server, how, when, and how that was checked.

use sea_orm::EntityTrait;
use serde_json::{Value, json};
use store::entity::cleaning_certificate as certificates;

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::list,
    routes,
};

routes! {
    "getCleaningCertificates" => all,
    "getCleaningCertificate" => one,
}

/// Wire names of fields whose columns are called otherwise.
const FIELDS: &[(&str, &str)] = &[("serialNumber", "server_name"), ("finishedTimestamp", "finished_at")];

fn wire(c: &certificates::Model) -> Value {
    let disks: Vec<Value> = c
        .disks
        .as_array()
        .into_iter()
        .flatten()
        .map(|d| {
            json!({
                "name": d["name"], "serialNumber": d["serial"], "model": d["model"], "sizeBytes": d["size"], "erased": d["erased"], "method": d["method"],
                "verification": d["verified"], "error": d["error"], "standard": d["standard"], "tried": d["tried"], "seconds": d["seconds"],
            })
        })
        .collect();
    let signed = c
        .signed
        .as_ref()
        .filter(|s| s.is_object())
        .map(|s| json!({"statement": s["statement"], "publicKey": s["public_key"], "signature": s["signature"]}));
    json!({
        "steps": c.steps.clone().filter(Value::is_array).unwrap_or_else(|| json!([])), "signed": signed,
        "id": c.id, "revision": c.revision, "serverId": c.server_id, "siteId": c.site_id, "serialNumber": c.server_name, "jobId": c.job_id, "finishedTimestamp": c.finished_at,
        "succeeded": c.succeeded, "cleanupPolicyLabel": c.policy, "eraseMethod": c.method, "reason": c.reason, "disks": disks, "links": [],
    })
}

/// Also of servers that are gone: a certificate outlives its server.
async fn all(ctx: Ctx) -> Result<Reply, ApiError> {
    let search = [certificates::Column::ServerName, certificates::Column::Policy];
    let select = certificates::Entity::find();
    Ok(Reply::Json(list(&ctx, select, FIELDS, &search, certificates::Column::Id, wire).await?))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let id = ctx.id("cleaningCertificateId")?;
    let found = certificates::Entity::find_by_id(id).one(&ctx.app.db().read).await?;
    let found = found.ok_or_else(|| ApiError::not_found("cleaning certificate", id))?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}
