//! Sites, and the Site Controllers that have enrolled there.

use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use serde_json::{Map, Value, json};
use store::{
    entity::{infrastructure, server, site},
    list::{Revisioned, cas},
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    facts,
    kinds::{edit, list, record},
    routes,
};

routes! {
    "getSites" => sites,
    "getSite" => one,
    "createSite" => create,
    "updateSite" => update,
    "getSiteConfig" => config,
    "updateSiteConfig" => update_config,
    "decommissionSite" => decommission,
}

fn wire(s: &site::Model) -> Value {
    json!({"id": s.id, "revision": s.revision, "slug": s.slug, "name": s.name, "location": s.location, "isHidden": s.is_hidden, "isInMaintenance": s.is_in_maintenance, "links": []})
}

async fn find(ctx: &Ctx) -> Result<site::Model, ApiError> {
    let id = ctx.id("siteId")?;
    site::Entity::find_by_id(id)
        .one(&ctx.app.db().read)
        .await?
        .filter(|s| !s.decommissioned)
        .ok_or_else(|| ApiError::not_found("site", id))
}

fn slug(text: &str) -> Result<String, ApiError> {
    Ok(model::validate::hostname("slug", text)?)
}

async fn sites(ctx: Ctx) -> Result<Reply, ApiError> {
    let select = site::Entity::find().filter(site::Column::Decommissioned.eq(false));
    Ok(Reply::Json(list(&ctx, select, &[], &[site::Column::Slug, site::Column::Name], site::Column::Id, wire).await?))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut row = site::new();
    row.slug = Set(slug(ctx.need_text("slug")?)?);
    row.name = Set(model::validate::name("name", ctx.need_text("name")?)?);
    row.is_hidden = Set(ctx.flag("isHidden").unwrap_or(false));
    row.is_in_maintenance = Set(ctx.flag("isInMaintenance").unwrap_or(false));
    row.decommissioned = Set(false);
    let config = ctx.body.get("config").cloned().unwrap_or_else(|| json!({}));
    row.location = Set(config.get("location").cloned().unwrap_or_else(|| json!({})));
    check_config(&config)?;
    row.config = Set(config);
    let txn = ctx.app.db().begin().await?;
    let made = row.insert(&txn).await?;
    facts::settings(&txn, made.id).await?;
    record(
        &ctx,
        &txn,
        "site.create",
        format!("Site {} created", made.slug),
        ("site", made.id),
        json!({"slug": made.slug, "name": made.name}),
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let slug = ctx.text("slug").map(slug).transpose()?;
    let name = ctx.text("name").map(|n| model::validate::name("name", n)).transpose()?;
    let found = find(&ctx).await?;
    let after = edit(&ctx, &found, ("site", &found.slug), "update", wire, |row| {
        if let Some(slug) = slug {
            row.slug = Set(slug);
        }
        if let Some(name) = name {
            row.name = Set(name);
        }
        if let Some(hidden) = ctx.flag("isHidden") {
            row.is_hidden = Set(hidden);
        }
        if let Some(maintenance) = ctx.flag("isInMaintenance") {
            row.is_in_maintenance = Set(maintenance);
        }
    })
    .await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

async fn config(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx).await?;
    Ok(Reply::Tagged(found.config, found.revision))
}

/// Objects are merged member by member; a `null` removes (RFC 7396).
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return into.clone_from(patch) };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let Value::Object(map) = into else { return };
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Addresses that clients of the site are given must be addresses.
fn check_config(config: &Value) -> Result<(), ApiError> {
    let servers = config.get("DNSServers").and_then(Value::as_array);
    for server in servers.into_iter().flatten().filter_map(Value::as_str) {
        if server.parse::<std::net::IpAddr>().is_err() {
            return Err(ApiError::field("DNSServers", format!("{server:?} is not an IP address")));
        }
    }
    Ok(())
}

async fn update_config(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let id = ctx.id("siteId")?;
    let found = site::Entity::find_by_id(id).one(&txn).await?.filter(|s| !s.decommissioned);
    let found = found.ok_or_else(|| ApiError::not_found("site", id))?;
    ctx.check_revision(found.revision)?;
    let mut config = found.config.clone();
    merge(&mut config, &Value::Object(ctx.body.clone()));
    check_config(&config)?;
    let mut row = found.edit();
    row.config = Set(config);
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    facts::settings(&txn, after.id).await?;
    let title = format!("Site {}: configuration changed", after.slug);
    let context = json!({"before": found.config, "after": after.config});
    record(&ctx, &txn, "site.update_config", title, ("site", after.id), context).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(after.config, after.revision))
}

async fn decommission(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx).await?;
    let db = &ctx.app.db().read;
    let servers = server::Entity::find()
        .filter(server::Column::SiteId.eq(found.id))
        .filter(server::Column::Status.ne("decommissioned"))
        .count(db)
        .await?;
    let infrastructures = infrastructure::Entity::find()
        .filter(infrastructure::Column::SiteId.eq(found.id))
        .filter(infrastructure::Column::ServiceStatus.ne("deleted"))
        .count(db)
        .await?;
    if servers + infrastructures > 0 {
        return Err(ApiError::conflict(format!(
            "the site still has {servers} server(s) and {infrastructures} infrastructure(s); remove them first"
        )));
    }
    edit(&ctx, &found, ("site", &found.slug), "decommission", wire, |row| row.decommissioned = Set(true)).await?;
    Ok(Reply::Empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_is_merged() {
        let mut config = json!({"a": {"b": 1, "c": 2}, "d": [1]});
        merge(&mut config, &json!({"a": {"b": null, "e": 3}, "d": [2]}));
        assert_eq!(config, json!({"a": {"c": 2, "e": 3}, "d": [2]}));
    }
}
