//! What a switch observes: link state, LLDP neighbours, MAC addresses, platform, version.

use serde_json::{Map, Value, json};

use super::{Nvue, config};
use crate::{
    lock,
    topology::{Peer, Role, mac_text, switch_mac},
};

const VERSION: &str = "Cumulus Linux 5.11.1";

/// The operational view at a path: the applied configuration with what is observed.
pub fn read(nvue: &Nvue, path: &[String]) -> Option<Value> {
    let spec = &nvue.switch.spec;
    let (first, rest) = match path.split_first() {
        Some((first, rest)) => (first.as_str(), rest),
        None => {
            let mut all = lock(&nvue.switch.state).applied.clone();
            for key in ["interface", "system", "platform", "bridge"] {
                if let (Value::Object(all), Some(value)) = (&mut all, read(nvue, &[key.to_owned()])) {
                    all.insert(key.into(), value);
                }
            }
            return Some(all);
        }
    };
    match first {
        "interface" => match rest.split_first() {
            None => {
                let mut all = Map::new();
                for name in
                    ["eth0", "lo"].into_iter().map(str::to_owned).chain((1..=spec.ports).map(|n| format!("swp{n}")))
                {
                    if let Some(value) = interface(nvue, &name) {
                        all.insert(name, value);
                    }
                }
                Some(Value::Object(all))
            }
            Some((name, rest)) => config::get(&interface(nvue, name)?, rest).cloned(),
        },
        "system" => {
            let hostname = lock(&nvue.switch.state).applied.pointer("/system/hostname").cloned();
            let system = json!({
                "hostname": hostname.unwrap_or_else(|| spec.hostname.clone().into()),
                "build": VERSION, "product-name": "Cumulus Linux", "product-release": "5.11.1",
                "timezone": "Etc/UTC", "uptime": 86_400,
                "version": {"image": VERSION, "kernel": "6.1.0-cl-1-amd64", "build-date": "", "onie": "2023.11"},
            });
            config::get(&system, rest).cloned()
        }
        "platform" => {
            let model = match spec.role {
                Role::Leaf => ("MSN2410", "48 x 25G-SFP28 & 8 x 100G-QSFP28"),
                Role::Spine => ("MSN4600C", "64 x 100G-QSFP28"),
            };
            let platform = json!({
                "system-mac": mac_text(&spec.mac), "manufacturer": "Mellanox", "product-name": model.0, "port-layout": model.1,
                "part-number": format!("{}-CB2F", model.0), "serial-number": spec.serial, "asic-vendor": "Mellanox",
                "asic-model": "Spectrum", "cpu": "x86_64 Intel Atom C2558 2.40GHz 4-core", "memory": "7.75 GB", "disk-size": "14.8 GB",
                "hardware": {"model": model.0, "base-mac": mac_text(&spec.mac), "serial-number": spec.serial, "manufacturer": "Mellanox"},
            });
            config::get(&platform, rest).cloned()
        }
        "bridge" => {
            let mut bridge = lock(&nvue.switch.state).applied.get("bridge").cloned()?;
            if let Some(Value::Object(domain)) = bridge.pointer_mut("/domain/br_default") {
                domain.insert("mac-table".into(), mac_table(nvue));
            }
            config::get(&bridge, rest).cloned()
        }
        _ => config::get(&lock(&nvue.switch.state).applied, path).cloned(),
    }
}

/// One interface with link state, counters, LLDP neighbour.
fn interface(nvue: &Nvue, name: &str) -> Option<Value> {
    let spec = &nvue.switch.spec;
    let configured = lock(&nvue.switch.state).applied.pointer(&format!("/interface/{name}")).cloned();
    let Some(port) = config::port_number(name) else {
        let mut value = configured?;
        if let Value::Object(entry) = &mut value {
            let mac = if name == "eth0" { mac_text(&spec.mac) } else { "00:00:00:00:00:00".into() };
            entry.insert(
                "link".into(),
                json!({"mac": mac, "state": {"up": {}}, "oper-status": "up", "admin-status": "up", "mtu": 1500}),
            );
        }
        return Some(value);
    };
    if !(1..=spec.ports).contains(&port) {
        return None;
    }
    let mut value = configured.unwrap_or_else(|| json!({"type": "swp"}));
    let view = nvue.switch.port(port);
    let neighbor = neighbor(nvue, port);
    let up = view.up && carrier(nvue, port);
    let speed = if spec.role == Role::Leaf && port <= crate::topology::SERVER_PORTS { "25G" } else { "100G" };
    let mtu = value.pointer("/link/mtu").cloned().unwrap_or_else(|| json!(9216));
    if let Value::Object(entry) = &mut value {
        entry.insert("type".into(), json!("swp"));
        entry.insert("ifindex".into(), json!(port + 2));
        entry.insert(
            "link".into(),
            json!({
                "admin-status": if view.up { "up" } else { "down" },
                "oper-status": if up { "up" } else { "down" },
                "state": if view.up { json!({"up": {}}) } else { json!({"down": {}}) },
                "auto-negotiate": "on", "duplex": "full", "fec": "auto", "speed": if up { speed } else { "" },
                "mtu": mtu, "mac": mac_text(&switch_mac(spec.index, port)), "breakout": {},
                "stats": {"carrier-transitions": 2, "in-bytes": 0, "in-drops": 0, "in-errors": 0, "in-pkts": 0,
                    "out-bytes": 0, "out-drops": 0, "out-errors": 0, "out-pkts": 0},
            }),
        );
        entry.insert(
            "counters".into(),
            json!({"in-pkts": 0, "out-pkts": 0, "in-errors": 0, "out-errors": 0, "in-drops": 0, "out-drops": 0}),
        );
        let neighbors = neighbor.map_or_else(|| json!({}), |(name, value)| json!({name: value}));
        entry.insert("lldp".into(), json!({"state": "enabled", "neighbor": neighbors}));
    }
    Some(value)
}

/// Whether the other end of a port's cable is there.
fn carrier(nvue: &Nvue, port: usize) -> bool {
    match nvue.switch.spec.peers.get(port).copied().flatten() {
        None => false,
        // A server's ports have light as soon as it has power.
        Some(Peer::Server { server, nic }) => nvue.world.servers[server]
            .with(|state| state.kept.on && state.kept.cables.get(nic).copied().unwrap_or(false)),
        Some(Peer::Switch { switch, port }) => nvue.world.switches[switch].port(port).up,
    }
}

/// The LLDP neighbour at a port: name and entry.
fn neighbor(nvue: &Nvue, port: usize) -> Option<(String, Value)> {
    if !nvue.switch.port(port).up || !carrier(nvue, port) {
        return None;
    }
    match nvue.switch.spec.peers.get(port).copied().flatten()? {
        Peer::Server { server, nic } => {
            let server = &nvue.world.servers[server];
            // LLDP is sent by the running system, not by the bare hardware.
            let name = server.hostname()?;
            let mac = mac_text(&server.spec.nics.get(nic)?.mac);
            let chassis = mac_text(&server.spec.nics.first()?.mac);
            let entry = json!({
                "age": "0:00:12",
                "chassis": {"chassis-id": chassis, "system-name": name, "system-description": "Linux",
                    "capability": {"is-bridge": "off", "is-router": "off"}},
                "port": {"name": mac, "type": "mac", "description": server.nic_names()[nic.min(1)], "ttl": 120},
            });
            Some((name, entry))
        }
        Peer::Switch { switch, port } => {
            let other = &nvue.world.switches[switch].spec;
            let entry = json!({
                "age": "0:00:12",
                "chassis": {"chassis-id": mac_text(&other.mac), "system-name": other.hostname,
                    "system-description": format!("{VERSION} running on Mellanox"), "management-address-ipv4": other.address.to_string(),
                    "capability": {"is-bridge": "on", "is-router": "on"}},
                "port": {"name": format!("swp{port}"), "type": "ifname", "description": format!("swp{port}"), "ttl": 120},
            });
            Some((other.hostname.clone(), entry))
        }
    }
}

/// MAC addresses learned on server ports.
fn mac_table(nvue: &Nvue) -> Value {
    let mut table = Map::new();
    for (port, peer) in nvue.switch.spec.peers.iter().enumerate() {
        let Some(Peer::Server { server, nic }) = peer else { continue };
        let server = &nvue.world.servers[*server];
        if server.hostname().is_none() || !carrier(nvue, port) {
            continue;
        }
        let view = nvue.switch.port(port);
        let (Some(nic), Some(vlan), true) = (server.spec.nics.get(*nic), view.untagged, view.up) else { continue };
        let entry = json!({"mac": mac_text(&nic.mac), "vlan": vlan, "interface": format!("swp{port}"), "age": 12, "last-update": 12, "entry-type": "dynamic"});
        table.insert((table.len() + 1).to_string(), entry);
    }
    Value::Object(table)
}
