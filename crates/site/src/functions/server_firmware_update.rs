//! `server.firmware_update`: one part, from the image to the version that runs.
//!
//! Each call is one look, and what was reached is noted, so that a restart of the site or of the BMC in the middle is one more look. The
//! version that runs has the last word, whatever the BMC says of its task.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bmc::{BmcError, Driver, FirmwareUpdate, Power, Progress, Redfish, UpdateImage};
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{
    bmc::{PowerAction, PowerState},
    firmware::{Component, ServerFirmwareUpdate, Updated},
    order::Order,
    snapshot::SiteServer,
};

use super::guard::{Touch, agreed, permitted};
use crate::{Site, bmc_work::Fetched, entity::bmc_work, equipment::job_error, session::now};

/// Longest time that a BMC may take to write an image.
const WRITING: i64 = 90 * 60;
/// Longest time that a BMC may be away, or its server restart, until the new version shows.
const SHOWING: i64 = 25 * 60;
/// Time that a BMC gets to show the new version after it said that it is done.
const SETTLING: i64 = 3 * 60;
/// An update that the BMC lost is begun again so often.
const STARTS: i32 = 3;
/// Time for a power change to show, and for an operating system to shut down.
const POWER: Duration = Duration::from_secs(90);
const GRACE: Duration = Duration::from_mins(3);

pub(super) struct ServerFirmwareUpdateFunction(pub(super) Arc<Site>);

fn wait(reason: impl Into<String>) -> Outcome {
    Outcome::Wait { reason: reason.into(), after: Duration::from_secs(2) }
}

/// One look at one update.
struct Look<'a> {
    site: &'a Site,
    ctx: &'a JobContext,
    order: ServerFirmwareUpdate,
    server: SiteServer,
    driver: &'a Driver,
    work: bmc_work::Model,
}

#[async_trait]
impl JobFunction for ServerFirmwareUpdateFunction {
    fn name(&self) -> &'static str {
        ServerFirmwareUpdate::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: ServerFirmwareUpdate = ctx.payload()?;
        let work = self.0.bmc_work(ctx.id()).await?;
        let server = permitted(&self.0, &ctx, order.server_id, Touch::Power)?;
        // What has begun is followed to its end: to leave a half-written part alone helps nobody.
        if work.as_ref().is_none_or(|w| w.stage == "begin") {
            agreed(&server, &ctx, order.agreed_until.as_deref(), "its firmware is updated")?;
        }
        let driver = self.0.bmc(&server)?;
        let work = work.unwrap_or_else(|| bmc_work::begin(ctx.id(), server.id, "firmware", now()));
        let mut look = Look { site: &self.0, ctx: &ctx, order, server, driver: &driver, work };
        match look.work.stage.as_str() {
            "handing" => look.handing().await,
            "writing" => look.writing().await,
            "reading" => look.reading().await,
            "restarting" => look.restart().await,
            "restarted" => look.restarted().await,
            _ => look.begin().await,
        }
    }
}

impl Look<'_> {
    fn bmc(&self) -> Result<&Redfish, JobError> {
        self.driver.redfish().map_err(job_error)
    }

    async fn go(&mut self, stage: &str) -> Result<(), JobError> {
        stage.clone_into(&mut self.work.stage);
        self.work.since = now();
        Ok(self.site.note_bmc_work(&mut self.work).await?)
    }

    fn since(&self) -> i64 {
        now() - self.work.since
    }

    /// Silence of a BMC that has something to restart for is normal for a while.
    async fn away(&mut self, e: BmcError, limit: i64) -> Result<Outcome, JobError> {
        if !e.is_retryable() || self.since() > limit {
            return Err(job_error(e));
        }
        self.site.note_bmc_work(&mut self.work).await?;
        Ok(wait("the BMC does not answer; it may be restarting with its new firmware"))
    }

    async fn part(&self) -> Result<Result<Component, BmcError>, JobError> {
        let found = match self.bmc()?.firmware().await {
            Ok(found) => found,
            Err(e) => return Ok(Err(e)),
        };
        let part = found.components.into_iter().find(|c| c.id == self.order.component);
        part.map(Ok).ok_or_else(|| {
            JobError::fatal(format!(
                "the BMC of {} knows no part {} ({}); read its firmware again",
                self.server.name, self.order.name, self.order.component
            ))
        })
    }

    /// Whether that is the version that was wanted; without one, any other than before.
    fn holds(&self, part: &Component) -> bool {
        match &self.order.version {
            Some(wanted) => part.version.as_deref().is_some_and(|v| {
                v == wanted || model::firmware::compare_versions(v, wanted) == std::cmp::Ordering::Equal
            }),
            None => part.version != self.work.version_before,
        }
    }

    async fn done(&self, part: Component, waits_for_restart: bool) -> Result<Outcome, JobError> {
        self.site.end_bmc_work(self.ctx.id()).await?;
        let answer = Updated { component: part.id, version: part.version, waits_for_restart };
        Ok(Outcome::Done(serde_json::to_value(answer).map_err(JobError::fatal)?))
    }

    async fn begin(&mut self) -> Result<Outcome, JobError> {
        let part = self.part().await?.map_err(job_error)?;
        if self.order.version.is_some() && self.holds(&part) {
            return self.done(part, false).await;
        }
        if self.order.hold && self.order.kind != "bmc" && !self.bmc()?.firmware().await.map_err(job_error)?.holds_back {
            return Err(JobError::fatal(format!(
                "the BMC of {} cannot hold an update of {} back until the next restart: it may restart the server by itself; order the update with a restart",
                self.server.name, self.order.name
            )));
        }
        if self.site.writes_firmware(self.server.id, self.ctx.id()).await? {
            return Ok(wait("another part of this server is being updated"));
        }
        if self.bmc()?.running_update().await.map_err(job_error)?.is_some() {
            return Ok(wait("another update goes on at the BMC, begun by somebody else"));
        }
        let mut sha256 = self.work.sha256.clone();
        let image = self.site.firmware_image(&self.order.image, &mut sha256).await;
        let image = match image.map_err(|e| JobError::retry(format!("the image cannot be had: {e:#}")))? {
            Fetched::Here(image) => image,
            Fetched::Coming(words) => return Ok(wait(words)),
        };
        self.work.sha256 = sha256;
        self.work.version_before = part.version;
        self.work.was_on = self.driver.power().await.map_err(job_error)? == PowerState::On;
        self.work.starts += 1;
        // Getting the image may have taken hours.
        let server = permitted(self.site, self.ctx, self.server.id, Touch::Power)?;
        agreed(&server, self.ctx, self.order.agreed_until.as_deref(), "its firmware is updated")?;
        self.go("handing").await?;
        self.ctx.progress(5, format!("handing the image for {} to the BMC", self.order.name));
        let image = UpdateImage { name: image.name, file: Some(image.file), url: Some(image.url) };
        match self.bmc()?.start_update(&self.order.component, &image).await {
            Ok(task) => self.work.task = task,
            Err(e) => {
                self.go("begin").await?;
                return Err(job_error(e));
            }
        }
        self.go("writing").await?;
        Ok(wait(format!("the BMC writes {}", self.order.name)))
    }

    /// The site was restarted while it handed the image over: either the BMC has begun, or nothing has happened.
    async fn handing(&mut self) -> Result<Outcome, JobError> {
        match self.bmc()?.running_update().await {
            Ok(Some(task)) => {
                self.work.task = task;
                self.go("writing").await?;
                Ok(wait("the update that had begun was found again"))
            }
            Ok(None) => {
                // It may have ended meanwhile.
                match self.part().await? {
                    Ok(part) if self.holds(&part) => self.done(part, false).await,
                    Ok(_) => {
                        self.work.starts -= 1;
                        self.go("begin").await?;
                        Ok(wait("beginning anew"))
                    }
                    Err(e) => self.away(e, SHOWING).await,
                }
            }
            Err(e) => self.away(e, SHOWING).await,
        }
    }

    async fn writing(&mut self) -> Result<Outcome, JobError> {
        let name = self.order.name.clone();
        match self.bmc()?.update_progress(&self.work.task).await {
            Ok(Progress::Running { percent, words }) => {
                if self.since() > WRITING {
                    return Err(JobError::fatal(format!(
                        "the BMC of {} writes {name} for more than {} minutes; look at its console, and restart the BMC",
                        self.server.name,
                        WRITING / 60
                    )));
                }
                self.site.note_bmc_work(&mut self.work).await?;
                self.ctx.progress(10 + percent.min(100) * 6 / 10, format!("{name}: {words}"));
                Ok(wait(format!("{name}: {words}")))
            }
            Ok(Progress::Failed(words)) => {
                self.go("begin").await?;
                Err(JobError::retry(format!("the BMC did not take the image for {name}: {words}")))
            }
            Ok(Progress::Forgotten) => {
                "forgotten".clone_into(&mut self.work.task);
                self.go("reading").await?;
                Ok(wait("the BMC knows nothing of the update any more; looking at what runs"))
            }
            Ok(Progress::Done | Progress::Staged) => {
                self.go("reading").await?;
                Ok(wait("written; reading the version"))
            }
            Err(e) => self.away(e, SHOWING).await,
        }
    }

    async fn reading(&mut self) -> Result<Outcome, JobError> {
        let part = match self.part().await? {
            Ok(part) => part,
            Err(e) => return self.away(e, SHOWING).await,
        };
        let name = self.order.name.clone();
        if self.holds(&part) {
            return self.done(part, false).await;
        }
        if self.work.task == "forgotten" {
            if self.work.starts >= STARTS {
                return Err(JobError::fatal(format!(
                    "the BMC of {} lost the update of {name} {} times; restart the BMC, and order the update anew",
                    self.server.name, self.work.starts
                )));
            }
            self.go("begin").await?;
            return Ok(wait(format!("the BMC restarted in the middle and lost the update of {name}; beginning anew")));
        }
        if self.order.kind == "bmc" {
            if self.since() < SETTLING {
                self.site.note_bmc_work(&mut self.work).await?;
                return Ok(wait("waiting for the BMC to restart with its new firmware"));
            }
            self.go("begin").await?;
            return Err(self.no_effect(&part));
        }
        if !self.order.restart {
            return self.done(part, true).await;
        }
        self.go("restarting").await?;
        Ok(wait("the server restarts, so that the new firmware takes effect"))
    }

    fn no_effect(&self, part: &Component) -> JobError {
        JobError::fatal(format!(
            "the BMC of {} says that {} was updated, but it is {} and not {}; check that the image is for this model",
            self.server.name,
            self.order.name,
            part.version.as_deref().unwrap_or("unknown"),
            self.order.version.as_deref().unwrap_or("another version")
        ))
    }

    /// Off and on again. A running system is asked first.
    async fn restart(&mut self) -> Result<Outcome, JobError> {
        let server = permitted(self.site, self.ctx, self.server.id, Touch::Power)?;
        if agreed(&server, self.ctx, self.order.agreed_until.as_deref(), "it is restarted").is_err() {
            // The owner's word does not hold any more: the firmware takes effect at the next restart.
            return match self.part().await? {
                Ok(part) => self.done(part, true).await,
                Err(e) => self.away(e, SHOWING).await,
            };
        }
        self.ctx.progress(75, "restarting the server");
        let driver = self.driver;
        if driver.power().await.map_err(job_error)? != PowerState::Off {
            let soft = async {
                driver.set_power(PowerAction::GracefulOff).await?;
                driver.wait_for_power(PowerState::Off, GRACE).await
            };
            if !server.in_use || soft.await.is_err() {
                driver.set_power(PowerAction::ForceOff).await.map_err(job_error)?;
                driver.wait_for_power(PowerState::Off, POWER).await.map_err(job_error)?;
            }
        }
        driver.set_power(PowerAction::On).await.map_err(job_error)?;
        driver.wait_for_power(PowerState::On, POWER).await.map_err(job_error)?;
        self.go("restarted").await?;
        Ok(wait("the server starts with its new firmware"))
    }

    async fn restarted(&mut self) -> Result<Outcome, JobError> {
        let part = match self.part().await? {
            Ok(part) => part,
            Err(e) => return self.away(e, SHOWING).await,
        };
        if !self.holds(&part) {
            if self.since() > SHOWING {
                self.go("begin").await?;
                return Err(self.no_effect(&part));
            }
            self.site.note_bmc_work(&mut self.work).await?;
            self.ctx.progress(85, "waiting for the new version to show");
            return Ok(wait("waiting for the new version to show; the firmware may test the whole machine"));
        }
        if !self.work.was_on && !self.server.in_use {
            self.ctx.progress(95, "switching off again");
            self.driver.set_power(PowerAction::ForceOff).await.map_err(job_error)?;
        }
        self.done(part, false).await
    }
}
