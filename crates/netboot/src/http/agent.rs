//! The API of the agent in the boot image.

use axum::{
    Extension, Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
};
use model::{
    agent::{AgentInventory, Done, IscsiVolume, Progress, Step, Task, TaskKind},
    boot::BootSession,
    template::{Erase, InstallMethod},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{HttpState, Peer, error::HttpError};
use crate::{backend::Purpose, token};

/// Seconds until an agent with nothing to do asks again.
const RETRY_AFTER: u64 = 10;

/// What steps call the disk of an attached volume.
const VOLUME: &str = "volume";

/// What the agent does in a session.
/// `volume`: the one that an installation goes onto. An installation that shall go onto one never touches a local disk for want of it.
pub fn task(session: &BootSession, http_base: &str, agent_base: &str, volume: Option<&IscsiVolume>) -> Task {
    let wait = Task { task: TaskKind::Wait, steps: Vec::new(), retry_after: Some(RETRY_AFTER) };
    let steps = match (session.task, &session.install) {
        (TaskKind::Discover, _) => vec![Step::Inventory, Step::Finish],
        (TaskKind::Clean, _) => {
            vec![Step::Inventory, Step::Wipe { disks: "all".into(), plan: session.clean.clone() }, Step::Finish]
        }
        (TaskKind::Install, Some(install)) if install.os.method == InstallMethod::Image => {
            let image = &install.os.image;
            let write = |disk: &str| Step::WriteImage {
                url: format!("{http_base}/images/{}", image.sha256),
                sha256: image.sha256.clone(),
                format: image.format.clone(),
                size: image.size,
                disk: disk.into(),
            };
            let wipe = |disks: &str| Step::Wipe { disks: disks.into(), plan: None };
            let seed = |disk| Step::Seed { url: format!("{agent_base}/seed/{}/", session.token), disk };
            let erase = install.os.erase.unwrap_or_default();
            match (install.storage.boot_volume(), volume) {
                (None, _) => {
                    let (wipe, write) = (wipe(erase.as_str()), write("first"));
                    vec![Step::Inventory, wipe, write, seed(None), Step::Bootloader, Step::Finish]
                }
                (Some(_), None) => return wait,
                (Some(_), Some(volume)) => {
                    let mut steps = vec![Step::Inventory, Step::Attach { volume: volume.clone() }];
                    if install.storage.keep_system {
                        steps.extend([seed(Some(VOLUME.into())), Step::Finish]);
                        return Task { task: session.task, steps, retry_after: None };
                    }
                    // Disks of the server are data drives here.
                    if erase == Erase::All {
                        steps.push(wipe(erase.as_str()));
                    }
                    steps.extend([wipe(VOLUME), write(VOLUME), seed(None), Step::Bootloader, Step::Finish]);
                    steps
                }
            }
        }
        // An installation of nothing must not begin by wiping disks, nor one that another installer does.
        (TaskKind::Install | TaskKind::Wait, _) => return wait,
    };
    Task { task: session.task, steps, retry_after: None }
}

/// The session of a token that is good for this purpose.
pub(super) async fn session(state: &HttpState, presented: &str, purpose: Purpose) -> Result<BootSession, HttpError> {
    if !token::well_formed(presented) {
        return Err(HttpError::dead_token());
    }
    let session = state.directory.session_by_token(presented, purpose).await?;
    session.filter(|s| token::matches(&s.token, presented)).ok_or_else(HttpError::dead_token)
}

/// The same, for the machine that this boot is bound to: the first that came with the token.
pub(super) async fn bound(
    state: &HttpState,
    presented: &str,
    peer: Option<Extension<Peer>>,
    purpose: Purpose,
) -> Result<BootSession, HttpError> {
    let Some(Extension(Peer(certificate))) = peer else { return Err(HttpError::no_certificate()) };
    let session = session(state, presented, purpose).await?;
    if !state.directory.bind(&session, &certificate).await? {
        tracing::warn!(
            job_id = session.job_id,
            server = session.server_id,
            "a second machine comes with the token of a boot"
        );
        return Err(HttpError::dead_token());
    }
    Ok(session)
}

async fn bearer(
    state: &HttpState,
    headers: &HeaderMap,
    peer: Option<Extension<Peer>>,
    purpose: Purpose,
) -> Result<BootSession, HttpError> {
    let presented = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(token::bearer);
    bound(state, presented.unwrap_or_default(), peer, purpose).await
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, HttpError> {
    serde_json::from_slice(body)
        .map_err(|e| HttpError::bad_request(format!("the body is not what is expected here: {e}")))
}

/// `GET /agent/v1/task`.
pub(super) async fn get_task(
    State(state): State<HttpState>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
) -> Result<Json<Task>, HttpError> {
    let session = bearer(&state, &headers, peer, Purpose::Agent).await?;
    let on_volume = session.install.as_ref().is_some_and(|i| i.storage.boot_volume().is_some());
    let volume = if on_volume { state.directory.install_volume(&session).await? } else { None };
    Ok(Json(task(&session, &state.config.http_base, &state.config.agent_base, volume.as_ref())))
}

/// `POST /agent/v1/progress`.
pub(super) async fn progress(
    State(state): State<HttpState>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, HttpError> {
    let session = bearer(&state, &headers, peer, Purpose::Agent).await?;
    let progress: Progress = read(&body)?;
    if progress.percent > 100 {
        return Err(HttpError::bad_request(format!("percent: {} is more than 100", progress.percent)));
    }
    state.events.progress(&session, progress).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /agent/v1/inventory`.
pub(super) async fn inventory(
    State(state): State<HttpState>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, HttpError> {
    let session = bearer(&state, &headers, peer, Purpose::Agent).await?;
    let inventory: AgentInventory = read(&body)?;
    state.events.inventory(&session, inventory).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /agent/v1/done`.
pub(super) async fn done(
    State(state): State<HttpState>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, HttpError> {
    let session = bearer(&state, &headers, peer, Purpose::Done).await?;
    let done: Done = read(&body)?;
    let next = state.events.done(&session, done).await?;
    Ok(Json(json!({ "next": next })))
}
