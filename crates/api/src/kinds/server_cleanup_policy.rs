//! Cleanup policies: which disks of a server are erased when it is given back, and how.

use std::collections::{BTreeSet, HashMap};

use model::{
    Id,
    bmc::HardwareInventory,
    cleaning::{CleanPlan, FirmwareSteps, KnownDisk, RaidRules, WipeMethod},
    raid::RaidLevel,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, QueryFilter,
};
use serde_json::{Value, json};
use store::{
    entity::{server, server_cleanup_policy as policies, server_registration_profile as profiles, site},
    list::{Revisioned, cas},
};

use crate::{
    context::{Ctx, Reply, whole},
    error::ApiError,
    kinds::{list, record},
    routes,
};

routes! {
    "getServerCleanupPolicies" => all,
    "getServerCleanupPolicyInfo" => one,
    "createServerCleanupPolicy" => create,
    "updateServerCleanupPolicy" => update,
    "deleteServerCleanupPolicy" => delete,
}

/// Settings of the interface, kept as they come.
const SETTINGS: &[&str] = &[
    "cleanupDrivesForOobEnabledServer",
    "recreateRaid",
    "resetRaidControllers",
    "disableEmbeddedNics",
    "raidOneDrive",
    "raidTwoDrives",
    "raidEvenNumberMoreThanTwoDrives",
    "raidOddNumberMoreThanOneDrive",
    "skipRaidActions",
    "eraseMethod",
    "keepDiskSerialNumbers",
    "keepDiskTypes",
    "eraseFallbackMethods",
    "clearTpm",
    "resetBios",
    "resetSecureBootKeys",
    "resetBmcSettings",
];

fn on(settings: &Value, name: &str) -> bool {
    settings[name].as_bool().unwrap_or_else(|| whole(&settings[name]).is_some_and(|n| n != 0))
}

fn wire(p: &policies::Model) -> Value {
    let mut all = json!({
        "id": p.id, "revision": p.revision, "label": p.label, "createdTimestamp": p.created_at, "updatedTimestamp": p.updated_at, "eraseMethod": WipeMethod::Auto.as_str(),
        "keepDiskSerialNumbers": [], "keepDiskTypes": [], "eraseFallbackMethods": [], "skipRaidActions": [], "clearTpm": false, "resetBios": false,
        "resetSecureBootKeys": false, "resetBmcSettings": false, "settingsNotCarriedOut": [], "links": [],
    });
    for name in SETTINGS {
        if let Some(value) = p.settings.get(name).filter(|v| !v.is_null()) {
            all[*name] = value.clone();
        }
    }
    all
}

async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<policies::Model, ApiError> {
    let id = ctx.id("serverCleanupPolicyId")?;
    let found = policies::Entity::find_by_id(id).one(db).await?;
    found.ok_or_else(|| ApiError::not_found("server cleanup policy", id))
}

/// A policy that a field names.
pub(crate) async fn known<C: ConnectionTrait>(db: &C, field: &str, id: Id) -> Result<policies::Model, ApiError> {
    let found = policies::Entity::find_by_id(id).one(db).await?;
    found.ok_or_else(|| ApiError::field(field, format!("there is no cleanup policy {id}")))
}

/// How a server is cleaned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaning {
    /// What the site is told.
    pub plan: CleanPlan,
    /// Not at once: the server waits until a person has it cleaned.
    pub by_hand: bool,
}

fn cleaning(p: &policies::Model) -> Cleaning {
    let words = |name: &str| -> Vec<String> {
        let list = p.settings[name].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let level = |name: &str| p.settings[name].as_str().and_then(RaidLevel::parse).unwrap_or_default();
    let (reset, recreate) = (on(&p.settings, "resetRaidControllers"), on(&p.settings, "recreateRaid"));
    let skipped = words("skipRaidActions").iter().any(|w| w == "cleanup");
    let raid = ((reset || recreate) && !skipped).then(|| RaidRules {
        reset,
        recreate,
        one: level("raidOneDrive"),
        two: level("raidTwoDrives"),
        even: level("raidEvenNumberMoreThanTwoDrives"),
        odd: level("raidOddNumberMoreThanOneDrive"),
    });
    Cleaning {
        plan: CleanPlan {
            method: p.settings["eraseMethod"].as_str().and_then(WipeMethod::parse).unwrap_or_default(),
            fallbacks: words("eraseFallbackMethods").iter().filter_map(|w| WipeMethod::parse(w)).collect(),
            keep: words("keepDiskSerialNumbers"),
            keep_media: words("keepDiskTypes"),
            policy: Some(p.label.clone()),
            firmware: FirmwareSteps {
                raid,
                clear_tpm: on(&p.settings, "clearTpm"),
                reset_bios: on(&p.settings, "resetBios"),
                reset_secure_boot_keys: on(&p.settings, "resetSecureBootKeys"),
                reset_bmc: on(&p.settings, "resetBmcSettings"),
                disable_embedded_nics: on(&p.settings, "disableEmbeddedNics"),
            },
            ..CleanPlan::default()
        },
        by_hand: !on(&p.settings, "cleanupDrivesForOobEnabledServer"),
    }
}

/// The disks of a server: what the boot image has seen, and what its BMC tells beyond that. No other is touched.
fn disks(s: &server::Model) -> Vec<KnownDisk> {
    let source = |name: &str| -> Vec<model::bmc::Disk> {
        let given = serde_json::from_value::<HardwareInventory>(s.inventory["sources"][name].clone());
        given.map(|i| i.disks).unwrap_or_default()
    };
    let known =
        |seen: bool| move |d: model::bmc::Disk| KnownDisk { name: d.name, serial: d.serial, size_gb: d.size_gb, seen };
    let mut all: Vec<KnownDisk> = source("inBand").into_iter().map(known(true)).collect();
    // Without a look from inside, nobody knows under which names the boot image will find them.
    if all.is_empty() {
        return all;
    }
    let beyond = source("bmc").into_iter().map(known(false)).filter(|d| d.serial.is_some());
    let beyond: Vec<KnownDisk> = beyond.filter(|d| all.iter().all(|a| a.serial != d.serial)).collect();
    all.extend(beyond);
    all
}

/// How servers are cleaned: by their own policy, else that of their registration profile, else that of their site. Without any, every disk
/// is erased by the quickest method that holds.
pub async fn of_servers<C: ConnectionTrait>(db: &C, ids: &BTreeSet<Id>) -> Result<HashMap<Id, Cleaning>, DbErr> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let servers = server::Entity::find().filter(server::Column::Id.is_in(ids.iter().copied())).all(db).await?;
    let named: BTreeSet<Id> = servers.iter().filter_map(|s| s.registration_profile_id).collect();
    let by_profile: HashMap<Id, Id> = profiles::Entity::find()
        .filter(profiles::Column::Id.is_in(named))
        .all(db)
        .await?
        .into_iter()
        .filter_map(|p| Some((p.id, whole(&p.settings["serverCleanupPolicyId"]).filter(|n| *n != 0)?)))
        .collect();
    let sites: BTreeSet<Id> = servers.iter().map(|s| s.site_id).collect();
    let by_site: HashMap<Id, Id> = site::Entity::find()
        .filter(site::Column::Id.is_in(sites))
        .all(db)
        .await?
        .into_iter()
        .filter_map(|s| Some((s.id, whole(&s.config["serverPolicy"]["defaultServerCleanupPolicyID"])?)))
        .collect();
    let choice = |s: &server::Model| {
        s.cleanup_policy_id
            .or_else(|| s.registration_profile_id.and_then(|id| by_profile.get(&id).copied()))
            .or_else(|| by_site.get(&s.site_id).copied())
    };
    let wanted: BTreeSet<Id> = servers.iter().filter_map(choice).collect();
    let found: HashMap<Id, policies::Model> = policies::Entity::find()
        .filter(policies::Column::Id.is_in(wanted))
        .all(db)
        .await?
        .into_iter()
        .map(|p| (p.id, p))
        .collect();
    let of = |s: &server::Model| {
        let mut how = choice(s).and_then(|id| found.get(&id)).map(cleaning).unwrap_or_default();
        how.plan.disks = disks(s);
        how
    };
    Ok(servers.iter().map(|s| (s.id, of(s))).collect())
}

/// The settings of a body over what was.
fn settings(ctx: &Ctx, before: &Value) -> Result<Value, ApiError> {
    let mut all = if before.is_object() { before.clone() } else { json!({}) };
    for name in SETTINGS {
        if let Some(value) = ctx.body.get(*name) {
            all[*name] = value.clone();
        }
    }
    let serials = all["keepDiskSerialNumbers"].as_array().into_iter().flatten();
    if serials.filter_map(Value::as_str).any(|s| s.trim().is_empty()) {
        return Err(ApiError::field("keepDiskSerialNumbers", "has an empty serial number, which would match no disk"));
    }
    let mut fallbacks = all["eraseFallbackMethods"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Some(other) = fallbacks.find(|m| WipeMethod::parse(m).is_none_or(|m| m == WipeMethod::Auto)) {
        let known = WipeMethod::ALL.iter().filter(|m| **m != WipeMethod::Auto).map(|m| m.as_str());
        let known = known.collect::<Vec<_>>().join(", ");
        return Err(ApiError::field("eraseFallbackMethods", format!("{other:?} is none of: {known}")));
    }
    let kinds = ["hdd", "ssd", "nvme"];
    let left: BTreeSet<&str> =
        all["keepDiskTypes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if let Some(other) = left.iter().find(|k| !kinds.contains(k)) {
        return Err(ApiError::field("keepDiskTypes", format!("{other:?} is none of: {}", kinds.join(", "))));
    }
    if kinds.iter().all(|k| left.contains(k)) {
        return Err(ApiError::field(
            "keepDiskTypes",
            "leaves every disk alone: a server would be handed on with the data of its last tenant",
        ));
    }
    let keeps = |name: &str| all[name].as_array().is_some_and(|l| !l.is_empty());
    let skipped = all["skipRaidActions"].as_array().into_iter().flatten().any(|w| w == "cleanup");
    let kept = keeps("keepDiskSerialNumbers") || keeps("keepDiskTypes");
    let makes = ["resetRaidControllers", "recreateRaid"].into_iter().find(|n| on(&all, n));
    if let Some(name) = makes.filter(|_| kept && !skipped) {
        return Err(ApiError::field(
            name,
            "is for the volumes of all disks, also of those that are to be left alone; do without one of the two",
        ));
    }
    Ok(all)
}

async fn refuse_taken<C: ConnectionTrait>(db: &C, label: &str, but: Option<Id>) -> Result<(), ApiError> {
    let found = policies::Entity::find().filter(policies::Column::Label.eq(label)).one(db).await?;
    match found.filter(|p| Some(p.id) != but) {
        Some(other) => Err(ApiError::conflict(format!("label: cleanup policy {} is called {label} already", other.id))),
        None => Ok(()),
    }
}

async fn all(ctx: Ctx) -> Result<Reply, ApiError> {
    let search = [policies::Column::Label];
    Ok(Reply::Json(list(&ctx, policies::Entity::find(), &[], &search, policies::Column::Id, wire).await?))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let label = model::validate::name("label", ctx.need_text("label")?)?;
    let settings = settings(&ctx, &json!({}))?;
    let txn = ctx.app.db().begin().await?;
    refuse_taken(&txn, &label, None).await?;
    let mut row = policies::new();
    row.label = Set(label);
    row.settings = Set(settings);
    let made = row.insert(&txn).await?;
    let title = format!("Cleanup policy {} created", made.label);
    let object = ("server_cleanup_policy", made.id);
    record(&ctx, &txn, "server_cleanup_policy.create", title, object, json!({"after": wire(&made)})).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let label = ctx.text("label").map(|l| model::validate::name("label", l)).transpose()?;
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    let mut row = found.edit();
    row.settings = Set(settings(&ctx, &found.settings)?);
    if let Some(label) = label {
        refuse_taken(&txn, &label, Some(found.id)).await?;
        row.label = Set(label);
    }
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    let title = format!("Cleanup policy {} changed", after.label);
    let object = ("server_cleanup_policy", after.id);
    let context = json!({"before": wire(&found), "after": wire(&after)});
    record(&ctx, &txn, "server_cleanup_policy.update", title, object, context).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    let servers = server::Entity::find().filter(server::Column::CleanupPolicyId.eq(found.id)).count(&txn).await?;
    let names = |id: Option<i64>| id == Some(found.id);
    let in_profiles = profiles::Entity::find().all(&txn).await?;
    let in_profiles = in_profiles.iter().filter(|p| names(whole(&p.settings["serverCleanupPolicyId"]))).count();
    let in_sites = site::Entity::find().filter(site::Column::Decommissioned.eq(false)).all(&txn).await?;
    let in_sites =
        in_sites.iter().filter(|s| names(whole(&s.config["serverPolicy"]["defaultServerCleanupPolicyID"]))).count();
    if servers > 0 || in_profiles + in_sites > 0 {
        return Err(ApiError::conflict(format!(
            "cleanup policy {} is used by {servers} server(s), {in_profiles} registration profile(s) and {in_sites} site(s); give them another one first",
            found.label
        )));
    }
    policies::Entity::delete_by_id(found.id).exec(&txn).await?;
    let title = format!("Cleanup policy {} deleted", found.label);
    let object = ("server_cleanup_policy", found.id);
    record(&ctx, &txn, "server_cleanup_policy.delete", title, object, json!({"before": wire(&found)})).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
