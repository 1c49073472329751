//! The shared world: every device, what goes wrong, what has happened.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    YardError,
    config::YardConfig,
    events::Events,
    fault::{FaultRule, Faults, preset},
    lock,
    persist::Saved,
    relay::Relay,
    server::{Kept, Server},
    storage::Array,
    switch::{Switch, startup_config},
    topology::Topology,
};

/// Everything in the datacenter.
pub struct World {
    /// Settings.
    pub config: YardConfig,
    /// Servers by index.
    pub servers: Vec<Arc<Server>>,
    /// Switches by index: leaves, then spines.
    pub switches: Vec<Arc<Switch>>,
    /// Storage arrays.
    pub arrays: Vec<Arc<Array>>,
    /// DHCP relays by index of the leaf.
    pub relays: Vec<Relay>,
    /// Fault rules.
    pub faults: Faults,
    /// Events and counters.
    pub events: Events,
    /// Where the consoles of BMCs listen.
    pub console_ports: std::sync::OnceLock<crate::console::Ports>,
    /// HTTP client of all servers.
    pub http: reqwest::Client,
    /// Ends everything.
    pub shutdown: CancellationToken,
    /// Boot tasks and the like.
    pub tasks: TaskTracker,
    dirty: AtomicBool,
    dirt: Notify,
}

impl World {
    /// Builds the datacenter, from saved state where there is some.
    pub fn build(config: YardConfig) -> Result<Arc<Self>, YardError> {
        // The HTTP client looks for a process-wide provider; a second installation is refused, and that is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let topology = Topology::build(&config)?;
        let mut saved = match &config.persist {
            Some(path) => Saved::load(path)?,
            None => Saved::default(),
        };
        let shutdown = CancellationToken::new();
        let relays = topology
            .switches
            .iter()
            .filter_map(|spec| {
                let address = spec.relay?;
                Some(Relay::new(
                    spec.hostname.clone(),
                    address,
                    config.relay_port,
                    config.dhcp_server,
                    shutdown.clone(),
                ))
            })
            .collect();
        let servers = topology
            .servers
            .into_iter()
            .map(|spec| {
                let kept = saved.servers.remove(&spec.serial).filter(|kept| kept.cables.len() == spec.nics.len());
                let kept = kept.unwrap_or_else(|| Kept::factory(&spec, &config));
                Arc::new(Server::new(spec, kept))
            })
            .collect();
        let switches = topology
            .switches
            .into_iter()
            .map(|spec| {
                let kept = saved.switches.remove(&spec.hostname);
                let startup = startup_config(&spec, config.provisioning_vlan);
                let Some(kept) = kept else { return Arc::new(Switch::new(spec, startup)) };
                let switch = Switch::new(spec, kept.startup);
                lock(&switch.state).applied = kept.applied;
                *lock(&switch.identity) = kept.identity;
                switch.refresh();
                Arc::new(switch)
            })
            .collect();
        let arrays = config
            .arrays
            .iter()
            .enumerate()
            .map(|(n, kind)| {
                let address = std::net::Ipv4Addr::from(u32::from(config.array_base).wrapping_add(n as u32));
                let array = Array::new(*kind, n, address);
                if let Some(kept) = saved.arrays.remove(&array.name).filter(|kept| kept.kind == *kind) {
                    *lock(&array.state) = kept.state;
                    *lock(&array.identity) = kept.identity;
                }
                Arc::new(array)
            })
            .collect();
        let faults = Faults::default();
        for rule in &config.faults {
            faults.add(rule.clone());
        }
        for name in &config.fault_presets {
            faults.add(named(name)?);
        }
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::limited(4))
            .connect_timeout(std::time::Duration::from_secs(5))
            .pool_idle_timeout(std::time::Duration::from_secs(10))
            .build()
            .map_err(|error| YardError::Protocol(format!("HTTP client: {error}")))?;
        Ok(Arc::new(Self {
            config,
            servers,
            switches,
            arrays,
            relays,
            faults,
            events: Events::default(),
            console_ports: std::sync::OnceLock::new(),
            http,
            shutdown,
            tasks: TaskTracker::new(),
            dirty: AtomicBool::new(false),
            dirt: Notify::new(),
        }))
    }

    /// Notes that there is something to save.
    pub fn changed(&self) {
        self.dirty.store(true, Ordering::Release);
        self.dirt.notify_one();
    }

    /// Waits for something to save.
    pub async fn until_changed(&self) {
        self.dirt.notified().await;
    }

    /// Whether there is something to save; asks once.
    pub fn take_changed(&self) -> bool {
        self.dirty.swap(false, Ordering::AcqRel)
    }

    /// Server by serial number or name.
    pub fn server(&self, name: &str) -> Option<&Arc<Server>> {
        self.servers.iter().find(|server| server.spec.serial == name || server.spec.name == name)
    }

    /// Storage array by name or serial number.
    pub fn array(&self, name: &str) -> Option<&Arc<Array>> {
        self.arrays.iter().find(|array| array.name == name || array.serial == name)
    }

    /// Switch by host name or serial number.
    pub fn switch(&self, name: &str) -> Option<&Arc<Switch>> {
        self.switches.iter().find(|switch| switch.spec.hostname == name || switch.spec.serial == name)
    }
}

/// Rule of a preset; the error lists the known ones.
pub fn named(name: &str) -> Result<FaultRule, YardError> {
    preset(name).ok_or_else(|| {
        let known: Vec<_> = crate::fault::PRESETS.iter().map(|(name, _)| *name).collect();
        YardError::Config(format!("there is no fault preset {name:?}; known are {}", known.join(", ")))
    })
}
