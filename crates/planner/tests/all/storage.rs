//! What holds for storage in every plan: no volume without an owner, nobody else's host, nothing deleted or cleaned that is still open.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Id,
    deploy::DeployType,
    order::Order,
    storage::{
        StorageAccessEnsure, StorageBucketDelete, StorageBucketEnsure, StorageShareDelete, StorageShareEnsure,
        StorageVolumeDelete, StorageVolumeEnsure, initiator_iqn,
    },
};
use planner::*;
use proptest::prelude::*;

/// What an array would have after the jobs.
#[derive(Clone, Debug, Default, PartialEq)]
struct Array {
    volumes: BTreeMap<(Id, String), (u64, BTreeSet<String>)>,
    shares: BTreeMap<(Id, String), (u64, BTreeSet<String>)>,
    buckets: BTreeMap<(Id, String), u64>,
}

impl Array {
    fn run(&mut self, plan: &Plan) -> Result<(), TestCaseError> {
        for job in &plan.jobs {
            let order = &job.payload;
            match job.function.as_str() {
                StorageVolumeEnsure::NAME => {
                    let o: StorageVolumeEnsure = serde_json::from_value(order.clone()).unwrap();
                    let v = self.volumes.entry((o.storage_id, o.volume.key)).or_default();
                    prop_assert!(o.volume.size_bytes >= v.0, "shrinks");
                    v.0 = o.volume.size_bytes;
                }
                StorageAccessEnsure::NAME => {
                    let o: StorageAccessEnsure = serde_json::from_value(order.clone()).unwrap();
                    let hosts: BTreeSet<String> = o.initiators.into_iter().map(|i| i.iqn).collect();
                    match self.volumes.get_mut(&(o.storage_id, o.key.clone())) {
                        Some(v) => v.1 = hosts,
                        None => prop_assert!(hosts.is_empty(), "access to {} that is not there", o.key),
                    }
                }
                StorageVolumeDelete::NAME => {
                    let o: StorageVolumeDelete = serde_json::from_value(order.clone()).unwrap();
                    let gone = self.volumes.remove(&(o.storage_id, o.key.clone()));
                    prop_assert!(gone.is_none_or(|v| v.1.is_empty()), "{} deleted while open", o.key);
                }
                StorageShareEnsure::NAME => {
                    let o: StorageShareEnsure = serde_json::from_value(order.clone()).unwrap();
                    let clients = o.share.clients.iter().map(ToString::to_string).collect();
                    self.shares.insert((o.storage_id, o.share.key), (o.share.size_bytes, clients));
                }
                StorageShareDelete::NAME => {
                    let o: StorageShareDelete = serde_json::from_value(order.clone()).unwrap();
                    self.shares.remove(&(o.storage_id, o.key));
                }
                StorageBucketEnsure::NAME => {
                    let o: StorageBucketEnsure = serde_json::from_value(order.clone()).unwrap();
                    self.buckets.insert((o.storage_id, o.bucket.key), o.bucket.size_bytes);
                }
                StorageBucketDelete::NAME => {
                    let o: StorageBucketDelete = serde_json::from_value(order.clone()).unwrap();
                    self.buckets.remove(&(o.storage_id, o.key));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Exactly what the input says is deployed.
    fn is(&self, input: &PlanInput) -> Result<(), TestCaseError> {
        let mut wanted = Array::default();
        let addresses: BTreeMap<Id, BTreeSet<String>> = input
            .instances
            .iter()
            .filter_map(|i| Some((i.id, i.deployed.as_ref()?)))
            .map(|(id, d)| (id, d.addresses.iter().map(|a| a.address.to_string()).collect()))
            .collect();
        for e in &input.storage.elements {
            let groups = &e.design.groups;
            let hosts: BTreeSet<Id> =
                input.instances.iter().filter(|i| groups.contains(&i.group_id)).map(|i| i.id).collect();
            let storage_id = e.state.as_ref().unwrap().storage_id;
            let iqns = |ids: &BTreeSet<Id>| ids.iter().map(|i| initiator_iqn(*i)).collect();
            let size = e.design.size_bytes;
            match e.kind {
                ElementKind::SharedDrive => {
                    wanted.volumes.insert((storage_id, format!("drive-{}", e.id)), (size, iqns(&hosts)));
                }
                ElementKind::DriveGroup => wanted.volumes.extend(
                    hosts
                        .iter()
                        .map(|i| ((storage_id, format!("drive-{}-{i}", e.id)), (size, iqns(&BTreeSet::from([*i]))))),
                ),
                ElementKind::FileShare => {
                    let clients = hosts.iter().flat_map(|i| addresses[i].clone()).collect();
                    wanted.shares.insert((storage_id, format!("share-{}", e.id)), (size, clients));
                }
                ElementKind::Bucket => {
                    wanted.buckets.insert((storage_id, format!("bucket-{}", e.id)), size);
                }
            }
        }
        prop_assert_eq!(self, &wanted);
        Ok(())
    }
}

/// Every server is cleaned only after its instance has lost all access, whatever order the jobs run in.
fn closed_before_cleaned(before: &PlanInput, plan: &Plan) -> Result<(), TestCaseError> {
    let jobs: BTreeMap<&str, &model::job::JobSpec> = plan.jobs.iter().map(|j| (j.key.as_str(), j)).collect();
    let mut ancestors: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for job in &plan.jobs {
        let mut all = BTreeSet::new();
        for d in &job.depends_on {
            prop_assert!(ancestors.contains_key(d.as_str()), "{} before {}", job.key, d);
            all.insert(d.as_str());
            all.extend(ancestors[d.as_str()].iter());
        }
        ancestors.insert(&job.key, all);
    }
    for instance in plan.instances.iter().filter(|i| i.action == Action::Delete) {
        let Some(clean) = jobs.get(format!("clean/instance-{}", instance.id).as_str()) else { continue };
        for e in &before.storage.elements {
            for (key, object) in e.state.iter().flat_map(|s| &s.objects) {
                if !object.instances.contains(&instance.id) {
                    continue;
                }
                let closes = ["access/", "share/", "share-delete/"].map(|p| format!("{p}{key}"));
                let first = &ancestors[clean.key.as_str()];
                prop_assert!(
                    closes.iter().any(|c| first.contains(c.as_str())),
                    "{key} open while {} is cleaned",
                    clean.key
                );
            }
        }
    }
    Ok(())
}

#[derive(Clone, Debug)]
struct Shape {
    counts: Vec<u32>,
    second: Vec<u32>,
    elements: Vec<(usize, u64, Vec<bool>)>,
    rehost: Vec<Vec<bool>>,
    grow: Vec<u64>,
    drop: Option<usize>,
    drop_group: Option<usize>,
    half: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    let hosts = || prop::collection::vec(any::<bool>(), 2);
    (
        prop::collection::vec(0..4_u32, 2),
        prop::collection::vec(0..4_u32, 2),
        prop::collection::vec((0..4_usize, 1..20_u64, hosts()), 1..6),
        prop::collection::vec(hosts(), 6),
        prop::collection::vec(0..9_u64, 6),
        prop::option::of(0..6_usize),
        prop::option::of(0..2_usize),
        any::<bool>(),
    )
        .prop_map(|(counts, second, elements, rehost, grow, drop, drop_group, half)| Shape {
            counts,
            second,
            elements,
            rehost,
            grow,
            drop,
            drop_group,
            half,
        })
}

fn groups(kind: ElementKind, hosts: &[bool]) -> BTreeSet<Id> {
    match kind {
        ElementKind::DriveGroup => [1 + Id::from(hosts[0])].into(),
        ElementKind::Bucket => BTreeSet::new(),
        _ => hosts.iter().enumerate().filter(|(_, h)| **h).map(|(n, _)| n as Id + 1).collect(),
    }
}

fn build(s: &Shape) -> PlanInput {
    let mut input = crate::world::site(3, 2, 6);
    input.networks = vec![crate::world::network(1, "lan", 24)];
    for (n, count) in s.counts.iter().enumerate() {
        let mut group = crate::world::group(n as Id + 1, &format!("group{n}"), *count);
        group.design.connections.push(crate::world::connection(1, false, false));
        input.groups.push(group);
    }
    input.storage.storages =
        vec![crate::world::storage::storage(1, "one", 80), crate::world::storage::storage(2, "two", 400)];
    for (n, (kind, gib, hosts)) in s.elements.iter().enumerate() {
        let kind = ElementKind::ALL[*kind];
        let id = n as Id + 1;
        input.storage.elements.push(crate::world::storage::element(
            id,
            kind,
            &format!("e{n}"),
            *gib,
            groups(kind, hosts),
        ));
    }
    input
}

/// No host but those of this infrastructure's instances that stay or come.
fn own_hosts_only(plan: &Plan, after: &PlanInput) -> Result<(), TestCaseError> {
    let own: BTreeSet<String> = after.instances.iter().map(|i| initiator_iqn(i.id)).collect();
    let elements: BTreeSet<Id> = plan.storage.iter().map(|e| e.id).collect();
    for job in plan.jobs.iter().filter(|j| j.function.starts_with("storage.")) {
        prop_assert!(elements.contains(&job.target.id), "{} has no owner", job.key);
        if job.function == StorageAccessEnsure::NAME {
            let order: StorageAccessEnsure = serde_json::from_value(job.payload.clone()).unwrap();
            prop_assert!(order.initiators.iter().all(|i| own.contains(&i.iqn)), "{} names a stranger", job.key);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn access_follows_the_design(s in shape()) {
        let input = build(&s);
        let first = plan(&input).unwrap();
        let mut turned = input.clone();
        turned.storage.elements.reverse();
        turned.storage.storages.reverse();
        prop_assert_eq!(&plan(&turned).unwrap(), &first);
        let deployed = first.apply_to(&input);
        let mut array = Array::default();
        array.run(&first)?;
        array.is(&deployed)?;
        own_hosts_only(&first, &deployed)?;
        prop_assert!(plan(&deployed).unwrap().is_empty());

        let mut changed = deployed.clone();
        changed.infrastructure.generation = 2;
        changed.options.allow_data_loss = true;
        for (n, g) in changed.groups.iter_mut().enumerate() {
            g.design.instance_count = s.second[n];
            if s.drop_group == Some(n) { g.deploy_type = DeployType::Delete; }
        }
        for (n, e) in changed.storage.elements.iter_mut().enumerate() {
            if e.kind != ElementKind::DriveGroup { e.design.groups = groups(e.kind, &s.rehost[n]); }
            e.design.size_bytes += s.grow[n] * GIB;
            if s.drop == Some(n) { e.deploy_type = DeployType::Delete; }
        }
        let second = plan(&changed).unwrap();
        closed_before_cleaned(&changed, &second)?;
        let after = second.apply_to(&changed);
        own_hosts_only(&second, &after)?;
        if s.half {
            // It ends half way, and the design goes back: the next deploy makes it whole again.
            let mut left = array.clone();
            let mut part = second.clone();
            let storage: Vec<_> = second.jobs.iter().filter(|j| j.function.starts_with("storage.")).cloned().collect();
            part.jobs = storage[..storage.len() / 2].to_vec();
            left.run(&part)?;
            let mut back = deployed.clone();
            back.infrastructure.generation = 3;
            for p in &second.storage {
                let e = back.storage.elements.iter_mut().find(|e| e.id == p.id).unwrap();
                e.unfinished.extend(p.touched.clone());
                // Sizes that may have grown stay.
                let largest = e.unfinished.iter().flat_map(|s| s.objects.values()).map(|o| o.size_bytes).max();
                e.design.size_bytes = Ord::max(e.design.size_bytes, largest.unwrap_or(0));
            }
            let third = plan(&back).unwrap();
            left.run(&third)?;
            let whole = third.apply_to(&back);
            left.is(&whole)?;
            prop_assert!(plan(&whole).unwrap().is_empty());
        }
        array.run(&second)?;
        array.is(&after)?;
        prop_assert!(plan(&after).unwrap().is_empty());

        let mut end = after.clone();
        end.infrastructure.deleted = true;
        end.options.allow_data_loss = true;
        let last = plan(&end).unwrap();
        closed_before_cleaned(&end, &last)?;
        array.run(&last)?;
        prop_assert_eq!(array, Array::default());
    }
}
