//! RAID controllers of a server as its BMC shows them, and what is asked of them.

use serde::{Deserialize, Serialize};

use crate::{Id, order::Order};

/// Levels that are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum RaidLevel {
    #[default]
    #[serde(rename = "RAID0")]
    Raid0,
    #[serde(rename = "RAID1")]
    Raid1,
    #[serde(rename = "RAID5")]
    Raid5,
    #[serde(rename = "RAID6")]
    Raid6,
    #[serde(rename = "RAID10")]
    Raid10,
}

impl RaidLevel {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Raid0, Self::Raid1, Self::Raid5, Self::Raid6, Self::Raid10];

    /// The word of the standard (Redfish `RAIDType`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raid0 => "RAID0",
            Self::Raid1 => "RAID1",
            Self::Raid5 => "RAID5",
            Self::Raid6 => "RAID6",
            Self::Raid10 => "RAID10",
        }
    }

    /// From that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|l| l.as_str() == word)
    }

    /// Whether so many drives make one.
    pub fn takes(self, drives: usize) -> bool {
        match self {
            Self::Raid0 => drives >= 1,
            Self::Raid1 => drives == 2,
            Self::Raid5 => drives >= 3,
            Self::Raid6 => drives >= 4,
            Self::Raid10 => drives >= 4 && drives.is_multiple_of(2),
        }
    }

    /// Drives' worth of data in so many.
    pub fn data_drives(self, drives: usize) -> usize {
        match self {
            Self::Raid0 => drives,
            Self::Raid1 | Self::Raid10 => drives / 2,
            Self::Raid5 => drives.saturating_sub(1),
            Self::Raid6 => drives.saturating_sub(2),
        }
    }
}

/// A controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaidController {
    /// Its id at the BMC.
    pub id: String,
    /// Name or model.
    pub name: String,
    /// Levels that it makes. Empty: it makes no volumes.
    pub levels: Vec<RaidLevel>,
    /// Physical drives.
    pub drives: Vec<RaidDrive>,
    /// Volumes, without single drives that are passed through.
    pub volumes: Vec<RaidVolume>,
}

/// A physical drive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaidDrive {
    /// Its id at the BMC.
    pub id: String,
    /// Serial number.
    #[serde(default)]
    pub serial: Option<String>,
    /// Model.
    #[serde(default)]
    pub model: Option<String>,
    /// Bytes.
    pub bytes: u64,
    /// `hdd`, `ssd` or `nvme`.
    pub media: String,
    /// Whether the BMC calls it well.
    pub healthy: bool,
    /// Whether it only steps in for another one.
    #[serde(default)]
    pub spare: bool,
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaidVolume {
    /// Its id at the BMC.
    pub id: String,
    /// Name.
    pub name: String,
    /// Level, in the standard's word.
    pub level: String,
    /// Bytes.
    pub bytes: u64,
    /// Ids of its drives.
    pub drives: Vec<String>,
}

/// A volume that is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewVolume {
    /// Id of the controller.
    pub controller: String,
    /// Name.
    pub name: String,
    /// Level.
    pub level: RaidLevel,
    /// Ids of its drives.
    pub drives: Vec<String>,
    /// Bytes. `None`: all that fits.
    #[serde(default)]
    pub bytes: Option<u64>,
}

/// What is done to the volumes of one controller, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RaidWork {
    /// Id of the controller.
    pub controller: String,
    /// Ids of volumes that go.
    pub delete: Vec<String>,
    /// Volumes that come.
    pub create: Vec<NewVolume>,
    /// Ids of volumes that are prepared for use; what is on them is lost.
    pub initialize: Vec<String>,
}

/// `server.raid`: read the RAID controllers, after a change where one is given. Returns `{"controllers": [`[`RaidController`]`],
/// "atRestart": false}`; `atRestart`: the change is made at the next start of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRaid {
    /// The server.
    pub server_id: Id,
    /// What is done before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<RaidWork>,
}

impl Order for ServerRaid {
    const NAME: &'static str = "server.raid";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_take_what_they_need() {
        assert!(RaidLevel::Raid0.takes(1) && !RaidLevel::Raid1.takes(3) && RaidLevel::Raid10.takes(6));
        assert!(!RaidLevel::Raid10.takes(5) && !RaidLevel::Raid5.takes(2) && !RaidLevel::Raid6.takes(3));
        assert_eq!(RaidLevel::Raid6.data_drives(6), 4);
        for level in RaidLevel::ALL {
            assert_eq!(serde_json::to_value(level).ok(), Some(level.as_str().into()));
        }
    }
}
