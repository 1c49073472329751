//! Storage orders of a Site Controller against simulated arrays, over a real link from a scripted Global Controller.

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
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
    job::{JobReport, JobSpec, JobStatus, RetryPolicy, Target},
    link::{Down, Hello, Observed, Up},
    order::{Order, OrderBook, OrderedJob},
    secret::Clear,
    snapshot::{Fact, SnapshotItem},
    storage::{
        AccessState, Bucket, BucketState, Chap, FileProtocol, Initiator, Share, ShareState, SnapshotOf,
        StorageAccessEnsure, StorageBucketDelete, StorageBucketEnsure, StorageDiscover, StorageDriver, StorageFacts,
        StorageShareDelete, StorageShareEnsure, StorageSnapshotClone, StorageSnapshotCreate, StorageSnapshotDelete,
        StorageSnapshotRestore, StorageTarget, StorageVolumeDelete, StorageVolumeEnsure, Technology, Volume,
        VolumeState, initiator_iqn,
    },
};
use serde_json::Value;
use site::{Running, SiteConfig};
use store::Database;
use tokio_util::sync::CancellationToken;
use yard::{Yard, YardConfig, fault::preset, storage::ArrayKind};

const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const SITE: Id = 3;
const GB: u64 = 1 << 30;

struct Global {
    ca: Ca,
    sealer: Sealer,
    facts: Mutex<Vec<SnapshotItem>>,
    jobs: Mutex<HashMap<Id, JobReport>>,
    seen: Mutex<Vec<Observed>>,
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
    async fn image(&self, _: Id, _: &str) -> Result<Image, String> {
        Err("no such image".into())
    }
}

struct Rig {
    _dir: tempfile::TempDir,
    global: Arc<Global>,
    db: Database,
    queue: Queue,
    stop: CancellationToken,
    next_job: Id,
    site: Running,
    yard: Yard,
}

/// The arrays, by storage id.
const ARRAYS: [(ArrayKind, StorageDriver); 3] = [
    (ArrayKind::Netapp, StorageDriver::Netapp),
    (ArrayKind::PowerStore, StorageDriver::PowerStore),
    (ArrayKind::Pure, StorageDriver::Pure),
];

impl Rig {
    async fn new(block: u8) -> Self {
        crypto::install_provider();
        let dir = tempfile::tempdir().unwrap();
        let yard = yard::run(YardConfig {
            servers: 1,
            arrays: ARRAYS.iter().map(|(kind, _)| *kind).collect(),
            bmc_base: Ipv4Addr::new(127, 152, block, 1),
            bmc_port: 0,
            switch_base: Ipv4Addr::new(127, 151, block, 1),
            nvue_port: 0,
            relay_base: Ipv4Addr::new(127, 150, block, 1),
            array_base: Ipv4Addr::new(127, 153, block, 1),
            array_port: 0,
            admin_listen: "127.0.0.1:0".parse().unwrap(),
            ..YardConfig::default()
        })
        .await
        .unwrap();
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
            facts: Mutex::default(),
            jobs: Mutex::default(),
            seen: Mutex::default(),
        });
        let queue = Queue::new(db.clone());
        let stop = CancellationToken::new();
        let authority = global.ca.certificate_pem();
        let (address, _) =
            server::serve("127.0.0.1:0", authority, &identity, queue.clone(), global.clone(), stop.clone())
                .await
                .unwrap();
        for (i, (_, driver)) in ARRAYS.iter().enumerate() {
            let array = &yard.world().arrays[i];
            let target = StorageTarget {
                storage_id: i as Id + 1,
                name: format!("storage-{}", i + 1),
                driver: *driver,
                address: array.address.to_string(),
                port: array.api_port.get().copied(),
                username: "admin".into(),
                secret: global.sealer.seal(&Clear("array-yard".into())).unwrap(),
                private_key: None,
                tls_fingerprint: None,
                protocol: None,
                options: serde_json::Map::new(),
            };
            let (key, generation) = (format!("storage/{}", target.storage_id), i as i64 + 1);
            let item = SnapshotItem { key, generation, value: Some(Fact::Storage(target)) };
            global.facts.lock().unwrap().push(item);
        }
        let port = |n: u16| 25_000 + u16::from(block) * 10 + n;
        let site = site::start(SiteConfig {
            data_dir: dir.path().join("site"),
            global: format!("https://{address}"),
            token: Some(link::enrol::word(TOKEN, global.ca.certificate_pem()).unwrap()),
            dhcp: format!("127.0.0.1:{}", port(1)),
            tftp: format!("127.0.0.1:{}", port(2)),
            http: format!("127.0.0.1:{}", port(3)),
            https: format!("127.0.0.1:{}", port(4)),
            boot_dir: boot,
            ..SiteConfig::default()
        })
        .await
        .unwrap();
        Self { _dir: dir, global, db, queue, stop, next_job: 1, site, yard }
    }

    /// Orders one job and waits for its end.
    async fn run<O: Order>(&mut self, order: &O) -> JobReport {
        let id = self.next_job;
        self.next_job += 1;
        let spec = JobSpec {
            key: "0".into(),
            function: O::NAME.into(),
            title: O::NAME.into(),
            site_id: Some(SITE),
            target: Target { kind: "test".into(), id, generation: 0 },
            payload: serde_json::to_value(order).unwrap(),
            depends_on: Vec::new(),
            retry: RetryPolicy { max: 5, min_seconds: 1, max_seconds: 2 },
            timeout_seconds: 60,
            refs: model::job::JobRefs::default(),
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
        let end = tokio::time::Instant::now() + Duration::from_mins(1);
        loop {
            let report = self.global.jobs.lock().unwrap().get(&id).cloned();
            if let Some(report) = report
                && matches!(report.status, JobStatus::ReturnedSuccess | JobStatus::ThrownError)
            {
                return report;
            }
            assert!(tokio::time::Instant::now() < end, "{} does not end", O::NAME);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The answer of a job that succeeds.
    async fn answer<O: Order, T: serde::de::DeserializeOwned>(&mut self, order: &O) -> T {
        let report = self.run(order).await;
        assert_eq!(report.status, JobStatus::ReturnedSuccess, "{report:#?}");
        serde_json::from_value(report.response.unwrap_or(Value::Null)).unwrap()
    }

    /// The words of a job that fails.
    async fn failure<O: Order>(&mut self, order: &O) -> String {
        let report = self.run(order).await;
        assert_eq!(report.status, JobStatus::ThrownError, "{report:#?}");
        format!("{report:?}")
    }

    fn who(&self, storage_id: Id, part: &str) -> Option<BTreeSet<String>> {
        let all = self.yard.world().arrays[storage_id as usize - 1].access();
        all.into_iter().find(|(name, _)| name.contains(part)).map(|(_, who)| who)
    }

    fn initiator(&self, instance: Id) -> Initiator {
        let secret = self.global.sealer.seal(&Clear("secretsecret1".into())).unwrap();
        Initiator {
            name: format!("instance-{instance}"),
            iqn: initiator_iqn(instance),
            nqn: None,
            chap: Some(Chap { username: format!("instance-{instance}"), secret }),
        }
    }

    async fn end(self) {
        self.stop.cancel();
        self.site.stop().await;
        self.yard.shutdown().await;
    }
}

fn volume(key: &str, size_bytes: u64) -> Volume {
    Volume { key: key.into(), name: key.into(), size_bytes, pool: None, qos: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_lives_on_every_array() {
    let mut rig = Rig::new(1).await;
    for storage_id in 1..=3 {
        let facts: StorageFacts = rig.answer(&StorageDiscover { storage_id }).await;
        assert!(facts.technologies.contains(&Technology::Block) && facts.tls_fingerprint.is_some());
        let ensure = |size| StorageVolumeEnsure { storage_id, volume: volume("drive-7", size) };
        let made: VolumeState = rig.answer(&ensure(2 * GB)).await;
        assert_eq!(made.size_bytes, 2 * GB);
        let access = |initiators| StorageAccessEnsure { storage_id, key: "drive-7".into(), initiators };
        let both = vec![rig.initiator(1), rig.initiator(2)];
        let state: AccessState = rig.answer(&access(both)).await;
        assert!(state.hosts.len() == 2 && state.target.is_some() && !state.portals.is_empty(), "{state:?}");
        // The group shrinks: the second one has lost it before anything else happens.
        let one = vec![rig.initiator(1)];
        let _: AccessState = rig.answer(&access(one)).await;
        assert_eq!(rig.who(storage_id, "drive").unwrap(), BTreeSet::from([initiator_iqn(1)]));
        let grown: VolumeState = rig.answer(&ensure(3 * GB)).await;
        assert_eq!((grown.size_bytes, &grown.wwn), (3 * GB, &made.wwn));
        assert!(rig.failure(&ensure(GB)).await.contains("cannot shrink"));

        let (of, key, snapshot) = (SnapshotOf::Volume, "drive-7".to_owned(), "daily".to_owned());
        let create = StorageSnapshotCreate { storage_id, of, key: key.clone(), snapshot: snapshot.clone() };
        let _: Value = rig.answer(&create).await;
        let copy = StorageSnapshotClone {
            storage_id,
            key: key.clone(),
            snapshot: Some(snapshot.clone()),
            volume: volume("drive-8", 3 * GB),
        };
        let _: VolumeState = rig.answer(&copy).await;
        let restore = StorageSnapshotRestore { storage_id, of, key: key.clone(), snapshot: snapshot.clone() };
        let _: Value = rig.answer(&restore).await;
        let _: Value = rig.answer(&StorageSnapshotDelete { storage_id, of, key: key.clone(), snapshot }).await;

        let _: AccessState = rig.answer(&access(Vec::new())).await;
        for key in ["drive-7", "drive-8"] {
            let _: Value = rig.answer(&StorageVolumeDelete { storage_id, key: key.into() }).await;
        }
        assert_eq!(rig.who(storage_id, "drive"), None);
    }
    let seen = rig.global.seen.lock().unwrap().clone();
    let told = |id| {
        seen.iter().any(|o| matches!(o, Observed::Fingerprint { object, id: i, .. } if object == "storage" && *i == id))
    };
    assert!((1..=3).all(told), "certificates are told, to be pinned: {seen:?}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_and_buckets_and_an_array_that_is_away() {
    let mut rig = Rig::new(2).await;
    for storage_id in 1..=2 {
        let ensure = |clients: &[&str]| StorageShareEnsure {
            storage_id,
            share: Share {
                key: "share-1".into(),
                name: "home".into(),
                size_bytes: 4 * GB,
                protocol: FileProtocol::Nfs,
                pool: None,
                clients: clients.iter().map(|c| c.parse().unwrap()).collect(),
            },
        };
        let made: ShareState = rig.answer(&ensure(&["10.0.0.1", "10.0.0.2"])).await;
        assert!(made.source().contains(":/sy"), "{made:?}");
        let _: ShareState = rig.answer(&ensure(&["10.0.0.2"])).await;
        assert_eq!(rig.who(storage_id, "share").unwrap(), BTreeSet::from(["10.0.0.2".to_owned()]));
        let _: Value = rig.answer(&StorageShareDelete { storage_id, key: "share-1".into() }).await;
    }

    // The key that an array makes comes sealed, and this Global Controller can open it.
    let order = StorageBucketEnsure {
        storage_id: 1,
        bucket: Bucket {
            key: "bucket-1".into(),
            name: "pictures".into(),
            size_bytes: GB,
            access_key: "AK".into(),
            secret_key: rig.global.sealer.seal(&Clear("unused".into())).unwrap(),
        },
    };
    let made: BucketState = rig.answer(&order).await;
    assert!(rig.global.sealer.open(&made.secret_key.unwrap()).unwrap().0.starts_with("yardsecret"));
    let delete = StorageBucketDelete { storage_id: 1, key: "bucket-1".into(), access_key: made.access_key };
    let _: Value = rig.answer(&delete).await;
    let words = rig.failure(&StorageBucketEnsure { storage_id: 3, ..order }).await;
    assert!(words.contains("offers no buckets"), "{words}");

    // An array that is out of order for a moment is asked again.
    rig.yard.world().faults.add(yard::fault::FaultRule { count: Some(2), ..preset("array_errors").unwrap() });
    let _: VolumeState = rig.answer(&StorageVolumeEnsure { storage_id: 3, volume: volume("drive-1", GB) }).await;
    // What hosts may still use is not removed, whatever the order says.
    let initiators = vec![rig.initiator(1)];
    let _: AccessState = rig.answer(&StorageAccessEnsure { storage_id: 3, key: "drive-1".into(), initiators }).await;
    let words = rig.failure(&StorageVolumeDelete { storage_id: 3, key: "drive-1".into() }).await;
    assert!(words.contains("in use by"), "{words}");
    rig.end().await;
}
