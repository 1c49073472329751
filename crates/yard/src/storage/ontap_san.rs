//! ONTAP's protocols: igroups, LUN maps, CHAP credentials, export policies, S3 users and buckets.

use std::collections::BTreeMap;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    ontap::{Done, SMALLEST_BUCKET, duplicate, missing, only, queued, refuse, svm},
    tables::{Tables, has, number, text},
};

const IGROUPS: &str = "/api/protocols/san/igroups";
const MAPS: &str = "/api/protocols/san/lun-maps";
const CREDENTIALS: &str = "/api/protocols/san/iscsi/credentials";
const POLICIES: &str = "/api/protocols/nfs/export-policies";
const BUCKETS: &str = "/api/protocols/s3/buckets";

fn iqn(name: &str) -> bool {
    name.len() <= 96 && (name.starts_with("iqn.") || name.starts_with("eui.")) && !name.contains(char::is_whitespace)
}

/// Initiator groups, maps and credentials.
pub fn answer(t: &mut Tables, method: &Method, path: &[&str], query: &BTreeMap<String, String>, body: &Value) -> Done {
    match (method.as_str(), path) {
        ("POST", ["igroups"]) => {
            only(body, &["name", "svm", "os_type", "protocol", "comment", "initiators"])?;
            let svm = svm(t, body)?;
            let name = text(body, "name");
            if name.is_empty() || name.len() > 96 {
                return Err(refuse(StatusCode::BAD_REQUEST, 5_374_739, "An igroup name has 1 to 96 characters."));
            }
            if t.find(IGROUPS, "name", &name).is_some() {
                return Err(refuse(
                    StatusCode::CONFLICT,
                    5_374_883,
                    format!("The initiator group \"{name}\" already exists."),
                ));
            }
            for initiator in super::tables::at(body, "initiators.name") {
                let name = super::tables::word(initiator);
                if !iqn(&name) {
                    return Err(refuse(
                        StatusCode::BAD_REQUEST,
                        5_374_740,
                        format!("Invalid initiator name \"{name}\"."),
                    ));
                }
            }
            let uuid = t.uuid();
            let mut record = body.clone();
            (record["uuid"], record["svm"]) = (json!(uuid), svm);
            t.add(IGROUPS, record);
            Ok((StatusCode::CREATED, json!({})))
        }
        ("DELETE", ["igroups", uuid]) => {
            if t.find(MAPS, "igroup.uuid", uuid).is_some()
                && query.get("allow_delete_while_mapped").is_none_or(|v| v != "true")
            {
                return Err(refuse(StatusCode::CONFLICT, 5_374_760, "The initiator group is mapped to a LUN."));
            }
            t.remove(MAPS, "igroup.uuid", uuid);
            if t.remove(IGROUPS, "uuid", uuid) == 0 { Err(missing()) } else { Ok((StatusCode::OK, json!({}))) }
        }
        ("POST", ["igroups", uuid, "initiators"]) => {
            only(body, &["name", "comment"])?;
            let name = text(body, "name");
            let igroup = t.find_mut(IGROUPS, "uuid", uuid).ok_or_else(missing)?;
            if !iqn(&name) || has(igroup, "initiators.name", &name) {
                return Err(refuse(StatusCode::BAD_REQUEST, 5_374_740, format!("Invalid initiator name \"{name}\".")));
            }
            if let Some(all) = igroup["initiators"].as_array_mut() {
                all.push(json!({"name": name}));
            }
            Ok((StatusCode::CREATED, json!({})))
        }
        ("DELETE", ["igroups", uuid, "initiators", name]) => {
            let igroup = t.find_mut(IGROUPS, "uuid", uuid).ok_or_else(missing)?;
            if let Some(all) = igroup["initiators"].as_array_mut() {
                all.retain(|i| !has(i, "name", name));
            }
            Ok((StatusCode::OK, json!({})))
        }
        ("POST", ["lun-maps"]) => map(t, body),
        ("DELETE", ["lun-maps", lun, igroup]) => {
            let before = t.all(MAPS).len();
            t.all_mut(MAPS).retain(|m| !(has(m, "lun.uuid", lun) && has(m, "igroup.uuid", igroup)));
            if t.all(MAPS).len() == before { Err(missing()) } else { Ok((StatusCode::OK, json!({}))) }
        }
        ("POST", ["iscsi", "credentials"]) => {
            only(body, &["svm", "initiator", "authentication_type", "chap"])?;
            let svm = svm(t, body)?;
            let initiator = text(body, "initiator");
            if t.find(CREDENTIALS, "initiator", &initiator).is_some() {
                return Err(duplicate(&initiator));
            }
            secret(body)?;
            t.add(
                CREDENTIALS,
                json!({
                    "svm": svm, "initiator": initiator, "authentication_type": body["authentication_type"],
                    "chap": {"inbound": {"user": text(body, "chap.inbound.user")}}, "kept": text(body, "chap.inbound.password"),
                }),
            );
            Ok((StatusCode::CREATED, json!({})))
        }
        ("PATCH", ["iscsi", "credentials", _, initiator]) => {
            only(body, &["authentication_type", "chap"])?;
            secret(body)?;
            let record = t.find_mut(CREDENTIALS, "initiator", initiator).ok_or_else(missing)?;
            record["chap"] = json!({"inbound": {"user": text(body, "chap.inbound.user")}});
            record["kept"] = text(body, "chap.inbound.password").into();
            Ok((StatusCode::OK, json!({})))
        }
        _ => Err(refuse(StatusCode::NOT_FOUND, 3, "API not found")),
    }
}

fn secret(body: &Value) -> Result<(), (StatusCode, u64, String, Option<&'static str>)> {
    let length = text(body, "chap.inbound.password").len();
    if (12..=16).contains(&length) {
        return Ok(());
    }
    Err(refuse(StatusCode::BAD_REQUEST, 5_374_148, "The password must be 12 to 16 characters long."))
}

fn map(t: &mut Tables, body: &Value) -> Done {
    only(body, &["svm", "lun", "igroup", "logical_unit_number"])?;
    let svm = svm(t, body)?;
    let (lun, igroup) = (text(body, "lun.name"), text(body, "igroup.name"));
    let lun = t.find("/api/storage/luns", "name", &lun).cloned();
    let lun = lun.ok_or_else(|| refuse(StatusCode::BAD_REQUEST, 5_374_875, "The specified LUN does not exist."))?;
    let igroup = t.find(IGROUPS, "name", &igroup).cloned();
    let igroup = igroup
        .ok_or_else(|| refuse(StatusCode::BAD_REQUEST, 5_374_852, "The specified initiator group does not exist."))?;
    let (lun_name, who) = (
        text(&lun, "name"),
        super::tables::at(&igroup, "initiators.name").into_iter().map(super::tables::word).collect::<Vec<_>>(),
    );
    let mut taken = Vec::new();
    for other in t.all(MAPS) {
        let shares = t
            .find(IGROUPS, "name", &text(other, "igroup.name"))
            .is_some_and(|g| who.iter().any(|w| has(g, "initiators.name", w)));
        if shares && has(other, "lun.name", &lun_name) {
            return Err(refuse(
                StatusCode::CONFLICT,
                5_374_922,
                "LUN already mapped to this group, or to an initiator of it.",
            ));
        }
        if shares {
            taken.extend(number(other, "logical_unit_number"));
        }
    }
    let free = (0..4096u64).find(|n| !taken.contains(n)).unwrap_or(0);
    t.add(MAPS, json!({
        "svm": svm, "lun": {"name": lun_name, "uuid": lun["uuid"]}, "igroup": {"name": igroup["name"], "uuid": igroup["uuid"]},
        "logical_unit_number": free,
    }));
    Ok((StatusCode::CREATED, json!({})))
}

/// Export policies and their rules.
pub fn policy(t: &mut Tables, method: &Method, path: &[&str], body: &Value) -> Done {
    match (method.as_str(), path) {
        ("POST", []) => {
            only(body, &["name", "svm", "rules"])?;
            let (svm, name) = (svm(t, body)?, text(body, "name"));
            if t.find(POLICIES, "name", &name).is_some() {
                return Err(duplicate(&name));
            }
            let id = 8_589_934_592 + t.next_number();
            t.add(POLICIES, json!({"name": name, "id": id, "svm": svm, "rules": []}));
            Ok((StatusCode::CREATED, json!({})))
        }
        ("DELETE", [id]) => {
            let name = t.find(POLICIES, "id", id).map(|p| text(p, "name")).ok_or_else(missing)?;
            if t.find("/api/storage/volumes", "nas.export_policy.name", &name).is_some() {
                return Err(refuse(StatusCode::CONFLICT, 1_703_945, "The export policy is in use by a volume."));
            }
            t.remove(POLICIES, "id", id);
            Ok((StatusCode::OK, json!({})))
        }
        ("POST", [id, "rules"]) => {
            only(body, &["clients", "protocols", "ro_rule", "rw_rule", "superuser", "anonymous_user"])?;
            let policy = t.find_mut(POLICIES, "id", id).ok_or_else(missing)?;
            let rules = policy["rules"].as_array_mut().ok_or_else(missing)?;
            for field in ["clients", "ro_rule", "rw_rule"] {
                if body.get(field).and_then(Value::as_array).is_none_or(Vec::is_empty) {
                    return Err(refuse(
                        StatusCode::BAD_REQUEST,
                        1_703_954,
                        format!("The field \"{field}\" is required."),
                    ));
                }
            }
            let mut rule = body.clone();
            rule["index"] = json!(rules.len() + 1);
            rules.push(rule);
            Ok((StatusCode::CREATED, json!({})))
        }
        ("DELETE", [id, "rules", index]) => {
            let policy = t.find_mut(POLICIES, "id", id).ok_or_else(missing)?;
            let rules = policy["rules"].as_array_mut().ok_or_else(missing)?;
            let place = rules.iter().position(|r| has(r, "index", index)).ok_or_else(missing)?;
            rules.remove(place);
            for (n, rule) in rules.iter_mut().enumerate() {
                rule["index"] = json!(n + 1);
            }
            Ok((StatusCode::OK, json!({})))
        }
        _ => Err(refuse(StatusCode::NOT_FOUND, 3, "API not found")),
    }
}

/// Users and buckets.
pub fn s3(t: &mut Tables, method: &Method, path: &[&str], query: &BTreeMap<String, String>, body: &Value) -> Done {
    match (method.as_str(), path) {
        ("POST", ["services", svm, "users"]) => {
            only(body, &["name", "comment", "key_time_to_live"])?;
            let (table, name) = (format!("users {svm}"), text(body, "name"));
            if t.find(&table, "name", &name).is_some() {
                return Err(duplicate(&name));
            }
            let keys = keys(t, &name);
            t.add(&table, json!({"name": name, "access_key": keys["access_key"]}));
            Ok((StatusCode::CREATED, json!({"num_records": 1, "records": [keys]})))
        }
        ("PATCH", ["services", svm, "users", name]) => {
            let keys = keys(t, name);
            let user = t.find_mut(&format!("users {svm}"), "name", name).ok_or_else(missing)?;
            if query.get("regenerate_keys").is_none_or(|v| v != "true") {
                return Ok((StatusCode::OK, json!({})));
            }
            user["access_key"] = keys["access_key"].clone();
            Ok((StatusCode::OK, json!({"num_records": 1, "records": [keys]})))
        }
        ("DELETE", ["services", svm, "users", name]) => match t.remove(&format!("users {svm}"), "name", name) {
            0 => Err(missing()),
            _ => Ok((StatusCode::OK, json!({}))),
        },
        ("POST", ["buckets"]) => {
            only(body, &["name", "svm", "size", "comment", "policy"])?;
            let (svm, name) = (svm(t, body)?, text(body, "name"));
            let legal = (3..=63).contains(&name.len())
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.');
            if !legal {
                return Err(refuse(StatusCode::BAD_REQUEST, 92_405_777, format!("Invalid bucket name \"{name}\".")));
            }
            if t.find(BUCKETS, "name", &name).is_some() {
                return Err(duplicate(&name));
            }
            if number(body, "size").is_none_or(|s| s < SMALLEST_BUCKET) {
                return Err(refuse(StatusCode::BAD_REQUEST, 92_405_789, "The minimum size of a bucket is 190MB."));
            }
            let mut record = body.clone();
            (record["svm"], record["uuid"], record["logical_used_size"]) = (svm, json!(t.uuid()), json!(0));
            Ok(queued(t, json!({"what": "add", "table": BUCKETS, "record": record})))
        }
        ("PATCH", ["buckets", _, uuid]) => {
            only(body, &["size", "comment", "policy"])?;
            t.find(BUCKETS, "uuid", uuid).ok_or_else(missing)?;
            Ok(queued(t, json!({"what": "merge", "table": BUCKETS, "uuid": uuid, "record": body})))
        }
        ("DELETE", ["buckets", _, uuid]) => {
            t.find(BUCKETS, "uuid", uuid).ok_or_else(missing)?;
            Ok(queued(t, json!({"what": "remove", "table": BUCKETS, "uuid": uuid})))
        }
        _ => Err(refuse(StatusCode::NOT_FOUND, 3, "API not found")),
    }
}

fn keys(t: &mut Tables, name: &str) -> Value {
    let n = t.next_number();
    json!({"name": name, "access_key": format!("YARDACCESS{n:010}"), "secret_key": format!("yardsecret{n:020}")})
}
