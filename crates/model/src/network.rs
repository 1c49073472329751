//! Logical networks: connections, allocation strategies and scopes.

use serde::{Deserialize, Serialize};

use crate::Id;

/// How a server instance group joins a logical network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConnection {
    /// The logical network.
    pub logical_network_id: Id,
    /// Frames carry a tag. At most one connection of a group may be untagged.
    pub tagged: bool,
    /// MTU in bytes.
    #[serde(default = "default_mtu")]
    pub mtu: u32,
    /// The default route goes here.
    #[serde(default)]
    pub provides_default_route: bool,
    /// Give no addresses.
    #[serde(default)]
    pub disable_auto_ip: bool,
    /// Use of more than one port.
    #[serde(default)]
    pub redundancy: Option<Redundancy>,
    /// In an InfiniBand network: how the servers' ports are in its partition.
    #[serde(default, skip_serializing_if = "crate::infiniband::Membership::is_full")]
    pub membership: crate::infiniband::Membership,
}

fn default_mtu() -> u32 {
    1500
}

/// Use of more than one port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redundancy {
    /// `active-backup` or `active-active`.
    pub mode: String,
    /// `link-aggregation`, `distributed-link-aggregation` or `ecmp`, for `active-active`.
    #[serde(default)]
    pub implementation: Option<String>,
}

/// Smallest and largest VLAN id that may be used (IEEE 802.1Q; 0 and 4095 are reserved).
pub const VLAN_RANGE: std::ops::RangeInclusive<u16> = 1..=4094;

/// Where a strategy or a pool applies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scope {
    /// `global`, `site`, `fabric`, `rack`, `network_device`, …
    pub kind: String,
    /// Object of that kind; absent for `global`.
    #[serde(default)]
    pub resource_id: Option<Id>,
}
