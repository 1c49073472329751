//! Keeps the power of servers known: each is looked at in turn, spread over the interval, and only changes are told.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bmc::Power;
use futures::StreamExt;
use model::{
    Id,
    bmc::PowerState,
    link::{Observation, Observed, Up},
};
use tokio_util::sync::CancellationToken;

use crate::Site;

/// Seconds between two looks at the same server, unless the site's settings say otherwise.
const INTERVAL: u32 = 60;
/// BMCs asked at the same time, at most.
const AT_ONCE: usize = 64;
/// Rounds into which an interval is divided.
const ROUNDS: u32 = 20;

type Seen = Result<PowerState, String>;

pub(crate) async fn watch(site: Arc<Site>, shutdown: CancellationToken) {
    let mut seen: HashMap<Id, Seen> = HashMap::new();
    for round in 0u32.. {
        let interval = site.facts.view().settings().power_poll_seconds.filter(|s| *s > 0).unwrap_or(INTERVAL);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(u64::from(interval)) / ROUNDS) => {}
            () = shutdown.cancelled() => return,
        }
        if round % ROUNDS == 0 {
            site.close_idle().await;
        }
        let servers = site.facts.servers();
        seen.retain(|id, _| servers.iter().any(|s| s.id == *id));
        let due = servers
            .into_iter()
            .filter(|s| s.bmc.is_some())
            // A new one at once, the others when it is their turn.
            .filter(|s| !seen.contains_key(&s.id) || s.id.rem_euclid(i64::from(ROUNDS)) == i64::from(round % ROUNDS));
        let looks = futures::stream::iter(due).map(|server| {
            let site = &site;
            async move {
                let found = match site.bmc(&server) {
                    Ok(bmc) => bmc.power().await.map_err(|e| e.to_string()),
                    Err(e) => Err(e.message),
                };
                (server.id, found)
            }
        });
        let found: Vec<(Id, Seen)> = tokio::select! {
            found = looks.buffer_unordered(AT_ONCE).collect() => found,
            () = shutdown.cancelled() => return,
        };
        site.tell_certificates().await;
        for (server_id, now) in found {
            let before = seen.get(&server_id);
            if before == Some(&now) {
                continue;
            }
            let was_away = matches!(before, Some(Err(_)));
            let told = match &now {
                Ok(power) => {
                    let power = Observed::Power { server_id, power: *power };
                    let back = Observed::Bmc { server_id, error: None };
                    observe(&site, &format!("power/{server_id}"), power).await
                        && (!was_away || observe(&site, &format!("bmc/{server_id}"), back).await)
                }
                Err(error) => {
                    let away = Observed::Bmc { server_id, error: Some(error.clone()) };
                    observe(&site, &format!("bmc/{server_id}"), away).await
                }
            };
            if told {
                seen.insert(server_id, now);
            }
        }
    }
}

/// Queues an observation; `subject` makes it replace an older one that still waits.
pub(crate) async fn observe(site: &Site, subject: &str, what: Observed) -> bool {
    let up = Up::Observed(Observation { at: store::time::now(), what });
    let pushed = async {
        let txn = site.db.begin().await?;
        site.queue.push(&txn, link::client::GLOBAL, Some(subject), &up).await?;
        txn.commit().await
    };
    match pushed.await {
        Ok(()) => {
            site.queue.wake(link::client::GLOBAL);
            true
        }
        Err(error) => {
            tracing::error!(%error, subject, "an observation cannot be stored");
            false
        }
    }
}
