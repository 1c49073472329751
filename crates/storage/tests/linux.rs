//! The Linux driver against the real programs on loopback: sshd, tgtd with libiscsi as the host, NFS-Ganesha with libnfs, SeaweedFS. Needs
//! root and the programs; what is missing is said in `target/not-tested`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod node;

use model::{
    secret::Clear,
    storage::{FileProtocol, Share, SnapshotOf, StorageDriver, Technology, Volume},
};
use node::{Node, ok, output, port_answers};
use storage::{BucketSpec, Host, StorageError};

/// SHA-256 of what is put.
const HELLO: &str = "x-amz-content-sha256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
const MB: u64 = 1 << 20;

fn volume(key: &str, size_bytes: u64) -> Volume {
    Volume { key: key.into(), name: key.into(), size_bytes, pool: None, qos: None }
}

fn host(name: &str, chap: Option<(&str, &str)>) -> Host {
    Host {
        name: name.into(),
        iqn: format!("iqn.2026-01.io.steelyard:{name}"),
        nqn: None,
        chap: chap.map(|(u, p)| (u.to_owned(), Clear(p.to_owned()))),
    }
}

/// The URL by which libiscsi reaches the first logical unit of a volume.
fn url(node: &Node, key: &str, chap: Option<(&str, &str)>) -> String {
    let login = chap.map(|(u, p)| format!("{u}%{p}@")).unwrap_or_default();
    format!("iscsi://{login}127.0.0.1:{}/iqn.2026-01.io.steelyard:sy-{key}/1", node.iscsi_port)
}

/// Runs qemu-io on a volume, as a host; `None`: it did not work.
fn qemu_io(url: &str, host: &str, command: &str) -> Option<String> {
    let image = format!(
        "driver=raw,file.driver=iscsi,file.transport=tcp,file.initiator-name=iqn.2026-01.io.steelyard:{host},{}",
        file_options(url)
    );
    let out = output("qemu-io", &["--image-opts", &image, "-c", command]);
    (out.status.success() && !out.text.contains("error") && !out.text.contains("failed")).then_some(out.text)
}

fn file_options(url: &str) -> String {
    let rest = url.strip_prefix("iscsi://").unwrap();
    let (login, rest) = rest.split_once('@').map_or((None, rest), |(l, r)| (Some(l), r));
    let mut parts = rest.splitn(3, '/');
    let (portal, target, lun) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let mut text = format!("file.portal={portal},file.target={target},file.lun={lun}");
    if let Some((user, _)) = login.and_then(|l| l.split_once('%')) {
        text.push_str(&format!(",file.user={user},file.password-secret=s0"));
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_of_a_real_node() {
    let Some(node) = Node::start(&["tgtd", "tgtadm", "qemu-io"], "iSCSI volumes").await else {
        return;
    };
    let driver = node.driver();
    let facts = driver.facts().await.unwrap();
    assert!(facts.technologies.contains(&Technology::Block), "{facts:?}");
    assert!(facts.capacity.total_bytes > 100 * MB && facts.tls_fingerprint.is_some());
    let block = driver.block().unwrap();
    let snapshots = driver.snapshots().unwrap();

    // A volume is made once, and belongs to nobody.
    let made = block.volume_ensure(&volume("drive-1", 64 * MB)).await.unwrap();
    assert_eq!((made.size_bytes, made.array_name.as_str()), (64 * MB, "iqn.2026-01.io.steelyard:sy-drive-1"));
    assert_eq!(block.volume_ensure(&volume("drive-1", 64 * MB)).await.unwrap(), made);
    assert!(qemu_io(&url(&node, "drive-1", None), "a", "read 0 512").is_none());

    // A host gets it, and it alone.
    let access = block.access_ensure("drive-1", &[host("a", None)]).await.unwrap();
    assert_eq!(access.target.as_deref(), Some("iqn.2026-01.io.steelyard:sy-drive-1"));
    assert_eq!((access.hosts.len(), access.hosts[0].lun, access.portals[0].port), (1, Some(1), node.iscsi_port));
    assert_eq!(block.access_ensure("drive-1", &[host("a", None)]).await.unwrap(), access);
    qemu_io(&url(&node, "drive-1", None), "a", "write -P 0xaa 0 1M").expect("host a writes");
    assert!(qemu_io(&url(&node, "drive-1", None), "b", "read 0 512").is_none(), "host b has no access");
    // Snapshot, more writing, clone, and back.
    snapshots.snapshot_create(SnapshotOf::Volume, "drive-1", "Before upgrade").await.unwrap();
    let again = snapshots.snapshot_create(SnapshotOf::Volume, "drive-1", "Before upgrade").await.unwrap();
    assert!(again.created_at.is_some_and(|t| t.ends_with('Z')));
    qemu_io(&url(&node, "drive-1", None), "a", "write -P 0xbb 0 1M").unwrap();
    let clone = snapshots.clone_volume("drive-1", Some("Before upgrade"), &volume("drive-2", 96 * MB)).await.unwrap();
    assert_eq!(clone.size_bytes, 96 * MB);
    block.access_ensure("drive-2", &[host("b", None)]).await.unwrap();
    assert!(qemu_io(&url(&node, "drive-2", None), "b", "read -P 0xaa 0 1M").unwrap().contains("read 1048576"));
    assert!(qemu_io(&url(&node, "drive-1", None), "a", "read -P 0xbb 0 1M").is_some());
    snapshots.snapshot_restore(SnapshotOf::Volume, "drive-1", "Before upgrade").await.unwrap();
    assert!(qemu_io(&url(&node, "drive-1", None), "a", "read -P 0xaa 0 1M").is_some());
    assert!(matches!(
        snapshots.snapshot_restore(SnapshotOf::Volume, "drive-1", "never").await,
        Err(StorageError::Missing { .. })
    ));

    // It grows, and does not shrink.
    let grown = block.volume_ensure(&volume("drive-1", 128 * MB)).await.unwrap();
    assert_eq!((grown.size_bytes, grown.wwn), (128 * MB, made.wwn));
    assert!(qemu_io(&url(&node, "drive-1", None), "a", "write -P 0xcc 100M 1M").is_some());
    assert!(qemu_io(&url(&node, "drive-1", None), "a", "read -P 0xaa 0 1M").is_some());
    assert!(matches!(block.volume_ensure(&volume("drive-1", 64 * MB)).await, Err(StorageError::Shrink { .. })));

    // A group grows and shrinks: exactly its hosts have access.
    block.access_ensure("drive-1", &[host("a", None), host("c", None)]).await.unwrap();
    assert!(qemu_io(&url(&node, "drive-1", None), "c", "read -P 0xaa 0 1M").is_some());
    block.access_ensure("drive-1", &[host("c", None)]).await.unwrap();
    assert!(qemu_io(&url(&node, "drive-1", None), "a", "read 0 512").is_none());
    assert!(qemu_io(&url(&node, "drive-1", None), "c", "read -P 0xaa 0 1M").is_some());

    // What hosts may use is not removed.
    assert!(matches!(block.volume_delete("drive-1").await, Err(StorageError::InUse { .. })));
    block.access_ensure("drive-1", &[]).await.unwrap();
    assert!(qemu_io(&url(&node, "drive-1", None), "c", "read 0 512").is_none());
    block.volume_delete("drive-1").await.unwrap();
    block.volume_delete("drive-1").await.unwrap();
    block.access_ensure("drive-1", &[]).await.unwrap();
    assert!(matches!(block.access_ensure("drive-1", &[host("a", None)]).await, Err(StorageError::Missing { .. })));
    assert!(!node.pool.join("volumes/sy-drive-1.img").exists());
    assert_eq!(std::fs::read_dir(node.pool.join("snapshots")).unwrap().count(), 0);
    block.access_ensure("drive-2", &[]).await.unwrap();
    block.volume_delete("drive-2").await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_logged_in() {
    let Some(node) = Node::start(&["tgtd", "tgtadm", "qemu-io"], "iSCSI sessions").await else { return };
    let driver = node.driver();
    let (block, snapshots) = (driver.block().unwrap(), driver.snapshots().unwrap());
    block.volume_ensure(&volume("drive-7", 32 * MB)).await.unwrap();
    block.access_ensure("drive-7", &[host("a", None)]).await.unwrap();
    // This one stays logged in, and writes once more at the end.
    let mut session = Node::session(&file_options(&url(&node, "drive-7", None)), "a");
    assert!(session.say("write -P 0x11 0 4096").contains("wrote 4096"));
    let shown = node.tgtadm(&["--op", "show", "--mode", "target"]);
    assert!(shown.contains("Initiator: iqn.2026-01.io.steelyard:a"), "{shown}");

    // A snapshot of a volume in use takes one moment; going back waits until nobody uses it.
    snapshots.snapshot_create(SnapshotOf::Volume, "drive-7", "s").await.unwrap();
    let back = snapshots.snapshot_restore(SnapshotOf::Volume, "drive-7", "s").await;
    assert!(
        matches!(&back, Err(e @ StorageError::InUse { by, .. }) if e.is_retryable() && by.contains(":a")),
        "{back:?}"
    );

    // Growing holds the host off and lets it come back by itself.
    block.volume_ensure(&volume("drive-7", 64 * MB)).await.unwrap();
    assert!(session.say("write -P 0x22 8192 4096").contains("wrote 4096"), "the session survives");
    assert!(session.say("read -P 0x11 0 4096").contains("read 4096"));

    // Access taken away ends the session at once.
    block.access_ensure("drive-7", &[host("b", None)]).await.unwrap();
    let shown = node.tgtadm(&["--op", "show", "--mode", "target"]);
    assert!(!shown.contains("Initiator: iqn.2026-01.io.steelyard:a"), "{shown}");
    drop(session);
    assert!(qemu_io(&url(&node, "drive-7", None), "b", "read -P 0x22 8192 4096").is_some());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_asked_for() {
    let Some(node) = Node::start(&["tgtd", "tgtadm", "iscsi-inq"], "CHAP").await else { return };
    let driver = node.driver();
    let block = driver.block().unwrap();
    let inquire = |chap: Option<(&str, &str)>| {
        output("iscsi-inq", &["-i", "iqn.2026-01.io.steelyard:a", &url(&node, "drive-3", chap)]).status.success()
    };
    block.volume_ensure(&volume("drive-3", 16 * MB)).await.unwrap();
    block.volume_ensure(&volume("drive-4", 16 * MB)).await.unwrap();
    for key in ["drive-3", "drive-4"] {
        block.access_ensure(key, &[host("a", Some(("host-a", "secretsecret1")))]).await.unwrap();
    }
    assert!(inquire(Some(("host-a", "secretsecret1"))));
    assert!(!inquire(Some(("host-a", "wrongwrong123"))));
    assert!(!inquire(None));
    // A new secret holds for all volumes of the host.
    for key in ["drive-3", "drive-4"] {
        block.access_ensure(key, &[host("a", Some(("host-a", "othersecret12")))]).await.unwrap();
    }
    assert!(inquire(Some(("host-a", "othersecret12"))));
    assert!(!inquire(Some(("host-a", "secretsecret1"))));
    let mixed = block.access_ensure("drive-3", &[host("a", Some(("x", "secretsecret1"))), host("b", None)]).await;
    assert!(matches!(&mixed, Err(e @ StorageError::Setting { .. }) if !e.is_retryable()), "{mixed:?}");
    // A node that restarts has everything again from the files, but the numbers stay.
    let file = std::fs::read_to_string(node.home.join("tgt/sy-drive-3.conf")).unwrap();
    assert!(file.contains("incominguser host-a othersecret12") && file.contains("controller_tid"), "{file}");
    for key in ["drive-3", "drive-4"] {
        block.access_ensure(key, &[]).await.unwrap();
        block.volume_delete(key).await.unwrap();
    }
    assert!(!node.tgtadm(&["--op", "show", "--mode", "account"]).contains("host-a"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_host_key_is_refused() {
    let Some(node) = Node::start(&[], "SSH host keys").await else { return };
    let mut access = node.access();
    access.tls_fingerprint = Some("00".repeat(32));
    let driver = storage::open(StorageDriver::Linux, access).unwrap();
    let error = driver.facts().await.unwrap_err();
    assert!(matches!(error, StorageError::IdentityChanged { .. }) && !error.is_retryable(), "{error}");
    assert!(driver.refused_fingerprint().is_some());
    let mut access = node.access();
    access.private_key = None;
    let driver = storage::open(StorageDriver::Linux, access).unwrap();
    assert!(matches!(driver.facts().await, Err(StorageError::Unauthorized(_))));
    node.stop().await;
}

fn share(key: &str, size_bytes: u64, clients: &[&str]) -> Share {
    Share {
        key: key.into(),
        name: key.into(),
        size_bytes,
        protocol: FileProtocol::Nfs,
        pool: None,
        clients: clients.iter().map(|c| c.parse().unwrap()).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_of_a_real_node() {
    let Some(node) = Node::start(&["ganesha.nfsd", "nfs-ls", "nfs-cp", "mkfs.xfs"], "NFS shares").await else { return };
    let driver = node.driver();
    assert!(driver.facts().await.unwrap().technologies.contains(&Technology::File));
    let file = driver.file().unwrap();
    let list = |path: &str| output("nfs-ls", &[&format!("nfs://127.0.0.1{path}?version=4&nfsport={}", node.nfs_port)]);
    let local = node.home.join("hello.txt");
    ok(std::fs::write(&local, "hello"));

    let made = file.share_ensure(&share("share-1", 320 * MB, &["127.0.0.1"])).await.unwrap();
    assert_eq!((made.path.as_str(), made.size_bytes, made.port), ("/sy-share-1", 320 * MB, node.nfs_port));
    assert_eq!(file.share_ensure(&share("share-1", 320 * MB, &["127.0.0.1"])).await.unwrap().path, made.path);
    let to = format!("nfs://127.0.0.1/sy-share-1/hello.txt?version=4&nfsport={}", node.nfs_port);
    let copied = output("nfs-cp", &[local.to_str().unwrap(), &to]);
    assert!(copied.status.success(), "{}", copied.text);
    assert!(list("/sy-share-1").text.contains("hello.txt"));

    // Snapshot, and back.
    let snapshots = driver.snapshots().unwrap();
    snapshots.snapshot_create(SnapshotOf::Share, "share-1", "daily").await.unwrap();
    let second = to.replace("hello.txt?", "later.txt?");
    assert!(output("nfs-cp", &[local.to_str().unwrap(), &second]).status.success());
    assert!(list("/sy-share-1").text.contains("later.txt"));
    snapshots.snapshot_restore(SnapshotOf::Share, "share-1", "daily").await.unwrap();
    let after = list("/sy-share-1");
    assert!(after.text.contains("hello.txt") && !after.text.contains("later.txt"), "{}", after.text);

    // It grows, and only its clients may use it.
    let grown = file.share_ensure(&share("share-1", 400 * MB, &["127.0.0.1", "10.9.9.9"])).await.unwrap();
    assert_eq!(grown.size_bytes, 400 * MB);
    let room = output("df", &["-BM", "--output=size", node.home.join("shares/sy-share-1").to_str().unwrap()]);
    let room: u64 = room.text.lines().last().unwrap().trim().trim_end_matches('M').parse().unwrap();
    assert!(room > 320, "{room} MB");
    assert!(matches!(file.share_ensure(&share("share-1", 320 * MB, &[])).await, Err(StorageError::Shrink { .. })));
    assert!(list("/sy-share-1").text.contains("hello.txt"));
    file.share_ensure(&share("share-1", 400 * MB, &["10.9.9.9"])).await.unwrap();
    assert!(!list("/sy-share-1").status.success(), "no client any more");
    file.share_ensure(&share("share-2", 300 * MB, &["127.0.0.1"])).await.unwrap();
    assert!(list("/sy-share-2").status.success());

    for key in ["share-1", "share-1", "share-2"] {
        file.share_delete(key).await.unwrap();
    }
    assert!(!list("/sy-share-2").status.success());
    assert!(!node.pool.join("volumes/sy-share-1.img").exists());
    assert_eq!(std::fs::read_to_string(node.home.join("fstab")).unwrap(), "");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_of_a_real_node() {
    let Some(node) = Node::start(&["weed", "curl"], "S3 buckets").await else { return };
    let driver = node.driver();
    assert!(port_answers(node.s3_port).await);
    assert!(driver.facts().await.unwrap().technologies.contains(&Technology::Object));
    let object = driver.object().unwrap();
    let spec = |access: &str, secret: &str, size_bytes: u64| BucketSpec {
        key: "bucket-1".into(),
        name: "pictures".into(),
        size_bytes,
        access_key: access.into(),
        secret_key: Clear(secret.into()),
    };
    let put = |access: &str, secret: &str, method: &str| {
        let url = format!("http://127.0.0.1:{}/sy-bucket-1/hello.txt", node.s3_port);
        let login = format!("{access}:{secret}");
        let mut args = vec![
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--aws-sigv4",
            "aws:amz:us-east-1:s3",
            "--user",
            &login,
        ];
        match method {
            "PUT" => args.extend(["-X", "PUT", "-d", "hello", "-H", HELLO, &url]),
            _ => args.extend([url.as_str()]),
        }
        output("curl", &args).text
    };
    let made = object.bucket_ensure(&spec("AKONE", "secretone1", 8 * MB)).await.unwrap();
    assert_eq!((made.state.bucket.as_str(), made.state.size_bytes), ("sy-bucket-1", 8 * MB));
    object.bucket_ensure(&spec("AKONE", "secretone1", 8 * MB)).await.unwrap();
    eventually(|| put("AKONE", "secretone1", "PUT") == "200").await;
    assert_eq!(put("AKONE", "secretone1", "GET"), "200");
    assert_eq!(put("AKONE", "wrong", "GET"), "403");
    // Another key, and the first one is worth nothing.
    object.bucket_ensure(&spec("AKTWO", "secrettwo2", 16 * MB)).await.unwrap();
    eventually(|| put("AKTWO", "secrettwo2", "GET") == "200").await;
    assert_eq!(put("AKONE", "secretone1", "GET"), "403");
    assert!(matches!(object.bucket_ensure(&spec("AKTWO", "secrettwo2", MB)).await, Err(StorageError::Shrink { .. })));
    object.bucket_delete("bucket-1", None).await.unwrap();
    object.bucket_delete("bucket-1", None).await.unwrap();
    assert_ne!(put("AKTWO", "secrettwo2", "GET"), "200");
    node.stop().await;
}

/// The S3 gateway hears of changes within moments.
async fn eventually(mut holds: impl FnMut() -> bool) {
    for _ in 0..50 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    panic!("not in time");
}
