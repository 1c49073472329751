//! Firmware images of catalogs.

use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait};
use serde_json::{Value, json};
use store::entity::{firmware_binary, firmware_catalog};

use super::firmware_catalog::{timestamp, url};
use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{insert_in, list, remove},
    routes,
};

routes! {
    "getFirmwareBinaries" => all,
    "getFirmwareBinary" => one,
    "createFirmwareBinary" => create,
    "deleteFirmwareBinary" => delete,
}

pub(super) fn wire(b: &firmware_binary::Model) -> Value {
    json!({
        "id": b.id, "catalogId": b.catalog_id, "externalId": b.external_id, "vendorInfoUrl": b.vendor_info_url, "vendorDownloadUrl": b.vendor_download_url,
        "cacheDownloadUrl": b.cache_download_url, "name": b.name, "packageId": b.package_id, "packageVersion": b.package_version, "rebootRequired": b.reboot_required,
        "updateSeverity": b.update_severity, "vendorSupportedDevices": b.supported_devices, "vendorSupportedSystems": b.supported_systems,
        "vendorReleaseTimestamp": b.vendor_release_timestamp, "vendor": b.vendor, "createdTimestamp": b.created_at, "sha256": b.sha256, "size": b.size, "links": [],
    })
}

/// What a site is told of an image: checked by its digest where that is known.
pub(super) fn image(b: &firmware_binary::Model) -> model::firmware::Image {
    let url = b.cache_download_url.clone().unwrap_or_else(|| b.vendor_download_url.clone());
    match &b.sha256 {
        Some(sha256) => model::firmware::Image::Checked(model::template::ImageRef {
            sha256: sha256.clone(),
            size: b.size.unwrap_or(0).unsigned_abs(),
            format: "raw".into(),
            url: Some(url),
        }),
        None => model::firmware::Image::Url { url },
    }
}

async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<firmware_binary::Model, ApiError> {
    let id = ctx.id("firmwareBinaryId")?;
    firmware_binary::Entity::find_by_id(id).one(db).await?.ok_or_else(|| ApiError::not_found("firmware binary", id))
}

async fn all(ctx: Ctx) -> Result<Reply, ApiError> {
    let search =
        [firmware_binary::Column::Name, firmware_binary::Column::PackageId, firmware_binary::Column::PackageVersion];
    Ok(Reply::Json(list(&ctx, firmware_binary::Entity::find(), &[], &search, firmware_binary::Column::Id, wire).await?))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

/// SHA-256 in hexadecimal.
fn sha256(text: &str) -> Result<String, ApiError> {
    let text = text.trim().to_ascii_lowercase();
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(text)
    } else {
        Err(ApiError::field("sha256", "is not a SHA-256: 64 hexadecimal digits"))
    }
}

/// What events say of an image.
fn brief(b: &firmware_binary::Model) -> Value {
    json!({"name": b.name, "version": b.package_version, "catalogId": b.catalog_id})
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let catalog_id = ctx.need_int("catalogId")?;
    let text = |field: &str| ctx.text(field).map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned);
    let address = |field: &str| text(field).map(|t| url(field, &t)).transpose();
    let mut row = firmware_binary::new();
    row.catalog_id = Set(catalog_id);
    row.external_id = Set(text("externalId"));
    row.name = Set(model::validate::name("name", ctx.need_text("name")?)?);
    row.package_id = Set(text("packageId"));
    row.package_version = Set(text("packageVersion"));
    row.reboot_required = Set(ctx.flag("rebootRequired").unwrap_or(false));
    row.update_severity = Set(ctx.need_text("updateSeverity")?.to_owned());
    row.vendor_info_url = Set(address("vendorInfoUrl")?);
    row.vendor_download_url = Set(url("vendorDownloadUrl", ctx.need_text("vendorDownloadUrl")?)?);
    row.cache_download_url = Set(address("cacheDownloadUrl")?);
    let released = text("vendorReleaseTimestamp").map(|t| timestamp("vendorReleaseTimestamp", &t)).transpose()?;
    row.vendor_release_timestamp = Set(released);
    row.supported_devices = Set(ctx.body.get("vendorSupportedDevices").cloned().unwrap_or_else(|| json!([])));
    row.supported_systems = Set(ctx.body.get("vendorSupportedSystems").cloned().unwrap_or_else(|| json!([])));
    row.vendor = Set(ctx.body.get("vendor").cloned().unwrap_or_else(|| json!({})));
    row.sha256 = Set(text("sha256").map(|t| sha256(&t)).transpose()?);
    row.size = Set(ctx.int("size").filter(|s| *s > 0));
    let txn = ctx.app.db().begin().await?;
    if firmware_catalog::Entity::find_by_id(catalog_id).one(&txn).await?.is_none() {
        return Err(ApiError::field("catalogId", format!("there is no firmware catalog {catalog_id}")));
    }
    let name = ctx.need_text("name")?;
    let made = insert_in(&ctx, &txn, row, "firmware_binary", name, brief).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    remove(&ctx, &txn, &found, ("firmware_binary", &found.name), brief).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
