//! Partition tables: GPT and MBR. An image is made for a disk of its own size; on a larger one the table is stretched,
//! its last partition grown, and room made at the end for a seed.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::{
    device::Device,
    error::{Error, Result},
};

/// Partitions begin and end at multiples of this.
const ALIGN: u64 = 1 << 20;
/// GUID of an EFI system partition as it lies on disks.
pub const ESP: [u8; 16] = guid("c12a7328f81f11d2ba4b00a0c93ec93b");
/// GUID of a partition for data (Microsoft basic data), used for the seed.
const DATA: [u8; 16] = guid("ebd0a0a2b9e5443387c068b6b72699c7");
const LARGEST_TABLE: u64 = 1 << 20;

/// Bytes of a GUID from its digits: the first three fields are stored the other way round.
const fn guid(digits: &str) -> [u8; 16] {
    const fn nibble(c: u8) -> u8 {
        if c.is_ascii_digit() { c - b'0' } else { c - b'a' + 10 }
    }
    let (order, digits) = ([3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15], digits.as_bytes());
    let mut out = [0; 16];
    let mut n = 0;
    while n < 16 {
        out[n] = nibble(digits[order[n] * 2]) << 4 | nibble(digits[order[n] * 2 + 1]);
        n += 1;
    }
    out
}

/// One partition, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Number, from 1.
    pub number: u32,
    /// First byte.
    pub start: u64,
    /// Length.
    pub length: u64,
    /// GPT: its type and its own GUID.
    pub guids: Option<([u8; 16], [u8; 16])>,
}

/// A table that was read.
#[derive(Debug)]
pub enum Table {
    /// GUID partition table.
    Gpt(Gpt),
    /// The four entries of a boot sector.
    Mbr(Vec<u8>),
}

/// The parts of a GPT.
#[derive(Debug)]
pub struct Gpt {
    sector: u64,
    header: Vec<u8>,
    entries: Vec<u8>,
    entry: usize,
}

fn le32(b: &[u8], at: usize) -> u32 {
    b.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}
fn le64(b: &[u8], at: usize) -> u64 {
    b.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}
fn bytes16(b: &[u8], at: usize) -> [u8; 16] {
    b.get(at..at + 16).and_then(|b| b.try_into().ok()).unwrap_or_default()
}
fn set64(b: &mut [u8], at: usize, value: u64) {
    b[at..at + 8].copy_from_slice(&value.to_le_bytes());
}
fn set32(b: &mut [u8], at: usize, value: u32) {
    b[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// CRC-32 as GPT and gzip use it.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 })
    })
}

/// Reads the table of a disk; none is `None`, as is a damaged one.
pub fn read(device: &Device) -> Option<Table> {
    let mut first = vec![0; 512];
    device.read(0, &mut first).ok()?;
    if first[510..] != [0x55, 0xaa] {
        return None;
    }
    for sector in [512, 4096] {
        if let Some(gpt) = read_gpt(device, sector) {
            return Some(Table::Gpt(gpt));
        }
    }
    // A boot sector of a file system has the same mark; entries in order tell a table.
    let plausible = (0..4).all(|n| matches!(first[446 + n * 16], 0 | 0x80));
    (plausible && (0..4).any(|n| first[446 + n * 16 + 4] != 0)).then_some(Table::Mbr(first))
}

fn read_gpt(device: &Device, sector: u64) -> Option<Gpt> {
    let mut header = vec![0; sector as usize];
    device.read(sector, &mut header).ok()?;
    let length = le32(&header, 12) as usize;
    if &header[..8] != b"EFI PART" || !(92..=512).contains(&length) {
        return None;
    }
    let mut checked = header[..length].to_vec();
    set32(&mut checked, 16, 0);
    let (count, entry) = (u64::from(le32(&header, 80)), u64::from(le32(&header, 84)));
    let table = count * entry;
    if crc32(&checked) != le32(&header, 16) || entry < 128 || !(1..=LARGEST_TABLE).contains(&table) {
        return None;
    }
    let mut entries = vec![0; table as usize];
    device.read(le64(&header, 72).checked_mul(sector)?, &mut entries).ok()?;
    (crc32(&entries) == le32(&header, 88)).then_some(Gpt { sector, header, entries, entry: entry as usize })
}

impl Table {
    /// All partitions in use.
    pub fn partitions(&self) -> Vec<Partition> {
        match self {
            Self::Gpt(gpt) => gpt.partitions(),
            Self::Mbr(sector) => (0..4)
                .map(|n| (n, &sector[446 + n * 16..462 + n * 16]))
                .filter(|(_, e)| e[4] != 0 && le32(e, 12) != 0)
                .map(|(n, e)| Partition {
                    number: n as u32 + 1,
                    start: u64::from(le32(e, 8)) * 512,
                    length: u64::from(le32(e, 12)) * 512,
                    guids: None,
                })
                .collect(),
        }
    }

    /// Where partitions begin.
    pub fn starts(&self) -> BTreeSet<u64> {
        self.partitions().iter().map(|p| p.start).collect()
    }

    /// Bytes of a logical sector.
    pub fn sector(&self) -> u64 {
        if let Self::Gpt(gpt) = self { gpt.sector } else { 512 }
    }

    /// Moves the end of the table to the end of the disk, if it has one there.
    pub fn stretch(&mut self, device: &Device) -> Result<()> {
        match self {
            Self::Gpt(gpt) => gpt.stretch(device),
            Self::Mbr(_) => Ok(()),
        }
    }

    /// First byte that partitions must not reach.
    fn end(&self, device: &Device) -> u64 {
        let end = match self {
            Self::Gpt(gpt) => (le64(&gpt.header, 48) + 1) * gpt.sector,
            Self::Mbr(_) => Ord::min(device.size, u64::from(u32::MAX) * 512),
        };
        end / ALIGN * ALIGN
    }

    fn last(&self) -> Option<Partition> {
        self.partitions().into_iter().max_by_key(|p| p.start)
    }

    /// Grows the last partition to the end of the disk; returns it when it grew.
    pub fn grow_last(&mut self, device: &Device) -> Result<Option<Partition>> {
        let end = self.end(device);
        let Some(last) = self.last().filter(|p| p.start + p.length < end) else { return Ok(None) };
        self.resize(device, last, end)
    }

    /// Grows the partition before the one with this number up to it.
    pub fn grow_before(&mut self, device: &Device, number: u32) -> Result<Option<Partition>> {
        let all = self.partitions();
        let Some(next) = all.iter().find(|p| p.number == number) else { return Ok(None) };
        let before = all.iter().filter(|p| p.start < next.start).max_by_key(|p| p.start);
        match before.filter(|p| p.start + p.length < next.start / ALIGN * ALIGN) {
            Some(p) => self.resize(device, *p, next.start / ALIGN * ALIGN),
            None => Ok(None),
        }
    }

    fn resize(&mut self, device: &Device, partition: Partition, end: u64) -> Result<Option<Partition>> {
        let length = end - partition.start;
        match self {
            Self::Gpt(gpt) => {
                let at = (partition.number as usize - 1) * gpt.entry;
                set64(&mut gpt.entries, at + 40, end / gpt.sector - 1);
                gpt.write(device)?;
            }
            Self::Mbr(sector) => {
                let at = 446 + (partition.number as usize - 1) * 16;
                // Logical partitions in an extended one have tables of their own.
                if matches!(sector[at + 4], 0x05 | 0x0f | 0x85) {
                    return Ok(None);
                }
                set32(sector, at + 12, (length / 512) as u32);
                sector[at + 5..at + 8].copy_from_slice(&[0xfe, 0xff, 0xff]);
                device.write(0, sector)?;
            }
        }
        Ok(Some(Partition { length, ..partition }))
    }

    /// Adds a partition for data at the very end of the disk.
    pub fn add_at_end(&mut self, device: &Device, length: u64, name: &str) -> Result<Partition> {
        let end = self.end(device);
        let length = length.next_multiple_of(ALIGN);
        let taken = self.last().map_or(ALIGN, |p| p.start + p.length);
        let Some(start) = end.checked_sub(length).filter(|s| *s >= taken) else {
            return Err(Error::Failed(format!("disk {} has no room for a seed behind its partitions", device.name)));
        };
        let full = || Error::Failed(format!("the partition table of disk {} is full", device.name));
        match self {
            Self::Gpt(gpt) => {
                let empty =
                    (0..gpt.entries.len() / gpt.entry).find(|n| bytes16(&gpt.entries, n * gpt.entry) == [0; 16]);
                let n = empty.ok_or_else(full)?;
                // A GUID of its own that is the same each time: of the disk's and the name.
                let digest = Sha256::new().chain_update(&gpt.header[56..72]).chain_update(name).finalize();
                let mut own = bytes16(&digest, 0);
                own[7] = own[7] & 0x0f | 0x40;
                own[8] = own[8] & 0x3f | 0x80;
                let (at, sector) = (n * gpt.entry, gpt.sector);
                gpt.entries[at..at + 16].copy_from_slice(&DATA);
                gpt.entries[at + 16..at + 32].copy_from_slice(&own);
                set64(&mut gpt.entries, at + 32, start / sector);
                set64(&mut gpt.entries, at + 40, end / sector - 1);
                for (m, unit) in name.encode_utf16().take(36).enumerate() {
                    gpt.entries[at + 56 + m * 2..at + 58 + m * 2].copy_from_slice(&unit.to_le_bytes());
                }
                gpt.write(device)?;
                Ok(Partition { number: n as u32 + 1, start, length, guids: Some((DATA, own)) })
            }
            Self::Mbr(sector) => {
                let n = (0..4).find(|n| sector[446 + n * 16 + 4] == 0).ok_or_else(full)?;
                let at = 446 + n * 16;
                sector[at..at + 8].copy_from_slice(&[0, 0xfe, 0xff, 0xff, 0x0c, 0xfe, 0xff, 0xff]);
                set32(sector, at + 8, (start / 512) as u32);
                set32(sector, at + 12, (length / 512) as u32);
                device.write(0, sector)?;
                Ok(Partition { number: n as u32 + 1, start, length, guids: None })
            }
        }
    }
}

impl Gpt {
    fn partitions(&self) -> Vec<Partition> {
        let each = self.entries.chunks_exact(self.entry).enumerate();
        each.filter(|(_, e)| bytes16(e, 0) != [0; 16])
            .map(|(n, e)| {
                let (first, last) = (le64(e, 32), le64(e, 40));
                Partition {
                    number: n as u32 + 1,
                    start: first.saturating_mul(self.sector),
                    length: last.saturating_add(1).saturating_sub(first).saturating_mul(self.sector),
                    guids: Some((bytes16(e, 0), bytes16(e, 16))),
                }
            })
            .collect()
    }

    fn stretch(&mut self, device: &Device) -> Result<()> {
        let last = device.size / self.sector - 1;
        let old = le64(&self.header, 32);
        if last == old {
            return Ok(());
        }
        let table = (self.entries.len() as u64).div_ceil(self.sector);
        let usable = last.saturating_sub(table + 1);
        if self.partitions().iter().any(|p| p.start + p.length > (usable + 1) * self.sector) {
            return Err(Error::Failed(format!("disk {} is too small for the image's partitions", device.name)));
        }
        set64(&mut self.header, 32, last);
        set64(&mut self.header, 48, usable);
        self.write(device)?;
        // The old copy, now in the middle of the disk, must not be found by tools that search.
        if old < usable {
            device.zero(old * self.sector, self.sector)?;
        }
        // The protective entry covers all of it.
        let mut first = vec![0; 512];
        device.read(0, &mut first)?;
        if let Some(n) = (0..4).find(|n| first[446 + n * 16 + 4] == 0xee) {
            let start = u64::from(le32(&first, 446 + n * 16 + 8));
            set32(&mut first, 446 + n * 16 + 12, u32::try_from(last + 1 - start).unwrap_or(u32::MAX));
            device.write(0, &first)?;
        }
        Ok(())
    }

    /// Both copies. The second first: one of them is whole at any time.
    fn write(&mut self, device: &Device) -> Result<()> {
        let crc = crc32(&self.entries);
        set32(&mut self.header, 88, crc);
        let length = le32(&self.header, 12) as usize;
        let seal = |header: &mut Vec<u8>| {
            set32(header, 16, 0);
            let crc = crc32(&header[..length]);
            set32(header, 16, crc);
        };
        let last = le64(&self.header, 32);
        let second_table = last - (self.entries.len() as u64).div_ceil(self.sector);
        let mut second = self.header.clone();
        set64(&mut second, 24, last);
        set64(&mut second, 32, 1);
        set64(&mut second, 72, second_table);
        seal(&mut second);
        device.write(second_table * self.sector, &self.entries)?;
        device.write(last * self.sector, &second)?;
        seal(&mut self.header);
        device.write(le64(&self.header, 72) * self.sector, &self.entries)?;
        device.write(self.sector, &self.header)?;
        device.sync()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop")]
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A disk of `now` MiB that holds an image made for `then` MiB, with one partition of it.
    fn disk(folder: &std::path::Path, then: u64, now: u64) -> Device {
        let path = folder.join("disk");
        std::fs::File::create(&path).unwrap().set_len(then * MIB).unwrap();
        let device = Device::open("disk", &path).unwrap();
        let mut mbr = vec![0; 512];
        mbr[446 + 4] = 0xee;
        set32(&mut mbr, 454, 1);
        set32(&mut mbr, 458, (then * 2048 - 1) as u32);
        mbr[510..].copy_from_slice(&[0x55, 0xaa]);
        device.write(0, &mbr).unwrap();
        let mut header = vec![0; 512];
        header[..8].copy_from_slice(b"EFI PART");
        set32(&mut header, 8, 0x1_0000);
        set32(&mut header, 12, 92);
        set64(&mut header, 24, 1);
        set64(&mut header, 32, then * 2048 - 1);
        set64(&mut header, 40, 34);
        set64(&mut header, 48, then * 2048 - 34);
        header[56..72].fill(3);
        set64(&mut header, 72, 2);
        set32(&mut header, 80, 128);
        set32(&mut header, 84, 128);
        let mut entries = vec![0; 128 * 128];
        entries[..16].copy_from_slice(&ESP);
        entries[16..32].fill(5);
        set64(&mut entries, 32, 2048);
        set64(&mut entries, 40, 2 * 2048 - 1);
        Gpt { sector: 512, header, entries, entry: 128 }.write(&device).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(now * MIB).unwrap();
        Device::open("disk", &path).unwrap()
    }

    fn second_is_whole(device: &Device) -> bool {
        let mut header = vec![0; 512];
        device.read(device.size - 512, &mut header).unwrap();
        let mut checked = header[..92].to_vec();
        set32(&mut checked, 16, 0);
        &header[..8] == b"EFI PART"
            && crc32(&checked) == le32(&header, 16)
            && le64(&header, 24) == device.size / 512 - 1
    }

    #[test]
    fn crc_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn gpt_is_stretched_grown_and_gets_a_seed() {
        let folder = tempfile::tempdir().unwrap();
        let device = disk(folder.path(), 8, 32);
        let mut table = read(&device).unwrap();
        table.stretch(&device).unwrap();
        assert!(second_is_whole(&device));
        let seed = table.add_at_end(&device, 2 * MIB, "cidata").unwrap();
        assert_eq!((seed.number, seed.start, seed.length), (2, 29 * MIB, 2 * MIB));
        let grown = table.grow_before(&device, 2).unwrap().unwrap();
        assert_eq!((grown.start, grown.length), (MIB, 28 * MIB));
        let again = read(&device).unwrap();
        assert_eq!(again.partitions(), table.partitions());
        assert_eq!(again.partitions()[0].guids.unwrap().0, ESP);
        assert!(second_is_whole(&device));
    }

    #[test]
    fn gpt_without_a_seed_is_grown_to_the_end_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let device = disk(folder.path(), 8, 16);
        let mut table = read(&device).unwrap();
        table.stretch(&device).unwrap();
        assert_eq!(table.grow_last(&device).unwrap().unwrap().length, 14 * MIB);
        assert_eq!(table.grow_last(&device).unwrap(), None);
    }

    #[test]
    fn a_disk_smaller_than_its_partitions_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let device = disk(folder.path(), 8, 1);
        assert!(read(&device).unwrap().stretch(&device).is_err());
    }

    #[test]
    fn mbr_is_grown_and_gets_a_seed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let mut mbr = vec![0; 512];
        mbr[446] = 0x80;
        mbr[446 + 4] = 0x83;
        set32(&mut mbr, 454, 2048);
        set32(&mut mbr, 458, 4096);
        mbr[510..].copy_from_slice(&[0x55, 0xaa]);
        mbr.resize(20 << 20, 0);
        std::fs::write(&path, &mbr).unwrap();
        let device = Device::open("disk", &path).unwrap();
        let mut table = read(&device).unwrap();
        let seed = table.add_at_end(&device, 4 * MIB, "cidata").unwrap();
        assert_eq!((seed.number, seed.start), (2, 16 * MIB));
        assert_eq!(table.grow_before(&device, 2).unwrap().unwrap().length, 15 * MIB);
        assert_eq!(read(&device).unwrap().partitions(), table.partitions());
        assert!(table.add_at_end(&device, MIB, "more").is_err());
    }

    #[test]
    fn no_table_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, vec![0; 1 << 20]).unwrap();
        assert!(read(&Device::open("disk", &path).unwrap()).is_none());
    }
}
