//! `server console`: the serial console in this terminal.

use std::{
    io::{IsTerminal, Read, Write},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use client::Client;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

/// After the end of what is piped in, what the server still writes is waited for.
const LAST: Duration = Duration::from_secs(1);

/// What the keyboard says.
#[derive(Debug, PartialEq, Eq)]
enum Typed {
    Bytes(Vec<u8>),
    Break,
    Quit,
}

/// Finds `~.` (leave), `~B` (break) and `~~` at the beginning of a line, as ssh does.
struct Escapes {
    line_begins: bool,
    tilde: bool,
}

impl Escapes {
    fn new() -> Self {
        Self { line_begins: true, tilde: false }
    }

    fn read(&mut self, bytes: &[u8]) -> Vec<Typed> {
        let (mut all, mut plain) = (Vec::new(), Vec::new());
        for byte in bytes {
            if std::mem::take(&mut self.tilde) {
                match byte {
                    b'.' | b'B' => {
                        if !plain.is_empty() {
                            all.push(Typed::Bytes(std::mem::take(&mut plain)));
                        }
                        all.push(if *byte == b'.' { Typed::Quit } else { Typed::Break });
                        continue;
                    }
                    b'~' => {}
                    _ => plain.push(b'~'),
                }
            } else if *byte == b'~' && self.line_begins {
                self.tilde = true;
                continue;
            }
            plain.push(*byte);
            self.line_begins = matches!(byte, b'\r' | b'\n');
        }
        if !plain.is_empty() {
            all.push(Typed::Bytes(plain));
        }
        all
    }
}

/// Puts the terminal back, however this ends.
struct Raw(bool);

impl Raw {
    fn new(terminal: bool) -> Result<Self> {
        if terminal {
            crossterm::terminal::enable_raw_mode().context("the terminal cannot be switched to raw mode")?;
        }
        Ok(Self(terminal))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if self.0 {
            let _ = crossterm::terminal::disable_raw_mode();
        }
    }
}

/// Opens the console of the object at `path`, until either end has enough.
pub async fn run(client: &Client, path: &str, read_only: bool, take_over: bool) -> Result<()> {
    let body = json!({"kind": "serial", "readOnly": read_only, "takeOver": take_over});
    let ticket = client.post(&format!("{path}/console"), &body).await?;
    let text = |name: &str| ticket.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let protocols = format!("{}, ticket.{}", text("protocol"), text("ticket"));
    let upgraded = client.websocket(&text("path"), &protocols).await?;
    let (mut to, mut from) = WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await.split();

    let terminal = std::io::stdin().is_terminal();
    // A thread of its own: nobody waits for its last read.
    let (keys, mut typed) = mpsc::channel::<Vec<u8>>(16);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        let mut stdin = std::io::stdin().lock();
        while let Ok(count @ 1..) = stdin.read(&mut buffer) {
            if keys.blocking_send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    let raw = Raw::new(terminal)?;
    let mut escapes = Escapes::new();
    let (mut reason, mut ended) = (None, false);
    loop {
        let send = tokio::select! {
            message = from.next() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    let mut out = std::io::stdout().lock();
                    out.write_all(&bytes)?;
                    out.flush()?;
                    continue;
                }
                Some(Ok(Message::Text(text))) => {
                    let said: Value = serde_json::from_str(&text).unwrap_or_default();
                    match said["type"].as_str() {
                        Some("ready") => {
                            let others = said["viewers"].as_u64().unwrap_or(1).saturating_sub(1);
                            let others = if others > 0 { format!(", {others} more look") } else { String::new() };
                            let via = said["via"].as_str().unwrap_or_default();
                            eprint!("[connected by {via}{others}; ~. leaves, ~B sends a break]\r\n");
                            match crossterm::terminal::size().ok().filter(|_| terminal) {
                                Some((columns, rows)) => json!({"type": "size", "columns": columns, "rows": rows}),
                                None => continue,
                            }
                        }
                        Some("end") => {
                            reason = said["reason"].as_str().map(str::to_owned);
                            break;
                        }
                        _ => continue,
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => continue,
            },
            bytes = typed.recv(), if !ended => {
                let Some(bytes) = bytes else {
                    ended = true;
                    continue;
                };
                let all = if terminal { escapes.read(&bytes) } else { vec![Typed::Bytes(bytes)] };
                let mut quit = false;
                for one in all {
                    let message = match one {
                        Typed::Bytes(bytes) => Message::Binary(bytes.into()),
                        Typed::Break => Message::Text(json!({"type": "break"}).to_string().into()),
                        Typed::Quit => {
                            quit = true;
                            break;
                        }
                    };
                    to.send(message).await.context("the connection broke")?;
                }
                if quit {
                    break;
                }
                continue;
            }
            () = tokio::time::sleep(LAST), if ended => break,
        };
        to.send(Message::Text(send.to_string().into())).await.context("the connection broke")?;
    }
    let _ = to.send(Message::Close(None)).await;
    drop(raw);
    match reason {
        Some(reason) => bail!("{reason}"),
        None => {
            eprintln!("\n[closed]");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_at_the_beginning_of_a_line() {
        let bytes = |text: &str| Typed::Bytes(text.as_bytes().to_vec());
        assert_eq!(Escapes::new().read(b"~."), [Typed::Quit]);
        assert_eq!(Escapes::new().read(b"ls ~.\r"), [bytes("ls ~.\r")]);
        assert_eq!(Escapes::new().read(b"ls\r~Bx"), [bytes("ls\r"), Typed::Break, bytes("x")]);
        assert_eq!(Escapes::new().read(b"~~a"), [bytes("~a")]);
        assert_eq!(Escapes::new().read(b"~x"), [bytes("~x")]);
        let mut cut = Escapes::new();
        assert_eq!(cut.read(b"\r~"), [bytes("\r")]);
        assert_eq!(cut.read(b"."), [Typed::Quit]);
    }
}
