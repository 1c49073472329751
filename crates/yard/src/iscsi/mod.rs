//! iSCSI (RFC 7143), as much as booting from a volume takes: one connection, logins with or without CHAP, whole blocks. An initiator that
//! speaks to any target, and a target that the simulated arrays show.

pub mod initiator;
pub mod target;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Bytes of a block.
pub const BLOCK: usize = 512;
/// Longest data of one PDU that is taken.
const LONGEST: usize = 1 << 20;

/// A protocol data unit: its header and its data.
#[derive(Clone, Debug)]
pub struct Pdu {
    /// Basic header segment.
    pub head: [u8; 48],
    /// Data segment, without padding.
    pub data: Vec<u8>,
}

impl Pdu {
    /// One of this operation.
    pub fn new(operation: u8, flags: u8) -> Self {
        let mut head = [0; 48];
        (head[0], head[1]) = (operation, flags);
        Self { head, data: Vec::new() }
    }

    /// Operation without the mark of immediate delivery.
    pub fn operation(&self) -> u8 {
        self.head[0] & 0x3f
    }

    /// Four bytes of the header as a number.
    pub fn number(&self, at: usize) -> u32 {
        self.head.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
    }

    /// Sets four bytes of the header.
    pub fn set(&mut self, at: usize, value: u32) {
        if let Some(slot) = self.head.get_mut(at..at + 4) {
            slot.copy_from_slice(&value.to_be_bytes());
        }
    }

    /// Names and values of a login or text.
    pub fn keys(&self) -> Vec<(String, String)> {
        let text = String::from_utf8_lossy(&self.data);
        text.split('\0').filter_map(|pair| pair.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
    }

    /// Sets them.
    pub fn set_keys(&mut self, keys: &[(&str, String)]) {
        self.data = keys.iter().flat_map(|(n, v)| format!("{n}={v}\0").into_bytes()).collect();
    }
}

/// Reads one.
pub async fn read<R: AsyncReadExt + Unpin>(stream: &mut R) -> std::io::Result<Pdu> {
    let mut head = [0; 48];
    stream.read_exact(&mut head).await?;
    let more = usize::from(head[4]) * 4;
    let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
    if length > LONGEST {
        return Err(std::io::Error::other("a PDU is longer than agreed"));
    }
    let mut rest = vec![0; more + length.next_multiple_of(4)];
    stream.read_exact(&mut rest).await?;
    Ok(Pdu { head, data: rest.get(more..more + length).unwrap_or_default().to_vec() })
}

/// Writes one.
pub async fn write<W: AsyncWriteExt + Unpin>(stream: &mut W, mut pdu: Pdu) -> std::io::Result<()> {
    let length = u32::try_from(pdu.data.len()).unwrap_or(0).to_be_bytes();
    pdu.head[4] = 0;
    pdu.head[5..8].copy_from_slice(&length[1..]);
    let mut bytes = pdu.head.to_vec();
    bytes.extend_from_slice(&pdu.data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    stream.write_all(&bytes).await
}

/// A CHAP response (RFC 1994) with MD5, the only digest that everybody has.
pub fn chap(identifier: u8, secret: &str, challenge: &[u8]) -> [u8; 16] {
    let mut text = vec![identifier];
    text.extend_from_slice(secret.as_bytes());
    text.extend_from_slice(challenge);
    md5::compute(text).0
}

/// Bytes of `0x…`.
fn hex_value(text: &str) -> Option<Vec<u8>> {
    hex::decode(text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?).ok()
}

/// The unit's number in eight bytes.
fn lun_bytes(lun: u32) -> [u8; 8] {
    let [_, _, high, low] = lun.to_be_bytes();
    [if lun > 255 { 0x40 | high } else { 0 }, low, 0, 0, 0, 0, 0, 0]
}
