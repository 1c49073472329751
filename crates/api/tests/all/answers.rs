//! Every answer of a read, over a site with a row of each kind, is of the schema that the interface promises.

use crate::deploy_rig::Rig;
use api::{contract, router::operations};
use sea_orm::{ActiveModelTrait, ActiveValue::Set};
use serde_json::{Value, json};
use store::entity;

/// Streams and WebSockets have no end to wait for.
const WITHOUT_END: &[&str] = &["streamEvents", "openServerConsole", "openServerInstanceConsole"];

/// One of each, made through the interface.
async fn one_of_each(rig: &Rig) {
    for (device, name) in [(1, "swp9"), (1, "swp1")] {
        let mut row = entity::network_device_port::new();
        row.network_device_id = Set(device);
        row.name = Set(name.into());
        row.tagged = Set(json!([]));
        row.lldp = Set(Value::Null);
        row.observed_at = Set(store::time::now());
        row.insert(&rig.db.write).await.unwrap();
    }
    let mut lag = json!({"action": "create", "aggregationType": "mlag", "networkDeviceDriver": "cumulus_linux", "executionType": "cli", "libraryLabel": "stock", "configuration": "nv set"});
    let lag_path = "/network-device-link-aggregation-configuration-templates";
    rig.ok(201, "POST", lag_path, lag.clone()).await;
    lag.as_object_mut().unwrap().remove("aggregationType");
    let mut bgp = lag;
    for (field, word) in [
        ("action", "add-neighbor"),
        ("networkType", "underlay"),
        ("networkDevicePosition", "leaf"),
        ("remoteNetworkDevicePosition", "spine"),
        ("bgpNumbering", "numbered"),
        ("bgpLinkConfiguration", "active"),
    ] {
        bgp[field] = json!(word);
    }
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPGuWOpdQmbk0bGqUYp6j8jAqU3ySOtWmPjNqkd3iJb ann@example.com";
    for (path, body) in [
        ("/network-device-bgp-configuration-templates", bgp),
        ("/secrets", json!({"name": "db", "value": "hunter2"})),
        ("/variables", json!({"name": "map", "value": {"a": 1}})),
        ("/dns-zones", json!({"zoneName": "example.com", "isDefault": true, "nameServers": ["ns.example.com"]})),
        ("/dns-zones/1/recordsets", json!({"name": "www", "type": "A", "records": ["10.0.0.1"]})),
        (
            "/endpoints",
            json!({"siteId": 1, "name": "A", "label": "a", "endpointInterfaces": [{"networkDeviceInterfaceId": 1}]}),
        ),
        (
            "/network-devices/default-secrets",
            json!({"siteId": 1, "macAddressOrSerialNumber": "SN", "secretName": "s", "secretValue": "v"}),
        ),
        ("/network-devices/defaults", json!({"datacenterName": "dc1", "managementMacAddress": "52:54:00:99:99:99"})),
        ("/users/1/ssh-keys", json!({"sshKey": key})),
        (
            "/servers/default-credentials",
            json!({"siteId": 1, "serverSerialNumber": "X", "serverMacAddress": "52:54:00:99:99:98", "defaultUsername": "root", "defaultPassword": "x"}),
        ),
        ("/servers/registration-profiles", json!({"name": "p", "settings": {}})),
        (
            "/cron-jobs",
            json!({"label": "tidy", "description": "", "functionName": "archive_jobs", "params": [], "schedule": "0 0 * * *", "disabled": 1, "lifetimeSeconds": 60, "waitForCompletion": 1}),
        ),
        ("/logical-network-profiles", json!({"label": "lan", "name": "LAN", "kind": "vlan", "fabricId": 1})),
    ] {
        rig.ok(201, "POST", path, body).await;
    }
    let (id, _, _) = rig.design("shop", 2).await;
    rig.deployed(id, false).await;
}

/// The path of an operation with ids in it.
fn filled(path: &str) -> String {
    let mut before = "";
    let mut out = Vec::new();
    for part in path.trim_start_matches("/api/v2").split('/') {
        out.push(match part.strip_prefix('{') {
            Some(_) if before == "roles" => "administrator",
            Some(_) => "1",
            None => part,
        });
        before = part;
    }
    out.join("/")
}

async fn answers_are_of_their_schemas(rig: Rig) {
    one_of_each(&rig).await;
    let (mut held, mut empty, mut wrong) = (0, Vec::new(), Vec::new());
    for o in operations().into_iter().filter(|o| o.method == "GET" && !WITHOUT_END.contains(&o.id)) {
        let path = filled(o.path);
        let answer = rig.send(&rig.admin, "GET", &path, None, None).await;
        match answer.status.as_u16() {
            200 => {
                let errors = o.response.map(|r| contract::check_answer(r, &answer.body)).unwrap_or_default();
                held += usize::from(errors.is_empty());
                wrong.extend(errors.iter().map(|e| format!("{path}: {e}")));
                // A list that is empty shows nothing.
                if answer.body["data"].as_array().is_some_and(Vec::is_empty) {
                    empty.push(path);
                }
            }
            // Kinds without a row here, calls that need a query, and what only a BMC can tell: there is none here.
            400 | 404 | 409 | 504 => empty.push(path),
            other => wrong.push(format!("{path}: status {other}: {}", answer.body)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    eprintln!("{held} answers held against their schemas, {} without a row: {}", empty.len(), empty.join(" "));
    assert!(held > 90, "{held}, empty: {empty:?}");
}

/// On SQLite and on PostgreSQL.
#[tokio::test]
async fn on_both_databases() {
    crate::testing::both(|db| async { answers_are_of_their_schemas(crate::deploy_rig::rig(db).await).await }).await;
}
