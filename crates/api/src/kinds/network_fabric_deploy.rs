//! The deploy of a fabric: the links between its switches are made as we want them, and the switches read again.

use std::collections::{BTreeMap, HashMap};

use engine::{NewGroup, entity::job as jobs};
use model::{
    Id,
    job::{JobCommand, JobSpec},
    order::{SwitchApply, SwitchDiscover},
    switch::{PortIntent, SwitchPatch},
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use store::entity::{fabric_device, fabric_link, network_device, network_fabric};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{network_device_job::job, network_fabric::find_in, record},
    routes,
};

routes! {
    "deployNetworkFabric" => deploy,
    "acceptNetworkFabricDeploy" => accept,
    "rejectNetworkFabricDeploy" => reject,
}

/// Largest frame of a link between switches: tenants' frames with any headers around them fit.
const LINK_MTU: u32 = 9216;

/// What the ends of links on each switch shall be.
fn intents(links: &[fabric_link::Model], names: &HashMap<Id, &str>) -> BTreeMap<Id, BTreeMap<String, PortIntent>> {
    let mut all: BTreeMap<Id, BTreeMap<String, PortIntent>> = BTreeMap::new();
    for l in links {
        for (here, port, there, peer) in
            [(l.device_a, &l.port_a, l.device_b, &l.port_b), (l.device_b, &l.port_b, l.device_a, &l.port_a)]
        {
            let other = names.get(&there).copied().unwrap_or("another switch");
            let intent = PortIntent {
                vlans: None,
                mtu: Some(LINK_MTU),
                admin_up: Some(true),
                description: Some(format!("to {other} {peer}")),
            };
            all.entry(here).or_default().insert(port.clone(), intent);
        }
    }
    all
}

/// The jobs of a deploy: for each switch with links one that configures it, and for every switch one that reads it afterwards.
fn plan(
    devices: &[network_device::Model],
    links: &[fabric_link::Model],
    confirm: bool,
) -> Result<Vec<JobSpec>, ApiError> {
    let names: HashMap<Id, &str> = devices.iter().map(|d| (d.id, d.name.as_str())).collect();
    let mut wanted = intents(links, &names);
    let mut all = Vec::new();
    for device in devices {
        let mut after = Vec::new();
        if let Some(ports) = wanted.remove(&device.id) {
            let key = format!("links/{}", device.id);
            let title = format!("Configure {} link(s) of switch {}", ports.len(), device.name);
            let patch = SwitchPatch { ports, ..SwitchPatch::default() };
            let apply = SwitchApply { network_device_id: device.id, patch };
            let mut spec = job(key.clone(), device, title, &apply, &[])?;
            spec.requires_confirmation = confirm;
            all.push(spec);
            after.push(key);
        }
        let read = SwitchDiscover { network_device_id: device.id };
        all.push(job(format!("read/{}", device.id), device, format!("Read switch {}", device.name), &read, &after)?);
    }
    Ok(all)
}

async fn devices<C: ConnectionTrait>(
    db: &C,
    fabric: &network_fabric::Model,
) -> Result<Vec<network_device::Model>, ApiError> {
    let members: Vec<Id> = fabric_device::Entity::find()
        .filter(fabric_device::Column::FabricId.eq(fabric.id))
        .all(db)
        .await?
        .into_iter()
        .map(|m| m.network_device_id)
        .collect();
    Ok(network_device::Entity::find()
        .filter(network_device::Column::Id.is_in(members))
        .filter(network_device::Column::Status.ne("decommissioned"))
        .all(db)
        .await?)
}

async fn deploy(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let fabric = find_in(&ctx, &txn).await?;
    ctx.check_revision(fabric.revision)?;
    if fabric.status != "active" {
        return Err(ApiError::conflict(format!("fabric {} is a draft; activate it first", fabric.name)));
    }
    if let Some(open) = unconfirmed(&txn, &fabric).await?.first() {
        return Err(ApiError::conflict(format!(
            "fabric {} waits for the confirmation of its deploy {}; accept or reject that one",
            fabric.name, open.group_id
        )));
    }
    let devices = devices(&txn, &fabric).await?;
    if devices.is_empty() {
        return Err(ApiError::conflict(format!("fabric {} has no switch; add some first", fabric.name)));
    }
    let links = fabric_link::Entity::find().filter(fabric_link::Column::FabricId.eq(fabric.id)).all(&txn).await?;
    let confirm = ctx.flag("requireConfirmation").unwrap_or(false);
    let jobs = plan(&devices, &links, confirm)?;
    let title = format!("Deploy fabric {}", fabric.name);
    let group = NewGroup {
        kind: "network_fabric_deploy".into(),
        description: title.clone(),
        params: json!({"networkFabricId": fabric.id}),
        site_id: Some(fabric.site_id),
        ..Default::default()
    };
    let created = ctx.app.engine().create_group(&txn, group, jobs).await?;
    let mut row = network_fabric::ActiveModel { id: Set(fabric.id), ..Default::default() };
    row.deploy_id = Set(Some(created.group_id));
    row.extra = Set(waits(&fabric, confirm));
    row.update(&txn).await?;
    let info = json!({"jobGroupId": created.group_id});
    record(&ctx, &txn, "network_fabric.deploy", title, ("network_fabric", fabric.id), info.clone()).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    Ok(Reply::Json(info))
}

/// The fabric's notes, with whether its newest deploy waits for a word of a person.
fn waits(fabric: &network_fabric::Model, so: bool) -> Value {
    let mut extra = fabric.extra.as_object().cloned().unwrap_or_default();
    extra.insert("awaitsConfirmation".into(), so.into());
    Value::Object(extra)
}

/// Jobs of the newest deploy that a person must confirm and has not. (The jobs tell of it themselves once the site has.)
async fn unconfirmed<C: ConnectionTrait>(db: &C, fabric: &network_fabric::Model) -> Result<Vec<jobs::Model>, ApiError> {
    let group = fabric.deploy_id.filter(|_| fabric.extra["awaitsConfirmation"] == true);
    let Some(group) = group else { return Ok(Vec::new()) };
    Ok(jobs::Entity::find()
        .filter(jobs::Column::GroupId.eq(group))
        .filter(jobs::Column::RequiresConfirmation.eq(true))
        .filter(jobs::Column::Status.eq("not_called"))
        .all(db)
        .await?)
}

/// The deploy that waits for a word; with this it waits no more, and the caller sees to its jobs.
async fn answered(ctx: &Ctx, verb: &str) -> Result<Vec<jobs::Model>, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let fabric = find_in(ctx, &txn).await?;
    let open = unconfirmed(&txn, &fabric).await?;
    if open.is_empty() {
        return Err(ApiError::conflict(format!("no deploy of fabric {} waits for a confirmation", fabric.name)));
    }
    let mut row = network_fabric::ActiveModel { id: Set(fabric.id), ..Default::default() };
    row.extra = Set(waits(&fabric, false));
    row.update(&txn).await?;
    let title = format!("Deploy of fabric {}: {verb}", fabric.name);
    let object = ("network_fabric", fabric.id);
    record(ctx, &txn, &format!("network_fabric.{verb}_deploy"), title, object, json!({})).await?;
    txn.commit().await?;
    Ok(open)
}

async fn accept(ctx: Ctx) -> Result<Reply, ApiError> {
    for job in answered(&ctx, "accept").await? {
        ctx.app.engine().command(JobCommand::Confirm { job_id: job.id }).await?;
    }
    Ok(Reply::Empty)
}

async fn reject(ctx: Ctx) -> Result<Reply, ApiError> {
    if let Some(job) = answered(&ctx, "reject").await?.first() {
        let reason = "the deploy was rejected".to_owned();
        ctx.app.engine().command(JobCommand::CancelGroup { group_id: job.group_id, reason }).await?;
    }
    Ok(Reply::Empty)
}
