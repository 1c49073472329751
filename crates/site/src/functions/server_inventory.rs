//! `server.inventory`: what the BMC knows of its server.

use std::sync::Arc;

use async_trait::async_trait;
use bmc::Inventory;
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::order::{Order, ServerInventory};

use crate::Site;
use crate::equipment::job_error;

pub(super) struct ServerInventoryFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for ServerInventoryFunction {
    fn name(&self) -> &'static str {
        ServerInventory::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: ServerInventory = ctx.payload()?;
        let server = self.0.server(order.server_id)?;
        ctx.progress(10, "reading the inventory from the BMC");
        let found = self.0.bmc(&server)?.inventory().await.map_err(job_error)?;
        // The next jobs of the group need the addresses before the Global Controller sends them back as a fact.
        let macs: Vec<String> = found.nics.iter().filter_map(|n| model::validate::mac("mac", &n.mac).ok()).collect();
        self.0.facts.found_macs(&self.0.db, server.id, &macs).await?;
        let answer = serde_json::to_value(found).map_err(JobError::fatal)?;
        Ok(Outcome::Done(answer))
    }
}
