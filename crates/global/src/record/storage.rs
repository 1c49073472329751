//! What storages are, and what became of snapshots.

use std::collections::BTreeMap;

use api::{facts, kinds::storage_snapshot::GROUP};
use crypto::Sealer;
use engine::entity::job;
use model::{
    Id,
    order::Order,
    storage::{
        Portal, SnapshotState, StorageDiscover, StorageFacts, StorageSnapshotCreate, StorageSnapshotDelete,
        StorageSnapshotRestore, Technology,
    },
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect,
    sea_query::Expr,
};
use serde_json::{Value, json};
use store::{
    Database,
    entity::{infrastructure, storage, storage_element, storage_interface, storage_snapshot},
    event::NewEvent,
    list::{Revisioned, cas},
    time,
};

use super::{RecordError, site_event};

/// What a storage job that succeeded has found out. Volumes, shares and buckets are recorded at the end of their deploy.
pub(super) async fn succeeded(db: &Database, sealer: &Sealer, job: &job::Model) -> Result<(), RecordError> {
    match job.function.as_str() {
        StorageDiscover::NAME => {
            if let Some(id) = job.payload["storage_id"].as_i64() {
                discovered(db, sealer, id, &job.response).await?;
            }
        }
        StorageSnapshotCreate::NAME => snapshot(db, job, Ended::Taken).await?,
        StorageSnapshotDelete::NAME => snapshot(db, job, Ended::Deleted).await?,
        StorageSnapshotRestore::NAME => snapshot(db, job, Ended::Restored).await?,
        _ => {}
    }
    Ok(())
}

/// What is told of a storage job that failed for good.
pub(super) async fn failed(db: &Database, job: &job::Model, error: &str) -> Result<(), RecordError> {
    match job.function.as_str() {
        StorageDiscover::NAME => {
            if let Some(id) = job.payload["storage_id"].as_i64() {
                unread(db, id, error).await?;
            }
        }
        StorageSnapshotCreate::NAME | StorageSnapshotDelete::NAME | StorageSnapshotRestore::NAME => {
            snapshot(db, job, Ended::Failed(error)).await?;
        }
        _ => {}
    }
    Ok(())
}

/// A snapshot job that was skipped or cancelled has done nothing.
pub(super) async fn cancelled(
    db: &Database,
    group: &engine::entity::job_group::Model,
    reason: &str,
) -> Result<(), RecordError> {
    if group.kind != GROUP {
        return Ok(());
    }
    let jobs = job::Entity::find()
        .filter(job::Column::GroupId.eq(group.id))
        .filter(job::Column::Status.ne(model::job::JobStatus::ReturnedSuccess.as_str()))
        .all(&db.read)
        .await?;
    for job in &jobs {
        snapshot(db, job, Ended::Failed(reason)).await?;
    }
    Ok(())
}

async fn locked<C: ConnectionTrait>(txn: &C, id: Id) -> Result<Option<storage::Model>, RecordError> {
    Ok(storage::Entity::find_by_id(id).lock_exclusive().one(txn).await?)
}

/// What is not understood is dropped: telling it again would not help.
async fn discovered(db: &Database, sealer: &Sealer, id: Id, response: &Value) -> Result<(), RecordError> {
    let found = match serde_json::from_value::<StorageFacts>(response.clone()) {
        Ok(facts) => facts,
        Err(error) => {
            tracing::warn!(storage_id = id, %error, "what a storage says is not understood");
            return Ok(());
        }
    };
    let txn = db.begin().await?;
    let Some(before) = locked(&txn, id).await? else { return Ok(()) };
    let mut missing = Vec::new();
    let declared = before.technologies.as_array().into_iter().flatten().filter_map(Value::as_str);
    for technology in declared.filter_map(Technology::parse) {
        if !found.technologies.contains(&technology) {
            missing.push(technology.as_str());
        }
    }
    let status = if missing.is_empty() { "active" } else { "ready" };
    let mut extra = before.extra.as_object().cloned().unwrap_or_default();
    extra.remove("statusReason");
    if !missing.is_empty() {
        let words = format!("it offers no {} storage, though it was registered with it", missing.join(" and no "));
        extra.insert("statusReason".into(), json!(words));
    }
    let print = found.tls_fingerprint.as_deref().map(str::to_ascii_lowercase);
    let pins = before.tls_fingerprint.is_none() && print.is_some();
    let extra = Value::Object(extra);
    let document = serde_json::to_value(&found).unwrap_or_default();
    if before.facts != document || before.status != status || before.extra != extra || pins {
        let mut row = before.edit();
        row.facts = Set(document);
        row.status = Set(status.into());
        row.extra = Set(extra);
        if pins {
            row.tls_fingerprint = Set(print);
        }
        cas(&txn, &before, row).await?.ok_or_else(|| RecordError::Busy(format!("storage {id}")))?;
    }
    interfaces(&txn, id, &found.portals).await?;
    if pins {
        facts::storage(&txn, sealer, id).await?;
    }
    if before.status == "pending" {
        let title = format!("Storage {} registered", before.name);
        let words = [found.vendor.as_deref(), found.model.as_deref(), found.version.as_deref()];
        let message = words.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let object = Some(("storage", id));
        site_event(&txn, before.site_id, object, "storage.registered", "success", title, message).await?;
    }
    txn.commit().await?;
    Ok(())
}

/// Ports that hosts reach data through: those that are new are used, those that are gone are forgotten.
async fn interfaces<C: ConnectionTrait>(txn: &C, storage_id: Id, portals: &[Portal]) -> Result<(), RecordError> {
    let mut ports: BTreeMap<String, (Vec<&Portal>, Vec<&str>)> = BTreeMap::new();
    for portal in portals {
        let name = if portal.name.is_empty() { portal.address.clone() } else { portal.name.clone() };
        let (list, protocols) = ports.entry(name).or_default();
        list.push(portal);
        if matches!(portal.protocol.as_str(), "iscsi" | "nvme_tcp" | "scsi_fc" | "nvme_fc")
            && !protocols.contains(&portal.protocol.as_str())
        {
            protocols.push(&portal.protocol);
        }
    }
    let known =
        storage_interface::Entity::find().filter(storage_interface::Column::StorageId.eq(storage_id)).all(txn).await?;
    let gone: Vec<Id> = known.iter().filter(|i| !ports.contains_key(&i.name)).map(|i| i.id).collect();
    storage_interface::Entity::delete_many().filter(storage_interface::Column::Id.is_in(gone)).exec(txn).await?;
    for (name, (list, protocols)) in ports {
        let Some(first) = list.first() else { continue };
        let nodes: Vec<&str> = if first.node.is_empty() { Vec::new() } else { vec![&first.node] };
        let (nodes, protocols) = (json!(nodes), json!(protocols));
        match known.iter().find(|i| i.name == name) {
            Some(i)
                if i.node_ids == nodes
                    && i.protocols == protocols
                    && i.address == first.address
                    && i.port == i64::from(first.port) => {}
            Some(i) => {
                let mut row = i.edit();
                row.node_ids = Set(nodes);
                row.protocols = Set(protocols);
                row.address = Set(first.address.clone());
                row.port = Set(i64::from(first.port));
                row.update(txn).await?;
            }
            None => {
                let mut row = storage_interface::new();
                row.storage_id = Set(storage_id);
                row.name = Set(name);
                row.node_ids = Set(nodes);
                row.protocols = Set(protocols);
                row.address = Set(first.address.clone());
                row.port = Set(i64::from(first.port));
                row.is_uplink = Set(false);
                row.use_for_deploys = Set(true);
                row.network_device_port_id = Set(None);
                row.insert(txn).await?;
            }
        }
    }
    Ok(())
}

async fn unread(db: &Database, id: Id, error: &str) -> Result<(), RecordError> {
    let txn = db.begin().await?;
    let Some(before) = locked(&txn, id).await? else { return Ok(()) };
    let reason = format!("it could not be read: {error}");
    if before.extra["statusReason"] == reason.as_str() {
        return Ok(());
    }
    let mut extra = before.extra.as_object().cloned().unwrap_or_default();
    extra.insert("statusReason".into(), json!(reason));
    // A note: the revision stays, so that nobody who edits it is disturbed.
    storage::Entity::update_many()
        .col_expr(storage::Column::Extra, Expr::val(Value::Object(extra)))
        .filter(storage::Column::Id.eq(id))
        .exec(&txn)
        .await?;
    let title = format!("Storage {} could not be read", before.name);
    let object = Some(("storage", id));
    site_event(&txn, before.site_id, object, "storage.unread", "warning", title, error.to_owned()).await?;
    txn.commit().await?;
    Ok(())
}

/// How a job of a snapshot ended.
#[derive(Clone, Copy)]
enum Ended<'a> {
    Taken,
    Deleted,
    Restored,
    Failed(&'a str),
}

async fn snapshot(db: &Database, job: &job::Model, ended: Ended<'_>) -> Result<(), RecordError> {
    let Some(name) = job.payload["snapshot"].as_str() else { return Ok(()) };
    let txn = db.begin().await?;
    let Some(element) = storage_element::Entity::find_by_id(job.target_id).one(&txn).await? else { return Ok(()) };
    let found = storage_snapshot::Entity::find()
        .filter(storage_snapshot::Column::ElementId.eq(element.id))
        .filter(storage_snapshot::Column::Name.eq(name))
        .lock_exclusive()
        .one(&txn)
        .await?;
    let Some(found) = found else { return Ok(()) };
    let mut row = found.edit();
    let (word, severity, title, message) = match ended {
        Ended::Taken => {
            let state: SnapshotState = serde_json::from_value(job.response.clone()).unwrap_or_default();
            if found.status != "creating" {
                return Ok(());
            }
            row.status = Set("ready".into());
            // Storages tell the time in forms of their own.
            let taken = state.created_at.and_then(|t| time::parse(&t)).map(time::format);
            row.taken_at = Set(taken.or(job.finished_at.clone()));
            ("created", "success", format!("Snapshot {name} of {} is there", element.label), String::new())
        }
        Ended::Deleted => {
            storage_snapshot::Entity::delete_by_id(found.id).exec(&txn).await?;
            txn.commit().await?;
            return Ok(());
        }
        Ended::Restored => {
            ("restored", "success", format!("{} is as it was in snapshot {name}", element.label), String::new())
        }
        Ended::Failed(error) => {
            let status = if matches!(found.status.as_str(), "creating" | "failed") { "failed" } else { "ready" };
            // Told the same again, nothing happens.
            if found.status == status && found.extra["error"] == error {
                return Ok(());
            }
            row.status = Set(status.into());
            row.extra = Set(json!({"error": error}));
            ("failed", "warning", format!("{} failed", job.title), error.to_owned())
        }
    };
    row.update(&txn).await?;
    let of = infrastructure::Entity::find_by_id(element.infrastructure_id).one(&txn).await?;
    store::event::append(
        &txn,
        NewEvent {
            kind: format!("{}.snapshot_{word}", element.kind),
            severity: severity.into(),
            title,
            message,
            object: Some((element.kind.clone(), element.id)),
            infrastructure_id: Some(element.infrastructure_id),
            site_id: of.as_ref().map(|i| i.site_id),
            account_id: of.as_ref().map(|i| i.account_id),
            context: json!({"snapshot": name}),
            ..Default::default()
        },
    )
    .await?;
    txn.commit().await?;
    Ok(())
}
