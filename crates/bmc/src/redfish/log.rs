//! The event log.

use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Redfish, link};
use crate::{BmcError, EventLog, Health, LogEntry, inventory::text};

/// Most entries that are read.
const ENTRIES: usize = 1000;

impl Redfish {
    /// The log of the hardware: the one that the vendor is known for, else one that is called so, else the first.
    async fn log_service(&self) -> Result<Value, BmcError> {
        let quirks = self.service().await?.quirks;
        let system = self.system().await?;
        let mut services = self.members(&system["LogServices"]).await?;
        let manager = self.manager(&system).await?;
        services.extend(self.members(&manager["LogServices"]).await?);
        for chassis in self.chassis(&system).await? {
            services.extend(self.members(&chassis["LogServices"]).await?);
        }
        let id = |v: &Value| text(v, "Id").unwrap_or_default();
        let named = quirks.logs().iter().find_map(|name| services.iter().find(|s| id(s).eq_ignore_ascii_case(name)));
        let sel = || services.iter().find(|s| s.get("LogEntryType").and_then(Value::as_str) == Some("SEL"));
        named.or_else(sel).or_else(|| services.first()).cloned().ok_or_else(|| self.unsupported("no event log"))
    }
}

#[async_trait]
impl EventLog for Redfish {
    async fn log(&self) -> Result<Vec<LogEntry>, BmcError> {
        let service = self.log_service().await?;
        let Some(path) = link(&service["Entries"]) else { return Err(self.unsupported("entries of the event log")) };
        let entries = self.collection(path, ENTRIES).await?;
        Ok(entries
            .iter()
            .map(|e| LogEntry {
                id: text(e, "Id").unwrap_or_default(),
                at: text(e, "Created").or_else(|| text(e, "EventTimestamp")),
                severity: Health::of(e.get("Severity").and_then(Value::as_str)),
                message: text(e, "Message").or_else(|| text(e, "Name")).unwrap_or_default(),
            })
            .collect())
    }

    async fn clear_log(&self) -> Result<(), BmcError> {
        let service = self.log_service().await?;
        let target = service.pointer("/Actions/#LogService.ClearLog/target").and_then(Value::as_str);
        let target = target.ok_or_else(|| self.unsupported("clearing the event log"))?;
        self.call(Method::POST, target, Some(&json!({}))).await.map(|_| ())
    }
}
