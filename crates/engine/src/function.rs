//! Job functions: what a job does.

use std::time::Duration;

use async_trait::async_trait;
use model::Id;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{Engine, entity::job};

/// One function of the registry. It must be idempotent: it may run again after it ended, or be cut off anywhere and run again.
#[async_trait]
pub trait JobFunction: Send + Sync {
    /// Name, `server.install`.
    fn name(&self) -> &'static str;
    /// One attempt.
    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError>;
}

/// How an attempt ended well.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The job is done; this is its answer.
    Done(Value),
    /// Nothing to do for the moment: ask again after a while. Does not count as a failure, takes no worker meanwhile, and ends with
    /// the attempt's time limit.
    Wait {
        /// What it waits for, in words.
        reason: String,
        /// How long.
        after: Duration,
    },
}

/// How an attempt failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct JobError {
    /// What, where, and what to do.
    pub message: String,
    /// Trying again may help.
    pub retryable: bool,
}

impl JobError {
    /// Trying again may help.
    pub fn retry(message: impl std::fmt::Display) -> Self {
        Self { message: message.to_string(), retryable: true }
    }
    /// Trying again does not help.
    pub fn fatal(message: impl std::fmt::Display) -> Self {
        Self { message: message.to_string(), retryable: false }
    }
}

impl From<sea_orm::DbErr> for JobError {
    fn from(e: sea_orm::DbErr) -> Self {
        Self::retry(format!("database: {e}"))
    }
}

/// What a function is given.
#[derive(Clone)]
pub struct JobContext {
    /// The job as it stands.
    pub job: job::Model,
    pub(crate) engine: Engine,
    pub(crate) cancel: CancellationToken,
}

impl JobContext {
    /// Id of the job.
    pub fn id(&self) -> Id {
        self.job.id
    }

    /// The payload in its type; a payload that does not fit is a fatal error.
    pub fn payload<T: serde::de::DeserializeOwned>(&self) -> Result<T, JobError> {
        serde_json::from_value(self.job.payload.clone())
            .map_err(|e| JobError::fatal(format!("the payload of {} is not understood: {e}", self.job.function)))
    }

    /// Cancelled when an operator kills the job or the process stops. The attempt's future is then dropped at its next await; the
    /// token is for tasks that the function has started besides.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Tells how far it is, 0 to 100, and what is being done.
    pub fn progress(&self, percent: u8, message: impl Into<String>) {
        self.engine.set_progress(&self.job, percent, message.into());
    }
}
