//! Tunnels: bytes both ways between the Global Controller and a site, for consoles.
//!
//! The site dials out only. So the Global Controller asks over the site's connection, and the site opens a stream of its own in the same
//! connection, naming the ticket that it was given. Nothing of it is kept: who asks waits, and a cut ends it at both ends at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use model::{
    Id,
    console::{CHUNK, Frame, OpenConsole},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming, transport::Channel};

use crate::{
    LinkError, SILENCE,
    session::Out,
    wire::{self, Open, Piece, frame, link_client::LinkClient, piece::Kind},
};

/// Tunnels of one site at one time.
pub const PER_SITE: usize = 64;
/// Time in which a site opens the tunnel that it was asked for.
const ANSWER: Duration = Duration::from_secs(15);
/// Frames under way in either direction: a slow reader slows the writer down.
const DEPTH: usize = 8;

/// One end of a tunnel. Who drops it ends it; the other end hears of that at once.
#[derive(Debug)]
pub struct Tunnel {
    /// To the other end.
    pub out: mpsc::Sender<Frame>,
    /// From the other end. Nothing more, without [`Frame::End`] before, means that the line broke.
    pub incoming: mpsc::Receiver<Frame>,
}

/// Why there is no tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoTunnel {
    /// The site is not connected.
    #[error("the site is not connected at the moment; its consoles can be reached again when it is")]
    Away,
    /// As many as there may be are open.
    #[error("{PER_SITE} consoles of this site are open, which is all that it has; close one that nobody needs")]
    Full,
    /// The site did not answer.
    #[error("the site did not answer within {} s; try again", ANSWER.as_secs())]
    Silent,
}

#[derive(Default)]
struct Inner {
    connections: u64,
    sites: HashMap<Id, (u64, Out)>,
    waiting: HashMap<String, (Id, oneshot::Sender<Tunnel>)>,
    open: HashMap<Id, usize>,
}

/// All tunnels of the Global Controller. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tunnels(Arc<Mutex<Inner>>);

/// A place among a site's tunnels, given back when it is dropped.
struct Place(Tunnels, Id);

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.0.locked();
        if let Some(count) = inner.open.get_mut(&self.1) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                inner.open.remove(&self.1);
            }
        }
    }
}

/// A ticket that nobody waits for any more is forgotten.
struct Waiting(Tunnels, String);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.locked().waiting.remove(&self.1);
    }
}

impl Tunnels {
    fn locked(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn next(&self) -> u64 {
        let mut inner = self.locked();
        inner.connections += 1;
        inner.connections
    }

    pub(crate) fn attached(&self, site_id: Id, number: u64, out: Out) {
        self.locked().sites.insert(site_id, (number, out));
    }

    pub(crate) fn detached(&self, site_id: Id, number: u64) {
        let mut inner = self.locked();
        if inner.sites.get(&site_id).is_some_and(|(n, _)| *n == number) {
            inner.sites.remove(&site_id);
        }
    }

    /// Whether a site can be asked now.
    pub fn is_connected(&self, site_id: Id) -> bool {
        self.locked().sites.contains_key(&site_id)
    }

    /// Tunnels of a site that are open.
    pub fn count(&self, site_id: Id) -> usize {
        self.locked().open.get(&site_id).copied().unwrap_or(0)
    }

    /// Asks a site for a tunnel. It is there before the site has looked for what it leads to.
    pub async fn open(&self, site_id: Id, request: &OpenConsole) -> Result<Tunnel, NoTunnel> {
        let ticket = crypto::token::random();
        let (joined, wait) = oneshot::channel();
        let (out, place) = {
            let mut inner = self.locked();
            let (_, out) = inner.sites.get(&site_id).cloned().ok_or(NoTunnel::Away)?;
            let count = inner.open.entry(site_id).or_default();
            if *count >= PER_SITE {
                return Err(NoTunnel::Full);
            }
            *count += 1;
            inner.waiting.insert(ticket.clone(), (site_id, joined));
            (out, Place(self.clone(), site_id))
        };
        let _waiting = Waiting(self.clone(), ticket.clone());
        let request = serde_json::to_vec(request).map_err(|_| NoTunnel::Silent)?;
        let asked = wire::Frame { kind: Some(frame::Kind::Open(Open { ticket, request })) };
        let answered = async {
            out.send(asked).await.map_err(|_| NoTunnel::Away)?;
            wait.await.map_err(|_| NoTunnel::Away)
        };
        let mut tunnel = timeout(ANSWER, answered).await.map_err(|_| NoTunnel::Silent)??;
        // The place is given back when the last frame was read or nobody reads.
        let (feed, incoming) = mpsc::channel(1);
        tokio::spawn(async move {
            let _place = place;
            loop {
                let frame = tokio::select! {
                    frame = tunnel.incoming.recv() => frame,
                    () = feed.closed() => return,
                };
                let Some(frame) = frame else { return };
                if feed.send(frame).await.is_err() {
                    return;
                }
            }
        });
        Ok(Tunnel { out: tunnel.out, incoming })
    }
}

fn to_piece(frame: Frame) -> Piece {
    let kind = match frame {
        Frame::Data(bytes) => Kind::Data(bytes),
        Frame::Control(control) => Kind::Control(serde_json::to_vec(&control).unwrap_or_default()),
        Frame::End(why) => Kind::End(why),
    };
    Piece { kind: Some(kind) }
}

/// What a piece says; `None` for one that is not understood, as a newer end may send.
fn from_piece(piece: Piece) -> Option<Frame> {
    match piece.kind? {
        Kind::Join(_) => None,
        Kind::Data(bytes) if bytes.len() > CHUNK => None,
        Kind::Data(bytes) => Some(Frame::Data(bytes)),
        Kind::Control(body) => serde_json::from_slice(&body).ok().map(Frame::Control),
        Kind::End(why) => Some(Frame::End(why)),
    }
}

/// Passes on what comes, until either end has enough.
fn pump(mut pieces: Streaming<Piece>, stop: CancellationToken) -> mpsc::Receiver<Frame> {
    let (feed, incoming) = mpsc::channel(DEPTH);
    tokio::spawn(async move {
        let passed = async {
            loop {
                let piece = tokio::select! {
                    piece = pieces.message() => piece,
                    () = feed.closed() => return,
                };
                let Ok(Some(piece)) = piece else { return };
                let Some(frame) = from_piece(piece) else { continue };
                let last = matches!(frame, Frame::End(_));
                if feed.send(frame).await.is_err() || last {
                    return;
                }
            }
        };
        tokio::select! { () = passed => {}, () = stop.cancelled() => return }
        drop(feed);
        // A stream that nobody reads is reset, and with it goes what we still have to say: it is read to its end.
        let end = async { while let Ok(Some(_)) = pieces.message().await {} };
        tokio::select! { _ = timeout(SILENCE, end) => {}, () = stop.cancelled() => {} }
    });
    incoming
}

/// A site has opened a stream: it goes to whoever waits for its ticket.
pub(crate) async fn join(
    tunnels: &Tunnels,
    site_id: Id,
    mut pieces: Streaming<Piece>,
) -> Result<impl Stream<Item = Result<Piece, Status>> + Send + use<>, Status> {
    let first = timeout(SILENCE, pieces.message())
        .await
        .map_err(|_| Status::deadline_exceeded("a tunnel begins with its ticket"))??;
    let Some(Piece { kind: Some(Kind::Join(ticket)) }) = first else {
        return Err(Status::invalid_argument("a tunnel begins with its ticket"));
    };
    let waiting = {
        let mut inner = tunnels.locked();
        match inner.waiting.get(&ticket) {
            Some((of, _)) if *of == site_id => inner.waiting.remove(&ticket),
            _ => None,
        }
    };
    let (_, joined) = waiting.ok_or_else(|| Status::not_found("nobody waits for this tunnel (any more)"))?;
    let (out, frames) = mpsc::channel(DEPTH);
    joined
        .send(Tunnel { out, incoming: pump(pieces, CancellationToken::new()) })
        .map_err(|_| Status::not_found("nobody waits for this tunnel any more"))?;
    Ok(ReceiverStream::new(frames).map(|frame| Ok(to_piece(frame))))
}

/// The site's end: opens the stream of a ticket. It ends with `stop`.
pub(crate) async fn dial(
    mut client: LinkClient<Channel>,
    ticket: String,
    stop: CancellationToken,
) -> Result<Tunnel, LinkError> {
    let (out, frames) = mpsc::channel(DEPTH);
    let first = tokio_stream::once(Piece { kind: Some(Kind::Join(ticket)) });
    let pieces = timeout(ANSWER, client.tunnel(first.chain(ReceiverStream::new(frames).map(to_piece))))
        .await
        .map_err(|_| LinkError::Protocol("no answer to a tunnel".into()))?
        .map_err(|s| LinkError::Refused(s.message().to_owned()))?
        .into_inner();
    Ok(Tunnel { out, incoming: pump(pieces, stop) })
}
