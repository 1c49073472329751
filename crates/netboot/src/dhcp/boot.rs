//! Which boot file a client is given.

use std::collections::BTreeMap;

use super::{Identity, Request};

/// How a boot file is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootFile {
    /// By TFTP: a path.
    Tftp(String),
    /// By UEFI HTTP boot: a path under `/boot/`.
    Http(String),
}

/// Boot files by client architecture (option 93).
#[derive(Clone, Debug)]
pub struct BootFiles(pub BTreeMap<u16, BootFile>);

impl Default for BootFiles {
    /// Numbers from the IANA registry of processor architecture types: 0 BIOS; 7 and 9 UEFI x64 (firmware uses both);
    /// 11 UEFI ARM64; 16 and 19 the same two by HTTP.
    fn default() -> Self {
        let tftp = |name: &str| BootFile::Tftp(name.to_owned());
        let http = |name: &str| BootFile::Http(name.to_owned());
        Self(BTreeMap::from([
            (0, tftp("undionly.kpxe")),
            (7, tftp("ipxe.efi")),
            (9, tftp("ipxe.efi")),
            (11, tftp("ipxe-arm64.efi")),
            (16, http("ipxe.efi")),
            (19, http("ipxe-arm64.efi")),
        ]))
    }
}

/// What goes into the answer for a client that boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Boot {
    /// Option 67 and the `file` field.
    pub file: String,
    /// Option 60 to answer with.
    pub class: Option<&'static str>,
    /// Whether the client is PXE firmware, which wants option 43 too.
    pub pxe: bool,
}

/// A MAC as it stands in URLs: lower case with hyphens.
pub(crate) fn hyphens(mac: &str) -> String {
    mac.replace(':', "-")
}

/// The boot file for this request; `None` for a client that does not boot, or of an unknown architecture.
pub(super) fn boot_for(request: &Request, identity: &Identity) -> Option<Boot> {
    if request.is_ipxe() {
        let file = format!("{}/boot/{}/script.ipxe", identity.http_base, hyphens(request.mac()));
        return Some(Boot { file, class: None, pxe: false });
    }
    let class = request.vendor_class();
    let (pxe, http) = (class.starts_with(b"PXEClient"), class.starts_with(b"HTTPClient"));
    if !pxe && !http {
        return None;
    }
    request.architectures().find_map(|arch| match identity.boot_files.0.get(&arch)? {
        BootFile::Tftp(path) if pxe => Some(Boot { file: path.clone(), class: Some("PXEClient"), pxe: true }),
        // The UEFI specification (section 24.7) takes an answer for HTTP boot only if option 60 says so.
        BootFile::Http(path) if http => {
            Some(Boot { file: format!("{}/boot/{path}", identity.http_base), class: Some("HTTPClient"), pxe: false })
        }
        _ => None,
    })
}
