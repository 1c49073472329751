//! The network configuration of a new system: netplan version 2, written as JSON.

use std::{collections::BTreeMap, net::Ipv4Addr};

use model::{Id, network::NetworkConnection};
use serde_json::{Map, Value, json};

use crate::{
    input::{Address, Group, LogicalNetwork, NetworkAllocation},
    place::Port,
};

/// The configuration for one instance. `links` are the positions of the ports that serve each fabric.
pub(crate) fn config(
    group: &Group,
    ports: &[Port],
    links: &BTreeMap<Id, Vec<usize>>,
    networks: &BTreeMap<Id, &LogicalNetwork>,
    allocations: &BTreeMap<Id, NetworkAllocation>,
    addresses: &[Address],
    dns_servers: &[Ipv4Addr],
) -> Value {
    let (mut ethernets, mut bonds, mut vlans) = (Map::new(), Map::new(), Map::new());
    let mut nic = 0;
    for (bond, (fabric, used)) in links.iter().enumerate() {
        let here: Vec<&NetworkConnection> = group
            .design
            .connections
            .iter()
            .filter(|c| networks.get(&c.logical_network_id).is_some_and(|n| n.fabric_id == *fabric))
            .collect();
        let mtu = here.iter().map(|c| c.mtu).max().unwrap_or(1500);
        let untagged = here.iter().find(|c| !c.tagged);
        let mut top = base(mtu, untagged.copied(), addresses, dns_servers);
        let mut names = Vec::new();
        for position in used {
            let name = format!("nic{nic}");
            nic += 1;
            let mut entry = if used.len() == 1 { std::mem::take(&mut top) } else { base(mtu, None, &[], &[]) };
            entry.insert("match".into(), json!({"macaddress": ports[*position].mac}));
            entry.insert("set-name".into(), json!(name));
            ethernets.insert(name.clone(), Value::Object(entry));
            names.push(name);
        }
        let link = if names.len() > 1 {
            let name = format!("bond{bond}");
            let active_active = here.iter().filter_map(|c| c.redundancy.as_ref()).any(|r| r.mode == "active-active");
            // balance-alb uses both ports without any aggregation on the switches.
            let mode = if active_active { "balance-alb" } else { "active-backup" };
            top.insert("interfaces".into(), json!(names));
            top.insert("parameters".into(), json!({"mode": mode, "mii-monitor-interval": 100}));
            bonds.insert(name.clone(), Value::Object(top));
            name
        } else {
            names.pop().unwrap_or_default()
        };
        for connection in here.iter().filter(|c| c.tagged) {
            let Some(vlan) = allocations.get(&connection.logical_network_id).and_then(|a| a.vlan) else { continue };
            let mut entry = base(connection.mtu, Some(connection), addresses, dns_servers);
            entry.insert("id".into(), json!(vlan));
            entry.insert("link".into(), json!(link));
            vlans.insert(format!("{link}.{vlan}"), Value::Object(entry));
        }
    }
    let mut config = Map::from_iter([("version".to_owned(), json!(2)), ("ethernets".to_owned(), ethernets.into())]);
    if !bonds.is_empty() {
        config.insert("bonds".into(), bonds.into());
    }
    if !vlans.is_empty() {
        config.insert("vlans".into(), vlans.into());
    }
    Value::Object(config)
}

/// MTU, addresses, default route and name servers of one interface.
fn base(
    mtu: u32,
    connection: Option<&NetworkConnection>,
    addresses: &[Address],
    dns_servers: &[Ipv4Addr],
) -> Map<String, Value> {
    let mut entry = Map::from_iter([("mtu".to_owned(), json!(mtu))]);
    let Some(connection) = connection else { return entry };
    let own: Vec<&Address> = addresses.iter().filter(|a| a.network_id == connection.logical_network_id).collect();
    if !own.is_empty() {
        let list: Vec<String> = own.iter().map(|a| format!("{}/{}", a.address, a.subnet.prefix_len())).collect();
        entry.insert("addresses".into(), json!(list));
    }
    if connection.provides_default_route {
        if let Some(gateway) = own.iter().find_map(|a| a.gateway) {
            // Not `default`: cloud-init up to 22.4, which Debian 12 has, takes that for a broken address and configures nothing at all.
            entry.insert("routes".into(), json!([{"to": "0.0.0.0/0", "via": gateway}]));
        }
        if !dns_servers.is_empty() {
            entry.insert("nameservers".into(), json!({"addresses": dns_servers}));
        }
    }
    entry
}
