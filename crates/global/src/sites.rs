//! The Global Controller's side of the link: who may connect, what sites are told, what they say.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use api::{App, LinkAddress};
use async_trait::async_trait;
use crypto::{Ca, ca::SiteName};
use engine::{Dispatcher, EngineError, entity::job};
use link::{
    Queue, Tunnels,
    server::{self, Enrolment, Image},
};
use model::{
    Id,
    job::{JobCommand, JobReport},
    link::{Down, Hello, Up},
    order::OrderBook,
    snapshot::SnapshotItem,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QuerySelect,
    sea_query::Expr,
};
use serde_json::json;
use store::{
    entity::{enrolment_token, site, site_controller, site_snapshot, site_snapshot_item, template_asset},
    event::{self, NewEvent},
    snapshot, time,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{GlobalConfig, record::Recorder};

/// Days for which a site's certificate is good; sites renew after a third of that.
const CERTIFICATE_DAYS: i64 = 90;
/// Facts in one message.
const FACTS: u64 = 2000;
/// Shortest time between two looks for what is to be sent, and longest.
const LOOK: (Duration, Duration) = (Duration::from_millis(30), Duration::from_secs(1));

/// Puts orders into the queue of their site, in the transaction that makes them.
pub(crate) struct Orders {
    pub(crate) queue: Queue,
}

#[async_trait]
impl Dispatcher for Orders {
    async fn orders(&self, txn: &DatabaseTransaction, site_id: Id, book: OrderBook) -> Result<(), DbErr> {
        self.queue.push(txn, site_id, None, &Down::Orders(book)).await.map(|_| ())
    }

    async fn command(&self, txn: &DatabaseTransaction, site_id: Id, command: JobCommand) -> Result<(), DbErr> {
        self.queue.push(txn, site_id, None, &Down::Command(command)).await.map(|_| ())
    }
}

/// Serves the link. Tells the application where it is.
pub(crate) async fn serve(
    config: &GlobalConfig,
    app: &mut App,
    ca: Ca,
    queue: Queue,
    shutdown: CancellationToken,
) -> Result<(SocketAddr, Vec<JoinHandle<()>>)> {
    // Nobody is connected to a process that has just begun.
    site_controller::Entity::update_many()
        .col_expr(site_controller::Column::Connected, Expr::value(false))
        .exec(&app.db().write)
        .await?;
    let identity = ca.server(&config.link_names)?;
    let ca_pem = ca.certificate_pem().to_owned();
    let authority = crypto::tls::fingerprint(&ca_pem)?;
    // The port may be one that the system chooses, so the application is completed after the socket is there.
    let tunnels = Tunnels::default();
    let sites = Arc::new(Sites { app: std::sync::OnceLock::new(), ca, tunnels: tunnels.clone() });
    let (address, serving) =
        server::serve(&config.link_listen, &ca_pem, &identity, queue.clone(), sites.clone(), shutdown.clone())
            .await
            .with_context(|| format!("cannot serve sites on {}", config.link_listen))?;
    let name = config.link_names.first().map_or("127.0.0.1", String::as_str);
    let link = LinkAddress { url: format!("https://{name}:{}", address.port()), authority };
    *app = App::with_link(app.db().clone(), app.engine().clone(), app.sealer().clone(), Some(link));
    app.consoles().connect(Arc::new(crate::consoles::Lines { tunnels }));
    let _ = sites.app.set((app.clone(), Recorder::new(app.clone())));
    let pump = tokio::spawn(pump(app.clone(), queue, shutdown));
    tracing::info!(%address, "sites can connect");
    Ok((address, vec![serving, pump]))
}

/// Wakes the connections of sites for which there is something new: one look for all, and not at every single write.
async fn pump(app: App, queue: Queue, shutdown: CancellationToken) {
    let mut written = app.written();
    let mut known: HashMap<Id, i64> = HashMap::new();
    loop {
        tokio::select! {
            _ = written.recv() => {}
            () = tokio::time::sleep(LOOK.1) => {}
            () = shutdown.cancelled() => return,
        }
        tokio::time::sleep(LOOK.0).await;
        let looked = async {
            queue.wake_changed().await?;
            let newest = site_snapshot::Entity::find()
                .select_only()
                .columns([site_snapshot::Column::SiteId, site_snapshot::Column::Generation])
                .into_tuple::<(i64, i64)>()
                .all(&app.db().read)
                .await?;
            for (site_id, generation) in newest {
                if known.insert(site_id, generation) != Some(generation) {
                    queue.wake(site_id);
                }
            }
            Ok::<_, DbErr>(())
        };
        if let Err(error) = looked.await {
            tracing::warn!(%error, "cannot look for what sites must be told");
        }
    }
}

struct Sites {
    app: std::sync::OnceLock<(App, Recorder)>,
    ca: Ca,
    tunnels: Tunnels,
}

fn words(e: impl std::fmt::Display) -> String {
    tracing::error!(error = %e, "a site could not be answered");
    "the Global Controller has a problem of its own; it is in its log".to_owned()
}

impl Sites {
    fn app(&self) -> Result<&(App, Recorder), String> {
        self.app.get().ok_or_else(|| "the Global Controller is starting".to_owned())
    }

    /// A job's news, when the job is that site's.
    async fn report(&self, site_id: Id, report: JobReport) -> Result<(), String> {
        let (app, _) = self.app()?;
        let owner = job::Entity::find_by_id(report.job_id)
            .select_only()
            .column(job::Column::SiteId)
            .into_tuple::<Option<i64>>()
            .one(&app.db().read)
            .await
            .map_err(words)?;
        if owner != Some(Some(site_id)) {
            tracing::warn!(site_id, job = report.job_id, "a site reports a job that is not its own");
            return Ok(());
        }
        match app.engine().apply_report(&report).await {
            Ok(()) | Err(EngineError::NotFound(..)) => {
                app.wrote();
                Ok(())
            }
            Err(e) => Err(words(e)),
        }
    }

    async fn seen(&self, site: &SiteName, connected: bool, hello: Option<&Hello>) -> Result<(), DbErr> {
        let Some((app, _)) = self.app.get() else { return Ok(()) };
        let txn = app.db().begin().await?;
        let found = site_controller::Entity::find()
            .filter(site_controller::Column::SiteId.eq(site.site_id))
            .filter(site_controller::Column::CertificateSerial.eq(&site.serial))
            .one(&txn)
            .await?;
        let Some(found) = found else { return Ok(()) };
        let changed = found.connected != connected;
        let hostname = hello.map_or(found.hostname.clone(), |h| h.hostname.clone());
        let mut row: site_controller::ActiveModel = found.clone().into();
        row.connected = Set(connected);
        row.last_seen_at = Set(Some(time::now()));
        row.updated_at = Set(time::now());
        if let Some(hello) = hello {
            row.hostname = Set(hello.hostname.clone());
            row.version = Set(hello.version.clone());
            row.address = Set(hello.address.clone());
            row.capabilities = Set(json!(hello.capabilities));
            let skew = chrono::DateTime::parse_from_rfc3339(&hello.clock)
                .map(|theirs| (theirs.to_utc() - chrono::Utc::now()).num_milliseconds());
            row.clock_skew_ms = Set(skew.ok());
        }
        row.update(&txn).await?;
        if changed {
            let state = if connected { "connected" } else { "disconnected" };
            event::append(
                &txn,
                NewEvent {
                    kind: format!("site.{state}"),
                    severity: if connected { "info" } else { "warning" }.into(),
                    title: format!("Site Controller {hostname} {state}"),
                    object: Some(("site".into(), site.site_id)),
                    site_id: Some(site.site_id),
                    ..NewEvent::default()
                },
            )
            .await?;
        }
        txn.commit().await?;
        app.wrote();
        Ok(())
    }
}

#[async_trait]
impl server::Global for Sites {
    async fn enrol(&self, token: &str, csr_pem: &str, hostname: &str, version: &str) -> Result<Enrolment, String> {
        let (app, _) = self.app()?;
        let txn = app.db().begin().await.map_err(words)?;
        let found = enrolment_token::Entity::find()
            .filter(enrolment_token::Column::TokenHash.eq(crypto::token::hash(token)))
            .lock_exclusive()
            .one(&txn)
            .await
            .map_err(words)?
            .ok_or("this token is not known here; make a new one")?;
        if found.used_at.is_some() {
            return Err("this token was used already; make a new one".into());
        }
        if found.expires_at < time::now() {
            return Err(format!("this token expired at {}; make a new one", found.expires_at));
        }
        let site_id = found.site_id;
        let of = site::Entity::find_by_id(site_id)
            .one(&txn)
            .await
            .map_err(words)?
            .filter(|s| !s.decommissioned)
            .ok_or("the site of this token is gone")?;
        let (certificate_pem, name) =
            self.ca.sign_site(csr_pem, site_id, CERTIFICATE_DAYS).map_err(|e| e.to_string())?;
        let mut token_row: enrolment_token::ActiveModel = found.into();
        token_row.used_at = Set(Some(time::now()));
        token_row.update(&txn).await.map_err(words)?;
        let mut row = site_controller::new();
        row.site_id = Set(site_id);
        row.hostname = Set(hostname.chars().take(255).collect());
        row.version = Set(version.chars().take(64).collect());
        row.address = Set(String::new());
        row.capabilities = Set(json!([]));
        row.certificate_serial = Set(plain(&name.serial));
        row.enrolled_at = Set(time::now());
        row.connected = Set(false);
        row.last_seen_at = Set(None);
        row.clock_skew_ms = Set(None);
        row.insert(&txn).await.map_err(words)?;
        event::append(
            &txn,
            NewEvent {
                kind: "site.enrol".into(),
                severity: "success".into(),
                title: format!("Site Controller {hostname} enrolled for site {}", of.slug),
                object: Some(("site".into(), site_id)),
                site_id: Some(site_id),
                ..NewEvent::default()
            },
        )
        .await
        .map_err(words)?;
        txn.commit().await.map_err(words)?;
        app.wrote();
        let sealing_key = app.sealer().for_site(site_id).to_hex().to_string();
        Ok(Enrolment { site_id, certificate_pem, sealing_key })
    }

    async fn renew(&self, site: &SiteName, csr_pem: &str) -> Result<String, String> {
        let (app, _) = self.app()?;
        let (pem, name) = self.ca.sign_site(csr_pem, site.site_id, CERTIFICATE_DAYS).map_err(|e| e.to_string())?;
        // The old certificate is good until the next one is used: it may be lost on the way.
        let txn = app.db().begin().await.map_err(words)?;
        let found = site_controller::Entity::find()
            .filter(site_controller::Column::CertificateSerial.eq(&site.serial))
            .one(&txn)
            .await
            .map_err(words)?
            .ok_or("this Site Controller is not known any more; enrol it again")?;
        let mut next = site_controller::ActiveModel::from(found).reset_all();
        next.id = sea_orm::ActiveValue::NotSet;
        next.certificate_serial = Set(plain(&name.serial));
        next.connected = Set(false);
        next.insert(&txn).await.map_err(words)?;
        txn.commit().await.map_err(words)?;
        Ok(pem)
    }

    async fn admit(&self, site: &SiteName) -> Result<(), String> {
        let (app, _) = self.app()?;
        let known = site_controller::Entity::find()
            .filter(site_controller::Column::SiteId.eq(site.site_id))
            .filter(site_controller::Column::CertificateSerial.eq(&site.serial))
            .one(&app.db().read)
            .await
            .map_err(words)?;
        let of = site::Entity::find_by_id(site.site_id).one(&app.db().read).await.map_err(words)?;
        if known.is_none() || of.is_none_or(|s| s.decommissioned) {
            return Err("this certificate is not (or no longer) accepted: enrol the site again".into());
        }
        Ok(())
    }

    async fn connected(&self, site: &SiteName, hello: &Hello, is_new: bool) -> Result<(), String> {
        tracing::info!(site = site.site_id, hostname = hello.hostname, version = hello.version, "a site is connected");
        self.seen(site, true, Some(hello)).await.map_err(words)?;
        let (app, _) = self.app()?;
        // A certificate that a newer one has replaced is not accepted any more.
        site_controller::Entity::delete_many()
            .filter(site_controller::Column::SiteId.eq(site.site_id))
            .filter(site_controller::Column::Hostname.eq(&hello.hostname))
            .filter(site_controller::Column::CertificateSerial.ne(&site.serial))
            .filter(site_controller::Column::EnrolledAt.lt(time::now()))
            .filter(site_controller::Column::Id.lt(self.id_of(site).await.map_err(words)?))
            .exec(&app.db().write)
            .await
            .map_err(words)?;
        if is_new {
            let jobs = app.engine().reorder(site.site_id).await.map_err(words)?;
            tracing::warn!(
                site = site.site_id,
                jobs,
                "the site's database began anew; its open jobs were ordered again"
            );
        }
        Ok(())
    }

    async fn disconnected(&self, site: &SiteName) {
        if let Err(error) = self.seen(site, false, None).await {
            tracing::error!(%error, "cannot note that a site is gone");
        }
    }

    async fn message(&self, site_id: Id, up: Up) -> Result<(), String> {
        let (app, recorder) = self.app()?;
        match up {
            Up::Job(report) => self.report(site_id, report).await,
            Up::Observed(observation) => recorder.observed(site_id, observation).await.map_err(words),
            Up::Notice { severity, title, message } => {
                let new = NewEvent {
                    kind: "site.notice".into(),
                    severity,
                    title,
                    message,
                    object: Some(("site".into(), site_id)),
                    site_id: Some(site_id),
                    ..NewEvent::default()
                };
                event::append(&app.db().write, new).await.map_err(words)?;
                app.wrote();
                Ok(())
            }
        }
    }

    async fn snapshot(&self, site_id: Id, generation: i64) -> Result<Option<Down>, String> {
        let (app, _) = self.app()?;
        let news = snapshot::since(&app.db().read, site_id, generation, FACTS).await.map_err(words)?;
        let Some(newest) = news.last().map(|n| n.generation) else { return Ok(None) };
        let mut items = Vec::with_capacity(news.len());
        for row in news {
            let value = serde_json::from_value(row.value).map_err(words)?;
            items.push(SnapshotItem { key: row.item_key, generation: row.generation, value });
        }
        Ok(Some(Down::Snapshot { generation: newest, items }))
    }

    async fn image(&self, site_id: Id, sha256: &str) -> Result<Image, String> {
        let (app, _) = self.app()?;
        let db = &app.db().read;
        // A site may fetch what it was told of, and nothing else.
        let told = site_snapshot_item::Entity::find()
            .filter(site_snapshot_item::Column::SiteId.eq(site_id))
            .filter(site_snapshot_item::Column::ItemKey.eq(format!("image/{sha256}")))
            .one(db)
            .await
            .map_err(words)?;
        if told.is_none_or(|t| t.value.is_null()) {
            return Err("this site has no such image".into());
        }
        let asset = template_asset::Entity::find()
            .filter(template_asset::Column::Sha256.eq(sha256))
            .filter(template_asset::Column::Content.is_not_null())
            .one(db)
            .await
            .map_err(words)?;
        asset.and_then(|a| a.content).map(Image::Bytes).ok_or_else(|| "the image is not stored here".into())
    }

    fn tunnels(&self) -> Tunnels {
        self.tunnels.clone()
    }
}

impl Sites {
    async fn id_of(&self, site: &SiteName) -> Result<Id, DbErr> {
        let Some((app, _)) = self.app.get() else { return Ok(0) };
        let found = site_controller::Entity::find()
            .filter(site_controller::Column::CertificateSerial.eq(&site.serial))
            .one(&app.db().read)
            .await?;
        Ok(found.map_or(0, |f| f.id))
    }
}

/// A serial as it reads from a certificate: without leading zero bytes.
fn plain(serial: &str) -> String {
    serial.trim_start_matches("00").to_owned()
}
