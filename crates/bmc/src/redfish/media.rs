//! Virtual media.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Redfish, link};
use crate::{BmcError, VirtualMedia};

/// Longest wait for an image to show.
const SHOW: Duration = Duration::from_secs(30);

fn is_cd(slot: &Value) -> bool {
    let kinds = slot.get("MediaTypes").and_then(Value::as_array).into_iter().flatten();
    kinds.filter_map(Value::as_str).any(|k| matches!(k, "CD" | "DVD"))
}

fn image(slot: &Value) -> Option<String> {
    let there = slot.get("Inserted").and_then(Value::as_bool).unwrap_or(true);
    slot.get("Image").and_then(Value::as_str).filter(|i| there && !i.is_empty()).map(str::to_owned)
}

impl Redfish {
    /// The optical drive: at the system in newer firmware, at the manager in older.
    async fn drive(&self) -> Result<Value, BmcError> {
        let quirks = self.service().await?.quirks;
        let system = self.system().await?;
        let mut slots = self.members(&system["VirtualMedia"]).await?;
        if slots.is_empty() {
            slots = self.members(&self.manager(&system).await?["VirtualMedia"]).await?;
        }
        let id = |v: &Value| v.get("Id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let usable = |v: &&Value| quirks.media_slot(&id(v));
        let found = slots.iter().filter(usable).find(|v| is_cd(v)).or_else(|| slots.iter().find(usable)).cloned();
        found.ok_or_else(|| self.unsupported("no virtual optical drive; its licence may not cover it"))
    }

    async fn again(&self, slot: &Value) -> Result<Value, BmcError> {
        self.linked(slot).await
    }

    async fn act(&self, slot: &Value, action: &str, bodies: &[Value]) -> Result<(), BmcError> {
        let target = slot.pointer(&format!("/Actions/#VirtualMedia.{action}/target")).and_then(Value::as_str);
        let path = link(slot).unwrap_or_default().to_owned();
        let mut last = self.unsupported(format!("{action} of virtual media"));
        for body in bodies {
            let outcome = match target {
                Some(target) => self.call(Method::POST, target, Some(body)).await.map(|_| ()),
                // Without the action the resource itself is written.
                None => {
                    let body =
                        if action == "EjectMedia" { json!({"Image": null, "Inserted": false}) } else { body.clone() };
                    self.patch(&path, &body, slot).await.map(|_| ())
                }
            };
            match outcome {
                // A parameter that it does not know: with fewer.
                Err(e @ BmcError::Refused { status: 400..=499, .. }) => last = e,
                other => return other,
            }
        }
        Err(last)
    }

    async fn until(&self, slot: &Value, wanted: Option<&str>) -> Result<(), BmcError> {
        let end = Instant::now() + SHOW;
        loop {
            let now = image(&self.again(slot).await?);
            // Some shorten the URL to the name of the file.
            let holds = match (wanted, &now) {
                (Some(url), Some(now)) => now == url || url.rsplit('/').next().is_some_and(|f| now.ends_with(f)),
                (None, None) => true,
                _ => false,
            };
            if holds {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(BmcError::NoEffect {
                    address: self.address(),
                    what: format!("the virtual drive was to hold {}", wanted.unwrap_or("nothing")),
                    found: now.unwrap_or_else(|| "empty".into()),
                    seconds: SHOW.as_secs(),
                });
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

#[async_trait]
impl VirtualMedia for Redfish {
    async fn inserted(&self) -> Result<Option<String>, BmcError> {
        Ok(image(&self.drive().await?))
    }

    async fn insert(&self, url: &str) -> Result<(), BmcError> {
        let slot = self.drive().await?;
        match image(&slot) {
            Some(there) if there == url => return Ok(()),
            Some(_) => {
                self.act(&slot, "EjectMedia", &[json!({})]).await?;
                self.until(&slot, None).await?;
            }
            None => {}
        }
        let mut full = json!({"Image": url, "Inserted": true, "WriteProtected": true});
        if let (true, Some((scheme, _))) = (self.service().await?.quirks.media_protocol(), url.split_once("://")) {
            full["TransferProtocolType"] = scheme.to_uppercase().into();
        }
        self.act(&slot, "InsertMedia", &[full, json!({"Image": url})]).await?;
        self.until(&slot, Some(url)).await
    }

    async fn eject(&self) -> Result<(), BmcError> {
        let slot = self.drive().await?;
        if image(&slot).is_none() {
            return Ok(());
        }
        self.act(&slot, "EjectMedia", &[json!({})]).await?;
        self.until(&slot, None).await
    }
}
