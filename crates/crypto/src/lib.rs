//! Everything cryptographic, and the only crate that knows which TLS provider we use (ring).

pub mod ca;
pub mod hmac;
pub mod password;
pub mod seal;
pub mod signature;
pub mod tls;
pub mod token;
pub mod totp;

pub use ca::{Ca, Identity};
pub use seal::Sealer;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum CryptoError {
    /// A key, certificate or request is not what it should be.
    #[error("{0}")]
    Bad(String),
    /// A sealed secret cannot be opened with this key.
    #[error("the secret cannot be opened: it was sealed with another key or was changed")]
    CannotOpen,
    /// A file cannot be read or written.
    #[error("{path}: {cause}")]
    File {
        /// Path.
        path: String,
        /// Why.
        cause: std::io::Error,
    },
}

impl CryptoError {
    fn bad(what: &str, cause: impl std::fmt::Display) -> Self {
        Self::Bad(format!("{what}: {cause}"))
    }
}

/// Installs the TLS provider of the process; later calls change nothing. Call it first in `main`.
pub fn install_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Writes a file that only its owner may read, through a temporary file, so that it is whole or not there.
pub fn write_private(path: &std::path::Path, bytes: &[u8]) -> Result<(), CryptoError> {
    use std::io::Write;
    let fail = |cause| CryptoError::File { path: path.display().to_string(), cause };
    let temporary = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary).map_err(fail)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fail)?;
    std::fs::rename(&temporary, path).map_err(fail)
}
