//! The jobs of a plan and their order.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Id,
    bmc::{PowerAction, PowerState},
    boot::InstallSpec,
    job::{JobRefs, JobSpec, RetryPolicy, Target},
    order::{Order, ServerClean, ServerInstall, ServerPower, ServerStart, SwitchApply},
    secret::Sealed,
    switch::{PortIntent, PortVlans, SwitchPatch},
    template::{Erase, InstallMethod},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    infiniband,
    input::{InstanceState, PortBinding, Shutdown},
    plan::Work,
    roster::{Action, Member},
    storage_boot, storage_jobs,
};

/// `infrastructure.finish`, run by the Global Controller: what was designed is recorded as deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InfrastructureFinish {
    /// The infrastructure.
    pub infrastructure_id: Id,
    /// Generation of the deploy.
    pub generation: i64,
    /// The infrastructure goes.
    pub deleted: bool,
}

impl Order for InfrastructureFinish {
    const NAME: &'static str = "infrastructure.finish";
}

/// Seconds to wait for an operating system to shut down when the caller said nothing.
const SOFT_TIMEOUT: u32 = 180;
/// Time for an image to be written.
const IMAGE_TIMEOUT: u32 = 3600;
/// Time for a distribution's own installer, whose waits have their own deadlines.
const INSTALLER_TIMEOUT: u32 = 4 * 3600;

pub(crate) struct Dag<'a> {
    pub(crate) work: &'a Work<'a>,
    pub(crate) jobs: Vec<JobSpec>,
}

pub(crate) struct Node<'a, P> {
    pub(crate) key: String,
    pub(crate) title: String,
    pub(crate) payload: &'a P,
    pub(crate) depends_on: Vec<String>,
    pub(crate) timeout_seconds: u32,
    pub(crate) target: Target,
    pub(crate) refs: JobRefs,
}

pub(crate) fn jobs(work: &Work<'_>) -> Vec<JobSpec> {
    let mut dag = Dag { work, jobs: Vec::new() };
    dag.vlans();
    infiniband::add(&mut dag);
    // Jobs that change ports of a switch, for the removal of VLANs that these ports carried.
    let mut released: BTreeMap<(Id, u16), BTreeSet<String>> = BTreeMap::new();
    for member in work.members {
        dag.member(member, &mut released);
    }
    dag.removals(&released);
    storage_jobs::add(&mut dag);
    infiniband::chain(&mut dag);
    dag.finish();
    dag.jobs
}

impl<'a> Dag<'a> {
    pub(crate) fn push<P: Order>(&mut self, node: Node<'_, P>) -> String {
        let infrastructure = &self.work.input.infrastructure;
        let depends_on: BTreeSet<String> = node.depends_on.into_iter().collect();
        self.jobs.push(JobSpec {
            key: node.key.clone(),
            function: P::NAME.to_owned(),
            title: node.title,
            site_id: (P::NAME != InfrastructureFinish::NAME).then_some(infrastructure.site_id),
            target: node.target,
            // Plain data structures always serialise.
            payload: serde_json::to_value(node.payload).unwrap_or(Value::Null),
            depends_on: depends_on.into_iter().collect(),
            retry: RetryPolicy::default(),
            timeout_seconds: node.timeout_seconds,
            refs: JobRefs { infrastructure_id: Some(infrastructure.id), ..node.refs },
            can_be_skipped: P::NAME != InfrastructureFinish::NAME,
            requires_confirmation: false,
        });
        node.key
    }

    fn switch_name(&self, id: Id) -> &'a str {
        self.work.switches.get(&id).map_or("?", |s| s.name.as_str())
    }

    fn server_target(&self, server_id: Id) -> Target {
        Target { kind: "server".to_owned(), id: server_id, generation: self.work.input.infrastructure.generation }
    }

    /// Several infrastructures change one switch at the same time, each its own part, so their generations say nothing
    /// about each other: 0.
    fn device_target(id: Id) -> Target {
        Target { kind: "network_device".to_owned(), id, generation: 0 }
    }

    fn apply(&mut self, key: String, title: String, device: Id, patch: SwitchPatch, after: Vec<String>) -> String {
        self.push(Node {
            key,
            title,
            payload: &SwitchApply { network_device_id: device, patch },
            depends_on: after,
            timeout_seconds: 300,
            target: Self::device_target(device),
            refs: JobRefs { network_device_id: Some(device), ..JobRefs::default() },
        })
    }

    /// VLANs that must exist before any port uses them; in parallel with installations.
    fn vlans(&mut self) {
        for (device, vlans) in &self.work.fabrics.add {
            let mut patch = SwitchPatch { vlans_present: vlans.keys().copied().collect(), ..SwitchPatch::default() };
            for (vlan, ports) in vlans {
                for port in ports {
                    patch.trunks_add.entry(port.clone()).or_default().insert(*vlan);
                }
            }
            let title = format!("Carry {} on {}", list(vlans.keys()), self.switch_name(*device));
            self.apply(format!("vlan/device-{device}"), title, *device, patch, Vec::new());
        }
    }

    fn removals(&mut self, released: &BTreeMap<(Id, u16), BTreeSet<String>>) {
        let mut gone: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
        for (device, vlans) in &self.work.fabrics.remove {
            let mut patch = SwitchPatch { vlans_absent: vlans.keys().copied().collect(), ..SwitchPatch::default() };
            let mut after = Vec::new();
            for (vlan, ports) in vlans {
                for port in ports {
                    patch.trunks_remove.entry(port.clone()).or_default().insert(*vlan);
                }
                after.extend(released.get(&(*device, *vlan)).into_iter().flatten().cloned());
            }
            let title = format!("Remove {} from {}", list(vlans.keys()), self.switch_name(*device));
            let key = self.apply(format!("vlan-remove/device-{device}"), title, *device, patch, after);
            for vlan in vlans.keys() {
                gone.entry(*vlan).or_default().insert(key.clone());
            }
        }
        for (device, vlans) in &self.work.fabrics.untrunk {
            let mut patch = SwitchPatch::default();
            let mut after = Vec::new();
            for (vlan, (ports, whole)) in vlans {
                if *whole {
                    patch.vlans_absent.insert(*vlan);
                }
                for port in ports {
                    patch.trunks_remove.entry(port.clone()).or_default().insert(*vlan);
                }
                after.extend(gone.get(vlan).into_iter().flatten().cloned());
                // A new path may replace the old one: it must be there first.
                for (other, added) in &self.work.fabrics.add {
                    if added.contains_key(vlan) {
                        after.push(format!("vlan/device-{other}"));
                    }
                }
            }
            let title = format!("Take {} off links of {}", list(vlans.keys()), self.switch_name(*device));
            self.apply(format!("trunk-remove/device-{device}"), title, *device, patch, after);
        }
    }

    fn member(&mut self, member: &Member, released: &mut BTreeMap<(Id, u16), BTreeSet<String>>) {
        let i = &member.instance;
        let before = i.deployed.as_ref();
        let after = self.work.after.get(&i.id);
        let action = self.work.actions.get(&i.id).copied().unwrap_or(member.action);
        let me = format!("instance-{}", i.id);
        let verb = |verb: &str| format!("{verb}/{me}");
        match action {
            Action::Keep => {}
            Action::Create => {
                let Some(state) = after else { return };
                let mut first: Vec<String> = self.power_off(member, state.server_id, &me, false).into_iter().collect();
                if i.reserved_server_id == Some(state.server_id) {
                    // An earlier deploy may have left its ports anywhere.
                    first =
                        self.ports(member, state.server_id, &verb("quarantine"), &state.ports, &first, true, released);
                }
                self.install(member, state, first, released, None);
            }
            Action::Reinstall => {
                let (Some(before), Some(state)) = (before, after) else { return };
                let first: Vec<String> = self.power_off(member, before.server_id, &me, true).into_iter().collect();
                let first =
                    self.ports(member, before.server_id, &verb("quarantine"), &before.ports, &first, true, released);
                // The data drives are the tenant's own.
                let same = before.server_id == state.server_id;
                self.install(member, state, first, released, same.then_some(Erase::First));
            }
            Action::Edit | Action::Start | Action::Stop => {
                let (Some(before), Some(state)) = (before, after) else { return };
                let changed: Vec<PortBinding> =
                    state.ports.iter().filter(|p| !before.ports.contains(p) || i.unsure(p)).cloned().collect();
                let first = self.ports(member, state.server_id, &verb("ports"), &changed, &[], false, released);
                self.note_released(member, &changed, &verb("ports"), released);
                match action {
                    Action::Start => {
                        self.start(member, state.server_id, first);
                    }
                    Action::Stop => {
                        self.power_off(member, state.server_id, &me, true);
                    }
                    _ => {}
                }
            }
            Action::Delete => {
                // A server that an unfinished deploy took is in an unknown state: it is cleaned too.
                let Some(server_id) = before.map(|d| d.server_id).or(i.reserved_server_id) else { return };
                self.discard(member, server_id, &format!("instance-{}", i.id), released);
            }
        }
        if action != Action::Delete
            && let (Some(reserved), Some(state)) = (i.reserved_server_id, after)
            && reserved != state.server_id
        {
            // It was taken but does not suit the design any more.
            self.discard(member, reserved, &format!("server-{reserved}"), released);
        }
    }

    /// Off, out of the tenant's networks, erased.
    fn discard(
        &mut self,
        member: &Member,
        server_id: Id,
        subject: &str,
        released: &mut BTreeMap<(Id, u16), BTreeSet<String>>,
    ) {
        let state = member.instance.deployed.as_ref().filter(|d| d.server_id == server_id);
        let ports = state.map(|d| d.ports.clone()).unwrap_or_else(|| self.cabled(server_id));
        let first: Vec<String> = self.power_off(member, server_id, subject, state.is_some()).into_iter().collect();
        let mut then = self.ports(member, server_id, &format!("detach/{subject}"), &ports, &first, true, released);
        if then.is_empty() {
            then = first;
        }
        self.push(Node {
            key: format!("clean/{subject}"),
            title: format!("Erase the disks of {}", self.server_name(server_id)),
            payload: &ServerClean { server_id, ..ServerClean::default() },
            depends_on: then,
            // Overwriting a large hard disk takes days.
            timeout_seconds: 4 * 24 * 3600,
            target: self.server_target(server_id),
            refs: refs(member, server_id),
        });
    }

    fn server_name(&self, id: Id) -> String {
        self.work.servers.get(&id).map_or_else(|| format!("server {id}"), |s| s.name.clone())
    }

    /// Ports of a server that has no recorded state.
    fn cabled(&self, server_id: Id) -> Vec<PortBinding> {
        let interfaces = self.work.servers.get(&server_id).into_iter().flat_map(|s| &s.interfaces);
        interfaces
            .filter_map(|i| {
                let cable = i.cable.as_ref()?;
                let occupied = &self.work.input.occupied_ports;
                if occupied.contains(&(cable.device_id, cable.port.clone())) {
                    return None;
                }
                Some(PortBinding {
                    interface: i.name.clone(),
                    mac: i.mac.clone(),
                    device_id: cable.device_id,
                    port: cable.port.clone(),
                    vlans: PortVlans::default(),
                    mtu: None,
                    networks: BTreeSet::new(),
                    untagged_network: None,
                })
            })
            .collect()
    }

    fn install(
        &mut self,
        member: &Member,
        state: &InstanceState,
        after: Vec<String>,
        released: &mut BTreeMap<(Id, u16), BTreeSet<String>>,
        erase: Option<Erase>,
    ) {
        let i = &member.instance;
        let Some(group) = self.work.groups.get(&i.group_id) else { return };
        let Some(mut os) = group.design.os.clone() else { return };
        os.erase = os.erase.or(erase);
        let timeout_seconds = if os.method == InstallMethod::Image { IMAGE_TIMEOUT } else { INSTALLER_TIMEOUT };
        let title = if storage_boot::moves(self.work, i.id) {
            format!("Move {} to {}", i.label, self.server_name(state.server_id))
        } else {
            format!("Install {} {} on {}", os.os_name, os.os_version, i.label)
        };
        let payload = ServerInstall {
            server_id: state.server_id,
            spec: InstallSpec {
                instance_id: i.id,
                hostname: state.hostname.clone(),
                os,
                username: group.design.username.clone(),
                password: Sealed(String::new()),
                ssh_keys: self.work.input.ssh_keys.clone(),
                network_config: state.network_config.clone(),
                variables: group.design.variables.clone(),
                secrets: BTreeMap::new(),
                storage: model::storage::InstanceStorage::default(),
            },
        };
        let install = self.push(Node {
            key: format!("install/instance-{}", i.id),
            title,
            payload: &payload,
            depends_on: after,
            timeout_seconds,
            target: self.server_target(state.server_id),
            refs: refs(member, state.server_id),
        });
        let mut attached = self.ports(
            member,
            state.server_id,
            &format!("attach/instance-{}", i.id),
            &state.ports,
            std::slice::from_ref(&install),
            false,
            released,
        );
        if attached.is_empty() {
            attached.push(install);
        }
        self.start(member, state.server_id, attached);
    }

    fn start(&mut self, member: &Member, server_id: Id, after: Vec<String>) {
        self.push(Node {
            key: format!("start/instance-{}", member.instance.id),
            title: format!("Start {}", member.instance.label),
            payload: &ServerStart { server_id },
            depends_on: after,
            timeout_seconds: 900,
            target: self.server_target(server_id),
            refs: refs(member, server_id),
        });
    }

    /// Switches a server off unless it is known to be off. `tenant`: its operating system may be asked first.
    fn power_off(&mut self, member: &Member, server_id: Id, subject: &str, tenant: bool) -> Option<String> {
        let power = self.work.servers.get(&server_id).map(|s| s.power);
        let off = if tenant { power == Some(PowerState::Off) } else { power != Some(PowerState::On) };
        // An installation starts by booting from the network, which resets the server anyway when its power is unknown.
        if off {
            return None;
        }
        let Shutdown { attempt_soft, soft_timeout, attempt_hard, force } = self.work.input.options.shutdown;
        let soft = tenant && attempt_soft;
        let seconds = if soft_timeout == 0 { SOFT_TIMEOUT } else { soft_timeout };
        let payload = ServerPower {
            server_id,
            action: if soft { PowerAction::GracefulOff } else { PowerAction::ForceOff },
            graceful_seconds: soft.then_some(seconds),
            force_after: soft && (attempt_hard || force),
        };
        Some(self.push(Node {
            key: format!("power-off/{subject}"),
            title: format!("Switch off {}", self.server_name(server_id)),
            payload: &payload,
            depends_on: Vec::new(),
            timeout_seconds: 300 + if soft { seconds } else { 0 },
            target: self.server_target(server_id),
            refs: refs(member, server_id),
        }))
    }

    /// One job for each switch with ports in the list. Returns their keys.
    #[allow(clippy::too_many_arguments)]
    fn ports(
        &mut self,
        member: &Member,
        server_id: Id,
        prefix: &str,
        ports: &[PortBinding],
        after: &[String],
        quarantine: bool,
        released: &mut BTreeMap<(Id, u16), BTreeSet<String>>,
    ) -> Vec<String> {
        let i = &member.instance;
        let mut devices: BTreeMap<Id, Vec<&PortBinding>> = BTreeMap::new();
        for binding in ports {
            devices.entry(binding.device_id).or_default().push(binding);
        }
        let mut keys = Vec::new();
        for (device, bindings) in devices {
            let switch = self.work.switches.get(&device);
            let mut patch = SwitchPatch::default();
            let mut depends_on = after.to_vec();
            for binding in bindings {
                let intent = if quarantine {
                    let untagged = switch.and_then(|s| s.quarantine_vlan);
                    PortIntent {
                        vlans: Some(PortVlans { untagged, tagged: BTreeSet::new() }),
                        mtu: None,
                        admin_up: Some(true),
                        description: Some("quarantine".to_owned()),
                    }
                } else {
                    depends_on.extend(self.carriers(device, &binding.vlans));
                    PortIntent {
                        vlans: Some(binding.vlans.clone()),
                        mtu: binding.mtu,
                        admin_up: Some(true),
                        description: Some(format!("{} {}", i.label, binding.interface)),
                    }
                };
                patch.ports.insert(binding.port.clone(), intent);
            }
            let name = self.switch_name(device);
            let title = if quarantine {
                format!("Put the ports of {} on {name} into quarantine", i.label)
            } else {
                format!("Connect {} on {name}", i.label)
            };
            let key = self.apply(format!("{prefix}/device-{device}"), title, device, patch, depends_on);
            // The order is about the server's ports: a newer deploy of the same server makes it void.
            let target = self.server_target(server_id);
            if let Some(job) = self.jobs.last_mut() {
                job.target = target;
                job.refs.server_id = Some(server_id);
                job.refs.instance_id = Some(i.id);
            }
            keys.push(key);
        }
        if quarantine {
            self.note_released(member, ports, prefix, released);
        }
        keys
    }

    /// Notes which job takes which VLAN off a switch's port.
    fn note_released(
        &self,
        member: &Member,
        ports: &[PortBinding],
        prefix: &str,
        released: &mut BTreeMap<(Id, u16), BTreeSet<String>>,
    ) {
        let mut note = |device: Id, vlan: u16| {
            released.entry((device, vlan)).or_default().insert(format!("{prefix}/device-{device}"));
        };
        for old in member.instance.deployed.iter().flat_map(|d| &d.ports) {
            if ports.iter().any(|p| p.device_id == old.device_id && p.port == old.port) {
                old.vlans.tagged.iter().chain(old.vlans.untagged.iter()).for_each(|v| note(old.device_id, *v));
            }
        }
        for (device, vlan) in self.work.suspected.get(&member.instance.id).into_iter().flatten() {
            if ports.iter().any(|p| p.device_id == *device) {
                note(*device, *vlan);
            }
        }
    }

    /// Jobs that make these VLANs on a switch and on the way to the others.
    fn carriers(&self, device: Id, vlans: &PortVlans) -> Vec<String> {
        let fabrics = &self.work.fabrics;
        let fabric = self.work.switches.get(&device).map_or(0, |s| s.fabric_id);
        let mut keys = Vec::new();
        for vlan in vlans.tagged.iter().chain(vlans.untagged.iter()) {
            let Some(members) = fabrics.members.get(&(fabric, *vlan)) else { continue };
            for (other, added) in &fabrics.add {
                let same_fabric = self.work.switches.get(other).is_some_and(|s| s.fabric_id == fabric);
                if same_fabric && added.contains_key(vlan) && (*other == device || !members.contains(other)) {
                    keys.push(format!("vlan/device-{other}"));
                }
            }
        }
        keys
    }

    fn finish(&mut self) {
        let needed: BTreeSet<&String> = self.jobs.iter().flat_map(|j| &j.depends_on).collect();
        let sinks: Vec<String> = self.jobs.iter().map(|j| &j.key).filter(|k| !needed.contains(k)).cloned().collect();
        let i = &self.work.input.infrastructure;
        let payload = InfrastructureFinish { infrastructure_id: i.id, generation: i.generation, deleted: i.deleted };
        self.push(Node {
            key: "finish".to_owned(),
            title: format!("Record {} as {}", i.label, if i.deleted { "deleted" } else { "deployed" }),
            payload: &payload,
            depends_on: sinks,
            timeout_seconds: 300,
            target: Target { kind: "infrastructure".to_owned(), id: i.id, generation: i.generation },
            refs: JobRefs::default(),
        });
    }
}

fn refs(member: &Member, server_id: Id) -> JobRefs {
    JobRefs { server_id: Some(server_id), instance_id: Some(member.instance.id), ..JobRefs::default() }
}

fn list<'v>(vlans: impl Iterator<Item = &'v u16>) -> String {
    let words: Vec<String> = vlans.map(ToString::to_string).collect();
    format!("VLAN {}", words.join(", "))
}
