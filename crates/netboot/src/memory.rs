//! The traits of [`crate::backend`] in memory, for tests of this and other crates.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use model::{
    Id, Mac,
    agent::{AgentInventory, Done, IscsiVolume, Next, Progress, TaskKind},
    boot::BootSession,
    snapshot::{Fact, SiteServer},
};

use crate::{
    backend::{BackendError, Directory, Leases, Purpose, SessionEvents},
    dhcp::{Lease, LeaseChange},
    token,
    view::SiteView,
};

/// What a machine reported, with the job of its session.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// See [`SessionEvents::progress`].
    Progress(Id, Progress),
    /// See [`SessionEvents::inventory`].
    Inventory(Id, Box<AgentInventory>),
    /// See [`SessionEvents::done`].
    Done(Id, Done),
    /// See [`SessionEvents::phone_home`].
    PhoneHome(Id, BTreeMap<String, String>),
    /// See [`SessionEvents::seed_read`].
    SeedRead(Id, String),
}

#[derive(Default)]
struct State {
    view: Arc<SiteView>,
    sessions: Vec<(BootSession, bool)>,
    discovery: Option<String>,
    bound: HashMap<Id, String>,
    leases: HashMap<Ipv4Addr, Lease>,
    events: Vec<Event>,
    medium: Option<PathBuf>,
    volume: Option<IscsiVolume>,
    broken: bool,
}

/// A site in memory.
#[derive(Default)]
pub struct MemorySite(Mutex<State>);

impl MemorySite {
    /// With these facts.
    pub fn new(facts: impl IntoIterator<Item = Fact>) -> Self {
        let site = Self::default();
        site.state().view = Arc::new(SiteView::from_facts(facts));
        site
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checked(&self) -> Result<MutexGuard<'_, State>, BackendError> {
        let state = self.state();
        if state.broken { Err(BackendError::new("the store is out of order")) } else { Ok(state) }
    }

    /// Start a session.
    pub fn add_session(&self, session: BootSession) {
        self.state().sessions.push((session, true));
    }

    /// Answer unknown machines with a discovery session that has this token.
    pub fn allow_discovery(&self, token: String) {
        self.state().discovery = Some(token);
    }

    /// The installation medium of all sessions.
    pub fn set_medium(&self, path: PathBuf) {
        self.state().medium = Some(path);
    }

    /// The volume of all installations and servers that are on one.
    pub fn set_volume(&self, volume: IscsiVolume) {
        self.state().volume = Some(volume);
    }

    /// Fail every call from now on, or no longer.
    pub fn set_broken(&self, broken: bool) {
        self.state().broken = broken;
    }

    /// What was reported so far.
    pub fn events(&self) -> Vec<Event> {
        self.state().events.clone()
    }

    /// Stored leases in order of address.
    pub fn leases(&self) -> Vec<Lease> {
        let mut leases: Vec<_> = self.state().leases.values().cloned().collect();
        leases.sort_by_key(|l| l.address);
        leases
    }
}

#[async_trait]
impl Directory for MemorySite {
    async fn install_volume(&self, _: &BootSession) -> Result<Option<IscsiVolume>, BackendError> {
        Ok(self.checked()?.volume.clone())
    }

    async fn boot_volume(&self, _: &SiteServer) -> Result<IscsiVolume, BackendError> {
        self.checked()?.volume.clone().ok_or_else(|| BackendError::new("no volume"))
    }

    async fn view(&self) -> Result<Arc<SiteView>, BackendError> {
        Ok(self.checked()?.view.clone())
    }

    async fn session_by_mac(&self, mac: &Mac) -> Result<Option<BootSession>, BackendError> {
        let state = self.checked()?;
        Ok(state.sessions.iter().find(|(s, live)| *live && s.macs.contains(mac)).map(|(s, _)| s.clone()))
    }

    async fn session_by_token(&self, presented: &str, purpose: Purpose) -> Result<Option<BootSession>, BackendError> {
        let state = self.checked()?;
        Ok(state
            .sessions
            .iter()
            .filter(|(s, _)| token::matches(&s.token, presented))
            .find(|(s, live)| match purpose {
                Purpose::Agent => *live,
                Purpose::Done => true,
                Purpose::PhoneHome => s.task == TaskKind::Install,
            })
            .map(|(s, _)| s.clone()))
    }

    async fn bind(&self, session: &BootSession, certificate: &str) -> Result<bool, BackendError> {
        let mut state = self.checked()?;
        Ok(state.bound.entry(session.job_id).or_insert_with(|| certificate.to_owned()) == certificate)
    }

    async fn unbind(&self, session: &BootSession) -> Result<(), BackendError> {
        self.checked()?.bound.remove(&session.job_id);
        Ok(())
    }

    async fn discovery_session(&self, mac: &Mac) -> Result<Option<BootSession>, BackendError> {
        let mut state = self.checked()?;
        let Some(token) = state.discovery.clone() else { return Ok(None) };
        let session = BootSession {
            job_id: 0,
            server_id: 0,
            macs: vec![mac.clone()],
            task: TaskKind::Discover,
            install: None,
            clean: None,
            token,
        };
        state.sessions.push((session.clone(), true));
        Ok(Some(session))
    }

    async fn secrets(&self, session: &BootSession) -> Result<BTreeMap<String, String>, BackendError> {
        // Nothing is sealed here.
        let all = session.install.iter().flat_map(|i| &i.secrets);
        Ok(all.map(|(name, value)| (name.clone(), value.0.clone())).collect())
    }

    async fn password(&self, session: &BootSession) -> Result<String, BackendError> {
        drop(self.checked()?);
        Ok(session.install.as_ref().map(|i| i.password.0.clone()).unwrap_or_default())
    }

    async fn medium(&self, _session: &BootSession) -> Result<Option<PathBuf>, BackendError> {
        Ok(self.checked()?.medium.clone())
    }

    async fn password_hash(&self, _session: &BootSession) -> Result<String, BackendError> {
        drop(self.checked()?);
        Ok("$6$salt$hash".to_owned())
    }
}

#[async_trait]
impl Leases for MemorySite {
    async fn load(&self) -> Result<Vec<Lease>, BackendError> {
        Ok(self.checked()?.leases.values().cloned().collect())
    }

    async fn save(&self, changes: &[LeaseChange]) -> Result<(), BackendError> {
        let mut state = self.checked()?;
        for change in changes {
            match change {
                LeaseChange::Put(lease) => {
                    state.leases.insert(lease.address, lease.clone());
                }
                LeaseChange::Remove(address) => {
                    state.leases.remove(address);
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl SessionEvents for MemorySite {
    async fn progress(&self, session: &BootSession, progress: Progress) -> Result<(), BackendError> {
        self.checked()?.events.push(Event::Progress(session.job_id, progress));
        Ok(())
    }

    async fn inventory(&self, session: &BootSession, inventory: AgentInventory) -> Result<(), BackendError> {
        self.checked()?.events.push(Event::Inventory(session.job_id, Box::new(inventory)));
        Ok(())
    }

    async fn done(&self, session: &BootSession, done: Done) -> Result<Next, BackendError> {
        let mut state = self.checked()?;
        for (other, live) in &mut state.sessions {
            if other.token == session.token {
                *live = false;
            }
        }
        state.events.push(Event::Done(session.job_id, done));
        Ok(if session.task == TaskKind::Install { Next::Reboot } else { Next::PowerOff })
    }

    async fn seed_read(&self, session: &BootSession, file: &str) -> Result<(), BackendError> {
        self.checked()?.events.push(Event::SeedRead(session.job_id, file.to_owned()));
        Ok(())
    }

    async fn phone_home(&self, session: &BootSession, form: BTreeMap<String, String>) -> Result<(), BackendError> {
        self.checked()?.events.push(Event::PhoneHome(session.job_id, form));
        Ok(())
    }
}
