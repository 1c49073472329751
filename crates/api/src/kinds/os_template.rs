//! Operating system templates.

use std::collections::{BTreeSet, HashMap};

use model::{
    Id,
    secret::{Clear, Sealed},
    template::OsInstall,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait, PaginatorTrait,
    QueryFilter, QuerySelect, Select,
};
use serde_json::{Value, json};
use store::{
    entity::{os_template, server_instance, server_instance_group, template_asset},
    list::{ListQuery, Revisioned, cas},
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{MAX_ROWS, record, server::seen, template_asset as assets},
    routes,
};

routes! {
    "getOSTemplates" => templates,
    "getOSTemplate" => one,
    "createOSTemplate" => create,
    "updateOSTemplate" => update,
    "deleteOSTemplate" => delete,
    "getOSTemplateCredentials" => credentials,
}

/// The asset that holds the disk image.
pub const IMAGE_USAGE: &str = "source_image";

fn wire(t: &os_template::Model, assets: &[Id]) -> Value {
    let block = |name: &str| t.body.get(name).filter(|v| v.is_object()).cloned().unwrap_or_else(|| json!({}));
    json!({
        "id": t.id, "revision": t.revision, "name": t.name, "label": t.label, "description": t.description, "device": block("device"), "install": block("install"),
        "imageBuild": block("imageBuild"), "imageCertSerialNumber": t.body.get("imageCertSerialNumber"), "os": block("os"), "visibility": t.visibility, "status": t.status,
        "templateAssetIDs": assets, "tags": t.tags, "createdBy": t.created_by, "modifiedBy": t.body.get("modifiedBy"), "createdAt": t.created_at,
        "modifiedAt": t.updated_at, "links": [],
    })
}

/// Templates that the caller may see: public ones and their own, all for administrators.
pub(crate) fn visible(ctx: &Ctx) -> Select<os_template::Entity> {
    let select = os_template::Entity::find();
    if ctx.caller.is_admin {
        return select;
    }
    select.filter(
        Condition::any()
            .add(os_template::Column::Visibility.eq("public"))
            .add(os_template::Column::CreatedBy.eq(ctx.caller.user_id)),
    )
}

/// A template that the caller may see.
pub(crate) async fn find_by<C: ConnectionTrait>(ctx: &Ctx, db: &C, id: Id) -> Result<os_template::Model, ApiError> {
    visible(ctx)
        .filter(os_template::Column::Id.eq(id))
        .one(db)
        .await?
        .ok_or_else(|| ApiError::not_found("OS template", id))
}

/// A template that the caller may change: an administrator all, others their own.
pub(crate) async fn find_own<C: ConnectionTrait>(ctx: &Ctx, db: &C, id: Id) -> Result<os_template::Model, ApiError> {
    let found = find_by(ctx, db, id).await?;
    if !ctx.caller.is_admin && found.created_by != ctx.caller.user_id {
        return Err(ApiError::forbidden(format!("OS template {} belongs to somebody else", found.name)));
    }
    Ok(found)
}

/// What an installation of a template needs; words that say what is missing where it cannot be installed.
pub async fn os_install<C: ConnectionTrait>(db: &C, id: Id) -> Result<OsInstall, ApiError> {
    let found = crate::planning::template::load(db, &[id]).await?.remove(&id);
    let found = found.ok_or_else(|| ApiError::not_found("OS template", id))?;
    let problem = found.problem.unwrap_or_else(|| format!("OS template {id} cannot be installed"));
    found.os.ok_or_else(|| ApiError::conflict(problem))
}

async fn asset_ids<C: ConnectionTrait>(db: &C, templates: &[Id]) -> Result<HashMap<Id, Vec<Id>>, ApiError> {
    let rows: Vec<(Id, Id)> = template_asset::Entity::find()
        .select_only()
        .column(template_asset::Column::OsTemplateId)
        .column(template_asset::Column::Id)
        .filter(template_asset::Column::OsTemplateId.is_in(templates.to_vec()))
        .into_tuple()
        .all(db)
        .await?;
    let mut of: HashMap<Id, Vec<Id>> = HashMap::new();
    for (template, asset) in rows {
        of.entry(template).or_default().push(asset);
    }
    for ids in of.values_mut() {
        ids.sort_unstable();
    }
    Ok(of)
}

async fn whole<C: ConnectionTrait>(db: &C, t: &os_template::Model) -> Result<Value, ApiError> {
    let ids = asset_ids(db, &[t.id]).await?.remove(&t.id).unwrap_or_default();
    Ok(wire(t, &ids))
}

async fn templates(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let query = ListQuery::parse(&ctx.query, MAX_ROWS)?;
    let alias = [("createdAt", "created_at"), ("modifiedAt", "updated_at")];
    let search = [os_template::Column::Label, os_template::Column::Name];
    let page = query.run(db, visible(&ctx), &alias, &search, os_template::Column::Id).await?;
    let assets = asset_ids(db, &page.rows.iter().map(|t| t.id).collect::<Vec<_>>()).await?;
    let data = page.rows.iter().map(|t| wire(t, assets.get(&t.id).map_or(&[], Vec::as_slice))).collect();
    Ok(Reply::Json(query.body(ctx.operation.path, page.total, data)))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let found = find_by(&ctx, db, ctx.id("osTemplateId")?).await?;
    Ok(Reply::Tagged(whole(db, &found).await?, found.revision))
}

const KEPT: &[&str] = &[
    "name",
    "description",
    "label",
    "device",
    "install",
    "imageBuild",
    "imageCertSerialNumber",
    "os",
    "visibility",
    "status",
    "tags",
];

/// `Debian 12 (bookworm)` to `debian-12-bookworm`.
fn slug(name: &str) -> String {
    let mut out = String::new();
    for c in name.to_lowercase().chars() {
        if c.is_ascii_alphanumeric() || c == '.' {
            out.push(c);
        } else if !out.ends_with('-') {
            out.push('-');
        }
    }
    out.trim_matches(|c: char| !c.is_ascii_alphanumeric()).chars().take(63).collect()
}

/// What the body says, checked: label, document without the password, sealed password (`None`: none was sent).
struct Given {
    name: String,
    label: String,
    document: Value,
    password: Option<Sealed>,
    tags: Value,
}

fn given(ctx: &Ctx) -> Result<Given, ApiError> {
    ctx.refuse_others(KEPT)?;
    let name = model::validate::name("name", ctx.need_text("name")?)?;
    let label = ctx.text("label").filter(|l| !l.is_empty()).map_or_else(|| slug(&name), str::to_owned);
    let label = model::validate::label("label", &label)?;
    let mut document = json!({"modifiedBy": ctx.caller.user_id});
    for part in ["device", "install", "imageBuild", "imageCertSerialNumber", "os"] {
        document[part] = ctx.body.get(part).cloned().unwrap_or(Value::Null);
    }
    let credential = &mut document["os"]["credential"];
    let password = credential.as_object_mut().and_then(|c| c.remove("password"));
    let password = password.as_ref().and_then(Value::as_str).filter(|p| !p.is_empty());
    let kind = credential["passwordType"].as_str().unwrap_or("none");
    if kind == "hashed" && password.is_some_and(|p| !p.starts_with('$')) {
        return Err(ApiError::field(
            "os.credential.password",
            "is not a hash as in /etc/shadow ($6$…); give one, or use the type plain",
        ));
    }
    let user = credential["username"].as_str().unwrap_or_default();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    if user.is_empty()
        || user.len() > 32
        || !user.chars().all(fits)
        || !user.starts_with(|c: char| c.is_ascii_lowercase())
    {
        return Err(ApiError::field(
            "os.credential.username",
            format!(
                "{user:?} is not a user name; use lower case letters, digits, '-' and '_', beginning with a letter"
            ),
        ));
    }
    let seal = |p: &str| ctx.app.sealer().seal(&Clear(p.to_owned()));
    let password = password.map(seal).transpose().map_err(ApiError::internal)?;
    let tags = ctx.body.get("tags").filter(|t| t.is_array()).cloned().unwrap_or_else(|| json!([]));
    Ok(Given { name, label, document, password, tags })
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let given = given(&ctx)?;
    let txn = ctx.app.db().begin().await?;
    refuse_taken(&txn, &given.label, None).await?;
    let mut row = os_template::new();
    row.name = Set(given.name);
    row.label = Set(given.label);
    row.description = Set(ctx.text("description").map(str::to_owned));
    row.status = Set(ctx.text("status").unwrap_or("ready").to_owned());
    row.visibility = Set(ctx.text("visibility").unwrap_or("private").to_owned());
    row.body = Set(given.document);
    row.credential = Set(given.password.map(|p| p.0));
    row.created_by = Set(ctx.caller.user_id);
    row.tags = Set(given.tags);
    let made = row.insert(&txn).await?;
    let title = format!("OS template {} created", made.name);
    let context = json!({"after": wire(&made, &[])});
    record(&ctx, &txn, "os_template.create", title, ("os_template", made.id), context).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&made, &[]), made.revision))
}

async fn refuse_taken<C: ConnectionTrait>(db: &C, label: &str, but: Option<Id>) -> Result<(), ApiError> {
    let found = os_template::Entity::find().filter(os_template::Column::Label.eq(label)).one(db).await?;
    match found.filter(|t| Some(t.id) != but) {
        Some(other) => {
            Err(ApiError::conflict(format!("label: OS template {} has the label {label} already", other.id)))
        }
        None => Ok(()),
    }
}

/// The whole template anew. A password that is not sent stays: it is never read back, so nobody could send it.
async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let given = given(&ctx)?;
    let txn = ctx.app.db().begin().await?;
    let found = find_own(&ctx, &txn, ctx.id("osTemplateId")?).await?;
    ctx.check_revision(found.revision)?;
    refuse_taken(&txn, &given.label, Some(found.id)).await?;
    let mut row = found.edit();
    row.name = Set(given.name);
    row.label = Set(given.label);
    row.description = Set(ctx.text("description").map(str::to_owned));
    if let Some(status) = ctx.text("status") {
        row.status = Set(status.to_owned());
    }
    if let Some(visibility) = ctx.text("visibility") {
        row.visibility = Set(visibility.to_owned());
    }
    row.body = Set(given.document);
    if let Some(password) = given.password {
        row.credential = Set(Some(password.0));
    }
    row.tags = Set(given.tags);
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    assets::tell_sites(&txn, &after).await?;
    let title = format!("OS template {} changed", after.name);
    let context = json!({"before": wire(&found, &[]), "after": wire(&after, &[])});
    record(&ctx, &txn, "os_template.update", title, ("os_template", after.id), context).await?;
    let body = whole(&txn, &after).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(body, after.revision))
}

/// Whether a design or an installed server names it.
async fn refuse_used<C: ConnectionTrait>(db: &C, found: &os_template::Model) -> Result<(), ApiError> {
    let instances =
        server_instance::Entity::find().filter(server_instance::Column::OsTemplateId.eq(found.id)).count(db).await?;
    let designs: Vec<(Value, Value)> = server_instance_group::Entity::find()
        .select_only()
        .column(server_instance_group::Column::Design)
        .column(server_instance_group::Column::Deployed)
        .filter(server_instance_group::Column::ServiceStatus.ne("deleted"))
        .into_tuple()
        .all(db)
        .await?;
    let names = |v: &Value| v["osTemplateId"].as_i64() == Some(found.id);
    let groups = designs.iter().filter(|(design, deployed)| names(design) || names(deployed)).count();
    if instances > 0 || groups > 0 {
        return Err(ApiError::conflict(format!(
            "OS template {} is used by {groups} server group(s) and {instances} instance(s); set its status to archived to keep others from choosing it",
            found.name
        )));
    }
    Ok(())
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find_own(&ctx, &txn, ctx.id("osTemplateId")?).await?;
    ctx.check_revision(found.revision)?;
    refuse_used(&txn, &found).await?;
    let digests: BTreeSet<String> = assets::digests(&txn, found.id).await?;
    template_asset::Entity::delete_many().filter(template_asset::Column::OsTemplateId.eq(found.id)).exec(&txn).await?;
    os_template::Entity::delete_by_id(found.id).exec(&txn).await?;
    assets::forget(&txn, &digests).await?;
    let title = format!("OS template {} deleted", found.name);
    let context = json!({"before": wire(&found, &[])});
    record(&ctx, &txn, "os_template.delete", title, ("os_template", found.id), context).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

/// The login of systems that are installed from it, for who may change it; that it was looked at is on record.
async fn credentials(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find_own(&ctx, &txn, ctx.id("osTemplateId")?).await?;
    let credential = &found.body["os"]["credential"];
    let password = found
        .credential
        .as_ref()
        .map(|p| ctx.app.sealer().open(&Sealed(p.clone())))
        .transpose()
        .map_err(|e| ApiError::conflict(format!("the password cannot be opened ({e}); enter it again")))?;
    seen(&ctx, &txn, ("os_template", found.id), &found.name).await?;
    txn.commit().await?;
    Ok(Reply::Json(json!({
        "username": credential["username"], "passwordType": credential["passwordType"].as_str().unwrap_or("none"), "password": password.map(|p| p.0),
    })))
}

#[cfg(test)]
mod tests {
    use super::slug;

    #[test]
    fn labels_come_from_names() {
        assert_eq!(slug("Debian 12 (bookworm)"), "debian-12-bookworm");
        assert_eq!(slug("Ubuntu 24.04 LTS"), "ubuntu-24.04-lts");
    }
}
