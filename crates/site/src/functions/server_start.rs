//! `server.start`: boots from the local disk.

use std::sync::Arc;

use async_trait::async_trait;
use bmc::{BmcError, Boot, Power};
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{
    bmc::{BootTarget, PowerAction, PowerState},
    order::{Order, ServerStart},
};
use serde_json::json;

use super::guard::{Touch, permitted};
use crate::Site;
use crate::equipment::job_error;

pub(super) struct ServerStartFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for ServerStartFunction {
    fn name(&self) -> &'static str {
        ServerStart::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: ServerStart = ctx.payload()?;
        let bmc = self.0.bmc(&permitted(&self.0, &ctx, order.server_id, Touch::Power)?)?;
        if bmc.power().await.map_err(job_error)? != PowerState::On {
            ctx.progress(10, "next boot from the disk");
            match bmc.boot_once(BootTarget::Disk).await {
                // Then its own order decides; a server without a boot session is sent to its disk anyway.
                Err(BmcError::Unsupported { .. }) => bmc.boot_once(BootTarget::None).await.map_err(job_error)?,
                other => other.map_err(job_error)?,
            }
            ctx.progress(40, "switching on");
            bmc.set_power(PowerAction::On).await.map_err(job_error)?;
        }
        bmc.wait_for_power(PowerState::On, std::time::Duration::from_secs(90)).await.map_err(job_error)?;
        Ok(Outcome::Done(json!({"power": "on"})))
    }
}
