//! Fault rules: *selector + action + count*. Every protocol face asks here before it acts.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use serde::{Deserialize, Serialize};

use crate::lock;

/// Kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// A server (its BMC and its network ports).
    Server,
    /// A switch.
    Switch,
    /// A storage array.
    Array,
}

/// Protocol face of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Face {
    /// DHCP messages that a server sends. Operations: `DISCOVER`, `REQUEST`.
    Dhcp,
    /// TFTP reads of a server. Operations: `RRQ file`.
    Tftp,
    /// HTTP requests of firmware, iPXE and installer. Operations: `GET path`.
    Http,
    /// Requests to the BMC, `METHOD path`, the firmware's choice of a boot source, `BOOT`, and the writing of firmware, `UPDATE`.
    Redfish,
    /// Requests to a switch, `METHOD path`, and its applying of a revision, `APPLY revision`.
    Nvue,
    /// Requests to a storage array, `METHOD path`, and its jobs, `JOB add /api/storage/volumes`.
    Storage,
    /// Requests and steps of the installer. Operations: `GET /agent/v1/task`, `STEP write_image`; and what it sees, `GPU 1`.
    Agent,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Nothing is sent; a connection is closed without an answer.
    Drop,
    /// Everything is as usual, later.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// An error instead of the answer.
    Error {
        /// HTTP status (DHCP and TFTP: any number means refused).
        status: u16,
        /// Text of the error.
        #[serde(default)]
        message: Option<String>,
    },
    /// A wrong body with status 200.
    WrongBody {
        /// The body.
        body: String,
    },
    /// The body ends early, after this share of it.
    Truncate {
        /// Percent that still arrives.
        percent: u8,
    },
    /// The request is taken and never answered.
    Hang,
    /// The answer says something untrue.
    Lie {
        /// JSON pointer of what is changed, such as `/PowerState`.
        pointer: String,
        /// What it says instead. Absent for `/PowerState`: the state before the last change.
        #[serde(default)]
        value: Option<serde_json::Value>,
    },
    /// The connection is cut after so many bytes of the body.
    DisconnectAfter {
        /// Bytes.
        bytes: usize,
    },
    /// A boot override is accepted and then not followed.
    IgnoreBootOverride,
    /// The BMC restarts in the middle of a firmware update, which is lost.
    RestartBmc,
}

/// Which devices and operations a rule is about. What is left out matches everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selector {
    /// Kind of device.
    pub kind: Option<DeviceKind>,
    /// Serial number or name of the device; `*` and `?` are wildcards.
    pub id: Option<String>,
    /// Protocol face.
    pub face: Option<Face>,
    /// Operation, see [`Face`]; `*` and `?` are wildcards.
    pub operation: Option<String>,
}

/// A fault rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// Number, given by the simulator.
    #[serde(default)]
    pub id: u64,
    /// For people.
    #[serde(default)]
    pub name: String,
    /// Where it strikes.
    #[serde(default)]
    pub selector: Selector,
    /// What it does.
    pub action: Action,
    /// How often it still strikes. Absent: for ever.
    #[serde(default)]
    pub count: Option<u64>,
    /// How often it has struck.
    #[serde(default)]
    pub hits: u64,
}

/// Named faults and what they do.
pub const PRESETS: [(&str, &str); 20] = [
    ("bmc_hangs", "BMCs take requests and never answer"),
    ("bmc_slow", "BMCs answer after two seconds"),
    ("bmc_errors", "BMCs answer 503"),
    ("bmc_garbage", "BMCs answer with a body that is no JSON"),
    ("bmc_lies_power", "BMCs report the power state before the last change"),
    ("bmc_ignores_boot_override", "firmware does not follow the boot override"),
    ("bmc_restarts_in_update", "BMCs restart in the middle of a firmware update, once"),
    ("dhcp_silent", "DHCP messages of servers are lost"),
    ("tftp_fails", "TFTP requests of servers are lost"),
    ("image_cut_at_90", "image downloads end after 90 percent, once"),
    ("agent_install_fails", "the installer fails when writing the image, once"),
    ("gpu_falls_off_bus", "the first GPU of a server is not seen by the boot image any more"),
    ("site_errors", "HTTP requests of servers are answered 500"),
    ("switch_apply_fails", "switches fail to apply a revision"),
    ("switch_hangs", "switches take requests and never answer"),
    ("switch_slow", "switches answer after two seconds"),
    ("array_hangs", "storage arrays take requests and never answer"),
    ("array_slow", "storage arrays answer after two seconds"),
    ("array_errors", "storage arrays answer 503"),
    ("array_job_fails", "a job of a storage array fails, once"),
];

/// Rule of a preset; `None` for an unknown name.
pub fn preset(name: &str) -> Option<FaultRule> {
    let rule = |face, operation: Option<&str>, action, count| FaultRule {
        id: 0,
        name: name.to_owned(),
        selector: Selector { kind: None, id: None, face: Some(face), operation: operation.map(str::to_owned) },
        action,
        count,
        hits: 0,
    };
    let error = |status| Action::Error { status, message: None };
    Some(match name {
        "bmc_hangs" => rule(Face::Redfish, None, Action::Hang, None),
        "bmc_slow" => rule(Face::Redfish, None, Action::Delay { ms: 2000 }, None),
        "bmc_errors" => rule(Face::Redfish, None, error(503), None),
        "bmc_garbage" => rule(Face::Redfish, None, Action::WrongBody { body: "<html>busy".into() }, None),
        "bmc_lies_power" => rule(
            Face::Redfish,
            Some("GET */Systems/*"),
            Action::Lie { pointer: "/PowerState".into(), value: None },
            None,
        ),
        "bmc_ignores_boot_override" => rule(Face::Redfish, Some("BOOT"), Action::IgnoreBootOverride, None),
        "bmc_restarts_in_update" => rule(Face::Redfish, Some("UPDATE"), Action::RestartBmc, Some(1)),
        "dhcp_silent" => rule(Face::Dhcp, None, Action::Drop, None),
        "tftp_fails" => rule(Face::Tftp, None, Action::Drop, None),
        "image_cut_at_90" => rule(Face::Http, Some("GET */images/*"), Action::Truncate { percent: 90 }, Some(1)),
        "agent_install_fails" => rule(Face::Agent, Some("STEP write_image"), error(500), Some(1)),
        "gpu_falls_off_bus" => rule(Face::Agent, Some("GPU 1"), Action::Drop, None),
        "site_errors" => rule(Face::Http, None, error(500), None),
        "switch_apply_fails" => rule(Face::Nvue, Some("APPLY *"), error(500), None),
        "switch_hangs" => rule(Face::Nvue, Some("* /*"), Action::Hang, None),
        "switch_slow" => rule(Face::Nvue, Some("* /*"), Action::Delay { ms: 2000 }, None),
        "array_hangs" => rule(Face::Storage, Some("* /*"), Action::Hang, None),
        "array_slow" => rule(Face::Storage, Some("* /*"), Action::Delay { ms: 2000 }, None),
        "array_errors" => rule(Face::Storage, Some("* /*"), error(503), None),
        "array_job_fails" => rule(Face::Storage, Some("JOB *"), error(500), Some(1)),
        _ => return None,
    })
}

/// `*` matches any run of characters, `?` one character; letters regardless of case.
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.to_lowercase().chars().collect(), text.to_lowercase().chars().collect());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star_p, star_t)) = star {
            star = Some((star_p, star_t + 1));
            p = star_p + 1;
            t = star_t + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The rules in force.
#[derive(Default)]
pub struct Faults {
    rules: Mutex<(u64, Vec<FaultRule>)>,
    any: AtomicBool,
}

impl Faults {
    /// Adds a rule; returns its number.
    pub fn add(&self, mut rule: FaultRule) -> u64 {
        let mut rules = lock(&self.rules);
        rules.0 += 1;
        rule.id = rules.0;
        rule.hits = 0;
        rules.1.push(rule);
        self.any.store(true, Ordering::Release);
        rules.0
    }

    /// Removes one rule, or all.
    pub fn remove(&self, id: Option<u64>) -> usize {
        let mut rules = lock(&self.rules);
        let before = rules.1.len();
        rules.1.retain(|rule| id.is_some_and(|id| rule.id != id));
        self.any.store(!rules.1.is_empty(), Ordering::Release);
        before - rules.1.len()
    }

    /// All rules.
    pub fn list(&self) -> Vec<FaultRule> {
        lock(&self.rules).1.clone()
    }

    /// What strikes this operation, delays first; rules with a count are used up by it.
    pub fn strike(&self, kind: DeviceKind, names: &[&str], face: Face, operation: &str) -> Vec<Action> {
        if !self.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut actions = Vec::new();
        for rule in &mut lock(&self.rules).1 {
            let wanted = &rule.selector;
            if rule.count == Some(0)
                || wanted.kind.is_some_and(|k| k != kind)
                || wanted.face.is_some_and(|f| f != face)
                || wanted.id.as_deref().is_some_and(|id| !names.iter().any(|name| glob(id, name)))
                || wanted.operation.as_deref().is_some_and(|pattern| !glob(pattern, operation))
            {
                continue;
            }
            // A rule for one thing only must not be used up by another operation on the same face.
            if matches!(rule.action, Action::IgnoreBootOverride) != (operation == "BOOT")
                || matches!(rule.action, Action::RestartBmc) != (operation == "UPDATE")
            {
                continue;
            }
            rule.hits += 1;
            if let Some(count) = &mut rule.count {
                *count -= 1;
            }
            actions.push(rule.action.clone());
        }
        actions.sort_by_key(|action| !matches!(action, Action::Delay { .. }));
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("GET */Systems/*", "GET /redfish/v1/Systems/1", true),
            ("GET */Systems/*", "PATCH /redfish/v1/Systems/1", false),
            ("leaf?", "LEAF1", true),
            ("leaf?", "leaf10", false),
            ("*a*b", "xxayybzb", true),
            ("a**", "a", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn counted_rules_are_used_up_and_every_preset_exists() {
        let faults = Faults::default();
        faults.add(FaultRule { count: Some(2), ..preset("bmc_errors").unwrap() });
        let strike = || faults.strike(DeviceKind::Server, &["S1"], Face::Redfish, "GET /redfish/v1");
        assert_eq!(strike().len() + strike().len() + strike().len(), 2);
        assert!(faults.strike(DeviceKind::Switch, &["leaf1"], Face::Nvue, "GET /nvue_v1/system").is_empty());
        assert_eq!(faults.list()[0].hits, 2);
        assert_eq!(faults.remove(None), 1);
        for (name, _) in PRESETS {
            assert!(preset(name).is_some(), "{name}");
        }
    }

    #[test]
    fn rules_read_as_json() {
        let rule: FaultRule = serde_json::from_str(
            r#"{"selector":{"id":"D*","face":"redfish"},"action":{"type":"delay","ms":50},"count":3}"#,
        )
        .unwrap();
        assert_eq!(rule.action, Action::Delay { ms: 50 });
        assert!(serde_json::from_str::<FaultRule>(r#"{"action":{"type":"drop"},"colour":"red"}"#).is_err());
    }
}
