//! Delegates: users who see and change all infrastructures of another one, as that one does.

use model::Id;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
};
use serde_json::{Value, json};
use store::entity::{user, user_delegate as delegates};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{record, user as users},
    routes,
};

routes! {
    "addUserDelegate" => add,
    "removeUserDelegate" => remove,
    "getUserChildDelegates" => children,
    "getUserParentDelegates" => parents,
}

/// Users whose delegate `user_id` is, as a subquery for owners.
pub(super) fn owners(user_id: Id) -> sea_orm::sea_query::SelectStatement {
    delegates::Entity::find()
        .select_only()
        .column(delegates::Column::UserId)
        .filter(delegates::Column::DelegateId.eq(user_id))
        .into_query()
}

/// The user of the path, whose infrastructures they are, and their delegate. One decides about one's own; administrators about all.
async fn pair(ctx: &Ctx) -> Result<(user::Model, user::Model), ApiError> {
    let owner = users::find(ctx, ctx.id("userId")?).await?;
    let id = ctx.id("delegateId")?;
    let delegate = user::Entity::find_by_id(id).one(&ctx.app.db().read).await?.filter(|u| !u.is_archived);
    let delegate = delegate
        .filter(|u| ctx.caller.is_admin || u.account_id == ctx.caller.account_id)
        .ok_or_else(|| ApiError::not_found("user", id))?;
    if owner.id != ctx.caller.user_id && !ctx.caller.is_admin {
        return Err(ApiError::forbidden("only users themselves and administrators choose who acts for them"));
    }
    Ok((owner, delegate))
}

async fn add(ctx: Ctx) -> Result<Reply, ApiError> {
    let (owner, delegate) = pair(&ctx).await?;
    if owner.id == delegate.id {
        return Err(ApiError::conflict("delegateId: nobody is their own delegate"));
    }
    let txn = ctx.app.db().begin().await?;
    let known = delegates::Entity::find()
        .filter(delegates::Column::UserId.eq(owner.id))
        .filter(delegates::Column::DelegateId.eq(delegate.id))
        .one(&txn)
        .await?;
    // Asked twice is as good as once.
    if known.is_none() {
        let mut row = delegates::new();
        row.user_id = Set(owner.id);
        row.delegate_id = Set(delegate.id);
        row.insert(&txn).await?;
        let title = format!("{} may act for {}", delegate.email, owner.email);
        record(&ctx, &txn, "user.delegate", title, ("user", owner.id), json!({"delegateId": delegate.id})).await?;
    }
    txn.commit().await?;
    Ok(Reply::Tagged(users::wire(&owner), owner.revision))
}

async fn remove(ctx: Ctx) -> Result<Reply, ApiError> {
    let (owner, delegate) = pair(&ctx).await?;
    let txn = ctx.app.db().begin().await?;
    let gone = delegates::Entity::delete_many()
        .filter(delegates::Column::UserId.eq(owner.id))
        .filter(delegates::Column::DelegateId.eq(delegate.id))
        .exec(&txn)
        .await?;
    if gone.rows_affected == 0 {
        return Err(ApiError::not_found("delegate", delegate.id));
    }
    let title = format!("{} may no longer act for {}", delegate.email, owner.email);
    record(&ctx, &txn, "user.undelegate", title, ("user", owner.id), json!({"delegateId": delegate.id})).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(users::wire(&owner), owner.revision))
}

async fn answer(ctx: &Ctx, ids: Vec<Id>) -> Result<Reply, ApiError> {
    let rows = user::Entity::find()
        .filter(user::Column::Id.is_in(ids))
        .order_by_asc(user::Column::Id)
        .all(&ctx.app.db().read)
        .await?;
    let data: Vec<Value> = rows.iter().map(users::wire).collect();
    Ok(Reply::Json(json!({"data": data, "links": []})))
}

/// Who acts for the user.
async fn children(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = users::find(&ctx, ctx.id("userId")?).await?;
    let rows = delegates::Entity::find().filter(delegates::Column::UserId.eq(found.id)).all(&ctx.app.db().read).await?;
    answer(&ctx, rows.into_iter().map(|d| d.delegate_id).collect()).await
}

/// For whom the user acts.
async fn parents(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = users::find(&ctx, ctx.id("userId")?).await?;
    let rows =
        delegates::Entity::find().filter(delegates::Column::DelegateId.eq(found.id)).all(&ctx.app.db().read).await?;
    answer(&ctx, rows.into_iter().map(|d| d.user_id).collect()).await
}
