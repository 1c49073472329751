//! `server.clean`: erases disks, does what the cleanup policy wants done through the BMC, and tells what became of each.
//!
//! In this order: volumes are made anew, so that the boot image sees all drives through them; disks are erased; what only a restart puts in
//! force follows, with a restart each. What was reached is noted, so that a restart of the site is one more look.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bmc::{BiosSettings, BmcError, Driver, Fresh, Power, Raid, RaidChange, Redfish};
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{
    agent::TaskKind,
    bmc::{HardwareInventory, PowerAction, PowerState},
    cleaning::{ErasedDisk, RaidRules, Statement, StepResult},
    order::{Order, ServerClean},
    raid::{NewVolume, RaidController},
    snapshot::SiteServer,
};
use serde_json::{Value, json};

use super::{
    boot::{Followed, Work, failure, follow},
    guard::{Touch, permitted},
};
use crate::{Site, entity::bmc_work, equipment::job_error, session::now, signer};

/// Longest time of a self test after settings were changed: it may restart by itself.
const SELF_TEST: i64 = 20 * 60;
/// Shortest time after which a BMC's word counts that the self test is over: it may still be that of the last start.
const STALE: i64 = 3;
/// Time after which it counts as over at a BMC that says nothing of it.
const SILENT: i64 = 5 * 60;
/// Longest time that a BMC takes to come back with new settings.
const BACK: i64 = 10 * 60;
const POWER: Duration = Duration::from_secs(90);

pub(super) struct ServerCleanFunction(pub(super) Arc<Site>);

fn wait(reason: &str) -> Outcome {
    Outcome::Wait { reason: reason.to_owned(), after: Duration::from_secs(1) }
}

fn note(what: &str, done: bool, words: impl Into<String>) -> StepResult {
    StepResult { what: what.to_owned(), done, words: words.into() }
}

#[async_trait]
impl JobFunction for ServerCleanFunction {
    fn name(&self) -> &'static str {
        ServerClean::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: ServerClean = ctx.payload()?;
        let server = permitted(&self.0, &ctx, order.server_id, Touch::Disks)?;
        let driver = self.0.bmc(&server)?;
        let work = self.0.bmc_work(ctx.id()).await?;
        let work = work.unwrap_or_else(|| bmc_work::begin(ctx.id(), server.id, "clean", now()));
        let done = work.notes.as_deref().and_then(|n| serde_json::from_str(n).ok()).unwrap_or_default();
        let mut look = Look { site: &self.0, ctx: &ctx, order, server, driver: &driver, work, done };
        match look.work.stage.as_str() {
            "erase" => look.erase().await,
            "reset" => look.reset().await,
            "reset_wait" => look.starts("settings").await,
            "settings" => look.settings().await,
            "settings_wait" => look.starts("bmc").await,
            "bmc" => look.bmc().await,
            "bmc_wait" => look.bmc_back().await,
            "finish" => look.finish().await,
            _ => look.begin().await,
        }
    }
}

/// One look at one cleaning.
struct Look<'a> {
    site: &'a Site,
    ctx: &'a JobContext,
    order: ServerClean,
    server: SiteServer,
    driver: &'a Driver,
    work: bmc_work::Model,
    done: Vec<StepResult>,
}

impl Look<'_> {
    fn redfish(&self) -> Result<&Redfish, JobError> {
        self.driver.redfish().map_err(job_error)
    }

    async fn go(&mut self, stage: &str) -> Result<Outcome, JobError> {
        stage.clone_into(&mut self.work.stage);
        self.work.since = now();
        self.work.notes = serde_json::to_string(&self.done).ok();
        self.site.note_bmc_work(&mut self.work).await?;
        Ok(wait("going on"))
    }

    fn since(&self) -> i64 {
        now() - self.work.since
    }

    /// What the policy asks for and this BMC has not: told, and no reason to stop, because nothing of a tenant is in it.
    fn lacking(&mut self, what: &str, outcome: Result<String, BmcError>) -> Result<bool, JobError> {
        match outcome {
            Ok(words) => {
                self.done.push(note(what, true, words));
                Ok(true)
            }
            Err(e @ BmcError::Unsupported { .. }) => {
                self.done.push(note(what, false, e.to_string()));
                Ok(false)
            }
            Err(e) => Err(job_error(e)),
        }
    }

    /// Volumes are made before the disks are erased: through them the boot image reaches every drive.
    async fn begin(&mut self) -> Result<Outcome, JobError> {
        failure(self.site, self.ctx.id()).await?;
        self.done.clear();
        if let Some(rules) = self.order.plan.firmware.raid.clone().filter(|r| r.recreate) {
            self.ctx.progress(1, "making the volumes of the RAID controllers anew");
            for controller in self.redfish()?.raid().await.map_err(job_error)? {
                self.remake(&rules, &controller).await?;
            }
            if self.done.is_empty() {
                self.done.push(note("RAID", false, "the server has no controller that makes volumes"));
            }
        }
        self.go("erase").await
    }

    async fn remake(&mut self, rules: &RaidRules, controller: &RaidController) -> Result<(), JobError> {
        let name = &controller.name;
        if controller.levels.is_empty() && controller.volumes.is_empty() {
            return Ok(());
        }
        let delete: Vec<String> =
            if rules.reset { controller.volumes.iter().map(|v| v.id.clone()).collect() } else { Vec::new() };
        let kept = controller.volumes.len() - delete.len();
        let drives: Vec<_> = controller.drives.iter().filter(|d| d.healthy).collect();
        let level = rules.level(drives.len());
        if kept > 0 || drives.is_empty() {
            let why = if kept > 0 { "it has volumes, which stay" } else { "it has no healthy drive" };
            self.done.push(note(&format!("RAID of {name}"), false, why));
            return Ok(());
        }
        if !controller.levels.contains(&level) || !level.takes(drives.len()) {
            return Err(JobError::fatal(format!(
                "controller {name} of server {} makes no {} of {} drives; change the levels in the cleanup policy",
                self.server.name,
                level.as_str(),
                drives.len()
            )));
        }
        let ill = controller.drives.len() - drives.len();
        let new = NewVolume {
            controller: controller.id.clone(),
            name: "steelyard1".into(),
            level,
            drives: drives.iter().map(|d| d.id.clone()).collect(),
            bytes: None,
        };
        let change = self.redfish()?.change_raid(&controller.id, &delete, &[new]).await.map_err(job_error)?;
        let serials: Vec<&str> = drives.iter().map(|d| d.serial.as_deref().unwrap_or(&d.id)).collect();
        let mut words = format!(
            "{} volume(s) deleted; {} made of the drives {}, {}",
            delete.len(),
            level.as_str(),
            serials.join(", "),
            if change == RaidChange::Done { "at once" } else { "at the next start" }
        );
        if ill > 0 {
            words.push_str(&format!(
                "; {ill} drive(s) that the BMC calls broken are left out and NOT erased: take them out"
            ));
        }
        self.done.push(note(&format!("RAID of {name}"), ill == 0, words));
        Ok(())
    }

    async fn erase(&mut self) -> Result<Outcome, JobError> {
        failure(self.site, self.ctx.id()).await?;
        let mut plan = self.order.plan.clone();
        plan.volumes |= plan.firmware.raid.as_ref().is_some_and(|r| r.recreate);
        let work = Work { clean: Some(plan), ..Work::of(TaskKind::Clean) };
        match follow(self.site, self.ctx, self.order.server_id, work).await? {
            Followed::Wait(outcome) => Ok(outcome),
            Followed::Over(_) => {
                self.volumes_hold().await?;
                let steps = &self.order.plan.firmware;
                let more = steps.after() || steps.raid.as_ref().is_some_and(|r| r.reset && !r.recreate);
                if more { self.go("reset").await } else { self.finish().await }
            }
        }
    }

    /// What was to be made at the start is there now.
    async fn volumes_hold(&mut self) -> Result<(), JobError> {
        if !self.order.plan.firmware.raid.as_ref().is_some_and(|r| r.recreate) {
            return Ok(());
        }
        for controller in self.redfish()?.raid().await.map_err(job_error)? {
            if !controller.levels.is_empty() && controller.volumes.is_empty() && !controller.drives.is_empty() {
                self.go("begin").await?;
                return Err(JobError::retry(format!(
                    "controller {} of server {} has no volume after the start that was to make it; look at the job queue of its BMC",
                    controller.name, self.server.name
                )));
            }
        }
        Ok(())
    }

    /// Volumes without successor, settings of the firmware, keys of secure boot.
    async fn reset(&mut self) -> Result<Outcome, JobError> {
        let steps = self.order.plan.firmware.clone();
        let mut waits = false;
        if steps.raid.as_ref().is_some_and(|r| r.reset && !r.recreate) {
            for controller in self.redfish()?.raid().await.map_err(job_error)? {
                let ids: Vec<String> = controller.volumes.iter().map(|v| v.id.clone()).collect();
                if ids.is_empty() {
                    continue;
                }
                let change = self.redfish()?.change_raid(&controller.id, &ids, &[]).await.map_err(job_error)?;
                waits |= change == RaidChange::AtRestart;
                let words = format!("{} volume(s) deleted after they were erased", ids.len());
                self.done.push(note(&format!("RAID of {}", controller.name), true, words));
            }
        }
        if steps.reset_bios {
            let outcome = match self.driver.redfish() {
                Ok(bmc) => bmc.reset_bios().await.map(|()| "as from the factory".to_owned()),
                Err(e) => Err(e),
            };
            waits |= self.lacking("Settings of the firmware", outcome)?;
        }
        if steps.reset_secure_boot_keys {
            let outcome = match self.driver.redfish() {
                Ok(bmc) => bmc.reset_secure_boot_keys().await.map(|()| "as from the factory".to_owned()),
                Err(e) => Err(e),
            };
            waits |= self.lacking("Keys of secure boot", outcome)?;
        }
        self.start_for(waits, "reset_wait", "settings").await
    }

    /// The trusted platform module, and interfaces of the board: after the firmware's own settings, which would undo them.
    async fn settings(&mut self) -> Result<Outcome, JobError> {
        let steps = self.order.plan.firmware.clone();
        let mut waits = false;
        if steps.clear_tpm {
            let bmc = self.redfish()?;
            if bmc.has_tpm().await.map_err(job_error)? {
                let why = |e: BmcError| {
                    let words = format!(
                        "the trusted platform module of server {} is not cleared: {e}; clear it by hand and use a cleanup policy without that",
                        self.server.name
                    );
                    if e.is_retryable() { JobError::retry(words) } else { JobError::fatal(words) }
                };
                let name = bmc.clear_tpm().await.map_err(why)?;
                self.done.push(note("Trusted platform module", true, format!("cleared by the firmware ({name})")));
                waits = true;
            } else {
                self.done.push(note("Trusted platform module", false, "the server has none"));
            }
        }
        if steps.disable_embedded_nics {
            let outcome = match self.driver.redfish() {
                Ok(bmc) => bmc.disable_embedded_nics().await,
                Err(e) => Err(e),
            };
            match outcome {
                Ok(names) if names.is_empty() => {
                    self.done.push(note(
                        "Interfaces of the board",
                        false,
                        "the firmware has no setting of one that is on",
                    ));
                }
                other => {
                    waits |=
                        self.lacking("Interfaces of the board", other.map(|n| format!("off: {}", n.join(", "))))?;
                }
            }
        }
        self.start_for(waits, "settings_wait", "bmc").await
    }

    /// Starts the server where something waits for that.
    async fn start_for(&mut self, waits: bool, wait_stage: &str, next: &str) -> Result<Outcome, JobError> {
        if !waits {
            return self.go(next).await;
        }
        permitted(self.site, self.ctx, self.server.id, Touch::Disks)?;
        self.ctx.progress(99, "starting the server, so that its firmware takes up what was changed");
        self.driver.set_power(PowerAction::On).await.map_err(job_error)?;
        self.driver.wait_for_power(PowerState::On, POWER).await.map_err(job_error)?;
        self.go(wait_stage).await
    }

    /// Waits for the self test, then switches off.
    async fn starts(&mut self, next: &str) -> Result<Outcome, JobError> {
        let over = self.self_test_over().await;
        match over {
            Ok(true) => {}
            Ok(false) | Err(BmcError::Unreachable { .. }) if self.since() <= SELF_TEST => {
                return Ok(wait("waiting for the self test of the server's firmware"));
            }
            Err(e) => return Err(job_error(e)),
            Ok(false) => {
                return Err(JobError::retry(format!(
                    "server {} did not get through its self test within {} minutes after its settings were changed; look at its console",
                    self.server.name,
                    SELF_TEST / 60
                )));
            }
        }
        permitted(self.site, self.ctx, self.server.id, Touch::Disks)?;
        self.driver.set_power(PowerAction::ForceOff).await.map_err(job_error)?;
        self.driver.wait_for_power(PowerState::Off, POWER).await.map_err(job_error)?;
        self.go(next).await
    }

    async fn self_test_over(&self) -> Result<bool, BmcError> {
        if self.since() < STALE {
            return Ok(false);
        }
        let bmc = self.driver.redfish()?;
        if self.driver.power().await? != PowerState::On {
            // Some switch off and on again by themselves.
            if self.since() > 60 {
                self.driver.set_power(PowerAction::On).await?;
            }
            return Ok(false);
        }
        let over = bmc.started().await?.unwrap_or_else(|| self.since() > SILENT);
        let waits = match bmc.pending_bios().await {
            Ok(pending) => !pending.is_empty(),
            Err(BmcError::Unsupported { .. }) => false,
            Err(e) => return Err(e),
        };
        Ok(over
            && !waits
            && !bmc.tpm_clear_waits().await.or_else(|e| if e.is_retryable() { Err(e) } else { Ok(false) })?)
    }

    async fn bmc(&mut self) -> Result<Outcome, JobError> {
        if !self.order.plan.firmware.reset_bmc {
            return self.finish().await;
        }
        self.ctx.progress(99, "settings of the BMC");
        let outcome = match self.driver.redfish() {
            Ok(bmc) => {
                bmc.reset_bmc_settings().await.map(|()| "as from the factory; address and accounts are kept".to_owned())
            }
            Err(e) => Err(e),
        };
        if self.lacking("Settings of the BMC", outcome)? { self.go("bmc_wait").await } else { self.finish().await }
    }

    async fn bmc_back(&mut self) -> Result<Outcome, JobError> {
        match self.driver.power().await {
            Ok(_) => self.finish().await,
            Err(_) if self.since() <= BACK => Ok(wait("waiting for the BMC to come back")),
            Err(e) => Err(JobError::fatal(format!("the BMC did not come back after its settings were put back: {e}"))),
        }
    }

    async fn finish(&mut self) -> Result<Outcome, JobError> {
        let session = self.site.session(self.ctx.id()).await?;
        let Some(session) = session else {
            return Err(JobError::retry("nothing is known any more of how the disks were erased; beginning anew"));
        };
        let erased: Vec<ErasedDisk> = serde_json::from_value(session.erased).unwrap_or_default();
        let inside: Option<HardwareInventory> = serde_json::from_value(session.inventory).ok();
        let statement = Statement {
            kind: signer::KIND.into(),
            site_id: self.site.membership.site_id(),
            server_id: self.server.id,
            server: self.server.name.clone(),
            job_id: self.ctx.id(),
            policy: self.order.plan.policy.clone(),
            method: self.order.plan.method,
            started_at: self.ctx.job.created_at.clone(),
            finished_at: store::time::now(),
            disks: erased.clone(),
            steps: self.done.clone(),
        };
        let signed = self.site.signer.sign(&statement).map_err(JobError::fatal)?;
        self.site.end_bmc_work(self.ctx.id()).await?;
        let mut answer = json!({"power": "off", "erased": erased, "steps": self.done, "signed": signed});
        if let Some(inside) = inside {
            answer["gpus"] = serde_json::to_value(inside.gpus).unwrap_or(Value::Null);
        }
        Ok(Outcome::Done(answer))
    }
}
