//! Commands that go to a disk itself, past the kernel's block layer, and a clock. Tests have a disk that behaves.

use std::{io, time::Duration};

use super::{nvme, scsi};
use crate::{device::Device, sys};

/// What goes along with a command.
pub enum Data<'a> {
    /// Nothing.
    None,
    /// Bytes from the disk.
    In(&'a mut [u8]),
    /// Bytes to the disk.
    Out(&'a [u8]),
}

/// A disk that takes commands.
pub trait Commands {
    /// An admin command of NVMe.
    fn nvme(&self, command: &nvme::Command, data: Data<'_>, limit: Duration) -> io::Result<nvme::Answer>;
    /// A command of SCSI, also one that carries an ATA command.
    fn scsi(&self, cdb: &[u8], data: Data<'_>, limit: Duration) -> io::Result<scsi::Answer>;
    /// TCG Opal: back to the state of the factory, by the word on the disk's label.
    fn revert(&self, psid: &str) -> io::Result<()>;
    /// Waits.
    fn pause(&self, time: Duration);
    /// Time since some moment.
    fn now(&self) -> Duration;
}

/// A disk of this machine.
pub struct Real<'a> {
    device: &'a Device,
    begun: std::time::Instant,
}

impl<'a> Real<'a> {
    /// For this one.
    pub fn new(device: &'a Device) -> Self {
        Self { device, begun: std::time::Instant::now() }
    }
}

impl Commands for Real<'_> {
    fn nvme(&self, command: &nvme::Command, data: Data<'_>, limit: Duration) -> io::Result<nvme::Answer> {
        sys::nvme_admin(self.device.file(), command, data, limit)
    }

    fn scsi(&self, cdb: &[u8], data: Data<'_>, limit: Duration) -> io::Result<scsi::Answer> {
        sys::sg_io(self.device.file(), cdb, data, limit)
    }

    fn revert(&self, psid: &str) -> io::Result<()> {
        sys::opal_psid_revert(self.device.file(), psid)
    }

    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }
}
