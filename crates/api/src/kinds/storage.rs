//! Storages: arrays and storage nodes of a site.

use model::{
    Id,
    secret::{Clear, Sealed},
    storage::{BlockProtocol, StorageDriver, Technology},
};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter,
    sea_query::{Expr, ExprTrait},
};
use serde_json::{Map, Value, json};
use store::{
    entity::{network_fabric, site, storage, storage_element, storage_interface},
    list::{ListQuery, Page, Revisioned, cas},
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    facts,
    kinds::{MAX_ROWS, record, server, storage_discovery::start},
    planning::storage as planning,
    routes,
};

routes! {
    "getStorages" => storages,
    "getStorage" => one,
    "createStorage" => create,
    "updateStorage" => update,
    "deleteStorage" => delete,
    "getStorageCredentials" => credentials,
    "trustStorageCertificate" => trust,
}

/// Fields that are kept as they come, beside their columns.
const NOTES: &[&str] = &[
    "iscsiHost",
    "iscsiPort",
    "targetIQN",
    "drivePriority",
    "sharedDrivePriority",
    "alternateSanIPs",
    "subnetType",
    "overcommitPercent",
];
/// Fields with a column, or a meaning.
const KEPT: &[&str] = &[
    "userId",
    "siteId",
    "driver",
    "technologies",
    "type",
    "name",
    "managementHost",
    "managementPort",
    "username",
    "inMaintenance",
    "isExperimental",
    "tags",
    "options",
    "networkFabricId",
    "password",
    "privateKey",
    "clientId",
    "keyId",
    "issuer",
];
/// Parts of a login that are no secret; drivers read them among their options.
const LOGIN: &[&str] = &["clientId", "keyId", "issuer"];

/// The wire form. People who do not administer see what they can choose from, and nothing of how it is managed.
pub(crate) fn wire(s: &storage::Model, admin: bool) -> Value {
    let found = planning::facts(s);
    let note = |name: &str| s.extra.get(name).cloned().unwrap_or(Value::Null);
    let ports = |protocol: &str| {
        let of = |p: &&model::storage::Portal| p.protocol == protocol;
        found.portals.iter().filter(of).map(|p| json!({"portId": p.name, "nodeId": p.node})).collect::<Vec<_>>()
    };
    let mut options = s.options.as_object().cloned().unwrap_or_default();
    options.retain(|name, _| !LOGIN.contains(&name.as_str()));
    options.extend([
        ("version".to_owned(), json!(found.version)),
        ("portsIscsi".to_owned(), json!(ports("iscsi"))),
        ("portsNvmeTcp".to_owned(), json!(ports("nvme_tcp"))),
        ("portsScsiFc".to_owned(), json!(ports("scsi_fc"))),
        ("portsNvmeFc".to_owned(), json!(ports("nvme_fc"))),
    ]);
    let target = note("targetIQN").as_str().map(str::to_owned).or(found.target_iqn);
    let mut all = json!({
        "id": s.id, "revision": s.revision, "userId": s.user_id, "siteId": s.site_id, "datacenterName": "", "driver": s.driver, "technologies": s.technologies,
        "status": s.status, "operationMode": s.operation_mode, "name": s.name, "iscsiHost": note("iscsiHost"), "iscsiPort": note("iscsiPort"),
        "managementHost": "", "inMaintenance": i32::from(s.in_maintenance), "targetIQN": target, "isExperimental": i32::from(s.is_experimental),
        "drivePriority": note("drivePriority"), "sharedDrivePriority": note("sharedDrivePriority"), "alternateSanIPs": note("alternateSanIPs"), "tags": s.tags,
        "subnetType": s.extra["subnetType"].as_str().unwrap_or("ipv4"), "networkFabricId": s.fabric_id, "overcommitPercent": planning::overcommit(s),
        "capacityBytes": found.capacity.total_bytes, "usedBytes": found.capacity.used_bytes, "features": found.features,
        "createdTimestamp": s.created_at, "updatedTimestamp": s.updated_at, "links": [],
    });
    if let Some(protocol) = &s.protocol {
        all["type"] = json!(protocol);
    }
    if admin {
        let more = json!({
            "managementHost": s.address, "managementPort": s.port, "username": s.username, "options": options, "statusReason": note("statusReason"),
            "serialNumber": found.serial, "vendor": found.vendor, "model": found.model, "version": found.version, "pools": found.pools,
            "tlsFingerprint": s.tls_fingerprint, "tlsFingerprintShown": note("shownFingerprint"), "jobInfo": note("jobInfo"),
        });
        if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
            all.extend(more);
        }
    }
    all
}

/// A storage by its id.
pub(crate) async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<storage::Model, ApiError> {
    let id = ctx.id("storageId")?;
    storage::Entity::find_by_id(id).one(db).await?.ok_or_else(|| ApiError::not_found("storage", id))
}

async fn storages(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut select = storage::Entity::find();
    // Technologies are a list in one column.
    let technologies = |name: &str| name == "filter.technologies";
    for (_, value) in ctx.query.iter().filter(|(name, _)| technologies(name)) {
        let word = value.rsplit(':').next().unwrap_or_default();
        if Technology::parse(word).is_none() {
            return Err(ApiError::field("filter.technologies", format!("{word:?} is not block, file or object")));
        }
        let text = Expr::col(storage::Column::Technologies).cast_as("text");
        select = select.filter(text.like(format!("%\"{word}\"%")));
    }
    let pairs: Vec<_> = ctx.query.iter().filter(|(name, _)| !technologies(name)).cloned().collect();
    let query = ListQuery::parse(&pairs, MAX_ROWS)?;
    let alias = [("managementHost", "address"), ("networkFabricId", "fabric_id"), ("type", "protocol")];
    let db = &ctx.app.db().read;
    let Page { rows, total } = query.run(db, select, &alias, &[storage::Column::Name], storage::Column::Id).await?;
    let data = rows.iter().map(|s| wire(s, ctx.caller.is_admin)).collect();
    Ok(Reply::Json(query.body(ctx.operation.path, total, data)))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found, ctx.caller.is_admin), found.revision))
}

fn host(field: &str, text: &str) -> Result<String, ApiError> {
    let text = text.trim();
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    Ok(model::validate::hostname(field, text)?)
}

fn port(ctx: &Ctx, field: &str) -> Result<Option<i64>, ApiError> {
    match ctx.int(field).filter(|p| *p != 0) {
        Some(p) if !(1..=65535).contains(&p) => Err(ApiError::field(field, format!("{p} is not a port"))),
        other => Ok(other),
    }
}

/// A secret of the body, sealed at rest.
fn sealed(ctx: &Ctx, field: &str) -> Result<Option<String>, ApiError> {
    let Some(text) = ctx.text(field).filter(|t| !t.is_empty()) else { return Ok(None) };
    Ok(Some(ctx.app.sealer().seal(&Clear(text.to_owned())).map_err(ApiError::internal)?.0))
}

/// Fields without a column of their own, over what is there.
fn notes(ctx: &Ctx, before: &Value) -> Result<Value, ApiError> {
    let mut all = before.as_object().cloned().unwrap_or_default();
    for name in NOTES {
        if let Some(value) = ctx.body.get(*name).filter(|v| !v.is_null()) {
            all.insert((*name).to_owned(), value.clone());
        }
    }
    if let Some(percent) = ctx.int("overcommitPercent")
        && !(1..=10_000).contains(&percent)
    {
        return Err(ApiError::field("overcommitPercent", format!("{percent} is not between 1 and 10000")));
    }
    Ok(Value::Object(all))
}

fn options(ctx: &Ctx, before: &Value) -> Value {
    let mut all: Map<String, Value> = before.as_object().cloned().unwrap_or_default();
    for (name, value) in ctx.body.get("options").and_then(Value::as_object).into_iter().flatten() {
        if value.is_null() {
            all.remove(name);
        } else {
            all.insert(name.clone(), value.clone());
        }
    }
    for name in LOGIN {
        if let Some(value) = ctx.text(name) {
            all.insert((*name).to_owned(), json!(value));
        }
    }
    Value::Object(all)
}

fn technologies(ctx: &Ctx) -> Result<Vec<Technology>, ApiError> {
    let words = ctx.body.get("technologies").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut all: Vec<Technology> = Vec::new();
    for word in words.iter().filter_map(Value::as_str) {
        let found = Technology::parse(word);
        all.push(
            found.ok_or_else(|| ApiError::field("technologies", format!("{word:?} is not block, file or object")))?,
        );
    }
    all.sort();
    all.dedup();
    if all.is_empty() {
        return Err(ApiError::field("technologies", "names nothing; name block, file or object"));
    }
    Ok(all)
}

async fn fabric<C: ConnectionTrait>(ctx: &Ctx, db: &C, site_id: Id) -> Result<Option<Id>, ApiError> {
    let Some(id) = ctx.int("networkFabricId").filter(|id| *id > 0) else { return Ok(None) };
    let found = network_fabric::Entity::find_by_id(id).one(db).await?.filter(|f| f.site_id == site_id);
    found
        .map(|f| Some(f.id))
        .ok_or_else(|| ApiError::field("networkFabricId", format!("site {site_id} has no fabric {id}")))
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    ctx.refuse_others(&[NOTES, KEPT].concat())?;
    let driver = ctx.need_text("driver")?;
    let driver = StorageDriver::parse(driver)
        .ok_or_else(|| ApiError::field("driver", format!("{driver:?} is not the driver of a storage")))?;
    let technologies = technologies(&ctx)?;
    let protocol = ctx.text("type").and_then(BlockProtocol::parse);
    let block = technologies.contains(&Technology::Block);
    let name = model::validate::name("name", ctx.need_text("name")?)?;
    let address = host("managementHost", ctx.need_text("managementHost")?)?;
    let management_port = port(&ctx, "managementPort")?;
    port(&ctx, "iscsiPort")?;
    let (password, private_key) = (sealed(&ctx, "password")?, sealed(&ctx, "privateKey")?);
    if password.is_none() && private_key.is_none() {
        return Err(ApiError::field("password", "is required, or a privateKey: the site logs in with it"));
    }
    let site_id = ctx.need_int("siteId")?;
    let txn = ctx.app.db().begin().await?;
    if site::Entity::find_by_id(site_id).one(&txn).await?.is_none_or(|s| s.decommissioned) {
        return Err(ApiError::field("siteId", format!("there is no site {site_id}")));
    }
    let same_name = storage::Entity::find()
        .filter(storage::Column::SiteId.eq(site_id))
        .filter(storage::Column::Name.eq(&name))
        .count(&txn)
        .await?;
    if same_name > 0 {
        return Err(ApiError::conflict(format!("name: the site has a storage {name:?} already")));
    }
    let fabric_id = fabric(&ctx, &txn, site_id).await?;
    let mut row = storage::new();
    row.site_id = Set(site_id);
    row.name = Set(name);
    row.driver = Set(driver.as_str().into());
    row.technologies = Set(json!(technologies));
    row.protocol = Set(block.then(|| protocol.unwrap_or(BlockProtocol::Iscsi).as_str().to_owned()));
    row.status = Set("pending".into());
    row.operation_mode = Set("normal".into());
    row.address = Set(address);
    row.port = Set(management_port);
    row.username = Set(ctx.text("username").unwrap_or_default().to_owned());
    row.password = Set(password);
    row.private_key = Set(private_key);
    row.tls_fingerprint = Set(None);
    row.fabric_id = Set(fabric_id);
    row.user_id = Set(ctx.int("userId"));
    row.in_maintenance = Set(ctx.flag("inMaintenance").unwrap_or(false));
    row.is_experimental = Set(ctx.flag("isExperimental").unwrap_or(false));
    row.options = Set(options(&ctx, &Value::Null));
    row.facts = Set(json!({}));
    row.tags = Set(ctx.body.get("tags").filter(|t| t.is_array()).cloned().unwrap_or_else(|| json!([])));
    row.extra = Set(notes(&ctx, &Value::Null)?);
    let made = row.insert(&txn).await?;
    facts::storage(&txn, ctx.app.sealer(), made.id).await?;
    let (made, info) = start(&ctx.app, &txn, made).await?;
    let title = format!("Storage {} is being registered", made.name);
    record(&ctx, &txn, "storage.register", title, ("storage", made.id), json!({"after": wire(&made, true)})).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    Ok(Reply::Tagged(json!({"id": made.id, "revision": made.revision, "jobInfo": info}), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    ctx.refuse_others(&[NOTES, KEPT].concat())?;
    let name = ctx.text("name").map(|n| model::validate::name("name", n)).transpose()?;
    let address = ctx.text("managementHost").map(|h| host("managementHost", h)).transpose()?;
    let management_port = port(&ctx, "managementPort")?;
    let (password, private_key) = (sealed(&ctx, "password")?, sealed(&ctx, "privateKey")?);
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    let mut row = found.edit();
    if ctx.has("networkFabricId") {
        row.fabric_id = Set(fabric(&ctx, &txn, found.site_id).await?);
    }
    let login = password.is_some() || private_key.is_some() || address.is_some() || ctx.has("username");
    if let Some(name) = name {
        row.name = Set(name);
    }
    if let Some(address) = address {
        row.address = Set(address);
    }
    if ctx.has("managementPort") {
        row.port = Set(management_port);
    }
    if let Some(username) = ctx.text("username") {
        row.username = Set(username.to_owned());
    }
    if password.is_some() {
        row.password = Set(password);
    }
    if private_key.is_some() {
        row.private_key = Set(private_key);
    }
    if let Some(maintenance) = ctx.flag("inMaintenance") {
        row.in_maintenance = Set(maintenance);
    }
    if let Some(experimental) = ctx.flag("isExperimental") {
        row.is_experimental = Set(experimental);
    }
    if let Some(tags) = ctx.body.get("tags").filter(|t| t.is_array()) {
        row.tags = Set(tags.clone());
    }
    row.options = Set(options(&ctx, &found.options));
    row.extra = Set(notes(&ctx, &found.extra)?);
    let mut after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    facts::storage(&txn, ctx.app.sealer(), after.id).await?;
    if login {
        after = start(&ctx.app, &txn, after).await?.0;
    }
    let title = format!("Storage {} changed", after.name);
    let context = json!({"before": wire(&found, true), "after": wire(&after, true)});
    record(&ctx, &txn, "storage.update", title, ("storage", after.id), context).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    Ok(Reply::Tagged(wire(&after, true), after.revision))
}

/// Refused while anything lies on it, or is designed to.
async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    let held =
        storage_element::Entity::find().filter(storage_element::Column::StorageId.eq(found.id)).all(&txn).await?;
    let open = storage_element::Entity::find().filter(storage_element::Column::StorageId.is_null()).all(&txn).await?;
    let wanted = open.iter().filter(|e| planning::config(&e.design).storage_id == Some(found.id)).count();
    if held.len() + wanted > 0 {
        return Err(ApiError::conflict(format!(
            "storage {} is used: {} drives, shares and buckets lie on it, {wanted} are designed for it; delete these first, or put it into maintenance",
            found.name,
            held.len()
        )));
    }
    storage_interface::Entity::delete_many()
        .filter(storage_interface::Column::StorageId.eq(found.id))
        .exec(&txn)
        .await?;
    storage::Entity::delete_by_id(found.id).exec(&txn).await?;
    facts::storage_gone(&txn, found.site_id, found.id).await?;
    let title = format!("Storage {} deleted", found.name);
    record(&ctx, &txn, "storage.delete", title, ("storage", found.id), json!({"before": wire(&found, true)})).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

/// The login of a storage, for administrators alone; that it was looked at is on record.
async fn credentials(ctx: Ctx) -> Result<Reply, ApiError> {
    if !ctx.caller.is_admin {
        return Err(ApiError::forbidden("only an administrator sees the login of a storage"));
    }
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    let open = |sealed: &Option<String>| match sealed {
        Some(sealed) => ctx
            .app
            .sealer()
            .open(&Sealed(sealed.clone()))
            .map(|c| Some(c.0))
            .map_err(|e| ApiError::conflict(format!("the login cannot be opened ({e}); enter it again"))),
        None => Ok(None),
    };
    let (password, private_key) = (open(&found.password)?, open(&found.private_key)?);
    server::seen(&ctx, &txn, ("storage", found.id), &found.name).await?;
    txn.commit().await?;
    Ok(Reply::Json(json!({
        "username": found.username, "password": password, "privateKey": private_key, "clientId": found.options["clientId"], "keyId": found.options["keyId"],
        "issuer": found.options["issuer"],
    })))
}

/// The certificate or host key that was shown last is the right one.
async fn trust(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    let (shown, extra) = server::take_shown(&found.extra);
    let mut row = found.edit();
    row.tls_fingerprint = Set(shown);
    row.extra = Set(extra);
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    facts::storage(&txn, ctx.app.sealer(), after.id).await?;
    let title = format!("Certificate of storage {} trusted", after.name);
    let context = json!({"before": found.tls_fingerprint, "after": after.tls_fingerprint});
    record(&ctx, &txn, "storage.trust_certificate", title, ("storage", after.id), context).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&after, true), after.revision))
}
