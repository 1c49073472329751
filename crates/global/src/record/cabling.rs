//! Who is at the other end of a cable, from what LLDP tells at either end. What is not heard any more stays: a server that is off is
//! silent, its cable is still there.

use std::collections::{BTreeMap, HashMap, HashSet};

use model::{
    Id,
    bmc::Nic,
    switch::{LldpNeighbor, PortState},
    validate,
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::json;
use store::{
    entity::{fabric_device, fabric_link, network_device, network_device_port, server, server_interface},
    list::Revisioned,
};

use super::{RecordError, server_event, site_event};

fn mac(text: &str) -> Option<String> {
    validate::mac("mac", text).ok()
}

/// Puts an interface behind a port. Whoever was there before is not any more.
async fn connect<C: ConnectionTrait>(
    txn: &C,
    interface: &server_interface::Model,
    device_id: Id,
    port: &str,
) -> Result<bool, RecordError> {
    use server_interface::{Column, Entity};
    if interface.network_device_id == Some(device_id) && interface.network_device_port.as_deref() == Some(port) {
        return Ok(false);
    }
    let before = Entity::find()
        .filter(Column::NetworkDeviceId.eq(device_id))
        .filter(Column::NetworkDevicePort.eq(port))
        .filter(Column::Id.ne(interface.id))
        .all(txn)
        .await?;
    for other in before {
        let mut row = other.edit();
        row.network_device_id = Set(None);
        row.network_device_port = Set(None);
        row.update(txn).await?;
    }
    let mut row = interface.edit();
    row.network_device_id = Set(Some(device_id));
    row.network_device_port = Set(Some(port.to_owned()));
    row.update(txn).await?;
    if let (Some(old_device), Some(old_port)) = (interface.network_device_id, &interface.network_device_port) {
        moved(txn, interface, (old_device, old_port), (device_id, port)).await?;
    }
    Ok(true)
}

/// A cable that is somewhere else now: what was deployed to the old port does not follow it.
async fn moved<C: ConnectionTrait>(
    txn: &C,
    interface: &server_interface::Model,
    from: (Id, &str),
    to: (Id, &str),
) -> Result<(), RecordError> {
    let Some(row) = server::Entity::find_by_id(interface.server_id).one(txn).await? else { return Ok(()) };
    let devices = network_device::Entity::find().filter(network_device::Column::Id.is_in([from.0, to.0]));
    let devices = devices.all(txn).await?;
    let name = |(id, port): (Id, &str)| {
        let device = devices.iter().find(|d| d.id == id).map_or("a switch that is gone", |d| d.name.as_str());
        format!("{device} {port}")
    };
    let title = format!("Server {}: {} was moved to another port", api::facts::server_name(&row), interface.name);
    let message = format!(
        "It was at {} and is at {} now. If the server is deployed, plan and deploy its infrastructure again.",
        name(from),
        name(to)
    );
    server_event(txn, &row, "server.cabling", "warning", title, message, true).await
}

/// From a server's own ear: the switch that each of its interfaces hears.
pub(super) async fn of_server<C: ConnectionTrait>(
    txn: &C,
    row: &server::Model,
    nics: &[Nic],
) -> Result<(), RecordError> {
    let heard: Vec<(&Nic, &LldpNeighbor)> = nics.iter().filter_map(|n| Some((n, n.lldp.as_ref()?))).collect();
    if heard.is_empty() {
        return Ok(());
    }
    let names: HashSet<String> = heard.iter().map(|(_, l)| l.system_name.clone()).collect();
    let chassis: HashSet<String> = heard.iter().filter_map(|(_, l)| mac(&l.chassis)).collect();
    let devices = network_device::Entity::find()
        .filter(network_device::Column::SiteId.eq(row.site_id))
        .filter(
            Condition::any()
                .add(network_device::Column::Name.is_in(names))
                .add(network_device::Column::Mac.is_in(chassis)),
        )
        .all(txn)
        .await?;
    let mine = server_interface::Entity::find().filter(server_interface::Column::ServerId.eq(row.id)).all(txn).await?;
    for (nic, neighbor) in heard {
        let Some(interface) = mine.iter().find(|i| i.mac == nic.mac) else { continue };
        if let Some(device) = known_switch(&devices, neighbor)
            && mac(&neighbor.port).is_none()
            && !neighbor.port.is_empty()
        {
            connect(txn, interface, device.id, &neighbor.port).await?;
        }
    }
    Ok(())
}

fn known_switch<'a>(devices: &'a [network_device::Model], n: &LldpNeighbor) -> Option<&'a network_device::Model> {
    let chassis = mac(&n.chassis);
    let by_mac = devices.iter().find(|d| chassis.is_some() && d.mac == chassis);
    by_mac.or_else(|| devices.iter().find(|d| !n.system_name.is_empty() && d.name == n.system_name))
}

/// From a switch's ear: the servers and switches behind its ports.
pub(super) async fn of_switch<C: ConnectionTrait>(
    txn: &C,
    device: &network_device::Model,
    ports: &BTreeMap<String, PortState>,
) -> Result<(), RecordError> {
    let heard: Vec<(&str, &LldpNeighbor)> =
        ports.iter().filter_map(|(name, p)| Some((name.as_str(), p.lldp.as_ref()?))).collect();
    if heard.is_empty() {
        return Ok(());
    }
    let servers = behind(txn, device, &heard).await?;
    let links = links(txn, device, &heard).await?;
    if servers + links > 0 {
        let title = format!("Switch {}: cabling found", device.name);
        let message = format!("{servers} server interface(s) and {links} link(s) to other switches are new or moved.");
        site_event(
            txn,
            device.site_id,
            Some(("network_device", device.id)),
            "network_device.cabling",
            "info",
            title,
            message,
        )
        .await?;
    }
    Ok(())
}

async fn behind<C: ConnectionTrait>(
    txn: &C,
    device: &network_device::Model,
    heard: &[(&str, &LldpNeighbor)],
) -> Result<usize, RecordError> {
    let macs: HashSet<String> = heard.iter().flat_map(|(_, n)| [mac(&n.port), mac(&n.chassis)]).flatten().collect();
    if macs.is_empty() {
        return Ok(0);
    }
    let named = server_interface::Entity::find().filter(server_interface::Column::Mac.is_in(macs)).all(txn).await?;
    let owners: HashSet<Id> = named.iter().map(|i| i.server_id).collect();
    // Only servers of the switch's own site can be cabled to it.
    let here: HashSet<Id> = server::Entity::find()
        .filter(server::Column::Id.is_in(owners))
        .filter(server::Column::SiteId.eq(device.site_id))
        .all(txn)
        .await?
        .into_iter()
        .map(|s| s.id)
        .collect();
    let all = server_interface::Entity::find().filter(server_interface::Column::ServerId.is_in(here)).all(txn).await?;
    let by_mac: HashMap<&str, &server_interface::Model> = all.iter().map(|i| (i.mac.as_str(), i)).collect();
    let mut new = 0;
    for (port, neighbor) in heard {
        let exact = mac(&neighbor.port).and_then(|m| by_mac.get(m.as_str()).copied());
        let chassis = mac(&neighbor.chassis).and_then(|m| by_mac.get(m.as_str()).copied());
        // A port id that is a name belongs to the server whose chassis speaks.
        let named = chassis.and_then(|c| all.iter().find(|i| i.server_id == c.server_id && i.name == neighbor.port));
        if let Some(interface) = exact.or(named).or(chassis) {
            new += usize::from(connect(txn, interface, device.id, port).await?);
        }
    }
    Ok(new)
}

/// Links between switches of one fabric, entered once, from the lower id to the higher.
async fn links<C: ConnectionTrait>(
    txn: &C,
    device: &network_device::Model,
    heard: &[(&str, &LldpNeighbor)],
) -> Result<usize, RecordError> {
    let Some(fabric_id) = fabric_of(txn, device.id).await? else { return Ok(0) };
    let members: Vec<Id> = fabric_device::Entity::find()
        .filter(fabric_device::Column::FabricId.eq(fabric_id))
        .all(txn)
        .await?
        .into_iter()
        .map(|m| m.network_device_id)
        .collect();
    let peers = network_device::Entity::find()
        .filter(network_device::Column::Id.is_in(members))
        .filter(network_device::Column::Id.ne(device.id))
        .all(txn)
        .await?;
    let mut new = 0;
    for (port, neighbor) in heard {
        let Some(peer) = known_switch(&peers, neighbor) else { continue };
        let Some(far) = far_port(txn, peer.id, &neighbor.port).await? else { continue };
        let near = (device.id, (*port).to_owned());
        let far = (peer.id, far);
        let (a, b) = if near.0 < far.0 { (near, far) } else { (far, near) };
        new += usize::from(link(txn, fabric_id, a, b).await?);
    }
    Ok(new)
}

async fn fabric_of<C: ConnectionTrait>(txn: &C, device_id: Id) -> Result<Option<Id>, RecordError> {
    let found = fabric_device::Entity::find().filter(fabric_device::Column::NetworkDeviceId.eq(device_id)).one(txn);
    Ok(found.await?.map(|m| m.fabric_id))
}

/// The port's name at the other end; some switches send its MAC address instead.
async fn far_port<C: ConnectionTrait>(txn: &C, peer: Id, text: &str) -> Result<Option<String>, RecordError> {
    let Some(mac) = mac(text) else { return Ok(Some(text.to_owned()).filter(|t| !t.is_empty())) };
    let found = network_device_port::Entity::find()
        .filter(network_device_port::Column::NetworkDeviceId.eq(peer))
        .filter(network_device_port::Column::Mac.eq(mac))
        .one(txn)
        .await?;
    Ok(found.map(|p| p.name))
}

async fn link<C: ConnectionTrait>(
    txn: &C,
    fabric_id: Id,
    a: (Id, String),
    b: (Id, String),
) -> Result<bool, RecordError> {
    use fabric_link::Column as C_;
    let end = |at: &(Id, String)| {
        Condition::any()
            .add(Condition::all().add(C_::DeviceA.eq(at.0)).add(C_::PortA.eq(&at.1)))
            .add(Condition::all().add(C_::DeviceB.eq(at.0)).add(C_::PortB.eq(&at.1)))
    };
    let known = fabric_link::Entity::find().filter(Condition::any().add(end(&a)).add(end(&b))).all(txn).await?;
    let same = |l: &&fabric_link::Model| l.device_a == a.0 && l.port_a == a.1 && l.device_b == b.0 && l.port_b == b.1;
    if known.iter().any(|l| same(&l)) {
        return Ok(false);
    }
    // What a person has entered stays until they take it out; what was only heard follows the cable.
    if known.iter().any(|l| l.extra["observed"].as_bool() != Some(true)) {
        return Ok(false);
    }
    for old in known {
        fabric_link::Entity::delete_by_id(old.id).exec(txn).await?;
    }
    let mut row = fabric_link::new();
    row.fabric_id = Set(fabric_id);
    row.device_a = Set(a.0);
    row.port_a = Set(a.1);
    row.device_b = Set(b.0);
    row.port_b = Set(b.1);
    row.extra = Set(json!({"observed": true}));
    row.insert(txn).await?;
    Ok(true)
}
