//! The health of servers in the interface: as sites tell it, once for each change, of their own servers alone.

use crate::hardware_rig::rig;
use api::kinds::server_health::{heard, log};
use model::health::{HardwareEvent, HealthState, Problem, ServerHealth};
use serde_json::{Value, json};
use store::Database;

async fn it_is_told_listed_and_heals(db: Database) {
    let rig = rig(db).await;
    for address in ["10.0.0.7", "10.0.0.8"] {
        rig.register(address).await;
    }
    let server = rig.get("/servers/1").await;
    assert_eq!((&server["health"], &server["healthProblems"]), (&json!("unknown"), &json!([])));
    let revision = server["revision"].clone();
    let health = |state, parts: &[(&str, HealthState)]| ServerHealth {
        state,
        problems: parts.iter().map(|(part, health)| Problem { part: (*part).to_owned(), health: *health }).collect(),
    };
    let (ok, fan, psu) = (
        health(HealthState::Ok, &[]),
        health(HealthState::Critical, &[("Fan 3", HealthState::Critical)]),
        health(HealthState::Critical, &[("Power supply 1", HealthState::Critical)]),
    );
    // That all is well is no news at first; the same twice is told once; other parts are news; an answer without health is none.
    for now in [&ok, &fan, &fan, &psu, &health(HealthState::Unknown, &[]), &fan, &ok, &ok] {
        heard(&rig.app, Some(rig.site), 1, now).await.unwrap();
    }
    let news = rig.get("/events?filter.kind=server.health&sortBy=id:ASC").await;
    let titles: Vec<&str> = news["data"].as_array().unwrap().iter().map(|e| e["title"].as_str().unwrap()).collect();
    assert_eq!(titles.len(), 4, "{titles:?}");
    assert!(titles[0].ends_with("critical (was unknown)") || titles[0].ends_with("critical (was ok)"), "{titles:?}");
    assert!(titles[1].contains("other parts") && titles[3].ends_with("ok (was critical)"), "{titles:?}");
    assert_eq!(news["data"][0]["message"], "Fan 3 is critical");

    heard(&rig.app, Some(rig.site), 2, &fan).await.unwrap();
    let server = rig.get("/servers/2").await;
    assert_eq!(server["healthProblems"], json!([{"part": "Fan 3", "health": "critical"}]));
    assert!(server["healthTimestamp"].is_string());
    assert_eq!(rig.get("/servers/1").await["revision"], revision, "it is nobody's edit");
    let listed = rig.get("/servers?filter.health=critical").await;
    assert_eq!((&listed["meta"]["totalItems"], &listed["data"][0]["serverId"]), (&json!(1), &json!(2)));

    // A site speaks of its own servers alone, and of none that there is not.
    heard(&rig.app, Some(rig.site + 1), 1, &fan).await.unwrap();
    heard(&rig.app, Some(rig.site), 99, &fan).await.unwrap();
    assert_eq!(rig.get("/servers/1").await["health"], "ok");
    let words = |n: usize| HardwareEvent {
        at: None,
        severity: if n == 2 { HealthState::Critical } else { HealthState::Warning },
        message: format!("message {n} {}", "x".repeat(2000)),
        message_id: Some("PSU0003".into()),
    };
    let words: Vec<HardwareEvent> = (0..4).map(words).collect();
    log(&rig.app, rig.site + 1, 1, &words, 0).await.unwrap();
    log(&rig.app, rig.site, 1, &words, 7).await.unwrap();
    log(&rig.app, rig.site, 1, &[], 7).await.unwrap();
    let told = rig.get("/events?filter.kind=server.hardware_log").await;
    assert_eq!(told["meta"]["totalItems"], 1, "{told}");
    let (title, text) = (told["data"][0]["title"].as_str().unwrap(), told["data"][0]["message"].as_str().unwrap());
    assert!(
        title.contains("message 2")
            && text.contains("(PSU0003)")
            && text.ends_with("and 7 more, which are in the log of the hardware")
    );
    assert!(text.len() < 3000, "{}", text.len());
    rig.no(404, "GET", "/servers/99/sensors?now=true", Value::Null, "server 99").await;
}

/// On both databases.
mod on {
    #[tokio::test]
    async fn it_is_told_listed_and_heals() {
        crate::testing::both(super::it_is_told_listed_and_heals).await;
    }
}
