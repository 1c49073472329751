//! From Redfish resources to the inventory. Whatever a BMC leaves out is absent here too.

use model::{
    bmc::{Disk, Gpu, HardwareInventory, Nic, Processor},
    validate,
};
use serde_json::Value;

/// What stands in a field that nobody has filled in.
const PLACEHOLDERS: &[&str] = &[
    "n/a",
    "na",
    "none",
    "null",
    "unknown",
    "not available",
    "not specified",
    "default string",
    "to be filled by o.e.m.",
    "system serial number",
    "0123456789",
    "chassis serial number",
];

/// A text that says something.
pub(crate) fn text(v: &Value, field: &str) -> Option<String> {
    let said = v.get(field).and_then(Value::as_str)?.trim();
    let empty = said.is_empty() || PLACEHOLDERS.contains(&said.to_lowercase().as_str());
    (!empty).then(|| said.to_owned())
}

/// A number, also one that came as a text; 0 when absent.
pub(crate) fn number(v: &Value, pointer: &str) -> u64 {
    v.pointer(pointer)
        .and_then(|n| {
            n.as_u64()
                .or_else(|| n.as_f64().filter(|f| f.is_finite() && *f >= 0.0).map(|f| f as u64))
                .or_else(|| n.as_str().and_then(|t| t.trim().parse().ok()))
        })
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
        serial: text(system, "SerialNumber"),
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

/// Sockets that are filled; accelerators go to `gpus`. `on`: the server runs.
pub(crate) fn processors(members: &[Value], on: bool, gpus: &mut Vec<Gpu>) -> Vec<Processor> {
    let mut sockets = Vec::new();
    for p in members.iter().filter(|p| p.pointer("/Status/State").and_then(Value::as_str) != Some("Absent")) {
        match p.get("ProcessorType").and_then(Value::as_str) {
            Some("GPU" | "Accelerator") => gpus.push(Gpu {
                vendor: text(p, "Manufacturer").unwrap_or_default(),
                model: text(p, "Model").unwrap_or_default(),
                memory_mib: number(p, "/ProcessorMemory/0/CapacityMiB")
                    .max(number(p, "/MemorySummary/TotalMemorySizeMiB")),
                pci: None,
                serial: text(p, "SerialNumber"),
                problems: ailing(p, on),
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

/// What a BMC says of an accelerator that is not well (NVIDIA's HGX boards tell it in `Status` and its conditions).
/// A warning is no reason to hold a server back: some warn of a temperature.
fn ailing(processor: &Value, on: bool) -> Vec<String> {
    let health = ["/Status/Health", "/Status/HealthRollup"];
    let health = health.iter().find_map(|p| processor.pointer(p).and_then(Value::as_str).filter(|h| *h == "Critical"));
    let state = processor.pointer("/Status/State").and_then(Value::as_str);
    let conditions = processor.pointer("/Status/Conditions").and_then(Value::as_array).into_iter().flatten();
    let said: Vec<&str> = conditions.filter_map(|c| c.get("Message").and_then(Value::as_str)).collect();
    let mut found = Vec::new();
    if let Some(health) = health {
        let why = if said.is_empty() { String::new() } else { format!(": {}", said.join("; ")) };
        found.push(format!("the BMC calls its health {}{why}", health.to_lowercase()));
    }
    // Those of a server that is off are away, in whatever words.
    if let Some(state @ ("Disabled" | "UnavailableOffline")) = state.filter(|_| on) {
        found.push(format!("the BMC says that it is {state}"));
    }
    found
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
                guid: None,
            })
        })
        .collect()
}

/// The interface of a network device function.
pub(crate) fn function_nic(function: &Value) -> Option<Nic> {
    let ethernet = function.get("Ethernet")?;
    let mac = text(ethernet, "PermanentMACAddress").or_else(|| text(ethernet, "MACAddress"))?;
    Some(Nic {
        name: text(function, "Id").unwrap_or_default(),
        mac: validate::mac("mac", &mac).ok()?,
        ..Nic::default()
    })
}

/// The interfaces of an adapter's port, older (`NetworkPort`) or newer (`Port`).
pub(crate) fn port_nics(port: &Value) -> Vec<Nic> {
    let addresses = [port.get("AssociatedNetworkAddresses"), port.pointer("/Ethernet/AssociatedMACAddresses")];
    let addresses = addresses.into_iter().flatten().filter_map(Value::as_array).flatten().filter_map(Value::as_str);
    let speed = Ord::max(number(port, "/CurrentLinkSpeedMbps"), number(port, "/CurrentSpeedGbps").saturating_mul(1000));
    addresses
        .filter_map(|mac| {
            Some(Nic {
                name: text(port, "Id").unwrap_or_default(),
                mac: validate::mac("mac", mac).ok()?,
                speed_mbps: u32::try_from(speed).unwrap_or(0),
                link_up: text(port, "LinkStatus").map(|s| s == "Up" || s == "LinkUp"),
                lldp: None,
                guid: None,
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
