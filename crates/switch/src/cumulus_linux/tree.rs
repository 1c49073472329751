//! The configuration tree of NVUE: read into the neutral model, and changed by actions of it.

use std::collections::BTreeSet;

use model::switch::{LldpNeighbor, PortState, PortVlans, SwitchState};
use serde_json::{Map, Value, json};

use super::BRIDGE;
use crate::Action;

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
pub(super) fn read(configured: &Value, seen: &Value, vlans: &Value) -> SwitchState {
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
pub(super) fn speed(text: &str) -> Option<u32> {
    let (number, unit) = text.split_at(text.len().checked_sub(1).filter(|i| text.is_char_boundary(*i))?);
    let n: u32 = number.parse().ok()?;
    match unit {
        "G" => n.checked_mul(1000),
        "M" => Some(n),
        _ => None,
    }
}

/// One patch document for all actions: NVUE applies a revision as a whole, so their order is its own. A `null` removes.
pub(super) fn change(before: &SwitchState, actions: &[Action]) -> Value {
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
