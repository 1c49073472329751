//! What the planner is given: the design, what is deployed, and what was observed. Plain data, in any order.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use model::{
    Id, Mac,
    bmc::PowerState,
    deploy::{DeployType, ServiceStatus},
    network::NetworkConnection,
    switch::PortVlans,
    template::OsInstall,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::infiniband::{IbFabric, PartitionPort, PkeyStrategy};
use crate::storage::{BootVolume, StorageInput};

/// Everything a plan depends on. The order of the lists does not matter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanInput {
    /// The infrastructure.
    pub infrastructure: Infrastructure,
    /// Its server instance groups.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Their instances, deployed or only designed.
    #[serde(default)]
    pub instances: Vec<Instance>,
    /// Id of the first instance that has to be made when a group has fewer rows than its count; the next ones follow.
    #[serde(default)]
    pub next_instance_id: Option<Id>,
    /// Logical networks: those of the infrastructure, and all others that its groups name.
    #[serde(default)]
    pub networks: Vec<LogicalNetwork>,
    /// Servers: free ones to choose from, and those that the instances hold.
    #[serde(default)]
    pub servers: Vec<Server>,
    /// Switches of the fabrics concerned.
    #[serde(default)]
    pub switches: Vec<Switch>,
    /// Fabrics concerned.
    #[serde(default)]
    pub fabrics: Vec<Fabric>,
    /// Subnet pools.
    #[serde(default)]
    pub subnet_pools: Vec<SubnetPool>,
    /// Switch ports (device, port) that other infrastructures use. The planner never touches them.
    #[serde(default)]
    pub occupied_ports: BTreeSet<(Id, String)>,
    /// Public SSH keys for new systems.
    #[serde(default)]
    pub ssh_keys: Vec<String>,
    /// Name servers for new systems.
    #[serde(default)]
    pub dns_servers: Vec<Ipv4Addr>,
    /// Choices of the person who deploys.
    #[serde(default)]
    pub options: Options,
    /// Storages, and what the infrastructure has on them.
    #[serde(default)]
    pub storage: StorageInput,
}

/// The infrastructure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Infrastructure {
    /// Id.
    pub id: Id,
    /// Label.
    pub label: String,
    /// Label as deployed; `None` when it was never deployed.
    #[serde(default)]
    pub deployed_label: Option<String>,
    /// Site.
    pub site_id: Id,
    /// Generation of this deploy. It grows over all infrastructures (use the deploy's id), because a server moves
    /// between them and an older order for it must be refused.
    pub generation: i64,
    /// The whole infrastructure goes.
    #[serde(default)]
    pub deleted: bool,
}

/// A server instance group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Id.
    pub id: Id,
    /// What it shall be.
    pub design: GroupConfig,
    /// What it is; `None` when it was never deployed.
    #[serde(default)]
    pub deployed: Option<GroupConfig>,
    /// What this deploy does with it.
    pub deploy_type: DeployType,
    /// Where it stands now.
    pub service_status: ServiceStatus,
}

/// Configuration of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupConfig {
    /// Label.
    pub label: String,
    /// Number of instances.
    pub instance_count: u32,
    /// Server type; `None` is a problem.
    pub server_type_id: Option<Id>,
    /// Operating system; `None` is a problem.
    pub os: Option<OsInstall>,
    /// Why the chosen template cannot be installed, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_problem: Option<String>,
    /// Host name pattern with `{index}`, `{id}`, `{label}` and `{group}`; empty: the instance's label.
    #[serde(default)]
    pub hostname: String,
    /// User made at installation.
    pub username: String,
    /// Variables for templates.
    #[serde(default)]
    pub variables: Map<String, Value>,
    /// Connections to logical networks.
    #[serde(default)]
    pub connections: Vec<NetworkConnection>,
    /// Its servers come from this resource pool alone.
    #[serde(default)]
    pub resource_pool_id: Option<Id>,
}

/// A server instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Id.
    pub id: Id,
    /// Its group.
    pub group_id: Id,
    /// Number within the group, from 1.
    pub index: u32,
    /// Label.
    pub label: String,
    /// Picked to go. It goes whatever the count is.
    #[serde(default)]
    pub deleted: bool,
    /// A new installation of the operating system was asked for.
    #[serde(default)]
    pub reinstall: bool,
    /// Server taken by an earlier deploy that did not end: it is used again, or cleaned.
    #[serde(default)]
    pub reserved_server_id: Option<Id>,
    /// What is deployed.
    #[serde(default)]
    pub deployed: Option<InstanceState>,
    /// What deploys that did not end may have made of it, in part: its ports are set again, and what is not wanted is taken away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<InstanceState>,
}

/// What an instance is once deployed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceState {
    /// Its server.
    pub server_id: Id,
    /// Host name given at installation.
    pub hostname: String,
    /// OS template installed.
    pub os_template_id: Id,
    /// All cabled ports of its server and what they carry, in the order of use.
    pub ports: Vec<PortBinding>,
    /// Interfaces in networks of unmanaged fabrics: whoever runs these has the other end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outside: Vec<OutsidePort>,
    /// Ports of InfiniBand in partitions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<PartitionPort>,
    /// Addresses.
    pub addresses: Vec<Address>,
    /// Netplan version 2 as JSON.
    pub network_config: Value,
    /// The volume that it boots from; `None`: a disk of its server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootVolume>,
}

/// A switch port of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    /// Server interface.
    pub interface: String,
    /// Its MAC address.
    pub mac: Mac,
    /// Switch.
    pub device_id: Id,
    /// Port of the switch.
    pub port: String,
    /// VLANs. A port without networks drops everything.
    pub vlans: PortVlans,
    /// MTU set on the port; `None`: left as it is.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Logical networks carried.
    #[serde(default)]
    pub networks: BTreeSet<Id>,
    /// The one of them whose frames are untagged.
    #[serde(default)]
    pub untagged_network: Option<Id>,
}

/// A server's interface in networks of an unmanaged fabric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsidePort {
    /// Server interface.
    pub interface: String,
    /// Its MAC address.
    pub mac: Mac,
    /// The fabric.
    pub fabric_id: Id,
    /// Logical networks that it is in.
    pub networks: BTreeSet<Id>,
    /// The one of them whose frames are untagged.
    #[serde(default)]
    pub untagged_network: Option<Id>,
}

/// An address of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Logical network.
    pub network_id: Id,
    /// The address.
    pub address: Ipv4Addr,
    /// Its subnet.
    pub subnet: Ipv4Net,
    /// Router of the subnet.
    #[serde(default)]
    pub gateway: Option<Ipv4Addr>,
}

/// A logical network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogicalNetwork {
    /// Id.
    pub id: Id,
    /// Owner; `None`: shared.
    #[serde(default)]
    pub infrastructure_id: Option<Id>,
    /// Fabric.
    pub fabric_id: Id,
    /// What it shall be.
    pub design: NetworkDesign,
    /// What it is; `None` when it was never deployed.
    #[serde(default)]
    pub deployed: Option<NetworkDesign>,
    /// What was taken for it.
    #[serde(default)]
    pub allocated: NetworkAllocation,
    /// What this deploy does with it.
    pub deploy_type: DeployType,
    /// Switches on which other infrastructures are attached to it.
    #[serde(default)]
    pub other_devices: BTreeSet<Id>,
    /// Addresses in it that others hold.
    #[serde(default)]
    pub addresses_used: BTreeSet<Ipv4Addr>,
    /// Parts of its subnets that no instance gets an address of: denied, or given out by DHCP to machines that boot.
    #[serde(default)]
    pub set_aside: Vec<Ipv4Net>,
}

/// Design of a logical network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkDesign {
    /// Label.
    pub label: String,
    /// VLAN; of no meaning in a network of InfiniBand.
    pub vlan: VlanStrategy,
    /// Partition key: the network is one of InfiniBand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkey: Option<PkeyStrategy>,
    /// IPv4 subnets, one a strategy; empty: layer 2 only.
    #[serde(default)]
    pub ipv4: Vec<Ipv4Strategy>,
}

/// How a VLAN is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum VlanStrategy {
    /// The lowest free one of the fabric's ranges.
    Auto,
    /// This one.
    Manual {
        /// VLAN id.
        vlan: u16,
    },
}

/// How a subnet is chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Ipv4Strategy {
    /// From a pool; the first address is the router's.
    Auto {
        /// Prefix length, 8 to 31.
        prefix_len: u8,
        /// Pools in order of preference; empty: any.
        #[serde(default)]
        pool_ids: Vec<Id>,
    },
    /// This one.
    Manual {
        /// The subnet.
        subnet: Ipv4Net,
        /// Router.
        #[serde(default)]
        gateway: Option<Ipv4Addr>,
    },
}

/// What was taken for a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAllocation {
    /// VLAN id.
    #[serde(default)]
    pub vlan: Option<u16>,
    /// Partition key of InfiniBand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkey: Option<u16>,
    /// Subnets, in the order of the strategies.
    #[serde(default)]
    pub subnets: Vec<SubnetAllocation>,
}

/// A subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetAllocation {
    /// The subnet.
    pub subnet: Ipv4Net,
    /// Router.
    #[serde(default)]
    pub gateway: Option<Ipv4Addr>,
    /// Pool it was taken from; `None`: chosen by hand.
    #[serde(default)]
    pub pool_id: Option<Id>,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// Id.
    pub id: Id,
    /// Name, for messages.
    pub name: String,
    /// Server type.
    pub type_id: Id,
    /// Site.
    pub site_id: Id,
    /// Free to be taken (status `available`, not reserved).
    pub available: bool,
    /// Power as last seen.
    pub power: PowerState,
    /// Rack, to spread over; the first switch is used when unknown.
    #[serde(default)]
    pub rack: Option<String>,
    /// Interfaces.
    #[serde(default)]
    pub interfaces: Vec<Interface>,
    /// Number of disks.
    #[serde(default)]
    pub disks: u32,
    /// Their total size in GB (10^9 bytes).
    #[serde(default)]
    pub disk_gb: u64,
    /// Resource pools that it is in.
    #[serde(default)]
    pub resource_pools: BTreeSet<Id>,
}

/// A server's interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Index, as the server counts.
    pub index: u32,
    /// Name.
    pub name: String,
    /// MAC address.
    pub mac: Mac,
    /// Speed in Mbit/s, 0 when unknown.
    #[serde(default)]
    pub speed_mbps: u32,
    /// Whether a cable carries a signal, where known.
    #[serde(default)]
    pub link_up: Option<bool>,
    /// Where the cable ends; `None`: no known cable.
    #[serde(default)]
    pub cable: Option<Cable>,
    /// GUID of a port of InfiniBand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guid: Option<String>,
    /// The InfiniBand fabric that the port is in, where somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ib_fabric: Option<Id>,
    /// The unmanaged fabric to which the cable is known to lead, as the planner finds for itself.
    #[serde(skip)]
    pub outside: Option<Id>,
}

impl Interface {
    /// An interface without a known cable.
    pub fn new(index: u32, name: impl Into<String>, mac: impl Into<Mac>, speed_mbps: u32) -> Self {
        Self {
            index,
            name: name.into(),
            mac: mac.into(),
            speed_mbps,
            link_up: None,
            cable: None,
            guid: None,
            ib_fabric: None,
            outside: None,
        }
    }
}

/// The switch end of a cable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cable {
    /// Switch.
    pub device_id: Id,
    /// Port.
    pub port: String,
}

/// A switch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Switch {
    /// Id.
    pub id: Id,
    /// Name.
    pub name: String,
    /// Position, `leaf`, `spine`, …
    pub role: String,
    /// Fabric.
    pub fabric_id: Id,
    /// VLAN of servers that no tenant holds: they are provisioned and cleaned there.
    #[serde(default)]
    pub quarantine_vlan: Option<u16>,
    /// Links to other switches.
    #[serde(default)]
    pub links: Vec<SwitchLink>,
}

/// A link to another switch, seen from this end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SwitchLink {
    /// Own port.
    pub port: String,
    /// The other switch.
    pub peer_device_id: Id,
    /// Its port, where known.
    #[serde(default)]
    pub peer_port: Option<String>,
}

/// A fabric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fabric {
    /// Id.
    pub id: Id,
    /// Name.
    pub name: String,
    /// VLAN ranges for logical networks, both ends included.
    #[serde(default)]
    pub vlan_ranges: Vec<(u16, u16)>,
    /// VLANs taken.
    #[serde(default)]
    pub vlans_used: BTreeSet<u16>,
    /// The switches run a spanning tree: VLANs are then carried over all shortest paths. Otherwise over one tree of
    /// links per VLAN, which cannot form a loop.
    #[serde(default)]
    pub spanning_tree: bool,
    /// Its network is done outside: VLANs and addresses are accounted for, its switches are never touched, and servers
    /// need no known cable to it.
    #[serde(default)]
    pub unmanaged: bool,
    /// What it gives out as a fabric of InfiniBand; `None`: it is one of Ethernet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infiniband: Option<IbFabric>,
}

/// A pool of subnets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubnetPool {
    /// Id.
    pub id: Id,
    /// Label.
    pub label: String,
    /// What it holds.
    pub prefix: Ipv4Net,
    /// Only for networks of this fabric.
    #[serde(default)]
    pub fabric_id: Option<Id>,
    /// Parts taken or denied.
    #[serde(default)]
    pub used: Vec<Ipv4Net>,
    /// It is in resource pools, and the infrastructure's owner is in none of them.
    #[serde(default)]
    pub closed: bool,
}

/// Choices of the person who deploys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Steps that destroy data are allowed.
    #[serde(default)]
    pub allow_data_loss: bool,
    /// How running servers are switched off.
    #[serde(default)]
    pub shutdown: Shutdown,
    /// Servers to take first, by server type, in this order.
    #[serde(default)]
    pub preferred_servers: BTreeMap<Id, Vec<Id>>,
    /// Usual seconds of a job function in the past, for the estimate.
    #[serde(default)]
    pub usual_seconds: BTreeMap<String, u32>,
}

/// How running servers are switched off. All `false`: the power is cut at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shutdown {
    /// Ask the operating system first.
    #[serde(default)]
    pub attempt_soft: bool,
    /// Seconds to wait for it; 0: 180.
    #[serde(default)]
    pub soft_timeout: u32,
    /// Cut the power when it did not follow.
    #[serde(default)]
    pub attempt_hard: bool,
    /// Cut the power in any case.
    #[serde(default)]
    pub force: bool,
}

impl PlanInput {
    /// The same input in a fixed order, so that the order of rows cannot influence a plan.
    pub(crate) fn normalised(&self) -> Self {
        let mut n = self.clone();
        n.groups.sort_by_key(|g| g.id);
        for g in &mut n.groups {
            g.design.connections.sort_by_key(|c| c.logical_network_id);
            if let Some(d) = &mut g.deployed {
                d.connections.sort_by_key(|c| c.logical_network_id);
            }
        }
        n.instances.sort_by_key(|i| (i.group_id, i.index, i.id));
        n.networks.sort_by_key(|x| x.id);
        for x in n.networks.iter_mut().filter(|x| x.infrastructure_id.is_none()) {
            // A pending edit of a shared network is its owner's to deploy, not that of whoever uses it.
            if let Some(deployed) = &x.deployed {
                x.design = deployed.clone();
            }
        }
        n.fabrics.sort_by_key(|f| f.id);
        // Switches of unmanaged fabrics are left alone: from here on nobody sees them.
        let mut outside: BTreeMap<Id, Id> = BTreeMap::new();
        for fabric in n.fabrics.iter_mut().filter(|f| f.unmanaged) {
            for switch in n.switches.iter().filter(|s| s.fabric_id == fabric.id) {
                outside.insert(switch.id, fabric.id);
                fabric.vlans_used.extend(switch.quarantine_vlan);
            }
        }
        n.switches.retain(|s| !outside.contains_key(&s.id));
        n.servers.sort_by_key(|s| s.id);
        for s in &mut n.servers {
            for i in &mut s.interfaces {
                i.outside = i.cable.as_ref().and_then(|c| outside.get(&c.device_id)).copied();
                if i.outside.is_some() {
                    i.cable = None;
                }
            }
            // The fastest interface first: an on-board 1 Gbit/s port is not what a network should end up on.
            s.interfaces.sort_by(|a, b| {
                (std::cmp::Reverse(a.speed_mbps), a.index, &a.name).cmp(&(
                    std::cmp::Reverse(b.speed_mbps),
                    b.index,
                    &b.name,
                ))
            });
        }
        n.switches.sort_by_key(|s| s.id);
        for s in &mut n.switches {
            s.links.sort();
        }
        n.subnet_pools.sort_by_key(|p| p.id);
        n.storage.storages.sort_by_key(|s| s.id);
        n.storage.elements.sort_by_key(|e| e.id);
        n
    }
}

impl Instance {
    /// Whether a port may be set to something else than this binding, because a deploy that would have changed it did not end.
    pub(crate) fn unsure(&self, binding: &PortBinding) -> bool {
        let same = |p: &&PortBinding| p.device_id == binding.device_id && p.port == binding.port;
        self.unfinished.iter().any(|state| state.ports.iter().find(same).is_none_or(|p| p.vlans != binding.vlans))
    }
}

impl Group {
    /// Label to show.
    pub fn label(&self) -> &str {
        &self.design.label
    }
}
