//! `switch.discover`: facts, ports and neighbours.

use std::sync::Arc;

use async_trait::async_trait;
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::order::{Order, SwitchDiscover};
use serde_json::json;

use crate::Site;
use crate::equipment::switch_error;

pub(super) struct SwitchDiscoverFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for SwitchDiscoverFunction {
    fn name(&self) -> &'static str {
        SwitchDiscover::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: SwitchDiscover = ctx.payload()?;
        let (_, driver) = self.0.network_device(order.network_device_id)?;
        ctx.progress(10, "reading what the switch is");
        let facts = driver.facts().await.map_err(switch_error)?;
        ctx.progress(50, "reading its ports and neighbours");
        let state = driver.state().await.map_err(switch_error)?;
        Ok(Outcome::Done(json!({"facts": facts, "state": state})))
    }
}
