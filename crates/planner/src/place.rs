//! Which server an instance gets, and which of its ports carry which networks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::{Id, switch::PortVlans};

use crate::{
    input::{Cable, Group, Instance, Interface, LogicalNetwork, NetworkAllocation, PlanInput, PortBinding, Server},
    problem::{Code, PlanProblem},
    roster::{Action, Member},
    validate::object_group,
};

/// MTU of a switch port that carries more than 1500 bytes. Ports are raised, never lowered.
pub const FABRIC_MTU: u32 = 9216;

/// Ports that a group needs, by fabric: 1, or 2 for redundancy.
pub(crate) fn needs(group: &Group, networks: &BTreeMap<Id, &LogicalNetwork>) -> BTreeMap<Id, usize> {
    let mut needs = BTreeMap::new();
    for connection in &group.design.connections {
        if let Some(network) = networks.get(&connection.logical_network_id) {
            let ports = needs.entry(network.fabric_id).or_insert(1);
            if connection.redundancy.is_some() {
                *ports = 2;
            }
        }
    }
    needs
}

/// Servers for all instances that are to be created: instance id to server id.
pub(crate) fn servers(
    input: &PlanInput,
    members: &[Member],
    networks: &BTreeMap<Id, &LogicalNetwork>,
    fabric_of: &BTreeMap<Id, Id>,
    problems: &mut Vec<PlanProblem>,
) -> BTreeMap<Id, Id> {
    let by_id: BTreeMap<Id, &Server> = input.servers.iter().map(|s| (s.id, s)).collect();
    let mut taken: BTreeSet<Id> = members
        .iter()
        .flat_map(|m| m.instance.deployed.iter().map(|d| d.server_id).chain(m.instance.reserved_server_id))
        .collect();
    let mut ports: BTreeSet<(Id, String)> = input.occupied_ports.clone();
    for binding in members.iter().filter_map(|m| m.instance.deployed.as_ref()).flat_map(|d| &d.ports) {
        ports.insert((binding.device_id, binding.port.clone()));
    }
    let mut chosen = BTreeMap::new();
    // Groups that need more ports choose first: the others can live with what is left.
    let mut groups: Vec<(&Group, BTreeMap<Id, usize>)> = input.groups.iter().map(|g| (g, needs(g, networks))).collect();
    groups.sort_by_key(|(g, n)| (std::cmp::Reverse(n.values().sum::<usize>()), g.id));
    for (group, needs) in groups {
        let mut open: VecDeque<&Instance> = VecDeque::new();
        let Some(type_id) = group.design.server_type_id else { continue };
        for member in members.iter().filter(|m| m.instance.group_id == group.id && m.action == Action::Create) {
            let reserved = member.instance.reserved_server_id.and_then(|id| by_id.get(&id));
            match reserved {
                Some(s) if s.type_id == type_id && fits(s, &needs, fabric_of) && free_ports(s, &ports) => {
                    claim(s, &mut ports);
                    chosen.insert(member.instance.id, s.id);
                }
                _ => open.push_back(&member.instance),
            }
        }
        if open.is_empty() {
            continue;
        }
        let need = open.len();
        let free: Vec<&Server> = input
            .servers
            .iter()
            .filter(|s| s.available && s.type_id == type_id && s.site_id == input.infrastructure.site_id)
            .filter(|s| !taken.contains(&s.id))
            .collect();
        let cabled: Vec<&Server> = free.iter().copied().filter(|s| fits(s, &needs, fabric_of)).collect();
        let mut have = 0;
        let mut pick = |s: &Server, instance: &Instance| {
            claim(s, &mut ports);
            taken.insert(s.id);
            chosen.insert(instance.id, s.id);
            have += 1;
        };
        let preferred = input.options.preferred_servers.get(&type_id).map(Vec::as_slice).unwrap_or_default();
        let mut busy = 0;
        let mut spread = Spreader::new(&cabled, preferred);
        while let Some(instance) = open.front() {
            let Some(server) = spread.next() else { break };
            if free_ports(server, &input.occupied_ports) {
                pick(server, instance);
                open.pop_front();
            } else {
                busy += 1;
            }
        }
        if !open.is_empty() {
            problems.push(shortage(group, type_id, need, have, busy, &free, &needs, fabric_of));
        }
    }
    chosen
}

/// Hands out servers: the preferred ones in their order, then from the rack that has given the fewest.
struct Spreader<'a> {
    preferred: VecDeque<&'a Server>,
    racks: BTreeMap<(usize, String), VecDeque<&'a Server>>,
}

impl<'a> Spreader<'a> {
    fn new(servers: &[&'a Server], preferred: &[Id]) -> Self {
        let first: VecDeque<&Server> =
            preferred.iter().filter_map(|id| servers.iter().copied().find(|s| s.id == *id)).collect();
        let named: BTreeSet<Id> = first.iter().map(|s| s.id).collect();
        let mut racks: BTreeMap<(usize, String), VecDeque<&Server>> = BTreeMap::new();
        for server in servers.iter().filter(|s| !named.contains(&s.id)) {
            racks.entry((0, place(server))).or_default().push_back(server);
        }
        Self { preferred: first, racks }
    }

    fn next(&mut self) -> Option<&'a Server> {
        if let Some(server) = self.preferred.pop_front() {
            return Some(server);
        }
        let ((count, rack), mut queue) = self.racks.pop_first()?;
        let server = queue.pop_front();
        if !queue.is_empty() {
            self.racks.insert((count + 1, rack), queue);
        }
        server
    }
}

/// What a server shares its fate with: its rack, or else its first switch.
fn place(server: &Server) -> String {
    server.rack.clone().unwrap_or_else(|| {
        let first = server.interfaces.iter().find_map(|i| i.cable.as_ref()).map_or(0, |c| c.device_id);
        format!("device {first:012}")
    })
}

fn claim(server: &Server, ports: &mut BTreeSet<(Id, String)>) {
    ports.extend(server.interfaces.iter().filter_map(|i| i.cable.as_ref()).map(|c| (c.device_id, c.port.clone())));
}

fn free_ports(server: &Server, occupied: &BTreeSet<(Id, String)>) -> bool {
    server
        .interfaces
        .iter()
        .filter_map(|i| i.cable.as_ref())
        .all(|c| !occupied.contains(&(c.device_id, c.port.clone())))
}

fn fits(server: &Server, needs: &BTreeMap<Id, usize>, fabric_of: &BTreeMap<Id, Id>) -> bool {
    needs.iter().all(|(fabric, ports)| {
        let cabled = server.interfaces.iter().filter_map(|i| i.cable.as_ref());
        cabled.filter(|c| fabric_of.get(&c.device_id) == Some(fabric)).count() >= *ports
    })
}

#[allow(clippy::too_many_arguments)]
fn shortage(
    group: &Group,
    type_id: Id,
    need: usize,
    have: usize,
    busy: usize,
    free: &[&Server],
    needs: &BTreeMap<Id, usize>,
    fabric_of: &BTreeMap<Id, Id>,
) -> PlanProblem {
    let total: usize = needs.values().sum();
    let names = |list: Vec<&&Server>| list.iter().take(3).map(|s| s.name.clone()).collect::<Vec<_>>().join(", ");
    let kept = (group.design.instance_count as usize).saturating_sub(need - have);
    if free.len() >= need {
        let small: Vec<&&Server> = free.iter().filter(|s| s.interfaces.len() < total).collect();
        if free.len() - small.len() < need {
            return PlanProblem::error(
                object_group(group),
                "connections",
                Code::NotEnoughNics,
                format!(
                    "needs {total} interfaces on {need} servers; of {} free ones, {} have fewer ({})",
                    free.len(),
                    small.len(),
                    names(small)
                ),
                "drop redundancy or a network, or choose another server type",
            );
        }
        if busy > 0 {
            return PlanProblem::error(
                object_group(group),
                "instance_count",
                Code::PortInUse,
                format!("{busy} free servers are cabled to switch ports that others use; have {have}, need {need}"),
                "discover the switches again, or correct the cabling",
            );
        }
        let loose: Vec<&&Server> = free.iter().filter(|s| !fits(s, needs, fabric_of)).collect();
        return PlanProblem::error(
            object_group(group),
            "connections",
            Code::MissingCabling,
            format!(
                "of {} free servers, {} have no known cable to the networks' fabric ({}); have {have}, need {need}",
                free.len(),
                loose.len(),
                names(loose)
            ),
            "cable them, or discover servers and switches again",
        );
    }
    PlanProblem::error(
        object_group(group),
        "instance_count",
        Code::NoFreeServer,
        format!("have {have} free servers of type {type_id}, need {need}"),
        "lower the count, choose another server type or free some servers",
    )
    .with_patch(serde_json::json!(kept))
}

/// An interface with its cable, as used for one instance.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub interface: String,
    pub mac: String,
    pub cable: Cable,
    /// Fabrics it serves now.
    in_use: bool,
}

/// The ports an instance has: as deployed when they suffice (cabling found later is no reason to touch a running
/// server), else all that the server has now.
pub(crate) fn ports(
    instance: &Instance,
    server: Option<&Server>,
    needs: &BTreeMap<Id, usize>,
    fabric_of: &BTreeMap<Id, Id>,
) -> Vec<Port> {
    let mut ports: Vec<Port> = instance
        .deployed
        .iter()
        .flat_map(|d| &d.ports)
        .map(|b| Port {
            interface: b.interface.clone(),
            mac: b.mac.clone(),
            cable: Cable { device_id: b.device_id, port: b.port.clone() },
            in_use: !b.networks.is_empty(),
        })
        .collect();
    if instance.deployed.is_none() || !ports_suffice(&ports, needs, fabric_of) {
        for Interface { name, mac, cable, .. } in server.iter().flat_map(|s| &s.interfaces) {
            if let Some(cable) = cable
                && !ports.iter().any(|p| p.mac == *mac || p.cable == *cable)
            {
                ports.push(Port { interface: name.clone(), mac: mac.clone(), cable: cable.clone(), in_use: false });
            }
        }
    }
    ports
}

fn ports_suffice(ports: &[Port], needs: &BTreeMap<Id, usize>, fabric_of: &BTreeMap<Id, Id>) -> bool {
    needs.iter().all(|(fabric, count)| {
        ports.iter().filter(|p| fabric_of.get(&p.cable.device_id) == Some(fabric)).count() >= *count
    })
}

/// Which ports serve which fabric. `None`: not enough ports.
pub(crate) fn links(
    ports: &[Port],
    needs: &BTreeMap<Id, usize>,
    fabric_of: &BTreeMap<Id, Id>,
) -> Option<BTreeMap<Id, Vec<usize>>> {
    let mut result = BTreeMap::new();
    for (fabric, count) in needs {
        let mut here: Vec<usize> =
            (0..ports.len()).filter(|i| fabric_of.get(&ports[*i].cable.device_id) == Some(fabric)).collect();
        here.sort_by_key(|i| (!ports[*i].in_use, *i));
        let first = *here.first()?;
        let mut picked = vec![first];
        if *count > 1 {
            // The second cable on another switch where there is one: then a switch may fail.
            let other = |i: &&usize| ports[**i].cable.device_id != ports[first].cable.device_id;
            let second = here
                .iter()
                .skip(1)
                .find(|i| ports[**i].in_use)
                .or_else(|| here.iter().skip(1).find(other))
                .or_else(|| here.get(1))?;
            picked.push(*second);
        }
        picked.sort_unstable();
        result.insert(*fabric, picked);
    }
    Some(result)
}

/// The bindings of all cabled ports: those that carry networks, and the others, which drop everything (a tenant must
/// not look into the provisioning network through a port left over).
pub(crate) fn bindings(
    group: &Group,
    ports: &[Port],
    links: &BTreeMap<Id, Vec<usize>>,
    networks: &BTreeMap<Id, &LogicalNetwork>,
    allocations: &BTreeMap<Id, NetworkAllocation>,
) -> Vec<PortBinding> {
    let mut bindings: Vec<PortBinding> = ports
        .iter()
        .map(|p| PortBinding {
            interface: p.interface.clone(),
            mac: p.mac.clone(),
            device_id: p.cable.device_id,
            port: p.cable.port.clone(),
            vlans: PortVlans::default(),
            mtu: None,
            networks: BTreeSet::new(),
            untagged_network: None,
        })
        .collect();
    for connection in &group.design.connections {
        let id = connection.logical_network_id;
        let Some(vlan) = allocations.get(&id).and_then(|a| a.vlan) else { continue };
        let Some(used) = networks.get(&id).and_then(|n| links.get(&n.fabric_id)) else { continue };
        for position in used {
            let binding = &mut bindings[*position];
            binding.networks.insert(id);
            if connection.tagged {
                binding.vlans.tagged.insert(vlan);
            } else {
                binding.vlans.untagged = Some(vlan);
                binding.untagged_network = Some(id);
            }
            if connection.mtu > 1500 {
                binding.mtu = Some(FABRIC_MTU);
            }
        }
    }
    bindings
}
