//! The end of a deploy: what was planned is what is deployed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crypto::Sealer;
use engine::entity::job;
use model::{
    Id,
    deploy::{DeployStatus, DeployType, ServiceStatus},
    job::JobStatus,
    order::{Order, ServerClean},
    server::ServerStatus,
};
use planner::{Action, Allocation, InstanceState, Plan};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    sea_query::{Expr, ExprTrait},
};
use serde_json::{Value, json};
use store::{
    entity::{
        deploy_plan, infrastructure, logical_network, network_connection, server, server_instance,
        server_instance_group,
    },
    event::NewEvent,
    list::Revisioned,
    time,
};

use super::{Designs, Stored, allocations, cleaning, design, load, reserve, storage_record};
use crate::{
    context::whole,
    error::ApiError,
    facts::{self, FactsError},
};

/// Why the end of a deploy could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// The database.
    #[error("database: {0}")]
    Db(#[from] DbErr),
    /// What sites are told.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// The stored plan cannot be read.
    #[error("the plan of deploy {0} cannot be read: {1}")]
    Plan(Id, serde_json::Error),
    /// The plan is not there.
    #[error("there is no plan of deploy {0}")]
    Missing(Id),
}

impl From<FinishError> for ApiError {
    fn from(e: FinishError) -> Self {
        Self::internal(e)
    }
}

/// Records that a deploy has ended, in the caller's transaction. `group_id`: its jobs, which tell what became of servers that were given
/// back. Answers whether there was anything to record: a second time there is not, nor when a newer deploy has begun.
pub async fn record<C: ConnectionTrait>(
    txn: &C,
    sealer: &Sealer,
    deploy_id: Id,
    group_id: Option<Id>,
) -> Result<bool, FinishError> {
    let row = deploy_plan::Entity::find_by_id(deploy_id).one(txn).await?.ok_or(FinishError::Missing(deploy_id))?;
    let found = infrastructure::Entity::find_by_id(row.infrastructure_id).lock_exclusive().one(txn).await?;
    let Some(of) = found.filter(|of| of.deploy_id == Some(deploy_id) && row.status != "done") else {
        return Ok(false);
    };
    let stored = Stored::read(&row).map_err(|e| FinishError::Plan(deploy_id, e))?;
    let (Some(plan), Some(designs)) = (stored.plan, stored.designs) else {
        return Err(FinishError::Missing(deploy_id));
    };
    let left = cleaning::left_behind(txn, &plan).await?;
    instances(txn, &of, &plan, &designs).await?;
    networks(txn, &of, &plan, &designs).await?;
    groups(txn, &of, &plan, &designs).await?;
    storage_record::record(txn, sealer, (of.id, of.site_id), &plan, &designs, group_id).await?;
    let mut told = servers(txn, &plan, left, group_id).await?;
    told.extend(reserve::addressed(&plan));
    let started = plan.instances.iter().filter_map(|p| p.after.as_ref()).filter(|s| s.boot.is_some());
    told.extend(started.map(|s| s.server_id));
    for id in told {
        facts::server(txn, sealer, id).await?;
    }

    let mut after = of.edit();
    after.locked = Set(false);
    after.last_error = Set(None);
    after.deploy_status = Set(DeployStatus::Finished.as_str().into());
    if plan.deletes_infrastructure {
        // The row stays, so that whoever waits for the end can read it.
        after.service_status = Set(ServiceStatus::Deleted.as_str().into());
    } else {
        after.service_status = Set(ServiceStatus::Active.as_str().into());
        after.label = Set(designs.infrastructure["label"].as_str().unwrap_or(&of.label).to_owned());
        after.deployed = Set(designs.infrastructure.clone());
    }
    after.update(txn).await?;
    let mut done = row.edit();
    done.status = Set("done".into());
    done.update(txn).await?;
    let title = if plan.deletes_infrastructure { "deleted" } else { "deployed" };
    let new = NewEvent {
        kind: format!("infrastructure.{title}"),
        severity: "success".into(),
        title: format!("Infrastructure {} {title}", of.label),
        object: Some(("infrastructure".into(), of.id)),
        infrastructure_id: Some(of.id),
        site_id: Some(of.site_id),
        account_id: Some(of.account_id),
        context: json!({"deployId": deploy_id}),
        ..NewEvent::default()
    };
    store::event::append(txn, new).await?;
    Ok(true)
}

async fn instances<C: ConnectionTrait>(
    txn: &C,
    of: &infrastructure::Model,
    plan: &Plan,
    designs: &Designs,
) -> Result<(), DbErr> {
    let addresses = |s: &InstanceState| s.addresses.iter().map(|a| a.address.to_string()).collect::<BTreeSet<_>>();
    let kept: BTreeMap<Id, BTreeSet<String>> =
        plan.instances.iter().map(|p| (p.id, p.after.as_ref().map(addresses).unwrap_or_default())).collect();
    allocations::release_addresses(txn, &kept).await?;
    let gone: Vec<Id> = plan.instances.iter().filter(|p| p.after.is_none()).map(|p| p.id).collect();
    server_instance::Entity::delete_many().filter(server_instance::Column::Id.is_in(gone)).exec(txn).await?;
    let rows: HashMap<Id, server_instance::Model> = server_instance::Entity::find()
        .filter(server_instance::Column::InfrastructureId.eq(of.id))
        .all(txn)
        .await?
        .into_iter()
        .map(|i| (i.id, i))
        .collect();
    for p in &plan.instances {
        let (Some(state), Some(before)) = (&p.after, rows.get(&p.id)) else { continue };
        let mut row = before.edit();
        let mut extra = before.extra.clone();
        if let Some(extra) = extra.as_object_mut() {
            for key in ["planned", "unfinished", "since"] {
                extra.remove(key);
            }
            if let Some(login) = extra.remove("login") {
                row.username = Set(login["username"].as_str().map(str::to_owned));
                row.password = Set(login["password"].as_str().map(str::to_owned));
            }
            if matches!(p.action, Action::Create | Action::Reinstall) {
                extra.remove("reinstall");
                extra.remove("broken");
                extra.remove("replace");
            }
        }
        row.extra = Set(extra);
        row.server_id = Set(Some(state.server_id));
        row.hostname = Set(Some(state.hostname.clone()));
        row.os_template_id = Set(Some(state.os_template_id));
        if matches!(p.action, Action::Create)
            && let Some(design) = designs.groups.get(&p.group_id)
        {
            row.server_type_id = Set(design.design.get("defaultServerTypeId").and_then(whole));
        }
        row.addresses = Set(state
            .addresses
            .iter()
            .map(|a| {
                json!({
                    "logicalNetworkId": a.network_id, "address": a.address, "prefixLength": a.subnet.prefix_len(), "subnet": a.subnet, "gateway": a.gateway,
                })
            })
            .collect());
        row.network_config = Set(state.network_config.clone());
        row.deployed = Set(json!(state));
        row.service_status = Set(match (p.action, designs.groups.get(&p.group_id).map(|g| g.deploy_type.as_str())) {
            (Action::Stop, Some("suspend")) => ServiceStatus::Suspended,
            (Action::Stop, _) => ServiceStatus::Stopped,
            (Action::Edit, _) => ServiceStatus::parse(&before.service_status).unwrap_or(ServiceStatus::Active),
            _ => ServiceStatus::Active,
        }
        .as_str()
        .into());
        row.deploy_status = Set(DeployStatus::Finished.as_str().into());
        row.update(txn).await?;
    }
    server_instance::Entity::update_many()
        .col_expr(server_instance::Column::DeployStatus, Expr::val(DeployStatus::Finished.as_str()))
        .filter(server_instance::Column::InfrastructureId.eq(of.id))
        .filter(server_instance::Column::DeployStatus.ne(DeployStatus::Finished.as_str()))
        .exec(txn)
        .await?;
    Ok(())
}

async fn networks<C: ConnectionTrait>(
    txn: &C,
    of: &infrastructure::Model,
    plan: &Plan,
    designs: &Designs,
) -> Result<(), DbErr> {
    let mut ids: BTreeSet<Id> = plan.networks.iter().map(|n| n.id).collect();
    ids.extend(designs.networks.keys());
    // In the order in which plans are accepted, so that nobody waits in a circle.
    let rows = logical_network::Entity::find()
        .filter(logical_network::Column::Id.is_in(ids))
        .order_by_asc(logical_network::Column::Id)
        .all(txn)
        .await?;
    for before in rows {
        let planned = plan.networks.iter().find(|p| p.id == before.id);
        let own = before.infrastructure_id == Some(of.id);
        let element = designs.networks.get(&before.id);
        let goes = own
            && (plan.deletes_infrastructure
                || planned.is_some_and(|p| p.after.is_none())
                || element.is_some_and(|e| e.deploy_type == DeployType::Delete.as_str()));
        if goes {
            allocations::release(txn, before.id, None).await?;
            network_connection::Entity::delete_many()
                .filter(network_connection::Column::LogicalNetworkId.eq(before.id))
                .exec(txn)
                .await?;
            logical_network::Entity::delete_by_id(before.id).exec(txn).await?;
            continue;
        }
        // A shared network that nobody has connected to holds nothing yet.
        if !own && planned.is_none() {
            continue;
        }
        let allocation = planned.map_or_else(|| load::allocated(&before), |p| p.allocation.clone());
        allocations::release(txn, before.id, Some(&allocation)).await?;
        let mut row = before.edit();
        let mut deployed = match element {
            Some(e) => {
                let mut all = design::with_allocation(&e.design, &before, &allocation, "allocated");
                all["label"] = json!(e.label);
                all
            }
            None => {
                let label = before.deployed["label"].clone();
                let mtu = before.deployed["mtu"].clone();
                let blocks = design::without_allocation(&before.deployed);
                let mut all = design::with_allocation(&blocks, &before, &allocation, "allocated");
                all["label"] = label;
                all["mtu"] = mtu;
                all
            }
        };
        if deployed["label"] == Value::Null {
            deployed["label"] = json!(before.label);
        }
        row.deployed = Set(deployed);
        row.allocation = Set(json!(allocation));
        row.service_status = Set(ServiceStatus::Active.as_str().into());
        if own || element.is_some() {
            row.deploy_status = Set(DeployStatus::Finished.as_str().into());
        }
        row.update(txn).await?;
    }
    if plan.deletes_infrastructure {
        logical_network::Entity::delete_many()
            .filter(logical_network::Column::InfrastructureId.eq(of.id))
            .exec(txn)
            .await?;
    }
    Ok(())
}

async fn groups<C: ConnectionTrait>(
    txn: &C,
    of: &infrastructure::Model,
    plan: &Plan,
    designs: &Designs,
) -> Result<(), DbErr> {
    let rows = server_instance_group::Entity::find()
        .filter(server_instance_group::Column::InfrastructureId.eq(of.id))
        .all(txn)
        .await?;
    let mut gone: Vec<Id> = Vec::new();
    for before in rows {
        let element = designs.groups.get(&before.id);
        let deleted = element.is_some_and(|e| e.deploy_type == DeployType::Delete.as_str());
        if plan.deletes_infrastructure || deleted {
            gone.push(before.id);
            continue;
        }
        let Some(element) = element else { continue };
        let mut row = before.edit();
        row.deployed = Set(element.design.clone());
        row.service_status = Set(match (DeployType::parse(&element.deploy_type), before.service_status.as_str()) {
            (Some(DeployType::Stop), _) => ServiceStatus::Stopped.as_str().into(),
            (Some(DeployType::Suspend), _) => ServiceStatus::Suspended.as_str().into(),
            (Some(DeployType::Start | DeployType::Create), _) | (_, "ordered") => ServiceStatus::Active.as_str().into(),
            (_, other) => other.to_owned(),
        });
        row.deploy_status = Set(DeployStatus::Finished.as_str().into());
        row.update(txn).await?;
    }
    network_connection::Entity::delete_many()
        .filter(network_connection::Column::GroupId.is_in(gone.clone()))
        .exec(txn)
        .await?;
    server_instance::Entity::delete_many()
        .filter(server_instance::Column::GroupId.is_in(gone.clone()))
        .exec(txn)
        .await?;
    server_instance_group::Entity::delete_many()
        .filter(server_instance_group::Column::Id.is_in(gone))
        .exec(txn)
        .await?;
    let rows = network_connection::Entity::find()
        .filter(network_connection::Column::Id.is_in(designs.connections.keys().copied()))
        .all(txn)
        .await?;
    for before in rows {
        match designs.connections.get(&before.id) {
            Some(design) if design.is_object() => {
                let mut row = before.edit();
                row.deployed = Set(design.clone());
                row.update(txn).await?;
            }
            _ => {
                network_connection::Entity::delete_by_id(before.id).exec(txn).await?;
            }
        }
    }
    Ok(())
}

/// Servers that were given back: available when their disks were erased; otherwise somebody has to see to it. Answers their ids.
async fn servers<C: ConnectionTrait>(
    txn: &C,
    plan: &Plan,
    left: BTreeSet<Id>,
    group_id: Option<Id>,
) -> Result<BTreeSet<Id>, DbErr> {
    let freed: BTreeSet<Id> = plan
        .releases
        .iter()
        .filter_map(|r| if let Allocation::Server { server_id, .. } = r { Some(*server_id) } else { None })
        .chain(left)
        .collect();
    let erased: BTreeSet<Id> = job::Entity::find()
        .select_only()
        .column(job::Column::ServerId)
        .filter(job::Column::GroupId.eq(group_id.unwrap_or(0)))
        .filter(job::Column::Function.eq(ServerClean::NAME))
        .filter(job::Column::Status.eq(JobStatus::ReturnedSuccess.as_str()))
        .into_tuple::<Option<i64>>()
        .all(txn)
        .await?
        .into_iter()
        .flatten()
        .collect();
    let broken = cleaning::broken(txn, &freed).await?;
    cleaning::retire(txn, &broken).await?;
    let whole = |id: &Id| !broken.contains_key(id);
    let dirty = freed.difference(&erased).copied().filter(whole).collect::<BTreeSet<Id>>();
    let clean = freed.intersection(&erased).copied().filter(whole).collect::<BTreeSet<Id>>();
    let ill = crate::gpu::ill(txn, &clean).await?;
    let well = clean.iter().copied().filter(|id| !ill.contains_key(id)).collect::<BTreeSet<Id>>();
    for (id, why) in &ill {
        give_back(txn, &BTreeSet::from([*id]), ServerStatus::Unavailable, Some(why)).await?;
    }
    give_back(txn, &well, ServerStatus::Available, None).await?;
    give_back(txn, &dirty, ServerStatus::CleaningRequired, Some("its disks were not erased when it was given back"))
        .await?;
    Ok(freed)
}

/// Servers that no instance holds any longer.
pub(super) async fn give_back<C: ConnectionTrait>(
    txn: &C,
    ids: &BTreeSet<Id>,
    status: ServerStatus,
    reason: Option<&str>,
) -> Result<(), DbErr> {
    if ids.is_empty() {
        return Ok(());
    }
    server::Entity::update_many()
        .col_expr(server::Column::Status, Expr::val(status.as_str()))
        .col_expr(server::Column::StatusReason, Expr::val(reason.map(str::to_owned)))
        .col_expr(server::Column::AllocatedAt, Expr::val(None::<String>))
        .col_expr(server::Column::UpdatedAt, Expr::val(time::now()))
        .col_expr(server::Column::Revision, Expr::col(server::Column::Revision).add(1))
        .filter(server::Column::Id.is_in(ids.iter().copied()))
        .exec(txn)
        .await?;
    Ok(())
}

/// Shared networks from which a plan takes switches away.
pub(super) fn removes(plan: &Plan, loaded: &load::Loaded) -> BTreeSet<Id> {
    let mut vlans: BTreeSet<u64> = BTreeSet::new();
    for job in plan.jobs.iter().filter(|j| j.key.starts_with("vlan-remove/") || j.key.starts_with("trunk-remove/")) {
        let absent = job.payload.pointer("/patch/vlans_absent").and_then(Value::as_array);
        vlans.extend(absent.into_iter().flatten().filter_map(Value::as_u64));
        let trunks = job.payload.pointer("/patch/trunks_remove").and_then(Value::as_object);
        vlans.extend(
            trunks.into_iter().flat_map(|t| t.values()).filter_map(Value::as_array).flatten().filter_map(Value::as_u64),
        );
    }
    loaded
        .networks
        .iter()
        .filter(|n| n.infrastructure_id.is_none())
        .filter(|n| load::allocated(n).vlan.is_some_and(|v| vlans.contains(&u64::from(v))))
        .map(|n| n.id)
        .collect()
}

/// Refuses a plan that attaches to a shared network while the deploy of another infrastructure is taking the network off switches: its
/// jobs know nothing of the new members and would cut them off.
pub(super) async fn undisturbed<C: ConnectionTrait>(
    txn: &C,
    infrastructure_id: Id,
    plan: &Plan,
    loaded: &load::Loaded,
) -> Result<(), ApiError> {
    let attached: BTreeSet<Id> = plan
        .instances
        .iter()
        .filter_map(|p| p.after.as_ref())
        .flat_map(|s| &s.ports)
        .flat_map(|p| p.networks.iter().copied())
        .collect();
    let shared: BTreeMap<Id, &str> = loaded
        .networks
        .iter()
        .filter(|n| n.infrastructure_id.is_none() && attached.contains(&n.id))
        .map(|n| (n.id, n.label.as_str()))
        .collect();
    if shared.is_empty() {
        return Ok(());
    }
    let ongoing = infrastructure::Entity::find()
        .select_only()
        .column(infrastructure::Column::DeployId)
        .filter(infrastructure::Column::Locked.eq(true))
        .filter(infrastructure::Column::Id.ne(infrastructure_id))
        .filter(infrastructure::Column::DeployId.is_not_null());
    let rows = deploy_plan::Entity::find()
        .filter(Condition::all().add(deploy_plan::Column::Id.in_subquery(ongoing.into_query())))
        .all(txn)
        .await?;
    for row in rows {
        let removes: Vec<Id> = row.plan["removes"].as_array().into_iter().flatten().filter_map(Value::as_i64).collect();
        if let Some((_, label)) = shared.iter().find(|(id, _)| removes.contains(id)) {
            return Err(ApiError::conflict(format!(
                "the deploy of another infrastructure is taking network {label} off switches; try again when it has ended"
            )));
        }
    }
    Ok(())
}
