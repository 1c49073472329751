//! What operators may do: retry, skip, kill, stop retrying, confirm, cancel a group.

use model::{
    Id,
    job::{JobCommand, JobStatus},
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use store::time;

use crate::{
    Engine, EngineError,
    entity::{job, job_group},
};

impl Engine {
    /// Carries a command out, or hands it to the site that runs the job.
    pub async fn command(&self, command: JobCommand) -> Result<(), EngineError> {
        let txn = self.inner.db.begin().await?;
        let mut told = Vec::new();
        match &command {
            JobCommand::CancelGroup { group_id, reason } => {
                told = self.cancel(&txn, *group_id, reason, &command).await?;
            }
            JobCommand::Retry { job_id, .. }
            | JobCommand::Skip { job_id, .. }
            | JobCommand::Kill { job_id }
            | JobCommand::StopRetrying { job_id }
            | JobCommand::Confirm { job_id } => {
                let (group, job) = Self::lock_job(&txn, *job_id).await?.ok_or(EngineError::NotFound("job", *job_id))?;
                may(&group, &job, &command)?;
                if matches!(command, JobCommand::Retry { .. }) && Self::superseded_in(&txn, &job).await? {
                    return Err(EngineError::Refused(format!(
                        "job {job_id} is too old to be repeated: {} {} was given newer orders since and may serve somebody else now; order the work anew",
                        job.target_kind, job.target_id
                    )));
                }
                if job.site_id == self.inner.config.owner {
                    told.extend(self.apply(&txn, job, &command).await?);
                } else if let (Some(site), Some(dispatcher)) = (job.site_id, &self.inner.dispatcher) {
                    dispatcher.command(&txn, site, command.clone()).await?;
                } else {
                    return Err(EngineError::Refused(format!(
                        "job {job_id} runs elsewhere and cannot be reached from here"
                    )));
                }
            }
        }
        txn.commit().await?;
        for job in &told {
            self.told(job);
        }
        // The loop finds the marks and stops what they are for.
        self.wake();
        Ok(())
    }

    async fn apply(
        &self,
        txn: &DatabaseTransaction,
        job: job::Model,
        command: &JobCommand,
    ) -> Result<Option<job::Model>, EngineError> {
        let status = JobStatus::parse(&job.status).unwrap_or(JobStatus::NotCalled);
        let mut row: job::ActiveModel = job.clone().into();
        let next = match command {
            JobCommand::Retry { .. } => {
                row.due_at = Set(time::now());
                row.retry_count = Set(0);
                row.mark = Set(String::new());
                row.finished_at = Set(None);
                row.message = Set(Some("will be tried again: asked for by an operator".into()));
                JobStatus::NotCalled
            }
            JobCommand::Skip { reason, .. } => {
                row.message = Set(Some(format!("skipped: {reason}")));
                JobStatus::Skipped
            }
            JobCommand::Kill { .. } => {
                row.mark = Set("kill".into());
                if status == JobStatus::Running {
                    status
                } else {
                    row.error = Set(Some("killed by an operator".into()));
                    JobStatus::ThrownError
                }
            }
            JobCommand::StopRetrying { .. } => {
                row.mark = Set("stop_retrying".into());
                if status == JobStatus::ThrownErrorRetrying { JobStatus::ThrownError } else { status }
            }
            JobCommand::Confirm { .. } => {
                row.requires_confirmation = Set(false);
                row.message = Set(None);
                status
            }
            JobCommand::CancelGroup { .. } => return Ok(None),
        };
        Ok(Some(self.change(txn, &job, row, next).await?))
    }

    async fn cancel(
        &self,
        txn: &DatabaseTransaction,
        group_id: Id,
        reason: &str,
        command: &JobCommand,
    ) -> Result<Vec<job::Model>, EngineError> {
        let group = job_group::Entity::find_by_id(group_id)
            .lock_exclusive()
            .one(txn)
            .await?
            .ok_or(EngineError::NotFound("job group", group_id))?;
        if group.finished_at.is_some() {
            return Err(EngineError::Refused(format!("group {group_id} is finished: nothing is left to cancel")));
        }
        let mut row: job_group::ActiveModel = group.into();
        row.cancel_reason = Set(Some(reason.to_owned()));
        row.update(txn).await?;
        let mut told = Vec::new();
        let mut sites = Vec::new();
        let jobs = job::Entity::find()
            .filter(job::Column::GroupId.eq(group_id))
            .order_by_asc(job::Column::Id)
            .lock_exclusive()
            .all(txn)
            .await?;
        for job in jobs {
            let status = JobStatus::parse(&job.status).unwrap_or(JobStatus::NotCalled);
            if job.site_id != self.inner.config.owner {
                sites.extend(job.site_id.filter(|_| !status.satisfies_dependants()));
                continue;
            }
            let mut row: job::ActiveModel = job.clone().into();
            match status {
                JobStatus::NotCalled | JobStatus::ThrownErrorRetrying | JobStatus::ThrownError => {
                    row.message = Set(Some(format!("cancelled: {reason}")));
                    told.push(self.change(txn, &job, row, JobStatus::Skipped).await?);
                }
                JobStatus::Running => {
                    row.mark = Set("kill".into());
                    told.push(self.change(txn, &job, row, JobStatus::Running).await?);
                }
                _ => {}
            }
        }
        sites.sort_unstable();
        sites.dedup();
        if let Some(dispatcher) = &self.inner.dispatcher {
            for site in sites {
                dispatcher.command(txn, site, command.clone()).await?;
            }
        }
        // When nothing was left to change, what had failed no longer keeps it open.
        self.finish_group(txn, group_id).await?;
        Ok(told)
    }
}

/// Whether the verb fits the state.
fn may(group: &job_group::Model, job: &job::Model, command: &JobCommand) -> Result<(), EngineError> {
    let status = JobStatus::parse(&job.status).unwrap_or(JobStatus::NotCalled);
    let refuse =
        |why: &str| Err(EngineError::Refused(format!("job {} is {}: {why}", job.id, job.status.replace('_', " "))));
    match command {
        JobCommand::Retry { .. } if group.cancel_reason.is_some() => refuse("its group was cancelled"),
        _ if group.archived => refuse("it is archived; ask for the work anew"),
        JobCommand::Retry { even_if_successful, .. } => match status {
            JobStatus::ReturnedSuccess if !even_if_successful => {
                refuse("it succeeded; ask for a retry even if successful")
            }
            JobStatus::Running => refuse("it runs; kill it first"),
            JobStatus::Skipped => refuse("its dependants went on without it"),
            _ => Ok(()),
        },
        JobCommand::Skip { .. } if !job.can_be_skipped => refuse("it cannot be skipped, what follows needs its result"),
        JobCommand::Skip { .. } | JobCommand::Kill { .. } | JobCommand::StopRetrying { .. }
            if matches!(status, JobStatus::ReturnedSuccess | JobStatus::Skipped) =>
        {
            refuse("nothing is left to do")
        }
        JobCommand::Skip { .. } if status == JobStatus::Running => refuse("it runs; kill it first"),
        JobCommand::Confirm { .. } if !job.requires_confirmation => refuse("it waits for no confirmation"),
        _ => Ok(()),
    }
}
