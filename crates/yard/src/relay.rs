//! DHCP relay agent of a leaf switch (RFC 3046, RFC 8357): one UDP socket at the relay address, bound at first use.
//!
//! The relay source port sub-option lets the relay use any port: the server answers to the port that the message came from.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddrV4},
    sync::{Arc, Mutex},
};

use dhcproto::{
    Decodable, Encodable,
    v4::{
        DhcpOption, Message, Opcode, OptionCode,
        relay::{RelayAgentInformation, RelayInfo, UnknownInfo},
    },
};
use tokio::{
    net::UdpSocket,
    sync::{OnceCell, mpsc},
};
use tokio_util::sync::CancellationToken;

use crate::{YardError, lock};

/// Sub-option "relay source port" of option 82, RFC 8357.
const RELAY_SOURCE_PORT: u8 = 19;
/// Most relays that a message may pass, RFC 1542.
const MAX_HOPS: u8 = 16;

/// The relay of one leaf.
pub struct Relay {
    hostname: String,
    address: Ipv4Addr,
    port: u16,
    server: SocketAddrV4,
    socket: OnceCell<Arc<UdpSocket>>,
    clients: Arc<Mutex<HashMap<[u8; 6], mpsc::Sender<Message>>>>,
    shutdown: CancellationToken,
}

/// A client's ear: replies for its MAC address arrive here until it is dropped.
pub struct Ear {
    mac: [u8; 6],
    clients: Arc<Mutex<HashMap<[u8; 6], mpsc::Sender<Message>>>>,
    replies: mpsc::Receiver<Message>,
}

impl Ear {
    /// Next reply.
    pub async fn hear(&mut self) -> Option<Message> {
        self.replies.recv().await
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.replies.close();
        let mut clients = lock(&self.clients);
        if clients.get(&self.mac).is_some_and(mpsc::Sender::is_closed) {
            clients.remove(&self.mac);
        }
    }
}

/// What the relay adds to a client's message.
pub fn relay_request(
    message: &Message,
    giaddr: Ipv4Addr,
    circuit: &str,
    remote: &str,
    own_port: bool,
) -> Option<Message> {
    if message.hops() >= MAX_HOPS {
        return None;
    }
    let mut relayed = message.clone();
    relayed.set_hops(message.hops() + 1);
    if relayed.giaddr().is_unspecified() {
        relayed.set_giaddr(giaddr);
        let mut information = RelayAgentInformation::default();
        information.insert(RelayInfo::AgentCircuitId(circuit.as_bytes().to_vec()));
        information.insert(RelayInfo::AgentRemoteId(remote.as_bytes().to_vec()));
        if own_port {
            information.insert(RelayInfo::Unknown(UnknownInfo::new(RELAY_SOURCE_PORT.into(), Vec::new())));
        }
        relayed.opts_mut().insert(DhcpOption::RelayAgentInformation(information));
    }
    Some(relayed)
}

/// What the client gets of a server's reply; `None` when it is not for this relay.
pub fn relay_reply(message: Message, giaddr: Ipv4Addr) -> Option<Message> {
    if message.opcode() != Opcode::BootReply || message.giaddr() != giaddr {
        return None;
    }
    let mut reply = message;
    reply.opts_mut().remove(OptionCode::RelayAgentInformation);
    Some(reply)
}

impl Relay {
    /// A relay that is not bound yet.
    pub fn new(
        hostname: String,
        address: Ipv4Addr,
        port: u16,
        server: SocketAddrV4,
        shutdown: CancellationToken,
    ) -> Self {
        Self { hostname, address, port, server, socket: OnceCell::new(), clients: Arc::default(), shutdown }
    }

    async fn socket(&self) -> Result<Arc<UdpSocket>, YardError> {
        let bind = || async {
            let address = SocketAddrV4::new(self.address, self.port);
            let socket = UdpSocket::bind(address).await.map_err(|error| {
                YardError::Listen(format!("DHCP relay of {} cannot bind {address}: {error}", self.hostname))
            })?;
            let socket = Arc::new(socket);
            let (ear, clients, shutdown, giaddr) =
                (socket.clone(), self.clients.clone(), self.shutdown.clone(), self.address);
            tokio::spawn(async move {
                let mut buffer = vec![0; 4096];
                loop {
                    let received = tokio::select! {
                        () = shutdown.cancelled() => return,
                        received = ear.recv_from(&mut buffer) => received,
                    };
                    // An ICMP "port unreachable" of an earlier send shows up as an error here; it is no reason to stop.
                    let Ok((length, _)) = received else { continue };
                    let Ok(message) = Message::from_bytes(&buffer[..length]) else { continue };
                    let Some(reply) = relay_reply(message, giaddr) else { continue };
                    let Some(mac) = reply.chaddr().get(..6).and_then(|mac| <[u8; 6]>::try_from(mac).ok()) else {
                        continue;
                    };
                    let client = lock(&clients).get(&mac).cloned();
                    if let Some(client) = client {
                        let _ = client.try_send(reply);
                    }
                }
            });
            Ok(socket)
        };
        self.socket.get_or_try_init(bind).await.cloned()
    }

    /// Listens for replies to a client.
    pub fn listen(&self, mac: [u8; 6]) -> Ear {
        let (sender, replies) = mpsc::channel(16);
        lock(&self.clients).insert(mac, sender);
        Ear { mac, clients: self.clients.clone(), replies }
    }

    /// Forwards a client's broadcast that came in at `port`.
    pub async fn forward(&self, message: &Message, port: usize) -> Result<(), YardError> {
        let circuit = format!("{}:swp{port}", self.hostname);
        let Some(relayed) = relay_request(message, self.address, &circuit, &self.hostname, self.port != 67) else {
            return Ok(());
        };
        let bytes = relayed.to_vec().map_err(|error| YardError::Protocol(format!("DHCP message: {error}")))?;
        let socket = self.socket().await?;
        // A closed server port is silence on the wire, not an error.
        let _ = socket.send_to(&bytes, self.server).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dhcproto::v4::relay::RelayCode;

    use super::*;

    const GIADDR: Ipv4Addr = Ipv4Addr::new(127, 30, 0, 1);

    #[test]
    fn a_request_gets_giaddr_and_option_82() {
        let message = Message::default();
        let relayed = relay_request(&message, GIADDR, "leaf1:swp3", "leaf1", true).unwrap();
        assert_eq!((relayed.giaddr(), relayed.hops()), (GIADDR, 1));
        let Some(DhcpOption::RelayAgentInformation(info)) = relayed.opts().get(OptionCode::RelayAgentInformation)
        else {
            panic!("no option 82")
        };
        assert_eq!(info.get(RelayCode::AgentCircuitId), Some(&RelayInfo::AgentCircuitId(b"leaf1:swp3".to_vec())));
        // On the wire: sub-option 19 of length 0, as RFC 8357 has it.
        let bytes = relayed.to_vec().unwrap();
        assert!(bytes.windows(2).any(|pair| pair == [19, 0]));
        assert!(relay_request(&message, GIADDR, "c", "r", false).unwrap().to_vec().unwrap().len() < bytes.len());
    }

    #[test]
    fn an_already_relayed_message_keeps_its_relay_and_loops_end() {
        let mut message = Message::default();
        message.set_giaddr([10, 0, 0, 1]);
        let relayed = relay_request(&message, GIADDR, "c", "r", true).unwrap();
        assert_eq!(relayed.giaddr(), Ipv4Addr::new(10, 0, 0, 1));
        assert!(relayed.opts().get(OptionCode::RelayAgentInformation).is_none());
        message.set_hops(16);
        assert!(relay_request(&message, GIADDR, "c", "r", true).is_none());
    }

    #[test]
    fn a_reply_loses_option_82_and_foreign_replies_are_dropped() {
        let mut reply = relay_request(&Message::default(), GIADDR, "c", "r", true).unwrap();
        assert!(relay_reply(reply.clone(), GIADDR).is_none(), "a request is no reply");
        reply.set_opcode(Opcode::BootReply);
        assert!(relay_reply(reply.clone(), Ipv4Addr::new(127, 30, 0, 2)).is_none());
        let plain = relay_reply(reply, GIADDR).unwrap();
        assert!(plain.opts().get(OptionCode::RelayAgentInformation).is_none());
    }
}
