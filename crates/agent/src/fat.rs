//! A small FAT12 volume with a few files in its root: the seed that cloud-init finds by the label `CIDATA`.

use crate::error::{Error, Result};

const SECTOR: usize = 512;
const PER_CLUSTER: usize = 4;
const ROOT_ENTRIES: usize = 512;
const RESERVED: usize = 1;
const FAT_SECTORS: usize = 6;
const ROOT_SECTORS: usize = ROOT_ENTRIES * 32 / SECTOR;
const DATA: usize = RESERVED + 2 * FAT_SECTORS + ROOT_SECTORS;
const CLUSTER: usize = PER_CLUSTER * SECTOR;
/// Length of the volume.
pub const SIZE: usize = 4 << 20;
const CLUSTERS: usize = (SIZE / SECTOR - DATA) / PER_CLUSTER;

/// Checksum of a short name, which ties its long name to it.
fn checksum(short: &[u8; 11]) -> u8 {
    short.iter().fold(0_u8, |sum, b| sum.rotate_right(1).wrapping_add(*b))
}

/// Entries of one file: its long name in parts, last part first, then the short one.
fn entries(n: usize, name: &str, cluster: u16, length: u32) -> Vec<u8> {
    let mut short = *b"FILE0000   ";
    for (place, digit) in short[4..8].iter_mut().zip(format!("{n:04}").bytes()) {
        *place = digit;
    }
    let mut units: Vec<u16> = name.encode_utf16().collect();
    if !units.len().is_multiple_of(13) {
        units.push(0);
        units.resize(units.len().next_multiple_of(13), 0xffff);
    }
    let parts = units.len() / 13;
    let mut out = Vec::new();
    for (index, part) in units.chunks(13).enumerate().rev() {
        let mut entry = [0_u8; 32];
        entry[0] = (index as u8 + 1) | if index + 1 == parts { 0x40 } else { 0 };
        entry[11] = 0x0f;
        entry[13] = checksum(&short);
        for (at, unit) in [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30].into_iter().zip(part) {
            entry[at..at + 2].copy_from_slice(&unit.to_le_bytes());
        }
        out.extend_from_slice(&entry);
    }
    let mut entry = [0_u8; 32];
    entry[..11].copy_from_slice(&short);
    entry[11] = 0x20;
    // 1980-01-01: dates are required.
    entry[16..18].copy_from_slice(&[0x21, 0]);
    entry[24..26].copy_from_slice(&[0x21, 0]);
    entry[26..28].copy_from_slice(&cluster.to_le_bytes());
    entry[28..32].copy_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&entry);
    out
}

fn set_fat(fat: &mut [u8], cluster: usize, value: u16) {
    let at = cluster * 3 / 2;
    if cluster.is_multiple_of(2) {
        fat[at] = value as u8;
        fat[at + 1] = fat[at + 1] & 0xf0 | (value >> 8) as u8 & 0x0f;
    } else {
        fat[at] = fat[at] & 0x0f | (value << 4) as u8;
        fat[at + 1] = (value >> 4) as u8;
    }
}

/// Makes the volume.
pub fn volume(files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut all = vec![0_u8; SIZE];
    all[..3].copy_from_slice(&[0xeb, 0x3c, 0x90]);
    all[3..11].copy_from_slice(b"STEELYRD");
    all[11..13].copy_from_slice(&(SECTOR as u16).to_le_bytes());
    all[13] = PER_CLUSTER as u8;
    all[14..16].copy_from_slice(&(RESERVED as u16).to_le_bytes());
    all[16] = 2;
    all[17..19].copy_from_slice(&(ROOT_ENTRIES as u16).to_le_bytes());
    all[19..21].copy_from_slice(&((SIZE / SECTOR) as u16).to_le_bytes());
    all[21] = 0xf8;
    all[22..24].copy_from_slice(&(FAT_SECTORS as u16).to_le_bytes());
    all[24..26].copy_from_slice(&[63, 0]);
    all[26..28].copy_from_slice(&[255, 0]);
    all[36] = 0x80;
    all[38] = 0x29;
    all[39..43].copy_from_slice(b"SEED");
    all[43..54].copy_from_slice(b"CIDATA     ");
    all[54..62].copy_from_slice(b"FAT12   ");
    all[510..512].copy_from_slice(&[0x55, 0xaa]);
    let mut fat = vec![0_u8; FAT_SECTORS * SECTOR];
    set_fat(&mut fat, 0, 0xff8);
    set_fat(&mut fat, 1, 0xfff);
    let mut root = vec![0_u8; 32];
    root[..11].copy_from_slice(b"CIDATA     ");
    root[11] = 0x08;
    let mut next = 2;
    for (n, (name, content)) in files.iter().enumerate() {
        let clusters = content.len().div_ceil(CLUSTER);
        if next + clusters > CLUSTERS + 2 {
            return Err(Error::Failed(format!("the seed does not fit into {} MiB; shorten its user-data", SIZE >> 20)));
        }
        let first = if clusters == 0 { 0 } else { next as u16 };
        for cluster in next..next + clusters {
            set_fat(&mut fat, cluster, if cluster + 1 == next + clusters { 0xfff } else { cluster as u16 + 1 });
        }
        let at = DATA * SECTOR + (next - 2) * CLUSTER;
        all[at..at + content.len()].copy_from_slice(content);
        root.extend(entries(n + 1, name, first, content.len() as u32));
        next += clusters;
    }
    if root.len() > ROOT_SECTORS * SECTOR {
        return Err(Error::from("too many files for a seed"));
    }
    for copy in 0..2 {
        let at = (RESERVED + copy * FAT_SECTORS) * SECTOR;
        all[at..at + fat.len()].copy_from_slice(&fat);
    }
    let at = (RESERVED + 2 * FAT_SECTORS) * SECTOR;
    all[at..at + root.len()].copy_from_slice(&root);
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop")]
    use std::process::Command;

    use super::*;

    #[test]
    fn mtools_and_fsck_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed.img");
        let long: Vec<u8> = (0..30_000).map(|n| b'a' + (n % 26) as u8).collect();
        let all =
            volume(&[("user-data", &long), ("meta-data", b"x"), ("vendor-data", b""), ("network-config", b"{}\n")])
                .unwrap();
        std::fs::write(&path, all).unwrap();
        // Proven against other people's programs where they are installed.
        if let Ok(out) = Command::new("mtype").arg("-i").arg(&path).arg("::user-data").output() {
            assert!(out.stdout == long, "{}", String::from_utf8_lossy(&out.stderr));
            let out = Command::new("mdir").arg("-b").arg("-i").arg(&path).arg("::").output().unwrap();
            assert_eq!(
                String::from_utf8_lossy(&out.stdout),
                "::/user-data\n::/meta-data\n::/vendor-data\n::/network-config\n"
            );
        }
        if let Ok(out) = Command::new("/usr/sbin/fsck.fat").arg("-n").arg(&path).output() {
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
        }
    }

    #[test]
    fn too_much_is_refused() {
        assert!(volume(&[("user-data", &vec![1; SIZE])]).is_err());
    }
}
