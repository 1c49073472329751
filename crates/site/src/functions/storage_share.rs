//! `storage.share_ensure`, `storage.share_delete`: file shares.

use std::sync::Arc;

use async_trait::async_trait;
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{
    order::Order,
    storage::{StorageShareDelete, StorageShareEnsure},
};

use super::storage_array::{LONG, Storage, finish};
use crate::Site;

pub(super) struct StorageShareEnsureFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for StorageShareEnsureFunction {
    fn name(&self) -> &'static str {
        StorageShareEnsure::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: StorageShareEnsure = ctx.payload()?;
        let storage = Storage::open(&self.0, order.storage_id)?;
        let part = storage.part(|a| a.file(), "file shares")?;
        ctx.progress(
            10,
            format!(
                "making the share {} on {} for {} hosts",
                order.share.key,
                storage.name(),
                order.share.clients.len()
            ),
        );
        finish(LONG, part.share_ensure(&order.share)).await
    }
}

pub(super) struct StorageShareDeleteFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for StorageShareDeleteFunction {
    fn name(&self) -> &'static str {
        StorageShareDelete::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: StorageShareDelete = ctx.payload()?;
        let storage = Storage::open(&self.0, order.storage_id)?;
        let part = storage.part(|a| a.file(), "file shares")?;
        ctx.progress(10, format!("removing the share {} from {}", order.key, storage.name()));
        finish(LONG, part.share_delete(&order.key)).await
    }
}
