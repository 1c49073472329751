//! A DHCPv4 server (RFC 2131, RFC 2132) for machines that boot from the network.

mod boot;
mod lease;
mod packet;
mod respond;
mod select;
mod server;

pub(crate) use boot::hyphens;
pub use boot::{BootFile, BootFiles};
pub use lease::{Lease, LeaseChange, LeaseState, LeaseTable};
pub use packet::{PacketError, Request};
pub use respond::{Ctx, Destination, Outcome, Reply, respond};
pub use server::{DhcpConfig, DhcpServer, DhcpStartError};

/// How a DHCP server presents itself to clients.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Server identifier (option 54): an address of this server that clients and relays can reach.
    pub server_id: std::net::Ipv4Addr,
    /// `next-server` and option 66.
    pub tftp_server: std::net::Ipv4Addr,
    /// Base of HTTP URLs without a trailing slash: `http://192.0.2.1:8090`.
    pub http_base: String,
    /// Boot files by client architecture.
    pub boot_files: BootFiles,
}
