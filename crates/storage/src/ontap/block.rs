//! LUNs, igroups and their maps.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use model::storage::{AccessState, HostAccess, Volume, VolumeState};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Ontap, Svm};
use crate::{
    Block, Host, StorageError,
    http::{list, number, text},
    plan::{growth, object_name, round_up},
};

/// ONTAP rounds LUNs to this.
const UNIT: u64 = 1 << 20;
/// What the first part of each NAA identifier of a LUN is.
const NAA: &str = "600a0980";

/// Path of the LUN of a volume.
pub(super) fn lun_path(volume: &str) -> String {
    format!("/vol/{volume}/lun0")
}

/// Size of the FlexVol around a LUN: room for its metadata. Snapshots take from the aggregate, for nothing is guaranteed.
pub(super) fn around(lun: u64) -> u64 {
    round_up(lun + lun / 10 + (64 << 20), UNIT)
}

impl Ontap {
    pub(super) async fn lun(&self, svm: &Svm, volume: &str) -> Result<Option<Value>, StorageError> {
        let path = lun_path(volume);
        let query = [
            ("name", path.as_str()),
            ("svm.name", &svm.name),
            (
                "fields",
                "uuid,space.size,space.used,serial_number,qos_policy.max_throughput_iops,qos_policy.max_throughput_mbps",
            ),
        ];
        self.one("look for a LUN", "/api/storage/luns", &query).await
    }

    pub(super) fn no_volume(&self, key: &str) -> StorageError {
        self.rest.missing(format!("the volume {key}"), "it has to be made first; deploy the drive again")
    }

    pub(super) fn volume_state(key: &str, flexvol: &Value, lun: &Value) -> VolumeState {
        let serial = text(lun, "/serial_number");
        VolumeState {
            key: key.to_owned(),
            array_name: text(lun, "/name").unwrap_or_default(),
            size_bytes: number(lun, "/space/size").unwrap_or(0),
            used_bytes: number(lun, "/space/used"),
            wwn: serial.map(|s| format!("{NAA}{}", hex::encode(s.as_bytes()))),
            pool: text(flexvol, "/aggregates/0/name"),
        }
    }

    /// Makes the LUN grow, with the volume around it.
    pub(super) async fn grow_lun(&self, svm: &Svm, name: &str, size: u64) -> Result<(), StorageError> {
        let flexvol = self.flexvol(svm, name).await?.ok_or_else(|| self.no_volume(name))?;
        let what = format!("grow {name}");
        let outer = around(size);
        if number(&flexvol, "/size").unwrap_or(0) < outer {
            let path = format!("/api/storage/volumes/{}", text(&flexvol, "/uuid").unwrap_or_default());
            self.call(&what, Method::PATCH, &path, &[], Some(json!({"size": outer}))).await?;
        }
        let lun = self.lun(svm, name).await?.ok_or_else(|| self.no_volume(name))?;
        let path = format!("/api/storage/luns/{}", text(&lun, "/uuid").unwrap_or_default());
        self.call(&what, Method::PATCH, &path, &[], Some(json!({"space": {"size": size}}))).await.map(drop)
    }

    async fn maps(&self, svm: &Svm, volume: &str) -> Result<Vec<Value>, StorageError> {
        let path = lun_path(volume);
        let query = [
            ("lun.name", path.as_str()),
            ("svm.name", &svm.name),
            ("fields", "lun.uuid,igroup.uuid,igroup.name,logical_unit_number"),
        ];
        self.records("list LUN maps", "/api/protocols/san/lun-maps", &query).await
    }

    fn igroup_name(&self, iqn: &str) -> String {
        object_name(self.rest.access.prefix(), iqn, super::NAMES)
    }

    async fn igroup_ensure(&self, svm: &Svm, host: &Host) -> Result<(), StorageError> {
        let name = self.igroup_name(&host.iqn);
        let query = [("name", name.as_str()), ("svm.name", &svm.name), ("fields", "uuid,initiators.name")];
        let what = format!("make the host {}", host.iqn);
        let path = "/api/protocols/san/igroups";
        let Some(found) = self.one(&what, path, &query).await? else {
            let body = json!({
                "name": name, "svm": {"name": svm.name}, "os_type": "linux", "protocol": "iscsi",
                "comment": host.name, "initiators": [{"name": host.iqn}],
            });
            return self.call(&what, Method::POST, path, &[], Some(body)).await.map(drop);
        };
        let uuid = text(&found, "/uuid").unwrap_or_default();
        let initiators: BTreeSet<String> =
            list(&found, "/initiators").iter().filter_map(|i| text(i, "/name")).collect();
        for other in initiators.iter().filter(|i| **i != host.iqn) {
            let one = format!("{path}/{uuid}/initiators/{other}");
            self.call(&what, Method::DELETE, &one, &[("allow_delete_while_mapped", "true")], None).await?;
        }
        if !initiators.contains(&host.iqn) {
            let all = format!("{path}/{uuid}/initiators");
            self.call(&what, Method::POST, &all, &[], Some(json!({"name": host.iqn}))).await?;
        }
        Ok(())
    }

    /// Removes a host that has no volume any more.
    async fn igroup_tidy(&self, svm: &Svm, name: &str) -> Result<(), StorageError> {
        let query = [("igroup.name", name), ("svm.name", &svm.name), ("fields", "lun.uuid")];
        if !self.records("list LUN maps", "/api/protocols/san/lun-maps", &query).await?.is_empty() {
            return Ok(());
        }
        let query = [("name", name), ("svm.name", &svm.name), ("fields", "uuid")];
        let Some(found) = self.one("look for a host", "/api/protocols/san/igroups", &query).await? else {
            return Ok(());
        };
        let path = format!("/api/protocols/san/igroups/{}", text(&found, "/uuid").unwrap_or_default());
        self.call(&format!("remove the host {name}"), Method::DELETE, &path, &[], None).await.map(drop)
    }

    /// The login that ONTAP asks an initiator for. It cannot be read back, so it is set each time.
    async fn credentials(&self, svm: &Svm, host: &Host) -> Result<(), StorageError> {
        let Some((user, secret)) = &host.chap else { return Ok(()) };
        let path = "/api/protocols/san/iscsi/credentials";
        let what = format!("set the CHAP login of {}", host.iqn);
        let query = [("initiator", host.iqn.as_str()), ("svm.name", &svm.name), ("fields", "svm.uuid,initiator")];
        let chap = json!({"inbound": {"user": user, "password": secret.0}});
        match self.one(&what, path, &query).await? {
            Some(_) => {
                let one = format!("{path}/{}/{}", svm.uuid, host.iqn);
                self.call(&what, Method::PATCH, &one, &[], Some(json!({"authentication_type": "chap", "chap": chap})))
                    .await?;
            }
            None => {
                let body = json!({
                    "svm": {"name": svm.name}, "initiator": host.iqn, "authentication_type": "chap", "chap": chap,
                });
                self.call(&what, Method::POST, path, &[], Some(body)).await?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Block for Ontap {
    async fn volume_ensure(&self, volume: &Volume) -> Result<VolumeState, StorageError> {
        let svm = self.svm().await?;
        let name = self.name(&volume.key);
        let size = round_up(Ord::max(volume.size_bytes, 1), UNIT);
        let what = format!("make the volume {name}");
        if self.flexvol(&svm, &name).await?.is_none() {
            let aggregate = self.aggregate(volume.pool.as_deref()).await?;
            let body = json!({
                "name": name, "svm": {"name": svm.name}, "aggregates": [{"name": aggregate}], "size": around(size),
                "guarantee": {"type": "none"}, "snapshot_policy": {"name": "none"},
                "space": {"snapshot": {"reserve_percent": 0}}, "comment": volume.name,
            });
            self.call(&what, Method::POST, "/api/storage/volumes", &[], Some(body)).await?;
        }
        match self.lun(&svm, &name).await? {
            None => {
                let body = json!({
                    "name": lun_path(&name), "svm": {"name": svm.name}, "os_type": "linux", "space": {"size": size},
                });
                self.call(&what, Method::POST, "/api/storage/luns", &[], Some(body)).await?;
            }
            Some(lun) => {
                let has = number(&lun, "/space/size").unwrap_or(0);
                if let Some(size) = growth(&volume.key, has, volume.size_bytes, UNIT)? {
                    self.grow_lun(&svm, &name, size).await?;
                }
            }
        }
        let lun =
            self.lun(&svm, &name).await?.ok_or_else(|| self.rest.failed(&what, "the LUN is not there afterwards"))?;
        if let Some(qos) = volume.qos {
            let has = |k: &str| number(&lun, &format!("/qos_policy/{k}")).unwrap_or(0);
            if (has("max_throughput_iops"), has("max_throughput_mbps")) != (qos.max_iops, qos.max_mbps) {
                let path = format!("/api/storage/luns/{}", text(&lun, "/uuid").unwrap_or_default());
                let body = json!({
                    "qos_policy": {"max_throughput_iops": qos.max_iops, "max_throughput_mbps": qos.max_mbps},
                });
                self.call(&format!("limit {name}"), Method::PATCH, &path, &[], Some(body)).await?;
            }
        }
        let flexvol = self.flexvol(&svm, &name).await?.unwrap_or_default();
        Ok(Self::volume_state(&volume.key, &flexvol, &lun))
    }

    async fn volume_delete(&self, key: &str) -> Result<(), StorageError> {
        let svm = self.svm().await?;
        let name = self.name(key);
        let Some(flexvol) = self.flexvol(&svm, &name).await? else { return Ok(()) };
        let maps = self.maps(&svm, &name).await?;
        if !maps.is_empty() {
            let by: Vec<String> = maps.iter().filter_map(|m| text(m, "/igroup/name")).collect();
            return Err(StorageError::InUse { what: format!("the volume {key}"), by: by.join(", ") });
        }
        let path = format!("/api/storage/volumes/{}", text(&flexvol, "/uuid").unwrap_or_default());
        self.call(&format!("remove the volume {name}"), Method::DELETE, &path, &[], None).await.map(drop)
    }

    async fn access_ensure(&self, key: &str, hosts: &[Host]) -> Result<AccessState, StorageError> {
        let _turn = self.turn.lock().await;
        let svm = self.svm().await?;
        let name = self.name(key);
        let Some(lun) = self.lun(&svm, &name).await? else {
            return if hosts.is_empty() {
                Ok(AccessState { key: key.to_owned(), protocol: "iscsi".into(), ..AccessState::default() })
            } else {
                Err(self.no_volume(key))
            };
        };
        let wants: BTreeMap<String, &Host> = hosts.iter().map(|h| (self.igroup_name(&h.iqn), h)).collect();
        let maps = self.maps(&svm, &name).await?;
        let what = format!("let {} hosts use {name}", hosts.len());
        for map in &maps {
            let igroup = text(map, "/igroup/name").unwrap_or_default();
            if wants.contains_key(&igroup) {
                continue;
            }
            let ids = text(map, "/lun/uuid").zip(text(map, "/igroup/uuid")).ok_or_else(|| self.rest.odd(&what, map))?;
            let path = format!("/api/protocols/san/lun-maps/{}/{}", ids.0, ids.1);
            self.call(&what, Method::DELETE, &path, &[], None).await?;
            // Igroups that are not ours are left alone.
            if igroup.starts_with(&format!("{}_", self.rest.access.prefix())) {
                self.igroup_tidy(&svm, &igroup).await?;
            }
        }
        for (igroup, host) in &wants {
            self.igroup_ensure(&svm, host).await?;
            self.credentials(&svm, host).await?;
            if !maps.iter().any(|m| text(m, "/igroup/name").as_ref() == Some(igroup)) {
                let body = json!({
                    "svm": {"name": svm.name}, "lun": {"name": text(&lun, "/name")}, "igroup": {"name": igroup},
                });
                self.call(&what, Method::POST, "/api/protocols/san/lun-maps", &[], Some(body)).await?;
            }
        }
        let after = self.maps(&svm, &name).await?;
        let mut answers = Vec::new();
        for map in &after {
            let igroup = text(map, "/igroup/name").unwrap_or_default();
            let host =
                wants.get(&igroup).ok_or_else(|| self.rest.failed(&what, &format!("{igroup} may still use it")))?;
            let lun = number(map, "/logical_unit_number").and_then(|n| u32::try_from(n).ok());
            answers.push(HostAccess { iqn: host.iqn.clone(), lun, target: None });
        }
        if answers.len() != wants.len() {
            return Err(self.rest.failed(&what, "not all of them may use it afterwards"));
        }
        answers.sort_by(|a, b| a.iqn.cmp(&b.iqn));
        Ok(AccessState {
            key: key.to_owned(),
            protocol: "iscsi".into(),
            target: self.target(&svm).await?,
            portals: self.portals(&svm, "data_iscsi", "iscsi", 3260).await?,
            hosts: answers,
        })
    }
}
