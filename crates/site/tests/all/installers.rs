//! Distributions' own installers against the simulated datacenter: from the network and from media, with every way to say that it is over.

use std::{collections::BTreeMap, path::Path, process::Command};

use crate::rig::{Rig, hostname, value};
use model::{
    job::JobStatus,
    link::Observed,
    order::{Order, ServerInstall, ServerInventory, ServerStart},
    template::{ImageRef, InstallMethod, NamedImage, ReadySignal, TextFile},
};
use serde_json::Value;
use yard::Yard;

/// Puts the seed of cloud-init onto the disk, as the example templates do.
const SEED: &str = "d-i netcfg/get_hostname string {{ hostname }}\n\
    d-i passwd/user-password-crypted password {{ password_hash }}\n\
    d-i preseed/late_command string wget -O /target/seed/user-data {{ (seed_url ~ 'user-data')|sh }}; wget -O /target/seed/network-config {{ (seed_url ~ 'network-config')|sh }}\n";
const POWEROFF: &str = "d-i debian-installer/exit/poweroff boolean true\n";
const TELL: &str = "d-i preseed/late_command string wget -O- --post-data= {{ ready_url|sh }}\n";

/// An image that the Global Controller has.
fn image(rig: &Rig, content: Vec<u8>, format: &str) -> ImageRef {
    let sha256 = crypto::token::digest(&content);
    let size = content.len() as u64;
    rig.global.more.lock().unwrap().insert(sha256.clone(), content);
    ImageRef { sha256, size, format: format.into(), url: None }
}

fn text(text: &str, path: &str) -> TextFile {
    TextFile { text: text.into(), template: true, path: path.into() }
}

fn order(rig: &Rig, yard: &Yard, change: impl FnOnce(&mut ServerInstall)) -> Value {
    let mut order: ServerInstall = serde_json::from_value(rig.install(yard, 1)).unwrap();
    change(&mut order);
    value(order)
}

fn network(rig: &Rig, yard: &Yard, answers: &str, ready: ReadySignal) -> Value {
    let (kernel, initrd) = (image(rig, vec![1; 5000], ""), image(rig, vec![2; 9000], ""));
    order(rig, yard, |o| {
        let os = &mut o.spec.os;
        os.image = kernel;
        let arguments = "auto=true priority=critical\n url={{ seed_url }}preseed.cfg ---".to_owned();
        os.method =
            InstallMethod::Network { initrds: vec![NamedImage { name: "initrd.gz".into(), image: initrd }], arguments };
        os.files = BTreeMap::from([("preseed.cfg".into(), text(answers, ""))]);
        os.ready = ready;
    })
}

fn is_on(yard: &Yard) -> bool {
    yard.world().servers[0].with(|s| s.kept.on)
}

/// Installs, with the server left switched off, and starts: the order of a deploy.
async fn installs(rig: &mut Rig, yard: &Yard, order: Value) {
    let read = rig.order(vec![(ServerInventory::NAME, value(ServerInventory { server_id: 1 }))]).await;
    rig.succeeded(&read).await;
    let jobs = rig.order(vec![(ServerInstall::NAME, order)]).await;
    rig.succeeded(&jobs).await;
    assert!(!is_on(yard), "as after the writing of an image");
    let medium = yard.world().servers[0].with(|s| s.kept.bmc.inserted_image());
    assert_eq!(medium, None, "nobody finds a medium in the drive");
    let jobs = rig.order(vec![(ServerStart::NAME, value(ServerStart { server_id: 1 }))]).await;
    rig.succeeded(&jobs).await;
    rig.until("the installed system", || hostname(yard, 0).as_deref() == Some("web-1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installer_from_the_network_switches_off_or_tells() {
    let mut rig = Rig::new(21).await;
    let yard = rig.yard(1).await;
    rig.enter(&yard);
    let site = site::start(rig.site_config()).await.unwrap();

    let off = network(&rig, &yard, &format!("{SEED}{POWEROFF}"), ReadySignal::PowerOff);
    installs(&mut rig, &yard, off).await;
    let disk = yard.world().servers[0].with(|s| s.kept.disk.clone()).unwrap();
    assert_eq!(disk.image, "installer");
    assert!(disk.user_data.contains("$6$") && disk.network_config.contains("10.77.0.221"), "{disk:?}");
    rig.until("the new system's word", || {
        rig.global.seen.lock().unwrap().iter().any(|o| matches!(o, Observed::OsUp { server_id: 1 }))
    })
    .await;

    // This one starts its system and tells; the machine is shut down for the job that starts it.
    let tells = network(&rig, &yard, &format!("{SEED}{TELL}"), ReadySignal::Signal);
    let boots = yard.world().servers[0].with(|s| s.boots);
    installs(&mut rig, &yard, tells).await;
    assert!(yard.world().servers[0].with(|s| s.boots) >= boots + 2, "it installed once, and was started");
    site.stop().await;
    yard.shutdown().await;
}

/// Both numbers that the standard has for one: least significant byte first, and last.
fn both(n: u32) -> Vec<u8> {
    [n.to_le_bytes(), n.to_be_bytes()].concat()
}

fn record(name: &[u8], sector: u32, size: u32, folder: bool) -> Vec<u8> {
    let mut r = vec![0, 0];
    r.extend(both(sector));
    r.extend(both(size));
    r.extend([0; 7]);
    r.extend([if folder { 2 } else { 0 }, 0, 0, 1, 0, 0, 1, name.len() as u8]);
    r.extend(name);
    if r.len() % 2 == 1 {
        r.push(0);
    }
    r[0] = r.len() as u8;
    r
}

/// A medium with one file.
fn iso(name: &str, content: &str) -> Vec<u8> {
    let mut image = vec![0u8; 20 * 2048];
    let root = record(&[0], 18, 2048, true);
    image[16 * 2048..16 * 2048 + 7].copy_from_slice(b"\x01CD001\x01");
    image[16 * 2048 + 156..16 * 2048 + 156 + root.len()].copy_from_slice(&root);
    image[17 * 2048..17 * 2048 + 7].copy_from_slice(b"\xffCD001\x01");
    let file = record(format!("{};1", name.to_uppercase()).as_bytes(), 19, content.len() as u32, false);
    let folder = [root, record(&[1], 18, 2048, true), file].concat();
    image[18 * 2048..18 * 2048 + folder.len()].copy_from_slice(&folder);
    image[19 * 2048..19 * 2048 + content.len()].copy_from_slice(content.as_bytes());
    image
}

fn media(iso: ImageRef, answers: Option<&str>) -> impl FnOnce(&mut ServerInstall) {
    move |o| {
        o.spec.os.image = iso;
        o.spec.os.method = InstallMethod::Media { rebuild: answers.is_some(), components: Vec::new() };
        if let Some(answers) = answers {
            o.spec.os.files = BTreeMap::from([("ks.cfg".into(), text(answers, "/answers/ks.cfg"))]);
            o.spec.os.ready = ReadySignal::Signal;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_medium_is_inserted_booted_once_and_taken_out() {
    let mut rig = Rig::new(22).await;
    let yard = rig.yard(1).await;
    rig.enter(&yard);
    let site = site::start(rig.site_config()).await.unwrap();
    let iso = image(&rig, iso("ks.cfg", "network --hostname=web-1\npoweroff\n"), "iso");
    let order = order(&rig, &yard, media(iso, None));
    installs(&mut rig, &yard, order).await;
    assert_eq!(yard.world().servers[0].with(|s| s.kept.disk.clone()).unwrap().image, "medium");
    site.stop().await;
    yard.shutdown().await;
}

fn left_over(rig: &Rig) -> usize {
    std::fs::read_dir(rig.dir.path().join("site/media")).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_medium_is_made_for_one_server_and_goes_with_its_session() {
    let mut rig = Rig::new(23).await;
    let yard = rig.yard(1).await;
    rig.enter(&yard);
    let answers = "network --hostname={{ hostname }}\ncurl -X POST {{ ready_url|sh }}\n";
    // Without the program it is said what is missing.
    let mut config = rig.site_config();
    config.xorriso = "/nowhere/xorriso".into();
    let site = site::start(config).await.unwrap();
    let read = rig.order(vec![(ServerInventory::NAME, value(ServerInventory { server_id: 1 }))]).await;
    rig.succeeded(&read).await;
    let plain = image(&rig, iso("readme.txt", "nothing"), "iso");
    let wanted = order(&rig, &yard, media(plain, Some(answers)));
    let job = rig.order(vec![(ServerInstall::NAME, wanted)]).await[0];
    rig.until("words about the program", || {
        let jobs = rig.global.jobs.lock().unwrap();
        jobs.get(&job).and_then(|j| j.error.as_ref()).is_some_and(|e| e.contains("install the package xorriso"))
    })
    .await;
    assert_eq!((yard.world().servers[0].with(|s| s.boots), left_over(&rig)), (0, 0), "nothing was begun");
    site.stop().await;
    rig.change_job(job, JobStatus::Skipped, "").await;

    let folder = rig.dir.path().join("tree");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("readme.txt"), "an installer's medium").unwrap();
    let source = rig.dir.path().join("source.iso");
    let made =
        Command::new("xorriso").args(["-as", "mkisofs", "-quiet", "-r", "-o"]).arg(&source).arg(&folder).output();
    if !made.is_ok_and(|m| m.status.success()) {
        eprintln!("skipped: xorriso is not installed (apt-get install xorriso)");
        yard.shutdown().await;
        return;
    }
    let site = site::start(rig.site_config()).await.unwrap();
    let source = image(&rig, std::fs::read(Path::new(&source)).unwrap(), "iso");
    let wanted = order(&rig, &yard, media(source, Some(answers)));
    installs(&mut rig, &yard, wanted).await;
    assert_eq!(left_over(&rig), 0, "it held the new system's secrets");
    site.stop().await;
    yard.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn installers_keep_off_servers_of_others() {
    let mut rig = Rig::new(24).await;
    let yard = rig.yard(2).await;
    rig.enter(&yard);
    rig.server_fact(1, |s| (s.in_use, s.instance_id) = (true, Some(41)));
    let site = site::start(rig.site_config()).await.unwrap();
    let tenant = "a tenant's operating system is on this server";
    let iso = image(&rig, iso("ks.cfg", "poweroff\n"), "iso");
    for order in [
        network(&rig, &yard, &format!("{SEED}{POWEROFF}"), ReadySignal::PowerOff),
        order(&rig, &yard, media(iso, None)),
    ] {
        rig.refused(ServerInstall::NAME, order.clone(), None, tenant).await;
        rig.refused(ServerInstall::NAME, order, Some(40), "serves instance 41 now").await;
    }
    rig.server_fact(1, |s| s.hands_off = true);
    rig.cut().await;
    rig.connect().await;
    let boots = yard.world().servers[0].with(|s| (s.boots, s.kept.bmc.inserted_image()));
    assert_eq!(boots, (0, None), "it was never touched");
    site.stop().await;
    yard.shutdown().await;
}
