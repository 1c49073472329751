//! The stored login: one file in the user's configuration folder, readable by the user alone.

use std::{
    io::{BufRead, Write},
    path::PathBuf,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// A stored login.
#[derive(Serialize, Deserialize)]
pub struct Profile {
    /// Address of the Global Controller.
    pub server: String,
    /// API key.
    pub token: String,
}

fn path() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".config")))?;
    Some(base.join("steelyard").join("login.toml"))
}

/// The stored login, when there is one.
pub fn load() -> Option<Profile> {
    toml::from_str(&std::fs::read_to_string(path()?).ok()?).ok()
}

/// Stores it.
pub fn save(profile: &Profile) -> Result<()> {
    let path = path().context("neither XDG_CONFIG_HOME nor HOME is set")?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&path).with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(toml::to_string(profile)?.as_bytes())?;
    Ok(())
}

/// Asks at the terminal. A secret is read without echo where `stty` allows it.
pub fn ask(prompt: &str, secret: bool) -> Result<String> {
    eprint!("{prompt}");
    std::io::stderr().flush()?;
    let echo = |on: bool| {
        if secret {
            let _ = std::process::Command::new("stty")
                .arg(if on { "echo" } else { "-echo" })
                .stdin(std::process::Stdio::inherit())
                .status();
        }
    };
    echo(false);
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    echo(true);
    if secret {
        eprintln!();
    }
    read.context("cannot read the answer")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
