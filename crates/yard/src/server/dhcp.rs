//! DHCP client of firmware, iPXE and operating system (RFC 2131, RFC 4578).

use std::{net::Ipv4Addr, time::Duration};

use dhcproto::v4::{Architecture, DhcpOption, Flags, HType, Message, MessageType, OptionCode, UnknownOption};
use tokio::time::{Instant, timeout_at};

use super::net::Port;
use crate::{
    config::BootMode,
    fault::{Action, Face},
};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persona {
    /// The server's firmware.
    Firmware(BootMode),
    /// iPXE, after the firmware has loaded it.
    Ipxe(BootMode),
    /// The installed operating system: wants an address, no boot file.
    System,
}

/// What the server gave.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Our address.
    pub address: Ipv4Addr,
    /// Prefix length.
    pub prefix: u8,
    /// Default gateway.
    pub router: Option<Ipv4Addr>,
    /// `next-server`: option 66 when it is an address, else `siaddr`, else the DHCP server.
    pub next_server: Ipv4Addr,
    /// Boot file, option 67 or the `file` field.
    pub boot_file: Option<String>,
    /// Host name, option 12.
    pub hostname: Option<String>,
}

const TRIES: u32 = 4;

/// `PXEClient` class and architecture of a boot mode.
fn class(mode: BootMode, ipxe: bool) -> (String, u16) {
    match (mode, ipxe) {
        (BootMode::HttpUefi, false) => ("HTTPClient:Arch:00016:UNDI:003016".into(), 16),
        (BootMode::PxeUefi | BootMode::HttpUefi, _) => ("PXEClient:Arch:00007:UNDI:003016".into(), 7),
        (BootMode::BiosPxe, _) => ("PXEClient:Arch:00000:UNDI:002001".into(), 0),
    }
}

/// UUID as RFC 4578 wants it: type 0, then the first three groups in little-endian order as SMBIOS stores them.
fn machine_id(uuid: uuid::Uuid) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&uuid.to_bytes_le());
    bytes
}

fn message(port: &Port, persona: Persona, xid: u32, kind: MessageType) -> Message {
    let spec = port.spec();
    let mac = port.mac();
    let nil = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(xid, nil, nil, nil, nil, &mac);
    message.set_htype(HType::Eth).set_flags(Flags::default().set_broadcast());
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    let mut wanted = vec![
        OptionCode::SubnetMask,
        OptionCode::Router,
        OptionCode::DomainNameServer,
        OptionCode::Hostname,
        OptionCode::DomainName,
    ];
    let mut client_id = vec![1];
    client_id.extend_from_slice(&mac);
    options.insert(DhcpOption::ClientIdentifier(client_id));
    options.insert(DhcpOption::MaxMessageSize(1472));
    if let Persona::Firmware(mode) | Persona::Ipxe(mode) = persona {
        let ipxe = matches!(persona, Persona::Ipxe(_));
        let (class, architecture) = class(mode, ipxe);
        wanted.extend([
            OptionCode::VendorExtensions,
            OptionCode::ClassIdentifier,
            OptionCode::TFTPServerName,
            OptionCode::BootfileName,
            OptionCode::ClientMachineIdentifier,
        ]);
        options.insert(DhcpOption::ClassIdentifier(class.into_bytes()));
        options.insert(DhcpOption::ClientSystemArchitecture(Architecture(architecture)));
        options.insert(DhcpOption::ClientNetworkInterface(1, 3, if architecture == 0 { 1 } else { 16 }));
        options.insert(DhcpOption::ClientMachineIdentifier(machine_id(spec.uuid)));
        if ipxe {
            options.insert(DhcpOption::UserClass(b"iPXE".to_vec()));
            // Encapsulated options of iPXE: version 1.21.1, and features HTTP, iSCSI, TFTP, menu, EFI.
            let features = vec![235, 3, 1, 21, 1, 19, 1, 1, 17, 1, 1, 20, 1, 1, 39, 1, 1, 36, 1, 1];
            options.insert(DhcpOption::Unknown(UnknownOption::new(OptionCode::Unknown(175), features)));
            wanted.push(OptionCode::Unknown(175));
        }
    }
    options.insert(DhcpOption::ParameterRequestList(wanted));
    message
}

fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..end]).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn lease_of(message: &Message) -> Lease {
    let options = message.opts();
    let boot_file = match options.get(OptionCode::BootfileName) {
        Some(DhcpOption::BootfileName(bytes)) => text(bytes),
        _ => None,
    }
    .or_else(|| message.fname().and_then(text));
    let server = server_id(message).unwrap_or(Ipv4Addr::UNSPECIFIED);
    let named = match options.get(OptionCode::TFTPServerName) {
        Some(DhcpOption::TFTPServerName(bytes)) => text(bytes).and_then(|name| name.parse().ok()),
        _ => None,
    };
    let siaddr = Some(message.siaddr()).filter(|address| !address.is_unspecified());
    Lease {
        address: message.yiaddr(),
        prefix: match options.get(OptionCode::SubnetMask) {
            Some(DhcpOption::SubnetMask(mask)) => u32::from(*mask).leading_ones() as u8,
            _ => 24,
        },
        router: match options.get(OptionCode::Router) {
            Some(DhcpOption::Router(routers)) => routers.first().copied(),
            _ => None,
        },
        next_server: named.or(siaddr).unwrap_or(server),
        boot_file,
        hostname: match options.get(OptionCode::Hostname) {
            Some(DhcpOption::Hostname(name)) => Some(name.clone()),
            _ => None,
        },
    }
}

fn server_id(message: &Message) -> Option<Ipv4Addr> {
    match message.opts().get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(address)) => Some(*address),
        _ => None,
    }
}

/// Whether this persona can use an offer. UEFI HTTP boot ignores offers that do not echo its class.
fn usable(persona: Persona, offer: &Message) -> Result<(), &'static str> {
    if offer.yiaddr().is_unspecified() {
        return Err("offer without an address");
    }
    let lease = lease_of(offer);
    match persona {
        Persona::System => Ok(()),
        _ if lease.boot_file.is_none() => Err("offer without a boot file"),
        Persona::Firmware(BootMode::HttpUefi) => {
            let echoed = matches!(offer.opts().get(OptionCode::ClassIdentifier),
                Some(DhcpOption::ClassIdentifier(class)) if class.starts_with(b"HTTPClient"));
            if echoed { Ok(()) } else { Err("offer without class HTTPClient") }
        }
        _ => Ok(()),
    }
}

/// Sends through the relay of the leaf, if the wire is there. Silence otherwise.
async fn send(port: &Port, message: &Message, operation: &str) {
    for action in port.strike(Face::Dhcp, operation) {
        match action {
            Action::Delay { ms } => tokio::time::sleep(Duration::from_millis(ms)).await,
            Action::Drop | Action::Hang | Action::Error { .. } => return,
            _ => {}
        }
    }
    if !port.online() {
        return;
    }
    let world = port.world();
    world.events.count("dhcp_sent");
    let nic = port.nic();
    if let Some(relay) = world.relays.get(nic.switch)
        && let Err(error) = relay.forward(message, nic.port).await
    {
        tracing::warn!(%error, "DHCP relay");
    }
}

/// DISCOVER, OFFER, REQUEST, ACK with growing timeouts. The error is what a console would show.
pub async fn acquire(port: &Port, persona: Persona) -> Result<Lease, String> {
    let world = port.world();
    let nic = port.nic();
    let Some(relay) = world.relays.get(nic.switch) else { return Err("no DHCP relay on this switch".into()) };
    let mut ear = relay.listen(nic.mac);
    let mut wait = Duration::from_secs_f64(world.config.dhcp_timeout_seconds.max(0.01));
    let mut last = "no answer";
    for _ in 0..TRIES {
        let xid: u32 = rand::random();
        let deadline = Instant::now() + wait;
        wait *= 2;
        send(port, &message(port, persona, xid, MessageType::Discover), "DISCOVER").await;
        let mut offer = None;
        while let Ok(Some(reply)) = timeout_at(deadline, ear.hear()).await {
            if reply.xid() == xid && reply.opts().has_msg_type(MessageType::Offer) {
                match usable(persona, &reply) {
                    Ok(()) => {
                        offer = Some(reply);
                        break;
                    }
                    Err(why) => last = why,
                }
            }
        }
        let Some(offer) = offer else { continue };
        let mut request = message(port, persona, xid, MessageType::Request);
        request.opts_mut().insert(DhcpOption::RequestedIpAddress(offer.yiaddr()));
        if let Some(server) = server_id(&offer) {
            request.opts_mut().insert(DhcpOption::ServerIdentifier(server));
        }
        let deadline = Instant::now() + wait;
        send(port, &request, "REQUEST").await;
        while let Ok(Some(reply)) = timeout_at(deadline, ear.hear()).await {
            if reply.xid() != xid {
                continue;
            }
            match reply.opts().msg_type() {
                Some(MessageType::Ack) => {
                    let (mut lease, offered) = (lease_of(&reply), lease_of(&offer));
                    lease.boot_file = lease.boot_file.or(offered.boot_file);
                    return Ok(lease);
                }
                Some(MessageType::Nak) => {
                    last = "refused (NAK)";
                    break;
                }
                _ => {}
            }
        }
    }
    Err(format!("DHCP: {last}"))
}
