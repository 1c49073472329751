//! Differences and names: pure, the same for every array.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::StorageError;

/// What must change so that `has` becomes `wants`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference<T> {
    /// Goes, and goes first.
    pub remove: BTreeSet<T>,
    /// Comes.
    pub add: BTreeSet<T>,
}

/// The difference of two sets.
pub fn difference<T: Ord + Clone>(has: &BTreeSet<T>, wants: &BTreeSet<T>) -> Difference<T> {
    Difference { remove: has.difference(wants).cloned().collect(), add: wants.difference(has).cloned().collect() }
}

/// The size to grow to; `None` when it is there already. `unit` is what the array rounds sizes up to.
pub fn growth(what: &str, has: u64, wanted: u64, unit: u64) -> Result<Option<u64>, StorageError> {
    let target = round_up(wanted, unit);
    match has.cmp(&target) {
        std::cmp::Ordering::Less => Ok(Some(target)),
        std::cmp::Ordering::Equal => Ok(None),
        std::cmp::Ordering::Greater => Err(StorageError::Shrink { what: what.to_owned(), has, wanted }),
    }
}

/// The next multiple of `unit`.
pub fn round_up(bytes: u64, unit: u64) -> u64 {
    let unit = Ord::max(unit, 1);
    bytes.div_ceil(unit).saturating_mul(unit)
}

/// What the names on an array may look like.
#[derive(Clone, Copy, Debug)]
pub struct NameRule {
    /// Longest name.
    pub longest: usize,
    /// Characters beside letters and digits.
    pub others: &'static str,
    /// Letters are small.
    pub lower: bool,
}

/// The name of our object on an array: readable, always the same for a key, and never that of another key. What the array does not allow
/// is replaced, and then a hash of the key keeps the names apart.
pub fn object_name(prefix: &str, key: &str, rule: NameRule) -> String {
    let joint = if rule.others.contains('-') { '-' } else { '_' };
    let whole = format!("{prefix}{joint}{key}");
    let clean: String = whole
        .chars()
        .map(|c| {
            let c = if rule.lower { c.to_ascii_lowercase() } else { c };
            if c.is_ascii_alphanumeric() || rule.others.contains(c) { c } else { joint }
        })
        .collect();
    // A key that differs from its clean form only in what every array of that rule writes the same way needs no hash.
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let faithful = key.chars().all(plain) && clean.len() <= rule.longest;
    if faithful {
        return clean;
    }
    let hash = &hex::encode(Sha256::digest(key.as_bytes()))[..12];
    let keep = rule.longest.saturating_sub(hash.len() + 1);
    let head: String = clean.chars().take(keep).collect();
    format!("{head}{joint}{hash}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DASH: NameRule = NameRule { longest: 40, others: "-", lower: true };
    const UNDER: NameRule = NameRule { longest: 31, others: "_", lower: false };

    #[test]
    fn names_are_readable() {
        assert_eq!(object_name("sy", "drive-12", DASH), "sy-drive-12");
        assert_eq!(object_name("sy", "drive-12", UNDER), "sy_drive_12");
        assert_eq!(object_name("sy", "Before Upgrade", DASH).len(), "sy-before-upgrade-".len() + 12);
        assert!(object_name("sy", &"x".repeat(90), DASH).len() <= 40);
    }

    #[test]
    fn sizes_only_grow() {
        assert_eq!(growth("v", 10, 10, 1), Ok(None));
        assert_eq!(growth("v", 10, 11, 1), Ok(Some(11)));
        assert_eq!(growth("v", 16, 11, 8), Ok(None));
        assert!(matches!(growth("v", 24, 11, 8), Err(StorageError::Shrink { has: 24, wanted: 11, .. })));
    }

    proptest! {
        #[test]
        fn different_keys_have_different_names(a in "[a-zA-Z0-9_. -]{1,60}", b in "[a-zA-Z0-9_. -]{1,60}") {
            for rule in [DASH, UNDER] {
                let (x, y) = (object_name("sy", &a, rule), object_name("sy", &b, rule));
                prop_assert_eq!(a == b, x == y);
                prop_assert!(x.len() <= rule.longest);
                prop_assert!(x.chars().all(|c| c.is_ascii_alphanumeric() || rule.others.contains(c)));
            }
        }

        #[test]
        fn a_difference_leads_from_one_set_to_the_other(has: BTreeSet<u8>, wants: BTreeSet<u8>) {
            let d = difference(&has, &wants);
            let mut now = has;
            now.retain(|x| !d.remove.contains(x));
            prop_assert!(now.is_disjoint(&d.add));
            now.extend(d.add);
            prop_assert_eq!(now, wants);
        }
    }
}
