//! What the agent in the boot image is told and reports (see the agent protocol in the docs).

use serde::{Deserialize, Serialize};

use crate::{
    bmc::HardwareInventory,
    cleaning::{CleanPlan, ErasedDisk},
};

/// The task of one boot session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// What this boot is for.
    pub task: TaskKind,
    /// Steps in order.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// For `wait`: seconds until the next question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

/// Kinds of task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// Report what the machine is.
    Discover,
    /// Write an operating system.
    Install,
    /// Erase all disks.
    Clean,
    /// Nothing to do yet.
    Wait,
}

/// One step of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Step {
    /// Send the inventory.
    Inventory,
    /// Erase disks.
    Wipe {
        /// `all`, `first`, `volume`, or a device name.
        disks: String,
        /// How, and which disks are left alone; absent: all, by the quickest method that holds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plan: Option<CleanPlan>,
    },
    /// Log in to the target of a volume. From then on `volume` is the name of its disk; no other disk ever is.
    Attach {
        /// The volume.
        volume: IscsiVolume,
    },
    /// Stream an image to a disk, checking its digest on the way.
    WriteImage {
        /// Where it is.
        url: String,
        /// SHA-256 in hex.
        sha256: String,
        /// `raw`, `raw.gz` or `qcow2`.
        format: String,
        /// Length in bytes.
        size: u64,
        /// `first`, `volume`, or a device name.
        disk: String,
    },
    /// Store the cloud-init NoCloud seed.
    Seed {
        /// Base URL, with a trailing slash.
        url: String,
        /// On a disk that no step of this task has written: `volume`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disk: Option<String>,
    },
    /// Make the disk bootable.
    Bootloader,
    /// Report done and follow the answer.
    Finish,
}

/// A volume behind an iSCSI target, with all that it takes to reach it. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IscsiVolume {
    /// Name of the initiator.
    pub initiator: String,
    /// Name of the target.
    pub target: String,
    /// Number of the logical unit there.
    pub lun: u32,
    /// Where the target answers: address and port, the best first.
    pub portals: Vec<(String, u16)>,
    /// User name and secret, where the target asks for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chap: Option<(String, String)>,
    /// World wide name (hex) that the disk must have, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
}

impl std::fmt::Debug for IscsiVolume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IscsiVolume({} LUN {} as {})", self.target, self.lun, self.initiator)
    }
}

/// Progress within a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Index of the current step.
    pub step: usize,
    /// Progress of the whole task, 0 to 100.
    pub percent: u8,
    /// What is being done, in words.
    #[serde(default)]
    pub message: String,
}

/// The end of a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Whether every step succeeded.
    pub ok: bool,
    /// What went wrong.
    #[serde(default)]
    pub error: Option<String>,
    /// After a cleaning, also one that failed: what became of each disk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub erased: Vec<ErasedDisk>,
}

/// What the machine does after the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// Switch off.
    PowerOff,
    /// Boot again.
    Reboot,
}

/// In-band inventory, in the same shape as the BMC's.
pub type AgentInventory = HardwareInventory;
