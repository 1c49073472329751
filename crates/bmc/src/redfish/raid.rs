//! RAID controllers: what they have, and their volumes made and deleted. After DSP0268 (`Storage`, `Volume`, `Drive`).
//!
//! What vendors do: an iDRAC makes a job of each change, which the server's next start carries out unless the controller can do it at once,
//! and older ones want `VolumeType` (Dell, "iDRAC9 Redfish API Guide", Storage/Volumes); an iLO 5 has volumes of Smart Array controllers in a
//! resource of its own that is written as a whole, for the next start (HPE, "iLO RESTful API", SmartStorageConfig); XCC and Supermicro follow
//! the standard (Lenovo, "XCC REST API Guide"; Supermicro, "Redfish Reference Guide": both at once).

use std::collections::BTreeSet;

use async_trait::async_trait;
use model::raid::{NewVolume, RaidController, RaidDrive, RaidLevel, RaidVolume};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::{Answer, Redfish, link, text_list};
use crate::{
    BmcError, Raid, RaidChange,
    inventory::{number, text},
};

/// Longest wait for one change that is made at once.
const CHANGE: Duration = Duration::from_mins(10);

/// The last part of a path.
fn id_of(path: &str) -> String {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path).to_owned()
}

/// The word for a level, from the newer property or the older one.
fn level_of(volume: &Value) -> Option<String> {
    if let Some(level) = text(volume, "RAIDType") {
        return Some(level);
    }
    let level = match volume.get("VolumeType").and_then(Value::as_str)? {
        "NonRedundant" => "RAID0",
        "Mirrored" => "RAID1",
        "StripedWithParity" => "RAID5",
        "SpannedMirrors" => "RAID10",
        "SpannedStripesWithParity" => "RAID50",
        // A drive that is passed through.
        _ => return None,
    };
    Some(level.to_owned())
}

/// The older word.
fn older(level: RaidLevel) -> Option<&'static str> {
    match level {
        RaidLevel::Raid0 => Some("NonRedundant"),
        RaidLevel::Raid1 => Some("Mirrored"),
        RaidLevel::Raid5 => Some("StripedWithParity"),
        RaidLevel::Raid10 => Some("SpannedMirrors"),
        RaidLevel::Raid6 => None,
    }
}

fn drive_of(drive: &Value) -> Option<RaidDrive> {
    let bytes = number(drive, "/CapacityBytes");
    let path = link(drive)?;
    if bytes == 0 || drive.pointer("/Status/State").and_then(Value::as_str) == Some("Absent") {
        return None;
    }
    let word = |f: &str| drive.get(f).and_then(Value::as_str).unwrap_or_default();
    let media = match (word("Protocol"), word("MediaType")) {
        ("NVMe", _) => "nvme",
        (_, "HDD") => "hdd",
        _ => "ssd",
    };
    Some(RaidDrive {
        id: id_of(path),
        serial: text(drive, "SerialNumber"),
        model: text(drive, "Model"),
        bytes,
        media: media.to_owned(),
        healthy: !matches!(drive.pointer("/Status/Health").and_then(Value::as_str), Some("Critical")),
        spare: !matches!(word("HotspareType"), "" | "None"),
    })
}

fn volume_of(volume: &Value) -> Option<RaidVolume> {
    let links = volume.pointer("/Links/Drives").and_then(Value::as_array).into_iter().flatten();
    Some(RaidVolume {
        id: id_of(link(volume)?),
        name: text(volume, "Name").or_else(|| text(volume, "DisplayName")).unwrap_or_default(),
        level: level_of(volume)?,
        bytes: number(volume, "/CapacityBytes"),
        drives: links.filter_map(link).map(id_of).collect(),
    })
}

/// Levels that a controller says it makes: in the list of the older form, in its own resource, or as what a new volume may be.
fn levels(storage: &Value, controllers: &[Value]) -> Vec<RaidLevel> {
    let inline = storage.get("StorageControllers").and_then(Value::as_array).into_iter().flatten();
    let said: BTreeSet<&str> = inline.chain(controllers).flat_map(|c| text_list(c.get("SupportedRAIDTypes"))).collect();
    RaidLevel::ALL.iter().copied().filter(|l| said.contains(l.as_str())).collect()
}

impl Redfish {
    /// The path of a controller's volumes.
    async fn volumes_of(&self, controller: &str) -> Result<(Value, String), BmcError> {
        let system = self.system().await?;
        for storage in self.members(&system["Storage"]).await? {
            if link(&storage).map(id_of).as_deref() == Some(controller) {
                let path = link(&storage["Volumes"]).map(str::to_owned);
                return path.map(|p| (storage, p)).ok_or_else(|| {
                    self.unsupported(format!("volumes of controller {controller}: it makes none over Redfish"))
                });
            }
        }
        Err(self.unsupported(format!("controller {controller}: it has none of that name")))
    }

    /// Whether a change has to wait for the next start of the server: the collection says what it can.
    async fn waits(&self, volumes: &str) -> Result<bool, BmcError> {
        let list = self.get(volumes).await?;
        let can = text_list(list.pointer("/@Redfish.OperationApplyTimeSupport/SupportedValues"));
        Ok(can.contains(&"OnReset") && !can.contains(&"Immediate"))
    }

    /// Follows a change to its end, or until it waits for the server's next start.
    async fn change_ends(&self, answer: Answer, request: &str) -> Result<RaidChange, BmcError> {
        if answer.status != StatusCode::ACCEPTED {
            return Ok(RaidChange::Done);
        }
        let Some(path) = answer.location.clone().or_else(|| link(&answer.value).map(str::to_owned)) else {
            return Ok(RaidChange::Done);
        };
        let quirks = self.service().await?.quirks;
        let end = Instant::now() + CHANGE;
        let mut pause = Duration::from_millis(200);
        loop {
            let task = match self.ask(&Method::GET, &path, None, None).await {
                Ok(task) => task,
                Err(BmcError::Unsupported { .. }) => return Ok(RaidChange::Done),
                Err(e) => return Err(e),
            };
            let state = task.value.get("TaskState").and_then(Value::as_str).unwrap_or_default();
            match state {
                "Completed" => return Ok(RaidChange::Done),
                "Exception" | "Killed" | "Cancelled" | "Interrupted" => {
                    let said = task.value.pointer("/Messages/0/Message").and_then(Value::as_str);
                    return Err(BmcError::Refused {
                        address: self.address(),
                        request: request.to_owned(),
                        status: 202,
                        reason: format!("its task ended as {state}: {}", said.unwrap_or("no reason given")),
                    });
                }
                _ if quirks.waits_for_restart(&task.value) || state == "Pending" => return Ok(RaidChange::AtRestart),
                "" if task.status != StatusCode::ACCEPTED => return Ok(RaidChange::Done),
                _ => {}
            }
            if Instant::now() >= end {
                return Err(BmcError::NoEffect {
                    address: self.address(),
                    what: format!("{request} was to end"),
                    found: state.to_lowercase(),
                    seconds: CHANGE.as_secs(),
                });
            }
            tokio::time::sleep(pause).await;
            pause = Ord::min(pause * 2, Duration::from_secs(5));
        }
    }

    /// Volumes of controllers that stand in a vendor's own resource, with the path where they are written.
    async fn own_raid(&self) -> Result<Vec<(RaidController, String)>, BmcError> {
        let system = self.system().await?;
        let mut all = Vec::new();
        for path in self.service().await?.quirks.own_raid(&system) {
            let config = self.get(&path).await?;
            if !config.is_object() {
                continue;
            }
            let settings = config.pointer("/@Redfish.Settings/SettingsObject").and_then(link).map(str::to_owned);
            let settings = settings.unwrap_or_else(|| format!("{}/settings/", path.trim_end_matches('/')));
            all.push((own_controller(&path, &config), settings));
        }
        Ok(all)
    }
}

/// HPE's `SmartStorageConfig`.
fn own_controller(path: &str, config: &Value) -> RaidController {
    let list = |name: &str| config.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let (physical, logical) = (list("PhysicalDrives"), list("LogicalDrives"));
    let drives = physical.iter().filter_map(|d| {
        let bytes = number(d, "/CapacityGB").saturating_mul(1_000_000_000);
        let word = |f: &str| d.get(f).and_then(Value::as_str).unwrap_or_default();
        let media = match (word("InterfaceType"), word("MediaType")) {
            ("NVMe", _) => "nvme",
            (_, "HDD") => "hdd",
            _ => "ssd",
        };
        Some(RaidDrive {
            id: text(d, "Location")?,
            serial: text(d, "SerialNumber"),
            model: text(d, "Model"),
            bytes,
            media: media.to_owned(),
            healthy: true,
            spare: false,
        })
    });
    let volumes = logical.iter().filter_map(|v| {
        Some(RaidVolume {
            id: text(v, "VolumeUniqueIdentifier")?,
            name: text(v, "LogicalDriveName").unwrap_or_default(),
            level: text(v, "Raid").unwrap_or_default().to_uppercase(),
            bytes: number(v, "/CapacityGiB").saturating_mul(1 << 30),
            drives: text_list(v.get("DataDrives")).into_iter().map(str::to_owned).collect(),
        })
    });
    RaidController {
        id: id_of(path),
        name: text(config, "Location").unwrap_or_else(|| "Smart Array".into()),
        levels: RaidLevel::ALL.to_vec(),
        drives: drives.collect(),
        volumes: volumes.collect(),
    }
}

/// The body that makes such a controller's volumes what is wanted: what is not named is deleted.
fn own_body(now: &RaidController, delete: &[String], create: &[NewVolume]) -> Value {
    let kept = now.volumes.iter().filter(|v| !delete.contains(&v.id));
    let kept = kept.map(|v| json!({"VolumeUniqueIdentifier": v.id}));
    let new = create.iter().map(|v| {
        // The word is `Raid10`; all of the space is -1.
        let level = format!("Raid{}", v.level.as_str().trim_start_matches("RAID"));
        let size = v.bytes.map_or(-1, |b| i64::try_from(b >> 30).unwrap_or(-1));
        json!({"LogicalDriveName": v.name, "Raid": level, "DataDrives": v.drives, "CapacityGiB": size})
    });
    // `Strict` refuses whatever loses data.
    json!({"DataGuard": "Disabled", "LogicalDrives": kept.chain(new).collect::<Vec<_>>()})
}

#[async_trait]
impl Raid for Redfish {
    async fn raid(&self) -> Result<Vec<RaidController>, BmcError> {
        let system = self.system().await?;
        let mut all = Vec::new();
        for storage in self.members(&system["Storage"]).await? {
            let Some(id) = link(&storage).map(id_of) else { continue };
            let controllers = self.members(&storage["Controllers"]).await?;
            let mut drives = Vec::new();
            for drive in storage.get("Drives").and_then(Value::as_array).into_iter().flatten() {
                drives.extend(drive_of(&self.peek(drive).await?));
            }
            let volumes: Vec<RaidVolume> =
                self.members(&storage["Volumes"]).await?.iter().filter_map(volume_of).collect();
            let first = storage.pointer("/StorageControllers/0").or_else(|| controllers.first());
            let name = first.and_then(|c| text(c, "Model").or_else(|| text(c, "Name")));
            all.push(RaidController {
                levels: levels(&storage, &controllers),
                name: name.or_else(|| text(&storage, "Name")).unwrap_or_else(|| id.clone()),
                id,
                drives,
                volumes,
            });
        }
        all.extend(self.own_raid().await?.into_iter().map(|(c, _)| c));
        Ok(all)
    }

    async fn change_raid(
        &self,
        controller: &str,
        delete: &[String],
        create: &[NewVolume],
    ) -> Result<RaidChange, BmcError> {
        let own = self.own_raid().await?;
        if let Some((now, settings)) = own.iter().find(|(c, _)| c.id == controller) {
            let body = own_body(now, delete, create);
            self.ask(&Method::PUT, settings, Some(&body), None).await?;
            return Ok(RaidChange::AtRestart);
        }
        let (storage, volumes) = self.volumes_of(controller).await?;
        let waits = self.waits(&volumes).await?;
        let apply = waits.then(|| json!({"@Redfish.OperationApplyTime": "OnReset"}));
        let mut outcome = RaidChange::Done;
        for id in delete {
            let path = format!("{}/{id}", volumes.trim_end_matches('/'));
            let answer = match self.ask(&Method::DELETE, &path, apply.as_ref(), None).await {
                Ok(answer) => answer,
                // Somebody was quicker, or a try of ours that was cut off.
                Err(BmcError::Unsupported { .. }) if self.get(&path).await?.is_null() => continue,
                Err(e) => return Err(e),
            };
            let ended = self.change_ends(answer, &format!("DELETE {path}")).await?;
            outcome = if waits { RaidChange::AtRestart } else { outcome.worse(ended) };
        }
        let paths = storage.get("Drives").and_then(Value::as_array).into_iter().flatten().filter_map(link);
        let paths: Vec<&str> = paths.collect();
        for volume in create {
            let drives: Vec<Value> = volume
                .drives
                .iter()
                .map(|d| {
                    let path = paths.iter().find(|p| id_of(p) == *d);
                    path.map(|p| json!({"@odata.id": p})).ok_or_else(|| {
                        self.unsupported(format!(
                            "a volume with drive {d}: controller {controller} has none of that name"
                        ))
                    })
                })
                .collect::<Result<_, _>>()?;
            let with = |mut body: Value| {
                if let Some(bytes) = volume.bytes {
                    body["CapacityBytes"] = bytes.into();
                }
                if waits {
                    body["@Redfish.OperationApplyTime"] = "OnReset".into();
                }
                body
            };
            let body =
                with(json!({"Name": volume.name, "RAIDType": volume.level.as_str(), "Links": {"Drives": drives}}));
            let answer = match self.ask(&Method::POST, &volumes, Some(&body), None).await {
                // Firmware from before 2021 knows the older words alone.
                Err(e @ BmcError::Refused { status: 400, .. }) => {
                    let Some(kind) = older(volume.level)
                        .filter(|_| e.to_string().contains("RAIDType") || e.to_string().contains("Links"))
                    else {
                        return Err(e);
                    };
                    let body = with(json!({"Name": volume.name, "VolumeType": kind, "Drives": drives}));
                    self.ask(&Method::POST, &volumes, Some(&body), None).await?
                }
                other => other?,
            };
            let ended = self.change_ends(answer, &format!("POST {volumes}")).await?;
            outcome = if waits { RaidChange::AtRestart } else { outcome.worse(ended) };
        }
        Ok(outcome)
    }

    async fn initialize_volume(&self, controller: &str, volume: &str) -> Result<RaidChange, BmcError> {
        let (_, volumes) = self.volumes_of(controller).await?;
        let found = self.get(&format!("{}/{volume}", volumes.trim_end_matches('/'))).await?;
        let action = &found["Actions"]["#Volume.Initialize"];
        let target = action.get("target").and_then(Value::as_str);
        let target = target.ok_or_else(|| self.unsupported(format!("the initialization of volume {volume}")))?;
        let mut body = json!({"InitializeType": "Fast"});
        if self.waits(&volumes).await? {
            body["@Redfish.OperationApplyTime"] = "OnReset".into();
        }
        let answer = self.ask(&Method::POST, target, Some(&body), None).await?;
        self.change_ends(answer, &format!("POST {target}")).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_in_the_older_and_the_newer_form() {
        let older = json!({"StorageControllers": [{"SupportedRAIDTypes": ["RAID0", "RAID1", "RAID50"]}]});
        assert_eq!(levels(&older, &[]), [RaidLevel::Raid0, RaidLevel::Raid1]);
        assert_eq!(levels(&json!({}), &[json!({"SupportedRAIDTypes": ["RAID10", 5]})]), [RaidLevel::Raid10]);
        assert!(levels(&json!({"StorageControllers": 3}), &[Value::Null]).is_empty());
        assert_eq!(level_of(&json!({"VolumeType": "Mirrored"})).as_deref(), Some("RAID1"));
        assert_eq!(level_of(&json!({"VolumeType": "RawDevice"})), None, "a drive that is passed through is no volume");
        assert!(volume_of(&json!({"RAIDType": "RAID1"})).is_none());
    }

    #[test]
    fn smart_array_is_written_as_a_whole() {
        let config = json!({
            "Location": "Slot 0",
            "PhysicalDrives": [{"Location": "1I:1:1", "SerialNumber": "S1", "CapacityGB": 960, "InterfaceType": "SATA", "MediaType": "SSD"}, {}],
            "LogicalDrives": [
                {"VolumeUniqueIdentifier": "AA", "LogicalDriveName": "boot", "Raid": "Raid1", "DataDrives": ["1I:1:1"], "CapacityGiB": 100},
                {"VolumeUniqueIdentifier": "BB", "Raid": "Raid0"},
            ],
        });
        let found = own_controller("/redfish/v1/systems/1/smartstorageconfig/", &config);
        assert_eq!((found.id.as_str(), found.drives.len(), found.volumes.len()), ("smartstorageconfig", 1, 2));
        assert_eq!(found.volumes[0].level, "RAID1");
        let new = NewVolume {
            level: RaidLevel::Raid10,
            name: "v".into(),
            drives: vec!["1I:1:1".into()],
            ..NewVolume::default()
        };
        assert_eq!(
            own_body(&found, &["AA".into()], &[new]),
            json!({"DataGuard": "Disabled", "LogicalDrives": [
                {"VolumeUniqueIdentifier": "BB"},
                {"LogicalDriveName": "v", "Raid": "Raid10", "DataDrives": ["1I:1:1"], "CapacityGiB": -1},
            ]})
        );
    }
}
