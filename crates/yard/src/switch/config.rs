//! The configuration tree: merge patches, validation, and what it means for the ports.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::dataplane::PortView;

/// A problem of a configuration, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Path in the tree.
    pub location: String,
    /// What is wrong.
    pub message: String,
}

fn issue(location: impl Into<String>, message: impl Into<String>) -> Issue {
    Issue { location: location.into(), message: message.into() }
}

/// Merges a patch into a tree: objects merge, `null` deletes, everything else replaces.
pub fn merge(target: &mut Value, patch: &Value) {
    match patch {
        Value::Object(entries) => {
            if !target.is_object() {
                *target = Value::Object(Map::new());
            }
            if let Value::Object(object) = target {
                for (key, value) in entries {
                    if value.is_null() {
                        object.remove(key);
                    } else {
                        merge(object.entry(key.clone()).or_insert(Value::Null), value);
                    }
                }
            }
        }
        other => *target = other.clone(),
    }
}

/// Merges a patch at the root as NVUE does: `link.state` is a choice, so `down` replaces `up`.
pub fn apply(tree: &mut Value, patch: &Value) {
    merge(tree, patch);
    for (name, interface) in patch.get("interface").and_then(Value::as_object).into_iter().flatten() {
        let chosen = interface.pointer("/link/state").and_then(Value::as_object);
        let Some((word, value)) = chosen.and_then(|state| state.iter().find(|(_, value)| !value.is_null())) else {
            continue;
        };
        if let Some(state) = tree.pointer_mut(&format!("/interface/{name}/link/state")) {
            *state = Value::Object(Map::from_iter([(word.clone(), value.clone())]));
        }
    }
}

/// A patch at a path as a patch at the root.
pub fn at_path(path: &[String], patch: Value) -> Value {
    path.iter().rev().fold(patch, |inner, key| Value::Object(Map::from_iter([(key.clone(), inner)])))
}

/// The value at a path.
pub fn get<'v>(tree: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(tree, |value, key| value.get(key))
}

/// Leaves that a patch touches, as paths.
pub fn touched(patch: &Value, prefix: &str, into: &mut BTreeSet<String>) {
    match patch {
        Value::Object(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                touched(value, &format!("{prefix}/{key}"), into);
            }
        }
        _ => {
            into.insert(prefix.to_owned());
        }
    }
}

/// Whether one path is the other or lies in it.
pub fn overlaps(a: &str, b: &str) -> bool {
    let inside = |outer: &str, inner: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    inside(a, b) || inside(b, a)
}

/// Numbers of a VLAN set: keys such as `10` and `20-29`; `None` for anything else.
fn vlan_key(key: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|id| (1..=4094).contains(id));
    match key.split_once('-') {
        Some((low, high)) => {
            let (low, high) = (number(low)?, number(high)?);
            (low <= high).then_some(low..=high)
        }
        None => number(key).map(|id| id..=id),
    }
}

fn vlan_set(value: Option<&Value>) -> BTreeSet<u16> {
    value.and_then(Value::as_object).into_iter().flatten().filter_map(|(key, _)| vlan_key(key)).flatten().collect()
}

/// A number, also as text: NVUE takes both.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// Number of a front port.
pub fn port_number(name: &str) -> Option<usize> {
    name.strip_prefix("swp")?.parse().ok()
}

/// How every port forwards under a configuration.
pub fn port_views(config: &Value, ports: usize) -> Vec<PortView> {
    let bridges: BTreeMap<&str, (BTreeSet<u16>, u16)> = config
        .pointer("/bridge/domain")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, bridge)| {
            let native = bridge.get("untagged").and_then(number).map_or(1, |id| id as u16);
            (name.as_str(), (vlan_set(bridge.get("vlan")), native))
        })
        .collect();
    let mut views = vec![PortView::default(); ports + 1];
    let interfaces = config.get("interface").and_then(Value::as_object);
    for (name, interface) in interfaces.into_iter().flatten() {
        let Some(view) = port_number(name).and_then(|port| views.get_mut(port)) else { continue };
        view.up = match interface.pointer("/link/state") {
            Some(Value::Object(state)) => !state.contains_key("down"),
            Some(Value::String(state)) => state != "down",
            _ => true,
        };
        let domains = interface.pointer("/bridge/domain").and_then(Value::as_object);
        for (domain, port) in domains.into_iter().flatten() {
            let Some((all, native)) = bridges.get(domain.as_str()) else { continue };
            if let Some(access) = port.get("access").and_then(number) {
                view.untagged = Some(access as u16);
                continue;
            }
            view.untagged = match port.get("untagged") {
                Some(Value::String(none)) if none == "none" => None,
                Some(value) => number(value).map(|id| id as u16),
                None => Some(*native),
            };
            let set = port.get("vlan").and_then(Value::as_object);
            view.tagged = match set {
                Some(set) if !set.is_empty() && !set.contains_key("all") => vlan_set(port.get("vlan")),
                _ => all.clone(),
            };
            if let Some(untagged) = view.untagged {
                view.tagged.remove(&untagged);
            }
        }
    }
    views
}

/// What is wrong with a patch by itself: types and names that the schema does not know. NVUE refuses such a request.
pub fn check_schema(patch: &Value) -> Result<(), Issue> {
    let Some(root) = patch.as_object() else {
        return Err(issue("/", "body must be an object"));
    };
    const ROOTS: [&str; 14] = [
        "acl",
        "bridge",
        "evpn",
        "interface",
        "mlag",
        "nve",
        "platform",
        "qos",
        "router",
        "service",
        "system",
        "vrf",
        "maintenance",
        "cluster",
    ];
    for (key, value) in root {
        if !ROOTS.contains(&key.as_str()) {
            return Err(issue(format!("/{key}"), format!("'{key}' is not a known object")));
        }
        if !value.is_object() && !value.is_null() {
            return Err(issue(format!("/{key}"), format!("'{key}' must be an object")));
        }
    }
    let empty = Map::new();
    let object = |value: Option<&Value>, place: &str| -> Result<Map<String, Value>, Issue> {
        match value {
            None | Some(Value::Null) => Ok(empty.clone()),
            Some(Value::Object(object)) => Ok(object.clone()),
            Some(_) => Err(issue(place, "must be an object")),
        }
    };
    let vlans = |value: Option<&Value>, place: &str, words: &[&str]| -> Result<(), Issue> {
        for key in object(value, place)?.keys() {
            if vlan_key(key).is_none() && !words.contains(&key.as_str()) {
                return Err(issue(
                    format!("{place}/{key}"),
                    format!("'{key}' is not a VLAN; it must be between 1 and 4094"),
                ));
            }
        }
        Ok(())
    };
    let vlan_number = |value: Option<&Value>, place: &str, words: &[&str]| -> Result<(), Issue> {
        match value {
            None | Some(Value::Null) => Ok(()),
            Some(Value::String(word)) if words.contains(&word.as_str()) => Ok(()),
            Some(value) if number(value).is_some_and(|id| (1..=4094).contains(&id)) => Ok(()),
            Some(value) => Err(issue(place, format!("{value} is not a VLAN; it must be between 1 and 4094"))),
        }
    };
    let domains = object(root.get("bridge"), "/bridge")?;
    for (name, bridge) in object(domains.get("domain"), "/bridge/domain")? {
        let place = format!("/bridge/domain/{name}");
        let bridge = object(Some(&bridge), &place)?;
        vlans(bridge.get("vlan"), &format!("{place}/vlan"), &[])?;
        vlan_number(bridge.get("untagged"), &format!("{place}/untagged"), &["none"])?;
        if let Some(kind) = bridge.get("type")
            && !kind.is_null()
            && !matches!(kind.as_str(), Some("vlan-aware"))
        {
            return Err(issue(format!("{place}/type"), format!("{kind} is not one of ['vlan-aware']")));
        }
    }
    for (name, interface) in object(root.get("interface"), "/interface")? {
        let place = format!("/interface/{name}");
        if name.len() > 15 || name.is_empty() {
            return Err(issue(&place, format!("'{name}' is not an interface name")));
        }
        let interface = object(Some(&interface), &place)?;
        for key in interface.keys() {
            const KNOWN: [&str; 20] = [
                "type",
                "link",
                "bridge",
                "description",
                "ip",
                "bond",
                "lldp",
                "evpn",
                "acl",
                "ptp",
                "qos",
                "router",
                "vlan",
                "base-interface",
                "tunnel",
                "pluggable",
                "counters",
                "mirror",
                "rate-limit",
                "storm-control",
            ];
            if !KNOWN.contains(&key.as_str()) {
                return Err(issue(
                    format!("{place}/{key}"),
                    format!("'{key}' is not a known property of an interface"),
                ));
            }
        }
        for key in ["description", "type"] {
            if interface.get(key).is_some_and(|value| !value.is_string() && !value.is_null()) {
                return Err(issue(format!("{place}/{key}"), "must be a string"));
            }
        }
        let link = object(interface.get("link"), &format!("{place}/link"))?;
        if let Some(mtu) = link.get("mtu")
            && !mtu.is_null()
            && !number(mtu).is_some_and(|mtu| (552..=9216).contains(&mtu))
        {
            return Err(issue(format!("{place}/link/mtu"), format!("{mtu} is not between 552 and 9216")));
        }
        match link.get("state") {
            None | Some(Value::Null) => {}
            Some(Value::String(state)) if matches!(state.as_str(), "up" | "down") => {}
            Some(Value::Object(state)) if state.keys().all(|key| matches!(key.as_str(), "up" | "down")) => {}
            Some(other) => {
                return Err(issue(format!("{place}/link/state"), format!("{other} is not one of ['up', 'down']")));
            }
        }
        let bridge = object(interface.get("bridge"), &format!("{place}/bridge"))?;
        for (domain, port) in object(bridge.get("domain"), &format!("{place}/bridge/domain"))? {
            let place = format!("{place}/bridge/domain/{domain}");
            let port = object(Some(&port), &place)?;
            vlan_number(port.get("access"), &format!("{place}/access"), &[])?;
            vlan_number(port.get("untagged"), &format!("{place}/untagged"), &["none"])?;
            vlans(port.get("vlan"), &format!("{place}/vlan"), &["all"])?;
        }
    }
    Ok(())
}

/// What is wrong with a whole configuration: references and combinations. Found when a revision is applied.
pub fn check_whole(config: &Value, ports: usize) -> Vec<Issue> {
    let mut issues = Vec::new();
    let bridges = config.pointer("/bridge/domain").and_then(Value::as_object).cloned().unwrap_or_default();
    let interfaces = config.get("interface").and_then(Value::as_object);
    for (name, interface) in interfaces.into_iter().flatten() {
        let place = format!("interface.{name}");
        if let Some(port) = name.strip_prefix("swp") {
            let known = port.parse::<usize>().is_ok_and(|port| (1..=ports).contains(&port));
            if !known {
                issues.push(issue(&place, format!("{name} does not exist on this platform")));
                continue;
            }
        }
        let Some(domains) = interface.pointer("/bridge/domain").and_then(Value::as_object) else { continue };
        if domains.len() > 1 {
            issues.push(issue(format!("{place}.bridge.domain"), format!("{name} can be in one bridge domain only")));
        }
        for (domain, port) in domains {
            let place = format!("{place}.bridge.domain.{domain}");
            if !bridges.contains_key(domain) {
                issues.push(issue(&place, format!("bridge domain {domain} does not exist")));
            }
            if port.get("access").is_some() && (port.get("vlan").is_some() || port.get("untagged").is_some()) {
                issues.push(issue(&place, "'access' cannot be combined with 'vlan' or 'untagged'".to_owned()));
            }
        }
    }
    issues
}

/// Whether a change asks for "are you sure": it touches ports that carry traffic.
pub fn needs_confirmation(patch: &Value) -> bool {
    patch.get("interface").and_then(Value::as_object).into_iter().flatten().any(|(_, interface)| {
        interface.is_null()
            || interface.get("bridge").is_some_and(Value::is_null)
            || interface.pointer("/link/state").is_some()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merge_patches_delete_and_replace() {
        let mut tree = json!({"a": {"b": 1, "c": {}}, "d": 2});
        merge(&mut tree, &json!({"a": {"b": null, "e": {"f": {}}}, "d": 3}));
        assert_eq!(tree, json!({"a": {"c": {}, "e": {"f": {}}}, "d": 3}));
        assert_eq!(at_path(&["x".into(), "y".into()], json!(1)), json!({"x": {"y": 1}}));
    }

    #[test]
    fn ports_forward_as_configured() {
        let config = json!({
        "bridge": {"domain": {"br_default": {"vlan": {"10": {}, "20-22": {}}, "untagged": 1}}},
        "interface": {
            "swp1": {"bridge": {"domain": {"br_default": {"access": 10}}}},
            "swp2": {"bridge": {"domain": {"br_default": {}}}},
            "swp3": {"bridge": {"domain": {"br_default": {"untagged": "none", "vlan": {"21": {}}}}}},
            "swp4": {"link": {"state": {"down": {}}}, "bridge": {"domain": {"br_default": {"access": 10}}}},
            "swp5": {"bridge": {"domain": {"br_other": {"access": 10}}}},
        }});
        let views = port_views(&config, 5);
        assert_eq!((views[1].untagged, views[1].tagged.len()), (Some(10), 0));
        assert_eq!((views[2].untagged, views[2].tagged.len()), (Some(1), 4));
        assert_eq!((views[3].untagged, views[3].ingress(Some(21)), views[3].ingress(Some(10))), (None, Some(21), None));
        assert_eq!((views[4].up, views[4].ingress(None)), (false, None));
        assert_eq!(views[5].untagged, None);
    }

    #[test]
    fn bad_values_are_found_with_their_place() {
        for (patch, place) in [
            (json!({"interface": {"swp1": {"bridge": {"domain": {"br_default": {"access": 5000}}}}}}), "access"),
            (json!({"bridge": {"domain": {"br_default": {"vlan": {"0": {}}}}}}), "/vlan/0"),
            (json!({"interface": {"swp1": {"link": {"mtu": 100}}}}), "mtu"),
            (json!({"interface": {"swp1": {"colour": "red"}}}), "colour"),
            (json!({"interface": {"swp1": {"link": {"state": "sideways"}}}}), "state"),
            (json!({"interface": []}), "interface"),
            (json!({"interfaces": {}}), "interfaces"),
            (json!(7), "/"),
        ] {
            let found = check_schema(&patch).unwrap_err();
            assert!(found.location.contains(place), "{patch}: {found:?}");
        }
        let issues = check_whole(&json!({"interface": {"swp99": {}, "swp1": {"bridge": {"domain": {"x": {}}}}}}), 56);
        assert_eq!(issues.len(), 2, "{issues:?}");
    }
}
