//! Machines that nobody knows, as their requests for addresses show them: noted while packets are answered, told a little later.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use link::client::GLOBAL;
use model::{
    Mac,
    link::{Observation, Observed, Up},
};
use netboot::backend::Stranger;
use sea_orm::DbErr;
use tokio_util::sync::CancellationToken;

use crate::{Site, session::now};

/// Strangers that are remembered as told of, and that may wait to be told of.
const MOST: usize = 10_000;
/// Seconds after which a stranger that is still there is told of again.
const AGAIN: i64 = 3600;
/// How often those that wait are told of.
const EVERY: Duration = Duration::from_millis(250);
/// How many at a time: the store has other work too, and whoever makes up addresses must not keep it from that.
const AT_ONCE: usize = 64;

/// What they showed last, and when they were told of.
type Told = HashMap<Mac, ((Ipv4Addr, Option<String>), i64)>;

/// Who was told of, and who waits.
#[derive(Default)]
pub(crate) struct Strangers(Mutex<(Told, HashMap<Mac, Stranger>)>);

impl Strangers {
    /// It renews its lease again and again; the same news is worth telling once in a while. Where too many wait it is passed over: it
    /// will come again.
    pub(crate) fn note(&self, stranger: Stranger) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (told, waiting) = &mut *all;
        let known = told.get(&stranger.mac).is_some_and(|((address, class), at)| {
            (*address, class) == (stranger.address, &stranger.vendor_class) && now() - at < AGAIN
        });
        if !known && (waiting.len() < MOST || waiting.contains_key(&stranger.mac)) {
            waiting.insert(stranger.mac.clone(), stranger);
        }
    }

    fn take(&self) -> Vec<Stranger> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (told, waiting) = &mut *all;
        let next: Vec<Mac> = waiting.keys().take(AT_ONCE).cloned().collect();
        let next: Vec<Stranger> = next.iter().filter_map(|mac| waiting.remove(mac)).collect();
        for stranger in &next {
            if told.len() >= MOST {
                told.clear();
            }
            told.insert(stranger.mac.clone(), ((stranger.address, stranger.vendor_class.clone()), now()));
        }
        next
    }
}

/// Tells of those that wait.
pub(crate) async fn tell(site: Arc<Site>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shutdown.cancelled() => return,
        }
        let next = site.strangers.take();
        if next.is_empty() {
            continue;
        }
        let stored = async {
            let txn = site.db.begin().await?;
            for stranger in next {
                let subject = format!("unknown/{}", stranger.mac);
                let what = Observed::UnknownMachine {
                    mac: stranger.mac,
                    address: Some(stranger.address.to_string()),
                    circuit_id: stranger.circuit_id,
                    vendor_class: stranger.vendor_class,
                };
                let up = Up::Observed(Observation { at: store::time::now(), what });
                site.queue.push(&txn, GLOBAL, Some(&subject), &up).await?;
            }
            txn.commit().await?;
            Ok::<_, DbErr>(())
        };
        match stored.await {
            Ok(()) => site.queue.wake(GLOBAL),
            Err(error) => tracing::error!(%error, "machines that nobody knows cannot be told of"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger(n: u32) -> Stranger {
        Stranger {
            mac: format!("02:00:{n:08x}"),
            address: Ipv4Addr::from(0x0a00_0000 + n),
            circuit_id: None,
            vendor_class: None,
        }
    }

    #[test]
    fn the_same_news_is_told_once_and_a_flood_is_bounded() {
        let strangers = Strangers::default();
        strangers.note(stranger(1));
        strangers.note(stranger(1));
        assert_eq!(strangers.take().len(), 1);
        strangers.note(stranger(1));
        assert!(strangers.take().is_empty());
        strangers.note(Stranger { address: Ipv4Addr::new(10, 9, 9, 9), ..stranger(1) });
        assert_eq!(strangers.take().len(), 1, "it has another address");
        for n in 0..30_000 {
            strangers.note(stranger(n));
        }
        let mut all = 0;
        loop {
            let some = strangers.take().len();
            assert!(some <= AT_ONCE);
            all += some;
            if some == 0 {
                break;
            }
        }
        assert_eq!(all, MOST);
    }
}
