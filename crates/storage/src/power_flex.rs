//! Dell PowerFlex 4 over the REST interface of its manager: volumes for NVMe/TCP hosts. Every volume is a multiple of 8 GB. Source: Dell,
//! "PowerFlex REST API" (Volume, Host, Sdt, StoragePool, `snapshotVolumes`, `overwriteVolumeContent`).

use std::collections::BTreeMap;

use async_trait::async_trait;
use model::storage::{
    AccessState, BlockProtocol, Capacity, HostAccess, PoolFacts, Portal, SnapshotOf, SnapshotState, StorageFacts,
    StorageFeatures, Technology, Volume, VolumeState,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{
    Access, Array, Block, Host, Probe, Snapshots, StorageError,
    http::{Rest, list, number, text},
    plan::{NameRule, growth, object_name, round_up},
};

/// Names are short here.
const NAMES: NameRule = NameRule { longest: 31, others: "-", lower: true };
const UNIT: u64 = 8 << 30;
/// Error code of a name that is not there.
const NOT_FOUND: u64 = 79;

/// A system.
pub struct PowerFlex {
    rest: Rest,
    token: Mutex<Option<String>>,
    turn: Mutex<()>,
}

impl PowerFlex {
    /// A driver over HTTPS.
    pub fn new(access: Access) -> Result<Self, StorageError> {
        if access.protocol.is_some_and(|p| p != BlockProtocol::NvmeTcp) {
            return Err(StorageError::Unsupported {
                storage: access.name.clone(),
                driver: "power_flex".into(),
                what: "volumes over another protocol than NVMe/TCP".into(),
            });
        }
        Ok(Self { rest: Rest::new(access, 443)?, token: Mutex::default(), turn: Mutex::default() })
    }

    fn name(&self, key: &str) -> String {
        object_name(self.rest.access.prefix(), key, NAMES)
    }

    async fn login(&self) -> Result<String, StorageError> {
        let mut token = self.token.lock().await;
        if let Some(token) = token.as_ref() {
            return Ok(token.clone());
        }
        let access = &self.rest.access;
        let body = json!({"username": access.username, "password": access.secret.0});
        let reply =
            self.rest.send("log in", self.rest.request(Method::POST, "/rest/auth/login", &[]).json(&body)).await?;
        match text(&reply.body, "/access_token") {
            Some(new) if reply.status.is_success() => {
                *token = Some(new.clone());
                Ok(new)
            }
            _ if reply.status.is_client_error() => Err(self.rest.unauthorized()),
            _ => Err(self.rest.odd("log in", &reply.body)),
        }
    }

    /// A call; `None`: what it is about does not exist.
    async fn ask(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Option<Value>, StorageError> {
        let mut again = true;
        loop {
            let token = self.login().await?;
            let mut request = self.rest.request(method.clone(), &format!("/api/{path}"), &[]).bearer_auth(token);
            if let Some(body) = &body {
                request = request.json(body);
            }
            let reply = self.rest.send(what, request).await?;
            if reply.status.is_success() {
                return Ok(Some(reply.body));
            }
            if reply.status == StatusCode::UNAUTHORIZED {
                // A token lives for some minutes.
                *self.token.lock().await = None;
                if std::mem::take(&mut again) {
                    continue;
                }
                return Err(self.rest.unauthorized());
            }
            if number(&reply.body, "/errorCode") == Some(NOT_FOUND) {
                return Ok(None);
            }
            let said = text(&reply.body, "/message").unwrap_or_default();
            // It answers 500 to what it refuses, with a message and a code of its own.
            let refused =
                reply.status == StatusCode::INTERNAL_SERVER_ERROR && number(&reply.body, "/errorCode").is_some();
            let status = if refused { StatusCode::UNPROCESSABLE_ENTITY } else { reply.status };
            return Err(self.rest.rejected(what, status, &said));
        }
    }

    async fn call(&self, what: &str, method: Method, path: &str, body: Option<Value>) -> Result<Value, StorageError> {
        let answer = self.ask(what, method, path, body).await?;
        answer.ok_or_else(|| self.rest.rejected(what, StatusCode::NOT_FOUND, "it does not know the object"))
    }

    async fn all(&self, what: &str, kind: &str) -> Result<Vec<Value>, StorageError> {
        match self.call(what, Method::GET, &format!("types/{kind}/instances"), None).await? {
            Value::Array(all) => Ok(all),
            other => Err(self.rest.odd(what, &other)),
        }
    }

    async fn act(&self, what: &str, kind: &str, id: &str, action: &str, body: Value) -> Result<Value, StorageError> {
        self.call(what, Method::POST, &format!("instances/{kind}::{id}/action/{action}"), Some(body)).await
    }

    async fn system(&self) -> Result<Value, StorageError> {
        let all = self.all("tell what it is", "System").await?;
        all.into_iter().next().ok_or_else(|| self.rest.missing("a system".into(), "correct the management address"))
    }

    async fn named(&self, name: &str) -> Result<Option<Value>, StorageError> {
        let what = "look for a volume";
        let path = "types/Volume/instances/action/queryIdByKey";
        let Some(id) = self.ask(what, Method::POST, path, Some(json!({"name": name}))).await? else { return Ok(None) };
        let id = id.as_str().ok_or_else(|| self.rest.odd(what, &id))?.to_owned();
        self.ask(what, Method::GET, &format!("instances/Volume::{id}"), None).await
    }

    async fn pools(&self) -> Result<Vec<(String, PoolFacts)>, StorageError> {
        let mut out = Vec::new();
        for pool in self.all("list storage pools", "StoragePool").await? {
            let id = text(&pool, "/id").unwrap_or_default();
            let path = format!("instances/StoragePool::{id}/relationships/Statistics");
            let room = self.call("measure a storage pool", Method::GET, &path, None).await?;
            let bytes = |k: &str| number(&room, k).unwrap_or(0) * 1024;
            let capacity = Capacity { total_bytes: bytes("/maxCapacityInKb"), used_bytes: bytes("/capacityInUseInKb") };
            let media = text(&pool, "/mediaType").unwrap_or_default().to_lowercase();
            out.push((id, PoolFacts { name: text(&pool, "/name").unwrap_or_default(), capacity, media }));
        }
        Ok(out)
    }

    /// The pool that new volumes go to: that of the order, or that with most room.
    async fn pool(&self, wanted: Option<&str>) -> Result<String, StorageError> {
        let pools = self.pools().await?;
        let found = match wanted {
            Some(wanted) => pools.into_iter().find(|(_, p)| p.name == wanted),
            None => pools.into_iter().max_by_key(|(_, p)| p.capacity.free_bytes()),
        };
        let what = wanted.map_or_else(|| "a storage pool".to_owned(), |w| format!("the storage pool {w}"));
        found.map(|(id, _)| id).ok_or_else(|| self.rest.missing(what, "create it, or choose another pool"))
    }

    /// The name of the target, and where it answers.
    async fn targets(&self) -> Result<(Option<String>, Vec<Portal>), StorageError> {
        let system = self.system().await?;
        let nqn = text(&system, "/id").map(|id| format!("nqn.1988-11.com.dell:powerflex:00:{id}"));
        let mut portals = Vec::new();
        for target in self.all("list NVMe targets", "Sdt").await? {
            let name = text(&target, "/name").unwrap_or_default();
            let port = number(&target, "/nvmePort").and_then(|p| u16::try_from(p).ok()).unwrap_or(4420);
            for place in list(&target, "/ipList").iter().filter(|i| text(i, "/role").as_deref() != Some("StorageOnly"))
            {
                if let Some(address) = text(place, "/ip") {
                    portals.push(Portal {
                        name: name.clone(),
                        node: name.clone(),
                        protocol: "nvme_tcp".into(),
                        address,
                        port,
                    });
                }
            }
        }
        Ok((nqn, portals))
    }

    fn state(key: &str, volume: &Value) -> VolumeState {
        VolumeState {
            key: key.to_owned(),
            array_name: text(volume, "/name").unwrap_or_default(),
            size_bytes: number(volume, "/sizeInKb").unwrap_or(0) * 1024,
            used_bytes: None,
            // The array tells no identifier of a namespace before a host is there.
            wwn: None,
            pool: None,
        }
    }

    fn no_volume(&self, key: &str) -> StorageError {
        self.rest.missing(format!("the volume {key}"), "it has to be made first; deploy the drive again")
    }

    /// The NVMe host of a name; its id.
    async fn host_ensure(&self, host: &Host, known: &[Value]) -> Result<String, StorageError> {
        let nqn =
            host.nqn.clone().ok_or_else(|| self.rest.setting(format!("the host {} has no NVMe name", host.iqn)))?;
        if let Some(found) = known.iter().find(|h| text(h, "/nqn").as_ref() == Some(&nqn)) {
            return text(found, "/id").ok_or_else(|| self.rest.odd("look for a host", found));
        }
        let what = format!("make the host {nqn}");
        let body = json!({"name": self.name(&host.iqn), "nqn": nqn});
        let made = self.call(&what, Method::POST, "types/Host/instances", Some(body)).await?;
        text(&made, "/id").ok_or_else(|| self.rest.odd(&what, &made))
    }

    fn snapshot_name(&self, key: &str, snapshot: &str) -> String {
        object_name(&self.snapshot_prefix(), &format!("{key}@{snapshot}"), NAMES)
    }

    /// What names of snapshots begin with; no key of a volume is a single letter, so that no volume is taken for one.
    fn snapshot_prefix(&self) -> String {
        format!("{}-s", self.rest.access.prefix())
    }

    /// Makes a copy of a volume of that moment.
    async fn copy(&self, what: &str, source: &Value, name: &str) -> Result<(), StorageError> {
        let system = text(&self.system().await?, "/id").unwrap_or_default();
        let body = json!({"snapshotDefs": [{"volumeId": text(source, "/id"), "snapshotName": name}]});
        self.act(what, "System", &system, "snapshotVolumes", body).await.map(drop)
    }

    fn only_volumes(&self, of: SnapshotOf) -> Result<(), StorageError> {
        if of == SnapshotOf::Volume {
            return Ok(());
        }
        Err(StorageError::Unsupported {
            storage: self.rest.access.name.clone(),
            driver: "power_flex".into(),
            what: "snapshots of shares".into(),
        })
    }
}

/// The hosts that a volume is mapped to: id and name.
fn mapped(volume: &Value) -> Vec<(String, String)> {
    let id = |m: &Value| text(m, "/hostId").or_else(|| text(m, "/sdcId"));
    list(volume, "/mappedSdcInfo").iter().filter_map(|m| Some((id(m)?, text(m, "/nqn").unwrap_or_default()))).collect()
}

#[async_trait]
impl Probe for PowerFlex {
    async fn facts(&self) -> Result<StorageFacts, StorageError> {
        let system = self.system().await?;
        let pools: Vec<PoolFacts> = self.pools().await?.into_iter().map(|(_, p)| p).collect();
        let (target_nqn, portals) = self.targets().await?;
        Ok(StorageFacts {
            serial: text(&system, "/installId").or_else(|| text(&system, "/id")),
            vendor: Some("Dell".into()),
            model: Some("PowerFlex".into()),
            version: text(&system, "/systemVersionName"),
            capacity: Capacity {
                total_bytes: pools.iter().map(|p| p.capacity.total_bytes).sum(),
                used_bytes: pools.iter().map(|p| p.capacity.used_bytes).sum(),
            },
            pools,
            technologies: vec![Technology::Block],
            portals,
            target_iqn: None,
            target_nqn,
            features: StorageFeatures { snapshots: true, share_snapshots: false, clones: true, qos: false },
            tls_fingerprint: self.rest.fingerprint(),
        })
    }

    fn fingerprint(&self) -> Option<String> {
        self.rest.fingerprint()
    }

    fn refused_fingerprint(&self) -> Option<String> {
        self.rest.refused_fingerprint()
    }
}

#[async_trait]
impl Block for PowerFlex {
    async fn volume_ensure(&self, volume: &Volume) -> Result<VolumeState, StorageError> {
        if volume.qos.is_some_and(|q| q.max_iops > 0 || q.max_mbps > 0) {
            return Err(StorageError::Unsupported {
                storage: self.rest.access.name.clone(),
                driver: "power_flex".into(),
                what: "limits of speed".into(),
            });
        }
        let name = self.name(&volume.key);
        let what = format!("make the volume {name}");
        match self.named(&name).await? {
            None => {
                let size = round_up(Ord::max(volume.size_bytes, 1), UNIT);
                let body = json!({
                    "name": name, "volumeSizeInKb": (size / 1024).to_string(), "volumeType": "ThinProvisioned",
                    "storagePoolId": self.pool(volume.pool.as_deref()).await?,
                });
                self.call(&what, Method::POST, "types/Volume/instances", Some(body)).await?;
            }
            Some(found) => {
                let has = number(&found, "/sizeInKb").unwrap_or(0) * 1024;
                if let Some(size) = growth(&volume.key, has, volume.size_bytes, UNIT)? {
                    let body = json!({"sizeInGB": (size >> 30).to_string()});
                    let id = text(&found, "/id").unwrap_or_default();
                    self.act(&format!("grow {name}"), "Volume", &id, "setVolumeSize", body).await?;
                }
            }
        }
        let found = self.named(&name).await?.ok_or_else(|| self.rest.failed(&what, "it is not there afterwards"))?;
        Ok(Self::state(&volume.key, &found))
    }

    async fn volume_delete(&self, key: &str) -> Result<(), StorageError> {
        let name = self.name(key);
        let Some(found) = self.named(&name).await? else { return Ok(()) };
        let by: Vec<String> =
            mapped(&found).into_iter().map(|(id, nqn)| if nqn.is_empty() { id } else { nqn }).collect();
        if !by.is_empty() {
            return Err(StorageError::InUse { what: format!("the volume {key}"), by: by.join(", ") });
        }
        let what = format!("remove the volume {name}");
        let id = text(&found, "/id").unwrap_or_default();
        // Clones came from it as well; only what carries the name of a snapshot of ours goes with it.
        for snapshot in self.all(&what, "Volume").await? {
            let ours = text(&snapshot, "/name").is_some_and(|n| n.starts_with(&format!("{}-", self.snapshot_prefix())));
            if text(&snapshot, "/ancestorVolumeId").as_ref() == Some(&id) && ours && mapped(&snapshot).is_empty() {
                let snapshot = text(&snapshot, "/id").unwrap_or_default();
                self.act(&what, "Volume", &snapshot, "removeVolume", json!({"removeMode": "ONLY_ME"})).await?;
            }
        }
        self.act(&what, "Volume", &id, "removeVolume", json!({"removeMode": "ONLY_ME"})).await.map(drop)
    }

    async fn access_ensure(&self, key: &str, hosts: &[Host]) -> Result<AccessState, StorageError> {
        let _turn = self.turn.lock().await;
        let name = self.name(key);
        let Some(volume) = self.named(&name).await? else {
            return if hosts.is_empty() {
                Ok(AccessState { key: key.to_owned(), protocol: "nvme_tcp".into(), ..AccessState::default() })
            } else {
                Err(self.no_volume(key))
            };
        };
        if hosts.iter().any(|h| h.chap.is_some()) {
            return Err(StorageError::Unsupported {
                storage: self.rest.access.name.clone(),
                driver: "power_flex".into(),
                what: "CHAP logins".into(),
            });
        }
        let volume_id = text(&volume, "/id").unwrap_or_default();
        let what = format!("let {} hosts use {name}", hosts.len());
        let known = self.all("list hosts", "Host").await?;
        let nqn_of =
            |id: &str| known.iter().find(|h| text(h, "/id").as_deref() == Some(id)).and_then(|h| text(h, "/nqn"));
        let before = mapped(&volume);
        for (id, nqn) in &before {
            let nqn = nqn_of(id).unwrap_or_else(|| nqn.clone());
            if !hosts.iter().any(|h| h.nqn.as_deref() == Some(nqn.as_str())) {
                self.act(&what, "Volume", &volume_id, "removeMappedHost", json!({"hostId": id})).await?;
            }
        }
        let mut wants: BTreeMap<String, &Host> = BTreeMap::new();
        for host in hosts {
            let id = self.host_ensure(host, &known).await?;
            if !before.iter().any(|(b, _)| *b == id) {
                let body = json!({"hostId": id, "allowMultipleMappings": "TRUE"});
                self.act(&what, "Volume", &volume_id, "addMappedHost", body).await?;
            }
            wants.insert(id, host);
        }
        let after = self.named(&name).await?.ok_or_else(|| self.rest.failed(&what, "the volume has gone"))?;
        let has: Vec<String> = mapped(&after).into_iter().map(|(id, _)| id).collect();
        if has.len() != wants.len() || !has.iter().all(|id| wants.contains_key(id)) {
            return Err(self.rest.failed(&what, "others may still use it, or not all of them"));
        }
        let mut answers: Vec<HostAccess> =
            wants.values().map(|h| HostAccess { iqn: h.iqn.clone(), lun: None, target: None }).collect();
        answers.sort_by(|a, b| a.iqn.cmp(&b.iqn));
        let (target, portals) = self.targets().await?;
        Ok(AccessState { key: key.to_owned(), protocol: "nvme_tcp".into(), target, portals, hosts: answers })
    }
}

#[async_trait]
impl Snapshots for PowerFlex {
    async fn snapshot_create(&self, of: SnapshotOf, key: &str, snapshot: &str) -> Result<SnapshotState, StorageError> {
        self.only_volumes(of)?;
        let name = self.snapshot_name(key, snapshot);
        if self.named(&name).await?.is_none() {
            let source = self.named(&self.name(key)).await?.ok_or_else(|| self.no_volume(key))?;
            self.copy(&format!("take a snapshot of {key}"), &source, &name).await?;
        }
        let made = self.named(&name).await?;
        let seconds = made.and_then(|v| v.get("creationTime").and_then(Value::as_i64));
        let created_at = seconds.and_then(|s| chrono::DateTime::from_timestamp(s, 0)).map(|t| t.to_rfc3339());
        Ok(SnapshotState { key: key.to_owned(), snapshot: snapshot.to_owned(), created_at })
    }

    async fn snapshot_delete(&self, of: SnapshotOf, key: &str, snapshot: &str) -> Result<(), StorageError> {
        self.only_volumes(of)?;
        let Some(found) = self.named(&self.snapshot_name(key, snapshot)).await? else { return Ok(()) };
        let id = text(&found, "/id").unwrap_or_default();
        let what = format!("remove a snapshot of {key}");
        self.act(&what, "Volume", &id, "removeVolume", json!({"removeMode": "ONLY_ME"})).await.map(drop)
    }

    async fn snapshot_restore(&self, of: SnapshotOf, key: &str, snapshot: &str) -> Result<(), StorageError> {
        self.only_volumes(of)?;
        let volume = self.named(&self.name(key)).await?.ok_or_else(|| self.no_volume(key))?;
        let found = self.named(&self.snapshot_name(key, snapshot)).await?;
        let found = found.ok_or_else(|| {
            self.rest.missing(format!("the snapshot {snapshot} of {key}"), "choose one that is there")
        })?;
        let id = text(&volume, "/id").unwrap_or_default();
        let body = json!({"srcVolumeId": text(&found, "/id"), "allowOnExtManagedVol": "TRUE"});
        self.act(&format!("restore {key}"), "Volume", &id, "overwriteVolumeContent", body).await.map(drop)
    }

    async fn clone_volume(
        &self,
        key: &str,
        snapshot: Option<&str>,
        volume: &Volume,
    ) -> Result<VolumeState, StorageError> {
        let new = self.name(&volume.key);
        if self.named(&new).await?.is_none() {
            let source = match snapshot {
                Some(snapshot) => self.named(&self.snapshot_name(key, snapshot)).await?.ok_or_else(|| {
                    self.rest.missing(format!("the snapshot {snapshot} of {key}"), "choose one that is there")
                })?,
                None => self.named(&self.name(key)).await?.ok_or_else(|| self.no_volume(key))?,
            };
            growth(&volume.key, number(&source, "/sizeInKb").unwrap_or(0) * 1024, volume.size_bytes, UNIT)?;
            // A snapshot can be written to: a copy is one with a name of its own.
            self.copy(&format!("copy {key} to {new}"), &source, &new).await?;
        }
        self.volume_ensure(volume).await
    }
}

impl Array for PowerFlex {
    fn block(&self) -> Option<&dyn Block> {
        Some(self)
    }
    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }
}
