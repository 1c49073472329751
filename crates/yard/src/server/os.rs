//! The installed operating system: network configuration, cloud-init's first boot, LLDP.

use std::time::Duration;

use reqwest::Method;
use serde_yaml_ng::Value;
use tokio::time::sleep;

use super::{
    Disk, Os, Stage,
    boot::Run,
    dhcp::{self, Persona},
    net::Port,
    netcfg, san,
};
use crate::{fault::Face, iscsi::initiator::Volume};

const MAX_PAUSE: Duration = Duration::from_secs(10);

/// A `#cloud-config` document, if this is one.
fn cloud_config(user_data: &str) -> Option<Value> {
    if !user_data.trim_start().starts_with("#cloud-config") {
        return None;
    }
    serde_yaml_ng::from_str(user_data).ok()
}

fn meta(meta_data: &str, key: &str) -> Option<String> {
    let document: Value = serde_yaml_ng::from_str(meta_data).ok()?;
    document.get(key)?.as_str().map(str::to_owned)
}

/// Host name of a seed: user-data wins over meta-data.
pub fn hostname(user_data: &str, meta_data: &str) -> Option<String> {
    cloud_config(user_data)
        .and_then(|document| document.get("hostname")?.as_str().map(str::to_owned))
        .or_else(|| meta(meta_data, "local-hostname"))
        .or_else(|| meta(meta_data, "hostname"))
}

/// `phone_home` of user-data: URL and number of tries. Also found inside an autoinstall document's `user-data`.
fn phone_home(user_data: &str) -> Option<(String, u32)> {
    let document = cloud_config(user_data)?;
    let module =
        document.get("phone_home").or_else(|| document.get("autoinstall")?.get("user-data")?.get("phone_home"))?;
    let url = module.get("url")?.as_str()?.to_owned();
    let tries = module.get("tries").and_then(Value::as_u64).unwrap_or(10).clamp(1, 100) as u32;
    Some((url, tries))
}

/// Boots the system on the first disk, or on a volume that is reached over a port. Returns when nothing is left to do; the system runs on
/// without a task.
pub async fn boot(run: &Run, volume: Option<(Volume, Port)>) {
    let disk = match &volume {
        None => run.with(|state| state.kept.disk.clone()).flatten(),
        // Its kernel logs in anew, by what the firmware left in the iBFT.
        Some((volume, port)) => match san::load(port, volume).await {
            Ok(disk) => disk,
            Err(error) => {
                run.enter(Stage::Stopped, format!("the root is away: {error}"));
                return;
            }
        },
    };
    let Some(disk) = disk else { return };
    let from = volume.as_ref().map_or("disk", |(v, _)| v.target.as_str());
    run.enter(Stage::OsBoot, format!("booting {} from {from}", disk.hostname));
    sleep(Duration::from_secs_f64(run.world.config.os_boot_seconds)).await;
    let spec = &run.server.spec;
    let (mut interfaces, problems) = if disk.network_config.trim().is_empty() {
        (netcfg::fallback(run.server.nic_names()), Vec::new())
    } else {
        netcfg::parse(&disk.network_config, &spec.nics, run.server.nic_names())
    };
    for problem in problems {
        run.console(format!("network: {problem}"));
    }
    for iface in interfaces.iter_mut().filter(|iface| iface.dhcp && !iface.enslaved) {
        let Some(nic) = iface.nics.first() else { continue };
        match dhcp::acquire(&run.port(*nic).tagged(iface.vlan), Persona::System).await {
            Ok(lease) => {
                iface.addresses.push(format!("{}/{}", lease.address, lease.prefix));
                iface.gateway = lease.router.map(|router| router.to_string());
            }
            Err(error) => run.console(format!("network: {}: {error}", iface.name)),
        }
    }
    let os = Os { hostname: disk.hostname.clone(), interfaces: interfaces.clone(), since: crate::events::now() };
    run.with(|state| state.kept.os = Some(os));
    run.enter(Stage::OsUp, format!("{} login:", disk.hostname));
    run.world.events.push(&spec.serial, "os", format!("{} is up", disk.hostname));
    run.world.events.count("os_up");
    run.world.changed();
    if let Some((url, tries)) = phone_home(&disk.user_data)
        && !disk.phoned_home
    {
        call_home(run, &disk, &interfaces, &url, tries, volume.as_ref()).await;
    }
}

async fn call_home(
    run: &Run,
    disk: &Disk,
    interfaces: &[netcfg::Iface],
    url: &str,
    tries: u32,
    volume: Option<&(Volume, Port)>,
) {
    let hostname = disk.hostname.as_str();
    let instance = meta(&disk.meta_data, "instance-id").unwrap_or_default();
    let url = url.replace("$INSTANCE_ID", &instance);
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("instance_id", &instance)
        .append_pair("hostname", hostname)
        .append_pair("fqdn", hostname)
        .append_pair(
            "pub_key_ed25519",
            &format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{} root@{hostname}", run.server.spec.serial),
        )
        .finish();
    let mut pause = Duration::from_millis(500);
    for attempt in 1..=tries {
        let body = Some(("application/x-www-form-urlencoded", form.clone()));
        let error = match way_home(run, interfaces) {
            None => "the site cannot be reached from any interface".to_owned(),
            Some(port) => match port.request(Face::Http, Method::POST, &url, None, body).await {
                Ok(answer) if answer.status < 300 => {
                    if let Some((volume, port)) = volume {
                        let told = Disk { phoned_home: true, ..disk.clone() };
                        if let Err(error) = san::store(port, volume, Some(&told)).await {
                            run.console(format!("the root cannot be written: {error}"));
                        }
                    } else {
                        run.with(|state| {
                            if let Some(disk) = &mut state.kept.disk {
                                disk.phoned_home = true;
                            }
                        });
                    }
                    run.world.changed();
                    run.console("cloud-init: phoned home");
                    run.world.events.push(&run.server.spec.serial, "os", "phoned home");
                    return;
                }
                Ok(answer) => format!("status {}", answer.status),
                Err(error) => error,
            },
        };
        run.console(format!("cloud-init: phone_home try {attempt}/{tries}: {error}"));
        sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// The first interface with an address from which the site can be reached.
fn way_home(run: &Run, interfaces: &[netcfg::Iface]) -> Option<Port> {
    interfaces
        .iter()
        .filter(|iface| !iface.enslaved && !iface.addresses.is_empty())
        .flat_map(|iface| iface.nics.iter().map(|nic| run.port(*nic).tagged(iface.vlan)))
        .find(|port| port.online())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_understood() {
        let user =
            "#cloud-config\nhostname: web-1\nphone_home:\n  url: http://site/phone-home/$INSTANCE_ID\n  tries: 3\n";
        assert_eq!(phone_home(user), Some(("http://site/phone-home/$INSTANCE_ID".into(), 3)));
        assert_eq!(hostname(user, "local-hostname: other\n").as_deref(), Some("web-1"));
        assert_eq!(hostname("#!/bin/sh\n", "{\"local-hostname\": \"x\"}").as_deref(), Some("x"));
        assert_eq!(phone_home("phone_home: {url: http://x}"), None, "not a cloud-config");
    }
}
