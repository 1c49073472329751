//! A site that was away for long (its machine was off, or it was restored from a copy) does not know what became of its servers meanwhile:
//! what it had begun may be somebody else's by now. It does nothing to equipment, and lets no machine boot for it, until it has heard the
//! Global Controller. A line that is cut is no absence: a site that runs goes on for ever.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use engine::{JobContext, JobError, JobFunction, Outcome};
use sea_orm::{ActiveValue::Set, DbErr, EntityTrait, sea_query::OnConflict};
use store::Database;
use tokio_util::sync::CancellationToken;

use crate::{Site, entity::value, session::now};

const ALIVE: &str = "alive_at";
/// Seconds between two notes that it is there.
const NOTE: u64 = 60;
/// Seconds after which an absence is long.
const LONG: i64 = 3600;
/// Seconds without news on a line that is up: then all that had waited has come.
const QUIET: i64 = 5;

/// Whether this site knows how its world stands.
#[derive(Debug, Default)]
pub(crate) struct Absence {
    doubt: AtomicBool,
    up: AtomicBool,
    news_at: AtomicI64,
}

impl Absence {
    /// By when it was last there.
    pub(crate) async fn load(db: &Database) -> Result<Self, DbErr> {
        let last = value::Entity::find_by_id(ALIVE).one(&db.read).await?.map(|v| v.number);
        let away = last.map_or(0, |last| now() - last);
        // A clock that went back says nothing of how long it was.
        let doubt = !(-NOTE_SKEW..=LONG).contains(&away);
        if doubt {
            tracing::warn!(
                seconds = away,
                "this site was away for long: nothing is done to equipment until the Global Controller was heard"
            );
        }
        Ok(Self { doubt: AtomicBool::new(doubt), ..Self::default() })
    }

    /// The line is up, or broken.
    pub(crate) fn line(&self, up: bool) {
        self.news_at.store(now(), Ordering::Relaxed);
        self.up.store(up, Ordering::Relaxed);
    }

    /// Something has come from the Global Controller.
    pub(crate) fn news(&self) {
        self.news_at.store(now(), Ordering::Relaxed);
    }

    /// Whether what is known here may be long outdated.
    pub(crate) fn in_doubt(&self) -> bool {
        if !self.doubt.load(Ordering::Relaxed) {
            return false;
        }
        let heard = self.up.load(Ordering::Relaxed) && now() - self.news_at.load(Ordering::Relaxed) >= QUIET;
        if heard {
            tracing::info!("the Global Controller was heard: work goes on");
            self.doubt.store(false, Ordering::Relaxed);
        }
        !heard
    }
}

/// Seconds by which a clock may be set back without anybody wondering.
const NOTE_SKEW: i64 = 300;

/// Notes each minute that the site is there; not while it is in doubt, so that another restart does not make it sure.
pub(crate) async fn note(site: Arc<Site>, shutdown: CancellationToken) {
    loop {
        if !site.absence.in_doubt() {
            let noted = async {
                let txn = site.db.begin().await?;
                let row = value::ActiveModel { name: Set(ALIVE.into()), number: Set(now()) };
                value::Entity::insert(row)
                    .on_conflict(
                        OnConflict::column(value::Column::Name).update_column(value::Column::Number).to_owned(),
                    )
                    .exec_without_returning(&txn)
                    .await?;
                txn.commit().await
            };
            if let Err(error) = noted.await {
                tracing::warn!(%error, "cannot note that this site is there");
            }
        }
        let pause = if site.absence.in_doubt() { 1 } else { NOTE };
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(pause)) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// A job function that waits while the site is in doubt.
pub(crate) struct Careful {
    pub(crate) site: Arc<Site>,
    pub(crate) inner: Arc<dyn JobFunction>,
}

#[async_trait]
impl JobFunction for Careful {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        if self.site.absence.in_doubt() {
            return Ok(Outcome::Wait {
                reason: "this site was away for long; it waits to hear from the Global Controller what has become of its servers".into(),
                after: Duration::from_secs(1),
            });
        }
        self.inner.run(ctx).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubt_ends_when_the_global_controller_was_heard() {
        let absence = Absence { doubt: AtomicBool::new(true), ..Absence::default() };
        assert!(absence.in_doubt(), "nobody was heard");
        absence.line(true);
        assert!(absence.in_doubt(), "what has waited may still come");
        absence.news_at.store(now() - QUIET, Ordering::Relaxed);
        absence.up.store(false, Ordering::Relaxed);
        assert!(absence.in_doubt(), "the line broke before that");
        absence.up.store(true, Ordering::Relaxed);
        assert!(!absence.in_doubt());
        absence.line(false);
        assert!(!absence.in_doubt(), "once heard, it goes on alone for ever");
        assert!(!Absence::default().in_doubt());
    }
}
