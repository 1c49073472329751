//! The sample infrastructure of `demo`: two groups of servers, two networks.

use anyhow::{Context, Result};
use client::{Client, ListOptions};
use serde_json::Value;

use crate::cli::apply::{Connection, Document, Group, Network};

fn network(label: &str) -> Network {
    Network { label: label.into(), fabric: "demo-fabric".into(), vlan: None, ipv4_prefix_length: Some(26) }
}

fn connection(network: &str, tagged: bool, default_route: bool) -> Connection {
    Connection { network: network.into(), tagged, mtu: 1500, default_route }
}

fn group(label: &str, count: u32, server_type: &str, connections: Vec<Connection>) -> Group {
    Group {
        label: label.into(),
        count,
        server_type: server_type.into(),
        os_template: Some("demo-linux".into()),
        variables: std::collections::BTreeMap::new(),
        connections,
    }
}

/// The document, made for the servers that are there: the two types of which most are free.
pub async fn document(client: &Client, site_id: i64) -> Result<Document> {
    let mut types: Vec<(i64, String)> = Vec::new();
    for row in client.list("/server-types", &ListOptions::default()).await? {
        let id = row.get("id").and_then(Value::as_i64).context("a server type without an id")?;
        let free = client.get(&format!("/sites/{site_id}/availability?serverTypeId={id}")).await?;
        let name = row.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        types.push((free.get("free").and_then(Value::as_i64).unwrap_or(0), name));
    }
    types.sort_by_key(|(free, _)| std::cmp::Reverse(*free));
    let (most, web) = types.first().filter(|(free, _)| *free > 0).context("no server is free")?.clone();
    let mut groups = vec![group(
        "web",
        Ord::min(most, 2) as u32,
        &web,
        vec![connection("front", false, true), connection("back", true, false)],
    )];
    if let Some((_, db)) = types.get(1).filter(|(free, _)| *free > 0) {
        groups.push(group("db", 1, db, vec![connection("back", false, true)]));
    }
    Ok(Document {
        infrastructure: "shop".into(),
        site: "demo".into(),
        networks: vec![network("front"), network("back")],
        groups,
    })
}
