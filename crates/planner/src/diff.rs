//! Design against deployed, object by object and field by field.

use std::collections::{BTreeMap, BTreeSet};

use model::{Id, deploy::DeployType};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    allocate::{goes, wanted},
    input::{Group, GroupConfig, InstanceState, LogicalNetwork, NetworkDesign, OutsidePort, PlanInput},
    plan::{InstancePlan, NetworkPlan},
    problem::ObjectRef,
    roster::{self, Action, Member},
    storage::{ElementConfig, ElementState, GIB, StorageElement, object_element},
    storage_jobs,
    storage_place::StoragePlan,
    validate::object_network,
};

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Made.
    Create,
    /// Changed.
    Edit,
    /// Removed.
    Delete,
}

/// One object that changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The object.
    pub object: ObjectRef,
    /// What is done to it.
    pub op: Op,
    /// Fields that differ.
    pub fields: Vec<FieldChange>,
}

/// One field that changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Name.
    pub field: String,
    /// Deployed value; `null`: none.
    pub before: Value,
    /// Designed value; `null`: none.
    pub after: Value,
}

/// What differs between design and deployed, without allocating anything: for badges and the designer's diff view.
pub fn diff(input: &PlanInput) -> Vec<Change> {
    let input = &input.normalised();
    let members = roster::roster(input, &mut Vec::new());
    changes(input, &members, None)
}

pub(crate) fn changes(
    input: &PlanInput,
    members: &[Member],
    planned: Option<(&[InstancePlan], &[NetworkPlan], &[StoragePlan])>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    let i = &input.infrastructure;
    let fields = fields(
        i.deployed_label.iter().map(|l| ("label", json!(l))).collect(),
        if i.deleted { BTreeMap::new() } else { BTreeMap::from([("label", json!(i.label))]) },
    );
    push(&mut changes, ObjectRef::new("infrastructure", i.id, &i.label), i.deployed_label.is_some(), i.deleted, fields);
    for network in networks(input) {
        network_change(&mut changes, input, network, planned.map(|p| p.1));
    }
    for group in &input.groups {
        group_change(&mut changes, input, group, members);
    }
    for element in &input.storage.elements {
        element_change(&mut changes, input, element, planned.map(|p| p.2));
    }
    let plans: Option<BTreeMap<Id, &InstancePlan>> = planned.map(|p| p.0.iter().map(|i| (i.id, i)).collect());
    for member in members {
        instance_change(&mut changes, member, plans.as_ref());
    }
    changes
}

fn networks(input: &PlanInput) -> Vec<&LogicalNetwork> {
    let used: BTreeSet<Id> =
        input.groups.iter().flat_map(|g| g.design.connections.iter().map(|c| c.logical_network_id)).collect();
    let wanted: BTreeSet<Id> = wanted(input, &used).iter().map(|n| n.id).collect();
    input.networks.iter().filter(|n| goes(input, n) || wanted.contains(&n.id)).collect()
}

/// Adds a change, unless nothing changes.
fn push(changes: &mut Vec<Change>, object: ObjectRef, existed: bool, goes: bool, fields: Vec<FieldChange>) {
    let op = match (existed, goes) {
        (_, true) => Op::Delete,
        (false, false) => Op::Create,
        (true, false) if fields.is_empty() => return,
        (true, false) => Op::Edit,
    };
    changes.push(Change { object, op, fields });
}

fn fields(mut before: BTreeMap<&str, Value>, after: BTreeMap<&str, Value>) -> Vec<FieldChange> {
    let mut names: BTreeSet<String> = before.keys().map(|k| (*k).to_owned()).collect();
    names.extend(after.keys().map(|k| (*k).to_owned()));
    names
        .into_iter()
        .filter_map(|field| {
            let b = before.remove(field.as_str()).unwrap_or(Value::Null);
            let a = after.get(field.as_str()).cloned().unwrap_or(Value::Null);
            (a != b).then_some(FieldChange { field, before: b, after: a })
        })
        .collect()
}

fn network_change(
    changes: &mut Vec<Change>,
    input: &PlanInput,
    network: &LogicalNetwork,
    planned: Option<&[NetworkPlan]>,
) {
    let going = goes(input, network);
    let shape = |d: &NetworkDesign| {
        let choice = match d.pkey {
            Some(pkey) => ("pkey_strategy", json!(pkey)),
            None => ("vlan_strategy", json!(d.vlan)),
        };
        BTreeMap::from([("label", json!(d.label)), choice, ("ipv4_strategies", json!(d.ipv4))])
    };
    let mut before = network.deployed.as_ref().map(shape).unwrap_or_default();
    let mut after = if going { BTreeMap::new() } else { shape(&network.design) };
    if let Some(plans) = planned {
        let list = |s: &[crate::input::SubnetAllocation]| json!(s.iter().map(|s| s.subnet).collect::<Vec<_>>());
        let now = &network.allocated;
        let then = plans.iter().find(|p| p.id == network.id).map_or(now, |p| &p.allocation);
        if now.pkey != then.pkey {
            before.insert("pkey", json!(now.pkey));
            after.insert("pkey", json!(then.pkey));
        }
        if now.vlan != then.vlan {
            before.insert("vlan", json!(now.vlan));
            after.insert("vlan", json!(then.vlan));
        }
        if now.subnets != then.subnets {
            before.insert("subnets", list(&now.subnets));
            after.insert("subnets", list(&then.subnets));
        }
    }
    push(changes, object_network(network), network.deployed.is_some(), going, fields(before, after));
}

fn group_change(changes: &mut Vec<Change>, input: &PlanInput, group: &Group, members: &[Member]) {
    let going = input.infrastructure.deleted || group.deploy_type == DeployType::Delete;
    let shape = |c: &GroupConfig| {
        BTreeMap::from([
            ("label", json!(c.label)),
            ("instance_count", json!(c.instance_count)),
            ("server_type_id", json!(c.server_type_id)),
            // The template is what is chosen; a new text in the same template is no change of the design.
            ("os_template_id", json!(c.os.as_ref().map(|o| o.template_id))),
            ("hostname", json!(c.hostname)),
            ("username", json!(c.username)),
            ("variables", json!(c.variables)),
            ("connections", json!(c.connections)),
        ])
    };
    let mut before = group.deployed.as_ref().map(shape).unwrap_or_default();
    let mut after = if going { BTreeMap::new() } else { shape(&group.design) };
    let power = members
        .iter()
        .filter(|m| m.instance.group_id == group.id)
        .find(|m| matches!(m.action, Action::Start | Action::Stop));
    if power.is_some() {
        before.insert("service_status", json!(group.service_status));
        after.insert("service_status", json!(group.deploy_type));
    }
    push(
        changes,
        ObjectRef::new("server_instance_group", group.id, group.label()),
        group.deployed.is_some(),
        going,
        fields(before, after),
    );
}

fn element_change(changes: &mut Vec<Change>, input: &PlanInput, e: &StorageElement, planned: Option<&[StoragePlan]>) {
    let going = e.goes(input);
    let shape = |c: &ElementConfig| {
        BTreeMap::from([
            ("label", json!(c.label)),
            ("size_gib", json!(c.size_bytes / GIB)),
            ("size_bytes", json!(c.size_bytes)),
            ("hosts", json!(c.groups)),
            ("network_id", json!(c.network_id)),
            ("qos", json!(c.qos)),
            ("boot", if c.boot { json!(true) } else { Value::Null }),
        ])
    };
    let mut before = e.deployed.as_ref().map(shape).unwrap_or_default();
    let mut after = if going { BTreeMap::new() } else { shape(&e.design) };
    for side in [&mut before, &mut after] {
        // A size in whole gibibytes is told in these alone.
        if side.get("size_bytes").and_then(Value::as_u64).is_some_and(|b| b % GIB == 0) {
            side.remove("size_bytes");
        } else {
            side.remove("size_gib");
        }
    }
    if let Some(plans) = planned {
        let hosts = |s: &ElementState| {
            s.objects.iter().map(|(k, o)| (k.clone(), json!(o.instances))).collect::<serde_json::Map<_, _>>()
        };
        let now = e.state.as_ref();
        let then = plans.iter().find(|p| p.id == e.id).map_or(now, |p| p.after.as_ref());
        if now.map(|s| s.storage_id) != then.map(|s| s.storage_id) {
            before.insert("storage_id", json!(now.map(|s| s.storage_id)));
            after.insert("storage_id", json!(then.map(|s| s.storage_id)));
        }
        if now.map(hosts) != then.map(hosts) {
            before.insert("instances", json!(now.map(hosts)));
            after.insert("instances", json!(then.map(hosts)));
        }
        if storage_jobs::unsure(e) {
            before.insert("unfinished_deploy", json!(true));
        }
    }
    push(changes, object_element(e), e.deployed.is_some(), going, fields(before, after));
}

fn instance_change(changes: &mut Vec<Change>, member: &Member, plans: Option<&BTreeMap<Id, &InstancePlan>>) {
    let i = &member.instance;
    let plan = plans.and_then(|p| p.get(&i.id));
    let action = plan.map_or(member.action, |p| p.action);
    if plans.is_some() && plan.is_none() || (plans.is_none() && action == Action::Keep) {
        return;
    }
    let shape = |s: &InstanceState| {
        let outside = |p: &OutsidePort| format!("{} fabric {} {:?}", p.interface, p.fabric_id, p.networks);
        let ports: Vec<String> = s
            .ports
            .iter()
            .filter(|p| !p.networks.is_empty())
            .map(|p| format!("{} {}:{} {}", p.interface, p.device_id, p.port, vlans_text(&p.vlans)))
            .chain(s.outside.iter().map(outside))
            .collect();
        let addresses: Vec<String> =
            s.addresses.iter().map(|a| format!("{}/{}", a.address, a.subnet.prefix_len())).collect();
        let partitions: Vec<String> = s
            .partitions
            .iter()
            .map(|p| format!("network {} {} {}", p.network_id, p.member.guid, p.member.membership.as_str()))
            .collect();
        BTreeMap::from([
            ("partitions", if partitions.is_empty() { Value::Null } else { json!(partitions) }),
            ("server_id", json!(s.server_id)),
            ("hostname", json!(s.hostname)),
            ("os_template_id", json!(s.os_template_id)),
            ("ports", json!(ports)),
            ("addresses", json!(addresses)),
            ("network_config", s.network_config.clone()),
            ("boot", s.boot.as_ref().map_or(Value::Null, |b| json!(format!("{} on storage {}", b.key, b.storage_id)))),
        ])
    };
    let mut before = i.deployed.as_ref().map(shape).unwrap_or_default();
    let mut after = plan.and_then(|p| p.after.as_ref()).map(shape).unwrap_or_default();
    if plans.is_none() {
        (before, after) = (BTreeMap::new(), BTreeMap::new());
    }
    if !matches!(action, Action::Create | Action::Delete | Action::Edit | Action::Keep) {
        after.insert("action", json!(action));
    }
    if plans.is_some() && action == Action::Edit && !i.unfinished.is_empty() {
        // Nothing of the design differs, but what an unfinished deploy left must go.
        before.insert("unfinished_deploy", json!(true));
    }
    push(
        changes,
        ObjectRef::new("server_instance", i.id, &i.label),
        i.deployed.is_some(),
        action == Action::Delete,
        fields(before, after),
    );
}

/// VLANs of a port in short: `u100 t120,130`.
pub(crate) fn vlans_text(vlans: &model::switch::PortVlans) -> String {
    let mut words = Vec::new();
    if let Some(v) = vlans.untagged {
        words.push(format!("u{v}"));
    }
    if !vlans.tagged.is_empty() {
        words.push(format!("t{}", vlans.tagged.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")));
    }
    if words.is_empty() { "isolated".to_owned() } else { words.join(" ") }
}
