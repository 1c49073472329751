//! Addresses that sites give to instances by DHCP.

use std::collections::HashSet;

use model::{
    Id,
    snapshot::Reservation,
    storage::{SanBoot, initiator_iqn},
};
use planner::Plan;
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter};
use store::entity::{server_instance, storage_element};

use super::load;

/// What DHCP gives the instance of a server: its addresses in untagged networks whose fabrics nobody here configures. They are those of
/// its plan, so that it has the same address whether it asks for one or was told one.
pub async fn reservations<C: ConnectionTrait>(txn: &C, server_id: Id) -> Result<Vec<Reservation>, DbErr> {
    let holder =
        server_instance::Entity::find().filter(server_instance::Column::ServerId.eq(server_id)).one(txn).await?;
    let state = holder.and_then(|i| load::planned(&i.extra).or_else(|| load::deployed(&i)));
    let Some(state) = state.filter(|s| s.server_id == server_id) else { return Ok(Vec::new()) };
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for port in &state.outside {
        // Of the interfaces of a bond the first one asks.
        let Some(network) = port.untagged_network.filter(|n| seen.insert(*n)) else { continue };
        all.extend(state.addresses.iter().filter(|a| a.network_id == network).map(|a| Reservation {
            mac: port.mac.clone(),
            address: a.address,
            subnet: a.subnet,
            gateway: a.gateway,
            hostname: Some(state.hostname.clone()),
        }));
    }
    Ok(all)
}

/// Servers whose addresses a plan may change for DHCP.
pub(super) fn addressed(plan: &Plan) -> impl Iterator<Item = Id> {
    plan.instances.iter().filter_map(|p| p.after.as_ref()).filter(|s| !s.outside.is_empty()).map(|s| s.server_id)
}

/// Servers that boot, or booted, from volumes, as far as this plan is about them.
pub(super) fn booted_from_volumes(plan: &Plan, loaded: &load::Loaded) -> Vec<Id> {
    let before = loaded.instances.iter().filter_map(|i| {
        let of_plan = plan.instances.iter().any(|p| p.id == i.id);
        load::deployed(i).filter(|d| of_plan && d.boot.is_some())
    });
    let after = plan.instances.iter().filter_map(|p| p.after.clone()).filter(|s| s.boot.is_some());
    before.chain(after).map(|s| s.server_id).collect()
}

/// The volume that the instance of a server boots from, and all that its site needs to tell the server of it. The secret is that at rest.
pub async fn boot_volume<C: ConnectionTrait>(
    txn: &C,
    server_id: Id,
) -> Result<Option<(SanBoot, Option<String>)>, DbErr> {
    let holder =
        server_instance::Entity::find().filter(server_instance::Column::ServerId.eq(server_id)).one(txn).await?;
    let Some(holder) = holder else { return Ok(None) };
    let state = load::planned(&holder.extra).or_else(|| load::deployed(&holder));
    let Some(boot) = state.filter(|s| s.server_id == server_id).and_then(|s| s.boot) else { return Ok(None) };
    let elements = storage_element::Entity::find()
        .filter(storage_element::Column::InfrastructureId.eq(holder.infrastructure_id))
        .filter(storage_element::Column::StorageId.eq(boot.storage_id))
        .all(txn)
        .await?;
    let known = elements.iter().map(|e| &e.state["objects"][&boot.key]).find(|o| o.is_object());
    let access = known.and_then(|o| serde_json::from_value(o["access"].clone()).ok());
    let wwn = known.and_then(|o| o["volume"]["wwn"].as_str()).map(str::to_owned);
    let secret = holder.extra["chap"].as_str().map(str::to_owned);
    let volume = SanBoot {
        storage_id: boot.storage_id,
        key: boot.key,
        initiator_iqn: initiator_iqn(holder.id),
        chap: None,
        access,
        wwn,
    };
    Ok(Some((volume, secret)))
}
