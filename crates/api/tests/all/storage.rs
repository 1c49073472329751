//! Storages, drives, file shares, buckets and resource pools: registered, designed, deployed over a site that plays its part, and undone.

use crate::deploy_rig::Rig;
use engine::entity::job;
use model::{
    Id,
    job::{JobReport, JobStatus},
    secret::Sealed,
    storage::{StorageAccessEnsure, StorageBucketEnsure, StorageShareEnsure, StorageVolumeEnsure},
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use serde_json::{Value, json};
use store::entity;

const GIB: u64 = 1 << 30;

fn storage_body(name: &str, technologies: &[&str]) -> Value {
    json!({
        "siteId": 1, "driver": "netapp", "technologies": technologies, "type": "iscsi", "name": name, "managementHost": "10.1.0.1",
        "username": "admin", "password": "s3cret pass", "subnetType": "ipv4",
    })
}

/// A storage that has been read: this much room, all that a driver can do.
async fn storage(rig: &Rig, name: &str, gib: u64) -> Id {
    let made = rig.ok(201, "POST", "/storages", storage_body(name, &["block", "file", "object"])).await;
    let id = made["id"].as_i64().unwrap();
    let row = entity::storage::Entity::find_by_id(id).one(&rig.db.read).await.unwrap().unwrap();
    let mut row: entity::storage::ActiveModel = row.into();
    row.status = Set("active".into());
    row.facts = Set(json!({
        "serial": "S1", "vendor": "NetApp", "model": "A250", "version": "9.14", "capacity": {"total_bytes": gib * GIB, "used_bytes": GIB},
        "technologies": ["block", "file", "object"], "features": {"snapshots": true, "share_snapshots": false},
        "portals": [{"name": "e0c", "node": "n1", "protocol": "iscsi", "address": "10.9.0.1", "port": 3260}],
    }));
    row.update(&rig.db.write).await.unwrap();
    id
}

async fn post(rig: &Rig, id: Id, what: &str, body: Value) -> Value {
    rig.ok(201, "POST", &format!("/infrastructures/{id}/{what}"), body).await
}

/// Makes a group a host of an element, or not any more.
async fn host(rig: &Rig, id: Id, element: Id, operation: &str, group: Id) -> Value {
    let path = format!("/infrastructures/{id}/drives/{element}/actions/modify-server-instance-group-hosts-bulk");
    let body = json!({"sharedDriveHostBulkOperations": [{"serverInstanceGroupId": group, "operationType": operation}]});
    rig.ok(200, "POST", &path, body).await
}

/// What a storage would answer.
fn answer(job: &job::Model) -> Option<Value> {
    let payload = &job.payload;
    let iscsi = "iqn.1992-08.com.netapp:sn.1";
    let portal = json!({"name": "e0c", "node": "n1", "protocol": "iscsi", "address": "10.9.0.1", "port": 3260});
    Some(match job.function.as_str() {
        "storage.volume_ensure" => {
            let o: StorageVolumeEnsure = serde_json::from_value(payload.clone()).unwrap();
            json!({"key": o.volume.key, "size_bytes": o.volume.size_bytes, "used_bytes": 3 << 20, "wwn": "600a0980"})
        }
        "storage.snapshot_clone" => {
            let o: model::storage::StorageSnapshotClone = serde_json::from_value(payload.clone()).unwrap();
            json!({"key": o.volume.key, "size_bytes": o.volume.size_bytes, "wwn": "600a0980"})
        }
        "storage.access_ensure" => {
            let o: StorageAccessEnsure = serde_json::from_value(payload.clone()).unwrap();
            let hosts: Vec<Value> = o.initiators.iter().map(|i| json!({"iqn": i.iqn, "lun": 4})).collect();
            json!({"key": o.key, "protocol": "iscsi", "target": iscsi, "portals": [portal], "hosts": hosts})
        }
        "storage.share_ensure" => {
            let o: StorageShareEnsure = serde_json::from_value(payload.clone()).unwrap();
            json!({"key": o.share.key, "size_bytes": o.share.size_bytes, "server": "10.9.0.2", "path": format!("/x/{}", o.share.key), "mount_options": "vers=4.1"})
        }
        "storage.bucket_ensure" => {
            let o: StorageBucketEnsure = serde_json::from_value(payload.clone()).unwrap();
            json!({"key": o.bucket.key, "bucket": o.bucket.key, "endpoint": "https://s3.example.org:9021", "size_bytes": o.bucket.size_bytes})
        }
        _ => return None,
    })
}

/// The site does all of its jobs of the newest group that `does` picks, in their order.
async fn play(rig: &Rig, id: Id, does: impl Fn(&job::Model) -> bool) {
    loop {
        let jobs = rig.jobs_of(id).await.into_iter();
        let ready: Vec<job::Model> =
            jobs.filter(|j| j.site_id.is_some() && j.status == "not_called" && j.blocked_by == 0 && does(j)).collect();
        if ready.is_empty() {
            return;
        }
        for job in ready {
            report(rig, &job, JobStatus::ReturnedSuccess, answer(&job)).await;
        }
    }
}

async fn report(rig: &Rig, job: &job::Model, status: JobStatus, response: Option<Value>) {
    let report = JobReport {
        job_id: job.id,
        sequence: job.sequence + 2,
        status,
        call_count: 1,
        retry_count: 0,
        percent: None,
        message: None,
        error: None,
        response,
        started_at: Some(store::time::now()),
        finished_at: Some(store::time::now()),
    };
    rig.engine.apply_report(&report).await.unwrap();
}

async fn deploy(rig: &Rig, id: Id, loss: bool) -> Value {
    rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/deploy"), Rig::options(loss)).await;
    play(rig, id, |_| true).await;
    rig.until_finished(id).await
}

async fn order<T: serde::de::DeserializeOwned>(rig: &Rig, id: Id, key: &str) -> Option<T> {
    let jobs = rig.jobs_of(id).await;
    jobs.iter().find(|j| j.key == key).map(|j| serde_json::from_value(j.payload.clone()).unwrap())
}

async fn storages_are_registered_and_kept(rig: Rig) {
    let wrong = |field: &'static str, value: Value| {
        let mut body = storage_body("array", &["block"]);
        body[field] = value;
        (field, body)
    };
    for (field, body) in [
        wrong("driver", json!("floppy")),
        wrong("technologies", json!([])),
        wrong("technologies", json!(["tape"])),
        wrong("managementHost", json!("not a host!")),
        wrong("siteId", json!(9)),
        wrong("overcommitPercent", json!(0.5)),
        wrong("networkFabricId", json!(99)),
        wrong("password", Value::Null),
        wrong("iscsiPort", json!(70_000)),
    ] {
        let answer = rig.send(&rig.admin, "POST", "/storages", None, Some(body)).await;
        assert_eq!(answer.status, 400, "{field}: {}", answer.body);
        assert!(answer.body["message"].as_str().unwrap().contains(field), "{field}: {}", answer.body);
    }
    let made = rig.ok(201, "POST", "/storages", storage_body("array", &["file", "block"])).await;
    assert!(made["jobInfo"]["jobGroupId"].is_i64(), "{made}");
    rig.ok(409, "POST", "/storages", storage_body("array", &["block"])).await;
    let id = made["id"].as_i64().unwrap();
    let path = format!("/storages/{id}");
    let shown = rig.get(&path).await;
    assert_eq!((&shown["status"], &shown["technologies"]), (&json!("pending"), &json!(["block", "file"])), "{shown}");
    assert!(!shown.to_string().contains("s3cret"));
    // The site is told how to reach it, sealed for itself, and to read it.
    let books = std::mem::take(&mut *rig.post.books.lock().unwrap());
    assert_eq!(books[0].1.jobs[0].spec.function, "storage.discover");
    let item = entity::site_snapshot_item::Entity::find()
        .filter(entity::site_snapshot_item::Column::ItemKey.eq(format!("storage/{id}")))
        .one(&rig.db.read)
        .await
        .unwrap()
        .unwrap();
    let fact: model::snapshot::Fact = serde_json::from_value(item.value.clone()).unwrap();
    let model::snapshot::Fact::Storage(target) = fact else { panic!("{:?}", item.value) };
    assert_eq!(rig.sealer.for_site(1).open(&target.secret).unwrap().0, "s3cret pass");
    let events = format!("{:?}", entity::event::Entity::find().all(&rig.db.read).await.unwrap());
    assert!(!events.contains("s3cret") && events.contains("storage.register"));

    let list = rig.get("/storages?filter.siteId=1&filter.technologies=$eq:file").await;
    assert_eq!(list["data"][0]["id"], id, "{list}");
    assert_eq!(rig.get("/storages?filter.technologies=object").await["data"], json!([]));
    rig.ok(400, "GET", "/storages?filter.technologies=tape", Value::Null).await;
    rig.ok(404, "GET", "/storages/99", Value::Null).await;
    let stale = rig.send(&rig.admin, "PATCH", &path, Some(99), Some(json!({"inMaintenance": 1}))).await;
    assert_eq!(stale.status, 412);
    let body =
        json!({"inMaintenance": 1, "overcommitPercent": 150, "tags": ["fast"], "options": {"volumeName": "vol1"}});
    let after = rig.ok(200, "PATCH", &path, body).await;
    assert_eq!((&after["inMaintenance"], &after["overcommitPercent"]), (&json!(1), &json!(150)), "{after}");
    assert_eq!((&after["tags"], &after["options"]["volumeName"]), (&json!(["fast"]), &json!("vol1")));
    let login = rig.get(&format!("{path}/credentials")).await;
    assert_eq!((&login["username"], &login["password"]), (&json!("admin"), &json!("s3cret pass")));
    // A new login is tried.
    rig.ok(200, "PATCH", &path, json!({"password": "another"})).await;
    assert_eq!(rig.post.books.lock().unwrap().len(), 1);
    assert_eq!(rig.get(&format!("{path}/credentials")).await["password"], "another");
    assert!(rig.ok(202, "POST", &format!("{path}/actions/discover"), Value::Null).await["jobGroupId"].is_i64());
    for what in ["drives", "file-shares", "buckets", "interfaces"] {
        assert_eq!(rig.get(&format!("{path}/{what}")).await["data"], json!([]), "{what}");
    }
    assert_eq!(rig.get(&format!("{path}/statistics")).await["totalSpaceGB"], 0);
    let all = rig.get("/storages/statistics").await;
    assert_eq!((&all["pendingCount"], &all["types"]["netapp"]), (&json!(1), &json!(1)), "{all}");
    rig.ok(404, "GET", &format!("{path}/interfaces/7"), Value::Null).await;

    // Somebody who only designs sees what there is, and not how to get in.
    let ann = tenant(&rig, "ann").await.1;
    let seen = rig.send(&ann, "GET", &path, None, None).await;
    assert_eq!((seen.status.as_u16(), &seen.body["managementHost"]), (200, &json!("")), "{}", seen.body);
    assert!(seen.body["username"].is_null() && !seen.body.to_string().contains("10.1.0.1"));
    assert_eq!(rig.send(&ann, "GET", &format!("{path}/credentials"), None, None).await.status, 403);
    assert_eq!(rig.send(&ann, "DELETE", &path, None, None).await.status, 403);
    assert_eq!(rig.send(&rig.admin, "DELETE", &path, Some(99), None).await.status, 412);
    rig.ok(204, "DELETE", &path, Value::Null).await;
    rig.ok(404, "GET", &path, Value::Null).await;
}

/// A tenant: account and token.
async fn tenant(rig: &Rig, name: &str) -> (Id, String) {
    let account = rig.ok(201, "POST", "/accounts", json!({"name": name})).await["id"].as_i64().unwrap();
    api::seed::create_user(
        &rig.db.write,
        &format!("{name}@example.com"),
        name,
        "correct horse",
        account,
        "user",
        "user",
    )
    .await
    .unwrap();
    (account, rig.login(&format!("{name}@example.com"), "correct horse").await)
}

async fn elements_of_a_design(rig: Rig) {
    let (id, group, network) = rig.design("shop", 2).await;
    let array = storage(&rig, "array", 1000).await;
    let only_block = rig.ok(201, "POST", "/storages", storage_body("block", &["block"])).await["id"].as_i64().unwrap();
    let base = format!("/infrastructures/{id}");
    for (what, body, field) in [
        ("drives", json!({"sizeMb": 0}), "sizeMb"),
        ("drives", json!({"sizeMb": 1024, "storagePoolId": 99}), "storagePoolId"),
        ("drives", json!({"sizeMb": 1024, "logicalNetworkId": 99}), "logicalNetworkId"),
        ("drives", json!({"sizeMb": 1024, "label": "no label!"}), "label"),
        ("drives", json!({"sizeMb": 1024, "qoS": "fast"}), "qoS"),
        ("file-shares", json!({"sizeGB": 10, "storagePoolId": only_block}), "storagePoolId"),
        ("buckets", json!({"sizeGB": 1.5}), "sizeGB"),
        ("drive-groups", json!({"driveSizeMbDefault": 1024, "serverInstanceGroupId": 99}), "serverInstanceGroupId"),
    ] {
        let answer = rig.send(&rig.admin, "POST", &format!("{base}/{what}"), None, Some(body)).await;
        assert_eq!(answer.status, 400, "{what} {field}: {}", answer.body);
        assert!(answer.body["message"].as_str().unwrap().contains(field), "{}", answer.body);
    }
    let drive =
        post(&rig, id, "drives", json!({"sizeMb": 10_240, "label": "data", "storagePoolId": array, "qoS": "iops=500"}))
            .await;
    assert_eq!(
        (&drive["serviceStatus"], &drive["config"]["deployType"]),
        (&json!("ordered"), &json!("create")),
        "{drive}"
    );
    assert_eq!((&drive["sizeMb"], &drive["storagePoolId"]), (&json!(10_240), &json!(array)));
    let drive = drive["id"].as_i64().unwrap();
    rig.ok(409, "POST", &format!("{base}/drives"), json!({"sizeMb": 1, "label": "data", "storagePoolId": array})).await;
    // The same label is free for another kind.
    let share = post(&rig, id, "file-shares", json!({"sizeGB": 5, "label": "data", "storagePoolId": array})).await;
    let share = share["id"].as_i64().unwrap();
    let path = format!("{base}/drives/{drive}");
    assert_eq!(rig.get(&format!("/drives/{drive}")).await["label"], "data");
    rig.ok(404, "GET", &format!("/drives/{share}"), Value::Null).await;
    rig.ok(404, "GET", &format!("/file-shares/{drive}"), Value::Null).await;
    let hosts = host(&rig, id, drive, "add", group).await;
    assert_eq!(hosts["instanceGroup"]["willBeConnected"], json!([group]), "{hosts}");
    let path_hosts = format!("{path}/actions/modify-server-instance-group-hosts-bulk");
    let foreign = json!({"sharedDriveHostBulkOperations": [{"serverInstanceGroupId": 99, "operationType": "add"}]});
    rig.ok(400, "POST", &path_hosts, foreign).await;
    let stale = rig.send(&rig.admin, "PATCH", &format!("{path}/config"), Some(99), Some(json!({"sizeMb": 2048}))).await;
    assert_eq!(stale.status, 412);
    let after =
        rig.ok(200, "PATCH", &format!("{path}/config"), json!({"sizeMb": 2048, "logicalNetworkId": network})).await;
    assert_eq!((&after["config"]["sizeMb"], &after["config"]["logicalNetworkId"]), (&json!(2048), &json!(network)));
    assert_eq!(rig.get(&format!("{path}/config")).await["sizeMb"], 2048);
    rig.ok(200, "PATCH", &format!("{path}/meta"), json!({"name": "for the shop"})).await;
    let list = rig.get(&format!("{base}/drives?filter.label=data&filter.config.deployStatus=not_started")).await;
    assert_eq!(list["data"][0]["meta"]["name"], "for the shop", "{list}");
    // Nothing is deployed: nothing to take snapshots of.
    rig.ok(409, "POST", &format!("{path}/snapshots"), Value::Null).await;

    // Another tenant sees none of it.
    let ann = tenant(&rig, "ann").await.1;
    for path in [format!("/drives/{drive}"), format!("/file-shares/{share}"), format!("{base}/drives"), path.clone()] {
        assert_eq!(rig.send(&ann, "GET", &path, None, None).await.status, 404, "{path}");
    }
    assert_eq!(rig.send(&ann, "DELETE", &path, None, None).await.status, 404);
    let seen = rig.send(&ann, "GET", &format!("/storages/{array}/drives"), None, None).await;
    assert_eq!(seen.body["data"], json!([]), "{}", seen.body);

    // A storage that the design names cannot go.
    rig.ok(409, "DELETE", &format!("/storages/{array}"), Value::Null).await;
    // What was never deployed goes at once; a group that goes is nobody's host.
    let drives = json!({"driveSizeMbDefault": 1024, "serverInstanceGroupId": group});
    let mine = post(&rig, id, "drive-groups", drives).await;
    assert_eq!((&mine["serverInstanceGroupId"], &mine["label"]), (&json!(group), &json!("drives-3")), "{mine}");
    let of_group = rig.get(&format!("/server-instance-groups/{group}/drive-groups")).await;
    assert_eq!(of_group["data"][0]["id"], mine["id"]);
    let instance = rig.get(&format!("{base}/server-instances")).await["data"][0]["id"].as_i64().unwrap();
    let own = rig.get(&format!("/server-instances/{instance}/drives")).await;
    assert_eq!(
        (&own["data"][0]["sizeMb"], &own["data"][0]["serviceStatus"]),
        (&json!(1024), &json!("ordered")),
        "{own}"
    );
    rig.ok(204, "DELETE", &format!("/server-instance-groups/{group}"), Value::Null).await;
    assert_eq!(rig.get(&format!("{path}/hosts")).await["instanceGroup"]["willBeConnected"], json!([]));
    assert_eq!(rig.get(&format!("{base}/drive-groups")).await["data"], json!([]));
    rig.ok(204, "DELETE", &path, Value::Null).await;
    rig.ok(404, "GET", &path, Value::Null).await;
    // The infrastructure was never deployed: it goes with all that is left.
    rig.ok(204, "DELETE", &base, Value::Null).await;
    assert_eq!(entity::storage_element::Entity::find().count(&rig.db.read).await.unwrap(), 0);
}

async fn drives_shares_and_buckets_are_deployed_and_follow_their_groups(rig: Rig) {
    let (id, group, network) = rig.design("shop", 1).await;
    let array = storage(&rig, "array", 100).await;
    let base = format!("/infrastructures/{id}");
    let drive =
        post(&rig, id, "drives", json!({"sizeMb": 10_240, "label": "data", "storagePoolId": array})).await["id"]
            .as_i64()
            .unwrap();
    let own = json!({"driveSizeMbDefault": 1024, "serverInstanceGroupId": group, "label": "scratch"});
    post(&rig, id, "drive-groups", own).await;
    let share = post(&rig, id, "file-shares", json!({"sizeGB": 5, "label": "home", "logicalNetworkId": network})).await
        ["id"]
        .as_i64()
        .unwrap();
    let bucket = post(&rig, id, "buckets", json!({"sizeGB": 7, "label": "backup"})).await["id"].as_i64().unwrap();
    host(&rig, id, drive, "add", group).await;
    let body = json!({"fileShareHostBulkOperations": [{"serverInstanceGroupId": group, "operationType": "add"}]});
    let share_path = format!("{base}/file-shares/{share}");
    let hosts = rig.ok(200, "POST", &format!("{share_path}/actions/modify-instance-array-hosts-bulk"), body).await;
    assert_eq!(hosts["instanceGroup"]["willBeConnected"], json!([group.to_string()]));

    let plan = rig.plan(id, false).await;
    assert_eq!(plan["problems"], json!([]), "{plan:#}");
    assert_eq!(
        (&plan["impact"]["storage"]["made"], &plan["impact"]["storage"]["madeGib"]),
        (&json!(4), &json!(23)),
        "{plan}"
    );
    assert!(plan["changes"].as_array().unwrap().iter().any(|c| c["kind"] == "file_share" && c["op"] == "create"));
    assert!(plan["allocations"].as_array().unwrap().iter().any(|a| a["kind"] == "storage" && a["storageId"] == array));
    assert_eq!(rig.deploy_plan(id, &plan, false).await.status, 202);
    rig.ok(409, "PATCH", &format!("{base}/drives/{drive}/config"), json!({"sizeMb": 20_480})).await;
    assert_eq!(rig.get(&format!("/drives/{drive}")).await["config"]["deployStatus"], "ongoing");
    // Nobody else is promised this room meanwhile.
    assert_eq!(rig.get(&format!("/storages/{array}/statistics")).await["promisedSpaceGB"], 23);
    // The system is told of its drives; the bucket's key is sealed for the site.
    let install: Value = order(&rig, id, "install/instance-1").await.unwrap();
    assert_eq!(install["spec"]["storage"]["initiator_iqn"], "iqn.2026-01.io.steelyard:instance-1", "{install}");
    assert_eq!(install["spec"]["storage"]["targets"][0]["portals"][0]["address"], "10.9.0.1");
    assert_eq!(install["spec"]["storage"]["mounts"][0]["path"], "/mnt/home");
    let made: StorageBucketEnsure = order(&rig, id, &format!("bucket/bucket-{bucket}")).await.unwrap();
    let secret = rig.sealer.for_site(1).open(&made.bucket.secret_key).unwrap().0;
    let share_order: StorageShareEnsure = order(&rig, id, &format!("share/share-{share}")).await.unwrap();
    assert_eq!(share_order.share.clients.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.2"]);
    play(&rig, id, |_| true).await;
    rig.until_finished(id).await;

    let now = rig.get(&format!("/drives/{drive}")).await;
    assert_eq!(
        (&now["serviceStatus"], &now["config"]["deployStatus"]),
        (&json!("active"), &json!("finished")),
        "{now}"
    );
    assert_eq!((&now["wwn"], &now["storageRealSizeCachedMb"]), (&json!("600a0980"), &json!(3)));
    assert_eq!(now["discoverInformation"][0]["targetIqn"], "iqn.1992-08.com.netapp:sn.1", "{now}");
    assert_eq!(now["targets"][0]["hosts"][0], json!({"iqn": "iqn.2026-01.io.steelyard:instance-1", "lun": 4}));
    assert_eq!(rig.get(&format!("{base}/drives/{drive}/hosts")).await["instanceGroup"]["connected"], json!([group]));
    let drives = rig.get("/server-instances/1/drives").await;
    assert_eq!((&drives["data"][0]["serviceStatus"], &drives["data"][0]["sizeMb"]), (&json!("active"), &json!(1024)));
    let now = rig.get(&share_path).await;
    let mounting = &now["discoverInformation"]["mountingInformation"][0];
    assert_eq!(mounting["fullPath"], format!("10.9.0.2:/x/share-{share}"), "{now}");
    let now = rig.get(&format!("/buckets/{bucket}")).await;
    assert_eq!(now["discoverInformation"]["mountingInformation"][0]["port"], 9021, "{now}");
    let login = rig.get(&format!("{base}/buckets/{bucket}/credentials")).await;
    assert_eq!((&login["accessKeyId"], &login["secretKey"]), (&now["accessKeyId"], &json!(secret)), "{login}");
    let stored = format!("{:?}", entity::deploy_plan::Entity::find().all(&rig.db.read).await.unwrap())
        + &format!("{:?}", entity::event::Entity::find().all(&rig.db.read).await.unwrap())
        + &format!("{:?}", entity::storage_element::Entity::find().all(&rig.db.read).await.unwrap());
    assert!(!stored.contains(&secret));
    assert_eq!(rig.plan(id, false).await["changes"], json!([]));
    rig.ok(409, "DELETE", &format!("/storages/{array}"), Value::Null).await;
    assert_eq!(rig.get(&format!("/storages/{array}/drives")).await["meta"]["totalItems"], 1);

    // A grown group gains.
    rig.ok(200, "PATCH", &format!("/server-instance-groups/{group}/config"), json!({"instanceCount": 2})).await;
    deploy(&rig, id, false).await;
    let access: StorageAccessEnsure = order(&rig, id, &format!("access/drive-{drive}")).await.unwrap();
    assert_eq!(access.initiators.len(), 2);
    // The share is there already: its place is known before the site begins.
    let install: Value = order(&rig, id, "install/instance-2").await.unwrap();
    assert_eq!(install["spec"]["storage"]["mounts"][0]["source"], format!("10.9.0.2:/x/share-{share}"), "{install}");
    // A shrunk group loses, before its server is cleaned; what only it had is deleted.
    rig.ok(200, "PATCH", &format!("/server-instance-groups/{group}/config"), json!({"instanceCount": 1})).await;
    rig.ok(202, "POST", &format!("{base}/actions/deploy"), Rig::options(true)).await;
    play(&rig, id, |j| !j.function.starts_with("storage.")).await;
    let clean = rig.jobs_of(id).await.into_iter().find(|j| j.function == "server.clean").unwrap();
    assert!(clean.blocked_by > 0 && clean.status == "not_called", "{clean:?}");
    play(&rig, id, |_| true).await;
    rig.until_finished(id).await;
    let access: StorageAccessEnsure = order(&rig, id, &format!("access/drive-{drive}")).await.unwrap();
    assert_eq!(
        access.initiators.iter().map(|i| i.iqn.as_str()).collect::<Vec<_>>(),
        ["iqn.2026-01.io.steelyard:instance-1"]
    );
    assert!(rig.jobs_of(id).await.iter().any(|j| j.function == "storage.volume_delete"));

    // Sizes grow, and never shrink.
    let config = format!("{base}/drives/{drive}/config");
    let small = rig.send(&rig.admin, "PATCH", &config, None, Some(json!({"sizeMb": 1024}))).await;
    assert_eq!(
        (small.status.as_u16(), small.body["message"].as_str().unwrap().contains("shrink")),
        (400, true),
        "{}",
        small.body
    );
    rig.ok(200, "PATCH", &config, json!({"sizeMb": 20_480})).await;
    deploy(&rig, id, false).await;
    assert_eq!(rig.get(&format!("/drives/{drive}")).await["storageVirtualSizeCachedMb"], 20_480);
    // More than the storage has is refused in words.
    rig.ok(200, "PATCH", &config, json!({"sizeMb": 200 * 1024})).await;
    let plan = rig.plan(id, false).await;
    assert_eq!(plan["problems"][0]["code"], "storage_full", "{plan}");
    rig.ok(202, "POST", &format!("{base}/actions/revert"), Value::Null).await;
    assert_eq!(rig.get(&config).await["sizeMb"], 20_480);
    assert_eq!(rig.plan(id, false).await["changes"], json!([]));

    // Data are given up only when that is allowed.
    rig.ok(204, "DELETE", &format!("{base}/drives/{drive}"), Value::Null).await;
    assert_eq!(rig.get(&format!("/drives/{drive}")).await["config"]["deployType"], "delete");
    let plan = rig.plan(id, false).await;
    assert_eq!(plan["problems"][0]["code"], "data_loss_not_allowed", "{plan}");
    deploy(&rig, id, true).await;
    rig.ok(404, "GET", &format!("/drives/{drive}"), Value::Null).await;
    rig.ok(204, "DELETE", &base, Value::Null).await;
    deploy(&rig, id, true).await;
    assert_eq!(entity::storage_element::Entity::find().count(&rig.db.read).await.unwrap(), 0);
    assert_eq!(rig.get(&format!("/storages/{array}/statistics")).await["promisedSpaceGB"], 0);
    rig.ok(204, "DELETE", &format!("/storages/{array}"), Value::Null).await;
}

async fn a_cancelled_deploy_leaves_no_volume_behind(rig: Rig) {
    let (id, group, _) = rig.design("shop", 1).await;
    let array = storage(&rig, "array", 100).await;
    let base = format!("/infrastructures/{id}");
    let drive =
        post(&rig, id, "drives", json!({"sizeMb": 10_240, "label": "data", "storagePoolId": array})).await["id"]
            .as_i64()
            .unwrap();
    host(&rig, id, drive, "add", group).await;
    rig.ok(202, "POST", &format!("{base}/actions/deploy"), Rig::options(false)).await;
    play(&rig, id, |j| j.function == "storage.volume_ensure").await;
    rig.ok(202, "POST", &format!("{base}/actions/cancel-deploy"), Value::Null).await;
    // The volume may be there: the design alone does not make it go.
    assert_eq!(rig.get(&format!("/storages/{array}/statistics")).await["promisedSpaceGB"], 10);
    rig.ok(202, "POST", &format!("{base}/actions/revert"), Value::Null).await;
    assert_eq!(rig.get(&format!("/drives/{drive}")).await["config"]["deployType"], "delete");
    rig.ok(409, "DELETE", &format!("/storages/{array}"), Value::Null).await;
    let plan = rig.plan(id, true).await;
    let jobs: Vec<&str> = plan["jobs"].as_array().unwrap().iter().map(|j| j["function"].as_str().unwrap()).collect();
    assert!(jobs.contains(&"storage.access_ensure") && jobs.contains(&"storage.volume_delete"), "{jobs:?}");
    deploy(&rig, id, true).await;
    rig.ok(404, "GET", &format!("/drives/{drive}"), Value::Null).await;
    rig.ok(204, "DELETE", &format!("/storages/{array}"), Value::Null).await;
}

async fn snapshots_are_ordered_at_once(rig: Rig) {
    let (id, group, _) = rig.design("shop", 1).await;
    let array = storage(&rig, "array", 100).await;
    let base = format!("/infrastructures/{id}");
    let drive = post(&rig, id, "drives", json!({"sizeMb": 1024, "storagePoolId": array})).await["id"].as_i64().unwrap();
    let share =
        post(&rig, id, "file-shares", json!({"sizeGB": 1, "storagePoolId": array})).await["id"].as_i64().unwrap();
    host(&rig, id, drive, "add", group).await;
    deploy(&rig, id, false).await;
    let path = format!("{base}/drives/{drive}/snapshots");
    let made = rig.ok(200, "POST", &path, json!({"name": "before"})).await;
    assert_eq!((&made["name"], &made["status"]), (&json!("before"), &json!("creating")), "{made}");
    rig.ok(409, "POST", &path, json!({"name": "before"})).await;
    assert!(rig.ok(200, "POST", &path, Value::Null).await["name"].as_str().unwrap().starts_with('s'));
    assert_eq!(rig.get(&path).await.as_array().unwrap().len(), 2);
    // This storage takes none of shares.
    rig.ok(409, "POST", &format!("{base}/file-shares/{share}/snapshots"), Value::Null).await;
    rig.ok(409, "POST", &format!("{path}/restore"), json!({"name": "before"})).await;
    let row = entity::storage_snapshot::Entity::find_by_id(1).one(&rig.db.read).await.unwrap().unwrap();
    let mut row: entity::storage_snapshot::ActiveModel = row.into();
    row.status = Set("ready".into());
    row.update(&rig.db.write).await.unwrap();
    // Not under a server that runs.
    power(&rig, "on").await;
    let refused = rig.send(&rig.admin, "POST", &format!("{path}/restore"), None, Some(json!({"name": "before"}))).await;
    assert!(refused.body["message"].as_str().unwrap().contains("web-1"), "{}", refused.body);
    power(&rig, "off").await;
    rig.ok(204, "POST", &format!("{path}/restore"), json!({"name": "before"})).await;
    rig.ok(404, "POST", &format!("{path}/restore"), json!({"name": "after"})).await;
    rig.ok(400, "DELETE", &path, json!({})).await;
    rig.ok(204, "DELETE", &path, json!({"name": "before"})).await;
    let books = rig.post.books.lock().unwrap();
    let functions: Vec<&str> = books.iter().flat_map(|(_, b)| &b.jobs).map(|j| j.spec.function.as_str()).collect();
    for wanted in ["storage.snapshot_create", "storage.snapshot_restore", "storage.snapshot_delete"] {
        assert!(functions.contains(&wanted), "{functions:?}");
    }
}

async fn power(rig: &Rig, word: &str) {
    entity::server::Entity::update_many()
        .col_expr(entity::server::Column::Power, sea_orm::sea_query::Expr::val(word))
        .exec(&rig.db.write)
        .await
        .unwrap();
}

async fn resource_pools_keep_servers_for_their_users(rig: Rig) {
    rig.ok(400, "POST", "/resource-pools", json!({"resourcePoolLabel": "gpu"})).await;
    let body = json!({"resourcePoolLabel": "gpu", "resourcePoolDescription": "for training"});
    let made = rig.ok(201, "POST", "/resource-pools", body.clone()).await;
    rig.ok(409, "POST", "/resource-pools", body).await;
    let pool = made["resourcePoolId"].as_i64().unwrap();
    let path = format!("/resource-pools/{pool}");
    rig.ok(404, "GET", "/resource-pools/99", Value::Null).await;
    rig.ok(404, "PUT", &format!("{path}/server/99"), Value::Null).await;
    rig.ok(404, "PUT", "/resource-pools/99/server/1", Value::Null).await;
    for server in 1..=2 {
        rig.ok(201, "PUT", &format!("{path}/server/{server}"), Value::Null).await;
        rig.ok(201, "PUT", &format!("{path}/server/{server}"), Value::Null).await;
    }
    assert_eq!(rig.get(&format!("{path}/servers")).await, json!([1, 2]));
    let list = rig.get("/resource-pools?filter.resourcePoolLabel=gpu").await;
    assert_eq!(list["data"][0]["statistics"], json!({"users": 0, "servers": 2, "subnetPools": 0}), "{list}");
    let stale = rig.send(&rig.admin, "PUT", &path, Some(99), Some(json!({"resourcePoolDescription": "x"}))).await;
    assert_eq!(stale.status, 412);
    let after = rig.ok(200, "PUT", &path, json!({"resourcePoolDescription": "all of them"})).await;
    assert_eq!(after["resourcePoolDescription"], "all of them");
    rig.ok(409, "DELETE", &path, Value::Null).await;

    // Somebody who is not in it has one server to choose from; who is in it has all.
    let (id, group, _) = rig.design("shop", 2).await;
    let plan = rig.plan(id, false).await;
    assert_eq!(plan["problems"][0]["code"], "no_free_server", "{plan}");
    rig.ok(201, "POST", &format!("/resource-pools/user/1/pool/{pool}"), Value::Null).await;
    assert_eq!(rig.get("/resource-pools/user/1").await[0]["resourcePoolId"], pool);
    assert_eq!(rig.get(&format!("{path}/users")).await[0]["id"], 1);
    rig.ok(404, "POST", &format!("/resource-pools/user/99/pool/{pool}"), Value::Null).await;
    let config = format!("/server-instance-groups/{group}/config");
    rig.ok(400, "PATCH", &config, json!({"resourcePoolId": 99})).await;
    rig.ok(200, "PATCH", &config, json!({"resourcePoolId": pool})).await;
    let plan = rig.plan(id, false).await;
    let servers: Vec<i64> =
        plan["allocations"].as_array().unwrap().iter().filter_map(|a| a["serverId"].as_i64()).collect();
    assert_eq!(servers, [1, 2], "{plan}");
    rig.ok(200, "PATCH", &config, json!({"instanceCount": 3})).await;
    let plan = rig.plan(id, false).await;
    assert!(plan["problems"][0]["message"].as_str().unwrap().contains("in resource pool"), "{plan}");
    rig.ok(200, "PATCH", &config, json!({"instanceCount": 1})).await;
    deploy(&rig, id, false).await;
    // Who leaves the pool keeps what is deployed, and gets no more.
    rig.ok(204, "DELETE", &format!("/resource-pools/user/1/pool/{pool}"), Value::Null).await;
    rig.ok(404, "DELETE", &format!("/resource-pools/user/1/pool/{pool}"), Value::Null).await;
    assert_eq!(rig.plan(id, false).await["changes"], json!([]));
    rig.ok(200, "PATCH", &config, json!({"instanceCount": 2})).await;
    assert_eq!(rig.plan(id, false).await["problems"][0]["code"], "no_free_server");

    // Subnet pools likewise.
    rig.ok(200, "PATCH", &config, json!({"instanceCount": 1, "resourcePoolId": 0})).await;
    rig.ok(201, "PUT", &format!("{path}/subnet-pool/1"), Value::Null).await;
    assert_eq!(rig.get(&format!("{path}/subnet-pools")).await, json!([1]));
    assert_eq!(rig.plan(id, false).await["problems"], json!([]));
    let (other, _, _) = rig.design("blog", 0).await;
    let plan = rig.plan(other, false).await;
    assert_eq!(plan["problems"][0]["code"], "subnet_pool_exhausted", "{plan}");
    rig.ok(204, "DELETE", &format!("{path}/subnet-pool/1"), Value::Null).await;
    rig.ok(404, "DELETE", &format!("{path}/subnet-pool/1"), Value::Null).await;
    for server in 1..=2 {
        rig.ok(204, "DELETE", &format!("{path}/server/{server}"), Value::Null).await;
    }
    rig.ok(404, "DELETE", &format!("{path}/server/1"), Value::Null).await;
    rig.ok(204, "DELETE", &path, Value::Null).await;
}

/// A server with GPUs is ordered by its type, and given whole.
async fn gpu_nodes_are_given_whole(rig: Rig) {
    let gpu = json!({"vendor": "NVIDIA", "model": "H100", "memory_mib": 81_559, "pci": "0000:18:00.0"});
    let body = json!({
        "name": "G.8", "label": "g8", "ramGbytes": 2048, "processorCount": 2, "processorCoreCount": 56, "processorCoreMhz": 2000, "processorNames": ["Xeon"],
        "networkInterfaceSpeeds": [25000, 25000], "diskCount": 2, "gpuCount": 8, "gpuInfo": [{"vendor": "NVIDIA", "model": "H100"}], "serverClass": "unknown",
    });
    let kind = rig.send(&rig.admin, "POST", "/server-types", None, Some(body)).await;
    assert_eq!(kind.status, 201, "{}", kind.body);
    let kind = kind.body["id"].as_i64().unwrap();
    let row = entity::server::Entity::find_by_id(3).one(&rig.db.read).await.unwrap().unwrap();
    let mut inventory = row.inventory.clone();
    inventory["gpus"] = json!(vec![gpu; 8]);
    for (name, value) in [("memory_mib", json!(0)), ("processors", json!([])), ("nics", json!([]))] {
        inventory[name] = value;
    }
    inventory["disks"] = json!([]);
    let mut row: entity::server::ActiveModel = row.into();
    row.server_type_id = Set(Some(kind));
    row.gpu_count = Set(8);
    row.inventory = Set(inventory);
    row.update(&rig.db.write).await.unwrap();
    let shown = rig.get("/servers/3").await;
    assert_eq!((&shown["gpuCount"], &shown["gpuInfo"][7]["model"]), (&json!(8), &json!("H100")), "{shown}");
    assert_eq!(shown["gpuInfo"][0]["memoryMib"], 81_559);
    assert_eq!(rig.get(&format!("/server-types/{kind}")).await["gpuCount"], 8);

    let (id, group, _) = rig.design("train", 1).await;
    let config = format!("/server-instance-groups/{group}/config");
    rig.ok(200, "PATCH", &config, json!({"defaultServerTypeId": kind})).await;
    rig.deployed(id, false).await;
    assert_eq!(rig.server_status(3).await, "used");
    assert_eq!(rig.server_status(1).await, "available");
    let instance = &rig.get(&format!("/infrastructures/{id}/server-instances")).await["data"][0];
    assert_eq!(instance["serverId"], 3, "{instance}");
    // There is no half of it for anybody else.
    let (other, group, _) = rig.design("infer", 1).await;
    let config = format!("/server-instance-groups/{group}/config");
    rig.ok(200, "PATCH", &config, json!({"defaultServerTypeId": kind})).await;
    assert_eq!(rig.plan(other, false).await["problems"][0]["code"], "no_free_server");
}

async fn a_drive_is_made_from_another_one(rig: Rig) {
    let (id, group, _) = rig.design("shop", 1).await;
    let array = storage(&rig, "array", 100).await;
    let at = format!("/infrastructures/{id}/drives");
    let body = json!({"sizeMb": 10_240, "label": "data", "storagePoolId": 0});
    let drive = post(&rig, id, "drives", body).await["id"].as_i64().unwrap();
    host(&rig, id, drive, "add", group).await;
    let copy =
        |size: i64, source: i64| json!({"sizeMb": size, "label": "copy", "storagePoolId": 0, "sourceDriveId": source});
    rig.no(400, "POST", &at, copy(20_480, drive), "not deployed").await;
    deploy(&rig, id, false).await;
    rig.no(400, "POST", &at, copy(20_480, 99), "sourceDriveId").await;
    rig.no(400, "POST", &at, copy(1024, drive), "sizeMb").await;
    let mut named = copy(20_480, drive);
    named["sourceSnapshotName"] = json!("daily");
    rig.no(400, "POST", &at, named, "no snapshot daily").await;
    // Whoever does not see a drive cannot copy it.
    let ann = tenant(&rig, "ann").await.1;
    let hers = json!({"label": "hers", "siteId": 1});
    let hers = rig.send(&ann, "POST", "/infrastructures", None, Some(hers)).await.body["id"].as_i64().unwrap();
    let path = format!("/infrastructures/{hers}/drives");
    let taken = rig.send(&ann, "POST", &path, None, Some(copy(20_480, drive))).await;
    assert_eq!(taken.status, 400, "{}", taken.body);
    assert!(taken.body["message"].as_str().unwrap().contains("no drive"), "{}", taken.body);

    let made = post(&rig, id, "drives", copy(20_480, drive)).await["id"].as_i64().unwrap();
    rig.no(400, "PATCH", &format!("{at}/{made}/config"), json!({"sourceDriveId": drive}), "sourceDriveId").await;
    rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/deploy"), Rig::options(false)).await;
    let clone: model::storage::StorageSnapshotClone = order(&rig, id, &format!("volume/drive-{made}")).await.unwrap();
    assert_eq!((clone.storage_id, clone.key), (array, format!("drive-{drive}")));
    assert_eq!((clone.snapshot, clone.volume.size_bytes), (None, 20 * GIB));
    play(&rig, id, |_| true).await;
    rig.until_finished(id).await;
    assert_eq!(rig.plan(id, false).await["changes"], json!([]));
    assert_eq!(rig.get(&format!("/drives/{made}")).await["wwn"], "600a0980");
}

/// What the site is told of a server.
async fn told(rig: &Rig, server: Id) -> model::snapshot::SiteServer {
    let item = entity::site_snapshot_item::Entity::find()
        .filter(entity::site_snapshot_item::Column::ItemKey.eq(format!("server/{server}")))
        .one(&rig.db.read)
        .await
        .unwrap()
        .unwrap();
    let fact: model::snapshot::Fact = serde_json::from_value(item.value).unwrap();
    let model::snapshot::Fact::Server(server) = fact else { panic!("no server") };
    server
}

async fn a_group_boots_from_its_volumes(rig: Rig) {
    let (id, group, _) = rig.design("shop", 1).await;
    storage(&rig, "array", 100).await;
    let base = format!("/infrastructures/{id}");
    let drives = |boot: Value| json!({"driveSizeMbDefault": 20_480, "serverInstanceGroupId": group, "label": "system", "boot": boot});
    rig.no(400, "POST", &format!("{base}/drive-groups"), drives(json!("yes")), "boot").await;
    // One volume for all is nothing to boot from, and the interface does not know the word there.
    let shared = json!({"sizeMb": 1024, "boot": true});
    rig.no(400, "POST", &format!("{base}/drives"), shared, "boot").await;
    let mine = post(&rig, id, "drive-groups", drives(json!(false))).await;
    let (path, config) =
        (format!("{base}/drive-groups/{}", mine["id"]), format!("{base}/drive-groups/{}/config", mine["id"]));
    assert_eq!(mine["boot"], false, "{mine}");
    assert_eq!(rig.send(&rig.admin, "PATCH", &config, Some(99), Some(json!({"boot": true}))).await.status, 412);
    let ann = tenant(&rig, "ann").await.1;
    assert_eq!(rig.send(&ann, "PATCH", &config, None, Some(json!({"boot": true}))).await.status, 404);
    let after = rig.ok(200, "PATCH", &config, json!({"boot": true})).await;
    assert_eq!((&after["boot"], &after["config"]["boot"]), (&json!(true), &json!(true)), "{after}");
    let plan = rig.plan(id, false).await;
    assert_eq!(plan["problems"], json!([]), "{plan:#}");
    assert!(plan["warnings"].as_array().unwrap().iter().any(|w| w["code"] == "boot_from_san"), "{plan:#}");

    // Deployed: the array, the installation and the site's knowledge of the server have one login, each sealed for the site.
    rig.ok(202, "POST", &format!("{base}/actions/deploy"), Rig::options(false)).await;
    let key = format!("drive-{}-1", mine["id"]);
    let access: StorageAccessEnsure = order(&rig, id, &format!("access/{key}")).await.unwrap();
    let chap = access.initiators[0].chap.clone().unwrap();
    let open = |sealed: &Sealed| rig.sealer.for_site(1).open(sealed).unwrap().0;
    let secret = open(&chap.secret);
    assert_eq!((chap.username.as_str(), secret.len()), ("instance-1", 16));
    let install: Value = order(&rig, id, "install/instance-1").await.unwrap();
    let storage = &install["spec"]["storage"];
    assert_eq!(storage["targets"][0]["boot_volume"], key, "{install}");
    assert_eq!(open(&Sealed(storage["chap"]["secret"].as_str().unwrap().into())), secret);
    let jobs = rig.jobs_of(id).await;
    let waits = jobs.iter().find(|j| j.key == "install/instance-1").unwrap();
    assert!(waits.blocked_by > 0, "{waits:?}");
    let server = install["server_id"].as_i64().unwrap();
    let san = told(&rig, server).await.san.unwrap();
    assert_eq!((san.key.as_str(), san.access.is_none()), (key.as_str(), true));
    assert_eq!(open(&san.chap.unwrap().secret), secret);
    play(&rig, id, |_| true).await;
    rig.until_finished(id).await;
    // What the array told is kept for a site that loses its own store.
    let san = told(&rig, server).await.san.unwrap();
    assert_eq!(san.access.unwrap().hosts[0].lun, Some(4));
    assert_eq!(san.wwn.as_deref(), Some("600a0980"));
    assert_eq!(rig.plan(id, false).await["changes"], json!([]));
    let shown = rig.get("/server-instances/1").await.to_string()
        + &rig.get(&path).await.to_string()
        + &format!("{:?}", entity::event::Entity::find().all(&rig.db.read).await.unwrap())
        + &format!("{:?}", entity::server_instance::Entity::find().all(&rig.db.read).await.unwrap());
    assert!(!shown.contains(&secret), "nothing shows it");

    // A broken server: the volume goes to another one without loss of data, with a login that the old one does not know.
    let why = json!({"reason": "its fan is dead"});
    rig.ok(202, "POST", "/server-instances/1/actions/replace", why).await;
    let plan = rig.plan(id, false).await;
    assert_eq!(plan["problems"], json!([]), "{plan:#}");
    rig.ok(202, "POST", &format!("{base}/actions/deploy"), Rig::options(false)).await;
    let cut: StorageAccessEnsure = order(&rig, id, &format!("access-cut/{key}")).await.unwrap();
    assert!(cut.initiators.is_empty());
    let access: StorageAccessEnsure = order(&rig, id, &format!("access/{key}")).await.unwrap();
    assert_ne!(open(&access.initiators[0].chap.clone().unwrap().secret), secret);
    let install: Value = order(&rig, id, "install/instance-1").await.unwrap();
    assert_eq!(install["spec"]["storage"]["keep_system"], true, "{install}");
    let next = install["server_id"].as_i64().unwrap();
    assert_ne!(next, server);
    play(&rig, id, |_| true).await;
    rig.until_finished(id).await;
    assert!(told(&rig, server).await.san.is_none(), "the old one boots from nothing of ours");
    assert_eq!(told(&rig, next).await.san.unwrap().key, key);

    // To local disks and back is an installation, which loses data.
    rig.ok(200, "PATCH", &config, json!({"boot": false})).await;
    assert_eq!(rig.plan(id, false).await["problems"][0]["code"], "data_loss_not_allowed");
    deploy(&rig, id, true).await;
    assert!(told(&rig, next).await.san.is_none());
    rig.ok(204, "DELETE", &base, Value::Null).await;
    deploy(&rig, id, true).await;
    rig.ok(404, "GET", &path, Value::Null).await;
}

/// Secrets that this file makes are opened by nobody else.
async fn a_bucket_keeps_its_key(rig: Rig) {
    let (id, _, _) = rig.design("shop", 0).await;
    storage(&rig, "array", 100).await;
    let bucket = post(&rig, id, "buckets", json!({"sizeGB": 1})).await["id"].as_i64().unwrap();
    let path = format!("/infrastructures/{id}/buckets/{bucket}");
    assert!(rig.get(&format!("{path}/credentials")).await["secretKey"].is_null());
    deploy(&rig, id, false).await;
    let first = rig.get(&format!("{path}/credentials")).await;
    rig.ok(200, "PATCH", &format!("{path}/config"), json!({"sizeGB": 2})).await;
    deploy(&rig, id, false).await;
    assert_eq!(rig.get(&format!("{path}/credentials")).await, first);
    // A storage that makes keys of its own tells them, sealed.
    rig.ok(200, "PATCH", &format!("{path}/config"), json!({"sizeGB": 3})).await;
    rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/deploy"), Rig::options(false)).await;
    let job = rig.jobs_of(id).await.into_iter().find(|j| j.function == "storage.bucket_ensure").unwrap();
    let Sealed(sealed) = rig.sealer.for_site(1).seal(&model::secret::Clear("made there".into())).unwrap();
    let mut told = answer(&job).unwrap();
    told["access_key"] = json!("AKIA1");
    told["secret_key"] = json!(sealed);
    report(&rig, &job, JobStatus::ReturnedSuccess, Some(told)).await;
    rig.until_finished(id).await;
    let now = rig.get(&format!("{path}/credentials")).await;
    assert_eq!((&now["accessKeyId"], &now["secretKey"]), (&json!("AKIA1"), &json!("made there")));
    let row = entity::storage_element::Entity::find_by_id(bucket).one(&rig.db.read).await.unwrap().unwrap();
    assert!(!row.state.to_string().contains(&sealed));
}

macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        /// Each on SQLite and on PostgreSQL.
        mod on {
            $(#[tokio::test]
            async fn $name() {
                crate::testing::both(|db| async { super::$name(crate::deploy_rig::rig(db).await).await }).await;
            })*
        }
    };
}
on_both! {
    storages_are_registered_and_kept,
    elements_of_a_design,
    drives_shares_and_buckets_are_deployed_and_follow_their_groups,
    a_cancelled_deploy_leaves_no_volume_behind,
    snapshots_are_ordered_at_once,
    resource_pools_keep_servers_for_their_users,
    gpu_nodes_are_given_whole,
    a_bucket_keeps_its_key,
    a_group_boots_from_its_volumes,
    a_drive_is_made_from_another_one,
}
