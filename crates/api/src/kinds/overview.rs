//! Numbers at a glance: the overview, what is free at a site, statistics of infrastructures.

use std::collections::{BTreeMap, HashMap};

use engine::entity::{job, job_group};
use model::{Id, deploy::ServiceStatus, job::JobStatus, server::ServerStatus};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select,
};
use serde_json::{Value, json};
use store::entity::{
    infrastructure, network_device, server, server_instance, server_instance_group, server_type, site, site_controller,
};

use crate::{
    context::{Ctx, Reply, whole},
    error::ApiError,
    kinds::{infrastructure as infrastructures, job as jobs, server_instance as instances},
    routes,
};

routes! {
    "getOverview" => overview,
    "getSiteAvailability" => availability,
    "getAllInfrastructureStatistics" => all_statistics,
    "getInfrastructureStatistics" => statistics,
}

fn counted(rows: Vec<(String, i64)>) -> Value {
    let total: i64 = rows.iter().map(|(_, n)| n).sum();
    json!({"total": total, "byStatus": rows.into_iter().collect::<BTreeMap<_, _>>()})
}

/// Servers that the caller may know of: all for administrators, those of own instances for others.
fn servers(ctx: &Ctx) -> Select<server::Entity> {
    let select = server::Entity::find();
    if ctx.caller.is_admin {
        return select;
    }
    let own = instances::visible(ctx)
        .select_only()
        .column(server_instance::Column::ServerId)
        .filter(server_instance::Column::ServerId.is_not_null());
    select.filter(server::Column::Id.in_subquery(own.into_query()))
}

async fn overview(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let by_status = servers(&ctx)
        .select_only()
        .column(server::Column::Status)
        .column_as(server::Column::Id.count(), "n")
        .group_by(server::Column::Status)
        .into_tuple::<(String, i64)>()
        .all(db)
        .await?;
    let switches = if ctx.caller.is_admin {
        network_device::Entity::find()
            .select_only()
            .column(network_device::Column::Status)
            .column_as(network_device::Column::Id.count(), "n")
            .group_by(network_device::Column::Status)
            .into_tuple::<(String, i64)>()
            .all(db)
            .await?
    } else {
        Vec::new()
    };
    let sites = site::Entity::find()
        .filter(site::Column::Decommissioned.eq(false))
        .order_by_asc(site::Column::Name)
        .all(db)
        .await?;
    let mut newest: HashMap<Id, site_controller::Model> = HashMap::new();
    for c in site_controller::Entity::find().order_by_asc(site_controller::Column::Id).all(db).await? {
        // The one that is connected, else the one that was seen last.
        let better = newest
            .get(&c.site_id)
            .is_none_or(|known| (c.connected, &c.last_seen_at) >= (known.connected, &known.last_seen_at));
        if better {
            newest.insert(c.site_id, c);
        }
    }
    let sites: Vec<Value> = sites
        .iter()
        .map(|s| {
            let c = newest.get(&s.id);
            json!({
                "id": s.id, "name": s.name, "connected": c.is_some_and(|c| c.connected), "lastSeen": c.and_then(|c| c.last_seen_at.clone()), "version": c.map(|c| c.version.clone()),
            })
        })
        .collect();
    let count = async |statuses: &[JobStatus]| {
        jobs::visible_jobs(&ctx)
            .filter(job::Column::Archived.eq(false))
            .filter(job::Column::Status.is_in(statuses.iter().map(|s| s.as_str())))
            .count(db)
            .await
    };
    let running = count(&[JobStatus::Running, JobStatus::ThrownErrorRetrying]).await?;
    let failed = count(&[JobStatus::ThrownError]).await?;
    Ok(Reply::Json(json!({
        "servers": counted(by_status), "switches": counted(switches), "sites": sites, "jobs": {"running": running, "failed": failed},
    })))
}

/// How many servers of a type are free at a site, and how many there are.
async fn availability(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let site_id = ctx.id("siteId")?;
    if site::Entity::find_by_id(site_id).one(db).await?.is_none_or(|s| s.decommissioned) {
        return Err(ApiError::not_found("site", site_id));
    }
    let mut here = server::Entity::find().filter(server::Column::SiteId.eq(site_id));
    if let Some(word) = ctx.query_value("serverTypeId") {
        let id = crate::context::parse_id(word)
            .ok_or_else(|| ApiError::field("serverTypeId", format!("{word:?} is not an id")))?;
        here = here.filter(server::Column::ServerTypeId.eq(id));
    }
    let gone = [ServerStatus::Decommissioned, ServerStatus::Deleting, ServerStatus::RemovedFromRack];
    let total = here.clone().filter(server::Column::Status.is_not_in(gone.map(ServerStatus::as_str))).count(db).await?;
    let free = here
        .filter(server::Column::Status.eq(ServerStatus::Available.as_str()))
        .filter(server::Column::AdministrationState.ne("unmanaged"))
        .count(db)
        .await?;
    Ok(Reply::Json(json!({"free": free, "total": total})))
}

async fn all_statistics(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let by_status: HashMap<String, i64> = infrastructures::visible(&ctx)
        .select_only()
        .column(infrastructure::Column::ServiceStatus)
        .column_as(infrastructure::Column::Id.count(), "n")
        .group_by(infrastructure::Column::ServiceStatus)
        .into_tuple::<(String, i64)>()
        .all(db)
        .await?
        .into_iter()
        .collect();
    let ongoing = infrastructures::visible(&ctx)
        .select_only()
        .columns([infrastructure::Column::Id, infrastructure::Column::JobGroupId])
        .filter(infrastructure::Column::Locked.eq(true))
        .into_tuple::<(i64, Option<i64>)>()
        .all(db)
        .await?;
    let groups: Vec<Id> = ongoing.iter().filter_map(|(_, g)| *g).collect();
    let with = async |status: JobStatus| {
        job::Entity::find()
            .select_only()
            .column(job::Column::GroupId)
            .distinct()
            .filter(job::Column::GroupId.is_in(groups.clone()))
            .filter(job::Column::Status.eq(status.as_str()))
            .count(db)
            .await
    };
    let (retrying, failed) = (with(JobStatus::ThrownErrorRetrying).await?, with(JobStatus::ThrownError).await?);
    let filled = server_instance_group::Entity::find()
        .select_only()
        .column(server_instance_group::Column::InfrastructureId)
        .into_query();
    let empty = infrastructures::visible(&ctx)
        .filter(infrastructure::Column::Id.not_in_subquery(filled.clone()))
        .filter(infrastructure::Column::ServiceStatus.ne(ServiceStatus::Deleted.as_str()))
        .count(db)
        .await?;
    let networked = store::entity::logical_network::Entity::find()
        .select_only()
        .column(store::entity::logical_network::Column::InfrastructureId)
        .filter(store::entity::logical_network::Column::InfrastructureId.is_not_null())
        .into_query();
    let only_networks = infrastructures::visible(&ctx)
        .filter(
            Condition::all()
                .add(infrastructure::Column::Id.not_in_subquery(filled))
                .add(infrastructure::Column::Id.in_subquery(networked)),
        )
        .count(db)
        .await?;
    let of = |s: ServiceStatus| by_status.get(s.as_str()).copied().unwrap_or(0);
    Ok(Reply::Json(json!({
        "infrastructureServiceStatus": {"active": of(ServiceStatus::Active), "ordered": of(ServiceStatus::Ordered), "deleted": of(ServiceStatus::Deleted)},
        "infrastructureDeployOngoingStatusCount": {"thrownErrorRetrying": retrying, "thrownError": failed},
        "infrastructureCount": by_status.values().sum::<i64>(), "ongoingInfrastructureCount": ongoing.len(),
        "infrastructureCountEmpty": empty, "infrastructureCountEmptyWithSubnets": only_networks,
    })))
}

/// The newest deploy of one infrastructure, and how many servers of its types are free.
async fn statistics(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let of = infrastructures::find(&ctx, db, ctx.id("infrastructureId")?).await?;
    let group = match of.job_group_id {
        Some(id) => job_group::Entity::find_by_id(id).one(db).await?,
        None => None,
    };
    let numbers = ctx.app.engine().group_statistics(&group.iter().map(|g| g.id).collect::<Vec<_>>()).await?;
    let jobs = group.and_then(|g| numbers.get(&g.id).map(|s| {
        json!({
            "groupId": s.group_id, "groupCreatedTimestamp": s.created_at, "groupCompletedTimestamp": s.finished_at, "jobsThrownError": s.thrown_error,
            "jobsCompleted": s.completed, "jobsTotal": s.total,
        })
    }));
    let types: Vec<Id> = server_instance_group::Entity::find()
        .filter(server_instance_group::Column::InfrastructureId.eq(of.id))
        .all(db)
        .await?
        .iter()
        .filter_map(|g| g.design.get("defaultServerTypeId").and_then(whole))
        .collect();
    let free: HashMap<i64, i64> = server::Entity::find()
        .select_only()
        .column(server::Column::ServerTypeId)
        .column_as(server::Column::Id.count(), "n")
        .filter(server::Column::SiteId.eq(of.site_id))
        .filter(server::Column::Status.eq(ServerStatus::Available.as_str()))
        .filter(server::Column::ServerTypeId.is_in(types.clone()))
        .group_by(server::Column::ServerTypeId)
        .into_tuple::<(i64, i64)>()
        .all(db)
        .await?
        .into_iter()
        .collect();
    let usage: Vec<Value> = server_type::Entity::find()
        .filter(server_type::Column::Id.is_in(types))
        .all(db)
        .await?
        .iter()
        .map(|t| json!({"id": t.id, "name": t.name, "serversAvailable": free.get(&t.id).copied().unwrap_or(0)}))
        .collect();
    Ok(Reply::Json(json!({
        "jobGroupStatistics": jobs, "serverTypesForUsage": usage, "vmPoolsForUsage": [], "storagePoolsForUsage": [],
    })))
}
