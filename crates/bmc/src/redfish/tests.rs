//! The driver against a BMC that behaves, and against those that do not.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use model::{
    bmc::{BootTarget, PowerAction, PowerState},
    secret::Clear,
};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers::any};

use super::*;
use crate::{Boot, Identify, Inventory, Power};

/// One BMC, with its vices.
#[derive(Clone, Default)]
struct Bmc(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    power: &'static str,
    target: String,
    no_sessions: bool,
    strangers_see_the_root_alone: bool,
    forgets_override: bool,
    lies_about_power: bool,
    busy: u32,
    sessions: u32,
    expire_session: bool,
    requests: Vec<String>,
}

impl Respond for Bmc {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut s = self.0.lock().unwrap();
        let path = request.url.path().to_owned();
        let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        let ok = |v: Value| ResponseTemplate::new(200).set_body_json(v);
        if path.ends_with("/Sessions") {
            if s.no_sessions {
                return ResponseTemplate::new(if s.strangers_see_the_root_alone { 401 } else { 404 });
            }
            if body["Password"] != "calvin" {
                return ResponseTemplate::new(401);
            }
            s.sessions += 1;
            return ResponseTemplate::new(201)
                .insert_header("X-Auth-Token", format!("t{}", s.sessions).as_str())
                .set_body_json(json!({}));
        }
        if path == "/redfish/v1/" {
            let mut root = json!({"Systems": {"@odata.id": "/redfish/v1/Systems"}});
            if !s.no_sessions {
                root["Links"] = json!({"Sessions": {"@odata.id": "/redfish/v1/SessionService/Sessions"}});
            }
            return ok(root);
        }
        let token = request.headers.get("x-auth-token").map(|t| t.to_str().unwrap().to_owned());
        let basic = request.headers.get("authorization").is_some_and(|a| a == "Basic cm9vdDpjYWx2aW4=");
        if std::mem::take(&mut s.expire_session) || !(basic || token == Some(format!("t{}", s.sessions))) {
            return ResponseTemplate::new(401);
        }
        if s.busy > 0 {
            s.busy -= 1;
            return ResponseTemplate::new(503);
        }
        s.requests.push(format!("{} {path} {body}", request.method));
        match (request.method.as_str(), path.as_str()) {
            ("GET", "/redfish/v1/Systems") => ok(json!({"Members": [{"@odata.id": "/redfish/v1/Systems/1"}]})),
            ("GET", "/redfish/v1/Systems/1") => ok(json!({
                "@odata.id": "/redfish/v1/Systems/1", "@odata.etag": "W/\"1\"", "Manufacturer": "Dell Inc.", "SKU": "ABC123", "SerialNumber": "BOARD9", "Model": "R660",
                "PowerState": s.power, "MemorySummary": {"TotalSystemMemoryGiB": 256}, "IndicatorLED": "Off",
                "Boot": {"BootSourceOverrideTarget": s.target, "BootSourceOverrideEnabled": if s.target == "None" { "Disabled" } else { "Continuous" }, "BootSourceOverrideTarget@Redfish.AllowableValues": ["None", "Pxe", "Hdd"]},
                "Actions": {"#ComputerSystem.Reset": {"target": "/redfish/v1/Systems/1/Reset", "ResetType@Redfish.AllowableValues": ["On", "ForceOff", "ForceRestart"]}},
                "Processors": {"@odata.id": "/p"}, "EthernetInterfaces": {"@odata.id": "/e"}, "Storage": {"@odata.id": "/missing"},
            })),
            ("GET", "/p") => ok(
                json!({"Members": [{"Id": "1", "ProcessorType": "CPU", "TotalCores": 32, "TotalThreads": 64, "MaxSpeedMHz": 4000}, {"@odata.id": "/broken"}, {"Id": "g", "ProcessorType": "GPU", "Model": "H100"}]}),
            ),
            ("GET", "/e") => ok(json!({"Members": [{"@odata.id": "/e/1"}, {"@odata.id": "/e/2"}]})),
            ("GET", "/e/1") => ok(
                json!({"Id": "NIC.1", "MACAddress": "AA-BB-CC-00-11-22", "SpeedMbps": 25000, "LinkStatus": "LinkUp"}),
            ),
            ("GET", "/e/2") => ok(json!({"Id": "NIC.2", "MACAddress": "not known"})),
            ("GET", "/broken") => ResponseTemplate::new(400).set_body_string("<html>"),
            ("POST", "/redfish/v1/Systems/1/Reset") => {
                if !s.lies_about_power {
                    s.power = if body["ResetType"] == "ForceOff" { "Off" } else { "On" };
                }
                ResponseTemplate::new(204)
            }
            ("PATCH", "/redfish/v1/Systems/1") => {
                if request.headers.contains_key("if-match") {
                    return ResponseTemplate::new(412);
                }
                if let (Some(t), false) =
                    (body.pointer("/Boot/BootSourceOverrideTarget").and_then(Value::as_str), s.forgets_override)
                {
                    s.target = t.to_owned();
                }
                ResponseTemplate::new(204)
            }
            _ => ResponseTemplate::new(404),
        }
    }
}

async fn rig(change: impl FnOnce(&mut State), password: &str) -> (MockServer, Bmc, Redfish) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bmc = Bmc::default();
    {
        let mut s = bmc.0.lock().unwrap();
        s.power = "Off";
        s.target = "None".into();
        change(&mut s);
    }
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(bmc.clone()).mount(&server).await;
    let access = Access {
        address: "bmc-1".into(),
        username: "root".into(),
        password: Clear(password.into()),
        timeout: Duration::from_secs(2),
        tls_fingerprint: None,
    };
    let driver = Redfish::at(server.uri(), access).unwrap();
    (server, bmc, driver)
}

#[tokio::test]
async fn power_goes_where_it_should_and_only_when_needed() {
    let (_s, bmc, driver) = rig(|_| {}, "calvin").await;
    driver.set_power(PowerAction::On).await.unwrap();
    driver.wait_for_power(PowerState::On, Duration::from_secs(2)).await.unwrap();
    driver.set_power(PowerAction::On).await.unwrap();
    assert_eq!(bmc.0.lock().unwrap().requests.iter().filter(|r| r.contains("Reset")).count(), 1);
    let error = driver.set_power(PowerAction::GracefulOff).await.unwrap_err();
    assert!(error.to_string().contains("it offers On, ForceOff, ForceRestart"), "{error}");
    driver.set_power(PowerAction::ForceOff).await.unwrap();
    assert_eq!(driver.power().await.unwrap(), PowerState::Off);
}

#[tokio::test]
async fn a_bmc_that_lies_is_found_out() {
    let (_s, _, driver) = rig(|s| s.lies_about_power = true, "calvin").await;
    driver.set_power(PowerAction::On).await.unwrap();
    let error = driver.wait_for_power(PowerState::On, Duration::from_millis(400)).await.unwrap_err();
    assert!(matches!(error, BmcError::NoEffect { .. }) && error.to_string().contains("still is off"), "{error}");
}

#[tokio::test]
async fn the_boot_override_holds_or_is_an_error() {
    let (_s, bmc, driver) = rig(|_| {}, "calvin").await;
    driver.boot_once(BootTarget::Pxe).await.unwrap();
    assert_eq!(bmc.0.lock().unwrap().target, "Pxe", "without the ETag that it does not accept");
    assert!(matches!(driver.boot_once(BootTarget::UefiHttp).await, Err(BmcError::Unsupported { .. })));
    driver.boot_once(BootTarget::None).await.unwrap();
}

#[tokio::test]
async fn sessions_end_bmcs_are_busy_and_some_know_no_sessions() {
    let (_s, bmc, driver) = rig(|s| s.busy = 2, "calvin").await;
    assert_eq!(driver.power().await.unwrap(), PowerState::Off);
    bmc.0.lock().unwrap().expire_session = true;
    assert_eq!(driver.power().await.unwrap(), PowerState::Off);
    assert_eq!(bmc.0.lock().unwrap().sessions, 2);
    let (_s, _, driver) = rig(|s| s.no_sessions = true, "calvin").await;
    assert_eq!(driver.power().await.unwrap(), PowerState::Off);
    let (_s, _, driver) = rig(|_| {}, "wrong").await;
    assert_eq!(driver.power().await, Err(BmcError::Unauthorized("bmc-1".into())));
    // One that has none refuses that path like all others, before it looks whether there is such a one.
    let strict = |s: &mut State| (s.no_sessions, s.strangers_see_the_root_alone) = (true, true);
    let (_s, _, driver) = rig(strict, "calvin").await;
    assert_eq!(driver.power().await.unwrap(), PowerState::Off);
    let (_s, _, driver) = rig(strict, "wrong").await;
    assert_eq!(driver.power().await, Err(BmcError::Unauthorized("bmc-1".into())));
}

#[tokio::test]
async fn the_inventory_is_read_as_far_as_it_goes() {
    let (_s, _, driver) = rig(|_| {}, "calvin").await;
    let found = driver.inventory().await.unwrap();
    assert_eq!(
        (found.serial.as_deref(), found.memory_mib, found.power),
        (Some("ABC123"), 262_144, Some(PowerState::Off))
    );
    assert_eq!((found.processors.len(), found.processors[0].cores, found.gpus[0].model.as_str()), (1, 32, "H100"));
    assert_eq!(found.nics.iter().map(|n| n.mac.as_str()).collect::<Vec<_>>(), ["aa:bb:cc:00:11:22"]);
    assert!(found.disks.is_empty());
    driver.identify(true).await.unwrap();
}

#[tokio::test]
async fn silence_is_an_error_with_a_deadline() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let access = Access {
        address: "127.0.0.1:1".into(),
        username: "root".into(),
        password: Clear("x".into()),
        timeout: Duration::from_millis(300),
        tls_fingerprint: None,
    };
    let error = Redfish::at("http://127.0.0.1:1".into(), access).unwrap().power().await.unwrap_err();
    assert!(matches!(error, BmcError::Unreachable { .. }) && error.is_retryable(), "{error}");
}

/// A BMC that answers from a table: method and path to status, headers and body. An answer list is used up but for its last.
#[derive(Clone)]
struct Table(Arc<Mutex<HashMap<String, Answers>>>);

/// Status, `Location` and body.
type Answers = Vec<(u16, &'static str, Value)>;

impl Respond for Table {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut table = self.0.lock().unwrap();
        let Some(answers) = table.get_mut(&format!("{} {}", request.method, request.url.path())) else {
            return ResponseTemplate::new(404);
        };
        let (status, location, body) = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        let answer = ResponseTemplate::new(status).set_body_json(body);
        if location.is_empty() { answer } else { answer.insert_header("Location", location) }
    }
}

async fn table(more: Vec<(&str, Answers)>) -> (MockServer, Redfish) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let system = json!({"@odata.id": "/redfish/v1/Systems/1", "PowerState": "On", "Actions": {"#ComputerSystem.Reset": {"target": "/reset"}}});
    let mut all = HashMap::from([
        (
            "GET /redfish/v1/Systems".to_owned(),
            vec![(200, "", json!({"Members": [{"@odata.id": "/redfish/v1/Systems/1"}]}))],
        ),
        ("GET /redfish/v1/Systems/1".to_owned(), vec![(200, "", system)]),
    ]);
    all.extend(more.into_iter().map(|(k, v)| (k.to_owned(), v)));
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(Table(Arc::new(Mutex::new(all)))).mount(&server).await;
    let access = Access {
        address: "bmc-1".into(),
        username: "root".into(),
        password: Clear("calvin".into()),
        timeout: Duration::from_secs(2),
        tls_fingerprint: None,
    };
    let driver = Redfish::at(server.uri(), access).unwrap().with_task_limit(Duration::from_millis(400));
    (server, driver)
}

#[tokio::test]
async fn tasks_are_followed_to_their_end_and_no_further() {
    let task = |state: &str| json!({"TaskState": state, "Messages": [{"Message": "the host is in POST"}]});
    let accepted = || (202, "/task", Value::Null);
    let rig = |states: &[&str]| {
        table(vec![
            ("POST /reset", vec![accepted()]),
            ("GET /task", states.iter().map(|s| (200, "", task(s))).collect()),
        ])
    };
    let (_s, driver) = rig(&["New", "Running", "Completed"]).await;
    driver.set_power(PowerAction::Nmi).await.unwrap();
    let (_s, driver) = rig(&["Running", "Exception"]).await;
    let error = driver.set_power(PowerAction::Nmi).await.unwrap_err();
    assert!(error.to_string().contains("ended as Exception: the host is in POST"), "{error}");
    let (_s, driver) = rig(&["Running"]).await;
    let error = driver.set_power(PowerAction::Nmi).await.unwrap_err();
    assert!(matches!(error, BmcError::NoEffect { .. }) && error.to_string().contains("running"), "{error}");
    // A task that is forgotten when it is done, and one that is told in the body alone.
    let (_s, driver) = table(vec![("POST /reset", vec![accepted()])]).await;
    driver.set_power(PowerAction::Nmi).await.unwrap();
    let told = (202, "", json!({"@odata.id": "/task", "TaskState": "New"}));
    let (_s, driver) = table(vec![("POST /reset", vec![told]), ("GET /task", vec![(200, "", task("Killed"))])]).await;
    assert!(driver.set_power(PowerAction::Nmi).await.is_err());
}

#[tokio::test]
async fn a_success_with_an_error_in_it_is_no_success() {
    let info = |id: &str| json!({"error": {"code": "Base.1.0.GeneralError", "@Message.ExtendedInfo": [{"MessageId": id, "Message": "not in this state"}]}});
    let (_s, driver) = table(vec![("POST /reset", vec![(200, "", info("Base.1.0.ActionNotSupported"))])]).await;
    let error = driver.set_power(PowerAction::Nmi).await.unwrap_err();
    assert!(
        matches!(error, BmcError::Refused { status: 200, .. }) && error.to_string().contains("not in this state"),
        "{error}"
    );
    for good in ["Base.1.0.Success", "iLO.2.15.ResetInProgress"] {
        let (_s, driver) = table(vec![("POST /reset", vec![(200, "", info(good))])]).await;
        driver.set_power(PowerAction::Nmi).await.unwrap();
    }
}

#[tokio::test]
async fn used_up_sessions_are_named_when_nothing_else_lets_us_in() {
    let full = json!({"error": {"@Message.ExtendedInfo": {"MessageId": "Base.1.0.SessionLimitExceeded"}}});
    let sessions = ("POST /redfish/v1/SessionService/Sessions", vec![(400, "", full)]);
    let (_s, driver) = table(vec![sessions.clone()]).await;
    assert_eq!(driver.power().await.unwrap(), PowerState::On, "with basic authentication");
    let (_s, driver) = table(vec![sessions, ("GET /redfish/v1/", vec![(401, "", Value::Null)])]).await;
    let error = driver.power().await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("no free session"), "{error}");
}

#[tokio::test]
async fn pages_are_followed_and_links_lead_nowhere_else() {
    let page = |id: &str, next: &str| json!({"Members": [{"Id": id, "MACAddress": format!("00:00:00:00:00:0{id}")}], "Members@odata.nextLink": next});
    let system = json!({"@odata.id": "/redfish/v1/Systems/1", "EthernetInterfaces": {"@odata.id": "/e"}, "Processors": {"@odata.id": "@evil.example/x"}, "Storage": null});
    let (_s, driver) = table(vec![
        ("GET /redfish/v1/Systems/1", vec![(200, "", system)]),
        ("GET /e", vec![(200, "", page("1", "https://elsewhere.example/redfish/v1/e2"))]),
        ("GET /redfish/v1/e2", vec![(200, "", page("2", "/redfish/v1/e2"))]),
    ])
    .await;
    let found = driver.inventory().await.unwrap();
    assert!(found.nics.len() >= 2 && found.nics.len() <= PAGES, "an endless list ends: {}", found.nics.len());
    assert!(found.processors.is_empty());
}
