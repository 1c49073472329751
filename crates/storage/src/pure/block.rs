//! Volumes, hosts, connections and snapshots.

use std::collections::BTreeMap;

use async_trait::async_trait;
use model::storage::{AccessState, HostAccess, SnapshotOf, SnapshotState, Volume, VolumeState};
use reqwest::Method;
use serde_json::{Value, json};

use super::{NAMES, Pure};
use crate::{
    Block, Host, Snapshots, StorageError,
    http::{list, number, text},
    plan::{growth, object_name, round_up},
};

const UNIT: u64 = 1 << 20;
/// What the first part of each NAA identifier of a volume is.
const NAA: &str = "624a9370";

fn state(key: &str, volume: &Value, pool: Option<&str>) -> VolumeState {
    VolumeState {
        key: key.to_owned(),
        array_name: text(volume, "/name").unwrap_or_default(),
        size_bytes: number(volume, "/provisioned").unwrap_or(0),
        used_bytes: number(volume, "/space/total_physical"),
        wwn: text(volume, "/serial").map(|s| format!("{NAA}{}", s.to_lowercase())),
        pool: pool.map(str::to_owned),
    }
}

impl Pure {
    /// A volume that is not on its way out.
    async fn volume(&self, name: &str) -> Result<Option<Value>, StorageError> {
        let found = self.named("look for a volume", "volumes", name).await?;
        Ok(found.filter(|v| v.get("destroyed") != Some(&json!(true))))
    }

    fn no_volume(&self, key: &str) -> StorageError {
        self.rest.missing(format!("the volume {key}"), "it has to be made first; deploy the drive again")
    }

    async fn connections(&self, volume: &str) -> Result<Vec<Value>, StorageError> {
        self.items("list connections", "connections", &[("volume_names", volume)]).await
    }

    async fn host_ensure(&self, host: &Host) -> Result<String, StorageError> {
        let name = self.name(&host.iqn);
        let what = format!("make the host {}", host.iqn);
        let (field, wanted) = if self.nvme() {
            let nqn = host.nqn.clone();
            ("nqns", nqn.ok_or_else(|| self.rest.setting(format!("the host {} has no NVMe name", host.iqn)))?)
        } else {
            ("iqns", host.iqn.clone())
        };
        let query = [("names", name.as_str())];
        let found = self.named(&what, "hosts", &name).await?;
        let has = found.as_ref().map(|h| list(h, &format!("/{field}")).to_vec());
        match has {
            None => {
                self.call(&what, Method::POST, "hosts", &query, Some(json!({field: [wanted]}))).await?;
            }
            Some(has) if has != [json!(wanted)] => {
                self.call(&what, Method::PATCH, "hosts", &query, Some(json!({field: [wanted]}))).await?;
            }
            Some(_) => {}
        }
        if let Some((user, secret)) = &host.chap {
            // The secret cannot be read back, so it is set each time.
            let body = json!({"chap": {"host_user": user, "host_password": secret.0}});
            self.call(&format!("set the CHAP login of {}", host.iqn), Method::PATCH, "hosts", &query, Some(body))
                .await?;
        }
        Ok(name)
    }

    /// Removes a host of ours that has no volume any more.
    async fn host_tidy(&self, name: &str) -> Result<(), StorageError> {
        let ours = name.starts_with(&format!("{}-", self.rest.access.prefix()));
        if !ours || !self.items("list connections", "connections", &[("host_names", name)]).await?.is_empty() {
            return Ok(());
        }
        self.call("remove a host without volumes", Method::DELETE, "hosts", &[("names", name)], None).await.map(drop)
    }

    fn snapshot_suffix(snapshot: &str) -> String {
        object_name("s", snapshot, NAMES)
    }

    async fn snapshot(&self, volume: &str, snapshot: &str) -> Result<Option<Value>, StorageError> {
        let name = format!("{volume}.{}", Self::snapshot_suffix(snapshot));
        let found = self.named("look for a snapshot", "volume-snapshots", &name).await?;
        Ok(found.filter(|v| v.get("destroyed") != Some(&json!(true))))
    }

    /// Removes something in two steps, as the array does. Where eradication is forbidden, the array does the second one in time.
    async fn destroy(&self, what: &str, path: &str, name: &str) -> Result<(), StorageError> {
        self.call(what, Method::PATCH, path, &[("names", name)], Some(json!({"destroyed": true}))).await?;
        match self.call(what, Method::DELETE, path, &[("names", name)], None).await {
            Ok(_) | Err(StorageError::Refused { .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn only_volumes(&self, of: SnapshotOf) -> Result<(), StorageError> {
        if of == SnapshotOf::Volume {
            return Ok(());
        }
        Err(StorageError::Unsupported {
            storage: self.rest.access.name.clone(),
            driver: "pure".into(),
            what: "snapshots of shares".into(),
        })
    }
}

#[async_trait]
impl Block for Pure {
    async fn volume_ensure(&self, volume: &Volume) -> Result<VolumeState, StorageError> {
        let name = self.name(&volume.key);
        let what = format!("make the volume {name}");
        let query = [("names", name.as_str())];
        let size = round_up(Ord::max(volume.size_bytes, 1), UNIT);
        match self.volume(&name).await? {
            None => {
                self.call(&what, Method::POST, "volumes", &query, Some(json!({"provisioned": size}))).await?;
            }
            Some(found) => {
                let has = number(&found, "/provisioned").unwrap_or(0);
                if let Some(size) = growth(&volume.key, has, volume.size_bytes, UNIT)? {
                    let body = json!({"provisioned": size});
                    self.call(&format!("grow {name}"), Method::PATCH, "volumes", &query, Some(body)).await?;
                }
            }
        }
        let mut found =
            self.volume(&name).await?.ok_or_else(|| self.rest.failed(&what, "it is not there afterwards"))?;
        if let Some(qos) = volume.qos {
            // Without a limit the array shows its largest number, or none.
            let limit = |wanted: u64, most: u64| if wanted == 0 { most } else { wanted };
            let iops = limit(qos.max_iops, 100_000_000);
            let bandwidth = limit(qos.max_mbps.saturating_mul(1_000_000), 549_755_813_888);
            let has = |k: &str, most: u64| number(&found, &format!("/qos/{k}")).unwrap_or(most);
            if (has("iops_limit", 100_000_000), has("bandwidth_limit", 549_755_813_888)) != (iops, bandwidth) {
                let body = json!({"qos": {"iops_limit": iops, "bandwidth_limit": bandwidth}});
                self.call(&format!("limit {name}"), Method::PATCH, "volumes", &query, Some(body)).await?;
                found = self.volume(&name).await?.unwrap_or(found);
            }
        }
        Ok(state(&volume.key, &found, volume.pool.as_deref()))
    }

    async fn volume_delete(&self, key: &str) -> Result<(), StorageError> {
        let name = self.name(key);
        if self.volume(&name).await?.is_none() {
            return Ok(());
        }
        let connected = self.connections(&name).await?;
        if !connected.is_empty() {
            let by: Vec<String> = connected.iter().filter_map(|c| text(c, "/host/name")).collect();
            return Err(StorageError::InUse { what: format!("the volume {key}"), by: by.join(", ") });
        }
        self.destroy(&format!("remove the volume {name}"), "volumes", &name).await
    }

    async fn access_ensure(&self, key: &str, hosts: &[Host]) -> Result<AccessState, StorageError> {
        let _turn = self.turn.lock().await;
        let name = self.name(key);
        let protocol = if self.nvme() { "nvme_tcp" } else { "iscsi" };
        if self.volume(&name).await?.is_none() {
            return if hosts.is_empty() {
                Ok(AccessState { key: key.to_owned(), protocol: protocol.into(), ..AccessState::default() })
            } else {
                Err(self.no_volume(key))
            };
        }
        let what = format!("let {} hosts use {name}", hosts.len());
        let wants: BTreeMap<String, &Host> = hosts.iter().map(|h| (self.name(&h.iqn), h)).collect();
        let before = self.connections(&name).await?;
        for connection in &before {
            let Some(host) = text(connection, "/host/name") else {
                return Err(self.rest.rejected(
                    &what,
                    reqwest::StatusCode::CONFLICT,
                    "it is connected to a host group, which is not ours; disconnect it",
                ));
            };
            if wants.contains_key(&host) {
                continue;
            }
            let query = [("host_names", host.as_str()), ("volume_names", &name)];
            self.call(&what, Method::DELETE, "connections", &query, None).await?;
            self.host_tidy(&host).await?;
        }
        for (host_name, host) in &wants {
            self.host_ensure(host).await?;
            if !before.iter().any(|c| text(c, "/host/name").as_ref() == Some(host_name)) {
                let query = [("host_names", host_name.as_str()), ("volume_names", &name)];
                self.call(&what, Method::POST, "connections", &query, Some(json!({}))).await?;
            }
        }
        let mut answers = Vec::new();
        for connection in self.connections(&name).await? {
            let host = text(&connection, "/host/name").and_then(|h| wants.get(&h).copied());
            let host = host.ok_or_else(|| self.rest.failed(&what, "another host may still use it"))?;
            let lun = number(&connection, "/lun").or_else(|| number(&connection, "/nsid"));
            answers.push(HostAccess {
                iqn: host.iqn.clone(),
                lun: lun.and_then(|n| u32::try_from(n).ok()),
                target: None,
            });
        }
        if answers.len() != wants.len() {
            return Err(self.rest.failed(&what, "not all of them may use it afterwards"));
        }
        answers.sort_by(|a, b| a.iqn.cmp(&b.iqn));
        let (target, portals) = self.ports().await?;
        Ok(AccessState { key: key.to_owned(), protocol: protocol.into(), target, portals, hosts: answers })
    }
}

#[async_trait]
impl Snapshots for Pure {
    async fn snapshot_create(&self, of: SnapshotOf, key: &str, snapshot: &str) -> Result<SnapshotState, StorageError> {
        self.only_volumes(of)?;
        let name = self.name(key);
        if self.snapshot(&name, snapshot).await?.is_none() {
            if self.volume(&name).await?.is_none() {
                return Err(self.no_volume(key));
            }
            let body = json!({"suffix": Self::snapshot_suffix(snapshot)});
            let query = [("source_names", name.as_str())];
            self.call(&format!("take a snapshot of {key}"), Method::POST, "volume-snapshots", &query, Some(body))
                .await?;
        }
        let made = self.snapshot(&name, snapshot).await?;
        let created = made.and_then(|s| s.get("created").and_then(Value::as_i64));
        let created_at = created.and_then(chrono::DateTime::from_timestamp_millis).map(|t| t.to_rfc3339());
        Ok(SnapshotState { key: key.to_owned(), snapshot: snapshot.to_owned(), created_at })
    }

    async fn snapshot_delete(&self, of: SnapshotOf, key: &str, snapshot: &str) -> Result<(), StorageError> {
        self.only_volumes(of)?;
        let Some(found) = self.snapshot(&self.name(key), snapshot).await? else { return Ok(()) };
        let name = text(&found, "/name").unwrap_or_default();
        self.destroy(&format!("remove a snapshot of {key}"), "volume-snapshots", &name).await
    }

    async fn snapshot_restore(&self, of: SnapshotOf, key: &str, snapshot: &str) -> Result<(), StorageError> {
        self.only_volumes(of)?;
        let name = self.name(key);
        let volume = self.volume(&name).await?.ok_or_else(|| self.no_volume(key))?;
        let found = self.snapshot(&name, snapshot).await?;
        let found = found.ok_or_else(|| {
            self.rest.missing(format!("the snapshot {snapshot} of {key}"), "choose one that is there")
        })?;
        let what = format!("restore {key}");
        let query = [("names", name.as_str()), ("overwrite", "true")];
        let body = json!({"source": {"name": text(&found, "/name")}});
        self.call(&what, Method::POST, "volumes", &query, Some(body)).await?;
        // It comes back with the size that it had; it keeps the size that it has now.
        let (before, now) =
            (number(&volume, "/provisioned"), self.volume(&name).await?.and_then(|v| number(&v, "/provisioned")));
        if now < before {
            let query = [("names", name.as_str())];
            self.call(&what, Method::PATCH, "volumes", &query, Some(json!({"provisioned": before}))).await?;
        }
        Ok(())
    }

    async fn clone_volume(
        &self,
        key: &str,
        snapshot: Option<&str>,
        volume: &Volume,
    ) -> Result<VolumeState, StorageError> {
        let (name, new) = (self.name(key), self.name(&volume.key));
        if self.volume(&new).await?.is_none() {
            let source = match snapshot {
                Some(snapshot) => self.snapshot(&name, snapshot).await?.ok_or_else(|| {
                    self.rest.missing(format!("the snapshot {snapshot} of {key}"), "choose one that is there")
                })?,
                None => self.volume(&name).await?.ok_or_else(|| self.no_volume(key))?,
            };
            growth(&volume.key, number(&source, "/provisioned").unwrap_or(0), volume.size_bytes, UNIT)?;
            let body = json!({"source": {"name": text(&source, "/name")}});
            let what = format!("copy {key} to {new}");
            self.call(&what, Method::POST, "volumes", &[("names", &new)], Some(body)).await?;
        }
        self.volume_ensure(volume).await
    }
}
