//! Neighbours heard by LLDP: switches say who they are every few seconds, on every port.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use model::switch::LldpNeighbor;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recvfrom, socket_with};

use crate::{say, sys};

const ETHERTYPE: u16 = 0x88cc;
const HEADER: usize = 14;

/// What is heard within this time, by interface. Ends early once every interface has been heard.
pub(super) fn listen(names: &[String], time: Duration) -> HashMap<String, LldpNeighbor> {
    let mut heard = HashMap::new();
    if time.is_zero() || names.is_empty() {
        return heard;
    }
    let protocol = std::num::NonZeroU32::new(u32::from(ETHERTYPE.to_be())).map(Protocol::from_raw);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = match socket_with(AddressFamily::PACKET, SocketType::RAW, flags, protocol) {
        Ok(socket) => socket,
        Err(e) => {
            say(format_args!("cannot listen for LLDP: {e}"));
            return heard;
        }
    };
    let end = Instant::now() + time;
    let mut buffer = vec![0; 9216];
    while Instant::now() < end && heard.len() < names.len() {
        let Ok((_, length, from)) = recvfrom(&socket, &mut buffer[..], RecvFlags::empty()) else {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        let index = from.as_ref().and_then(sys::interface_index);
        let name = index.and_then(|i| rustix::net::netdevice::index_to_name(&socket, i).ok());
        let Some(name) = name.filter(|n| names.contains(n)) else { continue };
        if let Some(neighbour) = buffer.get(HEADER..length).and_then(parse) {
            heard.insert(name, neighbour);
        }
    }
    heard
}

/// Text of an identifier that may also be an address.
fn identifier(kind: u8, mac_kind: u8, value: &[u8]) -> String {
    if kind == mac_kind && value.len() == 6 {
        return value.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":");
    }
    clean(value)
}

fn clean(value: &[u8]) -> String {
    String::from_utf8_lossy(value).chars().filter(|c| !c.is_control()).take(255).collect::<String>().trim().to_owned()
}

/// Reads one announcement (IEEE 802.1AB): chassis, port, and the system's name when it is told.
fn parse(mut rest: &[u8]) -> Option<LldpNeighbor> {
    let mut found = LldpNeighbor { chassis: String::new(), system_name: String::new(), port: String::new() };
    while let [high, low, tail @ ..] = rest {
        let (kind, length) = (high >> 1, usize::from(high & 1) << 8 | usize::from(*low));
        let value = tail.get(..length)?;
        rest = &tail[length..];
        match (kind, value) {
            (0, _) => break,
            (1, [subtype, id @ ..]) => found.chassis = identifier(*subtype, 4, id),
            (2, [subtype, id @ ..]) => found.port = identifier(*subtype, 3, id),
            (5, name) => found.system_name = clean(name),
            _ => {}
        }
    }
    (!found.chassis.is_empty() && !found.port.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop")]
    use super::*;

    fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
        [&[kind << 1 | (value.len() >> 8) as u8, value.len() as u8], value].concat()
    }

    #[test]
    fn an_announcement_is_read() {
        let frame = [
            tlv(1, &[4, 2, 0, 0, 0, 0xab, 1]),
            tlv(2, b"\x05swp3"),
            tlv(3, &[0, 120]),
            tlv(5, b"leaf1"),
            tlv(0, b""),
            vec![0; 9],
        ]
        .concat();
        let found = parse(&frame).unwrap();
        assert_eq!((found.chassis.as_str(), found.port.as_str()), ("02:00:00:00:ab:01", "swp3"));
        assert_eq!(found.system_name, "leaf1");
    }

    #[test]
    fn what_is_cut_or_empty_is_nothing() {
        assert!(parse(&[]).is_none());
        assert!(parse(&tlv(1, b"\x07x")).is_none());
        let cut = [tlv(1, b"\x07x"), tlv(2, b"\x05swp3")].concat();
        assert!(parse(&cut[..cut.len() - 1]).is_none());
    }
}
