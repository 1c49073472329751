//! A small site to plan on, and a large one.
#![allow(dead_code, clippy::wildcard_imports, clippy::unwrap_used)]

pub mod storage;

use model::{
    Id,
    bmc::PowerState,
    deploy::{DeployType, ServiceStatus},
    network::{NetworkConnection, Redundancy},
    template::{ImageRef, OsInstall},
};
use planner::*;

pub fn os(id: Id) -> OsInstall {
    OsInstall {
        template_id: id,
        name: format!("debian-{id}"),
        os_name: "Debian".into(),
        os_version: id.to_string(),
        image: ImageRef { sha256: format!("{id:064x}"), size: 1, format: "raw".into(), url: None },
        user_data: None,
        meta_data: None,
        method: Default::default(),
        files: Default::default(),
        ready: Default::default(),
        erase: Default::default(),
        local_disk_only: false,
    }
}

/// Leaves are devices 1.., spines 1001..; server N has a port on leaf L and one on the next.
pub fn site(leaves: i64, spines: i64, per_leaf: i64) -> PlanInput {
    let link = |port: String, peer: Id, peer_port: String| SwitchLink {
        port,
        peer_device_id: peer,
        peer_port: Some(peer_port),
    };
    let mut switches = Vec::new();
    for l in 1..=leaves {
        let links = (1..=spines).map(|s| link(format!("up{s}"), 1000 + s, format!("down{l}"))).collect();
        let name = format!("leaf{l}");
        switches.push(Switch { id: l, name, role: "leaf".into(), fabric_id: 1, quarantine_vlan: Some(5), links });
    }
    for s in 1..=spines {
        let links = (1..=leaves).map(|l| link(format!("down{l}"), l, format!("up{s}"))).collect();
        let name = format!("spine{s}");
        switches.push(Switch { id: 1000 + s, name, role: "spine".into(), fabric_id: 1, quarantine_vlan: None, links });
    }
    let mut servers = Vec::new();
    for n in 0..leaves * per_leaf {
        let (leaf, slot) = (n / per_leaf + 1, n % per_leaf + 1);
        let second = leaf % leaves + 1;
        let nic = |index: u32, leaf: Id, port: String| {
            let mac = format!("52:54:{:02x}:{:02x}:{:02x}:{index:02x}", n / 65536, n / 256 % 256, n % 256);
            let cable = Some(Cable { device_id: leaf, port });
            Interface { cable, ..Interface::new(index, format!("eno{index}"), mac, 25_000) }
        };
        servers.push(Server {
            id: n + 1,
            name: format!("server-{}", n + 1),
            type_id: 1,
            site_id: 1,
            available: true,
            power: PowerState::Off,
            rack: None,
            interfaces: vec![nic(1, leaf, format!("swp{slot}")), nic(2, second, format!("swp{}", 100 + slot))],
            disks: 2,
            disk_gb: 960,
            resource_pools: Default::default(),
        });
    }
    PlanInput {
        infrastructure: Infrastructure {
            id: 7,
            label: "shop".into(),
            deployed_label: None,
            site_id: 1,
            generation: 1,
            deleted: false,
        },
        groups: Vec::new(),
        instances: Vec::new(),
        next_instance_id: Some(1),
        networks: Vec::new(),
        servers,
        switches,
        fabrics: vec![Fabric {
            id: 1,
            name: "east".into(),
            vlan_ranges: vec![(100, 199)],
            vlans_used: [100].into(),
            spanning_tree: false,
            unmanaged: false,
            infiniband: None,
        }],
        subnet_pools: vec![SubnetPool {
            id: 1,
            label: "private".into(),
            prefix: "10.0.0.0/8".parse().unwrap(),
            fabric_id: None,
            used: vec!["10.0.0.0/24".parse().unwrap()],
            closed: false,
        }],
        occupied_ports: Default::default(),
        ssh_keys: vec!["ssh-ed25519 AAAA someone".into()],
        dns_servers: vec!["10.0.0.53".parse().unwrap()],
        options: Options::default(),
        storage: StorageInput::default(),
    }
}

pub fn group(id: Id, label: &str, count: u32) -> Group {
    Group {
        id,
        design: GroupConfig {
            label: label.into(),
            instance_count: count,
            server_type_id: Some(1),
            os: Some(os(12)),
            os_problem: None,
            hostname: String::new(),
            username: "admin".into(),
            variables: Default::default(),
            connections: Vec::new(),
            resource_pool_id: None,
        },
        deployed: None,
        deploy_type: DeployType::Create,
        service_status: ServiceStatus::Ordered,
    }
}

pub fn network(id: Id, label: &str, prefix_len: u8) -> LogicalNetwork {
    LogicalNetwork {
        id,
        infrastructure_id: Some(7),
        fabric_id: 1,
        design: NetworkDesign {
            label: label.into(),
            vlan: VlanStrategy::Auto,
            pkey: None,
            ipv4: vec![Ipv4Strategy::Auto { prefix_len, pool_ids: vec![] }],
        },
        deployed: None,
        allocated: NetworkAllocation::default(),
        deploy_type: DeployType::Create,
        other_devices: Default::default(),
        addresses_used: Default::default(),
        set_aside: Vec::new(),
    }
}

/// An adapter of InfiniBand with one port, in a fabric where that is known.
pub fn hca(server: &mut Server, fabric: Option<Id>) {
    let index = server.interfaces.len() as u32 + 1;
    let guid = format!("98039b0300{:04x}{index:02x}", server.id);
    let mac = model::infiniband::mac_of(&guid).unwrap();
    let name = format!("ib{index}");
    server.interfaces.push(Interface {
        guid: Some(guid),
        ib_fabric: fabric,
        ..Interface::new(index, name, mac, 400_000)
    });
}

pub fn connection(network: Id, tagged: bool, bond: bool) -> NetworkConnection {
    NetworkConnection {
        logical_network_id: network,
        tagged,
        mtu: 1500,
        provides_default_route: !tagged,
        disable_auto_ip: false,
        redundancy: bond.then(|| Redundancy { mode: "active-backup".into(), implementation: None }),
        membership: Default::default(),
    }
}

/// A large site: 40 servers a leaf, 8 spines, one group with a bond to two networks.
pub fn large(servers: i64, count: u32) -> PlanInput {
    let mut input = site(servers / 40, 8, 40);
    input.networks = vec![network(1, "lan", 16), network(2, "storage", 16)];
    let mut g = group(1, "workers", count);
    g.design.connections = vec![connection(1, false, true), connection(2, true, true)];
    input.groups = vec![g];
    input
}
