//! What each site knows: one row a fact, numbered per site. A site that was away asks for what is newer than its generation.

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait, OnConflict},
};
use serde_json::Value;

use crate::{
    entity::{site_snapshot, site_snapshot_item as item},
    time,
};

/// Sets a fact of a site (`null` removes it), in the transaction of the change that it follows from. Answers whether anything changed:
/// the same value twice makes no new generation.
///
/// Generations are given out under the lock of the site's counter, so that a lower one is never committed after a higher one.
pub async fn put<C: ConnectionTrait>(txn: &C, site_id: i64, key: &str, value: Value) -> Result<bool, DbErr> {
    let found = item::Entity::find()
        .filter(item::Column::SiteId.eq(site_id))
        .filter(item::Column::ItemKey.eq(key))
        .one(txn)
        .await?;
    if match &found {
        Some(found) => found.value == value,
        None => value == Value::Null,
    } {
        return Ok(false);
    }
    let generation = next(txn, site_id).await?;
    let mut row = match found {
        Some(found) => {
            let mut row: item::ActiveModel = found.into();
            row.updated_at = Set(time::now());
            row
        }
        None => {
            let mut row = item::new();
            row.site_id = Set(site_id);
            row.item_key = Set(key.to_owned());
            row
        }
    };
    row.generation = Set(generation);
    row.value = Set(value);
    row.save(txn).await?;
    Ok(true)
}

async fn next<C: ConnectionTrait>(txn: &C, site_id: i64) -> Result<i64, DbErr> {
    let mut first = site_snapshot::new();
    first.site_id = Set(site_id);
    first.generation = Set(0);
    site_snapshot::Entity::insert(first)
        .on_conflict(OnConflict::column(site_snapshot::Column::SiteId).do_nothing().to_owned())
        .exec_without_returning(txn)
        .await?;
    site_snapshot::Entity::update_many()
        .col_expr(site_snapshot::Column::Generation, Expr::col(site_snapshot::Column::Generation).add(1))
        .filter(site_snapshot::Column::SiteId.eq(site_id))
        .exec(txn)
        .await?;
    generation(txn, site_id).await
}

/// Newest generation of a site's snapshot; 0 before its first fact.
pub async fn generation<C: ConnectionTrait>(db: &C, site_id: i64) -> Result<i64, DbErr> {
    let found = site_snapshot::Entity::find().filter(site_snapshot::Column::SiteId.eq(site_id)).one(db).await?;
    Ok(found.map_or(0, |s| s.generation))
}

/// Facts newer than `after`, oldest first, at most `limit`.
pub async fn since<C: ConnectionTrait>(
    db: &C,
    site_id: i64,
    after: i64,
    limit: u64,
) -> Result<Vec<item::Model>, DbErr> {
    item::Entity::find()
        .filter(item::Column::SiteId.eq(site_id))
        .filter(item::Column::Generation.gt(after))
        .order_by_asc(item::Column::Generation)
        .limit(limit)
        .all(db)
        .await
}
