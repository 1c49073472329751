//! The neutral model of a switch: what we want of it and what we read from it, free of any network operating system.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::secret::Sealed;

/// Drivers, by their wire names, that a site can work with. The `switch` crate has one for each.
pub const DRIVERS: &[&str] = &["cumulus_linux"];

/// Where a switch's management API is and how to log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchEndpoint {
    /// Driver name in wire form, such as `cumulus_linux`.
    pub driver: String,
    /// Management address.
    pub address: String,
    /// Management port; the driver's default when absent.
    #[serde(default)]
    pub port: Option<u16>,
    /// Login name.
    pub username: String,
    /// Password, sealed for the site that talks to this switch.
    pub password: Sealed,
    /// SHA-256 of the TLS certificate (hex), pinned at registration. `None`: pin at first contact.
    #[serde(default)]
    pub tls_fingerprint: Option<String>,
}

/// The VLANs of one port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortVlans {
    /// The VLAN of untagged frames. `None`: untagged frames are dropped.
    #[serde(default)]
    pub untagged: Option<u16>,
    /// VLANs carried with a tag.
    #[serde(default)]
    pub tagged: BTreeSet<u16>,
}

/// What one port shall be. Fields that are `None` are left as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortIntent {
    /// Layer-2 membership.
    #[serde(default)]
    pub vlans: Option<PortVlans>,
    /// Maximum transmission unit in bytes.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Administrative state.
    #[serde(default)]
    pub admin_up: Option<bool>,
    /// Description, shown by the switch.
    #[serde(default)]
    pub description: Option<String>,
}

/// A partial intent for one switch: only what it names is managed, all else stays untouched. Applying it twice is
/// the same as applying it once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchPatch {
    /// VLANs that must exist in the bridge.
    #[serde(default)]
    pub vlans_present: BTreeSet<u16>,
    /// VLANs that must not exist (removed only once no port uses them).
    #[serde(default)]
    pub vlans_absent: BTreeSet<u16>,
    /// VLANs that must be carried, tagged, by these ports, in addition to what they carry.
    #[serde(default)]
    pub trunks_add: BTreeMap<String, BTreeSet<u16>>,
    /// VLANs that must no longer be carried by these ports.
    #[serde(default)]
    pub trunks_remove: BTreeMap<String, BTreeSet<u16>>,
    /// Ports whose membership is set exactly.
    #[serde(default)]
    pub ports: BTreeMap<String, PortIntent>,
}

/// What was read from a switch: the part of its configuration and state that the neutral model knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SwitchState {
    /// VLANs that exist in the bridge.
    pub vlans: BTreeSet<u16>,
    /// Ports by name.
    pub ports: BTreeMap<String, PortState>,
}

/// One port as read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PortState {
    /// Layer-2 membership.
    pub vlans: PortVlans,
    /// Member of the bridge.
    pub bridged: bool,
    /// MTU in bytes.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Administrative state.
    #[serde(default)]
    pub admin_up: Option<bool>,
    /// Carrier.
    #[serde(default)]
    pub oper_up: Option<bool>,
    /// Speed in Mbit/s.
    #[serde(default)]
    pub speed_mbps: Option<u32>,
    /// MAC address of the port.
    #[serde(default)]
    pub mac: Option<String>,
    /// Description.
    #[serde(default)]
    pub description: Option<String>,
    /// Who is at the other end.
    #[serde(default)]
    pub lldp: Option<LldpNeighbor>,
}

/// A neighbour heard by LLDP (IEEE 802.1AB).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LldpNeighbor {
    /// Chassis id, usually a MAC address.
    pub chassis: String,
    /// System name.
    #[serde(default)]
    pub system_name: String,
    /// Port id.
    pub port: String,
}

/// What a switch says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SwitchFacts {
    /// Host name.
    pub hostname: String,
    /// Network operating system and version.
    pub os_version: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Chassis MAC address.
    pub mac: Option<String>,
}
