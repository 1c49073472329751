//! Who stays, who comes, who goes: the count of each group against its instances.

use model::{
    Id,
    deploy::{DeployType, ServiceStatus},
};
use serde::{Deserialize, Serialize};

use crate::{
    input::{Group, Instance, PlanInput},
    problem::{Code, PlanProblem},
    validate::{MAX_INSTANCES, object_group},
};

/// What happens to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A server is taken and installed.
    Create,
    /// Nothing.
    Keep,
    /// Its networks change.
    Edit,
    /// Its operating system is installed anew; its data are lost.
    Reinstall,
    /// It is switched on.
    Start,
    /// It is switched off.
    Stop,
    /// Its server is cleaned and given back; its data are lost.
    Delete,
}

/// An instance with its fate.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub instance: Instance,
    pub action: Action,
    /// The row does not exist yet.
    pub new_row: bool,
}

/// All instances of all groups with what happens to them, ordered by group, index and id.
pub(crate) fn roster(input: &PlanInput, problems: &mut Vec<PlanProblem>) -> Vec<Member> {
    let mut next_id = input.next_instance_id;
    let mut members = Vec::new();
    for group in &input.groups {
        let going = input.infrastructure.deleted || group.deploy_type == DeployType::Delete;
        let want = if going { 0 } else { group.design.instance_count.min(MAX_INSTANCES) as usize };
        let rows: Vec<&Instance> = input.instances.iter().filter(|i| i.group_id == group.id).collect();
        let mut stay: Vec<&Instance> = rows.iter().copied().filter(|i| !i.deleted).collect();
        // Those that were never deployed go first (they cost nothing), then the newest.
        stay.sort_by_key(|i| (i.deployed.is_none(), i.index, i.id));
        let leave: Vec<Id> = stay.iter().skip(want).map(|i| i.id).collect();
        let mut own: Vec<Member> = rows
            .iter()
            .map(|i| {
                let gone = i.deleted || leave.contains(&i.id);
                let boot = input.storage.boot_element(input, group.id).map(|e| e.key(Some(i.id)));
                Member { instance: (*i).clone(), action: action(group, i, gone, boot.as_deref()), new_row: false }
            })
            .collect();
        let missing = want.saturating_sub(stay.len());
        let mut index = rows.iter().map(|i| i.index).max().unwrap_or(0);
        for _ in 0..missing {
            let Some(id) = next_id else {
                problems.push(PlanProblem::error(
                    object_group(group),
                    "instance_count",
                    Code::InstanceRowsMissing,
                    format!("{missing} instances are designed but not recorded"),
                    "save the instance count again",
                ));
                break;
            };
            next_id = Some(id + 1);
            index += 1;
            own.push(Member {
                instance: Instance {
                    id,
                    group_id: group.id,
                    index,
                    label: format!("{}-{index}", group.design.label),
                    deleted: false,
                    reinstall: false,
                    reserved_server_id: None,
                    deployed: None,
                    unfinished: Vec::new(),
                },
                action: Action::Create,
                new_row: true,
            });
        }
        members.append(&mut own);
    }
    members
}

/// `boot`: the volume that it is to boot from.
fn action(group: &Group, instance: &Instance, gone: bool, boot: Option<&str>) -> Action {
    if gone {
        return Action::Delete;
    }
    let Some(state) = &instance.deployed else { return Action::Create };
    let other_os = group.design.os.as_ref().is_some_and(|os| os.template_id != state.os_template_id);
    // A system does not move from a disk to a volume, nor from one volume to another.
    let other_disk = state.boot.as_ref().map(|b| b.key.as_str()) != boot;
    if other_os || other_disk || instance.reinstall {
        return Action::Reinstall;
    }
    match (group.deploy_type, group.service_status) {
        (DeployType::Stop | DeployType::Suspend, ServiceStatus::Active) => Action::Stop,
        (DeployType::Start, ServiceStatus::Stopped | ServiceStatus::Suspended) => Action::Start,
        _ => Action::Keep,
    }
}

/// The host name of an instance, from the group's pattern.
pub(crate) fn hostname(group: &Group, id: Id, index: u32, label: &str) -> String {
    let pattern = group.design.hostname.trim();
    let name = if pattern.is_empty() {
        label.to_owned()
    } else {
        let distinct = ["{index}", "{id}", "{label}"].iter().any(|p| pattern.contains(p));
        let name = pattern
            .replace("{index}", &index.to_string())
            .replace("{id}", &id.to_string())
            .replace("{label}", &plain(label))
            .replace("{group}", &plain(&group.design.label));
        if distinct {
            name
        } else {
            // Several machines cannot have one name: the number goes into the first label.
            match name.split_once('.') {
                Some((host, domain)) => format!("{host}-{index}.{domain}"),
                None => format!("{name}-{index}"),
            }
        }
    };
    if pattern.is_empty() { plain(&name) } else { name.to_ascii_lowercase() }
}

/// A label as one label of a host name.
fn plain(label: &str) -> String {
    label.to_ascii_lowercase().replace(['_', '.'], "-")
}
