//! `server.raid`: volumes of RAID controllers.

use std::sync::Arc;

use async_trait::async_trait;
use bmc::{Raid, RaidChange};
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{order::Order, raid::ServerRaid};
use serde_json::json;

use super::guard::{Touch, permitted};
use crate::{Site, equipment::job_error};

pub(super) struct ServerRaidFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for ServerRaidFunction {
    fn name(&self) -> &'static str {
        ServerRaid::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: ServerRaid = ctx.payload()?;
        let server = if order.work.is_some() {
            permitted(&self.0, &ctx, order.server_id, Touch::Disks)?
        } else {
            self.0.server(order.server_id)?
        };
        if order.work.is_some() && server.in_use {
            return Err(JobError::fatal(format!(
                "server {} is in use: its volumes are left alone; free it first",
                server.name
            )));
        }
        let driver = self.0.bmc(&server)?;
        let bmc = driver.redfish().map_err(job_error)?;
        let mut at_restart = false;
        if let Some(work) = &order.work {
            ctx.progress(20, "changing volumes");
            // A try that was cut off has made some already: by their names they are known.
            let now = bmc.raid().await.map_err(job_error)?;
            let there = now.iter().find(|c| c.id == work.controller);
            let made = |name: &str| {
                there.is_some_and(|c| c.volumes.iter().any(|v| v.name == name && !work.delete.contains(&v.id)))
            };
            let create: Vec<_> = work.create.iter().filter(|v| !made(&v.name)).cloned().collect();
            let gone = |id: &String| there.is_some_and(|c| c.volumes.iter().all(|v| v.id != *id));
            let delete: Vec<_> = work.delete.iter().filter(|id| !gone(id)).cloned().collect();
            if !create.is_empty() || !delete.is_empty() {
                let change = bmc.change_raid(&work.controller, &delete, &create).await.map_err(job_error)?;
                at_restart |= change == RaidChange::AtRestart;
            }
            for id in &work.initialize {
                let change = bmc.initialize_volume(&work.controller, id).await.map_err(job_error)?;
                at_restart |= change == RaidChange::AtRestart;
            }
        }
        ctx.progress(80, "reading RAID controllers");
        let controllers = bmc.raid().await.map_err(job_error)?;
        Ok(Outcome::Done(json!({"controllers": controllers, "atRestart": at_restart})))
    }
}
