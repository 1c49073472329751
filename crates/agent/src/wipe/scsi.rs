//! SCSI: sanitize, and what sense data say. Bytes after SPC-5 (sense data 4.4, REQUEST SENSE 6.35, REPORT SUPPORTED OPERATION CODES 6.33)
//! and SBC-4 (SANITIZE 5.30).

use std::time::Duration;

use super::{
    How, Tell,
    command::{Commands, Data},
};
use crate::error::{Error, Result};

const SHORT: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_secs(5);
/// Longest time of a crypto or block erase, which tell no estimate.
const QUICK: Duration = Duration::from_hours(6);
/// A sanitize operation without progress for so long is stuck.
const STUCK: Duration = Duration::from_hours(2);

/// How a command ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// SCSI status; 0 is good, 2 means that there are sense data.
    pub status: u8,
    /// What the host adapter says; 0 is good.
    pub host: u16,
    /// Sense data.
    pub sense: Vec<u8>,
}

/// Sense data, in both of their formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sense {
    /// Sense key.
    pub key: u8,
    /// Additional sense code.
    pub code: u8,
    /// Its qualifier.
    pub qualifier: u8,
    /// Parts of 65536 that are done, where it is told.
    pub progress: Option<u16>,
}

fn pair(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

impl Sense {
    /// From their bytes.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        match bytes.first()? & 0x7f {
            0x70 | 0x71 => Some(Self {
                key: byte(2) & 0xf,
                code: byte(12),
                qualifier: byte(13),
                // Sense key specific, valid: for "not ready" that is progress.
                progress: (byte(15) & 0x80 != 0).then(|| pair(bytes, 16)).flatten(),
            }),
            0x72 | 0x73 => {
                let specific = descriptor(bytes, 0x02).filter(|d| d.get(4).is_some_and(|b| b & 0x80 != 0));
                Some(Self {
                    key: byte(1) & 0xf,
                    code: byte(2),
                    qualifier: byte(3),
                    progress: specific.and_then(|d| pair(d, 5)),
                })
            }
            _ => None,
        }
    }

    /// In words.
    fn words(self) -> String {
        let known = match (self.key, self.code, self.qualifier) {
            (5, 0x20, 0) => "the disk does not know the command",
            (5, 0x24, 0) => "the disk does not do this kind of it",
            (7, _, _) => "the disk is protected: it is locked or frozen",
            (2, 0x04, 0x1b) => "a sanitize goes on",
            (3, 0x31, 0x03) => "the sanitize failed",
            (3, _, _) => "the medium is bad",
            (4, _, _) => "the disk is broken",
            _ => "the disk refuses",
        };
        format!("{known} (sense {:x}/{:02x}/{:02x})", self.key, self.code, self.qualifier)
    }
}

/// One descriptor of sense data in descriptor format, from its type byte on.
pub fn descriptor(bytes: &[u8], kind: u8) -> Option<&[u8]> {
    let mut rest = bytes.get(8..)?;
    while let [this, length, ..] = rest {
        let whole = usize::from(*length) + 2;
        if *this == kind {
            return Some(rest.get(..whole).unwrap_or(rest));
        }
        rest = rest.get(whole..)?;
    }
    None
}

/// One command; a refusal in words.
pub fn ask(disk: &dyn Commands, cdb: &[u8], data: Data<'_>, limit: Duration, what: &str) -> Result<()> {
    let answer = disk.scsi(cdb, data, limit).map_err(|e| Error::Failed(format!("{what}: {e}")))?;
    if answer.host == 0x03 {
        return Err(Error::Failed(format!("{what}: no answer within {} minutes", limit.as_secs().div_ceil(60))));
    }
    if answer.host != 0 {
        return Err(Error::Failed(format!("{what}: the controller reports {:#04x}", answer.host)));
    }
    if answer.status == 0 {
        return Ok(());
    }
    let why = Sense::parse(&answer.sense).map_or_else(|| format!("SCSI status {:#04x}", answer.status), Sense::words);
    Err(Error::Failed(format!("{what}: {why}")))
}

/// Kinds of SANITIZE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Overwrite, one pass of zeros.
    Overwrite,
    /// Block erase.
    Block,
    /// Cryptographic erase.
    Crypto,
}

impl Action {
    fn code(self) -> u8 {
        match self {
            Self::Overwrite => 0x01,
            Self::Block => 0x02,
            Self::Crypto => 0x03,
        }
    }

    fn how(self) -> How {
        match self {
            Self::Overwrite => How::purge("SCSI sanitize, overwrite"),
            Self::Block => How::purge("SCSI sanitize, block erase"),
            Self::Crypto => How::purge("SCSI sanitize, crypto erase"),
        }
    }
}

/// SANITIZE: it goes on after the answer (IMMED), and a failure can be left (AUSE).
pub fn sanitize(action: Action) -> ([u8; 10], Vec<u8>) {
    let list = if action == Action::Overwrite {
        // One pass, a pattern of four zero bytes.
        vec![0x01, 0, 0, 4, 0, 0, 0, 0]
    } else {
        Vec::new()
    };
    let cdb = [0x48, 0x80 | 0x20 | action.code(), 0, 0, 0, 0, 0, 0, list.len() as u8, 0];
    (cdb, list)
}

/// SANITIZE, EXIT FAILURE MODE.
pub const EXIT_FAILURE: [u8; 10] = [0x48, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0];
/// REQUEST SENSE of 252 bytes, fixed format.
pub const REQUEST_SENSE: [u8; 6] = [0x03, 0, 0, 0, 252, 0];

/// REPORT SUPPORTED OPERATION CODES for one service action of SANITIZE.
pub fn supported(action: Action) -> [u8; 12] {
    [0xa3, 0x0c, 0x03, 0x48, 0, action.code(), 0, 0, 0, 16, 0, 0]
}

/// Whether its answer says yes (SUPPORT is 011b); `None` where it does not say.
pub fn is_supported(answer: &[u8]) -> Option<bool> {
    match answer.get(1)? & 0x07 {
        0b011 | 0b101 => Some(true),
        0b001 => Some(false),
        _ => None,
    }
}

fn sense(disk: &dyn Commands) -> Result<Sense> {
    let mut bytes = vec![0; 252];
    ask(disk, &REQUEST_SENSE, Data::In(&mut bytes), SHORT, "request sense")?;
    Ok(Sense::parse(&bytes).unwrap_or_default())
}

fn running(sense: Sense) -> bool {
    (sense.key, sense.code, sense.qualifier) == (2, 0x04, 0x1b)
}

/// Sanitizes a disk. One that goes on already is followed to its end, and then ours is ordered: the disk does not say what it was.
pub fn erase_by_sanitize(disk: &dyn Commands, action: Action, size: u64, tell: &Tell<'_>) -> Result<How> {
    let how = action.how();
    let before = sense(disk)?;
    if running(before) {
        follow(disk, how.words, limit(Action::Overwrite, size), tell)?;
    }
    let mut answer = [0; 16];
    let says = ask(disk, &supported(action), Data::In(&mut answer), SHORT, "supported commands");
    if says.is_ok() && is_supported(&answer) == Some(false) {
        return Err(Error::Failed(format!("the disk has no {}", how.words)));
    }
    let (cdb, list) = sanitize(action);
    let order = || {
        let data = if list.is_empty() { Data::None } else { Data::Out(&list) };
        ask(disk, &cdb, data, SHORT, "sanitize")
    };
    tell(0, 1, how.words)?;
    if let Err(first) = order() {
        if (before.key, before.code, before.qualifier) != (3, 0x31, 0x03) {
            return Err(first);
        }
        ask(disk, &EXIT_FAILURE, Data::None, SHORT, "leaving the failure of an older sanitize")?;
        order()?;
    }
    follow(disk, how.words, limit(action, size), tell)?;
    Ok(how)
}

/// A third of the speed of a slow hard disk.
fn limit(action: Action, size: u64) -> Duration {
    if action == Action::Overwrite { QUICK + Duration::from_secs(size / 30_000_000) } else { QUICK }
}

fn follow(disk: &dyn Commands, words: &str, limit: Duration, tell: &Tell<'_>) -> Result<()> {
    let begun = disk.now();
    let (mut last, mut moved, mut silent) = (None, begun, 0);
    loop {
        disk.pause(LOOK);
        let now = match sense(disk) {
            Ok(now) => now,
            Err(Error::Failed(_)) if silent < 30 => {
                silent += 1;
                continue;
            }
            Err(e) => return Err(e),
        };
        silent = 0;
        if (now.key, now.code) == (3, 0x31) {
            let _ = ask(disk, &EXIT_FAILURE, Data::None, SHORT, "leaving the failure");
            return Err(Error::Failed(format!("the disk reports that its {words} failed")));
        }
        if !running(now) {
            return Ok(());
        }
        if now.progress != last {
            (last, moved) = (now.progress, disk.now());
        }
        if disk.now().saturating_sub(begun) > limit || disk.now().saturating_sub(moved) > Ord::min(STUCK, limit) {
            let minutes = disk.now().saturating_sub(begun).as_secs() / 60;
            return Err(Error::Failed(format!(
                "{words} has not ended within {minutes} minutes; it goes on in the disk"
            )));
        }
        tell(u64::from(now.progress.unwrap_or(0)), 65536, words)?;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop")]
    use super::{
        super::fake::{Sas, quiet},
        *,
    };

    #[test]
    fn sense_data_are_read_in_both_formats() {
        let mut fixed = vec![0x70, 0, 2, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x04, 0x1b, 0, 0x80, 0x40, 0x00];
        let found = Sense::parse(&fixed).unwrap();
        assert_eq!(found, Sense { key: 2, code: 4, qualifier: 0x1b, progress: Some(0x4000) });
        assert!(running(found));
        fixed[15] = 0;
        assert_eq!(Sense::parse(&fixed).unwrap().progress, None);
        // A descriptor of another kind stands before the one with the progress.
        let other = [
            0x72, 2, 0x04, 0x1b, 0, 0, 0, 20, 0x00, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x06, 0, 0, 0x80, 0x80,
            0x00, 0,
        ];
        assert_eq!(Sense::parse(&other).unwrap().progress, Some(0x8000));
        assert_eq!(
            Sense::parse(&[0x72, 5, 0x20, 0]).unwrap().words(),
            "the disk does not know the command (sense 5/20/00)"
        );
        assert_eq!(Sense::parse(&[0x72, 5]).unwrap().key, 5);
        assert_eq!((Sense::parse(&[]), Sense::parse(&[0x11])), (None, None));
        assert!(descriptor(&[0x72, 0, 0, 0, 0, 0, 0, 9, 0x55, 0xff], 0x02).is_none());
    }

    #[test]
    fn commands_are_those_of_the_standard() {
        assert_eq!(sanitize(Action::Crypto), ([0x48, 0xa3, 0, 0, 0, 0, 0, 0, 0, 0], vec![]));
        let (cdb, list) = sanitize(Action::Overwrite);
        assert_eq!((cdb[1], cdb[8], list.len()), (0xa1, 8, 8));
        assert_eq!(supported(Action::Block)[..6], [0xa3, 0x0c, 0x03, 0x48, 0, 2]);
        assert_eq!(
            (is_supported(&[0, 3]), is_supported(&[0, 1]), is_supported(&[0, 0]), is_supported(&[])),
            (Some(true), Some(false), None, None)
        );
    }

    #[test]
    fn a_disk_is_sanitized_also_after_a_failure() {
        let disk = Sas::new();
        assert_eq!(
            erase_by_sanitize(&disk, Action::Crypto, 1 << 40, &quiet).unwrap().words,
            "SCSI sanitize, crypto erase"
        );
        assert!(disk.erased());
        let disk = Sas::new();
        disk.fail_at(0x8000);
        let why = erase_by_sanitize(&disk, Action::Block, 1 << 40, &quiet).unwrap_err();
        assert!(why.to_string().contains("failed"), "{why}");
        disk.heal();
        assert!(erase_by_sanitize(&disk, Action::Block, 1 << 40, &quiet).is_ok() && disk.erased());
        let disk = Sas::new();
        disk.knows(&[0x01]);
        let why = erase_by_sanitize(&disk, Action::Crypto, 1 << 40, &quiet).unwrap_err();
        assert!(why.to_string().contains("has no SCSI sanitize, crypto erase") && !disk.erased(), "{why}");
    }
}
