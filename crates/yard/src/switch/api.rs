//! The NVUE REST interface: `/nvue_v1/...` with Basic authentication.

use hyper::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::{Nvue, config, operational, revision::ApplyControls};
use crate::{
    httpd::{Incomer, Reply},
    lock,
};

/// Most segments of a path.
const MAX_DEPTH: usize = 24;

/// Error body as NVUE sends it (RFC 7807).
pub fn problem(status: StatusCode, detail: &str) -> Value {
    json!({"detail": detail, "status": status.as_u16(), "title": status.canonical_reason().unwrap_or("Error"), "type": "about:blank"})
}

fn refuse(status: StatusCode, detail: &str) -> Reply {
    Reply::json(status, &problem(status, detail))
}

/// Undoes percent-encoding; `None` when it is not valid.
pub fn decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        if bytes[at] == b'%' {
            out.push(u8::from_str_radix(text.get(at + 1..at + 3)?, 16).ok()?);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).ok()
}

/// Answers a request.
pub fn handle(nvue: &Nvue, request: &Incomer) -> Reply {
    let settings = &nvue.world.config;
    let known = request
        .basic()
        .is_some_and(|(user, password)| user == settings.switch_user && password == settings.switch_password.0);
    if !known {
        return refuse(StatusCode::UNAUTHORIZED, "Authentication required")
            .with(header::WWW_AUTHENTICATE, "Basic realm=\"NVUE\"");
    }
    let Some(path) = request.path.strip_prefix("/nvue_v1") else {
        return refuse(StatusCode::NOT_FOUND, "The requested URL was not found on the server.");
    };
    let segments: Option<Vec<String>> = path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
    let Some(segments) = segments else { return refuse(StatusCode::BAD_REQUEST, "Path is not valid") };
    // Configuration trees are not deep; a longer path would only cost stack.
    if segments.len() > MAX_DEPTH {
        return refuse(StatusCode::NOT_FOUND, "The requested item does not exist.");
    }
    let query: std::collections::HashMap<String, String> =
        url::form_urlencoded::parse(request.query.as_bytes()).into_owned().collect();
    if segments.first().is_some_and(|first| first == "revision") {
        return revisions(nvue, request, &segments[1..]);
    }
    let rev = query.get("rev").map(String::as_str);
    match request.method {
        Method::GET => read(nvue, &segments, rev.unwrap_or("operational")),
        Method::PATCH | Method::DELETE => change(nvue, request, &segments, rev),
        _ => refuse(StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed for the requested URL."),
    }
}

fn read(nvue: &Nvue, segments: &[String], rev: &str) -> Reply {
    let missing = || refuse(StatusCode::NOT_FOUND, "The requested item does not exist.");
    let found = if rev == "operational" {
        operational::read(nvue, segments)
    } else {
        let state = lock(&nvue.switch.state);
        match state.tree(rev) {
            Some(tree) => config::get(tree, segments).cloned(),
            None => return refuse(StatusCode::NOT_FOUND, &format!("revision '{rev}' does not exist")),
        }
    };
    match found {
        Some(value) => Reply::json(StatusCode::OK, &value),
        // A container that is not configured is empty; a thing that does not exist is not found.
        None if segments.len() <= 1 || segments.last().is_some_and(|last| CONTAINERS.contains(&last.as_str())) => {
            if exists(nvue, segments, rev) {
                Reply::json(StatusCode::OK, &json!({}))
            } else {
                missing()
            }
        }
        None => missing(),
    }
}

const CONTAINERS: [&str; 9] = ["vlan", "domain", "bridge", "link", "lldp", "neighbor", "ip", "address", "mac-table"];

/// Whether the object around a container exists.
fn exists(nvue: &Nvue, segments: &[String], rev: &str) -> bool {
    const ROOTS: [&str; 12] =
        ["acl", "bridge", "evpn", "interface", "mlag", "nve", "platform", "qos", "router", "service", "system", "vrf"];
    let Some(first) = segments.first() else { return true };
    if !ROOTS.contains(&first.as_str()) {
        return false;
    }
    match segments.get(1) {
        Some(name) if first == "interface" => {
            let front = config::port_number(name).is_some_and(|port| (1..=nvue.switch.spec.ports).contains(&port));
            front || lock(&nvue.switch.state).tree(rev).is_some_and(|tree| config::get(tree, &segments[..2]).is_some())
        }
        _ => true,
    }
}

fn change(nvue: &Nvue, request: &Incomer, segments: &[String], rev: Option<&str>) -> Reply {
    let Some(rev) = rev else { return refuse(StatusCode::BAD_REQUEST, "Missing query parameter 'rev'") };
    if matches!(rev, "applied" | "startup" | "operational" | "empty") {
        return refuse(StatusCode::BAD_REQUEST, &format!("revision '{rev}' cannot be changed"));
    }
    let mut state = lock(&nvue.switch.state);
    let (result, answer) = if request.method == Method::DELETE {
        let result = match segments {
            [] => state.clear(rev),
            path => {
                // Deleting what is not there is no error, as with `nv unset`.
                if state.tree(rev).is_some_and(|tree| config::get(tree, path).is_none()) {
                    return Reply::empty(StatusCode::NO_CONTENT);
                }
                state.patch(rev, config::at_path(path, Value::Null))
            }
        };
        (result, None)
    } else {
        let body = match request.json() {
            Ok(body) => body,
            Err(error) => return refuse(StatusCode::BAD_REQUEST, &format!("Request body is not valid JSON: {error}")),
        };
        (state.patch(rev, config::at_path(segments, body.clone())), Some(body))
    };
    match (result, answer) {
        (Ok(()), None) => Reply::empty(StatusCode::NO_CONTENT),
        (Ok(()), Some(body)) => Reply::json(StatusCode::OK, &body),
        (Err(None), _) => refuse(StatusCode::NOT_FOUND, &format!("revision '{rev}' does not exist")),
        (Err(Some(issue)), _) => {
            let detail =
                format!("Error: at {}: {}", issue.location.trim_start_matches('/').replace('/', "."), issue.message);
            refuse(StatusCode::BAD_REQUEST, &detail)
        }
    }
}

fn revisions(nvue: &Nvue, request: &Incomer, rest: &[String]) -> Reply {
    let missing = |id: &str| refuse(StatusCode::NOT_FOUND, &format!("revision '{id}' does not exist"));
    match (&request.method, rest) {
        (&Method::POST, []) => {
            let mut state = lock(&nvue.switch.state);
            let user = request.basic().map_or_else(|| "cumulus".into(), |(user, _)| user);
            let id = state.create(&user);
            let shown = state.revisions.get(&id).map(super::revision::Revision::show);
            Reply::json(StatusCode::CREATED, &json!({id: shown}))
        }
        (&Method::GET, []) => {
            let state = lock(&nvue.switch.state);
            let mut all: serde_json::Map<String, Value> =
                state.revisions.iter().map(|(id, revision)| (id.clone(), revision.show())).collect();
            let done = json!({"state": "applied", "transition": {"issue": {}, "progress": ""}});
            all.insert("applied".into(), done);
            all.insert("startup".into(), json!({"state": "inactive", "transition": {"issue": {}, "progress": ""}}));
            Reply::json(StatusCode::OK, &Value::Object(all))
        }
        (&Method::GET, [id]) => {
            let state = lock(&nvue.switch.state);
            match (id.as_str(), state.revisions.get(id)) {
                (_, Some(revision)) => Reply::json(StatusCode::OK, &revision.show()),
                ("applied" | "startup", None) => Reply::json(
                    StatusCode::OK,
                    &json!({"state": "applied", "transition": {"issue": {}, "progress": ""}}),
                ),
                _ => missing(id),
            }
        }
        (&Method::PATCH, [id]) => revision_patch(nvue, request, id),
        (&Method::DELETE, [id]) => {
            let mut state = lock(&nvue.switch.state);
            match state.revisions.get(id).map(|revision| revision.state) {
                None => missing(id),
                Some("apply" | "verify" | "confirm") => refuse(StatusCode::CONFLICT, "revision is being applied"),
                Some(_) if state.applied_id == *id => refuse(StatusCode::CONFLICT, "revision is in force"),
                Some(_) => {
                    state.revisions.remove(id);
                    Reply::empty(StatusCode::NO_CONTENT)
                }
            }
        }
        (_, [] | [_]) => refuse(StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed for the requested URL."),
        _ => refuse(StatusCode::NOT_FOUND, "The requested URL was not found on the server."),
    }
}

fn revision_patch(nvue: &Nvue, request: &Incomer, id: &str) -> Reply {
    let body = match request.json() {
        Ok(body) => body,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &format!("Request body is not valid JSON: {error}")),
    };
    let word = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
    let wanted = word("/state").unwrap_or_default().to_owned();
    let controls = ApplyControls {
        sure: word("/auto-prompt/ays") == Some("ays_yes"),
        confirm: body.pointer("/state-controls/confirm").and_then(Value::as_u64),
    };
    let answer_yes = word("/auto-prompt/confirm") == Some("confirm_yes") || controls.sure;
    let mut state = lock(&nvue.switch.state);
    if wanted == "save" && (id == "applied" || id == state.applied_id) {
        state.startup = state.applied.clone();
        nvue.world.changed();
        return Reply::json(StatusCode::OK, &json!({"state": "save", "transition": {"issue": {}, "progress": ""}}));
    }
    let Some(current) = state.revisions.get(id).map(|revision| revision.state) else {
        return refuse(StatusCode::NOT_FOUND, &format!("revision '{id}' does not exist"));
    };
    match wanted.as_str() {
        "apply" | "confirm" | "confirm_yes" if current == "confirm" => {
            if controls.confirm.is_some() || !(answer_yes || wanted == "confirm_yes") {
                return refuse(StatusCode::BAD_REQUEST, "revision waits for its confirmation");
            }
            state.confirm(id);
            nvue.world.events.push(&nvue.switch.spec.hostname, "switch", format!("confirmed {id}"));
        }
        "confirm_no" if current == "confirm" => {
            state.confirm_timeout(id);
            drop(state);
            nvue.switch.refresh();
            nvue.world.changed();
            state = lock(&nvue.switch.state);
        }
        "apply" => match state.begin(id) {
            Ok(()) => {
                if !matches!(current, "apply" | "verify" | "applied") {
                    nvue.apply_later(id.to_owned(), controls);
                }
            }
            Err(issue) => {
                let text = issue.map_or_else(String::new, |issue| issue.message);
                return refuse(StatusCode::CONFLICT, &text);
            }
        },
        other => return refuse(StatusCode::BAD_REQUEST, &format!("'{other}' is not a state that can be asked for")),
    }
    match state.revisions.get(id) {
        Some(revision) => Reply::json(StatusCode::OK, &revision.show()),
        None => refuse(StatusCode::NOT_FOUND, &format!("revision '{id}' does not exist")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revision_ids_come_percent_encoded() {
        assert_eq!(decode("changeset%2Fcumulus%2F2026_X").as_deref(), Some("changeset/cumulus/2026_X"));
        assert_eq!(decode("swp1").as_deref(), Some("swp1"));
        for bad in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
