//! The Redfish driver against trees shaped like the answers of each vendor, written from public documentation (`trees/*.json`, where `source`
//! names it and `rules` are the vices of that BMC). What the driver finds and sends stands in `expected/*.json`; `UPDATE_EXPECTED=1` writes
//! it, and the difference is to be read before it is committed.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bmc::{
    Access, BiosSettings, BmcError, BmcReset, Boot, BootOrder, EventLog, FirmwareUpdate, Identify, Inventory, Power,
    Redfish, Reporting, Sensors, UpdateImage, VirtualMedia,
};
use model::{
    bmc::{BootTarget, PowerAction, PowerState},
    secret::Clear,
};
use serde::Deserialize;
use serde_json::{Value, json};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers::any};

#[derive(Deserialize)]
struct Vendor {
    #[allow(dead_code, reason = "for readers of the file")]
    source: String,
    rules: Rules,
    script: Script,
    tree: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Script {
    media: String,
    bios: BTreeMap<String, Value>,
    update: Update,
}

/// An update of firmware, and what is to be seen of it afterwards.
#[derive(Deserialize)]
struct Update {
    component: String,
    location: Option<String>,
    after: BTreeMap<String, Value>,
    #[serde(default)]
    answer: Value,
}

/// The vices of a BMC.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Rules {
    /// `true`: can expand; `broken`: says so and answers 400.
    expand: Value,
    /// `exact`: a change needs the ETag of the header; `any`: it needs an `If-Match`.
    if_match: String,
    /// The ETag within this resource is not the one of its header.
    stale_etag: String,
    no_etag: bool,
    /// Sessions are used up.
    sessions: String,
    /// Success is told in an error body.
    success_in_error: bool,
    busy: Option<Busy>,
    /// Resources whose change becomes a task that waits for the next reset.
    task: Vec<String>,
    /// Actions that are tasks with a monitor.
    task_monitor: Vec<String>,
    boot_only_at: String,
    media_only_image: bool,
    media_needs_protocol: bool,
    /// Resources for which a licence is missing.
    forbidden: Vec<String>,
}

#[derive(Deserialize)]
struct Busy {
    path: String,
    message: String,
    times: u32,
    status: u16,
}

struct State {
    rules: Rules,
    tree: BTreeMap<String, Value>,
    requests: Vec<String>,
    monitored: Option<(String, Value, u32)>,
    update: Update,
}

#[derive(Clone)]
struct Bmc(Arc<Mutex<State>>);

fn error(id: &str, text: &str) -> Value {
    json!({"error": {"code": "Base.1.8.GeneralError", "message": "See ExtendedInfo.", "@Message.ExtendedInfo": [{"MessageId": id, "Message": text, "Severity": "Warning"}]}})
}

fn merge(into: &mut Value, patch: &Value) {
    match patch {
        Value::Object(patch) if into.is_object() => {
            for (k, v) in patch {
                merge(&mut into[k], v);
            }
        }
        other => into.clone_from(other),
    }
}

impl State {
    fn get(&self, path: &str, query: Option<&str>) -> ResponseTemplate {
        let refuse = |status: u16, body: Value| ResponseTemplate::new(status).set_body_json(body);
        if self.rules.forbidden.iter().any(|f| f == path) {
            return refuse(403, error("SMC.1.0.OemLicenseNotPassed", "Not licensed to perform this request."));
        }
        let key = query.map_or_else(|| path.to_owned(), |q| format!("{path}?{q}"));
        let expand = query.is_some_and(|q| q.starts_with("$expand") || q.starts_with("%24expand"));
        if expand && self.rules.expand == "broken" {
            return refuse(
                400,
                error("Base.1.8.QueryNotSupportedOnResource", "Querying is not supported by the requested resource."),
            );
        }
        let Some(found) = self.tree.get(if expand { path } else { &key }) else {
            return refuse(404, error("Base.1.8.ResourceMissingAtURI", "The resource was not found."));
        };
        let mut found = found.clone();
        if expand && self.rules.expand == true {
            for member in found.get_mut("Members").and_then(Value::as_array_mut).into_iter().flatten() {
                let full = member["@odata.id"].as_str().and_then(|p| self.tree.get(p)).cloned();
                *member = full.unwrap_or(member.clone());
            }
        }
        let etag = found["@odata.etag"].as_str().unwrap_or("\"1\"").to_owned();
        if path == self.rules.stale_etag {
            found["@odata.etag"] = "\"of yesterday\"".into();
        }
        let answer = ResponseTemplate::new(200).set_body_json(found);
        if self.rules.no_etag { answer } else { answer.insert_header("ETag", etag.as_str()) }
    }

    fn done(&self) -> ResponseTemplate {
        if self.rules.success_in_error {
            let info = json!([{"MessageId": "Base.1.4.Success"}]);
            let body = json!({"error": {"code": "iLO.0.10.ExtendedInfo", "message": "See @Message.ExtendedInfo for more information.", "@Message.ExtendedInfo": info}});
            return ResponseTemplate::new(200).set_body_json(body);
        }
        ResponseTemplate::new(204)
    }

    fn patch(&mut self, path: &str, body: &Value, if_match: Option<&str>) -> ResponseTemplate {
        let refuse = |status: u16, body: Value| ResponseTemplate::new(status).set_body_json(body);
        let Some(now) = self.tree.get(path) else { return ResponseTemplate::new(404) };
        if let Some(busy) = self.rules.busy.as_mut().filter(|b| b.path == path && b.times > 0) {
            busy.times -= 1;
            return refuse(busy.status, error(&busy.message, "The value cannot be changed during system POST."));
        }
        match (self.rules.if_match.as_str(), if_match) {
            ("", _) | ("any", Some(_)) => {}
            (_, None) => {
                return refuse(428, error("Base.1.8.PreconditionRequired", "A precondition header is required."));
            }
            (_, Some(tag)) if Some(tag) == now["@odata.etag"].as_str() => {}
            _ => return refuse(412, error("Base.1.8.PreconditionFailed", "The ETag supplied did not match.")),
        }
        if body.get("Boot").is_some() && !self.rules.boot_only_at.is_empty() && path != self.rules.boot_only_at {
            return ResponseTemplate::new(204);
        }
        let now = self.tree.get_mut(path).unwrap();
        merge(now, body);
        if self.rules.task.iter().any(|t| t == path) {
            self.tree.insert("/redfish/v1/TaskService/Tasks/JID_1".into(), json!({"TaskState": "Starting"}));
            return ResponseTemplate::new(202).insert_header("Location", "/redfish/v1/TaskService/Tasks/JID_1");
        }
        self.done()
    }

    /// An image is taken.
    fn take_image(&mut self) -> ResponseTemplate {
        for (path, value) in &self.update.after {
            merge(self.tree.entry(path.clone()).or_insert_with(|| json!({})), value);
        }
        match &self.update.location {
            Some(at) => ResponseTemplate::new(202).insert_header("Location", at.as_str()),
            None if self.update.answer.is_object() => {
                ResponseTemplate::new(202).set_body_json(self.update.answer.clone())
            }
            None => self.done(),
        }
    }

    fn act(&mut self, path: &str, body: &Value) -> ResponseTemplate {
        let refuse =
            |text: &str| ResponseTemplate::new(400).set_body_json(error("Base.1.8.ActionParameterUnknown", text));
        let parent = path.split("/Actions/").next().unwrap_or_default();
        let owner = [parent.to_owned(), format!("{parent}/")].into_iter().find(|p| self.tree.contains_key(p)).unwrap();
        let action = path.trim_end_matches('/').rsplit('.').next().unwrap_or_default();
        let resource = self.tree.get_mut(&owner).unwrap();
        if action == "InsertMedia" {
            if self.rules.media_only_image && body.as_object().unwrap().len() > 1 {
                return refuse("The parameter Inserted is unknown.");
            }
            if self.rules.media_needs_protocol && body.get("TransferProtocolType").is_none() {
                return refuse("TransferProtocolType is required.");
            }
            if resource["Inserted"] == true {
                return refuse("A medium is inserted already.");
            }
        }
        if self.rules.task_monitor.iter().any(|t| t == path) {
            let effect = json!({"Image": body["Image"], "Inserted": true});
            self.monitored = Some((owner, effect, 2));
            return ResponseTemplate::new(202)
                .insert_header("Location", "https://bmc.example/redfish/v1/TaskService/TaskMonitors/1");
        }
        match action {
            "InsertMedia" => merge(resource, &json!({"Image": body["Image"], "Inserted": true})),
            "EjectMedia" => merge(resource, &json!({"Image": null, "Inserted": false})),
            "Reset" if owner.contains("/Systems/") => {
                let off = matches!(body["ResetType"].as_str().unwrap(), "ForceOff" | "GracefulShutdown");
                resource["PowerState"] = if off { "Off" } else { "On" }.into();
            }
            "ClearLog" => {
                let entries = resource["Entries"]["@odata.id"].as_str().unwrap().to_owned();
                self.tree.insert(entries, json!({"Members": []}));
            }
            _ => {}
        }
        self.done()
    }
}

impl Respond for Bmc {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut s = self.0.lock().unwrap();
        let path = request.url.path().to_owned();
        let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        let header = |name: &str| request.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        if path.ends_with("/SessionService/Sessions") {
            if s.rules.sessions == "full" {
                let text =
                    "The session establishment failed due to the number of simultaneous sessions exceeding the limit.";
                return ResponseTemplate::new(503).set_body_json(error("Base.1.4.SessionLimitExceeded", text));
            }
            return ResponseTemplate::new(201).insert_header("X-Auth-Token", "token").set_body_json(json!({}));
        }
        if header("x-auth-token").as_deref() != Some("token")
            && header("authorization").as_deref() != Some("Basic cm9vdDpzZWNyZXQ=")
        {
            return ResponseTemplate::new(401);
        }
        let form = header("content-type").is_some_and(|t| t.starts_with("multipart/"));
        if form {
            s.requests.push(format!("{} {path} {}", request.method, what_is_in(&request.body)));
        } else if request.method.as_str() != "GET" {
            let tag = header("if-match").map(|t| format!(" If-Match: {t}")).unwrap_or_default();
            s.requests.push(format!("{} {path}{tag} {body}", request.method));
        }
        match request.method.as_str() {
            "GET" if path.ends_with("/TaskMonitors/1") => match s.monitored.take() {
                Some((path, effect, n)) if n > 0 => {
                    s.monitored = Some((path, effect, n - 1));
                    ResponseTemplate::new(202)
                }
                Some((path, effect, _)) => {
                    merge(s.tree.get_mut(&path).unwrap(), &effect);
                    ResponseTemplate::new(200).set_body_json(json!({}))
                }
                None => ResponseTemplate::new(404),
            },
            "GET" => s.get(&path, request.url.query()),
            "PATCH" => s.patch(&path, &body, header("if-match").as_deref()),
            "POST" if form || path.contains("SimpleUpdate") => s.take_image(),
            "POST" if path.ends_with("/Subscriptions") => ResponseTemplate::new(201),
            "POST" => s.act(&path, &body),
            _ => ResponseTemplate::new(405),
        }
    }
}

/// The parts of a form, with the length of the file.
fn what_is_in(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let parts = text.split("--steelyard-5f0c1b7d9e3a4c62").filter_map(|part| part.split_once("\r\n\r\n"));
    let parts = parts.map(|(head, content)| {
        let head = head.trim().replace("\r\n", "; ");
        let content = content.trim_end_matches("\r\n");
        if head.contains("octet-stream") {
            format!("[{head}] {} bytes", content.len())
        } else {
            format!("[{head}] {content}")
        }
    });
    parts.collect::<Vec<_>>().join(" ")
}

struct Steps {
    bmc: Bmc,
    steps: Vec<Value>,
}

impl Steps {
    fn note(&mut self, step: &str, outcome: Result<impl std::fmt::Debug, BmcError>) {
        let requests = std::mem::take(&mut self.bmc.0.lock().unwrap().requests);
        let outcome = match outcome {
            Ok(value) => format!("{value:?}"),
            Err(e) => format!("error: {e}"),
        };
        self.steps.push(json!({"step": step, "outcome": outcome, "requests": requests}));
    }
}

async fn run(vendor: Vendor) -> Value {
    let update = vendor.script.update;
    let component = update.component.clone();
    let state = State { rules: vendor.rules, tree: vendor.tree, requests: Vec::new(), monitored: None, update };
    let bmc = Bmc(Arc::new(Mutex::new(state)));
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(bmc.clone()).mount(&server).await;
    let access = Access {
        address: "bmc-1".into(),
        username: "root".into(),
        password: Clear("secret".into()),
        timeout: Duration::from_secs(5),
        tls_fingerprint: None,
    };
    let driver = Redfish::at(server.uri(), access).unwrap();
    let name = driver.vendor().await.unwrap();
    let inventory = driver.inventory().await.unwrap();
    let sensors = driver.sensors().await.unwrap();
    let log: Vec<String> = driver.log().await.unwrap().iter().map(|e| format!("{e:?}")).collect();
    let mut s = Steps { bmc, steps: Vec::new() };
    let first = if inventory.power == Some(PowerState::On) { PowerAction::Cycle } else { PowerAction::On };
    s.note("power on or cycle", driver.set_power(first).await);
    s.note("power off, graceful", driver.set_power(PowerAction::GracefulOff).await);
    s.note("wait", driver.wait_for_power(PowerState::Off, Duration::from_secs(2)).await);
    s.note("reset while off", driver.set_power(PowerAction::Reset).await);
    s.note("power off, forced", driver.set_power(PowerAction::ForceOff).await);
    s.note("non-maskable interrupt", driver.set_power(PowerAction::Nmi).await);
    s.note("boot from the network", driver.boot_once(BootTarget::Pxe).await);
    s.note("boot from UEFI HTTP", driver.boot_once(BootTarget::UefiHttp).await);
    s.note("boot from CD", driver.boot_once(BootTarget::Cd).await);
    s.note("boot in its own order", driver.boot_once(BootTarget::None).await);
    s.note("identify", driver.identify(true).await);
    s.note("insert", driver.insert(&vendor.script.media).await);
    s.note("inserted", driver.inserted().await);
    s.note("insert the same", driver.insert(&vendor.script.media).await);
    s.note("insert another", driver.insert("http://10.0.0.2/other.iso").await);
    s.note("eject", driver.eject().await);
    s.note("eject again", driver.eject().await);
    let bios = driver.bios().await.unwrap();
    s.note("firmware settings as they are", driver.set_bios(&bios).await);
    s.note("firmware settings", driver.set_bios(&vendor.script.bios).await);
    s.note("unknown firmware setting", driver.set_bios(&[("NoSuch".to_owned(), json!(1))].into()).await);
    s.note("pending firmware settings", driver.pending_bios().await);
    s.note("firmware", driver.firmware().await);
    let file = std::env::temp_dir().join(format!("steelyard-trees-{}.bin", std::process::id()));
    std::fs::write(&file, vec![b'f'; 1000]).unwrap();
    let url = Some("http://10.0.0.2/images/firmware.bin".to_owned());
    let image = UpdateImage { name: "firmware.bin".into(), file: Some(file.clone()), url };
    s.note("no update", driver.running_update().await);
    let update = driver.start_update(&component, &image).await;
    s.note("update", update.clone());
    s.note("running update", driver.running_update().await);
    s.note("progress", driver.update_progress(&update.unwrap_or_default()).await);
    s.note("update of a part that is not there", driver.start_update("NoSuch", &image).await);
    std::fs::remove_file(file).unwrap();
    let order = driver.boot_order().await;
    s.note("boot order", order.clone());
    if let Ok(order) = order {
        s.note("the other way round", driver.set_boot_order(&order.order.into_iter().rev().collect::<Vec<_>>()).await);
    }
    s.note("SNMP", driver.enable_snmp().await);
    s.note("syslog", driver.syslog("10.0.0.2:514").await);
    s.note("settings of the factory", driver.factory_reset().await);
    s.note("clear the log", driver.clear_log().await);
    s.note("log", driver.log().await);
    s.note("restart the BMC", driver.reset_bmc().await);
    json!({"vendor": name, "inventory": inventory, "sensors": format!("{sensors:?}"), "log": log, "steps": s.steps})
}

#[tokio::test]
async fn every_vendor_is_understood() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut files: Vec<_> = std::fs::read_dir(tests.join("trees")).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 6);
    let mut wrong = Vec::new();
    for file in files {
        let vendor: Vendor = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let expected = tests.join("expected").join(file.file_name().unwrap());
        let now = format!("{}\n", serde_json::to_string_pretty(&run(vendor).await).unwrap());
        if update {
            std::fs::write(expected, now).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != now {
            wrong.push(format!("{}:\n{now}", expected.display()));
        }
    }
    assert!(wrong.is_empty(), "other than expected:\n{}", wrong.join("\n"));
}
