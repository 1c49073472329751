//! Instances that boot from a volume: over which port, and what their network configuration must not take away from them.

use std::collections::BTreeMap;

use model::{Id, Mac, storage::BlockProtocol};
use serde_json::{Value, json};

use crate::{
    input::{OutsidePort, PortBinding, Switch},
    plan::Work,
    problem::{Code, PlanProblem},
    roster::Action,
    storage::{BootVolume, ElementKind, object_element},
    validate::object_group,
};

/// Lets one port boot from the network for as long as the instance lives: untagged frames of the first that carries networks, and none of
/// them untagged, go where servers are provisioned. Answers its MAC address; `None`: no port is free for that.
pub(crate) fn open_port(bindings: &mut [PortBinding], switches: &BTreeMap<Id, &Switch>) -> Option<Mac> {
    let serves = |b: &PortBinding| !b.networks.is_empty();
    let free = |b: &PortBinding| b.untagged_network.is_none();
    let at = bindings
        .iter()
        .position(|b| serves(b) && free(b))
        // A port of its own for booting is as good, when no network has an untagged one.
        .or_else(|| bindings.iter().position(free).filter(|_| bindings.iter().all(free)))?;
    let binding = bindings.get_mut(at)?;
    binding.vlans.untagged = switches.get(&binding.device_id)?.quarantine_vlan;
    binding.vlans.untagged.map(|_| binding.mac.clone())
}

/// A system whose root is behind an interface must keep the address with which it came up.
pub(crate) fn keep_connected(netplan: &mut Value, provisioned: Option<&str>) {
    for port in netplan.get_mut("ethernets").and_then(Value::as_object_mut).into_iter().flat_map(|e| e.values_mut()) {
        port["critical"] = true.into();
        let mac = port.pointer("/match/macaddress").and_then(Value::as_str);
        if mac.is_some() && mac == provisioned {
            // Its lease is the boot's: no name servers, and no way out before those of the design.
            port["dhcp4"] = true.into();
            port["dhcp4-overrides"] = json!({"use-dns": false, "use-hostname": false, "route-metric": 2048});
        }
    }
}

/// Tells that booting depends on a network of the design, which this platform may not see through.
pub(crate) fn warn(
    work: &Work<'_>,
    group_id: Id,
    provisioned: Option<&Mac>,
    (bindings, outside): (&[PortBinding], &[OutsidePort]),
    problems: &mut Vec<PlanProblem>,
) {
    let Some(group) = work.groups.get(&group_id).filter(|_| provisioned.is_none()) else { return };
    let ports =
        bindings.iter().filter_map(|b| b.untagged_network).chain(outside.iter().filter_map(|o| o.untagged_network));
    let names: Vec<&str> = ports.filter_map(|n| work.networks.get(&n)).map(|n| n.design.label.as_str()).collect();
    let (message, fix) = match names.first() {
        Some(name) => (
            format!(
                "its servers boot over network {name} each time: the site must answer DHCP there, and the storage be reachable from it"
            ),
            "see to that with a DHCP relay and a route, or carry that network tagged",
        ),
        None => (
            "no port of its servers carries untagged frames to the site, so they could not boot from their volumes"
                .into(),
            "connect the group to a network untagged, or set the quarantine VLAN of its switches",
        ),
    };
    problems.push(PlanProblem::warning(object_group(group), "connections", Code::BootFromSan, message, fix));
}

/// The volumes that instances boot from, once it is decided on which storages they lie.
pub(crate) fn volumes(work: &Work<'_>, problems: &mut Vec<PlanProblem>) -> BTreeMap<Id, BootVolume> {
    let mut all = BTreeMap::new();
    for e in work.input.storage.elements.iter().filter(|e| e.design.boot && e.kind == ElementKind::DriveGroup) {
        let Some(Some(state)) = work.storage.get(&e.id) else { continue };
        let storage = work.input.storage.storages.iter().find(|s| s.id == state.storage_id);
        if let Some(s) = storage.filter(|s| s.protocol.is_some_and(|p| p != BlockProtocol::Iscsi)) {
            let message = format!("servers boot from volumes over iSCSI, which storage {} does not speak", s.name);
            problems.push(PlanProblem::error(
                object_element(e),
                "storage",
                Code::BootFromSan,
                message,
                "choose another storage, or boot from local disks",
            ));
        }
        for (key, object) in &state.objects {
            let volume = BootVolume { storage_id: state.storage_id, key: key.clone() };
            all.extend(object.instances.iter().map(|i| (*i, volume.clone())));
        }
    }
    all
}

/// Whether an instance goes to another server with its volume, as nothing of its system is lost.
pub(crate) fn moves(work: &Work<'_>, instance_id: Id) -> bool {
    work.input.storage.moving.contains(&instance_id) && work.actions.get(&instance_id) == Some(&Action::Create)
}
