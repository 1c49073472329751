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

/// crypt(3) hash of a password for an operating system (`$6$`, SHA-512, 5,000 rounds), with a salt made from `stable`: the same
/// again for the same input, so that a seed does not change between two reads.
pub fn crypt(password: &str, stable: &str) -> Result<String, CryptoError> {
    let salt = &crate::token::hash(stable)[..16];
    let params = sha_crypt::Sha512Params::new(5000).map_err(|e| CryptoError::Bad(format!("crypt: {e:?}")))?;
    let hash = sha_crypt::sha512_crypt_b64(password.as_bytes(), salt.as_bytes(), &params)
        .map_err(|e| CryptoError::Bad(format!("crypt: {e:?}")))?;
    Ok(format!("$6${salt}${hash}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crypt_is_stable_and_salted() {
        let one = crypt("secret", "job 1").unwrap();
        assert_eq!(one, crypt("secret", "job 1").unwrap());
        assert_ne!(one, crypt("secret", "job 2").unwrap());
        assert!(one.starts_with("$6$") && sha_crypt::sha512_check("secret", &one).is_ok());
    }

    #[test]
    fn hashes() {
        let h = hash("secret").unwrap();
        assert!(verify("secret", &h) && !verify("Secret", &h) && !verify("secret", "rubbish"));
        assert_ne!(generate(), generate());
    }
}
