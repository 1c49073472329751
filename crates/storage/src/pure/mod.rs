//! Pure Storage FlashArray over REST 2 (`/api/2.x`). An API token buys a session whose token goes with each request. Source: Pure Storage,
//! "FlashArray REST API 2.x Reference" (volumes, hosts, connections, volume-snapshots, ports, arrays).

mod block;

use async_trait::async_trait;
use model::storage::{BlockProtocol, Capacity, PoolFacts, Portal, StorageFacts, StorageFeatures, Technology};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::{
    Access, Array, Block, Probe, Snapshots, StorageError,
    http::{Rest, list, number, text},
    plan::{NameRule, object_name},
};

/// Names of volumes, hosts and suffixes of snapshots.
const NAMES: NameRule = NameRule { longest: 60, others: "-", lower: true };
/// Header with the token of a session.
const TOKEN: &str = "x-auth-token";

#[derive(Clone)]
struct Session {
    version: String,
    token: String,
}

/// An array.
pub struct Pure {
    rest: Rest,
    session: Mutex<Option<Session>>,
    turn: Mutex<()>,
}

impl Pure {
    /// A driver over HTTPS.
    pub fn new(access: Access) -> Result<Self, StorageError> {
        if access.protocol.is_some_and(|p| !matches!(p, BlockProtocol::Iscsi | BlockProtocol::NvmeTcp)) {
            return Err(StorageError::Unsupported {
                storage: access.name.clone(),
                driver: "pure".into(),
                what: "Fibre Channel in this version".into(),
            });
        }
        Ok(Self { rest: Rest::new(access, 443)?, session: Mutex::default(), turn: Mutex::default() })
    }

    fn name(&self, key: &str) -> String {
        object_name(self.rest.access.prefix(), key, NAMES)
    }

    fn nvme(&self) -> bool {
        self.rest.access.protocol == Some(BlockProtocol::NvmeTcp)
    }

    async fn login(&self) -> Result<Session, StorageError> {
        let mut session = self.session.lock().await;
        if let Some(session) = session.as_ref() {
            return Ok(session.clone());
        }
        let versions =
            self.rest.send("tell its versions", self.rest.request(Method::GET, "/api/api_version", &[])).await?;
        // Minor versions of REST 2 only add.
        let newest = list(&versions.body, "/version")
            .iter()
            .filter_map(|v| v.as_str()?.strip_prefix("2.")?.parse::<u32>().ok())
            .max();
        let Some(minor) = newest else {
            return Err(self.rest.setting("it does not speak REST 2; Purity 6.0 or later is needed".into()));
        };
        let version = format!("2.{minor}");
        let request = self
            .rest
            .request(Method::POST, &format!("/api/{version}/login"), &[])
            .header("api-token", &self.rest.access.secret.0);
        let reply = self.rest.send("log in", request).await?;
        let token = reply.headers.get(TOKEN).and_then(|t| t.to_str().ok()).map(str::to_owned);
        match token {
            Some(token) if reply.status.is_success() => {
                let new = Session { version, token };
                *session = Some(new.clone());
                Ok(new)
            }
            _ if reply.status.is_client_error() => Err(self.rest.unauthorized()),
            _ => Err(self.rest.odd("log in", &reply.body)),
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
        let mut again = true;
        loop {
            let session = self.login().await?;
            let path = format!("/api/{}/{path}", session.version);
            let mut request = self.rest.request(method.clone(), &path, query).header(TOKEN, &session.token);
            if let Some(body) = &body {
                request = request.json(body);
            }
            let reply = self.rest.send(what, request).await?;
            if reply.status.is_success() {
                return Ok(reply.body);
            }
            if reply.status == StatusCode::UNAUTHORIZED {
                // A session ends after half an hour without requests.
                *self.session.lock().await = None;
                if std::mem::take(&mut again) {
                    continue;
                }
                return Err(self.rest.unauthorized());
            }
            let said: Vec<String> = list(&reply.body, "/errors")
                .iter()
                .filter_map(|e| {
                    let message = text(e, "/message")?;
                    Some(text(e, "/context").map_or_else(|| message.clone(), |c| format!("{c}: {message}")))
                })
                .collect();
            return Err(self.rest.rejected(what, reply.status, &said.join(" ")));
        }
    }

    async fn items(&self, what: &str, path: &str, query: &[(&str, &str)]) -> Result<Vec<Value>, StorageError> {
        let body = self.call(what, Method::GET, path, query, None).await?;
        Ok(list(&body, "/items").to_vec())
    }

    /// The object of a name. Asked for by filter, for the array calls it an error when a name is not there.
    async fn named(&self, what: &str, path: &str, name: &str) -> Result<Option<Value>, StorageError> {
        Ok(self.items(what, path, &[("filter", &format!("name='{name}'"))]).await?.into_iter().next())
    }

    /// Ports, and the name of the target on them.
    async fn ports(&self) -> Result<(Option<String>, Vec<Portal>), StorageError> {
        let (field, protocol, usual) = if self.nvme() { ("/nqn", "nvme_tcp", 4420) } else { ("/iqn", "iscsi", 3260) };
        let all = self.items("list ports", "ports", &[]).await?;
        let ours: Vec<&Value> =
            all.iter().filter(|p| text(p, field).is_some() && text(p, "/portal").is_some()).collect();
        let portals = ours
            .iter()
            .filter_map(|p| {
                let (address, port) = place(&text(p, "/portal")?, usual);
                let name = text(p, "/name").unwrap_or_default();
                let node = name.split('.').next().unwrap_or_default().to_owned();
                Some(Portal { name, node, protocol: protocol.into(), address, port })
            })
            .collect();
        Ok((ours.first().and_then(|p| text(p, field)), portals))
    }
}

/// Address and port of `10.0.0.1:3260` or `[fd00::1]:3260`.
fn place(portal: &str, usual: u16) -> (String, u16) {
    match portal.rsplit_once(':') {
        Some((address, port)) if !address.contains(':') || address.ends_with(']') => {
            (address.trim_matches(['[', ']']).to_owned(), port.parse().unwrap_or(usual))
        }
        _ => (portal.trim_matches(['[', ']']).to_owned(), usual),
    }
}

#[async_trait]
impl Probe for Pure {
    async fn facts(&self) -> Result<StorageFacts, StorageError> {
        let array = self.items("tell what it is", "arrays", &[]).await?.into_iter().next().unwrap_or_default();
        let controllers = self.items("list controllers", "controllers", &[]).await?;
        let (target, portals) = self.ports().await?;
        let capacity = Capacity {
            total_bytes: number(&array, "/capacity").unwrap_or(0),
            used_bytes: number(&array, "/space/total_physical").unwrap_or(0),
        };
        let (target_iqn, target_nqn) = if self.nvme() { (None, target) } else { (target, None) };
        Ok(StorageFacts {
            serial: text(&array, "/id"),
            vendor: Some("Pure Storage".into()),
            model: controllers.iter().find_map(|c| text(c, "/model")),
            version: text(&array, "/version"),
            capacity,
            pools: vec![PoolFacts { name: text(&array, "/name").unwrap_or_default(), capacity, media: "nvme".into() }],
            technologies: vec![Technology::Block],
            portals,
            target_iqn,
            target_nqn,
            features: StorageFeatures { snapshots: true, share_snapshots: false, clones: true, qos: true },
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

impl Array for Pure {
    fn block(&self) -> Option<&dyn Block> {
        Some(self)
    }
    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn portals_are_taken_apart() {
        assert_eq!(super::place("10.0.0.1:3260", 1), ("10.0.0.1".into(), 3260));
        assert_eq!(super::place("[fd00::1]:3260", 1), ("fd00::1".into(), 3260));
        assert_eq!(super::place("10.0.0.1", 4420), ("10.0.0.1".into(), 4420));
    }
}
