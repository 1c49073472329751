//! TFTP end to end with a client of the test's own, which can lose packets.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use netboot::tftp::{Options, Packet, Source, TftpConfig, TftpServer};
use proptest::prelude::*;
use tokio::{net::UdpSocket, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

struct Server(SocketAddr, CancellationToken, JoinHandle<()>);

impl Server {
    async fn start(files: &[(&str, Vec<u8>)]) -> Self {
        let files: HashMap<_, _> = files.iter().map(|(n, b)| ((*n).to_owned(), Bytes::from(b.clone()))).collect();
        let config = TftpConfig {
            retransmit: Duration::from_millis(20),
            retries: 6,
            ..TftpConfig::new("127.0.0.1:0".parse().unwrap())
        };
        let server = TftpServer::bind(config, Source::Memory(files)).await.unwrap();
        let (address, stop) = (server.local_addr().unwrap(), CancellationToken::new());
        Self(address, stop.clone(), tokio::spawn(server.run(stop)))
    }

    async fn stop(self) {
        self.1.cancel();
        timeout(Duration::from_secs(5), self.2).await.unwrap().unwrap();
    }
}

/// A client that loses the n-th received or sent packets that `lose` names.
async fn fetch(server: SocketAddr, file: &str, options: Options, lose: fn(usize) -> bool) -> Result<Vec<u8>, String> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let request = Packet::Read { file: file.into(), mode: "octet".into(), options: options.clone() };
    socket.send_to(&request.encode(), server).await.unwrap();
    let (mut blksize, mut window) = (512, 1u16);
    let (mut data, mut block, mut in_window, mut count) = (Vec::new(), 0u16, 0, 0);
    let mut buffer = vec![0; 70_000];
    loop {
        let received = timeout(Duration::from_secs(5), socket.recv_from(&mut buffer)).await.map_err(|_| "silence")?;
        let (n, from) = received.unwrap();
        count += 1;
        if lose(count) {
            continue;
        }
        let mut ack = None;
        let mut end = false;
        match Packet::parse(&buffer[..n]).unwrap() {
            Packet::OptionAck(agreed) => {
                blksize = agreed.blksize.unwrap_or(512).into();
                window = agreed.windowsize.unwrap_or(1);
                ack = Some(0);
            }
            Packet::Data(number, bytes) if number == block.wrapping_add(1) => {
                end = bytes.len() < blksize;
                data.extend(bytes);
                block = number;
                in_window += 1;
                if end || in_window >= window {
                    ack = Some(block);
                }
            }
            Packet::Data(..) => ack = Some(block),
            Packet::Error(code, words) => return Err(format!("{code} {words}")),
            other => return Err(format!("{other:?}")),
        }
        if let Some(number) = ack {
            in_window = 0;
            if !lose(count + 1000) || end {
                socket.send_to(&Packet::Ack(number).encode(), from).await.unwrap();
            }
        }
        if end {
            return Ok(data);
        }
    }
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

const NONE: Options = Options { blksize: None, timeout: None, tsize: None, windowsize: None };

#[tokio::test]
async fn transfers_with_options_and_losses() {
    let lengths = [0, 1, 511, 512, 513, 1024, 100_000];
    let files: Vec<_> = lengths.iter().map(|n| (format!("f{n}"), content(*n))).collect();
    let server = Server::start(&files.iter().map(|(n, b)| (n.as_str(), b.clone())).collect::<Vec<_>>()).await;
    let options = [
        NONE,
        Options { blksize: Some(1024), tsize: Some(0), ..NONE },
        Options { blksize: Some(512), windowsize: Some(4), ..NONE },
        Options { blksize: Some(65_464), windowsize: Some(16), tsize: Some(0), ..NONE },
    ];
    let losses: [fn(usize) -> bool; 3] = [|_| false, |n| n % 17 == 3, |n| n % 13 == 5 || n == 1];
    for (name, expected) in &files {
        for options in &options {
            for (i, lose) in losses.iter().enumerate() {
                let got = fetch(server.0, name, options.clone(), *lose).await;
                assert!(got.as_ref() == Ok(expected), "{name} {options:?} loss {i}: {:?}", got.map(|g| g.len()));
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn block_numbers_wrap() {
    let data = content(8 * 66_000 + 3);
    let server = Server::start(&[("big", data.clone())]).await;
    let options = Options { blksize: Some(8), windowsize: Some(64), ..NONE };
    assert!(fetch(server.0, "big", options, |_| false).await == Ok(data));
    server.stop().await;
}

#[tokio::test]
async fn options_are_agreed_and_refusals_are_errors() {
    let server = Server::start(&[("a", content(10))]).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut buffer = [0; 600];
    let mut ask = async |packet: Packet| {
        socket.send_to(&packet.encode(), server.0).await.unwrap();
        let n = timeout(Duration::from_secs(5), socket.recv_from(&mut buffer)).await.unwrap().unwrap().0;
        Packet::parse(&buffer[..n]).unwrap()
    };
    assert!(matches!(ask(Packet::Write).await, Packet::Error(2, _)));
    let read = |file: &str, mode: &str, options| Packet::Read { file: file.into(), mode: mode.into(), options };
    assert!(matches!(ask(read("a", "mail", NONE)).await, Packet::Error(4, _)));
    let all = Options { blksize: Some(60_000), timeout: Some(2), tsize: Some(0), windowsize: Some(1000) };
    let agreed = Options { blksize: Some(1468), timeout: Some(2), tsize: Some(10), windowsize: Some(64) };
    assert_eq!(ask(read("/a", "OCTET", all)).await, Packet::OptionAck(agreed));
    for (file, code) in [("none", "1"), ("../etc/passwd", "2"), ("/../a", "2")] {
        assert!(fetch(server.0, file, NONE, |_| false).await.unwrap_err().starts_with(code), "{file}");
    }
    server.stop().await;
}

proptest! {
    #[test]
    fn arbitrary_packets(bytes in proptest::collection::vec(any::<u8>(), 0..200), op in 0u8..8) {
        let _ = Packet::parse(&bytes);
        let mut with_op = vec![0, op];
        with_op.extend(bytes);
        if let Ok(packet) = Packet::parse(&with_op) {
            prop_assert_eq!(Packet::parse(&packet.encode()), Ok(packet));
        }
    }
}
