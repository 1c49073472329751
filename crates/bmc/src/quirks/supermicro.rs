//! Supermicro X11 and later. Sources: Supermicro "Redfish User's Guide" and "Redfish Reference Guide"; the notes on Supermicro in the
//! documentation of OpenStack Ironic and Sushy (boot from virtual media).

use serde_json::Value;

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
    fn logs(&self) -> &'static [&'static str] {
        &["Log1", "SEL"]
    }
    fn hint(&self, status: u16, answer: &Value) -> Option<&'static str> {
        let said = answer.to_string().to_lowercase();
        let licence = status == 403 && (said.contains("license") || said.contains("oemlicensenotpassed"));
        licence.then_some("the BMC needs the licence SFT-DCMS-SINGLE (or SFT-OOB-LIC) for this")
    }
}
