//! Firmware updates that begin by themselves at their time.

use model::Id;
use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter};
use serde_json::json;
use store::{
    entity::server_component,
    event::{self, NewEvent},
    time,
};

use super::{
    firmware_campaign_run as campaigns, firmware_confirmation as confirmations, firmware_policy,
    firmware_upgrade::{Asker, Desk, Want, begin, locked, parts_of},
};
use crate::{App, error::ApiError};

/// Begins what is due: answers that were given for later, questions whose term is over, updates on a schedule, campaigns. Each in a
/// transaction of its own; what fails for one server stops nothing else.
pub async fn tick(app: &App) -> Result<(), ApiError> {
    let now = time::now();
    confirmations::expire(app, &now).await?;
    confirmations::start_due(app, &now).await?;
    scheduled(app, &now).await?;
    campaigns::advance_all(app).await
}

/// Updates whose time has come.
async fn scheduled(app: &App, now: &str) -> Result<(), ApiError> {
    let due = server_component::Entity::find()
        .filter(server_component::Column::FirmwareScheduledTimestamp.lte(now))
        .filter(server_component::Column::FirmwareStatus.ne("updating"))
        .all(&app.db().read)
        .await?;
    if due.is_empty() || !firmware_policy::open_now(&app.db().read).await? {
        return Ok(());
    }
    let mut servers: Vec<Id> = due.iter().map(|c| c.server_id).collect();
    servers.sort_unstable();
    servers.dedup();
    let desk = Desk::open(&app.db().read, None).await?;
    for server_id in servers {
        let txn = app.db().begin().await?;
        let outcome = start_scheduled(app, &txn, &desk, server_id, now).await;
        // Whether or not it could begin: the time is over, and a person is told.
        match outcome {
            Ok(()) => txn.commit().await?,
            Err(error) => {
                drop(txn);
                unschedule(app, server_id, &error.message).await?;
            }
        }
        app.engine().wake();
        app.wrote();
    }
    Ok(())
}

async fn start_scheduled(
    app: &App,
    txn: &DatabaseTransaction,
    desk: &Desk,
    server_id: Id,
    now: &str,
) -> Result<(), ApiError> {
    let (found, holder) = locked(txn, server_id).await?;
    let parts = parts_of(txn, &[server_id]).await?.remove(&server_id).unwrap_or_default();
    let due: Vec<server_component::Model> =
        parts.into_iter().filter(|p| p.firmware_scheduled_timestamp.as_deref().is_some_and(|t| t <= now)).collect();
    let steps = desk.steps(&Want::Targets, &found, holder.as_ref(), &due);
    begin(app, txn, &Asker::default(), &found, holder.as_ref(), desk, steps).await?;
    clear_schedule(txn, server_id).await
}

async fn clear_schedule<C: ConnectionTrait>(db: &C, server_id: Id) -> Result<(), ApiError> {
    server_component::Entity::update_many()
        .col_expr(
            server_component::Column::FirmwareScheduledTimestamp,
            sea_orm::sea_query::Expr::value(Option::<String>::None),
        )
        .filter(server_component::Column::ServerId.eq(server_id))
        .exec(db)
        .await?;
    Ok(())
}

async fn unschedule(app: &App, server_id: Id, why: &str) -> Result<(), ApiError> {
    let txn = app.db().begin().await?;
    clear_schedule(&txn, server_id).await?;
    let new = NewEvent {
        kind: "server.firmware_not_upgraded".into(),
        severity: "warning".into(),
        title: format!("The scheduled firmware update of server {server_id} did not begin"),
        message: why.to_owned(),
        object: Some(("server".into(), server_id)),
        server_id: Some(server_id),
        context: json!({}),
        ..Default::default()
    };
    event::append(&txn, new).await?;
    txn.commit().await?;
    Ok(())
}
