//! Admin API of the simulator itself: plain HTTP with JSON, for people, tests and registration.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use serde_json::{Value, json};

use crate::{
    bmc::events,
    dataplane,
    fault::{FaultRule, PRESETS},
    lock,
    server::{Server, boot, power},
    storage::Array,
    switch::Switch,
    topology::{Peer, Role, mac_text},
    world::{World, named},
};

type World_ = State<Arc<World>>;

fn error(status: StatusCode, text: impl Into<String>) -> Response {
    (status, Json(json!({"error": text.into()}))).into_response()
}

/// All routes.
pub fn router(world: Arc<World>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/inventory", get(inventory))
        .route("/servers", get(servers))
        .route("/servers/{name}", get(server))
        .route("/servers/{name}/{action}", post(server_action))
        .route("/switches", get(switches))
        .route("/switches/{name}", get(switch))
        .route("/arrays", get(arrays))
        .route("/reachable", get(reachable))
        .route("/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/faults/{id}", delete(remove_fault))
        .route("/events", get(recent))
        .route("/metrics", get(metrics))
        .with_state(world)
}

async fn index() -> Json<Value> {
    Json(json!({
        "GET /inventory": "registration list: servers with BMC credentials, switches with credentials and links",
        "GET /servers, /servers/NAME": "power, boot stage, disk, operating system, console",
        "POST /servers/NAME/ACTION": "power-on, power-off, restart, power-button, pull-cable?nic=N, plug-cable?nic=N, wipe-disk, fail?part=PART&health=warning|critical, heal?part=PART, lose-subscriptions, storm?count=N (parts: fan-1, psu-1, temp-0, cpu-1, dimm-1, disk-0, gpu-1: one that fails falls off the bus)",
        "GET /switches, /switches/NAME": "ports, configuration, revisions",
        "GET /arrays": "storage arrays: address, login, and who may use which volume or share",
        "GET /reachable?a=NAME&b=NAME": "whether two servers see each other, and why",
        "GET, POST, DELETE /faults": "fault rules; POST a rule or {\"preset\": NAME}",
        "GET /events?after=SEQ&limit=N": "recent events",
        "GET /metrics": "counters",
    }))
}

/// Address and port of a BMC.
fn bmc_port(world: &World, server: &Server) -> u16 {
    server.bmc_port.get().copied().unwrap_or(world.config.bmc_port)
}

fn api_port(world: &World, switch: &Switch) -> u16 {
    switch.api_port.get().copied().unwrap_or(world.config.nvue_port)
}

async fn inventory(State(world): World_) -> Json<Value> {
    let servers: Vec<Value> = world
        .servers
        .iter()
        .map(|server| {
            let spec = &server.spec;
            let account = server.with(|state| state.kept.bmc.accounts.first().cloned());
            let (user, password) = account.map(|account| (account.user, account.password.0)).unzip();
            let nics: Vec<Value> = spec
                .nics
                .iter()
                .enumerate()
                .map(|(n, nic)| {
                    json!({"name": spec.model.nic_names[n.min(1)], "mac": mac_text(&nic.mac), "speed_mbps": spec.model.nic_mbps,
                        "switch": world.switches[nic.switch].spec.hostname, "port": format!("swp{}", nic.port)})
                })
                .collect();
            json!({
                "serial": spec.serial, "name": spec.name, "rack": format!("rack{}", spec.rack), "uuid": spec.uuid.to_string(),
                "vendor": spec.model.vendor.manufacturer(), "model": spec.model.name, "boot_mode": spec.boot_mode,
                "bmc": {"address": spec.bmc.to_string(), "port": bmc_port(&world, server), "username": user, "password": password,
                    "mac": mac_text(&spec.bmc_mac)},
                "nics": nics,
            })
        })
        .collect();
    let switches: Vec<Value> = world
        .switches
        .iter()
        .map(|switch| {
            let spec = &switch.spec;
            let links: Vec<Value> = spec
                .peers
                .iter()
                .enumerate()
                .filter_map(|(port, peer)| match (*peer)? {
                    Peer::Server { server, nic } => {
                        let peer = &world.servers[server].spec;
                        Some(json!({"port": format!("swp{port}"), "peer": peer.serial, "peer_port": peer.model.nic_names[nic.min(1)], "kind": "server"}))
                    }
                    Peer::Switch { switch, port: far } => {
                        Some(json!({"port": format!("swp{port}"), "peer": world.switches[switch].spec.hostname, "peer_port": format!("swp{far}"), "kind": "switch"}))
                    }
                })
                .collect();
            json!({
                "hostname": spec.hostname, "serial": spec.serial, "mac": mac_text(&spec.mac),
                "role": if spec.role == Role::Leaf { "leaf" } else { "spine" }, "driver": "cumulus_linux",
                "address": spec.address.to_string(), "port": api_port(&world, switch),
                "username": world.config.switch_user, "password": world.config.switch_password.0,
                "relay": spec.relay.map(|relay| relay.to_string()), "ports": spec.ports, "links": links,
            })
        })
        .collect();
    let arrays: Vec<Value> = world.arrays.iter().map(|array| array_summary(&world, array)).collect();
    Json(json!({
        "provisioning_vlan": world.config.provisioning_vlan, "servers": servers, "switches": switches, "arrays": arrays,
    }))
}

fn summary(server: &Server) -> Value {
    server.with(|state| {
        json!({
            "serial": server.spec.serial, "name": server.spec.name, "model": server.spec.model.name,
            "power": if state.kept.on { "on" } else { "off" }, "stage": state.stage, "since": state.stage_since,
            "hostname": state.kept.os.as_ref().map(|os| os.hostname.clone()),
            "image": state.kept.disk.as_ref().map(|disk| disk.image.clone()),
        })
    })
}

async fn servers(State(world): World_) -> Json<Value> {
    Json(world.servers.iter().map(|server| summary(server)).collect())
}

async fn server(State(world): World_, Path(name): Path<String>) -> Response {
    let Some(server) = world.server(&name) else { return error(StatusCode::NOT_FOUND, format!("no server {name}")) };
    let spec = &server.spec;
    let ports: Vec<Value> = (0..spec.nics.len())
        .map(|n| {
            let nic = &spec.nics[n];
            json!({"name": spec.model.nic_names[n.min(1)], "mac": mac_text(&nic.mac), "switch": world.switches[nic.switch].spec.hostname,
                "port": format!("swp{}", nic.port), "link": dataplane::link_up(&world, server, n),
                "site": dataplane::site_reachable(&world, server, n, None)})
        })
        .collect();
    let mut view = summary(server);
    let more = server.with(|state| {
        json!({
            "uuid": spec.uuid.to_string(), "boot_mode": spec.boot_mode, "rack": spec.rack,
            "boot": state.kept.boot, "boot_order": state.kept.boot_order, "boot_options": boot::options(spec).iter().map(|o| json!({"reference": o.reference, "name": o.name})).collect::<Vec<_>>(),
            "disk": state.kept.disk, "os": state.kept.os, "boots": state.boots, "console": state.log,
            "bmc": {"address": spec.bmc.to_string(), "port": bmc_port(&world, server), "resets": state.kept.bmc.resets,
                "indicator": state.kept.bmc.indicator, "sessions": state.sessions.len(), "health": state.kept.bmc.health,
                "subscriptions": state.kept.bmc.subscriptions.iter().map(|s| s.destination.clone()).collect::<Vec<_>>()},
        })
    });
    if let (Value::Object(view), Value::Object(more)) = (&mut view, more) {
        view.extend(more);
        view.insert("nics".into(), json!(ports));
    }
    Json(view).into_response()
}

async fn server_action(
    State(world): World_,
    Path((name, action)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let Some(server) = world.server(&name) else { return error(StatusCode::NOT_FOUND, format!("no server {name}")) };
    match action.as_str() {
        "power-on" => {
            power::on(&world, server);
        }
        "power-off" => {
            power::off(&world, server, "power off (by hand)");
        }
        "restart" => power::restart(&world, server, "restart (by hand)"),
        "power-button" => {
            if !power::shutdown(&world, server, false) {
                power::on(&world, server);
            }
        }
        "fail" | "heal" => {
            let part = query.get("part").map(String::as_str).unwrap_or_default();
            let health = match (action.as_str(), query.get("health").map(String::as_str)) {
                ("heal", _) => "OK",
                (_, Some("warning")) => "Warning",
                (_, None | Some("critical")) => "Critical",
                (_, Some(other)) => {
                    return error(StatusCode::BAD_REQUEST, format!("no health {other}; give warning or critical"));
                }
            };
            if !events::part(&world, server, part, health) {
                return error(StatusCode::BAD_REQUEST, format!("this server has no part {part:?}; GET / lists them"));
            }
        }
        "lose-subscriptions" => server.with(|state| state.kept.bmc.subscriptions.clear()),
        "storm" => {
            let count: usize = query.get("count").and_then(|n| n.parse().ok()).unwrap_or(100);
            for n in 0..count.min(10_000) {
                let message = format!("Correctable memory errors were found ({n}).");
                events::tell(
                    &world,
                    server,
                    &events::Note {
                        kind: "Alert",
                        id: "Platform.1.0.MemoryErrors",
                        severity: "Warning",
                        message: &message,
                        origin: String::new(),
                    },
                );
            }
        }
        "wipe-disk" => server.with(|state| state.kept.disk = None),
        "pull-cable" | "plug-cable" => {
            let plugged = action == "plug-cable";
            let nic = query.get("nic").map(String::as_str).unwrap_or("all");
            let known = server.with(|state| {
                let mut known = false;
                for (n, cable) in state.kept.cables.iter_mut().enumerate() {
                    if nic == "all" || nic == n.to_string() {
                        *cable = plugged;
                        known = true;
                    }
                }
                known
            });
            if !known {
                return error(StatusCode::BAD_REQUEST, format!("no network port {nic}; give 0, 1 or all"));
            }
            world.events.push(&server.spec.serial, "link", format!("{action} {nic}"));
        }
        other => return error(StatusCode::NOT_FOUND, format!("no action {other}; GET / lists them")),
    }
    world.changed();
    Json(summary(server)).into_response()
}

fn switch_summary(world: &World, switch: &Switch) -> Value {
    let spec = &switch.spec;
    let ports: Vec<Value> = spec
        .peers
        .iter()
        .enumerate()
        .filter(|(_, peer)| peer.is_some())
        .map(|(number, _)| {
            let port = switch.port(number);
            json!({"port": format!("swp{number}"), "up": port.up, "untagged": port.untagged, "tagged": port.tagged})
        })
        .collect();
    let state = lock(&switch.state);
    json!({"hostname": spec.hostname, "address": spec.address.to_string(), "port": api_port(world, switch),
        "applied": state.applied_id, "revisions": state.revisions.len(), "ports": ports})
}

async fn arrays(State(world): World_) -> Json<Value> {
    let with_access = |array: &Arc<Array>| {
        let mut summary = array_summary(&world, array);
        summary["access"] = json!(array.access());
        summary
    };
    Json(world.arrays.iter().map(with_access).collect())
}

fn array_summary(world: &World, array: &Array) -> Value {
    json!({
        "name": array.name, "driver": array.kind, "serial": array.serial, "address": array.address.to_string(),
        "port": array.api_port.get(), "username": world.config.array_user, "password": world.config.array_password.0,
    })
}

async fn switches(State(world): World_) -> Json<Value> {
    Json(world.switches.iter().map(|switch| switch_summary(&world, switch)).collect())
}

async fn switch(State(world): World_, Path(name): Path<String>) -> Response {
    let Some(switch) = world.switch(&name) else { return error(StatusCode::NOT_FOUND, format!("no switch {name}")) };
    let mut view = switch_summary(&world, switch);
    let state = lock(&switch.state);
    if let Value::Object(view) = &mut view {
        view.insert("configuration".into(), state.applied.clone());
        view.insert("revision".into(), state.revisions.iter().map(|(id, r)| (id.clone(), r.show())).collect());
    }
    drop(state);
    Json(view).into_response()
}

async fn reachable(State(world): World_, Query(query): Query<HashMap<String, String>>) -> Response {
    let (Some(a), Some(b)) = (query.get("a"), query.get("b")) else {
        return error(StatusCode::BAD_REQUEST, "give a=SERIAL and b=SERIAL");
    };
    match (world.server(a), world.server(b)) {
        (Some(a), Some(b)) => Json(dataplane::reachable(&world, a, b)).into_response(),
        (None, _) => error(StatusCode::NOT_FOUND, format!("no server {a}")),
        (_, None) => error(StatusCode::NOT_FOUND, format!("no server {b}")),
    }
}

async fn faults(State(world): World_) -> Json<Value> {
    let presets: serde_json::Map<String, Value> =
        PRESETS.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
    Json(json!({"rules": world.faults.list(), "presets": presets}))
}

async fn add_fault(State(world): World_, Json(body): Json<Value>) -> Response {
    let rule = match body.get("preset").and_then(Value::as_str) {
        // A preset can be narrowed by a selector's id and by a count.
        Some(name) => match named(name) {
            Ok(mut rule) => {
                if let Some(id) = body.get("id").and_then(Value::as_str) {
                    rule.selector.id = Some(id.to_owned());
                }
                if let Some(count) = body.get("count").and_then(Value::as_u64) {
                    rule.count = Some(count);
                }
                rule
            }
            Err(unknown) => return error(StatusCode::BAD_REQUEST, unknown.to_string()),
        },
        None => match serde_json::from_value::<FaultRule>(body) {
            Ok(rule) => rule,
            Err(bad) => return error(StatusCode::BAD_REQUEST, format!("no fault rule: {bad}")),
        },
    };
    let id = world.faults.add(rule);
    world.events.push("yard", "fault", format!("rule {id} added"));
    (StatusCode::CREATED, Json(json!({"id": id}))).into_response()
}

async fn clear_faults(State(world): World_) -> Json<Value> {
    Json(json!({"removed": world.faults.remove(None)}))
}

async fn remove_fault(State(world): World_, Path(id): Path<u64>) -> Response {
    match world.faults.remove(Some(id)) {
        0 => error(StatusCode::NOT_FOUND, format!("no fault rule {id}")),
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn recent(State(world): World_, Query(query): Query<HashMap<String, String>>) -> Response {
    let number = |name: &str, default: u64| match query.get(name) {
        None => Ok(default),
        Some(text) => text.parse::<u64>().map_err(|_| format!("{name} must be a number")),
    };
    match (number("after", 0), number("limit", 200)) {
        (Ok(after), Ok(limit)) => Json(world.events.after(after, limit as usize)).into_response(),
        (Err(bad), _) | (_, Err(bad)) => error(StatusCode::BAD_REQUEST, bad),
    }
}

async fn metrics(State(world): World_) -> String {
    let mut text = String::new();
    for (name, value) in world.events.counters() {
        let _ = writeln!(text, "# TYPE yard_{name}_total counter\nyard_{name}_total {value}");
    }
    let on = world.servers.iter().filter(|server| server.with(|state| state.kept.on)).count();
    let _ = writeln!(text, "# TYPE yard_servers gauge\nyard_servers {}", world.servers.len());
    let _ = writeln!(text, "# TYPE yard_servers_on gauge\nyard_servers_on {on}");
    let told =
        world.servers.iter().filter(|server| server.with(|state| !state.kept.bmc.subscriptions.is_empty())).count();
    let _ = writeln!(text, "# TYPE yard_servers_subscribed gauge\nyard_servers_subscribed {told}");
    text
}
