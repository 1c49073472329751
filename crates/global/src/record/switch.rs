//! What a switch is, and its ports.

use std::collections::{BTreeMap, HashMap};

use crypto::Sealer;
use model::{
    Id,
    switch::{PortState, SwitchFacts, SwitchState},
    validate,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect,
    sea_query::Expr,
};
use serde_json::{Value, json};
use store::{
    Database,
    entity::{network_device, network_device_port},
    list::{Revisioned, cas},
    time,
};

use super::{RecordError, cabling, site_event};

/// `{"facts": …, "state": …}` of a discovery. What is not understood is dropped: telling it again would not help.
pub(super) async fn discovered(
    db: &Database,
    sealer: &Sealer,
    device_id: Id,
    response: &Value,
) -> Result<(), RecordError> {
    let facts = serde_json::from_value::<SwitchFacts>(response["facts"].clone());
    let state = serde_json::from_value::<SwitchState>(response["state"].clone());
    if let Some(error) = facts.as_ref().err().or(state.as_ref().err()) {
        tracing::warn!(device_id, %error, "what a switch says is not understood");
    }
    let txn = db.begin().await?;
    let Some(mut device) = network_device::Entity::find_by_id(device_id).lock_exclusive().one(&txn).await? else {
        return Ok(());
    };
    if let Ok(facts) = facts {
        device = told(&txn, device, &facts, response).await?;
        api::facts::network_device(&txn, sealer, device.id).await?;
    }
    if let Ok(state) = state {
        ports(&txn, &device, &state.ports).await?;
    }
    txn.commit().await?;
    Ok(())
}

async fn told<C: ConnectionTrait>(
    txn: &C,
    found: network_device::Model,
    facts: &SwitchFacts,
    response: &Value,
) -> Result<network_device::Model, RecordError> {
    let document = serde_json::to_value(facts).unwrap_or_default();
    let print = ["tls_fingerprint", "tlsFingerprint", "fingerprint"];
    let print = print.into_iter().find_map(|k| response.get(k).and_then(Value::as_str)).map(str::to_ascii_lowercase);
    let first = found.status == "registering";
    let mut extra = found.extra.clone();
    if let Some(map) = extra.as_object_mut() {
        map.remove("statusReason");
    }
    let pins = found.tls_fingerprint.is_none() && print.is_some();
    if found.facts == document && extra == found.extra && !first && !pins {
        return Ok(found);
    }
    let mut row = found.edit();
    row.facts = Set(document);
    row.extra = Set(extra);
    if facts.serial.is_some() {
        row.serial = Set(facts.serial.clone());
    }
    if let Some(mac) = facts.mac.as_deref().and_then(|m| validate::mac("mac", m).ok()) {
        row.mac = Set(Some(mac));
    }
    if pins {
        row.tls_fingerprint = Set(print);
    }
    if first {
        row.status = Set("active".into());
    }
    let takes_name = first
        && found.extra["overwriteWithHostnameFromFetchedSwitch"].as_bool() == Some(true)
        && validate::hostname("hostname", &facts.hostname).is_ok();
    if takes_name && free_name(txn, &found, &facts.hostname).await? {
        row.name = Set(facts.hostname.clone());
    }
    let busy = || RecordError::Busy(format!("network device {}", found.id));
    let after = cas(txn, &found, row).await?.ok_or_else(busy)?;
    let object = Some(("network_device", after.id));
    if first {
        let title = format!("Switch {} registered", after.name);
        let message = [facts.model.as_deref(), facts.os_version.as_deref()].into_iter().flatten();
        let message = message.collect::<Vec<_>>().join(", ");
        site_event(txn, after.site_id, object, "network_device.registered", "success", title, message).await?;
    }
    if !facts.hostname.is_empty() && facts.hostname != after.name && first {
        let title = format!("Switch {} calls itself {}", after.name, facts.hostname);
        let message = "Neighbours tell the switch's own name by LLDP. Give it the same name here, or cabling is found by MAC address alone.";
        site_event(txn, after.site_id, object, "network_device.name", "warning", title, message.into()).await?;
    }
    Ok(after)
}

async fn free_name<C: ConnectionTrait>(
    txn: &C,
    found: &network_device::Model,
    name: &str,
) -> Result<bool, RecordError> {
    let other = network_device::Entity::find()
        .filter(network_device::Column::SiteId.eq(found.site_id))
        .filter(network_device::Column::Name.eq(name))
        .filter(network_device::Column::Id.ne(found.id))
        .one(txn)
        .await?;
    Ok(other.is_none())
}

/// Makes the ports of a switch what was read, and follows its cables.
pub(super) async fn ports<C: ConnectionTrait>(
    txn: &C,
    device: &network_device::Model,
    seen: &BTreeMap<String, PortState>,
) -> Result<(), RecordError> {
    use network_device_port::{Column, Entity};
    let now = time::now();
    let rows = Entity::find().filter(Column::NetworkDeviceId.eq(device.id)).all(txn).await?;
    let known: HashMap<&str, &network_device_port::Model> = rows.iter().map(|p| (p.name.as_str(), p)).collect();
    if !seen.is_empty() {
        let gone: Vec<Id> = rows.iter().filter(|p| !seen.contains_key(&p.name)).map(|p| p.id).collect();
        if !gone.is_empty() {
            Entity::delete_many().filter(Column::Id.is_in(gone)).exec(txn).await?;
        }
    }
    let mut order: Vec<(&String, &PortState)> = seen.iter().collect();
    order.sort_by_key(|(name, _)| natural(name));
    for (name, port) in order {
        let lldp = port.lldp.as_ref().map_or(Value::Null, |l| json!(l));
        let tagged = json!(port.vlans.tagged);
        let mac = port.mac.as_deref().and_then(|m| validate::mac("mac", m).ok());
        let (speed, mtu) = (port.speed_mbps.map(i64::from), port.mtu.map(i64::from));
        let untagged = port.vlans.untagged.map(i64::from);
        let before = known.get(name.as_str());
        let same = before.is_some_and(|b| {
            (b.admin_up, b.oper_up, b.speed_mbps, b.mtu, b.untagged)
                == (port.admin_up, port.oper_up, speed, mtu, untagged)
                && b.mac == mac
                && b.tagged == tagged
                && b.lldp == lldp
                && b.description == port.description
        });
        if same {
            continue;
        }
        let mut row = before.map_or_else(network_device_port::new, |b| b.edit());
        row.admin_up = Set(port.admin_up);
        row.oper_up = Set(port.oper_up);
        row.speed_mbps = Set(speed);
        row.mtu = Set(mtu);
        row.mac = Set(mac);
        row.untagged = Set(untagged);
        row.tagged = Set(tagged);
        row.lldp = Set(lldp);
        row.description = Set(port.description.clone());
        row.observed_at = Set(now.clone());
        if before.is_none() {
            row.network_device_id = Set(device.id);
            row.name = Set(name.clone());
        }
        row.save(txn).await?;
    }
    Entity::update_many()
        .col_expr(Column::ObservedAt, Expr::val(now))
        .filter(Column::NetworkDeviceId.eq(device.id))
        .exec(txn)
        .await?;
    cabling::of_switch(txn, device, seen).await
}

/// `swp2` comes before `swp10`.
fn natural(name: &str) -> (String, Vec<u64>) {
    let prefix: String = name.chars().take_while(|c| !c.is_ascii_digit()).collect();
    let numbers = name.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    (prefix, numbers)
}

/// A switch that could not be asked says why.
pub(super) async fn failed(db: &Database, device_id: Id, error: &str) -> Result<(), RecordError> {
    let txn = db.begin().await?;
    let Some(found) = network_device::Entity::find_by_id(device_id).lock_exclusive().one(&txn).await? else {
        return Ok(());
    };
    if found.extra["statusReason"].as_str() == Some(error) {
        return Ok(());
    }
    let mut extra = found.extra.clone();
    if let Some(map) = extra.as_object_mut() {
        map.insert("statusReason".into(), json!(error));
    }
    let mut row = found.edit();
    row.extra = Set(extra);
    let busy = || RecordError::Busy(format!("network device {device_id}"));
    let after = cas(&txn, &found, row).await?.ok_or_else(busy)?;
    let title = format!("Switch {} could not be discovered", after.name);
    let object = Some(("network_device", device_id));
    site_event(&txn, after.site_id, object, "network_device.unreachable", "warning", title, error.to_owned()).await?;
    txn.commit().await?;
    Ok(())
}
