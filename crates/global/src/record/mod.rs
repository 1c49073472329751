//! What sites report becomes rows: results of jobs, and what was seen on equipment. Each part is idempotent, because each may be told
//! twice, and concerns objects of the site that speaks alone.

mod cabling;
mod certificate;
mod cleaning;
mod firmware;
mod inventory;
mod observed;
mod rotation;
mod storage;
mod stranger;
mod switch;

use api::{App, facts::FactsError};
use async_trait::async_trait;
use crypto::Sealer;
use engine::{
    Listener, ListenerError,
    entity::{job, job_group},
};
use model::{
    Id,
    job::JobStatus,
    link::Observation,
    order::{Order, ServerClean, ServerDiscover, ServerInventory, ServerRotateCredentials, SwitchDiscover},
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use store::{
    Database,
    entity::{server_instance, site},
    event::{self, NewEvent},
};

pub use inventory::{Source, meaningful};

/// Why something could not be recorded; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The database.
    #[error("database: {0}")]
    Db(#[from] sea_orm::DbErr),
    /// The site's copy could not be made.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// Somebody changed the same row at the same moment.
    #[error("{0} was changed at the same moment")]
    Busy(String),
}

impl RecordError {
    /// From what the rows of the interface say.
    fn rows(e: api::ApiError) -> Self {
        Self::Busy(e.message)
    }
}

/// Records what sites report.
#[derive(Clone)]
pub struct Recorder {
    app: App,
}

impl Recorder {
    /// For an application.
    pub fn new(app: App) -> Self {
        Self { app }
    }

    fn db(&self) -> &Database {
        self.app.db()
    }

    fn sealer(&self) -> &Sealer {
        self.app.sealer()
    }

    /// Something that a site saw. An observation about an object of another site is dropped.
    pub async fn observed(&self, site_id: Id, observation: Observation) -> Result<(), RecordError> {
        observed::record(&self.app, site_id, observation).await?;
        self.app.wrote();
        Ok(())
    }
}

#[async_trait]
impl Listener for Recorder {
    async fn job_ended(&self, job: job::Model) -> Result<(), ListenerError> {
        let (db, sealer) = (self.db(), self.sealer());
        match JobStatus::parse(&job.status) {
            Some(JobStatus::ReturnedSuccess) => {
                result(db, sealer, &job).await?;
                firmware::succeeded(&self.app, &job).await?;
            }
            Some(JobStatus::ThrownError) => {
                let known = match (job.function.as_str(), job.server_id, job.error.as_deref()) {
                    (ServerInventory::NAME, Some(id), Some(error)) => {
                        // Two who change the same row at once: it is told again.
                        let done = api::kinds::server_entry::refused(&self.app, id, job.group_id, error).await;
                        done.map_err(|e| RecordError::Busy(format!("server {id} ({})", e.message)))?
                    }
                    _ => false,
                };
                if !known {
                    failure(db, sealer, &job).await?;
                }
                firmware::failed(&self.app, &job).await?;
            }
            _ => return Ok(()),
        }
        self.app.wrote();
        Ok(())
    }

    async fn group_finished(&self, group: job_group::Model) -> Result<(), ListenerError> {
        firmware::finished(&self.app, &group).await?;
        if let Some(reason) = &group.cancel_reason {
            storage::cancelled(self.db(), &group, reason).await?;
        }
        let (Some(server_id), Some(reason)) = (group.server_id, &group.cancel_reason) else { return Ok(()) };
        if group.kind == "server_register" {
            let reason = format!("the registration was cancelled: {reason}; register the server again");
            inventory::incomplete(self.db(), server_id, group.id, &reason).await?;
        } else if group.kind == api::kinds::server_cleaning::GROUP {
            let reason = format!("its cleaning was cancelled: {reason}; clean it again");
            cleaning::ended(self.db(), self.sealer(), server_id, group.id, Some(&reason)).await?;
        }
        self.app.wrote();
        Ok(())
    }
}

/// What a job that succeeded has found out.
pub async fn result(db: &Database, sealer: &Sealer, job: &job::Model) -> Result<(), RecordError> {
    if let Some(server_id) = job.server_id {
        let source = match job.function.as_str() {
            ServerInventory::NAME => Some(Source::Bmc),
            ServerDiscover::NAME => Some(Source::InBand),
            _ => None,
        };
        match source {
            Some(source) => inventory::record(db, sealer, server_id, source, &job.response).await?,
            None if job.function == ServerRotateCredentials::NAME => {
                rotation::proved(db, sealer, server_id, job).await?;
            }
            None if job.function == ServerClean::NAME => {
                cleaning::certificate(db, job, true).await?;
                inventory::gpus(db, sealer, server_id, &job.response["gpus"]).await?;
                // A cleaned server is left switched off.
                observed::power(&db.write, server_id, None, "off").await?;
                cleaning::ended(db, sealer, server_id, job.group_id, None).await?;
            }
            None => {
                if let Some(power @ ("on" | "off")) = job.response.get("power").and_then(Value::as_str) {
                    observed::power(&db.write, server_id, None, power).await?;
                }
            }
        }
    }
    if job.function.starts_with("storage.") {
        storage::succeeded(db, sealer, job).await?;
    }
    if let (Some(device_id), SwitchDiscover::NAME) = (job.network_device_id, job.function.as_str()) {
        switch::discovered(db, sealer, device_id, &job.response).await?;
    }
    Ok(())
}

/// What is told of a job that failed for good.
async fn failure(db: &Database, sealer: &Sealer, job: &job::Model) -> Result<(), RecordError> {
    let error = job.error.as_deref().unwrap_or("no reason was given");
    if job.function.starts_with("storage.") {
        return storage::failed(db, job, error).await;
    }
    match (job.function.as_str(), job.server_id, job.network_device_id) {
        (ServerRotateCredentials::NAME, Some(id), _) => rotation::failed(db, id, job).await,
        (ServerInventory::NAME | ServerDiscover::NAME | api::kinds::server_registration::FINISH, Some(id), _) => {
            let reason = format!("{}: {error}", job.title);
            inventory::incomplete(db, id, job.group_id, &reason).await
        }
        (ServerClean::NAME, Some(id), _) => {
            cleaning::certificate(db, job, false).await?;
            cleaning::ended(db, sealer, id, job.group_id, Some(&format!("its disks were not erased: {error}"))).await
        }
        (SwitchDiscover::NAME, _, Some(id)) => switch::failed(db, id, error).await,
        _ => Ok(()),
    }
}

/// Records what the earlier jobs of a group have found out, in their order: a job that comes after them needs it, and the listener may
/// not have been told yet.
pub async fn earlier(db: &Database, sealer: &Sealer, group_id: Id) -> Result<(), RecordError> {
    let jobs = job::Entity::find()
        .filter(job::Column::GroupId.eq(group_id))
        .filter(job::Column::Status.eq(JobStatus::ReturnedSuccess.as_str()))
        .order_by_asc(job::Column::Id)
        .all(&db.write)
        .await?;
    for job in jobs {
        result(db, sealer, &job).await?;
    }
    Ok(())
}

/// Appends an event about a server; one that an instance holds is told to its tenant too where `tenant` says so.
pub(crate) async fn server_event<C: ConnectionTrait>(
    txn: &C,
    row: &store::entity::server::Model,
    kind: &str,
    severity: &str,
    title: String,
    message: String,
    tenant: bool,
) -> Result<(), RecordError> {
    let mut new = NewEvent {
        kind: kind.into(),
        severity: severity.into(),
        title,
        message,
        object: Some(("server".into(), row.id)),
        server_id: Some(row.id),
        site_id: Some(row.site_id),
        context: json!({}),
        ..Default::default()
    };
    if tenant
        && let Some(instance) =
            server_instance::Entity::find().filter(server_instance::Column::ServerId.eq(row.id)).one(txn).await?
    {
        new.infrastructure_id = Some(instance.infrastructure_id);
        new.account_id = store::entity::infrastructure::Entity::find_by_id(instance.infrastructure_id)
            .one(txn)
            .await?
            .map(|i| i.account_id);
    }
    event::append(txn, new).await?;
    Ok(())
}

/// Appends an event about something of a site.
pub(crate) async fn site_event<C: ConnectionTrait>(
    txn: &C,
    site_id: Id,
    object: Option<(&str, Id)>,
    kind: &str,
    severity: &str,
    title: String,
    message: String,
) -> Result<(), RecordError> {
    event::append(
        txn,
        NewEvent {
            kind: kind.into(),
            severity: severity.into(),
            title,
            message,
            object: object.map(|(k, id)| (k.to_owned(), id)),
            site_id: Some(site_id),
            context: json!({}),
            ..Default::default()
        },
    )
    .await?;
    Ok(())
}

/// A site's name for people.
pub(crate) async fn site_name<C: ConnectionTrait>(db: &C, site_id: Id) -> Result<String, RecordError> {
    let found = site::Entity::find_by_id(site_id).one(db).await?;
    Ok(found.map_or_else(|| format!("site {site_id}"), |s| s.slug))
}
