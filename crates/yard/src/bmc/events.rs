//! `/redfish/v1/EventService`: who is told of what happens, and the telling. The makers differ in what a subscription must say, as their
//! BMCs do: Dell takes one kind of event by name and HTTPS alone, HPE knows the older form, Supermicro tells no location, NVIDIA's knows
//! the newer form.

use std::{collections::VecDeque, net::IpAddr, sync::Arc, time::Duration};

use hyper::{Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Answer, Bmc, body, collection, error::Fault, healthy, ok, read_only};
use crate::{
    hardware::Vendor,
    httpd::{Incomer, Reply},
    server::{Server, State},
    world::World,
};

const SERVICE: &str = "/redfish/v1/EventService";
const SUBSCRIPTIONS: &str = "/redfish/v1/EventService/Subscriptions";
/// Most subscriptions of one BMC.
const MOST: usize = 8;
/// Events that wait for delivery, at most.
const WAITING: usize = 1000;
/// Events of one delivery.
const TOGETHER: usize = 10;
/// Tries of one delivery.
const TRIES: u32 = 3;
const KINDS: [&str; 5] = ["StatusChange", "ResourceUpdated", "ResourceAdded", "ResourceRemoved", "Alert"];

/// Somebody who is told.
#[derive(Clone, Serialize, Deserialize)]
pub struct Subscription {
    /// Number.
    pub id: u64,
    /// Where.
    pub destination: String,
    /// Their word.
    pub context: String,
    /// Kinds of event; empty: all.
    pub kinds: Vec<String>,
}

/// Something that happened.
pub struct Note<'a> {
    /// `StatusChange`, `Alert`, …
    pub kind: &'a str,
    /// Id in a message registry.
    pub id: &'a str,
    /// `OK`, `Warning` or `Critical`.
    pub severity: &'a str,
    /// Text.
    pub message: &'a str,
    /// Resource that it is about.
    pub origin: String,
}

/// Routes of the service.
pub fn route(bmc: &Bmc, request: &Incomer, rest: &[&str]) -> Answer {
    let vendor = bmc.server.spec.model.vendor;
    match (rest, &request.method) {
        (["Subscriptions"], &Method::POST) => return subscribe(bmc, request),
        (["Subscriptions", id], &Method::DELETE) => return unsubscribe(bmc, request, id),
        _ => read_only(request)?,
    }
    match rest {
        [] => {
            let mut service = json!({
                "@odata.id": SERVICE, "@odata.type": "#EventService.v1_9_0.EventService", "Id": "EventService",
                "Name": "Event Service", "ServiceEnabled": true, "Status": healthy(), "DeliveryRetryAttempts": TRIES,
                "DeliveryRetryIntervalSeconds": 1, "Subscriptions": {"@odata.id": SUBSCRIPTIONS}});
            if vendor != Vendor::Nvidia {
                service["EventTypesForSubscription"] = json!(KINDS);
            }
            if matches!(vendor, Vendor::Nvidia | Vendor::Dell) {
                service["EventFormatTypes"] = json!(["Event"]);
                service["RegistryPrefixes"] = json!(["Base", "ResourceEvent"]);
            }
            ok(&service)
        }
        ["Subscriptions"] => {
            let ids = bmc.server.with(|state| {
                let syslog = (1..=state.kept.bmc.syslog.len()).map(|n| n.to_string());
                syslog.chain(state.kept.bmc.subscriptions.iter().map(|s| s.id.to_string())).collect::<Vec<_>>()
            });
            collection(SUBSCRIPTIONS, "EventDestinationCollection", "Event Subscriptions", &ids)
        }
        ["Subscriptions", id] => {
            let (syslog, push) = bmc.server.with(|state| {
                let n = id.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
                let push = state.kept.bmc.subscriptions.iter().find(|s| s.id.to_string() == *id).cloned();
                (n.and_then(|n| state.kept.bmc.syslog.get(n).cloned()), push)
            });
            let mut view = json!({"@odata.id": format!("{SUBSCRIPTIONS}/{id}"), "@odata.type": "#EventDestination.v1_13_0.EventDestination",
                "Id": id, "Name": "Event Subscription", "Protocol": "SyslogUDP", "SubscriptionType": "Syslog", "Context": ""});
            match (push, syslog) {
                (Some(push), _) => {
                    view["Destination"] = push.destination.into();
                    view["Context"] = push.context.into();
                    view["Protocol"] = "Redfish".into();
                    view["SubscriptionType"] = "RedfishEvent".into();
                    view["EventFormatType"] = "Event".into();
                    if !push.kinds.is_empty() {
                        view["EventTypes"] = json!(push.kinds);
                    }
                    view["Status"] = healthy();
                }
                (None, Some(syslog)) => view["Destination"] = syslog.into(),
                (None, None) => return Err(Fault::missing(&request.path)),
            }
            ok(&view)
        }
        _ => Err(Fault::missing(&request.path)),
    }
}

fn subscribe(bmc: &Bmc, request: &Incomer) -> Answer {
    let body = body(request)?;
    let text = |name: &str| body.get(name).and_then(Value::as_str).ok_or_else(|| Fault::required(name));
    let (destination, protocol) = (text("Destination")?.to_owned(), text("Protocol")?);
    if protocol.starts_with("Syslog") && destination.starts_with("syslog://") {
        let n = bmc.change(|state| {
            state.kept.bmc.syslog.push(destination);
            state.kept.bmc.syslog.len()
        });
        return Ok(Reply::empty(StatusCode::CREATED).with(header::LOCATION, format!("{SUBSCRIPTIONS}/{n}")));
    }
    if protocol != "Redfish" {
        return Err(Fault::value("Protocol", protocol));
    }
    let vendor = bmc.server.spec.model.vendor;
    let kinds = kinds(vendor, &body)?;
    let secure = destination.starts_with("https://");
    if !secure && (matches!(vendor, Vendor::Dell | Vendor::Hpe) || !destination.starts_with("http://")) {
        return Err(Fault::value("Destination", &destination));
    }
    let context = body.get("Context").and_then(Value::as_str).unwrap_or_default().to_owned();
    let id = bmc.change(|state| {
        let kept = &mut state.kept.bmc;
        if kept.subscriptions.len() >= MOST {
            return None;
        }
        kept.next_subscription += 1;
        let id = 1000 + kept.next_subscription;
        kept.subscriptions.push(Subscription { id, destination, context, kinds });
        Some(id)
    });
    let Some(id) = id else {
        return Err(Fault::general(StatusCode::BAD_REQUEST, "The number of event subscriptions is at its limit."));
    };
    let reply = Reply::empty(StatusCode::CREATED);
    // That one has to be found by its destination.
    Ok(match vendor {
        Vendor::Supermicro => reply,
        _ => reply.with(header::LOCATION, format!("{SUBSCRIPTIONS}/{id}")),
    })
}

/// Kinds of event that a subscription asks for, in the form that this maker's BMC understands.
fn kinds(vendor: Vendor, body: &Map<String, Value>) -> Result<Vec<String>, Fault> {
    let newer = matches!(vendor, Vendor::Nvidia | Vendor::Dell);
    for name in body.keys() {
        match name.as_str() {
            "Destination" | "Protocol" | "Context" => {}
            "EventTypes" if vendor != Vendor::Nvidia => {}
            "EventFormatType" | "RegistryPrefixes" | "SubscriptionType" if newer => {}
            other => return Err(Fault::unknown(other)),
        }
    }
    let Some(list) = body.get("EventTypes") else {
        return if vendor == Vendor::Nvidia { Ok(Vec::new()) } else { Err(Fault::required("EventTypes")) };
    };
    let list = list.as_array().ok_or_else(|| Fault::kind("EventTypes"))?;
    let list: Vec<String> = list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    if let Some(wrong) = list.iter().find(|k| !KINDS.contains(&k.as_str())) {
        return Err(Fault::value("EventTypes", wrong));
    }
    if list.is_empty() || (vendor == Vendor::Dell && list != ["Alert"]) {
        return Err(Fault::value("EventTypes", &list.join(", ")));
    }
    Ok(list)
}

fn unsubscribe(bmc: &Bmc, request: &Incomer, id: &str) -> Answer {
    let gone = bmc.change(|state| {
        let kept = &mut state.kept.bmc;
        let before = kept.subscriptions.len();
        kept.subscriptions.retain(|s| s.id.to_string() != id);
        let n = id.parse::<usize>().ok().and_then(|n| n.checked_sub(1)).filter(|n| *n < kept.syslog.len());
        if let Some(n) = n {
            kept.syslog.remove(n);
        }
        n.is_some() || kept.subscriptions.len() < before
    });
    if gone { Ok(Reply::empty(StatusCode::NO_CONTENT)) } else { Err(Fault::missing(&request.path)) }
}

/// Health of a part, by its short name (`fan-3`, `psu-1`, `temp-0`, `cpu-1`, `dimm-2`, `disk-0`).
pub fn status(state: &State, part: &str) -> Value {
    let health = state.kept.bmc.health.get(part).map_or("OK", String::as_str);
    json!({"State": "Enabled", "Health": health})
}

/// The worst of all parts whose names begin so.
pub fn worst(state: &State, begin: &str) -> &'static str {
    let all =
        || state.kept.bmc.health.iter().filter(|(part, _)| part.starts_with(begin)).map(|(_, health)| health.as_str());
    if all().any(|h| h == "Critical") {
        "Critical"
    } else if all().any(|h| h == "Warning") {
        "Warning"
    } else {
        "OK"
    }
}

/// A part fails, or is well again (`OK`). `false` for a part that this server does not have.
pub fn part(world: &Arc<World>, server: &Arc<Server>, name: &str, health: &str) -> bool {
    let model = server.spec.model;
    let chassis = format!("/redfish/v1/Chassis/{}", model.vendor.chassis_id());
    let system = format!("/redfish/v1/Systems/{}", model.vendor.system_id());
    let Some((kind, n)) = name.split_once('-') else { return false };
    let Ok(n) = n.parse::<usize>() else { return false };
    let disks: usize = model.disks.iter().map(|d| d.count).sum();
    let (there, what, origin) = match kind {
        "fan" => ((1..=6).contains(&n), format!("Fan {n}"), format!("{chassis}/Thermal")),
        "psu" => ((1..=2).contains(&n), format!("Power supply {n}"), format!("{chassis}/Power")),
        "temp" => (n <= model.sockets, format!("Temperature {n}"), format!("{chassis}/Thermal")),
        "cpu" => ((1..=model.sockets).contains(&n), format!("CPU {n}"), format!("{system}/Processors/CPU.Socket.{n}")),
        "dimm" => ((1..=model.dimms).contains(&n), format!("DIMM {n}"), format!("{system}/Memory/DIMM.{n}")),
        "gpu" => (
            model.gpu.is_some_and(|g| (1..=g.count).contains(&n)),
            format!("GPU {n}"),
            format!("{system}/Processors/GPU.{n}"),
        ),
        "disk" => (n < disks, format!("Disk {n}"), format!("{system}/Storage/1/Drives/Disk.{n}")),
        _ => return false,
    };
    if !there {
        return false;
    }
    let message = match health {
        "OK" => format!("{what} is operating normally."),
        "Warning" => format!("{what} is degraded."),
        _ => format!("{what} has failed."),
    };
    server.with(|state| {
        if health == "OK" {
            state.kept.bmc.health.remove(name);
        } else {
            state.kept.bmc.health.insert(name.to_owned(), health.to_owned());
        }
        state.sel(health, message.clone());
    });
    world.changed();
    world.events.push(&server.spec.serial, "fault", message.clone());
    let id = if health == "OK" {
        "ResourceEvent.1.2.ResourceStatusChangedOK"
    } else {
        "ResourceEvent.1.2.ResourceErrorsDetected"
    };
    tell(world, server, &Note { kind: "Alert", id, severity: health, message: &message, origin });
    true
}

/// The power has changed.
pub fn power(world: &Arc<World>, server: &Arc<Server>, on: bool) {
    let vendor = server.spec.model.vendor;
    let (kind, id) = match (vendor, on) {
        // An iDRAC's words for it are alerts.
        (Vendor::Dell, true) => ("Alert", "IDRAC.2.8.SYS1000"),
        (Vendor::Dell, false) => ("Alert", "IDRAC.2.8.SYS1001"),
        (_, true) => ("StatusChange", "ResourceEvent.1.2.ResourcePoweredOn"),
        (_, false) => ("StatusChange", "ResourceEvent.1.2.ResourcePoweredOff"),
    };
    let message = if on { "System is turning on." } else { "System is turning off." };
    let origin = format!("/redfish/v1/Systems/{}", vendor.system_id());
    tell(world, server, &Note { kind, id, severity: "OK", message, origin });
}

/// Tells everybody who has subscribed to it.
pub fn tell(world: &Arc<World>, server: &Arc<Server>, note: &Note<'_>) {
    let begins = server.with(|state| {
        let wanted = |s: &Subscription| s.kinds.is_empty() || s.kinds.iter().any(|k| k == note.kind);
        if !state.kept.bmc.subscriptions.iter().any(wanted) || state.outbox.len() >= WAITING {
            return false;
        }
        state.event_number += 1;
        let event = json!({
            "MemberId": state.event_number.to_string(), "EventId": state.event_number.to_string(), "EventType": note.kind,
            "EventTimestamp": crate::events::now(), "Severity": note.severity, "MessageSeverity": note.severity,
            "Message": note.message, "MessageId": note.id, "MessageArgs": [], "OriginOfCondition": {"@odata.id": note.origin},
        });
        state.outbox.push_back(event);
        !std::mem::replace(&mut state.delivering, true)
    });
    if begins {
        let (world, server) = (world.clone(), server.clone());
        world.clone().tasks.spawn(async move {
            tokio::select! { () = world.shutdown.cancelled() => {}, () = deliver(&world, &server) => {} }
        });
    }
}

async fn deliver(world: &World, server: &Server) {
    // Sent from the BMC's own address: receivers may look at that.
    let client = reqwest::Client::builder()
        .no_proxy()
        .local_address(IpAddr::V4(server.spec.bmc))
        .tls_danger_accept_invalid_certs(true)
        .timeout(Duration::from_secs(5))
        .build();
    let Ok(client) = client.inspect_err(|error| tracing::error!(%error, "no HTTP client for events")) else {
        return server.with(|state| state.delivering = false);
    };
    loop {
        let (events, subscriptions) = server.with(|state| {
            let count = Ord::min(state.outbox.len(), TOGETHER);
            let events: VecDeque<Value> = state.outbox.drain(..count).collect();
            state.delivering = !events.is_empty();
            // A BMC that restarts sends nothing.
            (events, state.kept.bmc.subscriptions.clone())
        });
        if events.is_empty() {
            return;
        }
        for to in subscriptions {
            let kind = |e: &&Value| to.kinds.is_empty() || to.kinds.iter().any(|k| e["EventType"] == k.as_str());
            let wanted: Vec<&Value> = events.iter().filter(kind).collect();
            if wanted.is_empty() {
                continue;
            }
            let document = json!({"@odata.type": "#Event.v1_7_0.Event", "Id": wanted[0]["EventId"], "Name": "Event Array",
                "Context": to.context, "Events": wanted});
            for n in 1..=TRIES {
                world.events.count("redfish_events");
                let sent = client.post(&to.destination).json(&document).send().await;
                match sent {
                    Ok(answer) if answer.status().is_success() => break,
                    other => tracing::debug!(server = server.spec.serial, ?other, "an event was not taken"),
                }
                tokio::time::sleep(Duration::from_secs(u64::from(n))).await;
            }
        }
    }
}
