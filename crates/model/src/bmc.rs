//! What a baseboard management controller (BMC) is asked and answers, free of any vendor's words.

use serde::{Deserialize, Serialize};

use crate::secret::Sealed;

/// Where a BMC is and how to log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BmcEndpoint {
    /// `address` or `address:port`; port 443 when absent.
    pub address: String,
    /// Login name.
    pub username: String,
    /// Password, sealed for the site that talks to this BMC.
    pub password: Sealed,
    /// SHA-256 of the BMC's TLS certificate (hex), pinned at registration. `None`: pin at first contact.
    #[serde(default)]
    pub tls_fingerprint: Option<String>,
}

/// Power as the BMC reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerState {
    /// Running (Redfish `On`, `PoweringOn`).
    On,
    /// Off (Redfish `Off`, `PoweringOff` once settled).
    Off,
    /// The BMC did not say.
    Unknown,
}

/// What to do with a server's power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerAction {
    /// Switch on; nothing happens when on already.
    On,
    /// Ask the operating system to shut down.
    GracefulOff,
    /// Cut the power.
    ForceOff,
    /// Reset without asking the operating system.
    Reset,
    /// Power off, then on.
    Cycle,
    /// Non-maskable interrupt, for crash dumps.
    Nmi,
}

/// Where the next boot comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootTarget {
    /// The firmware's own order.
    None,
    /// Network boot: PXE.
    Pxe,
    /// Network boot: UEFI HTTP.
    UefiHttp,
    /// Local disk.
    Disk,
    /// Virtual or real optical media.
    Cd,
}

/// What a BMC knows of its server. Absent facts are `None` or empty: many BMCs leave things out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HardwareInventory {
    /// Chassis serial number (service tag).
    pub serial: Option<String>,
    /// Manufacturer, as reported.
    pub vendor: Option<String>,
    /// Model, as reported.
    pub model: Option<String>,
    /// SMBIOS UUID.
    pub uuid: Option<String>,
    /// BIOS version.
    pub bios_version: Option<String>,
    /// BMC firmware version.
    pub bmc_version: Option<String>,
    /// MAC address of the BMC's own interface.
    pub bmc_mac: Option<String>,
    /// Total memory in MiB.
    pub memory_mib: u64,
    /// One entry a socket.
    pub processors: Vec<Processor>,
    /// Physical drives.
    pub disks: Vec<Disk>,
    /// Host network interfaces.
    pub nics: Vec<Nic>,
    /// Accelerators.
    pub gpus: Vec<Gpu>,
    /// Trusted platform module version, such as `2.0`.
    #[serde(default)]
    pub tpm: Option<String>,
    /// Power state when the inventory was taken.
    #[serde(default)]
    pub power: Option<PowerState>,
    /// Consoles that the BMC says it has.
    #[serde(default)]
    pub consoles: crate::console::Offered,
}

/// One processor socket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Processor {
    /// Marketing name.
    pub model: String,
    /// Physical cores.
    pub cores: u32,
    /// Hardware threads.
    pub threads: u32,
    /// Nominal clock in MHz.
    pub mhz: u32,
}

/// One physical drive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Disk {
    /// Device or slot name.
    pub name: String,
    /// Serial number.
    #[serde(default)]
    pub serial: Option<String>,
    /// Model name.
    #[serde(default)]
    pub model: Option<String>,
    /// Size in GB (10^9 bytes).
    pub size_gb: u64,
    /// `hdd`, `ssd` or `nvme`.
    pub media: String,
}

/// One network interface of a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Nic {
    /// Interface name, `eno1` or the BMC's id for it.
    pub name: String,
    /// MAC address.
    pub mac: String,
    /// Speed in Mbit/s, 0 when unknown.
    #[serde(default)]
    pub speed_mbps: u32,
    /// Carrier, where known.
    #[serde(default)]
    pub link_up: Option<bool>,
    /// Neighbour heard by LLDP, where known.
    #[serde(default)]
    pub lldp: Option<crate::switch::LldpNeighbor>,
    /// GUID of an InfiniBand port; see [`crate::infiniband::guid`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guid: Option<String>,
}

/// One accelerator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    /// Manufacturer.
    pub vendor: String,
    /// Model name.
    pub model: String,
    /// Memory in MiB, 0 when unknown.
    #[serde(default)]
    pub memory_mib: u64,
    /// PCI address, where known.
    #[serde(default)]
    pub pci: Option<String>,
    /// Serial number, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// What is wrong with it, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}
