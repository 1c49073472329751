//! Infrastructures: a tenant's editable design over a site.

use engine::query::GroupStatistics;
use model::{
    Id,
    deploy::{DeployStatus, DeployType, ServiceStatus},
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait, PaginatorTrait,
    QueryFilter, QuerySelect, QueryTrait, Select,
};
use serde_json::{Value, json};
use store::{
    entity::{
        infrastructure, infrastructure_user, logical_network, network_connection, server_instance,
        server_instance_group, site, user,
    },
    list::{ListQuery, Page, Revisioned, cas},
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{MAX_ROWS, list, record, user as users, user_delegate, user_limits},
    planning::{revert, storage},
    routes,
};

routes! {
    "getInfrastructures" => infrastructures,
    "getInfrastructure" => one,
    "createInfrastructure" => create,
    "getInfrastructureConfigInfo" => config,
    "updateInfrastructureConfiguration" => update,
    "deleteInfrastructure" => delete,
    "getInfrastructureLayout" => layout,
    "putInfrastructureLayout" => put_layout,
    "getInfrastructureUsers" => members,
    "addInfrastructureUser" => add_member,
    "removeInfrastructureUser" => remove_member,
}

/// Longest layout document, in bytes of JSON.
const MAX_LAYOUT: usize = 1 << 20;

/// Why a deploy does not go on, in words.
fn trouble(i: &infrastructure::Model, jobs: Option<&GroupStatistics>) -> Option<String> {
    let failed = jobs
        .filter(|s| i.locked && s.thrown_error > 0)
        .map(|s| format!("{} of {} jobs failed; retry or skip them, or cancel the deploy", s.thrown_error, s.total));
    failed.or_else(|| i.last_error.clone())
}

fn wire(i: &infrastructure::Model, jobs: Option<&GroupStatistics>) -> Value {
    let config = json!({
        "revision": i.revision, "label": i.design["label"].as_str().unwrap_or(&i.label), "deployType": i.deploy_type, "deployStatus": i.deploy_status, "infrastructureDeployId": i.deploy_id, "jobGroupId": i.job_group_id,
        "datacenterName": "", "siteId": i.site_id, "customVariables": i.design["customVariables"], "userIdOwner": i.owner_id, "updatedTimestamp": i.updated_at,
    });
    json!({
        "id": i.id, "revision": i.revision, "label": i.label, "siteId": i.site_id, "datacenterName": "", "userIdOwner": i.owner_id, "serviceStatus": i.service_status,
        "customVariables": i.design["customVariables"], "createdTimestamp": i.created_at, "updatedTimestamp": i.updated_at, "designIsLocked": i32::from(i.locked), "config": config,
        "deferredDeployAttemptLastErrorJson": trouble(i, jobs).map(|e| json!({"message": e})), "meta": i.meta.as_ref().unwrap_or(&i.design["meta"]), "links": [],
        "statistics": jobs.map(|s| json!({
            "groupCreatedTimestamp": s.created_at, "groupCompletedTimestamp": s.finished_at, "jobsThrownError": s.thrown_error, "jobsCompleted": s.completed, "jobsTotal": s.total,
        })),
    })
}

/// The wire form, with how the jobs of its newest deploy stand.
pub async fn wire_one(ctx: &Ctx, i: &infrastructure::Model) -> Result<Value, ApiError> {
    let groups: Vec<Id> = i.job_group_id.into_iter().collect();
    let statistics = ctx.app.engine().group_statistics(&groups).await?;
    Ok(wire(i, i.job_group_id.and_then(|g| statistics.get(&g))))
}

/// Infrastructures that the caller may see: all for administrators, the account's and those shared with the user for others.
pub fn visible(ctx: &Ctx) -> Select<infrastructure::Entity> {
    let select = infrastructure::Entity::find();
    if ctx.caller.is_admin {
        return select;
    }
    let shared = infrastructure_user::Entity::find()
        .select_only()
        .column(infrastructure_user::Column::InfrastructureId)
        .filter(infrastructure_user::Column::UserId.eq(ctx.caller.user_id));
    select.filter(
        Condition::any()
            .add(infrastructure::Column::AccountId.eq(ctx.caller.account_id))
            .add(infrastructure::Column::Id.in_subquery(shared.into_query()))
            .add(infrastructure::Column::OwnerId.in_subquery(user_delegate::owners(ctx.caller.user_id))),
    )
}

/// An infrastructure that the caller may see.
pub async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C, id: Id) -> Result<infrastructure::Model, ApiError> {
    visible(ctx)
        .filter(infrastructure::Column::Id.eq(id))
        .one(db)
        .await?
        .ok_or_else(|| ApiError::not_found("infrastructure", id))
}

/// The same, for a change of its design: refused while a deploy goes on.
pub async fn find_editable<C: ConnectionTrait>(ctx: &Ctx, db: &C, id: Id) -> Result<infrastructure::Model, ApiError> {
    let found = find(ctx, db, id).await?;
    if found.service_status == ServiceStatus::Deleted.as_str() {
        return Err(ApiError::conflict(format!("infrastructure {} is deleted", found.label)));
    }
    if found.locked {
        return Err(ApiError::conflict(format!(
            "infrastructure {} is being deployed: its design is locked until that ends",
            found.label
        )));
    }
    Ok(found)
}

/// Notes that something inside the infrastructure was changed, so that a plan made before is stale.
pub async fn touch<C: ConnectionTrait>(db: &C, found: &infrastructure::Model) -> Result<(), ApiError> {
    let mut row = found.edit();
    if found.service_status != ServiceStatus::Ordered.as_str() && found.deploy_type != DeployType::Delete.as_str() {
        row.deploy_type = Set(DeployType::Edit.as_str().into());
    }
    row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
    cas(db, found, row)
        .await?
        .map(|_| ())
        .ok_or_else(|| ApiError::conflict("the infrastructure was changed at the same moment; try again"))
}

async fn infrastructures(ctx: Ctx) -> Result<Reply, ApiError> {
    let alias = [("userIdOwner", "owner_id")];
    let query = ListQuery::parse(&ctx.query, MAX_ROWS)?;
    let search = [infrastructure::Column::Label];
    let db = &ctx.app.db().read;
    let Page { rows, total } = query.run(db, visible(&ctx), &alias, &search, infrastructure::Column::Id).await?;
    let groups: Vec<Id> = rows.iter().filter_map(|i| i.job_group_id).collect();
    let statistics = ctx.app.engine().group_statistics(&groups).await?;
    let data = rows.iter().map(|i| wire(i, i.job_group_id.and_then(|g| statistics.get(&g)))).collect();
    Ok(Reply::Json(query.body(ctx.operation.path, total, data)))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read, ctx.id("infrastructureId")?).await?;
    Ok(Reply::Tagged(wire_one(&ctx, &found).await?, found.revision))
}

async fn config(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read, ctx.id("infrastructureId")?).await?;
    Ok(Reply::Tagged(wire(&found, None)["config"].clone(), found.revision))
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    ctx.refuse_others(&["label", "siteId", "customVariables", "meta"])?;
    let label = model::validate::label("label", ctx.need_text("label")?)?;
    let site_id = ctx.need_int("siteId")?;
    let txn = ctx.app.db().begin().await?;
    if site::Entity::find_by_id(site_id).one(&txn).await?.is_none_or(|s| s.decommissioned) {
        return Err(ApiError::field("siteId", format!("there is no site {site_id}")));
    }
    let taken = infrastructure::Entity::find()
        .filter(infrastructure::Column::AccountId.eq(ctx.caller.account_id))
        .filter(infrastructure::Column::Label.eq(&label))
        .filter(infrastructure::Column::ServiceStatus.ne(ServiceStatus::Deleted.as_str()))
        .count(&txn)
        .await?;
    if taken > 0 {
        return Err(ApiError::conflict(format!("label: your account has an infrastructure {label:?} already")));
    }
    user_limits::refuse_infrastructure(&txn, ctx.caller.user_id).await?;
    let mut row = infrastructure::new();
    row.design = Set(json!({
        "label": label, "customVariables": ctx.body.get("customVariables").cloned().unwrap_or_else(|| json!({})), "meta": ctx.body.get("meta").cloned().unwrap_or_else(|| json!({})),
    }));
    row.label = Set(label.clone());
    row.site_id = Set(site_id);
    row.owner_id = Set(ctx.caller.user_id);
    row.account_id = Set(ctx.caller.account_id);
    row.service_status = Set(ServiceStatus::Ordered.as_str().into());
    row.deploy_type = Set(DeployType::Create.as_str().into());
    row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
    row.deploy_id = Set(None);
    row.generation = Set(0);
    row.locked = Set(false);
    row.deployed = Set(json!({}));
    row.layout = Set(json!({}));
    row.last_error = Set(None);
    row.job_group_id = Set(None);
    let made = row.insert(&txn).await?;
    record(
        &ctx,
        &txn,
        "infrastructure.create",
        format!("Infrastructure {label} created"),
        ("infrastructure", made.id),
        json!({"siteId": site_id}),
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&made, None), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find_editable(&ctx, &txn, ctx.id("infrastructureId")?).await?;
    ctx.check_revision(found.revision)?;
    let mut row = found.edit();
    let mut design = found.design.clone();
    if let Some(label) = ctx.text("label") {
        let label = model::validate::label("label", label)?;
        if found.service_status == ServiceStatus::Ordered.as_str() {
            row.label = Set(label.clone());
        }
        design["label"] = label.into();
    }
    if let Some(variables) = ctx.body.get("customVariables") {
        design["customVariables"] = variables.clone();
    }
    row.design = Set(design);
    // A change of one that was marked for deletion keeps it.
    let never = found.service_status == ServiceStatus::Ordered.as_str();
    row.deploy_type = Set(if never { DeployType::Create } else { DeployType::Edit }.as_str().into());
    row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    record(
        &ctx,
        &txn,
        "infrastructure.edit",
        format!("Infrastructure {} changed", after.label),
        ("infrastructure", after.id),
        json!({"before": found.design, "after": after.design}),
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire_one(&ctx, &after).await?, after.revision))
}

/// One that was never deployed goes at once; any other is marked, and goes with its next deploy.
async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find_editable(&ctx, &txn, ctx.id("infrastructureId")?).await?;
    ctx.check_revision(found.revision)?;
    if revert::holds_nothing(&txn, &found).await? {
        let groups: Vec<Id> = server_instance_group::Entity::find()
            .select_only()
            .column(server_instance_group::Column::Id)
            .filter(server_instance_group::Column::InfrastructureId.eq(found.id))
            .into_tuple()
            .all(&txn)
            .await?;
        network_connection::Entity::delete_many()
            .filter(network_connection::Column::GroupId.is_in(groups))
            .exec(&txn)
            .await?;
        server_instance::Entity::delete_many()
            .filter(server_instance::Column::InfrastructureId.eq(found.id))
            .exec(&txn)
            .await?;
        server_instance_group::Entity::delete_many()
            .filter(server_instance_group::Column::InfrastructureId.eq(found.id))
            .exec(&txn)
            .await?;
        logical_network::Entity::delete_many()
            .filter(logical_network::Column::InfrastructureId.eq(found.id))
            .exec(&txn)
            .await?;
        storage::remove_all(&txn, found.id).await?;
        infrastructure_user::Entity::delete_many()
            .filter(infrastructure_user::Column::InfrastructureId.eq(found.id))
            .exec(&txn)
            .await?;
        infrastructure::Entity::delete_by_id(found.id).exec(&txn).await?;
    } else {
        let mut row = found.edit();
        row.deploy_type = Set(DeployType::Delete.as_str().into());
        row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
        cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    }
    record(
        &ctx,
        &txn,
        "infrastructure.delete",
        format!("Infrastructure {} deleted", found.label),
        ("infrastructure", found.id),
        json!({}),
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

async fn layout(ctx: Ctx) -> Result<Reply, ApiError> {
    Ok(Reply::Json(find(&ctx, &ctx.app.db().read, ctx.id("infrastructureId")?).await?.layout))
}

/// Where cards are on the canvas: never a change of the design, so no revision either.
async fn put_layout(ctx: Ctx) -> Result<Reply, ApiError> {
    if ctx.raw.len() > MAX_LAYOUT {
        return Err(ApiError::bad_request(format!("the layout is larger than {MAX_LAYOUT} bytes")));
    }
    let layout: Value =
        serde_json::from_slice(&ctx.raw).map_err(|e| ApiError::bad_request(format!("the layout is not JSON: {e}")))?;
    let found = find(&ctx, &ctx.app.db().read, ctx.id("infrastructureId")?).await?;
    let mut row: infrastructure::ActiveModel = infrastructure::ActiveModel { id: Set(found.id), ..Default::default() };
    row.layout = Set(layout.clone());
    row.update(&ctx.app.db().write).await?;
    Ok(Reply::Json(layout))
}

async fn members(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read, ctx.id("infrastructureId")?).await?;
    let shared = infrastructure_user::Entity::find()
        .select_only()
        .column(infrastructure_user::Column::UserId)
        .filter(infrastructure_user::Column::InfrastructureId.eq(found.id));
    let select = user::Entity::find().filter(
        Condition::any()
            .add(user::Column::Id.eq(found.owner_id))
            .add(user::Column::Id.in_subquery(shared.into_query())),
    );
    Ok(Reply::Json(list(&ctx, select, &[], &[user::Column::Email], user::Column::Id, users::wire).await?))
}

async fn add_member(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read, ctx.id("infrastructureId")?).await?;
    let key = ["email", "userEmail"].into_iter().find(|k| ctx.has(k)).unwrap_or("email");
    let email = ctx.need_text(key)?.trim().to_lowercase();
    let txn = ctx.app.db().begin().await?;
    let member = user::Entity::find()
        .filter(user::Column::Email.eq(&email))
        .one(&txn)
        .await?
        .ok_or_else(|| ApiError::field(key, format!("there is no user {email:?}")))?;
    let mut row = infrastructure_user::new();
    row.infrastructure_id = Set(found.id);
    row.user_id = Set(member.id);
    row.insert(&txn).await?;
    record(
        &ctx,
        &txn,
        "infrastructure.share",
        format!("Infrastructure {} shared with {email}", found.label),
        ("infrastructure", found.id),
        json!({"userId": member.id}),
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

async fn remove_member(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read, ctx.id("infrastructureId")?).await?;
    let user_id = ctx.id("userId")?;
    let txn = ctx.app.db().begin().await?;
    let gone = infrastructure_user::Entity::delete_many()
        .filter(infrastructure_user::Column::InfrastructureId.eq(found.id))
        .filter(infrastructure_user::Column::UserId.eq(user_id))
        .exec(&txn)
        .await?;
    if gone.rows_affected == 0 {
        return Err(ApiError::not_found("user of this infrastructure", user_id));
    }
    record(
        &ctx,
        &txn,
        "infrastructure.unshare",
        format!("Infrastructure {} no longer shared with user {user_id}", found.label),
        ("infrastructure", found.id),
        json!({}),
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
