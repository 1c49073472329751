//! HTTPS server of one device: accept loop, TLS, request bodies, and the faults of the connection.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use base64::Engine as _;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{self, HeaderMap, HeaderName, HeaderValue},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{YardError, fault::Action};

/// Longest body that a device reads.
const BODY_LIMIT: usize = 16 << 20;
/// Longest time for which a hanging request is kept.
const HANG: Duration = Duration::from_mins(10);

/// A request, read in full.
pub struct Incomer {
    /// Method.
    pub method: Method,
    /// Path, percent-encoded as it came, without a trailing slash.
    pub path: String,
    /// Query string.
    pub query: String,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Incomer {
    /// Body as JSON; an empty body is `null`.
    pub fn json(&self) -> Result<Value, serde_json::Error> {
        if self.body.iter().all(u8::is_ascii_whitespace) { Ok(Value::Null) } else { serde_json::from_slice(&self.body) }
    }

    /// User and password of Basic authentication.
    pub fn basic(&self) -> Option<(String, String)> {
        let text = self.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, rest) = text.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let plain = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
        let (user, password) = std::str::from_utf8(&plain).ok()?.split_once(':')?;
        Some((user.to_owned(), password.to_owned()))
    }

    /// Header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// An answer.
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: Vec<(HeaderName, String)>,
    /// Body; an empty one is sent without a type.
    pub body: Bytes,
    /// Media type.
    pub content_type: &'static str,
}

impl Reply {
    /// A JSON answer.
    pub fn json(status: StatusCode, body: &Value) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::from(body.to_string()),
            content_type: "application/json;charset=utf-8",
        }
    }

    /// An answer without a body.
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new(), content_type: "" }
    }

    /// With one more header.
    pub fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A device with an HTTPS interface.
pub trait Device: Send + Sync + 'static {
    /// TLS settings, made on first use.
    fn tls(&self) -> Result<Arc<ServerConfig>, YardError>;
    /// Whether it answers at all now (a BMC does not while it resets).
    fn listening(&self) -> bool {
        true
    }
    /// Faults that strike an operation.
    fn strike(&self, operation: &str) -> Vec<Action>;
    /// What a lie without a value says.
    fn lie(&self, pointer: &str) -> Option<Value>;
    /// Body of an error that a fault asks for.
    fn error_body(&self, status: StatusCode, message: &str) -> Value;
    /// The answer.
    fn handle(self: Arc<Self>, request: Incomer) -> impl Future<Output = Reply> + Send;
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Serves a device until shutdown.
pub async fn serve<D: Device>(listener: TcpListener, device: Arc<D>, shutdown: CancellationToken) {
    loop {
        let socket = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => socket,
                Err(error) => {
                    tracing::warn!(%error, "accept failed; trying again");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            },
        };
        if !device.listening() {
            continue;
        }
        let (device, shutdown) = (device.clone(), shutdown.clone());
        tokio::spawn(async move {
            let Ok(config) = device.tls().inspect_err(|error| tracing::error!(%error, "no TLS")) else { return };
            let _ = socket.set_nodelay(true);
            let handshake = tokio_rustls::TlsAcceptor::from(config).accept(socket);
            let Ok(Ok(tls)) = tokio::time::timeout(Duration::from_secs(10), handshake).await else { return };
            let service = service_fn(|request| answer(device.clone(), request));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_mins(1))
                .serve_connection(TokioIo::new(tls), service);
            tokio::select! { () = shutdown.cancelled() => {}, _ = connection => {} }
        });
    }
}

/// Error that makes hyper close the connection without an answer.
fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "connection dropped by a fault rule")
}

async fn answer<D: Device>(device: Arc<D>, request: Request<Incoming>) -> Result<Response<Body>, io::Error> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().trim_end_matches('/').to_owned();
    let operation = format!("{} {path}", parts.method);
    let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else {
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        return Ok(respond(Reply::json(status, &device.error_body(status, "request body is too large")), None));
    };
    let (mut cut, mut lies, mut instead) = (None, Vec::new(), None);
    for action in device.strike(&operation) {
        match action {
            Action::Delay { ms } => tokio::time::sleep(Duration::from_millis(ms)).await,
            Action::Drop => return Err(closed()),
            Action::Hang => {
                tokio::time::sleep(HANG).await;
                return Err(closed());
            }
            Action::Error { status, message } => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let message = message.unwrap_or_else(|| "injected fault".into());
                instead = Some(Reply::json(status, &device.error_body(status, &message)));
            }
            Action::WrongBody { body } => {
                let mut reply = Reply::empty(StatusCode::OK);
                reply.body = Bytes::from(body);
                reply.content_type = "application/json";
                instead = Some(reply);
            }
            Action::Truncate { percent } => cut = Some(Cut::Percent(percent)),
            Action::DisconnectAfter { bytes } => cut = Some(Cut::Bytes(bytes)),
            Action::Lie { pointer, value } => lies.push((pointer, value)),
            Action::IgnoreBootOverride | Action::RestartBmc => {}
        }
    }
    let mut reply = match instead {
        Some(reply) => reply,
        None => {
            let request = Incomer {
                method: parts.method,
                path,
                query: parts.uri.query().unwrap_or_default().to_owned(),
                headers: parts.headers,
                body: body.to_bytes(),
            };
            device.clone().handle(request).await
        }
    };
    if !lies.is_empty()
        && let Ok(mut json) = serde_json::from_slice::<Value>(&reply.body)
    {
        for (pointer, value) in lies {
            if let (Some(place), Some(value)) = (json.pointer_mut(&pointer), value.or_else(|| device.lie(&pointer))) {
                *place = value;
            }
        }
        reply.body = Bytes::from(json.to_string());
    }
    Ok(respond(reply, cut))
}

enum Cut {
    Percent(u8),
    Bytes(usize),
}

fn respond(reply: Reply, cut: Option<Cut>) -> Response<Body> {
    let mut headers = HeaderMap::new();
    for (name, value) in reply.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append(name, value);
        }
    }
    if !reply.body.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    }
    let length = reply.body.len();
    if reply.status != StatusCode::NO_CONTENT {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let body: Body = match cut {
        None => http_body_util::Full::new(reply.body).map_err(|never: Infallible| match never {}).boxed_unsync(),
        Some(cut) => {
            let keep = match cut {
                Cut::Percent(percent) => length * usize::from(percent.min(100)) / 100,
                Cut::Bytes(bytes) => bytes.min(length),
            };
            let head = stream::once(async move { Ok(Frame::data(reply.body.slice(..keep))) });
            let tail: Pin<Box<dyn futures::Stream<Item = Result<Frame<Bytes>, io::Error>> + Send>> =
                if keep < length { stream::once(async { Err(closed()) }).boxed() } else { stream::empty().boxed() };
            StreamBody::new(head.chain(tail)).boxed_unsync()
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    *response.headers_mut() = headers;
    response
}

/// Binds a TCP listener; the error names the address and what to do.
pub async fn bind(what: &str, address: SocketAddr) -> Result<TcpListener, YardError> {
    TcpListener::bind(address).await.map_err(|error| {
        YardError::Listen(format!("{what} cannot listen on {address}: {error}; free the port or choose another"))
    })
}
