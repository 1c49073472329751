//! Jobs for storage, woven into those for servers: what an instance needs is there before it starts, and what a leaving instance could
//! reach is closed to it before its server is cleaned, and before data are given to anybody else or deleted.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Id,
    job::{JobRefs, JobSpec, Target},
    order::{Order, ServerClean, ServerInstall, ServerPower, ServerStart},
    secret::Sealed,
    storage::{
        BlockProtocol, Bucket, FileProtocol, Initiator, InstanceMount, InstanceStorage, InstanceTarget, Share,
        StorageAccessEnsure, StorageBucketDelete, StorageBucketEnsure, StorageShareDelete, StorageShareEnsure,
        StorageSnapshotClone, StorageVolumeDelete, StorageVolumeEnsure, Volume, initiator_iqn, initiator_nqn,
    },
};
use serde_json::json;

use crate::{
    jobs::{Dag, Node},
    plan::Work,
    storage::{ElementKind, ElementState, ObjectState, StorageElement, size_text},
    storage_boot,
};

/// Seconds for one thing on an array.
const TIMEOUT: u32 = 600;

/// One volume, share or bucket, before and after.
struct Object<'a> {
    element: &'a StorageElement,
    storage_id: Id,
    key: &'a str,
    before: Option<&'a ObjectState>,
    after: Option<&'a ObjectState>,
    /// A deploy that did not end may have made anything of it; who may have got access.
    unsure: Option<BTreeSet<Id>>,
}

/// Everything that is, may be, or shall be on storages.
fn all<'a>(work: &'a Work<'_>) -> Vec<Object<'a>> {
    let mut list = Vec::new();
    for element in &work.input.storage.elements {
        let after = work.storage.get(&element.id).and_then(Option::as_ref);
        let states = element.state.iter().chain(&element.unfinished).chain(after);
        let places: BTreeSet<(Id, &str)> =
            states.flat_map(|s| s.objects.keys().map(|k| (s.storage_id, k.as_str()))).collect();
        for (storage_id, key) in places {
            let at = |s: &'a ElementState| (s.storage_id == storage_id).then(|| s.objects.get(key)).flatten();
            let maybe: Vec<&ObjectState> = element.unfinished.iter().filter_map(at).collect();
            list.push(Object {
                element,
                storage_id,
                key,
                before: element.state.as_ref().and_then(at),
                after: after.and_then(at),
                unsure: (!maybe.is_empty()).then(|| maybe.iter().flat_map(|o| o.instances.clone()).collect()),
            });
        }
    }
    list
}

/// Whether an element needs work though its design is what is deployed: an unfinished deploy left something.
pub(crate) fn unsure(element: &StorageElement) -> bool {
    !element.unfinished.is_empty()
}

impl Object<'_> {
    fn fresh(&self) -> bool {
        self.before.is_none()
    }

    /// Instances that have access now, or may have it, and shall not.
    fn leavers(&self) -> BTreeSet<Id> {
        let mut all = self.before.map(|o| o.instances.clone()).unwrap_or_default();
        all.extend(self.unsure.iter().flatten());
        match self.after {
            Some(after) => all.difference(&after.instances).copied().collect(),
            None => all,
        }
    }

    fn gainers(&self) -> BTreeSet<Id> {
        let before = self.before.map(|o| o.instances.clone()).unwrap_or_default();
        let after = self.after.map(|o| o.instances.clone()).unwrap_or_default();
        if self.unsure.is_some() { after } else { after.difference(&before).copied().collect() }
    }
}

/// Keys of jobs that an instance waits for.
#[derive(Default)]
struct Waits {
    /// Before its operating system is installed.
    install: BTreeMap<Id, BTreeSet<String>>,
    /// Before it is started.
    start: BTreeMap<Id, BTreeSet<String>>,
    /// Before its server is cleaned.
    clean: BTreeMap<Id, BTreeSet<String>>,
}

/// Adds the jobs for storage, and makes those of servers wait for them.
pub(crate) fn add(dag: &mut Dag<'_>) {
    let work = dag.work;
    let mut waits = Waits::default();
    for object in all(work) {
        match object.element.kind {
            ElementKind::SharedDrive | ElementKind::DriveGroup => volume(dag, &object, &mut waits),
            ElementKind::FileShare => share(dag, &object, &mut waits),
            ElementKind::Bucket => bucket(dag, &object),
        }
    }
    for job in &mut dag.jobs {
        let Some(instance) = job.refs.instance_id else { continue };
        let more = match job.function.as_str() {
            ServerInstall::NAME => waits.install.get(&instance),
            ServerStart::NAME => waits.start.get(&instance),
            ServerClean::NAME => waits.clean.get(&instance),
            _ => None,
        };
        if let Some(more) = more {
            let all: BTreeSet<String> = job.depends_on.iter().chain(more).cloned().collect();
            job.depends_on = all.into_iter().collect();
        }
        if job.function == ServerInstall::NAME {
            let storage = instance_storage(work, instance);
            if !storage.is_empty()
                && let Some(spec) = job.payload.pointer_mut("/spec")
            {
                spec["storage"] = json!(storage);
            }
        }
    }
    in_order(&mut dag.jobs);
}

/// Jobs that switch these instances off, in this plan: their writes end with them.
fn switched_off(dag: &Dag<'_>, instances: &BTreeSet<Id>) -> Vec<String> {
    dag.jobs
        .iter()
        .filter(|j| j.function == ServerPower::NAME && j.refs.instance_id.is_some_and(|i| instances.contains(&i)))
        .map(|j| j.key.clone())
        .collect()
}

fn push<P: Order>(
    dag: &mut Dag<'_>,
    object: &Object<'_>,
    key: String,
    title: String,
    payload: &P,
    depends_on: Vec<String>,
) -> String {
    let target = Target {
        kind: "storage_element".to_owned(),
        id: object.element.id,
        generation: dag.work.input.infrastructure.generation,
    };
    dag.push(Node { key, title, payload, depends_on, timeout_seconds: TIMEOUT, target, refs: JobRefs::default() })
}

/// A subject in titles: `drive data`, `drive data of web-1`.
fn subject(work: &Work<'_>, object: &Object<'_>) -> String {
    let e = object.element;
    let label = &e.design.label;
    match e.kind {
        ElementKind::DriveGroup => {
            let owner = object.after.or(object.before).and_then(|o| o.instances.first().copied());
            match owner {
                Some(id) => format!("drive {label} of {}", instance_label(work, id)),
                None => format!("drive {label}"),
            }
        }
        kind => format!("{} {label}", kind.words()),
    }
}

fn instance_label(work: &Work<'_>, id: Id) -> String {
    let member = work.members.iter().find(|m| m.instance.id == id);
    member.map_or_else(|| format!("instance {id}"), |m| m.instance.label.clone())
}

fn storage_name(work: &Work<'_>, id: Id) -> String {
    let found = work.input.storage.storages.iter().find(|s| s.id == id);
    found.map_or_else(|| format!("storage {id}"), |s| s.name.clone())
}

/// Name of an object on its storage, for people there.
fn name(work: &Work<'_>, object: &Object<'_>) -> String {
    let label = &object.element.design.label;
    format!("{}-{label}", work.input.infrastructure.label)
}

fn volume(dag: &mut Dag<'_>, object: &Object<'_>, waits: &mut Waits) {
    let work = dag.work;
    let (key, storage_id) = (object.key, object.storage_id);
    let (what, at) = (subject(work, object), storage_name(work, storage_id));
    let leavers = object.leavers();
    let off = switched_off(dag, &leavers);
    let Some(after) = object.after else {
        let order = StorageAccessEnsure { storage_id, key: key.to_owned(), initiators: Vec::new() };
        let title = format!("Take {what} away from its hosts");
        let taken = push(dag, object, format!("access/{key}"), title, &order, off);
        for id in leavers {
            waits.clean.entry(id).or_default().insert(taken.clone());
        }
        let order = StorageVolumeDelete { storage_id, key: key.to_owned() };
        push(dag, object, format!("volume-delete/{key}"), format!("Delete {what} on {at}"), &order, vec![taken]);
        return;
    };
    let mut made = Vec::new();
    let resized = object.before.is_none_or(|b| b.size_bytes != after.size_bytes || b.qos != after.qos);
    if resized || object.unsure.is_some() {
        let volume = Volume {
            key: key.to_owned(),
            name: name(work, object),
            size_bytes: after.size_bytes,
            pool: None,
            qos: after.qos,
        };
        let size = size_text(after.size_bytes);
        let job = format!("volume/{key}");
        made.push(match object.element.design.source.as_ref().filter(|_| object.fresh()) {
            Some(source) => {
                let (from, snapshot) = (source.key.clone(), source.snapshot.clone());
                let title = format!("Make {what} on {at} as a copy of {from} ({size})");
                let order = StorageSnapshotClone { storage_id, key: from, snapshot, volume };
                push(dag, object, job, title, &order, Vec::new())
            }
            None => {
                let verb = if object.fresh() { "Make" } else { "Change" };
                let title = format!("{verb} {what} on {at} ({size})");
                push(dag, object, job, title, &StorageVolumeEnsure { storage_id, volume }, Vec::new())
            }
        });
    }
    let mut gainers = object.gainers();
    // Whoever goes to another server is given a new login there.
    gainers.extend(after.instances.iter().filter(|id| storage_boot::moves(work, **id)));
    if gainers.is_empty() && leavers.is_empty() && object.unsure.is_none() {
        return;
    }
    let initiators = after
        .instances
        .iter()
        .map(|id| Initiator {
            name: instance_label(work, *id),
            iqn: initiator_iqn(*id),
            nqn: Some(initiator_nqn(*id)),
            chap: None,
        })
        .collect();
    let mut depends_on = made;
    depends_on.extend(off);
    let moves = |id: &Id| object.element.design.boot && storage_boot::moves(work, *id);
    if after.instances.iter().any(moves) {
        // The broken server may still run, under the same name: it is cut off before another one takes its place.
        let order = StorageAccessEnsure { storage_id, key: key.to_owned(), initiators: Vec::new() };
        let title = format!("Take {what} away from its old server");
        depends_on = vec![push(dag, object, format!("access-cut/{key}"), title, &order, depends_on)];
    }
    let order = StorageAccessEnsure { storage_id, key: key.to_owned(), initiators };
    let title = access_title(work, &what, &gainers, &leavers);
    let access = push(dag, object, format!("access/{key}"), title, &order, depends_on);
    for id in leavers {
        waits.clean.entry(id).or_default().insert(access.clone());
    }
    for id in gainers {
        waits.start.entry(id).or_default().insert(access.clone());
        if object.element.design.boot {
            waits.install.entry(id).or_default().insert(access.clone());
        }
    }
}

fn access_title(work: &Work<'_>, what: &str, gainers: &BTreeSet<Id>, leavers: &BTreeSet<Id>) -> String {
    let names = |ids: &BTreeSet<Id>| {
        let mut words: Vec<String> = ids.iter().take(3).map(|id| instance_label(work, *id)).collect();
        if ids.len() > 3 {
            words.push(format!("{} more", ids.len() - 3));
        }
        words.join(", ")
    };
    match (gainers.is_empty(), leavers.is_empty()) {
        (false, true) => format!("Give {} access to {what}", names(gainers)),
        (true, false) => format!("Take access to {what} from {}", names(leavers)),
        (false, false) => format!("Give {} access to {what}, take it from {}", names(gainers), names(leavers)),
        (true, true) => format!("Set the hosts of {what}"),
    }
}

fn share(dag: &mut Dag<'_>, object: &Object<'_>, waits: &mut Waits) {
    let work = dag.work;
    let (key, storage_id) = (object.key, object.storage_id);
    let (what, at) = (subject(work, object), storage_name(work, storage_id));
    let leavers = object.leavers();
    let off = switched_off(dag, &leavers);
    let made = if let Some(after) = object.after {
        if object.before == Some(after) && object.unsure.is_none() {
            return;
        }
        let order = StorageShareEnsure {
            storage_id,
            share: Share {
                key: key.to_owned(),
                name: name(work, object),
                size_bytes: after.size_bytes,
                protocol: FileProtocol::Nfs,
                pool: None,
                clients: after.clients.iter().copied().collect(),
            },
        };
        let title = match object.before {
            Some(before) if before.size_bytes == after.size_bytes => {
                access_title(work, &what, &object.gainers(), &leavers)
            }
            Some(_) => format!("Change {what} on {at} ({})", size_text(after.size_bytes)),
            None => format!("Make {what} on {at} ({})", size_text(after.size_bytes)),
        };
        push(dag, object, format!("share/{key}"), title, &order, off)
    } else {
        let order = StorageShareDelete { storage_id, key: key.to_owned() };
        push(dag, object, format!("share-delete/{key}"), format!("Delete {what} on {at}"), &order, off)
    };
    for id in leavers {
        waits.clean.entry(id).or_default().insert(made.clone());
    }
    for id in object.gainers() {
        waits.start.entry(id).or_default().insert(made.clone());
    }
    // A new system is told where to mount it, which is known once it is there.
    for id in object.after.iter().flat_map(|o| o.instances.iter().copied()) {
        waits.install.entry(id).or_default().insert(made.clone());
    }
}

fn bucket(dag: &mut Dag<'_>, object: &Object<'_>) {
    let work = dag.work;
    let (key, storage_id) = (object.key, object.storage_id);
    let (what, at) = (subject(work, object), storage_name(work, storage_id));
    let Some(after) = object.after else {
        let order = StorageBucketDelete { storage_id, key: key.to_owned(), access_key: None };
        let title = format!("Delete {what} on {at}");
        push(dag, object, format!("bucket-delete/{key}"), title, &order, Vec::new());
        return;
    };
    if object.before.is_some_and(|b| b.size_bytes == after.size_bytes) && object.unsure.is_none() {
        return;
    }
    let order = StorageBucketEnsure {
        storage_id,
        bucket: Bucket {
            key: key.to_owned(),
            name: name(work, object),
            size_bytes: after.size_bytes,
            access_key: String::new(),
            secret_key: Sealed(String::new()),
        },
    };
    let verb = if object.fresh() { "Make" } else { "Change" };
    let title = format!("{verb} {what} on {at} ({})", size_text(after.size_bytes));
    push(dag, object, format!("bucket/{key}"), title, &order, Vec::new());
}

/// What a system that is installed is told of storage.
pub(crate) fn instance_storage(work: &Work<'_>, instance_id: Id) -> InstanceStorage {
    let mut targets: BTreeMap<Id, InstanceTarget> = BTreeMap::new();
    let mut mounts = Vec::new();
    for element in &work.input.storage.elements {
        let Some(Some(state)) = work.storage.get(&element.id) else { continue };
        let storage = work.input.storage.storages.iter().find(|s| s.id == state.storage_id);
        let mine = state.objects.iter().filter(|(_, o)| o.instances.contains(&instance_id));
        for (key, _) in mine {
            match element.kind {
                ElementKind::FileShare => mounts.push(InstanceMount {
                    storage_id: state.storage_id,
                    key: key.clone(),
                    path: format!("/mnt/{}", element.design.label),
                    source: element.mount.as_ref().map(|m| m.0.clone()),
                    options: element.mount.as_ref().map(|m| m.1.clone()).unwrap_or_default(),
                }),
                ElementKind::SharedDrive | ElementKind::DriveGroup => {
                    let protocol = storage.and_then(|s| s.protocol).unwrap_or(BlockProtocol::Iscsi);
                    let portals = storage.into_iter().flat_map(|s| &s.portals);
                    let target = targets.entry(state.storage_id).or_insert_with(|| InstanceTarget {
                        storage_id: state.storage_id,
                        protocol,
                        volumes: Vec::new(),
                        portals: portals.filter(|p| p.protocol == protocol.as_str()).cloned().collect(),
                        boot_volume: None,
                    });
                    target.volumes.push(key.clone());
                    if element.design.boot {
                        target.boot_volume = Some(key.clone());
                    }
                }
                ElementKind::Bucket => {}
            }
        }
    }
    let named = !targets.is_empty();
    InstanceStorage {
        initiator_iqn: if named { initiator_iqn(instance_id) } else { String::new() },
        initiator_nqn: if named { initiator_nqn(instance_id) } else { String::new() },
        targets: targets.into_values().collect(),
        mounts,
        chap: None,
        keep_system: storage_boot::moves(work, instance_id),
    }
}

/// Every job after those that it waits for; otherwise the order stays.
fn in_order(jobs: &mut Vec<JobSpec>) {
    let mut left: Vec<Option<JobSpec>> = std::mem::take(jobs).into_iter().map(Some).collect();
    let keys: BTreeSet<String> = left.iter().flatten().map(|j| j.key.clone()).collect();
    let mut done: BTreeSet<String> = BTreeSet::new();
    // A job whose dependencies come later is put right after the last of them; each round places at least one.
    while left.iter().any(Option::is_some) {
        let before = done.len();
        for slot in &mut left {
            let ready =
                slot.as_ref().is_some_and(|j| j.depends_on.iter().all(|d| done.contains(d) || !keys.contains(d)));
            if ready && let Some(job) = slot.take() {
                done.insert(job.key.clone());
                jobs.push(job);
            }
        }
        if done.len() == before {
            jobs.extend(left.iter_mut().filter_map(Option::take));
        }
    }
}
