//! Job functions of a site, a file each. Each may be cut off anywhere and run again.

mod boot;
pub(crate) mod guard;
mod infiniband_partition;
mod install_storage;
mod installer;
mod ready;
mod server_bios;
mod server_bmc;
mod server_boot_iso;
mod server_clean;
mod server_discover;
mod server_firmware;
mod server_firmware_update;
mod server_identify;
mod server_install;
mod server_inventory;
mod server_power;
mod server_power_status;
mod server_raid;
mod server_rotate_credentials;
mod server_scan;
mod server_sensors;
mod server_start;
mod storage_array;
mod storage_bucket;
mod storage_discover;
mod storage_share;
mod storage_snapshot;
mod storage_volume;
mod switch_apply;
mod switch_discover;

use std::sync::Arc;

use engine::JobFunction;

use crate::{Site, absence::Careful};

/// All of them.
pub(crate) fn all(site: &Arc<Site>) -> Vec<Arc<dyn JobFunction>> {
    let whole = site;
    let site = || site.clone();
    let all: Vec<Arc<dyn JobFunction>> = vec![
        Arc::new(infiniband_partition::IbPartitionFunction),
        Arc::new(server_bios::ServerBiosFunction(site())),
        Arc::new(server_bmc::ServerBmcFunction(site())),
        Arc::new(server_boot_iso::ServerBootIsoFunction(site())),
        Arc::new(server_firmware::ServerFirmwareInventoryFunction(site())),
        Arc::new(server_firmware_update::ServerFirmwareUpdateFunction(site())),
        Arc::new(server_sensors::ServerEventLogFunction(site())),
        Arc::new(server_sensors::ServerSensorsFunction(site())),
        Arc::new(server_clean::ServerCleanFunction(site())),
        Arc::new(server_discover::ServerDiscoverFunction(site())),
        Arc::new(server_identify::ServerIdentifyFunction(site())),
        Arc::new(server_install::ServerInstallFunction(site())),
        Arc::new(server_inventory::ServerInventoryFunction(site())),
        Arc::new(server_power::ServerPowerFunction(site())),
        Arc::new(server_power_status::ServerPowerStatusFunction(site())),
        Arc::new(server_raid::ServerRaidFunction(site())),
        Arc::new(server_rotate_credentials::ServerRotateCredentialsFunction(site())),
        Arc::new(server_scan::ServerScanFunction),
        Arc::new(server_start::ServerStartFunction(site())),
        Arc::new(storage_bucket::StorageBucketDeleteFunction(site())),
        Arc::new(storage_bucket::StorageBucketEnsureFunction(site())),
        Arc::new(storage_discover::StorageDiscoverFunction(site())),
        Arc::new(storage_share::StorageShareDeleteFunction(site())),
        Arc::new(storage_share::StorageShareEnsureFunction(site())),
        Arc::new(storage_snapshot::StorageSnapshotCloneFunction(site())),
        Arc::new(storage_snapshot::StorageSnapshotCreateFunction(site())),
        Arc::new(storage_snapshot::StorageSnapshotDeleteFunction(site())),
        Arc::new(storage_snapshot::StorageSnapshotRestoreFunction(site())),
        Arc::new(storage_volume::StorageAccessEnsureFunction(site())),
        Arc::new(storage_volume::StorageVolumeDeleteFunction(site())),
        Arc::new(storage_volume::StorageVolumeEnsureFunction(site())),
        Arc::new(switch_apply::SwitchApplyFunction(site())),
        Arc::new(switch_discover::SwitchDiscoverFunction(site())),
    ];
    all.into_iter().map(|inner| Arc::new(Careful { site: whole.clone(), inner }) as Arc<dyn JobFunction>).collect()
}
