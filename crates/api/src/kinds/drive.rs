//! Shared drives: one volume for all instances of its groups.

use model::Id;
use planner::ElementKind;
use serde_json::{Value, json};
use store::entity::storage_element as element;

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::storage_element::{self as elements, Kind},
    routes,
};

routes! {
    "getDrive" => one,
    "getInfrastructureDrives" => drives,
    "createDrive" => create,
    "deleteDrive" => delete,
    "getInfrastructureDrive" => one,
    "updateDriveServerInstanceGroupHostsBulk" => modify_hosts,
    "getDriveConfigInfo" => config,
    "patchDriveConfig" => update,
    "getDriveHosts" => hosts,
    "patchDriveMeta" => update_meta,
}

/// Shared drives among elements.
pub(crate) const DRIVE: Kind = Kind { element: ElementKind::SharedDrive, id: "driveId", size: "sizeMb", unit: 1 << 20 };

/// How hosts find a volume.
fn discovery(access: &Value, wwn: &Value) -> Vec<Value> {
    let nvme = access["protocol"].as_str().is_some_and(|p| p.starts_with("nvme"));
    let fibre = access["protocol"].as_str().is_some_and(|p| p.ends_with("_fc"));
    let portals = access["portals"].as_array().map_or(&[][..], Vec::as_slice);
    let target = &access["target"];
    portals
        .iter()
        .map(|p| {
            let mut all = json!({"driveType": if nvme { "nvme_tcp" } else { "iscsi" }, "isFibreChannel": fibre});
            let named = if nvme { "targetNqn" } else { "targetIqn" };
            for (name, value) in [
                ("discoverIpAddress", &p["address"]),
                ("discoverPort", &p["port"]),
                ("discoverWwn", wwn),
                (named, target),
            ] {
                if !value.is_null() {
                    all[name] = value.clone();
                }
            }
            all
        })
        .collect()
}

/// A volume's `targets`: where it is, and under which number each host has it.
pub(crate) fn targets(access: &Value) -> Value {
    if access.is_null() {
        return json!([]);
    }
    json!([{"protocol": access["protocol"], "target": access["target"], "portals": access["portals"], "hosts": access["hosts"]}])
}

fn configuration(e: &element::Model) -> Value {
    let mut all = elements::config(&DRIVE, e);
    all["storageType"] = "iscsi_ssd".into();
    all["qoS"] = json!(e.design["qoS"].as_str().unwrap_or_default());
    all
}

/// The wire form.
pub(crate) fn wire(e: &element::Model, owner_id: Id) -> Value {
    let key = format!("drive-{}", e.id);
    let (volume, access) = (elements::seen(e, &key, "volume"), elements::seen(e, &key, "access"));
    let deployed = if e.deployed.get("label").is_some() { &e.deployed } else { &e.design };
    let mut all = elements::wire(&DRIVE, e, owner_id);
    let real = volume["used_bytes"].as_u64().map_or(0, |b| b >> 20);
    let more = json!({
        "config": configuration(e), "storageType": "iscsi_ssd", "qoS": deployed["qoS"].as_str().unwrap_or_default(), "storageRealSizeCachedMb": real,
        "storageRealSizeWithSnapshotsCachedMb": real, "storageVirtualSizeCachedMb": volume["size_bytes"].as_u64().map_or(0, |b| b >> 20),
        "storageUpdatedTimestamp": e.updated_at, "targets": targets(access), "wwn": volume["wwn"].as_str().unwrap_or_default(),
        "allocationAffinity": e.design["allocationAffinity"].as_str().unwrap_or("same_storage"), "discoverInformation": discovery(access, &volume["wwn"]),
        "provisioningProtocol": if access["protocol"].as_str().is_some_and(|p| p.ends_with("_fc")) { "SCSI_FC" } else { "iSCSI" },
    });
    if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
        all.extend(more);
    }
    all
}

async fn drives(ctx: Ctx) -> Result<Reply, ApiError> {
    elements::of_infrastructure(&ctx, &DRIVE, wire).await
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let (of, found) = elements::find(&ctx, &ctx.app.db().read, &DRIVE).await?;
    Ok(Reply::Tagged(wire(&found, of.owner_id), found.revision))
}

async fn config(ctx: Ctx) -> Result<Reply, ApiError> {
    let (_, found) = elements::find(&ctx, &ctx.app.db().read, &DRIVE).await?;
    Ok(Reply::Tagged(configuration(&found), found.revision))
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let (of, made) = elements::create(&ctx, &DRIVE, &[]).await?;
    Ok(Reply::Tagged(wire(&made, of.owner_id), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let (of, after) = elements::update(&ctx, &DRIVE).await?;
    Ok(Reply::Tagged(wire(&after, of.owner_id), after.revision))
}

async fn update_meta(ctx: Ctx) -> Result<Reply, ApiError> {
    let (of, after) = elements::update_meta(&ctx, &DRIVE).await?;
    Ok(Reply::Tagged(wire(&after, of.owner_id), after.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    elements::delete(&ctx, &DRIVE).await
}

async fn hosts(ctx: Ctx) -> Result<Reply, ApiError> {
    let (_, found) = elements::find(&ctx, &ctx.app.db().read, &DRIVE).await?;
    Ok(Reply::Tagged(elements::hosts(&found), found.revision))
}

async fn modify_hosts(ctx: Ctx) -> Result<Reply, ApiError> {
    let after = elements::modify_hosts(&ctx, &DRIVE, "sharedDriveHostBulkOperations").await?;
    Ok(Reply::Tagged(elements::hosts(&after), after.revision))
}
