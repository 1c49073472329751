//! Consoles of all BMCs: SSH for the serial port, VNC for the screen. One listener each for the whole datacenter, because two more for each of
//! ten thousand BMCs are too many: the address that is dialled says which BMC is meant.

mod font;
mod ssh;
mod vnc;

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, net::TcpStream, time::Instant};

use crate::{
    YardError,
    server::{Server, power, tty::Order},
    world::World,
};

/// Ports on which they listen.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// SSH.
    pub ssh: u16,
    /// VNC.
    pub vnc: u16,
}

/// Listens. A connection to an address that is no BMC's is dropped, so nothing is served to other machines.
pub(crate) async fn listen(world: &Arc<World>, services: &tokio_util::task::TaskTracker) -> Result<(), YardError> {
    let bind = |what: &'static str, port: u16| async move {
        let fail = |e: std::io::Error| YardError::Listen(format!("{what} of the BMCs, port {port}: {e}"));
        let listener = TcpListener::bind(("0.0.0.0", port)).await.map_err(fail)?;
        let port = listener.local_addr().map_err(fail)?.port();
        Ok::<_, YardError>((listener, port))
    };
    let (ssh, ssh_port) = bind("SSH", world.config.ssh_port).await?;
    let (vnc, vnc_port) = bind("VNC", world.config.vnc_port).await?;
    let _ = world.console_ports.set(Ports { ssh: ssh_port, vnc: vnc_port });
    let (of_ssh, of_vnc) = (world.clone(), world.clone());
    services.spawn(async move {
        accept(of_ssh, ssh, |world, server, stream| async move { ssh::serve(world, server, stream).await }).await;
    });
    services.spawn(async move {
        accept(of_vnc, vnc, |world, server, stream| async move { vnc::serve(world, server, stream).await }).await;
    });
    Ok(())
}

async fn accept<F, R>(world: Arc<World>, listener: TcpListener, serve: F)
where
    F: Fn(Arc<World>, Arc<Server>, TcpStream) -> R,
    R: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = world.shutdown.cancelled() => return,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Some(server) = stream.local_addr().ok().and_then(|a| meant(&world, a.ip())) else { continue };
        let down = server.with(|state| state.bmc_down_until.is_some_and(|until| Instant::now() < until));
        if down || !peer.ip().is_loopback() {
            continue;
        }
        let _ = stream.set_nodelay(true);
        let (served, stop) = (serve(world.clone(), server, stream), world.shutdown.clone());
        world.tasks.spawn(async move {
            tokio::select! { () = served => {}, () = stop.cancelled() => {} }
        });
    }
}

/// The server whose BMC has that address.
fn meant(world: &World, address: IpAddr) -> Option<Arc<Server>> {
    let IpAddr::V4(address) = address else { return None };
    // BMCs follow one another.
    let guess = u32::from(address).checked_sub(u32::from(world.config.bmc_base))? as usize;
    let found = world.servers.get(guess).filter(|server| server.spec.bmc == address);
    found.or_else(|| world.servers.iter().find(|server| server.spec.bmc == address)).cloned()
}

/// What was typed at a console.
pub(crate) fn typed(world: &Arc<World>, server: &Arc<Server>, bytes: &[u8]) {
    match server.with(|state| state.typed(bytes)) {
        Some(Order::Reboot) => power::restart(world, server, "restarted by software"),
        Some(Order::PowerOff) => {
            power::off(world, server, "switched off by software");
        }
        None => {}
    }
}
