//! Server types: hardware classes that groups are ordered by.

use std::collections::{BTreeMap, HashMap};

use model::{Id, server::ServerStatus};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter,
    QuerySelect,
};
use serde_json::{Map, Value, json};
use store::{
    entity::{server, server_instance, server_instance_group, server_type},
    list::{Revisioned, cas},
};

use crate::{
    context::{Ctx, Reply, whole},
    error::ApiError,
    kinds::{list, record},
    routes,
};

routes! {
    "getServerTypes" => types,
    "getServerTypeInfo" => one,
    "createServerType" => create,
    "updateServerType" => update,
    "deleteServerType" => delete,
    "removeUnusedServerTypes" => clean,
    "getServerTypesStatisticsBatch" => statistics,
}

/// Fields that are kept as they come.
const NOTES: &[&str] = &[
    "allowedVendorSkuIds",
    "isExperimental",
    "forUnmanagedServersOnly",
    "forGenericEndpointsOnly",
    "serverClass",
    "bootType",
    "tags",
];

fn wire(t: &server_type::Model) -> Value {
    let number = |name: &str| t.extra.get(name).and_then(whole).unwrap_or(0);
    let array = |name: &str| t.extra.get(name).filter(|v| v.is_array()).cloned().unwrap_or_else(|| json!([]));
    let speeds = t.nic_speeds.as_array().map_or(0, |a| a.iter().filter_map(Value::as_i64).sum::<i64>());
    let mut v = json!({
        "id": t.id, "revision": t.revision, "name": t.name, "label": t.label, "description": t.description, "ramGbytes": t.ram_gb, "processorCount": t.processor_count,
        "processorCoreCount": t.core_count, "processorCoreMhz": t.core_mhz, "processorNames": t.processor_names, "diskCount": t.disk_count, "networkInterfaceCount": t.nic_count,
        "networkInterfaceSpeeds": t.nic_speeds, "networkTotalCapacityMbps": speeds, "gpuCount": t.gpu_count, "gpuInfo": t.gpu_info,
        "serverClass": t.extra.get("serverClass").and_then(Value::as_str).unwrap_or("unknown"), "isExperimental": number("isExperimental"),
        "forUnmanagedServersOnly": number("forUnmanagedServersOnly"), "forGenericEndpointsOnly": number("forGenericEndpointsOnly"), "supportsOobProvisioning": 0,
        "allowedVendorSkuIds": array("allowedVendorSkuIds"), "tags": array("tags"), "disks": array("disks"), "links": [],
    });
    if let Some(boot) = t.extra.get("bootType").filter(|b| b.is_string()) {
        v["bootType"] = boot.clone();
    }
    v
}

async fn types(ctx: Ctx) -> Result<Reply, ApiError> {
    let alias = [("ramGbytes", "ram_gb"), ("processorCoreCount", "core_count"), ("networkInterfaceCount", "nic_count")];
    Ok(Reply::Json(
        list(
            &ctx,
            server_type::Entity::find(),
            &alias,
            &[server_type::Column::Name, server_type::Column::Label],
            server_type::Column::Id,
            wire,
        )
        .await?,
    ))
}

async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<server_type::Model, ApiError> {
    let id = ctx.id("serverTypeId")?;
    server_type::Entity::find_by_id(id).one(db).await?.ok_or_else(|| ApiError::not_found("server type", id))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

async fn refuse_taken<C: ConnectionTrait>(db: &C, name: &str, but: Option<Id>) -> Result<(), ApiError> {
    let found = server_type::Entity::find().filter(server_type::Column::Name.eq(name)).one(db).await?;
    match found.filter(|t| Some(t.id) != but) {
        Some(other) => Err(ApiError::conflict(format!("name: server type {} is called {name} already", other.id))),
        None => Ok(()),
    }
}

fn notes(ctx: &Ctx, before: &Value) -> Value {
    let mut extra = before.as_object().cloned().unwrap_or_else(Map::new);
    for note in NOTES.iter().filter(|n| ctx.has(n)) {
        extra.insert((*note).to_owned(), ctx.body[*note].clone());
    }
    Value::Object(extra)
}

/// A type made by hand. Servers are put into it by hand too: a type that is found at registration is made there.
async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let kept = [
        "ramGbytes",
        "processorCount",
        "processorCoreMhz",
        "processorCoreCount",
        "name",
        "description",
        "label",
        "networkInterfaceSpeeds",
        "processorNames",
        "diskCount",
        "gpuCount",
        "gpuInfo",
    ];
    ctx.refuse_others(&[&kept, NOTES].concat())?;
    let name = model::validate::name("name", ctx.need_text("name")?)?;
    let label = model::validate::label("label", ctx.need_text("label")?)?;
    let count = |field: &str| match ctx.need_int(field) {
        Ok(n) if (0..=1_000_000).contains(&n) => Ok(n),
        Ok(n) => Err(ApiError::field(field, format!("{n} is not between 0 and 1000000"))),
        Err(e) => Err(e),
    };
    let array = |field: &str| ctx.body.get(field).filter(|v| v.is_array()).cloned().unwrap_or_else(|| json!([]));
    let speeds = array("networkInterfaceSpeeds");
    let mut row = server_type::new();
    row.signature = Set(format!("manual:{name}"));
    row.name = Set(name.clone());
    row.label = Set(label);
    row.description = Set(ctx.text("description").map(str::to_owned));
    row.ram_gb = Set(count("ramGbytes")?);
    row.processor_count = Set(count("processorCount")?);
    row.core_count = Set(count("processorCoreCount")?);
    row.core_mhz = Set(count("processorCoreMhz")?);
    row.processor_names = Set(array("processorNames"));
    row.disk_count = Set(count("diskCount")?);
    row.nic_count = Set(speeds.as_array().map_or(0, Vec::len) as i64);
    row.nic_speeds = Set(speeds);
    row.gpu_count = Set(ctx.int("gpuCount").unwrap_or(0));
    row.gpu_info = Set(array("gpuInfo"));
    row.extra = Set(notes(&ctx, &json!({})));
    let txn = ctx.app.db().begin().await?;
    refuse_taken(&txn, &name, None).await?;
    let made = row.insert(&txn).await?;
    let title = format!("Server type {} created", made.name);
    record(&ctx, &txn, "server_type.create", title, ("server_type", made.id), json!({"after": wire(&made)})).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

/// What it is called and who may have it. What it is made of is its hardware, and does not change.
async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    ctx.refuse_others(&[&["name", "label", "description"], NOTES].concat())?;
    let name = ctx.text("name").map(|n| model::validate::name("name", n)).transpose()?;
    let label = ctx.text("label").map(|l| model::validate::label("label", l)).transpose()?;
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    let mut row = found.edit();
    if let Some(name) = name {
        refuse_taken(&txn, &name, Some(found.id)).await?;
        row.name = Set(name);
    }
    if let Some(label) = label {
        row.label = Set(label);
    }
    if ctx.has("description") {
        row.description = Set(ctx.text("description").map(str::to_owned));
    }
    row.extra = Set(notes(&ctx, &found.extra));
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    let title = format!("Server type {} changed", after.name);
    let context = json!({"before": wire(&found), "after": wire(&after)});
    record(&ctx, &txn, "server_type.update", title, ("server_type", after.id), context).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

/// Types that a server is of, or that a design orders.
async fn used<C: ConnectionTrait>(db: &C) -> Result<BTreeMap<Id, i64>, ApiError> {
    let mut used: BTreeMap<Id, i64> = BTreeMap::new();
    let servers: Vec<(Option<Id>, i64)> = server::Entity::find()
        .select_only()
        .column(server::Column::ServerTypeId)
        .column_as(server::Column::Id.count(), "n")
        .filter(server::Column::ServerTypeId.is_not_null())
        .group_by(server::Column::ServerTypeId)
        .into_tuple()
        .all(db)
        .await?;
    let instances: Vec<(Option<Id>, i64)> = server_instance::Entity::find()
        .select_only()
        .column(server_instance::Column::ServerTypeId)
        .column_as(server_instance::Column::Id.count(), "n")
        .filter(server_instance::Column::ServerTypeId.is_not_null())
        .group_by(server_instance::Column::ServerTypeId)
        .into_tuple()
        .all(db)
        .await?;
    for (id, n) in servers.into_iter().chain(instances) {
        if let Some(id) = id {
            *used.entry(id).or_default() += n;
        }
    }
    let designs: Vec<Value> = server_instance_group::Entity::find()
        .select_only()
        .column(server_instance_group::Column::Design)
        .filter(server_instance_group::Column::ServiceStatus.ne("deleted"))
        .into_tuple()
        .all(db)
        .await?;
    for id in designs.iter().filter_map(|d| whole(&d["defaultServerTypeId"])) {
        *used.entry(id).or_default() += 1;
    }
    Ok(used)
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    if let Some(n) = used(&txn).await?.get(&found.id) {
        return Err(ApiError::conflict(format!(
            "server type {} is used by {n} server(s), instance(s) or group(s)",
            found.name
        )));
    }
    server_type::Entity::delete_by_id(found.id).exec(&txn).await?;
    let title = format!("Server type {} deleted", found.name);
    record(&ctx, &txn, "server_type.delete", title, ("server_type", found.id), json!({"before": wire(&found)})).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

async fn clean(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let used: Vec<Id> = used(&txn).await?.into_keys().collect();
    let unused = server_type::Entity::find().filter(server_type::Column::Id.is_not_in(used)).all(&txn).await?;
    for found in &unused {
        server_type::Entity::delete_by_id(found.id).exec(&txn).await?;
        let title = format!("Server type {} deleted: no server is of it", found.name);
        let context = json!({"before": wire(found)});
        record(&ctx, &txn, "server_type.delete", title, ("server_type", found.id), context).await?;
    }
    txn.commit().await?;
    Ok(Reply::Empty)
}

/// How many servers of each type a site has to give, and some of them.
async fn statistics(ctx: Ctx) -> Result<Reply, ApiError> {
    let site_id = ctx.need_int("siteId")?;
    let wanted: Vec<Id> =
        ctx.body.get("serverTypeIds").and_then(Value::as_array).into_iter().flatten().filter_map(whole).collect();
    let most = ctx.int("maximumResultsPerServerType").filter(|n| *n > 0).unwrap_or(100).unsigned_abs() as usize;
    let db = &ctx.app.db().read;
    let mut select = server::Entity::find()
        .filter(server::Column::SiteId.eq(site_id))
        .filter(server::Column::Status.eq(ServerStatus::Available.as_str()))
        .filter(server::Column::ServerTypeId.is_not_null());
    if !wanted.is_empty() {
        select = select.filter(server::Column::ServerTypeId.is_in(wanted.clone()));
    }
    if select.clone().count(db).await? > 100_000 {
        return Err(ApiError::field("serverTypeIds", "too many servers to tell of at once; name the types"));
    }
    let rows: Vec<(Id, Option<Id>, Option<String>)> = select
        .select_only()
        .column(server::Column::Id)
        .column(server::Column::ServerTypeId)
        .column(server::Column::Serial)
        .into_tuple()
        .all(db)
        .await?;
    let mut counts: BTreeMap<String, usize> = wanted.iter().map(|id| (id.to_string(), 0)).collect();
    let mut some: HashMap<String, Vec<Value>> = HashMap::new();
    for (id, kind, serial) in rows {
        let Some(kind) = kind.map(|k| k.to_string()) else { continue };
        *counts.entry(kind.clone()).or_default() += 1;
        let list = some.entry(kind).or_default();
        if list.len() < most {
            list.push(json!({"serverId": id, "serialNumber": serial}));
        }
    }
    Ok(Reply::Json(json!({
        "serverTypeIdToServerCount": counts, "serverTypeIdToServerInformation": some,
        "utilizationReport": {"groupByServerRamGb": {}, "groupByServerTypeName": {}, "groupByServerProductName": {}, "groupByUserId": {}},
    })))
}
