//! Subscriptions at BMCs: made once, looked at now and then, made again when the BMC has lost them, taken away when the server goes.
//! They are kept in the site's store, so that a restart of the site does not ask all BMCs.

use std::{sync::Arc, time::Duration};

use bmc::{BmcError, Driver, EventTarget, EventWay, Events};
use futures::StreamExt;
use model::{Id, bmc::BmcEndpoint, secret::Clear, snapshot::SiteServer};
use sea_orm::{ActiveModelTrait, DbErr, EntityTrait, sea_query::OnConflict};

use super::{Instant, events::entries};
use crate::{Site, entity::bmc_subscription as row, session::now};

/// How often a subscription is looked at.
const CHECK: Duration = Duration::from_mins(30);
/// How soon it is tried again to make one.
const AGAIN: Duration = Duration::from_mins(10);
/// What a BMC cannot do it may be able to do after an update.
const CANNOT: Duration = Duration::from_hours(12);
/// How long it is tried to take away what is at the BMC of a server that is gone, and how often.
const FORGET: (i64, Duration) = (24 * 3600, Duration::from_mins(5));
/// Streams that are listened to at the same time, at most: each takes a connection.
const STREAMS: usize = 1000;

/// How a BMC tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Way {
    /// Nobody has asked it yet.
    #[default]
    Unknown,
    /// It sends events; the path of the subscription.
    Push(String),
    /// It lets us listen at that path.
    Stream(String),
    /// It does not, for that reason, and it is as good as certain.
    Never(String),
    /// It did not, for that reason.
    NotYet(String),
}

impl Way {
    /// When to look again.
    pub(super) fn check(&self) -> Duration {
        match self {
            Self::Unknown | Self::NotYet(_) => AGAIN,
            Self::Push(_) | Self::Stream(_) => CHECK,
            Self::Never(_) => CANNOT,
        }
    }
}

/// Listens for as long as it is kept.
pub(super) struct Listening(tokio::task::AbortHandle);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is at BMCs, as it was when the site stopped.
pub(super) async fn load(site: &Arc<Site>) {
    site.watch.follow(site);
    let rows = match row::Entity::find().all(&site.db.read).await {
        Ok(rows) => rows,
        Err(error) => return tracing::warn!(%error, "the subscriptions at BMCs cannot be read"),
    };
    let mut gone = Vec::new();
    {
        let mut inner = site.watch.inner();
        let known = Instant::now();
        for row in rows {
            let Some(of) = inner.servers.get_mut(&row.server_id) else {
                gone.push(row.server_id);
                continue;
            };
            let here = site.events.as_ref().is_some_and(|e| row.ours == e.target(row.server_id).ours);
            if here {
                of.way = Way::Push(row.path);
                let age = Duration::from_secs(u64::try_from(now() - row.checked_at).unwrap_or(0));
                of.way_due = Some(known + super::jittered(CHECK.saturating_sub(age)));
            }
        }
    }
    forget(site, gone);
}

/// Sees to it that a BMC tells of itself, if it can.
pub(super) async fn ensure(site: &Site, server: &SiteServer, driver: &Driver, known: &Way) -> Way {
    let Some(events) = &site.events else { return Way::Never("this site takes no events".into()) };
    let Ok(redfish) = driver.redfish() else { return Way::Never("IPMI has no events of that kind".into()) };
    if server.hands_off {
        return Way::Never("the server is read, and nothing of it changed".into());
    }
    if site.absence.in_doubt() {
        return known.clone();
    }
    let target = events.target(server.id);
    if let Way::Push(path) = known
        && redfish.subscribed(path, &target).await.unwrap_or(false)
    {
        note(site, server, path, &target).await;
        return known.clone();
    }
    match redfish.subscribe(&target).await {
        Ok(EventWay::Push(path)) => {
            tracing::debug!(server = server.id, path, "its BMC sends events");
            note(site, server, &path, &target).await;
            Way::Push(path)
        }
        Ok(EventWay::Stream(path)) => Way::Stream(path),
        Err(e @ BmcError::Unsupported { .. }) => Way::Never(e.to_string()),
        Err(e) => {
            tracing::debug!(server = server.id, error = %e, "no subscription to its events");
            Way::NotYet(e.to_string())
        }
    }
}

/// Keeps what is at a BMC, with the way to it: the server may be gone when it has to be taken away.
async fn note(site: &Site, server: &SiteServer, path: &str, target: &EventTarget) {
    let Some(endpoint) = server.bmc.as_ref().and_then(|b| serde_json::to_value(b).ok()) else { return };
    let model = row::Model {
        server_id: server.id,
        endpoint,
        path: path.to_owned(),
        ours: target.ours.clone(),
        checked_at: now(),
    };
    let stored = async {
        let before = row::Entity::find_by_id(server.id).one(&site.db.read).await?;
        // Another destination of ours, from when this site had another address.
        if let Some(old) = before.filter(|b| b.ours != model.ours) {
            let taken = site.bmc(server).map(|d| async move {
                if let Ok(redfish) = d.redfish() {
                    let _ = redfish.unsubscribe(&old.ours).await;
                }
            });
            if let Ok(taken) = taken {
                taken.await;
            }
        }
        let columns = [row::Column::Endpoint, row::Column::Path, row::Column::Ours, row::Column::CheckedAt];
        row::Entity::insert(row::ActiveModel::from(model).reset_all())
            .on_conflict(OnConflict::column(row::Column::ServerId).update_columns(columns).to_owned())
            .exec_without_returning(&site.db.write)
            .await?;
        Ok::<_, DbErr>(())
    };
    if let Err(error) = stored.await {
        tracing::warn!(%error, server = server.id, "a subscription cannot be noted");
    }
}

/// Takes away what is at the BMCs of servers that are gone, in the background.
pub(super) fn forget(site: &Arc<Site>, gone: Vec<Id>) {
    if gone.is_empty() {
        return;
    }
    let site = site.clone();
    tokio::spawn(async move {
        futures::stream::iter(gone)
            .for_each_concurrent(8, |id| {
                let site = &site;
                async move {
                    let begun = now();
                    loop {
                        match taken_away(site, id).await {
                            Ok(()) => break,
                            Err(why) if now() - begun > FORGET.0 => {
                                tracing::warn!(
                                    server = id,
                                    why,
                                    "its BMC keeps a subscription to events that nobody reads"
                                );
                                let _ = row::Entity::delete_by_id(id).exec(&site.db.write).await;
                                break;
                            }
                            Err(why) => {
                                tracing::debug!(server = id, why, "a subscription could not be taken away yet");
                                tokio::time::sleep(FORGET.1).await;
                            }
                        }
                    }
                }
            })
            .await;
    });
}

async fn taken_away(site: &Site, id: Id) -> Result<(), String> {
    // It may have come back meanwhile.
    if site.facts.server(id).is_some_and(|s| s.bmc.is_some()) {
        return Ok(());
    }
    let words = |e: DbErr| e.to_string();
    let Some(found) = row::Entity::find_by_id(id).one(&site.db.read).await.map_err(words)? else { return Ok(()) };
    let endpoint: BmcEndpoint = serde_json::from_value(found.endpoint).map_err(|e| e.to_string())?;
    let password: Clear = site.open_secret(&endpoint.password, "a BMC").map_err(|e| e.message)?;
    let driver = crate::equipment::driver(&endpoint, password).map_err(|e| e.message)?;
    let done = async {
        let redfish = driver.redfish()?;
        redfish.unsubscribe(&found.ours).await
    };
    let done = done.await;
    driver.close().await;
    match done {
        Ok(()) | Err(BmcError::Unsupported { .. }) => {
            row::Entity::delete_by_id(id).exec(&site.db.write).await.map_err(words)?;
            tracing::debug!(server = id, "its BMC sends no events any more");
            Ok(())
        }
        Err(e) => Err(e.to_string()),
    }
}

/// Listens at a BMC that sends nothing.
pub(super) fn listening(site: &Arc<Site>, server_id: Id, way: &Way) -> Option<Listening> {
    let Way::Stream(path) = way else { return None };
    let place = site.streams.clone().try_acquire_owned().ok()?;
    let (site, path) = (site.clone(), path.clone());
    let task = tokio::spawn(async move {
        let _place = place;
        let mut pause = Duration::from_secs(5);
        while let Some(server) = site.facts.server(server_id) {
            let Ok(driver) = site.bmc(&server) else { return };
            let Ok(redfish) = driver.redfish() else { return };
            if let Ok(mut stream) = redfish.listen(&path).await {
                pause = Duration::from_secs(5);
                // What has happened before is found by a look.
                site.watch.told(server_id, Vec::new());
                while let Some(Ok(document)) = stream.next().await {
                    site.watch.told(server_id, entries(&document));
                }
            }
            tokio::time::sleep(super::jittered(pause)).await;
            pause = Ord::min(pause * 2, AGAIN);
        }
    });
    Some(Listening(task.abort_handle()))
}

/// Room for streams.
pub(crate) fn streams() -> Arc<tokio::sync::Semaphore> {
    Arc::new(tokio::sync::Semaphore::new(STREAMS))
}
