//! Registration profiles: how servers come in.

use model::Id;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter,
};
use serde_json::{Value, json};
use store::{
    entity::{server, server_registration_profile as profiles, site},
    list::{Revisioned, cas},
    time,
};

use crate::{
    context::{Ctx, Reply, parse_id, whole},
    error::ApiError,
    kinds::{list, record, server::find as find_server, server_cleanup_policy},
    routes,
};

routes! {
    "getServerRegistrationProfiles" => all,
    "getServerRegistrationProfileInfo" => one,
    "createServerRegistrationProfile" => create,
    "updateServerRegistrationProfile" => update,
    "deleteServerRegistrationProfile" => delete,
    "getServerRegistrationProfileSystemDefaults" => system_defaults,
    "searchServerRegistrationProfileInfo" => of_site,
    "getServerRegistrationProfileInfoForServer" => of_server,
}

/// What holds where no profile says otherwise.
fn defaults() -> Value {
    json!({
        "registerCredentials": "user", "minimumNumberOfConnectedInterfaces": 0, "alwaysDiscoverInterfacesWithBDK": true, "enableTpm": false, "enableIntelTxt": false,
        "enableSyslogMonitoring": false, "disableTpmAfterRegistration": false, "biosProfile": [], "resetRaidControllers": false, "cleanupDrives": false, "recreateRaid": false,
        "disableEmbeddedNics": false,
    })
}

fn wire(p: &profiles::Model) -> Value {
    let mut settings = defaults();
    if let (Some(all), Some(own)) = (settings.as_object_mut(), p.settings.as_object()) {
        all.extend(own.clone());
    }
    json!({
        "id": p.id, "revision": p.revision.to_string(), "name": p.name, "settings": settings, "isDefault": false, "createdTimestamp": p.created_at,
        "updatedTimestamp": p.updated_at, "links": [],
    })
}

/// The profile that holds where none was chosen.
fn system() -> Value {
    let now = time::now();
    json!({
        "id": 0, "revision": "1", "name": "System defaults", "settings": defaults(), "isDefault": true, "createdTimestamp": now, "updatedTimestamp": now, "links": [],
    })
}

async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<profiles::Model, ApiError> {
    let id = ctx.id("serverRegistrationProfileId")?;
    let found = profiles::Entity::find_by_id(id).one(db).await?;
    found.ok_or_else(|| ApiError::not_found("server registration profile", id))
}

/// Settings that would ask for something that is not done yet are refused: nobody should believe that it is.
fn check(settings: &Value) -> Result<(), ApiError> {
    for name in [
        "enableTpm",
        "enableIntelTxt",
        "enableSyslogMonitoring",
        "disableTpmAfterRegistration",
        "resetRaidControllers",
        "cleanupDrives",
        "recreateRaid",
        "disableEmbeddedNics",
    ] {
        let on = settings[name].as_bool().unwrap_or_else(|| whole(&settings[name]).is_some_and(|n| n != 0));
        if on {
            return Err(ApiError::field(
                format!("settings.{name}"),
                "cannot be done at registration yet; leave it off",
            ));
        }
    }
    let refuse = |name: &str| {
        Err(ApiError::field(format!("settings.{name}"), "cannot be done at registration yet; leave it out"))
    };
    if settings["biosProfile"].as_array().is_some_and(|a| !a.is_empty()) {
        return refuse("biosProfile");
    }
    if whole(&settings["firmwareBaselineId"]).is_some_and(|n| n != 0) {
        return refuse("firmwareBaselineId");
    }
    match whole(&settings["minimumNumberOfConnectedInterfaces"]) {
        Some(n) if !(0..=64).contains(&n) => {
            Err(ApiError::field("settings.minimumNumberOfConnectedInterfaces", format!("{n} is not between 0 and 64")))
        }
        _ => Ok(()),
    }
}

/// The cleanup policy that a profile names must be there.
async fn cleanup<C: ConnectionTrait>(db: &C, settings: &Value) -> Result<(), ApiError> {
    if let Some(id) = whole(&settings["serverCleanupPolicyId"]).filter(|id| *id != 0) {
        server_cleanup_policy::known(db, "settings.serverCleanupPolicyId", id).await?;
    }
    Ok(())
}

async fn all(ctx: Ctx) -> Result<Reply, ApiError> {
    let search = [profiles::Column::Name];
    Ok(Reply::Json(list(&ctx, profiles::Entity::find(), &[], &search, profiles::Column::Id, wire).await?))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

async fn refuse_taken<C: ConnectionTrait>(db: &C, name: &str, but: Option<Id>) -> Result<(), ApiError> {
    let found = profiles::Entity::find().filter(profiles::Column::Name.eq(name)).one(db).await?;
    match found.filter(|p| Some(p.id) != but) {
        Some(other) => Err(ApiError::conflict(format!("name: profile {} is called {name} already", other.id))),
        None => Ok(()),
    }
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let name = model::validate::name("name", ctx.need_text("name")?)?;
    let settings = ctx.body.get("settings").cloned().unwrap_or_else(|| json!({}));
    check(&settings)?;
    let txn = ctx.app.db().begin().await?;
    cleanup(&txn, &settings).await?;
    refuse_taken(&txn, &name, None).await?;
    let mut row = profiles::new();
    row.name = Set(name);
    row.settings = Set(settings);
    let made = row.insert(&txn).await?;
    let title = format!("Registration profile {} created", made.name);
    let object = ("server_registration_profile", made.id);
    record(&ctx, &txn, "server_registration_profile.create", title, object, json!({"after": wire(&made)})).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let name = ctx.text("name").map(|n| model::validate::name("name", n)).transpose()?;
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    let mut settings = found.settings.clone();
    if let (Some(all), Some(given)) = (settings.as_object_mut(), ctx.body.get("settings").and_then(Value::as_object)) {
        all.extend(given.clone());
    }
    check(&settings)?;
    cleanup(&txn, &settings).await?;
    let mut row = found.edit();
    row.settings = Set(settings);
    if let Some(name) = name {
        refuse_taken(&txn, &name, Some(found.id)).await?;
        row.name = Set(name);
    }
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    let title = format!("Registration profile {} changed", after.name);
    let object = ("server_registration_profile", after.id);
    let context = json!({"before": wire(&found), "after": wire(&after)});
    record(&ctx, &txn, "server_registration_profile.update", title, object, context).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    let used = server::Entity::find().filter(server::Column::RegistrationProfileId.eq(found.id)).count(&txn).await?;
    if used > 0 {
        let words =
            format!("registration profile {} is used by {used} server(s); give them another one first", found.name);
        return Err(ApiError::conflict(words));
    }
    profiles::Entity::delete_by_id(found.id).exec(&txn).await?;
    let title = format!("Registration profile {} deleted", found.name);
    let object = ("server_registration_profile", found.id);
    record(&ctx, &txn, "server_registration_profile.delete", title, object, json!({"before": wire(&found)})).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

async fn system_defaults(_: Ctx) -> Result<Reply, ApiError> {
    Ok(Reply::Json(defaults()))
}

/// The profile that a site gives to servers which name none.
async fn default_of<C: ConnectionTrait>(db: &C, site: &site::Model) -> Result<Value, ApiError> {
    match whole(&site.config["serverPolicy"]["defaultServerRegistrationProfileId"]) {
        Some(id) => Ok(profiles::Entity::find_by_id(id).one(db).await?.map_or_else(system, |p| wire(&p))),
        None => Ok(system()),
    }
}

async fn of_site(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    // Without a site it is what holds where nobody chose anything.
    let Some(text) = ctx.query_value("siteId").filter(|t| !t.is_empty()) else { return Ok(Reply::Json(system())) };
    let id = parse_id(text).ok_or_else(|| ApiError::field("siteId", format!("{text:?} is not an id")))?;
    let found = site::Entity::find_by_id(id).one(db).await?.ok_or_else(|| ApiError::not_found("site", id))?;
    Ok(Reply::Json(default_of(db, &found).await?))
}

async fn of_server(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let found = find_server(&ctx, db).await?;
    let own = match found.registration_profile_id {
        Some(id) => profiles::Entity::find_by_id(id).one(db).await?,
        None => None,
    };
    if let Some(own) = own {
        return Ok(Reply::Json(wire(&own)));
    }
    match site::Entity::find_by_id(found.site_id).one(db).await? {
        Some(site) => Ok(Reply::Json(default_of(db, &site).await?)),
        None => Ok(Reply::Json(system())),
    }
}
