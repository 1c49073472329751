//! Firmware of one server: its parts, what is on offer for them, and their update.

use model::{Id, firmware::ServerFirmwareInventory, order::Order};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::{Map, Value, json};
use store::{
    entity::{server, server_component},
    list::{Revisioned, cas},
    time,
};

use super::{
    firmware_baseline::named_servers,
    firmware_catalog::{timestamp, url},
    firmware_match::Offer,
    firmware_record,
    firmware_upgrade::{Asker, Begun, Desk, Want, begin, holders_of, locked, may, parts_of, step},
    server_bmc::{ask, ask_and_wait, refuse_outside},
};
use crate::{
    context::{Ctx, Reply, whole},
    error::ApiError,
    facts,
    kinds::{list, record, server::find},
    routes,
};

routes! {
    "getServerComponents" => components,
    "getServerComponentInfo" => component,
    "updateServerComponent" => update,
    "upgradeFirmwareOfServerComponent" => upgrade_component,
    "upgradeFirmwareOfServer" => upgrade,
    "upgradeFirmwareOfServersBatch" => upgrade_batch,
    "scheduleServerFirmwareUpgrade" => schedule,
    "batchScheduleServerFirmwareUpgrade" => schedule_batch,
    "fetchAndUpdateServerFirmwareAvailableVersions" => refresh,
    "updateServerFirmwareInfo" => read,
    "getServerFirmwareInventory" => inventory,
    "generateServersFirmwareUpgradeAudit" => audit,
}

/// Wire names of fields whose columns are called otherwise.
const FIELDS: &[(&str, &str)] = &[("type", "kind"), ("firmwareUpgradeNeedsConfirmation", "needs_confirmation")];

fn wire(c: &server_component::Model) -> Value {
    json!({
        "id": c.id, "externalId": c.external_id, "serverId": c.server_id, "name": c.name, "type": c.kind, "firmwareTargetVersion": c.firmware_target_version,
        "firmwareUpdateAvailableVersions": c.available_versions, "firmwareUpdateRequiredFixes": {}, "firmwareUpdateable": i32::from(c.firmware_updateable),
        "firmwareVersion": c.firmware_version, "firmwareInfo": c.info, "firmwareUpgradeNeedsConfirmation": i32::from(c.needs_confirmation),
        "firmwareUpdateTimestamp": c.firmware_update_timestamp, "firmwareScheduledTimestamp": c.firmware_scheduled_timestamp, "firmwareStatus": c.firmware_status,
        "firmwareFailure": c.failure, "revision": c.revision, "links": [],
    })
}

async fn find_component<C: ConnectionTrait>(
    ctx: &Ctx,
    db: &C,
    name: &str,
) -> Result<server_component::Model, ApiError> {
    let (server_id, id) = (ctx.id("serverId")?, ctx.id(name)?);
    server_component::Entity::find_by_id(id)
        .filter(server_component::Column::ServerId.eq(server_id))
        .one(db)
        .await?
        .ok_or_else(|| ApiError::not_found("component", format!("{id} of server {server_id}")))
}

async fn components(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = find(&ctx, &ctx.app.db().read).await?;
    let select = server_component::Entity::find().filter(server_component::Column::ServerId.eq(of.id));
    let search = [server_component::Column::Name, server_component::Column::Kind, server_component::Column::ExternalId];
    Ok(Reply::Json(list(&ctx, select, FIELDS, &search, server_component::Column::Id, wire).await?))
}

async fn component(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    find(&ctx, db).await?;
    let found = find_component(&ctx, db, "componentId").await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let of = find(&ctx, &txn).await?;
    let found = find_component(&ctx, &txn, "componentId").await?;
    ctx.check_revision(found.revision)?;
    let target = ctx.text("firmwareTargetVersion").map(str::trim).filter(|t| !t.is_empty());
    if let Some(target) = target
        && Some(target) != found.firmware_version.as_deref()
    {
        let offer = Offer::load(&txn, None).await?;
        if offer.of_version(&of, &found, target).is_none() {
            return Err(ApiError::field(
                "firmwareTargetVersion",
                format!("no catalog has an image of version {target} for {}; add a firmware binary first", found.name),
            ));
        }
    }
    let mut row = found.edit();
    if ctx.has("firmwareTargetVersion") {
        row.firmware_target_version = Set(target.map(str::to_owned));
    }
    if let Some(needs) = ctx.flag("firmwareUpgradeNeedsConfirmation") {
        row.needs_confirmation = Set(needs);
    }
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    let title = format!("{} of server {} changed", after.name, facts::server_name(&of));
    let context = json!({"before": wire(&found), "after": wire(&after)});
    record(&ctx, &txn, "server_component.update", title, ("server_component", after.id), context).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

/// One part, with an image from a catalog, or one that is named by its place.
async fn upgrade_component(ctx: Ctx) -> Result<Reply, ApiError> {
    let address =
        ctx.text("firmwareBinaryUrl").filter(|u| !u.is_empty()).map(|u| url("firmwareBinaryUrl", u)).transpose()?;
    let version = ctx.text("componentFirmwareNewVersion").map(str::trim).filter(|v| !v.is_empty()).map(str::to_owned);
    let txn = ctx.app.db().begin().await?;
    find(&ctx, &txn).await?;
    let part = find_component(&ctx, &txn, "serverComponentId").await?;
    let (of, holder) = locked(&txn, part.server_id).await?;
    if !part.firmware_updateable {
        return Err(ApiError::conflict(format!("the BMC takes no firmware for {}", part.name)));
    }
    if part.firmware_status == "updating" {
        return Err(ApiError::conflict(format!("{} is being updated already; wait for the end", part.name)));
    }
    let desk = Desk::open(&txn, None).await?;
    let mut one = match (address, &version) {
        (Some(url), _) => step(&part, model::firmware::Image::Url { url }, version.clone()),
        (None, wanted) => {
            let found = match wanted {
                Some(v) => desk.offer.of_version(&of, &part, v),
                None => desk.offer.best(&of, &part, part.firmware_target_version.as_deref()),
            };
            let binary = found.ok_or_else(|| {
                ApiError::field(
                    "componentFirmwareNewVersion",
                    format!(
                        "no catalog has {} for {} of server {}; add a firmware binary, or name the image by firmwareBinaryUrl",
                        wanted.as_deref().map_or_else(|| "anything newer".to_owned(), |v| format!("version {v}")),
                        part.name,
                        facts::server_name(&of)
                    ),
                )
            })?;
            step(&part, super::firmware_binary::image(binary), binary.package_version.clone())
        }
    };
    one.restart = !ctx.flag("applyOnReboot").unwrap_or(false);
    let begun = begin(&ctx.app, &txn, &Asker::of(&ctx), &of, holder.as_ref(), &desk, vec![one]).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    ctx.app.wrote();
    Ok(Reply::Json(begun.wire()))
}

/// Everything of one server for which something newer is on offer, or that has a target.
async fn begin_one(ctx: &Ctx, desk: &Desk, server_id: Id) -> Result<Begun, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let (of, holder) = locked(&txn, server_id).await?;
    may(&of, holder.as_ref())?;
    let parts = parts_of(&txn, &[server_id]).await?.remove(&server_id).unwrap_or_default();
    if parts.is_empty() {
        return Err(ApiError::conflict(format!(
            "the firmware of server {} was not read yet; read it first (update-info)",
            facts::server_name(&of)
        )));
    }
    let steps = desk.steps(&Want::Targets, &of, holder.as_ref(), &parts);
    if steps.is_empty() {
        return Err(ApiError::conflict(format!(
            "nothing is to be updated on server {}: no catalog has anything newer or the target versions",
            facts::server_name(&of)
        )));
    }
    let begun = begin(&ctx.app, &txn, &Asker::of(ctx), &of, holder.as_ref(), desk, steps).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    ctx.app.wrote();
    Ok(begun)
}

async fn upgrade(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = find(&ctx, &ctx.app.db().read).await?;
    ctx.check_revision(of.revision)?;
    let desk = Desk::open(&ctx.app.db().read, None).await?;
    Ok(Reply::Json(begin_one(&ctx, &desk, of.id).await?.wire()))
}

fn ids_of(ctx: &Ctx) -> Result<Vec<Id>, ApiError> {
    let list = ctx.body.get("serverIds").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        return Err(ApiError::field("serverIds", "names no server"));
    }
    list.iter()
        .enumerate()
        .map(|(n, v)| whole(v).ok_or_else(|| ApiError::field(format!("serverIds[{n}]"), "is not an id")))
        .collect()
}

async fn upgrade_batch(ctx: Ctx) -> Result<Reply, ApiError> {
    let desk = Desk::open(&ctx.app.db().read, None).await?;
    let (mut good, mut bad) = (Map::new(), Map::new());
    for id in ids_of(&ctx)? {
        match begin_one(&ctx, &desk, id).await {
            Ok(begun) => good.insert(id.to_string(), begun.wire()),
            Err(error) => bad.insert(id.to_string(), json!(error.message)),
        };
    }
    Ok(Reply::Json(json!({"successful": good, "failed": bad})))
}

/// Sets the time at which what is on offer is written.
async fn plan(ctx: &Ctx, ids: &[Id]) -> Result<(), ApiError> {
    let at = match ctx.text("scheduleUpdateTimestamp").filter(|t| !t.is_empty()) {
        Some(text) => timestamp("scheduleUpdateTimestamp", text)?,
        None => time::now(),
    };
    let txn = ctx.app.db().begin().await?;
    let servers = server::Entity::find().filter(server::Column::Id.is_in(ids.to_vec())).all(&txn).await?;
    if let Some((n, id)) = ids.iter().enumerate().find(|(_, id)| !servers.iter().any(|s| s.id == **id)) {
        return Err(ApiError::field(format!("serverIds[{n}]"), format!("there is no server {id}")));
    }
    let (parts, holders) = (parts_of(&txn, ids).await?, holders_of(&txn, ids).await?);
    let desk = Desk::open(&txn, None).await?;
    for s in &servers {
        refuse_outside(s, "given other firmware")?;
        let none = Vec::new();
        let steps = desk.steps(&Want::Targets, s, holders.get(&s.id), parts.get(&s.id).unwrap_or(&none));
        if steps.is_empty() {
            return Err(ApiError::conflict(format!(
                "nothing is to be updated on server {}: no catalog has anything newer or the target versions",
                facts::server_name(s)
            )));
        }
        for step in &steps {
            let mut row = server_component::ActiveModel { id: Set(step.component_id), ..Default::default() };
            row.firmware_target_version = Set(step.to.clone());
            row.firmware_scheduled_timestamp = Set(Some(at.clone()));
            if let Some(confirm) = ctx.flag("confirmationRequired") {
                row.needs_confirmation = Set(confirm);
            }
            row.updated_at = Set(time::now());
            row.update(&txn).await?;
        }
        let title = format!("Firmware update of server {} planned for {at}", facts::server_name(s));
        let words: Vec<String> = steps.iter().map(super::firmware_upgrade::Step::words).collect();
        record(ctx, &txn, "server.firmware_schedule", title, ("server", s.id), json!({"at": at, "updates": words}))
            .await?;
    }
    txn.commit().await?;
    ctx.app.wrote();
    Ok(())
}

async fn schedule(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = find(&ctx, &ctx.app.db().read).await?;
    plan(&ctx, &[of.id]).await?;
    Ok(Reply::Empty)
}

async fn schedule_batch(ctx: Ctx) -> Result<Reply, ApiError> {
    find(&ctx, &ctx.app.db().read).await?;
    plan(&ctx, &ids_of(&ctx)?).await?;
    Ok(Reply::Empty)
}

/// Compares with catalogs anew.
async fn refresh(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let of = find(&ctx, &txn).await?;
    firmware_record::refresh(&txn, &[of]).await?;
    txn.commit().await?;
    ctx.app.wrote();
    Ok(Reply::Empty)
}

/// Reads the firmware from the BMC, by a job.
async fn read(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = find(&ctx, &ctx.app.db().read).await?;
    let title = format!("Read the firmware of server {}", facts::server_name(&of));
    let payload = ServerFirmwareInventory { server_id: of.id };
    ask(&ctx, &of, ServerFirmwareInventory::NAME, title, serde_json::to_value(payload)?, 300).await?;
    Ok(Reply::Empty)
}

/// The firmware as the BMC tells it now; as it was read last where the BMC does not answer in time.
async fn inventory(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = find(&ctx, &ctx.app.db().read).await?;
    let title = format!("Read the firmware of server {}", facts::server_name(&of));
    let payload = serde_json::to_value(ServerFirmwareInventory { server_id: of.id })?;
    let now = ask_and_wait(&ctx, &of, ServerFirmwareInventory::NAME, title, payload, 120).await?;
    let parts = parts_of(&ctx.app.db().read, &[of.id]).await?.remove(&of.id).unwrap_or_default();
    let fresh = now.is_some();
    let methods = now.as_ref().and_then(|n| n.get("methods").cloned()).unwrap_or_else(|| json!([]));
    let read = now.and_then(|n| n.get("components").cloned());
    let listed = read.unwrap_or_else(|| {
        parts
            .iter()
            .map(|c| json!({"id": c.external_id, "name": c.name, "kind": c.kind, "version": c.firmware_version, "updateable": c.firmware_updateable}))
            .collect()
    });
    Ok(Reply::Json(json!({"serverId": of.id, "fresh": fresh, "updateMethods": methods, "components": listed})))
}

/// `*` and `?` are wildcards; a text without them is looked for anywhere.
fn matches(pattern: Option<&str>, text: &str) -> bool {
    let Some(pattern) = pattern.map(str::trim).filter(|p| !p.is_empty()) else { return true };
    let (pattern, text) = (pattern.to_lowercase(), text.to_lowercase());
    if !pattern.contains(['*', '?']) {
        return text.contains(&pattern);
    }
    let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // reach[j]: what was read of the pattern matches the first j characters.
    let mut reach = vec![false; t.len() + 1];
    reach[0] = true;
    for c in p {
        let mut next = vec![false; t.len() + 1];
        match c {
            '*' => {
                let mut any = false;
                for (j, r) in reach.iter().enumerate() {
                    any |= *r;
                    next[j] = any;
                }
            }
            _ => {
                for j in 0..t.len() {
                    next[j + 1] = reach[j] && (c == '?' || c == t[j]);
                }
            }
        }
        reach = next;
    }
    reach.last().copied().unwrap_or(false)
}

/// What could be updated where, and what policies say of it.
async fn audit(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let (vendor, model) = (ctx.text("vendorPattern"), ctx.text("modelPattern"));
    let mut servers = named_servers(&ctx, db).await?;
    servers.retain(|s| {
        matches(vendor, s.vendor.as_deref().unwrap_or_default())
            && matches(model, s.model.as_deref().unwrap_or_default())
    });
    let ids: Vec<Id> = servers.iter().map(|s| s.id).collect();
    let (parts, holders, desk) = (parts_of(db, &ids).await?, holders_of(db, &ids).await?, Desk::open(db, None).await?);
    let mut updates = 0u32;
    let rows: Vec<Value> = servers
        .iter()
        .map(|s| {
            let none = Vec::new();
            let holder = holders.get(&s.id);
            let cells: Vec<Value> = parts
                .get(&s.id)
                .unwrap_or(&none)
                .iter()
                .map(|p| {
                    let best = desk.offer.best(s, p, None);
                    let target = best.and_then(|b| b.package_version.clone());
                    updates += u32::from(best.is_some());
                    let said = super::firmware_match::verdict(&desk.policies, s, holder, p, target.as_deref());
                    json!({
                        "componentId": p.id, "name": p.name, "type": p.kind, "firmwareVersion": p.firmware_version, "updateable": p.firmware_updateable,
                        "availableVersion": target, "updateSeverity": best.map(|b| &b.update_severity), "policyAction": said.as_ref().map(|v| v.0),
                        "policy": said.map(|v| v.1), "scheduledTimestamp": p.firmware_scheduled_timestamp, "status": p.firmware_status,
                    })
                })
                .collect();
            json!({
                "serverId": s.id, "serverName": facts::server_name(s), "vendor": s.vendor, "model": s.model, "serverStatus": s.status,
                "inUse": facts::in_use(s, holder.is_some()), "components": cells,
            })
        })
        .collect();
    Ok(Reply::Json(json!({"servers": rows, "serverCount": servers.len(), "updateCount": updates})))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            (None, "Dell", true),
            (Some(""), "Dell", true),
            (Some("dell"), "Dell Inc.", true),
            (Some("Dell*"), "Dell Inc.", true),
            (Some("*650"), "PowerEdge R650", true),
            (Some("PowerEdge R?50"), "PowerEdge R650", true),
            (Some("R650*x"), "R650", false),
            (Some("hpe"), "Dell", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern:?} {text}");
        }
    }
}
