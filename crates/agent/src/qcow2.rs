//! Reading qcow2 images as a stream. The tables are fetched first by ranges and say where each cluster belongs; then the
//! file comes once from beginning to end, so that its digest can be made on the way. The tables pass by again there and
//! are compared, so that what the digest vouches for is what was used.

use crate::error::{Error, Result, Words};

const MAGIC: [u8; 4] = *b"QFI\xfb";
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Longest L1 table: 64 MiB of entries are far more than any disk needs.
const MAX_L1: u64 = 4 << 20;

/// A part of the file that holds data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extent {
    /// Where it begins in the file.
    pub at: u64,
    /// Its length in the file.
    pub length: u64,
    /// Where it belongs on the disk.
    pub disk: u64,
    /// Whether it is a cluster in compressed form.
    pub compressed: bool,
}

/// What the tables of an image say.
#[derive(Debug)]
pub struct Layout {
    /// Length of the disk.
    pub size: u64,
    /// Length of a cluster.
    pub cluster: u64,
    /// Data in order of the file.
    pub extents: Vec<Extent>,
    /// Offset and content of the tables that were read, in order of the file.
    pub tables: Vec<(u64, Vec<u8>)>,
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes)
}

fn refuse(what: &str) -> Error {
    Error::Failed(format!("the qcow2 image {what}; convert it with `qemu-img convert -O qcow2`"))
}

/// Reads the tables. `read` gives a part of the file; `length` is the file's.
pub fn layout(length: u64, mut read: impl FnMut(u64, usize) -> Result<Vec<u8>>) -> Result<Layout> {
    let header = read(0, Ord::min(length, 112) as usize)?;
    let version = be32(&header, 4);
    if header.len() < 72 || header[..4] != MAGIC || !matches!(version, 2 | 3) {
        return Err(refuse("has no header of version 2 or 3"));
    }
    let bits = be32(&header, 20);
    if !(9..=21).contains(&bits) {
        return Err(refuse("has clusters of a size that does not exist"));
    }
    if be64(&header, 8) != 0 {
        return Err(refuse("has a backing file"));
    }
    if be32(&header, 32) != 0 {
        return Err(refuse("is encrypted"));
    }
    let incompatible = if version == 3 { be64(&header, 72) } else { 0 };
    // Bit 0: not closed well (harmless for its data); 3: another compression follows in the header.
    if incompatible & !0b1001 != 0 {
        return Err(refuse("uses features that are not known here (external data, subclusters or damage)"));
    }
    if incompatible & 0b1000 != 0 && header.get(104).is_some_and(|c| *c != 0) {
        return Err(refuse("is compressed with zstd"));
    }
    let cluster = 1_u64 << bits;
    let size = be64(&header, 24);
    let (l1_entries, l1_at) = (u64::from(be32(&header, 36)), be64(&header, 40));
    let per_l2 = cluster / 8;
    if l1_entries > MAX_L1 || l1_entries.saturating_mul(per_l2).saturating_mul(cluster) < size {
        return Err(refuse("has a table of the wrong length"));
    }
    let mut tables = vec![(0, header)];
    let l1 = if l1_entries == 0 { Vec::new() } else { read(l1_at, l1_entries as usize * 8)? };
    let mut extents: Vec<Extent> = Vec::new();
    for (n, entry) in l1.as_chunks::<8>().0.iter().enumerate() {
        let l2_at = u64::from_be_bytes(*entry) & OFFSET;
        let first = n as u64 * per_l2 * cluster;
        if l2_at == 0 || first >= size {
            continue;
        }
        let l2 = read(l2_at, cluster as usize)?;
        for (m, entry) in l2.as_chunks::<8>().0.iter().enumerate() {
            let entry = u64::from_be_bytes(*entry);
            let disk = first + m as u64 * cluster;
            if disk >= size {
                break;
            }
            if entry & (1 << 62) != 0 {
                let shift = 62 - (bits - 8);
                let at = entry & ((1 << shift) - 1);
                let sectors = ((entry >> shift) & ((1 << (bits - 8)) - 1)) + 1;
                let ends = Ord::min((at & !511) + sectors * 512, length);
                if ends <= at {
                    return Err(refuse("points behind its own end"));
                }
                extents.push(Extent { at, length: ends - at, disk, compressed: true });
            } else if entry & OFFSET != 0 && entry & 1 == 0 {
                let at = entry & OFFSET;
                let part = Ord::min(cluster, size - disk);
                if at.checked_add(part).is_none_or(|e| e > length.next_multiple_of(cluster)) {
                    return Err(refuse("points behind its own end"));
                }
                // The last cluster of a file may be cut off where its zeros begin.
                let part = Ord::min(part, length.saturating_sub(at));
                match extents.last_mut() {
                    Some(e) if !e.compressed && e.at + e.length == at && e.disk + e.length == disk => e.length += part,
                    _ => extents.push(Extent { at, length: part, disk, compressed: false }),
                }
            }
        }
        tables.push((l2_at, l2));
    }
    tables.push((l1_at, l1));
    tables.sort_by_key(|(at, _)| *at);
    extents.sort();
    Ok(Layout { size, cluster, extents, tables })
}

impl Layout {
    /// Parts of the disk that no data is for: they read as zeros. In order, as offset and length.
    pub fn gaps(&self) -> Vec<(u64, u64)> {
        let mut data: Vec<(u64, u64)> =
            self.extents.iter().map(|e| (e.disk, if e.compressed { self.cluster } else { e.length })).collect();
        data.sort_unstable();
        let (mut gaps, mut at) = (Vec::new(), 0);
        for (begin, length) in data {
            if begin > at {
                gaps.push((at, begin - at));
            }
            at = Ord::max(at, begin + length);
        }
        if at < self.size {
            gaps.push((at, self.size - at));
        }
        gaps
    }

    /// A compressed cluster in clear.
    pub fn inflate(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let mut clear = vec![0; self.cluster as usize];
        let mut raw = flate2::Decompress::new(false);
        raw.decompress(bytes, &mut clear, flate2::FlushDecompress::Finish)
            .words(|| "a compressed cluster of the qcow2 image is damaged".into())?;
        if raw.total_out() != self.cluster {
            return Err(Error::Failed("a compressed cluster of the qcow2 image is too short".into()));
        }
        Ok(clear)
    }
}

/// Takes the file as it comes and hands out disk content.
pub struct Stream {
    layout: Layout,
    at: u64,
    next: usize,
    /// Compressed extents overlap in their last sector; those that have begun wait here.
    open: Vec<(Extent, Vec<u8>)>,
}

impl Stream {
    /// For a layout.
    pub fn new(layout: Layout) -> Self {
        Self { layout, at: 0, next: 0, open: Vec::new() }
    }

    /// Takes the next bytes of the file; `write` gets content and its place on the disk.
    pub fn take(&mut self, bytes: &[u8], mut write: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let (from, to) = (self.at, self.at + bytes.len() as u64);
        let part = |at: u64, length: u64| -> Option<(u64, &[u8])> {
            let (begin, end) = (Ord::max(at, from), Ord::min(at + length, to));
            (begin < end).then(|| (begin, &bytes[(begin - from) as usize..(end - from) as usize]))
        };
        for (at, table) in &self.layout.tables {
            if let Some((begin, seen)) = part(*at, table.len() as u64)
                && table[(begin - at) as usize..][..seen.len()] != *seen
            {
                return Err(Error::Failed("the tables of the qcow2 image changed while it was being fetched".into()));
            }
        }
        // All that begin here join those that are open.
        while let Some(extent) = self.layout.extents.get(self.next).filter(|e| e.at < to) {
            self.open.push((*extent, Vec::new()));
            self.next += 1;
        }
        let mut still = Vec::new();
        for (extent, mut held) in std::mem::take(&mut self.open) {
            if let Some((begin, seen)) = part(extent.at, extent.length) {
                if extent.compressed {
                    held.extend_from_slice(seen);
                } else {
                    write(extent.disk + (begin - extent.at), seen)?;
                }
            }
            if extent.at + extent.length > to {
                still.push((extent, held));
            } else if extent.compressed {
                let clear = self.layout.inflate(&held)?;
                let part = Ord::min(clear.len() as u64, self.layout.size - extent.disk) as usize;
                write(extent.disk, &clear[..part])?;
            }
        }
        self.open = still;
        self.at = to;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop")]
    use std::io::Write;

    use super::*;

    /// An image of three clusters of 512 bytes and a bit: data, a gap, compressed data, a short end.
    pub(crate) fn sample() -> (Vec<u8>, Vec<u8>) {
        let size = 3 * 512 + 100_u64;
        let mut disk = vec![0_u8; size as usize];
        disk[..512].fill(7);
        let text: Vec<u8> = (0..512).map(|n| (n % 7) as u8).collect();
        disk[1024..1536].copy_from_slice(&text);
        disk[1536..].fill(9);
        let mut packed = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(&text).unwrap();
        let packed = packed.finish().unwrap();
        let mut file = vec![0_u8; 6 * 512];
        file[..4].copy_from_slice(&MAGIC);
        file[4..8].copy_from_slice(&3_u32.to_be_bytes());
        file[20..24].copy_from_slice(&9_u32.to_be_bytes());
        file[24..32].copy_from_slice(&size.to_be_bytes());
        file[36..40].copy_from_slice(&1_u32.to_be_bytes());
        file[40..48].copy_from_slice(&512_u64.to_be_bytes());
        file[100..104].copy_from_slice(&104_u32.to_be_bytes());
        let copied = 1_u64 << 63;
        file[512..520].copy_from_slice(&(copied | 0x400).to_be_bytes());
        // L2: cluster 0 lies last in the file, 2 is compressed at an odd place, 3 is short.
        file[1024..1032].copy_from_slice(&(copied | 0xa00).to_be_bytes());
        let place = 1536_u64 + 13;
        file[1040..1048].copy_from_slice(&((1_u64 << 62) | place).to_be_bytes());
        file[1549..1549 + packed.len()].copy_from_slice(&packed);
        file[1048..1056].copy_from_slice(&(copied | 0x800).to_be_bytes());
        file[2048..2148].fill(9);
        file[2560..3072].fill(7);
        (file, disk)
    }

    fn read(file: &[u8]) -> impl FnMut(u64, usize) -> Result<Vec<u8>> + '_ {
        |at, length| {
            file.get(at as usize..at as usize + length).map(<[u8]>::to_vec).ok_or_else(|| Error::from("behind the end"))
        }
    }

    #[test]
    fn the_disk_comes_out_whatever_the_pieces() {
        let (file, disk) = sample();
        for piece in [1, 7, 512, 1000, 5000] {
            let layout = layout(file.len() as u64, read(&file)).unwrap();
            assert_eq!(layout.gaps(), [(512, 512)]);
            let mut out = vec![0xee_u8; layout.size as usize];
            for (at, length) in layout.gaps() {
                out[at as usize..(at + length) as usize].fill(0);
            }
            let mut stream = Stream::new(layout);
            for bytes in file.chunks(piece) {
                stream
                    .take(bytes, |at, b| {
                        out[at as usize..at as usize + b.len()].copy_from_slice(b);
                        Ok(())
                    })
                    .unwrap();
            }
            assert!(out == disk, "pieces of {piece}");
        }
    }

    #[test]
    fn a_file_that_changes_is_noticed() {
        let (mut file, _) = sample();
        let mut stream = Stream::new(layout(file.len() as u64, read(&file)).unwrap());
        file[1031] ^= 2;
        assert!(stream.take(&file, |_, _| Ok(())).is_err());
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let good = sample().0;
        for (at, value, word) in [
            (0, 0, "header"),
            (15, 1, "backing"),
            (35, 1, "encrypted"),
            (79, 4, "features"),
            (23, 60, "clusters"),
            (24, 1, "table"),
            (1025, 0xff, "behind"),
        ] {
            let mut file = good.clone();
            file[at] = value;
            let error = layout(file.len() as u64, read(&file)).err().unwrap().to_string();
            assert!(error.contains(word), "{at}: {error}");
        }
    }
}
