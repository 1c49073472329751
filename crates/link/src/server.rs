//! The Global Controller's end.

use std::{collections::HashMap, net::SocketAddr, path::PathBuf, pin::Pin, sync::Arc, sync::Mutex, sync::PoisonError};

use async_trait::async_trait;
use crypto::{Identity, ca::SiteName};
use model::{
    Id,
    link::{Down, Hello, Up},
};
use tokio::{io::AsyncReadExt, io::AsyncSeekExt, sync::mpsc};
use tokio_stream::{Stream, wrappers::ReceiverStream, wrappers::TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, transport::Certificate, transport::ServerTlsConfig};

use crate::{
    LinkError, PULSE, Queue, SILENCE, Tunnels, session, tunnel,
    wire::{
        EnrolReply, EnrolRequest, Frame, ImageChunk, ImageRequest, Open, Piece, RenewReply, RenewRequest,
        link_server::{Link, LinkServer},
    },
};

/// What a site gets when it enrols.
pub struct Enrolment {
    /// The site.
    pub site_id: Id,
    /// Its certificate.
    pub certificate_pem: String,
    /// Key of the secrets sealed for it, in hex.
    pub sealing_key: String,
}

/// What the Global Controller does with its sites. Errors are words for the site's operator.
#[async_trait]
pub trait Global: Send + Sync + 'static {
    /// A new Site Controller with a one-time token.
    async fn enrol(&self, token: &str, csr_pem: &str, hostname: &str, version: &str) -> Result<Enrolment, String>;
    /// The next certificate of a site.
    async fn renew(&self, site: &SiteName, csr_pem: &str) -> Result<String, String>;
    /// Whether this certificate may still connect.
    async fn admit(&self, site: &SiteName) -> Result<(), String>;
    /// A site is there. `is_new`: its database began anew, and knows nothing of what it was told before.
    async fn connected(&self, site: &SiteName, hello: &Hello, is_new: bool) -> Result<(), String>;
    /// A site is gone.
    async fn disconnected(&self, site: &SiteName);
    /// A message. On an error the connection is closed and the message comes again.
    async fn message(&self, site_id: Id, up: Up) -> Result<(), String>;
    /// What is new in the snapshot since `generation`, or nothing.
    async fn snapshot(&self, site_id: Id, generation: i64) -> Result<Option<Down>, String>;
    /// An image that this site may have.
    async fn image(&self, site_id: Id, sha256: &str) -> Result<Image, String>;
    /// Where tunnels through the sites' connections are asked for.
    fn tunnels(&self) -> Tunnels {
        Tunnels::default()
    }
}

/// Where an image is.
pub enum Image {
    /// In a file.
    File(PathBuf),
    /// In memory.
    Bytes(Vec<u8>),
}

/// Serves the link until `shutdown`. Returns the address that it really listens on.
pub async fn serve(
    listen: &str,
    ca_pem: &str,
    identity: &Identity,
    queue: Queue,
    global: Arc<dyn Global>,
    shutdown: CancellationToken,
) -> Result<(SocketAddr, tokio::task::JoinHandle<()>), LinkError> {
    let unreachable =
        |e: &dyn std::fmt::Display| LinkError::Unreachable { address: listen.to_owned(), cause: e.to_string() };
    let listener = tokio::net::TcpListener::bind(listen).await.map_err(|e| unreachable(&e))?;
    let address = listener.local_addr().map_err(|e| unreachable(&e))?;
    // The authority goes along, because a new site knows it by its fingerprint alone.
    let chain = format!("{}\n{ca_pem}", identity.certificate_pem.trim_end());
    let tls = ServerTlsConfig::new()
        .identity(tonic::transport::Identity::from_pem(chain, &identity.key_pem))
        .client_ca_root(Certificate::from_pem(ca_pem))
        .client_auth_optional(true);
    let service =
        Service { ca_pem: ca_pem.to_owned(), queue, global, current: Arc::default(), shutdown: shutdown.clone() };
    let router = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(PULSE))
        .http2_keepalive_timeout(Some(SILENCE))
        .tls_config(tls)
        .map_err(|e| LinkError::Protocol(e.to_string()))?
        .add_service(LinkServer::new(service).max_decoding_message_size(2 * crate::PIECE));
    let serving = tokio::spawn(async move {
        let incoming = TcpListenerStream::new(listener);
        if let Err(error) = router.serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned()).await {
            tracing::error!(%error, "the link ended");
        }
    });
    Ok((address, serving))
}

struct Service {
    ca_pem: String,
    queue: Queue,
    global: Arc<dyn Global>,
    /// The connection of each site: a newer one replaces it.
    current: Arc<Mutex<HashMap<Id, CancellationToken>>>,
    shutdown: CancellationToken,
}

impl Service {
    async fn site<T>(&self, request: &Request<T>) -> Result<SiteName, Status> {
        let certificates = request.peer_certs();
        let certificate = certificates
            .as_ref()
            .and_then(|c| c.first())
            .ok_or_else(|| Status::unauthenticated("a site shows its certificate; enrol it first"))?;
        let site = crypto::ca::site_name(certificate).map_err(|e| Status::unauthenticated(e.to_string()))?;
        self.global.admit(&site).await.map_err(Status::permission_denied)?;
        Ok(site)
    }

    fn replace(&self, site_id: Id) -> CancellationToken {
        let token = self.shutdown.child_token();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(older) = current.insert(site_id, token.clone()) {
            older.cancel();
        }
        token
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Link for Service {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolReply>, Status> {
        let r = request.into_inner();
        let made = self
            .global
            .enrol(&r.token, &r.csr_pem, &r.hostname, &r.version)
            .await
            .map_err(Status::permission_denied)?;
        Ok(Response::new(EnrolReply {
            site_id: made.site_id,
            certificate_pem: made.certificate_pem,
            ca_pem: self.ca_pem.clone(),
            sealing_key: made.sealing_key,
        }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        let site = self.site(&request).await?;
        let certificate_pem =
            self.global.renew(&site, &request.into_inner().csr_pem).await.map_err(Status::permission_denied)?;
        Ok(Response::new(RenewReply { certificate_pem, ca_pem: self.ca_pem.clone() }))
    }

    type AttachStream = Answers<Frame>;

    async fn attach(&self, request: Request<Streaming<Frame>>) -> Result<Response<Self::AttachStream>, Status> {
        let site = self.site(&request).await?;
        let incoming = request.into_inner();
        let stop = self.replace(site.site_id);
        let (out, answers) = mpsc::channel(16);
        let (queue, global) = (self.queue.clone(), self.global.clone());
        tokio::spawn(async move {
            let number = global.tunnels().next();
            let end = GlobalEnd { site: site.clone(), global: global.clone(), out: out.clone(), number };
            let ended = tokio::select! {
                ended = session::run(&queue, site.site_id, &end, Vec::new(), incoming, out) => ended,
                () = stop.cancelled() => Ok(()),
            };
            global.tunnels().detached(site.site_id, number);
            // A site that is replaced by its own newer connection is not gone.
            if !stop.is_cancelled() {
                match ended {
                    Ok(()) => tracing::info!(site = site.site_id, "the site hung up"),
                    Err(error) => tracing::warn!(site = site.site_id, %error, "the connection of a site broke"),
                }
                global.disconnected(&site).await;
            }
        });
        let answers = ReceiverStream::new(answers);
        Ok(Response::new(Box::pin(tokio_stream::StreamExt::map(answers, Ok))))
    }

    type TunnelStream = Answers<Piece>;

    async fn tunnel(&self, request: Request<Streaming<Piece>>) -> Result<Response<Self::TunnelStream>, Status> {
        let site = self.site(&request).await?;
        let pieces = tunnel::join(&self.global.tunnels(), site.site_id, request.into_inner()).await?;
        Ok(Response::new(Box::pin(pieces)))
    }

    type FetchImageStream = Answers<ImageChunk>;

    async fn fetch_image(&self, request: Request<ImageRequest>) -> Result<Response<Self::FetchImageStream>, Status> {
        let site = self.site(&request).await?;
        let wanted = request.into_inner();
        let image = self.global.image(site.site_id, &wanted.sha256).await.map_err(Status::not_found)?;
        let (out, chunks) = mpsc::channel(4);
        tokio::spawn(async move {
            if let Err(e) = read_image(image, wanted.offset, &out).await {
                let _ = out.send(Err(Status::internal(format!("the image cannot be read: {e}")))).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(chunks))))
    }
}

async fn read_image(
    image: Image,
    offset: u64,
    out: &mpsc::Sender<Result<ImageChunk, Status>>,
) -> Result<(), std::io::Error> {
    const CHUNK: usize = 256 << 10;
    match image {
        Image::Bytes(all) => {
            for piece in all.get(offset as usize..).unwrap_or_default().chunks(CHUNK) {
                if out.send(Ok(ImageChunk { data: piece.to_vec() })).await.is_err() {
                    break;
                }
            }
        }
        Image::File(path) => {
            let mut file = tokio::fs::File::open(path).await?;
            file.seek(std::io::SeekFrom::Start(offset)).await?;
            loop {
                let mut data = Vec::with_capacity(CHUNK);
                if (&mut file).take(CHUNK as u64).read_to_end(&mut data).await? == 0
                    || out.send(Ok(ImageChunk { data })).await.is_err()
                {
                    break;
                }
            }
        }
    }
    Ok(())
}

struct GlobalEnd {
    site: SiteName,
    global: Arc<dyn Global>,
    out: session::Out,
    /// Of the connection: a newer one has another.
    number: u64,
}

#[async_trait]
impl session::End for GlobalEnd {
    async fn message(&self, body: &[u8]) -> Result<(), LinkError> {
        match serde_json::from_slice::<Up>(body) {
            Ok(up) => self.global.message(self.site.site_id, up).await.map_err(LinkError::Handler),
            Err(error) => {
                // A newer site may know words that we do not: one of them must not stop all others.
                tracing::error!(site = self.site.site_id, %error, "a message of a site is not understood and was left out");
                Ok(())
            }
        }
    }

    async fn greeted(&self, hello: &[u8], is_new: bool) -> Result<(), LinkError> {
        let hello: Hello = serde_json::from_slice(hello).map_err(|e| LinkError::Protocol(e.to_string()))?;
        self.global.connected(&self.site, &hello, is_new).await.map_err(LinkError::Handler)?;
        self.global.tunnels().attached(self.site.site_id, self.number, self.out.clone());
        Ok(())
    }

    async fn snapshot(&self, generation: i64) -> Result<Option<Vec<u8>>, LinkError> {
        let found = self.global.snapshot(self.site.site_id, generation).await.map_err(LinkError::Handler)?;
        found.map(|down| serde_json::to_vec(&down).map_err(|e| LinkError::Protocol(e.to_string()))).transpose()
    }

    async fn held(&self) -> Option<i64> {
        None
    }

    async fn open(&self, _wanted: Open) {
        tracing::warn!(
            site = self.site.site_id,
            "a site wants a tunnel; tunnels are the Global Controller's to ask for"
        );
    }
}
