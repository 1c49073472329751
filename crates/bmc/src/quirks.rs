//! What vendors do otherwise than the standard, a file a vendor. The default of each method is the standard; a vendor's file overrides it
//! and says why, with the public source.

mod cisco;
mod dell;
mod hpe;
mod lenovo;
mod nvidia;
mod supermicro;

use model::bmc::{Disk, Nic};
use serde_json::Value;

use crate::Progress;

/// Peculiarities of a vendor.
pub(crate) trait Quirks: Send + Sync {
    /// Name, for messages and tests.
    fn vendor(&self) -> &'static str {
        "standard"
    }
    /// Which of the systems behind the BMC is the host.
    fn host_system<'a>(&self, paths: &[&'a str]) -> Option<&'a str> {
        paths.first().copied()
    }
    /// Whether another system of the BMC carries accelerators of the host.
    fn accelerators(&self, _path: &str) -> bool {
        false
    }
    /// The serial number, where it is not `SerialNumber`.
    fn serial(&self, _system: &Value) -> Option<String> {
        None
    }
    /// Whether `$expand` may be used where it is offered.
    fn expand(&self) -> bool {
        true
    }
    /// What goes into `If-Match` of every change, whatever the ETag.
    fn if_match(&self) -> Option<&'static str> {
        None
    }
    /// Where the boot override is written, when not at the system.
    fn boot_path<'a>(&self, _system: &'a Value) -> Option<&'a str> {
        None
    }
    /// The mode that has to go along with a boot override.
    fn boot_mode<'a>(&self, _system: &'a Value) -> Option<&'a str> {
        None
    }
    /// Word for the virtual optical drive as boot source.
    fn cd(&self, _allowed: &[&str]) -> &'static str {
        "Cd"
    }
    /// Whether that virtual drive takes images by URL.
    fn media_slot(&self, _id: &str) -> bool {
        true
    }
    /// Whether the protocol has to be named beside the URL.
    fn media_protocol(&self) -> bool {
        false
    }
    /// Names of the hardware's log, the best first.
    fn logs(&self) -> &'static [&'static str] {
        &["SEL", "Log1", "EventLog"]
    }
    /// The kinds of event that a subscription names, where the BMC takes others than it says.
    fn event_types(&self) -> Option<&'static [&'static str]> {
        None
    }
    /// Whether pending firmware settings need the word when they apply.
    fn bios_apply_time(&self) -> bool {
        false
    }
    /// Whether that message means "not now".
    fn busy(&self, message_id: &str) -> bool {
        message_id.ends_with("ResourceInUse") || message_id.ends_with("ServiceTemporarilyUnavailable")
    }
    /// What a person can do about a refusal.
    fn hint(&self, _status: u16, _answer: &Value) -> Option<&'static str> {
        None
    }
    /// A collection of controllers in the vendor's own part of the tree.
    fn own_storage(&self, _system: &Value) -> Option<String> {
        None
    }
    /// Resources of the vendor's own in which volumes are written.
    fn own_raid(&self, _system: &Value) -> Vec<String> {
        Vec::new()
    }
    /// The collection of drives of such a controller.
    fn own_drives<'a>(&self, _controller: &'a Value) -> Option<&'a str> {
        None
    }
    /// A drive of such a controller.
    fn own_disk(&self, _drive: &Value) -> Option<Disk> {
        None
    }
    /// Ways of handing an image over, the best first.
    fn update_ways(&self) -> &'static [&'static str] {
        &["multipart_push", "http_push", "pull"]
    }
    /// Whether an entry of the firmware inventory is what runs, not a spare copy or a former version.
    fn is_installed(&self, _id: &str) -> bool {
        true
    }
    /// An id of a part that stays the same over updates.
    fn component_id(&self, id: &str, _entry: &Value) -> String {
        id.to_owned()
    }
    /// A version without what does not belong to it.
    fn version(&self, version: &str) -> String {
        version.to_owned()
    }
    /// What an update is aimed at, by the part's kind and its path in the firmware inventory.
    fn update_target(&self, _kind: &str, path: &str) -> Option<String> {
        Some(path.to_owned())
    }
    /// More parameters of an update.
    fn update_parameters(&self, _kind: &str, _parameters: &mut Value) {}
    /// Whether an update can wait for the next restart although the service does not say so.
    fn applies_on_reset(&self) -> bool {
        false
    }
    /// Whether an update never restarts the server by itself, although the service does not say so.
    fn holds_back(&self) -> bool {
        false
    }
    /// Whether the protocol is named beside the URL of an image.
    fn update_protocol(&self) -> bool {
        true
    }
    /// Where progress is told when there are no tasks.
    fn own_update(&self) -> Option<&'static str> {
        None
    }
    /// How an update stands, by that resource.
    fn update_state(&self, _resource: &Value) -> Option<Progress> {
        None
    }
    /// Whether a task waits for the server's restart.
    fn waits_for_restart(&self, _task: &Value) -> bool {
        false
    }
    /// A collection of network adapters in the vendor's own part of the tree.
    fn own_adapters(&self, _system: &Value) -> Option<String> {
        None
    }
    /// Interfaces of such an adapter.
    fn own_nics(&self, _adapter: &Value) -> Vec<Nic> {
        Vec::new()
    }
}

/// The standard, and nothing else.
struct Standard;

impl Quirks for Standard {}

/// Chosen by what the service root and the system say of themselves: a name before a part of the tree that only one vendor has.
pub(crate) fn detect(root: &Value, system: &Value) -> &'static dyn Quirks {
    let word = |v: &Value, field: &str| v.get(field).and_then(Value::as_str).unwrap_or_default().to_lowercase();
    let own = |v: &Value| {
        let keys = v.get("Oem").and_then(Value::as_object).into_iter().flatten();
        keys.map(|(k, _)| k.to_lowercase()).collect::<Vec<_>>().join(" ")
    };
    let said = [word(system, "Manufacturer"), word(root, "Vendor"), word(root, "Product"), own(root), own(system)];
    let known: [(&[&str], &'static dyn Quirks); 6] = [
        (&["dell"], &dell::Dell),
        (&["hpe", "hp", "hewlett"], &hpe::Hpe),
        (&["lenovo"], &lenovo::Lenovo),
        (&["supermicro", "super micro computer", "smci"], &supermicro::Supermicro),
        (&["nvidia"], &nvidia::Nvidia),
        (&["cisco"], &cisco::Cisco),
    ];
    for text in said.iter().filter(|t| !t.is_empty()) {
        // The name itself, or as its first word.
        let begins = |name: &str| text.strip_prefix(name).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric));
        let named = |name: &str| begins(name) || text.split([' ', ',']).any(|w| w == name);
        if let Some((_, quirks)) = known.iter().find(|(names, _)| names.iter().any(|n| named(n))) {
            return *quirks;
        }
    }
    &Standard
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_vendor_is_known_by_its_own_words() {
        let of = |root: Value, system: Value| detect(&root, &system).vendor();
        assert_eq!(of(json!({"Vendor": "Dell"}), Value::Null), "Dell");
        assert_eq!(of(json!({}), json!({"Manufacturer": "Dell Inc."})), "Dell");
        assert_eq!(of(json!({"Oem": {"Hpe": {}}}), json!({"Manufacturer": "HPE"})), "HPE");
        assert_eq!(of(json!({"Oem": {"Hp": {}}}), Value::Null), "HPE");
        assert_eq!(of(json!({"Vendor": "Lenovo"}), json!({"Manufacturer": "Lenovo"})), "Lenovo");
        assert_eq!(of(json!({}), json!({"Manufacturer": "Super Micro Computer, Inc."})), "Supermicro");
        assert_eq!(of(json!({"Vendor": "AMI"}), json!({"Manufacturer": "NVIDIA"})), "NVIDIA");
        assert_eq!(of(json!({"Vendor": "Cisco Systems Inc."}), Value::Null), "Cisco");
        assert_eq!(of(json!({"Vendor": "Contoso", "Oem": {"Contoso": {}}}), json!({"Manufacturer": null})), "standard");
        assert_eq!(of(Value::Null, json!([])), "standard");
    }
}
