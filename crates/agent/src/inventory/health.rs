//! Whether an accelerator is well: its link to the machine, errors that the bus has counted, and what its driver says where there is one.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::{Command, Stdio},
};

use super::{number, text};

/// Errors of NVIDIA's driver (Xid) after which an accelerator is not handed over: memory that cannot be corrected, fallen off the bus,
/// NVLink, and the controllers of the chip (NVIDIA, "XID Errors").
const FATAL_XIDS: [u32; 10] = [48, 61, 62, 64, 74, 79, 92, 95, 119, 120];
const SMI: &str = "usr/bin/nvidia-smi";
/// Longest text of the kernel that is read.
const KERNEL_TEXT: usize = 4 << 20;

/// What is wrong with a device of the PCI bus, by its folder.
pub(super) fn of(folder: &Path) -> Vec<String> {
    let mut begin = [0; 4];
    // A device that has fallen off the bus reads as ones.
    if fs::File::open(folder.join("config")).and_then(|mut f| f.read_exact(&mut begin)).is_ok() && begin == [0xff; 4] {
        return vec!["it has fallen off the bus: it does not answer on PCI Express".into()];
    }
    let mut found = Vec::new();
    let port = fs::canonicalize(folder).ok().and_then(|f| f.parent().map(Path::to_owned));
    let of_port = |name: &str| port.as_ref().and_then(|p| text(p.join(name)));
    // What both ends can do is what is expected.
    let least = |own: Option<f64>, ports: Option<f64>| own.map(|o| ports.map_or(o, |p| p.min(o)));
    let width = |t: Option<String>| t.and_then(|t| t.parse::<f64>().ok()).filter(|w| *w > 0.0 && *w < 64.0);
    let can = least(width(text(folder.join("max_link_width"))), width(of_port("max_link_width")));
    if let (Some(is), Some(can)) = (width(text(folder.join("current_link_width"))), can)
        && is < can
    {
        found.push(format!("its PCI Express link has {is} of {can} lanes; reseat it or its riser"));
    }
    let speed = |t: Option<String>| t.and_then(|t| t.split_whitespace().next()?.parse::<f64>().ok());
    let can = least(speed(text(folder.join("max_link_speed"))), speed(of_port("max_link_speed")));
    if let (Some(is), Some(can)) = (speed(text(folder.join("current_link_speed"))), can)
        && is < can
    {
        found.push(format!("its PCI Express link runs at {is} of {can} GT/s; reseat it or its riser"));
    }
    let counted = text(folder.join("aer_dev_fatal")).unwrap_or_default();
    let total = counted.lines().find_map(|l| l.strip_prefix("TOTAL_ERR_FATAL")?.trim().parse::<u64>().ok());
    if let Some(errors) = total.filter(|n| *n > 0) {
        found.push(format!("the bus has counted {errors} fatal error(s) of it since the start"));
    }
    // Memory controllers of AMD's driver.
    if let Some(errors) = number(folder.join("ras/umc_ue_count")).filter(|n| *n > 0) {
        found.push(format!("{errors} memory error(s) that could not be corrected"));
    }
    found
}

/// What the drivers say of all of them, by PCI address.
pub(super) fn of_drivers(root: &Path) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = xids(&kernel_text(root));
    for (address, words) in smi(root).map(|said| parse_smi(&said)).unwrap_or_default() {
        all.entry(address).or_default().extend(words);
    }
    all
}

/// The words of the kernel since its start.
fn kernel_text(root: &Path) -> String {
    const NONBLOCK: i32 = 0o4000;
    let Ok(mut file) = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(root.join("dev/kmsg")) else {
        return String::new();
    };
    let (mut all, mut record) = (Vec::new(), vec![0; 8192]);
    while all.len() < KERNEL_TEXT {
        match file.read(&mut record) {
            Ok(length) if length > 0 => all.extend_from_slice(&record[..length]),
            // A record was lost to newer ones; the next read goes on behind it.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {}
            _ => break,
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// Errors of NVIDIA's driver: `NVRM: Xid (PCI:0000:18:00): 79, pid=0, GPU has fallen off the bus.`
fn xids(kernel: &str) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in kernel.lines() {
        let Some((_, rest)) = line.split_once("NVRM: Xid (PCI:") else { continue };
        let Some((place, rest)) = rest.split_once("): ") else { continue };
        let (number, words) = rest.split_once(',').unwrap_or((rest, ""));
        let Ok(xid) = number.trim().parse::<u32>() else { continue };
        if FATAL_XIDS.contains(&xid) {
            let place = if place.contains('.') { place.to_lowercase() } else { format!("{}.0", place.to_lowercase()) };
            let words: String = words.chars().filter(|c| !c.is_control()).take(160).collect();
            all.entry(place).or_default().push(format!("its driver reports error Xid {xid}:{words}"));
        }
    }
    all
}

/// Asks NVIDIA's tool, where the image has it.
fn smi(root: &Path) -> Option<String> {
    let program = root.join(SMI);
    if root != Path::new("/") || !program.exists() {
        return None;
    }
    let fields = "pci.bus_id,ecc.errors.uncorrected.volatile.total,retired_pages.pending,remapped_rows.failure";
    let out = Command::new(program)
        .args([&format!("--query-gpu={fields}"), "--format=csv,noheader,nounits"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}

/// `00000000:18:00.0, 0, No, No`.
fn parse_smi(said: &str) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    for line in said.lines() {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let [place, errors, retired, remapped] = fields[..] else { continue };
        let place = place.to_lowercase();
        let place = place.get(place.len().saturating_sub(12)..).unwrap_or(&place).to_owned();
        let mut words = Vec::new();
        if let Some(n) = errors.parse::<u64>().ok().filter(|n| *n > 0) {
            words.push(format!("{n} memory error(s) that could not be corrected"));
        }
        if retired.eq_ignore_ascii_case("yes") {
            words.push("pages of its memory wait to be retired; restart the server".to_owned());
        }
        if remapped.eq_ignore_ascii_case("yes") || remapped == "1" {
            words.push("rows of its memory could not be remapped; have it replaced".to_owned());
        }
        if !words.is_empty() {
            all.insert(place, words);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop")]
    use super::*;

    #[test]
    fn a_link_is_held_against_what_both_ends_can() {
        let root = tempfile::tempdir().unwrap();
        let gpu = root.path().join("0000:00:01.0/0000:18:00.0");
        fs::create_dir_all(&gpu).unwrap();
        let port = gpu.parent().unwrap();
        let write = |folder: &Path, name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        for (name, text) in [("max_link_width", "16\n"), ("max_link_speed", "32.0 GT/s PCIe\n")] {
            write(&gpu, name, text);
            write(port, name, text);
        }
        write(&gpu, "current_link_width", "16\n");
        write(&gpu, "current_link_speed", "32.0 GT/s PCIe\n");
        write(&gpu, "aer_dev_fatal", "Undefined 0\nTOTAL_ERR_FATAL 0\n");
        fs::write(gpu.join("config"), [0xde, 0x10, 0x30, 0x23, 0]).unwrap();
        assert_eq!(of(&gpu), Vec::<String>::new());
        write(&gpu, "current_link_width", "8\n");
        write(&gpu, "current_link_speed", "2.5 GT/s PCIe\n");
        write(&gpu, "aer_dev_fatal", "TOTAL_ERR_FATAL 3\n");
        let said = of(&gpu).join("; ");
        assert!(
            said.contains("8 of 16 lanes") && said.contains("2.5 of 32 GT/s") && said.contains("3 fatal"),
            "{said}"
        );
        // A slot of eight lanes is no fault of the card.
        write(port, "max_link_width", "8\n");
        write(port, "max_link_speed", "2.5 GT/s PCIe\n");
        write(&gpu, "aer_dev_fatal", "TOTAL_ERR_FATAL 0\n");
        assert_eq!(of(&gpu), Vec::<String>::new());
        fs::write(gpu.join("config"), [0xff; 64]).unwrap();
        assert!(of(&gpu)[0].contains("fallen off the bus"));
        assert_eq!(of(Path::new("/nonexistent")), Vec::<String>::new());
    }

    #[test]
    fn words_of_drivers_are_read() {
        let kernel = "6,1,0,-;NVRM: Xid (PCI:0000:18:00): 79, pid=0, GPU has fallen off the bus.\n\
            6,2,0,-;NVRM: Xid (PCI:0000:2A:00): 13, Graphics Exception\n6,3,0,-;nvme nvme0: 8/0/0\n";
        let found = xids(kernel);
        assert_eq!(found.len(), 1);
        assert!(found["0000:18:00.0"][0].contains("Xid 79: pid=0, GPU has fallen"));
        let said = parse_smi(
            "00000000:18:00.0, 2, No, No\n00000000:2A:00.0, 0, No, No\n00000000:3B:00.0, [N/A], Yes, Yes\nbad\n",
        );
        assert_eq!(said.keys().collect::<Vec<_>>(), ["0000:18:00.0", "0000:3b:00.0"]);
        assert_eq!(said["0000:3b:00.0"].len(), 2);
    }
}
