//! Machines that nobody has registered: listed, told of once a day, and, when it is a BMC that asks for an address, registered.

use api::{
    App,
    kinds::server_unknown::{entered, is_bmc},
};
use chrono::{Duration, Utc};
use model::{Id, validate};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter,
};
use store::{
    entity::{event, network_device, server, server_interface, unknown_machine as machines},
    list::Revisioned,
    time,
};

use super::{RecordError, server_event, site_event, site_name};

/// Unknown machines of a site that are kept; a network full of them must not fill the database.
const MOST: u64 = 10_000;

/// What a site saw.
pub(super) struct Seen {
    pub mac: String,
    pub address: Option<String>,
    pub circuit_id: Option<String>,
    pub vendor_class: Option<String>,
}

/// Whether a site's event of that title is younger than a day: the same machine asks again and again.
async fn told_lately<C: ConnectionTrait>(db: &C, site_id: Id, title: &str) -> Result<bool, RecordError> {
    let found = event::Entity::find()
        .filter(event::Column::SiteId.eq(site_id))
        .filter(event::Column::Title.eq(title))
        .filter(event::Column::CreatedAt.gt(time::format(Utc::now() - Duration::days(1))))
        .count(db)
        .await?;
    Ok(found > 0)
}

pub(super) async fn record(app: &App, site_id: Id, seen: Seen, at: &str) -> Result<(), RecordError> {
    let Ok(mac) = validate::mac("mac", &seen.mac) else { return Ok(()) };
    let short = |text: Option<String>| text.map(|t| t.chars().take(200).collect::<String>());
    let (address, circuit, class) = (short(seen.address), short(seen.circuit_id), short(seen.vendor_class));
    let txn = app.db().begin().await?;
    let ours = server_interface::Entity::find().filter(server_interface::Column::Mac.eq(&mac)).count(&txn).await?
        + server::Entity::find().filter(server::Column::BmcMac.eq(&mac)).count(&txn).await?
        + network_device::Entity::find().filter(network_device::Column::Mac.eq(&mac)).count(&txn).await?;
    let before = machines::Entity::find()
        .filter(machines::Column::SiteId.eq(site_id))
        .filter(machines::Column::Mac.eq(&mac))
        .one(&txn)
        .await?;
    if ours > 0 {
        return Ok(());
    }
    let bmc = class.as_deref().is_some_and(is_bmc);
    let mut entered_as = None;
    if let Some(address) = address.as_deref().filter(|_| bmc) {
        match entered(app, &txn, site_id, &mac, address, class.as_deref().unwrap_or_default()).await {
            Ok(made) => entered_as = made,
            // Nothing is half done: the machine stays in the list, and a person registers it.
            Err(e) => {
                tracing::warn!(site_id, %mac, address, error = %e.message, "a BMC could not be registered by itself");
            }
        }
    }
    let listed = match before {
        Some(row) => {
            let mut edit = row.edit();
            edit.last_seen_at = Set(at.to_owned());
            if address.is_some() {
                edit.address = Set(address.clone());
            }
            if circuit.is_some() {
                edit.circuit_id = Set(circuit.clone());
            }
            if class.is_some() {
                edit.vendor_class = Set(class.clone());
                edit.kind = Set(if bmc { "bmc" } else { "host" }.into());
            }
            if let Some(server) = &entered_as {
                edit.server_id = Set(Some(server.id));
            }
            edit.update(&txn).await?;
            true
        }
        None => {
            let many = machines::Entity::find().filter(machines::Column::SiteId.eq(site_id)).count(&txn).await? >= MOST;
            if !many {
                let mut row = machines::new();
                row.site_id = Set(site_id);
                row.mac = Set(mac.clone());
                row.address = Set(address.clone());
                row.circuit_id = Set(circuit.clone());
                row.vendor_class = Set(class.clone());
                row.kind = Set(if bmc { "bmc" } else { "host" }.into());
                row.last_seen_at = Set(at.to_owned());
                row.server_id = Set(entered_as.as_ref().map(|s| s.id));
                row.insert(&txn).await?;
            }
            !many
        }
    };
    let site = site_name(&txn, site_id).await?;
    if let Some(server) = entered_as {
        let title = format!("BMC {mac} asked for an address at {site} and is being registered");
        let message = server.status_reason.clone().unwrap_or_default();
        server_event(&txn, &server, "server.zero_touch", "info", title, message, false).await?;
        txn.commit().await?;
        app.engine().wake();
        return Ok(());
    }
    let title = format!("Unknown machine {mac} asks for an address at {site}");
    if listed && !told_lately(&txn, site_id, &title).await? {
        let mut message = match address {
            Some(a) => format!("It was given {a}."),
            None => "It was given none.".to_owned(),
        };
        if let Some(c) = circuit {
            message.push_str(&format!(" It is behind port {c} of the relay."));
        }
        message.push_str(" It is kept in quarantine: it boots its own disk and nothing else. Register it as a server if it is one of yours.");
        site_event(&txn, site_id, None, "machine.unknown", "info", title, message).await?;
    }
    txn.commit().await?;
    Ok(())
}
