//! What templates see of an instance: all that surrounds it, in one answer. Passwords and secrets are named and not told: whoever may see one
//! asks for it where that is on record.

use planner::ElementKind;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Map, Value, json};
use store::entity::{
    infrastructure, secret, server, server_instance as instance, server_instance_group as group, site, ssh_key,
    storage_element as element, variable,
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{
        bucket, drive, drive_group, file_share, infrastructure as infrastructures, server as servers, server_instance,
        server_instance_group,
    },
    planning::{storage as planning, values},
    routes,
};

routes! {
    "getServerInstanceVariables" => variables,
    "getServerInstanceOSInstallationData" => installation,
}

async fn own<C: ConnectionTrait>(db: &C, of: &infrastructure::Model, group: &group::Model) -> Result<Value, ApiError> {
    let rows = variable::Entity::find().filter(variable::Column::UserIdOwner.eq(of.owner_id)).all(db).await?;
    let mut all: Map<String, Value> =
        rows.into_iter().filter(|v| values::for_systems(v.usage.as_ref())).map(|v| (v.name, v.value)).collect();
    // The nearer ones win.
    for custom in [&of.design["customVariables"], &group.design["customVariables"]] {
        all.extend(custom.as_object().cloned().unwrap_or_default());
    }
    Ok(Value::Object(all))
}

/// All that surrounds an instance.
async fn around(ctx: &Ctx) -> Result<Value, ApiError> {
    let db = &ctx.app.db().read;
    let (found, of) = server_instance::find(ctx, db).await?;
    let group = group::Entity::find_by_id(found.group_id)
        .one(db)
        .await?
        .ok_or_else(|| ApiError::internal(format!("instance {} without its group", found.id)))?;
    let at = site::Entity::find_by_id(of.site_id).one(db).await?;
    let at = at.ok_or_else(|| ApiError::internal(format!("infrastructure {} without its site", of.id)))?;
    let server = match found.server_id {
        Some(id) => server::Entity::find_by_id(id).one(db).await?,
        None => None,
    };
    let server = match &server {
        Some(row) => servers::wire(db, row).await?,
        // None is allocated before the first deploy.
        None => json!({"serverId": 0, "siteId": at.id}),
    };
    let elements = element::Entity::find()
        .filter(element::Column::InfrastructureId.eq(of.id))
        .filter(element::Column::ServiceStatus.ne(model::deploy::ServiceStatus::Deleted.as_str()))
        .order_by_asc(element::Column::Id)
        .all(db)
        .await?;
    // Those that this instance's group is a host of; buckets are for all who have their keys.
    let mine = |kind: ElementKind| {
        elements.iter().filter(move |e| {
            e.kind == kind.as_str()
                && (kind == ElementKind::Bucket || planning::config(&e.design).groups.contains(&found.group_id))
        })
    };
    let drives: Vec<Value> =
        mine(ElementKind::DriveGroup).map(|e| drive_group::drive_of(e, of.owner_id, &found)).collect();
    let secrets = secret::Entity::find().filter(secret::Column::UserIdOwner.eq(of.owner_id)).all(db).await?;
    let secrets: Map<String, Value> =
        secrets.into_iter().filter(|s| values::for_systems(s.usage.as_ref())).map(|s| (s.name, Value::Null)).collect();
    let keys: Vec<String> = ssh_key::Entity::find()
        .filter(ssh_key::Column::UserId.eq(of.owner_id))
        .filter(ssh_key::Column::Status.ne("deleted"))
        .all(db)
        .await?
        .into_iter()
        .map(|k| k.public_key)
        .collect();
    let text = |v: &Value| v.as_array().cloned().unwrap_or_default();
    let config = json!({
        "location": at.location, "repoURL": at.config["repo"]["url"].as_str().unwrap_or_default(), "DNSServers": text(&at.config["DNSServers"]),
        "NTPServers": text(&at.config["NTPServers"]), "dnsZoneId": at.config["dnsZoneId"], "serverPolicy": at.config["serverPolicy"],
    });
    let mut instance = server_instance::wire_one(db, &found).await?;
    instance["isVmInstance"] = 0.into();
    instance["isEndpointInstance"] = 0.into();
    instance["provisionInstanceDnsRecords"] = false.into();
    if let Some(user) = &found.username {
        instance["osCredentials"] = json!({"initialUser": user, "initialPasswordEncrypted": null});
    }
    Ok(json!({
        "site": {"id": at.id, "revision": at.revision, "slug": at.slug, "name": at.name, "location": at.location},
        "siteConfig": config,
        "server": server,
        "serverInstance": instance,
        "serverInstanceGroup": server_instance_group::wire(&group),
        "infrastructure": infrastructures::wire_one(ctx, &of).await?,
        "driveGroups": mine(ElementKind::DriveGroup).map(|e| drive_group::wire(e, of.owner_id)).collect::<Vec<_>>(),
        "drives": drives,
        "fileShares": mine(ElementKind::FileShare).map(|e| file_share::wire(e, of.owner_id)).collect::<Vec<_>>(),
        "buckets": mine(ElementKind::Bucket).map(|e| bucket::wire(e, of.owner_id)).collect::<Vec<_>>(),
        "sharedDrives": mine(ElementKind::SharedDrive).map(|e| drive::wire(e, of.owner_id)).collect::<Vec<_>>(),
        "network": network(&found),
        "variables": own(db, &of, &group).await?,
        "secrets": secrets,
        "userSSHKeys": keys,
        "managementSSHKey": null,
    }))
}

/// The interfaces of what is deployed, with what they carry.
fn network(found: &instance::Model) -> Value {
    let Some(state) = crate::planning::load::deployed(found) else { return json!([]) };
    let interfaces: Vec<Value> = state
        .ports
        .iter()
        .enumerate()
        .map(|(n, p)| {
            json!({"index": n, "name": p.interface, "macAddress": p.mac, "untaggedVlan": p.vlans.untagged, "taggedVlans": p.vlans.tagged, "logicalNetworkIds": p.networks})
        })
        .collect();
    json!([{"interfaces": interfaces}])
}

async fn variables(ctx: Ctx) -> Result<Reply, ApiError> {
    Ok(Reply::Json(around(&ctx).await?))
}

async fn installation(ctx: Ctx) -> Result<Reply, ApiError> {
    Ok(Reply::Json(around(&ctx).await?))
}
