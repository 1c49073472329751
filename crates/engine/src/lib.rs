//! The job engine, the same at both ends of the link: groups of jobs with dependencies, retried, skipped, killed, resumed after a crash.
//!
//! A job is a row; its state moves only here. Each function must be idempotent: after a crash a job that was running is run again.
//! A step that failed stops nothing but its dependants.

mod command;
pub mod entity;
mod function;
mod group;
mod listener;
mod migration;
mod progress;
pub mod query;
mod reorder;
mod report;
mod run;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use model::{Id, job::JobCommand, job::JobReport, order::OrderBook};
use sea_orm::{DatabaseTransaction, DbErr};
use store::Database;
use tokio::sync::{Notify, Semaphore, broadcast};
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

/// Why a listener could not do its part; it is called again.
pub type ListenerError = Box<dyn std::error::Error + Send + Sync>;

/// Hears of ended jobs and finished groups, one after the other, after the fact. What it was not told before a crash, or answered
/// with an error, it is told again: it must be idempotent.
#[async_trait]
pub trait Listener: Send + Sync {
    /// A job reached a final state (also `thrown_error`).
    async fn job_ended(&self, job: entity::job::Model) -> Result<(), ListenerError>;
    /// A group came to its end; its jobs' ends were told before.
    async fn group_finished(&self, group: entity::job_group::Model) -> Result<(), ListenerError>;
}

/// How an engine works.
#[derive(Clone)]
pub struct EngineConfig {
    /// The site that this engine works for; `None` at the Global Controller.
    pub owner: Option<Id>,
    /// Jobs that work at the same time, at most; those that wait ([`Outcome::Wait`]) do not count.
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
    ended: Notify,
    progressed: Notify,
    ready: AtomicBool,
    reports: broadcast::Sender<JobReport>,
    slots: Arc<Semaphore>,
    running: Mutex<HashMap<Id, CancellationToken>>,
    live: Mutex<HashMap<Id, progress::Live>>,
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
                slots: Arc::new(Semaphore::new(config.workers.clamp(1, Semaphore::MAX_PERMITS))),
                db,
                config,
                functions: functions.into_iter().map(|f| (f.name(), f)).collect(),
                dispatcher,
                sink,
                listener: std::sync::OnceLock::new(),
                wake: Notify::new(),
                ended: Notify::new(),
                progressed: Notify::new(),
                ready: AtomicBool::new(false),
                reports: broadcast::channel(1024).0,
                running: Mutex::new(HashMap::new()),
                live: Mutex::new(HashMap::new()),
            }),
        }
    }

    /// Sets the listener, once, before [`Engine::run`].
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

    /// Looks for work now. To be called after the commit of a transaction that made a group.
    pub fn wake(&self) {
        self.inner.wake.notify_one();
        self.inner.ended.notify_one();
    }

    /// Whether [`Engine::run`] has taken up what a crash left and looks for work.
    pub fn ready(&self) -> bool {
        self.inner.ready.load(Ordering::Acquire)
    }

    /// Names of the functions that this engine offers.
    pub fn functions(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.inner.functions.keys().copied().collect();
        names.sort_unstable();
        names
    }
}

/// The content, also after a panic elsewhere: each is consistent after every single operation.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
