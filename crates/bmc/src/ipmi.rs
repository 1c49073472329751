//! IPMI 2.0 over the network (RMCP+), for BMCs without a Redfish that works: power, boot source, identify, and the inventory as far as FRU
//! goes. Cipher suites 17 and 3; older sessions (1.5) and suite 0 are not spoken. Source: "IPMI Specification, V2.0", chapters 13, 22, 28, 34.

mod fru;
mod sol;
mod wire;

use std::time::Duration;

use async_trait::async_trait;
use model::{
    bmc::{BootTarget, HardwareInventory, PowerAction, PowerState},
    firmware::AfterPowerLoss,
};
use tokio::{
    net::UdpSocket,
    sync::Mutex,
    time::{Instant, timeout_at},
};

use self::wire::{Exchange, Keys, Packet, Suite};
use crate::{Access, BmcError, Boot, Identify, Inventory, Power, PowerLoss};

/// Port of RMCP.
const PORT: u16 = 623;
/// Tries of one packet.
const TRIES: u32 = 4;
/// Longest wait for the answer to one packet.
const ANSWER: Duration = Duration::from_secs(2);
/// BMCs forget a session after a minute of silence.
const IDLE: Duration = Duration::from_secs(45);
/// Tries of a command while the BMC says that it is busy.
const BUSY: u32 = 6;
/// Administrator, found by name alone.
const ROLE: u8 = 0x14;
/// Largest FRU that is read.
const FRU: usize = 2048;

// Network functions.
const CHASSIS: u8 = 0x00;
const APP: u8 = 0x06;
const STORAGE: u8 = 0x0a;
const TRANSPORT: u8 = 0x0c;

/// One BMC.
pub struct Ipmi {
    access: Access,
    session: Mutex<Option<Session>>,
}

struct Session {
    socket: UdpSocket,
    keys: Keys,
    console: [u8; 4],
    bmc: [u8; 4],
    sequence: u32,
    message: u8,
    used: Instant,
}

/// Why a session was not opened.
enum NotOpened {
    /// Another suite may do.
    Suite,
    Failed(BmcError),
}

impl From<BmcError> for NotOpened {
    fn from(e: BmcError) -> Self {
        Self::Failed(e)
    }
}

impl Ipmi {
    /// A driver. Nothing is sent yet.
    pub fn new(access: Access) -> Result<Self, BmcError> {
        let unsupported = |what: &str| BmcError::Unsupported { address: access.address.clone(), what: what.to_owned() };
        if access.password.0.len() > 20 {
            return Err(unsupported("IPMI passwords have 20 characters at most; this one is longer"));
        }
        if access.username.len() > 16 {
            return Err(unsupported("IPMI user names have 16 characters at most; this one is longer"));
        }
        Ok(Self { access, session: Mutex::new(None) })
    }

    fn address(&self) -> String {
        self.access.address.clone()
    }

    fn unreachable(&self, cause: impl Into<String>) -> BmcError {
        BmcError::Unreachable { address: self.address(), cause: cause.into() }
    }

    fn odd(&self, request: &str, answer: &[u8]) -> BmcError {
        BmcError::Odd { address: self.address(), request: request.to_owned(), answer: format!("{answer:02x?}") }
    }

    fn unsupported(&self, what: impl Into<String>) -> BmcError {
        BmcError::Unsupported { address: self.address(), what: what.into() }
    }

    /// Sends a packet until the answer to it comes.
    async fn exchange(
        &self,
        socket: &UdpSocket,
        packet: &[u8],
        keys: Option<&Keys>,
        answers: impl Fn(&Packet) -> bool,
    ) -> Result<Packet, BmcError> {
        let wait = Ord::min(self.access.timeout / TRIES, ANSWER);
        let mut buffer = [0u8; 1024];
        for _ in 0..TRIES {
            socket.send(packet).await.map_err(|e| self.unreachable(e.to_string()))?;
            let end = Instant::now() + wait;
            while let Ok(received) = timeout_at(end, socket.recv(&mut buffer)).await {
                let Ok(length) = received else {
                    // Nobody listens at the port, at the moment.
                    tokio::time::sleep_until(end).await;
                    break;
                };
                // Late answers, other people's and forged ones are passed over.
                if let Some(found) = buffer.get(..length).and_then(|b| wire::unpack(b, keys)).filter(&answers) {
                    return Ok(found);
                }
            }
        }
        Err(self.unreachable(format!("no answer within {} s", (wait * TRIES).as_secs_f64())))
    }

    /// Opens a session with the best suite that the BMC has.
    async fn open(&self) -> Result<Session, BmcError> {
        let address = &self.access.address;
        let has_port = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')));
        let target = if has_port { address.clone() } else { format!("{address}:{PORT}") };
        let mut last = self.unsupported("cipher suites 3 and 17, the only ones that are safe enough");
        for suite in [Suite::Sha256, Suite::Sha1] {
            match self.open_with(&target, suite).await {
                Ok(session) => return Ok(session),
                Err(NotOpened::Suite) => {}
                // Some do not answer to a suite that they do not know.
                Err(NotOpened::Failed(e @ BmcError::Unreachable { .. })) => last = e,
                Err(NotOpened::Failed(e)) => return Err(e),
            }
        }
        Err(last)
    }

    async fn open_with(&self, target: &str, suite: Suite) -> Result<Session, NotOpened> {
        let fail = |e: std::io::Error| self.unreachable(e.to_string());
        let remote = tokio::net::lookup_host(target).await.map_err(fail)?.next();
        let remote = remote.ok_or_else(|| self.unreachable("its name has no address"))?;
        let local = if remote.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(local).await.map_err(fail)?;
        socket.connect(remote).await.map_err(fail)?;

        let (tag, console): (u8, [u8; 4]) = (rand::random(), rand::random::<[u8; 4]>().map(|b| b | 1));
        let step = |kind: u8, answer: u8, payload: Vec<u8>| {
            let socket = &socket;
            async move {
                let packet = wire::pack(kind, [0; 4], 0, &payload, None);
                self.exchange(socket, &packet, None, |p| p.kind == answer && p.payload.first() == Some(&tag)).await
            }
        };
        let [auth, integrity, secrecy] = suite.numbers();
        let mut open = vec![tag, ROLE & 0x0f, 0, 0];
        open.extend_from_slice(&console);
        for (kind, number) in [(0, auth), (1, integrity), (2, secrecy)] {
            open.extend_from_slice(&[kind, 0, 0, 8, number, 0, 0, 0]);
        }
        let opened = step(wire::OPEN, wire::OPENED, open).await?.payload;
        match opened.get(1) {
            Some(0) => {}
            // No such algorithm, payload or suite.
            Some(0x04..=0x07 | 0x10 | 0x11) => return Err(NotOpened::Suite),
            _ => return Err(self.not_let_in("the session", &opened).into()),
        }
        let bmc: [u8; 4] = part(&opened, 8).ok_or_else(|| self.odd("open session", &opened))?;
        // Some take the one suite that they know, whatever they are asked for.
        let other = |(at, asked): (usize, u8)| opened.get(at).is_some_and(|chosen| *chosen & 0x3f != asked);
        if [(16, auth), (24, integrity), (32, secrecy)].into_iter().any(other) {
            return Err(NotOpened::Suite);
        }

        let console_random: [u8; 16] = rand::random();
        let user = self.access.username.as_bytes();
        let mut first = vec![tag, 0, 0, 0];
        first.extend_from_slice(&bmc);
        first.extend_from_slice(&console_random);
        first.extend_from_slice(&[ROLE, 0, 0, user.len() as u8]);
        first.extend_from_slice(user);
        let second = step(wire::RAKP1, wire::RAKP2, first).await?.payload;
        if second.get(1) != Some(&0) {
            return Err(self.not_let_in("RAKP 1", &second).into());
        }
        let (Some(bmc_random), Some(guid)) = (part(&second, 8), part(&second, 24)) else {
            return Err(self.odd("RAKP 1", &second).into());
        };
        let password = self.access.password.0.as_bytes();
        let exchange = Exchange { suite, user, password, role: ROLE, console, bmc, console_random, bmc_random, guid };
        if !wire::same(&exchange.rakp2(), second.get(40..).unwrap_or_default()) {
            return Err(BmcError::Unauthorized(self.address()).into());
        }
        let mut third = vec![tag, 0, 0, 0];
        third.extend_from_slice(&bmc);
        third.extend_from_slice(&exchange.rakp3());
        let fourth = step(wire::RAKP3, wire::RAKP4, third).await?.payload;
        if fourth.get(1) != Some(&0) {
            return Err(self.not_let_in("RAKP 3", &fourth).into());
        }
        let keys = exchange.keys();
        if !wire::same(&exchange.rakp4(&keys), fourth.get(8..).unwrap_or_default()) {
            return Err(BmcError::Unauthorized(self.address()).into());
        }
        let mut session = Session { socket, keys, console, bmc, sequence: 0, message: 0, used: Instant::now() };
        // Administrator, or else operator, which is enough for power.
        for level in [4, 3] {
            for _ in 0..BUSY {
                match self.send(&mut session, APP, 0x3b, &[level]).await?.first() {
                    Some(0) => return Ok(session),
                    Some(0xc0) => tokio::time::sleep(Duration::from_millis(200)).await,
                    _ => break,
                }
            }
        }
        Err(NotOpened::Failed(BmcError::Refused {
            address: self.address(),
            request: "the privilege level operator".into(),
            status: 0x81,
            reason: "give the account the role of an operator or administrator for access by network".into(),
        }))
    }

    /// A status of RAKP, in words.
    fn not_let_in(&self, request: &str, answer: &[u8]) -> BmcError {
        let status = answer.get(1).copied().unwrap_or(0xff);
        let reason = match status {
            0x09 | 0x0a | 0x0d | 0x0f => return BmcError::Unauthorized(self.address()),
            0x01 | 0x0b => "it has no free session; wait a minute or reset the BMC",
            0x02 | 0x08 => "it does not know the session",
            _ => "status of RMCP+",
        };
        BmcError::Refused {
            address: self.address(),
            request: request.to_owned(),
            status: status.into(),
            reason: format!("{reason} (0x{status:02x})"),
        }
    }

    /// A command in a session; the answer begins with the completion code.
    async fn send(&self, s: &mut Session, function: u8, command: u8, data: &[u8]) -> Result<Vec<u8>, BmcError> {
        s.message = (s.message + 1) & 0x3f;
        s.sequence = s.sequence.checked_add(1).unwrap_or(1);
        let message = wire::request(function, command, s.message, data);
        let packet = wire::pack(wire::IPMI, s.bmc, s.sequence, &message, Some(&s.keys));
        let (console, number) = (s.console, s.message);
        let ours = |p: &Packet| {
            p.kind == wire::IPMI
                && p.session == console
                && wire::read(&p.payload)
                    .is_some_and(|(f, c, n, d)| f == function | 1 && c == command && n == number && !d.is_empty())
        };
        let answer = self.exchange(&s.socket, &packet, Some(&s.keys), ours).await?;
        s.used = Instant::now();
        Ok(wire::read(&answer.payload).map(|(.., data)| data.to_vec()).unwrap_or_default())
    }

    /// A command, in a new session when the old one is forgotten, again while the BMC is busy.
    async fn command(&self, what: &str, function: u8, command: u8, data: &[u8]) -> Result<Vec<u8>, BmcError> {
        let mut place = self.session.lock().await;
        let mut pause = Duration::from_millis(100);
        let mut busy = 0;
        loop {
            let fresh = place.as_ref().is_none_or(|s| s.used.elapsed() > IDLE);
            if fresh {
                *place = None;
                *place = Some(self.open().await?);
            }
            let Some(session) = place.as_mut() else { return Err(self.unreachable("no session")) };
            let mut answer = match self.send(session, function, command, data).await {
                Ok(answer) => answer,
                Err(e) => {
                    *place = None;
                    // A restart of the BMC ends sessions without a word.
                    if fresh {
                        return Err(e);
                    }
                    continue;
                }
            };
            let code = answer.remove(0);
            let refused = |reason: &str| BmcError::Refused {
                address: self.address(),
                request: what.to_owned(),
                status: code.into(),
                reason: format!("{reason} (completion code 0x{code:02x})"),
            };
            return match code {
                0 => Ok(answer),
                // Busy, out of space, starting up, being initialised.
                0xc0 | 0xc3 | 0xc4 | 0xd2 if busy < BUSY => {
                    busy += 1;
                    tokio::time::sleep(pause).await;
                    pause = Ord::min(pause * 2, Duration::from_secs(2));
                    continue;
                }
                0xc1 | 0xc2 => Err(self.unsupported(what)),
                0xd4 => Err(refused("the account may not do that; make it an administrator")),
                0xd5 => Err(refused("not possible in its present state")),
                0xc0 | 0xc3 | 0xc4 | 0xd2 => Err(refused("it is busy")),
                _ => Err(refused("it says no")),
            };
        }
    }

    /// Ends the session.
    pub async fn close(&self) {
        if let Some(mut session) = self.session.lock().await.take() {
            let id = session.bmc;
            let message = wire::request(APP, 0x3c, (session.message + 1) & 0x3f, &id);
            session.sequence = session.sequence.wrapping_add(1);
            let packet = wire::pack(wire::IPMI, session.bmc, session.sequence, &message, Some(&session.keys));
            // Nobody waits for the answer.
            let _ = session.socket.send(&packet).await;
        }
    }

    async fn set_boot_option(&self, parameter: u8, data: &[u8]) -> Result<(), BmcError> {
        let all: Vec<u8> = std::iter::once(parameter).chain(data.iter().copied()).collect();
        self.command("setting boot options", CHASSIS, 0x08, &all).await.map(|_| ())
    }

    async fn read_fru(&self) -> Result<Vec<u8>, BmcError> {
        let info = self.command("FRU information", STORAGE, 0x10, &[0]).await?;
        let size = part::<2>(&info, 0).map_or(0, |s| usize::from(u16::from_le_bytes(s)));
        let words = info.get(2).is_some_and(|a| a & 1 == 1);
        let (mut all, mut step) = (Vec::new(), 24u8);
        while all.len() < Ord::min(size, FRU) {
            let at = if words { all.len() / 2 } else { all.len() };
            let count = if words { step / 2 } else { step };
            let [low, high] = (at as u16).to_le_bytes();
            match self.command("FRU data", STORAGE, 0x11, &[0, low, high, count]).await {
                Ok(answer) if answer.len() > 1 => all.extend_from_slice(&answer[1..]),
                Ok(_) => break,
                // Less at a time, as the BMC's bus may want it.
                Err(BmcError::Refused { .. }) if step > 8 => step /= 2,
                Err(e) => return Err(e),
            }
        }
        Ok(all)
    }
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// A GUID as text. BMCs send it in three orders of bytes; the one that makes it valid is taken.
fn guid(raw: [u8; 16]) -> Option<String> {
    let mut smbios = raw;
    smbios[..4].reverse();
    smbios[4..6].reverse();
    smbios[6..8].reverse();
    let mut reversed = raw;
    reversed.reverse();
    let good = |g: &[u8; 16]| (1..=5).contains(&(g[6] >> 4)) && g[8] >> 6 == 0b10;
    let g = [smbios, reversed, raw].into_iter().find(good)?;
    let uuid = g.map(|b| format!("{b:02x}"));
    Some([&uuid[..4], &uuid[4..6], &uuid[6..8], &uuid[8..10], &uuid[10..]].map(|p| p.concat()).join("-"))
}

#[async_trait]
impl Power for Ipmi {
    async fn power(&self) -> Result<PowerState, BmcError> {
        let status = self.command("chassis status", CHASSIS, 0x01, &[]).await?;
        Ok(match status.first() {
            Some(s) if s & 1 == 1 => PowerState::On,
            Some(_) => PowerState::Off,
            None => PowerState::Unknown,
        })
    }

    async fn set_power(&self, action: PowerAction) -> Result<(), BmcError> {
        let order = match (action, self.power().await?) {
            (PowerAction::On, PowerState::On) | (PowerAction::ForceOff | PowerAction::GracefulOff, PowerState::Off) => {
                return Ok(());
            }
            (PowerAction::On, _) | (PowerAction::Cycle | PowerAction::Reset, PowerState::Off) => 1,
            (PowerAction::ForceOff, _) => 0,
            (PowerAction::Cycle, _) => 2,
            (PowerAction::Reset, _) => 3,
            (PowerAction::Nmi, _) => 4,
            (PowerAction::GracefulOff, _) => 5,
        };
        self.command("chassis control", CHASSIS, 0x02, &[order]).await.map(|_| ())
    }

    fn address(&self) -> String {
        Ipmi::address(self)
    }
}

/// Bits 6 and 5 of the current power state in the chassis status (IPMI 2.0, 28.2).
#[async_trait]
impl PowerLoss for Ipmi {
    async fn after_power_loss(&self) -> Result<Option<AfterPowerLoss>, BmcError> {
        let status = self.command("chassis status", CHASSIS, 0x01, &[]).await?;
        Ok(match status.first().map(|s| s >> 5 & 3) {
            Some(0) => Some(AfterPowerLoss::StayOff),
            Some(1) => Some(AfterPowerLoss::LastState),
            Some(2) => Some(AfterPowerLoss::Start),
            _ => None,
        })
    }

    /// Set Power Restore Policy (IPMI 2.0, 28.8).
    async fn set_after_power_loss(&self, wanted: AfterPowerLoss) -> Result<(), BmcError> {
        if self.after_power_loss().await? == Some(wanted) {
            return Ok(());
        }
        let policy = match wanted {
            AfterPowerLoss::StayOff => 0,
            AfterPowerLoss::LastState => 1,
            AfterPowerLoss::Start => 2,
        };
        self.command("power restore policy", CHASSIS, 0x06, &[policy]).await?;
        match self.after_power_loss().await? {
            Some(now) if now == wanted => Ok(()),
            found => Err(BmcError::NoEffect {
                address: Ipmi::address(self),
                what: format!("after a loss of power it was to be {wanted:?}"),
                found: format!("{found:?}"),
                seconds: 0,
            }),
        }
    }
}

#[async_trait]
impl Boot for Ipmi {
    async fn boot_once(&self, target: BootTarget) -> Result<(), BmcError> {
        let device: u8 = match target {
            BootTarget::None => 0,
            BootTarget::Pxe => 1,
            BootTarget::Disk => 2,
            BootTarget::Cd => 5,
            BootTarget::UefiHttp => return Err(self.unsupported("boot from UEFI HTTP, which IPMI has no word for")),
        };
        // Courtesies that many BMCs do not know: "I change them", "they are meant for the BIOS", and that the choice outlives a minute.
        let _ = self.set_boot_option(0, &[1]).await;
        let _ = self.set_boot_option(4, &[1, 1]).await;
        let _ = self.set_boot_option(3, &[0x08]).await;
        // Valid, once, UEFI.
        let flags = if target == BootTarget::None { 0 } else { 0xa0 };
        self.set_boot_option(5, &[flags, device << 2, 0, 0, 0]).await?;
        let _ = self.set_boot_option(0, &[0]).await;
        let now = self.command("boot options", CHASSIS, 0x09, &[5, 0, 0]).await?;
        let (valid, found) = match now.get(2..4) {
            Some(data) => (data[0] & 0x80 != 0, data[1] >> 2 & 0x0f),
            None => return Err(self.odd("boot options", &now)),
        };
        // Not all show the mark "valid" again; the device is what counts.
        let holds = found == device || target == BootTarget::None && !valid;
        if holds {
            return Ok(());
        }
        Err(BmcError::NoEffect {
            address: Ipmi::address(self),
            what: format!("the next boot was to be from {target:?}"),
            found: format!("device {found}{}", if valid { "" } else { ", not valid" }),
            seconds: 0,
        })
    }
}

#[async_trait]
impl Identify for Ipmi {
    async fn identify(&self, on: bool) -> Result<(), BmcError> {
        if !on {
            return self.command("chassis identify", CHASSIS, 0x04, &[0]).await.map(|_| ());
        }
        match self.command("chassis identify", CHASSIS, 0x04, &[0, 1]).await {
            // Without "for ever": as long as it goes, four minutes.
            Err(BmcError::Refused { .. }) => self.command("chassis identify", CHASSIS, 0x04, &[255]).await.map(|_| ()),
            other => other.map(|_| ()),
        }
    }
}

#[async_trait]
impl Inventory for Ipmi {
    async fn inventory(&self) -> Result<HardwareInventory, BmcError> {
        let mut found = HardwareInventory { power: Some(self.power().await?), ..HardwareInventory::default() };
        found.consoles.serial = Some("IPMI".into());
        // What one BMC does not have is left out.
        let fru = match self.read_fru().await {
            Ok(bytes) => fru::read(&bytes),
            Err(BmcError::Unsupported { .. } | BmcError::Refused { .. }) => fru::Fru::default(),
            Err(e) => return Err(e),
        };
        (found.serial, found.vendor, found.model) = (fru.serial, fru.vendor, fru.model);
        let id = self.command("device id", APP, 0x01, &[]).await?;
        if let Some(&[major, minor]) = id.get(2..4) {
            found.bmc_version = Some(format!("{}.{:02x}", major & 0x7f, minor));
        }
        if let Ok(raw) = self.command("GUID", APP, 0x37, &[]).await {
            found.uuid = part(&raw, 0).and_then(guid);
        }
        for channel in [0x0e, 1] {
            if let Ok(answer) = self.command("LAN configuration", TRANSPORT, 0x02, &[channel, 5, 0, 0]).await
                && let Some(mac) = part::<6>(&answer, 1)
            {
                found.bmc_mac = Some(mac.map(|b| format!("{b:02x}")).join(":"));
                break;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
