//! Changes of a job: written, numbered, and told to all who listen.

use model::{
    Id,
    job::{JobReport, JobStatus},
};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QuerySelect,
    sea_query::{Expr, ExprTrait},
};
use serde_json::Value;
use store::time;

use crate::{
    Engine, EngineError,
    entity::{job, job_attempt, job_dependency, job_group},
};

impl Engine {
    pub(crate) fn report_of(job: &job::Model) -> JobReport {
        JobReport {
            job_id: job.id,
            sequence: job.sequence,
            status: JobStatus::parse(&job.status).unwrap_or(JobStatus::ThrownError),
            call_count: job.call_count,
            retry_count: job.retry_count,
            percent: Some(job.percent.clamp(0, 100) as u8),
            message: job.message.clone(),
            error: job.error.clone(),
            response: (job.response != Value::Null).then(|| job.response.clone()),
            started_at: job.started_at.clone(),
            finished_at: job.finished_at.clone(),
        }
    }

    /// Writes a changed job, and what follows from its status, in the transaction. The caller calls [`Engine::told`] after the commit.
    pub(crate) async fn change(
        &self,
        txn: &DatabaseTransaction,
        before: &job::Model,
        mut row: job::ActiveModel,
        status: JobStatus,
    ) -> Result<job::Model, DbErr> {
        let now = time::now();
        row.status = Set(status.as_str().to_owned());
        row.sequence = Set(before.sequence + 1);
        row.updated_at = Set(now.clone());
        let previous = JobStatus::parse(&before.status).unwrap_or(JobStatus::NotCalled);
        if status.is_final() {
            if !matches!(row.finished_at, Set(Some(_))) {
                row.finished_at = Set(Some(now));
            }
            row.told = Set(self.inner.listener.get().is_none());
        } else if previous.is_final() {
            row.told = Set(true);
        }
        let after = row.update(txn).await?;
        // Dependants may start, or wait again when the job is run once more.
        let step = i32::from(status.satisfies_dependants()) - i32::from(previous.satisfies_dependants());
        if step != 0 {
            let dependants = job_dependency::Entity::find()
                .select_only()
                .column(job_dependency::Column::JobId)
                .filter(job_dependency::Column::DependsOn.eq(after.id))
                .into_tuple::<i64>()
                .all(txn)
                .await?;
            for chunk in dependants.chunks(500) {
                job::Entity::update_many()
                    .col_expr(job::Column::BlockedBy, Expr::col(job::Column::BlockedBy).sub(step))
                    .filter(job::Column::Id.is_in(chunk.to_vec()))
                    .exec(txn)
                    .await?;
            }
        }
        if status.is_final() {
            self.finish_group(txn, after.group_id).await?;
        } else if previous.is_final() {
            Self::reopen_group(txn, after.group_id).await?;
        }
        if let Some(sink) = &self.inner.sink {
            sink.report(txn, &Self::report_of(&after)).await?;
        }
        Ok(after)
    }

    /// After the commit: tells subscribers and the listener, and looks for work.
    pub(crate) fn told(&self, job: &job::Model) {
        let report = Self::report_of(job);
        if report.status != JobStatus::Running {
            self.forget_progress(job.id);
        }
        if report.status.is_final() {
            self.inner.ended.notify_one();
        }
        let _ = self.inner.reports.send(report);
        self.inner.wake.notify_one();
    }

    /// A job and its group for a change. Always the group first: whoever ends the last but one job of a group must see the end of
    /// the last, and nobody may wait in a circle. (SQLite has one writer anyway.)
    pub(crate) async fn lock_job(
        txn: &DatabaseTransaction,
        job_id: Id,
    ) -> Result<Option<(job_group::Model, job::Model)>, DbErr> {
        let Some(job) = job::Entity::find_by_id(job_id).one(txn).await? else { return Ok(None) };
        let Some(group) = job_group::Entity::find_by_id(job.group_id).lock_exclusive().one(txn).await? else {
            return Ok(None);
        };
        let job = job::Entity::find_by_id(job_id).lock_exclusive().one(txn).await?;
        Ok(job.map(|job| (group, job)))
    }

    /// A job of a finished group runs again.
    pub(crate) async fn reopen_group<C: ConnectionTrait>(txn: &C, group_id: Id) -> Result<(), DbErr> {
        job_group::Entity::update_many()
            .col_expr(job_group::Column::FinishedAt, Expr::val(None::<String>))
            .col_expr(job_group::Column::Told, Expr::val(true))
            .filter(job_group::Column::Id.eq(group_id))
            .exec(txn)
            .await?;
        Ok(())
    }

    /// A group is finished when each of its jobs succeeded or was skipped, or when it was cancelled and nothing runs.
    pub(crate) async fn finish_group<C: ConnectionTrait>(&self, txn: &C, group_id: Id) -> Result<(), DbErr> {
        let Some(group) = job_group::Entity::find_by_id(group_id).one(txn).await? else { return Ok(()) };
        if group.finished_at.is_some() {
            return Ok(());
        }
        let mut open =
            vec![JobStatus::NotCalled.as_str(), JobStatus::Running.as_str(), JobStatus::ThrownErrorRetrying.as_str()];
        if group.cancel_reason.is_none() {
            open.push(JobStatus::ThrownError.as_str());
        }
        let left = job::Entity::find()
            .select_only()
            .column(job::Column::Id)
            .filter(job::Column::GroupId.eq(group_id))
            .filter(job::Column::Status.is_in(open))
            .into_tuple::<i64>()
            .one(txn)
            .await?;
        if left.is_none() {
            let mut row: job_group::ActiveModel = group.into();
            row.finished_at = Set(Some(time::now()));
            row.told = Set(self.inner.listener.get().is_none());
            row.update(txn).await?;
        }
        Ok(())
    }

    /// The Global Controller's end: a site says how a job stands. Older news is ignored, so that it may come twice or out of order.
    pub async fn apply_report(&self, report: &JobReport) -> Result<(), EngineError> {
        let txn = self.inner.db.begin().await?;
        let Some((_, before)) = Self::lock_job(&txn, report.job_id).await? else {
            return Err(EngineError::NotFound("job", report.job_id));
        };
        if before.site_id == self.inner.config.owner || report.sequence < before.sequence {
            return Ok(());
        }
        if report.sequence == before.sequence {
            // Nothing but progress within the same state.
            if report.status == JobStatus::Running && before.status == JobStatus::Running.as_str() {
                self.set_progress(&before, report.percent.unwrap_or(0), report.message.clone().unwrap_or_default());
            }
            return Ok(());
        }
        let mut row: job::ActiveModel = before.clone().into();
        row.call_count = Set(report.call_count);
        row.retry_count = Set(report.retry_count);
        row.percent = Set(i32::from(report.percent.unwrap_or(0)));
        row.message = Set(report.message.clone());
        row.response = Set(report.response.clone().unwrap_or(Value::Null));
        row.started_at = Set(report.started_at.clone());
        row.finished_at = Set(report.finished_at.clone());
        if let (Some(error), true) =
            (&report.error, report.error != before.error || report.call_count != before.call_count)
        {
            Self::attempt(&txn, &before, &before.updated_at, report.call_count, error).await?;
        }
        row.error = Set(report.error.clone());
        // The row takes over the site's numbering.
        let numbered = job::Model { sequence: report.sequence - 1, ..before };
        let after = self.change(&txn, &numbered, row, report.status).await?;
        txn.commit().await?;
        self.told(&after);
        Ok(())
    }

    pub(crate) async fn attempt<C: ConnectionTrait>(
        txn: &C,
        job: &job::Model,
        started_at: &str,
        attempt: i32,
        error: &str,
    ) -> Result<(), DbErr> {
        job_attempt::ActiveModel {
            job_id: Set(job.id),
            attempt: Set(attempt),
            started_at: Set(started_at.to_owned()),
            ended_at: Set(time::now()),
            error: Set(error.to_owned()),
            ..Default::default()
        }
        .insert(txn)
        .await?;
        Ok(())
    }
}
