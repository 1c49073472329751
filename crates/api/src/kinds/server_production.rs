//! Servers that are in production outside of this platform: known, read, and never touched, until a person takes them over.

use model::{server::ServerStatus, validate};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use store::entity::{network_device, os_template, server_interface, server_type, site};

use crate::{
    context::{Ctx, Reply, whole},
    error::ApiError,
    facts,
    kinds::{
        infrastructure as infrastructures,
        os_template::visible,
        record,
        server::{brief, change, find_locked, held, wire},
        server_entry::{blank, bmc_address, enter, refuse_taken},
        server_registration::{entry, login_of, registered},
    },
    routes,
};

routes! {
    "registerProductionServer" => register,
    "importUnmanagedServer" => import,
    "manageServer" => manage,
}

/// A server that runs: its BMC is read, and that is all, for as long as it is not taken over.
async fn register(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut entry = entry(&ctx)?;
    let Some(address) = entry.address.clone() else {
        return Err(ApiError::field(
            "managementAddress",
            "is required: what the server is, is read from its BMC; to enter one without a BMC, import it as unmanaged",
        ));
    };
    let settings = ctx.body.get("settings").cloned().unwrap_or_default();
    let id = whole(&settings["infrastructureId"])
        .ok_or_else(|| ApiError::field("settings.infrastructureId", "is required"))?;
    let txn = ctx.app.db().begin().await?;
    let of = infrastructures::find(&ctx, &txn, id)
        .await
        .map_err(|_| ApiError::field("settings.infrastructureId", format!("there is no infrastructure {id}")))?;
    if of.site_id != entry.site_id {
        return Err(ApiError::field(
            "settings.infrastructureId",
            format!("infrastructure {} is at site {}, not at site {}", of.label, of.site_id, entry.site_id),
        ));
    }
    let template = whole(&settings["osTemplateId"]).filter(|id| *id != 0);
    if let Some(id) = template
        && visible(&ctx).filter(os_template::Column::Id.eq(id)).one(&txn).await?.is_none()
    {
        return Err(ApiError::field("settings.osTemplateId", format!("there is no OS template {id}")));
    }
    entry.hands_off = true;
    entry.extra = json!({"production": {
        "infrastructureId": of.id, "infrastructureLabel": of.label, "osTemplateId": template, "interfaceConnections": settings["interfaceConnections"],
    }});
    let (made, info) = enter(&ctx.app, &txn, entry).await?;
    let title = format!("Server {address} is registered as it runs, without being touched");
    record(&ctx, &txn, "server.register_production", title, ("server", made.id), brief(&made)).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    Ok(Reply::Tagged(registered(&made, &info), made.revision))
}

/// A server of which only the type and the cables are known, entered by hand.
async fn import(ctx: Ctx) -> Result<Reply, ApiError> {
    let site_id = ctx.need_int("siteId")?;
    let type_id = ctx.need_int("serverTypeId")?;
    let address = ctx.text("managementAddress").filter(|a| !a.trim().is_empty()).map(bmc_address).transpose()?;
    let login = login_of(&ctx, "serverIpmiUsername", "serverIpmiPassword")?;
    let hostname = ctx.text("hostname").map(|h| validate::hostname("hostname", h)).transpose()?;
    let txn = ctx.app.db().begin().await?;
    if site::Entity::find_by_id(site_id).one(&txn).await?.is_none_or(|s| s.decommissioned) {
        return Err(ApiError::field("siteId", format!("there is no site {site_id}")));
    }
    let Some(kind) = server_type::Entity::find_by_id(type_id).one(&txn).await? else {
        return Err(ApiError::field("serverTypeId", format!("there is no server type {type_id}")));
    };
    if let Some(address) = &address {
        refuse_taken(&txn, address, None).await?;
    }
    let mut row = blank(site_id);
    row.serial = Set(ctx.text("serverSerialNumber").map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned));
    row.uuid = Set(ctx.text("serverUUID").map(str::to_lowercase));
    row.bmc_address = Set(address);
    if let Some((name, password)) = login {
        row.bmc_username = Set(Some(name));
        row.bmc_password = Set(Some(ctx.app.sealer().seal(&password).map_err(ApiError::internal)?.0));
    }
    row.server_type_id = Set(Some(kind.id));
    row.ram_gb = Set(kind.ram_gb);
    row.processor_count = Set(kind.processor_count);
    row.core_count = Set(kind.core_count);
    row.disk_count = Set(kind.disk_count);
    row.gpu_count = Set(kind.gpu_count);
    row.status = Set(ServerStatus::Used.as_str().into());
    row.administration_state = Set("unmanaged".into());
    row.comments = Set(hostname.map(|h| format!("host name {h}")));
    row.registered_at = Set(Some(store::time::now()));
    let made = row.insert(&txn).await?;
    interfaces(&ctx, &txn, site_id, made.id).await?;
    facts::server(&txn, ctx.app.sealer(), made.id).await?;
    let title = format!("Unmanaged server {} imported", facts::server_name(&made));
    record(&ctx, &txn, "server.import_unmanaged", title, ("server", made.id), brief(&made)).await?;
    let body = wire(&txn, &made).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(body, made.revision))
}

/// The interfaces of a body, each with the switch port behind it.
async fn interfaces(ctx: &Ctx, txn: &DatabaseTransaction, site_id: i64, server_id: i64) -> Result<(), ApiError> {
    let list = ctx.body.get("serverInterfaces").and_then(Value::as_array).cloned().unwrap_or_default();
    let devices = network_device::Entity::find().filter(network_device::Column::SiteId.eq(site_id)).all(txn).await?;
    let mut seen = Vec::new();
    for (n, given) in list.iter().enumerate() {
        let field = |name: &str| format!("serverInterfaces[{n}].{name}");
        let text = |name: &str| given[name].as_str().map(str::trim).unwrap_or_default();
        let mac = validate::mac("mac", text("serverInterfaceMacAddress"))
            .map_err(|e| ApiError::field(field("serverInterfaceMacAddress"), e.message))?;
        if seen.contains(&mac) {
            return Err(ApiError::field(field("serverInterfaceMacAddress"), format!("{mac} is named twice")));
        }
        if let Some(other) =
            server_interface::Entity::find().filter(server_interface::Column::Mac.eq(&mac)).one(txn).await?
        {
            return Err(ApiError::conflict(format!(
                "{}: server {} has an interface with the address {mac} already",
                field("serverInterfaceMacAddress"),
                other.server_id
            )));
        }
        let name = text("identifierString");
        let device = devices.iter().find(|d| d.name == name).ok_or_else(|| {
            ApiError::field(field("identifierString"), format!("there is no switch {name:?} at this site"))
        })?;
        let port = text("networkEquipmentInterfaceIdentifierString");
        if port.is_empty() {
            return Err(ApiError::field(field("networkEquipmentInterfaceIdentifierString"), "names no port"));
        }
        let mut row = server_interface::new();
        row.server_id = Set(server_id);
        row.position = Set(n as i64);
        row.name = Set(format!("nic{n}"));
        row.mac = Set(mac.clone());
        row.speed_mbps = Set(0);
        row.network_device_id = Set(Some(device.id));
        row.network_device_port = Set(Some(port.to_owned()));
        row.insert(txn).await?;
        seen.push(mac);
    }
    Ok(())
}

/// A server that is in production no longer is taken over. Its serial number must be written once more, because from now on it can be
/// erased; its disks still hold what was on them, so it is cleaned first.
async fn manage(ctx: Ctx) -> Result<Reply, ApiError> {
    if !ctx.caller.is_admin {
        return Err(ApiError::forbidden("only an administrator takes over a server that is in production"));
    }
    let given = ctx.need_text("serialNumber")?.trim().to_owned();
    let txn = ctx.app.db().begin().await?;
    let found = find_locked(&ctx, &txn).await?;
    let name = facts::server_name(&found);
    if !facts::hands_off(&found) {
        return Err(ApiError::conflict(format!("server {name} is managed by this platform already")));
    }
    if !given.eq_ignore_ascii_case(&name) {
        return Err(ApiError::field(
            "serialNumber",
            format!("{given:?} is not this server: it is {name}; from then on it can be switched off and erased"),
        ));
    }
    if !held(&txn, &[found.id]).await?.is_empty() {
        return Err(ApiError::conflict(format!("server {name} is used by an instance; release it first")));
    }
    if found.bmc_address.is_none() || found.bmc_username.is_none() || found.bmc_password.is_none() {
        return Err(ApiError::conflict(format!(
            "server {name} has no BMC that may be used; enter its address and login first"
        )));
    }
    let mut extra = found.extra.clone();
    if let Some(map) = extra.as_object_mut() {
        map.remove("production");
    }
    let after = change(&ctx, &txn, &found, "manage", |row| {
        row.administration_state = Set("managed".into());
        row.status = Set(ServerStatus::CleaningRequired.as_str().into());
        row.status_reason = Set(Some("taken over from production: what was on its disks is still there".into()));
        row.extra = Set(extra);
    })
    .await?;
    let body = wire(&txn, &after).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(body, after.revision))
}
