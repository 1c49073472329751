//! What the services need from the Site Controller's store.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use model::{
    Mac,
    agent::{AgentInventory, Done, IscsiVolume, Next, Progress},
    boot::BootSession,
    snapshot::SiteServer,
};

use crate::{
    dhcp::{Lease, LeaseChange},
    view::SiteView,
};

/// The store could not answer. Clients are told to try again; they never get a guess.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct BackendError(pub String);

impl BackendError {
    /// From words that say what failed.
    pub fn new(message: impl std::fmt::Display) -> Self {
        Self(message.to_string())
    }
}

/// A machine that nobody knows, as its request for an address shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// Its MAC address.
    pub mac: Mac,
    /// What it was given.
    pub address: std::net::Ipv4Addr,
    /// The port of the relay that it is behind (option 82).
    pub circuit_id: Option<String>,
    /// What it says that it is (option 60).
    pub vendor_class: Option<String>,
}

/// What a presented token is to be used for. A session's life differs by purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Ask for the task, report progress and inventory, fetch the seed: while the session lives.
    Agent,
    /// Report the end: while the session lives, and after it ended by such a report, so that an agent which lost the
    /// answer may repeat the report. Never for a session that was killed or timed out.
    Done,
    /// Tell that the installed system is up: from the start of an `install` session until its job is over. This is
    /// after the agent's session has ended.
    PhoneHome,
}

/// What is known of machines and why they may boot.
#[async_trait]
pub trait Directory: Send + Sync {
    /// Servers, pools and settings as of now. Called for every packet: hand out the same `Arc` until facts change.
    async fn view(&self) -> Result<Arc<SiteView>, BackendError>;

    /// The live session bound to this MAC, with its token.
    async fn session_by_mac(&self, mac: &Mac) -> Result<Option<BootSession>, BackendError>;

    /// The session with this token, if the token is good for this purpose. Implementations should look it up by a
    /// digest of the token; the answer is compared again in constant time.
    async fn session_by_token(&self, token: &str, purpose: Purpose) -> Result<Option<BootSession>, BackendError>;

    /// Binds the boot to the machine that has this certificate (SHA-256 in hex), unless another has come first: then `false`.
    async fn bind(&self, session: &BootSession, certificate: &str) -> Result<bool, BackendError>;

    /// The machine starts anew: the boot is bound to whoever comes next with its token.
    async fn unbind(&self, session: &BootSession) -> Result<(), BackendError>;

    /// A session of kind `discover` for a machine that nobody knows: the running one, or a new one. `None` when
    /// discovery is switched off or too many are open; the machine then boots its own disk.
    async fn discovery_session(&self, mac: &Mac) -> Result<Option<BootSession>, BackendError>;

    /// A machine that nobody knows was given an address. Called after the answer has left; it may come again and again, and for every
    /// packet: it only takes note, and waits for nothing.
    fn stranger(&self, _stranger: Stranger) {}

    /// The crypt(3) hash (`$6$…`, `$y$…`) of the session's sealed password, stable over repeated calls.
    async fn password_hash(&self, session: &BootSession) -> Result<String, BackendError>;

    /// The session's secrets in clear, by name, for templates that speak of them.
    async fn secrets(&self, session: &BootSession) -> Result<BTreeMap<String, String>, BackendError>;

    /// The session's password in clear, for installers that cannot take a hash.
    async fn password(&self, session: &BootSession) -> Result<String, BackendError>;

    /// For an installation on a volume: that volume; `None` while it is not known how to reach it.
    async fn install_volume(&self, _session: &BootSession) -> Result<Option<IscsiVolume>, BackendError> {
        Ok(None)
    }

    /// The volume that this server boots from; an error while it is not known how to reach it. Asked for servers whose fact says so.
    async fn boot_volume(&self, server: &SiteServer) -> Result<IscsiVolume, BackendError> {
        Err(BackendError::new(format!("it is not known how to reach the volume of server {}", server.name)))
    }

    /// The file of the installation medium that is served for this session; `None` when there is none (yet).
    async fn medium(&self, session: &BootSession) -> Result<Option<PathBuf>, BackendError>;
}

/// Where leases live. Only what is agreed with clients is stored; offers stay in memory.
#[async_trait]
pub trait Leases: Send + Sync {
    /// All leases, at start.
    async fn load(&self) -> Result<Vec<Lease>, BackendError>;

    /// Store changes, all or none. Answers leave only after this has returned.
    async fn save(&self, changes: &[LeaseChange]) -> Result<(), BackendError>;
}

/// What machines report. Reports may come twice; each must be idempotent.
#[async_trait]
pub trait SessionEvents: Send + Sync {
    /// The agent works on a step.
    async fn progress(&self, session: &BootSession, progress: Progress) -> Result<(), BackendError>;

    /// What the machine is.
    async fn inventory(&self, session: &BootSession, inventory: AgentInventory) -> Result<(), BackendError>;

    /// The task ended, well or not. The answer is what the machine does now; the token dies for [`Purpose::Agent`].
    async fn done(&self, session: &BootSession, done: Done) -> Result<Next, BackendError>;

    /// A machine has read a file of its seed: its installer works, and must not begin anew when the machine starts again.
    async fn seed_read(&self, session: &BootSession, file: &str) -> Result<(), BackendError>;

    /// The installed system is up. `form` holds what cloud-init posted (`hostname`, `pub_key_ed25519`, …), maybe nothing.
    async fn phone_home(&self, session: &BootSession, form: BTreeMap<String, String>) -> Result<(), BackendError>;
}
