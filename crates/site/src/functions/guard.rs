//! Whether a job may touch a server at this moment: asked at its start, and again right before each step that cannot be taken back.

use engine::{JobContext, JobError};
use model::{Id, snapshot::SiteServer};

use crate::Site;

/// What a step does to whatever runs on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    /// Its disks or its boot: only for the instance that holds it, or when nobody does.
    Disks,
    /// Its power, which an administrator may switch too.
    Power,
}

/// Why an order for that instance, or of a person, may not do that to the server, in words.
pub(crate) fn refused(server: &SiteServer, ordered_for: Option<Id>, touch: Touch) -> Option<String> {
    let name = &server.name;
    if server.hands_off {
        return Some(format!(
            "server {name} is in production outside of this platform: it is read, and never booted, erased or switched"
        ));
    }
    match (server.instance_id, ordered_for) {
        (Some(holder), Some(other)) if holder != other => Some(format!(
            "server {name} serves instance {holder} now, and this order was given for instance {other}: it is void"
        )),
        // Deploys name the instance that they work for. Orders of people do not.
        (_, None) if touch == Touch::Disks && server.in_use => Some(format!(
            "a tenant's operating system is on this server ({name}): it is neither erased nor booted from the network; free it first, then order the work anew"
        )),
        _ => None,
    }
}

/// The server, if this job may do that to it. The facts may have changed since the job was ordered: an order may have waited for days.
pub(super) fn permitted(site: &Site, ctx: &JobContext, server_id: Id, touch: Touch) -> Result<SiteServer, JobError> {
    let server = site.server(server_id)?;
    match refused(&server, ctx.job.instance_id, touch) {
        Some(why) => Err(JobError::fatal(why)),
        None => Ok(server),
    }
}

/// Refuses a server in use whose owner has not agreed, or not for now. `what` is what would be done to it.
pub(super) fn agreed(
    server: &SiteServer,
    ctx: &JobContext,
    agreed_until: Option<&str>,
    what: &str,
) -> Result<(), JobError> {
    if !server.in_use {
        return Ok(());
    }
    let refuse = |why: &str| {
        Err(JobError::fatal(format!(
            "server {} is in use: {why} that {what}; ask for the owner's word anew",
            server.name
        )))
    };
    match agreed_until {
        None => refuse("its owner has not agreed"),
        Some(_) if ctx.job.instance_id.is_none() => {
            refuse("the order does not say for which instance its owner agreed")
        }
        Some(until) if until < store::time::now().as_str() => refuse("the time is over for which its owner agreed"),
        Some(_) => Ok(()),
    }
}
