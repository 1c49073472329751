//! Device state over a restart: one JSON file, replaced in one go.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    YardError, lock,
    server::Kept,
    storage::{ArrayKind, tables::Tables},
    tls::Identity,
    world::World,
};

/// What a switch keeps.
#[derive(Clone, Serialize, Deserialize)]
pub struct SavedSwitch {
    /// Saved configuration.
    pub startup: Value,
    /// Configuration in force.
    pub applied: Value,
    /// Certificate.
    pub identity: Option<Identity>,
}

/// What a storage array keeps.
#[derive(Clone, Serialize, Deserialize)]
pub struct SavedArray {
    /// What it is.
    pub kind: ArrayKind,
    /// Everything in it.
    pub state: Tables,
    /// Certificate.
    pub identity: Option<Identity>,
}

/// The file.
#[derive(Default, Serialize, Deserialize)]
pub struct Saved {
    /// Servers by serial number.
    pub servers: BTreeMap<String, Kept>,
    /// Switches by host name.
    pub switches: BTreeMap<String, SavedSwitch>,
    /// Storage arrays by name.
    #[serde(default)]
    pub arrays: BTreeMap<String, SavedArray>,
}

impl Saved {
    /// Reads the file; none is an empty state.
    pub fn load(path: &Path) -> Result<Self, YardError> {
        let fail = |error: &dyn std::fmt::Display| {
            YardError::State(format!("{}: {error}; repair or remove the file", path.display()))
        };
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| fail(&error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(fail(&error)),
        }
    }

    fn of(world: &World) -> Self {
        let servers = world
            .servers
            .iter()
            .map(|server| (server.spec.serial.clone(), server.with(|state| state.kept.clone())))
            .collect();
        let switches = world
            .switches
            .iter()
            .map(|switch| {
                let (startup, applied) = {
                    let state = lock(&switch.state);
                    (state.startup.clone(), state.applied.clone())
                };
                let identity = lock(&switch.identity).clone();
                (switch.spec.hostname.clone(), SavedSwitch { startup, applied, identity })
            })
            .collect();
        let arrays = world
            .arrays
            .iter()
            .map(|array| {
                let (state, identity) = (lock(&array.state).clone(), lock(&array.identity).clone());
                (array.name.clone(), SavedArray { kind: array.kind, state, identity })
            })
            .collect();
        Self { servers, switches, arrays }
    }
}

/// Writes the state, if there is a file for it. It holds passwords, so only its owner may read it.
pub fn save(world: &World) -> Result<(), YardError> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let Some(path) = &world.config.persist else { return Ok(()) };
    let fail = |error: &dyn std::fmt::Display| YardError::State(format!("{}: {error}", path.display()));
    let bytes = serde_json::to_vec(&Saved::of(world)).map_err(|error| fail(&error))?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| fail(&error))?;
    }
    let fresh = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(|error| fail(&error))?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(|error| fail(&error))?;
    std::fs::rename(&fresh, path).map_err(|error| fail(&error))
}

/// Saves soon after changes, at most twice a second; costs nothing while nothing changes.
pub async fn keep(world: Arc<World>) {
    if world.config.persist.is_none() {
        return;
    }
    loop {
        tokio::select! { () = world.shutdown.cancelled() => return, () = world.until_changed() => {} }
        tokio::select! { () = world.shutdown.cancelled() => return, () = tokio::time::sleep(Duration::from_millis(500)) => {} }
        if world.take_changed() {
            let saver = world.clone();
            match tokio::task::spawn_blocking(move || save(&saver)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "device state is not saved"),
                Err(error) => tracing::error!(%error, "device state is not saved"),
            }
        }
    }
}
