//! Firmware baselines: versions that servers should have, what is missing, and what would bring it.

use std::collections::BTreeMap;

use model::Id;
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::{Map, Value, json};
use store::entity::{
    firmware_baseline, firmware_campaign, server, server_component, server_instance, server_instance_group,
};

use super::{
    firmware_binary,
    firmware_match::{Offer, catalogs_of, hold},
    firmware_upgrade::parts_of,
};
use crate::{
    context::{Ctx, Reply, whole},
    error::ApiError,
    facts,
    kinds::{edit_in, insert_in, list, remove},
    routes,
};

routes! {
    "getFirmwareBaselines" => all,
    "getFirmwareBaseline" => one,
    "createFirmwareBaseline" => create,
    "updateFirmwareBaseline" => update,
    "deleteFirmwareBaseline" => delete,
    "searchFirmwareBaselines" => search,
    "checkFirmwareBaselineCompliance" => compliance,
}

/// Servers in one answer.
const SERVERS: u64 = 2000;

fn wire(b: &firmware_baseline::Model) -> Value {
    json!({
        "id": b.id, "name": b.name, "description": b.description, "catalog": b.catalog, "minimumVersions": b.minimum_versions,
        "revision": b.revision, "createdTimestamp": b.created_at, "updatedTimestamp": b.updated_at,
    })
}

/// The baseline of that id.
pub(super) async fn by_id<C: ConnectionTrait>(db: &C, id: Id) -> Result<firmware_baseline::Model, ApiError> {
    firmware_baseline::Entity::find_by_id(id).one(db).await?.ok_or_else(|| ApiError::not_found("firmware baseline", id))
}

async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<firmware_baseline::Model, ApiError> {
    by_id(db, ctx.id("firmwareBaselineId")?).await
}

async fn all(ctx: Ctx) -> Result<Reply, ApiError> {
    let search = [firmware_baseline::Column::Name, firmware_baseline::Column::Description];
    Ok(Reply::Json(
        list(&ctx, firmware_baseline::Entity::find(), &[], &search, firmware_baseline::Column::Id, wire).await?,
    ))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

fn fill(ctx: &Ctx, row: &mut firmware_baseline::ActiveModel) -> Result<(), ApiError> {
    row.name = Set(model::validate::name("name", ctx.need_text("name")?)?);
    row.description = Set(ctx.text("description").map(str::to_owned));
    row.catalog = Set(ctx.body.get("catalog").filter(|c| c.is_array()).cloned().unwrap_or_else(|| json!([])));
    let least = ctx.body.get("minimumVersions").filter(|m| m.is_array()).cloned().unwrap_or_else(|| json!([]));
    for (n, m) in least.as_array().into_iter().flatten().enumerate() {
        for field in ["componentName", "minimumVersion"] {
            if m[field].as_str().is_none_or(|t| t.trim().is_empty()) {
                return Err(ApiError::field(format!("minimumVersions[{n}].{field}"), "must not be empty"));
            }
        }
    }
    row.minimum_versions = Set(least);
    Ok(())
}

/// Catalogs that are not there would make a baseline that asks for nothing.
async fn refuse_unknown_catalogs<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<(), ApiError> {
    let named = ctx.body.get("catalog").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (n, name) in named.iter().enumerate() {
        let one = firmware_baseline::Model {
            id: 0,
            revision: 0,
            created_at: String::new(),
            updated_at: String::new(),
            name: String::new(),
            description: None,
            catalog: json!([name]),
            minimum_versions: json!([]),
        };
        if catalogs_of(db, &one).await?.is_empty() {
            return Err(ApiError::field(
                format!("catalog[{n}]"),
                format!("there is no firmware catalog {name}; name it by its name or id"),
            ));
        }
    }
    Ok(())
}

/// Of another one with this name.
async fn refuse_twin<C: ConnectionTrait>(db: &C, name: &str, but: i64) -> Result<(), ApiError> {
    super::refuse_twin::<firmware_baseline::Model, C>(
        db,
        firmware_baseline::Column::Name,
        ("name", name),
        "firmware baseline",
        but,
    )
    .await
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut row = firmware_baseline::new();
    fill(&ctx, &mut row)?;
    let txn = ctx.app.db().begin().await?;
    refuse_unknown_catalogs(&ctx, &txn).await?;
    refuse_twin(&txn, ctx.need_text("name")?, 0).await?;
    let made = insert_in(&ctx, &txn, row, "firmware_baseline", ctx.need_text("name")?, wire).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut filled = firmware_baseline::ActiveModel::default();
    fill(&ctx, &mut filled)?;
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    refuse_unknown_catalogs(&ctx, &txn).await?;
    refuse_twin(&txn, ctx.need_text("name")?, found.id).await?;
    let subject = format!("Firmware baseline {}", found.name);
    let after = edit_in(&ctx, &txn, &found, ("firmware_baseline", &subject), "update", wire, |row| {
        row.name = filled.name;
        row.description = filled.description;
        row.catalog = filled.catalog;
        row.minimum_versions = filled.minimum_versions;
    })
    .await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    let open = firmware_campaign::Entity::find()
        .filter(firmware_campaign::Column::BaselineId.eq(found.id))
        .filter(firmware_campaign::Column::Status.is_in(["running", "paused"]))
        .one(&txn)
        .await?;
    if let Some(campaign) = open {
        return Err(ApiError::conflict(format!(
            "campaign {} works with this baseline; abort it first",
            campaign.label
        )));
    }
    remove(&ctx, &txn, &found, ("firmware_baseline", &found.name), wire).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

/// Images for one part of one server, out of baselines. The part is described in the words of its vendor.
async fn search(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let vendor = ctx.need_text("vendor")?.to_owned();
    let wanted: Vec<Id> =
        ctx.body.get("baselineIds").and_then(Value::as_array).into_iter().flatten().filter_map(whole).collect();
    let mut select = firmware_baseline::Entity::find().order_by_asc(firmware_baseline::Column::Id);
    if !wanted.is_empty() {
        select = select.filter(firmware_baseline::Column::Id.is_in(wanted));
    }
    let filter = ctx.body.get("serverComponentFilter").cloned().unwrap_or_else(|| json!({}));
    let text = |name: &str| filter[name].as_str().map(str::trim).filter(|t| !t.is_empty()).map(str::to_lowercase);
    let model = text("serverModel").or_else(|| text("submodel"));
    let mut devices: Vec<String> =
        ["componentId", "componentName", "deviceClass"].iter().filter_map(|name| text(name)).collect();
    let targets = filter["targets"].as_array().into_iter().flatten().filter_map(Value::as_str);
    devices.extend(targets.map(str::to_lowercase));
    for baseline in select.all(db).await? {
        let catalogs = catalogs_of(db, &baseline).await?;
        let offer = Offer::load(db, Some(&catalogs)).await?;
        let found = offer.described(&vendor, model.as_deref(), &devices);
        if found.is_empty() {
            continue;
        }
        let binaries: Vec<Value> = found.into_iter().map(firmware_binary::wire).collect();
        let id = filter.get("id").and_then(whole).unwrap_or(0);
        return Ok(Reply::Json(
            json!({"baseline": wire(&baseline), "componentBinaries": {(id.to_string()): binaries}}),
        ));
    }
    Ok(Reply::Json(json!({"baseline": null, "componentBinaries": {}})))
}

/// Servers that a body names: by id, by group, by site, by type; all where it names none.
pub(super) async fn named_servers<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<Vec<server::Model>, ApiError> {
    let mut select = server::Entity::find().filter(server::Column::Status.ne("decommissioned"));
    if let Some(list) = ctx.body.get("serverIds").and_then(Value::as_array).filter(|l| !l.is_empty()) {
        let ids: Vec<Id> = list
            .iter()
            .enumerate()
            .map(|(n, v)| whole(v).ok_or_else(|| ApiError::field(format!("serverIds[{n}]"), "is not an id")))
            .collect::<Result<_, _>>()?;
        let known: Vec<Id> = server::Entity::find()
            .select_only()
            .column(server::Column::Id)
            .filter(server::Column::Id.is_in(ids.clone()))
            .into_tuple()
            .all(db)
            .await?;
        if let Some((n, id)) = ids.iter().enumerate().find(|(_, id)| !known.contains(id)) {
            return Err(ApiError::field(format!("serverIds[{n}]"), format!("there is no server {id}")));
        }
        select = select.filter(server::Column::Id.is_in(ids));
    }
    if let Some(id) = ctx.int("serverInstanceGroupId") {
        if server_instance_group::Entity::find_by_id(id).one(db).await?.is_none() {
            return Err(ApiError::field("serverInstanceGroupId", format!("there is no server instance group {id}")));
        }
        let of: Vec<Option<Id>> = server_instance::Entity::find()
            .select_only()
            .column(server_instance::Column::ServerId)
            .filter(server_instance::Column::GroupId.eq(id))
            .into_tuple()
            .all(db)
            .await?;
        select = select.filter(server::Column::Id.is_in(of.into_iter().flatten()));
    }
    if let Some(id) = ctx.int("siteId") {
        select = select.filter(server::Column::SiteId.eq(id));
    }
    if let Some(id) = ctx.int("serverTypeId") {
        select = select.filter(server::Column::ServerTypeId.eq(id));
    }
    Ok(select.order_by_asc(server::Column::Id).limit(SERVERS).all(db).await?)
}

/// The matrix: servers against what the baseline wants of each of their parts.
async fn compliance(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let baseline = find(&ctx, db).await?;
    let servers = named_servers(&ctx, db).await?;
    let ids: Vec<Id> = servers.iter().map(|s| s.id).collect();
    let parts = parts_of(db, &ids).await?;
    let catalogs = catalogs_of(db, &baseline).await?;
    let offer = Offer::load(db, Some(&catalogs)).await?;
    let mut counts: BTreeMap<&str, u32> =
        ["compliant", "outdated", "newer_available", "unknown"].into_iter().map(|s| (s, 0)).collect();
    let mut columns: BTreeMap<String, String> = BTreeMap::new();
    let rows: Vec<Value> = servers
        .iter()
        .map(|s| {
            let none = Vec::new();
            let parts: &Vec<server_component::Model> = parts.get(&s.id).unwrap_or(&none);
            let cells: Vec<Value> = parts
                .iter()
                .map(|p| {
                    let held = hold(&baseline, &offer, s, p);
                    let newest = offer.best(s, p, None).and_then(|b| b.package_version.clone());
                    columns.entry(p.kind.clone()).or_insert_with(|| p.kind.replace('_', " "));
                    json!({
                        "componentId": p.id, "externalId": p.external_id, "name": p.name, "type": p.kind, "version": p.firmware_version,
                        "minimumVersion": held.minimum, "newestVersion": newest, "state": held.state,
                    })
                })
                .collect();
            let has = |state: &str| cells.iter().any(|c| c["state"] == state);
            let state = match () {
                () if cells.is_empty() => "unknown",
                () if has("outdated") => "outdated",
                () if has("unknown") => "unknown",
                () if has("newer_available") => "newer_available",
                () => "compliant",
            };
            *counts.entry(state).or_default() += 1;
            json!({
                "serverId": s.id, "serverName": facts::server_name(s), "serverStatus": s.status, "siteId": s.site_id, "vendor": s.vendor, "model": s.model,
                "state": state, "components": cells,
            })
        })
        .collect();
    let counts: Map<String, Value> = counts.into_iter().map(|(k, v)| (k.to_owned(), json!(v))).collect();
    Ok(Reply::Json(json!({"baseline": wire(&baseline), "componentTypes": columns, "summary": counts, "servers": rows})))
}
