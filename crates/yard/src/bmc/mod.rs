//! A Redfish BMC: one HTTPS service per server, on the server's one state.

pub mod attributes;
pub mod bios;
pub mod chassis;
pub mod error;
pub mod events;
pub mod manager;
pub mod odata;
pub mod raid;
pub mod service;
pub mod system;
pub mod update;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hyper::{Method, StatusCode, header};
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::error::Fault;
use crate::{
    YardError,
    config::{Password, YardConfig},
    fault::{Action, Face},
    hardware::Vendor,
    httpd::{Device, Incomer, Reply},
    server::Server,
    tls::Identity,
    world::World,
};

/// Entries of the system event log that are kept.
const LOG_ENTRIES: usize = 200;
/// Sessions without use end after this time.
const SESSION_IDLE: Duration = Duration::from_mins(10);
/// Most sessions at one time.
const SESSIONS: usize = 64;

/// A user account.
#[derive(Clone, Serialize, Deserialize)]
pub struct Account {
    /// Id in the collection.
    pub id: String,
    /// User name.
    pub user: String,
    /// Password.
    pub password: Password,
    /// `Administrator`, `Operator` or `ReadOnly`.
    pub role: String,
    /// May log in.
    pub enabled: bool,
}

/// A session.
pub struct Session {
    /// Id in the collection.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// Last use.
    pub used: Instant,
}

/// An entry of the system event log.
#[derive(Clone, Serialize, Deserialize)]
pub struct LogEntry {
    /// Number.
    pub id: u64,
    /// When, RFC 3339.
    pub created: String,
    /// `OK`, `Warning` or `Critical`.
    pub severity: String,
    /// Text.
    pub message: String,
}

/// A virtual drive.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Media {
    /// URL of the inserted image.
    pub image: Option<String>,
    /// Read only.
    pub write_protected: bool,
}

fn last_state() -> String {
    "LastState".into()
}

/// What a BMC keeps, also over its own reset.
#[derive(Clone, Serialize, Deserialize)]
pub struct BmcState {
    /// Accounts.
    pub accounts: Vec<Account>,
    /// Virtual drives by id.
    pub media: BTreeMap<String, Media>,
    /// System event log, oldest first.
    pub sel: Vec<LogEntry>,
    /// `Off`, `Lit` or `Blinking`.
    pub indicator: String,
    /// Asset tag.
    pub asset_tag: String,
    /// What is done when power comes back: `AlwaysOn`, `AlwaysOff` or `LastState`.
    #[serde(default = "last_state")]
    pub power_restore: String,
    /// Resets so far.
    pub resets: u64,
    /// Versions of parts that were written since the factory, by part.
    #[serde(default)]
    pub firmware: BTreeMap<String, String>,
    /// Versions that wait for the next self test.
    #[serde(default)]
    pub staged: BTreeMap<String, String>,
    /// Updates, oldest first.
    #[serde(default)]
    pub tasks: Vec<update::Task>,
    #[serde(default)]
    next_task: u64,
    /// Settings of the firmware.
    #[serde(default = "bios::factory")]
    pub bios: BTreeMap<String, Value>,
    /// Settings that wait for the next self test.
    #[serde(default)]
    pub bios_pending: BTreeMap<String, Value>,
    /// Volumes of the RAID controller.
    #[serde(default)]
    pub volumes: Vec<raid::Volume>,
    /// Changes of volumes that wait for the next self test.
    #[serde(default)]
    pub volumes_pending: Vec<raid::Change>,
    #[serde(default)]
    next_volume: u64,
    /// Somebody has put keys into the trusted platform module.
    #[serde(default)]
    pub tpm_owned: bool,
    /// Somebody has put keys of secure boot in place of the factory's.
    #[serde(default)]
    pub own_keys: bool,
    /// They go at the next self test.
    #[serde(default)]
    pub keys_pending: bool,
    /// SNMP agent is on.
    #[serde(default)]
    pub snmp: bool,
    /// VNC server is on, where there is one.
    #[serde(default)]
    pub vnc: bool,
    /// Its password.
    #[serde(default = "no_password")]
    pub vnc_password: Password,
    /// Where events are sent, by syslog.
    #[serde(default)]
    pub syslog: Vec<String>,
    /// Who is told of events.
    #[serde(default)]
    pub subscriptions: Vec<events::Subscription>,
    #[serde(default)]
    next_subscription: u64,
    /// Parts that are not well: `Warning` or `Critical` by the part's short name.
    #[serde(default)]
    pub health: BTreeMap<String, String>,
    next_entry: u64,
}

fn no_password() -> Password {
    Password(String::new())
}

impl BmcState {
    /// As it leaves the factory.
    pub fn factory(config: &YardConfig) -> Self {
        Self {
            accounts: vec![Account {
                id: "2".into(),
                user: config.bmc_user.clone(),
                password: config.bmc_password.clone(),
                role: "Administrator".into(),
                enabled: true,
            }],
            media: BTreeMap::from([("CD".to_owned(), Media::default()), ("USB".to_owned(), Media::default())]),
            sel: Vec::new(),
            indicator: "Off".into(),
            asset_tag: String::new(),
            power_restore: last_state(),
            resets: 0,
            firmware: BTreeMap::new(),
            staged: BTreeMap::new(),
            tasks: Vec::new(),
            next_task: 0,
            bios: bios::factory(),
            bios_pending: BTreeMap::new(),
            volumes: Vec::new(),
            volumes_pending: Vec::new(),
            next_volume: 0,
            tpm_owned: false,
            own_keys: false,
            keys_pending: false,
            snmp: false,
            vnc: false,
            vnc_password: no_password(),
            syslog: Vec::new(),
            subscriptions: Vec::new(),
            next_subscription: 0,
            health: BTreeMap::new(),
            next_entry: 1,
        }
    }

    /// Writes into the system event log.
    pub fn log(&mut self, severity: &str, message: impl Into<String>) {
        if self.sel.len() == LOG_ENTRIES {
            self.sel.remove(0);
        }
        let entry = LogEntry {
            id: self.next_entry,
            created: crate::events::now(),
            severity: severity.to_owned(),
            message: message.into(),
        };
        self.next_entry += 1;
        self.sel.push(entry);
    }

    /// URL of the image in the virtual CD.
    pub fn inserted_image(&self) -> Option<String> {
        self.media.get("CD").and_then(|media| media.image.clone())
    }
}

/// The Redfish face of a server.
pub struct Bmc {
    /// The datacenter.
    pub world: Arc<World>,
    /// The server.
    pub server: Arc<Server>,
}

/// An answer or an error of Redfish.
pub type Answer = Result<Reply, Fault>;

impl Device for Bmc {
    fn tls(&self) -> Result<Arc<ServerConfig>, YardError> {
        if let Some(config) = self.server.tls.get() {
            return Ok(config.clone());
        }
        let spec = &self.server.spec;
        let identity = match self.server.with(|state| state.kept.identity.clone()) {
            Some(identity) => identity,
            None => {
                let fresh = Identity::generate(&format!("{}-bmc", spec.serial), spec.bmc)?;
                let identity = self.server.with(|state| state.kept.identity.get_or_insert(fresh).clone());
                self.world.changed();
                identity
            }
        };
        let config = identity.server_config()?;
        Ok(self.server.tls.get_or_init(|| config).clone())
    }

    fn listening(&self) -> bool {
        self.server.with(|state| state.bmc_down_until.is_none_or(|until| Instant::now() >= until))
    }

    fn strike(&self, operation: &str) -> Vec<Action> {
        self.world.strike_server(&self.server, Face::Redfish, operation)
    }

    fn lie(&self, pointer: &str) -> Option<Value> {
        (pointer == "/PowerState").then(|| self.server.with(|state| json!(if state.was_on { "On" } else { "Off" })))
    }

    fn error_body(&self, status: StatusCode, message: &str) -> Value {
        Fault::general(status, message).body()
    }

    async fn handle(self: Arc<Self>, request: Incomer) -> Reply {
        self.world.events.count("redfish_requests");
        // A connection that was open before the reset is dead too.
        if !self.listening() {
            return Reply::empty(StatusCode::SERVICE_UNAVAILABLE);
        }
        let mut reply = self.route(&request).unwrap_or_else(|fault| fault.reply());
        if request.method == Method::GET && reply.status == StatusCode::OK && tagged(self.vendor()) {
            let tag = etag(&reply.body);
            if let Ok(Value::Object(mut body)) = serde_json::from_slice(&reply.body) {
                body.insert("@odata.etag".into(), json!(tag));
                reply.body = Value::Object(body).to_string().into();
            }
            reply = reply.with(header::ETAG, tag);
        }
        if odata::reads(&request.method) && reply.status == StatusCode::OK {
            reply = reply.with(header::ALLOW, odata::allowed(&request.path));
            let resource: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            if let Some(link) = odata::described_by(&resource) {
                reply = reply.with(header::LINK, link);
            }
        }
        if reply.status == StatusCode::METHOD_NOT_ALLOWED {
            reply = reply.with(header::ALLOW, odata::allowed(&request.path));
        }
        reply.with(header::HeaderName::from_static("odata-version"), "4.0").with(header::CACHE_CONTROL, "no-cache")
    }
}

/// Whether a vendor's BMC sends and checks entity tags.
fn tagged(vendor: Vendor) -> bool {
    !matches!(vendor, Vendor::Supermicro)
}

/// Entity tag of a body, without what changes by itself.
fn etag(body: &[u8]) -> String {
    let mut value: Value = serde_json::from_slice(body).unwrap_or_default();
    if let Value::Object(object) = &mut value {
        for volatile in ["BootProgress", "HostName", "Oem", "@odata.etag"] {
            object.remove(volatile);
        }
    }
    let hash = value
        .to_string()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("W/\"{hash:016X}\"")
}

impl Bmc {
    fn vendor(&self) -> Vendor {
        self.server.spec.model.vendor
    }

    fn route(&self, request: &Incomer) -> Answer {
        if !odata::speaks(request.header("odata-version")) {
            return Err(Fault::precondition());
        }
        let parts: Vec<&str> = request.path.split('/').filter(|part| !part.is_empty()).collect();
        let reads = odata::reads(&request.method);
        let rest = match parts.as_slice() {
            ["redfish"] if reads => return ok(&json!({"v1": "/redfish/v1/"})),
            ["redfish", "v1"] if reads => return service::root(self),
            ["redfish", "v1", "odata"] if reads => return ok(&odata::service_document()),
            ["redfish", "v1", "$metadata"] if reads => return Ok(odata::metadata()),
            ["redfish", "v1"] | ["redfish", "v1", "odata" | "$metadata"] => return Err(Fault::method(&request.method)),
            ["redfish", "v1", rest @ ..] => rest,
            _ => return Err(Fault::missing(&request.path)),
        };
        if let (&Method::POST, ["SessionService", "Sessions"] | ["SessionService", "Sessions", "Members"]) =
            (&request.method, rest)
        {
            return service::log_in(self, request);
        }
        let user = self.authenticate(request)?;
        if request.method != Method::GET && request.method != Method::HEAD {
            let role = self.server.with(|state| {
                state.kept.bmc.accounts.iter().find(|account| account.user == user).map(|account| account.role.clone())
            });
            if role.as_deref() == Some("ReadOnly") {
                return Err(Fault::forbidden());
            }
        }
        if request.method == Method::PATCH
            && tagged(self.vendor())
            && let Some(wanted) = request.header("if-match")
            && wanted != "*"
        {
            let get = Incomer {
                method: Method::GET,
                path: request.path.clone(),
                query: String::new(),
                headers: request.headers.clone(),
                body: bytes::Bytes::new(),
            };
            let current = self.dispatch(&get, rest, &user)?;
            if etag(&current.body).trim_start_matches("W/") != wanted.trim_start_matches("W/") {
                return Err(Fault::precondition());
            }
        }
        self.dispatch(request, rest, &user)
    }

    fn dispatch(&self, request: &Incomer, rest: &[&str], user: &str) -> Answer {
        match rest.split_first() {
            Some((&"Systems", rest)) => system::route(self, request, rest),
            Some((&"Chassis", rest)) => chassis::route(self, request, rest),
            Some((&"Managers", rest)) => manager::route(self, request, rest),
            Some((&"UpdateService", rest)) => update::route(self, request, rest),
            Some((&"TaskService", rest)) => update::tasks(self, request, rest),
            Some((&"EventService", rest)) => events::route(self, request, rest),
            Some((&("SessionService" | "AccountService"), _)) => service::route(self, request, rest, user),
            _ => Err(Fault::missing(&request.path)),
        }
    }

    /// Whose request it is: by session token or Basic authentication.
    fn authenticate(&self, request: &Incomer) -> Result<String, Fault> {
        if let Some(token) = request.header("x-auth-token") {
            let user = self.server.with(|state| {
                let now = Instant::now();
                state.sessions.retain(|_, session| now.duration_since(session.used) < SESSION_IDLE);
                state.sessions.get_mut(token).map(|session| {
                    session.used = now;
                    session.user.clone()
                })
            });
            return user.ok_or_else(Fault::unauthorized);
        }
        let (user, password) = request.basic().ok_or_else(Fault::unauthorized)?;
        self.check_password(&user, &password).then_some(user).ok_or_else(Fault::unauthorized)
    }

    fn check_password(&self, user: &str, password: &str) -> bool {
        self.server.with(|state| {
            state
                .kept
                .bmc
                .accounts
                .iter()
                .any(|account| account.enabled && account.user == user && account.password.0 == password)
        })
    }

    /// Changes the state and marks it for saving.
    fn change<T>(&self, change: impl FnOnce(&mut crate::server::State) -> T) -> T {
        let result = self.server.with(change);
        self.world.changed();
        result
    }

    /// The answer to a successful change, as this vendor gives it.
    fn done(&self) -> Answer {
        match self.vendor() {
            Vendor::Nvidia => Ok(Reply::empty(StatusCode::NO_CONTENT)),
            _ => ok(&json!({"@Message.ExtendedInfo": [{
                "MessageId": "Base.1.13.Success", "Message": "The request completed successfully.",
                "MessageArgs": [], "Severity": "OK", "Resolution": "None.",
            }]})),
        }
    }
}

/// An answer 200 with a body. A `Result`, because every caller answers with one.
#[allow(clippy::unnecessary_wraps)]
fn ok(body: &Value) -> Answer {
    Ok(Reply::json(StatusCode::OK, body))
}

/// A collection of links.
fn collection(path: &str, kind: &str, name: &str, members: &[String]) -> Answer {
    let members: Vec<Value> = members.iter().map(|id| json!({"@odata.id": format!("{path}/{id}")})).collect();
    ok(&json!({
        "@odata.id": path, "@odata.type": format!("#{kind}.{kind}"), "Name": name,
        "Members@odata.count": members.len(), "Members": members,
    }))
}

/// `Status` of something healthy.
fn healthy() -> Value {
    json!({"State": "Enabled", "Health": "OK"})
}

/// Only GET is allowed on a resource.
fn read_only(request: &Incomer) -> Result<(), Fault> {
    if request.method == Method::GET || request.method == Method::HEAD {
        Ok(())
    } else {
        Err(Fault::method(&request.method))
    }
}

/// Body of a PATCH or POST as an object.
fn body(request: &Incomer) -> Result<serde_json::Map<String, Value>, Fault> {
    match request.json() {
        Ok(Value::Object(body)) => Ok(body),
        Ok(Value::Null) => Ok(serde_json::Map::new()),
        _ => Err(Fault::malformed()),
    }
}
