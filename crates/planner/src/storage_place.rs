//! Which storage an element gets, and what is on it afterwards.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use model::{
    Id,
    storage::{BlockProtocol, initiator_iqn},
};
use serde::{Deserialize, Serialize};

use crate::{
    input::PlanInput,
    plan::Work,
    problem::{Code, PlanProblem},
    roster::Action,
    storage::{
        Affinity, ElementConfig, ElementKind, ElementState, ObjectState, Storage, StorageElement, object_element,
        size_text,
    },
};

/// What happens to one storage element.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoragePlan {
    /// Element id.
    pub id: Id,
    /// Kind.
    pub kind: ElementKind,
    /// Label.
    pub label: String,
    /// Its design once deployed; `None`: gone.
    pub design: Option<ElementConfig>,
    /// What is on storages afterwards; `None`: nothing.
    pub after: Option<ElementState>,
    /// All that may be on storages while it is carried out: what is there and what shall be.
    pub touched: Option<ElementState>,
}

/// Both together.
fn touched(before: Option<&ElementState>, after: Option<&ElementState>) -> Option<ElementState> {
    let (Some(before), Some(after)) = (before, after) else { return before.or(after).cloned() };
    let mut all = after.clone();
    for (key, was) in &before.objects {
        let object = all.objects.entry(key.clone()).or_insert_with(|| was.clone());
        object.size_bytes = Ord::max(object.size_bytes, was.size_bytes);
        object.instances.extend(&was.instances);
        object.clients.extend(&was.clients);
    }
    Some(all)
}

/// What every element has on storages afterwards; `None`: nothing.
pub(crate) fn states(work: &Work<'_>, problems: &mut Vec<PlanProblem>) -> BTreeMap<Id, Option<ElementState>> {
    let input = work.input;
    let storages: BTreeMap<Id, &Storage> = input.storage.storages.iter().map(|s| (s.id, s)).collect();
    let mut room = Room::new(&storages);
    let mut result = BTreeMap::new();
    let mut wanted: Vec<(u8, &StorageElement, BTreeMap<String, ObjectState>)> = Vec::new();
    for e in &input.storage.elements {
        if e.goes(input) {
            if e.state.is_some() && !input.options.allow_data_loss {
                problems.push(PlanProblem::error(
                    object_element(e),
                    "",
                    Code::DataLossNotAllowed,
                    format!("all data of {} {} would be lost", e.kind.words(), e.design.label),
                    "allow data loss for this deploy, or keep it",
                ));
            }
            result.insert(e.id, None);
            continue;
        }
        let objects = objects(work, e, problems);
        let before = e.state.as_ref().map_or(0, ElementState::bytes);
        let lost = kept_out(work, e, &objects);
        if lost > 0 && !input.options.allow_data_loss {
            problems.push(PlanProblem::error(
                object_element(e),
                "hosts",
                Code::DataLossNotAllowed,
                format!("all data of {lost} volumes would be lost, whose instances stay"),
                "allow data loss for this deploy, or keep the group",
            ));
        }
        // What stays as it is counts first, then what grows: neither can go elsewhere.
        let turn =
            if e.state.is_some() && bytes(&objects) <= before { 0 } else { 1 + u8::from(e.held_storage().is_none()) };
        wanted.push((turn, e, objects));
    }
    wanted.sort_by_key(|(turn, e, _)| (*turn, e.id));
    for (_, e, objects) in wanted {
        let fabrics = fabrics(work, e);
        if let Some(storage_id) = choose(e, &storages, &fabrics, bytes(&objects), &mut room, problems) {
            result.insert(e.id, Some(ElementState { storage_id, objects }));
        }
    }
    room.overcommitted(input, &storages, &result, problems);
    access_words(work, &result, problems);
    result
}

/// Volumes that go though their instance stays.
fn kept_out(work: &Work<'_>, e: &StorageElement, objects: &BTreeMap<String, ObjectState>) -> usize {
    let before = e.state.iter().flat_map(|s| &s.objects);
    let gone = before.filter(|(key, _)| !objects.contains_key(*key));
    gone.filter(|(_, o)| o.instances.iter().any(|i| work.after.contains_key(i))).count()
}

fn bytes(objects: &BTreeMap<String, ObjectState>) -> u64 {
    objects.values().map(|o| o.size_bytes).sum()
}

/// Its volumes, share or bucket, with the instances that may use them.
fn objects(work: &Work<'_>, e: &StorageElement, problems: &mut Vec<PlanProblem>) -> BTreeMap<String, ObjectState> {
    let hosts: BTreeSet<Id> = work
        .members
        .iter()
        .filter(|m| e.design.groups.contains(&m.instance.group_id) && m.action != Action::Delete)
        .map(|m| m.instance.id)
        .filter(|id| work.after.contains_key(id))
        .collect();
    let object = |instances: BTreeSet<Id>| ObjectState {
        size_bytes: e.design.size_bytes,
        qos: e.design.qos,
        instances,
        clients: BTreeSet::new(),
    };
    match e.kind {
        ElementKind::SharedDrive => BTreeMap::from([(e.key(None), object(hosts))]),
        ElementKind::DriveGroup => hosts.into_iter().map(|id| (e.key(Some(id)), object([id].into()))).collect(),
        ElementKind::Bucket => BTreeMap::from([(e.key(None), object(BTreeSet::new()))]),
        ElementKind::FileShare => {
            let mut clients: BTreeSet<IpAddr> = BTreeSet::new();
            let mut without = 0;
            for state in hosts.iter().filter_map(|id| work.after.get(id)) {
                let own: Vec<IpAddr> = state
                    .addresses
                    .iter()
                    .filter(|a| e.design.network_id.is_none_or(|n| n == a.network_id))
                    .map(|a| a.address.into())
                    .collect();
                without += usize::from(own.is_empty());
                clients.extend(own);
            }
            if without > 0 {
                problems.push(PlanProblem::error(
                    object_element(e),
                    "hosts",
                    Code::StorageUnreachable,
                    format!("{without} of its hosts have no address from which they could mount it"),
                    "connect their group to a network with addresses",
                ));
            }
            BTreeMap::from([(e.key(None), ObjectState { clients, ..object(hosts) })])
        }
    }
}

/// Fabrics through which the hosts of an element reach storages. Empty: no hosts, or no networks; then nothing can be said.
fn fabrics(work: &Work<'_>, e: &StorageElement) -> BTreeSet<Id> {
    if let Some(network) = e.design.network_id.and_then(|n| work.networks.get(&n)) {
        return [network.fabric_id].into();
    }
    e.design
        .groups
        .iter()
        .filter_map(|g| work.groups.get(g))
        .flat_map(|g| &g.design.connections)
        .filter_map(|c| work.networks.get(&c.logical_network_id))
        .map(|n| n.fabric_id)
        .collect()
}

/// Room of storages while elements are placed.
struct Room {
    /// Bytes promised so far.
    promised: BTreeMap<Id, u64>,
    /// Bytes of this infrastructure.
    own: BTreeMap<Id, u64>,
}

impl Room {
    fn new(storages: &BTreeMap<Id, &Storage>) -> Self {
        Self { promised: storages.values().map(|s| (s.id, s.others_bytes)).collect(), own: BTreeMap::new() }
    }

    fn free(&self, s: &Storage) -> u64 {
        s.limit().saturating_sub(self.promised.get(&s.id).copied().unwrap_or(0))
    }

    fn take(&mut self, storage_id: Id, bytes: u64) {
        *self.promised.entry(storage_id).or_default() += bytes;
        *self.own.entry(storage_id).or_default() += bytes;
    }

    /// Tells of storages on which more is promised now than they have.
    fn overcommitted(
        &self,
        input: &PlanInput,
        storages: &BTreeMap<Id, &Storage>,
        after: &BTreeMap<Id, Option<ElementState>>,
        problems: &mut Vec<PlanProblem>,
    ) {
        for e in &input.storage.elements {
            let Some(Some(state)) = after.get(&e.id) else { continue };
            let grows = state.bytes() > e.state.as_ref().map_or(0, ElementState::bytes);
            let Some(s) = storages.get(&state.storage_id).filter(|_| grows) else { continue };
            let promised = self.promised.get(&s.id).copied().unwrap_or(0);
            if promised > s.total_bytes {
                problems.push(PlanProblem::warning(
                    object_element(e),
                    "storage",
                    Code::StorageOvercommitted,
                    format!(
                        "{} is promised on storage {}, which has {}",
                        size_text(promised),
                        s.name,
                        size_text(s.total_bytes)
                    ),
                    "add room to the storage before it fills up",
                ));
            }
        }
    }
}

fn choose(
    e: &StorageElement,
    storages: &BTreeMap<Id, &Storage>,
    fabrics: &BTreeSet<Id>,
    bytes: u64,
    room: &mut Room,
    problems: &mut Vec<PlanProblem>,
) -> Option<Id> {
    let before = e.state.as_ref().map_or(0, ElementState::bytes);
    // What only an unfinished deploy has taken may be given up for another choice.
    let reserved = e.held_storage().filter(|s| e.design.storage_id.is_none_or(|wanted| wanted == *s));
    let beside = e.design.source.as_ref().map(|s| s.storage_id);
    let fixed = e.state.as_ref().map(|s| s.storage_id).or(beside).or(e.design.storage_id).or(reserved);
    let technology = e.kind.technology();
    let mut error = |field: &str, code: Code, message: String, fix: &str| {
        problems.push(PlanProblem::error(object_element(e), field, code, message, fix));
    };
    if let Some(id) = fixed {
        if e.state.is_some() && bytes <= before {
            // It stays as it is, whatever its storage is like now.
            room.take(id, bytes);
            return Some(id);
        }
        let Some(s) = storages.get(&id) else {
            error("storage", Code::StorageUnknown, format!("there is no storage {id} at this site"), "choose another");
            return None;
        };
        if !s.technologies.contains(&technology) {
            let message = format!("storage {} offers no {} storage", s.name, technology.as_str());
            error("storage", Code::StorageUnknown, message, "choose another one, or automatic");
        } else if !s.ready || s.in_maintenance {
            let why = if s.in_maintenance { "in maintenance" } else { "not ready" };
            let message = format!("storage {} is {why}: nothing new is put on it", s.name);
            error("storage", Code::StorageUnavailable, message, "wait until it is back, or choose another one");
        } else if !reaches(s, fabrics) {
            let message = format!("storage {} is not attached to the fabric of its hosts' networks", s.name);
            error(
                "storage",
                Code::StorageUnreachable,
                message,
                "choose another one, or connect the hosts to its fabric",
            );
        } else if room.free(s) < bytes {
            let message =
                format!("storage {} has {} left, {} is needed", s.name, size_text(room.free(s)), size_text(bytes));
            error("size", Code::StorageFull, message, "ask for less, or choose another storage");
        } else {
            room.take(id, bytes);
            return Some(id);
        }
        return None;
    }
    let offering: Vec<&&Storage> =
        storages.values().filter(|s| s.technologies.contains(&technology) && s.ready && !s.experimental).collect();
    let bootable = |s: &Storage| !e.design.boot || s.protocol.is_none_or(|p| p == BlockProtocol::Iscsi);
    let offering: Vec<&&Storage> = offering.into_iter().filter(|s| bootable(s)).collect();
    let near: Vec<&&Storage> = offering.iter().copied().filter(|s| reaches(s, fabrics)).collect();
    let open: Vec<&&Storage> = near.iter().copied().filter(|s| !s.in_maintenance).collect();
    let fitting = open.iter().copied().filter(|s| room.free(s) >= bytes);
    let own = |s: &Storage| room.own.get(&s.id).copied().unwrap_or(0);
    // What is really there comes before what may only be promised.
    let thin = |s: &Storage| room.promised.get(&s.id).copied().unwrap_or(0) + bytes > s.total_bytes;
    let best = match e.design.affinity {
        Affinity::SameStorage => {
            fitting.min_by_key(|s| (thin(s), own(s) == 0, -s.priority, std::cmp::Reverse(room.free(s)), s.id))
        }
        Affinity::DifferentStorage => {
            fitting.min_by_key(|s| (thin(s), own(s), -s.priority, std::cmp::Reverse(room.free(s)), s.id))
        }
    };
    if let Some(s) = best {
        room.take(s.id, bytes);
        return Some(s.id);
    }
    let word = technology.as_str();
    let (code, message, fix) = if offering.is_empty() {
        let boot = if e.design.boot { " and can be booted from over iSCSI" } else { "" };
        (Code::StorageUnknown, format!("this site has no {word} storage that is ready{boot}"), "register a storage")
    } else if near.is_empty() {
        let message = format!("no {word} storage is attached to the fabric of its hosts' networks");
        (Code::StorageUnreachable, message, "choose a network of a fabric that has one")
    } else if open.is_empty() {
        let message = format!("every {word} storage that could be used is in maintenance");
        (Code::StorageUnavailable, message, "wait until one is back")
    } else {
        let most = open.iter().map(|s| room.free(s)).max().unwrap_or(0);
        let message =
            format!("{} is needed, no {word} storage has more than {} left", size_text(bytes), size_text(most));
        (Code::StorageFull, message, "ask for less, or add a storage")
    };
    error("storage", code, message, fix);
    None
}

fn reaches(s: &Storage, fabrics: &BTreeSet<Id>) -> bool {
    s.fabric_id.is_none_or(|f| fabrics.is_empty() || fabrics.contains(&f))
}

/// Running systems are not changed from inside: their owner is told what is to be done there.
fn access_words(work: &Work<'_>, after: &BTreeMap<Id, Option<ElementState>>, problems: &mut Vec<PlanProblem>) {
    for e in &work.input.storage.elements {
        let hosts = |s: &ElementState| s.objects.values().flat_map(|o| o.instances.clone()).collect::<BTreeSet<Id>>();
        let before = e.state.as_ref().map(hosts).unwrap_or_default();
        let then = after.get(&e.id).and_then(Option::as_ref).map(hosts).unwrap_or_default();
        let live = |id: &Id| {
            let fresh =
                matches!(work.actions.get(id), Some(Action::Create | Action::Reinstall | Action::Delete) | None);
            !fresh
        };
        let label = |id: &Id| {
            let member = work.members.iter().find(|m| m.instance.id == *id);
            member.map_or_else(|| format!("instance {id}"), |m| m.instance.label.clone())
        };
        let names = |ids: Vec<&Id>| ids.iter().take(3).map(|id| label(id)).collect::<Vec<_>>().join(", ");
        let gains: Vec<&Id> = then.difference(&before).filter(|id| live(id)).collect();
        if let Some(first) = gains.first() {
            let how = if e.kind == ElementKind::FileShare {
                "mount it there by hand".to_owned()
            } else {
                format!("log in there by hand, as initiator {} and so on", initiator_iqn(**first))
            };
            problems.push(PlanProblem::warning(
                object_element(e),
                "hosts",
                Code::StorageNotAttached,
                format!("running systems get access ({}), but are not told of it from inside", names(gains)),
                how,
            ));
        }
        let loses: Vec<&Id> = before.difference(&then).filter(|id| live(id)).collect();
        if !loses.is_empty() {
            problems.push(PlanProblem::warning(
                object_element(e),
                "hosts",
                Code::StorageAccessLost,
                format!("running systems lose access: {}", names(loses)),
                "unmount it there before this is deployed",
            ));
        }
    }
}

/// What happens to the elements: those for which nothing changes are left out.
pub(crate) fn plans(input: &PlanInput, after: &BTreeMap<Id, Option<ElementState>>) -> Vec<StoragePlan> {
    input
        .storage
        .elements
        .iter()
        .filter_map(|e| {
            let then = after.get(&e.id)?;
            let goes = e.goes(input);
            let design = (!goes).then(|| {
                let mut design = e.design.clone();
                // Groups that go take their access along.
                design.groups.retain(|id| {
                    input.groups.iter().any(|g| g.id == *id && g.deploy_type != model::deploy::DeployType::Delete)
                });
                design
            });
            let as_drawn = design.as_ref().is_none_or(|d| *d == e.design);
            let same = e.state == *then && e.unfinished.is_empty() && e.deployed == design && as_drawn;
            (!same || goes).then(|| StoragePlan {
                id: e.id,
                kind: e.kind,
                label: e.design.label.clone(),
                design,
                after: then.clone(),
                touched: touched(e.state.as_ref(), then.as_ref()),
            })
        })
        .collect()
}
