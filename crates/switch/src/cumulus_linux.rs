//! NVIDIA Cumulus Linux 5 over its NVUE REST interface (`/nvue_v1`, port 8765, HTTP basic authentication).
//!
//! A change is a revision: `POST /revision`, `PATCH /?rev=…` with the difference, `PATCH /revision/…` with `state: apply`, and a wait for
//! `applied`. A revision that fails is left behind unapplied: the running configuration stays as it was. Source: NVIDIA Cumulus Linux User
//! Guide, "NVUE API".

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use model::switch::{LldpNeighbor, PortState, PortVlans, SwitchFacts, SwitchPatch, SwitchState};
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::{Access, Action, Applied, SwitchDriver, SwitchError, plan};

/// Port of the NVUE REST interface.
const PORT: u16 = 8765;
/// The bridge that ports are members of.
const BRIDGE: &str = "br_default";
/// Longest wait for a revision to be applied.
const APPLY: Duration = Duration::from_mins(2);

/// One switch.
pub struct CumulusLinux {
    http: reqwest::Client,
    base: String,
    access: Access,
}

impl CumulusLinux {
    /// A driver over HTTPS. Switches have certificates of their own making, so these are not checked against any authority.
    pub fn new(access: Access) -> Result<Self, SwitchError> {
        let base = format!("https://{}:{}/nvue_v1", access.address, access.port.unwrap_or(PORT));
        Self::at(base, access)
    }

    fn at(base: String, access: Access) -> Result<Self, SwitchError> {
        let http = reqwest::Client::builder()
            .danger_accept_invalid_certs(true)
            .timeout(access.timeout)
            .build()
            .map_err(|e| SwitchError::Unreachable { address: access.address.clone(), cause: e.to_string() })?;
        Ok(Self { http, base, access })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), SwitchError> {
        let address = self.access.address.clone();
        let query: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let url = format!("{}{path}{}{query}", self.base, if query.is_empty() { "" } else { "?" });
        let mut request =
            self.http.request(method.clone(), url).basic_auth(&self.access.username, Some(&self.access.password.0));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request
            .send()
            .await
            .map_err(|e| SwitchError::Unreachable { address: address.clone(), cause: e.without_url().to_string() })?;
        let status = answer.status();
        let text = answer
            .text()
            .await
            .map_err(|e| SwitchError::Unreachable { address: address.clone(), cause: e.without_url().to_string() })?;
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(SwitchError::Unauthorized(address));
        }
        let odd = || SwitchError::Odd {
            address: address.clone(),
            request: format!("{method} {path}"),
            answer: format!("{status} {}", text.chars().take(200).collect::<String>()),
        };
        if status.is_server_error() {
            return Err(odd());
        }
        let value =
            if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text).map_err(|_| odd())? };
        Ok((status, value))
    }

    /// A part of the configuration or state; `null` where the switch has none.
    async fn get(&self, path: &str, rev: &str) -> Result<Value, SwitchError> {
        match self.call(Method::GET, path, &[("rev", rev)], None).await? {
            (StatusCode::NOT_FOUND, _) => Ok(Value::Null),
            (status, value) if status.is_success() => Ok(value),
            (status, value) => Err(self.refused(status, &value)),
        }
    }

    fn refused(&self, status: StatusCode, value: &Value) -> SwitchError {
        let said = ["detail", "title", "message"]
            .iter()
            .find_map(|k| value.get(k).and_then(Value::as_str))
            .map_or_else(|| value.to_string(), str::to_owned);
        SwitchError::Refused { address: self.access.address.clone(), reason: format!("{said} ({status})") }
    }

    async fn commit(&self, change: &Value) -> Result<(), SwitchError> {
        let (status, made) = self.call(Method::POST, "/revision", &[], None).await?;
        let revision = made
            .as_object()
            .and_then(|m| m.keys().next())
            .cloned()
            .filter(|_| status.is_success())
            .ok_or_else(|| self.refused(status, &made))?;
        let (status, answer) = self.call(Method::PATCH, "/", &[("rev", &revision)], Some(change)).await?;
        if !status.is_success() {
            return Err(self.refused(status, &answer));
        }
        let path =
            format!("/revision/{}", url::form_urlencoded::byte_serialize(revision.as_bytes()).collect::<String>());
        let apply = json!({"state": "apply", "auto-prompt": {"ays": "ays_yes", "ignore_fail": "ignore_fail_no"}});
        let (status, answer) = self.call(Method::PATCH, &path, &[], Some(&apply)).await?;
        if !status.is_success() {
            return Err(self.refused(status, &answer));
        }
        let end = tokio::time::Instant::now() + APPLY;
        let mut pause = Duration::from_millis(100);
        loop {
            let (_, state) = self.call(Method::GET, &path, &[], None).await?;
            let word = state.get("state").and_then(Value::as_str).unwrap_or("");
            match word {
                "applied" | "applied_and_saved" => return Ok(()),
                "invalid" | "ays_fail" | "apply_fail" | "failed" | "ignore_fail" => {
                    let why = state
                        .pointer("/transition/issue")
                        .filter(|i| !i.is_null())
                        .map_or_else(|| word.to_owned(), |i| format!("{word}: {i}"));
                    return Err(SwitchError::Refused { address: self.access.address.clone(), reason: why });
                }
                _ if tokio::time::Instant::now() > end => {
                    return Err(SwitchError::Refused {
                        address: self.access.address.clone(),
                        reason: format!("revision {revision} is still {word:?} after {} s", APPLY.as_secs()),
                    });
                }
                _ => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }
}

#[async_trait]
impl SwitchDriver for CumulusLinux {
    async fn facts(&self) -> Result<SwitchFacts, SwitchError> {
        let (system, platform) =
            (self.get("/system", "operational").await?, self.get("/platform", "operational").await?);
        let text = |v: &Value, p: &str| v.pointer(p).and_then(Value::as_str).map(str::to_owned);
        Ok(SwitchFacts {
            hostname: text(&system, "/hostname").unwrap_or_default(),
            os_version: text(&system, "/product-release")
                .or_else(|| text(&system, "/version/image"))
                .or_else(|| text(&system, "/build")),
            serial: text(&platform, "/serial-number").or_else(|| text(&platform, "/hardware/serial-number")),
            model: text(&platform, "/product-name").or_else(|| text(&platform, "/hardware/model")),
            mac: text(&platform, "/system-mac").or_else(|| text(&platform, "/hardware/system-mac")),
        })
    }

    async fn state(&self) -> Result<SwitchState, SwitchError> {
        let configured = self.get("/interface", "applied").await?;
        let seen = self.get("/interface", "operational").await?;
        let vlans = self.get(&format!("/bridge/domain/{BRIDGE}/vlan"), "applied").await?;
        Ok(read(&configured, &seen, &vlans))
    }

    async fn apply(&self, patch: &SwitchPatch) -> Result<Applied, SwitchError> {
        let before = self.state().await?;
        let actions = plan(&before, patch);
        if actions.is_empty() {
            return Ok(Applied::default());
        }
        self.commit(&change(&before, &actions)).await?;
        let left = plan(&self.state().await?, patch);
        if left.is_empty() {
            Ok(Applied { actions })
        } else {
            Err(SwitchError::NotEffective { address: self.access.address.clone(), missing: format!("{left:?}") })
        }
    }
}

/// VLAN ids of an object keyed by id or range, `{"10": {}, "20-22": {}}`.
fn vlan_set(v: &Value) -> BTreeSet<u16> {
    let mut set = BTreeSet::new();
    for key in v.as_object().into_iter().flat_map(Map::keys) {
        for part in key.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
                set.extend(first..=last.min(4094));
            }
        }
    }
    set
}

/// The neutral state from what the switch says.
fn read(configured: &Value, seen: &Value, vlans: &Value) -> SwitchState {
    let mut state = SwitchState { vlans: vlan_set(vlans), ..SwitchState::default() };
    let names: BTreeSet<&String> = [configured, seen]
        .into_iter()
        .filter_map(Value::as_object)
        .flat_map(Map::keys)
        .filter(|n| n.starts_with("swp"))
        .collect();
    for name in names {
        let (c, s) = (&configured[name], &seen[name]);
        let number = |v: &Value| v.as_u64().or_else(|| v.as_str().and_then(|t| t.parse().ok()));
        let bridge = c.pointer(&format!("/bridge/domain/{BRIDGE}"));
        let member = bridge.filter(|b| b.is_object());
        let vlans = member.map_or_else(PortVlans::default, |b| match number(&b["access"]) {
            Some(access) => PortVlans { untagged: u16::try_from(access).ok(), tagged: BTreeSet::new() },
            None => {
                // A trunk without a list carries every VLAN of the bridge, and untagged frames in VLAN 1 unless it says otherwise.
                let untagged = match &b["untagged"] {
                    Value::Null => Some(1),
                    said => number(said).and_then(|u| u16::try_from(u).ok()),
                };
                let listed = b["vlan"].as_object().filter(|l| !l.is_empty() && !l.contains_key("all"));
                let mut tagged = if listed.is_some() { vlan_set(&b["vlan"]) } else { state.vlans.clone() };
                tagged.retain(|v| Some(*v) != untagged);
                PortVlans { untagged, tagged }
            }
        });
        let up = |v: &Value| {
            v.pointer("/link/state")
                .and_then(|s| s.as_object().map(|m| m.contains_key("up")).or_else(|| s.as_str().map(|t| t == "up")))
        };
        let text = |v: &Value, p: &str| v.pointer(p).and_then(Value::as_str).map(str::to_owned);
        let neighbour = s.pointer("/lldp/neighbor").and_then(Value::as_object).and_then(|m| m.iter().next());
        state.ports.insert(
            name.clone(),
            PortState {
                vlans,
                bridged: member.is_some(),
                mtu: c
                    .pointer("/link/mtu")
                    .or_else(|| s.pointer("/link/mtu"))
                    .and_then(number)
                    .and_then(|m| u32::try_from(m).ok()),
                admin_up: up(c).or(Some(true)),
                oper_up: s.pointer("/link/oper-status").and_then(Value::as_str).map(|t| t == "up").or_else(|| up(s)),
                speed_mbps: text(s, "/link/speed").and_then(|t| speed(&t)),
                mac: text(s, "/link/mac").or_else(|| text(s, "/link/mac-address")),
                description: text(c, "/description").or_else(|| text(c, "/link/description")),
                lldp: neighbour.map(|(host, n)| LldpNeighbor {
                    chassis: text(n, "/chassis/chassis-id").unwrap_or_default(),
                    system_name: text(n, "/chassis/system-name").unwrap_or_else(|| host.clone()),
                    port: text(n, "/port/name").or_else(|| text(n, "/port/description")).unwrap_or_default(),
                }),
            },
        );
    }
    state
}

/// `25G` or `1000M` in Mbit/s.
fn speed(text: &str) -> Option<u32> {
    let (number, unit) = text.split_at(text.len().checked_sub(1).filter(|i| text.is_char_boundary(*i))?);
    let n: u32 = number.parse().ok()?;
    match unit {
        "G" => n.checked_mul(1000),
        "M" => Some(n),
        _ => None,
    }
}

/// One patch document for all actions: NVUE applies a revision as a whole, so their order is its own. A `null` removes.
fn change(before: &SwitchState, actions: &[Action]) -> Value {
    let mut root = json!({});
    for action in actions {
        match action {
            Action::CreateVlan(v) => set(&mut root, &["bridge", "domain", BRIDGE, "vlan", &v.to_string()], json!({})),
            Action::DeleteVlan(v) => set(&mut root, &["bridge", "domain", BRIDGE, "vlan", &v.to_string()], Value::Null),
            Action::SetMtu { port, mtu } => set(&mut root, &["interface", port, "link", "mtu"], (*mtu).into()),
            Action::SetDescription { port, description } => {
                set(&mut root, &["interface", port, "description"], description.clone().into());
            }
            Action::SetAdmin { port, up } => {
                let (on, off) = if *up { ("up", "down") } else { ("down", "up") };
                set(&mut root, &["interface", port, "link", "state"], json!({on: {}, off: null}));
            }
            Action::SetVlans { port, untagged, tagged } => {
                let old = before.ports.get(port).map(|p| p.vlans.clone()).unwrap_or_default();
                let body = match (untagged, tagged.is_empty()) {
                    (None, true) => Value::Null,
                    // NVUE knows two kinds of port: an access port, and a trunk with a list and perhaps an untagged VLAN.
                    (Some(access), true) => json!({"access": access, "untagged": null, "vlan": null}),
                    _ => {
                        let mut list = Map::new();
                        list.insert("all".to_owned(), Value::Null);
                        list.extend(old.tagged.iter().chain(&old.untagged).map(|v| (v.to_string(), Value::Null)));
                        list.extend(tagged.iter().chain(untagged).map(|v| (v.to_string(), json!({}))));
                        json!({"access": null, "untagged": untagged.map_or_else(|| json!("none"), |u| json!(u)), "vlan": list})
                    }
                };
                set(&mut root, &["interface", port, "bridge", "domain", BRIDGE], body);
            }
        }
    }
    root
}

fn set(root: &mut Value, path: &[&str], value: Value) {
    let mut at = root;
    for part in path {
        if !at.is_object() {
            *at = json!({});
        }
        let Value::Object(map) = at else { return };
        at = map.entry(*part).or_insert(Value::Null);
    }
    *at = value;
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{Arc, Mutex},
    };

    use model::{secret::Clear, switch::PortIntent};
    use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers::any};

    use super::*;

    /// A switch as NVUE shows it: an applied document, revisions, and merge-patch with `null` as removal.
    #[derive(Clone)]
    struct Nvue(Arc<Mutex<(Value, BTreeMap<String, Value>)>>);

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

    impl Respond for Nvue {
        fn respond(&self, request: &Request) -> ResponseTemplate {
            assert_eq!(request.headers["authorization"], "Basic Y3VtdWx1czpzZWNyZXQ=");
            let mut s = self.0.lock().unwrap();
            let path = request.url.path().trim_start_matches("/nvue_v1").to_owned();
            let rev = request.url.query_pairs().find(|(k, _)| k == "rev").map(|(_, v)| v.into_owned());
            let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
            let ok = |v: Value| ResponseTemplate::new(200).set_body_json(v);
            match (request.method.as_str(), path.as_str()) {
                ("POST", "/revision") => {
                    let id = format!("changeset/cumulus/{}", s.1.len());
                    s.1.insert(id.clone(), json!({"state": "pending"}));
                    ok(json!({id: {"state": "pending"}}))
                }
                ("PATCH", "/") => {
                    s.1.get_mut(&rev.unwrap()).unwrap()["patch"] = body;
                    ok(json!({}))
                }
                (method, p) if p.starts_with("/revision/") => {
                    let id = p.trim_start_matches("/revision/").replace("%2F", "/");
                    if method == "PATCH" {
                        let patch = s.1[&id]["patch"].clone();
                        let bad = patch.to_string().contains("\"4095\"");
                        if !bad {
                            merge(&mut s.0, &patch);
                        }
                        s.1.get_mut(&id).unwrap()["state"] = if bad { "invalid" } else { "applied" }.into();
                    }
                    ok(
                        json!({"state": s.1[&id]["state"], "transition": {"issue": {"0": {"message": "vlan out of range"}}}}),
                    )
                }
                ("GET", p) => {
                    s.0.pointer(p)
                        .map_or_else(|| ResponseTemplate::new(404).set_body_json(json!({})), |v| ok(v.clone()))
                }
                _ => ResponseTemplate::new(405),
            }
        }
    }

    async fn rig() -> (MockServer, Nvue, CumulusLinux) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let start = json!({
            "system": {"hostname": "leaf1", "product-release": "5.9.1"}, "platform": {"serial-number": "MT1"},
            "interface": {"swp1": {"type": "swp", "bridge": {"domain": {BRIDGE: {"access": 100}}}}, "swp49": {"type": "swp", "bridge": {"domain": {BRIDGE: {"untagged": "none", "vlan": {"100": {}}}}}}, "eth0": {}},
            "bridge": {"domain": {BRIDGE: {"vlan": {"100": {}}}}},
        });
        let nvue = Nvue(Arc::new(Mutex::new((start, BTreeMap::new()))));
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(nvue.clone()).mount(&server).await;
        let access = Access {
            address: "leaf1".into(),
            port: None,
            username: "cumulus".into(),
            password: Clear("secret".into()),
            timeout: Duration::from_secs(5),
        };
        let driver = CumulusLinux::at(format!("{}/nvue_v1", server.uri()), access).unwrap();
        (server, nvue, driver)
    }

    #[tokio::test]
    async fn a_server_moves_from_provisioning_to_its_networks_and_back() {
        let (_server, nvue, driver) = rig().await;
        assert_eq!(driver.facts().await.unwrap().hostname, "leaf1");
        let to = |untagged: u16, tagged: &[u16], absent: &[u16]| SwitchPatch {
            vlans_absent: absent.iter().copied().collect(),
            ports: [(
                "swp1".to_owned(),
                PortIntent {
                    vlans: Some(PortVlans { untagged: Some(untagged), tagged: tagged.iter().copied().collect() }),
                    mtu: Some(9000),
                    ..PortIntent::default()
                },
            )]
            .into(),
            trunks_add: [("swp49".to_owned(), [200].into())].into(),
            ..SwitchPatch::default()
        };
        let tenant = to(200, &[300], &[]);
        assert!(!driver.apply(&tenant).await.unwrap().actions.is_empty());
        assert_eq!(driver.apply(&tenant).await.unwrap(), Applied::default(), "the second time there is nothing to do");
        let port = nvue.0.lock().unwrap().0["interface"]["swp1"].clone();
        assert_eq!(port["bridge"]["domain"][BRIDGE], json!({"untagged": 200, "vlan": {"200": {}, "300": {}}}));
        driver.apply(&to(100, &[], &[300])).await.unwrap();
        let state = driver.state().await.unwrap();
        assert_eq!(state.vlans, [100, 200].into());
        assert_eq!(state.ports["swp1"].vlans, PortVlans { untagged: Some(100), tagged: [].into() });
        assert!(!state.ports.contains_key("eth0"), "the management port is not ours");
    }

    #[tokio::test]
    async fn a_port_without_vlans_leaves_the_bridge() {
        let (_server, nvue, driver) = rig().await;
        let nothing = SwitchPatch {
            ports: [("swp1".to_owned(), PortIntent { vlans: Some(PortVlans::default()), ..PortIntent::default() })]
                .into(),
            ..SwitchPatch::default()
        };
        driver.apply(&nothing).await.unwrap();
        assert_eq!(nvue.0.lock().unwrap().0["interface"]["swp1"]["bridge"]["domain"], json!({}));
        assert_eq!(driver.apply(&nothing).await.unwrap(), Applied::default());
    }

    #[test]
    fn a_trunk_without_a_list_carries_everything() {
        let trunk = json!({"swp1": {"bridge": {"domain": {BRIDGE: {}}}}, "swp2": {"bridge": {"domain": {BRIDGE: {"untagged": "none", "vlan": {"all": {}}}}}}});
        let state = read(&trunk, &Value::Null, &json!({"1": {}, "10": {}}));
        assert_eq!(state.ports["swp1"].vlans, PortVlans { untagged: Some(1), tagged: [10].into() });
        assert_eq!(state.ports["swp2"].vlans, PortVlans { untagged: None, tagged: [1, 10].into() });
    }

    #[tokio::test]
    async fn a_refused_revision_changes_nothing_and_says_why() {
        let (_server, nvue, driver) = rig().await;
        let before = nvue.0.lock().unwrap().0.clone();
        let error =
            driver.apply(&SwitchPatch { vlans_present: [4095].into(), ..SwitchPatch::default() }).await.unwrap_err();
        assert!(error.to_string().contains("vlan out of range"), "{error}");
        assert_eq!(nvue.0.lock().unwrap().0, before);
    }

    #[test]
    fn odd_answers_are_read_as_far_as_they_go() {
        let state = read(
            &json!({"swp1": {"bridge": {"domain": {BRIDGE: {"access": "12"}}}}, "swp2": 5}),
            &Value::Null,
            &json!({"10-12": {}, "x": {}}),
        );
        assert_eq!(state.vlans, [10, 11, 12].into());
        assert_eq!(state.ports["swp1"].vlans.untagged, Some(12));
        assert!(!state.ports["swp2"].bridged);
        assert_eq!((speed("25G"), speed("1000M"), speed(""), speed("é")), (Some(25000), Some(1000), None, None));
    }
}
