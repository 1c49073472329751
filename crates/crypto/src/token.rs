//! Random tokens, their hashes, and comparison in constant time.

use rand::RngCore;
use sha2::{Digest, Sha256};

/// 32 random bytes in hex: session tokens, API keys, enrolment and boot tokens.
pub fn random() -> String {
    let mut bytes = [0u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    hex::encode(bytes)
}

/// SHA-256 in hex. Enough for tokens, which have all their entropy; not for passwords.
pub fn hash(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

/// SHA-256 of bytes in hex: certificate fingerprints, image digests.
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Compares without telling by its duration where the first difference is.
pub fn equal(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0u8, |acc, (x, y)| acc | (x ^ y)) == 0
}
