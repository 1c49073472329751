//! Passwords of people: argon2id. Passwords for machines: random words that can be read aloud.

use argon2::{Argon2, PasswordHasher, PasswordVerifier, password_hash::phc::PasswordHash};
use rand::Rng;

use crate::CryptoError;

/// Hash of a password (PHC string, argon2id with the library's current parameters).
pub fn hash(password: &str) -> Result<String, CryptoError> {
    Ok(Argon2::default().hash_password(password.as_bytes()).map_err(|e| CryptoError::bad("password", e))?.to_string())
}

/// Whether a password fits a hash. A broken hash fits nothing.
pub fn verify(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|h| Argon2::default().verify_password(password.as_bytes(), &h).is_ok())
}

/// A random password of 20 characters without those that are mixed up (117 bits).
pub fn generate() -> String {
    const ALPHABET: &[u8] = b"abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let mut rng = rand::rng();
    (0..20).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes() {
        let h = hash("secret").unwrap();
        assert!(verify("secret", &h) && !verify("Secret", &h) && !verify("secret", "rubbish"));
        assert_ne!(generate(), generate());
    }
}
