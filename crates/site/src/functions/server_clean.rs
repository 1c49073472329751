//! `server.clean`: erases all disks.

use std::sync::Arc;

use async_trait::async_trait;
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{
    agent::TaskKind,
    order::{Order, ServerClean},
};
use serde_json::json;

use super::boot::{Followed, failure, follow};
use crate::Site;

pub(super) struct ServerCleanFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for ServerCleanFunction {
    fn name(&self) -> &'static str {
        ServerClean::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: ServerClean = ctx.payload()?;
        failure(&self.0, ctx.id()).await?;
        match follow(&self.0, &ctx, order.server_id, TaskKind::Clean, None).await? {
            Followed::Wait(outcome) => Ok(outcome),
            Followed::Over(_) => Ok(Outcome::Done(json!({"power": "off"}))),
        }
    }
}
