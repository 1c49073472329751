//! A Site Controller against the simulated datacenter, with a scripted Global Controller behind a real link: registration, installation,
//! switches, a cut line, a restart in the middle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed preparation is a failed test")]

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use crypto::{Ca, Identity, Sealer, ca::SiteName};
use link::{
    Queue,
    server::{self, Enrolment, Image},
};
use model::{
    Id,
    bmc::{BmcEndpoint, HardwareInventory, PowerAction},
    boot::InstallSpec,
    cleaning::{CleanPlan, ErasedDisk},
    job::{JobCommand, JobReport, JobSpec, JobStatus, RetryPolicy, Target},
    link::{Down, Hello, Observed, Up},
    order::{
        Order, OrderBook, OrderedJob, ScanResult, ServerClean, ServerDiscover, ServerInstall, ServerInventory,
        ServerPower, ServerPowerStatus, ServerRotateCredentials, ServerScan, ServerStart, SwitchApply, SwitchDiscover,
    },
    secret::Clear,
    snapshot::{DhcpPool, Fact, SiteNetworkDevice, SiteServer, SnapshotItem},
    switch::{PortIntent, PortVlans, SwitchEndpoint, SwitchPatch, SwitchState},
    template::{ImageRef, OsInstall},
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set};
use site::SiteConfig;
use store::Database;
use tokio_util::sync::CancellationToken;
use yard::{Yard, YardConfig};

const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const SITE: Id = 3;

struct Global {
    ca: Ca,
    sealer: Sealer,
    image: Vec<u8>,
    facts: Mutex<Vec<SnapshotItem>>,
    jobs: Mutex<HashMap<Id, JobReport>>,
    seen: Mutex<Vec<Observed>>,
}

#[async_trait]
impl server::Global for Global {
    async fn enrol(&self, token: &str, csr: &str, _: &str, _: &str) -> Result<Enrolment, String> {
        assert_eq!(token, TOKEN);
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
        match up {
            Up::Job(report) => {
                let mut jobs = self.jobs.lock().unwrap();
                if jobs.get(&report.job_id).is_none_or(|known| known.sequence <= report.sequence) {
                    jobs.insert(report.job_id, report);
                }
            }
            Up::Observed(o) => self.seen.lock().unwrap().push(o.what),
            Up::Notice { .. } => {}
        }
        Ok(())
    }
    async fn snapshot(&self, _: Id, generation: i64) -> Result<Option<Down>, String> {
        let facts = self.facts.lock().unwrap();
        let items: Vec<_> = facts.iter().filter(|f| f.generation > generation).cloned().collect();
        Ok(items.last().map(|l| l.generation).map(|generation| Down::Snapshot { generation, items }))
    }
    async fn image(&self, _: Id, sha256: &str) -> Result<Image, String> {
        if sha256 == crypto::token::digest(&self.image) {
            Ok(Image::Bytes(self.image.clone()))
        } else {
            Err("no such image".into())
        }
    }
}

/// All parts, and the addresses of one test: tests run at the same time.
struct Rig {
    block: u8,
    dir: tempfile::TempDir,
    global: Arc<Global>,
    db: Database,
    queue: Queue,
    identity: Identity,
    link: SocketAddr,
    line: Option<(CancellationToken, tokio::task::JoinHandle<()>)>,
    next_job: Id,
    /// The instance that orders are for.
    ordered_for: Option<Id>,
}

impl Rig {
    async fn new(block: u8) -> Self {
        crypto::install_provider();
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(&dir.path().join("ca")).unwrap();
        let identity = ca.server(&["127.0.0.1".into()]).unwrap();
        let db =
            Database::open(&format!("sqlite://{}?mode=rwc", dir.path().join("global.db").display())).await.unwrap();
        db.migrate("link", link::MIGRATIONS).await.unwrap();
        let boot = dir.path().join("boot");
        std::fs::create_dir_all(boot.join("agent")).unwrap();
        for file in ["undionly.kpxe", "ipxe.efi", "agent/vmlinuz", "agent/initrd"] {
            std::fs::write(boot.join(file), vec![1u8; 4000]).unwrap();
        }
        let global = Arc::new(Global {
            ca,
            sealer: Sealer::generate(),
            image: (0..300_000u32).map(|i| (i * 7) as u8).collect(),
            facts: Mutex::default(),
            jobs: Mutex::default(),
            seen: Mutex::default(),
        });
        let mut rig = Self {
            block,
            queue: Queue::new(db.clone()),
            dir,
            global,
            db,
            identity,
            link: "127.0.0.1:0".parse().unwrap(),
            line: None,
            next_job: 1,
            ordered_for: None,
        };
        rig.connect().await;
        rig
    }

    async fn connect(&mut self) {
        let stop = CancellationToken::new();
        let end = tokio::time::Instant::now() + Duration::from_secs(10);
        let (address, serving) = loop {
            let (listen, ca) = (self.link.to_string(), self.global.ca.certificate_pem());
            match server::serve(&listen, ca, &self.identity, self.queue.clone(), self.global.clone(), stop.clone())
                .await
            {
                Ok(ok) => break ok,
                Err(e) => assert!(tokio::time::Instant::now() < end, "{e}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        self.link = address;
        self.line = Some((stop, serving));
    }

    async fn cut(&mut self) {
        let (stop, serving) = self.line.take().unwrap();
        stop.cancel();
        serving.await.unwrap();
    }

    fn site_config(&self) -> SiteConfig {
        let port = |n: u16| 20_000 + u16::from(self.block) * 10 + n;
        SiteConfig {
            data_dir: self.dir.path().join("site"),
            global: format!("https://{}", self.link),
            token: Some(link::enrol::word(TOKEN, self.global.ca.certificate_pem()).unwrap()),
            dhcp: format!("127.0.0.1:{}", port(1)),
            tftp: format!("127.0.0.1:{}", port(2)),
            http: format!("127.0.0.1:{}", port(3)),
            boot_dir: self.dir.path().join("boot"),
            ..SiteConfig::default()
        }
    }

    async fn yard(&self, servers: usize) -> Yard {
        let config = self.site_config();
        let yard_config = YardConfig {
            servers,
            bmc_base: Ipv4Addr::new(127, 142, self.block, 1),
            bmc_port: 0,
            switch_base: Ipv4Addr::new(127, 141, self.block, 1),
            nvue_port: 0,
            relay_base: Ipv4Addr::new(127, 140, self.block, 1),
            dhcp_server: config.dhcp.parse().unwrap(),
            tftp_port: config.tftp.parse::<SocketAddr>().unwrap().port(),
            admin_listen: "127.0.0.1:0".parse().unwrap(),
            post_seconds: 0.02,
            os_boot_seconds: 0.02,
            dhcp_timeout_seconds: 0.3,
            // A site that restarts is away for a moment: firmware must not have given up by then.
            boot_retry_seconds: 0.5,
            switch_apply_seconds: 0.02,
            ..YardConfig::default()
        };
        yard::run(yard_config).await.unwrap()
    }

    /// What a Global Controller would know after the BMCs and switches of the yard were entered.
    fn enter(&self, yard: &Yard) {
        let sealed = |text: &str| self.global.sealer.seal(&Clear(text.into())).unwrap();
        let mut facts: Vec<Fact> = vec![Fact::DhcpPool(DhcpPool {
            id: 1,
            subnet: "10.77.0.0/24".parse().unwrap(),
            first: "10.77.0.10".parse().unwrap(),
            last: "10.77.0.200".parse().unwrap(),
            gateway: None,
            relays: Vec::new(),
            lease_seconds: 600,
        })];
        for (i, server) in yard.world().servers.iter().enumerate() {
            facts.push(Fact::Server(SiteServer {
                id: i as Id + 1,
                name: format!("server-{i}"),
                bmc: Some(BmcEndpoint {
                    address: format!("{}:{}", server.spec.bmc, server.bmc_port.get().unwrap()),
                    username: "root".into(),
                    password: sealed("calvin-yard"),
                    tls_fingerprint: None,
                }),
                macs: Vec::new(),
                ..SiteServer::default()
            }));
        }
        for (i, switch) in yard.world().switches.iter().enumerate() {
            facts.push(Fact::NetworkDevice(SiteNetworkDevice {
                id: i as Id + 1,
                name: format!("switch-{i}"),
                endpoint: SwitchEndpoint {
                    driver: "cumulus_linux".into(),
                    address: switch.spec.address.to_string(),
                    port: switch.api_port.get().copied(),
                    username: "cumulus".into(),
                    password: sealed("CumulusLinux!"),
                    tls_fingerprint: None,
                },
            }));
        }
        let mut known = self.global.facts.lock().unwrap();
        for fact in facts {
            let key = match &fact {
                Fact::Server(s) => format!("server/{}", s.id),
                Fact::NetworkDevice(d) => format!("network_device/{}", d.id),
                Fact::DhcpPool(p) => format!("dhcp_pool/{}", p.id),
                _ => unreachable!(),
            };
            let generation = known.len() as i64 + 1;
            known.push(SnapshotItem { key, generation, value: Some(fact) });
        }
    }

    /// Orders a group of jobs; each waits for those before it. Returns their ids.
    async fn order(&mut self, jobs: Vec<(&str, serde_json::Value)>) -> Vec<Id> {
        let first = self.next_job;
        let book = OrderBook {
            group_id: first,
            group_type: "test".into(),
            description: "test".into(),
            jobs: jobs
                .into_iter()
                .enumerate()
                .map(|(i, (function, payload))| OrderedJob {
                    id: first + i as Id,
                    spec: JobSpec {
                        key: format!("{i}"),
                        function: function.into(),
                        title: function.into(),
                        site_id: Some(SITE),
                        target: Target { kind: "test".into(), id: first, generation: 0 },
                        payload,
                        depends_on: if i > 0 { vec![format!("{}", i - 1)] } else { Vec::new() },
                        retry: RetryPolicy { max: 5, min_seconds: 1, max_seconds: 2 },
                        timeout_seconds: 60,
                        refs: model::job::JobRefs { instance_id: self.ordered_for, ..Default::default() },
                        can_be_skipped: true,
                        requires_confirmation: false,
                    },
                })
                .collect(),
        };
        self.next_job += book.jobs.len() as Id;
        let ids = book.jobs.iter().map(|j| j.id).collect();
        let txn = self.db.begin().await.unwrap();
        self.queue.push(&txn, SITE, None, &Down::Orders(book)).await.unwrap();
        txn.commit().await.unwrap();
        self.queue.wake(SITE);
        ids
    }

    async fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let end = tokio::time::Instant::now() + Duration::from_mins(1);
        while !condition() {
            assert!(
                tokio::time::Instant::now() < end,
                "not in time: {what}; jobs: {:#?}",
                self.global.jobs.lock().unwrap()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn status(&self, job: Id) -> Option<JobStatus> {
        self.global.jobs.lock().unwrap().get(&job).map(|j| j.status)
    }

    fn answer<T: serde::de::DeserializeOwned>(&self, job: Id) -> T {
        serde_json::from_value(self.global.jobs.lock().unwrap()[&job].response.clone().unwrap()).unwrap()
    }

    async fn succeeded(&self, jobs: &[Id]) {
        for job in jobs {
            self.until(&format!("job {job}"), || {
                let status = self.status(*job);
                assert_ne!(status, Some(JobStatus::ThrownError), "{:#?}", self.global.jobs.lock().unwrap()[job]);
                status == Some(JobStatus::ReturnedSuccess)
            })
            .await;
        }
    }

    /// Changes a job behind the back of a site that does not run.
    async fn change_job(&self, id: Id, status: JobStatus, due: &str) {
        let path = self.dir.path().join("site/site.db");
        let db = Database::open(&format!("sqlite://{}", path.display())).await.unwrap();
        let txn = db.begin().await.unwrap();
        let (status, due_at) = (Set(status.as_str().into()), Set(due.into()));
        engine::entity::job::ActiveModel { id: Set(id), status, due_at, ..Default::default() }
            .update(&txn)
            .await
            .unwrap();
        txn.commit().await.unwrap();
    }

    fn install(&self, yard: &Yard, server_id: Id) -> serde_json::Value {
        let image = &self.global.image;
        let mac = yard.world().servers[server_id as usize - 1].spec.nics[0].mac;
        let mac = mac.map(|b| format!("{b:02x}")).join(":");
        serde_json::to_value(ServerInstall {
            server_id,
            spec: InstallSpec {
                instance_id: 40 + server_id,
                hostname: format!("web-{server_id}"),
                os: OsInstall {
                    template_id: 1,
                    name: "Test OS".into(),
                    os_name: "Test".into(),
                    os_version: "1".into(),
                    image: ImageRef {
                        sha256: crypto::token::digest(image),
                        size: image.len() as u64,
                        format: "raw".into(),
                        url: None,
                    },
                    user_data: None,
                    meta_data: None,
                },
                username: "admin".into(),
                password: self.global.sealer.seal(&Clear("pass".into())).unwrap(),
                ssh_keys: Vec::new(),
                network_config: serde_json::json!({"version": 2, "ethernets": {"nic0": {
                    "match": {"macaddress": mac},
                    "addresses": [format!("10.77.0.{}/24", 220 + server_id)],
                }}}),
                variables: Default::default(),
                secrets: Default::default(),
                storage: Default::default(),
            },
        })
        .unwrap()
    }
}

fn value(v: impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(v).unwrap()
}

fn hostname(yard: &Yard, index: usize) -> Option<String> {
    yard.world().servers[index].with(|s| s.kept.os.as_ref().map(|os| os.hostname.clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_discovered_installed_started_and_cleaned() {
    let mut rig = Rig::new(1).await;
    let yard = rig.yard(3).await;
    rig.enter(&yard);
    let site = site::start(rig.site_config()).await.unwrap();

    let jobs = rig
        .order(vec![
            (ServerInventory::NAME, value(ServerInventory { server_id: 1 })),
            (ServerDiscover::NAME, value(ServerDiscover { server_id: 1 })),
        ])
        .await;
    rig.succeeded(&jobs).await;
    let (out_of_band, in_band): (HardwareInventory, HardwareInventory) = (rig.answer(jobs[0]), rig.answer(jobs[1]));
    assert_eq!(out_of_band.serial, in_band.serial);
    assert!(in_band.nics.iter().any(|n| n.lldp.is_some()), "{:?}", in_band.nics);

    let discover = rig.order(vec![(SwitchDiscover::NAME, value(SwitchDiscover { network_device_id: 1 }))]).await;
    rig.succeeded(&discover).await;
    let state: SwitchState =
        serde_json::from_value(rig.answer::<serde_json::Value>(discover[0])["state"].clone()).unwrap();
    let neighbour = state.ports.iter().find(|(_, p)| p.lldp.is_some());
    assert!(neighbour.is_some(), "{state:#?}");

    let install = rig.install(&yard, 1);
    let jobs =
        rig.order(vec![(ServerInstall::NAME, install), (ServerStart::NAME, value(ServerStart { server_id: 1 }))]).await;
    rig.succeeded(&jobs).await;
    rig.until("the installed system", || hostname(&yard, 0).as_deref() == Some("web-1")).await;
    rig.until("its word", || {
        rig.global.seen.lock().unwrap().iter().any(|o| matches!(o, Observed::OsUp { server_id: 1 }))
    })
    .await;

    let kept = in_band.disks[0].serial.clone().unwrap();
    let plan = CleanPlan { keep: vec![kept.clone()], policy: Some("keep one".into()), ..CleanPlan::default() };
    let jobs = rig.order(vec![(ServerClean::NAME, value(ServerClean { server_id: 1, plan }))]).await;
    rig.succeeded(&jobs).await;
    assert_eq!(hostname(&yard, 0), None);
    let erased: Vec<ErasedDisk> =
        serde_json::from_value(rig.answer::<serde_json::Value>(jobs[0])["erased"].clone()).unwrap();
    assert_eq!(erased.len(), in_band.disks.len(), "of each disk it is told what became of it");
    for disk in &erased {
        let left = disk.serial.as_ref() == Some(&kept);
        assert_eq!((disk.erased, disk.verified.is_some()), (!left, !left), "{disk:?}");
    }
    site.stop().await;
    yard.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vlans_are_set_and_taken_off() {
    let mut rig = Rig::new(2).await;
    let yard = rig.yard(3).await;
    rig.enter(&yard);
    let site = site::start(rig.site_config()).await.unwrap();
    let patch = |untagged: Option<u16>, tagged: &[u16]| {
        let vlans = PortVlans { untagged, tagged: tagged.iter().copied().collect() };
        value(SwitchApply {
            network_device_id: 1,
            patch: SwitchPatch {
                ports: [("swp1".to_owned(), PortIntent { vlans: Some(vlans), ..PortIntent::default() })].into(),
                ..SwitchPatch::default()
            },
        })
    };
    let port = |yard: &Yard| {
        let config = yard.world().switches[0].state.lock().unwrap();
        let view = &yard::switch::config::port_views(&config.applied, 8)[1];
        (view.untagged, view.tagged.iter().copied().filter(|v| Some(*v) != view.untagged).collect::<Vec<_>>())
    };
    for (untagged, tagged) in
        [(Some(1201), &[1300u16, 1301][..]), (None, &[1300][..]), (Some(1202), &[][..]), (None, &[][..])]
    {
        let jobs = rig.order(vec![(SwitchApply::NAME, patch(untagged, tagged))]).await;
        rig.succeeded(&jobs).await;
        assert_eq!(port(&yard), (untagged, tagged.to_vec()), "{untagged:?} {tagged:?}");
        let again = rig.order(vec![(SwitchApply::NAME, patch(untagged, tagged))]).await;
        rig.succeeded(&again).await;
        assert_eq!(rig.answer::<serde_json::Value>(again[0])["changes"], 0, "a second time changes nothing");
    }
    site.stop().await;
    yard.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_line_cut_work_goes_on_across_a_restart() {
    let mut rig = Rig::new(3).await;
    let yard = rig.yard(3).await;
    rig.enter(&yard);
    let site = site::start(rig.site_config()).await.unwrap();
    let first = rig.order(vec![(ServerInventory::NAME, value(ServerInventory { server_id: 2 }))]).await;
    rig.succeeded(&first).await;
    let install = rig.install(&yard, 2);
    let jobs =
        rig.order(vec![(ServerInstall::NAME, install), (ServerStart::NAME, value(ServerStart { server_id: 2 }))]).await;
    // Once the server is told to boot, the site has all that it needs, the image included.
    rig.until("the installation begins", || yard.world().servers[1].with(|s| s.kept.on)).await;
    rig.cut().await;
    // The process goes in the middle of the installation, and comes back without a line.
    site.stop().await;
    let site = site::start(rig.site_config()).await.unwrap();
    rig.until("the installed system", || hostname(&yard, 1).as_deref() == Some("web-2")).await;
    assert_ne!(rig.status(jobs[1]), Some(JobStatus::ReturnedSuccess), "nobody could tell");
    rig.connect().await;
    rig.succeeded(&jobs).await;
    site.stop().await;
    yard.shutdown().await;
}

/// After a restart more jobs may wait than there are workers, and a job whose BMC did not answer waits for its next try:
/// their machines work on meanwhile and must be heard.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_heard_while_its_job_waits() {
    let mut rig = Rig::new(7).await;
    let yard = rig.yard(1).await;
    rig.enter(&yard);
    let mut site = site::start(rig.site_config()).await.unwrap();
    let first = rig.order(vec![(ServerInventory::NAME, value(ServerInventory { server_id: 1 }))]).await;
    rig.succeeded(&first).await;
    let stage = || yard.world().servers[0].with(|s| s.stage);
    for waiting in [JobStatus::NotCalled, JobStatus::ThrownErrorRetrying] {
        let jobs = rig.order(vec![(ServerDiscover::NAME, value(ServerDiscover { server_id: 1 }))]).await;
        rig.until("the agent's start", || stage() == yard::server::Stage::Agent).await;
        site.stop().await;
        rig.change_job(jobs[0], waiting, "2999-01-01T00:00:00.000Z").await;
        site = site::start(rig.site_config()).await.unwrap();
        rig.until("the agent's last word", || stage() == yard::server::Stage::Off).await;
        site.stop().await;
        rig.change_job(jobs[0], waiting, "2000-01-01T00:00:00.000Z").await;
        site = site::start(rig.site_config()).await.unwrap();
        rig.succeeded(&jobs).await;
    }
    site.stop().await;
    yard.shutdown().await;
}

/// Orders a job, and has it run once more as an operator would.
async fn twice(rig: &mut Rig, function: &str, payload: serde_json::Value) {
    let jobs = rig.order(vec![(function, payload)]).await;
    rig.succeeded(&jobs).await;
    let before = rig.global.jobs.lock().unwrap()[&jobs[0]].sequence;
    let again = JobCommand::Retry { job_id: jobs[0], even_if_successful: true };
    let txn = rig.db.begin().await.unwrap();
    rig.queue.push(&txn, SITE, None, &Down::Command(again)).await.unwrap();
    txn.commit().await.unwrap();
    rig.queue.wake(SITE);
    rig.until(&format!("{function} once more"), || {
        let jobs_now = rig.global.jobs.lock().unwrap();
        let now = &jobs_now[&jobs[0]];
        assert_ne!(now.status, JobStatus::ThrownError, "{now:#?}");
        now.sequence > before && now.status == JobStatus::ReturnedSuccess
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_function_may_run_again() {
    let mut rig = Rig::new(4).await;
    let yard = rig.yard(2).await;
    rig.enter(&yard);
    let site = site::start(rig.site_config()).await.unwrap();
    let power = |action| value(ServerPower { server_id: 1, action, graceful_seconds: None, force_after: false });
    twice(&mut rig, ServerInventory::NAME, value(ServerInventory { server_id: 1 })).await;
    twice(&mut rig, ServerDiscover::NAME, value(ServerDiscover { server_id: 1 })).await;
    let install = rig.install(&yard, 1);
    twice(&mut rig, ServerInstall::NAME, install).await;
    twice(&mut rig, ServerStart::NAME, value(ServerStart { server_id: 1 })).await;
    rig.until("the installed system", || hostname(&yard, 0).as_deref() == Some("web-1")).await;
    let boots = yard.world().servers[0].with(|s| s.boots);
    twice(&mut rig, ServerStart::NAME, value(ServerStart { server_id: 1 })).await;
    twice(&mut rig, ServerPower::NAME, power(PowerAction::On)).await;
    assert_eq!(yard.world().servers[0].with(|s| s.boots), boots, "a server that runs is left alone");
    twice(&mut rig, ServerPowerStatus::NAME, value(ServerPowerStatus { server_id: 1 })).await;
    twice(&mut rig, ServerPower::NAME, power(PowerAction::ForceOff)).await;
    twice(&mut rig, ServerClean::NAME, value(ServerClean { server_id: 1, ..ServerClean::default() })).await;
    assert_eq!(hostname(&yard, 0), None);
    twice(&mut rig, SwitchDiscover::NAME, value(SwitchDiscover { network_device_id: 1 })).await;
    site.stop().await;
    yard.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_line_machines_still_boot_after_a_restart() {
    let mut rig = Rig::new(5).await;
    let yard = rig.yard(3).await;
    rig.enter(&yard);
    let site = site::start(rig.site_config()).await.unwrap();
    let jobs = rig.order(vec![(ServerInventory::NAME, value(ServerInventory { server_id: 1 }))]).await;
    rig.succeeded(&jobs).await;
    rig.cut().await;
    site.stop().await;
    let site = site::start(rig.site_config()).await.unwrap();
    // The disks are empty, so each asks the network: over TFTP, over HTTP, and from a BIOS.
    for server in &yard.world().servers {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{}/servers/{}/power-on", yard.admin_addr(), server.spec.serial);
        assert!(client.post(url).send().await.unwrap().status().is_success());
    }
    for server in &yard.world().servers {
        rig.until("a boot script", || {
            server.with(|s| s.log.iter().any(|line| line.contains("sanboot") || line.contains("script.ipxe")))
        })
        .await;
    }
    site.stop().await;
    yard.shutdown().await;
}

impl Rig {
    /// Changes what the site knows of a server.
    fn server_fact(&self, id: Id, change: impl FnOnce(&mut SiteServer)) {
        let mut facts = self.global.facts.lock().unwrap();
        let generation = facts.iter().map(|f| f.generation).max().unwrap_or(0) + 1;
        let held = facts.iter_mut().find(|f| f.key == format!("server/{id}")).unwrap();
        held.generation = generation;
        if let Some(Fact::Server(server)) = &mut held.value {
            change(server);
        }
        facts.sort_by_key(|f| f.generation);
    }

    /// Ordered for an instance where one is named, and refused in those words.
    async fn refused(&mut self, function: &str, payload: serde_json::Value, instance: Option<Id>, words: &str) {
        self.ordered_for = instance;
        let job = self.order(vec![(function, payload)]).await[0];
        self.ordered_for = None;
        self.until(function, || self.status(job) == Some(JobStatus::ThrownError)).await;
        let error = self.global.jobs.lock().unwrap()[&job].error.clone().unwrap();
        assert!(error.contains(words), "{function}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_use_is_touched_by_its_own_deploys_alone() {
    let mut rig = Rig::new(6).await;
    let yard = rig.yard(3).await;
    rig.enter(&yard);
    // One that an instance holds, one in production elsewhere.
    rig.server_fact(1, |s| (s.in_use, s.instance_id) = (true, Some(41)));
    rig.server_fact(2, |s| (s.in_use, s.hands_off) = (true, true));
    let site = site::start(rig.site_config()).await.unwrap();
    let clean = |server_id| value(ServerClean { server_id, ..ServerClean::default() });
    let power =
        |server_id, action| value(ServerPower { server_id, action, graceful_seconds: None, force_after: false });
    let tenant = "a tenant's operating system is on this server";
    rig.refused(ServerClean::NAME, clean(1), None, tenant).await;
    rig.refused(ServerDiscover::NAME, value(ServerDiscover { server_id: 1 }), None, tenant).await;
    let install = rig.install(&yard, 1);
    rig.refused(ServerInstall::NAME, install.clone(), None, tenant).await;
    // Orders of a deploy for another instance, which had the server once.
    let void = "serves instance 41 now";
    rig.refused(ServerClean::NAME, clean(1), Some(40), void).await;
    rig.refused(ServerInstall::NAME, install, Some(40), void).await;
    rig.refused(ServerPower::NAME, power(1, PowerAction::ForceOff), Some(40), void).await;
    rig.refused(ServerStart::NAME, value(ServerStart { server_id: 1 }), Some(40), void).await;
    let production = "in production outside of this platform";
    rig.refused(ServerClean::NAME, clean(2), None, production).await;
    rig.refused(ServerClean::NAME, clean(2), Some(41), production).await;
    rig.refused(ServerDiscover::NAME, value(ServerDiscover { server_id: 2 }), None, production).await;
    rig.refused(ServerPower::NAME, power(2, PowerAction::ForceOff), None, production).await;
    rig.refused(ServerStart::NAME, value(ServerStart { server_id: 2 }), None, production).await;
    // To be read it is there.
    let read = rig.order(vec![(ServerInventory::NAME, value(ServerInventory { server_id: 2 }))]).await;
    rig.succeeded(&read).await;
    for n in [0, 1] {
        assert_eq!(yard.world().servers[n].with(|s| s.boots), 0, "server {n} was never switched on");
    }
    // A job that works when its server passes to somebody else lets go of it.
    let read = rig.order(vec![(ServerInventory::NAME, value(ServerInventory { server_id: 3 }))]).await;
    rig.succeeded(&read).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let fault = format!("http://{}/faults", yard.admin_addr());
    let slow = serde_json::json!({
        "selector": {"id": yard.world().servers[2].spec.serial, "face": "agent", "operation": "STEP wipe"}, "action": {"type": "delay", "ms": 4000},
    });
    let sent = client.post(fault).json(&slow).send().await.unwrap();
    assert!(sent.status().is_success(), "{}", sent.text().await.unwrap());
    let job = rig.order(vec![(ServerClean::NAME, clean(3))]).await[0];
    rig.until("the server boots", || yard.world().servers[2].with(|s| s.boots) > 0).await;
    rig.server_fact(3, |s| (s.in_use, s.instance_id) = (true, Some(43)));
    rig.cut().await;
    rig.connect().await;
    rig.until("the job lets go", || rig.status(job) == Some(JobStatus::ThrownError)).await;
    let error = rig.global.jobs.lock().unwrap()[&job].error.clone().unwrap();
    assert!(error.contains(tenant), "{error}");
    site.stop().await;
    yard.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bmcs_are_found_by_range_and_get_passwords_of_their_own() {
    let mut rig = Rig::new(7).await;
    let yard = rig.yard(3).await;
    rig.enter(&yard);
    rig.server_fact(2, |s| (s.in_use, s.hands_off) = (true, true));
    let site = site::start(rig.site_config()).await.unwrap();
    // One of four addresses has a Redfish service at that port.
    let first = yard.world().servers[0].spec.bmc;
    let port = yard.world().servers[0].bmc_port.get().copied();
    let last = Ipv4Addr::from(u32::from(first) + 3);
    let scan = |port| value(ServerScan { first, last, port, deadline_seconds: 20 });
    let jobs = rig.order(vec![(ServerScan::NAME, scan(port)), (ServerScan::NAME, scan(Some(1)))]).await;
    rig.succeeded(&jobs).await;
    let found: ScanResult = rig.answer(jobs[0]);
    assert_eq!((found.asked, found.cut_short, found.found.len()), (4, false, 1), "{found:?}");
    assert_eq!(found.found[0].address, format!("{first}:{}", port.unwrap()));
    assert_eq!(found.found[0].tls_fingerprint.as_ref().map(String::len), Some(64));
    assert!(rig.answer::<ScanResult>(jobs[1]).found.is_empty());

    let rotate = |rig: &Rig, server_id, text: &str| {
        let password = rig.global.sealer.seal(&Clear(text.into())).unwrap();
        value(ServerRotateCredentials { server_id, password })
    };
    let order = rotate(&rig, 1, "Another-Secret-1");
    let jobs = rig.order(vec![(ServerRotateCredentials::NAME, order.clone())]).await;
    rig.succeeded(&jobs).await;
    // The Global Controller has not said so yet, and the site works on.
    let status = rig.order(vec![(ServerPowerStatus::NAME, value(ServerPowerStatus { server_id: 1 }))]).await;
    rig.succeeded(&status).await;
    // The answer was lost and the site has forgotten: the same order again finds that it is done.
    site.stop().await;
    let site = site::start(rig.site_config()).await.unwrap();
    let jobs = rig.order(vec![(ServerRotateCredentials::NAME, order)]).await;
    rig.succeeded(&jobs).await;
    // By neither password: a person has to see to it, and is told so.
    let order = rotate(&rig, 1, "A-Third-Secret-1");
    rig.refused(ServerRotateCredentials::NAME, order, None, "refuses both the password in use and the new one").await;
    let order = rotate(&rig, 2, "Another-Secret-2");
    rig.refused(ServerRotateCredentials::NAME, order, None, "in production outside of this platform").await;
    rig.server_fact(1, |s| {
        let sealed = rig.global.sealer.seal(&Clear("Another-Secret-1".into())).unwrap();
        s.bmc.as_mut().unwrap().password = sealed;
    });
    rig.cut().await;
    rig.connect().await;
    let read = rig.order(vec![(ServerInventory::NAME, value(ServerInventory { server_id: 1 }))]).await;
    rig.succeeded(&read).await;
    // A machine that nobody entered asks for an address: the Global Controller hears where it is and what it says that it is.
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/servers/{}/power-on", yard.admin_addr(), yard.world().servers[2].spec.serial);
    assert!(client.post(url).send().await.unwrap().status().is_success());
    rig.until("a stranger", || {
        rig.global.seen.lock().unwrap().iter().any(|o| {
            matches!(o, Observed::UnknownMachine { address: Some(a), vendor_class: Some(c), .. } if a.starts_with("10.77.0.") && c.starts_with("PXEClient"))
        })
    })
    .await;
    site.stop().await;
    yard.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_was_away_for_long_touches_nothing_before_it_has_heard() {
    let mut rig = Rig::new(8).await;
    let yard = rig.yard(2).await;
    rig.enter(&yard);
    let site = site::start(rig.site_config()).await.unwrap();
    let read = rig.order(vec![(ServerInventory::NAME, value(ServerInventory { server_id: 1 }))]).await;
    rig.succeeded(&read).await;
    // It begins to erase a free server, and is gone in the middle.
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let serial = &yard.world().servers[0].spec.serial;
    let fault = serde_json::json!({"selector": {"id": serial, "face": "agent", "operation": "STEP wipe"}, "action": {"type": "hang"}});
    client.post(format!("http://{}/faults", yard.admin_addr())).json(&fault).send().await.unwrap();
    let clean = value(ServerClean { server_id: 1, ..ServerClean::default() });
    let job = rig.order(vec![(ServerClean::NAME, clean)]).await[0];
    rig.until("it boots", || yard.world().servers[0].with(|s| s.boots) > 0).await;
    rig.cut().await;
    site.stop().await;
    // Days later a tenant has the server, and the site comes back as it was: from a copy, with the line cut.
    let db = Database::open(&format!("sqlite://{}", rig.dir.path().join("site/site.db").display())).await.unwrap();
    let old = "UPDATE site_value SET number = number - 172800 WHERE name = 'alive_at'";
    let done = sea_orm::ConnectionTrait::execute_unprepared(&db.write, old).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
    drop(db);
    rig.server_fact(1, |s| (s.in_use, s.instance_id) = (true, Some(43)));
    let act = async |action: &str| {
        let url = format!("http://{}/servers/{serial}/{action}", yard.admin_addr());
        assert!(client.post(url).send().await.unwrap().status().is_success(), "{action}");
    };
    act("power-off").await;
    let site = site::start(rig.site_config()).await.unwrap();
    // The tenant's server boots from the network first: it is sent to its own disk, though a session waits for it.
    let logged = || yard.world().servers[0].with(|s| s.log.iter().filter(|l| l.contains("task clean")).count());
    let before = logged();
    act("power-on").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(logged(), before, "the boot image was not started");
    let boots = yard.world().servers[0].with(|s| s.boots);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(yard.world().servers[0].with(|s| s.boots), boots, "nobody cut its power");
    assert_eq!(rig.status(job), Some(JobStatus::Running));
    // It hears what has become of its servers, and gives the job up.
    rig.connect().await;
    rig.until("the job is void", || rig.status(job) == Some(JobStatus::ThrownError)).await;
    let error = rig.global.jobs.lock().unwrap()[&job].error.clone().unwrap();
    assert!(error.contains("a tenant's operating system is on this server"), "{error}");
    assert_eq!(yard.world().servers[0].with(|s| s.boots), boots);
    // Then it works as ever.
    let read = rig.order(vec![(ServerInventory::NAME, value(ServerInventory { server_id: 2 }))]).await;
    rig.succeeded(&read).await;
    site.stop().await;
    yard.shutdown().await;
}
