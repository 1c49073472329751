//! A boot entry in UEFI firmware for the new system's disk, so that firmware which forgets removable paths still finds it.

use std::{fs, path::Path};

use rustix::mount::{MountFlags, mount};

use crate::{
    error::{Result, Words},
    table::{ESP, Partition},
};

const VARIABLES: &str = "/sys/firmware/efi/efivars";
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
const NAME: &str = "Steelyard disk";
const LOADER: &str = "\\EFI\\BOOT\\BOOTX64.EFI";
/// Non-volatile, for boot services and for the running system.
const ATTRIBUTES: [u8; 4] = [7, 0, 0, 0];

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// The content of a `Boot####` variable: start this file from that partition.
pub fn load_option(partition: &Partition, sector: u64) -> Vec<u8> {
    let own = partition.guids.map(|(_, own)| own).unwrap_or_default();
    let mut path = vec![4, 1, 42, 0];
    path.extend(partition.number.to_le_bytes());
    path.extend((partition.start / sector).to_le_bytes());
    path.extend((partition.length / sector).to_le_bytes());
    path.extend(own);
    path.extend([2, 2]);
    let file = utf16(LOADER);
    path.extend([4, 4]);
    path.extend((file.len() as u16 + 4).to_le_bytes());
    path.extend(file);
    path.extend([0x7f, 0xff, 4, 0]);
    let mut option = vec![1, 0, 0, 0];
    option.extend((path.len() as u16).to_le_bytes());
    option.extend(utf16(NAME));
    option.extend(path);
    option
}

/// Number for the entry: that of an older one of ours, else the first free one. `entries` are numbers and contents.
fn number(entries: &[(u16, Vec<u8>)]) -> u16 {
    let name = utf16(NAME);
    let ours = entries.iter().find(|(_, c)| c.get(6..6 + name.len()) == Some(name.as_slice()));
    ours.map_or_else(|| (0..=u16::MAX).find(|n| entries.iter().all(|(m, _)| m != n)).unwrap_or(0), |(n, _)| *n)
}

/// Whether this machine was started by UEFI firmware.
pub fn here() -> bool {
    Path::new("/sys/firmware/efi").exists()
}

/// Stores the entry behind all others: the network stays first. Returns what was done.
pub fn register(partitions: &[Partition], sector: u64) -> Result<String> {
    let Some(esp) = partitions.iter().find(|p| p.guids.is_some_and(|(kind, _)| kind == ESP)) else {
        return Ok("UEFI firmware, but the image has no EFI system partition".into());
    };
    let folder = Path::new(VARIABLES);
    if fs::read_dir(folder).is_ok_and(|mut d| d.next().is_none()) {
        mount("efivarfs", folder, "efivarfs", MountFlags::empty(), None)
            .words(|| "mounting the UEFI variables".into())?;
    }
    let mut entries = Vec::new();
    for file in fs::read_dir(folder).words(|| "reading the UEFI variables".into())?.flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        let digits = name.strip_prefix("Boot").and_then(|r| r.strip_suffix(GLOBAL)?.strip_suffix('-'));
        if let Some(n) = digits.filter(|d| d.len() == 4).and_then(|d| u16::from_str_radix(d, 16).ok()) {
            let content = fs::read(file.path()).unwrap_or_default();
            entries.push((n, content.get(4..).unwrap_or_default().to_vec()));
        }
    }
    let n = number(&entries);
    let write = |name: String, content: &[u8]| {
        let all = [ATTRIBUTES.as_slice(), content].concat();
        fs::write(folder.join(format!("{name}-{GLOBAL}")), all).words(|| format!("storing the UEFI variable {name}"))
    };
    write(format!("Boot{n:04X}"), &load_option(esp, sector))?;
    let order = fs::read(folder.join(format!("BootOrder-{GLOBAL}"))).unwrap_or_default();
    let mut order = order.get(4..).unwrap_or_default().to_vec();
    if !order.as_chunks::<2>().0.contains(&n.to_le_bytes()) {
        order.extend(n.to_le_bytes());
        write("BootOrder".into(), &order)?;
    }
    Ok(format!("UEFI boot entry {n:04X} for partition {}", esp.number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_has_the_layout_of_the_standard() {
        let esp = Partition { number: 1, start: 1 << 20, length: 2 << 20, guids: Some((ESP, [7; 16])) };
        let option = load_option(&esp, 512);
        let name = utf16(NAME).len();
        assert_eq!(option[..4], [1, 0, 0, 0]);
        let path = u16::from_le_bytes([option[4], option[5]]) as usize;
        assert_eq!(option.len(), 6 + name + path);
        let hd = &option[6 + name..];
        assert_eq!(hd[..8], [4, 1, 42, 0, 1, 0, 0, 0]);
        assert_eq!(hd[8..24], [0, 8, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0]);
        assert_eq!(hd[24..42], [[7; 16].as_slice(), &[2, 2]].concat());
        assert!(option.ends_with(&[0x7f, 0xff, 4, 0]));
    }

    #[test]
    fn an_older_entry_is_replaced() {
        let ours = load_option(&Partition { number: 1, start: 0, length: 0, guids: None }, 512);
        assert_eq!(number(&[(0, vec![]), (1, vec![1; 8])]), 2);
        assert_eq!(number(&[(0, vec![]), (5, ours)]), 5);
        assert_eq!(number(&[]), 0);
    }
}
