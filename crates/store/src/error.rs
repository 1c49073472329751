//! What can go wrong with the store.

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused or could not be reached.
    #[error("database: {0}")]
    Db(#[from] sea_orm::DbErr),
    /// The address of the database is not understood.
    #[error("{0:?} is not a database address; use sqlite://PATH?mode=rwc or postgres://USER@HOST/NAME")]
    Address(String),
    /// The database was made by a newer version.
    #[error("the tables of {component} are at version {found}, this program knows {known}; use the newer program")]
    Newer {
        /// Component.
        component: String,
        /// Version in the database.
        found: i32,
        /// Newest version known.
        known: i32,
    },
    /// A list was asked for something it does not offer.
    #[error("{field}: {message}")]
    Query {
        /// Query parameter.
        field: String,
        /// What is wrong.
        message: String,
    },
}
