//! Firmware: catalogs, baselines, policies, updates of servers free and in use, campaigns; images that people bring; what a BMC is asked
//! for. Through the router, with a site that reports what it is told to.

use crate::deploy_rig::{Rig, rig};
use api::{
    App,
    kinds::{firmware_record as record, firmware_schedule, firmware_upgrade},
};
use engine::entity::{job, job_group};
use model::{Id, job::JobStatus};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use store::{Database, entity};

fn app(rig: &Rig) -> App {
    App::new(rig.db.clone(), rig.engine.clone(), rig.sealer.clone())
}

/// Refused with that status, and words that contain `words`.
async fn no(rig: &Rig, status: u16, method: &str, path: &str, body: Value, words: &str) {
    let body = (!body.is_null()).then_some(body);
    let answer = rig.send(&rig.admin, method, path, None, body).await;
    assert_eq!(answer.status.as_u16(), status, "{method} {path}: {}", answer.body);
    let message = answer.body["message"].as_str().unwrap_or_default();
    assert!(message.contains(words), "{method} {path}: {message}");
}

async fn stale(rig: &Rig, method: &str, path: &str, body: Value) {
    let answer = rig.send(&rig.admin, method, path, Some(99), Some(body)).await;
    assert_eq!(answer.status, 412, "{method} {path}: {}", answer.body);
}

async fn bob(rig: &Rig) -> String {
    let account = rig.ok(201, "POST", "/accounts", json!({"name": "Tenant"})).await;
    let body = json!({"displayName": "Bob", "email": "bob@example.com", "password": "battery staple", "accessLevel": "user",
        "accountId": account["id"]});
    rig.ok(201, "POST", "/users", body).await;
    rig.login("bob@example.com", "battery staple").await
}

/// What a BMC tells of a server.
async fn told(rig: &Rig, server_id: Id, bios: &str, bmc: &str) {
    let part = |id: &str, name: &str, kind: &str, version: &str| json!({"id": id, "name": name, "kind": kind, "version": version, "updateable": true, "software_id": "159"});
    let answer = json!({"components": [part("159__BIOS.Setup.1-1", "BIOS", "bios", bios), part("25227__iDRAC", "iDRAC", "bmc", bmc)],
        "methods": ["multipart_push"]});
    record::inventory(&app(rig), server_id, &answer).await.unwrap();
}

/// A catalog with a newer BIOS and a newer BMC.
async fn catalog(rig: &Rig) -> Id {
    let body = json!({"name": "Dell 2026", "vendor": "dell", "updateType": "offline"});
    let catalog = rig.ok(200, "POST", "/firmware/catalog", body).await["id"].as_i64().unwrap();
    for (name, version) in [("BIOS", "2.10.0"), ("BIOS", "2.9.1"), ("iDRAC", "7.20")] {
        rig.ok(200, "POST", "/firmware/binary", binary(catalog, name, version)).await;
    }
    catalog
}

fn binary(catalog: Id, name: &str, version: &str) -> Value {
    json!({
        "catalogId": catalog, "name": name, "packageVersion": version, "rebootRequired": true, "updateSeverity": "recommended",
        "vendorDownloadUrl": format!("http://127.0.0.1/{name}-{version}.exe"), "vendorSupportedDevices": [{"name": name}], "vendorSupportedSystems": [],
        "sha256": "ab".repeat(32), "size": 1000,
    })
}

async fn newest_group(rig: &Rig, server_id: Id) -> (job_group::Model, Vec<job::Model>) {
    let group = job_group::Entity::find()
        .filter(job_group::Column::ServerId.eq(server_id))
        .filter(job_group::Column::Kind.eq(firmware_upgrade::GROUP))
        .order_by_desc(job_group::Column::Id)
        .one(&rig.db.read)
        .await
        .unwrap()
        .unwrap();
    let jobs = job::Entity::find()
        .filter(job::Column::GroupId.eq(group.id))
        .order_by_asc(job::Column::Id)
        .all(&rig.db.read)
        .await
        .unwrap();
    (group, jobs)
}

/// The site updates all parts of a server, and the Global Controller hears of it.
async fn site_updates(rig: &Rig, server_id: Id) {
    let (group, jobs) = newest_group(rig, server_id).await;
    for job in &jobs {
        rig.report(job, JobStatus::ReturnedSuccess, None).await;
        let mut ended = job::Entity::find_by_id(job.id).one(&rig.db.read).await.unwrap().unwrap();
        if job.function == "server.firmware_update" {
            ended.response = json!({"component": job.payload["component"], "version": job.payload["version"], "waits_for_restart": false});
            record::updated(&app(rig), &ended).await.unwrap();
            record::updated(&app(rig), &ended).await.unwrap();
        }
    }
    let group = job_group::Entity::find_by_id(group.id).one(&rig.db.read).await.unwrap().unwrap();
    assert!(group.finished_at.is_some());
    record::finished(&app(rig), &group).await.unwrap();
}

async fn site_fails(rig: &Rig, server_id: Id, words: &str) {
    let (_, jobs) = newest_group(rig, server_id).await;
    rig.report(&jobs[0], JobStatus::ThrownError, Some(words)).await;
    let ended = job::Entity::find_by_id(jobs[0].id).one(&rig.db.read).await.unwrap().unwrap();
    record::failed(&app(rig), &ended, words).await.unwrap();
}

async fn catalogs_binaries_and_baselines(db: Database) {
    let rig = rig(db).await;
    let id = catalog(&rig).await;
    let path = format!("/firmware/catalog/{id}");
    no(
        &rig,
        409,
        "POST",
        "/firmware/catalog",
        json!({"name": "Dell 2026", "vendor": "dell", "updateType": "online"}),
        "name",
    )
    .await;
    no(
        &rig,
        400,
        "POST",
        "/firmware/catalog",
        json!({"name": "x", "vendor": "acme", "updateType": "online"}),
        "vendor",
    )
    .await;
    let login =
        json!({"name": "x", "vendor": "hp", "updateType": "online", "vendorUrl": "https://me:secret@hpe.example/"});
    no(&rig, 400, "POST", "/firmware/catalog", login, "vendorUrl").await;
    no(&rig, 404, "GET", "/firmware/catalog/99", Value::Null, "firmware catalog 99").await;
    let change =
        json!({"name": "Dell 2027", "vendor": "dell", "updateType": "offline", "vendorServerTypesSupported": ["R650"]});
    stale(&rig, "PUT", &path, change.clone()).await;
    let after = rig.ok(200, "PUT", &path, change).await;
    assert_eq!((&after["name"], &after["vendorServerTypesSupported"]), (&json!("Dell 2027"), &json!(["R650"])));
    assert_eq!(rig.get("/firmware/catalog?filter.vendor=dell").await["meta"]["totalItems"], 1);

    let all = rig.get(&format!("/firmware/binary?filter.catalogId={id}&sortBy=id:ASC")).await;
    assert_eq!(all["meta"]["totalItems"], 3, "{all}");
    let one = format!("/firmware/binary/{}", all["data"][2]["id"]);
    assert_eq!(rig.get(&one).await["sha256"], "ab".repeat(32));
    no(&rig, 400, "POST", "/firmware/binary", binary(99, "x", "1"), "catalogId").await;
    let mut bad = binary(id, "x", "1");
    bad["vendorDownloadUrl"] = json!("ftp://x");
    no(&rig, 400, "POST", "/firmware/binary", bad, "vendorDownloadUrl").await;
    let mut bad = binary(id, "x", "1");
    bad["sha256"] = json!("short");
    no(&rig, 400, "POST", "/firmware/binary", bad, "sha256").await;
    rig.ok(204, "DELETE", &one, Value::Null).await;
    no(&rig, 404, "GET", &one, Value::Null, "firmware binary").await;

    let least = json!([{"componentName": "BIOS", "minimumVersion": "2.9.5"}]);
    let body = json!({"name": "gold", "catalog": [id.to_string()], "minimumVersions": least});
    let made = rig.ok(200, "POST", "/firmware/baseline", body.clone()).await;
    let path = format!("/firmware/baseline/{}", made["id"]);
    no(&rig, 409, "POST", "/firmware/baseline", body, "name").await;
    no(&rig, 400, "POST", "/firmware/baseline", json!({"name": "x", "catalog": ["nowhere"]}), "catalog[0]").await;
    let empty = json!({"name": "x", "minimumVersions": [{"componentName": "", "minimumVersion": "1"}]});
    no(&rig, 400, "POST", "/firmware/baseline", empty, "minimumVersions[0].componentName").await;
    stale(&rig, "PUT", &path, json!({"name": "gold"})).await;
    rig.ok(200, "PUT", &path, json!({"name": "gold", "catalog": ["Dell 2027"], "minimumVersions": least})).await;
    let found = rig
        .ok(
            200,
            "POST",
            "/firmware/search/baseline",
            json!({"vendor": "dell", "baselineIds": [made["id"].to_string()]}),
        )
        .await;
    assert_eq!(found["baseline"]["name"], "gold");
    assert_eq!(found["componentBinaries"]["0"].as_array().unwrap().len(), 2, "{found}");
    rig.ok(200, "POST", "/firmware/search/baseline", json!({"vendor": "lenovo"})).await;
    rig.ok(204, "DELETE", &path, Value::Null).await;
    rig.ok(204, "DELETE", &format!("/firmware/catalog/{id}"), Value::Null).await;
    assert_eq!(rig.get("/firmware/binary").await["meta"]["totalItems"], 0, "they went with their catalog");
}

async fn parts_are_read_compared_and_held_against_a_baseline(db: Database) {
    let rig = rig(db).await;
    let catalog = catalog(&rig).await;
    rig.ok(204, "POST", "/servers/1/firmware/actions/update-info", Value::Null).await;
    let books = rig.post.books.lock().unwrap().len();
    assert!(books > 0, "the site was asked");
    told(&rig, 1, "2.8.0", "7.20").await;
    told(&rig, 2, "2.9.9", "7.10").await;
    told(&rig, 2, "2.9.9", "7.10").await;
    let parts = rig.get("/servers/1/firmware/components?sortBy=id:ASC").await;
    assert_eq!(parts["meta"]["totalItems"], 2, "{parts}");
    let bios = &parts["data"][0];
    let newer: Vec<&String> = bios["firmwareUpdateAvailableVersions"].as_object().unwrap().keys().collect();
    assert_eq!(newer, ["2.10.0", "2.9.1"]);
    assert_eq!(
        (&bios["firmwareVersion"], &bios["firmwareStatus"], &bios["firmwareUpdateable"]),
        (&json!("2.8.0"), &json!("available"), &json!(1))
    );
    let path = format!("/servers/1/firmware/components/{}", bios["id"]);
    assert_eq!(rig.get(&path).await["name"], "BIOS");
    no(&rig, 404, "GET", &format!("/servers/2/firmware/components/{}", bios["id"]), Value::Null, "component").await;
    no(&rig, 400, "PATCH", &path, json!({"firmwareTargetVersion": "9.9"}), "firmwareTargetVersion").await;
    stale(&rig, "PATCH", &path, json!({"firmwareTargetVersion": "2.9.1"})).await;
    assert_eq!(
        rig.ok(200, "PATCH", &path, json!({"firmwareTargetVersion": "2.9.1"})).await["firmwareTargetVersion"],
        "2.9.1"
    );
    let can = rig.get("/servers/1/capabilities").await;
    assert_eq!(can["firmwareUpgradeSupported"], true, "{can}");
    // A part that is gone goes; an empty answer is no news.
    record::inventory(&app(&rig), 1, &json!({"components": [], "methods": []})).await.unwrap();
    assert_eq!(rig.get("/servers/1/firmware/components").await["meta"]["totalItems"], 2);

    let body = json!({"name": "gold", "catalog": [catalog.to_string()], "minimumVersions": [{"componentName": "bios", "minimumVersion": "2.9.5"}]});
    let baseline = rig.ok(200, "POST", "/firmware/baseline", body).await;
    let check = format!("/firmware/baseline/{}/actions/check-compliance", baseline["id"]);
    let matrix = rig.ok(200, "POST", &check, json!({})).await;
    assert_eq!(
        matrix["summary"],
        json!({"compliant": 0, "newer_available": 1, "outdated": 1, "unknown": 1}),
        "{matrix}"
    );
    let of = |n: usize| &matrix["servers"][n]["components"][0];
    assert_eq!(
        (&of(0)["state"], &of(0)["minimumVersion"], &of(0)["newestVersion"]),
        (&json!("outdated"), &json!("2.9.5"), &json!("2.10.0"))
    );
    assert_eq!(of(1)["state"], "newer_available");
    let one = rig.ok(200, "POST", &check, json!({"serverIds": [2]})).await;
    assert_eq!(one["servers"].as_array().unwrap().len(), 1);
    no(&rig, 400, "POST", &check, json!({"serverIds": [77]}), "serverIds[0]").await;
    let audit =
        rig.ok(200, "POST", "/servers/firmware/actions/generate-upgrade-audit", json!({"vendorPattern": "del*"})).await;
    assert_eq!((&audit["serverCount"], &audit["updateCount"]), (&json!(3), &json!(3)), "{audit}");
    let none =
        rig.ok(200, "POST", "/servers/firmware/actions/generate-upgrade-audit", json!({"vendorPattern": "hp"})).await;
    assert_eq!(none["serverCount"], 0);
}

async fn a_free_server_is_updated_and_is_what_it_was(db: Database) {
    let rig = rig(db).await;
    catalog(&rig).await;
    no(&rig, 409, "POST", "/servers/1/firmware/actions/upgrade", Value::Null, "not read yet").await;
    no(&rig, 404, "POST", "/servers/99/firmware/actions/upgrade", Value::Null, "server 99").await;
    told(&rig, 1, "2.8.0", "7.10").await;
    let begun = rig.ok(202, "POST", "/servers/1/firmware/actions/upgrade", Value::Null).await;
    assert!(begun["jobGroupId"].as_i64().is_some(), "{begun}");
    let (_, jobs) = newest_group(&rig, 1).await;
    let functions: Vec<&str> = jobs.iter().map(|j| j.function.as_str()).collect();
    assert_eq!(functions, ["server.firmware_update", "server.firmware_update", "server.firmware_inventory"]);
    let of = |n: usize| &jobs[n].payload;
    assert_eq!(
        (&of(0)["kind"], &of(0)["restart"], &of(0)["agreed_until"]),
        (&json!("bmc"), &json!(false), &Value::Null)
    );
    assert_eq!(
        (&of(1)["kind"], &of(1)["restart"], &of(1)["version"]),
        (&json!("bios"), &json!(true), &json!("2.10.0"))
    );
    assert_eq!(of(1)["image"]["url"], "http://127.0.0.1/BIOS-2.10.0.exe");
    assert_eq!(rig.server_status(1).await, "updating_firmware");
    no(&rig, 409, "POST", "/servers/1/firmware/actions/upgrade", Value::Null, "already").await;
    no(&rig, 409, "POST", "/servers/1/actions/set-power", json!({"powerCommand": "off"}), "updating_firmware").await;
    site_updates(&rig, 1).await;
    assert_eq!(rig.server_status(1).await, "available");
    told(&rig, 1, "2.10.0", "7.20").await;
    let parts = rig.get("/servers/1/firmware/components?sortBy=id:ASC").await;
    for part in parts["data"].as_array().unwrap() {
        assert_eq!(
            (&part["firmwareStatus"], &part["firmwareUpdateAvailableVersions"]),
            (&json!("available"), &json!({})),
            "{part}"
        );
        assert!(part["firmwareUpdateTimestamp"].is_string() && part["firmwareTargetVersion"].is_null(), "{part}");
    }
    no(&rig, 409, "POST", "/servers/1/firmware/actions/upgrade", Value::Null, "nothing is to be updated").await;

    // One that fails is not given to anybody until a person has looked; when the job is tried again with success, it is back.
    told(&rig, 2, "2.8.0", "7.20").await;
    let part = rig.get("/servers/2/firmware/components?filter.name=BIOS").await["data"][0]["id"].clone();
    let path = format!("/servers/2/firmware/components/{part}/actions/upgrade");
    no(&rig, 400, "POST", &path, json!({"componentFirmwareNewVersion": "9.9"}), "componentFirmwareNewVersion").await;
    no(&rig, 400, "POST", &path, json!({"firmwareBinaryUrl": "file:///etc/passwd"}), "firmwareBinaryUrl").await;
    let own = json!({"firmwareBinaryUrl": "http://127.0.0.1/own.exe", "componentFirmwareNewVersion": "3.0", "applyOnReboot": true});
    rig.ok(202, "POST", &path, own).await;
    let (_, jobs) = newest_group(&rig, 2).await;
    assert_eq!(
        (&jobs[0].payload["image"], &jobs[0].payload["restart"]),
        (&json!({"url": "http://127.0.0.1/own.exe"}), &json!(false))
    );
    site_fails(&rig, 2, "the image is for another model").await;
    let server = rig.get("/servers/2").await;
    assert_eq!(server["serverStatus"], "unavailable");
    assert!(server["serverStatusReason"].as_str().unwrap().contains("another model"), "{server}");
    let after = rig.get(&format!("/servers/2/firmware/components/{part}")).await;
    assert_eq!(after["firmwareStatus"], "failed_upgrade");
    site_updates(&rig, 2).await;
    assert_eq!(rig.server_status(2).await, "available");
    let events = rig.get("/events?filter.kind=server.firmware_not_upgraded").await;
    assert_eq!(events["meta"]["totalItems"], 1);
    let batch = rig.ok(202, "POST", "/servers/firmware/actions/batch-upgrade", json!({"serverIds": [1, 77]})).await;
    assert!(
        batch["failed"]["77"].as_str().unwrap().contains("server 77") && batch["successful"] == json!({}),
        "{batch}"
    );
}

async fn a_server_in_use_waits_for_its_owner(db: Database) {
    let rig = rig(db).await;
    catalog(&rig).await;
    let (infrastructure, _, _) = rig.design("shop", 1).await;
    rig.deployed(infrastructure, false).await;
    let held = entity::server_instance::Entity::find().one(&rig.db.read).await.unwrap().unwrap();
    let server = held.server_id.unwrap();
    assert_eq!(rig.server_status(server).await, "used");
    told(&rig, server, "2.8.0", "7.20").await;
    let orders = rig.post.books.lock().unwrap().len();
    let begun = rig.ok(202, "POST", &format!("/servers/{server}/firmware/actions/upgrade"), Value::Null).await;
    let question = format!("/firmware/confirmations/{}", begun["confirmationId"]);
    assert!(begun["jobGroupId"].is_null(), "{begun}");
    assert_eq!(rig.post.books.lock().unwrap().len(), orders, "nothing is ordered before the owner agrees");
    no(&rig, 409, "POST", &format!("/servers/{server}/firmware/actions/upgrade"), Value::Null, "asked").await;
    let open = rig.get(&question).await;
    assert_eq!((&open["status"], &open["updates"][0]["to"]), (&json!("waiting"), &json!("2.10.0")));
    assert!(!open.to_string().contains("127.0.0.1"), "where images lie is nothing for tenants: {open}");
    // Nobody else sees it.
    let bob = bob(&rig).await;
    assert_eq!(rig.send(&bob, "GET", &question, None, None).await.status, 404);
    assert_eq!(rig.send(&bob, "POST", &format!("{question}/actions/confirm"), None, None).await.status, 404);
    assert_eq!(rig.send(&bob, "GET", "/firmware/confirmations", None, None).await.body["meta"]["totalItems"], 0);
    assert_eq!(
        rig.send(&bob, "POST", &format!("/servers/{server}/firmware/actions/upgrade"), None, None).await.status,
        403
    );

    let late = json!({"untilTimestamp": "2000-01-01T00:00:00Z"});
    no(&rig, 400, "POST", &format!("{question}/actions/postpone"), late, "untilTimestamp").await;
    let until = json!({"untilTimestamp": store::time::in_seconds(3 * 86_400)});
    rig.ok(200, "POST", &format!("{question}/actions/postpone"), until).await;
    let done = rig.ok(202, "POST", &format!("{question}/actions/confirm"), Value::Null).await;
    assert!(done["jobGroupId"].as_i64().is_some(), "{done}");
    let (_, jobs) = newest_group(&rig, server).await;
    assert!(jobs[0].payload["agreed_until"].as_str().unwrap() > store::time::now().as_str());
    assert_eq!(jobs[0].instance_id, Some(held.id), "void when another instance has the server");
    assert_eq!(rig.server_status(server).await, "used", "that word protects what is on it");
    no(&rig, 409, "POST", &format!("{question}/actions/deny"), Value::Null, "nothing is left to answer").await;
    site_updates(&rig, server).await;
    assert_eq!(rig.server_status(server).await, "used");

    // Without an answer nothing happens; nor after a no.
    told(&rig, server, "2.9.1", "7.20").await;
    let again = rig.ok(202, "POST", &format!("/servers/{server}/firmware/actions/upgrade"), Value::Null).await;
    let id = again["confirmationId"].as_i64().unwrap();
    let row = entity::firmware_confirmation::Entity::find_by_id(id).one(&rig.db.read).await.unwrap().unwrap();
    let mut row = row.into_active_model();
    row.due_at = Set("2020-01-01T00:00:00.000Z".into());
    row.update(&rig.db.write).await.unwrap();
    no(&rig, 409, "POST", &format!("/firmware/confirmations/{id}/actions/confirm"), Value::Null, "term").await;
    let orders = rig.post.books.lock().unwrap().len();
    firmware_schedule::tick(&app(&rig)).await.unwrap();
    assert_eq!(rig.get(&format!("/firmware/confirmations/{id}")).await["status"], "expired");
    let again = rig.ok(202, "POST", &format!("/servers/{server}/firmware/actions/upgrade"), Value::Null).await;
    let denied = rig
        .ok(200, "POST", &format!("/firmware/confirmations/{}/actions/deny", again["confirmationId"]), Value::Null)
        .await;
    assert_eq!(denied["status"], "denied");
    // Agreed to for later, and then the server went to somebody else: the word is void.
    let again = rig.ok(202, "POST", &format!("/servers/{server}/firmware/actions/upgrade"), Value::Null).await;
    let id = again["confirmationId"].as_i64().unwrap();
    let later = json!({"startTimestamp": store::time::in_seconds(3600)});
    rig.ok(202, "POST", &format!("/firmware/confirmations/{id}/actions/confirm"), later).await;
    let row = entity::firmware_confirmation::Entity::find_by_id(id).one(&rig.db.read).await.unwrap().unwrap();
    let mut row = row.into_active_model();
    row.start_at = Set(Some("2020-01-01T00:00:00.000Z".into()));
    row.server_instance_id = Set(Some(9999));
    row.update(&rig.db.write).await.unwrap();
    firmware_schedule::tick(&app(&rig)).await.unwrap();
    assert_eq!(rig.get(&format!("/firmware/confirmations/{id}")).await["status"], "void");
    assert_eq!(rig.post.books.lock().unwrap().len(), orders, "none of these made an order");
}

async fn policies_decide(db: Database) {
    let rig = rig(db).await;
    catalog(&rig).await;
    for server in 1..=3 {
        told(&rig, server, "2.8.0", "7.10").await;
    }
    let rule =
        |property: &str, value: &str| json!({"property": property, "operation": "string_equals", "value": value});
    let policy =
        |label: &str, action: &str, rules: Vec<Value>| json!({"label": label, "action": action, "rules": rules});
    let path = "/firmware/policies";
    let deny = rig.ok(201, "POST", path, policy("no BMC", "deny", vec![rule("server_component_type", "bmc")])).await;
    no(&rig, 409, "POST", path, policy("no BMC", "deny", vec![]), "label").await;
    no(&rig, 400, "POST", path, policy("x", "maybe", vec![]), "action").await;
    no(&rig, 400, "POST", path, policy("x", "deny", vec![rule("server_id", "")]), "rules[0].value").await;
    let mut foreign = policy("x", "deny", vec![]);
    foreign["serverInstanceGroupIds"] = json!([77]);
    no(&rig, 400, "POST", path, foreign, "serverInstanceGroupIds[0]").await;
    let one = format!("{path}/{}", deny["id"]);
    stale(&rig, "PATCH", &one, json!({"status": "stopped"})).await;
    no(&rig, 404, "GET", "/firmware/policies/99", Value::Null, "firmware policy 99").await;
    let audit = rig.ok(200, "POST", &format!("{one}/actions/generate-audit"), Value::Null).await;
    assert_eq!(audit["audit"]["servers"].as_array().unwrap().len(), 3, "{audit}");

    // What is denied is left out; with nothing left, it is refused with the policy's name.
    let bmc = rig.get("/servers/1/firmware/components?filter.type=bmc").await["data"][0]["id"].clone();
    no(&rig, 409, "POST", &format!("/servers/1/firmware/components/{bmc}/actions/upgrade"), json!({}), "no BMC").await;
    rig.ok(202, "POST", "/servers/1/firmware/actions/upgrade", Value::Null).await;
    assert_eq!(newest_group(&rig, 1).await.1.len(), 2, "the BIOS, and a look afterwards");
    site_updates(&rig, 1).await;

    // With confirmation: also a server that nobody uses waits, for an administrator then.
    let confirm =
        policy("ask", "accept_with_confirmation", vec![rule("server_id", "2"), rule("server_vendor", "dell")]);
    rig.ok(201, "POST", path, confirm).await;
    let begun = rig.ok(202, "POST", "/servers/2/firmware/actions/upgrade", Value::Null).await;
    assert!(begun["confirmationId"].as_i64().is_some(), "{begun}");
    rig.ok(202, "POST", &format!("/firmware/confirmations/{}/actions/confirm", begun["confirmationId"]), Value::Null)
        .await;
    assert_eq!(rig.server_status(2).await, "updating_firmware");

    // Applied: those that policies are about, and nothing else.
    let accept = policy(
        "roll",
        "accept",
        vec![
            rule("server_id", "3"),
            json!({"property": "server_component_name", "operation": "string_contains", "value": "bio"}),
        ],
    );
    rig.ok(201, "POST", path, accept).await;
    let nothing =
        rig.ok(200, "POST", "/firmware/policies/actions/apply-with-server-instance-groups", Value::Null).await;
    assert_eq!(nothing, json!({"scheduled": [], "failedToSchedule": []}));
    let applied =
        rig.ok(200, "POST", "/firmware/policies/actions/apply-without-server-instance-groups", Value::Null).await;
    assert_eq!(applied, json!({"scheduled": [3], "failedToSchedule": [2]}), "one is at it already");
    assert_eq!(rig.get("/firmware/policies?filter.action=accept").await["meta"]["totalItems"], 1);
    assert_eq!(rig.get("/firmware/policies?filter.serverInstanceGroupIds=5").await["meta"]["totalItems"], 0);
    rig.ok(200, "PATCH", &one, json!({"status": "stopped", "label": "BMC some day"})).await;
    rig.ok(204, "DELETE", &one, Value::Null).await;

    // A time of day for what is planned.
    assert_eq!(rig.get("/firmware/configuration").await["activated"], false);
    no(&rig, 400, "PATCH", "/firmware/configuration", json!({"upgradeStartTime": "soon"}), "upgradeStartTime").await;
    no(
        &rig,
        400,
        "PATCH",
        "/firmware/configuration",
        json!({"activated": true, "upgradeStartTime": "22:00"}),
        "upgradeEndTime",
    )
    .await;
    let shut = chrono::Utc::now() + chrono::Duration::hours(6);
    let window = json!({"activated": true, "upgradeStartTime": shut.format("%H:%M").to_string(), "upgradeEndTime": (shut + chrono::Duration::hours(1)).format("%H:%M").to_string()});
    rig.ok(200, "PATCH", "/firmware/configuration", window).await;
    site_updates(&rig, 3).await;
    no(
        &rig,
        400,
        "POST",
        "/servers/3/firmware/actions/schedule-upgrade",
        json!({"scheduleUpdateTimestamp": "tomorrow"}),
        "scheduleUpdateTimestamp",
    )
    .await;
    told(&rig, 3, "2.8.0", "7.10").await;
    rig.ok(
        204,
        "POST",
        "/servers/3/firmware/actions/schedule-upgrade",
        json!({"scheduleUpdateTimestamp": "2026-01-01T00:00:00Z"}),
    )
    .await;
    firmware_schedule::tick(&app(&rig)).await.unwrap();
    assert_eq!(rig.server_status(3).await, "available", "the window is shut");
    rig.ok(200, "PATCH", "/firmware/configuration", json!({"activated": false})).await;
    firmware_schedule::tick(&app(&rig)).await.unwrap();
    assert_eq!(rig.server_status(3).await, "updating_firmware");
}

async fn a_campaign_goes_in_waves_and_pauses_on_failure(db: Database) {
    let rig = rig(db).await;
    let catalog = catalog(&rig).await;
    for n in 4..=6 {
        rig.server(n).await;
    }
    for server in 1..=6 {
        told(&rig, server, "2.8.0", "7.20").await;
    }
    let body = json!({"name": "gold", "catalog": [catalog.to_string()], "minimumVersions": [{"componentName": "bios", "minimumVersion": "2.9.5"}]});
    let baseline = rig.ok(200, "POST", "/firmware/baseline", body).await["id"].clone();
    let path = "/firmware/campaigns";
    no(&rig, 400, "POST", path, json!({"label": "x"}), "baselineId").await;
    no(&rig, 400, "POST", path, json!({"label": "x", "baselineId": 99}), "baselineId").await;
    no(&rig, 400, "POST", path, json!({"label": "x", "baselineId": baseline, "siteId": 99}), "serverIds").await;
    let made =
        rig.ok(201, "POST", path, json!({"label": "spring", "baselineId": baseline, "secondWavePercent": 30})).await;
    assert_eq!((&made["status"], &made["wave"], &made["waves"]), (&json!("running"), &json!(1), &json!(3)), "{made}");
    assert_eq!(made["serverCounts"], json!({"running": 1, "waiting": 5}), "one first");
    let one = format!("{path}/{}", made["id"]);
    no(&rig, 409, "POST", path, json!({"label": "y", "baselineId": baseline, "serverIds": [2]}), "another campaign")
        .await;
    no(&rig, 409, "DELETE", &format!("/firmware/baseline/{baseline}"), Value::Null, "spring").await;
    assert_eq!(rig.server_status(1).await, "updating_firmware");
    assert_eq!(rig.server_status(2).await, "available");
    site_updates(&rig, 1).await;
    let now = rig.get(&one).await;
    assert_eq!(
        (&now["wave"], &now["serverCounts"]),
        (&json!(2), &json!({"done": 1, "running": 2, "waiting": 3})),
        "{now}"
    );

    // A failure stops what has not begun.
    site_fails(&rig, 2, "the BMC lost the update").await;
    site_updates(&rig, 3).await;
    let now = rig.get(&one).await;
    assert_eq!((&now["status"], &now["serverCounts"]["waiting"]), (&json!("paused"), &json!(3)), "{now}");
    assert!(now["reason"].as_str().unwrap().contains("the BMC lost the update"), "{now}");
    firmware_schedule::tick(&app(&rig)).await.unwrap();
    assert_eq!(rig.server_status(4).await, "available", "nothing begins while it is paused");
    no(&rig, 409, "POST", &format!("{one}/actions/pause"), json!({}), "paused").await;
    stale(&rig, "POST", &format!("{one}/actions/resume"), json!({})).await;

    // A person resumes it: what failed is tried again.
    let now = rig.ok(200, "POST", &format!("{one}/actions/resume"), json!({"retryFailed": true})).await;
    assert_eq!((&now["status"], &now["serverCounts"]["running"]), (&json!("running"), &json!(1)), "{now}");
    site_updates(&rig, 2).await;
    let now = rig.get(&one).await;
    assert_eq!((&now["wave"], &now["serverCounts"]), (&json!(3), &json!({"done": 3, "running": 3})), "{now}");
    for server in 4..=5 {
        site_updates(&rig, server).await;
    }
    no(&rig, 409, "DELETE", &one, Value::Null, "before it has ended").await;
    let now = rig.ok(200, "POST", &format!("{one}/actions/abort"), json!({"reason": "enough"})).await;
    assert_eq!((&now["status"], &now["reason"]), (&json!("aborted"), &json!("enough")));
    site_updates(&rig, 6).await;
    assert_eq!(rig.server_status(6).await, "available", "what had begun came to its end");
    rig.ok(204, "DELETE", &one, Value::Null).await;
    no(&rig, 404, "GET", &one, Value::Null, "firmware campaign").await;

    // All is as the baseline wants it: a campaign ends at once.
    for server in 1..=6 {
        told(&rig, server, "2.10.0", "7.20").await;
    }
    let made = rig.ok(201, "POST", path, json!({"label": "summer", "baselineId": baseline})).await;
    assert_eq!((&made["status"], &made["serverCounts"]), (&json!("finished"), &json!({"done": 6})), "{made}");
}

async fn images_that_people_bring(db: Database) {
    let rig = rig(db).await;
    let body = json!({"label": "rescue", "accessUrl": "http://127.0.0.1/rescue.iso"});
    let made = rig.ok(201, "POST", "/custom-isos", body.clone()).await;
    assert_eq!((&made["name"], &made["type"], &made["isPublic"]), (&json!("rescue"), &json!("http"), &json!(0)));
    no(&rig, 409, "POST", "/custom-isos", body, "label").await;
    no(&rig, 400, "POST", "/custom-isos", json!({"label": "x", "accessUrl": "nfs://x"}), "accessUrl").await;
    no(&rig, 400, "POST", "/custom-isos", json!({"label": "x", "accessUrl": "http://a:b@x/y"}), "accessUrl").await;
    no(&rig, 404, "GET", "/custom-isos/99", Value::Null, "custom ISO 99").await;
    let path = format!("/custom-isos/{}", made["id"]);
    stale(&rig, "PATCH", &path, json!({"name": "x"})).await;
    assert_eq!(rig.ok(200, "PATCH", &path, json!({"name": "Rescue 2"})).await["name"], "Rescue 2");

    rig.ok(200, "POST", &format!("{path}/actions/boot-into-server/1"), Value::Null).await;
    let (_, book) = rig.post.books.lock().unwrap().last().cloned().unwrap();
    let payload = &book.jobs[0].spec.payload;
    assert_eq!((&payload["url"], &payload["agreed_until"]), (&json!("http://127.0.0.1/rescue.iso"), &Value::Null));
    no(
        &rig,
        400,
        "POST",
        &format!("{path}/actions/boot-into-server/1?ejectAfterSeconds=5"),
        Value::Null,
        "ejectAfterSeconds",
    )
    .await;
    no(&rig, 404, "POST", &format!("{path}/actions/boot-into-server/99"), Value::Null, "server 99").await;

    // A server in use: only for whom it is, and only when it is said.
    let (infrastructure, _, _) = rig.design("shop", 1).await;
    rig.deployed(infrastructure, false).await;
    let held = entity::server_instance::Entity::find().one(&rig.db.read).await.unwrap().unwrap();
    let boot = format!("{path}/actions/boot-into-server/{}", held.server_id.unwrap());
    no(&rig, 409, "POST", &boot, Value::Null, "confirm=true").await;
    rig.ok(200, "POST", &format!("{boot}?confirm=true"), Value::Null).await;
    let (_, book) = rig.post.books.lock().unwrap().last().cloned().unwrap();
    assert!(book.jobs[0].spec.payload["agreed_until"].is_string());
    assert_eq!(book.jobs[0].spec.refs.instance_id, Some(held.id));

    // Another tenant sees public images alone, and no server that is not his.
    let bob = bob(&rig).await;
    assert_eq!(rig.send(&bob, "GET", &path, None, None).await.status, 404);
    let own = json!({"label": "rescue", "accessUrl": "http://127.0.0.1/mine.iso"});
    assert_eq!(rig.send(&bob, "POST", "/custom-isos", None, Some(own)).await.status, 201, "tenants bring their own");
    assert_eq!(rig.send(&bob, "POST", &format!("{boot}?confirm=true"), None, None).await.status, 404);
    rig.ok(200, "POST", &format!("{path}/actions/make-public"), Value::Null).await;
    assert_eq!(rig.send(&bob, "POST", &format!("{boot}?confirm=true"), None, None).await.status, 404, "not his server");
    rig.ok(204, "DELETE", &path, Value::Null).await;
}

async fn what_only_a_bmc_can_do(db: Database) {
    let rig = rig(db).await;
    let jobs = |rig: &Rig| rig.post.books.lock().unwrap().len();
    let (infrastructure, _, _) = rig.design("shop", 1).await;
    rig.deployed(infrastructure, false).await;
    let used = entity::server_instance::Entity::find().one(&rig.db.read).await.unwrap().unwrap().server_id.unwrap();
    let free = if used == 1 { 2 } else { 1 };
    let path = |id: Id, what: &str| format!("/servers/{id}/{what}");
    for (method, what, body, status) in [
        ("POST", "actions/reset-bmc", Value::Null, 202),
        ("POST", "actions/eject-virtual-media", Value::Null, 202),
        ("POST", "actions/clear-event-log", Value::Null, 202),
        ("POST", "actions/enable-snmp", Value::Null, 200),
        ("POST", "actions/syslog-subscribe", json!({"target": "127.0.0.1:514"}), 204),
        ("POST", "actions/factory-reset", Value::Null, 202),
        ("PATCH", "bios", json!({"attributes": {"NumLock": "Off"}}), 202),
        ("PUT", "boot-order", json!({"order": ["Boot0001", "Boot0000"]}), 202),
        ("PUT", "power-policy", json!({"afterPowerLoss": "last_state"}), 202),
    ] {
        let before = jobs(&rig);
        rig.ok(status, method, &path(free, what), body.clone()).await;
        assert_eq!(jobs(&rig), before + 1, "{what}");
        let sent = (!body.is_null()).then_some(body);
        if method != "GET" {
            let answer = rig.send(&rig.admin, method, &path(free, what), Some(9999), sent).await;
            assert_eq!(answer.status, 412, "{what}");
        }
    }
    // Nothing of this for a server in use that would change what its owner relies on.
    for (method, what, body) in [
        ("POST", "actions/factory-reset", Value::Null),
        ("PATCH", "bios", json!({"attributes": {"NumLock": "Off"}})),
        ("PUT", "boot-order", json!({"order": ["Boot0001"]})),
    ] {
        no(&rig, 409, method, &path(used, what), body, "used").await;
    }
    no(&rig, 409, "POST", &path(free, "actions/send-nmi"), Value::Null, "is off").await;
    no(&rig, 400, "PATCH", &path(free, "bios"), json!({"attributes": {}}), "attributes").await;
    no(&rig, 400, "PATCH", &path(free, "bios"), json!({"attributes": {"a": [1]}}), "attributes.a").await;
    no(&rig, 400, "PUT", &path(free, "boot-order"), json!({"order": []}), "order").await;
    no(&rig, 400, "PUT", &path(free, "power-policy"), json!({"afterPowerLoss": "dance"}), "afterPowerLoss").await;
    no(&rig, 400, "POST", &path(free, "actions/syslog-subscribe"), json!({"target": "not a host!"}), "target").await;
    no(&rig, 400, "POST", &path(free, "actions/syslog-subscribe"), Value::Null, "target").await;
    // Without its site there is no answer, and words that say so.
    for what in ["bios", "sensors", "event-log", "boot-order", "power-policy"] {
        no(&rig, 504, "GET", &path(free, what), Value::Null, "not connected").await;
        no(&rig, 404, "GET", &path(99, what), Value::Null, "server 99").await;
    }
    // Health is a note with the server, and news when it changes.
    let told = |health: &str| json!({"health": health, "temperatures": [{"name": "CPU1", "value": 99.0, "health": health}], "fans": [], "power_watts": 300.0});
    for health in ["ok", "critical", "critical", "ok"] {
        record::sensors(&app(&rig), free, &told(health)).await.unwrap();
    }
    let news = rig.get("/events?filter.kind=server.health").await;
    assert_eq!(news["meta"]["totalItems"], 2, "{news}");
    // One that is in production elsewhere is left alone.
    let row = entity::server::Entity::find_by_id(free).one(&rig.db.read).await.unwrap().unwrap();
    let mut row = row.into_active_model();
    row.administration_state = Set("unmanaged".into());
    row.update(&rig.db.write).await.unwrap();
    for what in ["actions/reset-bmc", "actions/factory-reset", "actions/enable-snmp"] {
        no(&rig, 409, "POST", &path(free, what), Value::Null, "production").await;
    }
}

/// Each on both databases.
mod on {
    macro_rules! both {
        ($($name:ident)*) => { $(#[tokio::test] async fn $name() { crate::testing::both(super::$name).await; })* };
    }
    both! {
        catalogs_binaries_and_baselines
        parts_are_read_compared_and_held_against_a_baseline
        a_free_server_is_updated_and_is_what_it_was
        a_server_in_use_waits_for_its_owner
        policies_decide
        a_campaign_goes_in_waves_and_pauses_on_failure
        images_that_people_bring
        what_only_a_bmc_can_do
    }
}
