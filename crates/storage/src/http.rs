//! REST over TLS, as arrays speak it: one connection pool, the certificate of the first contact pinned, errors in our words.

use std::sync::Arc;

use crypto::tls::Shown;
use reqwest::{Method, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::Value;

use crate::{Access, StorageError};

/// An array's REST interface.
pub(crate) struct Rest {
    http: reqwest::Client,
    base: String,
    pub(crate) access: Access,
    shown: Arc<Shown>,
}

/// An answer.
pub(crate) struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body; `null` when empty.
    pub body: Value,
}

impl Rest {
    /// The interface at the storage's address, or at its port when it has one.
    pub(crate) fn new(access: Access, port: u16) -> Result<Self, StorageError> {
        let host = if access.address.contains(':') && !access.address.starts_with('[') {
            format!("[{}]", access.address)
        } else {
            access.address.clone()
        };
        let base = format!("https://{host}:{}", access.port.unwrap_or(port));
        let fail = |cause: String| StorageError::Unreachable { storage: access.name.clone(), cause };
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
        Ok(Self { http, base, access, shown })
    }

    pub(crate) fn fingerprint(&self) -> Option<String> {
        self.shown.fingerprint()
    }

    pub(crate) fn refused_fingerprint(&self) -> Option<String> {
        self.shown.refused()
    }

    /// A request; `path` begins with a slash and is sent as it is.
    pub(crate) fn request(&self, method: Method, path: &str, query: &[(&str, &str)]) -> RequestBuilder {
        let query: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let url = format!("{}{path}{}{query}", self.base, if query.is_empty() { "" } else { "?" });
        self.http.request(method, url)
    }

    /// Sends it. An answer is an answer whatever its status, but for those by which the array says that it is out of order.
    pub(crate) async fn send(&self, what: &str, request: RequestBuilder) -> Result<Reply, StorageError> {
        let answer = request.send().await.map_err(|e| self.unreachable(&e))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let text = answer.text().await.map_err(|e| self.unreachable(&e))?;
        let begin = || text.chars().take(200).collect::<String>();
        let body =
            if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(Value::Null) };
        let busy = status == StatusCode::TOO_MANY_REQUESTS
            || matches!(
                status,
                StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
            );
        if busy || (status.is_server_error() && body.is_null()) {
            return Err(self.failed(what, &format!("{status} {}", begin())));
        }
        if body.is_null() && !text.trim().is_empty() {
            return Err(StorageError::Odd {
                storage: self.access.name.clone(),
                request: what.to_owned(),
                answer: format!("{status} {}", begin()),
            });
        }
        Ok(Reply { status, headers, body })
    }

    fn unreachable(&self, e: &reqwest::Error) -> StorageError {
        let storage = self.access.name.clone();
        if let Some(shown) = self.shown.refused().filter(|_| e.is_connect()) {
            let pinned = self.access.tls_fingerprint.clone().or_else(|| self.shown.fingerprint()).unwrap_or_default();
            return StorageError::IdentityChanged { storage, pinned, shown };
        }
        // The address is in the words already; a URL could carry more than that.
        let mut cause = String::new();
        let mut error: Option<&dyn std::error::Error> = Some(e);
        while let Some(this) = error {
            cause = this.to_string();
            error = this.source();
        }
        if e.is_timeout() {
            "no answer in time".clone_into(&mut cause);
        }
        StorageError::Unreachable { storage, cause }
    }

    pub(crate) fn unauthorized(&self) -> StorageError {
        StorageError::Unauthorized(self.access.name.clone())
    }

    pub(crate) fn failed(&self, what: &str, reason: &str) -> StorageError {
        StorageError::Failed {
            storage: self.access.name.clone(),
            what: what.to_owned(),
            reason: reason.trim().to_owned(),
        }
    }

    /// What the array's own words make of a request that it did not carry out. Its internal errors pass, its refusals do not.
    pub(crate) fn rejected(&self, what: &str, status: StatusCode, reason: &str) -> StorageError {
        let reason = if reason.is_empty() { status.to_string() } else { format!("{reason} ({})", status.as_u16()) };
        let (storage, what) = (self.access.name.clone(), what.to_owned());
        if status.is_server_error() {
            StorageError::Failed { storage, what, reason }
        } else {
            StorageError::Refused { storage, what, reason }
        }
    }

    pub(crate) fn missing(&self, what: String, remedy: &str) -> StorageError {
        StorageError::Missing { storage: self.access.name.clone(), what, remedy: remedy.to_owned() }
    }

    pub(crate) fn setting(&self, reason: String) -> StorageError {
        StorageError::Setting { storage: self.access.name.clone(), reason }
    }

    pub(crate) fn odd(&self, request: &str, answer: &Value) -> StorageError {
        StorageError::Odd {
            storage: self.access.name.clone(),
            request: request.to_owned(),
            answer: answer.to_string().chars().take(200).collect(),
        }
    }
}

/// A text within JSON, by a pointer.
pub(crate) fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer).and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_owned)
}

/// A number within JSON, by a pointer; numbers in text count.
pub(crate) fn number(value: &Value, pointer: &str) -> Option<u64> {
    let value = value.pointer(pointer)?;
    value
        .as_u64()
        .or_else(|| value.as_f64().filter(|f| *f >= 0.0).map(|f| f as u64))
        .or_else(|| value.as_str()?.parse().ok())
}

/// A list within JSON, by a pointer.
pub(crate) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
