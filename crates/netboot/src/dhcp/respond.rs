//! The server's behaviour (RFC 2131 section 4.3) as a pure function.

use std::net::Ipv4Addr;

use dhcproto::{
    Encodable,
    v4::{DhcpOption, Message, MessageType, Opcode},
};

use super::{
    Identity, Lease, LeaseChange, LeaseState, LeaseTable, Request,
    boot::{Boot, boot_for},
    select::{Choice, Selector},
};
use crate::view::SiteView;

/// Seconds for which an offered address is kept for its client. iPXE takes 3 s to decide; slow firmware more.
const OFFER_SECONDS: i64 = 60;
/// Seconds for which an address that a client found in use is not given out.
const DECLINE_SECONDS: i64 = 3600;
/// Smallest datagram: some firmware drops less than BOOTP's 300 bytes (RFC 1542 section 2.1).
const SHORTEST_DATAGRAM: usize = 300;

/// All that an answer depends on besides the request.
#[derive(Clone, Copy)]
pub struct Ctx<'a> {
    /// Seconds since 1970-01-01 UTC.
    pub now: i64,
    /// Who we are.
    pub identity: &'a Identity,
    /// Servers, pools, settings.
    pub view: &'a SiteView,
    /// Leases so far.
    pub leases: &'a LeaseTable,
}

/// Where a reply goes (RFC 2131 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To the relay; at its own port if it asked for that (RFC 8357), else at the server port.
    Relay(Ipv4Addr, Option<u16>),
    /// To a client that has this address already.
    Client(Ipv4Addr),
    /// To all on our link: the client has no address yet.
    Broadcast,
}

/// A reply and where it goes.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The message, without the relay agent information.
    pub message: Message,
    /// Option 82, returned as it came.
    pub relay_info: Option<Vec<u8>>,
    /// Where to.
    pub destination: Destination,
}

impl Reply {
    /// OFFER, ACK or NAK.
    pub fn kind(&self) -> Option<MessageType> {
        self.message.opts().msg_type()
    }

    /// The datagram. Option 82 comes last (RFC 3046 section 2.1).
    pub fn encode(&self) -> Result<Vec<u8>, dhcproto::error::EncodeError> {
        let mut bytes = self.message.to_vec()?;
        if let Some(info) = &self.relay_info {
            // The end mark moves behind it.
            bytes.pop();
            for chunk in info.chunks(255) {
                bytes.extend_from_slice(&[82, chunk.len() as u8]);
                bytes.extend_from_slice(chunk);
            }
            bytes.push(255);
        }
        if bytes.len() < SHORTEST_DATAGRAM {
            bytes.resize(SHORTEST_DATAGRAM, 0);
        }
        Ok(bytes)
    }
}

/// What a request leads to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The answer, if there is one.
    pub reply: Option<Reply>,
    /// Changes of leases, to be applied and stored before the answer leaves.
    pub changes: Vec<LeaseChange>,
    /// Why there is no answer, or why it is a refusal.
    pub note: Option<&'static str>,
}

impl Outcome {
    fn silence(note: &'static str) -> Self {
        Self { note: Some(note), ..Self::default() }
    }
}

/// Answer one request.
pub fn respond(request: &Request, ctx: &Ctx<'_>) -> Outcome {
    let mac = request.mac();
    match request.kind() {
        MessageType::Discover => discover(request, ctx, mac),
        MessageType::Request => take(request, ctx, mac),
        MessageType::Decline => decline(request, ctx, mac),
        MessageType::Release => release(request, ctx, mac),
        MessageType::Inform => inform(request, ctx),
        _ => Outcome::silence("a message type that only servers send"),
    }
}

fn discover(request: &Request, ctx: &Ctx<'_>, mac: &str) -> Outcome {
    let Some(choice) = Selector::new(request, ctx, mac).any() else {
        return Outcome::silence("no address to offer: no pool or reservation for this link, or its pools are used up");
    };
    let held =
        ctx.leases.get(choice.address).is_some_and(|l| l.mac == mac && l.live(ctx.now) && l.state == LeaseState::Bound);
    let mut changes = drop_offers(ctx, mac, Some(choice.address));
    if !held {
        changes.push(put(request, &choice, mac, LeaseState::Offered, ctx.now.saturating_add(OFFER_SECONDS)));
    }
    Outcome { reply: Some(grant(request, ctx, MessageType::Offer, &choice)), changes, note: None }
}

/// REQUEST in its four meanings (RFC 2131 section 4.3.2).
fn take(request: &Request, ctx: &Ctx<'_>, mac: &str) -> Outcome {
    let ciaddr = request.message.ciaddr();
    match (request.server_id(), request.requested_address()) {
        // SELECTING
        (Some(server), wanted) => {
            if server != identifier(request, ctx) && server != ctx.identity.server_id {
                let changes = drop_offers(ctx, mac, None);
                return Outcome { reply: None, changes, note: Some("the client took another server's offer") };
            }
            let Some(wanted) = wanted.or(Some(ciaddr).filter(|a| !a.is_unspecified())) else {
                return Outcome::silence("a request that names no address");
            };
            match Selector::new(request, ctx, mac).exactly(wanted) {
                Some(choice) => acknowledge(request, ctx, mac, &choice),
                None => refuse(request, ctx, "the address is not free for this client"),
            }
        }
        // INIT-REBOOT
        (None, Some(wanted)) => {
            let selector = Selector::new(request, ctx, mac);
            let known = ctx.leases.of(mac).any(|l| l.state == LeaseState::Bound) || selector.reservation().is_some();
            match selector.exactly(wanted) {
                Some(choice) if known => acknowledge(request, ctx, mac, &choice),
                // Of a client that we do not know another server may know more.
                Some(_) => Outcome::silence("nothing is known of this client's earlier lease"),
                None if selector.serves_link() => refuse(request, ctx, "the address is wrong for this client or link"),
                None => Outcome::silence("no pool or reservation for this link"),
            }
        }
        // RENEWING, REBINDING
        (None, None) if !ciaddr.is_unspecified() => {
            let selector = if request.relay().is_some() {
                Selector::new(request, ctx, mac)
            } else {
                Selector::for_address(request, ctx, mac, ciaddr)
            };
            match selector.exactly(ciaddr) {
                Some(choice) => acknowledge(request, ctx, mac, &choice),
                None if selector.serves_link() => refuse(request, ctx, "the lease is not this client's"),
                None => Outcome::silence("an address that no pool or reservation covers"),
            }
        }
        (None, None) => Outcome::silence("a request that names no address"),
    }
}

fn acknowledge(request: &Request, ctx: &Ctx<'_>, mac: &str, choice: &Choice) -> Outcome {
    let mut changes = drop_offers(ctx, mac, Some(choice.address));
    changes.push(put(request, choice, mac, LeaseState::Bound, ctx.now.saturating_add(i64::from(choice.seconds))));
    Outcome { reply: Some(grant(request, ctx, MessageType::Ack, choice)), changes, note: None }
}

fn refuse(request: &Request, ctx: &Ctx<'_>, note: &'static str) -> Outcome {
    let mut message = blank(request, ctx, MessageType::Nak);
    message.opts_mut().insert(DhcpOption::Message(note.to_owned()));
    // RFC 2131 section 4.3.2: the relay is to broadcast it, since the client's address is no good.
    let destination = match request.relay() {
        Some(_) => {
            let flags = message.flags().set_broadcast();
            message.set_flags(flags);
            destination(request)
        }
        None => Destination::Broadcast,
    };
    let reply = Reply { message, relay_info: request.relay_info().map(<[u8]>::to_vec), destination };
    Outcome { reply: Some(reply), changes: Vec::new(), note: Some(note) }
}

fn decline(request: &Request, ctx: &Ctx<'_>, mac: &str) -> Outcome {
    if request.server_id().is_some_and(|s| s != identifier(request, ctx) && s != ctx.identity.server_id) {
        return Outcome::silence("meant for another server");
    }
    let Some(lease) = request.requested_address().and_then(|a| ctx.leases.get(a)).filter(|l| l.mac == mac) else {
        return Outcome::silence("declined an address that it does not have");
    };
    let expires_at = ctx.now.saturating_add(DECLINE_SECONDS);
    let change = LeaseChange::Put(Lease { state: LeaseState::Declined, expires_at, ..lease.clone() });
    Outcome { reply: None, changes: vec![change], note: Some("another machine uses the address") }
}

fn release(request: &Request, ctx: &Ctx<'_>, mac: &str) -> Outcome {
    if request.server_id().is_some_and(|s| s != identifier(request, ctx) && s != ctx.identity.server_id) {
        return Outcome::silence("meant for another server");
    }
    let Some(lease) = ctx.leases.get(request.message.ciaddr()).filter(|l| l.mac == mac && l.state == LeaseState::Bound)
    else {
        return Outcome::silence("released an address that it does not have");
    };
    let change = LeaseChange::Put(Lease { state: LeaseState::Released, expires_at: ctx.now, ..lease.clone() });
    Outcome { reply: None, changes: vec![change], note: Some("released") }
}

/// INFORM: settings without an address (RFC 2131 section 4.3.5).
fn inform(request: &Request, ctx: &Ctx<'_>) -> Outcome {
    let ciaddr = request.message.ciaddr();
    if ciaddr.is_unspecified() {
        return Outcome::silence("an INFORM without an address");
    }
    let mut message = blank(request, ctx, MessageType::Ack);
    message.set_ciaddr(ciaddr);
    if let Some(pool) = ctx.view.pools().iter().find(|p| p.subnet.contains(&ciaddr)) {
        message.opts_mut().insert(DhcpOption::SubnetMask(pool.subnet.netmask()));
        if let Some(gateway) = pool.gateway {
            message.opts_mut().insert(DhcpOption::Router(vec![gateway]));
        }
    }
    add_settings(&mut message, ctx);
    add_boot(&mut message, request, ctx);
    let destination = if request.relay().is_some() { destination(request) } else { Destination::Client(ciaddr) };
    let reply = Reply { message, relay_info: request.relay_info().map(<[u8]>::to_vec), destination };
    Outcome { reply: Some(reply), changes: Vec::new(), note: None }
}

/// Forget what was offered to this client, except one address.
fn drop_offers(ctx: &Ctx<'_>, mac: &str, except: Option<Ipv4Addr>) -> Vec<LeaseChange> {
    ctx.leases
        .of(mac)
        .filter(|l| l.state == LeaseState::Offered && Some(l.address) != except)
        .map(|l| LeaseChange::Remove(l.address))
        .collect()
}

fn put(request: &Request, choice: &Choice, mac: &str, state: LeaseState, expires_at: i64) -> LeaseChange {
    LeaseChange::Put(Lease {
        address: choice.address,
        mac: mac.to_owned(),
        state,
        expires_at,
        pool_id: choice.pool_id,
        hostname: request.hostname(),
    })
}

fn identifier(request: &Request, ctx: &Ctx<'_>) -> Ipv4Addr {
    request.server_id_override().unwrap_or(ctx.identity.server_id)
}

fn destination(request: &Request) -> Destination {
    let ciaddr = request.message.ciaddr();
    match request.relay() {
        Some(relay) => Destination::Relay(relay, request.relay_source_port()),
        None if !ciaddr.is_unspecified() => Destination::Client(ciaddr),
        // Unicast to an address that the client does not answer for yet would need a raw socket; broadcast always works.
        None => Destination::Broadcast,
    }
}

/// A reply with what every reply has.
fn blank(request: &Request, ctx: &Ctx<'_>, kind: MessageType) -> Message {
    let asked = &request.message;
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(asked.xid(), none, none, none, asked.giaddr(), asked.chaddr());
    message.set_opcode(Opcode::BootReply).set_htype(asked.htype()).set_flags(asked.flags());
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(identifier(request, ctx)));
    // RFC 6842: echoed, so that clients behind one hardware address can tell whose answer it is.
    if let Some(id) = request.client_id().filter(|id| !id.is_empty()) {
        options.insert(DhcpOption::ClientIdentifier(id.to_vec()));
    }
    message
}

/// OFFER or ACK of an address.
fn grant(request: &Request, ctx: &Ctx<'_>, kind: MessageType, choice: &Choice) -> Reply {
    let mut message = blank(request, ctx, kind);
    message.set_yiaddr(choice.address);
    if kind == MessageType::Ack {
        message.set_ciaddr(request.message.ciaddr());
    }
    let options = message.opts_mut();
    options.insert(DhcpOption::SubnetMask(choice.subnet.netmask()));
    options.insert(DhcpOption::BroadcastAddr(choice.subnet.broadcast()));
    if let Some(gateway) = choice.gateway {
        options.insert(DhcpOption::Router(vec![gateway]));
    }
    options.insert(DhcpOption::AddressLeaseTime(choice.seconds));
    options.insert(DhcpOption::Renewal(choice.seconds / 2));
    options.insert(DhcpOption::Rebinding((u64::from(choice.seconds) * 7 / 8) as u32));
    if let Some(hostname) = &choice.hostname {
        options.insert(DhcpOption::Hostname(hostname.clone()));
    }
    add_settings(&mut message, ctx);
    add_boot(&mut message, request, ctx);
    Reply { message, relay_info: request.relay_info().map(<[u8]>::to_vec), destination: destination(request) }
}

fn add_settings(message: &mut Message, ctx: &Ctx<'_>) {
    let settings = ctx.view.settings();
    if !settings.dns_servers.is_empty() {
        message.opts_mut().insert(DhcpOption::DomainNameServer(settings.dns_servers.clone()));
    }
    // Option 42 carries addresses; a server given by name cannot be told by DHCP.
    let ntp: Vec<Ipv4Addr> = settings.ntp_servers.iter().filter_map(|s| s.parse().ok()).collect();
    if !ntp.is_empty() {
        message.opts_mut().insert(DhcpOption::NtpServers(ntp));
    }
}

fn add_boot(message: &mut Message, request: &Request, ctx: &Ctx<'_>) {
    let Some(Boot { file, class, pxe }) = boot_for(request, ctx.identity) else { return };
    message.set_siaddr(ctx.identity.tftp_server);
    // Old firmware reads the field, new firmware the option. The field must keep room for its NUL.
    if file.len() < 128 {
        message.set_fname(file.as_bytes());
    }
    let options = message.opts_mut();
    options.insert(DhcpOption::TFTPServerName(ctx.identity.tftp_server.to_string().into_bytes()));
    options.insert(DhcpOption::BootfileName(file.into_bytes()));
    if let Some(class) = class {
        options.insert(DhcpOption::ClassIdentifier(class.as_bytes().to_vec()));
    }
    if pxe {
        // PXE 2.1, PXE_DISCOVERY_CONTROL bit 3: load the given file at once, look for no boot servers.
        options.insert(DhcpOption::VendorExtensions(vec![6, 1, 8, 255]));
        if let Some(id) = request.machine_id().filter(|id| !id.is_empty()) {
            options.insert(DhcpOption::ClientMachineIdentifier(id.to_vec()));
        }
    }
}
