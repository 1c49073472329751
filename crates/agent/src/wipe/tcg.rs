//! Self-encrypting disks of the Trusted Computing Group: what they are, by Level 0 Discovery (TCG Storage Architecture Core 2.01, 3.3.6;
//! Opal SSC 2.01, 3.1.1), and their way back to the factory by the word on their label (PSID).

use std::time::Duration;

use super::{
    How,
    command::{Commands, Data},
    nvme, scsi,
};
use crate::error::{Error, Result};

const SHORT: Duration = Duration::from_mins(1);

/// What a disk says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// Opal (features 0200h, 0203h).
    pub opal: bool,
    /// Enterprise (0100h).
    pub enterprise: bool,
    /// Pyrite (0302h, 0303h): locks, and does not encrypt.
    pub pyrite: bool,
    /// Somebody has set locking up (feature 0002h, bit 1).
    pub enabled: bool,
    /// A range is locked (bit 2).
    pub locked: bool,
    /// What is stored is encrypted (bit 3).
    pub encrypts: bool,
}

impl Discovery {
    /// From the answer: a header of 48 bytes, then features.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut found = Self::default();
        let length = bytes.get(..4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes) as usize;
        let end = Ord::min(length.saturating_add(4), bytes.len());
        let mut rest = bytes.get(48..end).unwrap_or_default();
        while let [high, low, _, length, tail @ ..] = rest {
            let data = tail.get(..usize::from(*length)).unwrap_or(tail);
            match u16::from_be_bytes([*high, *low]) {
                0x0002 => {
                    let flags = data.first().copied().unwrap_or(0);
                    found.enabled = flags & 0x02 != 0;
                    found.locked = flags & 0x04 != 0;
                    found.encrypts = flags & 0x08 != 0;
                }
                0x0100 => found.enterprise = true,
                0x0200 | 0x0203 => found.opal = true,
                0x0302 | 0x0303 => found.pyrite = true,
                _ => {}
            }
            rest = tail.get(usize::from(*length)..).unwrap_or_default();
        }
        found
    }

    /// The kind, in words.
    pub fn kind(self) -> &'static str {
        match self {
            Self { opal: true, .. } => "TCG Opal",
            Self { enterprise: true, .. } => "TCG Enterprise",
            Self { pyrite: true, .. } => "TCG Pyrite",
            _ => "TCG",
        }
    }
}

/// SECURITY PROTOCOL IN: protocol 1, Level 0 Discovery, 2048 bytes (SPC-5 6.40).
pub const DISCOVER_SCSI: [u8; 12] = [0xa2, 1, 0, 1, 0, 0, 0, 0, 8, 0, 0, 0];

/// Security Receive with the same (NVMe Base 5.19).
pub fn discover_nvme() -> nvme::Command {
    nvme::Command { opcode: 0x82, namespace: 0, cdw10: 0x01 << 24 | 0x0001 << 8, cdw11: 2048 }
}

/// Asks a disk. `None` where it has nothing of that.
pub fn discover(disk: &dyn Commands, over_nvme: bool) -> Option<Discovery> {
    let mut bytes = vec![0; 2048];
    if over_nvme {
        let answer = disk.nvme(&discover_nvme(), Data::In(&mut bytes), SHORT).ok()?;
        (answer.status == 0).then_some(())?;
    } else {
        scsi::ask(disk, &DISCOVER_SCSI, Data::In(&mut bytes), SHORT, "discovery").ok()?;
    }
    let found = Discovery::parse(&bytes);
    (found.opal || found.enterprise || found.pyrite).then_some(found)
}

/// Back to the factory: the key of what is stored is gone, and with it all locks.
pub fn revert(disk: &dyn Commands, what: Discovery, psid: &str) -> Result<How> {
    let refuse = |e: std::io::Error| {
        Error::Failed(format!(
            "{} refuses to be reverted: {e}; is the PSID that of this disk's label? Its dashes and spaces are left out",
            what.kind()
        ))
    };
    disk.revert(psid).map_err(refuse)?;
    // Without encryption there is no key to forget.
    let how = if what.encrypts { How::purge("TCG revert by the PSID") } else { How::nothing("TCG revert by the PSID") };
    Ok(how)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop")]
    use super::{super::fake::Sata, *};

    fn answer(features: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; 48];
        for (code, data) in features {
            bytes.extend_from_slice(&code.to_be_bytes());
            bytes.extend_from_slice(&[0x10, data.len() as u8]);
            bytes.extend_from_slice(data);
        }
        let length = (bytes.len() - 4) as u32;
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        bytes.resize(2048, 0xaa);
        bytes
    }

    #[test]
    fn discovery_is_read() {
        let locked: &[u8] = &[0x0f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let found = Discovery::parse(&answer(&[(1, &[1; 12]), (2, locked), (0x0203, &[0; 16])]));
        assert_eq!(
            found,
            Discovery { opal: true, enabled: true, locked: true, encrypts: true, ..Discovery::default() }
        );
        assert_eq!(Discovery::parse(&answer(&[(0x0100, &[0; 16])])).kind(), "TCG Enterprise");
        assert_eq!(Discovery::parse(&[]), Discovery::default());
        assert_eq!(Discovery::parse(&[0xff; 60]).kind(), "TCG");
        assert_eq!((discover_nvme().cdw10, discover_nvme().cdw11), (0x0100_0100, 2048));
    }

    #[test]
    fn a_disk_is_reverted_by_its_label_alone() {
        let what = Discovery { opal: true, encrypts: true, locked: true, ..Discovery::default() };
        let disk = Sata::new();
        disk.lock("unknown");
        assert!(revert(&disk, what, "WRONG").unwrap_err().to_string().contains("label") && !disk.erased());
        assert_eq!(revert(&disk, what, "RIGHT").unwrap().standard, Some("purge"));
        assert!(disk.erased() && disk.password().is_none());
    }
}
