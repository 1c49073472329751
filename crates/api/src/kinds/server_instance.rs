//! Server instances: the servers of a group, logical.

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use store::entity::server_instance as instance;

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{infrastructure, list, server_instance_group},
    routes,
};

routes! {
    "getInfrastructureServerInstances" => of_infrastructure,
    "getServerInstanceGroupServerInstances" => of_group,
    "getServerInstance" => one,
    "getServerInstanceConfig" => config,
}

fn wire(i: &instance::Model) -> Value {
    let config = json!({
        "revision": i.revision, "label": i.label, "updatedTimestamp": i.updated_at, "groupId": i.group_id, "serverTypeId": i.server_type_id, "serverId": i.server_id,
        "hostname": i.hostname, "osTemplateId": i.os_template_id, "deployType": i.deploy_type, "deployStatus": i.deploy_status, "infrastructureDeployId": i.deploy_id,
    });
    json!({
        "id": i.id, "revision": i.revision, "label": i.label, "createdTimestamp": i.created_at, "updatedTimestamp": i.updated_at, "infrastructureId": i.infrastructure_id,
        "groupId": i.group_id, "serverTypeId": i.server_type_id, "serverId": i.server_id, "hostname": i.hostname, "osTemplateId": i.os_template_id, "serviceStatus": i.service_status,
        "isVmInstance": 0, "isEndpointInstance": 0, "meta": {"addresses": i.addresses}, "config": config, "links": [],
    })
}

async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<instance::Model, ApiError> {
    let id = ctx.id("serverInstanceId")?;
    let found =
        instance::Entity::find_by_id(id).one(db).await?.ok_or_else(|| ApiError::not_found("server instance", id))?;
    infrastructure::find(ctx, db, found.infrastructure_id)
        .await
        .map_err(|_| ApiError::not_found("server instance", id))?;
    Ok(found)
}

async fn of_infrastructure(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = infrastructure::find(&ctx, &ctx.app.db().read, ctx.id("infrastructureId")?).await?;
    let select = instance::Entity::find().filter(instance::Column::InfrastructureId.eq(of.id));
    Ok(Reply::Json(
        list(&ctx, select, &[], &[instance::Column::Label, instance::Column::Hostname], instance::Column::Id, wire)
            .await?,
    ))
}

async fn of_group(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = server_instance_group::find(&ctx, &ctx.app.db().read).await?;
    let select = instance::Entity::find().filter(instance::Column::GroupId.eq(of.id));
    Ok(Reply::Json(
        list(&ctx, select, &[], &[instance::Column::Label, instance::Column::Hostname], instance::Column::Id, wire)
            .await?,
    ))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

async fn config(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found)["config"].clone(), found.revision))
}
