//! `server.install`: an operating system on the first disk.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{
    agent::TaskKind,
    order::{Order, ServerInstall},
};
use serde_json::json;

use super::{
    boot::{Followed, Work, failure, follow},
    install_storage,
};
use crate::{Site, image::State};

pub(super) struct ServerInstallFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for ServerInstallFunction {
    fn name(&self) -> &'static str {
        ServerInstall::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: ServerInstall = ctx.payload()?;
        failure(&self.0, ctx.id()).await?;
        // Nothing is switched off before the image is at hand.
        let image = &order.spec.os.image;
        let waits = |reason: String| Ok(Outcome::Wait { reason, after: Duration::from_secs(1) });
        match self.0.images.want(image) {
            State::Here => {}
            State::Coming(bytes) => {
                return waits(format!("the site fetches the image: {} of {} MiB", bytes >> 20, image.size >> 20));
            }
            State::Failing(why) => return waits(format!("the site cannot get the image yet: {why}")),
        }
        let answer = json!({"os": order.spec.os.name, "image": image.sha256, "hostname": order.spec.hostname});
        let spec = install_storage::complete(&self.0, &ctx, order.spec).await?;
        let work = Work { install: Some(spec), ..Work::of(TaskKind::Install) };
        match follow(&self.0, &ctx, order.server_id, work).await? {
            Followed::Wait(outcome) => Ok(outcome),
            Followed::Over(_) => Ok(Outcome::Done(answer)),
        }
    }
}
