//! What sites report of firmware, sensors and BMCs goes to the rows of the interface.

use api::{ApiError, App, kinds::firmware_record as rows, kinds::firmware_upgrade::GROUP};
use engine::entity::{job, job_group};
use model::{
    firmware::{ServerFirmwareInventory, ServerFirmwareUpdate, ServerSensors},
    order::Order,
};

/// What a job that succeeded has found out or done.
pub(super) async fn succeeded(app: &App, job: &job::Model) -> Result<(), ApiError> {
    match (job.function.as_str(), job.server_id) {
        (ServerFirmwareInventory::NAME, Some(id)) => rows::inventory(app, id, &job.response).await,
        (ServerFirmwareUpdate::NAME, Some(_)) => rows::updated(app, job).await,
        (ServerSensors::NAME, Some(id)) => rows::sensors(app, id, &job.response).await,
        _ => Ok(()),
    }
}

/// What failed for good.
pub(super) async fn failed(app: &App, job: &job::Model) -> Result<(), ApiError> {
    let error = job.error.as_deref().unwrap_or("no reason was given");
    match job.function.as_str() {
        ServerFirmwareUpdate::NAME | ServerFirmwareInventory::NAME => rows::failed(app, job, error).await,
        _ => Ok(()),
    }
}

/// The end of an update.
pub(super) async fn finished(app: &App, group: &job_group::Model) -> Result<(), ApiError> {
    if group.kind == GROUP { rows::finished(app, group).await } else { Ok(()) }
}
