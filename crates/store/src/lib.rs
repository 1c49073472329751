//! Entities, migrations, lists, revisions and events, on SQLite and PostgreSQL through one code path.

pub mod db;
pub mod entity;
pub mod error;
pub mod event;
pub mod list;
pub mod migration;
pub mod snapshot;
pub mod time;

pub use db::Database;
pub use error::StoreError;
pub use migration::Migration;
pub use sea_orm;
