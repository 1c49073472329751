//! Supermicro X11 and later. Sources: Supermicro "Redfish User's Guide" and "Redfish Reference Guide"; the notes on Supermicro in the
//! documentation of OpenStack Ironic and Sushy (boot from virtual media).

use serde_json::{Value, json};

use super::Quirks;

pub(super) struct Supermicro;

impl Quirks for Supermicro {
    fn vendor(&self) -> &'static str {
        "Supermicro"
    }
    /// Virtual media appears as a USB drive: `Cd` is accepted and boots nothing.
    fn cd(&self, allowed: &[&str]) -> &'static str {
        if allowed.contains(&"UsbCd") { "UsbCd" } else { "Cd" }
    }
    /// A one-time boot without its mode falls back to the legacy one on X11 and X12.
    fn boot_mode<'a>(&self, system: &'a Value) -> Option<&'a str> {
        let now = system.pointer("/Boot/BootSourceOverrideMode").and_then(Value::as_str)?;
        let allowed = system.pointer("/Boot/BootSourceOverrideMode@Redfish.AllowableValues").and_then(Value::as_array);
        allowed.is_none_or(|a| a.iter().any(|v| v == now)).then_some(now)
    }
    /// Expanded collections come with members left out.
    fn expand(&self) -> bool {
        false
    }
    /// Spare copies of BMC and BIOS stand beside those in force.
    fn is_installed(&self, id: &str) -> bool {
        ["Backup_", "Golden_", "Staging_", "Capsule_"].iter().all(|p| !id.starts_with(p))
    }
    /// BIOS and BMC are aimed at as the resources that they run, not as entries of the inventory.
    fn update_target(&self, kind: &str, path: &str) -> Option<String> {
        Some(match kind {
            "bios" => "/redfish/v1/Systems/1/Bios".to_owned(),
            "bmc" => "/redfish/v1/Managers/1".to_owned(),
            _ => path.to_owned(),
        })
    }
    /// Without these words an update puts settings and SMBIOS data (serial number, UUID) back to what the image has.
    fn update_parameters(&self, kind: &str, parameters: &mut Value) {
        let keep = match kind {
            "bios" => json!({"BIOS": {"PreserveME": true, "PreserveNVRAM": true, "PreserveSMBIOS": true}}),
            "bmc" => json!({"BMC": {"PreserveCfg": true, "PreserveSdr": true, "PreserveSsl": true}}),
            _ => return,
        };
        parameters["Oem"] = json!({"Supermicro": keep});
    }
    fn logs(&self) -> &'static [&'static str] {
        &["Log1", "SEL"]
    }
    fn hint(&self, status: u16, answer: &Value) -> Option<&'static str> {
        let said = answer.to_string().to_lowercase();
        let licence = status == 403 && (said.contains("license") || said.contains("oemlicensenotpassed"));
        licence.then_some("the BMC needs the licence SFT-DCMS-SINGLE (or SFT-OOB-LIC) for this")
    }
}
