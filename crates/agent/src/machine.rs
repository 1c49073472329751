//! The machine around the agent when it is the first process of an initramfs: file systems, drivers, network, the end.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use model::agent::Next;
use rustix::{
    mount::{MountFlags, mount},
    system::{RebootCommand, reboot},
};

use crate::{
    cmdline::Arguments,
    error::{Error, Result, Words},
    inventory, say,
};

const BUSYBOX: &str = "/bin/busybox";
const LEASE: &str = "/run/lease";
/// How long drivers may take to find the interface, and a DHCP server to answer.
const PATIENCE: Duration = Duration::from_mins(5);
/// How long a person may read what went wrong before the machine switches off.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// Mounts what a kernel offers, and speaks on its console.
pub fn begin() -> Result<()> {
    for (kind, at) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/run"), ("tmpfs", "/tmp")]
    {
        fs::create_dir_all(at).words(|| format!("making {at}"))?;
        match mount(kind, at, kind, MountFlags::NOSUID, None) {
            Ok(()) | Err(rustix::io::Errno::BUSY) => {}
            Err(e) => return Err(Error::Failed(format!("mounting {at}: {e}"))),
        }
    }
    if let Ok(console) = fs::OpenOptions::new().read(true).write(true).open("/dev/console") {
        let _ = rustix::stdio::dup2_stdin(&console);
        let _ = rustix::stdio::dup2_stdout(&console);
        let _ = rustix::stdio::dup2_stderr(&console);
    }
    // The kernel's own words between ours help nobody, except its errors.
    let _ = fs::write("/proc/sys/kernel/printk", "4\n");
    Ok(())
}

fn busybox(arguments: &[&str]) -> bool {
    let quiet =
        Command::new(BUSYBOX).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|s| s.success())
}

/// Names of hardware below a folder of `/sys`, by which drivers are found.
fn hardware(folder: &Path, found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            hardware(&entry.path(), found);
        } else if entry.file_name() == "modalias"
            && let Ok(name) = fs::read_to_string(entry.path())
            && !name.trim().is_empty()
        {
            found.insert(name.trim().to_owned());
        }
    }
}

/// Loads drivers for what there is; file systems and protocols the kernel loads itself when they are used. A driver of a bus brings new hardware to light, so a few rounds are made.
pub fn drivers() {
    let mut known = BTreeSet::new();
    for _ in 0..4 {
        let mut found = BTreeSet::new();
        hardware(Path::new("/sys/devices"), &mut found);
        let new: Vec<String> = found.difference(&known).cloned().collect();
        if new.is_empty() {
            break;
        }
        for chunk in new.chunks(64) {
            let mut arguments = vec!["modprobe", "-q", "-a"];
            arguments.extend(chunk.iter().map(String::as_str));
            // Without a driver for one of them the rest would be left out: then one by one.
            if !busybox(&arguments) {
                for name in chunk {
                    busybox(&["modprobe", "-q", name]);
                }
            }
        }
        known = found;
        sleep(Duration::from_millis(200));
    }
}

/// Brings all interfaces up, and the network on the one that was booted from. Returns its name.
pub fn network(arguments: &Arguments) -> Result<String> {
    let begun = Instant::now();
    let name = loop {
        let nics = inventory::nics(Path::new("/"));
        if let Some(nic) = nics.iter().find(|n| n.mac == arguments.mac) {
            break nic.name.clone();
        }
        if begun.elapsed() > PATIENCE {
            let there: Vec<String> = nics.iter().map(|n| format!("{} {}", n.name, n.mac)).collect();
            return Err(Error::Failed(format!(
                "no interface has the address {}; there are: {}. Its driver may be missing in this boot image",
                arguments.mac,
                if there.is_empty() { "none".into() } else { there.join(", ") }
            )));
        }
        sleep(Duration::from_millis(100));
    };
    busybox(&["ip", "link", "set", "lo", "up"]);
    for nic in inventory::nics(Path::new("/")) {
        // LLDP is spoken to a group address, which most interfaces would drop.
        busybox(&["ifconfig", &nic.name, "allmulti", "up"]);
    }
    // It stays and renews the lease: installations may take longer than one.
    Command::new(BUSYBOX)
        .args(["udhcpc", "-f", "-i", &name, "-t", "5", "-T", "1", "-A", "2", "-s", "/etc/udhcpc.sh"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .words(|| "starting the DHCP client".into())?;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Ok(lease) = fs::read_to_string(LEASE) {
            say(format_args!("{name} has the address {}", lease.trim()));
            return Ok(name);
        }
        sleep(Duration::from_millis(50));
    }
    Err(Error::Failed(format!("nobody gave {name} ({}) an address by DHCP", arguments.mac)))
}

/// The end: off or again. Does not return, except when the kernel refuses.
pub fn end(outcome: &Result<Next>) {
    let command = match outcome {
        Ok(Next::Reboot) => RebootCommand::Restart,
        Ok(Next::PowerOff) => RebootCommand::PowerOff,
        Err(why) => {
            say(format_args!("{why}; switching off in {} s", LAST_WORDS.as_secs()));
            sleep(LAST_WORDS);
            RebootCommand::PowerOff
        }
    };
    rustix::fs::sync();
    if let Err(e) = reboot(command) {
        say(format_args!("the kernel does not switch off: {e}"));
    }
    loop {
        sleep(Duration::from_hours(1));
    }
}
