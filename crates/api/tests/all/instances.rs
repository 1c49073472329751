//! Instances that run: power, credentials, reinstallation, and who may see them. Numbers at a glance.

use crate::deploy_rig::Rig;
use model::job::JobStatus;
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use serde_json::{Value, json};
use store::entity;

async fn power_is_a_job_that_the_tenant_sees(rig: Rig) {
    let (id, _, _) = rig.design("shop", 2).await;
    let all = rig.get(&format!("/infrastructures/{id}/server-instances")).await;
    let (one, two) = (all["data"][0]["id"].as_i64().unwrap(), all["data"][1]["id"].as_i64().unwrap());
    let set = format!("/server-instances/{one}/actions/power-set");
    rig.ok(409, "POST", &set, json!({"powerCommand": "on"})).await;
    rig.deployed(id, false).await;
    rig.post.books.lock().unwrap().clear();
    rig.ok(400, "POST", &set, json!({"powerCommand": "explode"})).await;
    let made = rig.ok(200, "POST", &set, json!({"powerCommand": "soft"})).await;
    let jobs = rig.get(&format!("/job-groups/{}/jobs", made["jobGroupId"])).await;
    let job = &jobs["data"][0];
    assert_eq!(
        (&job["instanceId"], &job["functionName"], &job["siteId"]),
        (&json!(one), &json!("server.power"), &json!(1))
    );
    let payload = rig.post.books.lock().unwrap()[0].1.jobs[0].spec.payload.clone();
    assert_eq!(
        (&payload["action"], &payload["graceful_seconds"], &payload["force_after"]),
        (&json!("graceful_off"), &json!(180), &json!(false))
    );
    assert_eq!(rig.ok(200, "POST", &format!("/server-instances/{one}/actions/power-get"), Value::Null).await, "off");
    let states = rig
        .ok(200, "POST", &format!("/infrastructures/{id}/actions/power-get"), json!([one.to_string(), two.to_string()]))
        .await;
    assert_eq!(states, json!({one.to_string(): "off", two.to_string(): "off"}));
    let batch = format!("/infrastructures/{id}/actions/power-set");
    let body = json!({"instances": [one.to_string(), two.to_string()], "powerCommand": "on"});
    let made = rig.ok(202, "POST", &batch, body).await;
    let jobs = rig.get(&format!("/job-groups/{}/jobs", made["jobGroupId"])).await;
    assert_eq!(jobs["data"].as_array().unwrap().len(), 2);
    let bad = rig.ok(400, "POST", &batch, json!({"instances": ["1000"], "powerCommand": "on"})).await;
    assert_eq!(bad["details"][0]["field"], "instances[0]", "{bad}");
    rig.ok(400, "POST", &batch, json!({"instances": [], "powerCommand": "on"})).await;
}

async fn credentials_are_those_of_the_installation_and_reading_them_is_noted(rig: Rig) {
    let (id, _, network) = rig.design("shop", 1).await;
    rig.deployed(id, false).await;
    let i = rig.get(&format!("/infrastructures/{id}/server-instances")).await["data"][0].clone();
    let path = format!("/server-instances/{}", i["id"]);
    let credentials = rig.get(&format!("{path}/credentials")).await;
    assert_eq!(credentials["username"], "steel", "{credentials}");
    let books = rig.post.books.lock().unwrap().clone();
    let install = books[0].1.jobs.iter().find(|j| j.spec.function == "server.install").unwrap();
    let sealed = model::secret::Sealed(install.spec.payload["spec"]["password"].as_str().unwrap().to_owned());
    assert_eq!(credentials["initialPassword"], rig.sealer.for_site(1).open(&sealed).unwrap().0.as_str());
    assert_eq!(install.spec.payload["spec"]["hostname"], "web-1");
    assert_eq!(install.spec.payload["spec"]["os"]["image"]["url"], "http://127.0.0.1/debian.raw");
    let noted = entity::event::Entity::find()
        .filter(entity::event::Column::Kind.eq("server_instance.credentials_read"))
        .count(&rig.db.read)
        .await
        .unwrap();
    assert_eq!(noted, 1);
    // Addresses, in the shape that clients walk through.
    let netplan = &i["allocatedNetworkConfig"]["physicalInterfaceNetworkConfigs"];
    assert!(netplan.to_string().contains("10.0.0.2/28"), "{i}");
    assert_eq!(i["allocatedServerInfo"]["vendor"], "Dell");
    assert_eq!(i["meta"]["addresses"], json!(["10.0.0.2"]));
    assert_eq!((&i["addresses"][0]["address"], &i["addresses"][0]["prefixLength"]), (&json!("10.0.0.2"), &json!(28)));
    // The site knows the server as its tenant's, and the image.
    let keys: Vec<String> = entity::site_snapshot_item::Entity::find()
        .all(&rig.db.read)
        .await
        .unwrap()
        .into_iter()
        .map(|f| f.item_key)
        .collect();
    assert!(
        keys.contains(&format!("image/{}", "a".repeat(64))) && keys.iter().any(|k| k.starts_with("server/")),
        "{keys:?}"
    );
    let ips = rig.get(&format!("/logical-networks/{network}")).await;
    assert_eq!(ips["ipv4"]["subnets"][0]["gateway"], "10.0.0.1");
}

async fn a_reinstallation_and_the_end_of_one_server_are_deployed(rig: Rig) {
    let (id, group, _) = rig.design("shop", 3).await;
    let all = rig.get(&format!("/infrastructures/{id}/server-instances")).await;
    let one = all["data"][0]["id"].as_i64().unwrap();
    let reinstall = format!("/server-instances/{one}/actions/reinstall-os");
    let body = json!({"performAtNextDeploy": true, "reinstallOS": true});
    rig.ok(409, "POST", &reinstall, body.clone()).await;
    rig.deployed(id, false).await;
    rig.ok(202, "POST", &reinstall, body.clone()).await;
    let plan = rig.plan(id, true).await;
    assert_eq!(
        (&plan["impact"]["serversWiped"], &plan["impact"]["serversInstalled"]),
        (&json!(1), &json!(1)),
        "{plan}"
    );
    rig.ok(202, "POST", &reinstall, json!({"performAtNextDeploy": true, "reinstallOS": false})).await;
    assert_eq!(rig.plan(id, false).await["changes"], json!([]));
    rig.ok(202, "POST", &reinstall, body).await;
    // The login is that of the old system until the new one is there.
    let credentials = format!("/server-instances/{one}/credentials");
    let old = rig.get(&credentials).await;
    rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/deploy"), Rig::options(true)).await;
    assert_eq!(rig.get(&credentials).await, old);
    rig.drive(id, |_| true).await;
    rig.until_finished(id).await;
    let new = rig.get(&credentials).await;
    assert!(new["initialPassword"].is_string() && new["initialPassword"] != old["initialPassword"], "{new}");
    assert_eq!(rig.plan(id, false).await["changes"], json!([]));

    // The one that was picked goes, not the last one; and the group has one less.
    rig.ok(204, "DELETE", &format!("/server-instances/{one}"), Value::Null).await;
    rig.ok(409, "DELETE", &format!("/server-instances/{one}"), Value::Null).await;
    let config = format!("/server-instance-groups/{group}/config");
    assert_eq!(rig.get(&config).await["instanceCount"], 2);
    rig.ok(200, "PATCH", &config, json!({"instanceCount": 2})).await;
    rig.deployed(id, true).await;
    let left = rig.get(&format!("/infrastructures/{id}/server-instances")).await;
    let left: Vec<i64> = left["data"].as_array().unwrap().iter().map(|i| i["id"].as_i64().unwrap()).collect();
    assert_eq!(left.len(), 2);
    assert!(!left.contains(&one), "{left:?}");
}

async fn tenants_see_their_own_alone(rig: Rig) {
    let (id, group, network) = rig.design("shop", 1).await;
    rig.deployed(id, false).await;
    let plan = rig.plan(id, false).await;
    let i = rig.get(&format!("/infrastructures/{id}/server-instances")).await["data"][0]["id"].clone();
    let eve = json!({"displayName": "Eve", "email": "eve@example.com", "accessLevel": "user", "password": "long enough", "createWithAccount": true});
    rig.ok(201, "POST", "/users", eve).await;
    let eve = rig.login("eve@example.com", "long enough").await;
    for (method, path) in [
        ("POST", format!("/infrastructures/{id}/actions/plan")),
        ("POST", format!("/infrastructures/{id}/actions/validate")),
        ("POST", format!("/infrastructures/{id}/actions/deploy")),
        ("POST", format!("/infrastructures/{id}/actions/cancel-deploy")),
        ("POST", format!("/infrastructures/{id}/actions/revert")),
        ("POST", format!("/infrastructures/{id}/actions/power-get")),
        ("GET", format!("/infrastructures/{id}/plans/{}", plan["planId"])),
        ("GET", format!("/infrastructures/{id}/statistics")),
        ("GET", format!("/server-instances/{i}")),
        ("GET", format!("/server-instances/{i}/credentials")),
        ("DELETE", format!("/server-instances/{i}")),
        ("POST", format!("/server-instances/{i}/actions/power-get")),
        ("GET", format!("/server-instance-groups/{group}")),
        ("GET", format!("/logical-networks/{network}/config")),
    ] {
        let body = (method == "POST").then(|| if path.ends_with("power-get") { json!([]) } else { Rig::options(true) });
        let body = if path.contains("/server-instances/") { None } else { body };
        let answer = rig.send(&eve, method, &path, None, body).await;
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.body);
    }
    let answer = rig.send(&eve, "GET", "/server-instances", None, None).await;
    assert_eq!(answer.body["meta"]["totalItems"], 0, "{}", answer.body);
    let overview = rig.send(&eve, "GET", "/overview", None, None).await;
    assert_eq!(overview.body["servers"]["total"], 0, "{}", overview.body);
}

async fn numbers_at_a_glance(rig: Rig) {
    let (id, _, _) = rig.design("shop", 2).await;
    assert_eq!(rig.get("/sites/1/availability?serverTypeId=1").await, json!({"free": 3, "total": 3}));
    assert_eq!(rig.get("/sites/1/availability?serverTypeId=9").await, json!({"free": 0, "total": 0}));
    rig.ok(404, "GET", "/sites/9/availability", Value::Null).await;
    rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/deploy"), Rig::options(false)).await;
    let job = rig.jobs_of(id).await.into_iter().find(|j| j.function == "server.install").unwrap();
    rig.report(&job, JobStatus::ThrownError, Some("no power")).await;
    let told = rig.get(&format!("/server-instances/{}", job.instance_id.unwrap())).await;
    assert_eq!(told["osInstallError"], "no power", "{told}");
    let overview = rig.get("/overview").await;
    assert_eq!(overview["servers"], json!({"total": 3, "byStatus": {"available": 1, "used": 2}}));
    assert_eq!(overview["switches"]["total"], 3);
    assert_eq!(overview["jobs"]["failed"], 1);
    assert_eq!((&overview["sites"][0]["name"], &overview["sites"][0]["connected"]), (&json!("One"), &json!(false)));
    assert_eq!(rig.get("/sites/1/availability?serverTypeId=1").await, json!({"free": 1, "total": 3}));
    let all = rig.get("/infrastructures/statistics").await;
    assert_eq!((&all["infrastructureCount"], &all["ongoingInfrastructureCount"]), (&json!(1), &json!(1)), "{all}");
    assert_eq!(all["infrastructureDeployOngoingStatusCount"], json!({"thrownErrorRetrying": 0, "thrownError": 1}));
    let one = rig.get(&format!("/infrastructures/{id}/statistics")).await;
    assert_eq!(one["jobGroupStatistics"]["jobsThrownError"], 1, "{one}");
    assert_eq!(one["serverTypesForUsage"], json!([{"id": 1, "name": "M.4", "serversAvailable": 1}]));
    let listed = rig.get("/infrastructures").await;
    assert_eq!(listed["data"][0]["statistics"]["jobsThrownError"], 1, "{listed}");
    let by_status = rig.get("/server-instances/statistics").await;
    assert_eq!(by_status, json!({"serverStatus": {"ordered": 2}, "site": {"1": 2}}));
    let rules = rig.get("/planner/connect-rules").await;
    assert!(
        rules
            .as_array()
            .unwrap()
            .iter()
            .any(|r| r["from"] == "server_group" && r["to"] == "network" && r["allowed"] == true)
    );
}

async fn a_site_controller_enrols_with_a_token_that_is_shown_once(rig: Rig) {
    let made = rig.ok(201, "POST", "/sites/1/enrolment-tokens", Value::Null).await;
    let shown = made["token"].as_str().unwrap();
    let command = made["command"].as_str().unwrap();
    assert!(command.starts_with("steelyard site ") && command.ends_with(&format!(" --token {shown}")), "{command}");
    assert!(command.contains(" https://global.example:8444 "), "{command}");
    let (token, authority) = shown.split_once('.').unwrap();
    assert_eq!(authority, "c0ffee");
    let row = entity::enrolment_token::Entity::find().one(&rig.db.read).await.unwrap().unwrap();
    assert_eq!((row.site_id, row.token_hash, row.used_at), (1, crypto::token::hash(token), None));
    let left = store::time::millis_between(&store::time::now(), &row.expires_at).unwrap();
    assert!((3_500_000..=3_600_000).contains(&left), "{left}");
    let events = format!("{:?}", entity::event::Entity::find().all(&rig.db.read).await.unwrap());
    assert!(!events.contains(token));
    rig.ok(404, "POST", "/sites/9/enrolment-tokens", Value::Null).await;
}

on_both! {
    power_is_a_job_that_the_tenant_sees,
    credentials_are_those_of_the_installation_and_reading_them_is_noted,
    a_reinstallation_and_the_end_of_one_server_are_deployed,
    tenants_see_their_own_alone,
    numbers_at_a_glance,
    a_site_controller_enrols_with_a_token_that_is_shown_once,
}
