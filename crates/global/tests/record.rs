//! What sites report becomes rows: a server registers, switches are read, cables are found, and all of it twice without harm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

use std::{sync::Arc, time::Duration};

use api::App;
use async_trait::async_trait;
use crypto::Sealer;
use engine::{Dispatcher, Engine, EngineConfig, JobFunction, Listener, NewGroup, entity::job};
use global::{functions::server_finish_registration::ServerFinishRegistration, record::Recorder};
use model::{
    Id,
    bmc::PowerState,
    job::{JobCommand, JobReport, JobSpec, JobStatus, RetryPolicy, Target},
    link::{Observation, Observed},
    order::OrderBook,
    secret::Clear,
    switch::{LldpNeighbor, PortState, PortVlans, SwitchState},
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, PaginatorTrait,
    QueryFilter, QueryOrder,
};
use serde_json::{Value, json};
use store::{Database, entity, time};
use tokio_util::sync::CancellationToken;

mod catalogs;
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
    sealer: Sealer,
    recorder: Recorder,
    stop: CancellationToken,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

const SITE: Id = 1;

async fn rig(db: Database) -> Rig {
    api::migrate(&db).await.unwrap();
    let sealer = Sealer::generate();
    let finish: Arc<dyn JobFunction> = Arc::new(ServerFinishRegistration::new(db.clone(), sealer.clone()));
    let config = EngineConfig { idle: Duration::from_millis(50), ..EngineConfig::default() };
    let engine = Engine::new(db.clone(), vec![finish], config, Some(Arc::new(Nowhere)), None);
    let app = App::new(db.clone(), engine.clone(), sealer.clone());
    let recorder = Recorder::new(app);
    engine.listen(Arc::new(recorder.clone()));
    let stop = CancellationToken::new();
    let (running, token) = (engine.clone(), stop.clone());
    tokio::spawn(async move { running.run(token).await });
    for slug in ["dc1", "dc2"] {
        let mut row = entity::site::new();
        row.slug = Set(slug.into());
        row.name = Set(slug.into());
        row.is_hidden = Set(false);
        row.is_in_maintenance = Set(false);
        row.decommissioned = Set(false);
        row.config = Set(json!({}));
        row.location = Set(json!({}));
        row.insert(&db.write).await.unwrap();
    }
    Rig { db, engine, sealer, recorder, stop }
}

impl Rig {
    async fn server(&self, address: &str) -> Id {
        let mut row = entity::server::new();
        row.site_id = Set(SITE);
        row.bmc_address = Set(Some(address.into()));
        row.bmc_username = Set(Some("admin".into()));
        row.bmc_password = Set(Some(self.sealer.seal(&Clear("calvin".into())).unwrap().0));
        row.status = Set("registering".into());
        row.power = Set("unknown".into());
        row.power_at = Set(time::now());
        for count in
            [&mut row.ram_gb, &mut row.processor_count, &mut row.core_count, &mut row.disk_count, &mut row.gpu_count]
        {
            *count = Set(0);
        }
        row.inventory = Set(json!({}));
        row.tags = Set(json!([]));
        row.administration_state = Set("managed".into());
        row.dhcp_status = Set("allow_requests".into());
        row.extra = Set(json!({}));
        row.insert(&self.db.write).await.unwrap().id
    }

    async fn switch(&self, name: &str, mac: &str) -> Id {
        let mut row = entity::network_device::new();
        row.site_id = Set(SITE);
        row.name = Set(name.into());
        row.driver = Set("cumulus_linux".into());
        row.position = Set("leaf".into());
        row.status = Set("registering".into());
        row.address = Set(name.into());
        row.username = Set("cumulus".into());
        row.password = Set(self.sealer.seal(&Clear("pw".into())).unwrap().0);
        row.mac = Set(Some(mac.into()));
        row.tags = Set(json!([]));
        row.facts = Set(json!({}));
        row.extra = Set(json!({}));
        row.insert(&self.db.write).await.unwrap().id
    }

    async fn row(&self, id: Id) -> entity::server::Model {
        entity::server::Entity::find_by_id(id).one(&self.db.read).await.unwrap().unwrap()
    }

    async fn interfaces(&self, id: Id) -> Vec<entity::server_interface::Model> {
        entity::server_interface::Entity::find()
            .filter(entity::server_interface::Column::ServerId.eq(id))
            .order_by_asc(entity::server_interface::Column::Position)
            .all(&self.db.read)
            .await
            .unwrap()
    }

    async fn events(&self, kind: &str) -> u64 {
        let found = entity::event::Entity::find().filter(entity::event::Column::Kind.eq(kind));
        found.count(&self.db.read).await.unwrap()
    }

    /// A group of site jobs about a server or a switch, with the registration's end where it is one.
    async fn group(&self, server: Option<Id>, device: Option<Id>, functions: &[&str]) -> Vec<job::Model> {
        let mut specs = Vec::new();
        for (n, function) in functions.iter().enumerate() {
            let site = (*function != "server.finish_registration").then_some(SITE);
            specs.push(JobSpec {
                key: format!("{n}"),
                function: (*function).into(),
                title: (*function).into(),
                site_id: site,
                target: Target { kind: "server".into(), id: server.or(device).unwrap(), generation: 0 },
                payload: json!({"server_id": server, "network_device_id": device}),
                depends_on: (n > 0).then(|| format!("{}", n - 1)).into_iter().collect(),
                retry: RetryPolicy { max: 0, min_seconds: 1, max_seconds: 1 },
                timeout_seconds: 60,
                refs: model::job::JobRefs { server_id: server, network_device_id: device, ..Default::default() },
                can_be_skipped: true,
                requires_confirmation: false,
            });
        }
        let txn = self.db.begin().await.unwrap();
        let group = NewGroup {
            kind: "server_register".into(),
            params: json!({}),
            server_id: server,
            network_device_id: device,
            ..Default::default()
        };
        let created = self.engine.create_group(&txn, group, specs).await.unwrap();
        if let Some(id) = server {
            let row = entity::server::Entity::find_by_id(id).one(&txn).await.unwrap().unwrap();
            let mut row: entity::server::ActiveModel = row.into();
            row.extra = Set(json!({"jobInfo": {"jobGroupId": created.group_id}}));
            row.update(&txn).await.unwrap();
        }
        txn.commit().await.unwrap();
        self.engine.wake();
        job::Entity::find()
            .filter(job::Column::GroupId.eq(created.group_id))
            .order_by_asc(job::Column::Id)
            .all(&self.db.read)
            .await
            .unwrap()
    }

    /// The site's word about a job.
    async fn report(&self, job: &job::Model, status: JobStatus, response: Option<Value>, error: Option<&str>) {
        self.engine
            .apply_report(&JobReport {
                job_id: job.id,
                sequence: 1000,
                status,
                call_count: 1,
                retry_count: 0,
                percent: None,
                message: None,
                error: error.map(str::to_owned),
                response,
                started_at: Some(time::now()),
                finished_at: Some(time::now()),
            })
            .await
            .unwrap();
    }

    async fn until(&self, what: &str, id: Id, done: impl Fn(&entity::server::Model) -> bool) -> entity::server::Model {
        for _ in 0..200 {
            let row = self.row(id).await;
            if done(&row) {
                return row;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("never {what}: {:?}", self.row(id).await);
    }

    async fn see(&self, site: Id, what: Observed) {
        self.recorder.observed(site, Observation { at: time::now(), what }).await.unwrap();
    }
}

fn inventory(serial: &str, n: u8) -> Value {
    let nic =
        |i: u8| json!({"name": format!("NIC.{i}"), "mac": format!("52:54:00:00:{n:02x}:{i:02x}"), "speed_mbps": 25000});
    json!({
        "serial": serial, "vendor": "Dell Inc.", "model": "PowerEdge R660", "uuid": format!("4C4C4544-0000-{n:04}"), "bios_version": "1.2", "bmc_version": "7.0", "bmc_mac": null,
        "memory_mib": 262_144, "processors": [{"model": "Xeon 6338", "cores": 32, "threads": 64, "mhz": 2600}, {"model": "Xeon 6338", "cores": 32, "threads": 64, "mhz": 2600}],
        "disks": [{"name": "Disk.0", "size_gb": 480, "media": "ssd"}], "nics": [nic(1), nic(2)], "gpus": [], "power": "off",
    })
}

fn in_band(serial: &str, n: u8, switch: &str) -> Value {
    let nic = |i: u8, name: &str| {
        json!({"name": name, "mac": format!("52:54:00:00:{n:02x}:{i:02x}").to_uppercase(), "speed_mbps": 0, "link_up": true,
            "lldp": {"chassis": "44:38:39:00:00:01", "system_name": switch, "port": format!("swp{n}{i}")}})
    };
    json!({
        "serial": serial, "memory_mib": 257_000, "processors": [], "gpus": [],
        "disks": [{"name": "nvme0n1", "size_gb": 480, "media": "ssd"}], "nics": [nic(1, "eno1"), nic(2, "eno2")],
    })
}

async fn a_server_registers(db: Database) {
    let rig = rig(db).await;
    rig.switch("leaf1", "44:38:39:00:00:01").await;
    let id = rig.server("10.0.0.1").await;
    let jobs = rig.group(Some(id), None, &["server.inventory", "server.discover", "server.finish_registration"]).await;
    rig.report(&jobs[0], JobStatus::ReturnedSuccess, Some(inventory("A1", 1)), None).await;
    let row = rig.until("inventoried", id, |s| s.serial.is_some()).await;
    assert_eq!((row.vendor.as_deref(), row.ram_gb, row.processor_count, row.core_count), (Some("Dell"), 256, 2, 32));
    assert_eq!((row.power.as_str(), row.status.as_str()), ("off", "registering"));
    rig.report(&jobs[1], JobStatus::ReturnedSuccess, Some(in_band("A1", 1, "leaf1")), None).await;
    let row = rig.until("available", id, |s| s.status == "available").await;
    assert!(row.registered_at.is_some());
    let found = entity::server_type::Entity::find().all(&rig.db.read).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((row.server_type_id, found[0].name.as_str()), (Some(found[0].id), "M.2x32.256.1d"));
    let nics = rig.interfaces(id).await;
    assert_eq!(nics[0].mac, "52:54:00:00:01:01");
    assert_eq!((nics[0].name.as_str(), nics[0].speed_mbps), ("eno1", 25000));
    assert_eq!(nics[1].network_device_port.as_deref(), Some("swp12"));
    assert_eq!(rig.events("server.registered").await, 1);
    // Told again, in any order: nothing changes.
    let before = rig.row(id).await;
    for n in [1, 0, 1] {
        let job = job::Entity::find_by_id(jobs[n].id).one(&rig.db.read).await.unwrap().unwrap();
        rig.recorder.job_ended(job).await.unwrap();
    }
    let after = rig.row(id).await;
    assert_eq!((before.revision, &before.inventory), (after.revision, &after.inventory));
    // Another one of the same kind is of the same type.
    let second = rig.server("10.0.0.2").await;
    let jobs = rig.group(Some(second), None, &["server.inventory", "server.finish_registration"]).await;
    rig.report(&jobs[0], JobStatus::ReturnedSuccess, Some(inventory("A2", 2)), None).await;
    let row = rig.until("available", second, |s| s.status == "available").await;
    assert_eq!(row.server_type_id, Some(found[0].id));
}

async fn a_registration_that_fails_says_why(db: Database) {
    let rig = rig(db).await;
    let id = rig.server("10.0.0.1").await;
    let jobs = rig.group(Some(id), None, &["server.inventory", "server.finish_registration"]).await;
    rig.report(&jobs[0], JobStatus::ThrownError, None, Some("BMC 10.0.0.1 cannot be reached: timed out")).await;
    let row = rig.until("incomplete", id, |s| s.status == "registration_incomplete").await;
    assert!(row.status_reason.unwrap().contains("cannot be reached"));
    assert_eq!(rig.events("server.registration_incomplete").await, 1);
    // An operator mends it and tries again.
    let mut report = inventory("A1", 1);
    report["processors"] = json!([]);
    let jobs = rig.group(Some(id), None, &["server.inventory", "server.finish_registration"]).await;
    rig.report(&jobs[0], JobStatus::ReturnedSuccess, Some(report), None).await;
    let row = rig.until("told", id, |s| s.status_reason.as_deref().is_some_and(|r| r.contains("processors"))).await;
    assert_eq!(row.status, "registration_incomplete");
    let jobs = rig.group(Some(id), None, &["server.inventory", "server.finish_registration"]).await;
    rig.report(&jobs[0], JobStatus::ReturnedSuccess, Some(inventory("A1", 1)), None).await;
    rig.until("available", id, |s| s.status == "available" && s.status_reason.is_none()).await;
    // The same machine under another address is no second one.
    let twin = rig.server("10.0.0.2").await;
    let jobs = rig.group(Some(twin), None, &["server.inventory", "server.finish_registration"]).await;
    rig.report(&jobs[0], JobStatus::ReturnedSuccess, Some(inventory("A1", 1)), None).await;
    let row = rig.until("refused", twin, |s| s.status == "registration_incomplete").await;
    assert!(row.status_reason.is_some());
    assert_eq!(rig.interfaces(twin).await.len(), 0, "interfaces stay with who had them first");
    assert_eq!(rig.events("server.duplicate").await, 1);
    // A neighbour in the same chassis, which tells the chassis' serial number and a UUID of its own, is one.
    let neighbour = rig.server("10.0.0.3").await;
    let jobs = rig.group(Some(neighbour), None, &["server.inventory", "server.finish_registration"]).await;
    rig.report(&jobs[0], JobStatus::ReturnedSuccess, Some(inventory("A1", 3)), None).await;
    rig.until("available", neighbour, |s| s.status == "available").await;
}

fn port(lldp: Option<LldpNeighbor>) -> PortState {
    PortState {
        vlans: PortVlans { untagged: Some(100), tagged: [200].into() },
        bridged: true,
        oper_up: Some(true),
        admin_up: Some(true),
        speed_mbps: Some(25000),
        lldp,
        ..PortState::default()
    }
}

fn heard(chassis: &str, name: &str, port: &str) -> LldpNeighbor {
    LldpNeighbor { chassis: chassis.into(), system_name: name.into(), port: port.into() }
}

async fn switches_tell_their_cables(db: Database) {
    let rig = rig(db).await;
    let leaf = rig.switch("leaf1", "44:38:39:00:00:01").await;
    let spine = rig.switch("spine1", "44:38:39:00:00:02").await;
    let mut row = entity::network_fabric::new();
    row.name = Set("f1".into());
    row.site_id = Set(SITE);
    row.status = Set("active".into());
    row.configuration = Set(json!({}));
    row.extra = Set(json!({}));
    let fabric = row.insert(&rig.db.write).await.unwrap().id;
    for device in [leaf, spine] {
        let mut row = entity::fabric_device::new();
        row.fabric_id = Set(fabric);
        row.network_device_id = Set(device);
        row.insert(&rig.db.write).await.unwrap();
    }
    let server = rig.server("10.0.0.1").await;
    let jobs = rig.group(Some(server), None, &["server.inventory", "server.finish_registration"]).await;
    rig.report(&jobs[0], JobStatus::ReturnedSuccess, Some(inventory("A1", 1)), None).await;
    rig.until("available", server, |s| s.status == "available").await;
    let state = SwitchState {
        vlans: [100, 200].into(),
        ports: [
            ("swp10".to_owned(), port(None)),
            ("swp2".to_owned(), port(Some(heard("52:54:00:00:01:01", "web-1", "52:54:00:00:01:02")))),
            ("swp1".to_owned(), port(Some(heard("52:54:00:00:01:01", "web-1", "NIC.1")))),
            ("swp49".to_owned(), port(Some(heard("44:38:39:00:00:02", "spine1", "swp1")))),
        ]
        .into(),
    };
    let facts = json!({"hostname": "leaf1", "os_version": "Cumulus Linux 5.9", "serial": "S1", "model": "SN3700", "mac": "44:38:39:00:00:01"});
    let response = json!({"facts": facts, "state": state});
    let jobs = rig.group(None, Some(leaf), &["switch.discover"]).await;
    rig.report(&jobs[0], JobStatus::ReturnedSuccess, Some(response), None).await;
    for _ in 0..200 {
        if rig.events("network_device.registered").await == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let device = entity::network_device::Entity::find_by_id(leaf).one(&rig.db.read).await.unwrap().unwrap();
    assert_eq!((device.status.as_str(), device.serial.as_deref()), ("active", Some("S1")));
    let ports = entity::network_device_port::Entity::find()
        .order_by_asc(entity::network_device_port::Column::Id)
        .all(&rig.db.read)
        .await
        .unwrap();
    assert_eq!(ports.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["swp1", "swp2", "swp10", "swp49"]);
    assert_eq!((ports[0].untagged, &ports[0].tagged), (Some(100), &json!([200])));
    let nics = rig.interfaces(server).await;
    let at: Vec<_> = nics.iter().map(|i| (i.network_device_id, i.network_device_port.as_deref())).collect();
    assert_eq!(at, [(Some(leaf), Some("swp1")), (Some(leaf), Some("swp2"))]);
    // The spine says the same of the link; it is one link.
    let far = SwitchState {
        ports: [("swp1".to_owned(), port(Some(heard("44:38:39:00:00:01", "leaf1", "swp49"))))].into(),
        ..SwitchState::default()
    };
    for _ in 0..2 {
        rig.see(SITE, Observed::Switch { network_device_id: spine, state: far.clone() }).await;
    }
    let links = entity::fabric_link::Entity::find().all(&rig.db.read).await.unwrap();
    assert_eq!(links.len(), 1);
    assert_eq!((links[0].port_a.as_str(), links[0].port_b.as_str()), ("swp49", "swp1"));
    // Somebody swaps the cables; a silent port keeps what was there.
    let swapped = SwitchState {
        ports: [
            ("swp1".to_owned(), port(Some(heard("52:54:00:00:01:01", "web-1", "52:54:00:00:01:02")))),
            ("swp2".to_owned(), port(None)),
        ]
        .into(),
        ..state.clone()
    };
    rig.see(SITE, Observed::Switch { network_device_id: leaf, state: swapped }).await;
    let at: Vec<_> = rig.interfaces(server).await.iter().map(|i| i.network_device_port.clone()).collect();
    assert_eq!(at, [None, Some("swp1".into())]);
    assert_eq!(rig.events("server.cabling").await, 1, "one that was moved");
    assert_eq!(entity::network_device_port::Entity::find().count(&rig.db.read).await.unwrap(), 3, "ports that went");
    // Another site has nothing to say about it.
    rig.see(2, Observed::Switch { network_device_id: leaf, state }).await;
    assert_eq!(entity::network_device_port::Entity::find().count(&rig.db.read).await.unwrap(), 3);
}

async fn what_a_site_sees(db: Database) {
    let rig = rig(db).await;
    let id = rig.server("10.0.0.1").await;
    let revision = rig.row(id).await.revision;
    rig.see(SITE, Observed::Power { server_id: id, power: PowerState::On }).await;
    rig.see(2, Observed::Power { server_id: id, power: PowerState::Off }).await;
    let row = rig.row(id).await;
    assert_eq!(
        (row.power.as_str(), row.revision),
        ("on", revision),
        "not of the other site, and no change of the object"
    );
    for error in [Some("no route"), Some("no route"), Some("timeout"), None, None] {
        rig.see(SITE, Observed::Bmc { server_id: id, error: error.map(str::to_owned) }).await;
    }
    assert_eq!(rig.events("server.bmc_unreachable").await, 1);
    assert_eq!(rig.events("server.bmc_reachable").await, 1);
    let print = |sha: &str| Observed::Fingerprint { object: "server".into(), id, sha256: sha.into() };
    rig.see(SITE, print("AA")).await;
    assert_eq!(rig.row(id).await.tls_fingerprint.as_deref(), Some("aa"));
    for _ in 0..2 {
        rig.see(SITE, print("bb")).await;
    }
    assert_eq!(rig.row(id).await.tls_fingerprint.as_deref(), Some("aa"), "pinned once");
    assert_eq!(rig.events("server.certificate").await, 1);
    assert_eq!(rig.row(id).await.extra["shownFingerprint"], "bb");
    for _ in 0..2 {
        let mac = "52:54:00:ff:00:01".to_owned();
        rig.see(
            SITE,
            Observed::UnknownMachine { mac, address: None, circuit_id: Some("swp7".into()), vendor_class: None },
        )
        .await;
    }
    rig.see(
        SITE,
        Observed::UnknownMachine { mac: "nonsense".into(), address: None, circuit_id: None, vendor_class: None },
    )
    .await;
    assert_eq!(rig.events("machine.unknown").await, 1);
    rig.see(SITE, Observed::OsUp { server_id: id }).await;
    rig.see(SITE, Observed::OsUp { server_id: 99 }).await;
    assert_eq!(rig.events("server.os_up").await, 1);
}

async fn a_server_is_cleaned(db: Database) {
    let rig = rig(db).await;
    let id = rig.server("10.0.0.1").await;
    let set = async |status: &str| {
        let mut row: entity::server::ActiveModel = rig.row(id).await.into();
        row.status = Set(status.into());
        row.server_type_id = Set(Some(1));
        row.update(&rig.db.write).await.unwrap();
    };
    set("cleaning").await;
    let jobs = rig.group(Some(id), None, &["server.clean"]).await;
    rig.report(&jobs[0], JobStatus::ThrownError, None, Some("the disk does not answer")).await;
    let row = rig.until("told", id, |s| s.status == "cleaning_required").await;
    assert!(row.status_reason.unwrap().contains("does not answer"));
    set("cleaning").await;
    let jobs = rig.group(Some(id), None, &["server.clean"]).await;
    let erased = json!([
        {"name": "nvme0n1", "serial": "N1", "model": "M1", "size": 480_000_000_000_u64, "erased": true, "method": "discarded", "verified": "read back in full, all zero"},
        {"name": "sda", "serial": "S1", "size": 1, "erased": false, "method": "left alone: the cleanup policy says so"},
    ]);
    for _ in 0..2 {
        let answer = json!({"power": "off", "erased": erased});
        rig.report(&jobs[0], JobStatus::ReturnedSuccess, Some(answer), None).await;
    }
    let row = rig.until("cleaned", id, |s| s.status == "available").await;
    assert_eq!((row.power.as_str(), row.status_reason), ("off", None));
    assert_eq!((rig.events("server.cleaned").await, rig.events("server.cleaning_failed").await), (1, 1));
    // What was erased, and how, is kept for good; told twice, it is kept once.
    let kept = entity::cleaning_certificate::Entity::find()
        .order_by_asc(entity::cleaning_certificate::Column::Id)
        .all(&rig.db.read)
        .await
        .unwrap();
    assert_eq!(kept.iter().map(|c| c.succeeded).collect::<Vec<_>>(), [false, true]);
    assert!(kept[0].reason.as_deref().unwrap().contains("does not answer"));
    assert_eq!((kept[1].server_name.as_str(), kept[1].disks[0]["serial"].as_str()), ("10.0.0.1", Some("N1")));
    assert_eq!(kept[1].disks[0]["verified"], "read back in full, all zero");
    let told = entity::event::Entity::find().filter(entity::event::Column::Kind.eq("server.cleaning_certificate"));
    let told = told.order_by_desc(entity::event::Column::Id).all(&rig.db.read).await.unwrap();
    assert_eq!((told.len(), told[0].title.as_str()), (2, "Server 10.0.0.1: 1 of 2 disks erased"));
    assert!(told[0].message.contains("nvme0n1 (N1): discarded; read back in full"), "{}", told[0].message);
    // Signed words are kept when the signature holds; another key than before is told of.
    for (n, (good, keys)) in [(true, 0), (true, 1), (false, 1)].into_iter().enumerate() {
        set("cleaning").await;
        let (key, public_key) = crypto::signature::generate().unwrap();
        let statement = format!("{{\"kind\":\"steelyard.cleaning/1\",\"n\":{n}}}");
        let signature = crypto::signature::sign(&key, if good { statement.as_bytes() } else { b"other" }).unwrap();
        let signed = json!({"statement": statement, "public_key": public_key, "signature": signature});
        let steps = json!([{"what": "Trusted platform module", "done": true, "words": "cleared"}]);
        let jobs = rig.group(Some(id), None, &["server.clean"]).await;
        let answer = json!({"power": "off", "erased": erased, "steps": steps, "signed": signed});
        rig.report(&jobs[0], JobStatus::ReturnedSuccess, Some(answer), None).await;
        rig.until("cleaned", id, |s| s.status == "available").await;
        let last = entity::cleaning_certificate::Entity::find().order_by_desc(entity::cleaning_certificate::Column::Id);
        let last = last.one(&rig.db.read).await.unwrap().unwrap();
        assert_eq!((last.signed.is_some(), rig.events("site.statement_key").await), (good, keys));
        assert_eq!(last.steps.unwrap()[0]["words"], "cleared");
    }
    // A server that has lost a GPU is erased, and not handed on.
    set("cleaning").await;
    let gpu = |n: usize| json!({"vendor": "NVIDIA", "model": "H100", "serial": format!("G{n}"), "memory_mib": 1});
    let mut row: entity::server::ActiveModel = rig.row(id).await.into();
    let whole = |gpus: Value| {
        let mut all = serde_json::to_value(model::bmc::HardwareInventory::default()).unwrap();
        all["gpus"] = gpus;
        all
    };
    let (bmc, inside) = (whole(json!([gpu(1), gpu(2)])), whole(json!([gpu(1), gpu(2)])));
    row.inventory = Set(json!({"sources": {"bmc": bmc, "inBand": inside}}));
    row.update(&rig.db.write).await.unwrap();
    let jobs = rig.group(Some(id), None, &["server.clean"]).await;
    let answer = json!({"power": "off", "erased": erased, "gpus": [gpu(1)]});
    rig.report(&jobs[0], JobStatus::ReturnedSuccess, Some(answer), None).await;
    let row = rig.until("held back", id, |s| s.status == "unavailable").await;
    assert!(row.status_reason.as_deref().unwrap().contains("1 of 2 GPUs is seen"), "{row:?}");
    assert_eq!(rig.events("server.gpu").await, 1);
    // Mended, it is handed on after the next cleaning.
    set("cleaning").await;
    let jobs = rig.group(Some(id), None, &["server.clean"]).await;
    let answer = json!({"power": "off", "erased": erased, "gpus": [gpu(1), gpu(2)]});
    rig.report(&jobs[0], JobStatus::ReturnedSuccess, Some(answer), None).await;
    let row = rig.until("mended", id, |s| s.status == "available").await;
    assert_eq!(row.status_reason, None);
    // What a deploy cleans is none of its business.
    set("used").await;
    let jobs = rig.group(Some(id), None, &["server.clean"]).await;
    rig.report(&jobs[0], JobStatus::ReturnedSuccess, Some(json!({"power": "off"})), None).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(rig.row(id).await.status, "used");
}

async fn a_password_counts_once_it_is_proved(db: Database) {
    let rig = rig(db).await;
    let id = rig.server("10.0.0.1").await;
    let sealed = |text: &str| rig.sealer.seal(&Clear(text.into())).unwrap().0;
    let waits = async |text: &str| {
        let mut row: entity::server::ActiveModel = rig.row(id).await.into();
        row.bmc_next_password = Set(Some(sealed(text)));
        row.update(&rig.db.write).await.unwrap();
    };
    let ordered = async |text: &str| {
        let job = rig.group(Some(id), None, &["server.rotate_credentials"]).await.remove(0);
        let password = rig.sealer.for_site(SITE).seal(&Clear(text.into())).unwrap();
        let mut row: job::ActiveModel = job.clone().into();
        row.payload = Set(json!({"server_id": id, "password": password}));
        row.update(&rig.db.write).await.unwrap();
        job
    };
    let password = async || {
        let sealed = rig.row(id).await.bmc_password.unwrap();
        rig.sealer.open(&model::secret::Sealed(sealed)).unwrap().0
    };
    // One that failed: the old one stays, the new one is kept to be tried again.
    waits("first").await;
    let job = ordered("first").await;
    rig.report(&job, JobStatus::ThrownError, None, Some("the BMC is silent")).await;
    for _ in 0..100 {
        if rig.events("server.credentials_not_rotated").await > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((password().await, rig.row(id).await.bmc_next_password.is_some()), ("calvin".into(), true));
    // One that nobody waits for.
    let job = ordered("other").await;
    rig.report(&job, JobStatus::ReturnedSuccess, Some(json!({"rotated": true})), None).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(password().await, "calvin");
    // One that the BMC has proved, told twice.
    let job = ordered("first").await;
    for _ in 0..2 {
        rig.report(&job, JobStatus::ReturnedSuccess, Some(json!({"rotated": true})), None).await;
    }
    rig.until("rotated", id, |s| s.bmc_next_password.is_none()).await;
    assert_eq!(password().await, "first");
    assert_eq!(rig.events("server.credentials_rotated").await, 1);
    let fact = entity::site_snapshot_item::Entity::find()
        .filter(entity::site_snapshot_item::Column::ItemKey.eq(format!("server/{id}")))
        .one(&rig.db.read)
        .await
        .unwrap()
        .unwrap();
    let told = fact.value["bmc"]["password"].as_str().unwrap().to_owned();
    assert_eq!(rig.sealer.for_site(SITE).open(&model::secret::Sealed(told)).unwrap().0, "first");
}

async fn a_bmc_that_asks_for_an_address_becomes_a_server(db: Database) {
    let rig = rig(db).await;
    let ask = async |mac: &str, address: &str, class: &str| {
        let what = Observed::UnknownMachine {
            mac: mac.into(),
            address: Some(address.into()),
            circuit_id: Some("oob:7".into()),
            vendor_class: Some(class.into()),
        };
        rig.see(SITE, what).await;
    };
    let servers = async || entity::server::Entity::find().all(&rig.db.read).await.unwrap();
    // A host stays in quarantine, however often it asks.
    for _ in 0..3 {
        ask("52:54:00:00:00:01", "10.0.0.21", "PXEClient:Arch:00007").await;
    }
    assert!(servers().await.is_empty());
    // A BMC without a login waits for it; one that has a login ready begins.
    for _ in 0..3 {
        ask("52:54:00:00:00:02", "10.0.0.22", "iDRAC").await;
    }
    let found = servers().await;
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].bmc_address.as_deref(), found[0].bmc_mac.as_deref(), found[0].status.as_str()),
        (Some("10.0.0.22"), Some("52:54:00:00:00:02"), "registering")
    );
    assert!(found[0].status_reason.as_deref().unwrap().contains("waiting for credentials"));
    let mut login = entity::server_default_credentials::new();
    login.site_id = Set(SITE);
    login.mac = Set(Some("52:54:00:00:00:03".into()));
    login.username = Set("root".into());
    login.password = Set(rig.sealer.seal(&Clear("calvin".into())).unwrap().0);
    login.extra = Set(json!({"defaultRackName": "R7"}));
    login.insert(&rig.db.write).await.unwrap();
    ask("52:54:00:00:00:03", "10.0.0.23", "HPE iLO 5").await;
    let found = servers().await;
    assert_eq!(
        (found.len(), found[1].bmc_username.as_deref(), found[1].rack.as_deref()),
        (2, Some("root"), Some("R7"))
    );
    let jobs = job::Entity::find().filter(job::Column::ServerId.eq(found[1].id)).count(&rig.db.read).await.unwrap();
    assert_eq!(jobs, 3, "inventory, discovery, end");
    // A site that lists its BMCs takes no other.
    let site = entity::site::Entity::find_by_id(SITE).one(&rig.db.read).await.unwrap().unwrap();
    let mut site: entity::site::ActiveModel = site.into();
    site.config = Set(
        json!({"serverPolicy": {"dhcpBmcMacAddressWhitelistEnabled": true, "dhcpBmcMacAddressWhitelist": ["52-54-00-00-00-05"]}}),
    );
    site.update(&rig.db.write).await.unwrap();
    ask("52:54:00:00:00:04", "10.0.0.24", "iDRAC").await;
    assert_eq!(servers().await.len(), 2);
    ask("52:54:00:00:00:05", "10.0.0.25", "iDRAC").await;
    assert_eq!(servers().await.len(), 3);
    assert_eq!(rig.events("server.zero_touch").await, 3);
    let listed = entity::unknown_machine::Entity::find()
        .order_by_asc(entity::unknown_machine::Column::Mac)
        .all(&rig.db.read)
        .await
        .unwrap();
    let kinds: Vec<(&str, bool)> = listed.iter().map(|m| (m.kind.as_str(), m.server_id.is_some())).collect();
    assert_eq!(kinds, [("host", false), ("bmc", true), ("bmc", true), ("bmc", false), ("bmc", true)]);
    assert_eq!(listed[0].circuit_id.as_deref(), Some("oob:7"));
}

async fn a_bmc_that_refuses_its_login_is_tried_with_the_site_s(db: Database) {
    let rig = rig(db).await;
    let login = async |serial: Option<&str>, vendor: Option<&str>, name: &str, password: &str| {
        let mut row = entity::server_default_credentials::new();
        row.site_id = Set(SITE);
        row.serial = Set(serial.map(str::to_owned));
        row.vendor = Set(vendor.map(str::to_owned));
        row.username = Set(name.into());
        row.password = Set(rig.sealer.seal(&Clear(password.into())).unwrap().0);
        row.extra = Set(json!({}));
        row.insert(&rig.db.write).await.unwrap();
    };
    let refused = "BMC 10.0.0.1 refuses the login; correct the credentials of the server";
    let newest = async |id: Id| {
        let jobs = job::Entity::find()
            .filter(job::Column::ServerId.eq(id))
            .filter(job::Column::Function.eq("server.inventory"));
        jobs.order_by_desc(job::Column::Id).one(&rig.db.read).await.unwrap().unwrap()
    };
    let id = rig.server("10.0.0.1").await;
    let mut row: entity::server::ActiveModel = rig.row(id).await.into();
    row.vendor = Set(Some("Dell Inc.".into()));
    row.bmc_next_password = Set(Some("left over".into()));
    row.update(&rig.db.write).await.unwrap();
    // Somebody reset the BMC: the login of its vendor is what it has now.
    login(None, None, "nobody", "else").await;
    login(None, Some("Dell"), "root", "calvin").await;
    let jobs = rig.group(Some(id), None, &["server.inventory", "server.finish_registration"]).await;
    rig.report(&jobs[0], JobStatus::ThrownError, None, Some(refused)).await;
    let row = rig.until("given the vendor's login", id, |s| s.bmc_username.as_deref() == Some("root")).await;
    assert_eq!((row.status.as_str(), row.status_reason, row.bmc_next_password), ("registering", None, None));
    assert_eq!(rig.events("server.login_refused").await, 1);
    let next = newest(id).await;
    assert!(next.group_id > jobs[0].group_id, "it is registered again by itself");
    // That one is refused as well: there is no other, and it waits, in words.
    rig.report(&next, JobStatus::ThrownError, None, Some(refused)).await;
    let row = rig.until("waiting", id, |s| s.status == "registration_incomplete").await;
    assert!(row.status_reason.unwrap().starts_with("waiting for credentials: its BMC refuses"));
    rig.report(&next, JobStatus::ThrownError, None, Some(refused)).await;
    assert_eq!(newest(id).await.id, next.id, "nothing is tried twice");
    // Other credentials that match it, and it goes on by itself.
    login(Some("other"), None, "admin", "no match").await;
    let app = App::new(rig.db.clone(), rig.engine.clone(), rig.sealer.clone());
    let resume = async || {
        let txn = rig.db.begin().await.unwrap();
        api::kinds::server_entry::resume_waiting(&app, &txn, SITE).await.unwrap();
        txn.commit().await.unwrap();
    };
    resume().await;
    assert_eq!(rig.row(id).await.status, "registration_incomplete");
    let mut row: entity::server::ActiveModel = rig.row(id).await.into();
    row.serial = Set(Some("other".into()));
    row.update(&rig.db.write).await.unwrap();
    resume().await;
    let row = rig.row(id).await;
    assert_eq!((row.status.as_str(), row.bmc_username.as_deref()), ("registering", Some("admin")));
    assert!(newest(id).await.id > next.id);
    // One that somebody uses is left alone, whatever its BMC says.
    let used = rig.server("10.0.0.2").await;
    let mut row: entity::server::ActiveModel = rig.row(used).await.into();
    row.status = Set("used_registering".into());
    row.update(&rig.db.write).await.unwrap();
    let jobs = rig.group(Some(used), None, &["server.inventory"]).await;
    rig.report(&jobs[0], JobStatus::ThrownError, None, Some(refused)).await;
    let row = rig.until("as it was", used, |s| s.status == "used").await;
    assert_eq!(row.bmc_username.as_deref(), Some("admin"));
}

use catalogs::catalogs_are_fetched;

/// Each on both databases.
mod on {
    macro_rules! both {
        ($($name:ident)*) => { $(#[tokio::test] async fn $name() { super::testing::both(super::$name).await; })* };
    }
    both! {
        a_bmc_that_refuses_its_login_is_tried_with_the_site_s
        catalogs_are_fetched
        a_server_registers
        a_registration_that_fails_says_why
        switches_tell_their_cables
        a_server_is_cleaned
        a_password_counts_once_it_is_proved
        a_bmc_that_asks_for_an_address_becomes_a_server
        what_a_site_sees
    }
}
