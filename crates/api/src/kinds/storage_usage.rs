//! What lies on storages, how full they are, and their ports.

use std::collections::{BTreeMap, HashMap};

use model::Id;
use planner::{ElementKind, GIB};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QuerySelect};
use serde_json::{Value, json};
use store::{
    entity::{network_device, network_device_port, storage, storage_element, storage_interface},
    list::{ListQuery, Page},
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{MAX_ROWS, bucket, drive, edit, file_share, storage::find, storage_element as elements},
    planning::storage as planning,
    routes,
};

routes! {
    "getStoragesStatistics" => all_statistics,
    "getStorageStatistics" => statistics,
    "getStorageDrives" => drives,
    "getStorageFileShares" => shares,
    "getStorageBuckets" => buckets,
    "getStorageInterfaces" => interfaces,
    "getStorageInterface" => interface,
    "updateStorageInterface" => update_interface,
}

/// A storage with less than this left of what it has counts as short of room.
const LOW: u64 = 10;

/// Bytes promised on each storage.
async fn promised<C: ConnectionTrait>(db: &C) -> Result<HashMap<Id, u64>, DbErr> {
    let rows = storage_element::Entity::find()
        .select_only()
        .columns([storage_element::Column::StorageId, storage_element::Column::Bytes])
        .filter(storage_element::Column::StorageId.is_not_null())
        .into_tuple::<(Option<i64>, i64)>()
        .all(db)
        .await?;
    let mut all = HashMap::new();
    for (storage_id, bytes) in rows {
        *all.entry(storage_id.unwrap_or(0)).or_default() += u64::try_from(bytes).unwrap_or(0);
    }
    Ok(all)
}

async fn statistics(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let found = find(&ctx, db).await?;
    let capacity = planning::facts(&found).capacity;
    let promised = promised(db).await?.get(&found.id).copied().unwrap_or(0);
    Ok(Reply::Json(json!({
        "totalSpaceGB": capacity.total_bytes / GIB, "usedSpaceGB": capacity.used_bytes / GIB, "freeSpaceGB": capacity.free_bytes() / GIB,
        "promisedSpaceGB": promised / GIB, "overcommitPercent": planning::overcommit(&found),
    })))
}

async fn all_statistics(ctx: Ctx) -> Result<Reply, ApiError> {
    let flag = |name: &str, default: bool| ctx.query_value(name).map_or(default, |v| v == "true" || v == "1");
    let (maintenance, experimental) = (flag("includeMaintenance", true), flag("includeExperimental", true));
    let minimum = ctx.query_value("minimumSpace").and_then(|v| v.parse::<u64>().ok());
    let rows = storage::Entity::find().all(&ctx.app.db().read).await?;
    let mut types: BTreeMap<String, u64> = BTreeMap::new();
    let (mut used, mut free, mut low) = (0, 0, 0);
    for s in rows.iter().filter(|s| (maintenance || !s.in_maintenance) && (experimental || !s.is_experimental)) {
        let capacity = planning::facts(s).capacity;
        used += capacity.used_bytes / GIB;
        free += capacity.free_bytes() / GIB;
        let least = minimum.unwrap_or(capacity.total_bytes / GIB * LOW / 100);
        low += u64::from(capacity.total_bytes > 0 && capacity.free_bytes() / GIB < least);
        *types.entry(s.driver.clone()).or_default() += 1;
    }
    let count = |status: &str| rows.iter().filter(|s| s.status == status).count();
    Ok(Reply::Json(json!({
        "maintenanceCount": rows.iter().filter(|s| s.in_maintenance).count(), "experimentalCount": rows.iter().filter(|s| s.is_experimental).count(),
        "lowSpaceCount": low, "usedSpace": used, "freeSpace": free, "types": types, "pendingCount": count("pending"), "readyCount": count("ready"),
        "activeCount": count("active"),
    })))
}

/// Elements of one kind on a storage, as far as the caller may see them.
async fn on_storage(
    ctx: &Ctx,
    kind: ElementKind,
    wire: fn(&storage_element::Model, Id) -> Value,
) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let found = find(ctx, db).await?;
    let select = elements::visible(ctx, kind).filter(storage_element::Column::StorageId.eq(found.id));
    elements::page(ctx, select, wire).await
}

async fn drives(ctx: Ctx) -> Result<Reply, ApiError> {
    on_storage(&ctx, ElementKind::SharedDrive, drive::wire).await
}

async fn shares(ctx: Ctx) -> Result<Reply, ApiError> {
    on_storage(&ctx, ElementKind::FileShare, file_share::wire).await
}

async fn buckets(ctx: Ctx) -> Result<Reply, ApiError> {
    on_storage(&ctx, ElementKind::Bucket, bucket::wire).await
}

/// Names of the switch ports behind interfaces.
async fn linked<C: ConnectionTrait>(db: &C, rows: &[storage_interface::Model]) -> Result<HashMap<Id, Value>, DbErr> {
    let ports: Vec<Id> = rows.iter().filter_map(|i| i.network_device_port_id).collect();
    if ports.is_empty() {
        return Ok(HashMap::new());
    }
    let ports = network_device_port::Entity::find()
        .select_only()
        .columns([
            network_device_port::Column::Id,
            network_device_port::Column::NetworkDeviceId,
            network_device_port::Column::Name,
        ])
        .filter(network_device_port::Column::Id.is_in(ports))
        .into_tuple::<(i64, i64, String)>()
        .all(db)
        .await?;
    let names: HashMap<Id, String> = network_device::Entity::find()
        .select_only()
        .columns([network_device::Column::Id, network_device::Column::Name])
        .filter(network_device::Column::Id.is_in(ports.iter().map(|p| p.1)))
        .into_tuple::<(i64, String)>()
        .all(db)
        .await?
        .into_iter()
        .collect();
    let one = |(id, device, name): (i64, i64, String)| {
        let device_name = names.get(&device).cloned().unwrap_or_default();
        (
            id,
            json!({"networkDeviceId": device, "networkDeviceName": device_name, "networkDeviceInterfaceId": id, "networkDeviceInterfaceName": name}),
        )
    };
    Ok(ports.into_iter().map(one).collect())
}

fn wire_interface(i: &storage_interface::Model, linked: &HashMap<Id, Value>) -> Value {
    let mut all = json!({
        "id": i.id, "revision": i.revision, "storageId": i.storage_id, "name": i.name, "nodeIds": i.node_ids, "protocols": i.protocols, "isUplink": i.is_uplink,
        "useForDeploys": i.use_for_deploys, "address": i.address, "port": i.port, "links": [],
    });
    if let Some(id) = i.network_device_port_id {
        all["networkEquipmentInterfaceId"] = json!(id);
        if let Some(link) = linked.get(&id) {
            all["linkedNetworkDeviceInformation"] = link.clone();
        }
    }
    all
}

async fn interfaces(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let found = find(&ctx, db).await?;
    let select = storage_interface::Entity::find().filter(storage_interface::Column::StorageId.eq(found.id));
    let query = ListQuery::parse(&ctx.query, MAX_ROWS)?;
    let search = [storage_interface::Column::Name];
    let Page { rows, total } = query.run(db, select, &[], &search, storage_interface::Column::Id).await?;
    let linked = linked(db, &rows).await?;
    let data = rows.iter().map(|i| wire_interface(i, &linked)).collect();
    Ok(Reply::Json(query.body(ctx.operation.path, total, data)))
}

async fn find_interface(ctx: &Ctx) -> Result<(storage::Model, storage_interface::Model), ApiError> {
    let db = &ctx.app.db().read;
    let of = find(ctx, db).await?;
    let id = ctx.id("interfaceId")?;
    let found = storage_interface::Entity::find_by_id(id).one(db).await?.filter(|i| i.storage_id == of.id);
    Ok((of, found.ok_or_else(|| ApiError::not_found("interface of this storage", id))?))
}

async fn interface(ctx: Ctx) -> Result<Reply, ApiError> {
    let (_, found) = find_interface(&ctx).await?;
    let linked = linked(&ctx.app.db().read, std::slice::from_ref(&found)).await?;
    Ok(Reply::Tagged(wire_interface(&found, &linked), found.revision))
}

async fn update_interface(ctx: Ctx) -> Result<Reply, ApiError> {
    let (of, found) = find_interface(&ctx).await?;
    let port_id = ctx.int("networkEquipmentInterfaceId").filter(|id| *id > 0);
    if let Some(id) = port_id {
        let db = &ctx.app.db().read;
        let port = network_device_port::Entity::find_by_id(id).one(db).await?;
        let device = match port {
            Some(port) => network_device::Entity::find_by_id(port.network_device_id).one(db).await?,
            None => None,
        };
        if device.is_none_or(|d| d.site_id != of.site_id) {
            let words = format!("there is no port {id} on a switch of the storage's site");
            return Err(ApiError::field("networkEquipmentInterfaceId", words));
        }
    }
    let none = HashMap::new();
    let name = format!("{} of storage {}", found.name, of.name);
    let after = edit(
        &ctx,
        &found,
        ("storage_interface", &name),
        "update",
        |i| wire_interface(i, &none),
        |row| {
            if let Some(uplink) = ctx.flag("isUplink") {
                row.is_uplink = Set(uplink);
            }
            if let Some(used) = ctx.flag("useForDeploys") {
                row.use_for_deploys = Set(used);
            }
            if ctx.has("networkEquipmentInterfaceId") {
                row.network_device_port_id = Set(port_id);
            }
        },
    )
    .await?;
    let linked = linked(&ctx.app.db().read, std::slice::from_ref(&after)).await?;
    Ok(Reply::Tagged(wire_interface(&after, &linked), after.revision))
}
