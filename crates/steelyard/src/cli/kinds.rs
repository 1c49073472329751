//! The kinds that the command line knows, as data.

use anyhow::{Context, Result, bail};
use client::{Client, ListOptions};
use serde_json::Value;

/// One kind.
#[derive(Debug)]
pub struct Kind {
    /// Name of the command.
    pub name: &'static str,
    /// Collection, below `/api/v2`.
    pub path: &'static str,
    /// Collection within a parent, `{}` standing for its id, and the parent's kind.
    pub within: Option<(&'static str, &'static str)>,
    /// Only the collection within a parent takes new ones.
    pub create_within: bool,
    /// Where changes go, after the object's path.
    pub update_suffix: &'static str,
    /// Key of the id.
    pub id: &'static str,
    /// Keys that name an object for people.
    pub names: &'static [&'static str],
    /// Columns of the table: title and JSON pointer.
    pub columns: &'static [(&'static str, &'static str)],
}

const fn kind(
    name: &'static str,
    path: &'static str,
    names: &'static [&'static str],
    columns: &'static [(&'static str, &'static str)],
) -> Kind {
    Kind { name, path, within: None, create_within: false, update_suffix: "", id: "id", names, columns }
}

/// All of them.
pub static KINDS: &[Kind] = &[
    Kind {
        update_suffix: "/config",
        ..kind(
            "infrastructure",
            "/infrastructures",
            &["label"],
            &[
                ("ID", "/id"),
                ("LABEL", "/label"),
                ("SITE", "/siteId"),
                ("STATUS", "/serviceStatus"),
                ("DEPLOY", "/config/deployStatus"),
                ("UPDATED", "/updatedTimestamp"),
            ],
        )
    },
    Kind {
        within: Some(("/infrastructures/{}/server-instance-groups", "infrastructure")),
        create_within: true,
        update_suffix: "/config",
        ..kind(
            "group",
            "/server-instance-groups",
            &["label"],
            &[
                ("ID", "/id"),
                ("LABEL", "/label"),
                ("COUNT", "/config/instanceCount"),
                ("TYPE", "/config/defaultServerTypeId"),
                ("OS", "/config/osTemplateId"),
                ("STATUS", "/serviceStatus"),
                ("DEPLOY", "/config/deployStatus"),
            ],
        )
    },
    Kind {
        within: Some(("/infrastructures/{}/server-instances", "infrastructure")),
        ..kind(
            "instance",
            "/server-instances",
            &["label"],
            &[
                ("ID", "/id"),
                ("LABEL", "/label"),
                ("GROUP", "/groupId"),
                ("SERVER", "/serverId"),
                ("HOSTNAME", "/hostname"),
                ("STATUS", "/serviceStatus"),
            ],
        )
    },
    Kind {
        id: "serverId",
        ..kind(
            "server",
            "/servers",
            &["serialNumber"],
            &[
                ("ID", "/serverId"),
                ("SERIAL", "/serialNumber"),
                ("VENDOR", "/vendor"),
                ("MODEL", "/model"),
                ("STATUS", "/serverStatus"),
                ("POWER", "/powerStatus"),
                ("TYPE", "/serverTypeId"),
                ("BMC", "/managementAddress"),
            ],
        )
    },
    kind(
        "server-type",
        "/server-types",
        &["name", "label"],
        &[
            ("ID", "/id"),
            ("NAME", "/name"),
            ("CORES", "/processorCoreCount"),
            ("RAM GB", "/ramGbytes"),
            ("DISKS", "/diskCount"),
            ("NICS", "/networkInterfaceCount"),
            ("GPUS", "/gpuCount"),
        ],
    ),
    kind(
        "site",
        "/sites",
        &["slug", "name"],
        &[("ID", "/id"), ("SLUG", "/slug"), ("NAME", "/name"), ("MAINTENANCE", "/isInMaintenance")],
    ),
    Kind {
        id: "jobId",
        ..kind(
            "job",
            "/jobs",
            &[],
            &[
                ("ID", "/jobId"),
                ("FUNCTION", "/functionName"),
                ("STATUS", "/status"),
                ("GROUP", "/jobGroupId"),
                ("TRIES", "/callCount"),
                ("MS", "/durationMilliseconds"),
                ("SERVER", "/serverId"),
                ("SWITCH", "/networkDeviceId"),
            ],
        )
    },
    kind(
        "job-group",
        "/job-groups",
        &[],
        &[
            ("ID", "/id"),
            ("TYPE", "/type"),
            ("DESCRIPTION", "/description"),
            ("CREATED", "/createdTimestamp"),
            ("FINISHED", "/finishedTimestamp"),
        ],
    ),
    kind(
        "network",
        "/logical-networks",
        &["label"],
        &[
            ("ID", "/id"),
            ("LABEL", "/label"),
            ("KIND", "/kind"),
            ("FABRIC", "/fabricId"),
            ("INFRASTRUCTURE", "/infrastructureId"),
            ("STATUS", "/serviceStatus"),
        ],
    ),
    kind(
        "network-profile",
        "/logical-network-profiles",
        &["label"],
        &[("ID", "/id"), ("LABEL", "/label"), ("KIND", "/kind"), ("FABRIC", "/fabricId")],
    ),
    kind(
        "fabric",
        "/network-fabrics",
        &["name"],
        &[("ID", "/id"), ("NAME", "/name"), ("SITE", "/siteId"), ("STATUS", "/status")],
    ),
    kind(
        "switch",
        "/network-devices",
        &["identifierString"],
        &[
            ("ID", "/id"),
            ("NAME", "/identifierString"),
            ("DRIVER", "/driver"),
            ("POSITION", "/position"),
            ("STATUS", "/status"),
            ("ADDRESS", "/managementAddress"),
        ],
    ),
    kind(
        "subnet",
        "/subnets",
        &["label"],
        &[
            ("ID", "/id"),
            ("LABEL", "/label"),
            ("NETWORK", "/networkAddress"),
            ("PREFIX", "/prefixLength"),
            ("POOL", "/isPool"),
            ("PARENT", "/parentSubnetId"),
        ],
    ),
    kind(
        "os-template",
        "/os-templates",
        &["label", "name"],
        &[
            ("ID", "/id"),
            ("LABEL", "/label"),
            ("NAME", "/name"),
            ("STATUS", "/status"),
            ("OS", "/os/name"),
            ("VERSION", "/os/version"),
        ],
    ),
    kind(
        "event",
        "/events",
        &[],
        &[("ID", "/id"), ("WHEN", "/occurredTimestamp"), ("SEVERITY", "/severity"), ("TITLE", "/title")],
    ),
    kind(
        "user",
        "/users",
        &["email"],
        &[
            ("ID", "/id"),
            ("EMAIL", "/email"),
            ("NAME", "/displayName"),
            ("LEVEL", "/accessLevel"),
            ("ACCOUNT", "/accountId"),
        ],
    ),
    kind("account", "/accounts", &["name"], &[("ID", "/id"), ("NAME", "/name"), ("ARCHIVED", "/isArchived")]),
    Kind {
        id: "name",
        ..kind("role", "/roles", &["name"], &[("NAME", "/name"), ("LABEL", "/label"), ("TYPE", "/type")])
    },
];

/// The kind of that command.
pub fn by_name(name: &str) -> Result<&'static Kind> {
    KINDS.iter().find(|k| k.name == name).with_context(|| format!("no kind {name:?}"))
}

impl Kind {
    /// Collection to list.
    pub async fn list_path(&self, client: &Client, of: Option<&str>) -> Result<String> {
        match (self.within, of) {
            (Some((path, parent)), Some(of)) => {
                let parent = by_name(parent)?;
                let row = Box::pin(parent.find(client, of)).await?;
                Ok(path.replace("{}", &parent.id_of(&row)?))
            }
            (Some((_, parent)), None) => bail!("which {parent}? add --of {}", parent.to_uppercase()),
            (None, Some(_)) => bail!("{} has no parent; leave --of out", self.name),
            (None, None) => Ok(self.path.to_owned()),
        }
    }

    /// Collection to create in.
    pub async fn create_path(&self, client: &Client, of: Option<&str>) -> Result<String> {
        if self.create_within { self.list_path(client, of).await } else { Ok(self.path.to_owned()) }
    }

    /// The object of that id or name.
    pub async fn find(&self, client: &Client, text: &str) -> Result<Value> {
        let numeric = text.parse::<i64>().is_ok();
        if numeric || self.id == "name" {
            match client.get(&format!("{}/{text}", self.path)).await {
                Err(e) if e.status() == Some(reqwest::StatusCode::NOT_FOUND) && numeric && !self.names.is_empty() => {}
                other => return Ok(other?),
            }
        }
        if self.names.is_empty() || self.within.is_some() && self.create_within {
            bail!("{text:?} is not an id; `steelyard {} list` shows them", self.name);
        }
        let rows = client.list(self.path, &ListOptions { search: Some(text.to_owned()), ..Default::default() }).await?;
        let mut hits =
            rows.into_iter().filter(|r| self.names.iter().any(|n| r.get(n).and_then(Value::as_str) == Some(text)));
        match (hits.next(), hits.next()) {
            (Some(row), None) => Ok(row),
            (Some(_), Some(_)) => bail!("several {}s are called {text:?}; use the id", self.name),
            (None, _) => bail!("there is no {} called {text:?}; `steelyard {} list` shows them", self.name, self.name),
        }
    }

    /// Id of an object, as text.
    pub fn id_of(&self, row: &Value) -> Result<String> {
        match row.get(self.id) {
            Some(Value::String(s)) => Ok(s.clone()),
            Some(Value::Number(n)) => Ok(n.to_string()),
            _ => bail!("the server's answer has no {}", self.id),
        }
    }

    /// Path of an object.
    pub fn path_of(&self, row: &Value) -> Result<String> {
        Ok(format!("{}/{}", self.path, self.id_of(row)?))
    }
}
