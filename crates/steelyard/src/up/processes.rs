//! The processes of `up`. Each ends when this one does, however that happens: its standard input ends then.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

/// Time for a part to be ready.
const READY: Duration = Duration::from_mins(1);

/// One process.
pub struct Process {
    name: &'static str,
    log: std::path::PathBuf,
    child: Child,
}

impl Process {
    /// Starts a part of this same program; its log goes to `logs/NAME.log`.
    pub fn start(name: &'static str, folder: &Path, config: &Path, environment: &[(&str, String)]) -> Result<Self> {
        let logs = folder.join("logs");
        std::fs::create_dir_all(&logs)?;
        let log = logs.join(format!("{name}.log"));
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg(name)
            .arg("--config")
            .arg(config)
            .arg("--until-stdin-ends")
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            .env("NO_COLOR", "1")
            .kill_on_drop(true);
        for (key, value) in environment {
            command.env(key, value);
        }
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, log, child })
    }

    fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(5)..].join("\n    ");
        Some(format!(
            "`steelyard {}` ended ({status}); its log, {}, ends with:\n    {last}",
            self.name,
            self.log.display()
        ))
    }
}

/// Waits until a part is ready; notices when a process has ended instead.
pub async fn ready<F>(processes: &mut [Process], what: &str, mut ready: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    let end = Instant::now() + READY;
    loop {
        if let Some(words) = processes.iter_mut().find_map(Process::ended) {
            bail!("{words}");
        }
        let last = match ready().await {
            Ok(true) => return Ok(()),
            Ok(false) => String::new(),
            Err(e) => format!(": {e:#}"),
        };
        if Instant::now() > end {
            bail!("{what} is not ready within {} s{last}", READY.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Resolves when a process has ended, with words about it.
pub async fn any_ended(processes: &mut [Process]) -> String {
    loop {
        if let Some(words) = processes.iter_mut().find_map(Process::ended) {
            return words;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Stops all, last started first.
pub async fn stop(processes: Vec<Process>) {
    for mut process in processes.into_iter().rev() {
        drop(process.child.stdin.take());
        if tokio::time::timeout(Duration::from_secs(20), process.child.wait()).await.is_err() {
            let _ = process.child.kill().await;
        }
    }
}
