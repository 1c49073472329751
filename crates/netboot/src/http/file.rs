//! Files: boot files, the agent, images.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path, sync::Arc, time::UNIX_EPOCH};

use axum::{
    body::Body,
    extract::{Path as UrlPath, State},
    http::{HeaderMap, HeaderName, Response, StatusCode, header},
};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use tokio::task::spawn_blocking;

use super::{
    HttpState,
    agent::session,
    error::HttpError,
    range::{self, ByteRange},
};
use crate::{
    backend::Purpose,
    tftp::{Content, Source},
};

/// Bytes read at a time.
const CHUNK: usize = 128 * 1024;

/// `GET /boot/FILE`.
pub(super) async fn boot(
    State(state): State<HttpState>,
    UrlPath(file): UrlPath<String>,
    headers: HeaderMap,
) -> Result<Response<Body>, HttpError> {
    serve(&state.config.boot_dir, &file, None, &headers).await
}

/// `GET /boot/agent/FILE`. The initrd has a second name, since UEFI wants a name that ends in `.img` by custom.
pub(super) async fn agent(
    State(state): State<HttpState>,
    UrlPath(file): UrlPath<String>,
    headers: HeaderMap,
) -> Result<Response<Body>, HttpError> {
    let file = match file.as_str() {
        "vmlinuz" => "vmlinuz",
        "initrd" | "initrd.img" => "initrd",
        _ => return Err(HttpError::not_found("no such file; there are vmlinuz and initrd")),
    };
    serve(&state.config.boot_dir.join("agent"), file, None, &headers).await
}

/// `GET /images/SHA256`.
pub(super) async fn image(
    State(state): State<HttpState>,
    UrlPath(sha256): UrlPath<String>,
    headers: HeaderMap,
) -> Result<Response<Body>, HttpError> {
    if sha256.len() != 64 || !sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(HttpError::not_found("images are named by their SHA-256: 64 hexadecimal digits in lower case"));
    }
    serve(&state.config.images_dir, &sha256, Some(format!("\"{sha256}\"")), &headers).await
}

/// `GET /media/TOKEN/FILE.iso`: the installation medium of a session. BMCs want a name with that ending.
pub(super) async fn medium(
    State(state): State<HttpState>,
    UrlPath((token, _file)): UrlPath<(String, String)>,
    headers: HeaderMap,
) -> Result<Response<Body>, HttpError> {
    let session = session(&state, &token, Purpose::Agent).await?;
    let none = || HttpError::not_found("this session has no installation medium");
    let path = state.directory.medium(&session).await?.ok_or_else(none)?;
    let (folder, name) = (path.parent(), path.file_name().and_then(|n| n.to_str()));
    let (Some(folder), Some(name)) = (folder, name) else { return Err(none()) };
    serve(folder, name, None, &headers).await
}

/// One file of a directory. `name` may come from the wire. With a tag given the content never changes.
async fn serve(dir: &Path, name: &str, tag: Option<String>, headers: &HeaderMap) -> Result<Response<Body>, HttpError> {
    let source = Source::Directory(dir.to_owned());
    let (file, len) = match source.open(name).await {
        Ok(Content::File(file, len)) => (file, len),
        Ok(Content::Memory(_)) => return Err(HttpError::not_found("no such file")),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied) => {
            return Err(HttpError::not_found("no such file"));
        }
        Err(error) => return Err(error.into()),
    };
    let immutable = tag.is_some();
    let tag = match tag {
        Some(tag) => tag,
        None => {
            let modified = file.metadata().await?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            format!("\"{:x}-{len:x}\"", modified.as_nanos())
        }
    };
    let text = |name: HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
    let mut response = Response::builder()
        .header(header::ETAG, &tag)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CACHE_CONTROL, if immutable { "public, max-age=31536000, immutable" } else { "no-cache" });
    let known = |list: &str| list.split(',').any(|t| t.trim() == "*" || t.trim().trim_start_matches("W/") == tag);
    if text(header::IF_NONE_MATCH).is_some_and(known) {
        return finish(response.status(StatusCode::NOT_MODIFIED), Body::empty());
    }
    // If-Range holds the tag of the part that the client has; with another file it gets all of this one.
    let same = text(header::IF_RANGE).is_none_or(|t| t.trim() == tag);
    let range = text(header::RANGE).filter(|_| same).map_or(ByteRange::Whole, |r| range::parse(r, len));
    response = response.header(header::CONTENT_TYPE, "application/octet-stream");
    let (first, count) = match range {
        ByteRange::Whole => (0, len),
        ByteRange::Part(first, last) => {
            response = response
                .status(StatusCode::PARTIAL_CONTENT)
                .header(header::CONTENT_RANGE, format!("bytes {first}-{last}/{len}"));
            (first, last - first + 1)
        }
        ByteRange::Unsatisfiable => {
            response = response
                .status(StatusCode::RANGE_NOT_SATISFIABLE)
                .header(header::CONTENT_RANGE, format!("bytes */{len}"));
            return finish(response, Body::empty());
        }
    };
    let body = Body::from_stream(read(file.into_std().await, first, count));
    finish(response.header(header::CONTENT_LENGTH, count), body)
}

/// A part of a file in chunks. The next one is read while the last is sent.
fn read(file: File, first: u64, count: u64) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let file = Arc::new(file);
    stream::iter((first..first + count).step_by(CHUNK))
        .map(move |at| {
            let file = file.clone();
            let size = usize::try_from(first + count - at).map_or(CHUNK, |left| Ord::min(left, CHUNK));
            async move {
                let chunk = spawn_blocking(move || {
                    let mut chunk = vec![0; size];
                    file.read_exact_at(&mut chunk, at).map(|()| Bytes::from(chunk))
                });
                chunk.await.map_err(io::Error::other)?
            }
        })
        .buffered(2)
}

fn finish(response: axum::http::response::Builder, body: Body) -> Result<Response<Body>, HttpError> {
    response.body(body).map_err(|e| HttpError(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
}
