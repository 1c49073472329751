//! Firmware: catalogs, images, baselines, policies, and what is done to servers with them.

use super::{Table, id};
use api::{App, kinds::firmware_record as record};
use sea_orm::ActiveValue::Set;
use serde_json::{Value, json};

pub async fn run(t: &Table) {
    let catalog = |name: &str| json!({"name": name, "vendor": "dell", "updateType": "offline"});
    let made = t.write("createFirmwareCatalogs", "/firmware/catalog", catalog("Dell")).await;
    t.conflict("createFirmwareCatalogs", "/firmware/catalog", catalog("Dell"), "already").await;
    let other = t.again("createFirmwareCatalogs", "/firmware/catalog", catalog("Other")).await;
    let of = |v: &Value| format!("/firmware/catalog/{}", id(v));
    t.write("updateFirmwareCatalog", &of(&made), catalog("Dell 2026")).await;
    t.conflict("updateFirmwareCatalog", &of(&made), catalog("Other"), "already").await;
    t.write("deleteFirmwareCatalog", &of(&other), Value::Null).await;
    let mut online = catalog("Online");
    online["updateType"] = json!("online");
    online["vendorUrl"] = json!("http://127.0.0.1:9/Catalog.xml.gz");
    let online = t.again("createFirmwareCatalogs", "/firmware/catalog", online).await;
    let refresh = |v: &Value| format!("{}/actions/refresh", of(v));
    t.write("refreshFirmwareCatalog", &refresh(&online), Value::Null).await;
    t.conflict("refreshFirmwareCatalog", &refresh(&online), Value::Null, "is being fetched already").await;

    let binary = |name: &str, version: &str| {
        json!({
            "catalogId": id(&made), "name": name, "packageVersion": version, "rebootRequired": true, "updateSeverity": "recommended",
            "vendorDownloadUrl": format!("http://127.0.0.1/{name}-{version}.exe"), "vendorSupportedDevices": [{"name": name}], "vendorSupportedSystems": [],
            "sha256": "ab".repeat(32), "size": 1000,
        })
    };
    t.write("createFirmwareBinary", "/firmware/binary", binary("BIOS", "2.10.0")).await;
    let gone = t.again("createFirmwareBinary", "/firmware/binary", binary("BIOS", "2.9.0")).await;
    t.write("deleteFirmwareBinary", &format!("/firmware/binary/{}", id(&gone)), Value::Null).await;

    let least = json!([{"componentName": "BIOS", "minimumVersion": "2.9.5"}]);
    let baseline = |name: &str| json!({"name": name, "catalog": [id(&made).to_string()], "minimumVersions": least});
    let all = "/firmware/baseline";
    let gold = t.write("createFirmwareBaseline", all, baseline("gold")).await;
    t.conflict("createFirmwareBaseline", all, baseline("gold"), "already").await;
    let silver = t.again("createFirmwareBaseline", all, baseline("silver")).await;
    let of = |v: &Value| format!("{all}/{}", id(v));
    t.write("updateFirmwareBaseline", &of(&gold), baseline("gold")).await;
    t.conflict("updateFirmwareBaseline", &of(&gold), baseline("silver"), "already").await;
    let check = format!("{}/actions/check-compliance", of(&gold));
    t.write("checkFirmwareBaselineCompliance", &check, json!({"siteId": 1})).await;
    let search = json!({"vendor": "dell", "baselineIds": [id(&gold).to_string()]});
    t.write("searchFirmwareBaselines", "/firmware/search/baseline", search).await;

    t.write("updateGlobalFirmwareConfiguration", "/firmware/configuration", json!({"activated": false})).await;

    let policy = |label: &str| json!({"label": label, "action": "accept", "rules": [{"property": "site_id", "operation": "string_equals", "value": "1"}]});
    let all = "/firmware/policies";
    let first = t.write("createFirmwarePolicy", all, policy("all")).await;
    t.conflict("createFirmwarePolicy", all, policy("all"), "already").await;
    let second = t.again("createFirmwarePolicy", all, policy("none")).await;
    let of_policy = |v: &Value| format!("{all}/{}", id(v));
    t.write("updateFirmwarePolicy", &of_policy(&first), json!({"status": "active"})).await;
    t.conflict("updateFirmwarePolicy", &of_policy(&first), json!({"label": "none"}), "already").await;
    t.write("generateFirmwarePolicyAudit", &format!("{}/actions/generate-audit", of_policy(&first)), Value::Null).await;
    t.write("deleteFirmwarePolicy", &of_policy(&second), Value::Null).await;

    servers(t).await;

    // A campaign works with them.
    let app = App::new(t.rig.db.clone(), t.rig.engine.clone(), t.rig.sealer.clone());
    let told = json!({"components": [{"id": "b", "name": "BIOS", "kind": "bios", "version": "2.8.0", "updateable": true, "software_id": "159"}], "methods": ["multipart_push"]});
    record::inventory(&app, 3, &told).await.unwrap();
    let campaign = json!({"label": "spring", "baselineId": id(&gold), "serverIds": [3]});
    t.rig.ok(201, "POST", "/firmware/campaigns", campaign).await;
    t.conflict("deleteFirmwareBaseline", &of(&gold), Value::Null, "spring").await;
    t.write("deleteFirmwareBaseline", &of(&silver), Value::Null).await;
    for action in ["with", "without"] {
        let path = format!("{all}/actions/apply-{action}-server-instance-groups");
        let op = match action {
            "with" => "applyFirmwarePoliciesWithServerInstanceGroups",
            _ => "applyFirmwarePoliciesWithoutServerInstanceGroups",
        };
        t.write(op, &path, Value::Null).await;
    }
}

async fn servers(t: &Table) {
    let path = |what: &str| format!("/servers/1/firmware/{what}");
    t.conflict("upgradeFirmwareOfServer", "/servers/3/firmware/actions/upgrade", Value::Null, "was not read yet").await;
    t.write("updateServerFirmwareInfo", &path("actions/update-info"), Value::Null).await;
    let app = App::new(t.rig.db.clone(), t.rig.engine.clone(), t.rig.sealer.clone());
    let part = |id: &str, name: &str, kind: &str| json!({"id": id, "name": name, "kind": kind, "version": "2.8.0", "updateable": true, "software_id": "159"});
    let mut fixed = part("fixed", "PSU", "psu");
    fixed["updateable"] = json!(false);
    let told = json!({"components": [part("159__BIOS", "BIOS", "bios"), part("25227__iDRAC", "iDRAC", "bmc"), fixed], "methods": ["multipart_push"]});
    for server in [1, 2] {
        record::inventory(&app, server, &told).await.unwrap();
    }
    let parts = t.get("/servers/1/firmware/components?sortBy=id:ASC").await;
    let (bios, fixed) = (parts["data"][0]["id"].clone(), parts["data"][2]["id"].clone());
    t.write("getServerFirmwareInventory", &path("inventory"), Value::Null).await;
    t.write(
        "fetchAndUpdateServerFirmwareAvailableVersions",
        &path("actions/fetch-and-update-available-versions"),
        Value::Null,
    )
    .await;
    let target = json!({"firmwareTargetVersion": "2.10.0", "firmwareUpgradeNeedsConfirmation": 0});
    t.write("updateServerComponent", &path(&format!("components/{bios}")), target).await;
    let later = json!({"scheduleUpdateTimestamp": "2099-01-01T00:00:00.000Z"});
    t.write("scheduleServerFirmwareUpgrade", &path("actions/schedule-upgrade"), later.clone()).await;
    let mut batch = later;
    batch["serverIds"] = json!([1]);
    t.write("batchScheduleServerFirmwareUpgrade", &path("actions/batch-schedule-upgrade"), batch).await;
    t.write(
        "generateServersFirmwareUpgradeAudit",
        "/servers/firmware/actions/generate-upgrade-audit",
        json!({"serverIds": [1]}),
    )
    .await;
    let own = json!({"firmwareBinaryUrl": "http://127.0.0.1/own.exe", "componentFirmwareNewVersion": "3.0"});
    let upgrade = |part: &Value| path(&format!("components/{part}/actions/upgrade"));
    t.conflict("upgradeFirmwareOfServerComponent", &upgrade(&fixed), own.clone(), "takes no firmware").await;
    t.write("upgradeFirmwareOfServerComponent", &upgrade(&bios), own).await;
    t.write("upgradeFirmwareOfServer", "/servers/2/firmware/actions/upgrade", Value::Null).await;
    t.write("upgradeFirmwareOfServersBatch", "/servers/firmware/actions/batch-upgrade", json!({"serverIds": [1]}))
        .await;
    for server in [1, 2] {
        t.server(server, |s| s.status = Set("available".into())).await;
    }
}
