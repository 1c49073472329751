//! The job engine, the same at both ends of the link: groups of jobs with dependencies, retried, skipped, killed, resumed after a crash.
//!
//! A job is a row; its state moves only here. Each function must be idempotent: after a crash a job that was running is run again.
//! A step that failed stops nothing but its dependants.

mod command;
pub mod entity;
mod function;
mod group;
mod migration;
mod report;
mod run;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use model::{Id, job::JobCommand, job::JobReport, order::OrderBook};
use sea_orm::{DatabaseTransaction, DbErr};
use store::Database;
use tokio::sync::{Mutex, Notify, broadcast};
use tokio_util::sync::CancellationToken;

pub use function::{JobContext, JobError, JobFunction, Outcome};
pub use group::{Created, NewGroup};
pub use migration::MIGRATIONS;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The database.
    #[error("database: {0}")]
    Db(#[from] DbErr),
    /// No such job or group.
    #[error("there is no {0} {1}")]
    NotFound(&'static str, Id),
    /// The verb does not fit the job's state.
    #[error("{0}")]
    Refused(String),
    /// The jobs of a group do not form a DAG.
    #[error("{0}")]
    BadGroup(String),
    /// Older than what was already ordered for the same object.
    #[error("the order for {kind} {id} is of generation {given}, but {known} was already ordered")]
    Stale {
        /// Kind of the object.
        kind: String,
        /// Its id.
        id: Id,
        /// Generation of the order.
        given: i64,
        /// Generation known.
        known: i64,
    },
}

/// Sends the site part of a group to its site. Called in the transaction that writes the group, so that nothing is lost or sent for nothing.
#[async_trait]
pub trait Dispatcher: Send + Sync {
    /// Orders for a site.
    async fn orders(&self, txn: &DatabaseTransaction, site_id: Id, book: OrderBook) -> Result<(), DbErr>;
    /// An operator's word for a site.
    async fn command(&self, txn: &DatabaseTransaction, site_id: Id, command: JobCommand) -> Result<(), DbErr>;
}

/// Hears of every change of a job, in the transaction that makes it.
#[async_trait]
pub trait ReportSink: Send + Sync {
    /// A job changed.
    async fn report(&self, txn: &DatabaseTransaction, report: &JobReport) -> Result<(), DbErr>;
}

/// Hears of finished jobs and groups, after the fact; must be idempotent.
#[async_trait]
pub trait Listener: Send + Sync {
    /// A job reached a final state.
    async fn job_ended(&self, job: entity::job::Model);
    /// A group came to its end.
    async fn group_finished(&self, group: entity::job_group::Model);
}

/// How an engine works.
#[derive(Clone)]
pub struct EngineConfig {
    /// The site that this engine works for; `None` at the Global Controller.
    pub owner: Option<Id>,
    /// Jobs that run at the same time, at most.
    pub workers: usize,
    /// Longest sleep without anything to do.
    pub idle: Duration,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { owner: None, workers: 64, idle: Duration::from_secs(30) }
    }
}

/// The engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    db: Database,
    config: EngineConfig,
    functions: HashMap<&'static str, Arc<dyn JobFunction>>,
    dispatcher: Option<Arc<dyn Dispatcher>>,
    sink: Option<Arc<dyn ReportSink>>,
    listener: std::sync::OnceLock<Arc<dyn Listener>>,
    wake: Notify,
    reports: broadcast::Sender<JobReport>,
    running: Mutex<HashMap<Id, CancellationToken>>,
    live: std::sync::Mutex<HashMap<Id, (u8, String)>>,
}

impl Engine {
    /// An engine on a database whose tables are [`MIGRATIONS`].
    pub fn new(
        db: Database,
        functions: Vec<Arc<dyn JobFunction>>,
        config: EngineConfig,
        dispatcher: Option<Arc<dyn Dispatcher>>,
        sink: Option<Arc<dyn ReportSink>>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                db,
                config,
                functions: functions.into_iter().map(|f| (f.name(), f)).collect(),
                dispatcher,
                sink,
                listener: std::sync::OnceLock::new(),
                wake: Notify::new(),
                reports: broadcast::channel(1024).0,
                running: Mutex::new(HashMap::new()),
                live: std::sync::Mutex::new(HashMap::new()),
            }),
        }
    }

    /// Sets the listener, once.
    pub fn listen(&self, listener: Arc<dyn Listener>) {
        let _ = self.inner.listener.set(listener);
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.inner.db
    }

    /// All changes of jobs from now on, progress included.
    pub fn subscribe(&self) -> broadcast::Receiver<JobReport> {
        self.inner.reports.subscribe()
    }

    /// Looks for work now.
    pub fn wake(&self) {
        self.inner.wake.notify_one();
    }

    /// Progress and words of a job that runs now, finer than the database has it.
    pub fn live(&self, job_id: Id) -> Option<(u8, String)> {
        self.inner.live.lock().ok().and_then(|l| l.get(&job_id).cloned())
    }

    /// Names of the functions that this engine offers.
    pub fn functions(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.inner.functions.keys().copied().collect();
        names.sort_unstable();
        names
    }
}
