//! A host's side.

use std::time::Duration;

use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{BLOCK, Pdu, chap, hex_value, lun_bytes, read, write};

/// Time for each answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Blocks of one command: less than any target's limit for data that comes with it.
const BLOCKS: usize = 8;

/// A volume and how to reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Name of the initiator.
    pub initiator: String,
    /// Name of the target.
    pub target: String,
    /// Number of the unit.
    pub lun: u32,
    /// Address and port.
    pub portal: (String, u16),
    /// User and secret.
    pub chap: Option<(String, String)>,
}

impl Volume {
    /// From the place as iPXE has it: `iscsi:ADDRESS:PROTOCOL:PORT:LUN:TARGET`.
    pub fn from_uri(uri: &str) -> Option<Self> {
        let rest = uri.strip_prefix("iscsi:")?;
        let (address, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once("]:")?,
            None => rest.split_once(':')?,
        };
        let mut parts = rest.splitn(4, ':');
        let (_protocol, port, lun, target) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let port = if port.is_empty() { 3260 } else { port.parse().ok()? };
        let lun = if lun.is_empty() { 0 } else { u32::from_str_radix(lun, 16).ok()? };
        Some(Self { target: target.to_owned(), lun, portal: (address.to_owned(), port), ..Self::default() })
    }
}

/// A session that is logged in.
pub struct Session {
    stream: TcpStream,
    lun: [u8; 8],
    task: u32,
    command: u32,
    status: u32,
}

impl Session {
    /// Connects and logs in.
    pub async fn open(volume: &Volume) -> Result<Self, String> {
        let (address, port) = (volume.portal.0.as_str(), volume.portal.1);
        let connect = timeout(ANSWER, TcpStream::connect((address, port))).await;
        let stream = connect.map_err(|_| format!("{address}:{port}: timed out"))?;
        let stream = stream.map_err(|e| format!("{address}:{port}: {e}"))?;
        let mut session = Self { stream, lun: lun_bytes(volume.lun), task: 1, command: 1, status: 0 };
        session.login(volume).await?;
        Ok(session)
    }

    async fn exchange(&mut self, pdu: Pdu) -> Result<Pdu, String> {
        write(&mut self.stream, pdu).await.map_err(|e| format!("iSCSI: {e}"))?;
        self.next().await
    }

    async fn next(&mut self) -> Result<Pdu, String> {
        let answer =
            timeout(ANSWER, read(&mut self.stream)).await.map_err(|_| "iSCSI: no answer in time".to_owned())?;
        answer.map_err(|e| format!("iSCSI: the target has ended the connection ({e})"))
    }

    /// One step of the login: stage `now`, and with `next` the wish to go on to that.
    async fn step(&mut self, now: u8, next: Option<u8>, keys: &[(&str, String)]) -> Result<Pdu, String> {
        let mut pdu = Pdu::new(0x43, now << 2 | next.map_or(0, |n| 0x80 | n));
        pdu.head[8..14].copy_from_slice(&[0x80, 0, 0, 0, 0, 1]);
        pdu.set(24, self.command);
        pdu.set(28, self.status);
        pdu.set_keys(keys);
        let answer = self.exchange(pdu).await?;
        if answer.operation() != 0x23 {
            return Err("iSCSI: that is no answer to a login".into());
        }
        self.status = answer.number(24).wrapping_add(1);
        match (answer.head[36], answer.head[37]) {
            (0, _) => Ok(answer),
            (2, 1) => Err("iSCSI: the target refuses the CHAP login".into()),
            (2, 2) => Err("iSCSI: the target does not let this initiator in".into()),
            (2, 3) => Err("iSCSI: there is no such target".into()),
            (class, detail) => Err(format!("iSCSI: the target refuses the login ({class:02x}{detail:02x})")),
        }
    }

    async fn login(&mut self, volume: &Volume) -> Result<(), String> {
        let mut names = vec![
            ("InitiatorName", volume.initiator.clone()),
            ("TargetName", volume.target.clone()),
            ("SessionType", "Normal".to_owned()),
        ];
        match &volume.chap {
            None => {
                names.push(("AuthMethod", "None".to_owned()));
                self.step(0, Some(1), &names).await?;
            }
            Some((user, secret)) => {
                names.push(("AuthMethod", "CHAP,None".to_owned()));
                let answer = self.step(0, None, &names).await?;
                if answer.keys().iter().any(|(n, v)| n == "AuthMethod" && v == "CHAP") {
                    let asked = self.step(0, None, &[("CHAP_A", "5".to_owned())]).await?.keys();
                    let value = |name: &str| asked.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
                    let identifier = value("CHAP_I").and_then(|i| i.parse().ok());
                    let challenge = value("CHAP_C").and_then(|c| hex_value(&c));
                    let (Some(identifier), Some(challenge)) = (identifier, challenge) else {
                        return Err("iSCSI: the target asks for no CHAP that is known here".into());
                    };
                    let response = format!("0x{}", hex::encode(chap(identifier, secret, &challenge)));
                    self.step(0, Some(1), &[("CHAP_N", user.clone()), ("CHAP_R", response)]).await?;
                } else {
                    self.step(0, Some(1), &[]).await?;
                }
            }
        }
        let agreed =
            [("HeaderDigest", "None"), ("DataDigest", "None"), ("ErrorRecoveryLevel", "0"), ("ImmediateData", "Yes")];
        let keys: Vec<(&str, String)> = agreed.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
        let answer = self.step(1, Some(3), &keys).await?;
        if answer.head[1] & 0x80 == 0 {
            self.step(1, Some(3), &[]).await?;
        }
        Ok(())
    }

    /// One SCSI command; `data` is written, or that many bytes are expected.
    async fn scsi(&mut self, cdb: &[u8], data: Result<&[u8], usize>) -> Result<Vec<u8>, String> {
        for attempt in 0..4 {
            match self.once(cdb, data).await? {
                Ok(read) => return Ok(read),
                // After a login, or a change of its size, a unit first tells of that; another one may be busy.
                Err(2 | 8) if attempt < 3 => sleep(Duration::from_millis(50)).await,
                Err(status) => return Err(format!("SCSI: the unit answers with status {status:02x}")),
            }
        }
        Err("SCSI: the unit is never ready".into())
    }

    async fn once(&mut self, cdb: &[u8], data: Result<&[u8], usize>) -> Result<Result<Vec<u8>, u8>, String> {
        let direction = match data {
            Ok(_) => 0x20,
            Err(0) => 0,
            Err(_) => 0x40,
        };
        let mut pdu = Pdu::new(0x01, 0x80 | direction | 1);
        pdu.head[8..16].copy_from_slice(&self.lun);
        pdu.set(16, self.task);
        pdu.set(20, u32::try_from(data.map_or_else(|n| n, <[u8]>::len)).unwrap_or(0));
        pdu.set(24, self.command);
        pdu.set(28, self.status);
        pdu.head[32..32 + cdb.len()].copy_from_slice(cdb);
        pdu.data = data.map(<[u8]>::to_vec).unwrap_or_default();
        self.task += 1;
        self.command = self.command.wrapping_add(1);
        write(&mut self.stream, pdu).await.map_err(|e| format!("iSCSI: {e}"))?;
        let mut got = Vec::new();
        loop {
            let answer = self.next().await?;
            match answer.operation() {
                0x25 => {
                    got.extend_from_slice(&answer.data);
                    if answer.head[1] & 1 == 1 {
                        self.status = answer.number(24).wrapping_add(1);
                        return Ok(if answer.head[3] == 0 { Ok(got) } else { Err(answer.head[3]) });
                    }
                }
                0x21 => {
                    self.status = answer.number(24).wrapping_add(1);
                    return Ok(match (answer.head[2], answer.head[3]) {
                        (0, 0) => Ok(got),
                        (0, status) => Err(status),
                        _ => Err(0xff),
                    });
                }
                0x20 => {}
                other => return Err(format!("iSCSI: {other:02x} is not expected here")),
            }
        }
    }

    /// What the unit says that it is: vendor and product.
    pub async fn inquiry(&mut self) -> Result<String, String> {
        let answer = self.scsi(&[0x12, 0, 0, 0, 36, 0], Err(36)).await?;
        Ok(String::from_utf8_lossy(answer.get(8..32).unwrap_or_default()).trim().to_owned())
    }

    /// Its size in bytes.
    pub async fn capacity(&mut self) -> Result<u64, String> {
        let mut cdb = [0; 16];
        (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x10, 32);
        let answer = self.scsi(&cdb, Err(32)).await?;
        let last = answer.get(..8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
        let block = answer.get(8..12).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
        last.zip(block).map(|(last, block)| (last + 1) * u64::from(block)).ok_or_else(|| "SCSI: no capacity".to_owned())
    }

    /// Reads whole blocks.
    pub async fn read(&mut self, block: u64, count: usize) -> Result<Vec<u8>, String> {
        let mut all = Vec::with_capacity(count * BLOCK);
        while all.len() < count * BLOCK {
            let done = all.len() / BLOCK;
            let part = Ord::min(count - done, BLOCKS);
            let got = self.scsi(&transfer(0x88, block + done as u64, part), Err(part * BLOCK)).await?;
            if got.len() != part * BLOCK {
                return Err(format!("SCSI: {} bytes in place of {}", got.len(), part * BLOCK));
            }
            all.extend(got);
        }
        Ok(all)
    }

    /// Writes whole blocks; the last one is filled up with zeros.
    pub async fn write(&mut self, block: u64, data: &[u8]) -> Result<(), String> {
        for (n, part) in data.chunks(BLOCKS * BLOCK).enumerate() {
            let mut part = part.to_vec();
            part.resize(part.len().next_multiple_of(BLOCK), 0);
            let at = block + (n * BLOCKS) as u64;
            self.scsi(&transfer(0x8a, at, part.len() / BLOCK), Ok(&part)).await?;
        }
        Ok(())
    }

    /// Logs out.
    pub async fn close(mut self) {
        let mut pdu = Pdu::new(0x46, 0x80);
        pdu.set(16, self.task);
        pdu.set(24, self.command);
        pdu.set(28, self.status);
        let _ = self.exchange(pdu).await;
    }
}

fn transfer(operation: u8, block: u64, count: usize) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = operation;
    cdb[2..10].copy_from_slice(&block.to_be_bytes());
    cdb[10..14].copy_from_slice(&u32::try_from(count).unwrap_or(0).to_be_bytes());
    cdb
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_as_ipxe_writes_them() {
        let v = Volume::from_uri("iscsi:10.9.0.1::3261:a:iqn.2026-01.io.steelyard:sy-drive-3").unwrap();
        assert_eq!(
            (v.portal, v.lun, v.target.as_str()),
            (("10.9.0.1".into(), 3261), 10, "iqn.2026-01.io.steelyard:sy-drive-3")
        );
        assert_eq!(Volume::from_uri("iscsi:[fd00::9]::::iqn.x:y").unwrap().portal, ("fd00::9".into(), 3260));
        assert_eq!((Volume::from_uri("http://x"), Volume::from_uri("iscsi:x::y:0:iqn.z")), (None, None));
    }
}
