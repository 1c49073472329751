//! Site Controllers: what is enrolled at a site, and whether it is there.

use chrono::{Duration, Utc};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use store::{
    entity::{infrastructure, network_device, server, site, site_controller},
    time,
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::enrolment,
    routes,
};

routes! {
    "getAgents" => of_site,
    "getSitesStatistics" => statistics,
    "getSiteControllerOneLiner" => one_liner,
}

/// In the contract's words. What it does is told by name; what it does not do is told too.
fn wire(c: &site_controller::Model, site: &site::Model) -> Value {
    let can = |name: &str| c.capabilities.as_array().is_some_and(|a| a.iter().any(|v| v.as_str() == Some(name)));
    let seen = c.last_seen_at.clone().unwrap_or_else(|| c.enrolled_at.clone());
    json!({
        "id": c.id, "siteName": site.slug, "agentSeenIpAddress": c.address, "agentType": "site_controller", "agentVersion": c.version, "agentCreationTimestamp": c.enrolled_at,
        "agentUpdatedTimestamp": c.updated_at, "agentSeenTimestamp": seen, "connected": c.connected, "clockSkewMilliseconds": c.clock_skew_ms, "capabilities": c.capabilities,
        "agentConnectedInfo": {
            "agentId": c.id.to_string(), "hostname": c.hostname, "applicationName": "steelyard", "timestamp": seen, "nfsHost": "",
            "capabilities": {
                "httpProxyEnabled": false, "inbandHttpProxyEnabled": false, "fileTransferEnabled": can("http"), "inbandFileTransferEnabled": can("http"),
                "switchSubscriptionEnabled": can("switch"), "commandExecutionEnabled": false, "vncEnabled": false, "spiceEnabled": false, "syslogEnabled": false,
                "dhcpOobEnabled": can("dhcp"), "netconfEnabled": false, "ansibleRunnerEnabled": false, "buildImageEnabled": false,
            },
            "ipInfo": {"siteControllerIp": c.address, "siteControllerSyslogServerIp": "", "siteControllerSyslogSwitchIp": "", "siteControllerRepoIp": c.address},
        },
    })
}

async fn of_site(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let id = ctx.id("siteId")?;
    let site = site::Entity::find_by_id(id).one(db).await?.filter(|s| !s.decommissioned);
    let site = site.ok_or_else(|| ApiError::not_found("site", id))?;
    let rows = site_controller::Entity::find()
        .filter(site_controller::Column::SiteId.eq(id))
        .order_by_asc(site_controller::Column::Id)
        .all(db)
        .await?;
    Ok(Reply::Json(rows.iter().map(|c| wire(c, &site)).collect()))
}

/// The command that makes a host the site's controller. What it serves is decided there, in its own settings.
async fn one_liner(ctx: Ctx) -> Result<Reply, ApiError> {
    match enrolment::create(ctx).await? {
        Reply::Json(made) => Ok(Reply::Json(json!({"command": made["command"], "expiresAt": made["expiresAt"]}))),
        other => Ok(other),
    }
}

async fn statistics(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let sites = site::Entity::find().filter(site::Column::Decommissioned.eq(false)).all(db).await?;
    let controllers = site_controller::Entity::find().all(db).await?;
    let recently = time::format(Utc::now() - Duration::minutes(5));
    let (mut connected, mut doubtful, mut offline) = (0, 0, 0);
    for c in &controllers {
        if c.connected {
            connected += 1;
        } else if c.last_seen_at.as_ref().is_some_and(|t| *t > recently) {
            doubtful += 1;
        } else {
            offline += 1;
        }
    }
    let seen = json!({"may_be_offline": doubtful, "offline": offline, "was_seen_connected_very_recently": connected});
    let active = sites.iter().filter(|s| !s.is_in_maintenance).count();
    Ok(Reply::Json(json!({
        "siteControllerSeenAliveStatus": seen, "sitesTotalCount": sites.len(), "sitesActiveCount": active, "sitesResourceCount": [],
        "serverCount": server::Entity::find().count(db).await?, "networkDeviceCount": network_device::Entity::find().count(db).await?,
        "infrastructureCount": infrastructure::Entity::find().filter(infrastructure::Column::ServiceStatus.ne("deleted")).count(db).await?,
    })))
}
