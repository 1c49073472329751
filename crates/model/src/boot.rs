//! Boot sessions: the reason for which a machine may boot from the network.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Id, Mac, agent::TaskKind, cleaning::CleanPlan, secret::Sealed, template::OsInstall};

/// A request to boot one server from the network for one purpose. The site makes a token for it; the session ends when
/// the agent reports done, when the job is killed, or at its deadline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BootSession {
    /// The job that asked for it: one session a job.
    pub job_id: Id,
    /// The server.
    pub server_id: Id,
    /// MAC addresses it may boot from.
    pub macs: Vec<Mac>,
    /// Purpose.
    pub task: TaskKind,
    /// For `install`: what to install.
    #[serde(default)]
    pub install: Option<InstallSpec>,
    /// For `clean`: how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean: Option<CleanPlan>,
    /// Bearer token of this session (hex, 32 bytes of entropy). Empty until the site has made it.
    #[serde(default)]
    pub token: String,
}

/// All that an installation needs, in full, so that a site can do it alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstallSpec {
    /// Server instance being installed.
    pub instance_id: Id,
    /// Host name of the new system.
    pub hostname: String,
    /// The operating system.
    pub os: OsInstall,
    /// User that is created.
    pub username: String,
    /// Its password, sealed for the site.
    pub password: Sealed,
    /// Public SSH keys, one a line as in `authorized_keys`.
    #[serde(default)]
    pub ssh_keys: Vec<String>,
    /// Netplan version 2 as JSON (which is YAML).
    pub network_config: serde_json::Value,
    /// Variables for templates, by name: custom variables of every level merged, nearest wins.
    #[serde(default)]
    pub variables: serde_json::Map<String, serde_json::Value>,
    /// Secrets that the template's texts speak of, by name, sealed for the site.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Sealed>,
    /// Volumes and shares of the new system.
    #[serde(default, skip_serializing_if = "crate::storage::InstanceStorage::is_empty")]
    pub storage: crate::storage::InstanceStorage,
}
