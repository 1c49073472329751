//! A fabric whose network is done outside: servers without known cables are deployed, no switch is touched, and the address of the plan is
//! the one that DHCP gives and that the seed says.

use crate::deploy_rig::Rig;
use model::snapshot::{Fact, SiteServer};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};
use serde_json::{Value, json};
use store::entity;

const CONFIGURATION: &str = "fabricConfiguration";

/// An unmanaged fabric with a flat network: the subnet in which the site's DHCP serves machines that boot.
async fn flat(rig: &Rig, count: i64) -> (i64, i64) {
    entity::server_interface::Entity::update_many()
        .col_expr(entity::server_interface::Column::NetworkDeviceId, Expr::val(None::<i64>))
        .col_expr(entity::server_interface::Column::NetworkDevicePort, Expr::val(None::<String>))
        .exec(&rig.db.write)
        .await
        .unwrap();
    let outside = json!({"fabricType": "ethernet", "serverOnlyOperationEnabled": true, "vlanRanges": ["700-709"]});
    let fabric = json!({"siteId": 1, "name": "campus", CONFIGURATION: outside});
    let fabric = rig.ok(201, "POST", "/network-fabrics", fabric).await;
    let subnet = json!({
        "label": "flat", "networkAddress": "10.77.0.0", "prefixLength": 24, "isPool": false, "defaultGatewayAddress": "10.77.0.1",
        "tags": {"dhcp-site": "1"}, "annotations": {"dhcp-first": "10.77.0.128", "dhcp-last": "10.77.0.254"},
        "allocationDenylist": [{"startAddress": "10.77.0.1", "endAddress": "10.77.0.9"}],
    });
    let subnet = rig.ok(201, "POST", "/subnets", subnet).await;
    let infrastructure = rig.ok(201, "POST", "/infrastructures", json!({"label": "shop", "siteId": 1})).await;
    let id = infrastructure["id"].as_i64().unwrap();
    let strategy = json!({"kind": "manual", "scope": {"kind": "global"}, "subnetId": subnet["id"]});
    let network = json!({
        "label": "lan", "kind": "vlan", "fabricId": fabric["id"].as_str().unwrap().parse::<i64>().unwrap(), "infrastructureId": id,
        "ipv4": {"subnetAllocationStrategies": [strategy]},
    });
    let network = rig.ok(201, "POST", "/logical-networks", network).await["id"].as_i64().unwrap();
    let group = json!({"label": "web", "instanceCount": count, "defaultServerTypeId": 1, "osTemplateId": 1});
    let path = format!("/infrastructures/{id}/server-instance-groups");
    let group = rig.ok(201, "POST", &path, group).await["id"].as_i64().unwrap();
    let connection = json!({
        "logicalNetworkId": network.to_string(), "tagged": false, "accessMode": "l2", "mtu": 1500, "providesDefaultRoute": true,
    });
    let path = format!("/server-instance-groups/{group}/config/networking/connections");
    rig.ok(201, "POST", &path, connection).await;
    (id, group)
}

async fn told(rig: &Rig, server: i64) -> SiteServer {
    let row = entity::site_snapshot_item::Entity::find()
        .filter(entity::site_snapshot_item::Column::ItemKey.eq(format!("server/{server}")))
        .one(&rig.db.read)
        .await
        .unwrap()
        .unwrap();
    match serde_json::from_value(row.value).unwrap() {
        Fact::Server(server) => server,
        other => panic!("{other:?}"),
    }
}

async fn servers_without_known_cables_are_deployed(rig: Rig) {
    let (id, group) = flat(&rig, 2).await;
    let plan = rig.plan(id, false).await;
    assert_eq!(plan["problems"], json!([]), "{plan:#}");
    let functions: Vec<&str> =
        plan["jobs"].as_array().unwrap().iter().map(|j| j["function"].as_str().unwrap()).collect();
    assert!(!functions.contains(&"switch.apply") && functions.contains(&"server.install"), "{functions:?}");
    assert_eq!(plan["impact"]["switchPorts"], 0);
    let connection = plan["allocations"].as_array().unwrap().iter().find(|a| a["kind"] == "connection").unwrap();
    assert_eq!((&connection["interface"], &connection["networkDeviceId"]), (&json!("eno1"), &Value::Null), "{plan:#}");

    assert_eq!(rig.deploy_plan(id, &plan, false).await.status, 202);
    let books = std::mem::take(&mut *rig.post.books.lock().unwrap());
    let installs: Vec<_> = books[0].1.jobs.iter().filter(|j| j.spec.function == "server.install").collect();
    assert_eq!(installs.len(), 2);
    for (install, expected) in installs.iter().zip(["10.77.0.10", "10.77.0.11"]) {
        let nic = &install.spec.payload["spec"]["network_config"]["ethernets"]["nic0"];
        assert_eq!(nic["addresses"], json!([format!("{expected}/24")]));
        assert_eq!(nic["routes"][0]["via"], "10.77.0.1");
        let server = told(&rig, install.spec.payload["server_id"].as_i64().unwrap()).await;
        assert_eq!(server.reservations.len(), 1, "{server:?}");
        let reserved = &server.reservations[0];
        assert_eq!(reserved.address.to_string(), expected);
        assert_eq!(nic["match"]["macaddress"], reserved.mac.as_str());
        assert_eq!(reserved.gateway.unwrap().to_string(), "10.77.0.1");
    }
    rig.drive(id, |_| true).await;
    rig.until_finished(id).await;
    let all = rig.get(&format!("/infrastructures/{id}/server-instances")).await;
    let text = all.to_string();
    assert!(text.contains("10.77.0.10") && text.contains("10.77.0.11"), "{all:#}");
    let plan = rig.plan(id, false).await;
    assert_eq!((&plan["changes"], &plan["problems"]), (&json!([]), &json!([])), "{plan}");

    // Given back, a server has no address of its own any more.
    rig.ok(200, "PATCH", &format!("/server-instance-groups/{group}/config"), json!({"instanceCount": 1})).await;
    rig.deployed(id, true).await;
    let (one, two) = (told(&rig, 1).await, told(&rig, 2).await);
    assert_eq!((one.reservations.len(), two.reservations.len()), (1, 0));
    assert!(one.in_use && !two.in_use);
}

async fn what_is_missing_is_said_in_words(rig: Rig) {
    let (id, _) = flat(&rig, 1).await;
    // All interfaces lead to switches of a managed fabric.
    for interface in entity::server_interface::Entity::find().all(&rig.db.read).await.unwrap() {
        let port = format!("swp{}", interface.server_id);
        entity::server_interface::Entity::update_many()
            .col_expr(entity::server_interface::Column::NetworkDeviceId, Expr::val(Some(interface.position)))
            .col_expr(entity::server_interface::Column::NetworkDevicePort, Expr::val(Some(port)))
            .filter(entity::server_interface::Column::Id.eq(interface.id))
            .exec(&rig.db.write)
            .await
            .unwrap();
    }
    let plan = rig.plan(id, false).await;
    assert_eq!(plan["problems"][0]["code"], "not_enough_nics", "{plan:#}");
    let words = plan["problems"][0]["message"].as_str().unwrap();
    assert!(words.contains("not cabled to a managed switch") && words.contains("SN1"), "{words}");

    // What is in a fabric decides whether its switches are ours.
    let path = "/network-fabrics/2";
    let managed = json!({CONFIGURATION: {"fabricType": "ethernet", "serverOnlyOperationEnabled": false}});
    let refused = rig.ok(400, "PATCH", path, managed).await;
    assert!(refused.to_string().contains("delete them first"), "{refused}");
    let ranges = json!({"fabricType": "ethernet", "serverOnlyOperationEnabled": true, "vlanRanges": ["720-729"]});
    rig.ok(200, "PATCH", path, json!({CONFIGURATION: ranges})).await;
}

macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        /// Each on SQLite and on PostgreSQL.
        mod on {
            $(#[tokio::test]
            async fn $name() {
                crate::testing::both(|db| async { super::$name(crate::deploy_rig::rig(db).await).await }).await;
            })*
        }
    };
}
on_both! { servers_without_known_cables_are_deployed, what_is_missing_is_said_in_words }
