//! Connections to BMCs and switches, opened with the credentials of the facts and kept for a while.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bmc::Redfish;
use engine::JobError;
use model::{
    Id,
    bmc::BmcEndpoint,
    secret::Clear,
    snapshot::{SiteNetworkDevice, SiteServer},
};
use switch::SwitchDriver;

use crate::Site;

/// Longest wait for one answer of a device.
const TIMEOUT: Duration = Duration::from_secs(20);
/// A connection that nobody used for this long is given up, with its session at the BMC.
const IDLE: Duration = Duration::from_mins(5);

struct Open {
    endpoint: BmcEndpoint,
    driver: Arc<Redfish>,
    used: Instant,
}

/// Open connections.
#[derive(Default)]
pub(crate) struct Equipment {
    bmcs: Mutex<HashMap<Id, Open>>,
    turns: Mutex<HashMap<Id, Arc<tokio::sync::Mutex<()>>>>,
}

impl Equipment {
    /// Whose turn it is to change a switch.
    pub(crate) fn turn(&self, network_device_id: Id) -> Arc<tokio::sync::Mutex<()>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).entry(network_device_id).or_default().clone()
    }
}

impl Site {
    /// A server that must be known here.
    pub(crate) fn server(&self, id: Id) -> Result<SiteServer, JobError> {
        self.facts.server(id).ok_or_else(|| {
            JobError::retry(format!("server {id} is not known at this site (yet); register it, or correct its site"))
        })
    }

    fn open_secret(&self, sealed: &model::secret::Sealed, what: &str) -> Result<Clear, JobError> {
        self.sealer.open(sealed).map_err(|e| JobError::fatal(format!("the password of {what}: {e}; enter it again")))
    }

    /// The BMC of a server.
    pub(crate) fn bmc(&self, server: &SiteServer) -> Result<Arc<Redfish>, JobError> {
        let endpoint = server.bmc.as_ref().ok_or_else(|| {
            JobError::fatal(format!("server {} has no BMC that may be used; enter its address and login", server.name))
        })?;
        let mut open = self.equipment.bmcs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = open.get_mut(&server.id).filter(|o| o.endpoint == *endpoint) {
            found.used = Instant::now();
            return Ok(found.driver.clone());
        }
        let access = bmc::Access {
            address: endpoint.address.clone(),
            username: endpoint.username.clone(),
            password: self.open_secret(&endpoint.password, &format!("the BMC of {}", server.name))?,
            timeout: TIMEOUT,
        };
        let driver = Arc::new(Redfish::new(access).map_err(job_error)?);
        open.insert(server.id, Open { endpoint: endpoint.clone(), driver: driver.clone(), used: Instant::now() });
        Ok(driver)
    }

    /// A switch.
    pub(crate) fn network_device(&self, id: Id) -> Result<(SiteNetworkDevice, Box<dyn SwitchDriver>), JobError> {
        let device = self.facts.network_device(id).ok_or_else(|| {
            JobError::retry(format!("switch {id} is not known at this site (yet); register it, or correct its site"))
        })?;
        let endpoint = &device.endpoint;
        let access = switch::Access {
            address: endpoint.address.clone(),
            port: endpoint.port,
            username: endpoint.username.clone(),
            password: self.open_secret(&endpoint.password, &format!("switch {}", device.name))?,
            timeout: TIMEOUT,
        };
        let driver = switch::driver(&endpoint.driver, access).map_err(switch_error)?;
        Ok((device, driver))
    }

    /// Gives up connections that nobody uses.
    pub(crate) async fn close_idle(&self) {
        let idle: Vec<Arc<Redfish>> = {
            let mut open = self.equipment.bmcs.lock().unwrap_or_else(PoisonError::into_inner);
            let old: Vec<Id> = open.iter().filter(|(_, o)| o.used.elapsed() > IDLE).map(|(id, _)| *id).collect();
            old.iter().filter_map(|id| open.remove(id)).map(|o| o.driver).collect()
        };
        for driver in idle {
            driver.close().await;
        }
    }
}

/// A BMC's error as a job's.
pub(crate) fn job_error(e: bmc::BmcError) -> JobError {
    JobError { retryable: e.is_retryable(), message: e.to_string() }
}

/// A switch's error as a job's.
pub(crate) fn switch_error(e: switch::SwitchError) -> JobError {
    JobError { retryable: e.is_retryable(), message: e.to_string() }
}
