//! The Cumulus Linux driver against the simulated datacenter, over TLS: certificate, apply on trial, what the switch refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed preparation is a failed test")]

use std::{net::Ipv4Addr, time::Duration};

use model::{
    secret::Clear,
    switch::{PortIntent, PortVlans, SwitchPatch},
};
use serde_json::json;
use switch::{Access, SwitchDriver, SwitchError, cumulus_linux::CumulusLinux};
use yard::{Yard, YardConfig};

async fn yard() -> Yard {
    crypto::install_provider();
    let config = YardConfig {
        servers: 2,
        leaves: 1,
        spines: 1,
        bmc_base: Ipv4Addr::new(127, 50, 1, 1),
        switch_base: Ipv4Addr::new(127, 50, 2, 1),
        relay_base: Ipv4Addr::new(127, 50, 3, 1),
        bmc_port: 0,
        nvue_port: 0,
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        switch_apply_seconds: 0.05,
        ..YardConfig::default()
    };
    yard::run(config).await.unwrap()
}

fn access(yard: &Yard, n: usize) -> Access {
    let switch = &yard.world().switches[n];
    Access {
        address: switch.spec.address.to_string(),
        port: switch.api_port.get().copied(),
        username: "cumulus".into(),
        password: Clear("CumulusLinux!".into()),
        timeout: Duration::from_secs(5),
        tls_fingerprint: None,
    }
}

fn moved(port: &str, untagged: u16) -> SwitchPatch {
    let vlans = PortVlans { untagged: Some(untagged), tagged: [].into() };
    let intent = PortIntent { vlans: Some(vlans), ..PortIntent::default() };
    SwitchPatch { ports: [(port.to_owned(), intent)].into(), ..SwitchPatch::default() }
}

#[tokio::test]
async fn a_change_is_confirmed_and_another_certificate_is_refused() {
    let yard = yard().await;
    let driver = CumulusLinux::new(access(&yard, 0)).unwrap();
    assert_eq!(driver.apply(&moved("swp1", 210)).await.unwrap().actions.len(), 2);
    assert!(driver.apply(&moved("swp1", 210)).await.unwrap().actions.is_empty());
    let switch = &yard.world().switches[0];
    {
        let state = switch.state.lock().unwrap();
        assert_eq!(state.revisions[&state.applied_id].state, "applied", "confirmed, not on trial");
        let pointer = "/interface/swp1/bridge/domain/br_default/access";
        assert_eq!(state.applied.pointer(pointer), Some(&json!(210)));
    }
    let pin = driver.fingerprint();
    assert_eq!(pin.as_ref().map(String::len), Some(64));
    let other = CumulusLinux::new(Access { tls_fingerprint: pin, ..access(&yard, 1) }).unwrap();
    let error = other.facts().await.unwrap_err();
    assert!(matches!(error, SwitchError::CertificateChanged { .. }) && !error.is_retryable(), "{error}");

    let before = switch.state.lock().unwrap().applied.clone();
    let error = driver.apply(&moved("swp99", 210)).await.unwrap_err();
    assert!(error.to_string().contains("swp99"), "{error}");
    assert_eq!(switch.state.lock().unwrap().applied, before);
    yard.shutdown().await;
}

#[tokio::test]
async fn a_change_on_trial_that_we_left_is_confirmed_before_the_next() {
    crypto::install_provider();
    let config = YardConfig {
        servers: 1,
        leaves: 1,
        spines: 1,
        bmc_base: Ipv4Addr::new(127, 51, 1, 1),
        switch_base: Ipv4Addr::new(127, 51, 2, 1),
        relay_base: Ipv4Addr::new(127, 51, 3, 1),
        bmc_port: 0,
        nvue_port: 0,
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        switch_apply_seconds: 0.05,
        ..YardConfig::default()
    };
    let yard = yard::run(config).await.unwrap();
    let here = access(&yard, 0);
    let http = reqwest::Client::builder().danger_accept_invalid_certs(true).build().unwrap();
    let base = format!("https://{}:{}/nvue_v1", here.address, here.port.unwrap());
    let ask = |method: reqwest::Method, path: String, body: serde_json::Value| {
        let request = http.request(method, format!("{base}{path}")).basic_auth("cumulus", Some("CumulusLinux!"));
        async move { request.json(&body).send().await.unwrap().json::<serde_json::Value>().await.unwrap() }
    };
    let made = ask(reqwest::Method::POST, "/revision".into(), json!({})).await;
    let id = made.as_object().unwrap().keys().next().unwrap().replace('/', "%2F");
    let patch = json!({"interface": {"swp2": {"bridge": {"domain": {"br_default": {"access": 1}}}}}});
    ask(reqwest::Method::PATCH, format!("/?rev={id}"), patch).await;
    let trial = json!({"state": "apply", "auto-prompt": {"ays": "ays_yes"}, "state-controls": {"confirm": 2}});
    ask(reqwest::Method::PATCH, format!("/revision/{id}"), trial).await;
    tokio::time::sleep(Duration::from_millis(300)).await;

    let driver = CumulusLinux::new(here).unwrap().with_limits(Duration::from_secs(10), Duration::from_secs(2));
    driver.apply(&moved("swp1", 220)).await.unwrap();
    let applied = yard.world().switches[0].state.lock().unwrap().applied.clone();
    assert_eq!(applied.pointer("/interface/swp1/bridge/domain/br_default/access"), Some(&json!(220)));
    assert_eq!(applied.pointer("/interface/swp2/bridge/domain/br_default/access"), Some(&json!(1)), "not undone");
    yard.shutdown().await;
}
