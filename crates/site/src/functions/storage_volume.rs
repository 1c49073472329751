//! `storage.volume_ensure`, `storage.volume_delete`, `storage.access_ensure`: volumes and who may use them.

use std::sync::Arc;

use async_trait::async_trait;
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{
    order::Order,
    storage::{StorageAccessEnsure, StorageVolumeDelete, StorageVolumeEnsure},
};

use super::storage_array::{LONG, SHORT, Storage, answer, ended};
use crate::Site;

pub(super) struct StorageVolumeEnsureFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for StorageVolumeEnsureFunction {
    fn name(&self) -> &'static str {
        StorageVolumeEnsure::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: StorageVolumeEnsure = ctx.payload()?;
        let storage = Storage::open(&self.0, order.storage_id)?;
        let part = storage.part(|a| a.block(), "volumes")?;
        ctx.progress(10, format!("making the volume {} on {}", order.volume.key, storage.name()));
        let made = ended(LONG, part.volume_ensure(&order.volume)).await?;
        self.0.volume_seen(order.storage_id, &made).await?;
        answer(&made)
    }
}

pub(super) struct StorageVolumeDeleteFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for StorageVolumeDeleteFunction {
    fn name(&self) -> &'static str {
        StorageVolumeDelete::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: StorageVolumeDelete = ctx.payload()?;
        let storage = Storage::open(&self.0, order.storage_id)?;
        let part = storage.part(|a| a.block(), "volumes")?;
        ctx.progress(10, format!("removing the volume {} from {}", order.key, storage.name()));
        ended(LONG, part.volume_delete(&order.key)).await?;
        self.0.volume_gone(order.storage_id, &order.key).await?;
        answer(&())
    }
}

pub(super) struct StorageAccessEnsureFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for StorageAccessEnsureFunction {
    fn name(&self) -> &'static str {
        StorageAccessEnsure::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: StorageAccessEnsure = ctx.payload()?;
        let storage = Storage::open(&self.0, order.storage_id)?;
        let hosts = storage.hosts(&self.0, &order.initiators)?;
        let part = storage.part(|a| a.block(), "volumes")?;
        ctx.progress(10, format!("letting {} hosts use {} on {}", hosts.len(), order.key, storage.name()));
        let access = ended(SHORT, part.access_ensure(&order.key, &hosts)).await?;
        self.0.volume_reached(order.storage_id, &access).await?;
        answer(&access)
    }
}
