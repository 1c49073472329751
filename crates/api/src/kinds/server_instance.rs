//! Server instances: the servers of a group, logical.

use std::collections::{BTreeMap, HashMap};

use engine::entity::job;
use model::{
    Id,
    deploy::{DeployStatus, DeployType, ServiceStatus},
    job::JobStatus,
    order::{Order, ServerInstall},
    secret::Sealed,
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    Select,
};
use serde_json::{Map, Value, json};
use store::{
    entity::{infrastructure, server, server_instance as instance, server_instance_group as group, ssh_key},
    list::{ListQuery, Page, Revisioned, cas},
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{MAX_ROWS, infrastructure as infrastructures, record, server_instance_group, user_limits},
    planning::load,
    routes,
};

routes! {
    "getInfrastructureServerInstances" => of_infrastructure,
    "getServerInstanceGroupServerInstances" => of_group,
    "getServerInstances" => all,
    "getServerInstanceStatistics" => statistics,
    "getServerInstance" => one,
    "getServerInstanceConfig" => config,
    "updateServerInstanceConfig" => update,
    "createServerInstance" => create,
    "deleteServerInstance" => delete,
    "getServerInstanceCredentials" => credentials,
    "reinstallServerInstanceOS" => reinstall,
}

/// What other tables know of instances.
#[derive(Default)]
struct Around {
    servers: HashMap<Id, (Option<String>, Option<String>)>,
    /// Why the newest installation failed, by instance.
    failures: HashMap<Id, String>,
}

impl Around {
    async fn load<C: ConnectionTrait>(db: &C, rows: &[instance::Model]) -> Result<Self, ApiError> {
        let ids: Vec<Id> = rows.iter().filter_map(|i| i.server_id).collect();
        if ids.is_empty() {
            return Ok(Self::default());
        }
        let servers = server::Entity::find()
            .select_only()
            .columns([server::Column::Id, server::Column::Vendor, server::Column::Model])
            .filter(server::Column::Id.is_in(ids))
            .into_tuple::<(i64, Option<String>, Option<String>)>()
            .all(db)
            .await?;
        let mut failures = HashMap::new();
        let installs = job::Entity::find()
            .select_only()
            .columns([job::Column::InstanceId, job::Column::Status, job::Column::Error])
            .filter(job::Column::InfrastructureId.is_in(rows.iter().map(|i| i.infrastructure_id)))
            .filter(job::Column::InstanceId.is_in(rows.iter().map(|i| i.id)))
            .filter(job::Column::Function.eq(ServerInstall::NAME))
            .order_by_asc(job::Column::Id)
            .into_tuple::<(Option<i64>, String, Option<String>)>()
            .all(db)
            .await?;
        for (id, status, error) in installs {
            let Some(id) = id else { continue };
            failures.remove(&id);
            if let Some(error) = error.filter(|_| status == JobStatus::ThrownError.as_str()) {
                failures.insert(id, error);
            }
        }
        Ok(Self { servers: servers.into_iter().map(|(id, vendor, model)| (id, (vendor, model))).collect(), failures })
    }
}

/// The word of the interface for a vendor.
fn vendor_word(vendor: &str) -> &'static str {
    let vendor = vendor.to_ascii_lowercase();
    [
        ("dell", "Dell"),
        ("lenovo", "Lenovo"),
        ("hpe", "HPE"),
        ("hewlett", "HPE"),
        ("hp", "HP"),
        ("supermicro", "Supermicro"),
        ("super micro", "Supermicro"),
        ("nvidia", "NVIDIA"),
        ("cisco", "Cisco"),
    ]
    .iter()
    .find(|(word, _)| vendor.starts_with(word))
    .map_or("Unknown", |(_, name)| name)
}

/// Netplan by kinds of interface.
fn network_config(config: &Value) -> Value {
    let part = |name: &str| config.get(name).cloned().unwrap_or_else(|| json!({}));
    json!({
        "physicalInterfaceNetworkConfigs": part("ethernets"), "bondNetworkConfigs": part("bonds"), "trunkNetworkConfigs": part("vlans"),
    })
}

fn wire(i: &instance::Model, around: &Around) -> Value {
    // While a deploy goes on, what it makes of the instance is shown where nothing is deployed yet.
    let planned = load::planned(&i.extra);
    let fresh = load::deployed(i).is_none();
    let hostname = i.hostname.clone().or_else(|| planned.as_ref().map(|p| p.hostname.clone()));
    let netplan = match &planned {
        Some(p) if fresh => &p.network_config,
        _ => &i.network_config,
    };
    let addresses: Vec<&Value> = i.addresses.as_array().into_iter().flatten().map(|a| &a["address"]).collect();
    let server = i.server_id.map(|id| {
        let (vendor, model) = around.servers.get(&id).cloned().unwrap_or_default();
        json!({"id": id, "vendor": vendor_word(vendor.as_deref().unwrap_or("")), "model": model})
    });
    let config = json!({
        "revision": i.revision, "label": i.label, "updatedTimestamp": i.updated_at, "groupId": i.group_id, "serverTypeId": i.server_type_id, "serverId": i.server_id,
        "hostname": hostname, "osTemplateId": i.os_template_id, "deployType": i.deploy_type, "deployStatus": i.deploy_status, "infrastructureDeployId": i.deploy_id,
    });
    json!({
        "id": i.id, "revision": i.revision, "label": i.label, "createdTimestamp": i.created_at, "updatedTimestamp": i.updated_at, "infrastructureId": i.infrastructure_id,
        "groupId": i.group_id, "serverTypeId": i.server_type_id, "serverId": i.server_id, "hostname": hostname, "osTemplateId": i.os_template_id, "serviceStatus": i.service_status,
        "osReinstallRequired": i32::from(i.extra["reinstall"] == true || i.extra["broken"] == true), "osInstallError": around.failures.get(&i.id), "isVmInstance": 0, "isEndpointInstance": 0, "meta": {"addresses": addresses, "tags": i.extra["meta"]["tags"].as_array()}, "addresses": i.addresses, "config": config, "links": [],
        "allocatedServerInfo": server, "allocatedNetworkConfig": (netplan.get("version").is_some()).then(|| network_config(netplan)),
    })
}

/// An instance that the caller may see, with its infrastructure.
pub async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<(instance::Model, infrastructure::Model), ApiError> {
    let id = ctx.id("serverInstanceId")?;
    let none = || ApiError::not_found("server instance", id);
    let found = instance::Entity::find_by_id(id).one(db).await?.ok_or_else(none)?;
    let of = infrastructures::find(ctx, db, found.infrastructure_id).await.map_err(|_| none())?;
    Ok((found, of))
}

/// Instances of infrastructures that the caller may see.
pub fn visible(ctx: &Ctx) -> Select<instance::Entity> {
    let own = infrastructures::visible(ctx).select_only().column(infrastructure::Column::Id);
    instance::Entity::find().filter(instance::Column::InfrastructureId.in_subquery(own.into_query()))
}

async fn page(ctx: &Ctx, select: Select<instance::Entity>) -> Result<Reply, ApiError> {
    let query = ListQuery::parse(&ctx.query, MAX_ROWS)?;
    let db = &ctx.app.db().read;
    let search = [instance::Column::Label, instance::Column::Hostname];
    let Page { rows, total } = query.run(db, select, &[], &search, instance::Column::Id).await?;
    let around = Around::load(db, &rows).await?;
    Ok(Reply::Json(query.body(ctx.operation.path, total, rows.iter().map(|i| wire(i, &around)).collect())))
}

async fn of_infrastructure(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = infrastructures::find(&ctx, &ctx.app.db().read, ctx.id("infrastructureId")?).await?;
    page(&ctx, instance::Entity::find().filter(instance::Column::InfrastructureId.eq(of.id))).await
}

async fn of_group(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = server_instance_group::find(&ctx, &ctx.app.db().read).await?;
    page(&ctx, instance::Entity::find().filter(instance::Column::GroupId.eq(of.id))).await
}

async fn all(ctx: Ctx) -> Result<Reply, ApiError> {
    page(&ctx, visible(&ctx)).await
}

/// Counts of instances by status, and by site.
async fn statistics(ctx: Ctx) -> Result<Reply, ApiError> {
    let rows = visible(&ctx)
        .select_only()
        .columns([instance::Column::ServiceStatus, instance::Column::InfrastructureId])
        .column_as(instance::Column::Id.count(), "n")
        .group_by(instance::Column::ServiceStatus)
        .group_by(instance::Column::InfrastructureId)
        .into_tuple::<(String, i64, i64)>()
        .all(&ctx.app.db().read)
        .await?;
    let sites: HashMap<Id, Id> = infrastructures::visible(&ctx)
        .select_only()
        .columns([infrastructure::Column::Id, infrastructure::Column::SiteId])
        .into_tuple::<(i64, i64)>()
        .all(&ctx.app.db().read)
        .await?
        .into_iter()
        .collect();
    let (mut by_status, mut by_site): (BTreeMap<String, i64>, BTreeMap<String, i64>) = Default::default();
    for (status, of, n) in rows {
        *by_status.entry(status).or_default() += n;
        if let Some(site) = sites.get(&of) {
            *by_site.entry(site.to_string()).or_default() += n;
        }
    }
    Ok(Reply::Json(json!({"serverStatus": by_status, "site": by_site})))
}

pub(crate) async fn wire_one<C: ConnectionTrait>(db: &C, found: &instance::Model) -> Result<Value, ApiError> {
    let around = Around::load(db, std::slice::from_ref(found)).await?;
    Ok(wire(found, &around))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let (found, _) = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire_one(&ctx.app.db().read, &found).await?, found.revision))
}

async fn config(ctx: Ctx) -> Result<Reply, ApiError> {
    let (found, _) = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire_one(&ctx.app.db().read, &found).await?["config"].clone(), found.revision))
}

/// An instance for a change of the design.
async fn editable<C: ConnectionTrait>(
    ctx: &Ctx,
    txn: &C,
) -> Result<(instance::Model, infrastructure::Model), ApiError> {
    let (found, of) = find(ctx, txn).await?;
    let of = infrastructures::find_editable(ctx, txn, of.id).await?;
    ctx.check_revision(found.revision)?;
    Ok((found, of))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    ctx.refuse_others(&["label"])?;
    let label = model::validate::label("label", ctx.need_text("label")?)?;
    let txn = ctx.app.db().begin().await?;
    let (found, of) = editable(&ctx, &txn).await?;
    let mut row = found.edit();
    row.label = Set(label.clone());
    row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    infrastructures::touch(&txn, &of).await?;
    let object = ("server_instance", after.id);
    let title = format!("Server {} of {} is now called {label}", found.label, of.label);
    record(&ctx, &txn, "server_instance.edit", title, object, json!({"before": found.label, "after": label})).await?;
    let answer = wire_one(&txn, &after).await?["config"].clone();
    txn.commit().await?;
    Ok(Reply::Tagged(answer, after.revision))
}

/// One more of a group, which says what it is.
async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    ctx.refuse_others(&["groupId", "label"])?;
    let group_id = ctx.need_int("groupId")?;
    let label = ctx.text("label").map(|l| model::validate::label("label", l)).transpose()?;
    let txn = ctx.app.db().begin().await?;
    let of = infrastructures::find_editable(&ctx, &txn, ctx.id("infrastructureId")?).await?;
    let group = group::Entity::find_by_id(group_id).one(&txn).await?.filter(|g| g.infrastructure_id == of.id);
    let group = group.ok_or_else(|| ApiError::field("groupId", format!("{} has no group {group_id}", of.label)))?;
    if group.deploy_type == DeployType::Delete.as_str() {
        return Err(ApiError::conflict(format!("groupId: group {} is marked for deletion", group.label)));
    }
    let mut design = group.design.clone();
    let count = design["instanceCount"].as_i64().unwrap_or(1) + 1;
    user_limits::refuse_more(&txn, of.owner_id, user_limits::Limit::Instances, count).await?;
    design["instanceCount"] = count.into();
    let mut row = group.edit();
    row.design = Set(design);
    row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
    if group.service_status != ServiceStatus::Ordered.as_str() {
        row.deploy_type = Set(DeployType::Edit.as_str().into());
    }
    let group = cas(&txn, &group, row).await?.ok_or_else(|| ApiError::stale(group.revision + 1))?;
    server_instance_group::sync_instances(&txn, &group).await?;
    infrastructures::touch(&txn, &of).await?;
    let newest = instance::Entity::find().filter(instance::Column::GroupId.eq(group.id));
    let newest = newest.order_by_desc(instance::Column::Position).one(&txn).await?;
    let mut made = newest.ok_or_else(|| ApiError::internal("a group without the instance that was added to it"))?;
    if let Some(label) = label {
        let mut row = made.edit();
        row.label = Set(label);
        made = cas(&txn, &made, row).await?.ok_or_else(|| ApiError::stale(made.revision + 1))?;
    }
    let title = format!("Server {} added to {}", made.label, of.label);
    record(&ctx, &txn, "server_instance.create", title, ("server_instance", made.id), json!({"groupId": group.id}))
        .await?;
    let answer = wire_one(&txn, &made).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(answer, made.revision))
}

/// This one goes, whichever its number: its group gets one smaller.
async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let (found, of) = editable(&ctx, &txn).await?;
    let group = group::Entity::find_by_id(found.group_id)
        .one(&txn)
        .await?
        .ok_or_else(|| ApiError::not_found("server instance group", found.group_id))?;
    if found.deploy_type == DeployType::Delete.as_str() {
        return Err(ApiError::conflict(format!("server {} is marked for deletion already", found.label)));
    }
    if found.service_status == ServiceStatus::Ordered.as_str() && found.server_id.is_none() {
        instance::Entity::delete_by_id(found.id).exec(&txn).await?;
    } else {
        let mut row = found.edit();
        row.deploy_type = Set(DeployType::Delete.as_str().into());
        row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
        cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    }
    let mut row = group.edit();
    let mut design = group.design.clone();
    design["instanceCount"] = (group.design["instanceCount"].as_i64().unwrap_or(1) - 1).max(0).into();
    row.design = Set(design);
    if group.service_status != ServiceStatus::Ordered.as_str() && group.deploy_type != DeployType::Delete.as_str() {
        row.deploy_type = Set(DeployType::Edit.as_str().into());
    }
    row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
    cas(&txn, &group, row).await?.ok_or_else(|| ApiError::stale(group.revision + 1))?;
    infrastructures::touch(&txn, &of).await?;
    let object = ("server_instance", found.id);
    record(
        &ctx,
        &txn,
        "server_instance.delete",
        format!("Server {} of {} deleted", found.label, of.label),
        object,
        json!({}),
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

/// A new installation with the next deploy, or (`reinstallOS` false) none.
async fn reinstall(ctx: Ctx) -> Result<Reply, ApiError> {
    let wanted = ctx.flag("reinstallOS").unwrap_or(true);
    let txn = ctx.app.db().begin().await?;
    let (found, of) = editable(&ctx, &txn).await?;
    if load::deployed(&found).is_none() {
        return Err(ApiError::conflict(format!("server {} is not deployed yet: its deploy installs it", found.label)));
    }
    let mut row = found.edit();
    let mut extra: Map<String, Value> = found.extra.as_object().cloned().unwrap_or_default();
    if wanted {
        extra.insert("reinstall".into(), true.into());
    } else {
        extra.remove("reinstall");
    }
    row.extra = Set(Value::Object(extra));
    row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
    cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    infrastructures::touch(&txn, &of).await?;
    let words = if wanted { "will be installed anew by the next deploy" } else { "will not be installed anew" };
    let title = format!("Server {} of {} {words}", found.label, of.label);
    record(&ctx, &txn, "server_instance.reinstall", title, ("server_instance", found.id), json!({"reinstall": wanted}))
        .await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

/// The password that was made at installation. Who looked is written down.
async fn credentials(ctx: Ctx) -> Result<Reply, ApiError> {
    let (found, of) = find(&ctx, &ctx.app.db().read).await?;
    let password = match &found.password {
        Some(sealed) => Some(ctx.app.sealer().open(&Sealed(sealed.clone())).map_err(ApiError::internal)?.0),
        None => None,
    };
    let keys = ssh_key::Entity::find()
        .filter(ssh_key::Column::UserId.eq(of.owner_id))
        .filter(ssh_key::Column::Status.ne("deleted"))
        .order_by_asc(ssh_key::Column::Id)
        .all(&ctx.app.db().read)
        .await?;
    let keys = keys.into_iter().map(|k| k.public_key).collect::<Vec<_>>().join("\n");
    let title = format!("Credentials of server {} of {} read", found.label, of.label);
    let object = ("server_instance", found.id);
    record(&ctx, &ctx.app.db().write, "server_instance.credentials_read", title, object, json!({})).await?;
    Ok(Reply::Json(json!({
        "username": found.username, "initialPassword": password, "publicSshKey": (!keys.is_empty()).then_some(keys),
    })))
}
