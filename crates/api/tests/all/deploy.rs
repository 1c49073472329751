//! From a drawn design to jobs, and from the end of the jobs to what is deployed.

use crate::deploy_rig::Rig;
use model::job::JobStatus;
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use store::entity;

async fn a_design_is_planned_deployed_and_recorded(rig: Rig) {
    let (id, group, network) = rig.design("shop", 2).await;
    let plan = rig.plan(id, false).await;
    assert_eq!(plan["problems"], json!([]), "{plan:#}");
    assert_eq!(plan["impact"]["serversPoweredOn"], 2);
    assert_eq!(plan["impact"]["otherTenantsAffected"], 0);
    assert_eq!(plan["warnings"][0]["code"], "site_not_connected", "{plan}");
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

async fn a_plan_of_another_design_is_stale(rig: Rig) {
    let (id, group, _) = rig.design("shop", 1).await;
    let plan = rig.plan(id, false).await;
    rig.ok(200, "PATCH", &format!("/server-instance-groups/{group}/config"), json!({"instanceCount": 2})).await;
    let answer = rig.deploy_plan(id, &plan, false).await;
    assert_eq!(answer.status, 409, "{}", answer.body);
    assert!(answer.body["message"].as_str().unwrap().contains("plan again"), "{}", answer.body);
    // The same when only the site has changed: the server that was shown is not the one that would be taken.
    let plan = rig.plan(id, false).await;
    let row = entity::server::Entity::find_by_id(1).one(&rig.db.read).await.unwrap().unwrap();
    let mut row: entity::server::ActiveModel = row.into();
    row.status = Set("defective".into());
    row.update(&rig.db.write).await.unwrap();
    let answer = rig.deploy_plan(id, &plan, false).await;
    assert_eq!(answer.status, 409, "{}", answer.body);
    untouched(&rig, id).await;
    let plan = rig.plan(id, false).await;
    assert_eq!(rig.deploy_plan(id, &plan, false).await.status, 202);
}

/// Nothing is taken for an infrastructure, and its design can be changed.
async fn untouched(rig: &Rig, id: i64) {
    let of = entity::infrastructure::Entity::find_by_id(id).one(&rig.db.read).await.unwrap().unwrap();
    assert!(!of.locked && of.deploy_id.is_none() && of.deploy_status == "not_started", "{of:?}");
    let instances = entity::server_instance::Entity::find()
        .filter(entity::server_instance::Column::InfrastructureId.eq(id))
        .all(&rig.db.read)
        .await
        .unwrap();
    assert!(
        instances.iter().all(|i| i.server_id.is_none() && i.password.is_none() && i.deploy_status == "not_started")
    );
    let networks = entity::logical_network::Entity::find()
        .filter(entity::logical_network::Column::InfrastructureId.eq(id))
        .all(&rig.db.read)
        .await
        .unwrap();
    for n in networks {
        let vlans = entity::vlan_allocation::Entity::find()
            .filter(entity::vlan_allocation::Column::LogicalNetworkId.eq(n.id))
            .count(&rig.db.read)
            .await
            .unwrap();
        assert_eq!((vlans, n.allocation), (0, json!({})));
    }
    let plans = entity::deploy_plan::Entity::find()
        .filter(entity::deploy_plan::Column::InfrastructureId.eq(id))
        .filter(entity::deploy_plan::Column::Status.eq("accepted"))
        .count(&rig.db.read)
        .await
        .unwrap();
    assert_eq!(plans, 0);
}

async fn what_cannot_be_deployed_names_the_field_and_the_way_out(rig: Rig) {
    let (id, group, network) = rig.design("shop", 4).await;
    let plan = rig.plan(id, false).await;
    let p = &plan["problems"][0];
    assert_eq!((&p["code"], &p["field"]), (&json!("no_free_server"), &json!("instanceCount")), "{plan}");
    assert_eq!(p["object"], json!({"kind": "server_instance_group", "id": group, "label": "web"}));
    assert!(p["fix"].as_str().unwrap().contains("lower the count") && p["patch"]["value"] == 3, "{p}");
    assert!(!plan["changes"].as_array().unwrap().is_empty());
    let answer = rig.deploy_plan(id, &plan, false).await;
    assert_eq!((answer.status.as_u16(), &answer.body["problems"][0]["code"]), (409, &json!("no_free_server")));
    let refused = rig.ok(409, "POST", &format!("/infrastructures/{id}/actions/deploy"), Rig::options(false)).await;
    assert_eq!(refused["problems"][0]["code"], "no_free_server", "{refused}");
    untouched(&rig, id).await;

    // A design without an operating system is told at once.
    rig.ok(
        201,
        "POST",
        &format!("/infrastructures/{id}/server-instance-groups"),
        json!({"label": "db", "defaultServerTypeId": 1}),
    )
    .await;
    let problems = rig.ok(200, "POST", &format!("/infrastructures/{id}/actions/validate"), json!({})).await;
    let fields: Vec<&str> =
        problems["problems"].as_array().unwrap().iter().map(|p| p["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["osTemplateId"], "{problems}");

    // The pool of addresses is a /22.
    let (other, _, _) = rig.design("big", 1).await;
    let wide = json!({
        "label": "wide", "kind": "vlan", "fabricId": 1, "infrastructureId": other,
        "ipv4": {"subnetAllocationStrategies": [{"kind": "auto", "scope": {"kind": "global"}, "prefixLength": 21, "subnetPoolIds": [1]}]},
    });
    rig.ok(201, "POST", "/logical-networks", wide).await;
    let plan = rig.plan(other, false).await;
    let p = &plan["problems"][0];
    assert_eq!((&p["code"], &p["field"]), (&json!("subnet_pool_exhausted"), &json!("ipv4.0")), "{plan}");
    assert!(p["message"].as_str().unwrap().contains("pool"), "{p}");
    // And the fabric has ten VLANs.
    let (full, _, _) = rig.design("many", 1).await;
    for n in 0..10 {
        let body = json!({"label": format!("n{n}"), "kind": "vlan", "fabricId": 1, "infrastructureId": full});
        rig.ok(201, "POST", "/logical-networks", body).await;
    }
    let plan = rig.plan(full, false).await;
    assert_eq!(plan["problems"][0]["code"], "vlan_pool_exhausted", "{plan}");
    assert!(rig.get(&format!("/logical-networks/{network}")).await["ipv4"]["subnets"].as_array().unwrap().is_empty());
}

async fn data_is_lost_only_when_it_is_allowed(rig: Rig) {
    let (id, group, _) = rig.design("shop", 2).await;
    rig.deployed(id, false).await;
    rig.ok(200, "PATCH", &format!("/server-instance-groups/{group}/config"), json!({"instanceCount": 1})).await;
    let plan = rig.plan(id, false).await;
    assert_eq!(plan["problems"][0]["code"], "data_loss_not_allowed", "{plan}");
    let refused = rig.ok(400, "POST", &format!("/infrastructures/{id}/actions/deploy"), Rig::options(false)).await;
    assert_eq!(refused["details"][0]["field"], "allowDataLoss", "{refused}");
    let plan = rig.plan(id, true).await;
    let impact = &plan["impact"];
    assert_eq!(
        (&impact["serversWiped"], &impact["disksErased"], &impact["disksErasedGb"]),
        (&json!(1), &json!(2), &json!(960))
    );
    assert_eq!(impact["addressesReleased"], 1);
    assert_eq!(rig.deploy_plan(id, &plan, true).await.status, 202);
    rig.drive(id, |_| true).await;
    rig.until_finished(id).await;
    let all = rig.get(&format!("/infrastructures/{id}/server-instances")).await;
    assert_eq!(all["data"].as_array().unwrap().len(), 1, "{all}");
    let addresses = entity::ip_allocation::Entity::find().count(&rig.db.read).await.unwrap();
    assert_eq!(addresses, 1);
    let statuses = [rig.server_status(1).await, rig.server_status(2).await];
    assert!(statuses.contains(&"available".to_owned()) && statuses.contains(&"used".to_owned()), "{statuses:?}");

    // Disks that were not erased keep their server out of the pool.
    rig.ok(200, "PATCH", &format!("/server-instance-groups/{group}/config"), json!({"instanceCount": 0})).await;
    rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/deploy"), Rig::options(true)).await;
    rig.drive(id, |j| j.function != "server.clean").await;
    let clean = rig.jobs_of(id).await.into_iter().find(|j| j.function == "server.clean").unwrap();
    rig.report(&clean, JobStatus::Skipped, None).await;
    rig.drive(id, |_| true).await;
    rig.until_finished(id).await;
    assert_eq!(rig.server_status(clean.server_id.unwrap()).await, "cleaning_required");
}

async fn a_deleted_infrastructure_gives_everything_back(rig: Rig) {
    let (draft, _, _) = rig.design("draft", 1).await;
    rig.ok(204, "DELETE", &format!("/infrastructures/{draft}"), Value::Null).await;
    rig.ok(404, "GET", &format!("/infrastructures/{draft}"), Value::Null).await;

    let (id, group, network) = rig.design("shop", 2).await;
    rig.deployed(id, false).await;
    rig.ok(204, "DELETE", &format!("/infrastructures/{id}"), Value::Null).await;
    let now = rig.get(&format!("/infrastructures/{id}")).await;
    assert_eq!((&now["serviceStatus"], &now["config"]["deployType"]), (&json!("active"), &json!("delete")), "{now}");
    let plan = rig.plan(id, true).await;
    assert_eq!(plan["impact"]["serversWiped"], 2, "{plan}");
    let now = rig.deployed(id, true).await;
    assert_eq!(now["serviceStatus"], "deleted", "{now}");
    rig.ok(404, "GET", &format!("/server-instance-groups/{group}"), Value::Null).await;
    rig.ok(404, "GET", &format!("/logical-networks/{network}"), Value::Null).await;
    for n in 1..=3 {
        assert_eq!(rig.server_status(n).await, "available");
    }
    let db = &rig.db.read;
    let left = (
        entity::vlan_allocation::Entity::find().count(db).await.unwrap(),
        entity::ip_allocation::Entity::find().count(db).await.unwrap(),
        entity::subnet::Entity::find().count(db).await.unwrap(),
        entity::server_instance::Entity::find().count(db).await.unwrap(),
        entity::network_connection::Entity::find().count(db).await.unwrap(),
    );
    assert_eq!(left, (0, 0, 1, 0, 0));
    rig.ok(409, "POST", &format!("/infrastructures/{id}/actions/plan"), Rig::options(true)).await;
    // Its name is free again.
    rig.design("shop", 1).await;
}

async fn the_last_server_goes_to_one_of_two(rig: Rig) {
    let (one, _, _) = rig.design("one", 2).await;
    let (two, _, _) = rig.design("two", 2).await;
    let (first, second) = (rig.plan(one, false).await, rig.plan(two, false).await);
    assert_eq!((&first["problems"], &second["problems"]), (&json!([]), &json!([])));
    let answers = tokio::join!(rig.deploy_plan(one, &first, false), rig.deploy_plan(two, &second, false));
    let statuses = [answers.0.status.as_u16(), answers.1.status.as_u16()];
    assert!(statuses == [202, 409] || statuses == [409, 202], "{statuses:?}");
    let (lost, answer, won) = if statuses[0] == 409 { (one, answers.0, two) } else { (two, answers.1, one) };
    assert!(answer.body["message"].as_str().unwrap().contains("stale"), "{}", answer.body);
    untouched(&rig, lost).await;
    assert_eq!(rig.post.books.lock().unwrap().len(), 1);
    rig.drive(won, |_| true).await;
    rig.until_finished(won).await;
    // Its networks are apart from the winner's, once there are servers for it.
    rig.server(4).await;
    let now = rig.deployed(lost, false).await;
    assert_eq!(now["serviceStatus"], "active", "{now}");
    let vlans: Vec<i64> =
        entity::vlan_allocation::Entity::find().all(&rig.db.read).await.unwrap().iter().map(|v| v.vlan).collect();
    assert_eq!(vlans, [100, 101]);
}

async fn a_shared_network_is_taken_once_and_outlives_its_users(rig: Rig) {
    let body = json!({
        "label": "public", "kind": "vlan", "fabricId": 1,
        "ipv4": {"subnetAllocationStrategies": [{"kind": "auto", "scope": {"kind": "global"}, "prefixLength": 27, "subnetPoolIds": []}]},
    });
    let shared = rig.ok(201, "POST", "/logical-networks", body).await["id"].as_i64().unwrap();
    let mut infrastructures = Vec::new();
    for label in ["one", "two"] {
        let (id, group, _) = rig.design(label, 1).await;
        let body = json!({"logicalNetworkId": shared.to_string(), "tagged": true, "accessMode": "l2"});
        rig.ok(201, "POST", &format!("/server-instance-groups/{group}/config/networking/connections"), body).await;
        rig.deployed(id, false).await;
        infrastructures.push(id);
    }
    let now = rig.get(&format!("/logical-networks/{shared}")).await;
    assert_eq!(now["vlan"]["vlans"].as_array().unwrap().len(), 1, "{now}");
    let rows = entity::ip_allocation::Entity::find()
        .filter(entity::ip_allocation::Column::LogicalNetworkId.eq(shared))
        .all(&rig.db.read)
        .await
        .unwrap();
    assert_eq!(rows.len(), 2);
    assert_ne!(rows[0].address, rows[1].address);
    let path = format!("/logical-networks/{shared}");
    let revision = now["revision"].as_i64();
    assert_eq!(rig.send(&rig.admin, "DELETE", &path, revision, None).await.status, 409);
    for id in infrastructures {
        rig.ok(204, "DELETE", &format!("/infrastructures/{id}"), Value::Null).await;
        rig.deployed(id, true).await;
        let now = rig.get(&path).await;
        assert_eq!(
            (&now["serviceStatus"], &now["vlan"]["vlans"][0]["status"]),
            (&json!("active"), &json!("allocated"))
        );
    }
    let revision = rig.get(&path).await["revision"].as_i64();
    assert_eq!(rig.send(&rig.admin, "DELETE", &path, revision, None).await.status, 204);
    assert_eq!(entity::vlan_allocation::Entity::find().count(&rig.db.read).await.unwrap(), 0);
}

/// A VLAN and a subnet chosen by hand, a pool with a denied part, two cables.
async fn what_is_chosen_by_hand_is_what_is_taken(rig: Rig) {
    let denied = json!([{"startAddress": "10.0.0.0", "endAddress": "10.0.0.255"}]);
    let revision = rig.get("/subnets/1").await["revision"].as_i64();
    let answer =
        rig.send(&rig.admin, "PATCH", "/subnets/1", revision, Some(json!({"allocationDenylist": denied}))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body = json!({
        "label": "office", "networkAddress": "10.0.2.0", "prefixLength": 24, "parentSubnetId": 1, "isPool": false, "defaultGatewayAddress": "10.0.2.254",
    });
    let office = rig.ok(201, "POST", "/subnets", body).await["id"].as_i64().unwrap();
    let named = |infrastructure: i64, label: &str, vlan: i64, subnet: i64| {
        json!({
            "label": label, "kind": "vlan", "fabricId": 1, "infrastructureId": infrastructure,
            "vlan": {"vlanAllocationStrategies": [{"kind": "manual", "scope": {"kind": "global"}, "vlanId": vlan}]},
            "ipv4": {"subnetAllocationStrategies": [{"kind": "manual", "scope": {"kind": "global"}, "subnetId": subnet}]},
        })
    };
    let (id, group, network) = rig.design("shop", 2).await;
    let refused = rig.ok(400, "POST", "/logical-networks", named(id, "bad", 107, 1)).await;
    assert_eq!(refused["details"][0]["field"], "ipv4.subnetAllocationStrategies[0].subnetId", "{refused}");
    let hand = rig.ok(201, "POST", "/logical-networks", named(id, "hand", 107, office)).await["id"].as_i64().unwrap();
    let connections = format!("/server-instance-groups/{group}/config/networking/connections");
    let body = json!({
        "logicalNetworkId": hand.to_string(), "tagged": true, "accessMode": "l2", "mtu": 9000, "providesDefaultRoute": true,
        "redundancy": {"mode": "active-backup"},
    });
    rig.ok(201, "POST", &connections, body).await;
    // Another design that names the same is told, and takes neither.
    let (other, _, _) = rig.design("blog", 1).await;
    rig.ok(201, "POST", "/logical-networks", named(other, "hand", 107, office)).await;
    rig.deployed(id, false).await;
    let plan = rig.plan(other, false).await;
    let codes: Vec<&str> = plan["problems"].as_array().unwrap().iter().map(|p| p["code"].as_str().unwrap()).collect();
    assert!(codes.contains(&"vlan_in_use"), "{plan}");
    let refused = rig.ok(400, "POST", "/logical-networks", named(other, "again", 108, office)).await;
    assert!(refused["message"].as_str().unwrap().contains("is used by network"), "{refused}");

    let auto = rig.get(&format!("/logical-networks/{network}")).await;
    assert_eq!(auto["ipv4"]["subnets"][0]["networkAddress"], "10.0.1.0", "{auto}");
    let now = rig.get(&format!("/logical-networks/{hand}")).await;
    assert_eq!(
        (&now["vlan"]["vlans"][0]["vlanId"], &now["ipv4"]["subnets"][0]["gateway"]),
        (&json!(107), &json!("10.0.2.254"))
    );
    let i = rig.get(&format!("/infrastructures/{id}/server-instances")).await["data"][0].clone();
    let config = &i["allocatedNetworkConfig"];
    assert_eq!(config["bondNetworkConfigs"]["bond0"]["interfaces"], json!(["nic0", "nic1"]), "{config}");
    let tagged = &config["trunkNetworkConfigs"]["bond0.107"];
    assert_eq!(
        (&tagged["addresses"][0], &tagged["routes"][0]["via"]),
        (&json!("10.0.2.1/24"), &json!("10.0.2.254")),
        "{config}"
    );
    let held = rig.get(&format!("/subnets/{office}/ips")).await;
    assert_eq!(held["meta"]["totalItems"], 2, "{held}");

    rig.ok(204, "DELETE", &format!("{connections}/{hand}"), Value::Null).await;
    let path = format!("/logical-networks/{hand}");
    let revision = rig.get(&path).await["revision"].as_i64();
    assert_eq!(rig.send(&rig.admin, "DELETE", &path, revision, None).await.status, 204);
    rig.deployed(id, false).await;
    // The subnet was there before the network, and is there after it.
    let row = entity::subnet::Entity::find_by_id(office).one(&rig.db.read).await.unwrap().unwrap();
    assert_eq!(row.logical_network_id, None);
    assert_eq!(rig.plan(other, false).await["problems"], json!([]));
}

/// A live network gets another VLAN and a second subnet; what it had is given back at the end, not before.
async fn strategies_of_a_live_network_change(rig: Rig) {
    let (id, _, network) = rig.design("shop", 2).await;
    rig.deployed(id, false).await;
    let path = format!("/logical-networks/{network}");
    let revision = async || rig.get(&path).await["revision"].as_i64();
    let strategies = format!("{path}/config/vlan/vlan-allocation-strategies");
    let body = json!({"kind": "manual", "scope": {"kind": "global"}, "vlanId": 5000});
    let answer = rig.send(&rig.admin, "POST", &strategies, revision().await, Some(body)).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body["details"][0]["field"]),
        (400, &json!("vlanId")),
        "{}",
        answer.body
    );
    let body = json!({"kind": "manual", "scope": {"kind": "global"}, "vlanId": 105});
    let made = rig.send(&rig.admin, "POST", &strategies, revision().await, Some(body.clone())).await;
    assert_eq!((made.status.as_u16(), &made.body["id"]), (201, &json!(1)), "{}", made.body);
    assert_eq!(rig.send(&rig.admin, "POST", &strategies, revision().await, Some(body)).await.status, 409);
    let subnets = format!("{path}/config/ipv4/subnet-allocation-strategies");
    let body = json!({"kind": "auto", "scope": {"kind": "global"}, "prefixLength": 29, "subnetPoolIds": [1]});
    let made = rig.send(&rig.admin, "POST", &subnets, revision().await, Some(body.clone())).await;
    assert_eq!((made.status.as_u16(), &made.body["id"]), (201, &json!(2)), "{}", made.body);
    assert_eq!(rig.send(&rig.admin, "PUT", &format!("{subnets}/2"), Some(1), Some(body.clone())).await.status, 412);
    assert_eq!(rig.send(&rig.admin, "PUT", &format!("{subnets}/2"), revision().await, Some(body)).await.status, 200);
    assert_eq!(rig.get(&subnets).await["meta"]["totalItems"], 2);
    rig.ok(404, "GET", &format!("{subnets}/3"), Value::Null).await;

    rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/deploy"), Rig::options(false)).await;
    let vlans = async || {
        let rows = entity::vlan_allocation::Entity::find().order_by_asc(entity::vlan_allocation::Column::Vlan);
        rows.all(&rig.db.read).await.unwrap().iter().map(|v| v.vlan).collect::<Vec<_>>()
    };
    assert_eq!(vlans().await, [100, 105]);
    rig.drive(id, |_| true).await;
    rig.until_finished(id).await;
    assert_eq!(vlans().await, [105]);
    let now = rig.get(&path).await;
    assert_eq!(
        (&now["vlan"]["vlans"][0]["vlanId"], &now["vlan"]["vlans"][0]["status"]),
        (&json!(105), &json!("allocated"))
    );
    assert_eq!(now["ipv4"]["subnets"].as_array().unwrap().len(), 2, "{now}");
    assert_eq!(rig.plan(id, false).await["changes"], json!([]));
    // The subnet that is not used by any server goes again.
    assert_eq!(rig.send(&rig.admin, "DELETE", &format!("{subnets}/2"), revision().await, None).await.status, 204);
    rig.deployed(id, false).await;
    assert_eq!(entity::subnet::Entity::find().count(&rig.db.read).await.unwrap(), 2);
    assert_eq!(rig.plan(id, false).await["changes"], json!([]));
}

on_both! {
    strategies_of_a_live_network_change,
    what_is_chosen_by_hand_is_what_is_taken,
    a_design_is_planned_deployed_and_recorded,
    a_plan_of_another_design_is_stale,
    what_cannot_be_deployed_names_the_field_and_the_way_out,
    data_is_lost_only_when_it_is_allowed,
    a_deleted_infrastructure_gives_everything_back,
    the_last_server_goes_to_one_of_two,
    a_shared_network_is_taken_once_and_outlives_its_users,
}
