//! The Redfish driver against the simulated datacenter, over TLS: every call, the pinned certificate, and a BMC that restarts.

use std::{net::Ipv4Addr, time::Duration};

use bmc::{
    Access, Accounts, BmcError, BmcReset, Boot, Driver, EventLog, Identify, Inventory, Kind, Power, Redfish, Sensors,
    VirtualMedia,
};
use model::{
    bmc::{BootTarget, PowerAction, PowerState},
    secret::Clear,
};
use yard::{Yard, YardConfig};

pub async fn yard(block: u8, servers: usize) -> Yard {
    crypto::install_provider();
    let config = YardConfig {
        servers,
        leaves: 1,
        spines: 1,
        bmc_base: Ipv4Addr::new(127, 40 + block, 1, 1),
        switch_base: Ipv4Addr::new(127, 40 + block, 2, 1),
        relay_base: Ipv4Addr::new(127, 40 + block, 3, 1),
        bmc_port: 0,
        nvue_port: 0,
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        post_seconds: 0.1,
        os_boot_seconds: 0.1,
        bmc_reset_seconds: 0.5,
        ..YardConfig::default()
    };
    yard::run(config).await.unwrap()
}

pub fn access(yard: &Yard, server: usize) -> Access {
    let server = &yard.world().servers[server];
    Access {
        address: format!("{}:{}", server.spec.bmc, server.bmc_port.get().unwrap()),
        username: "root".into(),
        password: Clear("calvin-yard".into()),
        timeout: Duration::from_secs(5),
        tls_fingerprint: None,
    }
}

#[tokio::test]
async fn every_call_works_on_every_model() {
    let yard = yard(1, 6).await;
    let mut vendors = std::collections::BTreeSet::new();
    for n in 0..6 {
        let spec = yard.world().servers[n].spec.clone();
        let driver = Redfish::new(access(&yard, n)).unwrap();
        vendors.insert(driver.vendor().await.unwrap());
        let found = driver.inventory().await.unwrap();
        assert_eq!(found.serial.as_deref(), Some(spec.serial.as_str()));
        assert!(!found.processors.is_empty() && !found.disks.is_empty() && !found.nics.is_empty(), "{found:?}");
        assert!(found.bmc_mac.is_some() && found.memory_mib > 0);
        driver.set_power(PowerAction::ForceOff).await.unwrap();
        driver.wait_for_power(PowerState::Off, Duration::from_secs(5)).await.unwrap();
        driver.boot_once(BootTarget::Pxe).await.unwrap();
        driver.boot_once(BootTarget::None).await.unwrap();
        driver.identify(true).await.unwrap();
        driver.identify(false).await.unwrap();
        driver.set_power(PowerAction::On).await.unwrap();
        driver.wait_for_power(PowerState::On, Duration::from_secs(5)).await.unwrap();
        let sensors = driver.sensors().await.unwrap();
        assert!(!sensors.temperatures.is_empty() && sensors.power_watts.is_some(), "{sensors:?}");
        assert!(!driver.log().await.unwrap().is_empty(), "the power changes are in it");
        driver.clear_log().await.unwrap();
        let url = "http://127.0.0.1/rescue.iso";
        driver.insert(url).await.unwrap();
        assert_eq!(driver.inserted().await.unwrap().as_deref(), Some(url));
        driver.insert("http://127.0.0.1/other.iso").await.unwrap();
        driver.eject().await.unwrap();
        assert_eq!(driver.inserted().await.unwrap(), None);
        driver.close().await;
    }
    assert!(vendors.len() >= 2, "{vendors:?}");
    yard.shutdown().await;
}

#[tokio::test]
async fn another_certificate_is_refused_with_words() {
    let yard = yard(2, 2).await;
    let open = |access: Access| match bmc::open(Kind::Redfish, access).unwrap() {
        Driver::Redfish(driver) => driver,
        Driver::Ipmi(_) => unreachable!(),
    };
    let driver = open(access(&yard, 0));
    assert_eq!(driver.fingerprint(), None);
    driver.power().await.unwrap();
    let print = driver.fingerprint().unwrap();
    assert_eq!(print.len(), 64);
    let pinned = open(Access { tls_fingerprint: Some(print.clone()), ..access(&yard, 0) });
    pinned.power().await.unwrap();

    let other = open(Access { tls_fingerprint: Some(print.clone()), ..access(&yard, 1) });
    let error = other.power().await.unwrap_err();
    let BmcError::CertificateChanged { pinned, shown, .. } = &error else { panic!("{error}") };
    assert_eq!(pinned, &print);
    assert_eq!(Some(shown.clone()), other.refused_fingerprint());
    assert!(!error.is_retryable() && error.to_string().contains("register its address again"), "{error}");
    yard.shutdown().await;
}

#[tokio::test]
async fn a_password_is_changed_and_survives_a_restart_of_the_bmc() {
    let yard = yard(3, 1).await;
    let driver = Redfish::new(access(&yard, 0)).unwrap();
    driver.change_password(&Clear("another-secret-7".into())).await.unwrap();
    driver.power().await.unwrap();
    let old = Redfish::new(access(&yard, 0)).unwrap();
    assert!(matches!(old.power().await, Err(BmcError::Unauthorized(_))));
    driver.reset_bmc().await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    driver.wait_for_power(PowerState::Off, Duration::from_secs(10)).await.unwrap();
    let new = Redfish::new(Access { password: Clear("another-secret-7".into()), ..access(&yard, 0) }).unwrap();
    new.power().await.unwrap();
    yard.shutdown().await;
}
