//! Ports of switches, as last seen, and the servers behind them.

use std::collections::{BTreeMap, HashMap};

use model::{
    Id,
    order::SwitchApply,
    switch::{PortIntent, SwitchPatch},
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use store::{
    entity::{network_device, network_device_port as ports, server_interface},
    list::ListQuery,
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{
        MAX_ROWS,
        network_device::find,
        network_device_job::{group, job},
        record,
    },
    routes,
};

routes! {
    "getNetworkDevicePorts" => of_device,
    "getNetworkDevicePort" => one,
    "setNetworkDevicePortStatus" => set_status,
}

const FIELDS: &[(&str, &str)] = &[("interfaceId", "id"), ("interfaceName", "name"), ("macAddress", "mac")];

/// The number at the end of a port's name.
fn index(name: &str) -> Option<i64> {
    let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.split(|c: char| !c.is_ascii_digit()).next().and_then(|d| d.parse().ok())
}

fn wire(p: &ports::Model, behind: Option<&server_interface::Model>) -> Value {
    let state = |up: Option<bool>| match up {
        Some(true) => "up",
        Some(false) => "down",
        None => "unknown",
    };
    let lldp = (!p.lldp.is_null()).then(|| {
        let part = |name: &str| p.lldp[name].as_str().unwrap_or_default();
        format!("{} {}", part("system_name"), part("port")).trim().to_owned()
    });
    json!({
        "interfaceId": p.id, "networkDeviceId": p.network_device_id, "interfaceName": p.name, "interfaceIndex": index(&p.name), "macAddress": p.mac,
        "serverId": behind.map(|i| i.server_id), "serverInterfaceId": behind.map(|i| i.id), "dirtyBit": 0, "lldpInformation": lldp, "description": p.description,
        "driverDumpCachedJson": {
            "operStatus": state(p.oper_up), "adminStatus": state(p.admin_up), "speedMbps": p.speed_mbps, "mtu": p.mtu, "untaggedVlan": p.untagged, "taggedVlans": p.tagged,
            "lldp": p.lldp,
        },
        "interfaceLLDPInformationServerInterface": behind.map_or_else(|| json!({}), |i| json!({"serverInterfaceId": i.id, "serverId": i.server_id, "macAddress": i.mac})),
        "cachedUpdatedTimestamp": p.observed_at, "links": [],
    })
}

/// The server interface behind each port of a page.
async fn behind<C: ConnectionTrait>(
    db: &C,
    device_id: Id,
    rows: &[ports::Model],
) -> Result<HashMap<String, server_interface::Model>, ApiError> {
    let names: Vec<String> = rows.iter().map(|p| p.name.clone()).collect();
    let found = server_interface::Entity::find()
        .filter(server_interface::Column::NetworkDeviceId.eq(device_id))
        .filter(server_interface::Column::NetworkDevicePort.is_in(names))
        .all(db)
        .await?;
    Ok(found.into_iter().filter_map(|i| Some((i.network_device_port.clone()?, i))).collect())
}

async fn of_device(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let device = find(&ctx, db).await?;
    let select = ports::Entity::find().filter(ports::Column::NetworkDeviceId.eq(device.id));
    let query = ListQuery::parse(&ctx.query, MAX_ROWS)?;
    let search = [ports::Column::Name, ports::Column::Mac, ports::Column::Description];
    let page = query.run(db, select, FIELDS, &search, ports::Column::Id).await?;
    let behind = behind(db, device.id, &page.rows).await?;
    let data = page.rows.iter().map(|p| wire(p, behind.get(&p.name))).collect();
    Ok(Reply::Json(query.body(ctx.operation.path, page.total, data)))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let device = find(&ctx, db).await?;
    let id = ctx.id("portId")?;
    let found = ports::Entity::find_by_id(id).one(db).await?.filter(|p| p.network_device_id == device.id);
    let found = found.ok_or_else(|| ApiError::not_found("port of this network device", id))?;
    let behind = behind(db, device.id, std::slice::from_ref(&found)).await?;
    Ok(Reply::Tagged(wire(&found, behind.get(&found.name)), found.revision))
}

/// Switches ports on or off.
async fn set_status(ctx: Ctx) -> Result<Reply, ApiError> {
    let up = ctx.flag("status").ok_or_else(|| ApiError::field("status", "is required"))?;
    let names: Vec<String> =
        ctx.body["ports"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    if names.is_empty() {
        return Err(ApiError::field("ports", "is empty: name at least one port"));
    }
    let txn = ctx.app.db().begin().await?;
    let device: network_device::Model = find(&ctx, &txn).await?;
    let known = ports::Entity::find()
        .filter(ports::Column::NetworkDeviceId.eq(device.id))
        .filter(ports::Column::Name.is_in(names.clone()))
        .all(&txn)
        .await?;
    if let Some(unknown) = names.iter().find(|n| !known.iter().any(|p| p.name == **n)) {
        return Err(ApiError::field("ports", format!("switch {} has no port {unknown:?}", device.name)));
    }
    let intent = PortIntent { admin_up: Some(up), ..PortIntent::default() };
    let of_ports: BTreeMap<String, PortIntent> = names.iter().map(|n| (n.clone(), intent.clone())).collect();
    let patch = SwitchPatch { ports: of_ports, ..SwitchPatch::default() };
    let title = format!("Switch {} {} of {}", if up { "on" } else { "off" }, names.join(", "), device.name);
    let apply = SwitchApply { network_device_id: device.id, patch };
    let job = job("ports", &device, title.clone(), &apply, &[])?;
    let mut group = group("network_device_ports", &device, &title);
    group.params = json!({"networkDeviceId": device.id, "ports": names, "up": up});
    let created = ctx.app.engine().create_group(&txn, group, vec![job]).await?;
    let info = json!({"jobGroupId": created.group_id, "jobId": created.job_ids.get("ports")});
    record(&ctx, &txn, "network_device.ports", title, ("network_device", device.id), info.clone()).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    Ok(Reply::Json(json!({"jobInfo": info})))
}

#[cfg(test)]
mod tests {
    use super::index;

    #[test]
    fn ports_are_numbered_by_their_name() {
        assert_eq!(index("swp12"), Some(12));
        assert_eq!(index("swp1s3"), Some(1));
        assert_eq!(index("bond"), None);
    }
}
