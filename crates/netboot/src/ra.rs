//! Router advertisements that route nothing (RFC 4861).
//!
//! Firmware with IPv6 asks for a router when its interface comes up, and waits for an answer: iPXE some 13 s after its DHCPv4 address is
//! there. An advertisement with a router lifetime of 0, without prefixes and with neither the M nor the O flag answers the question ("no
//! router, no DHCPv6") and changes nothing else on the link.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;
/// RFC 4861 section 10, MIN_DELAY_BETWEEN_RAS: between two that go to all.
const BETWEEN: Duration = Duration::from_secs(3);

/// Why there are no router advertisements.
#[derive(Debug, thiserror::Error)]
#[error(
    "no router advertisements on {interface}: {source}; firmware with IPv6 waits some seconds longer for each boot"
)]
pub struct RaError {
    /// The network interface.
    pub interface: String,
    /// What the system said.
    pub source: io::Error,
}

/// Answers router solicitations on one network interface.
pub struct RouterAdvertiser {
    socket: UdpSocket,
    interface: String,
    index: u32,
}

impl RouterAdvertiser {
    /// Opens the raw socket, for which the right `CAP_NET_RAW` is needed.
    pub fn bind(interface: &str) -> Result<Self, RaError> {
        let open = || -> io::Result<Self> {
            let index = interface_index(interface)?;
            let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
            socket.bind_device(Some(interface.as_bytes()))?;
            socket.join_multicast_v6(&ALL_ROUTERS, index)?;
            socket.set_multicast_if_v6(index)?;
            socket.set_multicast_loop_v6(false)?;
            // Receivers drop what could have come through a router.
            socket.set_multicast_hops_v6(255)?;
            socket.set_unicast_hops_v6(255)?;
            socket.set_nonblocking(true)?;
            // A datagram socket to the runtime: it only sends and receives.
            let socket = UdpSocket::from_std(socket.into())?;
            Ok(Self { socket, interface: interface.to_owned(), index })
        };
        open().map_err(|source| RaError { interface: interface.to_owned(), source })
    }

    /// Answers until shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut buffer = [0u8; 2048];
        let mut earliest = Instant::now();
        let mut due = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep_until(earliest), if due => {
                    due = false;
                    earliest = Instant::now() + BETWEEN;
                    self.send(ALL_NODES).await;
                }
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((len, SocketAddr::V6(from))) => match answer_to(buffer.get(..len).unwrap_or_default(), *from.ip()) {
                        Some(ALL_NODES) => due = true,
                        Some(one) => self.send(one).await,
                        None => {}
                    },
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(%error, interface = self.interface, "router solicitations");
                        sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
    }

    async fn send(&self, to: Ipv6Addr) {
        let to = SocketAddrV6::new(to, 0, 0, self.index);
        // Without an IPv6 address of its own on the link (switched off, or not settled yet) there is nothing to send from.
        if let Err(error) = self.socket.send_to(&advertisement(), to).await {
            tracing::debug!(%error, %to, interface = self.interface, "router advertisement");
        }
    }
}

fn interface_index(name: &str) -> io::Result<u32> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the name of a network interface"));
    }
    let text = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex"))?;
    text.trim().parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "its number cannot be read"))
}

/// Whom to answer: the one that asks, or all when it has no address yet. `None`: no solicitation.
fn answer_to(packet: &[u8], from: Ipv6Addr) -> Option<Ipv6Addr> {
    // Type, code, checksum (which the kernel has checked), four reserved bytes; options may follow.
    let (&[kind, code, ..], true) = (packet.first_chunk::<2>()?, packet.len() >= 8) else { return None };
    if kind != SOLICITATION || code != 0 {
        return None;
    }
    if from.is_unspecified() {
        Some(ALL_NODES)
    } else {
        // Somebody beyond the link has no business here.
        from.is_unicast_link_local().then_some(from)
    }
}

/// The message: hop limit unspecified, no flags, lifetime 0, timers unspecified, no options. The kernel fills in the checksum.
fn advertisement() -> [u8; 16] {
    let mut message = [0; 16];
    message[0] = ADVERTISEMENT;
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_solicitations_of_this_link_are_answered() {
        let asks = [SOLICITATION, 0, 0x12, 0x34, 0, 0, 0, 0];
        let host: Ipv6Addr = "fe80::5054:ff:fe00:1".parse().unwrap();
        assert_eq!(answer_to(&asks, host), Some(host));
        assert_eq!(answer_to(&asks, Ipv6Addr::UNSPECIFIED), Some(ALL_NODES));
        assert_eq!(answer_to(&asks, "2001:db8::1".parse().unwrap()), None);
        assert_eq!(answer_to(&asks[..7], host), None);
        assert_eq!(answer_to(&[], host), None);
        assert_eq!(answer_to(&[ADVERTISEMENT, 0, 0, 0, 0, 0, 0, 0], host), None);
        assert_eq!(answer_to(&[SOLICITATION, 1, 0, 0, 0, 0, 0, 0], host), None);
    }

    #[test]
    fn it_promises_nothing() {
        let message = advertisement();
        // Flags, then the lifetime of the router.
        assert_eq!((message[0], message[5], &message[6..8]), (134, 0, &[0, 0][..]));
    }

    #[test]
    fn odd_names_are_no_paths() {
        for name in ["", "../lo", ".", "a/b", "no-such-interface-at-all"] {
            assert!(interface_index(name).is_err(), "{name}");
        }
    }
}
