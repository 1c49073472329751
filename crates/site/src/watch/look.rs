//! One look at a server: its power, how it is, and whether its BMC tells of itself.

use bmc::{BmcError, Driver, Power, SensorReadings, Sensors as _};
use model::{
    Id,
    bmc::{BmcEndpoint, PowerState},
    firmware::{Sensor, Sensors},
    health::{HealthState, Problem, ServerHealth},
};

use super::subscription::{self, Way};
use crate::Site;

/// Power, or why it is not known.
pub(super) type Seen = Result<PowerState, String>;

/// What a look is for.
pub(super) struct Wanted {
    /// Sensors are read, not the power alone.
    pub(super) sensors: bool,
    /// Whether it tells of itself is looked at.
    pub(super) way: bool,
    pub(super) known: Way,
    pub(super) health: Option<HealthState>,
    /// An event caused it.
    pub(super) event: bool,
}

/// What it found.
pub(super) struct Found {
    pub(super) power: Seen,
    pub(super) reading: Option<Sensors>,
    pub(super) way: Option<Way>,
    /// The login that the BMC does not let in.
    pub(super) refused: Option<BmcEndpoint>,
}

fn state(health: bmc::Health) -> HealthState {
    HealthState::parse(health.as_str())
}

/// A reading as it is told.
pub(crate) fn reading(found: SensorReadings) -> Sensors {
    let list = |list: Vec<bmc::Reading>| {
        let one = |r: bmc::Reading| Sensor { name: r.name, value: r.value, health: r.health.as_str().to_owned() };
        list.into_iter().map(one).collect()
    };
    Sensors {
        health: found.health.as_str().to_owned(),
        temperatures: list(found.temperatures),
        fans: list(found.fans),
        power_watts: found.power_watts,
        problems: found.problems.into_iter().map(|(part, health)| Problem { part, health: state(health) }).collect(),
        read_at: Some(store::time::now()),
    }
}

/// How a server is, by that reading.
pub(super) fn health(reading: &Sensors) -> ServerHealth {
    ServerHealth { state: HealthState::parse(&reading.health), problems: reading.problems.clone() }
}

/// Looks at a server. Nothing of this changes it, but for a subscription at its BMC.
pub(super) async fn look(site: &Site, server_id: Id, wanted: &Wanted) -> Found {
    let nothing = |why: String| Found { power: Err(why), reading: None, way: None, refused: None };
    let Some(server) = site.facts.server(server_id) else { return nothing("it is not known here any more".into()) };
    let driver = match site.bmc(&server) {
        Ok(driver) => driver,
        Err(e) => return nothing(e.message),
    };
    let (power, reading) = match driver.as_ref() {
        Driver::Redfish(redfish) => {
            let glance = if wanted.sensors { None } else { Some(redfish.glance().await) };
            match glance {
                Some(Err(e)) => (Err(e), None),
                // As it was: that was all.
                Some(Ok(g)) if wanted.health == Some(state(g.health)) && !state(g.health).is_bad() => {
                    (Ok(g.power), None)
                }
                Some(Ok(g)) => (Ok(g.power), redfish.sensors().await.ok()),
                None => match redfish.sensors().await {
                    Ok(all) => (Ok(all.power.unwrap_or(PowerState::Unknown)), Some(all)),
                    Err(e @ (BmcError::Unauthorized(_) | BmcError::Unreachable { .. })) => (Err(e), None),
                    // A BMC whose sensors cannot be read has a power button still.
                    Err(_) => (redfish.power().await, None),
                },
            }
        }
        Driver::Ipmi(ipmi) => (ipmi.power().await, None),
    };
    let reachable = power.is_ok();
    let way = if wanted.way && reachable {
        Some(subscription::ensure(site, &server, &driver, &wanted.known).await)
    } else {
        None
    };
    Found {
        refused: if matches!(power, Err(BmcError::Unauthorized(_))) { server.bmc.clone() } else { None },
        power: power.map_err(|e| e.to_string()),
        reading: reading.map(self::reading),
        way,
    }
}
