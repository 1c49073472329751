//! Servers, their types, profiles, policies and credentials, and pools of them.

use super::{Table, id};
use model::order::{Order, ServerScan};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use store::entity;

impl Table {
    /// A server's row as its life would have left it.
    pub async fn server(&self, id: i64, change: impl FnOnce(&mut entity::server::ActiveModel)) {
        let row = entity::server::Entity::find_by_id(id).one(&self.rig.db.read).await.unwrap().unwrap();
        let mut row = row.into_active_model();
        change(&mut row);
        row.update(&self.rig.db.write).await.unwrap();
    }
}

pub async fn run(t: &Table) {
    types(t).await;
    policies(t).await;
    credentials(t).await;
    register(t).await;
    bmc(t).await;
    life(t).await;
    pools(t).await;
}

fn kind(name: &str) -> Value {
    json!({
        "ramGbytes": 128, "processorCount": 2, "processorCoreMhz": 2600, "processorCoreCount": 32, "name": name, "label": "big", "networkInterfaceSpeeds": [25000],
        "processorNames": ["Xeon"], "diskCount": 2, "serverClass": "unknown",
    })
}

async fn types(t: &Table) {
    let made = t.write("createServerType", "/server-types", kind("M.8")).await;
    t.conflict("createServerType", "/server-types", kind("M.8"), "already").await;
    t.again("createServerType", "/server-types", kind("M.9")).await;
    let path = format!("/server-types/{}", id(&made));
    t.write("updateServerType", &path, json!({"label": "bigger", "name": "M.8"})).await;
    t.conflict("updateServerType", &path, json!({"label": "bigger", "name": "M.9"}), "already").await;
    t.write("getServerTypesStatisticsBatch", "/server-types/statistics", json!({"siteId": 1})).await;
    t.conflict("deleteServerType", "/server-types/1", Value::Null, "is used by").await;
    t.write("deleteServerType", &path, Value::Null).await;
    t.write("removeUnusedServerTypes", "/server-types/actions/clean-unused", Value::Null).await;
}

async fn policies(t: &Table) {
    let policy = |label: &str| {
        json!({
            "label": label, "cleanupDrivesForOobEnabledServer": 1, "recreateRaid": 0, "resetRaidControllers": 0, "disableEmbeddedNics": 0, "raidOneDrive": "RAID0",
            "raidTwoDrives": "RAID1", "raidEvenNumberMoreThanTwoDrives": "RAID10", "raidOddNumberMoreThanOneDrive": "RAID5", "skipRaidActions": [],
        })
    };
    let all = "/servers/cleanup-policies";
    let made = t.write("createServerCleanupPolicy", all, policy("plain")).await;
    t.conflict("createServerCleanupPolicy", all, policy("plain"), "already").await;
    let other = t.again("createServerCleanupPolicy", all, policy("other")).await;
    let path = format!("{all}/{}", id(&made));
    t.write("updateServerCleanupPolicy", &path, json!({"label": "simple"})).await;
    t.conflict("updateServerCleanupPolicy", &path, json!({"label": "other"}), "already").await;

    let profile = |name: &str| json!({"name": name, "settings": {"serverCleanupPolicyId": id(&made)}});
    let all = "/servers/registration-profiles";
    let first = t.write("createServerRegistrationProfile", all, profile("careful")).await;
    t.conflict("createServerRegistrationProfile", all, profile("careful"), "already").await;
    let second = t.again("createServerRegistrationProfile", all, profile("quick")).await;
    let of = |v: &Value| format!("{all}/{}", id(v));
    t.write("updateServerRegistrationProfile", &of(&first), json!({"name": "slow"})).await;
    t.conflict("updateServerRegistrationProfile", &of(&first), json!({"name": "quick"}), "already").await;
    t.conflict("deleteServerCleanupPolicy", &path, Value::Null, "is used by").await;
    t.write("deleteServerCleanupPolicy", &format!("/servers/cleanup-policies/{}", id(&other)), Value::Null).await;
    t.server(1, |s| s.registration_profile_id = Set(Some(id(&first)))).await;
    t.conflict("deleteServerRegistrationProfile", &of(&first), Value::Null, "is used by").await;
    t.server(1, |s| s.registration_profile_id = Set(None)).await;
    t.write("deleteServerRegistrationProfile", &of(&second), Value::Null).await;
}

async fn credentials(t: &Table) {
    let login = |serial: &str| json!({"siteId": 1, "serverSerialNumber": serial, "serverMacAddress": "", "defaultUsername": "root", "defaultPassword": "calvin"});
    let all = "/servers/default-credentials";
    let made = t.write("createServerDefaultCredentials", all, login("SN77")).await;
    t.conflict("createServerDefaultCredentials", all, login("SN77"), "are for serial number SN77 already").await;
    let path = format!("{all}/{}", id(&made));
    t.write("updateServerDefaultCredentials", &path, json!({"defaultUsername": "admin"})).await;
    let clear = t.get(&format!("{path}/credentials")).await;
    assert_eq!(clear, json!({"defaultUsername": "admin", "defaultPassword": "calvin"}));
    t.write("deleteServerDefaultCredentials", &path, Value::Null).await;
    t.again("createServerDefaultCredentials", all, login("SN78")).await;
}

async fn register(t: &Table) {
    let body =
        |address: &str| json!({"siteId": 1, "managementAddress": address, "username": "root", "password": "calvin"});
    t.write("registerServer", "/servers", body("10.1.0.1")).await;
    t.conflict("registerServer", "/servers", body("10.1.0.1"), "has the BMC 10.1.0.1 already").await;
    let csv = json!({"siteId": 1, "csv": "managementAddress,username,password\n10.1.0.2,root,x\n"});
    t.write("registerServersFromCsv", "/servers/actions/register-csv", csv).await;

    t.rig.ok(201, "POST", "/infrastructures", json!({"label": "taken-over", "siteId": 1})).await;
    let running = |address: &str| {
        let mut all = body(address);
        all["settings"] = json!({"infrastructureId": 1, "osTemplateId": 1});
        all
    };
    let path = "/servers/actions/register-production";
    t.write("registerProductionServer", path, running("10.1.0.3")).await;
    t.conflict("registerProductionServer", path, running("10.1.0.3"), "has the BMC").await;

    let range = json!({"siteId": 1, "firstAddress": "10.1.1.1", "lastAddress": "10.1.1.9"});
    let scan = t.write("scanServers", "/servers/actions/scan", range).await;
    let job = engine::entity::job::Entity::find()
        .filter(engine::entity::job::Column::Function.eq(ServerScan::NAME))
        .order_by_desc(engine::entity::job::Column::Id)
        .one(&t.rig.db.read)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(job.id, scan["jobId"].as_i64().unwrap());
    let found =
        json!({"address": "10.1.1.2", "vendor": "Dell", "product": "iDRAC", "uuid": "u", "tls_fingerprint": "ab"});
    let report = model::job::JobReport {
        job_id: job.id,
        sequence: job.sequence + 2,
        status: model::job::JobStatus::ReturnedSuccess,
        call_count: 1,
        retry_count: 0,
        percent: None,
        message: None,
        error: None,
        response: Some(json!({"found": [found], "asked": 9, "cut_short": false})),
        started_at: Some(store::time::now()),
        finished_at: Some(store::time::now()),
    };
    t.rig.engine.apply_report(&report).await.unwrap();
    let path = format!("/servers/scans/{}/actions/register", job.id);
    t.write("registerScannedServers", &path, json!({"username": "root", "password": "x"})).await;

    let mut row = entity::unknown_machine::new();
    row.site_id = Set(1);
    row.mac = Set("52:54:00:99:00:01".into());
    row.kind = Set("host".into());
    row.last_seen_at = Set(store::time::now());
    let machine = row.insert(&t.rig.db.write).await.unwrap().id;
    t.write("deleteUnknownMachine", &format!("/servers/unknown-machines/{machine}"), Value::Null).await;
    let mut row = entity::unknown_machine::new();
    row.site_id = Set(1);
    row.mac = Set("52:54:00:99:00:02".into());
    row.kind = Set("host".into());
    row.last_seen_at = Set(store::time::now());
    row.insert(&t.rig.db.write).await.unwrap();

    let unmanaged = |mac: &str, serial: &str| {
        json!({
            "siteId": 1, "serverTypeId": 1, "serverSerialNumber": serial, "hostname": "db.example", "managementAddress": "10.1.0.50", "serverIpmiUsername": "root",
            "serverIpmiPassword": "secret",
            "serverInterfaces": [{"serverInterfaceMacAddress": mac, "identifierString": "leaf1", "networkEquipmentInterfaceIdentifierString": "swp40"}],
        })
    };
    let path = "/servers/unmanaged/import";
    let made = t.write("importUnmanagedServer", path, unmanaged("52:54:00:98:00:01", "OLD1")).await;
    t.conflict("importUnmanagedServer", path, unmanaged("52:54:00:98:00:02", "OLD2"), "already").await;
    let mut bare = unmanaged("52:54:00:98:00:03", "OLD3");
    for field in ["managementAddress", "serverIpmiUsername", "serverIpmiPassword"] {
        bare.as_object_mut().unwrap().remove(field);
    }
    let bare = t.again("importUnmanagedServer", path, bare).await;
    let manage = |v: &Value| format!("/servers/{}/actions/manage", v["serverId"]);
    t.conflict("manageServer", &manage(&bare), json!({"serialNumber": "OLD3"}), "has no BMC").await;
    t.write("manageServer", &manage(&made), json!({"serialNumber": "OLD1"})).await;
}

/// What goes through the BMC of a free server. The second has none that we know.
async fn bmc(t: &Table) {
    t.server(2, |s| s.bmc_username = Set(None)).await;
    let path = |server: i64, action: &str| format!("/servers/{server}/{action}");
    for (op, action, body) in [
        ("resetServerBmc", "actions/reset-bmc", Value::Null),
        ("ejectServerVirtualMedia", "actions/eject-virtual-media", Value::Null),
        ("clearServerEventLog", "actions/clear-event-log", Value::Null),
        ("updateServerEnableSnmp", "actions/enable-snmp", Value::Null),
        ("enableServerSyslog", "actions/syslog-subscribe", json!({"target": "127.0.0.1:514"})),
        ("resetServerToFactoryDefaults", "actions/factory-reset", Value::Null),
        ("updateServerBios", "bios", json!({"attributes": {"NumLock": "Off"}})),
        ("updateServerBootOrder", "boot-order", json!({"order": ["Boot0001", "Boot0000"]})),
        ("changeServerRaid", "actions/change-raid", json!({"controllerId": "RAID.1", "deleteVolumeIds": ["v0"]})),
        ("updateServerPowerPolicy", "power-policy", json!({"afterPowerLoss": "start"})),
        ("identifyServer", "actions/identify-server", Value::Null),
        ("setServerPowerState", "actions/set-power", json!({"powerCommand": "on"})),
        ("rotateServerCredentials", "actions/rotate-credentials", Value::Null),
    ] {
        t.write(op, &path(1, action), body.clone()).await;
        t.conflict(op, &path(2, action), body, "is not known").await;
    }
    t.conflict("sendServerNmi", &path(1, "actions/send-nmi"), Value::Null, "is off").await;
    t.server(1, |s| s.power = Set("on".into())).await;
    t.write("sendServerNmi", &path(1, "actions/send-nmi"), Value::Null).await;
    t.server(1, |s| {
        s.power = Set("off".into());
        s.power_at = Set(store::time::now());
    })
    .await;
    t.write("getServerPowerStatus", &path(1, "actions/get-power"), Value::Null).await;

    t.conflict("updateServerFirmwareInfo", &path(2, "firmware/actions/update-info"), Value::Null, "is not known").await;
    t.refuses("createServerConsole", &path(1, "console"), json!({"kind": "serial"})).await;
    t.conflict("createServerConsole", &path(2, "console"), json!({"kind": "serial"}), "is not known").await;
    t.refuses("closeServerConsole", &path(1, "consoles/1"), Value::Null).await;

    let login = json!({"username": "root", "password": "calvin", "updateOnServer": false});
    let op = "updateServerIpmiCredentials";
    t.write(op, &path(2, "actions/update-ipmi-credentials"), login.clone()).await;
    let mut taken = login;
    taken["host"] = json!("127.0.0.1");
    t.conflict(op, &path(2, "actions/update-ipmi-credentials"), taken, "already").await;

    let trust = path(3, "actions/trust-certificate");
    t.server(3, |s| {
        s.tls_fingerprint = Set(Some("aa".repeat(32)));
        s.extra = Set(json!({"shownFingerprint": "bb".repeat(32)}));
    })
    .await;
    t.write("trustServerCertificate", &trust, Value::Null).await;
    assert_eq!(t.get("/servers/3").await["tlsFingerprint"], "bb".repeat(32));
}

async fn life(t: &Table) {
    for n in 4..=6 {
        t.rig.server(n).await;
    }
    let of_serial = async |serial: &str| {
        let found = entity::server::Entity::find().filter(entity::server::Column::Serial.eq(serial));
        found.one(&t.rig.db.read).await.unwrap().unwrap().id
    };
    let (a, b, c) = (of_serial("SN4").await, of_serial("SN5").await, of_serial("SN6").await);
    let path = |server: i64, action: &str| format!("/servers/{server}{action}");
    t.write("updateServer", &path(a, ""), json!({"serverComments": "a fan is loud", "tags": ["r1"]})).await;
    t.conflict("updateServer", &path(a, ""), json!({"serverStatus": "used"}), "cannot become used").await;
    t.write("setServerMaintenance", &path(a, "/actions/set-maintenance"), json!({"enabled": true, "reason": "fan"}))
        .await;
    t.write("reRegisterServer", &path(a, "/actions/re-register"), Value::Null).await;
    t.conflict("cleanServer", &path(b, "/actions/clean"), Value::Null, "only one that is cleaning_required").await;
    t.server(b, |s| s.status = Set("cleaning_required".into())).await;
    t.write("cleanServer", &path(b, "/actions/clean"), Value::Null).await;
    let mut row = entity::cleaning_certificate::new();
    row.server_id = Set(b);
    row.site_id = Set(1);
    row.server_name = Set("SN5".into());
    row.job_id = Set(1);
    row.finished_at = Set(store::time::now());
    row.succeeded = Set(true);
    row.method = Set("auto".into());
    row.disks = Set(json!([]));
    row.insert(&t.rig.db.write).await.unwrap();
    t.conflict("reRegisterServer", &path(b, "/actions/re-register"), Value::Null, "cannot be registered again").await;

    let first = entity::server_interface::Entity::find()
        .filter(entity::server_interface::Column::ServerId.eq(c))
        .order_by_asc(entity::server_interface::Column::Position)
        .one(&t.rig.db.read)
        .await
        .unwrap()
        .unwrap()
        .id;
    for port in ["swp41", "swp1"] {
        let mut row = entity::network_device_port::new();
        row.network_device_id = Set(1);
        row.name = Set(port.into());
        row.tagged = Set(json!([]));
        row.lldp = Set(Value::Null);
        row.observed_at = Set(store::time::now());
        row.insert(&t.rig.db.write).await.unwrap();
    }
    let cable =
        |port: &str| json!({"serverInterfaceId": first, "networkDevicePortId": port, "networkDeviceHostname": "leaf1"});
    t.write("connectServerInterface", &path(c, "/actions/connect-interface"), cable("swp41")).await;
    t.conflict("connectServerInterface", &path(c, "/actions/connect-interface"), cable("swp1"), "is cabled to").await;
    let body = json!({"serverInterfaceIds": [first], "defaultFabricId": 1});
    t.write("setServerInterfacesDefaultFabric", &path(c, "/actions/set-interfaces-default-fabric"), body).await;
    let body = json!({"serverInterfaceIds": [first], "redundancyGroupIndex": 1});
    t.write("setServerInterfacesRedundancyGroup", &path(c, "/actions/set-interfaces-redundancy-group"), body).await;

    t.server(b, |s| s.status = Set("decommissioned".into())).await;
    let body = json!({"enabled": true, "reason": "x"});
    t.conflict("setServerMaintenance", &path(b, "/actions/set-maintenance"), body, "out of service already").await;
    t.server(c, |s| s.status = Set("used".into())).await;
    for (op, action) in [("deleteServer", ""), ("archiveServer", "/actions/archive")] {
        t.conflict(op, &path(c, action), Value::Null, "used").await;
    }
    t.server(c, |s| s.status = Set("available".into())).await;
    t.write("archiveServer", &path(c, "/actions/archive"), Value::Null).await;
    t.write("deleteServer", &path(c, ""), Value::Null).await;
}

async fn pools(t: &Table) {
    let body = |label: &str| json!({"resourcePoolLabel": label, "resourcePoolDescription": "for training"});
    let made = t.write("createResourcePool", "/resource-pools", body("gpu")).await;
    t.conflict("createResourcePool", "/resource-pools", body("gpu"), "already").await;
    t.again("createResourcePool", "/resource-pools", body("cpu")).await;
    let pool = made["resourcePoolId"].as_i64().unwrap();
    let path = |what: &str| format!("/resource-pools/{pool}{what}");
    t.write("updateResourcePool", &path(""), json!({"resourcePoolDescription": "all of them"})).await;
    t.conflict("updateResourcePool", &path(""), json!({"resourcePoolLabel": "cpu"}), "already").await;
    t.write("addServerToResourcePool", &path("/server/3"), Value::Null).await;
    let user = format!("/resource-pools/user/1/pool/{pool}");
    t.write("addResourcePoolUser", &user, Value::Null).await;
    t.write("addSubnetPoolToResourcePool", &path("/subnet-pool/1"), Value::Null).await;
    let plain = json!({"label": "plain", "networkAddress": "10.99.0.0", "prefixLength": 24, "isPool": false});
    let plain = id(&t.rig.ok(201, "POST", "/subnets", plain).await);
    let no_pool = path(&format!("/subnet-pool/{plain}"));
    t.conflict("addSubnetPoolToResourcePool", &no_pool, Value::Null, "is no pool").await;
    t.conflict("deleteResourcePool", &path(""), Value::Null, "take them out first").await;
    t.write("removeServerFromResourcePool", &path("/server/3"), Value::Null).await;
    t.write("removeSubnetPoolFromResourcePool", &path("/subnet-pool/1"), Value::Null).await;
    t.write("removeResourcePoolUser", &user, Value::Null).await;
    t.write("deleteResourcePool", &path(""), Value::Null).await;
    let kept = t.again("createResourcePool", "/resource-pools", body("kept")).await["resourcePoolId"].clone();
    for what in ["server/3", "subnet-pool/1"] {
        t.rig.ok(201, "PUT", &format!("/resource-pools/{kept}/{what}"), Value::Null).await;
    }
    t.rig.ok(201, "POST", &format!("/resource-pools/user/1/pool/{kept}"), Value::Null).await;
}
