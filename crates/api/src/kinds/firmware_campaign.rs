//! Firmware campaigns: many servers in waves, one first, then some, then the rest. A failure pauses the campaign until a person has looked.

use std::collections::{BTreeMap, HashMap};

use engine::entity::job_group;
use model::{Id, job::JobCommand};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::{Map, Value, json};
use store::{
    entity::{firmware_campaign as campaign, firmware_campaign_server as member, server},
    event::{self, NewEvent},
    list::{ListQuery, Revisioned, cas},
    time,
};

use super::{
    firmware_baseline::{self, named_servers},
    firmware_confirmation, firmware_policy,
    firmware_upgrade::{Asker, Begun, Desk, Want, begin, locked, parts_of},
};
use crate::{
    App,
    context::{Ctx, Reply},
    error::ApiError,
    facts,
    kinds::{MAX_ROWS, record},
    routes,
};

routes! {
    "getFirmwareCampaigns" => all,
    "getFirmwareCampaign" => one,
    "createFirmwareCampaign" => create,
    "pauseFirmwareCampaign" => pause,
    "resumeFirmwareCampaign" => resume,
    "abortFirmwareCampaign" => abort,
    "deleteFirmwareCampaign" => delete,
}

/// Servers of a campaign that are updated at the same time, at most.
const AT_ONCE: usize = 50;

/// How many servers of a campaign stand how.
type Counts = BTreeMap<String, i64>;

fn wire(c: &campaign::Model, counts: Option<&Counts>) -> Value {
    let counts: Map<String, Value> = counts.into_iter().flatten().map(|(k, v)| (k.clone(), json!(v))).collect();
    json!({
        "id": c.id, "revision": c.revision, "label": c.label, "baselineId": c.baseline_id, "policyId": c.policy_id, "status": c.status, "reason": c.reason,
        "wave": c.wave, "waves": c.waves, "toleratedFailures": c.tolerated_failures, "userIdOwner": c.user_id_owner, "serverCounts": counts,
        "createdTimestamp": c.created_at, "updatedTimestamp": c.updated_at, "links": [],
    })
}

async fn counts_of<C: ConnectionTrait>(db: &C, ids: &[Id]) -> Result<HashMap<Id, Counts>, ApiError> {
    let rows: Vec<(Id, String, i64)> = member::Entity::find()
        .select_only()
        .column(member::Column::CampaignId)
        .column(member::Column::Status)
        .column_as(member::Column::Id.count(), "n")
        .filter(member::Column::CampaignId.is_in(ids.to_vec()))
        .group_by(member::Column::CampaignId)
        .group_by(member::Column::Status)
        .into_tuple()
        .all(db)
        .await?;
    let mut all: HashMap<Id, Counts> = HashMap::new();
    for (id, status, n) in rows {
        all.entry(id).or_default().insert(status, n);
    }
    Ok(all)
}

async fn full<C: ConnectionTrait>(db: &C, c: &campaign::Model) -> Result<Value, ApiError> {
    Ok(wire(c, counts_of(db, &[c.id]).await?.get(&c.id)))
}

async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<campaign::Model, ApiError> {
    let id = ctx.id("campaignId")?;
    campaign::Entity::find_by_id(id).one(db).await?.ok_or_else(|| ApiError::not_found("firmware campaign", id))
}

async fn all(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let query = ListQuery::parse(&ctx.query, MAX_ROWS)?;
    let search = [campaign::Column::Label, campaign::Column::Status];
    let page = query.run(db, campaign::Entity::find(), &[], &search, campaign::Column::Id).await?;
    let counts = counts_of(db, &page.rows.iter().map(|c| c.id).collect::<Vec<_>>()).await?;
    let data = page.rows.iter().map(|c| wire(c, counts.get(&c.id))).collect();
    Ok(Reply::Json(query.body(ctx.operation.path, page.total, data)))
}

/// With its servers, wave by wave.
async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let found = find(&ctx, db).await?;
    let members = members_of(db, found.id).await?;
    let servers: HashMap<Id, server::Model> = server::Entity::find()
        .filter(server::Column::Id.is_in(members.iter().map(|m| m.server_id)))
        .all(db)
        .await?
        .into_iter()
        .map(|s| (s.id, s))
        .collect();
    let list: Vec<Value> = members
        .iter()
        .map(|m| {
            json!({"serverId": m.server_id, "serverName": servers.get(&m.server_id).map(facts::server_name), "wave": m.wave, "status": m.status,
                "reason": m.reason, "jobGroupId": m.job_group_id, "updatedTimestamp": m.updated_at})
        })
        .collect();
    let mut body = full(db, &found).await?;
    body["servers"] = Value::Array(list);
    Ok(Reply::Tagged(body, found.revision))
}

async fn members_of<C: ConnectionTrait>(db: &C, id: Id) -> Result<Vec<member::Model>, ApiError> {
    Ok(member::Entity::find()
        .filter(member::Column::CampaignId.eq(id))
        .order_by_asc(member::Column::Wave)
        .order_by_asc(member::Column::Id)
        .all(db)
        .await?)
}

/// Sizes of waves: the canaries, a share of the rest, the rest.
fn waves(servers: usize, canaries: usize, percent: usize) -> Vec<usize> {
    let first = Ord::min(canaries, servers);
    let rest = servers - first;
    // At least one, or the share would be no step at all.
    let second = Ord::min((servers * percent).div_ceil(100), rest);
    [first, second, rest - second].into_iter().filter(|n| *n > 0).collect()
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let label = model::validate::name("label", ctx.need_text("label")?)?;
    let (baseline_id, policy_id) = (ctx.int("baselineId"), ctx.int("policyId"));
    if baseline_id.is_some() == policy_id.is_some() {
        return Err(ApiError::field("baselineId", "give a baseline or a policy, and not both"));
    }
    let number = |field: &str, normal: i64, most: i64| {
        let n = ctx.int(field).unwrap_or(normal);
        if (0..=most).contains(&n) {
            Ok(n)
        } else {
            Err(ApiError::field(field, format!("{n} is not between 0 and {most}")))
        }
    };
    let canaries = number("canaryCount", 1, 100)?;
    let percent = number("secondWavePercent", 10, 100)?;
    let tolerated = number("toleratedFailures", 0, 1000)?;
    let txn = ctx.app.db().begin().await?;
    let missing = |field: &str, e: ApiError| ApiError::field(field, e.message);
    if let Some(id) = baseline_id {
        firmware_baseline::by_id(&txn, id).await.map_err(|e| missing("baselineId", e))?;
    }
    if let Some(id) = policy_id {
        let policy = firmware_policy::by_id(&txn, id).await.map_err(|e| missing("policyId", e))?;
        if policy.row.action == "deny" {
            return Err(ApiError::field("policyId", format!("policy {} denies updates", policy.row.label)));
        }
    }
    // Servers outside of this platform's reach are not asked for one by one.
    let servers: Vec<server::Model> =
        named_servers(&ctx, &txn).await?.into_iter().filter(|s| !facts::hands_off(s)).collect();
    if servers.is_empty() {
        return Err(ApiError::field("serverIds", "no server is meant: name servers, a site, a type or a group"));
    }
    let busy: Vec<Id> = member::Entity::find()
        .select_only()
        .column(member::Column::ServerId)
        .filter(member::Column::ServerId.is_in(servers.iter().map(|s| s.id)))
        .filter(member::Column::Status.is_in(["waiting", "asked", "running"]))
        .into_tuple()
        .all(&txn)
        .await?;
    if let Some(s) = servers.iter().find(|s| busy.contains(&s.id)) {
        return Err(ApiError::conflict(format!(
            "server {} is in another campaign that has not ended",
            facts::server_name(s)
        )));
    }
    let sizes = waves(servers.len(), usize::try_from(canaries).unwrap_or(1), usize::try_from(percent).unwrap_or(10));
    // Those that nobody uses go first: a canary should hurt nobody.
    let held = crate::kinds::server::held(&txn, &servers.iter().map(|s| s.id).collect::<Vec<_>>()).await?;
    let (free, used): (Vec<_>, Vec<_>) = servers.into_iter().partition(|s| !held.contains(&s.id));
    let mut row = campaign::new();
    row.label = Set(label);
    row.baseline_id = Set(baseline_id);
    row.policy_id = Set(policy_id);
    row.status = Set("running".into());
    row.wave = Set(1);
    row.waves = Set(i64::try_from(sizes.len()).unwrap_or(1));
    row.tolerated_failures = Set(tolerated);
    row.user_id_owner = Set(ctx.caller.user_id);
    let made = row.insert(&txn).await?;
    let numbers = sizes.iter().enumerate().flat_map(|(n, size)| std::iter::repeat_n(n as i64 + 1, *size));
    let rows: Vec<member::ActiveModel> = free
        .into_iter()
        .chain(used)
        .zip(numbers)
        .map(|(s, wave)| {
            let mut row = member::new();
            row.campaign_id = Set(made.id);
            row.server_id = Set(s.id);
            row.wave = Set(wave);
            row.status = Set("waiting".into());
            row
        })
        .collect();
    for chunk in rows.chunks(500) {
        member::Entity::insert_many(chunk.to_vec()).exec_without_returning(&txn).await?;
    }
    let body = full(&txn, &made).await?;
    let title = format!("Firmware campaign {} begun", made.label);
    record(&ctx, &txn, "firmware_campaign.create", title, ("firmware_campaign", made.id), json!({"after": body}))
        .await?;
    txn.commit().await?;
    advance(&ctx.app, made.id).await?;
    let now = campaign::Entity::find_by_id(made.id).one(&ctx.app.db().read).await?.unwrap_or(made);
    Ok(Reply::Tagged(full(&ctx.app.db().read, &now).await?, now.revision))
}

/// A change by a person.
async fn turn(
    ctx: &Ctx,
    found: &campaign::Model,
    verb: &str,
    status: &str,
    reason: Option<String>,
) -> Result<campaign::Model, ApiError> {
    ctx.check_revision(found.revision)?;
    let txn = ctx.app.db().begin().await?;
    let mut row = found.edit();
    row.status = Set(status.to_owned());
    row.reason = Set(reason.clone());
    let after = cas(&txn, found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    let title = format!("Firmware campaign {}: {verb}", after.label);
    let context = json!({"reason": reason});
    record(ctx, &txn, &format!("firmware_campaign.{verb}"), title, ("firmware_campaign", after.id), context).await?;
    txn.commit().await?;
    ctx.app.wrote();
    Ok(after)
}

fn refuse_unless(found: &campaign::Model, statuses: &[&str], what: &str) -> Result<(), ApiError> {
    if statuses.contains(&found.status.as_str()) {
        return Ok(());
    }
    Err(ApiError::conflict(format!("campaign {} is {}: it cannot be {what}", found.label, found.status)))
}

/// What runs goes on; nothing new begins.
async fn pause(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    refuse_unless(&found, &["running"], "paused")?;
    let why = ctx.text("reason").filter(|r| !r.is_empty()).unwrap_or("paused by a person").to_owned();
    let after = turn(&ctx, &found, "pause", "paused", Some(why)).await?;
    Ok(Reply::Tagged(full(&ctx.app.db().read, &after).await?, after.revision))
}

/// A person has looked. What had failed is tried again, or left as it is.
async fn resume(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    refuse_unless(&found, &["paused"], "resumed")?;
    ctx.check_revision(found.revision)?;
    let again = ctx.flag("retryFailed").unwrap_or(false);
    let (status, reason) = if again { ("waiting", None) } else { ("failed_seen", Some("a person has seen it")) };
    let mut update = member::Entity::update_many()
        .col_expr(member::Column::Status, sea_orm::sea_query::Expr::value(status))
        .filter(member::Column::CampaignId.eq(found.id))
        .filter(member::Column::Status.eq("failed"));
    if reason.is_none() {
        update = update.col_expr(member::Column::Reason, sea_orm::sea_query::Expr::value(Option::<String>::None));
    }
    update.exec(&ctx.app.db().write).await?;
    let after = turn(&ctx, &found, "resume", "running", None).await?;
    advance(&ctx.app, after.id).await?;
    let now = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(full(&ctx.app.db().read, &now).await?, now.revision))
}

/// Nothing new begins, what was asked is withdrawn, and what has not begun on its server is called off.
async fn abort(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    refuse_unless(&found, &["running", "paused"], "aborted")?;
    let why = ctx.text("reason").filter(|r| !r.is_empty()).unwrap_or("aborted by a person").to_owned();
    let after = turn(&ctx, &found, "abort", "aborted", Some(why.clone())).await?;
    let reason = format!("campaign {} was aborted: {why}", after.label);
    firmware_confirmation::withdraw(&ctx.app, after.id, &reason).await?;
    let running: Vec<Option<Id>> = member::Entity::find()
        .select_only()
        .column(member::Column::JobGroupId)
        .filter(member::Column::CampaignId.eq(after.id))
        .filter(member::Column::Status.eq("running"))
        .into_tuple()
        .all(&ctx.app.db().read)
        .await?;
    let open: Vec<Id> = job_group::Entity::find()
        .select_only()
        .column(job_group::Column::Id)
        .filter(job_group::Column::Id.is_in(running.into_iter().flatten()))
        .filter(job_group::Column::FinishedAt.is_null())
        .into_tuple()
        .all(&ctx.app.db().read)
        .await?;
    // A part that is half written is worse than one that is new: jobs that run are left to their end unless the caller says otherwise.
    if ctx.flag("stopRunning").unwrap_or(false) {
        for group_id in open {
            ctx.app.engine().command(JobCommand::CancelGroup { group_id, reason: reason.clone() }).await?;
        }
    }
    member::Entity::update_many()
        .col_expr(member::Column::Status, sea_orm::sea_query::Expr::value("skipped"))
        .col_expr(member::Column::Reason, sea_orm::sea_query::Expr::value(Some("the campaign was aborted")))
        .filter(member::Column::CampaignId.eq(after.id))
        .filter(member::Column::Status.is_in(["waiting", "asked"]))
        .exec(&ctx.app.db().write)
        .await?;
    Ok(Reply::Tagged(full(&ctx.app.db().read, &after).await?, after.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    refuse_unless(&found, &["finished", "aborted"], "deleted before it has ended")?;
    member::Entity::delete_many().filter(member::Column::CampaignId.eq(found.id)).exec(&txn).await?;
    campaign::Entity::delete_by_id(found.id).exec(&txn).await?;
    let title = format!("Firmware campaign {} deleted", found.label);
    record(
        &ctx,
        &txn,
        "firmware_campaign.delete",
        title,
        ("firmware_campaign", found.id),
        json!({"before": wire(&found, None)}),
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

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

#[cfg(test)]
mod tests {
    use super::waves;

    #[test]
    fn one_first_then_some_then_the_rest() {
        assert_eq!(waves(100, 1, 10), [1, 10, 89]);
        assert_eq!(waves(3, 1, 10), [1, 1, 1]);
        assert_eq!(waves(1, 1, 10), [1]);
        assert_eq!(waves(2, 1, 10), [1, 1]);
        assert_eq!(waves(5, 0, 0), [5]);
        assert_eq!(waves(5, 9, 10), [5]);
        assert_eq!(waves(10, 1, 100), [1, 9]);
    }
}
