//! Drive groups: a volume of its own for each instance of a group, as many as there are instances.

use model::Id;
use planner::ElementKind;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use store::entity::{server_instance, server_instance_group, storage_element as element};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{
        drive, infrastructure as infrastructures,
        storage_element::{self as elements, Kind},
    },
    planning::storage as planning,
    routes,
};

routes! {
    "getInfrastructureDriveGroups" => groups,
    "createDriveGroup" => create,
    "getDriveGroup" => one,
    "updateDriveGroup" => update,
    "deleteDriveGroup" => delete,
    "getServerInstanceGroupDriveGroups" => of_group,
    "getServerInstanceDrives" => of_instance,
}

/// Drive groups among elements.
const GROUP: Kind =
    Kind { element: ElementKind::DriveGroup, id: "driveGroupId", size: "driveSizeMbDefault", unit: 1 << 20 };

fn config(e: &element::Model) -> Value {
    let mut all = elements::config(&GROUP, e);
    extend(&mut all, e, &e.design);
    all
}

fn extend(all: &mut Value, e: &element::Model, design: &Value) {
    all["infrastructureId"] = e.infrastructure_id.into();
    all["expandWithServerInstanceGroup"] = 1.into();
    all["storageType"] = "iscsi_ssd".into();
    all["qoS"] = json!(design["qoS"].as_str().unwrap_or_default());
    all["boot"] = (design["boot"] == true).into();
    if let Some(group) = planning::config(design).groups.first() {
        all["serverInstanceGroupId"] = (*group).into();
    }
}

/// The wire form.
pub(crate) fn wire(e: &element::Model, owner_id: Id) -> Value {
    let mut all = elements::wire(&GROUP, e, owner_id);
    extend(&mut all, e, if e.deployed.get("label").is_some() { &e.deployed } else { &e.design });
    all["allocationAffinity"] = e.design["allocationAffinity"].as_str().unwrap_or("same_storage").into();
    all["config"] = config(e);
    all
}

/// The drive of one instance. It has no row of its own: its number is that of the drive group and the instance together.
pub(crate) fn drive_of(e: &element::Model, owner_id: Id, instance: &server_instance::Model) -> Value {
    let key = format!("drive-{}-{}", e.id, instance.id);
    let (volume, access) = (elements::seen(e, &key, "volume"), elements::seen(e, &key, "access"));
    let size = planning::config(&e.design).size_bytes >> 20;
    let label = format!("{}-{}", e.label, instance.position);
    let config = json!({
        "revision": e.revision, "label": label, "groupId": e.id, "instanceId": instance.id, "sizeMb": size, "storageType": "iscsi_ssd", "updatedTimestamp": e.updated_at,
        "deployType": e.deploy_type, "deployStatus": e.deploy_status, "infrastructureDeployId": e.deploy_id,
    });
    json!({
        "id": e.id * 10_000 + instance.position, "revision": e.revision, "label": label, "groupId": e.id, "instanceId": instance.id, "storagePoolId": e.storage_id,
        "sizeMb": volume["size_bytes"].as_u64().map_or(size, |b| b >> 20), "storageType": "iscsi_ssd", "updatedTimestamp": e.updated_at,
        "infrastructureId": e.infrastructure_id, "infrastructure": {"id": e.infrastructure_id, "userIdOwner": owner_id},
        "serviceStatus": if volume.is_null() { "ordered" } else { "active" }, "storageRealSizeCachedMb": volume["used_bytes"].as_u64().map(|b| b >> 20),
        "storageUpdatedTimestamp": e.updated_at, "targets": drive::targets(access), "wwn": volume["wwn"], "provisioningProtocol": "iSCSI",
        "subdomain": "", "subdomainPermanent": "", "createdTimestamp": e.created_at, "meta": {"name": ""}, "config": config,
    })
}

async fn groups(ctx: Ctx) -> Result<Reply, ApiError> {
    elements::of_infrastructure(&ctx, &GROUP, wire).await
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let (of, found) = elements::find(&ctx, &ctx.app.db().read, &GROUP).await?;
    Ok(Reply::Tagged(wire(&found, of.owner_id), found.revision))
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let group = ctx.need_int("serverInstanceGroupId")?;
    let (of, made) = elements::create(&ctx, &GROUP, &[group]).await?;
    Ok(Reply::Tagged(wire(&made, of.owner_id), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let (of, after) = elements::update(&ctx, &GROUP).await?;
    Ok(Reply::Tagged(wire(&after, of.owner_id), after.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    elements::delete(&ctx, &GROUP).await
}

/// Drive groups of an infrastructure whose host is this group.
async fn hosted(ctx: &Ctx, infrastructure_id: Id, group_id: Id) -> Result<Vec<element::Model>, ApiError> {
    let rows = element::Entity::find()
        .filter(element::Column::InfrastructureId.eq(infrastructure_id))
        .filter(element::Column::Kind.eq(ElementKind::DriveGroup.as_str()))
        .order_by_asc(element::Column::Id)
        .all(&ctx.app.db().read)
        .await?;
    Ok(rows.into_iter().filter(|e| planning::config(&e.design).groups.contains(&group_id)).collect())
}

async fn of_group(ctx: Ctx) -> Result<Reply, ApiError> {
    let id = ctx.id("serverInstanceGroupId")?;
    let missing = || ApiError::not_found("server instance group", id);
    let db = &ctx.app.db().read;
    let group = server_instance_group::Entity::find_by_id(id).one(db).await?.ok_or_else(missing)?;
    let of = infrastructures::find(&ctx, db, group.infrastructure_id).await.map_err(|_| missing())?;
    let data: Vec<Value> = hosted(&ctx, of.id, id).await?.iter().map(|e| wire(e, of.owner_id)).collect();
    Ok(Reply::Json(json!({"data": data, "links": []})))
}

async fn of_instance(ctx: Ctx) -> Result<Reply, ApiError> {
    let id = ctx.id("serverInstanceId")?;
    let missing = || ApiError::not_found("server instance", id);
    let db = &ctx.app.db().read;
    let instance = server_instance::Entity::find_by_id(id).one(db).await?.ok_or_else(missing)?;
    let of = infrastructures::find(&ctx, db, instance.infrastructure_id).await.map_err(|_| missing())?;
    let hosted = hosted(&ctx, of.id, instance.group_id).await?;
    let data: Vec<Value> = hosted.iter().map(|e| drive_of(e, of.owner_id, &instance)).collect();
    Ok(Reply::Json(json!({"data": data, "links": []})))
}
