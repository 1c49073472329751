//! `server.boot_iso`: boots an image that somebody brought, over the BMC's virtual drive.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bmc::{Boot, Driver, Power, VirtualMedia};
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{
    bmc::{BootTarget, PowerAction, PowerState},
    firmware::ServerBootIso,
    order::Order,
};
use serde_json::json;

use super::guard::{Touch, agreed, permitted};
use crate::{Site, entity::bmc_work, equipment::job_error, session::now};

/// Time for a power change to show, and for an operating system to shut down.
const POWER: Duration = Duration::from_secs(90);
const GRACE: Duration = Duration::from_mins(3);
/// A machine that is off so soon after it was started is restarting, or did not start.
const STARTING: i64 = 60;

pub(super) struct ServerBootIsoFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for ServerBootIsoFunction {
    fn name(&self) -> &'static str {
        ServerBootIso::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: ServerBootIso = ctx.payload()?;
        let work = self.0.bmc_work(ctx.id()).await?;
        let booted = work.as_ref().is_some_and(|w| w.stage == "booted");
        let server = permitted(&self.0, &ctx, order.server_id, Touch::Power)?;
        if !booted {
            agreed(&server, &ctx, order.agreed_until.as_deref(), "it is booted from another image")?;
        }
        let driver = self.0.bmc(&server)?;
        let mut work = work.unwrap_or_else(|| bmc_work::begin(ctx.id(), server.id, "iso", now()));
        if !booted {
            if self.0.writes_firmware(server.id, ctx.id()).await? {
                return Ok(Outcome::Wait {
                    reason: "firmware of this server is being written".into(),
                    after: Duration::from_secs(5),
                });
            }
            if let Err(e) = boot(&ctx, &driver, &order, server.in_use).await {
                // Nobody should find a foreign image in the drive.
                if let Ok(bmc) = driver.redfish()
                    && let Err(error) = bmc.eject().await
                {
                    tracing::debug!(server = server.id, %error, "the image could not be taken out");
                }
                return Err(e);
            }
            "booted".clone_into(&mut work.stage);
            work.since = now();
            self.0.note_bmc_work(&mut work).await?;
        }
        let running = now() - work.since;
        let power = driver.power().await.map_err(job_error)?;
        let over = running > i64::from(order.eject_after_seconds);
        if (power == PowerState::Off && running > STARTING) || over {
            driver.redfish().map_err(job_error)?.eject().await.map_err(job_error)?;
            self.0.end_bmc_work(ctx.id()).await?;
            let why = if over { "its time is over" } else { "the server is off again" };
            return Ok(Outcome::Done(json!({"ejected": true, "because": why, "power": power})));
        }
        self.0.note_bmc_work(&mut work).await?;
        ctx.progress(60, format!("{} runs; it is taken out when the server is off again", order.name));
        let left = i64::from(order.eject_after_seconds) - running;
        Ok(Outcome::Wait {
            reason: format!(
                "{} runs; it is taken out when the server is off again, or in {} minutes",
                order.name,
                left / 60 + 1
            ),
            after: Duration::from_secs(left.clamp(1, 15).unsigned_abs()),
        })
    }
}

async fn boot(ctx: &JobContext, driver: &Driver, order: &ServerBootIso, in_use: bool) -> Result<(), JobError> {
    let bmc = driver.redfish().map_err(job_error)?;
    ctx.progress(10, format!("inserting {}", order.name));
    bmc.insert(&order.url).await.map_err(job_error)?;
    ctx.progress(25, "switching off");
    if driver.power().await.map_err(job_error)? != PowerState::Off {
        let soft = async {
            driver.set_power(PowerAction::GracefulOff).await?;
            driver.wait_for_power(PowerState::Off, GRACE).await
        };
        if !in_use || soft.await.is_err() {
            driver.set_power(PowerAction::ForceOff).await.map_err(job_error)?;
            driver.wait_for_power(PowerState::Off, POWER).await.map_err(job_error)?;
        }
    }
    ctx.progress(40, "next boot from the virtual drive");
    bmc.boot_once(BootTarget::Cd).await.map_err(job_error)?;
    ctx.progress(50, "switching on");
    driver.set_power(PowerAction::On).await.map_err(job_error)?;
    driver.wait_for_power(PowerState::On, POWER).await.map_err(job_error)
}
