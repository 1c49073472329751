//! Names in DNS zones: all records of one name and type together.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr},
};

use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use store::{
    entity::{dns_record_set as set, dns_zone, site},
    list::{Revisioned, cas},
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{
        dns_zone::{find as find_zone, tags, touch, ttl},
        list, record, remove,
    },
    routes,
};

routes! {
    "listDNSRecordSets" => all,
    "listDNSRecordSetsByZoneId" => of_zone,
    "getDNSRecordSetById" => one,
    "createDNSRecordSet" => create,
    "updateDNSRecordSet" => update,
    "deleteDNSRecordSet" => delete,
}

const FIELDS: &[(&str, &str)] = &[("type", "kind")];
const SEARCH: &[set::Column] = &[set::Column::Name, set::Column::ZoneName];

fn wire(s: &set::Model) -> Value {
    json!({
        "id": s.id, "status": s.status, "siteId": s.site_id, "infrastructureId": s.infrastructure_id, "zoneId": s.zone_id, "zoneName": s.zone_name, "name": s.name,
        "type": s.kind, "ttl": s.ttl, "records": s.records, "tags": s.tags, "revision": s.revision, "createdBy": s.created_by, "updatedBy": s.updated_by,
        "createdAt": s.created_at, "updatedAt": s.updated_at, "links": [],
    })
}

async fn all(ctx: Ctx) -> Result<Reply, ApiError> {
    Ok(Reply::Json(list(&ctx, set::Entity::find(), FIELDS, SEARCH, set::Column::Id, wire).await?))
}

async fn of_zone(ctx: Ctx) -> Result<Reply, ApiError> {
    let zone = find_zone(&ctx, &ctx.app.db().read, "id").await?;
    let select = set::Entity::find().filter(set::Column::ZoneId.eq(zone.id));
    Ok(Reply::Json(list(&ctx, select, FIELDS, SEARCH, set::Column::Id, wire).await?))
}

async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<(dns_zone::Model, set::Model), ApiError> {
    let zone = find_zone(ctx, db, "id").await?;
    let id = ctx.id("recordSetId")?;
    let found = set::Entity::find_by_id(id).one(db).await?.filter(|s| s.zone_id == zone.id);
    Ok((zone, found.ok_or_else(|| ApiError::not_found("record set of this zone", id))?))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let (_, found) = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

/// A name within a zone: relative, `@` for the zone itself. A name that is written in full is made relative.
fn relative(name: &str, zone: &str) -> Result<String, ApiError> {
    let given = name.trim().trim_end_matches('.').to_ascii_lowercase();
    if given == "@" || given == zone {
        return Ok("@".into());
    }
    let short = given.strip_suffix(&format!(".{zone}")).unwrap_or(&given);
    // Names such as `_dmarc` and `*` are no host names, and allowed.
    let label = |l: &str| {
        l == "*"
            || !l.is_empty()
                && l.len() <= 63
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if !short.split('.').all(label) || short.len() + 1 + zone.len() > 253 {
        return Err(ApiError::field("name", format!("{name:?} is not a name in {zone}")));
    }
    Ok(short.to_owned())
}

/// The records of the body, each as its type wants it.
fn records(ctx: &Ctx, kind: &str) -> Result<Value, ApiError> {
    let given = ctx.body.get("records").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut all = BTreeSet::new();
    for (i, text) in given.iter().filter_map(Value::as_str).enumerate() {
        let field = format!("records[{i}]");
        let text = text.trim();
        let bad = |what: &str| ApiError::field(field.as_str(), format!("{text:?} is not {what}"));
        all.insert(match kind {
            "A" => text.parse::<Ipv4Addr>().map_err(|_| bad("an IPv4 address"))?.to_string(),
            "AAAA" => text.parse::<Ipv6Addr>().map_err(|_| bad("an IPv6 address"))?.to_string(),
            "TXT" if text.is_empty() || text.len() > 4096 || text.contains(char::is_control) => {
                return Err(bad("a text of 1 to 4096 bytes in one line"));
            }
            "TXT" => text.to_owned(),
            _ => model::validate::hostname(&field, text.trim_end_matches('.')).map_err(|_| bad("a host name"))?,
        });
    }
    if all.is_empty() {
        return Err(ApiError::field("records", "is empty: give at least one"));
    }
    if kind == "CNAME" && all.len() > 1 {
        return Err(ApiError::field("records", "a CNAME has one record"));
    }
    Ok(json!(all))
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let kind = ctx.need_text("type")?.to_owned();
    let (values, seconds) = (records(&ctx, &kind)?, ttl(&ctx)?);
    let txn = ctx.app.db().begin().await?;
    let zone = find_zone(&ctx, &txn, "id").await?;
    let name = relative(ctx.need_text("name")?, &zone.zone_name)?;
    let others = set::Entity::find().filter(set::Column::ZoneId.eq(zone.id)).filter(set::Column::Name.eq(&name));
    // RFC 1034: an alias stands alone.
    for other in others.all(&txn).await? {
        if other.kind == kind {
            return Err(ApiError::conflict(format!(
                "name: {name} has records of type {kind} already, in set {}",
                other.id
            )));
        }
        if other.kind == "CNAME" || kind == "CNAME" {
            return Err(ApiError::conflict(format!(
                "name: {name} has records of type {}; a CNAME stands alone",
                other.kind
            )));
        }
    }
    if kind == "CNAME" && name == "@" {
        return Err(ApiError::field("type", "the zone itself cannot be a CNAME"));
    }
    let site_id = ctx.int("siteId");
    if let Some(id) = site_id
        && site::Entity::find_by_id(id).one(&txn).await?.is_none_or(|s| s.decommissioned)
    {
        return Err(ApiError::field("siteId", format!("there is no site {id}")));
    }
    let mut row = set::new();
    row.zone_id = Set(zone.id);
    row.zone_name = Set(zone.zone_name.clone());
    row.site_id = Set(site_id);
    row.infrastructure_id = Set(None);
    row.name = Set(name.clone());
    row.kind = Set(kind.clone());
    row.ttl = Set(seconds.unwrap_or(zone.ttl));
    row.records = Set(values);
    row.status = Set("active".into());
    row.tags = Set(tags(&ctx).unwrap_or_else(|| json!([])));
    row.created_by = Set(ctx.caller.user_id);
    row.updated_by = Set(None);
    let made = row.insert(&txn).await?;
    touch(&txn, &zone).await?;
    let title = format!("DNS {kind} {name} of {} created", zone.zone_name);
    record(&ctx, &txn, "dns_record_set.create", title, ("dns_record_set", made.id), json!({"after": wire(&made)}))
        .await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let seconds = ttl(&ctx)?;
    let txn = ctx.app.db().begin().await?;
    let (zone, found) = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    let mut row = found.edit();
    if ctx.has("records") {
        row.records = Set(records(&ctx, &found.kind)?);
    }
    if let Some(seconds) = seconds {
        row.ttl = Set(seconds);
    }
    if let Some(tags) = tags(&ctx) {
        row.tags = Set(tags);
    }
    row.updated_by = Set(Some(ctx.caller.user_id));
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    touch(&txn, &zone).await?;
    let title = format!("DNS {} {} of {} changed", after.kind, after.name, zone.zone_name);
    let context = json!({"before": wire(&found), "after": wire(&after)});
    record(&ctx, &txn, "dns_record_set.update", title, ("dns_record_set", after.id), context).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let (zone, found) = find(&ctx, &txn).await?;
    let name = format!("{} {} of {}", found.kind, found.name, zone.zone_name);
    remove(&ctx, &txn, &found, ("dns_record_set", &name), wire).await?;
    touch(&txn, &zone).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

#[cfg(test)]
mod tests {
    use super::relative;

    #[test]
    fn names_are_relative_to_their_zone() {
        for (given, name) in [
            ("www", "www"),
            ("WWW.example.com.", "www"),
            ("@", "@"),
            ("example.com", "@"),
            ("*.a", "*.a"),
            ("_dmarc", "_dmarc"),
        ] {
            assert_eq!(relative(given, "example.com").unwrap(), name, "{given}");
        }
        for bad in ["", "a b", "-a", "a..b", &"x".repeat(64)] {
            assert!(relative(bad, "example.com").is_err(), "{bad}");
        }
    }
}
