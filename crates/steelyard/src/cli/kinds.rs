//! The kinds that the command line knows, as data: each is a command with the same verbs.

use anyhow::{Context, Result, bail};
use clap::{ArgMatches, Command, FromArgMatches, Subcommand};
use client::{Client, ListOptions};
use serde_json::Value;

use super::Verb;

/// The kind whose command does something else as well, and is declared with the others of its sort.
const OWN_COMMAND: &str = "site";

/// One kind.
#[derive(Debug)]
pub struct Kind {
    /// Name of the command.
    pub name: &'static str,
    /// What the help says of it.
    pub about: &'static str,
    /// Collection, below `/api/v2`.
    pub path: &'static str,
    /// Collection within a parent, `{}` standing for its id, and the parent's kind.
    pub within: Option<(&'static str, &'static str)>,
    /// Only the collection within a parent takes new ones.
    pub create_within: bool,
    /// Objects have no place but within their parent.
    pub nested: bool,
    /// Objects are put as a whole, not changed field by field: the fields that an object keeps.
    pub put: Option<&'static [&'static str]>,
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
    about: &'static str,
    path: &'static str,
    names: &'static [&'static str],
    columns: &'static [(&'static str, &'static str)],
) -> Kind {
    Kind {
        name,
        about,
        path,
        within: None,
        create_within: false,
        nested: false,
        put: None,
        update_suffix: "",
        id: "id",
        names,
        columns,
    }
}

/// All of them.
pub static KINDS: &[Kind] = &[
    Kind {
        update_suffix: "/config",
        ..kind(
            "infrastructure",
            "Infrastructures",
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
            "Server instance groups of an infrastructure",
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
            "Server instances of an infrastructure",
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
            "Servers",
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
        "cleanup-policy",
        "Cleanup policies of servers",
        "/servers/cleanup-policies",
        &["label"],
        &[("ID", "/id"), ("LABEL", "/label"), ("METHOD", "/eraseMethod"), ("UPDATED", "/updatedTimestamp")],
    ),
    kind(
        "cleaning-certificate",
        "Certificates of what was erased; `verify-certificate` checks one",
        "/servers/cleaning-certificates",
        &["serialNumber"],
        &[
            ("ID", "/id"),
            ("SERVER", "/serialNumber"),
            ("ERASED", "/succeeded"),
            ("POLICY", "/cleanupPolicyLabel"),
            ("FINISHED", "/finishedTimestamp"),
        ],
    ),
    kind(
        "server-type",
        "Server types",
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
        "Sites",
        "/sites",
        &["slug", "name"],
        &[("ID", "/id"), ("SLUG", "/slug"), ("NAME", "/name"), ("MAINTENANCE", "/isInMaintenance")],
    ),
    Kind {
        id: "jobId",
        ..kind(
            "job",
            "Jobs",
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
        "Job groups",
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
        "Logical networks",
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
        "Logical network profiles",
        "/logical-network-profiles",
        &["label"],
        &[("ID", "/id"), ("LABEL", "/label"), ("KIND", "/kind"), ("FABRIC", "/fabricId")],
    ),
    kind(
        "fabric",
        "Network fabrics",
        "/network-fabrics",
        &["name"],
        &[("ID", "/id"), ("NAME", "/name"), ("SITE", "/siteId"), ("STATUS", "/status")],
    ),
    kind(
        "switch",
        "Switches",
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
        "Subnets and pools",
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
        "OS templates",
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
        "Events",
        "/events",
        &[],
        &[("ID", "/id"), ("WHEN", "/occurredTimestamp"), ("SEVERITY", "/severity"), ("TITLE", "/title")],
    ),
    kind(
        "user",
        "Users",
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
    kind(
        "account",
        "Accounts",
        "/accounts",
        &["name"],
        &[("ID", "/id"), ("NAME", "/name"), ("ARCHIVED", "/isArchived")],
    ),
    Kind {
        id: "name",
        put: Some(&["label", "description", "permissions"]),
        ..kind("role", "Roles", "/roles", &["name"], &[("NAME", "/name"), ("LABEL", "/label"), ("TYPE", "/type")])
    },
    Kind {
        id: "name",
        ..kind(
            "permission",
            "Permissions that roles grant",
            "/permissions",
            &["name"],
            &[("NAME", "/name"), ("LABEL", "/label"), ("TYPE", "/type")],
        )
    },
    Kind {
        within: Some(("/users/{}/ssh-keys", "user")),
        create_within: true,
        nested: true,
        ..kind(
            "ssh-key",
            "Public SSH keys of a user",
            "",
            &[],
            &[("ID", "/id"), ("KEY", "/sshKey"), ("CREATED", "/createdTimestamp")],
        )
    },
    Kind {
        put: Some(&[]),
        ..kind(
            "secret",
            "Secrets for templates; the value is never shown",
            "/secrets",
            &["name"],
            &[("ID", "/id"), ("NAME", "/name"), ("USAGE", "/usage"), ("UPDATED", "/updatedTimestamp")],
        )
    },
    Kind {
        put: Some(&["name", "value", "usage"]),
        ..kind(
            "variable",
            "Variables for templates",
            "/variables",
            &["name"],
            &[("ID", "/id"), ("NAME", "/name"), ("VALUE", "/value"), ("USAGE", "/usage")],
        )
    },
    kind(
        "dns-zone",
        "DNS zones",
        "/dns-zones",
        &["zoneName"],
        &[
            ("ID", "/id"),
            ("ZONE", "/zoneName"),
            ("TYPE", "/zoneType"),
            ("TTL", "/ttl"),
            ("DEFAULT", "/isDefault"),
            ("STATUS", "/status"),
        ],
    ),
    Kind {
        within: Some(("/dns-zones/{}/recordsets", "dns-zone")),
        create_within: true,
        nested: true,
        ..kind(
            "dns-record",
            "Names in a DNS zone",
            "",
            &["name"],
            &[("ID", "/id"), ("NAME", "/name"), ("TYPE", "/type"), ("TTL", "/ttl"), ("RECORDS", "/records")],
        )
    },
    kind(
        "endpoint",
        "Things on switch ports that nobody here manages",
        "/endpoints",
        &["label"],
        &[("ID", "/id"), ("LABEL", "/label"), ("NAME", "/name"), ("SITE", "/siteId"), ("EXTERNAL ID", "/externalId")],
    ),
    Kind {
        within: Some(("/endpoints/{}/interfaces", "endpoint")),
        create_within: true,
        nested: true,
        ..kind(
            "endpoint-port",
            "Switch ports that an endpoint is on",
            "",
            &[],
            &[
                ("ID", "/id"),
                ("SWITCH", "/networkDeviceId"),
                ("PORT", "/networkDeviceInterfaceName"),
                ("MAC", "/macAddress"),
            ],
        )
    },
    Kind {
        within: Some(("/network-devices/{}/ports", "switch")),
        nested: true,
        id: "interfaceId",
        ..kind(
            "switch-port",
            "Ports of a switch",
            "",
            &["interfaceName"],
            &[
                ("ID", "/interfaceId"),
                ("NAME", "/interfaceName"),
                ("STATE", "/driverDumpCachedJson/operStatus"),
                ("SERVER", "/serverId"),
                ("NEIGHBOUR", "/lldpInformation"),
            ],
        )
    },
    Kind {
        within: Some(("/network-devices/defaults/{}", "site")),
        nested: true,
        ..kind(
            "switch-default",
            "What new switches of a site are given",
            "/network-devices/defaults",
            &["identifierString"],
            &[
                ("ID", "/id"),
                ("NAME", "/identifierString"),
                ("MAC", "/managementMacAddress"),
                ("SERIAL", "/serialNumber"),
                ("POSITION", "/position"),
            ],
        )
    },
    kind(
        "switch-secret",
        "Secrets that new switches are given",
        "/network-devices/default-secrets",
        &["secretName"],
        &[("ID", "/id"), ("SITE", "/siteId"), ("SWITCH", "/macAddressOrSerialNumber"), ("NAME", "/secretName")],
    ),
    kind(
        "bgp-template",
        "Texts that configure BGP on switches",
        "/network-device-bgp-configuration-templates",
        &["libraryLabel"],
        &[
            ("ID", "/id"),
            ("LIBRARY", "/libraryLabel"),
            ("ACTION", "/action"),
            ("NETWORK", "/networkType"),
            ("DRIVER", "/networkDeviceDriver"),
            ("POSITION", "/networkDevicePosition"),
        ],
    ),
    kind(
        "lag-template",
        "Texts that configure link aggregations on switches",
        "/network-device-link-aggregation-configuration-templates",
        &["libraryLabel"],
        &[
            ("ID", "/id"),
            ("LIBRARY", "/libraryLabel"),
            ("ACTION", "/action"),
            ("TYPE", "/aggregationType"),
            ("DRIVER", "/networkDeviceDriver"),
        ],
    ),
    Kind {
        within: Some(("/network-fabrics/{}/links", "fabric")),
        create_within: true,
        nested: true,
        ..kind(
            "fabric-link",
            "Links between the switches of a fabric",
            "",
            &[],
            &[
                ("ID", "/id"),
                ("SWITCH", "/networkDeviceAId"),
                ("PORT", "/networkDeviceAPort"),
                ("OTHER SWITCH", "/networkDeviceBId"),
                ("OTHER PORT", "/networkDeviceBPort"),
                ("SEEN", "/isDiscovered"),
            ],
        )
    },
    Kind {
        within: Some(("/sites/{}/controllers", "site")),
        nested: true,
        ..kind(
            "site-controller",
            "Site Controllers of a site",
            "",
            &[],
            &[("ID", "/id"), ("HOST", "/hostname"), ("VERSION", "/version"), ("STATUS", "/status")],
        )
    },
    kind(
        "server-credential",
        "Credentials tried for BMCs that nobody named",
        "/servers/default-credentials",
        &[],
        &[
            ("ID", "/id"),
            ("SITE", "/siteId"),
            ("SERIAL", "/serverSerialNumber"),
            ("MAC", "/serverMacAddress"),
            ("USER", "/defaultUsername"),
        ],
    ),
    kind(
        "registration-profile",
        "How servers are registered",
        "/servers/registration-profiles",
        &["name"],
        &[("ID", "/id"), ("NAME", "/name")],
    ),
    kind(
        "template-asset",
        "Files of OS templates",
        "/template-assets",
        &[],
        &[
            ("ID", "/id"),
            ("TEMPLATE", "/templateId"),
            ("USAGE", "/usage"),
            ("NAME", "/file/name"),
            ("SIZE", "/file/size"),
        ],
    ),
    kind(
        "cron-job",
        "Jobs on a schedule",
        "/cron-jobs",
        &["label"],
        &[
            ("ID", "/id"),
            ("LABEL", "/label"),
            ("FUNCTION", "/functionName"),
            ("SCHEDULE", "/schedule"),
            ("DISABLED", "/disabled"),
        ],
    ),
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
                let (_, row) = Box::pin(parent.find(client, of, None)).await?;
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

    /// The object of that id or name, and its path.
    pub async fn find(&self, client: &Client, text: &str, of: Option<&str>) -> Result<(String, Value)> {
        let base = if self.nested { self.list_path(client, of).await? } else { self.path.to_owned() };
        let (one, many) = (self.name, plural(self.name));
        let numeric = text.parse::<i64>().is_ok();
        if numeric || self.id == "name" {
            match client.get(&format!("{base}/{text}")).await {
                Ok(row) => return Ok((format!("{base}/{}", self.id_of(&row)?), row)),
                // A name may be a number; and of some nested kinds there is a list alone.
                Err(e) if e.status() == Some(reqwest::StatusCode::NOT_FOUND) && numeric && !self.names.is_empty() => {}
                Err(e)
                    if self.nested
                        && matches!(
                            e.status(),
                            Some(reqwest::StatusCode::NOT_FOUND | reqwest::StatusCode::METHOD_NOT_ALLOWED)
                        ) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let within = self.nested || of.is_some();
        if !within && (self.names.is_empty() || self.within.is_some() && self.create_within) {
            bail!("{text:?} is not an id; `steelyard {one} list` shows them");
        }
        let search = Some(text.to_owned()).filter(|_| !self.names.is_empty());
        let all = if within { self.list_path(client, of).await? } else { base.clone() };
        let rows = client.list(&all, &ListOptions { search, ..Default::default() }).await?;
        let is = |r: &Value| {
            self.names.iter().any(|n| r.get(n).and_then(Value::as_str) == Some(text))
                || numeric && self.id_of(r).is_ok_and(|id| id == text)
        };
        let mut hits = rows.into_iter().filter(is);
        match (hits.next(), hits.next()) {
            (Some(row), None) => Ok((format!("{base}/{}", self.id_of(&row)?), row)),
            (Some(_), Some(_)) => bail!("several {many} are called {text:?}; use the id"),
            (None, _) => bail!("there is no {one} called {text:?}; `steelyard {one} list` shows them"),
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
}

/// `dns-zone` → `dns-zones`.
fn plural(name: &str) -> String {
    format!("{name}s")
}

/// A verb on a kind, as a command: `steelyard switch list`.
#[derive(Debug)]
pub struct KindCommand {
    /// The kind.
    pub kind: &'static Kind,
    /// What to do.
    pub verb: Verb,
}

impl Subcommand for KindCommand {
    fn augment_subcommands(command: Command) -> Command {
        KINDS.iter().filter(|k| k.name != OWN_COMMAND).fold(command, |command, kind| {
            let one = Command::new(kind.name).about(kind.about).subcommand_required(true).arg_required_else_help(true);
            command.subcommand(Verb::augment_subcommands(one))
        })
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        KINDS.iter().any(|k| k.name == name && k.name != OWN_COMMAND)
    }
}

impl FromArgMatches for KindCommand {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let none = || clap::Error::new(clap::error::ErrorKind::MissingSubcommand);
        let (name, verb) = matches.subcommand().ok_or_else(none)?;
        let kind = KINDS.iter().find(|k| k.name == name).ok_or_else(none)?;
        Ok(Self { kind, verb: Verb::from_arg_matches(verb)? })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_a_command() {
        let command = KindCommand::augment_subcommands(Command::new("steelyard"));
        command.clone().debug_assert();
        let matches =
            command.try_get_matches_from(["steelyard", "dns-record", "get", "www", "--of", "example.com"]).unwrap();
        let found = KindCommand::from_arg_matches(&matches).unwrap();
        assert!(
            found.kind.nested
                && matches!(found.verb, Verb::Get { id, of } if id == "www" && of.as_deref() == Some("example.com"))
        );
    }

    #[test]
    fn parents_are_kinds_and_names_are_told_apart() {
        for kind in KINDS {
            assert!(
                kind.within.is_none_or(|(path, parent)| path.contains("{}") && by_name(parent).is_ok()),
                "{}",
                kind.name
            );
            assert!(!kind.nested || kind.within.is_some(), "{}", kind.name);
            assert_eq!(KINDS.iter().filter(|k| k.name == kind.name).count(), 1, "{}", kind.name);
        }
    }
}
