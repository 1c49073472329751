//! Pure FlashArray: `/api/2.x/...`. The API token in the header of a login buys a session token. Objects are named in the query; removal
//! has two steps, and what is destroyed keeps its name until it is eradicated.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use hyper::{StatusCode, header::HeaderName};
use serde_json::{Value, json};

use super::{
    Rest, parameters,
    tables::{Tables, has, merge, number, text, unknown, word},
};
use crate::{
    httpd::{Incomer, Reply},
    lock,
};

type Answer = Result<Vec<Value>, (Option<String>, String)>;

/// Error body.
pub fn error(context: Option<&str>, message: &str) -> Value {
    let mut error = json!({"message": message});
    if let Some(context) = context {
        error["context"] = json!(context);
    }
    json!({"errors": [error]})
}

/// An array with two controllers and four iSCSI ports.
pub fn factory(serial: &str, address: Ipv4Addr) -> Tables {
    let mut t = Tables::default();
    t.add(
        "arrays",
        json!({
            "name": "yard-pure", "id": serial, "os": "Purity//FA", "version": "6.4.10", "capacity": 40u64 << 40,
            "space": {"total_physical": 2u64 << 40},
        }),
    );
    for controller in ["CT0", "CT1"] {
        t.add("controllers", json!({"name": controller, "model": "FA-X20R3", "status": "ready"}));
        for port in ["ETH4", "ETH5"] {
            t.add(
                "ports",
                json!({
                    "name": format!("{controller}.{port}"), "portal": format!("{address}:3260"),
                    "iqn": format!("iqn.2010-06.com.purestorage:flasharray.{}", serial.to_lowercase()),
                }),
            );
        }
        t.add(
            "ports",
            json!({
                "name": format!("{controller}.ETH6"), "portal": format!("{address}:4420"),
                "nqn": format!("nqn.2010-06.com.purestorage:flasharray.{}", serial.to_lowercase()),
            }),
        );
    }
    t
}

/// Who may use which volume.
pub fn access(t: &Tables) -> BTreeMap<String, BTreeSet<String>> {
    let mut out = BTreeMap::new();
    for volume in t.all("volumes").iter().filter(|v| v["destroyed"] == json!(false)) {
        let name = text(volume, "name");
        let mut who = BTreeSet::new();
        for connection in t.all("connections").iter().filter(|c| has(c, "volume.name", &name)) {
            if let Some(host) = t.find("hosts", "name", &text(connection, "host.name")) {
                who.extend(["iqns", "nqns"].iter().flat_map(|k| host[*k].as_array().into_iter().flatten()).map(word));
            }
        }
        out.insert(name, who);
    }
    out
}

/// Answers a request.
pub fn handle(rest: &Rest, request: &Incomer) -> Reply {
    let not_found = || Reply::json(StatusCode::NOT_FOUND, &error(None, "Not found."));
    if request.path == "/api/api_version" {
        return Reply::json(StatusCode::OK, &json!({"version": ["1.19", "2.2", "2.4", "2.26"]}));
    }
    let Some((version, path)) = request.path.strip_prefix("/api/").and_then(|p| p.split_once('/')) else {
        return not_found();
    };
    if !["2.2", "2.4", "2.26"].contains(&version) {
        return not_found();
    }
    if path == "login" {
        if request.header("api-token") != Some(rest.world.config.array_password.0.as_str()) {
            return Reply::json(StatusCode::BAD_REQUEST, &error(None, "Invalid credentials."));
        }
        let session = format!("yard-token-{}", lock(&rest.array.state).next_number());
        lock(&rest.array.sessions).insert(session.clone());
        return Reply::json(StatusCode::OK, &json!({"items": [{"username": rest.world.config.array_user}]}))
            .with(HeaderName::from_static("x-auth-token"), session);
    }
    if !request.header("x-auth-token").is_some_and(|s| lock(&rest.array.sessions).contains(s)) {
        return Reply::json(StatusCode::UNAUTHORIZED, &error(None, "Unauthorized. Please log in."));
    }
    let Ok(body) = request.json() else { return Reply::json(StatusCode::BAD_REQUEST, &error(None, "Invalid JSON.")) };
    let query = parameters(request);
    match answer(&mut lock(&rest.array.state), request.method.as_str(), path, &query, &body) {
        Ok(items) => Reply::json(
            StatusCode::OK,
            &json!({"items": items, "total_item_count": items.len(), "more_items_remaining": false}),
        ),
        Err((context, message)) => Reply::json(StatusCode::BAD_REQUEST, &error(context.as_deref(), &message)),
    }
}

fn only(body: &Value, known: &[&str]) -> Result<(), (Option<String>, String)> {
    match unknown(body, known) {
        Some(name) => Err((Some(name.clone()), "Invalid parameter.".into())),
        None => Ok(()),
    }
}

fn no(context: &str, message: &str) -> (Option<String>, String) {
    (Some(context.to_owned()), message.to_owned())
}

fn legal(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && name.contains(|c: char| c.is_ascii_alphabetic())
}

fn answer(t: &mut Tables, method: &str, path: &str, query: &BTreeMap<String, String>, body: &Value) -> Answer {
    let q = |name: &str| query.get(name).cloned().unwrap_or_default();
    match (method, path) {
        ("GET", "arrays" | "controllers" | "ports" | "volumes" | "hosts" | "volume-snapshots") => list(t, path, query),
        ("GET", "connections") => {
            for (parameter, table) in [("volume_names", "volumes"), ("host_names", "hosts")] {
                if let Some(name) = query.get(parameter)
                    && t.find(table, "name", name).is_none()
                {
                    return Err(no(name, "Does not exist."));
                }
            }
            let fits = |c: &&Value| {
                query.get("volume_names").is_none_or(|n| has(c, "volume.name", n))
                    && query.get("host_names").is_none_or(|n| has(c, "host.name", n))
            };
            Ok(t.all("connections").iter().filter(fits).cloned().collect())
        }
        ("POST", "volumes") => volume_post(t, &q("names"), query.get("overwrite").is_some_and(|o| o == "true"), body),
        ("PATCH", "volumes" | "volume-snapshots") => patch(t, path, &q("names"), query, body),
        ("DELETE", "volumes" | "volume-snapshots") => {
            let name = q("names");
            let found = t.find(path, "name", &name).ok_or_else(|| no(&name, "Volume does not exist."))?;
            if found["destroyed"] != json!(true) {
                return Err(no(&name, "Volume is not destroyed."));
            }
            t.remove(path, "name", &name);
            if path == "volumes" {
                t.remove("volume-snapshots", "source.name", &name);
            }
            Ok(vec![])
        }
        ("POST", "hosts") => {
            only(body, &["iqns", "nqns", "wwns", "personality", "chap"])?;
            let name = q("names");
            if !legal(&name) {
                return Err(no(&name, "Host name is not valid."));
            }
            if t.find("hosts", "name", &name).is_some() {
                return Err(no(&name, "Host already exists."));
            }
            ports(t, &name, body)?;
            let mut host = json!({"name": name, "iqns": [], "nqns": [], "wwns": []});
            merge(&mut host, body);
            t.add("hosts", host.clone());
            Ok(vec![host])
        }
        ("PATCH", "hosts") => {
            only(body, &["iqns", "nqns", "wwns", "chap", "add_iqns", "remove_iqns"])?;
            let name = q("names");
            ports(t, &name, body)?;
            let host = t.find_mut("hosts", "name", &name).ok_or_else(|| no(&name, "Host does not exist."))?;
            if let Some(chap) = body.get("chap") {
                if !(12..=255).contains(&text(chap, "host_password").len()) {
                    return Err(no(&name, "CHAP password must be between 12 and 255 characters."));
                }
                host["chap"] = json!({"host_user": chap["host_user"], "host_password": "****"});
            }
            for field in ["iqns", "nqns"] {
                if let Some(list) = body.get(field) {
                    host[field] = list.clone();
                }
            }
            Ok(vec![host.clone()])
        }
        ("DELETE", "hosts") => {
            let name = q("names");
            t.find("hosts", "name", &name).ok_or_else(|| no(&name, "Host does not exist."))?;
            if t.find("connections", "host.name", &name).is_some() {
                return Err(no(&name, "Could not delete host: it is connected to volumes."));
            }
            t.remove("hosts", "name", &name);
            Ok(vec![])
        }
        ("POST", "connections") => {
            only(body, &["lun"])?;
            let (host, volume) = (q("host_names"), q("volume_names"));
            t.find("hosts", "name", &host).ok_or_else(|| no(&host, "Host does not exist."))?;
            t.find("volumes", "name", &volume)
                .filter(|v| v["destroyed"] == json!(false))
                .ok_or_else(|| no(&volume, "Volume does not exist."))?;
            if t.all("connections").iter().any(|c| has(c, "host.name", &host) && has(c, "volume.name", &volume)) {
                return Err(no(&volume, "Connection already exists."));
            }
            let taken: Vec<u64> = t
                .all("connections")
                .iter()
                .filter(|c| has(c, "host.name", &host))
                .filter_map(|c| number(c, "lun"))
                .collect();
            let lun = (1..=16_383).find(|n| !taken.contains(n)).unwrap_or(1);
            let connection = json!({"host": {"name": host}, "volume": {"name": volume}, "lun": lun});
            t.add("connections", connection.clone());
            Ok(vec![connection])
        }
        ("DELETE", "connections") => {
            let (host, volume) = (q("host_names"), q("volume_names"));
            let before = t.all("connections").len();
            t.all_mut("connections").retain(|c| !(has(c, "host.name", &host) && has(c, "volume.name", &volume)));
            if t.all("connections").len() == before {
                Err(no(&volume, "Connection does not exist."))
            } else {
                Ok(vec![])
            }
        }
        ("POST", "volume-snapshots") => {
            only(body, &["suffix"])?;
            let (source, suffix) = (q("source_names"), text(body, "suffix"));
            let volume = t.find("volumes", "name", &source).filter(|v| v["destroyed"] == json!(false)).cloned();
            let volume = volume.ok_or_else(|| no(&source, "Volume does not exist."))?;
            let name = format!("{source}.{suffix}");
            if !legal(&suffix) {
                return Err(no(&name, "Snapshot suffix is not valid."));
            }
            if t.find("volume-snapshots", "name", &name).is_some() {
                return Err(no(&name, "Snapshot already exists."));
            }
            let made = json!({
                "name": name, "suffix": suffix, "source": {"name": source}, "provisioned": volume["provisioned"], "destroyed": false,
                "created": 1_772_366_400_000u64,
            });
            t.add("volume-snapshots", made.clone());
            Ok(vec![made])
        }
        _ => Err((None, "Unknown resource or method.".into())),
    }
}

/// An initiator belongs to one host.
fn ports(t: &Tables, host: &str, body: &Value) -> Result<(), (Option<String>, String)> {
    for field in ["iqns", "nqns"] {
        for port in body.get(field).and_then(Value::as_array).into_iter().flatten() {
            let port = word(port);
            let other = t.all("hosts").iter().filter(|h| !has(h, "name", host));
            if other.flat_map(|h| h[field].as_array().into_iter().flatten()).any(|p| word(p) == port) {
                return Err(no(&port, "The specified port is already in use."));
            }
            if !port.starts_with(&field[..3]) {
                return Err(no(&port, "The specified port is not valid."));
            }
        }
    }
    Ok(())
}

fn volume_post(t: &mut Tables, name: &str, overwrite: bool, body: &Value) -> Answer {
    only(body, &["provisioned", "source", "qos"])?;
    if !legal(name) {
        return Err(no(name, "Volume name is not valid."));
    }
    let size = match body.get("source") {
        Some(source) => {
            let from = text(source, "name");
            let found = t.find("volumes", "name", &from).or_else(|| t.find("volume-snapshots", "name", &from));
            found
                .filter(|f| f["destroyed"] == json!(false))
                .map(|f| f["provisioned"].clone())
                .ok_or_else(|| no(&from, "Source does not exist."))?
        }
        None => {
            let size = number(body, "provisioned").filter(|s| *s >= 1 << 20 && s.is_multiple_of(512));
            json!(size.ok_or_else(|| no(name, "Size must be a multiple of 512 between 1M and 4P."))?)
        }
    };
    if let Some(old) = t.find_mut("volumes", "name", name) {
        if old["destroyed"] == json!(true) {
            return Err(no(name, "Volume is destroyed; recover or eradicate it."));
        }
        if !overwrite || body.get("source").is_none() {
            return Err(no(name, "Volume already exists."));
        }
        old["provisioned"] = size;
        old["restored"] = body["source"]["name"].clone();
        return Ok(vec![old.clone()]);
    }
    let serial = format!("{:024X}", 0x00C0_FFEE_0000_0000u128 + u128::from(t.next_number()));
    let volume = json!({
        "name": name, "provisioned": size, "destroyed": false, "serial": serial, "space": {"total_physical": 0}, "qos": body.get("qos").cloned().unwrap_or(json!({})),
    });
    t.add("volumes", volume.clone());
    Ok(vec![volume])
}

fn patch(t: &mut Tables, table: &str, name: &str, query: &BTreeMap<String, String>, body: &Value) -> Answer {
    only(body, &["destroyed", "provisioned", "qos", "name"])?;
    let connected = table == "volumes" && t.find("connections", "volume.name", name).is_some();
    let record = t.find_mut(table, "name", name).ok_or_else(|| no(name, "Volume does not exist."))?;
    if body["destroyed"] == json!(true) {
        if record["destroyed"] == json!(true) {
            return Err(no(name, "Volume is already destroyed."));
        }
        if connected {
            return Err(no(name, "Volume is connected to a host."));
        }
    }
    if let Some(size) = number(body, "provisioned")
        && Some(size) < number(record, "provisioned")
        && query.get("truncate").is_none_or(|v| v != "true")
    {
        return Err(no(name, "Implicit truncation not permitted."));
    }
    merge(record, body);
    Ok(vec![record.clone()])
}

fn list(t: &Tables, table: &str, query: &BTreeMap<String, String>) -> Answer {
    if let Some(name) = query.get("names") {
        return t.find(table, "name", name).map(|r| vec![r.clone()]).ok_or_else(|| no(name, "Does not exist."));
    }
    let Some(filter) = query.get("filter") else { return Ok(t.all(table).to_vec()) };
    let Some((field, value)) = filter.split_once('=') else { return Err(no(filter, "Invalid filter.")) };
    let wanted =
        value.strip_prefix('\'').and_then(|v| v.strip_suffix('\'')).ok_or_else(|| no(filter, "Invalid filter."))?;
    Ok(t.all(table).iter().filter(|r| has(r, field, wanted)).cloned().collect())
}
