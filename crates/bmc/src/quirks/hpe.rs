//! HPE ProLiant, iLO 4 to 6. Sources: HPE "iLO RESTful API" documentation (iLO 4, iLO 5: resource definitions, "Adapting from iLO 4").

use model::{
    bmc::{Disk, Nic},
    validate,
};
use serde_json::Value;

use super::Quirks;
use crate::{
    Progress,
    inventory::{number, text},
};

pub(super) struct Hpe;

fn own<'a>(system: &'a Value, pointer: &str) -> Option<&'a str> {
    ["/Oem/Hpe", "/Oem/Hp"]
        .iter()
        .find_map(|oem| {
            let part = system.pointer(oem)?;
            part.pointer(&format!("/Links/{pointer}")).or_else(|| part.pointer(&format!("/links/{pointer}")))
        })
        .and_then(|l| l.get("@odata.id").or_else(|| l.get("href")))
        .and_then(Value::as_str)
}

impl Quirks for Hpe {
    fn vendor(&self) -> &'static str {
        "HPE"
    }
    /// `IML`, the Integrated Management Log, is the hardware's; `IEL` is the iLO's own.
    fn logs(&self) -> &'static [&'static str] {
        &["IML"]
    }
    /// While the firmware tests the machine, boot source and settings cannot be changed: a matter of minutes.
    fn busy(&self, message_id: &str) -> bool {
        ["UnableToModifyDuringSystemPOST", "ResourceInUse", "InvalidOperationForSystemState"]
            .iter()
            .any(|m| message_id.ends_with(m))
    }
    fn hint(&self, _: u16, answer: &Value) -> Option<&'static str> {
        answer.to_string().contains("LicenseKeyRequired").then_some("the iLO needs an Advanced licence for this")
    }
    /// `HttpPushUri` wants a cookie and a form of its own; the pull is the standard's.
    fn update_ways(&self) -> &'static [&'static str] {
        &["pull"]
    }
    /// The action knows the URL alone.
    fn update_protocol(&self) -> bool {
        false
    }
    fn update_target(&self, _: &str, _: &str) -> Option<String> {
        None
    }
    /// A new ROM is written beside the old one, and runs after the next restart.
    fn holds_back(&self) -> bool {
        true
    }
    /// There is no task: the update service itself says how far it is.
    fn own_update(&self) -> Option<&'static str> {
        Some("/redfish/v1/UpdateService")
    }
    fn update_state(&self, resource: &Value) -> Option<Progress> {
        let own = resource.pointer("/Oem/Hpe").or_else(|| resource.pointer("/Oem/Hp"))?;
        let percent = u8::try_from(Ord::min(number(own, "/FlashProgressPercent"), 100)).unwrap_or(100);
        let said = own.pointer("/Result/MessageId").and_then(Value::as_str).unwrap_or("no reason given");
        Some(match own.get("State").and_then(Value::as_str).unwrap_or_default() {
            "Complete" => Progress::Done,
            "Error" => Progress::Failed(said.to_owned()),
            "Idle" | "" => Progress::Forgotten,
            word => Progress::Running { percent, words: word.to_lowercase() },
        })
    }
    /// The version of the iLO comes as `1.58 Sep 15 2023`, that of the ROM as `U32 v2.44 (03/17/2023)`.
    fn version(&self, version: &str) -> String {
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let words = version.split(' ').take_while(|w| !w.starts_with('(') && !months.contains(w));
        words.collect::<Vec<_>>().join(" ")
    }
    /// Smart Array controllers stand in `SmartStorage`, not in `Storage`, up to iLO 5 with Gen10 controllers.
    fn own_storage(&self, system: &Value) -> Option<String> {
        own(system, "SmartStorage").map(|p| format!("{}/ArrayControllers/", p.trim_end_matches('/')))
    }
    /// One for each controller; where the system names them, in a list.
    fn own_raid(&self, system: &Value) -> Vec<String> {
        let all = ["/Oem/Hpe/Links/SmartStorageConfig", "/Oem/Hpe/SmartStorageConfig"];
        let all = all.iter().find_map(|p| system.pointer(p)).and_then(Value::as_array).into_iter().flatten();
        all.filter_map(|l| l.get("@odata.id").and_then(Value::as_str)).map(str::to_owned).collect()
    }
    fn own_drives<'a>(&self, controller: &'a Value) -> Option<&'a str> {
        let links = controller.get("Links").or_else(|| controller.get("links"))?;
        let link = links.get("PhysicalDrives")?;
        link.get("@odata.id").or_else(|| link.get("href")).and_then(Value::as_str)
    }
    /// These have `CapacityMiB` and `InterfaceType` where the standard has `CapacityBytes` and `Protocol`.
    fn own_disk(&self, drive: &Value) -> Option<Disk> {
        let size = number(drive, "/CapacityMiB").saturating_mul(1 << 20);
        let word = |f: &str| drive.get(f).and_then(Value::as_str).unwrap_or_default();
        let media = match (word("InterfaceType"), word("MediaType")) {
            ("NVMe", _) => "nvme",
            (_, "HDD") => "hdd",
            _ => "ssd",
        };
        (size > 0).then(|| Disk {
            name: text(drive, "Location").or_else(|| text(drive, "Id")).unwrap_or_default(),
            serial: text(drive, "SerialNumber"),
            model: text(drive, "Model"),
            size_gb: size / 1_000_000_000,
            media: media.to_owned(),
        })
    }
    /// Before the operating system runs its agent, `EthernetInterfaces` is empty; the adapters are here.
    fn own_adapters(&self, system: &Value) -> Option<String> {
        let linked = own(system, "NetworkAdapters").or_else(|| own(system, "BaseNetworkAdapters")).map(str::to_owned);
        linked.or_else(|| {
            let path = system.get("@odata.id").and_then(Value::as_str)?;
            Some(format!("{}/BaseNetworkAdapters/", path.trim_end_matches('/')))
        })
    }
    fn own_nics(&self, adapter: &Value) -> Vec<Nic> {
        let name = text(adapter, "Name").unwrap_or_default();
        let ports = adapter.get("PhysicalPorts").and_then(Value::as_array).into_iter().flatten();
        ports
            .enumerate()
            .filter_map(|(n, port)| {
                Some(Nic {
                    name: format!("{name} port {}", n + 1).trim().to_owned(),
                    mac: validate::mac("mac", &text(port, "MacAddress")?).ok()?,
                    speed_mbps: u32::try_from(number(port, "/SpeedMbps")).unwrap_or(0),
                    link_up: text(port, "LinkStatus").map(|s| s == "LinkUp"),
                    lldp: None,
                    guid: None,
                })
            })
            .collect()
    }
}
