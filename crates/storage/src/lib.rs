//! Storage drivers: what is on an array is read, compared with what shall be, and the difference carried out. Every call may be repeated.
//!
//! A driver implements the traits whose technology its array has, and says so through [`Array`]. The pure part ([`plan`]) knows no array.
//! Objects of ours carry names made from their keys ([`plan::object_name`]): nothing that somebody else made is ever touched.

mod error;
mod http;
pub mod linux;
pub mod ontap;
pub mod plan;
pub mod power_flex;
pub mod power_scale;
pub mod power_store;
pub mod pure;
mod ssh;

use std::time::Duration;

use async_trait::async_trait;
use model::{
    secret::Clear,
    storage::{
        AccessState, BlockProtocol, BucketState, Share, ShareState, SnapshotOf, SnapshotState, StorageDriver,
        StorageFacts, Volume, VolumeState,
    },
};
use serde_json::{Map, Value};

pub use error::StorageError;

/// How to reach a storage, with the secrets in clear.
#[derive(Clone, Debug)]
pub struct Access {
    /// Name, for messages.
    pub name: String,
    /// Management address or host name.
    pub address: String,
    /// Port; the driver's default when absent.
    pub port: Option<u16>,
    /// Login name.
    pub username: String,
    /// Password or API token.
    pub secret: Clear,
    /// Private key (PEM), for drivers that log in with one.
    pub private_key: Option<Clear>,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// SHA-256 (hex) of the only certificate or host key that is accepted. `None`: that of the first contact.
    pub tls_fingerprint: Option<String>,
    /// How hosts reach volumes.
    pub protocol: Option<BlockProtocol>,
    /// What only some drivers know.
    pub options: Map<String, Value>,
}

impl Access {
    /// An option as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.options.get(name).and_then(Value::as_str).filter(|t| !t.is_empty())
    }

    /// An option as a number; numbers in text count.
    pub fn number(&self, name: &str) -> Option<u64> {
        let value = self.options.get(name)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    }

    /// What our objects' names begin with, so that two installations can share an array.
    pub(crate) fn prefix(&self) -> &str {
        self.text("namePrefix").unwrap_or("sy")
    }
}

/// A host that may use a volume, with its secret in clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Name for people.
    pub name: String,
    /// iSCSI qualified name.
    pub iqn: String,
    /// NVMe qualified name.
    pub nqn: Option<String>,
    /// User name and secret, where the storage shall ask for them.
    pub chap: Option<(String, Clear)>,
}

/// A bucket that shall be, with its secret in clear.
#[derive(Clone, Debug)]
pub struct BucketSpec {
    /// Its key.
    pub key: String,
    /// Name for people.
    pub name: String,
    /// Quota.
    pub size_bytes: u64,
    /// Access key.
    pub access_key: String,
    /// Secret key.
    pub secret_key: Clear,
}

/// A bucket as it is. An array that makes its own keys tells them here; then `state.access_key` is set.
#[derive(Clone, Debug)]
pub struct MadeBucket {
    /// Everything but the secret.
    pub state: BucketState,
    /// The secret that the array made.
    pub secret_key: Option<Clear>,
}

/// Every storage can be asked what it is.
#[async_trait]
pub trait Probe: Send + Sync {
    /// What it is.
    async fn facts(&self) -> Result<StorageFacts, StorageError>;
    /// SHA-256 (hex) of the certificate or host key that it has shown, once there was contact.
    fn fingerprint(&self) -> Option<String>;
    /// SHA-256 (hex) of one that was refused since then.
    fn refused_fingerprint(&self) -> Option<String>;
}

/// Volumes, and who may use them.
#[async_trait]
pub trait Block: Send + Sync {
    /// Makes the volume, or grows it.
    async fn volume_ensure(&self, volume: &Volume) -> Result<VolumeState, StorageError>;
    /// Removes the volume with its snapshots; refused while a host may use it. Nothing to remove is no error.
    async fn volume_delete(&self, key: &str) -> Result<(), StorageError>;
    /// Lets exactly these hosts use the volume; who is too much loses it first, also when it uses it now.
    async fn access_ensure(&self, key: &str, hosts: &[Host]) -> Result<AccessState, StorageError>;
}

/// Snapshots of volumes and shares.
#[async_trait]
pub trait Snapshots: Send + Sync {
    /// Takes one; one of that name is kept.
    async fn snapshot_create(&self, of: SnapshotOf, key: &str, snapshot: &str) -> Result<SnapshotState, StorageError>;
    /// Removes one. Nothing to remove is no error.
    async fn snapshot_delete(&self, of: SnapshotOf, key: &str, snapshot: &str) -> Result<(), StorageError>;
    /// Goes back to one; refused while a host uses the volume where that would damage its file system.
    async fn snapshot_restore(&self, of: SnapshotOf, key: &str, snapshot: &str) -> Result<(), StorageError>;
    /// A new volume from a snapshot, or from the volume as it is.
    async fn clone_volume(
        &self,
        key: &str,
        snapshot: Option<&str>,
        volume: &Volume,
    ) -> Result<VolumeState, StorageError>;
}

/// File shares.
#[async_trait]
pub trait File: Send + Sync {
    /// Makes the share, grows it, and lets exactly its clients use it.
    async fn share_ensure(&self, share: &Share) -> Result<ShareState, StorageError>;
    /// Removes the share with its data. Nothing to remove is no error.
    async fn share_delete(&self, key: &str) -> Result<(), StorageError>;
}

/// Buckets.
#[async_trait]
pub trait Object: Send + Sync {
    /// Makes the bucket, grows its quota, and lets its key alone use it.
    async fn bucket_ensure(&self, bucket: &BucketSpec) -> Result<MadeBucket, StorageError>;
    /// Removes the bucket with its objects and key. Nothing to remove is no error.
    async fn bucket_delete(&self, key: &str, access_key: Option<&str>) -> Result<(), StorageError>;
}

/// A storage, by what it can do.
pub trait Array: Probe {
    /// Volumes.
    fn block(&self) -> Option<&dyn Block> {
        None
    }
    /// Snapshots.
    fn snapshots(&self) -> Option<&dyn Snapshots> {
        None
    }
    /// Shares.
    fn file(&self) -> Option<&dyn File> {
        None
    }
    /// Buckets.
    fn object(&self) -> Option<&dyn Object> {
        None
    }
}

/// The drivers that there are.
pub const DRIVERS: &[StorageDriver] = &[
    StorageDriver::Linux,
    StorageDriver::Netapp,
    StorageDriver::PowerFlex,
    StorageDriver::PowerScale,
    StorageDriver::PowerStore,
    StorageDriver::Pure,
];

/// The driver of a storage.
pub fn open(driver: StorageDriver, access: Access) -> Result<Box<dyn Array>, StorageError> {
    match driver {
        StorageDriver::Linux => Ok(Box::new(linux::Linux::new(access)?)),
        StorageDriver::Netapp => Ok(Box::new(ontap::Ontap::new(access)?)),
        StorageDriver::PowerFlex => Ok(Box::new(power_flex::PowerFlex::new(access)?)),
        StorageDriver::PowerScale => Ok(Box::new(power_scale::PowerScale::new(access)?)),
        StorageDriver::PowerStore => Ok(Box::new(power_store::PowerStore::new(access)?)),
        StorageDriver::Pure => Ok(Box::new(pure::Pure::new(access)?)),
        other => Err(StorageError::UnknownDriver(other.as_str().to_owned())),
    }
}
