//! What a site sees without having been asked.

use api::{App, facts, kinds::server_health};
use model::{
    Id,
    bmc::PowerState,
    link::{Observation, Observed},
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect, sea_query::Expr};
use serde_json::json;
use store::{
    Database,
    entity::{network_device, server},
    time,
};

use super::{RecordError, certificate, server_event, stranger, switch};

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
        Observed::Fingerprint { object, id, sha256 } => {
            certificate::record(db, sealer, site_id, (object.as_str(), id), &sha256).await
        }
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
