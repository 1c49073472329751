//! What is seen on equipment goes to the Global Controller through the queue.

use model::link::{Observation, Observed, Up};

use crate::Site;

/// Queues what was seen, all or nothing; the subject makes it replace an older word of the same that still waits.
pub(crate) async fn observe_all(site: &Site, seen: Vec<(String, Observed)>) -> bool {
    if seen.is_empty() {
        return true;
    }
    let pushed = async {
        let txn = site.db.begin().await?;
        for (subject, what) in seen {
            let up = Up::Observed(Observation { at: store::time::now(), what });
            site.queue.push(&txn, link::client::GLOBAL, Some(&subject), &up).await?;
        }
        txn.commit().await
    };
    match pushed.await {
        Ok(()) => {
            site.queue.wake(link::client::GLOBAL);
            true
        }
        Err(error) => {
            tracing::error!(%error, "an observation cannot be stored");
            false
        }
    }
}

/// The same for one.
pub(crate) async fn observe(site: &Site, subject: &str, what: Observed) -> bool {
    observe_all(site, vec![(subject.to_owned(), what)]).await
}
