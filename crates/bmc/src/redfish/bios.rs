//! Settings of the firmware: read in force, written to what is pending.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Redfish, link};
use crate::{BiosSettings, BmcError};

impl Redfish {
    async fn bios_resource(&self) -> Result<Value, BmcError> {
        let system = self.system().await?;
        let bios = self.linked(&system["Bios"]).await?;
        if bios.get("Attributes").is_some_and(Value::is_object) {
            Ok(bios)
        } else {
            Err(self.unsupported("settings of the firmware"))
        }
    }
}

#[async_trait]
impl BiosSettings for Redfish {
    async fn bios(&self) -> Result<BTreeMap<String, Value>, BmcError> {
        let bios = self.bios_resource().await?;
        let all = bios["Attributes"].as_object().into_iter().flatten();
        Ok(all.map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    async fn pending_bios(&self) -> Result<BTreeMap<String, Value>, BmcError> {
        let bios = self.bios_resource().await?;
        let Some(path) = bios.pointer("/@Redfish.Settings/SettingsObject").and_then(link) else {
            return Ok(BTreeMap::new());
        };
        let settings = self.get(path).await?;
        // Some list all settings there, some only what was changed.
        let all = settings.get("Attributes").and_then(Value::as_object).into_iter().flatten();
        let other = all.filter(|(k, v)| !v.is_null() && bios["Attributes"].get(*k) != Some(*v));
        Ok(other.map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    async fn set_bios(&self, wanted: &BTreeMap<String, Value>) -> Result<bool, BmcError> {
        let bios = self.bios_resource().await?;
        let now = &bios["Attributes"];
        let unknown: Vec<&str> = wanted.keys().filter(|k| now.get(*k).is_none()).map(String::as_str).collect();
        if !unknown.is_empty() {
            return Err(self.unsupported(format!("firmware settings {}: it has none of that name", unknown.join(", "))));
        }
        let change: BTreeMap<&String, &Value> = wanted.iter().filter(|(k, v)| now.get(*k) != Some(*v)).collect();
        if change.is_empty() {
            return Ok(false);
        }
        let pending = bios.pointer("/@Redfish.Settings/SettingsObject").and_then(link).map(str::to_owned);
        let own = link(&bios).unwrap_or_default().to_owned();
        let (path, known) = match pending {
            Some(path) => {
                let known = self.get(&path).await?;
                (path, known)
            }
            None => (own, bios.clone()),
        };
        let mut body = json!({"Attributes": change});
        if self.service().await?.quirks.bios_apply_time() {
            body["@Redfish.SettingsApplyTime"] = json!({"ApplyTime": "OnReset"});
        }
        // Where it makes a task of this, the task waits for the reset: it is not followed.
        self.patch(&path, &body, &known).await?;
        Ok(true)
    }
}
