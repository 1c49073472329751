//! InfiniBand partitions: which key a network has, and which ports of servers are in it. Nothing is wired here: the ports of a fabric reach
//! each other as far as their partitions say.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Id,
    deploy::DeployType,
    infiniband::{IbPartition, Membership, PKEY_RANGE, PartitionMember},
    job::{JobRefs, Target},
};
use serde::{Deserialize, Serialize};

use crate::{
    allocate,
    input::{Fabric, Group, LogicalNetwork, PlanInput, Server},
    jobs::{Dag, Node},
    plan::Work,
    problem::{Code, PlanProblem},
    roster::Action,
    validate::{object_group, object_network},
};

/// What a fabric of InfiniBand gives out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IbFabric {
    /// Ranges of keys; empty: all.
    #[serde(default)]
    pub pkey_ranges: Vec<(u16, u16)>,
    /// Keys that are taken or reserved.
    #[serde(default)]
    pub pkeys_used: BTreeSet<u16>,
}

/// How a partition key is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PkeyStrategy {
    /// The lowest free one of the fabric's ranges.
    Auto,
    /// This one.
    Manual {
        /// Partition key.
        pkey: u16,
    },
}

/// A port of a server in a network's partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PartitionPort {
    /// Logical network.
    pub network_id: Id,
    /// The fabric.
    pub fabric_id: Id,
    /// Server interface.
    pub interface: String,
    /// GUID of the port, and how it is in.
    pub member: PartitionMember,
}

/// What happens to the partition of one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionPlan {
    /// Logical network.
    pub network_id: Id,
    /// The fabric.
    pub fabric_id: Id,
    /// The network's label.
    pub label: String,
    /// The partition's key.
    pub pkey: u16,
    /// Ports that come in, or that are in it in another way.
    pub add: Vec<PartitionMember>,
    /// GUIDs of ports that go.
    pub remove: Vec<String>,
    /// The partition goes with its network.
    pub delete: bool,
    /// The fabric is done outside: it is only accounted for.
    pub unmanaged: bool,
}

fn fabric(input: &PlanInput, id: Id) -> Option<&Fabric> {
    input.fabrics.iter().find(|f| f.id == id)
}

/// Networks of InfiniBand that a group is connected to.
fn connected<'a>(
    group: &'a Group,
    networks: &'a BTreeMap<Id, &LogicalNetwork>,
) -> impl Iterator<Item = (&'a LogicalNetwork, Membership)> {
    group.design.connections.iter().filter_map(|c| {
        let network = *networks.get(&c.logical_network_id)?;
        network.design.pkey.map(|_| (network, c.membership))
    })
}

/// The ports of a server in a fabric: those of InfiniBand that are not known to be in another one.
fn ports(server: &Server, fabric_id: Id) -> impl Iterator<Item = (&str, &str)> {
    server.interfaces.iter().filter_map(move |i| {
        let here = i.ib_fabric.is_none_or(|f| f == fabric_id);
        i.guid.as_deref().filter(|_| here).map(|guid| (i.name.as_str(), guid))
    })
}

/// Whether a server has a port in each fabric of InfiniBand that a group needs.
pub(crate) fn fits(server: &Server, group: &Group, networks: &BTreeMap<Id, &LogicalNetwork>) -> bool {
    connected(group, networks).all(|(n, _)| ports(server, n.fabric_id).next().is_some())
}

/// What the ports of a server are in, for a group.
pub(crate) fn partitions(
    server: Option<&Server>,
    group: &Group,
    networks: &BTreeMap<Id, &LogicalNetwork>,
    problems: &mut Vec<PlanProblem>,
) -> Vec<PartitionPort> {
    let Some(server) = server else { return Vec::new() };
    let mut all = Vec::new();
    for (network, membership) in connected(group, networks) {
        let before = all.len();
        all.extend(ports(server, network.fabric_id).map(|(interface, guid)| PartitionPort {
            network_id: network.id,
            fabric_id: network.fabric_id,
            interface: interface.to_owned(),
            member: PartitionMember { guid: guid.to_owned(), membership },
        }));
        if all.len() == before {
            problems.push(PlanProblem::error(
                object_group(group),
                format!("connections.{}", network.id),
                Code::MissingCabling,
                format!("{} has no InfiniBand port in the fabric of network {}", server.name, network.design.label),
                "discover the server again once its adapter is in place, or disconnect the group",
            ));
        }
    }
    all.sort();
    all
}

/// Keys of all wanted networks, into what they hold.
pub(crate) fn pkeys(
    input: &PlanInput,
    wanted: &[&LogicalNetwork],
    result: &mut BTreeMap<Id, crate::input::NetworkAllocation>,
    problems: &mut Vec<PlanProblem>,
) {
    let mut taken: BTreeMap<Id, BTreeSet<u16>> = BTreeMap::new();
    for f in &input.fabrics {
        if let Some(ib) = &f.infiniband {
            taken.entry(f.id).or_default().extend(&ib.pkeys_used);
        }
    }
    for network in &input.networks {
        let here = taken.entry(network.fabric_id).or_default();
        here.extend(network.allocated.pkey);
        if let Some(PkeyStrategy::Manual { pkey }) = network.design.pkey {
            here.insert(pkey);
        }
    }
    for network in wanted {
        let Some(strategy) = network.design.pkey else { continue };
        let pkey = match (strategy, network.allocated.pkey) {
            (PkeyStrategy::Auto, Some(kept)) => Some(kept),
            (PkeyStrategy::Manual { pkey }, _) => Some(pkey),
            (PkeyStrategy::Auto, None) => {
                let ib = fabric(input, network.fabric_id).and_then(|f| f.infiniband.as_ref());
                let mut ranges = ib.map(|i| i.pkey_ranges.clone()).unwrap_or_default();
                if ranges.is_empty() {
                    ranges.push((*PKEY_RANGE.start(), *PKEY_RANGE.end()));
                }
                ranges.sort_unstable();
                let used = taken.entry(network.fabric_id).or_default();
                let free = ranges
                    .iter()
                    .flat_map(|(low, high)| *low..=*high)
                    .find(|k| PKEY_RANGE.contains(k) && !used.contains(k));
                match free {
                    Some(key) => _ = used.insert(key),
                    None => problems.push(PlanProblem::error(
                        object_network(network),
                        "pkey",
                        Code::PkeyPoolExhausted,
                        format!("fabric {} has no free partition key left", name(input, network.fabric_id)),
                        "widen the fabric's pkeyRanges or delete unused networks",
                    )),
                }
                free
            }
        };
        if let Some(allocation) = result.get_mut(&network.id) {
            allocation.pkey = pkey;
        }
    }
}

fn name(input: &PlanInput, id: Id) -> &str {
    fabric(input, id).map_or("?", |f| f.name.as_str())
}

/// What is wrong with the keys and the fabrics of a design.
pub(crate) fn validate(input: &PlanInput, problems: &mut Vec<PlanProblem>) {
    let mut manual: BTreeMap<(Id, u16), &LogicalNetwork> = BTreeMap::new();
    for network in &input.networks {
        let going = network.infrastructure_id == Some(input.infrastructure.id)
            && (network.deploy_type == DeployType::Delete || input.infrastructure.deleted);
        let Some(f) = fabric(input, network.fabric_id).filter(|_| !going) else { continue };
        let Some(ib) = &f.infiniband else {
            if network.design.pkey.is_some() {
                problems.push(PlanProblem::error(
                    object_network(network),
                    "fabric_id",
                    Code::WrongFabric,
                    format!("{} is no InfiniBand fabric", f.name),
                    "make the network in an InfiniBand fabric",
                ));
            }
            continue;
        };
        let Some(strategy) = network.design.pkey else {
            problems.push(PlanProblem::error(
                object_network(network),
                "fabric_id",
                Code::WrongFabric,
                format!("{} is an InfiniBand fabric, which carries partitions and no VLANs", f.name),
                "make a network of kind infiniband there",
            ));
            continue;
        };
        let PkeyStrategy::Manual { pkey } = strategy else { continue };
        let inside = ib.pkey_ranges.is_empty() || ib.pkey_ranges.iter().any(|(l, h)| (*l..=*h).contains(&pkey));
        let mut wrong = |code, words: String, fix: &str| {
            problems.push(PlanProblem::error(object_network(network), "pkey", code, words, fix));
        };
        if !PKEY_RANGE.contains(&pkey) || !inside {
            wrong(
                Code::PkeyOutOfRange,
                format!("partition key 0x{pkey:04x} is outside the ranges of fabric {}", f.name),
                "choose another key, or automatic",
            );
        }
        if network.allocated.pkey != Some(pkey) && ib.pkeys_used.contains(&pkey) {
            wrong(
                Code::PkeyInUse,
                format!("partition key 0x{pkey:04x} is taken in fabric {}", f.name),
                "choose another key, or automatic",
            );
        }
        let elsewhere = input
            .networks
            .iter()
            .find(|n| n.id != network.id && n.fabric_id == network.fabric_id && n.allocated.pkey == Some(pkey));
        if let Some(other) = elsewhere.filter(|_| network.allocated.pkey != Some(pkey)) {
            wrong(
                Code::PkeyInUse,
                format!("partition key 0x{pkey:04x} is the one of network {}", other.design.label),
                "choose another key, or automatic",
            );
        }
        if network.allocated.pkey.is_some_and(|kept| kept != pkey) {
            wrong(
                Code::PkeyInUse,
                format!("the partition key of {} cannot change once it is deployed", network.design.label),
                "keep the key, or make another network",
            );
        }
        if let Some(other) = manual.insert((network.fabric_id, pkey), network) {
            let words = format!("partition key 0x{pkey:04x} is the one of network {} too", other.design.label);
            problems.push(PlanProblem::error(
                object_network(network),
                "pkey",
                Code::PkeyInUse,
                words,
                "choose another key for one of them",
            ));
        }
    }
}

/// What comes into partitions and leaves them.
pub(crate) fn changes(work: &Work<'_>, keys: &BTreeMap<Id, Option<u16>>) -> Vec<PartitionPlan> {
    type Members = BTreeMap<Id, BTreeMap<String, Membership>>;
    let (mut before, mut sure, mut after) = (Members::new(), Members::new(), Members::new());
    let collect = |into: &mut Members, ports: &[PartitionPort]| {
        for p in ports {
            into.entry(p.network_id).or_default().insert(p.member.guid.clone(), p.member.membership);
        }
    };
    for member in work.members {
        let i = &member.instance;
        if let Some(state) = &i.deployed {
            collect(&mut before, &state.partitions);
            // What an unfinished deploy may have changed is told again.
            if i.unfinished.iter().all(|u| u.partitions == state.partitions) {
                collect(&mut sure, &state.partitions);
            }
        }
        for state in &i.unfinished {
            collect(&mut before, &state.partitions);
        }
        if let Some(state) = work.after.get(&i.id) {
            collect(&mut after, &state.partitions);
        }
    }
    let mut plans = Vec::new();
    for network in work.networks.values() {
        let going = allocate::goes(work.input, network);
        let pkey = keys.get(&network.id).copied().flatten().or(network.allocated.pkey);
        let (Some(pkey), Some(f)) = (pkey, fabric(work.input, network.fabric_id)) else { continue };
        let none = BTreeMap::new();
        let (was, known, is) = (
            before.get(&network.id).unwrap_or(&none),
            sure.get(&network.id).unwrap_or(&none),
            after.get(&network.id).unwrap_or(&none),
        );
        let add: Vec<PartitionMember> = is
            .iter()
            .filter(|(guid, how)| known.get(*guid) != Some(how))
            .map(|(guid, how)| PartitionMember { guid: guid.clone(), membership: *how })
            .collect();
        let remove: Vec<String> = was.keys().filter(|guid| !is.contains_key(*guid)).cloned().collect();
        let delete = going && network.allocated.pkey.is_some();
        if !add.is_empty() || !remove.is_empty() || delete {
            let label = network.design.label.clone();
            let unmanaged = f.unmanaged;
            plans.push(PartitionPlan {
                network_id: network.id,
                fabric_id: f.id,
                label,
                pkey,
                add,
                remove,
                delete,
                unmanaged,
            });
        }
    }
    plans
}

fn key(network_id: Id) -> String {
    format!("partition/network-{network_id}")
}

/// A job for each partition of a managed fabric.
pub(crate) fn add(dag: &mut Dag<'_>) {
    let work = dag.work;
    for plan in work.partitions.iter().filter(|p| !p.unmanaged) {
        let payload = IbPartition {
            fabric_id: plan.fabric_id,
            network_id: plan.network_id,
            label: plan.label.clone(),
            pkey: plan.pkey,
            add: plan.add.clone(),
            remove: plan.remove.clone(),
            delete: plan.delete,
        };
        let words = if plan.delete { "Remove" } else { "Set" };
        dag.push(Node {
            key: key(plan.network_id),
            title: format!("{words} partition 0x{:04x} of {}", plan.pkey, plan.label),
            payload: &payload,
            depends_on: Vec::new(),
            timeout_seconds: 300,
            // Several infrastructures change one partition, each its own part: their generations say nothing about each other.
            target: Target { kind: "logical_network".to_owned(), id: plan.network_id, generation: 0 },
            refs: JobRefs::default(),
        });
    }
}

/// Ports leave a partition before the disks of their servers are erased, because neighbours in it might still reach them; what is installed
/// finds its partition there.
pub(crate) fn chain(dag: &mut Dag<'_>) {
    let work = dag.work;
    for plan in work.partitions.iter().filter(|p| !p.unmanaged) {
        let mut waiting: BTreeSet<String> = BTreeSet::new();
        for member in work.members {
            let i = &member.instance;
            let had = i.deployed.iter().chain(&i.unfinished).flat_map(|s| &s.partitions);
            if had.into_iter().any(|p| p.network_id == plan.network_id && plan.remove.contains(&p.member.guid)) {
                waiting.insert(format!("clean/instance-{}", i.id));
            }
        }
        for (id, state) in &work.after {
            let fresh = matches!(work.actions.get(id), Some(Action::Create | Action::Reinstall));
            if fresh && state.partitions.iter().any(|p| p.network_id == plan.network_id) {
                waiting.insert(format!("install/instance-{id}"));
            }
        }
        let first = key(plan.network_id);
        for job in dag.jobs.iter_mut().filter(|j| waiting.contains(&j.key)) {
            job.depends_on.push(first.clone());
            job.depends_on.sort();
            job.depends_on.dedup();
        }
    }
}
