//! Storage elements in planning: read for the planner, reserved when a plan is accepted, recorded when it has been carried out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crypto::Sealer;
use model::{
    Id,
    deploy::{DeployStatus, DeployType, ServiceStatus},
    job::JobSpec,
    order::{Order, ServerInstall},
    secret::{Clear, Sealed},
    storage::{
        BlockProtocol, Chap, Qos, ShareState, StorageAccessEnsure, StorageBucketEnsure, StorageFacts, Technology,
        initiator_instance, initiator_user,
    },
};
use planner::{Affinity, ElementConfig, ElementKind, ElementState, Plan, StorageElement, StorageInput};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect,
    sea_query::{Expr, ExprTrait},
};
use serde_json::{Value, json};
use store::{
    entity::{server_instance, storage, storage_element as element, storage_snapshot},
    list::Revisioned,
};

use super::Element;
use crate::{context::whole, error::ApiError};

/// Percent of a storage that may be promised where nobody says otherwise.
pub const OVERCOMMIT: u32 = 100;

/// Length of a CHAP secret.
const CHAP_SECRET: usize = 16;

/// Kind of a row.
pub fn kind(row: &element::Model) -> ElementKind {
    ElementKind::parse(&row.kind).unwrap_or(ElementKind::SharedDrive)
}

/// A design in the planner's words.
pub fn config(design: &Value) -> ElementConfig {
    let id = |name: &str| design.get(name).and_then(whole).filter(|id| *id > 0);
    ElementConfig {
        label: design["label"].as_str().unwrap_or_default().to_owned(),
        size_bytes: design["sizeBytes"].as_u64().unwrap_or(0),
        storage_id: id("storagePoolId"),
        network_id: id("logicalNetworkId"),
        groups: design["hosts"].as_array().into_iter().flatten().filter_map(whole).collect(),
        affinity: match design["allocationAffinity"].as_str() {
            Some("different_storage") => Affinity::DifferentStorage,
            _ => Affinity::SameStorage,
        },
        qos: qos(design["qoS"].as_str().unwrap_or_default()).ok().flatten(),
        boot: design["boot"] == true,
        source: design.get("source").and_then(|s| serde_json::from_value(s.clone()).ok()),
    }
}

/// Limits of speed from their words: `iops=5000 mbps=200`.
pub fn qos(words: &str) -> Result<Option<Qos>, String> {
    let mut limits = Qos::default();
    for word in words.split([' ', ',']).filter(|w| !w.is_empty()) {
        let parsed = word.split_once('=').and_then(|(name, value)| Some((name, value.parse::<u64>().ok()?)));
        match parsed {
            Some(("iops", value)) => limits.max_iops = value,
            Some(("mbps", value)) => limits.max_mbps = value,
            _ => return Err(format!("{word:?} is no limit; write iops=5000 mbps=200, or either")),
        }
    }
    Ok((limits != Qos::default()).then_some(limits))
}

/// What a row says is on storages.
pub fn state(row: &element::Model) -> Option<ElementState> {
    row.state.get("state").filter(|s| s.is_object()).and_then(|s| serde_json::from_value(s.clone()).ok())
}

/// What deploys that did not end may have made, the newest last.
fn unfinished(extra: &Value) -> Vec<ElementState> {
    let read = |name: &str| extra.get(name).cloned();
    let mut all: Vec<ElementState> =
        read("unfinished").and_then(|u| serde_json::from_value(u).ok()).unwrap_or_default();
    let planned = read("planned").and_then(|p| serde_json::from_value::<ElementState>(p).ok());
    all.extend(planned.filter(|p| !all.contains(p)));
    all
}

/// The planner's input, and the rows.
pub async fn load<C: ConnectionTrait>(
    db: &C,
    infrastructure_id: Id,
    site_id: Id,
) -> Result<(StorageInput, Vec<element::Model>), DbErr> {
    let rows = element::Entity::find()
        .filter(element::Column::InfrastructureId.eq(infrastructure_id))
        .filter(element::Column::ServiceStatus.ne(ServiceStatus::Deleted.as_str()))
        .all(db)
        .await?;
    if rows.is_empty() {
        return Ok((StorageInput::default(), rows));
    }
    let storages = storage::Entity::find().filter(storage::Column::SiteId.eq(site_id)).all(db).await?;
    let mut others: HashMap<Id, u64> = HashMap::new();
    let promised = element::Entity::find()
        .select_only()
        .columns([element::Column::StorageId, element::Column::Bytes])
        .filter(element::Column::InfrastructureId.ne(infrastructure_id))
        .filter(element::Column::StorageId.is_in(storages.iter().map(|s| s.id)))
        .into_tuple::<(Option<i64>, i64)>()
        .all(db)
        .await?;
    for (storage_id, bytes) in promised {
        *others.entry(storage_id.unwrap_or(0)).or_default() += u64::try_from(bytes).unwrap_or(0);
    }
    let input = StorageInput {
        moving: BTreeSet::new(),
        storages: storages.iter().map(|s| one(s, others.get(&s.id).copied().unwrap_or(0))).collect(),
        elements: rows
            .iter()
            .map(|e| StorageElement {
                id: e.id,
                kind: kind(e),
                design: config(&e.design),
                deployed: e.deployed.get("label").map(|_| config(&e.deployed)),
                deploy_type: DeployType::parse(&e.deploy_type).unwrap_or(DeployType::Edit),
                state: state(e),
                unfinished: unfinished(&e.extra),
                mount: mount(e),
            })
            .collect(),
    };
    Ok((input, rows))
}

/// What hosts of a share mount, and how.
fn mount(row: &element::Model) -> Option<(String, String)> {
    let share = row.state["objects"].get(format!("share-{}", row.id))?.get("share")?;
    let share: ShareState = serde_json::from_value(share.clone()).ok()?;
    Some((share.source(), share.mount_options))
}

/// What a storage was found to be.
pub fn facts(row: &storage::Model) -> StorageFacts {
    serde_json::from_value(row.facts.clone()).unwrap_or_default()
}

/// How much of a storage may be promised, in percent.
pub fn overcommit(row: &storage::Model) -> u32 {
    row.extra.get("overcommitPercent").and_then(whole).and_then(|p| u32::try_from(p).ok()).unwrap_or(OVERCOMMIT)
}

fn one(row: &storage::Model, others_bytes: u64) -> planner::Storage {
    let facts = facts(row);
    let words = row.technologies.as_array().into_iter().flatten().filter_map(Value::as_str);
    let protocol = row.protocol.as_deref().and_then(BlockProtocol::parse);
    planner::Storage {
        id: row.id,
        name: row.name.clone(),
        fabric_id: row.fabric_id,
        technologies: words.filter_map(Technology::parse).collect(),
        protocol,
        ready: matches!(row.status.as_str(), "ready" | "active"),
        in_maintenance: row.in_maintenance,
        experimental: row.is_experimental,
        priority: row.extra.get("sharedDrivePriority").and_then(whole).unwrap_or(0),
        total_bytes: facts.capacity.total_bytes,
        overcommit_percent: overcommit(row),
        others_bytes,
        portals: facts.portals,
        qos: facts.features.qos,
    }
}

/// Designs of elements at the moment at which a plan is accepted.
pub fn designs(rows: &[element::Model]) -> BTreeMap<Id, Element> {
    let one = |e: &element::Model| Element {
        label: e.label.clone(),
        design: e.design.clone(),
        deploy_type: e.deploy_type.clone(),
    };
    rows.iter().map(|e| (e.id, one(e))).collect()
}

/// Access keys of buckets that a plan makes: each gets one when it has none.
pub fn keys(sealer: &Sealer, plan: &Plan, rows: &[element::Model]) -> Result<BTreeMap<Id, (String, Sealed)>, ApiError> {
    let mut all = BTreeMap::new();
    for planned in plan.storage.iter().filter(|p| p.kind == ElementKind::Bucket && p.after.is_some()) {
        let row = rows.iter().find(|r| r.id == planned.id);
        let known = row.and_then(|r| Some((r.extra.get("accessKeyId")?.as_str()?.to_owned(), r.secret.clone()?)));
        let pair = match known {
            Some((key, secret)) => (key, Sealed(secret)),
            None => {
                let key = format!("SY{}", crypto::token::random()[..18].to_ascii_uppercase());
                let secret = Clear(crypto::token::random()[..40].to_owned());
                (key, sealer.seal(&secret).map_err(ApiError::internal)?)
            }
        };
        all.insert(planned.id, pair);
    }
    Ok(all)
}

/// Puts access keys into the orders, sealed for the site.
pub fn materialize(
    jobs: &mut [JobSpec],
    keys: &BTreeMap<Id, (String, Sealed)>,
    sealer: &Sealer,
    site_id: Id,
) -> Result<(), ApiError> {
    let site = sealer.for_site(site_id);
    for job in jobs.iter_mut().filter(|j| j.function == StorageBucketEnsure::NAME) {
        let (key, secret) = keys.get(&job.target.id).ok_or_else(|| ApiError::internal("a bucket without its key"))?;
        let sealed = sealer.reseal(secret, &site).map_err(ApiError::internal)?;
        job.payload["bucket"]["access_key"] = json!(key);
        job.payload["bucket"]["secret_key"] = json!(sealed);
    }
    Ok(())
}

/// Instances that are hosts of iSCSI volumes in these orders.
fn initiators(jobs: &[JobSpec], storages: &[planner::Storage]) -> BTreeSet<Id> {
    let mut all = BTreeSet::new();
    for job in jobs.iter().filter(|j| asks_for_login(j, storages)) {
        let hosts = job.payload["initiators"].as_array().into_iter().flatten();
        all.extend(hosts.filter_map(|h| initiator_instance(h["iqn"].as_str()?)));
    }
    all
}

/// Whether hosts log in by name and secret where this job sets them.
fn asks_for_login(job: &JobSpec, storages: &[planner::Storage]) -> bool {
    job.function == StorageAccessEnsure::NAME && iscsi(storages, job.payload["storage_id"].as_i64())
}

fn iscsi(storages: &[planner::Storage], id: Option<Id>) -> bool {
    storages.iter().any(|s| Some(s.id) == id && s.protocol.is_none_or(|p| p == BlockProtocol::Iscsi))
}

/// Secrets of initiators that a plan's orders name, sealed at rest: each instance has one for as long as it lives, and gets another when it
/// goes to another server, because the old one may still know it.
pub fn logins(
    sealer: &Sealer,
    jobs: &[JobSpec],
    input: &StorageInput,
    instances: &[server_instance::Model],
) -> Result<BTreeMap<Id, Sealed>, ApiError> {
    let mut wanted = initiators(jobs, &input.storages);
    wanted.extend(jobs.iter().filter(|j| j.function == ServerInstall::NAME).filter_map(|j| j.refs.instance_id));
    let mut all = BTreeMap::new();
    for id in wanted {
        let known = instances.iter().find(|i| i.id == id).and_then(|i| i.extra["chap"].as_str());
        let sealed = match known.filter(|_| !input.moving.contains(&id)) {
            Some(known) => Sealed(known.to_owned()),
            // Arrays take 12 to 16 letters and digits.
            None => {
                let secret = Clear(crypto::token::random()[..CHAP_SECRET].to_owned());
                sealer.seal(&secret).map_err(ApiError::internal)?
            }
        };
        all.insert(id, sealed);
    }
    Ok(all)
}

/// Puts the logins of initiators into the orders, sealed for the site.
pub fn log_in(
    jobs: &mut [JobSpec],
    logins: &BTreeMap<Id, Sealed>,
    storages: &[planner::Storage],
    sealer: &Sealer,
    site_id: Id,
) -> Result<(), ApiError> {
    let site = sealer.for_site(site_id);
    let mut sealed: BTreeMap<Id, Value> = BTreeMap::new();
    for (id, secret) in logins {
        let secret = sealer.reseal(secret, &site).map_err(ApiError::internal)?;
        sealed.insert(*id, json!(Chap { username: initiator_user(*id), secret }));
    }
    for job in jobs.iter_mut() {
        if asks_for_login(job, storages) {
            for host in job.payload["initiators"].as_array_mut().into_iter().flatten() {
                if let Some(chap) = host["iqn"].as_str().and_then(initiator_instance).and_then(|id| sealed.get(&id)) {
                    host["chap"] = chap.clone();
                }
            }
        } else if job.function == ServerInstall::NAME
            && let Some(chap) = job.refs.instance_id.and_then(|id| sealed.get(&id))
            && let Some(storage) = job.payload.pointer_mut("/spec/storage")
            && let targets = storage["targets"].as_array().map_or(&[][..], Vec::as_slice)
            && targets.iter().any(|t| iscsi(storages, t["storage_id"].as_i64()))
        {
            storage["chap"] = chap.clone();
        }
    }
    Ok(())
}

/// Reserves the room that a plan takes, and notes what it may leave on storages.
pub async fn take<C: ConnectionTrait>(
    txn: &C,
    plan: &Plan,
    rows: &[element::Model],
    deploy_id: Id,
    keys: &BTreeMap<Id, (String, Sealed)>,
) -> Result<(), DbErr> {
    for planned in &plan.storage {
        let Some(before) = rows.iter().find(|r| r.id == planned.id) else { continue };
        let mut row = before.edit();
        row.deploy_id = Set(Some(deploy_id));
        row.deploy_status = Set(DeployStatus::Ongoing.as_str().into());
        let mut extra = if before.extra.is_object() { before.extra.clone() } else { json!({}) };
        let earlier = unfinished(&before.extra);
        if !earlier.is_empty() {
            extra["unfinished"] = json!(earlier);
        }
        if let Some(touched) = &planned.touched {
            extra["planned"] = json!(touched);
            row.storage_id = Set(Some(touched.storage_id));
            row.bytes = Set(Ord::max(i64::try_from(touched.bytes()).unwrap_or(i64::MAX), before.bytes));
        }
        if let Some((key, secret)) = keys.get(&planned.id) {
            extra["accessKeyId"] = json!(key);
            row.secret = Set(Some(secret.0.clone()));
        }
        row.extra = Set(extra);
        row.update(txn).await?;
    }
    Ok(())
}

/// Removes rows with all that hangs on them.
pub(super) async fn remove<C: ConnectionTrait>(txn: &C, ids: Vec<Id>) -> Result<(), DbErr> {
    if ids.is_empty() {
        return Ok(());
    }
    storage_snapshot::Entity::delete_many()
        .filter(storage_snapshot::Column::ElementId.is_in(ids.clone()))
        .exec(txn)
        .await?;
    element::Entity::delete_many().filter(element::Column::Id.is_in(ids)).exec(txn).await?;
    Ok(())
}

/// Elements whose deploy has begun, or was cancelled, are being deployed, or are to be.
pub async fn mark<C: ConnectionTrait>(
    txn: &C,
    infrastructure_id: Id,
    from: &[DeployStatus],
    to: DeployStatus,
) -> Result<(), DbErr> {
    element::Entity::update_many()
        .col_expr(element::Column::DeployStatus, Expr::val(to.as_str()))
        .col_expr(element::Column::Revision, Expr::col(element::Column::Revision).add(1))
        .filter(element::Column::InfrastructureId.eq(infrastructure_id))
        .filter(element::Column::DeployStatus.is_in(from.iter().map(|s| s.as_str())))
        .exec(txn)
        .await?;
    Ok(())
}

/// Back to what is deployed. Answers whether the next deploy has something to do.
pub async fn revert<C: ConnectionTrait>(txn: &C, infrastructure_id: Id) -> Result<bool, DbErr> {
    let rows = element::Entity::find().filter(element::Column::InfrastructureId.eq(infrastructure_id)).all(txn).await?;
    let (mut left, mut gone) = (false, Vec::new());
    for before in rows {
        let begun = !unfinished(&before.extra).is_empty();
        let mut row = before.edit();
        if let Some(label) = before.deployed["label"].as_str() {
            row.label = Set(label.to_owned());
            let mut design = before.deployed.clone();
            // A size that a cancelled deploy may have given it cannot be taken back.
            let largest = unfinished(&before.extra).iter().flat_map(|s| s.objects.values()).map(|o| o.size_bytes).max();
            let size = Ord::max(design["sizeBytes"].as_u64().unwrap_or(0), largest.unwrap_or(0));
            design["sizeBytes"] = json!(size);
            row.design = Set(design);
            row.deploy_type = Set(DeployType::Edit.as_str().into());
            let status = if begun { DeployStatus::NotStarted } else { DeployStatus::Finished };
            row.deploy_status = Set(status.as_str().into());
            left |= begun;
        } else if begun {
            row.deploy_type = Set(DeployType::Delete.as_str().into());
            row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
            left = true;
        } else {
            gone.push(before.id);
            continue;
        }
        row.update(txn).await?;
    }
    remove(txn, gone).await?;
    Ok(left)
}

/// Whether anything of an infrastructure is, or may be, on a storage.
pub async fn holds_something<C: ConnectionTrait>(txn: &C, infrastructure_id: Id) -> Result<bool, DbErr> {
    let held = element::Entity::find()
        .filter(element::Column::InfrastructureId.eq(infrastructure_id))
        .filter(element::Column::StorageId.is_not_null())
        .count(txn)
        .await?;
    Ok(held > 0)
}

/// All elements of an infrastructure that never held anything.
pub async fn remove_all<C: ConnectionTrait>(txn: &C, infrastructure_id: Id) -> Result<(), DbErr> {
    let ids = element::Entity::find()
        .select_only()
        .column(element::Column::Id)
        .filter(element::Column::InfrastructureId.eq(infrastructure_id))
        .into_tuple::<i64>()
        .all(txn)
        .await?;
    remove(txn, ids).await
}

/// A group that was never deployed is gone: it is nobody's host any more, and its drives go with it.
pub async fn forget_group<C: ConnectionTrait>(txn: &C, infrastructure_id: Id, group_id: Id) -> Result<(), DbErr> {
    let rows = element::Entity::find().filter(element::Column::InfrastructureId.eq(infrastructure_id)).all(txn).await?;
    let mut gone = Vec::new();
    for before in rows {
        let hosts: BTreeSet<Id> = config(&before.design).groups;
        if !hosts.contains(&group_id) {
            continue;
        }
        if kind(&before) == ElementKind::DriveGroup && before.storage_id.is_none() {
            gone.push(before.id);
            continue;
        }
        let mut design = before.design.clone();
        design["hosts"] = json!(hosts.iter().filter(|h| **h != group_id).collect::<Vec<_>>());
        let mut row = before.edit();
        row.design = Set(design);
        row.update(txn).await?;
    }
    remove(txn, gone).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_from_their_words() {
        assert_eq!(qos(""), Ok(None));
        assert_eq!(qos("iops=500, mbps=20"), Ok(Some(Qos { max_iops: 500, max_mbps: 20 })));
        assert!(qos("fast").unwrap_err().contains("iops=5000"));
    }
}
