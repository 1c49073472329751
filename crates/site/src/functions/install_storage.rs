//! What an installation is told of shares that were made a moment ago: the jobs before it in its group know where they are.

use engine::{
    JobContext, JobError,
    entity::{job, job_dependency},
};
use model::{
    boot::InstallSpec,
    job::JobStatus,
    order::Order,
    storage::{ShareState, StorageShareEnsure},
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect, QueryTrait};

use crate::Site;

/// The specification with the sources of all mounts. A share whose job was skipped is left out: it is not there.
pub(super) async fn complete(site: &Site, ctx: &JobContext, mut spec: InstallSpec) -> Result<InstallSpec, JobError> {
    if spec.storage.mounts.iter().all(|m| m.source.is_some()) {
        return Ok(spec);
    }
    let before = job_dependency::Entity::find()
        .select_only()
        .column(job_dependency::Column::DependsOn)
        .filter(job_dependency::Column::JobId.eq(ctx.id()));
    let made: Vec<ShareState> = job::Entity::find()
        .filter(job::Column::Id.in_subquery(before.into_query()))
        .filter(job::Column::Function.eq(StorageShareEnsure::NAME))
        .filter(job::Column::Status.eq(JobStatus::ReturnedSuccess.as_str()))
        .all(&site.db.read)
        .await?
        .into_iter()
        .filter_map(|j| serde_json::from_value(j.response).ok())
        .collect();
    for mount in spec.storage.mounts.iter_mut().filter(|m| m.source.is_none()) {
        if let Some(share) = made.iter().find(|s| s.key == mount.key) {
            mount.source = Some(share.source());
            mount.options.clone_from(&share.mount_options);
        }
    }
    spec.storage.mounts.retain(|m| m.source.is_some());
    Ok(spec)
}
