//! Questions to the owners of servers in use: may the firmware be updated? A day to answer; without an answer nothing happens.

use model::{Id, job::JobCommand};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QuerySelect,
    QueryTrait, Select,
};
use serde_json::{Value, json};
use store::{
    entity::{firmware_confirmation as question, infrastructure, server, server_component, server_instance},
    event::{self, NewEvent},
    list::{Revisioned, cas},
    time,
};

use super::{
    firmware_campaign_run,
    firmware_catalog::timestamp,
    firmware_upgrade::{Asker, Step, TERM_SECONDS, locked, open_question, order, owner_account},
    infrastructure as infrastructures,
};
use crate::{
    App,
    context::{Ctx, Reply},
    error::ApiError,
    facts,
    kinds::{list, record},
    routes,
};

routes! {
    "getFirmwareConfirmations" => all,
    "getFirmwareConfirmation" => one,
    "confirmFirmwareUpgrade" => confirm,
    "denyFirmwareUpgrade" => deny,
    "postponeFirmwareUpgrade" => postpone,
}

/// Longest time by which a question may be put off.
const LATEST_SECONDS: i64 = 30 * 24 * 3600;

fn wire(q: &question::Model) -> Value {
    let updates = q.updates.as_array().into_iter().flatten();
    // Where images lie is nothing for tenants.
    let updates: Vec<Value> = updates
        .map(|u| json!({"componentId": u["componentId"], "name": u["name"], "type": u["kind"], "from": u["from"], "to": u["to"], "restart": u["restart"]}))
        .collect();
    json!({
        "id": q.id, "revision": q.revision, "serverId": q.server_id, "serverInstanceId": q.server_instance_id, "infrastructureId": q.infrastructure_id,
        "status": q.status, "message": q.reason, "updates": updates, "dueTimestamp": q.due_at, "startTimestamp": q.start_at, "answeredBy": q.answered_by,
        "campaignId": q.campaign_id, "jobGroupId": q.job_group_id, "createdTimestamp": q.created_at, "updatedTimestamp": q.updated_at, "links": [],
    })
}

/// Those about infrastructures that the caller sees; an administrator sees all.
fn visible(ctx: &Ctx) -> Select<question::Entity> {
    let select = question::Entity::find();
    if ctx.caller.is_admin {
        return select;
    }
    let own = infrastructures::visible(ctx).select_only().column(infrastructure::Column::Id);
    select.filter(question::Column::InfrastructureId.in_subquery(own.into_query()))
}

async fn find<C: sea_orm::ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<question::Model, ApiError> {
    let id = ctx.id("confirmationId")?;
    let found = visible(ctx).filter(question::Column::Id.eq(id)).one(db).await?;
    found.ok_or_else(|| ApiError::not_found("firmware confirmation", id))
}

async fn all(ctx: Ctx) -> Result<Reply, ApiError> {
    let alias = [("dueTimestamp", "due_at"), ("startTimestamp", "start_at")];
    let search = [question::Column::Reason, question::Column::Status];
    Ok(Reply::Json(list(&ctx, visible(&ctx), &alias, &search, question::Column::Id, wire).await?))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

/// Puts the question.
pub(super) async fn ask(
    txn: &DatabaseTransaction,
    asker: &Asker,
    of: &server::Model,
    holder: Option<&server_instance::Model>,
    steps: &[Step],
) -> Result<Id, ApiError> {
    let name = facts::server_name(of);
    if let Some(open) = open_question(txn, of.id).await? {
        return Err(ApiError::conflict(format!(
            "the owner of server {name} is asked about its firmware already (confirmation {}, until {}); wait for the answer",
            open.id, open.due_at
        )));
    }
    let account_id = owner_account(txn, holder).await?;
    let words = steps.iter().map(Step::words).collect::<Vec<_>>().join("; ");
    let mut row = question::new();
    row.server_id = Set(of.id);
    row.server_instance_id = Set(holder.map(|h| h.id));
    row.infrastructure_id = Set(holder.map(|h| h.infrastructure_id));
    row.account_id = Set(account_id);
    row.status = Set("waiting".into());
    row.reason = Set(words.clone());
    row.updates = Set(serde_json::to_value(steps)?);
    row.due_at = Set(time::in_seconds(TERM_SECONDS));
    row.campaign_id = Set(asker.campaign_id);
    let made = row.insert(txn).await?;
    let what = holder.map_or_else(|| format!("server {name}"), |h| format!("server instance {}", h.label));
    let new = NewEvent {
        kind: "firmware_confirmation.create".into(),
        severity: "important".into(),
        title: format!(
            "The firmware of {what} is to be updated: please confirm, postpone or deny until {}",
            made.due_at
        ),
        message: format!("{words}. The server is shut down and restarted for it. Without an answer nothing happens."),
        object: Some(("firmware_confirmation".into(), made.id)),
        server_id: Some(of.id),
        site_id: Some(of.site_id),
        infrastructure_id: made.infrastructure_id,
        account_id,
        actor: asker.person.clone(),
        request_id: asker.request_id.clone(),
        context: json!({"confirmationId": made.id, "serverInstanceId": made.server_instance_id}),
        ..Default::default()
    };
    event::append(txn, new).await?;
    Ok(made.id)
}

/// The question, if it may still be answered.
fn refuse_answered(found: &question::Model) -> Result<(), ApiError> {
    if found.status != "waiting" && found.status != "confirmed" {
        return Err(ApiError::conflict(format!(
            "confirmation {} is {}: nothing is left to answer",
            found.id, found.status
        )));
    }
    Ok(())
}

async fn set(
    ctx: &Ctx,
    txn: &DatabaseTransaction,
    found: &question::Model,
    verb: &str,
    change: impl FnOnce(&mut question::ActiveModel),
) -> Result<question::Model, ApiError> {
    ctx.check_revision(found.revision)?;
    let mut row = found.edit();
    row.answered_by = Set(Some(ctx.caller.user_id));
    change(&mut row);
    let after = cas(txn, found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    let title = format!("Firmware update of server {}: {verb}", after.server_id);
    let context = json!({"serverId": after.server_id, "status": after.status, "startTimestamp": after.start_at});
    record(ctx, txn, &format!("firmware_confirmation.{verb}"), title, ("firmware_confirmation", after.id), context)
        .await?;
    Ok(after)
}

/// Yes, now or from a time on.
async fn confirm(ctx: Ctx) -> Result<Reply, ApiError> {
    let start = ctx.text("startTimestamp").map(|t| timestamp("startTimestamp", t)).transpose()?;
    if start.as_ref().is_some_and(|t| *t > time::in_seconds(LATEST_SECONDS)) {
        return Err(ApiError::field("startTimestamp", "is more than 30 days ahead"));
    }
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    refuse_answered(&found)?;
    if found.due_at < time::now() && found.status == "waiting" {
        return Err(ApiError::conflict(format!(
            "the term of confirmation {} ended at {}; the update has to be asked for anew",
            found.id, found.due_at
        )));
    }
    let later = start.clone().filter(|t| *t > time::now());
    let after = set(&ctx, &txn, &found, "confirm", |row| {
        row.status = Set("confirmed".into());
        row.start_at = Set(start);
    })
    .await?;
    let body = if later.is_some() {
        json!({"jobGroupId": null, "jobId": null, "confirmationId": after.id, "startTimestamp": after.start_at})
    } else {
        let asker = Asker { campaign_id: after.campaign_id, ..Asker::of(&ctx) };
        let (group_id, job_id) = start_one(&ctx.app, &txn, &asker, &after).await?;
        json!({"jobGroupId": group_id, "jobId": job_id, "confirmationId": after.id})
    };
    txn.commit().await?;
    ctx.app.engine().wake();
    ctx.app.wrote();
    Ok(Reply::Json(body))
}

/// Orders what was agreed to, if the server still serves the same instance.
async fn start_one(
    app: &App,
    txn: &DatabaseTransaction,
    asker: &Asker,
    agreed: &question::Model,
) -> Result<(Id, Id), ApiError> {
    let (of, holder) = locked(txn, agreed.server_id).await?;
    if holder.as_ref().map(|h| h.id) != agreed.server_instance_id {
        return Err(ApiError::conflict(format!(
            "server {} does not serve the instance any more whose owner was asked; the question is void",
            facts::server_name(&of)
        )));
    }
    let steps: Vec<Step> = serde_json::from_value(agreed.updates.clone())?;
    let until = time::in_seconds(TERM_SECONDS);
    let (group_id, job_id) = order(app, txn, asker, &of, holder.as_ref(), &steps, Some(until)).await?;
    let mut row = agreed.edit();
    row.status = Set("ordered".into());
    row.job_group_id = Set(Some(group_id));
    cas(txn, agreed, row).await?.ok_or_else(|| ApiError::stale(agreed.revision + 1))?;
    if let Some(campaign_id) = agreed.campaign_id {
        firmware_campaign_run::ordered(txn, campaign_id, agreed.server_id, group_id).await?;
    }
    Ok((group_id, job_id))
}

async fn deny(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    refuse_answered(&found)?;
    let after = set(&ctx, &txn, &found, "deny", |row| row.status = Set("denied".into())).await?;
    void(&txn, &after, "its owner does not agree").await?;
    txn.commit().await?;
    ctx.app.wrote();
    Ok(Reply::Tagged(wire(&after), after.revision))
}

/// The server of a question that came to nothing.
async fn void(txn: &DatabaseTransaction, q: &question::Model, why: &str) -> Result<(), ApiError> {
    server_component::Entity::update_many()
        .col_expr(
            server_component::Column::FirmwareScheduledTimestamp,
            sea_orm::sea_query::Expr::value(Option::<String>::None),
        )
        .filter(server_component::Column::ServerId.eq(q.server_id))
        .exec(txn)
        .await?;
    if let Some(campaign_id) = q.campaign_id {
        firmware_campaign_run::skipped(txn, campaign_id, q.server_id, why).await?;
    }
    Ok(())
}

/// Not now: the question stands until then.
async fn postpone(ctx: Ctx) -> Result<Reply, ApiError> {
    let until = timestamp("untilTimestamp", ctx.need_text("untilTimestamp")?)?;
    if until <= time::now() || until > time::in_seconds(LATEST_SECONDS) {
        return Err(ApiError::field("untilTimestamp", "must be in the future, and not more than 30 days ahead"));
    }
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    refuse_answered(&found)?;
    let after = set(&ctx, &txn, &found, "postpone", |row| {
        row.status = Set("waiting".into());
        row.start_at = Set(None);
        row.due_at = Set(until);
    })
    .await?;
    txn.commit().await?;
    ctx.app.wrote();
    Ok(Reply::Tagged(wire(&after), after.revision))
}

/// Questions whose term is over come to nothing.
pub(super) async fn expire(app: &App, now: &str) -> Result<(), ApiError> {
    let over = question::Entity::find()
        .filter(question::Column::Status.eq("waiting"))
        .filter(question::Column::DueAt.lt(now))
        .all(&app.db().read)
        .await?;
    for q in over {
        let txn = app.db().begin().await?;
        let mut row = q.edit();
        row.status = Set("expired".into());
        let Some(after) = cas(&txn, &q, row).await? else { continue };
        void(&txn, &after, "its owner did not answer in time").await?;
        let new = NewEvent {
            kind: "firmware_confirmation.expire".into(),
            severity: "warning".into(),
            title: format!("Nobody answered about the firmware of server {}: it is not updated", after.server_id),
            object: Some(("firmware_confirmation".into(), after.id)),
            server_id: Some(after.server_id),
            infrastructure_id: after.infrastructure_id,
            account_id: after.account_id,
            context: json!({}),
            ..Default::default()
        };
        event::append(&txn, new).await?;
        txn.commit().await?;
        app.wrote();
    }
    Ok(())
}

/// Answers that were given for later.
pub(super) async fn start_due(app: &App, now: &str) -> Result<(), ApiError> {
    let due = question::Entity::find()
        .filter(question::Column::Status.eq("confirmed"))
        .filter(question::Column::StartAt.lte(now))
        .all(&app.db().read)
        .await?;
    for q in due {
        let txn = app.db().begin().await?;
        let asker = Asker { campaign_id: q.campaign_id, ..Asker::default() };
        match start_one(app, &txn, &asker, &q).await {
            Ok(_) => txn.commit().await?,
            Err(error) => {
                drop(txn);
                give_up(app, &q, &error.message).await?;
            }
        }
        app.engine().wake();
        app.wrote();
    }
    Ok(())
}

async fn give_up(app: &App, q: &question::Model, why: &str) -> Result<(), ApiError> {
    let txn = app.db().begin().await?;
    let mut row = q.edit();
    row.status = Set("void".into());
    let Some(after) = cas(&txn, q, row).await? else { return Ok(()) };
    void(&txn, &after, why).await?;
    let new = NewEvent {
        kind: "firmware_confirmation.void".into(),
        severity: "warning".into(),
        title: format!("The firmware update of server {} that was agreed to did not begin", q.server_id),
        message: why.to_owned(),
        object: Some(("firmware_confirmation".into(), q.id)),
        server_id: Some(q.server_id),
        infrastructure_id: q.infrastructure_id,
        account_id: q.account_id,
        context: json!({}),
        ..Default::default()
    };
    event::append(&txn, new).await?;
    txn.commit().await?;
    Ok(())
}

/// Calls off what a campaign has asked and nobody has answered.
pub(super) async fn withdraw(app: &App, campaign_id: Id, reason: &str) -> Result<(), ApiError> {
    let open = question::Entity::find()
        .filter(question::Column::CampaignId.eq(campaign_id))
        .filter(question::Column::Status.is_in(["waiting", "confirmed", "ordered"]))
        .all(&app.db().read)
        .await?;
    for q in open {
        if let ("ordered", Some(group_id)) = (q.status.as_str(), q.job_group_id) {
            // What has ended already is not called off.
            let called_off =
                app.engine().command(JobCommand::CancelGroup { group_id, reason: reason.to_owned() }).await;
            if let Err(error) = called_off {
                tracing::debug!(group_id, %error, "an update of a campaign could not be called off");
            }
            continue;
        }
        let mut row = q.edit();
        row.status = Set("withdrawn".into());
        cas(&app.db().write, &q, row).await?;
    }
    Ok(())
}
