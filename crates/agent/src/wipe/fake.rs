//! Disks that behave as the standards say, for tests: they take commands, make progress as time goes by, fail, freeze, and lose power.

#![allow(clippy::unnecessary_wraps, reason = "the shape is that of the real thing")]

use std::{cell::RefCell, io, time::Duration};

use super::{
    ata,
    command::{Commands, Data},
    nvme, scsi,
};

/// Somebody who hears progress and says nothing.
pub(super) fn quiet(_: u64, _: u64, _: &str) -> crate::Result<()> {
    Ok(())
}

/// What of 65536 parts is done in a second.
const SPEED: u32 = 0x800;

#[derive(Default)]
struct Inner {
    clock: Duration,
    /// Progress of the operation that goes on.
    running: Option<u32>,
    action: u8,
    failed: bool,
    ever: bool,
    fail_at: Option<u32>,
    hang_at: Option<u32>,
    erased: bool,
    orders: u32,
    // NVMe
    erases_all: bool,
    refuse: u16,
    // SCSI
    knows: Vec<u8>,
    // ATA
    frozen: bool,
    locked: bool,
    password: Option<String>,
    prepared: bool,
    lose_power: bool,
    dead: bool,
    fail_erasure: bool,
    opal: bool,
    /// What stands for the medium.
    medium: Option<std::path::PathBuf>,
}

impl Inner {
    /// What was stored is gone.
    fn forget(&mut self) {
        self.erased = true;
        if let Some(path) = &self.medium
            && let Ok(length) = std::fs::metadata(path).map(|m| m.len())
        {
            let _ = std::fs::write(path, vec![0x5a; length as usize]);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.clock += time;
        let Some(at) = &mut self.running else { return };
        *at += u32::try_from(time.as_secs()).unwrap_or(u32::MAX / SPEED) * SPEED;
        if let Some(hang) = self.hang_at {
            *at = Ord::min(*at, hang);
        }
        if self.fail_at.is_some_and(|f| *at >= f) {
            self.failed = true;
        } else if *at >= 0x1_0000 {
            self.running = None;
            self.forget();
            self.ever = true;
        }
    }

    fn begin(&mut self, action: u8) {
        self.running = Some(0);
        self.action = action;
        self.orders += 1;
    }
}

macro_rules! disk {
    ($name:ident) => {
        #[derive(Default)]
        pub(super) struct $name(RefCell<Inner>);

        #[allow(dead_code, reason = "not every kind of disk is tried with everything")]
        impl $name {
            pub(super) fn erased(&self) -> bool {
                self.0.borrow().erased
            }
            pub(super) fn fail_at(&self, at: u32) {
                self.0.borrow_mut().fail_at = Some(at);
            }
            pub(super) fn hang_at(&self, at: u32) {
                self.0.borrow_mut().hang_at = Some(at);
            }
            pub(super) fn heal(&self) {
                self.0.borrow_mut().fail_at = None;
            }
            /// This file stands for its medium.
            pub(super) fn on(&self, medium: &std::path::Path) {
                self.0.borrow_mut().medium = Some(medium.to_owned());
            }
            pub(super) fn orders(&self) -> u32 {
                self.0.borrow().orders
            }
        }
    };
}

disk!(Nvme);
disk!(Sas);
disk!(Sata);

impl Nvme {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// An operation that somebody has begun.
    pub(super) fn begin(&self, action: nvme::Action, at: u32) {
        let mut inner = self.0.borrow_mut();
        inner.action = (nvme::sanitize(action).cdw10 & 7) as u8;
        inner.running = Some(at);
    }

    pub(super) fn erases_all(&self) {
        self.0.borrow_mut().erases_all = true;
    }

    pub(super) fn refuse(&self, status: u16) {
        self.0.borrow_mut().refuse = status;
    }
}

impl Commands for Nvme {
    fn nvme(&self, command: &nvme::Command, data: Data<'_>, _: Duration) -> io::Result<nvme::Answer> {
        let mut inner = self.0.borrow_mut();
        let answer = |status| Ok(nvme::Answer { status, result: 0 });
        match (command.opcode, data) {
            (0x06, Data::In(bytes)) => {
                bytes.fill(0);
                if command.cdw10 == 1 {
                    bytes[256] = 0b10;
                    bytes[328] = 0b111;
                    bytes[524] = 0b100 | if inner.erases_all { 0b10 } else { 0 };
                }
                answer(0)
            }
            (0x02, Data::In(bytes)) => {
                bytes.fill(0);
                let state = match (inner.failed, inner.running, inner.ever) {
                    (true, ..) => 3,
                    (_, Some(_), _) => 2,
                    (_, None, true) => 1,
                    _ => 0,
                };
                let progress = inner.running.unwrap_or(0xffff) as u16;
                bytes[..2].copy_from_slice(&progress.to_le_bytes());
                bytes[2] = state;
                bytes[4] = inner.action;
                answer(0)
            }
            (0x84, Data::None) => match command.cdw10 & 7 {
                1 => {
                    inner.failed = false;
                    inner.running = None;
                    answer(0)
                }
                _ if inner.failed => answer(0x1c),
                _ if inner.running.is_some() => answer(0x1d),
                action => {
                    inner.begin(action as u8);
                    answer(0)
                }
            },
            (0x80, Data::None) if inner.refuse != 0 => answer(inner.refuse),
            (0x80, Data::None) => {
                inner.erased = command.cdw10 >> 9 & 7 != 0;
                answer(0)
            }
            _ => answer(0x001),
        }
    }

    fn scsi(&self, _: &[u8], _: Data<'_>, _: Duration) -> io::Result<scsi::Answer> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn revert(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn pause(&self, time: Duration) {
        self.0.borrow_mut().pass(time);
    }

    fn now(&self) -> Duration {
        self.0.borrow().clock
    }
}

fn sensed(bytes: Vec<u8>) -> io::Result<scsi::Answer> {
    Ok(scsi::Answer { status: 2, host: 0, sense: bytes })
}

impl Sas {
    pub(super) fn new() -> Self {
        let disk = Self::default();
        disk.knows(&[1, 2, 3]);
        disk
    }

    /// The kinds of sanitize that it has.
    pub(super) fn knows(&self, kinds: &[u8]) {
        self.0.borrow_mut().knows = kinds.to_vec();
    }
}

impl Commands for Sas {
    fn nvme(&self, _: &nvme::Command, _: Data<'_>, _: Duration) -> io::Result<nvme::Answer> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn scsi(&self, cdb: &[u8], data: Data<'_>, _: Duration) -> io::Result<scsi::Answer> {
        let mut inner = self.0.borrow_mut();
        let good = Ok(scsi::Answer::default());
        match (cdb[0], data) {
            (0x03, Data::In(bytes)) => {
                bytes.fill(0);
                bytes[0] = 0x70;
                bytes[7] = 10;
                if inner.failed {
                    bytes[2] = 3;
                    bytes[12..14].copy_from_slice(&[0x31, 0x03]);
                } else if let Some(at) = inner.running {
                    bytes[2] = 2;
                    bytes[12..14].copy_from_slice(&[0x04, 0x1b]);
                    bytes[15] = 0x80;
                    bytes[16..18].copy_from_slice(&(at as u16).to_be_bytes());
                }
                good
            }
            (0xa3, Data::In(bytes)) => {
                bytes[1] = if inner.knows.contains(&cdb[5]) { 3 } else { 1 };
                good
            }
            (0x48, _) if cdb[1] & 0x1f == 0x1f => {
                inner.failed = false;
                inner.running = None;
                good
            }
            (0x48, _) if inner.failed => sensed(vec![0x72, 3, 0x31, 3, 0, 0, 0, 0]),
            (0x48, _) => {
                inner.begin(cdb[1] & 0x1f);
                good
            }
            _ => sensed(vec![0x72, 5, 0x20, 0, 0, 0, 0, 0]),
        }
    }

    fn revert(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn pause(&self, time: Duration) {
        self.0.borrow_mut().pass(time);
    }

    fn now(&self) -> Duration {
        self.0.borrow().clock
    }
}

impl Sata {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn freeze(&self) {
        self.0.borrow_mut().frozen = true;
    }

    pub(super) fn lock(&self, password: &str) {
        let mut inner = self.0.borrow_mut();
        inner.password = Some(password.to_owned());
        inner.locked = true;
    }

    pub(super) fn password(&self) -> Option<String> {
        self.0.borrow().password.clone()
    }

    /// It is self-encrypting, and somebody has set that up.
    pub(super) fn opal(&self) {
        self.0.borrow_mut().opal = true;
    }

    /// The power goes in the middle of a security erase.
    pub(super) fn lose_power_in_erasure(&self) {
        self.0.borrow_mut().lose_power = true;
    }

    pub(super) fn fail_erasure(&self) {
        self.0.borrow_mut().fail_erasure = true;
    }

    /// A disk with a password is locked after that.
    pub(super) fn power_cycle(&self) {
        let mut inner = self.0.borrow_mut();
        inner.dead = false;
        inner.frozen = false;
        inner.lose_power = false;
        inner.locked = inner.password.is_some();
    }

    pub(super) fn begin_sanitize(&self, at: u32) {
        self.0.borrow_mut().running = Some(at);
    }
}

fn registers(error: u8, count: u16, lba: u64, status: u8) -> Vec<u8> {
    let byte = |at: u32| (lba >> at & 0xff) as u8;
    let [high, low] = count.to_be_bytes();
    vec![
        0x72,
        1,
        0,
        0x1d,
        0,
        0,
        0,
        14,
        9,
        12,
        1,
        error,
        high,
        low,
        byte(24),
        byte(0),
        byte(32),
        byte(8),
        byte(40),
        byte(16),
        0x40,
        status,
    ]
}

fn aborted() -> io::Result<scsi::Answer> {
    sensed(registers(0x04, 0, 0, 0x51))
}

impl Inner {
    fn ata(&mut self, cdb: &[u8], data: Data<'_>) -> io::Result<scsi::Answer> {
        let good = Ok(scsi::Answer::default());
        let ours = |bytes: &[u8], password: &Option<String>| {
            let given = String::from_utf8_lossy(&bytes[2..34]).trim_end_matches('\0').to_owned();
            Some(given) == *password
        };
        match (cdb[14], data) {
            (0xec, Data::In(bytes)) => {
                bytes.fill(0);
                let security = 1
                    | 1 << 5
                    | u16::from(self.password.is_some()) << 1
                    | u16::from(self.locked) << 2
                    | u16::from(self.frozen) << 3;
                let mut set = |n: usize, w: u16| bytes[n * 2..n * 2 + 2].copy_from_slice(&w.to_le_bytes());
                set(128, security);
                set(59, 0b1111 << 12);
                set(89, 2);
                set(90, 1);
                good
            }
            (0xf1..=0xf6, _) if self.frozen => aborted(),
            (0xf1, Data::Out(bytes)) if !self.locked => {
                self.password = Some(String::from_utf8_lossy(&bytes[2..34]).trim_end_matches('\0').to_owned());
                good
            }
            (0xf2, Data::Out(bytes)) if ours(bytes, &self.password) => {
                self.locked = false;
                good
            }
            (0xf3, Data::None) => {
                self.prepared = true;
                good
            }
            (0xf4, Data::Out(bytes)) if self.prepared && !self.locked && ours(bytes, &self.password) => {
                self.prepared = false;
                if self.lose_power {
                    self.dead = true;
                    return Ok(scsi::Answer { status: 0, host: 0x01, sense: Vec::new() });
                }
                if self.fail_erasure {
                    return aborted();
                }
                self.forget();
                self.password = None;
                good
            }
            (0xf6, Data::Out(bytes)) if !self.locked && ours(bytes, &self.password) => {
                self.password = None;
                good
            }
            (0xb4, Data::None) => {
                let feature = u16::from_be_bytes([cdb[3], cdb[4]]);
                if feature == 0 {
                    if self.failed {
                        if cdb[6] & 1 == 0 {
                            return sensed(registers(0x04, 0, 1, 0x51));
                        }
                        self.failed = false;
                        self.running = None;
                    }
                    let count = u16::from(self.ever) << 15 | u16::from(self.running.is_some()) << 14;
                    let count = if self.running.is_some() { count & !(1 << 15) } else { count };
                    return sensed(registers(0, count, u64::from(self.running.unwrap_or(0xffff)), 0x50));
                }
                if self.running.is_some() || self.failed {
                    return aborted();
                }
                self.ever = false;
                self.begin(feature as u8);
                sensed(registers(0, 0, 0, 0x50))
            }
            _ => aborted(),
        }
    }
}

impl Commands for Sata {
    fn nvme(&self, _: &nvme::Command, _: Data<'_>, _: Duration) -> io::Result<nvme::Answer> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn scsi(&self, cdb: &[u8], mut data: Data<'_>, _: Duration) -> io::Result<scsi::Answer> {
        let mut inner = self.0.borrow_mut();
        if inner.dead {
            return Ok(scsi::Answer { status: 0, host: 0x01, sense: Vec::new() });
        }
        if let (true, 0xa2, Data::In(bytes)) = (inner.opal, cdb[0], &mut data) {
            // Locking: supported, enabled, encrypting, and locked when it is; then Opal 2.
            let flags = 0x0b | u8::from(inner.locked) << 2;
            bytes[..4].copy_from_slice(&(48 + 8 + 8 - 4_u32).to_be_bytes());
            bytes[48..56].copy_from_slice(&[0, 2, 0x10, 4, flags, 0, 0, 0]);
            bytes[56..64].copy_from_slice(&[2, 3, 0x10, 4, 0, 0, 0, 0]);
            return Ok(scsi::Answer::default());
        }
        if cdb[0] != 0x85 {
            return sensed(vec![0x72, 5, 0x20, 0, 0, 0, 0, 0]);
        }
        inner.ata(cdb, data)
    }

    fn revert(&self, psid: &str) -> io::Result<()> {
        if psid != "RIGHT" {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut inner = self.0.borrow_mut();
        inner.forget();
        inner.locked = false;
        inner.password = None;
        Ok(())
    }

    fn pause(&self, time: Duration) {
        self.0.borrow_mut().pass(time);
    }

    fn now(&self) -> Duration {
        self.0.borrow().clock
    }
}

/// The password that our commands set, as a disk keeps it.
#[test]
fn the_password_fits_its_field() {
    assert!(ata::PASSWORD.len() <= 32);
}
