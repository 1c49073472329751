//! `server.finish_registration`: a server is given its type and becomes available.

use api::facts;
use async_trait::async_trait;
use crypto::Sealer;
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{Id, bmc::HardwareInventory, server::ServerStatus};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait, PaginatorTrait,
    QueryFilter, QuerySelect,
};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{
    Database,
    entity::{server, server_interface, server_registration_profile, server_type, site},
    event::{self, NewEvent},
    list::{Revisioned, cas},
    time,
};

use crate::record;

/// The function.
pub struct ServerFinishRegistration {
    db: Database,
    sealer: Sealer,
}

impl ServerFinishRegistration {
    /// On a database, with the sealer at rest.
    pub fn new(db: Database, sealer: Sealer) -> Self {
        Self { db, sealer }
    }
}

#[derive(Deserialize)]
struct Payload {
    server_id: Id,
}

#[async_trait]
impl JobFunction for ServerFinishRegistration {
    fn name(&self) -> &'static str {
        api::kinds::server_registration::FINISH
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let Payload { server_id } = ctx.payload()?;
        record::earlier(&self.db, &self.sealer, ctx.job.group_id).await.map_err(JobError::retry)?;
        let txn = self.db.begin().await?;
        let Some(found) = server::Entity::find_by_id(server_id).lock_exclusive().one(&txn).await? else {
            return Err(JobError::fatal(format!("server {server_id} is no longer there")));
        };
        let used = match ServerStatus::parse(&found.status) {
            Some(ServerStatus::Registering | ServerStatus::RegistrationIncomplete) => false,
            Some(ServerStatus::PendingRegistration) => false,
            Some(ServerStatus::UsedRegistering) => true,
            // Run again after it had ended: nothing is left to do.
            _ => return Ok(Outcome::Done(json!({"serverStatus": found.status}))),
        };
        let inventory: HardwareInventory = serde_json::from_value(found.inventory.clone()).unwrap_or_default();
        complete(&txn, &found, &inventory).await?;
        let site = site::Entity::find_by_id(found.site_id).one(&txn).await?;
        let policy = site.map_or(Value::Null, |s| s.config["serverPolicy"].clone());
        let may = |name: &str| policy[name].as_bool() != Some(false);
        let kind = type_of(&txn, &inventory, may("automaticallyAllocateServerTypes")).await?;
        let ill = api::gpu::trouble(&found.inventory, kind.as_ref().map_or(0, |k| k.gpu_count));
        let (status, reason) = if used {
            (ServerStatus::Used, None)
        } else if let Some(why) = ill {
            (ServerStatus::Unavailable, Some(why))
        } else if kind.is_none() {
            let words =
                "no server type fits, and its site does not make new ones; set its server type, then make it available";
            (ServerStatus::Unavailable, Some(words.to_owned()))
        } else if may("automaticallySetServersAsAvailable") {
            (ServerStatus::Available, None)
        } else {
            let words = "registered; its site wants a person to make it available";
            (ServerStatus::Unavailable, Some(words.to_owned()))
        };
        let mut row = found.edit();
        row.status = Set(status.as_str().into());
        row.status_reason = Set(reason.clone());
        if let Some(kind) = &kind {
            row.server_type_id = Set(Some(kind.id));
        }
        row.registered_at = Set(Some(time::now()));
        let after = cas(&txn, &found, row).await?;
        let after = after.ok_or_else(|| JobError::retry("the server was changed at the same moment"))?;
        facts::server(&txn, &self.sealer, server_id).await.map_err(JobError::retry)?;
        let name = facts::server_name(&after);
        let message = match (&kind, reason) {
            (_, Some(reason)) => reason,
            (Some(kind), None) => format!("It is of type {} and {}.", kind.name, status.as_str()),
            (None, None) => String::new(),
        };
        let new = NewEvent {
            kind: "server.registered".into(),
            severity: "success".into(),
            title: format!("Server {name} registered"),
            message,
            object: Some(("server".into(), server_id)),
            server_id: Some(server_id),
            site_id: Some(after.site_id),
            job_id: Some(ctx.id()),
            context: json!({"serverTypeId": after.server_type_id, "serverStatus": after.status}),
            ..Default::default()
        };
        event::append(&txn, new).await?;
        txn.commit().await?;
        Ok(Outcome::Done(json!({"serverStatus": after.status, "serverTypeId": after.server_type_id})))
    }
}

/// Fails in words when something required is missing.
async fn complete<C: ConnectionTrait>(
    db: &C,
    found: &server::Model,
    inventory: &HardwareInventory,
) -> Result<(), JobError> {
    let mut missing = Vec::new();
    if inventory.processors.is_empty() {
        missing.push("processors");
    }
    if inventory.memory_mib == 0 {
        missing.push("memory");
    }
    let interfaces = server_interface::Entity::find().filter(server_interface::Column::ServerId.eq(found.id));
    let interfaces = interfaces.all(db).await?;
    if interfaces.is_empty() {
        missing.push("network interfaces with MAC addresses");
    }
    if !missing.is_empty() {
        return Err(JobError::fatal(format!(
            "the inventory of {} lacks: {}; check the BMC's firmware, and that the discovery image could boot",
            facts::server_name(found),
            missing.join(", ")
        )));
    }
    let mut twin = Condition::any();
    let uuid = found.uuid.as_deref().and_then(record::meaningful);
    let serial = found.serial.as_deref().and_then(record::meaningful);
    if let Some(uuid) = &uuid {
        twin = twin.add(server::Column::Uuid.eq(uuid));
    }
    if let Some(serial) = &serial {
        let mut same = Condition::all().add(server::Column::Serial.eq(serial));
        if uuid.is_some() {
            // Machines of one chassis may tell its serial number as theirs; the UUID is each one's own.
            same = same.add(server::Column::Uuid.is_null());
        }
        twin = twin.add(same);
    }
    if (uuid.is_some() || serial.is_some())
        && let Some(other) = server::Entity::find()
            .filter(twin)
            .filter(server::Column::Id.ne(found.id))
            .filter(server::Column::SiteId.eq(found.site_id))
            .filter(server::Column::Status.ne(ServerStatus::Decommissioned.as_str()))
            .one(db)
            .await?
    {
        return Err(JobError::fatal(format!(
            "it is the same machine as server {} ({}, BMC {}): same serial number or UUID; delete one of the two",
            other.id,
            facts::server_name(&other),
            other.bmc_address.as_deref().unwrap_or("unknown")
        )));
    }
    let wanted = match found.registration_profile_id {
        Some(id) => server_registration_profile::Entity::find_by_id(id)
            .one(db)
            .await?
            .and_then(|p| p.settings["minimumNumberOfConnectedInterfaces"].as_i64())
            .unwrap_or(0),
        None => 0,
    };
    let up = |mac: &str| inventory.nics.iter().any(|n| n.mac == mac && n.link_up == Some(true));
    let connected = interfaces.iter().filter(|i| i.network_device_id.is_some() || up(&i.mac)).count() as i64;
    if connected < wanted {
        return Err(JobError::retry(format!(
            "{connected} of its interfaces are connected, its registration profile wants {wanted}; check the cables"
        )));
    }
    Ok(())
}

/// `2x480 ssd, 4x7680 nvme`: equal things counted, in a stable order.
fn counted(things: impl Iterator<Item = String>) -> String {
    let mut counts = std::collections::BTreeMap::new();
    for thing in things {
        *counts.entry(thing).or_insert(0) += 1;
    }
    counts.iter().map(|(thing, n)| format!("{n}x{thing}")).collect::<Vec<_>>().join(",")
}

/// What makes two servers of one type: nothing that changes with a cable or from boot to boot.
pub fn signature(i: &HardwareInventory) -> String {
    let cpus = counted(i.processors.iter().map(|p| format!("{} {}c", p.model.trim(), p.cores)));
    let disks = counted(i.disks.iter().map(|d| format!("{} {}", d.size_gb, d.media)));
    let gpus = counted(i.gpus.iter().map(|g| format!("{} {}", g.vendor.trim(), g.model.trim())));
    format!("cpu={cpus}|ram={}|disks={disks}|nics={}|gpus={gpus}", ram_gb(i), i.nics.len())
}

fn ram_gb(i: &HardwareInventory) -> i64 {
    ((i.memory_mib + 512) / 1024) as i64
}

/// The type of this hardware; made where there is none and the site lets us.
async fn type_of<C: ConnectionTrait>(
    db: &C,
    i: &HardwareInventory,
    make: bool,
) -> Result<Option<server_type::Model>, JobError> {
    let signature = signature(i);
    let known = server_type::Entity::find().filter(server_type::Column::Signature.eq(&signature)).one(db).await?;
    if known.is_some() || !make {
        return Ok(known);
    }
    let first = i.processors.first();
    let cores = first.map_or(0, |p| i64::from(p.cores));
    let base = type_name(i);
    let like = server_type::Entity::find().filter(server_type::Column::Name.starts_with(&base)).count(db).await?;
    let name = if like == 0 { base } else { format!("{base}.v{}", like + 1) };
    let mut names: Vec<&str> = i.processors.iter().map(|p| p.model.trim()).collect();
    names.dedup();
    let mut row = server_type::new();
    row.label = Set(name.to_lowercase().replace('.', "-"));
    row.description = Set(Some(describe(i)));
    row.name = Set(name);
    row.ram_gb = Set(ram_gb(i));
    row.processor_count = Set(i.processors.len() as i64);
    row.core_count = Set(cores);
    row.core_mhz = Set(first.map_or(0, |p| i64::from(p.mhz)));
    row.processor_names = Set(json!(names));
    row.disk_count = Set(i.disks.len() as i64);
    row.nic_count = Set(i.nics.len() as i64);
    row.nic_speeds = Set(json!(i.nics.iter().map(|n| n.speed_mbps).collect::<Vec<_>>()));
    row.gpu_count = Set(i.gpus.len() as i64);
    row.gpu_info = Set(json!(
        i.gpus.iter().map(|g| json!({"model": g.model, "vendor": g.vendor, "name": g.model})).collect::<Vec<_>>()
    ));
    row.signature = Set(signature);
    row.extra = Set(
        json!({"disks": i.disks.iter().map(|d| json!({"sizeGb": d.size_gb, "media": d.media})).collect::<Vec<_>>()}),
    );
    // Two servers of a new type may end at once: the second finds the first one's type when it tries again.
    Ok(Some(row.insert(db).await?))
}

/// `M.2x32.256.6d`: sockets and cores, memory, disks, accelerators.
fn type_name(i: &HardwareInventory) -> String {
    let cores = i.processors.first().map_or(0, |p| p.cores);
    let gpus = if i.gpus.is_empty() { String::new() } else { format!(".{}g", i.gpus.len()) };
    format!("M.{}x{cores}.{}.{}d{gpus}", i.processors.len(), ram_gb(i), i.disks.len())
}

/// Many makers put their name before the model's themselves.
fn gpu_name(vendor: &str, model: &str) -> String {
    let (vendor, model) = (vendor.trim(), model.trim());
    if model.to_lowercase().starts_with(&vendor.to_lowercase()) { model.into() } else { format!("{vendor} {model}") }
}

fn describe(i: &HardwareInventory) -> String {
    let spaced = |things: String| things.replace(',', ", ");
    let cpus = counted(i.processors.iter().map(|p| format!(" {}", p.model.trim())));
    let disks = spaced(counted(i.disks.iter().map(|d| format!(" {} GB {}", d.size_gb, d.media))));
    let gpus = spaced(counted(i.gpus.iter().map(|g| format!(" {}", gpu_name(&g.vendor, &g.model)))));
    let parts = [cpus, format!("{} GB", ram_gb(i)), disks, format!("{} interfaces", i.nics.len()), gpus];
    parts.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join(", ")
}
