//! Fabrics: switches that are managed together.

use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter};
use serde_json::{Value, json};
use store::entity::{fabric_device, logical_network, network_fabric, site};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{edit, insert, list, remove},
    planning::design,
    routes,
};

routes! {
    "getNetworkFabrics" => fabrics,
    "getNetworkFabricById" => one,
    "createNetworkFabric" => create,
    "updateNetworkFabric" => update,
    "activateNetworkFabric" => activate,
    "deleteNetworkFabric" => delete,
}

/// A fabric in wire form.
pub(crate) fn wire(f: &network_fabric::Model) -> Value {
    json!({
        "id": f.id.to_string(), "revision": f.revision.to_string(), "siteId": f.site_id, "name": f.name, "description": f.description, "status": f.status,
        "fabricConfiguration": f.configuration, "createdTimestamp": f.created_at, "updatedTimestamp": f.updated_at, "deployId": f.deploy_id, "links": [],
    })
}

/// The fabric of the path.
pub(crate) async fn find_in<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<network_fabric::Model, ApiError> {
    let id = ctx.id("networkFabricId")?;
    network_fabric::Entity::find_by_id(id).one(db).await?.ok_or_else(|| ApiError::not_found("network fabric", id))
}

async fn find(ctx: &Ctx) -> Result<network_fabric::Model, ApiError> {
    find_in(ctx, &ctx.app.db().read).await
}

async fn fabrics(ctx: Ctx) -> Result<Reply, ApiError> {
    Ok(Reply::Json(
        list(
            &ctx,
            network_fabric::Entity::find(),
            &[],
            &[network_fabric::Column::Name],
            network_fabric::Column::Id,
            wire,
        )
        .await?,
    ))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

fn fabric_type(configuration: &Value) -> &str {
    configuration["fabricType"].as_str().unwrap_or("ethernet")
}

/// Ranges of partition keys that a configuration names.
fn check_keys(configuration: &Value) -> Result<(), ApiError> {
    for name in ["pkeyRanges", "reservedPkeys"] {
        for (n, range) in configuration[name].as_array().into_iter().flatten().enumerate() {
            model::infiniband::pkey_range(
                &format!("fabricConfiguration.{name}[{n}]"),
                range.as_str().unwrap_or_default(),
            )?;
        }
    }
    Ok(())
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let site_id = ctx.need_int("siteId")?;
    let name = model::validate::name("name", ctx.need_text("name")?)?;
    if site::Entity::find_by_id(site_id).one(&ctx.app.db().read).await?.is_none() {
        return Err(ApiError::field("siteId", format!("there is no site {site_id}")));
    }
    if let Some(configuration) = ctx.body.get("fabricConfiguration") {
        check_keys(configuration)?;
    }
    let mut row = network_fabric::new();
    row.name = Set(name.clone());
    row.description = Set(ctx.text("description").map(str::to_owned));
    row.site_id = Set(site_id);
    row.status = Set("draft".into());
    row.configuration =
        Set(ctx.body.get("fabricConfiguration").cloned().unwrap_or_else(|| json!({"fabricType": "ethernet"})));
    row.extra = Set(json!({}));
    let made = insert(&ctx, row, "network_fabric", &name, wire).await?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let name = ctx.text("name").map(|n| model::validate::name("name", n)).transpose()?;
    let found = find(&ctx).await?;
    if let Some(configuration) = ctx.body.get("fabricConfiguration") {
        check_keys(configuration)?;
        let (is, wanted) = (fabric_type(&found.configuration), fabric_type(configuration));
        let networks = logical_network::Entity::find().filter(logical_network::Column::FabricId.eq(found.id));
        if is != wanted && networks.count(&ctx.app.db().read).await? > 0 {
            return Err(ApiError::field(
                "fabricConfiguration.fabricType",
                format!("cannot change from {is} to {wanted} while the fabric has networks; delete them first"),
            ));
        }
    }
    let unmanaged = ctx.body.get("fabricConfiguration").map(design::unmanaged);
    if unmanaged.is_some_and(|u| u != design::unmanaged(&found.configuration)) {
        let networks = logical_network::Entity::find().filter(logical_network::Column::FabricId.eq(found.id));
        let networks = networks.count(&ctx.app.db().read).await?;
        if networks > 0 {
            // What is set on switches already would be forgotten, or what was never set be taken for granted.
            return Err(ApiError::field(
                "fabricConfiguration.serverOnlyOperationEnabled",
                format!("cannot change while the fabric has {networks} network(s); delete them first"),
            ));
        }
    }
    let after = edit(&ctx, &found, ("network_fabric", &found.name), "update", wire, |row| {
        if let Some(name) = name {
            row.name = Set(name);
        }
        if ctx.has("description") {
            row.description = Set(ctx.text("description").map(str::to_owned));
        }
        if let Some(configuration) = ctx.body.get("fabricConfiguration") {
            row.configuration = Set(configuration.clone());
        }
    })
    .await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

async fn activate(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx).await?;
    if found.status == "active" {
        return Err(ApiError::conflict("the fabric is active already"));
    }
    let object = ("network_fabric", found.name.as_str());
    let after = edit(&ctx, &found, object, "activate", wire, |row| row.status = Set("active".into())).await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

/// A fabric goes once nothing is in it.
async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find_in(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    let switches = fabric_device::Entity::find().filter(fabric_device::Column::FabricId.eq(found.id));
    let networks = logical_network::Entity::find().filter(logical_network::Column::FabricId.eq(found.id));
    let (switches, networks) = (switches.count(&txn).await?, networks.count(&txn).await?);
    if switches + networks > 0 {
        return Err(ApiError::conflict(format!(
            "fabric {} still has {switches} switch(es) and {networks} network(s); remove them first",
            found.name
        )));
    }
    remove(&ctx, &txn, &found, ("network_fabric", &found.name), wire).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
