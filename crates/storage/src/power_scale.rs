//! Dell PowerScale (OneFS) over its platform and namespace interfaces, port 8080: a share is a directory with a hard quota and an NFS
//! export. Source: Dell, "PowerScale OneFS API Reference" (session, namespace, quota/quotas, protocols/nfs/exports, job/jobs).
//!
//! An export without clients is open to everybody in OneFS: a share that nobody may use has no export at all.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use model::storage::{Capacity, PoolFacts, Portal, Share, ShareState, StorageFacts, StorageFeatures, Technology};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};

use crate::{
    Access, Array, File, Probe, StorageError,
    http::{Reply, Rest, list, number, text},
    plan::{NameRule, growth, object_name},
};

const NAMES: NameRule = NameRule { longest: 100, others: "-", lower: true };
/// Directory of all shares, unless an option says another.
const ROOT: &str = "/ifs/steelyard";
const EXPORTS: &str = "/platform/4/protocols/nfs/exports";
const QUOTAS: &str = "/platform/1/quota/quotas";
/// Longest wait for a directory to be removed; the next attempt waits on.
const REMOVAL: Duration = Duration::from_mins(30);

#[derive(Clone)]
struct Session {
    cookie: String,
    csrf: String,
}

/// A cluster.
pub struct PowerScale {
    rest: Rest,
    session: Mutex<Option<Session>>,
}

impl PowerScale {
    /// A driver over HTTPS.
    pub fn new(access: Access) -> Result<Self, StorageError> {
        let root = access.text("volumeName").unwrap_or(ROOT);
        let legal = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
        if !(root.starts_with("/ifs/") && root.chars().all(legal) && !root.contains("..")) {
            return Err(StorageError::Setting {
                storage: access.name.clone(),
                reason: format!("option volumeName is {root:?}; enter a directory under /ifs, such as {ROOT}"),
            });
        }
        Ok(Self { rest: Rest::new(access, 8080)?, session: Mutex::default() })
    }

    fn path(&self, key: &str) -> String {
        let root = self.rest.access.text("volumeName").unwrap_or(ROOT).trim_end_matches('/');
        format!("{root}/{}", object_name(self.rest.access.prefix(), key, NAMES))
    }

    async fn login(&self) -> Result<Session, StorageError> {
        let mut session = self.session.lock().await;
        if let Some(session) = session.as_ref() {
            return Ok(session.clone());
        }
        let access = &self.rest.access;
        let body = json!({
            "username": access.username, "password": access.secret.0, "services": ["platform", "namespace"],
        });
        let request = self.rest.request(Method::POST, "/session/1/session", &[]).json(&body);
        let reply = self.rest.send("log in", request).await?;
        if reply.status.is_client_error() {
            return Err(self.rest.unauthorized());
        }
        let cookies: Vec<&str> = reply
            .headers
            .get_all(header::SET_COOKIE)
            .iter()
            .filter_map(|c| c.to_str().ok()?.split(';').next())
            .collect();
        let csrf = cookies.iter().find_map(|c| c.strip_prefix("isicsrf="));
        let Some(csrf) = csrf.filter(|_| cookies.iter().any(|c| c.starts_with("isisessid="))) else {
            return Err(self.rest.odd("log in", &reply.body));
        };
        let new = Session { csrf: csrf.to_owned(), cookie: cookies.join("; ") };
        *session = Some(new.clone());
        Ok(new)
    }

    async fn send(
        &self,
        what: &str,
        method: &Method,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Reply, StorageError> {
        let mut again = true;
        loop {
            let session = self.login().await?;
            let mut request = self
                .rest
                .request(method.clone(), path, query)
                .header(header::COOKIE, &session.cookie)
                .header("X-CSRF-Token", &session.csrf)
                .header(header::REFERER, format!("https://{}", self.rest.access.address));
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            let reply = self.rest.send(what, request).await?;
            if reply.status == StatusCode::UNAUTHORIZED {
                *self.session.lock().await = None;
                if std::mem::take(&mut again) {
                    continue;
                }
                return Err(self.rest.unauthorized());
            }
            return Ok(reply);
        }
    }

    fn judged(&self, what: &str, reply: Reply) -> Result<Value, StorageError> {
        if reply.status.is_success() {
            return Ok(reply.body);
        }
        let said: Vec<String> = list(&reply.body, "/errors").iter().filter_map(|e| text(e, "/message")).collect();
        Err(self.rest.rejected(what, reply.status, &said.join(" ")))
    }

    async fn call(
        &self,
        what: &str,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Value, StorageError> {
        let reply = self.send(what, &method, path, query, &[], body.as_ref()).await?;
        self.judged(what, reply)
    }

    async fn quota(&self, path: &str) -> Result<Option<Value>, StorageError> {
        let query = [("path", path), ("type", "directory")];
        let all = self.call("look for a quota", Method::GET, QUOTAS, &query, None).await?;
        Ok(list(&all, "/quotas").iter().find(|q| text(q, "/path").as_deref() == Some(path)).cloned())
    }

    async fn export(&self, path: &str) -> Result<Option<Value>, StorageError> {
        let all = self.call("look for an export", Method::GET, EXPORTS, &[("path", path)], None).await?;
        let ours = |e: &&Value| list(e, "/paths").iter().any(|p| p.as_str() == Some(path));
        Ok(list(&all, "/exports").iter().find(ours).cloned())
    }

    async fn directory_exists(&self, path: &str) -> Result<bool, StorageError> {
        let what = "look for a directory";
        let reply = self.send(what, &Method::GET, &format!("/namespace{path}"), &[("metadata", "")], &[], None).await?;
        match reply.status {
            StatusCode::NOT_FOUND => Ok(false),
            _ => self.judged(what, reply).map(|_| true),
        }
    }

    /// Exactly these clients.
    async fn clients(&self, path: &str, share: &Share) -> Result<(), StorageError> {
        let what = format!("set the clients of {path}");
        let wants: BTreeSet<String> = share.clients.iter().map(ToString::to_string).collect();
        let found = self.export(path).await?;
        let id = found.as_ref().and_then(|e| number(e, "/id"));
        match (id, wants.is_empty()) {
            (None, true) => Ok(()),
            (Some(id), true) => self.call(&what, Method::DELETE, &format!("{EXPORTS}/{id}"), &[], None).await.map(drop),
            (None, false) => {
                let body = json!({
                    "paths": [path], "clients": wants, "root_clients": wants, "description": share.name, "security_flavors": ["unix"],
                });
                self.call(&what, Method::POST, EXPORTS, &[], Some(body)).await.map(drop)
            }
            (Some(id), false) => {
                let of = |field: &str| -> BTreeSet<String> {
                    let all = found.as_ref().map(|e| list(e, field)).unwrap_or_default();
                    all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
                };
                let others = !of("/read_write_clients").is_empty() || !of("/read_only_clients").is_empty();
                if of("/clients") == wants && of("/root_clients") == wants && !others {
                    return Ok(());
                }
                let body = json!({
                    "clients": wants, "root_clients": wants, "read_write_clients": [], "read_only_clients": [],
                });
                self.call(&what, Method::PUT, &format!("{EXPORTS}/{id}"), &[], Some(body)).await.map(drop)
            }
        }
    }

    fn server(&self) -> String {
        let access = &self.rest.access;
        access.text("nfsHost").or_else(|| access.text("iscsiHost")).unwrap_or(&access.address).to_owned()
    }
}

#[async_trait]
impl Probe for PowerScale {
    async fn facts(&self) -> Result<StorageFacts, StorageError> {
        let config = self.call("tell what it is", Method::GET, "/platform/3/cluster/config", &[], None).await?;
        let keys = [("key", "ifs.bytes.total"), ("key", "ifs.bytes.used")];
        let stats = self.call("measure its room", Method::GET, "/platform/1/statistics/current", &keys, None).await?;
        let bytes = |key: &str| {
            let one = list(&stats, "/stats").iter().find(|s| text(s, "/key").as_deref() == Some(key));
            one.and_then(|s| number(s, "/value")).unwrap_or(0)
        };
        let capacity = Capacity { total_bytes: bytes("ifs.bytes.total"), used_bytes: bytes("ifs.bytes.used") };
        Ok(StorageFacts {
            serial: text(&config, "/local_serial").or_else(|| text(&config, "/guid")),
            vendor: Some("Dell".into()),
            model: Some("PowerScale".into()),
            version: text(&config, "/onefs_version/release"),
            capacity,
            pools: vec![PoolFacts { name: "ifs".into(), capacity, media: String::new() }],
            technologies: vec![Technology::File],
            portals: vec![Portal {
                name: text(&config, "/name").unwrap_or_default(),
                node: String::new(),
                protocol: "nfs".into(),
                address: self.server(),
                port: 2049,
            }],
            features: StorageFeatures::default(),
            tls_fingerprint: self.rest.fingerprint(),
            ..StorageFacts::default()
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
impl File for PowerScale {
    async fn share_ensure(&self, share: &Share) -> Result<ShareState, StorageError> {
        let path = self.path(&share.key);
        let what = format!("make the share {path}");
        if !self.directory_exists(&path).await? {
            let headers = [("x-isi-ifs-target-type", "container"), ("x-isi-ifs-access-control", "0777")];
            let query = [("recursive", "true")];
            let reply = self.send(&what, &Method::PUT, &format!("/namespace{path}"), &query, &headers, None).await?;
            self.judged(&what, reply)?;
        }
        match self.quota(&path).await? {
            None => {
                let body = json!({
                    "path": path, "type": "directory", "enforced": true, "include_snapshots": false, "container": true,
                    "thresholds_include_overhead": false, "thresholds": {"hard": share.size_bytes},
                });
                self.call(&what, Method::POST, QUOTAS, &[], Some(body)).await?;
            }
            Some(quota) => {
                let has = number(&quota, "/thresholds/hard").unwrap_or(0);
                if let Some(size) = growth(&share.key, has, share.size_bytes, 1)? {
                    let one = format!("{QUOTAS}/{}", text(&quota, "/id").unwrap_or_default());
                    self.call(&what, Method::PUT, &one, &[], Some(json!({"thresholds": {"hard": size}}))).await?;
                }
            }
        }
        // Who may use it comes last: the quota holds before the first byte.
        self.clients(&path, share).await?;
        let quota =
            self.quota(&path).await?.ok_or_else(|| self.rest.failed(&what, "the quota is not there afterwards"))?;
        Ok(ShareState {
            key: share.key.clone(),
            size_bytes: number(&quota, "/thresholds/hard").unwrap_or(0),
            used_bytes: number(&quota, "/usage/logical"),
            server: self.server(),
            port: 0,
            path,
            mount_options: "vers=4".into(),
        })
    }

    async fn share_delete(&self, key: &str) -> Result<(), StorageError> {
        let path = self.path(key);
        let what = format!("remove the share {path}");
        if let Some(id) = self.export(&path).await?.and_then(|e| number(&e, "/id")) {
            self.call(&what, Method::DELETE, &format!("{EXPORTS}/{id}"), &[], None).await?;
        }
        if let Some(quota) = self.quota(&path).await? {
            let one = format!("{QUOTAS}/{}", text(&quota, "/id").unwrap_or_default());
            self.call(&what, Method::DELETE, &one, &[], None).await?;
        }
        if !self.directory_exists(&path).await? {
            return Ok(());
        }
        // A directory with files goes by a job of the cluster.
        let body = json!({"type": "TreeDelete", "treedelete_params": {"paths": [path]}});
        let job = self.call(&what, Method::POST, "/platform/1/job/jobs", &[], Some(body)).await?;
        let id = number(&job, "/id").ok_or_else(|| self.rest.odd(&what, &job))?;
        let (end, mut pause) = (Instant::now() + REMOVAL, Duration::from_millis(200));
        while self.directory_exists(&path).await? {
            if Instant::now() > end {
                return Err(self.rest.failed(&what, &format!("its job {id} has not removed all files yet")));
            }
            tokio::time::sleep(pause).await;
            pause = Ord::min(pause * 2, Duration::from_secs(10));
        }
        Ok(())
    }
}

impl Array for PowerScale {
    fn file(&self) -> Option<&dyn File> {
        Some(self)
    }
}
