//! `server.firmware_inventory`: the firmware of all parts.

use std::sync::Arc;

use async_trait::async_trait;
use bmc::FirmwareUpdate;
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{firmware::ServerFirmwareInventory, order::Order};

use crate::{Site, equipment::job_error};

pub(super) struct ServerFirmwareInventoryFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for ServerFirmwareInventoryFunction {
    fn name(&self) -> &'static str {
        ServerFirmwareInventory::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: ServerFirmwareInventory = ctx.payload()?;
        let driver = self.0.bmc(&self.0.server(order.server_id)?)?;
        ctx.progress(10, "reading the firmware of all parts from the BMC");
        let found = driver.redfish().map_err(job_error)?.firmware().await.map_err(job_error)?;
        Ok(Outcome::Done(serde_json::to_value(found).map_err(JobError::fatal)?))
    }
}
