//! The link: one outbound connection from each site to the Global Controller, over mutual TLS.
//!
//! Either end keeps what it has to say in a queue of its own database until the other end has dealt with it: a message may arrive twice,
//! never not at all, and never before an earlier one. Snapshots are not queued: they are worked out from the generation that a site holds.

pub mod client;
pub mod enrol;
mod migration;
pub mod queue;
pub mod server;
mod session;
mod tunnel;
mod wire {
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    tonic::include_proto!("steelyard.link.v1");
}

pub use migration::MIGRATIONS;
pub use queue::Queue;
pub use tunnel::{NoTunnel, PER_SITE, Tunnel, Tunnels};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other end cannot be reached or the connection broke.
    #[error("{address}: {cause}")]
    Unreachable {
        /// Address of the other end.
        address: String,
        /// Why not.
        cause: String,
    },
    /// The other end said no.
    #[error("{0}")]
    Refused(String),
    /// The other end does not keep to the protocol.
    #[error("the other end of the link said something that is not understood: {0}")]
    Protocol(String),
    /// The database.
    #[error("database: {0}")]
    Db(#[from] sea_orm::DbErr),
    /// Keys and certificates.
    #[error(transparent)]
    Crypto(#[from] crypto::CryptoError),
    /// What was received could not be dealt with now; it will be sent again.
    #[error("{0}")]
    Handler(String),
}

/// Largest piece of a message, in bytes.
const PIECE: usize = 1 << 20;
/// Largest message, in bytes: orders for some ten thousand servers.
const LARGEST: usize = 256 << 20;
/// A connection on which nothing arrives for this long is given up.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(30);
/// Time between two signs of life.
const PULSE: std::time::Duration = std::time::Duration::from_secs(10);
