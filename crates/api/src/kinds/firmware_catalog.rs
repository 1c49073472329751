//! Firmware catalogs: what a vendor offers.

use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use store::entity::{firmware_binary, firmware_catalog};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{edit_in, insert_in, list, remove},
    routes,
};

routes! {
    "getFirmwareCatalogs" => all,
    "getFirmwareCatalog" => one,
    "createFirmwareCatalogs" => create,
    "updateFirmwareCatalog" => update,
    "deleteFirmwareCatalog" => delete,
}

/// How events call it.
const KIND: &str = "firmware_catalog";

pub(super) fn wire(c: &firmware_catalog::Model) -> Value {
    json!({
        "id": c.id, "name": c.name, "description": c.description, "vendor": c.vendor, "vendorId": c.vendor_id, "vendorUrl": c.vendor_url,
        "vendorReleaseTimestamp": c.vendor_release_timestamp, "updateType": c.update_type, "vendorServerTypesSupported": c.vendor_server_types,
        "vendorConfiguration": c.vendor_configuration, "fetch": c.sync, "createdTimestamp": c.created_at, "links": [],
    })
}

pub(super) async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<firmware_catalog::Model, ApiError> {
    let id = ctx.id("firmwareCatalogId")?;
    firmware_catalog::Entity::find_by_id(id).one(db).await?.ok_or_else(|| ApiError::not_found("firmware catalog", id))
}

async fn all(ctx: Ctx) -> Result<Reply, ApiError> {
    let search =
        [firmware_catalog::Column::Name, firmware_catalog::Column::Description, firmware_catalog::Column::Vendor];
    Ok(Reply::Json(
        list(&ctx, firmware_catalog::Entity::find(), &[], &search, firmware_catalog::Column::Id, wire).await?,
    ))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

/// A point in time as clients write it, in the form that we keep.
pub(super) fn timestamp(field: &str, text: &str) -> Result<String, ApiError> {
    let bad = || ApiError::field(field, format!("{text:?} is not a time; write it as 2026-01-02T15:04:05Z"));
    store::time::parse(text).map(store::time::format).ok_or_else(bad)
}

/// An address that something is fetched from.
pub(super) fn url(field: &str, text: &str) -> Result<String, ApiError> {
    let text = text.trim();
    let parsed = url::Url::parse(text).ok();
    let good =
        parsed.is_some_and(|u| matches!(u.scheme(), "http" | "https") && u.host_str().is_some_and(|h| !h.is_empty()));
    if good && text.len() <= 2048 {
        Ok(text.to_owned())
    } else {
        Err(ApiError::field(field, format!("{text:?} is not an address of the form http(s)://host/file")))
    }
}

/// A secret does not belong into an address that others may read.
pub(super) fn no_login(field: &str, text: &str) -> Result<(), ApiError> {
    match url::Url::parse(text) {
        Ok(u) if !u.username().is_empty() || u.password().is_some() => {
            Err(ApiError::field(field, "must not hold a user name or password"))
        }
        _ => Ok(()),
    }
}

/// How online catalogs are written, where that is not what their vendor usually writes.
const FORMATS: &[&str] = &["dell", "hpe", "lenovo", "supermicro", "steelyard"];

fn fill(ctx: &Ctx, row: &mut firmware_catalog::ActiveModel) -> Result<(), ApiError> {
    row.name = Set(model::validate::name("name", ctx.need_text("name")?)?);
    row.vendor = Set(ctx.need_text("vendor")?.to_owned());
    row.update_type = Set(ctx.need_text("updateType")?.to_owned());
    row.description = Set(ctx.text("description").map(str::to_owned));
    row.vendor_id = Set(ctx.text("vendorId").map(str::to_owned));
    let address = ctx.text("vendorUrl").filter(|u| !u.is_empty()).map(|u| url("vendorUrl", u)).transpose()?;
    if let Some(address) = &address {
        no_login("vendorUrl", address)?;
    }
    row.vendor_url = Set(address);
    let released = ctx.text("vendorReleaseTimestamp").filter(|t| !t.is_empty());
    row.vendor_release_timestamp = Set(released.map(|t| timestamp("vendorReleaseTimestamp", t)).transpose()?);
    row.vendor_server_types = Set(ctx.body.get("vendorServerTypesSupported").cloned().unwrap_or_else(|| json!([])));
    let configuration = ctx.body.get("vendorConfiguration").filter(|v| !v.is_null()).cloned();
    let configuration = configuration.unwrap_or_else(|| json!({}));
    if let Some(format) = configuration.get("format").filter(|f| !f.is_null())
        && !format.as_str().is_some_and(|f| FORMATS.contains(&f))
    {
        let words = format!("{format} is none of: {}", FORMATS.join(", "));
        return Err(ApiError::field("vendorConfiguration.format", words));
    }
    row.vendor_configuration = Set(configuration);
    Ok(())
}

/// Of another one with this name.
async fn refuse_twin<C: ConnectionTrait>(db: &C, name: &str, but: i64) -> Result<(), ApiError> {
    super::refuse_twin::<firmware_catalog::Model, C>(
        db,
        firmware_catalog::Column::Name,
        ("name", name),
        "firmware catalog",
        but,
    )
    .await
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut row = firmware_catalog::new();
    fill(&ctx, &mut row)?;
    let name = ctx.need_text("name")?;
    let txn = ctx.app.db().begin().await?;
    refuse_twin(&txn, name, 0).await?;
    let made = insert_in(&ctx, &txn, row, KIND, name, wire).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut filled = firmware_catalog::ActiveModel::default();
    fill(&ctx, &mut filled)?;
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    refuse_twin(&txn, ctx.need_text("name")?, found.id).await?;
    let subject = format!("Firmware catalog {}", found.name);
    // What was fetched from another address says nothing of this one.
    let moved = filled.vendor_url != Set(found.vendor_url.clone());
    let after = edit_in(&ctx, &txn, &found, (KIND, &subject), "update", wire, |row| {
        row.name = filled.name;
        row.vendor = filled.vendor;
        row.update_type = filled.update_type;
        row.description = filled.description;
        row.vendor_id = filled.vendor_id;
        row.vendor_url = filled.vendor_url;
        row.vendor_release_timestamp = filled.vendor_release_timestamp;
        row.vendor_server_types = filled.vendor_server_types;
        row.vendor_configuration = filled.vendor_configuration;
        if moved {
            row.sync = Set(None);
        }
    })
    .await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

/// With all its images.
async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    firmware_binary::Entity::delete_many().filter(firmware_binary::Column::CatalogId.eq(found.id)).exec(&txn).await?;
    remove(&ctx, &txn, &found, (KIND, &found.name), wire).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
