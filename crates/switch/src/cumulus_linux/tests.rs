//! The driver against a switch that behaves, and the reading of odd answers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use model::{
    secret::Clear,
    switch::{PortIntent, PortVlans},
};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers::any};

use super::{tree::speed, *};

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
                s.0.pointer(p).map_or_else(|| ResponseTemplate::new(404).set_body_json(json!({})), |v| ok(v.clone()))
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
        tls_fingerprint: None,
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
        ports: [("swp1".to_owned(), PortIntent { vlans: Some(PortVlans::default()), ..PortIntent::default() })].into(),
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
