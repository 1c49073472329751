//! The inventory, gathered over the resources of a BMC.

use async_trait::async_trait;
use model::bmc::{HardwareInventory, PowerState};
use serde_json::Value;

use super::{Redfish, link, power::power_of};
use crate::{BmcError, Inventory, inventory};

impl Redfish {
    /// Interfaces by way of the adapters in the chassis, for BMCs that do not list them at the system.
    async fn adapter_nics(&self, chassis: &[Value]) -> Result<Vec<model::bmc::Nic>, BmcError> {
        let mut nics = Vec::new();
        for adapter in self.every(chassis, "NetworkAdapters").await? {
            let functions = self.members(&adapter["NetworkDeviceFunctions"]).await?;
            nics.extend(functions.iter().filter_map(inventory::function_nic));
            if functions.is_empty() {
                for name in ["Ports", "NetworkPorts"] {
                    nics.extend(self.members(&adapter[name]).await?.iter().flat_map(inventory::port_nics));
                }
            }
        }
        Ok(nics)
    }

    /// Members of the same collection of several resources.
    async fn every(&self, of: &[Value], collection: &str) -> Result<Vec<Value>, BmcError> {
        let mut all = Vec::new();
        for resource in of {
            all.extend(self.members(&resource[collection]).await?);
        }
        Ok(all)
    }
}

#[async_trait]
impl Inventory for Redfish {
    async fn inventory(&self) -> Result<HardwareInventory, BmcError> {
        let service = self.service().await?;
        let quirks = service.quirks;
        let system = self.system().await?;
        let mut found = inventory::of_system(&system);
        found.power = Some(power_of(&system));
        let chassis = self.chassis(&system).await?;
        found.serial = quirks
            .serial(&system)
            .or(found.serial)
            .or_else(|| chassis.iter().find_map(|c| inventory::text(c, "SerialNumber")));
        let on = found.power == Some(PowerState::On);
        found.processors = inventory::processors(&self.members(&system["Processors"]).await?, on, &mut found.gpus);
        for other in service.others.iter().filter(|p| quirks.accelerators(p)) {
            let board = self.get(other).await?;
            inventory::processors(&self.members(&board["Processors"]).await?, on, &mut found.gpus);
        }
        found.nics = inventory::nics(&self.members(&system["EthernetInterfaces"]).await?);
        if found.nics.is_empty() {
            found.nics = self.adapter_nics(&chassis).await?;
        }
        if found.nics.is_empty()
            && let Some(path) = quirks.own_adapters(&system)
        {
            found.nics = self.collection(&path, 64).await?.iter().flat_map(|a| quirks.own_nics(a)).collect();
        }
        for storage in self.members(&system["Storage"]).await? {
            for drive in storage.get("Drives").and_then(Value::as_array).into_iter().flatten() {
                found.disks.extend(inventory::disk(&self.peek(drive).await?));
            }
        }
        if found.disks.is_empty()
            && let Some(path) = quirks.own_storage(&system)
        {
            for controller in self.collection(&path, 16).await? {
                let drives = quirks.own_drives(&controller).map(str::to_owned);
                if let Some(path) = drives {
                    found.disks.extend(self.collection(&path, 256).await?.iter().filter_map(|d| quirks.own_disk(d)));
                }
            }
        }
        if found.disks.is_empty() {
            // The older way (before Storage): devices in the list itself.
            for simple in self.members(&system["SimpleStorage"]).await? {
                let devices = simple.get("Devices").and_then(Value::as_array).into_iter().flatten();
                found.disks.extend(devices.filter_map(inventory::disk));
            }
        }
        let manager = self.manager(&system).await?;
        found.bmc_version = inventory::text(&manager, "FirmwareVersion");
        if link(&manager["EthernetInterfaces"]).is_some() {
            let own = inventory::nics(&self.members(&manager["EthernetInterfaces"]).await?);
            found.bmc_mac = own.into_iter().next().map(|n| n.mac);
        }
        found.consoles = self.consoles(&system, &manager).await;
        Ok(found)
    }
}
