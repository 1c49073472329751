//! DHCP flows as tables, arbitrary bytes, and the server on a real socket.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use dhcproto::{
    Decodable, Encodable,
    v4::{
        Architecture, DhcpOption as O, Message, MessageType as M, OptionCode, UnknownOption,
        relay::{RelayAgentInformation, RelayCode, RelayInfo, UnknownInfo},
    },
};
use model::snapshot::{DhcpPool, Fact, Reservation, SiteServer, SiteSettings};
use netboot::{
    backend::{BackendError, Leases},
    dhcp::{
        BootFiles, Ctx, Destination, DhcpConfig, DhcpServer, Identity, Lease, LeaseChange, LeaseState, LeaseTable,
        Outcome, Request, respond,
    },
    memory::MemorySite,
    view::SiteView,
};
use proptest::prelude::*;
use tokio::{net::UdpSocket, time::timeout};
use tokio_util::sync::CancellationToken;

const KNOWN: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const UNKNOWN: [u8; 6] = [0x52, 0x54, 0, 0, 0, 9];
const OTHER: [u8; 6] = [0x52, 0x54, 0, 0, 0, 8];
const THIRD: [u8; 6] = [0x52, 0x54, 0, 0, 0, 7];
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn facts() -> Vec<Fact> {
    vec![
        Fact::Server(SiteServer {
            id: 1,
            name: "s1".into(),
            bmc: None,
            macs: vec!["52:54:00:00:00:01".into()],
            in_use: true,
            reservations: vec![Reservation {
                mac: "52:54:00:00:00:01".into(),
                address: ip(11),
                subnet: "10.0.0.0/24".parse().unwrap(),
                gateway: Some(ip(1)),
                hostname: Some("s1".into()),
            }],
            ..SiteServer::default()
        }),
        Fact::DhcpPool(DhcpPool {
            id: 1,
            subnet: "10.0.0.0/24".parse().unwrap(),
            first: ip(10),
            last: ip(13),
            gateway: Some(ip(1)),
            relays: vec![RELAY],
            lease_seconds: 600,
        }),
        Fact::Settings(SiteSettings {
            dns_servers: vec![ip(2)],
            ntp_servers: vec!["10.0.0.3".into(), "ntp.example".into()],
            ..SiteSettings::default()
        }),
    ]
}

fn identity() -> Identity {
    Identity {
        server_id: Ipv4Addr::new(192, 0, 2, 1),
        tftp_server: Ipv4Addr::new(192, 0, 2, 2),
        http_base: "http://192.0.2.1:8090".into(),
        boot_files: BootFiles::default(),
    }
}

/// A site with its leases and a clock.
struct World {
    view: SiteView,
    leases: LeaseTable,
    identity: Identity,
    now: i64,
}

impl World {
    fn new() -> Self {
        Self { view: SiteView::from_facts(facts()), leases: LeaseTable::default(), identity: identity(), now: 1000 }
    }

    fn ask(&mut self, message: &Message) -> Outcome {
        let bytes = message.to_vec().unwrap();
        let request = Request::decode(&bytes, SocketAddrV4::new(RELAY, 40_000)).unwrap();
        let ctx = Ctx { now: self.now, identity: &self.identity, view: &self.view, leases: &self.leases };
        let outcome = respond(&request, &ctx);
        outcome.changes.iter().for_each(|c| self.leases.apply(c));
        outcome
    }

    fn answer(&mut self, message: &Message) -> Message {
        let reply = self.ask(message).reply.expect("an answer");
        Message::from_bytes(&reply.encode().unwrap()).unwrap()
    }

    /// DISCOVER to ACK; the address.
    fn lease(&mut self, mac: [u8; 6]) -> Ipv4Addr {
        let offer = self.answer(&message(M::Discover, mac, &[]));
        assert_eq!(offer.opts().msg_type(), Some(M::Offer));
        let ack = self.answer(&selecting(mac, offer.yiaddr()));
        assert_eq!(ack.opts().msg_type(), Some(M::Ack));
        assert_eq!(ack.yiaddr(), offer.yiaddr());
        ack.yiaddr()
    }
}

fn message(kind: M, mac: [u8; 6], options: &[O]) -> Message {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut m = Message::new_with_id(7, none, none, none, RELAY, &mac);
    m.opts_mut().insert(O::MessageType(kind));
    for option in options {
        m.opts_mut().insert(option.clone());
    }
    m
}

fn selecting(mac: [u8; 6], address: Ipv4Addr) -> Message {
    message(M::Request, mac, &[O::ServerIdentifier(identity().server_id), O::RequestedIpAddress(address)])
}

fn class(text: &str, arch: u16) -> Vec<O> {
    vec![O::ClassIdentifier(text.as_bytes().to_vec()), O::ClientSystemArchitecture(Architecture(arch))]
}

fn text(m: &Message, code: OptionCode) -> Option<String> {
    match m.opts().get(code)? {
        O::BootfileName(b) | O::TFTPServerName(b) | O::ClassIdentifier(b) => {
            Some(String::from_utf8(b.clone()).unwrap())
        }
        _ => None,
    }
}

#[test]
fn boot_files_by_client() {
    let pxe = "PXEClient:Arch:00007:UNDI:003016";
    let script = Some("http://192.0.2.1:8090/boot/52-54-00-00-00-09/script.ipxe");
    let mut ipxe = class(pxe, 7);
    ipxe.push(O::UserClass(b"iPXE".to_vec()));
    let mut ipxe_rfc = class(pxe, 0);
    ipxe_rfc.push(O::UserClass(b"\x04iPXE".to_vec()));
    let mut ipxe_175 = class(pxe, 0);
    ipxe_175.push(O::Unknown(UnknownOption::new(OptionCode::Unknown(175), vec![1, 2])));
    for (options, file, class) in [
        (class("PXEClient:Arch:00000", 0), Some("undionly.kpxe"), Some("PXEClient")),
        (class(pxe, 7), Some("ipxe.efi"), Some("PXEClient")),
        (class(pxe, 9), Some("ipxe.efi"), Some("PXEClient")),
        (class("HTTPClient:Arch:00016", 16), Some("http://192.0.2.1:8090/boot/ipxe.efi"), Some("HTTPClient")),
        (class(pxe, 16), None, None),
        (class(pxe, 999), None, None),
        (class("udhcp", 0), None, None),
        (vec![], None, None),
        (ipxe, script, None),
        (ipxe_rfc, script, None),
        (ipxe_175, script, None),
    ] {
        let offer = World::new().answer(&message(M::Discover, UNKNOWN, &options));
        assert_eq!(text(&offer, OptionCode::BootfileName).as_deref(), file, "{options:?}");
        assert_eq!(text(&offer, OptionCode::ClassIdentifier).as_deref(), class, "{options:?}");
        assert_eq!(offer.fname_str().and_then(Result::ok).map(|f| f.trim_end_matches('\0')), file);
        assert_eq!(offer.siaddr().is_unspecified(), file.is_none());
    }
}

#[test]
fn a_reservation_with_all_its_options() {
    let mut world = World::new();
    let id = vec![0, 1, 2, 3];
    let mut options = class("PXEClient", 7);
    options.extend([O::ClientMachineIdentifier(id.clone()), O::ClientIdentifier(vec![1, 2])]);
    let offer = world.answer(&message(M::Discover, KNOWN, &options));
    assert_eq!((offer.yiaddr(), offer.giaddr(), offer.xid()), (ip(11), RELAY, 7));
    for expected in [
        O::MessageType(M::Offer),
        O::ServerIdentifier(identity().server_id),
        O::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
        O::Router(vec![ip(1)]),
        O::DomainNameServer(vec![ip(2)]),
        O::NtpServers(vec![ip(3)]),
        O::AddressLeaseTime(600),
        O::Renewal(300),
        O::Rebinding(525),
        O::Hostname("s1".into()),
        O::TFTPServerName(b"192.0.2.2".to_vec()),
        O::ClientMachineIdentifier(id),
        O::ClientIdentifier(vec![1, 2]),
    ] {
        assert_eq!(offer.opts().get(OptionCode::from(&expected)), Some(&expected));
    }
    assert_eq!(world.lease(KNOWN), ip(11));
}

#[test]
fn unknown_machines_share_a_pool_without_reserved_addresses_until_it_is_used_up() {
    let mut world = World::new();
    let mut got: Vec<_> = [2, 3, 4].map(|n| world.lease([0x52, 0x54, 0, 0, 0, n])).to_vec();
    got.sort();
    assert_eq!(got, [ip(10), ip(12), ip(13)]);
    assert!(world.ask(&message(M::Discover, UNKNOWN, &[])).reply.is_none());
    // Once leases have ended the addresses go to others.
    world.now += 601;
    assert!(got.contains(&world.lease(UNKNOWN)));
}

#[test]
fn offers_are_kept_for_their_client_and_run_out() {
    let mut world = World::new();
    let offer = world.answer(&message(M::Discover, UNKNOWN, &[])).yiaddr();
    assert_eq!(world.answer(&message(M::Discover, UNKNOWN, &[])).yiaddr(), offer);
    let wanted = [O::RequestedIpAddress(offer)];
    assert_ne!(world.answer(&message(M::Discover, OTHER, &wanted)).yiaddr(), offer);
    assert_eq!(world.answer(&selecting(OTHER, offer)).opts().msg_type(), Some(M::Nak));
    world.now += 61;
    assert_eq!(world.answer(&message(M::Discover, THIRD, &wanted)).yiaddr(), offer);
    // Another server's offer was taken: ours is free again.
    let elsewhere = [O::ServerIdentifier(ip(200)), O::RequestedIpAddress(offer)];
    assert!(world.ask(&message(M::Request, THIRD, &elsewhere)).reply.is_none());
    assert!(world.leases.get(offer).is_none());
}

#[test]
fn renew_rebind_reboot() {
    let mut world = World::new();
    let address = world.lease(UNKNOWN);
    let mut renew = message(M::Request, UNKNOWN, &[]);
    renew.set_ciaddr(address).set_giaddr([0, 0, 0, 0]);
    world.now += 300;
    let outcome = world.ask(&renew);
    assert_eq!(outcome.reply.as_ref().unwrap().destination, Destination::Client(address));
    assert_eq!(world.leases.get(address).unwrap().expires_at, 1900);
    // Somebody else's address.
    let mut foreign = message(M::Request, OTHER, &[]);
    foreign.set_ciaddr(address).set_giaddr([0, 0, 0, 0]);
    let outcome = world.ask(&foreign);
    assert_eq!(outcome.reply.as_ref().unwrap().kind(), Some(M::Nak));
    // INIT-REBOOT.
    let same = [O::RequestedIpAddress(address)];
    assert_eq!(world.answer(&message(M::Request, UNKNOWN, &same)).opts().msg_type(), Some(M::Ack));
    let wrong = [O::RequestedIpAddress(Ipv4Addr::new(172, 16, 0, 9))];
    let nak = world.answer(&message(M::Request, UNKNOWN, &wrong));
    assert_eq!(nak.opts().msg_type(), Some(M::Nak));
    assert!(nak.yiaddr().is_unspecified() && nak.flags().broadcast());
    let free = if address == ip(10) { ip(12) } else { ip(10) };
    assert!(world.ask(&message(M::Request, OTHER, &[O::RequestedIpAddress(free)])).reply.is_none());
}

#[test]
fn decline_release_inform() {
    let mut world = World::new();
    let address = world.lease(UNKNOWN);
    let wanted = [O::RequestedIpAddress(address)];
    assert!(world.ask(&message(M::Decline, OTHER, &wanted)).changes.is_empty());
    world.ask(&message(M::Decline, UNKNOWN, &wanted));
    assert_eq!(world.leases.get(address).unwrap().state, LeaseState::Declined);
    let next = world.lease(UNKNOWN);
    assert_ne!(next, address);
    let mut release = message(M::Release, UNKNOWN, &[]);
    release.set_ciaddr(next);
    assert!(world.ask(&release).reply.is_none());
    assert_eq!(world.leases.get(next).unwrap().state, LeaseState::Released);
    assert_eq!(world.lease(UNKNOWN), next, "the same client gets it again");
    let mut inform = message(M::Inform, OTHER, &[]);
    inform.set_ciaddr(ip(50)).set_giaddr([0, 0, 0, 0]);
    let reply = world.ask(&inform).reply.unwrap();
    assert_eq!(reply.destination, Destination::Client(ip(50)));
    assert!(reply.message.yiaddr().is_unspecified());
    assert!(reply.message.opts().get(OptionCode::AddressLeaseTime).is_none());
}

/// A message that came by a relay's port of that name.
fn behind(circuit: &[u8], mut m: Message) -> Message {
    let mut info = RelayAgentInformation::default();
    info.insert(RelayInfo::AgentCircuitId(circuit.to_vec()));
    m.opts_mut().insert(O::RelayAgentInformation(info));
    m
}

#[test]
fn whoever_is_behind_a_port_gets_its_address() {
    let mut world = World::new();
    let mut all = facts();
    for fact in &mut all {
        if let Fact::Settings(settings) = fact {
            settings.circuits = [("oob:7".to_owned(), ip(12)), ("0004000a".to_owned(), ip(13))].into();
        }
    }
    world.view = SiteView::from_facts(all);
    let asks = |world: &mut World, circuit: &[u8], mac| {
        let offer = world.answer(&behind(circuit, message(M::Discover, mac, &[])));
        let ack = world.answer(&behind(circuit, selecting(mac, offer.yiaddr())));
        assert_eq!(ack.opts().msg_type(), Some(M::Ack));
        ack.yiaddr()
    };
    assert_eq!(asks(&mut world, b"oob:7", UNKNOWN), ip(12));
    assert_eq!(asks(&mut world, b"\x00\x04\x00\x0a", OTHER), ip(13), "a name that is no text is written in hex");
    // Behind another port, or none, these addresses are nobody's: the pool has one left.
    assert_eq!(asks(&mut world, b"oob:8", THIRD), ip(10));
    // A server that is known keeps the address that was reserved for it, wherever it is plugged in.
    assert_eq!(asks(&mut world, b"oob:7", KNOWN), ip(11));
    // The machine was exchanged: its successor waits until the lease is over, and gets the same address then.
    let successor = [0x52, 0x54, 0, 0, 0, 0x77];
    assert!(world.ask(&behind(b"oob:7", message(M::Discover, successor, &[]))).reply.is_none());
    world.now += 700;
    assert_eq!(asks(&mut world, b"oob:7", successor), ip(12));
}

#[test]
fn relays() {
    let mut world = World::new();
    let mut info = RelayAgentInformation::default();
    info.insert(RelayInfo::AgentCircuitId(b"leaf1:swp3".to_vec()));
    let mut asked = message(M::Discover, UNKNOWN, &[O::RelayAgentInformation(info.clone())]);
    let reply = world.ask(&asked).reply.unwrap();
    assert_eq!(reply.destination, Destination::Relay(RELAY, None));
    let sent = Message::from_bytes(&reply.encode().unwrap()).unwrap();
    assert_eq!(sent.opts().get(OptionCode::RelayAgentInformation), Some(&O::RelayAgentInformation(info.clone())));
    // RFC 8357 and RFC 5107.
    info.insert(RelayInfo::Unknown(UnknownInfo::new(RelayCode::Unknown(19), vec![])));
    info.insert(RelayInfo::ServerIdentifierOverride(RELAY));
    asked.opts_mut().insert(O::RelayAgentInformation(info));
    let reply = world.ask(&asked).reply.unwrap();
    assert_eq!(reply.destination, Destination::Relay(RELAY, Some(40_000)));
    assert_eq!(reply.message.opts().get(OptionCode::ServerIdentifier), Some(&O::ServerIdentifier(RELAY)));
    // A relay that no pool serves, and a client without a relay.
    for giaddr in [Ipv4Addr::new(10, 9, 9, 9), Ipv4Addr::UNSPECIFIED] {
        let mut asked = message(M::Discover, UNKNOWN, &[]);
        asked.set_giaddr(giaddr);
        assert!(world.ask(&asked).reply.is_none());
    }
}

#[test]
fn malformed_requests_are_refused() {
    let source = SocketAddrV4::new(RELAY, 67);
    let good = message(M::Discover, UNKNOWN, &[]).to_vec().unwrap();
    assert!(Request::decode(&good, source).is_ok());
    for (at, value) in [(0, 2), (1, 32), (2, 16), (2, 255), (236, 0), (242, 99)] {
        let mut bad = good.clone();
        bad[at] = value;
        assert!(Request::decode(&bad, source).is_err(), "byte {at} = {value}");
    }
    assert!(Request::decode(&good[..200], source).is_err());
}

fn never_panics(bytes: &[u8]) {
    if let Ok(request) = Request::decode(bytes, SocketAddrV4::new(RELAY, 67)) {
        let world = World::new();
        let ctx = Ctx { now: 1, identity: &world.identity, view: &world.view, leases: &world.leases };
        if let Some(reply) = respond(&request, &ctx).reply {
            reply.encode().unwrap();
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        never_panics(&bytes);
    }

    #[test]
    fn arbitrary_options(kind in 1u8..9, header in proptest::collection::vec(any::<u8>(), 232), options in
        proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..12), junk: Vec<u8>) {
        let mut bytes = vec![1, 1, 6, 0];
        bytes.extend(&header);
        bytes.extend([99, 130, 83, 99, 53, 1, kind]);
        for (code, value) in options.iter().filter(|(c, _)| *c != 53) {
            bytes.extend([*code, value.len() as u8]);
            bytes.extend(value);
        }
        bytes.extend(junk);
        never_panics(&bytes);
    }
}

async fn receive(socket: &UdpSocket) -> Message {
    let mut buffer = [0; 2000];
    let n = timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await.expect("an answer in time").unwrap();
    Message::from_bytes(&buffer[..n]).unwrap()
}

#[tokio::test]
async fn the_server_answers_a_relay_at_its_port_and_remembers_over_a_restart() {
    let relay = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let giaddr = Ipv4Addr::LOCALHOST;
    let mut facts = facts();
    if let Some(Fact::DhcpPool(pool)) = facts.iter_mut().find(|f| matches!(f, Fact::DhcpPool(_))) {
        pool.relays = vec![giaddr];
    }
    let site = Arc::new(MemorySite::new(facts));
    let mut info = RelayAgentInformation::default();
    info.insert(RelayInfo::Unknown(UnknownInfo::new(RelayCode::Unknown(19), vec![])));
    let mut addresses = Vec::new();
    for round in 0..2 {
        let config = DhcpConfig::new("127.0.0.1:0".parse().unwrap(), identity());
        let server = DhcpServer::bind(config, site.clone(), site.clone()).await.unwrap();
        let SocketAddr::V4(to) = server.local_addr().unwrap() else { panic!("IPv4") };
        let stop = CancellationToken::new();
        let task = tokio::spawn(server.run(stop.clone()));
        let send = async |mut m: Message| {
            m.set_giaddr(giaddr);
            m.opts_mut().insert(O::RelayAgentInformation(info.clone()));
            relay.send_to(&m.to_vec().unwrap(), to).await.unwrap();
            receive(&relay).await
        };
        relay.send_to(b"rubbish", to).await.unwrap();
        if round == 0 {
            let offer = send(message(M::Discover, UNKNOWN, &[])).await;
            assert!(site.leases().is_empty(), "offers are not stored");
            addresses.push(send(selecting(UNKNOWN, offer.yiaddr())).await.yiaddr());
            assert_eq!(site.leases().len(), 1);
        } else {
            // INIT-REBOOT: the lease was read from the store.
            let reboot = message(M::Request, UNKNOWN, &[O::RequestedIpAddress(addresses[0])]);
            assert_eq!(send(reboot).await.opts().msg_type(), Some(M::Ack));
        }
        stop.cancel();
        timeout(Duration::from_secs(5), task).await.unwrap().unwrap();
    }
}

/// A store that can be read and not written.
struct ReadOnly;

#[async_trait::async_trait]
impl Leases for ReadOnly {
    async fn load(&self) -> Result<Vec<Lease>, BackendError> {
        Ok(Vec::new())
    }

    async fn save(&self, _: &[LeaseChange]) -> Result<(), BackendError> {
        Err(BackendError::new("disk full"))
    }
}

#[tokio::test]
async fn nothing_is_promised_that_could_not_be_stored() {
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut facts = facts();
    if let Some(Fact::DhcpPool(pool)) = facts.iter_mut().find(|f| matches!(f, Fact::DhcpPool(_))) {
        pool.relays = vec![Ipv4Addr::LOCALHOST];
    }
    let mut config = DhcpConfig::new("127.0.0.1:0".parse().unwrap(), identity());
    config.relay_port = client.local_addr().unwrap().port();
    let server = DhcpServer::bind(config, Arc::new(MemorySite::new(facts)), Arc::new(ReadOnly)).await.unwrap();
    let to = server.local_addr().unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(server.run(stop.clone()));
    let relayed = |mut m: Message| m.set_giaddr(Ipv4Addr::LOCALHOST).to_vec().unwrap();
    client.send_to(&relayed(selecting(UNKNOWN, ip(12))), to).await.unwrap();
    // Offers need no store. One that is taken together with the request would be for another address, as the request is not given up yet.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let discover = relayed(message(M::Discover, OTHER, &[O::RequestedIpAddress(ip(12))]));
    let mut buffer = [0; 2000];
    let mut answer = None;
    for _ in 0..50 {
        client.send_to(&discover, to).await.unwrap();
        if let Ok(n) = timeout(Duration::from_millis(200), client.recv(&mut buffer)).await {
            answer = Some(Message::from_bytes(&buffer[..n.unwrap()]).unwrap());
            break;
        }
    }
    let answer = answer.expect("an offer");
    assert_eq!((answer.opts().msg_type(), answer.yiaddr()), (Some(M::Offer), ip(12)));
    stop.cancel();
    timeout(Duration::from_secs(5), task).await.unwrap().unwrap();
}
