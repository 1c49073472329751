//! The Site Controller: effects what the Global Controller ordered, and serves machines that boot, from its own store alone.
//!
//! It dials out once and may be cut off for ever: orders that it has taken it finishes, reports wait in its queue, and DHCP, TFTP and HTTP
//! go on from the facts that it holds.

mod absence;
mod bmc_work;
mod config;
mod console;
mod entity;
mod equipment;
mod facts;
mod functions;
mod image;
mod lease;
mod line;
mod medium;
mod membership;
mod power;
mod san;
mod session;
mod signer;
mod strangers;
mod watch;

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context, Result};
use engine::{Engine, EngineConfig};
use link::{Queue, client::GLOBAL};
use netboot::{
    dhcp::{BootFiles, DhcpConfig, DhcpServer, Identity},
    http::{HttpConfig, HttpState},
    ra::RouterAdvertiser,
    tftp::{Source, TftpConfig, TftpServer},
};
use store::Database;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use config::SiteConfig;

/// How often progress that waits is looked for.
const PROGRESS: std::time::Duration = std::time::Duration::from_millis(500);

/// What all parts of a site share.
pub(crate) struct Site {
    pub(crate) db: Database,
    pub(crate) queue: Queue,
    pub(crate) sealer: crypto::Sealer,
    pub(crate) facts: facts::Facts,
    pub(crate) equipment: equipment::Equipment,
    /// Whether what is known here may be long outdated.
    pub(crate) absence: absence::Absence,
    /// Machines that nobody knows and that the Global Controller was told of: what they showed, and when.
    pub(crate) strangers: strangers::Strangers,
    pub(crate) images: image::Images,
    /// Consoles that are open.
    pub(crate) consoles: console::Consoles,
    /// Where machines and BMCs fetch files from this site.
    pub(crate) http_base: String,
    /// Boot files.
    pub(crate) boot_dir: std::path::PathBuf,
    /// The program that makes installation media.
    pub(crate) xorriso: std::path::PathBuf,
    pub(crate) membership: membership::Keeper,
    /// Signs what is said of cleanings.
    pub(crate) signer: signer::Signer,
    pub(crate) watch: watch::Watch,
    /// Where BMCs send their events, if anywhere.
    pub(crate) events: Option<watch::events::EventsPlace>,
    /// Room for listening at BMCs that send none.
    pub(crate) streams: Arc<tokio::sync::Semaphore>,
    /// Times of looking, as configured.
    pub(crate) pace: watch::Pace,
}

/// A Site Controller that runs.
pub struct Running {
    /// Id of the site.
    pub site_id: model::Id,
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// Where DHCP listens.
    pub dhcp: SocketAddr,
    /// Where TFTP listens.
    pub tftp: SocketAddr,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

async fn open(path: &Path) -> Result<Database> {
    let db =
        Database::open(&format!("sqlite://{}?mode=rwc", path.display())).await.context("cannot open the database")?;
    db.migrate("site", entity::MIGRATIONS).await.context("cannot bring the database up to date")?;
    db.migrate("engine", engine::MIGRATIONS).await.context("cannot bring the database up to date")?;
    db.migrate("link", link::MIGRATIONS).await.context("cannot bring the database up to date")?;
    Ok(db)
}

/// Starts one; enrols first when it is new. Returns once its services listen, whether or not the Global Controller can be reached.
pub async fn start(config: SiteConfig) -> Result<Running> {
    crypto::install_provider();
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("cannot make the data folder {}", config.data_dir.display()))?;
    let (membership, sealer) = membership::Keeper::load_or_enrol(&config).await?;
    let site_id = membership.site_id();
    let db = open(&config.data_dir.join("site.db")).await?;
    let images_dir = config.data_dir.join("images");
    std::fs::create_dir_all(&images_dir)?;
    let (events, event_listener) = watch::events::open(&config, &sealer)?.unzip();
    let site = Arc::new(Site {
        facts: facts::Facts::load(&db).await?,
        queue: Queue::new(db.clone()),
        equipment: equipment::Equipment::default(),
        absence: absence::Absence::load(&db).await?,
        strangers: strangers::Strangers::default(),
        consoles: console::Consoles::default(),
        images: image::Images::new(images_dir.clone()),
        watch: watch::Watch::default(),
        events,
        streams: watch::streams(),
        pace: watch::Pace::new(config.power_poll_seconds, config.sensor_poll_seconds),
        http_base: config.http_base()?,
        boot_dir: config.boot_dir.clone(),
        xorriso: config.xorriso.clone(),
        db: db.clone(),
        sealer,
        membership,
        signer: signer::Signer::load_or_create(&config.data_dir)?,
    });
    let shutdown = CancellationToken::new();
    let tasks = TaskTracker::new();

    let engine_config =
        EngineConfig { owner: Some(site_id), workers: config.workers.max(1), ..EngineConfig::default() };
    let sink = Arc::new(line::Reports { queue: site.queue.clone() });
    let engine = Engine::new(db.clone(), functions::all(&site), engine_config, None, Some(sink));

    // Machines that boot are served before anything else: they do not wait for a line.
    let http_base = config.http_base()?;
    let boot_files = BootFiles::default();
    let address = config.address()?;
    let identity = Identity { server_id: address, tftp_server: address, http_base: http_base.clone(), boot_files };
    let interface = Some(config.dhcp_interface.clone()).filter(|i| !i.is_empty());
    let dhcp_config = DhcpConfig { interface: interface.clone(), ..DhcpConfig::new(config.dhcp_address()?, identity) };
    let dhcp = DhcpServer::bind(dhcp_config, site.clone(), Arc::new(lease::LeaseStore { db: db.clone() })).await?;
    let tftp =
        TftpServer::bind(TftpConfig::new(config.tftp_address()?), Source::Directory(config.boot_dir.clone())).await?;
    let listener = tokio::net::TcpListener::bind(&config.http)
        .await
        .with_context(|| format!("HTTP cannot listen on {}; is the port taken or below 1024?", config.http))?;
    let agents = std::net::TcpListener::bind(&config.https)
        .with_context(|| format!("HTTPS cannot listen on {}; is the port taken or below 1024?", config.https))?;
    let identity = crypto::Identity::load_or_create(&config.data_dir, "machines")?;
    let running = Running {
        site_id,
        http: listener.local_addr()?,
        dhcp: dhcp.local_addr()?,
        tftp: tftp.local_addr()?,
        shutdown: shutdown.clone(),
        tasks: tasks.clone(),
    };
    let state = HttpState {
        config: Arc::new(HttpConfig {
            http_base,
            agent_base: config.agent_base()?,
            agent_pin: crypto::tls::fingerprint(&identity.certificate_pem)?,
            boot_dir: config.boot_dir.clone(),
            images_dir,
            kernel_arguments: config.kernel_arguments.clone(),
        }),
        directory: site.clone(),
        events: site.clone(),
    };
    let (router, stop) = (netboot::http::router(state.clone()), shutdown.clone());
    tasks.spawn(async move {
        if let Err(error) = netboot::http::serve(listener, router, stop).await {
            tracing::error!(%error, "the HTTP services ended");
        }
    });
    let (router, stop) = (netboot::http::agent_router(state), shutdown.clone());
    tasks.spawn(async move {
        if let Err(error) = netboot::http::serve_agents(agents, &identity, router, stop).await {
            tracing::error!(%error, "the service of the boot image ended");
        }
    });
    tasks.spawn(dhcp.run(shutdown.clone()));
    match interface.map(|i| RouterAdvertiser::bind(&i)) {
        Some(Ok(advertiser)) => _ = tasks.spawn(advertiser.run(shutdown.clone())),
        Some(Err(error)) => tracing::warn!("{error}"),
        None => {}
    }
    tasks.spawn(tftp.run(shutdown.clone()));

    // After each commit that a report was written in, the line is woken; progress is written a little later than it is told.
    let (mut changes, queue, stop) = (engine.subscribe(), site.queue.clone(), shutdown.clone());
    tasks.spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                change = changes.recv() => match change {
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => break,
                    _ => queue.wake(GLOBAL),
                },
                () = tokio::time::sleep(PROGRESS) => {
                    if let Err(error) = queue.wake_changed().await {
                        tracing::warn!(%error, "cannot look for reports to send");
                    }
                }
            }
        }
    });
    let (jobs, stop) = (engine.clone(), shutdown.clone());
    tasks.spawn(async move {
        if let Err(error) = jobs.run(stop).await {
            tracing::error!(%error, "the job engine ended");
        }
    });
    tasks.spawn(absence::note(site.clone(), shutdown.clone()));
    if let Some(listener) = event_listener {
        let identity = crypto::Identity::load_or_create(&config.data_dir, "events")?;
        let (of, stop) = (site.clone(), shutdown.clone());
        tasks.spawn(async move {
            if let Err(error) = watch::events::serve(of, listener, identity, stop).await {
                tracing::error!(%error, "the place for events of BMCs ended");
            }
        });
    }
    tasks.spawn(watch::run(site.clone(), shutdown.clone()));
    tasks.spawn(image::keep(site.clone(), shutdown.clone()));
    tasks.spawn(session::sweep(site.clone(), shutdown.clone()));
    tasks.spawn(strangers::tell(site.clone(), shutdown.clone()));
    tasks.spawn(membership::renew(site.clone(), shutdown.clone()));
    let line = Arc::new(line::Line { site: site.clone(), engine, address: config.address.clone() });
    let (keeper, queue, stop) = (site.clone(), site.queue.clone(), shutdown.clone());
    tasks.spawn(async move { link::client::run(move || keeper.membership.current(), queue, line, stop).await });
    tracing::info!(site = site_id, http = %running.http, dhcp = %running.dhcp, tftp = %running.tftp, "Site Controller is up");
    Ok(running)
}

impl Running {
    /// Stops it: jobs are cut off and resume at the next start.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(std::time::Duration::from_secs(15), self.tasks.wait()).await;
    }
}
