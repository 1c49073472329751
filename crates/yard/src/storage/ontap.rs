//! NetApp ONTAP 9: `/api/...` with HTTP basic authentication. Volumes and buckets are made by jobs that take a while. An answer holds the
//! fields that were asked for and the identifying ones, no others.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use hyper::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::{
    Rest, parameters,
    tables::{Tables, has, merge, number, project, text, unknown},
};
use crate::{
    httpd::{Incomer, Reply},
    lock,
};

/// How often a job says "running" before it is done.
const POLLS: u64 = 2;
/// Smallest bucket.
const BUCKET: u64 = 190 << 20;
/// Smallest volume.
const VOLUME: u64 = 20 << 20;

type Refusal = (StatusCode, u64, String, Option<&'static str>);

/// Error body.
pub fn error(code: u64, message: &str, target: Option<&str>) -> Value {
    let mut error = json!({"message": message, "code": code.to_string()});
    if let Some(target) = target {
        error["target"] = json!(target);
    }
    json!({"error": error})
}

/// A cluster with one storage virtual machine.
pub fn factory(serial: &str, address: Ipv4Addr) -> Tables {
    let mut t = Tables::default();
    let svm = json!({"name": "svm1", "uuid": t.uuid()});
    let cluster = t.uuid();
    t.add(
        "/api/cluster",
        json!({
            "name": "yard", "uuid": cluster,
            "version": {"full": "NetApp Release 9.14.1P4: Mon Apr 08 2024", "generation": 9, "major": 14, "minor": 1},
        }),
    );
    for node in ["yard-01", "yard-02"] {
        let uuid = t.uuid();
        t.add("/api/cluster/nodes", json!({"name": node, "uuid": uuid, "model": "AFF-A250", "serial_number": format!("{serial}{}", &node[6..])}));
    }
    let mut full = svm.clone();
    full["state"] = json!("running");
    t.add("/api/svm/svms", full);
    for (n, name) in ["aggr1", "aggr2"].iter().enumerate() {
        let (uuid, size) = (t.uuid(), (20 + 5 * n as u64) << 40);
        t.add(
            "/api/storage/aggregates",
            json!({
                "name": name, "uuid": uuid, "block_storage": {"primary": {"disk_class": "solid_state"}},
                "space": {"block_storage": {"size": size, "used": 1u64 << 40, "available": size - (1 << 40)}},
            }),
        );
    }
    let services = ["data_iscsi", "data_iscsi", "data_nfs", "data_s3_server"];
    for n in 0..4u8 {
        let uuid = t.uuid();
        t.add(
            "/api/network/ip/interfaces",
            json!({
                "name": format!("lif{n}"), "uuid": uuid, "svm": svm, "enabled": true, "state": "up",
                "ip": {"address": address.to_string(), "netmask": "255.255.255.0"},
                "location": {"node": {"name": format!("yard-0{}", 1 + n % 2)}},
                "services": [services[usize::from(n)]],
            }),
        );
    }
    t.add("/api/protocols/san/iscsi/services", json!({
        "svm": svm, "enabled": true, "target": {"name": format!("iqn.1992-08.com.netapp:sn.{}:vs.2", serial.to_lowercase()), "alias": "svm1"},
    }));
    t.add("/api/protocols/nfs/services", json!({"svm": svm, "enabled": true}));
    t.add("/api/protocols/s3/services", json!({
        "svm": svm, "enabled": true, "name": "s3.yard.test", "is_http_enabled": false, "is_https_enabled": true, "port": 80, "secure_port": 443,
    }));
    t
}

/// Who may use which LUN.
pub fn access(t: &Tables) -> BTreeMap<String, BTreeSet<String>> {
    let mut out = BTreeMap::new();
    for lun in t.all("/api/storage/luns") {
        let name = text(lun, "name");
        let mut who = BTreeSet::new();
        for map in t.all("/api/protocols/san/lun-maps").iter().filter(|m| has(m, "lun.name", &name)) {
            if let Some(igroup) = t.find("/api/protocols/san/igroups", "name", &text(map, "igroup.name")) {
                who.extend(initiators(igroup));
            }
        }
        out.insert(name, who);
    }
    for volume in t.all("/api/storage/volumes").iter().filter(|v| v.pointer("/nas/path").is_some_and(Value::is_string))
    {
        let policy = t.find("/api/protocols/nfs/export-policies", "name", &text(volume, "nas.export_policy.name"));
        let clients = policy.map(|p| super::tables::at(p, "rules.clients.match")).unwrap_or_default();
        out.insert(text(volume, "nas.path"), clients.into_iter().map(super::tables::word).collect());
    }
    out
}

fn initiators(igroup: &Value) -> BTreeSet<String> {
    super::tables::at(igroup, "initiators.name").into_iter().map(super::tables::word).collect()
}

fn no(status: StatusCode, code: u64, message: impl Into<String>) -> Refusal {
    (status, code, message.into(), None)
}

fn entry_missing() -> Refusal {
    no(StatusCode::NOT_FOUND, 4, "entry doesn't exist")
}

fn taken(what: &str) -> Refusal {
    no(StatusCode::CONFLICT, 1, format!("duplicate entry: {what}"))
}

/// Answers a request.
pub fn handle(rest: &Rest, request: &Incomer) -> Reply {
    let settings = &rest.world.config;
    let known = request.basic().is_some_and(|(u, p)| u == settings.array_user && p == settings.array_password.0);
    if !known {
        return Reply::json(StatusCode::UNAUTHORIZED, &error(6691623, "User is not authorized.", None))
            .with(header::WWW_AUTHENTICATE, "Basic realm=\"ONTAP\"");
    }
    let Ok(body) = request.json() else {
        return Reply::json(StatusCode::BAD_REQUEST, &error(262_192, "The JSON body is not valid.", None));
    };
    let query = parameters(request);
    let mut t = lock(&rest.array.state);
    match answer(rest, &mut t, &request.method, &request.path, &query, &body) {
        Ok((status, body)) => Reply::json(status, &body),
        Err((status, code, message, target)) => Reply::json(status, &error(code, &message, target)),
    }
}

type Answer = Result<(StatusCode, Value), Refusal>;

fn answer(
    rest: &Rest,
    t: &mut Tables,
    method: &Method,
    path: &str,
    query: &BTreeMap<String, String>,
    body: &Value,
) -> Answer {
    let parts: Vec<&str> = path.trim_start_matches("/api/").split('/').collect();
    match (method.as_str(), parts.as_slice()) {
        ("GET", ["cluster"]) => {
            let record = t.all("/api/cluster").first().cloned().unwrap_or_default();
            Ok((StatusCode::OK, narrowed(&record, query)))
        }
        ("GET", ["cluster", "jobs", uuid]) => job(rest, t, uuid),
        ("GET", ["storage", "volumes", uuid, "snapshots"]) => {
            let table = format!("snapshots {uuid}");
            Ok(list(t, &table, query))
        }
        ("GET", ["protocols", "s3", "services", uuid, "users"]) => Ok(list(t, &format!("users {uuid}"), query)),
        ("GET", ["storage", "volumes" | "luns", uuid]) => {
            let record =
                t.find(path.rsplit_once('/').map_or("", |(table, _)| table), "uuid", uuid).ok_or_else(entry_missing)?;
            Ok((StatusCode::OK, narrowed(record, query)))
        }
        ("GET", _) if !t.all(path).is_empty() || LISTS.contains(&path) => Ok(list(t, path, query)),
        ("POST", ["storage", "volumes"]) => volume_post(t, body),
        ("PATCH", ["storage", "volumes", uuid]) => volume_patch(t, uuid, body),
        ("DELETE", ["storage", "volumes", uuid]) => volume_delete(t, uuid),
        ("POST", ["storage", "volumes", uuid, "snapshots"]) => snapshot_post(t, uuid, body),
        ("DELETE", ["storage", "volumes", volume, "snapshots", uuid]) => {
            match t.remove(&format!("snapshots {volume}"), "uuid", uuid) {
                0 => Err(entry_missing()),
                _ => Ok(queued(t, json!({"what": "nothing"}))),
            }
        }
        ("POST", ["storage", "luns"]) => lun_post(t, body),
        ("PATCH", ["storage", "luns", uuid]) => lun_patch(t, uuid, body),
        (_, ["protocols", "san", rest @ ..]) => super::ontap_san::answer(t, method, rest, query, body),
        (_, ["protocols", "nfs", "export-policies", rest @ ..]) => super::ontap_san::policy(t, method, rest, body),
        (_, ["protocols", "s3", rest @ ..]) => super::ontap_san::s3(t, method, rest, query, body),
        _ => Err(no(StatusCode::NOT_FOUND, 3, "API not found")),
    }
}

/// Tables that may be empty.
const LISTS: [&str; 7] = [
    "/api/storage/volumes",
    "/api/storage/luns",
    "/api/protocols/san/igroups",
    "/api/protocols/san/lun-maps",
    "/api/protocols/san/iscsi/credentials",
    "/api/protocols/nfs/export-policies",
    "/api/protocols/s3/buckets",
];

fn narrowed(record: &Value, query: &BTreeMap<String, String>) -> Value {
    let asked = query.get("fields").map_or("", String::as_str);
    if asked == "*" || asked == "**" {
        return record.clone();
    }
    let mut fields = vec!["name", "uuid", "svm.name", "svm.uuid"];
    fields.extend(asked.split(',').filter(|f| !f.is_empty()));
    // What identifies maps and credentials.
    fields.extend(
        ["lun.name", "lun.uuid", "igroup.name", "igroup.uuid", "initiator", "id"]
            .iter()
            .filter(|_| record.get("uuid").is_none()),
    );
    project(record, &fields)
}

fn list(t: &Tables, table: &str, query: &BTreeMap<String, String>) -> (StatusCode, Value) {
    let settings = ["fields", "return_records", "return_timeout", "max_records", "order_by"];
    let found: Vec<Value> = t
        .all(table)
        .iter()
        .filter(|r| query.iter().filter(|(k, _)| !settings.contains(&k.as_str())).all(|(k, v)| has(r, k, v)))
        .map(|r| narrowed(r, query))
        .collect();
    (StatusCode::OK, json!({"num_records": found.len(), "records": found}))
}

/// Accepts work that a job does later.
pub(super) fn queued(t: &mut Tables, work: Value) -> (StatusCode, Value) {
    let uuid = t.uuid();
    t.add("jobs", json!({"uuid": uuid, "polls": POLLS, "work": work, "state": "queued"}));
    (
        StatusCode::ACCEPTED,
        json!({"job": {"uuid": uuid, "_links": {"self": {"href": format!("/api/cluster/jobs/{uuid}")}}}}),
    )
}

fn job(rest: &Rest, t: &mut Tables, uuid: &str) -> Answer {
    let mut job = t.find("jobs", "uuid", uuid).cloned().ok_or_else(entry_missing)?;
    let polls = number(&job, "polls").unwrap_or(0);
    if polls > 0 {
        job["polls"] = json!(polls - 1);
        job["state"] = json!("running");
    } else if text(&job, "state") != "success" && text(&job, "state") != "failure" {
        let work = job["work"].clone();
        if let Some(message) = rest.strike_step(&format!("JOB {} {}", text(&work, "what"), text(&work, "table"))) {
            job["state"] = json!("failure");
            job["message"] = json!(message);
            job["error"] = json!({"message": message, "code": "460770"});
        } else {
            let table = text(&work, "table");
            match text(&work, "what").as_str() {
                "add" => t.add(&table, work["record"].clone()),
                "merge" => {
                    if let Some(record) = t.find_mut(&table, "uuid", &text(&work, "uuid")) {
                        merge(record, &work["record"]);
                    }
                }
                "remove" => _ = t.remove(&table, "uuid", &text(&work, "uuid")),
                _ => {}
            }
            job["state"] = json!("success");
            job["message"] = json!("success");
        }
    }
    if let Some(kept) = t.find_mut("jobs", "uuid", uuid) {
        kept.clone_from(&job);
    }
    Ok((StatusCode::OK, project(&job, &["uuid", "state", "message", "error"])))
}

pub(super) fn svm(t: &Tables, body: &Value) -> Result<Value, Refusal> {
    let name = text(body, "svm.name");
    let found = t.find("/api/svm/svms", "name", &name);
    found
        .map(|s| project(s, &["name", "uuid"]))
        .ok_or_else(|| (StatusCode::BAD_REQUEST, 2621462, format!("SVM \"{name}\" does not exist."), Some("svm.name")))
}

pub(super) fn only(body: &Value, known: &[&str]) -> Result<(), Refusal> {
    match unknown(body, known) {
        Some(name) => Err(no(StatusCode::BAD_REQUEST, 262_179, format!("Unexpected argument \"{name}\"."))),
        None => Ok(()),
    }
}

fn volume_post(t: &mut Tables, body: &Value) -> Answer {
    only(
        body,
        &[
            "name",
            "svm",
            "aggregates",
            "size",
            "guarantee",
            "snapshot_policy",
            "space",
            "comment",
            "nas",
            "clone",
            "qos",
        ],
    )?;
    let svm = svm(t, body)?;
    let name = text(body, "name");
    let legal = name.len() <= 203
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !legal {
        return Err((StatusCode::BAD_REQUEST, 917_777, format!("Invalid volume name \"{name}\"."), Some("name")));
    }
    let waiting = t.all("jobs").iter().any(|j| {
        has(j, "work.record.name", &name)
            && has(j, "work.what", "add")
            && !has(j, "state", "success")
            && !has(j, "state", "failure")
    });
    if waiting || t.find("/api/storage/volumes", "name", &name).is_some() {
        return Err(no(StatusCode::BAD_REQUEST, 917_835, format!("Volume \"{name}\" already exists.")));
    }
    let uuid = t.uuid();
    let mut record = body.clone();
    record["uuid"] = json!(uuid);
    record["svm"] = svm;
    if let Some(parent) = body.get("clone") {
        let parent_name = text(parent, "parent_volume.name");
        let source = t.find("/api/storage/volumes", "name", &parent_name).cloned();
        let source = source.ok_or_else(|| {
            no(StatusCode::BAD_REQUEST, 917_818, format!("Parent volume \"{parent_name}\" does not exist."))
        })?;
        let mut luns: Vec<Value> = t
            .all("/api/storage/luns")
            .iter()
            .filter(|l| has(l, "location.volume.name", &parent_name))
            .cloned()
            .collect();
        if let Some(snapshot) = parent.pointer("/parent_snapshot/name").and_then(Value::as_str) {
            let table = format!("snapshots {}", text(&source, "uuid"));
            let found = t.find(&table, "name", snapshot);
            let found = found.ok_or_else(|| {
                no(StatusCode::BAD_REQUEST, 918_253, format!("Snapshot \"{snapshot}\" does not exist."))
            })?;
            luns = found["luns"].as_array().cloned().unwrap_or_default();
        }
        record["size"] = source["size"].clone();
        record["aggregates"] = source["aggregates"].clone();
        for mut lun in luns {
            lun["name"] = json!(format!("/vol/{name}/{}", text(&lun, "name").rsplit('/').next().unwrap_or_default()));
            lun["uuid"] = json!(t.uuid());
            lun["serial_number"] = json!(format!("yard{:08}", t.next_number()));
            lun["location"] = json!({"volume": {"name": name}});
            t.add("/api/storage/luns", lun);
        }
    } else {
        let size = number(body, "size").unwrap_or(0);
        if size < VOLUME {
            return Err((
                StatusCode::BAD_REQUEST,
                917_927,
                "Specified size is too small; the minimum is 20MB.".into(),
                Some("size"),
            ));
        }
        let aggregate = text(body, "aggregates.name");
        if t.find("/api/storage/aggregates", "name", &aggregate).is_none() {
            return Err((
                StatusCode::BAD_REQUEST,
                918_235,
                format!("Aggregate \"{aggregate}\" does not exist."),
                Some("aggregates.name"),
            ));
        }
        if let Some(policy) = body.pointer("/nas/export_policy/name").and_then(Value::as_str)
            && t.find("/api/protocols/nfs/export-policies", "name", policy).is_none()
        {
            return Err(no(StatusCode::BAD_REQUEST, 6_684_770, format!("Export policy \"{policy}\" does not exist.")));
        }
    }
    merge(&mut record, &json!({"state": "online", "space": {"used": 300_000}}));
    Ok(queued(t, json!({"what": "add", "table": "/api/storage/volumes", "record": record})))
}

fn volume_patch(t: &mut Tables, uuid: &str, body: &Value) -> Answer {
    only(body, &["size", "nas", "restore_to", "clone", "comment"])?;
    let volume = t.find("/api/storage/volumes", "uuid", uuid).cloned().ok_or_else(entry_missing)?;
    if let Some(snapshot) = body.pointer("/restore_to/snapshot/name").and_then(Value::as_str) {
        let found = t.find(&format!("snapshots {uuid}"), "name", snapshot).cloned();
        let found = found
            .ok_or_else(|| no(StatusCode::BAD_REQUEST, 918_253, format!("Snapshot \"{snapshot}\" does not exist.")))?;
        for old in found["luns"].as_array().into_iter().flatten() {
            if let Some(lun) = t.find_mut("/api/storage/luns", "uuid", &text(old, "uuid")) {
                lun["space"] = old["space"].clone();
                lun["restored"] = json!(snapshot);
            }
        }
        return Ok(queued(t, json!({"what": "nothing", "table": "/api/storage/volumes"})));
    }
    if let Some(size) = number(body, "size") {
        let luns: u64 = t
            .all("/api/storage/luns")
            .iter()
            .filter(|l| has(l, "location.volume.name", &text(&volume, "name")))
            .filter_map(|l| number(l, "space.size"))
            .sum();
        if size < luns {
            return Err(no(StatusCode::BAD_REQUEST, 918_194, "The volume cannot be made smaller than what it holds."));
        }
    }
    Ok(queued(t, json!({"what": "merge", "table": "/api/storage/volumes", "uuid": uuid, "record": body})))
}

fn volume_delete(t: &mut Tables, uuid: &str) -> Answer {
    let volume = t.find("/api/storage/volumes", "uuid", uuid).cloned().ok_or_else(entry_missing)?;
    let name = text(&volume, "name");
    let luns: Vec<String> = t
        .all("/api/storage/luns")
        .iter()
        .filter(|l| has(l, "location.volume.name", &name))
        .map(|l| text(l, "name"))
        .collect();
    if luns.iter().any(|lun| t.find("/api/protocols/san/lun-maps", "lun.name", lun).is_some()) {
        return Err(no(StatusCode::BAD_REQUEST, 917_998, format!("Volume \"{name}\" contains mapped LUNs.")));
    }
    for lun in luns {
        t.remove("/api/storage/luns", "name", &lun);
    }
    Ok(queued(t, json!({"what": "remove", "table": "/api/storage/volumes", "uuid": uuid})))
}

fn snapshot_post(t: &mut Tables, volume: &str, body: &Value) -> Answer {
    only(body, &["name", "comment"])?;
    let record = t.find("/api/storage/volumes", "uuid", volume).cloned().ok_or_else(entry_missing)?;
    let (table, name) = (format!("snapshots {volume}"), text(body, "name"));
    if t.find(&table, "name", &name).is_some() {
        return Err(no(StatusCode::CONFLICT, 1_638_461, format!("Snapshot copy \"{name}\" already exists.")));
    }
    let uuid = t.uuid();
    let luns: Vec<Value> = t
        .all("/api/storage/luns")
        .iter()
        .filter(|l| has(l, "location.volume.name", &text(&record, "name")))
        .cloned()
        .collect();
    let made = json!({"name": name, "uuid": uuid, "create_time": "2026-03-01T12:00:00+00:00", "luns": luns});
    Ok(queued(t, json!({"what": "add", "table": table, "record": made})))
}

fn lun_post(t: &mut Tables, body: &Value) -> Answer {
    only(body, &["name", "svm", "os_type", "space", "comment", "qos_policy"])?;
    let svm = svm(t, body)?;
    let name = text(body, "name");
    let parts: Vec<&str> = name.split('/').collect();
    let ["", "vol", volume, _] = parts.as_slice() else {
        return Err((StatusCode::BAD_REQUEST, 5_242_886, format!("Invalid LUN path \"{name}\"."), Some("name")));
    };
    let found = t.find("/api/storage/volumes", "name", volume);
    let room = found.and_then(|v| number(v, "size"));
    let room =
        room.ok_or_else(|| no(StatusCode::BAD_REQUEST, 917_927, format!("The volume \"{volume}\" does not exist.")))?;
    if t.find("/api/storage/luns", "name", &name).is_some() {
        return Err(no(StatusCode::CONFLICT, 5_242_927, format!("LUN \"{name}\" already exists.")));
    }
    if text(body, "os_type").is_empty() {
        return Err((StatusCode::BAD_REQUEST, 5_242_881, "The \"os_type\" field is required.".into(), Some("os_type")));
    }
    let size = number(body, "space.size").filter(|s| *s > 0 && *s <= room);
    let size = size.ok_or_else(|| no(StatusCode::BAD_REQUEST, 5_242_950, "The LUN does not fit into its volume."))?;
    let (uuid, serial) = (t.uuid(), format!("yard{:08}", t.next_number()));
    t.add("/api/storage/luns", json!({
        "name": name, "uuid": uuid, "svm": svm, "os_type": body["os_type"], "serial_number": serial,
        "location": {"volume": {"name": volume}}, "space": {"size": size, "used": 0}, "qos_policy": body.get("qos_policy").cloned().unwrap_or(json!({})),
    }));
    Ok((StatusCode::CREATED, json!({})))
}

fn lun_patch(t: &mut Tables, uuid: &str, body: &Value) -> Answer {
    only(body, &["space", "qos_policy", "comment"])?;
    let lun = t.find("/api/storage/luns", "uuid", uuid).cloned().ok_or_else(entry_missing)?;
    if let Some(size) = number(body, "space.size") {
        if size < number(&lun, "space.size").unwrap_or(0) {
            return Err(no(
                StatusCode::BAD_REQUEST,
                5_242_951,
                "Reducing the size of a LUN might cause permanent data loss.",
            ));
        }
        let room =
            t.find("/api/storage/volumes", "name", &text(&lun, "location.volume.name")).and_then(|v| number(v, "size"));
        if room.is_none_or(|r| size > r) {
            return Err(no(StatusCode::BAD_REQUEST, 5_242_950, "The LUN does not fit into its volume."));
        }
    }
    if let Some(lun) = t.find_mut("/api/storage/luns", "uuid", uuid) {
        merge(lun, body);
    }
    Ok((StatusCode::OK, json!({})))
}

pub(super) fn duplicate(what: &str) -> Refusal {
    taken(what)
}

pub(super) fn missing() -> Refusal {
    entry_missing()
}

pub(super) fn refuse(status: StatusCode, code: u64, message: impl Into<String>) -> Refusal {
    no(status, code, message)
}

/// What a request leads to.
pub(super) type Done = Answer;

/// Smallest bucket.
pub(super) const SMALLEST_BUCKET: u64 = BUCKET;
