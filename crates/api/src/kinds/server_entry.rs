//! How a server enters: its row, its login, and the jobs that find out what it is. Shared by registration by hand, in bulk, by scan, and
//! by a BMC that asks for an address.

use std::net::IpAddr;

use crypto::Sealer;
use engine::{Created, NewGroup};
use model::{
    Id,
    firmware::{AfterPowerLoss, BmcAction, ServerBmc},
    job::{JobCommand, JobRefs, JobSpec, RetryPolicy, Target},
    order::{Order, ServerDiscover, ServerInventory, ServerRotateCredentials},
    secret::{Clear, Sealed},
    server::ServerStatus,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect,
};
use serde_json::{Value, json};
use store::{
    entity::{server, server_default_credentials as defaults, server_registration_profile as profiles, site},
    event::NewEvent,
    list::{Revisioned, cas},
    time,
};

use crate::{App, error::ApiError, facts, kinds::server_wire::vendor_word};

/// What a server without a login waits for.
pub const WAITS_FOR_LOGIN: &str = "waiting for credentials: give the BMC's user name and password, or default credentials of its site that match its serial number, MAC address or vendor";

/// What a server waits for whose BMC refused the login that we have, and every other one that its site has ready.
pub const WAITS_FOR_OTHER_LOGIN: &str = "waiting for credentials: its BMC refuses the login that is known; give its user name and password, or default credentials of its site that match its serial number, MAC address or vendor";

/// Whether a server waits for a login.
pub fn waits(reason: Option<&str>) -> bool {
    reason.is_some_and(|r| r == WAITS_FOR_LOGIN || r == WAITS_FOR_OTHER_LOGIN)
}

/// The job function of the Global Controller that ends a registration.
pub const FINISH: &str = "server.finish_registration";

/// Where a BMC is: an address or a host name, with a port where it is not the usual one. `ipmi://` names the protocol of BMCs that do not
/// speak Redfish.
pub fn bmc_address(text: &str) -> Result<String, ApiError> {
    let text = text.trim().to_ascii_lowercase();
    let (scheme, usual, rest) = match text.split_once("://") {
        Some(("ipmi", rest)) => ("ipmi://", 623, rest),
        Some(("https" | "redfish", rest)) => ("", 443, rest.trim_end_matches('/')),
        _ => ("", 443, text.as_str()),
    };
    let bad = || {
        ApiError::field(
            "managementAddress",
            format!(
                "{text:?} is neither an IP address nor a host name, with or without :PORT; ipmi:// before it for a BMC that speaks IPMI alone"
            ),
        )
    };
    if let Ok(ip) = rest.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(if ip.is_ipv6() { format!("{scheme}[{ip}]") } else { format!("{scheme}{ip}") });
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse::<u16>().ok().filter(|p| *p > 0).ok_or_else(bad)?)),
        None => (rest, None),
    };
    let host = match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(ip) if ip.is_ipv6() => format!("[{ip}]"),
        Ok(ip) => ip.to_string(),
        Err(_) => model::validate::hostname("managementAddress", host).map_err(|_| bad())?,
    };
    Ok(match port {
        Some(port) if port != usual => format!("{scheme}{host}:{port}"),
        _ => format!("{scheme}{host}"),
    })
}

/// Two servers cannot have one BMC, by whichever protocol.
pub async fn refuse_taken<C: ConnectionTrait>(db: &C, address: &str, but: Option<Id>) -> Result<(), ApiError> {
    let other_way = match address.strip_prefix("ipmi://") {
        Some(rest) => rest.to_owned(),
        None => format!("ipmi://{address}"),
    };
    let same = server::Column::BmcAddress.is_in([address.to_owned(), other_way]);
    let found = server::Entity::find().filter(same).all(db).await?;
    match found.into_iter().find(|s| Some(s.id) != but) {
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

/// What default credentials are chosen by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traits<'a> {
    /// Serial number.
    pub serial: Option<&'a str>,
    /// MAC address of the BMC.
    pub mac: Option<&'a str>,
    /// Manufacturer, in its own words or the contract's.
    pub vendor: Option<&'a str>,
    /// Model.
    pub model: Option<&'a str>,
}

impl<'a> Traits<'a> {
    /// Of a server.
    pub fn of(row: &'a server::Model) -> Self {
        Self {
            serial: row.serial.as_deref(),
            mac: row.bmc_mac.as_deref(),
            vendor: row.vendor.as_deref(),
            model: row.model.as_deref(),
        }
    }
}

/// The credentials for a machine: by serial number, else by MAC address, else by vendor and model, else by vendor, else for all of the site.
pub fn pick<'a>(all: &'a [defaults::Model], of: &Traits<'_>) -> Option<&'a defaults::Model> {
    let same =
        |a: &Option<String>, b: Option<&str>| a.as_deref().zip(b).is_some_and(|(a, b)| a.eq_ignore_ascii_case(b));
    let vendor = of.vendor.map(|v| vendor_word(v).unwrap_or(v));
    let wide = |d: &&defaults::Model| d.serial.is_none() && d.mac.is_none();
    all.iter()
        .find(|d| same(&d.serial, of.serial))
        .or_else(|| all.iter().find(|d| same(&d.mac, of.mac)))
        .or_else(|| all.iter().filter(wide).find(|d| same(&d.vendor, vendor) && same(&d.model, of.model)))
        .or_else(|| all.iter().filter(wide).find(|d| same(&d.vendor, vendor) && d.model.is_none()))
        .or_else(|| all.iter().filter(wide).find(|d| d.vendor.is_none()))
}

/// The login that a site has ready for a machine.
pub async fn default_login<C: ConnectionTrait>(
    db: &C,
    site_id: Id,
    of: &Traits<'_>,
) -> Result<Option<defaults::Model>, ApiError> {
    let all = defaults::Entity::find()
        .filter(defaults::Column::SiteId.eq(site_id))
        .order_by_asc(defaults::Column::Id)
        .all(db)
        .await?;
    Ok(pick(&all, of).cloned())
}

/// What a registration does beside reading the BMC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Boots the discovery image.
    pub in_band: bool,
    /// Gives the BMC a password of its own.
    pub rotate: bool,
    /// Says what the server shall do when power comes back after a loss.
    pub after_power_loss: Option<AfterPowerLoss>,
}

/// What a server's registration does: what its profile says, unless somebody uses the machine: then its BMC is read and nothing else.
pub async fn extent<C: ConnectionTrait>(db: &C, row: &server::Model, held: bool) -> Result<Extent, ApiError> {
    if facts::in_use(row, held) {
        return Ok(Extent::default());
    }
    let profile = match row.registration_profile_id {
        Some(id) => profiles::Entity::find_by_id(id).one(db).await?,
        None => None,
    };
    let settings = profile.map_or(Value::Null, |p| p.settings);
    let ipmi = row.bmc_address.as_ref().is_some_and(|a| a.starts_with("ipmi://"));
    Ok(Extent {
        in_band: settings["alwaysDiscoverInterfacesWithBDK"].as_bool() != Some(false),
        rotate: settings["registerCredentials"] == "random" && !ipmi,
        after_power_loss: serde_json::from_value(settings["afterPowerLoss"].clone()).ok(),
    })
}

/// Makes the jobs that find out what a server is.
pub async fn start(
    app: &App,
    txn: &DatabaseTransaction,
    row: &server::Model,
    extent: &Extent,
) -> Result<Created, ApiError> {
    let name = facts::server_name(row);
    let refs = JobRefs { server_id: Some(row.id), ..Default::default() };
    let job = |key: &str, function: &str, title: String, site_id, payload, timeout_seconds, after: &str| JobSpec {
        key: key.to_owned(),
        function: function.to_owned(),
        title,
        site_id,
        target: Target { kind: "server".into(), id: row.id, generation: 0 },
        payload,
        depends_on: Some(after.to_owned()).filter(|k| !k.is_empty()).into_iter().collect(),
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
    let title = format!("Read what {name} is from its BMC");
    let mut jobs = vec![job("inventory", ServerInventory::NAME, title, site, inventory, 300, "")];
    let mut last = "inventory";
    if extent.in_band {
        let payload = serde_json::to_value(ServerDiscover { server_id: row.id })?;
        let title = format!("Boot {name} into discovery");
        jobs.push(job("discover", ServerDiscover::NAME, title, site, payload, 1800, last));
        last = "discover";
    }
    if let Some(wanted) = extent.after_power_loss {
        let payload = ServerBmc { server_id: row.id, action: BmcAction::SetAfterPowerLoss { wanted } };
        let title = format!("Tell {name} what to do after a loss of power");
        jobs.push(job("power-policy", ServerBmc::NAME, title, site, serde_json::to_value(payload)?, 180, last));
        last = "power-policy";
    }
    if extent.rotate {
        // Last of what the site does: the jobs before it log in with the password that the site knows.
        jobs.push(job(
            "rotate",
            ServerRotateCredentials::NAME,
            format!("Give the BMC of {name} a password of its own"),
            site,
            serde_json::to_value(next_password(app, txn, row).await?)?,
            300,
            last,
        ));
        last = "rotate";
    }
    let title = format!("Take {name} into service");
    jobs.push(job("finish", FINISH, title, None, json!({"server_id": row.id}), 60, last));
    let group = NewGroup {
        kind: "server_register".into(),
        description: format!("Register server {name}"),
        params: json!({"serverId": row.id}),
        server_id: Some(row.id),
        site_id: site,
        ..Default::default()
    };
    Ok(app.engine().create_group(txn, group, jobs).await?)
}

/// A new password for a BMC: kept beside the one in use until the BMC has taken it. One that is kept already may be in force, if nobody
/// heard of its end: it is tried again rather than forgotten.
pub async fn next_password<C: ConnectionTrait>(
    app: &App,
    txn: &C,
    row: &server::Model,
) -> Result<ServerRotateCredentials, ApiError> {
    let clear = match &row.bmc_next_password {
        Some(sealed) => app.sealer().open(&Sealed(sealed.clone())).map_err(ApiError::internal)?,
        None => {
            let clear = Clear(crypto::password::generate());
            let sealed = app.sealer().seal(&clear).map_err(ApiError::internal)?;
            let edit =
                server::ActiveModel { id: Set(row.id), bmc_next_password: Set(Some(sealed.0)), ..Default::default() };
            edit.update(txn).await?;
            clear
        }
    };
    let password = app.sealer().for_site(row.site_id).seal(&clear).map_err(ApiError::internal)?;
    Ok(ServerRotateCredentials { server_id: row.id, password })
}

/// `jobInfo` of an answer, also remembered with the server.
fn job_info(created: &Created) -> Value {
    json!({"jobGroupId": created.group_id, "jobId": created.job_ids.get("inventory")})
}

/// Starts a registration and remembers its jobs.
pub async fn begin(
    app: &App,
    txn: &DatabaseTransaction,
    row: server::Model,
    extent: &Extent,
) -> Result<(server::Model, Value), ApiError> {
    let info = job_info(&start(app, txn, &row, extent).await?);
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

/// A server that is to enter.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// Where it stands.
    pub site_id: Id,
    /// Where its BMC is; absent for a server that has none that we may use.
    pub address: Option<String>,
    /// MAC address of the BMC.
    pub mac: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// UUID.
    pub uuid: Option<String>,
    /// The contract's word for its manufacturer.
    pub vendor: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Login of the BMC.
    pub login: Option<(String, Clear)>,
    /// Registration profile.
    pub profile_id: Option<Id>,
    /// Rack.
    pub rack: Option<String>,
    /// Certificate that was met already.
    pub tls_fingerprint: Option<String>,
    /// In production outside of this platform: read, and never touched.
    pub hands_off: bool,
    /// Notes.
    pub extra: Value,
}

/// Writes the row and starts the registration, or has it wait for a login. The caller records the event.
pub async fn enter(app: &App, txn: &DatabaseTransaction, entry: Entry) -> Result<(server::Model, Value), ApiError> {
    let at = site::Entity::find_by_id(entry.site_id).one(txn).await?.filter(|s| !s.decommissioned);
    let at = at.ok_or_else(|| ApiError::field("siteId", format!("there is no site {}", entry.site_id)))?;
    if let Some(address) = &entry.address {
        refuse_taken(txn, address, None).await?;
    }
    let traits = Traits {
        serial: entry.serial.as_deref(),
        mac: entry.mac.as_deref(),
        vendor: entry.vendor.as_deref(),
        model: entry.model.as_deref(),
    };
    let default = default_login(txn, entry.site_id, &traits).await?;
    let profile_id = entry
        .profile_id
        .or_else(|| default.as_ref().and_then(|d| d.extra["defaultRegistrationProfileId"].as_i64()))
        .or_else(|| at.config["serverPolicy"]["defaultServerRegistrationProfileId"].as_i64());
    profile(txn, profile_id).await?;
    let mut extra = if entry.extra.is_object() { entry.extra } else { json!({}) };
    let mut rack = None;
    let login = match (entry.login, default) {
        (Some((name, password)), _) => {
            let sealed = app.sealer().seal(&password).map_err(ApiError::internal)?;
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
    let status = if entry.hands_off { ServerStatus::UsedRegistering } else { ServerStatus::Registering };
    let ready = login.is_some() && entry.address.is_some();
    let mut row = blank(entry.site_id);
    row.serial = Set(entry.serial);
    row.uuid = Set(entry.uuid);
    row.vendor = Set(entry.vendor);
    row.model = Set(entry.model);
    row.bmc_address = Set(entry.address);
    row.bmc_mac = Set(entry.mac);
    row.tls_fingerprint = Set(entry.tls_fingerprint);
    let (name, password) = login.unzip();
    row.bmc_username = Set(name);
    row.bmc_password = Set(password);
    row.status = Set(status.as_str().into());
    row.status_reason = Set((!ready).then(|| WAITS_FOR_LOGIN.to_owned()));
    row.registration_profile_id = Set(profile_id);
    row.administration_state = Set(if entry.hands_off { "unmanaged" } else { "managed" }.into());
    row.rack = Set(entry.rack.or(rack));
    row.extra = Set(extra);
    let made = row.insert(txn).await?;
    facts::server(txn, app.sealer(), made.id).await?;
    if !ready {
        return Ok((made, Value::Null));
    }
    let extent = extent(txn, &made, false).await?;
    begin(app, txn, made, &extent).await
}

/// A row of which nothing is known.
pub(crate) fn blank(site_id: Id) -> server::ActiveModel {
    let mut row = server::new();
    row.site_id = Set(site_id);
    row.power = Set("unknown".into());
    row.power_at = Set(time::now());
    for count in
        [&mut row.ram_gb, &mut row.processor_count, &mut row.core_count, &mut row.disk_count, &mut row.gpu_count]
    {
        *count = Set(0);
    }
    row.inventory = Set(json!({}));
    row.tags = Set(json!([]));
    row.dhcp_status = Set("allow_requests".into());
    row.extra = Set(json!({}));
    row
}

/// Servers of a site that wait for a login, and for which there is one now, go on.
pub async fn resume_waiting(app: &App, txn: &DatabaseTransaction, site_id: Id) -> Result<(), ApiError> {
    let waiting = server::Entity::find()
        .filter(server::Column::SiteId.eq(site_id))
        .filter(server::Column::Status.is_in([
            ServerStatus::Registering.as_str(),
            ServerStatus::UsedRegistering.as_str(),
            ServerStatus::RegistrationIncomplete.as_str(),
        ]))
        .filter(server::Column::StatusReason.is_in([WAITS_FOR_LOGIN, WAITS_FOR_OTHER_LOGIN]))
        .filter(server::Column::BmcAddress.is_not_null())
        .all(txn)
        .await?;
    if waiting.is_empty() {
        return Ok(());
    }
    let all = defaults::Entity::find()
        .filter(defaults::Column::SiteId.eq(site_id))
        .order_by_asc(defaults::Column::Id)
        .all(txn)
        .await?;
    for row in waiting {
        if let Some(login) = pick(&all, &Traits::of(&row)).filter(|d| !is_login(app.sealer(), &row, d)) {
            take_login(app, txn, &row, login).await?;
        }
    }
    Ok(())
}

/// Whether a server's login is that one already: it would be refused again.
pub fn is_login(sealer: &Sealer, row: &server::Model, login: &defaults::Model) -> bool {
    let clear = |sealed: &str| sealer.open(&Sealed(sealed.to_owned())).ok().map(|c| c.0);
    row.bmc_username.as_ref() == Some(&login.username)
        && row.bmc_password.as_deref().and_then(clear) == clear(&login.password)
}

/// A server is given a login of its site, and is registered with it.
pub async fn take_login(
    app: &App,
    txn: &DatabaseTransaction,
    row: &server::Model,
    login: &defaults::Model,
) -> Result<server::Model, ApiError> {
    let mut edit = row.edit();
    edit.bmc_username = Set(Some(login.username.clone()));
    edit.bmc_password = Set(Some(login.password.clone()));
    // What was to come after the old one is nothing that this BMC knows.
    edit.bmc_next_password = Set(None);
    edit.status_reason = Set(None);
    if row.status == ServerStatus::RegistrationIncomplete.as_str() {
        edit.status = Set(ServerStatus::Registering.as_str().into());
    }
    let after = cas(txn, row, edit).await?.ok_or_else(|| ApiError::stale(row.revision + 1))?;
    facts::server(txn, app.sealer(), after.id).await?;
    let extent = extent(txn, &after, false).await?;
    Ok(begin(app, txn, after, &extent).await?.0)
}

/// What BMC drivers say of a login that was refused; see `BmcError::Unauthorized`.
const REFUSED: &str = "refuses the login";

/// A registration whose BMC refused the login: somebody reset the BMC, or its password was mistyped. The login that the site has ready is
/// tried, once; with none that differs the server waits for one. Whether anything was done.
pub async fn refused(app: &App, server_id: Id, group_id: Id, error: &str) -> Result<bool, ApiError> {
    if !error.contains(REFUSED) {
        return Ok(false);
    }
    let txn = app.db().begin().await?;
    let Some(found) = server::Entity::find_by_id(server_id).lock_exclusive().one(&txn).await? else { return Ok(false) };
    let registering = [ServerStatus::Registering.as_str(), ServerStatus::RegistrationIncomplete.as_str()]
        .contains(&found.status.as_str());
    if !registering || found.extra["jobInfo"]["jobGroupId"].as_i64() != Some(group_id) {
        return Ok(false);
    }
    let login = default_login(&txn, found.site_id, &Traits::of(&found)).await?;
    let name = facts::server_name(&found);
    let (title, message) = match login.filter(|d| !is_login(app.sealer(), &found, d)) {
        Some(login) => {
            take_login(app, &txn, &found, &login).await?;
            (
                format!("BMC of {name} refuses its login: the site's default credentials are tried"),
                format!("User {}.", login.username),
            )
        }
        None => {
            let mut edit = found.edit();
            edit.status = Set(ServerStatus::RegistrationIncomplete.as_str().into());
            edit.status_reason = Set(Some(WAITS_FOR_OTHER_LOGIN.into()));
            let mut extra = found.extra.clone();
            extra["jobInfo"] = Value::Null;
            edit.extra = Set(extra);
            cas(&txn, &found, edit).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
            (format!("Registration of server {name} waits for credentials"), error.to_owned())
        }
    };
    let event = NewEvent {
        kind: "server.login_refused".into(),
        severity: "warning".into(),
        title,
        message,
        object: Some(("server".into(), server_id)),
        server_id: Some(server_id),
        site_id: Some(found.site_id),
        context: json!({}),
        ..Default::default()
    };
    store::event::append(&txn, event).await?;
    txn.commit().await?;
    // What was to come after the inventory has nothing to go on.
    let reason = "the BMC refuses the login".to_owned();
    app.engine().command(JobCommand::CancelGroup { group_id, reason }).await?;
    app.engine().wake();
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_login_is_taken() {
        let row = |id: Id, serial: &str, mac: &str, vendor: &str, model: &str| {
            let text = |t: &str| (!t.is_empty()).then(|| t.to_owned());
            defaults::Model {
                id,
                revision: 1,
                created_at: String::new(),
                updated_at: String::new(),
                site_id: 1,
                serial: text(serial),
                mac: text(mac),
                vendor: text(vendor),
                model: text(model),
                username: String::new(),
                password: String::new(),
                extra: json!({}),
            }
        };
        let all = [
            row(1, "", "", "", ""),
            row(2, "", "", "Dell", ""),
            row(3, "", "", "Dell", "PowerEdge R760"),
            row(4, "", "52:54:00:00:00:01", "", ""),
            row(5, "ABC", "", "", ""),
            row(6, "X", "52:54:00:00:00:02", "HPE", ""),
        ];
        let chosen = |serial, mac, vendor, model| pick(&all, &Traits { serial, mac, vendor, model }).map(|d| d.id);
        let (mac, dell, model) = (Some("52:54:00:00:00:01"), Some("Dell Inc."), Some("poweredge r760"));
        assert_eq!(chosen(Some("abc"), mac, dell, model), Some(5));
        assert_eq!(chosen(Some("other"), mac, dell, model), Some(4));
        assert_eq!(chosen(None, None, dell, model), Some(3));
        assert_eq!(chosen(None, None, dell, Some("R660")), Some(2));
        assert_eq!(chosen(None, None, Some("HPE"), None), Some(1), "those of one machine are for no other");
        assert_eq!(chosen(None, Some("52:54:00:00:00:02"), None, None), Some(6));
        assert_eq!(pick(&all[1..], &Traits::default()).map(|d| d.id), None);
    }

    #[test]
    fn addresses_of_bmcs() {
        for (given, kept) in [
            (" 10.0.0.7 ", "10.0.0.7"),
            ("10.0.0.7:443", "10.0.0.7"),
            ("https://10.0.0.7/", "10.0.0.7"),
            ("127.32.0.1:8443", "127.32.0.1:8443"),
            ("fd00::1", "[fd00::1]"),
            ("[fd00::1]:8443", "[fd00::1]:8443"),
            ("BMC-1.example", "bmc-1.example"),
            ("ipmi://10.0.0.7", "ipmi://10.0.0.7"),
            ("IPMI://10.0.0.7:623", "ipmi://10.0.0.7"),
            ("ipmi://10.0.0.7:6230", "ipmi://10.0.0.7:6230"),
        ] {
            assert_eq!(bmc_address(given).unwrap(), kept);
        }
        for bad in ["", "a b", "10.0.0.7:0", "10.0.0.7:99999", "http://x", "ftp://10.0.0.7", "ipmi://"] {
            assert!(bmc_address(bad).is_err(), "{bad}");
        }
    }
}
