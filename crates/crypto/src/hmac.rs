//! Keyed hashes, for protocols that ask for them. SHA-1 is here for IPMI's older cipher suite alone.

use ring::hmac;

/// Which hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-1: 20 bytes, for protocols that know nothing better.
    Sha1,
    /// SHA-256: 32 bytes.
    Sha256,
}

/// The keyed hash (HMAC) of all parts one after the other.
pub fn sign(hash: Hash, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let algorithm = match hash {
        Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        Hash::Sha256 => hmac::HMAC_SHA256,
    };
    let mut context = hmac::Context::with_key(&hmac::Key::new(algorithm, key));
    for part in parts {
        context.update(part);
    }
    context.sign().as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 2202 and RFC 4231, second test cases.
    #[test]
    fn known_answers() {
        let text: [&[u8]; 2] = [b"what do ya want ", b"for nothing?"];
        let sha1 = sign(Hash::Sha1, b"Jefe", &text);
        assert_eq!(hex::encode(sha1), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        let sha256 = sign(Hash::Sha256, b"Jefe", &text);
        assert_eq!(hex::encode(sha256), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
