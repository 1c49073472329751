//! Settings of the whole installation, by section. Each section is known, and each of its settings is checked: one that is misspelt would be
//! kept and never heard.

use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::{Map, Value, json};
use store::{
    entity::setting,
    list::{Revisioned, cas},
};

use crate::{
    context::{Ctx, Reply, whole},
    error::ApiError,
    kinds::{firmware_catalog, record},
    routes,
};

routes! {
    "getConfiguration" => get,
    "patchConfiguration" => patch,
    "putConfiguration" => put,
}

/// How a setting is checked.
type Check = fn(&str, &Value) -> Result<(), ApiError>;

/// A setting: its name, what it is until somebody sets it, and how it is checked.
type Setting = (&'static str, fn() -> Value, Check);

/// Sections and their settings.
const SECTIONS: &[(&str, &[Setting])] = &[
    (
        "general",
        &[
            ("installationName", || json!("Steelyard"), short),
            ("supportContact", || json!(""), short),
            ("loginBanner", || json!(""), long),
        ],
    ),
    ("http", &[("proxyUrl", || json!(""), proxy), ("noProxy", || json!(""), long)]),
    ("firmware", &[("catalogRefreshHours", || json!(24), hours)]),
];

fn text<'a>(field: &str, value: &'a Value, most: usize) -> Result<&'a str, ApiError> {
    let text = value.as_str().ok_or_else(|| ApiError::field(field, "must be a string"))?;
    if text.chars().count() > most || text.chars().any(|c| c.is_control() && c != '\n') {
        return Err(ApiError::field(field, format!("is longer than {most} letters, or has control characters")));
    }
    Ok(text)
}

fn short(field: &str, value: &Value) -> Result<(), ApiError> {
    text(field, value, 120).map(|_| ())
}

fn long(field: &str, value: &Value) -> Result<(), ApiError> {
    text(field, value, 2000).map(|_| ())
}

/// A proxy has no login here: settings are read by many.
fn proxy(field: &str, value: &Value) -> Result<(), ApiError> {
    let text = text(field, value, 2000)?;
    if text.is_empty() {
        return Ok(());
    }
    firmware_catalog::url(field, text)?;
    firmware_catalog::no_login(field, text)
}

fn hours(field: &str, value: &Value) -> Result<(), ApiError> {
    match whole(value) {
        Some(0..=8760) if !value.is_string() => Ok(()),
        _ => Err(ApiError::field(
            field,
            "must be a number of hours up to 8760; 0: catalogs are fetched when somebody asks",
        )),
    }
}

fn section(name: &str) -> Option<&'static [Setting]> {
    SECTIONS.iter().find(|(n, _)| *n == name).map(|(_, settings)| *settings)
}

/// A section as it is in force: what is set over what is usual.
fn in_force(settings: &[Setting], set: Option<&Value>) -> Map<String, Value> {
    settings
        .iter()
        .map(|(name, usual, _)| {
            let value = set.and_then(|s| s.get(*name)).filter(|v| !v.is_null()).cloned().unwrap_or_else(usual);
            ((*name).to_owned(), value)
        })
        .collect()
}

/// A setting in force; `null` where there is none of that name.
pub async fn value<C: ConnectionTrait>(db: &C, of: &str, name: &str) -> Result<Value, sea_orm::DbErr> {
    let Some(settings) = section(of) else { return Ok(Value::Null) };
    let row = setting::Entity::find().filter(setting::Column::Section.eq(of)).one(db).await?;
    Ok(in_force(settings, row.as_ref().map(|r| &r.value)).remove(name).unwrap_or(Value::Null))
}

/// All sections, or those that `filter` names, separated by commas.
async fn get(ctx: Ctx) -> Result<Reply, ApiError> {
    let wanted: Option<Vec<&str>> =
        ctx.query_value("filter").filter(|f| !f.is_empty()).map(|f| f.split(',').map(str::trim).collect());
    if let Some(unknown) = wanted.iter().flatten().find(|w| section(w).is_none()) {
        return Err(missing(unknown));
    }
    let rows = setting::Entity::find().all(&ctx.app.db().read).await?;
    let all: Map<String, Value> = SECTIONS
        .iter()
        .filter(|(name, _)| wanted.as_ref().is_none_or(|w| w.contains(name)))
        .map(|(name, settings)| {
            let set = rows.iter().find(|r| r.section == *name).map(|r| &r.value);
            ((*name).to_owned(), Value::Object(in_force(settings, set)))
        })
        .collect();
    Ok(Reply::Json(Value::Object(all)))
}

fn missing(name: &str) -> ApiError {
    let all: Vec<&str> = SECTIONS.iter().map(|(n, _)| *n).collect();
    ApiError::new(
        axum::http::StatusCode::NOT_FOUND,
        format!("there is no section {name:?} of the configuration; there are {}", all.join(", ")),
    )
}

/// Changes the settings that are named.
async fn patch(ctx: Ctx) -> Result<Reply, ApiError> {
    write(&ctx, false).await
}

/// Makes a section what the body says: settings that are not named are as usual again.
async fn put(ctx: Ctx) -> Result<Reply, ApiError> {
    write(&ctx, true).await
}

async fn write(ctx: &Ctx, whole_section: bool) -> Result<Reply, ApiError> {
    let name = ctx.path("filter");
    let settings = section(name).ok_or_else(|| missing(name))?;
    for (field, value) in &ctx.body {
        let Some((_, _, check)) = settings.iter().find(|(n, _, _)| n == field) else {
            let all: Vec<&str> = settings.iter().map(|(n, _, _)| *n).collect();
            return Err(ApiError::field(field, format!("is no setting of {name}; there are {}", all.join(", "))));
        };
        // `null` takes a setting back.
        if !value.is_null() {
            check(field, value)?;
        }
    }
    let txn = ctx.app.db().begin().await?;
    let found = setting::Entity::find().filter(setting::Column::Section.eq(name)).one(&txn).await?;
    let before = found.as_ref().map_or_else(|| json!({}), |f| f.value.clone());
    let mut after = if whole_section { Map::new() } else { before.as_object().cloned().unwrap_or_default() };
    for (field, value) in &ctx.body {
        match value {
            Value::Null => _ = after.remove(field),
            value => _ = after.insert(field.clone(), value.clone()),
        }
    }
    let after = Value::Object(after);
    let id = match found {
        Some(found) => {
            ctx.check_revision(found.revision)?;
            let mut row = found.edit();
            row.value = Set(after.clone());
            cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?.id
        }
        None => {
            let mut row = setting::new();
            row.section = Set(name.to_owned());
            row.value = Set(after.clone());
            row.insert(&txn).await?.id
        }
    };
    let title = format!("Configuration: {name} changed");
    let context = json!({"before": before, "after": after});
    record(ctx, &txn, "configuration.update", title, ("configuration", id), context).await?;
    txn.commit().await?;
    Ok(Reply::Json(json!({name: in_force(settings, Some(&after))})))
}
