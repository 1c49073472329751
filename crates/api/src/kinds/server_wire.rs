//! A server as clients see it, with the rows around it: each table is asked once for a whole page.

use std::collections::{BTreeSet, HashMap};

use super::server_health;
use model::{
    Id,
    bmc::{Disk, HardwareInventory},
};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use store::entity::{
    infrastructure, network_device, network_device_port, server, server_instance, server_instance_group,
    server_interface, site,
};

/// Wire names of fields whose columns are called otherwise.
pub const FIELDS: &[(&str, &str)] = &[
    ("serverId", "id"),
    ("serverUUID", "uuid"),
    ("serverStatus", "status"),
    ("serialNumber", "serial"),
    ("managementAddress", "bmc_address"),
    ("username", "bmc_username"),
    ("bmcMacAddress", "bmc_mac"),
    ("powerStatus", "power"),
    ("powerStatusLastUpdateTimestamp", "power_at"),
    ("healthTimestamp", "health_at"),
    ("serverDhcpStatus", "dhcp_status"),
    ("ramGbytes", "ram_gb"),
    ("processorCoreCount", "core_count"),
    ("serverDiskCount", "disk_count"),
    ("serverComments", "comments"),
    ("rackName", "rack"),
    ("registeredTimestamp", "registered_at"),
    ("serverCreatedTimestamp", "created_at"),
    ("serverAllocationTimestamp", "allocated_at"),
];

/// Columns of free text.
pub const SEARCH: &[server::Column] = &[
    server::Column::Serial,
    server::Column::BmcAddress,
    server::Column::BmcMac,
    server::Column::Vendor,
    server::Column::Model,
    server::Column::Uuid,
    server::Column::Rack,
];

const VENDORS: &[(&str, &str)] = &[
    ("dell", "Dell"),
    ("lenovo", "Lenovo"),
    ("hpe", "HPE"),
    ("hewlett", "HPE"),
    ("hp", "HP"),
    ("supermicro", "Supermicro"),
    ("super micro", "Supermicro"),
    ("nvidia", "NVIDIA"),
    ("cisco", "Cisco"),
    ("bsi", "BSI"),
];

/// The contract's word for a manufacturer, where it has one.
pub fn vendor_word(text: &str) -> Option<&'static str> {
    let text = text.to_lowercase();
    VENDORS.iter().find(|(begin, _)| text.starts_with(begin)).map(|(_, word)| *word)
}

/// The inventory of a server; an empty one before the first was read.
pub fn inventory(s: &server::Model) -> HardwareInventory {
    serde_json::from_value(s.inventory.clone()).unwrap_or_default()
}

/// The rows around a page of servers.
#[derive(Default)]
pub struct Related {
    sites: HashMap<Id, String>,
    interfaces: HashMap<Id, Vec<server_interface::Model>>,
    devices: HashMap<Id, network_device::Model>,
    ports: HashMap<(Id, String), network_device_port::Model>,
    instances: HashMap<Id, server_instance::Model>,
    groups: HashMap<Id, String>,
    infrastructures: HashMap<Id, infrastructure::Model>,
}

impl Related {
    /// Reads them.
    pub async fn load<C: ConnectionTrait>(db: &C, servers: &[server::Model]) -> Result<Self, DbErr> {
        if servers.is_empty() {
            return Ok(Self::default());
        }
        let ids: Vec<Id> = servers.iter().map(|s| s.id).collect();
        let mut of = Self::default();
        let sites: BTreeSet<Id> = servers.iter().map(|s| s.site_id).collect();
        for s in site::Entity::find().filter(site::Column::Id.is_in(sites)).all(db).await? {
            of.sites.insert(s.id, s.slug);
        }
        let interfaces = server_interface::Entity::find()
            .filter(server_interface::Column::ServerId.is_in(ids.clone()))
            .order_by_asc(server_interface::Column::Position)
            .all(db)
            .await?;
        let cabled: BTreeSet<(Id, String)> =
            interfaces.iter().filter_map(|i| Some((i.network_device_id?, i.network_device_port.clone()?))).collect();
        for i in interfaces {
            of.interfaces.entry(i.server_id).or_default().push(i);
        }
        if !cabled.is_empty() {
            let devices: BTreeSet<Id> = cabled.iter().map(|c| c.0).collect();
            let names: BTreeSet<String> = cabled.into_iter().map(|c| c.1).collect();
            let found = network_device::Entity::find().filter(network_device::Column::Id.is_in(devices.clone()));
            for d in found.all(db).await? {
                of.devices.insert(d.id, d);
            }
            let found = network_device_port::Entity::find()
                .filter(network_device_port::Column::NetworkDeviceId.is_in(devices))
                .filter(network_device_port::Column::Name.is_in(names));
            for p in found.all(db).await? {
                of.ports.insert((p.network_device_id, p.name.clone()), p);
            }
        }
        let instances = server_instance::Entity::find().filter(server_instance::Column::ServerId.is_in(ids));
        for i in instances.all(db).await? {
            if let Some(server_id) = i.server_id {
                of.instances.insert(server_id, i);
            }
        }
        if !of.instances.is_empty() {
            let groups: BTreeSet<Id> = of.instances.values().map(|i| i.group_id).collect();
            let infrastructures: BTreeSet<Id> = of.instances.values().map(|i| i.infrastructure_id).collect();
            let found = server_instance_group::Entity::find().filter(server_instance_group::Column::Id.is_in(groups));
            for g in found.all(db).await? {
                of.groups.insert(g.id, g.label);
            }
            let found = infrastructure::Entity::find().filter(infrastructure::Column::Id.is_in(infrastructures));
            for i in found.all(db).await? {
                of.infrastructures.insert(i.id, i);
            }
        }
        Ok(of)
    }

    /// Addresses that the operating system was given on an interface, with those of the bonds and VLANs above it.
    fn addresses(&self, i: &server_interface::Model) -> Vec<String> {
        let Some(instance) = self.instances.get(&i.server_id) else { return Vec::new() };
        let part = |kind: &str| instance.network_config.get(kind).and_then(Value::as_object).into_iter().flatten();
        let Some((mut link, entry)) = part("ethernets").find(|(_, e)| e["match"]["macaddress"] == i.mac.as_str())
        else {
            return Vec::new();
        };
        let mut entries = vec![entry];
        let holds = |bond: &Value| bond["interfaces"].as_array().is_some_and(|a| a.iter().any(|n| n == link.as_str()));
        if let Some((name, bond)) = part("bonds").find(|(_, b)| holds(b)) {
            entries.push(bond);
            link = name;
        }
        entries.extend(part("vlans").filter(|(_, v)| v["link"] == link.as_str()).map(|(_, v)| v));
        let texts = entries.iter().flat_map(|e| e["addresses"].as_array().into_iter().flatten());
        let texts = texts.filter_map(Value::as_str);
        texts.map(|a| a.split('/').next().unwrap_or(a).to_owned()).collect()
    }

    fn interface(&self, i: &server_interface::Model, inventory: &HardwareInventory) -> Value {
        let device = i.network_device_id.and_then(|id| self.devices.get(&id));
        let port = i
            .network_device_id
            .zip(i.network_device_port.clone())
            .and_then(|(device, port)| self.ports.get(&(device, port)));
        let nic = inventory.nics.iter().find(|n| n.mac == i.mac);
        let lldp = nic.and_then(|n| n.lldp.as_ref()).map(|l| format!("{} {}", l.system_name, l.port));
        json!({
            "serverInterfaceId": i.id, "serverId": i.server_id, "macAddress": i.mac, "index": i.position, "switchPortId": i.network_device_port,
            "switchHostname": device.map(|d| &d.name), "switchMacAddress": device.and_then(|d| d.mac.as_deref()).unwrap_or_default(),
            "capacityMbps": i.speed_mbps, "description": i.name, "osInfo": if nic.is_some_and(|n| n.link_up.is_some()) { "collected" } else { "not_tested" },
            "networkDevice": device.map_or_else(|| json!({}), |d| json!({"id": d.id.to_string(), "identifierString": d.name, "driver": d.driver, "position": d.position})),
            "networkDeviceInterface": port.map_or_else(|| json!({}), |p| json!({"interfaceId": p.id, "interfaceName": p.name, "networkDeviceId": p.network_device_id})),
            "defaultFabricId": i.default_fabric_id, "redundancyGroupIndex": i.redundancy_group, "ipv4Addresses": self.addresses(i), "ipv6Addresses": [], "vlanId": port.and_then(|p| p.untagged), "lldpInfo": lldp, "linkNetworkTechnology": "Ethernet",
        })
    }

    fn allocation(&self, server_id: Id) -> Value {
        let Some(i) = self.instances.get(&server_id) else { return Value::Null };
        let infrastructure = self.infrastructures.get(&i.infrastructure_id);
        json!({
            "instanceId": i.id, "instanceLabel": i.label, "instanceGroupLabel": self.groups.get(&i.group_id), "osTemplateId": i.os_template_id,
            "infrastructure": infrastructure.map_or_else(|| json!({}), |x| json!({"id": x.id, "label": x.label, "userIdOwner": x.owner_id})),
        })
    }

    /// Why a server is in maintenance, and what is left to do about it.
    fn drain(&self, s: &server::Model) -> Option<String> {
        let reason = s.maintenance.as_ref()?;
        let Some(i) = self.instances.get(&s.id) else { return Some(reason.clone()) };
        let of = self.infrastructures.get(&i.infrastructure_id).map_or("?", |x| x.label.as_str());
        Some(format!(
            "{reason}; instance {} of {of} still runs on it: it stays until its owner deletes it, or it is moved with the action replace",
            i.label
        ))
    }

    /// Whether an instance holds it.
    pub fn holds(&self, server_id: Id) -> Option<&server_instance::Model> {
        self.instances.get(&server_id)
    }

    /// A server in wire form.
    pub fn wire(&self, s: &server::Model) -> Value {
        let inventory = inventory(s);
        let first = inventory.processors.first();
        let note = |name: &str| s.extra.get(name).cloned().unwrap_or(Value::Null);
        let interfaces = self.interfaces.get(&s.id).map(Vec::as_slice).unwrap_or_default();
        let interfaces: Vec<Value> = interfaces.iter().map(|i| self.interface(i, &inventory)).collect();
        let disks: Vec<Value> = inventory.disks.iter().enumerate().map(|(n, d)| disk(s.id, n, d)).collect();
        let gpus: Vec<Value> =
            inventory.gpus.iter().map(|g| json!({"model": g.model, "vendor": g.vendor, "name": g.model, "memoryMib": g.memory_mib, "pciAddress": g.pci})).collect();
        let reasons: Vec<&String> = s.status_reason.iter().collect();
        let hardware = json!({
            "serverId": s.id, "revision": s.revision, "serverTypeId": s.server_type_id, "siteId": s.site_id, "datacenterName": self.sites.get(&s.site_id).map_or("", String::as_str),
            "serverUUID": s.uuid, "serialNumber": s.serial, "managementAddress": s.bmc_address, "username": s.bmc_username, "ramGbytes": s.ram_gb,
            "processorCount": s.processor_count, "processorCoreCount": s.core_count, "processorCoreMhz": first.map(|p| p.mhz), "processorName": first.map(|p| &p.model),
            "processorThreads": first.map(|p| p.threads), "diskCount": s.disk_count, "serverDiskCount": s.disk_count, "bmcMacAddress": s.bmc_mac, "bdkDebug": 0,
            "vendor": s.vendor.as_deref().map(|v| vendor_word(v).unwrap_or("Unknown")), "manufacturer": s.vendor, "model": s.model, "registrationProfileId": s.registration_profile_id,
            "requiresReRegister": i32::from(s.status == "registration_incomplete"), "serverSupportsVirtualMedia": 0, "serverSupportsSol": 0,
            "serverSupportsOobProvisioning": 0, "serverIsProduction": i32::from(s.administration_state == "unmanaged"), "serverCleanupPolicyId": s.cleanup_policy_id, "bootingCustomIsoInProgress": 0,
            "biosInfo": {"vendor": s.vendor, "version": inventory.bios_version}, "vendorInfo": {"management": "redfish", "version": inventory.bmc_version}
        });
        let mut state = json!({
            "registrationResult": {"foundMinimumNumberOfConnectedInterfaces": "unknown", "raidControllersReset": "unknown", "reasonsForFailure": reasons},
            "serverClass": s.extra.get("serverClass").and_then(Value::as_str).unwrap_or("unknown"), "serverStatus": s.status, "serverStatusReason": s.status_reason,
            "bmcError": note("bmcError"), "tlsFingerprint": s.tls_fingerprint, "tlsFingerprintShown": note("shownFingerprint"), "serverComments": s.comments, "maintenance": s.maintenance.is_some(), "maintenanceReason": self.drain(s), "inventoryDifferences": differences(s), "productionInfo": note("production"), "serverCapacityMbps": inventory.nics.iter().map(|n| u64::from(n.speed_mbps)).sum::<u64>(),
            "requiresManualCleaning": i32::from(s.status == "cleaning_required"), "administrationState": s.administration_state, "serverDhcpStatus": s.dhcp_status, "gpuCount": s.gpu_count, "gpuInfo": gpus,
            "supportsFcProvisioning": 0, "registeredTimestamp": s.registered_at, "serverCreatedTimestamp": s.created_at, "updatedTimestamp": s.updated_at,
            "powerStatus": s.power, "powerStatusLastUpdateTimestamp": s.power_at, "serverAllocationTimestamp": s.allocated_at, "chassisRackId": note("chassisRackId"),
            "rackName": s.rack, "rackPositionUpperUnit": note("rackPositionUpperUnit"), "rackPositionLowerUnit": note("rackPositionLowerUnit"), "inventoryId": note("inventoryId"),
            "jobInfo": note("jobInfo"), "interfaces": interfaces, "disks": disks, "storageControllers": [], "tags": s.tags, "allocationInfo": self.allocation(s.id), "links": [],
        });
        let health = server_health::wire(s);
        for part in [hardware, health] {
            if let (Some(state), Value::Object(part)) = (state.as_object_mut(), part) {
                state.extend(part);
            }
        }
        state
    }
}

/// Where what the BMC tells and what was seen from inside differ. Memory that the firmware keeps for itself is no difference.
fn differences(s: &server::Model) -> Vec<Value> {
    let part =
        |name: &str| -> Option<HardwareInventory> { serde_json::from_value(s.inventory["sources"][name].clone()).ok() };
    let (Some(outside), Some(inside)) = (part("bmc"), part("inBand")) else { return Vec::new() };
    let mut found = Vec::new();
    let mut compare = |part: &str, a: String, b: String| {
        // What one of them does not know at all is no contradiction.
        if !a.is_empty() && !b.is_empty() && !a.eq_ignore_ascii_case(&b) {
            found.push(json!({"part": part, "outOfBand": a, "inBand": b}));
        }
    };
    let sorted = |list: Vec<String>| {
        let mut list = list;
        list.sort();
        list.join(", ")
    };
    let text = |t: &Option<String>| t.as_deref().map(str::trim).unwrap_or_default().to_owned();
    compare("serialNumber", text(&outside.serial), text(&inside.serial));
    compare("uuid", text(&outside.uuid), text(&inside.uuid));
    let cpus = |i: &HardwareInventory| match i.processors.first() {
        Some(p) => format!("{} sockets of {} cores", i.processors.len(), p.cores),
        None => String::new(),
    };
    compare("processors", cpus(&outside), cpus(&inside));
    let (a, b) = (outside.memory_mib, inside.memory_mib);
    if a > 0 && b > 0 && (b > a || (a - b) * 100 > a * 5) {
        compare("memory", format!("{} GiB", a / 1024), format!("{} GiB", b / 1024));
    }
    let sizes = |i: &HardwareInventory| sorted(i.disks.iter().map(|d| format!("{} GB", d.size_gb)).collect());
    compare("disks", sizes(&outside), sizes(&inside));
    let serials = |i: &HardwareInventory| sorted(i.disks.iter().filter_map(|d| d.serial.clone()).collect());
    compare("diskSerialNumbers", serials(&outside), serials(&inside));
    let macs = |i: &HardwareInventory| sorted(i.nics.iter().map(|n| n.mac.clone()).collect());
    compare("interfaces", macs(&outside), macs(&inside));
    let gpus = |i: &HardwareInventory| if i.gpus.is_empty() { String::new() } else { i.gpus.len().to_string() };
    compare("gpus", gpus(&outside), gpus(&inside));
    found
}

fn disk(server_id: Id, position: usize, d: &Disk) -> Value {
    let kind = match d.media.as_str() {
        "hdd" => "HDD",
        "nvme" => "NVME",
        "ssd" => "SSD",
        _ => "none",
    };
    let id = server_id.saturating_mul(100).saturating_add(position as i64 + 1);
    json!({
        "id": id, "serverId": server_id, "name": d.name, "model": d.model.as_deref().unwrap_or_default(), "diskSizeGb": d.size_gb,
        "serial": d.serial.as_deref().unwrap_or_default(), "vendor": "", "status": "installed", "type": kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manufacturers_have_one_word() {
        assert_eq!(vendor_word("Dell Inc."), Some("Dell"));
        assert_eq!(vendor_word("HPE"), Some("HPE"));
        assert_eq!(vendor_word("Hewlett Packard Enterprise"), Some("HPE"));
        assert_eq!(vendor_word("Steelyard"), None);
    }
}
