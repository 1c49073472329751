//! Endpoints: things on switch ports that nobody here manages.

use model::Id;
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::{Map, Value, json};
use store::entity::{endpoint, endpoint_interface as interface, site};

use crate::{
    context::{Ctx, Reply, whole},
    error::ApiError,
    kinds::{edit, endpoint_interface::attach, list, record, remove},
    routes,
};

routes! {
    "getEndpoints" => endpoints,
    "getEndpointById" => one,
    "createEndpoint" => create,
    "bulkCreateEndpoints" => create_many,
    "updateEndpoint" => update,
    "deleteEndpoint" => delete,
}

/// Endpoints of one call at most.
const MAX_AT_ONCE: usize = 1000;

const FIELDS: &[(&str, &str)] = &[("createdTimestamp", "created_at"), ("updatedTimestamp", "updated_at")];

fn wire(e: &endpoint::Model) -> Value {
    json!({
        "id": e.id.to_string(), "revision": e.revision.to_string(), "externalId": e.external_id, "siteId": e.site_id, "name": e.name, "label": e.label,
        "createdTimestamp": e.created_at, "updatedTimestamp": e.updated_at, "links": [],
    })
}

/// The endpoint of the path.
pub(crate) async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<endpoint::Model, ApiError> {
    let id = ctx.id("endpointId")?;
    endpoint::Entity::find_by_id(id).one(db).await?.ok_or_else(|| ApiError::not_found("endpoint", id))
}

/// A label as the interface wants it here: lower case, a letter first.
fn label(field: &str, text: &str) -> Result<String, ApiError> {
    let good = text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if good {
        return Ok(text.to_owned());
    }
    Err(ApiError::field(
        field,
        format!("{text:?} is not a label: a small letter first, then small letters, digits and '-', 63 at most"),
    ))
}

async fn endpoints(ctx: Ctx) -> Result<Reply, ApiError> {
    let search = [endpoint::Column::Name, endpoint::Column::Label, endpoint::Column::ExternalId];
    Ok(Reply::Json(list(&ctx, endpoint::Entity::find(), FIELDS, &search, endpoint::Column::Id, wire).await?))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

/// Makes one endpoint with its interfaces. `at` stands before the names of fields in errors.
async fn make<C: ConnectionTrait>(
    ctx: &Ctx,
    txn: &C,
    body: &Map<String, Value>,
    at: &str,
) -> Result<endpoint::Model, ApiError> {
    let field = |name: &str| format!("{at}{name}");
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let need = |name: &str| text(name).ok_or_else(|| ApiError::field(field(name), "is required"));
    let site_id = body.get("siteId").and_then(whole).ok_or_else(|| ApiError::field(field("siteId"), "is required"))?;
    let label = label(&field("label"), need("label")?)?;
    let name = model::validate::name(&field("name"), need("name")?)?;
    let external = text("externalId").filter(|t| !t.is_empty());
    let external = external.map(|t| model::validate::name(&field("externalId"), t)).transpose()?;
    if site::Entity::find_by_id(site_id).one(txn).await?.is_none_or(|s| s.decommissioned) {
        return Err(ApiError::field(field("siteId"), format!("there is no site {site_id}")));
    }
    refuse_taken(txn, site_id, &label, None).await?;
    let mut row = endpoint::new();
    row.site_id = Set(site_id);
    row.name = Set(name);
    row.label = Set(label);
    row.external_id = Set(external);
    let made = row.insert(txn).await?;
    let interfaces = body.get("endpointInterfaces").and_then(Value::as_array);
    for (i, given) in interfaces.into_iter().flatten().filter_map(Value::as_object).enumerate() {
        attach(txn, &made, given, &field(&format!("endpointInterfaces[{i}]."))).await?;
    }
    let title = format!("Endpoint {} created", made.label);
    record(ctx, txn, "endpoint.create", title, ("endpoint", made.id), json!({"after": wire(&made)})).await?;
    Ok(made)
}

async fn refuse_taken<C: ConnectionTrait>(db: &C, site_id: Id, label: &str, but: Option<Id>) -> Result<(), ApiError> {
    let same = endpoint::Entity::find()
        .filter(endpoint::Column::SiteId.eq(site_id))
        .filter(endpoint::Column::Label.eq(label))
        .one(db)
        .await?;
    match same.filter(|s| Some(s.id) != but) {
        Some(other) => {
            Err(ApiError::conflict(format!("label: endpoint {} of this site is called {label} already", other.id)))
        }
        None => Ok(()),
    }
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let made = make(&ctx, &txn, &ctx.body, "").await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

/// All or none.
async fn create_many(ctx: Ctx) -> Result<Reply, ApiError> {
    let given = ctx.body.get("endpoints").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if given.is_empty() || given.len() > MAX_AT_ONCE {
        return Err(ApiError::field("endpoints", format!("has {}; give 1 to {MAX_AT_ONCE}", given.len())));
    }
    let txn = ctx.app.db().begin().await?;
    for (i, body) in given.iter().filter_map(Value::as_object).enumerate() {
        make(&ctx, &txn, body, &format!("endpoints[{i}].")).await?;
    }
    txn.commit().await?;
    Ok(Reply::Empty)
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let label = ctx.text("label").map(|l| label("label", l)).transpose()?;
    let name = ctx.text("name").map(|n| model::validate::name("name", n)).transpose()?;
    let external = ctx.text("externalId").filter(|t| !t.is_empty());
    let external = external.map(|t| model::validate::name("externalId", t)).transpose()?;
    let db = &ctx.app.db().read;
    let found = find(&ctx, db).await?;
    if let Some(label) = &label {
        refuse_taken(db, found.site_id, label, Some(found.id)).await?;
    }
    let after = edit(&ctx, &found, ("endpoint", &found.label), "update", wire, |row| {
        if let Some(label) = label {
            row.label = Set(label);
        }
        if let Some(name) = name {
            row.name = Set(name);
        }
        if ctx.has("externalId") {
            row.external_id = Set(external);
        }
    })
    .await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    remove(&ctx, &txn, &found, ("endpoint", &found.label), wire).await?;
    interface::Entity::delete_many().filter(interface::Column::EndpointId.eq(found.id)).exec(&txn).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
