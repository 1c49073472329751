//! NVMe: format and sanitize. Bytes after the NVM Express Base Specification 2.0 (Identify 5.17, Format NVM 5.14, Sanitize 5.24, log 81h
//! 5.16.1.22) and the NVM Command Set Specification 1.0 (Identify Namespace 4.1.5.1).

use std::time::Duration;

use super::{
    How, Tell,
    command::{Commands, Data},
};
use crate::error::{Error, Result};

/// Length of an identify structure.
const IDENTITY: usize = 4096;
/// Answer to a short command.
const SHORT: Duration = Duration::from_mins(1);
/// Longest time of a format: the controller answers when it is done.
const FORMAT: Duration = Duration::from_hours(12);
/// How often progress is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// A sanitize operation without progress for so long is stuck.
const STUCK: Duration = Duration::from_hours(2);
/// Shortest time that any sanitize operation is given.
const LEAST: Duration = Duration::from_mins(30);
/// Longest.
const MOST: Duration = Duration::from_hours(72);
const EVERY_NAMESPACE: u32 = 0xffff_ffff;

/// An admin command; what is not said is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Opcode.
    pub opcode: u8,
    /// Namespace.
    pub namespace: u32,
    /// Command dwords.
    pub cdw10: u32,
    /// The next one.
    pub cdw11: u32,
}

/// Its completion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Status code type and status code; 0 is success.
    pub status: u16,
    /// Dword 0.
    pub result: u32,
}

/// Words for a status (Base 3.3.3.2).
fn words(status: u16) -> String {
    let known = match status & 0x7ff {
        0x001 => "invalid command opcode",
        0x002 => "invalid field in the command",
        0x004 => "data transfer error",
        0x006 => "internal error",
        0x00b => "invalid namespace or format",
        0x015 => "operation denied",
        0x01c => "sanitize failed",
        0x01d => "sanitize in progress",
        0x020 => "namespace is write protected",
        0x10a => "invalid format",
        0x10b => "firmware activation requires a reset",
        0x286 => "access denied: the disk is locked",
        _ => return format!("status {status:#05x}"),
    };
    format!("{known} (status {:#05x})", status & 0x7ff)
}

/// What a sanitize operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Block erase.
    Block,
    /// Overwrite, one pass.
    Overwrite,
    /// Crypto erase.
    Crypto,
}

impl Action {
    fn code(self) -> u32 {
        match self {
            Self::Block => 2,
            Self::Overwrite => 3,
            Self::Crypto => 4,
        }
    }

    fn how(self) -> How {
        match self {
            Self::Block => How::purge("NVMe sanitize, block erase"),
            Self::Overwrite => How::purge("NVMe sanitize, overwrite"),
            Self::Crypto => How::purge("NVMe sanitize, crypto erase"),
        }
    }
}

/// Erasure by a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secure {
    /// User data.
    UserData,
    /// The key.
    Crypto,
}

fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    (0..length).rev().fold(0, |n, i| n << 8 | u64::from(byte(bytes, at + i)))
}

/// What matters of a controller (CNS 01h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Controller {
    /// Format NVM is supported (OACS bit 1).
    pub formats: bool,
    /// Security Send and Receive are supported (OACS bit 0).
    pub security: bool,
    /// A format is for all namespaces (FNA bit 0).
    pub format_all: bool,
    /// A secure erase is for all namespaces (FNA bit 1).
    pub erase_all: bool,
    /// Crypto erase by a format (FNA bit 2).
    pub format_crypto: bool,
    /// Sanitize operations (SANICAP bits 0 to 2).
    pub crypto: bool,
    /// Block erase.
    pub block: bool,
    /// Overwrite.
    pub overwrite: bool,
}

impl Controller {
    /// From its 4096 bytes.
    pub fn parse(bytes: &[u8]) -> Self {
        let (oacs, fna, sanicap) = (number(bytes, 256, 2), byte(bytes, 524), number(bytes, 328, 4));
        let bit = |of: u64, n: u32| of >> n & 1 == 1;
        Self {
            security: bit(oacs, 0),
            formats: bit(oacs, 1),
            format_all: bit(fna.into(), 0),
            erase_all: bit(fna.into(), 1),
            format_crypto: bit(fna.into(), 2),
            crypto: bit(sanicap, 0),
            block: bit(sanicap, 1),
            overwrite: bit(sanicap, 2),
        }
    }
}

/// The format command that keeps the layout that a namespace has (CNS 00h: FLBAS in byte 26, DPS in byte 29).
pub fn format(namespace: u32, identity: &[u8], secure: Secure) -> Command {
    let (flbas, dps) = (u32::from(byte(identity, 26)), u32::from(byte(identity, 29)));
    let layout = flbas & 0xf;
    let upper = flbas >> 5 & 0x3;
    let metadata = flbas >> 4 & 1;
    let (protection, place) = (dps & 0x7, dps >> 3 & 1);
    let erase = match secure {
        Secure::UserData => 1,
        Secure::Crypto => 2,
    };
    let cdw10 = layout | metadata << 4 | protection << 5 | place << 8 | erase << 9 | upper << 12;
    Command { opcode: 0x80, namespace, cdw10, cdw11: 0 }
}

/// The sanitize command: one pass of zeros where it overwrites; a failure can be left (AUSE).
pub fn sanitize(action: Action) -> Command {
    let passes = if action == Action::Overwrite { 1 << 4 } else { 0 };
    Command { opcode: 0x84, cdw10: action.code() | 1 << 3 | passes, ..Command::default() }
}

/// Leaves the failure mode of a sanitize operation.
pub fn exit_failure() -> Command {
    Command { opcode: 0x84, cdw10: 1, ..Command::default() }
}

/// Reads a log page of so many bytes.
pub fn log(id: u8, length: u32) -> Command {
    let cdw10 = u32::from(id) | (length / 4 - 1) << 16;
    Command { opcode: 0x02, namespace: EVERY_NAMESPACE, cdw10, cdw11: 0 }
}

/// How a sanitize operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There never was one.
    Never,
    /// The last one succeeded.
    Done,
    /// One goes on.
    Running,
    /// The last one failed.
    Failed,
}

/// The sanitize status log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// State.
    pub state: State,
    /// Parts of 65536 that are done.
    pub progress: u16,
    /// Low bits of what was asked for.
    pub action: u8,
    /// Seconds that overwrite, block erase and crypto erase take, as the disk reckons.
    pub estimates: [Option<u32>; 3],
}

impl Status {
    /// From the log's bytes.
    pub fn parse(bytes: &[u8]) -> Self {
        let estimate = |at| u32::try_from(number(bytes, at, 4)).ok().filter(|s| *s != u32::MAX);
        Self {
            progress: number(bytes, 0, 2) as u16,
            state: match byte(bytes, 2) & 0x7 {
                1 | 4 => State::Done,
                2 => State::Running,
                3 => State::Failed,
                _ => State::Never,
            },
            action: byte(bytes, 4) & 0x7,
            estimates: [estimate(8), estimate(12), estimate(16)],
        }
    }

    fn limit(&self, action: Action) -> Duration {
        let at = match action {
            Action::Overwrite => 0,
            Action::Block => 1,
            Action::Crypto => 2,
        };
        let told = self.estimates[at].map(|s| Duration::from_secs(u64::from(s)) * 3);
        told.map_or(Duration::from_hours(24), |t| t.clamp(LEAST, MOST))
    }
}

/// One command; a refusal in words.
fn ask(disk: &dyn Commands, command: &Command, data: Data<'_>, limit: Duration, what: &str) -> Result<u32> {
    match disk.nvme(command, data, limit) {
        Ok(Answer { status: 0, result }) => Ok(result),
        Ok(Answer { status, .. }) => Err(Error::Failed(format!("{what}: {}", words(status)))),
        Err(e) => Err(Error::Failed(format!("{what}: {e}"))),
    }
}

/// Reads an identify structure.
fn identify(disk: &dyn Commands, namespace: u32, cns: u32) -> Result<Vec<u8>> {
    let mut bytes = vec![0; IDENTITY];
    let command = Command { opcode: 0x06, namespace, cdw10: cns, cdw11: 0 };
    ask(disk, &command, Data::In(&mut bytes), SHORT, "identify")?;
    Ok(bytes)
}

/// What the controller is.
pub fn controller(disk: &dyn Commands) -> Result<Controller> {
    identify(disk, 0, 1).map(|bytes| Controller::parse(&bytes))
}

/// Reads the sanitize log.
pub fn status(disk: &dyn Commands) -> Result<Status> {
    let mut bytes = vec![0; 512];
    ask(disk, &log(0x81, 512), Data::In(&mut bytes), SHORT, "the sanitize log")?;
    Ok(Status::parse(&bytes))
}

/// Formats one namespace. `alone`: no other namespace of the controller is to be kept.
pub fn erase_by_format(
    disk: &dyn Commands,
    namespace: u32,
    secure: Secure,
    alone: bool,
    tell: &Tell<'_>,
) -> Result<How> {
    let controller = controller(disk)?;
    let (how, has) = match secure {
        Secure::UserData => (How::purge("NVMe format with erasure of user data"), controller.formats),
        Secure::Crypto => (How::purge("NVMe format with crypto erase"), controller.formats && controller.format_crypto),
    };
    if !has {
        return Err(Error::Failed(format!("the disk has no {}", how.words)));
    }
    if !alone && (controller.erase_all || controller.format_all) {
        return Err(Error::from("a format would erase other namespaces of the disk, which are to be kept"));
    }
    let identity = identify(disk, namespace, 0)?;
    tell(0, 1, how.words)?;
    ask(disk, &format(namespace, &identity, secure), Data::None, FORMAT, "format")?;
    Ok(how)
}

/// Sanitizes the whole disk. One that goes on already, begun before the power was lost, is followed to its end.
pub fn erase_by_sanitize(disk: &dyn Commands, action: Action, alone: bool, tell: &Tell<'_>) -> Result<How> {
    let controller = controller(disk)?;
    let has = match action {
        Action::Block => controller.block,
        Action::Overwrite => controller.overwrite,
        Action::Crypto => controller.crypto,
    };
    let mut how = action.how();
    if !has {
        return Err(Error::Failed(format!("the disk has no {}", how.words)));
    }
    if !alone {
        return Err(Error::from("sanitize would erase other namespaces of the disk, which are to be kept"));
    }
    let before = status(disk)?;
    if before.state == State::Running {
        let same = u32::from(before.action) == action.code();
        follow(disk, action, &before, tell)?;
        if same {
            how.resumed = true;
            return Ok(how);
        }
    }
    tell(0, 1, how.words)?;
    match ask(disk, &sanitize(action), Data::None, SHORT, "sanitize") {
        Ok(_) => {}
        // Out of the failure mode of an older one, and once more.
        Err(Error::Failed(_)) if before.state == State::Failed => {
            ask(disk, &exit_failure(), Data::None, SHORT, "leaving the failure of an older sanitize")?;
            ask(disk, &sanitize(action), Data::None, SHORT, "sanitize")?;
        }
        Err(e) => return Err(e),
    }
    follow(disk, action, &before, tell)?;
    Ok(how)
}

/// Waits for the end of a sanitize operation.
fn follow(disk: &dyn Commands, action: Action, before: &Status, tell: &Tell<'_>) -> Result<()> {
    let words = action.how().words;
    let limit = before.limit(action);
    let begun = disk.now();
    let (mut last, mut moved) = (before.progress, begun);
    let mut silent = 0;
    loop {
        let now = match status(disk) {
            Ok(now) => now,
            // A controller may be away for a moment.
            Err(Error::Failed(_)) if silent < 30 => {
                silent += 1;
                disk.pause(LOOK);
                continue;
            }
            Err(e) => return Err(e),
        };
        silent = 0;
        match now.state {
            State::Done => return Ok(()),
            State::Failed => {
                let _ = ask(disk, &exit_failure(), Data::None, SHORT, "leaving the failure");
                return Err(Error::Failed(format!(
                    "the disk reports that its {words} failed at {} %",
                    percent(now.progress)
                )));
            }
            State::Never => return Err(Error::Failed(format!("the disk knows nothing of its {words} any more"))),
            State::Running => {}
        }
        if now.progress != last {
            (last, moved) = (now.progress, disk.now());
        }
        if disk.now().saturating_sub(begun) > limit || disk.now().saturating_sub(moved) > STUCK {
            return Err(Error::Failed(format!(
                "{words} has not ended within {} minutes, at {} %; it goes on in the disk",
                disk.now().saturating_sub(begun).as_secs() / 60,
                percent(now.progress)
            )));
        }
        tell(u64::from(now.progress), 65536, words)?;
        disk.pause(LOOK);
    }
}

fn percent(progress: u16) -> u64 {
    u64::from(progress) * 100 / 65536
}

/// Number of the namespace in a kernel's name, `nvme0n1`.
pub fn namespace_of(name: &str) -> Option<u32> {
    let (_, number) = name.strip_prefix("nvme")?.split_once('n')?;
    number.parse().ok()
}

/// The controller in it, `nvme0`.
pub fn controller_of(name: &str) -> Option<&str> {
    let at = name.strip_prefix("nvme")?.find('n')?;
    name.get(..at + 4)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop")]
    use super::{
        super::fake::{Nvme, quiet},
        *,
    };

    #[test]
    fn structures_of_the_standard_are_read() {
        let mut bytes = vec![0; 4096];
        bytes[256] = 0b11;
        bytes[328] = 0b011;
        bytes[524] = 0b100;
        let c = Controller::parse(&bytes);
        assert!(c.formats && c.security && c.format_crypto && c.crypto && c.block && !c.overwrite && !c.erase_all);
        // In progress at a quarter, block erase asked for, estimates 100 s, unknown, 2 s.
        let mut log = vec![0; 512];
        log[..2].copy_from_slice(&0x4000_u16.to_le_bytes());
        log[2] = 0x02;
        log[4] = 0x0a;
        log[8..12].copy_from_slice(&100_u32.to_le_bytes());
        log[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        log[16..20].copy_from_slice(&2_u32.to_le_bytes());
        let status = Status::parse(&log);
        assert_eq!((status.state, status.progress, status.action), (State::Running, 0x4000, 2));
        assert_eq!(status.estimates, [Some(100), None, Some(2)]);
        assert_eq!(status.limit(Action::Crypto), LEAST);
        assert_eq!(Status::parse(&[]).state, State::Never);
        for (code, state) in [(1, State::Done), (4, State::Done), (3, State::Failed), (0, State::Never)] {
            log[2] = code;
            assert_eq!(Status::parse(&log).state, state);
        }
    }

    #[test]
    fn commands_are_those_of_the_standard() {
        // Layout 1, metadata at the end (bit 4), protection of type 1 in the first bytes: all kept.
        let mut identity = vec![0; 4096];
        identity[26] = 0x11;
        identity[29] = 0x09;
        assert_eq!(format(3, &identity, Secure::UserData).cdw10, 1 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9);
        identity[26] = 0x60 | 2;
        identity[29] = 0;
        assert_eq!(format(3, &identity, Secure::Crypto).cdw10, 2 | 2 << 9 | 3 << 12);
        assert_eq!(
            (format(3, &identity, Secure::Crypto).opcode, format(3, &identity, Secure::Crypto).namespace),
            (0x80, 3)
        );
        assert_eq!((sanitize(Action::Block).opcode, sanitize(Action::Block).cdw10), (0x84, 0x0a));
        assert_eq!(sanitize(Action::Crypto).cdw10, 0x0c);
        assert_eq!(sanitize(Action::Overwrite).cdw10, 0x1b);
        assert_eq!(log(0x81, 512).cdw10, 0x007f_0081);
        assert_eq!((namespace_of("nvme10n2"), controller_of("nvme10n2")), (Some(2), Some("nvme10")));
        assert_eq!((namespace_of("sda"), controller_of("sda")), (None, None));
    }

    #[test]
    fn a_sanitize_is_followed_to_its_end() {
        let disk = Nvme::new();
        let how = erase_by_sanitize(&disk, Action::Crypto, true, &quiet).unwrap();
        assert_eq!((how.words, how.resumed, disk.erased()), ("NVMe sanitize, crypto erase", false, true));
        let refused = erase_by_sanitize(&Nvme::new(), Action::Crypto, false, &quiet).unwrap_err();
        assert!(refused.to_string().contains("other namespaces"), "{refused}");
    }

    #[test]
    fn power_lost_in_the_middle_is_gone_on_with() {
        let disk = Nvme::new();
        disk.begin(Action::Block, 0x6000);
        let how = erase_by_sanitize(&disk, Action::Block, true, &quiet).unwrap();
        assert!(how.resumed && disk.erased());
        assert_eq!(disk.orders(), 0, "what goes on is not ordered again");
        // Another operation that goes on is waited for, then ours is ordered.
        let disk = Nvme::new();
        disk.begin(Action::Block, 0x6000);
        let how = erase_by_sanitize(&disk, Action::Crypto, true, &quiet).unwrap();
        assert!(!how.resumed && disk.orders() == 1);
    }

    #[test]
    fn one_that_fails_says_how_far_it_came_and_can_be_ordered_again() {
        let disk = Nvme::new();
        disk.fail_at(0x8000);
        let why = erase_by_sanitize(&disk, Action::Block, true, &quiet).unwrap_err();
        assert!(why.to_string().contains("failed at 50 %"), "{why}");
        disk.heal();
        assert!(erase_by_sanitize(&disk, Action::Block, true, &quiet).is_ok());
        let disk = Nvme::new();
        disk.hang_at(0x1000);
        let why = erase_by_sanitize(&disk, Action::Block, true, &quiet).unwrap_err();
        assert!(why.to_string().contains("has not ended within"), "{why}");
    }

    #[test]
    fn formats_keep_other_namespaces() {
        let disk = Nvme::new();
        assert_eq!(
            erase_by_format(&disk, 1, Secure::UserData, true, &quiet).unwrap().words,
            "NVMe format with erasure of user data"
        );
        assert!(disk.erased());
        let disk = Nvme::new();
        disk.erases_all();
        let why = erase_by_format(&disk, 1, Secure::UserData, false, &quiet).unwrap_err();
        assert!(why.to_string().contains("other namespaces") && !disk.erased(), "{why}");
        let disk = Nvme::new();
        disk.refuse(0x286);
        let why = erase_by_format(&disk, 1, Secure::UserData, true, &quiet).unwrap_err();
        assert!(why.to_string().contains("locked"), "{why}");
    }
}
