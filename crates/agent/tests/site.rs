//! The agent against the site's real HTTP services, on files instead of disks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed preparation is a failed test")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};

use agent::{
    Error,
    device::Disks,
    site::Site,
    steps::{self, Machine},
};
use model::{
    agent::{Next, TaskKind},
    boot::{BootSession, InstallSpec},
};
use netboot::{
    http::{HttpConfig, HttpState, agent_router, router, serve_agents},
    memory::{Event, MemorySite},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

const MIB: usize = 1 << 20;
const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A site with its folders, and a machine with one disk.
struct Rig {
    folder: tempfile::TempDir,
    memory: Arc<MemorySite>,
    base: String,
    /// Of the agent's own interface: URL and digest of the certificate.
    secure: (String, String),
    _runtime: tokio::runtime::Runtime,
}

/// A disk image of 2 MiB with one Linux partition in a table of the old kind.
fn image() -> Vec<u8> {
    let mut image: Vec<u8> = (0..2 * MIB).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    image[..512].fill(0);
    image[446] = 0x80;
    image[450] = 0x83;
    image[454..458].copy_from_slice(&64u32.to_le_bytes());
    image[458..462].copy_from_slice(&2048u32.to_le_bytes());
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    image
}

impl Rig {
    fn new(disk: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["boot", "images", "disks", "root"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        // What was there before.
        std::fs::write(folder.path().join("disks/sda"), vec![0xee; disk]).unwrap();
        let memory = Arc::new(MemorySite::default());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let agents = TcpListener::bind("127.0.0.1:0").unwrap();
        let identity = crypto::Identity::self_signed("site").unwrap();
        let pin = crypto::tls::fingerprint(&identity.certificate_pem).unwrap();
        let secure = (format!("https://{}", agents.local_addr().unwrap()), pin);
        let state = HttpState {
            config: Arc::new(HttpConfig {
                http_base: base.clone(),
                agent_base: secure.0.clone(),
                agent_pin: secure.1.clone(),
                boot_dir: folder.path().join("boot"),
                images_dir: folder.path().join("images"),
                kernel_arguments: String::new(),
            }),
            directory: memory.clone(),
            events: memory.clone(),
        };
        let agent = agent_router(state.clone());
        runtime.spawn(async move { serve_agents(agents, &identity, agent, CancellationToken::new()).await });
        runtime.spawn(async move { axum::serve(listener, router(state)).await });
        Self { folder, memory, base, secure, _runtime: runtime }
    }

    fn disk(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("disks/sda")).unwrap()
    }

    /// A session for this image; `claimed` is the digest that the template says.
    fn install(&self, file: &[u8], format: &str, claimed: Option<&str>) {
        let sha256 = claimed.map_or_else(|| hex::encode(Sha256::digest(file)), str::to_owned);
        std::fs::write(self.folder.path().join("images").join(&sha256), file).unwrap();
        // As it comes over the wire: what is not said here is left to its default.
        let install: InstallSpec = serde_json::from_value(json!({
            "instance_id": 7, "hostname": "web-1", "username": "lab", "password": "x", "ssh_keys": ["ssh-ed25519 AAAA somebody"],
            "network_config": {"version": 2, "ethernets": {"nic0": {"addresses": ["192.0.2.7/24"]}}},
            "os": {
                "template_id": 1, "name": "Linux", "os_name": "Linux", "os_version": "1",
                "image": {"sha256": sha256, "size": file.len(), "format": format},
            },
        }))
        .unwrap();
        self.session(TaskKind::Install, Some(install));
    }

    fn session(&self, task: TaskKind, install: Option<InstallSpec>) {
        let session: BootSession = serde_json::from_value(json!({
            "job_id": 5, "server_id": 1, "macs": ["52:54:00:00:00:01"], "task": task, "install": install, "token": TOKEN,
        }))
        .unwrap();
        self.memory.add_session(session);
    }

    fn run(&self) -> agent::Result<Next> {
        let site = Site::new(&self.secure.0, &self.secure.1, TOKEN, Duration::from_secs(20)).unwrap();
        let folder = self.folder.path();
        let machine =
            Machine { disks: Disks::Folder(folder.join("disks")), root: folder.join("root"), listen: Duration::ZERO };
        steps::run(&site, &machine)
    }

    /// What the agent said at the end.
    fn end(&self) -> (bool, String) {
        let events = self.memory.events();
        let done = events.iter().find_map(|e| if let Event::Done(5, done) = e { Some(done.clone()) } else { None });
        let done = done.unwrap_or_else(|| panic!("no end in {events:?}"));
        (done.ok, done.error.unwrap_or_default())
    }
}

fn holds(disk: &[u8], words: &str) -> bool {
    disk.windows(words.len()).any(|w| w == words.as_bytes())
}

fn installed(rig: &Rig, image: &[u8]) {
    assert!(matches!(rig.run(), Ok(Next::Reboot)));
    assert_eq!(rig.end(), (true, String::new()));
    let disk = rig.disk();
    assert!(disk[512..image.len()] == image[512..], "what was written is the image");
    // Its partition ends where that of the seed begins, at the end of the disk.
    let field = |at: usize| u32::from_le_bytes(disk[at..at + 4].try_into().unwrap()) as usize;
    let (start, length, seed) = (field(454), field(458), field(470));
    assert_eq!(start, 64);
    assert!(length > 2048 && start + length == seed && seed < disk.len() / 512, "{start} {length} {seed}");
    assert_eq!(&disk[seed * 512 + 43..seed * 512 + 49], b"CIDATA");
    let volume = &disk[seed * 512..];
    for words in ["hostname: \"web-1\"", "ssh-ed25519 AAAA somebody", "$6$salt$hash", "192.0.2.7/24", "/phone-home/"] {
        assert!(holds(volume, words), "{words}");
    }
    let events = rig.memory.events();
    assert!(events.iter().any(|e| matches!(e, Event::Inventory(5, _))));
    assert!(events.iter().any(|e| matches!(e, Event::Progress(5, p) if p.percent > 20)));
    // The session is over: its token opens nothing any more.
    assert!(matches!(rig.run(), Err(Error::Dead)));
}

#[test]
fn an_image_is_written_grown_and_seeded() {
    let rig = Rig::new(16 * MIB);
    rig.install(&image(), "raw", None);
    installed(&rig, &image());
}

#[test]
fn a_compressed_image_is_written_too() {
    let rig = Rig::new(16 * MIB);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&image()).unwrap();
    rig.install(&packed.finish().unwrap(), "raw.gz", None);
    installed(&rig, &image());
}

#[test]
fn another_image_than_was_promised_is_a_failure_in_words() {
    let rig = Rig::new(16 * MIB);
    rig.install(&image(), "raw", Some(&"ab".repeat(32)));
    assert!(rig.run().is_ok());
    let (ok, error) = rig.end();
    assert!(!ok && error.contains("SHA-256"), "{error}");
}

#[test]
fn a_disk_that_is_too_small_is_a_failure_in_words() {
    let rig = Rig::new(MIB);
    rig.install(&image(), "raw", None);
    assert!(rig.run().is_ok());
    let (ok, error) = rig.end();
    assert!(!ok && error.contains("sda") && error.contains("needs 2 MiB"), "{error}");
}

#[test]
fn cleaning_leaves_nothing() {
    let rig = Rig::new(3 * MIB);
    rig.session(TaskKind::Clean, None);
    assert!(matches!(rig.run(), Ok(Next::PowerOff)));
    assert_eq!(rig.end(), (true, String::new()));
    assert!(rig.disk().iter().all(|b| *b == 0));
}

#[test]
fn a_boot_belongs_to_the_first_machine_that_comes_with_its_token() {
    let rig = Rig::new(MIB);
    rig.session(TaskKind::Clean, None);
    let machine = || Site::new(&rig.secure.0, &rig.secure.1, TOKEN, Duration::from_secs(20)).unwrap();
    let (first, second) = (machine(), machine());
    first.task().unwrap();
    assert!(matches!(second.task(), Err(Error::Dead)), "somebody who has read the token off the wire");
    first.task().unwrap();
    // The machine starts anew: it asks for the boot script, and has another key.
    let mut script = TcpStream::connect(rig.base.trim_start_matches("http://")).unwrap();
    script.write_all(b"GET /boot/52-54-00-00-00-01/script.ipxe HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    script.read_to_string(&mut text).unwrap();
    assert!(text.contains(&format!("steelyard.url={} steelyard.pin={}", rig.secure.0, rig.secure.1)), "{text}");
    second.task().unwrap();
    assert!(matches!(first.task(), Err(Error::Dead)));
    let stranger = Site::new(&rig.secure.0, &"ab".repeat(32), TOKEN, Duration::from_secs(1)).unwrap();
    assert!(matches!(stranger.task(), Err(Error::Failed(why)) if why.contains("another certificate")), "another site");
}

#[test]
fn a_machine_without_a_disk_says_so() {
    let rig = Rig::new(MIB);
    std::fs::remove_file(rig.folder.path().join("disks/sda")).unwrap();
    rig.session(TaskKind::Clean, None);
    assert!(rig.run().is_ok());
    let (ok, error) = rig.end();
    assert!(!ok && error.contains("no disk"), "{error}");
}

/// Between agent and site: the first `cuts` long answers break off after nine tenths of the image.
fn cutting(to: SocketAddr, cuts: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let left = Arc::new(AtomicUsize::new(cuts));
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (server, left) = (TcpStream::connect(to).unwrap(), left.clone());
            let (mut up, mut down) = ((client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client));
            std::thread::spawn(move || _ = std::io::copy(&mut up.0, &mut up.1));
            std::thread::spawn(move || {
                let (mut buffer, mut passed) = (vec![0; 64 * 1024], 0);
                while let Ok(n @ 1..) = down.0.read(&mut buffer) {
                    passed += n;
                    let cut = passed > 2 * MIB * 9 / 10
                        && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |l| l.checked_sub(1)).is_ok();
                    if cut || down.1.write_all(&buffer[..n]).is_err() {
                        break;
                    }
                }
                let _ = down.1.shutdown(std::net::Shutdown::Both);
                let _ = down.0.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    at
}

#[test]
fn a_cut_at_nine_tenths_is_mended() {
    let rig = Rig::new(16 * MIB);
    rig.install(&image(), "raw", None);
    let way: SocketAddr = rig.base.trim_start_matches("http://").parse().unwrap();
    let cut = cutting(way, 2);
    let site = Site::new(&rig.secure.0, &rig.secure.1, TOKEN, Duration::from_secs(20)).unwrap();
    let task = site.task().unwrap();
    assert_eq!(task.task, TaskKind::Install);
    let sha256 = hex::encode(Sha256::digest(image()));
    let disk = agent::device::Device::open("sda", &rig.folder.path().join("disks/sda")).unwrap();
    let url = format!("http://{cut}/images/{sha256}");
    let wanted = agent::image::Image { url: &url, sha256: &sha256, format: "raw", size: image().len() as u64 };
    agent::image::write(&site, &wanted, &disk, &mut agent::site::Reporter::new(&site, 1, 0, 100)).unwrap();
    assert!(written(&rig.folder.path().join("disks/sda"), &image()));
}

fn written(disk: &Path, image: &[u8]) -> bool {
    std::fs::read(disk).unwrap()[..image.len()] == *image
}
