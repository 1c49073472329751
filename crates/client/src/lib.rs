//! The Rust client of the Steelyard REST interface: a thin layer over HTTP that knows authentication, lists, revisions and errors.

mod events;
mod list;

pub use events::{EventStream, ServerEvent};
pub use list::{ListOptions, Page};

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::Value;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered with an error.
    #[error("{message}")]
    Api {
        /// HTTP status.
        status: StatusCode,
        /// What the server said.
        message: String,
        /// The whole body.
        body: Value,
    },
    /// The server could not be reached.
    #[error("cannot reach {url}: {cause}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why, in words.
        cause: String,
    },
    /// The answer was not what it should be.
    #[error("unexpected answer of {url}: {cause}")]
    Odd {
        /// Where.
        url: String,
        /// Why.
        cause: String,
    },
    /// The base address is not a URL.
    #[error("{0:?} is not a server address; write it as http://host:8080")]
    BadAddress(String),
}

impl Error {
    /// HTTP status, when the server answered.
    pub fn status(&self) -> Option<StatusCode> {
        if let Self::Api { status, .. } = self { Some(*status) } else { None }
    }
}

/// A connection to one Global Controller. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_mins(1);

impl Client {
    /// For the server at `base` (`http://host:8080`), with an API key or session token. A TLS provider must have been installed.
    pub fn new(base: &str, token: Option<String>) -> Result<Self, Error> {
        let url = url::Url::parse(base).map_err(|_| Error::BadAddress(base.to_owned()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::BadAddress(base.to_owned()));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .user_agent(concat!("steelyard/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| Error::Unreachable { url: base.to_owned(), cause: chain(&e) })?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), token })
    }

    /// The server's address.
    pub fn base(&self) -> &str {
        &self.base
    }

    fn request(&self, method: Method, path: &str) -> (String, reqwest::RequestBuilder) {
        let url = format!("{}{}{path}", self.base, if path.starts_with("/api/") { "" } else { "/api/v2" });
        let mut r = self.http.request(method, &url);
        if let Some(token) = &self.token {
            r = r.bearer_auth(token);
        }
        (url, r)
    }

    /// One call. `path` is below `/api/v2`.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        revision: Option<i64>,
    ) -> Result<Value, Error> {
        let (url, mut r) = self.request(method, path);
        r = r.timeout(TIMEOUT);
        if let Some(body) = body {
            r = r.json(body);
        }
        if let Some(revision) = revision {
            r = r.header("If-Match", revision.to_string());
        }
        let answer = r.send().await.map_err(|e| Error::Unreachable { url: url.clone(), cause: chain(&e) })?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(|e| Error::Odd { url: url.clone(), cause: chain(&e) })?;
        let value: Value = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes)
                .map_err(|e| Error::Odd { url: url.clone(), cause: format!("status {status}, not JSON: {e}") })?
        };
        if status.is_success() {
            return Ok(value);
        }
        let message = value
            .get("message")
            .and_then(Value::as_str)
            .map_or_else(|| format!("status {status} of {url}"), str::to_owned);
        Err(Error::Api { status, message, body: value })
    }

    /// Opens a WebSocket, whose frames are the caller's business. `protocols` are those of the handshake.
    pub async fn websocket(&self, path: &str, protocols: &str) -> Result<reqwest::Upgraded, Error> {
        let url = format!("{}{path}", self.base);
        let fail = |e: reqwest::Error| Error::Unreachable { url: url.clone(), cause: chain(&e) };
        // A connection of its own, because HTTP/2 has no upgrades.
        let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(10)).http1_only().build();
        let request = http
            .map_err(fail)?
            .get(&url)
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            // Proves that the other end speaks WebSocket; it is no secret.
            .header("Sec-WebSocket-Key", "c3RlZWx5YXJkIGNvbnNvbA==")
            .header("Sec-WebSocket-Protocol", protocols);
        let answer = request.send().await.map_err(fail)?;
        let status = answer.status();
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return answer.upgrade().await.map_err(fail);
        }
        let body: Value = answer.json().await.unwrap_or_default();
        let said = body.get("message").and_then(Value::as_str).map(str::to_owned);
        Err(Error::Api { status, message: said.unwrap_or_else(|| format!("status {status} of {url}")), body })
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Result<Value, Error> {
        self.call(Method::GET, path, None, None).await
    }

    /// POST.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        self.call(Method::POST, path, Some(body), None).await
    }

    /// PATCH at a revision.
    pub async fn patch(&self, path: &str, body: &Value, revision: Option<i64>) -> Result<Value, Error> {
        self.call(Method::PATCH, path, Some(body), revision).await
    }

    /// DELETE at a revision.
    pub async fn delete(&self, path: &str, revision: Option<i64>) -> Result<Value, Error> {
        self.call(Method::DELETE, path, None, revision).await
    }

    /// PUT at a revision.
    pub async fn put(&self, path: &str, body: &Value, revision: Option<i64>) -> Result<Value, Error> {
        self.call(Method::PUT, path, Some(body), revision).await
    }

    /// Logs in with e-mail and password; the answer is a client with the session's token. Where it says `secondFactorRequired`, the token is
    /// good for [`Self::second_factor`] alone.
    pub async fn login(&self, email: &str, password: &str) -> Result<(Self, Value), Error> {
        let body = serde_json::json!({"provider": "mysql", "properties": {"email": email, "password": password}});
        let user = self.post("/login", &body).await?;
        self.signed_in(user)
    }

    /// The second half of a login: the code that the user's authenticator shows.
    pub async fn second_factor(&self, code: &str) -> Result<(Self, Value), Error> {
        let user = self.post("/login-2fa", &serde_json::json!({"token": code})).await?;
        self.signed_in(user)
    }

    fn signed_in(&self, user: Value) -> Result<(Self, Value), Error> {
        let token = user.get("sessionToken").and_then(Value::as_str).map(str::to_owned).ok_or_else(|| Error::Odd {
            url: format!("{}/api/v2/login", self.base),
            cause: "no session token in it".into(),
        })?;
        Ok((Self { token: Some(token), ..self.clone() }, user))
    }
}

/// An error with its causes in one line.
fn chain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut next = e.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}
