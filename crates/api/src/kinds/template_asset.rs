//! Files of OS templates: disk images by their digest, and texts for cloud-init.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use model::Id;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect, QueryTrait,
};
use serde_json::{Value, json};
use store::{
    entity::{os_template, site, template_asset as assets},
    list::{ListQuery, Revisioned, cas},
};

use crate::{
    context::{Ctx, Reply, whole},
    error::ApiError,
    facts,
    kinds::{
        MAX_ROWS,
        os_template::{IMAGE_USAGE, find_own, visible},
        record,
    },
    planning::template::image_ref,
    routes,
};

routes! {
    "getTemplateAssets" => list,
    "getTemplateAsset" => one,
    "createTemplateAsset" => create,
    "updateTemplateAsset" => update,
    "deleteTemplateAsset" => delete,
}

/// Formats that can be written to a disk, and that of installation media.
const FORMATS: &[&str] = &["raw", "raw.gz", "qcow2", "iso"];

fn wire(a: &assets::Model, with_content: bool) -> Value {
    let content = a.content.as_ref().filter(|_| with_content);
    json!({
        "id": a.id, "templateId": a.os_template_id, "usage": a.usage, "tags": a.tags, "revision": a.revision, "createdBy": 0,
        "createdAt": a.created_at, "modifiedAt": a.updated_at, "links": [],
        "file": {
            "name": a.name, "mimeType": a.mime_type, "checksum": a.sha256, "contentBase64": content.map(|c| STANDARD.encode(c)), "templatingEngine": a.is_template,
            "url": a.url, "path": a.path.as_deref().unwrap_or_default(), "size": a.size, "format": (!a.format.is_empty()).then_some(&a.format),
        },
    })
}

async fn list(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let mine = visible(&ctx).select_only().column(os_template::Column::Id).into_query();
    let select = assets::Entity::find().filter(assets::Column::OsTemplateId.in_subquery(mine));
    let query = ListQuery::parse(&ctx.query, MAX_ROWS)?;
    let alias = [
        ("templateId", "os_template_id"),
        ("file.mimeType", "mime_type"),
        ("file.name", "name"),
        ("checksum", "sha256"),
    ];
    let page = query.run(db, select, &alias, &[assets::Column::Name, assets::Column::Path], assets::Column::Id).await?;
    let data = page.rows.iter().map(|a| wire(a, false)).collect();
    Ok(Reply::Json(query.body(ctx.operation.path, page.total, data)))
}

/// An asset of a template that the caller may see.
async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<assets::Model, ApiError> {
    let id = ctx.id("templateAssetId")?;
    let mine = visible(ctx).select_only().column(os_template::Column::Id).into_query();
    assets::Entity::find_by_id(id)
        .filter(assets::Column::OsTemplateId.in_subquery(mine))
        .one(db)
        .await?
        .ok_or_else(|| ApiError::not_found("template asset", id))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found, true), found.revision))
}

/// A file as a body gives it, checked.
struct File {
    name: String,
    mime_type: String,
    path: Option<String>,
    url: Option<String>,
    sha256: Option<String>,
    size: i64,
    format: String,
    is_template: bool,
    content: Option<Vec<u8>>,
}

fn sha256_of(bytes: &[u8]) -> String {
    crypto::token::digest(bytes)
}

/// The format that a file's name tells.
fn format_of(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let ends = |suffixes: &[&str]| suffixes.iter().any(|s| name.ends_with(s));
    if ends(&[".raw.gz", ".img.gz"]) {
        Some("raw.gz")
    } else if ends(&[".qcow2"]) {
        Some("qcow2")
    } else if ends(&[".raw", ".img"]) {
        Some("raw")
    } else if ends(&[".iso"]) {
        Some("iso")
    } else {
        None
    }
}

/// What is stored already counts where a change does not send it.
fn file(ctx: &Ctx, before: Option<&assets::Model>) -> Result<File, ApiError> {
    let f = &ctx.body["file"];
    let text = |name: &str| f[name].as_str().map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned);
    let field = |name: &str, words: String| ApiError::field(format!("file.{name}"), words);
    let is_image = ctx.text("usage") == Some(IMAGE_USAGE);
    let name = model::validate::name("file.name", &text("name").unwrap_or_default())?;
    let content = text("contentBase64")
        .map(|c| STANDARD.decode(c).map_err(|_| field("contentBase64", "is not base64".into())))
        .transpose()?;
    let url = text("url");
    if let Some(url) = &url {
        let good = url::Url::parse(url).is_ok_and(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
        if !good {
            return Err(field("url", format!("{url:?} is not an http or https address")));
        }
    }
    if url.is_some() && content.is_some() {
        return Err(field("url", "cannot be given together with contentBase64; choose one".into()));
    }
    let stored = before.filter(|_| url.is_none() && content.is_none()).and_then(|b| b.content.clone());
    let content = content.or(stored);
    if url.is_none() && content.is_none() {
        return Err(field("url", "is required, or contentBase64".into()));
    }
    let given = text("checksum").map(|c| c.to_ascii_lowercase());
    let given = given.as_deref().map(|c| c.trim_start_matches("sha256:").to_owned());
    if let Some(sum) = given.as_ref().filter(|s| s.len() != 64 || !s.bytes().all(|b| b.is_ascii_hexdigit())) {
        return Err(field("checksum", format!("{sum:?} is not a SHA-256 digest (64 hexadecimal digits)")));
    }
    let computed = content.as_deref().map(sha256_of);
    if let (Some(given), Some(computed)) = (&given, &computed)
        && given != computed
    {
        return Err(field("checksum", format!("does not match the content, whose SHA-256 is {computed}")));
    }
    let same_url = before.filter(|b| url.is_some() && b.url == url);
    let sha256 = computed.or(given).or_else(|| same_url.and_then(|b| b.sha256.clone()));
    if is_image && sha256.is_none() {
        return Err(field("checksum", "is required for a disk image: its SHA-256 digest in hexadecimal".into()));
    }
    let size = match (&content, whole(&f["size"])) {
        (Some(c), _) => c.len() as i64,
        (None, Some(size)) if size > 0 => size,
        (None, _) => same_url.map_or(0, |b| b.size),
    };
    if is_image && size == 0 {
        return Err(field("size", "is required for a disk image at an address: its length in bytes".into()));
    }
    let path = text("path");
    let told = [Some(name.as_str()), url.as_deref(), path.as_deref()].into_iter().flatten().find_map(format_of);
    let format = match (text("format"), told) {
        (Some(f), _) if FORMATS.contains(&f.as_str()) => f,
        (Some(other), _) => {
            return Err(field("format", format!("{other:?} is none of: {}", FORMATS.join(", "))));
        }
        (None, Some(format)) if is_image => format.to_owned(),
        (None, _) if is_image => {
            let kept = before.map(|b| b.format.clone()).filter(|f| !f.is_empty());
            kept.ok_or_else(|| field("format", format!("is required for a disk image: {}", FORMATS.join(", "))))?
        }
        (None, _) => String::new(),
    };
    let mime_type = text("mimeType").unwrap_or_else(|| "application/octet-stream".into());
    let is_template = f["templatingEngine"].as_bool().unwrap_or(false);
    if is_template && content.as_deref().is_some_and(|c| std::str::from_utf8(c).is_err()) {
        return Err(field("templatingEngine", "is for texts, and the content is none (UTF-8)".into()));
    }
    Ok(File { name, mime_type, path, url, sha256, size, format, is_template, content })
}

fn fill(row: &mut assets::ActiveModel, ctx: &Ctx, f: File) -> Result<(), ApiError> {
    row.usage = Set(ctx.need_text("usage")?.to_owned());
    row.name = Set(f.name);
    row.mime_type = Set(f.mime_type);
    row.path = Set(f.path);
    row.url = Set(f.url);
    row.sha256 = Set(f.sha256);
    row.size = Set(f.size);
    row.format = Set(f.format);
    row.is_template = Set(f.is_template);
    row.content = Set(f.content);
    row.tags = Set(ctx.body.get("tags").filter(|t| t.is_array()).cloned().unwrap_or_else(|| json!([])));
    Ok(())
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let f = file(&ctx, None)?;
    let template_id = ctx.need_int("templateId")?;
    let txn = ctx.app.db().begin().await?;
    let template = find_own(&ctx, &txn, template_id).await.map_err(|e| match e.status {
        axum::http::StatusCode::NOT_FOUND => {
            ApiError::field("templateId", format!("there is no OS template {template_id}"))
        }
        _ => e,
    })?;
    let mut row = assets::new();
    row.os_template_id = Set(template.id);
    fill(&mut row, &ctx, f)?;
    let made = row.insert(&txn).await?;
    tell_sites(&txn, &template).await?;
    let title = format!("OS template {}: file {} added", template.name, made.name);
    let context = json!({"after": wire(&made, false)});
    record(&ctx, &txn, "template_asset.create", title, ("template_asset", made.id), context).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&made, false), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    let template = find_own(&ctx, &txn, found.os_template_id).await?;
    if ctx.int("templateId").is_some_and(|id| id != template.id) {
        return Err(ApiError::field("templateId", "a file stays with its template; add it to the other one instead"));
    }
    let f = file(&ctx, Some(&found))?;
    let mut row = found.edit();
    fill(&mut row, &ctx, f)?;
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    if found.sha256 != after.sha256 || found.usage != after.usage {
        forget(&txn, &found.sha256.iter().cloned().collect()).await?;
    }
    tell_sites(&txn, &template).await?;
    let title = format!("OS template {}: file {} changed", template.name, after.name);
    let context = json!({"before": wire(&found, false), "after": wire(&after, false)});
    record(&ctx, &txn, "template_asset.update", title, ("template_asset", after.id), context).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&after, false), after.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    let template = find_own(&ctx, &txn, found.os_template_id).await?;
    assets::Entity::delete_by_id(found.id).exec(&txn).await?;
    forget(&txn, &found.sha256.iter().cloned().collect()).await?;
    let title = format!("OS template {}: file {} removed", template.name, found.name);
    let context = json!({"before": wire(&found, false)});
    record(&ctx, &txn, "template_asset.delete", title, ("template_asset", found.id), context).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

/// Digests of a template's files.
pub(crate) async fn digests<C: ConnectionTrait>(db: &C, template_id: Id) -> Result<BTreeSet<String>, ApiError> {
    let rows: Vec<Option<String>> = assets::Entity::find()
        .select_only()
        .column(assets::Column::Sha256)
        .filter(assets::Column::OsTemplateId.eq(template_id))
        .into_tuple()
        .all(db)
        .await?;
    Ok(rows.into_iter().flatten().collect())
}

/// Images that no file of any template is any more need not be kept by sites.
pub(crate) async fn forget<C: ConnectionTrait>(txn: &C, digests: &BTreeSet<String>) -> Result<(), ApiError> {
    for digest in digests {
        let other = assets::Entity::find()
            .filter(assets::Column::Sha256.eq(digest))
            .filter(assets::Column::Usage.eq(IMAGE_USAGE))
            .one(txn)
            .await?;
        if other.is_none() {
            facts::image_gone(txn, digest).await?;
        }
    }
    Ok(())
}

/// The image of an active template should be at hand at every site, so that the first installation does not wait for it.
pub(crate) async fn tell_sites<C: ConnectionTrait>(txn: &C, template: &os_template::Model) -> Result<(), ApiError> {
    if template.status != "active" {
        return Ok(());
    }
    let images = assets::Entity::find()
        .filter(assets::Column::OsTemplateId.eq(template.id))
        .filter(assets::Column::Usage.eq(IMAGE_USAGE))
        .filter(assets::Column::Sha256.is_not_null())
        .all(txn)
        .await?;
    if images.is_empty() {
        return Ok(());
    }
    for site in site::Entity::find().filter(site::Column::Decommissioned.eq(false)).all(txn).await? {
        for image in &images {
            facts::image(txn, site.id, &image_ref(image)).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::format_of;

    #[test]
    fn formats_show_in_names() {
        assert_eq!(format_of("debian-12.qcow2"), Some("qcow2"));
        assert_eq!(format_of("disk.RAW.gz"), Some("raw.gz"));
        assert_eq!(format_of("https://x/y.img"), Some("raw"));
        assert_eq!(format_of("user-data"), None);
    }
}
