//! Events: what happened, who did it.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, Select};
use serde_json::{Value, json};
use store::entity::event;

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::list,
    routes,
};

routes! {
    "getEvents" => events,
    "getEvent" => one,
}

/// The wire form.
pub fn wire(e: &event::Model) -> Value {
    json!({
        "id": e.id, "type": 370, "severity": e.severity, "visibility": e.visibility, "title": e.title, "message": if e.message.is_empty() { &e.title } else { &e.message },
        "infrastructureId": e.infrastructure_id, "userId": e.user_id, "userIdAuthenticated": e.actor_id, "serverId": e.server_id, "jobId": e.job_id.map(|j| j.to_string()),
        "siteId": e.site_id, "userEmailAuthenticated": e.actor_email, "context": e.context, "occurredTimestamp": e.created_at,
        "kind": e.kind, "objectKind": e.object_kind, "objectId": e.object_id, "requestId": e.request_id,
    })
}

/// Events that the caller may see.
pub fn visible(ctx: &Ctx) -> Select<event::Entity> {
    let select = event::Entity::find();
    if ctx.caller.is_admin { select } else { select.filter(event::Column::AccountId.eq(ctx.caller.account_id)) }
}

async fn events(ctx: Ctx) -> Result<Reply, ApiError> {
    Ok(Reply::Json(
        list(&ctx, visible(&ctx), &[], &[event::Column::Title, event::Column::Kind], event::Column::Id, wire).await?,
    ))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let id = ctx.id("eventId")?;
    let found = visible(&ctx)
        .filter(event::Column::Id.eq(id))
        .one(&ctx.app.db().read)
        .await?
        .ok_or_else(|| ApiError::not_found("event", id))?;
    Ok(Reply::Json(wire(&found)))
}
