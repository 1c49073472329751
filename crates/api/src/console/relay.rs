//! One viewer: the WebSocket on one side, the site on the other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use model::console::{CHUNK, ConsoleKind, Control, Frame};
use serde_json::{Value, json};
use store::event::{self, NewEvent};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{Grant, IDLE, Pipe, Session, Sites};
use crate::{App, kinds::server_console};

/// Time for the site and the BMC to open it.
const OPEN: Duration = Duration::from_mins(1);
/// A browser is asked for a sign of life this often, and is gone without one for thrice as long.
const PULSE: Duration = Duration::from_secs(20);
/// A browser that takes nothing for this long is gone.
const STUCK: Duration = Duration::from_secs(30);
/// Rights are looked at again this often, and a moment after anything was written.
const LOOK: (Duration, Duration) = (Duration::from_secs(15), Duration::from_millis(500));

/// Both directions, in numbers.
#[derive(Default)]
struct Counts {
    typed: AtomicU64,
    shown: AtomicU64,
    /// Milliseconds after the beginning at which something was typed last, and anything was heard.
    typed_at: AtomicU64,
    heard_at: AtomicU64,
}

/// Serves a viewer until either end has enough.
pub(crate) async fn serve(app: App, grant: Grant, sites: Arc<dyn Sites>, socket: WebSocket) {
    let (mut to, from) = socket.split();
    let session = match app.consoles().begin(&grant) {
        Ok(session) => session,
        Err(e) => return close(&mut to, &e.message).await,
    };
    // Given back however this ends.
    let place = Place(app.clone(), session.id);
    let why = run(&app, &session, sites, &mut to, from).await;
    drop(place);
    close(&mut to, &why).await;
}

struct Place(App, u64);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.consoles().end(self.1);
    }
}

async fn run(
    app: &App,
    session: &Session,
    sites: Arc<dyn Sites>,
    to: &mut SplitSink<WebSocket, Message>,
    mut from: SplitStream<WebSocket>,
) -> String {
    let grant = &session.grant;
    let opened = async {
        let mut pipe = sites.open(grant.site_id, &grant.wanted).await?;
        match pipe.incoming.recv().await {
            Some(Frame::Control(ready @ Control::Ready { .. })) => Ok((pipe, ready)),
            Some(Frame::End(why)) => Err(why),
            _ => Err("the site has closed the console before it was open; try again".to_owned()),
        }
    };
    let (pipe, ready) = tokio::select! {
        opened = timeout(OPEN, opened) => match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(why)) => return why,
            Err(_) => return format!("the site did not open the console within {} s; try again", OPEN.as_secs()),
        },
        () = gone(&mut from) => return String::new(),
        () = session.end.cancelled() => return "closed by an administrator".into(),
    };
    let mut ready = serde_json::to_value(&ready).unwrap_or_default();
    ready["kind"] = grant.wanted.kind.as_str().into();
    ready["readOnly"] = grant.wanted.read_only.into();
    ready["consoleId"] = session.id.into();
    let via = ready["via"].clone();
    if to.send(Message::Text(ready.to_string().into())).await.is_err() {
        return String::new();
    }
    note(app, session, "opened", "success", json!({"via": via})).await;
    let (counts, begun) = (Counts::default(), Instant::now());
    let Pipe { out, mut incoming } = pipe;
    let why = tokio::select! {
        why = down(&mut incoming, to, &counts) => why,
        why = up(&mut from, &out, grant, &counts, begun) => why,
        why = watch(app, grant, &counts, begun) => why,
        () = session.end.cancelled() => "closed by an administrator".into(),
    };
    let context = json!({
        "via": via, "openedTimestamp": session.since, "seconds": begun.elapsed().as_secs(), "reason": why,
        "bytesTyped": counts.typed.load(Ordering::Relaxed), "bytesShown": counts.shown.load(Ordering::Relaxed),
    });
    note(app, session, "closed", "info", context).await;
    why
}

/// Until the viewer has gone.
async fn gone(from: &mut SplitStream<WebSocket>) {
    while let Some(Ok(message)) = from.next().await {
        if matches!(message, Message::Close(_)) {
            return;
        }
    }
}

/// From the site to the viewer, with a sign of life when there is nothing.
async fn down(incoming: &mut mpsc::Receiver<Frame>, to: &mut SplitSink<WebSocket, Message>, counts: &Counts) -> String {
    loop {
        let message = match timeout(PULSE, incoming.recv()).await {
            Err(_) => Message::Ping(Vec::new().into()),
            Ok(None) => return "the connection to the site broke; open the console again when the site is back".into(),
            Ok(Some(Frame::End(why))) => return why,
            Ok(Some(Frame::Control(control))) => match serde_json::to_string(&control) {
                Ok(text) => Message::Text(text.into()),
                Err(_) => continue,
            },
            Ok(Some(Frame::Data(bytes))) => {
                counts.shown.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                Message::Binary(bytes.into())
            }
        };
        match timeout(STUCK, to.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return String::new(),
            Err(_) => return "the browser took nothing any more".into(),
        }
    }
}

/// From the viewer to the site.
async fn up(
    from: &mut SplitStream<WebSocket>,
    out: &mpsc::Sender<Frame>,
    grant: &Grant,
    counts: &Counts,
    begun: Instant,
) -> String {
    let wanted = &grant.wanted;
    let now = || begun.elapsed().as_millis() as u64;
    while let Some(Ok(message)) = from.next().await {
        counts.heard_at.store(now(), Ordering::Relaxed);
        let frame = match message {
            Message::Close(_) => break,
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Binary(bytes) => {
                // A screen is asked for its picture all the time; the site leaves out what such a viewer types.
                if wanted.read_only && wanted.kind == ConsoleKind::Serial {
                    continue;
                }
                if bytes.len() > CHUNK {
                    return format!("more than {} KiB at once were sent; send less", CHUNK >> 10);
                }
                counts.typed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                if !is_request(wanted.kind, &bytes) {
                    counts.typed_at.store(now(), Ordering::Relaxed);
                }
                Frame::Data(bytes.to_vec())
            }
            Message::Text(text) => match serde_json::from_str::<Control>(&text) {
                Ok(control @ (Control::Break | Control::Size { .. })) if !wanted.read_only => Frame::Control(control),
                _ => continue,
            },
        };
        if out.send(frame).await.is_err() {
            // The other direction says why.
            std::future::pending::<()>().await;
        }
    }
    String::new()
}

/// Whether a viewer of a screen asks for its picture, which nobody types: `FramebufferUpdateRequest`.
fn is_request(kind: ConsoleKind, bytes: &[u8]) -> bool {
    kind == ConsoleKind::Screen && bytes.first() == Some(&3)
}

/// Until the viewer may not look any more, types nothing, or is gone.
async fn watch(app: &App, grant: &Grant, counts: &Counts, begun: Instant) -> String {
    let mut written = app.written();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK.0) => {}
            _ = written.recv() => tokio::time::sleep(LOOK.1).await,
        }
        // One look for everything that was written meanwhile.
        while written.try_recv().is_ok() {}
        let quiet = |at: &AtomicU64| begun.elapsed().saturating_sub(Duration::from_millis(at.load(Ordering::Relaxed)));
        if quiet(&counts.heard_at) > PULSE * 3 + LOOK.0 && begun.elapsed() > PULSE * 4 {
            return "nothing was heard from the browser any more".into();
        }
        if quiet(&counts.typed_at) > IDLE {
            return format!("nothing was typed for {} minutes", IDLE.as_secs() / 60);
        }
        if let Err(why) = server_console::still(app, grant).await {
            return why;
        }
    }
}

/// Who, which server, from when to when; never what was typed or shown.
async fn note(app: &App, session: &Session, verb: &str, severity: &str, mut context: Value) {
    let grant = &session.grant;
    let kind = grant.wanted.kind.as_str();
    context["kind"] = kind.into();
    context["readOnly"] = grant.wanted.read_only.into();
    context["consoleId"] = session.id.into();
    context["serverInstanceId"] = json!(grant.wanted.instance_id);
    let title = format!("{} {verb} the {kind} console of {}", grant.user.1, grant.server_name);
    let new = NewEvent {
        kind: format!("server.console_{verb}"),
        severity: if verb == "opened" { "security" } else { severity }.into(),
        title,
        message: context["reason"].as_str().unwrap_or_default().to_owned(),
        object: Some(("server".into(), grant.wanted.server_id)),
        server_id: Some(grant.wanted.server_id),
        site_id: Some(grant.site_id),
        infrastructure_id: grant.infrastructure_id,
        account_id: grant.account_id,
        actor: Some(grant.user.clone()),
        context,
        ..NewEvent::default()
    };
    match event::append(&app.db().write, new).await {
        Ok(_) => app.wrote(),
        Err(error) => tracing::error!(%error, "a console is not on record"),
    }
}

/// Says why, for people and, as far as it goes, in the closing of the socket.
async fn close(to: &mut SplitSink<WebSocket, Message>, why: &str) {
    let said = async {
        if !why.is_empty() {
            to.send(Message::Text(json!({"type": "end", "reason": why}).to_string().into())).await?;
        }
        let mut reason: String = why.chars().take(100).collect();
        while reason.len() > 120 {
            reason.pop();
        }
        to.send(Message::Close(Some(CloseFrame { code: 1000, reason: reason.into() }))).await?;
        to.close().await
    };
    let _ = timeout(Duration::from_secs(5), said).await;
}
