//! Roles and the permissions that they grant.

use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use store::entity::{role, user};

use crate::{
    context::{Ctx, Reply},
    contract,
    error::ApiError,
    kinds::{permission, record},
    routes,
};

routes! {
    "getRoles" => roles,
    "getRole" => one,
    "createRole" => create,
    "updateRole" => update,
    "deleteRole" => delete,
}

fn wire(r: &role::Model) -> Value {
    json!({"id": r.name, "name": r.name, "label": r.label, "description": r.description, "type": r.kind, "permissions": r.permissions})
}

async fn find(ctx: &Ctx) -> Result<role::Model, ApiError> {
    let name = ctx.path("roleName");
    role::Entity::find()
        .filter(role::Column::Name.eq(name))
        .one(&ctx.app.db().read)
        .await?
        .ok_or_else(|| ApiError::not_found("role", name))
}

async fn roles(ctx: Ctx) -> Result<Reply, ApiError> {
    let all = role::Entity::find().order_by_asc(role::Column::Id).all(&ctx.app.db().read).await?;
    Ok(Reply::Json(json!({"roles": all.iter().map(wire).collect::<Vec<_>>()})))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    Ok(Reply::Json(wire(&find(&ctx).await?)))
}

/// The permissions of the body: each must exist, and be the caller's own, so that nobody rises by making a role.
async fn granted(ctx: &Ctx) -> Result<Value, ApiError> {
    let known = contract::permissions();
    let custom = permission::custom(&ctx.app.db().read).await?;
    let wanted = ctx.body.get("permissions").cloned().unwrap_or_else(|| json!([]));
    for (i, p) in wanted.as_array().into_iter().flatten().enumerate() {
        let p = p.as_str().unwrap_or("");
        if custom.contains(p) && ctx.caller.is_admin {
            continue;
        }
        if !known.contains(&p) {
            return Err(ApiError::field(format!("permissions[{i}]"), format!("{p:?} is not a permission")));
        }
        if !ctx.caller.may(p) {
            return Err(ApiError::forbidden(format!("you cannot grant {p}, which you do not have")));
        }
    }
    Ok(wanted)
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let label = model::validate::name("label", ctx.need_text("label")?)?;
    let name: String = label.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let mut row = role::new();
    row.name = Set(name.clone());
    row.label = Set(label);
    row.description = Set(ctx.text("description").unwrap_or("").to_owned());
    row.kind = Set("custom".into());
    row.permissions = Set(granted(&ctx).await?);
    let txn = ctx.app.db().begin().await?;
    let made = row.insert(&txn).await?;
    record(
        &ctx,
        &txn,
        "role.create",
        format!("Role {name} created"),
        ("role", made.id),
        json!({"permissions": made.permissions}),
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Json(wire(&made)))
}

fn custom(found: &role::Model) -> Result<(), ApiError> {
    if found.kind == "custom" {
        Ok(())
    } else {
        Err(ApiError::conflict(format!("the role {} is built in and stays as it is", found.name)))
    }
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx).await?;
    custom(&found)?;
    let permissions = granted(&ctx).await?;
    let txn = ctx.app.db().begin().await?;
    let before = found.permissions.clone();
    let mut row: role::ActiveModel = found.into();
    if let Some(label) = ctx.text("label") {
        row.label = Set(model::validate::name("label", label)?);
    }
    if let Some(text) = ctx.text("description") {
        row.description = Set(text.to_owned());
    }
    row.permissions = Set(permissions);
    let after = row.update(&txn).await?;
    record(
        &ctx,
        &txn,
        "role.update",
        format!("Role {} changed", after.name),
        ("role", after.id),
        json!({"before": before, "after": after.permissions}),
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Json(wire(&after)))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx).await?;
    custom(&found)?;
    let txn = ctx.app.db().begin().await?;
    let users = user::Entity::find().filter(user::Column::Role.eq(&found.name)).count(&txn).await?;
    if users > 0 {
        return Err(ApiError::conflict(format!(
            "{users} user(s) have the role {}; give them another first",
            found.name
        )));
    }
    role::Entity::delete_by_id(found.id).exec(&txn).await?;
    record(&ctx, &txn, "role.delete", format!("Role {} deleted", found.name), ("role", found.id), json!({})).await?;
    txn.commit().await?;
    Ok(Reply::Json(wire(&found)))
}
