//! A read-only TFTP server (RFC 1350, options of RFC 2347 to 2349, windows of RFC 7440).

mod packet;
mod server;
mod source;

pub use packet::{ErrorCode, Options, Packet, PacketError};
pub use server::{TftpConfig, TftpServer};
pub(crate) use source::relative;
pub use source::{Content, Source};
