//! The REST drivers against simulated arrays: the life of a volume, its hosts, snapshots, shares, buckets, and what goes wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use model::{
    secret::Clear,
    storage::{FileProtocol, Qos, Share, SnapshotOf, StorageDriver, Technology, Volume},
};
use serde_json::json;
use storage::{Access, Array, BucketSpec, Host, StorageError};
use yard::{
    Yard, YardConfig,
    fault::{Action, FaultRule, preset},
    storage::ArrayKind,
};

const GB: u64 = 1 << 30;

async fn yard(block: u8, kind: ArrayKind) -> Yard {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = YardConfig {
        servers: 1,
        arrays: vec![kind],
        bmc_base: Ipv4Addr::new(127, 70 + block, 1, 1),
        bmc_port: 0,
        switch_base: Ipv4Addr::new(127, 70 + block, 2, 1),
        nvue_port: 0,
        relay_base: Ipv4Addr::new(127, 70 + block, 3, 1),
        array_base: Ipv4Addr::new(127, 70 + block, 4, 1),
        array_port: 0,
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        ..YardConfig::default()
    };
    yard::run(config).await.unwrap()
}

fn access(yard: &Yard) -> Access {
    let array = &yard.world().arrays[0];
    Access {
        name: "array".into(),
        address: array.address.to_string(),
        port: array.api_port.get().copied(),
        username: "admin".into(),
        secret: Clear("array-yard".into()),
        private_key: None,
        timeout: Duration::from_secs(5),
        tls_fingerprint: None,
        protocol: None,
        options: serde_json::Map::new(),
    }
}

fn volume(key: &str, size_bytes: u64) -> Volume {
    Volume { key: key.into(), name: format!("{key} of a tenant"), size_bytes, pool: None, qos: None }
}

fn host(name: &str) -> Host {
    Host {
        name: name.into(),
        iqn: format!("iqn.2026-01.io.steelyard:{name}"),
        nqn: Some(format!("nqn.2026-01.io.steelyard:{name}")),
        chap: None,
    }
}

fn chap(name: &str, secret: &str) -> Host {
    Host { chap: Some((name.to_owned(), Clear(secret.to_owned()))), ..host(name) }
}

/// The initiators that the array itself would let in to the only object whose name ends so.
fn who(yard: &Yard, end: &str) -> Option<BTreeSet<String>> {
    let all = yard.world().arrays[0].access();
    all.into_iter().find(|(name, _)| name.contains(end)).map(|(_, who)| who)
}

fn iqns(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| format!("iqn.2026-01.io.steelyard:{n}")).collect()
}

/// What must hold for every array with volumes. `end` makes, from a key, the words that its name on the array has.
async fn volumes(yard: &Yard, driver: &dyn Array, end: fn(&str) -> String) {
    let block = driver.block().unwrap();
    let snapshots = driver.snapshots().unwrap();
    let facts = driver.facts().await.unwrap();
    assert!(facts.technologies.contains(&Technology::Block) && facts.serial.is_some() && facts.version.is_some());
    assert!(facts.capacity.total_bytes > 1 << 40 && !facts.pools.is_empty() && facts.tls_fingerprint.is_some());
    assert!(facts.target_iqn.as_ref().is_some_and(|i| i.starts_with("iqn.")) && facts.portals.len() >= 2, "{facts:?}");

    let made = block.volume_ensure(&volume("drive-1", 10 * GB)).await.unwrap();
    assert_eq!(made.size_bytes, 10 * GB);
    assert!(made.wwn.as_ref().is_some_and(|w| w.len() == 32 && w.starts_with('6')), "{made:?}");
    assert_eq!(block.volume_ensure(&volume("drive-1", 10 * GB)).await.unwrap(), made);
    let one = || who(yard, &end("drive-1"));
    assert_eq!(one(), Some(iqns(&[])));

    // A group of two, then of three, then of one: exactly they have access.
    let access = block.access_ensure("drive-1", &[host("a"), host("b")]).await.unwrap();
    assert_eq!(access.hosts.len(), 2);
    assert!(access.hosts.iter().all(|h| h.lun.is_some()) && access.target.is_some() && access.portals.len() >= 2);
    assert_eq!(one(), Some(iqns(&["a", "b"])));
    assert_eq!(block.access_ensure("drive-1", &[host("b"), host("a")]).await.unwrap(), access);
    block.access_ensure("drive-1", &[host("a"), host("b"), host("c")]).await.unwrap();
    assert_eq!(one(), Some(iqns(&["a", "b", "c"])));
    block.access_ensure("drive-1", &[host("c")]).await.unwrap();
    assert_eq!(one(), Some(iqns(&["c"])));

    // Two volumes of one host have numbers of their own.
    block.volume_ensure(&volume("drive-2", GB)).await.unwrap();
    let second = block.access_ensure("drive-2", &[host("c")]).await.unwrap();
    let first = block.access_ensure("drive-1", &[host("c")]).await.unwrap();
    assert_ne!(first.hosts[0].lun, second.hosts[0].lun);

    // With a login, and with another one.
    block.access_ensure("drive-2", &[chap("c", "secretsecret1")]).await.unwrap();
    block.access_ensure("drive-2", &[chap("c", "othersecret12")]).await.unwrap();
    let short = block.access_ensure("drive-2", &[chap("c", "short")]).await;
    assert!(matches!(&short, Err(e @ StorageError::Refused { .. }) if !e.is_retryable()), "{short:?}");

    // It grows and does not shrink.
    assert_eq!(block.volume_ensure(&volume("drive-1", 20 * GB)).await.unwrap().size_bytes, 20 * GB);
    let shrink = block.volume_ensure(&volume("drive-1", 5 * GB)).await.unwrap_err();
    assert!(matches!(shrink, StorageError::Shrink { .. }) && shrink.to_string().contains("cannot shrink"));

    // Snapshots, a restore that keeps the size, clones that are larger than their source.
    let taken = snapshots.snapshot_create(SnapshotOf::Volume, "drive-2", "Before upgrade!").await.unwrap();
    assert!(taken.created_at.is_some_and(|t| t.starts_with("2026-03-01T")));
    snapshots.snapshot_create(SnapshotOf::Volume, "drive-2", "Before upgrade!").await.unwrap();
    block.volume_ensure(&volume("drive-2", 2 * GB)).await.unwrap();
    snapshots.snapshot_restore(SnapshotOf::Volume, "drive-2", "Before upgrade!").await.unwrap();
    assert_eq!(block.volume_ensure(&volume("drive-2", 2 * GB)).await.unwrap().size_bytes, 2 * GB);
    let clone = snapshots.clone_volume("drive-2", Some("Before upgrade!"), &volume("drive-3", 4 * GB)).await.unwrap();
    assert_eq!(clone.size_bytes, 4 * GB);
    assert_eq!(snapshots.clone_volume("drive-2", None, &volume("drive-4", 2 * GB)).await.unwrap().size_bytes, 2 * GB);
    assert_eq!(who(yard, &end("drive-3")), Some(iqns(&[])), "a copy belongs to nobody");
    let never = snapshots.snapshot_restore(SnapshotOf::Volume, "drive-2", "never").await;
    assert!(matches!(never, Err(StorageError::Missing { .. })));
    snapshots.snapshot_delete(SnapshotOf::Volume, "drive-2", "Before upgrade!").await.unwrap();
    snapshots.snapshot_delete(SnapshotOf::Volume, "drive-2", "Before upgrade!").await.unwrap();
    snapshots.snapshot_create(SnapshotOf::Volume, "drive-1", "left").await.unwrap();

    // What hosts may use is not removed; then it goes with its snapshots, twice without harm.
    assert!(matches!(block.volume_delete("drive-1").await, Err(StorageError::InUse { .. })));
    for key in ["drive-1", "drive-2"] {
        block.access_ensure(key, &[]).await.unwrap();
    }
    assert_eq!(one(), Some(iqns(&[])));
    for key in ["drive-1", "drive-1", "drive-2", "drive-3", "drive-4"] {
        block.volume_delete(key).await.unwrap();
    }
    assert!(yard.world().arrays[0].access().is_empty());
    block.access_ensure("drive-1", &[]).await.unwrap();
    assert!(matches!(block.access_ensure("drive-1", &[host("a")]).await, Err(StorageError::Missing { .. })));
}

/// What must hold for every array with shares.
async fn shares(yard: &Yard, driver: &dyn Array) {
    let file = driver.file().unwrap();
    let share = |size_bytes, clients: &[&str]| Share {
        key: "share-1".into(),
        name: "home".into(),
        size_bytes,
        protocol: FileProtocol::Nfs,
        pool: None,
        clients: clients.iter().map(|c| c.parse().unwrap()).collect(),
    };
    let clients = || who(yard, "share").unwrap_or_default();
    let set = |all: &[&str]| all.iter().map(|c| (*c).to_owned()).collect::<BTreeSet<_>>();
    let made = file.share_ensure(&share(4 * GB, &["10.0.0.1", "10.0.0.2"])).await.unwrap();
    assert!(made.size_bytes == 4 * GB && made.path.contains("share") && !made.server.is_empty(), "{made:?}");
    assert_eq!(clients(), set(&["10.0.0.1", "10.0.0.2"]));
    assert_eq!(file.share_ensure(&share(4 * GB, &["10.0.0.2", "10.0.0.1"])).await.unwrap(), made);
    file.share_ensure(&share(8 * GB, &["10.0.0.2", "10.0.0.3"])).await.unwrap();
    assert_eq!(clients(), set(&["10.0.0.2", "10.0.0.3"]));
    file.share_ensure(&share(8 * GB, &[])).await.unwrap();
    assert_eq!(clients(), set(&[]));
    assert!(matches!(file.share_ensure(&share(4 * GB, &[])).await, Err(StorageError::Shrink { .. })));
    file.share_delete("share-1").await.unwrap();
    file.share_delete("share-1").await.unwrap();
    assert_eq!(who(yard, "share"), None);
}

/// What must hold for every driver when its array misbehaves.
async fn faults(yard: &Yard, kind: StorageDriver) {
    let world = yard.world();
    let strike = |name: &str| world.faults.add(preset(name).unwrap());
    let open = |access: Access| storage::open(kind, access).unwrap();
    strike("array_errors");
    let error = open(access(yard)).facts().await.unwrap_err();
    assert!(matches!(error, StorageError::Failed { .. }) && error.is_retryable(), "{error}");
    world.faults.remove(None);
    strike("array_hangs");
    let slow = Access { timeout: Duration::from_millis(300), ..access(yard) };
    let error = open(slow).facts().await.unwrap_err();
    assert!(matches!(error, StorageError::Unreachable { .. }) && error.is_retryable(), "{error}");
    world.faults.remove(None);
    world
        .faults
        .add(FaultRule { action: Action::WrongBody { body: "<html>".into() }, ..preset("array_errors").unwrap() });
    let error = open(access(yard)).facts().await.unwrap_err();
    assert!(matches!(error, StorageError::Odd { .. } | StorageError::Setting { .. }), "{error}");
    world.faults.remove(None);
    let error = open(Access { secret: Clear("wrong".into()), ..access(yard) }).facts().await.unwrap_err();
    assert!(matches!(error, StorageError::Unauthorized(_)) && !error.is_retryable(), "{error}");
    let driver = open(Access { tls_fingerprint: Some("00".repeat(32)), ..access(yard) });
    let error = driver.facts().await.unwrap_err();
    assert!(matches!(error, StorageError::IdentityChanged { .. }), "{error}");
    assert!(driver.refused_fingerprint().is_some());
    assert!(!error.to_string().contains("array-yard"), "no secret in words");
}

#[tokio::test]
async fn ontap() {
    let yard = yard(0, ArrayKind::Netapp).await;
    let driver = storage::open(StorageDriver::Netapp, access(&yard)).unwrap();
    volumes(&yard, &*driver, |key| format!("/sy_{}/", key.replace('-', "_"))).await;
    shares(&yard, &*driver).await;

    // Snapshots of shares.
    let (file, snapshots) = (driver.file().unwrap(), driver.snapshots().unwrap());
    let share = Share {
        key: "share-2".into(),
        name: "home".into(),
        size_bytes: GB,
        protocol: FileProtocol::Nfs,
        pool: None,
        clients: Vec::new(),
    };
    file.share_ensure(&share).await.unwrap();
    snapshots.snapshot_create(SnapshotOf::Share, "share-2", "daily").await.unwrap();
    snapshots.snapshot_restore(SnapshotOf::Share, "share-2", "daily").await.unwrap();
    snapshots.snapshot_delete(SnapshotOf::Share, "share-2", "daily").await.unwrap();
    let gone = snapshots.snapshot_restore(SnapshotOf::Share, "share-2", "daily").await;
    assert!(matches!(gone, Err(StorageError::Missing { .. })));
    file.share_delete("share-2").await.unwrap();

    // Limits of speed.
    let block = driver.block().unwrap();
    let limited = Volume { qos: Some(Qos { max_iops: 500, max_mbps: 20 }), ..volume("drive-9", GB) };
    block.volume_ensure(&limited).await.unwrap();
    block.volume_ensure(&limited).await.unwrap();
    // A job that fails is told in the array's words, and the next attempt finds its way.
    yard.world().faults.add(preset("array_job_fails").unwrap());
    let error = block.volume_ensure(&volume("drive-10", GB)).await.unwrap_err();
    assert!(error.to_string().contains("injected fault"), "{error}");
    block.volume_ensure(&volume("drive-10", GB)).await.unwrap();
    // An aggregate that is not there.
    let nowhere = Volume { pool: Some("aggr7".into()), ..volume("drive-11", GB) };
    let error = block.volume_ensure(&nowhere).await.unwrap_err();
    assert!(matches!(error, StorageError::Refused { .. }) && error.to_string().contains("aggr7"), "{error}");

    // Buckets: the array makes the key.
    let object = driver.object().unwrap();
    let spec = |access_key: &str, size_bytes| BucketSpec {
        key: "bucket-1".into(),
        name: "pictures".into(),
        size_bytes,
        access_key: access_key.into(),
        secret_key: Clear("unused".into()),
    };
    let made = object.bucket_ensure(&spec("", GB)).await.unwrap();
    let key = made.state.access_key.clone().unwrap();
    assert!(
        made.secret_key.is_some() && made.state.endpoint.starts_with("https://") && made.state.bucket == "sy-bucket-1"
    );
    let again = object.bucket_ensure(&spec(&key, 2 * GB)).await.unwrap();
    assert!(again.secret_key.is_none() && again.state.access_key.is_none() && again.state.size_bytes == 2 * GB);
    // A key that nobody was told of is replaced.
    let lost = object.bucket_ensure(&spec("other", 2 * GB)).await.unwrap();
    assert!(lost.state.access_key.is_some_and(|k| k != key));
    object.bucket_delete("bucket-1", None).await.unwrap();
    object.bucket_delete("bucket-1", None).await.unwrap();
    faults(&yard, StorageDriver::Netapp).await;
    yard.shutdown().await;
}

#[tokio::test]
async fn power_store() {
    let yard = yard(1, ArrayKind::PowerStore).await;
    let driver = storage::open(StorageDriver::PowerStore, access(&yard)).unwrap();
    volumes(&yard, &*driver, |key| format!("sy-{key}")).await;
    // Sessions end; nobody notices.
    yard.world().arrays[0].end_sessions();
    shares(&yard, &*driver).await;
    assert!(driver.object().is_none());
    let limited = Volume { qos: Some(Qos { max_iops: 500, max_mbps: 0 }), ..volume("drive-9", GB) };
    let error = driver.block().unwrap().volume_ensure(&limited).await.unwrap_err();
    assert!(matches!(error, StorageError::Unsupported { .. }), "{error}");
    faults(&yard, StorageDriver::PowerStore).await;
    yard.shutdown().await;
}

#[tokio::test]
async fn pure() {
    let yard = yard(2, ArrayKind::Pure).await;
    let driver = storage::open(StorageDriver::Pure, access(&yard)).unwrap();
    volumes(&yard, &*driver, |key| format!("sy-{key}")).await;
    yard.world().arrays[0].end_sessions();
    let limited = Volume { qos: Some(Qos { max_iops: 500, max_mbps: 20 }), ..volume("drive-9", GB) };
    let block = driver.block().unwrap();
    block.volume_ensure(&limited).await.unwrap();
    block.volume_delete("drive-9").await.unwrap();

    // The same array by NVMe over TCP.
    let nvme = Access { protocol: Some(model::storage::BlockProtocol::NvmeTcp), ..access(&yard) };
    let driver = storage::open(StorageDriver::Pure, nvme).unwrap();
    let block = driver.block().unwrap();
    block.volume_ensure(&volume("drive-1", GB)).await.unwrap();
    let state = block.access_ensure("drive-1", &[host("a")]).await.unwrap();
    assert!(state.target.is_some_and(|t| t.starts_with("nqn.")) && state.portals.iter().all(|p| p.port == 4420));
    assert_eq!(who(&yard, "drive-1"), Some(BTreeSet::from(["nqn.2026-01.io.steelyard:a".to_owned()])));
    faults(&yard, StorageDriver::Pure).await;
    yard.shutdown().await;
}

#[tokio::test]
async fn power_flex() {
    let yard = yard(3, ArrayKind::PowerFlex).await;
    let driver = storage::open(StorageDriver::PowerFlex, access(&yard)).unwrap();
    let (block, snapshots) = (driver.block().unwrap(), driver.snapshots().unwrap());
    let facts = driver.facts().await.unwrap();
    assert!(facts.target_nqn.is_some() && facts.portals.len() == 2 && facts.pools[0].name == "SP-1", "{facts:?}");
    // Sizes are multiples of 8 GB.
    let made = block.volume_ensure(&volume("drive-1", 10 * GB)).await.unwrap();
    assert_eq!(made.size_bytes, 16 * GB);
    assert_eq!(block.volume_ensure(&volume("drive-1", 12 * GB)).await.unwrap(), made);
    assert_eq!(block.volume_ensure(&volume("drive-1", 17 * GB)).await.unwrap().size_bytes, 24 * GB);
    assert!(matches!(block.volume_ensure(&volume("drive-1", GB)).await, Err(StorageError::Shrink { .. })));
    let nqns =
        |names: &[&str]| Some(names.iter().map(|n| format!("nqn.2026-01.io.steelyard:{n}")).collect::<BTreeSet<_>>());
    let state = block.access_ensure("drive-1", &[host("a"), host("b")]).await.unwrap();
    assert!(state.protocol == "nvme_tcp" && state.hosts.len() == 2 && state.target == facts.target_nqn);
    assert_eq!(who(&yard, "drive-1"), nqns(&["a", "b"]));
    yard.world().arrays[0].end_sessions();
    block.access_ensure("drive-1", &[host("c"), host("b")]).await.unwrap();
    assert_eq!(who(&yard, "drive-1"), nqns(&["b", "c"]));
    snapshots.snapshot_create(SnapshotOf::Volume, "drive-1", "Before upgrade!").await.unwrap();
    snapshots.snapshot_restore(SnapshotOf::Volume, "drive-1", "Before upgrade!").await.unwrap();
    let clone = snapshots.clone_volume("drive-1", Some("Before upgrade!"), &volume("drive-12", 32 * GB)).await.unwrap();
    assert_eq!(clone.size_bytes, 32 * GB);
    assert!(matches!(block.volume_delete("drive-1").await, Err(StorageError::InUse { .. })));
    block.access_ensure("drive-1", &[]).await.unwrap();
    block.volume_delete("drive-1").await.unwrap();
    block.volume_delete("drive-1").await.unwrap();
    // The snapshot has gone with its volume, the copy has not.
    let left = yard.world().arrays[0].access();
    assert_eq!(left.keys().collect::<Vec<_>>(), ["sy-drive-12"]);
    let nowhere = Volume { pool: Some("SP-9".into()), ..volume("drive-3", GB) };
    assert!(matches!(block.volume_ensure(&nowhere).await, Err(StorageError::Missing { .. })));
    faults(&yard, StorageDriver::PowerFlex).await;
    yard.shutdown().await;
}

#[tokio::test]
async fn power_scale() {
    let yard = yard(4, ArrayKind::PowerScale).await;
    let driver = storage::open(StorageDriver::PowerScale, access(&yard)).unwrap();
    let facts = driver.facts().await.unwrap();
    assert!(facts.technologies == [Technology::File] && facts.capacity.used_bytes > 0 && driver.block().is_none());
    shares(&yard, &*driver).await;
    yard.world().arrays[0].end_sessions();
    shares(&yard, &*driver).await;
    faults(&yard, StorageDriver::PowerScale).await;
    yard.shutdown().await;
}

#[tokio::test]
async fn drivers_that_are_not_there_say_so() {
    let error = storage::open(
        StorageDriver::HitachiVsp,
        Access {
            name: "x".into(),
            address: "127.0.0.1".into(),
            port: None,
            username: String::new(),
            secret: Clear(String::new()),
            private_key: None,
            timeout: Duration::from_secs(1),
            tls_fingerprint: None,
            protocol: None,
            options: json!({}).as_object().unwrap().clone(),
        },
    )
    .err()
    .unwrap();
    assert!(error.to_string().contains("netapp") && !error.is_retryable());
}
