//! A Site Controller against the simulated datacenter, with a scripted Global Controller behind a real link: registration, installation,
//! switches, a cut line, a restart in the middle.

use std::{net::Ipv4Addr, time::Duration};

use crate::rig::{Rig, SITE, hostname, value};
use model::{
    bmc::{HardwareInventory, PowerAction},
    cleaning::{CleanPlan, ErasedDisk},
    job::{JobCommand, JobStatus},
    link::{Down, Observed},
    order::{
        Order, ScanResult, ServerClean, ServerDiscover, ServerInstall, ServerInventory, ServerPower, ServerPowerStatus,
        ServerRotateCredentials, ServerScan, ServerStart, SwitchApply, SwitchDiscover,
    },
    secret::Clear,
    switch::{PortIntent, PortVlans, SwitchPatch, SwitchState},
};
use store::Database;
use yard::Yard;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_discovered_installed_started_and_cleaned() {
    let mut rig = Rig::new(1).await;
    let yard = rig.yard(3).await;
    rig.enter(&yard);
    let site = site::start(rig.site_config()).await.unwrap();

    let jobs = rig
        .order(vec![
            (ServerInventory::NAME, value(ServerInventory { server_id: 1 })),
            (ServerDiscover::NAME, value(ServerDiscover { server_id: 1 })),
        ])
        .await;
    rig.succeeded(&jobs).await;
    let (out_of_band, in_band): (HardwareInventory, HardwareInventory) = (rig.answer(jobs[0]), rig.answer(jobs[1]));
    assert_eq!(out_of_band.serial, in_band.serial);
    assert!(in_band.nics.iter().any(|n| n.lldp.is_some()), "{:?}", in_band.nics);

    let discover = rig.order(vec![(SwitchDiscover::NAME, value(SwitchDiscover { network_device_id: 1 }))]).await;
    rig.succeeded(&discover).await;
    let state: SwitchState =
        serde_json::from_value(rig.answer::<serde_json::Value>(discover[0])["state"].clone()).unwrap();
    let neighbour = state.ports.iter().find(|(_, p)| p.lldp.is_some());
    assert!(neighbour.is_some(), "{state:#?}");

    let install = rig.install(&yard, 1);
    let jobs =
        rig.order(vec![(ServerInstall::NAME, install), (ServerStart::NAME, value(ServerStart { server_id: 1 }))]).await;
    rig.succeeded(&jobs).await;
    rig.until("the installed system", || hostname(&yard, 0).as_deref() == Some("web-1")).await;
    rig.until("its word", || {
        rig.global.seen.lock().unwrap().iter().any(|o| matches!(o, Observed::OsUp { server_id: 1 }))
    })
    .await;

    let kept = in_band.disks[0].serial.clone().unwrap();
    let plan = CleanPlan { keep: vec![kept.clone()], policy: Some("keep one".into()), ..CleanPlan::default() };
    let jobs = rig.order(vec![(ServerClean::NAME, value(ServerClean { server_id: 1, plan }))]).await;
    rig.succeeded(&jobs).await;
    assert_eq!(hostname(&yard, 0), None);
    let erased: Vec<ErasedDisk> =
        serde_json::from_value(rig.answer::<serde_json::Value>(jobs[0])["erased"].clone()).unwrap();
    assert_eq!(erased.len(), in_band.disks.len(), "of each disk it is told what became of it");
    for disk in &erased {
        let left = disk.serial.as_ref() == Some(&kept);
        assert_eq!((disk.erased, disk.verified.is_some()), (!left, !left), "{disk:?}");
    }
    site.stop().await;
    yard.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vlans_are_set_and_taken_off() {
    let mut rig = Rig::new(2).await;
    let yard = rig.yard(3).await;
    rig.enter(&yard);
    let site = site::start(rig.site_config()).await.unwrap();
    let patch = |untagged: Option<u16>, tagged: &[u16]| {
        let vlans = PortVlans { untagged, tagged: tagged.iter().copied().collect() };
        value(SwitchApply {
            network_device_id: 1,
            patch: SwitchPatch {
                ports: [("swp1".to_owned(), PortIntent { vlans: Some(vlans), ..PortIntent::default() })].into(),
                ..SwitchPatch::default()
            },
        })
    };
    let port = |yard: &Yard| {
        let config = yard.world().switches[0].state.lock().unwrap();
        let view = &yard::switch::config::port_views(&config.applied, 8)[1];
        (view.untagged, view.tagged.iter().copied().filter(|v| Some(*v) != view.untagged).collect::<Vec<_>>())
    };
    for (untagged, tagged) in
        [(Some(1201), &[1300u16, 1301][..]), (None, &[1300][..]), (Some(1202), &[][..]), (None, &[][..])]
    {
        let jobs = rig.order(vec![(SwitchApply::NAME, patch(untagged, tagged))]).await;
        rig.succeeded(&jobs).await;
        assert_eq!(port(&yard), (untagged, tagged.to_vec()), "{untagged:?} {tagged:?}");
        let again = rig.order(vec![(SwitchApply::NAME, patch(untagged, tagged))]).await;
        rig.succeeded(&again).await;
        assert_eq!(rig.answer::<serde_json::Value>(again[0])["changes"], 0, "a second time changes nothing");
    }
    site.stop().await;
    yard.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_line_cut_work_goes_on_across_a_restart() {
    let mut rig = Rig::new(3).await;
    let yard = rig.yard(3).await;
    rig.enter(&yard);
    let site = site::start(rig.site_config()).await.unwrap();
    let first = rig.order(vec![(ServerInventory::NAME, value(ServerInventory { server_id: 2 }))]).await;
    rig.succeeded(&first).await;
    let install = rig.install(&yard, 2);
    let jobs =
        rig.order(vec![(ServerInstall::NAME, install), (ServerStart::NAME, value(ServerStart { server_id: 2 }))]).await;
    // Once the server is told to boot, the site has all that it needs, the image included.
    rig.until("the installation begins", || yard.world().servers[1].with(|s| s.kept.on)).await;
    rig.cut().await;
    // The process goes in the middle of the installation, and comes back without a line.
    site.stop().await;
    let site = site::start(rig.site_config()).await.unwrap();
    rig.until("the installed system", || hostname(&yard, 1).as_deref() == Some("web-2")).await;
    assert_ne!(rig.status(jobs[1]), Some(JobStatus::ReturnedSuccess), "nobody could tell");
    rig.connect().await;
    rig.succeeded(&jobs).await;
    site.stop().await;
    yard.shutdown().await;
}

/// After a restart more jobs may wait than there are workers, and a job whose BMC did not answer waits for its next try:
/// their machines work on meanwhile and must be heard.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_heard_while_its_job_waits() {
    let mut rig = Rig::new(7).await;
    let yard = rig.yard(1).await;
    rig.enter(&yard);
    let mut site = site::start(rig.site_config()).await.unwrap();
    let first = rig.order(vec![(ServerInventory::NAME, value(ServerInventory { server_id: 1 }))]).await;
    rig.succeeded(&first).await;
    let stage = || yard.world().servers[0].with(|s| s.stage);
    for waiting in [JobStatus::NotCalled, JobStatus::ThrownErrorRetrying] {
        let jobs = rig.order(vec![(ServerDiscover::NAME, value(ServerDiscover { server_id: 1 }))]).await;
        rig.until("the agent's start", || stage() == yard::server::Stage::Agent).await;
        site.stop().await;
        rig.change_job(jobs[0], waiting, "2999-01-01T00:00:00.000Z").await;
        site = site::start(rig.site_config()).await.unwrap();
        rig.until("the agent's last word", || stage() == yard::server::Stage::Off).await;
        site.stop().await;
        rig.change_job(jobs[0], waiting, "2000-01-01T00:00:00.000Z").await;
        site = site::start(rig.site_config()).await.unwrap();
        rig.succeeded(&jobs).await;
    }
    site.stop().await;
    yard.shutdown().await;
}

/// Orders a job, and has it run once more as an operator would.
async fn twice(rig: &mut Rig, function: &str, payload: serde_json::Value) {
    let jobs = rig.order(vec![(function, payload)]).await;
    rig.succeeded(&jobs).await;
    let before = rig.global.jobs.lock().unwrap()[&jobs[0]].sequence;
    let again = JobCommand::Retry { job_id: jobs[0], even_if_successful: true };
    let txn = rig.db.begin().await.unwrap();
    rig.queue.push(&txn, SITE, None, &Down::Command(again)).await.unwrap();
    txn.commit().await.unwrap();
    rig.queue.wake(SITE);
    rig.until(&format!("{function} once more"), || {
        let jobs_now = rig.global.jobs.lock().unwrap();
        let now = &jobs_now[&jobs[0]];
        assert_ne!(now.status, JobStatus::ThrownError, "{now:#?}");
        now.sequence > before && now.status == JobStatus::ReturnedSuccess
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_function_may_run_again() {
    let mut rig = Rig::new(4).await;
    let yard = rig.yard(2).await;
    rig.enter(&yard);
    let site = site::start(rig.site_config()).await.unwrap();
    let power = |action| value(ServerPower { server_id: 1, action, graceful_seconds: None, force_after: false });
    twice(&mut rig, ServerInventory::NAME, value(ServerInventory { server_id: 1 })).await;
    twice(&mut rig, ServerDiscover::NAME, value(ServerDiscover { server_id: 1 })).await;
    let install = rig.install(&yard, 1);
    twice(&mut rig, ServerInstall::NAME, install).await;
    twice(&mut rig, ServerStart::NAME, value(ServerStart { server_id: 1 })).await;
    rig.until("the installed system", || hostname(&yard, 0).as_deref() == Some("web-1")).await;
    let boots = yard.world().servers[0].with(|s| s.boots);
    twice(&mut rig, ServerStart::NAME, value(ServerStart { server_id: 1 })).await;
    twice(&mut rig, ServerPower::NAME, power(PowerAction::On)).await;
    assert_eq!(yard.world().servers[0].with(|s| s.boots), boots, "a server that runs is left alone");
    twice(&mut rig, ServerPowerStatus::NAME, value(ServerPowerStatus { server_id: 1 })).await;
    twice(&mut rig, ServerPower::NAME, power(PowerAction::ForceOff)).await;
    twice(&mut rig, ServerClean::NAME, value(ServerClean { server_id: 1, ..ServerClean::default() })).await;
    assert_eq!(hostname(&yard, 0), None);
    twice(&mut rig, SwitchDiscover::NAME, value(SwitchDiscover { network_device_id: 1 })).await;
    site.stop().await;
    yard.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_line_machines_still_boot_after_a_restart() {
    let mut rig = Rig::new(5).await;
    let yard = rig.yard(3).await;
    rig.enter(&yard);
    let site = site::start(rig.site_config()).await.unwrap();
    let jobs = rig.order(vec![(ServerInventory::NAME, value(ServerInventory { server_id: 1 }))]).await;
    rig.succeeded(&jobs).await;
    rig.cut().await;
    site.stop().await;
    let site = site::start(rig.site_config()).await.unwrap();
    // The disks are empty, so each asks the network: over TFTP, over HTTP, and from a BIOS.
    for server in &yard.world().servers {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{}/servers/{}/power-on", yard.admin_addr(), server.spec.serial);
        assert!(client.post(url).send().await.unwrap().status().is_success());
    }
    for server in &yard.world().servers {
        rig.until("a boot script", || {
            server.with(|s| s.log.iter().any(|line| line.contains("sanboot") || line.contains("script.ipxe")))
        })
        .await;
    }
    site.stop().await;
    yard.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_use_is_touched_by_its_own_deploys_alone() {
    let mut rig = Rig::new(6).await;
    let yard = rig.yard(3).await;
    rig.enter(&yard);
    // One that an instance holds, one in production elsewhere.
    rig.server_fact(1, |s| (s.in_use, s.instance_id) = (true, Some(41)));
    rig.server_fact(2, |s| (s.in_use, s.hands_off) = (true, true));
    let site = site::start(rig.site_config()).await.unwrap();
    let clean = |server_id| value(ServerClean { server_id, ..ServerClean::default() });
    let power =
        |server_id, action| value(ServerPower { server_id, action, graceful_seconds: None, force_after: false });
    let tenant = "a tenant's operating system is on this server";
    rig.refused(ServerClean::NAME, clean(1), None, tenant).await;
    rig.refused(ServerDiscover::NAME, value(ServerDiscover { server_id: 1 }), None, tenant).await;
    let install = rig.install(&yard, 1);
    rig.refused(ServerInstall::NAME, install.clone(), None, tenant).await;
    // Orders of a deploy for another instance, which had the server once.
    let void = "serves instance 41 now";
    rig.refused(ServerClean::NAME, clean(1), Some(40), void).await;
    rig.refused(ServerInstall::NAME, install, Some(40), void).await;
    rig.refused(ServerPower::NAME, power(1, PowerAction::ForceOff), Some(40), void).await;
    rig.refused(ServerStart::NAME, value(ServerStart { server_id: 1 }), Some(40), void).await;
    let production = "in production outside of this platform";
    rig.refused(ServerClean::NAME, clean(2), None, production).await;
    rig.refused(ServerClean::NAME, clean(2), Some(41), production).await;
    rig.refused(ServerDiscover::NAME, value(ServerDiscover { server_id: 2 }), None, production).await;
    rig.refused(ServerPower::NAME, power(2, PowerAction::ForceOff), None, production).await;
    rig.refused(ServerStart::NAME, value(ServerStart { server_id: 2 }), None, production).await;
    // To be read it is there.
    let read = rig.order(vec![(ServerInventory::NAME, value(ServerInventory { server_id: 2 }))]).await;
    rig.succeeded(&read).await;
    for n in [0, 1] {
        assert_eq!(yard.world().servers[n].with(|s| s.boots), 0, "server {n} was never switched on");
    }
    // A job that works when its server passes to somebody else lets go of it.
    let read = rig.order(vec![(ServerInventory::NAME, value(ServerInventory { server_id: 3 }))]).await;
    rig.succeeded(&read).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let fault = format!("http://{}/faults", yard.admin_addr());
    let slow = serde_json::json!({
        "selector": {"id": yard.world().servers[2].spec.serial, "face": "agent", "operation": "STEP wipe"}, "action": {"type": "delay", "ms": 4000},
    });
    let sent = client.post(fault).json(&slow).send().await.unwrap();
    assert!(sent.status().is_success(), "{}", sent.text().await.unwrap());
    let job = rig.order(vec![(ServerClean::NAME, clean(3))]).await[0];
    rig.until("the server boots", || yard.world().servers[2].with(|s| s.boots) > 0).await;
    rig.server_fact(3, |s| (s.in_use, s.instance_id) = (true, Some(43)));
    rig.cut().await;
    rig.connect().await;
    rig.until("the job lets go", || rig.status(job) == Some(JobStatus::ThrownError)).await;
    let error = rig.global.jobs.lock().unwrap()[&job].error.clone().unwrap();
    assert!(error.contains(tenant), "{error}");
    site.stop().await;
    yard.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bmcs_are_found_by_range_and_get_passwords_of_their_own() {
    let mut rig = Rig::new(7).await;
    let yard = rig.yard(3).await;
    rig.enter(&yard);
    rig.server_fact(2, |s| (s.in_use, s.hands_off) = (true, true));
    let site = site::start(rig.site_config()).await.unwrap();
    // One of four addresses has a Redfish service at that port.
    let first = yard.world().servers[0].spec.bmc;
    let port = yard.world().servers[0].bmc_port.get().copied();
    let last = Ipv4Addr::from(u32::from(first) + 3);
    let scan = |port| value(ServerScan { first, last, port, deadline_seconds: 20 });
    let jobs = rig.order(vec![(ServerScan::NAME, scan(port)), (ServerScan::NAME, scan(Some(1)))]).await;
    rig.succeeded(&jobs).await;
    let found: ScanResult = rig.answer(jobs[0]);
    assert_eq!((found.asked, found.cut_short, found.found.len()), (4, false, 1), "{found:?}");
    assert_eq!(found.found[0].address, format!("{first}:{}", port.unwrap()));
    assert_eq!(found.found[0].tls_fingerprint.as_ref().map(String::len), Some(64));
    assert!(rig.answer::<ScanResult>(jobs[1]).found.is_empty());

    let rotate = |rig: &Rig, server_id, text: &str| {
        let password = rig.global.sealer.seal(&Clear(text.into())).unwrap();
        value(ServerRotateCredentials { server_id, password })
    };
    let order = rotate(&rig, 1, "Another-Secret-1");
    let jobs = rig.order(vec![(ServerRotateCredentials::NAME, order.clone())]).await;
    rig.succeeded(&jobs).await;
    // The Global Controller has not said so yet, and the site works on.
    let status = rig.order(vec![(ServerPowerStatus::NAME, value(ServerPowerStatus { server_id: 1 }))]).await;
    rig.succeeded(&status).await;
    // The answer was lost and the site has forgotten: the same order again finds that it is done.
    site.stop().await;
    let site = site::start(rig.site_config()).await.unwrap();
    let jobs = rig.order(vec![(ServerRotateCredentials::NAME, order)]).await;
    rig.succeeded(&jobs).await;
    // By neither password: a person has to see to it, and is told so.
    let order = rotate(&rig, 1, "A-Third-Secret-1");
    rig.refused(ServerRotateCredentials::NAME, order, None, "refuses both the password in use and the new one").await;
    let order = rotate(&rig, 2, "Another-Secret-2");
    rig.refused(ServerRotateCredentials::NAME, order, None, "in production outside of this platform").await;
    rig.server_fact(1, |s| {
        let sealed = rig.global.sealer.seal(&Clear("Another-Secret-1".into())).unwrap();
        s.bmc.as_mut().unwrap().password = sealed;
    });
    rig.cut().await;
    rig.connect().await;
    let read = rig.order(vec![(ServerInventory::NAME, value(ServerInventory { server_id: 1 }))]).await;
    rig.succeeded(&read).await;
    // A machine that nobody entered asks for an address: the Global Controller hears where it is and what it says that it is.
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/servers/{}/power-on", yard.admin_addr(), yard.world().servers[2].spec.serial);
    assert!(client.post(url).send().await.unwrap().status().is_success());
    rig.until("a stranger", || {
        rig.global.seen.lock().unwrap().iter().any(|o| {
            matches!(o, Observed::UnknownMachine { address: Some(a), vendor_class: Some(c), .. } if a.starts_with("10.77.0.") && c.starts_with("PXEClient"))
        })
    })
    .await;
    site.stop().await;
    yard.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_was_away_for_long_touches_nothing_before_it_has_heard() {
    let mut rig = Rig::new(8).await;
    let yard = rig.yard(2).await;
    rig.enter(&yard);
    let site = site::start(rig.site_config()).await.unwrap();
    let read = rig.order(vec![(ServerInventory::NAME, value(ServerInventory { server_id: 1 }))]).await;
    rig.succeeded(&read).await;
    // It begins to erase a free server, and is gone in the middle.
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let serial = &yard.world().servers[0].spec.serial;
    let fault = serde_json::json!({"selector": {"id": serial, "face": "agent", "operation": "STEP wipe"}, "action": {"type": "hang"}});
    client.post(format!("http://{}/faults", yard.admin_addr())).json(&fault).send().await.unwrap();
    let clean = value(ServerClean { server_id: 1, ..ServerClean::default() });
    let job = rig.order(vec![(ServerClean::NAME, clean)]).await[0];
    rig.until("it boots", || yard.world().servers[0].with(|s| s.boots) > 0).await;
    rig.cut().await;
    site.stop().await;
    // Days later a tenant has the server, and the site comes back as it was: from a copy, with the line cut.
    let db = Database::open(&format!("sqlite://{}", rig.dir.path().join("site/site.db").display())).await.unwrap();
    let old = "UPDATE site_value SET number = number - 172800 WHERE name = 'alive_at'";
    let done = sea_orm::ConnectionTrait::execute_unprepared(&db.write, old).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
    drop(db);
    rig.server_fact(1, |s| (s.in_use, s.instance_id) = (true, Some(43)));
    let act = async |action: &str| {
        let url = format!("http://{}/servers/{serial}/{action}", yard.admin_addr());
        assert!(client.post(url).send().await.unwrap().status().is_success(), "{action}");
    };
    act("power-off").await;
    let site = site::start(rig.site_config()).await.unwrap();
    // The tenant's server boots from the network first: it is sent to its own disk, though a session waits for it.
    let logged = || yard.world().servers[0].with(|s| s.log.iter().filter(|l| l.contains("task clean")).count());
    let before = logged();
    act("power-on").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(logged(), before, "the boot image was not started");
    let boots = yard.world().servers[0].with(|s| s.boots);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(yard.world().servers[0].with(|s| s.boots), boots, "nobody cut its power");
    assert_eq!(rig.status(job), Some(JobStatus::Running));
    // It hears what has become of its servers, and gives the job up.
    rig.connect().await;
    rig.until("the job is void", || rig.status(job) == Some(JobStatus::ThrownError)).await;
    let error = rig.global.jobs.lock().unwrap()[&job].error.clone().unwrap();
    assert!(error.contains("a tenant's operating system is on this server"), "{error}");
    assert_eq!(yard.world().servers[0].with(|s| s.boots), boots);
    // Then it works as ever.
    let read = rig.order(vec![(ServerInventory::NAME, value(ServerInventory { server_id: 2 }))]).await;
    rig.succeeded(&read).await;
    site.stop().await;
    yard.shutdown().await;
}
