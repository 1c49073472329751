//! RFB 3.8 (RFC 6143) of a BMC: the server's screen as text of 80 columns, raw encoding, keys.

use std::{sync::Arc, time::Duration};

use des::{
    Des,
    cipher::{Array, BlockCipherEncrypt, KeyInit},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{font, typed};
use crate::{
    hardware::Vendor,
    server::{Server, Stage},
    world::World,
};

const COLUMNS: usize = 80;
/// The last one says how the server is.
const ROWS: usize = 25;
const WIDTH: usize = COLUMNS * font::WIDTH;
const HEIGHT: usize = ROWS * font::HEIGHT;
/// Time between two looks at the screen.
const LOOK: Duration = Duration::from_millis(100);

type Io = std::io::Result<()>;

fn wrong(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned())
}

/// Serves one viewer.
pub(super) async fn serve(world: Arc<World>, server: Arc<Server>, mut stream: TcpStream) {
    if let Err(error) = session(&world, &server, &mut stream).await {
        tracing::debug!(server = server.spec.serial, %error, "a VNC session ended");
    }
}

/// The password; nothing when VNC is off.
fn password(server: &Server) -> Option<String> {
    server.with(|state| {
        let bmc = &state.kept.bmc;
        match server.spec.model.vendor {
            Vendor::Dell => bmc.vnc.then(|| bmc.vnc_password.0.clone()),
            Vendor::Nvidia => bmc.accounts.first().map(|account| account.password.0.clone()),
            Vendor::Hpe | Vendor::Supermicro => None,
        }
    })
}

/// What the right answer to a challenge is.
fn expected(password: &str, challenge: [u8; 16]) -> [u8; 16] {
    let mut key = [0u8; 8];
    for (to, from) in key.iter_mut().zip(password.bytes()) {
        *to = from.reverse_bits();
    }
    let cipher = Des::new(&Array(key));
    let mut all = [0u8; 16];
    for half in 0..2 {
        let mut block = Array(<[u8; 8]>::try_from(&challenge[half * 8..half * 8 + 8]).unwrap_or_default());
        cipher.encrypt_block(&mut block);
        all[half * 8..half * 8 + 8].copy_from_slice(&block);
    }
    all
}

async fn session(world: &Arc<World>, server: &Arc<Server>, stream: &mut TcpStream) -> Io {
    let Some(password) = password(server) else { return Ok(()) };
    stream.write_all(b"RFB 003.008\n").await?;
    let mut version = [0; 12];
    stream.read_exact(&mut version).await?;
    if &version != b"RFB 003.008\n" {
        return Err(wrong("version"));
    }
    stream.write_all(&[1, 2]).await?;
    if stream.read_u8().await? != 2 {
        return Err(wrong("security type"));
    }
    let challenge: [u8; 16] = rand::random();
    stream.write_all(&challenge).await?;
    let mut answer = [0; 16];
    stream.read_exact(&mut answer).await?;
    if password.is_empty() || answer != expected(&password, challenge) {
        let words = b"Authentication failed";
        stream.write_all(&[0, 0, 0, 1, 0, 0, 0, words.len() as u8]).await?;
        stream.write_all(words).await?;
        return Err(wrong("password"));
    }
    stream.write_all(&[0; 4]).await?;
    stream.read_u8().await?;
    let name = format!("{} {}", server.spec.model.name, server.spec.serial);
    let mut init = Vec::new();
    init.extend_from_slice(&(WIDTH as u16).to_be_bytes());
    init.extend_from_slice(&(HEIGHT as u16).to_be_bytes());
    init.extend_from_slice(&Format::default().bytes());
    init.extend_from_slice(&(name.len() as u32).to_be_bytes());
    init.extend_from_slice(name.as_bytes());
    stream.write_all(&init).await?;
    server.with(|state| state.vnc_sessions += 1);
    let ended = picture(world, server, stream).await;
    server.with(|state| state.vnc_sessions = state.vnc_sessions.saturating_sub(1));
    ended
}

/// Pixel format of a viewer: true colour only.
#[derive(Clone, Copy)]
struct Format {
    bits: u8,
    big: bool,
    max: [u16; 3],
    shift: [u8; 3],
}

impl Default for Format {
    fn default() -> Self {
        Self { bits: 32, big: false, max: [255; 3], shift: [16, 8, 0] }
    }
}

impl Format {
    fn bytes(self) -> [u8; 16] {
        let mut all = [0; 16];
        (all[0], all[1], all[2], all[3]) = (self.bits, 24, u8::from(self.big), 1);
        for n in 0..3 {
            all[4 + n * 2..6 + n * 2].copy_from_slice(&self.max[n].to_be_bytes());
            all[10 + n] = self.shift[n];
        }
        all
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let max = |n: usize| u16::from_be_bytes([bytes[4 + n * 2], bytes[5 + n * 2]]);
        let bits = bytes[0];
        let good = matches!(bits, 8 | 16 | 32) && bytes[3] != 0 && bytes[10..13].iter().all(|s| *s < 32);
        good.then(|| Self {
            bits,
            big: bytes[2] != 0,
            max: [max(0), max(1), max(2)],
            shift: [bytes[10], bytes[11], bytes[12]],
        })
    }

    fn pixel(self, colour: [u8; 3], out: &mut Vec<u8>) {
        let parts = colour.into_iter().zip(self.max).zip(self.shift);
        let value = parts.map(|((c, max), shift)| (u32::from(c) * u32::from(max) / 255) << shift).fold(0, |a, b| a | b);
        match (self.bits, self.big) {
            (8, _) => out.push(value as u8),
            (16, true) => out.extend_from_slice(&(value as u16).to_be_bytes()),
            (16, false) => out.extend_from_slice(&(value as u16).to_le_bytes()),
            (_, true) => out.extend_from_slice(&value.to_be_bytes()),
            (_, false) => out.extend_from_slice(&value.to_le_bytes()),
        }
    }
}

/// One row of the screen: its text and colours.
#[derive(Clone, Default, PartialEq, Eq)]
struct Row {
    text: Vec<u8>,
    ink: [u8; 3],
    paper: [u8; 3],
}

/// What the screen shows now.
fn screen(server: &Server) -> Vec<Row> {
    let (text, stage) = server.with(|state| (state.tty.text().to_owned(), state.stage));
    let plain = |text: String, ink: [u8; 3], paper: [u8; 3]| Row { text: text.into_bytes(), ink, paper };
    let mut rows: Vec<Row> = if stage == Stage::Off {
        Vec::new()
    } else {
        let all = lines(&text);
        let from = all.len().saturating_sub(ROWS - 1);
        all[from..].iter().map(|line| plain(line.clone(), [200, 200, 200], [0; 3])).collect()
    };
    rows.resize(ROWS - 1, plain(String::new(), [200, 200, 200], [0; 3]));
    let (word, paper) = match stage {
        Stage::Off => ("power is off", [90, 20, 20]),
        Stage::OsUp => ("the operating system runs", [20, 90, 40]),
        Stage::NoBootDevice | Stage::Stopped => ("waits for a person", [130, 90, 0]),
        _ => ("starts", [20, 60, 120]),
    };
    rows.push(plain(format!(" {} {}  {word}", server.spec.model.name, server.spec.serial), [255; 3], paper));
    rows
}

/// Lines of a terminal: without its escapes, folded at the edge.
fn lines(text: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut escape = false;
    for c in text.chars() {
        match c {
            _ if escape => escape = !c.is_ascii_alphabetic(),
            '\x1b' => escape = true,
            '\n' => all.push(String::new()),
            '\x08' => {
                all.last_mut().map(String::pop);
            }
            ' '..='~' => {
                if all.last().is_some_and(|line| line.len() >= COLUMNS) {
                    all.push(String::new());
                }
                if let Some(line) = all.last_mut() {
                    line.push(c);
                }
            }
            _ => {}
        }
    }
    all
}

fn rectangle(n: usize, row: &Row, format: Format) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + WIDTH * font::HEIGHT * 4);
    for number in [0, n * font::HEIGHT, WIDTH, font::HEIGHT] {
        out.extend_from_slice(&(number as u16).to_be_bytes());
    }
    out.extend_from_slice(&[0; 4]);
    for y in 0..font::HEIGHT {
        for column in 0..COLUMNS {
            let bits = font::row(row.text.get(column).copied().unwrap_or(b' '), y);
            for x in 0..font::WIDTH {
                let on = bits >> (font::WIDTH - 1 - x) & 1 == 1;
                format.pixel(if on { row.ink } else { row.paper }, &mut out);
            }
        }
    }
    out
}

async fn picture(world: &Arc<World>, server: &Arc<Server>, stream: &mut TcpStream) -> Io {
    let (mut from, mut to) = stream.split();
    let mut format = Format::default();
    let mut shown: Vec<Option<Row>> = vec![None; ROWS];
    // A request waits for something new.
    let mut asked = false;
    let mut look = tokio::time::interval(LOOK);
    loop {
        let mut kind = [0; 1];
        tokio::select! {
            read = from.read(&mut kind) => {
                if read? == 0 {
                    return Ok(());
                }
                let length = match kind[0] {
                    0 => 19,
                    2 => 3,
                    3 => 9,
                    4 => 7,
                    5 => 5,
                    6 => 7,
                    _ => return Err(wrong("message")),
                };
                let mut body = vec![0; length];
                from.read_exact(&mut body).await?;
                match kind[0] {
                    0 => {
                        format = Format::read(&body[3..]).ok_or_else(|| wrong("pixel format"))?;
                        shown = vec![None; ROWS];
                    }
                    2 => {
                        let mut list = vec![0; 4 * usize::from(u16::from_be_bytes([body[1], body[2]]))];
                        from.read_exact(&mut list).await?;
                    }
                    3 => {
                        asked = true;
                        if body[0] == 0 {
                            shown = vec![None; ROWS];
                        }
                    }
                    4 if body[0] != 0 => {
                        if let Some(byte) = key(u32::from_be_bytes([body[3], body[4], body[5], body[6]])) {
                            typed(world, server, &[byte]);
                        }
                    }
                    6 => {
                        let size = u32::from_be_bytes([body[3], body[4], body[5], body[6]]).min(1 << 20) as usize;
                        let mut text = vec![0; size];
                        from.read_exact(&mut text).await?;
                    }
                    _ => {}
                }
            }
            _ = look.tick(), if asked => {}
        }
        if !asked {
            continue;
        }
        let rows = screen(server);
        let changed: Vec<usize> = (0..ROWS).filter(|n| shown[*n].as_ref() != Some(&rows[*n])).collect();
        if changed.is_empty() {
            continue;
        }
        let mut update = vec![0, 0];
        update.extend_from_slice(&(changed.len() as u16).to_be_bytes());
        for n in changed {
            update.extend_from_slice(&rectangle(n, &rows[n], format));
            shown[n] = Some(rows[n].clone());
        }
        to.write_all(&update).await?;
        asked = false;
    }
}

/// What a key (X11 keysym) types.
fn key(sym: u32) -> Option<u8> {
    match sym {
        0x20..=0x7e => Some(sym as u8),
        0xff0d | 0xff8d => Some(b'\r'),
        0xff08 => Some(0x7f),
        0xff1b => Some(0x1b),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_lines() {
        assert_eq!(lines("a\r\nb\x1b[2Jc\x08d"), ["a", "bd"]);
        assert_eq!(lines(&"x".repeat(81)).len(), 2);
    }

    #[test]
    fn pixels_in_every_format() {
        let mut out = Vec::new();
        Format::default().pixel([1, 2, 3], &mut out);
        assert_eq!(out, [3, 2, 1, 0]);
        let small = Format { bits: 16, big: true, max: [31, 63, 31], shift: [11, 5, 0] };
        out.clear();
        small.pixel([255, 0, 255], &mut out);
        assert_eq!(out, [0xf8, 0x1f]);
        assert!(Format::read(&Format::default().bytes()).is_some());
    }
}
