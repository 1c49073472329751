//! `server.power`: brings the power where it should be.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bmc::Power;
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{
    bmc::{PowerAction, PowerState},
    order::{Order, ServerPower},
};
use serde_json::json;

use super::guard::{Touch, permitted};
use crate::Site;
use crate::equipment::job_error;

/// Time for a power change to show.
const POWER: Duration = Duration::from_secs(90);

pub(super) struct ServerPowerFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for ServerPowerFunction {
    fn name(&self) -> &'static str {
        ServerPower::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: ServerPower = ctx.payload()?;
        let server = permitted(&self.0, &ctx, order.server_id, Touch::Power)?;
        if self.0.writes_firmware(server.id, ctx.id()).await? {
            return Ok(Outcome::Wait {
                reason: "firmware of this server is being written; its power is left alone until then".into(),
                after: Duration::from_secs(5),
            });
        }
        let bmc = self.0.bmc(&server)?;
        ctx.progress(10, "asking the BMC");
        bmc.set_power(order.action).await.map_err(job_error)?;
        let wanted = match order.action {
            PowerAction::On | PowerAction::Reset | PowerAction::Cycle | PowerAction::Nmi => PowerState::On,
            PowerAction::GracefulOff | PowerAction::ForceOff => PowerState::Off,
        };
        let limit = match order.action {
            PowerAction::GracefulOff => Duration::from_secs(u64::from(order.graceful_seconds.unwrap_or(180))),
            _ => POWER,
        };
        ctx.progress(30, format!("waiting until the power is {wanted:?}").to_lowercase());
        let waited = bmc.wait_for_power(wanted, limit).await;
        if waited.is_err() && order.action == PowerAction::GracefulOff && order.force_after {
            ctx.progress(60, "the operating system did not follow: cutting the power");
            // Minutes have passed since the order began.
            permitted(&self.0, &ctx, order.server_id, Touch::Power)?;
            bmc.set_power(PowerAction::ForceOff).await.map_err(job_error)?;
            bmc.wait_for_power(PowerState::Off, POWER).await.map_err(job_error)?;
        } else {
            waited.map_err(job_error)?;
        }
        Ok(Outcome::Done(json!({"power": wanted})))
    }
}
