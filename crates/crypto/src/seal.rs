//! Secrets at rest and in transit: XChaCha20-Poly1305 with a random nonce.

use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce, aead::Aead};
use model::secret::{Clear, Sealed};
use rand::RngCore;
use zeroize::Zeroizing;

use crate::{CryptoError, write_private};

/// Length of a nonce.
const NONCE: usize = 24;

/// Seals and opens secrets with one key. A sealed secret is base64 of nonce and ciphertext.
#[derive(Clone)]
pub struct Sealer {
    key: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Sealer {
    /// With a random key.
    pub fn generate() -> Self {
        let mut key = Zeroizing::new([0u8; 32]);
        rand::rng().fill_bytes(&mut *key);
        Self { key }
    }

    /// With a key in hex (64 digits).
    pub fn from_hex(text: &str) -> Result<Self, CryptoError> {
        let mut key = Zeroizing::new([0u8; 32]);
        hex::decode_to_slice(text.trim(), &mut *key)
            .map_err(|_| CryptoError::Bad("the sealing key must be 64 hexadecimal digits".into()))?;
        Ok(Self { key })
    }

    /// The sealer of one site, made from this key and the site's id: a site opens what was sealed for it, and nothing else.
    pub fn for_site(&self, site_id: model::Id) -> Self {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &*self.key);
        let tag = ring::hmac::sign(&key, format!("steelyard site {site_id}").as_bytes());
        let mut derived = Zeroizing::new([0u8; 32]);
        derived.copy_from_slice(tag.as_ref());
        Self { key: derived }
    }

    /// The key in hex, to be handed over or stored.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(*self.key))
    }

    /// The key in a file; made there when it is not.
    pub fn load_or_create(path: &Path) -> Result<Self, CryptoError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::from_hex(&Zeroizing::new(text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let new = Self::generate();
                write_private(path, new.to_hex().as_bytes())?;
                Ok(new)
            }
            Err(cause) => Err(CryptoError::File { path: path.display().to_string(), cause }),
        }
    }

    /// Seals a secret.
    pub fn seal(&self, secret: &Clear) -> Result<Sealed, CryptoError> {
        let mut nonce = [0u8; NONCE];
        rand::rng().fill_bytes(&mut nonce);
        let cipher = XChaCha20Poly1305::new(&(*self.key).into());
        let sealed = cipher
            .encrypt(&XNonce::from(nonce), secret.0.as_bytes())
            .map_err(|_| CryptoError::Bad("the secret is too long to seal".into()))?;
        Ok(Sealed(STANDARD.encode([&nonce[..], &sealed].concat())))
    }

    /// Opens a sealed secret.
    pub fn open(&self, sealed: &Sealed) -> Result<Clear, CryptoError> {
        let bytes = STANDARD.decode(&sealed.0).map_err(|_| CryptoError::CannotOpen)?;
        let (nonce, body) = bytes.split_first_chunk::<NONCE>().ok_or(CryptoError::CannotOpen)?;
        let cipher = XChaCha20Poly1305::new(&(*self.key).into());
        let clear = cipher.decrypt(&XNonce::from(*nonce), body).map_err(|_| CryptoError::CannotOpen)?;
        String::from_utf8(clear).map(Clear).map_err(|_| CryptoError::CannotOpen)
    }

    /// Opens with this key and seals for another reader.
    pub fn reseal(&self, sealed: &Sealed, reader: &Self) -> Result<Sealed, CryptoError> {
        reader.seal(&self.open(sealed)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_secrets_open_with_their_key_alone() {
        let (a, b) = (Sealer::generate(), Sealer::generate());
        let sealed = a.seal(&Clear("calvin".into())).unwrap();
        assert!(!sealed.0.contains("calvin"));
        assert_eq!(a.open(&sealed).unwrap().0, "calvin");
        assert!(b.open(&sealed).is_err());
        assert_eq!(b.open(&a.reseal(&sealed, &b).unwrap()).unwrap().0, "calvin");
        let mut changed = STANDARD.decode(&sealed.0).unwrap();
        changed[30] ^= 1;
        assert!(a.open(&Sealed(STANDARD.encode(changed))).is_err());
        assert!(a.open(&Sealed("AAAA".into())).is_err());
    }

    #[test]
    fn a_site_opens_its_own_secrets_alone() {
        let root = Sealer::generate();
        let sealed = root.for_site(7).seal(&Clear("calvin".into())).unwrap();
        assert_eq!(root.for_site(7).open(&sealed).unwrap().0, "calvin");
        assert!(root.for_site(8).open(&sealed).is_err());
        assert!(root.open(&sealed).is_err());
    }

    #[test]
    fn keys_are_kept_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let first = Sealer::load_or_create(&path).unwrap();
        assert_eq!(Sealer::load_or_create(&path).unwrap().to_hex(), first.to_hex());
        std::fs::write(&path, "short").unwrap();
        assert!(Sealer::load_or_create(&path).is_err());
    }
}
