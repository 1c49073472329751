//! `storage.discover`: what a storage is.

use std::sync::Arc;

use async_trait::async_trait;
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{order::Order, storage::StorageDiscover};

use super::storage_array::{SHORT, Storage, finish};
use crate::Site;

pub(super) struct StorageDiscoverFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for StorageDiscoverFunction {
    fn name(&self) -> &'static str {
        StorageDiscover::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: StorageDiscover = ctx.payload()?;
        let storage = Storage::open(&self.0, order.storage_id)?;
        ctx.progress(10, format!("asking {} what it is", storage.name()));
        let facts = finish(SHORT, storage.array().facts()).await;
        self.0.tell_certificates().await;
        facts
    }
}
