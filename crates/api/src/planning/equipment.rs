//! What a site has: fabrics, switches, servers.

use std::collections::{BTreeSet, HashMap};

use model::{Id, bmc::PowerState, server::ServerStatus};
use planner::{Cable, Fabric, Interface, Server, Switch, SwitchLink};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, QueryFilter, QuerySelect, QueryTrait,
    sea_query::SelectStatement,
};
use serde_json::Value;
use store::entity::{
    fabric_device, fabric_link, network_device, network_fabric, pkey_allocation, server, server_instance_group,
    server_interface, vlan_allocation,
};

use super::design;
use crate::context::whole;

/// Columns of a server that planning reads; its inventory stays where it is.
#[derive(FromQueryResult)]
struct ServerRow {
    id: i64,
    site_id: i64,
    serial: Option<String>,
    bmc_address: Option<String>,
    server_type_id: Option<i64>,
    status: String,
    power: String,
    disk_count: i64,
    rack: Option<String>,
}

/// Fabrics of a site.
pub async fn fabrics<C: ConnectionTrait>(db: &C, site_id: Id) -> Result<Vec<Fabric>, DbErr> {
    let rows = network_fabric::Entity::find().filter(network_fabric::Column::SiteId.eq(site_id)).all(db).await?;
    let ids: Vec<Id> = rows.iter().map(|f| f.id).collect();
    let taken = vlan_allocation::Entity::find().filter(vlan_allocation::Column::FabricId.is_in(ids)).all(db).await?;
    let taken_keys = pkey_allocation::Entity::find()
        .filter(pkey_allocation::Column::FabricId.is_in(rows.iter().map(|f| f.id)))
        .all(db)
        .await?;
    let mut keys: HashMap<Id, BTreeSet<u16>> = HashMap::new();
    for row in taken_keys {
        keys.entry(row.fabric_id).or_default().extend(u16::try_from(row.pkey));
    }
    let mut used: HashMap<Id, BTreeSet<u16>> = HashMap::new();
    for row in taken {
        used.entry(row.fabric_id).or_default().extend(u16::try_from(row.vlan));
    }
    Ok(rows
        .into_iter()
        .map(|f| {
            let mut vlans_used = used.remove(&f.id).unwrap_or_default();
            for (low, high) in design::reserved_vlans(&f.configuration) {
                vlans_used.extend(low..=high);
            }
            Fabric {
                id: f.id,
                vlan_ranges: design::vlan_ranges(&f.configuration),
                vlans_used,
                spanning_tree: f.extra["spanningTree"] == true,
                unmanaged: design::unmanaged(&f.configuration),
                infiniband: design::infiniband(&f.configuration, keys.remove(&f.id).unwrap_or_default()),
                name: f.name,
            }
        })
        .collect())
}

/// Switches of its fabrics, with the links between them.
pub async fn switches<C: ConnectionTrait>(db: &C, site_id: Id) -> Result<Vec<Switch>, DbErr> {
    let here = || {
        network_device::Entity::find()
            .select_only()
            .column(network_device::Column::Id)
            .filter(network_device::Column::SiteId.eq(site_id))
            .into_query()
    };
    let devices = network_device::Entity::find().filter(network_device::Column::SiteId.eq(site_id)).all(db).await?;
    let members = fabric_device::Entity::find()
        .filter(fabric_device::Column::NetworkDeviceId.in_subquery(here()))
        .all(db)
        .await?;
    let cables = fabric_link::Entity::find().filter(fabric_link::Column::DeviceA.in_subquery(here())).all(db).await?;
    let fabric_of: HashMap<Id, Id> = members.iter().map(|m| (m.network_device_id, m.fabric_id)).collect();
    let mut links: HashMap<Id, Vec<SwitchLink>> = HashMap::new();
    for c in cables {
        for (device, port, peer, peer_port) in
            [(c.device_a, &c.port_a, c.device_b, &c.port_b), (c.device_b, &c.port_b, c.device_a, &c.port_a)]
        {
            links.entry(device).or_default().push(SwitchLink {
                port: port.clone(),
                peer_device_id: peer,
                peer_port: Some(peer_port.clone()),
            });
        }
    }
    Ok(devices
        .into_iter()
        .filter_map(|d| {
            Some(Switch {
                id: d.id,
                name: d.name,
                role: d.position,
                fabric_id: *fabric_of.get(&d.id)?,
                quarantine_vlan: d.quarantine_vlan.and_then(|v| u16::try_from(v).ok()),
                links: links.remove(&d.id).unwrap_or_default(),
            })
        })
        .collect())
}

/// Free servers of the needed types, those held, and the switch ports of everybody else's.
pub async fn servers<C: ConnectionTrait>(
    db: &C,
    site_id: Id,
    groups: &[server_instance_group::Model],
    held: &BTreeSet<Id>,
    switches: &[Switch],
) -> Result<(Vec<Server>, BTreeSet<(Id, String)>), DbErr> {
    let types: BTreeSet<Id> =
        groups.iter().filter_map(|g| g.design.get("defaultServerTypeId").and_then(whole)).collect();
    let free = Condition::all()
        .add(server::Column::SiteId.eq(site_id))
        .add(server::Column::Status.eq(ServerStatus::Available.as_str()))
        .add(server::Column::AdministrationState.eq("managed"))
        .add(server::Column::Maintenance.is_null())
        .add(server::Column::ServerTypeId.is_in(types));
    let mine = Condition::any().add(free).add(server::Column::Id.is_in(held.iter().copied()));
    let rows = server::Entity::find()
        .select_only()
        .columns([
            server::Column::Id,
            server::Column::SiteId,
            server::Column::Serial,
            server::Column::BmcAddress,
            server::Column::ServerTypeId,
            server::Column::Status,
            server::Column::Power,
            server::Column::DiskCount,
            server::Column::Rack,
        ])
        .filter(mine.clone())
        .into_model::<ServerRow>()
        .all(db)
        .await?;
    let ids = |condition: Condition| -> SelectStatement {
        server::Entity::find().select_only().column(server::Column::Id).filter(condition).into_query()
    };
    let nics = server_interface::Entity::find()
        .filter(server_interface::Column::ServerId.in_subquery(ids(mine)))
        .all(db)
        .await?;
    let known: BTreeSet<Id> = switches.iter().map(|s| s.id).collect();
    let mut interfaces: HashMap<Id, Vec<Interface>> = HashMap::new();
    for n in nics {
        let cable = n.network_device_id.filter(|d| known.contains(d)).zip(n.network_device_port);
        interfaces.entry(n.server_id).or_default().push(Interface {
            link_up: n.link_up,
            ib_fabric: n.default_fabric_id.filter(|_| n.guid.is_some()),
            guid: n.guid,
            cable: cable.map(|(device_id, port)| Cable { device_id, port }),
            ..Interface::new(
                u32::try_from(n.position).unwrap_or(0),
                n.name,
                n.mac,
                u32::try_from(n.speed_mbps).unwrap_or(0),
            )
        });
    }
    let tenants = ServerStatus::ALL.iter().filter(|s| s.holds_tenant_data()).map(|s| s.as_str());
    let elsewhere = Condition::all()
        .add(server::Column::SiteId.eq(site_id))
        .add(server::Column::Id.is_not_in(held.iter().copied()))
        .add(
            Condition::any()
                .add(server::Column::Status.is_in(tenants))
                .add(server::Column::AdministrationState.ne("managed")),
        );
    let occupied = server_interface::Entity::find()
        .select_only()
        .columns([server_interface::Column::NetworkDeviceId, server_interface::Column::NetworkDevicePort])
        .filter(server_interface::Column::ServerId.in_subquery(ids(elsewhere)))
        .filter(server_interface::Column::NetworkDeviceId.is_not_null())
        .filter(server_interface::Column::NetworkDevicePort.is_not_null())
        .into_tuple::<(i64, String)>()
        .all(db)
        .await?;
    // Sizes of disks matter for what is lost, so only for servers that are held.
    let sizes: HashMap<Id, u64> = server::Entity::find()
        .select_only()
        .columns([server::Column::Id, server::Column::Inventory])
        .filter(server::Column::Id.is_in(held.iter().copied()))
        .into_tuple::<(i64, Value)>()
        .all(db)
        .await?
        .into_iter()
        .map(|(id, inventory)| (id, disk_gb(&inventory)))
        .collect();
    let servers = rows
        .into_iter()
        .filter_map(|r| {
            let name = r.serial.or(r.bmc_address).unwrap_or_else(|| format!("server {}", r.id));
            Some(Server {
                id: r.id,
                name,
                type_id: r.server_type_id.or_else(|| held.contains(&r.id).then_some(0))?,
                site_id: r.site_id,
                available: r.status == ServerStatus::Available.as_str() && !held.contains(&r.id),
                power: match r.power.as_str() {
                    "on" => PowerState::On,
                    "off" => PowerState::Off,
                    _ => PowerState::Unknown,
                },
                rack: r.rack,
                interfaces: interfaces.remove(&r.id).unwrap_or_default(),
                disks: u32::try_from(r.disk_count).unwrap_or(0),
                disk_gb: sizes.get(&r.id).copied().unwrap_or(0),
                resource_pools: BTreeSet::new(),
            })
        })
        .collect();
    Ok((servers, occupied.into_iter().collect()))
}

fn disk_gb(inventory: &Value) -> u64 {
    let disks = inventory["disks"].as_array().map_or(&[][..], Vec::as_slice);
    disks.iter().filter_map(|d| d["size_gb"].as_u64()).sum()
}
