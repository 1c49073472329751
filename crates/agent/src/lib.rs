//! The program of the boot image: asks the site for its task, does the steps, reports.
//!
//! It runs as the first process of an initramfs ([`machine`]), or on files instead of disks for tests. What reads and
//! changes bytes ([`qcow2`], [`table`], [`fat`], [`inventory`]) knows nothing of where they come from.

pub mod cmdline;
pub mod device;
pub mod download;
pub mod efi;
pub mod error;
pub mod fat;
pub mod http;
pub mod image;
pub mod inventory;
pub mod iscsi;
pub mod machine;
pub mod qcow2;
pub mod seed;
pub mod site;
pub mod steps;
mod sys;
pub mod table;
pub mod wipe;

pub use error::{Error, Result};

/// One line on the machine's console.
pub fn say(text: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "steelyard-agent: {text}");
}
