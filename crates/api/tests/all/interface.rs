//! The interface through its router: authentication, permissions, tenants, errors that name the field, revisions.

use api::{App, contract, router, router::operations, seed};
use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode, header},
};
use http_body_util::BodyExt;
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait};
use serde_json::{Value, json};
use store::{Database, entity};
use tower::ServiceExt;

struct Rig {
    router: Router,
    db: Database,
}

struct Answer {
    status: StatusCode,
    body: Value,
    headers: axum::http::HeaderMap,
}

async fn rig(db: Database) -> Rig {
    api::migrate(&db).await.unwrap();
    seed::run(&db, "Admin@example.com", "correct horse").await.unwrap();
    seed::run(&db, "other@example.com", "changes nothing").await.unwrap();
    let engine = engine::Engine::new(db.clone(), Vec::new(), engine::EngineConfig::default(), None, None);
    let app = App::new(db.clone(), engine, crypto::Sealer::generate());
    Rig { router: router(app), db }
}

impl Rig {
    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (k, v) in headers {
            request = request.header(*k, *v);
        }
        let body = body.map_or_else(Body::empty, |b| Body::from(b.to_string()));
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        }
    }

    async fn login(&self, email: &str, password: &str) -> Answer {
        self.send(
            "POST",
            "/api/v2/login",
            &[],
            Some(json!({"provider": "mysql", "properties": {"email": email, "password": password}})),
        )
        .await
    }

    async fn token(&self, email: &str, password: &str) -> String {
        let answer = self.login(email, password).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        format!("Bearer {}", answer.body["sessionToken"].as_str().unwrap())
    }

    async fn admin(&self) -> String {
        self.token("admin@example.com", "correct horse").await
    }

    async fn call(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.send(method, path, &[("authorization", token)], body).await
    }
}

async fn every_operation_refuses_strangers_and_checks_a_permission(rig: Rig) {
    let admin = rig.admin().await;
    // A user of another tenant whose role grants nothing.
    let made = rig.call(&admin, "POST", "/api/v2/users", Some(json!({"displayName": "Eve", "email": "eve@example.com", "accessLevel": "user", "password": "long enough", "createWithAccount": true}))).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let mut role = entity::role::new();
    role.name = Set("nothing".into());
    role.label = Set("Nothing".into());
    role.description = Set(String::new());
    role.kind = Set("custom".into());
    role.permissions = Set(json!([]));
    role.insert(&rig.db.write).await.unwrap();
    let row =
        entity::user::Entity::find_by_id(made.body["id"].as_i64().unwrap()).one(&rig.db.read).await.unwrap().unwrap();
    let mut row: entity::user::ActiveModel = row.into();
    row.role = Set("nothing".into());
    row.update(&rig.db.write).await.unwrap();
    let eve = rig.token("eve@example.com", "long enough").await;
    let mut walked = 0;
    for o in operations() {
        if o.permission == contract::Permission::Public {
            continue;
        }
        let path: String =
            o.path.split('/').map(|p| if p.starts_with('{') { "1" } else { p }).collect::<Vec<_>>().join("/");
        let stranger = rig.send(o.method, &path, &[], Some(json!({}))).await;
        assert_eq!(stranger.status, StatusCode::UNAUTHORIZED, "{} {}", o.method, path);
        assert!(stranger.body["message"].as_str().is_some_and(|m| m.contains("log in")), "{}", stranger.body);
        if matches!(o.permission, contract::Permission::Need(_)) {
            let other = rig.call(&eve, o.method, &path, Some(json!({}))).await;
            assert_eq!(other.status, StatusCode::FORBIDDEN, "{} {}", o.method, path);
        }
        walked += 1;
    }
    assert!(walked > 40, "{walked}");
}

async fn login_sessions_and_csrf(rig: Rig) {
    assert_eq!(rig.login("admin@example.com", "wrong").await.status, 401);
    assert_eq!(rig.login("nobody@example.com", "wrong").await.status, 401);
    let answer = rig.login("admin@example.com", "correct horse").await;
    let cookies: Vec<String> = answer
        .headers
        .get_all(header::SET_COOKIE)
        .iter()
        .map(|c| c.to_str().unwrap().split(';').next().unwrap().to_owned())
        .collect();
    assert!(answer.headers.get_all(header::SET_COOKIE).iter().next().unwrap().to_str().unwrap().contains("HttpOnly"));
    let jar = cookies.join("; ");
    let csrf = cookies.iter().find_map(|c| c.strip_prefix("steelyard_csrf=")).unwrap().to_owned();
    assert_eq!(rig.send("GET", "/api/v2/user", &[("cookie", &jar)], None).await.status, 200);
    let site = json!({"slug": "dc1", "name": "One"});
    assert_eq!(rig.send("POST", "/api/v2/sites", &[("cookie", &jar)], Some(site.clone())).await.status, 403);
    assert_eq!(
        rig.send("POST", "/api/v2/sites", &[("cookie", &jar), ("x-csrf-token", &csrf)], Some(site)).await.status,
        201
    );
    assert_eq!(
        rig.send("POST", "/api/v2/logout", &[("cookie", &jar), ("x-csrf-token", &csrf)], None).await.status,
        200
    );
    assert_eq!(rig.send("GET", "/api/v2/user", &[("cookie", &jar)], None).await.status, 401);
}

async fn bad_input_names_the_field(rig: Rig) {
    let admin = rig.admin().await;
    let cases = [
        ("/api/v2/sites", json!({"name": "x"}), "slug"),
        ("/api/v2/sites", json!({"slug": "a b", "name": "x"}), "slug"),
        ("/api/v2/sites", json!({"slug": "a", "name": "x", "nmae": 1}), "nmae"),
        ("/api/v2/sites", json!({"slug": "a", "name": 5}), "name"),
        ("/api/v2/sites", json!({"slug": "a", "name": "x".repeat(256)}), "name"),
        (
            "/api/v2/subnets",
            json!({"networkAddress": "10.0.0.1", "prefixLength": 24, "isPool": true}),
            "networkAddress",
        ),
        ("/api/v2/subnets", json!({"networkAddress": "10.0.0.0", "prefixLength": 33, "isPool": true}), "prefixLength"),
        (
            "/api/v2/subnets",
            json!({"networkAddress": "10.0.0.0", "prefixLength": 24, "isPool": true, "parentSubnetId": 99}),
            "parentSubnetId",
        ),
        (
            "/api/v2/network-fabrics",
            json!({"name": "f", "siteId": 9, "fabricConfiguration": {"fabricType": "ethernet"}}),
            "siteId",
        ),
        ("/api/v2/roles", json!({"label": "r", "permissions": ["fly"]}), "permissions[0]"),
    ];
    for (path, body, field) in cases {
        let answer = rig.call(&admin, "POST", path, Some(body.clone())).await;
        assert_eq!(answer.status, 400, "{path} {body}: {}", answer.body);
        assert_eq!(answer.body["details"][0]["field"], field, "{path} {body}: {}", answer.body);
        assert!(answer.body["requestId"].is_string());
    }
    let torn = rig
        .router
        .clone()
        .oneshot(
            Request::post("/api/v2/sites").header("authorization", &admin).body(Body::from("{\"slug\": ")).unwrap(),
        )
        .await
        .unwrap();
    assert_eq!(torn.status(), 400);
    assert_eq!(rig.call(&admin, "GET", "/api/v2/sites/abc", None).await.status, 400);
    assert_eq!(rig.call(&admin, "GET", "/api/v2/sites/77", None).await.status, 404);
    assert_eq!(rig.call(&admin, "GET", "/api/v2/sites?filter.nonsense=1", None).await.status, 400);
    assert_eq!(rig.call(&admin, "GET", "/api/v2/nowhere", None).await.status, 404);
}

async fn revisions_and_conflicts(rig: Rig) {
    let admin = rig.admin().await;
    let made = rig.call(&admin, "POST", "/api/v2/sites", Some(json!({"slug": "dc1", "name": "One"}))).await;
    assert_eq!((made.status.as_u16(), made.headers["etag"].to_str().unwrap()), (201, "\"1\""));
    assert_eq!(
        rig.call(&admin, "POST", "/api/v2/sites", Some(json!({"slug": "dc1", "name": "Two"}))).await.status,
        409
    );
    let patch = |etag: &'static str| {
        let (rig, admin) = (&rig, &admin);
        async move {
            rig.send(
                "PATCH",
                "/api/v2/sites/1",
                &[("authorization", admin), ("if-match", etag)],
                Some(json!({"name": "Eins"})),
            )
            .await
        }
    };
    assert_eq!(patch("W/\"1\"").await.status, 200);
    let stale = patch("1").await;
    assert_eq!(stale.status, 412);
    assert!(stale.body["message"].as_str().unwrap().contains("found 2"));
    assert_eq!(patch("one").await.status, 400);
    let subnet = json!({"networkAddress": "10.0.0.0", "prefixLength": 16, "isPool": true});
    assert_eq!(rig.call(&admin, "POST", "/api/v2/subnets", Some(subnet)).await.status, 201);
    let overlap = json!({"networkAddress": "10.0.1.0", "prefixLength": 24, "isPool": false});
    assert_eq!(rig.call(&admin, "POST", "/api/v2/subnets", Some(overlap)).await.status, 409);
    assert_eq!(rig.call(&admin, "DELETE", "/api/v2/subnets/1", None).await.status, 428);
    assert_eq!(
        rig.send("DELETE", "/api/v2/subnets/1", &[("authorization", &admin), ("if-match", "\"1\"")], None).await.status,
        204
    );
}

async fn tenants_do_not_see_each_other(rig: Rig) {
    let admin = rig.admin().await;
    for name in ["ann", "bob"] {
        let body = json!({"displayName": name, "email": format!("{name}@example.com"), "accessLevel": "user", "password": "long enough", "createWithAccount": true});
        assert_eq!(rig.call(&admin, "POST", "/api/v2/users", Some(body)).await.status, 201);
    }
    let ann = rig.token("ann@example.com", "long enough").await;
    assert_eq!(rig.call(&ann, "GET", "/api/v2/users", None).await.status, 403, "users_read is for administrators");
    let events = rig.call(&ann, "GET", "/api/v2/events", None).await;
    assert_eq!(events.status, 200);
    assert!(
        events.body["data"].as_array().unwrap().iter().all(|e| e["userEmailAuthenticated"] != "admin@example.com"),
        "{}",
        events.body
    );
    assert_eq!(rig.call(&ann, "GET", "/api/v2/jobs", None).await.body["meta"]["totalItems"], 0);
}

async fn answers_carry_every_required_key_and_the_description_is_whole(rig: Rig) {
    let admin = rig.admin().await;
    let user = rig.call(&admin, "GET", "/api/v2/user", None).await.body;
    for key in ["displayName", "emailStatus", "isBrandManager", "planType", "config", "meta", "accessLevel"] {
        assert!(user.get(key).is_some(), "{key}");
    }
    let key = rig.call(&admin, "POST", "/api/v2/user/api-keys", Some(json!({"name": "ci"}))).await;
    assert_eq!(key.status, 201);
    let with_key = format!("Bearer {}", key.body["apiKey"].as_str().unwrap());
    assert_eq!(rig.call(&with_key, "GET", "/api/v2/version", None).await.body["version"], "7.4.0");
    let description = rig.send("GET", "/api/openapi.json", &[], None).await.body;
    assert_eq!(description["openapi"], "3.1.0");
    let text = description.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1).filter_map(|t| t.split('"').next()) {
        assert!(
            description["components"]["schemas"].get(reference).is_some(),
            "{reference} is referred to but not described"
        );
    }
}

#[test]
fn the_description_is_checked_in() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi.json");
    let now = serde_json::to_string_pretty(&contract::openapi(&operations())).unwrap() + "\n";
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    // Not assert_eq: it would print both, megabytes of them.
    assert!(
        std::fs::read_to_string(path).unwrap_or_default() == now,
        "openapi.json is out of date; run UPDATE_OPENAPI=1 cargo test -p api"
    );
}

async fn a_design_is_drawn_and_is_its_tenants_alone(rig: Rig) {
    let admin = rig.admin().await;
    assert_eq!(
        rig.call(&admin, "POST", "/api/v2/sites", Some(json!({"slug": "dc1", "name": "One"}))).await.status,
        201
    );
    for name in ["ann", "bob"] {
        let body = json!({"displayName": name, "email": format!("{name}@example.com"), "accessLevel": "user", "password": "long enough", "createWithAccount": true});
        assert_eq!(rig.call(&admin, "POST", "/api/v2/users", Some(body)).await.status, 201);
    }
    let mut kind = entity::server_type::new();
    kind.name = Set("M.32".into());
    kind.label = Set("m-32".into());
    kind.description = Set(None);
    for number in [
        &mut kind.ram_gb,
        &mut kind.processor_count,
        &mut kind.core_count,
        &mut kind.core_mhz,
        &mut kind.disk_count,
        &mut kind.nic_count,
        &mut kind.gpu_count,
    ] {
        *number = Set(2);
    }
    for document in [&mut kind.processor_names, &mut kind.nic_speeds, &mut kind.gpu_info] {
        *document = Set(json!([]));
    }
    kind.signature = Set("s".into());
    kind.extra = Set(json!({}));
    kind.insert(&rig.db.write).await.unwrap();
    let (ann, bob) =
        (rig.token("ann@example.com", "long enough").await, rig.token("bob@example.com", "long enough").await);
    let made = rig.call(&ann, "POST", "/api/v2/infrastructures", Some(json!({"label": "shop", "siteId": 1}))).await;
    assert_eq!(
        (made.status.as_u16(), made.body["config"]["deployStatus"].as_str()),
        (201, Some("not_started")),
        "{}",
        made.body
    );
    let base = "/api/v2/infrastructures/1";
    let groups = format!("{base}/server-instance-groups");
    for (body, field) in [
        (json!({"label": "web", "defaultServerTypeId": 9}), "defaultServerTypeId"),
        (json!({"label": "web", "defaultServerTypeId": 1, "instanceCount": -1}), "instanceCount"),
        (json!({"label": "web", "defaultServerTypeId": 1, "osTemplateId": 5}), "osTemplateId"),
    ] {
        let refused = rig.call(&ann, "POST", &groups, Some(body)).await;
        assert_eq!(
            (refused.status.as_u16(), refused.body["details"][0]["field"].as_str()),
            (400, Some(field)),
            "{}",
            refused.body
        );
    }
    let group = rig
        .call(&ann, "POST", &groups, Some(json!({"label": "web", "defaultServerTypeId": 1, "instanceCount": 3})))
        .await;
    assert_eq!(group.status, 201, "{}", group.body);
    let count = async |n: i64| {
        let answer =
            rig.call(&ann, "PATCH", "/api/v2/server-instance-groups/1/config", Some(json!({"instanceCount": n}))).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        rig.call(&ann, "GET", &format!("{base}/server-instances"), None).await.body["meta"]["totalItems"]
            .as_i64()
            .unwrap()
    };
    assert_eq!((count(5).await, count(2).await), (5, 2));
    assert_eq!(
        rig.call(&ann, "POST", &groups, Some(json!({"label": "web", "defaultServerTypeId": 1}))).await.status,
        409
    );
    assert!(rig.call(&ann, "GET", base, None).await.body["revision"].as_i64() > Some(1), "a plan made before is stale");
    for path in [base, "/api/v2/server-instance-groups/1", "/api/v2/server-instances/1", &format!("{base}/layout")] {
        assert_eq!(rig.call(&bob, "GET", path, None).await.status, 404, "{path} is Ann's");
    }
    let fabric = json!({"name": "fabric-1", "siteId": 1, "fabricConfiguration": {"fabricType": "ethernet"}});
    let made = rig.call(&admin, "POST", "/api/v2/network-fabrics", Some(fabric)).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let network = |label: &str, vlan: Value| json!({"label": label, "kind": "vlan", "fabricId": 1, "infrastructureId": 1, "vlan": {"vlanAllocationStrategies": [vlan]}});
    let auto = json!({"kind": "auto", "scope": {"kind": "fabric", "resourceId": 1}});
    let bad = json!({"kind": "manual", "vlanId": 5000, "scope": {"kind": "global"}});
    let refused = rig.call(&ann, "POST", "/api/v2/logical-networks", Some(network("lan", bad))).await;
    assert_eq!(
        (refused.status.as_u16(), refused.body["details"][0]["field"].as_str()),
        (400, Some("vlan.vlanAllocationStrategies[0].vlanId")),
        "{}",
        refused.body
    );
    for label in ["lan", "wan"] {
        let made = rig.call(&ann, "POST", "/api/v2/logical-networks", Some(network(label, auto.clone()))).await;
        assert_eq!(
            (made.status.as_u16(), made.body["vlan"]["vlanAllocationStrategies"][0]["id"].as_i64()),
            (201, Some(1)),
            "{}",
            made.body
        );
    }
    let connections = "/api/v2/server-instance-groups/1/config/networking/connections";
    let connect =
        |network: &str, tagged: bool| json!({"logicalNetworkId": network, "tagged": tagged, "accessMode": "l2"});
    let made = rig.call(&ann, "POST", connections, Some(connect("1", false))).await;
    assert_eq!(
        (made.status.as_u16(), made.body["id"].as_str(), made.body["mtu"].as_i64()),
        (201, Some("1"), Some(1500)),
        "{}",
        made.body
    );
    let second = rig.call(&ann, "POST", connections, Some(connect("2", false))).await;
    assert_eq!(
        (second.status.as_u16(), second.body["details"][0]["field"].as_str()),
        (400, Some("tagged")),
        "{}",
        second.body
    );
    assert_eq!(rig.call(&ann, "POST", connections, Some(connect("1", true))).await.status, 409);
    assert_eq!(rig.call(&ann, "POST", connections, Some(connect("9", true))).await.status, 400);
    assert_eq!(rig.call(&ann, "POST", connections, Some(connect("2", true))).await.status, 201);
    assert_eq!(rig.call(&ann, "PATCH", &format!("{connections}/2"), Some(json!({"tagged": false}))).await.status, 400);
    assert_eq!(rig.call(&ann, "GET", connections, None).await.body["data"].as_array().unwrap().len(), 2);
    assert_eq!(
        rig.send("DELETE", "/api/v2/logical-networks/2", &[("authorization", &ann), ("if-match", "1")], None)
            .await
            .status,
        409
    );
    assert_eq!(rig.call(&ann, "DELETE", &format!("{connections}/2"), None).await.status, 204);
    assert_eq!(rig.call(&ann, "DELETE", "/api/v2/logical-networks/2", None).await.status, 428);
    assert_eq!(
        rig.send("DELETE", "/api/v2/logical-networks/2", &[("authorization", &ann), ("if-match", "1")], None)
            .await
            .status,
        204
    );
    assert_eq!(rig.call(&bob, "GET", "/api/v2/logical-networks/1", None).await.status, 404);
    assert_eq!(rig.call(&bob, "GET", connections, None).await.status, 404);
    assert_eq!(rig.call(&bob, "DELETE", base, None).await.status, 404);
    assert_eq!(rig.call(&ann, "PUT", &format!("{base}/layout"), Some(json!({"g1": [1, 2]}))).await.status, 200);
    assert_eq!(rig.call(&ann, "GET", &format!("{base}/layout"), None).await.body, json!({"g1": [1, 2]}));
    assert_eq!(rig.call(&ann, "DELETE", base, None).await.status, 204);
    assert_eq!(rig.call(&ann, "GET", base, None).await.status, 404);
}

async fn the_stream_tells_what_happens_and_resumes(rig: Rig) {
    let admin = rig.admin().await;
    let open = async |last: &str| {
        let request = Request::get("/api/v2/events/stream?topics=object")
            .header("authorization", &admin)
            .header("last-event-id", last)
            .body(Body::empty())
            .unwrap();
        rig.router.clone().oneshot(request).await.unwrap().into_body()
    };
    let next = async |body: &mut Body| {
        let frame = tokio::time::timeout(std::time::Duration::from_secs(5), body.frame())
            .await
            .expect("nothing came within 5 s");
        String::from_utf8(frame.unwrap().unwrap().into_data().unwrap().to_vec()).unwrap()
    };
    let mut live = open("").await;
    assert_eq!(
        rig.call(&admin, "POST", "/api/v2/sites", Some(json!({"slug": "dc1", "name": "One"}))).await.status,
        201
    );
    let text = next(&mut live).await;
    assert!(text.contains("event: object") && text.contains("\"kind\":\"site\""), "{text}");
    drop(live);
    assert_eq!(rig.call(&admin, "PATCH", "/api/v2/sites/1", Some(json!({"name": "Eins"}))).await.status, 200);
    let id = text.lines().find_map(|l| l.strip_prefix("id: ")).unwrap().to_owned();
    let text = next(&mut open(&id).await).await;
    assert!(text.contains("site.update"), "what was missed is told, and only that: {text}");
}

macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        /// Each on SQLite and on PostgreSQL.
        mod on {
            $(#[tokio::test]
            async fn $name() {
                crate::testing::both(|db| async { super::$name(super::rig(db).await).await }).await;
            })*
        }
    };
}
on_both! {
    every_operation_refuses_strangers_and_checks_a_permission,
    login_sessions_and_csrf,
    bad_input_names_the_field,
    revisions_and_conflicts,
    tenants_do_not_see_each_other,
    answers_carry_every_required_key_and_the_description_is_whole,
    a_design_is_drawn_and_is_its_tenants_alone,
    the_stream_tells_what_happens_and_resumes,
}
