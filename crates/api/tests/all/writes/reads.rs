//! Every read of the same tags answers by its schema, over what the writes have left: paths are filled from the lists before them, and one that
//! finds nothing to show fails here, so none is forgotten.

use std::collections::HashMap;

use super::{TAGS, Table};
use api::contract;
use serde_json::Value;

/// Reads of what only a BMC can tell, and streams: there is no site here. They are shown with one in other tests.
const ELSEWHERE: &[&str] = &[
    "getServerBios",
    "getServerBootOrder",
    "getServerPowerPolicy",
    "getServerScan",
    "getServerEventLog",
    "getServerRaid",
    "getServerSensors",
    "openServerConsole",
    "openServerInstanceConsole",
];
/// Ids tried of one list at most.
const TRIED: usize = 8;

/// Ids that a list names.
fn ids(list: &Value) -> Vec<String> {
    let rows = list["data"].as_array().or(list.as_array()).cloned().unwrap_or_default();
    let id = |row: &Value| {
        let named = ["id", "serverId", "resourcePoolId", "userId", "jobId"]
            .iter()
            .find_map(|k| row.get(*k).filter(|v| !v.is_null()));
        named.or(Some(row)).filter(|v| v.is_i64() || v.is_string()).map(|v| v.to_string().trim_matches('"').to_owned())
    };
    // The newest and the oldest: each part of the story has its own.
    let all: Vec<String> = rows.iter().filter_map(id).collect();
    let late = all.iter().rev().take(TRIED);
    late.chain(all.iter().take(all.len().saturating_sub(TRIED)).take(TRIED)).cloned().collect()
}

async fn read(t: &Table, known: &mut HashMap<String, (u16, Value)>, path: &str) -> (u16, Value) {
    if let Some(found) = known.get(path) {
        return found.clone();
    }
    let answer = t.rig.send(&t.rig.admin, "GET", path, None, None).await;
    let found = (answer.status.as_u16(), answer.body);
    known.insert(path.to_owned(), found.clone());
    found
}

/// Paths that a template may stand for.
async fn paths(t: &Table, known: &mut HashMap<String, (u16, Value)>, template: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    for part in template.trim_start_matches("/api/v2/").split('/') {
        let mut next = Vec::new();
        for begin in &all {
            if !part.starts_with('{') {
                next.push(format!("{begin}/{part}"));
                continue;
            }
            let (status, list) = read(t, known, begin).await;
            let mut found = if status == 200 { ids(&list) } else { Vec::new() };
            if found.is_empty() {
                // A collection that has no list of its own: the first few.
                found = (1..=TRIED).map(|n| n.to_string()).collect();
            }
            next.extend(found.into_iter().map(|id| format!("{begin}/{id}")));
        }
        all = next;
        all.truncate(640);
    }
    all
}

pub async fn run(t: &Table) {
    let mut known = HashMap::new();
    let mut held = 0;
    for row in t.rows.values().filter(|r| TAGS.contains(&r.tag) && r.method == "GET" && !ELSEWHERE.contains(&r.id)) {
        let mut last = String::new();
        let mut shown = false;
        for path in paths(t, &mut known, row.path).await {
            let (status, body) = read(t, &mut known, &path).await;
            let empty =
                body["data"].as_array().is_some_and(Vec::is_empty) || body.as_array().is_some_and(Vec::is_empty);
            if status == 200 {
                for error in if row.response == "-" { Vec::new() } else { contract::check_answer(row.response, &body) }
                {
                    t.fail(format!("{} {path}: the answer is not of {}: {error}", row.id, row.response));
                }
            } else if !matches!(status, 404 | 409) {
                t.fail(format!("{} {path}: {status}: {body}", row.id));
            }
            if status == 200 && !empty {
                shown = true;
                break;
            }
            last = format!("{path}: {status} {body}");
        }
        if shown {
            held += 1;
        } else {
            t.fail(format!("{}: nothing to show: {last}", row.id));
        }
        // Nobody reads without the permission.
        let path = row.path.trim_start_matches("/api/v2").split('/').map(|p| if p.starts_with('{') { "1" } else { p });
        let answer = t.rig.send(&t.nobody, "GET", &path.collect::<Vec<_>>().join("/"), None, None).await;
        if answer.status != 403 && !matches!(row.permission, "signed_in" | "public") {
            t.fail(format!("{}: {} without the permission", row.id, answer.status));
        }
    }
    eprintln!("{held} reads answer by their schemas");
}
