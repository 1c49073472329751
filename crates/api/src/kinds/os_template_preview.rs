//! What the texts of an OS template become for a server, before one is installed with it.

use model::template::InstallMethod;
use netboot::preview::{Example, preview};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
use serde_json::{Map, Value, json};
use store::entity::{secret, variable};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::os_template::find_by,
    planning::{template, values},
    routes,
};

routes! {
    "previewOSTemplate" => show,
}

/// Longest text of variables in the query.
const LONGEST: usize = 16 * 1024;

/// Variables of the query are nearer than those that the caller keeps, as those of a design are.
fn given(ctx: &Ctx) -> Result<Map<String, Value>, ApiError> {
    let Some(text) = ctx.query_value("variables").filter(|t| !t.trim().is_empty()) else { return Ok(Map::new()) };
    if text.len() > LONGEST {
        return Err(ApiError::field("variables", format!("is longer than {LONGEST} bytes")));
    }
    serde_json::from_str(text)
        .map_err(|e| ApiError::field("variables", format!("is not a JSON object: {e}; give {{\"name\": \"value\"}}")))
}

async fn show(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let found = find_by(&ctx, db, ctx.id("osTemplateId")?).await?;
    let more = given(&ctx)?;
    let hostname = match ctx.query_value("hostname").filter(|h| !h.is_empty()) {
        Some(name) => model::validate::label("hostname", name)?,
        None => "server-1".to_owned(),
    };
    let made = template::load(db, &[found.id]).await?.remove(&found.id);
    let (os, problem, username) = made.map_or((None, None, None), |t| (t.os, t.problem, t.username));
    let Some(os) = os else {
        return Ok(Reply::Json(json!({"problem": problem, "method": Value::Null, "data": []})));
    };
    let me = ctx.caller.user_id;
    let mut variables: Map<String, Value> = variable::Entity::find()
        .filter(variable::Column::UserIdOwner.eq(me))
        .all(db)
        .await?
        .into_iter()
        .filter(|v| values::for_systems(v.usage.as_ref()))
        .map(|v| (v.name, v.value))
        .collect();
    variables.extend(more);
    // Their names alone: no value is opened to be looked at.
    let names: Vec<(String, Option<String>)> = secret::Entity::find()
        .select_only()
        .columns([secret::Column::Name, secret::Column::Usage])
        .filter(secret::Column::UserIdOwner.eq(me))
        .into_tuple()
        .all(db)
        .await?;
    let secrets = names.into_iter().filter(|(_, u)| values::for_systems(u.as_ref())).map(|(name, _)| name).collect();
    let example = Example { hostname, username: username.unwrap_or_else(|| "root".into()), variables, secrets };
    let data: Vec<Value> = preview(&os, &example)
        .into_iter()
        .map(|(name, made)| match made {
            Ok(text) => json!({"name": name, "text": text, "error": Value::Null}),
            Err(error) => json!({"name": name, "text": Value::Null, "error": error.message}),
        })
        .collect();
    let method = match os.method {
        InstallMethod::Image => "image",
        InstallMethod::Network { .. } => "network",
        InstallMethod::Media { .. } => "media",
    };
    Ok(Reply::Json(json!({"problem": problem, "method": method, "data": data})))
}
