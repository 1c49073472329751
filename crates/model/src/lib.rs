//! The nouns of Steelyard: kinds, statuses and their transitions as data, orders, snapshots and validation.
//!
//! No I/O and no clock live here. Everything that crosses a crate boundary or the link between a Global Controller
//! and its Site Controllers is defined in this crate, once.

pub mod agent;
pub mod bmc;
pub mod boot;
pub mod cleaning;
pub mod console;
pub mod deploy;
pub mod firmware;
pub mod health;
pub mod infiniband;
pub mod job;
pub mod link;
pub mod network;
pub mod order;
pub mod raid;
pub mod secret;
pub mod server;
pub mod snapshot;
pub mod storage;
pub mod switch;
pub mod template;
pub mod validate;

/// Identifier of any kind: a positive integer, unique per kind. Kept below 1,000,000 where possible because some
/// clients carry numbers as 32-bit floats.
pub type Id = i64;

/// A hardware (MAC) address in lower case with colons, `52:54:00:12:34:56`. Build it with [`validate::mac`].
pub type Mac = String;
