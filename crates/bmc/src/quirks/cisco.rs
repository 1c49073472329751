//! Cisco UCS C-Series, CIMC. Source: Cisco "UCS C-Series Servers REST API Programmer's Guide" (virtual media, sessions).

use serde_json::Value;

use super::Quirks;

pub(super) struct Cisco;

impl Quirks for Cisco {
    fn vendor(&self) -> &'static str {
        "Cisco"
    }
    /// The protocol of the image has to be named beside its URL.
    fn media_protocol(&self) -> bool {
        true
    }
    /// Images are fetched, never taken.
    fn update_ways(&self) -> &'static [&'static str] {
        &["pull"]
    }
    fn logs(&self) -> &'static [&'static str] {
        &["SEL", "CIMC"]
    }
    fn hint(&self, status: u16, _: &Value) -> Option<&'static str> {
        (status == 503).then_some("the CIMC has four sessions and may be out of them; end those that nobody uses")
    }
}
