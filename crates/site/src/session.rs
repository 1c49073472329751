//! Boot sessions: why a machine may boot from the network, and what it reported.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use engine::entity::job;
use model::{
    Id, Mac,
    agent::{AgentInventory, Done, IscsiVolume, Next, Progress},
    boot::BootSession,
    job::JobStatus,
    link::Observed,
    secret::{Clear, Sealed},
    snapshot::SiteServer,
    template::{InstallMethod, ReadySignal},
};
use netboot::{
    backend::{BackendError, Directory, Purpose, SessionEvents, Stranger},
    view::SiteView,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter,
    sea_query::OnConflict,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    Site,
    entity::{boot_session, boot_session_mac},
    functions::guard::{Touch, refused},
    power::observe,
};

/// Sessions that ended longer ago than this are forgotten.
const RETENTION: i64 = 7 * 24 * 3600;

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Made; the server was not told yet.
    Prepared,
    /// The server boots or works.
    Booted,
    /// An installer has read its answer file: from now on the machine boots its own disk.
    Installing,
    /// The agent reported success, or the new system is ready.
    Done,
    /// The new system is asked to shut down.
    Stopping,
    /// The agent reported a failure.
    Failed,
    /// Over without a report: given up, or its job is over.
    Ended,
}

impl Stage {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Booted => "booted",
            Self::Installing => "installing",
            Self::Done => "done",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
            Self::Ended => "ended",
        }
    }

    fn parse(word: &str) -> Self {
        match word {
            "prepared" => Self::Prepared,
            "booted" => Self::Booted,
            "installing" => Self::Installing,
            "done" => Self::Done,
            "stopping" => Self::Stopping,
            "failed" => Self::Failed,
            _ => Self::Ended,
        }
    }
}

impl boot_session::Model {
    pub(crate) fn stage(&self) -> Stage {
        Stage::parse(&self.stage)
    }
}

pub(crate) fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}

impl Site {
    /// The session of a job.
    pub(crate) async fn session(&self, job_id: Id) -> Result<Option<boot_session::Model>, DbErr> {
        boot_session::Entity::find_by_id(job_id).one(&self.db.read).await
    }

    /// A new session for a job, with a new token. An older one of the same job or machine is over.
    pub(crate) async fn begin_session(&self, mut wanted: BootSession) -> Result<boot_session::Model, BackendError> {
        let token = crypto::token::random();
        let password_hash = match &wanted.install {
            None => String::new(),
            Some(install) => {
                let clear = self.sealer.open(&install.password).map_err(|e| {
                    BackendError::new(format!("the password of the new system cannot be read: {e}; deploy again"))
                })?;
                crypto::password::crypt(&clear.0, &token).map_err(BackendError::new)?
            }
        };
        let sealed = self.sealer.seal(&Clear(token.clone())).map_err(BackendError::new)?;
        wanted.token = String::new();
        let row = boot_session::ActiveModel {
            job_id: Set(wanted.job_id),
            server_id: Set(wanted.server_id),
            body: Set(serde_json::to_value(&wanted).map_err(BackendError::new)?),
            token_hash: Set(crypto::token::hash(&token)),
            token: Set(sealed.0),
            stage: Set(Stage::Prepared.as_str().into()),
            percent: Set(0),
            message: Set(String::new()),
            error: Set(None),
            inventory: Set(Value::Null),
            erased: Set(Value::Null),
            heard_at: Set(0),
            begun_at: Set(now()),
            password_hash: Set(password_hash),
            machine: Set(String::new()),
        };
        let store = async {
            let txn = self.db.begin().await?;
            boot_session::Entity::delete_by_id(wanted.job_id).exec(&txn).await?;
            let row = row.insert(&txn).await?;
            for mac in &wanted.macs {
                let row = boot_session_mac::ActiveModel { mac: Set(mac.clone()), job_id: Set(wanted.job_id) };
                boot_session_mac::Entity::insert(row)
                    .on_conflict(
                        OnConflict::column(boot_session_mac::Column::Mac)
                            .update_column(boot_session_mac::Column::JobId)
                            .to_owned(),
                    )
                    .exec_without_returning(&txn)
                    .await?;
            }
            txn.commit().await?;
            Ok::<_, DbErr>(row)
        };
        store.await.map_err(BackendError::new)
    }

    /// Moves a session on.
    pub(crate) async fn move_session(&self, job_id: Id, stage: Stage) -> Result<(), DbErr> {
        let txn = self.db.begin().await?;
        let row = boot_session::ActiveModel {
            job_id: Set(job_id),
            stage: Set(stage.as_str().into()),
            begun_at: Set(now()),
            ..Default::default()
        };
        row.update(&txn).await?;
        txn.commit().await
    }

    /// Moves a session on that is at one of these stages; `false` when it is not.
    pub(crate) async fn advance_session(&self, job_id: Id, from: &[Stage], to: Stage) -> Result<bool, DbErr> {
        let txn = self.db.begin().await?;
        let moved = boot_session::Entity::update_many()
            .set(boot_session::ActiveModel {
                stage: Set(to.as_str().into()),
                begun_at: Set(now()),
                ..Default::default()
            })
            .filter(boot_session::Column::JobId.eq(job_id))
            .filter(boot_session::Column::Stage.is_in(from.iter().map(|s| s.as_str())))
            .exec(&txn)
            .await?;
        txn.commit().await?;
        Ok(moved.rows_affected > 0)
    }

    pub(crate) fn whole(&self, row: &boot_session::Model) -> Result<BootSession, BackendError> {
        let mut session: BootSession = serde_json::from_value(row.body.clone()).map_err(BackendError::new)?;
        session.token = self.sealer.open(&Sealed(row.token.clone())).map_err(BackendError::new)?.0;
        // Words from the labels of disks are for the agent, which has no key.
        for word in session.clean.iter_mut().flat_map(|plan| plan.psids.values_mut()) {
            *word = Sealed(self.sealer.open(word).map_err(BackendError::new)?.0);
        }
        Ok(session)
    }

    /// A session lives until its job is over: one that an operator killed takes its token along. A job that waits for
    /// a worker after a restart, or for its next try, has a machine that works on.
    pub(crate) async fn lives<C: ConnectionTrait>(&self, db: &C, row: &boot_session::Model) -> Result<bool, DbErr> {
        if !matches!(row.stage(), Stage::Prepared | Stage::Booted | Stage::Installing) {
            return Ok(false);
        }
        let job = job::Entity::find_by_id(row.job_id).one(db).await?;
        // Whoever has the server now boots their own disk.
        let instance = job.as_ref().and_then(|j| j.instance_id);
        let server = self.facts.server(row.server_id);
        if self.absence.in_doubt() || server.is_none_or(|s| refused(&s, instance, Touch::Disks).is_some()) {
            return Ok(false);
        }
        Ok(job.and_then(|j| JobStatus::parse(&j.status)).is_some_and(|status| !status.is_final()))
    }

    async fn heard(&self, job_id: Id, change: boot_session::ActiveModel) -> Result<(), BackendError> {
        let store = async {
            let txn = self.db.begin().await?;
            boot_session::ActiveModel { job_id: Set(job_id), heard_at: Set(now()), ..change }.update(&txn).await?;
            txn.commit().await
        };
        store.await.map_err(BackendError::new)
    }
}

#[async_trait]
impl Directory for Site {
    async fn view(&self) -> Result<Arc<SiteView>, BackendError> {
        Ok(self.facts.view())
    }

    async fn session_by_mac(&self, mac: &Mac) -> Result<Option<BootSession>, BackendError> {
        let db = &self.db.read;
        let Some(bound) = boot_session_mac::Entity::find_by_id(mac).one(db).await.map_err(BackendError::new)? else {
            return Ok(None);
        };
        let Some(row) = self.session(bound.job_id).await.map_err(BackendError::new)? else { return Ok(None) };
        if row.stage() == Stage::Installing {
            return Ok(None);
        }
        if self.lives(db, &row).await.map_err(BackendError::new)? { self.whole(&row).map(Some) } else { Ok(None) }
    }

    async fn session_by_token(&self, token: &str, purpose: Purpose) -> Result<Option<BootSession>, BackendError> {
        let db = &self.db.read;
        let Some(row) = boot_session::Entity::find()
            .filter(boot_session::Column::TokenHash.eq(crypto::token::hash(token)))
            .one(db)
            .await
            .map_err(BackendError::new)?
        else {
            return Ok(None);
        };
        let reported = matches!(row.stage(), Stage::Done | Stage::Stopping | Stage::Failed);
        let good = match purpose {
            Purpose::Agent => self.lives(db, &row).await.map_err(BackendError::new)?,
            Purpose::Done => reported || self.lives(db, &row).await.map_err(BackendError::new)?,
            // The new system starts after the installation's job is over.
            Purpose::PhoneHome => row.stage() != Stage::Ended && !row.password_hash.is_empty(),
        };
        if !good {
            return Ok(None);
        }
        if purpose == Purpose::Agent {
            self.heard(row.job_id, <boot_session::ActiveModel as Default>::default()).await?;
        }
        self.whole(&row).map(Some)
    }

    async fn bind(&self, session: &BootSession, certificate: &str) -> Result<bool, BackendError> {
        let row = self.session(session.job_id).await.map_err(BackendError::new)?;
        match row.map(|r| r.machine) {
            Some(machine) if machine.is_empty() => {}
            machine => return Ok(machine.is_some_and(|m| crypto::token::equal(&m, certificate))),
        }
        // Of two that come at once the database lets one in.
        let store = async {
            let txn = self.db.begin().await?;
            let bound = boot_session::Entity::update_many()
                .set(boot_session::ActiveModel { machine: Set(certificate.to_owned()), ..Default::default() })
                .filter(boot_session::Column::JobId.eq(session.job_id))
                .filter(boot_session::Column::Machine.is_in(["", certificate]))
                .exec(&txn)
                .await?;
            txn.commit().await?;
            Ok::<_, DbErr>(bound.rows_affected > 0)
        };
        store.await.map_err(BackendError::new)
    }

    async fn unbind(&self, session: &BootSession) -> Result<(), BackendError> {
        let store = async {
            let txn = self.db.begin().await?;
            boot_session::Entity::update_many()
                .set(boot_session::ActiveModel { machine: Set(String::new()), ..Default::default() })
                .filter(boot_session::Column::JobId.eq(session.job_id))
                .filter(boot_session::Column::Machine.ne(""))
                .exec(&txn)
                .await?;
            txn.commit().await
        };
        store.await.map_err(BackendError::new)
    }

    /// Unknown machines are told of, and boot their own disk.
    async fn discovery_session(&self, mac: &Mac) -> Result<Option<BootSession>, BackendError> {
        let what = Observed::UnknownMachine { mac: mac.clone(), address: None, circuit_id: None, vendor_class: None };
        observe(self, &format!("unknown/{mac}"), what).await;
        Ok(None)
    }

    fn stranger(&self, stranger: Stranger) {
        self.strangers.note(stranger);
    }

    async fn secrets(&self, session: &BootSession) -> Result<BTreeMap<String, String>, BackendError> {
        let mut all = BTreeMap::new();
        for (name, sealed) in session.install.iter().flat_map(|i| &i.secrets) {
            let clear = self.sealer.open(sealed).map_err(|e| {
                BackendError::new(format!("the secret {name} of the template cannot be read: {e}; deploy again"))
            })?;
            all.insert(name.clone(), clear.0);
        }
        if let Some(chap) = session.install.as_ref().and_then(|i| i.storage.chap.as_ref()) {
            let clear = self.sealer.open(&chap.secret).map_err(|e| {
                BackendError::new(format!("the CHAP secret of the new system cannot be read: {e}; deploy again"))
            })?;
            all.insert(netboot::san::CHAP_SECRET.to_owned(), clear.0);
        }
        Ok(all)
    }

    async fn install_volume(&self, session: &BootSession) -> Result<Option<IscsiVolume>, BackendError> {
        let Some(storage) = session.install.as_ref().map(|i| &i.storage) else { return Ok(None) };
        match self.volume_of_install(storage).await.map_err(BackendError::new)? {
            None => Ok(None),
            Some(found) => found.map(Some).map_err(BackendError::new),
        }
    }

    async fn boot_volume(&self, server: &SiteServer) -> Result<IscsiVolume, BackendError> {
        self.volume_of_server(server).await
    }

    async fn password(&self, session: &BootSession) -> Result<String, BackendError> {
        let Some(install) = &session.install else { return Ok(String::new()) };
        let clear = self.sealer.open(&install.password).map_err(|e| {
            BackendError::new(format!("the password of the new system cannot be read: {e}; deploy again"))
        })?;
        Ok(clear.0)
    }

    async fn medium(&self, session: &BootSession) -> Result<Option<PathBuf>, BackendError> {
        let Some(install) = &session.install else { return Ok(None) };
        let path = match &install.os.method {
            InstallMethod::Media { rebuild: false, .. } => self.images.path(&install.os.image.sha256),
            InstallMethod::Media { rebuild: true, .. } => self.images.medium(session.job_id, &session.token),
            _ => return Ok(None),
        };
        Ok(Some(path).filter(|p| p.exists()))
    }

    async fn password_hash(&self, session: &BootSession) -> Result<String, BackendError> {
        let row = self.session(session.job_id).await.map_err(BackendError::new)?;
        row.map(|r| r.password_hash).ok_or_else(|| BackendError::new("the boot session is over"))
    }
}

#[async_trait]
impl SessionEvents for Site {
    async fn progress(&self, session: &BootSession, progress: Progress) -> Result<(), BackendError> {
        let change = boot_session::ActiveModel {
            percent: Set(i32::from(progress.percent)),
            message: Set(progress.message.chars().take(500).collect()),
            ..Default::default()
        };
        self.heard(session.job_id, change).await
    }

    async fn inventory(&self, session: &BootSession, inventory: AgentInventory) -> Result<(), BackendError> {
        let inventory = serde_json::to_value(inventory).map_err(BackendError::new)?;
        let change = boot_session::ActiveModel { inventory: Set(inventory), ..Default::default() };
        self.heard(session.job_id, change).await
    }

    async fn done(&self, session: &BootSession, done: Done) -> Result<Next, BackendError> {
        let (stage, error) = if done.ok {
            (Stage::Done, None)
        } else {
            (Stage::Failed, Some(done.error.unwrap_or_else(|| "the agent gave no reason".into())))
        };
        let change = boot_session::ActiveModel {
            stage: Set(stage.as_str().into()),
            error: Set(error.map(|e| e.chars().take(2000).collect())),
            erased: Set(serde_json::to_value(done.erased).map_err(BackendError::new)?),
            ..Default::default()
        };
        self.heard(session.job_id, change).await?;
        // Whatever comes next, it is another job's: its order decides when the machine starts again.
        Ok(Next::PowerOff)
    }

    async fn seed_read(&self, session: &BootSession, file: &str) -> Result<(), BackendError> {
        let installer = session.install.as_ref().is_some_and(|i| i.os.method != InstallMethod::Image);
        if installer
            && self
                .advance_session(session.job_id, &[Stage::Prepared, Stage::Booted], Stage::Installing)
                .await
                .map_err(BackendError::new)?
        {
            tracing::info!(server = session.server_id, file, "an installer works");
        }
        Ok(())
    }

    async fn phone_home(&self, session: &BootSession, form: BTreeMap<String, String>) -> Result<(), BackendError> {
        let hostname = form.get("hostname").map_or("", String::as_str);
        let under_way = [Stage::Prepared, Stage::Booted, Stage::Installing];
        if session.install.as_ref().is_some_and(|i| i.os.method != InstallMethod::Image) {
            let row = self.session(session.job_id).await.map_err(BackendError::new)?;
            if row.is_some_and(|r| under_way.contains(&r.stage()) || r.stage() == Stage::Stopping) {
                let signals = session.install.as_ref().is_some_and(|i| i.os.ready == ReadySignal::Signal);
                if signals {
                    self.advance_session(session.job_id, &under_way, Stage::Done).await.map_err(BackendError::new)?;
                }
                tracing::info!(server = session.server_id, hostname, signals, "an installation says that it is ready");
                return Ok(());
            }
        }
        tracing::info!(server = session.server_id, hostname, "an installed system is up");
        let what = Observed::OsUp { server_id: session.server_id };
        observe(self, &format!("os-up/{}", session.server_id), what).await;
        Ok(())
    }
}

/// Forgets old sessions.
pub(crate) async fn sweep(site: Arc<Site>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_hours(1)) => {}
            () = shutdown.cancelled() => return,
        }
        let swept = async {
            let txn = site.db.begin().await?;
            boot_session::Entity::delete_many()
                .filter(boot_session::Column::BegunAt.lt(now() - RETENTION))
                .filter(
                    boot_session::Column::Stage
                        .is_in([Stage::Done, Stage::Stopping, Stage::Failed, Stage::Ended].map(Stage::as_str)),
                )
                .exec(&txn)
                .await?;
            txn.commit().await
        };
        crate::medium::sweep(&site).await;
        if let Err(error) = swept.await {
            tracing::warn!(%error, "old boot sessions could not be removed");
        }
    }
}
