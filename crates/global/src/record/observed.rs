//! What a site sees without having been asked.

use api::{App, facts, kinds::server_health};
use crypto::Sealer;
use model::{
    Id,
    bmc::PowerState,
    link::{Observation, Observed},
};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect, sea_query::Expr};
use serde_json::{Value, json};
use store::{
    Database,
    entity::{network_device, server},
    list::{Revisioned, cas},
    time,
};

use super::{RecordError, server_event, site_event, storage, stranger, switch};

pub(super) async fn record(app: &App, site_id: Id, observation: Observation) -> Result<(), RecordError> {
    let (db, sealer) = (app.db(), app.sealer());
    match observation.what {
        Observed::Power { server_id, power: state } => {
            let word = match state {
                PowerState::On => "on",
                PowerState::Off => "off",
                PowerState::Unknown => "unknown",
            };
            power(&db.write, server_id, Some(site_id), word).await
        }
        Observed::Bmc { server_id, error } => bmc(db, site_id, server_id, error, &observation.at).await,
        Observed::Switch { network_device_id, state } => {
            let txn = db.begin().await?;
            let found = network_device::Entity::find_by_id(network_device_id).lock_exclusive().one(&txn).await?;
            let Some(device) = found.filter(|d| d.site_id == site_id) else { return Ok(()) };
            switch::ports(&txn, &device, &state.ports).await?;
            txn.commit().await?;
            Ok(())
        }
        Observed::Fingerprint { object, id, sha256 } => match object.as_str() {
            "server" => server_certificate(db, sealer, site_id, id, &sha256).await,
            "storage" => storage::certificate(db, sealer, site_id, id, &sha256).await,
            "network_device" => switch_certificate(db, sealer, site_id, id, &sha256).await,
            _ => Ok(()),
        },
        Observed::UnknownMachine { mac, address, circuit_id, vendor_class } => {
            let seen = stranger::Seen { mac, address, circuit_id, vendor_class };
            stranger::record(app, site_id, seen, &observation.at).await
        }
        Observed::Health { server_id, health } => {
            server_health::heard(app, Some(site_id), server_id, &health).await.map_err(RecordError::rows)
        }
        Observed::HardwareLog { server_id, entries, dropped } => {
            server_health::log(app, site_id, server_id, &entries, dropped).await.map_err(RecordError::rows)
        }
        Observed::OsUp { server_id } => {
            let txn = db.begin().await?;
            let Some(row) = of_site(&txn, site_id, server_id).await? else { return Ok(()) };
            let title = format!("The operating system of server {} is up", facts::server_name(&row));
            server_event(&txn, &row, "server.os_up", "info", title, String::new(), true).await?;
            txn.commit().await?;
            Ok(())
        }
    }
}

async fn of_site<C: ConnectionTrait>(db: &C, site_id: Id, id: Id) -> Result<Option<server::Model>, RecordError> {
    Ok(server::Entity::find_by_id(id).lock_exclusive().one(db).await?.filter(|s| s.site_id == site_id))
}

/// The power of a server. It is no change of the object: its revision stays, so that nobody who edits it is disturbed.
pub(super) async fn power<C: ConnectionTrait>(
    db: &C,
    server_id: Id,
    site_id: Option<Id>,
    word: &str,
) -> Result<(), RecordError> {
    let mut update = server::Entity::update_many()
        .col_expr(server::Column::Power, Expr::val(word))
        .col_expr(server::Column::PowerAt, Expr::val(time::now()))
        .filter(server::Column::Id.eq(server_id));
    if let Some(site_id) = site_id {
        update = update.filter(server::Column::SiteId.eq(site_id));
    }
    update.exec(db).await?;
    Ok(())
}

/// A BMC that cannot be reached, or can be again: one event a turn.
async fn bmc(db: &Database, site_id: Id, server_id: Id, error: Option<String>, at: &str) -> Result<(), RecordError> {
    let txn = db.begin().await?;
    let Some(found) = of_site(&txn, site_id, server_id).await? else { return Ok(()) };
    let before = found.extra.get("bmcError").filter(|v| !v.is_null());
    if before.and_then(|b| b["message"].as_str()) == error.as_deref() {
        return Ok(());
    }
    let was_unreachable = before.is_some();
    let mut extra = found.extra.clone();
    if let Some(map) = extra.as_object_mut() {
        match &error {
            Some(words) => {
                let since = before.map_or(json!(at), |b| b["since"].clone());
                map.insert("bmcError".into(), json!({"message": words, "since": since}))
            }
            None => map.remove("bmcError"),
        };
    }
    // A note about health: the revision stays.
    server::Entity::update_many()
        .col_expr(server::Column::Extra, Expr::val(extra))
        .filter(server::Column::Id.eq(server_id))
        .exec(&txn)
        .await?;
    let name = facts::server_name(&found);
    match error {
        Some(words) if !was_unreachable => {
            let title = format!("The BMC of server {name} cannot be reached");
            server_event(&txn, &found, "server.bmc_unreachable", "warning", title, words, false).await?;
        }
        None if was_unreachable => {
            let title = format!("The BMC of server {name} can be reached again");
            server_event(&txn, &found, "server.bmc_reachable", "success", title, String::new(), false).await?;
        }
        _ => {}
    }
    txn.commit().await?;
    Ok(())
}

const CHANGED: &str = "Nothing is sent there until a person has looked. If the certificate was renewed, trust it with the action trust-certificate; else find out who answers at that address.";

/// With the certificate that was shown, for a person to compare and to trust.
fn with_shown(extra: &Value, sha256: &str) -> Value {
    let mut map = extra.as_object().cloned().unwrap_or_default();
    map.insert("shownFingerprint".into(), json!(sha256));
    Value::Object(map)
}

async fn server_certificate(
    db: &Database,
    sealer: &Sealer,
    site_id: Id,
    id: Id,
    sha256: &str,
) -> Result<(), RecordError> {
    let sha256 = sha256.to_ascii_lowercase();
    let txn = db.begin().await?;
    let Some(found) = of_site(&txn, site_id, id).await? else { return Ok(()) };
    match found.tls_fingerprint.as_deref() {
        Some(pinned) if pinned == sha256 => return Ok(()),
        Some(_) if found.extra["shownFingerprint"] == sha256.as_str() => return Ok(()),
        Some(_) => {
            // A note: the revision stays.
            server::Entity::update_many()
                .col_expr(server::Column::Extra, Expr::val(with_shown(&found.extra, &sha256)))
                .filter(server::Column::Id.eq(id))
                .exec(&txn)
                .await?;
            let title = format!("The BMC of server {} shows another certificate", facts::server_name(&found));
            server_event(&txn, &found, "server.certificate", "security", title, CHANGED.into(), false).await?;
        }
        None => {
            let mut row = found.edit();
            row.tls_fingerprint = Set(Some(sha256));
            cas(&txn, &found, row).await?.ok_or_else(|| RecordError::Busy(format!("server {id}")))?;
            facts::server(&txn, sealer, id).await?;
        }
    }
    txn.commit().await?;
    Ok(())
}

async fn switch_certificate(
    db: &Database,
    sealer: &Sealer,
    site_id: Id,
    id: Id,
    sha256: &str,
) -> Result<(), RecordError> {
    let sha256 = sha256.to_ascii_lowercase();
    let txn = db.begin().await?;
    let found = network_device::Entity::find_by_id(id).lock_exclusive().one(&txn).await?;
    let Some(found) = found.filter(|d| d.site_id == site_id) else { return Ok(()) };
    match found.tls_fingerprint.as_deref() {
        Some(pinned) if pinned == sha256 => return Ok(()),
        Some(_) if found.extra["shownFingerprint"] == sha256.as_str() => return Ok(()),
        Some(_) => {
            network_device::Entity::update_many()
                .col_expr(network_device::Column::Extra, Expr::val(with_shown(&found.extra, &sha256)))
                .filter(network_device::Column::Id.eq(id))
                .exec(&txn)
                .await?;
            let title = format!("Switch {} shows another certificate", found.name);
            let object = Some(("network_device", id));
            site_event(&txn, site_id, object, "network_device.certificate", "security", title, CHANGED.into()).await?;
        }
        None => {
            let mut row = found.edit();
            row.tls_fingerprint = Set(Some(sha256));
            cas(&txn, &found, row).await?.ok_or_else(|| RecordError::Busy(format!("network device {id}")))?;
            facts::network_device(&txn, sealer, id).await?;
        }
    }
    txn.commit().await?;
    Ok(())
}
