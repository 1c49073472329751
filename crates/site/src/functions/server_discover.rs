//! `server.discover`: the in-band inventory, told by the boot image.

use std::sync::Arc;

use async_trait::async_trait;
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{
    agent::TaskKind,
    order::{Order, ServerDiscover},
};

use super::boot::{Followed, Work, failure, follow};
use crate::Site;

pub(super) struct ServerDiscoverFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for ServerDiscoverFunction {
    fn name(&self) -> &'static str {
        ServerDiscover::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: ServerDiscover = ctx.payload()?;
        failure(&self.0, ctx.id()).await?;
        match follow(&self.0, &ctx, order.server_id, Work::of(TaskKind::Discover)).await? {
            Followed::Wait(outcome) => Ok(outcome),
            Followed::Over(session) if session.inventory.is_object() => Ok(Outcome::Done(session.inventory)),
            Followed::Over(_) => Err(JobError::fatal("the boot image ended without an inventory")),
        }
    }
}
