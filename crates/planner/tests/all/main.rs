//! The planner, by scripts whose answers are kept, and by properties over designs by chance.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed preparation is a failed test")]

mod properties;
mod scripts;
mod storage;
mod unfinished;
mod world;
