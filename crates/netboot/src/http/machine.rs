//! TLS with machines that run the boot image. Both ends show a certificate: the machine knows the site's by its digest, which stands in the
//! boot script beside the token; the site binds the boot to the first certificate that comes with its token.

use std::{io, sync::Arc, time::Duration};

use axum::{Router, extract::Request, middleware::Next};
use axum_server::{Handle, tls::TlsInfo, tls_rustls::RustlsConfig};
use tokio_util::sync::CancellationToken;

/// SHA-256 in hex of the certificate that a machine has shown, whose key it has.
#[derive(Clone, Debug)]
pub struct Peer(pub Arc<str>);

async fn note_peer(mut request: Request, next: Next) -> axum::response::Response {
    let peer = request.extensions().get::<Arc<TlsInfo>>().and_then(|info| info.peer_certificates.first());
    if let Some(certificate) = peer {
        let peer = Peer(crypto::token::digest(certificate).into());
        request.extensions_mut().insert(peer);
    }
    next.run(request).await
}

/// Serve [`super::agent_router`] until shutdown, with this certificate; requests that run get 5 s to end.
pub async fn serve_agents(
    listener: std::net::TcpListener,
    identity: &crypto::Identity,
    router: Router,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let tls = crypto::tls::for_machines(identity).map_err(io::Error::other)?;
    listener.set_nonblocking(true)?;
    let handle = Handle::new();
    let stop = handle.clone();
    let waiting = tokio::spawn(async move {
        shutdown.cancelled().await;
        stop.graceful_shutdown(Some(Duration::from_secs(5)));
    });
    let served = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(Arc::new(tls)))?
        .handle(handle)
        .serve(router.layer(axum::middleware::from_fn(note_peer)).into_make_service())
        .await;
    waiting.abort();
    served
}
