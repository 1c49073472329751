//! Secrets as they travel: sealed, never in clear.

use serde::{Deserialize, Serialize};

/// A secret encrypted for one reader (base64 of nonce and ciphertext). `crypto` seals and opens it; nothing else can.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(pub String);

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealed(…)")
    }
}

/// A secret in clear, for the shortest possible time. Not serialisable, and its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Clear(pub String);

impl std::fmt::Debug for Clear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clear(…)")
    }
}
