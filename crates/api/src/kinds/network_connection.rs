//! Connections of server instance groups to logical networks. Their id is the network's, as clients expect.

use model::{
    deploy::{DeployStatus, DeployType, ServiceStatus},
    infiniband::Membership,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait,
};
use serde_json::{Value, json};
use store::{
    entity::{network_connection as connection, server_instance_group as group},
    list::Revisioned,
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{infrastructure, logical_network, record, server_instance_group},
    routes,
};

routes! {
    "getServerInstanceGroupNetworkConfigurationConnections" => connections,
    "getServerInstanceGroupNetworkConfigurationConnectionById" => one,
    "createServerInstanceGroupNetworkConfigurationConnection" => create,
    "updateServerInstanceGroupNetworkConfigurationConnection" => update,
    "deleteServerInstanceGroupNetworkConfigurationConnection" => delete,
    "getInfrastructureNetworkConnections" => of_infrastructure,
}

fn wire(c: &connection::Model) -> Value {
    let mut all = c.design.clone();
    all["id"] = c.logical_network_id.to_string().into();
    all["accessMode"] = "l2".into();
    all["links"] = json!([]);
    all
}

/// Connections of a group's design: deleted ones are `null` there until the next deploy.
async fn of_group<C: ConnectionTrait>(db: &C, group_id: i64) -> Result<Vec<connection::Model>, ApiError> {
    let rows = connection::Entity::find()
        .filter(connection::Column::GroupId.eq(group_id))
        .order_by_asc(connection::Column::Id)
        .all(db)
        .await?;
    Ok(rows.into_iter().filter(|c| !c.design.is_null()).collect())
}

async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<(group::Model, connection::Model), ApiError> {
    let of = server_instance_group::find(ctx, db).await?;
    let id = ctx.id("connectionId")?;
    let found = of_group(db, of.id)
        .await?
        .into_iter()
        .find(|c| c.logical_network_id == id)
        .ok_or_else(|| ApiError::not_found("connection to network", id))?;
    Ok((of, found))
}

async fn connections(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = server_instance_group::find(&ctx, &ctx.app.db().read).await?;
    let rows = of_group(&ctx.app.db().read, of.id).await?;
    Ok(Reply::Json(json!({"data": rows.iter().map(wire).collect::<Vec<_>>(), "links": []})))
}

/// Those of all groups of a design: who draws it asks once, however many groups there are.
async fn of_infrastructure(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let of = infrastructure::find(&ctx, db, ctx.id("infrastructureId")?).await?;
    let groups = group::Entity::find()
        .select_only()
        .column(group::Column::Id)
        .filter(group::Column::InfrastructureId.eq(of.id))
        .filter(group::Column::ServiceStatus.ne(ServiceStatus::Deleted.as_str()))
        .into_query();
    let rows = connection::Entity::find()
        .filter(connection::Column::GroupId.in_subquery(groups))
        .order_by_asc(connection::Column::Id)
        .all(db)
        .await?;
    let data = rows.iter().filter(|c| !c.design.is_null()).map(|c| {
        let mut all = wire(c);
        all["serverInstanceGroupId"] = c.group_id.into();
        all
    });
    Ok(Reply::Json(json!({"data": data.collect::<Vec<_>>(), "links": []})))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    Ok(Reply::Json(wire(&find(&ctx, &ctx.app.db().read).await?.1)))
}

/// The body over a design; one group has at most one untagged connection, because an untagged frame can belong to one network alone.
fn read(ctx: &Ctx, mut design: Value, others: &[connection::Model], own: i64) -> Result<Value, ApiError> {
    for field in ["tagged", "providesDefaultRoute", "disableAutoIpAllocation"] {
        if let Some(flag) = ctx.flag(field) {
            design[field] = flag.into();
        }
    }
    if let Some(mtu) = ctx.int("mtu") {
        if !(1280..=9216).contains(&mtu) {
            return Err(ApiError::field("mtu", format!("{mtu} is not between 1280 and 9216")));
        }
        design["mtu"] = mtu.into();
    }
    for field in ["redundancy", "dns"] {
        if let Some(value) = ctx.body.get(field) {
            design[field] = value.clone();
        }
    }
    let clash = |field: &str, value: bool| {
        // Partitions of InfiniBand have ports of their own.
        let here = |c: &&connection::Model| c.logical_network_id != own && c.design["membership"].is_null();
        others.iter().find(|c| here(c) && c.design[field] == value).map(|c| c.logical_network_id)
    };
    if design["tagged"] == false
        && design["membership"].is_null()
        && let Some(other) = clash("tagged", false)
    {
        return Err(ApiError::field(
            "tagged",
            format!(
                "network {other} is connected untagged already, and a port carries one untagged network; set tagged to true on one of them"
            ),
        ));
    }
    if design["providesDefaultRoute"] == true
        && let Some(other) = clash("providesDefaultRoute", true)
    {
        return Err(ApiError::field(
            "providesDefaultRoute",
            format!("network {other} provides the default route already"),
        ));
    }
    Ok(design)
}

/// How the ports of a group are in a partition: `full`, unless the body says `limited`.
fn membership(ctx: &Ctx, before: &Value) -> Result<Value, ApiError> {
    match ctx.text("membership") {
        None => Ok(before.as_str().unwrap_or("full").into()),
        Some(word) => match Membership::parse(word) {
            Some(m) => Ok(m.as_str().into()),
            None => Err(ApiError::field("membership", format!("{word:?} is neither full nor limited"))),
        },
    }
}

async fn touch<C: ConnectionTrait>(ctx: &Ctx, txn: &C, of: &group::Model) -> Result<(), ApiError> {
    let design = infrastructure::find_editable(ctx, txn, of.infrastructure_id).await?;
    let mut row = of.edit();
    // A group that is marked for deletion stays so: its connections go with it.
    if of.service_status != ServiceStatus::Ordered.as_str() && of.deploy_type != DeployType::Delete.as_str() {
        row.deploy_type = Set(DeployType::Edit.as_str().into());
    }
    row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
    row.update(txn).await?;
    infrastructure::touch(txn, &design).await
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let of = server_instance_group::find(&ctx, &txn).await?;
    let network_id = ctx.need_int("logicalNetworkId")?;
    let design_of = infrastructure::find_editable(&ctx, &txn, of.infrastructure_id).await?;
    let network = logical_network::find(&ctx, &txn, network_id).await.map_err(|_| {
        ApiError::field(
            "logicalNetworkId",
            format!("there is no logical network {network_id}, or it is not yours to see"),
        )
    })?;
    if network.infrastructure_id.is_some_and(|id| id != design_of.id) {
        return Err(ApiError::field(
            "logicalNetworkId",
            format!("network {} belongs to another infrastructure", network.label),
        ));
    }
    let others = of_group(&txn, of.id).await?;
    if others.iter().any(|c| c.logical_network_id == network_id) {
        return Err(ApiError::conflict(format!(
            "logicalNetworkId: the group is connected to network {} already",
            network.label
        )));
    }
    let start = json!({"tagged": false, "mtu": 1500, "providesDefaultRoute": false, "disableAutoIpAllocation": false, "redundancy": null});
    let mut start = start;
    if network.kind == logical_network::INFINIBAND {
        start["membership"] = membership(&ctx, &Value::Null)?;
    } else if ctx.has("membership") {
        return Err(ApiError::field("membership", "only connections to networks of InfiniBand have one"));
    }
    let design = read(&ctx, start, &others, network_id)?;
    let before = connection::Entity::find()
        .filter(connection::Column::GroupId.eq(of.id))
        .filter(connection::Column::LogicalNetworkId.eq(network_id))
        .one(&txn)
        .await?;
    let made = match before {
        // Disconnected since the last deploy, and connected again.
        Some(row) => {
            let mut row = row.edit();
            row.design = Set(design);
            row.update(&txn).await?
        }
        None => {
            let mut row = connection::new();
            row.group_id = Set(of.id);
            row.logical_network_id = Set(network_id);
            row.design = Set(design);
            row.deployed = Set(Value::Null);
            row.insert(&txn).await?
        }
    };
    touch(&ctx, &txn, &of).await?;
    record(
        &ctx,
        &txn,
        "network_connection.create",
        format!("Group {} connected to network {}", of.label, network.label),
        ("server_instance_group", of.id),
        made.design.clone(),
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Json(wire(&made)))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let (of, found) = find(&ctx, &txn).await?;
    let others = of_group(&txn, of.id).await?;
    let mut row = found.edit();
    let mut design = read(&ctx, found.design.clone(), &others, found.logical_network_id)?;
    if ctx.has("membership") {
        if found.design["membership"].is_null() {
            return Err(ApiError::field("membership", "only connections to networks of InfiniBand have one"));
        }
        design["membership"] = membership(&ctx, &found.design["membership"])?;
    }
    row.design = Set(design);
    let after = row.update(&txn).await?;
    touch(&ctx, &txn, &of).await?;
    record(
        &ctx,
        &txn,
        "network_connection.edit",
        format!("Connection of group {} changed", of.label),
        ("server_instance_group", of.id),
        json!({"before": found.design, "after": after.design}),
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Json(wire(&after)))
}

/// One that was never deployed goes at once; any other stays, without a design, until the next deploy has removed it.
async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let (of, found) = find(&ctx, &txn).await?;
    if found.deployed.is_null() {
        connection::Entity::delete_by_id(found.id).exec(&txn).await?;
    } else {
        let mut row = found.edit();
        row.design = Set(Value::Null);
        row.update(&txn).await?;
    }
    touch(&ctx, &txn, &of).await?;
    record(
        &ctx,
        &txn,
        "network_connection.delete",
        format!("Group {} disconnected from network {}", of.label, found.logical_network_id),
        ("server_instance_group", of.id),
        json!({"before": found.design}),
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
