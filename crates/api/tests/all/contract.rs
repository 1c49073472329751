//! The smaller kinds of the interface: what they keep, what they refuse, and who may see them.

use crate::deploy_rig::{Answer, Rig};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use store::entity;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPGuWOpdQmbk0bGqUYp6j8jAqU3ySOtWmPjNqkd3iJb ann@example.com";

async fn as_admin(rig: &Rig, method: &str, path: &str, body: Value) -> Answer {
    rig.send(&rig.admin, method, path, None, (!body.is_null()).then_some(body)).await
}

/// A write that is refused with 400 for the field.
async fn refused(rig: &Rig, method: &str, path: &str, body: Value, field: &str) {
    let answer = as_admin(rig, method, path, body.clone()).await;
    assert_eq!(answer.status, 400, "{method} {path} {body}: {}", answer.body);
    assert_eq!(answer.body["details"][0]["field"], field, "{method} {path} {body}: {}", answer.body);
}

async fn conflict(rig: &Rig, method: &str, path: &str, body: Value, words: &str) {
    let answer = as_admin(rig, method, path, body.clone()).await;
    assert_eq!(answer.status, 409, "{method} {path} {body}: {}", answer.body);
    assert!(answer.body["message"].as_str().unwrap().contains(words), "{}", answer.body);
}

/// A tenant, and what they log in with.
async fn tenant(rig: &Rig, name: &str) -> (i64, String) {
    let email = format!("{name}@example.com");
    let body = json!({"displayName": name, "email": email, "accessLevel": "user", "password": "long enough", "createWithAccount": true});
    let made = rig.ok(201, "POST", "/users", body).await;
    (made["id"].as_i64().unwrap(), rig.login(&email, "long enough").await)
}

/// Change at a revision that was, at the one that is, and of what is not there; then what is gone is 404.
async fn revisions(rig: &Rig, method: &str, collection: &str, id: &str, body: Value) {
    let path = format!("{collection}/{id}");
    let now = rig.get(&path).await["revision"].clone();
    let now = now.as_i64().or_else(|| now.as_str().and_then(|r| r.parse().ok())).unwrap();
    let stale = rig.send(&rig.admin, method, &path, Some(now + 7), Some(body.clone())).await;
    assert_eq!(stale.status, 412, "{path}: {}", stale.body);
    let good = rig.send(&rig.admin, method, &path, Some(now), Some(body.clone())).await;
    assert_eq!(good.status, 200, "{path}: {}", good.body);
    assert_eq!(rig.send(&rig.admin, "DELETE", &path, Some(now), None).await.status, 412, "{path}");
    let nowhere = as_admin(rig, method, &format!("{collection}/99"), body).await;
    assert_eq!(nowhere.status, 404, "{collection}: {}", nowhere.body);
    assert_eq!(as_admin(rig, "DELETE", &format!("{collection}/99"), Value::Null).await.status, 404);
    let gone = as_admin(rig, "DELETE", &path, Value::Null).await;
    assert!(gone.status.is_success(), "{path}: {}", gone.body);
    assert_eq!(as_admin(rig, "GET", &path, Value::Null).await.status, 404);
}

async fn secrets_and_variables_are_their_owners(rig: Rig) {
    let made = rig.ok(201, "POST", "/secrets", json!({"name": "db", "value": "hunter2", "usage": "OSAsset"})).await;
    assert!(made.get("value").is_none() && !made.to_string().contains("hunter2"), "{made}");
    conflict(&rig, "POST", "/secrets", json!({"name": "db", "value": "x"}), "already").await;
    refused(&rig, "POST", "/secrets", json!({"name": "a b", "value": "x"}), "name").await;
    refused(&rig, "POST", "/secrets", json!({"name": "empty", "value": ""}), "value").await;
    refused(&rig, "POST", "/secrets", json!({"name": "use", "value": "x", "usage": "Poetry"}), "usage").await;
    let row = entity::secret::Entity::find().one(&rig.db.read).await.unwrap().unwrap();
    assert_eq!(rig.sealer.open(&model::secret::Sealed(row.value)).unwrap().0, "hunter2");
    let (_, ann) = tenant(&rig, "ann").await;
    assert_eq!(rig.send(&ann, "GET", "/secrets/1", None, None).await.status, 404, "it is the administrator's");
    let own = rig.send(&ann, "POST", "/secrets", None, Some(json!({"name": "db", "value": "mine"}))).await;
    assert_eq!(own.status, 201, "{}", own.body);
    assert_eq!(rig.send(&ann, "GET", "/secrets", None, None).await.body["meta"]["totalItems"], 1);
    revisions(&rig, "PUT", "/secrets", "1", json!({"value": "hunter3"})).await;
    let events = entity::event::Entity::find().all(&rig.db.read).await.unwrap();
    assert!(!format!("{events:?}").contains("hunter"), "no event has the value");

    for (name, value) in [("list", json!([1, 2])), ("text", json!("plain")), ("map", json!({"a": {"b": 1}}))] {
        let made = rig.ok(201, "POST", "/variables", json!({"name": name, "value": value})).await;
        assert_eq!(made["value"], value);
    }
    refused(&rig, "POST", "/variables", json!({"name": "none"}), "value").await;
    conflict(&rig, "POST", "/variables", json!({"name": "map", "value": {}}), "already").await;
    assert_eq!(rig.send(&ann, "GET", "/variables/3", None, None).await.status, 404);
    assert_eq!(rig.get("/variables?filter.name=text").await["data"][0]["value"], "plain");
    revisions(&rig, "PUT", "/variables", "3", json!({"name": "map", "value": {"a": 2}})).await;
}

async fn zones_and_their_names(rig: Rig) {
    let zone = |name: &str| json!({"zoneName": name, "isDefault": true, "nameServers": ["ns1.example.com", "NS2.example.com."]});
    let made = rig.ok(201, "POST", "/dns-zones", zone("Example.com.")).await;
    assert_eq!(
        (&made["zoneName"], &made["soaEmail"], &made["ttl"], &made["status"]),
        (&json!("example.com"), &json!("admin.example.com"), &json!(3600), &json!("ready"))
    );
    assert_eq!(rig.get("/dns-zones/1/nameservers").await, json!(["ns1.example.com", "ns2.example.com"]));
    conflict(&rig, "POST", "/dns-zones", zone("example.com"), "already").await;
    refused(&rig, "POST", "/dns-zones", zone("no zone"), "zoneName").await;
    let mut body = zone("example.org");
    body["nameServers"] = json!([]);
    refused(&rig, "POST", "/dns-zones", body.clone(), "nameServers").await;
    body["nameServers"] = json!(["ns1"]);
    body["ttl"] = json!(-1);
    refused(&rig, "POST", "/dns-zones", body, "ttl").await;
    rig.ok(201, "POST", "/dns-zones", zone("example.net")).await;
    assert_eq!(rig.get("/dns-zones/1").await["isDefault"], false, "one default at most");

    let names = "/dns-zones/1/recordsets";
    let set = |name: &str, kind: &str, records: Value| json!({"name": name, "type": kind, "records": records});
    let www =
        rig.ok(201, "POST", names, set("www.example.com", "A", json!(["10.0.0.2", "10.0.0.1", "10.0.0.2"]))).await;
    assert_eq!((&www["name"], &www["records"]), (&json!("www"), &json!(["10.0.0.1", "10.0.0.2"])));
    for (body, field) in [
        (set("x", "A", json!(["fe80::1"])), "records[0]"),
        (set("x", "AAAA", json!(["10.0.0.1"])), "records[0]"),
        (set("x", "CNAME", json!(["a", "b"])), "records"),
        (set("x", "CNAME", json!([])), "records"),
        (set("x", "MX", json!(["a"])), "type"),
        (set("a b", "TXT", json!(["a"])), "name"),
        (set("@", "CNAME", json!(["a"])), "type"),
    ] {
        refused(&rig, "POST", names, body, field).await;
    }
    conflict(&rig, "POST", names, set("www", "A", json!(["10.0.0.9"])), "already").await;
    conflict(&rig, "POST", names, set("www", "CNAME", json!(["web.example.com"])), "stands alone").await;
    rig.ok(201, "POST", names, set("www", "AAAA", json!(["2001:db8::1"]))).await;
    let before = rig.get("/dns-zones/1").await["soaSerial"].as_i64().unwrap();
    let after = rig.ok(200, "PATCH", &format!("{names}/1"), json!({"records": ["10.0.0.3"], "ttl": 60})).await;
    assert_eq!((&after["records"], &after["ttl"]), (&json!(["10.0.0.3"]), &json!(60)));
    assert!(rig.get("/dns-zones/1").await["soaSerial"].as_i64().unwrap() > before, "secondaries see that it changed");
    conflict(&rig, "DELETE", "/dns-zones/1", Value::Null, "still has 2").await;
    assert_eq!(as_admin(&rig, "GET", "/dns-zones/2/recordsets/1", Value::Null).await.status, 404, "of the other zone");
    assert_eq!(rig.get("/dns-recordsets?filter.zoneName=example.com").await["meta"]["totalItems"], 2);
    rig.ok(204, "DELETE", &format!("{names}/2"), Value::Null).await;
    revisions(&rig, "PATCH", names, "1", json!({"ttl": 120})).await;
    revisions(&rig, "PATCH", "/dns-zones", "1", json!({"description": "ours"})).await;
}

/// Ports of the first leaf: a free one, one with a server behind it, and one of a link.
async fn ports(rig: &Rig) {
    for (device, name) in [(1, "swp9"), (1, "swp1"), (1, "swp51"), (2, "swp9")] {
        let mut row = entity::network_device_port::new();
        row.network_device_id = Set(device);
        row.name = Set(name.into());
        row.untagged = Set((name == "swp9").then_some(100));
        row.tagged = Set(json!([]));
        row.lldp = Set(Value::Null);
        row.observed_at = Set(store::time::now());
        row.insert(&rig.db.write).await.unwrap();
    }
}

async fn endpoints_take_free_ports(rig: Rig) {
    ports(&rig).await;
    let endpoint = |label: &str, port: i64| json!({"siteId": 1, "name": "A printer", "label": label, "endpointInterfaces": [{"networkDeviceInterfaceId": port, "macAddress": "52-54-00-AA-BB-CC"}]});
    let made = rig.ok(201, "POST", "/endpoints", endpoint("printer", 1)).await;
    assert_eq!((&made["id"], &made["revision"]), (&json!("1"), &json!("1")), "both are text here");
    let on = rig.get("/endpoints/1/interfaces").await;
    assert_eq!(
        (&on["data"][0]["networkDeviceInterfaceId"], &on["data"][0]["macAddress"]),
        (&json!(1), &json!("52:54:00:aa:bb:cc"))
    );
    conflict(&rig, "POST", "/endpoints", endpoint("printer", 4), "already").await;
    conflict(&rig, "POST", "/endpoints", endpoint("other", 1), "endpoint 1 on it").await;
    conflict(&rig, "POST", "/endpoints", endpoint("other", 2), "server 1 behind it").await;
    conflict(&rig, "POST", "/endpoints", endpoint("other", 3), "link 1 of a fabric").await;
    refused(&rig, "POST", "/endpoints", endpoint("other", 77), "endpointInterfaces[0].networkDeviceInterfaceId").await;
    refused(&rig, "POST", "/endpoints", endpoint("Upper", 4), "label").await;
    let many = json!({"endpoints": [endpoint("one", 4), endpoint("two", 4)]});
    conflict(&rig, "POST", "/endpoints/actions/bulk-create", many, "endpoints[1].").await;
    assert_eq!(rig.get("/endpoints").await["meta"]["totalItems"], 1, "all or none");
    let many = json!({"endpoints": [endpoint("one", 4), {"siteId": 1, "name": "Two", "label": "two"}]});
    rig.ok(201, "POST", "/endpoints/actions/bulk-create", many).await;
    let all = rig.get("/endpoints/network-devices/1/interfaces").await;
    assert_eq!((&all["data"][0]["endpointId"], &all["data"][1]["endpointId"]), (&json!(1), &Value::Null));
    // Ids of what was rolled back are not given again by every database.
    let id = async |label: &str| {
        rig.get(&format!("/endpoints?filter.label={label}")).await["data"][0]["id"].as_str().unwrap().to_owned()
    };
    let (one, two) = (format!("/endpoints/{}", id("one").await), format!("/endpoints/{}", id("two").await));
    let port = rig.get(&format!("{one}/interfaces")).await["data"][0]["id"].to_string();
    conflict(&rig, "PATCH", &two, json!({"label": "one"}), "already").await;
    conflict(&rig, "POST", &format!("{two}/interfaces"), json!({"networkDeviceInterfaceId": 3}), "link 1").await;
    let path = format!("{one}/interfaces/{port}");
    conflict(&rig, "PATCH", &path, json!({"networkDeviceInterfaceId": 1}), "endpoint 1").await;
    rig.ok(204, "DELETE", "/endpoints/1/interfaces/1", Value::Null).await;
    let moved = rig.ok(200, "PATCH", &path, json!({"networkDeviceInterfaceId": 1})).await;
    assert_eq!((&moved["networkDeviceInterfaceName"], &moved["revision"]), (&json!("swp9"), &json!("2")));
    let other = as_admin(&rig, "GET", &format!("{two}/interfaces/{port}"), Value::Null).await;
    assert_eq!(other.status, 404, "of another endpoint");
    revisions(&rig, "PATCH", "/endpoints", one.trim_start_matches("/endpoints/"), json!({"name": "Another"})).await;
    assert!(entity::endpoint_interface::Entity::find().one(&rig.db.read).await.unwrap().is_none());
}

async fn texts_and_secrets_of_switches(rig: Rig) {
    let secrets = "/network-devices/default-secrets";
    let body = json!({"siteId": 1, "macAddressOrSerialNumber": "52-54-00-AA-BB-CC", "secretName": "snmp", "secretValue": "public"});
    let made = rig.ok(201, "POST", secrets, body.clone()).await;
    assert_eq!(made["macAddressOrSerialNumber"], "52:54:00:aa:bb:cc");
    assert!(!made.to_string().contains("public"), "{made}");
    conflict(&rig, "POST", secrets, body.clone(), "already").await;
    let mut other = body;
    other["siteId"] = json!(9);
    refused(&rig, "POST", secrets, other, "siteId").await;
    assert_eq!(rig.get(&format!("{secrets}/1/credentials")).await, json!({"secretValue": "public"}));
    let events = entity::event::Entity::find().filter(entity::event::Column::Severity.eq("security"));
    assert_eq!(events.all(&rig.db.read).await.unwrap().len(), 1, "that it was looked at is on record");
    revisions(&rig, "PATCH", secrets, "1", json!({"secretValue": "private"})).await;

    let lag = json!({"action": "create", "aggregationType": "mlag", "networkDeviceDriver": "cumulus_linux", "executionType": "cli", "libraryLabel": "stock", "configuration": "nv set"});
    let mut bgp = json!({"action": "add-neighbor", "networkType": "underlay", "networkDevicePosition": "leaf", "remoteNetworkDevicePosition": "spine", "bgpNumbering": "unnumbered", "bgpLinkConfiguration": "active"});
    for name in ["networkDeviceDriver", "executionType", "libraryLabel", "configuration"] {
        bgp[name] = lag[name].clone();
    }
    for (collection, body, other) in [
        ("/network-device-bgp-configuration-templates", bgp, json!({"bgpNumbering": "numbered"})),
        ("/network-device-link-aggregation-configuration-templates", lag, json!({"aggregationType": "lag"})),
    ] {
        let made = rig.ok(201, "POST", collection, body.clone()).await;
        let id = made["id"].to_string();
        for (field, value) in body.as_object().unwrap() {
            assert_eq!(&made[field], value);
        }
        conflict(&rig, "POST", collection, body.clone(), "change that one").await;
        let mut bad = body.clone();
        bad["action"] = json!("dance");
        refused(&rig, "POST", collection, bad, "action").await;
        let mut bad = body.clone();
        bad["configuration"] = json!("  ");
        refused(&rig, "POST", collection, bad, "configuration").await;
        let mut second = body.clone();
        second.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
        rig.ok(201, "POST", collection, second).await;
        conflict(&rig, "PATCH", &format!("{collection}/{id}"), other, "change that one").await;
        assert_eq!(
            rig.get(&format!("{collection}?filter.action={}", body["action"].as_str().unwrap())).await["meta"]["totalItems"],
            2
        );
        revisions(&rig, "PATCH", collection, &id, json!({"configuration": "nv unset"})).await;
    }
    let other = as_admin(&rig, "GET", "/network-device-bgp-configuration-templates/4", Value::Null).await;
    assert_eq!(other.status, 404, "it is of the other family");
}

async fn newest_jobs(rig: &Rig) -> Vec<engine::entity::job::Model> {
    use engine::entity::{job, job_group};
    let group =
        job_group::Entity::find().order_by_desc(job_group::Column::Id).one(&rig.db.read).await.unwrap().unwrap();
    let jobs = job::Entity::find().filter(job::Column::GroupId.eq(group.id)).order_by_asc(job::Column::Id);
    jobs.all(&rig.db.read).await.unwrap()
}

async fn a_switch_is_reset_and_a_fabric_deployed(rig: Rig) {
    ports(&rig).await;
    rig.ok(204, "POST", "/network-devices/1/actions/reset", Value::Null).await;
    let jobs = newest_jobs(&rig).await;
    assert_eq!(jobs.iter().map(|j| j.function.as_str()).collect::<Vec<_>>(), ["switch.apply", "switch.discover"]);
    assert_eq!(
        jobs[0].payload["patch"]["ports"],
        json!({"swp9": {"vlans": {"untagged": null, "tagged": []}, "mtu": null, "admin_up": null, "description": null}})
    );
    assert_eq!(as_admin(&rig, "POST", "/network-devices/9/actions/reset", Value::Null).await.status, 404);
    conflict(&rig, "POST", "/network-devices/1/actions/syslog-subscribe", Value::Null, "no syslog yet").await;
    let (id, _, _) = rig.design("shop", 1).await;
    rig.deployed(id, false).await;
    conflict(&rig, "POST", "/network-devices/1/actions/reset", Value::Null, "in use").await;

    let deploy = "/network-fabrics/1/actions/deploy";
    conflict(&rig, "POST", deploy, json!({"requireConfirmation": false}), "activate").await;
    rig.ok(200, "POST", "/network-fabrics/1/actions/activate", Value::Null).await;
    refused(&rig, "POST", deploy, json!({}), "requireConfirmation").await;
    let info = rig.ok(202, "POST", deploy, json!({"requireConfirmation": true})).await;
    assert_eq!(rig.get("/network-fabrics/1").await["deployId"], info["jobGroupId"]);
    let jobs = newest_jobs(&rig).await;
    let waits = |jobs: &[engine::entity::job::Model]| jobs.iter().filter(|j| j.requires_confirmation).count();
    assert_eq!((jobs.len(), waits(&jobs)), (6, 3), "three switches, each configured and read");
    let port = jobs[0].payload["patch"]["ports"]["swp51"].clone();
    assert_eq!((&port["mtu"], &port["description"]), (&json!(9216), &json!("to spine1 swp1")), "{port}");
    conflict(&rig, "POST", deploy, json!({"requireConfirmation": false}), "waits for the confirmation").await;
    rig.ok(202, "POST", "/network-fabrics/1/actions/accept-deploy", Value::Null).await;
    let told =
        |what: &str| rig.post.commands.lock().unwrap().iter().filter(|c| format!("{c:?}").starts_with(what)).count();
    assert_eq!(told("Confirm"), 3, "the site is told");
    conflict(&rig, "POST", "/network-fabrics/1/actions/accept-deploy", Value::Null, "waits for a confirmation").await;
    rig.ok(202, "POST", deploy, json!({"requireConfirmation": true})).await;
    rig.ok(202, "POST", "/network-fabrics/1/actions/reject-deploy", Value::Null).await;
    assert_eq!((told("Confirm"), told("CancelGroup")), (3, 1));
    rig.ok(202, "POST", deploy, json!({"requireConfirmation": false})).await;
    assert_eq!(waits(&newest_jobs(&rig).await), 0);
}

async fn users_are_suspended_moved_and_keep_their_keys(rig: Rig) {
    let (id, ann) = tenant(&rig, "ann").await;
    let (other, bob) = tenant(&rig, "bob").await;
    let keys = format!("/users/{id}/ssh-keys");
    let made = rig.send(&ann, "POST", &keys, None, Some(json!({"sshKey": KEY}))).await;
    assert_eq!((made.status.as_u16(), &made.body["status"]), (201, &json!("active")), "{}", made.body);
    assert_eq!(rig.send(&ann, "POST", &keys, None, Some(json!({"sshKey": KEY}))).await.status, 409);
    assert_eq!(rig.send(&ann, "POST", &keys, None, Some(json!({"sshKey": "rubbish"}))).await.status, 400);
    assert_eq!(rig.get(&keys).await["data"].as_array().unwrap().len(), 1);
    for (method, path) in [("GET", keys.clone()), ("POST", keys.clone()), ("DELETE", format!("{keys}/1"))] {
        let body = (method == "POST").then(|| json!({"sshKey": KEY}));
        assert_eq!(rig.send(&bob, method, &path, None, body).await.status, 404, "{method}: they are Ann's");
    }
    assert_eq!(rig.send(&bob, "DELETE", &format!("/users/{other}/ssh-keys/1"), None, None).await.status, 404);
    assert_eq!(rig.send(&ann, "DELETE", &format!("{keys}/1"), None, None).await.status, 204);

    let suspend = format!("/users/{id}/actions/suspend");
    let why = json!({"suspendReason": "unpaid", "suspendReasonPublicComment": "see invoice 7", "suspendReasonPrivateComment": "thrice"});
    refused(
        &rig,
        "POST",
        &suspend,
        json!({"suspendReason": "mood", "suspendReasonPublicComment": "x"}),
        "suspendReason",
    )
    .await;
    let stale = rig.send(&rig.admin, "POST", &suspend, Some(9), Some(why.clone())).await;
    assert_eq!(stale.status, 412, "{}", stale.body);
    let reason = rig.ok(200, "POST", &suspend, why.clone()).await;
    assert_eq!((&reason["type"], &reason["privateComment"]), (&json!("unpaid"), &json!("thrice")));
    conflict(&rig, "POST", &suspend, why.clone(), "already").await;
    let own = rig.get("/user").await["id"].as_i64().unwrap();
    conflict(&rig, "POST", &format!("/users/{own}/actions/suspend"), why, "yourself").await;
    assert_eq!(rig.send(&ann, "GET", "/infrastructures", None, None).await.status, 200, "may look");
    let change = json!({"label": "shop", "siteId": 1});
    let answer = rig.send(&ann, "POST", "/infrastructures", None, Some(change.clone())).await;
    assert!(answer.status == 403 && answer.body["message"].as_str().unwrap().contains("suspended"), "{}", answer.body);
    rig.ok(200, "POST", &format!("/users/{id}/actions/unsuspend"), Value::Null).await;
    conflict(&rig, "POST", &format!("/users/{id}/actions/unsuspend"), Value::Null, "not suspended").await;
    assert_eq!(rig.send(&ann, "POST", "/infrastructures", None, Some(change)).await.status, 201);
    let reasons = rig.get(&format!("/users/{id}/suspend-reasons")).await;
    assert!(reasons["data"][0]["endTimestamp"].is_string(), "{reasons}");

    let to = format!("/users/{id}/actions/change-account");
    refused(&rig, "POST", &to, json!({"newAccountId": 99}), "newAccountId").await;
    assert_eq!(rig.ok(200, "POST", &to, json!({"newAccountId": 1})).await["accountId"], 1);
    conflict(&rig, "POST", &to, json!({"newAccountId": 1}), "already").await;
    assert_eq!(
        as_admin(&rig, "POST", "/users/99/actions/change-account", json!({"newAccountId": 1})).await.status,
        404
    );

    let change = |old: &str| json!({"oldPassword": old, "newPassword": "longer than that"});
    let again = rig.login("ann@example.com", "long enough").await;
    let wrong = rig.send(&ann, "POST", "/user/actions/change-password", None, Some(change("guess"))).await;
    assert_eq!((wrong.status.as_u16(), &wrong.body["details"][0]["field"]), (400, &json!("oldPassword")));
    let good = rig.send(&ann, "POST", "/user/actions/change-password", None, Some(change("long enough"))).await;
    assert_eq!(good.status, 200, "{}", good.body);
    assert_eq!(rig.send(&again, "GET", "/user", None, None).await.status, 401, "other sessions end");
    assert_eq!(rig.send(&ann, "GET", "/user", None, None).await.status, 200);
    rig.login("ann@example.com", "longer than that").await;
    assert_eq!(rig.send(&ann, "POST", "/user/actions/regenerate-jwt-salt", None, None).await.status, 200);
    assert_eq!(rig.send(&ann, "GET", "/user", None, None).await.status, 401, "and now this one");
}

async fn the_second_factor(rig: Rig) {
    let (_, ann) = tenant(&rig, "ann").await;
    let call = async |token: &str, path: &str, body: Value| {
        rig.send(token, "POST", path, None, (!body.is_null()).then_some(body)).await
    };
    assert_eq!(call(&ann, "/user/actions/2fa-enable", json!({"token": "123456"})).await.status, 409, "no secret yet");
    let made = call(&ann, "/user/actions/2fa-generate", Value::Null).await;
    let secret = made.body["secret2FA"].as_str().unwrap().to_owned();
    assert!(made.body["qrCode"].as_str().unwrap().starts_with("otpauth://totp/Steelyard:ann%40example.com?secret="));
    let code = |steps: i64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        crypto::totp::code(&secret, now.saturating_add_signed(30 * steps)).unwrap()
    };
    assert_eq!(call(&ann, "/user/actions/2fa-enable", json!({"token": "000000"})).await.status, 400);
    assert_eq!(call(&ann, "/user/actions/2fa-enable", json!({"token": code(-1)})).await.status, 200);
    assert_eq!(call(&ann, "/user/actions/2fa-generate", Value::Null).await.status, 409);
    let half = rig.login("ann@example.com", "long enough").await;
    assert_eq!(rig.send(&half, "GET", "/user", None, None).await.status, 401, "the password alone opens nothing");
    assert_eq!(call(&half, "/user/api-keys", json!({})).await.status, 401);
    assert_eq!(call(&half, "/login-2fa", json!({"token": code(-1)})).await.status, 401, "was used already");
    let whole = call(&half, "/login-2fa", json!({"token": code(0)})).await;
    assert_eq!(whole.status, 200, "{}", whole.body);
    let token = format!("Bearer {}", whole.body["sessionToken"].as_str().unwrap());
    assert_eq!(rig.send(&token, "GET", "/user", None, None).await.status, 200);
    assert_eq!(rig.send(&half, "GET", "/user", None, None).await.status, 401, "the first token stays worthless");
    let guess = rig.login("ann@example.com", "long enough").await;
    for _ in 0..5 {
        assert_eq!(call(&guess, "/login-2fa", json!({"token": "000000"})).await.status, 401);
    }
    let answer = call(&guess, "/login-2fa", json!({"token": code(1)})).await;
    assert!(answer.status == 401 && answer.body["message"].as_str().unwrap().contains("password"), "{}", answer.body);
    assert_eq!(call("", "/login-2fa", json!({"token": code(1)})).await.status, 401);
    assert_eq!(call(&token, "/user/actions/2fa-disable", Value::Null).await.status, 200);
    assert_eq!(call(&token, "/user/actions/2fa-disable", Value::Null).await.status, 409);
    let plain = rig.login("ann@example.com", "long enough").await;
    assert_eq!(rig.send(&plain, "GET", "/user", None, None).await.status, 200);
    let events = format!("{:?}", entity::event::Entity::find().all(&rig.db.read).await.unwrap());
    assert!(!events.contains(&secret));
}

async fn permissions_of_ones_own(rig: Rig) {
    let all = rig.get("/permissions").await;
    let built_in = all["permissions"].as_array().unwrap();
    let one = built_in.iter().find(|p| p["name"] == "server_types_read").unwrap();
    assert_eq!((&one["type"], &one["label"]), (&json!("built-in"), &json!("Server types: read")));
    let body = json!({"name": "coffee_make", "label": "Make coffee", "policies": [{"subject": ["coffee"], "action": ["make"]}]});
    rig.ok(201, "POST", "/permissions", body.clone()).await;
    conflict(&rig, "POST", "/permissions", body, "already").await;
    conflict(&rig, "POST", "/permissions", json!({"name": "sites_read", "label": "x"}), "built-in").await;
    refused(&rig, "POST", "/permissions", json!({"name": "a b", "label": "x"}), "name").await;
    rig.ok(201, "POST", "/roles", json!({"label": "Barista", "permissions": ["coffee_make", "sites_read"]})).await;
    conflict(&rig, "DELETE", "/permissions/coffee_make", Value::Null, "barista").await;
    rig.ok(200, "DELETE", "/roles/barista", Value::Null).await;
    rig.ok(204, "DELETE", "/permissions/coffee_make", Value::Null).await;
    assert_eq!(as_admin(&rig, "DELETE", "/permissions/coffee_make", Value::Null).await.status, 404);
    conflict(&rig, "DELETE", "/permissions/sites_read", Value::Null, "built in").await;
}

async fn accounts_are_put_away_and_limited(rig: Rig) {
    let id = rig.ok(201, "POST", "/accounts", json!({"name": "Shop"})).await["id"].as_i64().unwrap();
    let path = format!("/accounts/{id}");
    let limits = json!({"userResourceServerTypeNameToMaxCount": {"M.4": 2}});
    let bad = json!({"userResourceServerTypeNameToMaxCount": {"M.4": -2}});
    let at = format!("{path}/actions/change-limits");
    refused(&rig, "PATCH", &at, bad, "userResourceServerTypeNameToMaxCount.M.4").await;
    assert_eq!(rig.ok(200, "PATCH", &at, limits.clone()).await, limits);
    assert_eq!(rig.get(&format!("{path}/limits")).await, limits);
    assert_eq!(rig.get(&path).await["limits"], limits);
    assert_eq!(rig.get(&format!("{path}/config")).await["name"], "Shop");
    assert_eq!(rig.ok(200, "POST", &format!("{path}/actions/archive"), Value::Null).await["isArchived"], true);
    conflict(&rig, "POST", &format!("{path}/actions/archive"), Value::Null, "archived already").await;
    rig.ok(200, "POST", &format!("{path}/actions/unarchive"), Value::Null).await;
    conflict(&rig, "POST", &format!("{path}/actions/unarchive"), Value::Null, "not archived").await;
    conflict(&rig, "POST", "/accounts/1/actions/archive", Value::Null, "own account").await;
    let stale = rig.send(&rig.admin, "POST", &format!("{path}/actions/archive"), Some(1), None).await;
    assert_eq!(stale.status, 412, "{}", stale.body);
    let (ann, token) = tenant(&rig, "ann").await;
    let of_ann = rig.get(&format!("/users/{ann}")).await["accountId"].clone();
    let made = rig.send(&token, "POST", "/infrastructures", None, Some(json!({"label": "shop", "siteId": 1}))).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let path = format!("/accounts/{of_ann}/actions/archive");
    conflict(&rig, "POST", &path, Value::Null, "1 infrastructure").await;
    let answer = as_admin(&rig, "PUT", "/sites/1", json!({})).await;
    assert!(answer.status == 405 && answer.body["message"].as_str().unwrap().contains("PUT"), "{}", answer.body);
}

async fn profiles_change_and_use_is_told(rig: Rig) {
    let profile = json!({"label": "lan", "name": "LAN", "kind": "vlan", "fabricId": 1});
    rig.ok(201, "POST", "/logical-network-profiles", profile).await;
    let path = "/logical-network-profiles/1";
    assert_eq!(rig.send(&rig.admin, "PATCH", path, Some(4), Some(json!({"name": "x"}))).await.status, 412);
    let bad = rig.send(&rig.admin, "PATCH", path, Some(1), Some(json!({"mtu": 5}))).await;
    assert_eq!((bad.status.as_u16(), &bad.body["details"][0]["field"]), (400, &json!("mtu")), "{}", bad.body);
    let after = rig.send(&rig.admin, "PATCH", path, Some(1), Some(json!({"name": "Office", "mtu": 9000}))).await;
    assert_eq!(
        (&after.body["name"], &after.body["mtu"], &after.body["label"]),
        (&json!("Office"), &json!(9000), &json!("lan"))
    );

    let (id, _, _) = rig.design("shop", 2).await;
    rig.deployed(id, false).await;
    let own = rig.get("/user").await["id"].clone();
    let span =
        json!({"userIdOwner": own, "startTimestamp": "2020-01-01T00:00:00Z", "endTimestamp": "2100-01-01T00:00:00Z"});
    let path = "/infrastructures/actions/get/resource-utilization-detailed";
    let told = rig.ok(200, "POST", path, span.clone()).await;
    let used = &told["detailedReport"][id.to_string()]["serverInstances"];
    assert_eq!((used.as_array().unwrap().len(), &used[0]["serverType"]), (2, &json!("M.4")), "{told}");
    assert_eq!(told["infrastructures"][id.to_string()]["label"], "shop");
    let mut bad = span.clone();
    bad["endTimestamp"] = json!("2019-01-01T00:00:00Z");
    refused(&rig, "POST", path, bad.clone(), "endTimestamp").await;
    bad["startTimestamp"] = json!("yesterday");
    refused(&rig, "POST", path, bad, "startTimestamp").await;
    let summary =
        rig.ok(200, "POST", "/infrastructures/actions/get/resource-utilization-summarized", span.clone()).await;
    assert_eq!(summary["resourceUtilization"]["serverInstances"][0]["serverType"], "M.4", "{summary}");
    let (_, ann) = tenant(&rig, "ann").await;
    let other = rig.send(&ann, "POST", path, None, Some(span)).await;
    assert_eq!((other.status.as_u16(), &other.body["details"][0]["field"]), (400, &json!("userIdOwner")));
}

on_both! {
    secrets_and_variables_are_their_owners,
    zones_and_their_names,
    endpoints_take_free_ports,
    texts_and_secrets_of_switches,
    a_switch_is_reset_and_a_fabric_deployed,
    users_are_suspended_moved_and_keep_their_keys,
    the_second_factor,
    permissions_of_ones_own,
    accounts_are_put_away_and_limited,
    profiles_change_and_use_is_told,
}
