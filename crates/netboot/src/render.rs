//! cloud-init NoCloud seeds from OS templates.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value, value::Serde};
use model::{
    boot::{BootSession, InstallSpec},
    storage::BlockProtocol,
};
use serde_json::{Map, json};

use crate::san::CHAP_SECRET;

/// Instructions a template may take, so that an endless loop in one ends.
const FUEL: u64 = 1_000_000;

/// Used for a template without user-data of its own.
pub const DEFAULT_USER_DATA: &str = r#"#cloud-config
hostname: {{ hostname|tojson }}
preserve_hostname: false
users:
  - name: {{ username|tojson }}
    lock_passwd: false
    passwd: {{ password_hash|tojson }}
    sudo: "ALL=(ALL) NOPASSWD:ALL"
    shell: /bin/bash
    ssh_authorized_keys: {{ ssh_keys|tojson }}
ssh_pwauth: true
{% if storage.initiator_iqn %}write_files:
  - path: /etc/iscsi/initiatorname.iscsi
    permissions: "0600"
    content: {{ ("InitiatorName=" ~ storage.initiator_iqn ~ "\n")|tojson }}
{% if storage.iscsi %}  - path: /etc/iscsi/iscsid.conf
    append: true
    permissions: "0600"
    content: |
      # Written by Steelyard.
      node.startup = automatic
{% if storage.chap %}      node.session.auth.authmethod = CHAP
      node.session.auth.username = {{ storage.chap.username }}
      node.session.auth.password = {{ storage.chap.secret }}
{% endif %}{% endif %}  - path: /etc/nvme/hostnqn
    content: {{ (storage.initiator_nqn ~ "\n")|tojson }}
{% if storage.nvme_tcp %}  - path: /etc/nvme/discovery.conf
    content: |
{% for target in storage.targets if target.protocol == "nvme_tcp" %}{% for portal in target.portals %}      --transport=tcp --traddr={{ portal.address }} --trsvcid={{ portal.port }}
{% endfor %}{% endfor %}  - path: /etc/modules-load.d/steelyard-nvme.conf
    content: "nvme_tcp\n"
{% endif %}{% if storage.several_paths %}  - path: /etc/multipath.conf
    content: |
      defaults {
          user_friendly_names yes
          find_multipaths yes
      }
{% endif %}runcmd:
{% if storage.several_paths %}  - [sh, -c, "systemctl restart multipathd 2>/dev/null || true"]
{% endif %}{% if storage.iscsi %}  - [sed, -i, "s/^node.startup *= *manual/node.startup = automatic/", /etc/iscsi/iscsid.conf]
  - [sh, -c, "systemctl restart iscsid 2>/dev/null || true"]
{% for target in storage.targets if target.protocol == "iscsi" %}{% for portal in target.portals %}  - {{ ["iscsiadm", "-m", "discovery", "-t", "sendtargets", "-p", ("[" ~ portal.address ~ "]" if ":" in portal.address else portal.address) ~ ":" ~ portal.port]|tojson }}
{% endfor %}{% endfor %}  - [iscsiadm, -m, node, -L, all]
  - [sh, -c, "systemctl enable open-iscsi 2>/dev/null || systemctl enable iscsi 2>/dev/null || true"]
{% endif %}{% if storage.nvme_tcp %}  - [modprobe, nvme_tcp]
{% for target in storage.targets if target.protocol == "nvme_tcp" %}{% for portal in target.portals %}  - {{ ["nvme", "connect-all", "--transport=tcp", "--traddr=" ~ portal.address, "--trsvcid=" ~ portal.port, "--hostnqn=" ~ storage.initiator_nqn]|tojson }}
{% endfor %}{% endfor %}  - [sh, -c, "systemctl enable nvmf-autoconnect 2>/dev/null || true"]
{% endif %}{% endif %}{% if storage.mounts %}mounts:
{% for mount in storage.mounts %}{% if mount.source %}  - {{ [mount.source, mount.path, "nfs", (mount.options ~ "," if mount.options else "") ~ "_netdev,nofail", "0", "0"]|tojson }}
{% endif %}{% endfor %}{% endif %}phone_home:
  url: {{ phone_home_url|tojson }}
  post: [instance_id, hostname, pub_key_ed25519]
  tries: 10
"#;

/// Used for a template without meta-data of its own. A new job is a new instance to cloud-init.
pub const DEFAULT_META_DATA: &str = "\
instance-id: \"steelyard-{{ instance_id }}-{{ job_id }}\"
local-hostname: {{ hostname|tojson }}
";

/// A template could not be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{document} of OS template {template:?}: {message}")]
pub struct RenderError {
    /// `user-data`, `meta-data`, or the name of a file.
    pub document: String,
    /// Name of the OS template.
    pub template: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Values that only the site can add to an [`InstallSpec`].
#[derive(Clone, Copy)]
pub struct SeedContext<'a> {
    /// The session; its token becomes part of URLs.
    pub session: &'a BootSession,
    /// What is installed.
    pub install: &'a InstallSpec,
    /// crypt(3) hash of the password.
    pub password_hash: &'a str,
    /// Secrets by name.
    pub secrets: &'a BTreeMap<String, String>,
    /// Base of URLs without a trailing slash.
    pub http_base: &'a str,
}

impl SeedContext<'_> {
    pub(crate) fn variables(&self) -> Map<String, serde_json::Value> {
        let i = self.install;
        // Custom variables by their own names; the built-in ones win.
        let mut all = i.variables.clone();
        let built_in = json!({
            "hostname": i.hostname,
            "username": i.username,
            "password_hash": self.password_hash,
            "ssh_keys": i.ssh_keys,
            "instance_id": i.instance_id,
            "job_id": self.session.job_id,
            "server_id": self.session.server_id,
            "os_name": i.os.os_name,
            "os_version": i.os.os_version,
            "network_config": i.network_config,
            "phone_home_url": format!("{}/phone-home/{}", self.http_base, self.session.token),
            "seed_url": format!("{}/seed/{}/", self.http_base, self.session.token),
            "ready_url": format!("{}/ready/{}", self.http_base, self.session.token),
            "interfaces": crate::installer::interfaces(&i.network_config),
            "storage": self.storage(),
            "variables": i.variables,
            "secrets": self.secrets.iter().filter(|(name, _)| *name != CHAP_SECRET).collect::<BTreeMap<_, _>>(),
        });
        if let serde_json::Value::Object(built_in) = built_in {
            all.extend(built_in);
        }
        all
    }

    /// Storage with the login in clear, where there is one.
    fn storage(&self) -> serde_json::Value {
        let mut storage = json!(self.install.storage);
        let chap = self.install.storage.chap.as_ref().map(|chap| &chap.username).zip(self.secrets.get(CHAP_SECRET));
        storage["chap"] = chap.map(|(username, secret)| json!({"username": username, "secret": secret})).into();
        let speaks = |p| self.install.storage.targets.iter().filter(move |t| t.protocol == p);
        storage["iscsi"] = (speaks(BlockProtocol::Iscsi).count() > 0).into();
        storage["nvme_tcp"] = (speaks(BlockProtocol::NvmeTcp).count() > 0).into();
        storage["several_paths"] = self.install.storage.targets.iter().any(|t| t.portals.len() > 1).into();
        storage
    }

    fn render(&self, document: &str, source: &str) -> Result<String, RenderError> {
        render(document, &self.install.os.name, source, &self.variables())
    }

    /// The user-data: cloud-config, autoinstall or whatever the template's text makes.
    pub fn user_data(&self) -> Result<String, RenderError> {
        self.render("user-data", self.install.os.user_data.as_deref().unwrap_or(DEFAULT_USER_DATA))
    }

    /// The meta-data.
    pub fn meta_data(&self) -> Result<String, RenderError> {
        self.render("meta-data", self.install.os.meta_data.as_deref().unwrap_or(DEFAULT_META_DATA))
    }

    /// The network configuration: netplan version 2 as JSON.
    pub fn network_config(&self) -> String {
        format!("{:#}\n", self.install.network_config)
    }
}

/// One text of a template with these values.
pub(crate) fn render(
    document: &str,
    of: &str,
    source: &str,
    variables: &Map<String, serde_json::Value>,
) -> Result<String, RenderError> {
    let environment = environment();
    let failed = |message: String| RenderError { document: document.to_owned(), template: of.to_owned(), message };
    let template = environment
        .template_from_named_str(document, source)
        .map_err(|e| failed(format!("{e}; correct the template's text")))?;
    let mut text = template.render(Value::from(Serde(variables))).map_err(|error| {
        if error.kind() != ErrorKind::UndefinedError {
            return failed(error.to_string());
        }
        let missing: BTreeSet<String> = template
            .undeclared_variables(false)
            .into_iter()
            .filter(|name| !variables.contains_key(name) && !environment.globals().any(|(g, _)| g == name))
            .collect();
        let names = missing.into_iter().collect::<Vec<_>>().join(", ");
        let line = error.line().map(|l| format!(" in line {l}")).unwrap_or_default();
        failed(if names.is_empty() {
            format!("a value is not defined{line}; give it or use |default(…)")
        } else {
            format!("not defined{line}: {names}; set it as a custom variable or use |default(…)")
        })
    })?;
    // The engine takes the last line break off.
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    crate::installer::add_filters(&mut environment);
    environment
}
