//! BMC drivers: small traits, with the Redfish standard and IPMI 2.0 as implementations.
//!
//! Missing or odd answers are normal: every wait has a deadline, what is absent is `None`, and an error says what a person can do.

pub mod console;
mod driver;
mod error;
mod inventory;
pub mod ipmi;
mod quirks;
pub mod redfish;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use model::{
    bmc::{BootTarget, HardwareInventory, PowerAction, PowerState},
    firmware::AfterPowerLoss,
    secret::Clear,
};
use serde_json::Value;

pub use driver::{Driver, Kind, open};
pub use error::BmcError;
pub use ipmi::Ipmi;
pub use redfish::Redfish;

/// How to reach a BMC, with the password in clear.
#[derive(Clone, Debug)]
pub struct Access {
    /// `address` or `address:port`.
    pub address: String,
    /// Login name.
    pub username: String,
    /// Password.
    pub password: Clear,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// SHA-256 (hex) of the only certificate that is accepted. `None`: that of the first contact.
    pub tls_fingerprint: Option<String>,
}

/// Power.
#[async_trait]
pub trait Power: Send + Sync {
    /// What it is now.
    async fn power(&self) -> Result<PowerState, BmcError>;
    /// Asks for a change; it takes effect later. Asking for what is already so does nothing.
    async fn set_power(&self, action: PowerAction) -> Result<(), BmcError>;
    /// Waits until it is so.
    async fn wait_for_power(&self, wanted: PowerState, limit: Duration) -> Result<(), BmcError> {
        let end = tokio::time::Instant::now() + limit;
        let mut pause = Duration::from_millis(250);
        loop {
            let found = match self.power().await {
                Ok(found) if found == wanted => return Ok(()),
                Ok(found) => format!("{found:?}").to_lowercase(),
                // A BMC may be silent while its server starts.
                Err(e) if e.is_retryable() && tokio::time::Instant::now() < end => e.to_string(),
                Err(e) => return Err(e),
            };
            if tokio::time::Instant::now() >= end {
                return Err(BmcError::NoEffect {
                    address: self.address(),
                    what: format!("power was to be {wanted:?}").to_lowercase(),
                    found,
                    seconds: limit.as_secs(),
                });
            }
            tokio::time::sleep(pause).await;
            pause = Ord::min(pause * 2, Duration::from_secs(5));
        }
    }
    /// Its address, for messages.
    fn address(&self) -> String;
}

/// What becomes of a server when power comes back.
#[async_trait]
pub trait PowerLoss: Send + Sync {
    /// What it is set to; `None` when the BMC does not say.
    async fn after_power_loss(&self) -> Result<Option<AfterPowerLoss>, BmcError>;
    /// Changes it. Read back.
    async fn set_after_power_loss(&self, wanted: AfterPowerLoss) -> Result<(), BmcError>;
}

/// Boot source.
#[async_trait]
pub trait Boot: Send + Sync {
    /// The next boot, and only that, comes from there. Read back, because some BMCs say yes and forget.
    async fn boot_once(&self, target: BootTarget) -> Result<(), BmcError>;
}

/// Inventory.
#[async_trait]
pub trait Inventory: Send + Sync {
    /// What the BMC knows of its server.
    async fn inventory(&self) -> Result<HardwareInventory, BmcError>;
}

/// Identify LED.
#[async_trait]
pub trait Identify: Send + Sync {
    /// Switches the LED on or off.
    async fn identify(&self, on: bool) -> Result<(), BmcError>;
}

/// A virtual optical drive.
#[async_trait]
pub trait VirtualMedia: Send + Sync {
    /// URL of the image that is inserted.
    async fn inserted(&self) -> Result<Option<String>, BmcError>;
    /// Inserts an image by its URL, write-protected, in place of another one. Read back.
    async fn insert(&self, url: &str) -> Result<(), BmcError>;
    /// Takes the image out; nothing happens when there is none.
    async fn eject(&self) -> Result<(), BmcError>;
}

/// Health as the BMC sums it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Health {
    /// The BMC did not say.
    #[default]
    Unknown,
    /// All well.
    Ok,
    /// Something needs a look.
    Warning,
    /// Something has failed.
    Critical,
}

impl Health {
    /// The word that we use everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Unknown => "unknown",
        }
    }

    fn of(word: Option<&str>) -> Self {
        match word {
            Some("OK" | "Ok") => Self::Ok,
            Some("Warning") => Self::Warning,
            Some("Critical") => Self::Critical,
            _ => Self::Unknown,
        }
    }
}

/// One sensor's value.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Name.
    pub name: String,
    /// Value, in the unit of its list.
    pub value: f64,
    /// Its health.
    pub health: Health,
}

/// What is asked most often, in one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    /// Power.
    pub power: PowerState,
    /// The system's health, with what is below it.
    pub health: Health,
}

/// What the sensors say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SensorReadings {
    /// Degrees Celsius.
    pub temperatures: Vec<Reading>,
    /// Revolutions a minute, or per cent where the BMC gives those.
    pub fans: Vec<Reading>,
    /// Watts drawn by the whole server.
    pub power_watts: Option<f64>,
    /// The worst of the system's health and that of its parts.
    pub health: Health,
    /// Power, when the BMC said.
    pub power: Option<PowerState>,
    /// Parts that are not well, each once, in order of their names.
    pub problems: Vec<(String, Health)>,
}

/// Sensors.
#[async_trait]
pub trait Sensors: Send + Sync {
    /// Power and health alone.
    async fn glance(&self) -> Result<Glance, BmcError>;
    /// All readings; sensors without a value are left out.
    async fn sensors(&self) -> Result<SensorReadings, BmcError>;
}

/// An entry of the hardware's event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its id.
    pub id: String,
    /// When, as the BMC writes it.
    pub at: Option<String>,
    /// How bad.
    pub severity: Health,
    /// Text.
    pub message: String,
}

/// The hardware's event log.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Entries as the BMC orders them, 1000 at most.
    async fn log(&self) -> Result<Vec<LogEntry>, BmcError>;
    /// Empties the log.
    async fn clear_log(&self) -> Result<(), BmcError>;
}

/// Where a BMC is to send its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTarget {
    /// URL. It ends in an unguessable word.
    pub destination: String,
    /// What all our destinations at this BMC begin with: an older one is taken away.
    pub ours: String,
    /// A word that comes back with each event.
    pub context: String,
}

/// How a BMC tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventWay {
    /// It sends to our destination; the path of the subscription.
    Push(String),
    /// It sends nothing, but lets us listen at that path for as long as we like (server-sent events).
    Stream(String),
}

/// Events that a BMC sends of its own accord.
#[async_trait]
pub trait Events: Send + Sync {
    /// Sees to it that it sends its events to us, once. Asking again changes nothing. `Unsupported` says why it cannot.
    async fn subscribe(&self, to: &EventTarget) -> Result<EventWay, BmcError>;
    /// Whether a subscription is there still, and is that one.
    async fn subscribed(&self, path: &str, to: &EventTarget) -> Result<bool, BmcError>;
    /// Takes all of ours away, whether or not there are any.
    async fn unsubscribe(&self, ours: &str) -> Result<(), BmcError>;
    /// Listens. Each event comes as its document; an error ends it.
    async fn listen(
        &self,
        path: &str,
    ) -> Result<futures::stream::BoxStream<'static, Result<Value, BmcError>>, BmcError>;
}

/// Settings of the firmware.
#[async_trait]
pub trait BiosSettings: Send + Sync {
    /// In force.
    async fn bios(&self) -> Result<BTreeMap<String, Value>, BmcError>;
    /// What will be otherwise after the next reset.
    async fn pending_bios(&self) -> Result<BTreeMap<String, Value>, BmcError>;
    /// To be in force after the next reset; what is so already is not written. Whether anything was.
    async fn set_bios(&self, wanted: &BTreeMap<String, Value>) -> Result<bool, BmcError>;
}

/// The BMC itself.
#[async_trait]
pub trait BmcReset: Send + Sync {
    /// Restarts the BMC, not its server; it is away for minutes.
    async fn reset_bmc(&self) -> Result<(), BmcError>;
}

/// Accounts.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Gives our own account another password and logs in with it.
    async fn change_password(&self, new: &Clear) -> Result<(), BmcError>;
}

/// An image of firmware, in one form or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateImage {
    /// Its name, as vendors give it: some BMCs look at the ending.
    pub name: String,
    /// Here, to be pushed.
    pub file: Option<std::path::PathBuf>,
    /// Where the BMC can fetch it.
    pub url: Option<String>,
}

/// How an update stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It goes on.
    Running {
        /// 0 to 100.
        percent: u8,
        /// What is being done.
        words: String,
    },
    /// Written; takes effect at the next restart of the server.
    Staged,
    /// Ended well; the version tells whether anything came of it.
    Done,
    /// Ended badly.
    Failed(String),
    /// The BMC knows nothing of it any more, as after its own restart.
    Forgotten,
}

/// Firmware of all parts.
#[async_trait]
pub trait FirmwareUpdate: Send + Sync {
    /// What runs, and how images are taken.
    async fn firmware(&self) -> Result<model::firmware::Inventory, BmcError>;
    /// Hands an image over for one part. Answers by what the update is asked after. What needs a restart of the server waits for it.
    async fn start_update(&self, component: &str, image: &UpdateImage) -> Result<String, BmcError>;
    /// An update that goes on, whoever began it.
    async fn running_update(&self) -> Result<Option<String>, BmcError>;
    /// How it stands.
    async fn update_progress(&self, update: &str) -> Result<Progress, BmcError>;
}

/// Order in which the firmware looks for something to boot.
#[async_trait]
pub trait BootOrder: Send + Sync {
    /// As it is, with what each option stands for.
    async fn boot_order(&self) -> Result<model::firmware::BootOrder, BmcError>;
    /// Changes it. Read back, where it takes effect at once. What it becomes, at the next restart at the latest.
    async fn set_boot_order(&self, order: &[String]) -> Result<(), BmcError>;
}

/// What a BMC tells others about itself, and how it is made new.
#[async_trait]
pub trait Reporting: Send + Sync {
    /// Switches its SNMP agent on. Whether anything had to be changed.
    async fn enable_snmp(&self) -> Result<bool, BmcError>;
    /// Has it send its events to a syslog server at `address:port`. Whether anything had to be changed.
    async fn syslog(&self, target: &str) -> Result<bool, BmcError>;
    /// Settings of firmware and BMC as from the factory; address and accounts stay. What was reset.
    async fn factory_reset(&self) -> Result<Vec<&'static str>, BmcError>;
}

/// How a change of volumes ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RaidChange {
    /// It is so now.
    Done,
    /// It will be at the next start of the server.
    AtRestart,
}

impl RaidChange {
    pub(crate) fn worse(self, other: Self) -> Self {
        if self == Self::AtRestart { self } else { other }
    }
}

/// RAID controllers.
#[async_trait]
pub trait Raid: Send + Sync {
    /// All controllers, with their drives and volumes.
    async fn raid(&self) -> Result<Vec<model::raid::RaidController>, BmcError>;
    /// Deletes volumes of a controller, then makes new ones.
    async fn change_raid(
        &self,
        controller: &str,
        delete: &[String],
        create: &[model::raid::NewVolume],
    ) -> Result<RaidChange, BmcError>;
    /// Has a controller prepare a volume for use; what is on it is lost.
    async fn initialize_volume(&self, controller: &str, volume: &str) -> Result<RaidChange, BmcError>;
}

/// A server as it was new.
#[async_trait]
pub trait Fresh: Send + Sync {
    /// Settings of the firmware as from the factory, at the next start.
    async fn reset_bios(&self) -> Result<(), BmcError>;
    /// Keys of secure boot as from the factory, at the next start.
    async fn reset_secure_boot_keys(&self) -> Result<(), BmcError>;
    /// Has the trusted platform module forget its keys at the next start. The setting that was written.
    async fn clear_tpm(&self) -> Result<String, BmcError>;
    /// Whether that is still to come.
    async fn tpm_clear_waits(&self) -> Result<bool, BmcError>;
    /// Switches the interfaces of the board off, at the next start. The settings that were written.
    async fn disable_embedded_nics(&self) -> Result<Vec<String>, BmcError>;
    /// Settings of the BMC as from the factory; its address and accounts stay. It restarts.
    async fn reset_bmc_settings(&self) -> Result<(), BmcError>;
    /// Whether the firmware has handed over to a boot source since the server was switched on. `None`: the BMC does not say.
    async fn started(&self) -> Result<Option<bool>, BmcError>;
}
