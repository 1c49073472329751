//! TFTP client of the firmware (RFC 1350, 2347 to 2349, 7440).

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{net::UdpSocket, time::timeout};

use super::net::Port;
use crate::fault::{Action, Face};

const BLOCK: usize = 1428;
const WINDOW: u16 = 4;
const WAIT: Duration = Duration::from_secs(1);
const TRIES: u32 = 5;
/// Longest file that firmware would take.
const LIMIT: usize = 64 << 20;

fn request(file: &str) -> Vec<u8> {
    let mut packet = vec![0, 1];
    let window = WINDOW.to_string();
    let block = BLOCK.to_string();
    for field in [file, "octet", "tsize", "0", "blksize", &block, "windowsize", &window] {
        packet.extend_from_slice(field.as_bytes());
        packet.push(0);
    }
    packet
}

fn ack(block: u16) -> [u8; 4] {
    let [high, low] = block.to_be_bytes();
    [0, 4, high, low]
}

#[derive(Debug, Default, PartialEq)]
struct Options {
    block: Option<usize>,
    window: Option<u16>,
    size: Option<usize>,
}

/// Options of an OACK; `None` when it is malformed.
fn options(packet: &[u8]) -> Option<Options> {
    let fields: Vec<&str> = std::str::from_utf8(packet.strip_suffix(&[0])?).ok()?.split('\0').collect();
    let mut options = Options::default();
    for pair in fields.chunks(2) {
        let [name, value] = pair else { return None };
        match name.to_ascii_lowercase().as_str() {
            "blksize" => options.block = Some(value.parse().ok().filter(|size| (8..=BLOCK).contains(size))?),
            "windowsize" => options.window = Some(value.parse().ok().filter(|size| (1..=WINDOW).contains(size))?),
            "tsize" => options.size = Some(value.parse().ok()?),
            _ => return None,
        }
    }
    Some(options)
}

/// Reads a whole file. The size announced by the server must be the size received.
pub async fn read(port: &Port, server: Ipv4Addr, file: &str) -> Result<Vec<u8>, String> {
    let world = port.world();
    let target = SocketAddr::from((server, world.config.tftp_port));
    let fail = |what: &str| format!("TFTP tftp://{target}/{file}: {what}");
    let (mut lost, mut cut) = (false, None);
    for action in port.strike(Face::Tftp, &format!("RRQ {file}")) {
        match action {
            Action::Delay { ms } => tokio::time::sleep(Duration::from_millis(ms)).await,
            Action::Drop | Action::Hang => lost = true,
            Action::Error { message, .. } => return Err(fail(message.as_deref().unwrap_or("error 0"))),
            Action::Truncate { percent } => cut = Some(usize::from(percent)),
            _ => {}
        }
    }
    world.events.count("tftp_requests");
    let bind = Ipv4Addr::LOCALHOST;
    let socket = UdpSocket::bind((bind, 0)).await.map_err(|error| fail(&error.to_string()))?;
    let first = request(file);
    let mut last = first.clone();
    let mut data: Vec<u8> = Vec::new();
    let (mut peer, mut negotiated) = (None, Options::default());
    let (mut expected, mut in_window, mut tries) = (1_u16, 0_u16, 0);
    let mut buffer = vec![0; BLOCK + 64];
    if port.online() && !lost {
        let _ = socket.send_to(&first, target).await;
    }
    loop {
        let received = timeout(WAIT, socket.recv_from(&mut buffer)).await;
        let Ok(Ok((length, from))) = received else {
            tries += 1;
            if tries > TRIES || lost {
                return Err(fail("timed out"));
            }
            in_window = 0;
            if received.is_ok() {
                // "Port unreachable" comes at once; a lost packet would have taken its time.
                tokio::time::sleep(WAIT / 4).await;
            }
            if port.online() {
                let _ = socket.send_to(&last, peer.unwrap_or(target)).await;
            }
            continue;
        };
        // The first answer decides the server's transfer port; anything else is not ours.
        if from.ip() != target.ip() || peer.is_some_and(|peer| peer != from) || length < 4 || !port.online() {
            continue;
        }
        let packet = &buffer[..length];
        match packet[1] {
            6 if peer.is_none() => {
                let Some(options) = options(&packet[2..]) else {
                    let _ = socket.send_to(b"\x00\x05\x00\x08bad options\x00", from).await;
                    return Err(fail("server answered options that were not asked for"));
                };
                negotiated = options;
                peer = Some(from);
                last = ack(0).to_vec();
                let _ = socket.send_to(&last, from).await;
            }
            3 => {
                peer = Some(from);
                let block = u16::from_be_bytes([packet[2], packet[3]]);
                if block != expected {
                    // Out of order: name the last good block, once a window.
                    if in_window == 0 {
                        let _ = socket.send_to(&last, from).await;
                    }
                    in_window = (in_window + 1) % negotiated.window.unwrap_or(1);
                    continue;
                }
                tries = 0;
                data.extend_from_slice(&packet[4..]);
                if data.len() > LIMIT {
                    return Err(fail("file is too large"));
                }
                if let (Some(percent), Some(size)) = (cut, negotiated.size)
                    && data.len() * 100 >= size.saturating_mul(percent)
                {
                    return Err(fail("connection lost"));
                }
                let end = packet.len() - 4 < negotiated.block.unwrap_or(512);
                in_window += 1;
                last = ack(block).to_vec();
                if end || in_window >= negotiated.window.unwrap_or(1) {
                    in_window = 0;
                    let _ = socket.send_to(&last, from).await;
                }
                if end {
                    break;
                }
                expected = block.wrapping_add(1);
            }
            5 => {
                let text = String::from_utf8_lossy(&packet[4..]);
                return Err(fail(&format!("error {}: {}", packet[3], text.trim_end_matches('\0'))));
            }
            _ => {}
        }
    }
    match negotiated.size {
        Some(size) if size != data.len() => Err(fail(&format!("{} bytes received, {size} announced", data.len()))),
        _ => Ok(data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        assert_eq!(
            options(b"tsize\x00123\x00blksize\x001428\x00windowsize\x004\x00"),
            Some(Options { block: Some(1428), window: Some(4), size: Some(123) })
        );
        for bad in [&b"blksize\x0065464\x00"[..], b"blksize\0", b"tsize\0x\0", b"colour\0red\0", b"", b"\xff\0\0"] {
            assert_eq!(options(bad), None, "{bad:?}");
        }
    }
}
