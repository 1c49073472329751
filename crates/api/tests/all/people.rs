//! What a user may have, who acts for whom, and the settings of the whole installation.

use crate::deploy_rig::{Answer, Rig};
use serde_json::{Value, json};

async fn person(rig: &Rig, name: &str, account: i64) -> (i64, String) {
    let email = format!("{name}@example.com");
    let made =
        api::seed::create_user(&rig.db.write, &email, name, "correct horse", account, "user", "user").await.unwrap();
    (made.id, rig.login(&email, "correct horse").await)
}

async fn account(rig: &Rig, name: &str) -> i64 {
    rig.ok(201, "POST", "/accounts", json!({"name": name})).await["id"].as_i64().unwrap()
}

async fn refused(rig: &Rig, method: &str, path: &str, body: Value, status: u16, words: &str) {
    let answer = rig.send(&rig.admin, method, path, None, (!body.is_null()).then_some(body)).await;
    assert_eq!(answer.status.as_u16(), status, "{method} {path}: {}", answer.body);
    assert!(answer.body["message"].as_str().unwrap().contains(words), "{}", answer.body);
}

async fn limits_are_kept_to(rig: Rig) {
    let (ann, token) = person(&rig, "ann", account(&rig, "A").await).await;
    let limits = format!("/users/{ann}/limits");
    assert_eq!(rig.get(&limits).await["infrastructureActiveMaxCount"], 1000);
    let change = format!("/users/{ann}/actions/change-limits");
    refused(&rig, "PATCH", &change, json!({"driveMaxSizeMbytes": 5}), 400, "is not a limit that this version keeps to")
        .await;
    refused(&rig, "PATCH", &change, json!({"infrastructureActiveMaxCount": -1}), 400, "infrastructureActiveMaxCount")
        .await;
    refused(&rig, "PATCH", "/users/99/actions/change-limits", json!({}), 404, "user 99").await;
    let body = json!({"infrastructureActiveMaxCount": 1, "infrastructureInstanceArrayMaxCount": 1, "instanceArrayInstancesMaxCount": 2, "userSshKeysCountMax": 0});
    let stale = rig.send(&rig.admin, "PATCH", &change, Some(99), Some(body.clone())).await;
    assert_eq!(stale.status, 412);
    assert_eq!(rig.ok(200, "PATCH", &change, body).await["instanceArrayInstancesMaxCount"], 2);
    assert_eq!(rig.get(&format!("/users/{ann}/default-limits")).await["instanceArrayInstancesMaxCount"], 10_000);
    rig.get(&format!("/users/{ann}/disabled-limits")).await;

    let as_ann = async |method: &str, path: &str, body: Value| -> Answer {
        rig.send(&token, method, path, None, Some(body)).await
    };
    let own = as_ann("PATCH", &change, json!({"infrastructureActiveMaxCount": 9})).await;
    assert_eq!(own.status, 403, "nobody gives themselves more");
    let made = as_ann("POST", "/infrastructures", json!({"label": "one", "siteId": 1})).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let id = made.body["id"].as_i64().unwrap();
    let second = as_ann("POST", "/infrastructures", json!({"label": "two", "siteId": 1})).await;
    assert_eq!(second.status, 409);
    assert!(
        second.body["message"].as_str().unwrap().contains("ann@example.com may have 1 infrastructures"),
        "{}",
        second.body
    );
    assert_eq!(rig.get(&format!("/infrastructures/{id}/user-limits")).await["infrastructureActiveMaxCount"], 1);
    let group =
        |label: &str, n: i64| json!({"label": label, "instanceCount": n, "defaultServerTypeId": 1, "osTemplateId": 1});
    let groups = format!("/infrastructures/{id}/server-instance-groups");
    assert_eq!(as_ann("POST", &groups, group("web", 3)).await.status, 409);
    let web = as_ann("POST", &groups, group("web", 2)).await;
    assert_eq!(web.status, 201, "{}", web.body);
    assert_eq!(as_ann("POST", &groups, group("db", 1)).await.status, 409, "one group");
    let config = format!("/server-instance-groups/{}/config", web.body["id"]);
    assert_eq!(as_ann("PATCH", &config, json!({"instanceCount": 3})).await.status, 409);
    assert_eq!(as_ann("PATCH", &config, json!({"instanceCount": 1})).await.status, 200);
    let more = format!("/infrastructures/{id}/server-instances");
    assert_eq!(as_ann("POST", &more, json!({"groupId": web.body["id"]})).await.status, 201);
    assert_eq!(as_ann("POST", &more, json!({"groupId": web.body["id"]})).await.status, 409);
    // An administrator's help does not go past the owner's limit.
    refused(&rig, "PATCH", &config, json!({"instanceCount": 3}), 409, "ann@example.com may have 2 servers").await;
    let key = json!({"sshKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPGuWOpdQmbk0bGqUYp6j8jAqU3ySOtWmPjNqkd3iJb ann@example.com"});
    refused(&rig, "POST", &format!("/users/{ann}/ssh-keys"), key, 409, "SSH keys").await;

    let meta = json!({"guiSettings": {"rowIndex": 3}});
    assert_eq!(rig.ok(200, "PATCH", &format!("/users/{ann}/meta"), meta.clone()).await, meta);
    assert_eq!(rig.get(&format!("/users/{ann}")).await["meta"], meta);
    let permissions = format!("/users/{ann}/permissions");
    assert!(rig.get(&permissions).await["rolePermissions"].as_array().unwrap().contains(&json!("custom_iso_write")));
    let change = format!("/users/{ann}/actions/change-resource-permissions");
    let more = json!({"adminPasswordRevealPermissions": {"server": true}});
    refused(&rig, "POST", &change, more, 409, "follows from the role user").await;
    rig.ok(200, "POST", &change, json!({"adminPasswordRevealPermissions": {"server": false}})).await;
}

async fn delegates_act_for_others(rig: Rig) {
    let (ann, ann_in) = person(&rig, "ann", account(&rig, "A").await).await;
    let (bob, bob_in) = person(&rig, "bob", account(&rig, "B").await).await;
    let made = rig.send(&ann_in, "POST", "/infrastructures", None, Some(json!({"label": "one", "siteId": 1}))).await;
    let path = format!("/infrastructures/{}", made.body["id"]);
    let sees = async || rig.send(&bob_in, "GET", &path, None, None).await.status.as_u16();
    assert_eq!(sees().await, 404);
    let add = format!("/users/{ann}/actions/add-delegate/{bob}");
    assert_eq!(rig.send(&bob_in, "POST", &add, None, None).await.status, 403, "the role has no word about users");
    refused(&rig, "POST", &format!("/users/{ann}/actions/add-delegate/99"), Value::Null, 404, "user 99").await;
    refused(&rig, "POST", &format!("/users/{ann}/actions/add-delegate/{ann}"), Value::Null, 409, "their own delegate")
        .await;
    for _ in 0..2 {
        rig.ok(200, "POST", &add, Value::Null).await;
    }
    assert_eq!(sees().await, 200);
    let group = json!({"label": "web", "instanceCount": 1, "defaultServerTypeId": 1, "osTemplateId": 1});
    let added = rig.send(&bob_in, "POST", &format!("{path}/server-instance-groups"), None, Some(group)).await;
    assert_eq!(added.status, 201, "{}", added.body);
    assert_eq!(rig.get(&format!("/users/{ann}/child-delegates")).await["data"][0]["id"], bob);
    assert_eq!(rig.get(&format!("/users/{bob}/parent-delegates")).await["data"][0]["id"], ann);
    let remove = format!("/users/{ann}/actions/remove-delegate/{bob}");
    rig.ok(200, "POST", &remove, Value::Null).await;
    refused(&rig, "POST", &remove, Value::Null, 404, "delegate").await;
    assert_eq!(sees().await, 404);
}

async fn settings_by_section(rig: Rig) {
    let all = rig.get("/config").await;
    assert_eq!((&all["http"]["proxyUrl"], &all["firmware"]["catalogRefreshHours"]), (&json!(""), &json!(24)));
    assert_eq!(rig.get("/config?filter=firmware").await, json!({"firmware": {"catalogRefreshHours": 24}}));
    refused(&rig, "PATCH", "/config/nowhere", json!({}), 404, "there are general, http, firmware").await;
    for (body, words) in [
        (json!({"proxyURL": "http://x"}), "is no setting of http; there are proxyUrl, noProxy"),
        (json!({"proxyUrl": "ftp://x"}), "proxyUrl"),
        (json!({"proxyUrl": "http://me:secret@proxy:3128"}), "must not hold a user name or password"),
        (json!({"noProxy": 5}), "noProxy"),
    ] {
        refused(&rig, "PATCH", "/config/http", body, 400, words).await;
    }
    refused(&rig, "PATCH", "/config/firmware", json!({"catalogRefreshHours": "often"}), 400, "catalogRefreshHours")
        .await;
    rig.ok(200, "PATCH", "/config/http", json!({"proxyUrl": "http://proxy:3128"})).await;
    let now = rig.ok(200, "PATCH", "/config/http", json!({"noProxy": ".example"})).await;
    assert_eq!(now, json!({"http": {"proxyUrl": "http://proxy:3128", "noProxy": ".example"}}));
    let now = rig.ok(200, "PUT", "/config/http", json!({"noProxy": ".example.org"})).await;
    assert_eq!(now["http"], json!({"proxyUrl": "", "noProxy": ".example.org"}), "the rest is as usual again");
    rig.ok(200, "PATCH", "/config/http", json!({"noProxy": null})).await;
    assert_eq!(rig.get("/config").await["http"]["noProxy"], "");
    assert_eq!(rig.get("/events?filter.kind=configuration.update").await["meta"]["totalItems"], 4);
    let (_, ann) = person(&rig, "ann", account(&rig, "A").await).await;
    assert_eq!(rig.send(&ann, "GET", "/config", None, None).await.status, 403);
}

async fn online_catalogs(rig: Rig) {
    let catalog = |name: &str, kind: &str, url: Value| json!({"name": name, "vendor": "dell", "updateType": kind, "vendorUrl": url});
    let url = json!("http://127.0.0.1:9/Catalog.xml.gz");
    let odd = json!({"name": "x", "vendor": "dell", "updateType": "online", "vendorConfiguration": {"format": "csv"}});
    refused(&rig, "POST", "/firmware/catalog", odd, 400, "vendorConfiguration.format").await;
    let online = rig.ok(200, "POST", "/firmware/catalog", catalog("online", "online", url.clone())).await["id"].clone();
    let offline =
        rig.ok(200, "POST", "/firmware/catalog", catalog("by hand", "offline", url.clone())).await["id"].clone();
    let bare = rig.ok(200, "POST", "/firmware/catalog", catalog("bare", "online", Value::Null)).await["id"].clone();
    let refresh = |id: &Value| format!("/firmware/catalog/{id}/actions/refresh");
    refused(&rig, "POST", &refresh(&offline), Value::Null, 409, "is kept by hand").await;
    refused(&rig, "POST", &refresh(&bare), Value::Null, 409, "has no vendorUrl").await;
    // By themselves, once a day: those that can be.
    let app = api::App::new(rig.db.clone(), rig.engine.clone(), rig.sealer.clone());
    let tick = async || api::kinds::firmware_catalog_fetch::tick(&app).await.unwrap();
    rig.ok(200, "PATCH", "/config/firmware", json!({"catalogRefreshHours": 0})).await;
    assert_eq!(tick().await, 0, "switched off");
    rig.ok(200, "PATCH", "/config/firmware", json!({"catalogRefreshHours": 12})).await;
    assert_eq!((tick().await, tick().await), (1, 0));
    let shown = rig.get(&format!("/firmware/catalog/{online}")).await;
    assert!(shown["fetch"]["jobInfo"]["jobId"].is_i64(), "{shown}");
    refused(&rig, "POST", &refresh(&online), Value::Null, 409, "is being fetched already").await;
    // Another address: what is noted of the old one says nothing.
    let moved = catalog("online", "online", json!("http://127.0.0.1:9/other.xml"));
    rig.ok(200, "PUT", &format!("/firmware/catalog/{online}"), moved).await;
    assert!(rig.get(&format!("/firmware/catalog/{online}")).await["fetch"].is_null());
    assert!(rig.ok(202, "POST", &refresh(&online), Value::Null).await["jobGroupId"].is_i64());
}

on_both!(limits_are_kept_to, delegates_act_for_others, settings_by_section, online_catalogs);
