//! Tells the Global Controller of the simulated hardware, as an administrator would. What is there already is left as it is.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use client::{Client, ListOptions};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{Step, until};

const SITE: &str = "demo";
const FABRIC: &str = "demo-fabric";
const TEMPLATE: &str = "demo-linux";

fn text<'a>(v: &'a Value, pointer: &str) -> &'a str {
    v.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

fn id(row: &Value, key: &str) -> Result<i64> {
    row.get(key)
        .and_then(|v| v.as_i64().or_else(|| v.as_str().and_then(|s| s.parse().ok())))
        .with_context(|| format!("no {key} in the answer {row}"))
}

async fn all(client: &Client, path: &str) -> Result<Vec<Value>> {
    Ok(client.list(path, &ListOptions::default()).await?)
}

/// The object of a list with that name, or a new one.
async fn find_or_create(client: &Client, path: &str, key: &str, name: &str, body: &Value) -> Result<i64> {
    match all(client, path).await?.iter().find(|r| text(r, &format!("/{key}")) == name) {
        Some(found) => id(found, "id"),
        None => id(&client.post(path, body).await.with_context(|| format!("POST {path}"))?, "id"),
    }
}

/// The site.
pub async fn site(client: &Client) -> Result<i64> {
    find_or_create(client, "/sites", "slug", SITE, &json!({"slug": SITE, "name": "Demo site"})).await
}

/// Whether its Site Controller is connected.
pub async fn connected(client: &Client, site_id: i64) -> Result<bool> {
    let overview = client.get("/overview").await?;
    let sites = overview.get("sites").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(sites.iter().any(|s| s["id"] == site_id && s["connected"] == true))
}

/// Registers everything that the inventory names.
pub async fn register(client: &Client, site_id: i64, inventory: &Value) -> Result<()> {
    let step = Step::new("Networks, fabric and operating system");
    let provisioning = inventory.get("provisioning_vlan").and_then(Value::as_u64).unwrap_or(100);
    let fabric = find_or_create(
        client,
        "/network-fabrics",
        "name",
        FABRIC,
        &json!({"siteId": site_id, "name": FABRIC, "description": "Leaves and spines of the demo site",
            "fabricConfiguration": {"fabricType": "ethernet", "vlanRanges": ["200-999"], "reservedVlans": [provisioning.to_string()]}}),
    )
    .await?;
    let subnets = [
        json!({"label": "provisioning", "name": "provisioning", "networkAddress": "10.64.0.0", "prefixLength": 16, "isPool": false,
            "tags": {"dhcp-site": site_id.to_string()}}),
        json!({"label": "tenants", "name": "tenants", "networkAddress": "172.24.0.0", "prefixLength": 14, "isPool": true}),
    ];
    for subnet in subnets {
        let label = text(&subnet, "/label").to_owned();
        find_or_create(client, "/subnets", "label", &label, &subnet).await?;
    }
    template(client).await?;
    step.done("");

    let switches = inventory.get("switches").and_then(Value::as_array).cloned().unwrap_or_default();
    let step = Step::new("Switches");
    let known = all(client, "/network-devices").await?;
    let known: HashMap<&str, &Value> = known.iter().map(|d| (text(d, "/identifierString"), d)).collect();
    let mut ids = Vec::new();
    for switch in &switches {
        let name = text(switch, "/hostname");
        if let Some(found) = known.get(name) {
            ids.push(id(found, "id")?);
            continue;
        }
        let role = text(switch, "/role");
        let mut body = json!({
            "siteId": site_id, "identifierString": name, "driver": "cumulus_linux", "position": role, "managementAddress": switch["address"],
            "managementPort": switch["port"], "username": switch["username"], "managementPassword": switch["password"], "serialNumber": switch["serial"],
        });
        if role == "leaf" {
            body["quarantineVlan"] = provisioning.into();
        }
        ids.push(id(&client.post("/network-devices", &body).await.with_context(|| format!("switch {name}"))?, "id")?);
    }
    client.post(&format!("/network-fabrics/{fabric}/network-devices"), &json!({"networkDeviceIds": ids})).await?;
    until("the switches are read", Duration::from_mins(2), || async {
        let devices = all(client, "/network-devices").await?;
        Ok(devices.iter().filter(|d| text(d, "/status") == "active").count() >= switches.len())
    })
    .await?;
    // Links are found from both ends, so they are complete once all have been read as members of the fabric.
    let links = switches.iter().flat_map(|s| s["links"].as_array().cloned().unwrap_or_default());
    let links = links.filter(|l| text(l, "/kind") == "switch").count() / 2;
    until("the links between switches are found", Duration::from_mins(1), || async {
        Ok(all(client, &format!("/network-fabrics/{fabric}/links")).await?.len() >= links)
    })
    .await?;
    step.done(format!("{} with {links} links", switches.len()));

    storages(client, site_id, fabric, inventory).await?;
    servers(client, site_id, inventory).await
}

async fn storages(client: &Client, site_id: i64, fabric: i64, inventory: &Value) -> Result<()> {
    let arrays = inventory.get("arrays").and_then(Value::as_array).cloned().unwrap_or_default();
    let step = Step::new("Storage arrays");
    for array in &arrays {
        let driver = text(array, "/driver");
        let technologies = match driver {
            "netapp" => json!(["block", "file", "object"]),
            "power_store" => json!(["block", "file"]),
            "power_scale" => json!(["file"]),
            _ => json!(["block"]),
        };
        let name = format!("{}-{}", driver.replace('_', "-"), text(array, "/name"));
        let body = json!({
            "siteId": site_id, "name": name, "driver": driver, "technologies": technologies, "networkFabricId": fabric,
            "managementHost": array["address"], "managementPort": array["port"], "username": array["username"],
            "password": array["password"],
        });
        find_or_create(client, "/storages", "name", &name, &body).await.with_context(|| format!("storage {name}"))?;
    }
    until("the storage arrays are read", Duration::from_mins(1), || async {
        Ok(all(client, "/storages").await?.iter().all(|s| text(s, "/status") != "pending"))
    })
    .await?;
    step.done(arrays.len());
    Ok(())
}

async fn servers(client: &Client, site_id: i64, inventory: &Value) -> Result<()> {
    let servers = inventory.get("servers").and_then(Value::as_array).cloned().unwrap_or_default();
    let step = Step::new("Servers: inventory over the BMC, then booted once from the network");
    let known = all(client, "/servers").await?;
    let known: Vec<&str> = known.iter().map(|s| text(s, "/managementAddress")).collect();
    for server in &servers {
        let bmc = &server["bmc"];
        let address = format!("{}:{}", text(bmc, "/address"), bmc["port"]);
        if known.contains(&address.as_str()) {
            continue;
        }
        let body = json!({"siteId": site_id, "managementAddress": address, "username": bmc["username"], "password": bmc["password"]});
        client.post("/servers", &body).await.with_context(|| format!("server at {address}"))?;
    }
    let bar = ProgressBar::new(servers.len() as u64).with_style(
        ProgressStyle::with_template("    {wide_bar:.cyan} {pos}/{len} ready  {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let limit = Duration::from_secs(180 + servers.len() as u64);
    let registering = "/servers?filter.serverStatus=registering&limit=1";
    let waited = until("all servers are registered", limit, || async {
        let page = client.get(registering).await?;
        let late = page.pointer("/meta/totalItems").and_then(Value::as_u64).context("no totalItems in a list")?;
        bar.set_position((servers.len() as u64).saturating_sub(late));
        Ok(late == 0)
    })
    .await;
    bar.finish_and_clear();
    if let Err(e) = waited {
        let page = client.get(registering).await?;
        let why = text(&page, "/data/0/serverStatusReason");
        bail!("{e}; {why}; `steelyard job list` says more");
    }
    step.done(servers.len());
    Ok(())
}

/// An operating system whose image is a few megabytes of nothing in particular: simulated servers store it and do not look inside.
async fn template(client: &Client) -> Result<()> {
    let template = find_or_create(
        client,
        "/os-templates",
        "label",
        TEMPLATE,
        &json!({
            "name": "Demo Linux 1", "label": TEMPLATE, "description": "For simulated servers",
            "device": {"type": "server", "bootMode": "hybrid", "architecture": "x86_64"},
            "install": {"method": "copy", "driveType": "local_drive", "readyMethod": "wait_for_power_off"},
            "imageBuild": {"required": false}, "visibility": "public",
            "os": {"name": "Demo Linux", "version": "1", "credential": {"username": "admin", "passwordType": "generated"}},
        }),
    )
    .await?;
    let assets = all(client, "/template-assets").await?;
    if assets.iter().any(|a| a["templateId"] == template) {
        return Ok(());
    }
    let image: Vec<u8> = (0u32..8 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    client
        .post(
            "/template-assets",
            &json!({"templateId": template, "usage": "source_image", "file": {
                "name": "demo-linux.raw", "mimeType": "application/octet-stream", "templatingEngine": false,
                "path": "/demo-linux.raw", "contentBase64": STANDARD.encode(image),
            }}),
        )
        .await?;
    Ok(())
}
