//! `switch.apply`: makes a switch satisfy a patch.

use std::sync::Arc;

use async_trait::async_trait;
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{
    link::Observed,
    order::{Order, SwitchApply},
};
use serde_json::json;

use crate::Site;
use crate::{equipment::switch_error, power::observe};

pub(super) struct SwitchApplyFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for SwitchApplyFunction {
    fn name(&self) -> &'static str {
        SwitchApply::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: SwitchApply = ctx.payload()?;
        let id = order.network_device_id;
        // One change of a switch at a time: candidates of two would be applied over each other.
        let turn = self.0.equipment.turn(id);
        ctx.progress(5, "waiting for the switch to be free");
        let _turn = turn.lock().await;
        let (device, driver) = self.0.network_device(id)?;
        ctx.progress(20, format!("comparing and configuring {}", device.name));
        let applied = driver.apply(&order.patch).await.map_err(switch_error)?;
        if !applied.actions.is_empty() {
            ctx.progress(90, "reading back");
            let state = driver.state().await.map_err(switch_error)?;
            observe(&self.0, &format!("switch/{id}"), Observed::Switch { network_device_id: id, state }).await;
        }
        Ok(Outcome::Done(json!({"changes": applied.actions.len()})))
    }
}
