//! Redfish (DMTF DSP0266): how requests are made. Sessions with basic authentication as fallback, tasks, ETags, paging, expansion.

mod bios;
mod collect;
mod console;
mod events;
mod fresh;
mod log;
mod manager;
mod media;
mod power;
mod power_loss;
mod raid;
mod sensors;
mod settings;
mod update;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use crypto::tls::Shown;
use model::secret::Clear;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, OnceCell},
    time::Instant,
};

use crate::{
    Access, BmcError,
    quirks::{self, Quirks},
};

/// Tries of one request when the BMC is busy or does not answer.
const TRIES: u32 = 3;
/// Longest wait for a task.
const TASK: Duration = Duration::from_mins(5);
/// Largest answer that is read.
const ANSWER: usize = 8 << 20;
/// Most pages of a collection.
const PAGES: usize = 64;
/// Message ids that are no refusal, whatever their severity.
const GOOD: &[&str] = &[
    "Success",
    "Created",
    "NoOperation",
    "ResetRequired",
    "SystemResetRequired",
    "AccountModified",
    "ResetInProgress",
];

/// One BMC.
pub struct Redfish {
    http: reqwest::Client,
    base: String,
    access: Access,
    password: RwLock<Clear>,
    shown: Arc<Shown>,
    login: Mutex<Login>,
    service: OnceCell<Service>,
    task_limit: Duration,
}

/// How this BMC lets us in.
enum Login {
    Unknown,
    Session {
        token: String,
        /// Path of the session, to end it.
        path: Option<String>,
    },
    Basic {
        /// Why not by a session, when there should have been one.
        because: Option<String>,
    },
}

/// What does not change while we talk.
struct Service {
    /// Path of the system that is the host.
    system: String,
    /// Other systems behind the same BMC.
    others: Vec<String>,
    quirks: &'static dyn Quirks,
    expand: bool,
}

/// One answer.
struct Answer {
    status: StatusCode,
    value: Value,
    etag: Option<String>,
    location: Option<String>,
}

impl Redfish {
    /// A driver over HTTPS. BMCs have certificates of their own making: the pinned one is accepted, or that of the first contact.
    pub fn new(access: Access) -> Result<Self, BmcError> {
        Self::at(format!("https://{}", access.address), access)
    }

    /// A driver for that base URL.
    pub fn at(base: String, access: Access) -> Result<Self, BmcError> {
        let fail = |cause: String| BmcError::Unreachable { address: access.address.clone(), cause };
        let shown = Arc::new(Shown::default());
        let tls =
            crypto::tls::device(access.tls_fingerprint.as_deref(), shown.clone()).map_err(|e| fail(e.to_string()))?;
        // Our token goes to the BMC alone, wherever it may point.
        let redirects = reqwest::redirect::Policy::custom(|attempt| {
            let same = attempt.previous().first().is_some_and(|first| first.origin() == attempt.url().origin());
            if same && attempt.previous().len() < 4 { attempt.follow() } else { attempt.stop() }
        });
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(redirects)
            .no_proxy()
            .timeout(access.timeout)
            .build()
            .map_err(|e| fail(e.to_string()))?;
        Ok(Self {
            http,
            base,
            password: RwLock::new(access.password.clone()),
            access,
            shown,
            login: Mutex::new(Login::Unknown),
            service: OnceCell::new(),
            task_limit: TASK,
        })
    }

    /// Waits for tasks no longer than this.
    #[must_use]
    pub fn with_task_limit(mut self, limit: Duration) -> Self {
        self.task_limit = limit;
        self
    }

    /// SHA-256 (hex) of the certificate that the BMC has shown, once there was contact.
    pub fn fingerprint(&self) -> Option<String> {
        self.shown.fingerprint()
    }

    /// SHA-256 (hex) of a certificate that was refused since then.
    pub fn refused_fingerprint(&self) -> Option<String> {
        self.shown.refused()
    }

    /// The vendor whose peculiarities are minded.
    pub async fn vendor(&self) -> Result<&'static str, BmcError> {
        Ok(self.service().await?.quirks.vendor())
    }

    fn address(&self) -> String {
        self.access.address.clone()
    }

    fn password(&self) -> Clear {
        self.password.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn unsupported(&self, what: impl Into<String>) -> BmcError {
        BmcError::Unsupported { address: self.address(), what: what.into() }
    }

    fn odd(&self, request: String, answer: impl Into<String>) -> BmcError {
        BmcError::Odd { address: self.address(), request, answer: answer.into() }
    }

    /// Opens a session; a BMC without a session service, or without a free session, gets basic authentication.
    async fn log_in(&self, login: &mut Login) -> Result<(), BmcError> {
        let body = json!({"UserName": self.access.username, "Password": self.password().0});
        let request = self.http.post(format!("{}/redfish/v1/SessionService/Sessions", self.base)).json(&body);
        let answer = request.send().await.map_err(|e| self.unreachable(&e))?;
        let status = answer.status();
        let header = |name| answer.headers().get(name).and_then(|t| t.to_str().ok()).map(str::to_owned);
        let (token, path) = (header("x-auth-token"), header("location").and_then(|l| path_of(&l)));
        *login = if status.is_success() {
            token.map_or(Login::Basic { because: None }, |token| Login::Session { token, path })
        } else {
            let said: Value = serde_json::from_slice(&self.body(answer).await?).unwrap_or(Value::Null);
            let full = messages(&said).any(|(id, _)| id.contains("SessionLimit") || id.contains("MaxSession"));
            match status {
                _ if full => Login::Basic { because: Some("it has no free session".into()) },
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if self.has_sessions().await? => {
                    return Err(BmcError::Unauthorized(self.address()));
                }
                s if s.is_server_error() && s != StatusCode::NOT_IMPLEMENTED => {
                    Login::Basic { because: Some(format!("its session service answers {s}")) }
                }
                _ => Login::Basic { because: None },
            }
        };
        Ok(())
    }

    /// Whether it says that it has sessions, which everybody may ask: some that have none refuse all of their paths to strangers.
    async fn has_sessions(&self) -> Result<bool, BmcError> {
        let answer = self.http.get(format!("{}/redfish/v1/", self.base)).send().await;
        let answer = answer.map_err(|e| self.unreachable(&e))?;
        if !answer.status().is_success() {
            return Ok(true);
        }
        let root: Value = serde_json::from_slice(&self.body(answer).await?).unwrap_or(Value::Null);
        Ok(root.get("Systems").is_none()
            || root.get("SessionService").is_some()
            || root.pointer("/Links/Sessions").is_some())
    }

    /// Ends the session: BMCs have few, and some keep them for half an hour. The next call opens a new one.
    pub async fn close(&self) {
        let ended = std::mem::replace(&mut *self.login.lock().await, Login::Unknown);
        if let Login::Session { token, path: Some(path) } = ended {
            let ended = self.http.delete(format!("{}{path}", self.base)).header("X-Auth-Token", token).send().await;
            if let Err(error) = ended {
                tracing::debug!(address = self.access.address, %error, "a session could not be ended");
            }
        }
    }

    fn unreachable(&self, e: &reqwest::Error) -> BmcError {
        if let Some(shown) = self.shown.refused().filter(|_| e.is_connect()) {
            let pinned = self.access.tls_fingerprint.clone().or_else(|| self.shown.fingerprint()).unwrap_or_default();
            return BmcError::CertificateChanged { address: self.address(), pinned, shown };
        }
        let cause = if e.is_timeout() {
            format!("no answer within {} s", self.access.timeout.as_secs_f64())
        } else if e.is_connect() {
            "no connection".to_owned()
        } else {
            "the connection broke".to_owned()
        };
        BmcError::Unreachable { address: self.address(), cause }
    }

    async fn body(&self, mut answer: reqwest::Response) -> Result<Vec<u8>, BmcError> {
        let mut all = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|e| self.unreachable(&e))? {
            if all.len() + part.len() > ANSWER {
                return Err(self.odd(format!("GET {}", answer.url().path()), "more than 8 MiB"));
            }
            all.extend_from_slice(&part);
        }
        Ok(all)
    }

    /// The URL of a path of this BMC. A link that leads elsewhere is refused: our token goes nowhere else.
    fn url(&self, path: &str) -> Result<String, BmcError> {
        if !path.starts_with('/') || path.starts_with("//") {
            return Err(self.odd(format!("a link to {path:?}"), "a link that is no path"));
        }
        Ok(format!("{}{path}", self.base))
    }

    /// A request with our login on it; opens a session where there is none.
    async fn signed(&self, request: reqwest::RequestBuilder) -> Result<reqwest::RequestBuilder, BmcError> {
        let mut login = self.login.lock().await;
        if matches!(*login, Login::Unknown) {
            self.log_in(&mut login).await?;
        }
        Ok(match &*login {
            Login::Session { token, .. } => request.header("X-Auth-Token", token),
            _ => request.basic_auth(&self.access.username, Some(&self.password().0)),
        })
    }

    async fn once(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        etag: Option<&str>,
    ) -> Result<Answer, BmcError> {
        let mut request = self.signed(self.http.request(method.clone(), self.url(path)?)).await?;
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(etag) = etag {
            request = request.header("If-Match", etag);
        }
        let answer = request.send().await.map_err(|e| self.unreachable(&e))?;
        let status = answer.status();
        let header = |name| answer.headers().get(name).and_then(|t| t.to_str().ok()).map(str::to_owned);
        let (etag, location) = (header("etag"), header("location").and_then(|l| path_of(&l)));
        let text = self.body(answer).await?;
        let value = if text.trim_ascii().is_empty() {
            Value::Null
        } else {
            match serde_json::from_slice(&text) {
                Ok(value) => value,
                Err(_) if !status.is_success() => Value::Null,
                Err(_) => {
                    let begin: String = String::from_utf8_lossy(&text).chars().take(200).collect();
                    return Err(self.odd(format!("{method} {path}"), begin));
                }
            }
        };
        Ok(Answer { status, value, etag, location })
    }

    fn refused(&self, method: &Method, path: &str, status: StatusCode, value: &Value) -> BmcError {
        let mut reason = reason(value);
        if let Some(hint) = self.service.get().and_then(|s| s.quirks.hint(status.as_u16(), value)) {
            reason = format!("{reason}; {hint}");
        }
        BmcError::Refused {
            address: self.address(),
            request: format!("{method} {path}"),
            status: status.as_u16(),
            reason: format!("{reason} ({status})"),
        }
    }

    /// One request, tried again when the BMC is busy or silent, with a new session when the old one has ended.
    async fn ask(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        etag: Option<&str>,
    ) -> Result<Answer, BmcError> {
        let mut pause = Duration::from_millis(200);
        let mut last = None;
        let mut renewed = false;
        let mut left = TRIES;
        while left > 0 {
            left -= 1;
            if last.is_some() {
                tokio::time::sleep(pause).await;
                pause *= 3;
            }
            match self.once(method, path, body, etag).await {
                // Some answer 200 and put the refusal into the body.
                Ok(a) if a.status.is_success() && !refuses(&a.value) => return Ok(a),
                Ok(a) if a.status == StatusCode::UNAUTHORIZED => {
                    let mut login = self.login.lock().await;
                    let error = match &*login {
                        Login::Basic { because: Some(why) } => BmcError::Refused {
                            address: self.address(),
                            request: format!("{method} {path}"),
                            status: 401,
                            reason: format!(
                                "{why}, and it takes no basic authentication; end sessions that nobody uses, or reset the BMC"
                            ),
                        },
                        _ => BmcError::Unauthorized(self.address()),
                    };
                    // A session may have ended, with the BMC's restart for one. A fresh one that is refused is a wrong login.
                    if matches!(*login, Login::Basic { because: None }) || renewed {
                        return Err(error);
                    }
                    *login = Login::Unknown;
                    renewed = true;
                    left += 1;
                    last = Some(error);
                }
                Ok(a)
                    if matches!(
                        a.status,
                        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED
                    ) =>
                {
                    return Err(self.unsupported(format!("{method} {path}")));
                }
                Ok(a) => {
                    let error = self.refused(method, path, a.status, &a.value);
                    let busy = a.status.is_server_error()
                        || a.status == StatusCode::TOO_MANY_REQUESTS
                        || self.service.get().is_some_and(|s| messages(&a.value).any(|(id, _)| s.quirks.busy(id)));
                    if !busy {
                        return Err(error);
                    }
                    last = Some(error);
                }
                Err(e @ (BmcError::Unreachable { .. } | BmcError::Odd { .. })) => last = Some(e),
                Err(e) => return Err(e),
            }
        }
        Err(last.unwrap_or_else(|| BmcError::Unreachable { address: self.address(), cause: "no answer".into() }))
    }

    /// A request and, where the BMC makes a task of it, the task to its end.
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, BmcError> {
        let answer = self.ask(&method, path, body, None).await?;
        self.finish(answer, &format!("{method} {path}")).await
    }

    /// Follows the task that an answer may be.
    async fn finish(&self, answer: Answer, request: &str) -> Result<Value, BmcError> {
        if answer.status != StatusCode::ACCEPTED {
            return Ok(answer.value);
        }
        let Some(path) = answer.location.clone().or_else(|| link(&answer.value).map(str::to_owned)) else {
            return Ok(answer.value);
        };
        let end = Instant::now() + self.task_limit;
        let mut pause = Duration::from_millis(100);
        loop {
            let task = match self.ask(&Method::GET, &path, None, None).await {
                Ok(task) => task,
                // Finished tasks are forgotten by some.
                Err(BmcError::Unsupported { .. }) => return Ok(Value::Null),
                Err(e) => return Err(e),
            };
            let word = task.value.get("TaskState").and_then(Value::as_str).unwrap_or("");
            match word {
                "Completed" => return Ok(task.value),
                "Exception" | "Killed" | "Cancelled" | "Interrupted" => {
                    let said = task.value.pointer("/Messages/0/Message").and_then(Value::as_str);
                    return Err(BmcError::Refused {
                        address: self.address(),
                        request: request.to_owned(),
                        status: 202,
                        reason: format!("its task ended as {word}: {}", said.unwrap_or("no reason given")),
                    });
                }
                // A task monitor answers 202 while it goes on, and then with what the request gave.
                "" if task.status != StatusCode::ACCEPTED => return Ok(task.value),
                _ => {}
            }
            if Instant::now() >= end {
                return Err(BmcError::NoEffect {
                    address: self.address(),
                    what: format!("{request} was to end"),
                    found: if word.is_empty() { "running".into() } else { word.to_lowercase() },
                    seconds: self.task_limit.as_secs(),
                });
            }
            tokio::time::sleep(pause).await;
            pause = Ord::min(pause * 2, Duration::from_secs(5));
        }
    }

    /// Changes a resource. `known` is what was read of it. With ETags as BMCs treat them: hand out one that they do not accept, demand
    /// one, or demand any.
    async fn patch(&self, path: &str, body: &Value, known: &Value) -> Result<Answer, BmcError> {
        let quirks = self.service().await?.quirks;
        let told = known.get("@odata.etag").and_then(Value::as_str).map(str::to_owned);
        let mut etag = quirks.if_match().map(str::to_owned).or(told);
        let mut tried = 0;
        loop {
            let outcome = self.ask(&Method::PATCH, path, Some(body), etag.as_deref()).await;
            let Err(BmcError::Refused { status: status @ (412 | 428), .. }) = outcome else { return outcome };
            tried += 1;
            etag = match tried {
                1 => {
                    let fresh = self.ask(&Method::GET, path, None, None).await?;
                    fresh.etag.or_else(|| fresh.value.get("@odata.etag").and_then(Value::as_str).map(str::to_owned))
                }
                2 if status == 428 => Some("*".to_owned()),
                2 => None,
                _ => return outcome,
            };
        }
    }

    /// A resource, or `null` where the BMC has none.
    async fn get(&self, path: &str) -> Result<Value, BmcError> {
        match self.call(Method::GET, path, None).await {
            Err(BmcError::Unsupported { .. }) => Ok(Value::Null),
            other => other,
        }
    }

    /// What a link leads to, or `null` where it cannot be read: something is missing then, and the rest is good.
    async fn peek(&self, v: &Value) -> Result<Value, BmcError> {
        match self.linked(v).await {
            Err(e @ (BmcError::Refused { .. } | BmcError::Odd { .. })) => {
                tracing::debug!(address = self.access.address, error = %e, "a part of the inventory is left out");
                Ok(Value::Null)
            }
            other => other,
        }
    }

    /// What a link leads to, or `null`.
    async fn linked(&self, v: &Value) -> Result<Value, BmcError> {
        match link(v) {
            Some(path) => self.get(path).await,
            None => Ok(Value::Null),
        }
    }

    /// Members of a linked collection, or none where it is missing or may not be read.
    async fn members(&self, collection: &Value) -> Result<Vec<Value>, BmcError> {
        let Some(path) = link(collection) else { return Ok(Vec::new()) };
        match self.collection(path, usize::MAX).await {
            Err(e @ (BmcError::Refused { .. } | BmcError::Odd { .. })) => {
                tracing::debug!(address = self.access.address, error = %e, "a collection is left out");
                Ok(Vec::new())
            }
            other => other,
        }
    }

    /// Members of a collection, read in full, over all its pages; those that cannot be read are left out.
    async fn collection(&self, path: &str, most: usize) -> Result<Vec<Value>, BmcError> {
        let expand = self.service.get().is_some_and(|s| s.expand);
        let mut list = Value::Null;
        if expand {
            // Some offer it and cannot do it for every collection.
            list = self.get(&format!("{path}?$expand=.($levels=1)")).await.unwrap_or(Value::Null);
        }
        if !list.is_object() {
            list = self.get(path).await?;
        }
        let mut all = Vec::new();
        for _ in 0..PAGES {
            for member in list.get("Members").and_then(Value::as_array).into_iter().flatten() {
                if all.len() >= most {
                    return Ok(all);
                }
                match member {
                    // Some BMCs expand members without being asked.
                    Value::Object(m) if m.len() > 1 => all.push(member.clone()),
                    _ => {
                        if let Some(path) = link(member) {
                            match self.get(path).await {
                                Ok(value) if value.is_object() => all.push(value),
                                Ok(_) | Err(BmcError::Refused { .. } | BmcError::Odd { .. }) => {}
                                Err(e) => return Err(e),
                            }
                        }
                    }
                }
            }
            let next = ["Members@odata.nextLink", "@odata.nextLink"]
                .iter()
                .find_map(|k| list.get(*k).and_then(Value::as_str))
                .and_then(path_of);
            match next {
                Some(next) => list = self.get(&next).await?,
                None => break,
            }
        }
        Ok(all)
    }

    /// What this BMC is, found out once.
    async fn service(&self) -> Result<&Service, BmcError> {
        self.service.get_or_try_init(|| self.recognise()).await
    }

    async fn recognise(&self) -> Result<Service, BmcError> {
        // Without its root a BMC is taken as the standard says.
        let root = match self.get("/redfish/v1/").await {
            Err(BmcError::Odd { .. }) => Value::Null,
            other => other?,
        };
        let list = self.get("/redfish/v1/Systems").await?;
        let paths: Vec<&str> =
            list.get("Members").and_then(Value::as_array).into_iter().flatten().filter_map(link).collect();
        let none = || self.odd("GET /redfish/v1/Systems".into(), "no system in it");
        // Roots are often silent about the vendor, or name the maker of their firmware: the first system tells, and then which is the host.
        let first = quirks::detect(&root, &Value::Null).host_system(&paths).ok_or_else(none)?;
        let quirks = quirks::detect(&root, &self.get(first).await?);
        let system = quirks.host_system(&paths).ok_or_else(none)?.to_owned();
        let features = root.pointer("/ProtocolFeaturesSupported/ExpandQuery");
        let offers = |name: &str| features.and_then(|f| f.get(name)).and_then(Value::as_bool) == Some(true);
        Ok(Service {
            others: paths.into_iter().filter(|p| *p != system).map(str::to_owned).collect(),
            system,
            quirks,
            expand: quirks.expand() && offers("Levels") && offers("NoLinks"),
        })
    }

    /// The system resource.
    async fn system(&self) -> Result<Value, BmcError> {
        let path = &self.service().await?.system;
        self.call(Method::GET, path, None).await
    }

    /// The manager of the system: its own link, or else the first of the BMC.
    async fn manager(&self, system: &Value) -> Result<Value, BmcError> {
        if let Some(path) = system.pointer("/Links/ManagedBy/0").and_then(link) {
            return self.get(path).await;
        }
        Ok(self.collection("/redfish/v1/Managers", 1).await?.into_iter().next().unwrap_or(Value::Null))
    }

    /// The chassis of the system: its own links, or else all of the BMC.
    async fn chassis(&self, system: &Value) -> Result<Vec<Value>, BmcError> {
        let links: Vec<&str> =
            system.pointer("/Links/Chassis").and_then(Value::as_array).into_iter().flatten().filter_map(link).collect();
        if links.is_empty() {
            return self.collection("/redfish/v1/Chassis", 16).await;
        }
        let mut all = Vec::new();
        for path in links {
            let found = self.get(path).await?;
            if found.is_object() {
                all.push(found);
            }
        }
        Ok(all)
    }
}

/// `@odata.id` of a link.
fn link(v: &Value) -> Option<&str> {
    v.get("@odata.id").and_then(Value::as_str)
}

/// Texts of a list, whatever else is in it.
fn text_list(v: Option<&Value>) -> Vec<&str> {
    v.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The path of a path or a whole URL.
fn path_of(location: &str) -> Option<String> {
    if location.starts_with('/') {
        return Some(location.to_owned());
    }
    location.find("/redfish/").map(|at| location[at..].to_owned())
}

/// Message ids and texts of an answer.
fn messages(v: &Value) -> impl Iterator<Item = (&str, &str)> {
    let listed = v.pointer("/error/@Message.ExtendedInfo").or_else(|| v.get("@Message.ExtendedInfo"));
    // Some give one message where a list is due.
    let many = listed.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let one = listed.filter(|l| l.is_object());
    many.iter().chain(one).map(|m| {
        let text = |k: &str| m.get(k).and_then(Value::as_str).unwrap_or_default();
        (text("MessageId"), text("Message"))
    })
}

/// Whether an answer that calls itself a success is none.
fn refuses(v: &Value) -> bool {
    let Some(error) = v.get("error").filter(|e| e.is_object()) else { return false };
    let good = |id: &str| GOOD.contains(&id.rsplit('.').next().unwrap_or_default());
    let mut any = false;
    for (id, _) in messages(v) {
        any = true;
        if good(id) {
            return false;
        }
    }
    any || !error.get("code").and_then(Value::as_str).is_some_and(good)
}

/// What a Redfish error says, in words.
fn reason(v: &Value) -> String {
    messages(v)
        .map(|(_, text)| text)
        .find(|t| !t.is_empty())
        .or_else(|| v.pointer("/error/message").and_then(Value::as_str))
        .unwrap_or("no reason given")
        .to_owned()
}

#[cfg(test)]
mod tests;
