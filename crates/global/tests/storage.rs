//! What sites report of storages becomes rows, and twice is as good as once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

use std::{sync::Arc, time::Duration};

use api::App;
use async_trait::async_trait;
use crypto::Sealer;
use engine::{Dispatcher, Engine, EngineConfig, Listener, NewGroup, entity::job};
use global::record::Recorder;
use model::{
    Id,
    job::{JobCommand, JobRefs, JobReport, JobSpec, JobStatus, RetryPolicy, Target},
    link::{Observation, Observed},
    order::{Order, OrderBook},
    secret::Clear,
    storage::{SnapshotOf, StorageDiscover, StorageSnapshotCreate, StorageSnapshotDelete},
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, DatabaseTransaction, DbErr, EntityTrait, PaginatorTrait};
use serde_json::{Value, json};
use store::{Database, entity, time};

mod db {
    pub use store::Database;
}
#[allow(dead_code, reason = "its whole interface is not needed here")]
#[path = "../../store/tests/rig/databases.rs"]
mod testing;

struct Nowhere;

#[async_trait]
impl Dispatcher for Nowhere {
    async fn orders(&self, _: &DatabaseTransaction, _: Id, _: OrderBook) -> Result<(), DbErr> {
        Ok(())
    }
    async fn command(&self, _: &DatabaseTransaction, _: Id, _: JobCommand) -> Result<(), DbErr> {
        Ok(())
    }
}

struct Rig {
    db: Database,
    engine: Engine,
    recorder: Recorder,
}

async fn rig(db: Database) -> Rig {
    api::migrate(&db).await.unwrap();
    let sealer = Sealer::generate();
    let config = EngineConfig { idle: Duration::from_millis(50), ..EngineConfig::default() };
    let engine = Engine::new(db.clone(), Vec::new(), config, Some(Arc::new(Nowhere)), None);
    let recorder = Recorder::new(App::new(db.clone(), engine.clone(), sealer.clone()));
    let mut row = entity::storage::new();
    row.site_id = Set(1);
    row.name = Set("array".into());
    row.driver = Set("netapp".into());
    row.technologies = Set(json!(["block", "file"]));
    row.protocol = Set(Some("iscsi".into()));
    row.status = Set("pending".into());
    row.operation_mode = Set("normal".into());
    row.address = Set("10.1.0.1".into());
    row.username = Set("admin".into());
    row.password = Set(Some(sealer.seal(&Clear("x".into())).unwrap().0));
    row.in_maintenance = Set(false);
    row.is_experimental = Set(false);
    row.options = Set(json!({}));
    row.facts = Set(json!({}));
    row.tags = Set(json!([]));
    row.extra = Set(json!({}));
    row.insert(&db.write).await.unwrap();
    Rig { db, engine, recorder }
}

impl Rig {
    /// A job of the site with its end.
    async fn job<P: Order>(&self, payload: &P, target: (&str, Id), end: Result<Value, &str>) -> job::Model {
        let spec = JobSpec {
            key: "only".into(),
            function: P::NAME.into(),
            title: P::NAME.into(),
            site_id: Some(1),
            target: Target { kind: target.0.into(), id: target.1, generation: 0 },
            payload: serde_json::to_value(payload).unwrap(),
            depends_on: Vec::new(),
            retry: RetryPolicy { max: 0, min_seconds: 1, max_seconds: 1 },
            timeout_seconds: 60,
            refs: JobRefs::default(),
            can_be_skipped: true,
            requires_confirmation: false,
        };
        let txn = self.db.begin().await.unwrap();
        let group = NewGroup { kind: "test".into(), site_id: Some(1), ..Default::default() };
        let id = self.engine.create_group(&txn, group, vec![spec]).await.unwrap().job_ids["only"];
        txn.commit().await.unwrap();
        let job = job::Entity::find_by_id(id).one(&self.db.read).await.unwrap().unwrap();
        let report = JobReport {
            job_id: id,
            sequence: job.sequence + 2,
            status: if end.is_ok() { JobStatus::ReturnedSuccess } else { JobStatus::ThrownError },
            call_count: 1,
            retry_count: 0,
            percent: None,
            message: None,
            error: end.as_ref().err().map(|e| (*e).to_owned()),
            response: end.ok(),
            started_at: Some(time::now()),
            finished_at: Some(time::now()),
        };
        self.engine.apply_report(&report).await.unwrap();
        let job = job::Entity::find_by_id(id).one(&self.db.read).await.unwrap().unwrap();
        for _ in 0..2 {
            self.recorder.job_ended(job.clone()).await.unwrap();
        }
        job
    }

    async fn storage(&self) -> entity::storage::Model {
        entity::storage::Entity::find_by_id(1).one(&self.db.read).await.unwrap().unwrap()
    }

    async fn events(&self, kind: &str) -> usize {
        let all = entity::event::Entity::find().all(&self.db.read).await.unwrap();
        all.iter().filter(|e| e.kind == kind).count()
    }
}

fn facts(technologies: &[&str], portals: Value) -> Value {
    json!({
        "serial": "S1", "vendor": "NetApp", "model": "A250", "version": "9.14", "capacity": {"total_bytes": 1000, "used_bytes": 10},
        "technologies": technologies, "portals": portals, "tls_fingerprint": "AB12",
    })
}

async fn a_storage_is_read(rig: Rig) {
    let order = StorageDiscover { storage_id: 1 };
    rig.job(&order, ("storage", 1), Err("the array does not answer")).await;
    let now = rig.storage().await;
    assert_eq!(now.status, "pending");
    assert!(now.extra["statusReason"].as_str().unwrap().contains("does not answer"));
    assert_eq!(rig.events("storage.unread").await, 1);

    let portal = |name: &str, address: &str| json!({"name": name, "node": "n1", "protocol": "iscsi", "address": address, "port": 3260});
    let both = json!([portal("e0c", "10.9.0.1"), portal("e0d", "10.9.0.2")]);
    rig.job(&order, ("storage", 1), Ok(facts(&["block", "file"], both))).await;
    let now = rig.storage().await;
    assert_eq!((now.status.as_str(), &now.facts["serial"]), ("active", &json!("S1")));
    assert_eq!(now.tls_fingerprint.as_deref(), Some("ab12"));
    assert!(now.extra.get("statusReason").is_none());
    assert_eq!(rig.events("storage.registered").await, 1);
    let ports = entity::storage_interface::Entity::find().all(&rig.db.read).await.unwrap();
    assert_eq!(ports.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["e0c", "e0d"]);
    assert_eq!(ports[0].protocols, json!(["iscsi"]));

    // One port is gone, another has a new address; what it offers is less than it was registered for.
    rig.job(&order, ("storage", 1), Ok(facts(&["block"], json!([portal("e0c", "10.9.0.9")])))).await;
    let now = rig.storage().await;
    assert_eq!(now.status, "ready");
    assert!(now.extra["statusReason"].as_str().unwrap().contains("no file storage"));
    let ports = entity::storage_interface::Entity::find().all(&rig.db.read).await.unwrap();
    assert_eq!((ports.len(), ports[0].address.as_str()), (1, "10.9.0.9"));
    // What is not understood changes nothing.
    rig.job(&order, ("storage", 1), Ok(json!("hello"))).await;
    assert_eq!(rig.storage().await.status, "ready");
}

async fn a_certificate_is_pinned_and_a_new_one_is_told(rig: Rig) {
    let saw = |sha256: &str| Observation {
        at: time::now(),
        what: Observed::Fingerprint { object: "storage".into(), id: 1, sha256: sha256.into() },
    };
    rig.recorder.observed(2, saw("AA")).await.unwrap();
    assert_eq!(rig.storage().await.tls_fingerprint, None, "of another site");
    for _ in 0..2 {
        rig.recorder.observed(1, saw("AA")).await.unwrap();
        rig.recorder.observed(1, saw("BB")).await.unwrap();
    }
    let now = rig.storage().await;
    assert_eq!((now.tls_fingerprint.as_deref(), &now.extra["shownFingerprint"]), (Some("aa"), &json!("bb")));
    assert_eq!(rig.events("storage.certificate").await, 1);
}

async fn snapshots_come_and_go(rig: Rig) {
    let mut row = entity::storage_element::new();
    row.infrastructure_id = Set(1);
    row.kind = Set("shared_drive".into());
    row.label = Set("data".into());
    row.service_status = Set("active".into());
    row.deploy_type = Set("edit".into());
    row.deploy_status = Set("finished".into());
    row.storage_id = Set(Some(1));
    row.bytes = Set(0);
    row.design = Set(json!({}));
    row.deployed = Set(json!({}));
    row.state = Set(json!({}));
    row.meta = Set(json!({}));
    row.extra = Set(json!({}));
    let element = row.insert(&rig.db.write).await.unwrap().id;
    for name in ["one", "two"] {
        let mut row = entity::storage_snapshot::new();
        row.element_id = Set(element);
        row.name = Set(name.into());
        row.status = Set("creating".into());
        row.extra = Set(json!({}));
        row.insert(&rig.db.write).await.unwrap();
    }
    let create = |name: &str| StorageSnapshotCreate {
        storage_id: 1,
        of: SnapshotOf::Volume,
        key: "drive-1".into(),
        snapshot: name.into(),
    };
    let at = ("storage_element", element);
    rig.job(
        &create("one"),
        at,
        Ok(json!({"key": "drive-1", "snapshot": "one", "created_at": "2026-01-02T15:04:05.000Z"})),
    )
    .await;
    rig.job(&create("two"), at, Err("no room")).await;
    let rows = entity::storage_snapshot::Entity::find().all(&rig.db.read).await.unwrap();
    assert_eq!((rows[0].status.as_str(), rows[0].taken_at.as_deref()), ("ready", Some("2026-01-02T15:04:05.000Z")));
    assert_eq!((rows[1].status.as_str(), &rows[1].extra["error"]), ("failed", &json!("no room")));
    assert_eq!(rig.events("shared_drive.snapshot_created").await, 1);
    let delete =
        StorageSnapshotDelete { storage_id: 1, of: SnapshotOf::Volume, key: "drive-1".into(), snapshot: "one".into() };
    rig.job(&delete, at, Ok(json!({}))).await;
    assert_eq!(entity::storage_snapshot::Entity::find().count(&rig.db.read).await.unwrap(), 1);
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
    a_storage_is_read,
    a_certificate_is_pinned_and_a_new_one_is_told,
    snapshots_come_and_go,
}
