//! `PowerRestorePolicy` of a ComputerSystem (DMTF DSP0268, ComputerSystem v1.6 and later).

use async_trait::async_trait;
use model::firmware::AfterPowerLoss;
use serde_json::{Value, json};

use super::Redfish;
use crate::{BmcError, PowerLoss};

fn read(system: &Value) -> Option<AfterPowerLoss> {
    match system.get("PowerRestorePolicy").and_then(Value::as_str) {
        Some("AlwaysOn") => Some(AfterPowerLoss::Start),
        Some("AlwaysOff") => Some(AfterPowerLoss::StayOff),
        Some("LastState") => Some(AfterPowerLoss::LastState),
        _ => None,
    }
}

#[async_trait]
impl PowerLoss for Redfish {
    async fn after_power_loss(&self) -> Result<Option<AfterPowerLoss>, BmcError> {
        Ok(read(&self.system().await?))
    }

    async fn set_after_power_loss(&self, wanted: AfterPowerLoss) -> Result<(), BmcError> {
        let system = self.system().await?;
        match read(&system) {
            Some(now) if now == wanted => return Ok(()),
            Some(_) => {}
            None => return Err(self.unsupported("PowerRestorePolicy: set it in the settings of the firmware")),
        }
        let word = match wanted {
            AfterPowerLoss::Start => "AlwaysOn",
            AfterPowerLoss::StayOff => "AlwaysOff",
            AfterPowerLoss::LastState => "LastState",
        };
        let path = self.service().await?.system.clone();
        let answer = self.patch(&path, &json!({"PowerRestorePolicy": word}), &system).await?;
        self.finish(answer, &format!("PATCH {path}")).await?;
        let now = self.get(&path).await?;
        if read(&now) == Some(wanted) {
            return Ok(());
        }
        Err(BmcError::NoEffect {
            address: Redfish::address(self),
            what: format!("after a loss of power it was to be {word}"),
            found: now.get("PowerRestorePolicy").and_then(Value::as_str).unwrap_or("nothing").to_owned(),
            seconds: 0,
        })
    }
}
