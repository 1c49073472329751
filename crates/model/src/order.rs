//! Payloads of the job functions that a site runs. One struct a function; the function's name is its `NAME`.

use serde::{Deserialize, Serialize};

use crate::{Id, bmc::PowerAction, boot::InstallSpec, cleaning::CleanPlan, secret::Sealed, switch::SwitchPatch};

/// A DAG fragment that a site works through alone: the site part of a job group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderBook {
    /// The group's id at the Global Controller; handling the same book twice changes nothing.
    pub group_id: Id,
    /// Type of the group, `infrastructure_deploy`.
    pub group_type: String,
    /// Title for people.
    pub description: String,
    /// Jobs with the ids they have at the Global Controller.
    pub jobs: Vec<OrderedJob>,
}

/// A job with its identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderedJob {
    /// Id at the Global Controller, kept by the site.
    pub id: Id,
    /// The job. Dependencies on jobs outside the book are already met.
    pub spec: crate::job::JobSpec,
}

/// `server.inventory`: read the inventory from the BMC. Returns [`crate::bmc::HardwareInventory`] and the certificate fingerprint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerInventory {
    /// The server.
    pub server_id: Id,
}

/// `server.discover`: boot the discovery image, wait for the in-band inventory, switch off. Returns [`crate::agent::AgentInventory`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerDiscover {
    /// The server.
    pub server_id: Id,
}

/// `server.power`: bring the server's power where it should be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerPower {
    /// The server.
    pub server_id: Id,
    /// What to do.
    pub action: PowerAction,
    /// For `graceful_off`: seconds to wait for the operating system.
    #[serde(default)]
    pub graceful_seconds: Option<u32>,
    /// For `graceful_off`: cut the power when the operating system did not follow.
    #[serde(default)]
    pub force_after: bool,
}

/// `server.power_status`: ask the BMC now. Returns `{"power": "on"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerPowerStatus {
    /// The server.
    pub server_id: Id,
}

/// `server.identify`: blink the identify LED for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerIdentify {
    /// The server.
    pub server_id: Id,
}

/// `server.install`: boot the installer once from the network, follow it to its end, leave the server switched off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerInstall {
    /// The server.
    pub server_id: Id,
    /// What to install.
    pub spec: InstallSpec,
}

/// `server.start`: boot from the local disk and see that it is on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerStart {
    /// The server.
    pub server_id: Id,
}

/// `server.clean`: boot the cleaning task, wait until all disks are erased, leave the server switched off. Returns `{"power": "off",
/// "erased": [`[`crate::cleaning::ErasedDisk`]`], "steps": [`[`crate::cleaning::StepResult`]`], "signed":` [`crate::cleaning::SignedStatement`],
/// `"gpus": [`[`crate::bmc::Gpu`]`]}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerClean {
    /// The server.
    pub server_id: Id,
    /// How.
    #[serde(default)]
    pub plan: CleanPlan,
}

/// `server.rotate_credentials`: give our account of the BMC another password, and prove it. The old one stays good until then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerRotateCredentials {
    /// The server.
    pub server_id: Id,
    /// The new password, sealed for the site.
    pub password: Sealed,
}

/// `server.scan`: ask each address of a range for a Redfish service. Returns [`ScanResult`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerScan {
    /// First address.
    pub first: std::net::Ipv4Addr,
    /// Last address.
    pub last: std::net::Ipv4Addr,
    /// TCP port; 443 when absent.
    #[serde(default)]
    pub port: Option<u16>,
    /// Seconds that the whole scan may take.
    pub deadline_seconds: u32,
}

/// What a scan found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScanResult {
    /// What answered as a BMC.
    pub found: Vec<ScannedBmc>,
    /// Addresses that were asked.
    pub asked: u32,
    /// Whether the deadline came before the last address was asked.
    pub cut_short: bool,
}

/// A BMC that a scan found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScannedBmc {
    /// `address`, or `address:port` where the port is not 443.
    pub address: String,
    /// Manufacturer, as its service root says.
    #[serde(default)]
    pub vendor: Option<String>,
    /// Product, as its service root says.
    #[serde(default)]
    pub product: Option<String>,
    /// UUID of the service.
    #[serde(default)]
    pub uuid: Option<String>,
    /// SHA-256 (hex) of its certificate.
    #[serde(default)]
    pub tls_fingerprint: Option<String>,
}

/// `switch.discover`: read facts, ports and neighbours. Returns `{"facts": SwitchFacts, "state": SwitchState}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SwitchDiscover {
    /// The network device.
    pub network_device_id: Id,
}

/// `switch.apply`: make the switch satisfy a patch, and read it back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SwitchApply {
    /// The network device.
    pub network_device_id: Id,
    /// What must hold.
    pub patch: SwitchPatch,
}

/// A payload that knows its function's name.
pub trait Order: Serialize + for<'de> Deserialize<'de> {
    /// Name in the registry of job functions.
    const NAME: &'static str;
}

macro_rules! orders {
    ($($ty:ident = $name:literal),* $(,)?) => {
        $(impl Order for $ty { const NAME: &'static str = $name; })*
        /// Names of all functions that a site offers.
        pub const SITE_FUNCTIONS: &[&str] = &[$($name),*];
    };
}

orders! {
    ServerInventory = "server.inventory",
    ServerDiscover = "server.discover",
    ServerPower = "server.power",
    ServerPowerStatus = "server.power_status",
    ServerIdentify = "server.identify",
    ServerInstall = "server.install",
    ServerStart = "server.start",
    ServerClean = "server.clean",
    ServerRotateCredentials = "server.rotate_credentials",
    ServerScan = "server.scan",
    SwitchDiscover = "switch.discover",
    SwitchApply = "switch.apply",
}
