//! What the texts of an OS template become, with values that stand for those of a server: for whoever writes a template, before a server is
//! installed with it.

use std::collections::BTreeMap;

use model::{
    agent::TaskKind,
    boot::{BootSession, InstallSpec},
    secret::Sealed,
    storage::InstanceStorage,
    template::{InstallMethod, OsInstall, ReadySignal},
};
use serde_json::{Map, Value, json};

use crate::{
    installer::InstallerContext,
    render::{RenderError, SeedContext},
};

/// What a text becomes, or why it cannot.
pub type Document = (String, Result<String, RenderError>);

/// Values of the server that is shown.
#[derive(Clone, Debug)]
pub struct Example {
    /// Its host name.
    pub hostname: String,
    /// User of the new system.
    pub username: String,
    /// Custom variables.
    pub variables: Map<String, Value>,
    /// Names of secrets that the texts speak of; their values are never shown.
    pub secrets: Vec<String>,
}

/// Stands where a password would be.
const NO_SECRET: &str = "(not shown here)";

/// Every text of the template as a server gets it; one that fails does not hide the others. Addresses are of the blocks for documentation.
pub fn preview(os: &OsInstall, example: &Example) -> Vec<Document> {
    let spec = InstallSpec {
        instance_id: 1,
        hostname: example.hostname.clone(),
        os: os.clone(),
        username: example.username.clone(),
        password: Sealed(String::new()),
        ssh_keys: vec!["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample operator@example.net".into()],
        network_config: json!({
            "version": 2,
            "ethernets": {
                "nic0": {
                    "match": {"macaddress": "52:54:00:00:00:01"}, "set-name": "nic0", "mtu": 1500, "addresses": ["192.0.2.10/24"],
                    "routes": [{"to": "default", "via": "192.0.2.1"}], "nameservers": {"addresses": ["192.0.2.2"]},
                },
                "nic1": {"match": {"macaddress": "52:54:00:00:00:02"}, "set-name": "nic1", "mtu": 1500, "addresses": ["198.51.100.10/24"]},
            },
        }),
        variables: example.variables.clone(),
        secrets: BTreeMap::new(),
        storage: InstanceStorage::default(),
    };
    let session = BootSession {
        job_id: 1,
        server_id: 1,
        macs: Vec::new(),
        task: TaskKind::Install,
        install: None,
        clean: None,
        token: "TOKEN".into(),
    };
    let secrets = example.secrets.iter().map(|name| (name.clone(), NO_SECRET.to_owned())).collect();
    let seed = SeedContext {
        session: &session,
        install: &spec,
        password_hash: NO_SECRET,
        secrets: &secrets,
        http_base: "http://192.0.2.3:8082",
    };
    let installer = InstallerContext { seed, password: NO_SECRET };
    let mut all: Vec<Document> = Vec::new();
    if matches!(os.method, InstallMethod::Image) || os.user_data.is_some() {
        all.push(("user-data".into(), seed.user_data()));
        all.push(("meta-data".into(), seed.meta_data()));
        all.push(("network-config".into(), Ok(seed.network_config())));
    }
    if matches!(os.method, InstallMethod::Network { .. }) {
        all.push(("kernel-arguments".into(), installer.arguments()));
    }
    if matches!(os.ready, ReadySignal::ApiResponse { .. }) {
        all.push(("ready-url".into(), installer.ready_url().map(Option::unwrap_or_default)));
    }
    all.extend(os.files.keys().filter_map(|name| Some((name.clone(), installer.file(name)?))));
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use model::template::{ImageRef, TextFile};

    use super::*;

    fn os() -> OsInstall {
        let image = ImageRef { sha256: "0".repeat(64), size: 1, format: "raw".into(), url: None };
        OsInstall {
            template_id: 1,
            name: "Debian".into(),
            os_name: "Debian".into(),
            os_version: "12".into(),
            image,
            method: InstallMethod::Image,
            files: BTreeMap::new(),
            ready: ReadySignal::PowerOff,
            erase: None,
            local_disk_only: false,
            user_data: None,
            meta_data: None,
        }
    }

    fn example() -> Example {
        Example {
            hostname: "web-1".into(),
            username: "steel".into(),
            variables: Map::new(),
            secrets: vec!["join".into()],
        }
    }

    #[test]
    fn every_text_is_shown_and_one_that_fails_hides_no_other() {
        let mut os = os();
        let text = |text: &str| TextFile { text: text.into(), template: true, path: String::new() };
        os.files.insert("good.cfg".into(), text("host {{ hostname }} {{ interfaces[0].address }} {{ secrets.join }}"));
        os.files.insert("wrong.cfg".into(), text("{{ role }}"));
        let all: BTreeMap<_, _> = preview(&os, &example()).into_iter().collect();
        assert!(all["user-data"].as_ref().unwrap().contains("hostname: \"web-1\""));
        assert_eq!(all["good.cfg"].as_deref(), Ok("host web-1 192.0.2.10 (not shown here)\n"));
        assert!(all["wrong.cfg"].as_ref().unwrap_err().message.contains("role"), "{all:?}");
        let mut known = example();
        known.variables.insert("role".into(), "db".into());
        let all: BTreeMap<_, _> = preview(&os, &known).into_iter().collect();
        assert_eq!(all["wrong.cfg"].as_deref(), Ok("db\n"));
    }

    #[test]
    fn installers_show_their_command_line() {
        let mut os = os();
        os.method =
            InstallMethod::Network { initrds: Vec::new(), arguments: "auto url={{ seed_url }}preseed.cfg".into() };
        let all = preview(&os, &example());
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].1.as_deref(), Ok("auto url=http://192.0.2.3:8082/seed/TOKEN/preseed.cfg"));
    }
}
