//! Cleaning with all that a policy can ask for, against the BMCs of the simulated datacenter.

use std::collections::BTreeMap;

use crate::rig::{Rig, value};
use model::{
    bmc::HardwareInventory,
    cleaning::{CleanPlan, ErasedDisk, FirmwareSteps, KnownDisk, RaidRules, SignedStatement, Statement, StepResult},
    job::JobStatus,
    order::{Order, ServerClean, ServerDiscover, ServerInventory},
    raid::RaidLevel,
};
use serde_json::{Value, json};
use yard::Yard;

fn everything() -> FirmwareSteps {
    let raid = RaidRules {
        reset: true,
        recreate: true,
        one: RaidLevel::Raid0,
        two: RaidLevel::Raid1,
        even: RaidLevel::Raid10,
        odd: RaidLevel::Raid5,
    };
    FirmwareSteps {
        raid: Some(raid),
        clear_tpm: true,
        reset_bios: true,
        reset_secure_boot_keys: true,
        reset_bmc: true,
        disable_embedded_nics: true,
    }
}

/// What a Global Controller would list after discovery.
async fn known(rig: &mut Rig, server_id: i64) -> Vec<KnownDisk> {
    let jobs = vec![
        (ServerInventory::NAME, value(ServerInventory { server_id })),
        (ServerDiscover::NAME, value(ServerDiscover { server_id })),
    ];
    let jobs = rig.order(jobs).await;
    rig.succeeded(&jobs).await;
    let seen: HardwareInventory = rig.answer(jobs[1]);
    let known = |d: model::bmc::Disk| KnownDisk { name: d.name, serial: d.serial, size_gb: d.size_gb, seen: true };
    seen.disks.into_iter().map(known).collect()
}

/// One server of each maker.
fn makers(yard: &Yard) -> BTreeMap<&'static str, usize> {
    let mut found = BTreeMap::new();
    for (n, server) in yard.world().servers.iter().enumerate() {
        found.entry(server.spec.model.vendor.manufacturer()).or_insert(n);
    }
    found
}

fn parts(answer: &Value) -> (Vec<ErasedDisk>, Vec<StepResult>, SignedStatement) {
    let part = |name: &str| answer[name].clone();
    (
        serde_json::from_value(part("erased")).unwrap(),
        serde_json::from_value(part("steps")).unwrap(),
        serde_json::from_value(part("signed")).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_carried_out_in_full_at_each_maker() {
    let mut rig = Rig::new(90).await;
    let yard = rig.yard(20).await;
    rig.enter(&yard);
    let site = site::start(rig.site_config()).await.unwrap();
    let makers = makers(&yard);
    assert_eq!(makers.len(), 4, "{makers:?}");
    for (maker, n) in makers {
        let server = &yard.world().servers[n];
        let server_id = n as i64 + 1;
        let disks = known(&mut rig, server_id).await;
        server.with(|s| {
            s.kept.bmc.tpm_owned = true;
            s.kept.bmc.own_keys = true;
            s.kept.bmc.snmp = true;
            s.kept.bmc.bios.insert("NumLock".into(), json!("Off"));
        });
        let plan = CleanPlan {
            disks: disks.clone(),
            firmware: everything(),
            policy: Some("all".into()),
            ..CleanPlan::default()
        };
        let jobs = rig.order(vec![(ServerClean::NAME, value(ServerClean { server_id, plan }))]).await;
        rig.succeeded(&jobs).await;
        let (erased, steps, signed) = parts(&rig.answer::<Value>(jobs[0]));
        let step = |what: &str| {
            steps.iter().find(|s| s.what.starts_with(what)).unwrap_or_else(|| panic!("{maker}: {what} in {steps:?}"))
        };
        server.with(|s| {
            let kept = &s.kept;
            assert!(!kept.on && !kept.bmc.tpm_owned && !kept.bmc.own_keys, "{maker}");
            assert_eq!(kept.bmc.bios["NumLock"], json!("On"), "{maker}");
            if maker == "NVIDIA" {
                // It makes no volumes, and puts no settings of its BMC back.
                assert!(kept.bmc.volumes.is_empty() && kept.bmc.snmp);
                assert!(!step("RAID").done && !step("Settings of the BMC").done);
                assert_eq!(erased.len(), disks.len());
            } else {
                assert_eq!(kept.bmc.volumes.len(), 1, "{maker}: {steps:?}");
                assert!(!kept.bmc.snmp && step("RAID of").done && step("Settings of the BMC").done);
                assert_eq!(erased.len(), 1, "{maker}: the volume alone is seen");
                // Which physical drives lie behind it is said too.
                assert!(
                    disks.iter().all(|d| step("RAID of").words.contains(d.serial.as_deref().unwrap())),
                    "{steps:?}"
                );
            }
        });
        assert!(erased.iter().all(|d| d.erased && d.verified.is_some()), "{erased:?}");
        for what in ["Settings of the firmware", "Keys of secure boot", "Trusted platform module"] {
            assert!(step(what).done, "{maker}: {steps:?}");
        }
        assert!(!step("Interfaces of the board").done, "the simulated ones have no such setting, and that is said");
        assert!(crypto::signature::verify(&signed.public_key, signed.statement.as_bytes(), &signed.signature));
        let statement: Statement = serde_json::from_str(&signed.statement).unwrap();
        assert_eq!((statement.disks, statement.steps, statement.server_id), (erased, steps, server_id));
        assert_eq!(statement.policy.as_deref(), Some("all"));
    }
    site.stop().await;
    yard.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_between_the_steps_is_gone_on_from_there() {
    let mut rig = Rig::new(91).await;
    let yard = rig.yard(20).await;
    rig.enter(&yard);
    let site = site::start(rig.site_config()).await.unwrap();
    let n = makers(&yard)["HPE"];
    let (server, server_id) = (&yard.world().servers[n], n as i64 + 1);
    let disks = known(&mut rig, server_id).await;
    server.with(|s| s.kept.bmc.tpm_owned = true);
    let firmware = FirmwareSteps { clear_tpm: true, ..FirmwareSteps::default() };
    let plan = CleanPlan { disks, firmware, ..CleanPlan::default() };
    let boots = server.with(|s| s.boots);
    let jobs = rig.order(vec![(ServerClean::NAME, value(ServerClean { server_id, plan }))]).await;
    // The second start of it is the one that clears.
    rig.until("the start after the erasure", || server.with(|s| s.boots) >= boots + 2).await;
    site.stop().await;
    let site = site::start(rig.site_config()).await.unwrap();
    rig.succeeded(&jobs).await;
    let (erased, steps, _) = parts(&rig.answer::<Value>(jobs[0]));
    assert!(!erased.is_empty() && steps.len() == 1 && steps[0].done, "{steps:?}");
    server.with(|s| {
        assert!(!s.kept.bmc.tpm_owned && !s.kept.on);
        assert_eq!(s.boots, boots + 2, "nothing was done twice");
    });
    site.stop().await;
    yard.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_nobody_knows_is_not_touched_and_a_lost_gpu_is_told() {
    let mut rig = Rig::new(92).await;
    let yard = rig.yard(20).await;
    rig.enter(&yard);
    let site = site::start(rig.site_config()).await.unwrap();
    let n = makers(&yard)["NVIDIA"];
    let (server, server_id) = (&yard.world().servers[n], n as i64 + 1);
    let mut disks = known(&mut rig, server_id).await;
    let forgotten = disks.pop().unwrap();
    let order =
        |disks: Vec<KnownDisk>| value(ServerClean { server_id, plan: CleanPlan { disks, ..CleanPlan::default() } });
    let jobs = rig.order(vec![(ServerClean::NAME, order(disks.clone()))]).await;
    rig.until("the end", || rig.status(jobs[0]) == Some(JobStatus::ThrownError)).await;
    let said = rig.global.jobs.lock().unwrap()[&jobs[0]].error.clone().unwrap_or_default();
    assert!(said.contains("not among the disks") && said.contains(forgotten.serial.as_deref().unwrap()), "{said}");
    disks.push(forgotten);
    assert!(yard::bmc::events::part(yard.world(), server, "gpu-3", "Critical"));
    let jobs = rig.order(vec![(ServerClean::NAME, order(disks))]).await;
    rig.succeeded(&jobs).await;
    let gpus = rig.answer::<Value>(jobs[0])["gpus"].as_array().map(Vec::len);
    assert_eq!(gpus, server.spec.model.gpu.map(|g| g.count - 1), "one has fallen off the bus");
    site.stop().await;
    yard.shutdown().await;
}
