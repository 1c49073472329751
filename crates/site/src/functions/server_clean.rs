//! `server.clean`: erases disks, and tells what became of each.

use std::sync::Arc;

use async_trait::async_trait;
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{
    agent::TaskKind,
    order::{Order, ServerClean},
};
use serde_json::json;

use super::boot::{Followed, Work, failure, follow};
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
        let work = Work { clean: Some(order.plan), ..Work::of(TaskKind::Clean) };
        match follow(&self.0, &ctx, order.server_id, work).await? {
            Followed::Wait(outcome) => Ok(outcome),
            Followed::Over(session) => Ok(Outcome::Done(json!({"power": "off", "erased": session.erased}))),
        }
    }
}
