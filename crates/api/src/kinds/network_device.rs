//! Switches.

use model::{
    Id,
    secret::{Clear, Sealed},
    switch::DRIVERS,
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter,
    sea_query::Expr,
};
use serde_json::{Map, Value, json};
use store::entity::{
    endpoint_interface, fabric_device, fabric_link, network_device, network_device_port, server_interface, site,
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    facts,
    kinds::{
        edit_in, list,
        network_device_upkeep::refuse_carrying,
        record,
        server::{seen, take_shown},
    },
    routes,
};

routes! {
    "getNetworkDevices" => devices,
    "getNetworkDevice" => one,
    "updateNetworkDevice" => update,
    "deleteNetworkDevice" => delete,
    "archiveNetworkDevice" => archive,
    "setNetworkDeviceAsFailed" => fail,
    "revertNetworkDeviceFailedState" => revert_failed,
    "getNetworkDeviceCredentials" => credentials,
    "trustNetworkDeviceCertificate" => trust,
    "getNetworkDeviceStatistics" => statistics,
}

/// Wire names of fields whose columns are called otherwise.
pub(crate) const FIELDS: &[(&str, &str)] = &[
    ("identifierString", "name"),
    ("managementAddress", "address"),
    ("managementPort", "port"),
    ("managementMacAddress", "mac"),
    ("serialNumber", "serial"),
    ("datacenterRack", "rack"),
];

/// Columns of free text.
pub(crate) const SEARCH: &[network_device::Column] = &[
    network_device::Column::Name,
    network_device::Column::Address,
    network_device::Column::Serial,
    network_device::Column::Mac,
];

/// Fields that are kept as they come.
const NOTES: &[&str] = &[
    "chassisIdentifier",
    "chassisRackId",
    "isGateway",
    "isStorageSwitch",
    "isBorderDevice",
    "managementAddressGateway",
    "managementAddressMask",
    "loopbackAddress",
    "loopbackAddressIpv6",
    "vtepAddress",
    "vtepAddressIpv6",
    "externalVtepAddress",
    "asn",
    "description",
    "country",
    "city",
    "datacenterMeta",
    "datacenterRoom",
    "rackPositionUpperUnit",
    "rackPositionLowerUnit",
    "orderIndex",
    "overwriteWithHostnameFromFetchedSwitch",
    "customVariables",
];

/// Fields with a column, or a meaning.
const KEPT: &[&str] = &[
    "siteId",
    "datacenterName",
    "identifierString",
    "driver",
    "position",
    "quarantineVlan",
    "managementAddress",
    "managementPort",
    "username",
    "managementPassword",
    "managementMAC",
    "datacenterRack",
    "serialNumber",
    "tags",
];

/// Port of a driver's management interface where none is given.
pub(crate) fn default_port(driver: &str) -> i64 {
    if driver == "cumulus_linux" { 8765 } else { 443 }
}

/// A switch in wire form.
pub(crate) fn wire(d: &network_device::Model) -> Value {
    let note = |name: &str| d.extra.get(name).cloned().unwrap_or(Value::Null);
    let text = |name: &str| d.extra.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = |name: &str| d.extra.get(name).and_then(Value::as_i64).unwrap_or(0);
    let mut wire = json!({
        "id": d.id.to_string(), "revision": d.revision, "status": d.status, "statusReason": note("statusReason"), "siteId": d.site_id, "identifierString": d.name,
        "description": text("description"), "chassisIdentifier": text("chassisIdentifier"), "country": text("country"), "city": text("city"),
        "datacenterMeta": text("datacenterMeta"), "datacenterRoom": text("datacenterRoom"), "datacenterRack": d.rack.as_deref().unwrap_or_default(),
        "rackPositionUpperUnit": number("rackPositionUpperUnit"), "rackPositionLowerUnit": number("rackPositionLowerUnit"), "managementAddress": d.address,
        "managementAddressPrefixLength": 0, "managementAddressGateway": text("managementAddressGateway"),
        "managementPort": d.port.unwrap_or_else(|| default_port(&d.driver)), "syslogEnabled": 0, "username": d.username,
        "managementMacAddress": d.mac.as_deref().unwrap_or_default(), "serialNumber": d.serial.as_deref().unwrap_or_default(), "driver": d.driver, "position": d.position,
    });
    let more = json!({
        "orderIndex": number("orderIndex"), "tags": d.tags, "readyForInitialConfiguration": 0, "bootstrapReadinessCheckInProgress": 0, "subnetOobId": 0, "subnetOobIndex": 0,
        "requiresOsInstall": false, "bootstrapExpectedPartnerHostname": "", "loopbackAddressIpv4": note("loopbackAddress"), "loopbackAddressIpv6": text("loopbackAddressIpv6"),
        "asn": number("asn"), "vtepAddressIpv4": note("vtepAddress"), "vtepAddressIpv6": text("vtepAddressIpv6"), "externalVtepAddressIpv4": note("externalVtepAddress"),
        "mlagSystemMac": "", "mlagDomainId": 0, "quarantineVlan": d.quarantine_vlan.unwrap_or(0), "variablesMaterializedForOSAssets": {}, "secretsMaterializedForOSAssets": {},
        "bootstrapReadinessCheckResult": {}, "isGateway": d.extra["isGateway"].as_bool().unwrap_or(false), "customVariables": d.extra.get("customVariables").cloned().unwrap_or_else(|| json!({})),
        "tlsFingerprint": d.tls_fingerprint, "tlsFingerprintShown": note("shownFingerprint"), "facts": d.facts, "jobInfo": note("jobInfo"), "createdTimestamp": d.created_at, "updatedTimestamp": d.updated_at, "links": [],
    });
    if let (Some(wire), Value::Object(more)) = (wire.as_object_mut(), more) {
        wire.extend(more);
    }
    wire
}

/// The switch of the path.
pub(crate) async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<network_device::Model, ApiError> {
    let id = ctx.id("networkDeviceId")?;
    network_device::Entity::find_by_id(id).one(db).await?.ok_or_else(|| ApiError::not_found("network device", id))
}

/// A change at the revision that the caller named, with its event and its fact, in the caller's transaction.
async fn change<C: ConnectionTrait>(
    ctx: &Ctx,
    txn: &C,
    found: &network_device::Model,
    verb: &str,
    edit: impl FnOnce(&mut network_device::ActiveModel),
) -> Result<network_device::Model, ApiError> {
    let subject = format!("Switch {}", found.name);
    let after = edit_in(ctx, txn, found, ("network_device", &subject), verb, wire, edit).await?;
    facts::network_device(txn, ctx.app.sealer(), after.id).await?;
    Ok(after)
}

async fn devices(ctx: Ctx) -> Result<Reply, ApiError> {
    let select = network_device::Entity::find();
    Ok(Reply::Json(list(&ctx, select, FIELDS, SEARCH, network_device::Column::Id, wire).await?))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

async fn statistics(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let devices = network_device::Entity::find().filter(network_device::Column::Status.ne("decommissioned"));
    let ports = network_device_port::Entity::find().count(db).await?;
    Ok(Reply::Json(json!({"deviceCount": devices.count(db).await?, "portCount": ports})))
}

pub(crate) fn driver(text: &str) -> Result<String, ApiError> {
    if DRIVERS.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(ApiError::field("driver", format!("{text} switches cannot be managed yet; known are: {}", DRIVERS.join(", "))))
}

/// An IP address or a host name; the port has a field of its own.
pub(crate) fn address(text: &str) -> Result<String, ApiError> {
    let text = text.trim();
    if let Ok(ip) = text.parse::<std::net::IpAddr>() {
        return Ok(ip.to_string());
    }
    model::validate::hostname("managementAddress", text)
        .map_err(|_| ApiError::field("managementAddress", format!("{text:?} is neither an IP address nor a host name")))
}

pub(crate) fn port(ctx: &Ctx) -> Result<Option<i64>, ApiError> {
    match ctx.int("managementPort") {
        Some(p) if (1..=65535).contains(&p) => Ok(Some(p)),
        Some(0) | None => Ok(None),
        Some(p) => Err(ApiError::field("managementPort", format!("{p} is not a port"))),
    }
}

pub(crate) fn quarantine(ctx: &Ctx) -> Result<Option<i64>, ApiError> {
    match ctx.int("quarantineVlan") {
        Some(v) if v != 0 => Ok(Some(i64::from(model::validate::vlan("quarantineVlan", v)?))),
        _ => Ok(None),
    }
}

/// The site that a body names: by id, or by its slug as `datacenterName`.
pub(crate) async fn site_of<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<site::Model, ApiError> {
    let (found, field, named) = match (ctx.int("siteId"), ctx.text("datacenterName")) {
        (Some(id), _) => (site::Entity::find_by_id(id).one(db).await?, "siteId", id.to_string()),
        (None, Some(slug)) => {
            let found = site::Entity::find().filter(site::Column::Slug.eq(slug)).one(db).await?;
            (found, "datacenterName", slug.to_owned())
        }
        (None, None) => return Err(ApiError::field("siteId", "is required")),
    };
    found.filter(|s| !s.decommissioned).ok_or_else(|| ApiError::field(field, format!("there is no site {named}")))
}

pub(crate) async fn refuse_taken<C: ConnectionTrait>(
    db: &C,
    site_id: Id,
    name: &str,
    at: (&str, i64),
    but: Option<Id>,
) -> Result<(), ApiError> {
    use network_device::Column;
    let others = network_device::Entity::find()
        .filter(Column::SiteId.eq(site_id))
        .filter(Condition::any().add(Column::Name.eq(name)).add(Column::Address.eq(at.0)))
        .all(db)
        .await?;
    for other in others.iter().filter(|o| Some(o.id) != but) {
        if other.name == name {
            let words = format!("identifierString: switch {} of this site is called {name} already", other.id);
            return Err(ApiError::conflict(words));
        }
        if other.status != "decommissioned" && other.port.unwrap_or_else(|| default_port(&other.driver)) == at.1 {
            let words = format!("managementAddress: switch {} is at {} port {} already", other.name, at.0, at.1);
            return Err(ApiError::conflict(words));
        }
    }
    Ok(())
}

pub(crate) fn notes(ctx: &Ctx, before: &Value) -> Value {
    let mut extra = before.as_object().cloned().unwrap_or_else(Map::new);
    for note in NOTES.iter().filter(|n| ctx.has(n)) {
        extra.insert((*note).to_owned(), ctx.body[*note].clone());
    }
    Value::Object(extra)
}

pub(crate) fn refuse_others(ctx: &Ctx) -> Result<(), ApiError> {
    ctx.refuse_others(&[KEPT, NOTES].concat())
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    refuse_others(&ctx)?;
    let driver = ctx.text("driver").map(driver).transpose()?;
    let at = ctx.text("managementAddress").map(address).transpose()?;
    let name = ctx.text("identifierString").map(|n| model::validate::label("identifierString", n)).transpose()?;
    let sealed = ctx
        .text("managementPassword")
        .filter(|p| !p.is_empty())
        .map(|p| ctx.app.sealer().seal(&Clear(p.to_owned())))
        .transpose()
        .map_err(ApiError::internal)?;
    let (new_port, quarantine_vlan) = (port(&ctx)?, quarantine(&ctx)?);
    let mac = ctx.text("managementMAC").filter(|m| !m.is_empty());
    let mac = mac.map(|m| model::validate::mac("managementMAC", m)).transpose()?;
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    if ctx.int("siteId").is_some_and(|id| id != found.site_id) {
        return Err(ApiError::field("siteId", "a switch stays at its site; register it anew at the other one"));
    }
    let next_driver = driver.as_deref().unwrap_or(&found.driver);
    let next_at = at.as_deref().unwrap_or(&found.address);
    let next_port = new_port.or(found.port).unwrap_or_else(|| default_port(next_driver));
    let next_name = name.as_deref().unwrap_or(&found.name);
    refuse_taken(&txn, found.site_id, next_name, (next_at, next_port), Some(found.id)).await?;
    let moved = next_at != found.address || new_port.is_some_and(|p| Some(p) != found.port);
    let mut extra = notes(&ctx, &found.extra);
    if moved {
        extra = take_shown(&extra).1;
    }
    let after = change(&ctx, &txn, &found, "update", |row| {
        if let Some(name) = name {
            row.name = Set(name);
        }
        if let Some(driver) = driver {
            row.driver = Set(driver);
        }
        if let Some(position) = ctx.text("position") {
            row.position = Set(position.to_owned());
        }
        if let Some(at) = at {
            row.address = Set(at);
        }
        if new_port.is_some() {
            row.port = Set(new_port);
        }
        // Another place has another certificate.
        if moved {
            row.tls_fingerprint = Set(None);
        }
        if let Some(name) = ctx.text("username").filter(|u| !u.is_empty()) {
            row.username = Set(name.to_owned());
        }
        if let Some(sealed) = sealed {
            row.password = Set(sealed.0);
        }
        if mac.is_some() {
            row.mac = Set(mac);
        }
        if ctx.has("quarantineVlan") {
            row.quarantine_vlan = Set(quarantine_vlan);
        }
        if ctx.has("datacenterRack") {
            row.rack = Set(ctx.text("datacenterRack").map(str::to_owned));
        }
        if let Some(serial) = ctx.text("serialNumber").filter(|s| !s.is_empty()) {
            row.serial = Set(Some(serial.to_owned()));
        }
        if let Some(tags) = ctx.body.get("tags").filter(|t| t.is_array()) {
            row.tags = Set(tags.clone());
        }
        row.extra = Set(extra);
    })
    .await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

/// Refuses what would cut servers off.
async fn refuse_used<C: ConnectionTrait>(db: &C, found: &network_device::Model, what: &str) -> Result<(), ApiError> {
    let member = fabric_device::Entity::find().filter(fabric_device::Column::NetworkDeviceId.eq(found.id));
    if let Some(member) = member.one(db).await? {
        return Err(ApiError::conflict(format!(
            "switch {} belongs to fabric {}; take it out of the fabric before it is {what}",
            found.name, member.fabric_id
        )));
    }
    refuse_carrying(db, found, what).await
}

/// Nothing is behind its ports any more.
async fn uncable<C: ConnectionTrait>(txn: &C, id: Id) -> Result<(), ApiError> {
    server_interface::Entity::update_many()
        .col_expr(server_interface::Column::NetworkDeviceId, Expr::val(None::<i64>))
        .col_expr(server_interface::Column::NetworkDevicePort, Expr::val(None::<String>))
        .filter(server_interface::Column::NetworkDeviceId.eq(id))
        .exec(txn)
        .await?;
    fabric_link::Entity::delete_many()
        .filter(Condition::any().add(fabric_link::Column::DeviceA.eq(id)).add(fabric_link::Column::DeviceB.eq(id)))
        .exec(txn)
        .await?;
    endpoint_interface::Entity::delete_many()
        .filter(endpoint_interface::Column::NetworkDeviceId.eq(id))
        .exec(txn)
        .await?;
    network_device_port::Entity::delete_many()
        .filter(network_device_port::Column::NetworkDeviceId.eq(id))
        .exec(txn)
        .await?;
    Ok(())
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    refuse_used(&txn, &found, "deleted").await?;
    uncable(&txn, found.id).await?;
    network_device::Entity::delete_by_id(found.id).exec(&txn).await?;
    facts::network_device_gone(&txn, found.site_id, found.id).await?;
    let title = format!("Switch {} deleted", found.name);
    let object = ("network_device", found.id);
    record(&ctx, &txn, "network_device.delete", title, object, json!({"before": wire(&found)})).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

async fn archive(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    refuse_used(&txn, &found, "archived").await?;
    uncable(&txn, found.id).await?;
    change(&ctx, &txn, &found, "archive", |row| row.status = Set("decommissioned".into())).await?;
    txn.commit().await?;
    // There is nothing to wait for.
    Ok(Reply::Json(json!({})))
}

async fn set_status(ctx: &Ctx, from: &[&str], to: &str, verb: &str) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(ctx, &txn).await?;
    if !from.contains(&found.status.as_str()) {
        return Err(ApiError::conflict(format!(
            "switch {} is {}; it must be {}",
            found.name,
            found.status,
            from.join(" or ")
        )));
    }
    let after = change(ctx, &txn, &found, verb, |row| row.status = Set(to.to_owned())).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

async fn fail(ctx: Ctx) -> Result<Reply, ApiError> {
    set_status(&ctx, &["active", "registering"], "failed", "set_as_failed").await
}

async fn revert_failed(ctx: Ctx) -> Result<Reply, ApiError> {
    set_status(&ctx, &["failed"], "active", "revert_failed_state").await
}

/// Trusts the certificate that the switch shows now; where none other was shown, the next one that it shows.
async fn trust(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    let (shown, extra) = take_shown(&found.extra);
    let after = change(&ctx, &txn, &found, "trust_certificate", |row| {
        row.tls_fingerprint = Set(shown);
        row.extra = Set(extra);
    })
    .await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

/// The login of a switch, for administrators alone; that it was looked at is on record.
async fn credentials(ctx: Ctx) -> Result<Reply, ApiError> {
    if !ctx.caller.is_admin {
        return Err(ApiError::forbidden("only an administrator sees the login of a switch"));
    }
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    let site = site::Entity::find_by_id(found.site_id).one(&txn).await?;
    let password = ctx.app.sealer().open(&Sealed(found.password.clone()));
    let password =
        password.map_err(|e| ApiError::conflict(format!("the password cannot be opened ({e}); enter it again")))?;
    seen(&ctx, &txn, ("network_device", found.id), &found.name).await?;
    txn.commit().await?;
    Ok(Reply::Json(json!({
        "username": found.username, "password": password.0, "host": found.address, "port": found.port.unwrap_or_else(|| default_port(&found.driver)),
        "datacenter": site.map_or_else(String::new, |s| s.slug), "driver": found.driver, "hostname": found.name,
    })))
}
