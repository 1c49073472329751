//! The life of an instance that boots from a volume of an array: installation, power cycles, another server, deletion. The simulated servers
//! log in to the simulated array over real iSCSI; what was installed on the volume is what boots.

use std::{collections::BTreeSet, net::Ipv4Addr};

use model::{
    Id,
    bmc::PowerAction,
    job::JobStatus,
    order::{Order, ServerClean, ServerInstall, ServerInventory, ServerPower, ServerStart},
    secret::Clear,
    snapshot::{Fact, SnapshotItem},
    storage::{
        AccessState, BlockProtocol, Chap, Initiator, InstanceStorage, InstanceTarget, SanBoot, StorageAccessEnsure,
        StorageDriver, StorageTarget, StorageVolumeDelete, StorageVolumeEnsure, Volume, initiator_iqn, initiator_user,
    },
};
use serde_json::Value;
use yard::{Yard, storage::ArrayKind};

use crate::rig::{Rig, hostname, value};

const INSTANCE: Id = 7;
const KEY: &str = "drive-3-7";

fn chap(rig: &Rig, secret: &str) -> Chap {
    Chap { username: initiator_user(INSTANCE), secret: rig.global.sealer.seal(&Clear(secret.into())).unwrap() }
}

fn open_to(rig: &Rig, secret: Option<&str>) -> Value {
    let host = |secret| Initiator {
        name: "web-7".into(),
        iqn: initiator_iqn(INSTANCE),
        nqn: None,
        chap: Some(chap(rig, secret)),
    };
    value(StorageAccessEnsure { storage_id: 1, key: KEY.into(), initiators: secret.map(host).into_iter().collect() })
}

fn install(rig: &Rig, yard: &Yard, server_id: Id, secret: &str, keep_system: bool) -> Value {
    let mut order = rig.install(yard, server_id);
    order["spec"]["instance_id"] = INSTANCE.into();
    order["spec"]["hostname"] = "web-7".into();
    order["spec"]["storage"] = value(InstanceStorage {
        initiator_iqn: initiator_iqn(INSTANCE),
        targets: vec![InstanceTarget {
            storage_id: 1,
            protocol: BlockProtocol::Iscsi,
            volumes: vec![KEY.into()],
            portals: Vec::new(),
            boot_volume: Some(KEY.into()),
        }],
        chap: Some(chap(rig, secret)),
        keep_system,
        ..InstanceStorage::default()
    });
    order
}

/// What the Global Controller tells of the server that carries the instance, and of one that does not.
fn carries(rig: &Rig, server_id: Id, secret: Option<&str>) {
    let san = secret.map(|secret| SanBoot {
        storage_id: 1,
        key: KEY.into(),
        initiator_iqn: initiator_iqn(INSTANCE),
        chap: Some(chap(rig, secret)),
        access: None,
        wwn: None,
    });
    rig.server_fact(server_id, |s| {
        s.instance_id = san.is_some().then_some(INSTANCE);
        s.in_use = san.is_some();
        s.san = san;
    });
}

fn local_disk(yard: &Yard, server: usize) -> bool {
    yard.world().servers[server].with(|s| s.kept.disk.is_some())
}

fn hosts(yard: &Yard) -> BTreeSet<String> {
    let all = yard.world().arrays[0].access();
    all.into_iter().find(|(name, _)| name.contains("drive")).map(|(_, who)| who).unwrap_or_default()
}

async fn done(rig: &mut Rig, jobs: Vec<(&str, Value)>) -> Vec<Id> {
    rig.ordered_for = Some(INSTANCE);
    let jobs = rig.order(jobs).await;
    rig.succeeded(&jobs).await;
    jobs
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_lives_on_its_volume() {
    let mut rig = Rig::new(60).await;
    let yard = rig
        .yard_with(2, |c| {
            c.arrays = vec![ArrayKind::Netapp];
            c.array_base = Ipv4Addr::new(127, 154, 60, 1);
            c.array_port = 0;
        })
        .await;
    rig.enter(&yard);
    let array = &yard.world().arrays[0];
    let storage = StorageTarget {
        storage_id: 1,
        name: "netapp".into(),
        driver: StorageDriver::Netapp,
        address: array.address.to_string(),
        port: array.api_port.get().copied(),
        username: "admin".into(),
        secret: rig.global.sealer.seal(&Clear("array-yard".into())).unwrap(),
        private_key: None,
        tls_fingerprint: None,
        protocol: Some(BlockProtocol::Iscsi),
        options: serde_json::Map::new(),
    };
    {
        let mut facts = rig.global.facts.lock().unwrap();
        let generation = facts.len() as i64 + 1;
        facts.push(SnapshotItem { key: "storage/1".into(), generation, value: Some(Fact::Storage(storage)) });
    }
    let site = site::start(rig.site_config()).await.unwrap();
    let inventories = [1, 2].map(|server_id| (ServerInventory::NAME, value(ServerInventory { server_id })));
    let jobs = rig.order(inventories.into()).await;
    rig.succeeded(&jobs).await;

    // An installation whose volume nobody has opened writes nothing anywhere.
    let (first, second) = ("firstsecret12345", "secondsecret1234");
    carries(&rig, 1, Some(first));
    let order = install(&rig, &yard, 1, first, false);
    rig.refused(ServerInstall::NAME, order, Some(INSTANCE), "deploy").await;
    assert!(!local_disk(&yard, 0));

    // Made, opened, installed, started: from the volume, and never from a disk.
    let volume = Volume { key: KEY.into(), name: "web".into(), size_bytes: 2 << 30, pool: None, qos: None };
    let make = value(StorageVolumeEnsure { storage_id: 1, volume });
    let (open, order) = (open_to(&rig, Some(first)), install(&rig, &yard, 1, first, false));
    let start = |server_id| (ServerStart::NAME, value(ServerStart { server_id }));
    let jobs = done(
        &mut rig,
        vec![
            (StorageVolumeEnsure::NAME, make),
            (StorageAccessEnsure::NAME, open),
            (ServerInstall::NAME, order),
            start(1),
        ],
    )
    .await;
    let access: AccessState = rig.answer(jobs[1]);
    assert_eq!((access.hosts.len(), hosts(&yard)), (1, BTreeSet::from([initiator_iqn(INSTANCE)])));
    rig.until("the system on the volume", || hostname(&yard, 0).as_deref() == Some("web-7")).await;
    assert!(!local_disk(&yard, 0), "its server's disk is untouched");
    let console = yard.world().servers[0].with(|s| s.log.iter().cloned().collect::<Vec<_>>().join("\n"));
    assert!(console.contains("booting from the volume") && !console.contains(first), "{console}");

    // Power cycles need nobody: the firmware's own order ends at the network.
    for _ in 0..2 {
        let cycle =
            ServerPower { server_id: 1, action: PowerAction::Cycle, graceful_seconds: None, force_after: false };
        done(&mut rig, vec![(ServerPower::NAME, value(cycle))]).await;
        rig.until("off", || hostname(&yard, 0).is_none()).await;
        rig.until("again", || hostname(&yard, 0).as_deref() == Some("web-7")).await;
    }

    // The server breaks. Its volume is taken from it, given a new login, and the next server runs the same system.
    carries(&rig, 1, None);
    carries(&rig, 2, Some(second));
    let (cut, open, order) = (open_to(&rig, None), open_to(&rig, Some(second)), install(&rig, &yard, 2, second, true));
    let jobs = done(&mut rig, vec![(StorageAccessEnsure::NAME, cut)]).await;
    assert!(rig.answer::<AccessState>(jobs[0]).hosts.is_empty() && hosts(&yard).is_empty());
    done(&mut rig, vec![(StorageAccessEnsure::NAME, open), (ServerInstall::NAME, order), start(2)]).await;
    rig.until("the same system elsewhere", || hostname(&yard, 1).as_deref() == Some("web-7")).await;
    assert!(!local_disk(&yard, 1));
    // The old one starts again: it finds no system, and does not get in.
    let on = ServerPower { server_id: 1, action: PowerAction::Reset, graceful_seconds: None, force_after: false };
    rig.ordered_for = None;
    let jobs = rig.order(vec![(ServerPower::NAME, value(on))]).await;
    rig.succeeded(&jobs).await;
    rig.until("nothing to boot", || yard.world().servers[0].with(|s| s.stage == yard::server::Stage::NoBootDevice))
        .await;

    // Installed anew on the same volume.
    let off = ServerPower { server_id: 2, action: PowerAction::ForceOff, graceful_seconds: None, force_after: false };
    let mut order = install(&rig, &yard, 2, second, false);
    order["spec"]["hostname"] = "anew-7".into();
    done(&mut rig, vec![(ServerPower::NAME, value(off.clone())), (ServerInstall::NAME, order), start(2)]).await;
    rig.until("the new system", || hostname(&yard, 1).as_deref() == Some("anew-7")).await;

    // Deleted: closed before its server is cleaned, then gone.
    let cut = open_to(&rig, None);
    done(
        &mut rig,
        vec![
            (ServerPower::NAME, value(off)),
            (StorageAccessEnsure::NAME, cut),
            (StorageVolumeDelete::NAME, value(StorageVolumeDelete { storage_id: 1, key: KEY.into() })),
            (ServerClean::NAME, value(ServerClean { server_id: 2, ..ServerClean::default() })),
        ],
    )
    .await;
    assert!(hosts(&yard).is_empty() && !local_disk(&yard, 1));
    assert!(yard.world().arrays[0].access().is_empty());
    // Whoever still believes that it boots from there is told so, and writes nothing.
    rig.ordered_for = Some(INSTANCE);
    let job = rig.order(vec![start(2)]).await[0];
    rig.until("words", || {
        let jobs = rig.global.jobs.lock().unwrap();
        jobs.get(&job).is_some_and(|j| j.status == JobStatus::ThrownError || format!("{j:?}").contains("volume"))
    })
    .await;
    site.stop().await;
    yard.shutdown().await;
}
