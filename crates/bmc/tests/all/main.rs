//! BMC drivers against simulated BMCs, OpenIPMI's simulator, and trees shaped like those of makers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed preparation is a failed test")]

mod console;
mod events;
mod firmware;
mod ipmi_sim;
mod raid;
mod trees;
mod yard;
