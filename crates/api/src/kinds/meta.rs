//! Tags and names that people give to parts of a design. They change nothing that is deployed, so a design that is locked takes them too.

use sea_orm::{ActiveModelTrait, ActiveValue::Set};
use serde_json::{Value, json};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{infrastructure, record, server_instance, server_instance_group},
    routes,
};

routes! {
    "updateServerInstanceMeta" => instance,
    "updateServerInstanceGroupMeta" => group,
    "updateInfrastructureMetadata" => of_infrastructure,
}

/// Tags of one object, and letters of one tag, at most.
const MOST_TAGS: usize = 100;

/// Tags of a body: short, without doubles, in the order given.
fn tags(ctx: &Ctx) -> Result<Option<Vec<String>>, ApiError> {
    let Some(given) = ctx.body.get("tags").filter(|v| !v.is_null()) else { return Ok(None) };
    let mut all: Vec<String> = Vec::new();
    for (n, tag) in given.as_array().into_iter().flatten().enumerate() {
        let tag = model::validate::name(&format!("tags[{n}]"), tag.as_str().unwrap_or_default())?;
        if !all.contains(&tag) {
            all.push(tag);
        }
    }
    if all.len() > MOST_TAGS {
        return Err(ApiError::field("tags", format!("{} are more than {MOST_TAGS}", all.len())));
    }
    Ok(Some(all))
}

async fn instance(ctx: Ctx) -> Result<Reply, ApiError> {
    let tags = tags(&ctx)?;
    let txn = ctx.app.db().begin().await?;
    let (found, _) = server_instance::find(&ctx, &txn).await?;
    let before = found.extra["meta"].clone();
    if let Some(tags) = tags {
        // No change of the instance itself: its revision stays.
        let mut extra = found.extra.clone();
        extra["meta"]["tags"] = json!(tags);
        let mut row = store::entity::server_instance::ActiveModel { id: Set(found.id), ..Default::default() };
        row.extra = Set(extra.clone());
        row.update(&txn).await?;
        let title = format!("Server instance {}: tags changed", found.label);
        let context = json!({"before": before, "after": extra["meta"]});
        record(&ctx, &txn, "server_instance.tag", title, ("server_instance", found.id), context).await?;
    }
    txn.commit().await?;
    Ok(Reply::Empty)
}

async fn group(ctx: Ctx) -> Result<Reply, ApiError> {
    let tags = tags(&ctx)?;
    let txn = ctx.app.db().begin().await?;
    let found = server_instance_group::find(&ctx, &txn).await?;
    if let Some(tags) = tags {
        let before = found.meta.clone().unwrap_or_else(|| json!({}));
        let mut meta = before.clone();
        meta["tags"] = json!(tags);
        let mut row = store::entity::server_instance_group::ActiveModel { id: Set(found.id), ..Default::default() };
        row.meta = Set(Some(meta.clone()));
        row.update(&txn).await?;
        let title = format!("Server instance group {}: tags changed", found.label);
        let context = json!({"before": before, "after": meta});
        record(&ctx, &txn, "server_instance_group.tag", title, ("server_instance_group", found.id), context).await?;
    }
    txn.commit().await?;
    Ok(Reply::Empty)
}

async fn of_infrastructure(ctx: Ctx) -> Result<Reply, ApiError> {
    let tags = tags(&ctx)?;
    let name = model::validate::name("name", ctx.need_text("name")?)?;
    let txn = ctx.app.db().begin().await?;
    let found = infrastructure::find(&ctx, &txn, ctx.id("infrastructureId")?).await?;
    let before = found.meta.clone().unwrap_or_else(|| json!({}));
    let mut meta = before.clone();
    meta["name"] = name.into();
    if let Some(tags) = tags {
        meta["tags"] = json!(tags);
    }
    if let Some(text) = ctx.body.get("description") {
        if text.as_str().is_some_and(|t| t.chars().count() > 2000) {
            return Err(ApiError::field("description", "is longer than 2000 letters"));
        }
        meta["description"] = text.clone();
    }
    let mut row = store::entity::infrastructure::ActiveModel { id: Set(found.id), ..Default::default() };
    row.meta = Set(Some(meta.clone()));
    let after = row.update(&txn).await?;
    let title = format!("Infrastructure {}: name, description or tags changed", found.label);
    let context: Value = json!({"before": before, "after": meta});
    record(&ctx, &txn, "infrastructure.describe", title, ("infrastructure", found.id), context).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(infrastructure::wire_one(&ctx, &after).await?, after.revision))
}
