//! Sensors: the older resources (Thermal, Power) and the newer (Sensors, EnvironmentMetrics).

use async_trait::async_trait;
use serde_json::Value;

use super::{Redfish, link};
use crate::{BmcError, Health, Reading, SensorReadings, Sensors, inventory::text};

fn health(v: &Value) -> Health {
    Health::of(v.pointer("/Status/Health").and_then(Value::as_str))
}

fn readings(v: &Value, list: &str, values: &[&str]) -> Vec<Reading> {
    let all = v.get(list).and_then(Value::as_array).into_iter().flatten();
    let there = |s: &&Value| s.pointer("/Status/State").and_then(Value::as_str) != Some("Absent");
    all.filter(there)
        .filter_map(|s| {
            let value = values.iter().find_map(|f| s.get(*f).and_then(Value::as_f64))?;
            let name = text(s, "Name").or_else(|| text(s, "FanName")).or_else(|| text(s, "MemberId"))?;
            Some(Reading { name, value, health: health(s) })
        })
        .collect()
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
    async fn sensors(&self) -> Result<SensorReadings, BmcError> {
        let system = self.system().await?;
        let word = ["/Status/HealthRollup", "/Status/Health"].iter().find_map(|p| system.pointer(p)?.as_str());
        let mut all = SensorReadings { health: Health::of(word), ..SensorReadings::default() };
        for chassis in self.chassis(&system).await? {
            let thermal = self.peek(&chassis["Thermal"]).await?;
            if thermal.is_object() {
                all.temperatures.extend(readings(&thermal, "Temperatures", &["ReadingCelsius"]));
                all.fans.extend(readings(&thermal, "Fans", &["Reading", "ReadingRPM"]));
            } else {
                self.members(&chassis["Sensors"]).await?.iter().for_each(|s| all.add(s));
            }
            let power = self.peek(&chassis["Power"]).await?;
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
        }
        Ok(all)
    }
}
