//! Dell PowerScale (OneFS): a session of cookies with a token against forged requests, `/platform/...` for quotas, exports and jobs,
//! `/namespace/...` for directories. An export that names no clients is open to everybody, as in OneFS.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use hyper::{
    Method, StatusCode,
    header::{self, HeaderName},
};
use serde_json::{Value, json};

use super::{
    Rest, parameters,
    tables::{Tables, at, has, merge, text, unknown, word},
};
use crate::{
    httpd::{Incomer, Reply},
    lock,
};

type Answer = Result<(StatusCode, Value), (StatusCode, &'static str, String)>;

/// How often a directory is still there after its removal was ordered.
const POLLS: u64 = 2;

/// Error body.
pub fn error(code: &str, message: &str) -> Value {
    json!({"errors": [{"code": code, "message": message}]})
}

/// A cluster.
pub fn factory(serial: &str, _: Ipv4Addr) -> Tables {
    let mut t = Tables::default();
    t.add("config", json!({
        "name": "yard-scale", "guid": format!("000c0ffee{serial}"), "local_serial": serial, "onefs_version": {"release": "v9.7.0.0", "build": "B_9_7_0_003"},
    }));
    t.add("directories", json!({"path": "/ifs"}));
    t
}

/// Who may mount which directory.
pub fn access(t: &Tables) -> BTreeMap<String, BTreeSet<String>> {
    let mut out: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for directory in t.all("directories").iter().filter(|d| t.find("quotas", "path", &text(d, "path")).is_some()) {
        out.insert(text(directory, "path"), BTreeSet::new());
    }
    for export in t.all("exports") {
        let mut who: BTreeSet<String> = export["clients"].as_array().into_iter().flatten().map(word).collect();
        if who.is_empty() {
            who.insert("everybody".into());
        }
        for path in export["paths"].as_array().into_iter().flatten() {
            out.insert(word(path), who.clone());
        }
    }
    out
}

/// Answers a request.
pub fn handle(rest: &Rest, request: &Incomer) -> Reply {
    let settings = &rest.world.config;
    let fail = |(status, code, message): (StatusCode, &str, String)| Reply::json(status, &error(code, &message));
    let Ok(body) = request.json() else { return fail((StatusCode::BAD_REQUEST, "AEC_BAD_REQUEST", "Bad JSON".into())) };
    if request.path == "/session/1/session" && request.method == Method::POST {
        let known =
            text(&body, "username") == settings.array_user && text(&body, "password") == settings.array_password.0;
        if !known || body["services"].as_array().is_none_or(Vec::is_empty) {
            return fail((StatusCode::UNAUTHORIZED, "AEC_UNAUTHORIZED", "Username or password is incorrect.".into()));
        }
        let session = format!("yardsession{}", lock(&rest.array.state).next_number());
        lock(&rest.array.sessions).insert(session.clone());
        return Reply::json(
            StatusCode::CREATED,
            &json!({"services": body["services"], "username": settings.array_user}),
        )
        .with(header::SET_COOKIE, format!("isisessid={session}; path=/; HttpOnly; Secure"))
        .with(header::SET_COOKIE, format!("isicsrf=csrf-{session}; path=/; Secure"));
    }
    let cookie = request.header("cookie").unwrap_or_default();
    let session = cookie
        .split(';')
        .find_map(|c| c.trim().strip_prefix("isisessid="))
        .filter(|s| lock(&rest.array.sessions).contains(*s));
    let Some(session) = session else {
        return fail((StatusCode::UNAUTHORIZED, "AEC_UNAUTHORIZED", "Authorization required.".into()));
    };
    let forged = request.header(HeaderName::from_static("x-csrf-token").as_str()) != Some(&format!("csrf-{session}"));
    if forged || request.header("referer").is_none() {
        return fail((StatusCode::FORBIDDEN, "AEC_FORBIDDEN", "CSRF check failed.".into()));
    }
    let query = parameters(request);
    let mut t = lock(&rest.array.state);
    let done = match request.path.strip_prefix("/namespace") {
        Some(path) => namespace(&mut t, &request.method, path, request),
        None => platform(&mut t, request.method.as_str(), &request.path, &query, &body),
    };
    match done {
        Ok((status, Value::Null)) => Reply::empty(status),
        Ok((status, body)) => Reply::json(status, &body),
        Err(refusal) => fail(refusal),
    }
}

fn namespace(t: &mut Tables, method: &Method, path: &str, request: &Incomer) -> Answer {
    let missing = || (StatusCode::NOT_FOUND, "AEC_NOT_FOUND", "Unable to open object.".to_owned());
    match *method {
        Method::GET => {
            let directory = t.find_mut("directories", "path", path).ok_or_else(missing)?;
            if let Some(left) = directory.get("removal").and_then(Value::as_u64) {
                if left == 0 {
                    t.remove("directories", "path", path);
                    return Err(missing());
                }
                directory["removal"] = json!(left - 1);
            }
            Ok((StatusCode::OK, json!({"attrs": [{"name": "type", "value": "container"}]})))
        }
        Method::PUT => {
            if request.header("x-isi-ifs-target-type") != Some("container") {
                return Err((StatusCode::BAD_REQUEST, "AEC_BAD_REQUEST", "The target type is missing.".into()));
            }
            if t.find("directories", "path", path).is_none() {
                t.add("directories", json!({"path": path}));
            }
            Ok((StatusCode::OK, Value::Null))
        }
        _ => Err((StatusCode::METHOD_NOT_ALLOWED, "AEC_METHOD_NOT_ALLOWED", "Not allowed.".into())),
    }
}

fn only(body: &Value, known: &[&str]) -> Result<(), (StatusCode, &'static str, String)> {
    match unknown(body, known) {
        Some(name) => Err((StatusCode::BAD_REQUEST, "AEC_BAD_REQUEST", format!("Unknown field '{name}'."))),
        None => Ok(()),
    }
}

fn platform(t: &mut Tables, method: &str, path: &str, query: &BTreeMap<String, String>, body: &Value) -> Answer {
    let parts: Vec<&str> = path.trim_start_matches("/platform/").split('/').collect();
    let bad = |message: &str| (StatusCode::BAD_REQUEST, "AEC_BAD_REQUEST", message.to_owned());
    let missing = || (StatusCode::NOT_FOUND, "AEC_NOT_FOUND", "Not found.".to_owned());
    let rules = ["clients", "root_clients", "read_write_clients", "read_only_clients"];
    match (method, parts.as_slice()) {
        ("GET", ["3", "cluster", "config"]) => {
            Ok((StatusCode::OK, t.all("config").first().cloned().unwrap_or_default()))
        }
        ("GET", ["1", "statistics", "current"]) => Ok((
            StatusCode::OK,
            json!({"stats": [
                {"key": "ifs.bytes.total", "value": 200u64 << 40, "devid": 0}, {"key": "ifs.bytes.used", "value": 20u64 << 40, "devid": 0},
            ]}),
        )),
        ("GET", ["1", "quota", "quotas"]) => {
            let fits = |q: &&Value| ["path", "type"].iter().all(|k| query.get(*k).is_none_or(|w| has(q, k, w)));
            Ok((StatusCode::OK, json!({"quotas": t.all("quotas").iter().filter(fits).collect::<Vec<_>>()})))
        }
        ("POST", ["1", "quota", "quotas"]) => {
            only(
                body,
                &[
                    "path",
                    "type",
                    "enforced",
                    "include_snapshots",
                    "container",
                    "thresholds_include_overhead",
                    "thresholds",
                ],
            )?;
            let place = text(body, "path");
            t.find("directories", "path", &place).ok_or_else(|| bad("The path does not exist."))?;
            if t.find("quotas", "path", &place).is_some() {
                return Err((StatusCode::CONFLICT, "AEC_CONFLICT", "The quota exists already.".into()));
            }
            if body["enforced"] != json!(true) || !body["thresholds"]["hard"].is_u64() {
                return Err(bad("A hard threshold needs an enforced quota."));
            }
            let id = format!("quota{}", t.next_number());
            let mut record = body.clone();
            merge(&mut record, &json!({"id": id, "usage": {"logical": 0}}));
            t.add("quotas", record);
            Ok((StatusCode::CREATED, json!({"id": id})))
        }
        ("PUT", ["1", "quota", "quotas", id]) => {
            only(body, &["thresholds", "enforced", "container"])?;
            merge(t.find_mut("quotas", "id", id).ok_or_else(missing)?, body);
            Ok((StatusCode::NO_CONTENT, Value::Null))
        }
        ("DELETE", ["1", "quota", "quotas", id]) => match t.remove("quotas", "id", id) {
            0 => Err(missing()),
            _ => Ok((StatusCode::NO_CONTENT, Value::Null)),
        },
        ("GET", ["4", "protocols", "nfs", "exports"]) => {
            let fits = |e: &&Value| query.get("path").is_none_or(|p| has(e, "paths", p));
            Ok((StatusCode::OK, json!({"exports": t.all("exports").iter().filter(fits).collect::<Vec<_>>()})))
        }
        ("POST", ["4", "protocols", "nfs", "exports"]) => {
            only(body, &[&["paths", "description", "security_flavors"], &rules[..]].concat())?;
            for place in at(body, "paths").into_iter().flat_map(|p| p.as_array().into_iter().flatten()) {
                t.find("directories", "path", &word(place)).ok_or_else(|| bad("The path does not exist."))?;
                if t.all("exports").iter().any(|e| has(e, "paths", &word(place))) {
                    return Err((
                        StatusCode::CONFLICT,
                        "AEC_CONFLICT",
                        "An export of this path exists already.".into(),
                    ));
                }
            }
            let id = t.next_number();
            let mut record =
                json!({"clients": [], "root_clients": [], "read_write_clients": [], "read_only_clients": []});
            merge(&mut record, body);
            record["id"] = json!(id);
            t.add("exports", record);
            Ok((StatusCode::CREATED, json!({"id": id})))
        }
        ("PUT", ["4", "protocols", "nfs", "exports", id]) => {
            only(body, &[&["paths", "description", "security_flavors"], &rules[..]].concat())?;
            merge(t.find_mut("exports", "id", id).ok_or_else(missing)?, body);
            Ok((StatusCode::NO_CONTENT, Value::Null))
        }
        ("DELETE", ["4", "protocols", "nfs", "exports", id]) => match t.remove("exports", "id", id) {
            0 => Err(missing()),
            _ => Ok((StatusCode::NO_CONTENT, Value::Null)),
        },
        ("POST", ["1", "job", "jobs"]) => {
            only(body, &["type", "treedelete_params", "policy", "priority"])?;
            let paths: Vec<String> =
                body["treedelete_params"]["paths"].as_array().into_iter().flatten().map(word).collect();
            if text(body, "type") != "TreeDelete" || paths.is_empty() {
                return Err(bad("The type of the job or its parameters are not valid."));
            }
            for place in paths {
                if t.find("quotas", "path", &place).is_some() {
                    return Err(bad("A directory with a quota cannot be removed."));
                }
                t.find_mut("directories", "path", &place).ok_or_else(missing)?["removal"] = json!(POLLS);
            }
            Ok((StatusCode::CREATED, json!({"id": t.next_number()})))
        }
        _ => Err(missing()),
    }
}
