//! Checks of user input. Each returns the cleaned value, or words that say what is wrong and what to do.

/// A field that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("{field}: {message}")]
pub struct FieldError {
    /// Path of the field as the caller wrote it, `config.label`.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl FieldError {
    /// A new one.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// A label: 1 to 63 letters, digits, `-`, `_` or `.`, beginning and ending with a letter or digit.
pub fn label(field: &str, text: &str) -> Result<String, FieldError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(FieldError::new(field, "must not be empty"));
    }
    if text.chars().count() > 63 {
        return Err(FieldError::new(
            field,
            format!("is {} characters long; at most 63 are allowed", text.chars().count()),
        ));
    }
    if let Some(c) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || "-_.".contains(*c))) {
        return Err(FieldError::new(field, format!("contains {c:?}; use letters, digits, '-', '_' and '.'")));
    }
    let ends_well = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if !ends_well(text.chars().next()) || !ends_well(text.chars().last()) {
        return Err(FieldError::new(field, "must begin and end with a letter or a digit"));
    }
    Ok(text.to_owned())
}

/// A name for people: 1 to 255 characters without control characters.
pub fn name(field: &str, text: &str) -> Result<String, FieldError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(FieldError::new(field, "must not be empty"));
    }
    if text.chars().count() > 255 {
        return Err(FieldError::new(
            field,
            format!("is {} characters long; at most 255 are allowed", text.chars().count()),
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(FieldError::new(field, "contains control characters"));
    }
    Ok(text.to_owned())
}

/// A host name of one or more labels (RFC 1123), lower case.
pub fn hostname(field: &str, text: &str) -> Result<String, FieldError> {
    let text = text.trim().to_ascii_lowercase();
    let ok_label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if text.is_empty() || text.len() > 253 || !text.split('.').all(ok_label) {
        return Err(FieldError::new(
            field,
            format!("{text:?} is not a host name; use letters, digits and '-', 63 characters a label at most"),
        ));
    }
    Ok(text)
}

/// A MAC address in any usual spelling, to lower case with colons.
pub fn mac(field: &str, text: &str) -> Result<crate::Mac, FieldError> {
    let hex: String = text.chars().filter(char::is_ascii_hexdigit).collect::<String>().to_ascii_lowercase();
    let foreign = text.chars().any(|c| !c.is_ascii_hexdigit() && !":-. ".contains(c));
    if hex.len() != 12 || foreign {
        return Err(FieldError::new(field, format!("{text:?} is not a MAC address; write it as 52:54:00:12:34:56")));
    }
    Ok(hex.as_bytes().chunks(2).map(|p| String::from_utf8_lossy(p).into_owned()).collect::<Vec<_>>().join(":"))
}

/// A VLAN id.
pub fn vlan(field: &str, id: i64) -> Result<u16, FieldError> {
    u16::try_from(id)
        .ok()
        .filter(|v| crate::network::VLAN_RANGE.contains(v))
        .ok_or_else(|| FieldError::new(field, format!("{id} is not a VLAN id; use 1 to 4094")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        assert_eq!(label("label", " web-1 ").unwrap(), "web-1");
        assert!(label("label", "").is_err());
        assert!(label("label", &"a".repeat(64)).unwrap_err().message.contains("at most 63"));
        assert!(label("label", "a b").unwrap_err().message.contains("' '"));
        assert!(label("label", "-a").is_err());
    }

    #[test]
    fn macs() {
        for m in ["52:54:00:AB:CD:EF", "52-54-00-ab-cd-ef", "5254.00ab.cdef"] {
            assert_eq!(mac("mac", m).unwrap(), "52:54:00:ab:cd:ef");
        }
        assert!(mac("mac", "52:54:00:ab:cd").is_err());
        assert!(mac("mac", "zz:54:00:ab:cd:ef").is_err());
    }

    #[test]
    fn hostnames_and_vlans() {
        assert_eq!(hostname("h", "Web-1.Example").unwrap(), "web-1.example");
        assert!(hostname("h", "a..b").is_err());
        assert!(vlan("v", 0).is_err());
        assert!(vlan("v", 4095).is_err());
        assert_eq!(vlan("v", 4094).unwrap(), 4094);
    }
}
