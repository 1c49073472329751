//! The site's end: dials, stays, and dials again.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use crypto::Identity;
use model::{
    console::{Frame, OpenConsole},
    link::{Down, Hello},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::{
    LinkError, PULSE, Queue, SILENCE, session,
    tunnel::{self, Tunnel},
    wire::{EnrolRequest, ImageRequest, Open, RenewRequest, link_client::LinkClient},
};

/// The Global Controller, as peer of a site's queue.
pub const GLOBAL: i64 = 0;
/// Time to reach the other end.
const DIAL: Duration = Duration::from_secs(10);

/// What a site does with the Global Controller.
#[async_trait]
pub trait Site: Send + Sync + 'static {
    /// First words of a connection.
    async fn hello(&self) -> Hello;
    /// A message. On an error the connection is closed and the message comes again.
    async fn message(&self, down: Down) -> Result<(), String>;
    /// Generation of the snapshot that is held.
    async fn generation(&self) -> i64;
    /// The line is there (`None`), or it is not, and why.
    async fn line(&self, broken: Option<String>);
    /// A console is wanted; its bytes travel through the tunnel, for as long as both ends hold it.
    async fn console(&self, wanted: OpenConsole, tunnel: Tunnel) {
        let _ = wanted;
        let _ = tunnel.out.send(Frame::End("this site has no consoles".into())).await;
    }
}

/// Address, authority and certificate of an enrolled site. No `Debug`: it holds a key.
#[derive(Clone)]
pub struct Membership {
    /// `https://global.example:8443`.
    pub url: String,
    /// The authority that signed both ends' certificates.
    pub ca_pem: String,
    /// The site's own certificate and key.
    pub identity: Identity,
}

/// What an enrolment brings.
pub struct Enrolled {
    /// The site.
    pub site_id: model::Id,
    /// The way in from now on.
    pub membership: Membership,
    /// Key of the secrets sealed for this site, in hex.
    pub sealing_key: String,
}

async fn channel(url: &str, tls: rustls::ClientConfig) -> Result<Channel, LinkError> {
    let fail = |cause: String| LinkError::Unreachable { address: url.to_owned(), cause };
    let parsed = url::Url::parse(url).map_err(|e| fail(e.to_string()))?;
    let host = parsed.host_str().ok_or_else(|| fail("an address is https://HOST:PORT".into()))?.to_owned();
    let port = parsed.port_or_known_default().unwrap_or(443);
    let name = rustls_pki_types::ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .map_err(|e| fail(e.to_string()))?;
    let tls = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let connector = tower::service_fn(move |_| {
        let (tls, name, host) = (tls.clone(), name.clone(), host.clone());
        async move {
            let tcp = tokio::net::TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
            tcp.set_nodelay(true)?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(tls.connect(name, tcp).await?))
        }
    });
    // TLS is the connector's: to tonic this is a plain connection.
    let endpoint = Endpoint::from_shared(format!("http://{}:{port}", parsed.host_str().unwrap_or_default()))
        .map_err(|e| fail(e.to_string()))?
        .http2_keep_alive_interval(PULSE)
        .keep_alive_timeout(SILENCE)
        .keep_alive_while_idle(true);
    match tokio::time::timeout(DIAL, endpoint.connect_with_connector(connector)).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(e)) => Err(fail(root_cause(&e))),
        Err(_) => Err(fail(format!("no answer within {} s", DIAL.as_secs()))),
    }
}

/// The innermost cause says what happened; the layers around it say nothing.
fn root_cause(mut e: &dyn std::error::Error) -> String {
    while let Some(inner) = e.source() {
        e = inner;
    }
    e.to_string()
}

/// Enrols with a one-time token. `authority` is the fingerprint of the Global Controller's authority (SHA-256, hex).
pub async fn enrol(
    url: &str,
    token: &str,
    authority: &str,
    hostname: &str,
    version: &str,
) -> Result<Enrolled, LinkError> {
    let channel = channel(url, crypto::tls::pinned(authority)?).await?;
    let (key_pem, csr_pem) = Identity::request()?;
    let request =
        EnrolRequest { token: token.to_owned(), csr_pem, hostname: hostname.to_owned(), version: version.to_owned() };
    let reply = tokio::time::timeout(SILENCE, LinkClient::new(channel).enrol(request))
        .await
        .map_err(|_| LinkError::Unreachable { address: url.to_owned(), cause: "no answer to the enrolment".into() })?
        .map_err(|s| LinkError::Refused(s.message().to_owned()))?
        .into_inner();
    let identity = Identity { certificate_pem: reply.certificate_pem, key_pem };
    Ok(Enrolled {
        site_id: reply.site_id,
        membership: Membership { url: url.to_owned(), ca_pem: reply.ca_pem, identity },
        sealing_key: reply.sealing_key,
    })
}

impl Membership {
    async fn client(&self) -> Result<LinkClient<Channel>, LinkError> {
        let channel = channel(&self.url, crypto::tls::client(&self.ca_pem, Some(&self.identity))?).await?;
        Ok(LinkClient::new(channel).max_decoding_message_size(2 * crate::PIECE))
    }

    /// The same with the next certificate.
    pub async fn renew(&self) -> Result<Self, LinkError> {
        let (key_pem, csr_pem) = Identity::request()?;
        let reply = tokio::time::timeout(SILENCE, self.client().await?.renew(RenewRequest { csr_pem }))
            .await
            .map_err(|_| LinkError::Unreachable { address: self.url.clone(), cause: "no answer".into() })?
            .map_err(|s| LinkError::Refused(s.message().to_owned()))?
            .into_inner();
        let identity = Identity { certificate_pem: reply.certificate_pem, key_pem };
        Ok(Self { url: self.url.clone(), ca_pem: reply.ca_pem, identity })
    }

    /// Fetches an image from byte `offset`; `sink` gets the pieces in order.
    pub async fn fetch_image<F, R>(&self, sha256: &str, offset: u64, mut sink: F) -> Result<(), LinkError>
    where
        F: FnMut(Vec<u8>) -> R,
        R: Future<Output = Result<(), std::io::Error>>,
    {
        let broken = |cause: String| LinkError::Unreachable { address: self.url.clone(), cause };
        let mut chunks = self
            .client()
            .await?
            .fetch_image(ImageRequest { sha256: sha256.to_owned(), offset })
            .await
            .map_err(|s| LinkError::Refused(s.message().to_owned()))?
            .into_inner();
        loop {
            match tokio::time::timeout(SILENCE, chunks.message()).await {
                Err(_) => return Err(broken(format!("nothing came for {} s", SILENCE.as_secs()))),
                Ok(Err(s)) => return Err(broken(s.message().to_owned())),
                Ok(Ok(None)) => return Ok(()),
                Ok(Ok(Some(chunk))) => sink(chunk.data).await.map_err(|e| LinkError::Handler(e.to_string()))?,
            }
        }
    }
}

/// Keeps the connection until `shutdown`. `membership` is asked before each try, because certificates are renewed.
pub async fn run(
    membership: impl Fn() -> Membership + Send + Sync,
    queue: Queue,
    site: Arc<dyn Site>,
    shutdown: CancellationToken,
) {
    let mut failures = 0;
    loop {
        let (began, current) = (tokio::time::Instant::now(), membership());
        let ended = tokio::select! {
            ended = once(&current, &queue, &site) => ended,
            () = shutdown.cancelled() => return,
        };
        let words = match ended {
            Ok(()) => "the Global Controller hung up".to_owned(),
            Err(e) => e.to_string(),
        };
        site.line(Some(words)).await;
        failures = if began.elapsed() > SILENCE { 0 } else { failures + 1 };
        tokio::select! {
            () = tokio::time::sleep(session::pause(failures)) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn once(membership: &Membership, queue: &Queue, site: &Arc<dyn Site>) -> Result<(), LinkError> {
    let mut client = membership.client().await?;
    let (out, frames) = mpsc::channel(16);
    let answers = client.attach(ReceiverStream::new(frames));
    let incoming = tokio::time::timeout(SILENCE, answers)
        .await
        .map_err(|_| LinkError::Unreachable { address: membership.url.clone(), cause: "no answer".into() })?
        .map_err(|s| LinkError::Refused(s.message().to_owned()))?
        .into_inner();
    let hello = serde_json::to_vec(&site.hello().await).map_err(|e| LinkError::Protocol(e.to_string()))?;
    // Tunnels end with the connection through which they go.
    let tunnels = CancellationToken::new();
    let _end = tunnels.clone().drop_guard();
    session::run(queue, GLOBAL, &SiteEnd { site: site.clone(), client, tunnels }, hello, incoming, out).await
}

struct SiteEnd {
    site: Arc<dyn Site>,
    client: LinkClient<Channel>,
    tunnels: CancellationToken,
}

#[async_trait]
impl session::End for SiteEnd {
    async fn message(&self, body: &[u8]) -> Result<(), LinkError> {
        match serde_json::from_slice::<Down>(body) {
            Ok(down) => self.site.message(down).await.map_err(LinkError::Handler),
            Err(error) => {
                tracing::error!(%error, "a message of the Global Controller is not understood and was left out");
                Ok(())
            }
        }
    }

    async fn greeted(&self, _hello: &[u8], _is_new: bool) -> Result<(), LinkError> {
        self.site.line(None).await;
        Ok(())
    }

    async fn snapshot(&self, _generation: i64) -> Result<Option<Vec<u8>>, LinkError> {
        Ok(None)
    }

    async fn held(&self) -> Option<i64> {
        Some(self.site.generation().await)
    }

    async fn open(&self, wanted: Open) {
        let request = match serde_json::from_slice::<OpenConsole>(&wanted.request) {
            Ok(request) => request,
            // The other end waits in vain, and says so to whoever asked.
            Err(error) => return tracing::error!(%error, "a wish for a tunnel is not understood"),
        };
        let (client, site, stop) = (self.client.clone(), self.site.clone(), self.tunnels.clone());
        tokio::spawn(async move {
            match tunnel::dial(client, wanted.ticket, stop).await {
                Ok(tunnel) => site.console(request, tunnel).await,
                Err(error) => tracing::warn!(%error, "a tunnel could not be opened"),
            }
        });
    }
}
