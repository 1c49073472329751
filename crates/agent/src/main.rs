//! `steelyard-agent`: the first process of the boot image. Elsewhere it works on files only, so that nobody loses a disk
//! by starting it on a running system.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use agent::{
    Error, Result, cmdline,
    device::Disks,
    machine, say,
    site::Site,
    steps::{self, Machine},
};
use model::agent::Next;

const USAGE: &str = "\
steelyard-agent is the first process of the boot image. To try it elsewhere:

  steelyard-agent --url URL --pin SHA256 --token TOKEN --disk-dir FOLDER [--root FOLDER]

FOLDER holds files that are used as disks; --root names a folder with `sys` and `proc` (default /).";

/// How long a site that does not answer is asked again.
const PATIENCE: Duration = Duration::from_mins(10);
/// How long neighbours are listened for: switches speak every 30 s by the standard, most every few seconds at first.
const LISTEN: Duration = Duration::from_secs(8);

/// As the first process.
fn first() -> Result<Next> {
    machine::begin()?;
    say(concat!("version ", env!("CARGO_PKG_VERSION")));
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let arguments = cmdline::parse(&line)?;
    machine::drivers();
    machine::network(&arguments)?;
    let site = Site::new(&arguments.url, &arguments.pin, &arguments.token, PATIENCE)?;
    steps::run(&site, &Machine { disks: Disks::Machine, root: "/".into(), listen: LISTEN })
}

/// On files.
fn on_files(arguments: &[String]) -> Result<Next> {
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|n| arguments.get(n + 1)).cloned();
    let (Some(url), Some(pin), Some(token), Some(folder)) =
        (value("--url"), value("--pin"), value("--token"), value("--disk-dir"))
    else {
        return Err(Error::from(USAGE));
    };
    let root = value("--root").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let site = Site::new(&url, &pin, &token, Duration::from_secs(20))?;
    let machine = Machine { disks: Disks::Folder(folder.into()), root, listen: Duration::ZERO };
    steps::run(&site, &machine)
}

fn main() -> ExitCode {
    if std::process::id() == 1 {
        let outcome = first();
        machine::end(&outcome);
    }
    match on_files(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(next) => {
            say(format_args!("done; the machine would {next:?}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
