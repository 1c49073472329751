//! Suspension: a user who may look, but change nothing, until somebody lifts it.

use model::Id;
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use store::{
    entity::user_suspension as suspension,
    list::{Revisioned, cas},
    time,
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{record, user::find},
    routes,
};

routes! {
    "suspendUser" => suspend,
    "unsuspendUser" => unsuspend,
    "getUserSuspendReasons" => reasons,
}

fn wire(s: &suspension::Model, private: bool) -> Value {
    json!({
        "id": s.id, "userId": s.user_id, "type": s.kind, "createdTimestamp": s.created_at, "endTimestamp": s.ended_at, "publicComment": s.public_comment,
        "privateComment": s.private_comment.as_ref().filter(|_| private),
    })
}

async fn suspend(ctx: Ctx) -> Result<Reply, ApiError> {
    let comment = model::validate::name("suspendReasonPublicComment", ctx.need_text("suspendReasonPublicComment")?)?;
    let found = find(&ctx, ctx.id("userId")?).await?;
    ctx.check_revision(found.revision)?;
    if found.id == ctx.caller.user_id {
        return Err(ApiError::conflict("you cannot suspend yourself; ask another administrator"));
    }
    if found.is_suspended {
        return Err(ApiError::conflict(format!("{} is suspended already", found.email)));
    }
    let txn = ctx.app.db().begin().await?;
    let mut row = found.edit();
    row.is_suspended = Set(true);
    cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    let mut row = suspension::new();
    row.user_id = Set(found.id);
    row.kind = Set(ctx.need_text("suspendReason")?.to_owned());
    row.public_comment = Set(comment);
    row.private_comment = Set(ctx.text("suspendReasonPrivateComment").map(str::to_owned));
    row.ended_at = Set(None);
    let made = row.insert(&txn).await?;
    let title = format!("User {} suspended", found.email);
    record(&ctx, &txn, "user.suspend", title, ("user", found.id), wire(&made, false)).await?;
    txn.commit().await?;
    Ok(Reply::Json(wire(&made, true)))
}

async fn unsuspend(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, ctx.id("userId")?).await?;
    ctx.check_revision(found.revision)?;
    if !found.is_suspended {
        return Err(ApiError::conflict(format!("{} is not suspended", found.email)));
    }
    let txn = ctx.app.db().begin().await?;
    let mut row = found.edit();
    row.is_suspended = Set(false);
    cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    for open in of(found.id).filter(suspension::Column::EndedAt.is_null()).all(&txn).await? {
        let mut row: suspension::ActiveModel = open.into();
        row.ended_at = Set(Some(time::now()));
        row.update(&txn).await?;
    }
    let title = format!("User {} is no longer suspended", found.email);
    record(&ctx, &txn, "user.unsuspend", title, ("user", found.id), json!({})).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

fn of(user_id: Id) -> sea_orm::Select<suspension::Entity> {
    suspension::Entity::find().filter(suspension::Column::UserId.eq(user_id))
}

async fn reasons(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, ctx.id("userId")?).await?;
    let all = of(found.id).order_by_desc(suspension::Column::Id).all(&ctx.app.db().read).await?;
    let data: Vec<Value> = all.iter().map(|s| wire(s, ctx.caller.is_admin)).collect();
    Ok(Reply::Json(json!({"data": data, "links": []})))
}
