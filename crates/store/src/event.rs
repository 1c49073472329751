//! Events: who did what to which object, in the same transaction as the change itself.

use sea_orm::{ActiveModelTrait, ActiveValue::Set, ConnectionTrait, DbErr};
use serde_json::Value;

use crate::entity::event;

/// An event to be written.
#[derive(Clone, Debug, Default)]
pub struct NewEvent {
    /// `infrastructure.deploy`, `server.create`, …
    pub kind: String,
    /// `success`, `info`, `warning`, `important`, `security`; empty is `info`.
    pub severity: String,
    /// One line for people.
    pub title: String,
    /// More for people.
    pub message: String,
    /// Kind and id of the object.
    pub object: Option<(String, i64)>,
    /// Infrastructure.
    pub infrastructure_id: Option<i64>,
    /// Server.
    pub server_id: Option<i64>,
    /// Job.
    pub job_id: Option<i64>,
    /// Site.
    pub site_id: Option<i64>,
    /// Account that may see it; `None` for administrators alone.
    pub account_id: Option<i64>,
    /// Who did it.
    pub actor: Option<(i64, String)>,
    /// Request id.
    pub request_id: Option<String>,
    /// Before and after, and whatever helps. Never a secret.
    pub context: Value,
}

/// Appends an event.
pub async fn append<C: ConnectionTrait>(txn: &C, new: NewEvent) -> Result<event::Model, DbErr> {
    let mut row = event::new();
    row.kind = Set(new.kind);
    row.severity = Set(if new.severity.is_empty() { "info".into() } else { new.severity });
    row.visibility = Set(if new.account_id.is_some() { "public" } else { "private" }.into());
    row.title = Set(new.title);
    row.message = Set(new.message);
    row.object_id = Set(new.object.as_ref().map(|o| o.1));
    row.object_kind = Set(new.object.map(|o| o.0));
    row.infrastructure_id = Set(new.infrastructure_id);
    row.user_id = Set(new.actor.as_ref().map(|a| a.0));
    row.server_id = Set(new.server_id);
    row.job_id = Set(new.job_id);
    row.site_id = Set(new.site_id);
    row.account_id = Set(new.account_id);
    row.actor_id = Set(new.actor.as_ref().map(|a| a.0));
    row.actor_email = Set(new.actor.map(|a| a.1));
    row.request_id = Set(new.request_id);
    row.context = Set(new.context);
    row.insert(txn).await
}
