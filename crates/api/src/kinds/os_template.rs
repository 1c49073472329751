//! Operating system templates.

use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, Select};
use serde_json::{Value, json};
use store::entity::os_template;

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::list,
    routes,
};

routes! {
    "getOSTemplates" => templates,
    "getOSTemplate" => one,
}

fn wire(t: &os_template::Model) -> Value {
    let block = |name: &str| t.body.get(name).cloned().unwrap_or_else(|| json!({}));
    json!({
        "id": t.id, "revision": t.revision, "name": t.name, "label": t.label, "description": t.description, "device": block("device"), "install": block("install"),
        "imageBuild": block("imageBuild"), "os": block("os"), "visibility": t.visibility, "status": t.status, "tags": t.tags, "createdBy": t.created_by, "createdAt": t.created_at,
        "modifiedAt": t.updated_at, "links": [],
    })
}

fn visible(ctx: &Ctx) -> Select<os_template::Entity> {
    let select = os_template::Entity::find();
    if ctx.caller.is_admin {
        return select;
    }
    select.filter(
        Condition::any()
            .add(os_template::Column::Visibility.eq("public"))
            .add(os_template::Column::CreatedBy.eq(ctx.caller.user_id)),
    )
}

async fn templates(ctx: Ctx) -> Result<Reply, ApiError> {
    Ok(Reply::Json(
        list(
            &ctx,
            visible(&ctx),
            &[],
            &[os_template::Column::Label, os_template::Column::Name],
            os_template::Column::Id,
            wire,
        )
        .await?,
    ))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let id = ctx.id("osTemplateId")?;
    let found = visible(&ctx)
        .filter(os_template::Column::Id.eq(id))
        .one(&ctx.app.db().read)
        .await?
        .ok_or_else(|| ApiError::not_found("OS template", id))?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}
