//! A simulated datacenter that speaks the real protocols on loopback addresses: Redfish BMCs, Cumulus Linux switches, and
//! servers that boot over DHCP, TFTP and HTTP from whatever site serves them.
//!
//! It shares no code with the drivers that talk to it, so that it cannot share their mistakes.
//!
//! ```no_run
//! # async fn example() -> Result<(), yard::YardError> {
//! let yard = yard::run(yard::YardConfig { servers: 8, ..Default::default() }).await?;
//! println!("admin API: http://{}", yard.admin_addr());
//! yard.shutdown().await;
//! # Ok(())
//! # }
//! ```

pub mod admin;
pub mod bmc;
pub mod config;
pub mod console;
pub mod dataplane;
pub mod events;
pub mod fault;
pub mod hardware;
pub mod httpd;
pub mod iscsi;
pub mod persist;
pub mod relay;
pub mod server;
pub mod storage;
pub mod switch;
pub mod tls;
pub mod topology;
pub mod world;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub use config::{BootMode, Password, YardConfig};
pub use world::World;

/// Why the datacenter cannot be simulated.
#[derive(Debug, thiserror::Error)]
pub enum YardError {
    /// A setting is wrong.
    #[error("configuration: {0}")]
    Config(String),
    /// An address cannot be listened on.
    #[error("{0}")]
    Listen(String),
    /// A certificate cannot be made or used.
    #[error("TLS: {0}")]
    Tls(String),
    /// Saved state cannot be read or written.
    #[error("device state: {0}")]
    State(String),
    /// A message cannot be made.
    #[error("{0}")]
    Protocol(String),
}

/// Locks, also after a panic elsewhere: device state is plain data and stays usable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running datacenter.
pub struct Yard {
    world: Arc<World>,
    admin: SocketAddr,
    services: tokio_util::task::TaskTracker,
}

impl Yard {
    /// Address of the admin API.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    /// The devices, for tests in the same process.
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// Stops everything and saves the device state. Takes at most a few seconds.
    pub async fn shutdown(self) {
        self.world.shutdown.cancel();
        self.services.close();
        self.world.tasks.close();
        let all = async {
            self.services.wait().await;
            self.world.tasks.wait().await;
        };
        if tokio::time::timeout(Duration::from_secs(5), all).await.is_err() {
            tracing::warn!("some simulated devices did not stop in time");
        }
        if let Err(error) = persist::save(&self.world) {
            tracing::error!(%error, "device state is not saved");
        }
    }
}

/// Starts the datacenter. Returns when every BMC and switch listens.
///
/// # Errors
/// A wrong setting, an address in use, saved state that cannot be read.
pub async fn run(config: YardConfig) -> Result<Yard, YardError> {
    let world = World::build(config)?;
    let services = tokio_util::task::TaskTracker::new();
    let result = listen(&world, &services).await;
    match result {
        Ok(admin) => {
            for server in &world.servers {
                // Machines that were on when the simulator stopped are on; those without a running system boot again.
                if server.with(|state| state.kept.on && state.kept.os.is_none()) {
                    server::power::start(&world, server, "power is back");
                }
            }
            tracing::info!(
                servers = world.servers.len(), switches = world.switches.len(), %admin, "simulated datacenter runs"
            );
            Ok(Yard { world, admin, services })
        }
        Err(error) => {
            world.shutdown.cancel();
            Err(error)
        }
    }
}

async fn listen(world: &Arc<World>, services: &tokio_util::task::TaskTracker) -> Result<SocketAddr, YardError> {
    for server in &world.servers {
        let address = SocketAddr::from((server.spec.bmc, world.config.bmc_port));
        let listener = httpd::bind(&format!("BMC of {}", server.spec.serial), address).await?;
        if let Ok(address) = listener.local_addr() {
            let _ = server.bmc_port.set(address.port());
        }
        let bmc = Arc::new(bmc::Bmc { world: world.clone(), server: server.clone() });
        services.spawn(httpd::serve(listener, bmc, world.shutdown.clone()));
    }
    for switch in &world.switches {
        let address = SocketAddr::from((switch.spec.address, world.config.nvue_port));
        let listener = httpd::bind(&switch.spec.hostname, address).await?;
        if let Ok(address) = listener.local_addr() {
            let _ = switch.api_port.set(address.port());
        }
        let nvue = Arc::new(switch::Nvue { world: world.clone(), switch: switch.clone() });
        services.spawn(httpd::serve(listener, nvue, world.shutdown.clone()));
    }
    for array in &world.arrays {
        let address = SocketAddr::from((array.address, world.config.array_port));
        let listener = httpd::bind(&array.name, address).await?;
        if let Ok(address) = listener.local_addr() {
            let _ = array.api_port.set(address.port());
        }
        // Its target is where hosts of arrays look for one. Somebody else's place is left to them.
        let units = Arc::new(storage::units::ArrayUnits { world: world.clone(), array: array.clone() });
        if iscsi::target::Units::name(&*units).is_some() {
            match tokio::net::TcpListener::bind((array.address, 3260)).await {
                Ok(listener) => _ = services.spawn(iscsi::target::serve(listener, units, world.shutdown.clone())),
                Err(error) => tracing::warn!(array = array.name, %error, "the array shows no iSCSI target"),
            }
        }
        let rest = Arc::new(storage::Rest { world: world.clone(), array: array.clone() });
        services.spawn(httpd::serve(listener, rest, world.shutdown.clone()));
    }
    console::listen(world, services).await?;
    let listener = httpd::bind("admin API", world.config.admin_listen).await?;
    let admin = listener.local_addr().map_err(|error| YardError::Listen(format!("admin API: {error}")))?;
    let (router, shutdown) = (admin::router(world.clone()), world.shutdown.clone());
    services.spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "admin API stopped");
        }
    });
    services.spawn(persist::keep(world.clone()));
    Ok(admin)
}
