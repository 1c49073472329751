//! Golden files: a running configuration and an intent, and what the driver makes of them: the actions, the requests that reach the switch,
//! and the configuration after it. `UPDATE_GOLDEN=1` writes what it sees; read the difference before it is committed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed preparation is a failed test")]

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use model::{secret::Clear, switch::SwitchPatch};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use switch::{Access, SwitchDriver, cumulus_linux::CumulusLinux};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers::any};

#[derive(Serialize, Deserialize)]
struct Golden {
    about: String,
    running: Value,
    intent: SwitchPatch,
    #[serde(default, skip_serializing_if = "Behaviour::is_plain")]
    behaviour: Behaviour,
    #[serde(default)]
    actions: Vec<String>,
    #[serde(default)]
    requests: Vec<Value>,
    /// The running configuration after it, when it has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The vices of a switch.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Behaviour {
    /// Refuses every configuration with these words.
    #[serde(skip_serializing_if = "Option::is_none")]
    refuse: Option<String>,
    /// Asks "are you sure" for ever.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    hang: bool,
    /// Falls silent when a revision is applied, until it has undone it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
    /// Knows no apply on trial.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_trial: bool,
    /// Asks "are you sure" once although it was told.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    asks: bool,
    /// Another revision is on trial at the first try.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    other_on_trial: bool,
}

impl Behaviour {
    fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// A switch as NVUE shows it: an applied document, revisions, and merge-patch with `null` as removal.
#[derive(Clone)]
struct Nvue(Arc<Mutex<State>>);

struct State {
    running: Value,
    before: Option<Value>,
    behaviour: Behaviour,
    revisions: BTreeMap<String, (String, Value)>,
    requests: Vec<Value>,
    silent: u32,
}

fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return into.clone_from(patch) };
    if !into.is_object() {
        *into = json!({});
    }
    for (k, v) in patch {
        if v.is_null() {
            into.as_object_mut().unwrap().remove(k);
        } else {
            merge(&mut into[k], v);
        }
    }
}

impl State {
    fn order(&mut self, id: &str, body: &Value) -> Result<(), Box<ResponseTemplate>> {
        let bad =
            |detail: &str| Box::new(ResponseTemplate::new(400).set_body_json(json!({"detail": detail, "status": 400})));
        let (state, patch) = self.revisions[id].clone();
        let sure = body.pointer("/auto-prompt/ays") == Some(&json!("ays_yes"));
        let trial = body.pointer("/state-controls/confirm").and_then(Value::as_u64);
        let next = match (body["state"].as_str().unwrap_or(""), state.as_str()) {
            ("apply", "pending") if trial.is_some() && self.behaviour.no_trial => {
                return Err(bad("'state-controls' is not allowed"));
            }
            ("apply", "pending") if self.behaviour.refuse.is_some() => "invalid",
            ("apply", "pending") if std::mem::take(&mut self.behaviour.other_on_trial) => "apply_fail",
            ("apply", "pending") if self.behaviour.hang || self.behaviour.asks => "ays",
            ("apply", "pending") if !sure => "ays_fail",
            ("apply", "pending") | ("ays_yes", "ays") if !self.behaviour.hang => {
                self.before = Some(self.running.clone());
                merge(&mut self.running, &patch);
                if self.behaviour.cut {
                    self.silent = 2;
                }
                if self.behaviour.no_trial { "applied" } else { "confirm" }
            }
            ("ays_yes", "ays") => "ays",
            ("ays_no", "ays") => "ays_fail",
            ("apply", "confirm") if trial.is_none() => "applied",
            (wanted, now) => return Err(bad(&format!("{wanted} of a revision that is {now}"))),
        };
        next.clone_into(&mut self.revisions.get_mut(id).unwrap().0);
        Ok(())
    }

    fn show(&self, id: &str) -> Value {
        let issue = match self.revisions[id].0.as_str() {
            "invalid" => {
                json!({"0": {"code": "config_invalid", "data": {"location": "bridge.domain"}, "message": self.behaviour.refuse, "severity": "error"}})
            }
            "apply_fail" => {
                json!({"0": {"code": "apply_pending", "data": {}, "message": "another revision waits for its confirmation"}})
            }
            _ => json!({}),
        };
        json!({"state": self.revisions[id].0, "transition": {"issue": issue, "progress": ""}})
    }
}

impl Respond for Nvue {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut s = self.0.lock().unwrap();
        let path = request.url.path().trim_start_matches("/nvue_v1").to_owned();
        if request.headers.get("authorization").is_none_or(|a| a != "Basic Y3VtdWx1czpzZWNyZXQ=") {
            return ResponseTemplate::new(401);
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        let rev = request.url.query_pairs().find(|(k, _)| k == "rev").map(|(_, v)| v.into_owned());
        let mut seen = json!({"method": request.method.as_str(), "path": path});
        if let Some(rev) = &rev {
            seen["rev"] = rev.clone().into();
        }
        if !body.is_null() {
            seen["body"] = body.clone();
        }
        // Questions and answers that repeat are as many as they are.
        let n = s.requests.len();
        if !s.requests[n.saturating_sub(2)..].contains(&seen) {
            s.requests.push(seen);
        }
        if s.silent > 0 {
            s.silent -= 1;
            if s.silent == 0 {
                // Nobody has confirmed: back to what it was.
                s.running = s.before.take().unwrap();
                for (state, _) in s.revisions.values_mut() {
                    *state = "confirm_fail".into();
                }
            }
            return ResponseTemplate::new(200).set_delay(Duration::from_secs(3));
        }
        let ok = |v: Value| ResponseTemplate::new(200).set_body_json(v);
        match (request.method.as_str(), path.as_str()) {
            ("POST", "/revision") => {
                let id = format!("changeset/cumulus/{}", s.revisions.len() + 1);
                s.revisions.insert(id.clone(), ("pending".into(), Value::Null));
                ok(json!({id: {"state": "pending"}}))
            }
            ("PATCH", "/") => {
                s.revisions.get_mut(&rev.unwrap()).unwrap().1 = body.clone();
                ok(body)
            }
            (method, p) if p.starts_with("/revision/") => {
                let id = p.trim_start_matches("/revision/").replace("%2F", "/");
                if method == "PATCH"
                    && let Err(refused) = s.order(&id, &body)
                {
                    return *refused;
                }
                ok(s.show(&id))
            }
            ("GET", p) => s
                .running
                .pointer(p)
                .map_or_else(|| ResponseTemplate::new(404).set_body_json(json!({})), |v| ok(v.clone())),
            _ => ResponseTemplate::new(405),
        }
    }
}

async fn run(golden: &Golden) -> Golden {
    let state = State {
        running: golden.running.clone(),
        before: None,
        behaviour: golden.behaviour.clone(),
        revisions: BTreeMap::new(),
        requests: Vec::new(),
        silent: 0,
    };
    let nvue = Nvue(Arc::new(Mutex::new(state)));
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(nvue.clone()).mount(&server).await;
    let access = Access {
        address: "leaf1".into(),
        port: None,
        username: "cumulus".into(),
        password: Clear("secret".into()),
        timeout: Duration::from_secs(1),
        tls_fingerprint: None,
    };
    let apply = Duration::from_secs(if golden.behaviour.hang { 1 } else { 20 });
    let driver = CumulusLinux::at(format!("{}/nvue_v1", server.uri()), access)
        .unwrap()
        .with_limits(apply, Duration::from_secs(2));
    let outcome = driver.apply(&golden.intent).await;
    let (requests, running) = {
        let s = nvue.0.lock().unwrap();
        (s.requests.clone(), s.running.clone())
    };
    if outcome.is_ok() {
        let again = driver.apply(&golden.intent).await.unwrap();
        assert!(again.actions.is_empty(), "the second time there is nothing to do");
    }
    Golden {
        about: golden.about.clone(),
        running: golden.running.clone(),
        intent: golden.intent.clone(),
        behaviour: golden.behaviour.clone(),
        actions: outcome.iter().flat_map(|a| &a.actions).map(|a| format!("{a:?}")).collect(),
        requests,
        after: Some(running).filter(|r| *r != golden.running),
        error: outcome.err().map(|e| e.to_string()),
    }
}

#[tokio::test]
async fn every_golden_file_holds() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 9, "{} golden files", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let golden: Golden = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let now = format!("{}\n", serde_json::to_string_pretty(&run(&golden).await).unwrap());
        if update {
            std::fs::write(&file, now).unwrap();
        } else if now != text {
            wrong.push(format!("{}:\n{now}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "other than the golden files:\n{}", wrong.join("\n"));
}
