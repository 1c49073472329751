//! A task's steps, one after the other.

use std::{path::PathBuf, thread::sleep, time::Duration};

use model::{
    agent::{Done, Next, Step, Task, TaskKind},
    bmc::HardwareInventory,
    cleaning::ErasedDisk,
};

use crate::{
    device::{Device, Disks},
    efi,
    error::{Error, Result},
    image::{self, Image},
    inventory, iscsi, say, seed,
    site::{Reporter, Site},
    table, wipe,
};

/// Longest time between two questions for a task.
const LONGEST_WAIT: u64 = 300;

/// Name of the disk that an attached volume is.
const VOLUME: &str = "volume";
/// Folder of files that stand for volumes, in the folder of those that stand for disks.
const VOLUMES: &str = "volumes";

/// What the steps work on.
pub struct Machine {
    /// Where disks are looked for.
    pub disks: Disks,
    /// Where `sys` and `proc` are.
    pub root: PathBuf,
    /// How long neighbours are listened for.
    pub listen: Duration,
}

/// Asks for the task until there is one, does it, and returns what the machine does then.
pub fn run(site: &Site, machine: &Machine) -> Result<Next> {
    loop {
        let task = match site.task() {
            Ok(task) => task,
            Err(Error::Dead) => return Err(Error::Dead),
            // What was asked cannot be understood: the site hears it rather than wait for its deadline.
            Err(Error::Failed(why)) => return site.done(&Done { error: Some(why), ..Done::default() }),
        };
        if task.task == TaskKind::Wait {
            sleep(Duration::from_secs(task.retry_after.unwrap_or(5).clamp(1, LONGEST_WAIT)));
            continue;
        }
        say(format_args!("task {:?} of {} steps", task.task, task.steps.len()));
        let mut erased = Vec::new();
        let error = match steps(site, machine, &task, &mut erased) {
            Ok(()) => None,
            Err(Error::Dead) => return Err(Error::Dead),
            Err(Error::Failed(why)) => {
                say(format_args!("failed: {why}"));
                Some(why)
            }
        };
        return site.done(&Done { ok: error.is_none(), error, erased });
    }
}

/// How much of a task's time a step takes, roughly.
fn weight(step: &Step) -> u32 {
    match step {
        Step::Inventory | Step::Attach { .. } => 5,
        Step::Wipe { .. } => 20,
        Step::WriteImage { .. } => 100,
        Step::Seed { .. } | Step::Bootloader => 4,
        Step::Finish => 1,
    }
}

fn steps(site: &Site, machine: &Machine, task: &Task, erased: &mut Vec<ErasedDisk>) -> Result<()> {
    let whole: u32 = task.steps.iter().map(weight).sum();
    let mut before = 0;
    let found = inventory::disks(&machine.root);
    let mut target: Option<Device> = None;
    let mut volume: Option<Device> = None;
    for (index, step) in task.steps.iter().enumerate() {
        let percent = |part: u32| u8::try_from(part * 100 / Ord::max(whole, 1)).unwrap_or(100);
        let after = before + weight(step);
        let mut report = Reporter::new(site, index + 1, percent(before), percent(after));
        before = after;
        match step {
            Step::Inventory => {
                // Cables are what discovery is for; an installation does not wait for switches to speak.
                let listen = if task.task == TaskKind::Discover { machine.listen } else { Duration::ZERO };
                report.tell(0, 1, "reading the hardware")?;
                let all: HardwareInventory = inventory::collect(&machine.root, listen);
                site.inventory(&all)?;
            }
            Step::Wipe { disks, plan } if task.task == TaskKind::Clean => {
                let plan = plan.clone().unwrap_or_default();
                let bench = wipe::Bench { root: &machine.root, found: &found, plan: &plan };
                let disks = if disks == "all" { "every" } else { disks };
                wipe::clean(machine.disks.select(disks, &found)?, &bench, erased, &mut report)?;
            }
            Step::Wipe { disks, .. } => {
                let mut results = Vec::new();
                let all = match &volume {
                    Some(volume) if disks == VOLUME => vec![volume.again()?],
                    // A server that boots from a volume may have no disk.
                    Some(_) if disks == "all" && machine.disks.none(&found)? => Vec::new(),
                    _ => machine.disks.select(disks, &found)?,
                };
                for device in all {
                    results.push(wipe::quick(&device, &mut report)?);
                    let _ = device.reread_partitions();
                }
                report.tell(1, 1, &results.join("; "))?;
            }
            Step::WriteImage { url, sha256, format, size, disk } => {
                let device = match &volume {
                    Some(volume) if disk == VOLUME => volume.again()?,
                    _ => {
                        let device = machine.disks.select(disk, &found)?.into_iter().next();
                        device.ok_or_else(|| Error::from("the machine has no disk"))?
                    }
                };
                report.tell(0, 1, &format!("{}: writing the image", device.name))?;
                image::write(site, &Image { url, sha256, format, size: *size }, &device, &mut report)?;
                target = Some(device);
            }
            Step::Attach { volume: wanted } => {
                report.tell(0, 1, &format!("logging in to {}", wanted.target))?;
                let device = match &machine.disks {
                    Disks::Machine => iscsi::attach(wanted, &machine.root)?,
                    Disks::Folder(folder) => iscsi::attach_file(wanted, &folder.join(VOLUMES))?,
                };
                report.tell(1, 1, &format!("the volume is disk {} of {} MiB", device.name, device.size >> 20))?;
                volume = Some(device);
            }
            Step::Seed { url, disk } => {
                report.tell(0, 1, "storing the seed")?;
                if let Some(disk) = disk {
                    let named = volume.as_ref().filter(|_| disk == VOLUME);
                    let named = named.ok_or_else(|| Error::Failed(format!("no step has attached the disk {disk}")))?;
                    target = Some(named.again()?);
                }
                let place = seed::store(site, url, written(target.as_ref())?)?;
                report.tell(1, 1, &format!("the seed is {place}"))?;
            }
            Step::Bootloader => {
                let device = written(target.as_ref())?;
                // Firmware finds no partition of a volume by itself: an entry would name what is not there.
                let local = volume.as_ref().is_none_or(|v| v.name != device.name);
                let said = bootloader(device, local)?;
                report.tell(1, 1, &said)?;
            }
            Step::Finish => {
                if let Some(device) = &target {
                    device.sync()?;
                }
                report.tell(1, 1, "done")?;
            }
        }
    }
    Ok(())
}

fn written(target: Option<&Device>) -> Result<&Device> {
    target.ok_or_else(|| Error::from("the task has no step that writes an image before this one"))
}

/// Images are bootable by themselves; what is left is to use the whole disk, and to tell UEFI firmware.
fn bootloader(device: &Device, local: bool) -> Result<String> {
    let Some(mut table) = table::read(device) else {
        return Ok(format!("disk {} has no partition table: nothing to grow", device.name));
    };
    table.stretch(device)?;
    let grown = match seed::volume_of(device, &table) {
        Some(number) => table.grow_before(device, number)?,
        None => table.grow_last(device)?,
    };
    let mut said = grown.map_or_else(
        || "no partition could be grown".to_owned(),
        |p| format!("partition {} grown to {} MiB", p.number, p.length >> 20),
    );
    device.reread_partitions()?;
    if local && device.is_block() && efi::here() {
        let sector = table.sector();
        // A disk that boots by the standard path is worth more than an entry: a failure is told, not fatal.
        let entry = efi::register(&table.partitions(), sector).unwrap_or_else(|e| format!("no UEFI boot entry: {e}"));
        said.push_str("; ");
        said.push_str(&entry);
    }
    Ok(said)
}
