//! Requests from the wire. The bytes are checked here, before the protocol library sees them: it asserts on some
//! malformed options and stops at the first one that it cannot read, where a server has to pass over it.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
};

use dhcproto::{
    Decodable,
    v4::{Message, MessageType},
};
use model::Mac;

/// Bytes before the options: the BOOTP header (RFC 951) and the magic cookie.
const HEADER: usize = 240;
const MAGIC: [u8; 4] = [99, 130, 83, 99];

/// Options by number, as named in RFC 2132 and others.
mod code {
    pub const HOSTNAME: u8 = 12;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER_ID: u8 = 54;
    pub const VENDOR_CLASS: u8 = 60;
    pub const CLIENT_ID: u8 = 61;
    /// RFC 3004.
    pub const USER_CLASS: u8 = 77;
    /// RFC 3046.
    pub const RELAY_INFO: u8 = 82;
    /// RFC 4578.
    pub const ARCHITECTURE: u8 = 93;
    /// RFC 4578.
    pub const MACHINE_ID: u8 = 97;
    /// RFC 3011.
    pub const SUBNET_SELECTION: u8 = 118;
    /// Encapsulated options of iPXE and Etherboot.
    pub const IPXE: u8 = 175;
}

/// Sub-options of the relay agent information option.
mod relay {
    /// RFC 3527.
    pub const LINK_SELECTION: u8 = 5;
    /// RFC 5107.
    pub const SERVER_ID_OVERRIDE: u8 = 11;
    /// RFC 8357.
    pub const SOURCE_PORT: u8 = 19;
}

/// Why bytes are not a request that this server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Shorter than a BOOTP header with a magic cookie.
    #[error("{0} bytes are too short for DHCP")]
    Short(usize),
    /// A reply, or rubbish.
    #[error("not a BOOTREQUEST")]
    NotARequest,
    /// The cookie is missing: plain BOOTP.
    #[error("no DHCP magic cookie")]
    NoCookie,
    /// Only Ethernet addresses are served.
    #[error("hardware type {0} with {1} bytes is not Ethernet")]
    NotEthernet(u8, u8),
    /// Option 53 is missing or unknown.
    #[error("no DHCP message type")]
    NoType,
    /// The library refused the header.
    #[error("malformed header")]
    Malformed,
}

/// A client's message, checked.
#[derive(Clone, Debug)]
pub struct Request {
    /// The fixed header (options are in the accessors below).
    pub message: Message,
    /// Where it came from: the client, or its relay.
    pub source: SocketAddrV4,
    mac: Mac,
    kind: MessageType,
    options: BTreeMap<u8, Vec<u8>>,
}

impl Request {
    /// Check and read a datagram.
    pub fn decode(bytes: &[u8], source: SocketAddrV4) -> Result<Self, PacketError> {
        let (Some(header), Some(rest)) = (bytes.get(..HEADER), bytes.get(HEADER..)) else {
            return Err(PacketError::Short(bytes.len()));
        };
        let &[op, htype, hlen, ..] = header else { return Err(PacketError::Short(bytes.len())) };
        if op != 1 {
            return Err(PacketError::NotARequest);
        }
        if (htype, hlen) != (1, 6) {
            return Err(PacketError::NotEthernet(htype, hlen));
        }
        if header.get(236..240) != Some(&MAGIC) {
            return Err(PacketError::NoCookie);
        }
        let mut options = BTreeMap::new();
        scan(rest, &mut options);
        // RFC 2131 section 4.1: `file`, then `sname`, may hold more options.
        let overload = options.get(&code::OVERLOAD).and_then(|v| v.first().copied()).unwrap_or(0);
        if overload & 1 != 0 {
            scan(header.get(108..236).unwrap_or_default(), &mut options);
        }
        if overload & 2 != 0 {
            scan(header.get(44..108).unwrap_or_default(), &mut options);
        }
        let kind = match options.get(&code::MESSAGE_TYPE).map(Vec::as_slice) {
            Some([n @ 1..=8]) => MessageType::from(*n),
            _ => return Err(PacketError::NoType),
        };
        let mut clean = header.to_vec();
        // Names from the client are of no use to a server, and may hold options.
        if let Some(names) = clean.get_mut(44..236) {
            names.fill(0);
        }
        clean.push(255);
        let message = Message::from_bytes(&clean).map_err(|_| PacketError::Malformed)?;
        let mac = spelled(message.chaddr());
        Ok(Self { message, source, mac, kind, options })
    }

    /// DISCOVER, REQUEST, ….
    pub fn kind(&self) -> MessageType {
        self.kind
    }

    /// The client's MAC in the project's spelling.
    pub fn mac(&self) -> &Mac {
        &self.mac
    }

    /// Raw bytes of an option.
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.get(&code).map(Vec::as_slice)
    }

    fn address(&self, code: u8) -> Option<Ipv4Addr> {
        <[u8; 4]>::try_from(self.option(code)?).ok().map(Ipv4Addr::from).filter(|a| !a.is_unspecified())
    }

    /// Option 50.
    pub fn requested_address(&self) -> Option<Ipv4Addr> {
        self.address(code::REQUESTED_ADDRESS)
    }

    /// Option 54.
    pub fn server_id(&self) -> Option<Ipv4Addr> {
        self.address(code::SERVER_ID)
    }

    /// Option 12, if it is a sensible name.
    pub fn hostname(&self) -> Option<String> {
        let text = std::str::from_utf8(self.option(code::HOSTNAME)?).ok()?;
        model::validate::hostname("hostname", text.trim_end_matches('\0')).ok()
    }

    /// Option 61, to be echoed (RFC 6842).
    pub fn client_id(&self) -> Option<&[u8]> {
        self.option(code::CLIENT_ID)
    }

    /// Option 60.
    pub fn vendor_class(&self) -> &[u8] {
        self.option(code::VENDOR_CLASS).unwrap_or_default()
    }

    /// Option 97.
    pub fn machine_id(&self) -> Option<&[u8]> {
        self.option(code::MACHINE_ID)
    }

    /// Option 93: architectures (RFC 5970, IANA), best first.
    pub fn architectures(&self) -> impl Iterator<Item = u16> + '_ {
        self.option(code::ARCHITECTURE).unwrap_or_default().as_chunks::<2>().0.iter().map(|p| u16::from_be_bytes(*p))
    }

    /// Whether iPXE asks: option 175 is there, or the user class is `iPXE` (bare, or length-prefixed as in RFC 3004).
    pub fn is_ipxe(&self) -> bool {
        self.options.contains_key(&code::IPXE)
            || self.option(code::USER_CLASS).is_some_and(|c| c == b"iPXE" || c.windows(5).any(|w| w == b"\x04iPXE"))
    }

    /// The relay's address; `None` for a client on our own link.
    pub fn relay(&self) -> Option<Ipv4Addr> {
        Some(self.message.giaddr()).filter(|a| !a.is_unspecified())
    }

    /// The relay's name for the port that the client is behind (option 82, suboption 1).
    pub fn circuit_id(&self) -> Option<&[u8]> {
        self.relay_suboption(1)
    }

    /// Option 82 as it came; it goes back unchanged (RFC 3046 section 2.2). Believed only from a relay.
    pub fn relay_info(&self) -> Option<&[u8]> {
        self.relay().and_then(|_| self.option(code::RELAY_INFO))
    }

    fn relay_suboption(&self, wanted: u8) -> Option<&[u8]> {
        let mut rest = self.relay_info()?;
        while let [code, len, tail @ ..] = rest {
            let value = tail.get(..usize::from(*len))?;
            if *code == wanted {
                return Some(value);
            }
            rest = tail.get(usize::from(*len)..)?;
        }
        None
    }

    fn relay_address(&self, wanted: u8) -> Option<Ipv4Addr> {
        <[u8; 4]>::try_from(self.relay_suboption(wanted)?).ok().map(Ipv4Addr::from).filter(|a| !a.is_unspecified())
    }

    /// An address of the link that the client is on: link selection (RFC 3527), subnet selection (RFC 3011), or the
    /// relay's own address.
    pub fn link(&self) -> Option<Ipv4Addr> {
        self.relay_address(relay::LINK_SELECTION)
            .or_else(|| self.address(code::SUBNET_SELECTION))
            .or_else(|| self.relay())
    }

    /// The server identifier that the relay wants clients to see (RFC 5107).
    pub fn server_id_override(&self) -> Option<Ipv4Addr> {
        self.relay_address(relay::SERVER_ID_OVERRIDE)
    }

    /// The relay's own port, if it asked to be answered there (RFC 8357).
    pub fn relay_source_port(&self) -> Option<u16> {
        self.relay_suboption(relay::SOURCE_PORT).map(|_| self.source.port())
    }
}

/// A hardware address in the project's spelling: lower case with colons.
fn spelled(bytes: &[u8]) -> Mac {
    let digit = |n: u8| char::from_digit(n.into(), 16).unwrap_or('0');
    let mut text = Mac::with_capacity(bytes.len() * 3);
    for (i, b) in bytes.iter().enumerate() {
        if i > 0 {
            text.push(':');
        }
        text.push(digit(b >> 4));
        text.push(digit(b & 15));
    }
    text
}

/// Read options; fragments of one option are joined (RFC 3396). Stops at the end mark or at a truncated option.
fn scan(mut rest: &[u8], into: &mut BTreeMap<u8, Vec<u8>>) {
    loop {
        rest = match rest {
            [0, tail @ ..] => tail,
            [255, ..] | [] => return,
            [code, len, tail @ ..] => {
                let len = usize::from(*len);
                let (Some(value), Some(next)) = (tail.get(..len), tail.get(len..)) else { return };
                into.entry(*code).or_default().extend_from_slice(value);
                next
            }
            [_] => return,
        };
    }
}
