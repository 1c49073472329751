//! Times as the wire has them: RFC 3339, UTC, three decimals, `2026-01-02T15:04:05.000Z`. They sort as text.

use chrono::{DateTime, Duration, SecondsFormat, Utc};

/// Now.
pub fn now() -> String {
    format(Utc::now())
}

/// That moment in wire form.
pub fn format(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Now and so many seconds.
pub fn in_seconds(seconds: i64) -> String {
    format(Utc::now() + Duration::seconds(seconds))
}

/// From wire form.
pub fn parse(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|t| t.with_timezone(&Utc))
}

/// Milliseconds from `start` to `end`, both in wire form.
pub fn millis_between(start: &str, end: &str) -> Option<i64> {
    Some((parse(end)? - parse(start)?).num_milliseconds())
}
