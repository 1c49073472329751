//! BMC drivers: small traits, the Redfish standard as their implementation.
//!
//! Missing or odd answers are normal: every wait has a deadline, what is absent is `None`, and an error says what a person can do.

mod inventory;
pub mod redfish;

use std::time::Duration;

use async_trait::async_trait;
use model::{
    bmc::{BootTarget, HardwareInventory, PowerAction, PowerState},
    secret::Clear,
};

pub use redfish::Redfish;

/// Why a BMC did not do what it was told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BmcError {
    /// No answer in time.
    #[error("BMC {address} cannot be reached: {cause}; check its cable and address, or reset the BMC")]
    Unreachable {
        /// Address.
        address: String,
        /// Why.
        cause: String,
    },
    /// The login was refused.
    #[error("BMC {0} refuses the login; correct the credentials of the server")]
    Unauthorized(String),
    /// The BMC cannot do that.
    #[error("BMC {address} cannot do that: {what}")]
    Unsupported {
        /// Address.
        address: String,
        /// What.
        what: String,
    },
    /// The BMC refused.
    #[error("BMC {address} refuses {request}: {reason}")]
    Refused {
        /// Address.
        address: String,
        /// Request.
        request: String,
        /// What it said.
        reason: String,
    },
    /// An answer that makes no sense.
    #[error("BMC {address} gave an unexpected answer to {request}: {answer}")]
    Odd {
        /// Address.
        address: String,
        /// Request.
        request: String,
        /// The beginning of the answer.
        answer: String,
    },
    /// It said yes and did not do it.
    #[error(
        "BMC {address}: {what}, but it still is {found} after {seconds} s; look at the server's console, or reset the BMC"
    )]
    NoEffect {
        /// Address.
        address: String,
        /// What was asked for.
        what: String,
        /// What is.
        found: String,
        /// How long it was waited for.
        seconds: u64,
    },
}

impl BmcError {
    /// Whether trying again may help without a person.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Unauthorized(_) | Self::Unsupported { .. })
    }
}

/// How to reach a BMC, with the password in clear.
#[derive(Clone, Debug)]
pub struct Access {
    /// `address` or `address:port`.
    pub address: String,
    /// Login name.
    pub username: String,
    /// Password.
    pub password: Clear,
    /// Longest wait for one answer.
    pub timeout: Duration,
}

/// Power.
#[async_trait]
pub trait Power: Send + Sync {
    /// What it is now.
    async fn power(&self) -> Result<PowerState, BmcError>;
    /// Asks for a change; it takes effect later. Asking for what is already so does nothing.
    async fn set_power(&self, action: PowerAction) -> Result<(), BmcError>;
    /// Waits until it is so.
    async fn wait_for_power(&self, wanted: PowerState, limit: Duration) -> Result<(), BmcError>;
}

/// Boot source.
#[async_trait]
pub trait Boot: Send + Sync {
    /// The next boot, and only that, comes from there. Read back, because some BMCs say yes and forget.
    async fn boot_once(&self, target: BootTarget) -> Result<(), BmcError>;
}

/// Inventory.
#[async_trait]
pub trait Inventory: Send + Sync {
    /// What the BMC knows of its server.
    async fn inventory(&self) -> Result<HardwareInventory, BmcError>;
}

/// Identify LED.
#[async_trait]
pub trait Identify: Send + Sync {
    /// Switches the LED on or off.
    async fn identify(&self, on: bool) -> Result<(), BmcError>;
}
