//! Machines that nobody has registered: those that boot stay in quarantine and are listed; a BMC that asks for an address becomes a server
//! by itself.

use model::Id;
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use store::entity::{server, site, unknown_machine as machines};

use crate::{
    App,
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{
        list, record,
        server_entry::{Entry, enter},
    },
    routes,
};

routes! {
    "getUnknownMachines" => all,
    "deleteUnknownMachine" => forget,
}

const FIELDS: &[(&str, &str)] =
    &[("macAddress", "mac"), ("firstSeenTimestamp", "created_at"), ("lastSeenTimestamp", "last_seen_at")];

fn wire(m: &machines::Model) -> Value {
    json!({
        "id": m.id, "siteId": m.site_id, "macAddress": m.mac, "address": m.address, "circuitId": m.circuit_id, "vendorClass": m.vendor_class, "kind": m.kind,
        "status": if m.server_id.is_some() { "registered" } else { "quarantined" }, "serverId": m.server_id, "firstSeenTimestamp": m.created_at,
        "lastSeenTimestamp": m.last_seen_at, "links": [],
    })
}

async fn all(ctx: Ctx) -> Result<Reply, ApiError> {
    let search = [machines::Column::Mac, machines::Column::Address, machines::Column::VendorClass];
    let select = machines::Entity::find();
    Ok(Reply::Json(list(&ctx, select, FIELDS, &search, machines::Column::Id, wire).await?))
}

/// Takes a machine off the list; it is there again when it asks again.
async fn forget(ctx: Ctx) -> Result<Reply, ApiError> {
    let id = ctx.id("unknownMachineId")?;
    let txn = ctx.app.db().begin().await?;
    let found = machines::Entity::find_by_id(id).one(&txn).await?;
    let found = found.ok_or_else(|| ApiError::not_found("unknown machine", id))?;
    machines::Entity::delete_by_id(id).exec(&txn).await?;
    let title = format!("Unknown machine {} taken off the list", found.mac);
    record(&ctx, &txn, "machine.forget", title, ("unknown_machine", id), json!({"before": wire(&found)})).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

/// Beginnings and parts of vendor classes (option 60) that BMCs of the usual makers name.
const BMC_CLASSES: &[&str] = &[
    "idrac",
    "cpqrib",
    "ilo",
    "hpe ilo",
    "xcc",
    "lenovo xclarity",
    "imm2",
    "supermicro bmc",
    "smc bmc",
    "megarac",
    "ami bmc",
    "openbmc",
    "cimc",
    "cisco cimc",
    "dgx bmc",
    "nvidia bmc",
    "bmc",
];

/// Whether a client that asks for an address is a BMC, by what it says of itself. A host that boots says `PXEClient` or `HTTPClient`.
pub fn is_bmc(vendor_class: &str) -> bool {
    let class = vendor_class.trim().to_ascii_lowercase();
    if class.is_empty() || class.starts_with("pxeclient") || class.starts_with("httpclient") {
        return false;
    }
    let words = |c: &str, word: &str| {
        c.split(|ch: char| !ch.is_ascii_alphanumeric())
            .any(|w| w == word || w.strip_prefix(word).is_some_and(|r| r.chars().all(|d| d.is_ascii_digit())))
    };
    BMC_CLASSES.iter().any(|known| if known.contains(' ') { class.contains(known) } else { words(&class, known) })
}

/// The maker of a BMC, where what it says of itself tells.
pub fn vendor_of(vendor_class: &str) -> Option<&'static str> {
    let class = vendor_class.to_ascii_lowercase();
    let makers: &[(&[&str], &str)] = &[
        (&["idrac", "dell"], "Dell"),
        (&["cpqrib", "ilo", "hpe"], "HPE"),
        (&["xcc", "xclarity", "lenovo", "imm2"], "Lenovo"),
        (&["supermicro", "smc bmc"], "Supermicro"),
        (&["cimc", "cisco"], "Cisco"),
        (&["dgx", "nvidia"], "NVIDIA"),
    ];
    makers.iter().find(|(words, _)| words.iter().any(|w| class.contains(w))).map(|(_, maker)| *maker)
}

/// A BMC that asked for an address: a server that registers, or that waits for its login. `None` where the site does not want that, or
/// knows it already.
pub async fn entered(
    app: &App,
    txn: &DatabaseTransaction,
    site_id: Id,
    mac: &str,
    address: &str,
    class: &str,
) -> Result<Option<server::Model>, ApiError> {
    let Some(at) = site::Entity::find_by_id(site_id).one(txn).await?.filter(|s| !s.decommissioned) else {
        return Ok(None);
    };
    let policy = &at.config["serverPolicy"];
    let list = policy["dhcpBmcMacAddressWhitelist"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut allowed = list.filter_map(|m| model::validate::mac("mac", m).ok());
    if policy["dhcpBmcMacAddressWhitelistEnabled"] == true && !allowed.any(|m| m == mac) {
        return Ok(None);
    }
    let taken = [address.to_owned(), format!("ipmi://{address}")];
    if server::Entity::find().filter(server::Column::BmcAddress.is_in(taken)).one(txn).await?.is_some() {
        return Ok(None);
    }
    let entry = Entry {
        site_id,
        address: Some(address.to_owned()),
        mac: Some(mac.to_owned()),
        vendor: vendor_of(class).map(str::to_owned),
        ..Entry::default()
    };
    Ok(Some(enter(app, txn, entry).await?.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bmcs_are_told_from_hosts() {
        for yes in ["iDRAC", "CPQRIB3", "HPE iLO 5", "iLO6", "XCC", "OpenBMC", "MegaRAC SP-X", "udhcp 1.2 bmc", "CIMC"]
        {
            assert!(is_bmc(yes), "{yes}");
        }
        for (class, maker) in
            [("iDRAC", "Dell"), ("CPQRIB3", "HPE"), ("HPE iLO 5", "HPE"), ("XCC", "Lenovo"), ("CIMC", "Cisco")]
        {
            assert_eq!(vendor_of(class), Some(maker));
        }
        assert_eq!(vendor_of("OpenBMC"), None);
        for no in ["", "PXEClient:Arch:00007", "HTTPClient", "udhcp 1.30", "MSFT 5.0", "pilot", "silo", "dhcpcd-bmcfoo"]
        {
            assert!(!is_bmc(no), "{no}");
        }
    }
}
