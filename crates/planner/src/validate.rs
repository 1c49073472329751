//! Problems that the design alone shows, before anything is allocated.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use model::{
    Id,
    deploy::DeployType,
    network::{NetworkConnection, VLAN_RANGE},
    validate as check,
};
use serde_json::json;

use crate::{
    infiniband,
    input::{Group, Ipv4Strategy, LogicalNetwork, PlanInput, VlanStrategy},
    problem::{Code, ObjectRef, PlanProblem, tidy},
    storage,
};

/// Most instances of one group: a slip of the finger should not ask for a million.
pub const MAX_INSTANCES: u32 = 10_000;

/// Problems of the design, in a fixed order. Empty: only allocation can still fail.
pub fn validate(input: &PlanInput) -> Vec<PlanProblem> {
    let mut problems = Vec::new();
    let input = &input.normalised();
    let infrastructure = &input.infrastructure;
    let me = ObjectRef::new("infrastructure", infrastructure.id, &infrastructure.label);
    field(&mut problems, &me, check::label("label", &infrastructure.label).err());
    let networks: BTreeMap<Id, &LogicalNetwork> = input.networks.iter().map(|n| (n.id, n)).collect();
    if !infrastructure.deleted {
        let mut labels = BTreeSet::new();
        for group in input.groups.iter().filter(|g| g.deploy_type != DeployType::Delete) {
            check_group(&mut problems, input, group, &networks);
            if !labels.insert(&group.design.label) {
                problems.push(PlanProblem::error(
                    object_group(group),
                    "label",
                    Code::InvalidField,
                    format!("another group is called {}", group.design.label),
                    "give it a label of its own",
                ));
            }
        }
        check_networks(&mut problems, input);
        infiniband::validate(input, &mut problems);
        storage::validate(&mut problems, input);
    }
    tidy(&mut problems);
    problems
}

pub(crate) fn object_group(group: &Group) -> ObjectRef {
    ObjectRef::new("server_instance_group", group.id, group.label())
}

pub(crate) fn object_network(network: &LogicalNetwork) -> ObjectRef {
    ObjectRef::new("logical_network", network.id, &network.design.label)
}

fn field(problems: &mut Vec<PlanProblem>, object: &ObjectRef, error: Option<check::FieldError>) {
    if let Some(e) = error {
        problems.push(PlanProblem::error(object.clone(), e.field, Code::InvalidField, e.message, "correct the value"));
    }
}

fn check_group(
    problems: &mut Vec<PlanProblem>,
    input: &PlanInput,
    group: &Group,
    networks: &BTreeMap<Id, &LogicalNetwork>,
) {
    let object = object_group(group);
    let design = &group.design;
    field(problems, &object, check::label("label", &design.label).err());
    if design.instance_count > MAX_INSTANCES {
        problems.push(
            PlanProblem::error(
                object.clone(),
                "instance_count",
                Code::InvalidField,
                format!("{} instances; at most {MAX_INSTANCES} are allowed in one group", design.instance_count),
                "split the group",
            )
            .with_patch(json!(MAX_INSTANCES)),
        );
    }
    if design.server_type_id.is_none() {
        problems.push(PlanProblem::error(
            object.clone(),
            "server_type_id",
            Code::ServerTypeMissing,
            "no server type is chosen",
            "choose a server type",
        ));
    }
    if design.os.is_none() {
        let (message, fix) = match &design.os_problem {
            Some(problem) => (problem.as_str(), "complete the template, or choose another one"),
            None => (
                "no operating system is chosen, or its template has no image",
                "choose an OS template that is active and has an image",
            ),
        };
        problems.push(PlanProblem::error(object.clone(), "os_template_id", Code::OsTemplateMissing, message, fix));
    }
    let user_ok = design.username.len() <= 32
        && design.username.chars().next().is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && design.username.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c));
    if !user_ok {
        problems.push(
            PlanProblem::error(
                object.clone(),
                "username",
                Code::InvalidField,
                format!("{:?} is not a user name", design.username),
                "use up to 32 lower-case letters, digits, '-' and '_', beginning with a letter",
            )
            .with_patch(json!("admin")),
        );
    }
    let sample = crate::roster::hostname(group, 1, 1, &format!("{}-1", design.label));
    field(problems, &object, check::hostname("hostname", &sample).err());
    check_connections(problems, input, group, networks);
}

fn check_connections(
    problems: &mut Vec<PlanProblem>,
    input: &PlanInput,
    group: &Group,
    networks: &BTreeMap<Id, &LogicalNetwork>,
) {
    let object = object_group(group);
    let connections = &group.design.connections;
    let mut seen = BTreeSet::new();
    let mut modes: BTreeMap<Id, &NetworkConnection> = BTreeMap::new();
    for connection in connections {
        let id = connection.logical_network_id;
        let name = format!("connections.{id}");
        if !seen.insert(id) {
            problems.push(PlanProblem::error(
                object.clone(),
                &name,
                Code::DuplicateConnection,
                format!("is connected to logical network {id} twice"),
                "remove one of the connections",
            ));
        }
        if !(576..=9216).contains(&connection.mtu) {
            problems.push(
                PlanProblem::error(
                    object.clone(),
                    format!("{name}.mtu"),
                    Code::InvalidField,
                    format!("an MTU of {} bytes cannot be used", connection.mtu),
                    "use 576 to 9216",
                )
                .with_patch(json!(1500)),
            );
        }
        let Some(network) = networks.get(&id) else {
            problems.push(PlanProblem::error(
                object.clone(),
                &name,
                Code::UnknownNetwork,
                format!("logical network {id} does not exist"),
                "remove the connection or choose another network",
            ));
            continue;
        };
        if network.infrastructure_id.is_some_and(|owner| owner != input.infrastructure.id) {
            problems.push(PlanProblem::error(
                object.clone(),
                &name,
                Code::ForeignNetwork,
                format!("network {} belongs to another infrastructure", network.design.label),
                "use a network of this infrastructure or a shared one",
            ));
        }
        if network.infrastructure_id.is_none() && !input.fabrics.iter().any(|f| f.id == network.fabric_id) {
            problems.push(PlanProblem::error(
                object.clone(),
                &name,
                Code::UnknownFabric,
                format!("the fabric of network {} is not one of this site", network.design.label),
                "use a network of a fabric at this site",
            ));
        }
        if network.deploy_type == DeployType::Delete {
            problems.push(PlanProblem::error(
                object.clone(),
                &name,
                Code::NetworkDeleted,
                format!("network {} is to be deleted", network.design.label),
                "remove the connection or keep the network",
            ));
        }
        check_redundancy(problems, &object, &name, connection);
        if let Some(redundancy) = &connection.redundancy {
            let first = modes.entry(network.fabric_id).or_insert(connection);
            if first.redundancy.as_ref() != Some(redundancy) {
                problems.push(PlanProblem::error(
                    object.clone(),
                    format!("{name}.redundancy"),
                    Code::RedundancyConflict,
                    format!(
                        "connections {} and {id} share the same ports but ask for different redundancy",
                        first.logical_network_id
                    ),
                    "use the same redundancy for both",
                ));
            }
        }
    }
    let untagged: Vec<String> =
        connections.iter().filter(|c| !c.tagged).map(|c| c.logical_network_id.to_string()).collect();
    if untagged.len() > 1 {
        problems.push(PlanProblem::error(
            object.clone(),
            "connections",
            Code::TwoUntagged,
            format!("networks {} are all untagged", untagged.join(", ")),
            "leave one untagged and tag the others",
        ));
    }
    if connections.iter().filter(|c| c.provides_default_route).count() > 1 {
        problems.push(PlanProblem::error(
            object,
            "connections",
            Code::TwoDefaultRoutes,
            "more than one connection provides the default route",
            "let one connection provide it",
        ));
    }
}

fn check_redundancy(problems: &mut Vec<PlanProblem>, object: &ObjectRef, name: &str, connection: &NetworkConnection) {
    let Some(redundancy) = &connection.redundancy else { return };
    let message = match (redundancy.mode.as_str(), redundancy.implementation.as_deref()) {
        ("active-backup" | "active-active", None) | ("active-backup", Some(_)) => return,
        // A patch of a switch has no aggregation of ports, so nothing that depends on one may be promised.
        ("active-active", Some(how)) => format!("active-active by {how} needs switches that aggregate ports"),
        (mode, _) => format!("{mode:?} is not a redundancy mode"),
    };
    problems.push(
        PlanProblem::error(
            object.clone(),
            format!("{name}.redundancy"),
            Code::RedundancyNotSupported,
            message,
            "use active-backup, or active-active without an implementation",
        )
        .with_patch(json!({"mode": "active-backup"})),
    );
}

fn check_networks(problems: &mut Vec<PlanProblem>, input: &PlanInput) {
    let mut manual: BTreeMap<(Id, u16), &LogicalNetwork> = BTreeMap::new();
    let mut subnets: Vec<(Ipv4Net, &LogicalNetwork)> = Vec::new();
    for network in input.networks.iter().filter(|n| n.deploy_type != DeployType::Delete) {
        let own = network.infrastructure_id == Some(input.infrastructure.id);
        let object = object_network(network);
        let fabric = input.fabrics.iter().find(|f| f.id == network.fabric_id);
        if own {
            field(problems, &object, check::label("label", &network.design.label).err());
            if fabric.is_none() {
                problems.push(PlanProblem::error(
                    object.clone(),
                    "fabric_id",
                    Code::UnknownFabric,
                    format!("fabric {} does not exist at this site", network.fabric_id),
                    "choose a fabric of the site",
                ));
            }
        }
        if let VlanStrategy::Manual { vlan } = network.design.vlan {
            if own {
                let in_ranges =
                    fabric.is_none_or(|f| f.vlan_ranges.iter().any(|(low, high)| (*low..=*high).contains(&vlan)));
                if !VLAN_RANGE.contains(&vlan) || !in_ranges {
                    let ranges = fabric.map(|f| ranges_text(&f.vlan_ranges)).unwrap_or_else(|| "1 to 4094".to_owned());
                    problems.push(PlanProblem::error(
                        object.clone(),
                        "vlan",
                        Code::VlanOutOfRange,
                        format!("VLAN {vlan} is outside the fabric's ranges ({ranges})"),
                        "choose a VLAN inside, or automatic",
                    ));
                }
                if network.allocated.vlan != Some(vlan) && fabric.is_some_and(|f| f.vlans_used.contains(&vlan)) {
                    problems.push(PlanProblem::error(
                        object.clone(),
                        "vlan",
                        Code::VlanInUse,
                        format!("VLAN {vlan} is taken"),
                        "choose another VLAN, or automatic",
                    ));
                }
            }
            if let Some(other) = manual.insert((network.fabric_id, vlan), network) {
                problems.push(PlanProblem::error(
                    object.clone(),
                    "vlan",
                    Code::VlanInUse,
                    format!("VLAN {vlan} is the one of network {} too", other.design.label),
                    "choose another VLAN, or automatic",
                ));
            }
        }
        for (position, strategy) in network.design.ipv4.iter().enumerate() {
            let name = format!("ipv4.{position}");
            match strategy {
                Ipv4Strategy::Auto { prefix_len, .. } => {
                    if own && !(8..=31).contains(prefix_len) {
                        problems.push(
                            PlanProblem::error(
                                object.clone(),
                                format!("{name}.prefix_len"),
                                Code::InvalidField,
                                format!("a prefix length of {prefix_len} cannot be used"),
                                "use 8 to 31",
                            )
                            .with_patch(json!(24)),
                        );
                    }
                }
                Ipv4Strategy::Manual { subnet, gateway } => {
                    if own && gateway.is_some_and(|g| !subnet.contains(&g)) {
                        problems.push(PlanProblem::error(
                            object.clone(),
                            format!("{name}.gateway"),
                            Code::InvalidField,
                            format!("the gateway does not lie in {subnet}"),
                            "choose an address of the subnet",
                        ));
                    }
                    if own && let Some((other, owner)) = subnets.iter().find(|(s, _)| overlap(s, subnet)) {
                        problems.push(PlanProblem::error(
                            object.clone(),
                            format!("{name}.subnet"),
                            Code::SubnetOverlap,
                            format!("{subnet} overlaps {other} of network {}", owner.design.label),
                            "choose another subnet",
                        ));
                    }
                    subnets.push((subnet.trunc(), network));
                }
            }
        }
    }
}

pub(crate) fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

pub(crate) fn ranges_text(ranges: &[(u16, u16)]) -> String {
    if ranges.is_empty() {
        return "none".to_owned();
    }
    ranges.iter().map(|(low, high)| format!("{low} to {high}")).collect::<Vec<_>>().join(", ")
}
