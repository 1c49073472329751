//! How a server comes in: registered with its BMC, registered again, given another login.

use std::net::IpAddr;

use engine::{Created, NewGroup};
use model::{
    Id,
    job::{JobRefs, JobSpec, RetryPolicy, Target},
    order::{Order, ServerDiscover, ServerInventory},
    secret::Clear,
    server::ServerStatus,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter,
};
use serde_json::{Value, json};
use store::{
    entity::{server, server_default_credentials as defaults, server_registration_profile as profiles, site},
    list::Revisioned,
    time,
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    facts,
    kinds::{
        record,
        server::{self as servers, change, find, opened},
        server_wire::vendor_word,
    },
    routes,
};

routes! {
    "registerServer" => register,
    "reRegisterServer" => again,
    "updateServerIpmiCredentials" => login,
}

/// What a server without a login waits for.
pub const WAITS_FOR_LOGIN: &str = "waiting for credentials: give the BMC's user name and password, or default credentials of its site that match its serial number or MAC address";

/// The job function of the Global Controller that ends a registration.
pub const FINISH: &str = "server.finish_registration";

/// Where a BMC is: an address or a host name, with a port where it is not 443.
pub fn bmc_address(text: &str) -> Result<String, ApiError> {
    let text = text.trim().to_ascii_lowercase();
    let bad = || {
        ApiError::field(
            "managementAddress",
            format!("{text:?} is neither an IP address nor a host name, with or without :PORT"),
        )
    };
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() });
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse::<u16>().ok().filter(|p| *p > 0).ok_or_else(bad)?)),
        None => (text.as_str(), None),
    };
    let host = match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(ip) if ip.is_ipv6() => format!("[{ip}]"),
        Ok(ip) => ip.to_string(),
        Err(_) => model::validate::hostname("managementAddress", host).map_err(|_| bad())?,
    };
    Ok(match port {
        Some(443) | None => host,
        Some(port) => format!("{host}:{port}"),
    })
}

/// Two servers cannot have one BMC.
pub async fn refuse_taken<C: ConnectionTrait>(db: &C, address: &str, but: Option<Id>) -> Result<(), ApiError> {
    let found = server::Entity::find().filter(server::Column::BmcAddress.eq(address)).one(db).await?;
    match found.filter(|s| Some(s.id) != but) {
        Some(other) => Err(ApiError::conflict(format!(
            "managementAddress: server {} ({}) has the BMC {address} already",
            other.id,
            facts::server_name(&other)
        ))),
        None => Ok(()),
    }
}

/// A profile by id, or the one that a site names; none is the system's defaults.
pub async fn profile<C: ConnectionTrait>(db: &C, id: Option<Id>) -> Result<Option<profiles::Model>, ApiError> {
    let Some(id) = id else { return Ok(None) };
    let found = profiles::Entity::find_by_id(id).one(db).await?;
    found
        .map(Some)
        .ok_or_else(|| ApiError::field("registrationProfileId", format!("there is no registration profile {id}")))
}

/// The login that a site has ready for a machine: by serial number, by MAC address, else for all of it.
pub async fn default_login<C: ConnectionTrait>(
    db: &C,
    site_id: Id,
    serial: Option<&str>,
    mac: Option<&str>,
) -> Result<Option<defaults::Model>, ApiError> {
    let all = defaults::Entity::find().filter(defaults::Column::SiteId.eq(site_id)).all(db).await?;
    let same =
        |a: &Option<String>, b: Option<&str>| a.as_deref().zip(b).is_some_and(|(a, b)| a.eq_ignore_ascii_case(b));
    let for_all = |d: &&defaults::Model| d.serial.is_none() && d.mac.is_none();
    let found = all
        .iter()
        .find(|d| same(&d.serial, serial))
        .or_else(|| all.iter().find(|d| same(&d.mac, mac)))
        .or_else(|| all.iter().find(for_all));
    Ok(found.cloned())
}

/// Makes the jobs that find out what a server is. One that is in use is only asked over its BMC and never booted.
pub async fn start(
    ctx: &Ctx,
    txn: &DatabaseTransaction,
    row: &server::Model,
    in_band: bool,
) -> Result<Created, ApiError> {
    let name = facts::server_name(row);
    let refs = JobRefs { server_id: Some(row.id), ..Default::default() };
    let job = |key: &str, function: &str, title: String, site_id, payload, timeout_seconds, after: &[&str]| JobSpec {
        key: key.to_owned(),
        function: function.to_owned(),
        title,
        site_id,
        target: Target { kind: "server".into(), id: row.id, generation: 0 },
        payload,
        depends_on: after.iter().map(|k| (*k).to_owned()).collect(),
        retry: match function {
            // Cables are plugged in by people: they are given about ten minutes.
            FINISH => RetryPolicy { max: 12, min_seconds: 10, max_seconds: 60 },
            // A boot takes long enough: one that failed twice wants a person.
            ServerDiscover::NAME => RetryPolicy { max: 1, min_seconds: 10, max_seconds: 10 },
            _ => RetryPolicy::default(),
        },
        timeout_seconds,
        refs: refs.clone(),
        can_be_skipped: function != FINISH,
        requires_confirmation: false,
    };
    let site = Some(row.site_id);
    let inventory = serde_json::to_value(ServerInventory { server_id: row.id })?;
    let mut jobs = vec![job(
        "inventory",
        ServerInventory::NAME,
        format!("Read what {name} is from its BMC"),
        site,
        inventory,
        300,
        &[],
    )];
    if in_band {
        let payload = serde_json::to_value(ServerDiscover { server_id: row.id })?;
        let title = format!("Boot {name} into discovery");
        jobs.push(job("discover", ServerDiscover::NAME, title, site, payload, 1800, &["inventory"]));
    }
    let last = if in_band { "discover" } else { "inventory" };
    let title = format!("Take {name} into service");
    jobs.push(job("finish", FINISH, title, None, json!({"server_id": row.id}), 60, &[last]));
    let group = NewGroup {
        kind: "server_register".into(),
        description: format!("Register server {name}"),
        params: json!({"serverId": row.id}),
        server_id: Some(row.id),
        site_id: site,
        ..Default::default()
    };
    Ok(ctx.app.engine().create_group(txn, group, jobs).await?)
}

/// Whether the discovery image is to be booted: unless the profile says that the BMC's word is enough.
async fn wants_in_band<C: ConnectionTrait>(db: &C, row: &server::Model) -> Result<bool, ApiError> {
    let profile = match row.registration_profile_id {
        Some(id) => profiles::Entity::find_by_id(id).one(db).await?,
        None => None,
    };
    Ok(profile.is_none_or(|p| p.settings["alwaysDiscoverInterfacesWithBDK"].as_bool() != Some(false)))
}

/// `jobInfo` of an answer, also remembered with the server.
fn job_info(created: &Created) -> Value {
    json!({"jobGroupId": created.group_id, "jobId": created.job_ids.get("inventory")})
}

/// Starts a registration and remembers its jobs.
async fn begin(
    ctx: &Ctx,
    txn: &DatabaseTransaction,
    row: server::Model,
    in_band: bool,
) -> Result<(server::Model, Value), ApiError> {
    let info = job_info(&start(ctx, txn, &row, in_band).await?);
    Ok((remember(txn, row, &info).await?, info))
}

/// Notes with a server which jobs work on it now. That is no change of the server itself: its revision stays.
pub(crate) async fn remember<C: ConnectionTrait>(
    txn: &C,
    row: server::Model,
    info: &Value,
) -> Result<server::Model, ApiError> {
    let mut extra = row.extra.as_object().cloned().unwrap_or_default();
    extra.insert("jobInfo".into(), info.clone());
    let mut edit = server::ActiveModel { id: Set(row.id), ..Default::default() };
    edit.extra = Set(Value::Object(extra));
    Ok(edit.update(txn).await?)
}

async fn register(ctx: Ctx) -> Result<Reply, ApiError> {
    let site_id = ctx.need_int("siteId")?;
    let address = ctx.text("managementAddress").map(bmc_address).transpose()?;
    let mac = ctx.text("bmcMacAddress").map(|m| model::validate::mac("bmcMacAddress", m)).transpose()?;
    let serial = ctx.text("serialNumber").map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned);
    let Some(address) = address else {
        return Err(ApiError::field(
            "managementAddress",
            "is required: the address of the BMC; without it the site cannot reach the server",
        ));
    };
    let login = match (ctx.text("username"), ctx.text("password")) {
        (Some(name), Some(password)) if !name.is_empty() => Some((name.to_owned(), Clear(password.to_owned()))),
        (None | Some(""), None | Some("")) => None,
        (None | Some(""), Some(_)) => return Err(ApiError::field("username", "is required with a password")),
        (Some(_), _) => return Err(ApiError::field("password", "is required with a user name")),
    };
    let txn = ctx.app.db().begin().await?;
    let at = site::Entity::find_by_id(site_id).one(&txn).await?.filter(|s| !s.decommissioned);
    let at = at.ok_or_else(|| ApiError::field("siteId", format!("there is no site {site_id}")))?;
    refuse_taken(&txn, &address, None).await?;
    let default = default_login(&txn, site_id, serial.as_deref(), mac.as_deref()).await?;
    let profile_id = ctx
        .int("registrationProfileId")
        .or_else(|| default.as_ref().and_then(|d| d.extra["defaultRegistrationProfileId"].as_i64()))
        .or_else(|| at.config["serverPolicy"]["defaultServerRegistrationProfileId"].as_i64());
    profile(&txn, profile_id).await?;
    let mut extra = json!({});
    let mut rack = None;
    let login = match (login, default) {
        (Some((name, password)), _) => {
            let sealed = ctx.app.sealer().seal(&password).map_err(ApiError::internal)?;
            Some((name, sealed.0))
        }
        (None, Some(d)) => {
            for (from, to) in [
                ("defaultRackPositionLowerUnit", "rackPositionLowerUnit"),
                ("defaultRackPositionUpperUnit", "rackPositionUpperUnit"),
                ("defaultInventoryId", "inventoryId"),
            ] {
                extra[to] = d.extra[from].clone();
            }
            rack = d.extra["defaultRackName"].as_str().map(str::to_owned);
            Some((d.username, d.password))
        }
        (None, None) => None,
    };
    let now = time::now();
    let mut row = server::new();
    row.site_id = Set(site_id);
    row.serial = Set(serial);
    row.uuid = Set(ctx.text("serverUUID").map(str::to_lowercase));
    row.vendor = Set(ctx.text("vendor").and_then(vendor_word).map(str::to_owned));
    row.model = Set(ctx.text("model").map(str::to_owned));
    row.bmc_address = Set(Some(address.clone()));
    row.bmc_mac = Set(mac);
    let ready = login.is_some();
    let (name, password) = login.unzip();
    row.bmc_username = Set(name);
    row.bmc_password = Set(password);
    row.status = Set(ServerStatus::Registering.as_str().into());
    row.status_reason = Set((!ready).then(|| WAITS_FOR_LOGIN.to_owned()));
    row.power = Set("unknown".into());
    row.power_at = Set(now);
    row.registration_profile_id = Set(profile_id);
    for count in
        [&mut row.ram_gb, &mut row.processor_count, &mut row.core_count, &mut row.disk_count, &mut row.gpu_count]
    {
        *count = Set(0);
    }
    row.inventory = Set(json!({}));
    row.tags = Set(json!([]));
    row.administration_state = Set("managed".into());
    row.dhcp_status = Set("allow_requests".into());
    row.rack = Set(rack);
    row.extra = Set(extra);
    let mut made = row.insert(&txn).await?;
    facts::server(&txn, ctx.app.sealer(), made.id).await?;
    let title = format!("Server {address} is being registered");
    record(&ctx, &txn, "server.register", title, ("server", made.id), servers::brief(&made)).await?;
    let mut info = Value::Null;
    if ready {
        let in_band = wants_in_band(&txn, &made).await?;
        (made, info) = begin(&ctx, &txn, made, in_band).await?;
    }
    txn.commit().await?;
    ctx.app.engine().wake();
    let mut body = json!({
        "serverId": made.id, "revision": made.revision, "serverUUID": made.uuid, "serialNumber": made.serial, "links": [],
    });
    if !info.is_null() {
        body["jobInfo"] = info;
    }
    Ok(Reply::Tagged(body, made.revision))
}

/// Finds out again what a server is. One that is used stays untouched: only its BMC is asked.
async fn again(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    ctx.check_revision(found.revision)?;
    make_way(&ctx, found.id).await?;
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    if found.bmc_username.is_none() || found.bmc_address.is_none() {
        return Err(ApiError::conflict(format!("the server is {WAITS_FOR_LOGIN}")));
    }
    let held = !servers::held(&txn, &[found.id]).await?.is_empty();
    let used = facts::in_use(&found, held);
    let now = ServerStatus::parse(&found.status).unwrap_or(ServerStatus::Unavailable);
    // A registration that goes nowhere may be begun again.
    let next = match now {
        ServerStatus::Used => ServerStatus::UsedRegistering,
        ServerStatus::Registering | ServerStatus::UsedRegistering | ServerStatus::UsedDiagnostics if used => now,
        ServerStatus::Registering => now,
        _ if now.may_become(ServerStatus::Registering, model::server::By::Anyone) && !used => ServerStatus::Registering,
        _ => {
            return Err(ApiError::conflict(format!(
                "a server that is {} cannot be registered again now",
                now.as_str()
            )));
        }
    };
    let after = change(&ctx, &txn, &found, "re_register", |row| {
        row.status = Set(next.as_str().into());
        row.status_reason = Set(None);
    })
    .await?;
    let in_band = !used && wants_in_band(&txn, &after).await?;
    let (after, info) = begin(&ctx, &txn, after, in_band).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    Ok(Reply::Tagged(
        json!({"serverId": after.id, "revision": after.revision, "jobInfo": info, "links": []}),
        after.revision,
    ))
}

/// A new registration takes the place of one that is stuck; one that works is left to it.
async fn make_way(ctx: &Ctx, server_id: Id) -> Result<(), ApiError> {
    use engine::entity::{job, job_group};
    use sea_orm::{PaginatorTrait, QuerySelect};
    let db = &ctx.app.db().read;
    let open: Vec<Id> = job_group::Entity::find()
        .select_only()
        .column(job_group::Column::Id)
        .filter(job_group::Column::ServerId.eq(server_id))
        .filter(job_group::Column::FinishedAt.is_null())
        .into_tuple()
        .all(db)
        .await?;
    let moving = job::Entity::find()
        .filter(job::Column::GroupId.is_in(open.clone()))
        .filter(job::Column::Status.is_in(["running", "thrown_error_retrying"]))
        .count(db)
        .await?;
    if moving > 0 {
        return Err(ApiError::conflict(format!(
            "job group {} still works on this server; wait for its end, or cancel it first",
            open.first().copied().unwrap_or_default()
        )));
    }
    for group_id in open {
        let reason = "the server is registered again".to_owned();
        ctx.app.engine().command(model::job::JobCommand::CancelGroup { group_id, reason }).await?;
    }
    Ok(())
}

/// Servers of a site that wait for a login, and for which there is one now, go on.
pub(crate) async fn resume_waiting(ctx: &Ctx, txn: &DatabaseTransaction, site_id: Id) -> Result<(), ApiError> {
    let waiting = server::Entity::find()
        .filter(server::Column::SiteId.eq(site_id))
        .filter(server::Column::Status.eq(ServerStatus::Registering.as_str()))
        .filter(server::Column::StatusReason.eq(WAITS_FOR_LOGIN))
        .all(txn)
        .await?;
    for row in waiting {
        let Some(login) = default_login(txn, site_id, row.serial.as_deref(), row.bmc_mac.as_deref()).await? else {
            continue;
        };
        let mut edit = row.edit();
        edit.bmc_username = Set(Some(login.username));
        edit.bmc_password = Set(Some(login.password));
        edit.status_reason = Set(None);
        let after = edit.update(txn).await?;
        facts::server(txn, ctx.app.sealer(), after.id).await?;
        let in_band = wants_in_band(txn, &after).await?;
        begin(ctx, txn, after, in_band).await?;
    }
    Ok(())
}

/// Another login for the BMC, as we are to use it. The BMC's own accounts are left alone.
async fn login(ctx: Ctx) -> Result<Reply, ApiError> {
    ctx.refuse_others(&["username", "password", "host", "updateOnServer"])?;
    if ctx.flag("updateOnServer") == Some(true) {
        return Err(ApiError::field(
            "updateOnServer",
            "changing the account on the BMC itself is not offered yet; change it there, then send it here with false",
        ));
    }
    let address = ctx.text("host").map(bmc_address).transpose()?;
    let sealed = ctx
        .text("password")
        .map(|p| ctx.app.sealer().seal(&Clear(p.to_owned())))
        .transpose()
        .map_err(ApiError::internal)?;
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    if let Some(address) = &address {
        refuse_taken(&txn, address, Some(found.id)).await?;
    }
    let waited = found.status_reason.as_deref() == Some(WAITS_FOR_LOGIN);
    let mut after = change(&ctx, &txn, &found, "update_login", |row| {
        if let Some(name) = ctx.text("username") {
            row.bmc_username = Set(Some(name.to_owned()));
        }
        if let Some(sealed) = sealed {
            row.bmc_password = Set(Some(sealed.0));
        }
        if let Some(address) = address {
            if found.bmc_address.as_ref() != Some(&address) && !servers::holds_data(&found) {
                row.tls_fingerprint = Set(None);
                row.extra = Set(servers::take_shown(&found.extra).1);
            }
            row.bmc_address = Set(Some(address));
        }
        if waited {
            row.status_reason = Set(None);
        }
    })
    .await?;
    if waited && after.bmc_username.is_some() && after.bmc_password.is_some() {
        let in_band = wants_in_band(&txn, &after).await?;
        after = begin(&ctx, &txn, after, in_band).await?.0;
    }
    let body = opened(&ctx, &after)?;
    txn.commit().await?;
    ctx.app.engine().wake();
    Ok(Reply::Tagged(body, after.revision))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_bmcs() {
        for (given, kept) in [
            (" 10.0.0.7 ", "10.0.0.7"),
            ("10.0.0.7:443", "10.0.0.7"),
            ("127.32.0.1:8443", "127.32.0.1:8443"),
            ("fd00::1", "[fd00::1]"),
            ("[fd00::1]:8443", "[fd00::1]:8443"),
            ("BMC-1.example", "bmc-1.example"),
        ] {
            assert_eq!(bmc_address(given).unwrap(), kept);
        }
        for bad in ["", "a b", "10.0.0.7:0", "10.0.0.7:99999", "http://x"] {
            assert!(bmc_address(bad).is_err(), "{bad}");
        }
    }
}
