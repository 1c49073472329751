//! Dell PowerEdge, iDRAC 8 and later. Sources: Dell "iDRAC9 Redfish API Guide"; the published iDRAC Redfish scripting examples.

use serde_json::Value;

use super::Quirks;
use crate::inventory::text;

pub(super) struct Dell;

impl Quirks for Dell {
    fn vendor(&self) -> &'static str {
        "Dell"
    }
    /// `SerialNumber` is the board's; the service tag, which is on the case and in every order, is `SKU`.
    fn serial(&self, system: &Value) -> Option<String> {
        text(system, "SKU").or_else(|| text(system.pointer("/Oem/Dell/DellSystem")?, "ChassisServiceTag"))
    }
    /// Sel first: the list begins with the lifecycle log, which has every login in it.
    fn logs(&self) -> &'static [&'static str] {
        &["Sel", "SEL"]
    }
    /// One kind a subscription, and changes of power come as alerts too. (Dell's published script for subscriptions.)
    fn event_types(&self) -> Option<&'static [&'static str]> {
        Some(&["Alert"])
    }
    /// Without an apply time the settings stay pending for ever: a job has to take them up at the next reset.
    fn bios_apply_time(&self) -> bool {
        true
    }
    /// SYS414/SYS428: another job has the resource, as for the first minutes after a power change. RAC0679: the update goes on.
    fn busy(&self, message_id: &str) -> bool {
        ["SYS414", "SYS428", "SYS446", "ResourceInUse", "ServiceTemporarilyUnavailable"]
            .iter()
            .any(|m| message_id.ends_with(m))
    }
    /// `Installed-` is what runs; `Previous-` can be gone back to, `Available-` is in the store, `Current-` is the older word.
    fn is_installed(&self, id: &str) -> bool {
        ["Previous-", "Available-", "Rollback-"].iter().all(|p| !id.starts_with(p))
    }
    /// Ids are `Installed-COMPONENT-VERSION__FQDD`: with every update another one.
    fn component_id(&self, id: &str, entry: &Value) -> String {
        let Some((begin, fqdd)) = id.split_once("__") else { return id.to_owned() };
        let number = text(entry, "SoftwareId").or_else(|| begin.split('-').nth(1).map(str::to_owned));
        number.map_or_else(|| fqdd.to_owned(), |n| format!("{n}__{fqdd}"))
    }
    /// The image says itself what it is for; a target is not looked at, and refused by some releases.
    fn update_target(&self, _: &str, _: &str) -> Option<String> {
        None
    }
    /// With `Immediate`, the standard's default, the iDRAC restarts the server by itself.
    fn applies_on_reset(&self) -> bool {
        true
    }
    /// A job that is `Scheduled` looks like a running task.
    fn waits_for_restart(&self, task: &Value) -> bool {
        task.pointer("/Oem/Dell/JobState").and_then(Value::as_str) == Some("Scheduled")
    }
    /// LIC501/LIC503: a licence is missing.
    fn hint(&self, _: u16, answer: &Value) -> Option<&'static str> {
        let licence = answer.to_string().contains("IDRAC.")
            && ["LIC501", "LIC503"].iter().any(|m| answer.to_string().contains(m));
        licence.then_some("the iDRAC needs an Enterprise or Datacenter licence for this")
    }
}
