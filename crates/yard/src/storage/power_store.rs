//! Dell PowerStore: `/api/rest/...`. A session is a cookie and a token; questions name the attributes they want (`select`) and conditions
//! (`name=eq.x`), as in PostgREST. Without `select` an answer holds the identifier alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use hyper::{
    StatusCode,
    header::{self, HeaderName},
};
use serde_json::{Value, json};

use super::{
    Rest, parameters,
    tables::{Tables, at, has, merge, number, project, text, unknown, word},
};
use crate::{
    httpd::{Incomer, Reply},
    lock,
};

/// Smallest volume.
const VOLUME: u64 = 1 << 20;
/// Smallest file system.
const FILE_SYSTEM: u64 = 3 << 30;

type Answer = Result<(StatusCode, Value), (StatusCode, String)>;

/// Error body.
pub fn error(code: &str, message: &str) -> Value {
    json!({"messages": [{"code": code, "severity": "Error", "message_l10n": message, "arguments": []}]})
}

/// A cluster of one appliance with a NAS server.
pub fn factory(serial: &str, address: Ipv4Addr) -> Tables {
    let mut t = Tables::default();
    t.add("appliance", json!({"id": "A1", "name": format!("{serial}-appliance-1"), "service_tag": serial, "model": "PowerStore 1200T"}));
    t.add("software_installed", json!({"id": "1", "release_version": "3.6.1.0", "is_cluster": true}));
    for node in ["N1", "N2"] {
        t.add("ip_pool_address", json!({
            "id": format!("IP{node}"), "name": format!("{node}:iscsi"), "address": address.to_string(), "node_id": node, "appliance_id": "A1",
            "purposes": ["Storage_Iscsi_Target"],
            "ip_port": {"target_iqn": format!("iqn.2015-10.com.dell:dellemc-powerstore-{}-{}", serial.to_lowercase(), node.to_lowercase())},
        }));
    }
    t.add("ip_pool_address", json!({"id": "IP9", "name": "management", "address": address.to_string(), "purposes": ["Mgmt_Cluster_Floating"]}));
    t.add("nas_server", json!({"id": "NAS1", "name": "nas1"}));
    t.add(
        "file_interface",
        json!({"id": "FI1", "name": "nas1-if", "ip_address": address.to_string(), "nas_server_id": "NAS1"}),
    );
    t
}

/// Who may use which volume or export.
pub fn access(t: &Tables) -> BTreeMap<String, BTreeSet<String>> {
    let mut out = BTreeMap::new();
    for volume in t.all("volume").iter().filter(|v| !has(v, "type", "Snapshot")) {
        let mut who = BTreeSet::new();
        for mapping in t.all("host_volume_mapping").iter().filter(|m| has(m, "volume_id", &text(volume, "id"))) {
            if let Some(host) = t.find("host", "id", &text(mapping, "host_id")) {
                who.extend(at(host, "host_initiators.port_name").into_iter().map(word));
            }
        }
        out.insert(text(volume, "name"), who);
    }
    for export in t.all("nfs_export") {
        let hosts = export["read_write_root_hosts"].as_array().into_iter().flatten();
        out.insert(
            text(export, "path"),
            hosts.map(|h| word(h).split('/').next().unwrap_or_default().to_owned()).collect(),
        );
    }
    out
}

/// Answers a request.
pub fn handle(rest: &Rest, request: &Incomer) -> Reply {
    let settings = &rest.world.config;
    let Some(path) = request.path.strip_prefix("/api/rest/") else {
        return Reply::json(StatusCode::NOT_FOUND, &error("0xE0101001000D", "The requested URL was not found."));
    };
    let denied = |m: &str| Reply::json(StatusCode::UNAUTHORIZED, &error("0xE09040060001", m));
    if path == "login_session" {
        let known = request.basic().is_some_and(|(u, p)| u == settings.array_user && p == settings.array_password.0);
        if !known {
            return denied("Invalid user name or password.");
        }
        let number = lock(&rest.array.state).next_number();
        let session = format!("yard-session-{number}");
        lock(&rest.array.sessions).insert(session.clone());
        return Reply::json(StatusCode::OK, &json!([{"id": session, "user": settings.array_user}]))
            .with(header::SET_COOKIE, format!("auth_cookie={session}; Path=/; Secure; HttpOnly"))
            .with(HeaderName::from_static("dell-emc-token"), format!("token-{session}"));
    }
    let session = request
        .header("cookie")
        .and_then(|c| c.split(';').find_map(|p| p.trim().strip_prefix("auth_cookie=")))
        .filter(|s| lock(&rest.array.sessions).contains(*s));
    let Some(session) = session else { return denied("The session has expired.") };
    if request.method != hyper::Method::GET && request.header("dell-emc-token") != Some(&format!("token-{session}")) {
        return Reply::json(
            StatusCode::FORBIDDEN,
            &error("0xE09040060002", "The request lacks the DELL-EMC-TOKEN header."),
        );
    }
    let Ok(body) = request.json() else {
        return Reply::json(StatusCode::BAD_REQUEST, &error("0xE04040010002", "The body is not valid JSON."));
    };
    let query = parameters(request);
    let parts: Vec<&str> = path.split('/').collect();
    match answer(&mut lock(&rest.array.state), request.method.as_str(), &parts, &query, &body) {
        Ok((status, Value::Null)) => Reply::empty(status),
        Ok((status, body)) => Reply::json(status, &body),
        Err((status, message)) => Reply::json(status, &error("0xE0A01001000C", &message)),
    }
}

const TABLES: [&str; 10] = [
    "appliance",
    "software_installed",
    "ip_pool_address",
    "nas_server",
    "file_interface",
    "volume",
    "host",
    "host_volume_mapping",
    "file_system",
    "nfs_export",
];

fn wrong(message: impl Into<String>) -> (StatusCode, String) {
    (StatusCode::UNPROCESSABLE_ENTITY, message.into())
}

fn gone(what: &str, id: &str) -> (StatusCode, String) {
    (StatusCode::NOT_FOUND, format!("Unable to find the {what} with ID {id}."))
}

fn only(body: &Value, known: &[&str]) -> Result<(), (StatusCode, String)> {
    match unknown(body, known) {
        Some(name) => Err((StatusCode::BAD_REQUEST, format!("The attribute {name} is not known."))),
        None => Ok(()),
    }
}

fn answer(t: &mut Tables, method: &str, path: &[&str], query: &BTreeMap<String, String>, body: &Value) -> Answer {
    let made = |id: &str| Ok((StatusCode::CREATED, json!({"id": id})));
    let done = Ok((StatusCode::NO_CONTENT, Value::Null));
    match (method, path) {
        ("GET", [table]) if TABLES.contains(table) => list(t, table, query),
        ("POST", ["metrics", "generate"]) => {
            if text(body, "entity") != "space_metrics_by_appliance"
                || t.find("appliance", "id", &text(body, "entity_id")).is_none()
            {
                return Err(wrong("The entity of the metrics is not known."));
            }
            let used: u64 = t.all("volume").iter().filter_map(|v| number(v, "logical_used")).sum();
            Ok((StatusCode::OK, json!([{"physical_total": 30u64 << 40, "physical_used": (1u64 << 40) + used}])))
        }
        ("POST", ["volume"]) => {
            only(body, &["name", "size", "description", "appliance_id"])?;
            let (name, size) = (name(t, "volume", body)?, number(body, "size").unwrap_or(0));
            if size < VOLUME || !size.is_multiple_of(8192) {
                return Err(wrong("The volume size must be a multiple of 8192 bytes and at least 1 MB."));
            }
            let id = t.uuid();
            let wwn = format!("naa.68ccf09800{:022x}", t.next_number());
            t.add("volume", json!({
                "id": id, "name": name, "size": size, "type": "Primary", "wwn": wwn, "logical_used": 0, "appliance_id": "A1", "state": "Ready",
            }));
            made(&id)
        }
        ("PATCH", ["volume", id]) => {
            only(body, &["name", "size", "description"])?;
            let volume = t.find_mut("volume", "id", id).ok_or_else(|| gone("volume", id))?;
            if number(body, "size").is_some_and(|s| Some(s) < number(volume, "size") || !s.is_multiple_of(8192)) {
                return Err(wrong("The size of a volume can only be increased, to a multiple of 8192 bytes."));
            }
            merge(volume, body);
            done
        }
        ("DELETE", ["volume", id]) => {
            let volume = t.find("volume", "id", id).ok_or_else(|| gone("volume", id))?;
            if t.find("host_volume_mapping", "volume_id", id).is_some() {
                return Err(wrong(format!("The volume {} is attached to a host.", text(volume, "name"))));
            }
            t.remove("volume", "id", id);
            done
        }
        ("POST", ["volume", id, "snapshot"]) => copy(t, id, body, "Snapshot"),
        ("POST", ["volume", id, "clone"]) => copy(t, id, body, "Clone"),
        ("POST", ["volume", id, "restore"]) => {
            only(body, &["from_snap_id", "create_backup_snap", "backup_snap_profile"])?;
            let snapshot = text(body, "from_snap_id");
            let size = t
                .find("volume", "id", &snapshot)
                .filter(|s| has(s, "protection_data.source_id", id))
                .map(|s| s["size"].clone());
            let size = size.ok_or_else(|| wrong("The snapshot does not belong to the volume."))?;
            let volume = t.find_mut("volume", "id", id).ok_or_else(|| gone("volume", id))?;
            (volume["size"], volume["restored"]) = (size, json!(snapshot));
            Ok((StatusCode::OK, json!({})))
        }
        ("POST", ["volume", id, verb @ ("attach" | "detach")]) => {
            only(body, &["host_id", "host_group_id", "logical_unit_number"])?;
            let host = text(body, "host_id");
            t.find("volume", "id", id).ok_or_else(|| gone("volume", id))?;
            t.find("host", "id", &host).ok_or_else(|| gone("host", &host))?;
            let mapped = |m: &Value| has(m, "volume_id", id) && has(m, "host_id", &host);
            let there = t.all("host_volume_mapping").iter().any(mapped);
            match (*verb, there) {
                ("attach", true) => Err(wrong("The volume is already attached to the host.")),
                ("detach", false) => Err(wrong("The volume is not attached to the host.")),
                ("detach", true) => {
                    t.all_mut("host_volume_mapping").retain(|m| !mapped(m));
                    done
                }
                _ => {
                    let of_host = |m: &&Value| has(m, "host_id", &host);
                    let taken: Vec<u64> = t
                        .all("host_volume_mapping")
                        .iter()
                        .filter(of_host)
                        .filter_map(|m| number(m, "logical_unit_number"))
                        .collect();
                    let lun = (1..=16_383).find(|n| !taken.contains(n)).unwrap_or(1);
                    let mapping = t.uuid();
                    t.add("host_volume_mapping", json!({"id": mapping, "volume_id": id, "host_id": host, "host_group_id": null, "logical_unit_number": lun}));
                    done
                }
            }
        }
        ("POST", ["host"]) => {
            only(body, &["name", "os_type", "description", "initiators", "host_connectivity"])?;
            let name = name(t, "host", body)?;
            if !["Linux", "Windows", "ESXi"].contains(&text(body, "os_type").as_str()) {
                return Err(wrong("The os_type is missing or not valid."));
            }
            let initiators = initiators(t, &body["initiators"], None)?;
            let id = t.uuid();
            t.add("host", json!({"id": id, "name": name, "os_type": body["os_type"], "host_initiators": initiators}));
            made(&id)
        }
        ("PATCH", ["host", id]) => {
            only(body, &["name", "description", "add_initiators", "modify_initiators", "remove_initiators"])?;
            if body.as_object().is_some_and(|b| b.keys().filter(|k| k.ends_with("_initiators")).count() > 1) {
                return Err(wrong("Only one of add, modify and remove initiators can be given."));
            }
            let new = initiators(t, &body["add_initiators"], Some(id))?;
            let host = t.find_mut("host", "id", id).ok_or_else(|| gone("host", id))?;
            for change in body["modify_initiators"].as_array().into_iter().flatten() {
                if !has(host, "host_initiators.port_name", &text(change, "port_name")) {
                    return Err(wrong("The initiator does not belong to the host."));
                }
                chap(change)?;
            }
            let gone: Vec<String> = body["remove_initiators"].as_array().into_iter().flatten().map(word).collect();
            if let Some(all) = host["host_initiators"].as_array_mut() {
                all.retain(|i| !gone.contains(&text(i, "port_name")));
                all.extend(new);
            }
            done
        }
        ("DELETE", ["host", id]) => {
            t.find("host", "id", id).ok_or_else(|| gone("host", id))?;
            if t.find("host_volume_mapping", "host_id", id).is_some() {
                return Err(wrong("The host has attached volumes."));
            }
            t.remove("host", "id", id);
            done
        }
        _ => files(t, method, path, body),
    }
}

fn files(t: &mut Tables, method: &str, path: &[&str], body: &Value) -> Answer {
    let made = |id: &str| Ok((StatusCode::CREATED, json!({"id": id})));
    let done = Ok((StatusCode::NO_CONTENT, Value::Null));
    match (method, path) {
        ("POST", ["file_system"]) => {
            only(body, &["name", "nas_server_id", "size_total", "description"])?;
            let name = name(t, "file_system", body)?;
            let server = text(body, "nas_server_id");
            t.find("nas_server", "id", &server).ok_or_else(|| gone("NAS server", &server))?;
            let size = number(body, "size_total").filter(|s| *s >= FILE_SYSTEM);
            let size = size.ok_or_else(|| wrong("The size of a file system must be at least 3 GB."))?;
            let id = t.uuid();
            t.add(
                "file_system",
                json!({"id": id, "name": name, "nas_server_id": server, "size_total": size, "size_used": 0}),
            );
            made(&id)
        }
        ("PATCH", ["file_system", id]) => {
            only(body, &["size_total", "description"])?;
            merge(t.find_mut("file_system", "id", id).ok_or_else(|| gone("file system", id))?, body);
            done
        }
        ("DELETE", ["file_system", id]) => {
            t.find("file_system", "id", id).ok_or_else(|| gone("file system", id))?;
            if t.find("nfs_export", "file_system_id", id).is_some() {
                return Err(wrong("The file system has exports."));
            }
            t.remove("file_system", "id", id);
            done
        }
        ("POST", ["nfs_export"]) => {
            let lists = ["read_write_root_hosts", "read_write_hosts", "read_only_hosts", "read_only_root_hosts"];
            only(
                body,
                &[&["name", "file_system_id", "path", "default_access", "min_security", "description"], &lists[..]]
                    .concat(),
            )?;
            let (name, system) = (name(t, "nfs_export", body)?, text(body, "file_system_id"));
            let found = t.find("file_system", "id", &system).ok_or_else(|| gone("file system", &system))?;
            if !text(body, "path").starts_with(&format!("/{}", text(found, "name"))) {
                return Err(wrong("The path is not in the file system."));
            }
            let id = t.uuid();
            let mut record = body.clone();
            for list in lists {
                if record.get(list).is_none() {
                    record[list] = json!([]);
                }
            }
            (record["id"], record["name"]) = (json!(id), json!(name));
            masks(&mut record);
            t.add("nfs_export", record);
            made(&id)
        }
        ("PATCH", ["nfs_export", id]) => {
            let export = t.find_mut("nfs_export", "id", id).ok_or_else(|| gone("NFS export", id))?;
            merge(export, body);
            masks(export);
            done
        }
        ("DELETE", ["nfs_export", id]) => match t.remove("nfs_export", "id", id) {
            0 => Err(gone("NFS export", id)),
            _ => done,
        },
        _ => Err((StatusCode::NOT_FOUND, "The requested resource is not known.".into())),
    }
}

/// The array shows addresses with their mask.
fn masks(export: &mut Value) {
    for list in ["read_write_root_hosts", "read_write_hosts", "read_only_hosts", "read_only_root_hosts"] {
        for host in export[list].as_array_mut().into_iter().flatten() {
            let text = word(host);
            if !text.contains('/') {
                *host = json!(format!("{text}/255.255.255.255"));
            }
        }
    }
}

fn name(t: &Tables, table: &str, body: &Value) -> Result<String, (StatusCode, String)> {
    let name = text(body, "name");
    if name.is_empty() || name.len() > 128 {
        return Err(wrong("A name has 1 to 128 characters."));
    }
    if t.find(table, "name", &name).is_some() {
        return Err(wrong(format!("The name {name} is already in use.")));
    }
    Ok(name)
}

fn chap(initiator: &Value) -> Result<(), (StatusCode, String)> {
    let legal = (12..=64).contains(&text(initiator, "chap_single_password").len());
    if initiator.get("chap_single_password").is_none() || legal {
        return Ok(());
    }
    Err(wrong("A CHAP password has 12 to 64 characters."))
}

fn initiators(t: &Tables, wanted: &Value, host: Option<&str>) -> Result<Vec<Value>, (StatusCode, String)> {
    let mut out = Vec::new();
    for one in wanted.as_array().into_iter().flatten() {
        only(one, &["port_name", "port_type", "chap_single_username", "chap_single_password"])?;
        let name = text(one, "port_name");
        let other = t.all("host").iter().find(|h| has(h, "host_initiators.port_name", &name));
        if other.is_some() {
            return Err(wrong(format!("The initiator {name} is already registered with a host.")));
        }
        if text(one, "port_type") != "iSCSI" || !name.starts_with("iqn.") {
            return Err(wrong(format!("The initiator {name} is not valid.")));
        }
        chap(one)?;
        out.push(
            json!({"port_name": name, "port_type": "iSCSI", "chap_single_username": one.get("chap_single_username")}),
        );
    }
    if host.is_none() && out.is_empty() {
        return Err(wrong("A host needs an initiator."));
    }
    Ok(out)
}

fn copy(t: &mut Tables, id: &str, body: &Value, kind: &str) -> Answer {
    only(body, &["name", "description", "expiration_timestamp"])?;
    let mut record = t.find("volume", "id", id).cloned().ok_or_else(|| gone("volume", id))?;
    let name = name(t, "volume", body)?;
    let new = t.uuid();
    let wwn = format!("naa.68ccf09800{:022x}", t.next_number());
    merge(
        &mut record,
        &json!({
            "id": new, "name": name, "type": kind, "wwn": if kind == "Snapshot" { json!(null) } else { json!(wwn) },
            "creation_timestamp": "2026-03-01T12:00:00.000+00:00", "protection_data": {"source_id": id, "parent_id": id},
        }),
    );
    t.add("volume", record);
    Ok((StatusCode::CREATED, json!({"id": new})))
}

fn list(t: &Tables, table: &str, query: &BTreeMap<String, String>) -> Answer {
    let mut found = Vec::new();
    for record in t.all(table) {
        let mut fits = true;
        for (name, condition) in
            query.iter().filter(|(k, _)| !["select", "order", "limit", "offset"].contains(&k.as_str()))
        {
            let path = name.replace("->>", ".").replace("->", ".");
            let (verb, value) = condition
                .split_once('.')
                .ok_or_else(|| (StatusCode::BAD_REQUEST, format!("The condition {condition} is not valid.")))?;
            fits &= match verb {
                "eq" => has(record, &path, value),
                "cs" => {
                    let wanted = value.trim_matches(['{', '}']);
                    record.get(&path).and_then(Value::as_array).is_some_and(|all| all.iter().any(|v| word(v) == wanted))
                }
                _ => return Err((StatusCode::BAD_REQUEST, format!("The operator {verb} is not known."))),
            };
        }
        if !fits {
            continue;
        }
        let select = query.get("select").map_or("id", String::as_str);
        // `ip_port(target_iqn)` is an attribute of a related object.
        let fields: Vec<String> = select.split(',').map(|f| f.replace('(', ".").replace(')', "")).collect();
        found.push(project(record, &fields.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    Ok((StatusCode::OK, Value::Array(found)))
}
