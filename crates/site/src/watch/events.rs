//! Where BMCs send their events: HTTPS, as most of them ask for. An event is checked for its word and for where it comes from, and
//! then it makes the site look: nothing in it is believed.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, Path, State},
    http::StatusCode,
    routing::post,
};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use bmc::EventTarget;
use crypto::{Identity, Sealer, hmac, token};
use model::{
    Id,
    health::{HardwareEvent, HealthState},
    snapshot::SiteServer,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{Site, SiteConfig};

/// Largest document that is read.
const DOCUMENT: usize = 256 << 10;
/// Longest wait for one.
const PATIENCE: Duration = Duration::from_secs(10);
/// Events of one document that are looked at.
const EVENTS: usize = 64;
/// Letters that are kept of a message.
const MESSAGE: usize = 300;

/// What BMCs are told of the way to us.
pub(crate) struct EventsPlace {
    base: String,
    key: Sealer,
    /// Events are taken from the BMC's own address alone.
    check_source: bool,
}

impl EventsPlace {
    /// The word of a server: whoever does not know the site's key cannot guess it, and it needs no keeping.
    fn word(&self, server_id: Id, what: &str) -> String {
        let text = format!("redfish events {what} {server_id}");
        let tag = hmac::sign(hmac::Hash::Sha256, self.key.to_hex().as_bytes(), &[text.as_bytes()]);
        hex::encode(&tag[..16])
    }

    /// Where the BMC of a server is to send its events.
    pub(crate) fn target(&self, server_id: Id) -> EventTarget {
        let ours = format!("{}/redfish-events/{server_id}/", self.base);
        EventTarget {
            destination: format!("{ours}{}", self.word(server_id, "place")),
            ours,
            context: self.word(server_id, "context"),
        }
    }
}

/// Opens the place; a port that is taken is no reason not to start, servers are looked at more often then.
pub(crate) fn open(config: &SiteConfig, sealer: &Sealer) -> Result<Option<(EventsPlace, std::net::TcpListener)>> {
    let Some(at) = config.bmc_events()? else { return Ok(None) };
    let listener = match std::net::TcpListener::bind(at) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%at, %error, "no events of BMCs: the port cannot be listened on; set site.bmc_events to a free one, or to \"off\"");
            return Ok(None);
        }
    };
    let at = listener.local_addr().context("the port for events of BMCs")?;
    let place = EventsPlace {
        base: format!("https://{}:{}", config.address()?, at.port()),
        key: sealer.clone(),
        check_source: config.check_event_source,
    };
    Ok(Some((place, listener)))
}

/// Serves it until shutdown.
pub(crate) async fn serve(
    site: Arc<Site>,
    listener: std::net::TcpListener,
    identity: Identity,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let tls = crypto::tls::for_devices(&identity).map_err(std::io::Error::other)?;
    listener.set_nonblocking(true)?;
    let handle = Handle::new();
    let stop = handle.clone();
    let waiting = tokio::spawn(async move {
        shutdown.cancelled().await;
        stop.graceful_shutdown(Some(Duration::from_secs(2)));
    });
    let router = Router::new().route("/redfish-events/{server}/{word}", post(take)).with_state(site);
    let served = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(Arc::new(tls)))?
        .handle(handle)
        .serve(router.into_make_service_with_connect_info::<SocketAddr>())
        .await;
    waiting.abort();
    served
}

async fn take(
    State(site): State<Arc<Site>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Path((server_id, word)): Path<(Id, String)>,
    body: Body,
) -> StatusCode {
    let Some(place) = &site.events else { return StatusCode::NOT_FOUND };
    // Before anything is read: who does not know the word learns nothing, not even which servers there are.
    if !token::equal(&word, &place.word(server_id, "place")) {
        tracing::debug!(%from, server_id, "an event with a wrong word");
        return StatusCode::NOT_FOUND;
    }
    let Some(server) = site.facts.server(server_id) else { return StatusCode::NOT_FOUND };
    if place.check_source && !comes_from(&server, from.ip()) {
        tracing::warn!(%from, server = server.name, "an event that does not come from its BMC's address is not taken; behind a network that translates addresses, set site.check_event_source to false");
        return StatusCode::FORBIDDEN;
    }
    let Ok(Ok(bytes)) = tokio::time::timeout(PATIENCE, to_bytes(body, DOCUMENT)).await else {
        return StatusCode::PAYLOAD_TOO_LARGE;
    };
    let Ok(document) = serde_json::from_slice::<Value>(&bytes) else { return StatusCode::BAD_REQUEST };
    // Some leave the context out; a wrong one is somebody else's.
    let context = document.get("Context").and_then(Value::as_str).filter(|c| !c.is_empty());
    if context.is_some_and(|c| !token::equal(c, &place.word(server_id, "context"))) {
        return StatusCode::FORBIDDEN;
    }
    site.watch.told(server_id, entries(&document));
    StatusCode::NO_CONTENT
}

/// Whether an address is that of the server's BMC; one that is known by its name alone is not checked.
fn comes_from(server: &SiteServer, from: IpAddr) -> bool {
    let Some(bmc) = &server.bmc else { return false };
    let (_, address) = bmc::Kind::of(&bmc.address);
    let parsed =
        address.parse::<SocketAddr>().map(|a| a.ip()).or_else(|_| address.trim_matches(['[', ']']).parse::<IpAddr>());
    parsed.map_or(true, |ip| ip.to_canonical() == from.to_canonical())
}

/// What a document says, shortened.
pub(super) fn entries(document: &Value) -> Vec<HardwareEvent> {
    let list = document.get("Events").and_then(Value::as_array).into_iter().flatten().take(EVENTS);
    list.map(|e| {
        let text = |field: &str| e.get(field).and_then(Value::as_str).filter(|t| !t.is_empty());
        let word = text("MessageSeverity").or_else(|| text("Severity")).unwrap_or_default();
        let plain = |t: &str, most: usize| -> String { t.chars().filter(|c| !c.is_control()).take(most).collect() };
        HardwareEvent {
            at: text("EventTimestamp").map(|t| plain(t, 40)),
            severity: match word {
                "OK" => HealthState::Ok,
                "Warning" => HealthState::Warning,
                "Critical" => HealthState::Critical,
                _ => HealthState::Unknown,
            },
            message: plain(text("Message").or_else(|| text("MessageId")).unwrap_or("an event without words"), MESSAGE),
            message_id: text("MessageId").map(|t| plain(t, 100)),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use model::bmc::BmcEndpoint;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_read_as_far_as_anybody_needs_it() {
        let long = "x".repeat(5000);
        let many: Vec<Value> =
            (0..500).map(|_| json!({"Severity": "Warning", "Message": format!("a\u{1b}[31m{long}")})).collect();
        let read = entries(&json!({"Events": many}));
        assert_eq!((read.len(), read[0].severity), (EVENTS, HealthState::Warning));
        assert!(read[0].message.len() <= MESSAGE && !read[0].message.contains('\u{1b}'));
        for odd in [json!(null), json!([]), json!({"Events": 7}), json!({"Events": [1, "a", null, {}]})] {
            let _ = entries(&odd);
        }
    }

    #[test]
    fn words_differ_by_server_and_site() {
        let place = |key: Sealer| EventsPlace { base: "https://192.0.2.1:8492".into(), key, check_source: true };
        let (a, b) = (place(Sealer::generate()), place(Sealer::generate()));
        assert_eq!(a.target(7), a.target(7));
        assert_ne!(a.target(7).destination, b.target(7).destination);
        assert_ne!(a.word(7, "place"), a.word(8, "place"));
        assert_ne!(a.word(7, "place"), a.word(7, "context"));
        assert!(a.target(7).destination.starts_with(&a.target(7).ours) && a.target(7).destination.len() < 120);
    }

    #[test]
    fn the_source_is_the_bmc() {
        let at = |address: &str| SiteServer {
            bmc: Some(BmcEndpoint {
                address: address.into(),
                username: "root".into(),
                password: model::secret::Sealed(String::new()),
                tls_fingerprint: None,
            }),
            ..SiteServer::default()
        };
        let from = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(
            comes_from(&at("10.0.0.7"), from("10.0.0.7")) && comes_from(&at("10.0.0.7:8443"), from("::ffff:10.0.0.7"))
        );
        assert!(
            !comes_from(&at("10.0.0.7"), from("10.0.0.8")) && !comes_from(&SiteServer::default(), from("10.0.0.7"))
        );
        assert!(
            comes_from(&at("[2001:db8::7]:443"), from("2001:db8::7"))
                && comes_from(&at("bmc-7.example"), from("10.0.0.9"))
        );
    }
}
