//! How a firmware campaign goes on: wave after wave, until it ends or a failure pauses it.

use model::Id;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, PaginatorTrait,
    QueryFilter, QuerySelect,
};
use serde_json::json;
use store::{
    entity::{firmware_campaign as campaign, firmware_campaign_server as member},
    event::{self, NewEvent},
    list::{Revisioned, cas},
    time,
};

use super::{
    firmware_baseline,
    firmware_campaign::members_of,
    firmware_policy,
    firmware_upgrade::{Asker, Begun, Desk, Want, begin, locked, parts_of},
};
use crate::{App, error::ApiError};

/// Servers of a campaign that are updated at the same time, at most.
const AT_ONCE: usize = 50;

async fn note<C: ConnectionTrait>(
    db: &C,
    m: &member::Model,
    status: &str,
    reason: Option<String>,
    job_group_id: Option<Id>,
) -> Result<(), ApiError> {
    let mut row = m.edit();
    row.status = Set(status.to_owned());
    row.reason = Set(reason);
    if job_group_id.is_some() {
        row.job_group_id = Set(job_group_id);
    }
    row.update(db).await?;
    Ok(())
}

async fn member_of<C: ConnectionTrait>(
    db: &C,
    campaign_id: Id,
    server_id: Id,
) -> Result<Option<member::Model>, ApiError> {
    Ok(member::Entity::find()
        .filter(member::Column::CampaignId.eq(campaign_id))
        .filter(member::Column::ServerId.eq(server_id))
        .one(db)
        .await?)
}

/// The owner of a server agreed, and jobs were ordered.
pub(super) async fn ordered<C: ConnectionTrait>(
    db: &C,
    campaign_id: Id,
    server_id: Id,
    group_id: Id,
) -> Result<(), ApiError> {
    match member_of(db, campaign_id, server_id).await? {
        Some(m) => note(db, &m, "running", None, Some(group_id)).await,
        None => Ok(()),
    }
}

/// A server is left out.
pub(super) async fn skipped<C: ConnectionTrait>(
    db: &C,
    campaign_id: Id,
    server_id: Id,
    why: &str,
) -> Result<(), ApiError> {
    match member_of(db, campaign_id, server_id).await?.filter(|m| m.status == "asked") {
        Some(m) => note(db, &m, "skipped", Some(why.to_owned()), None).await,
        None => Ok(()),
    }
}

/// The jobs of a server have ended; the campaign that they were for, if any.
pub async fn ended<C: ConnectionTrait>(db: &C, group_id: Id, failure: Option<&str>) -> Result<Option<Id>, ApiError> {
    let Some(m) = member::Entity::find().filter(member::Column::JobGroupId.eq(group_id)).one(db).await? else {
        return Ok(None);
    };
    let next = if failure.is_some() { "failed" } else { "done" };
    // A person may have had a failed job tried again: a good end is a good end.
    let open = m.status == "running" || (failure.is_none() && m.status != "done");
    if open {
        note(db, &m, next, failure.map(str::to_owned), None).await?;
    }
    Ok(Some(m.campaign_id))
}

/// Brings all campaigns forward.
pub(super) async fn advance_all(app: &App) -> Result<(), ApiError> {
    let running: Vec<Id> = campaign::Entity::find()
        .select_only()
        .column(campaign::Column::Id)
        .filter(campaign::Column::Status.eq("running"))
        .into_tuple()
        .all(&app.db().read)
        .await?;
    for id in running {
        advance(app, id).await?;
    }
    Ok(())
}

/// What a look at a campaign came to.
enum Look {
    /// These are to be begun.
    Begin(Box<campaign::Model>, Vec<member::Model>),
    /// The next wave has its turn.
    Again,
    /// Nothing to do now.
    Rest,
}

/// Brings a campaign forward: pauses it on failures, goes to the next wave when one is over, begins what has its turn.
pub async fn advance(app: &App, id: Id) -> Result<(), ApiError> {
    loop {
        match look(app, id).await? {
            Look::Rest => return Ok(()),
            Look::Again => {}
            Look::Begin(found, turn) => {
                start(app, &found, turn).await?;
                // Those where nothing was to be done are over already.
                let left = member::Entity::find()
                    .filter(member::Column::CampaignId.eq(id))
                    .filter(member::Column::Wave.eq(found.wave))
                    .filter(member::Column::Status.is_in(["asked", "running"]))
                    .count(&app.db().read)
                    .await?;
                if left > 0 {
                    return Ok(());
                }
            }
        }
    }
}

async fn look(app: &App, id: Id) -> Result<Look, ApiError> {
    let txn = app.db().begin().await?;
    let found = campaign::Entity::find_by_id(id).lock_exclusive().one(&txn).await?;
    let Some(found) = found.filter(|c| c.status == "running") else { return Ok(Look::Rest) };
    let members = members_of(&txn, id).await?;
    let failed: Vec<&member::Model> = members.iter().filter(|m| m.status == "failed").collect();
    if failed.len() as i64 > found.tolerated_failures {
        let last = failed.last().and_then(|m| m.reason.clone()).unwrap_or_default();
        let why =
            format!("{} server(s) failed, {} are tolerated; the last: {last}", failed.len(), found.tolerated_failures);
        finish(&txn, &found, "paused", Some(why), "warning", "is paused: a person has to look").await?;
        txn.commit().await?;
        app.wrote();
        return Ok(Look::Rest);
    }
    let of_wave: Vec<&member::Model> = members.iter().filter(|m| m.wave == found.wave).collect();
    let waiting: Vec<member::Model> = of_wave.iter().filter(|m| m.status == "waiting").map(|m| (*m).clone()).collect();
    let at_work = of_wave.iter().filter(|m| matches!(m.status.as_str(), "running" | "asked")).count();
    if !waiting.is_empty() {
        let room = AT_ONCE.saturating_sub(at_work);
        if room == 0 {
            return Ok(Look::Rest);
        }
        return Ok(Look::Begin(Box::new(found), waiting.into_iter().take(room).collect()));
    }
    if at_work > 0 {
        return Ok(Look::Rest);
    }
    if found.wave < found.waves {
        let mut row = found.edit();
        row.wave = Set(found.wave + 1);
        cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
        txn.commit().await?;
        return Ok(Look::Again);
    }
    // Of an earlier wave, tried again after a person looked.
    if let Some(behind) = members.iter().find(|m| m.status == "waiting") {
        let mut row = found.edit();
        row.wave = Set(behind.wave);
        cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
        txn.commit().await?;
        return Ok(Look::Again);
    }
    finish(&txn, &found, "finished", None, "success", "has ended").await?;
    txn.commit().await?;
    app.wrote();
    Ok(Look::Rest)
}

async fn finish(
    txn: &DatabaseTransaction,
    found: &campaign::Model,
    status: &str,
    reason: Option<String>,
    severity: &str,
    words: &str,
) -> Result<(), ApiError> {
    let mut row = found.edit();
    row.status = Set(status.to_owned());
    row.reason = Set(reason.clone());
    cas(txn, found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    let new = NewEvent {
        kind: format!("firmware_campaign.{status}"),
        severity: severity.to_owned(),
        title: format!("Firmware campaign {} {words}", found.label),
        message: reason.unwrap_or_default(),
        object: Some(("firmware_campaign".into(), found.id)),
        context: json!({}),
        ..Default::default()
    };
    event::append(txn, new).await?;
    Ok(())
}

/// Begins servers of the wave, each in a transaction of its own.
async fn start(app: &App, found: &campaign::Model, turn: Vec<member::Model>) -> Result<(), ApiError> {
    let db = &app.db().read;
    let baseline = match found.baseline_id {
        Some(id) => Some(firmware_baseline::by_id(db, id).await?),
        None => None,
    };
    let policy = match found.policy_id {
        Some(id) => Some(firmware_policy::by_id(db, id).await?),
        None => None,
    };
    let desk = Desk::open(db, baseline.as_ref()).await?;
    let want = match (&baseline, &policy) {
        (Some(b), _) => Want::Baseline(b),
        (None, Some(p)) => Want::Policy(p),
        (None, None) => Want::Targets,
    };
    let asker = Asker { campaign_id: Some(found.id), ..Asker::default() };
    for m in turn {
        let txn = app.db().begin().await?;
        let begun = async {
            let (of, holder) = locked(&txn, m.server_id).await?;
            let parts = parts_of(&txn, &[of.id]).await?.remove(&of.id).unwrap_or_default();
            if parts.is_empty() {
                return Err(ApiError::conflict("its firmware was not read yet; read it first (update-info)"));
            }
            let steps = desk.steps(&want, &of, holder.as_ref(), &parts);
            begin(app, &txn, &asker, &of, holder.as_ref(), &desk, steps).await
        };
        let outcome = begun.await;
        let txn = match &outcome {
            Ok(_) => txn,
            // What it may have written is void.
            Err(_) => {
                drop(txn);
                app.db().begin().await?
            }
        };
        match outcome {
            Ok(Begun::Ordered { group_id, .. }) => note(&txn, &m, "running", None, Some(group_id)).await?,
            Ok(Begun::Asked(id)) => {
                note(&txn, &m, "asked", Some(format!("its owner is asked (confirmation {id})")), None).await?;
            }
            Ok(Begun::Nothing) => note(&txn, &m, "done", Some("nothing was to be updated".into()), None).await?,
            Err(error) if error.status.is_server_error() => return Err(error),
            Err(error) => note(&txn, &m, "skipped", Some(error.message), None).await?,
        }
        txn.commit().await?;
        app.engine().wake();
        app.wrote();
    }
    tracing::info!(
        campaign = found.id,
        wave = found.wave,
        at = time::now(),
        "servers of a firmware campaign were begun"
    );
    Ok(())
}
