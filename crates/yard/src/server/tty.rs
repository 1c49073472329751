//! The serial port: what firmware, boot loaders and systems write to it, and a login that answers.

use tokio::sync::broadcast;

use super::{Stage, State};

/// Text that is kept for whoever connects later.
const KEPT: usize = 4096;
/// Texts that wait for a slow reader.
const QUEUE: usize = 256;
/// Longest line that is typed.
const LINE: usize = 256;

/// Where the login is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Login,
    Password(String),
    Shell(String),
}

/// The serial port of a server.
#[derive(Default)]
pub struct Tty {
    text: String,
    /// Made for the first who listens: thousands never have one.
    out: Option<broadcast::Sender<String>>,
    phase: Phase,
    line: String,
    /// In the middle of an escape sequence, which no command understands.
    escape: bool,
}

/// What was asked for at the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `reboot`.
    Reboot,
    /// `poweroff`.
    PowerOff,
}

impl Tty {
    fn write(&mut self, text: &str) {
        self.text.push_str(text);
        if self.text.len() > KEPT {
            let mut cut = self.text.len() - KEPT;
            while !self.text.is_char_boundary(cut) {
                cut += 1;
            }
            // From the beginning of a line.
            cut = self.text[cut..].find('\n').map_or(cut, |n| cut + n + 1);
            self.text.drain(..cut);
        }
        if let Some(out) = &self.out {
            let _ = out.send(text.to_owned());
        }
    }

    /// What is on it, and what will be.
    pub fn attach(&mut self) -> (String, broadcast::Receiver<String>) {
        let out = self.out.get_or_insert_with(|| broadcast::channel(QUEUE).0);
        (self.text.clone(), out.subscribe())
    }

    /// What is on it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The power has changed.
    pub fn reset(&mut self) {
        (self.phase, self.escape) = (Phase::Login, false);
        self.line.clear();
        self.text.clear();
        self.write("\x1b[2J\x1b[H");
    }
}

fn hostname(state: &State) -> String {
    state.kept.os.as_ref().map_or_else(|| "localhost".into(), |os| os.hostname.clone())
}

fn prompt(state: &State) -> String {
    match &state.tty.phase {
        Phase::Login => format!("{} login: ", hostname(state)),
        Phase::Password(_) => "Password: ".into(),
        Phase::Shell(user) => format!("{user}@{}:~$ ", hostname(state)),
    }
}

impl State {
    /// A line of the machine's own on the serial port.
    pub(super) fn tty_line(&mut self, line: &str) {
        if self.stage != Stage::OsUp {
            return self.tty.write(&format!("{line}\r\n"));
        }
        // A system that runs has somebody at its prompt.
        if line.ends_with(" login:") {
            let banner = format!("\r\nDebian GNU/Linux 12 {} ttyS0\r\n\r\n{}", hostname(self), prompt(self));
            return self.tty.write(&banner);
        }
        let shown = if matches!(self.tty.phase, Phase::Password(_)) { "" } else { &self.tty.line };
        let text = format!("\r\n{line}\r\n{}{shown}", prompt(self));
        self.tty.write(&text);
    }

    /// What somebody types.
    pub fn typed(&mut self, bytes: &[u8]) -> Option<Order> {
        let mut order = None;
        for byte in bytes {
            if self.stage != Stage::OsUp {
                // Firmware and installers listen to nobody here.
                continue;
            }
            if self.tty.escape {
                // Up to its letter.
                self.tty.escape = !byte.is_ascii_alphabetic() && *byte != b'~';
                continue;
            }
            let secret = matches!(self.tty.phase, Phase::Password(_));
            match byte {
                0x1b => self.tty.escape = true,
                b'\r' | b'\n' => order = order.or(self.entered()),
                0x7f | 0x08 if self.tty.line.pop().is_some() && !secret => self.tty.write("\x08 \x08"),
                0x03 => {
                    self.tty.line.clear();
                    let text = format!("^C\r\n{}", prompt(self));
                    self.tty.write(&text);
                }
                0x04 if self.tty.line.is_empty() && matches!(self.tty.phase, Phase::Shell(_)) => self.log_out(),
                0x20..0x7f if self.tty.line.len() < LINE => {
                    self.tty.line.push(char::from(*byte));
                    if !secret {
                        self.tty.write(&char::from(*byte).to_string());
                    }
                }
                _ => {}
            }
        }
        order
    }

    /// A break: the kernel's help, as with its magic key.
    pub fn broke(&mut self) {
        if self.stage == Stage::OsUp {
            self.tty_line("sysrq: HELP : loglevel(0-9) reboot(b) crash(c) show-memory-usage(m) sync(s)");
        }
    }

    fn log_out(&mut self) {
        self.tty.phase = Phase::Login;
        let text = format!("\r\nlogout\r\n\r\nDebian GNU/Linux 12 {} ttyS0\r\n\r\n{}", hostname(self), prompt(self));
        self.tty.write(&text);
    }

    fn entered(&mut self) -> Option<Order> {
        let line = std::mem::take(&mut self.tty.line);
        let mut order = None;
        let said = match self.tty.phase.clone() {
            Phase::Login if line.trim().is_empty() => String::new(),
            Phase::Login => {
                self.tty.phase = Phase::Password(line.trim().to_owned());
                String::new()
            }
            // The simulated system knows no accounts.
            Phase::Password(user) if !line.is_empty() => {
                self.tty.phase = Phase::Shell(user);
                format!("Linux {} 6.1.0-18-amd64 #1 SMP PREEMPT_DYNAMIC Debian x86_64\r\n", hostname(self))
            }
            Phase::Password(_) => {
                self.tty.phase = Phase::Login;
                "\r\nLogin incorrect\r\n".into()
            }
            Phase::Shell(_) if matches!(line.trim(), "exit" | "logout") => {
                self.log_out();
                return None;
            }
            Phase::Shell(user) => {
                order = match line.trim() {
                    "reboot" => Some(Order::Reboot),
                    "poweroff" | "shutdown -h now" => Some(Order::PowerOff),
                    _ => None,
                };
                self.answer(&user, line.trim())
            }
        };
        let text = format!("\r\n{said}{}", if order.is_some() { String::new() } else { prompt(self) });
        self.tty.write(&text);
        order
    }

    fn answer(&self, user: &str, line: &str) -> String {
        let mut words = line.split_whitespace();
        let command = words.next().unwrap_or_default();
        let rest: Vec<&str> = words.collect();
        let lines: Vec<String> = match command {
            "" | "reboot" | "poweroff" => Vec::new(),
            "help" => vec!["hostname uname whoami uptime ip lsblk dmesg echo clear exit reboot poweroff".into()],
            "hostname" => vec![hostname(self)],
            "whoami" => vec![user.to_owned()],
            "uname" if rest.is_empty() => vec!["Linux".into()],
            "uname" => vec![format!("Linux {} 6.1.0-18-amd64 x86_64 GNU/Linux", hostname(self))],
            "uptime" => {
                let since = self.kept.os.as_ref().map(|os| os.since.clone()).unwrap_or_default();
                vec![format!("up since {since}, load average: 0.00, 0.01, 0.00")]
            }
            "ip" => {
                let all = self.kept.os.iter().flat_map(|os| os.interfaces.iter());
                all.map(|i| format!("{:<10} UP  {}", i.name, i.addresses.join(" "))).collect()
            }
            "lsblk" => {
                vec!["NAME   SIZE TYPE MOUNTPOINTS".into(), "sda        - disk".into(), "`-sda1     - part /".into()]
            }
            "dmesg" => self.log.iter().cloned().collect(),
            "echo" => vec![rest.join(" ")],
            "clear" => return "\x1b[2J\x1b[H".into(),
            _ => vec![format!("bash: {command}: command not found")],
        };
        lines.into_iter().map(|line| line + "\r\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        YardConfig,
        server::{Kept, Os, Server},
        topology::Topology,
    };

    #[test]
    fn somebody_logs_in() {
        let config = YardConfig { servers: 1, ..YardConfig::default() };
        let spec = Topology::build(&config).unwrap().servers.remove(0);
        let kept = Kept::factory(&spec, &config);
        let server = Server::new(spec, kept);
        server.with(|state| {
            state.console("firmware self test");
            assert_eq!(state.tty.text(), "firmware self test\r\n");
            assert_eq!(state.typed(b"root\r"), None);
            assert_eq!(state.tty.text(), "firmware self test\r\n", "nobody listens");
            state.kept.os = Some(Os { hostname: "web-1".into(), interfaces: Vec::new(), since: "now".into() });
            state.enter(Stage::OsUp);
            state.console("web-1 login:");
            assert!(state.tty.text().ends_with("web-1 login: "));
            state.typed(b"roop\x7ft\rsecret\r");
            assert!(state.tty.text().ends_with("root@web-1:~$ ") && !state.tty.text().contains("secret"));
            state.typed(b"hostname\r");
            assert!(state.tty.text().ends_with("hostname\r\nweb-1\r\nroot@web-1:~$ "), "{}", state.tty.text());
            state.typed(b"ec");
            state.console("cloud-init: phoned home");
            assert!(state.tty.text().ends_with("phoned home\r\nroot@web-1:~$ ec"));
            assert_eq!(state.typed(b"\x03reboot\r"), Some(Order::Reboot));
            for _ in 0..1000 {
                state.typed(b"echo a line of text\r");
            }
            assert!(state.tty.text().len() <= KEPT && state.tty.text().ends_with("$ "));
        });
    }
}
