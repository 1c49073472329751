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
        // Deploys give servers back by numbered orders, of which old ones are void. An order of a person has no number: it may be an
        // old one that is tried again, long after a tenant moved in.
        if ctx.job.generation == 0 && self.0.server(order.server_id)?.in_use {
            return Err(JobError::fatal(
                "a tenant's operating system is on this server: it is not erased; free it first, then order the cleaning anew",
            ));
        }
        failure(&self.0, ctx.id()).await?;
        match follow(&self.0, &ctx, order.server_id, TaskKind::Clean, None).await? {
            Followed::Wait(outcome) => Ok(outcome),
            Followed::Over(_) => Ok(Outcome::Done(json!({"power": "off"}))),
        }
    }
}
