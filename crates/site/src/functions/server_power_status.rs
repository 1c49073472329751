//! `server.power_status`: asks the BMC now.

use std::sync::Arc;

use async_trait::async_trait;
use bmc::Power;
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::order::{Order, ServerPowerStatus};
use serde_json::json;

use crate::Site;
use crate::equipment::job_error;

pub(super) struct ServerPowerStatusFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for ServerPowerStatusFunction {
    fn name(&self) -> &'static str {
        ServerPowerStatus::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: ServerPowerStatus = ctx.payload()?;
        let power = self.0.bmc(&self.0.server(order.server_id)?)?.power().await.map_err(job_error)?;
        Ok(Outcome::Done(json!({"power": power})))
    }
}
