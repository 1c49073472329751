//! `/redfish/v1/Systems`: power, boot, processors, memory, storage, network ports.

use hyper::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::{Answer, Bmc, body, collection, error::Fault, events, healthy, ok, read_only};
use crate::{
    config::BootMode,
    dataplane,
    hardware::{Disk, Vendor},
    httpd::{Incomer, Reply},
    server::{Stage, boot, power},
    topology::mac_text,
};

const RESETS: [&str; 8] =
    ["On", "ForceOff", "GracefulShutdown", "ForceRestart", "GracefulRestart", "Nmi", "PowerCycle", "PushPowerButton"];

/// Routes below `/redfish/v1/Systems`.
pub fn route(bmc: &Bmc, request: &Incomer, rest: &[&str]) -> Answer {
    let spec = &bmc.server.spec;
    let model = spec.model;
    let id = model.vendor.system_id();
    let base = format!("/redfish/v1/Systems/{id}");
    let rest = match rest {
        [] => {
            read_only(request)?;
            let members = [id.to_owned()];
            return collection("/redfish/v1/Systems", "ComputerSystemCollection", "Computer Systems", &members);
        }
        [known, rest @ ..] if *known == id => rest,
        _ => return Err(Fault::missing(&request.path)),
    };
    match rest {
        [] if request.method == Method::PATCH => return patch(bmc, request),
        ["Actions", "ComputerSystem.Reset"] => {
            if request.method != Method::POST {
                return Err(Fault::method(&request.method));
            }
            return reset(bmc, request);
        }
        ["Bios", rest @ ..] => return super::bios::route(bmc, request, &format!("{base}/Bios"), rest),
        ["SecureBoot", rest @ ..] => {
            return super::bios::secure_boot(bmc, request, &format!("{base}/SecureBoot"), rest);
        }
        ["Storage", "1", "Volumes", rest @ ..] => {
            return super::raid::route(bmc, request, &format!("{base}/Storage/1/Volumes"), rest);
        }
        _ => read_only(request)?,
    }
    let missing = || Fault::missing(&request.path);
    let status = |part: &str| bmc.server.with(|state| events::status(state, part));
    let ids = |prefix: &str, count: usize| (1..=count).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>();
    match rest {
        [] => ok(&show(bmc, &base)),
        ["Processors"] => {
            let mut list = ids("CPU.Socket.", model.sockets);
            list.extend(ids("GPU.", model.gpu.map_or(0, |gpu| gpu.count)));
            collection(&format!("{base}/Processors"), "ProcessorCollection", "Processors", &list)
        }
        ["Processors", name] => ok(&processor(bmc, &base, name).ok_or_else(missing)?),
        ["Memory"] => collection(&format!("{base}/Memory"), "MemoryCollection", "Memory", &ids("DIMM.", model.dimms)),
        ["Memory", name] => {
            let n = numbered(name, "DIMM.", model.dimms).ok_or_else(missing)?;
            ok(&json!({
                "@odata.id": format!("{base}/Memory/{name}"), "@odata.type": "#Memory.v1_17_0.Memory", "Id": name,
                "Name": format!("DIMM {n}"), "CapacityMiB": model.dimm_mib, "OperatingSpeedMhz": model.dimm_mts,
                "MemoryDeviceType": if model.dimm_mts > 3200 { "DDR5" } else { "DDR4" }, "Manufacturer": "Samsung",
                "SerialNumber": format!("{}M{n:02}", spec.serial), "DeviceLocator": format!("A{n}"), "Status": status(&format!("dimm-{n}")),
            }))
        }
        ["Storage"] => collection(&format!("{base}/Storage"), "StorageCollection", "Storage", &["1".to_owned()]),
        ["Storage", "1"] => {
            let drives: Vec<Value> = (0..disks(bmc).len())
                .map(|n| json!({"@odata.id": format!("{base}/Storage/1/Drives/Disk.{n}")}))
                .collect();
            let mut storage = json!({
                "@odata.id": format!("{base}/Storage/1"), "@odata.type": "#Storage.v1_13_0.Storage", "Id": "1",
                "Name": "Storage controller", "Drives@odata.count": drives.len(), "Drives": drives, "Status": healthy(),
                "StorageControllers": [{"Name": "Onboard", "SupportedDeviceProtocols": ["NVMe", "SATA"], "Status": healthy()}],
            });
            if super::raid::has(model.vendor) {
                storage["Volumes"] = json!({"@odata.id": format!("{base}/Storage/1/Volumes")});
                storage["StorageControllers"][0]["SupportedRAIDTypes"] = json!(super::raid::levels(model.vendor));
            }
            ok(&storage)
        }
        ["Storage", "1", "Drives", name] => {
            let list = disks(bmc);
            let n: Option<usize> = name.strip_prefix("Disk.").and_then(|n| n.parse().ok());
            let (n, disk) = n.and_then(|n| Some((n, list.get(n)?))).ok_or_else(missing)?;
            ok(&json!({
                "@odata.id": format!("{base}/Storage/1/Drives/{name}"), "@odata.type": "#Drive.v1_15_0.Drive", "Id": name,
                "Name": format!("Disk {n}"), "Model": disk.model, "SerialNumber": format!("{}-D{n}", spec.serial),
                "CapacityBytes": disk.size_gb * 1_000_000_000, "MediaType": if disk.media == "hdd" { "HDD" } else { "SSD" },
                "Protocol": if disk.media == "nvme" { "NVMe" } else { "SATA" }, "PredictedMediaLifeLeftPercent": 98,
                "FailurePredicted": false, "Status": status(&format!("disk-{n}")),
            }))
        }
        ["EthernetInterfaces"] => {
            let list: Vec<String> = model.nic_ids.iter().take(spec.nics.len()).map(|id| (*id).to_owned()).collect();
            collection(
                &format!("{base}/EthernetInterfaces"),
                "EthernetInterfaceCollection",
                "Ethernet Interfaces",
                &list,
            )
        }
        ["EthernetInterfaces", name] => ethernet(bmc, &base, name).map_or_else(|| Err(missing()), |view| ok(&view)),
        ["BootOptions"] => {
            let list: Vec<String> = boot::options(spec).into_iter().map(|option| option.reference).collect();
            collection(&format!("{base}/BootOptions"), "BootOptionCollection", "Boot Options", &list)
        }
        ["BootOptions", name] => {
            let option =
                boot::options(spec).into_iter().find(|option| option.reference == *name).ok_or_else(missing)?;
            let alias = match option.source {
                boot::Source::Disk => "Hdd",
                boot::Source::Nic(_, BootMode::HttpUefi) => "UefiHttp",
                _ => "Pxe",
            };
            ok(&json!({
                "@odata.id": format!("{base}/BootOptions/{name}"), "@odata.type": "#BootOption.v1_0_4.BootOption",
                "Id": name, "Name": option.name, "DisplayName": option.name, "BootOptionReference": name,
                "BootOptionEnabled": true, "UefiDevicePath": option.path, "Alias": alias,
            }))
        }
        ["PCIeDevices"] => {
            let list: Vec<String> = pcie(bmc).into_iter().map(|(id, ..)| id).collect();
            collection(&format!("{base}/PCIeDevices"), "PCIeDeviceCollection", "PCIe Devices", &list)
        }
        ["PCIeDevices", name] => {
            let (id, title, vendor) = pcie(bmc).into_iter().find(|(id, ..)| id == name).ok_or_else(missing)?;
            ok(&json!({
                "@odata.id": format!("{base}/PCIeDevices/{id}"), "@odata.type": "#PCIeDevice.v1_11_0.PCIeDevice", "Id": id,
                "Name": title, "Model": title, "Manufacturer": vendor, "DeviceType": "SingleFunction", "Status": healthy(),
            }))
        }
        _ => Err(missing()),
    }
}

fn disks(bmc: &Bmc) -> Vec<Disk> {
    super::raid::drives(bmc.server.spec.model)
}

fn pcie(bmc: &Bmc) -> Vec<(String, &'static str, &'static str)> {
    let model = bmc.server.spec.model;
    let maker = if model.nic_model.contains("ConnectX") { "Mellanox" } else { "Broadcom" };
    let mut list = vec![("NIC.1".to_owned(), model.nic_model, maker)];
    if let Some(gpu) = model.gpu {
        list.extend((1..=gpu.count).map(|n| (format!("GPU.{n}"), gpu.model, gpu.vendor)));
    }
    list
}

fn numbered(name: &str, prefix: &str, count: usize) -> Option<usize> {
    name.strip_prefix(prefix)?.parse().ok().filter(|n| (1..=count).contains(n))
}

fn ethernet(bmc: &Bmc, base: &str, name: &str) -> Option<Value> {
    let spec = &bmc.server.spec;
    let model = spec.model;
    let n = model.nic_ids.iter().take(spec.nics.len()).position(|id| *id == name)?;
    let mac = mac_text(&spec.nics[n].mac).to_uppercase();
    // Without power to the adapter the BMC does not know the link.
    let on = bmc.server.with(|state| state.kept.on);
    let up = on && dataplane::link_up(&bmc.world, &bmc.server, n);
    let link = on.then_some(if up { "LinkUp" } else { "LinkDown" });
    Some(json!({
        "@odata.id": format!("{base}/EthernetInterfaces/{name}"), "@odata.type": "#EthernetInterface.v1_9_0.EthernetInterface",
        "Id": name, "Name": format!("Port {}", n + 1), "Description": model.nic_model, "MACAddress": mac,
        "PermanentMACAddress": mac, "LinkStatus": link, "SpeedMbps": up.then_some(model.nic_mbps),
        "InterfaceEnabled": true, "Status": healthy(),
    }))
}

fn processor(bmc: &Bmc, base: &str, name: &str) -> Option<Value> {
    let spec = &bmc.server.spec;
    let model = spec.model;
    if let Some(n) = numbered(name, "CPU.Socket.", model.sockets) {
        return Some(json!({
            "@odata.id": format!("{base}/Processors/{name}"), "@odata.type": "#Processor.v1_18_0.Processor", "Id": name,
            "Name": format!("CPU {n}"), "Socket": name, "ProcessorType": "CPU", "ProcessorArchitecture": "x86",
            "InstructionSet": "x86-64", "Manufacturer": model.cpu_vendor, "Model": model.cpu,
            "MaxSpeedMHz": model.mhz + 1200, "OperatingSpeedMHz": model.mhz, "TotalCores": model.cores,
            "TotalThreads": model.threads, "Status": bmc.server.with(|state| events::status(state, &format!("cpu-{n}"))),
        }));
    }
    let gpu = model.gpu?;
    let n = numbered(name, "GPU.", gpu.count)?;
    Some(json!({
        "@odata.id": format!("{base}/Processors/{name}"), "@odata.type": "#Processor.v1_18_0.Processor", "Id": name,
        "Name": format!("GPU {n}"), "ProcessorType": "GPU", "Manufacturer": gpu.vendor, "Model": gpu.model,
        "SerialNumber": format!("{}G{n}", spec.serial), "MemorySummary": {"TotalMemorySizeMiB": gpu.memory_mib},
        "ProcessorMemory": [{"IntegratedMemory": true, "CapacityMiB": gpu.memory_mib}], "Status": bmc.server.with(|state| events::status(state, &format!("gpu-{n}"))),
    }))
}

fn targets(mode: BootMode) -> &'static [&'static str] {
    match mode {
        BootMode::BiosPxe => &["None", "Pxe", "Hdd", "Cd", "BiosSetup"],
        _ => &["None", "Pxe", "Hdd", "Cd", "BiosSetup", "UefiHttp", "UefiBootNext"],
    }
}

/// Consoles of the two whose BMC tells of them at the system.
fn console(bmc: &Bmc, system: &mut Value) {
    let vendor = bmc.server.spec.model.vendor;
    let Some(ports) = bmc.world.console_ports.get() else { return };
    if matches!(vendor, Vendor::Supermicro | Vendor::Nvidia) {
        system["SerialConsole"] = json!({"MaxConcurrentSessions": 1, "IPMI": {"ServiceEnabled": false},
            "SSH": {"ServiceEnabled": true, "Port": ports.ssh, "SharedWithManagerCLI": false}});
    }
    if vendor == Vendor::Nvidia {
        system["GraphicalConsole"] = json!({"ServiceEnabled": true, "MaxConcurrentSessions": 4,
            "ConnectTypesSupported": ["KVMIP"], "Port": ports.vnc});
    }
}

fn show(bmc: &Bmc, base: &str) -> Value {
    let spec = &bmc.server.spec;
    let model = spec.model;
    let vendor = model.vendor;
    let (kept, stage) = bmc.server.with(|state| (state.kept.clone(), state.stage));
    let (worst, cpus, memory) = bmc
        .server
        .with(|state| (events::worst(state, ""), events::worst(state, "cpu-"), events::worst(state, "dimm-")));
    let boot = kept.boot;
    let progress = match stage {
        Stage::Off => "None",
        Stage::Post => "SystemHardwareInitializationComplete",
        Stage::OsUp => "OSRunning",
        Stage::OsBoot | Stage::Agent | Stage::ShuttingDown => "OSBootStarted",
        _ => "SetupEntered",
    };
    let mut boot_view = json!({
        "BootSourceOverrideEnabled": boot.enabled, "BootSourceOverrideTarget": boot.target,
        "BootSourceOverrideMode": boot.mode, "BootOrder": kept.boot_order,
        "BootSourceOverrideTarget@Redfish.AllowableValues": targets(spec.boot_mode),
        "BootSourceOverrideEnabled@Redfish.AllowableValues": ["Disabled", "Once", "Continuous"],
        "BootOptions": {"@odata.id": format!("{base}/BootOptions")},
    });
    if spec.boot_mode != BootMode::BiosPxe
        && let Value::Object(view) = &mut boot_view
    {
        view.insert("BootNext".into(), json!(boot.boot_next));
        view.insert("HttpBootUri".into(), json!(boot.http_uri));
    }
    let devices = pcie(bmc);
    let link = |name: &str| json!({"@odata.id": format!("{base}/{name}")});
    let mut system = json!({
        "@odata.id": base, "@odata.type": "#ComputerSystem.v1_20_0.ComputerSystem", "Id": vendor.system_id(),
        "Name": "System", "SystemType": "Physical", "Manufacturer": vendor.manufacturer(), "Model": model.name,
        "SKU": spec.serial, "SerialNumber": spec.serial, "PartNumber": format!("{}-A00", model.key.to_uppercase()),
        "AssetTag": kept.bmc.asset_tag, "UUID": spec.uuid.to_string(),
        "HostName": kept.os.map(|os| os.hostname).unwrap_or_default(),
        "PowerState": if kept.on { "On" } else { "Off" }, "IndicatorLED": kept.bmc.indicator,
        "PowerRestorePolicy": kept.bmc.power_restore,
        "LocationIndicatorActive": kept.bmc.indicator != "Off", "BiosVersion": super::update::version(bmc, "BIOS"), "Bios": {"@odata.id": format!("{base}/Bios")}, "SecureBoot": {"@odata.id": format!("{base}/SecureBoot")},
        "BootProgress": {"LastState": progress}, "Boot": boot_view,
        "ProcessorSummary": {"Count": model.sockets, "CoreCount": model.sockets as u32 * model.cores,
            "LogicalProcessorCount": model.sockets as u32 * model.threads, "Model": model.cpu, "Status": {"State": "Enabled", "Health": cpus, "HealthRollup": cpus}},
        "MemorySummary": {"TotalSystemMemoryGiB": model.memory_mib() / 1024, "Status": {"State": "Enabled", "Health": memory, "HealthRollup": memory}},
        "TrustedModules": [{"InterfaceType": "TPM2_0", "FirmwareVersion": "7.2.3.1", "Status": {"State": "Enabled"}}],
        "Processors": link("Processors"), "Memory": link("Memory"), "Storage": link("Storage"),
        "EthernetInterfaces": link("EthernetInterfaces"), "PCIeDevices@odata.count": devices.len(),
        "PCIeDevices": devices.iter().map(|(id, ..)| link(&format!("PCIeDevices/{id}"))).collect::<Vec<_>>(),
        "Links": {"Chassis": [{"@odata.id": format!("/redfish/v1/Chassis/{}", vendor.chassis_id())}],
            "ManagedBy": [{"@odata.id": format!("/redfish/v1/Managers/{}", vendor.manager_id())}]},
        "Status": {"State": if kept.on { "Enabled" } else { "StandbyOffline" }, "Health": worst, "HealthRollup": worst},
        "Actions": {"#ComputerSystem.Reset": {"target": format!("{base}/Actions/ComputerSystem.Reset"),
            "ResetType@Redfish.AllowableValues": RESETS}},
    });
    console(bmc, &mut system);
    if vendor == Vendor::Hpe
        && let Value::Object(system) = &mut system
    {
        let post = match stage {
            Stage::Off => "PowerOff",
            Stage::Post => "InPost",
            Stage::OsUp => "FinishedPost",
            _ => "InPostDiscoveryComplete",
        };
        system.insert("Oem".into(), json!({"Hpe": {"PostState": post}}));
    }
    system
}

fn text(name: &str, value: &Value) -> Result<String, Fault> {
    value.as_str().map(str::to_owned).ok_or_else(|| Fault::kind(name))
}

fn listed(name: &str, value: &Value, list: &[&str]) -> Result<String, Fault> {
    let value = text(name, value)?;
    if list.contains(&value.as_str()) { Ok(value) } else { Err(Fault::value(name, &value)) }
}

fn patch(bmc: &Bmc, request: &Incomer) -> Answer {
    let (mut boot, mut order) = bmc.server.with(|state| (state.kept.boot.clone(), state.kept.boot_order.clone()));
    let (mut indicator, mut asset, mut restore) = (None, None, None);
    for (name, value) in &body(request)? {
        match name.as_str() {
            "AssetTag" => asset = Some(text(name, value)?),
            "PowerRestorePolicy" => restore = Some(listed(name, value, &["AlwaysOn", "AlwaysOff", "LastState"])?),
            "IndicatorLED" => indicator = Some(listed(name, value, &["Off", "Lit", "Blinking"])?),
            "LocationIndicatorActive" => {
                let on = value.as_bool().ok_or_else(|| Fault::kind(name))?;
                indicator = Some(if on { "Blinking" } else { "Off" }.to_owned());
            }
            "Boot" => {
                let changes = value.as_object().ok_or_else(|| Fault::kind(name))?;
                patch_boot(bmc, changes, &mut boot, &mut order)?;
            }
            other => return Err(Fault::unknown(other)),
        }
    }
    bmc.change(|state| {
        state.kept.boot = boot;
        state.kept.boot_order = order;
        if let Some(indicator) = indicator {
            state.kept.bmc.indicator = indicator;
        }
        if let Some(asset) = asset {
            state.kept.bmc.asset_tag = asset;
        }
        if let Some(restore) = restore {
            state.kept.bmc.power_restore = restore;
        }
    });
    bmc.done()
}

fn patch_boot(
    bmc: &Bmc,
    changes: &Map<String, Value>,
    boot: &mut crate::server::BootOverride,
    order: &mut Vec<String>,
) -> Result<(), Fault> {
    let spec = &bmc.server.spec;
    for (name, value) in changes {
        match name.as_str() {
            "BootSourceOverrideEnabled" => boot.enabled = listed(name, value, &["Disabled", "Once", "Continuous"])?,
            "BootSourceOverrideTarget" => boot.target = listed(name, value, targets(spec.boot_mode))?,
            "BootSourceOverrideMode" => {
                let mode = listed(name, value, &["UEFI", "Legacy"])?;
                // The mode is a BIOS setting of these machines; only the one in force is accepted.
                if mode != boot.mode {
                    return Err(Fault::value(name, &mode));
                }
            }
            "BootNext" | "UefiTargetBootSourceOverride" => boot.boot_next = Some(text(name, value)?),
            "HttpBootUri" => boot.http_uri = if value.is_null() { None } else { Some(text(name, value)?) },
            "BootOrder" => {
                let list = value.as_array().ok_or_else(|| Fault::kind(name))?;
                let list: Vec<String> = list.iter().map(|item| text(name, item)).collect::<Result<_, _>>()?;
                let known = boot::options(spec);
                if let Some(bad) = list.iter().find(|item| known.iter().all(|option| option.reference != **item)) {
                    return Err(Fault::value(name, bad));
                }
                *order = list;
            }
            other => return Err(Fault::unknown(&format!("Boot/{other}"))),
        }
    }
    let named = |name: &str| changes.contains_key(name);
    if named("BootSourceOverrideTarget") && !named("BootSourceOverrideEnabled") && boot.enabled == "Disabled" {
        boot.enabled = "Once".into();
    }
    if boot.target == "None" || boot.enabled == "Disabled" {
        boot.enabled = "Disabled".into();
        boot.target = "None".into();
    }
    Ok(())
}

fn reset(bmc: &Bmc, request: &Incomer) -> Answer {
    let body = body(request)?;
    let value = body.get("ResetType").ok_or_else(|| Fault::required("ResetType"))?;
    let kind = value.as_str().ok_or_else(|| Fault::kind("ResetType"))?;
    if !RESETS.contains(&kind) {
        return Err(Fault::parameter("ComputerSystem.Reset", "ResetType", kind));
    }
    let (world, server) = (&bmc.world, &bmc.server);
    let on = server.with(|state| state.kept.on);
    // Asked for the state that it is in, every vendor answers in its own way.
    let already = |what: &str| -> Answer {
        let message = format!("Unable to perform the operation because the server is already powered {what}.");
        match bmc.vendor() {
            Vendor::Dell => Err(Fault::state(StatusCode::CONFLICT, &message)),
            Vendor::Hpe => Err(Fault::state(StatusCode::BAD_REQUEST, &message)),
            Vendor::Supermicro | Vendor::Nvidia => bmc.done(),
        }
    };
    match (kind, on) {
        ("On", true) => return already("ON"),
        ("On" | "PushPowerButton", false) => {
            power::on(world, server);
        }
        (_, false) => return already("OFF"),
        ("ForceOff", true) => {
            power::off(world, server, "power off (BMC)");
        }
        ("ForceRestart" | "PowerCycle", true) => power::restart(world, server, "restart (BMC)"),
        ("GracefulShutdown" | "PushPowerButton", true) => {
            power::shutdown(world, server, false);
        }
        ("GracefulRestart", true) => {
            power::shutdown(world, server, true);
        }
        _ => server.with(|state| {
            state.console("NMI received");
            state.sel("Warning", "Non-maskable interrupt");
        }),
    }
    match bmc.vendor() {
        Vendor::Dell | Vendor::Nvidia => Ok(Reply::empty(StatusCode::NO_CONTENT)),
        _ => bmc.done(),
    }
}
