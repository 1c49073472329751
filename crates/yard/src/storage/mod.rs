//! Storage arrays by their REST interfaces: NetApp ONTAP, Dell PowerFlex, PowerScale and PowerStore, Pure FlashArray. They keep state, check what they are told and
//! refuse what the real ones refuse, in the same words where those are documented. NetApp shows its volumes over iSCSI too; the others hold no data.

pub mod ontap;
mod ontap_san;
pub mod power_flex;
pub mod power_scale;
pub mod power_store;
pub mod pure;
pub mod tables;
pub mod units;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, OnceLock},
};

use hyper::StatusCode;
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::tables::Tables;
use crate::{
    YardError,
    fault::{Action, DeviceKind, Face},
    httpd::{Device, Incomer, Reply},
    lock,
    tls::Identity,
    world::World,
};

/// What an array is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArrayKind {
    /// NetApp ONTAP.
    Netapp,
    /// Dell PowerFlex.
    PowerFlex,
    /// Dell PowerScale.
    PowerScale,
    /// Dell PowerStore.
    PowerStore,
    /// Pure FlashArray.
    Pure,
}

/// An array.
pub struct Array {
    /// What it is.
    pub kind: ArrayKind,
    /// Name, `array1`.
    pub name: String,
    /// Serial number.
    pub serial: String,
    /// Management address.
    pub address: Ipv4Addr,
    /// Everything that it keeps.
    pub state: Mutex<Tables>,
    /// Certificate.
    pub identity: Mutex<Option<Identity>>,
    /// Port on which it listens.
    pub api_port: OnceLock<u16>,
    /// Tokens of sessions.
    pub sessions: Mutex<BTreeSet<String>>,
    tls: OnceLock<Arc<ServerConfig>>,
}

impl Array {
    /// The array of this number, with factory state.
    pub fn new(kind: ArrayKind, number: usize, address: Ipv4Addr) -> Self {
        let serial = format!("YARD{:06}", 1000 + number);
        let state = match kind {
            ArrayKind::Netapp => ontap::factory(&serial, address),
            ArrayKind::PowerFlex => power_flex::factory(&serial, address),
            ArrayKind::PowerScale => power_scale::factory(&serial, address),
            ArrayKind::PowerStore => power_store::factory(&serial, address),
            ArrayKind::Pure => pure::factory(&serial, address),
        };
        Self {
            kind,
            name: format!("array{}", number + 1),
            serial,
            address,
            state: Mutex::new(state),
            identity: Mutex::new(None),
            api_port: OnceLock::new(),
            sessions: Mutex::default(),
            tls: OnceLock::new(),
        }
    }

    /// Who may use which volume: its name, and the names of initiators. What a host on the network would find.
    pub fn access(&self) -> BTreeMap<String, BTreeSet<String>> {
        let state = lock(&self.state);
        match self.kind {
            ArrayKind::Netapp => ontap::access(&state),
            ArrayKind::PowerFlex => power_flex::access(&state),
            ArrayKind::PowerScale => power_scale::access(&state),
            ArrayKind::PowerStore => power_store::access(&state),
            ArrayKind::Pure => pure::access(&state),
        }
    }

    /// Ends all sessions, as time or a restart does.
    pub fn end_sessions(&self) {
        lock(&self.sessions).clear();
    }
}

/// The REST face of an array.
pub struct Rest {
    /// The datacenter.
    pub world: Arc<World>,
    /// The array.
    pub array: Arc<Array>,
}

impl Rest {
    /// Faults that strike a step of the array.
    pub fn strike_step(&self, operation: &str) -> Option<String> {
        self.strike(operation).into_iter().find_map(|action| match action {
            Action::Error { message, .. } => Some(message.unwrap_or_else(|| "injected fault".into())),
            _ => None,
        })
    }
}

impl Device for Rest {
    fn tls(&self) -> Result<Arc<ServerConfig>, YardError> {
        if let Some(config) = self.array.tls.get() {
            return Ok(config.clone());
        }
        let mut identity = lock(&self.array.identity);
        let kept = match &*identity {
            Some(kept) => kept.clone(),
            None => Identity::generate(&self.array.name, self.array.address)?,
        };
        let config = kept.server_config()?;
        *identity = Some(kept);
        drop(identity);
        self.world.changed();
        Ok(self.array.tls.get_or_init(|| config).clone())
    }

    fn strike(&self, operation: &str) -> Vec<Action> {
        let names = [self.array.name.as_str(), self.array.serial.as_str()];
        self.world.faults.strike(DeviceKind::Array, &names, Face::Storage, operation)
    }

    fn lie(&self, _pointer: &str) -> Option<Value> {
        None
    }

    fn error_body(&self, status: StatusCode, message: &str) -> Value {
        match self.array.kind {
            ArrayKind::Netapp => ontap::error(u64::from(status.as_u16()), message, None),
            ArrayKind::PowerFlex => power_flex::error(0, message),
            ArrayKind::PowerScale => power_scale::error("AEC_SYSTEM_INTERNAL_ERROR", message),
            ArrayKind::PowerStore => power_store::error("0xE0101001000C", message),
            ArrayKind::Pure => pure::error(None, message),
        }
    }

    async fn handle(self: Arc<Self>, request: Incomer) -> Reply {
        let reply = match self.array.kind {
            ArrayKind::Netapp => ontap::handle(&self, &request),
            ArrayKind::PowerFlex => power_flex::handle(&self, &request),
            ArrayKind::PowerScale => power_scale::handle(&self, &request),
            ArrayKind::PowerStore => power_store::handle(&self, &request),
            ArrayKind::Pure => pure::handle(&self, &request),
        };
        if request.method != hyper::Method::GET {
            self.world.changed();
        }
        reply
    }
}

/// Parameters of a request.
pub(crate) fn parameters(request: &Incomer) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(request.query.as_bytes()).into_owned().collect()
}
