//! `server.rotate_credentials`: gives our account of a BMC another password.

use std::sync::Arc;

use async_trait::async_trait;
use bmc::{Accounts, BmcError, Driver, Power};
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::order::{Order, ServerRotateCredentials};
use serde_json::json;

use super::guard::{Touch, permitted};
use crate::{Site, equipment::job_error};

pub(super) struct ServerRotateCredentialsFunction(pub(super) Arc<Site>);

#[async_trait]
impl JobFunction for ServerRotateCredentialsFunction {
    fn name(&self) -> &'static str {
        ServerRotateCredentials::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: ServerRotateCredentials = ctx.payload()?;
        let server = permitted(&self.0, &ctx, order.server_id, Touch::Power)?;
        let new = self.0.sealer.open(&order.password).map_err(|e| {
            JobError::fatal(format!("the new password of the BMC of {}: {e}; order the change anew", server.name))
        })?;
        ctx.progress(10, "logging in with the password in use");
        let driver = self.0.bmc(&server)?;
        match driver.power().await {
            Ok(_) => {
                let Driver::Redfish(redfish) = driver.as_ref() else {
                    return Err(JobError::fatal(format!(
                        "the BMC of {} is driven by IPMI, by which its password is not changed; change it there and enter it",
                        server.name
                    )));
                };
                ctx.progress(40, "changing the password, and logging in with the new one");
                redfish.change_password(&new).await.map_err(job_error)?;
            }
            // An earlier try may have changed it, and its answer was lost.
            Err(BmcError::Unauthorized(address)) => {
                ctx.progress(40, "the password in use is refused: trying the new one");
                let proved = Site::bmc_with(&server, new)?.power().await;
                proved.map_err(|e| match e {
                    BmcError::Unauthorized(_) => JobError::fatal(format!(
                        "BMC {address} refuses both the password in use and the new one; reset its account and enter the login"
                    )),
                    other => job_error(other),
                })?;
            }
            Err(other) => return Err(job_error(other)),
        }
        Ok(Outcome::Done(json!({"rotated": true})))
    }
}
