//! InfiniBand: partitions of a fabric, and the ports of servers in them.

use serde::{Deserialize, Serialize};

use crate::{Id, order::Order, validate::FieldError};

/// Partition keys that may be used. `0x7fff` is the partition that all ports of a fabric are in from the start, 0 is none.
pub const PKEY_RANGE: std::ops::RangeInclusive<u16> = 0x0001..=0x7ffe;

/// How a port is in a partition. Limited members reach full ones, and not each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Membership {
    /// Reaches all members.
    #[default]
    Full,
    /// Reaches full members alone.
    Limited,
}

impl Membership {
    /// From its word.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "full" => Some(Self::Full),
            "limited" => Some(Self::Limited),
            _ => None,
        }
    }

    /// Whether it is the usual one.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Full)
    }

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Limited => "limited",
        }
    }
}

/// A port of a server in a partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionMember {
    /// The port's GUID: 16 hexadecimal digits in lower case. Build it with [`guid`].
    pub guid: String,
    /// How it is in.
    pub membership: Membership,
}

/// `infiniband.partition`: ports come into a partition of a fabric and leave it. Others that are in it stay: networks may be shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IbPartition {
    /// The fabric.
    pub fabric_id: Id,
    /// The logical network.
    pub network_id: Id,
    /// What the subnet manager shows for it.
    pub label: String,
    /// The partition's key.
    pub pkey: u16,
    /// Ports that shall be in it, as told here.
    pub add: Vec<PartitionMember>,
    /// GUIDs of ports that shall not be in it.
    pub remove: Vec<String>,
    /// The partition goes altogether.
    #[serde(default)]
    pub delete: bool,
}

impl Order for IbPartition {
    const NAME: &'static str = "infiniband.partition";
}

/// A partition key: a number, or text as people write it (`0x8001` is partition `0x0001` with full membership; that bit is no part of the key).
pub fn pkey(field: &str, value: i64) -> Result<u16, FieldError> {
    let bad = || {
        FieldError::new(
            field,
            format!(
                "{value} is not a partition key; use {} (0x{:04x}) to {} (0x{:04x})",
                PKEY_RANGE.start(),
                PKEY_RANGE.start(),
                PKEY_RANGE.end(),
                PKEY_RANGE.end()
            ),
        )
    };
    u16::try_from(value).ok().filter(|k| PKEY_RANGE.contains(k)).ok_or_else(bad)
}

/// A key or a range of keys as fabrics list them: `0x10-0x1f`, `16-31` or `5`.
pub fn pkey_range(field: &str, text: &str) -> Result<(u16, u16), FieldError> {
    let bad =
        || FieldError::new(field, format!("{text:?} is not a range of partition keys like 0x0010-0x00ff or 16-255"));
    let one = |t: &str| -> Result<u16, FieldError> {
        let t = t.trim();
        let n = match t.strip_prefix("0x").or_else(|| t.strip_prefix("0X")) {
            Some(hex) => i64::from_str_radix(hex, 16),
            None => t.parse(),
        };
        pkey(field, n.map_err(|_| bad())?)
    };
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let (low, high) = (one(low)?, one(high)?);
    if low > high { Err(bad()) } else { Ok((low, high)) }
}

/// A GUID as subnet managers write it: 16 hexadecimal digits. `0x` before it, colons and dashes within are understood.
pub fn guid(field: &str, text: &str) -> Result<String, FieldError> {
    let plain: String = text
        .trim()
        .trim_start_matches("0x")
        .trim_start_matches("0X")
        .chars()
        .filter(|c| !matches!(c, ':' | '-'))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    if plain.len() == 16 && plain.bytes().all(|b| b.is_ascii_hexdigit()) && plain.bytes().any(|b| b != b'0') {
        Ok(plain)
    } else {
        Err(FieldError::new(field, format!("{text:?} is not a GUID of 16 hexadecimal digits")))
    }
}

/// The hardware address that stands for a port where only six bytes fit: its GUID without the two bytes in the middle, as the makers of
/// adapters form one from the other.
pub fn mac_of(guid: &str) -> Option<crate::Mac> {
    if guid.len() != 16 || !guid.is_ascii() {
        return None;
    }
    crate::validate::mac("guid", &format!("{}{}", &guid[..6], &guid[10..])).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_ranges() {
        assert_eq!(pkey("pkey", 0x10).unwrap(), 0x10);
        for bad in [0, -1, 0x7fff, 0x8001, 99_999] {
            assert!(pkey("pkey", bad).unwrap_err().message.contains("0x7ffe"));
        }
        assert_eq!(pkey_range("r", "0x10-0x1F").unwrap(), (16, 31));
        assert_eq!(pkey_range("r", " 5 ").unwrap(), (5, 5));
        for bad in ["", "x", "9-5", "0-5", "1-0x7fff", "1-2-3"] {
            assert!(pkey_range("r", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn guids() {
        for good in ["0x98039b0300a1b2c3", "98:03:9b:03:00:a1:b2:c3", "98039B0300A1B2C3", "9803-9b03-00a1-b2c3"] {
            assert_eq!(guid("guid", good).unwrap(), "98039b0300a1b2c3");
        }
        for bad in ["", "0x0", "0000000000000000", "98039b0300a1b2c", "98039b0300a1b2cg"] {
            assert!(guid("guid", bad).is_err(), "{bad}");
        }
        assert_eq!(mac_of("98039b0300a1b2c3").unwrap(), "98:03:9b:a1:b2:c3");
        assert_eq!(mac_of("short"), None);
    }
}
