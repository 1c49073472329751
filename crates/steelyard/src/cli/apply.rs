//! `apply -f` and `export`: a whole infrastructure as one document. Labels, never ids, so that it moves between installations.

use std::{collections::BTreeMap, io::Read};

use anyhow::{Context, Result, bail};
use client::{Client, ListOptions};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{kinds, revision};

/// An infrastructure as a document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Document {
    /// Label of the infrastructure.
    pub infrastructure: String,
    /// Slug of the site.
    pub site: String,
    /// Networks that belong to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Network>,
    /// Groups of servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
}

/// A logical network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Network {
    /// Label.
    pub label: String,
    /// Name of the fabric.
    pub fabric: String,
    /// Fixed VLAN; chosen from the fabric's ranges when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Length of the IPv4 prefix to take from a pool; no addresses when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_prefix_length: Option<u8>,
}

/// A group of servers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Group {
    /// Label.
    pub label: String,
    /// Number of servers.
    pub count: u32,
    /// Name of the server type.
    pub server_type: String,
    /// Label of the OS template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_template: Option<String>,
    /// Variables for templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Value>,
    /// Networks that it joins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<Connection>,
}

/// A connection to a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Connection {
    /// Label of the network.
    pub network: String,
    /// With a tag.
    #[serde(default)]
    pub tagged: bool,
    /// MTU in bytes.
    #[serde(default = "mtu")]
    pub mtu: u32,
    /// The default route goes here.
    #[serde(default)]
    pub default_route: bool,
}

fn mtu() -> u32 {
    1500
}

/// Reads a YAML or JSON file as JSON; `-` is standard input.
pub fn read(file: &str) -> Result<Value> {
    serde_yaml_ng::from_str(&read_text(file)?).with_context(|| format!("{file} is neither YAML nor JSON"))
}

fn read_text(file: &str) -> Result<String> {
    if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))
}

async fn lookup(client: &Client, kind: &str, name: &str) -> Result<i64> {
    let kind = kinds::by_name(kind)?;
    let (_, row) = kind.find(client, name, None).await?;
    kind.id_of(&row)?.parse().context("the id is not a number")
}

fn by_label<'a>(rows: &'a [Value], label: &str) -> Option<&'a Value> {
    rows.iter().find(|r| {
        text(r, "/label") == label
            && text(r, "/serviceStatus") != "deleted"
            && text(r, "/config/deployType") != "delete"
    })
}

fn text<'a>(row: &'a Value, pointer: &str) -> &'a str {
    row.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

fn id(row: &Value) -> Result<i64> {
    row.get("id")
        .and_then(|v| v.as_i64().or_else(|| v.as_str().and_then(|s| s.parse().ok())))
        .context("the server's answer has no id")
}

/// A document from a file; `-` is standard input.
pub fn document(file: &str) -> Result<Document> {
    serde_yaml_ng::from_str(&read_text(file)?).with_context(|| format!("{file} is not an infrastructure document"))
}

/// Makes the design what the document says. Returns the infrastructure's id and what was changed, in words.
pub async fn apply(client: &Client, document: &Document) -> Result<(i64, Vec<String>)> {
    let mut log = Vec::new();
    let all = client
        .list("/infrastructures", &ListOptions { search: Some(document.infrastructure.clone()), ..Default::default() })
        .await?;
    let infrastructure = match by_label(&all, &document.infrastructure) {
        Some(row) => id(row)?,
        None => {
            let site = lookup(client, "site", &document.site).await?;
            log.push(format!("+ infrastructure {}", document.infrastructure));
            id(&client.post("/infrastructures", &json!({"label": document.infrastructure, "siteId": site})).await?)?
        }
    };
    let filter =
        |of: i64| ListOptions { filters: vec![("infrastructureId".into(), of.to_string())], ..Default::default() };
    let networks = client.list("/logical-networks", &filter(infrastructure)).await?;
    let mut network_ids = BTreeMap::new();
    for n in &document.networks {
        let found = match by_label(&networks, &n.label) {
            Some(row) => id(row)?,
            None => {
                let fabric = lookup(client, "fabric", &n.fabric).await?;
                let global = json!({"kind": "global"});
                let vlan = match n.vlan {
                    Some(v) => {
                        json!({"kind": "manual", "vlanId": v, "scope": {"kind": "fabric", "resourceId": fabric}})
                    }
                    None => json!({"kind": "auto", "scope": {"kind": "fabric", "resourceId": fabric}}),
                };
                let mut body = json!({"label": n.label, "kind": "vlan", "fabricId": fabric, "infrastructureId": infrastructure, "vlan": {"vlanAllocationStrategies": [vlan]}});
                if let Some(length) = n.ipv4_prefix_length {
                    body["ipv4"] = json!({"subnetAllocationStrategies": [{"kind": "auto", "prefixLength": length, "subnetPoolIds": [], "scope": global}]});
                }
                log.push(format!("+ network {}", n.label));
                id(&client.post("/logical-networks", &body).await?)?
            }
        };
        network_ids.insert(n.label.clone(), found);
    }
    let groups = client
        .list(&format!("/infrastructures/{infrastructure}/server-instance-groups"), &ListOptions::default())
        .await?;
    for g in &document.groups {
        let server_type = lookup(client, "server-type", &g.server_type).await?;
        let os = match &g.os_template {
            Some(t) => Some(lookup(client, "os-template", t).await?),
            None => None,
        };
        let group = match by_label(&groups, &g.label) {
            Some(row) => {
                let mut change = json!({});
                if row.pointer("/config/instanceCount").and_then(Value::as_u64) != Some(g.count.into()) {
                    change["instanceCount"] = g.count.into();
                }
                if row.pointer("/config/osTemplateId").and_then(Value::as_i64) != os {
                    change["osTemplateId"] = json!(os);
                }
                if change.as_object().is_some_and(|m| !m.is_empty()) {
                    client
                        .patch(&format!("/server-instance-groups/{}/config", id(row)?), &change, revision(row))
                        .await?;
                    log.push(format!("~ group {} {change}", g.label));
                }
                id(row)?
            }
            None => {
                let body = json!({"label": g.label, "instanceCount": g.count, "defaultServerTypeId": server_type, "osTemplateId": os, "customVariables": g.variables});
                log.push(format!("+ group {} x{}", g.label, g.count));
                id(&client.post(&format!("/infrastructures/{infrastructure}/server-instance-groups"), &body).await?)?
            }
        };
        connect(client, group, g, &network_ids, &mut log).await?;
    }
    for row in groups.iter().filter(|r| {
        text(r, "/config/deployType") != "delete" && !document.groups.iter().any(|g| g.label == text(r, "/label"))
    }) {
        client.delete(&format!("/server-instance-groups/{}", id(row)?), revision(row)).await?;
        log.push(format!("- group {}", text(row, "/label")));
    }
    for row in networks.iter().filter(|r| {
        text(r, "/config/deployType") != "delete" && !document.networks.iter().any(|n| n.label == text(r, "/label"))
    }) {
        client.delete(&format!("/logical-networks/{}", id(row)?), revision(row)).await?;
        log.push(format!("- network {}", text(row, "/label")));
    }
    Ok((infrastructure, log))
}

async fn connect(
    client: &Client,
    group: i64,
    g: &Group,
    networks: &BTreeMap<String, i64>,
    log: &mut Vec<String>,
) -> Result<()> {
    let base = format!("/server-instance-groups/{group}/config/networking/connections");
    let present = client.list(&base, &ListOptions::default()).await?;
    let mut wanted = Vec::new();
    for c in &g.connections {
        let network = match networks.get(&c.network) {
            Some(id) => *id,
            None => lookup(client, "network", &c.network)
                .await
                .with_context(|| format!("group {}: connection to {}", g.label, c.network))?,
        };
        wanted.push(network.to_string());
        let body =
            json!({"tagged": c.tagged, "accessMode": "l2", "mtu": c.mtu, "providesDefaultRoute": c.default_route});
        match present.iter().find(|p| text(p, "/id") == network.to_string()) {
            None => {
                let mut create = body;
                create["logicalNetworkId"] = network.to_string().into();
                client.post(&base, &create).await?;
                log.push(format!("+ connection {} -> {}", g.label, c.network));
            }
            Some(p) if body.as_object().is_some_and(|m| m.iter().any(|(k, v)| p.get(k) != Some(v))) => {
                client.patch(&format!("{base}/{network}"), &body, None).await?;
                log.push(format!("~ connection {} -> {}", g.label, c.network));
            }
            Some(_) => {}
        }
    }
    for p in present.iter().filter(|p| !wanted.iter().any(|w| w == text(p, "/id"))) {
        client.delete(&format!("{base}/{}", text(p, "/id")), None).await?;
        log.push(format!("- connection {} -> {}", g.label, text(p, "/id")));
    }
    Ok(())
}

/// The design of an infrastructure as a document.
pub async fn export(client: &Client, infrastructure: &str) -> Result<Document> {
    let kind = kinds::by_name("infrastructure")?;
    let (_, row) = kind.find(client, infrastructure, None).await?;
    let infrastructure = id(&row)?;
    let site = client.get(&format!("/sites/{}", row.get("siteId").and_then(Value::as_i64).unwrap_or(0))).await?;
    let mut document = Document {
        infrastructure: text(&row, "/label").to_owned(),
        site: text(&site, "/slug").to_owned(),
        networks: vec![],
        groups: vec![],
    };
    let options =
        ListOptions { filters: vec![("infrastructureId".into(), infrastructure.to_string())], ..Default::default() };
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for n in client.list("/logical-networks", &options).await? {
        if text(&n, "/config/deployType") == "delete" {
            continue;
        }
        names.insert(id(&n)?.to_string(), text(&n, "/label").to_owned());
        let fabric =
            client.get(&format!("/network-fabrics/{}", n.get("fabricId").and_then(Value::as_i64).unwrap_or(0))).await?;
        let first = |block: &str, list: &str, key: &str| {
            n.pointer(&format!("/{block}/{list}/0/{key}"))
                .or_else(|| n.pointer(&format!("/config/{block}/{list}/0/{key}")))
                .and_then(Value::as_u64)
        };
        document.networks.push(Network {
            label: text(&n, "/label").to_owned(),
            fabric: text(&fabric, "/name").to_owned(),
            vlan: first("vlan", "vlanAllocationStrategies", "vlanId").and_then(|v| u16::try_from(v).ok()),
            ipv4_prefix_length: first("ipv4", "subnetAllocationStrategies", "prefixLength")
                .and_then(|v| u8::try_from(v).ok()),
        });
    }
    for g in client
        .list(&format!("/infrastructures/{infrastructure}/server-instance-groups"), &ListOptions::default())
        .await?
    {
        if text(&g, "/config/deployType") == "delete" {
            continue;
        }
        let number = |p: &str| g.pointer(p).and_then(Value::as_i64);
        let server_type =
            client.get(&format!("/server-types/{}", number("/config/defaultServerTypeId").unwrap_or(0))).await?;
        let os_template = match number("/config/osTemplateId") {
            Some(t) => Some(text(&client.get(&format!("/os-templates/{t}")).await?, "/label").to_owned()),
            None => None,
        };
        let mut connections = Vec::new();
        for c in client
            .list(
                &format!("/server-instance-groups/{}/config/networking/connections", id(&g)?),
                &ListOptions::default(),
            )
            .await?
        {
            let network = text(&c, "/id").to_owned();
            let label = match names.get(&network) {
                Some(label) => label.clone(),
                None => text(&client.get(&format!("/logical-networks/{network}")).await?, "/label").to_owned(),
            };
            connections.push(Connection {
                network: label,
                tagged: c.get("tagged").and_then(Value::as_bool).unwrap_or(false),
                mtu: c.get("mtu").and_then(Value::as_u64).and_then(|m| u32::try_from(m).ok()).unwrap_or(1500),
                default_route: c.get("providesDefaultRoute").and_then(Value::as_bool).unwrap_or(false),
            });
        }
        document.groups.push(Group {
            label: text(&g, "/label").to_owned(),
            count: number("/config/instanceCount").and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            server_type: text(&server_type, "/name").to_owned(),
            os_template,
            variables: g
                .pointer("/config/customVariables")
                .and_then(Value::as_object)
                .map(|m| m.clone().into_iter().collect())
                .unwrap_or_default(),
            connections,
        });
    }
    if document.site.is_empty() {
        bail!("the site of infrastructure {infrastructure} has no slug");
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_round_trip_and_refuse_unknown_keys() {
        let text = "infrastructure: shop\nsite: dc1\nnetworks:\n- {label: lan, fabric: f, ipv4PrefixLength: 24}\ngroups:\n- {label: web, count: 3, serverType: m, osTemplate: debian, connections: [{network: lan}]}\n";
        let document: Document = serde_yaml_ng::from_str(text).unwrap();
        assert_eq!(document.groups[0].connections[0].mtu, 1500);
        let again: Document = serde_yaml_ng::from_str(&serde_yaml_ng::to_string(&document).unwrap()).unwrap();
        assert_eq!(again, document);
        assert!(serde_yaml_ng::from_str::<Document>("infrastructure: a\nsite: b\nnetwork: []\n").is_err());
    }
}
