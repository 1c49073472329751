//! Which server an instance gets, and which of its ports carry which networks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::{Id, switch::PortVlans};

use crate::{
    infiniband,
    input::{
        Cable, Group, Instance, Interface, LogicalNetwork, NetworkAllocation, OutsidePort, PlanInput, PortBinding,
        Server,
    },
    problem::{Code, PlanProblem},
    roster::{Action, Member},
    validate::object_group,
};

/// MTU of a switch port that carries more than 1500 bytes. Ports are raised, never lowered.
pub const FABRIC_MTU: u32 = 9216;

/// Where cables lead, as far as it matters here.
pub(crate) struct Cabling {
    /// Fabrics of the switches that are managed.
    fabric_of: BTreeMap<Id, Id>,
    /// Fabrics whose networks are done outside.
    unmanaged: BTreeSet<Id>,
}

/// Where one interface leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// To a port of a switch that is managed.
    Switch(Cable),
    /// To an unmanaged fabric.
    Outside(Id),
    /// Nobody knows: not to a switch that is managed, so maybe to any of the unmanaged fabrics.
    Unknown,
}

impl Cabling {
    pub(crate) fn new(input: &PlanInput) -> Self {
        Self {
            fabric_of: input.switches.iter().map(|s| (s.id, s.fabric_id)).collect(),
            unmanaged: input.fabrics.iter().filter(|f| f.unmanaged).map(|f| f.id).collect(),
        }
    }

    /// Whether this end is known to be at that fabric.
    fn leads(&self, end: &End, fabric: Id) -> bool {
        match end {
            End::Switch(cable) => self.fabric_of.get(&cable.device_id) == Some(&fabric),
            End::Outside(other) => *other == fabric,
            End::Unknown => false,
        }
    }

    /// Whether these ends are enough for the needs.
    fn enough<'e>(&self, ends: impl Iterator<Item = &'e End>, needs: &BTreeMap<Id, usize>) -> bool {
        let ends: Vec<&End> = ends.collect();
        let mut spare = ends.iter().filter(|e| ***e == End::Unknown).count();
        needs.iter().all(|(fabric, count)| {
            let known = ends.iter().filter(|e| self.leads(e, *fabric)).count();
            let missing = count.saturating_sub(known);
            if self.unmanaged.contains(fabric) && missing <= spare {
                spare -= missing;
                return true;
            }
            missing == 0
        })
    }
}

fn end(interface: &Interface) -> End {
    match (&interface.cable, interface.outside) {
        (Some(cable), _) => End::Switch(cable.clone()),
        (None, Some(fabric)) => End::Outside(fabric),
        (None, None) => End::Unknown,
    }
}

/// Ports that a group needs, by fabric: 1, or 2 for redundancy.
pub(crate) fn needs(group: &Group, networks: &BTreeMap<Id, &LogicalNetwork>) -> BTreeMap<Id, usize> {
    let mut needs = BTreeMap::new();
    for connection in &group.design.connections {
        // Ports of InfiniBand are all in their partitions; none is chosen.
        if let Some(network) = networks.get(&connection.logical_network_id).filter(|n| n.design.pkey.is_none()) {
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
    cabling: &Cabling,
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
                Some(s)
                    if suits(s, group, type_id)
                        && fits(s, &needs, cabling)
                        && infiniband::fits(s, group, networks)
                        && free_ports(s, &ports) =>
                {
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
            .filter(|s| s.available && suits(s, group, type_id) && s.site_id == input.infrastructure.site_id)
            .filter(|s| !taken.contains(&s.id))
            .collect();
        let cabled: Vec<&Server> =
            free.iter().copied().filter(|s| fits(s, &needs, cabling) && infiniband::fits(s, group, networks)).collect();
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
        let without = free.iter().filter(|s| !infiniband::fits(s, group, networks)).count();
        if !open.is_empty() && free.len() >= need && free.len() - without < need {
            problems.push(PlanProblem::error(
                object_group(group),
                "connections",
                Code::MissingCabling,
                format!(
                    "of {} free servers, {without} have no InfiniBand port in the networks' fabric; need {need}",
                    free.len()
                ),
                "choose another server type, or discover the servers again once their adapters are in place",
            ));
        } else if !open.is_empty() {
            problems.push(shortage(group, type_id, need, have, busy, &free, &needs, cabling));
        }
    }
    chosen
}

fn pool_words(group: &Group) -> String {
    group.design.resource_pool_id.map(|p| format!(" in resource pool {p}")).unwrap_or_default()
}

/// Whether a server is of the group's kind, and from its resource pool.
fn suits(server: &Server, group: &Group, type_id: Id) -> bool {
    server.type_id == type_id && group.design.resource_pool_id.is_none_or(|p| server.resource_pools.contains(&p))
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

fn fits(server: &Server, needs: &BTreeMap<Id, usize>, cabling: &Cabling) -> bool {
    let ends: Vec<End> = server.interfaces.iter().filter(|i| i.guid.is_none()).map(end).collect();
    cabling.enough(ends.iter(), needs)
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
    cabling: &Cabling,
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
        let loose: Vec<&&Server> = free.iter().filter(|s| !fits(s, needs, cabling)).collect();
        let managed: BTreeMap<Id, usize> =
            needs.iter().filter(|(f, _)| !cabling.unmanaged.contains(f)).map(|(f, n)| (*f, *n)).collect();
        let outside = total - managed.values().sum::<usize>();
        if outside > 0 && loose.iter().all(|s| fits(s, &managed, cabling)) {
            return PlanProblem::error(
                object_group(group),
                "connections",
                Code::NotEnoughNics,
                format!(
                    "needs {outside} interfaces for networks of unmanaged fabrics on {need} servers; of {} free ones, \
                     {} have fewer that are not cabled to a managed switch ({})",
                    free.len(),
                    loose.len(),
                    names(loose)
                ),
                "connect the group to fewer networks, drop redundancy, or choose another server type",
            );
        }
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
        format!("have {have} free servers of type {type_id}{}, need {need}", pool_words(group)),
        "lower the count, choose another server type or free some servers",
    )
    .with_patch(serde_json::json!(kept))
}

/// An interface with its cable, as used for one instance.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub interface: String,
    pub mac: String,
    end: End,
    /// It serves networks now.
    in_use: bool,
    /// It carries a signal, where known.
    link_up: Option<bool>,
}

/// The ports an instance has: as deployed when they suffice (cabling found later is no reason to touch a running
/// server), else all that the server has now.
pub(crate) fn ports(
    instance: &Instance,
    server: Option<&Server>,
    needs: &BTreeMap<Id, usize>,
    cabling: &Cabling,
) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    if let Some(state) = &instance.deployed {
        ports.extend(state.ports.iter().map(|b| Port {
            interface: b.interface.clone(),
            mac: b.mac.clone(),
            end: End::Switch(Cable { device_id: b.device_id, port: b.port.clone() }),
            in_use: !b.networks.is_empty(),
            link_up: None,
        }));
        ports.extend(state.outside.iter().map(|o| {
            let stays = needs.contains_key(&o.fabric_id);
            Port {
                interface: o.interface.clone(),
                mac: o.mac.clone(),
                end: if stays { End::Outside(o.fabric_id) } else { End::Unknown },
                in_use: stays,
                link_up: None,
            }
        }));
    }
    if instance.deployed.is_none() || !cabling.enough(ports.iter().map(|p| &p.end), needs) {
        for interface in server.iter().flat_map(|s| &s.interfaces).filter(|i| i.guid.is_none()) {
            let end = end(interface);
            let same_cable = |p: &Port| matches!(p.end, End::Switch(_)) && p.end == end;
            if !ports.iter().any(|p| p.mac == interface.mac || same_cable(p)) {
                let Interface { name, mac, link_up, .. } = interface;
                ports.push(Port { interface: name.clone(), mac: mac.clone(), end, in_use: false, link_up: *link_up });
            }
        }
    }
    ports
}

/// Which ports serve which fabric. `None`: not enough ports.
pub(crate) fn links(
    ports: &[Port],
    needs: &BTreeMap<Id, usize>,
    cabling: &Cabling,
) -> Option<BTreeMap<Id, Vec<usize>>> {
    let mut result = BTreeMap::new();
    let mut loose: VecDeque<usize> = {
        let mut all: Vec<usize> = (0..ports.len()).filter(|i| ports[*i].end == End::Unknown).collect();
        // One without a signal comes last: whatever is done outside, nobody plugged it in.
        all.sort_by_key(|i| (ports[*i].link_up.map_or(1, |up| if up { 0 } else { 2 }), *i));
        all.into()
    };
    for (fabric, count) in needs {
        let mut here: Vec<usize> = (0..ports.len()).filter(|i| cabling.leads(&ports[*i].end, *fabric)).collect();
        here.sort_by_key(|i| (!ports[*i].in_use, *i));
        if cabling.unmanaged.contains(fabric) {
            here.truncate(*count);
            while here.len() < *count {
                here.push(loose.pop_front()?);
            }
            here.sort_unstable();
            result.insert(*fabric, here);
            continue;
        }
        let first = *here.first()?;
        let mut picked = vec![first];
        if *count > 1 {
            // The second cable on another switch where there is one: then a switch may fail.
            let other = |i: &&usize| device(&ports[**i]) != device(&ports[first]);
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

fn device(port: &Port) -> Option<Id> {
    if let End::Switch(cable) = &port.end { Some(cable.device_id) } else { None }
}

/// The bindings of all cabled ports: those that carry networks, and the others, which drop everything (a tenant must
/// not look into the provisioning network through a port left over). Beside them, the interfaces in networks that are
/// done outside.
pub(crate) fn bindings(
    group: &Group,
    ports: &[Port],
    links: &BTreeMap<Id, Vec<usize>>,
    networks: &BTreeMap<Id, &LogicalNetwork>,
    allocations: &BTreeMap<Id, NetworkAllocation>,
) -> (Vec<PortBinding>, Vec<OutsidePort>) {
    let (mut bindings, mut outside) = (Vec::new(), Vec::new());
    for (position, port) in ports.iter().enumerate() {
        let fabric = links.iter().find(|(_, used)| used.contains(&position)).map(|(fabric, _)| *fabric);
        let mut carried = BTreeSet::new();
        let (mut vlans, mut untagged_network, mut mtu) = (PortVlans::default(), None, None);
        for connection in &group.design.connections {
            let id = connection.logical_network_id;
            let Some(vlan) = allocations.get(&id).and_then(|a| a.vlan) else { continue };
            if fabric.is_none() || networks.get(&id).map(|n| n.fabric_id) != fabric {
                continue;
            }
            carried.insert(id);
            if connection.tagged {
                vlans.tagged.insert(vlan);
            } else {
                vlans.untagged = Some(vlan);
                untagged_network = Some(id);
            }
            if connection.mtu > 1500 {
                mtu = Some(FABRIC_MTU);
            }
        }
        let (interface, mac) = (port.interface.clone(), port.mac.clone());
        match (&port.end, fabric) {
            (End::Switch(cable), _) => bindings.push(PortBinding {
                interface,
                mac,
                device_id: cable.device_id,
                port: cable.port.clone(),
                vlans,
                mtu,
                networks: carried,
                untagged_network,
            }),
            (End::Outside(_) | End::Unknown, Some(fabric_id)) if !carried.is_empty() => {
                outside.push(OutsidePort { interface, mac, fabric_id, networks: carried, untagged_network });
            }
            _ => {}
        }
    }
    (bindings, outside)
}
