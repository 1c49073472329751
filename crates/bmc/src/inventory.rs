//! From Redfish resources to the inventory. Whatever a BMC leaves out is absent here too.

use model::{
    bmc::{Disk, Gpu, HardwareInventory, Nic, Processor},
    validate,
};
use serde_json::Value;

fn text(v: &Value, field: &str) -> Option<String> {
    v.get(field).and_then(Value::as_str).map(|t| t.trim().to_owned()).filter(|t| !t.is_empty())
}

fn number(v: &Value, pointer: &str) -> u64 {
    v.pointer(pointer)
        .and_then(|n| n.as_u64().or_else(|| n.as_f64().filter(|f| f.is_finite() && *f >= 0.0).map(|f| f as u64)))
        .unwrap_or(0)
}

/// What the system resource itself says.
pub(crate) fn of_system(system: &Value) -> HardwareInventory {
    let gib = system
        .pointer("/MemorySummary/TotalSystemMemoryGiB")
        .and_then(Value::as_f64)
        .filter(|g| g.is_finite() && *g > 0.0)
        .unwrap_or(0.0);
    HardwareInventory {
        // Dell's serial number is the board's; the service tag is in SKU.
        serial: text(system, "SKU")
            .filter(|_| text(system, "Manufacturer").is_some_and(|m| m.starts_with("Dell")))
            .or_else(|| text(system, "SerialNumber")),
        vendor: text(system, "Manufacturer"),
        model: text(system, "Model"),
        uuid: text(system, "UUID"),
        bios_version: text(system, "BiosVersion"),
        memory_mib: (gib * 1024.0) as u64,
        tpm: system
            .pointer("/TrustedModules/0/InterfaceType")
            .and_then(Value::as_str)
            .map(|t| t.trim_start_matches("TPM").replace('_', ".")),
        ..HardwareInventory::default()
    }
}

/// Sockets that are filled; accelerators go to `gpus`.
pub(crate) fn processors(members: &[Value], gpus: &mut Vec<Gpu>) -> Vec<Processor> {
    let mut sockets = Vec::new();
    for p in members.iter().filter(|p| p.pointer("/Status/State").and_then(Value::as_str) != Some("Absent")) {
        match p.get("ProcessorType").and_then(Value::as_str) {
            Some("GPU" | "Accelerator") => gpus.push(Gpu {
                vendor: text(p, "Manufacturer").unwrap_or_default(),
                model: text(p, "Model").unwrap_or_default(),
                memory_mib: number(p, "/ProcessorMemory/0/CapacityMiB")
                    .max(number(p, "/MemorySummary/TotalMemorySizeMiB")),
                pci: None,
            }),
            Some("CPU") | None => sockets.push(Processor {
                model: text(p, "Model").unwrap_or_default(),
                cores: u32::try_from(number(p, "/TotalCores")).unwrap_or(0),
                threads: u32::try_from(number(p, "/TotalThreads")).unwrap_or(0),
                mhz: u32::try_from(number(p, "/OperatingSpeedMHz").max(number(p, "/MaxSpeedMHz"))).unwrap_or(0),
            }),
            Some(_) => {}
        }
    }
    sockets
}

/// Interfaces with a MAC address; others are of no use to us.
pub(crate) fn nics(members: &[Value]) -> Vec<Nic> {
    members
        .iter()
        .filter_map(|n| {
            let mac = text(n, "PermanentMACAddress").or_else(|| text(n, "MACAddress"))?;
            Some(Nic {
                name: text(n, "Id").unwrap_or_default(),
                mac: validate::mac("mac", &mac).ok()?,
                speed_mbps: u32::try_from(number(n, "/SpeedMbps")).unwrap_or(0),
                link_up: text(n, "LinkStatus").map(|s| s == "LinkUp"),
                lldp: None,
            })
        })
        .collect()
}

/// A drive that is there.
pub(crate) fn disk(drive: &Value) -> Option<Disk> {
    let size = number(drive, "/CapacityBytes");
    if size == 0 {
        return None;
    }
    let media = match (drive.get("Protocol").and_then(Value::as_str), drive.get("MediaType").and_then(Value::as_str)) {
        (Some("NVMe"), _) => "nvme",
        (_, Some("HDD")) => "hdd",
        _ => "ssd",
    };
    Some(Disk {
        name: text(drive, "Id").or_else(|| text(drive, "Name")).unwrap_or_default(),
        serial: text(drive, "SerialNumber"),
        model: text(drive, "Model"),
        size_gb: size / 1_000_000_000,
        media: media.to_owned(),
    })
}
