//! Permissions: the built-in ones guard operations, custom ones are words that roles may carry for others to read.

use std::collections::BTreeSet;

use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use store::entity::{permission, role};

use crate::{
    context::{Ctx, Reply},
    contract,
    error::ApiError,
    kinds::record,
    routes,
};

routes! {
    "getPermissions" => permissions,
    "createPermission" => create,
    "deletePermission" => delete,
}

fn wire(p: &permission::Model) -> Value {
    let mut all = p.body.clone();
    all["id"] = p.name.clone().into();
    all["name"] = p.name.clone().into();
    all["type"] = "custom".into();
    all
}

/// `server_types_read` → `Server types: read`.
fn built_in(name: &str) -> Value {
    let (area, verb) = name.rsplit_once('_').unwrap_or((name, ""));
    let mut area = area.replace('_', " ");
    if let Some(first) = area.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let policies: Vec<Value> =
        contract::guarded_by(name).into_iter().map(|o| json!({"subject": [o.tag], "action": [o.id]})).collect();
    json!({"id": name, "name": name, "label": format!("{area}: {verb}"), "description": "", "type": "built-in", "policies": policies})
}

async fn permissions(ctx: Ctx) -> Result<Reply, ApiError> {
    let custom = permission::Entity::find().order_by_asc(permission::Column::Name).all(&ctx.app.db().read).await?;
    let all: Vec<Value> = contract::permissions().into_iter().map(built_in).chain(custom.iter().map(wire)).collect();
    Ok(Reply::Json(json!({"permissions": all})))
}

/// Names of custom permissions.
pub(crate) async fn custom<C: ConnectionTrait>(db: &C) -> Result<BTreeSet<String>, ApiError> {
    Ok(permission::Entity::find().all(db).await?.into_iter().map(|p| p.name).collect())
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let name = model::validate::label("name", ctx.need_text("name")?)?;
    let label = model::validate::name("label", ctx.need_text("label")?)?;
    if contract::permissions().contains(&name.as_str()) {
        return Err(ApiError::conflict(format!("name: {name} is a built-in permission")));
    }
    if ctx.text("type") == Some("built-in") {
        return Err(ApiError::field("type", "built-in permissions come with the program; leave it out"));
    }
    let mut row = permission::new();
    row.name = Set(name.clone());
    row.body = Set(json!({
        "label": label, "description": ctx.text("description").unwrap_or(""),
        "policies": ctx.body.get("policies").filter(|p| p.is_array()).cloned().unwrap_or_else(|| json!([])),
    }));
    let txn = ctx.app.db().begin().await?;
    let made = row.insert(&txn).await?;
    let title = format!("Permission {name} created");
    record(&ctx, &txn, "permission.create", title, ("permission", made.id), wire(&made)).await?;
    txn.commit().await?;
    Ok(Reply::Json(wire(&made)))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let name = ctx.path("permissionName");
    if contract::permissions().contains(&name) {
        return Err(ApiError::conflict(format!("the permission {name} is built in and stays")));
    }
    let txn = ctx.app.db().begin().await?;
    let found = permission::Entity::find().filter(permission::Column::Name.eq(name)).one(&txn).await?;
    let found = found.ok_or_else(|| ApiError::not_found("permission", name))?;
    let roles = role::Entity::find().all(&txn).await?;
    let carries = |r: &&role::Model| r.permissions.as_array().into_iter().flatten().any(|p| p == name);
    if let Some(role) = roles.iter().find(carries) {
        return Err(ApiError::conflict(format!("the role {} has the permission {name}; take it out first", role.name)));
    }
    permission::Entity::delete_by_id(found.id).exec(&txn).await?;
    let title = format!("Permission {name} deleted");
    record(&ctx, &txn, "permission.delete", title, ("permission", found.id), json!({"before": wire(&found)})).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
