//! A cleaning: every disk of the machine that the plan does not leave alone, several at a time, and what became of each.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use model::{
    bmc::Disk,
    cleaning::{CleanPlan, ErasedDisk, KnownDisk},
};

use super::{
    Tell, ata,
    command::{Commands, Real},
    evidence::Evidence,
    nvme,
    place::{self, Bus, Place, Spot},
    tcg,
    ways::{self, Way},
};
use crate::{
    device::Device,
    error::{Error, Result},
    say,
    site::Reporter,
};

/// Disks that are erased at the same time: each keeps a controller busy, and none may starve.
const AT_ONCE: usize = 16;
/// How often the site hears, also while disks say nothing.
const HEARD: Duration = Duration::from_secs(5);

/// What a cleaning works on.
pub struct Bench<'a> {
    /// Where `sys` and `proc` are.
    pub root: &'a Path,
    /// Disks of the inventory.
    pub found: &'a [Disk],
    /// The plan.
    pub plan: &'a CleanPlan,
}

/// One disk of it.
struct Work {
    device: Device,
    spot: Spot,
    disk: ErasedDisk,
    /// No other namespace of its controller is kept.
    alone: bool,
}

/// What comes of a disk.
enum News {
    At(usize, u64, String),
    Over(usize, Box<ErasedDisk>),
}

/// Erases. What became of each disk is told, also when one of them fails: the others are erased all the same.
pub fn clean(
    devices: Vec<Device>,
    bench: &Bench<'_>,
    told: &mut Vec<ErasedDisk>,
    report: &mut Reporter<'_>,
) -> Result<()> {
    let mut failures = Vec::new();
    let mut work = Vec::new();
    let mut kept_controllers = Vec::new();
    for device in devices {
        let (disk, spot, verdict) = bench.look(&device);
        match verdict {
            Verdict::Erase => work.push(Work { device, spot, disk, alone: true }),
            Verdict::Leave(why) => {
                kept_controllers.extend(nvme::controller_of(&device.name).map(str::to_owned));
                told.push(ErasedDisk { method: why, ..disk });
            }
            Verdict::Refuse(why) => {
                kept_controllers.extend(nvme::controller_of(&device.name).map(str::to_owned));
                failures.push(why.clone());
                told.push(ErasedDisk { method: "not touched".into(), error: Some(why), ..disk });
            }
        }
    }
    for gone in bench.missing() {
        let why = format!(
            "disk {} ({}) of this server is not seen: it has failed, was taken out, or its driver is missing here; if it was taken out, have the cleanup policy leave its serial number alone",
            gone.name,
            gone.serial.as_deref().unwrap_or("no serial number")
        );
        failures.push(why.clone());
        told.push(ErasedDisk {
            name: gone.name.clone(),
            serial: gone.serial.clone(),
            size: gone.size_gb * 1_000_000_000,
            method: "not seen".into(),
            error: Some(why),
            ..ErasedDisk::default()
        });
    }
    for one in &mut work {
        let own = nvme::controller_of(&one.device.name);
        one.alone = !kept_controllers.iter().any(|c| Some(c.as_str()) == own);
    }
    let done = all(&work, bench.plan, report)?;
    for disk in done {
        if let Some(why) = &disk.error {
            failures.push(format!("disk {}: {why}", disk.name));
        }
        told.push(disk);
    }
    told.sort_by_key(|d| bench.found.iter().position(|f| f.name == d.name).unwrap_or(usize::MAX));
    if failures.is_empty() {
        let count = told.iter().filter(|d| d.erased).count();
        return report.tell(1, 1, &format!("{count} of {} disks erased", told.len()));
    }
    Err(Error::Failed(failures.join("; ")))
}

enum Verdict {
    Erase,
    Leave(String),
    Refuse(String),
}

impl Bench<'_> {
    fn look(&self, device: &Device) -> (ErasedDisk, Spot, Verdict) {
        let known = self.found.iter().find(|d| d.name == device.name);
        let serial = known.and_then(|d| d.serial.clone());
        let spot = place::of(self.root, &device.name);
        let disk = ErasedDisk {
            name: device.name.clone(),
            serial: serial.clone(),
            model: known.and_then(|d| d.model.clone()),
            size: device.size,
            ..ErasedDisk::default()
        };
        let same = |a: &str, b: &str| a.trim().eq_ignore_ascii_case(b.trim());
        let kept = serial.as_deref().is_some_and(|s| self.plan.keep.iter().any(|k| same(k, s)))
            || known.is_some_and(|d| self.plan.keep_media.contains(&d.media));
        let size_gb = (device.size + 500_000_000) / 1_000_000_000;
        let listed = self.plan.disks.is_empty()
            || (self.plan.volumes && spot.place == Place::Volume)
            || self.plan.disks.iter().any(|d| match (&d.serial, &serial) {
                (Some(a), Some(b)) => same(a, b),
                (None, None) => d.name == device.name && d.size_gb == size_gb,
                _ => false,
            });
        let verdict = match spot.place {
            Place::Outside(why) => Verdict::Leave(format!("left alone: {why}, and is no disk of this server")),
            _ if kept => Verdict::Leave("left alone: the cleanup policy says so".into()),
            _ if !listed => Verdict::Refuse(format!(
                "disk {} ({}) is not among the disks that are known of this server, and is not touched: take it out, or register the server again",
                device.name,
                serial.as_deref().unwrap_or("no serial number")
            )),
            _ => Verdict::Erase,
        };
        (disk, spot, verdict)
    }

    /// Disks that were seen in this machine once, and are not now.
    fn missing(&self) -> Vec<&KnownDisk> {
        let same = |a: &str, b: &str| a.trim().eq_ignore_ascii_case(b.trim());
        let here = |serial: &str| self.found.iter().any(|f| f.serial.as_deref().is_some_and(|s| same(s, serial)));
        let kept = |serial: &str| self.plan.keep.iter().any(|k| same(k, serial));
        let gone = |d: &&KnownDisk| d.seen && d.serial.as_deref().is_some_and(|s| !here(s) && !kept(s));
        // Volumes come and go when they are made anew.
        if self.plan.volumes { Vec::new() } else { self.plan.disks.iter().filter(gone).collect() }
    }
}

/// Erases all of them, several at a time; namespaces of one controller one after the other.
fn all(work: &[Work], plan: &CleanPlan, report: &mut Reporter<'_>) -> Result<Vec<ErasedDisk>> {
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (n, one) in work.iter().enumerate() {
        let key = nvme::controller_of(&one.device.name).unwrap_or(&one.device.name);
        groups.entry(key.to_owned()).or_default().push(n);
    }
    let groups: Vec<Vec<usize>> = groups.into_values().collect();
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut over: BTreeMap<usize, ErasedDisk> = BTreeMap::new();
    let mut dead = false;
    std::thread::scope(|scope| {
        let (sender, news) = mpsc::channel();
        let sender = Mutex::new(sender);
        let hand = || sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for _ in 0..Ord::min(AT_ONCE, groups.len()) {
            let sender = hand();
            let (next, stop, groups) = (&next, &stop, &groups);
            scope.spawn(move || {
                while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for n in group {
                        let Some(one) = work.get(*n).filter(|_| !stop.load(Ordering::Relaxed)) else { continue };
                        let disk = erase(one, plan, &sender, *n, stop);
                        let _ = sender.send(News::Over(*n, Box::new(disk)));
                    }
                }
            });
        }
        drop(sender);
        let mut at: BTreeMap<usize, (u64, String)> = BTreeMap::new();
        loop {
            match news.recv_timeout(HEARD) {
                Ok(News::At(n, part, words)) => _ = at.insert(n, (part, words)),
                Ok(News::Over(n, disk)) => {
                    at.remove(&n);
                    over.insert(n, *disk);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
            let whole = work.len() as u64 * 1000;
            let sum = over.len() as u64 * 1000 + at.values().map(|(part, _)| part).sum::<u64>();
            let words = || {
                let mut list: Vec<String> = at.values().take(3).map(|(_, w)| w.clone()).collect();
                if at.len() > 3 {
                    list.push(format!("and {} more", at.len() - 3));
                }
                format!("{} of {} disks done; {}", over.len(), work.len(), list.join(", "))
            };
            if !dead && report.tick(sum, whole, words).is_err() {
                dead = true;
                stop.store(true, Ordering::Relaxed);
            }
        }
    });
    if dead { Err(Error::Dead) } else { Ok(over.into_values().collect()) }
}

/// Erases one disk.
fn erase(one: &Work, plan: &CleanPlan, sender: &mpsc::Sender<News>, n: usize, stop: &AtomicBool) -> ErasedDisk {
    let begun = Instant::now();
    let name = &one.device.name;
    let said = Mutex::new(Instant::now());
    let tell = |done: u64, of: u64, words: &str| -> Result<()> {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Dead);
        }
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if done == 0 || said.elapsed() > Duration::from_millis(500) {
            *said = Instant::now();
            let part = u64::try_from(u128::from(done) * 1000 / u128::from(Ord::max(of, 1))).unwrap_or(1000);
            let percent = if done == 0 { String::new() } else { format!(" {} %", part / 10) };
            let _ = sender.send(News::At(n, Ord::min(part, 1000), format!("{name}: {words}{percent}")));
        }
        Ok(())
    };
    let mut disk = one.disk.clone();
    let commands = Real::new(&one.device);
    let outcome = by_plan(&one.device, &commands, one.spot, one.alone, plan, &mut disk, &tell)
        .and_then(|()| if one.spot.bus == Bus::Ata { open(&commands) } else { Ok(()) });
    if let Err(why) = outcome {
        let words = why.to_string();
        say(format_args!("{name}: {words}"));
        disk.erased = false;
        disk.method = format!("{} failed", plan.method.as_str());
        disk.error = Some(words);
    }
    disk.seconds = begun.elapsed().as_secs();
    let _ = one.device.reread_partitions();
    disk
}

/// A disk that keeps a password would be locked at the next start.
fn open(disk: &dyn Commands) -> Result<()> {
    match ata::identify(disk) {
        Ok(is) if is.enabled => Err(Error::from(
            "it is erased, and has still a password that is not ours; revert it by the PSID on its label",
        )),
        _ => Ok(()),
    }
}

/// Tries the ways of the plan one after the other until one holds.
fn by_plan(
    device: &Device,
    commands: &dyn Commands,
    spot: Spot,
    alone: bool,
    plan: &CleanPlan,
    disk: &mut ErasedDisk,
    tell: &Tell<'_>,
) -> Result<()> {
    let mut trouble = Vec::new();
    if spot.bus == Bus::Ata {
        match ata::recover(commands) {
            Ok(true) => {
                disk.tried.push("it had the password of an erasure that lost its power, which was taken off".into());
            }
            Ok(false) => {}
            Err(why) => trouble.push(why.to_string()),
        }
    }
    let mut evidence = Evidence::take(device);
    if spot.bus != Bus::Plain
        && let Some(what) = tcg::discover(commands, spot.bus == Bus::Nvme)
    {
        let psid = disk.serial.as_ref().and_then(|s| plan.psids.iter().find(|(k, _)| k.eq_ignore_ascii_case(s)));
        match psid {
            Some((_, psid)) => match tcg::revert(commands, what, &psid.0) {
                Ok(how) if how.standard.is_some() => {
                    if let Ok(read) = evidence.check(device)? {
                        note(disk, how.words, how.standard, read);
                        return Ok(());
                    }
                    disk.tried.push(format!("{}: what stood on it is still there", how.words));
                }
                Ok(how) => {
                    disk.tried.push(format!("{}, which erases nothing on this disk", how.words));
                    evidence = Evidence::take(device);
                }
                Err(why) => trouble.push(why.to_string()),
            },
            None if what.locked => trouble.push(format!(
                "it is locked by {} with a password that nobody here knows; clean it once more with the PSID from its label",
                what.kind()
            )),
            None => {}
        }
    }
    let methods: Vec<_> = std::iter::once(plan.method).chain(plan.fallbacks.iter().copied()).collect();
    let mut seen: Vec<Way> = Vec::new();
    for method in methods {
        let all = ways::of(spot, method);
        if all.is_empty() {
            trouble.push(format!("such a disk has no {}", method.as_str().replace('_', " ")));
        }
        for way in all {
            if seen.contains(&way) {
                continue;
            }
            seen.push(way);
            let why = match ways::go(way, device, commands, spot, alone, tell) {
                Ok((how, Some(read))) => {
                    note(disk, how.words, how.standard, read);
                    disk.tried.append(&mut trouble);
                    return Ok(());
                }
                Ok((how, None)) if how.resumed => {
                    let read = "its progress was followed to the end over a loss of power; the disk reports success";
                    let mut first = [0; 4096];
                    match device.read(0, &mut first) {
                        Ok(()) => {
                            note(disk, how.words, how.standard, read.into());
                            disk.tried.append(&mut trouble);
                            return Ok(());
                        }
                        Err(why) => format!("{}: {why}", how.words),
                    }
                }
                Ok((how, None)) => match evidence.check(device)? {
                    Ok(read) => {
                        note(disk, how.words, how.standard, read);
                        disk.tried.append(&mut trouble);
                        return Ok(());
                    }
                    Err(why) => format!("{}: the disk reports success, but {why}", how.words),
                },
                Err(Error::Dead) => return Err(Error::Dead),
                Err(Error::Failed(why)) => why,
            };
            say(format_args!("{}: {why}", device.name));
            trouble.push(why);
        }
    }
    trouble.dedup();
    disk.tried = trouble.clone();
    Err(Error::Failed(format!("{}; choose another method in the cleanup policy", trouble.join("; "))))
}

fn note(disk: &mut ErasedDisk, words: &str, standard: Option<&str>, verified: String) {
    disk.erased = true;
    words.clone_into(&mut disk.method);
    disk.standard = standard.map(str::to_owned);
    disk.verified = Some(verified);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop")]
    use model::{cleaning::WipeMethod, secret::Sealed};

    use super::{
        super::fake::{Sata, quiet},
        *,
    };

    fn device(folder: &tempfile::TempDir) -> Device {
        let path = folder.path().join("sda");
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        Device::open("sda", &path).unwrap()
    }

    const SSD: Spot = Spot { bus: Bus::Ata, place: Place::Here, rotates: false };

    /// The fake says that it is erased, and the file shows that it is not: the next way is gone, down to overwriting.
    #[test]
    fn a_disk_that_lies_is_found_out_and_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (device, fake) = (device(&folder), Sata::new());
        let mut disk = ErasedDisk::default();
        by_plan(&device, &fake, SSD, true, &CleanPlan::default(), &mut disk, &quiet).unwrap();
        assert_eq!((disk.method.as_str(), disk.standard.as_deref()), ("overwritten with zeros", Some("clear")));
        assert!(disk.tried.iter().any(|t| t.contains("still there")), "{:?}", disk.tried);
        assert!(std::fs::read(&device.path).unwrap().iter().all(|b| *b == 0));
    }

    #[test]
    fn only_the_methods_of_the_plan_are_tried() {
        let folder = tempfile::tempdir().unwrap();
        let (device, fake) = (device(&folder), Sata::new());
        fake.freeze();
        let plan = CleanPlan { method: WipeMethod::NvmeFormat, ..CleanPlan::default() };
        let mut disk = ErasedDisk::default();
        let why = by_plan(&device, &fake, SSD, true, &plan, &mut disk, &quiet).unwrap_err().to_string();
        assert!(why.contains("no nvme format") && why.contains("choose another method"), "{why}");
        assert!(!disk.erased);
        let plan = CleanPlan { fallbacks: vec![WipeMethod::Overwrite], ..plan };
        by_plan(&device, &fake, SSD, true, &plan, &mut disk, &quiet).unwrap();
        assert!(disk.erased && disk.tried[0].contains("no nvme format"));
    }

    #[test]
    fn an_honest_disk_is_erased_by_its_best_way() {
        let folder = tempfile::tempdir().unwrap();
        let (device, fake) = (device(&folder), Sata::new());
        fake.on(&device.path);
        let mut disk = ErasedDisk::default();
        by_plan(&device, &fake, SSD, true, &CleanPlan::default(), &mut disk, &quiet).unwrap();
        assert_eq!((disk.method.as_str(), disk.standard.as_deref()), ("ATA sanitize, crypto scramble", Some("purge")));
        let verified = disk.verified.unwrap();
        assert!(verified.contains("256 places") && verified.contains("0 of them are zero"), "{verified}");
        assert_eq!(disk.tried, Vec::<String>::new());
    }

    #[test]
    fn power_lost_in_the_middle_is_told_in_the_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let (device, fake) = (device(&folder), Sata::new());
        let plan = CleanPlan { method: WipeMethod::SecureErase, ..CleanPlan::default() };
        fake.on(&device.path);
        fake.lose_power_in_erasure();
        fake.begin_sanitize(0);
        fake.fail_at(1);
        let mut disk = ErasedDisk::default();
        assert!(by_plan(&device, &fake, SSD, true, &plan, &mut disk, &quiet).is_err());
        fake.heal();
        fake.power_cycle();
        assert!(fake.password().is_some());
        let mut disk = ErasedDisk::default();
        by_plan(&device, &fake, SSD, true, &plan, &mut disk, &quiet).unwrap();
        assert!(disk.erased && disk.tried[0].contains("lost its power") && fake.password().is_none(), "{disk:?}");
    }

    #[test]
    fn words_from_labels_open_locked_disks() {
        let folder = tempfile::tempdir().unwrap();
        let (device, fake) = (device(&folder), Sata::new());
        fake.on(&device.path);
        fake.opal();
        fake.lock("of the last tenant");
        let plan = CleanPlan { method: WipeMethod::CryptoErase, ..CleanPlan::default() };
        let mut disk = ErasedDisk { serial: Some("S1".into()), ..ErasedDisk::default() };
        let why = by_plan(&device, &fake, SSD, true, &plan, &mut disk, &quiet).unwrap_err().to_string();
        assert!(why.contains("TCG Opal") && why.contains("PSID"), "{why}");
        let psids = [("s1".to_owned(), Sealed("RIGHT".into()))].into();
        by_plan(&device, &fake, SSD, true, &CleanPlan { psids, ..plan }, &mut disk, &quiet).unwrap();
        assert_eq!((disk.method.as_str(), disk.erased), ("TCG revert by the PSID", true));
    }

    /// On a disk of this machine, by hand: `AGENT_TEST_DISK=nvme0n1 agent-… --ignored --nocapture on_a_disk`. ERASES IT.
    #[test]
    #[ignore = "erases the disk that AGENT_TEST_DISK names"]
    fn on_a_disk_of_this_machine() {
        let name = std::env::var("AGENT_TEST_DISK").unwrap();
        let device = Device::open(&name, &Path::new("/dev").join(&name)).unwrap();
        let spot = place::of(Path::new("/"), &name);
        println!("{name}: {spot:?}, {} MiB", device.size >> 20);
        if spot.bus == Bus::Nvme {
            let real = Real::new(&device);
            println!("controller: {:?}", nvme::controller(&real));
            println!("sanitize log: {:?}", nvme::status(&real));
            println!("self-encrypting: {:?}", tcg::discover(&real, true));
        } else {
            println!("ATA: {:?}", ata::identify(&Real::new(&device)));
            println!("self-encrypting: {:?}", tcg::discover(&Real::new(&device), false));
        }
        let old: Vec<u8> = (0..1 << 20).map(|n: u32| (n / 3) as u8 ^ 0x55).collect();
        for method in WipeMethod::ALL {
            for at in (0..device.size >> 20).step_by(7) {
                device.write(at << 20, &old).unwrap();
            }
            device.sync().unwrap();
            let plan = CleanPlan { method: *method, ..CleanPlan::default() };
            let mut disk = ErasedDisk { name: name.clone(), ..ErasedDisk::default() };
            let outcome = by_plan(&device, &Real::new(&device), spot, true, &plan, &mut disk, &quiet);
            println!("{}: {}", method.as_str(), serde_json::to_string(&disk).unwrap());
            let left = device.first_nonzero(0, device.size).unwrap();
            println!("  first byte that is not zero: {left:?}");
            assert_eq!(outcome.is_ok(), disk.erased);
            assert!(*method != WipeMethod::Auto || disk.erased, "by one way or another it is erased");
        }
    }

    fn bench<'a>(root: &'a Path, found: &'a [Disk], plan: &'a CleanPlan) -> Bench<'a> {
        Bench { root, found, plan }
    }

    #[test]
    fn disks_that_are_not_on_the_list_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let device = device(&folder);
        let found = [Disk { name: "sda".into(), serial: Some("S1".into()), media: "ssd".into(), ..Disk::default() }];
        let known = |serial: &str| KnownDisk { name: "x".into(), serial: Some(serial.into()), size_gb: 1, seen: true };
        let verdict = |plan: &CleanPlan, found: &[Disk]| bench(folder.path(), found, plan).look(&device).2;
        let listed = CleanPlan { disks: vec![known("s1 ")], ..CleanPlan::default() };
        assert!(matches!(verdict(&listed, &found), Verdict::Erase));
        assert!(matches!(verdict(&CleanPlan::default(), &found), Verdict::Erase), "nobody knows its disks");
        let other = CleanPlan { disks: vec![known("S2")], ..CleanPlan::default() };
        let Verdict::Refuse(why) = verdict(&other, &found) else { unreachable!("it is not on the list") };
        assert!(why.contains("S1") && why.contains("not touched"), "{why}");
        let kept = CleanPlan { keep: vec!["S1".into()], ..other.clone() };
        assert!(matches!(verdict(&kept, &found), Verdict::Leave(_)));
        // Without a serial number its name and size count.
        let unnamed = [Disk { serial: None, ..found[0].clone() }];
        let mut by_name =
            CleanPlan { disks: vec![KnownDisk { name: "sda".into(), ..KnownDisk::default() }], ..CleanPlan::default() };
        assert!(matches!(verdict(&by_name, &unnamed), Verdict::Erase));
        by_name.disks[0].size_gb = 960;
        assert!(matches!(verdict(&by_name, &unnamed), Verdict::Refuse(_)));
        // One that was seen and is gone.
        assert_eq!(bench(folder.path(), &found, &other).missing().len(), 1);
        assert_eq!(bench(folder.path(), &found, &listed).missing().len(), 0);
        let excused = CleanPlan { keep: vec!["S2".into()], ..other.clone() };
        assert_eq!(bench(folder.path(), &found, &excused).missing().len(), 0);
        assert_eq!(bench(folder.path(), &found, &CleanPlan { volumes: true, ..other }).missing().len(), 0);
    }
}
