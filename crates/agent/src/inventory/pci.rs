//! Accelerators on the PCI bus.

use std::path::Path;

use model::bmc::Gpu;

use super::{children, health, text};

/// Makers of accelerators. Others in the display class are the small screens of BMCs and virtual machines.
const MAKERS: [(&str, &str); 4] = [("0x10de", "NVIDIA"), ("0x1002", "AMD"), ("0x8086", "Intel"), ("0x1da3", "Habana")];
/// Models by maker and device, with their memory in MiB.
const MODELS: [(&str, &str, &str, u64); 14] = [
    ("0x10de", "0x20b0", "A100 SXM4 40GB", 40960),
    ("0x10de", "0x20b2", "A100 SXM4 80GB", 81920),
    ("0x10de", "0x20b5", "A100 PCIe 80GB", 81920),
    ("0x10de", "0x20f1", "A100 PCIe 40GB", 40960),
    ("0x10de", "0x2235", "A40", 49152),
    ("0x10de", "0x2236", "A10", 24576),
    ("0x10de", "0x26b9", "L40S", 49152),
    ("0x10de", "0x27b8", "L4", 24576),
    ("0x10de", "0x2330", "H100 SXM5 80GB", 81920),
    ("0x10de", "0x2331", "H100 PCIe", 81920),
    ("0x10de", "0x2335", "H200 SXM 141GB", 144384),
    ("0x10de", "0x2901", "B200", 184320),
    ("0x1002", "0x740f", "Instinct MI210", 65536),
    ("0x1002", "0x74a1", "Instinct MI300X", 196608),
];

/// Devices of the display class (0x03) and of the class of processing accelerators (0x12) by known makers.
pub(super) fn gpus(root: &Path) -> Vec<Gpu> {
    let mut gpus = Vec::new();
    let mut said = health::of_drivers(root);
    for (address, folder) in children(root.join("sys/bus/pci/devices")) {
        let read = |name: &str| text(folder.join(name)).unwrap_or_default();
        let (class, vendor, device) = (read("class"), read("vendor"), read("device"));
        let Some((_, maker)) = MAKERS.iter().find(|(id, _)| *id == vendor) else { continue };
        if !class.starts_with("0x03") && !class.starts_with("0x12") || folder.join("physfn").exists() {
            continue;
        }
        let known = MODELS.iter().find(|(v, d, _, _)| *v == vendor && *d == device);
        gpus.push(Gpu {
            vendor: (*maker).to_owned(),
            model: known.map_or_else(|| format!("device {}", device.trim_start_matches("0x")), |k| k.2.to_owned()),
            memory_mib: known.map_or(0, |k| k.3),
            serial: None,
            problems: [health::of(&folder), said.remove(&address).unwrap_or_default()].concat(),
            pci: Some(address),
        });
    }
    gpus
}
