//! What goes wrong in a datacenter, against the simulated one: each fault ends in success after another try, or in words that say what a
//! person should do. Beside each a second server serves a tenant; whatever happens, it keeps its disk.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bmc::{Power, Sensors};
use model::{
    Id,
    bmc::{HardwareInventory, PowerAction, PowerState},
    cleaning::CleanPlan,
    job::{JobCommand, JobStatus},
    link::Down,
    order::{Order, ServerClean, ServerInstall, ServerInventory, ServerStart},
    secret::Clear,
    template::{ImageRef, InstallMethod, NamedImage, ReadySignal, TextFile},
};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use serde_json::Value;
use site::Running;
use store::Database;
use yard::{
    Yard, YardConfig,
    fault::{Action, Face, FaultRule, Selector, preset},
    server::{Disk, Stage, power},
};

use crate::rig::{Rig, SITE, hostname, value};

/// The instance on the second server.
const TENANT: Id = 77;
/// The tenant's host name.
const TENANT_HOST: &str = "tenant-db";

/// A site with a free server and one in use.
struct Scene {
    rig: Rig,
    yard: Yard,
    site: Option<Running>,
}

fn tenants_disk() -> Disk {
    Disk {
        image: "tenant".into(),
        size: 1,
        bootable: true,
        hostname: TENANT_HOST.into(),
        phoned_home: true,
        ..Disk::default()
    }
}

impl Scene {
    async fn new(block: u8, image_mbps: Option<u32>) -> Self {
        let rig = Rig::new(block).await;
        let config = rig.site_config();
        let yard = YardConfig {
            servers: 2,
            image_mbps,
            bmc_base: Ipv4Addr::new(127, 142, block, 1),
            bmc_port: 0,
            switch_base: Ipv4Addr::new(127, 141, block, 1),
            nvue_port: 0,
            relay_base: Ipv4Addr::new(127, 140, block, 1),
            dhcp_server: config.dhcp.parse().unwrap(),
            tftp_port: config.tftp.parse::<SocketAddr>().unwrap().port(),
            admin_listen: "127.0.0.1:0".parse().unwrap(),
            post_seconds: 0.02,
            os_boot_seconds: 0.02,
            dhcp_timeout_seconds: 0.3,
            boot_retry_seconds: 0.5,
            bmc_reset_seconds: 0.5,
            ..YardConfig::default()
        };
        let yard = yard::run(yard).await.unwrap();
        rig.enter(&yard);
        rig.server_fact(2, |s| (s.in_use, s.instance_id) = (true, Some(TENANT)));
        yard.world().servers[1].with(|s| {
            s.kept.disk = Some(tenants_disk());
            // The network first, as many are set up: whatever the site answers decides.
            s.kept.boot_order.reverse();
        });
        let site = site::start(rig.site_config()).await.unwrap();
        let mut scene = Self { rig, yard, site: Some(site) };
        // MAC addresses of both are known from now on.
        let jobs = [1, 2].map(|server_id| (ServerInventory::NAME, value(ServerInventory { server_id })));
        let jobs = scene.rig.order(jobs.into()).await;
        scene.rig.succeeded(&jobs).await;
        scene
    }

    /// A fault of the free server, or of both.
    fn fault(&self, face: Face, operation: &str, action: Action, count: Option<u64>, both: bool) -> u64 {
        let id = (!both).then(|| self.yard.world().servers[0].spec.serial.clone());
        let selector = Selector { kind: None, id, face: Some(face), operation: Some(operation.into()) };
        self.yard.world().faults.add(FaultRule { id: 0, name: String::new(), selector, action, count, hits: 0 })
    }

    fn preset(&self, name: &str) -> u64 {
        self.yard.world().faults.add(preset(name).unwrap())
    }

    fn hits(&self, fault: u64) -> u64 {
        self.yard.world().faults.list().iter().find(|f| f.id == fault).map_or(0, |f| f.hits)
    }

    fn mended(&self) {
        self.yard.world().faults.remove(None);
    }

    fn error(&self, job: Id) -> String {
        self.rig.global.jobs.lock().unwrap().get(&job).and_then(|j| j.error.clone()).unwrap_or_default()
    }

    async fn says(&self, job: Id, words: &[&str]) {
        self.rig.until(&format!("words about {words:?}"), || words.iter().all(|w| self.error(job).contains(w))).await;
    }

    async fn ordered(&mut self, function: &str, payload: Value) -> Id {
        self.rig.order(vec![(function, payload)]).await[0]
    }

    async fn install(&mut self) -> Id {
        let order = self.rig.install(&self.yard, 1);
        self.ordered(ServerInstall::NAME, order).await
    }

    /// The installation ends well, and its system starts.
    async fn installed(&mut self, job: Id) {
        self.rig.succeeded(&[job]).await;
        let start = self.ordered(ServerStart::NAME, value(ServerStart { server_id: 1 })).await;
        self.rig.succeeded(&[start]).await;
        self.rig.until("the installed system", || hostname(&self.yard, 0).as_deref() == Some("web-1")).await;
    }

    fn boots(&self) -> u64 {
        self.yard.world().servers[0].with(|s| s.boots)
    }

    /// Every path to the tenant's disk, with the fault in force: orders of others, and a restart into the network boot.
    async fn tenant_is_safe(&mut self) {
        let install = self.rig.install(&self.yard, 2);
        let clean = value(ServerClean { server_id: 2, plan: CleanPlan::default() });
        for (function, payload) in [(ServerInstall::NAME, install), (ServerClean::NAME, clean)] {
            self.rig.refused(function, payload.clone(), None, "a tenant's operating system is on this server").await;
            self.rig.refused(function, payload, Some(TENANT - 1), "serves instance 77 now").await;
        }
        let server = self.yard.world().servers[1].clone();
        power::restart(self.yard.world(), &server, "power fails for a moment");
        self.rig.until("the tenant's system", || hostname(&self.yard, 1).as_deref() == Some(TENANT_HOST)).await;
        assert_eq!(server.with(|s| s.kept.disk.clone()), Some(tenants_disk()), "nothing was wiped");
    }

    /// Puts the session of a job so many minutes back.
    async fn age(&self, job: Id, minutes: i64) {
        let path = self.rig.dir.path().join("site/site.db");
        let db = Database::open(&format!("sqlite://{}", path.display())).await.unwrap();
        let sql = "UPDATE boot_session SET begun_at = begun_at - ?1, \
            heard_at = CASE heard_at WHEN 0 THEN 0 ELSE heard_at - ?1 END WHERE job_id = ?2";
        let seconds = minutes * 60;
        db.write
            .execute_raw(Statement::from_sql_and_values(DbBackend::Sqlite, sql, [seconds.into(), job.into()]))
            .await
            .unwrap();
        db.close().await;
    }

    /// Facts that have changed are sent.
    async fn renew_line(&mut self) {
        self.rig.cut().await;
        self.rig.connect().await;
    }

    /// A person's word to try again.
    async fn retry(&mut self, job: Id) {
        let again = Down::Command(JobCommand::Retry { job_id: job, even_if_successful: false });
        let txn = self.rig.db.begin().await.unwrap();
        self.rig.queue.push(&txn, SITE, None, &again).await.unwrap();
        txn.commit().await.unwrap();
        self.rig.queue.wake(SITE);
        self.rig.until("the new try", || self.rig.status(job) != Some(JobStatus::ThrownError)).await;
    }

    async fn end(mut self) {
        self.tenant_is_safe().await;
        self.site.take().unwrap().stop().await;
        self.yard.shutdown().await;
    }
}

fn access(yard: &Yard, timeout: Duration) -> bmc::Access {
    let server = &yard.world().servers[0];
    bmc::Access {
        address: format!("{}:{}", server.spec.bmc, server.bmc_port.get().unwrap()),
        username: "root".into(),
        password: Clear("calvin-yard".into()),
        timeout,
        tls_fingerprint: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bmc_that_hangs_or_drops_is_waited_for_and_named() {
    let mut scene = Scene::new(31, None).await;
    // Silent once: the question is asked again after its deadline.
    let fault = scene.fault(Face::Redfish, "GET */Systems/*", Action::Hang, Some(1), false);
    let job = scene.ordered(ServerInventory::NAME, value(ServerInventory { server_id: 1 })).await;
    scene.rig.succeeded(&[job]).await;
    assert_eq!(scene.hits(fault), 1);
    let read: HardwareInventory = scene.rig.answer(job);
    assert!(read.serial.is_some());

    // Silent for good: whoever waits is told, within a deadline.
    scene.fault(Face::Redfish, "*", Action::Hang, None, false);
    let impatient = bmc::Redfish::new(access(&scene.yard, Duration::from_millis(300))).unwrap();
    let error = impatient.sensors().await.unwrap_err().to_string();
    assert!(error.contains("no answer within 0.3 s; check its cable and address, or reset the BMC"), "{error}");
    scene.mended();

    scene.fault(Face::Redfish, "*", Action::Drop, None, true);
    let job = scene.ordered(ServerInventory::NAME, value(ServerInventory { server_id: 1 })).await;
    scene.says(job, &["cannot be reached", "check its cable and address, or reset the BMC"]).await;
    let install = scene.install().await;
    scene.says(install, &["cannot be reached"]).await;
    assert_eq!(scene.boots(), 0);
    scene.tenant_is_safe().await;
    scene.mended();
    // What has used up its tries is a person's to repeat; what has not goes on by itself.
    for job in [job, install] {
        scene.rig.until("the end of the job", || scene.rig.status(job).is_some_and(|s| s.is_final())).await;
        if scene.rig.status(job) == Some(JobStatus::ThrownError) {
            scene.retry(job).await;
        }
    }
    scene.installed(install).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bmc_that_lies_about_power_is_found_out() {
    let mut scene = Scene::new(32, None).await;
    let lie = || Action::Lie { pointer: "/PowerState".into(), value: None };
    let fault = scene.fault(Face::Redfish, "GET */Systems/*", lie(), Some(6), false);
    let job = scene.install().await;
    scene.installed(job).await;
    assert_eq!(scene.hits(fault), 6);
    let lying = scene.fault(Face::Redfish, "GET */Systems/*", lie(), None, true);
    let driver = bmc::Redfish::new(access(&scene.yard, Duration::from_secs(5))).unwrap();
    // It is on, and said to be off: nothing is switched, and nothing is believed to have been.
    let error = driver.wait_for_power(PowerState::On, Duration::from_secs(1)).await.unwrap_err().to_string();
    assert!(
        error.contains("power was to be on, but it still is off after 1 s; look at the server's console"),
        "{error}"
    );
    assert!(scene.hits(lying) > 0);
    scene.tenant_is_safe().await;
    scene.mended();
    driver.set_power(PowerAction::ForceOff).await.unwrap();
    driver.wait_for_power(PowerState::Off, Duration::from_secs(5)).await.unwrap();
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bmc_that_loses_its_keys_is_asked_anew_or_named() {
    let mut scene = Scene::new(33, None).await;
    let inventory = || value(ServerInventory { server_id: 1 });
    // Its sessions are gone, as after a restart of the BMC.
    scene.yard.world().servers[0].with(|s| s.sessions.clear());
    let job = scene.ordered(ServerInventory::NAME, inventory()).await;
    scene.rig.succeeded(&[job]).await;

    // Its password is another one: only a person knows which.
    let password = |word: &str| {
        scene.yard.world().servers[0].with(|s| {
            s.sessions.clear();
            s.kept.bmc.accounts[0].password = word.into();
        });
    };
    password("factory");
    let install = scene.install().await;
    scene.says(install, &["refuses the login; correct the credentials of the server"]).await;
    assert_eq!(
        scene.rig.status(install),
        Some(JobStatus::ThrownError),
        "it is not tried until the BMC locks the account"
    );
    assert_eq!(scene.boots(), 0);
    scene.tenant_is_safe().await;
    let sealed = scene.rig.global.sealer.seal(&Clear("factory".into())).unwrap();
    scene.rig.server_fact(1, |s| s.bmc.as_mut().unwrap().password = sealed);
    scene.renew_line().await;
    let job = scene.ordered(ServerInventory::NAME, inventory()).await;
    scene.rig.succeeded(&[job]).await;

    // Its certificate is not the pinned one: it may be another machine.
    let pin = |fingerprint: Option<&str>| {
        let fingerprint = fingerprint.map(str::to_owned);
        scene.rig.server_fact(1, |s| s.bmc.as_mut().unwrap().tls_fingerprint = fingerprint);
    };
    pin(Some(&"ab".repeat(32)));
    scene.renew_line().await;
    let job = scene.ordered(ServerInventory::NAME, inventory()).await;
    scene.says(job, &["another certificate", "nothing was sent to it", "register its address again"]).await;
    scene.rig.server_fact(1, |s| s.bmc.as_mut().unwrap().tls_fingerprint = None);
    scene.renew_line().await;
    let job = scene.install().await;
    scene.installed(job).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_override_that_is_refused_or_not_followed_is_noticed() {
    let mut scene = Scene::new(34, None).await;
    let refusal = Action::Error { status: 400, message: Some("the property cannot be changed now".into()) };
    scene.fault(Face::Redfish, "PATCH */Systems/*", refusal, Some(2), true);
    let job = scene.install().await;
    scene.says(job, &["refuses PATCH", "the property cannot be changed now"]).await;
    assert_eq!(scene.boots(), 0, "it is not switched on to boot whatever it likes");
    scene.installed(job).await;

    // The firmware starts the old system instead. Nobody can tell that from outside, but nothing is heard either.
    let fault = scene.preset("bmc_ignores_boot_override");
    let image = |scene: &Scene| scene.yard.world().servers[0].with(|s| s.kept.disk.as_ref().map(|d| d.image.clone()));
    let before = image(&scene);
    let job = scene.install().await;
    scene.rig.until("the old system", || scene.hits(fault) > 0 && hostname(&scene.yard, 0).is_some()).await;
    scene.tenant_is_safe().await;
    scene.age(job, 21).await;
    scene.says(job, &["did not boot from the network within 20 minutes; look at its console, its boot order"]).await;
    assert_eq!(image(&scene), before, "the old system is left alone");
    scene.mended();
    scene.installed(job).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_cut_at_nine_tenths_is_mended() {
    let mut scene = Scene::new(35, None).await;
    let fault = scene.preset("image_cut_at_90");
    let job = scene.install().await;
    scene.installed(job).await;
    assert_eq!(scene.hits(fault), 1);
    let resumed = scene.yard.world().events.counters().get("image_resumes").copied();
    assert!(resumed.is_some_and(|n| n >= 1), "{resumed:?}");

    // The installer gives up at once in the middle of it: the job tries again by itself.
    scene.preset("agent_install_fails");
    let job = scene.install().await;
    scene.says(job, &["the boot image reports: step write_image: input/output error"]).await;
    scene.installed(job).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_too_small_is_named() {
    let mut scene = Scene::new(36, None).await;
    let message = "disk nvme0n1 has 1 GiB, and the image needs 2 GiB".to_owned();
    let small = Action::Error { status: 500, message: Some(message.clone()) };
    scene.fault(Face::Agent, "STEP write_image", small, None, false);
    let job = scene.install().await;
    scene.says(job, &["the boot image reports", &message]).await;
    scene.rig.until("the end of its tries", || scene.rig.status(job) == Some(JobStatus::ThrownError)).await;
    assert!(scene.error(job).contains(&message));
    assert!(hostname(&scene.yard, 0).is_none(), "no half-written system runs");
    scene.tenant_is_safe().await;
    scene.mended();
    let job = scene.install().await;
    scene.installed(job).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_with_a_wrong_checksum_reaches_no_disk() {
    let mut scene = Scene::new(37, None).await;
    // What the Global Controller holds is not what the template says: no server is touched for that.
    let right = scene.rig.global.image.clone();
    let mut order: ServerInstall = serde_json::from_value(scene.rig.install(&scene.yard, 1)).unwrap();
    let (promised, wrong) = (vec![7u8; 50_000], vec![8u8; 50_000]);
    let sha256 = crypto::token::digest(&promised);
    order.spec.os.image = ImageRef { sha256: sha256.clone(), size: 50_000, format: "raw".into(), url: None };
    scene.rig.global.more.lock().unwrap().insert(sha256.clone(), wrong);
    let job = scene.ordered(ServerInstall::NAME, value(order)).await;
    let waits = || {
        let jobs = scene.rig.global.jobs.lock().unwrap();
        let said = jobs.get(&job).and_then(|j| j.message.clone()).unwrap_or_default();
        said.contains("cannot get the image yet") && said.contains("correct the template asset or the file behind it")
    };
    scene.rig.until("words about the image", waits).await;
    assert_eq!(scene.boots(), 0);
    scene.tenant_is_safe().await;
    scene.rig.global.more.lock().unwrap().insert(sha256, promised);
    scene.installed(job).await;

    // A checked image that rots on the site's own disk is found out by the installer, and fetched anew.
    let stored = scene.rig.dir.path().join("site/images").join(crypto::token::digest(&right));
    let job = scene.install().await;
    scene.installed(job).await;
    let mut rotten = right.clone();
    rotten[200_000] ^= 1;
    std::fs::write(&stored, &rotten).unwrap();
    let job = scene.install().await;
    scene.says(job, &["the boot image reports: image digest is"]).await;
    scene.installed(job).await;
    assert!(std::fs::read(&stored).unwrap() == right);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_loss_during_the_write_is_recovered_from() {
    // 300 kB in some two and a half seconds.
    let mut scene = Scene::new(38, Some(1)).await;
    let server = scene.yard.world().servers[0].clone();
    let writes = || server.with(|s| s.stage == Stage::Agent && s.kept.disk.as_ref().is_some_and(|d| !d.bootable));
    let job = scene.install().await;
    scene.rig.until("the write", writes).await;
    power::off(scene.yard.world(), &server, "power fails");
    scene.tenant_is_safe().await;
    assert!(server.with(|s| !s.bootable()), "half an image");
    // The power comes back: the machine finds nothing to boot, asks the network, and begins anew.
    power::on(scene.yard.world(), &server);
    scene.installed(job).await;
    assert_eq!(scene.error(job), "", "no try was used up");

    // It stays away: the job ends this try in words, and switches the machine on again in the next.
    let job = scene.install().await;
    scene.rig.until("the write", writes).await;
    power::off(scene.yard.world(), &server, "power fails");
    scene.age(job, 11).await;
    scene.says(job, &["fell silent within 10 minutes; look at its console"]).await;
    scene.installed(job).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn installers_that_never_begin_or_never_tell_are_given_up() {
    let mut scene = Scene::new(39, None).await;
    let mut order: ServerInstall = serde_json::from_value(scene.rig.install(&scene.yard, 1)).unwrap();
    let file = |content: Vec<u8>| {
        let (sha256, size) = (crypto::token::digest(&content), content.len() as u64);
        scene.rig.global.more.lock().unwrap().insert(sha256.clone(), content);
        ImageRef { sha256, size, format: String::new(), url: None }
    };
    let os = &mut order.spec.os;
    os.image = file(vec![1; 5000]);
    let initrds = vec![NamedImage { name: "initrd.gz".into(), image: file(vec![2; 9000]) }];
    os.method = InstallMethod::Network { initrds, arguments: "auto=true url={{ seed_url }}preseed.cfg".into() };
    let answers = "d-i netcfg/get_hostname string {{ hostname }}\nd-i debian-installer/exit/poweroff boolean true\n";
    os.files =
        [("preseed.cfg".to_owned(), TextFile { text: answers.into(), template: true, path: String::new() })].into();
    os.ready = ReadySignal::PowerOff;

    // It cannot read its answer file.
    let deaf = scene.fault(Face::Http, "GET */seed/*", Action::Error { status: 500, message: None }, None, false);
    let job = scene.ordered(ServerInstall::NAME, value(order)).await;
    scene.rig.until("the installer", || scene.hits(deaf) > 0).await;
    scene.tenant_is_safe().await;
    scene.age(job, 31).await;
    scene.says(job, &["has not read its answer file within 30 minutes; look at its console"]).await;
    scene.mended();

    // In the next try it works, and never comes to an end.
    let endless = scene.fault(Face::Agent, "INSTALL", Action::Hang, Some(1), false);
    scene.rig.until("the installer", || scene.hits(endless) > 0).await;
    scene.tenant_is_safe().await;
    scene.age(job, 181).await;
    scene.says(job, &["was not ready within 3 hours (until it switches itself off); look at its console"]).await;

    // The third one is good.
    scene.installed(job).await;
    scene.end().await;
}
