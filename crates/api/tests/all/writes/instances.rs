//! Groups of servers and their instances, designed and deployed.

use super::{Table, id};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use store::entity;

pub async fn run(t: &Table) {
    // Servers of the other parts have their own stories.
    for n in 21..=23 {
        t.rig.server(n).await;
    }
    let (design, group, network) = t.rig.design("shop", 1).await;
    let base = format!("/infrastructures/{design}");
    let body = |label: &str| json!({"label": label, "instanceCount": 1, "defaultServerTypeId": 1, "osTemplateId": 1});
    let all = format!("{base}/server-instance-groups");
    let db = t.write("createServerInstanceGroup", &all, body("db")).await;
    t.conflict("createServerInstanceGroup", &all, body("db"), "already").await;
    let of = |v: i64, what: &str| format!("/server-instance-groups/{v}{what}");
    t.write("updateServerInstanceGroupConfig", &of(id(&db), "/config"), json!({"instanceCount": 2})).await;
    t.conflict("updateServerInstanceGroupConfig", &of(id(&db), "/config"), json!({"label": "web"}), "already").await;
    t.write("updateServerInstanceGroupMeta", &of(id(&db), "/meta"), json!({"tags": ["prod"]})).await;
    assert_eq!(t.get(&of(id(&db), "")).await["meta"]["tags"], json!(["prod"]));
    t.write(
        "updateServerInstanceGroupNetworkConfiguration",
        &of(id(&db), "/config/networking"),
        json!({"name": "db net"}),
    )
    .await;

    let one = t.write("createServerInstance", &format!("{base}/server-instances"), json!({"groupId": id(&db)})).await;
    let instance = |v: i64, what: &str| format!("/server-instances/{v}{what}");
    t.write("updateServerInstanceConfig", &instance(id(&one), "/config"), json!({"label": "primary"})).await;
    t.write("updateServerInstanceMeta", &instance(id(&one), "/meta"), json!({"tags": ["first"]})).await;
    assert_eq!(t.get(&instance(id(&one), "")).await["meta"]["tags"], json!(["first"]));
    for (op, action, body) in [
        ("setPowerToServerInstance", "/actions/power-set", json!({"powerCommand": "on"})),
        ("resetServerInstance", "/actions/reset", Value::Null),
        (
            "reinstallServerInstanceOS",
            "/actions/reinstall-os",
            json!({"performAtNextDeploy": true, "reinstallOS": true}),
        ),
        ("replaceServerInstance", "/actions/replace", json!({"reason": "it burns"})),
    ] {
        t.conflict(op, &instance(id(&one), action), body, "not deployed").await;
    }
    t.refuses("createServerInstanceConsole", &instance(id(&one), "/console"), json!({"kind": "serial"})).await;
    t.conflict(
        "createServerInstanceConsole",
        &instance(id(&one), "/console"),
        json!({"kind": "serial"}),
        "not deployed",
    )
    .await;
    t.write("deleteServerInstance", &instance(id(&one), ""), Value::Null).await;

    connections(t, id(&db), network).await;
    t.write("deleteServerInstanceGroup", &of(id(&db), ""), Value::Null).await;
    t.conflict("startServerInstanceGroup", &of(group, "/actions/start"), Value::Null, "not deployed yet").await;
    t.conflict("stopServerInstanceGroup", &of(group, "/actions/stop"), Value::Null, "not deployed yet").await;
    t.conflict("suspendServerInstanceGroup", &of(group, "/actions/suspend"), Value::Null, "not deployed yet").await;

    t.rig.deployed(design, false).await;
    let one = entity::server_instance::Entity::find()
        .filter(entity::server_instance::Column::GroupId.eq(group))
        .order_by_asc(entity::server_instance::Column::Id)
        .one(&t.rig.db.read)
        .await
        .unwrap()
        .unwrap()
        .id;
    t.write("stopServerInstanceGroup", &of(group, "/actions/stop"), Value::Null).await;
    t.write("startServerInstanceGroup", &of(group, "/actions/start"), Value::Null).await;
    t.write("suspendServerInstanceGroup", &of(group, "/actions/suspend"), Value::Null).await;
    t.again("startServerInstanceGroup", &of(group, "/actions/start"), Value::Null).await;
    t.write("setPowerToServerInstance", &instance(one, "/actions/power-set"), json!({"powerCommand": "on"})).await;
    t.write("getPowerFromServerInstance", &instance(one, "/actions/power-get"), Value::Null).await;
    t.write("resetServerInstance", &instance(one, "/actions/reset"), Value::Null).await;
    t.write("getPowerStatusBatch", &format!("{base}/actions/power-get"), json!([one.to_string()])).await;
    let batch = json!({"instances": [one.to_string()], "powerCommand": "off"});
    t.write("setPowerStatusBatch", &format!("{base}/actions/power-set"), batch.clone()).await;

    let interfaces = t.get(&instance(one, "/interfaces")).await;
    let (a, b) = (id(&interfaces["data"][0]), id(&interfaces["data"][1]));
    let label = |n: i64| instance(one, &format!("/interfaces/{n}/config"));
    t.write("updateServerInstanceInterfaceConfig", &label(a), json!({"label": "uplink"})).await;
    t.conflict("updateServerInstanceInterfaceConfig", &label(b), json!({"label": "uplink"}), "already").await;
    assert_eq!(t.get(&instance(one, &format!("/interfaces/{a}"))).await["label"], "uplink");
    for what in ["/variables", "/os-installation-data"] {
        let all = t.get(&instance(one, what)).await;
        assert_eq!(all["serverInstance"]["id"], one, "{all}");
        assert!(all["server"]["serverId"].as_i64().unwrap() > 0 && !all.to_string().contains("calvin"), "{all}");
    }

    t.write(
        "reinstallServerInstanceOS",
        &instance(one, "/actions/reinstall-os"),
        json!({"performAtNextDeploy": true, "reinstallOS": true}),
    )
    .await;
    t.write("replaceServerInstance", &instance(one, "/actions/replace"), json!({"reason": "it burns"})).await;
    t.again("replaceServerInstance", &instance(one, "/actions/replace"), json!({"cancel": true})).await;

    // While a deploy goes on the design is locked.
    t.rig.ok(202, "POST", &format!("{base}/actions/deploy"), crate::deploy_rig::Rig::options(true)).await;
    t.conflict("setPowerStatusBatch", &format!("{base}/actions/power-set"), batch, "is being deployed").await;
    t.conflict("createServerInstance", &format!("{base}/server-instances"), json!({"groupId": group}), "locked").await;
    t.conflict("deleteServerInstance", &instance(one, ""), Value::Null, "locked").await;
    t.conflict("updateServerInstanceConfig", &instance(one, "/config"), json!({"label": "x"}), "locked").await;
    t.conflict("deleteServerInstanceGroup", &of(group, ""), Value::Null, "locked").await;
    let connection = of(group, &format!("/config/networking/connections/{network}"));
    t.conflict("updateServerInstanceGroupNetworkConfigurationConnection", &connection, json!({"mtu": 9000}), "locked")
        .await;
    t.conflict("deleteServerInstanceGroupNetworkConfigurationConnection", &connection, Value::Null, "locked").await;
    t.rig.drive(design, |_| true).await;
    t.rig.until_finished(design).await;
    let rule = json!({"ruleType": "ipv4", "direction": "in", "sequence": 1, "forwardingAction": "allow", "enforcementPoint": "svi"});
    t.again("createServerInstanceGroupLogicalNetworkACL", &format!("{connection}/security/rules"), rule).await;
}

async fn connections(t: &Table, group: i64, network: i64) {
    let all = format!("/server-instance-groups/{group}/config/networking/connections");
    let body = json!({"logicalNetworkId": network.to_string(), "tagged": true, "accessMode": "l2", "mtu": 1500});
    t.write("createServerInstanceGroupNetworkConfigurationConnection", &all, body.clone()).await;
    t.conflict("createServerInstanceGroupNetworkConfigurationConnection", &all, body, "already").await;
    let one = format!("{all}/{network}");
    t.write("updateServerInstanceGroupNetworkConfigurationConnection", &one, json!({"mtu": 9000})).await;

    let rules = format!("{one}/security/rules");
    let rule = |sequence: i64| {
        json!({
            "ruleType": "ipv4", "direction": "in", "sequence": sequence, "forwardingAction": "allow", "networkProtocol": "tcp", "sourceAddress": "10.0.0.0/8",
            "destinationPort": "443", "enforcementPoint": "svi",
        })
    };
    assert_eq!(t.get(&rules).await["data"], json!([]));
    let made = t.write("createServerInstanceGroupLogicalNetworkACL", &rules, rule(10)).await;
    t.conflict("createServerInstanceGroupLogicalNetworkACL", &rules, rule(10), "already").await;
    t.again("createServerInstanceGroupLogicalNetworkACL", &rules, rule(20)).await;
    for (field, value) in [
        ("sourceAddress", json!("fe80::/10")),
        ("sourceAddress", json!("10.0.0.0/33")),
        ("destinationPort", json!("90-80")),
        ("destinationPort", json!("http")),
        ("sourceMac", json!("52:54:00:00:00:01")),
        ("networkProtocol", json!("carrier pigeon")),
        ("sequence", json!(0)),
    ] {
        let mut bad = rule(30);
        bad[field] = value;
        let answer = t.rig.send(&t.rig.admin, "POST", &rules, None, Some(bad)).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body["details"][0]["field"]),
            (400, &json!(field)),
            "{}",
            answer.body
        );
    }
    let path = format!("{rules}/{}", id(&made));
    t.write("updateServerInstanceGroupLogicalNetworkACL", &path, json!({"forwardingAction": "deny"})).await;
    t.conflict("updateServerInstanceGroupLogicalNetworkACL", &path, json!({"sequence": 20}), "already").await;
    let list = t.get(&rules).await;
    assert_eq!((&list["data"][0]["forwardingAction"], list["data"].as_array().unwrap().len()), (&json!("deny"), 2));
    t.write("deleteServerInstanceGroupLogicalNetworkACL", &path, Value::Null).await;
    t.write("deleteServerInstanceGroupNetworkConfigurationConnection", &one, Value::Null).await;
}
