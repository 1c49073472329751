//! Messages between a Global Controller and a Site Controller. The `link` crate numbers, stores and acknowledges them;
//! each is handled idempotently because each may arrive twice.

use serde::{Deserialize, Serialize};

use crate::{
    Id,
    bmc::PowerState,
    job::{JobCommand, JobReport},
    order::OrderBook,
    snapshot::SnapshotItem,
    switch::SwitchState,
};

/// From the Global Controller to a site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Down {
    /// Work to do.
    Orders(OrderBook),
    /// An operator's word on work that was ordered.
    Command(JobCommand),
    /// Changes of the snapshot up to `generation`.
    Snapshot {
        /// The site's snapshot stands at this generation afterwards.
        generation: i64,
        /// Items changed since the generation that the site had, oldest first.
        items: Vec<SnapshotItem>,
    },
}

/// From a site to the Global Controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Up {
    /// How a job stands.
    Job(JobReport),
    /// What was seen on equipment.
    Observed(Observation),
    /// Something worth telling a person.
    Notice {
        /// `info`, `warning` or `important`.
        severity: String,
        /// One line.
        title: String,
        /// More.
        message: String,
    },
}

/// Something seen, with the time at which it was seen (RFC 3339).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// When.
    pub at: String,
    /// What.
    pub what: Observed,
}

/// Kinds of observation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Observed {
    /// Power of a server.
    Power {
        /// The server.
        server_id: Id,
        /// State.
        power: PowerState,
    },
    /// A BMC cannot be reached, or can be again (`error` absent).
    Bmc {
        /// The server.
        server_id: Id,
        /// Why not.
        error: Option<String>,
    },
    /// Ports and neighbours of a switch.
    Switch {
        /// The network device.
        network_device_id: Id,
        /// What was read.
        state: SwitchState,
    },
    /// The BMC's certificate at first contact, to be pinned.
    Fingerprint {
        /// `server` or `network_device`.
        object: String,
        /// Its id.
        id: Id,
        /// SHA-256 in hex.
        sha256: String,
    },
    /// An unknown machine asked for an address.
    UnknownMachine {
        /// Its MAC.
        mac: String,
        /// Address it was given, when any.
        address: Option<String>,
        /// Option 82 circuit id, when relayed.
        circuit_id: Option<String>,
        /// Vendor class that it named (option 60): tells BMCs from hosts.
        #[serde(default)]
        vendor_class: Option<String>,
    },
    /// The operating system on a server said that it is up.
    OsUp {
        /// The server.
        server_id: Id,
    },
    /// The hardware of a server is in another health than before.
    Health {
        /// The server.
        server_id: Id,
        /// How it is.
        health: crate::health::ServerHealth,
    },
    /// The BMC of a server told of something that a person may want to read.
    HardwareLog {
        /// The server.
        server_id: Id,
        /// What it told, oldest first.
        entries: Vec<crate::health::HardwareEvent>,
        /// Further ones that were passed over, because there were too many.
        #[serde(default)]
        dropped: u64,
    },
}

/// First words of a site on each connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the Site Controller.
    pub version: String,
    /// Host name.
    pub hostname: String,
    /// Address by which machines at the site reach it.
    pub address: String,
    /// Generation of the snapshot that it holds.
    pub snapshot_generation: i64,
    /// What it runs: `dhcp`, `tftp`, `http`, `redfish`, `switch`.
    pub capabilities: Vec<String>,
    /// Its clock, RFC 3339, for the skew.
    pub clock: String,
}
