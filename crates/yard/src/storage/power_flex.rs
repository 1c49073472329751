//! Dell PowerFlex 4: `/rest/auth/login` for a token, `/api/types/...` and `/api/instances/...` for everything else. What it refuses it
//! answers with 500 and an error code of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use hyper::{StatusCode, header};
use serde_json::{Value, json};

use super::{
    Rest,
    tables::{Tables, at, has, merge, number, text, unknown, word},
};
use crate::{
    httpd::{Incomer, Reply},
    lock,
};

type Answer = Result<Value, (u64, String)>;

/// Kilobytes of the unit of sizes.
const UNIT: u64 = 8 << 20;

/// Error body.
pub fn error(code: u64, message: &str) -> Value {
    json!({"message": message, "httpStatusCode": 500, "errorCode": code})
}

/// A system with one pool and two NVMe targets.
pub fn factory(serial: &str, address: Ipv4Addr) -> Tables {
    let mut t = Tables::default();
    t.add("System", json!({"id": "5a7d0c0ffee0000f", "name": "yard-flex", "installId": serial, "systemVersionName": "DellEMC PowerFlex Version: R4_5.0.287"}));
    t.add(
        "StoragePool",
        json!({"id": "c0ffee0000000001", "name": "SP-1", "mediaType": "SSD", "protectionDomainId": "c0ffee00000000d1"}),
    );
    for n in 1..=2 {
        t.add(
            "Sdt",
            json!({
                "id": format!("sdt{n}"), "name": format!("sdt-{n}"), "nvmePort": 4420, "discoveryPort": 8009,
                "ipList": [{"ip": address.to_string(), "role": "StorageAndHost"}],
            }),
        );
    }
    t.all_mut("Host");
    t.all_mut("Volume");
    t
}

/// Who may use which volume.
pub fn access(t: &Tables) -> BTreeMap<String, BTreeSet<String>> {
    let of = |v: &Value| at(v, "mappedSdcInfo.nqn").into_iter().map(word).collect();
    t.all("Volume").iter().map(|v| (text(v, "name"), of(v))).collect()
}

/// Answers a request.
pub fn handle(rest: &Rest, request: &Incomer) -> Reply {
    let settings = &rest.world.config;
    let Ok(body) = request.json() else { return Reply::json(StatusCode::BAD_REQUEST, &error(0, "Invalid JSON")) };
    if request.path == "/rest/auth/login" {
        let known =
            text(&body, "username") == settings.array_user && text(&body, "password") == settings.array_password.0;
        if !known {
            return Reply::json(StatusCode::UNAUTHORIZED, &error(0, "Invalid user or password"));
        }
        let token = format!("yard-bearer-{}", lock(&rest.array.state).next_number());
        lock(&rest.array.sessions).insert(token.clone());
        return Reply::json(StatusCode::OK, &json!({"access_token": token, "expires_in": 300, "token_type": "Bearer"}));
    }
    let token = request.header(header::AUTHORIZATION.as_str()).and_then(|a| a.strip_prefix("Bearer "));
    if !token.is_some_and(|token| lock(&rest.array.sessions).contains(token)) {
        return Reply::json(StatusCode::UNAUTHORIZED, &error(0, "Unauthorized"));
    }
    let Some(path) = request.path.strip_prefix("/api/") else {
        return Reply::json(StatusCode::NOT_FOUND, &error(0, "Not found"));
    };
    let parts: Vec<&str> = path.split('/').collect();
    match answer(&mut lock(&rest.array.state), request.method.as_str(), &parts, &body) {
        Ok(body) => Reply::json(StatusCode::OK, &body),
        Err((code, message)) => Reply::json(StatusCode::INTERNAL_SERVER_ERROR, &error(code, &message)),
    }
}

fn no<T>(code: u64, message: &str) -> Result<T, (u64, String)> {
    Err((code, message.to_owned()))
}

fn only(body: &Value, known: &[&str]) -> Result<(), (u64, String)> {
    unknown(body, known).map_or(Ok(()), |name| Err((3, format!("Unrecognized field \"{name}\""))))
}

fn new_name(t: &Tables, name: &str) -> Result<(), (u64, String)> {
    if name.is_empty() || name.len() > 31 {
        return no(80, "The name must have 1 to 31 characters");
    }
    if t.find("Volume", "name", name).is_some() {
        return no(6, "Volume name already in use. Please use a different name.");
    }
    Ok(())
}

fn answer(t: &mut Tables, method: &str, path: &[&str], body: &Value) -> Answer {
    let missing = || (79u64, "Could not find the volume".to_owned());
    match (method, path) {
        ("GET", ["types", kind @ ("System" | "StoragePool" | "Sdt" | "Host" | "Volume"), "instances"]) => {
            Ok(Value::Array(t.all(kind).to_vec()))
        }
        ("GET", ["instances", pool, "relationships", "Statistics"]) => {
            let id = pool.strip_prefix("StoragePool::").unwrap_or_default();
            t.find("StoragePool", "id", id).ok_or_else(|| (79, "Could not find the storage pool".to_owned()))?;
            Ok(json!({"maxCapacityInKb": 60u64 << 30, "capacityInUseInKb": 3u64 << 30}))
        }
        ("GET", ["instances", volume]) => {
            let id = volume.strip_prefix("Volume::").unwrap_or_default();
            t.find("Volume", "id", id).cloned().ok_or_else(missing)
        }
        ("POST", ["types", "Volume", "instances", "action", "queryIdByKey"]) => {
            t.find("Volume", "name", &text(body, "name")).map(|v| v["id"].clone()).ok_or_else(missing)
        }
        ("POST", ["types", "Volume", "instances"]) => {
            only(body, &["name", "volumeSizeInKb", "volumeType", "storagePoolId"])?;
            let name = text(body, "name");
            new_name(t, &name)?;
            let size = body["volumeSizeInKb"].as_str().and_then(|s| s.parse::<u64>().ok()).unwrap_or(0);
            if size == 0 || !size.is_multiple_of(UNIT) {
                return no(2, "The volume size must be a multiple of 8 GB");
            }
            if t.find("StoragePool", "id", &text(body, "storagePoolId")).is_none() {
                return no(79, "Could not find the storage pool");
            }
            let id = format!("f10c{:012x}", t.next_number());
            t.add("Volume", json!({
                "id": id, "name": name, "sizeInKb": size, "volumeType": "ThinProvisioned", "ancestorVolumeId": null, "mappedSdcInfo": null,
                "creationTime": 1_772_366_400, "storagePoolId": body["storagePoolId"],
            }));
            Ok(json!({"id": id}))
        }
        ("POST", ["types", "Host", "instances"]) => {
            only(body, &["name", "nqn", "maxNumPaths", "maxNumSysPorts"])?;
            let nqn = text(body, "nqn");
            if !nqn.starts_with("nqn.") || text(body, "name").len() > 31 {
                return no(1, "The NQN or the name of the host is not valid");
            }
            if t.find("Host", "nqn", &nqn).is_some() {
                return no(1006, "A host with this NQN exists already");
            }
            let id = format!("ab0c{:012x}", t.next_number());
            t.add("Host", json!({"id": id, "name": body["name"], "nqn": nqn, "hostType": "NVMeHost"}));
            Ok(json!({"id": id}))
        }
        ("POST", ["instances", system, "action", "snapshotVolumes"]) if system.starts_with("System::") => {
            let mut ids = Vec::new();
            for one in body["snapshotDefs"].as_array().into_iter().flatten() {
                let (source, name) = (text(one, "volumeId"), text(one, "snapshotName"));
                new_name(t, &name)?;
                let mut copy = t.find("Volume", "id", &source).cloned().ok_or_else(missing)?;
                let id = format!("f10c{:012x}", t.next_number());
                merge(
                    &mut copy,
                    &json!({"id": id, "name": name, "ancestorVolumeId": source, "mappedSdcInfo": null, "volumeType": "Snapshot"}),
                );
                t.add("Volume", copy);
                ids.push(id);
            }
            Ok(json!({"volumeIdList": ids, "snapshotGroupId": "c0ffee"}))
        }
        ("POST", ["instances", volume, "action", action]) => {
            let id = volume.strip_prefix("Volume::").unwrap_or_default().to_owned();
            volume_action(t, &id, action, body)
        }
        _ => no(0, "Unsupported method or resource"),
    }
}

fn volume_action(t: &mut Tables, id: &str, action: &str, body: &Value) -> Answer {
    let volume = t.find("Volume", "id", id).cloned().ok_or_else(|| (79u64, "Could not find the volume".to_owned()))?;
    let mut maps = volume["mappedSdcInfo"].as_array().cloned().unwrap_or_default();
    let change = match action {
        "setVolumeSize" => {
            only(body, &["sizeInGB"])?;
            let size = body["sizeInGB"].as_str().and_then(|s| s.parse::<u64>().ok()).unwrap_or(0) << 20;
            if Some(size) < number(&volume, "sizeInKb") || !size.is_multiple_of(UNIT) {
                return no(2, "The new size must be larger, and a multiple of 8 GB");
            }
            json!({"sizeInKb": size})
        }
        "addMappedHost" => {
            only(body, &["hostId", "allowMultipleMappings"])?;
            let host = t.find("Host", "id", &text(body, "hostId")).cloned();
            let host = host.ok_or_else(|| (79, "Could not find the host".to_owned()))?;
            if maps.iter().any(|m| has(m, "hostId", &text(&host, "id"))) {
                return no(306, "The volume is already mapped to this host");
            }
            if !maps.is_empty() && text(body, "allowMultipleMappings") != "TRUE" {
                return no(308, "The volume is mapped; allowMultipleMappings is needed");
            }
            maps.push(json!({"hostId": host["id"], "nqn": host["nqn"], "hostType": "NVMeHost"}));
            json!({"mappedSdcInfo": maps})
        }
        "removeMappedHost" => {
            let before = maps.len();
            maps.retain(|m| !has(m, "hostId", &text(body, "hostId")));
            if maps.len() == before {
                return no(4, "The volume is not mapped to this host");
            }
            json!({"mappedSdcInfo": maps})
        }
        "removeVolume" => {
            if text(body, "removeMode") != "ONLY_ME" {
                return no(1, "The remove mode is not valid");
            }
            if !maps.is_empty() {
                return no(311, "The volume is mapped; unmap it first");
            }
            t.remove("Volume", "id", id);
            return Ok(json!({}));
        }
        "overwriteVolumeContent" => {
            let source = t.find("Volume", "id", &text(body, "srcVolumeId")).cloned();
            let source = source.ok_or_else(|| (79, "Could not find the source volume".to_owned()))?;
            json!({"restored": source["name"]})
        }
        _ => return no(0, "Unsupported action"),
    };
    if let Some(volume) = t.find_mut("Volume", "id", id) {
        merge(volume, &change);
    }
    Ok(json!({}))
}
