//! The packets of RMCP+ (IPMI 2.0 specification, chapter 13) and their cryptography: cipher suites 3 and 17.

use aes::{
    Aes128,
    cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit},
};
use crypto::hmac::{self, Hash};

/// Payload of an IPMI message.
pub(super) const IPMI: u8 = 0x00;
/// Open session request and its answer.
pub(super) const OPEN: u8 = 0x10;
pub(super) const OPENED: u8 = 0x11;
/// The four messages of RAKP.
pub(super) const RAKP1: u8 = 0x12;
pub(super) const RAKP2: u8 = 0x13;
pub(super) const RAKP3: u8 = 0x14;
pub(super) const RAKP4: u8 = 0x15;

const BLOCK: usize = 16;

/// Algorithms of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suite {
    /// 3: RAKP-HMAC-SHA1, HMAC-SHA1-96, AES-CBC-128. All have it.
    Sha1,
    /// 17: RAKP-HMAC-SHA256, HMAC-SHA256-128, AES-CBC-128.
    Sha256,
}

impl Suite {
    /// Numbers of authentication, integrity and confidentiality.
    pub(super) fn numbers(self) -> [u8; 3] {
        match self {
            Self::Sha1 => [0x01, 0x01, 0x01],
            Self::Sha256 => [0x03, 0x04, 0x01],
        }
    }

    fn hash(self) -> Hash {
        match self {
            Self::Sha1 => Hash::Sha1,
            Self::Sha256 => Hash::Sha256,
        }
    }

    /// Bytes of the authentication code in a packet and in RAKP 4.
    pub(super) fn short(self) -> usize {
        match self {
            Self::Sha1 => 12,
            Self::Sha256 => 16,
        }
    }

    pub(super) fn mac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        hmac::sign(self.hash(), key, parts)
    }
}

/// Compares without telling by its duration where the first difference is.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

/// Keys of a session and what both ends have agreed on.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) suite: Suite,
    pub(super) sik: Vec<u8>,
    k1: Vec<u8>,
    cipher: Aes128,
}

/// What both ends know when they have exchanged RAKP 1 and 2.
pub(super) struct Exchange<'a> {
    pub(super) suite: Suite,
    pub(super) user: &'a [u8],
    pub(super) password: &'a [u8],
    pub(super) role: u8,
    /// Session ids of the console and of the BMC.
    pub(super) console: [u8; 4],
    pub(super) bmc: [u8; 4],
    /// Their random numbers.
    pub(super) console_random: [u8; 16],
    pub(super) bmc_random: [u8; 16],
    pub(super) guid: [u8; 16],
}

impl Exchange<'_> {
    fn name(&self) -> Vec<u8> {
        let mut name = vec![self.role, self.user.len() as u8];
        name.extend_from_slice(self.user);
        name
    }

    /// By which the BMC proves in RAKP 2 that it knows the password.
    pub(super) fn rakp2(&self) -> Vec<u8> {
        let parts: [&[u8]; 6] =
            [&self.console, &self.bmc, &self.console_random, &self.bmc_random, &self.guid, &self.name()];
        self.suite.mac(self.password, &parts)
    }

    /// By which we prove in RAKP 3 that we know it.
    pub(super) fn rakp3(&self) -> Vec<u8> {
        self.suite.mac(self.password, &[&self.bmc_random, &self.console, &self.name()])
    }

    /// The keys. Without a key of its own (Kg) a BMC uses the user's.
    pub(super) fn keys(&self) -> Keys {
        let sik = self.suite.mac(self.password, &[&self.console_random, &self.bmc_random, &self.name()]);
        // Twenty bytes, whatever the algorithm.
        let more = |n: u8| self.suite.mac(&sik, &[&[n; 20]]);
        let (k1, k2) = (more(1), more(2));
        let mut key = [0; BLOCK];
        key.copy_from_slice(&k2[..BLOCK]);
        Keys { suite: self.suite, k1, cipher: Aes128::new(&Array(key)), sik }
    }

    /// By which the BMC proves in RAKP 4 that it has the same keys.
    pub(super) fn rakp4(&self, keys: &Keys) -> Vec<u8> {
        let mut code = self.suite.mac(&keys.sik, &[&self.console_random, &self.bmc, &self.guid]);
        code.truncate(self.suite.short());
        code
    }
}

impl Keys {
    fn encrypt(&self, iv: [u8; BLOCK], clear: &[u8]) -> Vec<u8> {
        let mut data = clear.to_vec();
        let pad = (BLOCK - (data.len() + 1) % BLOCK) % BLOCK;
        data.extend((1..=pad).map(|n| n as u8));
        data.push(pad as u8);
        let (mut out, mut last) = (iv.to_vec(), iv);
        for chunk in data.chunks_exact(BLOCK) {
            let mut block = Array([0; BLOCK]);
            for ((b, c), l) in block.iter_mut().zip(chunk).zip(last) {
                *b = c ^ l;
            }
            self.cipher.encrypt_block(&mut block);
            last = block.into();
            out.extend_from_slice(&last);
        }
        out
    }

    fn decrypt(&self, data: &[u8]) -> Option<Vec<u8>> {
        if data.len() < 2 * BLOCK || !data.len().is_multiple_of(BLOCK) {
            return None;
        }
        let mut clear = Vec::with_capacity(data.len());
        for (before, chunk) in data.chunks_exact(BLOCK).zip(data[BLOCK..].chunks_exact(BLOCK)) {
            let mut block = Array([0; BLOCK]);
            block.copy_from_slice(chunk);
            self.cipher.decrypt_block(&mut block);
            clear.extend(block.iter().zip(before).map(|(b, p)| b ^ p));
        }
        let pad = usize::from(clear.pop()?);
        let rest = clear.len().checked_sub(pad)?;
        let good = pad < BLOCK && clear[rest..].iter().enumerate().all(|(i, b)| usize::from(*b) == i + 1);
        clear.truncate(rest);
        good.then_some(clear)
    }
}

/// A packet that has come in and is genuine.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) kind: u8,
    pub(super) session: [u8; 4],
    pub(super) sequence: u32,
    pub(super) payload: Vec<u8>,
}

/// A packet to send: in clear, or encrypted and signed.
pub(super) fn pack(kind: u8, session: [u8; 4], sequence: u32, payload: &[u8], keys: Option<&Keys>) -> Vec<u8> {
    let payload = match keys {
        Some(keys) => keys.encrypt(rand::random(), payload),
        None => payload.to_vec(),
    };
    let mut packet = vec![0x06, 0x00, 0xff, 0x07, 0x06, if keys.is_some() { kind | 0xc0 } else { kind }];
    packet.extend_from_slice(&session);
    packet.extend_from_slice(&sequence.to_le_bytes());
    packet.extend_from_slice(&(payload.len() as u16).to_le_bytes());
    packet.extend_from_slice(&payload);
    if let Some(keys) = keys {
        // What is signed begins after the RMCP header and has a multiple of four bytes, with the two that follow.
        let pad = (4 - (packet.len() - 4 + 2) % 4) % 4;
        packet.extend(std::iter::repeat_n(0xff, pad));
        packet.extend_from_slice(&[pad as u8, 0x07]);
        let code = keys.suite.mac(&keys.k1, &[&packet[4..]]);
        packet.extend_from_slice(&code[..keys.suite.short()]);
    }
    packet
}

/// What a packet says; `None` for one that is broken, forged, or of another protocol. With keys only signed ones count.
pub(super) fn unpack(bytes: &[u8], keys: Option<&Keys>) -> Option<Packet> {
    let bytes = bytes.strip_prefix(&[0x06, 0x00])?;
    // Sequence number and class of RMCP, format of the session.
    let (&class, &format, &kind) = (bytes.get(1)?, bytes.get(2)?, bytes.get(3)?);
    if class != 0x07 || format != 0x06 {
        return None;
    }
    let session: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
    let sequence = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?);
    let length = usize::from(u16::from_le_bytes(bytes.get(12..14)?.try_into().ok()?));
    let payload = bytes.get(14..14 + length)?;
    let payload = match keys {
        None if kind & 0xc0 == 0 => payload.to_vec(),
        Some(keys) if kind & 0xc0 == 0xc0 => {
            let end = bytes.len().checked_sub(keys.suite.short())?;
            let code = keys.suite.mac(&keys.k1, &[bytes.get(2..end)?]);
            if !same(&code[..keys.suite.short()], &bytes[end..]) {
                return None;
            }
            keys.decrypt(payload)?
        }
        _ => return None,
    };
    Some(Packet { kind: kind & 0x3f, session, sequence, payload })
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, b| sum.wrapping_add(*b)).wrapping_neg()
}

/// A message to the BMC.
pub(super) fn request(function: u8, command: u8, sequence: u8, data: &[u8]) -> Vec<u8> {
    message([0x20, function << 2], [0x81, sequence << 2, command], data)
}

/// An answer of the BMC, `data` beginning with the completion code.
#[cfg(test)]
pub(super) fn answer(function: u8, command: u8, sequence: u8, data: &[u8]) -> Vec<u8> {
    message([0x81, (function | 1) << 2], [0x20, sequence << 2, command], data)
}

fn message(head: [u8; 2], middle: [u8; 3], data: &[u8]) -> Vec<u8> {
    let mut all = head.to_vec();
    all.push(checksum(&head));
    let from = all.len();
    all.extend_from_slice(&middle);
    all.extend_from_slice(data);
    all.push(checksum(&all[from..]));
    all
}

/// Function, command, sequence number and data of a message; `None` for a broken one.
pub(super) fn read(message: &[u8]) -> Option<(u8, u8, u8, &[u8])> {
    if message.len() < 7 || checksum(&message[..3]) != 0 || checksum(&message[3..]) != 0 {
        return None;
    }
    Some((message[1] >> 2, message[5], message[4] >> 2, &message[6..message.len() - 1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(suite: Suite) -> Exchange<'static> {
        Exchange {
            suite,
            user: b"admin",
            password: b"secret",
            role: 0x14,
            console: [1, 2, 3, 4],
            bmc: [5, 6, 7, 8],
            console_random: [9; 16],
            bmc_random: [10; 16],
            guid: [11; 16],
        }
    }

    #[test]
    fn what_is_packed_is_unpacked_and_what_was_touched_is_not() {
        for suite in [Suite::Sha1, Suite::Sha256] {
            let keys = exchange(suite).keys();
            for length in 0..40u8 {
                let clear: Vec<u8> = (0..length).collect();
                let packet = pack(IPMI, [5, 6, 7, 8], 3, &clear, Some(&keys));
                let found = unpack(&packet, Some(&keys)).unwrap();
                assert_eq!((found.kind, found.sequence, found.payload), (IPMI, 3, clear));
                assert_eq!(unpack(&packet, None), None, "encrypted, and nobody has the key");
                for at in 4..packet.len() {
                    let mut touched = packet.clone();
                    touched[at] ^= 1;
                    assert_eq!(unpack(&touched, Some(&keys)), None, "byte {at}");
                    assert_eq!(unpack(&packet[..at], Some(&keys)), None, "cut at {at}");
                }
            }
            assert_eq!(unpack(&pack(IPMI, [5, 6, 7, 8], 3, &[1], None), Some(&keys)), None, "unsigned in a session");
        }
    }

    #[test]
    fn messages_have_their_checksums() {
        // Get Chassis Status as every trace shows it.
        assert_eq!(request(0x00, 0x01, 1, &[]), [0x20, 0x00, 0xe0, 0x81, 0x04, 0x01, 0x7a]);
        let answer = answer(0x00, 0x01, 1, &[0, 0x21]);
        assert_eq!(read(&answer), Some((0x01, 0x01, 1, &[0, 0x21][..])));
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[0; 6]), None);
    }
}
