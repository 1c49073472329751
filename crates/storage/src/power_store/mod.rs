//! Dell PowerStore over its REST interface (`/api/rest`). A session begins with HTTP basic authentication and goes on with a cookie and the
//! token `DELL-EMC-TOKEN`. Source: Dell, "PowerStore REST API Reference Guide" (volume, host, host_volume_mapping, ip_pool_address,
//! file_system, nfs_export, metrics).

mod block;
mod file;

use async_trait::async_trait;
use model::storage::{Capacity, PoolFacts, Portal, StorageFacts, StorageFeatures, Technology};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{
    Access, Array, Block, File, Probe, Snapshots, StorageError,
    http::{Reply, Rest, list, number, text},
    plan::{NameRule, object_name},
};

/// Names of all objects.
const NAMES: NameRule = NameRule { longest: 120, others: "-", lower: true };
/// Header with the token against forged requests.
const TOKEN: &str = "DELL-EMC-TOKEN";

#[derive(Clone)]
struct Session {
    cookie: String,
    token: String,
}

/// A cluster.
pub struct PowerStore {
    rest: Rest,
    session: Mutex<Option<Session>>,
    turn: Mutex<()>,
}

impl PowerStore {
    /// A driver over HTTPS.
    pub fn new(access: Access) -> Result<Self, StorageError> {
        Ok(Self { rest: Rest::new(access, 443)?, session: Mutex::default(), turn: Mutex::default() })
    }

    fn name(&self, key: &str) -> String {
        object_name(self.rest.access.prefix(), key, NAMES)
    }

    async fn login(&self) -> Result<Session, StorageError> {
        let mut session = self.session.lock().await;
        if let Some(session) = session.as_ref() {
            return Ok(session.clone());
        }
        let access = &self.rest.access;
        let request = self
            .rest
            .request(Method::GET, "/api/rest/login_session", &[])
            .basic_auth(&access.username, Some(&access.secret.0));
        let reply = self.rest.send("log in", request).await?;
        if matches!(reply.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(self.rest.unauthorized());
        }
        let cookies: Vec<&str> = reply
            .headers
            .get_all(header::SET_COOKIE)
            .iter()
            .filter_map(|c| c.to_str().ok()?.split(';').next())
            .collect();
        let token = reply.headers.get(TOKEN).and_then(|t| t.to_str().ok());
        let (Some(token), false) = (token, cookies.is_empty()) else {
            return Err(self.rest.odd("log in", &reply.body));
        };
        let new = Session { cookie: cookies.join("; "), token: token.to_owned() };
        *session = Some(new.clone());
        Ok(new)
    }

    async fn send(
        &self,
        what: &str,
        method: &Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Reply, StorageError> {
        let mut again = true;
        loop {
            let session = self.login().await?;
            let mut request = self
                .rest
                .request(method.clone(), &format!("/api/rest/{path}"), query)
                .header(header::COOKIE, &session.cookie)
                .header(TOKEN, &session.token);
            if let Some(body) = body {
                request = request.json(body);
            }
            let reply = self.rest.send(what, request).await?;
            if reply.status == StatusCode::UNAUTHORIZED {
                // A session ends after a while.
                *self.session.lock().await = None;
                if std::mem::take(&mut again) {
                    continue;
                }
                return Err(self.rest.unauthorized());
            }
            return Ok(reply);
        }
    }

    async fn call(
        &self,
        what: &str,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Value, StorageError> {
        let reply = self.send(what, &method, path, query, body.as_ref()).await?;
        if reply.status.is_success() {
            return Ok(reply.body);
        }
        let said: Vec<String> =
            list(&reply.body, "/messages").iter().filter_map(|m| text(m, "/message_l10n")).collect();
        Err(self.rest.rejected(what, reply.status, &said.join(" ")))
    }

    /// The objects that a question finds.
    async fn find(&self, what: &str, path: &str, query: &[(&str, &str)]) -> Result<Vec<Value>, StorageError> {
        match self.call(what, Method::GET, path, query, None).await? {
            Value::Array(all) => Ok(all),
            other => Err(self.rest.odd(what, &other)),
        }
    }

    async fn named(&self, what: &str, path: &str, name: &str, select: &str) -> Result<Option<Value>, StorageError> {
        let query = [("select", select), ("name", &format!("eq.{name}"))];
        Ok(self.find(what, path, &query).await?.into_iter().next())
    }

    /// Ports of iSCSI, and the name of the first target.
    async fn targets(&self) -> Result<(Option<String>, Vec<Portal>), StorageError> {
        let query = [
            ("select", "id,name,address,purposes,appliance_id,node_id,ip_port(target_iqn)"),
            ("purposes", "cs.{Storage_Iscsi_Target}"),
        ];
        let all = self.find("list iSCSI targets", "ip_pool_address", &query).await?;
        let iqn = all.iter().find_map(|a| text(a, "/ip_port/target_iqn"));
        let portals = all
            .iter()
            .filter_map(|a| {
                Some(Portal {
                    name: text(a, "/name").unwrap_or_default(),
                    node: text(a, "/node_id").or_else(|| text(a, "/appliance_id")).unwrap_or_default(),
                    protocol: "iscsi".into(),
                    address: text(a, "/address")?,
                    port: 3260,
                })
            })
            .collect();
        Ok((iqn, portals))
    }
}

#[async_trait]
impl Probe for PowerStore {
    async fn facts(&self) -> Result<StorageFacts, StorageError> {
        let appliances = self.find("tell what it is", "appliance", &[("select", "id,name,service_tag,model")]).await?;
        let software = [("select", "release_version,is_cluster"), ("is_cluster", "eq.true")];
        let software = self.find("tell its version", "software_installed", &software).await?;
        let mut pools = Vec::new();
        for appliance in &appliances {
            let id = text(appliance, "/id").unwrap_or_default();
            let body = json!({"entity": "space_metrics_by_appliance", "entity_id": id, "interval": "Best_Available"});
            let metrics = self.call("measure its room", Method::POST, "metrics/generate", &[], Some(body)).await?;
            let last = metrics.as_array().and_then(|m| m.last()).cloned().unwrap_or_default();
            pools.push(PoolFacts {
                name: id,
                capacity: Capacity {
                    total_bytes: number(&last, "/physical_total").unwrap_or(0),
                    used_bytes: number(&last, "/physical_used").unwrap_or(0),
                },
                media: "nvme".into(),
            });
        }
        let (target_iqn, portals) = self.targets().await?;
        let mut facts = StorageFacts {
            serial: appliances.iter().find_map(|a| text(a, "/service_tag")),
            vendor: Some("Dell".into()),
            model: appliances.iter().find_map(|a| text(a, "/model")),
            version: software.iter().find_map(|s| text(s, "/release_version")),
            capacity: Capacity {
                total_bytes: pools.iter().map(|p| p.capacity.total_bytes).sum(),
                used_bytes: pools.iter().map(|p| p.capacity.used_bytes).sum(),
            },
            pools,
            technologies: vec![Technology::Block],
            portals,
            target_iqn,
            features: StorageFeatures { snapshots: true, share_snapshots: false, clones: true, qos: false },
            tls_fingerprint: self.rest.fingerprint(),
            ..StorageFacts::default()
        };
        // A model without file services has no NAS server.
        if let Some(portal) = self.nas_portals().await?.into_iter().next() {
            facts.technologies.push(Technology::File);
            facts.portals.push(portal);
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

impl Array for PowerStore {
    fn block(&self) -> Option<&dyn Block> {
        Some(self)
    }
    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }
    fn file(&self) -> Option<&dyn File> {
        Some(self)
    }
}
