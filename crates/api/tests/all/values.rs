//! Variables and secrets reach the templates of those who may use them, and nobody else's.

use crate::deploy_rig::Rig;
use model::{
    order::{Order, ServerInstall},
    secret::Sealed,
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait};
use serde_json::json;
use store::entity;

const TEXT: &[u8] = b"#cloud-config\nruncmd: [\"login {{ secrets.db }} {{ secrets.mail }}\"]\n";

async fn user_data(rig: &Rig) {
    let mut row = entity::template_asset::new();
    row.os_template_id = Set(1);
    row.usage = Set("generic".into());
    row.name = Set("user-data".into());
    row.mime_type = Set("text/plain".into());
    row.size = Set(TEXT.len() as i64);
    row.format = Set("raw".into());
    row.is_template = Set(true);
    row.content = Set(Some(TEXT.to_vec()));
    row.tags = Set(json!([]));
    row.insert(&rig.db.write).await.unwrap();
}

/// The order of the newest installation of an infrastructure.
async fn order(rig: &Rig, id: i64) -> ServerInstall {
    let jobs = rig.jobs_of(id).await;
    let install = jobs.iter().find(|j| j.function == ServerInstall::NAME).unwrap();
    serde_json::from_value(install.payload.clone()).unwrap()
}

async fn templates_get_their_values(rig: Rig) {
    user_data(&rig).await;
    for (name, value, usage) in [
        ("db", "hunter2", "OSAsset"),
        ("mail", "swordfish", "OSAsset"),
        ("other", "unasked", "OSAsset"),
        ("db2", "x", "Copy"),
    ] {
        rig.ok(201, "POST", "/secrets", json!({"name": name, "value": value, "usage": usage})).await;
    }
    rig.ok(201, "POST", "/variables", json!({"name": "motd", "value": "hello"})).await;
    rig.ok(201, "POST", "/variables", json!({"name": "proxy", "value": "far"})).await;
    rig.ok(201, "POST", "/variables", json!({"name": "script", "value": "no", "usage": "JavaScript"})).await;
    let (id, _, _) = rig.design("shop", 1).await;
    let path = format!("/infrastructures/{id}/config");
    rig.ok(200, "PATCH", &path, json!({"customVariables": {"proxy": "near"}})).await;
    rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/deploy"), Rig::options(false)).await;
    let spec = order(&rig, id).await.spec;
    assert_eq!((&spec.variables["motd"], &spec.variables["proxy"]), (&json!("hello"), &json!("near")));
    assert!(!spec.variables.contains_key("script"), "it is meant for something else");
    assert_eq!(spec.secrets.keys().collect::<Vec<_>>(), ["db", "mail"], "those that the template speaks of");
    let site = rig.sealer.for_site(1);
    assert_eq!(site.open(&spec.secrets["db"]).unwrap().0, "hunter2");
    assert!(rig.sealer.for_site(2).open(&spec.secrets["db"]).is_err(), "for this site alone");
    let plans = format!("{:?}", entity::deploy_plan::Entity::find().all(&rig.db.read).await.unwrap());
    let events = format!("{:?}", entity::event::Entity::find().all(&rig.db.read).await.unwrap());
    assert!(!plans.contains("hunter2") && !events.contains("hunter2"));
    rig.drive(id, |_| true).await;
    rig.until_finished(id).await;
    let plan = rig.plan(id, false).await;
    assert_eq!(plan["changes"], json!([]), "values of templates change no design: {plan}");
}

async fn a_tenants_template_shows_nobody_elses_secrets(rig: Rig) {
    user_data(&rig).await;
    rig.ok(201, "POST", "/secrets", json!({"name": "db", "value": "hunter2"})).await;
    let body = json!({"displayName": "Ann", "email": "ann@example.com", "accessLevel": "user", "password": "long enough", "createWithAccount": true});
    let ann = rig.ok(201, "POST", "/users", body).await["id"].as_i64().unwrap();
    let token = rig.login("ann@example.com", "long enough").await;
    let own = rig.send(&token, "POST", "/secrets", None, Some(json!({"name": "mail", "value": "mine"}))).await;
    assert_eq!(own.status, 201, "{}", own.body);
    let (id, _, _) = rig.design("shop", 1).await;
    // Her template, her infrastructure.
    let mut row = entity::os_template::ActiveModel { id: Set(1), ..Default::default() };
    row.created_by = Set(ann);
    row.update(&rig.db.write).await.unwrap();
    let mut row = entity::infrastructure::ActiveModel { id: Set(id), ..Default::default() };
    row.owner_id = Set(ann);
    row.update(&rig.db.write).await.unwrap();
    rig.ok(202, "POST", &format!("/infrastructures/{id}/actions/deploy"), Rig::options(false)).await;
    let spec = order(&rig, id).await.spec;
    assert_eq!(spec.secrets.keys().collect::<Vec<_>>(), ["mail"]);
    let value: &Sealed = &spec.secrets["mail"];
    assert_eq!(rig.sealer.for_site(1).open(value).unwrap().0, "mine");
}

on_both! {
    templates_get_their_values,
    a_tenants_template_shows_nobody_elses_secrets,
}
