//! Serial over LAN (IPMI 2.0 specification, chapter 15): a payload of its own in a session of its own. One packet at a time is under way to
//! the BMC; what it did not take is sent again, and what it sends again is taken once.

use std::{collections::VecDeque, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{APP, Ipmi, Session, part, wire};
use crate::{
    BmcError,
    console::{INPUTS, Input, OUTPUTS, Serial},
};

/// Payload of serial over LAN.
const SOL: u8 = 0x01;
/// Bytes before the characters.
const HEAD: usize = 4;
/// Wait for the acknowledgement of a packet, and tries. (The specification's retry interval is the BMC's own; ipmitool has the same.)
const RETRY: Duration = Duration::from_millis(700);
const TRIES: u32 = 10;
/// Something is asked of the BMC when nothing was sent for this long, because it forgets silent sessions after a minute.
const PULSE: Duration = Duration::from_secs(15);
/// A BMC from which nothing was heard for this long is gone.
const SILENCE: Duration = Duration::from_secs(50);
/// A busy BMC is asked again after this time.
const PAUSE: Duration = Duration::from_millis(250);
/// What is typed in advance.
const AHEAD: usize = 64 << 10;

// Operation bits to the BMC.
const BREAK: u8 = 0x10;
// Status bits from the BMC.
const NACK: u8 = 0x40;
const UNAVAILABLE: u8 = 0x20;
const INACTIVE: u8 = 0x10;

/// Turns of both directions, without any I/O.
pub(super) struct Exchange {
    /// Characters in one packet.
    size: usize,
    /// Number of our next packet: 1 to 15.
    next: u8,
    /// Ours, not acknowledged yet: its number, operation, and how many of the waiting characters are in it.
    under_way: Option<(u8, u8, usize)>,
    waiting: VecDeque<u8>,
    breaks: usize,
    /// The BMC's last packet, and how many characters it had.
    last: (u8, usize),
}

/// What a packet of the BMC means.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// New characters.
    pub data: Vec<u8>,
    /// To be sent back.
    pub answer: Option<Vec<u8>>,
    /// Our packet was answered: the next may go, after a pause if the BMC is busy.
    pub answered: bool,
    pub busy: bool,
    /// The BMC has ended it.
    pub ended: bool,
}

impl Exchange {
    pub(super) fn new(size: usize) -> Self {
        Self { size, next: 1, under_way: None, waiting: VecDeque::new(), breaks: 0, last: (0, 0) }
    }

    /// Whether more may be typed.
    pub(super) fn takes(&self) -> bool {
        self.waiting.len() < AHEAD
    }

    pub(super) fn input(&mut self, input: Input) {
        match input {
            Input::Bytes(bytes) => self.waiting.extend(bytes),
            Input::Break => self.breaks += 1,
            // A serial line has no window.
            Input::Size { .. } => {}
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_none() && self.waiting.is_empty() && self.breaks == 0
    }

    /// The next packet, if one may go.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        if self.under_way.is_some() || self.is_idle() {
            return None;
        }
        let number = self.next;
        self.next = if number >= 15 { 1 } else { number + 1 };
        // A break goes alone, before what was typed after it.
        self.under_way = Some(if self.breaks > 0 {
            self.breaks -= 1;
            (number, BREAK, 0)
        } else {
            (number, 0, Ord::min(self.waiting.len(), self.size))
        });
        self.again()
    }

    /// The packet that is under way, once more.
    pub(super) fn again(&self) -> Option<Vec<u8>> {
        let (number, operation, count) = self.under_way?;
        let mut packet = vec![number, 0, 0, operation];
        packet.extend(self.waiting.iter().take(count));
        Some(packet)
    }

    pub(super) fn heard(&mut self, packet: &[u8]) -> Heard {
        let Some(&[number, acked, accepted, status]) = packet.get(..HEAD) else { return Heard::default() };
        let (number, acked) = (number & 0x0f, acked & 0x0f);
        let mut heard = Heard { ended: status & INACTIVE != 0, ..Heard::default() };
        if acked != 0
            && let Some((ours, _, count)) = self.under_way.filter(|(ours, ..)| *ours == acked)
        {
            let taken = Ord::min(usize::from(accepted), count);
            self.waiting.drain(..taken);
            self.under_way = None;
            heard.answered = true;
            heard.busy = taken < count || status & (NACK | UNAVAILABLE) != 0;
            debug_assert_eq!(ours, acked);
        }
        let data = &packet[HEAD..];
        if number != 0 {
            // One that is sent again may have more in it than before.
            let known = if self.last.0 == number { Ord::min(self.last.1, data.len()) } else { 0 };
            heard.data = data[known..].to_vec();
            self.last = (number, data.len());
            heard.answer = Some(vec![0, number, data.len().min(255) as u8, 0]);
        }
        heard
    }
}

impl Ipmi {
    /// Opens the serial console.
    pub async fn serial(&self, take_over: bool) -> Result<Serial, BmcError> {
        let mut session = self.open().await?;
        let size = match self.activate(&mut session, take_over).await {
            Ok(size) => size,
            Err(e) => {
                session.end().await;
                return Err(e);
            }
        };
        let (input, inputs) = mpsc::channel(INPUTS);
        let (outputs, output) = mpsc::channel(OUTPUTS);
        let address = self.address();
        tokio::spawn(async move {
            let ended = talk(&mut session, size, inputs, &outputs).await;
            session.deactivate().await;
            session.end().await;
            if let Err(cause) = ended {
                let _ = outputs.send(Err(BmcError::Unreachable { address, cause })).await;
            }
        });
        Ok(Serial { via: "IPMI serial over LAN".into(), breaks: true, host_key: None, input, output })
    }

    /// Characters that a packet to the BMC may have.
    async fn activate(&self, session: &mut Session, take_over: bool) -> Result<usize, BmcError> {
        let mut may_take = take_over;
        loop {
            // Encrypted and signed; alerts wait; the BMC holds the line's flow back.
            let answer = self.send(session, APP, 0x48, &[SOL, 1, 0xc4, 0, 0, 0]).await?;
            let code = answer.first().copied().unwrap_or(0xff);
            let reason = match code {
                0 => {
                    let size = part::<2>(&answer, 5).map_or(0, u16::from_le_bytes);
                    let size = usize::from(size).checked_sub(HEAD).filter(|s| *s > 0);
                    return size.map(|s| s.min(250)).ok_or_else(|| self.odd("activating serial over LAN", &answer));
                }
                0x80 if may_take => {
                    may_take = false;
                    self.send(session, APP, 0x49, &[SOL, 1, 0, 0, 0, 0]).await?;
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                0x80 => {
                    "somebody else has this serial console open, past this platform; take it over, or wait until they are done"
                }
                0x81 => "serial over LAN is switched off; switch it on in the BMC's settings",
                0x82 => "as many consoles as it has are open; end one, or restart the BMC",
                0x83 => "it cannot encrypt the serial console, which is then not opened",
                0xc1 | 0xcc => return Err(self.unsupported("serial over LAN")),
                0xd4 => "the account may not open the serial console; give it the right to serial over LAN",
                _ => "it says no",
            };
            return Err(BmcError::Refused {
                address: self.address(),
                request: "the serial console".into(),
                status: code.into(),
                reason: format!("{reason} (completion code 0x{code:02x})"),
            });
        }
    }
}

impl Session {
    async fn transmit(&mut self, kind: u8, payload: &[u8]) -> std::io::Result<()> {
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        let packet = wire::pack(kind, self.bmc, self.sequence, payload, Some(&self.keys));
        self.socket.send(&packet).await.map(|_| ())
    }

    async fn order(&mut self, command: u8, data: &[u8]) {
        self.message = (self.message + 1) & 0x3f;
        let message = wire::request(APP, command, self.message, data);
        // Nobody waits for the answer: where it is lost, the BMC ends what is silent.
        let _ = self.transmit(wire::IPMI, &message).await;
    }

    /// Whether the console is still that of this session: the word that ends it ends anybody's.
    async fn holds(&mut self) -> bool {
        self.order(0x4b, &[SOL, 1]).await;
        let (end, number) = (Instant::now() + RETRY, self.message);
        let mut buffer = [0u8; 2048];
        while let Ok(Ok(length)) = timeout_at(end, self.socket.recv(&mut buffer)).await {
            let found = buffer.get(..length).and_then(|b| wire::unpack(b, Some(&self.keys)));
            let Some(packet) = found.filter(|p| p.kind == wire::IPMI && p.session == self.console) else { continue };
            if let Some((_, 0x4b, n, data)) = wire::read(&packet.payload)
                && n == number
            {
                // One that does not know the question has no second session for it either.
                return data.first() != Some(&0) || part::<4>(data, 1) == Some(self.bmc);
            }
        }
        true
    }

    async fn deactivate(&mut self) {
        if self.holds().await {
            self.order(0x49, &[SOL, 1, 0, 0, 0, 0]).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn end(&mut self) {
        let id = self.bmc;
        self.order(0x3c, &id).await;
    }
}

/// Until either side has enough; an error says why the BMC had.
async fn talk(
    s: &mut Session,
    size: usize,
    mut inputs: mpsc::Receiver<Input>,
    outputs: &mpsc::Sender<Result<Vec<u8>, BmcError>>,
) -> Result<(), String> {
    let broke = |e: std::io::Error| e.to_string();
    let mut turns = Exchange::new(size);
    let (mut heard_at, mut sent_at) = (Instant::now(), Instant::now());
    let (mut tries, mut not_before) = (0, Instant::now());
    let mut buffer = [0u8; 2048];
    loop {
        let now = Instant::now();
        if now >= not_before
            && let Some(packet) = turns.next()
        {
            s.transmit(SOL, &packet).await.map_err(broke)?;
            (tries, sent_at) = (1, now);
        }
        let waits = turns.again().is_some();
        let end = if waits {
            sent_at + RETRY
        } else if turns.is_idle() {
            sent_at + PULSE
        } else {
            not_before
        };
        tokio::select! {
            received = timeout_at(end, s.socket.recv(&mut buffer)) => match received {
                Ok(Ok(length)) => {
                    let Some(packet) = buffer.get(..length).and_then(|b| wire::unpack(b, Some(&s.keys))) else { continue };
                    if packet.session != s.console {
                        continue;
                    }
                    heard_at = Instant::now();
                    if packet.kind != SOL {
                        continue;
                    }
                    let heard = turns.heard(&packet.payload);
                    // Acknowledged once it is handed on: a reader who is slow slows the BMC down.
                    if !heard.data.is_empty() && outputs.send(Ok(heard.data)).await.is_err() {
                        return Ok(());
                    }
                    if let Some(answer) = heard.answer {
                        s.transmit(SOL, &answer).await.map_err(broke)?;
                    }
                    if heard.answered && heard.busy {
                        not_before = Instant::now() + PAUSE;
                    }
                    if heard.ended {
                        return Err("the BMC has ended the serial console; perhaps somebody else has taken it over".into());
                    }
                }
                // Nobody listens at the port, at the moment.
                Ok(Err(_)) => tokio::time::sleep(PAUSE).await,
                Err(_) if waits && tries >= TRIES => return Err("it takes no more of what is typed".into()),
                Err(_) if waits => {
                    if let Some(packet) = turns.again() {
                        s.transmit(SOL, &packet).await.map_err(broke)?;
                        (tries, sent_at) = (tries + 1, Instant::now());
                    }
                }
                Err(_) if turns.is_idle() => {
                    // Get Device ID: any answer will do.
                    s.order(0x01, &[]).await;
                    sent_at = Instant::now();
                }
                Err(_) => {}
            },
            input = inputs.recv(), if turns.takes() => match input {
                Some(input) => turns.input(input),
                None => return Ok(()),
            },
        }
        if heard_at.elapsed() > SILENCE {
            return Err(format!("nothing was heard from it for {} s", SILENCE.as_secs()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_packet_at_a_time_and_the_rest_again() {
        let mut turns = Exchange::new(4);
        assert_eq!(turns.next(), None);
        turns.input(Input::Bytes(b"abcdef".to_vec()));
        assert_eq!(turns.next().unwrap(), b"\x01\0\0\0abcd");
        assert_eq!(turns.next(), None, "the first is not answered");
        assert_eq!(turns.again().unwrap(), b"\x01\0\0\0abcd", "lost: the same again");
        // Two were taken.
        let heard = turns.heard(&[0, 1, 2, NACK]);
        assert!(heard.answered && heard.busy && heard.answer.is_none());
        assert_eq!(turns.next().unwrap(), b"\x02\0\0\0cdef");
        assert!(!turns.heard(&[0, 1, 4, 0]).answered, "an answer to an older one");
        assert!(!turns.heard(&[0, 2, 4, 0]).busy);
        assert!(turns.is_idle());
        turns.input(Input::Break);
        turns.input(Input::Bytes(b"x".to_vec()));
        assert_eq!(turns.next().unwrap(), [3, 0, 0, BREAK]);
        turns.heard(&[0, 3, 0, 0]);
        assert_eq!(turns.next().unwrap(), [4, 0, 0, 0, b'x']);
        for n in 4..=15u8 {
            turns.heard(&[0, n, 1, 0]);
            turns.input(Input::Bytes(b"y".to_vec()));
            let number = turns.next().unwrap()[0];
            assert_eq!(number, if n == 15 { 1 } else { n + 1 }, "numbers go round without zero");
        }
    }

    #[test]
    fn what_is_sent_again_is_taken_once() {
        let mut turns = Exchange::new(100);
        let heard = turns.heard(b"\x05\0\0\0hello");
        assert_eq!((heard.data.as_slice(), heard.answer.unwrap()), (&b"hello"[..], vec![0, 5, 5, 0]));
        let heard = turns.heard(b"\x05\0\0\0hello");
        assert_eq!((heard.data.len(), heard.answer.unwrap()), (0, vec![0, 5, 5, 0]));
        // The same, with more in it.
        let heard = turns.heard(b"\x05\0\0\0hello, you");
        assert_eq!(heard.data, b", you");
        assert_eq!(turns.heard(b"\x06\0\0\0!").data, b"!");
        assert!(turns.heard(&[0, 0, 0, INACTIVE]).ended);
        assert_eq!(turns.heard(&[1, 2]), Heard::default());
    }
}
