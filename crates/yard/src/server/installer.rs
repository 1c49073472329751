//! A distribution's installer: follows the answer file that its command line or its medium names, far enough for a Site Controller
//! to see the difference between a good answer file and a bad one.

use std::time::Duration;

use reqwest::Method;
use tokio::time::sleep;

use super::{
    Disk, Stage,
    boot::{Next, Run},
    iso,
    net::{Port, without_tokens},
};
use crate::fault::{Action, Face};

const TRIES: u32 = 5;
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Names under which media hold their answer files.
const ON_MEDIUM: [&str; 4] = ["preseed.cfg", "ks.cfg", "user-data", "autounattend.xml"];

/// How an installer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    PowerOff,
    Reboot,
}

/// What an answer file says, as far as a simulated machine cares.
#[derive(Debug, PartialEq, Eq)]
struct Answers {
    hostname: String,
    end: End,
    /// Addresses that are told at the end.
    told: Vec<String>,
    /// Addresses of files that are put onto the disk: cloud-init's.
    fetched: Vec<String>,
}

/// Where a command line says that the answer file is.
fn location(arguments: &str) -> Option<String> {
    let seed = |value: &str| {
        let at = value.split(';').find_map(|part| part.strip_prefix("s="))?;
        Some(format!("{}/user-data", at.trim_end_matches('/')))
    };
    arguments.split_whitespace().find_map(|word| {
        let (name, value) = word.split_once('=')?;
        match name {
            "url" | "preseed/url" | "inst.ks" | "ks" if value.contains("://") => Some(value.to_owned()),
            "ds" if value.starts_with("nocloud") => seed(value),
            _ => None,
        }
    })
}

/// Whether a command line is one of a distribution's installer.
pub fn is_meant(arguments: &str) -> bool {
    location(arguments).is_some()
}

fn urls(line: &str) -> impl Iterator<Item = String> + '_ {
    let end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ';' | ')' | '<' | '>' | ',');
    line.match_indices("http").filter_map(move |(at, _)| {
        let rest = line.get(at..)?;
        let url = rest.split(end).next()?;
        (url.starts_with("http://") || url.starts_with("https://")).then(|| url.trim_end_matches(']').to_owned())
    })
}

fn answers(text: &str) -> Answers {
    let mut found = Answers { hostname: String::new(), end: End::Reboot, told: Vec::new(), fetched: Vec::new() };
    for line in text.lines().map(str::trim).filter(|l| !l.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["d-i", "netcfg/get_hostname" | "netcfg/hostname", "string", name, ..] => {
                (*name).clone_into(&mut found.hostname);
            }
            ["d-i", "debian-installer/exit/poweroff", "boolean", "true"] | ["poweroff" | "shutdown" | "halt"] => {
                found.end = End::PowerOff;
            }
            ["shutdown:", "poweroff"] => found.end = End::PowerOff,
            ["hostname:", name] => name.trim_matches('"').clone_into(&mut found.hostname),
            ["network", rest @ ..] => {
                if let Some(name) = rest.iter().find_map(|w| w.strip_prefix("--hostname=")) {
                    name.trim_matches('"').clone_into(&mut found.hostname);
                }
            }
            _ => {}
        }
        if line.contains("wget") || line.contains("curl") {
            for url in urls(line) {
                let last = url.rsplit('/').next().unwrap_or_default();
                if url.contains("/ready/") || url.contains("/phone-home/") {
                    found.told.push(url);
                } else if matches!(last, "user-data" | "meta-data" | "network-config") {
                    found.fetched.push(url);
                }
            }
        }
    }
    found
}

/// Runs an installer that was booted from the network.
pub async fn network(run: &Run, port: &Port, arguments: &str) -> Next {
    run.enter(Stage::Agent, "installer starts");
    sleep(Duration::from_secs_f64(run.world.config.os_boot_seconds)).await;
    let Some(url) = location(arguments) else { return Next::Stop("installer: which language?".into()) };
    match fetch(run, port, &url).await {
        Ok(text) => install(run, port, &text, "installer").await,
        Err(error) => Next::Stop(format!("installer: the answer file cannot be loaded: {error}")),
    }
}

/// Runs an installer that was booted from a medium.
pub async fn medium(run: &Run, port: &Port, image: &[u8]) -> Next {
    run.enter(Stage::Agent, "installer starts from its medium");
    sleep(Duration::from_secs_f64(run.world.config.os_boot_seconds)).await;
    let files = iso::files(image);
    run.console(format!("medium: {}", files.keys().cloned().collect::<Vec<_>>().join(" ")));
    let answer = ON_MEDIUM.iter().find_map(|name| {
        let found = files.iter().find(|(path, _)| path.rsplit('/').next() == Some(name));
        found.map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned())
    });
    match answer {
        Some(text) => install(run, port, &text, "medium").await,
        None => Next::Stop("installer: there is no answer file on the medium; which language?".into()),
    }
}

async fn fetch(run: &Run, port: &Port, url: &str) -> Result<String, String> {
    let mut pause = Duration::from_millis(250);
    let mut tries = 0;
    loop {
        match port.fetch(Face::Http, url).await {
            Ok(bytes) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if tries >= TRIES => return Err(without_tokens(&error)),
            Err(error) => run.console(without_tokens(&error)),
        }
        tries += 1;
        sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

async fn install(run: &Run, port: &Port, text: &str, from: &str) -> Next {
    let said = answers(text);
    run.console("partitioning, and installing the base system");
    for action in port.strike(Face::Agent, "INSTALL") {
        match action {
            Action::Delay { ms } => sleep(Duration::from_millis(ms)).await,
            Action::Hang | Action::Drop => std::future::pending::<()>().await,
            Action::Error { message, .. } => {
                return Next::Stop(format!("installer: {}", message.unwrap_or_else(|| "a step failed".into())));
            }
            _ => {}
        }
    }
    run.with(|state| state.kept.disk = None);
    sleep(Duration::from_secs_f64(run.world.config.os_boot_seconds)).await;
    let mut disk = Disk {
        image: from.to_owned(),
        bootable: true,
        hostname: said.hostname.clone(),
        installed: Some(crate::events::now()),
        ..Disk::default()
    };
    for url in &said.fetched {
        let text = match fetch(run, port, url).await {
            Ok(text) => text,
            Err(error) => return Next::Stop(format!("installer: late command: {error}")),
        };
        match url.rsplit('/').next() {
            Some("user-data") => disk.user_data = text,
            Some("meta-data") => disk.meta_data = text,
            _ => disk.network_config = text,
        }
    }
    run.with(|state| state.kept.disk = Some(disk));
    run.world.changed();
    run.world.events.push(&run.server.spec.serial, "boot", "installed by an installer");
    for url in &said.told {
        let answer = port.request(Face::Http, Method::POST, url, None, None).await;
        run.console(match answer {
            Ok(answer) => format!("told the site: status {}", answer.status),
            Err(error) => format!("the site cannot be told: {}", without_tokens(&error)),
        });
    }
    match said.end {
        End::PowerOff => Next::PowerOff,
        End::Reboot => Next::Reboot,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_files_are_found() {
        for (arguments, at) in [
            ("auto=true url=http://s/seed/t/preseed.cfg", Some("http://s/seed/t/preseed.cfg")),
            ("autoinstall ds=nocloud-net;s=http://s/seed/t/ ---", Some("http://s/seed/t/user-data")),
            ("inst.repo=http://m inst.ks=http://s/ks.cfg", Some("http://s/ks.cfg")),
            ("quiet splash", None),
        ] {
            assert_eq!(location(arguments).as_deref(), at, "{arguments}");
        }
    }

    #[test]
    fn answer_files_are_understood() {
        let preseed = "d-i netcfg/get_hostname string web-1\nd-i preseed/late_command string in-target wget -O /x http://s/seed/t/user-data; wget --post-data= http://s/ready/t\n# poweroff\n";
        let said = answers(preseed);
        assert_eq!((said.hostname.as_str(), said.end), ("web-1", End::Reboot));
        assert_eq!(
            (said.told, said.fetched),
            (vec!["http://s/ready/t".to_owned()], vec!["http://s/seed/t/user-data".to_owned()])
        );
        assert_eq!(answers("d-i debian-installer/exit/poweroff boolean true").end, End::PowerOff);
        assert_eq!(
            answers("autoinstall:\n  identity:\n    hostname: \"a\"\n  shutdown: poweroff\n").end,
            End::PowerOff
        );
        let kickstart = answers("network --bootproto=dhcp --hostname=db-1\npoweroff\n");
        assert_eq!((kickstart.hostname.as_str(), kickstart.end), ("db-1", End::PowerOff));
    }
}
