//! What networks take: VLANs, subnets and addresses. Always the first or best that fits, never a random one.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use model::{Id, deploy::DeployType, network::VLAN_RANGE};

use crate::{
    infiniband,
    input::{
        Address, Fabric, Ipv4Strategy, LogicalNetwork, NetworkAllocation, PlanInput, SubnetAllocation, VlanStrategy,
    },
    problem::{Code, PlanProblem},
    roster::Member,
    validate::{object_network, overlap, ranges_text},
};

/// Whether a network goes with this plan.
pub(crate) fn goes(input: &PlanInput, network: &LogicalNetwork) -> bool {
    network.infrastructure_id == Some(input.infrastructure.id)
        && (input.infrastructure.deleted || network.deploy_type == DeployType::Delete)
}

/// Networks that need a VLAN and subnets after this plan: the infrastructure's own, and shared ones in use.
pub(crate) fn wanted<'a>(input: &'a PlanInput, used: &BTreeSet<Id>) -> Vec<&'a LogicalNetwork> {
    input
        .networks
        .iter()
        .filter(|n| !goes(input, n))
        .filter(|n| n.infrastructure_id == Some(input.infrastructure.id) || used.contains(&n.id))
        .collect()
}

/// VLANs and subnets of all wanted networks.
pub(crate) fn networks(
    input: &PlanInput,
    wanted: &[&LogicalNetwork],
    problems: &mut Vec<PlanProblem>,
) -> BTreeMap<Id, NetworkAllocation> {
    let mut result: BTreeMap<Id, NetworkAllocation> = BTreeMap::new();
    let mut vlans: BTreeMap<Id, BTreeSet<u16>> = BTreeMap::new();
    for fabric in &input.fabrics {
        vlans.entry(fabric.id).or_default().extend(&fabric.vlans_used);
    }
    for switch in &input.switches {
        vlans.entry(switch.fabric_id).or_default().extend(switch.quarantine_vlan);
    }
    let mut subnets: Vec<Ipv4Net> = input.subnet_pools.iter().flat_map(|p| p.used.iter().copied()).collect();
    for network in &input.networks {
        vlans.entry(network.fabric_id).or_default().extend(network.allocated.vlan);
        subnets.extend(network.allocated.subnets.iter().map(|s| s.subnet));
        // What is chosen by hand is set aside first, so that nothing automatic takes it.
        if let VlanStrategy::Manual { vlan } = network.design.vlan {
            vlans.entry(network.fabric_id).or_default().insert(vlan);
        }
    }
    for network in wanted {
        let taken = vlans.entry(network.fabric_id).or_default();
        // Partitions are no VLANs.
        let vlan = if network.design.pkey.is_some() { None } else { vlan(input, network, taken, problems) };
        result.insert(network.id, NetworkAllocation { vlan, ..NetworkAllocation::default() });
    }
    infiniband::pkeys(input, wanted, &mut result, problems);
    let manual_first = |s: &Ipv4Strategy| matches!(s, Ipv4Strategy::Auto { .. });
    let mut order: Vec<(&LogicalNetwork, usize)> =
        wanted.iter().flat_map(|n| (0..n.design.ipv4.len()).map(move |i| (*n, i))).collect();
    order.sort_by_key(|(n, i)| (n.design.ipv4.get(*i).is_some_and(manual_first), n.id, *i));
    let mut chosen: BTreeMap<(Id, usize), SubnetAllocation> = BTreeMap::new();
    for (network, position) in order {
        if let Some(found) = subnet(input, network, position, &mut subnets, problems) {
            chosen.insert((network.id, position), found);
        }
    }
    for ((id, _), found) in chosen {
        if let Some(allocation) = result.get_mut(&id) {
            allocation.subnets.push(found);
        }
    }
    result
}

fn vlan(
    input: &PlanInput,
    network: &LogicalNetwork,
    taken: &mut BTreeSet<u16>,
    problems: &mut Vec<PlanProblem>,
) -> Option<u16> {
    match (network.design.vlan, network.allocated.vlan) {
        (VlanStrategy::Auto, Some(kept)) => Some(kept),
        (VlanStrategy::Manual { vlan }, Some(kept)) if vlan == kept => Some(kept),
        (VlanStrategy::Manual { vlan }, kept) => {
            let quarantine =
                input.switches.iter().any(|s| s.fabric_id == network.fabric_id && s.quarantine_vlan == Some(vlan));
            let elsewhere = input
                .networks
                .iter()
                .find(|n| n.id != network.id && n.fabric_id == network.fabric_id && n.allocated.vlan == Some(vlan));
            if quarantine || elsewhere.is_some() {
                let by = elsewhere.map_or("the quarantine of a switch", |n| n.design.label.as_str());
                problems.push(PlanProblem::error(
                    object_network(network),
                    "vlan",
                    Code::VlanInUse,
                    format!("VLAN {vlan} is used by {by}"),
                    "choose another VLAN, or automatic",
                ));
            }
            if kept.is_some() && !network.other_devices.is_empty() {
                problems.push(PlanProblem::error(
                    object_network(network),
                    "vlan",
                    Code::NetworkInUse,
                    "other infrastructures are attached, so its VLAN cannot change",
                    "keep the VLAN",
                ));
            }
            Some(vlan)
        }
        (VlanStrategy::Auto, None) => {
            let fabric: Option<&Fabric> = input.fabrics.iter().find(|f| f.id == network.fabric_id);
            let mut ranges = fabric.map(|f| f.vlan_ranges.clone()).unwrap_or_default();
            ranges.sort_unstable();
            let free = ranges
                .iter()
                .flat_map(|(low, high)| *low..=*high)
                .find(|v| VLAN_RANGE.contains(v) && !taken.contains(v));
            match free {
                Some(v) => {
                    taken.insert(v);
                }
                None => problems.push(PlanProblem::error(
                    object_network(network),
                    "vlan",
                    Code::VlanPoolExhausted,
                    format!(
                        "fabric {} has no free VLAN left in {}",
                        fabric.map_or("?", |f| f.name.as_str()),
                        ranges_text(&ranges)
                    ),
                    "widen the fabric's VLAN ranges or delete unused networks",
                )),
            }
            free
        }
    }
}

fn subnet(
    input: &PlanInput,
    network: &LogicalNetwork,
    position: usize,
    taken: &mut Vec<Ipv4Net>,
    problems: &mut Vec<PlanProblem>,
) -> Option<SubnetAllocation> {
    let kept = network.allocated.subnets.get(position);
    let name = format!("ipv4.{position}");
    let found = match network.design.ipv4.get(position)? {
        Ipv4Strategy::Manual { subnet, gateway } => {
            let subnet = subnet.trunc();
            if let Some(k) = kept
                && k.subnet == subnet
                && k.gateway == *gateway
            {
                return Some(k.clone());
            }
            let own: Vec<Ipv4Net> = network.allocated.subnets.iter().map(|s| s.subnet).collect();
            if let Some(other) = taken.iter().find(|t| overlap(t, &subnet) && !own.contains(t)) {
                problems.push(PlanProblem::error(
                    object_network(network),
                    format!("{name}.subnet"),
                    Code::SubnetOverlap,
                    format!("{subnet} overlaps {other}, which is in use"),
                    "choose another subnet, or automatic",
                ));
                return None;
            }
            taken.push(subnet);
            SubnetAllocation { subnet, gateway: *gateway, pool_id: None }
        }
        Ipv4Strategy::Auto { prefix_len, pool_ids } => {
            if let Some(k) = kept
                && k.subnet.prefix_len() == *prefix_len
                && k.pool_id.is_some_and(|p| pool_ids.is_empty() || pool_ids.contains(&p))
            {
                return Some(k.clone());
            }
            let mut pools: Vec<_> = input
                .subnet_pools
                .iter()
                .filter(|p| pool_ids.is_empty() || pool_ids.contains(&p.id))
                .filter(|p| !p.closed && p.fabric_id.is_none_or(|f| f == network.fabric_id))
                .collect();
            pools.sort_by_key(|p| (pool_ids.iter().position(|id| *id == p.id), p.id));
            let found = pools.iter().find_map(|p| best_fit(p.prefix.trunc(), taken, *prefix_len).map(|s| (p.id, s)));
            let Some((pool_id, subnet)) = found else {
                let names: Vec<&str> = pools.iter().map(|p| p.label.as_str()).collect();
                problems.push(PlanProblem::error(
                    object_network(network),
                    name,
                    Code::SubnetPoolExhausted,
                    format!(
                        "no free /{prefix_len} is left in {}",
                        if names.is_empty() { "any pool of this fabric".to_owned() } else { names.join(", ") }
                    ),
                    "ask for a smaller subnet, add a pool or delete unused networks",
                ));
                return None;
            };
            taken.push(subnet);
            // A /31 has two addresses, both for hosts (RFC 3021).
            let gateway = if *prefix_len < 31 { subnet.hosts().next() } else { None };
            SubnetAllocation { subnet, gateway, pool_id: Some(pool_id) }
        }
    };
    if let Some(k) = kept {
        let mine = input
            .instances
            .iter()
            .filter_map(|i| i.deployed.as_ref())
            .flat_map(|d| &d.addresses)
            .any(|a| a.network_id == network.id && a.subnet == k.subnet);
        if mine || !network.addresses_used.is_empty() {
            problems.push(PlanProblem::error(
                object_network(network),
                name,
                Code::SubnetInUse,
                format!("servers have addresses in {}, so it cannot be replaced by {}", k.subnet, found.subnet),
                "disconnect the groups first, or keep the subnet",
            ));
        }
    }
    Some(found)
}

/// The free block of `len` that leaves the largest blocks whole: taken from the smallest free block that holds it.
pub(crate) fn best_fit(pool: Ipv4Net, taken: &[Ipv4Net], len: u8) -> Option<Ipv4Net> {
    if len < pool.prefix_len() {
        return None;
    }
    let inside: Vec<Ipv4Net> = taken.iter().map(Ipv4Net::trunc).filter(|t| overlap(&pool, t)).collect();
    let mut best: Option<Ipv4Net> = None;
    descend(pool, &inside, len, &mut best);
    best.and_then(|block| Ipv4Net::new(block.addr(), len).ok())
}

fn descend(block: Ipv4Net, taken: &[Ipv4Net], len: u8, best: &mut Option<Ipv4Net>) {
    if taken.is_empty() {
        if best.is_none_or(|b| block.prefix_len() > b.prefix_len()) {
            *best = Some(block);
        }
        return;
    }
    if block.prefix_len() >= len || taken.iter().any(|t| t.contains(&block)) {
        return;
    }
    let Ok(halves) = block.subnets(block.prefix_len() + 1) else { return };
    for half in halves {
        let inside: Vec<Ipv4Net> = taken.iter().copied().filter(|t| overlap(&half, t)).collect();
        descend(half, &inside, len, best);
    }
}

/// Gives addresses, lowest free first. An address released by this plan is not given again by it.
pub(crate) struct Addresses<'a> {
    allocations: &'a BTreeMap<Id, NetworkAllocation>,
    used: BTreeMap<Id, BTreeSet<Ipv4Addr>>,
    /// Never given out.
    aside: BTreeMap<Id, &'a [Ipv4Net]>,
    cursor: BTreeMap<(Id, usize), u32>,
}

impl<'a> Addresses<'a> {
    pub(crate) fn new(
        input: &'a PlanInput,
        members: &[Member],
        allocations: &'a BTreeMap<Id, NetworkAllocation>,
    ) -> Self {
        let mut used: BTreeMap<Id, BTreeSet<Ipv4Addr>> = BTreeMap::new();
        for network in &input.networks {
            used.entry(network.id).or_default().extend(&network.addresses_used);
        }
        for member in members {
            for a in member.instance.deployed.iter().flat_map(|d| &d.addresses) {
                used.entry(a.network_id).or_default().insert(a.address);
            }
        }
        for (id, allocation) in allocations {
            used.entry(*id).or_default().extend(allocation.subnets.iter().filter_map(|s| s.gateway));
        }
        let aside = input.networks.iter().map(|n| (n.id, n.set_aside.as_slice())).collect();
        Self { allocations, used, aside, cursor: BTreeMap::new() }
    }

    /// The next address of a network; `None` when all its subnets are full.
    pub(crate) fn take(&mut self, network_id: Id) -> Option<Address> {
        let used = self.used.entry(network_id).or_default();
        let aside = self.aside.get(&network_id).copied().unwrap_or_default();
        for (position, s) in self.allocations.get(&network_id)?.subnets.iter().enumerate() {
            let (first, last) = host_range(s.subnet);
            let cursor = self.cursor.entry((network_id, position)).or_insert(first);
            while *cursor <= last {
                let address = Ipv4Addr::from_bits(*cursor);
                if let Some(block) = aside.iter().find(|b| b.contains(&address)) {
                    *cursor = block.broadcast().to_bits().saturating_add(1);
                    continue;
                }
                if used.insert(address) {
                    return Some(Address { network_id, address, subnet: s.subnet, gateway: s.gateway });
                }
                *cursor = cursor.saturating_add(1);
                if *cursor == u32::MAX {
                    break;
                }
            }
        }
        None
    }
}

/// First and last address for hosts.
fn host_range(subnet: Ipv4Net) -> (u32, u32) {
    let (first, last) = (subnet.network().to_bits(), subnet.broadcast().to_bits());
    if subnet.prefix_len() >= 31 { (first, last) } else { (first + 1, last - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn the_smallest_hole_is_filled_first() {
        let taken = [net("10.0.0.0/25"), net("10.0.0.128/26"), net("10.0.2.0/24")];
        assert_eq!(best_fit(net("10.0.0.0/16"), &taken, 26), Some(net("10.0.0.192/26")));
        assert_eq!(best_fit(net("10.0.0.0/16"), &taken, 24), Some(net("10.0.1.0/24")));
        assert_eq!(best_fit(net("10.0.0.0/24"), &taken, 24), None);
        assert_eq!(best_fit(net("10.0.0.0/24"), &[net("10.0.0.0/8")], 30), None);
        assert_eq!(best_fit(net("10.0.0.0/24"), &[], 23), None);
    }
}
