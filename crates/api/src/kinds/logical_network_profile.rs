//! Templates of logical networks.

use sea_orm::{ActiveValue::Set, EntityTrait, PaginatorTrait};
use serde_json::{Value, json};
use store::entity::{logical_network_profile as profile, network_fabric};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{
        edit, insert, list,
        logical_network::{check_mtu, read_blocks, wire_blocks},
        remove,
    },
    routes,
};

routes! {
    "getLogicalNetworkProfiles" => profiles,
    "getLogicalNetworkProfile" => one,
    "createLogicalNetworkProfile" => create,
    "updateLogicalNetworkProfile" => update,
    "deleteLogicalNetworkProfile" => delete,
}

pub(super) fn wire(p: &profile::Model) -> Value {
    let mut all = json!({
        "id": p.id, "revision": p.revision, "label": p.label, "name": p.name, "annotations": p.annotations, "createdAt": p.created_at, "updatedAt": p.updated_at, "kind": p.kind,
        "fabricId": p.fabric_id, "mtu": p.blocks["mtu"],
    });
    for (name, block) in wire_blocks(&p.blocks, &Value::Null) {
        all[&name] = block;
    }
    all
}

async fn profiles(ctx: Ctx) -> Result<Reply, ApiError> {
    Ok(Reply::Json(
        list(
            &ctx,
            profile::Entity::find(),
            &[],
            &[profile::Column::Label, profile::Column::Name],
            profile::Column::Id,
            wire,
        )
        .await?,
    ))
}

pub(super) async fn find(ctx: &Ctx) -> Result<profile::Model, ApiError> {
    let id = ctx.id("id")?;
    profile::Entity::find_by_id(id)
        .one(&ctx.app.db().read)
        .await?
        .ok_or_else(|| ApiError::not_found("logical network profile", id))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let fabric_id = ctx.need_int("fabricId")?;
    let db = &ctx.app.db().read;
    if network_fabric::Entity::find_by_id(fabric_id).one(db).await?.is_none() {
        return Err(ApiError::field("fabricId", format!("there is no fabric {fabric_id}")));
    }
    let label = match ctx.text("label") {
        Some(label) => model::validate::label("label", label)?,
        None => format!("profile-{}", profile::Entity::find().count(db).await? + 1),
    };
    let mut blocks = read_blocks(&ctx)?;
    blocks["mtu"] = json!(check_mtu(ctx.int("mtu"))?);
    let mut row = profile::new();
    row.name = Set(ctx.text("name").unwrap_or(&label).to_owned());
    row.label = Set(label.clone());
    row.kind = Set(ctx.need_text("kind")?.to_owned());
    row.fabric_id = Set(fabric_id);
    row.blocks = Set(blocks);
    row.annotations = Set(json!({}));
    let made = insert(&ctx, row, "logical_network_profile", &label, wire).await?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    ctx.refuse_others(&["label", "name", "annotations", "mtu"])?;
    let label = ctx.text("label").map(|l| model::validate::label("label", l)).transpose()?;
    let name = ctx.text("name").map(|n| model::validate::name("name", n)).transpose()?;
    let mtu = check_mtu(ctx.int("mtu"))?;
    let found = find(&ctx).await?;
    let after = edit(&ctx, &found, ("logical_network_profile", &found.label), "update", wire, |row| {
        if let Some(label) = label {
            row.label = Set(label);
        }
        if let Some(name) = name {
            row.name = Set(name);
        }
        if let Some(annotations) = ctx.body.get("annotations").filter(|a| a.is_object()) {
            row.annotations = Set(annotations.clone());
        }
        if ctx.has("mtu") {
            let mut blocks = found.blocks.clone();
            blocks["mtu"] = json!(mtu);
            row.blocks = Set(blocks);
        }
    })
    .await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx).await?;
    let txn = ctx.app.db().begin().await?;
    remove(&ctx, &txn, &found, ("logical_network_profile", &found.label), wire).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
