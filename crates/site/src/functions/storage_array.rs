//! What the storage functions share: an open driver, errors and deadlines.

use std::{sync::Arc, time::Duration};

use engine::{JobError, Outcome};
use model::{
    Id,
    storage::{Initiator, StorageTarget},
};
use serde::Serialize;
use storage::{Array, Host, StorageError};

use crate::Site;

/// Longest time for an order that moves no data.
pub(super) const SHORT: Duration = Duration::from_mins(10);
/// Longest time for an order that may copy a volume.
pub(super) const LONG: Duration = Duration::from_hours(3);

/// The storage of an order.
pub(super) struct Storage {
    target: StorageTarget,
    array: Arc<dyn Array>,
}

impl Storage {
    pub(super) fn open(site: &Site, id: Id) -> Result<Self, JobError> {
        let (target, array) = site.storage(id)?;
        Ok(Self { target, array })
    }

    pub(super) fn name(&self) -> &str {
        &self.target.name
    }

    pub(super) fn array(&self) -> &dyn Array {
        &*self.array
    }

    /// A part of the driver that it must have.
    pub(super) fn part<'a, T: ?Sized>(
        &'a self,
        part: impl FnOnce(&'a dyn Array) -> Option<&'a T>,
        what: &str,
    ) -> Result<&'a T, JobError> {
        part(&*self.array).ok_or_else(|| {
            storage_error(StorageError::Unsupported {
                storage: self.target.name.clone(),
                driver: self.target.driver.as_str().into(),
                what: what.into(),
            })
        })
    }

    /// Hosts with their secrets open.
    pub(super) fn hosts(&self, site: &Site, initiators: &[Initiator]) -> Result<Vec<Host>, JobError> {
        initiators
            .iter()
            .map(|i| {
                let chap = match &i.chap {
                    Some(chap) => {
                        let what = format!("the CHAP login of {} at {}", i.name, self.target.name);
                        Some((chap.username.clone(), site.open_secret(&chap.secret, &what)?))
                    }
                    None => None,
                };
                Ok(Host { name: i.name.clone(), iqn: i.iqn.clone(), nqn: i.nqn.clone(), chap })
            })
            .collect()
    }
}

/// Ends the order, with its answer or with what went wrong.
pub(super) async fn finish<T: Serialize>(
    limit: Duration,
    work: impl Future<Output = Result<T, StorageError>>,
) -> Result<Outcome, JobError> {
    answer(&ended(limit, work).await?)
}

/// The work's end, or what went wrong.
pub(super) async fn ended<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, StorageError>>,
) -> Result<T, JobError> {
    tokio::time::timeout(limit, work)
        .await
        .map_err(|_| {
            let minutes = limit.as_secs() / 60;
            JobError::retry(format!(
                "the storage did not finish within {minutes} minutes; look at its own list of tasks"
            ))
        })?
        .map_err(storage_error)
}

/// The order's answer.
pub(super) fn answer<T: Serialize>(done: &T) -> Result<Outcome, JobError> {
    serde_json::to_value(done)
        .map(Outcome::Done)
        .map_err(|e| JobError::fatal(format!("the answer cannot be told: {e}")))
}

/// A storage's error as a job's.
pub(super) fn storage_error(e: StorageError) -> JobError {
    JobError { retryable: e.is_retryable(), message: e.to_string() }
}
