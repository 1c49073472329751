//! How long jobs usually take, from those that ended.

use std::collections::{BTreeMap, HashMap};

use engine::entity::job;
use model::job::JobStatus;
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use store::time;

/// Jobs looked at: the newest.
const SAMPLE: u64 = 400;

/// The median of seconds by job function, as far as known.
pub async fn usual_seconds<C: ConnectionTrait>(db: &C) -> Result<BTreeMap<String, u32>, DbErr> {
    let rows = job::Entity::find()
        .select_only()
        .columns([job::Column::Function, job::Column::StartedAt, job::Column::FinishedAt])
        .filter(job::Column::Status.eq(JobStatus::ReturnedSuccess.as_str()))
        .order_by_desc(job::Column::Id)
        .limit(SAMPLE)
        .into_tuple::<(String, Option<String>, Option<String>)>()
        .all(db)
        .await?;
    let mut known: HashMap<String, Vec<u32>> = HashMap::new();
    for (function, start, end) in rows {
        let millis = start.zip(end).and_then(|(start, end)| time::millis_between(&start, &end));
        if let Some(seconds) = millis.and_then(|m| u32::try_from((m + 999) / 1000).ok()) {
            known.entry(function).or_default().push(seconds);
        }
    }
    Ok(known
        .into_iter()
        .filter_map(|(function, mut seconds)| {
            seconds.sort_unstable();
            Some((function, *seconds.get(seconds.len() / 2)?))
        })
        .collect())
}
