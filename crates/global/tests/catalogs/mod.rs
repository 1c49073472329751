//! Firmware catalogs that are fetched: from a server of this test, with all that can be wrong with one.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use global::functions::firmware_catalog_fetch::FirmwareCatalogFetch;
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait, QueryOrder};
use serde_json::{Value, json};
use store::{Database, entity};

use super::*;

/// What the server answers, and what it was asked.
#[derive(Default)]
struct Site {
    body: Mutex<Vec<u8>>,
    etag: Mutex<String>,
    status: Mutex<Option<StatusCode>>,
    asked: Mutex<Vec<String>>,
    full: AtomicUsize,
}

async fn answer(State(site): State<Arc<Site>>, uri: Uri, headers: HeaderMap) -> Response {
    site.asked.lock().unwrap().push(uri.to_string());
    if let Some(status) = *site.status.lock().unwrap() {
        return status.into_response();
    }
    let etag = site.etag.lock().unwrap().clone();
    if !etag.is_empty() && headers.get(header::IF_NONE_MATCH).is_some_and(|h| *h == *etag) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    site.full.fetch_add(1, Ordering::SeqCst);
    ([(header::ETAG, etag)], site.body.lock().unwrap().clone()).into_response()
}

async fn serve() -> (Arc<Site>, String) {
    crypto::install_provider();
    let site = Arc::new(Site::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(answer).with_state(site.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (site, format!("http://{address}"))
}

/// A job of the function, to its end. Its error, or its answer.
async fn fetch(engine: &Engine, db: &Database, catalog: Id) -> Result<Value, String> {
    let spec = JobSpec {
        key: "fetch".into(),
        function: api::kinds::firmware_catalog_fetch::FUNCTION.into(),
        title: "Fetch".into(),
        site_id: None,
        target: Target { kind: "firmware_catalog".into(), id: catalog, generation: 0 },
        payload: json!({"catalog_id": catalog}),
        depends_on: Vec::new(),
        retry: RetryPolicy { max: 0, min_seconds: 1, max_seconds: 1 },
        timeout_seconds: 60,
        refs: Default::default(),
        can_be_skipped: true,
        requires_confirmation: false,
    };
    let txn = db.begin().await.unwrap();
    let group = NewGroup { kind: "firmware_catalog_fetch".into(), description: "Fetch".into(), ..Default::default() };
    let made = engine.create_group(&txn, group, vec![spec]).await.unwrap();
    txn.commit().await.unwrap();
    engine.wake();
    let id = made.job_ids["fetch"];
    for _ in 0..600 {
        let job = job::Entity::find_by_id(id).one(&db.read).await.unwrap().unwrap();
        match job.status.as_str() {
            "returned_success" => return Ok(job.response),
            "thrown_error" => return Err(job.error.unwrap_or_default()),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("the job does not end");
}

async fn catalog(db: &Database, vendor: &str, url: &str) -> Id {
    let mut row = entity::firmware_catalog::new();
    row.name = Set(format!("{vendor} {url}"));
    row.vendor = Set(vendor.into());
    row.vendor_url = Set(Some(url.into()));
    row.update_type = Set("online".into());
    row.vendor_server_types = Set(json!([]));
    row.vendor_configuration = Set(json!({}));
    row.insert(&db.write).await.unwrap().id
}

async fn images(db: &Database) -> Vec<(String, String, String)> {
    let rows = entity::firmware_binary::Entity::find().order_by_asc(entity::firmware_binary::Column::Id);
    let rows = rows.all(&db.read).await.unwrap();
    rows.into_iter().map(|b| (b.name, b.package_version.unwrap_or_default(), b.vendor_download_url)).collect()
}

fn plain(images: &[(&str, &str)]) -> Vec<u8> {
    let images: Vec<Value> = images
        .iter()
        .map(|(name, version)| json!({"id": name, "name": name, "version": version, "url": format!("files/{name}.bin"), "sha256": "ab".repeat(32), "size": 7, "devices": [name]}))
        .collect();
    json!({"format": "steelyard-firmware-catalog/1", "images": images}).to_string().into_bytes()
}

pub async fn catalogs_are_fetched(db: Database) {
    api::migrate(&db).await.unwrap();
    let function: Arc<dyn JobFunction> = Arc::new(FirmwareCatalogFetch::new(db.clone()));
    let config = EngineConfig { idle: Duration::from_millis(50), ..EngineConfig::default() };
    let engine = Engine::new(db.clone(), vec![function], config, None, None);
    let stop = CancellationToken::new();
    let (running, token) = (engine.clone(), stop.clone());
    tokio::spawn(async move { running.run(token).await });
    let (site, base) = serve().await;
    let id = catalog(&db, "dell", &format!("{base}/repo/catalog.json")).await;
    let mut by_hand = entity::firmware_binary::new();
    by_hand.catalog_id = Set(id);
    by_hand.name = Set("by hand".into());
    by_hand.reboot_required = Set(false);
    by_hand.update_severity = Set("unknown".into());
    by_hand.vendor_download_url = Set("http://127.0.0.1/x".into());
    by_hand.supported_devices = Set(json!([]));
    by_hand.supported_systems = Set(json!([]));
    by_hand.vendor = Set(json!({}));
    by_hand.insert(&db.write).await.unwrap();

    *site.body.lock().unwrap() = plain(&[("BIOS", "1.0"), ("BMC", "7.0")]);
    *site.etag.lock().unwrap() = "\"one\"".into();
    let told = fetch(&engine, &db, id).await.unwrap();
    assert_eq!((&told["added"], &told["removed"]), (&json!(2), &json!(0)), "{told}");
    assert_eq!(images(&db).await[1], ("BIOS".into(), "1.0".into(), format!("{base}/repo/files/BIOS.bin")));

    // Not changed: not sent again.
    let told = fetch(&engine, &db, id).await.unwrap();
    assert_eq!((&told["changed"], site.full.load(Ordering::SeqCst)), (&json!(false), 1));

    // Another one: what is gone goes, what changed changes, what a person entered stays.
    *site.body.lock().unwrap() = plain(&[("BIOS", "2.0"), ("NIC", "3.0")]);
    *site.etag.lock().unwrap() = "\"two\"".into();
    let told = fetch(&engine, &db, id).await.unwrap();
    assert_eq!((&told["added"], &told["updated"], &told["removed"]), (&json!(1), &json!(1), &json!(1)), "{told}");
    let now = images(&db).await;
    assert_eq!(now.iter().map(|i| i.0.as_str()).collect::<Vec<_>>(), ["by hand", "BIOS", "NIC"]);

    // What is wrong is said, and what was known stays.
    let noted =
        async || entity::firmware_catalog::Entity::find_by_id(id).one(&db.read).await.unwrap().unwrap().sync.unwrap();
    *site.etag.lock().unwrap() = "\"three\"".into();
    for (status, body, words) in [
        (None, b"<html>a proxy's page</html>".to_vec(), "neither JSON nor XML"),
        (None, plain(&[]), "no image"),
        (None, b"{\"format\": \"steelyard-firmware-catalog/1\", \"images\": [{\"name\": 1}]}".to_vec(), "images[0]"),
        (Some(StatusCode::NOT_FOUND), Vec::new(), "404"),
        (Some(StatusCode::BAD_GATEWAY), Vec::new(), "502"),
    ] {
        *site.status.lock().unwrap() = status;
        *site.body.lock().unwrap() = body;
        let error = fetch(&engine, &db, id).await.unwrap_err();
        assert!(error.contains(words) || error.contains("root element"), "{words}: {error}");
        assert_eq!(noted().await["status"], "failed");
        assert!(!noted().await["error"].as_str().unwrap().is_empty());
    }
    *site.status.lock().unwrap() = None;
    assert_eq!(images(&db).await, now);
    assert_eq!(noted().await["etag"], "\"two\"");
    let nowhere = catalog(&db, "dell", "http://127.0.0.1:9/catalog.json").await;
    assert!(fetch(&engine, &db, nowhere).await.unwrap_err().contains("cannot be reached"));

    // By the proxy of the configuration: it is asked for the whole address.
    *site.body.lock().unwrap() = plain(&[("BIOS", "2.0"), ("NIC", "3.0")]);
    let mut setting = entity::setting::new();
    setting.section = Set("http".into());
    setting.value = Set(json!({"proxyUrl": base}));
    setting.insert(&db.write).await.unwrap();
    let far = catalog(&db, "lenovo", "http://firmware.example/catalog.json").await;
    let told = fetch(&engine, &db, far).await.unwrap();
    assert_eq!(told["added"], 2);
    assert_eq!(site.asked.lock().unwrap().last().unwrap(), "http://firmware.example/catalog.json");
    stop.cancel();
}
