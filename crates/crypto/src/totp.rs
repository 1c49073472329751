//! Time-based one-time passwords: RFC 6238 with SHA-1, six digits, 30 seconds, as authenticator apps expect.

use rand::RngCore;
use ring::hmac;

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A new secret in base32 (20 bytes, 32 characters).
pub fn secret() -> String {
    let mut bytes = [0u8; 20];
    rand::rng().fill_bytes(&mut bytes);
    bytes
        .chunks(5)
        .flat_map(|c| {
            let n = c.iter().fold(0u64, |n, b| (n << 8) | u64::from(*b));
            (0..8).rev().map(move |i| char::from(ALPHABET[((n >> (5 * i)) & 31) as usize]))
        })
        .collect()
}

fn decode(secret: &str) -> Option<Vec<u8>> {
    let (mut bits, mut count, mut out) = (0u64, 0, Vec::new());
    for c in secret.bytes().filter(|c| *c != b'=' && *c != b' ') {
        let value = ALPHABET.iter().position(|a| *a == c.to_ascii_uppercase())?;
        bits = (bits << 5) | value as u64;
        count += 5;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(out)
}

/// The code at a Unix time; `None` when the secret is not base32.
pub fn code(secret: &str, unix_seconds: u64) -> Option<String> {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &decode(secret)?);
    let tag = hmac::sign(&key, &(unix_seconds / 30).to_be_bytes());
    let bytes = tag.as_ref();
    let offset = usize::from(bytes.last()? & 15);
    let word = bytes.get(offset..offset + 4)?.iter().fold(0u32, |n, b| (n << 8) | u32::from(*b)) & 0x7fff_ffff;
    Some(format!("{:06}", word % 1_000_000))
}

/// Whether the code fits now, or in the step before or after (clocks differ).
pub fn verify(secret: &str, given: &str, unix_seconds: u64) -> bool {
    [unix_seconds.saturating_sub(30), unix_seconds, unix_seconds + 30]
        .iter()
        .any(|t| code(secret, *t).is_some_and(|c| crate::token::equal(&c, given.trim())))
}

#[cfg(test)]
mod tests {
    #[test]
    fn vectors_of_rfc_6238() {
        // The secret "12345678901234567890"; the RFC prints eight digits, these are the last six.
        let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        for (t, c) in [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924"), (2_000_000_000, "279037")]
        {
            assert_eq!(super::code(secret, t).as_deref(), Some(c));
            assert!(super::verify(secret, c, t + 29));
        }
        assert!(!super::verify(secret, "287082", 200));
        assert_eq!(super::secret().len(), 32);
        assert_eq!(super::code("not base32!", 0), None);
    }
}
