//! The connection to a database.

use std::time::Duration;

use sea_orm::{ConnectOptions, DatabaseConnection, DatabaseTransaction, DbBackend, TransactionTrait};

use crate::{StoreError, migration::Migration};

/// A database. SQLite gets a pool for readers and one connection for the writer, so that writers queue instead of
/// failing with "database is locked"; PostgreSQL gets one pool for both.
#[derive(Clone, Debug)]
pub struct Database {
    /// For reading.
    pub read: DatabaseConnection,
    /// For writing.
    pub write: DatabaseConnection,
}

impl Database {
    /// Opens `sqlite://PATH?mode=rwc`, `sqlite::memory:` or `postgres://…`.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let base = |connections: u32| {
            let mut options = ConnectOptions::new(url.to_owned());
            options
                .max_connections(connections)
                .min_connections(1)
                .acquire_timeout(Duration::from_secs(30))
                .sqlx_logging(false);
            options
        };
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let pool = sea_orm::Database::connect(base(16)).await?;
            return Ok(Self { read: pool.clone(), write: pool });
        }
        if !url.starts_with("sqlite:") {
            return Err(StoreError::Address(url.to_owned()));
        }
        if url.contains(":memory:") {
            let mut options = base(1);
            options.idle_timeout(None::<Duration>).max_lifetime(None::<Duration>);
            let one = sea_orm::Database::connect(options).await?;
            return Ok(Self { read: one.clone(), write: one });
        }
        let tune = |mut options: ConnectOptions| {
            options.map_sqlx_sqlite_opts(|o| {
                o.pragma("journal_mode", "WAL")
                    .pragma("synchronous", "NORMAL")
                    .pragma("busy_timeout", "15000")
                    .pragma("foreign_keys", "ON")
            });
            options
        };
        let write = sea_orm::Database::connect(tune(base(1))).await?;
        let read = sea_orm::Database::connect(tune(base(4))).await?;
        Ok(Self { read, write })
    }

    /// Which database it is.
    pub fn backend(&self) -> DbBackend {
        self.write.get_database_backend()
    }

    /// A transaction for writing.
    pub async fn begin(&self) -> Result<DatabaseTransaction, sea_orm::DbErr> {
        self.write.begin().await
    }

    /// Brings the tables of a component to its newest version.
    pub async fn migrate(&self, component: &str, migrations: &[Migration]) -> Result<(), StoreError> {
        crate::migration::run(self, component, migrations).await
    }

    /// Closes all connections.
    pub async fn close(self) {
        let _ = self.read.close().await;
        let _ = self.write.close().await;
    }
}
