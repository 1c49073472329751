//! What the site serves over HTTP: boot scripts and files, images, the agent's API, seeds.

mod agent;
mod connection;
mod error;
mod file;
mod machine;
pub mod range;
mod script;
mod seed;

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRef},
    http::StatusCode,
    routing::{get, post},
};
use tower_http::timeout::TimeoutLayer;

pub use agent::task;
pub use connection::serve;
pub use machine::{Peer, serve_agents};

use crate::backend::{Directory, SessionEvents};

/// Configuration of the HTTP services.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Base of URLs as machines see it, without a trailing slash: `http://192.0.2.1:8090`.
    pub http_base: String,
    /// Base of URLs of [`agent_router`], as machines see it: `https://192.0.2.1:8491`.
    pub agent_base: String,
    /// SHA-256 in hex of the certificate that is shown there.
    pub agent_pin: String,
    /// Boot files; the agent's `vmlinuz` and `initrd` in `agent/` below it.
    pub boot_dir: PathBuf,
    /// Images, each named by its SHA-256 in hex.
    pub images_dir: PathBuf,
    /// More kernel arguments for the agent, such as `console=ttyS0`.
    pub kernel_arguments: String,
}

/// What the handlers share.
#[derive(Clone)]
pub struct HttpState {
    /// Configuration.
    pub config: Arc<HttpConfig>,
    /// What is known.
    pub directory: Arc<dyn Directory>,
    /// Where reports go.
    pub events: Arc<dyn SessionEvents>,
}

/// The same, with what the services keep for themselves.
#[derive(Clone, FromRef)]
struct Shared {
    http: HttpState,
    files: Arc<file::Files>,
}

/// Longest body that a machine may send: inventories of large servers are some 100 KiB.
const BODY_LIMIT: usize = 1024 * 1024;
/// Longest wait for the beginning of an answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// What firmware, installers and installed systems ask for, which can do no more than plain HTTP.
pub fn router(state: HttpState) -> Router {
    Router::new()
        .route("/boot/{mac}/script.ipxe", get(script::script))
        .route("/boot/agent/{file}", get(file::agent))
        .route("/boot/{file}", get(file::boot))
        .route("/images/{sha256}", get(file::image))
        .route("/seed/{token}/{file}", get(seed::installer_seed))
        .route("/phone-home/{token}", post(seed::phone_home))
        .route("/ready/{token}", post(seed::phone_home))
        .route("/media/{token}/{file}", get(file::medium))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, ANSWER_DEADLINE))
        .with_state(Shared { http: state, files: Arc::default() })
}

/// What the agent in the boot image asks for. Every request needs a [`Peer`] as extension, which [`serve_agents`] adds.
pub fn agent_router(state: HttpState) -> Router {
    Router::new()
        .route("/agent/v1/task", get(agent::get_task))
        .route("/agent/v1/progress", post(agent::progress))
        .route("/agent/v1/inventory", post(agent::inventory))
        .route("/agent/v1/done", post(agent::done))
        .route("/seed/{token}/{file}", get(seed::agent_seed))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, ANSWER_DEADLINE))
        .with_state(state)
}
