//! `server.identify`: blinks the LED for half a minute.

use std::sync::Arc;

use async_trait::async_trait;
use bmc::Identify;
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::order::{Order, ServerIdentify};
use serde_json::json;

use crate::Site;
use crate::equipment::job_error;

pub(super) struct ServerIdentifyFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for ServerIdentifyFunction {
    fn name(&self) -> &'static str {
        ServerIdentify::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: ServerIdentify = ctx.payload()?;
        let bmc = self.0.bmc(&self.0.server(order.server_id)?)?;
        bmc.identify(true).await.map_err(job_error)?;
        ctx.progress(50, "the LED blinks");
        tokio::time::sleep(std::time::Duration::from_secs(30)).await;
        bmc.identify(false).await.map_err(job_error)?;
        Ok(Outcome::Done(json!({})))
    }
}
