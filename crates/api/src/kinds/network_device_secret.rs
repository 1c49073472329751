//! Secrets that new switches are given, by serial number or MAC address: what a configuration template needs and nobody should read.

use model::secret::{Clear, Sealed};
use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait};
use serde_json::{Value, json};
use store::entity::{network_device_secret as secret, site};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{edit, insert, list, remove, server::seen},
    routes,
};

routes! {
    "getNetworkDevicesDefaultSecrets" => secrets,
    "getNetworkDeviceDefaultSecretsInfo" => one,
    "getNetworkDeviceDefaultSecretsCredentials" => credentials,
    "createNetworkDeviceDefaultSecrets" => create,
    "updateNetworkDeviceDefaultSecrets" => update,
    "deleteNetworkDeviceDefaultSecrets" => delete,
}

fn wire(s: &secret::Model) -> Value {
    json!({
        "id": s.id, "revision": s.revision, "siteId": s.site_id, "macAddressOrSerialNumber": s.mac_address_or_serial_number, "secretName": s.secret_name,
        "createdTimestamp": s.created_at, "updatedTimestamp": s.updated_at, "links": [],
    })
}

/// What people call it.
fn called(s: &secret::Model) -> String {
    format!("{} of {}", s.secret_name, s.mac_address_or_serial_number)
}

async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<secret::Model, ApiError> {
    let id = ctx.id("networkDeviceDefaultSecretsId")?;
    let found = secret::Entity::find_by_id(id).one(db).await?;
    found.ok_or_else(|| ApiError::not_found("default secret of network devices", id))
}

fn sealed(ctx: &Ctx, value: &str) -> Result<String, ApiError> {
    if value.is_empty() {
        return Err(ApiError::field("secretValue", "must not be empty"));
    }
    Ok(ctx.app.sealer().seal(&Clear(value.to_owned())).map_err(ApiError::internal)?.0)
}

async fn secrets(ctx: Ctx) -> Result<Reply, ApiError> {
    let search = [secret::Column::MacAddressOrSerialNumber, secret::Column::SecretName];
    Ok(Reply::Json(list(&ctx, secret::Entity::find(), &[], &search, secret::Column::Id, wire).await?))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

/// The value, for administrators alone; that it was looked at is on record.
async fn credentials(ctx: Ctx) -> Result<Reply, ApiError> {
    if !ctx.caller.is_admin {
        return Err(ApiError::forbidden("only an administrator sees the secrets of switches"));
    }
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    let value = ctx.app.sealer().open(&Sealed(found.value.clone()));
    let value = value.map_err(|e| ApiError::conflict(format!("the secret cannot be opened ({e}); enter it again")))?;
    seen(&ctx, &txn, ("network_device_secret", found.id), &called(&found)).await?;
    txn.commit().await?;
    Ok(Reply::Json(json!({"secretValue": value.0})))
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let site_id = ctx.need_int("siteId")?;
    let device = model::validate::name("macAddressOrSerialNumber", ctx.need_text("macAddressOrSerialNumber")?)?;
    // One spelling of MAC addresses, so that one is found however it was written.
    let device = model::validate::mac("macAddressOrSerialNumber", &device).unwrap_or(device);
    let name = model::validate::label("secretName", ctx.need_text("secretName")?)?;
    let value = sealed(&ctx, ctx.need_text("secretValue")?)?;
    if site::Entity::find_by_id(site_id).one(&ctx.app.db().read).await?.is_none_or(|s| s.decommissioned) {
        return Err(ApiError::field("siteId", format!("there is no site {site_id}")));
    }
    let mut row = secret::new();
    row.site_id = Set(site_id);
    row.mac_address_or_serial_number = Set(device.clone());
    row.secret_name = Set(name.clone());
    row.value = Set(value);
    let made = insert(&ctx, row, "network_device_secret", &format!("{name} of {device}"), wire).await?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let value = ctx.text("secretValue").map(|v| sealed(&ctx, v)).transpose()?;
    let found = find(&ctx, &ctx.app.db().read).await?;
    let after = edit(&ctx, &found, ("network_device_secret", &called(&found)), "update", wire, |row| {
        if let Some(value) = value {
            row.value = Set(value);
        }
    })
    .await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    remove(&ctx, &txn, &found, ("network_device_secret", &called(&found)), wire).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
