//! `server.scan`: which addresses of a range answer as Redfish services. Nothing is sent but one question each, without a login.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use crypto::tls::Shown;
use engine::{JobContext, JobError, JobFunction, Outcome};
use futures::{StreamExt, stream};
use model::order::{Order, ScanResult, ScannedBmc, ServerScan};
use serde_json::Value;

/// Addresses asked at the same time.
const AT_ONCE: usize = 64;
/// Longest wait for one answer. BMCs are slow at their first.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest answer that is read.
const LONGEST: usize = 64 << 10;
/// Addresses of one scan at most, whoever ordered it.
const MOST: u32 = 4096;

pub(super) struct ServerScanFunction;

#[async_trait]
impl JobFunction for ServerScanFunction {
    fn name(&self) -> &'static str {
        ServerScan::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: ServerScan = ctx.payload()?;
        let (first, last) = (u32::from(order.first), u32::from(order.last));
        let count = last.checked_sub(first).map_or(0, |n| n.saturating_add(1));
        if !(1..=MOST).contains(&count) {
            return Err(JobError::fatal(format!("a range of {count} addresses is not scanned; at most {MOST}")));
        }
        let end = tokio::time::Instant::now() + Duration::from_secs(u64::from(Ord::max(order.deadline_seconds, 1)));
        let asked = AtomicU32::new(0);
        let asked = &asked;
        let answers = stream::iter((first..=last).map(Ipv4Addr::from))
            .map(|address| async move {
                if tokio::time::Instant::now() >= end {
                    return None;
                }
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::time::timeout_at(end, ask(address, order.port)).await.ok().flatten()
            })
            .buffer_unordered(AT_ONCE);
        let mut answers = std::pin::pin!(answers);
        let mut found = Vec::new();
        while let Some(answer) = answers.next().await {
            found.extend(answer);
            let done = asked.load(Ordering::Relaxed);
            let percent = u8::try_from(u64::from(done) * 100 / u64::from(count)).unwrap_or(99).min(99);
            ctx.progress(percent, format!("{done} of {count} addresses asked, {} BMCs found", found.len()));
        }
        found.sort_by_key(|f: &ScannedBmc| f.address.parse::<Ipv4Addr>().ok());
        let asked = asked.load(Ordering::Relaxed);
        let result = ScanResult { found, asked, cut_short: asked < count };
        Ok(Outcome::Done(serde_json::to_value(result).map_err(JobError::fatal)?))
    }
}

/// Asks one address for its service root.
async fn ask(address: Ipv4Addr, port: Option<u16>) -> Option<ScannedBmc> {
    let place = match port {
        Some(port) if port != 443 => format!("{address}:{port}"),
        _ => address.to_string(),
    };
    let shown = Arc::new(Shown::default());
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(crypto::tls::device(None, shown.clone()).ok()?)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(ANSWER)
        .build()
        .ok()?;
    let answer =
        http.get(format!("https://{place}/redfish/v1/")).header("accept", "application/json").send().await.ok()?;
    if !answer.status().is_success() || answer.content_length().is_some_and(|n| n > LONGEST as u64) {
        return None;
    }
    let mut body = Vec::new();
    let mut parts = answer.bytes_stream();
    while let Some(part) = parts.next().await {
        body.extend_from_slice(&part.ok()?);
        if body.len() > LONGEST {
            return None;
        }
    }
    let root: Value = serde_json::from_slice(&body).ok()?;
    // Anything may answer with JSON: a service root names its version, or at least its own place.
    let is_root = root.get("RedfishVersion").is_some()
        || root.get("@odata.type").and_then(Value::as_str).is_some_and(|t| t.contains("ServiceRoot"));
    let text = |name: &str| {
        let text = root.get(name).and_then(Value::as_str).map(str::trim)?;
        (!text.is_empty()).then(|| text.chars().take(200).collect::<String>())
    };
    is_root.then(|| ScannedBmc {
        address: place,
        vendor: text("Vendor"),
        product: text("Product").or_else(|| text("Name")),
        uuid: text("UUID"),
        tls_fingerprint: shown.fingerprint(),
    })
}
