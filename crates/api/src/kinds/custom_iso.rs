//! Bootable images that people bring, and their boot on a server over its BMC.

use model::{Id, firmware::ServerBootIso, order::Order};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait, PaginatorTrait,
    QueryFilter, Select,
};
use serde_json::{Value, json};
use store::{
    entity::{custom_iso, server, server_instance},
    list::{Revisioned, cas},
    time,
};

use super::{
    firmware_catalog::{no_login, url},
    server_bmc::{ask, refuse_outside},
    server_instance as instances,
};
use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    facts,
    kinds::{list, record, server::refuse_used},
    routes,
};

routes! {
    "getCustomIsos" => all,
    "getCustomIso" => one,
    "createCustomIso" => create,
    "updateCustomIso" => update,
    "deleteCustomIso" => delete,
    "makeCustomIsoPublic" => make_public,
    "bootCustomIsoIntoServer" => boot,
}

/// Seconds after which an image is taken out of a server that still runs it, unless the caller says otherwise.
const EJECT_SECONDS: i64 = 4 * 3600;
/// Longest time for that.
const LONGEST: i64 = 48 * 3600;

fn wire(i: &custom_iso::Model) -> Value {
    json!({
        "id": i.id, "userIdOwner": i.user_id_owner, "modifiedBy": i.modified_by, "label": i.label, "name": i.name, "type": i.kind, "isPublic": i32::from(i.is_public),
        "accessUrl": i.access_url, "username": i.username, "createdTimestamp": i.created_at, "updatedTimestamp": i.updated_at, "imageUrl": i.access_url,
        "revision": i.revision,
    })
}

/// One's own account's, and public ones.
fn visible(ctx: &Ctx) -> Select<custom_iso::Entity> {
    let select = custom_iso::Entity::find();
    if ctx.caller.is_admin {
        return select;
    }
    let own = custom_iso::Column::AccountId.eq(ctx.caller.account_id);
    select.filter(Condition::any().add(own).add(custom_iso::Column::IsPublic.eq(true)))
}

async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<custom_iso::Model, ApiError> {
    let id = ctx.id("customIsoId")?;
    let found = visible(ctx).filter(custom_iso::Column::Id.eq(id)).one(db).await?;
    found.ok_or_else(|| ApiError::not_found("custom ISO", id))
}

/// One that the caller may change: public ones of others are seen, not changed.
async fn find_own<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<custom_iso::Model, ApiError> {
    let found = find(ctx, db).await?;
    if !ctx.caller.is_admin && found.account_id != ctx.caller.account_id {
        return Err(ApiError::forbidden(format!(
            "custom ISO {} is of another account; you may boot it, not change it",
            found.label
        )));
    }
    ctx.check_revision(found.revision)?;
    Ok(found)
}

async fn all(ctx: Ctx) -> Result<Reply, ApiError> {
    let search = [custom_iso::Column::Label, custom_iso::Column::Name, custom_iso::Column::AccessUrl];
    let alias = [("type", "kind")];
    Ok(Reply::Json(list(&ctx, visible(&ctx), &alias, &search, custom_iso::Column::Id, wire).await?))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

fn address(ctx: &Ctx) -> Result<Option<String>, ApiError> {
    let Some(text) = ctx.text("accessUrl") else { return Ok(None) };
    let text = url("accessUrl", text)?;
    no_login("accessUrl", &text)?;
    Ok(Some(text))
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let label = model::validate::label("label", ctx.need_text("label")?)?;
    let name = ctx.text("name").filter(|n| !n.trim().is_empty()).unwrap_or(&label);
    let name = model::validate::name("name", name)?;
    let access_url = address(&ctx)?.ok_or_else(|| ApiError::field("accessUrl", "is required"))?;
    let txn = ctx.app.db().begin().await?;
    let twins = custom_iso::Entity::find()
        .filter(custom_iso::Column::AccountId.eq(ctx.caller.account_id))
        .filter(custom_iso::Column::Label.eq(&label))
        .count(&txn)
        .await?;
    if twins > 0 {
        return Err(ApiError::conflict(format!("label: there is a custom ISO {label:?} already")));
    }
    let mut row = custom_iso::new();
    row.label = Set(label);
    row.name = Set(name);
    row.kind = Set("http".into());
    row.access_url = Set(access_url);
    row.is_public = Set(false);
    row.user_id_owner = Set(ctx.caller.user_id);
    row.account_id = Set(ctx.caller.account_id);
    let made = row.insert(&txn).await?;
    let title = format!("Custom ISO {} created", made.label);
    record(&ctx, &txn, "custom_iso.create", title, ("custom_iso", made.id), json!({"after": wire(&made)})).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

async fn change(
    ctx: &Ctx,
    verb: &str,
    edit: impl FnOnce(&mut custom_iso::ActiveModel),
) -> Result<custom_iso::Model, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find_own(ctx, &txn).await?;
    let mut row = found.edit();
    row.modified_by = Set(Some(ctx.caller.user_id));
    edit(&mut row);
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    let title = format!("Custom ISO {}: {}", after.label, verb.replace('_', " "));
    let context = json!({"before": wire(&found), "after": wire(&after)});
    record(ctx, &txn, &format!("custom_iso.{verb}"), title, ("custom_iso", after.id), context).await?;
    txn.commit().await?;
    Ok(after)
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let name = ctx.text("name").map(|n| model::validate::name("name", n)).transpose()?;
    let access_url = address(&ctx)?;
    let after = change(&ctx, "update", |row| {
        if let Some(name) = name {
            row.name = Set(name);
        }
        if let Some(access_url) = access_url {
            row.access_url = Set(access_url);
        }
    })
    .await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

async fn make_public(ctx: Ctx) -> Result<Reply, ApiError> {
    if !ctx.caller.is_admin {
        find(&ctx, &ctx.app.db().read).await?;
        return Err(ApiError::forbidden("only an administrator shows an image to all accounts"));
    }
    let after = change(&ctx, "make_public", |row| row.is_public = Set(true)).await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find_own(&ctx, &txn).await?;
    custom_iso::Entity::delete_by_id(found.id).exec(&txn).await?;
    let title = format!("Custom ISO {} deleted", found.label);
    record(&ctx, &txn, "custom_iso.delete", title, ("custom_iso", found.id), json!({"before": wire(&found)})).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

/// The server, if the caller may know of it: an administrator any, others those that their instances hold.
async fn server_of(ctx: &Ctx) -> Result<(server::Model, Option<server_instance::Model>, bool), ApiError> {
    let db = &ctx.app.db().read;
    let id = ctx.id("serverId")?;
    let holder = server_instance::Entity::find().filter(server_instance::Column::ServerId.eq(id)).one(db).await?;
    let own = instances::visible(ctx).filter(server_instance::Column::ServerId.eq(id)).one(db).await?.is_some();
    let found = server::Entity::find_by_id(id).one(db).await?.filter(|_| own || ctx.caller.is_admin);
    let found = found.ok_or_else(|| ApiError::not_found("server", id))?;
    Ok((found, holder, own))
}

/// Whether the caller has said that a running system may be stopped for it: `confirm=true` in the query or the body.
fn confirmed(ctx: &Ctx) -> bool {
    ctx.flag("confirm").unwrap_or(false) || matches!(ctx.query_value("confirm"), Some("true" | "1"))
}

async fn boot(ctx: Ctx) -> Result<Reply, ApiError> {
    let iso = find(&ctx, &ctx.app.db().read).await?;
    let (of, holder, own) = server_of(&ctx).await?;
    let name = facts::server_name(&of);
    refuse_outside(&of, "booted from an image")?;
    let seconds = ctx
        .int("ejectAfterSeconds")
        .or_else(|| ctx.query_value("ejectAfterSeconds").and_then(|t| t.parse().ok()))
        .unwrap_or(EJECT_SECONDS);
    if !(60..=LONGEST).contains(&seconds) {
        return Err(ApiError::field("ejectAfterSeconds", format!("{seconds} is not between 60 and {LONGEST}")));
    }
    let agreed_until = match &holder {
        None => {
            refuse_used(&ctx.app.db().read, &of, "booted from an image").await?;
            None
        }
        Some(i) if !own => {
            return Err(ApiError::conflict(format!(
                "server {name} is used by instance {}, which is not yours: only its owner may boot it from an image",
                i.label
            )));
        }
        Some(i) if !confirmed(&ctx) => {
            return Err(ApiError::conflict(format!(
                "server {name} is used by instance {}: what runs there is stopped when it boots from an image; say confirm=true if you want that",
                i.label
            )));
        }
        // Until the machine has booted; nobody's word is good for longer.
        Some(_) => Some(time::in_seconds(3600)),
    };
    let payload = ServerBootIso {
        server_id: of.id,
        url: iso.access_url.clone(),
        name: iso.name.clone(),
        eject_after_seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
        agreed_until,
    };
    let title = format!("Boot {name} from {}", iso.name);
    let limit = u32::try_from(seconds + 3600).unwrap_or(u32::MAX);
    let (group_id, job_id): (Id, Id) =
        ask(&ctx, &of, ServerBootIso::NAME, title, serde_json::to_value(payload)?, limit).await?;
    Ok(Reply::Json(json!({"jobGroupId": group_id, "jobId": job_id})))
}
