//! `server.install`: an operating system on the first disk, from an image or by its own installer.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{
    agent::TaskKind,
    order::{Order, ServerInstall},
    template::InstallMethod,
};
use serde_json::json;

use super::{
    boot::{Followed, Work, failure, follow},
    install_storage, installer,
};
use crate::{Site, image::State, session::Stage};

pub(super) struct ServerInstallFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for ServerInstallFunction {
    fn name(&self) -> &'static str {
        ServerInstall::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: ServerInstall = ctx.payload()?;
        // The boot image checks what it writes. What is wrong there may be wrong here already.
        if order.spec.os.method == InstallMethod::Image
            && let Some(session) = self.0.session(ctx.id()).await?
            && session.stage() == Stage::Failed
            && session.error.as_ref().is_some_and(|e| e.contains("SHA-256") || e.contains("digest"))
        {
            self.0.images.look_again(&order.spec.os.image.sha256).await;
        }
        failure(&self.0, ctx.id()).await?;
        // Nothing is switched off before the image is at hand.
        let os = &order.spec.os;
        let waits = |reason: String| Ok(Outcome::Wait { reason, after: Duration::from_secs(1) });
        for (image, state) in os.images().map(|image| (image, self.0.images.want(image))) {
            match state {
                State::Here => {}
                State::Coming(bytes) => {
                    return waits(format!("the site fetches the image: {} of {} MiB", bytes >> 20, image.size >> 20));
                }
                State::Failing(why) => return waits(format!("the site cannot get the image yet: {why}")),
            }
        }
        let answer = json!({"os": os.name, "image": os.image.sha256, "hostname": order.spec.hostname});
        let spec = install_storage::complete(&self.0, &ctx, order.spec).await?;
        let volume = self.0.volume_of_install(&spec.storage).await?;
        let on_volume = volume.is_some();
        if let Some(Err(why)) = volume {
            return Err(JobError::retry(why));
        }
        if on_volume && !self.0.boot_dir.join("agent/iscsi").exists() {
            return Err(JobError::fatal(
                "the boot image of this site has no iSCSI initiator, so it cannot write to a volume; make it anew with scripts/agent-image.sh",
            ));
        }
        let followed = if spec.os.method == InstallMethod::Image {
            let work = Work { install: Some(spec), ..Work::of(TaskKind::Install) };
            follow(&self.0, &ctx, order.server_id, work).await?
        } else {
            installer::follow(&self.0, &ctx, order.server_id, &spec).await?
        };
        match followed {
            Followed::Wait(outcome) => Ok(outcome),
            Followed::Over(_) => Ok(Outcome::Done(answer)),
        }
    }
}
