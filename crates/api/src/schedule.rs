//! Jobs on a schedule: the five fields of cron (minute, hour, day of month, month, day of week; UTC), what can be run, and the clock.

use std::time::Duration;

use chrono::{DateTime, Datelike, Timelike, Utc};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use store::{
    entity::{cron_job, network_device, server, storage},
    event::{self, NewEvent},
    list::{Revisioned, cas},
    time,
};
use tokio_util::sync::CancellationToken;

use crate::{
    App,
    context::whole,
    error::ApiError,
    kinds::{
        firmware_catalog_fetch, firmware_policy, firmware_record, firmware_schedule, firmware_upgrade,
        network_device_registration::start_discovery, storage_discovery,
    },
};

/// What can be put on a schedule: name, what it does, its parameters.
pub const FUNCTIONS: &[(&str, &str, &str)] = &[
    ("archive_jobs", "Moves job groups that ended more than so many days ago (30) to the archive.", "days"),
    ("check_firmware", "Compares the firmware of all servers with the catalogs.", "siteId"),
    (
        "apply_firmware_policies",
        "Updates what firmware policies ask for; owners of servers in use are asked first.",
        "siteId",
    ),
    ("discover_network_devices", "Reads all active switches again: ports, neighbours, cabling.", "siteId"),
    ("discover_storages", "Reads all storages again: how full they are, their ports.", "siteId"),
];

/// A parsed schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    any_day: bool,
    any_weekday: bool,
}

impl Schedule {
    /// From `*/5 * * * *`, or words that say which field is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(format!(
                "{text:?} has {} fields; a schedule has five: minute hour day month weekday",
                fields.len()
            ));
        };
        let mut weekdays = field("weekday", weekday, 0, 7)?;
        // Sunday is 0 and 7.
        if weekdays & (1 << 7) != 0 {
            weekdays |= 1;
        }
        Ok(Self {
            minutes: field("minute", minute, 0, 59)?,
            hours: field("hour", hour, 0, 23)?,
            days: field("day", day, 1, 31)?,
            months: field("month", month, 1, 12)?,
            weekdays,
            any_day: day.starts_with('*'),
            any_weekday: weekday.starts_with('*'),
        })
    }

    /// Whether it is due in the minute of that time.
    pub fn matches(&self, at: DateTime<Utc>) -> bool {
        let has = |set: u64, n: u32| set & (1 << n) != 0;
        let day = has(self.days, at.day());
        let weekday = has(self.weekdays, at.weekday().num_days_from_sunday());
        // As cron does: where both are restricted, either is enough.
        let on_day = match (self.any_day, self.any_weekday) {
            (false, false) => day || weekday,
            _ => day && weekday,
        };
        has(self.minutes, at.minute()) && has(self.hours, at.hour()) && has(self.months, at.month()) && on_day
    }
}

/// `*`, `5`, `1-5`, `*/10`, `0-30/5`, and lists of them, as a set of bits.
fn field(name: &str, text: &str, least: u32, most: u32) -> Result<u64, String> {
    let bad = || format!("{text:?} is no {name}: use numbers from {least} to {most}, ranges, steps and lists");
    let mut set = 0u64;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<u32>().ok().filter(|s| *s > 0).ok_or_else(bad)?),
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((a, b)) => (a.parse().map_err(|_| bad())?, b.parse().map_err(|_| bad())?),
            None => {
                let n: u32 = range.parse().map_err(|_| bad())?;
                (n, if part.contains('/') { most } else { n })
            }
        };
        if from < least || to > most || from > to {
            return Err(bad());
        }
        for n in (from..=to).step_by(step as usize) {
            set |= 1 << n;
        }
    }
    Ok(set)
}

/// Runs what is due, minute by minute, until `shutdown`. Minutes in which nobody was there are not made up for.
pub async fn run(app: App, shutdown: CancellationToken) {
    let mut last = minute(Utc::now());
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(5)) => {}
        }
        let now = Utc::now();
        if let Err(error) = firmware_schedule::tick(&app).await {
            tracing::warn!(%error, "firmware updates that are due could not be looked for");
        }
        if minute(now) == last {
            continue;
        }
        last = minute(now);
        if let Err(error) = firmware_catalog_fetch::tick(&app).await {
            tracing::warn!(%error, "firmware catalogs could not be looked for");
        }
        if let Err(error) = due(&app, now).await {
            tracing::warn!(%error, "jobs on a schedule could not be looked for");
        }
    }
}

fn minute(at: DateTime<Utc>) -> i64 {
    at.timestamp().div_euclid(60)
}

/// Runs what is due in that minute; each once, however often it is asked.
pub async fn due(app: &App, now: DateTime<Utc>) -> Result<(), ApiError> {
    let rows = cron_job::Entity::find().filter(cron_job::Column::Disabled.eq(false)).all(&app.db().read).await?;
    for found in rows {
        if !Schedule::parse(&found.schedule).is_ok_and(|s| s.matches(now)) {
            continue;
        }
        if whole(&found.extra["lastMinute"]) == Some(minute(now)) {
            continue;
        }
        let mut extra = found.extra.as_object().cloned().unwrap_or_default();
        extra.insert("lastMinute".into(), json!(minute(now)));
        extra.insert("lastRunTimestamp".into(), json!(time::format(now)));
        let mut row = found.edit();
        row.extra = Set(Value::Object(extra));
        // Whoever claims the minute runs it.
        let Some(claimed) = cas(&app.db().write, &found, row).await? else { continue };
        let (severity, message) = match call(app, &claimed).await {
            Ok(message) => ("info", message),
            Err(error) => ("warning", error.message),
        };
        let new = NewEvent {
            kind: "cron_job.run".into(),
            severity: severity.into(),
            title: format!("Scheduled job {} ran", claimed.label),
            message,
            object: Some(("cron_job".into(), claimed.id)),
            context: json!({}),
            ..Default::default()
        };
        event::append(&app.db().write, new).await?;
        app.wrote();
    }
    Ok(())
}

async fn call(app: &App, row: &cron_job::Model) -> Result<String, ApiError> {
    let parameter = |name: &str| row.params.as_array().into_iter().flatten().find_map(|p| whole(&p[name]));
    match row.function.as_str() {
        "archive_jobs" => {
            let days = parameter("days").filter(|d| (0..=36_500).contains(d)).unwrap_or(30).unsigned_abs();
            let moved = app.engine().archive(Duration::from_secs(days * 86_400)).await?;
            Ok(format!("{moved} job group(s) went to the archive."))
        }
        "check_firmware" => {
            let mut select = server::Entity::find().filter(server::Column::Status.ne("decommissioned"));
            if let Some(site_id) = parameter("siteId") {
                select = select.filter(server::Column::SiteId.eq(site_id));
            }
            let txn = app.db().begin().await?;
            let servers = select.all(&txn).await?;
            firmware_record::refresh(&txn, &servers).await?;
            txn.commit().await?;
            Ok(format!("The firmware of {} server(s) was compared with the catalogs.", servers.len()))
        }
        "apply_firmware_policies" => {
            let (begun, failed) = firmware_policy::apply(app, &firmware_upgrade::Asker::default(), None).await?;
            Ok(format!(
                "{} server(s) are being updated or their owners asked, {} could not be.",
                begun.len(),
                failed.len()
            ))
        }
        "discover_network_devices" => {
            let mut select = network_device::Entity::find().filter(network_device::Column::Status.eq("active"));
            if let Some(site_id) = parameter("siteId") {
                select = select.filter(network_device::Column::SiteId.eq(site_id));
            }
            let txn = app.db().begin().await?;
            let devices = select.all(&txn).await?;
            for device in &devices {
                start_discovery(app, &txn, device).await?;
            }
            txn.commit().await?;
            app.engine().wake();
            Ok(format!("{} switch(es) are being read.", devices.len()))
        }
        "discover_storages" => {
            let mut select = storage::Entity::find();
            if let Some(site_id) = parameter("siteId") {
                select = select.filter(storage::Column::SiteId.eq(site_id));
            }
            let txn = app.db().begin().await?;
            let storages = select.all(&txn).await?;
            let count = storages.len();
            for storage in storages {
                storage_discovery::start(app, &txn, storage).await?;
            }
            txn.commit().await?;
            app.engine().wake();
            Ok(format!("{count} storage(s) are being read."))
        }
        other => Err(ApiError::conflict(format!("there is no function {other}; correct or delete the job"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop")]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn schedules() {
        let every = Schedule::parse("*/15 3 * * *").unwrap();
        assert!(every.matches(at("2026-01-05T03:30:10Z")));
        assert!(!every.matches(at("2026-01-05T03:31:00Z")));
        assert!(!every.matches(at("2026-01-05T04:30:00Z")));
        let sunday = Schedule::parse("0 0 * * 7").unwrap();
        assert!(sunday.matches(at("2026-01-04T00:00:00Z")));
        assert!(!sunday.matches(at("2026-01-05T00:00:00Z")));
        let either = Schedule::parse("0 0 13 * 5").unwrap();
        assert!(either.matches(at("2026-02-13T00:00:00Z")));
        assert!(either.matches(at("2026-02-06T00:00:00Z")), "a Friday");
        assert!(!either.matches(at("2026-02-07T00:00:00Z")));
        for bad in ["", "* * * *", "60 * * * *", "* * 0 * *", "a * * * *", "*/0 * * * *", "5-1 * * * *", "* * * * * *"]
        {
            assert!(Schedule::parse(bad).is_err(), "{bad}");
        }
    }
}
