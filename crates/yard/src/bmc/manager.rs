//! `/redfish/v1/Managers`: the BMC itself, its network port, virtual media, event log.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Answer, Bmc, Media, body, collection, error::Fault, healthy, ok, read_only};
use crate::{
    hardware::Vendor,
    httpd::{Incomer, Reply},
    topology::mac_text,
};

/// Routes below `/redfish/v1/Managers`.
pub fn route(bmc: &Bmc, request: &Incomer, rest: &[&str]) -> Answer {
    let spec = &bmc.server.spec;
    let vendor = spec.model.vendor;
    let id = vendor.manager_id();
    let base = format!("/redfish/v1/Managers/{id}");
    let rest = match rest {
        [] => {
            read_only(request)?;
            return collection("/redfish/v1/Managers", "ManagerCollection", "Manager Collection", &[id.to_owned()]);
        }
        [known, rest @ ..] if *known == id => rest,
        _ => return Err(Fault::missing(&request.path)),
    };
    if request.method == Method::POST {
        return match rest {
            ["Actions", "Manager.Reset"] => reset(bmc, request),
            ["Actions", "Manager.ResetToDefaults"] if vendor != Vendor::Nvidia => defaults(bmc, request),
            ["VirtualMedia", slot, "Actions", "VirtualMedia.InsertMedia"] => insert(bmc, request, slot),
            ["VirtualMedia", slot, "Actions", "VirtualMedia.EjectMedia"] => eject(bmc, request, slot),
            ["LogServices", "Sel", "Actions", "LogService.ClearLog"] => {
                bmc.change(|state| state.kept.bmc.sel.clear());
                bmc.done()
            }
            _ => Err(Fault::method(&request.method)),
        };
    }
    if let ["Oem", "Dell", "DellAttributes", name] = rest
        && vendor == Vendor::Dell
        && *name == id
    {
        return super::attributes::route(bmc, request, &format!("{base}/Oem/Dell/DellAttributes/{id}"));
    }
    if request.method == Method::PATCH && rest == ["NetworkProtocol"] {
        return protocols(bmc, request);
    }
    read_only(request)?;
    let link = |name: &str| json!({"@odata.id": format!("{base}/{name}")});
    match rest {
        [] => ok(&with_shell(
            vendor,
            &base,
            json!({
                "@odata.id": base, "@odata.type": "#Manager.v1_17_0.Manager", "Id": id, "Name": "Manager",
                "ManagerType": "BMC", "Model": vendor.manager_model(), "FirmwareVersion": super::update::version(bmc, "BMC"),
                "UUID": spec.uuid.to_string(), "PowerState": "On", "Status": healthy(),
                "EthernetInterfaces": link("EthernetInterfaces"), "VirtualMedia": link("VirtualMedia"),
                "LogServices": link("LogServices"), "NetworkProtocol": link("NetworkProtocol"),
                "Links": {"ManagerForServers": [{"@odata.id": format!("/redfish/v1/Systems/{}", vendor.system_id())}],
                    "ManagerForChassis": [{"@odata.id": format!("/redfish/v1/Chassis/{}", vendor.chassis_id())}]},
                "Actions": actions(vendor, &base),
            }),
        )),
        ["NetworkProtocol"] => {
            let snmp = bmc.server.with(|state| state.kept.bmc.snmp);
            let ssh = bmc.world.console_ports.get().map_or(22, |ports| ports.ssh);
            ok(
                &json!({"@odata.id": format!("{base}/NetworkProtocol"), "@odata.type": "#ManagerNetworkProtocol.v1_9_0.ManagerNetworkProtocol",
                "Id": "NetworkProtocol", "Name": "Manager Network Protocol", "Status": healthy(), "HTTPS": {"ProtocolEnabled": true, "Port": 443},
                "SSH": {"ProtocolEnabled": true, "Port": ssh}, "IPMI": {"ProtocolEnabled": false, "Port": 623},
                "SNMP": {"ProtocolEnabled": snmp, "Port": 161}}),
            )
        }
        ["EthernetInterfaces"] => {
            let path = format!("{base}/EthernetInterfaces");
            collection(&path, "EthernetInterfaceCollection", "Ethernet Interfaces", &["eth0".to_owned()])
        }
        ["EthernetInterfaces", "eth0"] => {
            let host = format!("{}-bmc", spec.serial.to_lowercase());
            ok(&json!({
                "@odata.id": format!("{base}/EthernetInterfaces/eth0"), "Id": "eth0", "Name": "Manager Ethernet Interface",
                "@odata.type": "#EthernetInterface.v1_9_0.EthernetInterface", "LinkStatus": "LinkUp", "SpeedMbps": 1000,
                "MACAddress": mac_text(&spec.bmc_mac).to_uppercase(), "FQDN": host, "HostName": host, "Status": healthy(),
                "IPv4Addresses": [{"Address": spec.bmc.to_string(), "SubnetMask": "255.0.0.0", "AddressOrigin": "Static", "Gateway": null}],
            }))
        }
        ["VirtualMedia"] => {
            let slots: Vec<String> = bmc.server.with(|state| state.kept.bmc.media.keys().cloned().collect());
            collection(&format!("{base}/VirtualMedia"), "VirtualMediaCollection", "Virtual Media", &slots)
        }
        ["VirtualMedia", slot] => {
            let media = bmc.server.with(|state| state.kept.bmc.media.get(*slot).cloned());
            let media = media.ok_or_else(|| Fault::missing(&request.path))?;
            let place = format!("{base}/VirtualMedia/{slot}");
            let name = media.image.as_deref().and_then(|image| image.rsplit('/').next());
            ok(&json!({
                "@odata.id": place, "@odata.type": "#VirtualMedia.v1_6_0.VirtualMedia", "Id": slot, "Name": "Virtual Media",
                "MediaTypes": if *slot == "CD" { json!(["CD", "DVD"]) } else { json!(["USBStick"]) },
                "Image": media.image, "ImageName": name, "Inserted": media.image.is_some(),
                "WriteProtected": media.write_protected,
                "ConnectedVia": if media.image.is_some() { "URI" } else { "NotConnected" },
                "Actions": {"#VirtualMedia.InsertMedia": {"target": format!("{place}/Actions/VirtualMedia.InsertMedia")},
                    "#VirtualMedia.EjectMedia": {"target": format!("{place}/Actions/VirtualMedia.EjectMedia")}},
            }))
        }
        ["LogServices"] => {
            collection(&format!("{base}/LogServices"), "LogServiceCollection", "Log Services", &["Sel".to_owned()])
        }
        ["LogServices", "Sel"] => ok(&json!({
            "@odata.id": format!("{base}/LogServices/Sel"), "@odata.type": "#LogService.v1_3_0.LogService", "Id": "Sel",
            "Name": "System Event Log", "MaxNumberOfRecords": super::LOG_ENTRIES, "OverWritePolicy": "WrapsWhenFull",
            "LogEntryType": "SEL", "Entries": link("LogServices/Sel/Entries"), "Status": healthy(),
            "Actions": {"#LogService.ClearLog": {"target": format!("{base}/LogServices/Sel/Actions/LogService.ClearLog")}},
        })),
        ["LogServices", "Sel", "Entries"] => {
            let place = format!("{base}/LogServices/Sel/Entries");
            let entries = bmc.server.with(|state| state.kept.bmc.sel.clone());
            let members: Vec<Value> = entries.iter().map(|entry| log_entry(&place, entry)).collect();
            ok(&json!({"@odata.id": place, "@odata.type": "#LogEntryCollection.LogEntryCollection",
                "Name": "Log Entries", "Members@odata.count": members.len(), "Members": members}))
        }
        ["LogServices", "Sel", "Entries", id] => {
            let place = format!("{base}/LogServices/Sel/Entries");
            let entries = bmc.server.with(|state| state.kept.bmc.sel.clone());
            let entry = entries.iter().find(|entry| entry.id.to_string() == *id);
            ok(&log_entry(&place, entry.ok_or_else(|| Fault::missing(&request.path))?))
        }
        _ => Err(Fault::missing(&request.path)),
    }
}

/// Those with a shell, by which the serial port is reached; and where an iDRAC has its own attributes.
fn with_shell(vendor: Vendor, base: &str, mut manager: Value) -> Value {
    if matches!(vendor, Vendor::Dell | Vendor::Hpe) {
        manager["CommandShell"] =
            json!({"ServiceEnabled": true, "MaxConcurrentSessions": 4, "ConnectTypesSupported": ["SSH"]});
    }
    if vendor == Vendor::Dell {
        let place = format!("{base}/Oem/Dell/DellAttributes/{}", vendor.manager_id());
        manager["Links"]["Oem"] =
            json!({"Dell": {"DellAttributes@odata.count": 1, "DellAttributes": [{"@odata.id": place}]}});
    }
    manager
}

fn log_entry(place: &str, entry: &super::LogEntry) -> Value {
    json!({"@odata.id": format!("{place}/{}", entry.id), "@odata.type": "#LogEntry.v1_15_0.LogEntry",
        "Id": entry.id.to_string(), "Name": "Log Entry", "EntryType": "SEL", "Created": entry.created,
        "Severity": entry.severity, "Message": entry.message})
}

fn reset(bmc: &Bmc, request: &Incomer) -> Answer {
    let kind = body(request)?.get("ResetType").and_then(Value::as_str).unwrap_or("GracefulRestart").to_owned();
    if !["GracefulRestart", "ForceRestart"].contains(&kind.as_str()) {
        return Err(Fault::parameter("Manager.Reset", "ResetType", &kind));
    }
    // Sessions end with the reset; accounts and the state of the server stay. The answer still gets out.
    super::update::restart_bmc(bmc, "The management controller was reset");
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// Without words for what is kept, NVIDIA's has no such action.
fn actions(vendor: Vendor, base: &str) -> Value {
    let mut all = json!({"#Manager.Reset": {"target": format!("{base}/Actions/Manager.Reset"),
        "ResetType@Redfish.AllowableValues": ["GracefulRestart", "ForceRestart"]}});
    if vendor != Vendor::Nvidia {
        all["#Manager.ResetToDefaults"] = json!({"target": format!("{base}/Actions/Manager.ResetToDefaults"),
            "ResetType@Redfish.AllowableValues": ["ResetAll", "PreserveNetworkAndUsers"]});
    }
    all
}

fn defaults(bmc: &Bmc, request: &Incomer) -> Answer {
    let kind = body(request)?.get("ResetType").and_then(Value::as_str).unwrap_or_default().to_owned();
    let all = match kind.as_str() {
        "ResetAll" => true,
        "PreserveNetworkAndUsers" => false,
        _ => return Err(Fault::parameter("Manager.ResetToDefaults", "ResetType", &kind)),
    };
    let factory = super::BmcState::factory(&bmc.world.config);
    bmc.change(|state| {
        let kept = &mut state.kept.bmc;
        kept.snmp = false;
        kept.vnc = false;
        kept.syslog.clear();
        kept.subscriptions.clear();
        if all {
            kept.accounts = factory.accounts;
        }
    });
    super::update::restart_bmc(bmc, "The management controller was put back to factory settings");
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

fn protocols(bmc: &Bmc, request: &Incomer) -> Answer {
    for (name, value) in body(request)? {
        match (name.as_str(), value.get("ProtocolEnabled").and_then(Value::as_bool)) {
            ("SNMP", Some(on)) => bmc.change(|state| state.kept.bmc.snmp = on),
            ("SNMP", None) => return Err(Fault::kind("SNMP")),
            _ => return Err(Fault::unknown(&name)),
        }
    }
    bmc.done()
}

fn insert(bmc: &Bmc, request: &Incomer, slot: &str) -> Answer {
    let body = body(request)?;
    let image = body.get("Image").ok_or_else(|| Fault::required("Image"))?;
    let image = image.as_str().ok_or_else(|| Fault::kind("Image"))?.to_owned();
    if !image.starts_with("http://") && !image.starts_with("https://") {
        return Err(Fault::value("Image", &image));
    }
    let write_protected = body.get("WriteProtected").and_then(Value::as_bool).unwrap_or(true);
    bmc.change(|state| {
        let media = state.kept.bmc.media.get_mut(slot).ok_or_else(|| Fault::missing(&request.path))?;
        if media.image.is_some() {
            return Err(Fault::state(StatusCode::CONFLICT, "A medium is inserted already; eject it first."));
        }
        *media = Media { image: Some(image), write_protected };
        Ok(())
    })?;
    bmc.done()
}

fn eject(bmc: &Bmc, request: &Incomer, slot: &str) -> Answer {
    bmc.change(|state| {
        let media = state.kept.bmc.media.get_mut(slot).ok_or_else(|| Fault::missing(&request.path))?;
        *media = Media::default();
        Ok(())
    })?;
    bmc.done()
}
