//! Storages, and drives, file shares and buckets on them.

use super::{Table, id};
use engine::entity::job;
use model::{
    job::{JobReport, JobStatus},
    storage::{StorageAccessEnsure, StorageBucketEnsure, StorageShareEnsure, StorageVolumeEnsure},
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait, IntoActiveModel};
use serde_json::{Value, json};
use store::entity;

const GIB: u64 = 1 << 30;

fn array(name: &str) -> Value {
    json!({
        "siteId": 1, "driver": "netapp", "technologies": ["block", "file", "object"], "type": "iscsi", "name": name, "managementHost": "10.1.0.1", "username": "admin",
        "password": "s3cret pass", "subnetType": "ipv4",
    })
}

/// What a storage would answer.
fn answer(job: &job::Model) -> Option<Value> {
    let payload = &job.payload;
    let portal = json!({"name": "e0c", "node": "n1", "protocol": "iscsi", "address": "10.9.0.1", "port": 3260});
    Some(match job.function.as_str() {
        "storage.volume_ensure" => {
            let o: StorageVolumeEnsure = serde_json::from_value(payload.clone()).unwrap();
            json!({"key": o.volume.key, "size_bytes": o.volume.size_bytes, "used_bytes": 3 << 20, "wwn": "600a0980"})
        }
        "storage.access_ensure" => {
            let o: StorageAccessEnsure = serde_json::from_value(payload.clone()).unwrap();
            let hosts: Vec<Value> = o.initiators.iter().map(|i| json!({"iqn": i.iqn, "lun": 4})).collect();
            json!({"key": o.key, "protocol": "iscsi", "target": "iqn.x", "portals": [portal], "hosts": hosts})
        }
        "storage.share_ensure" => {
            let o: StorageShareEnsure = serde_json::from_value(payload.clone()).unwrap();
            json!({"key": o.share.key, "size_bytes": o.share.size_bytes, "server": "10.9.0.2", "path": "/x", "mount_options": "vers=4.1"})
        }
        "storage.bucket_ensure" => {
            let o: StorageBucketEnsure = serde_json::from_value(payload.clone()).unwrap();
            json!({"key": o.bucket.key, "bucket": o.bucket.key, "endpoint": "https://s3.example.org:9021", "size_bytes": o.bucket.size_bytes})
        }
        _ => return None,
    })
}

async fn play(t: &Table, design: i64) {
    loop {
        let ready: Vec<job::Model> = t
            .rig
            .jobs_of(design)
            .await
            .into_iter()
            .filter(|j| j.site_id.is_some() && j.status == "not_called" && j.blocked_by == 0)
            .collect();
        if ready.is_empty() {
            return;
        }
        for job in ready {
            report(t, &job, answer(&job)).await;
        }
    }
}

async fn report(t: &Table, job: &job::Model, response: Option<Value>) {
    let report = JobReport {
        job_id: job.id,
        sequence: job.sequence + 2,
        status: JobStatus::ReturnedSuccess,
        call_count: 1,
        retry_count: 0,
        percent: None,
        message: None,
        error: None,
        response,
        started_at: Some(store::time::now()),
        finished_at: Some(store::time::now()),
    };
    t.rig.engine.apply_report(&report).await.unwrap();
}

async fn storages(t: &Table) -> i64 {
    let made = id(&t.write("createStorage", "/storages", array("array")).await);
    t.conflict("createStorage", "/storages", array("array"), "already").await;
    let other = id(&t.again("createStorage", "/storages", array("other")).await);
    let path = |n: i64, what: &str| format!("/storages/{n}{what}");
    t.write("updateStorage", &path(made, ""), json!({"tags": ["fast"]})).await;
    t.conflict("updateStorage", &path(made, ""), json!({"name": "other"}), "already").await;
    t.write("discoverStorage", &path(made, "/actions/discover"), Value::Null).await;
    let change = async |n: i64, change: &dyn Fn(&mut entity::storage::ActiveModel)| {
        let row = entity::storage::Entity::find_by_id(n).one(&t.rig.db.read).await.unwrap().unwrap();
        let mut row = row.into_active_model();
        change(&mut row);
        row.update(&t.rig.db.write).await.unwrap();
    };
    change(other, &|row| {
        row.tls_fingerprint = Set(Some("aa".repeat(32)));
        row.extra = Set(json!({"shownFingerprint": "bb".repeat(32)}));
    })
    .await;
    t.write("trustStorageCertificate", &path(other, "/actions/trust-certificate"), Value::Null).await;
    change(made, &|row| {
        row.status = Set("active".into());
        row.facts = Set(json!({
            "serial": "S1", "vendor": "NetApp", "model": "A250", "version": "9.14", "capacity": {"total_bytes": 1000 * GIB, "used_bytes": GIB},
            "technologies": ["block", "file", "object"], "features": {"snapshots": true, "share_snapshots": true},
            "portals": [{"name": "e0c", "node": "n1", "protocol": "iscsi", "address": "10.9.0.1", "port": 3260}],
        }));
    })
    .await;
    let mut row = entity::storage_interface::new();
    row.storage_id = Set(made);
    row.name = Set("e0c".into());
    row.node_ids = Set(json!(["n1"]));
    row.protocols = Set(json!(["iscsi"]));
    row.address = Set("10.9.0.1".into());
    row.port = Set(3260);
    row.is_uplink = Set(false);
    row.use_for_deploys = Set(true);
    let interface = row.insert(&t.rig.db.write).await.unwrap().id;
    t.write("updateStorageInterface", &path(made, &format!("/interfaces/{interface}")), json!({"useForDeploys": true}))
        .await;
    t.write("deleteStorage", &path(other, ""), Value::Null).await;
    made
}

pub async fn run(t: &Table) {
    let array = storages(t).await;
    for n in 31..=33 {
        t.rig.server(n).await;
    }
    let (design, group, _) = t.rig.design("store", 1).await;
    let base = format!("/infrastructures/{design}");
    let at = |what: &str| format!("{base}/{what}");

    let body = |label: &str| json!({"sizeMb": 1024, "label": label, "storagePoolId": array});
    let drive = id(&t.write("createDrive", &at("drives"), body("data")).await);
    t.conflict("createDrive", &at("drives"), body("data"), "already").await;
    let spare = id(&t.again("createDrive", &at("drives"), body("spare")).await);
    let of = |n: i64, what: &str| at(&format!("drives/{n}{what}"));
    t.write("patchDriveConfig", &of(drive, "/config"), json!({"sizeMb": 2048})).await;
    t.conflict("patchDriveConfig", &of(drive, "/config"), json!({"label": "spare"}), "already").await;
    t.write("patchDriveMeta", &of(drive, "/meta"), json!({"name": "data of the shop"})).await;
    let hosts =
        |add: &str| json!({"sharedDriveHostBulkOperations": [{"serverInstanceGroupId": group, "operationType": add}]});
    let bulk = of(drive, "/actions/modify-server-instance-group-hosts-bulk");
    t.write("updateDriveServerInstanceGroupHostsBulk", &bulk, hosts("add")).await;
    t.conflict("createDriveSnapshot", &of(drive, "/snapshots"), Value::Null, "not deployed").await;
    t.write("deleteDrive", &of(spare, ""), Value::Null).await;

    let body = |label: &str| json!({"driveSizeMbDefault": 1024, "serverInstanceGroupId": group, "label": label, "storagePoolId": array});
    let mine = id(&t.write("createDriveGroup", &at("drive-groups"), body("scratch")).await);
    t.conflict("createDriveGroup", &at("drive-groups"), body("scratch"), "already").await;
    let other = id(&t.again("createDriveGroup", &at("drive-groups"), body("other")).await);
    let of_group = |n: i64, what: &str| at(&format!("drive-groups/{n}{what}"));
    t.write("updateDriveGroup", &of_group(mine, "/config"), json!({"driveSizeMbDefault": 2048})).await;
    t.conflict("updateDriveGroup", &of_group(mine, "/config"), json!({"label": "other"}), "already").await;
    t.write("deleteDriveGroup", &of_group(other, ""), Value::Null).await;

    let body = |label: &str| json!({"sizeGB": 5, "label": label, "storagePoolId": array});
    let share = id(&t.write("createInfrastructureFileShare", &at("file-shares"), body("home")).await);
    t.conflict("createInfrastructureFileShare", &at("file-shares"), body("home"), "already").await;
    let other = id(&t.again("createInfrastructureFileShare", &at("file-shares"), body("other")).await);
    let of_share = |n: i64, what: &str| at(&format!("file-shares/{n}{what}"));
    t.write("updateFileShareConfig", &of_share(share, "/config"), json!({"sizeGB": 6})).await;
    t.conflict("updateFileShareConfig", &of_share(share, "/config"), json!({"label": "other"}), "already").await;
    t.write("patchFileShareMeta", &of_share(share, "/meta"), json!({"name": "home"})).await;
    let share_hosts =
        |add: &str| json!({"fileShareHostBulkOperations": [{"serverInstanceGroupId": group, "operationType": add}]});
    let share_bulk = of_share(share, "/actions/modify-instance-array-hosts-bulk");
    t.write("updateFileShareInstanceArrayHostsBulk", &share_bulk, share_hosts("add")).await;
    t.conflict("createFileShareSnapshot", &of_share(share, "/snapshots"), Value::Null, "not deployed").await;
    t.write("deleteFileShare", &of_share(other, ""), Value::Null).await;

    let bucket = id(&t.write("createInfrastructureBucket", &at("buckets"), body("backup")).await);
    t.conflict("createInfrastructureBucket", &at("buckets"), body("backup"), "already").await;
    let other = id(&t.again("createInfrastructureBucket", &at("buckets"), body("other")).await);
    let of_bucket = |n: i64, what: &str| at(&format!("buckets/{n}{what}"));
    t.write("updateBucket", &of_bucket(bucket, "/config"), json!({"sizeGB": 7})).await;
    t.conflict("updateBucket", &of_bucket(bucket, "/config"), json!({"label": "other"}), "already").await;
    t.write("updateBucketMeta", &of_bucket(bucket, "/meta"), json!({"name": "backup"})).await;
    t.write("deleteBucket", &of_bucket(other, ""), Value::Null).await;
    t.conflict("deleteStorage", &format!("/storages/{array}"), Value::Null, "is used").await;

    t.rig.ok(202, "POST", &at("actions/deploy"), crate::deploy_rig::Rig::options(false)).await;
    t.conflict("deleteDrive", &of(drive, ""), Value::Null, "locked").await;
    t.conflict("deleteDriveGroup", &of_group(mine, ""), Value::Null, "locked").await;
    t.conflict("deleteFileShare", &of_share(share, ""), Value::Null, "locked").await;
    t.conflict("deleteBucket", &of_bucket(bucket, ""), Value::Null, "locked").await;
    t.conflict("updateDriveServerInstanceGroupHostsBulk", &bulk, hosts("remove"), "locked").await;
    t.conflict("updateFileShareInstanceArrayHostsBulk", &share_bulk, share_hosts("remove"), "locked").await;
    play(t, design).await;
    t.rig.until_finished(design).await;

    snapshots(t, &of(drive, "/snapshots"), ["createDriveSnapshot", "restoreDriveToSnapshot", "deleteDriveSnapshot"])
        .await;
    let ops = ["createFileShareSnapshot", "restoreFileShareToSnapshot", "deleteFileShareSnapshot"];
    snapshots(t, &of_share(share, "/snapshots"), ops).await;
}

async fn snapshots(t: &Table, path: &str, [create, restore, delete]: [&str; 3]) {
    t.write(create, path, Value::Null).await;
    t.again(create, path, json!({"name": "before"})).await;
    let named = json!({"name": "before"});
    t.conflict(restore, &format!("{path}/restore"), named.clone(), "cannot be restored").await;
    // The site has taken it.
    let row = entity::storage_snapshot::Entity::find().all(&t.rig.db.read).await.unwrap();
    let row = row.into_iter().rfind(|s| s.name == "before").unwrap();
    let mut row = row.into_active_model();
    row.status = Set("ready".into());
    row.update(&t.rig.db.write).await.unwrap();
    t.write(restore, &format!("{path}/restore"), named.clone()).await;
    t.write(delete, path, named).await;
}
