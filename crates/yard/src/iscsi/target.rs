//! A target's side: units and logins are asked for at each command, so that access that is taken away ends at once.

use std::{sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{BLOCK, Pdu, chap, hex_value, read, write};

/// A connection that says nothing for this long is ended.
const SILENCE: Duration = Duration::from_mins(10);

/// What stands behind a target.
pub trait Units: Send + Sync + 'static {
    /// Its name.
    fn name(&self) -> Option<String>;
    /// The login that it asks an initiator for.
    fn login(&self, initiator: &str) -> Option<(String, String)>;
    /// Whether the initiator has any unit.
    fn knows(&self, initiator: &str) -> bool;
    /// Size of a unit in blocks; `None`: the initiator has none of that number.
    fn blocks(&self, initiator: &str, lun: u32) -> Option<u64>;
    /// Content of a block.
    fn read(&self, initiator: &str, lun: u32, block: u64) -> Vec<u8>;
    /// Changes a block.
    fn write(&self, initiator: &str, lun: u32, block: u64, data: &[u8]);
}

/// Serves until the end.
pub async fn serve(listener: TcpListener, units: Arc<impl Units>, shutdown: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let (units, stop) = (units.clone(), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = connection(stream, &*units) => {}
            }
        });
    }
}

/// Numbers of a connection.
struct Numbers {
    status: u32,
    command: u32,
}

impl Numbers {
    /// Puts them into an answer.
    fn stamp(&mut self, pdu: &mut Pdu) {
        pdu.set(24, self.status);
        pdu.set(28, self.command);
        pdu.set(32, self.command.wrapping_add(32));
        self.status = self.status.wrapping_add(1);
    }
}

async fn connection(mut stream: TcpStream, units: &impl Units) -> std::io::Result<()> {
    let mut numbers = Numbers { status: 1, command: 1 };
    let Some(initiator) = login(&mut stream, units, &mut numbers).await? else { return Ok(()) };
    loop {
        let Ok(asked) = timeout(SILENCE, read(&mut stream)).await else { return Ok(()) };
        let asked = asked?;
        if asked.head[0] & 0x40 == 0 {
            numbers.command = asked.number(24).wrapping_add(1);
        }
        match asked.operation() {
            0x01 => command(&mut stream, units, &initiator, &asked, &mut numbers).await?,
            0x00 => {
                let mut answer = Pdu::new(0x20, 0x80);
                answer.set(16, asked.number(16));
                answer.set(20, u32::MAX);
                numbers.stamp(&mut answer);
                write(&mut stream, answer).await?;
            }
            0x06 => {
                let mut answer = Pdu::new(0x26, 0x80);
                answer.set(16, asked.number(16));
                numbers.stamp(&mut answer);
                return write(&mut stream, answer).await;
            }
            _ => return Ok(()),
        }
    }
}

/// The login phase. Answers the initiator's name, or nothing when it was refused.
async fn login(stream: &mut TcpStream, units: &impl Units, numbers: &mut Numbers) -> std::io::Result<Option<String>> {
    let (mut initiator, mut target) = (String::new(), String::new());
    let challenge: [u8; 16] = rand::random();
    let mut proved = false;
    loop {
        let asked = timeout(SILENCE, read(stream)).await.map_err(|_| std::io::ErrorKind::TimedOut)??;
        if asked.operation() != 0x03 {
            return Ok(None);
        }
        numbers.command = asked.number(24);
        let keys = asked.keys();
        let value = |name: &str| keys.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        if let Some(name) = value("InitiatorName") {
            name.clone_into(&mut initiator);
        }
        if let Some(name) = value("TargetName") {
            name.clone_into(&mut target);
        }
        let (stage, go_on) = (asked.head[1] >> 2 & 3, asked.head[1] & 0x80 != 0);
        let wanted = units.login(&initiator);
        let mut answers: Vec<(&str, String)> = Vec::new();
        let mut refused = None;
        if units.name().as_deref() != Some(target.as_str()) {
            refused = Some((2, 3));
        } else if !units.knows(&initiator) {
            refused = Some((2, 2));
        }
        let mut agreed = false;
        match (stage, &wanted) {
            (0, Some(_)) if value("AuthMethod").is_some() => {
                if value("AuthMethod").is_some_and(|m| m.split(',').any(|m| m == "CHAP")) {
                    answers.push(("AuthMethod", "CHAP".into()));
                } else {
                    refused = refused.or(Some((2, 1)));
                }
            }
            (0, Some(_)) if value("CHAP_A").is_some() => {
                answers.push(("CHAP_A", "5".into()));
                answers.push(("CHAP_I", "7".into()));
                answers.push(("CHAP_C", format!("0x{}", hex::encode(challenge))));
            }
            (0, Some((user, secret))) => {
                let response = value("CHAP_R").and_then(hex_value);
                let right = response.as_deref() == Some(&chap(7, secret, &challenge)[..]);
                if right && value("CHAP_N") == Some(user) {
                    (proved, agreed) = (true, true);
                } else {
                    refused = refused.or(Some((2, 1)));
                }
            }
            (0, None) => {
                if value("AuthMethod").is_some() {
                    answers.push(("AuthMethod", "None".into()));
                }
                (proved, agreed) = (true, go_on);
            }
            (1, None) => (proved, agreed) = (true, go_on),
            (1, Some(_)) if proved => agreed = go_on,
            _ => refused = refused.or(Some((2, 1))),
        }
        if stage == 1 {
            answers.push(("MaxRecvDataSegmentLength", "65536".into()));
            answers.push(("HeaderDigest", "None".into()));
            answers.push(("DataDigest", "None".into()));
            answers.push(("ErrorRecoveryLevel", "0".into()));
            answers.push(("ImmediateData", "Yes".into()));
        }
        let agreed = agreed && go_on;
        let mut answer = Pdu::new(0x23, stage << 2 | if agreed { 0x80 | asked.head[1] & 3 } else { 0 });
        answer.head[8..16].copy_from_slice(&asked.head[8..16]);
        answer.set(16, asked.number(16));
        if let Some((class, detail)) = refused {
            answer.head[1] = stage << 2;
            (answer.head[36], answer.head[37]) = (class, detail);
            numbers.stamp(&mut answer);
            write(stream, answer).await?;
            return Ok(None);
        }
        answer.set_keys(&answers);
        let done = agreed && asked.head[1] & 3 == 3;
        if done {
            answer.head[15] = 1;
        }
        numbers.stamp(&mut answer);
        write(stream, answer).await?;
        if done {
            return Ok(proved.then_some(initiator));
        }
    }
}

async fn command(
    stream: &mut TcpStream,
    units: &impl Units,
    initiator: &str,
    asked: &Pdu,
    numbers: &mut Numbers,
) -> std::io::Result<()> {
    let lun = u32::from(asked.head[8] & 0x3f) << 8 | u32::from(asked.head[9]);
    let cdb = &asked.head[32..48];
    let number = |at: usize, length: usize| {
        cdb.get(at..at + length).unwrap_or_default().iter().fold(0u64, |n, b| n << 8 | u64::from(*b))
    };
    let blocks = units.blocks(initiator, lun);
    let (at, count) = match cdb[0] {
        0x28 | 0x2a => (number(2, 4), number(7, 2)),
        0x88 | 0x8a => (number(2, 8), number(10, 4)),
        _ => (0, 0),
    };
    let inside = blocks.is_some_and(|b| at.checked_add(count).is_some_and(|end| end <= b)) && count <= 2048;
    let length = asked.number(20) as usize;
    let answer: Result<Vec<u8>, [u8; 3]> = match (cdb[0], blocks) {
        (0xa0, _) => Ok([0, 0, 0, 8].into_iter().chain([0; 4]).chain(super::lun_bytes(lun)).collect()),
        // Not there, and not for this host.
        (_, None) => Err([5, 0x25, 0]),
        (0x00 | 0x35 | 0x91, _) => Ok(Vec::new()),
        (0x12, _) if cdb[1] == 0 => {
            let mut all = vec![0, 0, 6, 2, 31, 0, 0, 2];
            all.extend_from_slice(b"YARD    volume          1.00");
            Ok(all)
        }
        (0x25, Some(blocks)) => {
            let last = u32::try_from(blocks.saturating_sub(1)).unwrap_or(u32::MAX);
            Ok([last.to_be_bytes(), (BLOCK as u32).to_be_bytes()].concat())
        }
        (0x9e, Some(blocks)) if cdb[1] & 0x1f == 0x10 => {
            let mut all = blocks.saturating_sub(1).to_be_bytes().to_vec();
            all.extend((BLOCK as u32).to_be_bytes());
            all.resize(32, 0);
            Ok(all)
        }
        (0x28 | 0x88, _) if inside => Ok((at..at + count).flat_map(|b| units.read(initiator, lun, b)).collect()),
        (0x2a | 0x8a, _) if inside && asked.data.len() as u64 == count * BLOCK as u64 => {
            for (n, data) in asked.data.chunks(BLOCK).enumerate() {
                units.write(initiator, lun, at + n as u64, data);
            }
            Ok(Vec::new())
        }
        (0x28 | 0x88 | 0x2a | 0x8a, _) => Err([5, 0x21, 0]),
        _ => Err([5, 0x20, 0]),
    };
    let mut reply = match answer {
        Ok(mut data) if asked.head[1] & 0x40 != 0 => {
            data.truncate(length);
            let mut pdu = Pdu::new(0x25, 0x81);
            pdu.data = data;
            pdu
        }
        Ok(_) => Pdu::new(0x21, 0x80),
        Err([key, code, qualifier]) => {
            let mut pdu = Pdu::new(0x21, 0x80);
            pdu.head[3] = 2;
            pdu.data = vec![0, 18, 0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, code, qualifier, 0, 0, 0, 0];
            pdu
        }
    };
    reply.set(16, asked.number(16));
    if reply.operation() == 0x25 {
        reply.set(20, u32::MAX);
    }
    numbers.stamp(&mut reply);
    write(stream, reply).await
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Mutex};

    use super::*;
    use crate::{
        iscsi::initiator::{Session, Volume},
        lock,
    };

    #[derive(Default)]
    struct Two {
        content: Mutex<BTreeMap<u64, Vec<u8>>>,
        open: Mutex<bool>,
    }

    impl Units for Two {
        fn name(&self) -> Option<String> {
            Some("iqn.x:target".into())
        }
        fn login(&self, initiator: &str) -> Option<(String, String)> {
            (initiator == "iqn.x:secret").then(|| ("me".into(), "abcdef0123456789".into()))
        }
        fn knows(&self, initiator: &str) -> bool {
            initiator != "iqn.x:stranger"
        }
        fn blocks(&self, _: &str, lun: u32) -> Option<u64> {
            (lun == 300 && *lock(&self.open)).then_some(100)
        }
        fn read(&self, _: &str, _: u32, block: u64) -> Vec<u8> {
            lock(&self.content).get(&block).cloned().unwrap_or_else(|| vec![0; BLOCK])
        }
        fn write(&self, _: &str, _: u32, block: u64, data: &[u8]) {
            lock(&self.content).insert(block, data.to_vec());
        }
    }

    #[tokio::test]
    async fn initiator_and_target_understand_each_other() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (units, stop) = (Arc::new(Two::default()), CancellationToken::new());
        *lock(&units.open) = true;
        tokio::spawn(serve(listener, units.clone(), stop.clone()));
        let volume = |initiator: &str, secret: Option<&str>| Volume {
            initiator: initiator.into(),
            target: "iqn.x:target".into(),
            lun: 300,
            portal: ("127.0.0.1".into(), port),
            chap: secret.map(|s| ("me".to_owned(), s.to_owned())),
        };
        for volume in [volume("iqn.x:open", None), volume("iqn.x:secret", Some("abcdef0123456789"))] {
            let mut session = Session::open(&volume).await.unwrap();
            assert_eq!(session.capacity().await, Ok(51_200));
            assert!(session.inquiry().await.unwrap().starts_with("YARD"));
            let text: Vec<u8> = (0..5000u32).map(|n| n as u8).collect();
            session.write(3, &text).await.unwrap();
            assert_eq!(session.read(3, 10).await.unwrap()[..5000], text[..]);
            assert!(session.read(99, 2).await.is_err(), "beyond its end");
            session.close().await;
        }
        for (volume, words) in [
            (volume("iqn.x:secret", Some("wrong secret 12")), "refuses the CHAP login"),
            (volume("iqn.x:secret", None), "refuses the CHAP login"),
            (volume("iqn.x:stranger", None), "does not let this initiator in"),
            (Volume { target: "iqn.x:other".into(), ..volume("iqn.x:open", None) }, "no such target"),
        ] {
            let why = Session::open(&volume).await.err().unwrap();
            assert!(why.contains(words), "{why}");
        }
        let mut session = Session::open(&volume("iqn.x:open", None)).await.unwrap();
        *lock(&units.open) = false;
        assert!(session.read(0, 1).await.is_err(), "access that is taken away ends at once");
        stop.cancel();
    }
}
