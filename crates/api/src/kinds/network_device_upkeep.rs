//! What is done to a switch as a whole: taking our configuration off it, and telling it where its messages go.

use std::collections::BTreeMap;

use model::{
    Id,
    order::{SwitchApply, SwitchDiscover},
    switch::{PortIntent, PortVlans, SwitchPatch},
};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect};
use serde_json::{Value, json};
use store::entity::{
    fabric_link, network_device, network_device_port as port, server_instance, server_interface, site_controller,
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{
        network_device::find,
        network_device_job::{group, job},
        record,
    },
    routes,
};

routes! {
    "resetNetworkDevice" => reset,
    "enableNetworkDeviceSyslog" => syslog,
}

/// Refuses what would cut servers in use off.
pub(crate) async fn refuse_carrying<C: ConnectionTrait>(
    db: &C,
    device: &network_device::Model,
    what: &str,
) -> Result<(), ApiError> {
    let servers: Vec<Id> = server_interface::Entity::find()
        .select_only()
        .column(server_interface::Column::ServerId)
        .filter(server_interface::Column::NetworkDeviceId.eq(device.id))
        .into_tuple()
        .all(db)
        .await?;
    let used =
        server_instance::Entity::find().filter(server_instance::Column::ServerId.is_in(servers)).count(db).await?;
    if used > 0 {
        return Err(ApiError::conflict(format!(
            "switch {} carries {used} server(s) in use; it cannot be {what}",
            device.name
        )));
    }
    Ok(())
}

/// What takes VLANs off all ports but those of links to other switches. What else the switch does (routing, users, its address) is not ours
/// and stays.
fn bare(ports: &[port::Model], links: &[fabric_link::Model], device_id: Id) -> SwitchPatch {
    let of_link = |name: &str| {
        links.iter().any(|l| l.device_a == device_id && l.port_a == name || l.device_b == device_id && l.port_b == name)
    };
    let mut patch = SwitchPatch { ports: BTreeMap::new(), ..SwitchPatch::default() };
    for port in ports.iter().filter(|p| !of_link(&p.name)) {
        let carries = port.untagged.is_some() || port.tagged.as_array().is_some_and(|t| !t.is_empty());
        if carries {
            let intent = PortIntent { vlans: Some(PortVlans::default()), ..PortIntent::default() };
            patch.ports.insert(port.name.clone(), intent);
        }
    }
    patch
}

async fn reset(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let device = find(&ctx, &txn).await?;
    ctx.check_revision(device.revision)?;
    if device.status == "decommissioned" {
        return Err(ApiError::conflict(format!("switch {} is decommissioned", device.name)));
    }
    refuse_carrying(&txn, &device, "reset").await?;
    let ports = port::Entity::find().filter(port::Column::NetworkDeviceId.eq(device.id)).all(&txn).await?;
    let ends = [fabric_link::Column::DeviceA, fabric_link::Column::DeviceB].map(|end| end.eq(device.id));
    let ends = ends.into_iter().fold(Condition::any(), Condition::add);
    let links = fabric_link::Entity::find().filter(ends).all(&txn).await?;
    let patch = bare(&ports, &links, device.id);
    let title = format!("Reset switch {}", device.name);
    let cleared: Vec<&String> = patch.ports.keys().collect();
    let context = json!({"ports": cleared});
    let id = device.id;
    let apply = SwitchApply { network_device_id: id, patch };
    let jobs = vec![
        job("reset", &device, title.clone(), &apply, &[])?,
        job(
            "read",
            &device,
            format!("Read switch {}", device.name),
            &SwitchDiscover { network_device_id: id },
            &["reset".to_owned()],
        )?,
    ];
    ctx.app.engine().create_group(&txn, group("network_device_reset", &device, &title), jobs).await?;
    record(&ctx, &txn, "network_device.reset", title, ("network_device", id), context).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    Ok(Reply::Empty)
}

/// A switch is told to send its messages to the Site Controller, where that takes them.
async fn syslog(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let device = find(&ctx, db).await?;
    ctx.check_revision(device.revision)?;
    let controllers =
        site_controller::Entity::find().filter(site_controller::Column::SiteId.eq(device.site_id)).all(db).await?;
    let takes = controllers.iter().any(|c| c.capabilities["syslog"] == Value::Bool(true));
    let who =
        if takes { format!("the driver {}", device.driver) } else { "the Site Controller of this site".to_owned() };
    Err(ApiError::conflict(format!(
        "switch {}: {who} knows no syslog yet; point the switch at your own collector",
        device.name
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, untagged: Option<i64>, tagged: Value) -> port::Model {
        port::Model {
            id: 1,
            revision: 1,
            created_at: String::new(),
            updated_at: String::new(),
            network_device_id: 7,
            name: name.into(),
            admin_up: None,
            oper_up: None,
            speed_mbps: None,
            mtu: None,
            mac: None,
            untagged,
            tagged,
            lldp: Value::Null,
            description: None,
            observed_at: String::new(),
        }
    }

    #[test]
    fn a_reset_leaves_links_and_empty_ports_alone() {
        let link = fabric_link::Model {
            id: 1,
            revision: 1,
            created_at: String::new(),
            updated_at: String::new(),
            fabric_id: 1,
            device_a: 7,
            port_a: "swp51".into(),
            device_b: 8,
            port_b: "swp1".into(),
            extra: Value::Null,
        };
        let ports = [
            port("swp1", Some(100), json!([])),
            port("swp2", None, json!([200])),
            port("swp3", None, json!([])),
            port("swp51", None, json!([100, 200])),
        ];
        let patch = bare(&ports, &[link], 7);
        assert_eq!(patch.ports.keys().collect::<Vec<_>>(), ["swp1", "swp2"]);
        assert!(patch.ports.values().all(|p| p.vlans == Some(PortVlans::default()) && p.admin_up.is_none()));
    }
}
