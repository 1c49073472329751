//! Networks of InfiniBand: partition keys, who is in which partition, and a fabric that is done outside.

use crate::deploy_rig::Rig;
use model::infiniband::IbPartition;
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use serde_json::{Value, json};
use store::entity;

/// A fabric of InfiniBand, and an adapter in some servers.
async fn fabric(rig: &Rig, name: &str, unmanaged: bool, servers: &[i64]) -> i64 {
    let configuration = json!({
        "fabricType": "infiniband", "serverOnlyOperationEnabled": unmanaged, "pkeyRanges": ["0x0010-0x0012"], "reservedPkeys": ["17"],
    });
    let body = json!({"siteId": 1, "name": name, "fabricConfiguration": configuration});
    let made = rig.ok(201, "POST", "/network-fabrics", body).await;
    for server in servers {
        let mut row = entity::server_interface::new();
        row.server_id = Set(*server);
        row.position = Set(3);
        row.name = Set("ib0".into());
        row.guid = Set(Some(format!("98039b0300a1b2c{server}")));
        row.mac = Set(model::infiniband::mac_of(&format!("98039b0300a1b2c{server}")).unwrap());
        row.speed_mbps = Set(400_000);
        row.insert(&rig.db.write).await.unwrap();
    }
    made["id"].as_str().unwrap().parse().unwrap()
}

async fn network(rig: &Rig, infrastructure: i64, fabric: i64, label: &str, pkey: Value) -> Value {
    let mut body =
        json!({"label": label, "kind": "infiniband", "fabricId": fabric, "infrastructureId": infrastructure});
    if !pkey.is_null() {
        let strategy = json!({"kind": "manual", "scope": {"kind": "fabric", "resourceId": fabric}, "pkey": pkey});
        body["pkey"] = json!({"pkeyAllocationStrategies": [strategy]});
    }
    let answer = rig.send(&rig.admin, "POST", "/logical-networks", None, Some(body)).await;
    assert!(answer.status == 201 || answer.status == 400, "{}", answer.body);
    answer.body
}

async fn connect(rig: &Rig, group: i64, network: &Value, membership: Value) -> u16 {
    let mut body = json!({"logicalNetworkId": network["id"].to_string(), "tagged": false, "accessMode": "l2"});
    if !membership.is_null() {
        body["membership"] = membership;
    }
    let path = format!("/server-instance-groups/{group}/config/networking/connections");
    rig.send(&rig.admin, "POST", &path, None, Some(body)).await.status.as_u16()
}

async fn a_fabric_that_is_done_outside(rig: Rig) {
    let ib = fabric(&rig, "ib", true, &[2, 3]).await;
    let bad = json!({"siteId": 1, "name": "x", "fabricConfiguration": {"fabricType": "infiniband", "pkeyRanges": ["0x8000-0x8001"]}});
    let bad = rig.send(&rig.admin, "POST", "/network-fabrics", None, Some(bad)).await;
    assert_eq!(bad.body["details"][0]["field"], "fabricConfiguration.pkeyRanges[0]", "{}", bad.body);
    let (id, group, lan) = rig.design("shop", 1).await;
    for (kind, of, field) in [("infiniband", 1, "fabricId"), ("vlan", ib, "fabricId"), ("fibre_channel", ib, "kind")] {
        let body = json!({"label": "x", "kind": kind, "fabricId": of, "infrastructureId": id});
        let answer = rig.send(&rig.admin, "POST", "/logical-networks", None, Some(body)).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body["details"][0]["field"]),
            (400, &json!(field)),
            "{}",
            answer.body
        );
    }
    let refused = network(&rig, id, ib, "bad", json!(0x7fff)).await;
    assert_eq!(refused["details"][0]["field"], "pkey.pkeyAllocationStrategies[0].pkey", "{refused}");
    let compute = network(&rig, id, ib, "compute", Value::Null).await;
    assert_eq!(compute["pkey"], json!({"pkeyAllocationStrategies": [], "pkeys": []}));
    assert_eq!(connect(&rig, group, &compute, json!("half")).await, 400);
    // Untagged beside an untagged network of Ethernet: partitions have ports of their own.
    assert_eq!(connect(&rig, group, &compute, json!("limited")).await, 201);
    let other = json!({"membership": "full"});
    let path = format!("/server-instance-groups/{group}/config/networking/connections");
    let lan_path = format!("{path}/{lan}");
    assert_eq!(rig.send(&rig.admin, "PATCH", &lan_path, None, Some(other)).await.status, 400);
    assert_eq!(rig.get(&format!("{path}/{}", compute["id"])).await["membership"], "limited");

    let plan = rig.plan(id, false).await;
    let takes = plan["allocations"].as_array().unwrap();
    assert!(takes.contains(&json!({"kind": "pkey", "logicalNetworkId": compute["id"], "pkey": 16})), "{plan}");
    let server = takes.iter().find_map(|a| a["serverId"].as_i64()).unwrap();
    assert!([2, 3].contains(&server), "a server with an adapter: {plan}");
    let members = json!([{"guid": format!("98039b0300a1b2c{server}"), "membership": "limited"}]);
    assert_eq!(
        (&plan["partitions"][0]["add"], &plan["partitions"][0]["unmanaged"]),
        (&members, &json!(true)),
        "{plan}"
    );
    rig.deployed(id, false).await;
    assert!(rig.jobs_of(id).await.iter().all(|j| j.function != "infiniband.partition"), "nothing is done there");
    let now = rig.get(&format!("/logical-networks/{}", compute["id"])).await;
    assert_eq!(
        (&now["pkey"]["pkeys"][0]["pkey"], &now["pkey"]["pkeys"][0]["status"]),
        (&json!(16), &json!("allocated")),
        "{now}"
    );
    assert_eq!(rig.plan(id, false).await["changes"], json!([]));

    // Another infrastructure: the next key, past the reserved one; what is taken is refused, and the index keeps them apart.
    let (second, _, _) = rig.design("lab", 1).await;
    let storage = network(&rig, second, ib, "storage", json!(16)).await;
    assert_eq!(rig.plan(second, false).await["problems"][0]["code"], "pkey_in_use");
    let path = format!("/logical-networks/{}", storage["id"]);
    let revision = rig.get(&path).await["revision"].as_i64();
    assert_eq!(rig.send(&rig.admin, "DELETE", &path, revision, None).await.status, 204);
    let free = network(&rig, second, ib, "free", Value::Null).await;
    let plan = rig.plan(second, false).await;
    let pkey = json!({"kind": "pkey", "logicalNetworkId": free["id"], "pkey": 18});
    assert!(plan["allocations"].as_array().unwrap().contains(&pkey), "{plan}");
    let mut row = entity::pkey_allocation::new();
    row.fabric_id = Set(ib);
    row.pkey = Set(18);
    row.logical_network_id = Set(99);
    row.insert(&rig.db.write).await.unwrap();
    let lost = rig.deploy_plan(second, &plan, false).await;
    assert_eq!(lost.status, 409, "somebody else took it meanwhile: {}", lost.body);

    // What goes gives its key back.
    rig.ok(204, "DELETE", &format!("/infrastructures/{id}"), Value::Null).await;
    rig.deployed(id, true).await;
    let left = entity::pkey_allocation::Entity::find().filter(entity::pkey_allocation::Column::Pkey.eq(16));
    assert_eq!(left.count(&rig.db.read).await.unwrap(), 0);
}

async fn a_managed_fabric_is_told(rig: Rig) {
    let ib = fabric(&rig, "ib", false, &[1, 2, 3]).await;
    let (id, group, _) = rig.design("shop", 2).await;
    let compute = network(&rig, id, ib, "compute", json!(18)).await;
    assert_eq!(connect(&rig, group, &compute, Value::Null).await, 201);
    rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/deploy"), Rig::options(false)).await;
    let jobs = rig.jobs_of(id).await;
    let job = jobs.iter().find(|j| j.function == "infiniband.partition").unwrap();
    let order: IbPartition = serde_json::from_value(job.payload.clone()).unwrap();
    assert_eq!((order.pkey, order.fabric_id, order.add.len(), order.delete), (18, ib, 2, false));
    let install = jobs.iter().find(|j| j.function == "server.install").unwrap();
    assert!(install.blocked_by > 0, "what is installed finds its partition there");
    rig.drive(id, |_| true).await;
    rig.until_finished(id).await;

    // Strategies one by one, with the revision.
    let strategies = format!("/logical-networks/{}/config/pkey/pkey-allocation-strategies", compute["id"]);
    assert_eq!(rig.get(&strategies).await["data"][0]["pkey"], 18);
    let one = format!("{strategies}/1");
    let other = json!({"kind": "manual", "scope": {"kind": "fabric", "resourceId": ib}, "pkey": 16});
    assert_eq!(rig.send(&rig.admin, "PUT", &one, None, Some(other.clone())).await.status, 428);
    let revision = rig.get(&format!("/logical-networks/{}", compute["id"])).await["revision"].as_i64();
    assert_eq!(rig.send(&rig.admin, "PUT", &one, revision, Some(other)).await.status, 200);
    assert_eq!(
        rig.plan(id, false).await["problems"][0]["code"],
        "pkey_in_use",
        "a key cannot change under those who use it"
    );
    rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/revert"), Value::Null).await;
    assert_eq!(rig.get(&strategies).await["data"][0]["pkey"], 18);
    let vlan = strategies.replace("pkey/pkey-", "vlan/vlan-");
    let revision = rig.get(&format!("/logical-networks/{}", compute["id"])).await["revision"].as_i64();
    let strategy = json!({"kind": "auto", "scope": {"kind": "global", "resourceId": 0}, "granularityLevel": "fabric"});
    assert_eq!(rig.send(&rig.admin, "POST", &vlan, revision, Some(strategy)).await.status, 409, "it has no VLAN");
}

on_both!(a_fabric_that_is_done_outside, a_managed_fabric_is_told);
