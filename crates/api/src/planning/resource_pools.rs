//! Resource pools in planning: what is in pools is only for their users.

use std::collections::{BTreeMap, BTreeSet};

use model::Id;
use planner::PlanInput;
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QuerySelect};
use store::entity::{resource_pool_server, resource_pool_subnet, resource_pool_user};

/// Pools that a user is in.
pub async fn of_user<C: ConnectionTrait>(db: &C, user_id: Id) -> Result<BTreeSet<Id>, DbErr> {
    let rows = resource_pool_user::Entity::find()
        .select_only()
        .column(resource_pool_user::Column::PoolId)
        .filter(resource_pool_user::Column::UserId.eq(user_id))
        .into_tuple::<i64>();
    Ok(rows.all(db).await?.into_iter().collect())
}

/// Takes away what the owner of an infrastructure may not use: servers and subnet pools that are in resource pools, in none of which the
/// owner is. What it holds already stays.
pub async fn apply<C: ConnectionTrait>(db: &C, owner_id: Id, input: &mut PlanInput) -> Result<(), DbErr> {
    let own = of_user(db, owner_id).await?;
    let mut servers: BTreeMap<Id, BTreeSet<Id>> = BTreeMap::new();
    for row in resource_pool_server::Entity::find().all(db).await? {
        servers.entry(row.server_id).or_default().insert(row.pool_id);
    }
    let mut subnets: BTreeMap<Id, BTreeSet<Id>> = BTreeMap::new();
    for row in resource_pool_subnet::Entity::find().all(db).await? {
        subnets.entry(row.subnet_id).or_default().insert(row.pool_id);
    }
    let open = |pools: Option<&BTreeSet<Id>>| pools.is_none_or(|p| !p.is_disjoint(&own));
    input.servers.retain(|s| !s.available || open(servers.get(&s.id)));
    for server in &mut input.servers {
        server.resource_pools = servers.remove(&server.id).unwrap_or_default();
    }
    for pool in &mut input.subnet_pools {
        pool.closed = !open(subnets.get(&pool.id));
    }
    Ok(())
}
