//! Interfaces of instances and groups, as older clients see them: read from what is deployed and designed.

use std::collections::HashMap;

use model::Id;
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use store::{
    entity::{network_connection, server_instance as instance, server_instance_group as group, server_interface},
    list::{ListQuery, Revisioned, cas},
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{MAX_ROWS, record, server_instance, server_instance_group},
    planning::load,
    routes,
};

routes! {
    "getServerInstanceInterfaces" => of_instance,
    "getServerInstanceInterface" => one_of_instance,
    "getServerInstanceGroupInterfaces" => of_group,
    "getServerInstanceGroupInterface" => one_of_group,
    "getServerInstanceGroupNetworkConfiguration" => networking,
    "updateServerInstanceInterfaceConfig" => label,
    "updateServerInstanceGroupNetworkConfiguration" => rename_networking,
}

/// The ports of a deployed instance, each with the interface of its server.
async fn interfaces<C: ConnectionTrait>(db: &C, i: &instance::Model) -> Result<Vec<Value>, ApiError> {
    let Some(state) = load::deployed(i) else { return Ok(Vec::new()) };
    let rows = server_interface::Entity::find()
        .filter(server_interface::Column::ServerId.eq(state.server_id))
        .order_by_asc(server_interface::Column::Position)
        .all(db)
        .await?;
    let by_mac: HashMap<&str, &server_interface::Model> = rows.iter().map(|r| (r.mac.as_str(), r)).collect();
    let ports = state.ports.iter().enumerate().filter_map(|(n, p)| Some((n, p, *by_mac.get(p.mac.as_str())?)));
    Ok(ports
        .map(|(n, port, row)| {
            let name = i.extra["interfaceLabels"][&port.mac].as_str().unwrap_or(&port.interface);
            let network = port.untagged_network.or_else(|| port.networks.iter().next().copied());
            let config = json!({
                "revision": i.revision, "label": name, "updatedTimestamp": i.updated_at, "instanceId": i.id, "index": n, "capacityMbps": row.speed_mbps,
                "networkId": network, "serverInterfaceId": row.id, "infrastructureDeployId": i.deploy_id, "deployType": i.deploy_type, "deployStatus": i.deploy_status,
            });
            json!({
                "id": row.id, "revision": i.revision, "label": name, "createdTimestamp": i.created_at, "updatedTimestamp": i.updated_at,
                "infrastructureId": i.infrastructure_id, "instanceId": i.id, "index": n, "capacityMbps": row.speed_mbps, "networkId": network,
                "vlanIdentifier": port.vlans.untagged, "serverInterfaceId": row.id, "dirtyBit": false, "serviceStatus": i.service_status, "config": config, "links": [],
            })
        })
        .collect())
}

fn page(ctx: &Ctx, all: Vec<Value>) -> Result<Reply, ApiError> {
    let query = ListQuery::parse(&ctx.query, MAX_ROWS)?;
    let total = all.len() as u64;
    let skip = query.page.saturating_sub(1).saturating_mul(query.limit);
    let rows = all.into_iter().skip(usize::try_from(skip).unwrap_or(usize::MAX));
    let rows = rows.take(usize::try_from(query.limit).unwrap_or(usize::MAX)).collect();
    Ok(Reply::Json(query.body(ctx.operation.path, total, rows)))
}

fn pick(ctx: &Ctx, all: Vec<Value>) -> Result<Reply, ApiError> {
    let id = ctx.id("interfaceId")?;
    let found = all.into_iter().find(|v| v["id"].as_i64() == Some(id));
    found.map(Reply::Json).ok_or_else(|| ApiError::not_found("interface", id))
}

async fn of_instance(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let (found, _) = server_instance::find(&ctx, db).await?;
    page(&ctx, interfaces(db, &found).await?)
}

async fn one_of_instance(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let (found, _) = server_instance::find(&ctx, db).await?;
    pick(&ctx, interfaces(db, &found).await?)
}

/// An interface's label. What it carries is for the connections of its group to say, and how fast it is for its cable.
async fn label(ctx: Ctx) -> Result<Reply, ApiError> {
    for (field, words) in [
        ("networkId", "the group's connections say which networks its servers are on; change those"),
        ("capacityMbps", "an interface is as fast as its server's hardware"),
    ] {
        if ctx.body.get(field).is_some_and(|v| !v.is_null()) {
            return Err(ApiError::field(field, words));
        }
    }
    let label = ctx.text("label").map(|l| model::validate::name("label", l)).transpose()?;
    let txn = ctx.app.db().begin().await?;
    let (found, _) = server_instance::find(&ctx, &txn).await?;
    let id = ctx.id("interfaceId")?;
    let all = interfaces(&txn, &found).await?;
    let mine = all.iter().find(|v| v["id"].as_i64() == Some(id));
    let mine = mine.ok_or_else(|| ApiError::not_found("interface", id))?;
    ctx.check_revision(found.revision)?;
    let Some(label) = label else { return Ok(Reply::Tagged(mine["config"].clone(), found.revision)) };
    let others = all.iter().filter(|v| v["id"].as_i64() != Some(id));
    if let Some(other) = others.clone().find(|v| v["label"] == label.as_str()) {
        return Err(ApiError::conflict(format!(
            "label: interface {} of the instance is called {label:?} already",
            other["id"]
        )));
    }
    let row = server_interface::Entity::find_by_id(id).one(&txn).await?;
    let mac = row.map(|r| r.mac).ok_or_else(|| ApiError::not_found("interface", id))?;
    let mut extra = found.extra.clone();
    extra["interfaceLabels"][&mac] = label.clone().into();
    let mut row = found.edit();
    row.extra = Set(extra);
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    let title = format!("Interface {} of server instance {} is called {label}", mine["label"], after.label);
    let context = json!({"interfaceId": id, "before": mine["label"], "after": label});
    record(&ctx, &txn, "server_instance.interface", title, ("server_instance", after.id), context).await?;
    let now = interfaces(&txn, &after).await?.into_iter().find(|v| v["id"].as_i64() == Some(id));
    txn.commit().await?;
    Ok(Reply::Tagged(now.map_or(Value::Null, |v| v["config"].clone()), after.revision))
}

/// One for each connection of a group to a logical network.
async fn connections<C: ConnectionTrait>(db: &C, g: &group::Model) -> Result<Vec<Value>, ApiError> {
    let rows = network_connection::Entity::find()
        .filter(network_connection::Column::GroupId.eq(g.id))
        .order_by_asc(network_connection::Column::Id)
        .all(db)
        .await?;
    let wire = |(n, c): (usize, &network_connection::Model)| {
        let label = format!("network-{}", c.logical_network_id);
        let network: Id = c.logical_network_id;
        let config = json!({
            "revision": c.revision, "label": label, "updatedTimestamp": c.updated_at, "groupId": g.id, "index": n, "networkId": network,
            "infrastructureDeployId": g.deploy_id, "deployType": g.deploy_type, "deployStatus": g.deploy_status,
        });
        json!({
            "id": c.id, "revision": c.revision, "label": label, "createdTimestamp": c.created_at, "updatedTimestamp": c.updated_at,
            "infrastructureId": g.infrastructure_id, "groupId": g.id, "index": n, "networkId": network, "serviceStatus": g.service_status, "config": config, "links": [],
        })
    };
    Ok(rows.iter().enumerate().map(wire).collect())
}

async fn of_group(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let found = server_instance_group::find(&ctx, db).await?;
    page(&ctx, connections(db, &found).await?)
}

async fn one_of_group(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let found = server_instance_group::find(&ctx, db).await?;
    pick(&ctx, connections(db, &found).await?)
}

/// The networking of a group as a thing of its own; its connections are asked for by themselves.
async fn networking(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let g = server_instance_group::find(&ctx, db).await?;
    let of = crate::kinds::infrastructure::find(&ctx, db, g.infrastructure_id).await?;
    Ok(Reply::Tagged(networking_wire(&g, of.site_id), g.revision))
}

fn networking_wire(g: &group::Model, site_id: Id) -> Value {
    let name = g.meta.as_ref().and_then(|m| m["networkName"].as_str()).unwrap_or(&g.label);
    json!({
        "id": g.id.to_string(), "siteId": site_id, "name": name, "revision": g.revision.to_string(), "createdTimestamp": g.created_at,
        "updatedTimestamp": g.updated_at, "links": [],
    })
}

/// The name that the networking of a group has for people. Its connections are changed one by one.
async fn rename_networking(ctx: Ctx) -> Result<Reply, ApiError> {
    if let Some(other) = ctx.body.keys().find(|k| *k != "name") {
        return Err(ApiError::field(other, "is not changed here: connections are made and changed one by one"));
    }
    let name = match ctx.body.get("name") {
        Some(Value::String(name)) => model::validate::name("name", name)?,
        Some(_) => return Err(ApiError::field("name", "must be a string")),
        None => return Err(ApiError::field("name", "is required")),
    };
    let txn = ctx.app.db().begin().await?;
    let g = server_instance_group::find(&ctx, &txn).await?;
    let of = crate::kinds::infrastructure::find(&ctx, &txn, g.infrastructure_id).await?;
    ctx.check_revision(g.revision)?;
    let mut meta = g.meta.clone().unwrap_or_else(|| json!({}));
    meta["networkName"] = name.clone().into();
    let mut row = g.edit();
    row.meta = Set(Some(meta));
    let after = cas(&txn, &g, row).await?.ok_or_else(|| ApiError::stale(g.revision + 1))?;
    let title = format!("Networking of group {} is called {name}", after.label);
    let context = json!({"after": name});
    record(&ctx, &txn, "server_instance_group.networking", title, ("server_instance_group", after.id), context).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(networking_wire(&after, of.site_id), after.revision))
}
