//! FlexVols that are exported over NFS, each with an export policy of its own.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use model::storage::{Share, ShareState};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Ontap, Svm};
use crate::{
    File, StorageError,
    http::{list, number, text},
    plan::{difference, growth, round_up},
};

const POLICIES: &str = "/api/protocols/nfs/export-policies";
/// ONTAP makes no volume that is smaller.
const SMALLEST: u64 = 20 << 20;
const UNIT: u64 = 1 << 20;

impl Ontap {
    async fn policy(&self, svm: &Svm, name: &str) -> Result<Option<Value>, StorageError> {
        let query = [("name", name), ("svm.name", &svm.name), ("fields", "id,rules.index,rules.clients")];
        self.one("look for an export policy", POLICIES, &query).await
    }

    /// Exactly these clients, one rule each.
    async fn clients(&self, svm: &Svm, name: &str, share: &Share) -> Result<(), StorageError> {
        let what = format!("set the clients of {name}");
        let policy = match self.policy(svm, name).await? {
            Some(policy) => policy,
            None => {
                let body = json!({"name": name, "svm": {"name": svm.name}});
                self.call(&what, Method::POST, POLICIES, &[], Some(body)).await?;
                self.policy(svm, name).await?.ok_or_else(|| self.rest.failed(&what, "the policy is not there"))?
            }
        };
        let id = number(&policy, "/id").ok_or_else(|| self.rest.odd(&what, &policy))?;
        let mut rules: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for rule in list(&policy, "/rules") {
            let clients: Vec<String> = list(rule, "/clients").iter().filter_map(|c| text(c, "/match")).collect();
            rules.entry(clients.join(",")).or_default().push(number(rule, "/index").unwrap_or(0));
        }
        let has: BTreeSet<String> = rules.keys().cloned().collect();
        let wants: BTreeSet<String> = share.clients.iter().map(ToString::to_string).collect();
        let change = difference(&has, &wants);
        // Indexes move up when one goes: from the highest.
        let mut gone: Vec<u64> = change.remove.iter().flat_map(|c| rules[c].iter().copied()).collect();
        gone.sort_unstable_by(|a, b| b.cmp(a));
        for index in gone {
            self.call(&what, Method::DELETE, &format!("{POLICIES}/{id}/rules/{index}"), &[], None).await?;
        }
        for client in change.add {
            let body = json!({
                "clients": [{"match": client}], "protocols": ["nfs"], "ro_rule": ["sys"], "rw_rule": ["sys"],
                "superuser": ["sys"],
            });
            self.call(&what, Method::POST, &format!("{POLICIES}/{id}/rules"), &[], Some(body)).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl File for Ontap {
    async fn share_ensure(&self, share: &Share) -> Result<ShareState, StorageError> {
        let svm = self.svm().await?;
        let name = self.name(&share.key);
        let wanted = Ord::max(share.size_bytes, SMALLEST);
        // The policy comes first: nobody sees the share before its clients are known.
        self.clients(&svm, &name, share).await?;
        let what = format!("make the share {name}");
        match self.flexvol(&svm, &name).await? {
            None => {
                let aggregate = self.aggregate(share.pool.as_deref()).await?;
                let body = json!({
                    "name": name, "svm": {"name": svm.name}, "aggregates": [{"name": aggregate}],
                    "size": round_up(wanted, UNIT), "guarantee": {"type": "none"}, "comment": share.name,
                    "space": {"snapshot": {"reserve_percent": 0}}, "snapshot_policy": {"name": "none"},
                    "nas": {
                        "path": format!("/{name}"), "security_style": "unix", "unix_permissions": 777,
                        "export_policy": {"name": name},
                    },
                });
                self.call(&what, Method::POST, "/api/storage/volumes", &[], Some(body)).await?;
            }
            Some(flexvol) => {
                let path = format!("/api/storage/volumes/{}", text(&flexvol, "/uuid").unwrap_or_default());
                if let Some(size) = growth(&share.key, number(&flexvol, "/size").unwrap_or(0), wanted, UNIT)? {
                    self.call(&format!("grow {name}"), Method::PATCH, &path, &[], Some(json!({"size": size}))).await?;
                }
                if text(&flexvol, "/nas/export_policy/name").as_ref() != Some(&name) {
                    let body = json!({"nas": {"export_policy": {"name": name}}});
                    self.call(&what, Method::PATCH, &path, &[], Some(body)).await?;
                }
            }
        }
        let flexvol =
            self.flexvol(&svm, &name).await?.ok_or_else(|| self.rest.failed(&what, "it is not there afterwards"))?;
        let portals = self.portals(&svm, "data_nfs", "nfs", 2049).await?;
        let server = portals.first().map(|p| p.address.clone()).ok_or_else(|| {
            self.rest.missing("a network interface for NFS".into(), "create one with the service data_nfs")
        })?;
        Ok(ShareState {
            key: share.key.clone(),
            size_bytes: number(&flexvol, "/size").unwrap_or(0),
            used_bytes: number(&flexvol, "/space/used"),
            server,
            port: 0,
            path: text(&flexvol, "/nas/path").unwrap_or_else(|| format!("/{name}")),
            mount_options: "vers=4.1".into(),
        })
    }

    async fn share_delete(&self, key: &str) -> Result<(), StorageError> {
        let svm = self.svm().await?;
        let name = self.name(key);
        let what = format!("remove the share {name}");
        if let Some(flexvol) = self.flexvol(&svm, &name).await? {
            let path = format!("/api/storage/volumes/{}", text(&flexvol, "/uuid").unwrap_or_default());
            self.call(&what, Method::DELETE, &path, &[], None).await?;
        }
        if let Some(policy) = self.policy(&svm, &name).await? {
            let id = number(&policy, "/id").ok_or_else(|| self.rest.odd(&what, &policy))?;
            self.call(&what, Method::DELETE, &format!("{POLICIES}/{id}"), &[], None).await?;
        }
        Ok(())
    }
}
