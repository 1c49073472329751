//! Boots a server from the network for a task and follows it to its end: what discovery, installation and cleaning share.

use std::time::Duration;

use bmc::{Boot, Power};
use engine::{JobContext, JobError, Outcome};
use model::{
    Id,
    agent::TaskKind,
    bmc::{BootTarget, PowerAction, PowerState},
    boot::{BootSession, InstallSpec},
    cleaning::{CleanPlan, ErasedDisk},
    snapshot::SiteServer,
};

use super::guard::{Touch, permitted};
use crate::{
    Site,
    entity::boot_session,
    equipment::job_error,
    session::{Stage, now},
};

/// Time for a server to boot the image and say its first word. Large servers test their memory for ten minutes.
const FIRST_WORD: i64 = 20 * 60;
/// Longest silence of an agent that works.
const SILENCE: i64 = 10 * 60;
/// Time for the machine to switch itself off after its last word.
const SWITCH_OFF: i64 = 30;
/// Time for a power change to show.
const POWER: Duration = Duration::from_secs(90);

/// What a server is booted for.
pub(super) struct Work {
    /// Purpose.
    pub task: TaskKind,
    /// For an installation: of what.
    pub install: Option<InstallSpec>,
    /// For a cleaning: how.
    pub clean: Option<CleanPlan>,
}

impl Work {
    /// A purpose without particulars.
    pub(super) fn of(task: TaskKind) -> Self {
        Self { task, install: None, clean: None }
    }
}

/// How it stands.
pub(super) enum Followed {
    /// Ask again later.
    Wait(Outcome),
    /// The task succeeded and the server is off.
    Over(Box<boot_session::Model>),
}

pub(super) fn wait(reason: impl Into<String>) -> Followed {
    Followed::Wait(Outcome::Wait { reason: reason.into(), after: Duration::from_secs(1) })
}

/// The server, if this job may have its disks, and the session of this job, made when there is none that lives.
pub(super) async fn open(
    site: &Site,
    ctx: &JobContext,
    server_id: Id,
    work: Work,
) -> Result<(SiteServer, boot_session::Model), JobError> {
    let server = match permitted(site, ctx, server_id, Touch::Disks) {
        Ok(server) => server,
        Err(refused) => {
            // Somebody else has the server now: its machine must not find our session when it boots.
            if let Some(session) = site.session(ctx.id()).await?
                && !matches!(session.stage(), Stage::Failed | Stage::Ended)
            {
                site.move_session(ctx.id(), Stage::Ended).await?;
            }
            return Err(refused);
        }
    };
    let session = match site.session(ctx.id()).await? {
        Some(session) if !matches!(session.stage(), Stage::Failed | Stage::Ended) => session,
        _ => {
            if server.macs.is_empty() {
                return Err(JobError::fatal(format!(
                    "no MAC address of server {} is known, so its boot request could not be told from others; read its inventory first",
                    server.name
                )));
            }
            let wanted = BootSession {
                job_id: ctx.id(),
                server_id,
                macs: server.macs.clone(),
                task: work.task,
                install: work.install,
                clean: work.clean,
                token: String::new(),
            };
            site.begin_session(wanted).await.map_err(JobError::retry)?
        }
    };
    Ok((server, session))
}

/// Boots a server of a prepared session once from there. `None`: it has begun.
pub(super) async fn begin(
    site: &Site,
    ctx: &JobContext,
    server_id: Id,
    from: BootTarget,
) -> Result<Option<Followed>, JobError> {
    // The facts may have changed since this job began.
    let server = permitted(site, ctx, server_id, Touch::Disks)?;
    let bmc = site.bmc(&server)?;
    if site.writes_firmware(server_id, ctx.id()).await? {
        return Ok(Some(wait("firmware of this server is being written; its power is left alone until then")));
    }
    ctx.progress(1, "switching off");
    bmc.set_power(PowerAction::ForceOff).await.map_err(job_error)?;
    bmc.wait_for_power(PowerState::Off, POWER).await.map_err(job_error)?;
    let from_words = if from == BootTarget::Cd { "the virtual drive" } else { "the network" };
    ctx.progress(2, format!("next boot from {from_words}"));
    bmc.boot_once(from).await.map_err(job_error)?;
    ctx.progress(3, "switching on");
    bmc.set_power(PowerAction::On).await.map_err(job_error)?;
    bmc.wait_for_power(PowerState::On, POWER).await.map_err(job_error)?;
    // A quick machine has reported already.
    site.advance_session(ctx.id(), &[Stage::Prepared], Stage::Booted).await?;
    Ok(None)
}

/// One look; brings the matter forward where it can be.
pub(super) async fn follow(site: &Site, ctx: &JobContext, server_id: Id, work: Work) -> Result<Followed, JobError> {
    let (server, session) = open(site, ctx, server_id, work).await?;
    let bmc = site.bmc(&server)?;
    match session.stage() {
        Stage::Prepared => Ok(begin(site, ctx, server_id, BootTarget::Pxe)
            .await?
            .unwrap_or_else(|| wait("waiting for the server to boot from the network"))),
        Stage::Booted | Stage::Installing => {
            let (since, limit, words) = if session.heard_at == 0 {
                (session.begun_at, FIRST_WORD, "did not boot from the network")
            } else {
                (session.heard_at, SILENCE, "fell silent")
            };
            if now() - since > limit {
                site.move_session(ctx.id(), Stage::Ended).await?;
                return Err(JobError::retry(format!(
                    "server {} {words} within {} minutes; look at its console, its boot order, and the VLAN of its port",
                    server.name,
                    limit / 60
                )));
            }
            if session.heard_at == 0 {
                return Ok(wait("waiting for the server to boot from the network"));
            }
            // The steps before the agent's first word took a little of the way.
            ctx.progress(Ord::max(session.percent.clamp(0, 99) as u8, 4), session.message.clone());
            Ok(wait(if session.message.is_empty() { "the boot image has started".to_owned() } else { session.message }))
        }
        Stage::Done | Stage::Stopping => {
            if bmc.power().await.map_err(job_error)? == PowerState::Off {
                return Ok(Followed::Over(Box::new(session)));
            }
            if now() - session.heard_at > SWITCH_OFF {
                permitted(site, ctx, server_id, Touch::Disks)?;
                bmc.set_power(PowerAction::ForceOff).await.map_err(job_error)?;
            }
            ctx.progress(99, "waiting for the server to switch off");
            Ok(wait("waiting for the server to switch off"))
        }
        Stage::Failed | Stage::Ended => Ok(wait("beginning anew")),
    }
}

/// Ends a session whose agent reported a failure, with the error that it gave and what became of each disk by then.
pub(super) async fn failure(site: &Site, job_id: Id) -> Result<(), JobError> {
    if let Some(session) = site.session(job_id).await?
        && session.stage() == Stage::Failed
    {
        site.move_session(job_id, Stage::Ended).await?;
        let error = session.error.unwrap_or_default();
        let disks: Vec<ErasedDisk> = serde_json::from_value(session.erased).unwrap_or_default();
        let list = disks.iter().map(|d| {
            let name = d.serial.as_ref().map_or_else(|| d.name.clone(), |s| format!("{} ({s})", d.name));
            format!("{name}: {}", d.error.as_ref().unwrap_or(&d.method))
        });
        let told = list.collect::<Vec<_>>().join("; ");
        let told = if told.is_empty() { String::new() } else { format!(" [{told}]") };
        return Err(JobError::retry(format!("the boot image reports: {error}{told}")));
    }
    Ok(())
}
