//! A broken server under an instance: the next deploy gives the instance another one of the same type, and the broken one goes out of
//! service.

use model::deploy::{DeployStatus, DeployType};
use sea_orm::{ActiveValue::Set, EntityTrait};
use serde_json::{Map, Value, json};
use store::{
    entity::server,
    list::{Revisioned, cas},
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    facts,
    kinds::{infrastructure as infrastructures, record, server::refuse_production, server_instance},
    planning::{cleaning, load},
    routes,
};

routes! {
    "replaceServerInstance" => replace,
}

/// Marks the server of an instance as broken, or (`cancel`) as good after all. Nothing happens before the next deploy, which must allow the
/// loss of data: what is on the disks of the broken server does not move.
async fn replace(ctx: Ctx) -> Result<Reply, ApiError> {
    let cancel = ctx.flag("cancel").unwrap_or(false);
    let reason = ctx.text("reason").map(str::trim).filter(|r| !r.is_empty());
    if !cancel && reason.is_none() {
        return Err(ApiError::field("reason", "is required: it stays with the broken server, for whoever mends it"));
    }
    let txn = ctx.app.db().begin().await?;
    let (found, of) = server_instance::find(&ctx, &txn).await?;
    let of = infrastructures::find_editable(&ctx, &txn, of.id).await?;
    ctx.check_revision(found.revision)?;
    // While a deploy that did not end has another one reserved, the one that is deployed is the one that is meant.
    let Some(server_id) = load::deployed(&found).map(|d| d.server_id) else {
        return Err(ApiError::conflict(format!(
            "server {} is not deployed yet: its deploy chooses a server, and can be told which",
            found.label
        )));
    };
    if found.deploy_type == DeployType::Delete.as_str() {
        return Err(ApiError::conflict(format!("server {} is marked for deletion", found.label)));
    }
    let row = server::Entity::find_by_id(server_id).one(&txn).await?;
    let row = row.ok_or_else(|| ApiError::internal(format!("instance {} without its server {server_id}", found.id)))?;
    refuse_production(&row, "replaced")?;
    if cancel && found.extra["replace"].is_null() {
        return Err(ApiError::conflict(format!(
            "server {} is not to be replaced: there is nothing to cancel",
            found.label
        )));
    }
    let why = reason.filter(|_| !cancel).map(|r| (found.id, r, ctx.caller.email.as_str()));
    let marked = cleaning::mark(&txn, server_id, why).await?;
    marked.ok_or_else(|| ApiError::conflict("the server was changed at the same moment; try again"))?;
    let mut extra: Map<String, Value> = found.extra.as_object().cloned().unwrap_or_default();
    if cancel {
        extra.remove("replace");
    } else {
        extra.insert("replace".into(), json!({"serverId": server_id, "reason": reason}));
    }
    let mut edit = found.edit();
    edit.extra = Set(Value::Object(extra));
    edit.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
    cas(&txn, &found, edit).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    infrastructures::touch(&txn, &of).await?;
    let name = facts::server_name(&row);
    let title = if cancel {
        format!("Server {} of {} keeps its machine {name}", found.label, of.label)
    } else {
        format!("Server {} of {} gets another machine than {name} with the next deploy", found.label, of.label)
    };
    let context = json!({"serverId": server_id, "reason": reason, "cancelled": cancel});
    record(&ctx, &txn, "server_instance.replace", title, ("server_instance", found.id), context).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
