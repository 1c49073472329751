//! How a switch comes in, and how it is read again.

use engine::Created;
use model::{job::JobSpec, order::SwitchDiscover, secret::Clear};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, DatabaseTransaction};
use serde_json::{Value, json};
use store::entity::network_device;

use crate::{
    App,
    context::{Ctx, Reply},
    error::ApiError,
    facts,
    kinds::{
        network_device::{
            address, default_port, driver, find, notes, port, quarantine, refuse_others, refuse_taken, site_of, wire,
        },
        network_device_default,
        network_device_job::{group, job},
        record,
    },
    routes,
};

routes! {
    "createNetworkDevice" => create,
    "discoverNetworkDevice" => discover,
}

/// Makes the job that reads a switch.
pub(crate) async fn start_discovery(
    app: &App,
    txn: &DatabaseTransaction,
    device: &network_device::Model,
) -> Result<Created, ApiError> {
    let job = discovery("discover".into(), device)?;
    let group = group("network_device_discover", device, &job.title);
    Ok(app.engine().create_group(txn, group, vec![job]).await?)
}

/// The job that reads a switch.
pub(crate) fn discovery(key: String, device: &network_device::Model) -> Result<JobSpec, ApiError> {
    let title = format!("Read switch {}", device.name);
    job(key, device, title, &SwitchDiscover { network_device_id: device.id }, &[])
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    refuse_others(&ctx)?;
    let driver = driver(ctx.need_text("driver")?)?;
    let at = address(ctx.need_text("managementAddress")?)?;
    let username = ctx.need_text("username")?.to_owned();
    let password = Clear(ctx.need_text("managementPassword")?.to_owned());
    let sealed = ctx.app.sealer().seal(&password).map_err(ApiError::internal)?;
    let (port, quarantine_vlan) = (port(&ctx)?, quarantine(&ctx)?);
    let mac = ctx.text("managementMAC").filter(|m| !m.is_empty());
    let mac = mac.map(|m| model::validate::mac("managementMAC", m)).transpose()?;
    let txn = ctx.app.db().begin().await?;
    let site = site_of(&ctx, &txn).await?;
    let defaults = network_device_default::matching(&txn, site.id, mac.as_deref(), ctx.text("serialNumber")).await?;
    let defaults = defaults.unwrap_or_else(|| json!({}));
    let name = ctx.text("identifierString").filter(|n| !n.is_empty()).or(defaults["identifierString"].as_str());
    let name = model::validate::label("identifierString", name.unwrap_or(&at))?;
    refuse_taken(&txn, site.id, &name, (&at, port.unwrap_or_else(|| default_port(&driver))), None).await?;
    let mut row = network_device::new();
    row.site_id = Set(site.id);
    row.name = Set(name);
    row.position = Set(ctx.need_text("position")?.to_owned());
    row.driver = Set(driver);
    row.status = Set("registering".into());
    row.address = Set(at);
    row.port = Set(port);
    row.username = Set(username);
    row.password = Set(sealed.0);
    row.serial = Set(ctx.text("serialNumber").map(str::to_owned));
    row.mac = Set(mac);
    row.quarantine_vlan = Set(quarantine_vlan);
    row.rack = Set(ctx.text("datacenterRack").map(str::to_owned));
    row.tags = Set(ctx.body.get("tags").filter(|t| t.is_array()).cloned().unwrap_or_else(|| json!([])));
    row.facts = Set(json!({}));
    let given = json!({
        "asn": defaults["asn"], "loopbackAddress": defaults["loopbackAddressIpv4"], "loopbackAddressIpv6": defaults["loopbackAddressIpv6"],
        "vtepAddress": defaults["vtepAddressIpv4"], "vtepAddressIpv6": defaults["vtepAddressIpv6"], "orderIndex": defaults["orderIndex"],
        "customVariables": defaults["customVariables"],
    });
    row.extra = Set(notes(&ctx, &given));
    let made = row.insert(&txn).await?;
    facts::network_device(&txn, ctx.app.sealer(), made.id).await?;
    let made = discovering(&ctx, &txn, made).await?.0;
    let title = format!("Switch {} is being registered", made.name);
    let object = ("network_device", made.id);
    record(&ctx, &txn, "network_device.register", title, object, json!({"after": wire(&made)})).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    Ok(Reply::Tagged(wire(&made), made.revision))
}

/// Starts a discovery and remembers it with the switch, which is no change of the switch itself.
async fn discovering(
    ctx: &Ctx,
    txn: &DatabaseTransaction,
    device: network_device::Model,
) -> Result<(network_device::Model, Value), ApiError> {
    let created = start_discovery(&ctx.app, txn, &device).await?;
    let info = json!({"jobGroupId": created.group_id, "jobId": created.job_ids.get("discover")});
    let mut extra = device.extra.as_object().cloned().unwrap_or_default();
    extra.insert("jobInfo".into(), info.clone());
    let mut row = network_device::ActiveModel { id: Set(device.id), ..Default::default() };
    row.extra = Set(Value::Object(extra));
    Ok((row.update(txn).await?, info))
}

async fn discover(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    if found.status == "decommissioned" {
        return Err(ApiError::conflict(format!("switch {} is decommissioned", found.name)));
    }
    let (_, info) = discovering(&ctx, &txn, found).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    Ok(Reply::Json(json!({"jobInfo": info})))
}
