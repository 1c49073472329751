//! From a drawn design to jobs, and from the end of the jobs to what is deployed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed preparation is a failed test")]

mod deploy_rig;

use deploy_rig::{Rig, rig};
use sea_orm::{EntityTrait, PaginatorTrait};
use serde_json::json;
use store::entity;

#[tokio::test]
async fn a_design_is_planned_deployed_and_recorded() {
    let rig = rig().await;
    let (id, group, network) = rig.design("shop", 2).await;
    let plan = rig.plan(id, false).await;
    assert_eq!(plan["problems"], json!([]), "{plan:#}");
    assert_eq!(plan["impact"]["serversPoweredOn"], 2);
    assert_eq!(plan["impact"]["otherTenantsAffected"], 0);
    assert!(plan["jobs"].as_array().unwrap().iter().any(|j| j["function"] == "server.install"), "{plan}");
    let ops: Vec<&str> = plan["changes"].as_array().unwrap().iter().map(|c| c["op"].as_str().unwrap()).collect();
    assert!(ops.iter().all(|o| *o == "create"), "{ops:?}");
    let again = rig.get(&format!("/infrastructures/{id}/plans/{}", plan["planId"])).await;
    assert_eq!(again, plan);

    let answer = rig.deploy_plan(id, &plan, false).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!(answer.body["config"]["deployStatus"], "ongoing");
    assert_eq!(answer.body["designIsLocked"], 1);
    assert!(answer.body["statistics"]["jobsTotal"].as_i64().unwrap() > 4);
    // Nothing of the design may change under the deploy, and a plan is deployed once.
    let edit = json!({"instanceCount": 3});
    let path = format!("/server-instance-groups/{group}/config");
    rig.ok(409, "PATCH", &path, edit).await;
    assert_eq!(rig.deploy_plan(id, &plan, false).await.status, 409);
    // Secrets reach the site sealed, and nowhere else.
    let books = std::mem::take(&mut *rig.post.books.lock().unwrap());
    assert_eq!(books.len(), 1);
    let install = books[0].1.jobs.iter().find(|j| j.spec.function == "server.install").unwrap();
    let sealed = model::secret::Sealed(install.spec.payload["spec"]["password"].as_str().unwrap().to_owned());
    let clear = rig.sealer.for_site(1).open(&sealed).unwrap().0;
    let events = format!("{:?}", entity::event::Entity::find().all(&rig.db.read).await.unwrap());
    let plans = format!("{:?}", entity::deploy_plan::Entity::find().all(&rig.db.read).await.unwrap());
    assert!(!events.contains(&clear) && !plans.contains(&clear) && !plans.contains(&sealed.0));

    rig.drive(id, |_| true).await;
    let now = rig.until_finished(id).await;
    assert_eq!((now["serviceStatus"].as_str(), now["designIsLocked"].as_i64()), (Some("active"), Some(0)), "{now}");
    let all = rig.get(&format!("/infrastructures/{id}/server-instances")).await;
    for i in all["data"].as_array().unwrap() {
        assert_eq!((&i["serviceStatus"], &i["config"]["deployStatus"]), (&json!("active"), &json!("finished")), "{i}");
        assert!(i["serverId"].is_i64() && i["hostname"].is_string(), "{i}");
    }
    let net = rig.get(&format!("/logical-networks/{network}")).await;
    assert_eq!(net["vlan"]["vlans"][0]["vlanId"], 100, "{net}");
    assert_eq!(net["ipv4"]["subnets"][0]["networkAddress"], "10.0.0.0");
    assert_eq!(net["serviceStatus"], "active");
    let g = rig.get(&format!("/server-instance-groups/{group}")).await;
    assert_eq!((&g["serviceStatus"], &g["instanceCount"]), (&json!("active"), &json!(2)), "{g}");
    assert_eq!(rig.server_status(1).await, "used");
    let plan = rig.plan(id, false).await;
    assert_eq!((&plan["changes"], &plan["jobs"], &plan["problems"]), (&json!([]), &json!([]), &json!([])), "{plan}");

    // Nothing to do is done at once, without jobs.
    let groups = entity_count(&rig).await;
    let done = rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/deploy"), Rig::options(false)).await;
    assert_eq!(done["config"]["deployStatus"], "finished", "{done}");
    assert_eq!(entity_count(&rig).await, groups);
}

async fn entity_count(rig: &Rig) -> u64 {
    engine::entity::job_group::Entity::find().count(&rig.db.read).await.unwrap()
}
