//! Settings of the firmware: in force, and what waits for the next restart.

use std::collections::BTreeMap;

use hyper::Method;
use serde_json::{Value, json};

use super::{Answer, Bmc, body, error::Fault, ok, read_only};
use crate::{hardware::Vendor, httpd::Incomer, server::State};

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

/// The setting that clears the trusted platform module, as each maker calls it: name, what it says otherwise, the word that clears.
pub fn tpm(vendor: Vendor) -> (&'static str, &'static str, &'static str) {
    match vendor {
        Vendor::Dell => ("Tpm2Hierarchy", "Enabled", "Clear"),
        Vendor::Hpe => ("Tpm2Operation", "NoAction", "Clear"),
        Vendor::Supermicro | Vendor::Nvidia => ("PendingOperation", "None", "TPM Clear"),
    }
}

/// Settings in force, with that one.
fn in_force(bmc: &Bmc) -> BTreeMap<String, Value> {
    let mut all = bmc.server.with(|state| state.kept.bmc.bios.clone());
    let (name, otherwise, _) = tpm(bmc.server.spec.model.vendor);
    all.insert(name.to_owned(), json!(otherwise));
    all
}

/// Carries out what waits for the self test, and is no setting but an order.
pub fn self_test(state: &mut State) {
    let kept = &mut state.kept.bmc;
    for vendor in [Vendor::Dell, Vendor::Hpe, Vendor::Supermicro] {
        let (name, _, clears) = tpm(vendor);
        if let Some(word) = kept.bios_pending.remove(name)
            && word == clears
        {
            kept.tpm_owned = false;
            kept.log("OK", "The trusted platform module was cleared");
        }
    }
    if std::mem::take(&mut kept.keys_pending) {
        kept.own_keys = false;
        kept.log("OK", "The keys of secure boot are those of the factory");
    }
}

/// `…/Systems/ID/SecureBoot`.
pub fn secure_boot(bmc: &Bmc, request: &Incomer, base: &str, rest: &[&str]) -> Answer {
    let words = ["ResetAllKeysToDefault", "DeleteAllKeys", "DeletePK"];
    if let (&Method::POST, ["Actions", "SecureBoot.ResetKeys"]) = (&request.method, rest) {
        let kind = body(request)?.get("ResetKeysType").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !words.contains(&kind.as_str()) {
            return Err(Fault::parameter("SecureBoot.ResetKeys", "ResetKeysType", &kind));
        }
        bmc.change(|state| state.kept.bmc.keys_pending = true);
        return bmc.done();
    }
    read_only(request)?;
    if !rest.is_empty() {
        return Err(Fault::missing(&request.path));
    }
    let own = bmc.server.with(|state| state.kept.bmc.own_keys);
    ok(&json!({
        "@odata.id": base, "@odata.type": "#SecureBoot.v1_1_0.SecureBoot", "Id": "SecureBoot", "Name": "UEFI Secure Boot",
        "SecureBootEnable": true, "SecureBootCurrentBoot": "Enabled", "SecureBootMode": if own { "UserMode" } else { "DeployedMode" },
        "Actions": {"#SecureBoot.ResetKeys": {"target": format!("{base}/Actions/SecureBoot.ResetKeys"),
            "ResetKeysType@Redfish.AllowableValues": words}},
    }))
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
    let (now, pending) = (in_force(bmc), bmc.server.with(|state| state.kept.bmc.bios_pending.clone()));
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
    let known = in_force(bmc);
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
