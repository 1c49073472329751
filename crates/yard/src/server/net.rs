//! A server's network port as its software sees it: DHCP, TFTP and HTTP pass only while the wire is there.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{Method, header};
use tokio::time::timeout;

use super::Server;
use crate::{
    dataplane,
    fault::{Action, DeviceKind, Face},
    topology::{Nic, ServerSpec},
    world::World,
};

/// Time after which an unreachable server is given up, as TCP would (shortened).
const CONNECT: Duration = Duration::from_secs(5);
/// Longest silence in the middle of an answer.
const STALL: Duration = Duration::from_secs(30);
/// Longest answer that is kept in memory.
const KEPT: usize = 64 << 20;

/// Network port `index` of a server.
#[derive(Clone)]
pub struct Port {
    world: Arc<World>,
    server: Arc<Server>,
    index: usize,
    /// VLAN tag under which the software sends; `None` for untagged.
    tag: Option<u16>,
    /// For `https`.
    secure: Option<reqwest::Client>,
}

/// An answer that was read in full.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body.
    pub body: Bytes,
}

/// Takes what arrives, with the status; an error ends the download.
pub type Sink<'a> = dyn FnMut(u16, &[u8]) -> Result<(), String> + Send + 'a;

/// How a download went on.
pub enum Download {
    /// All has arrived.
    Complete,
    /// It broke off; going on from where it was is worth a try.
    Broken(String),
    /// The server answered with a status that is no success.
    Status(u16),
}

impl Port {
    /// Port of a server, untagged.
    pub fn new(world: Arc<World>, server: Arc<Server>, index: usize) -> Self {
        Self { world, server, index, tag: None, secure: None }
    }

    /// The same port with a VLAN tag.
    pub fn tagged(mut self, tag: Option<u16>) -> Self {
        self.tag = tag;
        self
    }

    /// The same port with a client for `https`.
    pub fn secured(&self, client: reqwest::Client) -> Self {
        Self { secure: Some(client), ..self.clone() }
    }

    /// The datacenter.
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// The server's facts.
    pub fn spec(&self) -> &ServerSpec {
        &self.server.spec
    }

    /// The server.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Index of the port.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Facts of the port.
    pub fn nic(&self) -> &Nic {
        &self.server.spec.nics[self.index]
    }

    /// MAC address.
    pub fn mac(&self) -> [u8; 6] {
        self.nic().mac
    }

    /// Whether frames reach the site's services now.
    pub fn online(&self) -> bool {
        dataplane::site_reachable(&self.world, &self.server, self.index, self.tag)
    }

    /// Faults of an operation of this server.
    pub fn strike(&self, face: Face, operation: &str) -> Vec<Action> {
        self.world.strike_server(&self.server, face, operation)
    }

    /// An HTTP request with a small answer. The error is text for the console.
    pub async fn request(
        &self,
        face: Face,
        method: Method,
        url: &str,
        token: Option<&str>,
        body: Option<(&'static str, String)>,
    ) -> Result<Answer, String> {
        let mut request = self.world.http.request(method, url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some((kind, body)) = body {
            request = request.header(header::CONTENT_TYPE, kind).body(body);
        }
        let mut collected = Vec::new();
        let mut status = 0;
        match self
            .stream(face, request, None, &mut |code, chunk| {
                status = code;
                collected.extend_from_slice(chunk);
                if collected.len() > KEPT { Err("answer is too large".into()) } else { Ok(()) }
            })
            .await?
        {
            Download::Complete => Ok(Answer { status, body: collected.into() }),
            Download::Status(status) => Ok(Answer { status, body: Bytes::new() }),
            Download::Broken(error) => Err(error),
        }
    }

    /// Fetches a file in full; any status but 200 is an error.
    pub async fn fetch(&self, face: Face, url: &str) -> Result<Bytes, String> {
        let answer = self.request(face, Method::GET, url, None, None).await?;
        if answer.status == 200 { Ok(answer.body) } else { Err(format!("GET {url}: status {}", answer.status)) }
    }

    /// Streams a file from byte `from` on into `sink`, which gets the status (200: from the start, 206: from there).
    pub async fn download(
        &self,
        url: &str,
        token: Option<&str>,
        from: u64,
        sink: &mut Sink<'_>,
    ) -> Result<Download, String> {
        let mut request = self.world.http.get(url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        self.stream(Face::Http, request, self.world.config.image_mbps, sink).await
    }

    async fn stream(
        &self,
        face: Face,
        request: reqwest::RequestBuilder,
        mbps: Option<u32>,
        sink: &mut Sink<'_>,
    ) -> Result<Download, String> {
        let request = request.build().map_err(|error| format!("bad request: {error}"))?;
        let what = format!("{} {}", request.method(), without_tokens(request.url().path()));
        let operation = format!("{} {}", request.method(), request.url().path());
        let mut cut = None;
        for action in self.strike(face, &operation) {
            match action {
                Action::Delay { ms } => tokio::time::sleep(Duration::from_millis(ms)).await,
                Action::Drop => return Ok(Download::Broken(format!("{what}: connection reset"))),
                Action::Hang => {
                    tokio::time::sleep(STALL).await;
                    return Ok(Download::Broken(format!("{what}: timed out")));
                }
                Action::Error { status, .. } => return Ok(Download::Status(status)),
                Action::WrongBody { body } => {
                    sink(200, body.as_bytes())?;
                    return Ok(Download::Complete);
                }
                Action::Truncate { percent } => cut = Some((Some(u64::from(percent)), 0)),
                Action::DisconnectAfter { bytes } => cut = Some((None, bytes as u64)),
                Action::Lie { .. } | Action::IgnoreBootOverride | Action::RestartBmc => {}
            }
        }
        if !self.online() {
            tokio::time::sleep(CONNECT).await;
            if !self.online() {
                return Ok(Download::Broken(format!("{what}: no route to host")));
            }
        }
        self.world.events.count("http_requests");
        let secure = self.secure.as_ref().filter(|_| request.url().scheme() == "https");
        let client = secure.unwrap_or(&self.world.http);
        let response = match timeout(STALL, client.execute(request)).await {
            Err(_) => return Ok(Download::Broken(format!("{what}: timed out"))),
            Ok(Err(error)) => {
                return Ok(Download::Broken(format!("{what}: {}", without_tokens(&error.without_url().to_string()))));
            }
            Ok(Ok(response)) => response,
        };
        let status = response.status().as_u16();
        if !(200..300).contains(&status) {
            return Ok(Download::Status(status));
        }
        let cut = cut.map(|(percent, bytes)| match percent {
            Some(percent) => response.content_length().unwrap_or(0).saturating_mul(percent) / 100,
            None => bytes,
        });
        let mut response = response;
        let (mut received, started) = (0_u64, tokio::time::Instant::now());
        sink(status, &[])?;
        loop {
            let chunk = match timeout(STALL, response.chunk()).await {
                Err(_) => return Ok(Download::Broken(format!("{what}: stalled after {received} bytes"))),
                Ok(Err(_)) => return Ok(Download::Broken(format!("{what}: broke off after {received} bytes"))),
                Ok(Ok(None)) => return Ok(Download::Complete),
                Ok(Ok(Some(chunk))) => chunk,
            };
            if !self.online() {
                return Ok(Download::Broken(format!("{what}: link lost after {received} bytes")));
            }
            let end = cut.map_or(chunk.len(), |cut| chunk.len().min(cut.saturating_sub(received) as usize));
            sink(status, &chunk[..end])?;
            received += end as u64;
            if cut.is_some_and(|cut| received >= cut) {
                return Ok(Download::Broken(format!("{what}: connection reset after {received} bytes")));
            }
            if let Some(mbps) = mbps {
                let due = started + Duration::from_secs_f64(received as f64 * 8.0 / (f64::from(mbps) * 1e6));
                tokio::time::sleep_until(due).await;
            }
        }
    }
}

/// Paths of seeds and of "phone home" carry the token of the boot session; logs do not.
pub fn without_tokens(text: &str) -> String {
    text.split('/')
        .map(|part| if part.len() >= 32 && part.bytes().all(|b| b.is_ascii_alphanumeric()) { "…" } else { part })
        .collect::<Vec<_>>()
        .join("/")
}

impl World {
    /// Faults that strike an operation of a server.
    pub fn strike_server(&self, server: &Server, face: Face, operation: &str) -> Vec<Action> {
        let spec = &server.spec;
        let actions = self.faults.strike(DeviceKind::Server, &[&spec.serial, &spec.name], face, operation);
        for action in &actions {
            self.events.push(&spec.serial, "fault", format!("{action:?} on {}", without_tokens(operation)));
        }
        actions
    }
}
