//! Settings of a Site Controller.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::PathBuf,
};

use anyhow::{Context, Result};
use serde::Deserialize;

/// Settings, from the `[site]` table of a TOML file. Environment variables `STEELYARD_SITE_…` override them.
// No Debug: it holds a token.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SiteConfig {
    /// Folder of the database, the certificate and the images. Default `.steelyard/site`.
    pub data_dir: PathBuf,
    /// Where the link of the Global Controller is: `https://HOST:PORT`. Default `https://127.0.0.1:8443`.
    pub global: String,
    /// The one-time word to enrol with; needed at the first start only.
    pub token: Option<String>,
    /// IPv4 address by which machines at the site reach it. Default `127.0.0.1`.
    pub address: String,
    /// Where DHCP listens. Default `0.0.0.0:67`.
    pub dhcp: String,
    /// Network interface that DHCP keeps to. Router solicitations of firmware are answered there too. Default: any, and none.
    pub dhcp_interface: String,
    /// Where TFTP listens. Default `0.0.0.0:69`.
    pub tftp: String,
    /// Where HTTP listens. Default `0.0.0.0:8090`.
    pub http: String,
    /// Where machines that run the boot image talk to the site, over TLS with certificates at both ends. Default `0.0.0.0:8491`.
    pub https: String,
    /// Where BMCs send their events, over HTTPS: `ADDRESS:PORT`, or `off`. Default: the port after that of `https`.
    pub bmc_events: String,
    /// Events are taken from the address of the BMC alone; `false` behind a network that translates addresses. Default `true`.
    pub check_event_source: bool,
    /// Seconds between two looks at the power of a server whose BMC sends no events. More for more than 1,200 servers. Default 60.
    pub power_poll_seconds: u32,
    /// Seconds between two readings of a server's sensors; 0: never by itself. More for more than 1,200 servers. Default 300.
    pub sensor_poll_seconds: u32,
    /// Boot files: `undionly.kpxe`, `ipxe.efi`, and the agent's `vmlinuz` and `initrd` in `agent/`. Default `/usr/lib/steelyard/boot`.
    pub boot_dir: PathBuf,
    /// More kernel arguments for the agent, such as `console=ttyS0`.
    pub kernel_arguments: String,
    /// The program that makes installation media for single servers. Default `xorriso`.
    pub xorriso: PathBuf,
    /// Jobs that work at the same time, at most. Default 128.
    pub workers: usize,
}

impl Default for SiteConfig {
    fn default() -> Self {
        Self {
            data_dir: ".steelyard/site".into(),
            global: "https://127.0.0.1:8443".into(),
            token: None,
            address: "127.0.0.1".into(),
            dhcp: "0.0.0.0:67".into(),
            dhcp_interface: String::new(),
            tftp: "0.0.0.0:69".into(),
            http: "0.0.0.0:8090".into(),
            https: "0.0.0.0:8491".into(),
            bmc_events: String::new(),
            check_event_source: true,
            power_poll_seconds: 60,
            sensor_poll_seconds: 300,
            boot_dir: "/usr/lib/steelyard/boot".into(),
            kernel_arguments: String::new(),
            xorriso: "xorriso".into(),
            workers: 128,
        }
    }
}

impl SiteConfig {
    /// With overrides: `lookup` answers for the name of an environment variable.
    pub fn with_environment(mut self, lookup: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| lookup(&format!("STEELYARD_SITE_{name}"));
        for (name, field) in [
            ("GLOBAL", &mut self.global),
            ("ADDRESS", &mut self.address),
            ("DHCP", &mut self.dhcp),
            ("DHCP_INTERFACE", &mut self.dhcp_interface),
            ("TFTP", &mut self.tftp),
            ("HTTP", &mut self.http),
            ("HTTPS", &mut self.https),
            ("BMC_EVENTS", &mut self.bmc_events),
            ("KERNEL_ARGUMENTS", &mut self.kernel_arguments),
        ] {
            if let Some(v) = get(name) {
                *field = v;
            }
        }
        for (name, field) in
            [("DATA_DIR", &mut self.data_dir), ("BOOT_DIR", &mut self.boot_dir), ("XORRISO", &mut self.xorriso)]
        {
            if let Some(v) = get(name) {
                *field = v.into();
            }
        }
        for (name, field) in [
            ("POWER_POLL_SECONDS", &mut self.power_poll_seconds),
            ("SENSOR_POLL_SECONDS", &mut self.sensor_poll_seconds),
        ] {
            *field = get(name).and_then(|v| v.parse().ok()).unwrap_or(*field);
        }
        self.check_event_source =
            get("CHECK_EVENT_SOURCE").and_then(|v| v.parse().ok()).unwrap_or(self.check_event_source);
        self.token = get("TOKEN").or(self.token);
        self.workers = get("WORKERS").and_then(|v| v.parse().ok()).unwrap_or(self.workers);
        self
    }

    pub(crate) fn address(&self) -> Result<Ipv4Addr> {
        self.address.parse().with_context(|| format!("site.address: {:?} is not an IPv4 address", self.address))
    }

    pub(crate) fn http_base(&self) -> Result<String> {
        let at: SocketAddr =
            self.http.parse().with_context(|| format!("site.http: {:?} is not ADDRESS:PORT", self.http))?;
        Ok(format!("http://{}:{}", self.address()?, at.port()))
    }

    pub(crate) fn agent_base(&self) -> Result<String> {
        let at: SocketAddr =
            self.https.parse().with_context(|| format!("site.https: {:?} is not ADDRESS:PORT", self.https))?;
        Ok(format!("https://{}:{}", self.address()?, at.port()))
    }

    /// Where events of BMCs are taken, if anywhere.
    pub(crate) fn bmc_events(&self) -> Result<Option<SocketAddr>> {
        match self.bmc_events.trim() {
            "off" => Ok(None),
            "" => {
                let https: SocketAddr =
                    self.https.parse().with_context(|| format!("site.https: {:?} is not ADDRESS:PORT", self.https))?;
                let port = if https.port() == 0 { 0 } else { https.port().wrapping_add(1) };
                Ok(Some(SocketAddr::new(https.ip(), port)))
            }
            text => text
                .parse()
                .map(Some)
                .with_context(|| format!("site.bmc_events: {text:?} is neither ADDRESS:PORT nor \"off\"")),
        }
    }

    pub(crate) fn dhcp_address(&self) -> Result<SocketAddrV4> {
        self.dhcp.parse().with_context(|| format!("site.dhcp: {:?} is not an IPv4 ADDRESS:PORT", self.dhcp))
    }

    pub(crate) fn tftp_address(&self) -> Result<SocketAddr> {
        self.tftp.parse().with_context(|| format!("site.tftp: {:?} is not ADDRESS:PORT", self.tftp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_wins_and_bad_addresses_are_named() {
        let config = SiteConfig { http: "nonsense".into(), ..SiteConfig::default() }
            .with_environment(|n| (n == "STEELYARD_SITE_ADDRESS").then(|| "192.0.2.9".into()));
        assert_eq!(config.address().unwrap(), Ipv4Addr::new(192, 0, 2, 9));
        assert!(config.http_base().unwrap_err().to_string().contains("site.http"));
        assert_eq!(config.bmc_events().unwrap().unwrap().port(), 8492, "the one after that of https");
        let off = SiteConfig { bmc_events: "off".into(), ..SiteConfig::default() };
        assert_eq!(off.bmc_events().unwrap(), None);
        let wrong = SiteConfig { bmc_events: "8492".into(), ..SiteConfig::default() };
        assert!(wrong.bmc_events().unwrap_err().to_string().contains("site.bmc_events"));
        assert!(toml::from_str::<SiteConfig>("dhpc = \"0.0.0.0:67\"").is_err());
    }
}
