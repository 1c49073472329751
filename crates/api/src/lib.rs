//! The REST interface (v2): a table of operations, a handler for each, and the wire forms that the field's clients know.

pub mod auth;
pub mod console;
pub mod context;
pub mod contract;
pub mod docs;
pub mod error;
pub mod facts;
pub mod gpu;
pub mod kinds;
pub mod planning;
pub mod router;
pub mod schedule;
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

/// Where sites reach the link.
#[derive(Clone, Debug)]
pub struct LinkAddress {
    /// `https://HOST:PORT`.
    pub url: String,
    /// Fingerprint of the authority behind it (SHA-256, hex), by which a new site knows it.
    pub authority: String,
}

/// The application: what handlers need. Cheap to clone.
#[derive(Clone)]
pub struct App(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub db: Database,
    pub engine: Engine,
    pub sealer: Sealer,
    /// Where sites reach the link, for the enrolment command; `None` where it is not served.
    pub link: Option<LinkAddress>,
    /// "Something was written": live streams look for new events.
    pub changes: broadcast::Sender<()>,
    /// Consoles of servers that are open.
    pub consoles: console::Consoles,
}

impl App {
    /// An application on a migrated database.
    pub fn new(db: Database, engine: Engine, sealer: Sealer) -> Self {
        Self::with_link(db, engine, sealer, None)
    }

    /// The same, with the address at which sites reach the link.
    pub fn with_link(db: Database, engine: Engine, sealer: Sealer, link: Option<LinkAddress>) -> Self {
        Self(Arc::new(Inner {
            db,
            engine,
            sealer,
            link,
            changes: broadcast::channel(16).0,
            consoles: console::Consoles::default(),
        }))
    }

    /// Where sites reach the link.
    pub fn link(&self) -> Option<&LinkAddress> {
        self.0.link.as_ref()
    }

    /// Consoles of servers.
    pub fn consoles(&self) -> &console::Consoles {
        &self.0.consoles
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
