//! Redfish (DMTF DSP0266): sessions with basic authentication as fallback, power, boot override, identify LED.

use std::time::Duration;

use async_trait::async_trait;
use model::bmc::{BootTarget, HardwareInventory, PowerAction, PowerState};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};

use crate::{Access, BmcError, Boot, Identify, Inventory, Power, inventory};

/// Tries of one request when the BMC is busy or does not answer.
const TRIES: u32 = 3;
/// Longest wait for a boot override to show.
const OVERRIDE: Duration = Duration::from_secs(15);

/// One BMC.
pub struct Redfish {
    http: reqwest::Client,
    base: String,
    access: Access,
    login: Mutex<Login>,
    system: Mutex<Option<String>>,
}

/// How this BMC lets us in.
enum Login {
    Unknown,
    Session {
        token: String,
        /// Path of the session, to end it.
        path: Option<String>,
    },
    Basic,
}

impl Redfish {
    /// A driver over HTTPS. BMCs have certificates of their own making, so these are not checked against any authority.
    pub fn new(access: Access) -> Result<Self, BmcError> {
        Self::at(format!("https://{}", access.address), access)
    }

    fn at(base: String, access: Access) -> Result<Self, BmcError> {
        let http = reqwest::Client::builder()
            .danger_accept_invalid_certs(true)
            .timeout(access.timeout)
            .build()
            .map_err(|e| BmcError::Unreachable { address: access.address.clone(), cause: e.to_string() })?;
        Ok(Self { http, base, access, login: Mutex::new(Login::Unknown), system: Mutex::new(None) })
    }

    fn address(&self) -> String {
        self.access.address.clone()
    }

    /// Opens a session; a BMC without a session service gets basic authentication.
    async fn log_in(&self, login: &mut Login) -> Result<(), BmcError> {
        let body = json!({"UserName": self.access.username, "Password": self.access.password.0});
        let answer = self
            .http
            .post(format!("{}/redfish/v1/SessionService/Sessions", self.base))
            .json(&body)
            .send()
            .await
            .map_err(|e| self.unreachable(&e))?;
        *login = match answer.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(BmcError::Unauthorized(self.address())),
            s if s.is_success() => {
                let header = |name| answer.headers().get(name).and_then(|t| t.to_str().ok()).map(str::to_owned);
                // A path, or a whole URL of which the path counts.
                let path = header("location").and_then(|l| l.find("/redfish/").map(|at| l[at..].to_owned()));
                header("x-auth-token").map_or(Login::Basic, |token| Login::Session { token, path })
            }
            _ => Login::Basic,
        };
        Ok(())
    }

    /// Ends the session: BMCs have few, and some keep them for half an hour. The next call opens a new one.
    pub async fn close(&self) {
        let mut login = self.login.lock().await;
        if let Login::Session { token, path: Some(path) } = std::mem::replace(&mut *login, Login::Unknown) {
            let ended = self.http.delete(format!("{}{path}", self.base)).header("X-Auth-Token", token).send().await;
            if let Err(error) = ended {
                tracing::debug!(address = self.access.address, %error, "a session could not be ended");
            }
        }
    }

    fn unreachable(&self, e: &reqwest::Error) -> BmcError {
        let cause = if e.is_timeout() {
            format!("no answer within {} s", self.access.timeout.as_secs_f64())
        } else if e.is_connect() {
            "no connection".to_owned()
        } else {
            "the connection broke".to_owned()
        };
        BmcError::Unreachable { address: self.address(), cause }
    }

    async fn once(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        etag: Option<&str>,
    ) -> Result<(StatusCode, Value), BmcError> {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.base));
        {
            let mut login = self.login.lock().await;
            if matches!(*login, Login::Unknown) {
                self.log_in(&mut login).await?;
            }
            request = match &*login {
                Login::Session { token, .. } => request.header("X-Auth-Token", token),
                _ => request.basic_auth(&self.access.username, Some(&self.access.password.0)),
            };
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(etag) = etag {
            request = request.header("If-Match", etag);
        }
        let answer = request.send().await.map_err(|e| self.unreachable(&e))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|e| self.unreachable(&e))?;
        if text.trim().is_empty() {
            return Ok((status, Value::Null));
        }
        match serde_json::from_str(&text) {
            Ok(value) => Ok((status, value)),
            Err(_) if !status.is_success() => Ok((status, Value::Null)),
            Err(_) => Err(BmcError::Odd {
                address: self.address(),
                request: format!("{method} {path}"),
                answer: text.chars().take(200).collect(),
            }),
        }
    }

    /// One request, tried again when the BMC is busy or silent, with a new session when the old one has ended.
    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        etag: Option<&str>,
    ) -> Result<Value, BmcError> {
        let mut pause = Duration::from_millis(200);
        let mut last = None;
        for attempt in 0..TRIES {
            if attempt > 0 {
                tokio::time::sleep(pause).await;
                pause *= 3;
            }
            match self.once(&method, path, body, etag).await {
                Ok((status, value)) if status.is_success() => return Ok(value),
                Ok((StatusCode::UNAUTHORIZED, _)) => {
                    let mut login = self.login.lock().await;
                    if matches!(*login, Login::Basic) || last.is_some() {
                        return Err(BmcError::Unauthorized(self.address()));
                    }
                    *login = Login::Unknown;
                    last = Some(BmcError::Unauthorized(self.address()));
                }
                Ok((StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED, _)) => {
                    return Err(BmcError::Unsupported { address: self.address(), what: format!("{method} {path}") });
                }
                Ok((status, value)) => {
                    let error = BmcError::Refused {
                        address: self.address(),
                        request: format!("{method} {path}"),
                        reason: format!("{} ({status})", reason(&value)),
                    };
                    if !(status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS) {
                        return Err(error);
                    }
                    last = Some(error);
                }
                Err(e @ (BmcError::Unreachable { .. } | BmcError::Odd { .. })) => last = Some(e),
                Err(e) => return Err(e),
            }
        }
        Err(last.unwrap_or_else(|| BmcError::Unreachable { address: self.address(), cause: "no answer".into() }))
    }

    /// A resource, or `null` where the BMC has none.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, BmcError> {
        match self.call(Method::GET, path, None, None).await {
            Err(BmcError::Unsupported { .. }) => Ok(Value::Null),
            other => other,
        }
    }

    /// Members of a collection, read in full; those that cannot be read are left out.
    pub(crate) async fn members(&self, collection: &Value) -> Result<Vec<Value>, BmcError> {
        let Some(path) = link(collection) else { return Ok(Vec::new()) };
        let list = self.get(path).await?;
        let mut all = Vec::new();
        for member in list.get("Members").and_then(Value::as_array).into_iter().flatten() {
            match member {
                // Some BMCs expand members without being asked.
                Value::Object(m) if m.len() > 1 => all.push(member.clone()),
                _ => {
                    if let Some(path) = link(member) {
                        match self.get(path).await {
                            Ok(value) if value.is_object() => all.push(value),
                            Ok(_) | Err(BmcError::Refused { .. } | BmcError::Odd { .. }) => {}
                            Err(e) => return Err(e),
                        }
                    }
                }
            }
        }
        Ok(all)
    }

    /// The path of the one system behind this BMC.
    async fn system_path(&self) -> Result<String, BmcError> {
        let mut known = self.system.lock().await;
        if let Some(path) = &*known {
            return Ok(path.clone());
        }
        let list = self.get("/redfish/v1/Systems").await?;
        let path = list.pointer("/Members/0").and_then(link).map(str::to_owned).ok_or_else(|| BmcError::Odd {
            address: self.address(),
            request: "GET /redfish/v1/Systems".into(),
            answer: "no system in it".into(),
        })?;
        *known = Some(path.clone());
        Ok(path)
    }

    /// The system resource.
    pub(crate) async fn system(&self) -> Result<Value, BmcError> {
        let path = self.system_path().await?;
        self.call(Method::GET, &path, None, None).await
    }

    async fn patch_system(&self, system: &Value, body: &Value) -> Result<(), BmcError> {
        let path = self.system_path().await?;
        let etag = system.get("@odata.etag").and_then(Value::as_str);
        match self.call(Method::PATCH, &path, Some(body), etag).await {
            // Some BMCs hand out an ETag and then do not accept it.
            Err(BmcError::Refused { reason, .. }) if etag.is_some() && reason.contains("412") => {
                self.call(Method::PATCH, &path, Some(body), None).await.map(|_| ())
            }
            other => other.map(|_| ()),
        }
    }
}

/// `@odata.id` of a link.
pub(crate) fn link(v: &Value) -> Option<&str> {
    v.get("@odata.id").and_then(Value::as_str)
}

/// What a Redfish error says, in words.
fn reason(v: &Value) -> String {
    v.pointer("/error/@Message.ExtendedInfo/0/Message")
        .or_else(|| v.pointer("/error/message"))
        .and_then(Value::as_str)
        .unwrap_or("no reason given")
        .to_owned()
}

fn power_of(system: &Value) -> PowerState {
    match system.get("PowerState").and_then(Value::as_str) {
        Some("On" | "PoweringOn") => PowerState::On,
        Some("Off" | "PoweringOff") => PowerState::Off,
        _ => PowerState::Unknown,
    }
}

#[async_trait]
impl Power for Redfish {
    async fn power(&self) -> Result<PowerState, BmcError> {
        Ok(power_of(&self.system().await?))
    }

    async fn set_power(&self, action: PowerAction) -> Result<(), BmcError> {
        let system = self.system().await?;
        let now = power_of(&system);
        // In order of preference: not every BMC offers every reset type.
        let wanted: &[&str] = match (action, now) {
            (PowerAction::On, PowerState::On) | (PowerAction::ForceOff | PowerAction::GracefulOff, PowerState::Off) => {
                return Ok(());
            }
            (PowerAction::On, _) | (PowerAction::Cycle | PowerAction::Reset, PowerState::Off) => {
                &["On", "ForceOn", "PushPowerButton"]
            }
            (PowerAction::GracefulOff, _) => &["GracefulShutdown", "PushPowerButton"],
            (PowerAction::ForceOff, _) => &["ForceOff"],
            (PowerAction::Reset, _) => &["ForceRestart", "GracefulRestart", "PowerCycle"],
            (PowerAction::Cycle, _) => &["PowerCycle", "ForceRestart"],
            (PowerAction::Nmi, _) => &["Nmi"],
        };
        let reset = &system["Actions"]["#ComputerSystem.Reset"];
        let target = reset.get("target").and_then(Value::as_str).map_or_else(
            || format!("{}/Actions/ComputerSystem.Reset", link(&system).unwrap_or_default()),
            str::to_owned,
        );
        let allowed: Vec<&str> = reset
            .get("ResetType@Redfish.AllowableValues")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let kind =
            wanted.iter().find(|w| allowed.is_empty() || allowed.contains(w)).ok_or_else(|| BmcError::Unsupported {
                address: self.address(),
                what: format!("none of the resets {} (it offers {})", wanted.join(", "), allowed.join(", ")),
            })?;
        self.call(Method::POST, &target, Some(&json!({"ResetType": kind})), None).await.map(|_| ())
    }

    async fn wait_for_power(&self, wanted: PowerState, limit: Duration) -> Result<(), BmcError> {
        let end = Instant::now() + limit;
        let mut pause = Duration::from_millis(250);
        loop {
            let found = match self.power().await {
                Ok(found) if found == wanted => return Ok(()),
                Ok(found) => format!("{found:?}").to_lowercase(),
                // A BMC may be silent while its server starts.
                Err(e) if e.is_retryable() && Instant::now() < end => e.to_string(),
                Err(e) => return Err(e),
            };
            if Instant::now() >= end {
                return Err(BmcError::NoEffect {
                    address: self.address(),
                    what: format!("power was to be {wanted:?}").to_lowercase(),
                    found,
                    seconds: limit.as_secs(),
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }
}

#[async_trait]
impl Boot for Redfish {
    async fn boot_once(&self, target: BootTarget) -> Result<(), BmcError> {
        let (word, enabled) = match target {
            BootTarget::None => ("None", "Disabled"),
            BootTarget::Pxe => ("Pxe", "Once"),
            BootTarget::UefiHttp => ("UefiHttp", "Once"),
            BootTarget::Disk => ("Hdd", "Once"),
            BootTarget::Cd => ("Cd", "Once"),
        };
        let system = self.system().await?;
        let allowed: Vec<&str> = system
            .pointer("/Boot/BootSourceOverrideTarget@Redfish.AllowableValues")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if !allowed.is_empty() && target != BootTarget::None && !allowed.contains(&word) {
            return Err(BmcError::Unsupported {
                address: self.address(),
                what: format!("boot from {word} (it offers {})", allowed.join(", ")),
            });
        }
        self.patch_system(
            &system,
            &json!({"Boot": {"BootSourceOverrideTarget": word, "BootSourceOverrideEnabled": enabled}}),
        )
        .await?;
        let end = Instant::now() + OVERRIDE;
        let mut pause = Duration::from_millis(100);
        loop {
            let now = self.system().await?;
            let read =
                |field: &str| now.pointer(&format!("/Boot/{field}")).and_then(Value::as_str).unwrap_or("").to_owned();
            let found = (read("BootSourceOverrideTarget"), read("BootSourceOverrideEnabled"));
            // Some BMCs take "Once" and report "Continuous".
            let holds = if target == BootTarget::None {
                found.1 != "Once" && found.1 != "Continuous" || found.0 == "None"
            } else {
                found.0 == word && found.1 != "Disabled"
            };
            if holds {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(BmcError::NoEffect {
                    address: self.address(),
                    what: format!("the next boot was to be from {word}"),
                    found: format!("{} ({})", found.0, found.1),
                    seconds: OVERRIDE.as_secs(),
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }
}

#[async_trait]
impl Identify for Redfish {
    async fn identify(&self, on: bool) -> Result<(), BmcError> {
        let system = self.system().await?;
        // The newer property first (it replaced IndicatorLED in 2019).
        let body = if system.get("LocationIndicatorActive").is_some() {
            json!({"LocationIndicatorActive": on})
        } else {
            json!({"IndicatorLED": if on { "Blinking" } else { "Off" }})
        };
        self.patch_system(&system, &body).await
    }
}

#[async_trait]
impl Inventory for Redfish {
    async fn inventory(&self) -> Result<HardwareInventory, BmcError> {
        let system = self.system().await?;
        let mut found = inventory::of_system(&system);
        found.power = Some(power_of(&system));
        found.processors = inventory::processors(&self.members(&system["Processors"]).await?, &mut found.gpus);
        found.nics = inventory::nics(&self.members(&system["EthernetInterfaces"]).await?);
        for storage in self.members(&system["Storage"]).await? {
            for drive in storage.get("Drives").and_then(Value::as_array).into_iter().flatten() {
                if let Some(path) = link(drive) {
                    found.disks.extend(inventory::disk(&self.get(path).await?));
                }
            }
        }
        let manager = system.pointer("/Links/ManagedBy/0").and_then(link).map(str::to_owned);
        if let Some(path) = manager {
            let manager = self.get(&path).await?;
            found.bmc_version = manager.get("FirmwareVersion").and_then(Value::as_str).map(str::to_owned);
            found.bmc_mac =
                inventory::nics(&self.members(&manager["EthernetInterfaces"]).await?).into_iter().next().map(|n| n.mac);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
