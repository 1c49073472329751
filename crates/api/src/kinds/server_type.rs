//! Server types: hardware classes that groups are ordered by.

use sea_orm::EntityTrait;
use serde_json::{Value, json};
use store::entity::server_type;

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::list,
    routes,
};

routes! {
    "getServerTypes" => types,
    "getServerTypeInfo" => one,
}

fn wire(t: &server_type::Model) -> Value {
    json!({
        "id": t.id, "revision": t.revision, "name": t.name, "label": t.label, "description": t.description, "ramGbytes": t.ram_gb, "processorCount": t.processor_count,
        "processorCoreCount": t.core_count, "processorCoreMhz": t.core_mhz, "processorNames": t.processor_names, "diskCount": t.disk_count, "networkInterfaceCount": t.nic_count,
        "networkInterfaceSpeeds": t.nic_speeds, "networkTotalCapacityMbps": t.nic_speeds.as_array().map_or(0, |a| a.iter().filter_map(Value::as_i64).sum::<i64>()),
        "gpuCount": t.gpu_count, "gpuInfo": t.gpu_info, "serverClass": "unknown", "isExperimental": 0, "tags": [], "links": [],
    })
}

async fn types(ctx: Ctx) -> Result<Reply, ApiError> {
    let alias = [("ramGbytes", "ram_gb"), ("processorCoreCount", "core_count"), ("networkInterfaceCount", "nic_count")];
    Ok(Reply::Json(
        list(
            &ctx,
            server_type::Entity::find(),
            &alias,
            &[server_type::Column::Name, server_type::Column::Label],
            server_type::Column::Id,
            wire,
        )
        .await?,
    ))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let id = ctx.id("serverTypeId")?;
    let found = server_type::Entity::find_by_id(id)
        .one(&ctx.app.db().read)
        .await?
        .ok_or_else(|| ApiError::not_found("server type", id))?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}
