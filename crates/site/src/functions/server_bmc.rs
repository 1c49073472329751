//! `server.bmc`: what only the BMC can do.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bmc::{BmcReset, BootOrder, Power, PowerLoss, Reporting, VirtualMedia};
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{
    bmc::PowerAction,
    firmware::{BmcAction, ServerBmc},
    order::Order,
};
use serde_json::json;

use super::guard::{Touch, permitted};
use crate::{Site, entity::bmc_work, equipment::job_error, session::now};

/// When a BMC is looked at after it was put back to factory settings.
const AFTER_RESET: Duration = Duration::from_mins(1);
/// Longest time that a BMC takes to come back.
const BACK: i64 = 10 * 60;

pub(super) struct ServerBmcFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for ServerBmcFunction {
    fn name(&self) -> &'static str {
        ServerBmc::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: ServerBmc = ctx.payload()?;
        let reads = matches!(order.action, BmcAction::BootOrder | BmcAction::AfterPowerLoss);
        let server = if reads {
            self.0.server(order.server_id)?
        } else {
            permitted(&self.0, &ctx, order.server_id, Touch::Power)?
        };
        if !reads && self.0.writes_firmware(server.id, ctx.id()).await? {
            return Ok(Outcome::Wait {
                reason: "firmware of this server is being written".into(),
                after: Duration::from_secs(5),
            });
        }
        let driver = self.0.bmc(&server)?;
        let redfish = || driver.redfish().map_err(job_error);
        ctx.progress(20, "asking the BMC");
        let answer = match order.action {
            BmcAction::Reset => return self.reset(&ctx, &driver, server.id).await,
            BmcAction::Nmi => {
                driver.set_power(PowerAction::Nmi).await.map_err(job_error)?;
                json!({})
            }
            BmcAction::EnableSnmp => json!({"changed": redfish()?.enable_snmp().await.map_err(job_error)?}),
            BmcAction::Syslog { target } => {
                json!({"changed": redfish()?.syslog(&target).await.map_err(job_error)?, "target": target})
            }
            BmcAction::FactoryReset => {
                if server.in_use {
                    return Err(JobError::fatal(format!(
                        "server {} is in use: its settings are not put back to those of the factory; free it first",
                        server.name
                    )));
                }
                let reset = redfish()?.factory_reset().await.map_err(job_error)?;
                // What it was asked to tell may be gone with the rest.
                self.0.watch.look_in(server.id, AFTER_RESET);
                json!({"reset": reset})
            }
            BmcAction::BootOrder => {
                let found = redfish()?.boot_order().await.map_err(job_error)?;
                serde_json::to_value(found).map_err(JobError::fatal)?
            }
            BmcAction::SetBootOrder { order } => {
                let bmc = redfish()?;
                bmc.set_boot_order(&order).await.map_err(job_error)?;
                let found = bmc.boot_order().await.map_err(job_error)?;
                serde_json::to_value(found).map_err(JobError::fatal)?
            }
            BmcAction::AfterPowerLoss => {
                json!({"afterPowerLoss": driver.after_power_loss().await.map_err(job_error)?})
            }
            BmcAction::SetAfterPowerLoss { wanted } => {
                driver.set_after_power_loss(wanted).await.map_err(job_error)?;
                json!({"afterPowerLoss": wanted})
            }
            BmcAction::EjectMedia => {
                redfish()?.eject().await.map_err(job_error)?;
                json!({"ejected": true})
            }
        };
        Ok(Outcome::Done(answer))
    }
}

impl ServerBmcFunction {
    /// Restarts it once, whatever happens to us, and waits until it answers again.
    async fn reset(&self, ctx: &JobContext, driver: &bmc::Driver, server_id: i64) -> Result<Outcome, JobError> {
        let found = self.0.bmc_work(ctx.id()).await?;
        let Some(mut work) = found else {
            driver.redfish().map_err(job_error)?.reset_bmc().await.map_err(job_error)?;
            let mut work = bmc_work::begin(ctx.id(), server_id, "reset", now());
            self.0.note_bmc_work(&mut work).await?;
            return Ok(Outcome::Wait { reason: "the BMC restarts".into(), after: Duration::from_secs(5) });
        };
        match driver.power().await {
            Ok(power) => {
                self.0.end_bmc_work(ctx.id()).await?;
                self.0.watch.look_in(server_id, Duration::ZERO);
                Ok(Outcome::Done(json!({"power": power})))
            }
            Err(e) if now() - work.since > BACK => {
                self.0.end_bmc_work(ctx.id()).await?;
                Err(JobError::fatal(format!("the BMC did not come back after its restart: {e}")))
            }
            Err(_) => {
                self.0.note_bmc_work(&mut work).await?;
                Ok(Outcome::Wait { reason: "waiting for the BMC to come back".into(), after: Duration::from_secs(5) })
            }
        }
    }
}
