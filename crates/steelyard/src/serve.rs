//! The commands that run a part of the platform until Ctrl-C.

use std::path::PathBuf;

use anyhow::{Context, Result};
use global::GlobalConfig;
use serde::Deserialize;

/// Options of a server command.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// TOML file with the settings; every key is optional, an unknown one is an error
    #[arg(long, short, env = "STEELYARD_CONFIG")]
    config: Option<PathBuf>,
}

/// A configuration file: one table a part.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    global: GlobalConfig,
}

fn read(options: &Options) -> Result<File> {
    let Some(path) = &options.config else { return Ok(File::default()) };
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not a valid configuration", path.display()))
}

/// Logs to standard error, filtered by `RUST_LOG` (default: `info`).
fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info,sqlx=warn".into());
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}

/// Runs a Global Controller.
pub async fn global(options: Options) -> Result<()> {
    log();
    let config = read(&options)?.global.with_environment(|name| std::env::var(name).ok());
    let running = global::start(config).await?;
    println!("Infrastructure designer  http://{}/portal/", running.address);
    println!("Admin console            http://{}/admin/", running.address);
    println!("REST interface           http://{}/api/docs", running.address);
    if let Some((email, password)) = &running.first_login {
        println!("First login              {email}  {password}");
    }
    wait().await?;
    running.stop().await;
    Ok(())
}

/// Until Ctrl-C or the word to stop.
async fn wait() -> Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        r = tokio::signal::ctrl_c() => r?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_errors() {
        assert!(toml::from_str::<File>("[global]\nlisten = \"127.0.0.1:1\"\n").is_ok());
        assert!(toml::from_str::<File>("[global]\nlissten = \"127.0.0.1:1\"\n").is_err());
        assert!(toml::from_str::<File>("[globl]\n").is_err());
    }
}
