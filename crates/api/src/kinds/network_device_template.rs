//! Texts that configure switches, chosen by what is to be done and on which switch: one family for BGP, one for link aggregation.

use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use store::entity::network_device_template as template;

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{edit, insert, list, remove},
    routes,
};

routes! {
    "getNetworkDeviceBGPConfigurationTemplates" => templates,
    "getNetworkDeviceBGPConfigurationTemplate" => one,
    "createNetworkDeviceBGPConfigurationTemplate" => create,
    "updateNetworkDeviceBGPConfigurationTemplate" => update,
    "deleteNetworkDeviceBGPConfigurationTemplate" => delete,
    "getNetworkDeviceLinkAggregationConfigurationTemplates" => templates,
    "getNetworkDeviceLinkAggregationConfigurationTemplate" => one,
    "createNetworkDeviceLinkAggregationConfigurationTemplate" => create,
    "updateNetworkDeviceLinkAggregationConfigurationTemplate" => update,
    "deleteNetworkDeviceLinkAggregationConfigurationTemplate" => delete,
}

/// What the operations of a family have in common.
struct Family {
    name: &'static str,
    words: &'static str,
    /// Its id in paths.
    id: &'static str,
    /// The fields that a template is chosen by.
    chosen_by: &'static [&'static str],
}

const BGP: Family = Family {
    name: "bgp",
    words: "BGP configuration template",
    id: "networkDeviceBGPConfigurationTemplateId",
    chosen_by: &[
        "action",
        "networkType",
        "networkDeviceDriver",
        "networkDevicePosition",
        "remoteNetworkDevicePosition",
        "bgpNumbering",
        "bgpLinkConfiguration",
        "executionType",
        "libraryLabel",
    ],
};

const LINK_AGGREGATION: Family = Family {
    name: "link_aggregation",
    words: "link aggregation configuration template",
    id: "networkDeviceLinkAggregationConfigurationTemplateId",
    chosen_by: &["action", "aggregationType", "networkDeviceDriver", "executionType", "libraryLabel"],
};

/// Longest text in bytes.
const MAX_TEXT: usize = 1 << 20;
/// The event's word for both.
const KIND: &str = "network_device_template";

/// The family of the operation.
fn family(ctx: &Ctx) -> &'static Family {
    if ctx.operation.tag.contains("BGP") { &BGP } else { &LINK_AGGREGATION }
}

fn wire(t: &template::Model) -> Value {
    let mut all = json!({
        "id": t.id, "revision": t.revision, "action": t.action, "networkDeviceDriver": t.network_device_driver, "executionType": t.execution_type,
        "libraryLabel": t.library_label, "preparation": t.preparation, "configuration": t.configuration, "createdTimestamp": t.created_at,
        "updatedTimestamp": t.updated_at, "links": [],
    });
    let more = [
        ("networkType", &t.network_type),
        ("networkDevicePosition", &t.network_device_position),
        ("remoteNetworkDevicePosition", &t.remote_network_device_position),
        ("bgpNumbering", &t.bgp_numbering),
        ("bgpLinkConfiguration", &t.bgp_link_configuration),
        ("aggregationType", &t.aggregation_type),
    ];
    for (name, value) in more {
        if let Some(value) = value {
            all[name] = value.clone().into();
        }
    }
    all
}

async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<template::Model, ApiError> {
    let family = family(ctx);
    let id = ctx.id(family.id)?;
    let found = template::Entity::find_by_id(id).one(db).await?.filter(|t| t.family == family.name);
    found.ok_or_else(|| ApiError::not_found(family.words, id))
}

/// Puts the body over `before` (a template in wire form, or nothing) and the outcome into the row.
fn fill(ctx: &Ctx, before: &Value, row: &mut template::ActiveModel) -> Result<(), ApiError> {
    let family = family(ctx);
    let text = |name: &str| ctx.text(name).or_else(|| before[name].as_str()).map(str::to_owned);
    let need = |name: &str| text(name).ok_or_else(|| ApiError::field(name, "is required"));
    let label = model::validate::name("libraryLabel", &need("libraryLabel")?)?;
    for name in ["configuration", "preparation"] {
        if text(name).is_some_and(|t| t.len() > MAX_TEXT) {
            return Err(ApiError::field(name, format!("is longer than {MAX_TEXT} bytes")));
        }
    }
    let configuration = need("configuration")?;
    if configuration.trim().is_empty() {
        return Err(ApiError::field("configuration", "must not be empty"));
    }
    let chosen: Vec<String> = family.chosen_by.iter().map(|f| text(f).unwrap_or_default()).collect();
    row.selector = Set(format!("{}/{}", family.name, chosen.join("/")));
    row.action = Set(need("action")?);
    row.network_device_driver = Set(need("networkDeviceDriver")?);
    row.execution_type = Set(need("executionType")?);
    row.library_label = Set(label);
    row.preparation = Set(text("preparation"));
    row.configuration = Set(configuration);
    row.network_type = Set(text("networkType"));
    row.network_device_position = Set(text("networkDevicePosition"));
    row.remote_network_device_position = Set(text("remoteNetworkDevicePosition"));
    row.bgp_numbering = Set(text("bgpNumbering"));
    row.bgp_link_configuration = Set(text("bgpLinkConfiguration"));
    row.aggregation_type = Set(text("aggregationType"));
    Ok(())
}

/// Two templates that are chosen by the same things could not be told apart.
fn one_alike(e: ApiError, family: &Family) -> ApiError {
    if e.status == axum::http::StatusCode::CONFLICT && e.message.contains("like it") {
        return ApiError::conflict(format!(
            "there is a {} for the same {} already; change that one",
            family.words,
            family.chosen_by.join(", ")
        ));
    }
    e
}

async fn templates(ctx: Ctx) -> Result<Reply, ApiError> {
    let select = template::Entity::find().filter(template::Column::Family.eq(family(&ctx).name));
    let search = [template::Column::LibraryLabel, template::Column::Action, template::Column::NetworkDeviceDriver];
    Ok(Reply::Json(list(&ctx, select, &[], &search, template::Column::Id, wire).await?))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let family = family(&ctx);
    let mut row = template::new();
    fill(&ctx, &Value::Null, &mut row)?;
    row.family = Set(family.name.into());
    let name = ctx.need_text("libraryLabel")?;
    let made = insert(&ctx, row, KIND, name, wire).await.map_err(|e| one_alike(e, family))?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    let mut wanted = template::ActiveModel::default();
    fill(&ctx, &wire(&found), &mut wanted)?;
    let after = edit(&ctx, &found, (KIND, &found.library_label), "update", wire, |row| {
        let (id, revision, updated) = (row.id.clone(), row.revision.clone(), row.updated_at.clone());
        *row = template::ActiveModel { id, revision, updated_at: updated, ..wanted };
    })
    .await
    .map_err(|e| one_alike(e, family(&ctx)))?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    remove(&ctx, &txn, &found, (KIND, &found.library_label), wire).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
