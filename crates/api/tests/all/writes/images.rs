//! OS templates, their files, and images that people bring.

use super::{Table, id};
use serde_json::{Value, json};

fn template(label: &str) -> Value {
    json!({
        "name": "Debian", "label": label, "device": {"type": "server", "bootMode": "uefi", "architecture": "x86_64"},
        "install": {"method": "copy", "driveType": "local_drive", "readyMethod": "wait_for_signal_from_os"}, "imageBuild": {"required": false},
        "os": {"name": "Debian", "version": "12", "credential": {"username": "steel", "passwordType": "generated"}, "sshPort": 22},
    })
}

pub async fn run(t: &Table) {
    let made = t.write("createOSTemplate", "/os-templates", template("mine")).await;
    t.conflict("createOSTemplate", "/os-templates", template("mine"), "already").await;
    let other = t.again("createOSTemplate", "/os-templates", template("other")).await;
    let of = |v: &Value| format!("/os-templates/{}", id(v));
    t.write("updateOSTemplate", &of(&made), template("mine")).await;
    t.conflict("updateOSTemplate", &of(&made), template("other"), "already").await;

    let asset = |name: &str| {
        json!({
            "templateId": id(&made), "usage": "generic",
            "file": {"name": name, "mimeType": "text/plain", "path": format!("/{name}"), "templatingEngine": false, "contentBase64": "aGVsbG8="},
        })
    };
    let file = t.write("createTemplateAsset", "/template-assets", asset("motd")).await;
    let path = format!("/template-assets/{}", id(&file));
    t.write("updateTemplateAsset", &path, asset("motd")).await;
    t.write("deleteTemplateAsset", &path, Value::Null).await;

    let (design, _, _) = t.rig.design("images", 1).await;
    t.conflict("deleteOSTemplate", "/os-templates/1", Value::Null, "is used by").await;
    t.rig.ok(204, "DELETE", &format!("/infrastructures/{design}"), Value::Null).await;
    t.write("deleteOSTemplate", &of(&other), Value::Null).await;

    let body = |label: &str| json!({"label": label, "accessUrl": "http://127.0.0.1/rescue.iso"});
    let iso = t.write("createCustomIso", "/custom-isos", body("rescue")).await;
    t.conflict("createCustomIso", "/custom-isos", body("rescue"), "already").await;
    let path = format!("/custom-isos/{}", id(&iso));
    t.write("updateCustomIso", &path, json!({"name": "Rescue"})).await;
    // One that is public may be seen by all, so that nobody takes it for missing.
    let other = t.again("createCustomIso", "/custom-isos", body("tools")).await;
    t.write("deleteCustomIso", &format!("/custom-isos/{}", id(&other)), Value::Null).await;
    t.write("makeCustomIsoPublic", &format!("{path}/actions/make-public"), Value::Null).await;
    t.write("bootCustomIsoIntoServer", &format!("{path}/actions/boot-into-server/1"), Value::Null).await;
    t.server(2, |s| s.status = sea_orm::ActiveValue::Set("cleaning".into())).await;
    t.conflict("bootCustomIsoIntoServer", &format!("{path}/actions/boot-into-server/2"), Value::Null, "cleaning").await;
    t.server(2, |s| s.status = sea_orm::ActiveValue::Set("available".into())).await;
    t.again("deleteCustomIso", &path, Value::Null).await;
    t.again("createCustomIso", "/custom-isos", body("kept")).await;
    t.again("createTemplateAsset", "/template-assets", asset("kept")).await;
}
