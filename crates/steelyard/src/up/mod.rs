//! `up` and `demo`: everything on one machine. A Global Controller, a Site Controller and a simulated datacenter run as processes of
//! their own and talk only over their real protocols; what is done here, anyone could do over the REST interface.

mod datacenter;
mod processes;
mod sample;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use client::Client;
use serde::{Deserialize, Serialize};

use self::processes::Process;
use crate::cli::watch::{self, DeployOptions};

/// Options of `up`.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Where all data is kept
    #[arg(long, default_value = ".steelyard/up")]
    data_dir: PathBuf,
    /// Number of simulated servers
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    servers: u32,
    /// First of the ports used: web +0, link +1, site HTTP +2, DHCP +3, TFTP +4, yard admin +5, BMCs +6, switches +7
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Duration of a simulated server's self test and boot, in seconds
    #[arg(long, default_value_t = 1.0)]
    boot_seconds: f64,
    /// Faults of the simulated datacenter, by name (`steelyard yard` documents them); may be repeated
    #[arg(long = "fault")]
    faults: Vec<String>,
}

/// Options of `demo`.
#[derive(clap::Args, Clone, Debug)]
pub struct DemoOptions {
    #[command(flatten)]
    options: Options,
    /// Stop after the deploy instead of staying up
    #[arg(long)]
    exit_when_done: bool,
}

/// The first administrator's login, kept beside the data.
#[derive(Serialize, Deserialize)]
struct Login {
    email: String,
    password: String,
}

impl Login {
    fn load_or_create(folder: &Path) -> Result<Self> {
        let path = folder.join("login.json");
        if let Ok(text) = std::fs::read_to_string(&path) {
            return serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()));
        }
        let login = Self { email: "admin@steelyard.local".into(), password: crypto::password::generate() };
        crypto::write_private(&path, serde_json::to_string(&login)?.as_bytes())?;
        Ok(login)
    }
}

/// Ports and folders of one installation.
struct Layout {
    folder: PathBuf,
    port: u16,
}

impl Layout {
    fn port(&self, n: u16) -> u16 {
        self.port.saturating_add(n)
    }
    fn web(&self) -> String {
        format!("http://127.0.0.1:{}", self.port(0))
    }
    fn yard(&self) -> String {
        format!("http://127.0.0.1:{}", self.port(5))
    }

    /// Writes the configuration file of all three parts.
    fn write(&self, options: &Options) -> Result<PathBuf> {
        let path = self.folder.join("steelyard.toml");
        let folder = |name: &str| toml::Value::from(self.folder.join(name).display().to_string());
        let at = |n: u16| toml::Value::from(format!("127.0.0.1:{}", self.port(n)));
        let file = toml::toml! {
            [global]
            [site]
            address = "127.0.0.1"
            [yard]
            spines = 2
        };
        let mut file = file;
        let mut set = |table: &str, key: &str, value: toml::Value| {
            if let Some(table) = file.get_mut(table).and_then(toml::Value::as_table_mut) {
                table.insert(key.to_owned(), value);
            }
        };
        set("global", "listen", at(0));
        set("global", "link_listen", at(1));
        set("global", "data_dir", folder("global"));
        set("site", "global", format!("https://127.0.0.1:{}", self.port(1)).into());
        set("site", "data_dir", folder("site"));
        set("site", "boot_dir", folder("boot"));
        set("site", "http", at(2));
        set("site", "https", at(9));
        set("site", "dhcp", at(3));
        set("site", "tftp", at(4));
        set("yard", "servers", i64::from(options.servers).into());
        set("yard", "admin_listen", at(5));
        set("yard", "dhcp_server", at(3));
        set("yard", "tftp_port", i64::from(self.port(4)).into());
        set("yard", "bmc_port", i64::from(self.port(6)).into());
        set("yard", "nvue_port", i64::from(self.port(7)).into());
        let arrays = ["netapp", "power_store", "pure", "power_scale"];
        set("yard", "arrays", arrays.map(toml::Value::from).to_vec().into());
        set("yard", "array_port", i64::from(self.port(8)).into());
        set("yard", "persist", folder("yard.json"));
        set("yard", "post_seconds", options.boot_seconds.into());
        set("yard", "os_boot_seconds", options.boot_seconds.into());
        // Slow enough to be watched, fast enough not to bore.
        set("yard", "image_mbps", 40i64.into());
        set("yard", "fault_presets", options.faults.clone().into());
        std::fs::write(&path, toml::to_string(&file)?)?;
        Ok(path)
    }

    /// Boot files. Simulated servers load them over the network like real ones, and do not look inside.
    fn boot_files(&self) -> Result<()> {
        let boot = self.folder.join("boot");
        std::fs::create_dir_all(boot.join("agent"))?;
        for (name, real) in [
            ("undionly.kpxe", Some("/usr/lib/ipxe/undionly.kpxe")),
            ("ipxe.efi", Some("/usr/lib/ipxe/ipxe.efi")),
            ("agent/vmlinuz", None),
            ("agent/initrd", None),
        ] {
            let to = boot.join(name);
            match real.map(std::fs::read) {
                Some(Ok(bytes)) => std::fs::write(&to, bytes)?,
                _ if to.exists() => {}
                _ => std::fs::write(&to, format!("placeholder for simulated servers: {name}\n").repeat(2000))?,
            }
        }
        Ok(())
    }
}

/// One line a step, with the time it took.
pub(super) struct Step(Instant, String);

impl Step {
    pub(super) fn new(what: impl Into<String>) -> Self {
        let what = what.into();
        eprintln!("  … {what}");
        Self(Instant::now(), what)
    }
    pub(super) fn done(self, more: impl std::fmt::Display) {
        eprintln!("  ✓ {} {more} ({:.1} s)", self.1, self.0.elapsed().as_secs_f64());
    }
}

/// Waits for `ready`, and says what for when it takes too long.
pub(super) async fn until<F>(what: &str, limit: Duration, mut ready: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    let end = Instant::now() + limit;
    loop {
        let last = match ready().await {
            Ok(true) => return Ok(()),
            Ok(false) => String::new(),
            Err(e) => format!(": {e:#}"),
        };
        if Instant::now() > end {
            bail!("{what}: not within {} s{last}", limit.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// All parts, as long as they run.
struct Parts {
    layout: Layout,
    login: Login,
    client: Client,
    site_id: i64,
    processes: Vec<Process>,
}

async fn start(options: &Options) -> Result<Parts> {
    std::fs::create_dir_all(&options.data_dir)
        .with_context(|| format!("cannot make {}", options.data_dir.display()))?;
    let layout = Layout { folder: std::path::absolute(&options.data_dir)?, port: options.port };
    let login = Login::load_or_create(&layout.folder)?;
    let config = layout.write(options)?;
    layout.boot_files()?;
    let mut processes = Vec::new();

    let step = Step::new("Global Controller");
    let first = [
        ("STEELYARD_GLOBAL_ADMIN_EMAIL", login.email.clone()),
        ("STEELYARD_GLOBAL_ADMIN_PASSWORD", login.password.clone()),
    ];
    processes.push(Process::start("global", &layout.folder, &config, &first)?);
    let anonymous = Client::new(&layout.web(), None)?;
    processes::ready(&mut processes, "the Global Controller", || async { Ok(anonymous.get("/health").await.is_ok()) })
        .await?;
    let (session, _) = anonymous.login(&login.email, &login.password).await.context("cannot log in")?;
    let key = session.post("/user/api-keys", &serde_json::json!({"name": "steelyard up"})).await?;
    let key = key.get("apiKey").and_then(serde_json::Value::as_str).context("no API key in the answer")?.to_owned();
    let client = Client::new(&layout.web(), Some(key))?;
    step.done(layout.web());

    let step = Step::new("Simulated datacenter");
    processes.push(Process::start("yard", &layout.folder, &config, &[])?);
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
    let url = format!("{}/inventory", layout.yard());
    processes::ready(&mut processes, "the simulated datacenter", || async {
        Ok(http.get(&url).send().await?.status().is_success())
    })
    .await?;
    step.done(format!("{} servers", options.servers));

    let step = Step::new("Site Controller");
    let site_id = datacenter::site(&client).await?;
    let mut environment = Vec::new();
    if !layout.folder.join("site/membership.json").exists() {
        let made = client.post(&format!("/sites/{site_id}/enrolment-tokens"), &serde_json::json!({})).await?;
        let token = made.get("token").and_then(serde_json::Value::as_str).context("no token in the answer")?;
        environment.push(("STEELYARD_SITE_TOKEN", token.to_owned()));
    }
    processes.push(Process::start("site", &layout.folder, &config, &environment)?);
    processes::ready(&mut processes, "the Site Controller", || async { datacenter::connected(&client, site_id).await })
        .await?;
    step.done("enrolled and connected");

    let inventory: serde_json::Value = http.get(&url).send().await?.json().await?;
    datacenter::register(&client, site_id, &inventory).await?;
    Ok(Parts { layout, login, client, site_id, processes })
}

impl Parts {
    fn print(&self) {
        println!();
        println!("Infrastructure designer  {}/portal/", self.layout.web());
        println!("Admin console            {}/admin/", self.layout.web());
        println!("REST interface           {}/api/docs", self.layout.web());
        println!("Login                    {}  {}", self.login.email, self.login.password);
        println!("Logs                     {}", self.layout.folder.join("logs").display());
    }

    async fn stay(mut self) -> Result<()> {
        println!("\nCtrl-C stops it.");
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let ended = tokio::select! {
            r = tokio::signal::ctrl_c() => { r?; Ok(()) }
            _ = terminate.recv() => Ok(()),
            name = processes::any_ended(&mut self.processes) => Err(name),
        };
        processes::stop(self.processes).await;
        match ended {
            Ok(()) => Ok(()),
            Err(what) => bail!("{what}"),
        }
    }
}

/// `steelyard up`.
pub async fn up(options: Options) -> Result<()> {
    eprintln!("Starting everything on this machine, in {}", options.data_dir.display());
    let parts = start(&options).await?;
    parts.print();
    parts.stay().await
}

/// `steelyard demo`.
pub async fn demo(mut demo: DemoOptions) -> Result<()> {
    if demo.options.data_dir == Path::new(".steelyard/up") {
        demo.options.data_dir = ".steelyard/demo".into();
    }
    // From scratch, whatever an earlier run has left.
    match std::fs::remove_dir_all(&demo.options.data_dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("cannot remove {}", demo.options.data_dir.display()));
        }
        _ => {}
    }
    eprintln!("A demonstration on this machine, in {}", demo.options.data_dir.display());
    let parts = start(&demo.options).await?;
    let deployed = deploy(&parts).await;
    parts.print();
    if demo.exit_when_done || deployed.is_err() {
        processes::stop(parts.processes).await;
        return deployed;
    }
    parts.stay().await
}

async fn deploy(parts: &Parts) -> Result<()> {
    let document = sample::document(&parts.client, parts.site_id).await?;
    let (id, changes) = crate::cli::apply::apply(&parts.client, &document).await?;
    eprintln!("\nSample infrastructure {}:", document.infrastructure);
    for change in changes {
        eprintln!("  {change}");
    }
    let options = DeployOptions { watch: true, allow_data_loss: false, soft_shutdown_timeout: 180, timeout: 900 };
    watch::deploy(&parts.client, id, &options).await?;
    println!();
    crate::access(&parts.client, id, true).await
}
