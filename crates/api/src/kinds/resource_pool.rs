//! Resource pools: who may use which servers and subnet pools. What is in no pool is for everybody.

use std::collections::HashMap;

use model::Id;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect,
};
use serde_json::{Value, json};
use store::{
    entity::{
        resource_pool as pool, resource_pool_server as pool_server, resource_pool_subnet as pool_subnet,
        resource_pool_user as pool_user, server, subnet, user,
    },
    list::{ListQuery, Page},
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{MAX_ROWS, edit, record, user as users},
    routes,
};

routes! {
    "getResourcePools" => pools,
    "createResourcePool" => create,
    "getUserResourcePools" => of_user,
    "addResourcePoolUser" => add_user,
    "removeResourcePoolUser" => remove_user,
    "getResourcePool" => one,
    "updateResourcePool" => update,
    "deleteResourcePool" => delete,
    "addServerToResourcePool" => add_server,
    "removeServerFromResourcePool" => remove_server,
    "getResourcePoolServers" => servers,
    "addSubnetPoolToResourcePool" => add_subnet,
    "removeSubnetPoolFromResourcePool" => remove_subnet,
    "getResourcePoolSubnetPools" => subnets,
    "getResourcePoolUsers" => members,
}

const ALIAS: &[(&str, &str)] = &[
    ("resourcePoolId", "id"),
    ("resourcePoolLabel", "label"),
    ("resourcePoolDescription", "description"),
    ("resourcePoolCreatedTimestamp", "created_at"),
    ("resourcePoolUpdatedTimestamp", "updated_at"),
];

fn wire(p: &pool::Model) -> Value {
    json!({
        "resourcePoolId": p.id, "resourcePoolLabel": p.label, "resourcePoolDescription": p.description, "resourcePoolCreatedTimestamp": p.created_at,
        "resourcePoolUpdatedTimestamp": p.updated_at, "revision": p.revision, "links": [],
    })
}

async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<pool::Model, ApiError> {
    let id = ctx.id("resourcePoolId")?;
    pool::Entity::find_by_id(id).one(db).await?.ok_or_else(|| ApiError::not_found("resource pool", id))
}

/// How many rows of a table each pool has.
async fn counts<E, C>(db: &C, column: E::Column, pools: &[Id]) -> Result<HashMap<Id, i64>, ApiError>
where
    E: EntityTrait,
    C: ConnectionTrait,
{
    let rows = E::find()
        .select_only()
        .column(column)
        .column_as(column.count(), "count")
        .filter(column.is_in(pools.to_vec()))
        .group_by(column)
        .into_tuple::<(i64, i64)>()
        .all(db)
        .await?;
    Ok(rows.into_iter().collect())
}

async fn pools(ctx: Ctx) -> Result<Reply, ApiError> {
    let query = ListQuery::parse(&ctx.query, MAX_ROWS)?;
    let db = &ctx.app.db().read;
    let search = [pool::Column::Label, pool::Column::Description];
    let Page { rows, total } = query.run(db, pool::Entity::find(), ALIAS, &search, pool::Column::Id).await?;
    let ids: Vec<Id> = rows.iter().map(|p| p.id).collect();
    let users = counts::<pool_user::Entity, _>(db, pool_user::Column::PoolId, &ids).await?;
    let servers = counts::<pool_server::Entity, _>(db, pool_server::Column::PoolId, &ids).await?;
    let subnets = counts::<pool_subnet::Entity, _>(db, pool_subnet::Column::PoolId, &ids).await?;
    let of = |all: &HashMap<Id, i64>, id: Id| all.get(&id).copied().unwrap_or(0);
    let data = rows
        .iter()
        .map(|p| {
            let mut all = wire(p);
            all["statistics"] =
                json!({"users": of(&users, p.id), "servers": of(&servers, p.id), "subnetPools": of(&subnets, p.id)});
            all
        })
        .collect();
    Ok(Reply::Json(query.body(ctx.operation.path, total, data)))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

async fn free_label<C: ConnectionTrait>(db: &C, label: &str, but: Id) -> Result<(), ApiError> {
    let taken =
        pool::Entity::find().filter(pool::Column::Label.eq(label)).filter(pool::Column::Id.ne(but)).count(db).await?;
    if taken > 0 {
        return Err(ApiError::conflict(format!("resourcePoolLabel: there is a resource pool {label:?} already")));
    }
    Ok(())
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let label = model::validate::name("resourcePoolLabel", ctx.need_text("resourcePoolLabel")?)?;
    let txn = ctx.app.db().begin().await?;
    free_label(&txn, &label, 0).await?;
    let mut row = pool::new();
    row.label = Set(label.clone());
    row.description = Set(ctx.text("resourcePoolDescription").unwrap_or_default().to_owned());
    let made = row.insert(&txn).await?;
    let object = ("resource_pool", made.id);
    let title = format!("Resource pool {label} created");
    record(&ctx, &txn, "resource_pool.create", title, object, json!({"after": wire(&made)})).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let label = ctx.text("resourcePoolLabel").map(|l| model::validate::name("resourcePoolLabel", l)).transpose()?;
    let found = find(&ctx, &ctx.app.db().read).await?;
    if let Some(label) = &label {
        free_label(&ctx.app.db().read, label, found.id).await?;
    }
    let after = edit(&ctx, &found, ("resource_pool", &found.label), "update", wire, |row| {
        if let Some(label) = label {
            row.label = Set(label);
        }
        if let Some(description) = ctx.text("resourcePoolDescription") {
            row.description = Set(description.to_owned());
        }
    })
    .await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

/// Refused while anything is in it: that would be for everybody at once.
async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    let servers = pool_server::Entity::find().filter(pool_server::Column::PoolId.eq(found.id)).count(&txn).await?;
    let subnets = pool_subnet::Entity::find().filter(pool_subnet::Column::PoolId.eq(found.id)).count(&txn).await?;
    if servers + subnets > 0 {
        return Err(ApiError::conflict(format!(
            "resource pool {} has {servers} servers and {subnets} subnet pools, which everybody could use then; take them out first",
            found.label
        )));
    }
    pool_user::Entity::delete_many().filter(pool_user::Column::PoolId.eq(found.id)).exec(&txn).await?;
    pool::Entity::delete_by_id(found.id).exec(&txn).await?;
    let object = ("resource_pool", found.id);
    let title = format!("Resource pool {} deleted", found.label);
    record(&ctx, &txn, "resource_pool.delete", title, object, json!({"before": wire(&found)})).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

/// Notes a change of what is in a pool.
async fn changed<C: ConnectionTrait>(
    ctx: &Ctx,
    txn: &C,
    of: &pool::Model,
    verb: &str,
    words: String,
    context: Value,
) -> Result<(), ApiError> {
    let title = format!("Resource pool {}: {words}", of.label);
    record(ctx, txn, &format!("resource_pool.{verb}"), title, ("resource_pool", of.id), context).await
}

async fn find_user<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<user::Model, ApiError> {
    let id = ctx.id("userId")?;
    user::Entity::find_by_id(id).one(db).await?.ok_or_else(|| ApiError::not_found("user", id))
}

async fn of_user(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let member = find_user(&ctx, db).await?;
    let own = crate::planning::resource_pools::of_user(db, member.id).await?;
    let rows = pool::Entity::find().filter(pool::Column::Id.is_in(own)).order_by_asc(pool::Column::Id).all(db).await?;
    Ok(Reply::Json(rows.iter().map(wire).collect()))
}

async fn members(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let found = find(&ctx, db).await?;
    let ids = pool_user::Entity::find()
        .select_only()
        .column(pool_user::Column::UserId)
        .filter(pool_user::Column::PoolId.eq(found.id))
        .into_tuple::<i64>()
        .all(db)
        .await?;
    let rows = user::Entity::find().filter(user::Column::Id.is_in(ids)).order_by_asc(user::Column::Id).all(db).await?;
    Ok(Reply::Json(rows.iter().map(users::wire).collect()))
}

async fn add_user(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let (of, member) = (find(&ctx, &txn).await?, find_user(&ctx, &txn).await?);
    let there = pool_user::Entity::find()
        .filter(pool_user::Column::PoolId.eq(of.id))
        .filter(pool_user::Column::UserId.eq(member.id))
        .count(&txn)
        .await?;
    if there == 0 {
        let mut row = pool_user::new();
        row.pool_id = Set(of.id);
        row.user_id = Set(member.id);
        row.insert(&txn).await?;
        let words = format!("{} may use it", member.email);
        changed(&ctx, &txn, &of, "add_user", words, json!({"userId": member.id})).await?;
    }
    txn.commit().await?;
    Ok(Reply::Empty)
}

async fn remove_user(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let (of, id) = (find(&ctx, &txn).await?, ctx.id("userId")?);
    let gone = pool_user::Entity::delete_many()
        .filter(pool_user::Column::PoolId.eq(of.id))
        .filter(pool_user::Column::UserId.eq(id))
        .exec(&txn)
        .await?;
    if gone.rows_affected == 0 {
        return Err(ApiError::not_found("user of this resource pool", id));
    }
    changed(&ctx, &txn, &of, "remove_user", format!("user {id} may not use it any more"), json!({"userId": id}))
        .await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

async fn servers(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let found = find(&ctx, db).await?;
    let ids = pool_server::Entity::find()
        .select_only()
        .column(pool_server::Column::ServerId)
        .filter(pool_server::Column::PoolId.eq(found.id))
        .order_by_asc(pool_server::Column::ServerId)
        .into_tuple::<i64>()
        .all(db)
        .await?;
    Ok(Reply::Json(json!(ids)))
}

async fn add_server(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let (of, id) = (find(&ctx, &txn).await?, ctx.id("serverId")?);
    if server::Entity::find_by_id(id).one(&txn).await?.is_none() {
        return Err(ApiError::not_found("server", id));
    }
    let there = pool_server::Entity::find()
        .filter(pool_server::Column::PoolId.eq(of.id))
        .filter(pool_server::Column::ServerId.eq(id))
        .count(&txn)
        .await?;
    if there == 0 {
        let mut row = pool_server::new();
        row.pool_id = Set(of.id);
        row.server_id = Set(id);
        row.insert(&txn).await?;
        changed(&ctx, &txn, &of, "add_server", format!("server {id} added"), json!({"serverId": id})).await?;
    }
    txn.commit().await?;
    Ok(Reply::Empty)
}

async fn remove_server(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let (of, id) = (find(&ctx, &txn).await?, ctx.id("serverId")?);
    let gone = pool_server::Entity::delete_many()
        .filter(pool_server::Column::PoolId.eq(of.id))
        .filter(pool_server::Column::ServerId.eq(id))
        .exec(&txn)
        .await?;
    if gone.rows_affected == 0 {
        return Err(ApiError::not_found("server of this resource pool", id));
    }
    changed(&ctx, &txn, &of, "remove_server", format!("server {id} taken out"), json!({"serverId": id})).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

async fn subnets(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let found = find(&ctx, db).await?;
    let ids = pool_subnet::Entity::find()
        .select_only()
        .column(pool_subnet::Column::SubnetId)
        .filter(pool_subnet::Column::PoolId.eq(found.id))
        .order_by_asc(pool_subnet::Column::SubnetId)
        .into_tuple::<i64>()
        .all(db)
        .await?;
    Ok(Reply::Json(json!(ids)))
}

async fn add_subnet(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let (of, id) = (find(&ctx, &txn).await?, ctx.id("subnetPoolId")?);
    let found =
        subnet::Entity::find_by_id(id).one(&txn).await?.ok_or_else(|| ApiError::not_found("subnet pool", id))?;
    if !found.is_pool {
        return Err(ApiError::conflict(format!("subnet {} is no pool: nothing is taken from it", found.label)));
    }
    let there = pool_subnet::Entity::find()
        .filter(pool_subnet::Column::PoolId.eq(of.id))
        .filter(pool_subnet::Column::SubnetId.eq(id))
        .count(&txn)
        .await?;
    if there == 0 {
        let mut row = pool_subnet::new();
        row.pool_id = Set(of.id);
        row.subnet_id = Set(id);
        row.insert(&txn).await?;
        let words = format!("subnet pool {} added", found.label);
        changed(&ctx, &txn, &of, "add_subnet_pool", words, json!({"subnetPoolId": id})).await?;
    }
    txn.commit().await?;
    Ok(Reply::Empty)
}

async fn remove_subnet(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let (of, id) = (find(&ctx, &txn).await?, ctx.id("subnetPoolId")?);
    let gone = pool_subnet::Entity::delete_many()
        .filter(pool_subnet::Column::PoolId.eq(of.id))
        .filter(pool_subnet::Column::SubnetId.eq(id))
        .exec(&txn)
        .await?;
    if gone.rows_affected == 0 {
        return Err(ApiError::not_found("subnet pool of this resource pool", id));
    }
    let words = format!("subnet pool {id} taken out");
    changed(&ctx, &txn, &of, "remove_subnet_pool", words, json!({"subnetPoolId": id})).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
