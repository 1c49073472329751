//! DNS zones.

use chrono::Utc;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter,
    sea_query::Expr,
};
use serde_json::{Value, json};
use store::{
    entity::{dns_record_set, dns_zone as zone, site},
    list::{Revisioned, cas},
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{list, record, remove},
    routes,
};

routes! {
    "getDNSZones" => zones,
    "getDNSZoneById" => one,
    "getDNSZoneNameservers" => nameservers,
    "createDNSZone" => create,
    "updateDNSZone" => update,
    "deleteDNSZone" => delete,
}

/// Seconds that a name is kept by resolvers where nobody says.
pub(crate) const TTL_SECONDS: i64 = 3600;

fn wire(z: &zone::Model) -> Value {
    json!({
        "id": z.id, "label": z.label, "description": z.description, "zoneName": z.zone_name, "zoneType": z.zone_type, "soaEmail": z.soa_email, "soaSerial": z.soa_serial,
        "ttl": z.ttl, "nameServers": z.name_servers, "isDefault": z.is_default, "status": z.status, "tags": z.tags, "revision": z.revision, "createdBy": z.created_by,
        "updatedBy": z.updated_by, "createdAt": z.created_at, "updatedAt": z.updated_at, "links": [],
    })
}

pub(crate) async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C, parameter: &str) -> Result<zone::Model, ApiError> {
    let id = ctx.id(parameter)?;
    zone::Entity::find_by_id(id).one(db).await?.ok_or_else(|| ApiError::not_found("DNS zone", id))
}

/// The serial number after this one: by the day, as people like to read them, and always growing.
fn next_serial(before: i64) -> i64 {
    let today = Utc::now().format("%Y%m%d").to_string().parse::<i64>().unwrap_or(0) * 100;
    Ord::max(before + 1, today)
}

/// Notes that something in the zone changed: secondary servers look at the serial number.
pub(crate) async fn touch<C: ConnectionTrait>(db: &C, found: &zone::Model) -> Result<(), ApiError> {
    zone::Entity::update_many()
        .col_expr(zone::Column::SoaSerial, Expr::val(next_serial(found.soa_serial)))
        .filter(zone::Column::Id.eq(found.id))
        .exec(db)
        .await?;
    Ok(())
}

pub(crate) fn ttl(ctx: &Ctx) -> Result<Option<i64>, ApiError> {
    match ctx.int("ttl") {
        // RFC 2181: 31 bits.
        Some(t) if !(1..=i64::from(i32::MAX)).contains(&t) => {
            Err(ApiError::field("ttl", format!("{t} is not a number of seconds from 1 to {}", i32::MAX)))
        }
        other => Ok(other),
    }
}

pub(crate) fn tags(ctx: &Ctx) -> Option<Value> {
    ctx.body.get("tags").filter(|t| t.is_array()).cloned()
}

fn mailbox(text: &str) -> Result<String, ApiError> {
    let bad = || ApiError::field("soaEmail", format!("{text:?} is not a mail address"));
    let text = text.trim();
    // A zone file writes it with a dot in place of the @.
    let (who, domain) = text.split_once('@').or_else(|| text.split_once('.')).ok_or_else(bad)?;
    model::validate::hostname("soaEmail", domain).map_err(|_| bad())?;
    if who.is_empty() || who.contains(char::is_whitespace) { Err(bad()) } else { Ok(text.to_owned()) }
}

fn name_servers(ctx: &Ctx) -> Result<Option<Value>, ApiError> {
    let Some(given) = ctx.body.get("nameServers").and_then(Value::as_array) else { return Ok(None) };
    let mut names = Vec::new();
    for (i, name) in given.iter().filter_map(Value::as_str).enumerate() {
        let field = format!("nameServers[{i}]");
        names.push(model::validate::hostname(&field, name.trim_end_matches('.'))?);
    }
    if names.is_empty() {
        return Err(ApiError::field("nameServers", "is empty: a zone has at least one name server"));
    }
    Ok(Some(json!(names)))
}

async fn zones(ctx: Ctx) -> Result<Reply, ApiError> {
    let search = [zone::Column::ZoneName, zone::Column::Label, zone::Column::Description];
    Ok(Reply::Json(list(&ctx, zone::Entity::find(), &[], &search, zone::Column::Id, wire).await?))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read, "dnsZoneId").await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

async fn nameservers(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read, "dnsZoneId").await?;
    Ok(Reply::Json(found.name_servers))
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let name = ctx.need_text("zoneName")?.trim().trim_end_matches('.');
    let name = model::validate::hostname("zoneName", name)?;
    if name.len() < 3 {
        return Err(ApiError::field("zoneName", "must have at least 3 characters"));
    }
    let servers = name_servers(&ctx)?.ok_or_else(|| ApiError::field("nameServers", "is required"))?;
    let email = ctx.text("soaEmail").map(mailbox).transpose()?.unwrap_or_else(|| format!("admin.{name}"));
    let mut row = zone::new();
    row.label = Set(name.clone());
    row.description = Set(ctx.text("description").map(str::to_owned));
    row.zone_type = Set(ctx.text("zoneType").unwrap_or("master").to_owned());
    row.soa_email = Set(email);
    row.soa_serial = Set(next_serial(0));
    row.ttl = Set(ttl(&ctx)?.unwrap_or(TTL_SECONDS));
    row.name_servers = Set(servers);
    row.is_default = Set(ctx.flag("isDefault").unwrap_or(false));
    row.status = Set("ready".into());
    row.tags = Set(tags(&ctx).unwrap_or_else(|| json!([])));
    row.created_by = Set(ctx.caller.user_id);
    row.updated_by = Set(None);
    let txn = ctx.app.db().begin().await?;
    if zone::Entity::find().filter(zone::Column::ZoneName.eq(&name)).count(&txn).await? > 0 {
        return Err(ApiError::conflict(format!("zoneName: there is a zone {name} already")));
    }
    row.zone_name = Set(name.clone());
    if ctx.flag("isDefault") == Some(true) {
        // There is one default at most: the newest.
        zone::Entity::update_many()
            .col_expr(zone::Column::IsDefault, Expr::val(false))
            .filter(zone::Column::IsDefault.eq(true))
            .exec(&txn)
            .await?;
    }
    let made = row.insert(&txn).await?;
    let title = format!("DNS zone {name} created");
    record(&ctx, &txn, "dns_zone.create", title, ("dns_zone", made.id), json!({"after": wire(&made)})).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let (servers, seconds) = (name_servers(&ctx)?, ttl(&ctx)?);
    let email = ctx.text("soaEmail").map(mailbox).transpose()?;
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn, "dnsZoneId").await?;
    ctx.check_revision(found.revision)?;
    let mut row = found.edit();
    if ctx.has("description") {
        row.description = Set(ctx.text("description").map(str::to_owned));
    }
    for (field, column) in [("zoneType", &mut row.zone_type), ("status", &mut row.status)] {
        if let Some(text) = ctx.text(field) {
            *column = Set(text.to_owned());
        }
    }
    if let Some(email) = email {
        row.soa_email = Set(email);
    }
    if let Some(seconds) = seconds {
        row.ttl = Set(seconds);
    }
    if let Some(servers) = servers {
        row.name_servers = Set(servers);
    }
    if let Some(tags) = tags(&ctx) {
        row.tags = Set(tags);
    }
    row.soa_serial = Set(next_serial(found.soa_serial));
    row.updated_by = Set(Some(ctx.caller.user_id));
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    let title = format!("DNS zone {} changed", after.zone_name);
    let context = json!({"before": wire(&found), "after": wire(&after)});
    record(&ctx, &txn, "dns_zone.update", title, ("dns_zone", after.id), context).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

/// A zone goes once it is empty and no site names it.
async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn, "dnsZoneId").await?;
    let names = dns_record_set::Entity::find().filter(dns_record_set::Column::ZoneId.eq(found.id)).count(&txn).await?;
    if names > 0 {
        return Err(ApiError::conflict(format!(
            "zone {} still has {names} record set(s); delete them first",
            found.zone_name
        )));
    }
    let sites = site::Entity::find().filter(site::Column::Decommissioned.eq(false)).all(&txn).await?;
    if let Some(site) = sites.iter().find(|s| s.config["dnsZoneId"].as_i64() == Some(found.id)) {
        return Err(ApiError::conflict(format!(
            "zone {} is the one of site {}; give the site another first",
            found.zone_name, site.slug
        )));
    }
    remove(&ctx, &txn, &found, ("dns_zone", &found.zone_name), wire).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_grow() {
        let first = next_serial(0);
        assert!(first > 2_026_000_000 && next_serial(first) == first + 1);
        assert_eq!(next_serial(9_999_999_999), 10_000_000_000);
    }

    #[test]
    fn mailboxes() {
        assert!(mailbox("hostmaster@example.com").is_ok() && mailbox("admin.example.com").is_ok());
        assert!(mailbox("nobody").is_err() && mailbox("@example.com").is_err() && mailbox("a b@example.com").is_err());
    }
}
