//! Variables for templates: any JSON value under a name.

use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, Select};
use serde_json::{Value, json};
use store::entity::variable;

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{edit, insert, list, remove},
    routes,
};

routes! {
    "getVariables" => variables,
    "getVariable" => one,
    "createVariable" => create,
    "updateVariable" => update,
    "deleteVariable" => delete,
}

/// Longest value in bytes of JSON.
const MAX_VALUE: usize = 64 << 10;

fn wire(v: &variable::Model) -> Value {
    json!({
        "id": v.id, "revision": v.revision, "userIdOwner": v.user_id_owner, "name": v.name, "value": v.value, "usage": v.usage, "createdTimestamp": v.created_at,
        "updatedTimestamp": v.updated_at, "links": [],
    })
}

/// One's own; all for administrators.
fn visible(ctx: &Ctx) -> Select<variable::Entity> {
    let select = variable::Entity::find();
    if ctx.caller.is_admin { select } else { select.filter(variable::Column::UserIdOwner.eq(ctx.caller.user_id)) }
}

async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<variable::Model, ApiError> {
    let id = ctx.id("id")?;
    let found = visible(ctx).filter(variable::Column::Id.eq(id)).one(db).await?;
    found.ok_or_else(|| ApiError::not_found("variable", id))
}

/// Name, value and usage of the body.
fn given(ctx: &Ctx) -> Result<(String, Value, Option<String>), ApiError> {
    let name = model::validate::label("name", ctx.need_text("name")?)?;
    let value = ctx.body.get("value").cloned().unwrap_or_default();
    if value.to_string().len() > MAX_VALUE {
        return Err(ApiError::field("value", format!("must have at most {MAX_VALUE} bytes of JSON")));
    }
    Ok((name, value, ctx.text("usage").map(str::to_owned)))
}

async fn variables(ctx: Ctx) -> Result<Reply, ApiError> {
    Ok(Reply::Json(list(&ctx, visible(&ctx), &[], &[variable::Column::Name], variable::Column::Id, wire).await?))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let (name, value, usage) = given(&ctx)?;
    let mut row = variable::new();
    row.name = Set(name.clone());
    row.user_id_owner = Set(ctx.caller.user_id);
    row.value = Set(value);
    row.usage = Set(usage);
    let made = insert(&ctx, row, "variable", &name, wire).await?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let (name, value, usage) = given(&ctx)?;
    let found = find(&ctx, &ctx.app.db().read).await?;
    let after = edit(&ctx, &found, ("variable", &found.name), "update", wire, |row| {
        row.name = Set(name);
        row.value = Set(value);
        row.usage = Set(usage);
    })
    .await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    remove(&ctx, &txn, &found, ("variable", &found.name), wire).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
