//! Snapshots of shared drives and file shares. They are taken, restored and removed at once: they are no part of the design.

use std::collections::BTreeSet;

use engine::NewGroup;
use model::{
    Id,
    job::{JobRefs, JobSpec, RetryPolicy, Target},
    order::Order,
    storage::{SnapshotOf, StorageSnapshotCreate, StorageSnapshotDelete, StorageSnapshotRestore},
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, PaginatorTrait,
    QueryFilter, QueryOrder,
};
use serde_json::{Value, json};
use store::{
    entity::{
        infrastructure, server, server_instance, storage, storage_element as element, storage_snapshot as snapshot,
    },
    list::Revisioned,
    time,
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{
        drive::DRIVE,
        file_share::SHARE,
        record,
        storage_element::{self as elements, Kind},
    },
    planning::storage as planning,
    routes,
};

routes! {
    "getDriveSnapshots" => drive_snapshots,
    "createDriveSnapshot" => create_of_drive,
    "deleteDriveSnapshot" => delete_of_drive,
    "restoreDriveToSnapshot" => restore_drive,
    "getFileShareSnapshots" => share_snapshots,
    "createFileShareSnapshot" => create_of_share,
    "deleteFileShareSnapshot" => delete_of_share,
    "restoreFileShareToSnapshot" => restore_share,
}

/// Kind of the job groups.
pub const GROUP: &str = "storage_snapshot";

/// Snapshots of one element at most.
const MAX: u64 = 256;

fn wire(s: &snapshot::Model) -> Value {
    let mut all =
        json!({"name": s.name, "createdTimestamp": s.taken_at.as_ref().unwrap_or(&s.created_at), "status": s.status});
    if let Some(error) = s.extra["error"].as_str() {
        all["error"] = error.into();
    }
    all
}

/// An element that is deployed, with where it lies.
struct Deployed {
    of: infrastructure::Model,
    element: element::Model,
    storage_id: Id,
    snapshot_of: SnapshotOf,
    key: String,
}

async fn deployed(ctx: &Ctx, txn: &DatabaseTransaction, kind: &Kind) -> Result<Deployed, ApiError> {
    let (of, element) = elements::find_editable(ctx, txn, kind).await?;
    let state = planning::state(&element).ok_or_else(|| {
        ApiError::conflict(format!("{} is not deployed: there is nothing to take a snapshot of", element.label))
    })?;
    let key = state.objects.keys().next().cloned().unwrap_or_default();
    let snapshot_of = if kind.id == SHARE.id { SnapshotOf::Share } else { SnapshotOf::Volume };
    Ok(Deployed { of, element, storage_id: state.storage_id, snapshot_of, key })
}

async fn named<C: ConnectionTrait>(ctx: &Ctx, db: &C, element_id: Id) -> Result<snapshot::Model, ApiError> {
    let name = ctx.need_text("name")?;
    snapshot::Entity::find()
        .filter(snapshot::Column::ElementId.eq(element_id))
        .filter(snapshot::Column::Name.eq(name))
        .one(db)
        .await?
        .ok_or_else(|| ApiError::not_found("snapshot", name))
}

/// Orders one thing of the site.
async fn order<P: Order>(
    ctx: &Ctx,
    txn: &DatabaseTransaction,
    at: &Deployed,
    title: String,
    payload: &P,
) -> Result<Id, ApiError> {
    let job = JobSpec {
        key: P::NAME.into(),
        function: P::NAME.into(),
        title,
        site_id: Some(at.of.site_id),
        // A newer deploy of the element makes the order void.
        target: Target { kind: "storage_element".into(), id: at.element.id, generation: 0 },
        payload: serde_json::to_value(payload)?,
        depends_on: Vec::new(),
        retry: RetryPolicy::default(),
        timeout_seconds: 600,
        refs: JobRefs { infrastructure_id: Some(at.of.id), ..Default::default() },
        can_be_skipped: true,
        requires_confirmation: false,
    };
    let group = NewGroup {
        kind: GROUP.into(),
        description: job.title.clone(),
        params: json!({"elementId": at.element.id}),
        infrastructure_id: Some(at.of.id),
        site_id: Some(at.of.site_id),
        ..Default::default()
    };
    Ok(ctx.app.engine().create_group(txn, group, vec![job]).await?.group_id)
}

async fn event(
    ctx: &Ctx,
    txn: &DatabaseTransaction,
    at: &Deployed,
    verb: &str,
    title: String,
    name: &str,
) -> Result<(), ApiError> {
    let kind = &at.element.kind;
    record(ctx, txn, &format!("{kind}.snapshot_{verb}"), title, (kind, at.element.id), json!({"snapshot": name})).await
}

async fn list(ctx: &Ctx, kind: &Kind) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let (_, element) = elements::find(ctx, db, kind).await?;
    let rows = snapshot::Entity::find()
        .filter(snapshot::Column::ElementId.eq(element.id))
        .order_by_asc(snapshot::Column::Id)
        .all(db)
        .await?;
    Ok(Reply::Json(rows.iter().map(wire).collect()))
}

async fn create(ctx: &Ctx, kind: &Kind) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let at = deployed(ctx, &txn, kind).await?;
    let of = storage::Entity::find_by_id(at.storage_id).one(&txn).await?;
    let features = of.as_ref().map(|s| planning::facts(s).features).unwrap_or_default();
    let able = if at.snapshot_of == SnapshotOf::Share { features.share_snapshots } else { features.snapshots };
    if !able {
        let name = of.map_or_else(|| format!("storage {}", at.storage_id), |s| s.name);
        return Err(ApiError::conflict(format!("{name} takes no snapshots of this kind")));
    }
    let count = snapshot::Entity::find().filter(snapshot::Column::ElementId.eq(at.element.id)).count(&txn).await?;
    if count >= MAX {
        return Err(ApiError::conflict(format!("{} has {count} snapshots; delete some first", at.element.label)));
    }
    let now = time::now();
    let name = match ctx.text("name").filter(|n| !n.is_empty()) {
        Some(name) => model::validate::label("name", name)?,
        None => {
            let digits: String = now.chars().filter(char::is_ascii_digit).collect();
            format!("s{digits}")
        }
    };
    let mut row = snapshot::new();
    row.element_id = Set(at.element.id);
    row.name = Set(name.clone());
    row.status = Set("creating".into());
    row.taken_at = Set(None);
    row.extra = Set(json!({}));
    let made = row.insert(&txn).await?;
    let payload = StorageSnapshotCreate {
        storage_id: at.storage_id,
        of: at.snapshot_of,
        key: at.key.clone(),
        snapshot: name.clone(),
    };
    let title = format!("Take snapshot {name} of {}", at.element.label);
    let group = order(ctx, &txn, &at, title, &payload).await?;
    event(ctx, &txn, &at, "create", format!("Snapshot {name} of {} is being taken", at.element.label), &name).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    let mut answer = wire(&made);
    answer["jobInfo"] = json!({"jobGroupId": group});
    Ok(Reply::Json(answer))
}

async fn delete(ctx: &Ctx, kind: &Kind) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let at = deployed(ctx, &txn, kind).await?;
    let found = named(ctx, &txn, at.element.id).await?;
    let mut row = found.edit();
    row.status = Set("deleting".into());
    row.update(&txn).await?;
    let name = found.name;
    let payload = StorageSnapshotDelete {
        storage_id: at.storage_id,
        of: at.snapshot_of,
        key: at.key.clone(),
        snapshot: name.clone(),
    };
    order(ctx, &txn, &at, format!("Delete snapshot {name} of {}", at.element.label), &payload).await?;
    event(ctx, &txn, &at, "delete", format!("Snapshot {name} of {} deleted", at.element.label), &name).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    Ok(Reply::Empty)
}

/// Servers that run and may write to it: their file systems would be torn.
async fn writers<C: ConnectionTrait>(db: &C, element: &element::Model) -> Result<Vec<String>, ApiError> {
    let instances: BTreeSet<Id> =
        planning::state(element).into_iter().flat_map(|s| s.objects.into_values()).flat_map(|o| o.instances).collect();
    let rows = server_instance::Entity::find().filter(server_instance::Column::Id.is_in(instances)).all(db).await?;
    let on: BTreeSet<Id> = server::Entity::find()
        .filter(server::Column::Id.is_in(rows.iter().filter_map(|i| i.server_id)))
        .filter(server::Column::Power.ne("off"))
        .all(db)
        .await?
        .into_iter()
        .map(|s| s.id)
        .collect();
    Ok(rows.into_iter().filter(|i| i.server_id.is_some_and(|s| on.contains(&s))).map(|i| i.label).collect())
}

async fn restore(ctx: &Ctx, kind: &Kind) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let at = deployed(ctx, &txn, kind).await?;
    let found = named(ctx, &txn, at.element.id).await?;
    if found.status != "ready" {
        return Err(ApiError::conflict(format!("snapshot {} is {}: it cannot be restored", found.name, found.status)));
    }
    let writers = writers(&txn, &at.element).await?;
    if !writers.is_empty() {
        return Err(ApiError::conflict(format!(
            "{} may be writing to {}: switch them off first, or take them off its hosts",
            writers.join(", "),
            at.element.label
        )));
    }
    let name = found.name;
    let payload = StorageSnapshotRestore {
        storage_id: at.storage_id,
        of: at.snapshot_of,
        key: at.key.clone(),
        snapshot: name.clone(),
    };
    order(ctx, &txn, &at, format!("Put {} back to snapshot {name}", at.element.label), &payload).await?;
    event(ctx, &txn, &at, "restore", format!("{} is put back to snapshot {name}", at.element.label), &name).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    Ok(Reply::Empty)
}

async fn drive_snapshots(ctx: Ctx) -> Result<Reply, ApiError> {
    list(&ctx, &DRIVE).await
}

async fn share_snapshots(ctx: Ctx) -> Result<Reply, ApiError> {
    list(&ctx, &SHARE).await
}

async fn create_of_drive(ctx: Ctx) -> Result<Reply, ApiError> {
    create(&ctx, &DRIVE).await
}

async fn create_of_share(ctx: Ctx) -> Result<Reply, ApiError> {
    create(&ctx, &SHARE).await
}

async fn delete_of_drive(ctx: Ctx) -> Result<Reply, ApiError> {
    delete(&ctx, &DRIVE).await
}

async fn delete_of_share(ctx: Ctx) -> Result<Reply, ApiError> {
    delete(&ctx, &SHARE).await
}

async fn restore_drive(ctx: Ctx) -> Result<Reply, ApiError> {
    restore(&ctx, &DRIVE).await
}

async fn restore_share(ctx: Ctx) -> Result<Reply, ApiError> {
    restore(&ctx, &SHARE).await
}
