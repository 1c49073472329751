//! A switch with Cumulus Linux 5: configuration tree, revisions, and the NVUE REST interface on them.

pub mod api;
pub mod config;
pub mod operational;
pub mod revision;

use std::{
    sync::{Arc, Mutex, OnceLock, RwLock},
    time::Duration,
};

use hyper::StatusCode;
use rustls::ServerConfig;
use serde_json::{Value, json};

use crate::{
    YardError,
    dataplane::PortView,
    fault::{Action, DeviceKind, Face},
    httpd::{Device, Incomer, Reply},
    lock,
    tls::Identity,
    topology::SwitchSpec,
    world::World,
};

/// A switch.
pub struct Switch {
    /// Unchanging facts.
    pub spec: SwitchSpec,
    /// Configuration and revisions.
    pub state: Mutex<revision::Config>,
    /// How its ports forward; index 0 is unused. Follows the applied configuration.
    view: RwLock<Arc<Vec<PortView>>>,
    /// Certificate.
    pub identity: Mutex<Option<Identity>>,
    tls: OnceLock<Arc<ServerConfig>>,
    /// Port on which the API listens.
    pub api_port: OnceLock<u16>,
    /// Revisions are applied one at a time.
    pub applying: tokio::sync::Mutex<()>,
}

impl Switch {
    /// A switch with this startup configuration.
    pub fn new(spec: SwitchSpec, startup: Value) -> Self {
        let view = config::port_views(&startup, spec.ports);
        Self {
            spec,
            state: Mutex::new(revision::Config::new(startup)),
            view: RwLock::new(Arc::new(view)),
            identity: Mutex::new(None),
            tls: OnceLock::new(),
            api_port: OnceLock::new(),
            applying: tokio::sync::Mutex::new(()),
        }
    }

    /// How a port forwards.
    pub fn port(&self, number: usize) -> PortView {
        let view = self.view.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        view.get(number).cloned().unwrap_or_default()
    }

    /// Makes the ports follow the applied configuration.
    pub fn refresh(&self) {
        let applied = lock(&self.state).applied.clone();
        let fresh = Arc::new(config::port_views(&applied, self.spec.ports));
        *self.view.write().unwrap_or_else(std::sync::PoisonError::into_inner) = fresh;
    }
}

/// The NVUE face of a switch.
pub struct Nvue {
    /// The datacenter.
    pub world: Arc<World>,
    /// The switch.
    pub switch: Arc<Switch>,
}

impl Device for Nvue {
    fn tls(&self) -> Result<Arc<ServerConfig>, YardError> {
        if let Some(config) = self.switch.tls.get() {
            return Ok(config.clone());
        }
        let mut identity = lock(&self.switch.identity);
        let kept = match &*identity {
            Some(kept) => kept.clone(),
            None => Identity::generate(&self.switch.spec.hostname, self.switch.spec.address)?,
        };
        let config = kept.server_config()?;
        *identity = Some(kept);
        drop(identity);
        self.world.changed();
        Ok(self.switch.tls.get_or_init(|| config).clone())
    }

    fn strike(&self, operation: &str) -> Vec<Action> {
        self.world.strike_switch(&self.switch, operation)
    }

    fn lie(&self, _pointer: &str) -> Option<Value> {
        None
    }

    fn error_body(&self, status: StatusCode, message: &str) -> Value {
        api::problem(status, message)
    }

    async fn handle(self: Arc<Self>, request: Incomer) -> Reply {
        api::handle(&self, &request)
    }
}

impl Nvue {
    /// Applies a revision in the background, as the switch does, and lets it fall back when nobody confirms.
    pub fn apply_later(&self, id: String, controls: revision::ApplyControls) {
        let (world, switch) = (self.world.clone(), self.switch.clone());
        world.clone().tasks.spawn(async move {
            let shutdown = world.shutdown.clone();
            tokio::select! { () = shutdown.cancelled() => {}, () = apply(&world, &switch, &id, controls) => {} }
        });
    }
}

async fn apply(world: &Arc<World>, switch: &Arc<Switch>, id: &str, controls: revision::ApplyControls) {
    let turn = switch.applying.lock().await;
    let mut failure = None;
    for action in world.strike_switch(switch, &format!("APPLY {id}")) {
        match action {
            Action::Delay { ms } => tokio::time::sleep(Duration::from_millis(ms)).await,
            Action::Hang | Action::Drop => tokio::time::sleep(Duration::from_hours(1)).await,
            Action::Error { message, .. } => failure = Some(message.unwrap_or_else(|| "ifreload failed".into())),
            _ => {}
        }
    }
    if !lock(&switch.state).verify(id, &switch.spec, &controls) {
        return;
    }
    tokio::time::sleep(Duration::from_secs_f64(world.config.switch_apply_seconds)).await;
    let applied = lock(&switch.state).finish(id, &controls, failure);
    if !applied {
        return;
    }
    switch.refresh();
    world.changed();
    world.events.push(&switch.spec.hostname, "switch", format!("applied {id}"));
    world.events.count("switch_applies");
    drop(turn);
    let Some(seconds) = controls.confirm else { return };
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    if lock(&switch.state).confirm_timeout(id) {
        switch.refresh();
        world.changed();
        world.events.push(&switch.spec.hostname, "switch", format!("rolled back {id}: nobody confirmed"));
    }
}

impl World {
    /// Faults that strike an operation of a switch.
    pub fn strike_switch(&self, switch: &Switch, operation: &str) -> Vec<Action> {
        let spec = &switch.spec;
        let actions = self.faults.strike(DeviceKind::Switch, &[&spec.hostname, &spec.serial], Face::Nvue, operation);
        for action in &actions {
            self.events.push(&spec.hostname, "fault", format!("{action:?} on {operation}"));
        }
        actions
    }
}

/// Configuration from the factory: one VLAN-aware bridge, server ports in the provisioning VLAN, uplinks carry it.
pub fn startup_config(spec: &SwitchSpec, provisioning: u16) -> Value {
    use crate::topology::{Peer, Role, SERVER_PORTS};
    let mut interfaces = serde_json::Map::new();
    interfaces.insert("eth0".into(), json!({"type": "eth", "ip": {"vrf": "mgmt", "address": {"dhcp": {}}}}));
    interfaces.insert("lo".into(), json!({"type": "loopback"}));
    for port in 1..=spec.ports {
        let uplink = matches!(spec.peers.get(port), Some(Some(Peer::Switch { .. })));
        let entry = if uplink {
            json!({"type": "swp", "link": {"state": {"up": {}}, "mtu": 9216},
                "bridge": {"domain": {"br_default": {"vlan": {provisioning.to_string(): {}}}}}})
        } else if spec.role == Role::Leaf && port <= SERVER_PORTS {
            json!({"type": "swp", "link": {"state": {"up": {}}, "mtu": 9216},
                "bridge": {"domain": {"br_default": {"access": provisioning}}}})
        } else {
            continue;
        };
        interfaces.insert(format!("swp{port}"), entry);
    }
    json!({
        "bridge": {"domain": {"br_default": {"type": "vlan-aware", "untagged": 1,
            "vlan": {"1": {}, provisioning.to_string(): {}}}}},
        "interface": interfaces,
        "system": {"hostname": spec.hostname},
        "vrf": {"default": {}, "mgmt": {}},
    })
}
