//! The end of a cleaning that a person asked for. What a deploy cleans is recorded with that deploy.

use api::facts;
use crypto::Sealer;
use model::{Id, server::ServerStatus};
use sea_orm::{ActiveValue::Set, EntityTrait, QuerySelect};
use store::{
    Database,
    entity::server,
    list::{Revisioned, cas},
};

use super::{RecordError, server_event};

/// Erased, the server is available; else it waits for another try, and says why. A cleaning other than the newest is not heard.
pub(super) async fn ended(
    db: &Database,
    sealer: &Sealer,
    server_id: Id,
    group_id: Id,
    failure: Option<&str>,
) -> Result<(), RecordError> {
    let txn = db.begin().await?;
    let Some(found) = server::Entity::find_by_id(server_id).lock_exclusive().one(&txn).await? else { return Ok(()) };
    let newest = found.extra["jobInfo"]["jobGroupId"].as_i64() == Some(group_id);
    // One that failed may have been tried again by an operator.
    let waits = [ServerStatus::Cleaning.as_str(), ServerStatus::CleaningRequired.as_str()];
    if !newest || !waits.contains(&found.status.as_str()) {
        return Ok(());
    }
    let next = match failure {
        Some(_) => ServerStatus::CleaningRequired,
        None if found.server_type_id.is_some() => ServerStatus::Available,
        None => ServerStatus::Unavailable,
    };
    if found.status == next.as_str() && found.status_reason.as_deref() == failure {
        return Ok(());
    }
    let mut row = found.edit();
    row.status = Set(next.as_str().into());
    row.status_reason = Set(failure.map(str::to_owned));
    let after = cas(&txn, &found, row).await?.ok_or_else(|| RecordError::Busy(format!("server {server_id}")))?;
    facts::server(&txn, sealer, server_id).await?;
    let name = facts::server_name(&after);
    let (kind, severity, title) = match failure {
        Some(_) => ("server.cleaning_failed", "warning", format!("Server {name} was not cleaned")),
        None => ("server.cleaned", "success", format!("Server {name} was cleaned and is {}", next.as_str())),
    };
    server_event(&txn, &after, kind, severity, title, failure.unwrap_or_default().to_owned(), false).await?;
    txn.commit().await?;
    Ok(())
}
