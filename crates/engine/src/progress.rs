//! Progress: told at once, written seldom. A write for each word of each job would keep the database busy for nothing.

use std::time::Duration;

use model::{Id, job::JobStatus};
use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter, sea_query::Expr};
use tokio_util::sync::CancellationToken;

use crate::{Engine, entity::job, locked};

/// Progress is written at most this often.
const EVERY: Duration = Duration::from_secs(1);

/// Progress of a job that runs.
pub(crate) struct Live {
    percent: u8,
    message: String,
    written: bool,
}

impl Engine {
    /// Progress and words of a job that runs now, finer than the database has it.
    pub fn live(&self, job_id: Id) -> Option<(u8, String)> {
        locked(&self.inner.live).get(&job_id).map(|l| (l.percent, l.message.clone()))
    }

    pub(crate) fn set_progress(&self, job: &job::Model, percent: u8, message: String) {
        let percent = Ord::min(percent, 100);
        {
            let mut live = locked(&self.inner.live);
            if live.get(&job.id).is_some_and(|l| l.percent == percent && l.message == message) {
                return;
            }
            live.insert(job.id, Live { percent, message: message.clone(), written: false });
        }
        self.inner.progressed.notify_one();
        let mut report = Self::report_of(job);
        report.percent = Some(percent);
        report.message = Some(message);
        let _ = self.inner.reports.send(report);
    }

    pub(crate) fn forget_progress(&self, job_id: Id) {
        locked(&self.inner.live).remove(&job_id);
    }

    /// Writes progress now and then, and hands it to the sink; sleeps while there is none.
    pub(crate) async fn write_progress(self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.inner.progressed.notified() => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            let fresh: Vec<(Id, u8, String)> = locked(&self.inner.live)
                .iter_mut()
                .filter(|(_, l)| !l.written)
                .map(|(id, l)| {
                    l.written = true;
                    (*id, l.percent, l.message.clone())
                })
                .collect();
            for (id, percent, message) in fresh {
                if let Err(error) = self.write_one(id, percent, message).await {
                    tracing::warn!(job = id, %error, "cannot write progress; the next word of the job is written again");
                }
            }
        }
    }

    /// The job's number does not grow: this is no change of its state.
    async fn write_one(&self, id: Id, percent: u8, message: String) -> Result<(), DbErr> {
        let txn = self.inner.db.begin().await?;
        let written = job::Entity::update_many()
            .col_expr(job::Column::Percent, Expr::val(i32::from(percent)))
            .col_expr(job::Column::Message, Expr::val(message))
            .filter(job::Column::Id.eq(id))
            .filter(job::Column::Status.eq(JobStatus::Running.as_str()))
            .exec(&txn)
            .await?;
        if written.rows_affected == 1
            && let Some(sink) = &self.inner.sink
            && let Some(job) = job::Entity::find_by_id(id).one(&txn).await?
        {
            sink.report(&txn, &Self::report_of(&job)).await?;
        }
        txn.commit().await
    }
}
