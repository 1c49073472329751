//! Packets of TFTP.

use bytes::Bytes;

/// Options of a request or acknowledgement (RFC 2347). Unknown ones are passed over, as the RFC asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Bytes a block, 8 to 65,464 (RFC 2348).
    pub blksize: Option<u16>,
    /// Seconds until a retransmission, 1 to 255 (RFC 2349).
    pub timeout: Option<u8>,
    /// Bytes of the file; 0 in a request (RFC 2349).
    pub tsize: Option<u64>,
    /// Blocks sent before an acknowledgement is awaited, 1 to 65,535 (RFC 7440).
    pub windowsize: Option<u16>,
}

impl Options {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Error codes of RFC 1350 and RFC 2347.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ErrorCode {
    /// See the message.
    Undefined = 0,
    /// No such file.
    NotFound = 1,
    /// Not allowed.
    AccessViolation = 2,
    /// Illegal operation.
    Illegal = 4,
    /// The options cannot be agreed on.
    Options = 8,
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// RRQ.
    Read {
        /// File name as sent.
        file: String,
        /// Transfer mode in lower case.
        mode: String,
        /// Options.
        options: Options,
    },
    /// WRQ; always refused.
    Write,
    /// DATA.
    Data(u16, Bytes),
    /// ACK.
    Ack(u16),
    /// ERROR.
    Error(u16, String),
    /// OACK.
    OptionAck(Options),
}

/// Bytes that are no TFTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a TFTP packet")]
pub struct PacketError;

fn text(rest: &mut &[u8]) -> Option<String> {
    let end = rest.iter().position(|b| *b == 0)?;
    let word = std::str::from_utf8(rest.get(..end)?).ok()?.to_owned();
    *rest = rest.get(end + 1..)?;
    Some(word)
}

fn options(mut rest: &[u8]) -> Options {
    let mut found = Options::default();
    while let (Some(name), Some(value)) = (text(&mut rest), text(&mut rest)) {
        match name.to_ascii_lowercase().as_str() {
            "blksize" => found.blksize = value.parse().ok().filter(|v| (8..=65_464).contains(v)),
            "timeout" => found.timeout = value.parse().ok().filter(|v| *v > 0),
            "tsize" => found.tsize = value.parse().ok(),
            "windowsize" => found.windowsize = value.parse().ok().filter(|v| *v > 0),
            _ => {}
        }
    }
    found
}

impl Packet {
    /// From a datagram.
    pub fn parse(bytes: &[u8]) -> Result<Self, PacketError> {
        let [0, op, rest @ ..] = bytes else { return Err(PacketError) };
        let number = || rest.first_chunk::<2>().map(|n| u16::from_be_bytes(*n)).ok_or(PacketError);
        let tail = rest.get(2..).unwrap_or_default();
        match op {
            1 => {
                let mut rest = rest;
                let file = text(&mut rest).ok_or(PacketError)?;
                let mode = text(&mut rest).ok_or(PacketError)?.to_ascii_lowercase();
                Ok(Self::Read { file, mode, options: options(rest) })
            }
            2 => Ok(Self::Write),
            3 => Ok(Self::Data(number()?, Bytes::copy_from_slice(tail))),
            4 => Ok(Self::Ack(number()?)),
            5 => Ok(Self::Error(number()?, text(&mut &*tail).unwrap_or_default())),
            6 => Ok(Self::OptionAck(options(rest))),
            _ => Err(PacketError),
        }
    }

    /// To a datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0];
        match self {
            Self::Read { file, mode, options } => {
                out.push(1);
                push_text(&mut out, file);
                push_text(&mut out, mode);
                push_options(&mut out, options);
            }
            Self::Write => out.push(2),
            Self::Data(block, data) => {
                out.reserve_exact(data.len() + 3);
                out.push(3);
                out.extend_from_slice(&block.to_be_bytes());
                out.extend_from_slice(data);
            }
            Self::Ack(block) => {
                out.push(4);
                out.extend_from_slice(&block.to_be_bytes());
            }
            Self::Error(code, message) => {
                out.push(5);
                out.extend_from_slice(&code.to_be_bytes());
                push_text(&mut out, message);
            }
            Self::OptionAck(options) => {
                out.push(6);
                push_options(&mut out, options);
            }
        }
        out
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().filter(|b| *b != 0));
    out.push(0);
}

fn push_options(out: &mut Vec<u8>, options: &Options) {
    let pairs = [
        ("blksize", options.blksize.map(u64::from)),
        ("timeout", options.timeout.map(u64::from)),
        ("tsize", options.tsize),
        ("windowsize", options.windowsize.map(u64::from)),
    ];
    for (name, value) in pairs {
        if let Some(value) = value {
            push_text(out, name);
            push_text(out, &value.to_string());
        }
    }
}
