//! Erasing disks. Before an installation quickly; for cleaning so that nothing can be read, which is then checked.
//!
//! What goes to disks as commands ([`nvme`], [`ata`], [`scsi`], [`tcg`]) is made and read by functions that know no disk; tests try them on
//! disks that behave as the standards say.

pub mod ata;
mod clean;
pub mod command;
pub mod evidence;
#[cfg(test)]
mod fake;
pub mod nvme;
pub mod place;
pub mod scsi;
pub mod tcg;
pub mod ways;

use std::collections::BTreeSet;

pub use clean::{Bench, clean};

use crate::{device::Device, error::Result, site::Reporter, table};

/// How a disk was erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    /// In words.
    pub words: &'static str,
    /// `purge` or `clear` (IEEE 2883); `None`: nothing is erased by it.
    pub standard: Option<&'static str>,
    /// It went on already when this boot image started: the power had been lost.
    pub resumed: bool,
}

impl How {
    const fn purge(words: &'static str) -> Self {
        Self { words, standard: Some("purge"), resumed: false }
    }

    const fn clear(words: &'static str) -> Self {
        Self { words, standard: Some("clear"), resumed: false }
    }

    const fn nothing(words: &'static str) -> Self {
        Self { words, standard: None, resumed: false }
    }
}

/// Hears how far something is: done, of so many, in words. An error ends the work.
pub type Tell<'a> = dyn Fn(u64, u64, &str) -> Result<()> + Sync + 'a;

/// What is zeroed at both ends of a disk: partition tables, boot loaders, RAID and LVM labels.
const ENDS: u64 = 16 << 20;
/// What is zeroed at the beginning of every old partition: signatures of file systems.
const SIGNATURES: u64 = 1 << 20;
/// Bytes of one order to the disk, so that progress can be told.
const SLICE: u64 = 256 << 20;

/// For an installation: the disk is told to forget, and what others could recognise is zeroed. Returns how.
pub fn quick(device: &Device, report: &mut Reporter<'_>) -> Result<String> {
    report.tick(0, 1, || format!("{}: erasing", device.name))?;
    // Partitions are looked up before the table is gone.
    let starts: BTreeSet<u64> = table::read(device).map(|t| t.starts()).unwrap_or_default();
    let discarded = slices(device, |at, length| device.discard(at, length).map_err(|e| e.to_string().into())).is_ok();
    for start in starts.into_iter().filter(|s| *s < device.size) {
        device.zero(start, Ord::min(SIGNATURES, device.size - start))?;
    }
    let end = Ord::min(ENDS, device.size);
    device.zero(0, end)?;
    device.zero(device.size - end, end)?;
    device.sync()?;
    let ends = end >> 20;
    Ok(if discarded {
        format!("{}: discarded as a whole, the first and last {ends} MiB zeroed", device.name)
    } else {
        format!(
            "{}: cannot discard; the first and last {ends} MiB and the beginnings of partitions zeroed",
            device.name
        )
    })
}

fn slices(device: &Device, mut each: impl FnMut(u64, u64) -> Result<()>) -> Result<()> {
    let mut at = 0;
    while at < device.size {
        let length = Ord::min(SLICE, device.size - at);
        each(at, length)?;
        at += length;
    }
    Ok(())
}
