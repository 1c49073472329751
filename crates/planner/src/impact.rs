//! What a plan touches, and how long it may take.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Id,
    job::JobSpec,
    order::{Order, ServerClean, ServerInstall, ServerPower, ServerStart, SwitchApply},
};
use serde::{Deserialize, Serialize};

use crate::{
    plan::{Allocation, Work},
    roster::Action,
    storage::GIB,
};

/// What a plan touches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Impact {
    /// Servers that are switched on.
    pub servers_powered_on: Vec<Id>,
    /// Servers that are switched off.
    pub servers_powered_off: Vec<Id>,
    /// Servers on which an operating system is installed.
    pub servers_installed: Vec<Id>,
    /// Servers whose data are lost.
    pub servers_wiped: Vec<Id>,
    /// Number of disks on those.
    pub disks_erased: u32,
    /// Size of those in GB (10^9 bytes).
    pub disks_erased_gb: u64,
    /// Switches that are changed.
    pub devices: Vec<DeviceImpact>,
    /// Number of their ports that are changed.
    pub switch_ports: usize,
    /// Addresses given back.
    pub addresses_released: usize,
    /// Ports of other infrastructures that are changed: always 0.
    pub other_tenants_affected: usize,
    /// What happens to data on storages.
    #[serde(default)]
    pub storage: StorageImpact,
    /// Seconds from start to end, by the usual duration of each kind of job along the longest chain.
    pub estimate_seconds: u64,
}

/// What a plan does on storages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageImpact {
    /// Volumes, shares and buckets that are made.
    pub made: usize,
    /// Their size in GiB.
    pub made_gib: u64,
    /// Those that grow.
    pub grown: usize,
    /// Those that are deleted, with their data.
    pub deleted: usize,
    /// Size of these in GiB.
    pub deleted_gib: u64,
    /// Hosts of a volume or share that get access.
    pub hosts_gained: usize,
    /// Hosts that lose it.
    pub hosts_lost: usize,
}

/// One switch that is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceImpact {
    /// Network device.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// Ports that are changed.
    pub ports: Vec<String>,
}

/// All switch ports that the plan changes.
pub(crate) fn touched_ports(work: &Work<'_>) -> BTreeSet<(Id, String)> {
    let mut touched = BTreeSet::new();
    for member in work.members {
        let before = member.instance.deployed.as_ref().map(|d| d.ports.as_slice()).unwrap_or_default();
        let after = work.after.get(&member.instance.id).map(|d| d.ports.as_slice()).unwrap_or_default();
        let reinstall = work.actions.get(&member.instance.id) == Some(&Action::Reinstall);
        for (list, other) in [(before, after), (after, before)] {
            for b in list.iter().filter(|b| reinstall || !other.contains(b)) {
                touched.insert((b.device_id, b.port.clone()));
            }
        }
        let unsure = after.iter().filter(|b| member.instance.unsure(b));
        touched.extend(unsure.map(|b| (b.device_id, b.port.clone())));
    }
    let fabrics = &work.fabrics;
    for (device, vlans) in fabrics.add.iter().chain(&fabrics.remove) {
        touched.extend(vlans.values().flatten().map(|p| (*device, p.clone())));
    }
    for (device, vlans) in &fabrics.untrunk {
        touched.extend(vlans.values().flat_map(|(ports, _)| ports).map(|p| (*device, p.clone())));
    }
    touched
}

pub(crate) fn impact(
    work: &Work<'_>,
    jobs: &[JobSpec],
    touched: &BTreeSet<(Id, String)>,
    releases: &[Allocation],
) -> Impact {
    let of = |function: &str| -> Vec<Id> {
        let ids: BTreeSet<Id> =
            jobs.iter().filter(|j| j.function == function).filter_map(|j| j.refs.server_id).collect();
        ids.into_iter().collect()
    };
    let wiped: BTreeSet<Id> = work
        .members
        .iter()
        .filter(|m| matches!(work.actions.get(&m.instance.id), Some(Action::Delete | Action::Reinstall)))
        .filter_map(|m| m.instance.deployed.as_ref())
        .map(|d| d.server_id)
        .collect();
    let wiped_servers = || wiped.iter().filter_map(|id| work.servers.get(id));
    let mut devices: BTreeMap<Id, Vec<String>> = BTreeMap::new();
    for device in jobs.iter().filter_map(|j| j.refs.network_device_id) {
        devices.entry(device).or_default();
    }
    for (device, port) in touched {
        devices.entry(*device).or_default().push(port.clone());
    }
    Impact {
        servers_powered_on: of(ServerStart::NAME),
        servers_powered_off: of(ServerPower::NAME),
        servers_installed: of(ServerInstall::NAME),
        disks_erased: wiped_servers().map(|s| s.disks).sum(),
        disks_erased_gb: wiped_servers().map(|s| s.disk_gb).sum(),
        servers_wiped: wiped.into_iter().collect(),
        switch_ports: touched.len(),
        devices: devices
            .into_iter()
            .map(|(id, ports)| DeviceImpact {
                id,
                name: work.switches.get(&id).map_or_else(|| format!("device {id}"), |s| s.name.clone()),
                ports,
            })
            .collect(),
        addresses_released: releases.iter().filter(|r| matches!(r, Allocation::Address { .. })).count(),
        other_tenants_affected: touched.iter().filter(|p| work.input.occupied_ports.contains(*p)).count(),
        storage: storage(work),
        estimate_seconds: longest(work, jobs),
    }
}

fn storage(work: &Work<'_>) -> StorageImpact {
    let mut impact = StorageImpact::default();
    let (mut made, mut deleted) = (0, 0);
    for e in &work.input.storage.elements {
        let after = work.storage.get(&e.id).and_then(Option::as_ref);
        let before = e.state.as_ref();
        let old = |key: &String| before.and_then(|s| s.objects.get(key));
        for (key, object) in after.into_iter().flat_map(|s| &s.objects) {
            match old(key) {
                None => {
                    impact.made += 1;
                    made += object.size_bytes;
                    impact.hosts_gained += object.instances.len();
                }
                Some(was) => {
                    impact.grown += usize::from(object.size_bytes > was.size_bytes);
                    impact.hosts_gained += object.instances.difference(&was.instances).count();
                    impact.hosts_lost += was.instances.difference(&object.instances).count();
                }
            }
        }
        for (key, object) in before.into_iter().flat_map(|s| &s.objects) {
            if after.is_none_or(|s| !s.objects.contains_key(key)) {
                impact.deleted += 1;
                deleted += object.size_bytes;
                impact.hosts_lost += object.instances.len();
            }
        }
    }
    (impact.made_gib, impact.deleted_gib) = (made / GIB, deleted / GIB);
    impact
}

/// Seconds along the longest chain of jobs. Jobs stand after all they depend on.
fn longest(work: &Work<'_>, jobs: &[JobSpec]) -> u64 {
    let mut end: BTreeMap<&str, u64> = BTreeMap::new();
    for job in jobs {
        let start = job.depends_on.iter().filter_map(|d| end.get(d.as_str())).max().copied().unwrap_or(0);
        let usual = work.input.options.usual_seconds.get(&job.function).copied();
        end.insert(&job.key, start + u64::from(usual.unwrap_or_else(|| guess(&job.function))));
    }
    end.values().max().copied().unwrap_or(0)
}

/// Seconds of a job when nothing is known of past ones.
fn guess(function: &str) -> u32 {
    match function {
        ServerInstall::NAME => 600,
        ServerClean::NAME => 900,
        ServerStart::NAME => 180,
        ServerPower::NAME => 60,
        SwitchApply::NAME => 20,
        _ => 5,
    }
}
