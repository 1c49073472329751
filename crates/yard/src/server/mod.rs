//! A server: one state behind all its protocol faces, and the task that runs while it boots.

pub mod agent;
pub mod boot;
pub mod dhcp;
pub mod installer;
pub mod ipxe;
pub mod iso;
pub mod net;
pub mod netcfg;
pub mod os;
pub mod power;
pub mod san;
pub mod secure;
pub mod tftp;
pub mod tty;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, OnceLock, atomic::AtomicBool},
};

use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{bmc::BmcState, config::YardConfig, lock, tls::Identity, topology::ServerSpec};

/// Lines of boot log that are kept.
const LOG_LINES: usize = 80;

/// How far a server has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Switched off.
    Off,
    /// Self test of the firmware.
    Post,
    /// The firmware tries a boot source from the network.
    NetworkBoot,
    /// iPXE runs.
    Ipxe,
    /// The installer runs.
    Agent,
    /// A boot loader or kernel of an installed system is starting.
    OsBoot,
    /// The installed system runs.
    OsUp,
    /// Nothing to boot; waits for a person.
    NoBootDevice,
    /// Something was booted that does nothing further.
    Stopped,
    /// The running system shuts down.
    ShuttingDown,
}

/// Boot override of Redfish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootOverride {
    /// `Disabled`, `Once` or `Continuous`.
    pub enabled: String,
    /// `None`, `Pxe`, `Hdd`, `Cd`, `UefiHttp`, `UefiBootNext`, `BiosSetup`.
    pub target: String,
    /// `UEFI` or `Legacy`.
    pub mode: String,
    /// Boot option of `UefiBootNext`.
    pub boot_next: Option<String>,
    /// URI of `UefiHttp`.
    pub http_uri: Option<String>,
}

/// What an installer has left on the first disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Disk {
    /// SHA-256 of the image, in hex.
    pub image: String,
    /// Its size in bytes.
    pub size: u64,
    /// A boot loader was written.
    pub bootable: bool,
    /// cloud-init user-data.
    pub user_data: String,
    /// cloud-init meta-data.
    pub meta_data: String,
    /// cloud-init network-config.
    pub network_config: String,
    /// Host name of the system.
    pub hostname: String,
    /// When the installation ended, RFC 3339.
    pub installed: Option<String>,
    /// cloud-init has phoned home (once an instance).
    pub phoned_home: bool,
}

/// A running operating system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Os {
    /// Host name.
    pub hostname: String,
    /// Network interfaces.
    pub interfaces: Vec<netcfg::Iface>,
    /// Since when, RFC 3339.
    pub since: String,
}

/// What a server keeps over a restart of the simulator.
#[derive(Clone, Serialize, Deserialize)]
pub struct Kept {
    /// Switched on.
    pub on: bool,
    /// Boot override.
    pub boot: BootOverride,
    /// Boot options in order.
    pub boot_order: Vec<String>,
    /// First disk.
    pub disk: Option<Disk>,
    /// Running system.
    pub os: Option<Os>,
    /// Which cables are plugged in.
    pub cables: Vec<bool>,
    /// State of the BMC.
    pub bmc: BmcState,
    /// Certificate of the BMC.
    pub identity: Option<Identity>,
}

/// Everything that changes.
pub struct State {
    /// What is kept.
    pub kept: Kept,
    /// Power state before the last change.
    pub was_on: bool,
    /// Counts changes of power; a boot task of an older one has no say.
    pub generation: u64,
    /// Ends the boot task.
    pub task: CancellationToken,
    /// How far it has come.
    pub stage: Stage,
    /// Since when, RFC 3339.
    pub stage_since: String,
    /// Console of the last boot.
    pub log: VecDeque<String>,
    /// The serial port.
    pub tty: tty::Tty,
    /// Viewers of the screen.
    pub vnc_sessions: u32,
    /// Sessions of the BMC by token.
    pub sessions: BTreeMap<String, crate::bmc::Session>,
    /// The BMC resets and does not answer until then.
    pub bmc_down_until: Option<Instant>,
    /// Boots so far.
    pub boots: u64,
    /// Events that the BMC has yet to deliver.
    pub outbox: VecDeque<serde_json::Value>,
    /// Somebody delivers them.
    pub delivering: bool,
    /// Number of the BMC's last event.
    pub event_number: u64,
}

/// A server.
pub struct Server {
    /// Unchanging facts.
    pub spec: ServerSpec,
    /// What changes.
    pub state: Mutex<State>,
    /// TLS settings of the BMC, made at the first connection.
    pub tls: OnceLock<Arc<ServerConfig>>,
    /// Port on which the BMC listens.
    pub bmc_port: OnceLock<u16>,
    /// Somebody has the serial port.
    pub console_taken: AtomicBool,
}

impl Kept {
    /// State of a machine as it leaves the factory.
    pub fn factory(spec: &ServerSpec, config: &YardConfig) -> Self {
        Self {
            on: false,
            boot: BootOverride {
                enabled: "Disabled".into(),
                target: "None".into(),
                mode: if spec.boot_mode == crate::config::BootMode::BiosPxe { "Legacy" } else { "UEFI" }.into(),
                boot_next: None,
                http_uri: None,
            },
            boot_order: (0..=spec.nics.len()).map(|n| format!("Boot{n:04}")).collect(),
            disk: None,
            os: None,
            cables: vec![true; spec.nics.len()],
            bmc: BmcState::factory(config),
            identity: None,
        }
    }
}

impl Server {
    /// A server in this state; a running system goes on running.
    pub fn new(spec: ServerSpec, mut kept: Kept) -> Self {
        // Nobody goes on writing firmware.
        kept.bmc.tasks.retain(|task| task.state != "Running");
        let stage = match (&kept.on, &kept.os) {
            (false, _) => Stage::Off,
            (true, Some(_)) => Stage::OsUp,
            (true, None) => Stage::Post,
        };
        let state = State {
            was_on: kept.on,
            generation: 0,
            task: CancellationToken::new(),
            stage,
            stage_since: crate::events::now(),
            log: VecDeque::new(),
            tty: tty::Tty::default(),
            vnc_sessions: 0,
            sessions: BTreeMap::new(),
            bmc_down_until: None,
            boots: 0,
            outbox: VecDeque::new(),
            delivering: false,
            event_number: 0,
            kept,
        };
        Self {
            spec,
            state: Mutex::new(state),
            tls: OnceLock::new(),
            bmc_port: OnceLock::new(),
            console_taken: AtomicBool::new(false),
        }
    }

    /// Looks at or changes the state; never held over an await.
    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut lock(&self.state))
    }

    /// Names of the network ports as the operating system sees them.
    pub fn nic_names(&self) -> &'static [&'static str] {
        &self.spec.model.nic_names
    }

    /// Host name for LLDP: that of the running system.
    pub fn hostname(&self) -> Option<String> {
        self.with(|state| match state.stage {
            Stage::OsUp => state.kept.os.as_ref().map(|os| os.hostname.clone()),
            Stage::Agent => Some("localhost".to_owned()),
            _ => None,
        })
    }
}

impl State {
    /// Goes to another stage.
    pub fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.stage_since = crate::events::now();
    }

    /// A line on the console.
    pub fn console(&mut self, line: impl Into<String>) {
        if self.log.len() == LOG_LINES {
            self.log.pop_front();
        }
        let line = line.into();
        self.tty_line(&line);
        self.log.push_back(format!("{} {line}", chrono::Utc::now().format("%H:%M:%S%.3f")));
    }

    /// A line in the system event log.
    pub fn sel(&mut self, severity: &str, text: impl Into<String>) {
        self.kept.bmc.log(severity, text);
    }

    /// Whether the first disk can be booted.
    pub fn bootable(&self) -> bool {
        self.kept.disk.as_ref().is_some_and(|disk| disk.bootable)
    }
}
