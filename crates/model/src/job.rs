//! Jobs: the words of the wire, and what an order to a site looks like.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Id;

/// Status words of the v2 wire contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// Waiting for dependencies or a worker.
    NotCalled,
    /// Being worked on.
    Running,
    /// Succeeded.
    ReturnedSuccess,
    /// Failed, will be tried again.
    ThrownErrorRetrying,
    /// Failed for good until an operator acts.
    ThrownError,
    /// Failed, and a person has taken note.
    ThrownErrorSilenced,
    /// Passed over by an operator or because its group was cancelled.
    Skipped,
}

impl JobStatus {
    /// The wire word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotCalled => "not_called",
            Self::Running => "running",
            Self::ReturnedSuccess => "returned_success",
            Self::ThrownErrorRetrying => "thrown_error_retrying",
            Self::ThrownError => "thrown_error",
            Self::ThrownErrorSilenced => "thrown_error_silenced",
            Self::Skipped => "skipped",
        }
    }

    /// From the wire word.
    pub fn parse(word: &str) -> Option<Self> {
        [
            Self::NotCalled,
            Self::Running,
            Self::ReturnedSuccess,
            Self::ThrownErrorRetrying,
            Self::ThrownError,
            Self::ThrownErrorSilenced,
            Self::Skipped,
        ]
        .into_iter()
        .find(|s| s.as_str() == word)
    }

    /// Whether dependants may start.
    pub fn satisfies_dependants(self) -> bool {
        matches!(self, Self::ReturnedSuccess | Self::Skipped)
    }

    /// Whether nothing more happens without an operator.
    pub fn is_final(self) -> bool {
        matches!(self, Self::ReturnedSuccess | Self::Skipped | Self::ThrownError | Self::ThrownErrorSilenced)
    }
}

/// How a failing job is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Tries after the first, at most.
    pub max: u32,
    /// Shortest pause in seconds; doubled after each failure up to `max_seconds`, with jitter.
    pub min_seconds: u32,
    /// Longest pause in seconds.
    pub max_seconds: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max: 5, min_seconds: 2, max_seconds: 60 }
    }
}

/// Objects that a job is about, for filters and links. All optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRefs {
    /// Server.
    #[serde(default)]
    pub server_id: Option<Id>,
    /// Server instance.
    #[serde(default)]
    pub instance_id: Option<Id>,
    /// Network device.
    #[serde(default)]
    pub network_device_id: Option<Id>,
    /// Infrastructure.
    #[serde(default)]
    pub infrastructure_id: Option<Id>,
}

/// A job as planned: it becomes a row of the engine at either end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Name within its group, stable for the same design: `install/instance-7`.
    pub key: String,
    /// Function of the registry: `server.install`.
    pub function: String,
    /// Title for people: `Install Debian 12 on web-1`.
    pub title: String,
    /// The site that runs it; `None` for the Global Controller.
    #[serde(default)]
    pub site_id: Option<Id>,
    /// Object that the order is for, with its generation: an older generation for the same object is refused.
    pub target: Target,
    /// Parameters of the function.
    pub payload: Value,
    /// Keys of jobs in the same group that must have succeeded or been skipped.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// Retry policy.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// Seconds for one attempt, after which it counts as failed.
    pub timeout_seconds: u32,
    /// Objects it is about.
    #[serde(default)]
    pub refs: JobRefs,
    /// An operator may skip it.
    #[serde(default = "yes")]
    pub can_be_skipped: bool,
    /// Waits for an operator's word before it starts.
    #[serde(default)]
    pub requires_confirmation: bool,
}

fn yes() -> bool {
    true
}

/// The object of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Kind, `server` or `network_device` or `infrastructure`.
    pub kind: String,
    /// Id.
    pub id: Id,
    /// Generation of the intent behind the order; 0 where there is none to compare.
    #[serde(default)]
    pub generation: i64,
}

/// What an operator may do to a job or a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum JobCommand {
    /// Run again now.
    Retry {
        /// The job.
        job_id: Id,
        /// Also when it had succeeded.
        #[serde(default)]
        even_if_successful: bool,
    },
    /// Go on without it.
    Skip {
        /// The job.
        job_id: Id,
        /// Why.
        reason: String,
    },
    /// Stop the attempt that is running, and do not try again.
    Kill {
        /// The job.
        job_id: Id,
    },
    /// Let the attempt end, and do not try again.
    StopRetrying {
        /// The job.
        job_id: Id,
    },
    /// The operator's word for a job that waits for it.
    Confirm {
        /// The job.
        job_id: Id,
    },
    /// Stop all that has not begun, kill what runs.
    CancelGroup {
        /// The group.
        group_id: Id,
        /// Why.
        reason: String,
    },
}

/// How a job stands, told by whoever runs it. Reports are numbered per job; an older one is ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobReport {
    /// The job.
    pub job_id: Id,
    /// Grows with every report about this job.
    pub sequence: i64,
    /// Status.
    pub status: JobStatus,
    /// Attempts begun.
    pub call_count: i32,
    /// Attempts after the first.
    pub retry_count: i32,
    /// Progress of the current attempt, 0 to 100.
    #[serde(default)]
    pub percent: Option<u8>,
    /// What is being done or waited for, in words.
    #[serde(default)]
    pub message: Option<String>,
    /// Error text of the last failed attempt.
    #[serde(default)]
    pub error: Option<String>,
    /// What the function returned.
    #[serde(default)]
    pub response: Option<Value>,
    /// Start of the first attempt, RFC 3339.
    #[serde(default)]
    pub started_at: Option<String>,
    /// End, RFC 3339.
    #[serde(default)]
    pub finished_at: Option<String>,
}
