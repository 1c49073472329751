//! What a plan takes and what it gives back.

use std::collections::{BTreeMap, BTreeSet};

use model::Id;

use crate::{
    input::{InstanceState, NetworkAllocation},
    plan::{Allocation, InstancePlan, NetworkPlan, Work},
    roster::Member,
    storage::ElementState,
    storage_place::StoragePlan,
};

/// What is taken and what is given back.
pub(crate) fn takings(
    work: &Work<'_>,
    instances: &[InstancePlan],
    networks: &[NetworkPlan],
    storage: &[StoragePlan],
) -> (Vec<Allocation>, Vec<Allocation>) {
    let (mut before, mut after) = (BTreeSet::new(), BTreeSet::new());
    for plan in networks {
        network_takings(&mut after, plan.id, &plan.allocation);
        if let Some(network) = work.networks.get(&plan.id) {
            network_takings(&mut before, plan.id, &network.allocated);
        }
    }
    for plan in storage {
        if let Some(state) = &plan.after {
            storage_takings(&mut after, plan, state);
        }
        let element = work.input.storage.elements.iter().find(|e| e.id == plan.id);
        for state in element.into_iter().flat_map(|e| e.state.iter().chain(&e.unfinished)) {
            storage_takings(&mut before, plan, state);
        }
    }
    let rows: BTreeMap<Id, &Member> = work.members.iter().map(|m| (m.instance.id, m)).collect();
    for plan in instances {
        if let Some(state) = &plan.after {
            instance_takings(&mut after, plan.id, state);
        }
        if let Some(member) = rows.get(&plan.id) {
            if let Some(state) = &member.instance.deployed {
                instance_takings(&mut before, plan.id, state);
            } else if let Some(server_id) = member.instance.reserved_server_id {
                before.insert(Allocation::Server { instance_id: plan.id, server_id });
            }
        }
    }
    (after.difference(&before).cloned().collect(), before.difference(&after).cloned().collect())
}

fn network_takings(into: &mut BTreeSet<Allocation>, network_id: Id, allocation: &NetworkAllocation) {
    into.extend(allocation.vlan.map(|vlan| Allocation::Vlan { network_id, vlan }));
    into.extend(allocation.pkey.map(|pkey| Allocation::Pkey { network_id, pkey }));
    for s in &allocation.subnets {
        into.insert(Allocation::Subnet { network_id, subnet: s.subnet, gateway: s.gateway, pool_id: s.pool_id });
    }
}

fn storage_takings(into: &mut BTreeSet<Allocation>, plan: &StoragePlan, state: &ElementState) {
    into.extend(state.objects.iter().map(|(key, object)| Allocation::Storage {
        element_id: plan.id,
        storage_id: state.storage_id,
        key: key.clone(),
        size_bytes: object.size_bytes,
    }));
}

fn instance_takings(into: &mut BTreeSet<Allocation>, instance_id: Id, state: &InstanceState) {
    into.insert(Allocation::Server { instance_id, server_id: state.server_id });
    for a in &state.addresses {
        into.insert(Allocation::Address {
            instance_id,
            network_id: a.network_id,
            address: a.address,
            prefix_len: a.subnet.prefix_len(),
        });
    }
    for o in &state.outside {
        for network_id in &o.networks {
            into.insert(Allocation::OutsideConnection {
                instance_id,
                network_id: *network_id,
                interface: o.interface.clone(),
                mac: o.mac.clone(),
                fabric_id: o.fabric_id,
                tagged: o.untagged_network != Some(*network_id),
            });
        }
    }
    for b in &state.ports {
        for network_id in &b.networks {
            into.insert(Allocation::Connection {
                instance_id,
                network_id: *network_id,
                interface: b.interface.clone(),
                mac: b.mac.clone(),
                device_id: b.device_id,
                port: b.port.clone(),
                tagged: b.untagged_network != Some(*network_id),
            });
        }
    }
}
