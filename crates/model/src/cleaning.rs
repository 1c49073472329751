//! Cleaning: which disks of a server are erased, how, and what is told of it afterwards.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Id, raid::RaidLevel, secret::Sealed};

/// How a disk is erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WipeMethod {
    /// The quickest that the disk has and whose result holds when it is read back.
    #[default]
    Auto,
    /// Tell the disk to forget (TRIM).
    Discard,
    /// NVMe format with erasure of user data.
    NvmeFormat,
    /// The disk's own erasure of what is stored: NVMe sanitize or format, ATA sanitize or security erase, SCSI sanitize.
    SecureErase,
    /// The disk forgets the key of what is stored: NVMe sanitize or format, ATA crypto scramble, SCSI sanitize, TCG revert.
    CryptoErase,
    /// Zeros over the whole disk.
    Overwrite,
}

impl WipeMethod {
    /// All methods.
    pub const ALL: &'static [Self] =
        &[Self::Auto, Self::Discard, Self::NvmeFormat, Self::SecureErase, Self::CryptoErase, Self::Overwrite];

    /// The word that is stored and sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Discard => "discard",
            Self::NvmeFormat => "nvme_format",
            Self::SecureErase => "secure_erase",
            Self::CryptoErase => "crypto_erase",
            Self::Overwrite => "overwrite",
        }
    }

    /// From that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|m| m.as_str() == word)
    }
}

/// What a cleaning does. The default erases every disk by the quickest method that holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanPlan {
    /// How disks are erased.
    #[serde(default)]
    pub method: WipeMethod,
    /// Serial numbers of disks that are left alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
    /// Kinds of disk that are left alone: `hdd`, `ssd`, `nvme`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep_media: Vec<String>,
    /// Name of the policy that says so, for the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What is tried in this order on a disk that cannot do `method`. Empty: such a disk fails the cleaning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<WipeMethod>,
    /// The disks of this server. No other is touched, and another one fails the cleaning. Empty: nobody knows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<KnownDisk>,
    /// Volumes of local RAID controllers are erased although they are not among `disks`: they were made for this cleaning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub volumes: bool,
    /// Words from the labels of self-encrypting disks (PSID) by serial number. Sealed for the site, which opens them for the agent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub psids: BTreeMap<String, Sealed>,
    /// What is done through the BMC.
    #[serde(default, skip_serializing_if = "FirmwareSteps::is_empty")]
    pub firmware: FirmwareSteps,
}

/// A disk that belongs to a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownDisk {
    /// Kernel's name or the BMC's: counts for a disk without serial number only.
    pub name: String,
    /// Serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Size in GB (10^9 bytes).
    #[serde(default)]
    pub size_gb: u64,
    /// Whether the boot image has seen it: one that it does not see any more fails the cleaning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seen: bool,
}

/// What a cleaning does beside the disks, through the BMC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FirmwareSteps {
    /// Volumes of RAID controllers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raid: Option<RaidRules>,
    /// The trusted platform module forgets its keys.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub clear_tpm: bool,
    /// Settings of the firmware as from the factory.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reset_bios: bool,
    /// Keys of secure boot as from the factory.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reset_secure_boot_keys: bool,
    /// Settings of the BMC as from the factory; its address and accounts stay.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reset_bmc: bool,
    /// Network interfaces of the board are switched off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disable_embedded_nics: bool,
}

impl FirmwareSteps {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether something is done once the disks are erased.
    pub fn after(&self) -> bool {
        self.clear_tpm || self.reset_bios || self.reset_secure_boot_keys || self.reset_bmc || self.disable_embedded_nics
    }
}

/// What is made of the volumes of RAID controllers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaidRules {
    /// All volumes are deleted.
    pub reset: bool,
    /// One volume is made of all drives of a controller that has none then.
    pub recreate: bool,
    /// Level for one drive.
    pub one: RaidLevel,
    /// For two.
    pub two: RaidLevel,
    /// For an even number, more than two.
    pub even: RaidLevel,
    /// For an odd number, more than one.
    pub odd: RaidLevel,
}

impl RaidRules {
    /// The level for so many drives.
    pub fn level(&self, drives: usize) -> RaidLevel {
        match drives {
            0 | 1 => self.one,
            2 => self.two,
            n if n % 2 == 0 => self.even,
            _ => self.odd,
        }
    }
}

/// What became of a step beside the disks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepResult {
    /// What, in words.
    pub what: String,
    /// Whether it was done. A step that the server does not have is not.
    pub done: bool,
    /// How, or why not.
    pub words: String,
}

/// What a site says of a cleaning, in full, so that the words can be checked without it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    /// Always `steelyard.cleaning/1`.
    pub kind: String,
    /// The site that speaks.
    pub site_id: Id,
    /// The server.
    pub server_id: Id,
    /// Its serial number, or its name where it has none.
    pub server: String,
    /// The job.
    pub job_id: Id,
    /// The policy that asked for it.
    #[serde(default)]
    pub policy: Option<String>,
    /// The method that the policy named.
    pub method: WipeMethod,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// When it ended.
    pub finished_at: String,
    /// Each disk that was seen.
    pub disks: Vec<ErasedDisk>,
    /// Everything else.
    #[serde(default)]
    pub steps: Vec<StepResult>,
}

/// A statement with the site's signature.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedStatement {
    /// The JSON of a [`Statement`], byte for byte as it was signed.
    pub statement: String,
    /// Ed25519 public key, hex.
    pub public_key: String,
    /// Signature, hex.
    pub signature: String,
}

/// What became of one disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedDisk {
    /// Kernel's name, `nvme0n1`.
    pub name: String,
    /// Serial number, where the disk tells one.
    #[serde(default)]
    pub serial: Option<String>,
    /// Model.
    #[serde(default)]
    pub model: Option<String>,
    /// Size in bytes.
    #[serde(default)]
    pub size: u64,
    /// Whether it was erased and that held when it was read back.
    pub erased: bool,
    /// How it was erased, or why it was left alone, in words.
    pub method: String,
    /// How that was checked, in words.
    #[serde(default)]
    pub verified: Option<String>,
    /// The standard's word for it: `purge` or `clear` (IEEE 2883, NIST SP 800-88).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standard: Option<String>,
    /// What was tried before it and why that did not do, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<String>,
    /// Seconds that it took.
    #[serde(default)]
    pub seconds: u64,
    /// What went wrong.
    #[serde(default)]
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_follow_the_number_of_drives() {
        let rules = RaidRules {
            reset: true,
            recreate: true,
            one: RaidLevel::Raid0,
            two: RaidLevel::Raid1,
            even: RaidLevel::Raid10,
            odd: RaidLevel::Raid5,
        };
        let levels: Vec<_> = (1..=5).map(|n| rules.level(n).as_str()).collect();
        assert_eq!(levels, ["RAID0", "RAID1", "RAID5", "RAID10", "RAID5"]);
    }

    #[test]
    fn words_round_trip() {
        for method in WipeMethod::ALL {
            assert_eq!(WipeMethod::parse(method.as_str()), Some(*method));
            assert_eq!(serde_json::to_value(method).ok(), Some(method.as_str().into()));
        }
    }
}
