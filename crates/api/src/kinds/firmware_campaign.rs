//! Firmware campaigns: many servers in waves, one first, then some, then the rest. A failure pauses the campaign until a person has looked.

use std::collections::{BTreeMap, HashMap};

use engine::entity::job_group;
use model::{Id, job::JobCommand};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::{Map, Value, json};
use store::{
    entity::{firmware_campaign as campaign, firmware_campaign_server as member, server},
    list::{ListQuery, Revisioned, cas},
};

use super::{
    firmware_baseline::{self, named_servers},
    firmware_campaign_run::advance,
    firmware_confirmation, firmware_policy,
};
use crate::{
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

pub(super) async fn members_of<C: ConnectionTrait>(db: &C, id: Id) -> Result<Vec<member::Model>, ApiError> {
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
