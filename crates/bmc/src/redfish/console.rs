//! Consoles as a Redfish tree describes them: serial ones over SSH or IPMI, and the VNC server of an iDRAC.

use model::secret::Clear;
use serde_json::{Value, json};

use super::{Redfish, link};
use crate::{
    Access, BmcError, Ipmi,
    console::{Screen, Serial, SerialWanted, beside, ssh},
};

/// A way to the serial port.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    /// SSH at that port, with a command for the BMC's shell where it is shared with that.
    Ssh { port: u16, command: Option<String> },
    /// IPMI at that port.
    Sol { port: u16 },
}

/// The command by which a maker's shell goes over to the serial port. Sources: Dell "iDRAC9 RACADM CLI Guide" (`console com2`), HPE "iLO 5
/// Scripting and CLI Guide" (`vsp`), Lenovo "XClarity Controller User's Guide" (`console 1`), Supermicro "BMC User's Guide" (SMASH, `sol1`),
/// Cisco "IMC CLI Configuration Guide" (`connect host`).
fn command(vendor: &str) -> Option<&'static str> {
    Some(match vendor {
        "Dell" => "console com2",
        "HPE" => "vsp",
        "Lenovo" => "console 1",
        "Supermicro" => "start /system1/sol1",
        "Cisco" => "connect host",
        _ => return None,
    })
}

/// The ways, the best first: a port that is the console and nothing else, then IPMI, which has a word for a break, then a shell.
fn ways(system: &Value, manager: &Value, protocols: &Value, vendor: &str) -> Vec<Way> {
    let on = |v: &Value, path: &str| v.pointer(path).and_then(Value::as_bool);
    let port = |v: &Value, path: &str, usual: u16| {
        v.pointer(path).and_then(Value::as_u64).and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0).unwrap_or(usual)
    };
    let connects = |resource: &str, word: &str| {
        on(manager, &format!("/{resource}/ServiceEnabled")) != Some(false)
            && manager
                .pointer(&format!("/{resource}/ConnectTypesSupported"))
                .and_then(Value::as_array)
                .is_some_and(|types| types.iter().any(|t| t == word))
    };
    let mut all = Vec::new();
    if on(system, "/SerialConsole/SSH/ServiceEnabled") == Some(true) {
        let shared = on(system, "/SerialConsole/SSH/SharedWithManagerCLI") == Some(true);
        let said = system.pointer("/SerialConsole/SSH/ConsoleEntryCommand").and_then(Value::as_str);
        let entry = said.filter(|c| !c.is_empty() && !c.contains(char::is_control)).or_else(|| command(vendor));
        if !shared || entry.is_some() {
            let command = entry.filter(|_| shared).map(str::to_owned);
            all.push(Way::Ssh { port: port(system, "/SerialConsole/SSH/Port", 22), command });
        }
    }
    let ipmi = on(protocols, "/IPMI/ProtocolEnabled");
    let offered = on(system, "/SerialConsole/IPMI/ServiceEnabled") == Some(true)
        || connects("SerialConsole", "IPMI")
        || ipmi == Some(true);
    if offered && ipmi != Some(false) {
        let usual = port(protocols, "/IPMI/Port", 623);
        all.push(Way::Sol { port: port(system, "/SerialConsole/IPMI/Port", usual) });
    }
    let shell = connects("SerialConsole", "SSH") || connects("CommandShell", "SSH");
    if shell
        && on(protocols, "/SSH/ProtocolEnabled") != Some(false)
        && let Some(command) = command(vendor)
    {
        let way = Way::Ssh { port: port(protocols, "/SSH/Port", 22), command: Some(command.to_owned()) };
        if !all.contains(&way) {
            all.push(way);
        }
    }
    all
}

impl Redfish {
    /// Opens the serial console by the first way that works.
    pub async fn serial(&self, wanted: &SerialWanted) -> Result<Serial, BmcError> {
        let system = self.system().await?;
        let manager = self.manager(&system).await?;
        let protocols = self.linked(&manager["NetworkProtocol"]).await.unwrap_or(Value::Null);
        let vendor = self.service().await?.quirks.vendor();
        let mut first = None;
        for way in ways(&system, &manager, &protocols, vendor) {
            let access = |port: u16, pin: Option<String>| Access {
                address: beside(&self.access.address, port),
                username: self.access.username.clone(),
                password: self.password(),
                timeout: self.access.timeout,
                tls_fingerprint: pin,
            };
            let opened = match &way {
                Way::Ssh { port, command } => {
                    ssh::open(access(*port, wanted.host_key.clone()), command.as_deref()).await
                }
                Way::Sol { port } => match Ipmi::new(access(*port, None)) {
                    Ok(ipmi) => ipmi.serial(wanted.take_over).await,
                    Err(e) => Err(e),
                },
            };
            match opened {
                Ok(serial) => return Ok(serial),
                // Somebody in between is no reason to send the password by another way.
                Err(e @ BmcError::CertificateChanged { .. }) => return Err(e),
                Err(e) => {
                    tracing::debug!(address = self.access.address, ?way, error = %e, "a way to the serial console is closed");
                    first.get_or_insert(e);
                }
            }
        }
        Err(first.unwrap_or_else(|| {
            self.unsupported(
                "a serial console: it names neither SSH nor IPMI for it; switch serial over LAN on in its settings",
            )
        }))
    }

    /// The VNC server of an iDRAC, switched on and with a password where it has none that we know; or a console that the standard names.
    pub async fn screen(&self, known: Option<&Clear>) -> Result<Screen, BmcError> {
        let system = self.system().await?;
        let manager = self.manager(&system).await?;
        if let Some(path) = attributes(&manager) {
            return self.dell_screen(&path, known).await;
        }
        let graphical = [&system["GraphicalConsole"], &manager["GraphicalConsole"]];
        let console = graphical.into_iter().find(|c| c.is_object()).unwrap_or(&Value::Null);
        let types = console["ConnectTypesSupported"].as_array();
        let kvm = types.is_some_and(|t| t.iter().any(|t| t == "KVMIP"));
        match console["Port"].as_u64().and_then(|p| u16::try_from(p).ok()) {
            Some(port) if kvm && console["ServiceEnabled"] != false => Ok(Screen {
                via: "VNC".into(),
                address: beside(&self.access.address, port),
                // The first eight bytes are what VNC takes of it; without that kind of login it is not sent.
                password: Some(self.password()),
                tls: None,
            }),
            _ => Err(self.unsupported(
                "a screen that others may show: it has no VNC server; use its own web page, or the serial console",
            )),
        }
    }

    async fn dell_screen(&self, path: &str, known: Option<&Clear>) -> Result<Screen, BmcError> {
        let all = self.get(path).await?;
        let is = |name: &str| all["Attributes"].get(format!("VNCServer.1.{name}"));
        let number = |name: &str| is(name).and_then(|v| v.as_u64().or_else(|| v.as_str()?.parse().ok()));
        let Some(enabled) = is("Enable").and_then(Value::as_str) else {
            return Err(self.unsupported("a VNC server; it needs an Enterprise or Datacenter licence"));
        };
        // A new password would throw those out who look at this moment.
        let sessions = number("ActiveSessions").unwrap_or(0);
        let password = match known {
            Some(known) if enabled == "Enabled" => known.clone(),
            _ if enabled == "Enabled" && sessions > 0 => {
                return Err(BmcError::Refused {
                    address: self.address(),
                    request: "the screen".into(),
                    status: 409,
                    reason: "somebody else looks at it by VNC, past this platform; wait until they are done".into(),
                });
            }
            _ => {
                let new = Clear(password());
                let body = json!({"Attributes": {"VNCServer.1.Enable": "Enabled", "VNCServer.1.Password": new.0}});
                let answer = self.patch(path, &body, &all).await?;
                self.finish(answer, &format!("PATCH {path}")).await?;
                new
            }
        };
        let port = number("Port").and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0).unwrap_or(5901);
        let encrypted = is("SSLEncryptionBitLength").and_then(Value::as_str).is_some_and(|l| l != "Disabled");
        Ok(Screen {
            via: if encrypted { "VNC of the iDRAC, over TLS" } else { "VNC of the iDRAC" }.into(),
            address: beside(&self.access.address, port),
            password: Some(password),
            tls: encrypted.then(|| self.fingerprint()),
        })
    }

    /// Which consoles it says that it has, for the inventory, without one being opened. What is not told is not there.
    pub(super) async fn consoles(&self, system: &Value, manager: &Value) -> model::console::Offered {
        let protocols = self.linked(&manager["NetworkProtocol"]).await.unwrap_or(Value::Null);
        let vendor = self.service.get().map_or("standard", |s| s.quirks.vendor());
        let serial = ways(system, manager, &protocols, vendor).first().map(|way| match way {
            Way::Ssh { .. } => "SSH".to_owned(),
            Way::Sol { .. } => "IPMI".to_owned(),
        });
        let screen = match attributes(manager) {
            Some(path) => {
                let all = self.get(&path).await.unwrap_or(Value::Null);
                all["Attributes"].get("VNCServer.1.Enable").map(|_| "VNC".to_owned())
            }
            None => {
                let console = &system["GraphicalConsole"];
                (console["Port"].is_u64() && console["ServiceEnabled"] != false).then(|| "VNC".to_owned())
            }
        };
        model::console::Offered { serial, screen }
    }
}

/// Path of the iDRAC's own attributes.
fn attributes(manager: &Value) -> Option<String> {
    let id = manager.get("Id").and_then(Value::as_str)?;
    let list = manager.pointer("/Links/Oem/Dell/DellAttributes").and_then(Value::as_array)?;
    list.iter().filter_map(link).find(|path| path.rsplit('/').next() == Some(id)).map(str::to_owned)
}

/// Eight characters, which is what VNC has.
fn password() -> String {
    use rand::Rng;
    const LETTERS: &[u8] = b"abcdefghjkmnpqrstuvwxyzABCDEFGHJKMNPQRSTUVWXYZ23456789";
    let mut random = rand::rng();
    (0..8).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_in_their_order() {
        // OpenBMC: a port of its own.
        let open = json!({"SerialConsole": {"IPMI": {"ServiceEnabled": true}, "MaxConcurrentSessions": 15,
            "SSH": {"HotKeySequenceDisplay": "Press ~. to exit console", "Port": 2200, "ServiceEnabled": true}}});
        let found = ways(&open, &Value::Null, &json!({"IPMI": {"ProtocolEnabled": true}}), "standard");
        assert_eq!(found, [Way::Ssh { port: 2200, command: None }, Way::Sol { port: 623 }]);
        let found = ways(&open, &Value::Null, &json!({"IPMI": {"ProtocolEnabled": false}}), "standard");
        assert_eq!(found, [Way::Ssh { port: 2200, command: None }], "IPMI is off");
        // iDRAC: the manager says what it has, and the shell needs its command.
        let idrac = json!({"SerialConsole": {"ConnectTypesSupported": [], "ServiceEnabled": false},
            "CommandShell": {"ConnectTypesSupported": ["SSH", "IPMI"], "ServiceEnabled": true}});
        let protocols =
            json!({"IPMI": {"ProtocolEnabled": false, "Port": 623}, "SSH": {"ProtocolEnabled": true, "Port": 22}});
        let found = ways(&Value::Null, &idrac, &protocols, "Dell");
        assert_eq!(found, [Way::Ssh { port: 22, command: Some("console com2".into()) }]);
        assert_eq!(ways(&Value::Null, &idrac, &protocols, "standard"), [], "nobody knows its command");
        // Shared with the shell, and it says how.
        let shared = json!({"SerialConsole": {"SSH": {"ServiceEnabled": true, "Port": 22, "SharedWithManagerCLI": true,
            "ConsoleEntryCommand": "connect console"}}});
        let found = ways(&shared, &Value::Null, &Value::Null, "standard");
        assert_eq!(found, [Way::Ssh { port: 22, command: Some("connect console".into()) }]);
        // Only IPMI.
        let manager = json!({"SerialConsole": {"ConnectTypesSupported": ["IPMI"], "ServiceEnabled": true}});
        assert_eq!(ways(&Value::Null, &manager, &Value::Null, "NVIDIA"), [Way::Sol { port: 623 }]);
        assert_eq!(ways(&Value::Null, &Value::Null, &Value::Null, "HPE"), []);
    }

    #[test]
    fn the_idrac_says_where_its_attributes_are() {
        let paths = ["System.Embedded.1", "iDRAC.Embedded.1"]
            .map(|id| json!({"@odata.id": format!("/m/Oem/Dell/DellAttributes/{id}")}));
        let manager = json!({"Id": "iDRAC.Embedded.1", "Links": {"Oem": {"Dell": {"DellAttributes": paths}}}});
        assert_eq!(attributes(&manager).as_deref(), Some("/m/Oem/Dell/DellAttributes/iDRAC.Embedded.1"));
        assert_eq!(attributes(&json!({"Id": "1"})), None);
        assert_eq!(password().len(), 8);
    }
}
