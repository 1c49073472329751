//! What each site is told to know: made from rows, in the transaction of the change that they follow from.
//!
//! A fact that has not changed makes no new generation. A sealed password never comes out twice the same, so the old ciphertext is kept
//! for as long as it holds the same secret.

use std::{
    collections::{BTreeMap, HashSet},
    net::Ipv4Addr,
};

use crypto::Sealer;
use ipnet::Ipv4Net;
use model::{
    Id,
    bmc::BmcEndpoint,
    secret::{Clear, Sealed},
    server::ServerStatus,
    snapshot::{DhcpPool, Fact, SiteNetworkDevice, SiteServer, SiteSettings},
    storage::{BlockProtocol, Chap, SanBoot, StorageDriver, StorageTarget, initiator_user},
    switch::SwitchEndpoint,
    template::ImageRef,
};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::Value;
use store::{
    entity::{
        network_device as devices, server as servers, server_instance, server_interface, site,
        site_snapshot_item as item, storage as storages, subnet,
    },
    snapshot,
};

use crate::{error::ApiError, planning::reserve};

/// Seconds of a lease where the subnet does not say.
const LEASE_SECONDS: u32 = 600;

/// Why a fact could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// The database.
    #[error("database: {0}")]
    Db(#[from] DbErr),
    /// A stored secret cannot be opened.
    #[error("the password of {object} cannot be opened ({cause}); enter it again")]
    Secret {
        /// Kind and id.
        object: String,
        /// Why.
        cause: crypto::CryptoError,
    },
    /// A fact that is no JSON: a mistake of this program.
    #[error("a fact cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

impl From<FactsError> for ApiError {
    fn from(e: FactsError) -> Self {
        match e {
            FactsError::Db(e) => e.into(),
            secret @ FactsError::Secret { .. } => Self::conflict(secret.to_string()),
            other @ FactsError::Json(_) => Self::internal(other),
        }
    }
}

/// Whether a server is out of bounds for everything but its owner's own deploys: an instance holds it, or its status says that somebody's
/// data is on it.
pub fn in_use(server: &servers::Model, held: bool) -> bool {
    let status = ServerStatus::parse(&server.status);
    held || status.is_some_and(ServerStatus::holds_tenant_data) || hands_off(server)
}

/// Whether a server is in production outside of this platform: it is read, and never touched.
pub fn hands_off(server: &servers::Model) -> bool {
    server.administration_state != "managed"
}

/// A server's name for people: its serial number, or where its BMC is.
pub fn server_name(server: &servers::Model) -> String {
    let name = server.serial.clone().or_else(|| server.bmc_address.clone());
    name.unwrap_or_else(|| format!("server {}", server.id))
}

/// Tells a site what a server is now; a server that is gone, or was taken out of service, is forgotten. `sealer` is the one at rest.
pub async fn server<C: ConnectionTrait>(txn: &C, sealer: &Sealer, server_id: Id) -> Result<(), FactsError> {
    let Some(row) = servers::Entity::find_by_id(server_id).one(txn).await? else { return Ok(()) };
    let key = format!("server/{server_id}");
    if row.status == ServerStatus::Decommissioned.as_str() {
        return forget(txn, row.site_id, &key).await;
    }
    let macs = server_interface::Entity::find()
        .filter(server_interface::Column::ServerId.eq(server_id))
        .order_by_asc(server_interface::Column::Position)
        .all(txn)
        .await?;
    let holder = server_instance::Entity::find()
        .select_only()
        .column(server_instance::Column::Id)
        .filter(server_instance::Column::ServerId.eq(server_id))
        .into_tuple::<i64>()
        .one(txn)
        .await?;
    let bmc = match (&row.bmc_address, &row.bmc_username, &row.bmc_password) {
        (Some(address), Some(username), Some(password)) => Some(BmcEndpoint {
            address: address.clone(),
            username: username.clone(),
            password: reseal(txn, sealer, row.site_id, &key, "/bmc/password", password).await?,
            tls_fingerprint: row.tls_fingerprint.clone(),
        }),
        _ => None,
    };
    let san = match reserve::boot_volume(txn, server_id).await? {
        Some((volume, Some(secret))) => {
            let secret = reseal(txn, sealer, row.site_id, &key, "/san/chap/secret", &secret).await?;
            let username = holder.map(initiator_user).unwrap_or_default();
            Some(SanBoot { chap: Some(Chap { username, secret }), ..volume })
        }
        Some((volume, None)) => Some(volume),
        None => None,
    };
    let fact = SiteServer {
        id: row.id,
        name: server_name(&row),
        bmc,
        macs: macs.into_iter().map(|i| i.mac).collect(),
        in_use: in_use(&row, holder.is_some()),
        instance_id: holder,
        hands_off: hands_off(&row),
        reservations: reserve::reservations(txn, server_id).await?,
        san,
    };
    put(txn, row.site_id, &key, Fact::Server(fact)).await
}

/// A site forgets a server.
pub async fn server_gone<C: ConnectionTrait>(txn: &C, site_id: Id, server_id: Id) -> Result<(), FactsError> {
    forget(txn, site_id, &format!("server/{server_id}")).await
}

/// Tells a site what a switch is now; one that is gone or decommissioned is forgotten.
pub async fn network_device<C: ConnectionTrait>(txn: &C, sealer: &Sealer, id: Id) -> Result<(), FactsError> {
    let Some(row) = devices::Entity::find_by_id(id).one(txn).await? else { return Ok(()) };
    let key = format!("network_device/{id}");
    if row.status == "decommissioned" {
        return forget(txn, row.site_id, &key).await;
    }
    let endpoint = SwitchEndpoint {
        driver: row.driver,
        address: row.address,
        port: row.port.and_then(|p| u16::try_from(p).ok()),
        username: row.username,
        password: reseal(txn, sealer, row.site_id, &key, "/endpoint/password", &row.password).await?,
        tls_fingerprint: row.tls_fingerprint,
    };
    put(txn, row.site_id, &key, Fact::NetworkDevice(SiteNetworkDevice { id, name: row.name, endpoint })).await
}

/// A site forgets a switch.
pub async fn network_device_gone<C: ConnectionTrait>(txn: &C, site_id: Id, id: Id) -> Result<(), FactsError> {
    forget(txn, site_id, &format!("network_device/{id}")).await
}

/// Tells a site that an image should be at hand.
pub async fn image<C: ConnectionTrait>(txn: &C, site_id: Id, image: &ImageRef) -> Result<(), FactsError> {
    put(txn, site_id, &format!("image/{}", image.sha256), Fact::Image(image.clone())).await
}

/// No site needs to keep this image any more.
pub async fn image_gone<C: ConnectionTrait>(txn: &C, sha256: &str) -> Result<(), FactsError> {
    let key = format!("image/{sha256}");
    let known = item::Entity::find().filter(item::Column::ItemKey.eq(&key)).all(txn).await?;
    for site_id in known.into_iter().filter(|i| !i.value.is_null()).map(|i| i.site_id) {
        forget(txn, site_id, &key).await?;
    }
    Ok(())
}

/// Tells a site its own settings.
pub async fn settings<C: ConnectionTrait>(txn: &C, site_id: Id) -> Result<(), FactsError> {
    let Some(row) = site::Entity::find_by_id(site_id).one(txn).await? else { return Ok(()) };
    let words = |name: &str| -> Vec<String> {
        let list = row.config.get(name).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let settings = SiteSettings {
        dns_servers: words("DNSServers").iter().filter_map(|a| a.parse().ok()).collect(),
        ntp_servers: words("NTPServers"),
        power_poll_seconds: None,
        circuits: circuits(&row.config),
        sensor_poll_seconds: None,
    };
    put(txn, site_id, "settings/site", Fact::Settings(settings)).await
}

/// Fixed addresses by circuit id: the site's `serverPolicy.dhcpOption82ToIPMapping`. What is no address is passed over.
pub fn circuits(config: &Value) -> BTreeMap<String, Ipv4Addr> {
    let map = config["serverPolicy"]["dhcpOption82ToIPMapping"].as_object();
    let entries = map.into_iter().flatten();
    entries.filter_map(|(circuit, a)| Some((circuit.trim().to_owned(), a.as_str()?.trim().parse().ok()?))).collect()
}

/// The site that a subnet serves machines of: its tag `dhcp-site`.
pub fn dhcp_site(tags: &Value) -> Option<Id> {
    let tag = tags.get("dhcp-site")?;
    tag.as_i64().or_else(|| tag.as_str().and_then(|s| s.trim().parse().ok()))
}

/// The pool that a subnet makes, or words that say which field is wrong.
pub fn dhcp_pool(subnet: &subnet::Model) -> Result<DhcpPool, ApiError> {
    let net: Ipv4Net = format!("{}/{}", subnet.network_address, subnet.prefix_length)
        .parse()
        .map_err(|_| ApiError::field("tags.dhcp-site", "only an IPv4 subnet gives out addresses by DHCP"))?;
    let note = |name: &str| match subnet.annotations.get(name) {
        Some(Value::String(text)) => Some(text.trim().to_owned()).filter(|t| !t.is_empty()),
        Some(Value::Number(n)) => Some(n.to_string()),
        _ => None,
    };
    let address = |name: &str| {
        let field = format!("annotations.{name}");
        note(name)
            .map(|text| match text.parse() {
                Ok(a) if net.contains(&a) => Ok(a),
                _ => Err(ApiError::field(field, format!("{text:?} is no address of {net}"))),
            })
            .transpose()
    };
    let gateway = subnet.gateway.as_deref().and_then(|g| g.parse().ok());
    let mut usable = net.hosts().filter(|a| Some(*a) != gateway);
    let (lowest, highest) = (usable.next(), net.hosts().next_back().filter(|a| Some(*a) != gateway));
    let highest = highest.or_else(|| net.hosts().rev().nth(1));
    let none = || ApiError::field("prefixLength", format!("{net} has no address to give out"));
    let first = address("dhcp-first")?.or(lowest).ok_or_else(none)?;
    let last = address("dhcp-last")?.or(highest).ok_or_else(none)?;
    if last < first {
        return Err(ApiError::field("annotations.dhcp-last", format!("{last} comes before the first one, {first}")));
    }
    let relays = note("dhcp-relays")
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|a| !a.is_empty())
        .map(|a| {
            a.parse().map_err(|_| ApiError::field("annotations.dhcp-relays", format!("{a:?} is not an IPv4 address")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let lease_seconds = note("dhcp-lease-seconds")
        .map(|text| {
            text.parse::<u32>().ok().filter(|s| (60..=604_800).contains(s)).ok_or_else(|| {
                ApiError::field("annotations.dhcp-lease-seconds", format!("{text:?} is not between 60 and 604800"))
            })
        })
        .transpose()?
        .unwrap_or(LEASE_SECONDS);
    Ok(DhcpPool { id: subnet.id, subnet: net, first, last, gateway, relays, lease_seconds })
}

/// Tells a site all its DHCP pools. Subnets whose notes make no pool are passed over: they were refused when they were written.
pub async fn dhcp_pools<C: ConnectionTrait>(txn: &C, site_id: Id) -> Result<(), FactsError> {
    let subnets = subnet::Entity::find().filter(subnet::Column::IpVersion.eq("ipv4")).all(txn).await?;
    let pools: Vec<DhcpPool> =
        subnets.iter().filter(|s| dhcp_site(&s.tags) == Some(site_id)).filter_map(|s| dhcp_pool(s).ok()).collect();
    let now: HashSet<String> = pools.iter().map(|p| format!("dhcp_pool/{}", p.id)).collect();
    let known = item::Entity::find()
        .filter(item::Column::SiteId.eq(site_id))
        .filter(item::Column::ItemKey.starts_with("dhcp_pool/"))
        .all(txn)
        .await?;
    for gone in known.iter().filter(|i| !i.value.is_null() && !now.contains(&i.item_key)) {
        forget(txn, site_id, &gone.item_key).await?;
    }
    for pool in pools {
        put(txn, site_id, &format!("dhcp_pool/{}", pool.id), Fact::DhcpPool(pool)).await?;
    }
    Ok(())
}

async fn put<C: ConnectionTrait>(txn: &C, site_id: Id, key: &str, fact: Fact) -> Result<(), FactsError> {
    snapshot::put(txn, site_id, key, serde_json::to_value(fact)?).await?;
    Ok(())
}

async fn forget<C: ConnectionTrait>(txn: &C, site_id: Id, key: &str) -> Result<(), FactsError> {
    snapshot::put(txn, site_id, key, Value::Null).await?;
    Ok(())
}

/// The password sealed for the site: as the fact of that key has it already, when it still is the same one.
async fn reseal<C: ConnectionTrait>(
    txn: &C,
    sealer: &Sealer,
    site_id: Id,
    key: &str,
    at: &str,
    stored: &str,
) -> Result<Sealed, FactsError> {
    let secret = |cause| FactsError::Secret { object: key.replace('/', " "), cause };
    let clear: Clear = sealer.open(&Sealed(stored.to_owned())).map_err(secret)?;
    let site = sealer.for_site(site_id);
    let known = item::Entity::find()
        .filter(item::Column::SiteId.eq(site_id))
        .filter(item::Column::ItemKey.eq(key))
        .one(txn)
        .await?;
    let known = known.as_ref().and_then(|i| i.value.pointer(at)).and_then(Value::as_str);
    match known.map(|k| Sealed(k.to_owned())) {
        Some(before) if site.open(&before).is_ok_and(|c| c == clear) => Ok(before),
        _ => site.seal(&clear).map_err(secret),
    }
}

/// Tells a site how to reach a storage.
pub async fn storage<C: ConnectionTrait>(txn: &C, sealer: &Sealer, id: Id) -> Result<(), FactsError> {
    let Some(row) = storages::Entity::find_by_id(id).one(txn).await? else { return Ok(()) };
    let key = format!("storage/{id}");
    let Some(driver) = StorageDriver::parse(&row.driver) else { return forget(txn, row.site_id, &key).await };
    let secret = match &row.password {
        Some(password) => reseal(txn, sealer, row.site_id, &key, "/secret", password).await?,
        None => Sealed(String::new()),
    };
    let private_key = match &row.private_key {
        Some(stored) => Some(reseal(txn, sealer, row.site_id, &key, "/private_key", stored).await?),
        None => None,
    };
    let mut options = row.options.as_object().cloned().unwrap_or_default();
    // Where hosts reach its data is said beside the options.
    for name in ["iscsiHost", "iscsiPort", "alternateSanIPs"] {
        if let Some(value) = row.extra.get(name).filter(|v| !v.is_null()) {
            options.insert(name.to_owned(), value.clone());
        }
    }
    let fact = StorageTarget {
        storage_id: row.id,
        name: row.name,
        driver,
        address: row.address,
        port: row.port.and_then(|p| u16::try_from(p).ok()),
        username: row.username,
        secret,
        private_key,
        tls_fingerprint: row.tls_fingerprint,
        protocol: row.protocol.as_deref().and_then(BlockProtocol::parse),
        options,
    };
    put(txn, row.site_id, &key, Fact::Storage(fact)).await
}

/// A site forgets a storage.
pub async fn storage_gone<C: ConnectionTrait>(txn: &C, site_id: Id, id: Id) -> Result<(), FactsError> {
    forget(txn, site_id, &format!("storage/{id}")).await
}
