//! Secrets for templates. The value goes in and never comes out here: templates are rendered with it.

use model::secret::Clear;
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, Select};
use serde_json::{Value, json};
use store::entity::secret;

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{edit, insert, list, remove},
    routes,
};

routes! {
    "getSecrets" => secrets,
    "getSecret" => one,
    "createSecret" => create,
    "updateSecret" => update,
    "deleteSecret" => delete,
}

/// Longest value in bytes: enough for a private key with its chain.
const MAX_VALUE: usize = 64 << 10;

fn wire(s: &secret::Model) -> Value {
    json!({
        "id": s.id, "revision": s.revision, "userIdOwner": s.user_id_owner, "name": s.name, "usage": s.usage, "createdTimestamp": s.created_at,
        "updatedTimestamp": s.updated_at, "links": [],
    })
}

/// One's own; all for administrators.
fn visible(ctx: &Ctx) -> Select<secret::Entity> {
    let select = secret::Entity::find();
    if ctx.caller.is_admin { select } else { select.filter(secret::Column::UserIdOwner.eq(ctx.caller.user_id)) }
}

async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<secret::Model, ApiError> {
    let id = ctx.id("id")?;
    let found = visible(ctx).filter(secret::Column::Id.eq(id)).one(db).await?;
    found.ok_or_else(|| ApiError::not_found("secret", id))
}

/// The value of the body, sealed.
fn sealed(ctx: &Ctx) -> Result<String, ApiError> {
    let value = ctx.need_text("value")?;
    if value.is_empty() || value.len() > MAX_VALUE {
        return Err(ApiError::field("value", format!("must have 1 to {MAX_VALUE} bytes")));
    }
    Ok(ctx.app.sealer().seal(&Clear(value.to_owned())).map_err(ApiError::internal)?.0)
}

async fn secrets(ctx: Ctx) -> Result<Reply, ApiError> {
    Ok(Reply::Json(list(&ctx, visible(&ctx), &[], &[secret::Column::Name], secret::Column::Id, wire).await?))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let name = model::validate::label("name", ctx.need_text("name")?)?;
    let mut row = secret::new();
    row.name = Set(name.clone());
    row.user_id_owner = Set(ctx.caller.user_id);
    row.usage = Set(ctx.text("usage").map(str::to_owned));
    row.value = Set(sealed(&ctx)?);
    let made = insert(&ctx, row, "secret", &name, wire).await?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let value = sealed(&ctx)?;
    let found = find(&ctx, &ctx.app.db().read).await?;
    let after = edit(&ctx, &found, ("secret", &found.name), "update", wire, |row| row.value = Set(value)).await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    remove(&ctx, &txn, &found, ("secret", &found.name), wire).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
