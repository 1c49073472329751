//! Consoles of servers, for viewers who come through a tunnel of the link.

mod screen;
mod serial;

use std::sync::Arc;

use engine::JobError;
use link::Tunnel;
use model::{
    Id,
    bmc::BmcEndpoint,
    console::{ConsoleKind, Frame, OpenConsole},
    snapshot::SiteServer,
};
use sea_orm::{ActiveValue::Set, DbErr, EntityTrait, sea_query::OnConflict};

use crate::{Site, entity::console_key};

/// What is open.
#[derive(Default)]
pub(crate) struct Consoles {
    serials: serial::Hubs,
    screens: screen::Passwords,
}

/// Serves one viewer until either end has enough. The last frame says why, unless it was the viewer who went.
pub(crate) async fn serve(site: &Arc<Site>, wanted: OpenConsole, tunnel: Tunnel) {
    let out = tunnel.out.clone();
    tracing::info!(server = wanted.server_id, kind = wanted.kind.as_str(), "a console is opened");
    let ended = match site.server(wanted.server_id).and_then(|server| allowed(server, &wanted)) {
        Ok(server) => match wanted.kind {
            ConsoleKind::Serial => serial::serve(site, &server, &wanted, tunnel).await,
            ConsoleKind::Screen => screen::serve(site, &server, &wanted, tunnel).await,
        },
        Err(e) => Err(e.message),
    };
    tracing::info!(server = wanted.server_id, kind = wanted.kind.as_str(), "a console is closed");
    if let Err(why) = ended {
        let _ = out.send(Frame::End(why)).await;
    }
}

/// A console is for whoever holds the server, by what is known here too.
fn allowed(server: SiteServer, wanted: &OpenConsole) -> Result<SiteServer, JobError> {
    if server.hands_off {
        return Err(JobError::fatal(format!(
            "server {} is in production outside of this platform and is not touched",
            server.name
        )));
    }
    if wanted.instance_id.is_some() && server.instance_id.is_some() && wanted.instance_id != server.instance_id {
        return Err(JobError::retry(format!("server {} has changed hands; try again", server.name)));
    }
    Ok(server)
}

/// What a host key is remembered for: whoever trusts another certificate of the BMC, or enters another address, trusts its next key.
fn bound(endpoint: &BmcEndpoint) -> String {
    let print = endpoint.tls_fingerprint.as_deref().unwrap_or_default();
    crypto::token::digest(format!("{} {print}", endpoint.address).as_bytes())
}

/// The SSH host key of a server's BMC, as it was met first.
async fn known_key(site: &Site, server: Id, endpoint: &BmcEndpoint) -> Result<Option<String>, DbErr> {
    let found = console_key::Entity::find_by_id(server).one(&site.db.read).await?;
    Ok(found.filter(|k| k.bound == bound(endpoint)).map(|k| k.sha256))
}

async fn remember_key(site: &Site, server: Id, endpoint: &BmcEndpoint, sha256: String) -> Result<(), DbErr> {
    let row = console_key::ActiveModel { server_id: Set(server), bound: Set(bound(endpoint)), sha256: Set(sha256) };
    console_key::Entity::insert(row)
        .on_conflict(
            OnConflict::column(console_key::Column::ServerId)
                .update_columns([console_key::Column::Bound, console_key::Column::Sha256])
                .to_owned(),
        )
        .exec_without_returning(&site.db.write)
        .await?;
    Ok(())
}
