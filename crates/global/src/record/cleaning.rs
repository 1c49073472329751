//! The end of a cleaning that a person asked for. What a deploy cleans is recorded with that deploy.

use api::facts;
use crypto::Sealer;
use engine::entity::job;
use model::{Id, cleaning::ErasedDisk, order::ServerClean, server::ServerStatus};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect};
use serde_json::json;
use store::{
    Database,
    entity::{cleaning_certificate as certificates, server},
    event::{self, NewEvent},
    list::{Revisioned, cas},
};

use super::{RecordError, server_event};

/// What a cleaning erased, how, and how that was checked, kept for good. Told twice, it is kept once.
pub(super) async fn certificate(db: &Database, job: &job::Model, succeeded: bool) -> Result<(), RecordError> {
    let Some(server_id) = job.server_id else { return Ok(()) };
    let at = job.finished_at.clone().unwrap_or_else(|| job.updated_at.clone());
    let txn = db.begin().await?;
    let known = certificates::Entity::find()
        .filter(certificates::Column::JobId.eq(job.id))
        .filter(certificates::Column::FinishedAt.eq(&at))
        .count(&txn)
        .await?;
    let Some(server) = server::Entity::find_by_id(server_id).one(&txn).await?.filter(|_| known == 0) else {
        return Ok(());
    };
    let order: ServerClean = serde_json::from_value(job.payload.clone()).unwrap_or_default();
    let disks: Vec<ErasedDisk> = serde_json::from_value(job.response["erased"].clone()).unwrap_or_default();
    let mut row = certificates::new();
    row.server_id = Set(server_id);
    row.site_id = Set(server.site_id);
    row.server_name = Set(facts::server_name(&server));
    row.job_id = Set(job.id);
    row.finished_at = Set(at);
    row.succeeded = Set(succeeded);
    row.policy = Set(order.plan.policy.clone());
    row.method = Set(order.plan.method.as_str().into());
    row.reason = Set(job.error.clone().filter(|_| !succeeded));
    row.disks = Set(serde_json::to_value(&disks).unwrap_or_default());
    let made = row.insert(&txn).await?;
    let erased = disks.iter().filter(|d| d.erased).count();
    let name = facts::server_name(&server);
    let title = match (succeeded, disks.len()) {
        (false, _) => format!("Server {name}: its disks were not all erased"),
        (true, 0) => format!("Server {name}: all disks erased"),
        (true, all) => format!("Server {name}: {erased} of {all} disks erased"),
    };
    let list = disks.iter().map(|d| {
        let disk = d.serial.as_ref().map_or_else(|| d.name.clone(), |s| format!("{} ({s})", d.name));
        let check = d.verified.as_ref().map_or_else(String::new, |v| format!("; {v}"));
        format!("{disk}: {}{check}", d.error.as_ref().unwrap_or(&d.method))
    });
    let new = NewEvent {
        kind: "server.cleaning_certificate".into(),
        severity: if succeeded { "info" } else { "warning" }.into(),
        title,
        message: list.collect::<Vec<_>>().join("; "),
        object: Some(("server".into(), server_id)),
        server_id: Some(server_id),
        site_id: Some(server.site_id),
        job_id: Some(job.id),
        context: json!({"cleaningCertificateId": made.id}),
        ..Default::default()
    };
    event::append(&txn, new).await?;
    txn.commit().await?;
    Ok(())
}

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
    if failure.is_none() {
        let mut extra = found.extra.clone();
        if let Some(map) = extra.as_object_mut() {
            map.remove(api::kinds::server::DIRTY);
        }
        row.extra = Set(extra);
    }
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
