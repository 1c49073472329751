//! What a fabric is made of: its switches and the links between them.

use std::collections::{BTreeSet, HashMap};

use engine::NewGroup;
use model::Id;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect,
    QueryTrait,
};
use serde_json::{Value, json};
use store::{
    entity::{fabric_device, fabric_link, network_device, network_device_port, network_fabric},
    list::ListQuery,
};

use crate::{
    context::{Ctx, Reply, whole},
    error::ApiError,
    kinds::{
        network_device::{FIELDS, SEARCH, wire as wire_device},
        network_device_registration::{discovery, start_discovery},
        network_fabric::{find_in, wire as wire_fabric},
        record,
    },
    routes,
};

routes! {
    "getFabricNetworkDevices" => devices,
    "addNetworkDevicesToFabric" => attach,
    "removeNetworkDeviceFromFabric" => detach,
    "getNetworkFabricLinks" => links,
    "getNetworkFabricLink" => one_link,
    "createNetworkFabricLink" => create_link,
    "deleteNetworkFabricLink" => delete_link,
    "rescanNetworkFabricLinks" => rescan,
}

/// Rows a page at most here: clients of a fabric ask for this many at once and do not turn pages.
const MAX_ROWS: u64 = 1000;

async fn devices(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let fabric = find_in(&ctx, db).await?;
    let members = fabric_device::Entity::find()
        .select_only()
        .column(fabric_device::Column::NetworkDeviceId)
        .filter(fabric_device::Column::FabricId.eq(fabric.id))
        .into_query();
    let select = network_device::Entity::find().filter(network_device::Column::Id.in_subquery(members));
    let query = ListQuery::parse(&ctx.query, MAX_ROWS)?;
    let page = query.run(db, select, FIELDS, SEARCH, network_device::Column::Id).await?;
    let data = page.rows.iter().map(wire_device).collect();
    Ok(Reply::Json(query.body(ctx.operation.path, page.total, data)))
}

/// Switches of the fabric's own site, each in one fabric at most. They are read again, so that links show.
async fn attach(ctx: Ctx) -> Result<Reply, ApiError> {
    let ids: BTreeSet<Id> = ctx.body["networkDeviceIds"].as_array().into_iter().flatten().filter_map(whole).collect();
    if ids.is_empty() {
        return Err(ApiError::field("networkDeviceIds", "is empty: name at least one switch"));
    }
    let txn = ctx.app.db().begin().await?;
    let fabric = find_in(&ctx, &txn).await?;
    let found = network_device::Entity::find().filter(network_device::Column::Id.is_in(ids.clone())).all(&txn).await?;
    for id in &ids {
        let bad = |words: String| ApiError::field("networkDeviceIds", words);
        let device = found.iter().find(|d| d.id == *id).ok_or_else(|| bad(format!("there is no switch {id}")))?;
        if device.site_id != fabric.site_id {
            return Err(bad(format!("switch {} is at another site than the fabric", device.name)));
        }
        if device.status == "decommissioned" {
            return Err(bad(format!("switch {} is decommissioned", device.name)));
        }
    }
    let members =
        fabric_device::Entity::find().filter(fabric_device::Column::NetworkDeviceId.is_in(ids)).all(&txn).await?;
    if let Some(other) = members.iter().find(|m| m.fabric_id != fabric.id) {
        return Err(ApiError::conflict(format!(
            "networkDeviceIds: switch {} belongs to fabric {} already",
            other.network_device_id, other.fabric_id
        )));
    }
    let new: Vec<&network_device::Model> =
        found.iter().filter(|d| !members.iter().any(|m| m.network_device_id == d.id)).collect();
    for device in &new {
        let mut row = fabric_device::new();
        row.fabric_id = Set(fabric.id);
        row.network_device_id = Set(device.id);
        row.insert(&txn).await?;
        start_discovery(&ctx.app, &txn, device).await?;
    }
    if !new.is_empty() {
        let names: Vec<&str> = new.iter().map(|d| d.name.as_str()).collect();
        let title = format!("Fabric {}: {} added", fabric.name, names.join(", "));
        record(&ctx, &txn, "network_fabric.attach", title, ("network_fabric", fabric.id), json!({})).await?;
    }
    txn.commit().await?;
    ctx.app.engine().wake();
    Ok(Reply::Tagged(wire_fabric(&fabric), fabric.revision))
}

async fn detach(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let fabric = find_in(&ctx, &txn).await?;
    let id = ctx.id("networkDeviceId")?;
    let member = fabric_device::Entity::find()
        .filter(fabric_device::Column::FabricId.eq(fabric.id))
        .filter(fabric_device::Column::NetworkDeviceId.eq(id))
        .one(&txn)
        .await?
        .ok_or_else(|| ApiError::not_found("switch in this fabric", id))?;
    refuse_carrying(&txn, id).await?;
    fabric_link::Entity::delete_many()
        .filter(Condition::any().add(fabric_link::Column::DeviceA.eq(id)).add(fabric_link::Column::DeviceB.eq(id)))
        .exec(&txn)
        .await?;
    fabric_device::Entity::delete_by_id(member.id).exec(&txn).await?;
    let title = format!("Fabric {}: switch {id} taken out", fabric.name);
    record(&ctx, &txn, "network_fabric.detach", title, ("network_fabric", fabric.id), json!({"networkDeviceId": id}))
        .await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire_fabric(&fabric), fabric.revision))
}

/// A switch that carries servers in use stays in its fabric: their networks live there.
async fn refuse_carrying<C: ConnectionTrait>(db: &C, device_id: Id) -> Result<(), ApiError> {
    use store::entity::{server_instance, server_interface};
    let behind = server_interface::Entity::find()
        .select_only()
        .column(server_interface::Column::ServerId)
        .filter(server_interface::Column::NetworkDeviceId.eq(device_id))
        .into_query();
    let used =
        server_instance::Entity::find().filter(server_instance::Column::ServerId.in_subquery(behind)).one(db).await?;
    match used {
        Some(i) => Err(ApiError::conflict(format!(
            "the switch carries instance {} of infrastructure {}; release its server first",
            i.label, i.infrastructure_id
        ))),
        None => Ok(()),
    }
}

/// Ids of the ports at both ends of links.
async fn port_ids<C: ConnectionTrait>(
    db: &C,
    links: &[fabric_link::Model],
) -> Result<HashMap<(Id, String), Id>, ApiError> {
    let devices: BTreeSet<Id> = links.iter().flat_map(|l| [l.device_a, l.device_b]).collect();
    let names: BTreeSet<String> = links.iter().flat_map(|l| [l.port_a.clone(), l.port_b.clone()]).collect();
    let found = network_device_port::Entity::find()
        .filter(network_device_port::Column::NetworkDeviceId.is_in(devices))
        .filter(network_device_port::Column::Name.is_in(names))
        .all(db)
        .await?;
    Ok(found.into_iter().map(|p| ((p.network_device_id, p.name), p.id)).collect())
}

fn wire_link(l: &fabric_link::Model, ports: &HashMap<(Id, String), Id>) -> Value {
    let port = |device: Id, name: &str| ports.get(&(device, name.to_owned())).copied().unwrap_or(0);
    let kind = l.extra["linkType"].as_str().unwrap_or("point-to-point");
    json!({
        "id": l.id, "revision": l.revision.to_string(), "createdTimestamp": l.created_at, "updatedTimestamp": l.updated_at, "networkFabricId": l.fabric_id,
        "networkDeviceAInterfaceId": port(l.device_a, &l.port_a), "networkDeviceBInterfaceId": port(l.device_b, &l.port_b), "linkType": kind, "status": "active",
        "customVariables": l.extra.get("customVariables").cloned().unwrap_or_else(|| json!({})), "config": {"networkFabricLinkId": l.id, "status": "active"},
        "networkDeviceAId": l.device_a, "networkDeviceAPort": l.port_a, "networkDeviceBId": l.device_b, "networkDeviceBPort": l.port_b,
        "isDiscovered": l.extra["observed"].as_bool().unwrap_or(false), "links": [],
    })
}

async fn links(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let fabric = find_in(&ctx, db).await?;
    let select = fabric_link::Entity::find().filter(fabric_link::Column::FabricId.eq(fabric.id));
    let query = ListQuery::parse(&ctx.query, MAX_ROWS)?;
    let alias = [("networkFabricId", "fabric_id")];
    let search = [fabric_link::Column::PortA, fabric_link::Column::PortB];
    let page = query.run(db, select, &alias, &search, fabric_link::Column::Id).await?;
    let ports = port_ids(db, &page.rows).await?;
    let data = page.rows.iter().map(|l| wire_link(l, &ports)).collect();
    Ok(Reply::Json(query.body(ctx.operation.path, page.total, data)))
}

async fn find_link<C: ConnectionTrait>(
    ctx: &Ctx,
    db: &C,
    fabric: &network_fabric::Model,
) -> Result<fabric_link::Model, ApiError> {
    let id = ctx.id("networkFabricLinkId")?;
    let found = fabric_link::Entity::find_by_id(id).one(db).await?.filter(|l| l.fabric_id == fabric.id);
    found.ok_or_else(|| ApiError::not_found("link of this fabric", id))
}

async fn one_link(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let fabric = find_in(&ctx, db).await?;
    let found = find_link(&ctx, db, &fabric).await?;
    let ports = port_ids(db, std::slice::from_ref(&found)).await?;
    Ok(Reply::Tagged(wire_link(&found, &ports), found.revision))
}

/// A link that LLDP does not show, entered by a person.
async fn create_link(ctx: Ctx) -> Result<Reply, ApiError> {
    ctx.refuse_others(&["networkDeviceAInterfaceId", "networkDeviceBInterfaceId", "linkType", "customVariables"])?;
    let txn = ctx.app.db().begin().await?;
    let fabric = find_in(&ctx, &txn).await?;
    let a = end(&ctx, &txn, &fabric, "networkDeviceAInterfaceId").await?;
    let b = end(&ctx, &txn, &fabric, "networkDeviceBInterfaceId").await?;
    if a.network_device_id == b.network_device_id {
        return Err(ApiError::field("networkDeviceBInterfaceId", "is on the same switch as the other end"));
    }
    let (a, b) = if a.network_device_id < b.network_device_id { (a, b) } else { (b, a) };
    let mut taken = Condition::any();
    for p in [&a, &b] {
        use fabric_link::Column as C_;
        taken = taken
            .add(Condition::all().add(C_::DeviceA.eq(p.network_device_id)).add(C_::PortA.eq(&p.name)))
            .add(Condition::all().add(C_::DeviceB.eq(p.network_device_id)).add(C_::PortB.eq(&p.name)));
    }
    if let Some(other) = fabric_link::Entity::find().filter(taken).one(&txn).await? {
        return Err(ApiError::conflict(format!(
            "link {} ends at one of these ports already ({} and {})",
            other.id, other.port_a, other.port_b
        )));
    }
    let mut row = fabric_link::new();
    row.fabric_id = Set(fabric.id);
    row.device_a = Set(a.network_device_id);
    row.port_a = Set(a.name.clone());
    row.device_b = Set(b.network_device_id);
    row.port_b = Set(b.name.clone());
    row.extra = Set(json!({
        "linkType": ctx.text("linkType").unwrap_or("point-to-point"),
        "customVariables": ctx.body.get("customVariables").filter(|v| v.is_object()).cloned().unwrap_or_else(|| json!({})),
    }));
    let made = row.insert(&txn).await?;
    let title = format!("Fabric {}: link {} – {} added", fabric.name, a.name, b.name);
    record(&ctx, &txn, "network_fabric.link", title, ("network_fabric", fabric.id), json!({"linkId": made.id})).await?;
    txn.commit().await?;
    let ports = HashMap::from([((a.network_device_id, a.name), a.id), ((b.network_device_id, b.name), b.id)]);
    Ok(Reply::Tagged(wire_link(&made, &ports), made.revision))
}

/// The port that a field names, on a switch of the fabric.
async fn end<C: ConnectionTrait>(
    ctx: &Ctx,
    db: &C,
    fabric: &network_fabric::Model,
    field: &str,
) -> Result<network_device_port::Model, ApiError> {
    let id = ctx.need_int(field)?;
    let port = network_device_port::Entity::find_by_id(id).one(db).await?;
    let port = port.ok_or_else(|| ApiError::field(field, format!("there is no port {id}")))?;
    let member = fabric_device::Entity::find()
        .filter(fabric_device::Column::FabricId.eq(fabric.id))
        .filter(fabric_device::Column::NetworkDeviceId.eq(port.network_device_id))
        .one(db)
        .await?;
    match member {
        Some(_) => Ok(port),
        None => Err(ApiError::field(field, format!("port {} is on a switch outside the fabric", port.name))),
    }
}

/// Reads all switches of the fabric again: links and cables that are new or moved show.
async fn rescan(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let fabric = find_in(&ctx, &txn).await?;
    let members = fabric_device::Entity::find()
        .select_only()
        .column(fabric_device::Column::NetworkDeviceId)
        .filter(fabric_device::Column::FabricId.eq(fabric.id))
        .into_query();
    let devices = network_device::Entity::find()
        .filter(network_device::Column::Id.in_subquery(members))
        .filter(network_device::Column::Status.ne("decommissioned"))
        .all(&txn)
        .await?;
    if devices.is_empty() {
        return Err(ApiError::conflict(format!("fabric {} has no switch to read; add some first", fabric.name)));
    }
    let jobs: Result<Vec<_>, _> = devices.iter().map(|d| discovery(format!("discover/{}", d.id), d)).collect();
    let group = NewGroup {
        kind: "network_fabric_rescan".into(),
        description: format!("Read all switches of fabric {}", fabric.name),
        params: json!({"networkFabricId": fabric.id}),
        site_id: Some(fabric.site_id),
        ..Default::default()
    };
    let created = ctx.app.engine().create_group(&txn, group, jobs?).await?;
    let title = format!("Fabric {}: links are looked for", fabric.name);
    let info = json!({"jobGroupId": created.group_id});
    record(&ctx, &txn, "network_fabric.rescan", title, ("network_fabric", fabric.id), info.clone()).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    Ok(Reply::Json(info))
}

async fn delete_link(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let fabric = find_in(&ctx, &txn).await?;
    let found = find_link(&ctx, &txn, &fabric).await?;
    fabric_link::Entity::delete_by_id(found.id).exec(&txn).await?;
    let title = format!("Fabric {}: link {} – {} removed", fabric.name, found.port_a, found.port_b);
    record(&ctx, &txn, "network_fabric.unlink", title, ("network_fabric", fabric.id), json!({})).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
