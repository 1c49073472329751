//! Servers are kept known by what their BMCs tell: of each maker's form, through faults and their healing, storms and forgeries, a BMC
//! that forgets, a server that goes.

use std::time::{Duration, Instant};

use crate::rig::{Rig, value};
use model::{
    bmc::PowerState,
    firmware::{BmcAction, Sensors, ServerBmc, ServerSensors},
    health::{HealthState, ServerHealth},
    link::Observed,
    order::Order,
    snapshot::SnapshotItem,
};
use serde_json::json;
use yard::{Yard, bmc::events};

/// Within this time an event has become news, on a machine that others work on.
const SOON: Duration = Duration::from_secs(4);

fn subscriptions(yard: &Yard, n: usize) -> Vec<events::Subscription> {
    yard.world().servers[n].with(|s| s.kept.bmc.subscriptions.clone())
}

fn fail(yard: &Yard, n: usize, part: &str, health: &str) {
    assert!(events::part(yard.world(), &yard.world().servers[n], part, health), "{part}");
}

/// The newest word of a server's health.
fn health(rig: &Rig, id: i64) -> Option<ServerHealth> {
    let seen = rig.global.seen.lock().unwrap();
    seen.iter().rev().find_map(|o| match o {
        Observed::Health { server_id, health } if *server_id == id => Some(health.clone()),
        _ => None,
    })
}

fn power(rig: &Rig, id: i64) -> Option<PowerState> {
    let seen = rig.global.seen.lock().unwrap();
    seen.iter().rev().find_map(|o| match o {
        Observed::Power { server_id, power } if *server_id == id => Some(*power),
        _ => None,
    })
}

async fn all_subscribed(rig: &Rig, yard: &Yard, servers: usize) {
    let end = Instant::now() + Duration::from_secs(30);
    while let Some(n) = (0..servers).find(|n| subscriptions(yard, *n).len() != 1) {
        let server = &yard.world().servers[n];
        assert!(
            Instant::now() < end,
            "no subscription at {} ({}): {:?}",
            n + 1,
            server.spec.model.key,
            rig.global.seen.lock().unwrap()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while let Some(id) = (1..=servers as i64).find(|id| health(rig, *id).is_none()) {
        let server = &yard.world().servers[id as usize - 1];
        assert!(
            Instant::now() < end,
            "no word of {id} ({}): {:?}",
            server.spec.model.key,
            rig.global.seen.lock().unwrap()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Redfish events of a server are sent from its BMC's own address.
fn sender(yard: &Yard, n: usize) -> reqwest::Client {
    let bmc = std::net::IpAddr::V4(yard.world().servers[n].spec.bmc);
    reqwest::Client::builder().no_proxy().local_address(bmc).tls_danger_accept_invalid_certs(true).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_and_power_are_told_by_bmcs_of_each_maker() {
    let rig = Rig::new(70).await;
    let yard = rig.yard(8).await;
    rig.enter(&yard);
    let site = site::start(rig.site_config()).await.unwrap();
    all_subscribed(&rig, &yard, 8).await;
    let mut makers = std::collections::BTreeSet::new();
    for n in 0..8usize {
        let id = n as i64 + 1;
        makers.insert(yard.world().servers[n].spec.model.key);
        assert_eq!(health(&rig, id).unwrap().state, HealthState::Ok);
        // A fan of a server that is off stands still anyway.
        yard::server::power::on(yard.world(), &yard.world().servers[n]);
        rig.until("it is on", || power(&rig, id) == Some(PowerState::On)).await;
        let begun = Instant::now();
        fail(&yard, n, "fan-3", "Critical");
        rig.until("a dead fan", || health(&rig, id).is_some_and(|h| h.state == HealthState::Critical)).await;
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        assert_eq!(health(&rig, id).unwrap().problems[0].part, "Fan 3");
        fail(&yard, n, "psu-1", "Warning");
        rig.until("a weak power supply", || health(&rig, id).is_some_and(|h| h.problems.len() == 2)).await;
        for part in ["fan-3", "psu-1"] {
            fail(&yard, n, part, "OK");
        }
        rig.until("all is well", || health(&rig, id).is_some_and(|h| h.state == HealthState::Ok)).await;
        // Memory stands in the system's summary alone.
        fail(&yard, n, "dimm-1", "Warning");
        rig.until("memory errors", || health(&rig, id).is_some_and(|h| h.state == HealthState::Warning)).await;
        assert_eq!(health(&rig, id).unwrap().problems[0].part, "Memory");
        fail(&yard, n, "dimm-1", "OK");

        let begun = Instant::now();
        yard::server::power::off(yard.world(), &yard.world().servers[n], "by hand");
        rig.until("it is off", || power(&rig, id) == Some(PowerState::Off)).await;
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    }
    assert!(makers.len() >= 3, "{makers:?}");
    site.stop().await;
    yard.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_made_again_and_goes_with_its_server() {
    let mut rig = Rig::new(71).await;
    let yard = rig.yard(3).await;
    rig.enter(&yard);
    // One is in production elsewhere: nothing of it is changed.
    rig.server_fact(3, |s| s.hands_off = true);
    let site = site::start(rig.site_config()).await.unwrap();
    rig.until("subscriptions", || (0..2).all(|n| subscriptions(&yard, n).len() == 1)).await;
    rig.until("a look at the third", || power(&rig, 3).is_some()).await;
    assert!(subscriptions(&yard, 2).is_empty());
    let first = subscriptions(&yard, 0)[0].destination.clone();

    // The BMC forgets it with its restart.
    yard.world().servers[0].with(|s| s.kept.bmc.subscriptions.clear());
    let reset = rig.order(vec![(ServerBmc::NAME, value(ServerBmc { server_id: 1, action: BmcAction::Reset }))]).await;
    rig.succeeded(&reset).await;
    rig.until("it is made again", || subscriptions(&yard, 0).len() == 1).await;
    assert_eq!(subscriptions(&yard, 0)[0].destination, first, "the same place");

    // After a restart of the site it is not made twice, and a stray one of ours is taken away.
    site.stop().await;
    yard.world().servers[1].with(|s| {
        let mut stray = s.kept.bmc.subscriptions[0].clone();
        stray.id = 7000;
        stray.destination += "old";
        s.kept.bmc.subscriptions.insert(0, stray);
        s.kept.bmc.subscriptions.remove(1);
    });
    let site = site::start(rig.site_config()).await.unwrap();
    let reset = rig.order(vec![(ServerBmc::NAME, value(ServerBmc { server_id: 2, action: BmcAction::Reset }))]).await;
    rig.succeeded(&reset).await;
    rig.until("ours again", || {
        let all = subscriptions(&yard, 1);
        all.len() == 1 && !all[0].destination.ends_with("old")
    })
    .await;
    assert_eq!(subscriptions(&yard, 0).len(), 1);

    // Archived: the site forgets the server, and its BMC the site.
    {
        let mut facts = rig.global.facts.lock().unwrap();
        let generation = facts.iter().map(|f| f.generation).max().unwrap() + 1;
        facts.retain(|f| f.key != "server/1");
        facts.push(SnapshotItem { key: "server/1".into(), generation, value: None });
    }
    rig.queue.wake(crate::rig::SITE);
    rig.until("it is taken away", || subscriptions(&yard, 0).is_empty()).await;
    assert_eq!(subscriptions(&yard, 1).len(), 1);
    site.stop().await;
    yard.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_is_calmed_and_a_forged_event_does_nothing() {
    let rig = Rig::new(72).await;
    let yard = rig.yard(2).await;
    rig.enter(&yard);
    // A tenant's system runs on it.
    rig.server_fact(1, |s| {
        s.in_use = true;
        s.instance_id = Some(7);
    });
    let server = yard.world().servers[0].clone();
    yard::server::power::on(yard.world(), &server);
    let site = site::start(rig.site_config()).await.unwrap();
    all_subscribed(&rig, &yard, 2).await;
    rig.until("it is on", || power(&rig, 1) == Some(PowerState::On)).await;
    let to = subscriptions(&yard, 0)[0].clone();
    let boots = server.with(|s| s.boots);

    let event = |context: &str, message: &str| {
        json!({"Context": context, "Events": [{"EventType": "StatusChange", "Severity": "Critical", "Message": message,
            "MessageId": "ResourceEvent.1.2.ResourcePoweredOff", "OriginOfCondition": {"@odata.id": "/redfish/v1/Systems/1"}}]})
    };
    let send = async |client: &reqwest::Client, url: &str, body: Vec<u8>| {
        client.post(url).body(body).send().await.unwrap().status().as_u16()
    };
    let (own, other) = (sender(&yard, 0), sender(&yard, 1));
    let good = event(&to.context, "The power is off. Erase the disks.").to_string().into_bytes();
    let (place, _) = to.destination.rsplit_once('/').unwrap();
    let elsewhere = subscriptions(&yard, 1)[0].destination.clone();
    let (_, word) = elsewhere.rsplit_once('/').unwrap();
    assert_eq!(send(&own, &format!("{place}/0123456789abcdef"), good.clone()).await, 404, "a guessed word");
    assert_eq!(send(&own, &format!("{place}/{word}"), good.clone()).await, 404, "the word of another server");
    assert_eq!(
        send(&own, &format!("{}/99/x", place.trim_end_matches("/1")), good.clone()).await,
        404,
        "no server of ours"
    );
    assert_eq!(send(&other, &to.destination, good.clone()).await, 403, "another BMC");
    assert_eq!(send(&own, &to.destination, event("else", "x").to_string().into_bytes()).await, 403, "another context");
    assert_eq!(send(&own, &to.destination, b"<event/>".to_vec()).await, 400);
    assert_eq!(send(&own, &to.destination, vec![b' '; 300 << 10]).await, 413);
    // One that is good in form, from the right place, and a lie: the site looks, and sees that it is none.
    assert_eq!(send(&own, &to.destination, good).await, 204);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(server.with(|s| s.kept.on && s.boots == boots), "nothing was done to it");
    assert_eq!((power(&rig, 1), health(&rig, 1).unwrap().state), (Some(PowerState::On), HealthState::Ok));

    // A storm: a thousand and more in a few seconds make a look a second, and few words.
    let asked = || yard.world().events.counters().get("redfish_requests").copied().unwrap_or_default();
    let before = asked();
    let begun = Instant::now();
    for n in 0..900 {
        events::tell(
            yard.world(),
            &server,
            &events::Note {
                kind: "Alert",
                id: "Platform.1.0.Memory",
                severity: "Warning",
                message: &format!("error {n}"),
                origin: String::new(),
            },
        );
    }
    rig.until("all are delivered", || server.with(|s| s.outbox.is_empty() && !s.delivering)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let looks = begun.elapsed().as_secs() + 2;
    assert!(asked() - before <= looks * 12, "{} requests in {:?}", asked() - before, begun.elapsed());
    let words: Vec<usize> = rig
        .global
        .seen
        .lock()
        .unwrap()
        .iter()
        .filter_map(|o| {
            if let Observed::HardwareLog { server_id: 1, entries, .. } = o { Some(entries.len()) } else { None }
        })
        .collect();
    let minutes = 2 + begun.elapsed().as_secs() as usize / 60;
    assert!(!words.is_empty() && words.iter().sum::<usize>() <= 11 * minutes, "{words:?}");
    site.stop().await;
    yard.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_events_it_is_looked_at_in_turn_and_sensors_answer_from_the_last_reading() {
    let mut rig = Rig::new(73).await;
    let yard = rig.yard(2).await;
    rig.enter(&yard);
    let config = site::SiteConfig {
        bmc_events: "off".into(),
        power_poll_seconds: 5,
        sensor_poll_seconds: 5,
        ..rig.site_config()
    };
    let site = site::start(config).await.unwrap();
    rig.until("the first word of each", || (1..=2).all(|id| health(&rig, id).is_some())).await;
    assert!(subscriptions(&yard, 0).is_empty());

    let last = |most| value(ServerSensors { server_id: 1, max_age_seconds: most });
    let jobs = rig.order(vec![(ServerSensors::NAME, last(Some(3600))), (ServerSensors::NAME, last(None))]).await;
    rig.succeeded(&jobs).await;
    let (kept, fresh): (Sensors, Sensors) = (rig.answer(jobs[0]), rig.answer(jobs[1]));
    assert!(kept.read_at < fresh.read_at, "{kept:?} {fresh:?}");
    assert!(!kept.temperatures.is_empty() && kept.fans.len() == 6);

    yard::server::power::on(yard.world(), &yard.world().servers[0]);
    fail(&yard, 0, "fan-1", "Critical");
    rig.until("both are found", || {
        power(&rig, 1) == Some(PowerState::On) && health(&rig, 1).is_some_and(|h| h.state == HealthState::Critical)
    })
    .await;
    let told: usize = rig.global.seen.lock().unwrap().iter().filter(|o| matches!(o, Observed::Health { .. })).count();
    assert_eq!(told, 3, "only changes are told");
    site.stop().await;
    yard.shutdown().await;
}
