//! What the wire asks: counts, dependencies, the archive, what is stuck. Lists run on the entities with `store::list`.

use std::{collections::HashMap, time::Duration};

use model::{Id, job::JobStatus};
use sea_orm::{
    ColumnTrait, Condition, DbErr, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    sea_query::{Expr, ExprTrait},
};
use store::time;

use crate::{
    Engine,
    entity::{job, job_dependency, job_group},
};

/// Wire names of a job's fields whose columns are called otherwise, for `store::list`.
pub const JOB_FIELDS: &[(&str, &str)] = &[
    ("jobId", "id"),
    ("jobGroupId", "group_id"),
    ("functionName", "function"),
    ("exception", "error"),
    ("markForDeath", "mark"),
    ("createdTimestamp", "created_at"),
    ("updatedTimestamp", "updated_at"),
    ("startTimestamp", "started_at"),
    ("uniqueIdentifier", "key"),
];

/// The same for a job group.
pub const GROUP_FIELDS: &[(&str, &str)] =
    &[("type", "kind"), ("createdTimestamp", "created_at"), ("finishedTimestamp", "finished_at")];

/// The same for an exception ([`crate::entity::job_attempt`]).
pub const EXCEPTION_FIELDS: &[(&str, &str)] =
    &[("exceptionId", "id"), ("exception", "error"), ("createdTimestamp", "ended_at")];

/// Counts of jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Jobs outside the archive, by status; each status is present.
    pub by_status: HashMap<JobStatus, u64>,
    /// Jobs in the archive.
    pub archived: u64,
}

/// How a group stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatistics {
    /// The group.
    pub group_id: Id,
    /// When it was made.
    pub created_at: String,
    /// When it ended.
    pub finished_at: Option<String>,
    /// Jobs that failed and wait for an operator.
    pub thrown_error: u64,
    /// Jobs that succeeded or were skipped.
    pub completed: u64,
    /// Jobs in all.
    pub total: u64,
}

const ALL: [JobStatus; 7] = [
    JobStatus::NotCalled,
    JobStatus::Running,
    JobStatus::ReturnedSuccess,
    JobStatus::ThrownErrorRetrying,
    JobStatus::ThrownError,
    JobStatus::ThrownErrorSilenced,
    JobStatus::Skipped,
];

impl Engine {
    /// Counts of all jobs.
    pub async fn statistics(&self) -> Result<Statistics, DbErr> {
        let db = &self.inner.db.read;
        let counts = job::Entity::find()
            .select_only()
            .column(job::Column::Status)
            .column_as(job::Column::Id.count(), "count")
            .filter(job::Column::Archived.eq(false))
            .group_by(job::Column::Status)
            .into_tuple::<(String, i64)>()
            .all(db)
            .await?;
        let mut by_status: HashMap<JobStatus, u64> = ALL.into_iter().map(|s| (s, 0)).collect();
        for (word, count) in counts {
            if let Some(status) = JobStatus::parse(&word) {
                by_status.insert(status, count.unsigned_abs());
            }
        }
        let archived = job::Entity::find().filter(job::Column::Archived.eq(true)).count(db).await?;
        Ok(Statistics { by_status, archived })
    }

    /// How groups stand, by id; unknown ids are left out.
    pub async fn group_statistics(&self, groups: &[Id]) -> Result<HashMap<Id, GroupStatistics>, DbErr> {
        let db = &self.inner.db.read;
        let mut answer = HashMap::new();
        for ids in groups.chunks(500) {
            for g in job_group::Entity::find().filter(job_group::Column::Id.is_in(ids.to_vec())).all(db).await? {
                let none = GroupStatistics {
                    group_id: g.id,
                    created_at: g.created_at,
                    finished_at: g.finished_at,
                    thrown_error: 0,
                    completed: 0,
                    total: 0,
                };
                answer.insert(g.id, none);
            }
            let counts = job::Entity::find()
                .select_only()
                .column(job::Column::GroupId)
                .column(job::Column::Status)
                .column_as(job::Column::Id.count(), "count")
                .filter(job::Column::GroupId.is_in(ids.to_vec()))
                .group_by(job::Column::GroupId)
                .group_by(job::Column::Status)
                .into_tuple::<(i64, String, i64)>()
                .all(db)
                .await?;
            for (group, word, count) in counts {
                let (Some(s), Some(status)) = (answer.get_mut(&group), JobStatus::parse(&word)) else { continue };
                let count = count.unsigned_abs();
                s.total += count;
                if status.satisfies_dependants() {
                    s.completed += count;
                } else if status == JobStatus::ThrownError {
                    s.thrown_error += count;
                }
            }
        }
        Ok(answer)
    }

    /// All "job waits for job" pairs of a group, for its graph.
    pub async fn group_dependencies(&self, group_id: Id) -> Result<Vec<(Id, Id)>, DbErr> {
        let jobs = job::Entity::find()
            .select_only()
            .column(job::Column::Id)
            .filter(job::Column::GroupId.eq(group_id))
            .into_query();
        job_dependency::Entity::find()
            .select_only()
            .columns([job_dependency::Column::JobId, job_dependency::Column::DependsOn])
            .filter(job_dependency::Column::JobId.in_subquery(jobs))
            .order_by_asc(job_dependency::Column::JobId)
            .order_by_asc(job_dependency::Column::DependsOn)
            .into_tuple()
            .all(&self.inner.db.read)
            .await
    }

    /// Jobs that have been in a state that is not final for longer than they should: running past the time limit and `grace`, or ready
    /// and not begun (no worker, no word from the site, no confirmation) for `grace`. Worth telling a person.
    pub async fn stuck(&self, grace: Duration) -> Result<Vec<job::Model>, DbErr> {
        let now = chrono::Utc::now();
        let before = time::format(now - grace);
        let waiting = Condition::all()
            .add(job::Column::Status.is_in([JobStatus::NotCalled.as_str(), JobStatus::ThrownErrorRetrying.as_str()]))
            .add(job::Column::BlockedBy.lte(0))
            .add(job::Column::DueAt.lte(before.clone()));
        let running = Condition::all()
            .add(job::Column::Status.eq(JobStatus::Running.as_str()))
            .add(job::Column::UpdatedAt.lte(before));
        let found = job::Entity::find()
            .filter(Condition::any().add(waiting).add(running))
            .order_by_asc(job::Column::Id)
            .all(&self.inner.db.read)
            .await?;
        let late = |j: &job::Model| {
            let limit = chrono::TimeDelta::seconds(i64::from(j.timeout_seconds));
            j.status != JobStatus::Running.as_str()
                || time::parse(&j.updated_at).is_some_and(|t| t + limit + grace <= now)
        };
        Ok(found.into_iter().filter(late).collect())
    }

    /// Moves groups that finished longer ago than `age` to the archive, with their jobs. Nothing is lost: they leave the ordinary lists only.
    pub async fn archive(&self, age: Duration) -> Result<u64, DbErr> {
        let txn = self.inner.db.begin().await?;
        let moved = job_group::Entity::update_many()
            .col_expr(job_group::Column::Archived, Expr::val(true))
            .filter(job_group::Column::Archived.eq(false))
            .filter(job_group::Column::Told.eq(true))
            .filter(job_group::Column::FinishedAt.lte(time::format(chrono::Utc::now() - age)))
            .exec(&txn)
            .await?;
        let archived = job_group::Entity::find()
            .select_only()
            .column(job_group::Column::Id)
            .filter(job_group::Column::Archived.eq(true))
            .into_query();
        job::Entity::update_many()
            .col_expr(job::Column::Archived, Expr::val(true))
            .filter(job::Column::Archived.eq(false).and(job::Column::GroupId.in_subquery(archived)))
            .exec(&txn)
            .await?;
        txn.commit().await?;
        Ok(moved.rows_affected)
    }
}
