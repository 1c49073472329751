//! Interpreter of iPXE scripts: the subset that boot servers use.
//!
//! Commands succeed or fail; a failed command ends the script unless `||` follows it. Anything unknown fails, as in iPXE.

use std::{collections::BTreeMap, future::Future};

use bytes::Bytes;

use crate::iscsi::initiator::Volume;

/// What a script needs of the machine that it runs on.
pub trait Machine: Send + Sync {
    /// Loads a file.
    fn fetch(&self, url: &str) -> impl Future<Output = Result<Bytes, String>> + Send;
    /// Asks for an address; returns settings such as `net0/ip` and `next-server`.
    fn dhcp(&self) -> impl Future<Output = Result<BTreeMap<String, String>, String>> + Send;
    /// Whether the first disk can be booted.
    fn disk_bootable(&self) -> bool;
    /// Attaches a volume. Whether a system is on it.
    fn attach(&self, volume: &Volume) -> impl Future<Output = Result<bool, String>> + Send;
    /// A line on the console.
    fn console(&self, line: String);
}

/// How a script ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A kernel runs.
    Kernel {
        /// Its URL.
        url: String,
        /// Its command line.
        arguments: String,
        /// URLs of its initial RAM disks.
        initrds: Vec<String>,
    },
    /// The local disk is booted.
    Disk,
    /// A volume on the network is booted.
    Volume(Box<Volume>),
    /// Back to the firmware, which goes on with the next boot option.
    Exit,
    /// Restart.
    Reboot,
    /// Switch off.
    PowerOff,
    /// The script failed.
    Failed(String),
}

/// Most commands of a boot, against scripts that loop.
const MAX_COMMANDS: usize = 10_000;
const MAX_CHAIN: usize = 8;

enum Flow {
    Next(bool),
    Goto(String),
    Chain { script: Bytes, url: String, replace: bool },
    End(Outcome),
}

/// Settings and loaded images of a running iPXE.
pub struct Interpreter<'a, M> {
    machine: &'a M,
    settings: BTreeMap<String, String>,
    base: String,
    kernel: Option<(String, String)>,
    initrds: Vec<String>,
    commands: usize,
}

impl<'a, M: Machine> Interpreter<'a, M> {
    /// A fresh iPXE with these settings (`net0/mac`, `uuid`, `next-server` and so on).
    pub fn new(machine: &'a M, settings: BTreeMap<String, String>) -> Self {
        Self { machine, settings, base: String::new(), kernel: None, initrds: Vec::new(), commands: 0 }
    }

    /// Runs a script that was loaded from `url`.
    pub async fn run(mut self, script: &[u8], url: &str) -> Outcome {
        let mut stack = vec![(script.to_vec(), url.to_owned(), 0_usize)];
        while let Some((script, url, start)) = stack.pop() {
            let Ok(text) = std::str::from_utf8(&script) else { return Outcome::Failed("script is not text".into()) };
            if !text.starts_with("#!ipxe") {
                return Outcome::Failed(format!("{url}: exec format error (no #!ipxe)"));
            }
            let lines = join_lines(text);
            self.base.clone_from(&url);
            let mut at = start;
            while let Some(line) = lines.get(at) {
                at += 1;
                match self.line(line).await {
                    Flow::Next(true) => {}
                    Flow::Next(false) => return Outcome::Failed(format!("script ended at: {}", line.trim())),
                    Flow::Goto(label) => {
                        let target =
                            lines.iter().position(|line| line.trim().strip_prefix(':') == Some(label.as_str()));
                        let Some(target) = target else { return Outcome::Failed(format!("no such label: {label}")) };
                        at = target + 1;
                    }
                    Flow::Chain { script: next, url: next_url, replace } => {
                        if stack.len() >= MAX_CHAIN {
                            return Outcome::Failed("too many chained scripts".into());
                        }
                        if !replace {
                            stack.push((script.clone(), url.clone(), at));
                        }
                        stack.push((next.to_vec(), next_url, 0));
                        break;
                    }
                    Flow::End(outcome) => return outcome,
                }
            }
        }
        Outcome::Exit
    }

    /// One line: commands joined by `||`, `&&` and `;`.
    async fn line(&mut self, line: &str) -> Flow {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || line.starts_with(':') {
            return Flow::Next(true);
        }
        let mut ok = true;
        let mut joiner = ";";
        let words: Vec<&str> = line.split_whitespace().collect();
        for command in words.split_inclusive(|word| matches!(*word, "||" | "&&" | ";")) {
            let (command, next) = match command {
                [command @ .., last @ ("||" | "&&" | ";")] => (command, *last),
                command => (command, ";"),
            };
            let skip = (joiner == "||" && ok) || (joiner == "&&" && !ok);
            joiner = next;
            if skip {
                continue;
            }
            self.commands += 1;
            if self.commands > MAX_COMMANDS {
                return Flow::End(Outcome::Failed("script does not end".into()));
            }
            let words: Vec<String> = command.iter().map(|word| self.expand(word)).collect();
            match self.command(&words).await {
                Flow::Next(result) => ok = result,
                other => return other,
            }
        }
        Flow::Next(ok)
    }

    /// Replaces `${name}`, `${name:hexhyp}`.
    fn expand(&self, word: &str) -> String {
        let (mut text, mut rest) = (String::new(), word);
        while let Some((head, tail)) = rest.split_once("${") {
            text.push_str(head);
            let Some((name, after)) = tail.split_once('}') else {
                text.push_str("${");
                text.push_str(tail);
                return text;
            };
            text.push_str(&self.setting(name));
            rest = after;
        }
        text.push_str(rest);
        text
    }

    fn setting(&self, name: &str) -> String {
        let (name, kind) = name.split_once(':').unwrap_or((name, ""));
        let value = self
            .settings
            .get(name)
            .or_else(|| self.settings.get(name.strip_prefix("net0/").unwrap_or(name)))
            .or_else(|| self.settings.get(&format!("net0/{name}")))
            .cloned()
            .unwrap_or_default();
        match kind {
            "hexhyp" => value.replace(':', "-"),
            "hexraw" => value.replace(':', ""),
            _ => value,
        }
    }

    fn resolve(&self, reference: &str) -> Result<String, String> {
        if reference.contains("://") {
            return Ok(reference.to_owned());
        }
        url::Url::parse(&self.base)
            .and_then(|base| base.join(reference))
            .map(String::from)
            .map_err(|error| format!("{reference}: {error}"))
    }

    async fn load(&self, reference: &str) -> Option<(String, Bytes)> {
        let loaded = match self.resolve(reference) {
            Ok(url) => self.machine.fetch(&url).await.map(|data| (url, data)),
            Err(error) => Err(error),
        };
        match loaded {
            Ok((url, data)) => {
                self.machine.console(format!("{}... ok ({} bytes)", super::net::without_tokens(&url), data.len()));
                Some((url, data))
            }
            Err(error) => {
                self.machine.console(format!("iPXE: {error}"));
                None
            }
        }
    }

    async fn command(&mut self, words: &[String]) -> Flow {
        let Some((name, rest)) = words.split_first() else { return Flow::Next(true) };
        let (flags, arguments): (Vec<&String>, Vec<&String>) = split_flags(name, rest);
        let first = arguments.first().map(|word| word.as_str());
        match name.as_str() {
            "echo" => {
                let text = arguments.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(" ");
                self.machine.console(text);
                Flow::Next(true)
            }
            "set" => {
                let Some(name) = first else { return Flow::Next(false) };
                let value = arguments[1..].iter().map(|word| word.as_str()).collect::<Vec<_>>().join(" ");
                self.settings.insert(name.to_owned(), value);
                Flow::Next(true)
            }
            "clear" => Flow::Next(first.is_some_and(|name| self.settings.remove(name).is_some())),
            "isset" => Flow::Next(first.is_some_and(|value| !value.is_empty())),
            "iseq" => Flow::Next(arguments.len() == 2 && arguments[0] == arguments[1]),
            "goto" => first.map_or(Flow::Next(false), |label| Flow::Goto(label.to_owned())),
            "dhcp" | "ifconf" => match self.machine.dhcp().await {
                Ok(settings) => {
                    self.settings.extend(settings);
                    Flow::Next(true)
                }
                Err(error) => {
                    self.machine.console(format!("iPXE: {error}"));
                    Flow::Next(false)
                }
            },
            "ifopen" | "ifclose" | "ifstat" | "iflinkwait" | "imgstat" | "console" | "colour" | "cpair" | "route"
            | "sync" => Flow::Next(true),
            // Nobody waits for a simulated machine longer than it takes to see that it waits.
            "sleep" => {
                let seconds = first.and_then(|s| s.parse::<f64>().ok()).unwrap_or(0.0).clamp(0.0, 0.5);
                tokio::time::sleep(std::time::Duration::from_secs_f64(seconds)).await;
                Flow::Next(true)
            }
            "imgfree" => {
                self.kernel = None;
                self.initrds.clear();
                Flow::Next(true)
            }
            "kernel" | "imgselect" | "imgload" => {
                let Some(reference) = first else { return Flow::Next(false) };
                let Some((url, _)) = self.load(reference).await else { return Flow::Next(false) };
                let line = arguments[1..].iter().map(|word| word.as_str()).collect::<Vec<_>>().join(" ");
                self.kernel = Some((url, line));
                Flow::Next(true)
            }
            "initrd" | "module" | "imgfetch" => {
                let Some(reference) = first else { return Flow::Next(false) };
                let Some((url, _)) = self.load(reference).await else { return Flow::Next(false) };
                self.initrds.push(url);
                Flow::Next(true)
            }
            "imgargs" => {
                let line = arguments.iter().skip(1).map(|word| word.as_str()).collect::<Vec<_>>().join(" ");
                match &mut self.kernel {
                    Some(kernel) => {
                        kernel.1 = line;
                        Flow::Next(true)
                    }
                    None => Flow::Next(false),
                }
            }
            "boot" | "imgexec" => {
                if let Some(reference) = first
                    && self.kernel.as_ref().is_none_or(|(url, _)| !url.ends_with(reference))
                {
                    return self.chain(reference, &arguments, &flags).await;
                }
                match self.kernel.take() {
                    Some((url, arguments)) => {
                        Flow::End(Outcome::Kernel { url, arguments, initrds: std::mem::take(&mut self.initrds) })
                    }
                    None => Flow::Next(false),
                }
            }
            "chain" => match first {
                Some(reference) => self.chain(reference, &arguments, &flags).await,
                None => Flow::Next(false),
            },
            "sanboot" => {
                let own = arguments.is_empty();
                if own && self.machine.disk_bootable() {
                    Flow::End(Outcome::Disk)
                } else if !own {
                    self.sanboot(&arguments).await
                } else {
                    self.machine.console("iPXE: sanboot: no bootable drive".into());
                    Flow::Next(false)
                }
            }
            "exit" => match first {
                None | Some("0") => Flow::End(Outcome::Exit),
                Some(code) => Flow::End(Outcome::Failed(format!("exit {code}"))),
            },
            "reboot" => Flow::End(Outcome::Reboot),
            "poweroff" => Flow::End(Outcome::PowerOff),
            other => {
                self.machine.console(format!("iPXE: {other}: command not found"));
                Flow::Next(false)
            }
        }
    }

    /// Boots the first of these places that lets us in.
    async fn sanboot(&mut self, places: &[&String]) -> Flow {
        let named = |name: &str| Some(self.setting(name)).filter(|v| !v.is_empty());
        for place in places {
            let Some(mut volume) = Volume::from_uri(place) else {
                self.machine.console(format!("iPXE: sanboot: {place}: not supported"));
                continue;
            };
            volume.initiator = named("initiator-iqn").unwrap_or_else(|| "iqn.2010-04.org.ipxe:unnamed".into());
            volume.chap = named("username").zip(named("password"));
            match self.machine.attach(&volume).await {
                Ok(true) => return Flow::End(Outcome::Volume(Box::new(volume))),
                Ok(false) => self.machine.console(format!("iPXE: {place}: no system on it")),
                Err(error) => self.machine.console(format!("iPXE: {place}: {error}")),
            }
        }
        Flow::Next(false)
    }

    async fn chain(&mut self, reference: &str, arguments: &[&String], flags: &[&String]) -> Flow {
        let Some((url, data)) = self.load(reference).await else { return Flow::Next(false) };
        if data.starts_with(b"#!ipxe") {
            let replace = flags.iter().any(|flag| matches!(flag.as_str(), "--replace" | "-r"));
            return Flow::Chain { script: data, url, replace };
        }
        let line = arguments[1..].iter().map(|word| word.as_str()).collect::<Vec<_>>().join(" ");
        Flow::End(Outcome::Kernel { url, arguments: line, initrds: std::mem::take(&mut self.initrds) })
    }
}

/// Options of a command, and the words after them. `--name x`, `--drive x` and the like take a value.
fn split_flags<'w>(command: &str, words: &'w [String]) -> (Vec<&'w String>, Vec<&'w String>) {
    const VALUED: [&str; 8] = ["--name", "-n", "--drive", "-d", "--timeout", "-t", "--filename", "-f"];
    let (mut flags, mut rest) = (Vec::new(), words);
    if matches!(command, "set" | "iseq") {
        return (flags, rest.iter().collect());
    }
    while let Some((word, tail)) = rest.split_first() {
        if !word.starts_with('-') || word.len() < 2 {
            break;
        }
        flags.push(word);
        rest = tail;
        // `-f` is "free" for chain and "file name" for sanboot only.
        if VALUED.contains(&word.as_str()) && !(word == "-f" && command != "sanboot") {
            rest = rest.get(1..).unwrap_or_default();
        }
    }
    (flags, rest.iter().collect())
}

/// Lines, with those that end in a backslash joined.
fn join_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
        match line.strip_suffix('\\') {
            Some(head) => open.push_str(head),
            None => {
                open.push_str(line);
                lines.push(std::mem::take(&mut open));
            }
        }
    }
    if !open.is_empty() {
        lines.push(open);
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Fake {
        files: BTreeMap<&'static str, &'static str>,
        bootable: bool,
        log: Mutex<Vec<String>>,
    }

    impl Machine for Fake {
        async fn fetch(&self, url: &str) -> Result<Bytes, String> {
            self.files.get(url).map(|text| Bytes::from_static(text.as_bytes())).ok_or_else(|| format!("{url}: 404"))
        }
        async fn dhcp(&self) -> Result<BTreeMap<String, String>, String> {
            Ok(BTreeMap::from([("net0/ip".to_owned(), "10.9.0.9".to_owned())]))
        }
        fn disk_bootable(&self) -> bool {
            self.bootable
        }
        async fn attach(&self, volume: &Volume) -> Result<bool, String> {
            if volume.chap.as_ref().is_some_and(|(user, secret)| user == "me" && secret == "secret") {
                Ok(volume.portal.0 == "10.9.0.2" && volume.initiator == "iqn.x:me")
            } else {
                Err("refused".into())
            }
        }
        fn console(&self, line: String) {
            self.log.lock().unwrap().push(line);
        }
    }

    async fn run(fake: &Fake, script: &str) -> Outcome {
        let settings = BTreeMap::from([
            ("net0/mac".to_owned(), "52:54:00:12:34:56".to_owned()),
            ("next-server".to_owned(), "10.0.0.1".to_owned()),
        ]);
        Interpreter::new(fake, settings).run(script.as_bytes(), "http://site/boot/x/script.ipxe").await
    }

    #[tokio::test]
    async fn kernel_with_arguments_and_relative_initrd() {
        let fake = Fake {
            files: BTreeMap::from([("http://site/k", "kernel"), ("http://site/boot/x/initrd.img", "initrd")]),
            ..Fake::default()
        };
        let script = "#!ipxe\n# comment\nset base http://site\nkernel --name k ${base}/k initrd=initrd.img \\\n mac=${net0/mac} hyp=${mac:hexhyp}\ninitrd --name initrd.img initrd.img\nboot\n";
        assert_eq!(
            run(&fake, script).await,
            Outcome::Kernel {
                url: "http://site/k".into(),
                arguments: "initrd=initrd.img mac=52:54:00:12:34:56 hyp=52-54-00-12-34-56".into(),
                initrds: vec!["http://site/boot/x/initrd.img".into()],
            }
        );
    }

    #[tokio::test]
    async fn sanboot_boots_the_disk_or_falls_through() {
        let script = "#!ipxe\nsanboot --no-describe --drive 0x80 || exit 0\n";
        assert_eq!(run(&Fake { bootable: true, ..Fake::default() }, script).await, Outcome::Disk);
        assert_eq!(run(&Fake::default(), script).await, Outcome::Exit);
        assert!(matches!(run(&Fake::default(), "#!ipxe\nsanboot --drive 0x80\n").await, Outcome::Failed(_)));
    }

    #[tokio::test]
    async fn volumes_are_booted_by_their_first_path_that_works() {
        let fake = Fake::default();
        let script = "#!ipxe\nset initiator-iqn iqn.x:me\nset username me\nset password secret\nsanboot iscsi:10.9.0.1::3260:1:iqn.x:t iscsi:10.9.0.2::3260:1:iqn.x:t || echo no\nreboot\n";
        let Outcome::Volume(volume) = run(&fake, script).await else { panic!("{:?}", fake.log) };
        assert_eq!((volume.portal.0.as_str(), volume.lun), ("10.9.0.2", 1));
        let wrong = script.replace("password secret", "password other");
        assert_eq!(run(&fake, &wrong).await, Outcome::Reboot);
        assert!(fake.log.lock().unwrap().iter().any(|l| l == "no"));
    }

    #[tokio::test]
    async fn labels_conditions_and_chains() {
        let fake = Fake {
            files: BTreeMap::from([("http://site/next", "#!ipxe\necho in next ${ip}\nset seen yes\n")]),
            ..Fake::default()
        };
        let script = "#!ipxe\ndhcp || goto failed\nchain http://site/next || goto failed\niseq ${seen} yes && goto good ||\ngoto failed\n:good\nreboot\n:failed\npoweroff\n";
        assert_eq!(run(&fake, script).await, Outcome::Reboot);
        assert!(fake.log.lock().unwrap().iter().any(|line| line == "in next 10.9.0.9"));
        let failing = "#!ipxe\nchain http://site/missing || goto failed\nreboot\n:failed\npoweroff\n";
        assert_eq!(run(&fake, failing).await, Outcome::PowerOff);
    }

    #[tokio::test]
    async fn bad_scripts_end_in_words() {
        let fake = Fake::default();
        for (script, word) in [
            ("not ipxe", "exec format"),
            ("#!ipxe\nfrobnicate\n", "frobnicate"),
            ("#!ipxe\ngoto nowhere\n", "label"),
            ("#!ipxe\n:a\ngoto a\n", "does not end"),
            ("#!ipxe\nboot\n", "boot"),
            ("#!ipxe\nexit 1\n", "exit 1"),
        ] {
            match run(&fake, script).await {
                Outcome::Failed(text) => assert!(text.contains(word), "{script}: {text}"),
                other => panic!("{script}: {other:?}"),
            }
        }
        assert_eq!(run(&fake, "#!ipxe\necho done ${unknown\n").await, Outcome::Exit);
    }
}
