//! A server as it was new: settings and keys of its firmware, its trusted platform module, settings of its BMC.

use std::collections::BTreeMap;

use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Redfish, link};
use crate::{BiosSettings, BmcError, Fresh};

/// Settings that clear the module at the next start, by the beginning of their name: attribute registries of Dell (`Tpm2Hierarchy`,
/// `TpmCommand` of version 1.2), HPE (`Tpm2Operation`, `TpmOperation`), Lenovo (`TrustedComputingGroup_DeviceOperation`), Supermicro and
/// others on AMI's Aptio (`PendingOperation`). The standard has no action for it.
const CLEAR_TPM: [(&str, &[&str]); 6] = [
    ("tpm2hierarchy", &["Clear"]),
    ("tpm2operation", &["Clear"]),
    ("trustedcomputinggroup_deviceoperation", &["Clear"]),
    ("pendingoperation", &["TPM Clear", "Clear"]),
    ("tpmcommand", &["Clear"]),
    ("tpmoperation", &["Clear"]),
];
/// Settings without which a person would be asked at the console.
const WITHOUT_ASKING: [(&str, &str); 2] =
    [("tpmppibypassclear", "Enabled"), ("tpm20physicalpresencebypass", "Enabled")];
/// Settings of interfaces on the board (Dell, HPE, Lenovo, Supermicro) and the word that switches them off. Cards in slots, and the
/// exchangeable ones for a server's network (rNDC, OCP, FlexLOM), are others.
const EMBEDDED_NICS: [(&str, &str); 4] = [
    ("embnic", "Disabled"),
    ("embeddednic", "Disabled"),
    ("devicesandioports_onboardlom", "Disable"),
    ("onboardlan", "Disabled"),
];

fn of_name<'a>(all: &'a BTreeMap<String, Value>, begin: &str) -> Option<&'a String> {
    all.keys().find(|k| k.to_lowercase().starts_with(begin))
}

impl Redfish {
    /// An action of a resource, with a body. `what` it is, for an error.
    async fn order_it(&self, target: Option<&str>, body: &Value, what: &str) -> Result<(), BmcError> {
        let target = target.ok_or_else(|| self.unsupported(what))?;
        match self.ask(&Method::POST, target, Some(body), None).await {
            // A task of this waits for the restart: it is not followed. Some go away before they answer.
            Ok(_) => Ok(()),
            Err(BmcError::Unreachable { cause, .. }) if cause.contains("broke") => Ok(()),
            Err(e) => Err(e),
        }
    }
}

#[async_trait]
impl Fresh for Redfish {
    async fn reset_bios(&self) -> Result<(), BmcError> {
        let system = self.system().await?;
        let bios = self.linked(&system["Bios"]).await?;
        let target = bios.pointer("/Actions/#Bios.ResetBios/target").and_then(Value::as_str);
        self.order_it(target, &json!({}), "settings of the firmware as from the factory").await
    }

    async fn reset_secure_boot_keys(&self) -> Result<(), BmcError> {
        let system = self.system().await?;
        let secure = self.linked(&system["SecureBoot"]).await?;
        let action = &secure["Actions"]["#SecureBoot.ResetKeys"];
        let body = json!({"ResetKeysType": "ResetAllKeysToDefault"});
        self.order_it(action.get("target").and_then(Value::as_str), &body, "keys of secure boot as from the factory")
            .await
    }

    async fn clear_tpm(&self) -> Result<String, BmcError> {
        let all = self.bios().await?;
        let found = CLEAR_TPM.iter().find_map(|(begin, words)| Some((of_name(&all, begin)?, *words)));
        let Some((name, words)) = found else {
            return Err(self.unsupported("clearing the trusted platform module: its firmware has no setting for it"));
        };
        let mut wanted = BTreeMap::new();
        for (begin, word) in WITHOUT_ASKING {
            if let Some(name) = of_name(&all, begin) {
                wanted.insert(name.clone(), json!(word));
            }
        }
        let mut last = None;
        for word in words {
            wanted.insert(name.clone(), json!(word));
            match self.set_bios(&wanted).await {
                Ok(_) => return Ok(name.clone()),
                // Not its word for it.
                Err(e @ BmcError::Refused { status: 400, .. }) => last = Some(e),
                Err(e) => return Err(e),
            }
        }
        Err(last.unwrap_or_else(|| self.unsupported("clearing the trusted platform module")))
    }

    async fn tpm_clear_waits(&self) -> Result<bool, BmcError> {
        let (now, pending) = (self.bios().await?, self.pending_bios().await?);
        let clears = |all: &BTreeMap<String, Value>| {
            CLEAR_TPM.iter().any(|(begin, words)| {
                of_name(all, begin).and_then(|n| all[n].as_str()).is_some_and(|v| words.contains(&v))
            })
        };
        Ok(clears(&now) || clears(&pending))
    }

    async fn disable_embedded_nics(&self) -> Result<Vec<String>, BmcError> {
        let all = self.bios().await?;
        let mut wanted = BTreeMap::new();
        for (begin, word) in EMBEDDED_NICS {
            for (name, value) in &all {
                let on = value.as_str().is_some_and(|v| ["Enabled", "Enable", "Auto"].contains(&v));
                if on && name.to_lowercase().starts_with(begin) {
                    wanted.insert(name.clone(), json!(word));
                }
            }
        }
        if !wanted.is_empty() {
            self.set_bios(&wanted).await?;
        }
        Ok(wanted.into_keys().collect())
    }

    async fn reset_bmc_settings(&self) -> Result<(), BmcError> {
        let system = self.system().await?;
        let manager = self.manager(&system).await?;
        let action = &manager["Actions"]["#Manager.ResetToDefaults"];
        // Everything else would lose the address or the login by which we reach it.
        let keeps = "PreserveNetworkAndUsers";
        let allowed = self.allowed(action, "ResetType").await?;
        let target = action.get("target").and_then(Value::as_str).filter(|_| allowed.iter().any(|a| a == keeps));
        let body = json!({"ResetType": keeps});
        self.order_it(target, &body, "settings of the BMC as from the factory, with its address and login kept")
            .await?;
        self.close().await;
        Ok(())
    }

    async fn started(&self) -> Result<Option<bool>, BmcError> {
        let system = self.system().await?;
        if let Some(state) = system.pointer("/BootProgress/LastState").and_then(Value::as_str) {
            return Ok(Some(matches!(state, "OSBootStarted" | "OSRunning" | "SetupEntered")));
        }
        let own = ["/Oem/Hpe/PostState", "/Oem/Hp/PostState"];
        let own = own.iter().find_map(|p| system.pointer(p).and_then(Value::as_str));
        Ok(own.map(|state| state == "FinishedPost"))
    }
}

impl Redfish {
    /// Whether the server has a trusted platform module, as far as the BMC says.
    pub async fn has_tpm(&self) -> Result<bool, BmcError> {
        let system = self.system().await?;
        let modules = system.get("TrustedModules").and_then(Value::as_array).into_iter().flatten();
        let inline = modules.filter(|m| m.pointer("/Status/State").and_then(Value::as_str) != Some("Absent")).count();
        // Newer trees have it in the chassis.
        Ok(inline > 0 || self.chassis(&system).await?.iter().any(|c| link(&c["TrustedComponents"]).is_some()))
    }
}
