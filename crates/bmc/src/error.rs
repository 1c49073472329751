//! Why a BMC did not do what it was told.

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
    /// Another certificate than before.
    #[error(
        "BMC {address} shows another certificate ({shown}) than the one that was pinned ({pinned}): nothing was sent to it; if it was exchanged or got a new certificate, register its address again, else look for somebody in between"
    )]
    CertificateChanged {
        /// Address.
        address: String,
        /// SHA-256 that was expected.
        pinned: String,
        /// SHA-256 that it showed.
        shown: String,
    },
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
        /// HTTP status, or the completion code of IPMI.
        status: u16,
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
        !matches!(self, Self::Unauthorized(_) | Self::Unsupported { .. } | Self::CertificateChanged { .. })
    }
}
