//! One connection, the same at both ends: greets, sends what waits, deals with what comes.

use std::time::Duration;

use async_trait::async_trait;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use crate::{
    LARGEST, LinkError, PIECE, PULSE, Queue, SILENCE,
    wire::{Ack, Frame, Greeting, Held, Open, Part, frame::Kind},
};

/// What an end does with what it hears.
#[async_trait]
pub(crate) trait End: Send + Sync {
    /// A message, in order. An error closes the connection; the message comes again.
    async fn message(&self, body: &[u8]) -> Result<(), LinkError>;
    /// The other end's first words.
    async fn greeted(&self, hello: &[u8], is_new: bool) -> Result<(), LinkError>;
    /// The next unnumbered message for an other end that holds `generation`.
    async fn snapshot(&self, generation: i64) -> Result<Option<Vec<u8>>, LinkError>;
    /// Generation of the snapshot that this end holds, where it holds one.
    async fn held(&self) -> Option<i64>;
    /// The other end wants a tunnel.
    async fn open(&self, wanted: Open);
}

/// Frames under way to the other end.
pub(crate) type Out = mpsc::Sender<Frame>;

fn frame(kind: Kind) -> Frame {
    Frame { kind: Some(kind) }
}

async fn send(out: &Out, kind: Kind) -> Result<(), LinkError> {
    match timeout(SILENCE, out.send(frame(kind))).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(LinkError::Protocol("it takes nothing any more".into())),
    }
}

async fn send_message(out: &Out, sequence: i64, body: &[u8]) -> Result<(), LinkError> {
    let mut pieces = body.chunks(PIECE).peekable();
    if pieces.peek().is_none() {
        return send(out, Kind::Part(Part { sequence, last: true, body: Vec::new() })).await;
    }
    while let Some(piece) = pieces.next() {
        let last = pieces.peek().is_none();
        send(out, Kind::Part(Part { sequence, last, body: piece.to_vec() })).await?;
    }
    Ok(())
}

/// Runs one connection until it ends; an error says why it did.
pub(crate) async fn run<S>(
    queue: &Queue,
    peer: i64,
    end: &dyn End,
    hello: Vec<u8>,
    mut incoming: S,
    out: Out,
) -> Result<(), LinkError>
where
    S: Stream<Item = Result<Frame, Status>> + Unpin + Send,
{
    let state = queue.state(peer).await?;
    let greeting =
        Greeting { epoch: state.epoch.clone(), peer_epoch: state.peer_epoch.clone(), handled: state.handled, hello };
    send(&out, Kind::Greeting(greeting)).await?;
    let Some(Kind::Greeting(theirs)) = next(&mut incoming).await? else {
        return Err(LinkError::Protocol("it did not greet".into()));
    };
    let is_new = queue.meet(peer, &theirs.epoch).await?;
    end.greeted(&theirs.hello, is_new).await?;
    // What it says of another numbering than ours says nothing.
    let delivered = if theirs.peer_epoch == state.epoch { theirs.handled } else { 0 };
    queue.delivered(peer, delivered).await?;
    let generation = serde_json::from_slice::<model::link::Hello>(&theirs.hello).map_or(0, |h| h.snapshot_generation);
    let (held, holds) = tokio::sync::watch::channel(generation);
    tokio::select! {
        ended = speak(queue, peer, end, delivered, &out, holds) => ended,
        ended = listen(queue, peer, end, &mut incoming, &out, &held) => ended,
    }
}

async fn next<S>(incoming: &mut S) -> Result<Option<Kind>, LinkError>
where
    S: Stream<Item = Result<Frame, Status>> + Unpin + Send,
{
    match timeout(SILENCE, incoming.next()).await {
        Err(_) => Err(LinkError::Protocol(format!("nothing was heard for {} s", SILENCE.as_secs()))),
        Ok(None) => Ok(None),
        Ok(Some(Err(status))) => Err(LinkError::Refused(status.message().to_owned())),
        Ok(Some(Ok(frame))) => Ok(frame.kind),
    }
}

/// Sends what waits, in order, and a sign of life when there is nothing.
async fn speak(
    queue: &Queue,
    peer: i64,
    end: &dyn End,
    mut position: i64,
    out: &Out,
    mut holds: tokio::sync::watch::Receiver<i64>,
) -> Result<(), LinkError> {
    let mut wakes = queue.wakes(peer);
    let mut sent_for = None;
    loop {
        let _ = wakes.borrow_and_update();
        // Read before the snapshot and sent after it: orders rely on facts that were committed with them.
        let waiting = queue.after(peer, position).await?;
        let generation = *holds.borrow_and_update();
        if sent_for != Some(generation)
            && let Some(body) = end.snapshot(generation).await?
        {
            sent_for = Some(generation);
            send_message(out, 0, &body).await?;
        }
        // A snapshot travels until the site says that it holds it; only then comes what is next.
        if sent_for != Some(generation) && !waiting.is_empty() {
            for message in waiting {
                send_message(out, message.sequence, &message.body).await?;
                position = message.sequence;
            }
            continue;
        }
        tokio::select! {
            _ = wakes.changed() => {}
            _ = holds.changed() => {}
            () = tokio::time::sleep(PULSE) => {
                let generation = end.held().await.unwrap_or(0);
                send(out, Kind::Held(Held { generation })).await?;
            }
        }
    }
}

/// Deals with what comes.
async fn listen<S>(
    queue: &Queue,
    peer: i64,
    end: &dyn End,
    incoming: &mut S,
    out: &Out,
    held: &tokio::sync::watch::Sender<i64>,
) -> Result<(), LinkError>
where
    S: Stream<Item = Result<Frame, Status>> + Unpin + Send,
{
    let mut handled = queue.state(peer).await?.handled;
    let mut whole: Vec<u8> = Vec::new();
    while let Some(kind) = next(incoming).await? {
        match kind {
            Kind::Greeting(_) => return Err(LinkError::Protocol("it greeted twice".into())),
            Kind::Open(wanted) => end.open(wanted).await,
            Kind::Ack(ack) => queue.delivered(peer, ack.sequence).await?,
            Kind::Held(at) => {
                held.send_if_modified(|h| {
                    at.generation > *h && {
                        *h = at.generation;
                        true
                    }
                });
            }
            Kind::Part(part) => {
                if whole.len() + part.body.len() > LARGEST {
                    return Err(LinkError::Protocol(format!("a message is larger than {} MiB", LARGEST >> 20)));
                }
                whole.extend_from_slice(&part.body);
                if !part.last {
                    continue;
                }
                let body = std::mem::take(&mut whole);
                if part.sequence == 0 {
                    end.message(&body).await?;
                    if let Some(generation) = end.held().await {
                        send(out, Kind::Held(Held { generation })).await?;
                    }
                } else {
                    if part.sequence > handled {
                        end.message(&body).await?;
                        handled = part.sequence;
                        queue.handled(peer, handled).await?;
                    }
                    send(out, Kind::Ack(Ack { sequence: handled })).await?;
                }
            }
        }
    }
    Ok(())
}

/// A pause before the next try: doubled up to a minute, and jittered so that ten thousand sites do not come back at once.
pub(crate) fn pause(failures: u32) -> Duration {
    use rand::Rng;
    let longest = 500u64.saturating_mul(1 << failures.min(7)).min(60_000);
    Duration::from_millis(rand::rng().random_range(longest / 2..=longest))
}
