//! The iPXE script of one machine.

use axum::{
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use model::{
    boot::{BootSession, InstallSpec},
    template::{InstallMethod, NamedImage},
};

use super::{HttpConfig, HttpState, error::HttpError, seed};
use crate::{dhcp::hyphens, san, token};

/// Boots the local disk; if that fails the firmware goes on with its own order.
const LOCAL_DISK: &str = "#!ipxe\nsanboot --no-describe --drive 0x80 || exit 0\n";

/// Back to the firmware, whose next boot source may be the right one.
const NEXT_SOURCE: &str = "#!ipxe\nexit 0\n";
/// The program that boots Windows PE from files in memory. It finds them itself.
const WIMBOOT: &str = "wimboot";

/// `GET /boot/MAC/script.ipxe`. A machine gets the installer only for a session that names its MAC, or when nobody
/// knows it and discovery is on. A failing store is an error, which makes the firmware boot the disk: never a guess.
pub(super) async fn script(State(state): State<HttpState>, Path(mac): Path<String>) -> Result<Response, HttpError> {
    let mac = model::validate::mac("mac", &mac).map_err(|e| HttpError::bad_request(e.to_string()))?;
    let session = match state.directory.session_by_mac(&mac).await?.filter(|s| s.macs.contains(&mac)) {
        Some(session) => Some(session),
        None if state.directory.view().await?.server(&mac).is_some() => None,
        None => state.directory.discovery_session(&mac).await?.filter(|s| s.macs.contains(&mac)),
    };
    let text = match &session {
        None => own_system(&state, &mac).await?,
        Some(session) if !token::well_formed(&session.token) => {
            return Err(HttpError(StatusCode::SERVICE_UNAVAILABLE, "the boot session has no token yet".into()));
        }
        Some(session) => match &session.install {
            Some(install) => match &install.os.method {
                InstallMethod::Image => agent_script(&state, session, &mac).await?,
                InstallMethod::Network { initrds, .. } => {
                    let arguments = seed::installer(&state, session, install, |c| c.arguments()).await?;
                    installer_script(&state.config, session, install, initrds, &arguments)
                }
                // It is meant to start from its virtual drive.
                InstallMethod::Media { .. } => NEXT_SOURCE.to_owned(),
            },
            None => agent_script(&state, session, &mac).await?,
        },
    };
    tracing::info!(%mac, task = ?session.as_ref().map(|s| s.task), "boot script");
    Ok(([(header::CONTENT_TYPE, "text/plain"), (header::CACHE_CONTROL, "no-store")], text).into_response())
}

/// The system that is installed: on the local disk, or on the volume that the server's instance boots from.
async fn own_system(state: &HttpState, mac: &str) -> Result<String, HttpError> {
    let view = state.directory.view().await?;
    let Some(server) = view.server(mac).filter(|s| s.san.is_some()) else { return Ok(LOCAL_DISK.to_owned()) };
    let again = format!("{}/boot/{}/script.ipxe", state.config.http_base, hyphens(mac));
    let script = match state.directory.boot_volume(server).await {
        Ok(volume) => san::script(&volume, &again),
        Err(error) => Err(error.to_string()),
    };
    // Not an error that would let the firmware go on to a disk: what is on that is data at most.
    Ok(script.unwrap_or_else(|why| {
        tracing::warn!(server = server.name, why, "a server cannot boot from its volume");
        format!("#!ipxe\necho The site cannot tell the way to the volume of this server, it is asked again in 15 s\nsleep 15\nchain --replace {again} || reboot\n")
    }))
}

async fn agent_script(state: &HttpState, session: &BootSession, mac: &str) -> Result<String, HttpError> {
    // A machine that starts anew has a new key.
    state.directory.unbind(session).await?;
    let config = &state.config;
    let base = &config.http_base;
    let mut arguments = format!(
        "initrd=initrd.img steelyard.url={} steelyard.pin={} steelyard.token={} steelyard.mac={}",
        config.agent_base,
        config.agent_pin,
        session.token,
        hyphens(mac)
    );
    if !config.kernel_arguments.is_empty() {
        // One line, whatever the configuration holds: a line break would begin another command.
        arguments.push(' ');
        arguments.extend(config.kernel_arguments.chars().map(|c| if c.is_control() { ' ' } else { c }));
    }
    // What logs in to targets is a file of its own: nobody else waits for it.
    let on_volume = session.install.as_ref().is_some_and(|i| i.storage.boot_volume().is_some());
    let (also, more) = if on_volume {
        ("initrd=iscsi.img ", format!("initrd {base}/boot/agent/iscsi.img\n"))
    } else {
        ("", String::new())
    };
    Ok(format!(
        "#!ipxe\nkernel {base}/boot/agent/vmlinuz {also}{arguments}\ninitrd {base}/boot/agent/initrd.img\n{more}boot\n"
    ))
}

/// Names of files in a script: whatever else is in them would be read as commands or settings.
fn plain(name: &str) -> String {
    let good = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    name.chars().map(good).collect()
}

/// A distribution's kernel with what it needs. UEFI firmware finds initial RAM disks by the names in the arguments.
fn installer_script(
    config: &HttpConfig,
    session: &BootSession,
    install: &InstallSpec,
    initrds: &[NamedImage],
    arguments: &str,
) -> String {
    let (base, token) = (&config.http_base, &session.token);
    // They are words, never settings or further commands of the script.
    let words = arguments.split_whitespace().filter(|w| !matches!(*w, "||" | "&&" | ";"));
    let arguments = words.collect::<Vec<_>>().join(" ").replace("${", "$_{");
    let windows = initrds.iter().any(|i| i.name.to_ascii_lowercase().ends_with(".wim"));
    let name = if windows { WIMBOOT } else { "vmlinuz" };
    let mut kernel = format!("kernel --name {name} {base}/images/{}", install.os.image.sha256);
    let mut loads = String::new();
    for initrd in initrds {
        let name = plain(&initrd.name);
        if !windows {
            kernel.push_str(&format!(" initrd={name}"));
        }
        loads.push_str(&format!("initrd --name {name} {base}/images/{} {name}\n", initrd.image.sha256));
    }
    if windows {
        // They appear in X:\Windows\System32. Last: once they are read, the machine is not sent here again.
        for name in install.os.files.keys() {
            loads.push_str(&format!("initrd --name {0} {base}/seed/{token}/{name} {0}\n", plain(name)));
        }
    }
    if !arguments.is_empty() {
        kernel.push(' ');
        kernel.push_str(&arguments);
    }
    format!("#!ipxe\n{kernel}\n{loads}boot\n")
}
