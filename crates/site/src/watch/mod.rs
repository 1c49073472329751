//! Keeps servers known without asking them all the time: a BMC that can tells of its own accord ([`events`]), and each is looked at in
//! turn, at its own moment. An event causes a look and nothing else, so that a lie in one does no harm. Only changes go up.
//!
//! The work of an object is that of the object: whose turn it is stands in a heap, and nothing goes over all servers but the news that
//! some came or went.

pub(crate) mod events;
pub(crate) mod look;
mod schedule;
mod subscription;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use model::{Id, bmc::BmcEndpoint, firmware::Sensors, health::HardwareEvent, link::Observed};
use rand::Rng;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::subscription::streams;
use self::{
    look::{Found, Wanted},
    schedule::Schedule,
    subscription::Way,
};
use crate::{Site, power::observe_all};

/// BMCs looked at at the same time, at most.
const AT_ONCE: usize = 48;
/// Shortest time between two looks that events cause at the same server.
const EVENT_GAP: Duration = Duration::from_secs(1);
/// After an event there is a second look: the BMC may have told before it knew itself.
const SECOND_LOOK: Duration = Duration::from_secs(5);
/// Words of one BMC that go up in a minute, at most.
const LOG_LINES: usize = 10;
const LOG_WINDOW: Duration = Duration::from_mins(1);
/// Longest time between two looks at a BMC that refuses our login: many lock an account after a few.
const REFUSED: Duration = Duration::from_mins(15);
/// How often it is seen to connections and to those who are gone.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// Times of looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Between two looks at the power of a server that does not tell of itself.
    pub(crate) power: Duration,
    /// Between two readings of its sensors; `None`: never by itself.
    pub(crate) sensors: Option<Duration>,
}

impl Pace {
    /// As set; sensors are never read by themselves where their time is 0.
    pub(crate) fn new(power: u32, sensors: u32) -> Self {
        let seconds = |s: u32| Duration::from_secs(u64::from(s));
        Self {
            power: seconds(Ord::max(power, 5)),
            sensors: Some(sensors).filter(|s| *s > 0).map(|s| seconds(Ord::max(s, 5))),
        }
    }

    /// With what the Global Controller says.
    fn with(self, settings: &model::snapshot::SiteSettings) -> Self {
        let power = settings.power_poll_seconds.filter(|s| *s > 0);
        let sensors = settings.sensor_poll_seconds;
        let said = Self::new(power.unwrap_or(0), sensors.unwrap_or(0));
        Self {
            power: power.map_or(self.power, |_| said.power),
            sensors: sensors.map_or(self.sensors, |_| said.sensors),
        }
    }

    /// No more than 20 looks and 4 readings a second go out of a site by themselves, however many servers it has.
    fn for_many(self, servers: usize) -> Self {
        let least = |per_second: f64| Duration::from_secs_f64(servers as f64 / per_second);
        Self { power: Ord::max(self.power, least(20.0)), sensors: self.sensors.map(|s| Ord::max(s, least(4.0))) }
    }
}

/// What is known of one server.
#[derive(Default)]
struct Watched {
    /// Somebody looks at it now.
    busy: bool,
    /// It waits among the urgent.
    urgent: bool,
    /// A further look is wanted when this one has ended.
    again: bool,
    /// Its events speak of trouble: the sensors are read.
    trouble: bool,
    looked: Option<Instant>,
    /// The login that its BMC did not let in.
    refused: Option<BmcEndpoint>,
    /// What was told.
    power: Option<look::Seen>,
    health: Option<model::health::ServerHealth>,
    reading: Option<Arc<Sensors>>,
    sensors_due: Option<Instant>,
    way: Way,
    way_due: Option<Instant>,
    listening: Option<subscription::Listening>,
    log: Vec<HardwareEvent>,
    log_since: Option<Instant>,
    logged: usize,
    dropped: u64,
}

#[derive(Default)]
struct Inner {
    servers: HashMap<Id, Watched>,
    schedule: Schedule,
    generation: Option<i64>,
    gone: Vec<Id>,
}

/// Who is watched.
#[derive(Default)]
pub(crate) struct Watch {
    inner: Mutex<Inner>,
    wake: Notify,
}

impl Watch {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A BMC told of something.
    fn told(&self, server_id: Id, entries: Vec<HardwareEvent>) {
        let now = Instant::now();
        let mut inner = self.inner();
        let Inner { servers, schedule, .. } = &mut *inner;
        let Some(of) = servers.get_mut(&server_id) else { return };
        if of.log_since.is_none_or(|since| now - since >= LOG_WINDOW) {
            of.log_since = Some(now);
            of.logged = 0;
        }
        for entry in entries.into_iter().filter(|e| e.severity.is_bad()) {
            of.trouble = true;
            if of.logged < LOG_LINES {
                of.logged += 1;
                of.log.push(entry);
            } else {
                of.dropped += 1;
            }
        }
        if of.busy {
            of.again = true;
        } else if !of.urgent {
            match of.looked.map(|at| at + EVENT_GAP).filter(|at| *at > now) {
                Some(soon) => schedule.at_latest(server_id, soon),
                None => {
                    of.urgent = true;
                    schedule.urgent(server_id);
                }
            }
        }
        drop(inner);
        self.wake.notify_one();
    }

    /// Looks at a server soon, for instance because its BMC was restarted; its subscription is looked at too.
    pub(crate) fn look_in(&self, server_id: Id, after: Duration) {
        let mut inner = self.inner();
        let Inner { servers, schedule, .. } = &mut *inner;
        let Some(of) = servers.get_mut(&server_id) else { return };
        of.way_due = None;
        schedule.at_latest(server_id, Instant::now() + after);
        drop(inner);
        self.wake.notify_one();
    }

    /// The last reading of a server's sensors.
    pub(crate) fn reading(&self, server_id: Id) -> Option<Arc<Sensors>> {
        self.inner().servers.get(&server_id).and_then(|of| of.reading.clone())
    }

    /// A reading that a job has made, and told.
    pub(crate) fn note_reading(&self, server_id: Id, reading: &Sensors) {
        let mut inner = self.inner();
        if let Some(of) = inner.servers.get_mut(&server_id) {
            of.health = Some(look::health(reading));
            of.reading = Some(Arc::new(reading.clone()));
        }
    }

    /// Takes over who came and who went, if anybody.
    fn follow(&self, site: &Site) {
        let generation = site.facts.generation();
        if self.inner().generation == Some(generation) {
            return;
        }
        let ids = site.facts.watched();
        let now = Instant::now();
        let mut inner = self.inner();
        let Inner { servers, schedule, generation: known, gone } = &mut *inner;
        let first = known.replace(generation).is_none();
        if servers.len() > ids.len() || !servers.keys().all(|id| ids.contains(id)) {
            servers.retain(|id, _| {
                let stays = ids.contains(id);
                if !stays {
                    gone.push(*id);
                }
                stays
            });
        }
        // Another login is tried at once.
        for (id, of) in servers.iter_mut().filter(|(_, of)| of.refused.is_some()) {
            if site.facts.server(*id).is_some_and(|s| s.bmc != of.refused) {
                of.refused = None;
                schedule.at_latest(*id, now);
            }
        }
        let mut n = 0u32;
        for id in ids {
            servers.entry(id).or_insert_with(|| {
                // A new one at once. After a start there are many, one after the other.
                let wait = if first { Duration::from_millis(50) * n } else { Duration::ZERO };
                n += 1;
                schedule.at(id, now + wait);
                Watched::default()
            });
        }
    }

    /// The next server whose turn it is.
    fn next(&self, site: &Site) -> Option<(Id, Wanted)> {
        let now = Instant::now();
        let mut inner = self.inner();
        let Inner { servers, schedule, .. } = &mut *inner;
        while let Some((id, urgent)) = schedule.pop(now) {
            let Some(of) = servers.get_mut(&id).filter(|of| !of.busy) else { continue };
            of.busy = true;
            of.urgent = false;
            let sensors = site.pace.sensors.is_some() && of.sensors_due.is_none_or(|due| due <= now);
            let wanted = Wanted {
                sensors: sensors || of.trouble,
                way: of.way_due.is_none_or(|due| due <= now),
                known: of.way.clone(),
                health: of.health.as_ref().map(|h| h.state),
                event: urgent,
            };
            of.trouble = false;
            return Some((id, wanted));
        }
        None
    }
}

/// Looks until the end.
pub(crate) async fn run(site: Arc<Site>, shutdown: CancellationToken) {
    // Tasks of their own: what one waits for (the database) another may hold.
    let mut looks = tokio::task::JoinSet::new();
    let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
    housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    subscription::load(&site).await;
    // Facts come in bursts; who came is looked for once in a while.
    let mut follow = tokio::time::interval(Duration::from_millis(250));
    follow.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        while looks.len() < AT_ONCE {
            let Some((id, wanted)) = site.watch.next(&site) else { break };
            let site = site.clone();
            looks.spawn(async move {
                let found = look::look(&site, id, &wanted).await;
                ended(&site, id, &wanted, found).await;
            });
        }
        let due = if looks.len() < AT_ONCE { site.watch.inner().schedule.due() } else { None };
        let due = due.unwrap_or_else(|| Instant::now() + HOUSEKEEPING);
        tokio::select! {
            Some(_) = looks.join_next(), if !looks.is_empty() => {}
            () = site.watch.wake.notified() => {}
            () = sleep_until(due) => {}
            _ = follow.tick() => site.watch.follow(&site),
            _ = housekeeping.tick() => {
                let of = site.clone();
                tokio::spawn(async move { of.tell_certificates().await });
                site.close_idle();
                let gone = std::mem::take(&mut site.watch.inner().gone);
                subscription::forget(&site, gone);
            }
            () = shutdown.cancelled() => return,
        }
    }
}

/// Tells what has changed, and says when the next look is.
async fn ended(site: &Arc<Site>, server_id: Id, wanted: &Wanted, found: Found) {
    let (before, health_before, log, dropped) = {
        let mut inner = site.watch.inner();
        let Some(of) = inner.servers.get_mut(&server_id) else { return };
        // What was passed over is told with the next words that are not.
        let dropped = if of.log.is_empty() { 0 } else { std::mem::take(&mut of.dropped) };
        (of.power.clone(), of.health.clone(), std::mem::take(&mut of.log), dropped)
    };
    let reachable = found.power.is_ok();
    let power_back = found.power.is_ok() && matches!(before, Some(Err(_)));
    let mut told = Vec::new();
    let power_told = match &found.power {
        now if before.as_ref() == Some(now) => true,
        Ok(power) => {
            told.push((format!("power/{server_id}"), Observed::Power { server_id, power: *power }));
            if matches!(before, Some(Err(_))) {
                told.push((format!("bmc/{server_id}"), Observed::Bmc { server_id, error: None }));
            }
            false
        }
        Err(error) => {
            let error = Some(error.clone());
            told.push((format!("bmc/{server_id}"), Observed::Bmc { server_id, error }));
            false
        }
    };
    let health = found.reading.as_ref().map(look::health).filter(|h| health_before.as_ref() != Some(h));
    if let Some(health) = &health {
        told.push((format!("health/{server_id}"), Observed::Health { server_id, health: health.clone() }));
    }
    if !log.is_empty() {
        // While the line is cut there is one message a minute of an hour, and no more.
        let subject = format!("hardware_log/{server_id}/{}", crate::session::now() / 60 % 60);
        told.push((subject, Observed::HardwareLog { server_id, entries: log, dropped }));
    }
    let all = observe_all(site, told).await;
    let mut inner = site.watch.inner();
    let pace = site.facts.with_settings(|settings| site.pace.with(settings)).for_many(inner.servers.len());
    let Inner { servers, schedule, .. } = &mut *inner;
    let Some(of) = servers.get_mut(&server_id) else { return };
    let now = Instant::now();
    of.busy = false;
    of.looked = Some(now);
    of.refused = found.refused;
    if all && !power_told {
        of.power = Some(found.power);
    }
    if let Some(health) = health.filter(|_| all) {
        of.health = Some(health);
    }
    if let Some(reading) = found.reading {
        of.reading = Some(Arc::new(reading));
        of.sensors_due = pace.sensors.map(|s| now + jittered(s));
    }
    if let Some(way) = found.way {
        if way != of.way {
            of.listening = subscription::listening(site, server_id, &way);
        }
        of.way = way;
        of.way_due = Some(now + jittered(of.way.check()));
    }
    let tells = matches!(of.way, Way::Push(_) | Way::Stream(_));
    // One that was away may have lost what it was asked to tell.
    let back = power_back && of.way_due.is_some_and(|due| due > now + EVENT_GAP);
    if back {
        of.way_due = None;
    }
    let pause = if back {
        EVENT_GAP
    } else if of.refused.is_some() {
        REFUSED
    } else if tells && reachable {
        pace.sensors.unwrap_or(REFUSED)
    } else {
        Ord::min(pace.power, pace.sensors.unwrap_or(pace.power))
    };
    let mut next = now + jittered(pause);
    if of.again {
        of.again = false;
        next = now + EVENT_GAP;
    } else if wanted.event {
        next = Ord::min(next, now + SECOND_LOOK);
    }
    schedule.at(server_id, next);
}

/// A fifth more or less, so that those who began together do not stay together.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(rand::rng().random_range(0.8..1.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_servers_are_looked_at_less_often() {
        let pace = Pace { power: Duration::from_mins(1), sensors: Some(Duration::from_mins(5)) };
        assert_eq!(pace.for_many(1_000), pace);
        let many = pace.for_many(10_000);
        assert_eq!((many.power.as_secs(), many.sensors.unwrap().as_secs()), (500, 2500));
    }
}
