//! cloud-init seeds and the signal that the installed system is up.

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{HttpState, agent::session, error::HttpError};
use crate::{
    backend::Purpose,
    render::{RenderError, SeedContext},
};

/// Fields of a form that are kept.
const MAX_FIELDS: usize = 64;

/// `GET /seed/TOKEN/FILE`.
pub(super) async fn seed(
    State(state): State<HttpState>,
    Path((token, file)): Path<(String, String)>,
) -> Result<Response, HttpError> {
    let session = session(&state, &token, Purpose::Agent).await?;
    let Some(install) = &session.install else { return Err(HttpError::not_found("this session installs nothing")) };
    let password_hash = state.directory.password_hash(&session).await?;
    let secrets = state.directory.secrets(&session).await?;
    let http_base = &state.config.http_base;
    let context =
        SeedContext { session: &session, install, password_hash: &password_hash, secrets: &secrets, http_base };
    let failed = |error: RenderError| {
        tracing::warn!(%error, job_id = session.job_id, "seed");
        HttpError(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    };
    let text = match file.as_str() {
        "user-data" => context.user_data().map_err(failed)?,
        "meta-data" => context.meta_data().map_err(failed)?,
        "network-config" => context.network_config(),
        // cloud-init asks for it and takes an error for a broken seed.
        "vendor-data" => String::new(),
        _ => return Err(HttpError::not_found("there are user-data, meta-data, vendor-data and network-config")),
    };
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")], text)
        .into_response())
}

/// `POST /phone-home/TOKEN`, with cloud-init's form or empty.
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
