//! `storage.snapshot_*`: snapshots and clones.

use std::sync::Arc;

use async_trait::async_trait;
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{
    order::Order,
    storage::{StorageSnapshotClone, StorageSnapshotCreate, StorageSnapshotDelete, StorageSnapshotRestore},
};

use super::storage_array::{LONG, Storage, answer, ended, finish};
use crate::Site;

pub(super) struct StorageSnapshotCreateFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for StorageSnapshotCreateFunction {
    fn name(&self) -> &'static str {
        StorageSnapshotCreate::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: StorageSnapshotCreate = ctx.payload()?;
        let storage = Storage::open(&self.0, order.storage_id)?;
        let part = storage.part(|a| a.snapshots(), "snapshots")?;
        ctx.progress(10, format!("taking the snapshot {} of {} on {}", order.snapshot, order.key, storage.name()));
        finish(LONG, part.snapshot_create(order.of, &order.key, &order.snapshot)).await
    }
}

pub(super) struct StorageSnapshotDeleteFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for StorageSnapshotDeleteFunction {
    fn name(&self) -> &'static str {
        StorageSnapshotDelete::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: StorageSnapshotDelete = ctx.payload()?;
        let storage = Storage::open(&self.0, order.storage_id)?;
        let part = storage.part(|a| a.snapshots(), "snapshots")?;
        ctx.progress(10, format!("removing the snapshot {} of {} on {}", order.snapshot, order.key, storage.name()));
        finish(LONG, part.snapshot_delete(order.of, &order.key, &order.snapshot)).await
    }
}

pub(super) struct StorageSnapshotRestoreFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for StorageSnapshotRestoreFunction {
    fn name(&self) -> &'static str {
        StorageSnapshotRestore::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: StorageSnapshotRestore = ctx.payload()?;
        let storage = Storage::open(&self.0, order.storage_id)?;
        let part = storage.part(|a| a.snapshots(), "snapshots")?;
        ctx.progress(
            10,
            format!("going back to the snapshot {} of {} on {}", order.snapshot, order.key, storage.name()),
        );
        finish(LONG, part.snapshot_restore(order.of, &order.key, &order.snapshot)).await
    }
}

pub(super) struct StorageSnapshotCloneFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for StorageSnapshotCloneFunction {
    fn name(&self) -> &'static str {
        StorageSnapshotClone::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: StorageSnapshotClone = ctx.payload()?;
        let storage = Storage::open(&self.0, order.storage_id)?;
        let snapshot = order.snapshot.as_deref();
        let part = storage.part(|a| a.snapshots(), "clones")?;
        ctx.progress(10, format!("copying {} to {} on {}", order.key, order.volume.key, storage.name()));
        let made = ended(LONG, part.clone_volume(&order.key, snapshot, &order.volume)).await?;
        self.0.volume_seen(order.storage_id, &made).await?;
        answer(&made)
    }
}
