//! A Site Controller that updates firmware, boots images that people bring, and asks BMCs for what only they can do: against the simulated
//! datacenter, with a scripted Global Controller behind a real link; BMCs that restart in the middle, a site that does, servers in use.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use crypto::{Ca, Sealer, ca::SiteName};
use link::{
    Queue,
    server::{self, Enrolment, Image},
};
use model::{
    Id,
    bmc::BmcEndpoint,
    firmware::{
        BiosSettings, BmcAction, BootOrder, Inventory, Sensors, ServerBios, ServerBmc, ServerBootIso, ServerEventLog,
        ServerFirmwareInventory, ServerFirmwareUpdate, ServerSensors, Updated,
    },
    job::{JobRefs, JobReport, JobSpec, JobStatus, RetryPolicy, Target},
    link::{Down, Hello, Up},
    order::{Order, OrderBook, OrderedJob},
    secret::Clear,
    snapshot::{Fact, SiteServer, SnapshotItem},
    template::ImageRef,
};
use serde_json::{Value, json};
use site::{Running, SiteConfig};
use store::Database;
use tokio_util::sync::CancellationToken;
use yard::{Yard, YardConfig};

const TOKEN: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
const SITE: Id = 3;
/// The instance that holds the servers in use.
const HOLDER: Id = 77;
const MODELS: [&str; 4] = ["dell-r650", "hpe-dl365", "supermicro-421ge", "nvidia-dgx-h100"];

struct Global {
    ca: Ca,
    sealer: Sealer,
    images: Mutex<HashMap<String, Vec<u8>>>,
    facts: Mutex<Vec<SnapshotItem>>,
    jobs: Mutex<HashMap<Id, JobReport>>,
}

#[async_trait]
impl server::Global for Global {
    async fn enrol(&self, _: &str, csr: &str, _: &str, _: &str) -> Result<Enrolment, String> {
        let (certificate_pem, _) = self.ca.sign_site(csr, SITE, 90).map_err(|e| e.to_string())?;
        Ok(Enrolment { site_id: SITE, certificate_pem, sealing_key: self.sealer.to_hex().to_string() })
    }
    async fn renew(&self, _: &SiteName, _: &str) -> Result<String, String> {
        Err("not in this test".into())
    }
    async fn admit(&self, _: &SiteName) -> Result<(), String> {
        Ok(())
    }
    async fn connected(&self, _: &SiteName, _: &Hello, _: bool) -> Result<(), String> {
        Ok(())
    }
    async fn disconnected(&self, _: &SiteName) {}
    async fn message(&self, _: Id, up: Up) -> Result<(), String> {
        if let Up::Job(report) = up {
            let mut jobs = self.jobs.lock().unwrap();
            if jobs.get(&report.job_id).is_none_or(|known| known.sequence <= report.sequence) {
                jobs.insert(report.job_id, report);
            }
        }
        Ok(())
    }
    async fn snapshot(&self, _: Id, generation: i64) -> Result<Option<Down>, String> {
        let facts = self.facts.lock().unwrap();
        let items: Vec<_> = facts.iter().filter(|f| f.generation > generation).cloned().collect();
        Ok(items.last().map(|l| l.generation).map(|generation| Down::Snapshot { generation, items }))
    }
    async fn image(&self, _: Id, sha256: &str) -> Result<Image, String> {
        self.images.lock().unwrap().get(sha256).cloned().map(Image::Bytes).ok_or_else(|| "no such image".into())
    }
}

struct Rig {
    block: u8,
    dir: tempfile::TempDir,
    global: Arc<Global>,
    db: Database,
    queue: Queue,
    link: SocketAddr,
    stop: CancellationToken,
    yard: Yard,
    next_job: Id,
}

impl Rig {
    async fn new(block: u8, models: &[&str], presets: &[&str]) -> Self {
        crypto::install_provider();
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(&dir.path().join("ca")).unwrap();
        let identity = ca.server(&["127.0.0.1".into()]).unwrap();
        let db =
            Database::open(&format!("sqlite://{}?mode=rwc", dir.path().join("global.db").display())).await.unwrap();
        db.migrate("link", link::MIGRATIONS).await.unwrap();
        std::fs::create_dir_all(dir.path().join("boot/agent")).unwrap();
        for file in ["undionly.kpxe", "ipxe.efi", "rescue.iso", "agent/vmlinuz", "agent/initrd"] {
            std::fs::write(dir.path().join("boot").join(file), vec![1u8; 4000]).unwrap();
        }
        let global = Arc::new(Global {
            ca,
            sealer: Sealer::generate(),
            images: Mutex::default(),
            facts: Mutex::default(),
            jobs: Mutex::default(),
        });
        let (queue, stop) = (Queue::new(db.clone()), CancellationToken::new());
        let ca_pem = global.ca.certificate_pem().to_owned();
        let (link, _) = server::serve("127.0.0.1:0", &ca_pem, &identity, queue.clone(), global.clone(), stop.clone())
            .await
            .unwrap();
        let yard = YardConfig {
            servers: models.len(),
            models: models.iter().map(|m| (*m).to_owned()).collect(),
            bmc_base: Ipv4Addr::new(127, 152, block, 1),
            bmc_port: 0,
            switch_base: Ipv4Addr::new(127, 151, block, 1),
            nvue_port: 0,
            relay_base: Ipv4Addr::new(127, 150, block, 1),
            admin_listen: "127.0.0.1:0".parse().unwrap(),
            post_seconds: 0.1,
            os_boot_seconds: 0.1,
            dhcp_timeout_seconds: 0.2,
            bmc_reset_seconds: 0.7,
            firmware_seconds: 1.0,
            fault_presets: presets.iter().map(|p| (*p).to_owned()).collect(),
            ..YardConfig::default()
        };
        let yard = yard::run(yard).await.unwrap();
        let rig = Self { block, dir, global, db, queue, link, stop, yard, next_job: 1 };
        rig.enter(false);
        rig
    }

    fn port(&self, n: u16) -> u16 {
        22_000 + u16::from(self.block) * 10 + n
    }

    async fn site(&self) -> Running {
        let config = SiteConfig {
            data_dir: self.dir.path().join("site"),
            global: format!("https://{}", self.link),
            token: Some(link::enrol::word(TOKEN, self.global.ca.certificate_pem()).unwrap()),
            dhcp: format!("127.0.0.1:{}", self.port(1)),
            tftp: format!("127.0.0.1:{}", self.port(2)),
            http: format!("127.0.0.1:{}", self.port(3)),
            https: format!("127.0.0.1:{}", self.port(4)),
            boot_dir: self.dir.path().join("boot"),
            ..SiteConfig::default()
        };
        site::start(config).await.unwrap()
    }

    /// The servers of the yard as facts; in use or not.
    fn enter(&self, in_use: bool) {
        let mut known = self.global.facts.lock().unwrap();
        for (i, server) in self.yard.world().servers.iter().enumerate() {
            let id = i as Id + 1;
            let fact = Fact::Server(SiteServer {
                id,
                name: format!("server-{id}"),
                bmc: Some(BmcEndpoint {
                    address: format!("{}:{}", server.spec.bmc, server.bmc_port.get().unwrap()),
                    username: "root".into(),
                    password: self.global.sealer.seal(&Clear("calvin-yard".into())).unwrap(),
                    tls_fingerprint: None,
                }),
                in_use,
                instance_id: in_use.then_some(HOLDER),
                ..SiteServer::default()
            });
            let generation = known.len() as i64 + 1;
            known.push(SnapshotItem { key: format!("server/{id}"), generation, value: Some(fact) });
        }
    }

    fn image(&self, component: &str, version: &str) -> model::firmware::Image {
        let mut bytes = json!({"component": component, "version": version}).to_string().into_bytes();
        bytes.push(b'\n');
        bytes.resize(200_000, 9);
        let sha256 = crypto::token::digest(&bytes);
        let size = bytes.len() as u64;
        self.global.images.lock().unwrap().insert(sha256.clone(), bytes);
        model::firmware::Image::Checked(ImageRef { sha256, size, format: "raw".into(), url: None })
    }

    /// Orders one job.
    async fn order<P: Order>(&mut self, payload: &P, instance_id: Option<Id>) -> Id {
        let id = self.next_job;
        self.next_job += 1;
        let spec = JobSpec {
            key: "1".into(),
            function: P::NAME.into(),
            title: P::NAME.into(),
            site_id: Some(SITE),
            target: Target { kind: "test".into(), id, generation: 0 },
            payload: serde_json::to_value(payload).unwrap(),
            depends_on: Vec::new(),
            retry: RetryPolicy { max: 2, min_seconds: 1, max_seconds: 2 },
            timeout_seconds: 120,
            refs: JobRefs { instance_id, ..JobRefs::default() },
            can_be_skipped: true,
            requires_confirmation: false,
        };
        let book = OrderBook {
            group_id: id,
            group_type: "test".into(),
            description: "test".into(),
            jobs: vec![OrderedJob { id, spec }],
        };
        let txn = self.db.begin().await.unwrap();
        self.queue.push(&txn, SITE, None, &Down::Orders(book)).await.unwrap();
        txn.commit().await.unwrap();
        self.queue.wake(SITE);
        id
    }

    async fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let end = tokio::time::Instant::now() + Duration::from_secs(90);
        while !condition() {
            assert!(
                tokio::time::Instant::now() < end,
                "not in time: {what}; jobs: {:#?}",
                self.global.jobs.lock().unwrap()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn report(&self, job: Id) -> Option<JobReport> {
        self.global.jobs.lock().unwrap().get(&job).cloned()
    }

    async fn done<P: Order, T: serde::de::DeserializeOwned>(&mut self, payload: &P) -> T {
        let job = self.order(payload, None).await;
        self.good(job).await
    }

    async fn good<T: serde::de::DeserializeOwned>(&self, job: Id) -> T {
        self.until(&format!("job {job}"), || {
            let report = self.report(job);
            let failed = report.as_ref().is_some_and(|r| r.status == JobStatus::ThrownError);
            assert!(!failed, "{report:#?}");
            report.is_some_and(|r| r.status == JobStatus::ReturnedSuccess)
        })
        .await;
        serde_json::from_value(self.report(job).unwrap().response.unwrap()).unwrap()
    }

    async fn bad(&self, job: Id, words: &str) {
        self.until(&format!("the failure of job {job}"), || {
            self.report(job).is_some_and(|r| r.status == JobStatus::ThrownError)
        })
        .await;
        let error = self.report(job).unwrap().error.unwrap_or_default();
        assert!(error.contains(words), "{error}");
    }

    async fn update(&mut self, server_id: Id, kind: &str, version: &str) -> ServerFirmwareUpdate {
        let found: Inventory = self.done(&ServerFirmwareInventory { server_id }).await;
        let part = found.components.iter().find(|c| c.kind == kind).unwrap();
        ServerFirmwareUpdate {
            server_id,
            component: part.id.clone(),
            name: part.name.clone(),
            kind: kind.into(),
            image: self.image(if kind == "bmc" { "BMC" } else { "BIOS" }, version),
            version: Some(version.into()),
            restart: true,
            hold: false,
            agreed_until: None,
        }
    }

    fn on(&self, server: usize) -> bool {
        self.yard.world().servers[server].with(|s| s.kept.on)
    }

    async fn end(self, site: Running) {
        site.stop().await;
        self.stop.cancel();
        self.yard.shutdown().await;
    }
}

fn in_an_hour() -> String {
    store::time::in_seconds(3600)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn firmware_of_every_model_is_updated_and_read_back() {
    let mut rig = Rig::new(1, &MODELS, &[]).await;
    let site = rig.site().await;
    let servers = MODELS.len() as Id;
    let mut jobs = Vec::new();
    for server_id in 1..=servers {
        let order = rig.update(server_id, "bmc", "99.1").await;
        jobs.push(rig.order(&order, None).await);
        // The second waits for the first: one image at a time.
        let order = rig.update(server_id, "bios", "9.9.1").await;
        jobs.push(rig.order(&order, None).await);
    }
    for job in jobs {
        let done: Updated = rig.good(job).await;
        assert!(matches!(done.version.as_deref(), Some("99.1" | "9.9.1")) && !done.waits_for_restart, "{done:?}");
    }
    for server_id in 1..=servers {
        let now: Inventory = rig.done(&ServerFirmwareInventory { server_id }).await;
        let version = |kind: &str| now.components.iter().find(|c| c.kind == kind).unwrap().version.clone().unwrap();
        assert_eq!((version("bmc").as_str(), version("bios").as_str()), ("99.1", "9.9.1"));
        assert!(!rig.on(server_id as usize - 1), "it was off before, and is again");
        // What is so already is not written.
        let order = rig.update(server_id, "bios", "9.9.1").await;
        let _: Updated = rig.done(&order).await;
    }
    // An image for another machine ends in words after its tries, and without a restart it waits.
    let mut order = rig.update(1, "bios", "9.9.2").await;
    order.image = rig.image("TPM", "9.9.2");
    let job = rig.order(&order, None).await;
    rig.bad(job, "does not have").await;
    for server_id in 1..=servers {
        let order = ServerFirmwareUpdate { restart: false, hold: true, ..rig.update(server_id, "bios", "9.9.3").await };
        let job = rig.order(&order, None).await;
        // Its BMC may restart a server by itself: such an update is not begun.
        if rig.yard.world().servers[server_id as usize - 1].spec.model.key.starts_with("supermicro") {
            rig.bad(job, "cannot hold an update").await;
            continue;
        }
        let done: Updated = rig.good(job).await;
        assert!(done.waits_for_restart && done.version.as_deref() == Some("9.9.1"), "{done:?}");
    }
    rig.end(site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_survives_restarts_of_the_bmc_and_of_the_site() {
    let mut rig = Rig::new(2, &["dell-r650", "dell-r650"], &["bmc_restarts_in_update"]).await;
    let site = rig.site().await;
    // The first update is lost with the BMC's memory: it is begun again.
    let order = rig.update(1, "bmc", "99.1").await;
    let done: Updated = rig.done(&order).await;
    assert_eq!(done.version.as_deref(), Some("99.1"));
    let resets = rig.yard.world().servers[0].with(|s| s.kept.bmc.resets);
    assert_eq!(resets, 2, "once by the fault, once for the new firmware");

    // The site restarts while the BMC writes: the task is found again, and nothing is written twice.
    let order = rig.update(2, "bios", "9.9.1").await;
    let job = rig.order(&order, None).await;
    let writing = || rig.yard.world().servers[1].with(|s| s.kept.bmc.tasks.iter().any(|t| t.state == "Running"));
    rig.until("the BMC writes", writing).await;
    site.stop().await;
    let site = rig.site().await;
    let done: Updated = rig.good(job).await;
    assert_eq!(done.version.as_deref(), Some("9.9.1"));
    let tasks = rig.yard.world().servers[1].with(|s| s.kept.bmc.tasks.len());
    assert_eq!(tasks, 1, "it was written once");
    rig.end(site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_in_use_is_touched_with_its_owners_word_alone() {
    let mut rig = Rig::new(3, &["hpe-dl365"], &[]).await;
    let site = rig.site().await;
    let order = rig.update(1, "bios", "9.9.1").await;
    rig.enter(true);
    let past = Some("2026-01-01T00:00:00.000Z".to_owned());
    let iso = |agreed_until| ServerBootIso {
        server_id: 1,
        url: "http://127.0.0.1/none.iso".into(),
        name: "rescue".into(),
        eject_after_seconds: 60,
        agreed_until,
    };
    // The facts reach the site with the next orders.
    for (agreed_until, instance, words) in [
        (None, Some(HOLDER), "has not agreed"),
        (Some(in_an_hour()), None, "for which instance"),
        (past, Some(HOLDER), "is over"),
        (Some(in_an_hour()), Some(HOLDER + 1), "void"),
    ] {
        let order = ServerFirmwareUpdate { agreed_until: agreed_until.clone(), ..order.clone() };
        let job = rig.order(&order, instance).await;
        rig.bad(job, words).await;
        let job = rig.order(&iso(agreed_until), instance).await;
        rig.bad(job, words).await;
    }
    let job = rig.order(&ServerBmc { server_id: 1, action: BmcAction::FactoryReset }, Some(HOLDER)).await;
    rig.bad(job, "is in use").await;
    let writes = rig.yard.world().servers[0].with(|s| (s.kept.bmc.tasks.len(), s.boots, s.kept.bmc.inserted_image()));
    assert_eq!(writes, (0, 0, None), "nothing has reached the machine");

    let order = ServerFirmwareUpdate { agreed_until: Some(in_an_hour()), ..order };
    let job = rig.order(&order, Some(HOLDER)).await;
    let done: Updated = rig.good(job).await;
    assert_eq!(done.version.as_deref(), Some("9.9.1"));
    assert!(rig.on(0), "a server in use is left on");
    rig.end(site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_settings_sensors_and_logs() {
    let mut rig = Rig::new(4, &["dell-r650"], &[]).await;
    let site = rig.site().await;
    let url = format!("http://127.0.0.1:{}/boot/rescue.iso", rig.port(3));
    let iso = ServerBootIso {
        server_id: 1,
        url: url.clone(),
        name: "rescue".into(),
        eject_after_seconds: 4,
        agreed_until: None,
    };
    let job = rig.order(&iso, None).await;
    let inserted = || rig.yard.world().servers[0].with(|s| s.kept.bmc.inserted_image()) == Some(url.clone());
    rig.until("the image is inserted", inserted).await;
    let log = || rig.yard.world().servers[0].with(|s| s.log.iter().any(|l| l.contains("virtual CD has started")));
    rig.until("it boots", log).await;
    let answer: Value = rig.good(job).await;
    assert_eq!((&answer["ejected"], &answer["because"]), (&json!(true), &json!("its time is over")), "{answer}");
    assert!(!inserted(), "nobody finds it in the drive");

    let now: BiosSettings = rig.done(&ServerBios { server_id: 1, set: Default::default() }).await;
    assert_eq!((&now.attributes["NumLock"], now.pending.len()), (&json!("On"), 0));
    let set = [("NumLock".to_owned(), json!("Off"))].into();
    let now: BiosSettings = rig.done(&ServerBios { server_id: 1, set }).await;
    assert_eq!((&now.attributes["NumLock"], &now.pending["NumLock"]), (&json!("On"), &json!("Off")));
    let job = rig.order(&ServerBios { server_id: 1, set: [("NoSuch".to_owned(), json!(1))].into() }, None).await;
    rig.bad(job, "none of that name").await;

    let sensors: Sensors = rig.done(&ServerSensors { server_id: 1, max_age_seconds: None }).await;
    assert!(sensors.health == "ok" && !sensors.temperatures.is_empty() && sensors.power_watts.is_some(), "{sensors:?}");
    let log: Value = rig.done(&ServerEventLog { server_id: 1, clear: true }).await;
    assert!(!log["entries"].as_array().unwrap().is_empty());

    let act = |action| ServerBmc { server_id: 1, action };
    let order: BootOrder = rig.done(&act(BmcAction::BootOrder)).await;
    let mut other = order.order.clone();
    other.reverse();
    let after: BootOrder = rig.done(&act(BmcAction::SetBootOrder { order: other.clone() })).await;
    assert_eq!(after.order, other);
    let _: Value = rig.done(&act(BmcAction::EnableSnmp)).await;
    let _: Value = rig.done(&act(BmcAction::Syslog { target: "127.0.0.1:514".into() })).await;
    let kept = rig.yard.world().servers[0].with(|s| (s.kept.bmc.snmp, s.kept.bmc.syslog.clone()));
    assert_eq!(kept, (true, vec!["syslog://127.0.0.1:514".to_owned()]));
    let resets = |rig: &Rig| rig.yard.world().servers[0].with(|s| s.kept.bmc.resets);
    let before = resets(&rig);
    let _: Value = rig.done(&act(BmcAction::Reset)).await;
    assert_eq!(resets(&rig), before + 1);
    let _: Value = rig.done(&act(BmcAction::FactoryReset)).await;
    assert!(!rig.yard.world().servers[0].with(|s| s.kept.bmc.snmp));
    rig.end(site).await;
}
