//! A Site Controller, the simulated datacenter, and a scripted Global Controller behind a real link.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed preparation is a failed test"
)]

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

pub const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
pub const SITE: Id = 3;

pub struct Global {
    pub ca: Ca,
    pub sealer: Sealer,
    pub image: Vec<u8>,
    /// More files of templates, by their digests.
    pub more: Mutex<HashMap<String, Vec<u8>>>,
    pub facts: Mutex<Vec<SnapshotItem>>,
    pub jobs: Mutex<HashMap<Id, JobReport>>,
    pub seen: Mutex<Vec<Observed>>,
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
            return Ok(Image::Bytes(self.image.clone()));
        }
        let more = self.more.lock().unwrap().get(sha256).cloned();
        more.map(Image::Bytes).ok_or_else(|| "no such image".into())
    }
}

/// All parts, and the addresses of one test: tests run at the same time.
pub struct Rig {
    pub block: u8,
    pub dir: tempfile::TempDir,
    pub global: Arc<Global>,
    pub db: Database,
    pub queue: Queue,
    pub identity: Identity,
    pub link: SocketAddr,
    pub line: Option<(CancellationToken, tokio::task::JoinHandle<()>)>,
    pub next_job: Id,
    /// The instance that orders are for.
    pub ordered_for: Option<Id>,
}

impl Rig {
    pub async fn new(block: u8) -> Self {
        crypto::install_provider();
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(&dir.path().join("ca")).unwrap();
        let identity = ca.server(&["127.0.0.1".into()]).unwrap();
        let db =
            Database::open(&format!("sqlite://{}?mode=rwc", dir.path().join("global.db").display())).await.unwrap();
        db.migrate("link", link::MIGRATIONS).await.unwrap();
        let boot = dir.path().join("boot");
        std::fs::create_dir_all(boot.join("agent")).unwrap();
        for file in ["undionly.kpxe", "ipxe.efi", "agent/vmlinuz", "agent/initrd", "agent/iscsi"] {
            std::fs::write(boot.join(file), vec![1u8; 4000]).unwrap();
        }
        let global = Arc::new(Global {
            ca,
            sealer: Sealer::generate(),
            more: Mutex::default(),
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

    pub async fn connect(&mut self) {
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

    pub async fn cut(&mut self) {
        let (stop, serving) = self.line.take().unwrap();
        stop.cancel();
        serving.await.unwrap();
    }

    pub fn site_config(&self) -> SiteConfig {
        let port = |n: u16| 20_000 + u16::from(self.block) * 10 + n;
        SiteConfig {
            data_dir: self.dir.path().join("site"),
            global: format!("https://{}", self.link),
            token: Some(link::enrol::word(TOKEN, self.global.ca.certificate_pem()).unwrap()),
            dhcp: format!("127.0.0.1:{}", port(1)),
            tftp: format!("127.0.0.1:{}", port(2)),
            http: format!("127.0.0.1:{}", port(3)),
            https: format!("127.0.0.1:{}", port(4)),
            boot_dir: self.dir.path().join("boot"),
            ..SiteConfig::default()
        }
    }

    pub async fn yard(&self, servers: usize) -> Yard {
        self.yard_with(servers, |_| {}).await
    }

    /// With other settings.
    pub async fn yard_with(&self, servers: usize, change: impl FnOnce(&mut YardConfig)) -> Yard {
        let config = self.site_config();
        let mut yard_config = YardConfig {
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
        change(&mut yard_config);
        yard::run(yard_config).await.unwrap()
    }

    /// What a Global Controller would know after the BMCs and switches of the yard were entered.
    pub fn enter(&self, yard: &Yard) {
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
    pub async fn order(&mut self, jobs: Vec<(&str, serde_json::Value)>) -> Vec<Id> {
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

    pub async fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
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

    pub fn status(&self, job: Id) -> Option<JobStatus> {
        self.global.jobs.lock().unwrap().get(&job).map(|j| j.status)
    }

    pub fn answer<T: serde::de::DeserializeOwned>(&self, job: Id) -> T {
        serde_json::from_value(self.global.jobs.lock().unwrap()[&job].response.clone().unwrap()).unwrap()
    }

    pub async fn succeeded(&self, jobs: &[Id]) {
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
    pub async fn change_job(&self, id: Id, status: JobStatus, due: &str) {
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

    pub fn install(&self, yard: &Yard, server_id: Id) -> serde_json::Value {
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
                    method: Default::default(),
                    files: Default::default(),
                    ready: Default::default(),
                    erase: Default::default(),
                    local_disk_only: false,
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

impl Rig {
    /// Changes what the site knows of a server.
    pub fn server_fact(&self, id: Id, change: impl FnOnce(&mut SiteServer)) {
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
    pub async fn refused(&mut self, function: &str, payload: serde_json::Value, instance: Option<Id>, words: &str) {
        self.ordered_for = instance;
        let job = self.order(vec![(function, payload)]).await[0];
        self.ordered_for = None;
        self.until(function, || self.status(job) == Some(JobStatus::ThrownError)).await;
        let error = self.global.jobs.lock().unwrap()[&job].error.clone().unwrap();
        assert!(error.contains(words), "{function}: {error}");
    }
}

pub fn value(v: impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(v).unwrap()
}

pub fn hostname(yard: &Yard, index: usize) -> Option<String> {
    yard.world().servers[index].with(|s| s.kept.os.as_ref().map(|os| os.hostname.clone()))
}
