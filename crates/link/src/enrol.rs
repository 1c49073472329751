//! The one-time word with which a site enrols: a random token and the fingerprint of the Global Controller's authority, in one string.

/// `TOKEN.FINGERPRINT`, to be pasted as one word.
pub fn word(token: &str, ca_pem: &str) -> Result<String, crypto::CryptoError> {
    Ok(format!("{token}.{}", crypto::tls::fingerprint(ca_pem)?))
}

/// Token and fingerprint of a word.
pub fn parse(word: &str) -> Option<(&str, &str)> {
    let hex = |s: &str| s.len() == 64 && s.bytes().all(|b| b.is_ascii_hexdigit());
    word.trim().split_once('.').filter(|(token, authority)| hex(token) && hex(authority))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_word_is_taken_apart() {
        let (token, authority) = ("a".repeat(64), "b".repeat(64));
        let word = format!("{token}.{authority}\n");
        assert_eq!(super::parse(&word), Some((token.as_str(), authority.as_str())));
        assert_eq!(super::parse("a.b"), None);
        assert_eq!(super::parse(&token), None);
    }
}
