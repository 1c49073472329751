//! Boot order, what the BMC tells others, and the state of the factory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use model::firmware;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Redfish, link};
use crate::{BmcError, BootOrder, Fresh, Reporting, inventory::text};

fn order_of(system: &Value) -> Vec<String> {
    let list = system.pointer("/Boot/BootOrder").and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[async_trait]
impl BootOrder for Redfish {
    async fn boot_order(&self) -> Result<firmware::BootOrder, BmcError> {
        let system = self.system().await?;
        let order = order_of(&system);
        if order.is_empty() {
            return Err(self.unsupported("a boot order; it has none, or the server must be on for it"));
        }
        let mut options = BTreeMap::new();
        for option in self.members(&system["Boot"]["BootOptions"]).await? {
            let reference = text(&option, "BootOptionReference").or_else(|| text(&option, "Id"));
            if let (Some(reference), Some(name)) =
                (reference, text(&option, "DisplayName").or_else(|| text(&option, "Name")))
            {
                options.insert(reference, name);
            }
        }
        Ok(firmware::BootOrder { order, options })
    }

    async fn set_boot_order(&self, order: &[String]) -> Result<(), BmcError> {
        let quirks = self.service().await?.quirks;
        let system = self.system().await?;
        let now = order_of(&system);
        if now == order {
            return Ok(());
        }
        let (mut known, mut wanted) = (now, order.to_vec());
        known.sort_unstable();
        wanted.sort_unstable();
        if known != wanted {
            return Err(self.unsupported(format!(
                "this boot order: it must name each of {} once",
                if known.is_empty() { "no options".to_owned() } else { known.join(", ") }
            )));
        }
        // Where there is a resource for what is to come, the order is written there: at the system itself it is not kept.
        let place = quirks.boot_path(&system).map(str::to_owned);
        let settings = system.pointer("/@Redfish.Settings/SettingsObject").and_then(link).map(str::to_owned);
        let (path, known) = match place.or(settings) {
            Some(path) => {
                let known = self.get(&path).await?;
                (path, known)
            }
            None => (self.service().await?.system.clone(), system),
        };
        // Where it makes a task of this, the task waits for the restart: it is not followed.
        self.patch(&path, &json!({"Boot": {"BootOrder": order}}), &known).await.map(|_| ())
    }
}

#[async_trait]
impl Reporting for Redfish {
    async fn enable_snmp(&self) -> Result<bool, BmcError> {
        let system = self.system().await?;
        let manager = self.manager(&system).await?;
        let protocols = self.linked(&manager["NetworkProtocol"]).await?;
        let Some(snmp) = protocols.get("SNMP").filter(|s| s.is_object()) else {
            return Err(self.unsupported("SNMP over Redfish; switch it on at the BMC itself"));
        };
        if snmp.get("ProtocolEnabled").and_then(Value::as_bool) == Some(true) {
            return Ok(false);
        }
        let path = link(&protocols).unwrap_or_default().to_owned();
        let answer = self.patch(&path, &json!({"SNMP": {"ProtocolEnabled": true}}), &protocols).await?;
        self.finish(answer, &format!("PATCH {path}")).await?;
        let now = self.get(&path).await?;
        if now.pointer("/SNMP/ProtocolEnabled").and_then(Value::as_bool) == Some(false) {
            return Err(BmcError::NoEffect {
                address: self.address(),
                what: "SNMP was to be switched on".into(),
                found: "off".into(),
                seconds: 0,
            });
        }
        Ok(true)
    }

    async fn syslog(&self, target: &str) -> Result<bool, BmcError> {
        let service = self.get("/redfish/v1/EventService").await?;
        let Some(path) = link(&service["Subscriptions"]).map(str::to_owned) else {
            return Err(self.unsupported("event subscriptions"));
        };
        let destination = format!("syslog://{target}");
        let there = self.collection(&path, 64).await?;
        if there.iter().any(|s| s.get("Destination").and_then(Value::as_str) == Some(destination.as_str())) {
            return Ok(false);
        }
        let body = json!({
            "Destination": destination, "Protocol": "SyslogUDP", "SubscriptionType": "Syslog", "Context": "steelyard",
        });
        match self.call(Method::POST, &path, Some(&body)).await {
            Ok(_) => Ok(true),
            Err(BmcError::Refused { status: 400 | 405 | 501, reason, .. }) => Err(self.unsupported(format!(
                "events by syslog over Redfish ({reason}); enter the syslog server at the BMC itself"
            ))),
            Err(e) => Err(e),
        }
    }

    async fn factory_reset(&self) -> Result<Vec<&'static str>, BmcError> {
        let mut done = Vec::new();
        match self.reset_bios().await {
            Ok(()) => done.push("settings of the firmware, at the next restart"),
            Err(BmcError::Unsupported { .. }) => {}
            Err(e) => return Err(e),
        }
        match self.reset_bmc_settings().await {
            Ok(()) => done.push("settings of the BMC"),
            Err(BmcError::Unsupported { .. }) => {}
            Err(e) => return Err(e),
        }
        if done.is_empty() {
            return Err(self.unsupported("a reset to the factory's settings that keeps its address and login"));
        }
        Ok(done)
    }
}
