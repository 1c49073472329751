//! Operating system templates as a site sees them.

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
    /// The disk image.
    pub image: ImageRef,
    /// Jinja text of the cloud-init user-data. The default is used when absent.
    #[serde(default)]
    pub user_data: Option<String>,
    /// Jinja text of the cloud-init meta-data. The default is used when absent.
    #[serde(default)]
    pub meta_data: Option<String>,
}

/// An image by content: the digest is its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRef {
    /// SHA-256 in hex.
    pub sha256: String,
    /// Length in bytes.
    pub size: u64,
    /// `raw`, `raw.gz` or `qcow2`.
    pub format: String,
    /// Where the site fetches it from when it does not have it: `http(s)://…`. `None`: from the Global Controller, over the link.
    #[serde(default)]
    pub url: Option<String>,
}
