//! Firmware, settings and reporting of BMCs against the simulated datacenter: every model's way of taking an image, a BMC that restarts in
//! the middle, images that do not fit.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use bmc::{
    Access, BiosSettings, BmcError, BootOrder, FirmwareUpdate, Power, PowerLoss, Progress, Redfish, Reporting,
    UpdateImage,
};
use model::{
    bmc::PowerAction,
    firmware::{AfterPowerLoss, Component},
    secret::Clear,
};
use serde_json::json;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path};
use yard::{Yard, YardConfig};

async fn yard(block: u8, models: &[&str], faults: &[&str]) -> Yard {
    crypto::install_provider();
    let config = YardConfig {
        servers: models.len(),
        models: models.iter().map(|m| (*m).to_owned()).collect(),
        leaves: 1,
        spines: 1,
        bmc_base: Ipv4Addr::new(127, 50 + block, 1, 1),
        switch_base: Ipv4Addr::new(127, 50 + block, 2, 1),
        relay_base: Ipv4Addr::new(127, 50 + block, 3, 1),
        bmc_port: 0,
        nvue_port: 0,
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        post_seconds: 0.1,
        os_boot_seconds: 0.1,
        bmc_reset_seconds: 0.5,
        firmware_seconds: 1.5,
        fault_presets: faults.iter().map(|f| (*f).to_owned()).collect(),
        ..YardConfig::default()
    };
    yard::run(config).await.unwrap()
}

fn driver(yard: &Yard, server: usize) -> Redfish {
    let server = &yard.world().servers[server];
    Redfish::new(Access {
        address: format!("{}:{}", server.spec.bmc, server.bmc_port.get().unwrap()),
        username: "root".into(),
        password: Clear("calvin-yard".into()),
        timeout: Duration::from_secs(5),
        tls_fingerprint: None,
    })
    .unwrap()
}

fn bytes(component: &str, version: &str) -> Vec<u8> {
    let mut all = json!({"component": component, "version": version}).to_string().into_bytes();
    all.push(b'\n');
    all.resize(300_000, 7);
    all
}

/// In both forms: a file here, and a URL.
async fn image(web: &MockServer, dir: &Path, component: &str, version: &str) -> UpdateImage {
    let name = format!("{component}-{version}.bin");
    let file = dir.join(&name);
    std::fs::write(&file, bytes(component, version)).unwrap();
    let answer = ResponseTemplate::new(200).set_body_bytes(bytes(component, version));
    Mock::given(path(format!("/{name}"))).respond_with(answer).mount(web).await;
    UpdateImage { url: Some(format!("{}/{name}", web.uri())), file: Some(file), name }
}

async fn part(driver: &Redfish, kind: &str) -> Component {
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        match driver.firmware().await {
            Ok(all) => return all.components.into_iter().find(|c| c.kind == kind).unwrap(),
            Err(e) => assert!(tokio::time::Instant::now() < end, "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// To its end; a BMC that is away is asked again.
async fn follow(driver: &Redfish, update: &str) -> Progress {
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        match driver.update_progress(update).await {
            Ok(Progress::Running { .. }) => {}
            Ok(other) => return other,
            Err(e) => assert!(e.is_retryable(), "{e}"),
        }
        assert!(tokio::time::Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

const MODELS: [&str; 4] = ["dell-r650", "hpe-dl365", "supermicro-421ge", "nvidia-dgx-h100"];

#[tokio::test]
async fn every_model_takes_an_image_in_its_own_way() {
    let (web, dir) = (MockServer::start().await, tempfile::tempdir().unwrap());
    for (n, model) in MODELS.into_iter().enumerate() {
        let yard = yard(n as u8, &[model], &[]).await;
        let driver = driver(&yard, 0);
        let found = driver.firmware().await.unwrap();
        let best = if model.starts_with("hpe") { "pull" } else { "multipart_push" };
        assert_eq!(found.methods[0], best, "{model}");
        let spare = found.components.iter().filter(|c| c.kind == "bios").count();
        assert_eq!(spare, 1, "{model}: spare copies are left out: {found:?}");
        assert_eq!(driver.running_update().await.unwrap(), None);

        // The firmware of the system waits for a restart.
        let before = part(&driver, "bios").await;
        let new = image(&web, dir.path(), "BIOS", "9.9.1").await;
        let update = driver.start_update(&before.id, &new).await.unwrap();
        assert_eq!(driver.running_update().await.unwrap().as_deref(), Some(update.as_str()), "{model}");
        let twice = driver.start_update(&before.id, &new).await.unwrap_err();
        assert!(twice.to_string().contains("in progress"), "{model}: {twice}");
        let ended = follow(&driver, &update).await;
        assert!(matches!(ended, Progress::Staged | Progress::Done), "{model}: {ended:?}");
        assert_eq!(part(&driver, "bios").await, before, "{model}: nothing runs yet");
        driver.set_power(PowerAction::On).await.unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
        let after = part(&driver, "bios").await;
        assert_eq!((after.id, after.version.as_deref()), (before.id, Some("9.9.1")), "{model}");

        // The BMC restarts itself.
        let before = part(&driver, "bmc").await;
        let new = image(&web, dir.path(), "BMC", "99.1").await;
        let update = driver.start_update(&before.id, &new).await.unwrap();
        let ended = follow(&driver, &update).await;
        assert!(matches!(ended, Progress::Done | Progress::Forgotten), "{model}: {ended:?}");
        let after = part(&driver, "bmc").await;
        assert_eq!((after.id.as_str(), after.version.as_deref()), (before.id.as_str(), Some("99.1")), "{model}");

        // An image that is none, and one for another part.
        std::fs::write(dir.path().join("bad"), "<html>").unwrap();
        let answer = ResponseTemplate::new(200).set_body_string("<html>");
        Mock::given(path("/bad")).respond_with(answer).mount(&web).await;
        let bad = UpdateImage {
            name: "bad".into(),
            file: Some(dir.path().join("bad")),
            url: Some(format!("{}/bad", web.uri())),
        };
        let update = driver.start_update(&after.id, &bad).await.unwrap();
        let Progress::Failed(words) = follow(&driver, &update).await else { panic!("{model}: it took that") };
        assert!(words.contains("not recognised"), "{model}: {words}");
        let none = driver.start_update("no-such-part", &bad).await.unwrap_err();
        assert!(matches!(none, BmcError::Unsupported { .. }), "{none}");
        driver.close().await;
        yard.shutdown().await;
    }
}

#[tokio::test]
async fn an_update_that_the_bmc_forgets_is_forgotten() {
    let (web, dir) = (MockServer::start().await, tempfile::tempdir().unwrap());
    let yard = yard(6, &["supermicro-421ge"], &["bmc_restarts_in_update"]).await;
    let driver = driver(&yard, 0);
    let before = part(&driver, "bmc").await;
    let new = image(&web, dir.path(), "BMC", "99.1").await;
    let update = driver.start_update(&before.id, &new).await.unwrap();
    assert_eq!(follow(&driver, &update).await, Progress::Forgotten);
    assert_eq!(part(&driver, "bmc").await, before);
    let update = driver.start_update(&before.id, &new).await.unwrap();
    follow(&driver, &update).await;
    assert_eq!(part(&driver, "bmc").await.version.as_deref(), Some("99.1"));
    yard.shutdown().await;
}

#[tokio::test]
async fn settings_order_and_reporting_on_every_model() {
    for (n, model) in MODELS.into_iter().enumerate() {
        let yard = yard(7 + n as u8, &[model], &[]).await;
        let driver = driver(&yard, 0);
        let now = driver.bios().await.unwrap();
        assert_eq!(now["NumLock"], "On");
        assert!(driver.pending_bios().await.unwrap().is_empty());
        assert!(driver.set_bios(&[("NumLock".to_owned(), json!("Off"))].into()).await.unwrap());
        assert_eq!(driver.pending_bios().await.unwrap(), [("NumLock".to_owned(), json!("Off"))].into());
        driver.set_power(PowerAction::On).await.unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(driver.bios().await.unwrap()["NumLock"], "Off", "{model}");

        let order = driver.boot_order().await.unwrap();
        assert!(order.order.len() > 1 && order.options.len() == order.order.len(), "{order:?}");
        let mut other = order.order.clone();
        other.reverse();
        driver.set_boot_order(&other).await.unwrap();
        assert_eq!(driver.boot_order().await.unwrap().order, other);
        let short = driver.set_boot_order(&other[1..]).await.unwrap_err();
        assert!(short.to_string().contains("name each of"), "{short}");

        assert_eq!(driver.after_power_loss().await.unwrap(), Some(AfterPowerLoss::LastState));
        driver.set_after_power_loss(AfterPowerLoss::Start).await.unwrap();
        assert_eq!(driver.after_power_loss().await.unwrap(), Some(AfterPowerLoss::Start), "{model}");

        assert!(driver.enable_snmp().await.unwrap());
        assert!(!driver.enable_snmp().await.unwrap(), "it is on already");
        assert!(driver.syslog("127.0.0.1:514").await.unwrap());
        assert!(!driver.syslog("127.0.0.1:514").await.unwrap(), "it is told already");
        let reset = driver.factory_reset().await.unwrap();
        assert_eq!(reset.len(), if model.starts_with("nvidia") { 1 } else { 2 }, "{model}: {reset:?}");
        driver.close().await;
        yard.shutdown().await;
    }
}
