//! The end of a cleaning that a person asked for. What a deploy cleans is recorded with that deploy.

use api::facts;
use crypto::Sealer;
use engine::entity::job;
use model::{
    Id,
    cleaning::{ErasedDisk, SignedStatement, StepResult},
    order::ServerClean,
    server::ServerStatus,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect,
};
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
    let steps: Vec<StepResult> = serde_json::from_value(job.response["steps"].clone()).unwrap_or_default();
    let signed: Option<SignedStatement> = serde_json::from_value(job.response["signed"].clone()).ok();
    let signed = match signed {
        Some(s) => sound(&txn, &server, s).await?,
        None => None,
    };
    let mut row = certificates::new();
    row.steps = Set(Some(serde_json::to_value(&steps).unwrap_or_default()));
    row.signed = Set(signed.and_then(|s| serde_json::to_value(s).ok()));
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
    let beside = steps.iter().map(|s| format!("{}: {}", s.what, s.words));
    let list = list.chain(beside);
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

/// A statement whose signature holds. The first key of a site counts; another one is told of, because a site's key does not change by
/// itself.
async fn sound<C: ConnectionTrait>(
    txn: &C,
    server: &server::Model,
    signed: SignedStatement,
) -> Result<Option<SignedStatement>, RecordError> {
    if !crypto::signature::verify(&signed.public_key, signed.statement.as_bytes(), &signed.signature) {
        tracing::warn!(server = server.id, "the signature of a cleaning does not hold");
        return Ok(None);
    }
    let before = certificates::Entity::find()
        .filter(certificates::Column::SiteId.eq(server.site_id))
        .filter(certificates::Column::Signed.is_not_null())
        .order_by_desc(certificates::Column::Id)
        .one(txn)
        .await?
        .and_then(|c| c.signed?.get("public_key")?.as_str().map(str::to_owned));
    if let Some(old) = before.filter(|k| *k != signed.public_key) {
        let title = "A site signs cleanings with another key than before".to_owned();
        let message = format!(
            "Key {old} was used until now, {} is used for server {}. That is so after a site was set up anew; else somebody speaks in its place.",
            signed.public_key,
            facts::server_name(server)
        );
        let site = Some(("site", server.site_id));
        super::site_event(txn, server.site_id, site, "site.statement_key", "warning", title, message).await?;
    }
    Ok(Some(signed))
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
    let ids = std::collections::BTreeSet::from([server_id]);
    let ill = match failure {
        None => api::gpu::ill(&txn, &ids).await?.remove(&server_id),
        Some(_) => None,
    };
    let next = match failure {
        Some(_) => ServerStatus::CleaningRequired,
        None if ill.is_some() => ServerStatus::Unavailable,
        None if found.server_type_id.is_some() => ServerStatus::Available,
        None => ServerStatus::Unavailable,
    };
    let reason = failure.or(ill.as_deref());
    if found.status == next.as_str() && found.status_reason.as_deref() == reason {
        return Ok(());
    }
    let mut row = found.edit();
    row.status = Set(next.as_str().into());
    row.status_reason = Set(reason.map(str::to_owned));
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
        None if ill.is_some() => ("server.gpu", "warning", format!("Server {name} was cleaned and is not handed on")),
        None => ("server.cleaned", "success", format!("Server {name} was cleaned and is {}", next.as_str())),
    };
    server_event(&txn, &after, kind, severity, title, reason.unwrap_or_default().to_owned(), false).await?;
    txn.commit().await?;
    Ok(())
}
