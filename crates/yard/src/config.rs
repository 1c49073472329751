//! Settings of the simulated datacenter.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::{YardError, fault::FaultRule, storage::ArrayKind};

/// A password that never shows in logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<&str> for Password {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

/// A server's way of booting from the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootMode {
    /// UEFI firmware with PXE: architecture 7, boot file over TFTP.
    PxeUefi,
    /// UEFI firmware with HTTP boot: architecture 16, boot file over HTTP.
    HttpUefi,
    /// Legacy BIOS with PXE: architecture 0, boot file over TFTP.
    BiosPxe,
}

/// Everything that can be set. Every field has a default; an unknown key is an error.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct YardConfig {
    /// Decides serial numbers, hardware mix and boot mode mix. The same seed gives the same datacenter. Default 1.
    pub seed: u64,
    /// Number of servers, 1 to 10,000. Default 8.
    pub servers: usize,
    /// Least number of leaf switches; rounded up to pairs, and raised when the servers need more. Default 2.
    pub leaves: usize,
    /// Number of spine switches, 1 to 8. Default 2.
    pub spines: usize,
    /// Most servers in a rack, that is on one leaf pair: 1 to 48. Default 32.
    pub rack_size: usize,
    /// Network ports of a server: 1 (leaf A) or 2 (leaf A and leaf B, the same port number on both). Default 2.
    pub nics: usize,
    /// Hardware models in the mix, by key: `dell-r650`, `hpe-dl365`, `supermicro-421ge`, `nvidia-dgx-h100`. Empty (default): all.
    pub models: Vec<String>,
    /// Boot modes in the mix. Default: all three, half of the servers `pxe-uefi`.
    pub boot_modes: Vec<BootMode>,
    /// Address of the first BMC; the others follow. Default 127.32.0.1.
    pub bmc_base: Ipv4Addr,
    /// TCP port of the BMCs; 0 gives each a free one. Default 8443.
    pub bmc_port: u16,
    /// TCP port of SSH at all BMCs, for their serial consoles; 0 (default) takes a free one, which Redfish tells.
    pub ssh_port: u16,
    /// TCP port of VNC at those BMCs that have it; 0 (default) takes a free one, which Redfish tells.
    pub vnc_port: u16,
    /// Factory user of the BMCs. Default `root`.
    pub bmc_user: String,
    /// Factory password of the BMCs; a change is kept per server. Default `calvin-yard`.
    pub bmc_password: Password,
    /// Address of the first switch; leaves first, then spines. Default 127.31.0.1.
    pub switch_base: Ipv4Addr,
    /// TCP port of the switches' NVUE API; 0 gives each a free one. Default 8765.
    pub nvue_port: u16,
    /// User of the switches. Default `cumulus`.
    pub switch_user: String,
    /// Password of the switches. Default `CumulusLinux!`.
    pub switch_password: Password,
    /// DHCP relay address (`giaddr`) of the first leaf; the others follow. Default 127.30.0.1.
    pub relay_base: Ipv4Addr,
    /// UDP port at the relay address; 0 (default) takes a free one and says so to the server (RFC 8357). 67 needs privileges.
    pub relay_port: u16,
    /// Where relays forward DHCP to. Default 127.0.0.1:67.
    pub dhcp_server: SocketAddrV4,
    /// UDP port of the TFTP server that DHCP points to (PXE has no way to say it). Default 69.
    pub tftp_port: u16,
    /// VLAN on which the site's services can be reached. Default 100.
    pub provisioning_vlan: u16,
    /// Further VLANs from which a running system reaches the site, as through a router. Default none.
    pub site_vlans: Vec<u16>,
    /// Address of the admin API. Port 0 takes a free one. Default 127.0.0.1:8095.
    pub admin_listen: SocketAddr,
    /// Duration of the firmware's self test. Default 1.0.
    pub post_seconds: f64,
    /// Time from boot loader to a running system, also of the installer. Default 1.0.
    pub os_boot_seconds: f64,
    /// First DHCP timeout; it doubles with every try, four tries. Default 1.0.
    pub dhcp_timeout_seconds: f64,
    /// Pause after all boot sources have failed; it doubles up to 30 s, three rounds. Default 2.0.
    pub boot_retry_seconds: f64,
    /// Time in which a BMC does not answer after its reset. Default 2.0.
    pub bmc_reset_seconds: f64,
    /// Time that a BMC takes to write an image of firmware. Default 2.0.
    pub firmware_seconds: f64,
    /// Time that a switch takes to apply a revision. Default 0.3.
    pub switch_apply_seconds: f64,
    /// Disk write speed in megabits per second. Default none: as fast as the network.
    pub image_mbps: Option<u32>,
    /// Storage arrays: `netapp`, `power_flex`, `power_scale`, `power_store`, `pure`, any number of each. Default none.
    pub arrays: Vec<ArrayKind>,
    /// Address of the first storage array; the others follow. Default 127.33.0.1.
    pub array_base: Ipv4Addr,
    /// TCP port of the arrays' REST interfaces; 0 gives each a free one. Default 9443.
    pub array_port: u16,
    /// User of the arrays. Default `admin`.
    pub array_user: String,
    /// Password of the arrays; of a Pure FlashArray, the API token. Default `array-yard`.
    pub array_password: Password,
    /// File that keeps the devices' state over a restart. Default none.
    pub persist: Option<PathBuf>,
    /// Fault rules from the start.
    pub faults: Vec<FaultRule>,
    /// Named faults from the start, see [`crate::fault::PRESETS`].
    pub fault_presets: Vec<String>,
}

impl Default for YardConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            servers: 8,
            leaves: 2,
            spines: 2,
            rack_size: 32,
            nics: 2,
            models: Vec::new(),
            boot_modes: vec![BootMode::PxeUefi, BootMode::PxeUefi, BootMode::HttpUefi, BootMode::BiosPxe],
            bmc_base: Ipv4Addr::new(127, 32, 0, 1),
            bmc_port: 8443,
            ssh_port: 0,
            vnc_port: 0,
            bmc_user: "root".into(),
            bmc_password: "calvin-yard".into(),
            switch_base: Ipv4Addr::new(127, 31, 0, 1),
            nvue_port: 8765,
            switch_user: "cumulus".into(),
            switch_password: "CumulusLinux!".into(),
            relay_base: Ipv4Addr::new(127, 30, 0, 1),
            relay_port: 0,
            dhcp_server: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 67),
            tftp_port: 69,
            provisioning_vlan: 100,
            site_vlans: Vec::new(),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 8095)),
            post_seconds: 1.0,
            os_boot_seconds: 1.0,
            dhcp_timeout_seconds: 1.0,
            boot_retry_seconds: 2.0,
            bmc_reset_seconds: 2.0,
            firmware_seconds: 2.0,
            switch_apply_seconds: 0.3,
            image_mbps: None,
            arrays: Vec::new(),
            array_base: Ipv4Addr::new(127, 33, 0, 1),
            array_port: 9443,
            array_user: "admin".into(),
            array_password: "array-yard".into(),
            persist: None,
            faults: Vec::new(),
            fault_presets: Vec::new(),
        }
    }
}

impl YardConfig {
    /// With overrides by `STEELYARD_YARD_…`: any setting that is a number, a text, or a list of texts (with commas between).
    pub fn with_environment(self, lookup: impl Fn(&str) -> Option<String>) -> Result<Self, YardError> {
        use serde_json::Value;
        let wrong = |e: &dyn fmt::Display| YardError::Config(e.to_string());
        let mut all = serde_json::to_value(&self).map_err(|e| wrong(&e))?;
        for (name, value) in all.as_object_mut().into_iter().flatten() {
            let variable = format!("STEELYARD_YARD_{}", name.to_uppercase());
            let Some(text) = lookup(&variable) else { continue };
            *value = match value {
                Value::Array(_) => text.split(',').map(|part| Value::from(part.trim())).collect(),
                _ => text.parse::<serde_json::Number>().map_or_else(|_| Value::from(text), Value::Number),
            };
        }
        serde_json::from_value(all).map_err(|e| YardError::Config(format!("STEELYARD_YARD_…: {e}")))
    }

    /// Checks ranges. Errors name the setting and what is allowed.
    pub fn validate(&self) -> Result<(), YardError> {
        let range = |name: &str, value: usize, low: usize, high: usize| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(YardError::Config(format!("{name} is {value}; allowed are {low} to {high}")))
            }
        };
        range("servers", self.servers, 1, 10_000)?;
        range("leaves", self.leaves, 1, 2_000)?;
        range("spines", self.spines, 1, 8)?;
        range("rack_size", self.rack_size, 1, 48)?;
        range("nics", self.nics, 1, 2)?;
        range("provisioning_vlan", usize::from(self.provisioning_vlan), 1, 4094)?;
        for vlan in &self.site_vlans {
            range("site_vlans", usize::from(*vlan), 1, 4094)?;
        }
        for (name, seconds) in [
            ("post_seconds", self.post_seconds),
            ("os_boot_seconds", self.os_boot_seconds),
            ("dhcp_timeout_seconds", self.dhcp_timeout_seconds),
            ("boot_retry_seconds", self.boot_retry_seconds),
            ("bmc_reset_seconds", self.bmc_reset_seconds),
            ("firmware_seconds", self.firmware_seconds),
            ("switch_apply_seconds", self.switch_apply_seconds),
        ] {
            if !(0.0..=3600.0).contains(&seconds) {
                return Err(YardError::Config(format!("{name} is {seconds}; allowed are 0 to 3600")));
            }
        }
        if self.image_mbps == Some(0) {
            return Err(YardError::Config("image_mbps is 0; leave it out for no limit".into()));
        }
        if self.boot_modes.is_empty() {
            return Err(YardError::Config("boot_modes is empty; name at least one".into()));
        }
        for (name, base) in [
            ("bmc_base", self.bmc_base),
            ("switch_base", self.switch_base),
            ("relay_base", self.relay_base),
            ("array_base", self.array_base),
        ] {
            if !base.is_loopback() {
                return Err(YardError::Config(format!("{name} is {base}; it must be in 127.0.0.0/8")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_wins() {
        let set = |name: &str| match name {
            "STEELYARD_YARD_SERVERS" => Some("40".to_owned()),
            "STEELYARD_YARD_MODELS" => Some("dell-r650, hpe-dl365".to_owned()),
            "STEELYARD_YARD_BMC_USER" => Some("admin".to_owned()),
            _ => None,
        };
        let config = YardConfig::default().with_environment(set).unwrap();
        assert_eq!((config.servers, config.models.len(), config.bmc_user.as_str()), (40, 2, "admin"));
        let wrong = YardConfig::default().with_environment(|n| (n == "STEELYARD_YARD_SERVERS").then(|| "many".into()));
        assert!(wrong.is_err());
    }
}
