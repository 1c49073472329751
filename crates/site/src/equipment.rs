//! Connections to BMCs and switches, opened with the credentials of the facts and kept for a while.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bmc::Driver;
use engine::JobError;
use futures::StreamExt;
use model::{
    Id,
    bmc::BmcEndpoint,
    link::Observed,
    secret::Clear,
    snapshot::{SiteNetworkDevice, SiteServer},
    storage::StorageTarget,
    switch::SwitchEndpoint,
};
use storage::Array;
use switch::SwitchDriver;

use crate::{Site, power::observe};

/// Longest wait for one answer of a device.
const TIMEOUT: Duration = Duration::from_secs(20);
/// A connection that nobody used for this long is given up, with its session at the BMC.
const IDLE: Duration = Duration::from_mins(5);
/// The same while there are more than [`MANY`].
const IDLE_OF_MANY: Duration = Duration::from_secs(10);
const MANY: usize = 256;
/// Sessions that are ended at the same time, at most.
const CLOSING: usize = 32;

struct Open {
    endpoint: BmcEndpoint,
    driver: Arc<Driver>,
    used: Instant,
}

struct OpenSwitch {
    endpoint: SwitchEndpoint,
    driver: Arc<dyn SwitchDriver>,
}

struct OpenStorage {
    target: StorageTarget,
    array: Arc<dyn Array>,
}

/// Open connections.
#[derive(Default)]
pub(crate) struct Equipment {
    bmcs: Mutex<HashMap<Id, Open>>,
    switches: Mutex<HashMap<Id, OpenSwitch>>,
    storages: Mutex<HashMap<Id, OpenStorage>>,
    /// BMC connections that another has replaced: their sessions are still to be ended.
    replaced: Mutex<Vec<Arc<Driver>>>,
    /// Certificates that the Global Controller was told of.
    told: Mutex<HashMap<(&'static str, Id), String>>,
    turns: Mutex<HashMap<Id, Arc<tokio::sync::Mutex<()>>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Equipment {
    /// Whose turn it is to change a switch.
    pub(crate) fn turn(&self, network_device_id: Id) -> Arc<tokio::sync::Mutex<()>> {
        locked(&self.turns).entry(network_device_id).or_default().clone()
    }

    /// Certificates that are not the pinned ones, and that nobody was told of: (object, id, fingerprint).
    fn news(&self) -> Vec<(&'static str, Id, String)> {
        let mut seen: Vec<(&'static str, Id, Option<String>, Option<String>)> = Vec::new();
        for (id, open) in locked(&self.bmcs).iter() {
            let shown = open.driver.refused_fingerprint().or_else(|| open.driver.fingerprint());
            seen.push(("server", *id, open.endpoint.tls_fingerprint.clone(), shown));
        }
        for (id, open) in locked(&self.switches).iter() {
            let shown = open.driver.refused_fingerprint().or_else(|| open.driver.fingerprint());
            seen.push(("network_device", *id, open.endpoint.tls_fingerprint.clone(), shown));
        }
        for (id, open) in locked(&self.storages).iter() {
            let shown = open.array.refused_fingerprint().or_else(|| open.array.fingerprint());
            seen.push(("storage", *id, open.target.tls_fingerprint.clone(), shown));
        }
        let told = locked(&self.told);
        seen.into_iter()
            .filter_map(|(object, id, pin, shown)| Some((object, id, pin, shown?)))
            .filter(|(object, id, pin, shown)| {
                !pin.as_ref().is_some_and(|p| p.eq_ignore_ascii_case(shown)) && told.get(&(*object, *id)) != Some(shown)
            })
            .map(|(object, id, _, shown)| (object, id, shown))
            .collect()
    }
}

impl Site {
    /// A server that must be known here.
    pub(crate) fn server(&self, id: Id) -> Result<SiteServer, JobError> {
        self.facts.server(id).ok_or_else(|| {
            JobError::retry(format!("server {id} is not known at this site (yet); register it, or correct its site"))
        })
    }

    pub(crate) fn open_secret(&self, sealed: &model::secret::Sealed, what: &str) -> Result<Clear, JobError> {
        self.sealer.open(sealed).map_err(|e| JobError::fatal(format!("the password of {what}: {e}; enter it again")))
    }

    /// The BMC of a server.
    pub(crate) fn bmc(&self, server: &SiteServer) -> Result<Arc<Driver>, JobError> {
        let endpoint = server.bmc.as_ref().ok_or_else(|| {
            JobError::fatal(format!("server {} has no BMC that may be used; enter its address and login", server.name))
        })?;
        let mut open = locked(&self.equipment.bmcs);
        if let Some(found) = open.get_mut(&server.id) {
            // The certificate that was pinned at last is the one that we met: the connection is good.
            let pinned = BmcEndpoint { tls_fingerprint: None, ..endpoint.clone() } == found.endpoint
                && found.driver.fingerprint() == endpoint.tls_fingerprint;
            if pinned || found.endpoint == *endpoint {
                found.endpoint.clone_from(endpoint);
                found.used = Instant::now();
                return Ok(found.driver.clone());
            }
        }
        let password = self.open_secret(&endpoint.password, &format!("the BMC of {}", server.name))?;
        let driver = Arc::new(driver(endpoint, password)?);
        let new = Open { endpoint: endpoint.clone(), driver: driver.clone(), used: Instant::now() };
        if let Some(old) = open.insert(server.id, new) {
            locked(&self.equipment.replaced).push(old.driver);
        }
        Ok(driver)
    }

    /// The BMC of a server by another password than the one in use; nobody else gets this connection.
    pub(crate) fn bmc_with(server: &SiteServer, password: Clear) -> Result<Driver, JobError> {
        let endpoint = server.bmc.as_ref().ok_or_else(|| {
            JobError::fatal(format!("server {} has no BMC that may be used; enter its address and login", server.name))
        })?;
        driver(endpoint, password)
    }

    /// A switch.
    pub(crate) fn network_device(&self, id: Id) -> Result<(SiteNetworkDevice, Arc<dyn SwitchDriver>), JobError> {
        let device = self.facts.network_device(id).ok_or_else(|| {
            JobError::retry(format!("switch {id} is not known at this site (yet); register it, or correct its site"))
        })?;
        let endpoint = &device.endpoint;
        if let Some(found) = locked(&self.equipment.switches).get(&id).filter(|o| o.endpoint == *endpoint) {
            return Ok((device, found.driver.clone()));
        }
        let access = switch::Access {
            address: endpoint.address.clone(),
            port: endpoint.port,
            username: endpoint.username.clone(),
            password: self.open_secret(&endpoint.password, &format!("switch {}", device.name))?,
            timeout: TIMEOUT,
            tls_fingerprint: endpoint.tls_fingerprint.clone(),
        };
        let driver: Arc<dyn SwitchDriver> = switch::driver(&endpoint.driver, access).map_err(switch_error)?.into();
        let new = OpenSwitch { endpoint: endpoint.clone(), driver: driver.clone() };
        locked(&self.equipment.switches).insert(id, new);
        Ok((device, driver))
    }

    /// A storage.
    pub(crate) fn storage(&self, id: Id) -> Result<(StorageTarget, Arc<dyn Array>), JobError> {
        let target = self.facts.storage(id).ok_or_else(|| {
            JobError::retry(format!("storage {id} is not known at this site (yet); register it, or correct its site"))
        })?;
        let mut open = locked(&self.equipment.storages);
        if let Some(found) = open.get_mut(&id) {
            // The pin that comes back from the Global Controller is that which we met ourselves.
            let pinned = StorageTarget { tls_fingerprint: None, ..target.clone() } == found.target
                && found.array.fingerprint() == target.tls_fingerprint;
            if pinned || found.target == target {
                found.target.clone_from(&target);
                return Ok((target, found.array.clone()));
            }
        }
        let what = format!("storage {}", target.name);
        let private_key = target.private_key.as_ref().map(|key| self.open_secret(key, &what)).transpose()?;
        let access = storage::Access {
            name: target.name.clone(),
            address: target.address.clone(),
            port: target.port,
            username: target.username.clone(),
            // Who logs in with a key alone has none.
            secret: if target.secret.0.is_empty() {
                Clear(String::new())
            } else {
                self.open_secret(&target.secret, &what)?
            },
            private_key,
            timeout: TIMEOUT,
            tls_fingerprint: target.tls_fingerprint.clone(),
            protocol: target.protocol,
            options: target.options.clone(),
        };
        let array: Arc<dyn Array> = storage::open(target.driver, access)
            .map_err(|e| JobError { retryable: e.is_retryable(), message: e.to_string() })?
            .into();
        open.insert(id, OpenStorage { target: target.clone(), array: array.clone() });
        Ok((target, array))
    }

    /// Tells the Global Controller of certificates that were met for the first time, to be pinned, or that are not the pinned ones.
    pub(crate) async fn tell_certificates(&self) {
        for (object, id, sha256) in self.equipment.news() {
            let what = Observed::Fingerprint { object: object.to_owned(), id, sha256: sha256.clone() };
            if observe(self, &format!("certificate/{object}/{id}"), what).await {
                locked(&self.equipment.told).insert((object, id), sha256);
            }
        }
    }

    /// Gives up connections that nobody uses. Their sessions are ended in the background: a BMC may be silent.
    pub(crate) fn close_idle(&self) {
        let idle: Vec<Arc<Driver>> = {
            let mut open = locked(&self.equipment.bmcs);
            let idle = if open.len() > MANY { IDLE_OF_MANY } else { IDLE };
            // One that a job or a look still works with stays.
            let unused = |o: &Open| o.used.elapsed() > idle && Arc::strong_count(&o.driver) == 1;
            let old: Vec<Id> = open.iter().filter(|(_, o)| unused(o)).map(|(id, _)| *id).collect();
            let replaced = std::mem::take(&mut *locked(&self.equipment.replaced));
            old.iter().filter_map(|id| open.remove(id)).map(|o| o.driver).chain(replaced).collect()
        };
        locked(&self.equipment.switches).retain(|id, _| self.facts.network_device(*id).is_some());
        locked(&self.equipment.storages).retain(|id, _| self.facts.storage(*id).is_some());
        if !idle.is_empty() {
            tokio::spawn(async move {
                futures::stream::iter(idle)
                    .for_each_concurrent(CLOSING, |driver| async move { driver.close().await })
                    .await;
            });
        }
    }
}

pub(crate) fn driver(endpoint: &BmcEndpoint, password: Clear) -> Result<Driver, JobError> {
    let (kind, address) = bmc::Kind::of(&endpoint.address);
    let access = bmc::Access {
        address: address.to_owned(),
        username: endpoint.username.clone(),
        password,
        timeout: TIMEOUT,
        tls_fingerprint: endpoint.tls_fingerprint.clone(),
    };
    bmc::open(kind, access).map_err(job_error)
}

/// A BMC's error as a job's.
pub(crate) fn job_error(e: bmc::BmcError) -> JobError {
    JobError { retryable: e.is_retryable(), message: e.to_string() }
}

/// A switch's error as a job's.
pub(crate) fn switch_error(e: switch::SwitchError) -> JobError {
    JobError { retryable: e.is_retryable(), message: e.to_string() }
}
