//! Sensors: the older resources (Thermal, Power) and the newer (Sensors, EnvironmentMetrics, ThermalSubsystem, PowerSubsystem).

use std::collections::BTreeMap;

use async_trait::async_trait;
use model::bmc::PowerState;
use serde_json::Value;

use super::{Redfish, link};
use crate::{BmcError, Glance, Health, Reading, SensorReadings, Sensors, inventory::text};

fn health(v: &Value) -> Health {
    Health::of(v.pointer("/Status/Health").and_then(Value::as_str))
}

/// With what is below it, where it says so.
fn rollup(v: &Value) -> Health {
    let words = ["/Status/HealthRollup", "/Status/HealthRollUp", "/Status/Health"];
    words.iter().map(|p| Health::of(v.pointer(p).and_then(Value::as_str))).max().unwrap_or_default()
}

fn there(v: &Value) -> bool {
    !matches!(v.pointer("/Status/State").and_then(Value::as_str), Some("Absent" | "Disabled"))
}

fn name(v: &Value) -> Option<String> {
    text(v, "Name").or_else(|| text(v, "FanName")).or_else(|| text(v, "MemberId"))
}

fn list<'a>(v: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    v.get(field).and_then(Value::as_array).into_iter().flatten().filter(|s| there(s))
}

fn readings(v: &Value, field: &str, values: &[&str]) -> Vec<Reading> {
    list(v, field)
        .filter_map(|s| {
            let value = values.iter().find_map(|f| s.get(*f).and_then(Value::as_f64))?;
            Some(Reading { name: name(s)?, value, health: health(s) })
        })
        .collect()
}

pub(super) fn power(system: &Value) -> Option<PowerState> {
    match system.get("PowerState").and_then(Value::as_str) {
        Some("On" | "PoweringOn") => Some(PowerState::On),
        Some("Off" | "PoweringOff") => Some(PowerState::Off),
        _ => None,
    }
}

/// Parts that are not well.
#[derive(Default)]
struct Problems(BTreeMap<String, Health>);

impl Problems {
    fn note(&mut self, part: impl Into<String>, health: Health) {
        if health >= Health::Warning {
            let known = self.0.entry(part.into()).or_default();
            *known = Ord::max(*known, health);
        }
    }

    fn parts<'a>(&mut self, parts: impl IntoIterator<Item = &'a Value>) {
        for part in parts.into_iter().filter(|p| there(p)) {
            if let Some(name) = name(part) {
                self.note(name, rollup(part));
            }
        }
    }

    fn readings(&mut self, readings: &[Reading]) {
        for r in readings {
            self.note(&r.name, r.health);
        }
    }
}

impl SensorReadings {
    fn add(&mut self, sensor: &Value) {
        let (Some(value), Some(name)) = (sensor.get("Reading").and_then(Value::as_f64), text(sensor, "Name")) else {
            return;
        };
        let reading = Reading { name, value, health: health(sensor) };
        let context = sensor.get("PhysicalContext").and_then(Value::as_str).unwrap_or_default();
        match sensor.get("ReadingType").and_then(Value::as_str) {
            Some("Temperature") => self.temperatures.push(reading),
            Some("Rotational") => self.fans.push(reading),
            Some("Percent") if context == "Fan" => self.fans.push(reading),
            _ => {}
        }
    }
}

#[async_trait]
impl Sensors for Redfish {
    async fn glance(&self) -> Result<Glance, BmcError> {
        let system = self.system().await?;
        Ok(Glance { power: power(&system).unwrap_or(PowerState::Unknown), health: rollup(&system) })
    }

    async fn sensors(&self) -> Result<SensorReadings, BmcError> {
        let system = self.system().await?;
        let mut all = SensorReadings { health: rollup(&system), power: power(&system), ..SensorReadings::default() };
        let runs = all.power != Some(PowerState::Off);
        let mut problems = Problems::default();
        for (part, field) in [("Processors", "ProcessorSummary"), ("Memory", "MemorySummary")] {
            problems.note(part, rollup(&system[field]));
        }
        for chassis in self.chassis(&system).await? {
            let thermal = self.peek(&chassis["Thermal"]).await?;
            if thermal.is_object() {
                all.temperatures.extend(readings(&thermal, "Temperatures", &["ReadingCelsius"]));
                all.fans.extend(readings(&thermal, "Fans", &["Reading", "ReadingRPM"]));
                // A fan that stands still may have no reading, and is said to have failed by some when its server is off.
                if runs {
                    problems.parts(list(&thermal, "Fans"));
                    problems.parts(list(&thermal, "Redundancy"));
                }
            } else {
                self.members(&chassis["Sensors"]).await?.iter().for_each(|s| all.add(s));
                let cooling = self.peek(&chassis["ThermalSubsystem"]).await?;
                if runs {
                    problems.parts(&self.members(&cooling["Fans"]).await?);
                }
            }
            let power = self.peek(&chassis["Power"]).await?;
            if power.is_object() {
                problems.parts(list(&power, "PowerSupplies"));
                problems.parts(list(&power, "Redundancy"));
            } else {
                let supply = self.peek(&chassis["PowerSubsystem"]).await?;
                problems.parts(&self.members(&supply["PowerSupplies"]).await?);
            }
            let drawn = power.pointer("/PowerControl/0/PowerConsumedWatts").and_then(Value::as_f64);
            let drawn = match drawn {
                None if link(&chassis["EnvironmentMetrics"]).is_some() => {
                    let metrics = self.peek(&chassis["EnvironmentMetrics"]).await?;
                    metrics.pointer("/PowerWatts/Reading").and_then(Value::as_f64)
                }
                other => other,
            };
            if let Some(watts) = drawn {
                all.power_watts = Some(all.power_watts.unwrap_or(0.0) + watts);
            }
            let worst = rollup(&chassis);
            all.health = Ord::max(all.health, worst);
        }
        problems.readings(&all.temperatures);
        if runs {
            problems.readings(&all.fans);
        }
        all.problems = problems.0.into_iter().collect();
        all.health = all.problems.iter().map(|(_, h)| *h).chain([all.health]).max().unwrap_or_default();
        Ok(all)
    }
}
