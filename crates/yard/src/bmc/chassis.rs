//! `/redfish/v1/Chassis`: power draw, temperatures, fans, indicator.

use hyper::Method;
use serde_json::{Value, json};

use super::{Answer, Bmc, body, collection, error::Fault, events, ok, read_only};
use crate::{httpd::Incomer, server::Stage};

/// Routes below `/redfish/v1/Chassis`.
pub fn route(bmc: &Bmc, request: &Incomer, rest: &[&str]) -> Answer {
    let spec = &bmc.server.spec;
    let model = spec.model;
    let id = model.vendor.chassis_id();
    let base = format!("/redfish/v1/Chassis/{id}");
    let rest = match rest {
        [] => {
            read_only(request)?;
            return collection("/redfish/v1/Chassis", "ChassisCollection", "Chassis Collection", &[id.to_owned()]);
        }
        [known, rest @ ..] if *known == id => rest,
        _ => return Err(Fault::missing(&request.path)),
    };
    if rest.is_empty() && request.method == Method::PATCH {
        return patch(bmc, request);
    }
    read_only(request)?;
    let (on, busy, indicator, worst) = bmc.server.with(|state| {
        let busy = matches!(state.stage, Stage::Agent | Stage::OsUp | Stage::OsBoot);
        (state.kept.on, busy, state.kept.bmc.indicator.clone(), events::worst(state, ""))
    });
    let status = |part: &str| bmc.server.with(|state| events::status(state, part));
    let watts = match (on, busy) {
        (false, _) => 14,
        (true, true) => model.watts * 13 / 10,
        (true, false) => model.watts,
    };
    let capacity = model.watts.max(400) * 2;
    match rest {
        [] => ok(&json!({
            "@odata.id": base, "@odata.type": "#Chassis.v1_23_0.Chassis", "Id": id, "Name": "Chassis",
            "ChassisType": "RackMount", "Manufacturer": model.vendor.manufacturer(), "Model": model.name,
            "SerialNumber": spec.serial, "SKU": spec.serial, "PowerState": if on { "On" } else { "Off" },
            "IndicatorLED": indicator, "LocationIndicatorActive": indicator != "Off",
            "HeightMm": f64::from(model.units) * 44.45, "Status": {"State": "Enabled", "Health": worst, "HealthRollup": worst},
            "Location": {"Placement": {"Rack": format!("rack{}", spec.rack), "RackOffsetUnits": "EIA_310",
                "RackOffset": spec.nics.first().map(|nic| nic.port)}},
            "Power": {"@odata.id": format!("{base}/Power")}, "Thermal": {"@odata.id": format!("{base}/Thermal")},
            "Links": {"ComputerSystems": [{"@odata.id": format!("/redfish/v1/Systems/{}", model.vendor.system_id())}],
                "ManagedBy": [{"@odata.id": format!("/redfish/v1/Managers/{}", model.vendor.manager_id())}]},
        })),
        ["Power"] => {
            let supplies: Vec<Value> = (0..2)
                .map(|n| {
                    json!({"MemberId": n.to_string(), "Name": format!("PS{} Status", n + 1), "Status": status(&format!("psu-{}", n + 1)),
                        "PowerCapacityWatts": capacity, "LastPowerOutputWatts": watts / 2, "LineInputVoltage": 230})
                })
                .collect();
            ok(&json!({
                "@odata.id": format!("{base}/Power"), "@odata.type": "#Power.v1_7_1.Power", "Id": "Power", "Name": "Power",
                "PowerControl": [{"MemberId": "0", "Name": "System Power Control", "PowerConsumedWatts": watts,
                    "PowerCapacityWatts": capacity, "PowerMetrics": {"AverageConsumedWatts": watts,
                        "MaxConsumedWatts": model.watts * 2, "MinConsumedWatts": 14, "IntervalInMin": 1}}],
                "PowerSupplies": supplies,
            }))
        }
        ["Thermal"] => {
            let cpu = if on { 38 + i32::from(busy) * 14 } else { 24 };
            let reading = |n: usize, name: &str, degrees: i32, limit: i32| {
                json!({"MemberId": n.to_string(), "Name": name, "ReadingCelsius": degrees,
                    "UpperThresholdCritical": limit, "Status": status(&format!("temp-{n}"))})
            };
            let mut temperatures = vec![reading(0, "System Board Inlet Temp", 23, 47)];
            temperatures.extend((1..=model.sockets).map(|n| reading(n, &format!("CPU{n} Temp"), cpu, 97)));
            let speed = if on { 7200 } else { 0 };
            let fans: Vec<Value> = (1..=6)
                .map(|n| {
                    let health = status(&format!("fan-{n}"));
                    let speed = if health["Health"] == "Critical" { 0 } else { speed };
                    json!({"MemberId": n.to_string(), "Name": format!("Fan {n}"), "Reading": speed,
                        "ReadingUnits": "RPM", "Status": status(&format!("fan-{n}"))})
                })
                .collect();
            ok(&json!({
                "@odata.id": format!("{base}/Thermal"), "@odata.type": "#Thermal.v1_7_1.Thermal", "Id": "Thermal",
                "Name": "Thermal", "Temperatures": temperatures, "Fans": fans,
            }))
        }
        _ => Err(Fault::missing(&request.path)),
    }
}

fn patch(bmc: &Bmc, request: &Incomer) -> Answer {
    for (name, value) in body(request)? {
        let indicator = match (name.as_str(), &value) {
            ("IndicatorLED", Value::String(led)) if ["Off", "Lit", "Blinking"].contains(&led.as_str()) => led.clone(),
            ("IndicatorLED", Value::String(led)) => return Err(Fault::value("IndicatorLED", led)),
            ("LocationIndicatorActive", Value::Bool(on)) => if *on { "Blinking" } else { "Off" }.to_owned(),
            ("IndicatorLED" | "LocationIndicatorActive", _) => return Err(Fault::kind(&name)),
            _ => return Err(Fault::unknown(&name)),
        };
        bmc.change(|state| state.kept.bmc.indicator = indicator);
    }
    bmc.done()
}
