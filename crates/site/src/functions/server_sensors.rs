//! `server.sensors` and `server.event_log`: how the hardware is, and what it has noted.

use std::sync::Arc;

use async_trait::async_trait;
use bmc::{EventLog, Sensors};
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{
    firmware::{self, ServerEventLog, ServerSensors},
    order::Order,
};
use serde_json::json;

use super::guard::{Touch, permitted};
use crate::{Site, equipment::job_error, watch::look::reading};

/// Entries that are told, the newest.
const ENTRIES: usize = 500;

pub(super) struct ServerSensorsFunction(pub(super) Arc<Site>);
pub(super) struct ServerEventLogFunction(pub(super) Arc<Site>);

/// Whether a time is no longer ago than that.
fn young(at: &str, most_seconds: u32) -> bool {
    store::time::millis_between(at, &store::time::now()).is_some_and(|age| age <= i64::from(most_seconds) * 1000)
}

#[async_trait]
impl JobFunction for ServerSensorsFunction {
    fn name(&self) -> &'static str {
        ServerSensors::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: ServerSensors = ctx.payload()?;
        if let Some(most) = order.max_age_seconds
            && let Some(last) = self.0.watch.reading(order.server_id)
            && last.read_at.as_ref().is_some_and(|at| young(at, most))
        {
            return Ok(Outcome::Done(serde_json::to_value(last.as_ref()).map_err(JobError::fatal)?));
        }
        let driver = self.0.bmc(&self.0.server(order.server_id)?)?;
        ctx.progress(20, "reading the sensors");
        let found = driver.redfish().map_err(job_error)?.sensors().await.map_err(job_error)?;
        let answer = reading(found);
        self.0.watch.note_reading(order.server_id, &answer);
        Ok(Outcome::Done(serde_json::to_value(answer).map_err(JobError::fatal)?))
    }
}

#[async_trait]
impl JobFunction for ServerEventLogFunction {
    fn name(&self) -> &'static str {
        ServerEventLog::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: ServerEventLog = ctx.payload()?;
        let server = if order.clear {
            permitted(&self.0, &ctx, order.server_id, Touch::Power)?
        } else {
            self.0.server(order.server_id)?
        };
        let driver = self.0.bmc(&server)?;
        let bmc = driver.redfish().map_err(job_error)?;
        ctx.progress(20, "reading the event log");
        let log = bmc.log().await.map_err(job_error)?;
        let skip = log.len().saturating_sub(ENTRIES);
        let entries: Vec<firmware::LogEntry> = log
            .into_iter()
            .skip(skip)
            .map(|e| firmware::LogEntry {
                id: e.id,
                at: e.at,
                severity: e.severity.as_str().to_owned(),
                message: e.message,
            })
            .collect();
        if order.clear {
            ctx.progress(70, "emptying the event log");
            bmc.clear_log().await.map_err(job_error)?;
        }
        Ok(Outcome::Done(json!({"entries": entries, "cleared": order.clear})))
    }
}
