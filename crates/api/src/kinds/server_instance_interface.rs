//! Interfaces of instances and groups, as older clients see them: read from what is deployed and designed.

use std::collections::HashMap;

use model::Id;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use store::{
    entity::{network_connection, server_instance as instance, server_instance_group as group, server_interface},
    list::ListQuery,
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{MAX_ROWS, server_instance, server_instance_group},
    planning::load,
    routes,
};

routes! {
    "getServerInstanceInterfaces" => of_instance,
    "getServerInstanceInterface" => one_of_instance,
    "getServerInstanceGroupInterfaces" => of_group,
    "getServerInstanceGroupInterface" => one_of_group,
    "getServerInstanceGroupNetworkConfiguration" => networking,
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
            let network = port.untagged_network.or_else(|| port.networks.iter().next().copied());
            let config = json!({
                "revision": i.revision, "label": port.interface, "updatedTimestamp": i.updated_at, "instanceId": i.id, "index": n, "capacityMbps": row.speed_mbps,
                "networkId": network, "serverInterfaceId": row.id, "infrastructureDeployId": i.deploy_id, "deployType": i.deploy_type, "deployStatus": i.deploy_status,
            });
            json!({
                "id": row.id, "revision": i.revision, "label": port.interface, "createdTimestamp": i.created_at, "updatedTimestamp": i.updated_at,
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
    Ok(Reply::Tagged(
        json!({
            "id": g.id.to_string(), "siteId": of.site_id, "name": g.label, "revision": g.revision.to_string(), "createdTimestamp": g.created_at,
            "updatedTimestamp": g.updated_at, "links": [],
        }),
        g.revision,
    ))
}
