//! NVIDIA Cumulus Linux 5 over its NVUE REST interface (`/nvue_v1`, port 8765, HTTP basic authentication).
//!
//! A change is a revision: `POST /revision`, `PATCH /?rev=…` with the difference, `PATCH /revision/…` with `state: apply`, and a wait. It is
//! applied on trial: unless we can still reach the switch and confirm within [`CONFIRM`], the switch goes back by itself, so that a change
//! which cuts its own management connection does no harm. A revision that fails leaves the running configuration as it was. Source: NVIDIA
//! Cumulus Linux User Guide, "NVUE API" and "NVUE CLI" (`nv config apply --confirm`).

mod tree;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use crypto::tls::Shown;
use model::switch::{SwitchFacts, SwitchPatch, SwitchState};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::tree::{change, read};
use crate::{Access, Applied, SwitchDriver, SwitchError, plan};

/// Port of the NVUE REST interface.
const PORT: u16 = 8765;
/// The bridge that ports are members of.
const BRIDGE: &str = "br_default";
/// Longest wait for a revision to be applied; longer than [`CONFIRM`], to see how a cut connection ends.
const APPLY: Duration = Duration::from_mins(2);
/// Time for us to confirm.
const CONFIRM: Duration = Duration::from_mins(1);

/// One switch.
pub struct CumulusLinux {
    http: reqwest::Client,
    base: String,
    access: Access,
    shown: Arc<Shown>,
    apply: Duration,
    confirm: Duration,
}

impl CumulusLinux {
    /// A driver over HTTPS. Switches have certificates of their own making: the pinned one is accepted, or that of the first contact.
    pub fn new(access: Access) -> Result<Self, SwitchError> {
        let base = format!("https://{}:{}/nvue_v1", access.address, access.port.unwrap_or(PORT));
        Self::at(base, access)
    }

    /// A driver for that base URL.
    pub fn at(base: String, access: Access) -> Result<Self, SwitchError> {
        let fail = |cause: String| SwitchError::Unreachable { address: access.address.clone(), cause };
        let shown = Arc::new(Shown::default());
        let tls =
            crypto::tls::device(access.tls_fingerprint.as_deref(), shown.clone()).map_err(|e| fail(e.to_string()))?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(access.timeout)
            .build()
            .map_err(|e| fail(e.to_string()))?;
        Ok(Self { http, base, access, shown, apply: APPLY, confirm: CONFIRM })
    }

    /// Waits no longer than `apply` for a revision, and gives us `confirm` to confirm it (whole seconds).
    #[must_use]
    pub fn with_limits(mut self, apply: Duration, confirm: Duration) -> Self {
        (self.apply, self.confirm) = (apply, confirm);
        self
    }

    fn unreachable(&self, e: reqwest::Error) -> SwitchError {
        let address = self.access.address.clone();
        if let Some(shown) = self.shown.refused().filter(|_| e.is_connect()) {
            let pinned = self.access.tls_fingerprint.clone().or_else(|| self.shown.fingerprint()).unwrap_or_default();
            return SwitchError::CertificateChanged { address, pinned, shown };
        }
        SwitchError::Unreachable { address, cause: e.without_url().to_string() }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), SwitchError> {
        let address = self.access.address.clone();
        let query: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let url = format!("{}{path}{}{query}", self.base, if query.is_empty() { "" } else { "?" });
        let mut request =
            self.http.request(method.clone(), url).basic_auth(&self.access.username, Some(&self.access.password.0));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|e| self.unreachable(e))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|e| self.unreachable(e))?;
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(SwitchError::Unauthorized(address));
        }
        let odd = || SwitchError::Odd {
            address: address.clone(),
            request: format!("{method} {path}"),
            answer: format!("{status} {}", text.chars().take(200).collect::<String>()),
        };
        if status.is_server_error() {
            return Err(odd());
        }
        let value =
            if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text).map_err(|_| odd())? };
        Ok((status, value))
    }

    /// A part of the configuration or state; `null` where the switch has none.
    async fn get(&self, path: &str, rev: &str) -> Result<Value, SwitchError> {
        match self.call(Method::GET, path, &[("rev", rev)], None).await? {
            (StatusCode::NOT_FOUND, _) => Ok(Value::Null),
            (status, value) if status.is_success() => Ok(value),
            (status, value) => Err(self.refused(status, &value)),
        }
    }

    fn refused(&self, status: StatusCode, value: &Value) -> SwitchError {
        let said = ["detail", "title", "message"]
            .iter()
            .find_map(|k| value.get(k).and_then(Value::as_str))
            .map_or_else(|| value.to_string(), str::to_owned);
        SwitchError::Refused { address: self.access.address.clone(), reason: format!("{said} ({status})") }
    }

    /// Brings a change into force, or leaves all as it was.
    async fn commit(&self, change: &Value) -> Result<(), SwitchError> {
        // Somebody's change on trial, perhaps our own before we were cut off, goes first: it is confirmed or undone soon.
        let end = Instant::now() + self.confirm + Duration::from_secs(10);
        loop {
            match self.revision(change).await {
                Err(SwitchError::Refused { reason, .. })
                    if reason.contains("apply_pending") && Instant::now() < end =>
                {
                    tokio::time::sleep(Ord::min(self.confirm, Duration::from_secs(5))).await;
                }
                other => return other,
            }
        }
    }

    async fn revision(&self, change: &Value) -> Result<(), SwitchError> {
        let (status, made) = self.call(Method::POST, "/revision", &[], None).await?;
        let revision = made
            .as_object()
            .and_then(|m| m.keys().next())
            .cloned()
            .filter(|_| status.is_success())
            .ok_or_else(|| self.refused(status, &made))?;
        let (status, answer) = self.call(Method::PATCH, "/", &[("rev", &revision)], Some(change)).await?;
        if !status.is_success() {
            return Err(self.refused(status, &answer));
        }
        let path = revision_path(&revision);
        let sure = json!({"state": "apply", "auto-prompt": {"ays": "ays_yes", "ignore_fail": "ignore_fail_no"}});
        let mut trial = sure.clone();
        trial["auto-prompt"]["confirm"] = "confirm_yes".into();
        trial["state-controls"] = json!({"confirm": self.confirm.as_secs()});
        let (mut status, mut answer) = self.call(Method::PATCH, &path, &[], Some(&trial)).await?;
        if status == StatusCode::BAD_REQUEST && answer.to_string().contains("state-controls") {
            // The first releases of NVUE know no trial.
            (status, answer) = self.call(Method::PATCH, &path, &[], Some(&sure)).await?;
        }
        if !status.is_success() {
            return Err(self.refused(status, &answer));
        }
        self.settled(&revision, &path).await
    }

    /// Ends what an earlier call of ours has begun, in case it was cut off: a change on trial looks applied, and is undone soon after.
    async fn finish_trials(&self) -> Result<(), SwitchError> {
        let (status, all) = self.call(Method::GET, "/revision", &[], None).await?;
        if !status.is_success() {
            return Ok(());
        }
        let ours = format!("/{}/", self.access.username);
        for (revision, said) in all.as_object().into_iter().flatten() {
            let word = said.get("state").and_then(Value::as_str).unwrap_or("");
            let under_way = matches!(word, "apply" | "verify" | "readying" | "ready" | "reloading" | "confirm");
            if !(revision.contains(&ours) && under_way) {
                continue;
            }
            match self.settled(revision, &revision_path(revision)).await {
                // Undone or refused: then the comparison that follows begins anew.
                Ok(()) | Err(SwitchError::Refused { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Waits for a revision that is being applied, and confirms it.
    async fn settled(&self, revision: &str, path: &str) -> Result<(), SwitchError> {
        let refuse = |reason: String| SwitchError::Refused { address: self.access.address.clone(), reason };
        let yes = |state: &str| json!({"state": state, "auto-prompt": {"ays": "ays_yes"}});
        let end = Instant::now() + self.apply;
        let mut pause = Duration::from_millis(100);
        // What went wrong with the last question, and whether any did.
        let (mut error, mut cut, mut word): (Option<SwitchError>, _, _) = (None, false, String::new());
        loop {
            match self.call(Method::GET, path, &[], None).await {
                Ok((_, state)) => {
                    error.take();
                    state.get("state").and_then(Value::as_str).unwrap_or("").clone_into(&mut word);
                    match word.as_str() {
                        "applied" | "applied_and_saved" => return Ok(()),
                        // We reach it still: this change has not cut us off.
                        "confirm" => {
                            let (status, said) = self.call(Method::PATCH, path, &[], Some(&yes("apply"))).await?;
                            if !status.is_success() && status != StatusCode::CONFLICT {
                                return Err(self.refused(status, &said));
                            }
                        }
                        // It asks although it was told: once more.
                        "ays" => {
                            self.call(Method::PATCH, path, &[], Some(&yes("ays_yes"))).await?;
                        }
                        "confirm_fail" | "confirm_timeout" if cut => {
                            return Err(refuse(
                                "the change cut off the management connection, so the switch has undone it; look at the port and VLAN by which it is reached".into(),
                            ));
                        }
                        "invalid" | "ays_fail" | "apply_fail" | "failed" | "ignore_fail" | "confirm_fail"
                        | "confirm_timeout" => {
                            return Err(refuse(words(&word, &state)));
                        }
                        _ => {}
                    }
                }
                // It may be us who cut the connection: the switch undoes that.
                Err(e @ SwitchError::Unreachable { .. }) => (error, cut) = (Some(e), true),
                Err(e) => return Err(e),
            }
            if Instant::now() > end {
                if let Some(e) = error {
                    return Err(e);
                }
                // It must not be applied later, when nobody expects it.
                let _ = self.call(Method::PATCH, path, &[], Some(&json!({"state": "ays_no"}))).await;
                return Err(refuse(format!(
                    "revision {revision} is still {word:?} after {} s; see `nv config history` at the switch",
                    self.apply.as_secs()
                )));
            }
            tokio::time::sleep(pause).await;
            pause = Ord::min(pause * 2, Duration::from_secs(2));
        }
    }
}

fn revision_path(revision: &str) -> String {
    format!("/revision/{}", url::form_urlencoded::byte_serialize(revision.as_bytes()).collect::<String>())
}

/// What a failed revision says of itself.
fn words(word: &str, state: &Value) -> String {
    let issues = state.pointer("/transition/issue").and_then(Value::as_object);
    let said: Vec<String> = issues
        .into_iter()
        .flat_map(|m| m.values())
        .map(|issue| {
            let text = |p: &str| issue.pointer(p).and_then(Value::as_str).unwrap_or_default();
            let place = text("/data/location");
            let place = if place.is_empty() { String::new() } else { format!(" at {place}") };
            format!("{}{place}: {}", text("/code"), text("/message")).trim_start_matches(": ").to_owned()
        })
        .collect();
    if said.is_empty() { word.to_owned() } else { format!("{word}: {}", said.join("; ")) }
}

#[async_trait]
impl SwitchDriver for CumulusLinux {
    async fn facts(&self) -> Result<SwitchFacts, SwitchError> {
        let (system, platform) =
            (self.get("/system", "operational").await?, self.get("/platform", "operational").await?);
        let text = |v: &Value, p: &str| v.pointer(p).and_then(Value::as_str).map(str::to_owned);
        Ok(SwitchFacts {
            hostname: text(&system, "/hostname").unwrap_or_default(),
            os_version: text(&system, "/product-release")
                .or_else(|| text(&system, "/version/image"))
                .or_else(|| text(&system, "/build")),
            serial: text(&platform, "/serial-number").or_else(|| text(&platform, "/hardware/serial-number")),
            model: text(&platform, "/product-name").or_else(|| text(&platform, "/hardware/model")),
            mac: text(&platform, "/system-mac").or_else(|| text(&platform, "/hardware/system-mac")),
        })
    }

    async fn state(&self) -> Result<SwitchState, SwitchError> {
        let configured = self.get("/interface", "applied").await?;
        let seen = self.get("/interface", "operational").await?;
        let vlans = self.get(&format!("/bridge/domain/{BRIDGE}/vlan"), "applied").await?;
        Ok(read(&configured, &seen, &vlans))
    }

    async fn apply(&self, patch: &SwitchPatch) -> Result<Applied, SwitchError> {
        self.finish_trials().await?;
        let before = self.state().await?;
        let actions = plan(&before, patch);
        if actions.is_empty() {
            return Ok(Applied::default());
        }
        self.commit(&change(&before, &actions)).await?;
        let left = plan(&self.state().await?, patch);
        if left.is_empty() {
            Ok(Applied { actions })
        } else {
            Err(SwitchError::NotEffective { address: self.access.address.clone(), missing: format!("{left:?}") })
        }
    }

    fn fingerprint(&self) -> Option<String> {
        self.shown.fingerprint()
    }

    fn refused_fingerprint(&self) -> Option<String> {
        self.shown.refused()
    }
}

#[cfg(test)]
mod tests;
