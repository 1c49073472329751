//! The cloud-init NoCloud seed: in the root file system of the new system where it can be mounted, else on a small
//! volume of its own at the end of the disk, which cloud-init finds by its label.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::{
    device::Device,
    error::{Error, Result, Words},
    fat, say,
    site::Site,
    table,
};

const FILES: [&str; 4] = ["user-data", "meta-data", "network-config", "vendor-data"];
const FILE_SYSTEMS: [&str; 3] = ["ext4", "xfs", "btrfs"];
const MOUNT_POINT: &str = "/mnt";

/// Fetches the seed and stores it. Returns where it is.
pub fn store(site: &Site, url: &str, device: &Device) -> Result<String> {
    let mut files = Vec::new();
    for name in FILES {
        files.push((name, site.seed(url, name)?));
    }
    if device.is_block() {
        device.reread_partitions()?;
        if let Some(place) = in_root(device, &files)? {
            return Ok(place);
        }
    }
    on_volume(device, &files)
}

/// Writes to the root file system, when there is one that can be mounted.
fn in_root(device: &Device, files: &[(&str, Vec<u8>)]) -> Result<Option<String>> {
    let mut candidates: Vec<(u64, PathBuf)> = table::read(device)
        .map(|t| t.partitions().iter().map(|p| (p.length, device.partition(p.number))).collect())
        .unwrap_or_default();
    candidates.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    // An image may be one file system without a table.
    candidates.push((0, device.path.clone()));
    fs::create_dir_all(MOUNT_POINT).words(|| format!("making {MOUNT_POINT}"))?;
    for (_, path) in candidates {
        appears(&path);
        let mounted = FILE_SYSTEMS.into_iter().find(|kind| {
            mount(&path, MOUNT_POINT, *kind, MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None).is_ok()
        });
        let Some(kind) = mounted else { continue };
        let root = Path::new(MOUNT_POINT);
        let is_root =
            ["etc/os-release", "usr/lib/os-release"].iter().any(|f| fs::symlink_metadata(root.join(f)).is_ok());
        let written = if is_root { put(root, files).map(|()| true) } else { Ok(false) };
        if is_root && !root.join("usr/bin/cloud-init").exists() {
            say("the image has no /usr/bin/cloud-init: unless something else in it reads the seed, it stays unused");
        }
        rustix::fs::sync();
        unmount(MOUNT_POINT, UnmountFlags::empty()).words(|| format!("unmounting {}", path.display()))?;
        if written? {
            return Ok(Some(format!("in the root file system ({kind} on {})", path.display())));
        }
    }
    Ok(None)
}

/// Waits a little for a device file, which the kernel makes soon after it has read the table.
fn appears(path: &Path) {
    for _ in 0..20 {
        if path.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

fn put(root: &Path, files: &[(&str, Vec<u8>)]) -> Result<()> {
    let folder = root.join("var/lib/cloud/seed/nocloud");
    let write = || -> std::io::Result<()> {
        // It holds the hash of a password: for the owner alone.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        for (name, content) in files {
            let _ = fs::remove_file(folder.join(name));
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join(name))?;
            std::io::Write::write_all(&mut file, content)?;
            file.sync_all()?;
        }
        Ok(())
    };
    write().words(|| "writing the seed into the root file system".into())
}

/// Writes a volume `CIDATA` at the end of the disk.
fn on_volume(device: &Device, files: &[(&str, Vec<u8>)]) -> Result<String> {
    let borrowed: Vec<(&str, &[u8])> = files.iter().map(|(n, c)| (*n, c.as_slice())).collect();
    let volume = fat::volume(&borrowed)?;
    let Some(mut table) = table::read(device) else {
        return Err(Error::Failed(format!(
            "the image on disk {} has neither a partition table nor a root file system that can be mounted, so there is no place for the seed",
            device.name
        )));
    };
    // A system that is kept has the volume of its first seed.
    if let Some(number) = volume_of(device, &table)
        && let Some(old) = table.partitions().into_iter().find(|p| p.number == number)
        && old.length >= volume.len() as u64
    {
        device.write(old.start, &volume)?;
        device.sync()?;
        return Ok(format!("on partition {number} of disk {} (label CIDATA)", device.name));
    }
    table.stretch(device)?;
    let partition = table.add_at_end(device, volume.len() as u64, "cidata")?;
    device.write(partition.start, &volume)?;
    device.sync()?;
    Ok(format!("on partition {} at the end of disk {} (label CIDATA)", partition.number, device.name))
}

/// Label of a seed's partition, so that growing stops before it.
pub fn volume_of(device: &Device, table: &table::Table) -> Option<u32> {
    table.partitions().iter().find_map(|p| {
        let mut first = [0; 512];
        device.read(p.start, &mut first).ok()?;
        (&first[43..49] == b"CIDATA").then_some(p.number)
    })
}
