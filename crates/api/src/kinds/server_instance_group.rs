//! Server instance groups: so many servers of a type, with an operating system.

use model::{
    Id,
    deploy::{DeployStatus, DeployType, ServiceStatus},
};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter,
};
use serde_json::{Value, json};
use store::{
    entity::{
        network_connection, os_template, resource_pool, server_instance, server_instance_group as group, server_type,
    },
    list::{Revisioned, cas},
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{
        infrastructure, list,
        os_template::visible,
        record,
        user_limits::{Limit, refuse_group, refuse_more},
    },
    planning::storage,
    routes,
};

routes! {
    "getInfrastructureServerInstanceGroups" => groups,
    "createServerInstanceGroup" => create,
    "getServerInstanceGroup" => one,
    "getServerInstanceGroupConfig" => config,
    "updateServerInstanceGroupConfig" => update,
    "deleteServerInstanceGroup" => delete,
}

/// Servers of one group at most.
const MAX_COUNT: i64 = 10_000;
/// Fields of the design that clients may set, all kept as they came.
const FIELDS: &[&str] = &[
    "instanceCount",
    "defaultServerTypeId",
    "osTemplateId",
    "hostname",
    "customVariables",
    "serverGroupName",
    "defaultCustomStorageProfile",
    "firmwarePolicyIds",
    "resourcePoolId",
    "serverFilteringRules",
    "ipAllocateAuto",
    "ipv4SubnetCreateAuto",
    "processorCount",
    "processorCoreCount",
    "processorCoreMhz",
    "ramGbytes",
    "diskCount",
    "diskSizeMbytes",
    "diskTypes",
    "virtualInterfacesEnabled",
];

fn block(design: &Value) -> Value {
    let mut all = json!({
        "instanceCount": 1, "ipAllocateAuto": 1, "ipv4SubnetCreateAuto": 1, "processorCount": 0, "processorCoreCount": 0, "processorCoreMhz": 0, "ramGbytes": 0, "diskCount": 0,
        "diskSizeMbytes": 0, "diskTypes": [], "virtualInterfacesEnabled": 0, "firmwarePolicyIds": [], "customVariables": {},
    });
    for field in FIELDS {
        if let Some(v) = design.get(*field).filter(|v| !v.is_null()) {
            all[*field] = v.clone();
        }
    }
    all["label"] = design["label"].clone();
    // Clients dereference it without a look.
    if !all["serverGroupName"].is_string() {
        all["serverGroupName"] = design["label"].clone();
    }
    all
}

/// The wire form.
pub fn wire(g: &group::Model) -> Value {
    let mut config = block(&g.design);
    config["revision"] = g.revision.into();
    config["updatedTimestamp"] = g.updated_at.clone().into();
    config["deployType"] = g.deploy_type.clone().into();
    config["deployStatus"] = g.deploy_status.clone().into();
    config["infrastructureDeployId"] = json!(g.deploy_id);
    let mut all = block(if g.deployed.get("label").is_some() { &g.deployed } else { &g.design });
    for (key, value) in [
        ("id", json!(g.id)),
        ("revision", json!(g.revision)),
        ("label", json!(g.label)),
        ("createdTimestamp", json!(g.created_at)),
        ("updatedTimestamp", json!(g.updated_at)),
        ("infrastructureId", json!(g.infrastructure_id)),
        ("serviceStatus", json!(g.service_status)),
        ("isVmGroup", json!(0)),
        ("isEndpointInstanceGroup", json!(0)),
        ("meta", g.meta.clone().unwrap_or_else(|| json!({}))),
        ("config", config),
        ("links", json!([])),
    ] {
        all[key] = value;
    }
    all
}

/// A group that the caller may see.
pub async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<group::Model, ApiError> {
    let id = ctx.id("serverInstanceGroupId")?;
    let found =
        group::Entity::find_by_id(id).one(db).await?.ok_or_else(|| ApiError::not_found("server instance group", id))?;
    infrastructure::find(ctx, db, found.infrastructure_id)
        .await
        .map_err(|_| ApiError::not_found("server instance group", id))?;
    Ok(found)
}

/// Takes the body over into a design and checks what it names.
async fn read<C: ConnectionTrait>(ctx: &Ctx, db: &C, design: &mut Value) -> Result<(), ApiError> {
    ctx.refuse_others(&[FIELDS, &["label"]].concat())?;
    for field in FIELDS {
        if let Some(value) = ctx.body.get(*field) {
            design[*field] = value.clone();
        }
    }
    if let Some(label) = ctx.text("label") {
        design["label"] = model::validate::label("label", label)?.into();
    }
    if let Some(count) = ctx.int("instanceCount") {
        if !(0..=MAX_COUNT).contains(&count) {
            return Err(ApiError::field("instanceCount", format!("{count} is not between 0 and {MAX_COUNT}")));
        }
        design["instanceCount"] = count.into();
    }
    if let Some(hostname) = ctx.text("hostname").filter(|h| !h.is_empty()) {
        let plain =
            ["{index}", "{id}", "{label}", "{group}"].iter().fold(hostname.to_owned(), |t, p| t.replace(p, "x"));
        model::validate::hostname("hostname", &plain)?;
    }
    if let Some(id) = ctx.int("defaultServerTypeId")
        && server_type::Entity::find_by_id(id).one(db).await?.is_none()
    {
        return Err(ApiError::field("defaultServerTypeId", format!("there is no server type {id}")));
    }
    if let Some(id) = ctx.int("resourcePoolId").filter(|id| *id > 0)
        && resource_pool::Entity::find_by_id(id).one(db).await?.is_none()
    {
        return Err(ApiError::field("resourcePoolId", format!("there is no resource pool {id}")));
    }
    if let Some(id) = ctx.int("osTemplateId")
        && visible(ctx).filter(os_template::Column::Id.eq(id)).one(db).await?.is_none()
    {
        return Err(ApiError::field(
            "osTemplateId",
            format!("there is no OS template {id}, or it is not yours to see"),
        ));
    }
    Ok(())
}

/// What the next deploy does with these instances.
async fn mark<C: ConnectionTrait>(db: &C, ids: &[Id], what: DeployType) -> Result<(), ApiError> {
    for chunk in ids.chunks(500) {
        server_instance::Entity::update_many()
            .col_expr(server_instance::Column::DeployType, Expr::val(what.as_str()))
            .col_expr(server_instance::Column::DeployStatus, Expr::val(DeployStatus::NotStarted.as_str()))
            .col_expr(server_instance::Column::UpdatedAt, Expr::val(store::time::now()))
            .col_expr(server_instance::Column::Revision, Expr::col(server_instance::Column::Revision).add(1))
            .filter(server_instance::Column::Id.is_in(chunk.to_vec()))
            .exec(db)
            .await?;
    }
    Ok(())
}

/// The group has as many instances as its design says: new ones are added, surplus ones that were never deployed go at once, deployed ones are marked.
pub async fn sync_instances<C: ConnectionTrait>(db: &C, g: &group::Model) -> Result<(), ApiError> {
    let wanted = g.design["instanceCount"].as_i64().unwrap_or(1);
    let mut rows = server_instance::Entity::find()
        .filter(server_instance::Column::GroupId.eq(g.id))
        .filter(server_instance::Column::ServiceStatus.ne(ServiceStatus::Deleted.as_str()))
        .all(db)
        .await?;
    let mut next = rows.iter().map(|i| i.position).max().map_or(1, |p| p + 1);
    // Those that somebody picked to go stay marked as long as others are enough.
    rows.sort_by_key(|i| (i.deploy_type == DeployType::Delete.as_str(), i.position));
    let (kept, surplus) = rows.split_at(rows.len().min(usize::try_from(wanted).unwrap_or(0)));
    let keep = kept.len() as i64;
    let marked = |i: &&server_instance::Model| i.deploy_type == DeployType::Delete.as_str();
    let never_deployed =
        |i: &&server_instance::Model| i.service_status == ServiceStatus::Ordered.as_str() && i.server_id.is_none();
    let ids = |list: Vec<&server_instance::Model>| list.into_iter().map(|i| i.id).collect::<Vec<Id>>();
    mark(db, &ids(kept.iter().filter(marked).collect()), DeployType::Edit).await?;
    mark(db, &ids(surplus.iter().filter(|i| !never_deployed(i) && !marked(i)).collect()), DeployType::Delete).await?;
    for chunk in ids(surplus.iter().filter(never_deployed).collect()).chunks(500) {
        let gone = server_instance::Column::Id.is_in(chunk.to_vec());
        server_instance::Entity::delete_many().filter(gone).exec(db).await?;
    }
    let fresh: Vec<server_instance::ActiveModel> = (keep..wanted)
        .map(|_| {
            let mut row = server_instance::new();
            row.infrastructure_id = Set(g.infrastructure_id);
            row.group_id = Set(g.id);
            row.label = Set(format!("{}-{next}", g.label));
            row.position = Set(next);
            row.service_status = Set(ServiceStatus::Ordered.as_str().into());
            row.deploy_type = Set(DeployType::Create.as_str().into());
            row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
            row.deploy_id = Set(None);
            row.server_id = Set(None);
            row.hostname = Set(None);
            row.os_template_id = Set(None);
            row.server_type_id = Set(None);
            row.username = Set(None);
            row.password = Set(None);
            row.addresses = Set(json!([]));
            row.network_config = Set(json!({}));
            row.deployed = Set(json!({}));
            row.extra = Set(json!({}));
            next += 1;
            row
        })
        .collect();
    for chunk in fresh.chunks(200) {
        server_instance::Entity::insert_many(chunk.to_vec()).exec_without_returning(db).await?;
    }
    Ok(())
}

/// Instances that were never deployed are called after their group, also when it gets another name. One that was given a name keeps it.
async fn rename_instances<C: ConnectionTrait>(db: &C, group_id: Id, old: &str, new: &str) -> Result<(), ApiError> {
    let rows = server_instance::Entity::find()
        .filter(server_instance::Column::GroupId.eq(group_id))
        .filter(server_instance::Column::ServiceStatus.eq(ServiceStatus::Ordered.as_str()))
        .filter(server_instance::Column::ServerId.is_null())
        .all(db)
        .await?;
    for row in rows.iter().filter(|i| i.label == format!("{old}-{}", i.position)) {
        let mut edit = row.edit();
        edit.label = Set(format!("{new}-{}", row.position));
        edit.update(db).await?;
    }
    Ok(())
}

async fn groups(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = infrastructure::find(&ctx, &ctx.app.db().read, ctx.id("infrastructureId")?).await?;
    let select = group::Entity::find()
        .filter(group::Column::InfrastructureId.eq(of.id))
        .filter(group::Column::ServiceStatus.ne(ServiceStatus::Deleted.as_str()));
    Ok(Reply::Json(list(&ctx, select, &[], &[group::Column::Label], group::Column::Id, wire).await?))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

async fn config(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found)["config"].clone(), found.revision))
}

async fn unique<C: ConnectionTrait>(db: &C, infrastructure_id: Id, label: &str, but: Id) -> Result<(), ApiError> {
    let taken = group::Entity::find()
        .filter(group::Column::InfrastructureId.eq(infrastructure_id))
        .filter(group::Column::Label.eq(label))
        .filter(group::Column::Id.ne(but))
        .filter(group::Column::ServiceStatus.ne(ServiceStatus::Deleted.as_str()))
        .count(db)
        .await?;
    if taken > 0 {
        Err(ApiError::conflict(format!("label: the infrastructure has a group {label:?} already")))
    } else {
        Ok(())
    }
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let of = infrastructure::find_editable(&ctx, &txn, ctx.id("infrastructureId")?).await?;
    let mut design = json!({"instanceCount": 1});
    read(&ctx, &txn, &mut design).await?;
    if design.get("label").is_none() {
        let n = group::Entity::find().filter(group::Column::InfrastructureId.eq(of.id)).count(&txn).await?;
        design["label"] = format!("group-{}", n + 1).into();
    }
    let label = design["label"].as_str().unwrap_or_default().to_owned();
    unique(&txn, of.id, &label, 0).await?;
    refuse_group(&txn, &of).await?;
    if let Some(count) = ctx.int("instanceCount") {
        refuse_more(&txn, of.owner_id, Limit::Instances, count).await?;
    }
    let mut row = group::new();
    row.infrastructure_id = Set(of.id);
    row.label = Set(label.clone());
    row.service_status = Set(ServiceStatus::Ordered.as_str().into());
    row.deploy_type = Set(DeployType::Create.as_str().into());
    row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
    row.deploy_id = Set(None);
    row.design = Set(design);
    row.deployed = Set(json!({}));
    let made = row.insert(&txn).await?;
    sync_instances(&txn, &made).await?;
    infrastructure::touch(&txn, &of).await?;
    record(
        &ctx,
        &txn,
        "server_instance_group.create",
        format!("Group {label} added to {}", of.label),
        ("server_instance_group", made.id),
        json!({"after": made.design}),
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    let of = infrastructure::find_editable(&ctx, &txn, found.infrastructure_id).await?;
    ctx.check_revision(found.revision)?;
    let mut design = found.design.clone();
    read(&ctx, &txn, &mut design).await?;
    let label = design["label"].as_str().unwrap_or(&found.label).to_owned();
    unique(&txn, of.id, &label, found.id).await?;
    if let Some(count) = ctx.int("instanceCount").filter(|n| *n > found.design["instanceCount"].as_i64().unwrap_or(1)) {
        refuse_more(&txn, of.owner_id, Limit::Instances, count).await?;
    }
    let mut row = found.edit();
    row.label = Set(label.clone());
    row.design = Set(design);
    // A change of one that was marked for deletion keeps it.
    let never = found.service_status == ServiceStatus::Ordered.as_str();
    row.deploy_type = Set(match DeployType::parse(&found.deploy_type) {
        _ if never => DeployType::Create,
        // One that is about to be stopped or started still is.
        Some(pending @ (DeployType::Stop | DeployType::Start | DeployType::Suspend))
            if found.deploy_status == DeployStatus::NotStarted.as_str() =>
        {
            pending
        }
        _ => DeployType::Edit,
    }
    .as_str()
    .into());
    row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    if never && label != found.label {
        rename_instances(&txn, found.id, &found.label, &label).await?;
    }
    sync_instances(&txn, &after).await?;
    infrastructure::touch(&txn, &of).await?;
    record(
        &ctx,
        &txn,
        "server_instance_group.edit",
        format!("Group {} of {} changed", after.label, of.label),
        ("server_instance_group", after.id),
        json!({"before": found.design, "after": after.design}),
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&after)["config"].clone(), after.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    let of = infrastructure::find_editable(&ctx, &txn, found.infrastructure_id).await?;
    ctx.check_revision(found.revision)?;
    // A cancelled deploy may have left servers with a group that was never deployed.
    let reserved = server_instance::Entity::find()
        .filter(server_instance::Column::GroupId.eq(found.id))
        .filter(server_instance::Column::ServerId.is_not_null())
        .count(&txn)
        .await?;
    if found.service_status == ServiceStatus::Ordered.as_str() && reserved == 0 {
        network_connection::Entity::delete_many()
            .filter(network_connection::Column::GroupId.eq(found.id))
            .exec(&txn)
            .await?;
        server_instance::Entity::delete_many().filter(server_instance::Column::GroupId.eq(found.id)).exec(&txn).await?;
        group::Entity::delete_by_id(found.id).exec(&txn).await?;
        storage::forget_group(&txn, of.id, found.id).await?;
    } else {
        let mut row = found.edit();
        row.deploy_type = Set(DeployType::Delete.as_str().into());
        row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
        cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    }
    infrastructure::touch(&txn, &of).await?;
    record(
        &ctx,
        &txn,
        "server_instance_group.delete",
        format!("Group {} of {} deleted", found.label, of.label),
        ("server_instance_group", found.id),
        json!({"before": found.design}),
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
