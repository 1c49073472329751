//! Switch drivers: load what is, compare with what shall be, apply the difference in order, read it back.
//!
//! The pure part ([`plan`]) knows no network operating system; a driver turns its actions into requests.

pub mod cumulus_linux;
mod plan;

use std::time::Duration;

use async_trait::async_trait;
use model::{
    secret::Clear,
    switch::{SwitchFacts, SwitchPatch, SwitchState},
};

pub use plan::{Action, plan};

/// Why a switch did not do what it was told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SwitchError {
    /// No answer in time.
    #[error("{address} cannot be reached: {cause}; check the cable, the address and the management VRF")]
    Unreachable {
        /// Address.
        address: String,
        /// Why.
        cause: String,
    },
    /// The login was refused.
    #[error("{0} refuses the login; correct the credentials of the switch")]
    Unauthorized(String),
    /// Another certificate than before.
    #[error(
        "{address} shows another certificate ({shown}) than the one that was pinned ({pinned}): nothing was sent to it; if it was exchanged or got a new certificate, register its address again, else look for somebody in between"
    )]
    CertificateChanged {
        /// Address.
        address: String,
        /// SHA-256 that was expected.
        pinned: String,
        /// SHA-256 that it showed.
        shown: String,
    },
    /// The switch refused a configuration.
    #[error("{address} refuses the configuration: {reason}")]
    Refused {
        /// Address.
        address: String,
        /// What the switch said.
        reason: String,
    },
    /// An answer that makes no sense.
    #[error("{address} gave an unexpected answer to {request}: {answer}")]
    Odd {
        /// Address.
        address: String,
        /// Request.
        request: String,
        /// The beginning of the answer.
        answer: String,
    },
    /// Applied, but the switch does not show it.
    #[error("{address} accepted the configuration, but still needs: {missing}")]
    NotEffective {
        /// Address.
        address: String,
        /// What is missing.
        missing: String,
    },
    /// No driver of that name.
    #[error("there is no driver {0:?}; known are: cumulus_linux")]
    UnknownDriver(String),
}

impl SwitchError {
    /// Whether trying again may help without a person.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Unauthorized(_) | Self::UnknownDriver(_) | Self::CertificateChanged { .. })
    }
}

/// What an apply did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// The actions that were needed; none when all was there already.
    pub actions: Vec<Action>,
}

/// A switch that can be asked and told.
#[async_trait]
pub trait SwitchDriver: Send + Sync {
    /// What it is.
    async fn facts(&self) -> Result<SwitchFacts, SwitchError>;
    /// Its configuration and state, as far as the neutral model goes.
    async fn state(&self) -> Result<SwitchState, SwitchError>;
    /// Makes it satisfy the patch and reads it back. Doing so twice does nothing the second time.
    async fn apply(&self, patch: &SwitchPatch) -> Result<Applied, SwitchError>;
    /// SHA-256 (hex) of the certificate that it has shown, once there was contact.
    fn fingerprint(&self) -> Option<String>;
    /// SHA-256 (hex) of a certificate that was refused since then.
    fn refused_fingerprint(&self) -> Option<String>;
}

/// How to reach a switch, with the password in clear.
#[derive(Clone, Debug)]
pub struct Access {
    /// Management address.
    pub address: String,
    /// Port; the driver's default when absent.
    pub port: Option<u16>,
    /// Login name.
    pub username: String,
    /// Password.
    pub password: Clear,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// SHA-256 (hex) of the only certificate that is accepted. `None`: that of the first contact.
    pub tls_fingerprint: Option<String>,
}

/// The driver of that wire name.
pub fn driver(name: &str, access: Access) -> Result<Box<dyn SwitchDriver>, SwitchError> {
    match name {
        "cumulus_linux" => Ok(Box::new(cumulus_linux::CumulusLinux::new(access)?)),
        other => Err(SwitchError::UnknownDriver(other.to_owned())),
    }
}
