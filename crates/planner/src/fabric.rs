//! What changes on switches because members of networks come and go.

use std::collections::{BTreeMap, BTreeSet};

use model::Id;

use crate::{
    input::{InstanceState, LogicalNetwork, PlanInput, PortBinding},
    plan::Work,
    problem::{Code, ObjectRef, PlanProblem},
    roster::{Action, Member},
    wiring::{Spread, Topology},
};

/// VLANs on switches: what comes and what goes.
#[derive(Default)]
pub(crate) struct FabricChange {
    /// By switch: VLANs to make, with trunk ports.
    pub add: BTreeMap<Id, BTreeMap<u16, BTreeSet<String>>>,
    /// Switches with members for it afterwards, by fabric and VLAN.
    pub members: BTreeMap<(Id, u16), BTreeSet<Id>>,
    /// By switch: VLANs that lose their last member there and go altogether, with the trunk ports that drop them.
    pub remove: BTreeMap<Id, BTreeMap<u16, BTreeSet<String>>>,
    /// By switch: trunk ports that drop a VLAN after the above, and whether the VLAN itself goes.
    pub untrunk: BTreeMap<Id, BTreeMap<u16, (BTreeSet<String>, bool)>>,
}

/// What an unfinished deploy may have left for instances that go: (switch, VLAN) by instance.
pub(crate) fn suspected(
    input: &PlanInput,
    members: &[Member],
    networks: &BTreeMap<Id, &LogicalNetwork>,
) -> BTreeMap<Id, BTreeSet<(Id, u16)>> {
    let mut result: BTreeMap<Id, BTreeSet<(Id, u16)>> = BTreeMap::new();
    for member in members.iter().filter(|m| m.action == Action::Delete && m.instance.deployed.is_none()) {
        let Some(server_id) = member.instance.reserved_server_id else { continue };
        let Some(group) = input.groups.iter().find(|g| g.id == member.instance.group_id) else { continue };
        let devices: BTreeSet<Id> = input
            .servers
            .iter()
            .filter(|s| s.id == server_id)
            .flat_map(|s| s.interfaces.iter().filter_map(|i| i.cable.as_ref()))
            .map(|c| c.device_id)
            .collect();
        let mut vlans = BTreeSet::new();
        for connection in &group.design.connections {
            let Some(network) = networks.get(&connection.logical_network_id) else { continue };
            let Some(vlan) = network.allocated.vlan else { continue };
            for device in &devices {
                if input.switches.iter().any(|s| s.id == *device && s.fabric_id == network.fabric_id) {
                    vlans.insert((*device, vlan));
                }
            }
        }
        result.insert(member.instance.id, vlans);
    }
    for member in members {
        for binding in member.instance.unfinished.iter().flat_map(|s| &s.ports) {
            let vlans = binding.vlans.tagged.iter().chain(binding.vlans.untagged.iter());
            result.entry(member.instance.id).or_default().extend(vlans.map(|v| (binding.device_id, *v)));
        }
    }
    result
}

/// VLANs that come and go, with the trunks that carry them.
pub(crate) fn change(work: &Work<'_>, problems: &mut Vec<PlanProblem>) -> FabricChange {
    type Where = BTreeMap<(Id, u16), BTreeSet<Id>>;
    let (mut before, mut after): (Where, Where) = (BTreeMap::new(), BTreeMap::new());
    // What may be there and must go, whether or not it is.
    let mut possible = Where::new();
    // `surely`: only what unfinished deploys would have left as it was.
    let collect = |into: &mut Where, state: &InstanceState, surely: &[InstanceState]| {
        for binding in &state.ports {
            let Some(switch) = work.switches.get(&binding.device_id) else { continue };
            for vlan in binding.vlans.tagged.iter().chain(binding.vlans.untagged.iter()) {
                if !surely.iter().all(|s| carries(s, binding, *vlan)) {
                    continue;
                }
                into.entry((switch.fabric_id, *vlan)).or_default().insert(binding.device_id);
            }
        }
    };
    for member in work.members {
        if let Some(state) = &member.instance.deployed {
            collect(&mut before, state, &member.instance.unfinished);
            collect(&mut possible, state, &[]);
        }
        if let Some(state) = work.after.get(&member.instance.id) {
            collect(&mut after, state, &[]);
        }
    }
    // Others stay on a network that we leave altogether.
    for network in work.input.networks.iter().filter(|n| !n.other_devices.is_empty()) {
        if let Some(vlan) = network.allocated.vlan {
            let key = (network.fabric_id, vlan);
            if before.contains_key(&key) || after.contains_key(&key) {
                before.entry(key).or_default().extend(&network.other_devices);
                after.entry(key).or_default().extend(&network.other_devices);
            }
        }
    }
    for (key, devices) in &before {
        possible.entry(*key).or_default().extend(devices);
    }
    for (device, vlan) in work.suspected.values().flatten() {
        if let Some(switch) = work.switches.get(device) {
            possible.entry((switch.fabric_id, *vlan)).or_default().insert(*device);
        }
    }
    let topology = Topology::new(work.input);
    let mut change = FabricChange::default();
    // The VLAN in which servers are provisioned is on the switches whoever boots over it.
    let quarantine: BTreeSet<(Id, u16)> =
        work.switches.values().filter_map(|s| Some((s.fabric_id, s.quarantine_vlan?))).collect();
    let keys: BTreeSet<(Id, u16)> =
        possible.keys().chain(after.keys()).copied().filter(|k| !quarantine.contains(k)).collect();
    for (fabric, vlan) in keys {
        let empty = BTreeSet::new();
        let (was, is) = (before.get(&(fabric, vlan)).unwrap_or(&empty), after.get(&(fabric, vlan)).unwrap_or(&empty));
        let maybe = possible.get(&(fabric, vlan)).unwrap_or(&empty);
        if was == is && maybe == is {
            continue;
        }
        let old: Spread = topology.spread(fabric, vlan, was).unwrap_or_default();
        let most: Spread = topology.spread(fabric, vlan, maybe).unwrap_or_default();
        let new: Spread = match topology.spread(fabric, vlan, is) {
            Ok(spread) => spread,
            Err(lost) => {
                for id in lost {
                    let name = work.switches.get(&id).map_or("?", |s| s.name.as_str());
                    problems.push(PlanProblem::error(
                        ObjectRef::new("network_device", id, name),
                        "links",
                        Code::FabricDisconnected,
                        format!("no known link leads from it to the other switches that carry VLAN {vlan}"),
                        "cable the switch to its fabric and discover it again",
                    ));
                }
                continue;
            }
        };
        for (device, ports) in &new {
            let had = old.get(device);
            let more: BTreeSet<String> =
                ports.iter().filter(|p| had.is_none_or(|h| !h.contains(*p))).cloned().collect();
            if had.is_none() || !more.is_empty() {
                change.add.entry(*device).or_default().insert(vlan, more);
            }
        }
        for (device, ports) in &most {
            let has = new.get(device);
            let fewer: BTreeSet<String> =
                ports.iter().filter(|p| has.is_none_or(|h| !h.contains(*p))).cloned().collect();
            if has.is_none() && maybe.contains(device) {
                change.remove.entry(*device).or_default().insert(vlan, fewer);
            } else if has.is_none() || !fewer.is_empty() {
                change.untrunk.entry(*device).or_default().insert(vlan, (fewer, has.is_none()));
            }
        }
        change.members.insert((fabric, vlan), is.clone());
    }
    change
}

/// Whether a port carries a VLAN in this state too.
fn carries(state: &InstanceState, binding: &PortBinding, vlan: u16) -> bool {
    let same = |p: &&PortBinding| p.device_id == binding.device_id && p.port == binding.port;
    let port = state.ports.iter().find(same);
    port.is_some_and(|p| p.vlans.untagged == Some(vlan) || p.vlans.tagged.contains(&vlan))
}

/// Servers that are given back or installed anew need the quarantine VLAN on their switches.
pub(crate) fn quarantine(work: &Work<'_>, problems: &mut Vec<PlanProblem>) {
    for member in work.members {
        let action = work.actions.get(&member.instance.id);
        if !matches!(action, Some(Action::Delete | Action::Reinstall)) {
            continue;
        }
        for binding in member.instance.deployed.iter().flat_map(|d| &d.ports) {
            let switch = work.switches.get(&binding.device_id);
            if switch.is_none_or(|s| s.quarantine_vlan.is_none()) {
                problems.push(PlanProblem::error(
                    ObjectRef::new("network_device", binding.device_id, switch.map_or("?", |s| s.name.as_str())),
                    "quarantine_vlan",
                    Code::QuarantineVlanMissing,
                    "has no quarantine VLAN, so servers on it cannot be cleaned or installed",
                    "set the quarantine VLAN of the switch",
                ));
            }
        }
    }
}
