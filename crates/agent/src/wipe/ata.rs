//! ATA: sanitize and security erase, carried by SCSI's ATA PASS-THROUGH (16). Bytes after ACS-4 (IDENTIFY DEVICE 7.13, SANITIZE DEVICE 7.36
//! to 7.41, SECURITY 7.45 to 7.50) and SAT-4 (ATA PASS-THROUGH 12.2).

use std::time::Duration;

use super::{
    How, Tell,
    command::{Commands, Data},
    scsi::{self, Sense, descriptor},
};
use crate::error::{Error, Result};

const SHORT: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_secs(5);
/// Time for an erasure that tells no estimate.
const UNKNOWN: Duration = Duration::from_hours(24);
const MOST: Duration = Duration::from_hours(96);
/// A sanitize operation without progress for so long is stuck.
const STUCK: Duration = Duration::from_hours(2);
/// The password that a disk has while it is erased, and that opens a disk which lost its power then. No secret: it protects nothing, and
/// a person may need it (`hdparm --user-master u --security-unlock steelyard-erase`).
pub const PASSWORD: &str = "steelyard-erase";

/// What goes into the registers, and where the data go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Command.
    pub command: u8,
    /// Feature.
    pub feature: u16,
    /// Count.
    pub count: u16,
    /// LBA, 48 bits.
    pub lba: u64,
}

/// Which way the data go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// None.
    None,
    /// From the disk, by PIO.
    In,
    /// To the disk, by PIO.
    Out,
}

/// The 16 bytes that carry a command. `registers_back`: the disk's registers come back as sense data.
pub fn pass_through(r: Registers, way: Way, long: bool, registers_back: bool) -> [u8; 16] {
    let (protocol, transfer) = match way {
        Way::None => (3_u8, 0_u8),
        // Length in the count field, in blocks; direction.
        Way::In => (4, 0x0e),
        Way::Out => (5, 0x06),
    };
    let check = if registers_back { 0x20 } else { 0 };
    let byte = |n: u64, at: u32| (n >> at & 0xff) as u8;
    let count = if way == Way::None { r.count } else { 1 };
    [
        0x85,
        protocol << 1 | u8::from(long),
        transfer | check,
        (r.feature >> 8) as u8,
        r.feature as u8,
        (count >> 8) as u8,
        count as u8,
        byte(r.lba, 24),
        byte(r.lba, 0),
        byte(r.lba, 32),
        byte(r.lba, 8),
        byte(r.lba, 40),
        byte(r.lba, 16),
        // LBA mode.
        0x40,
        r.command,
        0,
    ]
}

/// Registers that came back: error, count, LBA, status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Back {
    /// Error.
    pub error: u8,
    /// Count.
    pub count: u16,
    /// LBA.
    pub lba: u64,
    /// Status.
    pub status: u8,
}

impl Back {
    /// From sense data: the descriptor of ATA's status (type 09h).
    pub fn parse(sense: &[u8]) -> Option<Self> {
        let d = descriptor(sense, 0x09).filter(|d| d.len() >= 14)?;
        let at = |n: usize| u64::from(d[n]);
        Some(Self {
            error: d[3],
            count: u16::from_be_bytes([d[4], d[5]]),
            lba: at(7) | at(9) << 8 | at(11) << 16 | at(6) << 24 | at(8) << 32 | at(10) << 40,
            status: d[13],
        })
    }
}

/// What matters of IDENTIFY DEVICE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Security feature set (word 128).
    pub security: bool,
    /// A password is set.
    pub enabled: bool,
    /// Locked.
    pub locked: bool,
    /// Frozen until the next power cycle.
    pub frozen: bool,
    /// Too many wrong passwords.
    pub expired: bool,
    /// Enhanced erase.
    pub enhanced: bool,
    /// Time that a normal erase takes, as the disk reckons (word 89).
    pub normal_time: Option<Duration>,
    /// And an enhanced one (word 90).
    pub enhanced_time: Option<Duration>,
    /// Sanitize operations (word 59).
    pub sanitize_crypto: bool,
    /// Overwrite.
    pub sanitize_overwrite: bool,
    /// Block erase.
    pub sanitize_block: bool,
    /// It spins.
    pub rotates: bool,
}

impl Identity {
    /// From its 512 bytes.
    pub fn parse(bytes: &[u8]) -> Self {
        let word = |n: usize| match bytes.get(n * 2..n * 2 + 2) {
            Some([low, high]) => u16::from_le_bytes([*low, *high]),
            _ => 0,
        };
        let bit = |w: u16, n: u32| w >> n & 1 == 1;
        // Newer disks have 15 bits, older ones 8; each step is two minutes, and all ones means longer than that.
        let time = |w: u16| {
            let (steps, most) = if bit(w, 15) { (w & 0x7fff, 0x7fff) } else { (w & 0xff, 0xff) };
            (steps > 0 && steps < most).then(|| Duration::from_mins(u64::from(steps) * 2))
        };
        let (security, sanitize) = (word(128), word(59));
        let has = bit(sanitize, 12);
        Self {
            security: bit(security, 0),
            enabled: bit(security, 1),
            locked: bit(security, 2),
            frozen: bit(security, 3),
            expired: bit(security, 4),
            enhanced: bit(security, 5),
            normal_time: time(word(89)),
            enhanced_time: time(word(90)),
            sanitize_crypto: has && bit(sanitize, 13),
            sanitize_overwrite: has && bit(sanitize, 14),
            sanitize_block: has && bit(sanitize, 15),
            rotates: word(217) != 1,
        }
    }
}

/// The 512 bytes of a security command with our password as the user's.
pub fn security_data(first_word: u16) -> Vec<u8> {
    let mut data = vec![0; 512];
    data[..2].copy_from_slice(&first_word.to_le_bytes());
    data[2..2 + PASSWORD.len()].copy_from_slice(PASSWORD.as_bytes());
    data
}

fn send(disk: &dyn Commands, r: Registers, data: Data<'_>, limit: Duration, what: &str) -> Result<()> {
    let way = match &data {
        Data::None => Way::None,
        Data::In(_) => Way::In,
        Data::Out(_) => Way::Out,
    };
    scsi::ask(disk, &pass_through(r, way, false, false), data, limit, what)
}

/// Reads what the disk is.
pub fn identify(disk: &dyn Commands) -> Result<Identity> {
    let mut bytes = vec![0; 512];
    send(disk, Registers { command: 0xec, ..Registers::default() }, Data::In(&mut bytes), SHORT, "identify")?;
    Ok(Identity::parse(&bytes))
}

/// Opens a disk that was left locked with our password, when its power was lost.
fn unlock(disk: &dyn Commands) -> Result<()> {
    let data = security_data(0);
    send(disk, Registers { command: 0xf2, ..Registers::default() }, Data::Out(&data), SHORT, "unlock").map_err(|_| {
        Error::from(
            "the disk is locked with a password that is not ours; unlock it with its owner's, or revert it by the PSID on its label",
        )
    })
}

/// Takes the password off that an interrupted erasure of ours has left, also when the disk is locked by it. Says whether there was one.
pub fn recover(disk: &dyn Commands) -> Result<bool> {
    let is = identify(disk)?;
    if !is.enabled {
        return Ok(false);
    }
    if is.frozen || is.expired {
        return Err(Error::from(
            "the disk has a password, and takes none before its power was cut; switch the server off and on",
        ));
    }
    if is.locked {
        unlock(disk)?;
    }
    let off = Registers { command: 0xf6, ..Registers::default() };
    send(disk, off, Data::Out(&security_data(0)), SHORT, "taking the password off").map_err(|_| {
        Error::from(
            "the disk has a password that is not ours; take it off with its owner's, or revert the disk by its PSID",
        )
    })?;
    Ok(true)
}

/// SECURITY ERASE UNIT. The disk answers when it is done, and has no password any more then.
pub fn erase_by_security(disk: &dyn Commands, enhanced: bool, tell: &Tell<'_>) -> Result<How> {
    let is = identify(disk)?;
    let how = if enhanced { How::purge("ATA security erase, enhanced") } else { How::clear("ATA security erase") };
    if !is.security || (enhanced && !is.enhanced) {
        return Err(Error::Failed(format!("the disk has no {}", how.words)));
    }
    if is.frozen {
        return Err(Error::from(
            "the firmware of the server has frozen the disk's security; switch that off in its settings, or replug the disk",
        ));
    }
    if is.expired {
        return Err(Error::from("the disk has seen too many wrong passwords; switch the server off and on"));
    }
    let resumed = is.enabled;
    let data = security_data(0);
    if is.locked {
        unlock(disk)?;
    } else if !is.enabled {
        // Security level high: a master password would open it too.
        let set = Registers { command: 0xf1, ..Registers::default() };
        send(disk, set, Data::Out(&data), SHORT, "setting a password")?;
    }
    tell(0, 1, how.words)?;
    let estimate = if enhanced { is.enhanced_time } else { is.normal_time };
    let limit = estimate.map_or(UNKNOWN, |t| Ord::min(t * 3 + Duration::from_hours(1), MOST));
    let erase = || {
        send(disk, Registers { command: 0xf3, ..Registers::default() }, Data::None, SHORT, "preparing the erasure")?;
        let order = security_data(if enhanced { 0x0002 } else { 0 });
        send(disk, Registers { command: 0xf4, ..Registers::default() }, Data::Out(&order), limit, "security erase")
    };
    let erased = erase();
    let after = identify(disk);
    if let Err(why) = erased {
        // Not left with a password, where it still takes one.
        if after.as_ref().is_ok_and(|a| a.enabled) {
            let _ = unlock(disk);
            let off = Registers { command: 0xf6, ..Registers::default() };
            let _ = send(disk, off, Data::Out(&data), SHORT, "taking the password off");
        }
        let left = identify(disk).is_ok_and(|a| a.enabled);
        let words = if left { format!("{why}; the disk has the password {PASSWORD}") } else { why.to_string() };
        return Err(Error::Failed(words));
    }
    if after?.enabled {
        return Err(Error::Failed(format!("the disk says that it is erased, and still has the password {PASSWORD}")));
    }
    Ok(How { resumed, ..how })
}

/// What SANITIZE DEVICE does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Crypto scramble.
    Crypto,
    /// Block erase.
    Block,
    /// Overwrite, one pass of zeros.
    Overwrite,
}

impl Action {
    /// Feature, count and LBA with their keys.
    pub fn registers(self) -> Registers {
        let (feature, count, lba) = match self {
            Self::Crypto => (0x0011, 1 << 4, 0x4372_7970),
            Self::Block => (0x0012, 1 << 4, 0x426b_4572),
            Self::Overwrite => (0x0014, 1 << 4 | 1, 0x4f57 << 32),
        };
        // Bit 4 of the count: a failure can be left.
        Registers { command: 0xb4, feature, count, lba }
    }

    fn how(self) -> How {
        match self {
            Self::Crypto => How::purge("ATA sanitize, crypto scramble"),
            Self::Block => How::purge("ATA sanitize, block erase"),
            Self::Overwrite => How::purge("ATA sanitize, overwrite"),
        }
    }
}

/// How a sanitize operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sanitize {
    /// The last one succeeded (count bit 15).
    pub done: bool,
    /// One goes on (bit 14).
    pub running: bool,
    /// Frozen (bit 13).
    pub frozen: bool,
    /// Parts of 65536 that are done.
    pub progress: u16,
}

impl Sanitize {
    /// From the registers that SANITIZE STATUS EXT gives back.
    pub fn parse(back: Back) -> Self {
        let bit = |n: u32| back.count >> n & 1 == 1;
        Self { done: bit(15), running: bit(14), frozen: bit(13), progress: back.lba as u16 }
    }
}

/// One sanitize command; its registers.
fn sanitize(disk: &dyn Commands, r: Registers, what: &str) -> Result<Back> {
    let answer = disk
        .scsi(&pass_through(r, Way::None, true, true), Data::None, SHORT)
        .map_err(|e| Error::Failed(format!("{what}: {e}")))?;
    let back = Back::parse(&answer.sense);
    match back {
        Some(back) if back.status & 1 == 0 => Ok(back),
        Some(back) => {
            let why = match back.lba as u8 {
                1 => "the last one failed",
                2 => "the disk does not do that",
                3 => "the disk is frozen against sanitize until its power was cut",
                _ => "the disk aborted it",
            };
            Err(Error::Failed(format!("{what}: {why} (error {:#04x}, reason {})", back.error, back.lba as u8)))
        }
        None => {
            let why = Sense::parse(&answer.sense);
            let why = why.map_or_else(
                || "the controller gives no registers back".to_owned(),
                |s| format!("sense {:x}/{:02x}/{:02x}", s.key, s.code, s.qualifier),
            );
            Err(Error::Failed(format!("{what}: {why}")))
        }
    }
}

fn status(disk: &dyn Commands, clear: bool) -> Result<Sanitize> {
    // Bit 0 of the count leaves the failure of an older one.
    let r = Registers { command: 0xb4, count: u16::from(clear), ..Registers::default() };
    sanitize(disk, r, "the state of sanitize").map(Sanitize::parse)
}

/// Sanitizes a disk. One that goes on already, begun before the power was lost, is waited for, and then ours is ordered.
pub fn erase_by_sanitize(disk: &dyn Commands, action: Action, size: u64, tell: &Tell<'_>) -> Result<How> {
    let is = identify(disk)?;
    let how = action.how();
    let has = match action {
        Action::Crypto => is.sanitize_crypto,
        Action::Block => is.sanitize_block,
        Action::Overwrite => is.sanitize_overwrite,
    };
    if !has {
        return Err(Error::Failed(format!("the disk has no {}", how.words)));
    }
    if is.locked {
        return Err(Error::from("the disk is locked with a password"));
    }
    let slow = Duration::from_hours(6) + Duration::from_secs(size / 30_000_000);
    // The failure of an older one is cleared by asking for it.
    let before = status(disk, false).or_else(|_| status(disk, true))?;
    if before.running {
        follow(disk, how.words, slow, tell)?;
    }
    if before.frozen {
        return Err(Error::from("the firmware of the server has frozen the disk against sanitize; replug the disk"));
    }
    tell(0, 1, how.words)?;
    sanitize(disk, action.registers(), "sanitize")?;
    follow(disk, how.words, if action == Action::Overwrite { slow } else { Duration::from_hours(6) }, tell)?;
    Ok(how)
}

fn follow(disk: &dyn Commands, words: &str, limit: Duration, tell: &Tell<'_>) -> Result<()> {
    let begun = disk.now();
    let (mut last, mut moved) = (0, begun);
    loop {
        disk.pause(LOOK);
        let now = status(disk, false).map_err(|e| Error::Failed(format!("{words}: {e}")))?;
        if !now.running {
            return if now.done {
                Ok(())
            } else {
                Err(Error::Failed(format!("the disk reports that its {words} failed")))
            };
        }
        if now.progress != last {
            (last, moved) = (now.progress, disk.now());
        }
        if disk.now().saturating_sub(begun) > limit || disk.now().saturating_sub(moved) > STUCK {
            let minutes = disk.now().saturating_sub(begun).as_secs() / 60;
            return Err(Error::Failed(format!(
                "{words} has not ended within {minutes} minutes; it goes on in the disk"
            )));
        }
        tell(u64::from(now.progress), 65536, words)?;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop")]
    use super::{
        super::fake::{Sata, quiet},
        *,
    };

    #[test]
    fn identify_is_read_as_the_standard_has_it() {
        let mut bytes = vec![0; 512];
        let mut set = |n: usize, w: u16| bytes[n * 2..n * 2 + 2].copy_from_slice(&w.to_le_bytes());
        set(59, 0b1011 << 12);
        set(89, 0x001e);
        set(90, 0x8002);
        set(128, 0b10_1001);
        set(217, 1);
        let is = Identity::parse(&bytes);
        assert!(is.security && is.frozen && is.enhanced && !is.locked && !is.enabled && !is.rotates);
        assert!(is.sanitize_crypto && is.sanitize_block && !is.sanitize_overwrite);
        assert_eq!((is.normal_time, is.enhanced_time), (Some(Duration::from_hours(1)), Some(Duration::from_mins(4))));
        bytes[89 * 2] = 0xff;
        assert_eq!(Identity::parse(&bytes).normal_time, None, "longer than it can say");
        assert_eq!(Identity::parse(&[]), Identity { rotates: true, ..Identity::default() });
    }

    #[test]
    fn commands_are_carried_as_the_standard_has_it() {
        let identify = pass_through(Registers { command: 0xec, ..Registers::default() }, Way::In, false, false);
        assert_eq!(identify, [0x85, 0x08, 0x0e, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x40, 0xec, 0]);
        let erase = pass_through(Registers { command: 0xf4, ..Registers::default() }, Way::Out, false, false);
        assert_eq!((erase[1], erase[2], erase[6], erase[14]), (0x0a, 0x06, 1, 0xf4));
        let crypto = pass_through(Action::Crypto.registers(), Way::None, true, true);
        assert_eq!(crypto, [0x85, 0x07, 0x20, 0, 0x11, 0, 0x10, 0x43, 0x70, 0, 0x79, 0, 0x72, 0x40, 0xb4, 0]);
        let overwrite = pass_through(Action::Overwrite.registers(), Way::None, true, true);
        assert_eq!((overwrite[9], overwrite[11], overwrite[6]), (0x57, 0x4f, 0x11));
        let data = security_data(2);
        assert_eq!((data.len(), data[0], &data[2..17]), (512, 2, PASSWORD.as_bytes()));
        // Registers in sense data: done, at 0x1234.
        let sense = [0x72, 1, 0, 0x1d, 0, 0, 0, 14, 9, 12, 1, 0, 0x80, 0, 0, 0x34, 0, 0x12, 0, 0, 0x40, 0x50];
        let back = Back::parse(&sense).unwrap();
        assert_eq!((back.count, back.lba, back.status), (0x8000, 0x1234, 0x50));
        assert!(Sanitize::parse(back).done && Back::parse(&sense[..12]).is_none());
    }

    #[test]
    fn security_erase_sets_a_password_and_leaves_none() {
        for enhanced in [false, true] {
            let disk = Sata::new();
            erase_by_security(&disk, enhanced, &quiet).unwrap();
            assert!(disk.erased() && disk.password().is_none());
        }
    }

    #[test]
    fn a_disk_that_is_frozen_or_locked_by_others_says_so() {
        let disk = Sata::new();
        disk.freeze();
        let why = erase_by_security(&disk, true, &quiet).unwrap_err();
        assert!(why.to_string().contains("frozen") && !disk.erased(), "{why}");
        let disk = Sata::new();
        disk.lock("of somebody else");
        let why = erase_by_security(&disk, true, &quiet).unwrap_err();
        assert!(why.to_string().contains("not ours") && !disk.erased(), "{why}");
        assert!(recover(&disk).unwrap_err().to_string().contains("not ours"));
    }

    #[test]
    fn power_lost_in_the_middle_leaves_a_disk_that_is_opened_again() {
        let disk = Sata::new();
        disk.lose_power_in_erasure();
        let why = erase_by_security(&disk, true, &quiet).unwrap_err();
        assert!(why.to_string().contains("no answer") || why.to_string().contains("controller"), "{why}");
        disk.power_cycle();
        assert!(disk.password().is_some(), "the disk keeps our password over that");
        assert!(recover(&disk).unwrap() && disk.password().is_none());
        assert!(erase_by_security(&disk, true, &quiet).is_ok() && disk.erased() && disk.password().is_none());
        // Also without taking it off first.
        let disk = Sata::new();
        disk.lose_power_in_erasure();
        let _ = erase_by_security(&disk, false, &quiet);
        disk.power_cycle();
        assert!(erase_by_security(&disk, false, &quiet).unwrap().resumed && disk.erased());
    }

    #[test]
    fn an_erasure_that_fails_takes_the_password_off() {
        let disk = Sata::new();
        disk.fail_erasure();
        assert!(erase_by_security(&disk, true, &quiet).is_err());
        assert!(disk.password().is_none() && !disk.erased());
    }

    #[test]
    fn sanitize_is_followed_and_its_failure_told() {
        let disk = Sata::new();
        assert_eq!(
            erase_by_sanitize(&disk, Action::Crypto, 1 << 40, &quiet).unwrap().words,
            "ATA sanitize, crypto scramble"
        );
        assert!(disk.erased());
        let disk = Sata::new();
        disk.fail_at(0x8000);
        let why = erase_by_sanitize(&disk, Action::Block, 1 << 40, &quiet).unwrap_err();
        assert!(why.to_string().contains("failed"), "{why}");
        disk.heal();
        assert!(erase_by_sanitize(&disk, Action::Block, 1 << 40, &quiet).is_ok());
        let disk = Sata::new();
        disk.begin_sanitize(0x2000);
        assert!(erase_by_sanitize(&disk, Action::Block, 1 << 40, &quiet).is_ok() && disk.erased());
    }
}
