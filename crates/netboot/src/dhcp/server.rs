//! The UDP side of the DHCP server.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use dhcproto::v4::MessageType;
use tokio::{net::UdpSocket, time};
use tokio_util::sync::CancellationToken;

use super::{Ctx, Destination, Identity, LeaseChange, LeaseState, LeaseTable, Reply, Request, respond};
use crate::{
    backend::{BackendError, Directory, Leases, Stranger},
    unix_now,
    view::SiteView,
};

/// Datagrams answered together: their leases are stored in one go.
const BATCH: usize = 256;
/// Bytes of datagrams that may wait while leases are stored: a hall of machines that is switched on asks at once.
const WAITING: usize = 4 * 1024 * 1024;
/// How long the store may take; then the requests are dropped and clients ask again.
const STORE_DEADLINE: Duration = Duration::from_secs(3);
/// How often ended leases are looked for.
const SWEEP: Duration = Duration::from_mins(1);
/// Seconds for which an ended lease is remembered, so that its client gets the same address again.
const RETENTION: i64 = 7 * 24 * 3600;

/// Configuration of the DHCP server.
#[derive(Clone, Debug)]
pub struct DhcpConfig {
    /// Where to listen; port 67 in production.
    pub bind: SocketAddrV4,
    /// Only this network interface (`SO_BINDTODEVICE`).
    pub interface: Option<String>,
    /// Port at which clients listen; 68.
    pub client_port: u16,
    /// Port at which relays listen; 67.
    pub relay_port: u16,
    /// Where broadcasts go; `255.255.255.255`.
    pub broadcast: Ipv4Addr,
    /// Who we are.
    pub identity: Identity,
}

impl DhcpConfig {
    /// The usual ports.
    pub fn new(bind: SocketAddrV4, identity: Identity) -> Self {
        Self { bind, interface: None, client_port: 68, relay_port: 67, broadcast: Ipv4Addr::BROADCAST, identity }
    }
}

/// A DHCP server on one socket.
pub struct DhcpServer {
    config: DhcpConfig,
    socket: UdpSocket,
    directory: Arc<dyn Directory>,
    store: Arc<dyn Leases>,
    table: LeaseTable,
}

/// The client of a granted request, when no server that is known has this address.
fn stranger(request: &Request, given: &Reply, view: &SiteView) -> Option<Stranger> {
    let mac = request.mac();
    if view.server(mac).is_some() || given.message.yiaddr().is_unspecified() {
        return None;
    }
    let text = |bytes: &[u8]| -> Option<String> {
        let text: String = String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).take(120).collect();
        Some(text.trim().to_owned()).filter(|t| !t.is_empty())
    };
    Some(Stranger {
        mac: mac.clone(),
        address: given.message.yiaddr(),
        circuit_id: request.circuit_id().and_then(text),
        vendor_class: text(request.vendor_class()),
    })
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum DhcpStartError {
    /// The socket could not be had.
    #[error(
        "DHCP cannot listen on {0}: {1}; is another DHCP server running, or the port below 1024 without the right to it?"
    )]
    Bind(SocketAddrV4, #[source] io::Error),
    /// The leases could not be read.
    #[error("DHCP cannot read its leases: {0}")]
    Leases(#[from] BackendError),
}

impl DhcpServer {
    /// Open the socket and read the leases.
    pub async fn bind(
        config: DhcpConfig,
        directory: Arc<dyn Directory>,
        store: Arc<dyn Leases>,
    ) -> Result<Self, DhcpStartError> {
        let failed = |e| DhcpStartError::Bind(config.bind, e);
        let socket = UdpSocket::bind(config.bind).await.map_err(failed)?;
        socket.set_broadcast(true).map_err(failed)?;
        // Beyond the system's limit where that is allowed, up to it otherwise.
        if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, WAITING).is_err() {
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, WAITING);
        }
        #[cfg(target_os = "linux")]
        if let Some(interface) = &config.interface {
            socket.bind_device(Some(interface.as_bytes())).map_err(failed)?;
        }
        let table = LeaseTable::new(store.load().await?);
        Ok(Self { config, socket, directory, store, table })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serve until shutdown.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut sweep = time::interval(SWEEP);
        sweep.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut buffer = vec![0u8; 65_536];
        loop {
            let received = tokio::select! {
                () = shutdown.cancelled() => return,
                _ = sweep.tick() => {
                    self.sweep().await;
                    continue;
                }
                received = self.socket.recv_from(&mut buffer) => received,
            };
            let mut batch = Vec::new();
            match received {
                Ok((len, from)) => collect(&mut batch, &buffer, len, from),
                Err(error) => {
                    // A reply to a closed port comes back as an error of the next receive; it harms nobody else.
                    tracing::debug!(%error, "DHCP receive");
                    time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            }
            while batch.len() < BATCH
                && let Ok((len, from)) = self.socket.try_recv_from(&mut buffer)
            {
                collect(&mut batch, &buffer, len, from);
            }
            self.answer(batch).await;
        }
    }

    async fn answer(&mut self, batch: Vec<Request>) {
        if batch.is_empty() {
            return;
        }
        let view = match time::timeout(STORE_DEADLINE, self.directory.view()).await {
            Ok(Ok(view)) => view,
            Ok(Err(error)) => return tracing::warn!(%error, "DHCP requests dropped: no view of the site"),
            Err(_) => return tracing::warn!("DHCP requests dropped: the site's store does not answer"),
        };
        // What is agreed with a client waits for the store; an offer does not.
        let (mut offers, mut agreed) = (Vec::new(), Vec::new());
        let (mut changes, mut undo) = (Vec::new(), Vec::new());
        let mut strangers = Vec::new();
        for request in batch {
            let ctx = Ctx { now: unix_now(), identity: &self.config.identity, view: &view, leases: &self.table };
            let outcome = respond(&request, &ctx);
            let reply = outcome.reply.as_ref().and_then(Reply::kind);
            tracing::debug!(mac = %request.mac(), request = ?request.kind(), ?reply, note = outcome.note, "DHCP");
            let known = changes.len();
            for change in outcome.changes {
                let address = match &change {
                    LeaseChange::Put(lease) => lease.address,
                    LeaseChange::Remove(address) => *address,
                };
                let old = self.table.get(address).cloned();
                self.table.apply(&change);
                if !matches!(&change, LeaseChange::Put(l) if l.state == LeaseState::Offered) {
                    undo.push(old.map_or(LeaseChange::Remove(address), LeaseChange::Put));
                    changes.push(change);
                }
            }
            if let Some(given) = outcome.reply.as_ref().filter(|r| r.kind() == Some(MessageType::Ack)) {
                strangers.extend(stranger(&request, given, &view));
            }
            if changes.len() == known && reply == Some(MessageType::Offer) {
                offers.extend(outcome.reply);
            } else {
                agreed.extend(outcome.reply);
            }
        }
        if changes.is_empty() {
            self.send_all(&offers).await;
        } else {
            let (stored, ()) =
                tokio::join!(time::timeout(STORE_DEADLINE, self.store.save(&changes)), self.send_all(&offers));
            if !matches!(stored, Ok(Ok(()))) {
                let error = stored
                    .map_or_else(|_| "no answer in time".to_owned(), |r| r.err().map_or_else(String::new, |e| e.0));
                tracing::warn!(error, "DHCP answers dropped: leases could not be stored; clients will ask again");
                undo.iter().rev().for_each(|change| self.table.apply(change));
                return;
            }
        }
        self.send_all(&agreed).await;
        for stranger in strangers {
            self.directory.stranger(stranger);
        }
    }

    async fn send_all(&self, replies: &[Reply]) {
        for reply in replies {
            self.send(reply).await;
        }
    }

    async fn send(&self, reply: &Reply) {
        let to = match reply.destination {
            Destination::Relay(address, port) => SocketAddrV4::new(address, port.unwrap_or(self.config.relay_port)),
            Destination::Client(address) => SocketAddrV4::new(address, self.config.client_port),
            Destination::Broadcast => SocketAddrV4::new(self.config.broadcast, self.config.client_port),
        };
        match reply.encode() {
            Ok(bytes) => {
                if let Err(error) = self.socket.send_to(&bytes, to).await {
                    tracing::warn!(%to, %error, "DHCP answer could not be sent");
                }
            }
            Err(error) => tracing::error!(%to, %error, "DHCP answer could not be encoded"),
        }
    }

    async fn sweep(&mut self) {
        let changes = self.table.sweep(unix_now(), RETENTION);
        let stored: Vec<_> = changes
            .iter()
            .filter(|c| match c {
                LeaseChange::Remove(a) => self.table.get(*a).is_some_and(|l| l.state != LeaseState::Offered),
                LeaseChange::Put(_) => true,
            })
            .cloned()
            .collect();
        if !stored.is_empty() {
            match time::timeout(STORE_DEADLINE, self.store.save(&stored)).await {
                Ok(Ok(())) => {}
                _ => return tracing::warn!("ended DHCP leases could not be removed; tried again in a minute"),
            }
        }
        for change in &changes {
            self.table.apply(change);
        }
    }
}

fn collect(batch: &mut Vec<Request>, buffer: &[u8], len: usize, from: SocketAddr) {
    let SocketAddr::V4(from) = from else { return };
    match Request::decode(buffer.get(..len).unwrap_or_default(), from) {
        Ok(request) => batch.push(request),
        Err(error) => tracing::debug!(%from, %error, "not a DHCP request"),
    }
}
