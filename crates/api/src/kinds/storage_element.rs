//! What drives, drive groups, file shares and buckets share: all are elements of a design that lie on a storage.

use std::collections::{BTreeSet, HashMap};

use model::{
    Id,
    deploy::{DeployStatus, DeployType, ServiceStatus},
    storage::Technology,
};
use planner::ElementKind;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, PaginatorTrait,
    QueryFilter, QuerySelect, QueryTrait, Select,
};
use serde_json::{Value, json};
use store::{
    entity::{
        infrastructure, logical_network, server_instance_group, storage, storage_element as element, storage_snapshot,
    },
    list::{ListQuery, Page, Revisioned, cas},
};

use crate::{
    context::{Ctx, Reply, whole},
    error::ApiError,
    kinds::{MAX_ROWS, infrastructure as infrastructures, record},
    planning::storage as planning,
};

/// What differs between the kinds.
pub(crate) struct Kind {
    /// What it is.
    pub element: ElementKind,
    /// Parameter of paths with its id.
    pub id: &'static str,
    /// Field of its size.
    pub size: &'static str,
    /// Bytes of one unit of that.
    pub unit: u64,
}

/// Largest size: a slip of the finger should not ask for more than a pebibyte.
const MAX_BYTES: u64 = 1 << 50;

/// Wire names of fields whose columns are called otherwise.
const ALIAS: &[(&str, &str)] =
    &[("storagePoolId", "storage_id"), ("config.deployStatus", "deploy_status"), ("config.deployType", "deploy_type")];

impl Kind {
    fn name(&self) -> &'static str {
        match self.element {
            ElementKind::DriveGroup => "drive group",
            kind => kind.words(),
        }
    }

    fn missing(&self, id: Id) -> ApiError {
        ApiError::not_found(self.name(), id)
    }
}

/// Elements of a kind that the caller may see.
pub(crate) fn visible(ctx: &Ctx, kind: ElementKind) -> Select<element::Entity> {
    let select = element::Entity::find()
        .filter(element::Column::Kind.eq(kind.as_str()))
        .filter(element::Column::ServiceStatus.ne(ServiceStatus::Deleted.as_str()));
    if ctx.caller.is_admin {
        return select;
    }
    let seen = infrastructures::visible(ctx).select_only().column(infrastructure::Column::Id);
    select.filter(element::Column::InfrastructureId.in_subquery(seen.into_query()))
}

/// An element of the path that the caller may see, with its infrastructure.
pub(crate) async fn find<C: ConnectionTrait>(
    ctx: &Ctx,
    db: &C,
    kind: &Kind,
) -> Result<(infrastructure::Model, element::Model), ApiError> {
    let id = ctx.id(kind.id)?;
    let found = visible(ctx, kind.element).filter(element::Column::Id.eq(id)).one(db).await?;
    let found = found.ok_or_else(|| kind.missing(id))?;
    if ctx.path.contains_key("infrastructureId") && ctx.id("infrastructureId")? != found.infrastructure_id {
        return Err(kind.missing(id));
    }
    let of = infrastructures::find(ctx, db, found.infrastructure_id).await.map_err(|_| kind.missing(id))?;
    Ok((of, found))
}

/// The same, for a change of its design.
pub(crate) async fn find_editable<C: ConnectionTrait>(
    ctx: &Ctx,
    db: &C,
    kind: &Kind,
) -> Result<(infrastructure::Model, element::Model), ApiError> {
    let (of, found) = find(ctx, db, kind).await?;
    let of = infrastructures::find_editable(ctx, db, of.id).await?;
    ctx.check_revision(found.revision)?;
    Ok((of, found))
}

/// A page of a selection.
pub(crate) async fn page(
    ctx: &Ctx,
    select: Select<element::Entity>,
    wire: fn(&element::Model, Id) -> Value,
) -> Result<Reply, ApiError> {
    let query = ListQuery::parse(&ctx.query, MAX_ROWS)?;
    let db = &ctx.app.db().read;
    let Page { rows, total } = query.run(db, select, ALIAS, &[element::Column::Label], element::Column::Id).await?;
    let owners: HashMap<Id, Id> = infrastructure::Entity::find()
        .select_only()
        .columns([infrastructure::Column::Id, infrastructure::Column::OwnerId])
        .filter(infrastructure::Column::Id.is_in(rows.iter().map(|r| r.infrastructure_id)))
        .into_tuple::<(i64, i64)>()
        .all(db)
        .await?
        .into_iter()
        .collect();
    let data = rows.iter().map(|r| wire(r, owners.get(&r.infrastructure_id).copied().unwrap_or(0))).collect();
    Ok(Reply::Json(query.body(ctx.operation.path, total, data)))
}

/// Elements of a kind in the infrastructure of the path.
pub(crate) async fn of_infrastructure(
    ctx: &Ctx,
    kind: &Kind,
    wire: fn(&element::Model, Id) -> Value,
) -> Result<Reply, ApiError> {
    let of = infrastructures::find(ctx, &ctx.app.db().read, ctx.id("infrastructureId")?).await?;
    page(ctx, visible(ctx, kind.element).filter(element::Column::InfrastructureId.eq(of.id)), wire).await
}

/// What every kind shows of its design (`config`), or of what is deployed.
pub(crate) fn block(kind: &Kind, e: &element::Model, design: &Value) -> Value {
    let size = design["sizeBytes"].as_u64().unwrap_or(0);
    let storage_id = planning::config(design).storage_id.or(e.storage_id);
    let mut all = json!({
        "revision": e.revision, "label": design["label"], "updatedTimestamp": e.updated_at, "subdomain": "", "storageImageName": "",
        kind.size: size / kind.unit,
    });
    for (name, value) in
        [("storagePoolId", json!(storage_id)), ("logicalNetworkId", design["logicalNetworkId"].clone())]
    {
        if !value.is_null() {
            all[name] = value;
        }
    }
    all
}

/// The whole wire form, without what only one kind has.
pub(crate) fn wire(kind: &Kind, e: &element::Model, owner_id: Id) -> Value {
    let deployed = if e.deployed.get("label").is_some() { &e.deployed } else { &e.design };
    let mut all = block(kind, e, deployed);
    all["config"] = config(kind, e);
    let more = json!({
        "id": e.id, "infrastructureId": e.infrastructure_id, "infrastructure": {"id": e.infrastructure_id, "userIdOwner": owner_id},
        "createdTimestamp": e.created_at, "serviceStatus": e.service_status, "subdomainPermanent": "", "dnsSubdomainId": 0, "meta": {"name": meta_name(e)}, "links": [],
    });
    if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
        all.extend(more);
    }
    all
}

/// The design in wire form.
pub(crate) fn config(kind: &Kind, e: &element::Model) -> Value {
    let mut all = block(kind, e, &e.design);
    all["deployType"] = e.deploy_type.clone().into();
    all["deployStatus"] = e.deploy_status.clone().into();
    if let Some(id) = e.deploy_id {
        all["infrastructureDeployId"] = id.into();
    }
    all
}

fn meta_name(e: &element::Model) -> String {
    e.meta["name"].as_str().unwrap_or_default().to_owned()
}

/// What was found out about an object of an element: `volume`, `access`, `share` or `bucket`.
pub(crate) fn seen<'a>(e: &'a element::Model, key: &str, what: &str) -> &'a Value {
    &e.state["objects"][key][what]
}

/// Takes the body over into a design, and checks what it names.
async fn read<C: ConnectionTrait>(
    ctx: &Ctx,
    db: &C,
    kind: &Kind,
    of: &infrastructure::Model,
    before: Option<&element::Model>,
    design: &mut Value,
) -> Result<(), ApiError> {
    let mut kept = vec![kind.size, "label", "meta", "logicalNetworkId", "storagePoolId", "allocationAffinity"];
    match kind.element {
        ElementKind::SharedDrive if before.is_none() => kept.extend(["qoS", "sourceDriveId", "sourceSnapshotName"]),
        ElementKind::SharedDrive => kept.push("qoS"),
        ElementKind::DriveGroup => kept.extend(["qoS", "serverInstanceGroupId", "boot"]),
        ElementKind::FileShare | ElementKind::Bucket => {}
    }
    ctx.refuse_others(&kept)?;
    if before.is_none() && kind.element == ElementKind::SharedDrive {
        source(ctx, db, of, design).await?;
    }
    if ctx.has(kind.size) {
        let size = ctx.int(kind.size).and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
        let bytes = size.and_then(|s| s.checked_mul(kind.unit)).filter(|b| *b <= MAX_BYTES);
        let bytes = bytes.ok_or_else(|| {
            ApiError::field(kind.size, format!("must be a whole number from 1 to {}", MAX_BYTES / kind.unit))
        })?;
        let now = before.and_then(planning::state).and_then(|s| s.objects.values().map(|o| o.size_bytes).max());
        if let Some(now) = now.filter(|now| bytes < *now) {
            let words = format!("cannot shrink: {} is deployed; make a smaller one and move the data", now / kind.unit);
            return Err(ApiError::field(kind.size, words));
        }
        design["sizeBytes"] = bytes.into();
    }
    if let Some(label) = ctx.text("label").filter(|l| !l.is_empty()) {
        design["label"] = model::validate::label("label", label)?.into();
    }
    if let Some(words) = ctx.text("qoS") {
        planning::qos(words).map_err(|wrong| ApiError::field("qoS", wrong))?;
        design["qoS"] = words.into();
    }
    if let Some(boot) = ctx.body.get("boot").filter(|_| kind.element == ElementKind::DriveGroup) {
        design["boot"] = (boot == &Value::Bool(true) || boot == 1).into();
    }
    if let Some(word) = ctx.text("allocationAffinity") {
        if !matches!(word, "same_storage" | "different_storage") {
            return Err(ApiError::field("allocationAffinity", "must be same_storage or different_storage"));
        }
        design["allocationAffinity"] = word.into();
    }
    if ctx.has("storagePoolId") {
        let wanted = ctx.int("storagePoolId").filter(|id| *id > 0);
        if let Some(id) = wanted {
            offered(db, kind, of, id).await?;
        }
        design["storagePoolId"] = json!(wanted);
    }
    if ctx.has("logicalNetworkId") {
        let wanted = ctx.int("logicalNetworkId").filter(|id| *id > 0);
        if let Some(id) = wanted {
            let found = logical_network::Entity::find_by_id(id).one(db).await?;
            if found.is_none_or(|n| n.infrastructure_id.is_some_and(|i| i != of.id)) {
                let words = format!("there is no logical network {id} that this infrastructure could use");
                return Err(ApiError::field("logicalNetworkId", words));
            }
        }
        design["logicalNetworkId"] = json!(wanted);
    }
    Ok(())
}

/// The drive, or the snapshot of one, that a new drive shall be a copy of.
async fn source<C: ConnectionTrait>(
    ctx: &Ctx,
    db: &C,
    of: &infrastructure::Model,
    design: &mut Value,
) -> Result<(), ApiError> {
    let Some(id) = ctx.int("sourceDriveId").filter(|id| *id > 0) else {
        return match ctx.text("sourceSnapshotName") {
            Some(_) => Err(ApiError::field("sourceDriveId", "is required with sourceSnapshotName: it is its drive")),
            None => Ok(()),
        };
    };
    let missing = || ApiError::field("sourceDriveId", format!("there is no drive {id} that could be copied here"));
    let found = visible(ctx, ElementKind::SharedDrive).filter(element::Column::Id.eq(id)).one(db).await?;
    let found = found.ok_or_else(missing)?;
    let its = infrastructures::find(ctx, db, found.infrastructure_id).await.map_err(|_| missing())?;
    if its.site_id != of.site_id {
        return Err(ApiError::field(
            "sourceDriveId",
            format!("drive {id} is at another site, and cannot be copied here"),
        ));
    }
    let state = planning::state(&found).ok_or_else(|| {
        ApiError::field("sourceDriveId", format!("drive {} is not deployed: there is nothing to copy", found.label))
    })?;
    let volume = state.objects.iter().next().ok_or_else(missing)?;
    let size = ctx.int("sizeMb").and_then(|s| u64::try_from(s).ok()).unwrap_or(0);
    if size < volume.1.size_bytes >> 20 {
        let words = format!("must be at least {}, which is what drive {} has", volume.1.size_bytes >> 20, found.label);
        return Err(ApiError::field("sizeMb", words));
    }
    if let Some(name) = ctx.text("sourceSnapshotName") {
        let there = storage_snapshot::Entity::find()
            .filter(storage_snapshot::Column::ElementId.eq(id))
            .filter(storage_snapshot::Column::Name.eq(name))
            .count(db)
            .await?;
        if there == 0 {
            return Err(ApiError::field("sourceSnapshotName", format!("drive {} has no snapshot {name}", found.label)));
        }
    }
    if let Some(wanted) = ctx.int("storagePoolId").filter(|w| *w > 0 && *w != state.storage_id) {
        let words = format!("is {wanted}, but a copy lies where its source does: on storage {}", state.storage_id);
        return Err(ApiError::field("storagePoolId", words));
    }
    design["source"] =
        json!({"storage_id": state.storage_id, "key": volume.0, "snapshot": ctx.text("sourceSnapshotName")});
    Ok(())
}

/// A storage of the infrastructure's site that offers what the kind needs.
async fn offered<C: ConnectionTrait>(db: &C, kind: &Kind, of: &infrastructure::Model, id: Id) -> Result<(), ApiError> {
    let found = storage::Entity::find_by_id(id).one(db).await?.filter(|s| s.site_id == of.site_id);
    let found = found.ok_or_else(|| {
        ApiError::field("storagePoolId", format!("there is no storage {id} at the infrastructure's site"))
    })?;
    let technology: Technology = kind.element.technology();
    if !found.technologies.as_array().is_some_and(|t| t.iter().any(|t| t == technology.as_str())) {
        let words = format!("storage {} offers no {} storage", found.name, technology.as_str());
        return Err(ApiError::field("storagePoolId", words));
    }
    Ok(())
}

async fn free_label<C: ConnectionTrait>(
    db: &C,
    kind: &Kind,
    infrastructure_id: Id,
    label: &str,
    but: Id,
) -> Result<(), ApiError> {
    let taken = element::Entity::find()
        .filter(element::Column::InfrastructureId.eq(infrastructure_id))
        .filter(element::Column::Kind.eq(kind.element.as_str()))
        .filter(element::Column::Label.eq(label))
        .filter(element::Column::Id.ne(but))
        .count(db)
        .await?;
    if taken > 0 {
        return Err(ApiError::conflict(format!("label: the infrastructure has a {} {label:?} already", kind.name())));
    }
    Ok(())
}

/// A new one in the design of the infrastructure of the path.
pub(crate) async fn create(
    ctx: &Ctx,
    kind: &Kind,
    hosts: &[Id],
) -> Result<(infrastructure::Model, element::Model), ApiError> {
    let txn = ctx.app.db().begin().await?;
    let of = infrastructures::find_editable(ctx, &txn, ctx.id("infrastructureId")?).await?;
    let mut design = json!({"hosts": hosts});
    if !ctx.has(kind.size) {
        return Err(ApiError::field(kind.size, "is required"));
    }
    read(ctx, &txn, kind, &of, None, &mut design).await?;
    own_groups(&txn, of.id, hosts, "serverInstanceGroupId").await?;
    if design.get("label").is_none() {
        let n = element::Entity::find().filter(element::Column::InfrastructureId.eq(of.id)).count(&txn).await?;
        design["label"] = format!("{}-{}", kind.element.words().replace(' ', "-"), n + 1).into();
    }
    let label = design["label"].as_str().unwrap_or_default().to_owned();
    free_label(&txn, kind, of.id, &label, 0).await?;
    let mut row = element::new();
    row.infrastructure_id = Set(of.id);
    row.kind = Set(kind.element.as_str().into());
    row.label = Set(label.clone());
    row.service_status = Set(ServiceStatus::Ordered.as_str().into());
    row.deploy_type = Set(DeployType::Create.as_str().into());
    row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
    row.deploy_id = Set(None);
    row.storage_id = Set(None);
    row.bytes = Set(0);
    row.design = Set(design);
    row.deployed = Set(json!({}));
    row.state = Set(json!({}));
    row.secret = Set(None);
    row.meta = Set(ctx.body.get("meta").filter(|m| m.is_object()).cloned().unwrap_or_else(|| json!({})));
    row.extra = Set(json!({}));
    let made = row.insert(&txn).await?;
    infrastructures::touch(&txn, &of).await?;
    let title = format!("{} {label} added to {}", capital(kind.name()), of.label);
    let event = format!("{}.create", kind.element.as_str());
    record(ctx, &txn, &event, title, (kind.element.as_str(), made.id), json!({"after": made.design})).await?;
    txn.commit().await?;
    Ok((of, made))
}

/// The first letter as at the beginning of a sentence.
fn capital(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Writes a changed design, in the transaction of the request.
async fn write(
    ctx: &Ctx,
    txn: &DatabaseTransaction,
    kind: &Kind,
    (of, found): (&infrastructure::Model, &element::Model),
    design: Value,
    verb: &str,
) -> Result<element::Model, ApiError> {
    let mut row = found.edit();
    row.label = Set(design["label"].as_str().unwrap_or(&found.label).to_owned());
    row.design = Set(design);
    // A change of one that was marked for deletion keeps it.
    let never = found.service_status == ServiceStatus::Ordered.as_str();
    row.deploy_type = Set(if never { DeployType::Create } else { DeployType::Edit }.as_str().into());
    row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
    let after = cas(txn, found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    infrastructures::touch(txn, of).await?;
    let title = format!("{} {} of {} changed", capital(kind.name()), after.label, of.label);
    let context = json!({"before": found.design, "after": after.design});
    record(ctx, txn, &format!("{}.{verb}", kind.element.as_str()), title, (kind.element.as_str(), after.id), context)
        .await?;
    Ok(after)
}

/// A change of the design.
pub(crate) async fn update(ctx: &Ctx, kind: &Kind) -> Result<(infrastructure::Model, element::Model), ApiError> {
    let txn = ctx.app.db().begin().await?;
    let (of, found) = find_editable(ctx, &txn, kind).await?;
    let mut design = found.design.clone();
    read(ctx, &txn, kind, &of, Some(&found), &mut design).await?;
    free_label(&txn, kind, of.id, design["label"].as_str().unwrap_or_default(), found.id).await?;
    let after = write(ctx, &txn, kind, (&of, &found), design, "edit").await?;
    txn.commit().await?;
    Ok((of, after))
}

/// One that never held anything goes at once; any other goes with the next deploy.
pub(crate) async fn delete(ctx: &Ctx, kind: &Kind) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let (of, found) = find_editable(ctx, &txn, kind).await?;
    if found.storage_id.is_none() && found.service_status == ServiceStatus::Ordered.as_str() {
        storage_snapshot::Entity::delete_many()
            .filter(storage_snapshot::Column::ElementId.eq(found.id))
            .exec(&txn)
            .await?;
        element::Entity::delete_by_id(found.id).exec(&txn).await?;
    } else {
        let mut row = found.edit();
        row.deploy_type = Set(DeployType::Delete.as_str().into());
        row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
        cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    }
    infrastructures::touch(&txn, &of).await?;
    let title = format!("{} {} of {} deleted", capital(kind.name()), found.label, of.label);
    let event = format!("{}.delete", kind.element.as_str());
    record(ctx, &txn, &event, title, (kind.element.as_str(), found.id), json!({"before": found.design})).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

/// Its name for people, which is no part of the design.
pub(crate) async fn update_meta(ctx: &Ctx, kind: &Kind) -> Result<(infrastructure::Model, element::Model), ApiError> {
    let name = ctx.need_text("name")?.to_owned();
    let txn = ctx.app.db().begin().await?;
    let (of, found) = find(ctx, &txn, kind).await?;
    let mut row = found.edit();
    row.meta = Set(json!({"name": name}));
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    let title = format!("{} {} of {} is named {name}", capital(kind.name()), after.label, of.label);
    let context = json!({"before": found.meta, "after": after.meta});
    record(ctx, &txn, &format!("{}.name", kind.element.as_str()), title, (kind.element.as_str(), after.id), context)
        .await?;
    txn.commit().await?;
    Ok((of, after))
}

/// Refuses groups of other infrastructures.
async fn own_groups<C: ConnectionTrait>(
    db: &C,
    infrastructure_id: Id,
    ids: &[Id],
    field: &str,
) -> Result<(), ApiError> {
    let own: BTreeSet<Id> = server_instance_group::Entity::find()
        .select_only()
        .column(server_instance_group::Column::Id)
        .filter(server_instance_group::Column::InfrastructureId.eq(infrastructure_id))
        .filter(server_instance_group::Column::Id.is_in(ids.to_vec()))
        .into_tuple::<i64>()
        .all(db)
        .await?
        .into_iter()
        .collect();
    match ids.iter().find(|id| !own.contains(id)) {
        Some(id) => {
            Err(ApiError::field(field, format!("there is no server instance group {id} in this infrastructure")))
        }
        None => Ok(()),
    }
}

/// Hosts as groups: what is connected, and what the next deploy changes.
pub(crate) fn hosts(e: &element::Model) -> Value {
    let wanted = planning::config(&e.design).groups;
    let now = planning::config(&e.deployed).groups;
    let wanted = if e.deploy_type == DeployType::Delete.as_str() { BTreeSet::new() } else { wanted };
    json!({
        "instanceGroup": {
            "willBeConnected": wanted.difference(&now).collect::<Vec<_>>(), "connected": now.intersection(&wanted).collect::<Vec<_>>(),
            "willBeDisconnected": now.difference(&wanted).collect::<Vec<_>>(), "disconnected": [],
        }
    })
}

/// Adds and removes groups as hosts. `field`: the list of operations in the body.
pub(crate) async fn modify_hosts(ctx: &Ctx, kind: &Kind, field: &str) -> Result<element::Model, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let (of, found) = find_editable(ctx, &txn, kind).await?;
    let mut groups = planning::config(&found.design).groups;
    let operations = ctx.body.get(field).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut added = Vec::new();
    for operation in operations {
        let id = operation.get("serverInstanceGroupId").and_then(whole).unwrap_or(0);
        if operation["operationType"] == "add" {
            added.push(id);
            groups.insert(id);
        } else if !groups.remove(&id) {
            return Err(ApiError::field(field, format!("group {id} is no host of it")));
        }
    }
    own_groups(&txn, of.id, &added, field).await?;
    let mut design = found.design.clone();
    design["hosts"] = json!(groups);
    let after = write(ctx, &txn, kind, (&of, &found), design, "hosts").await?;
    txn.commit().await?;
    Ok(after)
}
