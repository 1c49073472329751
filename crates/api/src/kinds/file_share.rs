//! File shares: mounted by all instances of their groups.

use model::Id;
use planner::ElementKind;
use serde_json::{Value, json};
use store::entity::storage_element as element;

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::storage_element::{self as elements, Kind},
    routes,
};

routes! {
    "getFileShare" => one,
    "getInfrastructureFileShares" => shares,
    "createInfrastructureFileShare" => create,
    "deleteFileShare" => delete,
    "getInfrastructureFileShare" => one,
    "updateFileShareInstanceArrayHostsBulk" => modify_hosts,
    "getFileShareConfigInfo" => config,
    "updateFileShareConfig" => update,
    "getFileShareHosts" => hosts,
    "patchFileShareMeta" => update_meta,
}

/// File shares among elements.
pub(crate) const SHARE: Kind =
    Kind { element: ElementKind::FileShare, id: "fileShareId", size: "sizeGB", unit: 1 << 30 };

/// Port of NFS where a storage names none.
const NFS: u64 = 2049;

/// The wire form.
pub(crate) fn wire(e: &element::Model, owner_id: Id) -> Value {
    let mut all = elements::wire(&SHARE, e, owner_id);
    let share = elements::seen(e, &format!("share-{}", e.id), "share");
    if let (Some(server), Some(path)) = (share["server"].as_str(), share["path"].as_str()) {
        let port = share["port"].as_u64().filter(|p| *p > 0).unwrap_or(NFS);
        let full = if server.contains(':') { format!("[{server}]:{path}") } else { format!("{server}:{path}") };
        all["discoverInformation"] = json!({
            "path": path, "mountOptions": share["mount_options"],
            "mountingInformation": [{"fullPath": full, "host": server, "port": port, "serverName": server, "serverPorts": [port.to_string()]}],
        });
    }
    all
}

async fn shares(ctx: Ctx) -> Result<Reply, ApiError> {
    elements::of_infrastructure(&ctx, &SHARE, wire).await
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let (of, found) = elements::find(&ctx, &ctx.app.db().read, &SHARE).await?;
    Ok(Reply::Tagged(wire(&found, of.owner_id), found.revision))
}

async fn config(ctx: Ctx) -> Result<Reply, ApiError> {
    let (_, found) = elements::find(&ctx, &ctx.app.db().read, &SHARE).await?;
    Ok(Reply::Tagged(elements::config(&SHARE, &found), found.revision))
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let (of, made) = elements::create(&ctx, &SHARE, &[]).await?;
    Ok(Reply::Tagged(wire(&made, of.owner_id), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let (_, after) = elements::update(&ctx, &SHARE).await?;
    Ok(Reply::Tagged(elements::config(&SHARE, &after), after.revision))
}

async fn update_meta(ctx: Ctx) -> Result<Reply, ApiError> {
    let (of, after) = elements::update_meta(&ctx, &SHARE).await?;
    Ok(Reply::Tagged(wire(&after, of.owner_id), after.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    elements::delete(&ctx, &SHARE).await
}

/// Ids are strings here, unlike those of a drive's hosts.
fn host_words(e: &element::Model) -> Value {
    let mut all = elements::hosts(e);
    for list in all["instanceGroup"].as_object_mut().into_iter().flat_map(|m| m.values_mut()) {
        let words: Vec<String> = list.as_array().into_iter().flatten().map(ToString::to_string).collect();
        *list = json!(words);
    }
    all
}

async fn hosts(ctx: Ctx) -> Result<Reply, ApiError> {
    let (_, found) = elements::find(&ctx, &ctx.app.db().read, &SHARE).await?;
    Ok(Reply::Tagged(host_words(&found), found.revision))
}

async fn modify_hosts(ctx: Ctx) -> Result<Reply, ApiError> {
    let after = elements::modify_hosts(&ctx, &SHARE, "fileShareHostBulkOperations").await?;
    Ok(Reply::Tagged(host_words(&after), after.revision))
}
