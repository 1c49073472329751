//! The program in the installer's RAM disk: asks for its task, does the steps, reports.

use std::{sync::Mutex, time::Duration};

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::{
    Disk, Stage,
    boot::{Next, Run},
    net::{Download, Port},
    san,
};
use crate::{
    dataplane,
    fault::{Action, Face},
    iscsi::initiator,
    lock,
    topology::mac_text,
};

/// Name of the disk that an attached volume is.
const VOLUME: &str = "volume";

const TRIES: u32 = 8;
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// How long an installer waits for work before it gives up.
const MAX_WAIT: Duration = Duration::from_hours(24);

#[derive(Deserialize)]
struct Task {
    #[serde(rename = "task")]
    kind: String,
    #[serde(default)]
    steps: Vec<Value>,
    #[serde(default)]
    retry_after: Option<f64>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Step {
    Inventory,
    Wipe {
        #[serde(default)]
        disks: String,
        #[serde(default)]
        plan: Value,
    },
    Attach {
        volume: Volume,
    },
    WriteImage {
        url: String,
        sha256: String,
        #[serde(default)]
        size: Option<u64>,
        #[serde(default)]
        disk: String,
    },
    Seed {
        url: String,
        #[serde(default)]
        disk: Option<String>,
    },
    Bootloader,
    Finish,
}

/// A volume as a task names it.
#[derive(Deserialize)]
struct Volume {
    initiator: String,
    target: String,
    lun: u32,
    portals: Vec<(String, u16)>,
    #[serde(default)]
    chap: Option<(String, String)>,
}

/// A volume that was attached, and what is on it.
#[derive(Default)]
struct Attached {
    volume: Option<initiator::Volume>,
    disk: Option<Disk>,
    /// The steps go on on it.
    chosen: bool,
}

/// Why the agent stops.
enum Trouble {
    /// The token is not valid any more.
    Dead,
    /// Anything else, in words.
    Failed(String),
}

impl From<String> for Trouble {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

struct Agent<'a> {
    run: &'a Run,
    port: Port,
    site: String,
    token: String,
    attached: Mutex<Attached>,
}

/// Value of `name=` on a kernel command line.
fn argument<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// Runs the agent that a kernel command line describes.
pub async fn run(run: &Run, port: &Port, line: &str) -> Next {
    let (Some(site), Some(token)) = (argument(line, "steelyard.url"), argument(line, "steelyard.token")) else {
        return Next::Stop("a kernel without steelyard.url and steelyard.token has started; nothing to do".into());
    };
    if let Some(mac) = argument(line, "steelyard.mac")
        && mac.replace('-', ":").to_lowercase() != mac_text(&port.mac())
    {
        run.console(format!("warning: steelyard.mac={mac} is not the port that was booted from"));
    }
    run.enter(Stage::Agent, "installer starts");
    sleep(Duration::from_secs_f64(run.world.config.os_boot_seconds)).await;
    let port = match argument(line, "steelyard.pin") {
        None => port.clone(),
        Some(pin) => match super::secure::client(pin) {
            Ok(client) => port.secured(client),
            Err(error) => return Next::Stop(format!("installer: no TLS: {error}")),
        },
    };
    let agent = Agent {
        run,
        port,
        site: site.trim_end_matches('/').to_owned(),
        token: token.to_owned(),
        attached: Mutex::default(),
    };
    match agent.work().await {
        Ok(next) => next,
        Err(Trouble::Dead) => Next::Stop("installer: the site refuses the token; the boot session has ended".into()),
        Err(Trouble::Failed(error)) => Next::Stop(format!("installer: {error}")),
    }
}

impl Agent<'_> {
    /// A request with retries: connection errors and 5xx are tried again, other answers are final.
    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Trouble> {
        let url = format!("{}{path}", self.site);
        let mut pause = Duration::from_millis(250);
        let mut last = String::new();
        for _ in 0..TRIES {
            let body = body.as_ref().map(|body| ("application/json", body.to_string()));
            match self.port.request(Face::Agent, method.clone(), &url, Some(&self.token), body).await {
                Ok(answer) if answer.status == 401 => return Err(Trouble::Dead),
                Ok(answer) if answer.status >= 500 => last = format!("{method} {path}: status {}", answer.status),
                Ok(answer) if answer.status >= 300 => {
                    return Err(Trouble::Failed(format!("{method} {path}: status {}", answer.status)));
                }
                Ok(answer) if answer.body.is_empty() => return Ok(Value::Null),
                Ok(answer) => match serde_json::from_slice(&answer.body) {
                    Ok(value) => return Ok(value),
                    Err(error) => last = format!("{method} {path}: {error}"),
                },
                Err(error) => last = error,
            }
            self.run.console(format!("{last}; trying again"));
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
        Err(Trouble::Failed(last))
    }

    async fn work(&self) -> Result<Next, Trouble> {
        let deadline = Instant::now() + MAX_WAIT;
        loop {
            let answer = self.call(Method::GET, "/agent/v1/task", None).await?;
            let task: Task =
                serde_json::from_value(answer).map_err(|error| format!("task is not as agreed: {error}"))?;
            if task.kind == "wait" {
                if Instant::now() > deadline {
                    return Err(Trouble::Failed("no work for a day".into()));
                }
                let seconds = task.retry_after.unwrap_or(5.0).clamp(0.2, 300.0);
                sleep(Duration::from_secs_f64(seconds)).await;
                continue;
            }
            self.run.world.events.push(&self.run.server.spec.serial, "boot", format!("task {}", task.kind));
            self.run.console(format!("task {}: {} steps", task.kind, task.steps.len()));
            let mut erased = Vec::new();
            let result = self.steps(&task, &mut erased).await;
            let (ok, error) = match result {
                Ok(()) => (true, Value::Null),
                Err(Trouble::Dead) => return Err(Trouble::Dead),
                Err(Trouble::Failed(error)) => {
                    self.run.console(format!("failed: {error}"));
                    (false, Value::from(error))
                }
            };
            let answer = self
                .call(Method::POST, "/agent/v1/done", Some(json!({"ok": ok, "error": error, "erased": erased})))
                .await?;
            return Ok(match answer.get("next").and_then(Value::as_str) {
                Some("power_off") => Next::PowerOff,
                Some("reboot") => Next::Reboot,
                other => Next::Stop(format!("installer: done, and told to {}", other.unwrap_or("do nothing"))),
            });
        }
    }

    async fn progress(&self, step: usize, percent: u64, message: &str) -> Result<(), Trouble> {
        let body = json!({"step": step, "percent": percent, "message": message});
        self.call(Method::POST, "/agent/v1/progress", Some(body)).await.map(|_| ())
    }

    async fn steps(&self, task: &Task, erased: &mut Vec<Value>) -> Result<(), Trouble> {
        let steps = &task.steps;
        for (index, value) in steps.iter().enumerate() {
            let kind = value.get("kind").and_then(Value::as_str).unwrap_or("?").to_owned();
            let step: Step =
                serde_json::from_value(value.clone()).map_err(|error| format!("step {kind} is not known: {error}"))?;
            self.run.console(format!("step {}/{}: {kind}", index + 1, steps.len()));
            for action in self.port.strike(Face::Agent, &format!("STEP {kind}")) {
                match action {
                    Action::Delay { ms } => sleep(Duration::from_millis(ms)).await,
                    Action::Hang | Action::Drop => sleep(MAX_WAIT).await,
                    Action::Error { message, .. } => {
                        let message = message.unwrap_or_else(|| "input/output error".into());
                        return Err(Trouble::Failed(format!("step {kind}: {message}")));
                    }
                    _ => {}
                }
            }
            self.progress(index + 1, 0, &kind).await?;
            match step {
                Step::Inventory => {
                    let inventory = inventory(self.run);
                    self.call(Method::POST, "/agent/v1/inventory", Some(inventory)).await?;
                }
                Step::Attach { volume } => self.attach(&volume).await?,
                Step::Wipe { disks, .. } if disks == VOLUME => {
                    lock(&self.attached).disk = None;
                    self.keep().await?;
                }
                Step::Wipe { plan, .. } => {
                    self.run.with(|state| state.kept.disk = None);
                    if task.kind == "clean" {
                        erased.extend(self.erased(&plan));
                        let left = erased.iter().find_map(|d| d.get("error").and_then(Value::as_str));
                        if let Some(why) = left {
                            return Err(Trouble::Failed(why.to_owned()));
                        }
                    }
                }
                Step::WriteImage { url, sha256, size, disk } => {
                    lock(&self.attached).chosen = disk == VOLUME;
                    self.write_image(index + 1, &url, &sha256, size).await?;
                }
                Step::Seed { url, disk } => {
                    if disk.as_deref() == Some(VOLUME) {
                        lock(&self.attached).chosen = true;
                    }
                    self.seed(&url).await?;
                }
                Step::Bootloader => self.on_disk(|disk| disk.bootable = true)?,
                Step::Finish => {
                    let _ = self.on_disk(|disk| {
                        disk.installed.get_or_insert_with(crate::events::now);
                    });
                    if lock(&self.attached).chosen {
                        self.keep().await?;
                    }
                }
            }
            self.run.world.changed();
            self.progress(index + 1, 100, &kind).await?;
        }
        Ok(())
    }

    /// What the installer tells of each disk after cleaning.
    fn erased(&self, plan: &Value) -> Vec<Value> {
        let disks = inventory(self.run).get("disks").and_then(Value::as_array).cloned().unwrap_or_default();
        let kept =
            |list: &str, value: &Value| plan.get(list).and_then(Value::as_array).is_some_and(|l| l.contains(value));
        let field = |disk: &Value, name: &str| disk.get(name).cloned().unwrap_or_default();
        disks
            .iter()
            .map(|d| {
                let left = kept("keep", &field(d, "serial")) || kept("keep_media", &field(d, "media"));
                let nvme = d.get("media").and_then(Value::as_str) == Some("nvme");
                let method = match (left, nvme) {
                    (true, _) => "left alone: the cleanup policy says so",
                    (false, true) => "NVMe sanitize, crypto erase",
                    (false, false) => "discarded",
                };
                let size = d.get("size_gb").and_then(Value::as_u64).unwrap_or(0) * 1_000_000_000;
                let volume = field(d, "model") == "RAID LOGICAL VOLUME" && plan.get("volumes") == Some(&json!(true));
                let listed = plan.get("disks").and_then(Value::as_array).is_none_or(|list| {
                    list.is_empty() || list.iter().any(|known| known.get("serial") == d.get("serial"))
                });
                if !left && !listed && !volume {
                    let why = format!("disk {} is not among the disks that are known of this server", field(d, "name"));
                    return json!({"name": field(d, "name"), "serial": field(d, "serial"), "model": field(d, "model"), "size": size,
                        "erased": false, "method": "not touched", "error": why});
                }
                json!({
                    "name": field(d, "name"), "serial": field(d, "serial"), "model": field(d, "model"), "size": size, "erased": !left,
                    "method": method, "verified": (!left).then_some("read back in full, all zero"), "standard": (!left).then_some("purge"), "seconds": 1,
                })
            })
            .collect()
    }

    /// Logs in to the first portal that lets us, and sees what is there.
    async fn attach(&self, wanted: &Volume) -> Result<(), Trouble> {
        let mut why = vec!["no portal".to_owned()];
        for portal in &wanted.portals {
            let volume = initiator::Volume {
                initiator: wanted.initiator.clone(),
                target: wanted.target.clone(),
                lun: wanted.lun,
                portal: portal.clone(),
                chap: wanted.chap.clone(),
            };
            match san::size(&self.port, &volume).await {
                Ok(size) => {
                    self.run.console(format!("{}: a volume of {} MiB", volume.target, size >> 20));
                    let disk = san::load(&self.port, &volume).await?;
                    *lock(&self.attached) = Attached { volume: Some(volume), disk, chosen: false };
                    return Ok(());
                }
                Err(error) => why.push(error),
            }
        }
        Err(Trouble::Failed(format!("no way to the volume {}: {}", wanted.target, why.join("; "))))
    }

    /// Writes what the volume holds.
    async fn keep(&self) -> Result<(), Trouble> {
        let (volume, disk) = {
            let attached = lock(&self.attached);
            (attached.volume.clone(), attached.disk.clone())
        };
        let volume = volume.ok_or_else(|| Trouble::Failed("no volume is attached".into()))?;
        Ok(san::store(&self.port, &volume, disk.as_ref()).await?)
    }

    /// Puts something else on the disk that is worked on.
    fn replace_disk(&self, disk: Option<Disk>) {
        let mut attached = lock(&self.attached);
        if attached.chosen {
            attached.disk = disk;
        } else {
            drop(attached);
            self.run.with(|state| state.kept.disk = disk);
        }
    }

    fn on_disk(&self, change: impl FnOnce(&mut Disk)) -> Result<(), Trouble> {
        let mut attached = lock(&self.attached);
        let done = if attached.chosen {
            attached.disk.as_mut().map(change)
        } else {
            self.run.with(|state| state.kept.disk.as_mut().map(change)).flatten()
        };
        drop(attached);
        done.ok_or_else(|| Trouble::Failed("the disk is empty; an image must be written first".into()))
    }

    /// Streams the image to the disk; goes on where a broken connection left off; checks length and digest.
    async fn write_image(&self, step: usize, url: &str, sha256: &str, size: Option<u64>) -> Result<(), Trouble> {
        self.replace_disk(Some(Disk { image: sha256.to_lowercase(), ..Disk::default() }));
        let (mut hasher, mut received, mut reported) = (Sha256::new(), 0_u64, 0_u64);
        let mut pause = Duration::from_millis(250);
        let mut failures = 0;
        loop {
            let before = received;
            let mut first = true;
            let asked = received;
            // The agent reports at most every ten percent, so that a thousand installers do not drown the site.
            let (sender, mut progress) = tokio::sync::mpsc::unbounded_channel();
            let result = {
                let mut sink = |status: u16, chunk: &[u8]| {
                    if std::mem::take(&mut first) && status == 200 && asked > 0 {
                        hasher = Sha256::new();
                        received = 0;
                        reported = 0;
                    }
                    hasher.update(chunk);
                    received += chunk.len() as u64;
                    let percent = size.filter(|size| *size > 0).map_or(0, |size| received.min(size) * 100 / size);
                    if percent >= reported + 10 {
                        reported = percent;
                        let _ = sender.send(percent);
                    }
                    if size.is_some_and(|size| received > size) {
                        return Err(format!("image is longer than the {} bytes announced", size.unwrap_or(0)));
                    }
                    Ok(())
                };
                let mut download = std::pin::pin!(self.port.download(url, None, asked, &mut sink));
                loop {
                    tokio::select! {
                        result = &mut download => break result,
                        Some(percent) = progress.recv() => {
                            let _ = self.progress(step, percent, "writing image").await;
                        }
                    }
                }
            };
            let why = match result? {
                Download::Complete if size.is_none_or(|size| size == received) => break,
                Download::Complete => format!("image ends after {received} of {} bytes", size.unwrap_or(0)),
                Download::Status(416) if size == Some(received) => break,
                Download::Status(401) => return Err(Trouble::Dead),
                Download::Status(status) if status < 500 => {
                    return Err(Trouble::Failed(format!("image: status {status}")));
                }
                Download::Status(status) => format!("image: status {status}"),
                Download::Broken(why) => why,
            };
            failures = if received > before { 1 } else { failures + 1 };
            if failures > TRIES {
                return Err(Trouble::Failed(why));
            }
            self.run.console(format!("{why}; going on from byte {received}"));
            self.run.world.events.count("image_resumes");
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
        let digest = hex::encode(hasher.finalize());
        if !digest.eq_ignore_ascii_case(sha256) {
            self.replace_disk(None);
            return Err(Trouble::Failed(format!("image digest is {digest}, expected {sha256}")));
        }
        self.on_disk(|disk| disk.size = received)
    }

    async fn seed(&self, url: &str) -> Result<(), Trouble> {
        let base = if url.ends_with('/') { url.to_owned() } else { format!("{url}/") };
        let mut texts = Vec::new();
        for file in ["user-data", "meta-data", "network-config"] {
            let mut pause = Duration::from_millis(250);
            let mut failures = 0;
            let text = loop {
                match self.port.fetch(Face::Http, &format!("{base}{file}")).await {
                    Ok(bytes) => break String::from_utf8_lossy(&bytes).into_owned(),
                    Err(error) if failures >= 4 => {
                        return Err(Trouble::Failed(format!("seed {file}: {}", super::net::without_tokens(&error))));
                    }
                    Err(_) => failures += 1,
                }
                sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            };
            texts.push(text);
        }
        let [user_data, meta_data, network_config] = texts.try_into().unwrap_or_default();
        let hostname = super::os::hostname(&user_data, &meta_data).unwrap_or_else(|| "localhost".into());
        self.on_disk(|disk| {
            *disk = Disk { user_data, meta_data, network_config, hostname, phoned_home: false, ..disk.clone() };
        })
    }
}

/// What the installer sees of the machine, with the LLDP neighbours of its ports.
pub fn inventory(run: &Run) -> Value {
    let spec = &run.server.spec;
    let model = spec.model;
    let disks = run.with(|state| crate::bmc::raid::seen(spec, &state.kept.bmc)).unwrap_or_default();
    let nics: Vec<Value> = spec
        .nics
        .iter()
        .enumerate()
        .map(|(index, nic)| {
            let up = dataplane::link_up(&run.world, &run.server, index);
            let lldp = up.then(|| {
                let switch = &run.world.switches[nic.switch].spec;
                json!({"chassis": mac_text(&switch.mac), "system_name": switch.hostname, "port": format!("swp{}", nic.port)})
            });
            json!({"name": model.nic_names[index.min(1)], "mac": mac_text(&nic.mac), "speed_mbps": model.nic_mbps,
                "link_up": up, "lldp": lldp})
        })
        .collect();
    // One that has failed does not answer on the bus.
    let off = |n: usize| {
        let failed = run.with(|state| state.kept.bmc.health.get(&format!("gpu-{n}")).is_some_and(|h| h == "Critical"));
        let struck = run.world.strike_server(&run.server, Face::Agent, &format!("GPU {n}"));
        failed == Some(true) || struck.iter().any(|action| matches!(action, Action::Drop))
    };
    let gpus: Vec<Value> = model
        .gpu
        .iter()
        .flat_map(|gpu| (0..gpu.count).filter(|n| !off(n + 1)).map(move |n| {
            json!({"vendor": gpu.vendor, "model": gpu.model, "memory_mib": gpu.memory_mib, "pci": format!("0000:{:02x}:00.0", 0x18 + n * 0x10)})
        }))
        .collect();
    json!({
        "serial": spec.serial, "vendor": model.vendor.manufacturer(), "model": model.name, "uuid": spec.uuid.to_string(),
        "memory_mib": model.memory_mib(),
        "processors": vec![json!({"model": model.cpu, "cores": model.cores, "threads": model.threads, "mhz": model.mhz}); model.sockets],
        "disks": disks, "nics": nics, "gpus": gpus, "tpm": "2.0",
    })
}
