//! `deploy --watch`: what is being done, where, how long it takes, and what is left.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use client::Client;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};

/// Options of a deploy.
#[derive(clap::Args, Clone, Debug)]
pub struct DeployOptions {
    /// Follow the deploy to its end
    #[arg(long, short)]
    pub watch: bool,
    /// Allow steps that destroy data (deleting or shrinking)
    #[arg(long)]
    pub allow_data_loss: bool,
    /// Seconds to let operating systems shut down before the power is cut
    #[arg(long, default_value_t = 180)]
    pub soft_shutdown_timeout: u32,
    /// Give up watching after so many seconds (the deploy goes on)
    #[arg(long, default_value_t = 3600)]
    pub timeout: u64,
}

impl DeployOptions {
    /// As a request body.
    pub fn body(&self) -> Value {
        json!({"allowDataLoss": self.allow_data_loss, "shutdownOptions": {
            "attemptSoftShutdown": true, "softShutdownTimeout": self.soft_shutdown_timeout, "attemptHardShutdown": true, "forceShutdown": false}})
    }
}

/// Plans, shows the impact, deploys.
pub async fn deploy(client: &Client, infrastructure: i64, options: &DeployOptions) -> Result<()> {
    let plan = client.post(&format!("/infrastructures/{infrastructure}/actions/plan"), &options.body()).await?;
    let problems: Vec<&Value> = plan
        .get("problems")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|p| p.get("severity").and_then(Value::as_str) == Some("error"))
        .collect();
    if !problems.is_empty() {
        for p in &problems {
            let s = |k: &str| p.get(k).and_then(Value::as_str).unwrap_or("");
            let field = if s("field").is_empty() { String::new() } else { format!("{}: ", s("field")) };
            let fix = match s("code") {
                "data_loss_not_allowed" => "add --allow-data-loss, or keep the instances",
                _ => s("fix"),
            };
            let fix = if fix.is_empty() { String::new() } else { format!(" ({fix})") };
            eprintln!("  {field}{}{fix}", s("message"));
        }
        bail!("the design cannot be deployed: {} problem(s)", problems.len());
    }
    if plan.get("changes").and_then(Value::as_array).is_some_and(Vec::is_empty) {
        eprintln!("Nothing to deploy: the design is what is deployed.");
        return Ok(());
    }
    for change in plan.get("changes").and_then(Value::as_array).into_iter().flatten() {
        let s = |k: &str| change.get(k).and_then(Value::as_str).unwrap_or("");
        let mark = match s("op") {
            "create" => "+",
            "delete" => "-",
            _ => "~",
        };
        eprintln!("  {mark} {} {}", s("kind"), s("label"));
    }
    let mut body = options.body();
    body["planId"] = plan.get("planId").cloned().unwrap_or_default();
    body["revision"] = plan.get("revision").cloned().unwrap_or_default();
    let started = Instant::now();
    client.post(&format!("/infrastructures/{infrastructure}/actions/deploy"), &body).await?;
    if options.watch {
        watch(client, infrastructure, started, Duration::from_secs(options.timeout)).await
    } else {
        Ok(())
    }
}

/// Follows the running deploy of an infrastructure to its end.
pub async fn watch(client: &Client, infrastructure: i64, started: Instant, limit: Duration) -> Result<()> {
    let bars = MultiProgress::new();
    let style = |t: &str| ProgressStyle::with_template(t).unwrap_or_else(|_| ProgressStyle::default_bar());
    let total =
        bars.add(ProgressBar::new(0).with_style(style("{msg:40!} {wide_bar:.cyan} {pos}/{len} steps  {elapsed}")));
    let plain = bars.is_hidden();
    let mut lines: BTreeMap<i64, ProgressBar> = BTreeMap::new();
    let mut said: BTreeMap<i64, String> = BTreeMap::new();
    loop {
        if started.elapsed() > limit {
            bail!("not finished after {} s; the deploy goes on, see `steelyard job list`", limit.as_secs());
        }
        let row = client.get(&format!("/infrastructures/{infrastructure}")).await?;
        let label = row.get("label").and_then(Value::as_str).unwrap_or("infrastructure").to_owned();
        let group = row.pointer("/config/jobGroupId").and_then(Value::as_i64);
        let jobs = match group {
            Some(g) => client.get(&format!("/job-groups/{g}/jobs")).await?,
            None => Value::Null,
        };
        let jobs: Vec<&Value> =
            jobs.get("data").and_then(Value::as_array).or(jobs.as_array()).into_iter().flatten().collect();
        let word = |j: &Value, k: &str| j.get(k).and_then(Value::as_str).unwrap_or("").to_owned();
        let done = jobs.iter().filter(|j| matches!(word(j, "status").as_str(), "returned_success" | "skipped")).count();
        total.set_length(jobs.len() as u64);
        total.set_position(done as u64);
        total.set_message(format!("Deploying {label}"));
        let mut failed = Vec::new();
        for job in &jobs {
            let id = job.get("jobId").and_then(Value::as_i64).unwrap_or(0);
            let status = word(job, "status");
            let title = word(job, "title");
            let state = format!(
                "{title}: {}",
                if word(job, "message").is_empty() { status.replace('_', " ") } else { word(job, "message") }
            );
            if plain && status != "not_called" && said.get(&id) != Some(&status) {
                eprintln!(
                    "[{:>6.1} s] {done}/{} {title}: {}",
                    started.elapsed().as_secs_f64(),
                    jobs.len(),
                    status.replace('_', " ")
                );
                said.insert(id, status.clone());
            }
            match status.as_str() {
                "running" | "thrown_error_retrying" => {
                    let bar = lines.entry(id).or_insert_with(|| {
                        bars.add(ProgressBar::new(100).with_style(style("  {msg:60!} {bar:20} {percent:>3} %")))
                    });
                    bar.set_position(job.get("percent").and_then(Value::as_u64).unwrap_or(0));
                    bar.set_message(state);
                }
                _ => {
                    if let Some(bar) = lines.remove(&id) {
                        bar.finish_and_clear();
                    }
                    if status == "thrown_error" {
                        failed.push(format!("job {id} {title}: {}", word(job, "error")));
                    }
                }
            }
        }
        let finished = row
            .pointer("/config/deployStatus")
            .and_then(Value::as_str)
            .is_some_and(|s| s.eq_ignore_ascii_case("finished"));
        let running = jobs.iter().any(|j| matches!(word(j, "status").as_str(), "running" | "thrown_error_retrying"));
        if finished || (!failed.is_empty() && !running) {
            lines.values().for_each(ProgressBar::finish_and_clear);
            total.finish_and_clear();
            if finished {
                eprintln!("{label} is deployed after {:.1} s", started.elapsed().as_secs_f64());
                return Ok(());
            }
            bail!(
                "the deploy is stuck:\n  {}\nfix the cause, then `steelyard job action ID retry` (or skip)",
                failed.join("\n  ")
            );
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Prints the servers of an infrastructure with their addresses.
pub async fn access(client: &Client, infrastructure: i64) -> Result<Vec<(String, String, String)>> {
    let rows = client
        .list(&format!("/infrastructures/{infrastructure}/server-instances"), &client::ListOptions::default())
        .await?;
    let mut out = Vec::new();
    for row in rows {
        let id = row.get("id").and_then(Value::as_i64).context("an instance without an id")?;
        let credentials = client.get(&format!("/server-instances/{id}/credentials")).await.unwrap_or_default();
        let label = row.get("label").and_then(Value::as_str).unwrap_or("").to_owned();
        let user = credentials.get("username").and_then(Value::as_str).unwrap_or("").to_owned();
        let addresses = row
            .pointer("/meta/addresses")
            .and_then(Value::as_array)
            .map(|a| a.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "))
            .unwrap_or_default();
        out.push((label, addresses, user));
    }
    Ok(out)
}
