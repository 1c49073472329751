//! Ed25519 signatures, for releases.

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::CryptoError;

/// A new key pair as PKCS#8, and its public key in hex.
pub fn generate() -> Result<(Vec<u8>, String), CryptoError> {
    let pkcs8 =
        Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).map_err(|e| CryptoError::bad("key", e))?;
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).map_err(|e| CryptoError::bad("key", e))?;
    Ok((pkcs8.as_ref().to_vec(), hex::encode(pair.public_key().as_ref())))
}

/// Signs a message; the signature is hex.
pub fn sign(pkcs8: &[u8], message: &[u8]) -> Result<String, CryptoError> {
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|e| CryptoError::bad("key", e))?;
    Ok(hex::encode(pair.sign(message).as_ref()))
}

/// Whether the signature is the key's.
pub fn verify(public_key: &str, message: &[u8], signature: &str) -> bool {
    let (Ok(key), Ok(signature)) = (hex::decode(public_key), hex::decode(signature)) else { return false };
    UnparsedPublicKey::new(&ED25519, key).verify(message, &signature).is_ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn signatures() {
        let (key, public) = super::generate().unwrap();
        let s = super::sign(&key, b"release 1").unwrap();
        assert!(super::verify(&public, b"release 1", &s));
        assert!(!super::verify(&public, b"release 2", &s));
        assert!(!super::verify("zz", b"release 1", &s));
    }
}
