//! Accounts: tenants.

use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use store::entity::account;

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{edit, list, record},
    routes,
};

routes! {
    "getAccounts" => accounts,
    "getAccount" => one,
    "createAccount" => create,
    "updateAccountConfig" => update,
    "archiveAccount" => archive,
}

fn wire(a: &account::Model) -> Value {
    let config = json!({"revision": a.revision, "parentAccountId": a.parent_account_id, "name": a.name, "isArchived": a.archived,
        "code": a.extra["code"], "fiscalNumber": a.extra["fiscalNumber"], "address": a.extra["address"]});
    let mut all = config.clone();
    all["id"] = a.id.into();
    all["limits"] = json!({});
    all["links"] = json!([]);
    all["config"] = config;
    all
}

async fn find(ctx: &Ctx) -> Result<account::Model, ApiError> {
    let id = ctx.id("accountId")?;
    let found = account::Entity::find_by_id(id).one(&ctx.app.db().read).await?;
    found
        .filter(|a| ctx.caller.is_admin || a.id == ctx.caller.account_id)
        .ok_or_else(|| ApiError::not_found("account", id))
}

async fn accounts(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut select = account::Entity::find();
    if !ctx.caller.is_admin {
        select = select.filter(account::Column::Id.eq(ctx.caller.account_id));
    }
    Ok(Reply::Json(list(&ctx, select, &[], &[account::Column::Name], account::Column::Id, wire).await?))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    if !ctx.caller.is_admin {
        return Err(ApiError::forbidden("only administrators make accounts"));
    }
    let name = model::validate::name("name", ctx.need_text("name")?)?;
    let mut row = account::new();
    row.name = Set(name.clone());
    row.parent_account_id = Set(ctx.int("parentAccountId"));
    row.archived = Set(false);
    row.extra = Set(
        json!({"code": ctx.text("code"), "fiscalNumber": ctx.text("fiscalNumber"), "address": ctx.body.get("address")}),
    );
    let txn = ctx.app.db().begin().await?;
    let made = row.insert(&txn).await?;
    record(&ctx, &txn, "account.create", format!("Account {name} created"), ("account", made.id), json!({})).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let handled = ["name", "parentAccountId", "code", "fiscalNumber", "address"];
    ctx.refuse_others(&handled)?;
    let name = model::validate::name("name", ctx.need_text("name")?)?;
    let found = find(&ctx).await?;
    let mut extra = found.extra.clone();
    for field in ["code", "fiscalNumber", "address"] {
        if let Some(value) = ctx.body.get(field) {
            extra[field] = value.clone();
        }
    }
    let after = edit(&ctx, &found, ("account", &found.name), "update", wire, |row| {
        row.name = Set(name);
        row.extra = Set(extra);
        if ctx.has("parentAccountId") {
            row.parent_account_id = Set(ctx.int("parentAccountId"));
        }
    })
    .await?;
    Ok(Reply::Tagged(wire(&after)["config"].clone(), after.revision))
}

async fn archive(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx).await?;
    let after = edit(&ctx, &found, ("account", &found.name), "archive", wire, |row| row.archived = Set(true)).await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}
