//! Events of the BMC itself: subscriptions (EventService, in its older and its newer form), and listening where it sends nothing.

use std::{collections::VecDeque, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::{Redfish, link};
use crate::{BmcError, EventTarget, EventWay, Events, inventory::text};

const SERVICE: &str = "/redfish/v1/EventService";
/// Kinds of the older form that are of use to us.
const TYPES: &[&str] = &["StatusChange", "ResourceUpdated", "ResourceAdded", "ResourceRemoved", "Alert"];
/// Most subscriptions that are looked at.
const SUBSCRIPTIONS: usize = 64;
/// Largest event of a stream.
const EVENT: usize = 256 << 10;
/// A stream on which nothing came for this long, not even a sign of life, is taken for dead.
const SILENCE: Duration = Duration::from_mins(10);

/// What is asked for, the best first: BMCs differ in what they take, and say so with no more than a 400.
fn requests(service: &Value, types: Option<&'static [&'static str]>, to: &EventTarget) -> Vec<Value> {
    let words = |field: &str| -> Vec<&str> {
        service.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    };
    let plain = json!({"Destination": to.destination, "Context": to.context, "Protocol": "Redfish"});
    let with = |more: Value| {
        let mut body: Map<String, Value> = plain.as_object().cloned().unwrap_or_default();
        body.extend(more.as_object().cloned().unwrap_or_default());
        Value::Object(body)
    };
    let listed = words("EventTypesForSubscription");
    let offered: Vec<&str> = TYPES.iter().copied().filter(|t| listed.is_empty() || listed.contains(t)).collect();
    let offered = types.map_or(offered, <[_]>::to_vec);
    // Since version 1.3 a subscription says what it is by its format; one that names no registry gets all messages.
    let formats = words("EventFormatTypes");
    let newer = formats.contains(&"Event") || !words("RegistryPrefixes").is_empty();
    let mut all = Vec::new();
    if newer && types.is_none() {
        all.push(with(json!({"EventFormatType": "Event", "SubscriptionType": "RedfishEvent"})));
        all.push(with(json!({"EventFormatType": "Event"})));
    }
    if newer && !offered.is_empty() {
        all.push(with(json!({"EventFormatType": "Event", "EventTypes": offered})));
    }
    if !offered.is_empty() {
        all.push(with(json!({"EventTypes": offered})));
    }
    if offered != ["Alert"] {
        all.push(with(json!({"EventTypes": ["Alert"]})));
    }
    all.push(plain);
    all
}

fn destination(subscription: &Value) -> &str {
    subscription.get("Destination").and_then(Value::as_str).unwrap_or_default()
}

impl Redfish {
    /// The service, switched on, and the path of its subscriptions.
    async fn event_service(&self) -> Result<(Value, Option<String>), BmcError> {
        let mut service = self.get(SERVICE).await?;
        if !service.is_object() {
            return Err(self.unsupported("events"));
        }
        if service.get("ServiceEnabled").and_then(Value::as_bool) == Some(false) {
            let answer = self.patch(SERVICE, &json!({"ServiceEnabled": true}), &service).await?;
            self.finish(answer, &format!("PATCH {SERVICE}")).await?;
            service = self.get(SERVICE).await?;
        }
        let path = link(&service["Subscriptions"]).map(str::to_owned);
        Ok((service, path))
    }

    /// Where it lets others listen, if it does.
    fn stream_path(service: &Value) -> Option<String> {
        text(service, "ServerSentEventUri").filter(|p| p.starts_with('/'))
    }

    async fn post_subscription(&self, path: &str, service: &Value, to: &EventTarget) -> Result<String, BmcError> {
        let types = self.service().await?.quirks.event_types();
        let mut last = None;
        for body in requests(service, types, to) {
            match self.ask(&Method::POST, path, Some(&body), None).await {
                Ok(answer) => {
                    if let Some(path) = answer.location.clone().or_else(|| link(&answer.value).map(str::to_owned)) {
                        // What was made may take a task, and its location is then that of the task.
                        if answer.status != StatusCode::ACCEPTED {
                            return Ok(path);
                        }
                        self.finish(answer, &format!("POST {path}")).await?;
                    }
                    // Some tell no location: it is the one with our destination.
                    return self
                        .ours(path, &to.destination)
                        .await?
                        .into_iter()
                        .next()
                        .map(|(path, _)| path)
                        .ok_or_else(|| BmcError::NoEffect {
                            address: self.address(),
                            what: "a subscription to its events was to be made".into(),
                            found: "none".into(),
                            seconds: 0,
                        });
                }
                Err(e @ BmcError::Refused { status: 400 | 422, .. }) => last = Some(e),
                Err(e) => return Err(e),
            }
        }
        Err(last.unwrap_or_else(|| self.unsupported("event subscriptions")))
    }

    /// Subscriptions whose destination begins so, with their documents.
    async fn ours(&self, path: &str, begin: &str) -> Result<Vec<(String, Value)>, BmcError> {
        let all = self.collection(path, SUBSCRIPTIONS).await?;
        let ours = all.into_iter().filter(|s| destination(s).starts_with(begin));
        Ok(ours.filter_map(|s| Some((link(&s)?.to_owned(), s))).collect())
    }

    async fn delete_subscription(&self, path: &str) -> Result<(), BmcError> {
        match self.ask(&Method::DELETE, path, None, None).await {
            Ok(answer) => self.finish(answer, &format!("DELETE {path}")).await.map(|_| ()),
            // Somebody else was quicker.
            Err(BmcError::Unsupported { .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

#[async_trait]
impl Events for Redfish {
    async fn subscribe(&self, to: &EventTarget) -> Result<EventWay, BmcError> {
        let (service, path) = self.event_service().await?;
        let stream = Self::stream_path(&service);
        let Some(path) = path else {
            return stream.map(EventWay::Stream).ok_or_else(|| self.unsupported("event subscriptions"));
        };
        let mut kept = None;
        for (path, subscription) in self.ours(&path, &to.ours).await? {
            let good = destination(&subscription) == to.destination
                && text(&subscription, "Context").is_none_or(|c| c == to.context);
            if good && kept.is_none() {
                kept = Some(path);
            } else {
                self.delete_subscription(&path).await?;
            }
        }
        if let Some(path) = kept {
            return Ok(EventWay::Push(path));
        }
        match self.post_subscription(&path, &service, to).await {
            Ok(path) => Ok(EventWay::Push(path)),
            Err(BmcError::Unsupported { .. } | BmcError::Refused { status: 400 | 422, .. }) if stream.is_some() => {
                Ok(EventWay::Stream(stream.unwrap_or_default()))
            }
            Err(e) => Err(e),
        }
    }

    async fn subscribed(&self, path: &str, to: &EventTarget) -> Result<bool, BmcError> {
        let found = self.get(path).await?;
        // Some disable one to which they could not send for a while.
        let live = found.pointer("/Status/State").and_then(Value::as_str) != Some("Disabled");
        Ok(destination(&found) == to.destination && live)
    }

    async fn unsubscribe(&self, ours: &str) -> Result<(), BmcError> {
        let service = self.get(SERVICE).await?;
        let Some(path) = link(&service["Subscriptions"]).map(str::to_owned) else { return Ok(()) };
        for (path, _) in self.ours(&path, ours).await? {
            self.delete_subscription(&path).await?;
        }
        Ok(())
    }

    async fn listen(&self, path: &str) -> Result<BoxStream<'static, Result<Value, BmcError>>, BmcError> {
        // The client's own limit of time is for one answer; this one has no end.
        let request = self.signed(self.http.get(self.url(path)?)).await?;
        let request = request.header("Accept", "text/event-stream").timeout(Duration::from_hours(24));
        let answer = request.send().await.map_err(|e| self.unreachable(&e))?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            // The next try logs in anew.
            *self.login.lock().await = super::Login::Unknown;
        }
        if !answer.status().is_success() {
            return Err(self.refused(&Method::GET, path, answer.status(), &Value::Null));
        }
        let broken = BmcError::Unreachable { address: self.address(), cause: "the stream of events ended".into() };
        let state = (answer.bytes_stream().boxed(), Lines::default(), Some(broken));
        Ok(futures::stream::unfold(state, |(mut bytes, mut lines, mut broken)| async move {
            loop {
                if let Some(event) = lines.ready.pop_front() {
                    return Some((Ok(event), (bytes, lines, broken)));
                }
                match tokio::time::timeout(SILENCE, bytes.next()).await {
                    Ok(Some(Ok(part))) if lines.take(&part) => {}
                    _ => return broken.take().map(|e| (Err(e), (bytes, lines, broken))),
                }
            }
        })
        .boxed())
    }
}

/// Server-sent events out of bytes as they come.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
    data: Vec<u8>,
    ready: VecDeque<Value>,
}

impl Lines {
    /// `false` when an event is larger than anybody needs.
    fn take(&mut self, part: &[u8]) -> bool {
        for byte in part {
            if *byte != b'\n' {
                self.rest.push(*byte);
                if self.rest.len() + self.data.len() > EVENT {
                    return false;
                }
                continue;
            }
            let mut line = std::mem::take(&mut self.rest);
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            if line.is_empty() {
                let data = std::mem::take(&mut self.data);
                if let Ok(event) = serde_json::from_slice(&data) {
                    self.ready.push_back(event);
                }
            } else if let Some(data) = line.strip_prefix(b"data:") {
                self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
                self.data.push(b'\n');
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> EventTarget {
        EventTarget {
            destination: "https://10.0.0.1:8492/redfish-events/7/secret".into(),
            ours: "https://10.0.0.1:8492/redfish-events/7/".into(),
            context: "word".into(),
        }
    }

    #[test]
    fn old_and_new_services_are_asked_in_their_own_form() {
        let old = json!({"EventTypesForSubscription": ["StatusChange", "Alert"]});
        let all = requests(&old, None, &target());
        assert_eq!(all[0]["EventTypes"], json!(["StatusChange", "Alert"]));
        assert!(
            all.iter()
                .all(|b| b["Protocol"] == "Redfish" && b["Context"] == "word" && b.get("EventFormatType").is_none())
        );
        let new = json!({"EventFormatTypes": ["Event", "MetricReport"], "RegistryPrefixes": ["ResourceEvent"]});
        let all = requests(&new, None, &target());
        assert_eq!((&all[0]["EventFormatType"], all[0].get("EventTypes")), (&json!("Event"), None));
        let dell = requests(&new, Some(&["Alert"]), &target());
        assert_eq!((&dell[0]["EventTypes"], &dell[0]["EventFormatType"]), (&json!(["Alert"]), &json!("Event")));
        assert_eq!(all.last(), requests(&Value::Null, None, &target()).last(), "and the bare minimum at last");
    }

    #[test]
    fn a_stream_is_cut_into_events_wherever_the_network_cuts_it() {
        let whole =
            b": hello\r\nid: 1\r\ndata: {\"Events\":\r\ndata: []}\r\n\r\ndata: nonsense\n\ndata:{\"Id\":\"2\"}\n\n";
        for size in [1, 2, 7, whole.len()] {
            let mut lines = Lines::default();
            assert!(whole.chunks(size).all(|part| lines.take(part)));
            assert_eq!(lines.ready, [json!({"Events": []}), json!({"Id": "2"})], "{size}");
        }
        assert!(!Lines::default().take(&vec![b'x'; EVENT + 1]));
    }
}
