//! Logins that a site has ready for machines which come without one.

use model::{
    Id,
    secret::{Clear, Sealed},
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::{Map, Value, json};
use store::{
    entity::{server_default_credentials as defaults, site},
    list::{Revisioned, cas},
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{
        list, record,
        server::seen,
        server_registration::{profile, resume_waiting},
        server_wire::vendor_word,
    },
    routes,
};

routes! {
    "getServersDefaultCredentials" => all,
    "getServerDefaultCredentialsInfo" => one,
    "getServerDefaultCredentialsCredentials" => credentials,
    "createServerDefaultCredentials" => create,
    "updateServerDefaultCredentials" => update,
    "deleteServerDefaultCredentials" => delete,
}

const FIELDS: &[(&str, &str)] = &[
    ("serverSerialNumber", "serial"),
    ("serverMacAddress", "mac"),
    ("serverVendor", "vendor"),
    ("serverModel", "model"),
    ("defaultUsername", "username"),
];

/// Fields that a server takes over when it is registered.
const NOTES: &[&str] = &[
    "defaultRackName",
    "defaultRackPositionLowerUnit",
    "defaultRackPositionUpperUnit",
    "defaultInventoryId",
    "defaultUuid",
    "defaultRegistrationProfileId",
];

fn wire(d: &defaults::Model) -> Value {
    let mut v = json!({
        "id": d.id, "revision": d.revision, "siteId": d.site_id, "serverSerialNumber": d.serial.as_deref().unwrap_or_default(),
        "serverMacAddress": d.mac.as_deref().unwrap_or_default(), "serverVendor": d.vendor, "serverModel": d.model, "defaultUsername": d.username, "links": [],
    });
    for note in NOTES {
        if let Some(value) = d.extra.get(note).filter(|v| !v.is_null()) {
            v[*note] = value.clone();
        }
    }
    v
}

/// What it is for, for people.
fn name(d: &defaults::Model) -> String {
    match (&d.serial, &d.mac, &d.vendor) {
        (Some(serial), _, _) => format!("serial number {serial}"),
        (None, Some(mac), _) => format!("MAC address {mac}"),
        (None, None, Some(vendor)) => match &d.model {
            Some(model) => format!("{vendor} {model}"),
            None => format!("servers of {vendor}"),
        },
        (None, None, None) => "all servers of the site".into(),
    }
}

async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<defaults::Model, ApiError> {
    let id = ctx.id("serverDefaultCredentialsId")?;
    let found = defaults::Entity::find_by_id(id).one(db).await?;
    found.ok_or_else(|| ApiError::not_found("server default credentials", id))
}

async fn all(ctx: Ctx) -> Result<Reply, ApiError> {
    let search = [defaults::Column::Serial, defaults::Column::Mac, defaults::Column::Username];
    Ok(Reply::Json(list(&ctx, defaults::Entity::find(), FIELDS, &search, defaults::Column::Id, wire).await?))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

/// The login in clear, for which there is a permission of its own; that it was looked at is on record.
async fn credentials(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    let password = ctx.app.sealer().open(&Sealed(found.password.clone()));
    let password =
        password.map_err(|e| ApiError::conflict(format!("the password cannot be opened ({e}); enter it again")))?;
    seen(&ctx, &txn, ("server_default_credentials", found.id), &name(&found)).await?;
    txn.commit().await?;
    Ok(Reply::Json(json!({"defaultUsername": found.username, "defaultPassword": password.0})))
}

fn notes(ctx: &Ctx, before: &Value) -> Value {
    let mut extra = before.as_object().cloned().unwrap_or_else(Map::new);
    for note in NOTES.iter().filter(|n| ctx.has(n)) {
        extra.insert((*note).to_owned(), ctx.body[*note].clone());
    }
    Value::Object(extra)
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let site_id = ctx.need_int("siteId")?;
    let serial = ctx.text("serverSerialNumber").map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned);
    let mac = ctx.text("serverMacAddress").map(str::trim).filter(|m| !m.is_empty());
    let mac = mac.map(|m| model::validate::mac("serverMacAddress", m)).transpose()?;
    let vendor = ctx.text("serverVendor").map(str::trim).filter(|v| !v.is_empty());
    let vendor = vendor.map(|v| vendor_word(v).unwrap_or(v).to_owned());
    let model = ctx.text("serverModel").map(str::trim).filter(|m| !m.is_empty()).map(str::to_owned);
    if model.is_some() && vendor.is_none() {
        return Err(ApiError::field("serverVendor", "is required with a model"));
    }
    let username = model::validate::name("defaultUsername", ctx.need_text("defaultUsername")?)?;
    if ctx.need_text("defaultPassword")?.is_empty() {
        return Err(ApiError::field("defaultPassword", "is required"));
    }
    let password = Clear(ctx.need_text("defaultPassword")?.to_owned());
    let sealed = ctx.app.sealer().seal(&password).map_err(ApiError::internal)?;
    let txn = ctx.app.db().begin().await?;
    if site::Entity::find_by_id(site_id).one(&txn).await?.is_none_or(|s| s.decommissioned) {
        return Err(ApiError::field("siteId", format!("there is no site {site_id}")));
    }
    if let Some(id) = ctx.int("defaultRegistrationProfileId").filter(|id| *id != 0) {
        profile(&txn, Some(id)).await.map_err(|_| {
            ApiError::field("defaultRegistrationProfileId", format!("there is no registration profile {id}"))
        })?;
    }
    let keys = [
        (defaults::Column::Serial, serial.as_deref()),
        (defaults::Column::Mac, mac.as_deref()),
        (defaults::Column::Vendor, vendor.as_deref()),
        (defaults::Column::Model, model.as_deref()),
    ];
    refuse_taken(&txn, site_id, &keys).await?;
    let mut row = defaults::new();
    row.vendor = Set(vendor);
    row.model = Set(model);
    row.site_id = Set(site_id);
    row.serial = Set(serial);
    row.mac = Set(mac);
    row.username = Set(username);
    row.password = Set(sealed.0);
    row.extra = Set(notes(&ctx, &json!({})));
    let made = row.insert(&txn).await?;
    let title = format!("Default credentials for {} created", name(&made));
    let object = ("server_default_credentials", made.id);
    record(&ctx, &txn, "server_default_credentials.create", title, object, json!({"after": wire(&made)})).await?;
    resume_waiting(&ctx.app, &txn, site_id).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    Ok(Reply::Tagged(wire(&made), made.revision))
}

async fn refuse_taken<C: ConnectionTrait>(
    db: &C,
    site_id: Id,
    keys: &[(defaults::Column, Option<&str>)],
) -> Result<(), ApiError> {
    let mut same = defaults::Entity::find().filter(defaults::Column::SiteId.eq(site_id));
    for (column, value) in keys {
        same = same.filter(match value {
            Some(v) => column.eq(*v),
            None => column.is_null(),
        });
    }
    match same.one(db).await? {
        Some(other) => Err(ApiError::conflict(format!(
            "serverSerialNumber: default credentials {} are for {} already",
            other.id,
            name(&other)
        ))),
        None => Ok(()),
    }
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let username = ctx.text("defaultUsername").map(|u| model::validate::name("defaultUsername", u)).transpose()?;
    let sealed = ctx
        .text("defaultPassword")
        .filter(|p| !p.is_empty())
        .map(|p| ctx.app.sealer().seal(&Clear(p.to_owned())))
        .transpose()
        .map_err(ApiError::internal)?;
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    let mut row = found.edit();
    if let Some(username) = username {
        row.username = Set(username);
    }
    if let Some(sealed) = sealed {
        row.password = Set(sealed.0);
    }
    row.extra = Set(notes(&ctx, &found.extra));
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    let title = format!("Default credentials for {} changed", name(&after));
    let object = ("server_default_credentials", after.id);
    let context = json!({"before": wire(&found), "after": wire(&after)});
    record(&ctx, &txn, "server_default_credentials.update", title, object, context).await?;
    resume_waiting(&ctx.app, &txn, after.site_id).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    Ok(Reply::Tagged(wire(&after), after.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    defaults::Entity::delete_by_id(found.id).exec(&txn).await?;
    let title = format!("Default credentials for {} deleted", name(&found));
    let object = ("server_default_credentials", found.id);
    record(&ctx, &txn, "server_default_credentials.delete", title, object, json!({"before": wire(&found)})).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
