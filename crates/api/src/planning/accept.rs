//! Accepting a plan: all that it takes is taken and its jobs are ordered in one transaction, or nothing is.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use axum::http::StatusCode;
use engine::{NewGroup, entity::job};
use model::{
    Id,
    deploy::{DeployStatus, DeployType},
    order::{Order, ServerInstall},
    secret::{Clear, Sealed},
    server::ServerStatus,
};
use planner::{Allocation, Code, Op, Options, Plan, PlanProblem};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QuerySelect,
    sea_query::{Expr, ExprTrait},
};
use serde_json::{Value, json};
use store::{
    entity::{deploy_plan, infrastructure, logical_network, server, server_instance, server_instance_group},
    event::NewEvent,
    list::{Revisioned, cas},
    time,
};

use super::{Designs, Element, Stored, allocations, answer, cleaning, finish, load, make, reserve, storage, values};
use crate::{App, context::Ctx, error::ApiError, facts};

/// Why a plan cannot be carried out, as an answer: data that would be lost is a question of one field, all else is told as it is.
pub fn refused(problems: &[PlanProblem]) -> ApiError {
    let words = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let error = if problems.iter().all(|p| p.code == Code::DataLossNotAllowed) {
        ApiError::field("allowDataLoss", format!("must be true for this deploy: {words}"))
    } else {
        ApiError::new(StatusCode::CONFLICT, format!("the design cannot be deployed: {words}"))
    };
    error.with("problems", json!(answer::problems(problems)))
}

fn stale(why: &str) -> ApiError {
    ApiError::conflict(format!("the plan is stale: {why}; plan again"))
}

/// A lost race for a server, a VLAN, a subnet or an address.
fn raced(error: sea_orm::DbErr) -> ApiError {
    let unique = matches!(error.sql_err(), Some(sea_orm::SqlErr::UniqueConstraintViolation(_)));
    if unique || matches!(error, sea_orm::DbErr::RecordNotUpdated | sea_orm::DbErr::RecordNotFound(_)) {
        stale("something that it needs was taken meanwhile")
    } else {
        error.into()
    }
}

/// Whether both plans decide the same. Jobs may differ in what was merely observed (power), the estimate in anything.
fn same(shown: &Plan, now: &Plan) -> bool {
    shown.deletes_infrastructure == now.deletes_infrastructure
        && shown.changes == now.changes
        && shown.allocations == now.allocations
        && shown.releases == now.releases
        && shown.instances == now.instances
        && shown.networks == now.networks
        && shown.storage == now.storage
        && shown.impact.servers_wiped == now.impact.servers_wiped
}

/// Plans once more, now that nobody else can take anything at this site, and carries it out. `shown`: the plan that a person has seen;
/// it must say the same. The caller holds the site's lock.
pub async fn accept(
    ctx: &Ctx,
    txn: &DatabaseTransaction,
    of: &infrastructure::Model,
    options: Options,
    shown: Option<&deploy_plan::Model>,
) -> Result<infrastructure::Model, ApiError> {
    let mut row = deploy_plan::new();
    row.infrastructure_id = Set(of.id);
    row.infrastructure_revision = Set(of.revision);
    row.status = Set("accepted".into());
    row.plan = Set(Value::Null);
    row.deploy_id = Set(None);
    // The id of this row is the generation: it grows over all infrastructures, at the moment at which servers change hands.
    let row = row.insert(txn).await?;
    let deploy_id = row.id;
    let loaded = load::load(txn, of, deploy_id, options).await?;
    let plan = match make(loaded.input.clone()).await? {
        Ok(plan) => plan,
        Err(problems) if shown.is_some() && !problems.iter().all(|p| p.code == Code::DataLossNotAllowed) => {
            let words = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            return Err(stale(&words).with("problems", json!(answer::problems(&problems))));
        }
        Err(problems) => return Err(refused(&problems)),
    };
    if let Some(shown) = shown {
        let seen = Stored::read(shown)?.plan.ok_or_else(|| stale("it had problems"))?;
        if !same(&seen, &plan) {
            return Err(stale("the site has changed since, so that it would now do something else"));
        }
    }
    finish::undisturbed(txn, of.id, &plan, &loaded).await?;

    let mut stored = Stored::new(Ok(plan.clone()), &loaded.input);
    stored.designs = Some(designs(of, &loaded));
    stored.removes = finish::removes(&plan, &loaded);
    let mut kept = row.edit();
    kept.plan = Set(json!(stored));
    kept.deploy_id = Set(Some(deploy_id));
    kept.update(txn).await?;
    if let Some(shown) = shown {
        let mut seen = shown.edit();
        seen.status = Set("accepted".into());
        seen.deploy_id = Set(Some(deploy_id));
        seen.update(txn).await?;
    }

    let passwords = Passwords::make(&ctx.app, of.site_id, &plan)?;
    let mut jobs = plan
        .materialize(|id| passwords.for_site.get(&id).cloned().ok_or(id))
        .map_err(|id| ApiError::internal(format!("no password for instance {id}")))?;
    let keys = storage::keys(ctx.app.sealer(), &plan, &loaded.storage)?;
    storage::materialize(&mut jobs, &keys, ctx.app.sealer(), of.site_id)?;
    let storages = &loaded.input.storage.storages;
    let logins = storage::logins(ctx.app.sealer(), &jobs, &loaded.input.storage, &loaded.instances)?;
    storage::log_in(&mut jobs, &logins, storages, ctx.app.sealer(), of.site_id)?;
    let mut jobs = cleaning::apply(txn, jobs).await?;
    cleaning::detach(&loaded, &plan, &mut jobs);
    let jobs = values::apply(txn, ctx.app.sealer(), of, jobs).await?;
    servers(txn, &plan).await?;
    instances(txn, &plan, &loaded, deploy_id, &passwords, &logins).await.map_err(raced)?;
    allocations::take(txn, &plan, &loaded).await.map_err(raced)?;
    storage::take(txn, &plan, &loaded.storage, deploy_id, &keys).await?;
    storage::mark(txn, of.id, &[DeployStatus::NotStarted], DeployStatus::Ongoing).await?;
    statuses(txn, of.id, deploy_id).await?;
    let mut told: BTreeSet<Id> = plan.allocations.iter().filter_map(server_of).collect();
    told.extend(reserve::addressed(&plan));
    told.extend(reserve::booted_from_volumes(&plan, &loaded));
    for id in told {
        facts::server(txn, ctx.app.sealer(), id).await?;
    }
    let images: BTreeMap<String, _> = loaded
        .input
        .groups
        .iter()
        .filter_map(|g| g.design.os.as_ref())
        .flat_map(|os| os.images().map(|image| (image.sha256.clone(), image.clone())).collect::<Vec<_>>())
        .collect();
    if !passwords.for_site.is_empty() {
        for image in images.values() {
            facts::image(txn, of.site_id, image).await?;
        }
    }
    let group = if plan.is_empty() {
        None
    } else {
        let group = NewGroup {
            kind: "infrastructure_deploy".into(),
            description: format!("{} {}", if plan.deletes_infrastructure { "Delete" } else { "Deploy" }, of.label),
            params: json!({"infrastructureId": of.id, "deployId": deploy_id, "planId": shown.map(|s| s.id)}),
            infrastructure_id: Some(of.id),
            site_id: Some(of.site_id),
            ..NewGroup::default()
        };
        Some(ctx.app.engine().create_group(txn, group, jobs).await?.group_id)
    };
    let mut after = of.edit();
    after.deploy_id = Set(Some(deploy_id));
    after.generation = Set(deploy_id);
    after.locked = Set(true);
    after.deploy_status = Set(DeployStatus::Ongoing.as_str().into());
    after.job_group_id = Set(group.or(of.job_group_id));
    after.last_error = Set(None);
    let after = cas(txn, of, after).await?.ok_or_else(|| stale("the design was changed meanwhile"))?;
    event(ctx, txn, &after, &plan, group).await?;
    if group.is_some() {
        return Ok(after);
    }
    // Nothing to do: no jobs that do nothing.
    finish::record(txn, ctx.app.sealer(), deploy_id, None).await?;
    infrastructure::Entity::find_by_id(of.id)
        .one(txn)
        .await?
        .ok_or_else(|| ApiError::not_found("infrastructure", of.id))
}

async fn event(
    ctx: &Ctx,
    txn: &DatabaseTransaction,
    of: &infrastructure::Model,
    plan: &Plan,
    group: Option<Id>,
) -> Result<(), ApiError> {
    let count = |op: Op| plan.changes.iter().filter(|c| c.op == op).count();
    let new = NewEvent {
        kind: "infrastructure.deploy".into(),
        title: format!("Deploy of {} started", of.label),
        message: format!("{} changes in {} jobs", plan.changes.len(), plan.jobs.len()),
        object: Some(("infrastructure".into(), of.id)),
        infrastructure_id: Some(of.id),
        site_id: Some(of.site_id),
        account_id: Some(of.account_id),
        actor: Some((ctx.caller.user_id, ctx.caller.email.clone())),
        request_id: Some(ctx.request_id.clone()),
        // In numbers: the plan itself is kept under the deploy's id.
        context: json!({
            "deployId": of.deploy_id, "jobGroupId": group, "created": count(Op::Create), "changed": count(Op::Edit), "deleted": count(Op::Delete),
        }),
        ..NewEvent::default()
    };
    store::event::append(txn, new).await?;
    Ok(())
}

fn server_of(a: &Allocation) -> Option<Id> {
    if let Allocation::Server { server_id, .. } = a { Some(*server_id) } else { None }
}

fn designs(of: &infrastructure::Model, loaded: &load::Loaded) -> Designs {
    let element = |label: &str, design: &Value, deploy_type: &str| Element {
        label: label.to_owned(),
        design: design.clone(),
        deploy_type: deploy_type.to_owned(),
    };
    // A pending edit of a shared network is its owner's to deploy, not that of whoever uses it.
    let ours = |n: &&logical_network::Model| n.infrastructure_id.is_some() || n.deployed.get("label").is_none();
    Designs {
        infrastructure: of.design.clone(),
        groups: loaded.groups.iter().map(|g| (g.id, element(&g.label, &g.design, &g.deploy_type))).collect(),
        networks: loaded
            .networks
            .iter()
            .filter(ours)
            .map(|n| {
                let mut design = n.design.clone();
                design["mtu"] = json!(n.mtu);
                (n.id, element(&n.label, &design, &n.deploy_type))
            })
            .collect(),
        connections: loaded.connections.iter().map(|c| (c.id, c.design.clone())).collect(),
        storage: storage::designs(&loaded.storage),
    }
}

/// Passwords of systems that are installed: one at rest, for the owner to read, and one for the site to install.
struct Passwords {
    at_rest: HashMap<Id, String>,
    for_site: HashMap<Id, Sealed>,
}

impl Passwords {
    fn make(app: &App, site_id: Id, plan: &Plan) -> Result<Self, ApiError> {
        let site = app.sealer().for_site(site_id);
        let mut all = Self { at_rest: HashMap::new(), for_site: HashMap::new() };
        let installed = plan.jobs.iter().filter(|j| j.function == ServerInstall::NAME);
        for id in installed.filter_map(|j| j.refs.instance_id) {
            let clear = Clear(crypto::password::generate());
            all.at_rest.insert(id, app.sealer().seal(&clear).map_err(ApiError::internal)?.0);
            all.for_site.insert(id, site.seal(&clear).map_err(ApiError::internal)?);
        }
        Ok(all)
    }
}

/// Servers that are taken leave the pool.
async fn servers(txn: &DatabaseTransaction, plan: &Plan) -> Result<(), ApiError> {
    let taken: BTreeSet<Id> = plan.allocations.iter().filter_map(server_of).collect();
    let wanted = taken.len() as u64;
    let now = time::now();
    let done = server::Entity::update_many()
        .col_expr(server::Column::Status, Expr::val(ServerStatus::Used.as_str()))
        .col_expr(server::Column::AllocatedAt, Expr::val(now.clone()))
        .col_expr(server::Column::UpdatedAt, Expr::val(now))
        .col_expr(server::Column::Revision, Expr::col(server::Column::Revision).add(1))
        .filter(server::Column::Id.is_in(taken))
        .filter(server::Column::Status.eq(ServerStatus::Available.as_str()))
        .exec(txn)
        .await?;
    if done.rows_affected == wanted { Ok(()) } else { Err(stale("a server was taken meanwhile")) }
}

async fn instances(
    txn: &DatabaseTransaction,
    plan: &Plan,
    loaded: &load::Loaded,
    deploy_id: Id,
    passwords: &Passwords,
    logins: &BTreeMap<Id, Sealed>,
) -> Result<(), sea_orm::DbErr> {
    let newest: Option<i64> = job::Entity::find()
        .select_only()
        .column_as(job::Column::Id.max(), "newest")
        .into_tuple::<Option<i64>>()
        .one(txn)
        .await?
        .flatten();
    let rows: HashMap<Id, &server_instance::Model> = loaded.instances.iter().map(|i| (i.id, i)).collect();
    // Hosts to which nothing else happens may be named to a storage for the first time.
    let planned: BTreeSet<Id> = plan.instances.iter().map(|p| p.id).collect();
    for (id, sealed) in logins.iter().filter(|(id, _)| !planned.contains(id)) {
        let Some(before) = rows.get(id).filter(|r| r.extra["chap"].as_str() != Some(&sealed.0)) else { continue };
        let mut extra = if before.extra.is_object() { before.extra.clone() } else { json!({}) };
        extra["chap"] = json!(sealed);
        let mut row = before.edit();
        row.extra = Set(extra);
        row.update(txn).await?;
    }
    for p in &plan.instances {
        let Some(before) = rows.get(&p.id) else { continue };
        let mut row = before.edit();
        row.deploy_id = Set(Some(deploy_id));
        row.deploy_status = Set(DeployStatus::Ongoing.as_str().into());
        let mut extra = if before.extra.is_object() { before.extra.clone() } else { json!({}) };
        if extra.get("since").is_none() {
            // Jobs after this one may have changed the instance, until a deploy ends.
            extra["since"] = newest.unwrap_or(0).into();
        }
        match &p.after {
            Some(after) => {
                row.server_id = Set(Some(after.server_id));
                let earlier = load::unfinished(&before.extra);
                if !earlier.is_empty() {
                    extra["unfinished"] = json!(earlier);
                }
                extra["planned"] = json!(after);
            }
            None => row.deploy_type = Set(DeployType::Delete.as_str().into()),
        }
        if let Some(sealed) = logins.get(&p.id) {
            extra["chap"] = json!(sealed);
        }
        if let Some(sealed) = passwords.at_rest.get(&p.id) {
            let group = loaded.input.groups.iter().find(|g| g.id == p.group_id);
            let username = group.map(|g| g.design.username.clone());
            if load::deployed(before).is_none() {
                row.password = Set(Some(sealed.clone()));
                row.username = Set(username);
            } else {
                // Until the new installation is there, the login is that of the old one.
                extra["login"] = json!({"username": username, "password": sealed});
            }
        }
        row.extra = Set(extra);
        row.update(txn).await?;
    }
    Ok(())
}

/// All that is not deployed yet is being deployed.
async fn statuses(txn: &DatabaseTransaction, infrastructure_id: Id, deploy_id: Id) -> Result<(), sea_orm::DbErr> {
    let ongoing = DeployStatus::Ongoing.as_str();
    let finished = DeployStatus::Finished.as_str();
    server_instance_group::Entity::update_many()
        .col_expr(server_instance_group::Column::DeployStatus, Expr::val(ongoing))
        .col_expr(server_instance_group::Column::DeployId, Expr::val(deploy_id))
        .col_expr(server_instance_group::Column::Revision, Expr::col(server_instance_group::Column::Revision).add(1))
        .filter(server_instance_group::Column::InfrastructureId.eq(infrastructure_id))
        .filter(server_instance_group::Column::DeployStatus.ne(finished))
        .exec(txn)
        .await?;
    logical_network::Entity::update_many()
        .col_expr(logical_network::Column::DeployStatus, Expr::val(ongoing))
        .col_expr(logical_network::Column::Revision, Expr::col(logical_network::Column::Revision).add(1))
        .filter(logical_network::Column::InfrastructureId.eq(infrastructure_id))
        .filter(logical_network::Column::DeployStatus.ne(finished))
        .exec(txn)
        .await?;
    Ok(())
}
