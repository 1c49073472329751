//! `server.start`: boots from the local disk, or from the volume of its instance.

use std::sync::Arc;

use async_trait::async_trait;
use bmc::{BmcError, Boot, BootOrder, Driver, Power};
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{
    bmc::{BootTarget, PowerAction, PowerState},
    order::{Order, ServerStart},
};
use serde_json::json;

use super::guard::{Touch, permitted};
use crate::Site;
use crate::equipment::job_error;

pub(super) struct ServerStartFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for ServerStartFunction {
    fn name(&self) -> &'static str {
        ServerStart::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: ServerStart = ctx.payload()?;
        let server = permitted(&self.0, &ctx, order.server_id, Touch::Power)?;
        let bmc = self.0.bmc(&server)?;
        if let Some(san) = &server.san {
            // Without a way to its volume it would only ask again and again.
            self.0.volume_of_server(&server).await.map_err(|e| JobError::retry(e.to_string()))?;
            if bmc.power().await.map_err(job_error)? != PowerState::On {
                ctx.progress(10, format!("next boot from the network, to the volume {}", san.key));
                network_first(&bmc, &ctx).await;
                bmc.boot_once(BootTarget::Pxe).await.map_err(job_error)?;
                ctx.progress(40, "switching on");
                bmc.set_power(PowerAction::On).await.map_err(job_error)?;
            }
        } else if bmc.power().await.map_err(job_error)? != PowerState::On {
            ctx.progress(10, "next boot from the disk");
            match bmc.boot_once(BootTarget::Disk).await {
                // Then its own order decides; a server without a boot session is sent to its disk anyway.
                Err(BmcError::Unsupported { .. }) => bmc.boot_once(BootTarget::None).await.map_err(job_error)?,
                other => other.map_err(job_error)?,
            }
            ctx.progress(40, "switching on");
            bmc.set_power(PowerAction::On).await.map_err(job_error)?;
        }
        bmc.wait_for_power(PowerState::On, std::time::Duration::from_secs(90)).await.map_err(job_error)?;
        Ok(Outcome::Done(json!({"power": "on"})))
    }
}

/// Each later start must find the network too, without anybody's help: it comes before the disks in the server's own order, where the BMC
/// lets us say so. Where it does not, disks without a system are passed over by the firmware itself.
async fn network_first(bmc: &Driver, ctx: &JobContext) {
    let Ok(bmc) = bmc.redfish() else { return };
    let Ok(now) = bmc.boot_order().await else { return };
    let name = |option: &String| now.options.get(option).map(|n| n.to_ascii_lowercase()).unwrap_or_default();
    let network =
        |option: &String| ["pxe", "http ipv4", "ipv4", "network", "nic"].iter().any(|w| name(option).contains(w));
    let (mut order, rest): (Vec<String>, Vec<String>) = now.order.iter().cloned().partition(network);
    if order.is_empty() {
        return;
    }
    order.extend(rest);
    if order != now.order
        && let Err(error) = bmc.set_boot_order(&order).await
    {
        tracing::warn!(job = ctx.id(), %error, "the boot order of a server that boots from a volume stays as it is");
    }
}
