//! Volumes, hosts, mappings and snapshots.

use std::collections::BTreeMap;

use async_trait::async_trait;
use model::storage::{AccessState, HostAccess, SnapshotOf, SnapshotState, Volume, VolumeState};
use reqwest::Method;
use serde_json::{Value, json};

use super::{NAMES, PowerStore};
use crate::{
    Block, Host, Snapshots, StorageError,
    http::{list, number, text},
    plan::{NameRule, growth, object_name, round_up},
};

/// Sizes are multiples of this, and no volume is smaller.
const UNIT: u64 = 1 << 20;
/// Names of snapshots: that of the volume goes before.
const SNAPSHOTS: NameRule = NameRule { longest: 120, others: "-.", lower: true };
const VOLUME: &str = "id,name,size,logical_used,wwn,type,appliance_id";

fn id(value: &Value) -> String {
    text(value, "/id").unwrap_or_default()
}

fn state(key: &str, volume: &Value) -> VolumeState {
    VolumeState {
        key: key.to_owned(),
        array_name: text(volume, "/name").unwrap_or_default(),
        size_bytes: number(volume, "/size").unwrap_or(0),
        used_bytes: number(volume, "/logical_used"),
        wwn: text(volume, "/wwn").map(|w| w.trim_start_matches("naa.").to_owned()),
        pool: text(volume, "/appliance_id"),
    }
}

impl PowerStore {
    async fn volume(&self, name: &str) -> Result<Option<Value>, StorageError> {
        self.named("look for a volume", "volume", name, VOLUME).await
    }

    fn no_volume(&self, key: &str) -> StorageError {
        self.rest.missing(format!("the volume {key}"), "it has to be made first; deploy the drive again")
    }

    async fn mappings(&self, volume: &str) -> Result<Vec<Value>, StorageError> {
        let query =
            [("select", "id,host_id,host_group_id,logical_unit_number"), ("volume_id", &format!("eq.{volume}"))];
        self.find("list mappings", "host_volume_mapping", &query).await
    }

    /// The host object of an initiator; its id.
    async fn host_ensure(&self, host: &Host) -> Result<String, StorageError> {
        let name = self.name(&host.iqn);
        let what = format!("make the host {}", host.iqn);
        let initiator = |chap: &Option<(String, model::secret::Clear)>| {
            let mut one = json!({"port_name": host.iqn});
            if let Some((user, secret)) = chap {
                one["chap_single_username"] = json!(user);
                one["chap_single_password"] = json!(secret.0);
            }
            one
        };
        let Some(found) = self.named(&what, "host", &name, "id,name,host_initiators").await? else {
            let mut one = initiator(&host.chap);
            one["port_type"] = json!("iSCSI");
            let body = json!({"name": name, "os_type": "Linux", "description": host.name, "initiators": [one]});
            let made = self.call(&what, Method::POST, "host", &[], Some(body)).await?;
            return text(&made, "/id").ok_or_else(|| self.rest.odd(&what, &made));
        };
        let id = id(&found);
        let path = format!("host/{id}");
        let has: Vec<String> = list(&found, "/host_initiators").iter().filter_map(|i| text(i, "/port_name")).collect();
        let others: Vec<&String> = has.iter().filter(|i| **i != host.iqn).collect();
        if !has.contains(&host.iqn) {
            let mut one = initiator(&host.chap);
            one["port_type"] = json!("iSCSI");
            self.call(&what, Method::PATCH, &path, &[], Some(json!({"add_initiators": [one]}))).await?;
        } else if host.chap.is_some() {
            // The secret cannot be read back, so it is set each time.
            let body = json!({"modify_initiators": [initiator(&host.chap)]});
            self.call(&what, Method::PATCH, &path, &[], Some(body)).await?;
        }
        if !others.is_empty() {
            self.call(&what, Method::PATCH, &path, &[], Some(json!({"remove_initiators": others}))).await?;
        }
        Ok(id)
    }

    /// Removes a host of ours that has no volume any more.
    async fn host_tidy(&self, host: &str) -> Result<(), StorageError> {
        let query = [("select", "id"), ("host_id", &format!("eq.{host}"))];
        if !self.find("list mappings", "host_volume_mapping", &query).await?.is_empty() {
            return Ok(());
        }
        let query = [("select", "id,name"), ("id", &format!("eq.{host}"))];
        let found = self.find("look for a host", "host", &query).await?;
        let ours = format!("{}-", self.rest.access.prefix());
        if found.iter().any(|h| text(h, "/name").is_some_and(|n| n.starts_with(&ours))) {
            self.call("remove a host without volumes", Method::DELETE, &format!("host/{host}"), &[], None).await?;
        }
        Ok(())
    }

    fn snapshot_name(&self, key: &str, snapshot: &str) -> String {
        object_name(&format!("{}.s", self.name(key)), snapshot, SNAPSHOTS)
    }

    async fn snapshot(&self, key: &str, snapshot: &str) -> Result<Option<Value>, StorageError> {
        let select = "id,name,size,creation_timestamp";
        self.named("look for a snapshot", "volume", &self.snapshot_name(key, snapshot), select).await
    }

    fn only_volumes(&self, of: SnapshotOf) -> Result<(), StorageError> {
        if of == SnapshotOf::Volume {
            return Ok(());
        }
        Err(StorageError::Unsupported {
            storage: self.rest.access.name.clone(),
            driver: "power_store".into(),
            what: "snapshots of shares".into(),
        })
    }
}

#[async_trait]
impl Block for PowerStore {
    async fn volume_ensure(&self, volume: &Volume) -> Result<VolumeState, StorageError> {
        if volume.qos.is_some_and(|q| q.max_iops > 0 || q.max_mbps > 0) {
            return Err(StorageError::Unsupported {
                storage: self.rest.access.name.clone(),
                driver: "power_store".into(),
                what: "limits of speed".into(),
            });
        }
        let name = self.name(&volume.key);
        let what = format!("make the volume {name}");
        match self.volume(&name).await? {
            None => {
                let size = round_up(Ord::max(volume.size_bytes, 1), UNIT);
                let mut body = json!({"name": name, "size": size, "description": volume.name});
                if let Some(pool) = &volume.pool {
                    body["appliance_id"] = json!(pool);
                }
                self.call(&what, Method::POST, "volume", &[], Some(body)).await?;
            }
            Some(found) => {
                let has = number(&found, "/size").unwrap_or(0);
                if let Some(size) = growth(&volume.key, has, volume.size_bytes, UNIT)? {
                    let path = format!("volume/{}", id(&found));
                    self.call(&format!("grow {name}"), Method::PATCH, &path, &[], Some(json!({"size": size}))).await?;
                }
            }
        }
        let found = self.volume(&name).await?.ok_or_else(|| self.rest.failed(&what, "it is not there afterwards"))?;
        Ok(state(&volume.key, &found))
    }

    async fn volume_delete(&self, key: &str) -> Result<(), StorageError> {
        let name = self.name(key);
        let what = format!("remove the volume {name}");
        let Some(found) = self.volume(&name).await? else { return Ok(()) };
        let mapped = self.mappings(&id(&found)).await?;
        if !mapped.is_empty() {
            let by: Vec<String> =
                mapped.iter().filter_map(|m| text(m, "/host_id").or_else(|| text(m, "/host_group_id"))).collect();
            return Err(StorageError::InUse { what: format!("the volume {key}"), by: by.join(", ") });
        }
        let query =
            [("select", "id"), ("type", "eq.Snapshot"), ("protection_data->>source_id", &format!("eq.{}", id(&found)))];
        for snapshot in self.find("list snapshots", "volume", &query).await? {
            self.call(&what, Method::DELETE, &format!("volume/{}", id(&snapshot)), &[], None).await?;
        }
        self.call(&what, Method::DELETE, &format!("volume/{}", id(&found)), &[], None).await.map(drop)
    }

    async fn access_ensure(&self, key: &str, hosts: &[Host]) -> Result<AccessState, StorageError> {
        let _turn = self.turn.lock().await;
        let name = self.name(key);
        let Some(volume) = self.volume(&name).await? else {
            return if hosts.is_empty() {
                Ok(AccessState { key: key.to_owned(), protocol: "iscsi".into(), ..AccessState::default() })
            } else {
                Err(self.no_volume(key))
            };
        };
        let volume = id(&volume);
        let what = format!("let {} hosts use {name}", hosts.len());
        let names: BTreeMap<String, &Host> = hosts.iter().map(|h| (self.name(&h.iqn), h)).collect();
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        for host in self.find("list hosts", "host", &[("select", "id,name")]).await? {
            known.insert(id(&host), text(&host, "/name").unwrap_or_default());
        }
        let before = self.mappings(&volume).await?;
        for mapping in &before {
            if text(mapping, "/host_group_id").is_some() {
                return Err(self.rest.rejected(
                    &what,
                    reqwest::StatusCode::CONFLICT,
                    "it is mapped to a host group, which is not ours; unmap it",
                ));
            }
            let host = text(mapping, "/host_id").ok_or_else(|| self.rest.odd(&what, mapping))?;
            if known.get(&host).is_some_and(|n| names.contains_key(n)) {
                continue;
            }
            let path = format!("volume/{volume}/detach");
            self.call(&what, Method::POST, &path, &[], Some(json!({"host_id": host}))).await?;
            self.host_tidy(&host).await?;
        }
        let mut wants: BTreeMap<String, &Host> = BTreeMap::new();
        for host in names.into_values() {
            let host_id = self.host_ensure(host).await?;
            if !before.iter().any(|m| text(m, "/host_id").as_ref() == Some(&host_id)) {
                let path = format!("volume/{volume}/attach");
                self.call(&what, Method::POST, &path, &[], Some(json!({"host_id": host_id}))).await?;
            }
            wants.insert(host_id, host);
        }
        let mut answers = Vec::new();
        for mapping in self.mappings(&volume).await? {
            let host = text(&mapping, "/host_id").and_then(|h| wants.get(&h).copied());
            let host = host.ok_or_else(|| self.rest.failed(&what, "another host may still use it"))?;
            let lun = number(&mapping, "/logical_unit_number").and_then(|n| u32::try_from(n).ok());
            answers.push(HostAccess { iqn: host.iqn.clone(), lun, target: None });
        }
        if answers.len() != wants.len() {
            return Err(self.rest.failed(&what, "not all of them may use it afterwards"));
        }
        answers.sort_by(|a, b| a.iqn.cmp(&b.iqn));
        let (target, portals) = self.targets().await?;
        Ok(AccessState { key: key.to_owned(), protocol: "iscsi".into(), target, portals, hosts: answers })
    }
}

#[async_trait]
impl Snapshots for PowerStore {
    async fn snapshot_create(&self, of: SnapshotOf, key: &str, snapshot: &str) -> Result<SnapshotState, StorageError> {
        self.only_volumes(of)?;
        if self.snapshot(key, snapshot).await?.is_none() {
            let volume = self.volume(&self.name(key)).await?.ok_or_else(|| self.no_volume(key))?;
            let body = json!({"name": self.snapshot_name(key, snapshot), "description": snapshot});
            let path = format!("volume/{}/snapshot", id(&volume));
            self.call(&format!("take a snapshot of {key}"), Method::POST, &path, &[], Some(body)).await?;
        }
        let made = self.snapshot(key, snapshot).await?;
        let created_at = made.and_then(|s| text(&s, "/creation_timestamp"));
        Ok(SnapshotState { key: key.to_owned(), snapshot: snapshot.to_owned(), created_at })
    }

    async fn snapshot_delete(&self, of: SnapshotOf, key: &str, snapshot: &str) -> Result<(), StorageError> {
        self.only_volumes(of)?;
        let Some(found) = self.snapshot(key, snapshot).await? else { return Ok(()) };
        let path = format!("volume/{}", id(&found));
        self.call(&format!("remove a snapshot of {key}"), Method::DELETE, &path, &[], None).await.map(drop)
    }

    async fn snapshot_restore(&self, of: SnapshotOf, key: &str, snapshot: &str) -> Result<(), StorageError> {
        self.only_volumes(of)?;
        let what = format!("restore {key}");
        let volume = self.volume(&self.name(key)).await?.ok_or_else(|| self.no_volume(key))?;
        let found = self.snapshot(key, snapshot).await?;
        let found = found.ok_or_else(|| {
            self.rest.missing(format!("the snapshot {snapshot} of {key}"), "choose one that is there")
        })?;
        let path = format!("volume/{}", id(&volume));
        let body = json!({"from_snap_id": id(&found), "create_backup_snap": false});
        self.call(&what, Method::POST, &format!("{path}/restore"), &[], Some(body)).await?;
        // It comes back with the size that it had; it keeps the size that it has now.
        let (before, now) =
            (number(&volume, "/size"), self.volume(&self.name(key)).await?.and_then(|v| number(&v, "/size")));
        if now < before {
            self.call(&what, Method::PATCH, &path, &[], Some(json!({"size": before}))).await?;
        }
        Ok(())
    }

    async fn clone_volume(
        &self,
        key: &str,
        snapshot: Option<&str>,
        volume: &Volume,
    ) -> Result<VolumeState, StorageError> {
        let new = object_name(self.rest.access.prefix(), &volume.key, NAMES);
        if self.volume(&new).await?.is_none() {
            let source = match snapshot {
                Some(snapshot) => self.snapshot(key, snapshot).await?.ok_or_else(|| {
                    self.rest.missing(format!("the snapshot {snapshot} of {key}"), "choose one that is there")
                })?,
                None => self.volume(&self.name(key)).await?.ok_or_else(|| self.no_volume(key))?,
            };
            growth(&volume.key, number(&source, "/size").unwrap_or(0), volume.size_bytes, UNIT)?;
            let body = json!({"name": new, "description": volume.name});
            let path = format!("volume/{}/clone", id(&source));
            self.call(&format!("copy {key} to {new}"), Method::POST, &path, &[], Some(body)).await?;
        }
        self.volume_ensure(volume).await
    }
}
