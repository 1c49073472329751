//! Texts of an OS template for the distributions' own installers: answer files, kernel arguments, scripts. What is the same for all of them
//! is here; what differs is in the templates.

use std::collections::BTreeMap;

use minijinja::Environment;
use model::template::{InstallMethod, OsInstall, ReadySignal};
use serde_json::{Map, Value, json};

use crate::render::{RenderError, SeedContext, render};

/// A seed with the password in clear, which some installers want.
#[derive(Clone, Copy)]
pub struct InstallerContext<'a> {
    /// What all seeds know.
    pub seed: SeedContext<'a>,
    /// The password of the new system's user.
    pub password: &'a str,
}

impl InstallerContext<'_> {
    fn os(&self) -> &OsInstall {
        &self.seed.install.os
    }

    fn text(&self, document: &str, source: &str) -> Result<String, RenderError> {
        let mut variables = self.seed.variables();
        variables.insert("password_clear".into(), self.password.into());
        render(document, &self.os().name, source, &variables)
    }

    /// The kernel's arguments in one line.
    pub fn arguments(&self) -> Result<String, RenderError> {
        match &self.os().method {
            InstallMethod::Network { arguments, .. } => Ok(one_line(&self.text("kernel-arguments", arguments)?)),
            _ => Ok(String::new()),
        }
    }

    /// The URL that answers once the new system is ready.
    pub fn ready_url(&self) -> Result<Option<String>, RenderError> {
        match &self.os().ready {
            ReadySignal::ApiResponse { url } => Ok(Some(one_line(&self.text("ready-url", url)?))),
            _ => Ok(None),
        }
    }

    /// A file by its name; `None` when the template has none of that name.
    pub fn file(&self, name: &str) -> Option<Result<String, RenderError>> {
        let file = self.os().files.get(name)?;
        Some(if file.template { self.text(name, &file.text) } else { Ok(file.text.clone()) })
    }

    /// All files by their paths on a medium.
    pub fn files(&self) -> Result<BTreeMap<String, String>, RenderError> {
        let mut all = BTreeMap::new();
        for (name, file) in &self.os().files {
            let path = if file.path.is_empty() { format!("/{name}") } else { file.path.clone() };
            all.extend(self.file(name).transpose()?.map(|text| (path, text)));
        }
        Ok(all)
    }
}

/// A line break in a boot script would begin another command.
fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Adds the filters for the languages of answer files.
pub(crate) fn add_filters(environment: &mut Environment<'_>) {
    environment.add_filter("xml", |text: String| xml(&text));
    environment.add_filter("sh", |text: String| shell(&text));
    environment.add_filter("cmd", |text: String| cmd(&text));
    environment.add_filter("windows_password", |text: String, element: String| windows_password(&text, &element));
}

/// A value inside an XML element or attribute. What XML cannot carry at all is left out.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\t' | '\n' | '\r' => out.push_str(&format!("&#{};", u32::from(c))),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
    out
}

/// One word of a POSIX shell.
fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./_-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// One word of a Windows batch file. What cannot be in one at all is left out.
fn cmd(text: &str) -> String {
    let inner: String = text.chars().filter(|c| *c != '"' && !c.is_control()).collect();
    format!("\"{}\"", inner.replace('%', "%%"))
}

/// A password as `unattend.xml` has it with `PlainText` false: with the element's name behind it, UTF-16, in base64.
fn windows_password(password: &str, element: &str) -> String {
    let bytes: Vec<u8> = password.encode_utf16().chain(element.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
}

/// The addresses of a netplan document, an entry each: for installers that have words of their own for networks.
pub(crate) fn interfaces(netplan: &Value) -> Vec<Value> {
    let empty = Map::new();
    let section = |name: &str| netplan.get(name).and_then(Value::as_object).unwrap_or(&empty);
    let mac_of = |name: &str| {
        let first = section("bonds").get(name).and_then(|b| b.pointer("/interfaces/0")).and_then(Value::as_str);
        let port = section("ethernets").get(first.unwrap_or(name))?;
        port.pointer("/match/macaddress").and_then(Value::as_str)
    };
    let mut all = Vec::new();
    for (kind, part) in ["ethernets", "bonds", "vlans"].map(|k| (k, section(k))) {
        for (name, body) in part {
            let link = body.get("link").and_then(Value::as_str).unwrap_or(name);
            let vlan = (kind == "vlans").then(|| body.get("id").cloned()).flatten();
            let routes = body.get("routes").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let default = routes.iter().find(|r| matches!(r["to"].as_str(), Some("default" | "0.0.0.0/0")));
            let dns = body.pointer("/nameservers/addresses").cloned().unwrap_or_else(|| json!([]));
            for cidr in body.get("addresses").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
            {
                let Ok(net) = cidr.parse::<ipnet::IpNet>() else { continue };
                all.push(json!({
                    "name": name, "mac": mac_of(link), "vlan": vlan, "cidr": cidr, "address": net.addr(), "prefix": net.prefix_len(),
                    "netmask": net.netmask(), "gateway": default.and_then(|r| r.get("via")), "mtu": body.get("mtu"), "dns": dns,
                }));
            }
        }
    }
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_values_in_every_language() {
        assert_eq!(xml("a<b>&\"'\u{1}\n"), "a&lt;b&gt;&amp;&quot;&apos;&#10;");
        assert_eq!((shell("web-1"), shell(""), shell("a'b;$c")), ("web-1".into(), "''".into(), r"'a'\''b;$c'".into()));
        assert_eq!(cmd("a%b\"&c"), "\"a%%b&c\"");
        // The password, then the element's name, in UTF-16.
        let known = windows_password("pw", "AdministratorPassword");
        assert!(known.starts_with("cAB3AEEAZABtAGkAbgBpAHM"), "{known}");
        assert_eq!(one_line("a\n b\tc\r\nchain evil"), "a b c chain evil");
    }

    #[test]
    fn addresses_of_ports_bonds_and_vlans() {
        let netplan = json!({
            "ethernets": {
                "nic0": {"match": {"macaddress": "52:54:00:00:00:01"}, "addresses": ["10.0.1.10/24"], "routes": [{"to": "default", "via": "10.0.1.1"}]},
                "nic1": {"match": {"macaddress": "52:54:00:00:00:02"}},
            },
            "bonds": {"bond0": {"interfaces": ["nic1"]}},
            "vlans": {"bond0.120": {"id": 120, "link": "bond0", "addresses": ["10.0.2.10/23", "nonsense"]}},
        });
        let all = interfaces(&netplan);
        assert_eq!(all.len(), 2);
        assert_eq!((&all[0]["gateway"], &all[0]["netmask"]), (&json!("10.0.1.1"), &json!("255.255.255.0")));
        assert_eq!((&all[1]["mac"], &all[1]["vlan"]), (&json!("52:54:00:00:00:02"), &json!(120)));
        assert_eq!(all[1]["netmask"], "255.255.254.0");
        assert!(interfaces(&json!(null)).is_empty());
    }
}
