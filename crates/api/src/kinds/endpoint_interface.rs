//! The switch ports that endpoints are on.

use std::collections::{BTreeSet, HashMap};

use model::Id;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
};
use serde_json::{Map, Value, json};
use store::{
    entity::{
        endpoint, endpoint_interface as interface, fabric_link, network_device, network_device_port as port,
        server_interface,
    },
    list::{ListQuery, Revisioned, cas},
};

use crate::{
    context::{Ctx, Reply, whole},
    error::ApiError,
    kinds::{MAX_ROWS, endpoint::find as find_endpoint, network_device::find as find_device, record},
    routes,
};

routes! {
    "getEndpointInterfaces" => of_endpoint,
    "getEndpointInterfaceById" => one,
    "createEndpointInterface" => create,
    "updateEndpointInterface" => update,
    "deleteEndpointInterface" => delete,
    "getNetworkDeviceInterfacesAndEndpoints" => of_device,
}

const FIELDS: &[(&str, &str)] = &[("createdTimestamp", "created_at"), ("updatedTimestamp", "updated_at")];

/// Port ids by switch and name.
type Ports = HashMap<(Id, String), Id>;

fn wire(i: &interface::Model, ports: &Ports) -> Value {
    json!({
        "id": i.id, "revision": i.revision.to_string(), "networkDeviceId": i.network_device_id,
        "networkDeviceInterfaceId": ports.get(&(i.network_device_id, i.port.clone())).copied().unwrap_or(0), "networkDeviceInterfaceName": i.port,
        "macAddress": i.mac_address, "createdTimestamp": i.created_at, "updatedTimestamp": i.updated_at, "links": [],
    })
}

async fn ports<C: ConnectionTrait>(db: &C, rows: &[interface::Model]) -> Result<Ports, ApiError> {
    let devices: BTreeSet<Id> = rows.iter().map(|i| i.network_device_id).collect();
    let names: BTreeSet<String> = rows.iter().map(|i| i.port.clone()).collect();
    let found = port::Entity::find()
        .filter(port::Column::NetworkDeviceId.is_in(devices))
        .filter(port::Column::Name.is_in(names))
        .all(db)
        .await?;
    Ok(found.into_iter().map(|p| ((p.network_device_id, p.name), p.id)).collect())
}

async fn whole_wire<C: ConnectionTrait>(db: &C, i: &interface::Model) -> Result<Value, ApiError> {
    Ok(wire(i, &ports(db, std::slice::from_ref(i)).await?))
}

/// The port that a body names: on a switch of the endpoint's site, and free.
async fn wanted<C: ConnectionTrait>(
    db: &C,
    endpoint: &endpoint::Model,
    body: &Map<String, Value>,
    at: &str,
    but: Option<Id>,
) -> Result<port::Model, ApiError> {
    let field = format!("{at}networkDeviceInterfaceId");
    let id = body.get("networkDeviceInterfaceId").and_then(whole);
    let id = id.ok_or_else(|| ApiError::field(&field, "is required"))?;
    let none = || ApiError::field(&field, format!("there is no switch port {id} at this site"));
    let found = port::Entity::find_by_id(id).one(db).await?.ok_or_else(none)?;
    let device = network_device::Entity::find_by_id(found.network_device_id).one(db).await?.ok_or_else(none)?;
    if device.site_id != endpoint.site_id {
        return Err(none());
    }
    let taken =
        |by: String| Err(ApiError::conflict(format!("{field}: port {} of {} has {by}", found.name, device.name)));
    let server = server_interface::Entity::find()
        .filter(server_interface::Column::NetworkDeviceId.eq(device.id))
        .filter(server_interface::Column::NetworkDevicePort.eq(&found.name))
        .one(db)
        .await?;
    if let Some(server) = server {
        return taken(format!("server {} behind it", server.server_id));
    }
    let end =
        |d: fabric_link::Column, p: fabric_link::Column| Condition::all().add(d.eq(device.id)).add(p.eq(&found.name));
    let ends = Condition::any()
        .add(end(fabric_link::Column::DeviceA, fabric_link::Column::PortA))
        .add(end(fabric_link::Column::DeviceB, fabric_link::Column::PortB));
    if let Some(link) = fabric_link::Entity::find().filter(ends).one(db).await? {
        return taken(format!("link {} of a fabric on it", link.id));
    }
    let other = interface::Entity::find()
        .filter(interface::Column::NetworkDeviceId.eq(device.id))
        .filter(interface::Column::Port.eq(&found.name))
        .one(db)
        .await?;
    if let Some(other) = other.filter(|o| Some(o.id) != but) {
        return taken(format!("endpoint {} on it", other.endpoint_id));
    }
    Ok(found)
}

fn mac(body: &Map<String, Value>, at: &str) -> Result<Option<String>, ApiError> {
    let given = body.get("macAddress").and_then(Value::as_str).filter(|m| !m.is_empty());
    Ok(given.map(|m| model::validate::mac(&format!("{at}macAddress"), m)).transpose()?)
}

/// Puts an endpoint on a port. `at` stands before the names of fields in errors.
pub(crate) async fn attach<C: ConnectionTrait>(
    txn: &C,
    endpoint: &endpoint::Model,
    body: &Map<String, Value>,
    at: &str,
) -> Result<interface::Model, ApiError> {
    let mac = mac(body, at)?;
    let port = wanted(txn, endpoint, body, at, None).await?;
    let mut row = interface::new();
    row.endpoint_id = Set(endpoint.id);
    row.network_device_id = Set(port.network_device_id);
    row.port = Set(port.name);
    row.mac_address = Set(mac);
    Ok(row.insert(txn).await?)
}

async fn of_endpoint(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let endpoint = find_endpoint(&ctx, db).await?;
    let select = interface::Entity::find().filter(interface::Column::EndpointId.eq(endpoint.id));
    let query = ListQuery::parse(&ctx.query, MAX_ROWS)?;
    let search = [interface::Column::Port, interface::Column::MacAddress];
    let page = query.run(db, select, FIELDS, &search, interface::Column::Id).await?;
    let ports = ports(db, &page.rows).await?;
    let data = page.rows.iter().map(|i| wire(i, &ports)).collect();
    Ok(Reply::Json(query.body(ctx.operation.path, page.total, data)))
}

async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<(endpoint::Model, interface::Model), ApiError> {
    let endpoint = find_endpoint(ctx, db).await?;
    let id = ctx.id("endpointInterfaceId")?;
    let found = interface::Entity::find_by_id(id).one(db).await?.filter(|i| i.endpoint_id == endpoint.id);
    Ok((endpoint, found.ok_or_else(|| ApiError::not_found("interface of this endpoint", id))?))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let (_, found) = find(&ctx, db).await?;
    Ok(Reply::Tagged(whole_wire(db, &found).await?, found.revision))
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let endpoint = find_endpoint(&ctx, &txn).await?;
    let made = attach(&txn, &endpoint, &ctx.body, "").await?;
    let wire = whole_wire(&txn, &made).await?;
    let title = format!("Endpoint {} is on port {}", endpoint.label, made.port);
    record(&ctx, &txn, "endpoint.attach", title, ("endpoint", endpoint.id), json!({"after": wire})).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire, made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let mac = mac(&ctx.body, "")?;
    let txn = ctx.app.db().begin().await?;
    let (endpoint, found) = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    let mut row = found.edit();
    if ctx.int("networkDeviceInterfaceId").is_some() {
        let port = wanted(&txn, &endpoint, &ctx.body, "", Some(found.id)).await?;
        row.network_device_id = Set(port.network_device_id);
        row.port = Set(port.name);
    }
    if ctx.has("macAddress") {
        row.mac_address = Set(mac);
    }
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    let (before, now) = (whole_wire(&txn, &found).await?, whole_wire(&txn, &after).await?);
    let title = format!("Endpoint {}: port {} changed", endpoint.label, after.port);
    let context = json!({"before": before, "after": now});
    record(&ctx, &txn, "endpoint.interface", title, ("endpoint", endpoint.id), context).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(now, after.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let (endpoint, found) = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    interface::Entity::delete_by_id(found.id).exec(&txn).await?;
    let title = format!("Endpoint {} is off port {}", endpoint.label, found.port);
    record(&ctx, &txn, "endpoint.detach", title, ("endpoint", endpoint.id), json!({})).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

/// All ports of a switch, and the endpoint on each.
async fn of_device(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let device = find_device(&ctx, db).await?;
    let ports = port::Entity::find()
        .filter(port::Column::NetworkDeviceId.eq(device.id))
        .order_by_asc(port::Column::Id)
        .all(db)
        .await?;
    let on: HashMap<String, interface::Model> = interface::Entity::find()
        .filter(interface::Column::NetworkDeviceId.eq(device.id))
        .all(db)
        .await?
        .into_iter()
        .map(|i| (i.port.clone(), i))
        .collect();
    let data: Vec<Value> = ports
        .iter()
        .map(|p| {
            let i = on.get(&p.name);
            json!({
                "networkDeviceId": device.id, "networkDeviceInterfaceId": p.id, "networkDeviceInterfaceName": p.name, "endpointId": i.map(|i| i.endpoint_id),
                "endpointInterfaceId": i.map(|i| i.id),
            })
        })
        .collect();
    Ok(Reply::Json(json!({"data": data, "links": []})))
}
