//! What the machine is, read from `/sys` and `/proc` below a root.

mod health;
mod lldp;
mod pci;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use model::bmc::{Disk, HardwareInventory, Nic, Processor};

/// Text of a small file without the white space at its ends; absent or empty is `None`.
fn text(path: impl AsRef<Path>) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes).replace('\0', "").trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn number(path: impl AsRef<Path>) -> Option<u64> {
    text(path)?.parse().ok()
}

/// Folders of a folder in order of their names, numbers by value.
fn children(path: impl AsRef<Path>) -> Vec<(String, PathBuf)> {
    let mut all: Vec<_> = fs::read_dir(path)
        .map(|d| d.flatten().map(|e| (e.file_name().to_string_lossy().into_owned(), e.path())).collect())
        .unwrap_or_default();
    all.sort_by_cached_key(|(name, _): &(String, PathBuf)| natural(name));
    all
}

/// A key by which `sdb` comes before `sdaa` and `nvme2n1` before `nvme10n1`.
fn natural(name: &str) -> (String, usize, Vec<u64>, String) {
    let letters: String = name.chars().take_while(|c| c.is_ascii_alphabetic()).collect();
    let kind = letters.get(..2).unwrap_or(&letters).to_owned();
    let numbers = name.split(|c: char| !c.is_ascii_digit()).filter_map(|d| d.parse().ok()).collect();
    (kind, letters.len(), numbers, name.to_owned())
}

/// Everything. Listens for the switches' words for as long as `listen`, when it may.
pub fn collect(root: &Path, listen: Duration) -> HardwareInventory {
    let dmi = |name: &str| text(root.join("sys/class/dmi/id").join(name)).filter(|t| is_meant(t));
    let mut nics = nics(root);
    let names: Vec<String> = nics.iter().map(|n| n.name.clone()).collect();
    let mut neighbours = lldp::listen(&names, listen);
    for nic in &mut nics {
        nic.lldp = neighbours.remove(&nic.name);
    }
    HardwareInventory {
        serial: dmi("product_serial").or_else(|| dmi("chassis_serial")),
        vendor: dmi("sys_vendor"),
        model: dmi("product_name"),
        uuid: dmi("product_uuid"),
        bios_version: dmi("bios_version"),
        memory_mib: memory_mib(root),
        processors: text(root.join("proc/cpuinfo")).map(|t| processors(&t)).unwrap_or_default(),
        disks: disks(root),
        nics,
        gpus: pci::gpus(root),
        tpm: tpm(root),
        ..HardwareInventory::default()
    }
}

/// Whether a manufacturer has filled a field in.
fn is_meant(text: &str) -> bool {
    let low = text.to_lowercase();
    !["to be filled by o.e.m.", "default string", "not specified", "none", "system serial number", "0123456789"]
        .contains(&low.as_str())
}

/// All memory: by the blocks that the kernel manages, which count what it keeps for itself too.
fn memory_mib(root: &Path) -> u64 {
    let folder = root.join("sys/devices/system/memory");
    let block = text(folder.join("block_size_bytes")).and_then(|t| u64::from_str_radix(&t, 16).ok()).unwrap_or(0);
    let count = children(&folder)
        .into_iter()
        .filter(|(n, _)| n.strip_prefix("memory").is_some_and(|r| r.parse::<u64>().is_ok()));
    let blocks = (count.count() as u64).saturating_mul(block) >> 20;
    if blocks > 0 {
        return blocks;
    }
    let info = text(root.join("proc/meminfo")).unwrap_or_default();
    let line = info.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Sockets of `/proc/cpuinfo`.
fn processors(info: &str) -> Vec<Processor> {
    let mut sockets: BTreeMap<u32, Processor> = BTreeMap::new();
    for block in info.split("\n\n") {
        let field = |name: &str| {
            block.lines().find_map(|l| l.split_once(':').filter(|(n, _)| n.trim() == name).map(|(_, v)| v.trim()))
        };
        if field("processor").is_none() {
            continue;
        }
        let socket = field("physical id").and_then(|v| v.parse().ok()).unwrap_or(0);
        let entry = sockets.entry(socket).or_insert_with(|| {
            let model = field("model name").unwrap_or("unknown").to_owned();
            // The clock in the name is the nominal one; the measured one wanders.
            let named = model.rsplit_once("@ ").and_then(|(_, c)| c.trim_end_matches("GHz").trim().parse::<f64>().ok());
            let measured = field("cpu MHz").and_then(|v| v.parse::<f64>().ok());
            let mhz = named.map(|g| g * 1000.0).or(measured).unwrap_or(0.0).round() as u32;
            let cores = field("cpu cores").and_then(|v| v.parse().ok()).unwrap_or(1);
            Processor { model, cores, threads: 0, mhz }
        });
        entry.threads += 1;
    }
    sockets.into_values().collect()
}

/// Disks that an operating system can be put on: no optical drives, no sticks, no devices made of others.
pub fn disks(root: &Path) -> Vec<Disk> {
    let made = ["loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd", "mtdblock", "drbd"];
    let mut disks = Vec::new();
    for (name, folder) in children(root.join("sys/block")) {
        let sectors = number(folder.join("size")).unwrap_or(0);
        let flag = |file: &str| number(folder.join(file)).unwrap_or(0) != 0;
        if made.iter().any(|m| name.starts_with(m)) || sectors == 0 || flag("removable") || flag("ro") || flag("hidden")
        {
            continue;
        }
        let media = if name.starts_with("nvme") {
            "nvme"
        } else if flag("queue/rotational") {
            "hdd"
        } else {
            "ssd"
        };
        let page = || {
            // SCSI's page of the serial number: four bytes of header, then text.
            let bytes = fs::read(folder.join("device/vpd_pg80")).ok()?;
            let serial = String::from_utf8_lossy(bytes.get(4..)?).replace('\0', "").trim().to_owned();
            (!serial.is_empty()).then_some(serial)
        };
        let serial = text(folder.join("serial")).or_else(|| text(folder.join("device/serial"))).or_else(page);
        disks.push(Disk {
            serial,
            model: text(folder.join("device/model")),
            size_gb: (sectors.saturating_mul(512) + 500_000_000) / 1_000_000_000,
            media: media.into(),
            name,
        });
    }
    disks
}

/// Physical network interfaces.
pub fn nics(root: &Path) -> Vec<Nic> {
    let mut nics = Vec::new();
    for (name, folder) in children(root.join("sys/class/net")) {
        // Virtual functions belong to guests; interfaces without a device are the kernel's own.
        if !folder.join("device").exists() || folder.join("device/physfn").exists() {
            continue;
        }
        let Some((mac, guid)) = text(folder.join("address")).and_then(|a| hardware_address(&a)) else { continue };
        nics.push(Nic {
            mac,
            guid,
            // -1 when it does not know.
            speed_mbps: number(folder.join("speed")).and_then(|s| u32::try_from(s).ok()).unwrap_or(0),
            link_up: number(folder.join("carrier")).map(|c| c == 1),
            lldp: None,
            name,
        });
    }
    nics
}

/// The hardware address of an interface; one of InfiniBand has 20 bytes, of which the last 8 are the port's GUID.
fn hardware_address(text: &str) -> Option<(String, Option<String>)> {
    let text = text.to_lowercase();
    match text.len() {
        17 if text != "00:00:00:00:00:00" => Some((text, None)),
        59 => {
            let guid = model::infiniband::guid("guid", text.get(36..)?).ok()?;
            Some((model::infiniband::mac_of(&guid)?, Some(guid)))
        }
        _ => None,
    }
}

fn tpm(root: &Path) -> Option<String> {
    let folder = root.join("sys/class/tpm/tpm0");
    match number(folder.join("tpm_version_major")) {
        Some(2) => Some("2.0".into()),
        Some(1) => Some("1.2".into()),
        _ => folder.exists().then(|| "1.2".into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop")]
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn hardware_addresses() {
        assert_eq!(hardware_address("52:54:00:AB:00:01"), Some(("52:54:00:ab:00:01".into(), None)));
        let port = hardware_address("00:00:10:49:fe:80:00:00:00:00:00:00:98:03:9b:03:00:a1:b2:C3").unwrap();
        assert_eq!(port, ("98:03:9b:a1:b2:c3".into(), Some("98039b0300a1b2c3".into())));
        for nothing in ["", "00:00:00:00:00:00", "00:00:10:49:fe:80:00"] {
            assert_eq!(hardware_address(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_server_is_read_from_its_tree() {
        let root = tree(&[
            ("sys/class/dmi/id/sys_vendor", "Dell Inc.\n"),
            ("sys/class/dmi/id/product_name", "PowerEdge R760\n"),
            ("sys/class/dmi/id/product_serial", "ABC1234\n"),
            ("sys/class/dmi/id/product_uuid", "4C4C4544-0044\n"),
            ("sys/devices/system/memory/block_size_bytes", "80000000\n"),
            ("sys/devices/system/memory/memory0/state", "online\n"),
            ("sys/devices/system/memory/memory1/state", "online\n"),
            ("proc/meminfo", "MemTotal: 1 kB\n"),
            (
                "proc/cpuinfo",
                "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) @ 2.60GHz\ncpu MHz\t\t: 900.1\nphysical id\t: 0\ncpu cores\t: 1\n\nprocessor\t: 1\nmodel name\t: Intel(R) Xeon(R) @ 2.60GHz\nphysical id\t: 0\ncpu cores\t: 1\n\nprocessor\t: 2\nmodel name\t: Other\ncpu MHz\t: 2000.4\nphysical id\t: 1\n\n",
            ),
            ("sys/block/nvme10n1/size", "1875385008\n"),
            ("sys/block/nvme10n1/device/serial", "S10  \n"),
            ("sys/block/nvme2n1/size", "1875385008\n"),
            ("sys/block/nvme2n1/device/model", "Samsung\n"),
            ("sys/block/sda/size", "7814037168\n"),
            ("sys/block/sda/queue/rotational", "1\n"),
            ("sys/block/sda/device/vpd_pg80", "\0\u{1}\0\u{8}WD-12345"),
            ("sys/block/sdb/size", "30000\n"),
            ("sys/block/sdb/removable", "1\n"),
            ("sys/block/sr0/size", "2097151\n"),
            ("sys/block/loop0/size", "100\n"),
            ("sys/class/net/lo/address", "00:00:00:00:00:00\n"),
            ("sys/class/net/eno2/address", "AA:00:00:00:00:02\n"),
            ("sys/class/net/eno2/device/vendor", "x"),
            ("sys/class/net/eno2/speed", "-1\n"),
            ("sys/class/net/eno1/address", "aa:00:00:00:00:01\n"),
            ("sys/class/net/eno1/device/vendor", "x"),
            ("sys/class/net/eno1/speed", "25000\n"),
            ("sys/class/net/eno1/carrier", "1\n"),
            ("sys/bus/pci/devices/0000:03:00.0/class", "0x030000\n"),
            ("sys/bus/pci/devices/0000:03:00.0/vendor", "0x102b\n"),
            ("sys/bus/pci/devices/0000:18:00.0/class", "0x030200\n"),
            ("sys/bus/pci/devices/0000:18:00.0/vendor", "0x10de\n"),
            ("sys/bus/pci/devices/0000:18:00.0/device", "0x2330\n"),
            ("sys/class/tpm/tpm0/tpm_version_major", "2\n"),
        ]);
        let all = collect(root.path(), Duration::ZERO);
        assert_eq!(all.serial.as_deref(), Some("ABC1234"));
        assert_eq!((all.memory_mib, all.tpm.as_deref()), (4096, Some("2.0")));
        let sockets: Vec<_> = all.processors.iter().map(|p| (p.cores, p.threads, p.mhz)).collect();
        assert_eq!(sockets, [(1, 2, 2600), (1, 1, 2000)]);
        let disks: Vec<_> = all.disks.iter().map(|d| (d.name.as_str(), d.media.as_str(), d.size_gb)).collect();
        assert_eq!(disks, [("nvme2n1", "nvme", 960), ("nvme10n1", "nvme", 960), ("sda", "hdd", 4001)]);
        assert_eq!(all.disks[1].serial.as_deref(), Some("S10"));
        assert_eq!(all.disks[2].serial.as_deref(), Some("WD-12345"));
        let nics: Vec<_> = all.nics.iter().map(|n| (n.name.as_str(), n.speed_mbps, n.link_up)).collect();
        assert_eq!(nics, [("eno1", 25000, Some(true)), ("eno2", 0, None)]);
        assert_eq!(all.gpus.len(), 1);
        assert_eq!((all.gpus[0].vendor.as_str(), all.gpus[0].model.as_str()), ("NVIDIA", "H100 SXM5 80GB"));
        assert_eq!(all.gpus[0].pci.as_deref(), Some("0000:18:00.0"));
    }

    #[test]
    fn an_empty_tree_is_an_empty_inventory() {
        let root = tree(&[("sys/class/dmi/id/product_serial", "To be filled by O.E.M.\n")]);
        assert_eq!(collect(root.path(), Duration::ZERO), HardwareInventory::default());
    }

    #[test]
    fn names_are_in_the_order_of_people() {
        let mut names = ["sdaa", "sdb", "nvme10n1", "sda", "nvme2n1", "vda"];
        names.sort_by_cached_key(|n| natural(n));
        assert_eq!(names, ["nvme2n1", "nvme10n1", "sda", "sdb", "sdaa", "vda"]);
    }
}
