//! The iPXE script of one machine.

use axum::{
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use model::boot::BootSession;

use super::{HttpConfig, HttpState, error::HttpError};
use crate::{dhcp::hyphens, token};

/// Boots the local disk; if that fails the firmware goes on with its own order.
const LOCAL_DISK: &str = "#!ipxe\nsanboot --no-describe --drive 0x80 || exit 0\n";

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
        None => LOCAL_DISK.to_owned(),
        Some(session) if token::well_formed(&session.token) => agent_script(&state.config, session, &mac),
        Some(_) => return Err(HttpError(StatusCode::SERVICE_UNAVAILABLE, "the boot session has no token yet".into())),
    };
    tracing::info!(%mac, task = ?session.as_ref().map(|s| s.task), "boot script");
    Ok(([(header::CONTENT_TYPE, "text/plain"), (header::CACHE_CONTROL, "no-store")], text).into_response())
}

fn agent_script(config: &HttpConfig, session: &BootSession, mac: &str) -> String {
    let base = &config.http_base;
    let mut arguments = format!(
        "initrd=initrd.img steelyard.url={base} steelyard.token={} steelyard.mac={}",
        session.token,
        hyphens(mac)
    );
    if !config.kernel_arguments.is_empty() {
        // One line, whatever the configuration holds: a line break would begin another command.
        arguments.push(' ');
        arguments.extend(config.kernel_arguments.chars().map(|c| if c.is_control() { ' ' } else { c }));
    }
    format!("#!ipxe\nkernel {base}/boot/agent/vmlinuz {arguments}\ninitrd {base}/boot/agent/initrd.img\nboot\n")
}
