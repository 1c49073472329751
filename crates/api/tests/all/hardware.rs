//! Servers, switches, fabrics, templates and what sites are told of them, through the router.

use crate::hardware_rig::rig;
use api::facts;
use model::{secret::Sealed, snapshot::Fact};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait, IntoActiveModel};
use serde_json::{Value, json};
use store::{Database, entity};

async fn a_server_comes_in(db: Database) {
    let rig = rig(db).await;
    let made = rig.register("10.0.0.7").await;
    let id = made["serverId"].as_i64().unwrap();
    assert!(made["jobInfo"]["jobGroupId"].as_i64().is_some(), "{made}");
    assert_eq!(rig.orders(), [["server.inventory", "server.discover"]]);
    let jobs = rig.get(&format!("/job-groups/{}/jobs", made["jobInfo"]["jobGroupId"])).await;
    let functions: Vec<&str> =
        jobs["data"].as_array().unwrap().iter().map(|j| j["functionName"].as_str().unwrap()).collect();
    assert_eq!(functions, ["server.inventory", "server.discover", "server.finish_registration"]);
    let server = rig.get(&format!("/servers/{id}")).await;
    assert_eq!(server["serverStatus"], "registering");
    assert_eq!(server["datacenterName"], "dc1");
    assert!(!server.to_string().contains("calvin"));
    // The site is told how to reach the BMC, with a password that it alone can open.
    let Some(Fact::Server(fact)) = rig.fact(&format!("server/{id}")).await else { panic!("no fact") };
    let bmc = fact.bmc.unwrap();
    assert_eq!((bmc.address.as_str(), bmc.username.as_str(), fact.in_use), ("10.0.0.7", "admin", false));
    assert_eq!(rig.sealer.for_site(rig.site).open(&bmc.password).unwrap().0, "calvin");
    // The same fact again is no new one.
    let before = rig.generation().await;
    facts::server(&rig.db.write, &rig.sealer, id).await.unwrap();
    assert_eq!(rig.generation().await, before);
    // Twice is refused, in any spelling.
    let again =
        |address: &str| json!({"siteId": rig.site, "managementAddress": address, "username": "a", "password": "b"});
    rig.no(409, "POST", "/servers", again(" 10.0.0.7:443 "), "managementAddress").await;
    rig.no(400, "POST", "/servers", again("not an address"), "managementAddress").await;
    rig.no(400, "POST", "/servers", json!({"siteId": 99, "managementAddress": "10.0.0.8"}), "siteId").await;
    rig.no(400, "POST", "/servers", json!({"siteId": rig.site}), "managementAddress").await;
    let half = json!({"siteId": rig.site, "managementAddress": "10.0.0.8", "username": "a"});
    rig.no(400, "POST", "/servers", half, "password").await;
    rig.no(400, "POST", "/servers", json!({"siteId": rig.site, "managementAddres": "x"}), "managementAddres:").await;
    rig.no(404, "GET", "/servers/99", Value::Null, "server 99").await;
    let events = rig.get("/events?filter.kind=server.register").await;
    assert_eq!(events["meta"]["totalItems"], 1, "{events}");
}

async fn a_server_waits_for_a_login(db: Database) {
    let rig = rig(db).await;
    let body = json!({"siteId": rig.site, "managementAddress": "10.0.0.9", "serialNumber": "ABC1"});
    let made = rig.ok(202, "POST", "/servers", body).await;
    let path = format!("/servers/{}", made["serverId"]);
    assert!(made["jobInfo"].is_null());
    assert!(rig.get(&path).await["serverStatusReason"].as_str().unwrap().contains("waiting for credentials"));
    assert!(rig.orders().is_empty());
    rig.no(409, "POST", &format!("{path}/actions/re-register"), Value::Null, "waiting for credentials").await;
    rig.no(409, "POST", &format!("{path}/actions/set-power"), json!({"powerCommand": "on"}), "login").await;
    // A login for another machine changes nothing; one for this machine sets it going.
    let login = |serial: &str| {
        json!({
            "siteId": rig.site, "serverSerialNumber": serial, "serverMacAddress": "", "defaultUsername": "root", "defaultPassword": "secret",
        })
    };
    rig.ok(201, "POST", "/servers/default-credentials", login("XYZ")).await;
    assert!(rig.orders().is_empty());
    let made = rig.ok(201, "POST", "/servers/default-credentials", login("abc1")).await;
    assert_eq!(rig.orders().len(), 1);
    assert!(rig.get(&path).await["serverStatusReason"].is_null());
    rig.no(409, "POST", "/servers/default-credentials", login("abc1"), "serverSerialNumber").await;
    let path = format!("/servers/default-credentials/{}", made["id"]);
    assert!(!rig.get(&path).await.to_string().contains("secret"));
    assert_eq!(rig.get(&format!("{path}/credentials")).await["defaultPassword"], "secret");
    rig.ok(200, "PATCH", &path, json!({"defaultPassword": "other"})).await;
    assert_eq!(rig.get(&format!("{path}/credentials")).await["defaultPassword"], "other");
    rig.ok(204, "DELETE", &path, Value::Null).await;
    rig.no(404, "GET", &path, Value::Null, "credentials").await;
}

async fn a_profile_decides_how_it_comes_in(db: Database) {
    let rig = rig(db).await;
    let settings = json!({"alwaysDiscoverInterfacesWithBDK": false, "minimumNumberOfConnectedInterfaces": 2});
    let body = json!({"name": "BMC only", "settings": settings});
    let made = rig.ok(201, "POST", "/servers/registration-profiles", body.clone()).await;
    rig.no(409, "POST", "/servers/registration-profiles", body, "name").await;
    let bad = json!({"name": "x", "settings": {"enableTpm": true}});
    rig.no(400, "POST", "/servers/registration-profiles", bad, "settings.enableTpm").await;
    let register = json!({
        "siteId": rig.site, "managementAddress": "10.0.0.7", "username": "a", "password": "b", "registrationProfileId": made["id"],
    });
    let server = rig.ok(202, "POST", "/servers", register).await;
    assert_eq!(rig.orders(), [["server.inventory"]]);
    let path = format!("/servers/registration-profiles/{}", made["id"]);
    rig.no(409, "DELETE", &path, Value::Null, "1 server").await;
    let of = format!("/servers/registration-profiles/search/for-server/{}", server["serverId"]);
    assert_eq!(rig.get(&of).await["name"], "BMC only");
    let update = json!({"settings": {"minimumNumberOfConnectedInterfaces": 1}});
    let after = rig.ok(200, "PATCH", &path, update).await;
    assert_eq!(after["settings"]["minimumNumberOfConnectedInterfaces"], 1);
    assert_eq!(after["settings"]["alwaysDiscoverInterfacesWithBDK"], false);
    assert_eq!(rig.get("/servers/registration-profiles/system-defaults").await["registerCredentials"], "user");
    let search = format!("/servers/registration-profiles/search?siteId={}", rig.site);
    assert_eq!(rig.get(&search).await["isDefault"], true);
}

async fn a_server_is_edited_and_goes(db: Database) {
    let rig = rig(db).await;
    let id = rig.register("10.0.0.7").await["serverId"].as_i64().unwrap();
    let path = format!("/servers/{id}");
    let answer = rig.call("GET", &path, Value::Null).await;
    assert_eq!(answer.etag.unwrap(), format!("\"{}\"", answer.body["revision"]));
    rig.no(409, "PATCH", &path, json!({"serverStatus": "used"}), "registering cannot become used").await;
    rig.no(409, "PATCH", &path, json!({"serverStatus": "available"}), "registering cannot become available").await;
    rig.server(id, |row| row.status = Set("unavailable".into())).await;
    rig.no(409, "PATCH", &path, json!({"serverStatus": "available"}), "without a server type").await;
    let kind = json!({
        "ramGbytes": 256, "processorCount": 2, "processorCoreMhz": 2600, "processorCoreCount": 32, "name": "M.2x32.256", "label": "big", "networkInterfaceSpeeds": [25000, 25000],
        "processorNames": ["Xeon"], "diskCount": 2, "serverClass": "unknown",
    });
    let kind = rig.ok(201, "POST", "/server-types", kind).await;
    let edit = json!({"serverTypeId": kind["id"], "serverStatus": "available", "rackName": "R1", "tags": ["a"], "inventoryId": "I-7"});
    let after = rig.ok(200, "PATCH", &path, edit).await;
    assert_eq!(
        (&after["serverStatus"], &after["rackName"], &after["inventoryId"]),
        (&json!("available"), &json!("R1"), &json!("I-7"))
    );
    let stale = rig.send(&rig.admin, "PATCH", &path, Some("\"1\""), Some(json!({"rackName": "R2"}))).await;
    assert_eq!(stale.status, 412);
    rig.no(400, "PATCH", &path, json!({"serverCleanupPolicyId": 4}), "serverCleanupPolicyId").await;
    rig.no(400, "PATCH", &path, json!({"serverTypeId": 99}), "serverTypeId").await;
    rig.register("10.0.0.8").await;
    rig.no(409, "PATCH", &path, json!({"managementAddress": "10.0.0.8"}), "managementAddress").await;
    rig.no(409, "DELETE", &format!("/server-types/{}", kind["id"]), Value::Null, "is used").await;
    // Lists.
    assert_eq!(rig.get("/servers?filter.serverStatus=available").await["meta"]["totalItems"], 1);
    assert_eq!(rig.get("/servers?filter.managementAddress=10.0.0.8").await["data"][0]["managementAddress"], "10.0.0.8");
    assert_eq!(rig.get("/servers?search=R1&sortBy=serialNumber:DESC").await["meta"]["totalItems"], 1);
    rig.no(400, "GET", "/servers?filter.bmcPassword=x", Value::Null, "not offered").await;
    assert_eq!(rig.get("/servers/statistics").await["serverStatus"]["available"], 1);
    // The login is shown to an administrator, and that is on record.
    let login = rig.get(&format!("{path}/credentials")).await;
    assert_eq!((&login["username"], &login["password"]), (&json!("admin"), &json!("calvin")));
    assert_eq!(rig.get("/events?filter.kind=server.credentials").await["meta"]["totalItems"], 1);
    let other = json!({"username": "root", "password": "new", "updateOnServer": false});
    rig.ok(200, "POST", &format!("{path}/actions/update-ipmi-credentials"), other).await;
    let Some(Fact::Server(fact)) = rig.fact(&format!("server/{id}")).await else { panic!("no fact") };
    let password: Sealed = fact.bmc.unwrap().password;
    assert_eq!(rig.sealer.for_site(rig.site).open(&password).unwrap().0, "new");
    // Another certificate is trusted by a person alone.
    rig.server(id, |row| {
        row.tls_fingerprint = Set(Some("aa".into()));
        row.extra = Set(json!({"shownFingerprint": "bb"}));
    })
    .await;
    assert_eq!(rig.get(&path).await["tlsFingerprintShown"], "bb");
    let trusted = rig.ok(200, "POST", &format!("{path}/actions/trust-certificate"), Value::Null).await;
    assert_eq!((&trusted["tlsFingerprint"], &trusted["tlsFingerprintShown"]), (&json!("bb"), &Value::Null));
    let Some(Fact::Server(fact)) = rig.fact(&format!("server/{id}")).await else { panic!("no fact") };
    assert_eq!(fact.bmc.unwrap().tls_fingerprint.as_deref(), Some("bb"));
    // A server in use stays.
    rig.server(id, |row| row.status = Set("used".into())).await;
    rig.no(409, "DELETE", &path, Value::Null, "cannot be deleted").await;
    rig.no(409, "POST", &format!("{path}/actions/archive"), Value::Null, "cannot be archived").await;
    let again = rig.ok(202, "POST", &format!("{path}/actions/re-register"), Value::Null).await;
    assert!(again["jobInfo"]["jobGroupId"].is_i64());
    assert_eq!(rig.get(&path).await["serverStatus"], "used_registering");
    assert_eq!(rig.orders().last().unwrap(), &["server.inventory"], "a server in use is never booted");
    let Some(Fact::Server(fact)) = rig.fact(&format!("server/{id}")).await else { panic!("no fact") };
    assert!(fact.in_use);
    rig.server(id, |row| row.status = Set("unavailable".into())).await;
    rig.ok(204, "POST", &format!("{path}/actions/archive"), Value::Null).await;
    assert!(rig.fact(&format!("server/{id}")).await.is_none());
    rig.register("10.0.0.7").await;
    rig.ok(204, "DELETE", &path, Value::Null).await;
    rig.no(404, "GET", &path, Value::Null, "server").await;
    rig.ok(204, "POST", "/server-types/actions/clean-unused", Value::Null).await;
    assert_eq!(rig.get("/server-types").await["meta"]["totalItems"], 0);
}

async fn power_is_ordered_from_the_site(db: Database) {
    let rig = rig(db).await;
    let id = rig.register("10.0.0.7").await["serverId"].as_i64().unwrap();
    let path = format!("/servers/{id}/actions");
    rig.no(409, "POST", &format!("{path}/set-power"), json!({"powerCommand": "on"}), "registering").await;
    rig.server(id, |row| row.status = Set("available".into())).await;
    rig.ok(204, "POST", &format!("{path}/set-power"), json!({"powerCommand": "soft"})).await;
    rig.no(400, "POST", &format!("{path}/set-power"), json!({"powerCommand": "explode"}), "powerCommand").await;
    rig.ok(204, "POST", &format!("{path}/identify-server"), Value::Null).await;
    let orders = rig.orders();
    assert_eq!(orders[1..], [["server.power"], ["server.identify"]]);
    let soft = rig.post.0.lock().unwrap()[1].1.jobs[0].spec.payload.clone();
    assert_eq!(
        (&soft["action"], &soft["graceful_seconds"], &soft["force_after"]),
        (&json!("graceful_off"), &json!(180), &json!(false))
    );
    rig.no(409, "POST", &format!("{path}/clean"), Value::Null, "only one that is cleaning_required").await;
    rig.server(id, |row| row.status = Set("cleaning_required".into())).await;
    rig.no(400, "PATCH", &format!("/servers/{id}"), json!({"serverStatus": "cleaning"}), "the action clean").await;
    rig.ok(202, "POST", &format!("{path}/clean"), Value::Null).await;
    assert_eq!(rig.orders().last().unwrap(), &["server.clean"]);
    assert_eq!(rig.get(&format!("/servers/{id}")).await["serverStatus"], "cleaning");
    rig.no(409, "POST", &format!("{path}/set-power"), json!({"powerCommand": "on"}), "cleaning").await;
    // Nobody can be asked: the last word counts.
    assert_eq!(rig.ok(200, "POST", &format!("{path}/get-power"), Value::Null).await, "unknown");
    rig.server(id, |row| {
        row.power = Set("on".into());
        row.power_at = Set(store::time::now());
    })
    .await;
    assert_eq!(rig.ok(200, "POST", &format!("{path}/get-power"), Value::Null).await, "on");
}

async fn switches_and_fabrics(db: Database) {
    let rig = rig(db).await;
    let leaf = rig.switch("leaf1", "10.0.1.1").await;
    assert_eq!((&leaf["status"], &leaf["id"]), (&json!("registering"), &json!("1")));
    assert!(!leaf.to_string().contains("Cumu1us!"));
    let Some(Fact::NetworkDevice(fact)) = rig.fact("network_device/1").await else { panic!("no fact") };
    assert_eq!((fact.name.as_str(), fact.endpoint.port), ("leaf1", Some(8765)));
    assert_eq!(rig.sealer.for_site(rig.site).open(&fact.endpoint.password).unwrap().0, "Cumu1us!");
    let mut body = json!({
        "siteId": rig.site, "identifierString": "leaf2", "driver": "junos", "position": "leaf", "managementAddress": "10.0.1.2", "username": "u", "managementPassword": "p",
    });
    rig.no(400, "POST", "/network-devices", body.clone(), "driver").await;
    body["driver"] = json!("cumulus_linux");
    body["identifierString"] = json!("leaf1");
    rig.no(409, "POST", "/network-devices", body.clone(), "identifierString").await;
    body["identifierString"] = json!("leaf2");
    body["quarantineVlan"] = json!(5000);
    rig.no(400, "POST", "/network-devices", body, "quarantineVlan").await;
    rig.switch("spine1", "10.0.1.3").await;
    // A port with a server behind it.
    let server = rig.register("10.0.0.7").await["serverId"].as_i64().unwrap();
    for (device, name, untagged) in [(1, "swp1", Some(100)), (2, "swp1", None)] {
        let mut row = entity::network_device_port::new();
        row.network_device_id = Set(device);
        row.name = Set(name.into());
        row.oper_up = Set(Some(true));
        row.speed_mbps = Set(Some(25000));
        row.untagged = Set(untagged);
        row.tagged = Set(json!([200, 300]));
        row.lldp = Set(Value::Null);
        row.observed_at = Set(store::time::now());
        row.insert(&rig.db.write).await.unwrap();
    }
    let mut row = entity::server_interface::new();
    row.server_id = Set(server);
    row.position = Set(0);
    row.name = Set("eno1".into());
    row.mac = Set("52:54:00:00:00:01".into());
    row.speed_mbps = Set(25000);
    row.network_device_id = Set(Some(1));
    row.network_device_port = Set(Some("swp1".into()));
    row.insert(&rig.db.write).await.unwrap();
    let ports = rig.get("/network-devices/1/ports").await;
    let port = &ports["data"][0];
    assert_eq!(port["serverId"], server);
    let expected = json!({"operStatus": "up", "speedMbps": 25000, "untaggedVlan": 100, "taggedVlans": [200, 300]});
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&port["driverDumpCachedJson"][name], value, "{name}");
    }
    assert_eq!(rig.get(&format!("/network-devices/1/ports/{}", port["interfaceId"])).await["interfaceName"], "swp1");
    let shown = rig.get(&format!("/servers/{server}")).await;
    assert_eq!(
        (&shown["interfaces"][0]["switchHostname"], &shown["interfaces"][0]["vlanId"]),
        (&json!("leaf1"), &json!(100))
    );
    rig.ok(200, "POST", "/network-devices/1/actions/set-port-status", json!({"ports": ["swp1"], "status": false}))
        .await;
    rig.no(
        400,
        "POST",
        "/network-devices/1/actions/set-port-status",
        json!({"ports": ["swp9"], "status": true}),
        "swp9",
    )
    .await;
    // Into a fabric, linked, and out of it.
    let fabric = json!({"name": "f1", "siteId": rig.site, "fabricConfiguration": {"fabricType": "ethernet"}});
    rig.ok(201, "POST", "/network-fabrics", fabric).await;
    rig.no(400, "POST", "/network-fabrics/1/network-devices", json!({"networkDeviceIds": [9]}), "no switch 9").await;
    for _ in 0..2 {
        rig.ok(201, "POST", "/network-fabrics/1/network-devices", json!({"networkDeviceIds": [1, "2"]})).await;
    }
    assert_eq!(rig.get("/network-fabrics/1/network-devices?limit=1000").await["meta"]["totalItems"], 2);
    let ids = [port["interfaceId"].as_i64().unwrap(), port["interfaceId"].as_i64().unwrap() + 1];
    let link =
        json!({"networkDeviceAInterfaceId": ids[1], "networkDeviceBInterfaceId": ids[0], "linkType": "point-to-point"});
    let made = rig.ok(201, "POST", "/network-fabrics/1/links", link.clone()).await;
    assert_eq!(made["networkDeviceAInterfaceId"], ids[0], "links go from the lower switch to the higher");
    rig.no(409, "POST", "/network-fabrics/1/links", link, "already").await;
    assert_eq!(rig.get("/network-fabrics/1/links").await["data"][0]["networkDeviceBPort"], "swp1");
    rig.no(409, "DELETE", "/network-devices/1", Value::Null, "fabric").await;
    rig.ok(202, "POST", "/network-fabrics/1/links/actions/rescan", Value::Null).await;
    assert_eq!(rig.orders().last().unwrap(), &["switch.discover", "switch.discover"]);
    rig.no(409, "DELETE", "/network-fabrics/1", Value::Null, "2 switch").await;
    // An instance holds the server: nothing pulls it, or its switch, from under it.
    let mut row = entity::server_instance::new();
    for (column, id) in [(&mut row.infrastructure_id, 1), (&mut row.group_id, 1), (&mut row.position, 1)] {
        *column = Set(id);
    }
    row.label = Set("web-1".into());
    row.service_status = Set("active".into());
    row.deploy_type = Set("create".into());
    row.deploy_status = Set("finished".into());
    row.server_id = Set(Some(server));
    row.addresses = Set(json!([]));
    row.network_config = Set(json!({"version": 2,
        "ethernets": {"nic0": {"match": {"macaddress": "52:54:00:00:00:01"}}, "nic1": {"match": {"macaddress": "52:54:00:00:00:02"}, "addresses": ["10.0.0.9/24"]}},
        "bonds": {"bond0": {"interfaces": ["nic0"], "addresses": ["172.24.0.5/24"]}}, "vlans": {"bond0.300": {"link": "bond0", "id": 300, "addresses": ["172.25.0.5/24"]}}}));
    row.deployed = Set(json!({}));
    row.extra = Set(json!({}));
    let instance = row.insert(&rig.db.write).await.unwrap();
    let shown = rig.get(&format!("/servers/{server}")).await;
    assert_eq!(shown["interfaces"][0]["ipv4Addresses"], json!(["172.24.0.5", "172.25.0.5"]));
    assert_eq!(shown["allocationInfo"]["instanceLabel"], "web-1");
    rig.no(409, "DELETE", "/network-fabrics/1/network-devices/1", Value::Null, "web-1").await;
    rig.no(409, "DELETE", &format!("/servers/{server}"), Value::Null, "web-1").await;
    entity::server_instance::Entity::delete_by_id(instance.id).exec(&rig.db.write).await.unwrap();
    rig.ok(204, "DELETE", &format!("/network-fabrics/1/links/{}", made["id"]), Value::Null).await;
    rig.ok(200, "DELETE", "/network-fabrics/1/network-devices/1", Value::Null).await;
    rig.no(404, "DELETE", "/network-fabrics/1/network-devices/1", Value::Null, "switch").await;
    let after = rig
        .ok(
            200,
            "PATCH",
            "/network-devices/1",
            json!({"managementAddress": "10.0.1.9", "managementPassword": "other", "asn": 65001}),
        )
        .await;
    assert_eq!((&after["managementAddress"], &after["asn"]), (&json!("10.0.1.9"), &json!(65001)));
    assert_eq!(rig.get("/network-devices/1/credentials").await["password"], "other");
    rig.ok(
        200,
        "POST",
        "/network-devices/1/actions/discover",
        json!({"discover": ["interfaces"], "persistData": true}),
    )
    .await;
    rig.ok(200, "POST", "/network-devices/1/actions/set-as-failed", Value::Null).await;
    rig.ok(204, "DELETE", "/network-devices/1", Value::Null).await;
    assert!(rig.fact("network_device/1").await.is_none());
    assert!(rig.get(&format!("/servers/{server}")).await["interfaces"][0]["switchHostname"].is_null());
    let defaults = json!({"datacenterName": "dc1", "managementMacAddress": "52-54-00-aa-bb-cc", "identifierString": "leaf7", "asn": 65007});
    rig.ok(201, "POST", "/network-devices/defaults", defaults).await;
    let body = json!({
        "datacenterName": "dc1", "driver": "cumulus_linux", "position": "leaf", "managementAddress": "10.0.1.7", "managementMAC": "52:54:00:aa:bb:cc", "username": "u",
        "managementPassword": "p",
    });
    let made = rig.ok(201, "POST", "/network-devices", body).await;
    assert_eq!((&made["identifierString"], &made["asn"]), (&json!("leaf7"), &json!(65007)));
    assert_eq!(rig.get(&format!("/network-devices/defaults/{}", rig.site)).await[0]["datacenterName"], "dc1");
}

async fn templates_and_their_files(db: Database) {
    let rig = rig(db).await;
    let template = |name: &str| {
        json!({
            "name": name, "device": {"type": "server", "bootMode": "uefi", "architecture": "x86_64"},
            "install": {"method": "copy", "driveType": "local_drive", "readyMethod": "wait_for_signal_from_os"}, "imageBuild": {"required": false},
            "os": {"name": "Debian", "version": "12", "credential": {"username": "debian", "passwordType": "plain", "password": "hidden"}},
            "visibility": "public",
        })
    };
    let made = rig.ok(201, "POST", "/os-templates", template("Debian 12")).await;
    assert_eq!((&made["label"], &made["status"]), (&json!("debian-12"), &json!("ready")));
    assert!(!made.to_string().contains("hidden"));
    assert_eq!(rig.get("/os-templates/1/credentials").await["password"], "hidden");
    rig.no(409, "POST", "/os-templates", template("Debian 12"), "label").await;
    let mut bad = template("x");
    bad["os"]["credential"]["username"] = json!("Not A User");
    rig.no(400, "POST", "/os-templates", bad, "os.credential.username").await;
    assert!(api::kinds::os_template::os_install(&rig.db.read, 1).await.unwrap_err().message.contains("no disk image"));
    let digest = crypto::token::digest(b"disk");
    let asset = |file: Value| json!({"templateId": 1, "usage": "source_image", "file": file});
    let file = |url: &str| json!({"name": "disk.qcow2", "mimeType": "application/octet-stream", "templatingEngine": false, "path": "/disk.qcow2", "url": url});
    rig.no(400, "POST", "/template-assets", asset(file("ftp://x/y")), "file.url").await;
    rig.no(400, "POST", "/template-assets", asset(file("http://images.example/d.qcow2")), "file.checksum").await;
    let mut whole = file("http://images.example/d.qcow2");
    whole["checksum"] = json!(format!("sha256:{digest}"));
    rig.no(400, "POST", "/template-assets", asset(whole.clone()), "file.size").await;
    whole["size"] = json!(4096);
    let image = rig.ok(201, "POST", "/template-assets", asset(whole)).await;
    assert_eq!((&image["file"]["format"], &image["file"]["checksum"]), (&json!("qcow2"), &json!(digest)));
    let text = json!({"templateId": 1, "usage": "generic", "file": {
        "name": "user-data", "mimeType": "text/plain", "templatingEngine": true, "path": "/user-data", "contentBase64": "I2Nsb3VkLWNvbmZpZwo=",
    }});
    let text = rig.ok(201, "POST", "/template-assets", text).await;
    let shown = rig.get(&format!("/template-assets/{}", text["id"])).await;
    assert_eq!(shown["file"]["contentBase64"], "I2Nsb3VkLWNvbmZpZwo=");
    let install = api::kinds::os_template::os_install(&rig.db.read, 1).await.unwrap();
    assert_eq!((install.image.size, install.user_data.as_deref()), (4096, Some("#cloud-config\n")));
    // Sites keep the image of an active template at hand.
    let key = format!("image/{digest}");
    assert!(rig.fact(&key).await.is_none());
    let mut active = template("Debian 12");
    active["status"] = json!("active");
    active["os"]["credential"].as_object_mut().unwrap().remove("password");
    rig.ok(200, "PUT", "/os-templates/1", active).await;
    assert_eq!(rig.get("/os-templates/1/credentials").await["password"], "hidden", "what is not sent stays");
    assert!(matches!(rig.fact(&key).await, Some(Fact::Image(i)) if i.size == 4096));
    assert_eq!(rig.get("/os-templates/1").await["templateAssetIDs"].as_array().unwrap().len(), 2);
    assert_eq!(rig.get("/template-assets?filter.templateId=1&filter.usage=generic").await["meta"]["totalItems"], 1);
    // Who is no administrator sees public ones and changes none of others.
    let user = json!({"displayName": "Eve", "email": "eve@example.com", "accessLevel": "user", "password": "long enough", "createWithAccount": true});
    rig.ok(201, "POST", "/users", user).await;
    let eve = rig.login("eve@example.com", "long enough").await;
    assert_eq!(rig.send(&eve, "GET", "/os-templates/1", None, None).await.status, 200);
    assert_eq!(rig.send(&eve, "DELETE", "/os-templates/1", None, None).await.status, 403);
    assert_eq!(rig.send(&eve, "GET", "/servers", None, None).await.status, 403);
    rig.ok(204, "DELETE", &format!("/template-assets/{}", image["id"]), Value::Null).await;
    assert!(rig.fact(&key).await.is_none());
    rig.ok(204, "DELETE", "/os-templates/1", Value::Null).await;
    assert_eq!(rig.get("/template-assets").await["meta"]["totalItems"], 0);
}

async fn sites_know_their_settings_and_pools(db: Database) {
    let rig = rig(db).await;
    rig.no(400, "PATCH", &format!("/sites/{}/config", rig.site), json!({"DNSServers": ["nonsense"]}), "DNSServers")
        .await;
    let config = json!({"DNSServers": ["10.0.0.53"], "NTPServers": ["ntp.example"]});
    rig.ok(200, "PATCH", &format!("/sites/{}/config", rig.site), config).await;
    let Some(Fact::Settings(settings)) = rig.fact("settings/site").await else { panic!("no fact") };
    assert_eq!((settings.dns_servers.len(), settings.ntp_servers.len()), (1, 1));
    let subnet = json!({
        "label": "oob", "networkAddress": "10.9.0.0", "prefixLength": 24, "isPool": true, "defaultGatewayAddress": "10.9.0.1", "tags": {"dhcp-site": rig.site.to_string()},
    });
    let made = rig.ok(201, "POST", "/subnets", subnet).await;
    let path = format!("/subnets/{}", made["id"]);
    let key = format!("dhcp_pool/{}", made["id"]);
    let Some(Fact::DhcpPool(pool)) = rig.fact(&key).await else { panic!("no fact") };
    assert_eq!(
        (pool.first.to_string(), pool.last.to_string(), pool.lease_seconds),
        ("10.9.0.2".into(), "10.9.0.254".into(), 600)
    );
    rig.no(400, "PATCH", &path, json!({"annotations": {"dhcp-first": "10.8.0.1"}}), "dhcp-first").await;
    let notes = json!({"annotations": {"dhcp-first": "10.9.0.100", "dhcp-last": "10.9.0.120", "dhcp-relays": "10.9.0.1, 10.9.0.2", "dhcp-lease-seconds": "900"}});
    rig.ok(200, "PATCH", &path, notes).await;
    let Some(Fact::DhcpPool(pool)) = rig.fact(&key).await else { panic!("no fact") };
    assert_eq!((pool.relays.len(), pool.lease_seconds, pool.first.to_string()), (2, 900, "10.9.0.100".into()));
    rig.no(400, "PATCH", &path, json!({"tags": {"dhcp-site": "99"}}), "dhcp-site").await;
    rig.ok(204, "DELETE", &path, Value::Null).await;
    assert!(rig.fact(&key).await.is_none());
}

async fn schedules_run_once_a_minute(db: Database) {
    let rig = rig(db).await;
    let body = |schedule: &str, function: &str| json!({"label": "Read switches", "functionName": function, "params": [], "schedule": schedule, "waitForCompletion": 0, "lifetimeSeconds": 60, "disabled": 0});
    rig.no(400, "POST", "/cron-jobs", body("61 * * * *", "archive_jobs"), "schedule").await;
    rig.no(400, "POST", "/cron-jobs", body("* * * * *", "nonsense"), "functionName").await;
    let made = rig.ok(201, "POST", "/cron-jobs", body("*/5 * * * *", "discover_network_devices")).await;
    rig.switch("leaf1", "10.0.1.1").await;
    let device = entity::network_device::Entity::find_by_id(1).one(&rig.db.read).await.unwrap().unwrap();
    let mut device = device.into_active_model();
    device.status = Set("active".into());
    device.update(&rig.db.write).await.unwrap();
    let before = rig.orders().len();
    for at in ["2026-01-05T03:05:01.000Z", "2026-01-05T03:05:40.000Z", "2026-01-05T03:06:00.000Z"] {
        api::schedule::due(&rig.app, store::time::parse(at).unwrap()).await.unwrap();
    }
    assert_eq!(rig.orders().len(), before + 1);
    let path = format!("/cron-jobs/{}", made["id"]);
    assert_eq!(rig.get(&path).await["lastRunTimestamp"], "2026-01-05T03:05:01.000Z");
    rig.ok(200, "PATCH", &path, json!({"disabled": 1})).await;
    api::schedule::due(&rig.app, store::time::parse("2026-01-05T03:10:00.000Z").unwrap()).await.unwrap();
    assert_eq!(rig.orders().len(), before + 1);
    rig.ok(204, "DELETE", &path, Value::Null).await;
    assert_eq!(rig.get("/cron-jobs/supported-functions").await[0]["name"], "archive_jobs");
    assert_eq!(rig.get("/jobs/archive").await["meta"]["totalItems"], 0);
}

/// Each on both databases.
mod on {
    macro_rules! both {
        ($($name:ident)*) => { $(#[tokio::test] async fn $name() { crate::testing::both(super::$name).await; })* };
    }
    both! {
        a_server_comes_in
        a_server_waits_for_a_login
        a_profile_decides_how_it_comes_in
        a_server_is_edited_and_goes
        power_is_ordered_from_the_site
        switches_and_fabrics
        templates_and_their_files
        sites_know_their_settings_and_pools
        schedules_run_once_a_minute
    }
}
