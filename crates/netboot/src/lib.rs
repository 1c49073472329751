//! What a site serves to machines that boot: DHCPv4, TFTP, HTTP boot scripts, images, the agent's API and cloud-init seeds.
//!
//! The protocol logic is free of I/O where it can be: [`dhcp::respond`] maps a request and a context to an answer and
//! lease changes; [`tftp::Packet`] and [`http::range`] parse bytes; [`render`] makes seeds. What the services know comes
//! through the traits of [`backend`], which the Site Controller implements on its own store, so that booting goes on
//! while the Global Controller is out of reach. [`memory`] implements them for tests.

pub mod backend;
pub mod dhcp;
mod disk;
pub mod http;
pub mod installer;
pub mod memory;
pub mod preview;
pub mod ra;
pub mod render;
pub mod san;
pub mod tftp;
pub mod token;
pub mod view;

/// Seconds since 1970-01-01 UTC by this machine's clock; 0 when the clock is before that.
pub(crate) fn unix_now() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .ok()
        .and_then(|d| i64::try_from(d.as_secs()).ok())
        .unwrap_or(0)
}
