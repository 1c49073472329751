//! Groups that rest, machines that break under an instance, and what becomes of servers that are given back.

use crate::deploy_rig::Rig;
use model::{
    Id,
    cleaning::WipeMethod,
    order::{Order, ServerClean, ServerInstall, ServerPower, ServerStart},
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use store::entity;

impl Rig {
    async fn instances(&self, group: Id) -> Vec<entity::server_instance::Model> {
        let found = entity::server_instance::Entity::find().filter(entity::server_instance::Column::GroupId.eq(group));
        found.all(&self.db.read).await.unwrap()
    }

    async fn functions(&self, id: Id) -> Vec<String> {
        self.jobs_of(id).await.into_iter().map(|j| j.function).collect()
    }

    fn policy(label: &str, at_once: i64, method: &str) -> Value {
        json!({
            "label": label, "cleanupDrivesForOobEnabledServer": at_once, "recreateRaid": 0, "resetRaidControllers": 0, "disableEmbeddedNics": 0, "raidOneDrive": "RAID0",
            "raidTwoDrives": "RAID1", "raidEvenNumberMoreThanTwoDrives": "RAID10", "raidOddNumberMoreThanOneDrive": "RAID5", "skipRaidActions": [], "eraseMethod": method,
        })
    }
}

async fn groups_rest_and_run_again(rig: Rig) {
    let (id, group, _) = rig.design("shop", 2).await;
    let path = |action: &str| format!("/server-instance-groups/{group}/actions/{action}");
    rig.no(409, "POST", &path("stop"), Value::Null, "not deployed yet").await;
    rig.deployed(id, false).await;
    for n in 1..=3 {
        power(&rig, n, "on").await;
    }
    rig.no(409, "POST", &path("start"), Value::Null, "runs already").await;
    rig.no(404, "POST", "/server-instance-groups/99/actions/stop", Value::Null, "server instance group 99").await;
    let stale = rig.send(&rig.admin, "POST", &path("stop"), Some(99), None).await;
    assert_eq!(stale.status, 412, "{}", stale.body);
    // Meant to be stopped, and left alone after all.
    let config = rig.ok(200, "POST", &path("stop"), Value::Null).await;
    assert_eq!((&config["deployType"], &config["deployStatus"]), (&json!("stop"), &json!("not_started")));
    let config = rig.ok(200, "POST", &path("start"), Value::Null).await;
    assert_eq!((&config["deployType"], &config["deployStatus"]), (&json!("edit"), &json!("finished")));
    // Stopped, also when something else of it is changed before the deploy.
    rig.ok(200, "POST", &path("stop"), Value::Null).await;
    let config = format!("/server-instance-groups/{group}/config");
    let after = rig.ok(200, "PATCH", &config, json!({"serverGroupName": "front"})).await;
    assert_eq!(after["deployType"], "stop");
    rig.deployed(id, false).await;
    let functions = rig.functions(id).await;
    assert_eq!(functions.iter().filter(|f| *f == ServerPower::NAME).count(), 2, "{functions:?}");
    assert!(!functions.iter().any(|f| f == ServerInstall::NAME || f == ServerClean::NAME), "{functions:?}");
    let shown = rig.get(&format!("/server-instance-groups/{group}")).await;
    assert_eq!(shown["serviceStatus"], "stopped");
    assert!(rig.instances(group).await.iter().all(|i| i.service_status == "stopped" && i.server_id.is_some()));
    rig.no(409, "POST", &path("stop"), Value::Null, "stopped already").await;
    // While it rests its servers are nobody else's.
    assert_eq!(rig.server_status(1).await, "used");
    rig.ok(200, "POST", &path("start"), Value::Null).await;
    rig.deployed(id, false).await;
    assert_eq!(rig.functions(id).await.iter().filter(|f| *f == ServerStart::NAME).count(), 2);
    assert_eq!(rig.get(&format!("/server-instance-groups/{group}")).await["serviceStatus"], "active");
    rig.ok(200, "POST", &path("suspend"), Value::Null).await;
    rig.deployed(id, false).await;
    assert_eq!(rig.get(&format!("/server-instance-groups/{group}")).await["serviceStatus"], "suspended");
    assert!(rig.instances(group).await.iter().all(|i| i.service_status == "suspended"));
    rig.no(409, "POST", &path("stop"), Value::Null, "start it first").await;
}

async fn power(rig: &Rig, id: Id, word: &str) {
    use sea_orm::{ActiveModelTrait, ActiveValue::Set, IntoActiveModel};
    let mut row = rig.row(id).await.into_active_model();
    row.power = Set(word.into());
    row.update(&rig.db.write).await.unwrap();
}

async fn a_renamed_group_names_its_instances(rig: Rig) {
    let (id, group, _) = rig.design("shop", 2).await;
    let third =
        rig.ok(200, "PATCH", &format!("/server-instance-groups/{group}/config"), json!({"instanceCount": 3})).await;
    assert_eq!(third["instanceCount"], 3);
    let one = rig.instances(group).await[2].id;
    rig.ok(200, "PATCH", &format!("/server-instances/{one}/config"), json!({"label": "special"})).await;
    rig.ok(200, "PATCH", &format!("/server-instance-groups/{group}/config"), json!({"label": "workers"})).await;
    let labels = |rows: Vec<entity::server_instance::Model>| rows.into_iter().map(|i| i.label).collect::<Vec<_>>();
    assert_eq!(labels(rig.instances(group).await), ["workers-1", "workers-2", "special"]);
    // Once deployed, systems keep the names that they know themselves by; new ones are called after the group.
    rig.ok(200, "PATCH", &format!("/server-instance-groups/{group}/config"), json!({"instanceCount": 2})).await;
    rig.deployed(id, false).await;
    let body = json!({"label": "nodes", "instanceCount": 3});
    rig.ok(200, "PATCH", &format!("/server-instance-groups/{group}/config"), body).await;
    assert_eq!(labels(rig.instances(group).await), ["workers-1", "workers-2", "nodes-3"]);
}

async fn instances_come_one_by_one(rig: Rig) {
    let (id, group, network) = rig.design("shop", 1).await;
    let path = format!("/infrastructures/{id}/server-instances");
    rig.no(400, "POST", &path, json!({}), "groupId").await;
    rig.no(400, "POST", &path, json!({"groupId": 99}), "shop has no group 99").await;
    rig.no(400, "POST", &path, json!({"groupId": group, "label": "-"}), "label").await;
    rig.no(404, "POST", "/infrastructures/99/server-instances", json!({"groupId": group}), "infrastructure 99").await;
    let made = rig.ok(201, "POST", &path, json!({"groupId": group, "label": "extra"})).await;
    assert_eq!((&made["label"], &made["groupId"]), (&json!("extra"), &json!(group)));
    assert_eq!(rig.get(&format!("/server-instance-groups/{group}/config")).await["instanceCount"], 2);
    assert_eq!(rig.get(&format!("/server-instances/{}/interfaces", made["id"])).await["data"], json!([]));
    rig.deployed(id, false).await;
    // The interfaces as older clients ask for them.
    let list = format!("/server-instances/{}/interfaces", made["id"]);
    let shown = rig.get(&list).await;
    assert_eq!(shown["meta"]["totalItems"], 2);
    let first = &shown["data"][0];
    assert_eq!((&first["networkId"], &first["capacityMbps"]), (&json!(network), &json!(25_000)));
    assert_eq!(rig.get(&format!("{list}/{}", first["id"])).await["label"], first["label"]);
    rig.no(404, "GET", &format!("{list}/999"), Value::Null, "interface 999").await;
    assert_eq!(rig.get(&format!("{list}?page=2&limit=1")).await["data"][0]["index"], 1);
    let list = format!("/server-instance-groups/{group}/interfaces");
    let shown = rig.get(&list).await["data"][0].clone();
    assert_eq!(shown["networkId"], network);
    assert_eq!(rig.get(&format!("{list}/{}", shown["id"])).await["groupId"], group);
    rig.no(404, "GET", &format!("{list}/999"), Value::Null, "interface 999").await;
    let networking = rig.get(&format!("/server-instance-groups/{group}/config/networking")).await;
    assert_eq!(networking["id"], group.to_string());
    assert_eq!(rig.get("/servers/registration-profiles/search").await["isDefault"], true);
}

async fn a_broken_machine_is_replaced(rig: Rig) {
    let (id, group, _) = rig.design("shop", 1).await;
    let instance = rig.instances(group).await[0].id;
    let path = format!("/server-instances/{instance}/actions/replace");
    let why = json!({"reason": "a memory module fails"});
    rig.no(409, "POST", &path, why.clone(), "not deployed yet").await;
    rig.deployed(id, false).await;
    let old = rig.instances(group).await[0].server_id.unwrap();
    rig.no(400, "POST", &path, json!({}), "reason").await;
    rig.no(404, "POST", "/server-instances/99/actions/replace", why.clone(), "server instance 99").await;
    let stale = rig.send(&rig.admin, "POST", &path, Some(99), Some(why.clone())).await;
    assert_eq!(stale.status, 412, "{}", stale.body);
    rig.no(409, "POST", &path, json!({"cancel": true}), "nothing to cancel").await;
    // Asked for, and taken back: by hand, and with the whole design.
    rig.ok(202, "POST", &path, why.clone()).await;
    rig.ok(202, "POST", &path, json!({"cancel": true})).await;
    assert_eq!(rig.plan(id, true).await["changes"], json!([]));
    rig.ok(202, "POST", &path, why.clone()).await;
    rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/revert"), Value::Null).await;
    assert_eq!(rig.plan(id, true).await["changes"], json!([]));
    assert!(rig.row(old).await.extra["replaced"].is_null());
    // What is on its disks is lost: whoever deploys must say so.
    rig.ok(202, "POST", &path, why).await;
    let deploy = format!("/infrastructures/{id}/actions/deploy");
    rig.no(400, "POST", &deploy, Rig::options(false), "allowDataLoss").await;
    assert_eq!(rig.instances(group).await[0].server_id, Some(old));
    power(&rig, old, "on").await;
    rig.deployed(id, true).await;
    let after = rig.instances(group).await[0].clone();
    let new = after.server_id.unwrap();
    assert_ne!(new, old);
    assert!(after.extra["replace"].is_null() && after.deployed["server_id"] == new);
    let jobs = rig.jobs_of(id).await;
    let about_old: Vec<&str> = jobs.iter().filter(|j| j.server_id == Some(old)).map(|j| j.function.as_str()).collect();
    assert!(
        about_old.iter().all(|f| *f == "switch.apply"),
        "nothing waits for the BMC of a broken machine: {about_old:?}"
    );
    assert!(jobs.iter().any(|j| j.function == ServerInstall::NAME && j.server_id == Some(new)));
    assert!(jobs.iter().any(|j| j.function == "switch.apply" && j.key.starts_with("detach")), "it is off the network");
    let gone = rig.row(old).await;
    assert_eq!((gone.status.as_str(), gone.extra["dirty"].as_bool()), ("defective", Some(true)));
    assert!(gone.status_reason.unwrap().contains("a memory module fails"));
    // Nobody gets it until a person says so, and then it is erased first.
    let (blog, _, _) = rig.design("blog", 2).await;
    assert!(rig.plan(blog, false).await["problems"].to_string().contains("have 1 free servers"));
    rig.no(409, "PATCH", &format!("/servers/{old}"), json!({"serverStatus": "unavailable"}), "data may still be").await;
    rig.no(409, "PATCH", &format!("/servers/{old}"), json!({"serverStatus": "available"}), "cannot become available")
        .await;
    rig.ok(200, "PATCH", &format!("/servers/{old}"), json!({"serverStatus": "cleaning_required"})).await;
    rig.ok(202, "POST", &format!("/servers/{old}/actions/clean"), Value::Null).await;
    // The same design planned again changes nothing.
    assert_eq!(rig.plan(id, true).await["changes"], json!([]));
}

async fn a_replacement_that_was_cancelled_goes_on(rig: Rig) {
    let (id, group, _) = rig.design("shop", 1).await;
    rig.deployed(id, false).await;
    let instance = rig.instances(group).await[0].clone();
    let old = instance.server_id.unwrap();
    let path = format!("/server-instances/{}/actions/replace", instance.id);
    rig.ok(202, "POST", &path, json!({"reason": "smoke"})).await;
    rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/deploy"), Rig::options(true)).await;
    rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/cancel-deploy"), Value::Null).await;
    let new = rig.instances(group).await[0].server_id.unwrap();
    assert_ne!(new, old);
    assert_eq!(rig.server_status(old).await, "used", "its data are still there");
    rig.deployed(id, true).await;
    assert_eq!(rig.instances(group).await[0].server_id, Some(new));
    assert_eq!((rig.server_status(new).await, rig.server_status(old).await), ("used".into(), "defective".into()));
    let jobs = rig.jobs_of(id).await;
    assert!(jobs.iter().any(|j| j.key.starts_with(&format!("leave/server-{old}"))), "it is taken off the network");
    assert_eq!(rig.plan(id, true).await["changes"], json!([]));
}

async fn servers_in_maintenance_are_not_chosen(rig: Rig) {
    let (id, group, _) = rig.design("shop", 1).await;
    rig.deployed(id, false).await;
    let used = rig.instances(group).await[0].server_id.unwrap();
    for n in 1..=3 {
        let body = json!({"enabled": true, "reason": "new fans"});
        let shown = rig.ok(200, "POST", &format!("/servers/{n}/actions/set-maintenance"), body).await;
        let words = shown["maintenanceReason"].as_str().unwrap();
        assert_eq!(words.contains("instance web-1 of shop still runs on it"), n == used, "{words}");
    }
    let (blog, _, _) = rig.design("blog", 1).await;
    let plan = rig.plan(blog, false).await;
    assert!(plan["problems"].to_string().contains("have 0 free servers"), "{}", plan["problems"]);
    // Whoever has one stays.
    assert_eq!(rig.plan(id, false).await["changes"], json!([]));
    let free = (1..=3).find(|n| *n != used).unwrap();
    rig.ok(200, "POST", &format!("/servers/{free}/actions/set-maintenance"), json!({"enabled": false})).await;
    assert_eq!(rig.plan(blog, false).await["problems"], json!([]));
}

async fn servers_are_given_back_as_their_policy_says(rig: Rig) {
    let thorough = rig.ok(201, "POST", "/servers/cleanup-policies", Rig::policy("thorough", 1, "overwrite")).await;
    let site = json!({"serverPolicy": {"defaultServerCleanupPolicyID": thorough["id"]}});
    rig.ok(200, "PATCH", "/sites/1/config", site).await;
    let by_hand = rig.ok(201, "POST", "/servers/cleanup-policies", Rig::policy("by hand", 0, "auto")).await;
    rig.ok(200, "PATCH", "/servers/2", json!({"serverCleanupPolicyId": by_hand["id"]})).await;
    let (id, _, _) = rig.design("shop", 3).await;
    rig.deployed(id, false).await;
    rig.ok(204, "DELETE", &format!("/infrastructures/{id}"), Value::Null).await;
    rig.deployed(id, true).await;
    let cleaned: Vec<_> = rig.jobs_of(id).await.into_iter().filter(|j| j.function == ServerClean::NAME).collect();
    let mut servers: Vec<Id> = cleaned.iter().filter_map(|j| j.server_id).collect();
    servers.sort_unstable();
    assert_eq!(servers, [1, 3], "the second waits for a person");
    for job in &cleaned {
        let order: ServerClean = serde_json::from_value(job.payload.clone()).unwrap();
        assert_eq!((order.plan.method, order.plan.policy.as_deref()), (WipeMethod::Overwrite, Some("thorough")));
    }
    assert_eq!((rig.server_status(1).await, rig.server_status(3).await), ("available".into(), "available".into()));
    let waits = rig.row(2).await;
    assert_eq!(waits.status, "cleaning_required");
    assert!(waits.status_reason.unwrap().contains("not erased"));
}

/// Each on both databases.
mod on {
    macro_rules! both {
        ($($name:ident)*) => { $(#[tokio::test] async fn $name() {
            crate::testing::both(|db| async move { super::$name(crate::deploy_rig::rig(db).await).await }).await;
        })* };
    }
    both! {
        groups_rest_and_run_again
        a_renamed_group_names_its_instances
        instances_come_one_by_one
        a_broken_machine_is_replaced
        a_replacement_that_was_cancelled_goes_on
        servers_in_maintenance_are_not_chosen
        servers_are_given_back_as_their_policy_says
    }
}
