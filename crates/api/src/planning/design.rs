//! Designs as they are stored (in the words of the wire) in the planner's words.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
};

use ipnet::{Ipv4Net, Ipv4Subnets};
use model::{
    Id,
    infiniband::Membership,
    network::{NetworkConnection, Redundancy},
    template::OsInstall,
};
use planner::{GroupConfig, IbFabric, Ipv4Strategy, NetworkDesign, PkeyStrategy, VlanStrategy};
use serde_json::{Map, Value, json};
use store::entity::{network_connection, subnet};

use crate::{context::whole, facts};

/// VLANs of a fabric that names no ranges. Above them, switches of several makers keep VLANs for themselves.
const DEFAULT_VLANS: (u16, u16) = (2, 3599);
/// User made at installation when the template names none.
const DEFAULT_USER: &str = "admin";

/// What a plan needs of an OS template.
#[derive(Clone, Debug)]
pub struct Template {
    /// The installable part; `None` when something is missing.
    pub os: Option<OsInstall>,
    /// What is missing, in words.
    pub problem: Option<String>,
    /// User made at installation.
    pub username: Option<String>,
}

/// A connection of a group; `None` when it is not there on this side (design or deployed).
pub fn connection(row: &network_connection::Model, body: &Value) -> Option<NetworkConnection> {
    if !body.is_object() {
        return None;
    }
    let flag = |name: &str| body[name].as_bool().unwrap_or(false);
    let redundancy = body.get("redundancy").filter(|r| r.is_object()).map(|r| Redundancy {
        mode: r["mode"].as_str().unwrap_or("active-backup").to_owned(),
        implementation: r
            .pointer("/implementation/implementationType")
            .or_else(|| r.get("implementation"))
            .and_then(Value::as_str)
            .map(str::to_owned),
    });
    Some(NetworkConnection {
        logical_network_id: row.logical_network_id,
        // Partitions are no frames without a tag, of which a port carries one network's alone.
        tagged: flag("tagged") || body["membership"].is_string(),
        mtu: body.get("mtu").and_then(whole).and_then(|m| u32::try_from(m).ok()).unwrap_or(1500),
        provides_default_route: flag("providesDefaultRoute"),
        disable_auto_ip: flag("disableAutoIpAllocation"),
        redundancy,
        membership: body["membership"].as_str().and_then(Membership::parse).unwrap_or_default(),
    })
}

/// The configuration of a group. `variables` are those of the infrastructure; the group's own win.
pub fn group(
    design: &Value,
    variables: &Value,
    templates: &BTreeMap<Id, Template>,
    connections: Vec<NetworkConnection>,
) -> GroupConfig {
    let template = design.get("osTemplateId").and_then(whole).and_then(|id| templates.get(&id));
    let mut merged: Map<String, Value> = variables.as_object().cloned().unwrap_or_default();
    merged.extend(design.get("customVariables").and_then(Value::as_object).cloned().unwrap_or_default());
    let count = design.get("instanceCount").and_then(whole).unwrap_or(1);
    GroupConfig {
        label: design["label"].as_str().unwrap_or_default().to_owned(),
        instance_count: u32::try_from(count).unwrap_or(0),
        server_type_id: design.get("defaultServerTypeId").and_then(whole).filter(|id| *id > 0),
        os: template.and_then(|t| t.os.clone()),
        os_problem: template.and_then(|t| t.problem.clone()),
        hostname: design["hostname"].as_str().unwrap_or_default().to_owned(),
        username: template.and_then(|t| t.username.clone()).unwrap_or_else(|| DEFAULT_USER.to_owned()),
        variables: merged,
        connections,
        resource_pool_id: design.get("resourcePoolId").and_then(whole).filter(|id| *id > 0),
    }
}

/// A list of strategies in a block of a network's design.
pub fn strategies<'a>(blocks: &'a Value, block: &str, list: &str) -> &'a [Value] {
    blocks.get(block).and_then(|b| b.get(list)).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The design of a network. A manual subnet that is not there is left out; [`missing_subnets`] tells of it.
pub fn network(label: &str, blocks: &Value, subnets: &HashMap<Id, &subnet::Model>) -> NetworkDesign {
    let vlan = strategies(blocks, "vlan", "vlanAllocationStrategies").first();
    let manual = vlan
        .filter(|s| s["kind"] == "manual")
        .and_then(|s| s.get("vlanId").and_then(whole))
        .and_then(|v| u16::try_from(v).ok());
    let ipv4 = strategies(blocks, "ipv4", "subnetAllocationStrategies").iter().filter_map(|s| {
        if let Some(id) = manual_subnet(s) {
            let row = subnets.get(&id)?;
            return Some(Ipv4Strategy::Manual { subnet: net(row)?, gateway: gateway(row) });
        }
        let pools = s["subnetPoolIds"].as_array().map(|l| l.iter().filter_map(whole).collect()).unwrap_or_default();
        let prefix_len = s.get("prefixLength").and_then(whole).and_then(|l| u8::try_from(l).ok()).unwrap_or(24);
        Some(Ipv4Strategy::Auto { prefix_len, pool_ids: pools })
    });
    NetworkDesign {
        label: label.to_owned(),
        vlan: manual.map_or(VlanStrategy::Auto, |vlan| VlanStrategy::Manual { vlan }),
        pkey: pkey(blocks),
        ipv4: ipv4.collect(),
    }
}

/// How the partition key of a network is chosen; `None`: it is none of InfiniBand.
fn pkey(blocks: &Value) -> Option<PkeyStrategy> {
    blocks.get("pkey").filter(|b| b.is_object())?;
    let manual = strategies(blocks, "pkey", "pkeyAllocationStrategies").first().filter(|s| s["kind"] == "manual");
    let key = manual.and_then(|s| s.get("pkey").and_then(whole)).and_then(|k| u16::try_from(k).ok());
    Some(key.map_or(PkeyStrategy::Auto, |pkey| PkeyStrategy::Manual { pkey }))
}

/// What a fabric of InfiniBand gives out, with the keys that are taken; `None`: it is one of Ethernet.
pub fn infiniband(configuration: &Value, mut taken: BTreeSet<u16>) -> Option<IbFabric> {
    if configuration["fabricType"] != "infiniband" {
        return None;
    }
    let ranges = |field: &str| -> Vec<(u16, u16)> {
        let list = configuration[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        list.filter_map(|t| model::infiniband::pkey_range(field, t).ok()).collect()
    };
    for (low, high) in ranges("reservedPkeys") {
        taken.extend(low..=high);
    }
    Some(IbFabric { pkey_ranges: ranges("pkeyRanges"), pkeys_used: taken })
}

/// The subnet that a strategy names.
pub fn manual_subnet(strategy: &Value) -> Option<Id> {
    (strategy["kind"] == "manual").then(|| strategy.get("subnetId").and_then(whole)).flatten()
}

/// Subnets that a network's design names, in order.
pub fn named_subnets(blocks: &Value) -> Vec<Id> {
    strategies(blocks, "ipv4", "subnetAllocationStrategies").iter().filter_map(manual_subnet).collect()
}

/// A subnet row as a network.
pub fn net(row: &subnet::Model) -> Option<Ipv4Net> {
    let address: Ipv4Addr = row.network_address.parse().ok()?;
    Ipv4Net::new(address, u8::try_from(row.prefix_length).ok()?).ok()
}

/// Its router.
pub fn gateway(row: &subnet::Model) -> Option<Ipv4Addr> {
    row.gateway.as_deref().and_then(|g| g.parse().ok())
}

/// Ranges of a denylist as networks.
pub fn denied(list: &Value) -> Vec<Ipv4Net> {
    let end = |r: &Value, name: &str| r[name].as_str().and_then(|a| a.parse::<Ipv4Addr>().ok());
    list.as_array()
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .filter_map(|r| Some((end(r, "startAddress")?, end(r, "endAddress")?)))
        .filter(|(first, last)| first <= last)
        .flat_map(|(first, last)| Ipv4Subnets::new(first, last, 0))
        .collect()
}

/// VLAN ranges of a fabric's configuration (`"100-199"`, `"300"`).
pub fn vlan_ranges(configuration: &Value) -> Vec<(u16, u16)> {
    match configuration.get("vlanRanges").and_then(Value::as_array) {
        Some(list) => ranges(list),
        None => vec![DEFAULT_VLANS],
    }
}

/// Whether a fabric's network is done outside: only servers are operated, addresses and VLANs are accounted for.
pub fn unmanaged(configuration: &Value) -> bool {
    configuration["serverOnlyOperationEnabled"] == true
}

/// What instances are given no addresses of: what a subnet denies, and what DHCP gives out in it.
pub fn set_aside(row: &subnet::Model) -> Vec<Ipv4Net> {
    let mut all = denied(&row.denylist);
    if facts::dhcp_site(&row.tags).is_some()
        && let Ok(pool) = facts::dhcp_pool(row)
    {
        all.extend(Ipv4Subnets::new(pool.first, pool.last, 0));
    }
    all
}

/// VLANs that the fabric keeps for itself.
pub fn reserved_vlans(configuration: &Value) -> Vec<(u16, u16)> {
    configuration.get("reservedVlans").and_then(Value::as_array).map(|l| ranges(l)).unwrap_or_default()
}

fn ranges(list: &[Value]) -> Vec<(u16, u16)> {
    let words = list.iter().filter_map(|v| v.as_str().map(str::to_owned).or_else(|| whole(v).map(|n| n.to_string())));
    words
        .filter_map(|word| {
            let (low, high) = word.split_once('-').unwrap_or((&word, &word));
            Some((low.trim().parse().ok()?, high.trim().parse().ok()?))
        })
        .filter(|(low, high)| low <= high)
        .collect()
}

/// The wire form of what a network holds, beside its strategies: what `deployed` keeps for readers.
pub fn with_allocation(
    blocks: &Value,
    network: &store::entity::logical_network::Model,
    taken: &planner::NetworkAllocation,
    status: &str,
) -> Value {
    let mut all = if blocks.is_object() { blocks.clone() } else { json!({}) };
    let scope = json!({"kind": "fabric", "resourceId": network.fabric_id});
    let vlans: Vec<Value> =
        taken.vlan.iter().map(|v| json!({"id": 1, "scope": scope, "status": status, "vlanId": v})).collect();
    let subnets: Vec<Value> = taken
        .subnets
        .iter()
        .enumerate()
        .map(|(n, s)| {
            json!({
                "id": n + 1, "scope": scope, "status": status, "networkAddress": s.subnet.network(), "prefixLength": s.subnet.prefix_len(),
                "gateway": s.gateway.map(|g| g.to_string()).unwrap_or_default(), "gatewayPlacement": "default",
            })
        })
        .collect();
    let pkeys: Vec<Value> =
        taken.pkey.iter().map(|k| json!({"id": 1, "scope": scope, "status": status, "pkey": k})).collect();
    for (block, strategies, allocations, list) in [
        ("pkey", "pkeyAllocationStrategies", "pkeys", pkeys),
        ("vlan", "vlanAllocationStrategies", "vlans", vlans),
        ("ipv4", "subnetAllocationStrategies", "subnets", subnets),
    ] {
        if list.is_empty() && all.get(block).is_none() {
            continue;
        }
        let own = all[block].get(strategies).cloned().unwrap_or_else(|| json!([]));
        all[block] = json!({strategies: own, allocations: list});
    }
    all
}

/// The strategies alone, of what `deployed` keeps.
pub fn without_allocation(deployed: &Value) -> Value {
    let mut all = json!({});
    for (block, strategies) in [
        ("pkey", "pkeyAllocationStrategies"),
        ("vlan", "vlanAllocationStrategies"),
        ("vxlan", "vniAllocationStrategies"),
        ("ipv4", "subnetAllocationStrategies"),
        ("ipv6", "subnetAllocationStrategies"),
    ] {
        if let Some(list) = deployed.get(block).and_then(|b| b.get(strategies)) {
            all[block] = json!({strategies: list});
        }
    }
    if let Some(mtu) = deployed.get("mtu") {
        all["mtu"] = mtu.clone();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_in_the_forms_that_clients_send() {
        let c = json!({"vlanRanges": ["100-199", " 300 ", 7, "9-8", "rubbish"], "reservedVlans": ["150"]});
        assert_eq!(vlan_ranges(&c), [(100, 199), (300, 300), (7, 7)]);
        assert_eq!(reserved_vlans(&c), [(150, 150)]);
        assert_eq!(vlan_ranges(&json!({})), [DEFAULT_VLANS]);
        let list =
            json!([{"startAddress": "10.0.0.0", "endAddress": "10.0.0.9"}, {"startAddress": "x", "endAddress": "y"}]);
        assert_eq!(denied(&list).iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.0/29", "10.0.0.8/31"]);
    }
}
