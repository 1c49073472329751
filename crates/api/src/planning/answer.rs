//! Plans and problems as clients read them.

use planner::{Allocation, Change, ObjectRef, PartitionPlan, PlanProblem};
use serde_json::{Value, json};
use store::entity::deploy_plan;

use super::Stored;

/// A stored plan.
pub fn plan(row: &deploy_plan::Model, stored: &Stored) -> Value {
    let plan = stored.plan.as_ref();
    let impact = plan.map(|p| p.impact.clone()).unwrap_or_default();
    let mut warnings = problems(plan.map_or(&[], |p| &p.warnings));
    if let Some(site) = stored.silent_site.filter(|_| plan.is_some_and(|p| p.jobs.iter().any(|j| j.site_id.is_some())))
    {
        warnings.push(json!({
            "severity": "warning", "object": {"kind": "site", "id": site}, "field": "", "code": "site_not_connected",
            "message": "no Site Controller of this site is connected; the jobs wait until one is",
            "fix": "start the site's Site Controller, or look at its connection",
        }));
    }
    json!({
        "planId": row.id,
        "revision": row.infrastructure_revision,
        "status": row.status,
        "createdTimestamp": row.created_at,
        "deployId": row.deploy_id,
        "changes": stored.changes.iter().map(change).collect::<Vec<_>>(),
        "allocations": plan.map_or(&[][..], |p| &p.allocations).iter().map(allocation).collect::<Vec<_>>(),
        "releases": plan.map_or(&[][..], |p| &p.releases).iter().map(allocation).collect::<Vec<_>>(),
        "partitions": plan.map_or(&[][..], |p| &p.partitions).iter().map(partition).collect::<Vec<_>>(),
        "impact": {
            "serversPoweredOn": impact.servers_powered_on.len(),
            "serversPoweredOff": impact.servers_powered_off.len(),
            "serversInstalled": impact.servers_installed.len(),
            "serversWiped": impact.servers_wiped.len(),
            "disksErased": impact.disks_erased,
            "disksErasedGb": impact.disks_erased_gb,
            "switchPorts": impact.switch_ports,
            "switchDevices": impact.devices.len(),
            "devices": impact.devices.iter().map(|d| json!({"id": d.id, "name": d.name, "ports": d.ports})).collect::<Vec<_>>(),
            "addressesReleased": impact.addresses_released,
            "otherTenantsAffected": impact.other_tenants_affected,
            "storage": {
                "made": impact.storage.made, "madeGib": impact.storage.made_gib, "grown": impact.storage.grown, "deleted": impact.storage.deleted,
                "deletedGib": impact.storage.deleted_gib, "hostsGained": impact.storage.hosts_gained, "hostsLost": impact.storage.hosts_lost,
            },
            "estimateSeconds": impact.estimate_seconds,
        },
        "jobs": plan.map_or(&[][..], |p| &p.jobs).iter()
            .map(|j| json!({"key": j.key, "title": j.title, "function": j.function, "dependsOn": j.depends_on}))
            .collect::<Vec<_>>(),
        "warnings": warnings,
        "problems": problems(&stored.problems),
    })
}

/// What happens to a partition of InfiniBand.
fn partition(p: &PartitionPlan) -> Value {
    json!({
        "logicalNetworkId": p.network_id, "networkFabricId": p.fabric_id, "label": p.label, "pkey": p.pkey, "add": p.add, "remove": p.remove,
        "delete": p.delete, "unmanaged": p.unmanaged,
    })
}

/// Problems of a design.
pub fn problems(all: &[PlanProblem]) -> Vec<Value> {
    all.iter().map(problem).collect()
}

/// Objects that change.
pub fn changes(all: &[Change]) -> Vec<Value> {
    all.iter().map(change).collect()
}

fn object(o: &ObjectRef) -> Value {
    json!({"kind": o.kind, "id": o.id, "label": o.label})
}

fn change(c: &Change) -> Value {
    let fields: Vec<Value> =
        c.fields.iter().map(|f| json!({"field": camel(&f.field), "before": f.before, "after": f.after})).collect();
    json!({"kind": c.object.kind, "id": c.object.id, "label": c.object.label, "op": c.op, "fields": fields})
}

fn problem(p: &PlanProblem) -> Value {
    let mut all = json!({
        "severity": p.severity, "object": object(&p.object), "field": wire_field(&p.field), "code": p.code, "message": p.message, "fix": p.fix,
    });
    if let Some(patch) = &p.patch {
        all["patch"] = json!({"field": wire_field(&patch.field), "value": patch.value});
    }
    all
}

fn allocation(a: &Allocation) -> Value {
    match a {
        Allocation::Pkey { network_id, pkey } => {
            json!({"kind": "pkey", "logicalNetworkId": network_id, "pkey": pkey})
        }
        Allocation::Vlan { network_id, vlan } => {
            json!({"kind": "vlan", "logicalNetworkId": network_id, "vlanId": vlan})
        }
        Allocation::Subnet { network_id, subnet, gateway, pool_id } => {
            json!({"kind": "subnet", "logicalNetworkId": network_id, "subnet": subnet, "gateway": gateway, "subnetPoolId": pool_id})
        }
        Allocation::Server { instance_id, server_id } => {
            json!({"kind": "server", "serverInstanceId": instance_id, "serverId": server_id})
        }
        Allocation::Address { instance_id, network_id, address, prefix_len } => {
            json!({"kind": "address", "serverInstanceId": instance_id, "logicalNetworkId": network_id, "address": format!("{address}/{prefix_len}")})
        }
        Allocation::Connection { instance_id, network_id, interface, mac, device_id, port, tagged } => json!({
            "kind": "connection", "serverInstanceId": instance_id, "logicalNetworkId": network_id, "interface": interface, "macAddress": mac,
            "networkDeviceId": device_id, "port": port, "tagged": tagged,
        }),
        Allocation::OutsideConnection { instance_id, network_id, interface, mac, fabric_id, tagged } => json!({
            "kind": "connection", "serverInstanceId": instance_id, "logicalNetworkId": network_id, "interface": interface, "macAddress": mac,
            "networkFabricId": fabric_id, "tagged": tagged,
        }),
        Allocation::Storage { element_id, storage_id, key, size_bytes } => json!({
            "kind": "storage", "elementId": element_id, "storageId": storage_id, "key": key, "sizeBytes": size_bytes,
        }),
    }
}

/// A planner's field by its name in the interface, so that a form finds its input.
fn wire_field(field: &str) -> String {
    match field {
        "server_type_id" => "defaultServerTypeId".to_owned(),
        other => camel(other),
    }
}

fn camel(name: &str) -> String {
    let mut up = false;
    let mut all = String::with_capacity(name.len());
    for c in name.chars() {
        match (c, up) {
            ('_', _) => up = true,
            (c, true) => {
                all.extend(c.to_uppercase());
                up = false;
            }
            (c, false) => all.push(c),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_the_names_of_the_interface() {
        assert_eq!(wire_field("os_template_id"), "osTemplateId");
        assert_eq!(wire_field("server_type_id"), "defaultServerTypeId");
        assert_eq!(wire_field("connections.7.mtu"), "connections.7.mtu");
    }
}
