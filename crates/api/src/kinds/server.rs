//! Servers: what is in the racks.

use std::collections::{BTreeMap, HashSet};

use engine::entity::job_group;
use model::{
    Id,
    job::JobCommand,
    secret::Sealed,
    server::{By, ServerStatus},
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QuerySelect,
};
use serde_json::{Map, Value, json};
use store::{
    entity::{server, server_instance, server_interface, server_type},
    event::NewEvent,
    list::ListQuery,
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    facts,
    kinds::{
        MAX_ROWS, edit_in, record, server_cleanup_policy, server_registration,
        server_wire::{FIELDS, Related, SEARCH},
    },
    routes,
};

routes! {
    "getServers" => servers,
    "getServerInfo" => one,
    "getServersStatistics" => statistics,
    "updateServer" => update,
    "deleteServer" => delete,
    "archiveServer" => archive,
    "getServerCredentials" => credentials,
    "trustServerCertificate" => trust,
    "getServerCapabilities" => capabilities,
}

/// The server of the path.
pub(crate) async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<server::Model, ApiError> {
    let id = ctx.id("serverId")?;
    server::Entity::find_by_id(id).one(db).await?.ok_or_else(|| ApiError::not_found("server", id))
}

/// The server of the path, kept from changing until the transaction ends: nobody takes it meanwhile.
pub(crate) async fn find_locked(ctx: &Ctx, txn: &DatabaseTransaction) -> Result<server::Model, ApiError> {
    let id = ctx.id("serverId")?;
    let found = server::Entity::find_by_id(id).lock_exclusive().one(txn).await?;
    found.ok_or_else(|| ApiError::not_found("server", id))
}

/// A server in wire form, with what is around it.
pub(crate) async fn wire<C: ConnectionTrait>(db: &C, s: &server::Model) -> Result<Value, ApiError> {
    Ok(Related::load(db, std::slice::from_ref(s)).await?.wire(s))
}

/// What is told of a server in events: nothing large, no secret.
pub(crate) fn brief(s: &server::Model) -> Value {
    json!({
        "serialNumber": s.serial, "managementAddress": s.bmc_address, "username": s.bmc_username, "serverStatus": s.status, "serverTypeId": s.server_type_id,
        "registrationProfileId": s.registration_profile_id, "administrationState": s.administration_state, "maintenance": s.maintenance, "serverCleanupPolicyId": s.cleanup_policy_id, "tlsFingerprint": s.tls_fingerprint, "rackName": s.rack, "serverComments": s.comments, "tags": s.tags,
    })
}

/// A change of a server at the revision that the caller named, with its event and its fact, in the caller's transaction.
pub(crate) async fn change<C: ConnectionTrait>(
    ctx: &Ctx,
    txn: &C,
    found: &server::Model,
    verb: &str,
    edit: impl FnOnce(&mut server::ActiveModel),
) -> Result<server::Model, ApiError> {
    let subject = format!("Server {}", facts::server_name(found));
    let after = edit_in(ctx, txn, found, ("server", &subject), verb, brief, edit).await?;
    facts::server(txn, ctx.app.sealer(), after.id).await?;
    Ok(after)
}

async fn servers(ctx: Ctx) -> Result<Reply, ApiError> {
    let query = ListQuery::parse(&ctx.query, MAX_ROWS)?;
    let db = &ctx.app.db().read;
    let page = query.run(db, server::Entity::find(), FIELDS, SEARCH, server::Column::Id).await?;
    let related = Related::load(db, &page.rows).await?;
    let data = page.rows.iter().map(|s| related.wire(s)).collect();
    Ok(Reply::Json(query.body(ctx.operation.path, page.total, data)))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let found = find(&ctx, db).await?;
    Ok(Reply::Tagged(wire(db, &found).await?, found.revision))
}

async fn statistics(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let counts: Vec<(String, i64, i64)> = server::Entity::find()
        .select_only()
        .column(server::Column::Status)
        .column(server::Column::SiteId)
        .column_as(server::Column::Id.count(), "n")
        .group_by(server::Column::Status)
        .group_by(server::Column::SiteId)
        .into_tuple()
        .all(db)
        .await?;
    let mut by_status: BTreeMap<&str, i64> = ServerStatus::ALL.iter().map(|s| (s.as_str(), 0)).collect();
    let mut by_site: BTreeMap<String, i64> = BTreeMap::new();
    for (status, site_id, n) in &counts {
        *by_status.entry(status).or_default() += n;
        *by_site.entry(site_id.to_string()).or_default() += n;
    }
    Ok(Reply::Json(json!({"serverStatus": by_status, "site": by_site})))
}

/// Fields that are kept as they come, in `extra`.
const NOTES: &[&str] =
    &["serverClass", "chassisRackId", "rackPositionUpperUnit", "rackPositionLowerUnit", "inventoryId"];

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut kept = vec![
        "serverTypeId",
        "managementAddress",
        "username",
        "registrationProfileId",
        "serverCleanupPolicyId",
        "serverComments",
        "rackName",
        "tags",
        "serverStatus",
    ];
    kept.extend(NOTES);
    ctx.refuse_others(&kept)?;
    let address = ctx.text("managementAddress").map(server_registration::bmc_address).transpose()?;
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    if let Some(id) = ctx.int("serverTypeId")
        && server_type::Entity::find_by_id(id).one(&txn).await?.is_none()
    {
        return Err(ApiError::field("serverTypeId", format!("there is no server type {id}")));
    }
    if let Some(id) = ctx.int("registrationProfileId") {
        server_registration::profile(&txn, Some(id)).await?;
    }
    if let Some(address) = &address {
        server_registration::refuse_taken(&txn, address, Some(found.id)).await?;
    }
    let status = ctx.text("serverStatus").map(|word| next_status(&found, word, ctx.int("serverTypeId"))).transpose()?;
    if let Some(next) = status.filter(|s| s.as_str() != found.status) {
        refuse_production(&found, "moved to another status")?;
        if !next.holds_tenant_data() {
            refuse_used(&txn, &found, "moved to another status").await?;
        }
    }
    let policy = ctx.int("serverCleanupPolicyId").filter(|id| *id != 0);
    if let Some(id) = policy {
        server_cleanup_policy::known(&txn, "serverCleanupPolicyId", id).await?;
    }
    let mut extra = found.extra.clone();
    if !extra.is_object() {
        extra = Value::Object(Map::new());
    }
    if status == Some(ServerStatus::Defective) && found.status == ServerStatus::CleaningRequired.as_str() {
        extra[DIRTY] = true.into();
    }
    if status == Some(ServerStatus::CleaningRequired)
        && let Some(map) = extra.as_object_mut()
    {
        map.remove(DIRTY);
    }
    for note in NOTES.iter().filter(|n| ctx.has(n)) {
        extra[*note] = ctx.body[*note].clone();
    }
    if address.as_ref().is_some_and(|a| Some(a) != found.bmc_address.as_ref()) {
        extra = take_shown(&extra).1;
    }
    let after = change(&ctx, &txn, &found, "update", |row| {
        if let Some(id) = ctx.int("serverTypeId") {
            row.server_type_id = Set(Some(id));
        }
        if let Some(address) = address {
            // Another BMC has another certificate. That of a server in use stays pinned: orders for it must not reach another machine.
            if found.bmc_address.as_ref() != Some(&address) && !holds_data(&found) {
                row.tls_fingerprint = Set(None);
            }
            row.bmc_address = Set(Some(address));
        }
        if let Some(name) = ctx.text("username") {
            row.bmc_username = Set(Some(name.to_owned()));
        }
        if let Some(id) = ctx.int("registrationProfileId") {
            row.registration_profile_id = Set(Some(id));
        }
        if ctx.has("serverCleanupPolicyId") {
            row.cleanup_policy_id = Set(policy);
        }
        if ctx.has("serverComments") {
            row.comments = Set(ctx.text("serverComments").map(str::to_owned));
        }
        if ctx.has("rackName") {
            row.rack = Set(ctx.text("rackName").map(str::to_owned));
        }
        if let Some(tags) = ctx.body.get("tags").filter(|t| t.is_array()) {
            row.tags = Set(tags.clone());
        }
        if let Some(status) = status {
            row.status = Set(status.as_str().to_owned());
            row.status_reason = Set(None);
        }
        row.extra = Set(extra);
    })
    .await?;
    let body = wire(&txn, &after).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(body, after.revision))
}

/// Note with a server that left service before its disks were erased.
pub const DIRTY: &str = "dirty";

/// The status that a person asks for, if it may follow.
fn next_status(found: &server::Model, word: &str, type_id: Option<Id>) -> Result<ServerStatus, ApiError> {
    let field = |words: String| ApiError::field("serverStatus", words);
    let next = ServerStatus::parse(word).ok_or_else(|| field(format!("{word:?} is not a status")))?;
    let now = ServerStatus::parse(&found.status).unwrap_or(ServerStatus::Unavailable);
    if matches!(next, ServerStatus::Registering | ServerStatus::UsedRegistering) && now != next {
        return Err(field("registering begins with the action re-register".into()));
    }
    if next == ServerStatus::Cleaning && now != next {
        return Err(field("cleaning begins with the action clean".into()));
    }
    if !now.may_become(next, By::Anyone) {
        let can: Vec<&str> = ServerStatus::ALL
            .iter()
            .filter(|s| **s != now && now.may_become(**s, By::Anyone))
            .map(|s| s.as_str())
            .collect();
        let can = if can.is_empty() { "nothing by hand".to_owned() } else { can.join(", ") };
        return Err(ApiError::conflict(format!(
            "serverStatus: a server that is {} cannot become {word}; it can become {can}",
            now.as_str()
        )));
    }
    if found.extra[DIRTY] == true && matches!(next, ServerStatus::Available | ServerStatus::Unavailable) {
        return Err(ApiError::conflict(format!(
            "serverStatus: a tenant's data may still be on the disks of server {}; make it cleaning_required, clean it, and it is available",
            facts::server_name(found)
        )));
    }
    if next == ServerStatus::Available && now != next && type_id.or(found.server_type_id).is_none() {
        return Err(ApiError::conflict(
            "serverStatus: a server without a server type cannot become available; re-register it, or set serverTypeId",
        ));
    }
    Ok(next)
}

/// Refuses what is not to be done to a server that is in production outside of this platform.
pub(crate) fn refuse_production(found: &server::Model, what: &str) -> Result<(), ApiError> {
    if !facts::hands_off(found) {
        return Ok(());
    }
    Err(ApiError::conflict(format!(
        "server {} is in production outside of this platform (it is {}): it cannot be {what}; if it is no longer, take it over with the action manage",
        facts::server_name(found),
        found.administration_state
    )))
}

/// Refuses what would pull a server from under somebody.
pub(crate) async fn refuse_used<C: ConnectionTrait>(db: &C, found: &server::Model, what: &str) -> Result<(), ApiError> {
    refuse_production(found, what)?;
    let holder = server_instance::Entity::find().filter(server_instance::Column::ServerId.eq(found.id)).one(db).await?;
    let status = ServerStatus::parse(&found.status);
    let busy = matches!(status, Some(ServerStatus::Cleaning | ServerStatus::UpdatingFirmware));
    match holder {
        Some(i) => Err(ApiError::conflict(format!(
            "server {} is used by instance {} of infrastructure {}; release it before it can be {what}",
            facts::server_name(found),
            i.label,
            i.infrastructure_id
        ))),
        None if busy || status.is_some_and(ServerStatus::holds_tenant_data) => Err(ApiError::conflict(format!(
            "server {} is {}; it cannot be {what} now",
            facts::server_name(found),
            found.status
        ))),
        None => Ok(()),
    }
}

/// Whether a tenant's data are on a server, by its status.
pub(crate) fn holds_data(found: &server::Model) -> bool {
    ServerStatus::parse(&found.status).is_some_and(ServerStatus::holds_tenant_data)
}

/// Stops what still goes on with a server. Each is a transaction of its own.
async fn cancel_groups(ctx: &Ctx, found: &server::Model, reason: &str) -> Result<(), ApiError> {
    let open: Vec<Id> = job_group::Entity::find()
        .select_only()
        .column(job_group::Column::Id)
        .filter(job_group::Column::ServerId.eq(found.id))
        .filter(job_group::Column::FinishedAt.is_null())
        .into_tuple()
        .all(&ctx.app.db().read)
        .await?;
    for group_id in open {
        ctx.app.engine().command(JobCommand::CancelGroup { group_id, reason: reason.to_owned() }).await?;
    }
    Ok(())
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    ctx.check_revision(found.revision)?;
    refuse_used(&ctx.app.db().read, &found, "deleted").await?;
    cancel_groups(&ctx, &found, "the server was deleted").await?;
    let txn = ctx.app.db().begin().await?;
    let found = find_locked(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    refuse_used(&txn, &found, "deleted").await?;
    server_interface::Entity::delete_many().filter(server_interface::Column::ServerId.eq(found.id)).exec(&txn).await?;
    server::Entity::delete_by_id(found.id).exec(&txn).await?;
    facts::server_gone(&txn, found.site_id, found.id).await?;
    let title = format!("Server {} deleted", facts::server_name(&found));
    record(&ctx, &txn, "server.delete", title, ("server", found.id), json!({"before": brief(&found)})).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

/// Out of service, kept for the record. Its addresses are free for another one.
async fn archive(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    ctx.check_revision(found.revision)?;
    refuse_used(&ctx.app.db().read, &found, "archived").await?;
    cancel_groups(&ctx, &found, "the server was archived").await?;
    let txn = ctx.app.db().begin().await?;
    let found = find_locked(&ctx, &txn).await?;
    refuse_used(&txn, &found, "archived").await?;
    let now = ServerStatus::parse(&found.status).unwrap_or(ServerStatus::Unavailable);
    let registering = matches!(now, ServerStatus::Registering | ServerStatus::PendingRegistration);
    if !registering && !now.may_become(ServerStatus::Decommissioned, By::Anyone) {
        return Err(ApiError::conflict(format!(
            "a server that is {} cannot be archived; make it unavailable first",
            now.as_str()
        )));
    }
    server_interface::Entity::delete_many().filter(server_interface::Column::ServerId.eq(found.id)).exec(&txn).await?;
    let mut extra = found.extra.clone();
    if let Some(map) = extra.as_object_mut() {
        map.insert("formerManagementAddress".into(), json!(found.bmc_address));
    }
    change(&ctx, &txn, &found, "archive", |row| {
        row.status = Set(ServerStatus::Decommissioned.as_str().into());
        row.status_reason = Set(None);
        row.bmc_address = Set(None);
        row.bmc_password = Set(None);
        row.extra = Set(extra);
    })
    .await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

/// The BMC's login, for administrators alone; that it was looked at is on record.
async fn credentials(ctx: Ctx) -> Result<Reply, ApiError> {
    if !ctx.caller.is_admin {
        return Err(ApiError::forbidden("only an administrator sees the login of a BMC"));
    }
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    let body = opened(&ctx, &found)?;
    seen(&ctx, &txn, ("server", found.id), &facts::server_name(&found)).await?;
    txn.commit().await?;
    Ok(Reply::Json(body))
}

/// The login in clear.
pub(crate) fn opened(ctx: &Ctx, found: &server::Model) -> Result<Value, ApiError> {
    let password = found
        .bmc_password
        .as_ref()
        .map(|p| ctx.app.sealer().open(&Sealed(p.clone())))
        .transpose()
        .map_err(|e| ApiError::conflict(format!("the BMC's password cannot be opened ({e}); enter it again")))?;
    Ok(json!({
        "username": found.bmc_username, "password": password.map(|p| p.0), "vncPassword": null, "snmpPassword": null,
    }))
}

/// Notes that somebody looked at a secret.
pub(crate) async fn seen<C: ConnectionTrait>(
    ctx: &Ctx,
    txn: &C,
    object: (&str, Id),
    name: &str,
) -> Result<(), ApiError> {
    let kind = object.0.replace('_', " ");
    store::event::append(
        txn,
        NewEvent {
            kind: format!("{}.credentials", object.0),
            severity: "security".into(),
            title: format!("Login of {kind} {name} was shown to {}", ctx.caller.email),
            object: Some((object.0.into(), object.1)),
            actor: Some((ctx.caller.user_id, ctx.caller.email.clone())),
            request_id: Some(ctx.request_id.clone()),
            account_id: (ctx.caller.account_id > 0).then_some(ctx.caller.account_id),
            server_id: (object.0 == "server").then_some(object.1),
            context: json!({}),
            ..Default::default()
        },
    )
    .await?;
    Ok(())
}

async fn capabilities(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    // As the BMC told when its firmware was read.
    let firmware = &found.extra["firmware"];
    let takes = firmware["methods"].as_array().is_some_and(|m| !m.is_empty());
    Ok(Reply::Json(json!({
        "firmwareUpgradeSupported": takes, "firmwareUpgradeApplyOnRebootSupported": takes && firmware["holdsBack"] == true,
        "virtualMediaDeviceCount": i32::from(takes),
        "vncEnabled": crate::kinds::server_wire::inventory(&found).consoles.screen.is_some(),
    })))
}

/// Trusts the certificate that the BMC shows now; where none other was shown, the next one that it shows.
async fn trust(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    let (shown, extra) = take_shown(&found.extra);
    let after = change(&ctx, &txn, &found, "trust_certificate", |row| {
        row.tls_fingerprint = Set(shown);
        row.extra = Set(extra);
    })
    .await?;
    let body = wire(&txn, &after).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(body, after.revision))
}

/// The certificate that was shown instead of the trusted one, and the notes without it.
pub(crate) fn take_shown(extra: &Value) -> (Option<String>, Value) {
    let mut map = extra.as_object().cloned().unwrap_or_default();
    let shown = map.remove("shownFingerprint").as_ref().and_then(Value::as_str).map(str::to_owned);
    (shown, Value::Object(map))
}

/// Ids among `ids` that an instance holds.
pub(crate) async fn held<C: ConnectionTrait>(db: &C, ids: &[Id]) -> Result<HashSet<Id>, ApiError> {
    let rows: Vec<Option<Id>> = server_instance::Entity::find()
        .select_only()
        .column(server_instance::Column::ServerId)
        .filter(server_instance::Column::ServerId.is_in(ids.to_vec()))
        .into_tuple()
        .all(db)
        .await?;
    Ok(rows.into_iter().flatten().collect())
}
