//! Rows that keep what is taken apart from what is free: VLANs, subnets, addresses. Their unique indexes decide every race.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ipnet::Ipv4Net;
use model::Id;
use planner::{Address, NetworkAllocation, Plan};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter,
    sea_query::{Expr, ExprTrait},
};
use serde_json::json;
use store::{
    entity::{ip_allocation, logical_network, pkey_allocation, subnet, vlan_allocation},
    list::Revisioned,
};

use super::{design, load};

/// Annotation of subnets that were cut from a pool for a network and go with it.
const CUT: &str = "cut-for-network";

/// Takes what a plan needs. What it gives back stays taken until the end, because equipment still uses it.
pub async fn take<C: ConnectionTrait>(txn: &C, plan: &Plan, loaded: &load::Loaded) -> Result<(), DbErr> {
    let networks: HashMap<Id, &logical_network::Model> = loaded.networks.iter().map(|n| (n.id, n)).collect();
    let ids: Vec<Id> = plan.networks.iter().map(|n| n.id).collect();
    let keys = pkey_allocation::Entity::find()
        .filter(pkey_allocation::Column::LogicalNetworkId.is_in(ids.clone()))
        .all(txn)
        .await?;
    let had =
        vlan_allocation::Entity::find().filter(vlan_allocation::Column::LogicalNetworkId.is_in(ids)).all(txn).await?;
    for p in &plan.networks {
        let Some(network) = networks.get(&p.id) else { continue };
        if let Some(vlan) = p.allocation.vlan.map(i64::from)
            && !had.iter().any(|h| h.logical_network_id == p.id && h.vlan == vlan)
        {
            let mut row = vlan_allocation::new();
            row.fabric_id = Set(network.fabric_id);
            row.vlan = Set(vlan);
            row.logical_network_id = Set(p.id);
            row.insert(txn).await?;
        }
        if let Some(pkey) = p.allocation.pkey.map(i64::from)
            && !keys.iter().any(|h| h.logical_network_id == p.id && h.pkey == pkey)
        {
            let mut row = pkey_allocation::new();
            row.fabric_id = Set(network.fabric_id);
            row.pkey = Set(pkey);
            row.logical_network_id = Set(p.id);
            row.insert(txn).await?;
        }
        let mut row = network.edit();
        let status = if p.after.is_none() { "deleting" } else { "pending_allocation" };
        let shown = if p.after.is_none() { load::allocated(network) } else { p.allocation.clone() };
        if p.after.is_some() {
            row.allocation = Set(json!(p.allocation));
        }
        row.deployed = Set(design::with_allocation(&network.deployed, network, &shown, status));
        row.update(txn).await?;
    }
    let rows = subnets(txn, plan, loaded).await?;
    addresses(txn, plan, loaded, &rows).await
}

/// Rows of all subnets that the plan's networks have afterwards, by network and prefix.
async fn subnets<C: ConnectionTrait>(
    txn: &C,
    plan: &Plan,
    loaded: &load::Loaded,
) -> Result<HashMap<(Id, Ipv4Net), Id>, DbErr> {
    let mut rows: HashMap<(Id, Ipv4Net), Id> =
        loaded.subnets.iter().filter_map(|s| Some(((s.logical_network_id?, design::net(s)?), s.id))).collect();
    for p in &plan.networks {
        let network = loaded.networks.iter().find(|n| n.id == p.id);
        for taken in &p.allocation.subnets {
            let key = (p.id, taken.subnet);
            if rows.contains_key(&key) {
                continue;
            }
            let id = match taken.pool_id {
                Some(pool) => {
                    let label = network.map_or("network", |n| n.label.as_str());
                    cut(txn, p.id, label, taken, pool).await?
                }
                None => {
                    let named = network.map(|n| design::named_subnets(&n.design)).unwrap_or_default();
                    let row = loaded
                        .subnets
                        .iter()
                        .find(|s| named.contains(&s.id) && design::net(s) == Some(taken.subnet))
                        .ok_or_else(|| DbErr::RecordNotFound(format!("subnet {}", taken.subnet)))?;
                    claim(txn, row.id, p.id).await?
                }
            };
            rows.insert(key, id);
        }
    }
    Ok(rows)
}

async fn cut<C: ConnectionTrait>(
    txn: &C,
    network: Id,
    label: &str,
    taken: &planner::SubnetAllocation,
    pool: Id,
) -> Result<Id, DbErr> {
    let address = taken.subnet.network().to_string();
    let mut row = subnet::new();
    let name: String = format!("{label}-{}", address.replace('.', "-")).chars().take(63).collect();
    row.label = Set(name.clone());
    row.name = Set(name);
    row.parent_id = Set(Some(pool));
    row.ip_version = Set("ipv4".into());
    row.network_address = Set(address);
    row.prefix_length = Set(i64::from(taken.subnet.prefix_len()));
    row.gateway = Set(taken.gateway.map(|g| g.to_string()));
    row.is_pool = Set(false);
    row.logical_network_id = Set(Some(network));
    row.annotations = Set(json!({CUT: network.to_string()}));
    row.tags = Set(json!({}));
    row.denylist = Set(json!([]));
    row.overlap_rules = Set(json!([]));
    Ok(row.insert(txn).await?.id)
}

/// A subnet chosen by hand becomes the network's, unless another was faster.
async fn claim<C: ConnectionTrait>(txn: &C, id: Id, network: Id) -> Result<Id, DbErr> {
    let done = subnet::Entity::update_many()
        .col_expr(subnet::Column::LogicalNetworkId, Expr::val(network))
        .filter(subnet::Column::Id.eq(id))
        .filter(subnet::Column::LogicalNetworkId.is_null().or(subnet::Column::LogicalNetworkId.eq(network)))
        .exec(txn)
        .await?;
    if done.rows_affected == 0 { Err(DbErr::RecordNotUpdated) } else { Ok(id) }
}

/// Addresses: those of now and those of afterwards are taken, what an earlier deploy that did not end took besides is not.
async fn addresses<C: ConnectionTrait>(
    txn: &C,
    plan: &Plan,
    loaded: &load::Loaded,
    subnets: &HashMap<(Id, Ipv4Net), Id>,
) -> Result<(), DbErr> {
    let mut keep: BTreeMap<(Id, String), (Id, Id)> = BTreeMap::new();
    let mut note = |instance: Id, a: &Address| {
        if let Some(subnet) = subnets.get(&(a.network_id, a.subnet)) {
            keep.insert((instance, a.address.to_string()), (*subnet, a.network_id));
        }
    };
    let ids: BTreeSet<Id> = plan.instances.iter().map(|p| p.id).collect();
    for row in loaded.instances.iter().filter(|i| ids.contains(&i.id)) {
        load::deployed(row).iter().flat_map(|d| &d.addresses).for_each(|a| note(row.id, a));
    }
    for p in &plan.instances {
        p.after.iter().flat_map(|s| &s.addresses).for_each(|a| note(p.id, a));
    }
    let had = ip_allocation::Entity::find().filter(ip_allocation::Column::ServerInstanceId.is_in(ids)).all(txn).await?;
    let stays = |a: &ip_allocation::Model| {
        a.server_instance_id
            .and_then(|i| keep.get(&(i, a.address.clone())))
            .is_some_and(|(subnet, _)| *subnet == a.subnet_id)
    };
    let gone: Vec<Id> = had.iter().filter(|a| !stays(a)).map(|a| a.id).collect();
    ip_allocation::Entity::delete_many().filter(ip_allocation::Column::Id.is_in(gone)).exec(txn).await?;
    let known: BTreeSet<(Id, &str)> =
        had.iter().filter(|a| stays(a)).filter_map(|a| Some((a.server_instance_id?, a.address.as_str()))).collect();
    let fresh: Vec<ip_allocation::ActiveModel> = keep
        .iter()
        .filter(|((instance, address), _)| !known.contains(&(*instance, address.as_str())))
        .map(|((instance, address), (subnet, network))| {
            let mut row = ip_allocation::new();
            row.subnet_id = Set(*subnet);
            row.address = Set(address.clone());
            row.server_instance_id = Set(Some(*instance));
            row.logical_network_id = Set(Some(*network));
            row.purpose = Set("server_instance".into());
            row
        })
        .collect();
    for chunk in fresh.chunks(200) {
        ip_allocation::Entity::insert_many(chunk.to_vec()).exec_without_returning(txn).await?;
    }
    Ok(())
}

/// Gives back what a network no longer has; `None`: the network is gone.
pub async fn release<C: ConnectionTrait>(txn: &C, network: Id, has: Option<&NetworkAllocation>) -> Result<(), DbErr> {
    let vlan = has.and_then(|h| h.vlan).map_or(0, i64::from);
    vlan_allocation::Entity::delete_many()
        .filter(vlan_allocation::Column::LogicalNetworkId.eq(network))
        .filter(vlan_allocation::Column::Vlan.ne(vlan))
        .exec(txn)
        .await?;
    let pkey = has.and_then(|h| h.pkey).map_or(0, i64::from);
    pkey_allocation::Entity::delete_many()
        .filter(pkey_allocation::Column::LogicalNetworkId.eq(network))
        .filter(pkey_allocation::Column::Pkey.ne(pkey))
        .exec(txn)
        .await?;
    let kept: BTreeSet<Ipv4Net> = has.iter().flat_map(|h| &h.subnets).map(|s| s.subnet).collect();
    let rows = subnet::Entity::find().filter(subnet::Column::LogicalNetworkId.eq(network)).all(txn).await?;
    let rows: Vec<subnet::Model> =
        rows.into_iter().filter(|s| design::net(s).is_none_or(|n| !kept.contains(&n))).collect();
    let ids = |list: Vec<&subnet::Model>| list.into_iter().map(|s| s.id).collect::<Vec<Id>>();
    let (cut, named): (Vec<_>, Vec<_>) = rows.iter().partition(|s| s.annotations.get(CUT).is_some());
    ip_allocation::Entity::delete_many()
        .filter(ip_allocation::Column::SubnetId.is_in(ids(rows.iter().collect())))
        .filter(ip_allocation::Column::LogicalNetworkId.eq(network))
        .exec(txn)
        .await?;
    subnet::Entity::delete_many().filter(subnet::Column::Id.is_in(ids(cut))).exec(txn).await?;
    subnet::Entity::update_many()
        .col_expr(subnet::Column::LogicalNetworkId, Expr::val(None::<i64>))
        .filter(subnet::Column::Id.is_in(ids(named)))
        .exec(txn)
        .await?;
    Ok(())
}

/// Gives back addresses that instances no longer have. An instance that is not named here keeps all.
pub async fn release_addresses<C: ConnectionTrait>(
    txn: &C,
    kept: &BTreeMap<Id, BTreeSet<String>>,
) -> Result<(), DbErr> {
    let rows = ip_allocation::Entity::find()
        .filter(ip_allocation::Column::ServerInstanceId.is_in(kept.keys().copied()))
        .all(txn)
        .await?;
    let gone: Vec<Id> = rows
        .iter()
        .filter(|a| a.server_instance_id.and_then(|i| kept.get(&i)).is_some_and(|k| !k.contains(&a.address)))
        .map(|a| a.id)
        .collect();
    ip_allocation::Entity::delete_many().filter(ip_allocation::Column::Id.is_in(gone)).exec(txn).await?;
    Ok(())
}
