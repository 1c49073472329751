//! RAID volumes, and a server made as it was new: against the simulated datacenter, and against the older words of single makers.

use std::time::Duration;

use bmc::{Access, BiosSettings, BmcError, Fresh, Inventory, Power, Raid, RaidChange, Redfish};
use model::{
    bmc::{PowerAction, PowerState},
    raid::{NewVolume, RaidLevel},
    secret::Clear,
};
use serde_json::json;
use wiremock::{
    Mock, MockServer, Request, ResponseTemplate,
    matchers::{method, path},
};

use crate::yard::{access, yard};

async fn restart(driver: &Redfish) {
    for (action, state) in [(PowerAction::ForceOff, PowerState::Off), (PowerAction::On, PowerState::On)] {
        driver.set_power(action).await.unwrap();
        driver.wait_for_power(state, Duration::from_secs(5)).await.unwrap();
    }
    for _ in 0..100 {
        if driver.started().await.unwrap() == Some(true) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not get through its self test");
}

#[tokio::test]
async fn volumes_are_made_prepared_and_deleted_as_each_maker_does() {
    let yard = yard(21, 20).await;
    let mut makers = std::collections::BTreeSet::new();
    for (n, server) in yard.world().servers.iter().enumerate() {
        let driver = Redfish::new(access(&yard, n)).unwrap();
        let vendor = driver.vendor().await.unwrap();
        if !makers.insert(vendor) {
            continue;
        }
        let found = driver.raid().await.unwrap();
        assert_eq!(found.len(), 1);
        let controller = &found[0];
        assert!(controller.drives.iter().all(|d| d.serial.is_some() && d.bytes > 0 && d.healthy), "{controller:?}");
        let new = NewVolume {
            controller: controller.id.clone(),
            name: "steelyard1".into(),
            level: RaidLevel::Raid1,
            drives: controller.drives.iter().take(2).map(|d| d.id.clone()).collect(),
            bytes: None,
        };
        if controller.levels.is_empty() {
            assert_eq!(vendor, "NVIDIA");
            let why = driver.change_raid(&controller.id, &[], &[new]).await.unwrap_err();
            assert!(matches!(why, BmcError::Unsupported { .. }), "{why}");
            continue;
        }
        let change = driver.change_raid(&controller.id, &[], std::slice::from_ref(&new)).await.unwrap();
        assert_eq!(change, if vendor == "Dell" { RaidChange::AtRestart } else { RaidChange::Done });
        if change == RaidChange::AtRestart {
            assert!(driver.raid().await.unwrap()[0].volumes.is_empty(), "it waits");
            restart(&driver).await;
        }
        let volumes = driver.raid().await.unwrap()[0].volumes.clone();
        assert_eq!(volumes.len(), 1);
        assert_eq!((volumes[0].name.as_str(), volumes[0].level.as_str()), ("steelyard1", "RAID1"));
        assert_eq!(volumes[0].drives, new.drives);
        // The operating system sees the volume instead of its drives.
        let seen = server.with(|s| yard::bmc::raid::seen(&server.spec, &s.kept.bmc));
        assert_eq!(seen.len(), controller.drives.len() - 1, "{seen:?}");
        assert_eq!(seen[0]["model"], "RAID LOGICAL VOLUME");
        // A drive is in one volume at most; a level wants its number of drives; what is not there is told.
        assert!(driver.change_raid(&controller.id, &[], std::slice::from_ref(&new)).await.is_err());
        let odd = NewVolume { level: RaidLevel::Raid5, ..new.clone() };
        assert!(driver.change_raid(&controller.id, &[], &[odd]).await.is_err());
        let strange = NewVolume { drives: vec!["Disk.99".into()], ..new.clone() };
        let why = driver.change_raid(&controller.id, &[], &[strange]).await.unwrap_err();
        assert!(why.to_string().contains("Disk.99"), "{why}");
        let prepared = driver.initialize_volume(&controller.id, &volumes[0].id).await.unwrap();
        // Deleted and made anew in one order.
        let ids = [volumes[0].id.clone()];
        let change = driver.change_raid(&controller.id, &ids, std::slice::from_ref(&new)).await.unwrap();
        assert_eq!(change, prepared);
        if change == RaidChange::AtRestart {
            restart(&driver).await;
        }
        let volumes = driver.raid().await.unwrap()[0].volumes.clone();
        assert!(volumes.len() == 1 && volumes[0].id != ids[0], "{volumes:?}");
        let ids = [volumes[0].id.clone()];
        if driver.change_raid(&controller.id, &ids, &[]).await.unwrap() == RaidChange::AtRestart {
            restart(&driver).await;
        }
        assert!(driver.raid().await.unwrap()[0].volumes.is_empty());
        // Told again, it is so.
        assert_eq!(driver.change_raid(&controller.id, &ids, &[]).await.unwrap(), RaidChange::Done);
        driver.close().await;
    }
    assert!(makers.len() == 4, "{makers:?}");
    yard.shutdown().await;
}

#[tokio::test]
async fn a_server_is_made_as_it_was_new() {
    let yard = yard(22, 20).await;
    let mut makers = std::collections::BTreeSet::new();
    for (n, server) in yard.world().servers.iter().enumerate() {
        let driver = Redfish::new(access(&yard, n)).unwrap();
        let vendor = driver.vendor().await.unwrap();
        if !makers.insert(vendor) {
            continue;
        }
        server.with(|s| {
            s.kept.bmc.tpm_owned = true;
            s.kept.bmc.own_keys = true;
            s.kept.bmc.snmp = true;
            s.kept.bmc.bios.insert("NumLock".into(), json!("Off"));
        });
        assert!(driver.has_tpm().await.unwrap() && !driver.tpm_clear_waits().await.unwrap());
        driver.reset_bios().await.unwrap();
        restart(&driver).await;
        assert_eq!(driver.bios().await.unwrap()["NumLock"], json!("On"));
        driver.clear_tpm().await.unwrap();
        driver.reset_secure_boot_keys().await.unwrap();
        assert!(driver.tpm_clear_waits().await.unwrap());
        assert!(server.with(|s| s.kept.bmc.tpm_owned && s.kept.bmc.own_keys), "at the next start");
        restart(&driver).await;
        assert!(!driver.tpm_clear_waits().await.unwrap());
        assert!(!server.with(|s| s.kept.bmc.tpm_owned || s.kept.bmc.own_keys));
        assert_eq!(driver.disable_embedded_nics().await.unwrap(), Vec::<String>::new(), "it has none");
        match driver.reset_bmc_settings().await {
            Ok(()) => assert!(!server.with(|s| s.kept.bmc.snmp)),
            Err(e) => assert!(vendor == "NVIDIA" && matches!(e, BmcError::Unsupported { .. }), "{e}"),
        }
    }
    assert!(makers.len() == 4, "{makers:?}");
    yard.shutdown().await;
}

#[tokio::test]
async fn an_accelerator_that_fails_is_told_with_its_serial_number() {
    let yard = yard(23, 20).await;
    let n = yard.world().servers.iter().position(|s| s.spec.model.gpu.is_some()).unwrap();
    let driver = Redfish::new(access(&yard, n)).unwrap();
    let server = &yard.world().servers[n];
    assert!(driver.inventory().await.unwrap().gpus.iter().all(|g| g.problems.is_empty() && g.serial.is_some()));
    assert!(yard::bmc::events::part(yard.world(), server, "gpu-2", "Critical"));
    let gpus = driver.inventory().await.unwrap().gpus;
    let ill: Vec<_> = gpus.iter().filter(|g| !g.problems.is_empty()).collect();
    assert_eq!(ill.len(), 1);
    assert!(ill[0].problems[0].contains("critical") && ill[0].serial.as_deref().unwrap().ends_with("G2"), "{ill:?}");
    yard.shutdown().await;
}

fn mock_access(server: &MockServer) -> Access {
    Access {
        address: server.address().to_string(),
        username: "root".into(),
        password: Clear("x".into()),
        timeout: Duration::from_secs(5),
        tls_fingerprint: None,
    }
}

async fn answer(server: &MockServer, at: &str, body: serde_json::Value) {
    Mock::given(method("GET"))
        .and(path(at))
        .respond_with(ResponseTemplate::new(200).set_body_json(body))
        .mount(server)
        .await;
}

/// An iDRAC from before 2021, after Dell's published scripts: `VolumeType`, drives beside it, drives that are passed through as volumes.
#[tokio::test]
async fn older_words_are_tried_where_the_newer_ones_are_refused() {
    crypto::install_provider();
    let server = MockServer::start().await;
    let system = "/redfish/v1/Systems/System.Embedded.1";
    let storage = format!("{system}/Storage/RAID.Integrated.1-1");
    let id = |p: &str| json!({"@odata.id": p});
    answer(&server, "/redfish/v1/", json!({"Vendor": "Dell", "Systems": id("/redfish/v1/Systems")})).await;
    answer(&server, "/redfish/v1/Systems", json!({"Members": [id(system)]})).await;
    answer(
        &server,
        system,
        json!({"@odata.id": system, "Manufacturer": "Dell Inc.", "Storage": id(&format!("{system}/Storage"))}),
    )
    .await;
    answer(&server, &format!("{system}/Storage"), json!({"Members": [id(&storage)]})).await;
    let drive = format!("{storage}/Drives/Disk.Bay.0");
    answer(
        &server,
        &storage,
        json!({"@odata.id": storage, "Drives": [id(&drive)], "Volumes": id(&format!("{storage}/Volumes")),
        "StorageControllers": [{"Model": "PERC H740P", "SupportedRAIDTypes": ["RAID0", "RAID1"]}]}),
    )
    .await;
    answer(&server, &drive, json!({"@odata.id": drive, "CapacityBytes": 960_000_000_000_u64, "MediaType": "SSD", "Protocol": "SAS", "SerialNumber": "S1", "HotspareType": "None"})).await;
    let raw = format!("{storage}/Volumes/Disk.Bay.0");
    answer(&server, &format!("{storage}/Volumes"), json!({"Members": [id(&raw)]})).await;
    answer(&server, &raw, json!({"@odata.id": raw, "VolumeType": "RawDevice", "Links": {"Drives": [id(&drive)]}}))
        .await;
    let volumes = format!("{storage}/Volumes");
    Mock::given(method("POST"))
        .and(path(volumes))
        .respond_with(|request: &Request| {
            let body: serde_json::Value = request.body_json().unwrap();
            if body.get("RAIDType").is_some() {
                return ResponseTemplate::new(400).set_body_json(json!({"error": {"@Message.ExtendedInfo": [
                    {"MessageId": "Base.1.5.PropertyUnknown", "Message": "The property RAIDType is not in the list of valid properties."}]}}));
            }
            assert_eq!((&body["VolumeType"], body["Drives"].as_array().map(Vec::len)), (&json!("NonRedundant"), Some(1)));
            ResponseTemplate::new(202).insert_header("location", "/redfish/v1/TaskService/Tasks/JID_1")
        })
        .mount(&server)
        .await;
    answer(
        &server,
        "/redfish/v1/TaskService/Tasks/JID_1",
        json!({"TaskState": "Starting", "Oem": {"Dell": {"JobState": "Scheduled"}}}),
    )
    .await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(404)).mount(&server).await;
    let driver = Redfish::at(format!("http://{}", server.address()), mock_access(&server)).unwrap();
    let found = driver.raid().await.unwrap();
    assert_eq!((found[0].name.as_str(), found[0].volumes.len(), found[0].drives.len()), ("PERC H740P", 0, 1));
    let new = NewVolume { name: "v".into(), drives: vec!["Disk.Bay.0".into()], ..NewVolume::default() };
    assert_eq!(driver.change_raid("RAID.Integrated.1-1", &[], &[new]).await.unwrap(), RaidChange::AtRestart);
}

/// Smart Array behind an iLO 5: one resource, written as a whole.
#[tokio::test]
async fn smart_array_is_written_for_the_next_start() {
    crypto::install_provider();
    let server = MockServer::start().await;
    let id = |p: &str| json!({"@odata.id": p});
    let config = "/redfish/v1/systems/1/smartstorageconfig/";
    answer(&server, "/redfish/v1/", json!({"Oem": {"Hpe": {}}, "Systems": id("/redfish/v1/Systems/")})).await;
    answer(&server, "/redfish/v1/Systems", json!({"Members": [id("/redfish/v1/Systems/1/")]})).await;
    answer(&server, "/redfish/v1/Systems/1/", json!({"@odata.id": "/redfish/v1/Systems/1/", "Manufacturer": "HPE", "Oem": {"Hpe": {"Links": {"SmartStorageConfig": [id(config)]}}}})).await;
    answer(&server, config, json!({"@odata.id": config, "Location": "Slot 0", "@Redfish.Settings": {"SettingsObject": id("/redfish/v1/systems/1/smartstorageconfig/settings/")},
        "PhysicalDrives": [{"Location": "1I:1:1", "SerialNumber": "S1", "CapacityGB": 960, "MediaType": "SSD"}, {"Location": "1I:1:2", "SerialNumber": "S2", "CapacityGB": 960, "MediaType": "SSD"}],
        "LogicalDrives": [{"VolumeUniqueIdentifier": "AA", "Raid": "Raid0", "DataDrives": ["1I:1:1"], "CapacityGiB": 894}]})).await;
    Mock::given(method("PUT"))
        .and(path("/redfish/v1/systems/1/smartstorageconfig/settings/"))
        .respond_with(|request: &Request| {
            let body: serde_json::Value = request.body_json().unwrap();
            assert_eq!(body["LogicalDrives"], json!([{"LogicalDriveName": "v", "Raid": "Raid1", "DataDrives": ["1I:1:1", "1I:1:2"], "CapacityGiB": -1}]));
            ResponseTemplate::new(200).set_body_json(json!({"error": {"@Message.ExtendedInfo": [{"MessageId": "iLO.2.14.SystemResetRequired"}]}}))
        })
        .expect(1)
        .mount(&server)
        .await;
    let driver = Redfish::at(format!("http://{}", server.address()), mock_access(&server)).unwrap();
    let found = driver.raid().await.unwrap();
    assert_eq!((found.len(), found[0].volumes.len(), found[0].drives.len()), (1, 1, 2));
    let drives = vec!["1I:1:1".into(), "1I:1:2".into()];
    let new = NewVolume { name: "v".into(), level: RaidLevel::Raid1, drives, ..NewVolume::default() };
    let change = driver.change_raid("smartstorageconfig", &["AA".into()], &[new]).await.unwrap();
    assert_eq!(change, RaidChange::AtRestart);
}
