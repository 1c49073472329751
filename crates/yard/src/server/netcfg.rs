//! Network configuration of an installed system: netplan version 2, as JSON or YAML.

use serde::{Deserialize, Serialize};
use serde_yaml_ng::Value;

use crate::topology::{Nic, mac_text};

/// A network interface of a running system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Iface {
    /// Name.
    pub name: String,
    /// Network ports below it; several for a bond.
    pub nics: Vec<usize>,
    /// VLAN tag on the wire.
    pub vlan: Option<u16>,
    /// MTU.
    pub mtu: u32,
    /// Addresses with prefix length.
    pub addresses: Vec<String>,
    /// Default gateway.
    pub gateway: Option<String>,
    /// Address by DHCP.
    pub dhcp: bool,
    /// Part of a bond: carries nothing itself.
    pub enslaved: bool,
}

/// Interfaces of a configuration, and what was wrong with it.
pub fn parse(text: &str, nics: &[Nic], names: &[&str]) -> (Vec<Iface>, Vec<String>) {
    let mut problems = Vec::new();
    let document: Value = match serde_yaml_ng::from_str(text) {
        Ok(document) => document,
        Err(error) => return (fallback(names), vec![format!("network-config is no YAML: {error}")]),
    };
    let root = document.get("network").unwrap_or(&document);
    if root.is_null() {
        return (fallback(names), vec!["network-config is empty: DHCP on the first port".into()]);
    }
    if root.get("version").and_then(Value::as_u64) != Some(2) {
        problems.push("network-config is not version 2".into());
    }
    let mut found: Vec<Iface> = Vec::new();
    for (key, entry) in entries(root, "ethernets") {
        let wanted = entry.get("match").and_then(|m| m.get("macaddress")).and_then(Value::as_str);
        let nic = match wanted {
            Some(mac) => nics.iter().position(|nic| mac_text(&nic.mac).eq_ignore_ascii_case(mac)),
            None => names.iter().take(nics.len()).position(|name| *name == key),
        };
        let Some(nic) = nic else {
            problems.push(format!("{key}: no network port matches"));
            continue;
        };
        let mut iface = addressing(&key, entry);
        iface.nics = vec![nic];
        if let Some(name) = entry.get("set-name").and_then(Value::as_str) {
            name.clone_into(&mut iface.name);
        }
        found.push(iface);
    }
    for (key, entry) in entries(root, "bonds") {
        let mut bond = addressing(&key, entry);
        for member in entry.get("interfaces").and_then(Value::as_sequence).into_iter().flatten() {
            let Some(name) = member.as_str() else { continue };
            match found.iter_mut().find(|iface| iface.name == name && iface.vlan.is_none()) {
                Some(iface) => {
                    iface.enslaved = true;
                    bond.nics.extend(&iface.nics);
                }
                None => problems.push(format!("{key}: no interface {name}")),
            }
        }
        if !bond.nics.is_empty() {
            found.push(bond);
        }
    }
    for (key, entry) in entries(root, "vlans") {
        let id = entry.get("id").and_then(Value::as_u64).filter(|id| (1..=4094).contains(id));
        let link = entry.get("link").and_then(Value::as_str).unwrap_or_default();
        let below =
            found.iter().find(|iface| iface.name == link && iface.vlan.is_none()).map(|iface| iface.nics.clone());
        match (id, below) {
            (Some(id), Some(nics)) => {
                found.push(Iface { nics, vlan: Some(id as u16), ..addressing(&key, entry) });
            }
            (None, _) => problems.push(format!("{key}: no VLAN id between 1 and 4094")),
            (_, None) => problems.push(format!("{key}: no interface {link}")),
        }
    }
    if found.is_empty() {
        problems.push("network-config names no interface of this machine".into());
    }
    (found, problems)
}

/// What cloud-init does without a configuration: DHCP on the first port.
pub fn fallback(names: &[&str]) -> Vec<Iface> {
    let name = names.first().copied().unwrap_or("eth0").to_owned();
    vec![Iface { name, nics: vec![0], mtu: 1500, dhcp: true, ..Iface::default() }]
}

fn entries<'v>(root: &'v Value, section: &str) -> Vec<(String, &'v Value)> {
    let mapping = root.get(section).and_then(Value::as_mapping);
    mapping.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str()?.to_owned(), value))).collect()
}

fn addressing(name: &str, entry: &Value) -> Iface {
    let default_route = entry.get("routes").and_then(Value::as_sequence).into_iter().flatten().find_map(|route| {
        let to = route.get("to").and_then(Value::as_str)?;
        matches!(to, "default" | "0.0.0.0/0").then(|| route.get("via").and_then(Value::as_str))?
    });
    Iface {
        name: name.to_owned(),
        mtu: entry.get("mtu").and_then(Value::as_u64).unwrap_or(1500) as u32,
        addresses: entry
            .get("addresses")
            .and_then(Value::as_sequence)
            .into_iter()
            .flatten()
            .filter_map(|address| address.as_str().map(str::to_owned))
            .collect(),
        gateway: default_route.or_else(|| entry.get("gateway4").and_then(Value::as_str)).map(str::to_owned),
        dhcp: entry.get("dhcp4").and_then(Value::as_bool).unwrap_or(false),
        ..Iface::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nics() -> Vec<Nic> {
        vec![Nic { mac: [2, 0, 0, 0, 0, 1], switch: 0, port: 1 }, Nic { mac: [2, 0, 0, 0, 0, 2], switch: 1, port: 1 }]
    }

    #[test]
    fn json_with_bond_and_vlan() {
        let text = r#"{"version": 2,
          "ethernets": {"nic0": {"match": {"macaddress": "02:00:00:00:00:01"}, "set-name": "nic0"},
                        "nic1": {"match": {"macaddress": "02:00:00:00:00:02"}, "set-name": "nic1"}},
          "bonds": {"bond0": {"interfaces": ["nic0", "nic1"], "addresses": ["10.0.1.10/24"],
                    "routes": [{"to": "default", "via": "10.0.1.1"}]}},
          "vlans": {"bond0.120": {"id": 120, "link": "bond0", "addresses": ["10.0.2.10/24"]}}}"#;
        let (found, problems) = parse(text, &nics(), &["eno1", "eno2"]);
        assert!(problems.is_empty(), "{problems:?}");
        assert!(found[0].enslaved && found[1].enslaved);
        assert_eq!((found[2].nics.clone(), found[2].gateway.as_deref()), (vec![0, 1], Some("10.0.1.1")));
        assert_eq!((found[3].vlan, found[3].nics.clone()), (Some(120), vec![0, 1]));
    }

    #[test]
    fn yaml_by_name_and_problems_in_words() {
        let text = "network:\n  version: 2\n  ethernets:\n    eno2:\n      addresses: [192.0.2.5/24]\n    eno9: {}\n  vlans:\n    x: {id: 9000, link: eno2}\n";
        let (found, problems) = parse(text, &nics(), &["eno1", "eno2"]);
        assert_eq!((found.len(), found[0].nics.clone()), (1, vec![1]));
        assert_eq!(problems.len(), 2, "{problems:?}");
        let (found, problems) = parse("{{nonsense", &nics(), &["eno1"]);
        assert!(found[0].dhcp && !problems.is_empty());
    }
}
