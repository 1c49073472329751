//! The HTTP services over their router.

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Body,
    http::{Request, StatusCode, header},
};
use http_body_util::BodyExt;
use model::{
    agent::{IscsiVolume, TaskKind},
    boot::{BootSession, InstallSpec},
    secret::Sealed,
    snapshot::{Fact, SiteServer},
    template::{ImageRef, OsInstall},
};
use netboot::{
    http::{HttpConfig, HttpState, Peer, agent_router, router},
    memory::{Event, MemorySite},
};
use serde_json::{Value, json};
use tower::ServiceExt;

const MAC: &str = "52:54:00:00:00:01";
const SCRIPT: &str = "/boot/52-54-00-00-00-01/script.ipxe";

fn token(c: char) -> String {
    c.to_string().repeat(64)
}

fn sha() -> String {
    "ab".repeat(32)
}

fn server(in_use: bool) -> Fact {
    Fact::Server(SiteServer {
        id: 1,
        name: "s1".into(),
        bmc: None,
        macs: vec![MAC.into()],
        in_use,
        ..SiteServer::default()
    })
}

fn session(task: TaskKind, user_data: Option<&str>) -> BootSession {
    let image = ImageRef { sha256: sha(), size: 10, format: "raw".into(), url: None };
    let install = InstallSpec {
        instance_id: 7,
        hostname: "web-1".into(),
        os: OsInstall {
            template_id: 1,
            name: "Debian 12".into(),
            os_name: "Debian".into(),
            os_version: "12".into(),
            image,
            user_data: user_data.map(Into::into),
            meta_data: None,
            method: Default::default(),
            files: Default::default(),
            ready: Default::default(),
            erase: Default::default(),
            local_disk_only: false,
        },
        username: "admin".into(),
        password: Sealed("x".into()),
        ssh_keys: vec!["ssh-ed25519 AAAA me".into()],
        network_config: json!({"version": 2, "ethernets": {}}),
        variables: json!({"motd": "hi", "hostname": "forged", "secrets": "forged"}).as_object().unwrap().clone(),
        secrets: [("db".to_owned(), Sealed("hunter2".into()))].into(),
        storage: model::storage::InstanceStorage::default(),
    };
    BootSession {
        job_id: 5,
        server_id: 1,
        macs: vec![MAC.into()],
        task,
        install: (task == TaskKind::Install).then_some(install),
        clean: None,
        token: token('a'),
    }
}

struct Site {
    memory: Arc<MemorySite>,
    router: Router,
    /// What a machine with a certificate reaches.
    agent: Router,
    _dir: tempfile::TempDir,
}

impl Site {
    fn new(facts: Vec<Fact>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (boot, images) = (dir.path().join("boot"), dir.path().join("images"));
        std::fs::create_dir_all(boot.join("agent")).unwrap();
        std::fs::create_dir_all(&images).unwrap();
        std::fs::write(boot.join("ipxe.efi"), "efi").unwrap();
        std::fs::write(boot.join("agent/initrd"), "initrd").unwrap();
        std::fs::write(images.join(sha()), "0123456789").unwrap();
        let memory = Arc::new(MemorySite::new(facts));
        let config = HttpConfig {
            http_base: "http://site:8090".into(),
            agent_base: "https://site:8491".into(),
            agent_pin: "cd".repeat(32),
            boot_dir: boot,
            images_dir: images,
            kernel_arguments: "console=ttyS0\nchain evil".into(),
        };
        let state = HttpState { config: Arc::new(config), directory: memory.clone(), events: memory.clone() };
        let agent = agent_router(state.clone()).layer(Extension(Peer("machine".into())));
        Self { memory, router: router(state), agent, _dir: dir }
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, axum::http::HeaderMap, String) {
        let agent = ["/agent/", "/seed/"].iter().any(|p| request.uri().path().starts_with(p));
        let router = if agent { &self.agent } else { &self.router };
        let response = router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, String::from_utf8(bytes.to_vec()).unwrap())
    }

    async fn get(
        &self,
        path: &str,
        headers: &[(header::HeaderName, &str)],
    ) -> (StatusCode, axum::http::HeaderMap, String) {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    async fn post(&self, path: &str, token: &str, body: &str) -> (StatusCode, String) {
        let request = Request::post(path).header(header::AUTHORIZATION, format!("Bearer {token}"));
        let (status, _, text) = self.send(request.body(Body::from(body.to_owned())).unwrap()).await;
        (status, text)
    }
}

#[tokio::test]
async fn a_known_server_without_a_session_boots_its_disk_whatever_happens() {
    for in_use in [true, false] {
        let site = Site::new(vec![server(in_use)]);
        site.memory.allow_discovery(token('d'));
        let mut other = session(TaskKind::Install, None);
        other.macs = vec!["52:54:00:00:00:02".into()];
        site.memory.add_session(other);
        for path in [SCRIPT, "/boot/52:54:00:00:00:01/script.ipxe"] {
            let (status, headers, text) = site.get(path, &[]).await;
            assert_eq!(status, StatusCode::OK);
            assert_eq!(headers[header::CONTENT_TYPE], "text/plain");
            assert_eq!(text, "#!ipxe\nsanboot --no-describe --drive 0x80 || exit 0\n");
        }
        site.memory.set_broken(true);
        let (status, headers, text) = site.get(SCRIPT, &[]).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(headers.contains_key(header::RETRY_AFTER) && !text.contains("kernel"));
    }
}

#[tokio::test]
async fn scripts_by_session() {
    let site = Site::new(vec![server(true)]);
    let unknown = "/boot/52-54-00-00-00-09/script.ipxe";
    assert!(site.get(unknown, &[]).await.2.contains("sanboot"), "discovery is off");
    site.memory.allow_discovery(token('d'));
    let text = site.get(unknown, &[]).await.2;
    assert!(text.contains(&format!("steelyard.token={} steelyard.mac=52-54-00-00-00-09", token('d'))));
    site.memory.add_session(session(TaskKind::Install, None));
    let text = site.get(SCRIPT, &[]).await.2;
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert_eq!(lines[0], "#!ipxe");
    assert!(lines[1].starts_with(
        "kernel http://site:8090/boot/agent/vmlinuz initrd=initrd.img steelyard.url=https://site:8491 steelyard.pin=cdcd"
    ));
    assert_eq!(lines[2..], ["initrd http://site:8090/boot/agent/initrd.img", "boot"]);
    assert_eq!(site.get("/boot/zz/script.ipxe", &[]).await.0, StatusCode::BAD_REQUEST);
    let mut tokenless = session(TaskKind::Clean, None);
    (tokenless.token, tokenless.macs) = (String::new(), vec!["52:54:00:00:00:07".into()]);
    site.memory.add_session(tokenless);
    let status = site.get("/boot/52-54-00-00-00-07/script.ipxe", &[]).await.0;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn files_and_ranges() {
    let site = Site::new(vec![]);
    assert_eq!(site.get("/boot/ipxe.efi", &[]).await.2, "efi");
    assert_eq!(site.get("/boot/agent/initrd.img", &[]).await.2, "initrd");
    for missing in
        ["/boot/none", "/boot/..%2fimages", "/boot/agent/..%2fipxe.efi", "/images/abc", "/images/..%2f..%2fx"]
    {
        assert_eq!(site.get(missing, &[]).await.0, StatusCode::NOT_FOUND, "{missing}");
    }
    let (path, tag) = (format!("/images/{}", sha()), format!("\"{}\"", sha()));
    let (status, headers, text) = site.get(&path, &[]).await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, "0123456789"));
    assert_eq!(headers[header::ETAG], tag);
    assert_eq!(headers[header::CONTENT_LENGTH], "10");
    for (range, if_range, status, content_range, body) in [
        ("bytes=2-4", None, 206, Some("bytes 2-4/10"), "234"),
        ("bytes=7-", Some(tag.as_str()), 206, Some("bytes 7-9/10"), "789"),
        ("bytes=-2", None, 206, Some("bytes 8-9/10"), "89"),
        ("bytes=7-", Some("\"other\""), 200, None, "0123456789"),
        ("bytes=10-", None, 416, Some("bytes */10"), ""),
        ("rubbish", None, 200, None, "0123456789"),
    ] {
        let mut headers = vec![(header::RANGE, range)];
        headers.extend(if_range.map(|t| (header::IF_RANGE, t)));
        let (got, headers, text) = site.get(&path, &headers).await;
        assert_eq!((got.as_u16(), text.as_str()), (status, body), "{range}");
        assert_eq!(headers.get(header::CONTENT_RANGE).map(|v| v.to_str().unwrap()), content_range, "{range}");
    }
    assert_eq!(site.get(&path, &[(header::IF_NONE_MATCH, &tag)]).await.0, StatusCode::NOT_MODIFIED);
    let head = Request::head(&path).body(Body::empty()).unwrap();
    let (status, headers, text) = site.send(head).await;
    assert_eq!((status, text.as_str(), &headers[header::CONTENT_LENGTH]), (StatusCode::OK, "", &"10".parse().unwrap()));
}

#[tokio::test]
async fn an_agent_installs_and_its_token_dies() {
    let site = Site::new(vec![server(false)]);
    site.memory.add_session(session(TaskKind::Install, None));
    let good = format!("Bearer {}", token('a'));
    for bad in ["", "Bearer", "Basic x", "Bearer abc", &format!("Bearer {}", token('b')), &format!("{good}0")] {
        let (status, headers, _) = site.get("/agent/v1/task", &[(header::AUTHORIZATION, bad)]).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{bad:?}");
        assert!(headers.contains_key(header::WWW_AUTHENTICATE));
    }
    let text = site.get("/agent/v1/task", &[(header::AUTHORIZATION, &good)]).await.2;
    let task: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(task["task"], "install");
    let kinds: Vec<_> = task["steps"].as_array().unwrap().iter().map(|s| s["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["inventory", "wipe", "write_image", "seed", "bootloader", "finish"]);
    assert_eq!(task["steps"][2]["url"], format!("http://site:8090/images/{}", sha()));

    let a = token('a');
    let progress = r#"{"step": 1, "percent": 42, "message": "writing image"}"#;
    assert_eq!(site.post("/agent/v1/progress", &a, progress).await.0, StatusCode::NO_CONTENT);
    assert_eq!(site.post("/agent/v1/progress", &a, r#"{"step":1,"percent":101}"#).await.0, StatusCode::BAD_REQUEST);
    let (status, words) = site.post("/agent/v1/progress", &a, r#"{"percent":1}"#).await;
    assert!(status == StatusCode::BAD_REQUEST && words.contains("step"), "{words}");
    let (status, _) = site.post("/agent/v1/inventory", &a, &"x".repeat(2_000_000)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);

    let seed = |file: &str| format!("/seed/{}/{file}", token('a'));
    let user_data = site.get(&seed("user-data"), &[]).await.2;
    for part in ["#cloud-config\n", "hostname: \"web-1\"", "$6$salt$hash", "ssh-ed25519 AAAA me", "/phone-home/aaaa"] {
        assert!(user_data.contains(part), "{part} in {user_data}");
    }
    assert!(site.get(&seed("meta-data"), &[]).await.2.contains("instance-id: \"steelyard-7-5\"\n"));
    let network: Value = serde_json::from_str(&site.get(&seed("network-config"), &[]).await.2).unwrap();
    assert_eq!(network["version"], 2);
    assert_eq!(
        site.get(&seed("vendor-data"), &[]).await,
        (StatusCode::OK, site.get(&seed("vendor-data"), &[]).await.1, String::new())
    );
    assert_eq!(site.get(&seed("other"), &[]).await.0, StatusCode::NOT_FOUND);

    for _ in 0..2 {
        // The report may be repeated: its answer can get lost.
        let (status, text) = site.post("/agent/v1/done", &a, r#"{"ok": true, "error": null}"#).await;
        assert_eq!((status, text.as_str()), (StatusCode::OK, r#"{"next":"reboot"}"#));
    }
    assert_eq!(site.get("/agent/v1/task", &[(header::AUTHORIZATION, &good)]).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(site.get(&seed("user-data"), &[]).await.0, StatusCode::UNAUTHORIZED);
    assert!(site.get(SCRIPT, &[]).await.2.contains("sanboot"), "the session is over");
    let home = format!("/phone-home/{}", token('a'));
    assert_eq!(site.post(&home, "", "hostname=web-1&x=%20y").await.0, StatusCode::NO_CONTENT);
    assert_eq!(site.post(&home, "", "").await.0, StatusCode::NO_CONTENT);
    assert_eq!(site.post(&format!("/phone-home/{}", token('b')), "", "").await.0, StatusCode::UNAUTHORIZED);
    let events: Vec<_> = site.memory.events().into_iter().filter(|e| !matches!(e, Event::SeedRead(..))).collect();
    assert!(matches!(&events[0], Event::Progress(5, p) if p.percent == 42));
    assert!(matches!(&events[3], Event::PhoneHome(5, form) if form["hostname"] == "web-1" && form["x"] == " y"));
}

#[tokio::test]
async fn templates() {
    for (text, status, expected) in [
        ("{{ motd }} {{ hostname }} {{ variables.motd }}", 200, "hi web-1 hi\n"),
        ("{{ nothing|default('x') }}", 200, "x\n"),
        ("{{ secrets.db }}", 200, "hunter2\n"),
        ("{{ secrets.mail }}", 500, "not defined"),
        (
            "autoinstall:\n  version: 1\n  keys: {{ ssh_keys|tojson }}",
            200,
            "autoinstall:\n  version: 1\n  keys: [\"ssh-ed25519 AAAA me\"]\n",
        ),
        ("a\n{{ nothing }}", 500, "not defined in line 2: nothing"),
        ("{% if %}", 500, "user-data of OS template \"Debian 12\""),
        ("{% for a in range(10000) %}{% for b in range(10000) %}{{ b }}{% endfor %}{% endfor %}", 500, "fuel"),
    ] {
        let site = Site::new(vec![]);
        site.memory.add_session(session(TaskKind::Install, Some(text)));
        let (got, _, body) = site.get(&format!("/seed/{}/user-data", token('a')), &[]).await;
        assert_eq!(got.as_u16(), status, "{text}: {body}");
        assert!(body.contains(expected), "{text}: {body}");
    }
}

proptest::proptest! {
    #[test]
    fn any_mac_is_a_script_or_a_refusal(mac in "[-:0-9a-fA-F%]{0,20}") {
        let site = Site::new(vec![server(true)]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let uri = format!("/boot/{mac}/script.ipxe");
        if uri.parse::<axum::http::Uri>().is_ok() {
            let (status, _, text) = runtime.block_on(site.get(&uri, &[]));
            assert!(!text.contains("kernel") && (status.as_u16() < 300 || status.is_client_error()));
        }
    }
}

fn volume() -> IscsiVolume {
    IscsiVolume {
        initiator: "iqn.2026-01.io.steelyard:instance-7".into(),
        target: "iqn.2026-01.io.steelyard:sy-drive-3-7".into(),
        lun: 1,
        portals: vec![("10.9.0.1".into(), 3260)],
        chap: Some(("instance-7".into(), "abcdef0123456789".into())),
        wwn: None,
    }
}

#[tokio::test]
async fn an_instance_on_a_volume_boots_that_and_never_a_disk() {
    let san = json!({"storage_id": 1, "key": "drive-3-7", "initiator_iqn": "iqn.2026-01.io.steelyard:instance-7"});
    let Fact::Server(server) = server(true) else { unreachable!() };
    let site = Site::new(vec![Fact::Server(SiteServer { san: Some(serde_json::from_value(san).unwrap()), ..server })]);
    // Nobody knows the way yet: it asks again.
    let (status, _, text) = site.get(SCRIPT, &[]).await;
    assert_eq!(status, StatusCode::OK);
    let again = "chain --replace http://site:8090/boot/52-54-00-00-00-01/script.ipxe";
    assert!(text.contains(again) && text.contains("sleep 15") && !text.contains("sanboot"), "{text}");
    site.memory.set_volume(volume());
    let (_, headers, text) = site.get(SCRIPT, &[]).await;
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    assert!(text.contains("sanboot iscsi:10.9.0.1::3260:1:iqn.2026-01.io.steelyard:sy-drive-3-7 || "), "{text}");
    assert!(text.contains("set initiator-iqn iqn.2026-01.io.steelyard:instance-7\n") && text.contains(again), "{text}");
    assert!(!text.contains("0x80"), "{text}");
    // A store out of order is an error, as always.
    site.memory.set_broken(true);
    assert!(site.get(SCRIPT, &[]).await.0.is_server_error());
}

#[tokio::test]
async fn an_installation_on_a_volume_waits_for_it_and_leaves_disks_alone() {
    let site = Site::new(vec![server(false)]);
    let mut wanted = session(TaskKind::Install, None);
    let install = wanted.install.as_mut().unwrap();
    install.storage = serde_json::from_value(json!({
        "initiator_iqn": "iqn.2026-01.io.steelyard:instance-7",
        "targets": [{"storage_id": 1, "protocol": "iscsi", "volumes": ["drive-3-7"], "boot_volume": "drive-3-7"}],
    }))
    .unwrap();
    install.os.erase = Some(model::template::Erase::First);
    site.memory.add_session(wanted.clone());
    let (_, _, text) = site.get(SCRIPT, &[]).await;
    assert!(text.contains("initrd=iscsi.img initrd=initrd.img"), "{text}");
    assert!(text.contains("/boot/agent/initrd.img\ninitrd http://site:8090/boot/agent/iscsi.img\nboot\n"), "{text}");
    let bearer = format!("Bearer {}", token('a'));
    let ask = async || {
        let (status, _, text) = site.get("/agent/v1/task", &[(header::AUTHORIZATION, &bearer)]).await;
        assert_eq!(status, StatusCode::OK);
        serde_json::from_str::<Value>(&text).unwrap()
    };
    assert_eq!(ask().await["task"], "wait", "without the volume nothing is written anywhere");
    site.memory.set_volume(volume());
    let task = ask().await;
    let kinds: Vec<&str> = task["steps"].as_array().unwrap().iter().map(|s| s["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["inventory", "attach", "wipe", "write_image", "seed", "bootloader", "finish"]);
    assert_eq!((&task["steps"][2]["disks"], &task["steps"][3]["disk"]), (&json!("volume"), &json!("volume")));
    assert_eq!(task["steps"][1]["volume"]["chap"], json!(["instance-7", "abcdef0123456789"]));
    // A system that is kept gets a new seed and nothing else.
    wanted.install.as_mut().unwrap().storage.keep_system = true;
    let steps = serde_json::to_value(netboot::http::task(&wanted, "h", "a", Some(&volume())).steps).unwrap();
    let kinds: Vec<&str> = steps.as_array().unwrap().iter().map(|s| s["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["inventory", "attach", "seed", "finish"]);
    assert_eq!(steps[2]["disk"], "volume");
}
