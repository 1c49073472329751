//! The end of a change of a BMC's password: the new one counts once the BMC has proved it.

use api::facts;
use crypto::Sealer;
use engine::entity::job;
use model::{Id, order::ServerRotateCredentials};
use sea_orm::{ActiveValue::Set, EntityTrait, QuerySelect};
use store::{
    Database,
    entity::server,
    list::{Revisioned, cas},
};

use super::{RecordError, server_event};

/// The BMC takes the new password. Told twice, or of a password that is not the one that waits, nothing changes.
pub(super) async fn proved(db: &Database, sealer: &Sealer, server_id: Id, job: &job::Model) -> Result<(), RecordError> {
    let txn = db.begin().await?;
    let Some(found) = server::Entity::find_by_id(server_id).lock_exclusive().one(&txn).await? else { return Ok(()) };
    let Some(next) = found.bmc_next_password.clone() else { return Ok(()) };
    let waits = sealer.open(&model::secret::Sealed(next.clone())).ok();
    let told = serde_json::from_value::<ServerRotateCredentials>(job.payload.clone()).ok();
    let told = told.and_then(|o| sealer.for_site(found.site_id).open(&o.password).ok());
    if waits.is_none() || waits != told {
        tracing::warn!(server_id, job = job.id, "a BMC's password was changed to one that nobody waits for");
        return Ok(());
    }
    let mut row = found.edit();
    row.bmc_password = Set(Some(next));
    row.bmc_next_password = Set(None);
    let after = cas(&txn, &found, row).await?.ok_or_else(|| RecordError::Busy(format!("server {server_id}")))?;
    facts::server(&txn, sealer, server_id).await?;
    let title = format!("The BMC of server {} has a password of its own", facts::server_name(&after));
    server_event(&txn, &after, "server.credentials_rotated", "security", title, String::new(), false).await?;
    txn.commit().await?;
    Ok(())
}

/// The old password stays the one in use. The new one is kept: the BMC may have taken it, and another try finds that out.
pub(super) async fn failed(db: &Database, server_id: Id, job: &job::Model) -> Result<(), RecordError> {
    let error = job.error.clone().unwrap_or_default();
    super::inventory::incomplete(db, server_id, job.group_id, &format!("{}: {error}", job.title)).await?;
    let txn = db.begin().await?;
    let Some(found) = server::Entity::find_by_id(server_id).one(&txn).await? else { return Ok(()) };
    let title = format!("The password of the BMC of server {} was not changed", facts::server_name(&found));
    let message =
        format!("{error}. The one before stays in use; retry the job, or enter the login that the BMC takes.");
    server_event(&txn, &found, "server.credentials_not_rotated", "warning", title, message, false).await?;
    txn.commit().await?;
    Ok(())
}
