//! The REST interface (v2): a table of operations, a handler for each, and the wire forms that the field's clients know.

pub mod auth;
pub mod context;
pub mod contract;
pub mod docs;
pub mod error;
pub mod facts;
pub mod kinds;
pub mod planning;
pub mod router;
pub mod seed;

use std::sync::Arc;

use crypto::Sealer;
use engine::Engine;
use store::Database;
use tokio::sync::broadcast;

pub use error::ApiError;
pub use router::router;

/// Migrations of all tables that the interface needs.
pub async fn migrate(db: &Database) -> Result<(), store::StoreError> {
    db.migrate("global", store::migration::GLOBAL).await?;
    db.migrate("engine", engine::MIGRATIONS).await
}

/// The application: what handlers need. Cheap to clone.
#[derive(Clone)]
pub struct App(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub db: Database,
    pub engine: Engine,
    pub sealer: Sealer,
    /// Address at which sites reach the link, for the enrolment command; `None` where the link is not served.
    pub link_url: Option<String>,
    /// "Something was written": live streams look for new events.
    pub changes: broadcast::Sender<()>,
}

impl App {
    /// An application on a migrated database.
    pub fn new(db: Database, engine: Engine, sealer: Sealer) -> Self {
        Self::with_link(db, engine, sealer, None)
    }

    /// The same, with the address at which sites reach the link.
    pub fn with_link(db: Database, engine: Engine, sealer: Sealer, link_url: Option<String>) -> Self {
        Self(Arc::new(Inner { db, engine, sealer, link_url, changes: broadcast::channel(16).0 }))
    }

    /// Address at which sites reach the link.
    pub fn link_url(&self) -> Option<&str> {
        self.0.link_url.as_deref()
    }

    /// Hears when something was written.
    pub fn written(&self) -> broadcast::Receiver<()> {
        self.0.changes.subscribe()
    }

    /// The database.
    pub fn db(&self) -> &Database {
        &self.0.db
    }

    /// The job engine.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Seals secrets at rest.
    pub fn sealer(&self) -> &Sealer {
        &self.0.sealer
    }

    /// Tells live streams that something was written. They read what it was: a hint that is lost costs nothing but the next one.
    pub fn wrote(&self) {
        let _ = self.0.changes.send(());
    }
}
