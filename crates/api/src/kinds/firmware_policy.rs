//! Firmware policies: which updates are made, who is asked, and when updates may begin by themselves.

use std::collections::HashMap;

use chrono::{NaiveTime, Utc};
use model::Id;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait,
};
use serde_json::{Value, json};
use store::{
    entity::{
        firmware_campaign, firmware_configuration, firmware_policy, firmware_policy_group, server,
        server_instance_group, user,
    },
    list::{ListQuery, Revisioned, cas},
};

use super::{
    firmware_match::{Policy, policies},
    firmware_upgrade::{Asker, Begun, Desk, Want, begin, holders_of, locked, parts_of},
};
use crate::{
    App,
    context::{Ctx, Reply, whole},
    error::ApiError,
    facts,
    kinds::{MAX_ROWS, record},
    routes,
};

routes! {
    "getFirmwarePolicies" => all,
    "getFirmwarePolicyInfo" => one,
    "createFirmwarePolicy" => create,
    "updateFirmwarePolicy" => update,
    "deleteFirmwarePolicy" => delete,
    "generateFirmwarePolicyAudit" => audit,
    "applyFirmwarePoliciesWithServerInstanceGroups" => apply_with,
    "applyFirmwarePoliciesWithoutServerInstanceGroups" => apply_without,
    "getGlobalFirmwareConfiguration" => configuration,
    "updateGlobalFirmwareConfiguration" => configure,
}

/// Name of the one row of settings.
const ONE: &str = "global";
/// Servers that are looked at in one go.
const SERVERS: u64 = 5000;

fn wire(p: &firmware_policy::Model, groups: &[Id]) -> Value {
    json!({
        "id": p.id, "label": p.label, "userIdOwner": p.user_id_owner, "createdTimestamp": p.created_at, "updatedTimestamp": p.updated_at, "status": p.status,
        "action": p.action, "rules": p.rules, "serverInstanceGroupIds": groups, "revision": p.revision, "links": [],
    })
}

async fn groups_of<C: ConnectionTrait>(db: &C, ids: &[Id]) -> Result<HashMap<Id, Vec<Id>>, ApiError> {
    let links = firmware_policy_group::Entity::find()
        .filter(firmware_policy_group::Column::PolicyId.is_in(ids.to_vec()))
        .order_by_asc(firmware_policy_group::Column::Id)
        .all(db)
        .await?;
    let mut all: HashMap<Id, Vec<Id>> = HashMap::new();
    for link in links {
        all.entry(link.policy_id).or_default().push(link.server_instance_group_id);
    }
    Ok(all)
}

/// A policy in wire form, with its groups.
async fn full<C: ConnectionTrait>(db: &C, p: &firmware_policy::Model) -> Result<Value, ApiError> {
    let groups = groups_of(db, &[p.id]).await?.remove(&p.id).unwrap_or_default();
    Ok(wire(p, &groups))
}

async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<firmware_policy::Model, ApiError> {
    let id = ctx.id("firmwarePolicyId")?;
    firmware_policy::Entity::find_by_id(id).one(db).await?.ok_or_else(|| ApiError::not_found("firmware policy", id))
}

/// A policy with its groups, for campaigns.
pub(super) async fn by_id<C: ConnectionTrait>(db: &C, id: Id) -> Result<Policy, ApiError> {
    let found = policies(db, false).await?.into_iter().find(|p| p.row.id == id);
    found.ok_or_else(|| ApiError::not_found("firmware policy", id))
}

async fn all(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let mut select = firmware_policy::Entity::find();
    let mut pairs = ctx.query.clone();
    // Groups stand in a table of their own.
    let wanted: Vec<Id> = pairs
        .iter()
        .filter(|(k, _)| k == "filter.serverInstanceGroupIds")
        .flat_map(|(_, v)| v.trim_start_matches("$in:").trim_start_matches("$eq:").split(','))
        .filter_map(|v| v.trim().parse().ok())
        .collect();
    if pairs.iter().any(|(k, _)| k == "filter.serverInstanceGroupIds") {
        let links = firmware_policy_group::Entity::find()
            .select_only()
            .column(firmware_policy_group::Column::PolicyId)
            .filter(firmware_policy_group::Column::ServerInstanceGroupId.is_in(wanted));
        select = select.filter(firmware_policy::Column::Id.in_subquery(links.into_query()));
        pairs.retain(|(k, _)| k != "filter.serverInstanceGroupIds");
    }
    let query = ListQuery::parse(&pairs, MAX_ROWS)?;
    let search = [firmware_policy::Column::Label, firmware_policy::Column::Action];
    let page = query.run(db, select, &[], &search, firmware_policy::Column::Id).await?;
    let ids: Vec<Id> = page.rows.iter().map(|p| p.id).collect();
    let groups = groups_of(db, &ids).await?;
    let none = Vec::new();
    let data = page.rows.iter().map(|p| wire(p, groups.get(&p.id).unwrap_or(&none))).collect();
    Ok(Reply::Json(query.body(ctx.operation.path, page.total, data)))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let found = find(&ctx, db).await?;
    Ok(Reply::Tagged(full(db, &found).await?, found.revision))
}

fn fill(ctx: &Ctx, row: &mut firmware_policy::ActiveModel) -> Result<(), ApiError> {
    if let Some(label) = ctx.text("label") {
        row.label = Set(model::validate::name("label", label)?);
    }
    if let Some(action) = ctx.text("action") {
        row.action = Set(action.to_owned());
    }
    if let Some(status) = ctx.text("status") {
        row.status = Set(status.to_owned());
    }
    if let Some(rules) = ctx.body.get("rules").filter(|r| r.is_array()) {
        for (n, rule) in rules.as_array().into_iter().flatten().enumerate() {
            let value = rule["value"].as_str().unwrap_or_default();
            if value.trim().is_empty() {
                return Err(ApiError::field(
                    format!("rules[{n}].value"),
                    "must not be empty: it would match everything",
                ));
            }
        }
        row.rules = Set(rules.clone());
    }
    Ok(())
}

/// Groups that the body names, all of them there.
async fn groups<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<Option<Vec<Id>>, ApiError> {
    let Some(list) = ctx.body.get("serverInstanceGroupIds").and_then(Value::as_array) else { return Ok(None) };
    let mut ids: Vec<Id> = Vec::new();
    for (n, v) in list.iter().enumerate() {
        let id = whole(v).ok_or_else(|| ApiError::field(format!("serverInstanceGroupIds[{n}]"), "is not an id"))?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let known: Vec<Id> = server_instance_group::Entity::find()
        .select_only()
        .column(server_instance_group::Column::Id)
        .filter(server_instance_group::Column::Id.is_in(ids.clone()))
        .into_tuple()
        .all(db)
        .await?;
    match ids.iter().enumerate().find(|(_, id)| !known.contains(id)) {
        Some((n, id)) => Err(ApiError::field(
            format!("serverInstanceGroupIds[{n}]"),
            format!("there is no server instance group {id}"),
        )),
        None => Ok(Some(ids)),
    }
}

async fn link<C: ConnectionTrait>(db: &C, policy_id: Id, groups: &[Id]) -> Result<(), ApiError> {
    firmware_policy_group::Entity::delete_many()
        .filter(firmware_policy_group::Column::PolicyId.eq(policy_id))
        .exec(db)
        .await?;
    for group in groups {
        let mut row = firmware_policy_group::new();
        row.policy_id = Set(policy_id);
        row.server_instance_group_id = Set(*group);
        row.insert(db).await?;
    }
    Ok(())
}

/// Of another one with this label.
async fn refuse_twin<C: ConnectionTrait>(db: &C, label: &str, but: i64) -> Result<(), ApiError> {
    super::refuse_twin::<firmware_policy::Model, C>(
        db,
        firmware_policy::Column::Label,
        ("label", label),
        "firmware policy",
        but,
    )
    .await
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let label = ctx.need_text("label")?.to_owned();
    let owner = ctx.int("userIdOwner").filter(|id| *id > 0).unwrap_or(ctx.caller.user_id);
    let mut row = firmware_policy::new();
    row.user_id_owner = Set(owner);
    row.status = Set("active".into());
    row.rules = Set(json!([]));
    fill(&ctx, &mut row)?;
    let txn = ctx.app.db().begin().await?;
    if user::Entity::find_by_id(owner).one(&txn).await?.is_none() {
        return Err(ApiError::field("userIdOwner", format!("there is no user {owner}")));
    }
    refuse_twin(&txn, &label, 0).await?;
    let groups = groups(&ctx, &txn).await?.unwrap_or_default();
    let made = row.insert(&txn).await?;
    link(&txn, made.id, &groups).await?;
    let body = wire(&made, &groups);
    let title = format!("Firmware policy {} created", made.label);
    record(&ctx, &txn, "firmware_policy.create", title, ("firmware_policy", made.id), json!({"after": body})).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(body, made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    let mut row = found.edit();
    fill(&ctx, &mut row)?;
    if let Some(label) = ctx.text("label") {
        refuse_twin(&txn, label, found.id).await?;
    }
    let before = full(&txn, &found).await?;
    if let Some(groups) = groups(&ctx, &txn).await? {
        link(&txn, found.id, &groups).await?;
    }
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    let body = full(&txn, &after).await?;
    let title = format!("Firmware policy {} changed", after.label);
    let context = json!({"before": before, "after": body});
    record(&ctx, &txn, "firmware_policy.update", title, ("firmware_policy", after.id), context).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(body, after.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    let open = firmware_campaign::Entity::find()
        .filter(firmware_campaign::Column::PolicyId.eq(found.id))
        .filter(firmware_campaign::Column::Status.is_in(["running", "paused"]))
        .one(&txn)
        .await?;
    if let Some(campaign) = open {
        return Err(ApiError::conflict(format!("campaign {} works with this policy; abort it first", campaign.label)));
    }
    let before = full(&txn, &found).await?;
    link(&txn, found.id, &[]).await?;
    firmware_policy::Entity::delete_by_id(found.id).exec(&txn).await?;
    let title = format!("Firmware policy {} deleted", found.label);
    record(&ctx, &txn, "firmware_policy.delete", title, ("firmware_policy", found.id), json!({"before": before}))
        .await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

async fn servers<C: ConnectionTrait>(db: &C) -> Result<Vec<server::Model>, ApiError> {
    Ok(server::Entity::find()
        .filter(server::Column::Status.ne("decommissioned"))
        .order_by_asc(server::Column::Id)
        .limit(SERVERS)
        .all(db)
        .await?)
}

/// What the policy would do now, and to which parts.
async fn audit(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let policy = by_id(db, find(&ctx, db).await?.id).await?;
    let servers = servers(db).await?;
    let ids: Vec<Id> = servers.iter().map(|s| s.id).collect();
    let (parts, holders, desk) = (parts_of(db, &ids).await?, holders_of(db, &ids).await?, Desk::open(db, None).await?);
    let mut rows = Vec::new();
    for s in &servers {
        let none = Vec::new();
        let holder = holders.get(&s.id);
        let parts = parts.get(&s.id).unwrap_or(&none);
        let matched: Vec<Value> = parts
            .iter()
            .filter_map(|p| {
                let best = desk.offer.best(s, p, None).and_then(|b| b.package_version.clone());
                policy.is_about(s, holder, p, best.as_deref()).then(|| {
                    json!({
                        "componentId": p.id, "name": p.name, "type": p.kind, "firmwareVersion": p.firmware_version, "availableVersion": best,
                        "wouldUpdate": best.is_some() && p.firmware_updateable && policy.row.action != "deny",
                    })
                })
            })
            .collect();
        if !matched.is_empty() {
            rows.push(json!({"serverId": s.id, "serverName": facts::server_name(s), "serverStatus": s.status,
                "inUse": facts::in_use(s, holder.is_some()), "components": matched}));
        }
    }
    let about =
        json!({"policyId": policy.row.id, "label": policy.row.label, "action": policy.row.action, "servers": rows});
    Ok(Reply::Json(json!({"audit": about})))
}

async fn apply_with(ctx: Ctx) -> Result<Reply, ApiError> {
    let (scheduled, failed) = apply(&ctx.app, &Asker::of(&ctx), Some(true)).await?;
    Ok(Reply::Json(json!({"scheduled": scheduled, "failedToSchedule": failed})))
}

async fn apply_without(ctx: Ctx) -> Result<Reply, ApiError> {
    let (scheduled, failed) = apply(&ctx.app, &Asker::of(&ctx), Some(false)).await?;
    Ok(Reply::Json(json!({"scheduled": scheduled, "failedToSchedule": failed})))
}

/// Updates what policies ask for: those with groups, those without, or all. Servers that were begun or whose owners were asked, and those
/// where that could not be done.
pub async fn apply(app: &App, asker: &Asker, with_groups: Option<bool>) -> Result<(Vec<Id>, Vec<Id>), ApiError> {
    let db = &app.db().read;
    let desk = Desk::open(db, None).await?;
    let chosen: Vec<&Policy> = desk
        .policies
        .iter()
        .filter(|p| p.row.action != "deny" && with_groups.is_none_or(|with| with != p.groups.is_empty()))
        .collect();
    let (mut scheduled, mut failed) = (Vec::new(), Vec::new());
    if chosen.is_empty() {
        return Ok((scheduled, failed));
    }
    let servers = servers(db).await?;
    let ids: Vec<Id> = servers.iter().map(|s| s.id).collect();
    let (parts, holders) = (parts_of(db, &ids).await?, holders_of(db, &ids).await?);
    let none = Vec::new();
    for s in &servers {
        let (holder, parts) = (holders.get(&s.id), parts.get(&s.id).unwrap_or(&none));
        let mut steps = Vec::new();
        for policy in &chosen {
            for step in desk.steps(&Want::Policy(policy), s, holder, parts) {
                if steps.iter().all(|known: &super::firmware_upgrade::Step| known.component_id != step.component_id) {
                    steps.push(step);
                }
            }
        }
        if steps.is_empty() {
            continue;
        }
        let txn = app.db().begin().await?;
        let begun = async {
            let (found, holder) = locked(&txn, s.id).await?;
            begin(app, &txn, asker, &found, holder.as_ref(), &desk, steps).await
        };
        match begun.await {
            Ok(Begun::Nothing) => {}
            Ok(_) => {
                txn.commit().await?;
                scheduled.push(s.id);
            }
            Err(error) => {
                tracing::info!(server = s.id, %error, "a firmware policy could not be applied");
                failed.push(s.id);
            }
        }
    }
    app.engine().wake();
    app.wrote();
    Ok((scheduled, failed))
}

fn wire_configuration(c: Option<&firmware_configuration::Model>) -> Value {
    json!({
        "activated": c.is_some_and(|c| c.activated), "upgradeStartTime": c.and_then(|c| c.start_time.clone()),
        "upgradeEndTime": c.and_then(|c| c.end_time.clone()),
    })
}

async fn settings<C: ConnectionTrait>(db: &C) -> Result<Option<firmware_configuration::Model>, ApiError> {
    Ok(firmware_configuration::Entity::find().filter(firmware_configuration::Column::Name.eq(ONE)).one(db).await?)
}

async fn configuration(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = settings(&ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire_configuration(found.as_ref()), found.map_or(1, |f| f.revision)))
}

/// A time of day, also out of a whole timestamp.
fn time_of_day(text: &str) -> Option<NaiveTime> {
    let text = text.trim();
    ["%H:%M", "%H:%M:%S"]
        .iter()
        .find_map(|form| NaiveTime::parse_from_str(text, form).ok())
        .or_else(|| store::time::parse(text).map(|t| t.time()))
}

async fn configure(ctx: Ctx) -> Result<Reply, ApiError> {
    let time = |field: &str| {
        ctx.text(field)
            .filter(|t| !t.is_empty())
            .map(|t| {
                time_of_day(t).map(|_| t.trim().to_owned()).ok_or_else(|| {
                    ApiError::field(field, format!("{t:?} is not a time of day; write it as 22:30 (UTC)"))
                })
            })
            .transpose()
    };
    let (start, end) = (time("upgradeStartTime")?, time("upgradeEndTime")?);
    let txn = ctx.app.db().begin().await?;
    let found = settings(&txn).await?;
    let before = wire_configuration(found.as_ref());
    ctx.check_revision(found.as_ref().map_or(1, |f| f.revision))?;
    let mut row = match &found {
        Some(found) => found.edit(),
        None => {
            let mut row = firmware_configuration::new();
            row.name = Set(ONE.into());
            row.activated = Set(false);
            row
        }
    };
    if let Some(on) = ctx.flag("activated") {
        row.activated = Set(on);
    }
    if ctx.has("upgradeStartTime") {
        row.start_time = Set(start);
    }
    if ctx.has("upgradeEndTime") {
        row.end_time = Set(end);
    }
    let after = match &found {
        Some(found) => cas(&txn, found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?,
        None => row.insert(&txn).await?,
    };
    if after.activated && after.start_time.is_some() != after.end_time.is_some() {
        return Err(ApiError::field(
            "upgradeEndTime",
            "a window has a start and an end; give both, or none for any time",
        ));
    }
    let body = wire_configuration(Some(&after));
    let context = json!({"before": before, "after": body});
    let title = "Settings of firmware updates changed".to_owned();
    record(&ctx, &txn, "firmware_configuration.update", title, ("firmware_configuration", after.id), context).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(body, after.revision))
}

/// Whether planned updates may begin now. Without a window, at any time.
pub(super) async fn open_now<C: ConnectionTrait>(db: &C) -> Result<bool, ApiError> {
    let Some(found) = settings(db).await?.filter(|c| c.activated) else { return Ok(true) };
    let time = |t: &Option<String>| t.as_deref().and_then(time_of_day);
    Ok(match (time(&found.start_time), time(&found.end_time)) {
        (Some(start), Some(end)) => within(start, end, Utc::now().time()),
        _ => true,
    })
}

fn within(start: NaiveTime, end: NaiveTime, now: NaiveTime) -> bool {
    if start <= end { now >= start && now < end } else { now >= start || now < end }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop")]
mod tests {
    use super::*;

    #[test]
    fn windows_may_lie_over_midnight() {
        let at = |t: &str| time_of_day(t).unwrap();
        assert!(within(at("01:00"), at("05:00"), at("04:59")));
        assert!(!within(at("01:00"), at("05:00"), at("05:00")));
        assert!(within(at("22:00"), at("02:00"), at("23:10")) && within(at("22:00"), at("02:00"), at("01:10")));
        assert!(!within(at("22:00"), at("02:00"), at("12:00")));
        assert_eq!(at("2026-01-02T22:30:00Z"), at("22:30"));
        assert!(time_of_day("25:00").is_none() && time_of_day("soon").is_none());
    }
}
