//! Power, boot source, identify LED.

use std::time::Duration;

use async_trait::async_trait;
use model::bmc::{BootTarget, PowerAction, PowerState};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Redfish, link};
use crate::{BmcError, Boot, Identify, Power};

/// Longest wait for a boot override to show.
const OVERRIDE: Duration = Duration::from_secs(15);

pub(super) fn power_of(system: &Value) -> PowerState {
    match system.get("PowerState").and_then(Value::as_str) {
        Some("On" | "PoweringOn") => PowerState::On,
        Some("Off" | "PoweringOff") => PowerState::Off,
        _ => PowerState::Unknown,
    }
}

/// Texts of a list, whatever else is in it.
fn words(v: Option<&Value>) -> Vec<&str> {
    v.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

impl Redfish {
    /// Values that an action takes: from the action itself, or from the resource that describes it.
    pub(super) async fn allowed(&self, action: &Value, parameter: &str) -> Result<Vec<String>, BmcError> {
        let listed = words(action.get(format!("{parameter}@Redfish.AllowableValues")));
        if !listed.is_empty() {
            return Ok(listed.into_iter().map(str::to_owned).collect());
        }
        let Some(path) = action.get("@Redfish.ActionInfo").and_then(Value::as_str) else { return Ok(Vec::new()) };
        let info = self.get(path).await?;
        let parameters = info.get("Parameters").and_then(Value::as_array).into_iter().flatten();
        let found = parameters.filter(|p| p.get("Name").and_then(Value::as_str) == Some(parameter));
        Ok(found.flat_map(|p| words(p.get("AllowableValues"))).map(str::to_owned).collect())
    }
}

#[async_trait]
impl Power for Redfish {
    async fn power(&self) -> Result<PowerState, BmcError> {
        Ok(power_of(&self.system().await?))
    }

    async fn set_power(&self, action: PowerAction) -> Result<(), BmcError> {
        let system = self.system().await?;
        let now = power_of(&system);
        // In order of preference: not every BMC offers every reset type.
        let wanted: &[&str] = match (action, now) {
            (PowerAction::On, PowerState::On) | (PowerAction::ForceOff | PowerAction::GracefulOff, PowerState::Off) => {
                return Ok(());
            }
            (PowerAction::On, _) | (PowerAction::Cycle | PowerAction::Reset, PowerState::Off) => {
                &["On", "ForceOn", "PushPowerButton"]
            }
            (PowerAction::GracefulOff, _) => &["GracefulShutdown", "PushPowerButton"],
            (PowerAction::ForceOff, _) => &["ForceOff"],
            (PowerAction::Reset, _) => &["ForceRestart", "GracefulRestart", "PowerCycle"],
            (PowerAction::Cycle, _) => &["PowerCycle", "ForceRestart"],
            (PowerAction::Nmi, _) => &["Nmi"],
        };
        let reset = &system["Actions"]["#ComputerSystem.Reset"];
        let target = reset.get("target").and_then(Value::as_str).map_or_else(
            || format!("{}/Actions/ComputerSystem.Reset", link(&system).unwrap_or_default().trim_end_matches('/')),
            str::to_owned,
        );
        let allowed = self.allowed(reset, "ResetType").await?;
        let kind = wanted.iter().find(|w| allowed.is_empty() || allowed.iter().any(|a| a == *w)).ok_or_else(|| {
            self.unsupported(format!("none of the resets {} (it offers {})", wanted.join(", "), allowed.join(", ")))
        })?;
        let answer = self.ask(&Method::POST, &target, Some(&json!({"ResetType": kind})), None).await;
        match answer {
            Ok(answer) => self.finish(answer, &format!("POST {target}")).await.map(|_| ()),
            // It got there by itself between the look and the order.
            Err(e @ BmcError::Refused { .. }) => {
                let there = match action {
                    PowerAction::On => PowerState::On,
                    PowerAction::ForceOff | PowerAction::GracefulOff => PowerState::Off,
                    _ => return Err(e),
                };
                if self.power().await.is_ok_and(|now| now == there) { Ok(()) } else { Err(e) }
            }
            Err(e) => Err(e),
        }
    }

    fn address(&self) -> String {
        Redfish::address(self)
    }
}

#[async_trait]
impl Boot for Redfish {
    async fn boot_once(&self, target: BootTarget) -> Result<(), BmcError> {
        let quirks = self.service().await?.quirks;
        let system = self.system().await?;
        let allowed = words(system.pointer("/Boot/BootSourceOverrideTarget@Redfish.AllowableValues"));
        let (word, enabled) = match target {
            BootTarget::None => ("None", "Disabled"),
            BootTarget::Pxe => ("Pxe", "Once"),
            BootTarget::UefiHttp => ("UefiHttp", "Once"),
            BootTarget::Disk => ("Hdd", "Once"),
            BootTarget::Cd => (quirks.cd(&allowed), "Once"),
        };
        if !allowed.is_empty() && target != BootTarget::None && !allowed.contains(&word) {
            return Err(self.unsupported(format!("boot from {word} (it offers {})", allowed.join(", "))));
        }
        let mut boot = json!({"BootSourceOverrideTarget": word, "BootSourceOverrideEnabled": enabled});
        if let Some(mode) = quirks.boot_mode(&system).filter(|_| target != BootTarget::None) {
            boot["BootSourceOverrideMode"] = mode.into();
        }
        let place = quirks.boot_path(&system).map(str::to_owned);
        let (path, known) = match place {
            Some(path) => {
                let known = self.get(&path).await?;
                (path, known)
            }
            None => (self.service().await?.system.clone(), system.clone()),
        };
        let answer = self.patch(&path, &json!({"Boot": boot}), &known).await?;
        self.finish(answer, &format!("PATCH {path}")).await?;
        let end = Instant::now() + OVERRIDE;
        let mut pause = Duration::from_millis(100);
        loop {
            let now = self.get(&path).await?;
            let read =
                |field: &str| now.pointer(&format!("/Boot/{field}")).and_then(Value::as_str).unwrap_or("").to_owned();
            let found = (read("BootSourceOverrideTarget"), read("BootSourceOverrideEnabled"));
            // Some BMCs take "Once" and report "Continuous".
            let holds = if target == BootTarget::None {
                found.1 != "Once" && found.1 != "Continuous" || found.0 == "None"
            } else {
                found.0 == word && found.1 != "Disabled"
            };
            if holds {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(BmcError::NoEffect {
                    address: Redfish::address(self),
                    what: format!("the next boot was to be from {word}"),
                    found: format!("{} ({})", found.0, found.1),
                    seconds: OVERRIDE.as_secs(),
                });
            }
            tokio::time::sleep(pause).await;
            pause = Ord::min(pause * 2, Duration::from_secs(2));
        }
    }
}

#[async_trait]
impl Identify for Redfish {
    async fn identify(&self, on: bool) -> Result<(), BmcError> {
        let system = self.system().await?;
        let body = |v: &Value| {
            // The newer property first (it replaced IndicatorLED in 2019).
            if v.get("LocationIndicatorActive").is_some_and(|l| !l.is_null()) {
                Some(json!({"LocationIndicatorActive": on}))
            } else if v.get("IndicatorLED").is_some_and(|l| !l.is_null()) {
                Some(json!({"IndicatorLED": if on { "Blinking" } else { "Off" }}))
            } else {
                None
            }
        };
        if let Some(wanted) = body(&system) {
            let path = &self.service().await?.system;
            return self.patch(path, &wanted, &system).await.map(|_| ());
        }
        // Some have the LED at the chassis alone.
        for chassis in self.chassis(&system).await? {
            if let (Some(wanted), Some(path)) = (body(&chassis), link(&chassis)) {
                return self.patch(path, &wanted, &chassis).await.map(|_| ());
            }
        }
        Err(self.unsupported("no identify LED"))
    }
}
