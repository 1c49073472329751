//! The interface through its router, on SQLite and on PostgreSQL. One program, because each further one is linked for half a minute.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed preparation is a failed test")]

mod db {
    pub use store::Database;
}
#[macro_use]
mod deploy_rig;
mod hardware_rig;
#[allow(dead_code, reason = "its whole interface is not needed here")]
#[path = "../../../store/tests/rig/databases.rs"]
mod testing;

mod answers;
mod console;
mod contract;
mod deploy;
mod firmware;
mod groups;
mod hardware;
mod health;
mod infiniband;
mod installers;
mod instances;
mod interface;
mod lifecycle;
mod people;
mod safety;
mod storage;
mod undo;
mod unmanaged;
mod values;
mod writes;
