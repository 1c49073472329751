//! Accounts: tenants.

use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use serde_json::{Value, json};
use store::entity::{account, infrastructure};

use crate::{
    context::{Ctx, Reply, whole},
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
    "unarchiveAccount" => unarchive,
    "AccountController_getUserConfiguration" => configuration,
    "getAccountLimits" => limits,
    "updateAccountLimits" => update_limits,
}

fn wire(a: &account::Model) -> Value {
    let config = json!({"revision": a.revision, "parentAccountId": a.parent_account_id, "name": a.name, "isArchived": a.archived,
        "code": a.extra["code"], "fiscalNumber": a.extra["fiscalNumber"], "address": a.extra["address"]});
    let mut all = config.clone();
    all["id"] = a.id.into();
    all["limits"] = limits_of(a);
    all["links"] = json!([]);
    all["config"] = config;
    all
}

/// The limits that were set.
fn limits_of(a: &account::Model) -> Value {
    a.extra.get("limits").filter(|l| l.is_object()).cloned().unwrap_or_else(|| json!({}))
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

async fn configuration(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx).await?;
    Ok(Reply::Tagged(wire(&found)["config"].clone(), found.revision))
}

async fn limits(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx).await?;
    Ok(Reply::Tagged(limits_of(&found), found.revision))
}

async fn update_limits(ctx: Ctx) -> Result<Reply, ApiError> {
    if !ctx.caller.is_admin {
        return Err(ApiError::forbidden("only administrators set the limits of accounts"));
    }
    for (name, counts) in &ctx.body {
        let bad = counts.as_object().into_iter().flatten().find(|(_, n)| whole(n).is_none_or(|n| n < 0));
        if let Some((key, n)) = bad {
            return Err(ApiError::field(format!("{name}.{key}"), format!("{n} is not a count")));
        }
    }
    let found = find(&ctx).await?;
    let mut extra = found.extra.clone();
    extra["limits"] = Value::Object(ctx.body.clone());
    let object = ("account", found.name.as_str());
    let after = edit(&ctx, &found, object, "change_limits", wire, |row| row.extra = Set(extra)).await?;
    Ok(Reply::Tagged(limits_of(&after), after.revision))
}

/// An account that still has something running is not put away.
async fn archive(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx).await?;
    if found.id == ctx.caller.account_id {
        return Err(ApiError::conflict("you cannot archive your own account; ask an administrator of another"));
    }
    let alive = infrastructure::Entity::find()
        .filter(infrastructure::Column::AccountId.eq(found.id))
        .filter(infrastructure::Column::ServiceStatus.ne("deleted"))
        .count(&ctx.app.db().read)
        .await?;
    if alive > 0 {
        return Err(ApiError::conflict(format!(
            "account {} still has {alive} infrastructure(s); delete them first",
            found.name
        )));
    }
    put_away(&ctx, &found, true, "archive").await
}

async fn unarchive(ctx: Ctx) -> Result<Reply, ApiError> {
    put_away(&ctx, &find(&ctx).await?, false, "unarchive").await
}

async fn put_away(ctx: &Ctx, found: &account::Model, so: bool, verb: &str) -> Result<Reply, ApiError> {
    if found.archived == so {
        let words = if so { "archived already" } else { "not archived" };
        return Err(ApiError::conflict(format!("account {} is {words}", found.name)));
    }
    let after = edit(ctx, found, ("account", &found.name), verb, wire, |row| row.archived = Set(so)).await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}
