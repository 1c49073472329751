//! Erasing disks. Before an installation quickly; for cleaning so that nothing can be read, which is then checked.

use std::collections::BTreeSet;

use model::{
    bmc::Disk,
    cleaning::{CleanPlan, ErasedDisk, WipeMethod},
};

use crate::{
    device::{CHUNK, Device},
    error::{Error, Result},
    say,
    site::Reporter,
    table,
};

/// What is zeroed at both ends of a disk: partition tables, boot loaders, RAID and LVM labels.
const ENDS: u64 = 16 << 20;
/// What is zeroed at the beginning of every old partition: signatures of file systems.
const SIGNATURES: u64 = 1 << 20;
/// Disks up to this size are read back in full, larger ones in samples.
const READ_IN_FULL: u64 = 64 << 30;
/// Blocks read back of a larger disk.
const SAMPLES: u64 = 4096;
/// Bytes of one order to the disk, so that progress can be told.
const SLICE: u64 = 256 << 20;

/// For an installation: the disk is told to forget, and what others could recognise is zeroed. Returns how.
pub fn quick(device: &Device, report: &mut Reporter<'_>) -> Result<String> {
    report.tick(0, 1, || format!("{}: erasing", device.name))?;
    // Partitions are looked up before the table is gone.
    let starts: BTreeSet<u64> = table::read(device).map(|t| t.starts()).unwrap_or_default();
    let discarded = slices(device, |at, length| device.discard(at, length).map_err(|e| e.to_string().into())).is_ok();
    for start in starts.into_iter().filter(|s| *s < device.size) {
        device.zero(start, Ord::min(SIGNATURES, device.size - start))?;
    }
    let end = Ord::min(ENDS, device.size);
    device.zero(0, end)?;
    device.zero(device.size - end, end)?;
    device.sync()?;
    let ends = end >> 20;
    Ok(if discarded {
        format!("{}: discarded as a whole, the first and last {ends} MiB zeroed", device.name)
    } else {
        format!(
            "{}: cannot discard; the first and last {ends} MiB and the beginnings of partitions zeroed",
            device.name
        )
    })
}

fn slices(device: &Device, mut each: impl FnMut(u64, u64) -> Result<()>) -> Result<()> {
    let mut at = 0;
    while at < device.size {
        let length = Ord::min(SLICE, device.size - at);
        each(at, length)?;
        at += length;
    }
    Ok(())
}

/// For cleaning: every disk that the plan does not leave alone. What became of each is told, also when one of them fails: the others are
/// erased all the same.
pub fn clean(
    devices: Vec<Device>,
    found: &[Disk],
    plan: &CleanPlan,
    told: &mut Vec<ErasedDisk>,
    report: &mut Reporter<'_>,
) -> Result<()> {
    let mut failures = Vec::new();
    for device in devices {
        let known = found.iter().find(|d| d.name == device.name);
        let serial = known.and_then(|d| d.serial.clone());
        let mut disk = ErasedDisk {
            name: device.name.clone(),
            serial: serial.clone(),
            model: known.and_then(|d| d.model.clone()),
            size: device.size,
            ..ErasedDisk::default()
        };
        let kept = serial.is_some_and(|s| plan.keep.iter().any(|k| k.eq_ignore_ascii_case(&s)))
            || known.is_some_and(|d| plan.keep_media.contains(&d.media));
        if kept {
            disk.method = "left alone: the cleanup policy says so".into();
            told.push(disk);
            continue;
        }
        match thorough(&device, plan.method, report) {
            Ok((how, verified)) => {
                disk.erased = true;
                disk.method = how.into();
                disk.verified = Some(verified);
            }
            Err(Error::Dead) => return Err(Error::Dead),
            Err(Error::Failed(why)) => {
                disk.method = format!("{} failed", plan.method.as_str());
                disk.error = Some(why.clone());
                failures.push(why);
            }
        }
        told.push(disk);
        let _ = device.reread_partitions();
    }
    if failures.is_empty() {
        let count = told.iter().filter(|d| d.erased).count();
        return report.tell(1, 1, &format!("{count} of {} disks erased", told.len()));
    }
    Err(Error::Failed(failures.join("; ")))
}

/// Erases one disk and reads it back. `Auto` takes the first method that the disk has and whose result holds; another method is the only
/// one tried. Returns how, and how that was checked.
fn thorough(device: &Device, method: WipeMethod, report: &mut Reporter<'_>) -> Result<(&'static str, String)> {
    let name = &device.name;
    let gib = (device.size >> 20) as f64 / 1024.0;
    let size = device.size;
    let auto = method == WipeMethod::Auto;
    if matches!(method, WipeMethod::NvmeFormat | WipeMethod::SecureErase) || (auto && name.starts_with("nvme")) {
        report.tell(0, 1, &format!("{name}: NVMe format with erasure of user data, {gib:.1} GiB"))?;
        let why = match device.nvme_format() {
            Ok(()) => match verify(device, report)? {
                Ok(read) => return Ok(("NVMe format with erasure of user data", read)),
                Err(why) => format!("formatted, but {why}"),
            },
            Err(e) => format!("the disk cannot erase itself by a command that we know: {e}"),
        };
        if !auto {
            return Err(Error::Failed(format!("{name}: {why}; choose another method in the cleanup policy")));
        }
        say(format_args!("{name}: {why}; trying otherwise"));
    }
    if auto || method == WipeMethod::Discard {
        report.tell(0, 1, &format!("{name}: discarding {gib:.1} GiB"))?;
        let why = match slices(device, |at, length| device.discard(at, length).map_err(|e| e.to_string().into())) {
            Ok(()) => match verify(device, report)? {
                Ok(read) => return Ok(("discarded", read)),
                Err(why) => format!("discarded, but {why}"),
            },
            Err(e) => format!("cannot discard: {e}"),
        };
        if !auto {
            return Err(Error::Failed(format!("{name}: {why}; choose another method in the cleanup policy")));
        }
        say(format_args!("{name}: {why}; overwriting"));
    }
    slices(device, |at, length| {
        // Half of the way is the reading.
        report.tick(at, size * 2, || format!("{name}: overwriting with zeros, {} of {} MiB", at >> 20, size >> 20))?;
        device.zero(at, length)
    })?;
    match verify(device, report)? {
        Ok(read) => Ok(("overwritten with zeros", read)),
        Err(why) => Err(Error::Failed(format!("disk {name} was overwritten with zeros, but {why}; replace the disk"))),
    }
}

/// Reads back. The inner result says what was read, or where something is left.
fn verify(device: &Device, report: &mut Reporter<'_>) -> Result<Result<String, String>> {
    device.sync()?;
    device.forget();
    let (name, size) = (&device.name, device.size);
    let left = |at: u64| Err(format!("byte {at} is not zero when read back"));
    if size <= READ_IN_FULL {
        let mut at = 0;
        while at < size {
            report.tick(size + at, size * 2, || format!("{name}: reading back, {} of {} MiB", at >> 20, size >> 20))?;
            let length = Ord::min(64 * CHUNK as u64, size - at);
            if let Some(at) = device.first_nonzero(at, length)? {
                return Ok(left(at));
            }
            at += length;
        }
        return Ok(Ok("read back in full, all zero".into()));
    }
    for (from, length) in [(0, ENDS), (size - ENDS, ENDS)] {
        if let Some(at) = device.first_nonzero(from, length)? {
            return Ok(left(at));
        }
    }
    let stride = (size / SAMPLES) & !4095;
    for n in 0..SAMPLES {
        report.tick(SAMPLES + n, SAMPLES * 2, || format!("{name}: reading back, sample {n} of {SAMPLES}"))?;
        if let Some(at) = device.first_nonzero(n * stride, 64 << 10)? {
            return Ok(left(at));
        }
    }
    Ok(Ok(format!("read back in {SAMPLES} samples and at both ends, all zero")))
}
