//! The Global Controller: database, engine and interface in one process.

pub mod catalog;
mod config;
mod consoles;
pub mod functions;
pub mod record;
mod sites;
mod ui;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use api::App;
use axum::Router;
use engine::{Engine, EngineConfig, JobFunction};
use store::Database;
use tokio_util::sync::CancellationToken;
use tower_http::{
    catch_panic::CatchPanicLayer, compression::CompressionLayer, set_header::SetResponseHeaderLayer, trace::TraceLayer,
};

pub use config::GlobalConfig;

/// A Global Controller that runs.
pub struct Global {
    /// Where it listens: the port that was really taken.
    pub address: SocketAddr,
    /// Where the link listens, when it does.
    pub link: Option<SocketAddr>,
    /// E-mail and password of the first administrator, when this start made them.
    pub first_login: Option<(String, String)>,
    shutdown: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// Starts one; returns once it serves.
pub async fn start(config: GlobalConfig) -> Result<Global> {
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("cannot make the data folder {}", config.data_dir.display()))?;
    let url = config.database_url();
    let db = Database::open(&url).await.context("cannot open the database")?;
    api::migrate(&db).await.context("cannot bring the database up to date")?;
    db.migrate("link", link::MIGRATIONS).await.context("cannot bring the database up to date")?;
    crypto::install_provider();
    let fresh = is_fresh(&db).await?;
    let password = config.admin_password.clone().unwrap_or_else(crypto::password::generate);
    api::seed::run(&db, &config.admin_email, &password).await?;
    let sealer = crypto::Sealer::load_or_create(&config.data_dir.join("sealing.key"))?;
    let ca = crypto::Ca::load_or_create(&config.data_dir.join("ca"))?;
    let queue = link::Queue::new(db.clone());
    let functions: Vec<Arc<dyn JobFunction>> = vec![
        Arc::new(functions::infrastructure_finish::InfrastructureFinish::new(db.clone(), sealer.clone())),
        Arc::new(functions::firmware_catalog_fetch::FirmwareCatalogFetch::new(db.clone())),
        Arc::new(functions::server_finish_registration::ServerFinishRegistration::new(db.clone(), sealer.clone())),
    ];
    let dispatcher = Arc::new(sites::Orders { queue: queue.clone() });
    let engine = Engine::new(db.clone(), functions, EngineConfig::default(), Some(dispatcher), None);
    let shutdown = CancellationToken::new();
    let mut tasks = Vec::new();
    let mut app = App::new(db.clone(), engine.clone(), sealer.clone());
    let mut link_address = None;
    if !config.link_listen.is_empty() {
        let (address, serving) = sites::serve(&config, &mut app, ca, queue, shutdown.clone()).await?;
        link_address = Some(address);
        tasks.extend(serving);
    }
    engine.listen(Arc::new(record::Recorder::new(app.clone())));
    let listener = tokio::net::TcpListener::bind(&config.listen)
        .await
        .with_context(|| format!("cannot listen on {}; is another one running?", config.listen))?;
    let address = listener.local_addr()?;
    tasks.push(tokio::spawn(api::schedule::run(app.clone(), shutdown.clone())));
    let stop = shutdown.clone();
    let server = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, service(app)).with_graceful_shutdown(stop.cancelled_owned()).await {
            tracing::error!(%error, "the web server ended");
        }
    });
    let stop = shutdown.clone();
    let jobs = tokio::spawn(async move {
        if let Err(error) = engine.run(stop).await {
            tracing::error!(%error, "the job engine ended");
        }
    });
    let first_login = fresh.then(|| (config.admin_email.clone(), password));
    tracing::info!(%address, "Global Controller is up");
    tasks.extend([server, jobs]);
    Ok(Global { address, link: link_address, first_login, shutdown, tasks })
}

async fn is_fresh(db: &Database) -> Result<bool> {
    use store::sea_orm::{EntityTrait, PaginatorTrait};
    Ok(store::entity::user::Entity::find().count(&db.read).await? == 0)
}

/// The interface and both web applications, with the headers that browsers should see.
fn service(app: App) -> Router {
    let header = |name: &'static str, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(
            axum::http::HeaderName::from_static(name),
            axum::http::HeaderValue::from_static(value),
        )
    };
    api::router(app)
        .merge(ui::router())
        .layer(CompressionLayer::new())
        .layer(header("content-security-policy", "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'self'"))
        .layer(header("x-content-type-options", "nosniff"))
        .layer(header("referrer-policy", "same-origin"))
        .layer(CatchPanicLayer::new())
        .layer(TraceLayer::new_for_http())
}

impl Global {
    /// Stops it: open requests get a little time, jobs are cut off and resume at the next start.
    pub async fn stop(self) {
        self.shutdown.cancel();
        for task in self.tasks {
            let _ = tokio::time::timeout(Duration::from_secs(15), task).await;
        }
    }
}
