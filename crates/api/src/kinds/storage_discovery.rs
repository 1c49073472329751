//! How a storage is read: once when it is registered, and again when somebody asks.

use engine::NewGroup;
use model::{
    job::{JobRefs, JobSpec, RetryPolicy, Target},
    order::Order,
    storage::StorageDiscover,
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, DatabaseTransaction};
use serde_json::{Value, json};
use store::entity::storage;

use crate::{
    App,
    context::{Ctx, Reply},
    error::ApiError,
    kinds::storage::find,
    routes,
};

routes! {
    "discoverStorage" => discover,
}

/// Makes the job that reads a storage, and remembers it with the storage, which is no change of the storage itself.
pub(crate) async fn start(
    app: &App,
    txn: &DatabaseTransaction,
    of: storage::Model,
) -> Result<(storage::Model, Value), ApiError> {
    let job = JobSpec {
        key: "discover".into(),
        function: StorageDiscover::NAME.into(),
        title: format!("Read storage {}", of.name),
        site_id: Some(of.site_id),
        target: Target { kind: "storage".into(), id: of.id, generation: 0 },
        payload: serde_json::to_value(StorageDiscover { storage_id: of.id })?,
        depends_on: Vec::new(),
        retry: RetryPolicy::default(),
        timeout_seconds: 120,
        refs: JobRefs::default(),
        can_be_skipped: true,
        requires_confirmation: false,
    };
    let group = NewGroup {
        kind: "storage_discover".into(),
        description: job.title.clone(),
        params: json!({"storageId": of.id}),
        site_id: Some(of.site_id),
        ..Default::default()
    };
    let created = app.engine().create_group(txn, group, vec![job]).await?;
    let info = json!({"jobGroupId": created.group_id, "jobId": created.job_ids.get("discover")});
    let mut extra = of.extra.as_object().cloned().unwrap_or_default();
    extra.insert("jobInfo".into(), info.clone());
    let mut row = storage::ActiveModel { id: Set(of.id), ..Default::default() };
    row.extra = Set(Value::Object(extra));
    Ok((row.update(txn).await?, info))
}

async fn discover(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    let (_, info) = start(&ctx.app, &txn, found).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    Ok(Reply::Json(info))
}
