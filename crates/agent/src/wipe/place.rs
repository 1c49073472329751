//! Where a disk is: in this machine, behind one of its RAID controllers, or somewhere else, where nothing is ours to erase.

use std::{fs, path::Path};

/// The language that it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// NVMe.
    Nvme,
    /// ATA, also behind an adapter for SAS.
    Ata,
    /// SCSI.
    Scsi,
    /// None that erases: a volume of a controller, a disk of a virtual machine, one behind USB, a file.
    Plain,
}

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this machine.
    Here,
    /// A volume of a RAID controller of this machine.
    Volume,
    /// Elsewhere, in words.
    Outside(&'static str),
}

/// A disk's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Language.
    pub bus: Bus,
    /// Place.
    pub place: Place,
    /// It spins.
    pub rotates: bool,
}

fn text(path: &Path) -> String {
    fs::read(path).map(|b| String::from_utf8_lossy(&b).trim().to_uppercase()).unwrap_or_default()
}

/// Volumes of RAID controllers call themselves so.
fn is_volume(vendor: &str, model: &str) -> bool {
    let words = ["LOGICAL VOLUME", "VIRTUAL DRIVE", "PERC", "MEGARAID", "BOSS", "SERVERAID", "LOGICALDRV", "RAID"];
    let makers = ["AVAGO", "LSI", "BROADCOM", "LENOVO", "CISCO", "SMC", "INTEL", "FTS", "HUAWEI"];
    words.iter().any(|w| model.contains(w)) || (makers.contains(&vendor) && model.starts_with("MR"))
}

/// How the controllers of an NVMe disk are reached.
fn over_fabrics(device: &Path) -> bool {
    let remote = |folder: &Path| ["TCP", "RDMA", "FC", "LOOP"].contains(&text(&folder.join("transport")).as_str());
    let controllers = fs::read_dir(device).into_iter().flatten().flatten();
    // With several paths the device is a subsystem, and its controllers are in it.
    remote(device)
        || controllers.filter(|c| c.file_name().to_string_lossy().starts_with("nvme")).any(|c| remote(&c.path()))
}

/// Finds out. `root` is where `sys` and `proc` are.
pub fn of(root: &Path, name: &str) -> Spot {
    let folder = root.join("sys/block").join(name);
    let rotates = text(&folder.join("queue/rotational")) == "1";
    let device = folder.join("device");
    let path = fs::canonicalize(&folder).unwrap_or_default();
    let path = path.to_string_lossy();
    let spot = |bus, place| Spot { bus, place, rotates };
    let mounts = fs::read_to_string(root.join("proc/mounts")).unwrap_or_default();
    let own = format!("/dev/{name}");
    // A name that begins so may be another disk's: sda and sdaa. Partitions end in digits.
    let used = |source: &str| {
        source.strip_prefix(&own).is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == 'p'))
    };
    if mounts.lines().any(|l| l.split(' ').next().is_some_and(used)) {
        return spot(Bus::Plain, Place::Outside("this boot image runs from it"));
    }
    if name.starts_with("nvme") {
        let place =
            if over_fabrics(&device) { Place::Outside("it is reached by NVMe over a network") } else { Place::Here };
        return spot(Bus::Nvme, place);
    }
    if path.contains("/session") {
        return spot(Bus::Plain, Place::Outside("it is a volume of a storage, reached by iSCSI"));
    }
    if path.contains("/rport-") {
        return spot(Bus::Plain, Place::Outside("it is a volume of a storage, reached by Fibre Channel"));
    }
    let (vendor, model) = (text(&device.join("vendor")), text(&device.join("model")));
    if path.contains("/usb") {
        let lent = ["VIRTUAL", "IDRAC", "LINUX", "ILO", "GADGET", "REMOTE"];
        let of_bmc = lent.iter().any(|w| vendor.contains(w) || model.contains(w));
        let place = if of_bmc { Place::Outside("its BMC lends it over USB") } else { Place::Here };
        return spot(Bus::Plain, place);
    }
    if is_volume(&vendor, &model) {
        return spot(Bus::Plain, Place::Volume);
    }
    match vendor.as_str() {
        "ATA" => spot(Bus::Ata, Place::Here),
        _ if name.starts_with("sd") && !vendor.is_empty() => spot(Bus::Scsi, Place::Here),
        _ => spot(Bus::Plain, Place::Here),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop")]
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn disks_that_are_not_here_are_known() {
        let root = tempfile::tempdir().unwrap();
        let disk = |name: &str, below: &str, files: &[(&str, &str)]| {
            let folder = root.path().join("sys/devices").join(below).join("block").join(name);
            fs::create_dir_all(folder.join("device")).unwrap();
            for (file, text) in files {
                let file = folder.join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, text).unwrap();
            }
            fs::create_dir_all(root.path().join("sys/block")).unwrap();
            symlink(&folder, root.path().join("sys/block").join(name)).unwrap();
        };
        fs::create_dir_all(root.path().join("proc")).unwrap();
        fs::write(root.path().join("proc/mounts"), "proc /proc proc rw 0 0\n/dev/sdx1 /mnt ext4 rw 0 0\n").unwrap();
        disk(
            "sda",
            "pci0/ata1/host0/target0:0:0/0:0:0:0",
            &[("device/vendor", "ATA     \n"), ("queue/rotational", "1\n")],
        );
        disk("sdb", "pci0/host1/rport-1:0-2/target1:0:0/1:0:0:1", &[("device/vendor", "NETAPP\n")]);
        disk("sdc", "platform/host2/session1/target2:0:0/2:0:0:1", &[("device/vendor", "LIO-ORG\n")]);
        disk(
            "sdd",
            "pci0/host3/target3:2:0/3:2:0:0",
            &[("device/vendor", "DELL\n"), ("device/model", "PERC H755 Front\n")],
        );
        disk(
            "sde",
            "pci0/usb1/1-1/host4/target4:0:0/4:0:0:0",
            &[("device/vendor", "Linux\n"), ("device/model", "Virtual Floppy\n")],
        );
        disk("sdf", "pci0/host5/port-5:0/end_device-5:0/target5:0:0/5:0:0:0", &[("device/vendor", "SEAGATE\n")]);
        disk("sdx", "pci0/host6/target6:0:0/6:0:0:0", &[("device/vendor", "ATA\n")]);
        disk("sdg", "pci0/usb1/1-2/host7/target7:0:0/7:0:0:0", &[("device/vendor", "Samsung\n")]);
        disk("vda", "pci0/virtio1", &[]);
        disk("nvme0n1", "pci0/nvme/nvme0", &[("device/transport", "pcie\n")]);
        disk("nvme1n1", "virtual/nvme-fabrics/ctl/nvme1", &[("device/transport", "tcp\n")]);
        disk("nvme2n1", "virtual/nvme-subsystem/nvme-subsys2", &[("device/nvme7/transport", "rdma\n")]);
        let of = |name: &str| of(root.path(), name);
        assert_eq!(of("sda"), Spot { bus: Bus::Ata, place: Place::Here, rotates: true });
        assert_eq!((of("sdd").place, of("sdd").bus), (Place::Volume, Bus::Plain));
        assert_eq!((of("sdf").bus, of("vda").bus, of("sdg").bus), (Bus::Scsi, Bus::Plain, Bus::Plain));
        assert_eq!((of("sdg").place, of("vda").place, of("nvme0n1").place), (Place::Here, Place::Here, Place::Here));
        for outside in ["sdb", "sdc", "sde", "sdx", "nvme1n1", "nvme2n1"] {
            assert!(matches!(of(outside).place, Place::Outside(_)), "{outside}");
        }
        assert_eq!(of("no"), Spot { bus: Bus::Plain, place: Place::Here, rotates: false });
    }
}
