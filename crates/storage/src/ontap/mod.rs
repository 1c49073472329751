//! NetApp ONTAP 9.8 or later over its REST interface (`/api`, HTTP basic authentication).
//!
//! A volume is one LUN in a FlexVol of its own, so that a snapshot is of it alone; a host is an igroup with its initiator. Changes answer
//! 202 with a job that is waited for. Source: NetApp, "ONTAP REST API reference" (`storage/volumes`, `storage/luns`, `protocols/san`,
//! `protocols/nfs/export-policies`, `protocols/s3`).

mod block;
mod file;
mod object;
mod snapshots;

use std::time::Duration;

use async_trait::async_trait;
use model::storage::{Capacity, PoolFacts, Portal, StorageFacts, StorageFeatures, Technology};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    Access, Array, Block, File, Object, Probe, Snapshots, StorageError,
    http::{Rest, list, number, text},
    plan::{NameRule, object_name},
};

/// Names of volumes and igroups.
const NAMES: NameRule = NameRule { longest: 90, others: "_", lower: false };
/// Longest wait for a job.
const JOB: Duration = Duration::from_mins(10);

/// A cluster, of which one storage virtual machine is used.
pub struct Ontap {
    rest: Rest,
    turn: tokio::sync::Mutex<()>,
}

/// The storage virtual machine.
struct Svm {
    name: String,
    uuid: String,
}

impl Ontap {
    /// A driver over HTTPS.
    pub fn new(access: Access) -> Result<Self, StorageError> {
        Ok(Self { rest: Rest::new(access, 443)?, turn: tokio::sync::Mutex::default() })
    }

    fn name(&self, key: &str) -> String {
        object_name(self.rest.access.prefix(), key, NAMES)
    }

    /// A call that must succeed. Jobs are waited for.
    async fn call(
        &self,
        what: &str,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Value, StorageError> {
        let access = &self.rest.access;
        let mut request = self.rest.request(method, path, query).basic_auth(&access.username, Some(&access.secret.0));
        if let Some(body) = &body {
            request = request.json(body);
        }
        let reply = self.rest.send(what, request).await?;
        match reply.status {
            StatusCode::UNAUTHORIZED => Err(self.rest.unauthorized()),
            StatusCode::ACCEPTED => match text(&reply.body, "/job/uuid") {
                Some(uuid) => self.job(what, &uuid).await.map(|()| reply.body),
                None => Err(self.rest.odd(what, &reply.body)),
            },
            status if status.is_success() => Ok(reply.body),
            status => {
                let said = text(&reply.body, "/error/message").unwrap_or_default();
                Err(self.rest.rejected(what, status, &said))
            }
        }
    }

    async fn job(&self, what: &str, uuid: &str) -> Result<(), StorageError> {
        let access = &self.rest.access;
        let (end, mut pause) = (Instant::now() + JOB, Duration::from_millis(100));
        loop {
            let path = format!("/api/cluster/jobs/{uuid}");
            let query = [("fields", "state,message,error")];
            let request =
                self.rest.request(Method::GET, &path, &query).basic_auth(&access.username, Some(&access.secret.0));
            let job = self.rest.send(what, request).await?.body;
            let said = text(&job, "/error/message").or_else(|| text(&job, "/message")).unwrap_or_default();
            match job.get("state").and_then(Value::as_str) {
                Some("success") => return Ok(()),
                Some("failure" | "error") => {
                    return Err(self.rest.rejected(what, StatusCode::UNPROCESSABLE_ENTITY, &said));
                }
                _ if Instant::now() > end => return Err(self.rest.failed(what, "its job did not end in time")),
                _ => tokio::time::sleep(pause).await,
            }
            pause = Ord::min(pause * 2, Duration::from_secs(3));
        }
    }

    async fn records(&self, what: &str, path: &str, query: &[(&str, &str)]) -> Result<Vec<Value>, StorageError> {
        let body = self.call(what, Method::GET, path, query, None).await?;
        Ok(list(&body, "/records").to_vec())
    }

    /// The only record that a question finds.
    async fn one(&self, what: &str, path: &str, query: &[(&str, &str)]) -> Result<Option<Value>, StorageError> {
        Ok(self.records(what, path, query).await?.into_iter().next())
    }

    /// The storage virtual machine: that of the option, or the only one.
    async fn svm(&self) -> Result<Svm, StorageError> {
        let wanted = self.rest.access.text("svm").or_else(|| self.rest.access.text("volumeName"));
        let all =
            self.records("list storage virtual machines", "/api/svm/svms", &[("fields", "name,uuid,state")]).await?;
        let named = |v: &Value| text(v, "/name").zip(text(v, "/uuid")).map(|(name, uuid)| Svm { name, uuid });
        let mut found: Vec<Svm> = all.iter().filter_map(named).filter(|s| wanted.is_none_or(|w| s.name == w)).collect();
        match (found.len(), wanted) {
            (1, _) => Ok(found.remove(0)),
            (0, Some(wanted)) => {
                Err(self.rest.missing(format!("the storage virtual machine {wanted}"), "correct the option volumeName"))
            }
            (0, None) => Err(self.rest.missing("a storage virtual machine".into(), "create one for data")),
            _ => {
                let names: Vec<String> = found.into_iter().map(|s| s.name).collect();
                Err(self.rest.setting(format!(
                    "it has several storage virtual machines ({}); enter one of them as option volumeName",
                    names.join(", ")
                )))
            }
        }
    }

    /// The FlexVol of a key.
    async fn flexvol(&self, svm: &Svm, name: &str) -> Result<Option<Value>, StorageError> {
        let query = [
            ("name", name),
            ("svm.name", &svm.name),
            ("fields", "uuid,size,space.used,aggregates.name,nas.path,nas.export_policy.name"),
        ];
        self.one("look for a volume", "/api/storage/volumes", &query).await
    }

    /// The aggregate that new volumes go to: the pool of the order, or that with most room.
    async fn aggregate(&self, pool: Option<&str>) -> Result<String, StorageError> {
        if let Some(pool) = pool {
            return Ok(pool.to_owned());
        }
        let pools = self.pools().await?;
        let best = pools.into_iter().max_by_key(|p| p.capacity.free_bytes());
        best.map(|p| p.name).ok_or_else(|| self.rest.missing("an aggregate".into(), "create one"))
    }

    async fn pools(&self) -> Result<Vec<PoolFacts>, StorageError> {
        let query = [("fields", "name,space.block_storage,block_storage.primary.disk_class")];
        let all = self.records("list aggregates", "/api/storage/aggregates", &query).await?;
        Ok(all
            .iter()
            .map(|a| PoolFacts {
                name: text(a, "/name").unwrap_or_default(),
                capacity: Capacity {
                    total_bytes: number(a, "/space/block_storage/size").unwrap_or(0),
                    used_bytes: number(a, "/space/block_storage/used").unwrap_or(0),
                },
                media: match text(a, "/block_storage/primary/disk_class").as_deref() {
                    Some("solid_state") => "ssd".into(),
                    Some("capacity" | "performance") => "hdd".into(),
                    _ => String::new(),
                },
            })
            .collect())
    }

    /// Addresses of a service.
    async fn portals(&self, svm: &Svm, service: &str, protocol: &str, port: u16) -> Result<Vec<Portal>, StorageError> {
        let query = [
            ("svm.name", svm.name.as_str()),
            ("services", service),
            ("fields", "name,ip.address,location.node.name,enabled,state"),
        ];
        let all = self.records("list network interfaces", "/api/network/ip/interfaces", &query).await?;
        Ok(all
            .iter()
            .filter(|i| i.get("enabled") != Some(&json!(false)))
            .filter_map(|i| {
                Some(Portal {
                    name: text(i, "/name").unwrap_or_default(),
                    node: text(i, "/location/node/name").unwrap_or_default(),
                    protocol: protocol.to_owned(),
                    address: text(i, "/ip/address")?,
                    port,
                })
            })
            .collect())
    }

    /// IQN of the target, when iSCSI is on.
    async fn target(&self, svm: &Svm) -> Result<Option<String>, StorageError> {
        let query = [("svm.name", svm.name.as_str()), ("fields", "target.name,enabled")];
        let service = self.one("look for iSCSI", "/api/protocols/san/iscsi/services", &query).await?;
        Ok(service.filter(|s| s.get("enabled") != Some(&json!(false))).and_then(|s| text(&s, "/target/name")))
    }
}

#[async_trait]
impl Probe for Ontap {
    async fn facts(&self) -> Result<StorageFacts, StorageError> {
        let cluster =
            self.call("tell what it is", Method::GET, "/api/cluster", &[("fields", "name,uuid,version")], None).await?;
        let nodes = self.records("list nodes", "/api/cluster/nodes", &[("fields", "name,model,serial_number")]).await?;
        let svm = self.svm().await?;
        let pools = self.pools().await?;
        let mut facts = StorageFacts {
            serial: nodes.iter().find_map(|n| text(n, "/serial_number")).or_else(|| text(&cluster, "/uuid")),
            vendor: Some("NetApp".into()),
            model: nodes.iter().find_map(|n| text(n, "/model")),
            version: text(&cluster, "/version/full"),
            capacity: Capacity {
                total_bytes: pools.iter().map(|p| p.capacity.total_bytes).sum(),
                used_bytes: pools.iter().map(|p| p.capacity.used_bytes).sum(),
            },
            pools,
            features: StorageFeatures { snapshots: true, share_snapshots: true, clones: true, qos: true },
            tls_fingerprint: self.rest.fingerprint(),
            target_iqn: self.target(&svm).await?,
            ..StorageFacts::default()
        };
        let on = [("svm.name", svm.name.as_str()), ("fields", "enabled")];
        if facts.target_iqn.is_some() {
            facts.technologies.push(Technology::Block);
            facts.portals.extend(self.portals(&svm, "data_iscsi", "iscsi", 3260).await?);
        }
        let enabled = |v: Option<Value>| v.is_some_and(|v| v.get("enabled") != Some(&json!(false)));
        if enabled(self.one("look for NFS", "/api/protocols/nfs/services", &on).await?) {
            facts.technologies.push(Technology::File);
            facts.portals.extend(self.portals(&svm, "data_nfs", "nfs", 2049).await?);
        }
        if enabled(self.one("look for S3", "/api/protocols/s3/services", &on).await?) {
            facts.technologies.push(Technology::Object);
            facts.portals.extend(self.portals(&svm, "data_s3_server", "s3", 443).await?);
        }
        Ok(facts)
    }

    fn fingerprint(&self) -> Option<String> {
        self.rest.fingerprint()
    }

    fn refused_fingerprint(&self) -> Option<String> {
        self.rest.refused_fingerprint()
    }
}

impl Array for Ontap {
    fn block(&self) -> Option<&dyn Block> {
        Some(self)
    }
    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }
    fn file(&self) -> Option<&dyn File> {
        Some(self)
    }
    fn object(&self) -> Option<&dyn Object> {
        Some(self)
    }
}
