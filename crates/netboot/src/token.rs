//! Bearer tokens of boot sessions.

/// Characters of a token: 32 bytes in hex.
pub const LENGTH: usize = 64;

/// Whether this can be a token at all: 64 hexadecimal characters. Checked before any lookup, so that rubbish costs
/// nothing.
pub fn well_formed(text: &str) -> bool {
    text.len() == LENGTH && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Compares two tokens in a time that depends on their length only, so that answers do not tell how much of a guess
/// was right. Anything that is not well formed never matches, not even itself.
pub fn matches(expected: &str, presented: &str) -> bool {
    if !well_formed(expected) || !well_formed(presented) {
        return false;
    }
    let difference =
        expected.bytes().zip(presented.bytes()).fold(0u8, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
    std::hint::black_box(difference) == 0
}

/// The token of an `Authorization: Bearer …` header (RFC 6750; the scheme is case-insensitive).
pub fn bearer(header: &str) -> Option<&str> {
    let (scheme, rest) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_well_formed_token_matches() {
        let a = "0123456789abcdef".repeat(4);
        let mut b = a.clone();
        b.replace_range(63.., "0");
        assert!(matches(&a, &a));
        assert!(!matches(&a, &b));
        assert!(!matches("", ""));
        assert!(!matches("abc", "abc"));
        assert!(!matches(&a, &a[..63]));
    }

    #[test]
    fn bearer_headers() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc "), Some("abc"));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(bearer("Bearer"), None);
    }
}
