//! An iDRAC's own attributes, as far as its VNC server goes.

use hyper::Method;
use serde_json::{Value, json};

use super::{Answer, Bmc, body, error::Fault, ok};
use crate::{config::Password, httpd::Incomer};

/// `…/Oem/Dell/DellAttributes/iDRAC.Embedded.1`.
pub fn route(bmc: &Bmc, request: &Incomer, place: &str) -> Answer {
    match request.method {
        Method::PATCH => change(bmc, request),
        Method::GET | Method::HEAD => {
            let (on, sessions) = bmc.server.with(|state| (state.kept.bmc.vnc, state.vnc_sessions));
            let port = bmc.world.console_ports.get().map_or(5901, |ports| ports.vnc);
            // A password is never shown.
            ok(&json!({
                "@odata.id": place, "@odata.type": "#DellAttributes.v1_0_0.DellAttributes", "Id": "iDRAC.Embedded.1",
                "Name": "OEMAttributeRegistry", "AttributeRegistry": "ManagerAttributeRegistry.v1_0_0",
                "Attributes": {
                    "VNCServer.1.Enable": if on { "Enabled" } else { "Disabled" }, "VNCServer.1.Port": port,
                    "VNCServer.1.Password": null, "VNCServer.1.Timeout": 300, "VNCServer.1.MaxSessions": 2,
                    "VNCServer.1.ActiveSessions": sessions, "VNCServer.1.SSLEncryptionBitLength": "Disabled",
                },
            }))
        }
        _ => Err(Fault::method(&request.method)),
    }
}

fn change(bmc: &Bmc, request: &Incomer) -> Answer {
    let body = body(request)?;
    let Some(Value::Object(wanted)) = body.get("Attributes") else { return Err(Fault::required("Attributes")) };
    // All or nothing.
    for (name, value) in wanted {
        let good = match name.as_str() {
            "VNCServer.1.Enable" => matches!(value.as_str(), Some("Enabled" | "Disabled")),
            "VNCServer.1.Password" => value.as_str().is_some_and(|p| (1..=8).contains(&p.len())),
            _ => return Err(Fault::unknown(name)),
        };
        if !good {
            return Err(Fault::value(name, value.as_str().unwrap_or_default()));
        }
    }
    bmc.change(|state| {
        if let Some(word) = wanted.get("VNCServer.1.Enable").and_then(Value::as_str) {
            state.kept.bmc.vnc = word == "Enabled";
        }
        if let Some(word) = wanted.get("VNCServer.1.Password").and_then(Value::as_str) {
            state.kept.bmc.vnc_password = Password(word.to_owned());
        }
    });
    bmc.done()
}
