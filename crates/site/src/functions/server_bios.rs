//! `server.bios`: settings of the firmware.

use std::sync::Arc;

use async_trait::async_trait;
use bmc::BiosSettings;
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{
    firmware::{self, ServerBios},
    order::Order,
};

use super::guard::{Touch, permitted};
use crate::{Site, equipment::job_error};

pub(super) struct ServerBiosFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for ServerBiosFunction {
    fn name(&self) -> &'static str {
        ServerBios::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: ServerBios = ctx.payload()?;
        let server = if order.set.is_empty() {
            self.0.server(order.server_id)?
        } else {
            // They take effect at the next restart of whoever has the server then.
            permitted(&self.0, &ctx, order.server_id, Touch::Power)?
        };
        let driver = self.0.bmc(&server)?;
        let bmc = driver.redfish().map_err(job_error)?;
        if !order.set.is_empty() {
            ctx.progress(20, "writing settings of the firmware");
            bmc.set_bios(&order.set).await.map_err(job_error)?;
        }
        ctx.progress(60, "reading settings of the firmware");
        let attributes = bmc.bios().await.map_err(job_error)?;
        let pending = bmc.pending_bios().await.map_err(job_error)?;
        let answer = firmware::BiosSettings { attributes, pending };
        Ok(Outcome::Done(serde_json::to_value(answer).map_err(JobError::fatal)?))
    }
}
