//! Servers in maintenance: nobody new gets them, and whoever has one stays.

use model::server::ServerStatus;
use sea_orm::ActiveValue::Set;

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::server::{change, find_locked, refuse_production, wire},
    routes,
};

routes! {
    "setServerMaintenance" => set,
}

async fn set(ctx: Ctx) -> Result<Reply, ApiError> {
    let enabled = ctx.flag("enabled").ok_or_else(|| ApiError::field("enabled", "is required"))?;
    let reason = ctx.text("reason").map(str::trim).filter(|r| !r.is_empty());
    if enabled && reason.is_none() {
        return Err(ApiError::field("reason", "is required: whoever finds the server kept back wants to know why"));
    }
    let txn = ctx.app.db().begin().await?;
    let found = find_locked(&ctx, &txn).await?;
    refuse_production(&found, "put into maintenance")?;
    if enabled && found.status == ServerStatus::Decommissioned.as_str() {
        return Err(ApiError::conflict("a server that is decommissioned is out of service already"));
    }
    let verb = if enabled { "maintenance_begin" } else { "maintenance_end" };
    let after = change(&ctx, &txn, &found, verb, |row| {
        row.maintenance = Set(reason.filter(|_| enabled).map(str::to_owned));
    })
    .await?;
    let body = wire(&txn, &after).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(body, after.revision))
}
