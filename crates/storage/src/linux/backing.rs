//! Where the bytes lie: sparse files of a directory, or thin logical volumes. Everything here makes text for a shell.

use super::IN_USE;
use crate::{Access, StorageError, ssh::quote};

/// Directory of a node whose options name none.
const DIRECTORY: &str = "/srv/steelyard";

/// A pool.
pub(super) enum Backing {
    /// Sparse files. Snapshots are reference copies where the file system knows them (XFS, Btrfs).
    Files {
        /// Directory.
        directory: String,
    },
    /// Thin volumes of LVM.
    Lvm {
        /// Volume group.
        group: String,
        /// Thin pool in it.
        pool: String,
    },
}

/// A volume or share, or a snapshot of one.
#[derive(Clone, Copy)]
pub(super) enum Piece<'a> {
    /// Itself.
    Whole(&'a str),
    /// Its snapshot.
    Snapshot(&'a str, &'a str),
}

impl Backing {
    /// By the option `volumeName`: a directory, or `group/thinpool`.
    pub(super) fn of(access: &Access) -> Result<Self, StorageError> {
        let wanted = access.text("volumeName").unwrap_or(DIRECTORY);
        let word = |w: &str| {
            !w.is_empty() && !w.starts_with('-') && w.chars().all(|c| c.is_ascii_alphanumeric() || "_.+-".contains(c))
        };
        if wanted.starts_with('/') && !wanted.contains(['\n', '%', '"']) {
            return Ok(Self::Files { directory: wanted.trim_end_matches('/').to_owned() });
        }
        match wanted.split_once('/') {
            Some((group, pool)) if word(group) && word(pool) => {
                Ok(Self::Lvm { group: group.to_owned(), pool: pool.to_owned() })
            }
            _ => Err(StorageError::Setting {
                storage: access.name.clone(),
                reason: format!(
                    "option volumeName is {wanted:?}; enter a directory such as {DIRECTORY}, or a thin pool of LVM as group/pool"
                ),
            }),
        }
    }

    pub(super) fn pool(&self) -> String {
        match self {
            Self::Files { directory } => directory.clone(),
            Self::Lvm { group, pool } => format!("{group}/{pool}"),
        }
    }

    pub(super) fn path(&self, piece: Piece<'_>) -> String {
        match (self, piece) {
            (Self::Files { directory }, Piece::Whole(name)) => format!("{directory}/volumes/{name}.img"),
            (Self::Files { directory }, Piece::Snapshot(name, snap)) => {
                format!("{directory}/snapshots/{name}@{snap}.img")
            }
            (Self::Lvm { group, .. }, Piece::Whole(name)) => format!("/dev/{group}/{name}"),
            (Self::Lvm { group, .. }, Piece::Snapshot(name, snap)) => format!("/dev/{group}/{name}.{snap}"),
        }
    }

    /// Prints `total=` and `used=`.
    pub(super) fn capacity(&self) -> String {
        match self {
            Self::Files { directory } => format!(
                "df -B1 --output=size,used {} 2>/dev/null | tail -n 1 | {{ read -r t u || true; say total \"${{t:-0}}\"; say used \"${{u:-0}}\"; }}",
                quote(directory)
            ),
            Self::Lvm { group, pool } => format!(
                "lvs --noheadings --nosuffix --units b -o lv_size,data_percent {} | {{ read -r s p; say total \"$s\"; say used \"$(awk \"BEGIN {{printf \\\"%.0f\\\", $s * ${{p:-0}} / 100}}\")\"; }}",
                quote(&format!("{group}/{pool}"))
            ),
        }
    }

    /// Prints size and use, or nothing.
    pub(super) fn measure(&self, path: &str) -> String {
        let q = quote(path);
        match self {
            Self::Files { .. } => format!("if [ -e {q} ]; then stat -c %s {q}; du -B1 {q} | cut -f1; fi"),
            Self::Lvm { .. } => format!("if [ -e {q} ]; then blockdev --getsize64 {q}; fi"),
        }
    }

    pub(super) fn create(&self, name: &str, size: u64) -> String {
        match self {
            Self::Files { directory } => {
                let (d, q) = (quote(directory), quote(&self.path(Piece::Whole(name))));
                format!("mkdir -p {d}/volumes {d}/snapshots\ntruncate -s {size} {q}.new\nmv -n {q}.new {q}")
            }
            Self::Lvm { group, pool } => {
                format!("lvcreate -y -q -V {size}b -T {group}/{pool} -n {name}")
            }
        }
    }

    pub(super) fn grow(&self, name: &str, size: u64) -> String {
        match self {
            Self::Files { .. } => format!("truncate -s {size} {}", quote(&self.path(Piece::Whole(name)))),
            Self::Lvm { group, .. } => format!("lvextend -q -L {size}b {group}/{name}"),
        }
    }

    /// Removes a piece, if it is there.
    pub(super) fn remove(&self, piece: Piece<'_>) -> String {
        let path = self.path(piece);
        match self {
            Self::Files { .. } => format!("rm -f {}", quote(&path)),
            Self::Lvm { .. } => format!("if [ -e {0} ]; then lvremove -f -y -q {0}; fi", quote(&path)),
        }
    }

    /// Removes all snapshots of a volume.
    pub(super) fn remove_snapshots(&self, name: &str) -> String {
        match self {
            Self::Files { directory } => format!("rm -f {}/snapshots/{}@*.img", quote(directory), quote(name)),
            Self::Lvm { group, .. } => format!(
                "lvs --noheadings -o lv_name {group} | while read -r v; do case \"$v\" in {name}.*) lvremove -f -y -q {group}/\"$v\";; esac; done"
            ),
        }
    }

    /// Copies a piece to another, which must not be there. A source in use is only copied where that takes one moment of it.
    pub(super) fn copy(&self, from: Piece<'_>, to: Piece<'_>, in_use: Option<&str>) -> String {
        let (source, target) = (self.path(from), self.path(to));
        match self {
            Self::Files { directory } => {
                let otherwise = match in_use {
                    Some(by) => format!(
                        "{{ echo {} >&2; exit {IN_USE}; }}",
                        quote(&format!(
                            "{by} (the file system of the pool cannot copy a volume in one moment: use XFS, Btrfs or LVM)"
                        ))
                    ),
                    None => "cp --sparse=always \"$from\" \"$to.new\"".to_owned(),
                };
                format!(
                    "mkdir -p {d}/volumes {d}/snapshots\nfrom={f}\nto={t}\nrm -f \"$to.new\"\ncp --reflink=always \"$from\" \"$to.new\" 2>/dev/null || {{ rm -f \"$to.new\"; {otherwise}; }}\nmv \"$to.new\" \"$to\"",
                    d = quote(directory),
                    f = quote(&source),
                    t = quote(&target),
                )
            }
            Self::Lvm { group, .. } => {
                let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
                format!("lvcreate -y -q -kn -s {group}/{} -n {}", name(&source), name(&target))
            }
        }
    }

    /// Puts the contents of a snapshot in the place of its volume. Nothing may have the volume open.
    pub(super) fn restore(&self, name: &str, snap: &str, size: u64) -> String {
        match self {
            // Renaming over the volume is what makes it whole: before and after there is one or the other.
            Self::Files { .. } => format!(
                "from={f}\nto={t}\nrm -f \"$to.new\"\ncp --reflink=auto --sparse=always \"$from\" \"$to.new\"\ntruncate -s {size} \"$to.new\"\nmv \"$to.new\" \"$to\"",
                f = quote(&self.path(Piece::Snapshot(name, snap))),
                t = quote(&self.path(Piece::Whole(name))),
            ),
            Self::Lvm { group, .. } => format!(
                "if [ -e /dev/{group}/{name}.new ]; then lvremove -f -y -q {group}/{name}.new; fi\nlvcreate -y -q -kn -s {group}/{name}.{snap} -n {name}.new\nif [ \"$(blockdev --getsize64 /dev/{group}/{name}.new)\" -lt {size} ]; then lvextend -q -L {size}b {group}/{name}.new; fi\nlvremove -f -y -q {group}/{name}\nlvrename -q {group}/{name}.new {group}/{name}"
            ),
        }
    }

    /// Options of a mount.
    pub(super) fn mount_options(&self) -> &'static str {
        match self {
            Self::Files { .. } => "loop,nouuid,nofail",
            Self::Lvm { .. } => "nouuid,nofail",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::secret::Clear;

    use super::*;

    fn backing(volume_name: &str) -> Result<Backing, StorageError> {
        Backing::of(&Access {
            name: "node".into(),
            address: "10.0.0.1".into(),
            port: None,
            username: "root".into(),
            secret: Clear(String::new()),
            private_key: None,
            timeout: Duration::from_secs(1),
            tls_fingerprint: None,
            protocol: None,
            options: [("volumeName".to_owned(), volume_name.into())].into_iter().collect(),
        })
    }

    #[test]
    fn pools_are_directories_or_thin_pools() {
        assert_eq!(backing("/srv/x/").unwrap().pool(), "/srv/x");
        assert_eq!(backing("vg0/thin").unwrap().pool(), "vg0/thin");
        for wrong in ["thin", "vg0/-f", "vg 0/thin", "a/b/c", "vg;reboot/x", "/srv/%dir"] {
            assert!(backing(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn thin_volumes() {
        let lvm = backing("vg0/thin").unwrap();
        assert_eq!(lvm.path(Piece::Whole("sy-drive-1")), "/dev/vg0/sy-drive-1");
        assert_eq!(lvm.create("sy-drive-1", 8 << 20), "lvcreate -y -q -V 8388608b -T vg0/thin -n sy-drive-1");
        assert_eq!(lvm.grow("sy-drive-1", 16 << 20), "lvextend -q -L 16777216b vg0/sy-drive-1");
        let snapshot = Piece::Snapshot("sy-drive-1", "s-daily");
        assert_eq!(
            lvm.copy(Piece::Whole("sy-drive-1"), snapshot, Some("a host")),
            "lvcreate -y -q -kn -s vg0/sy-drive-1 -n sy-drive-1.s-daily"
        );
        assert_eq!(
            lvm.copy(snapshot, Piece::Whole("sy-drive-2"), None),
            "lvcreate -y -q -kn -s vg0/sy-drive-1.s-daily -n sy-drive-2"
        );
        assert!(lvm.remove(snapshot).contains("lvremove -f -y -q '/dev/vg0/sy-drive-1.s-daily'"));
        let restore = lvm.restore("sy-drive-1", "s-daily", 16 << 20);
        let order = ["lvcreate", "lvextend", "lvremove -f -y -q vg0/sy-drive-1\n", "lvrename"];
        let places: Vec<usize> = order.iter().map(|w| restore.find(w).unwrap()).collect();
        assert!(places.is_sorted(), "the old volume goes when the new one is whole: {restore}");
    }

    #[test]
    fn a_file_in_use_is_copied_in_one_moment_or_not_at_all() {
        let files = backing("/srv/steelyard").unwrap();
        let script = files.copy(Piece::Whole("v"), Piece::Snapshot("v", "s"), Some("iqn.x:a"));
        assert!(script.contains("--reflink=always") && script.contains("exit 75") && !script.contains("--sparse"));
        let script = files.copy(Piece::Whole("v"), Piece::Snapshot("v", "s"), None);
        assert!(script.contains("--sparse=always"));
    }
}
