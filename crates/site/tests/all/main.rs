//! The Site Controller against the simulated datacenter, with a scripted Global Controller behind a real link.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed preparation is a failed test")]

mod cleaning;
mod events;
mod faults;
mod firmware;
mod installers;
mod rig;
mod san;
mod site;
mod storage;
