//! NVIDIA DGX, HGX and their relatives (AMI MegaRAC or OpenBMC, with a second BMC for the GPU board). Sources: NVIDIA "DGX H100/H200 User
//! Guide", Redfish APIs; AMI MegaRAC SP-X Redfish documentation (settings object, `If-Match`).

use serde_json::Value;

use super::Quirks;

pub(super) struct Nvidia;

fn board(path: &str) -> bool {
    path.contains("/HGX_Baseboard")
}

impl Quirks for Nvidia {
    fn vendor(&self) -> &'static str {
        "NVIDIA"
    }
    /// The GPU board is a system of its own, `HGX_Baseboard_0`, and often the first in the list; the host is the other.
    fn host_system<'a>(&self, paths: &[&'a str]) -> Option<&'a str> {
        paths.iter().find(|p| !board(p)).or_else(|| paths.first()).copied()
    }
    /// The GPUs are the processors of that board.
    fn accelerators(&self, path: &str) -> bool {
        board(path)
    }
    /// Changes without `If-Match` are refused (428), and the ETag of a large resource is often older than the resource.
    fn if_match(&self) -> Option<&'static str> {
        Some("*")
    }
    /// The boot override is written to the settings object (`.../SD`), where there is one: at the system itself it is not kept.
    fn boot_path<'a>(&self, system: &'a Value) -> Option<&'a str> {
        system.pointer("/@Redfish.Settings/SettingsObject/@odata.id").and_then(Value::as_str)
    }
    /// An image holds parts of the whole tray: what it is for is said, or all of it is written.
    fn update_parameters(&self, _: &str, parameters: &mut Value) {
        parameters["ForceUpdate"] = false.into();
    }
    /// What was written is activated by a restart, or by a power cycle of the whole tray, of which a person decides.
    fn holds_back(&self) -> bool {
        true
    }
    fn logs(&self) -> &'static [&'static str] {
        &["SEL", "EventLog"]
    }
}
