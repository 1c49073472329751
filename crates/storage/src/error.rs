//! What goes wrong with a storage, in words for the person who must act.

use crate::DRIVERS;

/// Why a storage did not do what it was told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// No answer in time.
    #[error("{storage} cannot be reached: {cause}; check its management address, port and the way there")]
    Unreachable {
        /// Name of the storage.
        storage: String,
        /// Why.
        cause: String,
    },
    /// The login was refused.
    #[error("{0} refuses the login; correct the credentials of the storage")]
    Unauthorized(String),
    /// Another certificate or host key than before.
    #[error(
        "{storage} shows another certificate or host key ({shown}) than the one that was pinned ({pinned}): nothing was sent to it; if it was exchanged, register its address again, else look for somebody in between"
    )]
    IdentityChanged {
        /// Name of the storage.
        storage: String,
        /// SHA-256 that was expected.
        pinned: String,
        /// SHA-256 that it showed.
        shown: String,
    },
    /// The storage said no.
    #[error("{storage} refuses to {what}: {reason}")]
    Refused {
        /// Name of the storage.
        storage: String,
        /// What was asked.
        what: String,
        /// What it said.
        reason: String,
    },
    /// The storage is busy or broken for the moment.
    #[error("{storage} could not {what} now: {reason}")]
    Failed {
        /// Name of the storage.
        storage: String,
        /// What was asked.
        what: String,
        /// What it said.
        reason: String,
    },
    /// An answer that makes no sense.
    #[error("{storage} gave an unexpected answer to {request}: {answer}")]
    Odd {
        /// Name of the storage.
        storage: String,
        /// Request.
        request: String,
        /// The beginning of the answer.
        answer: String,
    },
    /// Smaller than it is.
    #[error("{what} is {has} bytes large and cannot shrink to {wanted}: data would be lost; ask for at least its size")]
    Shrink {
        /// Object.
        what: String,
        /// Bytes that it has.
        has: u64,
        /// Bytes that were asked for.
        wanted: u64,
    },
    /// Hosts use it.
    #[error("{what} is in use by {by}; take the access away or stop the hosts first")]
    InUse {
        /// Object.
        what: String,
        /// Hosts.
        by: String,
    },
    /// What is needed is not there.
    #[error("{what} does not exist on {storage}; {remedy}")]
    Missing {
        /// Name of the storage.
        storage: String,
        /// Object.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// A setting of the storage, or a value of an order, is wrong.
    #[error("{storage}: {reason}")]
    Setting {
        /// Name of the storage.
        storage: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The driver cannot do that.
    #[error("{storage}: the driver {driver} offers no {what}; choose another storage")]
    Unsupported {
        /// Name of the storage.
        storage: String,
        /// Driver.
        driver: String,
        /// What was asked.
        what: String,
    },
    /// No driver of that name.
    #[error("there is no driver {0:?} in this version; known are: {names}", names = known())]
    UnknownDriver(String),
}

fn known() -> String {
    DRIVERS.iter().map(|d| d.as_str()).collect::<Vec<_>>().join(", ")
}

impl StorageError {
    /// Whether trying again may help without a person.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Failed { .. } | Self::Odd { .. } | Self::InUse { .. })
    }
}
