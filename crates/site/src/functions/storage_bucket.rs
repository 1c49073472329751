//! `storage.bucket_ensure`, `storage.bucket_delete`: buckets and their keys.

use std::sync::Arc;

use async_trait::async_trait;
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{
    order::Order,
    storage::{BucketState, StorageBucketDelete, StorageBucketEnsure},
};
use storage::BucketSpec;

use super::storage_array::{LONG, SHORT, Storage, finish, storage_error};
use crate::Site;

pub(super) struct StorageBucketEnsureFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for StorageBucketEnsureFunction {
    fn name(&self) -> &'static str {
        StorageBucketEnsure::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: StorageBucketEnsure = ctx.payload()?;
        let storage = Storage::open(&self.0, order.storage_id)?;
        let object = storage.part(|a| a.object(), "buckets")?;
        ctx.progress(10, format!("making the bucket {} on {}", order.bucket.key, storage.name()));
        let what = format!("the key of bucket {}", order.bucket.key);
        let bucket = BucketSpec {
            key: order.bucket.key,
            name: order.bucket.name,
            size_bytes: order.bucket.size_bytes,
            access_key: order.bucket.access_key,
            secret_key: self.0.open_secret(&order.bucket.secret_key, &what)?,
        };
        let work = object.bucket_ensure(&bucket);
        let made = tokio::time::timeout(SHORT, work)
            .await
            .map_err(|_| JobError::retry(format!("{} did not make the bucket in time", storage.name())))?
            .map_err(storage_error)?;
        // A key that the storage made travels sealed.
        let secret_key = made.secret_key.map(|clear| self.0.sealer.seal(&clear)).transpose();
        let secret_key =
            secret_key.map_err(|e| JobError::fatal(format!("the key of the bucket cannot be sealed: {e}")))?;
        let state = BucketState { secret_key, ..made.state };
        finish(SHORT, async { Ok(state) }).await
    }
}

pub(super) struct StorageBucketDeleteFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for StorageBucketDeleteFunction {
    fn name(&self) -> &'static str {
        StorageBucketDelete::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: StorageBucketDelete = ctx.payload()?;
        let storage = Storage::open(&self.0, order.storage_id)?;
        let part = storage.part(|a| a.object(), "buckets")?;
        ctx.progress(10, format!("removing the bucket {} from {}", order.key, storage.name()));
        finish(LONG, part.bucket_delete(&order.key, order.access_key.as_deref())).await
    }
}
