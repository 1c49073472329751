//! Lenovo ThinkSystem, XClarity Controller. Source: Lenovo "XClarity Controller REST API Guide" (virtual media, logs, ETags).

use serde_json::Value;

use super::Quirks;

pub(super) struct Lenovo;

impl Quirks for Lenovo {
    fn vendor(&self) -> &'static str {
        "Lenovo"
    }
    /// Of the ten virtual drives only `EXT1` to `EXT4` take a URL; `RDOC1` and `RDOC2` take uploads, `Remote1` to `Remote4` the console's.
    fn media_slot(&self, id: &str) -> bool {
        id.starts_with("EXT")
    }
    /// The platform's log, before the audit log, which has every login in it.
    fn logs(&self) -> &'static [&'static str] {
        &["PlatformLog", "StandardLog", "ActiveLog", "SEL"]
    }
    /// The spare BMC is brought up to date by the BMC itself.
    fn is_installed(&self, id: &str) -> bool {
        !id.ends_with("-Backup") && !id.ends_with("-Pending")
    }
    /// A target is for the spare BMC alone; the image says what else it is for.
    fn update_target(&self, _: &str, _: &str) -> Option<String> {
        None
    }
    fn hint(&self, _: u16, answer: &Value) -> Option<&'static str> {
        let licence = answer.to_string().to_lowercase().contains("feature key");
        licence.then_some("the XClarity Controller needs an Enterprise licence (feature on demand key) for this")
    }
}
