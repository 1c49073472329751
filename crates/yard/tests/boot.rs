//! Servers that boot from a site written in this test: discover, install, operating system, VLANs, faults.

// Helpers of tests may panic as tests do.
#![allow(clippy::unwrap_used, clippy::panic)]

mod site;

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use serde_json::{Value, json};
use site::Site;
use yard::{BootMode, Yard, YardConfig, dataplane, server::Stage};

/// Loopback addresses of one test: tests run at the same time.
fn config(block: u8, site: &Site) -> YardConfig {
    YardConfig {
        servers: 3,
        bmc_base: Ipv4Addr::new(127, 132, block, 1),
        bmc_port: 0,
        switch_base: Ipv4Addr::new(127, 131, block, 1),
        nvue_port: 0,
        relay_base: Ipv4Addr::new(127, 130, block, 1),
        dhcp_server: site.dhcp.to_string().parse().unwrap(),
        tftp_port: site.tftp,
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        boot_modes: vec![BootMode::PxeUefi, BootMode::HttpUefi, BootMode::BiosPxe],
        post_seconds: 0.02,
        os_boot_seconds: 0.02,
        dhcp_timeout_seconds: 0.15,
        boot_retry_seconds: 0.05,
        switch_apply_seconds: 0.02,
        bmc_reset_seconds: 0.3,
        ..YardConfig::default()
    }
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let limit = tokio::time::Instant::now() + Duration::from_secs(40);
    while !condition().await {
        assert!(tokio::time::Instant::now() < limit, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn stage(yard: &Yard, index: usize, wanted: Stage) {
    let server = yard.world().servers[index].clone();
    until(&format!("server {index} {wanted:?}"), async || {
        let (stage, log) = server.with(|state| (state.stage, state.log.clone()));
        let stuck = stage != wanted && matches!(stage, Stage::Stopped | Stage::NoBootDevice);
        assert!(!stuck, "{stage:?}: {log:#?}");
        stage == wanted
    })
    .await;
}

fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build().unwrap()
}

fn bmc(yard: &Yard, index: usize) -> (String, String) {
    let server = &yard.world().servers[index];
    let base = format!("https://{}:{}", server.spec.bmc, server.bmc_port.get().unwrap());
    (base, format!("/redfish/v1/Systems/{}", server.spec.model.vendor.system_id()))
}

async fn reset(yard: &Yard, index: usize, kind: &str) -> u16 {
    let (base, system) = bmc(yard, index);
    let url = format!("{base}{system}/Actions/ComputerSystem.Reset");
    let request = client().post(url).basic_auth("root", Some("calvin-yard")).json(&json!({"ResetType": kind}));
    request.send().await.unwrap().status().as_u16()
}

async fn boot_once(yard: &Yard, index: usize, target: &str) -> Value {
    let (base, system) = bmc(yard, index);
    let body = json!({"Boot": {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": target}});
    let client = client();
    let answer = client
        .patch(format!("{base}{system}"))
        .basic_auth("root", Some("calvin-yard"))
        .json(&body)
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    let view = client.get(format!("{base}{system}")).basic_auth("root", Some("calvin-yard")).send().await.unwrap();
    view.json().await.unwrap()
}

fn mac(yard: &Yard, index: usize) -> String {
    let mac = yard.world().servers[index].spec.nics[0].mac;
    mac.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join("-")
}

/// Applies a patch on a switch as a client would; returns the last state.
async fn apply(yard: &Yard, index: usize, patch: Value) -> Value {
    let switch = &yard.world().switches[index];
    let base = format!("https://{}:{}/nvue_v1", switch.spec.address, switch.api_port.get().unwrap());
    let client = client();
    let call = |method: reqwest::Method, path: String, body: Option<Value>| {
        let mut request = client.request(method, format!("{base}{path}")).basic_auth("cumulus", Some("CumulusLinux!"));
        if let Some(body) = body {
            request = request.json(&body);
        }
        async move { request.send().await.unwrap().json::<Value>().await.unwrap() }
    };
    let made = call(reqwest::Method::POST, "/revision".into(), None).await;
    let id = made.as_object().unwrap().keys().next().unwrap().clone();
    assert_eq!(made[&id]["state"], "pending");
    call(reqwest::Method::PATCH, format!("/?rev={id}"), Some(patch)).await;
    let place = format!("/revision/{}", id.replace('/', "%2F"));
    call(reqwest::Method::PATCH, place.clone(), Some(json!({"state": "apply", "auto-prompt": {"ays": "ays_yes"}})))
        .await;
    let mut last = Value::Null;
    until("revision applied", async || {
        last = call(reqwest::Method::GET, place.clone(), None).await;
        !matches!(last["state"].as_str(), Some("apply" | "verify" | "pending"))
    })
    .await;
    last
}

const NETWORK: &str = r#"{"version": 2, "ethernets": {"nic0": {"match": {"macaddress": "MAC"}, "set-name": "nic0", "addresses": ["10.0.1.LAST/24"]}}}"#;

async fn installed(block: u8, count: usize) -> (Site, Yard) {
    let site = Site::start().await;
    site.seen.lock().unwrap().network_config = NETWORK.into();
    let yard = yard::run(config(block, &site)).await.unwrap();
    for index in 0..count {
        site.seen.lock().unwrap().sessions.insert(mac(&yard, index), "install".into());
        boot_once(&yard, index, "Pxe").await;
        assert!(reset(&yard, index, "On").await < 300);
    }
    for index in 0..count {
        stage(&yard, index, Stage::OsUp).await;
    }
    (site, yard)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_boot_mode_discovers_through_the_relay() {
    let site = Site::start().await;
    let yard = yard::run(config(1, &site)).await.unwrap();
    for index in 0..3 {
        assert!(reset(&yard, index, "On").await < 300);
    }
    for index in 0..3 {
        stage(&yard, index, Stage::Off).await;
    }
    let world = yard.world().clone();
    yard.shutdown().await;
    let seen = site.seen.lock().unwrap();
    assert_eq!((seen.inventories.len(), seen.done.len()), (3, 3));
    for server in &world.servers {
        let inventory = &seen.inventories[&server.spec.serial];
        assert_eq!(inventory["nics"][0]["lldp"]["system_name"], "leaf1");
        assert_eq!(inventory["nics"][1]["lldp"]["system_name"], "leaf2");
        assert_eq!(inventory["memory_mib"], json!(server.spec.model.memory_mib()));
    }
    let mut architectures: Vec<u16> = seen.dhcp.iter().filter(|d| d.0 == 1 && d.2.is_empty()).map(|d| d.3).collect();
    architectures.sort_unstable();
    assert_eq!(architectures, [0, 7, 16]);
    assert!(seen.dhcp.iter().all(|d| d.5), "from giaddr, with the source port sub-option: {:?}", seen.dhcp);
    assert!(seen.dhcp.iter().all(|d| d.4.starts_with("leaf1:swp")), "{:?}", seen.dhcp);
    assert_eq!(seen.dhcp.iter().filter(|d| d.0 == 3 && d.2 == "iPXE").count(), 3);
    let mut files = seen.tftp.clone();
    files.sort();
    assert_eq!(files, ["ipxe.efi", "undionly.kpxe"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn install_to_os_up_and_vlans_decide_who_sees_whom() {
    let (site, yard) = installed(2, 2).await;
    until("both phoned home", async || site.seen.lock().unwrap().home.len() == 2).await;
    {
        let seen = site.seen.lock().unwrap();
        assert!(seen.done.iter().all(|done| done["ok"] == true), "{:?}", seen.done);
        assert!(
            seen.home.iter().any(|body| body.contains(&format!("hostname=node-{}", mac(&yard, 0)))),
            "{:?}",
            seen.home
        );
        assert!(
            seen.progress.iter().any(|p| p["step"] == 3 && p["percent"].as_u64().is_some_and(|n| n > 0 && n < 100))
        );
    }
    let world = yard.world().clone();
    let reach = || dataplane::reachable(&world, &world.servers[0], &world.servers[1]);
    assert!(reach().reachable, "{}", reach().explanation);
    let port = |n: usize, vlan: u16| json!({"interface": {format!("swp{n}"): {"bridge": {"domain": {"br_default": {"access": vlan}}}}}});
    assert_eq!(apply(&yard, 0, port(1, 210)).await["state"], "applied");
    assert!(!reach().reachable && reach().explanation.contains("VLAN 210"), "{}", reach().explanation);
    assert!(!dataplane::site_reachable(&world, &world.servers[0], 0, None));
    assert_eq!(apply(&yard, 0, port(2, 210)).await["state"], "applied");
    assert!(reach().reachable, "{}", reach().explanation);

    // LLDP: the switch sees the running system, and the admin API says the same as the data plane.
    let switch = &world.switches[0];
    let url = format!(
        "https://{}:{}/nvue_v1/interface/swp1/lldp/neighbor",
        switch.spec.address,
        switch.api_port.get().unwrap()
    );
    let neighbors: Value =
        client().get(url).basic_auth("cumulus", Some("CumulusLinux!")).send().await.unwrap().json().await.unwrap();
    assert!(neighbors.get(format!("node-{}", mac(&yard, 0))).is_some(), "{neighbors}");
    let (a, b) = (&world.servers[0].spec.serial, &world.servers[1].spec.serial);
    let url = format!("http://{}/reachable?a={a}&b={b}", yard.admin_addr());
    let answer: Value = client().get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["reachable"], true);

    // The installed system comes back by itself, and shuts down when asked to.
    reset(&yard, 0, "GracefulShutdown").await;
    stage(&yard, 0, Stage::Off).await;
    reset(&yard, 0, "On").await;
    stage(&yard, 0, Stage::OsUp).await;
    assert_eq!(site.seen.lock().unwrap().home.len(), 2, "phones home once an instance");
    yard.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_image_is_resumed_and_an_unknown_step_is_refused() {
    let site = Site::start().await;
    site.seen.lock().unwrap().network_config = NETWORK.into();
    let faults = vec!["image_cut_at_90".to_owned()];
    let yard = yard::run(YardConfig { fault_presets: faults, ..config(3, &site) }).await.unwrap();
    site.seen.lock().unwrap().sessions.insert(mac(&yard, 0), "install".into());
    site.seen.lock().unwrap().sessions.insert(mac(&yard, 1), "strange".into());
    reset(&yard, 0, "On").await;
    reset(&yard, 1, "On").await;
    stage(&yard, 0, Stage::OsUp).await;
    stage(&yard, 1, Stage::Off).await;
    yard.shutdown().await;
    let seen = site.seen.lock().unwrap();
    assert_eq!(seen.ranges, ["bytes=1800002-"]);
    assert!(seen.done.iter().any(|done| done["ok"] == false && done["error"].as_str().unwrap().contains("dance")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_wire_to_the_site_there_is_silence() {
    let site = Site::start().await;
    let yard = yard::run(YardConfig { nics: 1, dhcp_timeout_seconds: 0.02, ..config(4, &site) }).await.unwrap();
    let other_vlan = json!({"interface": {"swp1": {"bridge": {"domain": {"br_default": {"access": 200}}}},
        "swp2": {"link": {"state": {"down": {}}}}}});
    assert_eq!(apply(&yard, 0, other_vlan).await["state"], "applied");
    let admin = yard.admin_addr();
    let serial = yard.world().servers[2].spec.serial.clone();
    client().post(format!("http://{admin}/servers/{serial}/pull-cable?nic=0")).send().await.unwrap();
    for index in 0..3 {
        reset(&yard, index, "On").await;
    }
    for index in 0..3 {
        stage(&yard, index, Stage::NoBootDevice).await;
    }
    assert!(site.seen.lock().unwrap().dhcp.is_empty());
    let log = yard.world().servers[1].with(|state| state.log.clone());
    assert!(log.iter().any(|line| line.contains("no link")), "{log:?}");
    assert!(yard.world().servers[0].with(|state| state.kept.on), "it stays on");
    yard.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redfish_sessions_passwords_and_errors() {
    let site = Site::start().await;
    let yard = yard::run(config(5, &site)).await.unwrap();
    let client = client();
    let (base, system) = bmc(&yard, 0);
    let status = async |request: reqwest::RequestBuilder| request.send().await.map_or(0, |a| a.status().as_u16());
    assert_eq!(status(client.get(format!("{base}/redfish/v1"))).await, 200);
    assert_eq!(status(client.get(format!("{base}{system}"))).await, 401);
    let login = json!({"UserName": "root", "Password": "calvin-yard"});
    let answer = client.post(format!("{base}/redfish/v1/SessionService/Sessions")).json(&login).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let header = |name: &str| answer.headers().get(name).unwrap().to_str().unwrap().to_owned();
    let (token, place) = (header("x-auth-token"), header("location"));
    let get = |path: &str| client.get(format!("{base}{path}")).header("x-auth-token", &token);
    // Every link that the service shows leads somewhere.
    let mut todo = vec!["/redfish/v1".to_owned()];
    let mut done = std::collections::BTreeSet::new();
    while let Some(path) = todo.pop() {
        if !done.insert(path.clone()) || path.contains("/Oem/") {
            continue;
        }
        let answer = get(&path).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let mut values = vec![answer.json::<Value>().await.unwrap()];
        while let Some(value) = values.pop() {
            match value {
                Value::Object(object) => {
                    if let Some(Value::String(link)) = object.get("@odata.id") {
                        todo.push(link.trim_end_matches('/').to_owned());
                    }
                    values.extend(object.into_iter().map(|(_, value)| value));
                }
                Value::Array(list) => values.extend(list),
                _ => {}
            }
        }
    }
    assert!(done.len() > 30, "{done:?}");

    let bad = client.patch(format!("{base}{system}")).header("x-auth-token", &token);
    let answer = bad.json(&json!({"Boot": {"BootSourceOverrideTarget": "Floppy"}})).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let error: Value = answer.json().await.unwrap();
    assert!(
        error["error"]["@Message.ExtendedInfo"][0]["MessageId"].as_str().unwrap().ends_with("PropertyValueNotInList")
    );
    let view = boot_once(&yard, 0, "Pxe").await;
    assert_eq!(view["Boot"]["BootSourceOverrideTarget"], "Pxe");

    // Entity tags, where the vendor has them: an old one is refused.
    if let Some(tag) = view["@odata.etag"].as_str() {
        let patch = |tag: &str| {
            let request =
                client.patch(format!("{base}{system}")).header("x-auth-token", &token).header("if-match", tag);
            request.json(&json!({"AssetTag": "rack 1"}))
        };
        assert!(status(patch(tag)).await < 300);
        assert_eq!(status(patch(tag)).await, 412);
    }

    // A changed password survives the reset of the BMC; sessions do not.
    let account = format!("{base}/redfish/v1/AccountService/Accounts/2");
    let change = client.patch(account).header("x-auth-token", &token).json(&json!({"Password": "another-one"}));
    assert!(status(change).await < 300);
    let manager = yard.world().servers[0].spec.model.vendor.manager_id();
    let url = format!("{base}/redfish/v1/Managers/{manager}/Actions/Manager.Reset");
    assert!(
        status(client.post(url).header("x-auth-token", &token).json(&json!({"ResetType": "ForceRestart"}))).await < 300
    );
    assert!(!matches!(status(get(&system)).await, 200..=299));
    until("BMC answers again", async || {
        status(client.get(format!("{base}{system}")).basic_auth("root", Some("another-one"))).await == 200
    })
    .await;
    assert_eq!(status(get(&place)).await, 401);
    assert_eq!(status(client.get(format!("{base}{system}")).basic_auth("root", Some("calvin-yard"))).await, 401);

    // Faults over the admin API: a lie about power, then an error, then none.
    let admin = format!("http://{}/faults", yard.admin_addr());
    client.post(&admin).json(&json!({"preset": "bmc_lies_power"})).send().await.unwrap();
    let power = async || {
        let request = client.get(format!("{base}{system}")).basic_auth("root", Some("another-one"));
        request.send().await.unwrap().json::<Value>().await.unwrap()["PowerState"].clone()
    };
    yard.world().faults.add(yard::fault::FaultRule { ..yard::fault::preset("dhcp_silent").unwrap() });
    let admin_server = format!("http://{}/servers/{}", yard.admin_addr(), yard.world().servers[0].spec.serial);
    client.post(format!("{admin_server}/power-on")).send().await.unwrap();
    assert_eq!(power().await, "Off", "the old state");
    client.delete(&admin).send().await.unwrap();
    assert_eq!(power().await, "On");
    client.post(&admin).json(&json!({"preset": "bmc_errors", "count": 1})).send().await.unwrap();
    let request = || client.get(format!("{base}{system}")).basic_auth("root", Some("another-one"));
    assert_eq!((status(request()).await, status(request()).await), (503, 200));
    let refused = client.post(&admin).json(&json!({"preset": "no such"})).send().await.unwrap();
    assert_eq!(refused.status(), 400);
    yard.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switches_refuse_what_is_wrong_and_can_fail() {
    let site = Site::start().await;
    let yard = yard::run(config(6, &site)).await.unwrap();
    let unknown = apply(&yard, 0, json!({"interface": {"swp99": {"type": "swp"}}})).await;
    assert_eq!((&unknown["state"], &unknown["transition"]["progress"]), (&json!("invalid"), &json!("Invalid config")));
    yard.world().faults.add(yard::fault::preset("switch_apply_fails").unwrap());
    let failed = apply(&yard, 0, json!({"interface": {"swp1": {"description": "x"}}})).await;
    assert_eq!(failed["state"], "apply_fail");
    yard.world().faults.remove(None);
    let switch = &yard.world().switches[0];
    let base = format!("https://{}:{}/nvue_v1", switch.spec.address, switch.api_port.get().unwrap());
    let get = |path: &str| client().get(format!("{base}{path}")).basic_auth("cumulus", Some("CumulusLinux!"));
    assert_eq!(client().get(format!("{base}/system")).send().await.unwrap().status(), 401);
    let system: Value = get("/system").send().await.unwrap().json().await.unwrap();
    assert_eq!(system["hostname"], "leaf1");
    assert_eq!(get("/interface/swp99").send().await.unwrap().status(), 404);
    let uplink: Value = get("/interface/swp49/lldp/neighbor").send().await.unwrap().json().await.unwrap();
    assert_eq!(uplink["spine1"]["port"]["name"], "swp1");
    assert_eq!(get(&"/a".repeat(20_000)).send().await.unwrap().status(), 404, "no depth of path hurts");
    let vlans: Value = get("/bridge/domain/br_default/vlan?rev=applied").send().await.unwrap().json().await.unwrap();
    assert_eq!(vlans, json!({"1": {}, "100": {}}));
    yard.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start().await;
    site.seen.lock().unwrap().network_config = NETWORK.into();
    let config = YardConfig { persist: Some(folder.path().join("yard.json")), ..config(7, &site) };
    let yard = yard::run(config.clone()).await.unwrap();
    site.seen.lock().unwrap().sessions.insert(mac(&yard, 0), "install".into());
    reset(&yard, 0, "On").await;
    stage(&yard, 0, Stage::OsUp).await;
    let access = json!({"interface": {"swp1": {"bridge": {"domain": {"br_default": {"access": 210}}}}}});
    apply(&yard, 0, access).await;
    let certificate =
        |yard: &Yard| yard.world().servers[0].with(|state| state.kept.identity.clone().unwrap().certificate);
    let before = certificate(&yard);
    yard.shutdown().await;
    let again = yard::run(config).await.unwrap();
    assert_eq!(certificate(&again), before);
    let server: &Arc<yard::server::Server> = &again.world().servers[0];
    assert_eq!(server.with(|state| state.stage), Stage::OsUp, "a running system goes on running");
    assert_eq!(again.world().switches[0].port(1).untagged, Some(210));
    again.shutdown().await;
}
