//! The loop: claims what is due, runs it, and sleeps until the next is due.

use std::{panic::AssertUnwindSafe, sync::atomic::Ordering, time::Duration};

use futures::FutureExt;
use model::job::JobStatus;
use rand::Rng;
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select,
    sea_query::{Expr, ExprTrait},
};
use serde_json::Value;
use store::time;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Engine,
    entity::job,
    function::{JobContext, JobError, Outcome},
    locked,
};

impl Engine {
    /// Works until `shutdown`. What then runs is cut off and run again at the next start.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<(), DbErr> {
        self.recover().await?;
        let tasks = TaskTracker::new();
        tasks.spawn(self.clone().tell_listener(shutdown.clone()));
        tasks.spawn(self.clone().write_progress(shutdown.clone()));
        self.inner.ready.store(true, Ordering::Release);
        while !shutdown.is_cancelled() {
            let sleep = match self.claim(&tasks, &shutdown).await {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(%error, "cannot look for jobs; trying again");
                    Duration::from_secs(1)
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.inner.wake.notified() => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
        self.inner.ready.store(false, Ordering::Release);
        tasks.close();
        let _ = tokio::time::timeout(Duration::from_secs(10), tasks.wait()).await;
        Ok(())
    }

    /// Jobs of this engine, whoever runs them.
    fn own(&self) -> Select<job::Entity> {
        match self.inner.config.owner {
            Some(site) => job::Entity::find().filter(job::Column::SiteId.eq(site)),
            None => job::Entity::find().filter(job::Column::SiteId.is_null()),
        }
    }

    /// Jobs that ran when the process died run again: each function is idempotent.
    async fn recover(&self) -> Result<(), DbErr> {
        let cut_off =
            self.own().filter(job::Column::Status.eq(JobStatus::Running.as_str())).all(&self.inner.db.write).await?;
        for job in cut_off {
            let txn = self.inner.db.begin().await?;
            let Some((_, job)) = Self::lock_job(&txn, job.id).await? else { continue };
            let mut row: job::ActiveModel = job.clone().into();
            row.due_at = Set(time::now());
            let (status, message) = if job.mark == "kill" {
                (JobStatus::ThrownError, "killed by an operator")
            } else {
                (JobStatus::NotCalled, "resumed after a restart")
            };
            row.message = Set(Some(message.into()));
            let after = self.change(&txn, &job, row, status).await?;
            txn.commit().await?;
            self.told(&after);
        }
        Ok(())
    }

    /// Starts what is due and says how long to sleep.
    async fn claim(&self, tasks: &TaskTracker, shutdown: &CancellationToken) -> Result<Duration, DbErr> {
        let ready = || {
            self.own()
                .filter(
                    job::Column::Status.is_in([JobStatus::NotCalled.as_str(), JobStatus::ThrownErrorRetrying.as_str()]),
                )
                .filter(job::Column::BlockedBy.lte(0))
                .filter(job::Column::RequiresConfirmation.eq(false))
        };
        let killed = self
            .own()
            .select_only()
            .column(job::Column::Id)
            .filter(job::Column::Status.eq(JobStatus::Running.as_str()))
            .filter(job::Column::Mark.eq("kill"))
            .into_tuple::<i64>()
            .all(&self.inner.db.write)
            .await?;
        for id in killed {
            if let Some(token) = locked(&self.inner.running).get(&id) {
                token.cancel();
            }
        }
        // A worker that becomes free wakes this loop.
        let free = self.inner.slots.available_permits();
        if free == 0 {
            return Ok(self.inner.config.idle);
        }
        let due = ready()
            .filter(job::Column::DueAt.lte(time::now()))
            .order_by_asc(job::Column::DueAt)
            .order_by_asc(job::Column::Id)
            .limit(free as u64)
            .all(&self.inner.db.write)
            .await?;
        for before in due {
            if locked(&self.inner.running).contains_key(&before.id) {
                continue;
            }
            let Ok(slot) = self.inner.slots.clone().try_acquire_owned() else { break };
            let txn = self.inner.db.begin().await?;
            // Compare-and-set (one job, one worker, however many processes look): an operator's word in between wins.
            let now = time::now();
            let claimed = job::Entity::update_many()
                .col_expr(job::Column::CallCount, Expr::col(job::Column::CallCount).add(1))
                .col_expr(job::Column::DueAt, Expr::val(now.clone()))
                .filter(job::Column::Id.eq(before.id))
                .filter(job::Column::Sequence.eq(before.sequence))
                .filter(job::Column::BlockedBy.lte(0))
                .exec(&txn)
                .await?;
            if claimed.rows_affected != 1 {
                continue;
            }
            let mut row: job::ActiveModel = job::Model { call_count: before.call_count + 1, ..before.clone() }.into();
            if before.started_at.is_none() {
                row.started_at = Set(Some(now));
            }
            row.message = Set(None);
            row.percent = Set(0);
            let job = self.change(&txn, &before, row, JobStatus::Running).await?;
            txn.commit().await?;
            let cancel = shutdown.child_token();
            locked(&self.inner.running).insert(job.id, cancel.clone());
            self.forget_progress(job.id);
            let _ = self.inner.reports.send(Self::report_of(&job));
            let (engine, shutdown) = (self.clone(), shutdown.clone());
            tasks.spawn(async move { engine.attempt_job(job, cancel, slot, shutdown).await });
        }
        let next = ready()
            .select_only()
            .column(job::Column::DueAt)
            .order_by_asc(job::Column::DueAt)
            .into_tuple::<String>()
            .one(&self.inner.db.write)
            .await?;
        let Some(due) = next.and_then(|t| time::parse(&t)) else { return Ok(self.inner.config.idle) };
        if self.inner.slots.available_permits() == 0 {
            return Ok(self.inner.config.idle);
        }
        let until = (due - chrono::Utc::now()).to_std().unwrap_or(Duration::ZERO);
        Ok(until.min(self.inner.config.idle).max(Duration::from_millis(5)))
    }

    /// One attempt, from its start to the row that tells its end.
    async fn attempt_job(
        &self,
        job: job::Model,
        cancel: CancellationToken,
        slot: OwnedSemaphorePermit,
        shutdown: CancellationToken,
    ) {
        let result = self.call(&job, &cancel, slot).await;
        self.finish_attempt(&job, &result, &shutdown).await;
        locked(&self.inner.running).remove(&job.id);
        self.inner.wake.notify_one();
    }

    async fn finish_attempt(&self, job: &job::Model, result: &Result<Value, JobError>, shutdown: &CancellationToken) {
        if shutdown.is_cancelled() && result.is_err() {
            return;
        }
        let mut pause = Duration::from_millis(100);
        // The end of a job must be written, whatever the database says at the moment.
        while let Err(error) = self.end(job, result).await {
            tracing::warn!(job = job.id, %error, "cannot write the end of a job; trying again");
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(Duration::from_secs(10));
        }
    }

    async fn call(
        &self,
        job: &job::Model,
        cancel: &CancellationToken,
        slot: OwnedSemaphorePermit,
    ) -> Result<Value, JobError> {
        let Some(function) = self.inner.functions.get(job.function.as_str()) else {
            return Err(JobError::fatal(format!(
                "the function {} is not known here; a newer version may know it",
                job.function
            )));
        };
        if self.superseded(job).await? {
            return Err(JobError::fatal(format!(
                "newer orders for {} {} were taken since; this one (generation {}) is refused",
                job.target_kind, job.target_id, job.generation
            )));
        }
        let limit = Duration::from_secs(Ord::max(u64::try_from(job.timeout_seconds).unwrap_or(0), 1));
        let work = async {
            let mut permit = slot;
            loop {
                let ctx = JobContext { job: job.clone(), engine: self.clone(), cancel: cancel.clone() };
                let outcome = AssertUnwindSafe(function.run(ctx)).catch_unwind().await.unwrap_or_else(|_| {
                    Err(JobError::retry(format!("the function {} broke off; see the log", job.function)))
                });
                match outcome? {
                    Outcome::Done(value) => return Ok(value),
                    Outcome::Wait { reason, after } => {
                        let percent = self.live(job.id).map_or(0, |(percent, _)| percent);
                        self.set_progress(job, percent, reason);
                        // Another job may work meanwhile.
                        drop(permit);
                        self.inner.wake.notify_one();
                        tokio::time::sleep(after).await;
                        permit = self.inner.slots.clone().acquire_owned().await.map_err(JobError::retry)?;
                    }
                }
            }
        };
        tokio::select! {
            () = cancel.cancelled() => Err(JobError::fatal("killed by an operator")),
            r = tokio::time::timeout(limit, work) => r.unwrap_or_else(|_| {
                let last = self.live(job.id).map(|(_, m)| format!("; it was: {m}")).unwrap_or_default();
                Err(JobError::retry(format!("not done within {} s{last}", limit.as_secs())))
            }),
        }
    }

    async fn end(&self, job: &job::Model, result: &Result<Value, JobError>) -> Result<(), DbErr> {
        let txn = self.inner.db.begin().await?;
        // The row as it is now: an operator may have marked it meanwhile.
        let Some((_, now)) = Self::lock_job(&txn, job.id).await? else { return Ok(()) };
        if now.status != JobStatus::Running.as_str() || now.call_count != job.call_count {
            return Ok(());
        }
        let mut row: job::ActiveModel = now.clone().into();
        let status = match result {
            Ok(value) => {
                row.response = Set(value.clone());
                row.percent = Set(100);
                row.error = Set(None);
                row.message = Set(None);
                JobStatus::ReturnedSuccess
            }
            Err(e) => {
                Self::attempt(&txn, &now, &now.due_at, now.call_count, &e.message).await?;
                row.error = Set(Some(e.message.clone()));
                if e.retryable && now.mark.is_empty() && now.retry_count < now.retry_max {
                    let pause = backoff(now.retry_count, now.retry_min_seconds, now.retry_max_seconds);
                    row.retry_count = Set(now.retry_count + 1);
                    row.due_at = Set(time::format(chrono::Utc::now() + pause));
                    row.message = Set(Some(format!(
                        "failed, next try in {:.0} s ({} of {})",
                        pause.as_secs_f64(),
                        now.retry_count + 1,
                        now.retry_max
                    )));
                    JobStatus::ThrownErrorRetrying
                } else {
                    row.message = Set(Some("failed; retry it once the cause is mended, or skip it".into()));
                    JobStatus::ThrownError
                }
            }
        };
        let after = self.change(&txn, &now, row, status).await?;
        txn.commit().await?;
        self.told(&after);
        Ok(())
    }
}

/// Doubles with each failure, up to the longest pause, with up to 20 % of jitter.
fn backoff(failures: i32, min: i32, max: i32) -> Duration {
    let (min, max) = (f64::from(min), f64::from(max));
    let seconds = f64::max(f64::min(min * 2f64.powi(Ord::clamp(failures, 0, 30)), f64::max(min, max)), 0.0);
    Duration::from_secs_f64(seconds * rand::rng().random_range(0.8..=1.2))
}

#[cfg(test)]
mod tests {
    use super::backoff;

    #[test]
    fn pauses_double_up_to_the_longest() {
        for (failures, expected) in [(0, 2.0), (1, 4.0), (2, 8.0), (5, 60.0), (1000, 60.0)] {
            for _ in 0..50 {
                let pause = backoff(failures, 2, 60).as_secs_f64();
                assert!((expected * 0.79..=expected * 1.21).contains(&pause), "{failures} failures: {pause} s");
            }
        }
        assert!(backoff(3, 0, 0).is_zero());
        assert!(backoff(-1, -5, -7).is_zero(), "nonsense does no harm");
    }
}
