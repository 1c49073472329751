//! The commands that run a part of the platform until Ctrl-C.

use std::path::PathBuf;

use anyhow::{Context, Result};
use global::GlobalConfig;
use serde::Deserialize;
use site::SiteConfig;
use yard::YardConfig;

/// Options of a server command.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// TOML file with the settings; every key is optional, an unknown one is an error
    #[arg(long, short, env = "STEELYARD_CONFIG")]
    config: Option<PathBuf>,
    /// Stop when standard input ends: for a process that another one started
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

/// Options of the Site Controller.
#[derive(clap::Args)]
pub struct SiteOptions {
    #[command(flatten)]
    common: Options,
    /// Where the Global Controller takes sites: https://HOST:PORT
    #[arg(long)]
    global: Option<String>,
    /// One-time token to enrol with
    #[arg(long, env = "STEELYARD_SITE_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// A configuration file: one table a part.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    global: GlobalConfig,
    site: SiteConfig,
    yard: YardConfig,
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
    wait(&options).await?;
    running.stop().await;
    Ok(())
}

/// Runs a Site Controller.
pub async fn site(options: SiteOptions) -> Result<()> {
    log();
    let mut config = read(&options.common)?.site.with_environment(|name| std::env::var(name).ok());
    config.global = options.global.unwrap_or(config.global);
    config.token = options.token.or(config.token);
    let running = site::start(config).await?;
    println!("Site Controller of site {}", running.site_id);
    println!("DHCP  {}", running.dhcp);
    println!("TFTP  {}", running.tftp);
    println!("HTTP  http://{}/", running.http);
    wait(&options.common).await?;
    running.stop().await;
    Ok(())
}

/// Runs a simulated datacenter.
pub async fn yard(options: Options) -> Result<()> {
    log();
    let config = read(&options)?.yard.with_environment(|name| std::env::var(name).ok())?;
    let (servers, switches) = (config.servers, config.switch_base);
    let running = yard::run(config).await?;
    println!("Simulated datacenter of {servers} servers; switches from {switches}");
    println!("Admin interface  http://{}/inventory", running.admin_addr());
    wait(&options).await?;
    running.shutdown().await;
    Ok(())
}

/// Until Ctrl-C or the word to stop.
async fn wait(options: &Options) -> Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    if options.until_stdin_ends {
        // Ctrl-C reaches every process of a terminal: only the one that started this decides.
        let (ended, end) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            let _ = ended.send(());
        });
        tokio::select! {
            _ = end => {}
            _ = terminate.recv() => {}
        }
        return Ok(());
    }
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
