//! What has happened lately: a ring buffer, and counters.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
};

use serde::Serialize;

use crate::lock;

const KEPT: usize = 2000;

/// Something that happened to a device.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// Number, from 1, without gaps.
    pub seq: u64,
    /// When, RFC 3339.
    pub at: String,
    /// Serial number or host name.
    pub device: String,
    /// Short word: `power`, `boot`, `os`, `switch`, `fault`, `link`.
    pub kind: &'static str,
    /// What happened.
    pub text: String,
}

/// The ring buffer.
#[derive(Default)]
pub struct Events {
    ring: Mutex<(u64, VecDeque<Event>)>,
    counters: Mutex<BTreeMap<&'static str, u64>>,
}

/// Now, as text.
pub fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

impl Events {
    /// Writes an event down.
    pub fn push(&self, device: &str, kind: &'static str, text: impl Into<String>) {
        let text = text.into();
        tracing::debug!(device, kind, "{text}");
        let mut ring = lock(&self.ring);
        ring.0 += 1;
        let event = Event { seq: ring.0, at: now(), device: device.to_owned(), kind, text };
        if ring.1.len() == KEPT {
            ring.1.pop_front();
        }
        ring.1.push_back(event);
    }

    /// Events after number `after`, at most `limit`, oldest first.
    pub fn after(&self, after: u64, limit: usize) -> Vec<Event> {
        let ring = lock(&self.ring);
        let newer = ring.1.iter().filter(|event| event.seq > after).count();
        ring.1.iter().skip(ring.1.len() - newer.min(limit)).cloned().collect()
    }

    /// Counts one more of something.
    pub fn count(&self, name: &'static str) {
        *lock(&self.counters).entry(name).or_default() += 1;
    }

    /// All counters.
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.counters).clone()
    }
}
