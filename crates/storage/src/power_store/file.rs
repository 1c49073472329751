//! File systems of a NAS server and their NFS exports.

use std::collections::BTreeSet;

use async_trait::async_trait;
use model::storage::{Portal, Share, ShareState};
use reqwest::Method;
use serde_json::{Value, json};

use super::PowerStore;
use crate::{
    File, StorageError,
    http::{list, number, text},
    plan::{growth, round_up},
};

/// PowerStore makes no file system that is smaller.
const SMALLEST: u64 = 3 << 30;
const UNIT: u64 = 8192;

fn id(value: &Value) -> String {
    text(value, "/id").unwrap_or_default()
}

impl PowerStore {
    async fn nas_server(&self) -> Result<Option<Value>, StorageError> {
        let all = self.find("list NAS servers", "nas_server", &[("select", "id,name")]).await?;
        let wanted = self.rest.access.text("volumeName");
        let mut found: Vec<Value> =
            all.into_iter().filter(|n| wanted.is_none_or(|w| text(n, "/name").as_deref() == Some(w))).collect();
        if found.len() > 1 {
            return Err(self
                .rest
                .setting("it has several NAS servers; enter the name of one as option volumeName".into()));
        }
        Ok(found.pop())
    }

    pub(super) async fn nas_portals(&self) -> Result<Vec<Portal>, StorageError> {
        let Some(server) = self.nas_server().await? else { return Ok(Vec::new()) };
        let query = [("select", "id,name,ip_address"), ("nas_server_id", &format!("eq.{}", id(&server)))];
        let all = self.find("list file interfaces", "file_interface", &query).await?;
        Ok(all
            .iter()
            .filter_map(|i| {
                Some(Portal {
                    name: text(i, "/name").unwrap_or_default(),
                    node: text(&server, "/name").unwrap_or_default(),
                    protocol: "nfs".into(),
                    address: text(i, "/ip_address")?,
                    port: 2049,
                })
            })
            .collect())
    }

    async fn file_system(&self, name: &str) -> Result<Option<Value>, StorageError> {
        self.named("look for a file system", "file_system", name, "id,name,size_total,size_used").await
    }

    async fn nfs_export(&self, name: &str) -> Result<Option<Value>, StorageError> {
        let select =
            "id,name,path,default_access,read_write_root_hosts,read_write_hosts,read_only_hosts,read_only_root_hosts";
        self.named("look for an export", "nfs_export", name, select).await
    }
}

/// An address without the prefix length that PowerStore adds.
fn address(text: &str) -> String {
    text.split('/').next().unwrap_or_default().to_owned()
}

#[async_trait]
impl File for PowerStore {
    async fn share_ensure(&self, share: &Share) -> Result<ShareState, StorageError> {
        let name = self.name(&share.key);
        let what = format!("make the share {name}");
        let wanted = Ord::max(share.size_bytes, SMALLEST);
        let server =
            self.nas_server().await?.ok_or_else(|| self.rest.missing("a NAS server".into(), "create one with NFS"))?;
        match self.file_system(&name).await? {
            None => {
                let body = json!({
                    "name": name, "nas_server_id": id(&server), "size_total": round_up(wanted, UNIT),
                    "description": share.name,
                });
                self.call(&what, Method::POST, "file_system", &[], Some(body)).await?;
            }
            Some(found) => {
                if let Some(size) = growth(&share.key, number(&found, "/size_total").unwrap_or(0), wanted, UNIT)? {
                    let path = format!("file_system/{}", id(&found));
                    self.call(&format!("grow {name}"), Method::PATCH, &path, &[], Some(json!({"size_total": size})))
                        .await?;
                }
            }
        }
        let system =
            self.file_system(&name).await?.ok_or_else(|| self.rest.failed(&what, "it is not there afterwards"))?;
        let wants: BTreeSet<String> = share.clients.iter().map(ToString::to_string).collect();
        match self.nfs_export(&name).await? {
            None => {
                let body = json!({
                    "name": name, "file_system_id": id(&system), "path": format!("/{name}"), "default_access": "No_Access",
                    "min_security": "Sys", "read_write_root_hosts": wants,
                });
                self.call(&what, Method::POST, "nfs_export", &[], Some(body)).await?;
            }
            Some(export) => {
                let of = |field: &str| -> BTreeSet<String> {
                    list(&export, field).iter().filter_map(Value::as_str).map(address).collect()
                };
                let others = ["/read_write_hosts", "/read_only_hosts", "/read_only_root_hosts"]
                    .iter()
                    .any(|f| !of(f).is_empty());
                let open = text(&export, "/default_access").as_deref() != Some("No_Access");
                if of("/read_write_root_hosts") != wants || others || open {
                    let body = json!({
                        "default_access": "No_Access", "read_write_root_hosts": wants, "read_write_hosts": [],
                        "read_only_hosts": [], "read_only_root_hosts": [],
                    });
                    let path = format!("nfs_export/{}", id(&export));
                    self.call(&format!("set the clients of {name}"), Method::PATCH, &path, &[], Some(body)).await?;
                }
            }
        }
        let portal = self.nas_portals().await?.into_iter().next();
        let portal = portal.ok_or_else(|| self.rest.missing("an interface of the NAS server".into(), "create one"))?;
        Ok(ShareState {
            key: share.key.clone(),
            size_bytes: number(&system, "/size_total").unwrap_or(0),
            used_bytes: number(&system, "/size_used"),
            server: portal.address,
            port: 0,
            path: format!("/{name}"),
            mount_options: "vers=4.1".into(),
        })
    }

    async fn share_delete(&self, key: &str) -> Result<(), StorageError> {
        let name = self.name(key);
        let what = format!("remove the share {name}");
        if let Some(export) = self.nfs_export(&name).await? {
            self.call(&what, Method::DELETE, &format!("nfs_export/{}", id(&export)), &[], None).await?;
        }
        if let Some(system) = self.file_system(&name).await? {
            self.call(&what, Method::DELETE, &format!("file_system/{}", id(&system)), &[], None).await?;
        }
        Ok(())
    }
}
