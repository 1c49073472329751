//! The site's own copy of all that its services need. It is enough for them, for ever, without the Global Controller.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{Id, Mac, bmc::BmcEndpoint, switch::SwitchEndpoint, template::ImageRef};

/// One versioned fact. `key` names it for ever (`server/12`); a `None` value removes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotItem {
    /// `server/ID`, `network_device/ID`, `dhcp_pool/ID`, `image/SHA256`, `settings/site`, `storage/ID`.
    pub key: String,
    /// Generation at which this value was set; grows over the whole site.
    pub generation: i64,
    /// The fact.
    pub value: Option<Fact>,
}

/// What a site knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "nearly all facts are servers")]
pub enum Fact {
    /// A server.
    Server(SiteServer),
    /// A switch.
    NetworkDevice(SiteNetworkDevice),
    /// A pool of addresses for machines that boot.
    DhcpPool(DhcpPool),
    /// An image that should be at hand.
    Image(ImageRef),
    /// Settings of the site.
    Settings(SiteSettings),
    /// A storage.
    Storage(crate::storage::StorageTarget),
}

/// A server as its site sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SiteServer {
    /// Server id.
    pub id: Id,
    /// Serial number or another name, for messages.
    pub name: String,
    /// Its BMC, when it has one we may talk to.
    pub bmc: Option<BmcEndpoint>,
    /// MAC addresses of its host interfaces.
    pub macs: Vec<Mac>,
    /// Whether a tenant's operating system is on it: then it boots its own disk, whatever else happens.
    pub in_use: bool,
    /// The server instance that holds it. Only its own deploys may install, erase or switch it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<Id>,
    /// In production outside of this platform: read, and never touched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hands_off: bool,
    /// Fixed addresses.
    #[serde(default)]
    pub reservations: Vec<Reservation>,
    /// The volume that its instance boots from, in place of a disk of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub san: Option<crate::storage::SanBoot>,
}

/// A fixed DHCP address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// For this MAC.
    pub mac: Mac,
    /// The address.
    pub address: Ipv4Addr,
    /// The subnet that it lies in.
    pub subnet: Ipv4Net,
    /// Router, when there is one.
    #[serde(default)]
    pub gateway: Option<Ipv4Addr>,
    /// Host name.
    #[serde(default)]
    pub hostname: Option<String>,
}

/// A switch as its site sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteNetworkDevice {
    /// Network device id.
    pub id: Id,
    /// Host name.
    pub name: String,
    /// How to reach it.
    pub endpoint: SwitchEndpoint,
}

/// Addresses for machines that boot from the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpPool {
    /// Pool id.
    pub id: Id,
    /// The subnet.
    pub subnet: Ipv4Net,
    /// First address given out.
    pub first: Ipv4Addr,
    /// Last address given out.
    pub last: Ipv4Addr,
    /// Router.
    #[serde(default)]
    pub gateway: Option<Ipv4Addr>,
    /// Relay addresses (`giaddr`) that this pool serves; empty: any relay and directly attached clients.
    #[serde(default)]
    pub relays: Vec<Ipv4Addr>,
    /// Seconds of a lease.
    pub lease_seconds: u32,
}

/// Settings of a site that its services use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteSettings {
    /// Name servers given to clients.
    #[serde(default)]
    pub dns_servers: Vec<Ipv4Addr>,
    /// Time servers given to clients.
    #[serde(default)]
    pub ntp_servers: Vec<String>,
    /// Seconds between two looks at the same server's power.
    #[serde(default)]
    pub power_poll_seconds: Option<u32>,
    /// Seconds between two readings of the same server's sensors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensor_poll_seconds: Option<u32>,
    /// Fixed addresses by the relay's circuit id (option 82): whoever asks from that port gets that address.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub circuits: BTreeMap<String, Ipv4Addr>,
}
