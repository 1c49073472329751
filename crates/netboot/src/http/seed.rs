//! cloud-init seeds and the signal that the installed system is up.

use axum::{
    Extension,
    body::Bytes,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use model::{
    boot::{BootSession, InstallSpec},
    template::InstallMethod,
};

use super::{
    HttpState, Peer,
    agent::{bound, session},
    error::HttpError,
};
use crate::{
    backend::Purpose,
    installer::InstallerContext,
    render::{RenderError, SeedContext},
};

/// Fields of a form that are kept.
const MAX_FIELDS: usize = 64;

/// `GET /seed/TOKEN/FILE` of a distribution's installer, which knows no certificates.
pub(super) async fn installer_seed(
    State(state): State<HttpState>,
    Path((token, file)): Path<(String, String)>,
) -> Result<Response, HttpError> {
    let session = session(&state, &token, Purpose::Agent).await?;
    if session.install.as_ref().is_some_and(|i| i.os.method == InstallMethod::Image) {
        return Err(HttpError::not_found("the agent gets this seed over its own connection"));
    }
    seed(&state, &session, &file).await
}

/// `GET /seed/TOKEN/FILE` of the agent.
pub(super) async fn agent_seed(
    State(state): State<HttpState>,
    peer: Option<Extension<Peer>>,
    Path((token, file)): Path<(String, String)>,
) -> Result<Response, HttpError> {
    let session = bound(&state, &token, peer, Purpose::Agent).await?;
    seed(&state, &session, &file).await
}

async fn seed(state: &HttpState, session: &BootSession, file: &str) -> Result<Response, HttpError> {
    let text = text(state, session, file).await?;
    state.events.seed_read(session, file).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")], text)
        .into_response())
}

/// Something that an [`InstallerContext`] says, once all that only the store knows is at hand.
pub(super) async fn installer<T>(
    state: &HttpState,
    session: &BootSession,
    install: &InstallSpec,
    say: impl FnOnce(&InstallerContext<'_>) -> Result<T, RenderError>,
) -> Result<T, HttpError> {
    let password_hash = state.directory.password_hash(session).await?;
    let password = state.directory.password(session).await?;
    let secrets = state.directory.secrets(session).await?;
    let http_base = &state.config.http_base;
    let seed = SeedContext { session, install, password_hash: &password_hash, secrets: &secrets, http_base };
    say(&InstallerContext { seed, password: &password }).map_err(|error| {
        tracing::warn!(%error, job_id = session.job_id, "seed");
        HttpError(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    })
}

async fn text(state: &HttpState, session: &BootSession, file: &str) -> Result<String, HttpError> {
    let Some(install) = &session.install else { return Err(HttpError::not_found("this session installs nothing")) };
    let found = installer(state, session, install, |context| match file {
        _ if install.os.files.contains_key(file) => context.file(file).transpose(),
        "user-data" => context.seed.user_data().map(Some),
        "meta-data" => context.seed.meta_data().map(Some),
        "network-config" => Ok(Some(context.seed.network_config())),
        // cloud-init asks for it and takes an error for a broken seed.
        "vendor-data" => Ok(Some(String::new())),
        _ => Ok(None),
    });
    found.await?.ok_or_else(|| {
        let own = install.os.files.keys().map(String::as_str);
        let all: Vec<&str> =
            ["user-data", "meta-data", "vendor-data", "network-config"].into_iter().chain(own).collect();
        HttpError::not_found(&format!("there are {}", all.join(", ")))
    })
}

/// `POST /phone-home/TOKEN` or `/ready/TOKEN`, with cloud-init's form or empty.
pub(super) async fn phone_home(
    State(state): State<HttpState>,
    Path(token): Path<String>,
    body: Bytes,
) -> Result<StatusCode, HttpError> {
    let session = session(&state, &token, Purpose::PhoneHome).await?;
    let form = url::form_urlencoded::parse(&body).take(MAX_FIELDS).map(|(k, v)| (k.into_owned(), v.into_owned()));
    state.events.phone_home(&session, form.filter(|(k, _)| !k.is_empty()).collect()).await?;
    Ok(StatusCode::NO_CONTENT)
}
