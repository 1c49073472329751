//! The end of a deploy, for storage: what is on storages now, and what they told of it.

use std::collections::HashMap;

use crypto::Sealer;
use engine::entity::job;
use model::{
    Id,
    deploy::{DeployStatus, DeployType, ServiceStatus},
    job::JobStatus,
    order::Order,
    secret::Sealed,
    storage::{
        FUNCTIONS, StorageAccessEnsure, StorageBucketEnsure, StorageShareEnsure, StorageSnapshotClone,
        StorageVolumeEnsure,
    },
};
use planner::{ElementState, Plan};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QuerySelect,
};
use serde_json::{Map, Value, json};
use store::{
    entity::{infrastructure, storage_element as element},
    event::NewEvent,
    list::Revisioned,
};

use super::{Designs, storage::remove};

/// What the storage jobs of a group have answered, by key.
async fn answers<C: ConnectionTrait>(
    txn: &C,
    group_id: Option<Id>,
) -> Result<HashMap<String, Map<String, Value>>, DbErr> {
    let rows = job::Entity::find()
        .select_only()
        .columns([job::Column::Function, job::Column::Payload, job::Column::Response])
        .filter(job::Column::GroupId.eq(group_id.unwrap_or(0)))
        .filter(job::Column::Function.is_in(FUNCTIONS.iter().copied()))
        .filter(job::Column::Status.eq(JobStatus::ReturnedSuccess.as_str()))
        .into_tuple::<(String, Value, Value)>()
        .all(txn)
        .await?;
    let mut all: HashMap<String, Map<String, Value>> = HashMap::new();
    for (function, payload, response) in rows {
        let (name, key) = match function.as_str() {
            StorageVolumeEnsure::NAME | StorageSnapshotClone::NAME => ("volume", payload.pointer("/volume/key")),
            StorageAccessEnsure::NAME => ("access", payload.pointer("/key")),
            StorageShareEnsure::NAME => ("share", payload.pointer("/share/key")),
            StorageBucketEnsure::NAME => ("bucket", payload.pointer("/bucket/key")),
            _ => continue,
        };
        if let Some(key) = key.and_then(Value::as_str).filter(|_| response.is_object()) {
            all.entry(key.to_owned()).or_default().insert(name.to_owned(), response);
        }
    }
    Ok(all)
}

/// Tells of storage jobs that somebody passed over: what they would have made, closed or removed is as it was.
async fn passed_over<C: ConnectionTrait>(
    txn: &C,
    (infrastructure_id, site_id): (Id, Id),
    group_id: Option<Id>,
) -> Result<(), DbErr> {
    let titles = job::Entity::find()
        .select_only()
        .column(job::Column::Title)
        .filter(job::Column::GroupId.eq(group_id.unwrap_or(0)))
        .filter(job::Column::Function.is_in(FUNCTIONS.iter().copied()))
        .filter(job::Column::Status.eq(JobStatus::Skipped.as_str()))
        .into_tuple::<String>()
        .all(txn)
        .await?;
    if titles.is_empty() {
        return Ok(());
    }
    let of = infrastructure::Entity::find_by_id(infrastructure_id).one(txn).await?;
    let new = NewEvent {
        kind: "infrastructure.storage_skipped".into(),
        severity: "warning".into(),
        title: format!("{} storage jobs were skipped", titles.len()),
        message: format!("Look at the storage: not done were: {}.", titles.join("; ")),
        object: Some(("infrastructure".into(), infrastructure_id)),
        infrastructure_id: Some(infrastructure_id),
        site_id: Some(site_id),
        account_id: of.map(|i| i.account_id),
        context: json!({"jobGroupId": group_id}),
        ..NewEvent::default()
    };
    store::event::append(txn, new).await?;
    Ok(())
}

/// Records what is on storages now that a deploy has ended.
pub async fn record<C: ConnectionTrait>(
    txn: &C,
    sealer: &Sealer,
    (infrastructure_id, site_id): (Id, Id),
    plan: &Plan,
    designs: &Designs,
    group_id: Option<Id>,
) -> Result<(), DbErr> {
    let rows = element::Entity::find().filter(element::Column::InfrastructureId.eq(infrastructure_id)).all(txn).await?;
    if rows.is_empty() {
        return Ok(());
    }
    passed_over(txn, (infrastructure_id, site_id), group_id).await?;
    let answers = answers(txn, group_id).await?;
    let mut gone: Vec<Id> = Vec::new();
    for before in rows {
        let design = designs.storage.get(&before.id);
        let planned = plan.storage.iter().find(|p| p.id == before.id);
        let deleted = design.is_some_and(|d| d.deploy_type == DeployType::Delete.as_str());
        if plan.deletes_infrastructure || deleted || planned.is_some_and(|p| p.design.is_none()) {
            gone.push(before.id);
            continue;
        }
        let Some(design) = design else { continue };
        if planned.is_none() && before.deploy_status == DeployStatus::Finished.as_str() {
            continue;
        }
        let mut row = before.edit();
        if let Some(planned) = planned {
            let objects = objects(sealer, site_id, &before, planned.after.as_ref(), &answers, &mut row);
            row.state = Set(json!({"state": planned.after, "objects": objects}));
            row.storage_id = Set(planned.after.as_ref().map(|a| a.storage_id));
            let bytes = planned.after.as_ref().map_or(0, ElementState::bytes);
            row.bytes = Set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        let mut body = design.design.clone();
        if let Some(kept) = planned.and_then(|p| p.design.as_ref()) {
            body["hosts"] = json!(kept.groups);
        }
        row.design = Set(body.clone());
        row.label = Set(design.label.clone());
        row.deployed = Set(body);
        row.service_status = Set(ServiceStatus::Active.as_str().into());
        row.deploy_status = Set(DeployStatus::Finished.as_str().into());
        row.deploy_type = Set(DeployType::Edit.as_str().into());
        row.update(txn).await?;
    }
    remove(txn, gone).await
}

/// What is known of the objects of an element, keeping what earlier deploys found out. Notes are cleared on the way.
fn objects(
    sealer: &Sealer,
    site_id: Id,
    before: &element::Model,
    after: Option<&ElementState>,
    answers: &HashMap<String, Map<String, Value>>,
    row: &mut element::ActiveModel,
) -> Map<String, Value> {
    let mut extra = before.extra.clone();
    if let Some(extra) = extra.as_object_mut() {
        extra.remove("planned");
        extra.remove("unfinished");
    }
    let mut all = Map::new();
    for key in after.into_iter().flat_map(|a| a.objects.keys()) {
        let mut known = before.state["objects"][key].as_object().cloned().unwrap_or_default();
        for (name, answer) in answers.get(key).into_iter().flatten() {
            let mut answer = answer.clone();
            // A storage may make keys of its own. They are kept apart from what is shown.
            if let Some(map) = answer.as_object_mut()
                && let Some(Value::String(sealed)) = map.remove("secret_key")
                && let Some(key) = map.get("access_key").cloned().filter(Value::is_string)
                && let Ok(sealed) = sealer.for_site(site_id).reseal(&Sealed(sealed), sealer)
            {
                row.secret = Set(Some(sealed.0));
                extra["accessKeyId"] = key;
            }
            known.insert(name.clone(), answer);
        }
        all.insert(key.clone(), Value::Object(known));
    }
    row.extra = Set(extra);
    all
}
