//! What a user's infrastructures use of servers, over a span of time.

use std::collections::{BTreeMap, HashMap, HashSet};

use model::Id;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Map, Value, json};
use store::{
    entity::{infrastructure, server, server_instance as instance, server_type, user},
    time,
};

use crate::{
    context::{Ctx, Reply, whole},
    error::ApiError,
    kinds::infrastructure as infrastructures,
    routes,
};

routes! {
    "getInfrastructureResourceUtilizationDetailed" => detailed,
    "getInfrastructureResourceUtilizationSummary" => summarized,
}

/// One server in use, within the span.
struct Use {
    infrastructure_id: Id,
    instance: Id,
    label: String,
    server_type: String,
    start: String,
    end: String,
    seconds: i64,
}

struct Report {
    start: String,
    end: String,
    infrastructures: Vec<infrastructure::Model>,
    uses: Vec<Use>,
}

fn moment(ctx: &Ctx, field: &str) -> Result<String, ApiError> {
    let text = ctx.need_text(field)?;
    let parsed = time::parse(text)
        .ok_or_else(|| ApiError::field(field, format!("{text:?} is not a time; write it as 2026-01-02T15:04:05Z")))?;
    Ok(time::format(parsed))
}

fn ids(ctx: &Ctx, field: &str) -> Option<HashSet<Id>> {
    let list = ctx.body.get(field)?.as_array()?;
    (!list.is_empty()).then(|| list.iter().filter_map(whole).collect())
}

/// In five queries, however many infrastructures there are. Servers that were given back are no longer known here.
async fn report(ctx: &Ctx) -> Result<Report, ApiError> {
    let (start, end) = (moment(ctx, "startTimestamp")?, moment(ctx, "endTimestamp")?);
    if end <= start {
        return Err(ApiError::field("endTimestamp", "must be later than startTimestamp"));
    }
    let owner = ctx.need_int("userIdOwner")?;
    let db = &ctx.app.db().read;
    let known = user::Entity::find_by_id(owner).one(db).await?;
    if !known.is_some_and(|u| ctx.caller.is_admin || u.account_id == ctx.caller.account_id) {
        return Err(ApiError::field("userIdOwner", format!("there is no user {owner}")));
    }
    let (only, sites) = (ids(ctx, "infrastructureIds"), ids(ctx, "siteIds"));
    let mut select = infrastructures::visible(ctx).filter(infrastructure::Column::OwnerId.eq(owner));
    if let Some(only) = only {
        select = select.filter(infrastructure::Column::Id.is_in(only));
    }
    if let Some(sites) = sites {
        select = select.filter(infrastructure::Column::SiteId.is_in(sites));
    }
    let all = select
        .filter(infrastructure::Column::CreatedAt.lt(&end))
        .order_by_asc(infrastructure::Column::Id)
        .all(db)
        .await?;
    let rows = instance::Entity::find()
        .filter(instance::Column::InfrastructureId.is_in(all.iter().map(|i| i.id)))
        .filter(instance::Column::ServerId.is_not_null())
        .order_by_asc(instance::Column::Id)
        .all(db)
        .await?;
    let servers: HashMap<Id, server::Model> = server::Entity::find()
        .filter(server::Column::Id.is_in(rows.iter().filter_map(|i| i.server_id)))
        .all(db)
        .await?
        .into_iter()
        .map(|s| (s.id, s))
        .collect();
    let types: HashMap<Id, String> = server_type::Entity::find()
        .filter(server_type::Column::Id.is_in(servers.values().filter_map(|s| s.server_type_id)))
        .all(db)
        .await?
        .into_iter()
        .map(|t| (t.id, t.name))
        .collect();
    let now = Ord::min(time::now(), end.clone());
    let uses = rows
        .into_iter()
        .filter_map(|i| {
            let s = i.server_id.and_then(|id| servers.get(&id));
            let since = s.and_then(|s| s.allocated_at.clone()).unwrap_or_else(|| i.created_at.clone());
            let from = Ord::max(since, start.clone());
            let seconds = time::millis_between(&from, &now).filter(|ms| *ms > 0)? / 1000;
            let kind = s.and_then(|s| s.server_type_id).and_then(|t| types.get(&t).cloned()).unwrap_or_default();
            Some(Use {
                infrastructure_id: i.infrastructure_id,
                instance: i.id,
                label: i.label,
                server_type: kind,
                start: from,
                end: now.clone(),
                seconds,
            })
        })
        .collect();
    Ok(Report { start, end, infrastructures: all, uses })
}

fn hours(seconds: i64) -> f64 {
    // Two decimals are enough for a bill.
    (seconds as f64 / 36.0).round() / 100.0
}

fn infrastructures_of(report: &Report) -> Value {
    let one = |i: &infrastructure::Model| {
        let about = json!({
            "id": i.id, "label": i.label, "siteId": i.site_id, "serviceStatus": i.service_status, "createdTimestamp": i.created_at, "userIdOwner": i.owner_id,
        });
        (i.id.to_string(), about)
    };
    Value::Object(report.infrastructures.iter().map(one).collect())
}

/// What there is nothing of: reservations and licences are not sold here.
fn none() -> (Value, Value) {
    (
        json!({"serverTypes": [], "drives": [], "subnets": []}),
        json!({"windowsServerStandard": [], "mapr": [], "cloudera": [], "couchbase": []}),
    )
}

async fn detailed(ctx: Ctx) -> Result<Reply, ApiError> {
    let report = report(&ctx).await?;
    let mut of: BTreeMap<Id, Vec<Value>> = BTreeMap::new();
    for u in &report.uses {
        of.entry(u.infrastructure_id).or_default().push(json!({
            "id": u.instance, "label": u.label, "serverType": u.server_type, "startTimestamp": u.start, "endTimestamp": u.end, "measurementPeriod": u.seconds,
            "measurementUnit": "hours", "quantity": hours(u.seconds),
        }));
    }
    let servers: Map<String, Value> =
        of.into_iter().map(|(id, list)| (id.to_string(), json!({"serverInstances": list}))).collect();
    let (reservations, licences) = none();
    Ok(Reply::Json(json!({
        "startTimestamp": report.start, "endTimestamp": report.end, "infrastructures": infrastructures_of(&report), "detailedReport": servers, "networkReport": {},
        "reservationInstallments": reservations, "licenseInstallments": licences,
    })))
}

async fn summarized(ctx: Ctx) -> Result<Reply, ApiError> {
    let report = report(&ctx).await?;
    let mut by_type: BTreeMap<&str, i64> = BTreeMap::new();
    for u in &report.uses {
        *by_type.entry(&u.server_type).or_default() += u.seconds;
    }
    let servers: Vec<Value> = by_type
        .into_iter()
        .map(|(name, seconds)| json!({"serverType": name, "quantity": hours(seconds), "measurementUnit": "hours"}))
        .collect();
    let (reservations, licences) = none();
    Ok(Reply::Json(json!({
        "startTimestamp": report.start, "endTimestamp": report.end, "infrastructures": infrastructures_of(&report),
        "resourceUtilization": {"serverInstances": servers}, "internet": {}, "reservationInstallments": reservations, "licenseInstallments": licences,
    })))
}
