//! What sites report of firmware becomes rows: parts, versions, ends of updates. Each part is idempotent, because each may be told twice.

use std::collections::HashSet;

use engine::entity::job;
use model::{
    Id,
    firmware::{Inventory, Sensors, ServerFirmwareUpdate, Updated},
    health::{HealthState, Problem, ServerHealth},
    server::{By, ServerStatus},
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    QuerySelect, sea_query::Expr,
};
use serde_json::{Map, Value, json};
use store::{
    entity::{server, server_component},
    event::{self, NewEvent},
    list::{Revisioned, cas},
    time,
};

use super::{
    firmware_campaign_run,
    firmware_match::Offer,
    firmware_upgrade::{FROM, GROUP, holders_of, owner_account, parts_of},
};
use crate::{App, error::ApiError, facts};

/// Parts of one server, at most.
const PARTS: usize = 512;

/// Compares parts of servers with what catalogs have.
pub async fn refresh<C: ConnectionTrait>(db: &C, servers: &[server::Model]) -> Result<(), ApiError> {
    let offer = Offer::load(db, None).await?;
    let parts = parts_of(db, &servers.iter().map(|s| s.id).collect::<Vec<_>>()).await?;
    for s in servers {
        for part in parts.get(&s.id).into_iter().flatten() {
            let newer: Map<String, Value> = offer.newer(s, part).into_iter().collect();
            let newer = Value::Object(newer);
            if newer == part.available_versions {
                continue;
            }
            let mut row = server_component::ActiveModel { id: Set(part.id), ..Default::default() };
            row.available_versions = Set(newer);
            row.updated_at = Set(time::now());
            row.update(db).await?;
        }
    }
    Ok(())
}

/// The firmware of a server, as its BMC told: parts come, change and go.
pub async fn inventory(app: &App, server_id: Id, response: &Value) -> Result<(), ApiError> {
    let Ok(found) = serde_json::from_value::<Inventory>(response.clone()) else {
        tracing::warn!(server_id, "a firmware inventory is not understood");
        return Ok(());
    };
    let txn = app.db().begin().await?;
    let Some(of) = server::Entity::find_by_id(server_id).lock_exclusive().one(&txn).await? else { return Ok(()) };
    let known = parts_of(&txn, &[server_id]).await?.remove(&server_id).unwrap_or_default();
    let mut seen = HashSet::new();
    for part in found.components.iter().take(PARTS) {
        seen.insert(part.id.as_str());
        let info =
            json!({"softwareId": part.software_id, "manufacturer": part.manufacturer, "releaseDate": part.released});
        match known.iter().find(|k| k.external_id == part.id) {
            Some(k) => {
                let same = k.name == part.name
                    && k.kind == part.kind
                    && k.firmware_version == part.version
                    && k.firmware_updateable == part.updateable
                    && k.info == info;
                if same {
                    continue;
                }
                let mut row = k.edit();
                row.name = Set(part.name.clone());
                row.kind = Set(part.kind.clone());
                row.firmware_version = Set(part.version.clone());
                row.firmware_updateable = Set(part.updateable);
                row.info = Set(info);
                if k.firmware_version.is_some() && k.firmware_version != part.version {
                    row.firmware_update_timestamp = Set(Some(time::now()));
                }
                if k.firmware_target_version.is_some() && k.firmware_target_version == part.version {
                    row.firmware_target_version = Set(None);
                }
                row.update(&txn).await?;
            }
            None => {
                let mut row = server_component::new();
                row.server_id = Set(server_id);
                row.external_id = Set(part.id.clone());
                row.name = Set(part.name.clone());
                row.kind = Set(part.kind.clone());
                row.firmware_version = Set(part.version.clone());
                row.firmware_updateable = Set(part.updateable);
                row.available_versions = Set(json!({}));
                row.info = Set(info);
                row.needs_confirmation = Set(false);
                row.firmware_status = Set("available".into());
                row.insert(&txn).await?;
            }
        }
    }
    let gone: Vec<Id> = known.iter().filter(|k| !seen.contains(k.external_id.as_str())).map(|k| k.id).collect();
    // An empty answer is a BMC that starts, not a server without parts.
    if !gone.is_empty() && !seen.is_empty() {
        server_component::Entity::delete_many().filter(server_component::Column::Id.is_in(gone)).exec(&txn).await?;
    }
    // How it takes images is a note about the BMC: the revision stays, so that nobody who edits the server is disturbed.
    let mut extra = of.extra.as_object().cloned().unwrap_or_default();
    extra.insert("firmware".into(), json!({"methods": found.methods, "holdsBack": found.holds_back}));
    server::Entity::update_many()
        .col_expr(server::Column::Extra, Expr::value(Value::Object(extra)))
        .filter(server::Column::Id.eq(server_id))
        .exec(&txn)
        .await?;
    refresh(&txn, &[of]).await?;
    txn.commit().await?;
    Ok(())
}

async fn part_of_job<C: ConnectionTrait>(
    db: &C,
    job: &job::Model,
) -> Result<Option<(ServerFirmwareUpdate, server_component::Model)>, ApiError> {
    let Ok(order) = serde_json::from_value::<ServerFirmwareUpdate>(job.payload.clone()) else { return Ok(None) };
    let part = server_component::Entity::find()
        .filter(server_component::Column::ServerId.eq(order.server_id))
        .filter(server_component::Column::ExternalId.eq(&order.component))
        .one(db)
        .await?;
    Ok(part.map(|p| (order, p)))
}

pub(super) async fn tell(
    txn: &DatabaseTransaction,
    of: &server::Model,
    kind: &str,
    severity: &str,
    title: String,
    message: String,
) -> Result<(), ApiError> {
    let holder = holders_of(txn, &[of.id]).await?.remove(&of.id);
    let account_id = owner_account(txn, holder.as_ref()).await?;
    let new = NewEvent {
        kind: kind.to_owned(),
        severity: severity.to_owned(),
        title,
        message,
        object: Some(("server".into(), of.id)),
        server_id: Some(of.id),
        site_id: Some(of.site_id),
        infrastructure_id: holder.map(|h| h.infrastructure_id),
        account_id,
        context: json!({}),
        ..Default::default()
    };
    event::append(txn, new).await?;
    Ok(())
}

/// A part has its new firmware.
pub async fn updated(app: &App, job: &job::Model) -> Result<(), ApiError> {
    let Ok(done) = serde_json::from_value::<Updated>(job.response.clone()) else { return Ok(()) };
    let txn = app.db().begin().await?;
    let Some((order, part)) = part_of_job(&txn, job).await? else { return Ok(()) };
    let Some(of) = server::Entity::find_by_id(order.server_id).one(&txn).await? else { return Ok(()) };
    let name = facts::server_name(&of);
    let changed = done.version.is_some() && done.version != part.firmware_version;
    if part.firmware_status == "available" && !changed {
        return Ok(());
    }
    let mut row = part.edit();
    row.firmware_status = Set("available".into());
    row.failure = Set(None);
    if changed {
        row.firmware_version.clone_from(&Set(done.version.clone()));
        row.firmware_update_timestamp = Set(Some(time::now()));
    }
    if !done.waits_for_restart {
        row.firmware_target_version = Set(None);
    }
    row.update(&txn).await?;
    let title = if done.waits_for_restart {
        format!("Firmware of {} of server {name} waits for its next restart", part.name)
    } else {
        format!("Firmware of {} of server {name} is now {}", part.name, done.version.as_deref().unwrap_or("another"))
    };
    tell(&txn, &of, "server.firmware_upgraded", "success", title, String::new()).await?;
    refresh(&txn, &[of]).await?;
    txn.commit().await?;
    Ok(())
}

/// A part could not be updated, or its inventory not be read, and nobody tries again by itself.
pub async fn failed(app: &App, job: &job::Model, error: &str) -> Result<(), ApiError> {
    let txn = app.db().begin().await?;
    let (Some(server_id), Some(group)) = (
        job.server_id,
        engine::entity::job_group::Entity::find_by_id(job.group_id).one(&txn).await?.filter(|g| g.kind == GROUP),
    ) else {
        return Ok(());
    };
    let Some(of) = server::Entity::find_by_id(server_id).lock_exclusive().one(&txn).await? else { return Ok(()) };
    let name = facts::server_name(&of);
    if let Some((_, part)) = part_of_job(&txn, job).await?
        && part.firmware_status == "updating"
    {
        let mut row = part.edit();
        row.firmware_status = Set("failed_upgrade".into());
        row.failure = Set(Some(error.to_owned()));
        row.update(&txn).await?;
        let title = format!("Firmware of {} of server {name} was not updated", part.name);
        tell(&txn, &of, "server.firmware_not_upgraded", "warning", title, error.to_owned()).await?;
    }
    release_parts(&txn, server_id).await?;
    let reason = format!("its firmware was not updated: {error}; look at it, then make it available");
    back(app, &txn, &of, group.id, Some(&reason)).await?;
    let campaign = firmware_campaign_run::ended(&txn, group.id, Some(&format!("server {name}: {error}"))).await?;
    txn.commit().await?;
    if let Some(id) = campaign {
        firmware_campaign_run::advance(app, id).await?;
    }
    Ok(())
}

/// Parts that had their turn after the one that failed are not being updated any more.
async fn release_parts<C: ConnectionTrait>(db: &C, server_id: Id) -> Result<(), ApiError> {
    server_component::Entity::update_many()
        .col_expr(server_component::Column::FirmwareStatus, Expr::value("available"))
        .filter(server_component::Column::ServerId.eq(server_id))
        .filter(server_component::Column::FirmwareStatus.eq("updating"))
        .exec(db)
        .await?;
    Ok(())
}

/// All jobs of an update have ended.
pub async fn finished(app: &App, group: &engine::entity::job_group::Model) -> Result<(), ApiError> {
    let Some(server_id) = group.server_id else { return Ok(()) };
    let txn = app.db().begin().await?;
    let Some(of) = server::Entity::find_by_id(server_id).lock_exclusive().one(&txn).await? else { return Ok(()) };
    release_parts(&txn, server_id).await?;
    let called_off = group.cancel_reason.as_ref().map(|why| format!("the update was called off: {why}"));
    back(app, &txn, &of, group.id, None).await?;
    let campaign = firmware_campaign_run::ended(&txn, group.id, called_off.as_deref()).await?;
    txn.commit().await?;
    if let Some(id) = campaign {
        firmware_campaign_run::advance(app, id).await?;
    }
    Ok(())
}

/// The server is again what it was before; after a failure it is unavailable, and says why. Only the newest update is heard.
async fn back(
    app: &App,
    txn: &DatabaseTransaction,
    of: &server::Model,
    group_id: Id,
    failure: Option<&str>,
) -> Result<(), ApiError> {
    let before = of.extra.get(FROM).and_then(Value::as_str).and_then(ServerStatus::parse);
    let newest = of.extra["jobInfo"]["jobGroupId"].as_i64() == Some(group_id);
    let (Some(before), true) = (before, newest) else { return Ok(()) };
    let now = ServerStatus::parse(&of.status);
    // One that failed may have been tried again by a person, with success.
    let ours = matches!(now, Some(ServerStatus::UpdatingFirmware | ServerStatus::Unavailable));
    let next = if failure.is_some() { ServerStatus::Unavailable } else { before };
    if !ours || !now.is_some_and(|s| s.may_become(next, By::System)) {
        return Ok(());
    }
    if of.status == next.as_str() && of.status_reason.as_deref() == failure {
        return Ok(());
    }
    let mut extra = of.extra.as_object().cloned().unwrap_or_default();
    if failure.is_none() {
        extra.remove(FROM);
    }
    let mut row = of.edit();
    row.status = Set(next.as_str().into());
    row.status_reason = Set(failure.map(str::to_owned));
    row.extra = Set(Value::Object(extra));
    cas(txn, of, row).await?.ok_or_else(|| ApiError::stale(of.revision + 1))?;
    facts::server(txn, app.sealer(), of.id).await?;
    Ok(())
}

/// The health that sensors told.
pub async fn sensors(app: &App, server_id: Id, response: &Value) -> Result<(), ApiError> {
    let Ok(found) = serde_json::from_value::<Sensors>(response.clone()) else { return Ok(()) };
    let mut problems = found.problems;
    // A site that is older than its Global Controller tells them with their readings alone.
    if problems.is_empty() {
        let all = found.temperatures.iter().chain(&found.fans);
        let all = all.map(|s| Problem { part: s.name.clone(), health: HealthState::parse(&s.health) });
        problems = all.filter(|p| p.health.is_bad()).collect();
    }
    let health = ServerHealth { state: HealthState::parse(&found.health), problems };
    super::server_health::heard(app, None, server_id, &health).await
}
