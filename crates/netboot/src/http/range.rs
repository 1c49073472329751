//! Byte ranges (RFC 9110 section 14).

/// What part of a file is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// All of it: no range, one that is not understood, or several at once (which a server may decline).
    Whole,
    /// From the first to the last byte, both included.
    Part(u64, u64),
    /// Nothing that the file has.
    Unsatisfiable,
}

/// Read a `Range` header for a file of `len` bytes.
pub fn parse(header: &str, len: u64) -> ByteRange {
    let number = |text: &str| -> Option<u64> {
        // `parse` would take a sign; the grammar has digits only.
        text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
    };
    let Some((unit, spec)) = header.split_once('=') else { return ByteRange::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || spec.contains(',') {
        return ByteRange::Whole;
    }
    let Some((first, last)) = spec.trim().split_once('-') else { return ByteRange::Whole };
    match (first.is_empty(), last.is_empty()) {
        (true, true) => ByteRange::Whole,
        (true, false) => match number(last) {
            None => ByteRange::Whole,
            Some(0) => ByteRange::Unsatisfiable,
            Some(_) if len == 0 => ByteRange::Unsatisfiable,
            Some(suffix) => ByteRange::Part(len.saturating_sub(suffix), len - 1),
        },
        (false, open) => {
            let end = if open { Some(u64::MAX) } else { number(last) };
            match (number(first), end) {
                (Some(start), Some(end)) if start > end => ByteRange::Whole,
                (Some(start), Some(_)) if start >= len => ByteRange::Unsatisfiable,
                (Some(start), Some(end)) => ByteRange::Part(start, end.min(len - 1)),
                _ => ByteRange::Whole,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ByteRange::{Part, Unsatisfiable, Whole};

    #[test]
    fn table() {
        for (header, len, expected) in [
            ("bytes=0-9", 100, Part(0, 9)),
            ("bytes=90-", 100, Part(90, 99)),
            ("bytes=90-1000", 100, Part(90, 99)),
            ("bytes=-5", 100, Part(95, 99)),
            ("bytes=-500", 100, Part(0, 99)),
            ("Bytes=5-5", 100, Part(5, 5)),
            ("bytes=100-", 100, Unsatisfiable),
            ("bytes=-0", 100, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-1", 0, Unsatisfiable),
            ("bytes=9-5", 100, Whole),
            ("bytes=+1-5", 100, Whole),
            ("bytes=0-1,5-6", 100, Whole),
            ("lines=1-2", 100, Whole),
            ("bytes=-", 100, Whole),
            ("", 100, Whole),
        ] {
            assert_eq!(parse(header, len), expected, "{header:?} of {len}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_header_gives_a_part_within_the_file(header in "(bytes=)?[-0-9,+ ]{0,40}|\\PC*", len: u64) {
            if let Part(first, last) = parse(&header, len) {
                assert!(first <= last && last < len);
            }
        }
    }
}
