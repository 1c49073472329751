//! What a site serves, on real sockets of the loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed preparation is a failed test")]

mod connections;
mod dhcp;
mod http;
mod installers;
mod storage;
mod tftp;
