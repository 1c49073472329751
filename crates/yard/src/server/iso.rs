//! Just enough of ISO 9660 to read small files of a medium, with their long names (Rock Ridge) where they have them.

use std::collections::BTreeMap;

const SECTOR: usize = 2048;
const DEPTH: usize = 8;
const FILES: usize = 10_000;

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize)
}

/// Files by their paths, without a slash in front. What is not understood is left out.
pub fn files(image: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let descriptor = image.get(16 * SECTOR..17 * SECTOR).filter(|d| d.get(1..6) == Some(b"CD001"));
    if let Some(root) = descriptor.and_then(|d| d.get(156..190)) {
        folder(image, root, "", DEPTH, &mut all);
    }
    all
}

fn extent<'a>(image: &'a [u8], record: &[u8]) -> Option<&'a [u8]> {
    let from = number(record, 2)?.checked_mul(SECTOR)?;
    image.get(from..from.checked_add(number(record, 10)?)?)
}

fn folder(image: &[u8], record: &[u8], path: &str, depth: usize, all: &mut BTreeMap<String, Vec<u8>>) {
    let (Some(entries), 1..) = (extent(image, record), depth) else { return };
    let mut at = 0;
    while let Some(length) = entries.get(at).map(|l| usize::from(*l)) {
        if length == 0 {
            // Records do not cross sectors.
            at = (at / SECTOR + 1) * SECTOR;
            continue;
        }
        let Some(entry) = entries.get(at..at + length) else { return };
        at += length;
        let Some(name) = name(entry) else { continue };
        let path = if path.is_empty() { name } else { format!("{path}/{name}") };
        if entry.get(25).is_some_and(|flags| flags & 2 != 0) {
            folder(image, entry, &path, depth - 1, all);
        } else if let Some(content) = extent(image, entry).filter(|c| c.len() < 1 << 20 && all.len() < FILES) {
            all.insert(path, content.to_vec());
        }
    }
}

/// `None` for the folder itself and the one above.
fn name(entry: &[u8]) -> Option<String> {
    let length = usize::from(*entry.get(32)?);
    let short = entry.get(33..33 + length)?;
    if matches!(short, [0 | 1]) {
        return None;
    }
    // Rock Ridge follows, at an even place.
    let mut at = 33 + length + (length + 1) % 2;
    let mut long = Vec::new();
    while let Some([kind, second, size, _]) = entry.get(at..at + 4) {
        if (kind, second) == (&b'N', &b'M') {
            long.extend_from_slice(entry.get(at + 5..at + usize::from(*size)).unwrap_or_default());
        }
        at += usize::from(*size).max(4);
    }
    let short =
        String::from_utf8_lossy(short).split(';').next().unwrap_or_default().trim_end_matches('.').to_lowercase();
    Some(if long.is_empty() { short } else { String::from_utf8_lossy(&long).into_owned() })
}
