//! Installations by a distribution's own installer, from the network or from a medium in the virtual drive. The rules are those of
//! [`super::boot`]; the end is the same too: an installed server that is switched off, for the job that starts it.

use std::time::Duration;

use bmc::{Power, VirtualMedia};
use engine::{JobContext, JobError, Outcome};
use model::{
    Id,
    agent::TaskKind,
    bmc::{BootTarget, PowerAction, PowerState},
    boot::InstallSpec,
    snapshot::SiteServer,
    template::{InstallMethod, ReadySignal},
};

use super::{
    boot::{Followed, Work, begin, open, wait},
    guard::{Touch, permitted},
    ready,
};
use crate::{
    Site,
    entity::boot_session,
    equipment::job_error,
    medium,
    session::{Stage, now},
};

/// Time for an installer to be booted and to read its answer file.
const FIRST_WORD: i64 = 30 * 60;
/// Time for an installation.
const INSTALLATION: i64 = 3 * 3600;
/// A machine that is off so soon after it was started is restarting, or did not start.
const STARTING: i64 = 60;
/// Time for the new system to shut down when it is asked to.
const GRACE: i64 = 3 * 60;
/// Pause between two questions to the new system.
const ASK: Duration = Duration::from_secs(5);

/// One look; brings the matter forward where it can be.
pub(super) async fn follow(
    site: &Site,
    ctx: &JobContext,
    server_id: Id,
    spec: &InstallSpec,
) -> Result<Followed, JobError> {
    let media = matches!(spec.os.method, InstallMethod::Media { .. });
    let work = Work { install: Some(spec.clone()), ..Work::of(TaskKind::Install) };
    let (server, session) = open(site, ctx, server_id, work).await?;
    let bmc = site.bmc(&server)?;
    match session.stage() {
        Stage::Prepared if media => {
            if site.writes_firmware(server_id, ctx.id()).await? {
                return Ok(wait("firmware of this server is being written; its BMC is left alone until then"));
            }
            medium::prepare(site, ctx, &session).await?;
            // Making a medium takes its time.
            permitted(site, ctx, server_id, Touch::Disks)?;
            let whole = site.whole(&session).map_err(JobError::retry)?;
            ctx.progress(1, "inserting the installation medium");
            let url = format!("{}/media/{}/install.iso", site.http_base, whole.token);
            let inserted = bmc.redfish().map_err(job_error)?.insert(&url).await;
            // The address holds the token, which nobody needs to read.
            inserted
                .map_err(job_error)
                .map_err(|e| JobError { message: e.message.replace(&whole.token, "…"), ..e })?;
            Ok(begin(site, ctx, server_id, BootTarget::Cd).await?.unwrap_or_else(|| wait("the installer is started")))
        }
        Stage::Prepared => Ok(begin(site, ctx, server_id, BootTarget::Pxe)
            .await?
            .unwrap_or_else(|| wait("waiting for the server to boot its installer from the network"))),
        Stage::Booted | Stage::Installing => waiting(site, ctx, &server, spec, session).await,
        Stage::Done => {
            if bmc.power().await.map_err(job_error)? == PowerState::Off {
                return over(site, &server, spec, session).await;
            }
            permitted(site, ctx, server_id, Touch::Disks)?;
            ctx.progress(95, "the new system is ready; it is shut down");
            if let Err(error) = bmc.set_power(PowerAction::GracefulOff).await {
                tracing::debug!(server = server_id, %error, "the new system cannot be asked to shut down");
            }
            site.move_session(ctx.id(), Stage::Stopping).await?;
            Ok(wait("the new system is ready; it is shut down"))
        }
        Stage::Stopping => {
            if bmc.power().await.map_err(job_error)? == PowerState::Off {
                return over(site, &server, spec, session).await;
            }
            if now() - session.begun_at > GRACE {
                permitted(site, ctx, server_id, Touch::Disks)?;
                ctx.progress(98, "switching off");
                bmc.set_power(PowerAction::ForceOff).await.map_err(job_error)?;
            }
            Ok(wait("waiting for the new system to shut down"))
        }
        Stage::Failed | Stage::Ended => Ok(wait("beginning anew")),
    }
}

async fn waiting(
    site: &Site,
    ctx: &JobContext,
    server: &SiteServer,
    spec: &InstallSpec,
    session: boot_session::Model,
) -> Result<Followed, JobError> {
    let off = site.bmc(server)?.power().await.map_err(job_error)? == PowerState::Off;
    let network = matches!(spec.os.method, InstallMethod::Network { .. });
    let installing = session.stage() == Stage::Installing;
    let elapsed = now() - session.begun_at;
    let began = if network { installing } else { session.heard_at > 0 || elapsed > STARTING };
    if off && began && spec.os.ready == ReadySignal::PowerOff {
        return over(site, server, spec, session).await;
    }
    if off && elapsed > STARTING {
        let why = if began {
            "switched itself off, and its template says that the new system tells when it is ready; look at the end of its answer file"
        } else {
            "switched itself off before its installer had read its answer file; look at its console and the kernel's arguments"
        };
        return given_up(site, server, spec, &session, why).await;
    }
    if network && !installing && elapsed > FIRST_WORD {
        let why = format!(
            "has not read its answer file within {} minutes; look at its console, its boot order, the VLAN of its port, and the kernel's arguments",
            FIRST_WORD / 60
        );
        return given_up(site, server, spec, &session, &why).await;
    }
    let waits_for = match &spec.os.ready {
        ReadySignal::PowerOff => "it switches itself off".to_owned(),
        ReadySignal::Signal => "it posts to its ready address".to_owned(),
        ReadySignal::Ssh { port } => format!("it answers by SSH at port {port}"),
        ReadySignal::ApiResponse { .. } => "its address answers".to_owned(),
    };
    if elapsed > INSTALLATION {
        let why = format!(
            "was not ready within {} hours (until {waits_for}); look at its console and its answer file",
            INSTALLATION / 3600
        );
        return given_up(site, server, spec, &session, &why).await;
    }
    if network && !installing {
        return Ok(wait("waiting for the installer to read its answer file"));
    }
    let last = ready::ask(site, ctx, server, spec, &session).await?;
    if last == ready::Answer::Ready {
        site.advance_session(ctx.id(), &[Stage::Booted, Stage::Installing], Stage::Done).await?;
        return Ok(wait("the new system answers"));
    }
    // Nobody knows how far an installer is: an hour is a lot.
    ctx.progress(u8::try_from(10 + Ord::min(elapsed / 45, 80)).unwrap_or(10), "the installer works");
    let detail = match last {
        ready::Answer::NotYet(why) => format!("; {why}"),
        _ => String::new(),
    };
    let reason = format!("the installer works, {} minutes so far, until {waits_for}{detail}", elapsed / 60);
    let asks = matches!(spec.os.ready, ReadySignal::Ssh { .. } | ReadySignal::ApiResponse { .. });
    Ok(Followed::Wait(Outcome::Wait { reason, after: if asks { ASK } else { Duration::from_secs(1) } }))
}

/// The server is off and its system is installed.
async fn over(
    site: &Site,
    server: &SiteServer,
    spec: &InstallSpec,
    session: boot_session::Model,
) -> Result<Followed, JobError> {
    eject(site, server, spec).await.map_err(job_error)?;
    medium::forget(site, session.job_id).await;
    site.move_session(session.job_id, Stage::Done).await?;
    Ok(Followed::Over(Box::new(session)))
}

async fn given_up(
    site: &Site,
    server: &SiteServer,
    spec: &InstallSpec,
    session: &boot_session::Model,
    why: &str,
) -> Result<Followed, JobError> {
    site.move_session(session.job_id, Stage::Ended).await?;
    medium::forget(site, session.job_id).await;
    if let Err(error) = eject(site, server, spec).await {
        tracing::debug!(server = server.id, %error, "the installation medium could not be taken out");
    }
    Err(JobError::retry(format!("server {} {why}", server.name)))
}

async fn eject(site: &Site, server: &SiteServer, spec: &InstallSpec) -> Result<(), bmc::BmcError> {
    if !matches!(spec.os.method, InstallMethod::Media { .. }) {
        return Ok(());
    }
    match site.bmc(server) {
        Ok(driver) => driver.redfish()?.eject().await,
        // Then there is no drive to empty.
        Err(_) => Ok(()),
    }
}
