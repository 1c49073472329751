//! Settings of the firmware: in force, and what waits for the next restart.

use std::collections::BTreeMap;

use hyper::Method;
use serde_json::{Value, json};

use super::{Answer, Bmc, body, error::Fault, ok, read_only};
use crate::httpd::Incomer;

/// Settings as they leave the factory.
pub fn factory() -> BTreeMap<String, Value> {
    BTreeMap::from([
        ("BootMode".to_owned(), json!("Uefi")),
        ("LogicalProc".to_owned(), json!("Enabled")),
        ("NumLock".to_owned(), json!("On")),
        ("ProcVirtualization".to_owned(), json!("Enabled")),
        ("SriovGlobalEnable".to_owned(), json!("Disabled")),
        ("WatchdogSeconds".to_owned(), json!(0)),
    ])
}

/// Routes below `…/Systems/ID/Bios`; `base` is that path.
pub fn route(bmc: &Bmc, request: &Incomer, base: &str, rest: &[&str]) -> Answer {
    match (&request.method, rest) {
        (&Method::PATCH, ["Settings"]) => return patch(bmc, request),
        (&Method::POST, ["Actions", "Bios.ResetBios"]) => {
            bmc.change(|state| state.kept.bmc.bios_pending = factory());
            return bmc.done();
        }
        _ => read_only(request)?,
    }
    let (now, pending) = bmc.server.with(|state| (state.kept.bmc.bios.clone(), state.kept.bmc.bios_pending.clone()));
    match rest {
        [] => ok(&json!({
            "@odata.id": base, "@odata.type": "#Bios.v1_2_0.Bios", "Id": "Bios", "Name": "BIOS Settings", "Attributes": now,
            "@Redfish.Settings": {"@odata.type": "#Settings.v1_3_5.Settings", "SettingsObject": {"@odata.id": format!("{base}/Settings")},
                "SupportedApplyTimes": ["OnReset"]},
            "Actions": {"#Bios.ResetBios": {"target": format!("{base}/Actions/Bios.ResetBios")}},
        })),
        ["Settings"] => ok(&json!({
            "@odata.id": format!("{base}/Settings"), "@odata.type": "#Bios.v1_2_0.Bios", "Id": "Settings",
            "Name": "BIOS Pending Settings", "Attributes": pending,
        })),
        _ => Err(Fault::missing(&request.path)),
    }
}

fn patch(bmc: &Bmc, request: &Incomer) -> Answer {
    let body = body(request)?;
    let wanted = body.get("Attributes").ok_or_else(|| Fault::required("Attributes"))?;
    let wanted = wanted.as_object().ok_or_else(|| Fault::kind("Attributes"))?;
    let known = bmc.server.with(|state| state.kept.bmc.bios.clone());
    for (name, value) in wanted {
        match known.get(name) {
            None => return Err(Fault::unknown(name)),
            Some(now) if now.is_string() != value.is_string() => return Err(Fault::kind(name)),
            Some(_) => {}
        }
    }
    bmc.change(|state| {
        for (name, value) in wanted {
            state.kept.bmc.bios_pending.insert(name.clone(), value.clone());
        }
    });
    bmc.done()
}
