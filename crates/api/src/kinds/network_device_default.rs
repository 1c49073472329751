//! What new switches of a site are given, by MAC address or serial number.

use model::Id;
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use store::entity::{network_device_defaults as defaults, site};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{network_device::site_of, record},
    routes,
};

routes! {
    "getNetworkDeviceDefaults" => of_site,
    "addNetworkDeviceDefaults" => create,
    "removeNetworkDeviceDefaults" => delete,
}

fn wire(d: &defaults::Model, slug: &str) -> Value {
    let mut v = d.body.clone();
    if let Some(map) = v.as_object_mut() {
        map.insert("id".into(), json!(d.id));
        map.insert("datacenterName".into(), json!(slug));
    }
    v
}

/// The defaults of a site for the switch of that MAC address or serial number.
pub(crate) async fn matching<C: ConnectionTrait>(
    db: &C,
    site_id: Id,
    mac: Option<&str>,
    serial: Option<&str>,
) -> Result<Option<Value>, ApiError> {
    let all = defaults::Entity::find().filter(defaults::Column::SiteId.eq(site_id)).all(db).await?;
    let is = |d: &&defaults::Model, field: &str, value: Option<&str>| {
        let known = d.body[field].as_str().filter(|k| !k.is_empty());
        known.zip(value).is_some_and(|(a, b)| a.eq_ignore_ascii_case(b))
    };
    let found = all.iter().find(|d| is(d, "managementMacAddress", mac) || is(d, "serialNumber", serial));
    Ok(found.map(|d| d.body.clone()))
}

async fn find_site(ctx: &Ctx) -> Result<site::Model, ApiError> {
    let id = ctx.id("siteId")?;
    let found = site::Entity::find_by_id(id).one(&ctx.app.db().read).await?;
    found.ok_or_else(|| ApiError::not_found("site", id))
}

async fn of_site(ctx: Ctx) -> Result<Reply, ApiError> {
    let site = find_site(&ctx).await?;
    let rows = defaults::Entity::find()
        .filter(defaults::Column::SiteId.eq(site.id))
        .order_by_asc(defaults::Column::Id)
        .all(&ctx.app.db().read)
        .await?;
    Ok(Reply::Json(rows.iter().map(|d| wire(d, &site.slug)).collect()))
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let mac = model::validate::mac("managementMacAddress", ctx.need_text("managementMacAddress")?)?;
    if let Some(position) = ctx.text("position").filter(|p| !p.is_empty())
        && !["tor", "north", "spine", "leaf", "other"].contains(&position)
    {
        return Err(ApiError::field("position", format!("{position:?} is none of: tor, north, spine, leaf, other")));
    }
    let name = ctx.text("identifierString").filter(|n| !n.is_empty());
    name.map(|n| model::validate::label("identifierString", n)).transpose()?;
    let txn = ctx.app.db().begin().await?;
    let site = site_of(&ctx, &txn).await?;
    if matching(&txn, site.id, Some(&mac), ctx.text("serialNumber")).await?.is_some() {
        return Err(ApiError::conflict(
            "managementMacAddress: there are defaults for this MAC address or serial number already",
        ));
    }
    let mut body = ctx.body.clone();
    body.remove("datacenterName");
    body.insert("managementMacAddress".into(), json!(mac));
    let mut row = defaults::new();
    row.site_id = Set(site.id);
    row.body = Set(Value::Object(body));
    row.password = Set(None);
    let made = row.insert(&txn).await?;
    let title = format!("Defaults for the switch {mac} of {} added", site.slug);
    let object = ("network_device_defaults", made.id);
    record(&ctx, &txn, "network_device_defaults.create", title, object, json!({"after": made.body})).await?;
    txn.commit().await?;
    Ok(Reply::Json(wire(&made, &site.slug)))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let site = find_site(&ctx).await?;
    let id = ctx.id("id")?;
    let txn = ctx.app.db().begin().await?;
    let found = defaults::Entity::find_by_id(id).one(&txn).await?.filter(|d| d.site_id == site.id);
    let found = found.ok_or_else(|| ApiError::not_found("defaults of this site", id))?;
    defaults::Entity::delete_by_id(found.id).exec(&txn).await?;
    let title = format!("Defaults for a switch of {} removed", site.slug);
    let object = ("network_device_defaults", found.id);
    record(&ctx, &txn, "network_device_defaults.delete", title, object, json!({"before": found.body})).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
