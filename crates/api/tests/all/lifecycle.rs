//! The life of servers through the interface: how they come in (one by one, from a table, from a range, as they run), how they are cleaned,
//! kept back, and given other passwords.

use crate::hardware_rig::{Rig, rig};
use model::{
    Id,
    cleaning::{CleanPlan, WipeMethod},
    job::{JobReport, JobStatus},
    order::{ServerClean, ServerRotateCredentials, ServerScan},
    snapshot::Fact,
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait};
use serde_json::{Value, json};
use store::{Database, entity};

impl Rig {
    /// Refused because the caller saw an older revision.
    async fn stale(&self, method: &str, path: &str, body: Value) {
        let body = (!body.is_null()).then_some(body);
        let answer = self.send(&self.admin, method, path, Some("\"99\""), body).await;
        assert_eq!(answer.status, 412, "{method} {path}: {}", answer.body);
    }

    /// Payload of the last order.
    fn payload<T: serde::de::DeserializeOwned>(&self, function: &str) -> T {
        let books = self.post.0.lock().unwrap();
        let jobs = books.iter().flat_map(|(_, b)| &b.jobs);
        let found = jobs.rev().find(|j| j.spec.function == function).unwrap_or_else(|| panic!("no {function}"));
        serde_json::from_value(found.spec.payload.clone()).unwrap()
    }

    async fn ended(&self, job_id: Id, response: Value) {
        let report = JobReport {
            job_id,
            sequence: 9,
            status: JobStatus::ReturnedSuccess,
            call_count: 1,
            retry_count: 0,
            percent: None,
            message: None,
            error: None,
            response: Some(response),
            started_at: Some(store::time::now()),
            finished_at: Some(store::time::now()),
        };
        self.app.engine().apply_report(&report).await.unwrap();
    }

    async fn server_type(&self) -> Value {
        let kind = json!({
            "ramGbytes": 256, "processorCount": 2, "processorCoreMhz": 2600, "processorCoreCount": 32, "name": "M.2x32.256", "label": "big",
            "networkInterfaceSpeeds": [25000, 25000], "processorNames": ["Xeon"], "diskCount": 2, "serverClass": "unknown",
        });
        self.ok(201, "POST", "/server-types", kind).await
    }
}

fn policy(label: &str) -> Value {
    json!({
        "label": label, "cleanupDrivesForOobEnabledServer": 1, "recreateRaid": 0, "resetRaidControllers": 0, "disableEmbeddedNics": 0, "raidOneDrive": "RAID0",
        "raidTwoDrives": "RAID1", "raidEvenNumberMoreThanTwoDrives": "RAID10", "raidOddNumberMoreThanOneDrive": "RAID5", "skipRaidActions": ["registration"],
    })
}

async fn cleanup_policies(db: Database) {
    let rig = rig(db).await;
    let all = "/servers/cleanup-policies";
    let made = rig.ok(201, "POST", all, policy("plain")).await;
    assert_eq!((&made["eraseMethod"], &made["skipRaidActions"]), (&json!("auto"), &json!(["registration"])));
    rig.no(409, "POST", all, policy("plain"), "label").await;
    let with = |name: &str, value: Value| {
        let mut body = policy("other");
        body[name] = value;
        body
    };
    rig.no(400, "POST", all, with("eraseMethod", json!("hammer")), "eraseMethod").await;
    rig.no(400, "POST", all, with("keepDiskTypes", json!(["hdd", "ssd", "nvme"])), "keepDiskTypes").await;
    rig.no(400, "POST", all, with("keepDiskTypes", json!(["tape"])), "keepDiskTypes").await;
    rig.no(400, "POST", all, with("keepDiskSerialNumbers", json!([" "])), "keepDiskSerialNumbers").await;
    rig.no(400, "POST", all, with("raidOneDrive", json!("RAID9")), "raidOneDrive").await;
    rig.no(400, "POST", all, with("label", json!("")), "label").await;
    let mut careful = with("eraseMethod", json!("overwrite"));
    careful["keepDiskSerialNumbers"] = json!(["S1"]);
    careful["keepDiskTypes"] = json!(["hdd"]);
    careful["recreateRaid"] = json!(1);
    careful["label"] = json!("careful");
    rig.no(400, "POST", all, careful.clone(), "recreateRaid").await;
    careful["recreateRaid"] = json!(0);
    let careful = rig.ok(201, "POST", all, careful).await;
    assert_eq!((&careful["clearTpm"], &careful["settingsNotCarriedOut"]), (&json!(false), &json!([])));
    let by_hand = rig.ok(201, "POST", all, {
        let mut body = with("cleanupDrivesForOobEnabledServer", json!(0));
        body["label"] = json!("by hand");
        body
    });
    let by_hand = by_hand.await;
    let path = |p: &Value| format!("{all}/{}", p["id"]);
    let after = rig.ok(200, "PATCH", &path(&made), json!({"label": "simple"})).await;
    assert_eq!((&after["label"], &after["raidOneDrive"]), (&json!("simple"), &json!("RAID0")));
    rig.no(409, "PATCH", &path(&made), json!({"label": "careful"}), "label").await;
    rig.stale("PATCH", &path(&made), json!({"label": "late"})).await;
    rig.no(404, "GET", &format!("{all}/99"), Value::Null, "cleanup policy").await;
    rig.no(404, "PATCH", &format!("{all}/99"), json!({}), "cleanup policy").await;
    rig.no(404, "DELETE", &format!("{all}/99"), Value::Null, "cleanup policy").await;
    assert_eq!(rig.get(&format!("{all}?filter.label=simple")).await["meta"]["totalItems"], 1);

    // The site's, the profile's and the server's own: the nearest wins.
    let id = rig.register("10.0.0.7").await["serverId"].as_i64().unwrap();
    let server = format!("/servers/{id}");
    let cleaned = async || -> CleanPlan {
        rig.server(id, |row| row.status = Set("cleaning_required".into())).await;
        rig.ok(202, "POST", &format!("{server}/actions/clean"), Value::Null).await;
        rig.payload::<ServerClean>("server.clean").plan
    };
    assert_eq!(cleaned().await, CleanPlan::default(), "without any, every disk is erased");
    let site = json!({"serverPolicy": {"defaultServerCleanupPolicyID": made["id"]}});
    rig.ok(200, "PATCH", &format!("/sites/{}/config", rig.site), site).await;
    assert_eq!(cleaned().await.policy.as_deref(), Some("simple"));
    let profile = json!({"name": "erased well", "settings": {"serverCleanupPolicyId": careful["id"]}});
    let profile = rig.ok(201, "POST", "/servers/registration-profiles", profile).await;
    let bad = json!({"name": "x", "settings": {"serverCleanupPolicyId": 99}});
    rig.no(400, "POST", "/servers/registration-profiles", bad, "settings.serverCleanupPolicyId").await;
    rig.ok(200, "PATCH", &server, json!({"registrationProfileId": profile["id"]})).await;
    let plan = cleaned().await;
    assert_eq!(
        (plan.method, plan.keep.as_slice(), plan.keep_media.as_slice(), plan.policy.as_deref()),
        (WipeMethod::Overwrite, &["S1".to_owned()][..], &["hdd".to_owned()][..], Some("careful"))
    );
    everything(&rig, id, &server).await;
    rig.no(400, "PATCH", &server, json!({"serverCleanupPolicyId": 99}), "serverCleanupPolicyId").await;
    let shown = rig.ok(200, "PATCH", &server, json!({"serverCleanupPolicyId": by_hand["id"]})).await;
    assert_eq!(shown["serverCleanupPolicyId"], by_hand["id"]);
    assert_eq!(cleaned().await.policy.as_deref(), Some("by hand"), "a person asks for it, so it is done");
    for used in [&made, &careful, &by_hand] {
        rig.no(409, "DELETE", &path(used), Value::Null, "is used by").await;
    }
    rig.ok(200, "PATCH", &server, json!({"serverCleanupPolicyId": 0})).await;
    rig.stale("DELETE", &path(&by_hand), Value::Null).await;
    rig.ok(204, "DELETE", &path(&by_hand), Value::Null).await;
    // Certificates: those of servers that are gone too.
    let mut row = entity::cleaning_certificate::new();
    row.server_id = Set(4711);
    row.site_id = Set(rig.site);
    row.server_name = Set("GONE1".into());
    row.job_id = Set(1);
    row.finished_at = Set(store::time::now());
    row.succeeded = Set(true);
    row.method = Set("auto".into());
    row.steps = Set(Some(json!([{"what": "Trusted platform module", "done": true, "words": "cleared"}])));
    row.signed = Set(Some(json!({"statement": "{}", "public_key": "aa", "signature": "bb"})));
    row.disks = Set(
        json!([{"name": "nvme0n1", "serial": "N1", "model": "M", "size": 5, "erased": true, "method": "discarded", "verified": "all zero"}]),
    );
    row.insert(&rig.db.write).await.unwrap();
    let listed = rig.get("/servers/cleaning-certificates?filter.serverId=4711").await;
    let disk = &listed["data"][0]["disks"][0];
    assert_eq!((&disk["serialNumber"], &disk["verification"]), (&json!("N1"), &json!("all zero")));
    let shown = rig.get("/servers/cleaning-certificates/1").await;
    assert_eq!((&shown["serialNumber"], &shown["steps"][0]["done"]), (&json!("GONE1"), &json!(true)));
    assert_eq!(shown["signed"]["publicKey"], "aa");
    rig.no(404, "GET", "/servers/cleaning-certificates/9", Value::Null, "certificate").await;
}

/// All that a policy can ask for reaches the site.
async fn everything(rig: &Rig, id: Id, server: &str) {
    let all = "/servers/cleanup-policies";
    let cleaned = async || -> CleanPlan {
        rig.server(id, |row| row.status = Set("cleaning_required".into())).await;
        rig.ok(202, "POST", &format!("{server}/actions/clean"), Value::Null).await;
        rig.payload::<ServerClean>("server.clean").plan
    };
    let mut full = policy("full");
    full["eraseFallbackMethods"] = json!(["hammer"]);
    rig.no(400, "POST", all, full.clone(), "eraseFallbackMethods").await;
    for name in ["clearTpm", "resetBios", "resetSecureBootKeys", "resetBmcSettings"] {
        full[name] = json!(true);
    }
    full["eraseMethod"] = json!("crypto_erase");
    full["eraseFallbackMethods"] = json!(["secure_erase", "overwrite"]);
    for name in ["recreateRaid", "resetRaidControllers", "disableEmbeddedNics"] {
        full[name] = json!(1);
    }
    let full = rig.ok(201, "POST", all, full).await;
    rig.ok(200, "PATCH", server, json!({"serverCleanupPolicyId": full["id"]})).await;
    let plan = cleaned().await;
    assert_eq!(plan.method, WipeMethod::CryptoErase);
    assert_eq!(plan.fallbacks, [WipeMethod::SecureErase, WipeMethod::Overwrite]);
    let steps = &plan.firmware;
    assert!(steps.clear_tpm && steps.reset_bios && steps.reset_secure_boot_keys && steps.reset_bmc);
    assert!(steps.disable_embedded_nics);
    let raid = steps.raid.as_ref().unwrap();
    assert!(raid.reset && raid.recreate);
    let levels = [1, 2, 3, 8].map(|n| raid.level(n).as_str());
    assert_eq!(levels, ["RAID0", "RAID1", "RAID5", "RAID10"]);
    rig.ok(200, "PATCH", &format!("{all}/{}", full["id"]), json!({"skipRaidActions": ["cleanup"]})).await;
    assert_eq!(cleaned().await.firmware.raid, None);
    // The disks that are known of the server; none without a look from inside.
    let whole = |disks: Value| {
        let mut all = serde_json::to_value(model::bmc::HardwareInventory::default()).unwrap();
        all["disks"] = disks;
        all
    };
    let disk = |name: &str, serial: &str| json!({"name": name, "serial": serial, "size_gb": 960, "media": "ssd"});
    let bmc = whole(json!([disk("Disk.0", "D1"), disk("Disk.1", "D2")]));
    let inside = whole(json!([disk("sda", "D1")]));
    rig.server(id, |row| row.inventory = Set(json!({"sources": {"bmc": bmc}}))).await;
    assert!(cleaned().await.disks.is_empty());
    rig.server(id, |row| row.inventory = Set(json!({"sources": {"inBand": inside, "bmc": bmc}}))).await;
    let known: Vec<_> = cleaned().await.disks.into_iter().map(|d| (d.serial.unwrap(), d.seen)).collect();
    assert_eq!(known, [("D1".to_owned(), true), ("D2".to_owned(), false)]);
    // Words from labels are sealed for the site.
    rig.server(id, |row| row.status = Set("cleaning_required".into())).await;
    let clean = format!("{server}/actions/clean");
    rig.no(400, "POST", &clean, json!({"drivePsids": {"D1": "short"}}), "drivePsids").await;
    rig.ok(202, "POST", &clean, json!({"drivePsids": {"D1": "ABCD-efgh 12345678 12345678 12345678"}})).await;
    let plan = rig.payload::<ServerClean>("server.clean").plan;
    let word = rig.sealer.for_site(rig.site).open(&plan.psids["D1"]).unwrap();
    assert_eq!(word.0, "ABCDEFGH123456781234567812345678");
    rig.server(id, |row| row.inventory = Set(json!({}))).await;
    rig.ok(200, "PATCH", server, json!({"serverCleanupPolicyId": 0})).await;
    let path = format!("{all}/{}", full["id"]);
    rig.ok(204, "DELETE", &path, Value::Null).await;
}

async fn many_servers_from_a_table(db: Database) {
    let rig = rig(db).await;
    rig.register("10.0.0.7").await;
    let csv = "managementAddress,username,password,serialNumber,rackName,bmcMacAddress\n\
        10.0.1.1,root,\"pa,ss\",A1,R1,\n\
        10.0.0.7,root,x,A2,R1,\n\
        ,root,x,A3,R1,\n\
        10.0.1.4,root,,A4,R1,\n\
        10.0.1.5,,,A5,R1,52:54:00:00:00:05\n\
        10.0.1.6,root,x,A6\n\
        ipmi://10.0.1.1,root,x,A7,R1,\n\
        ipmi://10.0.1.8,root,x,A8,R1,nonsense\n\
        ipmi://10.0.1.9,root,x,A9,R1,\n";
    let body = json!({"siteId": rig.site, "csv": csv});
    let told = rig.ok(200, "POST", "/servers/actions/register-csv", body.clone()).await;
    assert_eq!((&told["registered"], &told["refused"]), (&json!(3), &json!(6)), "{told}");
    let results = told["results"].as_array().unwrap();
    let error = |line: i64| {
        let row = results.iter().find(|r| r["line"] == line).unwrap();
        row["error"].as_str().unwrap_or_default().to_owned()
    };
    for (line, words) in [
        (3, "line 3: managementAddress: server 1"),
        (4, "line 4: managementAddress: is required"),
        (5, "line 5: password"),
        (7, "line 7: csv: has 4 fields, and the first line names 6"),
        (8, "has the BMC ipmi://10.0.1.1 already"),
        (9, "line 9: bmcMacAddress"),
    ] {
        assert!(error(line).contains(words), "{line}: {}", error(line));
    }
    assert!(!told.to_string().contains("pa,ss"), "passwords are not told back");
    let made: Vec<&Value> = results.iter().filter(|r| r["serverId"].is_i64()).collect();
    assert!(made[0]["jobInfo"]["jobId"].is_i64());
    assert!(made[1]["jobInfo"].is_null(), "one without a login waits for it");
    let first = rig.get(&format!("/servers/{}", made[0]["serverId"])).await;
    assert_eq!((&first["serialNumber"], &first["rackName"]), (&json!("A1"), &json!("R1")));
    let Some(Fact::Server(fact)) = rig.fact(&format!("server/{}", made[0]["serverId"])).await else {
        panic!("no fact")
    };
    assert_eq!(rig.sealer.for_site(rig.site).open(&fact.bmc.unwrap().password).unwrap().0, "pa,ss");
    let Some(Fact::Server(fact)) = rig.fact(&format!("server/{}", made[2]["serverId"])).await else {
        panic!("no fact")
    };
    assert_eq!(fact.bmc.unwrap().address, "ipmi://10.0.1.9", "the site sees by which protocol");
    // The whole table is wrong: nothing comes in.
    let bad = |csv: &str| json!({"siteId": rig.site, "csv": csv});
    let path = "/servers/actions/register-csv";
    rig.no(400, "POST", path, bad(""), "csv").await;
    rig.no(400, "POST", path, bad("serialNumber\nA"), "line 1: the column managementAddress is missing").await;
    rig.no(400, "POST", path, bad("managementAddress,colour\n10.0.2.1,red"), "\"colour\"").await;
    rig.no(400, "POST", path, bad("managementAddress\n\"10.0.2.1"), "line 2: a quoted field has no end").await;
    rig.no(400, "POST", path, json!({"siteId": 99, "csv": "managementAddress\n10.0.2.1"}), "siteId").await;
    let again = rig.ok(200, "POST", path, body).await;
    assert_eq!(again["registered"], 0, "the same table again registers nothing twice");
    assert_eq!(rig.get("/servers").await["meta"]["totalItems"], 4);
}

async fn a_range_is_scanned(db: Database) {
    let rig = rig(db).await;
    let path = "/servers/actions/scan";
    let body = |first: &str, last: &str| json!({"siteId": rig.site, "firstAddress": first, "lastAddress": last});
    rig.no(400, "POST", path, body("10.0.0.9", "10.0.0.1"), "comes before the first").await;
    rig.no(400, "POST", path, body("10.0.0.0", "10.1.0.0"), "at most 4096").await;
    rig.no(400, "POST", path, body("ten", "10.1.0.0"), "firstAddress").await;
    rig.no(400, "POST", path, json!({"siteId": 99, "firstAddress": "10.0.0.1", "lastAddress": "10.0.0.2"}), "siteId")
        .await;
    let mut slow = body("10.0.0.1", "10.0.0.2");
    slow["deadlineSeconds"] = json!(100_000);
    rig.no(400, "POST", path, slow, "deadlineSeconds").await;
    rig.register("10.0.0.2").await;
    let job = rig.ok(202, "POST", path, body("10.0.0.1", "10.0.0.20")).await["jobId"].as_i64().unwrap();
    let order: ServerScan = rig.payload("server.scan");
    assert_eq!((order.first.to_string(), order.port, order.deadline_seconds), ("10.0.0.1".into(), None, 32));
    let scan = format!("/servers/scans/{job}");
    let shown = rig.get(&scan).await;
    assert_eq!((&shown["status"], &shown["found"]), (&json!("not_called"), &json!([])));
    rig.no(404, "GET", "/servers/scans/99", Value::Null, "scan").await;
    let other = rig.register("10.0.9.9").await["jobInfo"]["jobId"].as_i64().unwrap();
    rig.no(404, "GET", &format!("/servers/scans/{other}"), Value::Null, "scan").await;
    let found = |address: &str| json!({"address": address, "vendor": "Dell", "product": "iDRAC", "uuid": "u", "tls_fingerprint": "ab"});
    rig.ended(
        job,
        json!({"found": [found("10.0.0.2"), found("10.0.0.3"), found("10.0.0.4")], "asked": 20, "cut_short": false}),
    )
    .await;
    let shown = rig.get(&scan).await;
    assert_eq!((&shown["askedCount"], &shown["found"][0]["serverId"]), (&json!(20), &json!(1)));
    assert!(shown["found"][1]["serverId"].is_null());
    let register = format!("{scan}/actions/register");
    rig.no(400, "POST", &register, json!({"managementAddresses": ["10.0.0.5"]}), "did not answer in this scan").await;
    rig.no(400, "POST", &register, json!({"username": "root"}), "password").await;
    rig.no(404, "POST", "/servers/scans/99/actions/register", json!({}), "scan").await;
    let body = json!({"managementAddresses": ["10.0.0.3", "10.0.0.2"], "username": "root", "password": "x"});
    let told = rig.ok(200, "POST", &register, body).await;
    assert_eq!((&told["registered"], &told["refused"]), (&json!(1), &json!(1)), "{told}");
    let made = rig.get(&format!("/servers/{}", told["results"][0]["serverId"])).await;
    assert_eq!((&made["vendor"], &made["tlsFingerprint"]), (&json!("Dell"), &json!("ab")), "what was met is pinned");
    let told = rig.ok(200, "POST", &register, json!({})).await;
    assert_eq!(
        (&told["registered"], &told["results"][0]["managementAddress"]),
        (&json!(1), &json!("10.0.0.4")),
        "{told}"
    );
}

async fn unmanaged_servers_are_imported(db: Database) {
    let rig = rig(db).await;
    let kind = rig.server_type().await;
    rig.switch("leaf1", "10.0.1.1").await;
    let interface = |mac: &str, switch: &str| json!({"serverInterfaceMacAddress": mac, "identifierString": switch, "networkEquipmentInterfaceIdentifierString": "swp7"});
    let body = |interfaces: Value| {
        json!({
            "siteId": rig.site, "serverTypeId": kind["id"], "serverInterfaces": interfaces, "serverSerialNumber": "OLD1", "hostname": "db.example", "managementAddress": "10.0.0.50",
            "serverIpmiUsername": "root", "serverIpmiPassword": "secret",
        })
    };
    let path = "/servers/unmanaged/import";
    rig.no(
        400,
        "POST",
        path,
        body(json!([interface("nonsense", "leaf1")])),
        "serverInterfaces[0].serverInterfaceMacAddress",
    )
    .await;
    rig.no(
        400,
        "POST",
        path,
        body(json!([interface("52:54:00:00:00:01", "leaf9")])),
        "serverInterfaces[0].identifierString",
    )
    .await;
    let twice = json!([interface("52:54:00:00:00:01", "leaf1"), interface("52-54-00-00-00-01", "leaf1")]);
    rig.no(400, "POST", path, body(twice), "named twice").await;
    for (field, value) in [("siteId", json!(99)), ("serverTypeId", json!(99)), ("hostname", json!("a b"))] {
        let mut wrong = body(json!([]));
        wrong[field] = value;
        rig.no(400, "POST", path, wrong, field).await;
    }
    assert_eq!(rig.get("/servers").await["meta"]["totalItems"], 0, "what was refused left nothing");
    let made = rig.ok(200, "POST", path, body(json!([interface("52:54:00:00:00:01", "leaf1")]))).await;
    assert_eq!(
        (
            &made["administrationState"],
            &made["serverStatus"],
            &made["interfaces"][0]["switchHostname"],
            &made["ramGbytes"]
        ),
        (&json!("unmanaged"), &json!("used"), &json!("leaf1"), &json!(256))
    );
    assert!(rig.orders().iter().all(|o| o == &["switch.discover"]), "nothing is asked of it: {:?}", rig.orders());
    assert!(!made.to_string().contains("secret"));
    rig.no(409, "POST", path, body(json!([])), "managementAddress").await;
    let mut other = body(json!([interface("52:54:00:00:00:01", "leaf1")]));
    other["managementAddress"] = json!("10.0.0.51");
    rig.no(409, "POST", path, other, "has an interface with the address").await;
    // Without a BMC it cannot be taken over.
    let mut bare = body(json!([]));
    for field in ["managementAddress", "serverIpmiUsername", "serverIpmiPassword"] {
        bare.as_object_mut().unwrap().remove(field);
    }
    bare["serverSerialNumber"] = json!("OLD2");
    let bare = rig.ok(200, "POST", path, bare).await;
    let manage = format!("/servers/{}/actions/manage", bare["serverId"]);
    rig.no(409, "POST", &manage, json!({"serialNumber": "OLD2"}), "has no BMC").await;
    rig.stale("POST", &format!("/servers/{}/actions/manage", made["serverId"]), json!({"serialNumber": "OLD1"})).await;
    rig.no(404, "POST", "/servers/99/actions/manage", json!({"serialNumber": "x"}), "server 99").await;
    // As it runs, with what can be wrong about it.
    rig.ok(201, "POST", "/sites", json!({"slug": "dc2", "name": "Two"})).await;
    rig.ok(201, "POST", "/infrastructures", json!({"label": "far", "siteId": rig.site + 1})).await;
    let production = |infrastructure: i64| json!({"siteId": rig.site, "managementAddress": "10.0.0.60", "username": "a", "password": "b", "settings": {"infrastructureId": infrastructure}});
    let path = "/servers/actions/register-production";
    rig.no(400, "POST", path, production(99), "settings.infrastructureId").await;
    rig.no(400, "POST", path, production(1), "is at site 2, not at site 1").await;
    let mut without = production(1);
    without.as_object_mut().unwrap().remove("managementAddress");
    rig.no(400, "POST", path, without, "managementAddress").await;
}

async fn servers_are_kept_back(db: Database) {
    let rig = rig(db).await;
    let id = rig.register("10.0.0.7").await["serverId"].as_i64().unwrap();
    let path = format!("/servers/{id}/actions/set-maintenance");
    rig.no(400, "POST", &path, json!({"enabled": true}), "reason").await;
    rig.no(400, "POST", &path, json!({"reason": "x"}), "enabled").await;
    rig.stale("POST", &path, json!({"enabled": true, "reason": "x"})).await;
    rig.no(404, "POST", "/servers/99/actions/set-maintenance", json!({"enabled": true, "reason": "x"}), "server 99")
        .await;
    let shown = rig.ok(200, "POST", &path, json!({"enabled": true, "reason": "a fan is loud"})).await;
    assert_eq!((&shown["maintenance"], &shown["maintenanceReason"]), (&json!(true), &json!("a fan is loud")));
    let shown = rig.ok(200, "POST", &path, json!({"enabled": false})).await;
    assert_eq!((&shown["maintenance"], &shown["maintenanceReason"]), (&json!(false), &Value::Null));
    rig.server(id, |row| row.status = Set("decommissioned".into())).await;
    rig.no(409, "POST", &path, json!({"enabled": true, "reason": "x"}), "out of service already").await;
}

async fn bmcs_get_passwords_of_their_own(db: Database) {
    let rig = rig(db).await;
    let profile = json!({"name": "own passwords", "settings": {"registerCredentials": "random"}});
    let profile = rig.ok(201, "POST", "/servers/registration-profiles", profile).await;
    let body = |address: &str| json!({"siteId": rig.site, "managementAddress": address, "username": "admin", "password": "calvin", "registrationProfileId": profile["id"]});
    let id = rig.ok(202, "POST", "/servers", body("10.0.0.7")).await["serverId"].as_i64().unwrap();
    assert_eq!(rig.orders().last().unwrap(), &["server.inventory", "server.discover", "server.rotate_credentials"]);
    let first: ServerRotateCredentials = rig.payload("server.rotate_credentials");
    let clear = rig.sealer.for_site(rig.site).open(&first.password).unwrap().0;
    assert!(clear.len() >= 12 && clear != "calvin");
    // Until the BMC has proved it, the old one is the one in use, here and at the site.
    assert_eq!(rig.get(&format!("/servers/{id}/credentials")).await["password"], "calvin");
    let Some(Fact::Server(fact)) = rig.fact(&format!("server/{id}")).await else { panic!("no fact") };
    assert_eq!(rig.sealer.for_site(rig.site).open(&fact.bmc.unwrap().password).unwrap().0, "calvin");
    // Ordered again before anybody heard of the first: the same password, which the BMC may have by now.
    let path = format!("/servers/{id}/actions/rotate-credentials");
    rig.stale("POST", &path, Value::Null).await;
    let info = rig.ok(202, "POST", &path, Value::Null).await;
    assert!(info["jobId"].is_i64());
    let second: ServerRotateCredentials = rig.payload("server.rotate_credentials");
    assert_eq!(rig.sealer.for_site(rig.site).open(&second.password).unwrap().0, clear);
    for shown in
        [rig.get(&format!("/servers/{id}")).await, rig.get("/events?limit=100").await, rig.get("/jobs?limit=100").await]
    {
        assert!(!shown.to_string().contains(&clear));
    }
    rig.no(404, "POST", "/servers/99/actions/rotate-credentials", Value::Null, "server 99").await;
    let ipmi = rig.ok(202, "POST", "/servers", body("ipmi://10.0.0.8")).await["serverId"].as_i64().unwrap();
    assert_eq!(rig.orders().last().unwrap(), &["server.inventory", "server.discover"]);
    let path = format!("/servers/{ipmi}/actions/rotate-credentials");
    rig.no(409, "POST", &path, Value::Null, "driven by IPMI").await;
    let silent = json!({"siteId": rig.site, "managementAddress": "10.0.0.9"});
    let silent = rig.ok(202, "POST", "/servers", silent).await["serverId"].as_i64().unwrap();
    let path = format!("/servers/{silent}/actions/rotate-credentials");
    rig.no(409, "POST", &path, Value::Null, "is not known").await;
}

async fn interfaces_as_a_person_knows_them(db: Database) {
    let rig = rig(db).await;
    let id = rig.register("10.0.0.7").await["serverId"].as_i64().unwrap();
    rig.switch("leaf1", "10.0.1.1").await;
    let mut port = entity::network_device_port::new();
    port.network_device_id = Set(1);
    port.name = Set("swp1".into());
    port.tagged = Set(json!([]));
    port.lldp = Set(Value::Null);
    port.observed_at = Set(store::time::now());
    port.insert(&rig.db.write).await.unwrap();
    for n in 1..=2 {
        let mut row = entity::server_interface::new();
        row.server_id = Set(id);
        row.position = Set(n);
        row.name = Set(format!("eno{n}"));
        row.mac = Set(format!("52:54:00:00:00:0{n}"));
        row.speed_mbps = Set(25_000);
        row.insert(&rig.db.write).await.unwrap();
    }
    let path = |action: &str| format!("/servers/{id}/actions/{action}");
    let cable = |interface: i64, port: &str, host: &str| json!({"serverInterfaceId": interface, "networkDevicePortId": port, "networkDeviceHostname": host});
    let connect = path("connect-interface");
    rig.no(400, "POST", &connect, cable(9, "swp1", "leaf1"), "serverInterfaceId").await;
    rig.no(400, "POST", &connect, cable(1, "swp9", "leaf1"), "networkDevicePortId").await;
    rig.no(400, "POST", &connect, cable(1, "swp1", "leaf9"), "networkDeviceHostname").await;
    rig.ok(204, "POST", &connect, cable(1, "swp1", "leaf1")).await;
    rig.no(409, "POST", &connect, cable(2, "swp1", "leaf1"), "is cabled to interface 1").await;
    assert_eq!(rig.get(&format!("/servers/{id}")).await["interfaces"][0]["switchHostname"], "leaf1");
    let fabric = json!({"name": "f1", "siteId": rig.site, "fabricConfiguration": {"fabricType": "ethernet"}});
    rig.ok(201, "POST", "/network-fabrics", fabric).await;
    let usual = path("set-interfaces-default-fabric");
    rig.no(400, "POST", &usual, json!({"serverInterfaceIds": [1, 9], "defaultFabricId": 1}), "has no interface 9")
        .await;
    rig.no(400, "POST", &usual, json!({"serverInterfaceIds": [1], "defaultFabricId": 9}), "defaultFabricId").await;
    rig.ok(204, "POST", &usual, json!({"serverInterfaceIds": [1, 2], "defaultFabricId": 1})).await;
    let pair = path("set-interfaces-redundancy-group");
    rig.no(400, "POST", &pair, json!({"serverInterfaceIds": [1], "redundancyGroupIndex": 99}), "redundancyGroupIndex")
        .await;
    rig.ok(204, "POST", &pair, json!({"serverInterfaceIds": [1, 2], "redundancyGroupIndex": 0})).await;
    let shown = rig.get(&format!("/servers/{id}")).await["interfaces"][1].clone();
    assert_eq!((&shown["defaultFabricId"], &shown["redundancyGroupIndex"]), (&json!(1), &json!(0)));
    rig.ok(204, "POST", &pair, json!({"serverInterfaceIds": [2], "redundancyGroupIndex": null})).await;
    assert!(rig.get(&format!("/servers/{id}")).await["interfaces"][1]["redundancyGroupIndex"].is_null());
    for action in ["connect-interface", "set-interfaces-default-fabric", "set-interfaces-redundancy-group"] {
        let body = match action {
            "connect-interface" => cable(1, "swp1", "leaf1"),
            "set-interfaces-default-fabric" => json!({"serverInterfaceIds": [1], "defaultFabricId": null}),
            _ => json!({"serverInterfaceIds": [1], "redundancyGroupIndex": null}),
        };
        rig.no(404, "POST", &format!("/servers/99/actions/{action}"), body, "server 99").await;
    }
}

async fn what_both_sides_tell_is_compared(db: Database) {
    let rig = rig(db).await;
    let id = rig.register("10.0.0.7").await["serverId"].as_i64().unwrap();
    let path = format!("/servers/{id}/server-type-suggestions");
    rig.no(409, "GET", &path, Value::Null, "nothing is known").await;
    rig.no(404, "GET", "/servers/99/server-type-suggestions", Value::Null, "server 99").await;
    let part = |serial: &str, memory: u64, disks: Value| {
        json!({
            "serial": "A1", "memory_mib": memory, "processors": [{"model": "Xeon", "cores": 32, "threads": 64, "mhz": 2600}, {"model": "Xeon", "cores": 32, "threads": 64, "mhz": 2600}],
            "disks": disks, "nics": [{"name": "eno1", "mac": serial, "speed_mbps": 25000}, {"name": "eno2", "mac": "52:54:00:00:00:09"}], "gpus": [],
        })
    };
    let disk = |serial: &str| json!({"name": "sda", "serial": serial, "size_gb": 480, "media": "ssd"});
    let bmc = part("52:54:00:00:00:01", 262_144, json!([disk("D1"), disk("D2")]));
    let mut both = bmc.clone();
    both["sources"] =
        json!({"bmc": bmc, "inBand": part("52:54:00:00:00:02", 257_000, json!([disk("D1"), disk("D3")]))});
    rig.server(id, |row| {
        row.inventory = Set(both);
        row.ram_gb = Set(256);
        row.processor_count = Set(2);
        row.core_count = Set(32);
        row.disk_count = Set(2);
    })
    .await;
    let shown = rig.get(&format!("/servers/{id}")).await["inventoryDifferences"].clone();
    let parts: Vec<&str> = shown.as_array().unwrap().iter().map(|d| d["part"].as_str().unwrap()).collect();
    assert_eq!(
        parts,
        ["diskSerialNumbers", "interfaces"],
        "what the firmware keeps of the memory is no difference: {shown}"
    );
    assert_eq!(shown[0], json!({"part": "diskSerialNumbers", "outOfBand": "D1, D2", "inBand": "D1, D3"}));
    rig.server_type().await;
    let mut near = json!({
        "ramGbytes": 512, "processorCount": 2, "processorCoreMhz": 2600, "processorCoreCount": 32, "name": "M.2x32.512", "label": "more", "networkInterfaceSpeeds": [25000, 25000],
        "processorNames": ["Xeon"], "diskCount": 2, "serverClass": "unknown",
    });
    rig.ok(201, "POST", "/server-types", near.clone()).await;
    near["name"] = json!("tiny");
    near["label"] = json!("tiny");
    for (field, value) in [("ramGbytes", 4), ("processorCount", 1), ("processorCoreCount", 2), ("diskCount", 0)] {
        near[field] = json!(value);
    }
    rig.ok(201, "POST", "/server-types", near).await;
    let found = rig.get(&path).await["data"].clone();
    let names: Vec<(&str, &str)> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|t| (t["label"].as_str().unwrap(), t["match"].as_str().unwrap()))
        .collect();
    assert_eq!(names, [("big", "exact"), ("more", "near")]);
    assert_eq!(found[1]["differences"], json!(["memory in GB: the server has 256, the type 512"]));
}

async fn unknown_machines_are_listed(db: Database) {
    let rig = rig(db).await;
    let mut row = entity::unknown_machine::new();
    row.site_id = Set(rig.site);
    row.mac = Set("52:54:00:aa:bb:cc".into());
    row.address = Set(Some("10.0.0.99".into()));
    row.kind = Set("host".into());
    row.last_seen_at = Set(store::time::now());
    row.insert(&rig.db.write).await.unwrap();
    let listed = rig.get("/servers/unknown-machines?filter.macAddress=52:54:00:aa:bb:cc").await;
    assert_eq!(
        (&listed["data"][0]["status"], &listed["data"][0]["address"]),
        (&json!("quarantined"), &json!("10.0.0.99"))
    );
    rig.ok(204, "DELETE", "/servers/unknown-machines/1", Value::Null).await;
    rig.no(404, "DELETE", "/servers/unknown-machines/1", Value::Null, "unknown machine").await;
    assert_eq!(entity::unknown_machine::Entity::find().all(&rig.db.read).await.unwrap().len(), 0);
    // Whatever is plugged in behind a port gets the address that the site has fixed for it.
    let map = json!({"serverPolicy": {"dhcpOption82ToIPMapping": {"leaf1:swp7": "10.9.0.7", "bad": "nonsense"}}});
    rig.ok(200, "PATCH", &format!("/sites/{}/config", rig.site), map).await;
    let Some(Fact::Settings(settings)) = rig.fact("settings/site").await else { panic!("no fact") };
    assert_eq!(
        settings.circuits.into_iter().map(|(k, v)| (k, v.to_string())).collect::<Vec<_>>(),
        [("leaf1:swp7".into(), "10.9.0.7".into())]
    );
}

/// Each on both databases.
mod on {
    macro_rules! both {
        ($($name:ident)*) => { $(#[tokio::test] async fn $name() { crate::testing::both(super::$name).await; })* };
    }
    both! {
        cleanup_policies
        many_servers_from_a_table
        a_range_is_scanned
        unmanaged_servers_are_imported
        servers_are_kept_back
        bmcs_get_passwords_of_their_own
        interfaces_as_a_person_knows_them
        what_both_sides_tell_is_compared
        unknown_machines_are_listed
    }
}
