//! The engine's tables.

use sea_orm::{DbBackend, Statement};
use store::{
    Migration,
    migration::{create_index, create_table},
};

use crate::entity::{job, job_attempt, job_dependency, job_group, object_generation};

/// All steps.
pub const MIGRATIONS: &[Migration] =
    &[Migration { version: 1, name: "groups, jobs, dependencies, attempts, generations", up: first }];

fn first(b: DbBackend) -> Vec<Statement> {
    vec![
        create_table(b, job_group::Entity),
        create_table(b, job::Entity),
        create_table(b, job_dependency::Entity),
        create_table(b, job_attempt::Entity),
        create_table(b, object_generation::Entity),
        create_index(b, job_group::Entity, false, &[job_group::Column::InfrastructureId]),
        create_index(b, job_group::Entity, false, &[job_group::Column::Archived, job_group::Column::FinishedAt]),
        create_index(b, job::Entity, false, &[job::Column::Status, job::Column::DueAt]),
        create_index(b, job::Entity, false, &[job::Column::GroupId]),
        create_index(b, job::Entity, false, &[job::Column::Told]),
        create_index(b, job_group::Entity, false, &[job_group::Column::Told]),
        create_index(b, job::Entity, false, &[job::Column::ServerId]),
        create_index(b, job::Entity, false, &[job::Column::InfrastructureId]),
        create_index(b, job_dependency::Entity, false, &[job_dependency::Column::DependsOn]),
        create_index(b, job_attempt::Entity, false, &[job_attempt::Column::JobId]),
    ]
}
