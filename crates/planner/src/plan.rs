//! The plan and how it is made.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use model::{
    Id, Mac,
    deploy::{DeployType, ServiceStatus},
    job::JobSpec,
    order::{Order, ServerInstall},
    secret::Sealed,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    allocate::{self, Addresses},
    diff::{self, Change},
    fabric::{self, FabricChange},
    impact::{self, Impact},
    infiniband::{self, PartitionPlan},
    input::{Group, InstanceState, LogicalNetwork, NetworkAllocation, NetworkDesign, PlanInput, Server, Switch},
    jobs, netplan,
    place::{self, Cabling},
    problem::{Code, ObjectRef, PlanProblem, Severity, tidy},
    roster::{self, Action, Member},
    storage::ElementState,
    storage_boot,
    storage_place::{self, StoragePlan},
    takings,
    validate::{object_group, object_network, validate},
};

/// All that a deploy will do. It holds no secret, and the same input always gives the same plan, byte for byte.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The infrastructure.
    pub infrastructure_id: Id,
    /// Generation of the deploy.
    pub generation: i64,
    /// The infrastructure as a whole goes.
    pub deletes_infrastructure: bool,
    /// What differs between the design and what is deployed.
    pub changes: Vec<Change>,
    /// What is newly taken.
    pub allocations: Vec<Allocation>,
    /// What is given back at the end.
    pub releases: Vec<Allocation>,
    /// Instances that something happens to.
    pub instances: Vec<InstancePlan>,
    /// Networks that something happens to.
    pub networks: Vec<NetworkPlan>,
    /// Storage elements that something happens to.
    #[serde(default)]
    pub storage: Vec<StoragePlan>,
    /// Partitions of InfiniBand that something happens to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<PartitionPlan>,
    /// Jobs. Payloads of `server.install` have an empty password until [`Plan::materialize`].
    pub jobs: Vec<JobSpec>,
    /// What it touches.
    pub impact: Impact,
    /// Worth knowing.
    pub warnings: Vec<PlanProblem>,
}

/// Something taken or given back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Allocation {
    /// A VLAN for a network.
    Vlan {
        /// Logical network.
        network_id: Id,
        /// VLAN id.
        vlan: u16,
    },
    /// A partition key for a network of InfiniBand.
    Pkey {
        /// Logical network.
        network_id: Id,
        /// Partition key.
        pkey: u16,
    },
    /// A subnet for a network.
    Subnet {
        /// Logical network.
        network_id: Id,
        /// The subnet.
        subnet: Ipv4Net,
        /// Router.
        gateway: Option<Ipv4Addr>,
        /// Pool; `None`: chosen by hand.
        pool_id: Option<Id>,
    },
    /// A server for an instance.
    Server {
        /// Instance.
        instance_id: Id,
        /// Server.
        server_id: Id,
    },
    /// An address for an instance.
    Address {
        /// Instance.
        instance_id: Id,
        /// Logical network.
        network_id: Id,
        /// The address.
        address: Ipv4Addr,
        /// Length of its subnet's prefix.
        prefix_len: u8,
    },
    /// A switch port for a connection.
    Connection {
        /// Instance.
        instance_id: Id,
        /// Logical network.
        network_id: Id,
        /// Server interface.
        interface: String,
        /// Its MAC address.
        mac: Mac,
        /// Switch.
        device_id: Id,
        /// Port of the switch.
        port: String,
        /// Frames carry a tag.
        tagged: bool,
    },
    /// A server's interface for a connection to a network of an unmanaged fabric.
    OutsideConnection {
        /// Instance.
        instance_id: Id,
        /// Logical network.
        network_id: Id,
        /// Server interface.
        interface: String,
        /// Its MAC address.
        mac: Mac,
        /// The fabric.
        fabric_id: Id,
        /// Frames carry a tag.
        tagged: bool,
    },
    /// Room on a storage for an element.
    Storage {
        /// Element.
        element_id: Id,
        /// The storage.
        storage_id: Id,
        /// Key of the volume, share or bucket.
        key: String,
        /// Its size.
        size_bytes: u64,
    },
}

/// What happens to one instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstancePlan {
    /// Instance id.
    pub id: Id,
    /// Its group.
    pub group_id: Id,
    /// Number within the group.
    pub index: u32,
    /// Label.
    pub label: String,
    /// What happens.
    pub action: Action,
    /// The row must be made: the count was raised.
    pub new_row: bool,
    /// The server it has, or gives back.
    pub server_id: Option<Id>,
    /// What it is afterwards; `None`: gone.
    pub after: Option<InstanceState>,
}

/// What happens to one network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkPlan {
    /// Network id.
    pub id: Id,
    /// Its design once deployed; `None`: gone.
    pub after: Option<NetworkDesign>,
    /// What it holds afterwards.
    pub allocation: NetworkAllocation,
}

/// Intermediate results that several stages read.
pub(crate) struct Work<'a> {
    pub input: &'a PlanInput,
    pub members: &'a [Member],
    pub networks: &'a BTreeMap<Id, &'a LogicalNetwork>,
    pub groups: BTreeMap<Id, &'a Group>,
    pub servers: BTreeMap<Id, &'a Server>,
    pub switches: BTreeMap<Id, &'a Switch>,
    /// States afterwards of instances that stay.
    pub after: BTreeMap<Id, InstanceState>,
    /// Actions, refined: an instance whose ports change is edited.
    pub actions: BTreeMap<Id, Action>,
    pub fabrics: FabricChange,
    /// What an unfinished deploy may have left on switches for instances that go: (switch, VLAN) by instance.
    pub suspected: BTreeMap<Id, BTreeSet<(Id, u16)>>,
    /// What storage elements have on storages afterwards; `None`: nothing.
    pub storage: BTreeMap<Id, Option<ElementState>>,
    /// What comes into partitions and leaves them.
    pub partitions: Vec<PartitionPlan>,
}

/// Makes the plan, or says all that stands in the way.
pub fn plan(input: &PlanInput) -> Result<Plan, Vec<PlanProblem>> {
    let mut problems = validate(input);
    let input = &input.normalised();
    if problems.iter().any(|p| p.severity == Severity::Error) {
        return Err(problems);
    }
    let networks: BTreeMap<Id, &LogicalNetwork> = input.networks.iter().map(|n| (n.id, n)).collect();
    let cabling = Cabling::new(input);
    let members = roster::roster(input, &mut problems);
    data_loss(input, &members, &mut problems);

    let staying: BTreeSet<Id> =
        members.iter().filter(|m| m.action != Action::Delete).map(|m| m.instance.group_id).collect();
    let used: BTreeSet<Id> = input
        .groups
        .iter()
        .filter(|g| staying.contains(&g.id))
        .flat_map(|g| g.design.connections.iter().map(|c| c.logical_network_id))
        .collect();
    let wanted = allocate::wanted(input, &used);
    let allocations = allocate::networks(input, &wanted, &mut problems);
    for network in input.networks.iter().filter(|n| allocate::goes(input, n) && !n.other_devices.is_empty()) {
        problems.push(PlanProblem::error(
            object_network(network),
            "",
            Code::NetworkInUse,
            "other infrastructures are attached to it, so it cannot be deleted",
            "have them disconnect first",
        ));
    }
    let chosen = place::servers(input, &members, &networks, &cabling, &mut problems);

    let mut work = Work {
        input,
        members: &members,
        networks: &networks,
        groups: input.groups.iter().map(|g| (g.id, g)).collect(),
        servers: input.servers.iter().map(|s| (s.id, s)).collect(),
        switches: input.switches.iter().map(|s| (s.id, s)).collect(),
        after: BTreeMap::new(),
        actions: BTreeMap::new(),
        fabrics: FabricChange::default(),
        suspected: fabric::suspected(input, &members, &networks),
        storage: BTreeMap::new(),
        partitions: Vec::new(),
    };
    states(&mut work, &chosen, &allocations, &cabling, &mut problems);
    hostnames(&work, &mut problems);
    work.storage = storage_place::states(&work, &mut problems);
    let mut boots = storage_boot::volumes(&work, &mut problems);
    for (id, state) in &mut work.after {
        state.boot = boots.remove(id);
    }
    let keys: BTreeMap<Id, Option<u16>> = allocations.iter().map(|(id, a)| (*id, a.pkey)).collect();
    work.partitions = infiniband::changes(&work, &keys);
    work.fabrics = fabric::change(&work, &mut problems);
    fabric::quarantine(&work, &mut problems);
    let touched = impact::touched_ports(&work);
    if let Some((device, port)) = touched.iter().find(|p| input.occupied_ports.contains(*p)) {
        problems.push(PlanProblem::error(
            ObjectRef::new("network_device", *device, work.switches.get(device).map_or("?", |s| s.name.as_str())),
            format!("ports.{port}"),
            Code::OtherTenantsAffected,
            format!("port {port} is used by another infrastructure"),
            "discover the switch and the servers on it again",
        ));
    }
    tidy(&mut problems);
    if problems.iter().any(|p| p.severity == Severity::Error) {
        problems.retain(|p| p.severity == Severity::Error);
        return Err(problems);
    }

    let instances = instance_plans(&work);
    let network_plans = network_plans(input, &allocations);
    let storage = storage_place::plans(input, &work.storage);
    let changes = diff::changes(input, &members, Some((&instances, &network_plans, &storage)));
    let jobs = if changes.is_empty() { Vec::new() } else { jobs::jobs(&work) };
    let (allocations, releases) = takings::takings(&work, &instances, &network_plans, &storage);
    let impact = impact::impact(&work, &jobs, &touched, &releases);
    Ok(Plan {
        infrastructure_id: input.infrastructure.id,
        generation: input.infrastructure.generation,
        deletes_infrastructure: input.infrastructure.deleted,
        changes,
        allocations,
        releases,
        instances,
        networks: network_plans,
        storage,
        partitions: work.partitions.clone(),
        jobs,
        impact,
        warnings: problems,
    })
}

fn data_loss(input: &PlanInput, members: &[Member], problems: &mut Vec<PlanProblem>) {
    if input.options.allow_data_loss {
        return;
    }
    for group in &input.groups {
        let lost: Vec<&str> = members
            .iter()
            .filter(|m| m.instance.group_id == group.id && m.instance.deployed.is_some())
            .filter(|m| matches!(m.action, Action::Delete | Action::Reinstall))
            .map(|m| m.instance.label.as_str())
            .collect();
        if lost.is_empty() {
            continue;
        }
        let mut names = lost.iter().take(5).copied().collect::<Vec<_>>().join(", ");
        if lost.len() > 5 {
            names.push_str(&format!(" and {} more", lost.len() - 5));
        }
        problems.push(PlanProblem::error(
            object_group(group),
            "",
            Code::DataLossNotAllowed,
            format!("all data on {} servers would be lost: {names}", lost.len()),
            "allow data loss for this deploy, or keep the instances",
        ));
    }
}

/// What every staying instance is afterwards.
fn states(
    work: &mut Work<'_>,
    chosen: &BTreeMap<Id, Id>,
    allocations: &BTreeMap<Id, NetworkAllocation>,
    cabling: &Cabling,
    problems: &mut Vec<PlanProblem>,
) {
    let mut addresses = Addresses::new(work.input, work.members, allocations);
    let needs: BTreeMap<Id, BTreeMap<Id, usize>> =
        work.groups.values().map(|g| (g.id, place::needs(g, work.networks))).collect();
    let mut full: BTreeMap<Id, usize> = BTreeMap::new();
    for member in work.members {
        let instance = &member.instance;
        work.actions.insert(instance.id, member.action);
        if member.action == Action::Delete {
            continue;
        }
        let (Some(group), Some(needs)) = (work.groups.get(&instance.group_id), needs.get(&instance.group_id)) else {
            continue;
        };
        let fresh = matches!(member.action, Action::Create | Action::Reinstall);
        let before = instance.deployed.as_ref();
        let server_id = before.map(|d| d.server_id).or_else(|| chosen.get(&instance.id).copied());
        let Some(server_id) = server_id else { continue };
        let ports = place::ports(instance, work.servers.get(&server_id).copied(), needs, cabling);
        let Some(links) = place::links(&ports, needs, cabling) else {
            problems.push(PlanProblem::error(
                object_group(group),
                "connections",
                Code::MissingCabling,
                format!("{} has too few interfaces with cables to the networks' fabrics", instance.label),
                "cable its server and discover it again, or drop redundancy",
            ));
            continue;
        };
        let (mut bindings, outside) = place::bindings(group, &ports, &links, work.networks, allocations);
        let san = work.input.storage.boot_element(work.input, group.id).is_some();
        let provisioned = if san { storage_boot::open_port(&mut bindings, &work.switches) } else { None };
        if san {
            storage_boot::warn(work, group.id, provisioned.as_ref(), (&bindings, &outside), problems);
        }
        let partitions = infiniband::partitions(work.servers.get(&server_id).copied(), group, work.networks, problems);
        let mut own = Vec::new();
        for connection in group.design.connections.iter().filter(|c| !c.disable_auto_ip) {
            let id = connection.logical_network_id;
            if allocations.get(&id).is_none_or(|a| a.subnets.is_empty()) {
                continue;
            }
            let kept = before.and_then(|d| d.addresses.iter().find(|a| a.network_id == id));
            match kept.cloned().or_else(|| addresses.take(id)) {
                Some(address) => own.push(address),
                None => *full.entry(id).or_default() += 1,
            }
        }
        let config_of = || {
            let mut config =
                netplan::config(group, &ports, &links, work.networks, allocations, &own, &work.input.dns_servers);
            if san {
                storage_boot::keep_connected(&mut config, provisioned.as_deref());
            }
            config
        };
        let same_design = group.deployed.as_ref().is_some_and(|d| d.connections == group.design.connections);
        let after = match before {
            Some(d) if !fresh => {
                let same_partitions =
                    d.partitions == partitions && instance.unfinished.iter().all(|u| u.partitions == partitions);
                let untouched = d.ports == bindings && d.outside == outside && d.addresses == own;
                if !same_partitions {
                    let action = work.actions.entry(instance.id).or_insert(Action::Edit);
                    if *action == Action::Keep {
                        *action = Action::Edit;
                    }
                }
                let network_config = if untouched && same_design { d.network_config.clone() } else { config_of() };
                if !untouched || bindings.iter().any(|b| instance.unsure(b)) {
                    let action = work.actions.entry(instance.id).or_insert(Action::Edit);
                    if *action == Action::Keep {
                        *action = Action::Edit;
                    }
                }
                if !untouched {
                    let what = if d.ports == bindings { "networks" } else { "switch ports" };
                    problems.push(PlanProblem::warning(
                        object_group(group),
                        "connections",
                        Code::NetworkConfigNotRewritten,
                        format!("{what} change, but the network configuration inside running systems is not rewritten"),
                        "configure the new networks in the operating system, or reinstall the instances",
                    ));
                }
                InstanceState { ports: bindings, outside, partitions, addresses: own, network_config, ..d.clone() }
            }
            _ => InstanceState {
                server_id,
                hostname: roster::hostname(group, instance.id, instance.index, &instance.label),
                os_template_id: group.design.os.as_ref().map_or(0, |o| o.template_id),
                network_config: config_of(),
                ports: bindings,
                outside,
                partitions,
                addresses: own,
                boot: None,
            },
        };
        for connection in group.design.connections.iter().filter(|c| c.provides_default_route) {
            let id = connection.logical_network_id;
            if !after.addresses.iter().any(|a| a.network_id == id && a.gateway.is_some()) {
                problems.push(PlanProblem::warning(
                    object_group(group),
                    format!("connections.{id}"),
                    Code::NoGateway,
                    "shall provide the default route, but gives no address with a router",
                    "give the network a subnet with a gateway",
                ));
            }
        }
        work.after.insert(instance.id, after);
    }
    for (id, count) in full {
        if let Some(network) = work.networks.get(&id) {
            problems.push(PlanProblem::error(
                object_network(network),
                "ipv4",
                Code::SubnetFull,
                format!("no address is left in its subnets; {count} more are needed"),
                "add a subnet, or lower the instance count",
            ));
        }
    }
    for group in work.groups.values() {
        let Some(deployed) = &group.deployed else { continue };
        let live = work
            .members
            .iter()
            .any(|m| m.instance.group_id == group.id && work.actions[&m.instance.id] == Action::Keep);
        for (field, differs) in [
            ("server_type_id", deployed.server_type_id != group.design.server_type_id),
            ("hostname", deployed.hostname != group.design.hostname),
            ("username", deployed.username != group.design.username),
            ("variables", deployed.variables != group.design.variables),
        ] {
            if differs && live {
                problems.push(PlanProblem::warning(
                    object_group(group),
                    field,
                    Code::AppliesToNewInstances,
                    "applies to new installations; deployed instances keep what they have",
                    "reinstall or replace instances to apply it to them",
                ));
            }
        }
    }
}

fn hostnames(work: &Work<'_>, problems: &mut Vec<PlanProblem>) {
    let mut seen: BTreeMap<&str, Id> = BTreeMap::new();
    for member in work.members {
        let Some(state) = work.after.get(&member.instance.id) else { continue };
        if let Some(other) = seen.insert(&state.hostname, member.instance.id)
            && let Some(group) = work.groups.get(&member.instance.group_id)
        {
            problems.push(PlanProblem::error(
                object_group(group),
                "hostname",
                Code::DuplicateHostname,
                format!("instances {other} and {} are both called {}", member.instance.id, state.hostname),
                "use {index}, {id} or {label} in the host name pattern",
            ));
        }
    }
}

fn instance_plans(work: &Work<'_>) -> Vec<InstancePlan> {
    let mut plans = Vec::new();
    for member in work.members {
        let i = &member.instance;
        let action = work.actions.get(&i.id).copied().unwrap_or(member.action);
        let after = work.after.get(&i.id).cloned();
        if action == Action::Keep && after == i.deployed {
            continue;
        }
        let server_id = after
            .as_ref()
            .map(|a| a.server_id)
            .or_else(|| i.deployed.as_ref().map(|d| d.server_id))
            .or(i.reserved_server_id);
        plans.push(InstancePlan {
            id: i.id,
            group_id: i.group_id,
            index: i.index,
            label: i.label.clone(),
            action,
            new_row: member.new_row,
            server_id,
            after,
        });
    }
    plans
}

fn network_plans(input: &PlanInput, allocations: &BTreeMap<Id, NetworkAllocation>) -> Vec<NetworkPlan> {
    let mut plans = Vec::new();
    for network in &input.networks {
        if allocate::goes(input, network) {
            plans.push(NetworkPlan { id: network.id, after: None, allocation: NetworkAllocation::default() });
        } else if let Some(allocation) = allocations.get(&network.id)
            && (network.allocated != *allocation || network.deployed.as_ref() != Some(&network.design))
        {
            plans.push(NetworkPlan {
                id: network.id,
                after: Some(network.design.clone()),
                allocation: allocation.clone(),
            });
        }
    }
    plans
}

impl Plan {
    /// Whether nothing has to be done.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.jobs.is_empty()
    }

    /// The jobs with the passwords of new systems put in: `password` is asked for each instance that is installed.
    pub fn materialize<E>(&self, mut password: impl FnMut(Id) -> Result<Sealed, E>) -> Result<Vec<JobSpec>, E> {
        let mut jobs = self.jobs.clone();
        for job in jobs.iter_mut().filter(|j| j.function == ServerInstall::NAME) {
            if let (Some(id), Some(slot)) = (job.refs.instance_id, job.payload.pointer_mut("/spec/password")) {
                *slot = Value::String(password(id)?.0);
            }
        }
        Ok(jobs)
    }

    /// The input as it reads once this plan has been carried out: what the end of a deploy records.
    pub fn apply_to(&self, input: &PlanInput) -> PlanInput {
        let mut next = input.clone();
        next.options = crate::input::Options::default();
        next.storage.moving.clear();
        for plan in &self.instances {
            match &plan.after {
                None => next.instances.retain(|i| i.id != plan.id),
                Some(after) => {
                    if plan.new_row {
                        next.instances.push(crate::input::Instance {
                            id: plan.id,
                            group_id: plan.group_id,
                            index: plan.index,
                            label: plan.label.clone(),
                            deleted: false,
                            reinstall: false,
                            reserved_server_id: None,
                            deployed: None,
                            unfinished: Vec::new(),
                        });
                        next.next_instance_id = next.next_instance_id.map(|n| n.max(plan.id + 1));
                    }
                    for i in next.instances.iter_mut().filter(|i| i.id == plan.id) {
                        i.deployed = Some(after.clone());
                        i.reinstall = false;
                        i.reserved_server_id = None;
                        i.unfinished.clear();
                    }
                }
            }
        }
        next.groups.retain(|g| g.deploy_type != DeployType::Delete && !input.infrastructure.deleted);
        for group in &mut next.groups {
            group.deployed = Some(group.design.clone());
            group.service_status = match group.deploy_type {
                DeployType::Stop => ServiceStatus::Stopped,
                DeployType::Suspend => ServiceStatus::Suspended,
                DeployType::Start | DeployType::Create => ServiceStatus::Active,
                _ if group.service_status == ServiceStatus::Ordered => ServiceStatus::Active,
                _ => group.service_status,
            };
        }
        for plan in &self.storage {
            match &plan.design {
                None => next.storage.elements.retain(|e| e.id != plan.id),
                Some(design) => {
                    for e in next.storage.elements.iter_mut().filter(|e| e.id == plan.id) {
                        e.design = design.clone();
                        e.deployed = Some(design.clone());
                        e.state.clone_from(&plan.after);
                        e.unfinished.clear();
                    }
                }
            }
        }
        for plan in &self.networks {
            match &plan.after {
                None => next.networks.retain(|n| n.id != plan.id),
                Some(design) => {
                    for n in next.networks.iter_mut().filter(|n| n.id == plan.id) {
                        n.deployed = Some(design.clone());
                        n.allocated = plan.allocation.clone();
                    }
                }
            }
        }
        let held: BTreeSet<Id> =
            next.instances.iter().filter_map(|i| i.deployed.as_ref()).map(|d| d.server_id).collect();
        for server in &mut next.servers {
            let released = self
                .releases
                .iter()
                .any(|r| matches!(r, Allocation::Server { server_id, .. } if *server_id == server.id));
            if held.contains(&server.id) {
                server.available = false;
            } else if released {
                server.available = true;
            }
        }
        next.infrastructure.deployed_label = (!input.infrastructure.deleted).then(|| next.infrastructure.label.clone());
        next
    }
}
