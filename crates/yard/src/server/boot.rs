//! The boot sequence: self test, boot sources in order, and what follows from them.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::sleep;

use super::{
    Server, Stage, State, agent,
    dhcp::{self, Lease, Persona},
    installer,
    ipxe::{Interpreter, Machine, Outcome},
    net::{Port, without_tokens},
    os, power, san, tftp,
};
use crate::{
    config::BootMode,
    fault::{Action, Face},
    iscsi::initiator::Volume,
    topology::{ServerSpec, mac_text},
    world::World,
};

/// Rounds through all boot sources before the firmware gives up.
const ROUNDS: u32 = 3;
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// One period of power: what its tasks may still change.
#[derive(Clone)]
pub struct Run {
    /// The datacenter.
    pub world: Arc<World>,
    /// The server.
    pub server: Arc<Server>,
    /// Its period of power.
    pub generation: u64,
}

/// What follows from a successful boot.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The system on the first disk.
    Os,
    /// The system on a volume.
    Volume(Box<Volume>, usize),
    /// Restart.
    Reboot,
    /// Switch off.
    PowerOff,
    /// Stay as it is.
    Stop(String),
}

/// A boot option of the firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootOption {
    /// `Boot0001`.
    pub reference: String,
    /// For people.
    pub name: String,
    /// UEFI device path.
    pub path: String,
    /// What it boots.
    pub source: Source,
}

/// Where a system comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// First disk.
    Disk,
    /// Network port.
    Nic(usize, BootMode),
    /// Virtual CD.
    Cd,
    /// Setup menu.
    Setup,
}

/// Boot options: the disk, then the network ports.
pub fn options(spec: &ServerSpec) -> Vec<BootOption> {
    let disk = spec.model.disks.first().map_or("disk", |disk| disk.model);
    let mut options = vec![BootOption {
        reference: "Boot0000".into(),
        name: format!("Hard drive: {disk}"),
        path: "PciRoot(0x0)/Pci(0x1,0x0)/NVMe(0x1)/HD(1,GPT)/\\EFI\\BOOT\\BOOTX64.EFI".into(),
        source: Source::Disk,
    }];
    for (index, nic) in spec.nics.iter().enumerate() {
        let kind = match spec.boot_mode {
            BootMode::PxeUefi => "PXE IPv4",
            BootMode::HttpUefi => "HTTP IPv4",
            BootMode::BiosPxe => "Legacy PXE",
        };
        let tail = if spec.boot_mode == BootMode::HttpUefi { "/Uri()" } else { "" };
        options.push(BootOption {
            reference: format!("Boot{:04}", index + 1),
            name: format!("{kind}: {} {}", spec.model.nic_ids[index.min(1)], mac_text(&nic.mac)),
            path: format!("PciRoot(0x1)/Pci(0x0,0x{index})/MAC({},0x1)/IPv4(0.0.0.0){tail}", hex::encode(nic.mac)),
            source: Source::Nic(index, spec.boot_mode),
        });
    }
    options
}

impl Run {
    /// Changes the state, unless the power has changed since.
    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> Option<T> {
        self.server.with(|state| (state.generation == self.generation).then(|| change(state)))
    }

    /// A line on the console.
    pub fn console(&self, line: impl Into<String>) {
        self.with(|state| state.console(line));
    }

    /// Another stage, with a line on the console.
    pub fn enter(&self, stage: Stage, line: impl Into<String>) {
        let line = line.into();
        self.world.events.push(&self.server.spec.serial, "boot", line.clone());
        self.with(|state| {
            state.enter(stage);
            state.console(line);
        });
    }

    /// A network port.
    pub fn port(&self, index: usize) -> Port {
        Port::new(self.world.clone(), self.server.clone(), index)
    }
}

/// From power-on to rest: an operating system, a person's attention, or off.
pub async fn sequence(run: &Run) {
    loop {
        run.enter(Stage::Post, "firmware self test");
        run.with(|state| {
            state.boots += 1;
            crate::bmc::update::self_test(state);
        });
        run.world.events.count("boots");
        sleep(Duration::from_secs_f64(run.world.config.post_seconds)).await;
        match boot(run).await {
            Next::Os => return os::boot(run, None).await,
            Next::Volume(volume, nic) => return os::boot(run, Some((*volume, run.port(nic)))).await,
            Next::Reboot => run.console("restarting"),
            Next::PowerOff => {
                if run.with(|_| ()).is_some() {
                    power::off(&run.world, &run.server, "switched off by software");
                }
                return;
            }
            Next::Stop(why) => {
                let stage = run.with(|state| state.stage);
                if stage != Some(Stage::NoBootDevice) {
                    run.enter(Stage::Stopped, why);
                }
                return;
            }
        }
    }
}

/// Tries the boot override, then the boot order, in rounds with growing pauses.
async fn boot(run: &Run) -> Next {
    let spec = &run.server.spec;
    let ignored = run
        .world
        .strike_server(&run.server, Face::Redfish, "BOOT")
        .iter()
        .any(|action| matches!(action, Action::IgnoreBootOverride));
    let (first, http_uri, order) = run
        .with(|state| {
            let boot = state.kept.boot.clone();
            if boot.enabled == "Once" {
                "Disabled".clone_into(&mut state.kept.boot.enabled);
                "None".clone_into(&mut state.kept.boot.target);
                state.kept.boot.http_uri = None;
            }
            let active = boot.enabled != "Disabled" && !ignored;
            let first = if active { override_sources(spec, &boot) } else { Vec::new() };
            (first, boot.http_uri.filter(|_| active), state.kept.boot_order.clone())
        })
        .unwrap_or_default();
    run.world.changed();
    let all = options(spec);
    let order: Vec<Source> = order
        .iter()
        .filter_map(|reference| all.iter().find(|option| option.reference == *reference).map(|option| option.source))
        .collect();
    let mut pause = Duration::from_secs_f64(run.world.config.boot_retry_seconds);
    for round in 0..ROUNDS {
        let overridden = first.iter().filter(|_| round == 0).map(|source| (*source, http_uri.as_deref()));
        for (source, uri) in overridden.chain(order.iter().map(|source| (*source, None))) {
            match attempt(run, source, uri).await {
                Ok(next) => return next,
                Err(why) => run.console(why),
            }
        }
        if round + 1 < ROUNDS {
            run.console(format!("nothing could be booted; again in {:.1} s", pause.as_secs_f64()));
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }
    run.enter(Stage::NoBootDevice, "No boot device available");
    run.with(|state| state.sel("Warning", "No bootable device found"));
    Next::Stop("no boot device".into())
}

fn override_sources(spec: &ServerSpec, boot: &super::BootOverride) -> Vec<Source> {
    let nics = |mode| (0..spec.nics.len()).map(|index| Source::Nic(index, mode)).collect();
    match boot.target.as_str() {
        "Pxe" => nics(spec.boot_mode),
        "UefiHttp" => nics(BootMode::HttpUefi),
        "Hdd" => vec![Source::Disk],
        "Cd" => vec![Source::Cd],
        "BiosSetup" => vec![Source::Setup],
        "UefiBootNext" => options(spec)
            .into_iter()
            .filter(|option| boot.boot_next.as_ref() == Some(&option.reference))
            .map(|option| option.source)
            .collect(),
        _ => Vec::new(),
    }
}

async fn attempt(run: &Run, source: Source, uri: Option<&str>) -> Result<Next, String> {
    match source {
        Source::Disk => match run.with(|state| state.bootable()) {
            Some(true) => Ok(Next::Os),
            _ => Err("Hard drive: no bootable system".into()),
        },
        Source::Setup => Ok(Next::Stop("waiting in the setup menu".into())),
        Source::Cd => cd(run).await,
        Source::Nic(index, mode) => network(run, index, mode, uri).await,
    }
}

/// Largest medium that is read in full, to find what is on it.
const MEDIUM: usize = 64 << 20;

/// Virtual CD: the image is fetched over the BMC's own network. iPXE scripts run; an installation medium is followed; other images only start.
async fn cd(run: &Run) -> Result<Next, String> {
    let image = run.with(|state| state.kept.bmc.inserted_image()).flatten();
    let Some(image) = image else { return Err("Virtual CD: no medium".into()) };
    run.console("booting from the virtual CD");
    let answer = tokio::time::timeout(Duration::from_secs(30), run.world.http.get(&image).send()).await;
    match answer {
        Ok(Ok(mut answer)) if answer.status().is_success() => {
            let head = answer.chunk().await.ok().flatten().unwrap_or_default();
            if head.starts_with(b"#!ipxe") {
                return script(run, 0, run.server.spec.boot_mode, &head, &image, BTreeMap::new()).await;
            }
            let mut whole = head.to_vec();
            while let Ok(Some(chunk)) = answer.chunk().await {
                whole.extend_from_slice(&chunk);
                if whole.len() > MEDIUM {
                    break;
                }
            }
            if whole.get(0x8001..0x8006) == Some(b"CD001") {
                Ok(installer::medium(run, &run.port(0), &whole).await)
            } else {
                Ok(Next::Stop("the image on the virtual CD has started".into()))
            }
        }
        Ok(Ok(answer)) => Err(format!("Virtual CD: status {}", answer.status().as_u16())),
        Ok(Err(error)) => Err(format!("Virtual CD: {}", error.without_url())),
        Err(_) => Err("Virtual CD: timed out".into()),
    }
}

/// Firmware stage, then iPXE stage, on one network port.
async fn network(run: &Run, index: usize, mode: BootMode, uri: Option<&str>) -> Result<Next, String> {
    let port = run.port(index);
    let name = run.server.spec.model.nic_ids[index.min(1)];
    run.enter(
        Stage::NetworkBoot,
        format!("{name}: start {}", if mode == BootMode::HttpUefi { "HTTP boot" } else { "PXE" }),
    );
    if !crate::dataplane::link_up(&run.world, &run.server, index) {
        return Err(format!("{name}: no link"));
    }
    let lease = dhcp::acquire(&port, Persona::Firmware(mode)).await.map_err(|error| format!("{name}: {error}"))?;
    let file = uri.map(str::to_owned).or(lease.boot_file.clone()).ok_or("no boot file")?;
    run.console(format!("{name}: {}/{}, boot file {}", lease.address, lease.prefix, without_tokens(&file)));
    if mode == BootMode::HttpUefi && !file.starts_with("http://") && !file.starts_with("https://") {
        return Err(format!("{name}: HTTP boot needs a URL as boot file, got {file}"));
    }
    let program = load(&port, &lease, &file).await?;
    run.console(format!("{name}: {} bytes loaded", program.len()));
    if program.is_empty() {
        return Err(format!("{name}: boot file is empty"));
    }
    if program.starts_with(b"#!ipxe") {
        return script(run, index, mode, &program, &file, BTreeMap::new()).await;
    }
    let base = file.rsplit('/').next().unwrap_or_default().to_lowercase();
    if !["ipxe", "undionly", "snponly"].iter().any(|known| base.contains(known)) {
        return Ok(Next::Stop(format!("boot program {base} has started; it is none that this machine knows")));
    }
    run.enter(Stage::Ipxe, "iPXE 1.21.1 -- Open Source Network Boot Firmware");
    let lease = dhcp::acquire(&port, Persona::Ipxe(mode)).await.map_err(|error| format!("iPXE {name}: {error}"))?;
    let file = lease.boot_file.clone().ok_or("iPXE: no boot file")?;
    run.console(format!("net0: {}/{}, file name {}", lease.address, lease.prefix, without_tokens(&file)));
    let text = load(&port, &lease, &file).await?;
    if !text.starts_with(b"#!ipxe") {
        return Err(format!(
            "iPXE: {} is no script; a boot server that gives iPXE to iPXE makes it load itself for ever",
            without_tokens(&file)
        ));
    }
    script(run, index, mode, &text, &absolute(&lease, &file), settings(&lease)).await
}

/// URL of a boot file.
fn absolute(lease: &Lease, file: &str) -> String {
    if file.contains("://") {
        file.to_owned()
    } else {
        format!("tftp://{}/{}", lease.next_server, file.trim_start_matches('/'))
    }
}

fn settings(lease: &Lease) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::from([
        ("net0/ip".to_owned(), lease.address.to_string()),
        ("next-server".to_owned(), lease.next_server.to_string()),
    ]);
    if let Some(router) = lease.router {
        settings.insert("net0/gateway".into(), router.to_string());
    }
    if let Some(hostname) = &lease.hostname {
        settings.insert("hostname".into(), hostname.clone());
    }
    if let Some(file) = &lease.boot_file {
        settings.insert("filename".into(), file.clone());
    }
    settings
}

async fn load(port: &Port, lease: &Lease, file: &str) -> Result<Bytes, String> {
    let url = absolute(lease, file);
    load_url(port, &url).await
}

async fn load_url(port: &Port, url: &str) -> Result<Bytes, String> {
    let Some(rest) = url.strip_prefix("tftp://") else { return port.fetch(Face::Http, url).await };
    let (host, path) = rest.split_once('/').ok_or_else(|| format!("{url}: no path"))?;
    let host = host.split(':').next().unwrap_or(host);
    let server: Ipv4Addr = host.parse().map_err(|_| format!("{url}: firmware resolves no names"))?;
    tftp::read(port, server, path).await.map(Bytes::from)
}

/// The machine under iPXE.
struct Under<'a> {
    run: &'a Run,
    port: Port,
    mode: BootMode,
}

impl Machine for Under<'_> {
    async fn fetch(&self, url: &str) -> Result<Bytes, String> {
        load_url(&self.port, url).await
    }

    async fn dhcp(&self) -> Result<BTreeMap<String, String>, String> {
        dhcp::acquire(&self.port, Persona::Ipxe(self.mode)).await.map(|lease| settings(&lease))
    }

    fn disk_bootable(&self) -> bool {
        self.run.with(|state| state.bootable()).unwrap_or(false)
    }

    async fn attach(&self, volume: &Volume) -> Result<bool, String> {
        san::load(&self.port, volume).await.map(|disk| disk.is_some_and(|d| d.bootable))
    }

    fn console(&self, line: String) {
        self.run.console(line);
    }
}

async fn script(
    run: &Run,
    index: usize,
    mode: BootMode,
    text: &[u8],
    url: &str,
    mut settings: BTreeMap<String, String>,
) -> Result<Next, String> {
    let spec = &run.server.spec;
    let port = run.port(index);
    for (name, value) in [
        ("net0/mac", mac_text(&port.mac())),
        ("uuid", spec.uuid.to_string()),
        ("serial", spec.serial.clone()),
        ("manufacturer", spec.model.vendor.manufacturer().to_owned()),
        ("product", spec.model.name.to_owned()),
        ("buildarch", if mode == BootMode::BiosPxe { "i386" } else { "x86_64" }.to_owned()),
        ("platform", if mode == BootMode::BiosPxe { "pcbios" } else { "efi" }.to_owned()),
        ("version", "1.21.1".to_owned()),
    ] {
        settings.insert(name.to_owned(), value);
    }
    let under = Under { run, port: port.clone(), mode };
    match Interpreter::new(&under, settings).run(text, url).await {
        Outcome::Kernel { url, arguments, initrds } => {
            run.console(format!("starting {} with {} initial RAM disk(s)", without_tokens(&url), initrds.len()));
            if installer::is_meant(&arguments) {
                Ok(installer::network(run, &port, &arguments).await)
            } else {
                Ok(agent::run(run, &port, &arguments).await)
            }
        }
        Outcome::Disk => Ok(Next::Os),
        Outcome::Volume(volume) => {
            run.console(format!("booting from the volume {}", volume.target));
            Ok(Next::Volume(volume, index))
        }
        Outcome::Exit => Err("iPXE: back to the firmware".into()),
        Outcome::Reboot => Ok(Next::Reboot),
        Outcome::PowerOff => Ok(Next::PowerOff),
        Outcome::Failed(why) => Err(format!("iPXE: {why}")),
    }
}
