//! Firmware of servers, and what else a BMC is asked for by a job: settings, sensors, logs, its own reset, virtual media.

use std::{cmp::Ordering, collections::BTreeMap};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Id, order::Order, template::ImageRef};

/// One part whose firmware the BMC knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Id that the BMC gives it; stays the same over updates.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// `bios`, `bmc`, `nic`, `gpu`, `storage`, `power_supply` or `other`.
    pub kind: String,
    /// Version that runs.
    #[serde(default)]
    pub version: Option<String>,
    /// Whether the BMC takes updates for it.
    pub updateable: bool,
    /// What the vendor calls its software, such as Dell's component id: binaries name it.
    #[serde(default)]
    pub software_id: Option<String>,
    /// Maker of the part.
    #[serde(default)]
    pub manufacturer: Option<String>,
    /// When the vendor released what runs.
    #[serde(default)]
    pub released: Option<String>,
}

/// Answer of `server.firmware_inventory`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// All parts.
    pub components: Vec<Component>,
    /// Ways in which the BMC takes images, the best first: `multipart_push`, `http_push`, `pull`. Empty: it takes none.
    pub methods: Vec<String>,
    /// Whether an update of what needs a restart waits for it. Else the BMC may restart the server by itself.
    #[serde(default)]
    pub holds_back: bool,
}

/// `server.firmware_inventory`: the firmware of all parts, from the BMC. Returns [`Inventory`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFirmwareInventory {
    /// The server.
    pub server_id: Id,
}

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Image {
    /// Known by its content: the site checks it, keeps it, and can serve it to the BMC.
    Checked(ImageRef),
    /// Known by its place alone.
    Url {
        /// `http(s)://…`
        url: String,
    },
}

/// `server.firmware_update`: writes one part's firmware, restarts what has to be restarted, and reads the version back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFirmwareUpdate {
    /// The server.
    pub server_id: Id,
    /// Id of the part at the BMC.
    pub component: String,
    /// Its name, for messages.
    pub name: String,
    /// `bios`, `bmc`, …
    pub kind: String,
    /// The image.
    pub image: Image,
    /// Version that must run afterwards; unknown for an image that a person named without its version.
    #[serde(default)]
    pub version: Option<String>,
    /// Whether the server may be restarted so that the new firmware takes effect. Without it the update waits for the next restart.
    pub restart: bool,
    /// The server must not be restarted for it, not by its BMC either: it takes effect whenever somebody restarts it.
    #[serde(default)]
    pub hold: bool,
    /// Until when its owner agreed to an update of a server in use, RFC 3339. A server in use is not touched without it, or after it.
    #[serde(default)]
    pub agreed_until: Option<String>,
}

/// Answer of `server.firmware_update`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Updated {
    /// Id of the part.
    pub component: String,
    /// Version that runs.
    pub version: Option<String>,
    /// The new one is written and waits for a restart of the server.
    pub waits_for_restart: bool,
}

/// `server.boot_iso`: inserts an image by its URL, boots from it once, and takes it out when the server is off again or the time is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerBootIso {
    /// The server.
    pub server_id: Id,
    /// `http(s)://…`, as the BMC reaches it.
    pub url: String,
    /// Name, for messages.
    pub name: String,
    /// Seconds after which the image is taken out of a server that still runs.
    pub eject_after_seconds: u32,
    /// As in [`ServerFirmwareUpdate::agreed_until`].
    #[serde(default)]
    pub agreed_until: Option<String>,
}

/// `server.bios`: the firmware's settings, after writing some of them. Returns [`BiosSettings`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerBios {
    /// The server.
    pub server_id: Id,
    /// Written so that they are in force after the next restart.
    #[serde(default)]
    pub set: BTreeMap<String, Value>,
}

/// Answer of `server.bios`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BiosSettings {
    /// In force.
    pub attributes: BTreeMap<String, Value>,
    /// In force after the next restart, where different.
    pub pending: BTreeMap<String, Value>,
}

/// `server.sensors`: what the sensors say. Returns [`Sensors`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSensors {
    /// The server.
    pub server_id: Id,
    /// The last reading will do when it is no older than this. Absent: read now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<u32>,
}

/// One sensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sensor {
    /// Name.
    pub name: String,
    /// Value.
    pub value: f64,
    /// `ok`, `warning`, `critical` or `unknown`.
    pub health: String,
}

/// Answer of `server.sensors`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sensors {
    /// The server as a whole: `ok`, `warning`, `critical` or `unknown`.
    pub health: String,
    /// Degrees Celsius.
    pub temperatures: Vec<Sensor>,
    /// Revolutions a minute, or per cent.
    pub fans: Vec<Sensor>,
    /// Watts drawn by the whole server.
    #[serde(default)]
    pub power_watts: Option<f64>,
    /// Parts that are not well.
    #[serde(default)]
    pub problems: Vec<crate::health::Problem>,
    /// When it was read (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<String>,
}

/// `server.event_log`: the hardware's event log. Returns `{"entries": [LogEntry]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerEventLog {
    /// The server.
    pub server_id: Id,
    /// Empties it after it was read.
    #[serde(default)]
    pub clear: bool,
}

/// An entry of the hardware's event log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Id.
    pub id: String,
    /// When, as the BMC writes it.
    pub at: Option<String>,
    /// `ok`, `warning`, `critical` or `unknown`.
    pub severity: String,
    /// Text.
    pub message: String,
}

/// `server.bmc`: one thing that only the BMC can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerBmc {
    /// The server.
    pub server_id: Id,
    /// What.
    pub action: BmcAction,
}

/// What a BMC can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum BmcAction {
    /// Restart the BMC, not its server, and see that it is back.
    Reset,
    /// Interrupt the operating system, for a crash dump.
    Nmi,
    /// Switch its SNMP agent on.
    EnableSnmp,
    /// Send its events to a syslog server.
    Syslog {
        /// `address:port`.
        target: String,
    },
    /// Settings of the firmware and of the BMC as from the factory, without losing its address and accounts.
    FactoryReset,
    /// Read the boot order.
    BootOrder,
    /// Change the boot order.
    SetBootOrder {
        /// Boot options, the first first.
        order: Vec<String>,
    },
    /// Take the image out of the virtual drive.
    EjectMedia,
    /// Read what becomes of the server when power comes back after a loss.
    AfterPowerLoss,
    /// Change that.
    SetAfterPowerLoss {
        /// What it shall do.
        wanted: AfterPowerLoss,
    },
}

/// What a server does when power comes back after a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterPowerLoss {
    /// It stays off.
    StayOff,
    /// It is as it was before.
    LastState,
    /// It starts.
    Start,
}

/// Answer of the boot order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootOrder {
    /// Boot options, the first first.
    pub order: Vec<String>,
    /// What each of them is, by its name.
    pub options: BTreeMap<String, String>,
}

macro_rules! orders {
    ($($ty:ident = $name:literal),* $(,)?) => {
        $(impl Order for $ty { const NAME: &'static str = $name; })*
    };
}

orders! {
    ServerFirmwareInventory = "server.firmware_inventory",
    ServerFirmwareUpdate = "server.firmware_update",
    ServerBootIso = "server.boot_iso",
    ServerBios = "server.bios",
    ServerSensors = "server.sensors",
    ServerEventLog = "server.event_log",
    ServerBmc = "server.bmc",
}

/// Compares versions as people read them: numbers by value, letters by alphabet (without regard to case), separators not at all.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    let (a, b) = (parts(a), parts(b));
    for n in 0..Ord::max(a.len(), b.len()) {
        let order = match (a.get(n), b.get(n)) {
            (Some(x), Some(y)) => x.cmp(y),
            (Some(x), None) => x.against_nothing(),
            (None, Some(y)) => y.against_nothing().reverse(),
            (None, None) => Ordering::Equal,
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

impl Part {
    /// 2.10.0 is 2.10, 2.10a is newer, 2.10-rc is older.
    fn against_nothing(&self) -> Ordering {
        match self {
            Self::Number(0) => Ordering::Equal,
            Self::Word(w) if ["alpha", "beta", "rc", "pre"].contains(&w.as_str()) => Ordering::Less,
            _ => Ordering::Greater,
        }
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Word(String),
    Number(u128),
}

fn parts(text: &str) -> Vec<Part> {
    let mut all = Vec::new();
    let mut rest = text.trim();
    while let Some(first) = rest.chars().next() {
        let digits = first.is_ascii_digit();
        let letters = first.is_alphabetic();
        let end =
            rest.find(|c: char| if digits { !c.is_ascii_digit() } else { !c.is_alphabetic() }).unwrap_or(rest.len());
        if digits {
            all.push(Part::Number(rest[..end].parse().unwrap_or(u128::MAX)));
        } else if letters {
            let word = rest[..end].to_lowercase();
            // `v1.2` is `1.2`.
            if !(all.is_empty() && word == "v") {
                all.push(Part::Word(word));
            }
        } else {
            rest = &rest[first.len_utf8()..];
            continue;
        }
        rest = &rest[end..];
    }
    all
}

#[cfg(test)]
mod tests {
    use Ordering::{Equal, Greater, Less};

    use super::*;

    #[test]
    fn versions_compare_as_people_read_them() {
        for (a, b, expected) in [
            ("2.9.1", "2.10.0", Less),
            ("2.10", "2.10.0", Equal),
            ("v1.58", "1.58", Equal),
            ("iLO 6 v1.58", "iLO 6 v1.60", Less),
            ("01.03.16", "1.3.16", Equal),
            ("7.10.50.00", "7.10.30.05", Greater),
            ("U32 v2.44", "U32 v2.40", Greater),
            ("22.36.1010", "22.36.1010a", Less),
            ("1.0-rc", "1.0.0", Less),
            ("", "1", Less),
        ] {
            assert_eq!(compare_versions(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn images_read_in_both_forms() {
        let url: Image = serde_json::from_str(r#"{"url":"http://a/b"}"#).unwrap();
        assert_eq!(url, Image::Url { url: "http://a/b".into() });
        let checked: Image =
            serde_json::from_str(r#"{"sha256":"aa","size":1,"format":"raw","url":"http://a"}"#).unwrap();
        assert!(matches!(checked, Image::Checked(_)));
    }
}
