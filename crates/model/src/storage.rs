//! Storage: arrays and storage nodes as a site drives them. Orders and their answers, free of any vendor's words.
//!
//! Objects on an array are known by a `key` that never changes (`drive-12`, `share-3`, `bucket-4`): every order may be given
//! again. A `name` is for people who look at the array, and only decorates. Sizes only grow.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Id, order::Order, secret::Sealed};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),* }
        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// The wire word.
            pub fn as_str(self) -> &'static str { match self { $(Self::$variant => $word),* } }
            /// From the wire word.
            pub fn parse(word: &str) -> Option<Self> { match word { $($word => Some(Self::$variant),)* _ => None } }
        }
    };
}

words! {
    /// What speaks to a storage.
    StorageDriver {
        /// A Linux storage node: iSCSI and NVMe/TCP targets, NFS exports, an S3 server.
        Linux = "linux",
        /// Dell PowerFlex.
        PowerFlex = "power_flex",
        /// Dell PowerScale.
        PowerScale = "power_scale",
        /// Dell ECS.
        Ecs = "ecs",
        /// NetApp ONTAP.
        Netapp = "netapp",
        /// Dell PowerStore.
        PowerStore = "power_store",
        /// Pure FlashArray.
        Pure = "pure",
        /// Hitachi VSP.
        HitachiVsp = "hitachi_vsp",
        /// Hitachi HCSF with WEKA.
        HitachiHcsfWeka = "hitachi_hcsf_weka",
        /// Huawei OceanStor Dorado.
        HuaweiOceanstorDorado = "huawei_oceanstor_dorado",
    }
}

words! {
    /// What a storage offers.
    Technology {
        /// Volumes.
        Block = "block",
        /// File shares.
        File = "file",
        /// Buckets.
        Object = "object",
    }
}

words! {
    /// How hosts reach volumes.
    BlockProtocol {
        /// iSCSI.
        Iscsi = "iscsi",
        /// NVMe over TCP.
        NvmeTcp = "nvme_tcp",
        /// SCSI over Fibre Channel.
        ScsiFc = "scsi_fc",
        /// NVMe over Fibre Channel.
        NvmeFc = "nvme_fc",
    }
}

words! {
    /// How hosts reach shares.
    FileProtocol {
        /// NFS.
        Nfs = "nfs",
    }
}

words! {
    /// What a snapshot is of.
    SnapshotOf {
        /// A volume.
        Volume = "volume",
        /// A file share.
        Share = "share",
    }
}

/// A storage as its site sees it: how to reach it. Fact `storage/<id>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StorageTarget {
    /// Storage id.
    pub storage_id: Id,
    /// Name, for messages.
    pub name: String,
    /// Driver.
    pub driver: StorageDriver,
    /// Management address or host name.
    pub address: String,
    /// Management port; `None`: the driver's own.
    #[serde(default)]
    pub port: Option<u16>,
    /// Login name.
    #[serde(default)]
    pub username: String,
    /// Password or API token, sealed for the site.
    pub secret: Sealed,
    /// Private key (PEM) for drivers that log in with one, sealed for the site.
    #[serde(default)]
    pub private_key: Option<Sealed>,
    /// SHA-256 (hex) of the TLS certificate or of the SSH host key, pinned at registration. `None`: pin at first contact.
    #[serde(default)]
    pub tls_fingerprint: Option<String>,
    /// How hosts reach its volumes; `None`: it has none.
    #[serde(default)]
    pub protocol: Option<BlockProtocol>,
    /// What only some drivers know, by the contract's names (`volumeName`, `s3Hostname`, `s3Port`, `clientId`, `keyId`, `issuer`, …).
    #[serde(default)]
    pub options: Map<String, Value>,
}

/// Room of a storage or pool. With thin volumes, what is promised may be more than `total_bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Usable.
    pub total_bytes: u64,
    /// Really used.
    pub used_bytes: u64,
}

impl Capacity {
    /// Not used.
    pub fn free_bytes(self) -> u64 {
        self.total_bytes.saturating_sub(self.used_bytes)
    }
}

/// A pool (aggregate, storage pool, volume group) of a storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolFacts {
    /// Its name there.
    pub name: String,
    /// Room.
    pub capacity: Capacity,
    /// `hdd`, `ssd` or `nvme`; empty: unknown.
    #[serde(default)]
    pub media: String,
}

/// A place at which hosts reach a storage's data.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Portal {
    /// Name of the port, `node1:e0d`.
    #[serde(default)]
    pub name: String,
    /// Node or controller that owns it.
    #[serde(default)]
    pub node: String,
    /// `iscsi`, `nvme_tcp`, `scsi_fc`, `nvme_fc`, `nfs` or `s3`.
    pub protocol: String,
    /// Address, or the world wide name of a Fibre Channel port.
    pub address: String,
    /// TCP port; 0 where there is none.
    #[serde(default)]
    pub port: u16,
}

/// What a driver can do beyond the basics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageFeatures {
    /// Snapshots of volumes.
    #[serde(default)]
    pub snapshots: bool,
    /// Snapshots of shares.
    #[serde(default)]
    pub share_snapshots: bool,
    /// Clones of volumes.
    #[serde(default)]
    pub clones: bool,
    /// Limits of speed.
    #[serde(default)]
    pub qos: bool,
}

/// `storage.discover`: read what a storage is. Returns [`StorageFacts`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StorageDiscover {
    /// The storage.
    pub storage_id: Id,
}

/// What a storage is. Absent facts are `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StorageFacts {
    /// Serial number or cluster id.
    pub serial: Option<String>,
    /// Manufacturer.
    pub vendor: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Version of its software.
    pub version: Option<String>,
    /// Room of the whole.
    pub capacity: Capacity,
    /// Its pools.
    #[serde(default)]
    pub pools: Vec<PoolFacts>,
    /// What it offers.
    pub technologies: Vec<Technology>,
    /// Where hosts reach it.
    #[serde(default)]
    pub portals: Vec<Portal>,
    /// IQN of its iSCSI target, where it has one for all volumes.
    #[serde(default)]
    pub target_iqn: Option<String>,
    /// NQN of its NVMe subsystem, where it has one for all volumes.
    #[serde(default)]
    pub target_nqn: Option<String>,
    /// What it can do.
    #[serde(default)]
    pub features: StorageFeatures,
    /// SHA-256 (hex) of the certificate or host key that was met.
    #[serde(default)]
    pub tls_fingerprint: Option<String>,
}

/// Limits of speed. 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qos {
    /// Operations a second.
    #[serde(default)]
    pub max_iops: u64,
    /// Megabytes (10^6 bytes) a second.
    #[serde(default)]
    pub max_mbps: u64,
}

/// A volume that shall be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its key.
    pub key: String,
    /// Name for people.
    pub name: String,
    /// Size.
    pub size_bytes: u64,
    /// Pool of the storage; `None`: the driver's choice.
    #[serde(default)]
    pub pool: Option<String>,
    /// Limits of speed.
    #[serde(default)]
    pub qos: Option<Qos>,
}

/// `storage.volume_ensure`: make the volume, or grow it. Returns [`VolumeState`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StorageVolumeEnsure {
    /// The storage.
    pub storage_id: Id,
    /// What shall be.
    pub volume: Volume,
}

/// A volume as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VolumeState {
    /// Its key.
    pub key: String,
    /// Name or id on the array.
    #[serde(default)]
    pub array_name: String,
    /// Size, at least what was asked for.
    pub size_bytes: u64,
    /// Bytes really used, where known.
    #[serde(default)]
    pub used_bytes: Option<u64>,
    /// World wide name (NAA or EUI, hex without `0x`), where known.
    #[serde(default)]
    pub wwn: Option<String>,
    /// Pool that it lies in.
    #[serde(default)]
    pub pool: Option<String>,
}

/// `storage.volume_delete`: remove the volume with its snapshots. One that is not there is no error. A volume that hosts may
/// still reach is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StorageVolumeDelete {
    /// The storage.
    pub storage_id: Id,
    /// The volume.
    pub key: String,
}

/// A host that may use a volume.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Initiator {
    /// Name for people.
    #[serde(default)]
    pub name: String,
    /// iSCSI qualified name.
    pub iqn: String,
    /// NVMe qualified name.
    #[serde(default)]
    pub nqn: Option<String>,
    /// Its login, where the storage asks for one.
    #[serde(default)]
    pub chap: Option<Chap>,
}

/// A login of an initiator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chap {
    /// Name.
    pub username: String,
    /// Secret of 12 to 16 characters, sealed for the site.
    pub secret: Sealed,
}

impl PartialOrd for Chap {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Chap {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (&self.username, &self.secret.0).cmp(&(&other.username, &other.secret.0))
    }
}

/// `storage.access_ensure`: exactly these hosts may use the volume: others lose it, first. Returns [`AccessState`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StorageAccessEnsure {
    /// The storage.
    pub storage_id: Id,
    /// The volume.
    pub key: String,
    /// All hosts; empty: nobody.
    pub initiators: Vec<Initiator>,
}

/// How hosts reach a volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AccessState {
    /// The volume.
    pub key: String,
    /// `iscsi`, `nvme_tcp`, …
    #[serde(default)]
    pub protocol: String,
    /// Target for all hosts (IQN or NQN).
    #[serde(default)]
    pub target: Option<String>,
    /// Where it answers.
    #[serde(default)]
    pub portals: Vec<Portal>,
    /// The hosts that may use it, and under which number.
    #[serde(default)]
    pub hosts: Vec<HostAccess>,
}

/// One host of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAccess {
    /// The initiator's IQN, as in the order.
    pub iqn: String,
    /// Logical unit number, or NVMe namespace id.
    #[serde(default)]
    pub lun: Option<u32>,
    /// Its own target, when not [`AccessState::target`].
    #[serde(default)]
    pub target: Option<String>,
}

macro_rules! snapshot_order {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub struct $name {
            /// The storage.
            pub storage_id: Id,
            /// What `key` is.
            pub of: SnapshotOf,
            /// Volume or share.
            pub key: String,
            /// Name of the snapshot, unique within it.
            pub snapshot: String,
        }
    };
}

snapshot_order! {
    /// `storage.snapshot_create`: take a snapshot; one of that name is kept. Returns [`SnapshotState`].
    StorageSnapshotCreate
}
snapshot_order! {
    /// `storage.snapshot_delete`: remove a snapshot. One that is not there is no error.
    StorageSnapshotDelete
}
snapshot_order! {
    /// `storage.snapshot_restore`: all that was written since the snapshot is lost. The size stays.
    StorageSnapshotRestore
}

/// A snapshot as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SnapshotState {
    /// Volume or share.
    pub key: String,
    /// Its name.
    pub snapshot: String,
    /// When it was taken, RFC 3339, by the storage's clock where it tells.
    #[serde(default)]
    pub created_at: Option<String>,
}

/// `storage.snapshot_clone`: a new volume from a snapshot, or from the volume as it is. Returns [`VolumeState`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StorageSnapshotClone {
    /// The storage.
    pub storage_id: Id,
    /// The volume that is copied.
    pub key: String,
    /// Its snapshot; `None`: as it is now.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// The new volume, at least as large.
    pub volume: Volume,
}

/// A file share that shall be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Its key.
    pub key: String,
    /// Name for people.
    pub name: String,
    /// Size (quota).
    pub size_bytes: u64,
    /// Protocol.
    pub protocol: FileProtocol,
    /// Pool of the storage; `None`: the driver's choice.
    #[serde(default)]
    pub pool: Option<String>,
    /// Exactly these addresses may mount it; empty: nobody.
    pub clients: Vec<std::net::IpAddr>,
}

/// `storage.share_ensure`: make the share, grow it, and let exactly these clients use it. Returns [`ShareState`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StorageShareEnsure {
    /// The storage.
    pub storage_id: Id,
    /// What shall be.
    pub share: Share,
}

/// A share as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShareState {
    /// Its key.
    pub key: String,
    /// Size.
    pub size_bytes: u64,
    /// Bytes used, where known.
    #[serde(default)]
    pub used_bytes: Option<u64>,
    /// Address of the server that hosts mount it from.
    pub server: String,
    /// Port; 0: 2049.
    #[serde(default)]
    pub port: u16,
    /// Path there, `/exports/share-3`.
    pub path: String,
    /// Options a client needs, `vers=4.1`.
    #[serde(default)]
    pub mount_options: String,
}

impl ShareState {
    /// What a client mounts: `server:/path`.
    pub fn source(&self) -> String {
        if self.server.contains(':') {
            format!("[{}]:{}", self.server, self.path)
        } else {
            format!("{}:{}", self.server, self.path)
        }
    }
}

/// `storage.share_delete`: remove the share and its data. One that is not there is no error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StorageShareDelete {
    /// The storage.
    pub storage_id: Id,
    /// The share.
    pub key: String,
}

/// A bucket that shall be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Its key; also its name on the storage, unless that is not possible there.
    pub key: String,
    /// Name for people.
    pub name: String,
    /// Size (quota).
    pub size_bytes: u64,
    /// Access key.
    pub access_key: String,
    /// Secret key, sealed for the site.
    pub secret_key: Sealed,
}

/// `storage.bucket_ensure`: make the bucket, grow its quota, and let this key alone use it. Returns [`BucketState`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StorageBucketEnsure {
    /// The storage.
    pub storage_id: Id,
    /// What shall be.
    pub bucket: Bucket,
}

/// A bucket as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BucketState {
    /// Its key.
    pub key: String,
    /// Its name on the storage.
    pub bucket: String,
    /// S3 endpoint, `https://s3.example.org:9021`.
    pub endpoint: String,
    /// Region, where the storage has any.
    #[serde(default)]
    pub region: Option<String>,
    /// Size.
    #[serde(default)]
    pub size_bytes: u64,
    /// Bytes used, where known.
    #[serde(default)]
    pub used_bytes: Option<u64>,
    /// Access key, when the storage made one of its own.
    #[serde(default)]
    pub access_key: Option<String>,
    /// Secret key of that, sealed by the site with its own key.
    #[serde(default)]
    pub secret_key: Option<Sealed>,
}

/// `storage.bucket_delete`: remove the bucket with all objects and its key. One that is not there is no error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StorageBucketDelete {
    /// The storage.
    pub storage_id: Id,
    /// The bucket.
    pub key: String,
    /// Access key that goes with it.
    #[serde(default)]
    pub access_key: Option<String>,
}

macro_rules! orders {
    ($($ty:ident = $name:literal),* $(,)?) => {
        $(impl Order for $ty { const NAME: &'static str = $name; })*
        /// Names of all storage functions that a site offers.
        pub const FUNCTIONS: &[&str] = &[$($name),*];
    };
}

orders! {
    StorageDiscover = "storage.discover",
    StorageVolumeEnsure = "storage.volume_ensure",
    StorageVolumeDelete = "storage.volume_delete",
    StorageAccessEnsure = "storage.access_ensure",
    StorageSnapshotCreate = "storage.snapshot_create",
    StorageSnapshotDelete = "storage.snapshot_delete",
    StorageSnapshotRestore = "storage.snapshot_restore",
    StorageSnapshotClone = "storage.snapshot_clone",
    StorageShareEnsure = "storage.share_ensure",
    StorageShareDelete = "storage.share_delete",
    StorageBucketEnsure = "storage.bucket_ensure",
    StorageBucketDelete = "storage.bucket_delete",
}

/// Name by which an instance's initiator is known to storages. It never changes, whichever server carries the instance.
pub fn initiator_iqn(instance_id: Id) -> String {
    format!("iqn.2026-01.io.steelyard:instance-{instance_id}")
}

/// The instance of such a name.
pub fn initiator_instance(iqn: &str) -> Option<Id> {
    iqn.strip_prefix("iqn.2026-01.io.steelyard:instance-")?.parse().ok()
}

/// User name under which it logs in where a target asks for a secret.
pub fn initiator_user(instance_id: Id) -> String {
    format!("instance-{instance_id}")
}

/// The same for NVMe.
pub fn initiator_nqn(instance_id: Id) -> String {
    format!("nqn.2026-01.io.steelyard:instance-{instance_id}")
}

/// What of storages an installed system is told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InstanceStorage {
    /// Name of its iSCSI initiator; empty: it has no volumes.
    #[serde(default)]
    pub initiator_iqn: String,
    /// Name of its NVMe host.
    #[serde(default)]
    pub initiator_nqn: String,
    /// Storages that it logs in to.
    #[serde(default)]
    pub targets: Vec<InstanceTarget>,
    /// Shares that it mounts.
    #[serde(default)]
    pub mounts: Vec<InstanceMount>,
    /// Its login at iSCSI targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chap: Option<Chap>,
    /// The volume that it boots from holds its system already, which another server has run: only its seed is made anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_system: bool,
}

impl InstanceStorage {
    /// Nothing at all.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.mounts.is_empty()
    }

    /// The volume that it boots from, with the storage on which it is; `None`: it boots from a disk of its server.
    pub fn boot_volume(&self) -> Option<(Id, &str)> {
        self.targets.iter().find_map(|t| Some((t.storage_id, t.boot_volume.as_deref()?)))
    }
}

/// A storage that an instance logs in to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceTarget {
    /// The storage.
    pub storage_id: Id,
    /// Protocol.
    pub protocol: BlockProtocol,
    /// Keys of the volumes that are for this instance.
    pub volumes: Vec<String>,
    /// Where the storage answers.
    #[serde(default)]
    pub portals: Vec<Portal>,
    /// The volume to boot from; it lies on this storage.
    #[serde(default)]
    pub boot_volume: Option<String>,
}

/// A volume that a server boots from, as its site sees it: part of the fact of the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SanBoot {
    /// The storage.
    pub storage_id: Id,
    /// Key of the volume.
    pub key: String,
    /// The instance's initiator.
    pub initiator_iqn: String,
    /// Its login, sealed for the site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chap: Option<Chap>,
    /// Where the volume was found at the last deploy, for a site whose own store does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<AccessState>,
    /// World wide name of the volume, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
}

/// A share that an instance mounts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceMount {
    /// The storage.
    pub storage_id: Id,
    /// Key of the share.
    pub key: String,
    /// Directory it is mounted on.
    pub path: String,
    /// `server:/path`; `None` until the share is made: the site knows it then.
    #[serde(default)]
    pub source: Option<String>,
    /// Options for mounting.
    #[serde(default)]
    pub options: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for d in StorageDriver::ALL {
            assert_eq!(StorageDriver::parse(d.as_str()), Some(*d));
            assert_eq!(serde_json::to_value(d).unwrap(), d.as_str());
        }
        assert_eq!(StorageDriver::parse("floppy"), None);
    }

    #[test]
    fn a_share_is_mounted_by_its_source() {
        let share = ShareState { server: "10.0.0.9".into(), path: "/exports/share-1".into(), ..ShareState::default() };
        assert_eq!(share.source(), "10.0.0.9:/exports/share-1");
        let six = ShareState { server: "fd00::9".into(), path: "/x".into(), ..ShareState::default() };
        assert_eq!(six.source(), "[fd00::9]:/x");
    }
}
