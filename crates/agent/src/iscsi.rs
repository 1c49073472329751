//! Volumes on the network: logs in to an iSCSI target with the kernel's initiator and finds the one disk that it is.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use model::agent::IscsiVolume;

use crate::{
    device::Device,
    error::{Error, Result, Words},
    say,
};

/// Debian's initiator for early boot: logs in, and leaves the session to the kernel.
const ISCSISTART: &str = "/sbin/iscsistart";
const BUSYBOX: &str = "/bin/busybox";
/// How long the kernel may take to find the disk behind a session.
const PATIENCE: Duration = Duration::from_secs(30);

/// Logs in by the first portal that lets us, and opens the disk.
pub fn attach(volume: &IscsiVolume, root: &Path) -> Result<Device> {
    if volume.portals.is_empty() {
        return Err(Error::from("the volume has no address; look at the ports of its storage"));
    }
    if let Some(device) = find(volume, root)? {
        return Ok(device);
    }
    for module in ["iscsi_tcp", "crc32c", "sd_mod"] {
        let _ = quiet(Command::new(BUSYBOX).args(["modprobe", "-q", module])).status();
    }
    let mut failures = Vec::new();
    for (address, port) in &volume.portals {
        match login(volume, address, *port) {
            Ok(()) => {
                say(format_args!("logged in to {} at {address}:{port}", volume.target));
                let begun = Instant::now();
                while begun.elapsed() < PATIENCE {
                    if let Some(device) = find(volume, root)? {
                        return Ok(device);
                    }
                    sleep(Duration::from_millis(100));
                }
                return Err(Error::Failed(format!(
                    "{} at {address}:{port} lets us in, but shows no disk with the number {}; look at what the storage maps to {}",
                    volume.target, volume.lun, volume.initiator
                )));
            }
            Err(why) => failures.push(format!("{address}:{port}: {why}")),
        }
    }
    Err(Error::Failed(format!(
        "no way to the volume {} as {}: {}",
        volume.target,
        volume.initiator,
        failures.join("; ")
    )))
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

fn login(volume: &IscsiVolume, address: &str, port: u16) -> std::result::Result<(), String> {
    let (port, target) = (port.to_string(), volume.target.as_str());
    let mut command = Command::new(ISCSISTART);
    command.args(["-i", &volume.initiator, "-t", target, "-g", "1", "-a", address, "-p", &port]);
    if let Some((user, secret)) = &volume.chap {
        // Nobody else runs on this machine who could look at its list of processes.
        command.args(["-u", user, "-w", secret]);
    }
    let done = command.stdin(Stdio::null()).output().map_err(|e| format!("{ISCSISTART} cannot be started: {e}"))?;
    if done.status.success() {
        return Ok(());
    }
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> =
        said.lines().map(|l| l.trim().trim_start_matches("iscsistart: ")).filter(|l| !l.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(2)..).unwrap_or_default().join("; ");
    Err(if last.is_empty() { format!("the login failed ({})", done.status) } else { last })
}

/// The disk with the volume's number behind a session with its target: nothing that is in the machine can be mistaken for it.
fn find(volume: &IscsiVolume, root: &Path) -> Result<Option<Device>> {
    let Some((name, place)) = look(volume, &root.join("sys/class/iscsi_session")) else { return Ok(None) };
    if let Some(wanted) = &volume.wwn {
        let seen = fs::read_to_string(place.join("wwid")).unwrap_or_default();
        let seen = seen.trim().trim_start_matches("naa.").trim_start_matches("eui.").to_ascii_lowercase();
        // Vendors write their names in more than one way: only one that is there and says something else is a reason to stop.
        if !seen.is_empty() && seen.chars().all(|c| c.is_ascii_hexdigit()) && !same(&seen, wanted) {
            return Err(Error::Failed(format!(
                "disk {name} behind {} is {seen}, and not {wanted} as the storage said: nothing is written to it",
                volume.target
            )));
        }
    }
    let path = Path::new("/dev").join(&name);
    let begun = Instant::now();
    while !path.exists() && begun.elapsed() < PATIENCE {
        sleep(Duration::from_millis(50));
    }
    Device::open(&name, &path).map(Some)
}

fn same(seen: &str, wanted: &str) -> bool {
    let wanted = wanted.to_ascii_lowercase();
    let wanted = wanted.trim_start_matches("0x").trim_start_matches("naa.").trim_start_matches("eui.");
    !wanted.chars().all(|c| c.is_ascii_hexdigit()) || seen.ends_with(wanted) || wanted.ends_with(seen)
}

/// Name of the disk, and its place in `/sys`.
fn look(volume: &IscsiVolume, sessions: &Path) -> Option<(String, PathBuf)> {
    for session in folders(sessions) {
        let target = fs::read_to_string(session.join("targetname")).unwrap_or_default();
        if target.trim() != volume.target {
            continue;
        }
        for bus in folders(&session.join("device")) {
            if !bus.file_name().is_some_and(|n| n.to_string_lossy().starts_with("target")) {
                continue;
            }
            for unit in folders(&bus) {
                let name = unit.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                let number = name.rsplit_once(':').and_then(|(_, n)| n.parse::<u32>().ok());
                if number == Some(volume.lun)
                    && let Some(disk) = folders(&unit.join("block")).into_iter().next()
                    && let Some(name) = disk.file_name()
                {
                    return Some((name.to_string_lossy().into_owned(), unit));
                }
            }
        }
    }
    None
}

fn folders(at: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        fs::read_dir(at).into_iter().flatten().flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
    all.sort();
    all
}

/// In tests a file stands for the volume: that with the target's name in the folder of volumes.
pub fn attach_file(volume: &IscsiVolume, folder: &Path) -> Result<Device> {
    let name = volume.target.replace(['/', ':'], "_");
    let path = folder.join(&name);
    fs::metadata(&path).words(|| format!("no way to the volume {} as {}", volume.target, volume.initiator))?;
    Device::open(&name, &path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop")]
    use super::*;

    fn volume(target: &str, lun: u32, wwn: Option<&str>) -> IscsiVolume {
        IscsiVolume {
            initiator: "iqn.x:me".into(),
            target: target.into(),
            lun,
            portals: vec![("192.0.2.1".into(), 3260)],
            chap: None,
            wwn: wwn.map(str::to_owned),
        }
    }

    /// As Linux 6.1 shows two sessions, of which the second has two units.
    fn sys(root: &Path) {
        for (session, target, units) in [
            ("session1", "iqn.x:other", &["2:0:0:1 sdb"][..]),
            ("session2", "iqn.x:mine", &["3:0:0:0 sdc", "3:0:0:11 sdd"]),
        ] {
            let at = root.join("sys/class/iscsi_session").join(session);
            fs::create_dir_all(at.join("device/power")).unwrap();
            fs::write(at.join("targetname"), format!("{target}\n")).unwrap();
            for unit in units {
                let (unit, disk) = unit.split_once(' ').unwrap();
                let bus = format!("target{}", unit.rsplit_once(':').unwrap().0);
                let place = at.join("device").join(bus).join(unit);
                fs::create_dir_all(place.join("block").join(disk)).unwrap();
                fs::write(place.join("wwid"), "naa.60000000000000000e00000000010001\n").unwrap();
            }
        }
    }

    #[test]
    fn the_disk_is_known_by_its_target_and_number() {
        let dir = tempfile::tempdir().unwrap();
        sys(dir.path());
        let sessions = dir.path().join("sys/class/iscsi_session");
        let name = |target: &str, lun| look(&volume(target, lun, None), &sessions).map(|(name, _)| name);
        assert_eq!(name("iqn.x:mine", 11).as_deref(), Some("sdd"));
        assert_eq!(name("iqn.x:mine", 0).as_deref(), Some("sdc"));
        assert_eq!(name("iqn.x:other", 1).as_deref(), Some("sdb"));
        assert_eq!((name("iqn.x:mine", 1), name("iqn.x:nobody", 0)), (None, None));
    }

    #[test]
    fn another_disk_than_the_storage_said_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        sys(dir.path());
        let wrong = volume("iqn.x:mine", 11, Some("60000000000000000e00000000020001"));
        let why = find(&wrong, dir.path()).err().unwrap().to_string();
        assert!(why.contains("nothing is written"), "{why}");
        assert!(same("60000000000000000e00000000010001", "0x60000000000000000E00000000010001"));
        assert!(
            same("624a9370abc", "624A9370ABC") && same("600a0980", "not hexadecimal") && !same("600a0980", "600a0981")
        );
    }

    #[test]
    fn a_target_that_nobody_offers_is_told_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let why = attach(&volume("iqn.x:mine", 1, None), dir.path()).err().unwrap().to_string();
        assert!(why.contains("iqn.x:mine") && why.contains("192.0.2.1:3260"), "{why}");
    }
}
