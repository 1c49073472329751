//! The kernel's command line: where the site is, and the token of this boot.

use crate::error::{Error, Result};

/// What the boot script gave.
#[derive(Clone, PartialEq, Eq)]
pub struct Arguments {
    /// Base of the site's URLs, without a trailing slash.
    pub url: String,
    /// SHA-256 in hex of the certificate that the site shows there.
    pub pin: String,
    /// Token of the boot session.
    pub token: String,
    /// MAC address of the interface that was booted from, in lower case with colons.
    pub mac: String,
}

/// Value of `name=` on a command line.
fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).filter(|v| !v.is_empty())
}

/// Reads it.
pub fn parse(line: &str) -> Result<Arguments> {
    let need = |name: &str| {
        value(line, name).ok_or_else(|| {
            Error::Failed(format!("the kernel was started without {name}; boot over the site's script.ipxe"))
        })
    };
    let url = need("steelyard.url")?.trim_end_matches('/').to_owned();
    let pin = need("steelyard.pin")?.to_owned();
    let token = need("steelyard.token")?.to_owned();
    let mac = need("steelyard.mac")?.replace('-', ":").to_lowercase();
    let octets: Vec<&str> = mac.split(':').collect();
    if octets.len() != 6 || octets.iter().any(|o| o.len() != 2 || u8::from_str_radix(o, 16).is_err()) {
        return Err(Error::Failed(format!("steelyard.mac: {mac:?} is not a MAC address")));
    }
    Ok(Arguments { url, pin, token, mac })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop")]
    use super::*;

    #[test]
    fn script_arguments_are_read() {
        let line = "initrd=initrd.img steelyard.url=https://192.0.2.1:8491/ steelyard.pin=cd steelyard.token=ab steelyard.mac=52-54-00-AB-00-01 quiet\n";
        let a = parse(line).unwrap();
        assert_eq!((a.url.as_str(), a.pin.as_str(), a.token.as_str()), ("https://192.0.2.1:8491", "cd", "ab"));
        assert_eq!(a.mac, "52:54:00:ab:00:01");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (line, word) in [
            ("quiet", "steelyard.url"),
            ("steelyard.url=https://a steelyard.token=1 steelyard.mac=52-54-00-ab-00-01", "steelyard.pin"),
            (
                "steelyard.url=https://a steelyard.pin=1 steelyard.token= steelyard.mac=52-54-00-ab-00-01",
                "steelyard.token",
            ),
            ("steelyard.url=https://a steelyard.pin=1 steelyard.token=1 steelyard.mac=52-54-00", "steelyard.mac"),
        ] {
            assert!(parse(line).err().unwrap().to_string().contains(word), "{line}");
        }
    }
}
