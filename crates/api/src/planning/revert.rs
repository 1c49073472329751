//! Back to what is deployed. What an unfinished deploy may have left somewhere is marked, so that the next deploy cleans it.

use std::collections::BTreeSet;

use crypto::Sealer;
use engine::entity::job;
use model::{
    Id,
    deploy::{DeployStatus, DeployType, ServiceStatus},
    order::{Order, ServerClean, ServerInstall},
    server::ServerStatus,
};
use planner::Allocation;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QuerySelect,
    QueryTrait, sea_query::Expr,
};
use serde_json::Value;
use store::{
    entity::{
        deploy_plan, infrastructure, logical_network, network_connection, pkey_allocation, server, server_instance,
        server_instance_group, vlan_allocation,
    },
    list::Revisioned,
};

use super::{Stored, cleaning, design, finish, storage};
use crate::{error::ApiError, facts};

/// The design of a cancelled deploy may be changed again. Servers that it was giving back and that nobody holds need cleaning by hand.
pub async fn unlock<C: ConnectionTrait>(txn: &C, sealer: &Sealer, of: &infrastructure::Model) -> Result<(), ApiError> {
    let not_started = DeployStatus::NotStarted.as_str();
    server_instance_group::Entity::update_many()
        .col_expr(server_instance_group::Column::DeployStatus, Expr::val(not_started))
        .filter(server_instance_group::Column::InfrastructureId.eq(of.id))
        .filter(server_instance_group::Column::DeployStatus.eq(DeployStatus::Ongoing.as_str()))
        .exec(txn)
        .await?;
    server_instance::Entity::update_many()
        .col_expr(server_instance::Column::DeployStatus, Expr::val(not_started))
        .filter(server_instance::Column::InfrastructureId.eq(of.id))
        .filter(server_instance::Column::DeployStatus.eq(DeployStatus::Ongoing.as_str()))
        .exec(txn)
        .await?;
    logical_network::Entity::update_many()
        .col_expr(logical_network::Column::DeployStatus, Expr::val(not_started))
        .filter(logical_network::Column::InfrastructureId.eq(of.id))
        .filter(logical_network::Column::DeployStatus.eq(DeployStatus::Ongoing.as_str()))
        .exec(txn)
        .await?;
    storage::mark(txn, of.id, &[DeployStatus::Ongoing], DeployStatus::NotStarted).await?;
    broken(txn, of).await?;
    let Some(row) = deploy_plan::Entity::find_by_id(of.deploy_id.unwrap_or(0)).one(txn).await? else { return Ok(()) };
    let releases = Stored::read(&row)?.plan.map(|p| p.releases).unwrap_or_default();
    let released: BTreeSet<Id> = releases
        .iter()
        .filter_map(|r| if let Allocation::Server { server_id, .. } = r { Some(*server_id) } else { None })
        .collect();
    let held = server_instance::Entity::find()
        .select_only()
        .column(server_instance::Column::ServerId)
        .filter(server_instance::Column::ServerId.is_not_null());
    let orphans: BTreeSet<Id> = server::Entity::find()
        .select_only()
        .column(server::Column::Id)
        .filter(server::Column::Id.is_in(released))
        .filter(server::Column::Id.not_in_subquery(held.into_query()))
        .filter(server::Column::Status.eq(ServerStatus::Used.as_str()))
        .into_tuple::<i64>()
        .all(txn)
        .await?
        .into_iter()
        .collect();
    // A broken one stays its instance's until a deploy has ended that gives the instance another.
    let broken = cleaning::broken(txn, &orphans).await?;
    let orphans: BTreeSet<Id> = orphans.into_iter().filter(|id| !broken.contains_key(id)).collect();
    let reason = Some("the deploy that gave it back was cancelled");
    finish::give_back(txn, &orphans, ServerStatus::CleaningRequired, reason).await?;
    for id in orphans {
        facts::server(txn, sealer, id).await?;
    }
    Ok(())
}

/// A system whose disk a cancelled deploy had begun to write or erase works no more: whatever is designed, it is installed anew.
async fn broken<C: ConnectionTrait>(txn: &C, of: &infrastructure::Model) -> Result<(), DbErr> {
    let begun: BTreeSet<Id> = job::Entity::find()
        .select_only()
        .column(job::Column::InstanceId)
        .filter(job::Column::GroupId.eq(of.job_group_id.unwrap_or(0)))
        .filter(job::Column::Function.is_in([ServerInstall::NAME, ServerClean::NAME]))
        .filter(job::Column::StartedAt.is_not_null())
        .into_tuple::<Option<i64>>()
        .all(txn)
        .await?
        .into_iter()
        .flatten()
        .collect();
    let rows = server_instance::Entity::find().filter(server_instance::Column::Id.is_in(begun)).all(txn).await?;
    for before in rows.iter().filter(|i| super::load::deployed(i).is_some()) {
        let mut extra = before.extra.clone();
        extra["broken"] = true.into();
        let mut row = before.edit();
        row.extra = Set(extra);
        row.update(txn).await?;
    }
    Ok(())
}

/// Reverts the whole design of an infrastructure.
pub async fn revert<C: ConnectionTrait>(txn: &C, of: &infrastructure::Model) -> Result<(), ApiError> {
    let instances =
        server_instance::Entity::find().filter(server_instance::Column::InfrastructureId.eq(of.id)).all(txn).await?;
    let mut left = revert_instances(txn, &instances).await?;
    left |= revert_groups(txn, of.id, &instances).await?;
    left |= revert_networks(txn, of.id).await?;
    left |= storage::revert(txn, of.id).await?;
    let never = of.service_status == ServiceStatus::Ordered.as_str();
    let mut row = of.edit();
    if !never {
        row.design = Set(of.deployed.clone());
        row.deploy_type = Set(DeployType::Edit.as_str().into());
    }
    let clean = !left && !never;
    let status = if clean { DeployStatus::Finished } else { DeployStatus::NotStarted };
    row.deploy_status = Set(status.as_str().into());
    row.last_error = Set(None);
    row.update(txn).await?;
    Ok(())
}

/// Instances that are deployed stay; others go, unless a server is reserved for them. Answers whether any is left to be deployed.
async fn revert_instances<C: ConnectionTrait>(txn: &C, rows: &[server_instance::Model]) -> Result<bool, DbErr> {
    let mut left = false;
    let mut gone: Vec<Id> = Vec::new();
    for before in rows {
        let deployed = super::load::deployed(before);
        if deployed.is_none() && before.server_id.is_none() {
            gone.push(before.id);
            continue;
        }
        let mut row = before.edit();
        match deployed {
            Some(_) => {
                let mut extra = before.extra.clone();
                if let Some(extra) = extra.as_object_mut() {
                    extra.remove("reinstall");
                    if let Some(mark) = extra.remove("replace")
                        && let Some(server_id) = mark["serverId"].as_i64()
                    {
                        cleaning::mark(txn, server_id, None).await?;
                    }
                }
                row.extra = Set(extra);
                row.deploy_type = Set(DeployType::Edit.as_str().into());
                // What a cancelled deploy had begun is undone by the next one.
                let begun = ["planned", "broken"].iter().any(|key| before.extra.get(*key).is_some());
                left |= begun;
                let status = if begun { DeployStatus::NotStarted } else { DeployStatus::Finished };
                row.deploy_status = Set(status.as_str().into());
            }
            None => {
                row.deploy_type = Set(DeployType::Delete.as_str().into());
                row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
                left = true;
            }
        }
        row.update(txn).await?;
    }
    server_instance::Entity::delete_many().filter(server_instance::Column::Id.is_in(gone)).exec(txn).await?;
    Ok(left)
}

async fn revert_groups<C: ConnectionTrait>(
    txn: &C,
    infrastructure_id: Id,
    instances: &[server_instance::Model],
) -> Result<bool, DbErr> {
    let mut left = false;
    let reserved: BTreeSet<Id> = instances.iter().filter(|i| i.server_id.is_some()).map(|i| i.group_id).collect();
    let rows = server_instance_group::Entity::find()
        .filter(server_instance_group::Column::InfrastructureId.eq(infrastructure_id))
        .all(txn)
        .await?;
    let (mut gone, mut marked): (Vec<Id>, BTreeSet<Id>) = (Vec::new(), BTreeSet::new());
    for before in &rows {
        let mut row = before.edit();
        if let Some(label) = before.deployed["label"].as_str() {
            row.label = Set(label.to_owned());
            row.design = Set(before.deployed.clone());
            row.deploy_type = Set(DeployType::Edit.as_str().into());
            row.deploy_status = Set(DeployStatus::Finished.as_str().into());
        } else if reserved.contains(&before.id) {
            row.deploy_type = Set(DeployType::Delete.as_str().into());
            row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
            marked.insert(before.id);
            left = true;
        } else {
            gone.push(before.id);
            continue;
        }
        row.update(txn).await?;
    }
    let all: Vec<Id> = rows.iter().map(|g| g.id).collect();
    let connections =
        network_connection::Entity::find().filter(network_connection::Column::GroupId.is_in(all)).all(txn).await?;
    for before in connections {
        if gone.contains(&before.group_id) || (before.deployed == Value::Null && !marked.contains(&before.group_id)) {
            network_connection::Entity::delete_by_id(before.id).exec(txn).await?;
        } else if before.deployed != Value::Null && before.design != before.deployed {
            let mut row = before.edit();
            row.design = Set(before.deployed.clone());
            row.update(txn).await?;
        }
    }
    server_instance_group::Entity::delete_many()
        .filter(server_instance_group::Column::Id.is_in(gone))
        .exec(txn)
        .await?;
    Ok(left)
}

async fn revert_networks<C: ConnectionTrait>(txn: &C, infrastructure_id: Id) -> Result<bool, DbErr> {
    let own = logical_network::Entity::find()
        .select_only()
        .column(logical_network::Column::Id)
        .filter(logical_network::Column::InfrastructureId.eq(infrastructure_id));
    let mut taken: BTreeSet<Id> = vlan_allocation::Entity::find()
        .filter(vlan_allocation::Column::LogicalNetworkId.in_subquery(own.clone().into_query()))
        .all(txn)
        .await?
        .into_iter()
        .map(|v| v.logical_network_id)
        .collect();
    let keys = pkey_allocation::Entity::find()
        .filter(pkey_allocation::Column::LogicalNetworkId.in_subquery(own.into_query()))
        .all(txn)
        .await?;
    taken.extend(keys.into_iter().map(|k| k.logical_network_id));
    let mut left = false;
    let rows = logical_network::Entity::find()
        .filter(logical_network::Column::InfrastructureId.eq(infrastructure_id))
        .all(txn)
        .await?;
    for before in rows {
        let mut row = before.edit();
        if let Some(label) = before.deployed["label"].as_str() {
            row.label = Set(label.to_owned());
            row.mtu = Set(before.deployed["mtu"].as_i64());
            row.design = Set(design::without_allocation(&before.deployed));
            row.deploy_type = Set(DeployType::Edit.as_str().into());
            row.deploy_status = Set(DeployStatus::Finished.as_str().into());
        } else if taken.contains(&before.id) {
            row.deploy_type = Set(DeployType::Delete.as_str().into());
            row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
            left = true;
        } else {
            logical_network::Entity::delete_by_id(before.id).exec(txn).await?;
            continue;
        }
        row.update(txn).await?;
    }
    Ok(left)
}

/// Whether anything was ever taken for an infrastructure: then only a deploy can remove it.
pub async fn holds_nothing<C: ConnectionTrait>(txn: &C, of: &infrastructure::Model) -> Result<bool, DbErr> {
    if of.service_status != ServiceStatus::Ordered.as_str() {
        return Ok(false);
    }
    if of.deploy_id.is_none() {
        return Ok(true);
    }
    let reserved = server_instance::Entity::find()
        .filter(server_instance::Column::InfrastructureId.eq(of.id))
        .filter(server_instance::Column::ServerId.is_not_null())
        .one(txn)
        .await?;
    let own = logical_network::Entity::find()
        .select_only()
        .column(logical_network::Column::Id)
        .filter(logical_network::Column::InfrastructureId.eq(of.id));
    let taken = vlan_allocation::Entity::find()
        .filter(vlan_allocation::Column::LogicalNetworkId.in_subquery(own.clone().into_query()))
        .one(txn)
        .await?;
    let key = pkey_allocation::Entity::find()
        .filter(pkey_allocation::Column::LogicalNetworkId.in_subquery(own.into_query()))
        .one(txn)
        .await?;
    Ok(reserved.is_none() && taken.is_none() && key.is_none() && !storage::holds_something(txn, of.id).await?)
}
