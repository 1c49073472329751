//! A running server is never wiped, booted, switched, deleted or moved by mistake: every path of the interface that could is tried, and
//! each is refused in words. What sites do with orders that come too late is tried in the tests of `engine` and `site`.

use crate::deploy_rig::Rig;
use model::{
    Id,
    job::JobStatus,
    order::{Order, ServerClean, ServerDiscover, ServerInstall, ServerPower},
    snapshot::{Fact, SiteServer},
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter};
use serde_json::{Value, json};
use store::entity;

impl Rig {
    async fn change(&self, id: Id, change: impl FnOnce(&mut entity::server::ActiveModel)) {
        let mut row = self.row(id).await.into_active_model();
        change(&mut row);
        row.update(&self.db.write).await.unwrap();
    }

    /// What the site knows of a server.
    async fn known(&self, id: Id) -> SiteServer {
        let found = entity::site_snapshot_item::Entity::find()
            .filter(entity::site_snapshot_item::Column::ItemKey.eq(format!("server/{id}")))
            .one(&self.db.read)
            .await
            .unwrap()
            .unwrap();
        match serde_json::from_value(found.value).unwrap() {
            Fact::Server(server) => server,
            other => panic!("{other:?}"),
        }
    }

    /// Functions of the newest orders.
    fn newest(&self) -> Vec<String> {
        let books = self.post.books.lock().unwrap();
        books.last().map(|(_, b)| b.jobs.iter().map(|j| j.spec.function.clone()).collect()).unwrap_or_default()
    }

    /// The server that an instance of a group has.
    async fn server_of(&self, infrastructure: Id) -> (Id, Id) {
        let found = entity::server_instance::Entity::find()
            .filter(entity::server_instance::Column::InfrastructureId.eq(infrastructure))
            .filter(entity::server_instance::Column::ServerId.is_not_null())
            .one(&self.db.read)
            .await
            .unwrap()
            .unwrap();
        (found.id, found.server_id.unwrap())
    }
}

const STATUSES: &[&str] = &[
    "available",
    "unavailable",
    "registering",
    "cleaning_required",
    "cleaning",
    "defective",
    "removed_from_rack",
    "decommissioned",
    "deleting",
    "updating_firmware",
    "pending_registration",
    "registration_incomplete",
];

async fn a_server_in_use_stays_what_it_is(rig: Rig) {
    let (id, _, _) = rig.design("shop", 1).await;
    rig.deployed(id, false).await;
    let (instance, server) = rig.server_of(id).await;
    let known = rig.known(server).await;
    assert_eq!((known.in_use, known.instance_id, known.hands_off), (true, Some(instance), false));
    let path = format!("/servers/{server}");
    // In every status that an instance's server can be in, and in those that it must never be in.
    for now in ["used", "used_diagnostics", "used_registering", "available", "cleaning_required", "unavailable"] {
        rig.change(server, |row| row.status = Set(now.into())).await;
        for next in STATUSES.iter().filter(|next| **next != now) {
            let before = rig.row(server).await;
            let answer = rig
                .send(&rig.admin, "PATCH", &path, None, Some(json!({"serverStatus": next, "serverTypeId": 1})))
                .await;
            assert!(answer.status == 409 || answer.status == 400, "{now} → {next}: {} {}", answer.status, answer.body);
            assert!(answer.body["message"].as_str().is_some_and(|m| m.len() > 20), "{}", answer.body);
            assert_eq!(rig.row(server).await, before, "{now} → {next} changed it");
        }
        rig.no(409, "DELETE", &path, Value::Null, "is used by instance").await;
        rig.no(409, "POST", &format!("{path}/actions/archive"), Value::Null, "is used by instance").await;
        rig.no(409, "POST", &format!("{path}/actions/clean"), Value::Null, "is used by instance").await;
    }
    rig.change(server, |row| row.status = Set("used".into())).await;
    // Registered again, it is read and not booted, whatever its profile says.
    let profile =
        json!({"name": "all", "settings": {"alwaysDiscoverInterfacesWithBDK": true, "registerCredentials": "random"}});
    let profile = rig.ok(201, "POST", "/servers/registration-profiles", profile).await;
    rig.change(server, |row| row.registration_profile_id = Set(profile["id"].as_i64())).await;
    rig.ok(202, "POST", &format!("{path}/actions/re-register"), Value::Null).await;
    assert_eq!(rig.newest(), ["server.inventory"]);
    assert_eq!(rig.row(server).await.status, "used_registering");
    // While it is, nothing else becomes possible.
    for action in ["clean", "archive"] {
        rig.no(409, "POST", &format!("{path}/actions/{action}"), Value::Null, "is used by instance").await;
    }
    // A status that lies does not make it free for discovery either.
    rig.change(server, |row| row.status = Set("available".into())).await;
    rig.no(409, "POST", &format!("{path}/actions/re-register"), Value::Null, "cannot be registered again").await;
    rig.change(server, |row| row.status = Set("used".into())).await;
    // Another BMC address does not make its orders reach another machine unnoticed.
    rig.change(server, |row| row.tls_fingerprint = Set(Some("aa".into()))).await;
    rig.ok(200, "PATCH", &path, json!({"managementAddress": "10.9.9.9"})).await;
    assert_eq!(rig.row(server).await.tls_fingerprint.as_deref(), Some("aa"));
    let login = json!({"host": "10.9.9.10", "updateOnServer": false});
    rig.ok(200, "POST", &format!("{path}/actions/update-ipmi-credentials"), login).await;
    assert_eq!(rig.row(server).await.tls_fingerprint.as_deref(), Some("aa"));
    assert_eq!(rig.known(server).await.bmc.unwrap().tls_fingerprint.as_deref(), Some("aa"));
    // One that is free is pinned anew, at the first contact with its new address.
    let free = (1..=3).find(|n| *n != server).unwrap();
    rig.change(free, |row| row.tls_fingerprint = Set(Some("bb".into()))).await;
    rig.ok(200, "PATCH", &format!("/servers/{free}"), json!({"managementAddress": "10.9.9.11"})).await;
    assert_eq!(rig.row(free).await.tls_fingerprint, None);
}

async fn a_production_server_is_never_touched(rig: Rig) {
    rig.ok(201, "POST", "/infrastructures", json!({"label": "legacy", "siteId": 1})).await;
    let body = json!({
        "siteId": 1, "managementAddress": "10.0.0.77", "username": "root", "password": "calvin", "serialNumber": "PROD1", "settings": {"infrastructureId": 1},
    });
    let made = rig.ok(202, "POST", "/servers/actions/register-production", body.clone()).await;
    assert_eq!(rig.newest(), ["server.inventory"], "its BMC is read, and that is all");
    let id = made["serverId"].as_i64().unwrap();
    let path = format!("/servers/{id}");
    let shown = rig.get(&path).await;
    assert_eq!(
        (&shown["administrationState"], &shown["serverIsProduction"], &shown["productionInfo"]["infrastructureLabel"]),
        (&json!("unmanaged"), &json!(1), &json!("legacy"))
    );
    let known = rig.known(id).await;
    assert_eq!((known.in_use, known.hands_off), (true, true));
    for status in ["used_registering", "used", "available", "unavailable", "cleaning_required", "registering"] {
        rig.change(id, |row| row.status = Set(status.into())).await;
        rig.no(409, "DELETE", &path, Value::Null, "in production").await;
        for action in ["archive", "clean"] {
            rig.no(409, "POST", &format!("{path}/actions/{action}"), Value::Null, "in production").await;
        }
        for command in ["on", "off", "soft", "reset"] {
            let answer = json!({"powerCommand": command});
            let sent = rig.send(&rig.admin, "POST", &format!("{path}/actions/set-power"), None, Some(answer)).await;
            assert_eq!(sent.status, 409, "{status} {command}: {}", sent.body);
        }
        for next in STATUSES.iter().filter(|n| **n != status) {
            let sent = rig.send(&rig.admin, "PATCH", &path, None, Some(json!({"serverStatus": next}))).await;
            assert!(sent.status == 409 || sent.status == 400, "{status} → {next}: {}", sent.body);
        }
        assert_eq!(rig.row(id).await.status, status);
    }
    rig.no(409, "POST", &format!("{path}/actions/rotate-credentials"), Value::Null, "in production").await;
    let pause = json!({"enabled": true, "reason": "x"});
    rig.no(409, "POST", &format!("{path}/actions/set-maintenance"), pause, "in production").await;
    // Whatever its status says, no plan takes it.
    rig.change(id, |row| {
        row.status = Set("available".into());
        row.server_type_id = Set(Some(1));
    })
    .await;
    let (shop, _, _) = rig.design("shop", 4).await;
    let plan = rig.plan(shop, false).await;
    assert!(plan["problems"].to_string().contains("have 3 free servers of type 1, need 4"), "{}", plan["problems"]);
    rig.change(id, |row| row.status = Set("used".into())).await;
    // Registered again, also when its login changes or arrives: read, never booted.
    rig.ok(202, "POST", &format!("{path}/actions/re-register"), Value::Null).await;
    assert_eq!(rig.newest(), ["server.inventory"]);
    let mut silent = body;
    silent["managementAddress"] = json!("10.0.0.78");
    silent["serialNumber"] = json!("PROD2");
    silent.as_object_mut().unwrap().remove("username");
    silent.as_object_mut().unwrap().remove("password");
    let waiting = rig.ok(202, "POST", "/servers/actions/register-production", silent).await;
    assert!(waiting["jobInfo"].is_null());
    let login = json!({"siteId": 1, "serverSerialNumber": "PROD2", "serverMacAddress": "", "defaultUsername": "root", "defaultPassword": "x"});
    rig.ok(201, "POST", "/servers/default-credentials", login).await;
    assert_eq!(rig.newest(), ["server.inventory"]);
    // Taken over only by whoever writes its serial number, and then with its disks to be cleaned.
    rig.no(400, "POST", &format!("{path}/actions/manage"), json!({"serialNumber": "PROD2"}), "it is PROD1").await;
    let taken = rig.ok(200, "POST", &format!("{path}/actions/manage"), json!({"serialNumber": "prod1"})).await;
    assert_eq!(
        (&taken["administrationState"], &taken["serverStatus"]),
        (&json!("managed"), &json!("cleaning_required"))
    );
    rig.no(409, "POST", &format!("{path}/actions/manage"), json!({"serialNumber": "PROD1"}), "already").await;
    let eve = json!({"displayName": "Eve", "email": "eve@example.com", "accessLevel": "user", "password": "long enough", "createWithAccount": true});
    rig.ok(201, "POST", "/users", eve).await;
    let eve = rig.login("eve@example.com", "long enough").await;
    let sent =
        rig.send(&eve, "POST", &format!("{path}/actions/manage"), None, Some(json!({"serialNumber": "x"}))).await;
    assert_eq!(sent.status, 403);
}

async fn orders_that_a_server_outlived_are_not_repeated(rig: Rig) {
    // Orders of people to a free server, which fail.
    rig.change(1, |row| row.status = Set("unavailable".into())).await;
    rig.ok(202, "POST", "/servers/1/actions/re-register", Value::Null).await;
    let discover = rig.job(ServerDiscover::NAME).await;
    rig.report(&rig.job("server.inventory").await, JobStatus::ReturnedSuccess, None).await;
    rig.report(&discover, JobStatus::ThrownError, Some("no network boot")).await;
    rig.change(1, |row| row.status = Set("cleaning_required".into())).await;
    rig.ok(202, "POST", "/servers/1/actions/clean", Value::Null).await;
    let clean = rig.job(ServerClean::NAME).await;
    rig.report(&clean, JobStatus::ThrownError, Some("the disk is dead")).await;
    rig.change(1, |row| row.status = Set("available".into())).await;
    rig.ok(204, "POST", "/servers/1/actions/set-power", json!({"powerCommand": "off"})).await;
    let power = rig.job(ServerPower::NAME).await;
    rig.report(&power, JobStatus::ThrownError, Some("the BMC is silent")).await;
    // Until somebody has it they may be tried again.
    let retry = json!({"retryEvenIfSuccessful": false});
    rig.ok(202, "POST", &format!("/jobs/{}/actions/retry", power.id), retry.clone()).await;
    // One tenant, then another.
    let (shop, _, _) = rig.design("shop", 3).await;
    rig.deployed(shop, false).await;
    let (instance, _) = rig.server_of(shop).await;
    let install = rig.job_of(ServerInstall::NAME, instance).await;
    for job in [&clean, &power, &discover] {
        let path = format!("/jobs/{}/actions/retry", job.id);
        rig.no(409, "POST", &path, retry.clone(), "may serve somebody else now").await;
    }
    rig.ok(204, "DELETE", &format!("/infrastructures/{shop}"), Value::Null).await;
    rig.deployed(shop, true).await;
    let erased = rig.job(ServerClean::NAME).await;
    let (blog, _, _) = rig.design("blog", 3).await;
    rig.deployed(blog, false).await;
    // What the deploys of the first tenant did is not done again to the second.
    let again = json!({"retryEvenIfSuccessful": true});
    for job in [&install, &erased, &clean, &power, &discover] {
        let path = format!("/jobs/{}/actions/retry", job.id);
        rig.no(409, "POST", &path, again.clone(), "may serve somebody else now").await;
    }
    for n in 1..=3 {
        assert_eq!(rig.server_status(n).await, "used");
    }
}

async fn cancelled_deploys_leave_no_way_to_a_running_server(rig: Rig) {
    let (shop, _, _) = rig.design("shop", 1).await;
    rig.deployed(shop, false).await;
    let (_, server) = rig.server_of(shop).await;
    // A deletion that is cancelled before its site began: the server is still its owner's.
    rig.ok(204, "DELETE", &format!("/infrastructures/{shop}"), Value::Null).await;
    rig.ok(202, "POST", &format!("/infrastructures/{shop}/actions/deploy"), Rig::options(true)).await;
    let wipe = rig.job(ServerClean::NAME).await;
    rig.ok(202, "POST", &format!("/infrastructures/{shop}/actions/cancel-deploy"), Value::Null).await;
    assert_eq!(rig.server_status(server).await, "used");
    let path = format!("/jobs/{}/actions/retry", wipe.id);
    rig.no(409, "POST", &path, json!({"retryEvenIfSuccessful": true}), "its group was cancelled").await;
    rig.no(409, "POST", &format!("/servers/{server}/actions/clean"), Value::Null, "is used by instance").await;
    rig.no(409, "DELETE", &format!("/servers/{server}"), Value::Null, "is used by instance").await;
    // Without leave to lose data it does not go either.
    let path = format!("/infrastructures/{shop}/actions/deploy");
    let refused = rig.send(&rig.admin, "POST", &path, None, Some(Rig::options(false))).await;
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(refused.body["message"].as_str().unwrap().contains("allowDataLoss"), "{}", refused.body);
    // A plan that was shown before the server passed to somebody else is stale.
    rig.ok(202, "POST", &format!("/infrastructures/{shop}/actions/revert"), Value::Null).await;
}

async fn data_of_a_tenant_is_not_handed_on(rig: Rig) {
    rig.change(1, |row| row.status = Set("cleaning_required".into())).await;
    // Round about, by the statuses that a person may set.
    for next in ["available", "unavailable", "used"] {
        let sent = rig.send(&rig.admin, "PATCH", "/servers/1", None, Some(json!({"serverStatus": next}))).await;
        assert_eq!(sent.status, 409, "{next}: {}", sent.body);
    }
    rig.ok(200, "PATCH", "/servers/1", json!({"serverStatus": "defective"})).await;
    for next in ["available", "unavailable"] {
        let sent = rig.send(&rig.admin, "PATCH", "/servers/1", None, Some(json!({"serverStatus": next}))).await;
        assert_eq!(sent.status, 409, "{next}: {}", sent.body);
    }
    rig.no(409, "PATCH", "/servers/1", json!({"serverStatus": "unavailable"}), "data may still be on the disks").await;
    rig.ok(200, "PATCH", "/servers/1", json!({"serverStatus": "removed_from_rack"})).await;
    rig.ok(200, "PATCH", "/servers/1", json!({"serverStatus": "defective"})).await;
    rig.no(409, "PATCH", "/servers/1", json!({"serverStatus": "unavailable"}), "data may still be on the disks").await;
    rig.ok(200, "PATCH", "/servers/1", json!({"serverStatus": "cleaning_required"})).await;
    // One that was clean when it broke comes back as it went.
    rig.ok(200, "PATCH", "/servers/2", json!({"serverStatus": "defective"})).await;
    rig.ok(200, "PATCH", "/servers/2", json!({"serverStatus": "unavailable"})).await;
    rig.ok(200, "PATCH", "/servers/2", json!({"serverStatus": "available"})).await;
    // A skipped cleaning would hand the data on: it cannot be skipped.
    rig.ok(202, "POST", "/servers/1/actions/clean", Value::Null).await;
    let job = rig.job(ServerClean::NAME).await;
    rig.report(&job, JobStatus::ThrownError, Some("the disk is dead")).await;
    rig.no(409, "POST", &format!("/jobs/{}/actions/skip", job.id), json!({}), "cannot be skipped").await;
}

async fn deletes_race_with_deploys(rig: Rig) {
    // Each server is deleted at the moment at which a deploy takes all three.
    let (shop, _, _) = rig.design("shop", 3).await;
    let path = format!("/infrastructures/{shop}/actions/deploy");
    let deploy = rig.send(&rig.admin, "POST", &path, None, Some(Rig::options(false)));
    let deletes = futures::future::join_all(
        ["/servers/1", "/servers/2", "/servers/3"].map(|p| rig.send(&rig.admin, "DELETE", p, None, None)),
    );
    let (deploy, deletes) = tokio::join!(deploy, deletes);
    let gone = deletes.iter().filter(|d| d.status == 204).count();
    let left = entity::server::Entity::find().all(&rig.db.read).await.unwrap();
    assert_eq!(left.len(), 3 - gone);
    match deploy.status.as_u16() {
        202 => {
            assert_eq!(gone, 0, "a server was taken and deleted");
            assert!(left.iter().all(|s| s.status == "used"), "{left:?}");
        }
        status => {
            assert!([400, 409].contains(&status) && gone > 0, "{status} {gone}: {}", deploy.body);
            assert!(left.iter().all(|s| s.status == "available"), "{left:?}");
        }
    }
    let held = entity::server_instance::Entity::find().all(&rig.db.read).await.unwrap();
    for id in held.iter().filter_map(|i| i.server_id) {
        assert!(left.iter().any(|s| s.id == id), "instance of a server that is gone");
    }
}

impl Rig {
    /// The newest job of a function.
    async fn job(&self, function: &str) -> engine::entity::job::Model {
        use sea_orm::QueryOrder;
        let found = engine::entity::job::Entity::find()
            .filter(engine::entity::job::Column::Function.eq(function))
            .order_by_desc(engine::entity::job::Column::Id);
        found.one(&self.db.read).await.unwrap().unwrap()
    }

    async fn job_of(&self, function: &str, instance: Id) -> engine::entity::job::Model {
        let found = engine::entity::job::Entity::find()
            .filter(engine::entity::job::Column::Function.eq(function))
            .filter(engine::entity::job::Column::InstanceId.eq(instance));
        found.one(&self.db.read).await.unwrap().unwrap()
    }
}

/// Each on both databases.
mod on {
    macro_rules! both {
        ($($name:ident)*) => { $(#[tokio::test] async fn $name() {
            crate::testing::both(|db| async move { super::$name(crate::deploy_rig::rig(db).await).await }).await;
        })* };
    }
    both! {
        a_server_in_use_stays_what_it_is
        a_production_server_is_never_touched
        orders_that_a_server_outlived_are_not_repeated
        cancelled_deploys_leave_no_way_to_a_running_server
        data_of_a_tenant_is_not_handed_on
        deletes_race_with_deploys
    }
}
