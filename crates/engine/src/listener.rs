//! The listener hears of every end at least once: what it has not yet heard is marked in the database, so that a crash loses nothing.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use sea_orm::{ColumnTrait, DbErr, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr};
use tokio_util::sync::CancellationToken;

use crate::{
    Engine, Listener, ListenerError,
    entity::{job, job_group},
};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Engine {
    pub(crate) async fn tell_listener(self, shutdown: CancellationToken) {
        let Some(listener) = self.inner.listener.get().cloned() else { return };
        let mut pause = FIRST_PAUSE;
        loop {
            let round = tokio::select! {
                () = shutdown.cancelled() => return,
                round = self.tell_once(&listener) => round,
            };
            match round {
                Ok((0, 0)) => {
                    pause = FIRST_PAUSE;
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = self.inner.ended.notified() => {}
                    }
                }
                Ok((_, 0)) => pause = FIRST_PAUSE,
                failed => {
                    if let Err(error) = failed {
                        tracing::warn!(%error, "cannot look for ended jobs; trying again");
                    }
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = Ord::min(pause * 2, LONGEST_PAUSE);
                }
            }
        }
    }

    /// Tells what is to be told; says how much was, and how often the listener failed.
    async fn tell_once(&self, listener: &Arc<dyn Listener>) -> Result<(usize, usize), DbErr> {
        let db = &self.inner.db.write;
        let (mut told, mut failed) = (0, 0);
        let jobs = job::Entity::find()
            .filter(job::Column::Told.eq(false))
            .order_by_asc(job::Column::FinishedAt)
            .order_by_asc(job::Column::Id)
            .limit(200)
            .all(db)
            .await?;
        for job in jobs {
            let (id, sequence) = (job.id, job.sequence);
            if !heard(listener.job_ended(job), "job", id).await {
                failed += 1;
                continue;
            }
            told += 1;
            job::Entity::update_many()
                .col_expr(job::Column::Told, Expr::val(true))
                .filter(job::Column::Id.eq(id))
                .filter(job::Column::Sequence.eq(sequence))
                .exec(db)
                .await?;
        }
        let groups = job_group::Entity::find()
            .filter(job_group::Column::Told.eq(false))
            .order_by_asc(job_group::Column::Id)
            .limit(200)
            .all(db)
            .await?;
        for group in groups {
            let untold = job::Entity::find()
                .filter(job::Column::GroupId.eq(group.id))
                .filter(job::Column::Told.eq(false))
                .count(db)
                .await?;
            if untold > 0 {
                // Its jobs come first, in the next round.
                self.inner.ended.notify_one();
                continue;
            }
            let (id, finished_at) = (group.id, group.finished_at.clone());
            if !heard(listener.group_finished(group), "job group", id).await {
                failed += 1;
                continue;
            }
            told += 1;
            job_group::Entity::update_many()
                .col_expr(job_group::Column::Told, Expr::val(true))
                .filter(job_group::Column::Id.eq(id))
                .filter(job_group::Column::FinishedAt.eq(finished_at))
                .exec(db)
                .await?;
        }
        Ok((told, failed))
    }
}

async fn heard(call: impl Future<Output = Result<(), ListenerError>>, what: &str, id: i64) -> bool {
    match AssertUnwindSafe(call).catch_unwind().await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(what, id, %error, "the end was not taken note of; telling it again");
            false
        }
        Err(_) => {
            tracing::error!(what, id, "the listener broke off; telling it again");
            false
        }
    }
}
