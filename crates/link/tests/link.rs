//! Both ends in one process, over real TLS on loopback: enrolment, order, resumption, snapshots, images.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed preparation is a failed test")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use crypto::{Ca, Identity, ca::SiteName};
use link::{
    NoTunnel, PER_SITE, Queue, Tunnel, Tunnels,
    client::{self, GLOBAL, Membership},
    server::{self, Enrolment, Image},
};
use model::{
    console::{ConsoleKind, Control, Frame as ConsoleFrame, OpenConsole},
    link::{Down, Hello, Up},
};
use store::Database;
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

async fn queue(dir: &std::path::Path, name: &str) -> (Database, Queue) {
    let db = Database::open(&format!("sqlite://{}?mode=rwc", dir.join(name).display())).await.unwrap();
    db.migrate("link", link::MIGRATIONS).await.unwrap();
    (db.clone(), Queue::new(db))
}

struct TestGlobal {
    ca: Ca,
    heard: Mutex<Vec<String>>,
    connected: Mutex<Vec<bool>>,
    /// Newest generation of the snapshot.
    generation: AtomicI64,
    /// Refuses to handle messages.
    ill: AtomicBool,
    revoked: AtomicBool,
    tunnels: Tunnels,
}

fn title(up: Up) -> String {
    match up {
        Up::Notice { title, .. } => title,
        other => format!("{other:?}"),
    }
}

#[async_trait]
impl server::Global for TestGlobal {
    async fn enrol(&self, token: &str, csr: &str, _: &str, _: &str) -> Result<Enrolment, String> {
        if token != TOKEN {
            return Err("the token is not known; make a new one".into());
        }
        let (certificate_pem, _) = self.ca.sign_site(csr, 7, 90).map_err(|e| e.to_string())?;
        Ok(Enrolment { site_id: 7, certificate_pem, sealing_key: "00".repeat(32) })
    }
    async fn renew(&self, site: &SiteName, csr: &str) -> Result<String, String> {
        Ok(self.ca.sign_site(csr, site.site_id, 90).map_err(|e| e.to_string())?.0)
    }
    async fn admit(&self, _: &SiteName) -> Result<(), String> {
        if self.revoked.load(Ordering::SeqCst) { Err("this certificate was revoked".into()) } else { Ok(()) }
    }
    async fn connected(&self, _: &SiteName, _: &Hello, is_new: bool) -> Result<(), String> {
        self.connected.lock().unwrap().push(is_new);
        Ok(())
    }
    async fn disconnected(&self, _: &SiteName) {}
    async fn message(&self, _: i64, up: Up) -> Result<(), String> {
        if self.ill.load(Ordering::SeqCst) {
            return Err("the database is away".into());
        }
        self.heard.lock().unwrap().push(title(up));
        Ok(())
    }
    async fn snapshot(&self, _: i64, generation: i64) -> Result<Option<Down>, String> {
        let newest = self.generation.load(Ordering::SeqCst);
        // One generation at a time, so that the test sees several travel.
        Ok((generation < newest).then(|| Down::Snapshot { generation: generation + 1, items: Vec::new() }))
    }
    async fn image(&self, _: i64, sha256: &str) -> Result<Image, String> {
        if sha256 == "ab" { Ok(Image::Bytes(vec![7; 600_000])) } else { Err("no such image".into()) }
    }
    fn tunnels(&self) -> Tunnels {
        self.tunnels.clone()
    }
}

#[derive(Default)]
struct TestSite {
    heard: Mutex<Vec<String>>,
    generation: AtomicI64,
    lines: Mutex<Vec<Option<String>>>,
    /// Tunnels that it holds.
    open: AtomicI64,
}

#[async_trait]
impl client::Site for TestSite {
    async fn hello(&self) -> Hello {
        Hello {
            version: "1".into(),
            hostname: "s".into(),
            address: "127.0.0.1".into(),
            snapshot_generation: self.generation.load(Ordering::SeqCst),
            capabilities: Vec::new(),
            clock: store::time::now(),
        }
    }
    async fn message(&self, down: Down) -> Result<(), String> {
        let words = match down {
            Down::Snapshot { generation, .. } => {
                self.generation.store(generation, Ordering::SeqCst);
                format!("snapshot {generation}")
            }
            Down::Orders(book) => format!("orders {}", book.description.len()),
            Down::Command(_) => "command".into(),
        };
        self.heard.lock().unwrap().push(words);
        Ok(())
    }
    async fn generation(&self) -> i64 {
        self.generation.load(Ordering::SeqCst)
    }
    async fn line(&self, broken: Option<String>) {
        self.lines.lock().unwrap().push(broken);
    }
    /// Sends back what comes.
    async fn console(&self, wanted: OpenConsole, mut tunnel: Tunnel) {
        assert_eq!(wanted, console());
        self.open.fetch_add(1, Ordering::SeqCst);
        while let Some(frame) = tunnel.incoming.recv().await {
            if tunnel.out.send(frame).await.is_err() {
                break;
            }
        }
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(tokio::time::Instant::now() < end, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn notice(title: &str) -> Up {
    Up::Notice { severity: "info".into(), title: title.into(), message: String::new() }
}

fn orders(length: usize) -> Down {
    Down::Orders(model::order::OrderBook {
        group_id: 1,
        group_type: "test".into(),
        description: "x".repeat(length),
        jobs: Vec::new(),
    })
}

async fn push(db: &Database, queue: &Queue, peer: i64, subject: Option<&str>, body: &impl serde::Serialize) {
    let txn = db.begin().await.unwrap();
    queue.push(&txn, peer, subject, body).await.unwrap();
    txn.commit().await.unwrap();
    queue.wake(peer);
}

struct Rig {
    dir: tempfile::TempDir,
    global: Arc<TestGlobal>,
    identity: Identity,
    down: (Database, Queue),
    up: (Database, Queue),
    site: Arc<TestSite>,
}

impl Rig {
    async fn new() -> Self {
        crypto::install_provider();
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(&dir.path().join("ca")).unwrap();
        let identity = ca.server(&["127.0.0.1".into(), "localhost".into()]).unwrap();
        let global = Arc::new(TestGlobal {
            ca,
            heard: Mutex::default(),
            connected: Mutex::default(),
            generation: AtomicI64::new(0),
            ill: AtomicBool::new(false),
            revoked: AtomicBool::new(false),
            tunnels: Tunnels::default(),
        });
        let down = queue(dir.path(), "global.db").await;
        let up = queue(dir.path(), "site.db").await;
        Self { dir, global, identity, down, up, site: Arc::default() }
    }

    async fn serve(&self, listen: &str) -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let stop = CancellationToken::new();
        let ca = self.global.ca.certificate_pem();
        let end = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            let (queue, global) = (self.down.1.clone(), self.global.clone());
            match server::serve(listen, ca, &self.identity, queue, global, stop.clone()).await {
                Ok((address, serving)) => return (address, stop, serving),
                Err(e) => assert!(tokio::time::Instant::now() < end, "{e}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn enrol(&self, url: &str) -> Membership {
        let word = link::enrol::word(TOKEN, self.global.ca.certificate_pem()).unwrap();
        let (token, authority) = link::enrol::parse(&word).unwrap();
        let enrolled = client::enrol(url, token, authority, "host", "1").await.unwrap();
        assert_eq!(enrolled.site_id, 7);
        enrolled.membership
    }

    fn dial(&self, membership: &Membership) -> CancellationToken {
        let stop = CancellationToken::new();
        let (m, queue, site, token) = (membership.clone(), self.up.1.clone(), self.site.clone(), stop.clone());
        tokio::spawn(async move { client::run(move || m.clone(), queue, site, token).await });
        stop
    }

    fn heard(&self) -> Vec<String> {
        self.global.heard.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn messages_survive_a_cut_line_in_order_and_once() {
    let rig = Rig::new().await;
    let (address, stop, serving) = rig.serve("127.0.0.1:0").await;
    let membership = rig.enrol(&format!("https://{address}")).await;
    push(&rig.up.0, &rig.up.1, GLOBAL, None, &notice("before")).await;
    let site = rig.dial(&membership);
    until("the first message", || rig.heard() == ["before"]).await;

    // Larger than a piece, so that it travels in several.
    push(&rig.down.0, &rig.down.1, 7, None, &orders(3 << 20)).await;
    until("large orders", || *rig.site.heard.lock().unwrap() == [format!("orders {}", 3 << 20)]).await;

    stop.cancel();
    serving.await.unwrap();
    until("a broken line", || rig.site.lines.lock().unwrap().iter().any(Option::is_some)).await;
    for (subject, text) in [(None, "one"), (Some("p"), "old news"), (None, "two"), (Some("p"), "news"), (None, "three")]
    {
        push(&rig.up.0, &rig.up.1, GLOBAL, subject, &notice(text)).await;
    }
    push(&rig.down.0, &rig.down.1, 7, None, &orders(5)).await;
    let (_, stop, _) = rig.serve(&address.to_string()).await;
    until("what was said meanwhile", || rig.heard() == ["before", "one", "two", "news", "three"]).await;
    until("orders of meanwhile", || rig.site.heard.lock().unwrap().last().unwrap() == "orders 5").await;
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while rig.up.1.waiting(GLOBAL).await.unwrap() > 0 {
        assert!(tokio::time::Instant::now() < end, "a delivered message still waits");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(*rig.global.connected.lock().unwrap(), [false, false]);
    site.cancel();
    stop.cancel();
}

#[tokio::test]
async fn what_could_not_be_handled_comes_again() {
    let rig = Rig::new().await;
    let (address, stop, _) = rig.serve("127.0.0.1:0").await;
    let membership = rig.enrol(&format!("https://{address}")).await;
    rig.global.ill.store(true, Ordering::SeqCst);
    push(&rig.up.0, &rig.up.1, GLOBAL, None, &notice("a")).await;
    push(&rig.up.0, &rig.up.1, GLOBAL, None, &notice("b")).await;
    let site = rig.dial(&membership);
    until("a refused message", || rig.site.lines.lock().unwrap().iter().any(Option::is_some)).await;
    assert!(rig.heard().is_empty());
    rig.global.ill.store(false, Ordering::SeqCst);
    until("both", || rig.heard() == ["a", "b"]).await;
    site.cancel();
    stop.cancel();
}

#[tokio::test]
async fn snapshots_arrive_before_the_orders_that_rely_on_them() {
    let rig = Rig::new().await;
    let (address, stop, _) = rig.serve("127.0.0.1:0").await;
    let membership = rig.enrol(&format!("https://{address}")).await;
    rig.global.generation.store(3, Ordering::SeqCst);
    push(&rig.down.0, &rig.down.1, 7, None, &orders(2)).await;
    let site = rig.dial(&membership);
    let expected = ["snapshot 1", "snapshot 2", "snapshot 3", "orders 2"];
    until("snapshots, then orders", || *rig.site.heard.lock().unwrap() == expected).await;
    site.cancel();
    stop.cancel();
}

#[tokio::test]
async fn a_database_that_began_anew_counts_from_the_start() {
    let mut rig = Rig::new().await;
    let (address, stop, _) = rig.serve("127.0.0.1:0").await;
    let membership = rig.enrol(&format!("https://{address}")).await;
    push(&rig.up.0, &rig.up.1, GLOBAL, None, &notice("old 1")).await;
    push(&rig.up.0, &rig.up.1, GLOBAL, None, &notice("old 2")).await;
    let site = rig.dial(&membership);
    until("the old database", || rig.heard().len() == 2).await;
    site.cancel();
    rig.up = queue(rig.dir.path(), "site-2.db").await;
    push(&rig.up.0, &rig.up.1, GLOBAL, None, &notice("new 1")).await;
    let site = rig.dial(&membership);
    until("the new database", || rig.heard().last().unwrap() == "new 1").await;
    assert_eq!(*rig.global.connected.lock().unwrap(), [false, true]);
    site.cancel();
    stop.cancel();
}

#[tokio::test]
async fn strangers_stay_outside() {
    let rig = Rig::new().await;
    let (address, stop, _) = rig.serve("127.0.0.1:0").await;
    let url = format!("https://{address}");
    let word = link::enrol::word(TOKEN, rig.global.ca.certificate_pem()).unwrap();
    let (token, authority) = link::enrol::parse(&word).unwrap();
    let refused = client::enrol(&url, &"0".repeat(64), authority, "h", "1").await.err().unwrap();
    assert!(refused.to_string().contains("token is not known"), "{refused}");
    let impostor = client::enrol(&url, token, &"0".repeat(64), "h", "1").await.err().unwrap();
    assert!(impostor.to_string().contains("not the Global Controller"), "{impostor}");

    let membership = rig.enrol(&url).await;
    let renewed = membership.renew().await.unwrap();
    assert_ne!(renewed.identity.certificate_pem, membership.identity.certificate_pem);
    let mut length = 0;
    renewed
        .fetch_image("ab", 100_000, |piece| {
            length += piece.len();
            async { Ok(()) }
        })
        .await
        .unwrap();
    assert_eq!(length, 500_000);
    let missing = renewed.fetch_image("cd", 0, |_| async { Ok(()) }).await.unwrap_err();
    assert!(missing.to_string().contains("no such image"), "{missing}");

    rig.global.revoked.store(true, Ordering::SeqCst);
    let site = rig.dial(&renewed);
    until("the refusal", || rig.site.lines.lock().unwrap().iter().flatten().any(|l| l.contains("revoked"))).await;
    site.cancel();
    stop.cancel();
}

fn console() -> OpenConsole {
    OpenConsole { server_id: 5, kind: ConsoleKind::Serial, read_only: false, take_over: false, instance_id: None }
}

async fn open_tunnel(rig: &Rig) -> Tunnel {
    until("the site's connection", || rig.global.tunnels.is_connected(7)).await;
    rig.global.tunnels.open(7, &console()).await.unwrap()
}

#[tokio::test]
async fn a_tunnel_carries_both_ways_and_ends_with_either_end() {
    let rig = Rig::new().await;
    assert_eq!(rig.global.tunnels.open(7, &console()).await.unwrap_err(), NoTunnel::Away);
    let (address, stop, serving) = rig.serve("127.0.0.1:0").await;
    let membership = rig.enrol(&format!("https://{address}")).await;
    let site = rig.dial(&membership);

    // Much, while the site sends back: nothing is lost, and neither end holds more than a little.
    let Tunnel { out, mut incoming } = open_tunnel(&rig).await;
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n * 7 % 251) as u8).collect();
    let copy = sent.clone();
    let writer = tokio::spawn(async move {
        for chunk in copy.chunks(20_000) {
            out.send(ConsoleFrame::Data(chunk.to_vec())).await.unwrap();
        }
        out.send(ConsoleFrame::Control(Control::Break)).await.unwrap();
        out
    });
    let mut came = Vec::new();
    loop {
        match incoming.recv().await.expect("the tunnel holds") {
            ConsoleFrame::Data(bytes) => came.extend(bytes),
            other => {
                assert_eq!(other, ConsoleFrame::Control(Control::Break));
                break;
            }
        }
    }
    assert!(came == sent, "all came back");
    assert_eq!(rig.global.tunnels.count(7), 1);
    // The site says that it is over, and why.
    let out = writer.await.unwrap();
    out.send(ConsoleFrame::End("enough".into())).await.unwrap();
    assert_eq!(incoming.recv().await, Some(ConsoleFrame::End("enough".into())));
    assert_eq!(incoming.recv().await, None);
    drop(incoming);
    until("the place to be free", || rig.global.tunnels.count(7) == 0).await;

    // Who asked goes: the site hears of it.
    let tunnel = open_tunnel(&rig).await;
    until("the tunnel at the site", || rig.site.open.load(Ordering::SeqCst) == 1).await;
    drop(tunnel);
    until("its end at the site", || rig.site.open.load(Ordering::SeqCst) == 0).await;

    // As many as there may be, and one more.
    let mut all = Vec::new();
    for _ in 0..PER_SITE {
        all.push(open_tunnel(&rig).await);
    }
    assert_eq!(rig.global.tunnels.open(7, &console()).await.unwrap_err(), NoTunnel::Full);
    all.truncate(1);
    until("places to be free", || rig.global.tunnels.count(7) == 1).await;

    // A cut line ends it at both ends, without a word.
    let mut tunnel = all.remove(0);
    stop.cancel();
    site.cancel();
    serving.await.unwrap();
    let last = tokio::time::timeout(Duration::from_secs(20), tunnel.incoming.recv()).await.unwrap();
    assert_eq!(last, None);
    until("no tunnel at the site", || rig.site.open.load(Ordering::SeqCst) == 0).await;
    until("the site to be away", || !rig.global.tunnels.is_connected(7)).await;
}
