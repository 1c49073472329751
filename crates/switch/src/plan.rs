//! The difference between a switch and a patch, as ordered actions.

use std::collections::{BTreeMap, BTreeSet};

use model::switch::{PortState, PortVlans, SwitchPatch, SwitchState};

/// One change. The order of the variants is the order in which they are carried out: a VLAN is made before a port uses it, and removed
/// after the last port has left it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Make a VLAN.
    CreateVlan(u16),
    /// Set the membership of a port; without any VLAN it is taken out of the bridge.
    SetVlans {
        /// Port.
        port: String,
        /// VLAN of untagged frames.
        untagged: Option<u16>,
        /// VLANs with a tag.
        tagged: BTreeSet<u16>,
    },
    /// Set the MTU of a port, in bytes.
    SetMtu {
        /// Port.
        port: String,
        /// Bytes.
        mtu: u32,
    },
    /// Set the description of a port.
    SetDescription {
        /// Port.
        port: String,
        /// Text.
        description: String,
    },
    /// Switch a port on or off.
    SetAdmin {
        /// Port.
        port: String,
        /// On.
        up: bool,
    },
    /// Remove a VLAN.
    DeleteVlan(u16),
}

/// What has to be done so that `actual` satisfies `patch`; empty when it does. What the patch does not name is left alone, and a VLAN that
/// a port still uses is not removed.
pub fn plan(actual: &SwitchState, patch: &SwitchPatch) -> Vec<Action> {
    let nothing = PortState::default();
    let port = |name: &str| actual.ports.get(name).unwrap_or(&nothing);
    let mut members: BTreeMap<&str, PortVlans> = BTreeMap::new();
    for (name, intent) in &patch.ports {
        if let Some(vlans) = &intent.vlans {
            members.insert(name, vlans.clone());
        }
    }
    for (name, vlans) in &patch.trunks_add {
        members.entry(name).or_insert_with(|| port(name).vlans.clone()).tagged.extend(vlans);
    }
    for (name, vlans) in &patch.trunks_remove {
        members.entry(name).or_insert_with(|| port(name).vlans.clone()).tagged.retain(|v| !vlans.contains(v));
    }
    let mut actions: Vec<Action> = Vec::new();
    let mut needed: BTreeSet<u16> = patch.vlans_present.clone();
    for (name, vlans) in &mut members {
        // The untagged VLAN is not carried with a tag as well.
        if let Some(untagged) = vlans.untagged {
            vlans.tagged.remove(&untagged);
        }
        needed.extend(vlans.untagged);
        needed.extend(&vlans.tagged);
        // A port that carries nothing is no member of the bridge: a member without a list may carry every VLAN.
        let bridged = port(name).bridged || *vlans == PortVlans::default();
        if port(name).vlans != *vlans || !bridged {
            actions.push(Action::SetVlans {
                port: (*name).to_owned(),
                untagged: vlans.untagged,
                tagged: vlans.tagged.clone(),
            });
        }
    }
    for (name, intent) in &patch.ports {
        let now = port(name);
        if let Some(mtu) = intent.mtu.filter(|m| now.mtu != Some(*m)) {
            actions.push(Action::SetMtu { port: name.clone(), mtu });
        }
        if let Some(description) = intent.description.clone().filter(|d| now.description.as_deref().unwrap_or("") != d)
        {
            actions.push(Action::SetDescription { port: name.clone(), description });
        }
        if let Some(up) = intent.admin_up.filter(|u| now.admin_up != Some(*u)) {
            actions.push(Action::SetAdmin { port: name.clone(), up });
        }
    }
    actions.extend(needed.difference(&actual.vlans).map(|v| Action::CreateVlan(*v)));
    let after = |name: &str, now: &PortState| members.get(name).cloned().unwrap_or_else(|| now.vlans.clone());
    let used: BTreeSet<u16> = actual
        .ports
        .iter()
        .filter(|(_, p)| p.bridged)
        .flat_map(|(n, p)| {
            let v = after(n, p);
            v.tagged.into_iter().chain(v.untagged)
        })
        .collect();
    let gone =
        patch.vlans_absent.iter().filter(|v| actual.vlans.contains(v) && !needed.contains(v) && !used.contains(v));
    actions.extend(gone.map(|v| Action::DeleteVlan(*v)));
    actions.sort();
    actions
}

#[cfg(test)]
mod tests {
    use model::switch::PortIntent;
    use proptest::prelude::*;

    use super::*;

    /// What a switch does with actions: the reference for the properties below.
    fn carry_out(state: &SwitchState, actions: &[Action]) -> SwitchState {
        let mut s = state.clone();
        for action in actions {
            match action {
                Action::CreateVlan(v) => assert!(s.vlans.insert(*v), "made twice"),
                Action::DeleteVlan(v) => {
                    assert!(
                        s.ports
                            .values()
                            .all(|p| !p.bridged || p.vlans.untagged != Some(*v) && !p.vlans.tagged.contains(v)),
                        "still used"
                    );
                    assert!(s.vlans.remove(v));
                }
                Action::SetVlans { port, untagged, tagged } => {
                    assert!(untagged.iter().chain(tagged).all(|v| s.vlans.contains(v)), "not made before use");
                    let p = s.ports.entry(port.clone()).or_default();
                    p.bridged = untagged.is_some() || !tagged.is_empty();
                    p.vlans = PortVlans { untagged: *untagged, tagged: tagged.clone() };
                }
                Action::SetMtu { port, mtu } => s.ports.entry(port.clone()).or_default().mtu = Some(*mtu),
                Action::SetDescription { port, description } => {
                    s.ports.entry(port.clone()).or_default().description = Some(description.clone());
                }
                Action::SetAdmin { port, up } => s.ports.entry(port.clone()).or_default().admin_up = Some(*up),
            }
        }
        s
    }

    fn vlans() -> impl Strategy<Value = PortVlans> {
        (proptest::option::of(1u16..6), proptest::collection::btree_set(1u16..6, 0..3)).prop_map(
            |(untagged, mut tagged)| {
                if let Some(u) = untagged {
                    tagged.remove(&u);
                }
                PortVlans { untagged, tagged }
            },
        )
    }

    fn state() -> impl Strategy<Value = SwitchState> {
        proptest::collection::btree_map("swp[1-4]", vlans(), 0..4).prop_map(|ports| {
            let vlans = ports.values().flat_map(|p| p.tagged.iter().copied().chain(p.untagged)).collect();
            SwitchState {
                vlans,
                ports: ports
                    .into_iter()
                    .map(|(n, vlans)| (n, PortState { vlans, bridged: true, ..PortState::default() }))
                    .collect(),
            }
        })
    }

    fn patch() -> impl Strategy<Value = SwitchPatch> {
        let sets = || proptest::collection::btree_map("swp[1-6]", proptest::collection::btree_set(1u16..6, 0..3), 0..3);
        let ports = proptest::collection::btree_map(
            "swp[1-6]",
            (proptest::option::of(vlans()), proptest::option::of(1500u32..1503), proptest::option::of(any::<bool>())),
            0..3,
        );
        (
            proptest::collection::btree_set(1u16..6, 0..3),
            proptest::collection::btree_set(1u16..6, 0..3),
            sets(),
            sets(),
            ports,
        )
            .prop_map(|(vlans_present, vlans_absent, trunks_add, trunks_remove, ports)| SwitchPatch {
                vlans_present,
                vlans_absent,
                trunks_add,
                trunks_remove,
                ports: ports
                    .into_iter()
                    .map(|(n, (vlans, mtu, admin_up))| (n, PortIntent { vlans, mtu, admin_up, description: None }))
                    .collect(),
            })
    }

    proptest! {
        #[test]
        fn applied_once_is_applied(state in state(), patch in patch()) {
            // Adding and removing the same VLAN on a port at once is no intent.
            prop_assume!(patch.trunks_add.iter().all(|(p, v)| patch.trunks_remove.get(p).is_none_or(|r| r.is_disjoint(v))));
            let after = carry_out(&state, &plan(&state, &patch));
            prop_assert_eq!(plan(&after, &patch), vec![]);
            for (name, port) in &state.ports {
                let named = patch.ports.contains_key(name) || patch.trunks_add.contains_key(name) || patch.trunks_remove.contains_key(name);
                if !named {
                    prop_assert_eq!(&after.ports[name], port);
                }
            }
        }
    }

    #[test]
    fn a_vlan_is_made_first_and_removed_last() {
        let state = SwitchState {
            vlans: [100].into(),
            ports: [(
                "swp1".to_owned(),
                PortState {
                    vlans: PortVlans { untagged: Some(100), tagged: [].into() },
                    bridged: true,
                    ..PortState::default()
                },
            )]
            .into(),
        };
        let patch = SwitchPatch {
            vlans_absent: [100].into(),
            ports: [(
                "swp1".to_owned(),
                PortIntent {
                    vlans: Some(PortVlans { untagged: Some(7), tagged: [8].into() }),
                    ..PortIntent::default()
                },
            )]
            .into(),
            ..SwitchPatch::default()
        };
        let expected = [
            Action::CreateVlan(7),
            Action::CreateVlan(8),
            Action::SetVlans { port: "swp1".into(), untagged: Some(7), tagged: [8].into() },
            Action::DeleteVlan(100),
        ];
        assert_eq!(plan(&state, &patch), expected);
    }
}
