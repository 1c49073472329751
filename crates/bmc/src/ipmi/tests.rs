//! The driver against a small BMC that speaks RMCP+, with the vices of real ones.

use std::sync::{Arc, Mutex as Lock};

use model::secret::Clear;

use super::*;

#[derive(Default)]
struct State {
    on: bool,
    boot: [u8; 5],
    identify: Vec<u8>,
    orders: Vec<u8>,
    sessions: u32,
    /// Knows suite 3 alone.
    old: bool,
    /// The same, and does not say no to others: it takes suite 3.
    deaf: bool,
    /// Swallows every packet whose number is in here.
    swallow: Vec<u32>,
    packets: u32,
    busy: u32,
    forgets_boot: bool,
    /// Forgets its sessions, once.
    restarted: bool,
    full: bool,
    operator: bool,
}

const GUID: [u8; 16] = [0x44, 0x45, 0x4c, 0x4c, 0x48, 0, 0x4a, 0x10, 0x80, 0x34, 0xb7, 0xc0, 0x4f, 0x4b, 0x39, 0x33];

fn fru() -> Vec<u8> {
    let mut all = vec![1, 0, 0, 0, 1, 0, 0, 0xfe, 1, 5, 0];
    for field in ["Acme Corp", "Box 2000", "P/N 1", "", "SN-0042"] {
        all.push(0xc0 | field.len() as u8);
        all.extend_from_slice(field.as_bytes());
    }
    all.push(0xc1);
    all.resize(8 + 40, 0);
    all
}

/// A session as the BMC keeps it.
#[derive(Default)]
struct Peer {
    suite: Option<Suite>,
    console: [u8; 4],
    console_random: [u8; 16],
    role: u8,
    user: Vec<u8>,
    keys: Option<Keys>,
    last: u32,
}

impl Peer {
    fn exchange(&self) -> Exchange<'_> {
        Exchange {
            suite: self.suite.unwrap(),
            user: &self.user,
            password: b"secret",
            role: self.role,
            console: self.console,
            bmc: [7, 7, 7, 7],
            console_random: self.console_random,
            bmc_random: [9; 16],
            guid: GUID,
        }
    }

    fn answer(&mut self, state: &mut State, bytes: &[u8]) -> Option<Vec<u8>> {
        if let Some(packet) = wire::unpack(bytes, None) {
            let p = packet.payload;
            let mut out = vec![p[0], 0, 0, 0];
            let kind = match packet.kind {
                wire::OPEN => {
                    let suite = if p[12] == 3 && !state.deaf { Suite::Sha256 } else { Suite::Sha1 };
                    *self = Self { suite: Some(suite), console: p[4..8].try_into().unwrap(), ..Self::default() };
                    out[1] = match suite {
                        Suite::Sha256 if state.old => 0x11,
                        _ if state.full => 0x01,
                        _ => 0,
                    };
                    out.extend_from_slice(&self.console);
                    out.extend_from_slice(&[7, 7, 7, 7]);
                    for (kind, number) in (0..).zip(suite.numbers()) {
                        out.extend_from_slice(&[kind, 0, 0, 8, number, 0, 0, 0]);
                    }
                    wire::OPENED
                }
                wire::RAKP1 => {
                    self.console_random = p[8..24].try_into().unwrap();
                    self.role = p[24];
                    self.user = p[28..28 + usize::from(p[27])].to_vec();
                    out.extend_from_slice(&self.console);
                    if self.user == b"admin" {
                        out.extend_from_slice(&[9; 16]);
                        out.extend_from_slice(&GUID);
                        out.extend_from_slice(&self.exchange().rakp2());
                    } else {
                        out[1] = 0x0d;
                    }
                    wire::RAKP2
                }
                wire::RAKP3 => {
                    out.extend_from_slice(&self.console);
                    let keys = self.exchange().keys();
                    if p[8..] == self.exchange().rakp3() {
                        out.extend_from_slice(&self.exchange().rakp4(&keys));
                        self.keys = Some(keys);
                        state.sessions += 1;
                    } else {
                        out[1] = 0x0f;
                    }
                    wire::RAKP4
                }
                _ => return None,
            };
            return Some(wire::pack(kind, [0; 4], 0, &out, None));
        }
        if std::mem::take(&mut state.restarted) {
            self.keys = None;
        }
        let keys = self.keys.clone()?;
        let packet = wire::unpack(bytes, Some(&keys))?;
        assert_eq!(packet.session, [7, 7, 7, 7]);
        self.last = packet.sequence;
        let (function, command, number, data) = wire::read(&packet.payload)?;
        let result = if state.busy > 0 {
            state.busy -= 1;
            vec![0xc0]
        } else {
            run(state, function, command, data)
        };
        let message = wire::answer(function, command, number, &result);
        Some(wire::pack(wire::IPMI, self.console, packet.sequence, &message, Some(&keys)))
    }
}

fn run(state: &mut State, function: u8, command: u8, data: &[u8]) -> Vec<u8> {
    let mut ok = vec![0];
    match (function, command) {
        (APP, 0x3b) if state.operator && data[0] > 3 => return vec![0x81],
        (APP, 0x3b) => ok.push(data[0]),
        (APP, 0x01) => ok.extend_from_slice(&[0x20, 1, 0x83, 0x57, 2, 0xbf, 0, 0, 0, 0, 0]),
        (APP, 0x37) => ok.extend_from_slice(&GUID),
        (CHASSIS, 0x01) => ok.extend_from_slice(&[u8::from(state.on), 0, 0]),
        (CHASSIS, 0x02) => {
            state.orders.push(data[0]);
            state.on = !matches!(data[0], 0 | 5);
        }
        (CHASSIS, 0x04) => state.identify = data.to_vec(),
        (CHASSIS, 0x08) if data[0] == 5 => {
            if !state.forgets_boot {
                state.boot = data[1..].try_into().unwrap();
            }
        }
        (CHASSIS, 0x08) if data[0] == 4 => return vec![0x80],
        (CHASSIS, 0x08) => {}
        (CHASSIS, 0x09) => {
            ok.extend_from_slice(&[1, 5]);
            ok.extend_from_slice(&state.boot);
        }
        (STORAGE, 0x10) => ok.extend_from_slice(&[fru().len() as u8, 0, 0]),
        // This one gives sixteen bytes at most.
        (STORAGE, 0x11) if data[3] > 16 => return vec![0xca],
        (STORAGE, 0x11) => {
            let fru = fru();
            let from = usize::from(data[1]);
            let part = &fru[from..Ord::min(from + usize::from(data[3]), fru.len())];
            ok.push(part.len() as u8);
            ok.extend_from_slice(part);
        }
        (TRANSPORT, 0x02) if data[0] == 1 => ok.extend_from_slice(&[0x11, 0xaa, 0xbb, 0xcc, 0, 1, 2]),
        (TRANSPORT, 0x02) => return vec![0xcc],
        _ => return vec![0xc1],
    }
    ok
}

async fn rig(change: impl FnOnce(&mut State), user: &str, password: &str) -> (Arc<Lock<State>>, Ipmi) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let state = Arc::new(Lock::new(State::default()));
    change(&mut state.lock().unwrap());
    let shared = state.clone();
    tokio::spawn(async move {
        let (mut buffer, mut peer) = ([0; 1024], Peer::default());
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let answer = {
                let mut state = shared.lock().unwrap();
                state.packets += 1;
                if state.swallow.contains(&state.packets) { None } else { peer.answer(&mut state, &buffer[..length]) }
            };
            if let Some(answer) = answer {
                // Somebody sends rubbish, and an answer to nobody's question, before it.
                let _ = socket.send_to(&[6, 0, 0xff, 7, 6, 0xc0, 1], from).await;
                socket.send_to(&answer, from).await.unwrap();
            }
        }
    });
    let access = Access {
        address,
        username: user.into(),
        password: Clear(password.into()),
        timeout: Duration::from_millis(800),
        tls_fingerprint: None,
    };
    (state, Ipmi::new(access).unwrap())
}

#[tokio::test]
async fn power_boot_source_and_led_with_both_suites() {
    for (old, deaf) in [(false, false), (true, false), (false, true)] {
        let (state, driver) = rig(|s| (s.old, s.deaf) = (old, deaf), "admin", "secret").await;
        assert_eq!(driver.power().await.unwrap(), PowerState::Off);
        driver.set_power(PowerAction::ForceOff).await.unwrap();
        driver.set_power(PowerAction::Cycle).await.unwrap();
        driver.wait_for_power(PowerState::On, Duration::from_secs(1)).await.unwrap();
        for action in
            [PowerAction::On, PowerAction::Reset, PowerAction::Cycle, PowerAction::Nmi, PowerAction::GracefulOff]
        {
            driver.set_power(action).await.unwrap();
        }
        assert_eq!(state.lock().unwrap().orders, [1, 3, 2, 4, 5]);
        driver.boot_once(BootTarget::Pxe).await.unwrap();
        assert_eq!(state.lock().unwrap().boot, [0xa0, 0x04, 0, 0, 0]);
        driver.boot_once(BootTarget::None).await.unwrap();
        assert!(matches!(driver.boot_once(BootTarget::UefiHttp).await, Err(BmcError::Unsupported { .. })));
        driver.identify(true).await.unwrap();
        assert_eq!(state.lock().unwrap().identify, [0, 1]);
        driver.identify(false).await.unwrap();
        driver.close().await;
        assert_eq!(state.lock().unwrap().sessions, 1);
    }
}

#[tokio::test]
async fn the_inventory_is_what_fru_says() {
    let (_, driver) = rig(|_| {}, "admin", "secret").await;
    let found = driver.inventory().await.unwrap();
    assert_eq!(found.serial.as_deref(), Some("SN-0042"));
    assert_eq!((found.vendor.as_deref(), found.model.as_deref()), (Some("Acme Corp"), Some("Box 2000")));
    assert_eq!(found.uuid.as_deref(), Some("4c4c4544-0048-104a-8034-b7c04f4b3933"));
    assert_eq!((found.bmc_version.as_deref(), found.bmc_mac.as_deref()), (Some("3.57"), Some("aa:bb:cc:00:01:02")));
}

#[tokio::test]
async fn lost_packets_busy_bmcs_and_restarts_are_survived() {
    let (state, driver) = rig(|s| (s.swallow, s.busy) = (vec![1, 4, 6], 3), "admin", "secret").await;
    driver.power().await.unwrap();
    state.lock().unwrap().restarted = true;
    driver.power().await.unwrap();
    assert_eq!(state.lock().unwrap().sessions, 2);
    let (_, driver) = rig(|s| s.operator = true, "admin", "secret").await;
    driver.power().await.unwrap();
    let (_, driver) = rig(|s| s.forgets_boot = true, "admin", "secret").await;
    assert!(matches!(driver.boot_once(BootTarget::Pxe).await, Err(BmcError::NoEffect { .. })));
}

#[tokio::test]
async fn who_is_not_let_in_is_told_why() {
    for (user, password) in [("admin", "wrong"), ("nobody", "secret")] {
        let (_, driver) = rig(|_| {}, user, password).await;
        assert!(matches!(driver.power().await, Err(BmcError::Unauthorized(_))));
    }
    let (_, driver) = rig(|s| s.full = true, "admin", "secret").await;
    let error = driver.power().await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("no free session"), "{error}");
    let access = Access {
        address: "127.0.0.1:9".into(),
        username: "admin".into(),
        password: Clear("x".repeat(21)),
        timeout: Duration::from_millis(100),
        tls_fingerprint: None,
    };
    assert!(Ipmi::new(access.clone()).is_err());
    let silent = Ipmi::new(Access { password: Clear("x".into()), ..access }).unwrap();
    assert!(matches!(silent.power().await, Err(BmcError::Unreachable { .. })));
}
