//! Ways back: revert, cancel, and what unfinished deploys leave.

use crate::deploy_rig::Rig;
use model::job::JobStatus;
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use store::entity;

async fn a_reverted_design_is_what_is_deployed(rig: Rig) {
    let (id, group, network) = rig.design("shop", 2).await;
    rig.deployed(id, false).await;
    let config = format!("/server-instance-groups/{group}/config");
    rig.ok(200, "PATCH", &config, json!({"instanceCount": 1, "label": "front"})).await;
    let connection = format!("{config}/networking/connections/{network}");
    rig.ok(204, "DELETE", &connection, Value::Null).await;
    let revision = rig.get(&format!("/logical-networks/{network}")).await["revision"].as_i64();
    let body = json!({"label": "renamed"});
    let answer = rig.send(&rig.admin, "PATCH", &format!("/logical-networks/{network}"), revision, Some(body)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    rig.ok(
        201,
        "POST",
        &format!("/infrastructures/{id}/server-instance-groups"),
        json!({"label": "db", "defaultServerTypeId": 1}),
    )
    .await;
    rig.ok(204, "DELETE", &format!("/infrastructures/{id}"), Value::Null).await;
    let now = rig.get(&format!("/infrastructures/{id}")).await;
    assert_eq!((&now["serviceStatus"], &now["config"]["deployType"]), (&json!("active"), &json!("delete")), "{now}");
    rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/revert"), Value::Null).await;
    let plan = rig.plan(id, false).await;
    assert_eq!((&plan["changes"], &plan["problems"]), (&json!([]), &json!([])), "{plan}");
    let now = rig.get(&format!("/infrastructures/{id}")).await;
    assert_eq!((&now["config"]["deployType"], &now["config"]["deployStatus"]), (&json!("edit"), &json!("finished")));
    let g = rig.get(&format!("/server-instance-groups/{group}")).await;
    assert_eq!((&g["config"]["label"], &g["config"]["instanceCount"]), (&json!("web"), &json!(2)));
    assert_eq!(rig.get(&format!("/logical-networks/{network}")).await["label"], "shop-net");
    rig.ok(200, "GET", &connection, Value::Null).await;

    // What was never deployed is gone.
    let (fresh, group, network) = rig.design("draft", 2).await;
    rig.ok(202, "POST", &format!("/infrastructures/{fresh}/actions/revert"), Value::Null).await;
    rig.ok(404, "GET", &format!("/server-instance-groups/{group}"), Value::Null).await;
    rig.ok(404, "GET", &format!("/logical-networks/{network}"), Value::Null).await;
    rig.ok(200, "GET", &format!("/infrastructures/{fresh}"), Value::Null).await;
}

async fn a_change_of_what_was_marked_for_deletion_keeps_it(rig: Rig) {
    let (id, group, network) = rig.design("shop", 1).await;
    rig.deployed(id, false).await;
    let config = format!("/server-instance-groups/{group}/config");
    rig.ok(204, "DELETE", &format!("{config}/networking/connections/{network}"), Value::Null).await;
    let path = format!("/logical-networks/{network}");
    let revision = rig.get(&path).await["revision"].as_i64();
    assert_eq!(rig.send(&rig.admin, "DELETE", &path, revision, None).await.status, 204);
    rig.ok(204, "DELETE", &format!("/server-instance-groups/{group}"), Value::Null).await;
    assert_eq!(rig.get(&path).await["config"]["deployType"], "delete");
    assert_eq!(rig.get(&config).await["deployType"], "delete");
    let revision = rig.get(&path).await["revision"].as_i64();
    let body = json!({"label": "shop-net", "name": "shop-net"});
    assert_eq!(rig.send(&rig.admin, "PATCH", &path, revision, Some(body)).await.status, 200);
    let body = json!({"label": "web", "instanceCount": 1, "defaultServerTypeId": 1, "osTemplateId": 1});
    rig.ok(200, "PATCH", &config, body).await;
    let body = json!({"logicalNetworkId": network.to_string(), "tagged": false, "accessMode": "l2", "mtu": 1500});
    rig.ok(201, "POST", &format!("{config}/networking/connections"), body).await;
    let plan = rig.plan(id, false).await;
    assert_eq!((&plan["changes"], &plan["problems"]), (&json!([]), &json!([])), "{plan}");
}

async fn a_cancelled_deploy_is_taken_up_by_the_next_plan(rig: Rig) {
    let (id, group, network) = rig.design("shop", 2).await;
    rig.ok(409, "POST", &format!("/infrastructures/{id}/actions/cancel-deploy"), Value::Null).await;
    rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/deploy"), Rig::options(false)).await;
    rig.drive(id, |j| j.function == "server.install").await;
    let failing = rig.jobs_of(id).await.into_iter().find(|j| j.function == "switch.apply").unwrap();
    rig.report(&failing, JobStatus::ThrownError, Some("the switch does not answer")).await;
    let now = rig.get(&format!("/infrastructures/{id}")).await;
    assert_eq!(now["config"]["deployStatus"], "ongoing");
    assert!(now["deferredDeployAttemptLastErrorJson"]["message"].as_str().unwrap().contains("1 of"), "{now}");
    let first: Vec<_> = reserved(&rig, id).await;
    let cancelled = rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/cancel-deploy"), Value::Null).await;
    assert_eq!(
        (&cancelled["designIsLocked"], &cancelled["config"]["deployStatus"]),
        (&json!(0), &json!("not_started"))
    );
    assert!(cancelled["deferredDeployAttemptLastErrorJson"]["message"].as_str().unwrap().contains("cancelled by"));
    assert_eq!(rig.post.commands.lock().unwrap().len(), 1);
    assert_eq!(rig.server_status(1).await, "used");

    // What may be half done is not simply forgotten: a group that was never deployed, but has servers, needs a deploy to go.
    rig.ok(204, "DELETE", &format!("/server-instance-groups/{group}"), Value::Null).await;
    assert_eq!(rig.get(&format!("/server-instance-groups/{group}/config")).await["deployType"], "delete");
    let body = json!({"label": "web", "instanceCount": 2});
    rig.ok(200, "PATCH", &format!("/server-instance-groups/{group}/config"), body).await;

    let plan = rig.plan(id, false).await;
    assert_eq!(plan["problems"], json!([]), "{plan}");
    assert_eq!(rig.deploy_plan(id, &plan, false).await.status, 202);
    assert_eq!(reserved(&rig, id).await, first);
    rig.drive(id, |_| true).await;
    rig.until_finished(id).await;
    let vlans = entity::vlan_allocation::Entity::find().count(&rig.db.read).await.unwrap();
    assert_eq!(vlans, 1);
    assert_eq!(rig.get(&format!("/logical-networks/{network}")).await["serviceStatus"], "active");

    // A deploy that is cancelled and reverted leaves servers to be cleaned, by the next deploy.
    let (other, _, _) = rig.design("blog", 1).await;
    rig.ok(202, "POST", &format!("/infrastructures/{other}/actions/deploy"), Rig::options(false)).await;
    rig.ok(202, "POST", &format!("/infrastructures/{other}/actions/cancel-deploy"), Value::Null).await;
    rig.ok(202, "POST", &format!("/infrastructures/{other}/actions/revert"), Value::Null).await;
    let plan = rig.plan(other, true).await;
    assert_eq!(plan["problems"], json!([]), "{plan}");
    assert!(plan["jobs"].as_array().unwrap().iter().any(|j| j["function"] == "server.clean"), "{plan}");
    rig.deployed(other, true).await;
    let statuses = [rig.server_status(1).await, rig.server_status(2).await, rig.server_status(3).await];
    assert_eq!(statuses.iter().filter(|s| *s == "available").count(), 1, "{statuses:?}");
    let vlans = entity::vlan_allocation::Entity::find().count(&rig.db.read).await.unwrap();
    assert_eq!(vlans, 1);
}

async fn reserved(rig: &Rig, id: i64) -> Vec<Option<i64>> {
    let rows = entity::server_instance::Entity::find()
        .filter(entity::server_instance::Column::InfrastructureId.eq(id))
        .order_by_asc(entity::server_instance::Column::Id)
        .all(&rig.db.read)
        .await
        .unwrap();
    rows.iter().map(|i| i.server_id).collect()
}

/// Live servers: what a cancelled deploy left on switches is undone, what it began to erase is installed anew.
async fn a_cancelled_change_of_live_servers_is_undone(rig: Rig) {
    let (id, group, _) = rig.design("shop", 2).await;
    rig.deployed(id, false).await;
    let body = json!({"label": "storage", "kind": "vlan", "fabricId": 1, "infrastructureId": id});
    let storage = rig.ok(201, "POST", "/logical-networks", body).await["id"].as_i64().unwrap();
    let connections = format!("/server-instance-groups/{group}/config/networking/connections");
    let body = json!({"logicalNetworkId": storage.to_string(), "tagged": true, "accessMode": "l2"});
    rig.ok(201, "POST", &connections, body).await;
    let one = rig.get(&format!("/infrastructures/{id}/server-instances")).await["data"][0]["id"].clone();
    let body = json!({"performAtNextDeploy": true, "reinstallOS": true});
    rig.ok(202, "POST", &format!("/server-instances/{one}/actions/reinstall-os"), body).await;
    for _ in 0..2 {
        rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/deploy"), Rig::options(true)).await;
        rig.drive(id, |j| j.function != "server.start").await;
        rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/cancel-deploy"), Value::Null).await;
    }
    rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/revert"), Value::Null).await;
    assert_eq!(rig.get(&format!("/server-instances/{one}")).await["osReinstallRequired"], 1);
    let plan = rig.plan(id, true).await;
    assert_eq!((&plan["problems"], &plan["impact"]["serversInstalled"]), (&json!([]), &json!(1)), "{plan}");
    let keys = plan["jobs"].to_string();
    assert!(keys.contains("ports/instance-") && keys.contains("vlan-remove/device-"), "{keys}");
    rig.deployed(id, true).await;
    rig.ok(404, "GET", &format!("/logical-networks/{storage}"), Value::Null).await;
    assert_eq!(rig.plan(id, false).await["changes"], json!([]));
    assert_eq!(rig.get(&format!("/server-instances/{one}")).await["osReinstallRequired"], 0);
}

/// A site that could not be reached goes on after the cancel: what it did to a live server is found by the next plan.
async fn what_a_site_did_after_the_cancel_is_not_overlooked(rig: Rig) {
    let (id, group, _) = rig.design("shop", 2).await;
    rig.deployed(id, false).await;
    rig.ok(200, "PATCH", &format!("/server-instance-groups/{group}/config"), json!({"instanceCount": 1})).await;
    rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/deploy"), Rig::options(true)).await;
    let clean = rig.jobs_of(id).await.into_iter().find(|j| j.function == "server.clean").unwrap();
    rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/cancel-deploy"), Value::Null).await;
    rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/revert"), Value::Null).await;
    let quiet = rig.plan(id, true).await;
    assert_eq!(quiet["impact"]["serversInstalled"], 0, "{quiet}");
    rig.report(&clean, JobStatus::ReturnedSuccess, None).await;
    let plan = rig.plan(id, true).await;
    assert_eq!(plan["impact"]["serversInstalled"], 1, "{plan}");
    rig.deployed(id, true).await;
    assert_eq!(rig.plan(id, false).await["changes"], json!([]));
}

on_both! {
    a_reverted_design_is_what_is_deployed,
    a_change_of_what_was_marked_for_deletion_keeps_it,
    a_cancelled_deploy_is_taken_up_by_the_next_plan,
    a_cancelled_change_of_live_servers_is_undone,
    what_a_site_did_after_the_cancel_is_not_overlooked,
}
