//! Operating system templates as a site sees them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Id;

/// The installable part of an OS template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OsInstall {
    /// OS template id.
    pub template_id: Id,
    /// Name, for messages.
    pub name: String,
    /// Operating system name, `Debian`.
    pub os_name: String,
    /// Version, `12`.
    pub os_version: String,
    /// What is installed from: the disk image, the installer's kernel or the installation medium, by the method.
    pub image: ImageRef,
    /// How it comes onto the machine.
    #[serde(default)]
    pub method: InstallMethod,
    /// Texts that machines fetch by their names, or that the medium gets: answer files.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, TextFile>,
    /// For installers: how the site learns that the installation is over.
    #[serde(default)]
    pub ready: ReadySignal,
    /// For images: which disks are erased before; absent: all for a new server, the first one for one that is installed anew.
    /// Installers partition by their answer files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erase: Option<Erase>,
    /// Its systems do not start from a volume on the network: a design that wants that is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub local_disk_only: bool,
    /// Jinja text of the cloud-init user-data. The default is used when absent.
    #[serde(default)]
    pub user_data: Option<String>,
    /// Jinja text of the cloud-init meta-data. The default is used when absent.
    #[serde(default)]
    pub meta_data: Option<String>,
}

impl OsInstall {
    /// All that a site must have at hand before the installation begins.
    pub fn images(&self) -> impl Iterator<Item = &ImageRef> {
        let more: Vec<&ImageRef> = match &self.method {
            InstallMethod::Image => Vec::new(),
            InstallMethod::Network { initrds, .. } => initrds.iter().map(|i| &i.image).collect(),
            InstallMethod::Media { components, .. } => components.iter().map(|c| &c.image).collect(),
        };
        std::iter::once(&self.image).chain(more)
    }

    /// All texts that are rendered with values.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let arguments = match &self.method {
            InstallMethod::Network { arguments, .. } => Some(arguments.as_str()),
            _ => None,
        };
        let url = match &self.ready {
            ReadySignal::ApiResponse { url } => Some(url.as_str()),
            _ => None,
        };
        let files = self.files.values().filter(|f| f.template).map(|f| f.text.as_str());
        [self.user_data.as_deref(), self.meta_data.as_deref(), arguments, url].into_iter().flatten().chain(files)
    }
}

/// How an operating system comes onto a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum InstallMethod {
    /// The boot image's program writes a disk image.
    #[default]
    Image,
    /// The distribution's own installer, from the network.
    Network {
        /// What is loaded beside the kernel, in this order.
        initrds: Vec<NamedImage>,
        /// Jinja text of the kernel's command line.
        arguments: String,
    },
    /// The installer's medium in the BMC's virtual drive.
    Media {
        /// A medium is made for each server, with the files and components in it.
        rebuild: bool,
        /// More files for the medium, by their paths on it.
        components: Vec<NamedImage>,
    },
}

/// A file by content with the name under which it is loaded or stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedImage {
    /// Name, or path on a medium.
    pub name: String,
    /// The content.
    pub image: ImageRef,
}

/// A text of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextFile {
    /// The text.
    pub text: String,
    /// It is a Jinja template.
    pub template: bool,
    /// Where it belongs on a medium: `/preseed.cfg`.
    #[serde(default)]
    pub path: String,
}

/// How a site learns that an installer has done its work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ReadySignal {
    /// The machine switches itself off.
    #[default]
    PowerOff,
    /// Something on it posts to the ready address.
    Signal,
    /// An SSH server answers.
    Ssh {
        /// TCP port.
        port: u16,
    },
    /// An address of the new system answers with success.
    ApiResponse {
        /// Jinja text of the URL.
        url: String,
    },
}

/// Which disks lose what is on them before an image is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Erase {
    /// All of them.
    #[default]
    All,
    /// The one that is installed to; data drives stay as they are.
    First,
}

impl Erase {
    /// The word of the agent protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::First => "first",
        }
    }
}

/// An image by content: the digest is its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRef {
    /// SHA-256 in hex.
    pub sha256: String,
    /// Length in bytes.
    pub size: u64,
    /// `raw`, `raw.gz`, `qcow2` or `iso`; empty for other files.
    pub format: String,
    /// Where the site fetches it from when it does not have it: `http(s)://…`. `None`: from the Global Controller, over the link.
    #[serde(default)]
    pub url: Option<String>,
}
