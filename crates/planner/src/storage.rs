//! Storage as the planner sees it: what a site has, what a design asks for, what is deployed; and what a design alone shows to be wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use model::{
    Id,
    deploy::DeployType,
    storage::{BlockProtocol, Portal, Qos, Technology},
    template::InstallMethod,
    validate as check,
};
use serde::{Deserialize, Serialize};

use crate::{
    input::{Group, PlanInput},
    problem::{Code, ObjectRef, PlanProblem},
};

/// Bytes of a gibibyte: storages count in powers of two.
pub const GIB: u64 = 1 << 30;

/// Storages of the site, and what the infrastructure has or wants on them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StorageInput {
    /// Storages of the site.
    #[serde(default)]
    pub storages: Vec<Storage>,
    /// Drives, drive groups, file shares and buckets of the infrastructure.
    #[serde(default)]
    pub elements: Vec<StorageElement>,
    /// Instances that go to another server with the volume that they boot from: nothing is installed anew.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub moving: BTreeSet<Id>,
}

/// The volume that an instance boots from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootVolume {
    /// The storage.
    pub storage_id: Id,
    /// Its key there.
    pub key: String,
}

impl StorageInput {
    /// The element whose volumes the instances of a group boot from; `None`: disks of their servers.
    pub(crate) fn boot_element(&self, input: &PlanInput, group_id: Id) -> Option<&StorageElement> {
        self.elements.iter().find(|e| {
            e.design.boot && e.kind == ElementKind::DriveGroup && e.design.groups.contains(&group_id) && !e.goes(input)
        })
    }
}

/// A storage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Storage {
    /// Id.
    pub id: Id,
    /// Name.
    pub name: String,
    /// Fabric that it is attached to; `None`: reached from everywhere in the site.
    #[serde(default)]
    pub fabric_id: Option<Id>,
    /// What it offers.
    pub technologies: BTreeSet<Technology>,
    /// How hosts reach its volumes.
    #[serde(default)]
    pub protocol: Option<BlockProtocol>,
    /// It has been read and may be used.
    pub ready: bool,
    /// Nothing new is put on it.
    #[serde(default)]
    pub in_maintenance: bool,
    /// Taken by hand only, never automatically.
    #[serde(default)]
    pub experimental: bool,
    /// The higher one is taken first.
    #[serde(default)]
    pub priority: i64,
    /// Usable bytes.
    pub total_bytes: u64,
    /// How much may be promised, in percent of that.
    pub overcommit_percent: u32,
    /// Promised to other infrastructures.
    #[serde(default)]
    pub others_bytes: u64,
    /// Where it answers hosts.
    #[serde(default)]
    pub portals: Vec<Portal>,
    /// It can limit speed.
    #[serde(default)]
    pub qos: bool,
}

impl Storage {
    /// Bytes that may be promised in all.
    pub fn limit(&self) -> u64 {
        let limit = u128::from(self.total_bytes) * u128::from(self.overcommit_percent) / 100;
        u64::try_from(limit).unwrap_or(u64::MAX)
    }
}

/// Kinds of storage element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ElementKind {
    /// One volume for all instances of its groups.
    SharedDrive,
    /// A volume for each instance of a group.
    DriveGroup,
    /// A file share for all instances of its groups.
    FileShare,
    /// An object store.
    Bucket,
}

impl ElementKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::SharedDrive, Self::DriveGroup, Self::FileShare, Self::Bucket];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SharedDrive => "shared_drive",
            Self::DriveGroup => "drive_group",
            Self::FileShare => "file_share",
            Self::Bucket => "bucket",
        }
    }

    /// From its word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == word)
    }

    /// What a storage must offer for it.
    pub fn technology(self) -> Technology {
        match self {
            Self::SharedDrive | Self::DriveGroup => Technology::Block,
            Self::FileShare => Technology::File,
            Self::Bucket => Technology::Object,
        }
    }

    /// What it is in a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Self::SharedDrive => "drive",
            Self::DriveGroup => "drives",
            Self::FileShare => "file share",
            Self::Bucket => "bucket",
        }
    }
}

/// Where a storage is preferred when it is chosen automatically.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Affinity {
    /// Where the infrastructure has something already.
    #[default]
    SameStorage,
    /// Where it has the least.
    DifferentStorage,
}

/// What an element shall be, or is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ElementConfig {
    /// Label.
    pub label: String,
    /// Size; of each volume of a drive group.
    pub size_bytes: u64,
    /// The storage that was asked for; `None`: automatic.
    #[serde(default)]
    pub storage_id: Option<Id>,
    /// The network through which hosts reach it; `None`: any that they have.
    #[serde(default)]
    pub network_id: Option<Id>,
    /// Groups whose instances may use it.
    #[serde(default)]
    pub groups: BTreeSet<Id>,
    /// Choice of storage.
    #[serde(default)]
    pub affinity: Affinity,
    /// Limits of speed.
    #[serde(default)]
    pub qos: Option<Qos>,
    /// Of a drive group: its instances boot from it.
    #[serde(default)]
    pub boot: bool,
    /// Of a drive: the volume that it is made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<CloneSource>,
}

/// What a new volume is a copy of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneSource {
    /// The storage; the copy is on the same one.
    pub storage_id: Id,
    /// The volume.
    pub key: String,
    /// Its snapshot; `None`: as it is when the copy is made.
    #[serde(default)]
    pub snapshot: Option<String>,
}

/// A drive, drive group, file share or bucket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StorageElement {
    /// Id.
    pub id: Id,
    /// Kind.
    pub kind: ElementKind,
    /// What it shall be.
    pub design: ElementConfig,
    /// What it is; `None` when it was never deployed.
    #[serde(default)]
    pub deployed: Option<ElementConfig>,
    /// What this deploy does with it.
    pub deploy_type: DeployType,
    /// What is on storages; `None`: nothing.
    #[serde(default)]
    pub state: Option<ElementState>,
    /// What deploys that did not end may have made of it, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<ElementState>,
    /// Of a share that is there: what its hosts mount, `server:/path`, and the options for it.
    #[serde(default)]
    pub mount: Option<(String, String)>,
}

/// What an element has on its storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElementState {
    /// The storage.
    pub storage_id: Id,
    /// Its volumes, share or bucket, by key.
    pub objects: BTreeMap<String, ObjectState>,
}

impl ElementState {
    /// Bytes promised.
    pub fn bytes(&self) -> u64 {
        self.objects.values().map(|o| o.size_bytes).sum()
    }
}

/// One volume, share or bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectState {
    /// Size.
    pub size_bytes: u64,
    /// Limits of speed.
    #[serde(default)]
    pub qos: Option<Qos>,
    /// Instances that may use it.
    #[serde(default)]
    pub instances: BTreeSet<Id>,
    /// Of a share: addresses that may mount it.
    #[serde(default)]
    pub clients: BTreeSet<IpAddr>,
}

impl StorageElement {
    /// Whether it goes with this plan.
    pub(crate) fn goes(&self, input: &PlanInput) -> bool {
        input.infrastructure.deleted || self.deploy_type == DeployType::Delete
    }

    /// The storage that it is on, or that an unfinished deploy took for it.
    pub(crate) fn held_storage(&self) -> Option<Id> {
        self.state.as_ref().or(self.unfinished.last()).map(|s| s.storage_id)
    }

    /// Key of its one object, or of the volume of an instance.
    pub(crate) fn key(&self, instance_id: Option<Id>) -> String {
        let name = match self.kind {
            ElementKind::SharedDrive | ElementKind::DriveGroup => "drive",
            ElementKind::FileShare => "share",
            ElementKind::Bucket => "bucket",
        };
        match instance_id {
            Some(instance) => format!("{name}-{}-{instance}", self.id),
            None => format!("{name}-{}", self.id),
        }
    }
}

/// An element as an object of problems and changes.
pub(crate) fn object_element(e: &StorageElement) -> ObjectRef {
    ObjectRef::new(e.kind.as_str(), e.id, &e.design.label)
}

/// A size for people.
pub(crate) fn size_text(bytes: u64) -> String {
    if bytes < GIB { format!("{} MiB", bytes >> 20) } else { format!("{} GiB", bytes / GIB) }
}

/// What stands in the way of booting from volumes.
fn boot(e: &StorageElement, groups: &BTreeMap<Id, &Group>, error: &mut impl FnMut(&str, Code, String, &str)) {
    if e.kind != ElementKind::DriveGroup {
        let message = "one volume for several servers cannot be booted from".to_owned();
        error("boot", Code::InvalidField, message, "use a drive group: each of its instances gets a volume of its own");
    }
    for group in e.design.groups.iter().filter_map(|g| groups.get(g)) {
        let label = group.label();
        if let Some(os) = &group.design.os {
            if os.method != InstallMethod::Image {
                let message = format!(
                    "OS template {} of group {label} installs by an installer, which does not know the volume",
                    os.name
                );
                error(
                    "boot",
                    Code::BootFromSan,
                    message,
                    "choose a template with a disk image, or boot from local disks",
                );
            } else if os.local_disk_only {
                let message = format!(
                    "systems of OS template {} of group {label} start from local disks only (its tag local-disk-only)",
                    os.name
                );
                error("boot", Code::BootFromSan, message, "choose another template, or boot from local disks");
            }
        }
        if group.design.connections.iter().any(|c| c.redundancy.is_some()) {
            let message = format!(
                "group {label} bonds its interfaces, but a volume is booted over a single one, which a bond would take away from it"
            );
            error(
                "boot",
                Code::BootFromSan,
                message,
                "drop the redundancy of its connections, or boot from local disks",
            );
        }
    }
}

/// Problems of elements that the design alone shows.
pub(crate) fn validate(problems: &mut Vec<PlanProblem>, input: &PlanInput) {
    let groups: BTreeMap<Id, _> =
        input.groups.iter().filter(|g| g.deploy_type != DeployType::Delete).map(|g| (g.id, g)).collect();
    let mut labels = BTreeSet::new();
    let mut boots: BTreeSet<Id> = BTreeSet::new();
    for e in input.storage.elements.iter().filter(|e| !e.goes(input)) {
        let mut error = |field: &str, code: Code, message: String, fix: &str| {
            problems.push(PlanProblem::error(object_element(e), field, code, message, fix));
        };
        if let Err(wrong) = check::label("label", &e.design.label) {
            error("label", Code::InvalidField, wrong.message, "correct the value");
        }
        if !labels.insert((e.kind.words(), &e.design.label)) {
            let message = format!("another {} is called {}", e.kind.words(), e.design.label);
            error("label", Code::InvalidField, message, "give it a label of its own");
        }
        if e.design.size_bytes == 0 {
            error("size", Code::InvalidField, "has no size".into(), "give it a size");
        }
        if let Some(state) = &e.state {
            let largest = state.objects.values().map(|o| o.size_bytes).max().unwrap_or(0);
            if e.design.size_bytes < largest {
                let message =
                    format!("cannot shrink from {} to {}", size_text(largest), size_text(e.design.size_bytes));
                error("size", Code::StorageShrink, message, "keep the size, or make a smaller one and move the data");
            }
            if e.design.storage_id.is_some_and(|s| s != state.storage_id) {
                let message = format!("lies on storage {} and cannot move", state.storage_id);
                error("storage", Code::StorageMoved, message, "keep the storage, or make another one there");
            }
        }
        for id in e.design.groups.iter().filter(|id| !groups.contains_key(id)) {
            // A group that goes takes its access along; one that was never there is a mistake.
            if !input.groups.iter().any(|g| g.id == *id) {
                let message = format!("there is no group {id} in this infrastructure");
                error("hosts", Code::InvalidField, message, "take it off the hosts");
            }
        }
        if let Some(id) = e.design.network_id {
            match input.networks.iter().find(|n| n.id == id) {
                None => error(
                    "network",
                    Code::UnknownNetwork,
                    format!("there is no network {id}"),
                    "choose a network of this infrastructure",
                ),
                Some(network) => {
                    for group in e.design.groups.iter().filter_map(|g| groups.get(g)) {
                        if !group.design.connections.iter().any(|c| c.logical_network_id == id) {
                            let (g, n) = (group.label(), &network.design.label);
                            error(
                                "network",
                                Code::StorageUnreachable,
                                format!("group {g} is not connected to network {n}"),
                                "connect the group to it, or choose no network",
                            );
                        }
                    }
                }
            }
        }
        if e.design.boot {
            for group in e.design.groups.iter().filter(|g| !boots.insert(**g)) {
                let message = format!("group {group} boots from another drive already");
                error("boot", Code::InvalidField, message, "keep one boot drive a group");
            }
            boot(e, &groups, &mut error);
        }
    }
}
