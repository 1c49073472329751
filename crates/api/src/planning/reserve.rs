//! Addresses that sites give to instances by DHCP.

use std::collections::HashSet;

use model::{Id, snapshot::Reservation};
use planner::Plan;
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter};
use store::entity::server_instance;

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
