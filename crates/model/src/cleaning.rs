//! Cleaning: which disks of a server are erased, how, and what is told of it afterwards.

use serde::{Deserialize, Serialize};

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
    /// The disk's own erasure: NVMe sanitize or format, ATA security erase.
    SecureErase,
    /// Zeros over the whole disk.
    Overwrite,
}

impl WipeMethod {
    /// All methods.
    pub const ALL: &'static [Self] = &[Self::Auto, Self::Discard, Self::NvmeFormat, Self::SecureErase, Self::Overwrite];

    /// The word that is stored and sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Discard => "discard",
            Self::NvmeFormat => "nvme_format",
            Self::SecureErase => "secure_erase",
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
    /// What went wrong.
    #[serde(default)]
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for method in WipeMethod::ALL {
            assert_eq!(WipeMethod::parse(method.as_str()), Some(*method));
            assert_eq!(serde_json::to_value(method).ok(), Some(method.as_str().into()));
        }
    }
}
