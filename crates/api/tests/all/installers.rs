//! What a template's files make of an installation, and what is said when one is missing: before anything is deployed.

use crate::deploy_rig::Rig;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use model::{
    order::{Order, ServerInstall},
    template::{Erase, InstallMethod, OsInstall, ReadySignal},
};
use sea_orm::EntityTrait;
use serde_json::{Value, json};
use store::entity::site_snapshot_item;

fn body(method: &str, ready: &str, build: bool, tags: &[&str]) -> Value {
    json!({
        "name": format!("{method} {ready} {build} {}", tags.join(" ")),
        "device": {"type": "server", "bootMode": "uefi", "architecture": "x86_64"},
        "install": {"method": method, "driveType": "local_drive", "readyMethod": ready}, "imageBuild": {"required": build},
        "os": {"name": "Debian", "version": "12", "sshPort": 2222, "credential": {"username": "steel", "passwordType": "generated"}},
        "visibility": "public", "tags": tags,
    })
}

/// A template with these files: usage, path and text, or a binary one where there is none.
async fn template(rig: &Rig, body: Value, files: &[(&str, &str, Option<&str>)]) -> i64 {
    let id = rig.ok(201, "POST", "/os-templates", body).await["id"].as_i64().unwrap();
    for file in files {
        add(rig, id, *file).await;
    }
    id
}

async fn add(rig: &Rig, id: i64, (usage, path, text): (&str, &str, Option<&str>)) {
    let mut file = json!({
        "name": path.rsplit('/').next(), "path": path, "templatingEngine": text.is_some(),
        "mimeType": if text.is_some() { "text/plain" } else { "application/octet-stream" },
    });
    match text {
        Some(text) => file["contentBase64"] = STANDARD.encode(text).into(),
        None => {
            file["url"] = format!("https://mirror.example{path}").into();
            file["checksum"] = crypto::token::digest(path.as_bytes()).into();
            file["size"] = 1000.into();
        }
    }
    rig.ok(201, "POST", "/template-assets", json!({"templateId": id, "usage": usage, "file": file})).await;
}

async fn os(rig: &Rig, id: i64) -> Result<OsInstall, String> {
    api::kinds::os_template::os_install(&rig.db.read, id).await.map_err(|e| e.message)
}

const KERNEL: (&str, &str, Option<&str>) = ("generic", "/boot/vmlinuz-6.1", None);
const INITRD: (&str, &str, Option<&str>) = ("generic", "/boot/initrd.gz", None);
const ISO: (&str, &str, Option<&str>) = ("source_image", "/debian.iso", None);
const ARGUMENTS: (&str, &str, Option<&str>) = ("generic", "/kernel-arguments", Some("url={{ seed_url }}preseed.cfg"));
const PRESEED: (&str, &str, Option<&str>) =
    ("build_component", "/install/preseed.cfg", Some("d-i x {{ hostname }} {{ secrets.db }}"));

async fn the_ways_of_installing(rig: Rig) {
    let id = template(&rig, body("copy", "wait_for_ssh", false, &[]), &[KERNEL, INITRD, ARGUMENTS, PRESEED]).await;
    let made = os(&rig, id).await.unwrap();
    assert_eq!(made.ready, ReadySignal::Ssh { port: 2222 });
    assert_eq!(made.image.sha256, crypto::token::digest(b"/boot/vmlinuz-6.1"));
    let InstallMethod::Network { initrds, arguments } = &made.method else { panic!("{:?}", made.method) };
    assert_eq!((initrds[0].name.as_str(), arguments.contains("seed_url")), ("initrd.gz", true));
    assert_eq!(made.files.keys().collect::<Vec<_>>(), ["preseed.cfg"]);

    let id = template(&rig, body("oob", "wait_for_power_off", true, &["keep-data-drives"]), &[ISO, PRESEED]).await;
    add(&rig, id, ("build_component", "/extra/driver.bin", None)).await;
    let made = os(&rig, id).await.unwrap();
    let InstallMethod::Media { rebuild: true, components } = &made.method else { panic!("{:?}", made.method) };
    assert_eq!((components[0].name.as_str(), &made.image.format[..]), ("/extra/driver.bin", "iso"));
    assert_eq!((made.files["preseed.cfg"].path.as_str(), made.erase), ("/install/preseed.cfg", Some(Erase::First)));
    assert_eq!(made.images().count(), 2);

    let files = [
        ("generic", "/boot/wimboot", None),
        ("generic", "/w/BCD", None),
        ("generic", "/w/boot.wim", None),
        ("generic", "/startnet.cmd", Some("x")),
    ];
    let id = template(&rig, body("copy", "wait_for_power_off", false, &["w"]), &files).await;
    let InstallMethod::Network { initrds, .. } = os(&rig, id).await.unwrap().method else { panic!("not Windows PE") };
    assert_eq!(initrds.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["BCD", "boot.wim"]);

    for (n, (method, ready, build, files, words)) in [
        ("copy", "wait_for_power_off", false, vec![], "no disk image"),
        ("copy", "wait_for_power_off", false, vec![ISO], "cannot be written to a disk"),
        ("copy", "wait_for_power_off", false, vec![KERNEL], "no initial RAM disk"),
        ("copy", "wait_for_power_off", false, vec![INITRD], "no kernel"),
        ("copy", "wait_for_power_off", false, vec![KERNEL, INITRD, PRESEED], "kernel-arguments"),
        ("copy", "wait_for_power_off", false, vec![KERNEL, INITRD, ARGUMENTS], "would wait for a person"),
        (
            "copy",
            "wait_for_signal_from_os",
            false,
            vec![KERNEL, INITRD, ARGUMENTS, PRESEED],
            "posts to {{ ready_url }}",
        ),
        ("copy", "wait_for_api_response", false, vec![KERNEL, INITRD, ARGUMENTS, PRESEED], "no text asset ready-url"),
        ("oob", "wait_for_power_off", false, vec![PRESEED], "no installation medium"),
        ("oob", "wait_for_power_off", true, vec![ISO], "nothing to put on the medium"),
        ("onie", "wait_for_power_off", false, vec![], "not for servers"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = template(&rig, body(method, ready, build, &[&n.to_string()]), &files).await;
        let problem = os(&rig, id).await.unwrap_err();
        assert!(problem.contains(words), "{n}: {problem}");
    }
}

async fn a_design_says_what_its_template_lacks_and_an_order_has_all(rig: Rig) {
    rig.ok(201, "POST", "/secrets", json!({"name": "db", "value": "hunter2", "usage": "OSAsset"})).await;
    let id = template(&rig, body("copy", "wait_for_power_off", false, &[]), &[KERNEL, INITRD, PRESEED]).await;
    let (infrastructure, group, _) = rig.design("shop", 1).await;
    let path = format!("/server-instance-groups/{group}/config");
    rig.ok(200, "PATCH", &path, json!({"osTemplateId": id})).await;
    let plan = rig.plan(infrastructure, false).await.to_string();
    assert!(plan.contains("kernel-arguments") && plan.contains("complete the template"), "{plan}");
    add(&rig, id, ARGUMENTS).await;
    rig.ok(202, "POST", &format!("/infrastructures/{infrastructure}/actions/deploy"), Rig::options(false)).await;
    let jobs = rig.jobs_of(infrastructure).await;
    let install = jobs.iter().find(|j| j.function == ServerInstall::NAME).unwrap();
    assert!(install.timeout_seconds > 3 * 3600, "an installer takes its time");
    let spec = serde_json::from_value::<ServerInstall>(install.payload.clone()).unwrap().spec;
    assert!(matches!(spec.os.method, InstallMethod::Network { .. }));
    assert_eq!(spec.secrets.keys().collect::<Vec<_>>(), ["db"], "answer files speak of secrets too");
    let facts = site_snapshot_item::Entity::find().all(&rig.db.read).await.unwrap();
    for path in [KERNEL.1, INITRD.1] {
        let digest = crypto::token::digest(path.as_bytes());
        assert!(facts.iter().any(|f| f.item_key.contains(&digest)), "the site fetches {path} beforehand");
    }
}

on_both! {
    the_ways_of_installing,
    a_design_says_what_its_template_lacks_and_an_order_has_all,
}
