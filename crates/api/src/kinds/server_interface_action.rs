//! Interfaces of servers as a person knows them: the cable behind one, its usual fabric, which belong together.

use std::collections::BTreeSet;

use model::Id;
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use store::{
    entity::{network_device, network_device_port, network_fabric, server, server_interface as interfaces},
    list::Revisioned,
};

use crate::{
    context::{Ctx, Reply, parse_id, whole},
    error::ApiError,
    facts,
    kinds::{
        record,
        server::{find_locked, held},
    },
    routes,
};

routes! {
    "connectServerInterface" => connect,
    "setServerInterfacesDefaultFabric" => default_fabric,
    "setServerInterfacesRedundancyGroup" => redundancy_group,
}

/// Interfaces of the server that a body names.
async fn named(ctx: &Ctx, txn: &DatabaseTransaction, server_id: Id) -> Result<Vec<interfaces::Model>, ApiError> {
    let list = ctx.body.get("serverInterfaceIds").and_then(Value::as_array).cloned().unwrap_or_default();
    let ids: BTreeSet<Id> = list.iter().filter_map(whole).collect();
    if ids.is_empty() || ids.len() != list.len() {
        return Err(ApiError::field("serverInterfaceIds", "must name interfaces of the server, each once"));
    }
    let rows = interfaces::Entity::find()
        .filter(interfaces::Column::ServerId.eq(server_id))
        .filter(interfaces::Column::Id.is_in(ids.clone()))
        .all(txn)
        .await?;
    match ids.iter().find(|id| !rows.iter().any(|r| r.id == **id)) {
        Some(id) => Err(ApiError::field("serverInterfaceIds", format!("the server has no interface {id}"))),
        None => Ok(rows),
    }
}

async fn note(
    ctx: &Ctx,
    txn: &DatabaseTransaction,
    found: &server::Model,
    what: &str,
    context: Value,
) -> Result<(), ApiError> {
    let title = format!("Interfaces of server {}: {what}", facts::server_name(found));
    record(ctx, txn, "server.interfaces", title, ("server", found.id), context).await
}

/// The cable as a person says that it is. What LLDP says later counts more.
async fn connect(ctx: Ctx) -> Result<Reply, ApiError> {
    let id = ctx.need_int("serverInterfaceId")?;
    let (host, port) = (ctx.need_text("networkDeviceHostname")?, ctx.need_text("networkDevicePortId")?);
    let txn = ctx.app.db().begin().await?;
    let found = find_locked(&ctx, &txn).await?;
    let row = interfaces::Entity::find_by_id(id).one(&txn).await?.filter(|i| i.server_id == found.id);
    let row = row.ok_or_else(|| ApiError::field("serverInterfaceId", format!("the server has no interface {id}")))?;
    let device = network_device::Entity::find()
        .filter(network_device::Column::SiteId.eq(found.site_id))
        .filter(network_device::Column::Name.eq(host))
        .one(&txn)
        .await?;
    let device = device.ok_or_else(|| {
        ApiError::field("networkDeviceHostname", format!("there is no switch {host:?} at the server's site"))
    })?;
    let ports = network_device_port::Entity::find()
        .filter(network_device_port::Column::NetworkDeviceId.eq(device.id))
        .all(&txn)
        .await?;
    let by_id = parse_id(port);
    let port = ports.iter().find(|p| p.name == port || Some(p.id) == by_id).ok_or_else(|| {
        ApiError::field("networkDevicePortId", format!("switch {host} has no port {port:?}; discover it first"))
    })?;
    let other = interfaces::Entity::find()
        .filter(interfaces::Column::NetworkDeviceId.eq(device.id))
        .filter(interfaces::Column::NetworkDevicePort.eq(&port.name))
        .filter(interfaces::Column::Id.ne(row.id))
        .one(&txn)
        .await?;
    if let Some(other) = other {
        return Err(ApiError::conflict(format!(
            "networkDevicePortId: port {} of {host} is cabled to interface {} of server {} already",
            port.name, other.id, other.server_id
        )));
    }
    if !held(&txn, &[found.id]).await?.is_empty() {
        return Err(ApiError::conflict(format!(
            "server {} is used by an instance, whose networks are on its ports; its cables are changed by LLDP alone until it is free",
            facts::server_name(&found)
        )));
    }
    let context = json!({"serverInterfaceId": row.id, "switch": device.name, "port": port.name});
    let mut edit = row.edit();
    edit.network_device_id = Set(Some(device.id));
    edit.network_device_port = Set(Some(port.name.clone()));
    edit.update(&txn).await?;
    note(&ctx, &txn, &found, "cabled by hand", context).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

async fn default_fabric(ctx: Ctx) -> Result<Reply, ApiError> {
    let fabric_id = ctx.int("defaultFabricId").filter(|id| *id != 0);
    let txn = ctx.app.db().begin().await?;
    let found = find_locked(&ctx, &txn).await?;
    if let Some(id) = fabric_id {
        let fabric = network_fabric::Entity::find_by_id(id).one(&txn).await?;
        fabric.filter(|f| f.site_id == found.site_id).ok_or_else(|| {
            ApiError::field("defaultFabricId", format!("there is no fabric {id} at the server's site"))
        })?;
    }
    for row in named(&ctx, &txn, found.id).await? {
        let mut edit = row.edit();
        edit.default_fabric_id = Set(fabric_id);
        edit.update(&txn).await?;
    }
    note(&ctx, &txn, &found, "usual fabric set", json!({"after": Value::Object(ctx.body.clone())})).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

async fn redundancy_group(ctx: Ctx) -> Result<Reply, ApiError> {
    let index = ctx.int("redundancyGroupIndex");
    if index.is_some_and(|n| !(0..=63).contains(&n)) {
        return Err(ApiError::field("redundancyGroupIndex", "is not between 0 and 63"));
    }
    let txn = ctx.app.db().begin().await?;
    let found = find_locked(&ctx, &txn).await?;
    for row in named(&ctx, &txn, found.id).await? {
        let mut edit = row.edit();
        edit.redundancy_group = Set(index);
        edit.update(&txn).await?;
    }
    note(&ctx, &txn, &found, "redundancy group set", json!({"after": Value::Object(ctx.body.clone())})).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
