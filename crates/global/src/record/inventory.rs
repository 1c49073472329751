//! What a server is: as its BMC says, and as it was seen from inside. Both are kept; what counts is made of them, so that the order in
//! which they arrive does not matter.

use std::collections::HashMap;

use api::facts;
use crypto::Sealer;
use model::{
    Id,
    bmc::{HardwareInventory, Nic, PowerState},
    server::ServerStatus,
    validate,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::{Map, Value, json};
use store::{
    Database,
    entity::{server, server_interface},
    list::{Revisioned, cas},
    time,
};

use super::{RecordError, cabling, server_event};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The BMC.
    Bmc,
    /// The discovery image.
    InBand,
}

/// A serial number or UUID that says something: makers leave placeholders in many boards.
pub fn meaningful(text: &str) -> Option<String> {
    let text = text.trim();
    let word = text.to_ascii_lowercase();
    let placeholder = [
        "none",
        "unknown",
        "n/a",
        "default",
        "default string",
        "not specified",
        "not available",
        "to be filled by o.e.m.",
        "system serial number",
        "03000200-0400-0500-0006-000700080009",
    ];
    let blank = word.chars().all(|c| matches!(c, '0' | '-' | ' ')) || word.chars().all(|c| matches!(c, 'f' | '-'));
    (!blank && !placeholder.contains(&word.as_str())).then(|| text.to_owned())
}

/// What counts: what a BMC knows best from it, what only the inside sees from there.
fn merged(bmc: &HardwareInventory, inside: &HardwareInventory) -> HardwareInventory {
    fn first<T: Clone>(a: &[T], b: &[T]) -> Vec<T> {
        if a.is_empty() { b.to_vec() } else { a.to_vec() }
    }
    let known: HashMap<&str, &Nic> = bmc.nics.iter().map(|n| (n.mac.as_str(), n)).collect();
    let mut nics = first(&inside.nics, &bmc.nics);
    for nic in &mut nics {
        // An interface without carrier does not know its speed; the BMC does.
        if let Some(k) = known.get(nic.mac.as_str()).filter(|_| nic.speed_mbps == 0) {
            nic.speed_mbps = k.speed_mbps;
        }
    }
    let or = |a: &Option<String>, b: &Option<String>| {
        a.as_deref().and_then(meaningful).or_else(|| b.as_deref().and_then(meaningful))
    };
    HardwareInventory {
        serial: or(&bmc.serial, &inside.serial),
        vendor: or(&bmc.vendor, &inside.vendor),
        model: or(&bmc.model, &inside.model),
        uuid: or(&bmc.uuid, &inside.uuid).map(|u| u.to_lowercase()),
        bios_version: or(&bmc.bios_version, &inside.bios_version),
        bmc_version: or(&bmc.bmc_version, &inside.bmc_version),
        bmc_mac: or(&bmc.bmc_mac, &inside.bmc_mac),
        // The operating system does not see what the firmware keeps for itself.
        memory_mib: if bmc.memory_mib > 0 { bmc.memory_mib } else { inside.memory_mib },
        processors: first(&bmc.processors, &inside.processors),
        disks: first(&inside.disks, &bmc.disks),
        nics,
        gpus: first(&bmc.gpus, &inside.gpus),
        tpm: or(&bmc.tpm, &inside.tpm),
        power: bmc.power.or(inside.power),
        consoles: bmc.consoles.clone(),
    }
}

fn cleaned(mut inventory: HardwareInventory) -> HardwareInventory {
    inventory.nics = inventory
        .nics
        .into_iter()
        .filter_map(|n| Some(Nic { mac: validate::mac("mac", &n.mac).ok()?, ..n }))
        .filter(|n| n.mac != "00:00:00:00:00:00")
        .collect();
    let mut seen = std::collections::HashSet::new();
    inventory.nics.retain(|n| seen.insert(n.mac.clone()));
    inventory
}

/// Records an inventory. One that is not understood is dropped: telling it again would not help.
pub(super) async fn record(
    db: &Database,
    sealer: &Sealer,
    server_id: Id,
    source: Source,
    response: &Value,
) -> Result<(), RecordError> {
    let body = response.get("inventory").unwrap_or(response);
    let given = match serde_json::from_value::<HardwareInventory>(body.clone()) {
        Ok(inventory) => cleaned(inventory),
        Err(error) => {
            tracing::warn!(server_id, %error, "an inventory is not understood");
            return Ok(());
        }
    };
    let print = ["tls_fingerprint", "tlsFingerprint", "fingerprint"];
    let print = print.into_iter().find_map(|k| response.get(k).and_then(Value::as_str)).map(str::to_ascii_lowercase);
    let txn = db.begin().await?;
    let Some(found) = server::Entity::find_by_id(server_id).lock_exclusive().one(&txn).await? else { return Ok(()) };
    let key = if source == Source::Bmc { "bmc" } else { "inBand" };
    let mut sources = match found.inventory.get("sources") {
        Some(Value::Object(map)) => map.clone(),
        _ => Map::new(),
    };
    let now = serde_json::to_value(&given).unwrap_or_default();
    let same = sources.get(key) == Some(&now) && (print.is_none() || found.tls_fingerprint.is_some());
    if same && interfaces_match(&txn, server_id, &found).await? {
        return Ok(());
    }
    sources.insert(key.into(), now);
    let part = |key: &str| -> HardwareInventory {
        sources.get(key).and_then(|v| serde_json::from_value(v.clone()).ok()).unwrap_or_default()
    };
    let counts = merged(&part("bmc"), &part("inBand"));
    let mut row = found.edit();
    row.serial = Set(counts.serial.clone().or_else(|| found.serial.clone()));
    row.uuid = Set(counts.uuid.clone().or_else(|| found.uuid.clone()));
    if let Some(vendor) = &counts.vendor {
        let word = api::kinds::server_wire::vendor_word(vendor);
        row.vendor = Set(Some(word.map_or_else(|| vendor.clone(), str::to_owned)));
    }
    if counts.model.is_some() {
        row.model = Set(counts.model.clone());
    }
    if let Some(mac) = counts.bmc_mac.as_deref().and_then(|m| validate::mac("mac", m).ok()) {
        row.bmc_mac = Set(Some(mac));
    }
    if found.tls_fingerprint.is_none() && print.is_some() {
        row.tls_fingerprint = Set(print);
    }
    row.ram_gb = Set(((counts.memory_mib + 512) / 1024) as i64);
    row.processor_count = Set(counts.processors.len() as i64);
    // As in a server type: the cores of one socket.
    row.core_count = Set(counts.processors.first().map_or(0, |p| i64::from(p.cores)));
    row.disk_count = Set(counts.disks.len() as i64);
    row.gpu_count = Set(counts.gpus.len() as i64);
    if let Some(power @ (PowerState::On | PowerState::Off)) = given.power {
        row.power = Set(if power == PowerState::On { "on" } else { "off" }.into());
        row.power_at = Set(time::now());
    }
    let mut document = serde_json::to_value(&counts).unwrap_or_else(|_| json!({}));
    document["sources"] = Value::Object(sources);
    row.inventory = Set(document);
    let after = cas(&txn, &found, row).await?.ok_or_else(|| RecordError::Busy(format!("server {server_id}")))?;
    let foreign = interfaces(&txn, server_id, &counts.nics).await?;
    // Told the same again, only what could not be done before is done: nobody is told twice.
    if !foreign.is_empty() && !same {
        let title = format!("Server {}: {} belong to another server", facts::server_name(&after), foreign.join(", "));
        let message =
            "Two servers report the same MAC addresses. Is one of them registered twice, under two BMC addresses?";
        server_event(&txn, &after, "server.duplicate", "warning", title, message.into(), false).await?;
    }
    cabling::of_server(&txn, &after, &counts.nics).await?;
    tell_changes(&txn, &found, &after).await?;
    hold_back(&txn, &after).await?;
    facts::server(&txn, sealer, server_id).await?;
    txn.commit().await?;
    Ok(())
}

/// What the boot image has seen of the accelerators, before the disks were erased.
pub(super) async fn gpus(db: &Database, sealer: &Sealer, server_id: Id, told: &Value) -> Result<(), RecordError> {
    if !told.is_array() {
        return Ok(());
    }
    let txn = db.begin().await?;
    let Some(found) = server::Entity::find_by_id(server_id).lock_exclusive().one(&txn).await? else { return Ok(()) };
    // Without a look from inside there is nothing to hold it against, and a part of one would be taken for the whole.
    if !found.inventory["sources"]["inBand"].is_object() || found.inventory["sources"]["inBand"]["gpus"] == *told {
        return Ok(());
    }
    let mut document = found.inventory.clone();
    document["sources"]["inBand"]["gpus"] = told.clone();
    let mut row = found.edit();
    row.inventory = Set(document);
    let after = cas(&txn, &found, row).await?.ok_or_else(|| RecordError::Busy(format!("server {server_id}")))?;
    hold_back(&txn, &after).await?;
    facts::server(&txn, sealer, server_id).await?;
    txn.commit().await?;
    Ok(())
}

/// A server whose accelerators are not well is not handed to anybody, as long as nobody has it.
async fn hold_back<C: ConnectionTrait>(txn: &C, row: &server::Model) -> Result<(), RecordError> {
    if row.status != ServerStatus::Available.as_str() {
        return Ok(());
    }
    let ill = api::gpu::ill(txn, &std::collections::BTreeSet::from([row.id])).await?.remove(&row.id);
    let Some(why) = ill else { return Ok(()) };
    let mut edit = row.edit();
    edit.status = Set(ServerStatus::Unavailable.as_str().into());
    edit.status_reason = Set(Some(why.clone()));
    let after = cas(txn, row, edit).await?.ok_or_else(|| RecordError::Busy(format!("server {}", row.id)))?;
    let title = format!("Server {} is not handed on", facts::server_name(&after));
    server_event(txn, &after, "server.gpu", "warning", title, why, false).await
}

/// Hardware that changed since the last time is worth a person's attention.
async fn tell_changes<C: ConnectionTrait>(txn: &C, a: &server::Model, b: &server::Model) -> Result<(), RecordError> {
    if a.registered_at.is_none() {
        return Ok(());
    }
    let changes: Vec<String> = [
        ("GB of memory", a.ram_gb, b.ram_gb),
        ("processors", a.processor_count, b.processor_count),
        ("disks", a.disk_count, b.disk_count),
        ("GPUs", a.gpu_count, b.gpu_count),
    ]
    .iter()
    .filter(|(_, before, after)| before != after)
    .map(|(what, before, after)| format!("{before} → {after} {what}"))
    .collect();
    if changes.is_empty() {
        return Ok(());
    }
    let title = format!("Hardware of server {} changed", facts::server_name(b));
    server_event(txn, b, "server.hardware", "warning", title, changes.join(", "), false).await
}

async fn interfaces_match<C: ConnectionTrait>(
    db: &C,
    server_id: Id,
    found: &server::Model,
) -> Result<bool, RecordError> {
    let counts: HardwareInventory = serde_json::from_value(found.inventory.clone()).unwrap_or_default();
    let rows = server_interface::Entity::find()
        .filter(server_interface::Column::ServerId.eq(server_id))
        .order_by_asc(server_interface::Column::Position)
        .all(db)
        .await?;
    let is = |(row, nic): (&server_interface::Model, &Nic)| {
        row.mac == nic.mac && row.name == nic.name && (nic.guid.is_none() || row.guid == nic.guid)
    };
    Ok(rows.len() == counts.nics.len() && rows.iter().zip(&counts.nics).all(is))
}

/// Makes the interfaces of a server what was found. Says which addresses another server has.
async fn interfaces<C: ConnectionTrait>(txn: &C, server_id: Id, nics: &[Nic]) -> Result<Vec<String>, RecordError> {
    use server_interface::{Column, Entity};
    let macs: Vec<String> = nics.iter().map(|n| n.mac.clone()).collect();
    let foreign: Vec<String> = Entity::find()
        .filter(Column::Mac.is_in(macs.clone()))
        .filter(Column::ServerId.ne(server_id))
        .all(txn)
        .await?
        .into_iter()
        .map(|i| i.mac)
        .collect();
    if !nics.is_empty() {
        let gone = Entity::delete_many().filter(Column::ServerId.eq(server_id)).filter(Column::Mac.is_not_in(macs));
        gone.exec(txn).await?;
    }
    let rows = Entity::find().filter(Column::ServerId.eq(server_id)).all(txn).await?;
    let mine: HashMap<&str, &server_interface::Model> = rows.iter().map(|i| (i.mac.as_str(), i)).collect();
    for (position, nic) in nics.iter().enumerate().filter(|(_, n)| !foreign.contains(&n.mac)) {
        let (position, speed) = (position as i64, i64::from(nic.speed_mbps));
        match mine.get(nic.mac.as_str()) {
            Some(i)
                if i.position == position
                    && i.name == nic.name
                    && i.speed_mbps == speed
                    && (nic.guid.is_none() || i.guid == nic.guid)
                    && i.link_up == nic.link_up.or(i.link_up) => {}
            Some(i) => {
                let mut row = i.edit();
                row.position = Set(position);
                row.name = Set(nic.name.clone());
                row.speed_mbps = Set(speed);
                row.link_up = Set(nic.link_up.or(i.link_up));
                if nic.guid.is_some() {
                    row.guid = Set(nic.guid.clone());
                }
                row.update(txn).await?;
            }
            None => {
                let mut row = server_interface::new();
                row.server_id = Set(server_id);
                row.position = Set(position);
                row.name = Set(nic.name.clone());
                row.mac = Set(nic.mac.clone());
                row.speed_mbps = Set(speed);
                row.link_up = Set(nic.link_up);
                row.guid = Set(nic.guid.clone());
                row.insert(txn).await?;
            }
        }
    }
    Ok(foreign)
}

/// A registration that came to nothing: the server says why, and waits for a person. An older registration than the newest is not heard.
pub(super) async fn incomplete(db: &Database, server_id: Id, group_id: Id, reason: &str) -> Result<(), RecordError> {
    let txn = db.begin().await?;
    let Some(found) = server::Entity::find_by_id(server_id).lock_exclusive().one(&txn).await? else { return Ok(()) };
    if found.extra["jobInfo"]["jobGroupId"].as_i64() != Some(group_id) {
        return Ok(());
    }
    let next = match ServerStatus::parse(&found.status) {
        Some(ServerStatus::Registering | ServerStatus::RegistrationIncomplete) => ServerStatus::RegistrationIncomplete,
        // A server in use stays what it is, whatever its BMC says.
        Some(ServerStatus::UsedRegistering) => ServerStatus::Used,
        _ => return Ok(()),
    };
    if found.status == next.as_str() && found.status_reason.as_deref() == Some(reason) {
        return Ok(());
    }
    let mut row = found.edit();
    row.status = Set(next.as_str().into());
    row.status_reason = Set(Some(reason.to_owned()));
    let after = cas(&txn, &found, row).await?.ok_or_else(|| RecordError::Busy(format!("server {server_id}")))?;
    let title = format!("Registration of server {} did not end", facts::server_name(&after));
    server_event(&txn, &after, "server.registration_incomplete", "warning", title, reason.to_owned(), false).await?;
    txn.commit().await?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop")]
mod tests {
    use super::*;

    #[test]
    fn placeholders_say_nothing() {
        for nothing in ["", " ", "0000-0000", "To Be Filled By O.E.M.", "ffffffff-ffff", "None"] {
            assert_eq!(meaningful(nothing), None, "{nothing}");
        }
        assert_eq!(meaningful(" 7XK1234 ").unwrap(), "7XK1234");
    }

    #[test]
    fn both_sources_make_one_inventory() {
        let nic = |name: &str, mac: &str, speed_mbps| Nic {
            name: name.into(),
            mac: mac.into(),
            speed_mbps,
            ..Nic::default()
        };
        let bmc = HardwareInventory {
            serial: Some("A1".into()),
            memory_mib: 262_144,
            nics: vec![nic("NIC.1", "52:54:00:00:00:01", 25_000)],
            ..HardwareInventory::default()
        };
        let inside = HardwareInventory {
            serial: Some("board".into()),
            memory_mib: 257_000,
            nics: vec![nic("eno1", "52:54:00:00:00:01", 0), nic("eno2", "52:54:00:00:00:02", 0)],
            ..HardwareInventory::default()
        };
        let counts = merged(&bmc, &inside);
        assert_eq!((counts.serial.as_deref(), counts.memory_mib), (Some("A1"), 262_144));
        assert_eq!(counts.nics.len(), 2);
        assert_eq!((counts.nics[0].name.as_str(), counts.nics[0].speed_mbps), ("eno1", 25_000));
        assert_eq!(merged(&bmc, &HardwareInventory::default()).nics, bmc.nics);
    }
}
