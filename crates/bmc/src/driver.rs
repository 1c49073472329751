//! One driver for a caller that does not care which protocol it is.

use std::time::Duration;

use async_trait::async_trait;
use model::{
    bmc::{BootTarget, HardwareInventory, PowerAction, PowerState},
    firmware::AfterPowerLoss,
};

use crate::{Access, BmcError, Boot, Identify, Inventory, Ipmi, Power, PowerLoss, Redfish};

/// The protocol of a BMC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Redfish over HTTPS.
    Redfish,
    /// IPMI 2.0 over the network.
    Ipmi,
}

impl Kind {
    /// The protocol that an address names (`ipmi://10.0.0.7`), and the address without it. Redfish where it names none.
    pub fn of(address: &str) -> (Self, &str) {
        match address.split_once("://") {
            Some(("ipmi", rest)) => (Self::Ipmi, rest),
            Some(("redfish" | "https", rest)) => (Self::Redfish, rest),
            _ => (Self::Redfish, address),
        }
    }
}

/// A BMC over one of the protocols.
pub enum Driver {
    /// Redfish.
    Redfish(Box<Redfish>),
    /// IPMI.
    Ipmi(Box<Ipmi>),
}

/// A driver for that protocol. Nothing is sent yet.
pub fn open(kind: Kind, access: Access) -> Result<Driver, BmcError> {
    match kind {
        Kind::Redfish => Ok(Driver::Redfish(Box::new(Redfish::new(access)?))),
        Kind::Ipmi => Ok(Driver::Ipmi(Box::new(Ipmi::new(access)?))),
    }
}

macro_rules! either {
    ($self:ident, $driver:ident => $call:expr) => {
        match $self {
            Driver::Redfish($driver) => $call,
            Driver::Ipmi($driver) => $call,
        }
    };
}

impl Driver {
    /// SHA-256 (hex) of the certificate that it has shown, once there was contact. IPMI has none: both ends prove that they know the password.
    pub fn fingerprint(&self) -> Option<String> {
        match self {
            Self::Redfish(d) => d.fingerprint(),
            Self::Ipmi(_) => None,
        }
    }

    /// SHA-256 (hex) of a certificate that was refused since then.
    pub fn refused_fingerprint(&self) -> Option<String> {
        match self {
            Self::Redfish(d) => d.refused_fingerprint(),
            Self::Ipmi(_) => None,
        }
    }

    /// The driver for what only Redfish can do.
    pub fn redfish(&self) -> Result<&Redfish, BmcError> {
        match self {
            Self::Redfish(d) => Ok(d),
            Self::Ipmi(d) => Err(BmcError::Unsupported {
                address: Power::address(d.as_ref()),
                what: "that is done over Redfish, and this BMC is spoken to over IPMI".into(),
            }),
        }
    }

    /// Ends the session: BMCs have few. The next call opens a new one.
    pub async fn close(&self) {
        either!(self, d => d.close().await);
    }
}

#[async_trait]
impl Power for Driver {
    async fn power(&self) -> Result<PowerState, BmcError> {
        either!(self, d => d.power().await)
    }
    async fn set_power(&self, action: PowerAction) -> Result<(), BmcError> {
        either!(self, d => d.set_power(action).await)
    }
    async fn wait_for_power(&self, wanted: PowerState, limit: Duration) -> Result<(), BmcError> {
        either!(self, d => d.wait_for_power(wanted, limit).await)
    }
    fn address(&self) -> String {
        either!(self, d => Power::address(d.as_ref()))
    }
}

#[async_trait]
impl PowerLoss for Driver {
    async fn after_power_loss(&self) -> Result<Option<AfterPowerLoss>, BmcError> {
        either!(self, d => d.after_power_loss().await)
    }
    async fn set_after_power_loss(&self, wanted: AfterPowerLoss) -> Result<(), BmcError> {
        either!(self, d => d.set_after_power_loss(wanted).await)
    }
}

#[async_trait]
impl Boot for Driver {
    async fn boot_once(&self, target: BootTarget) -> Result<(), BmcError> {
        either!(self, d => d.boot_once(target).await)
    }
}

#[async_trait]
impl Inventory for Driver {
    async fn inventory(&self) -> Result<HardwareInventory, BmcError> {
        either!(self, d => d.inventory().await)
    }
}

#[async_trait]
impl Identify for Driver {
    async fn identify(&self, on: bool) -> Result<(), BmcError> {
        either!(self, d => d.identify(on).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_its_protocol() {
        assert_eq!(Kind::of("ipmi://10.0.0.7:6230"), (Kind::Ipmi, "10.0.0.7:6230"));
        assert_eq!(Kind::of("10.0.0.7"), (Kind::Redfish, "10.0.0.7"));
        assert_eq!(Kind::of("https://bmc-7"), (Kind::Redfish, "bmc-7"));
    }
}
