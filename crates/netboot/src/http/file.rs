//! Files: boot files, the agent, images.

use std::{
    collections::HashMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{Path as UrlPath, State},
    http::{HeaderMap, HeaderName, Response, StatusCode, header},
};
use bytes::Bytes;
use futures::{Stream, stream};
use tokio::task::spawn_blocking;

use super::{
    HttpState,
    agent::session,
    connection::Segment,
    error::HttpError,
    range::{self, ByteRange},
};
use crate::{
    backend::Purpose,
    disk::{OpenFile, read_at},
    tftp::relative,
};

/// Bytes read at a time.
const CHUNK: usize = 128 * 1024;
/// Files up to this size are kept in memory, until they come to this much together.
const SMALL: u64 = 4 * 1024 * 1024;
const KEPT: usize = 32 * 1024 * 1024;
/// How long a file in memory is served before it is looked whether it has changed on disk.
const FRESH: Duration = Duration::from_secs(1);

/// A file in memory.
#[derive(Clone)]
struct Kept {
    tag: Arc<str>,
    content: Bytes,
    looked: Instant,
}

/// Small files that many machines fetch at the same time.
#[derive(Default)]
pub(super) struct Files(Mutex<HashMap<PathBuf, Kept>>);

/// The content of an answer.
enum Content {
    Kept(Bytes),
    Disk(Arc<File>, u64),
}

impl Files {
    fn kept(&self, path: &Path) -> Option<Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    fn keep(&self, path: PathBuf, kept: Kept) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&path);
        if all.values().map(|k| k.content.len()).sum::<usize>() + kept.content.len() > KEPT {
            all.clear();
        }
        all.insert(path, kept);
    }

    fn forget(&self, path: &Path) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
    }

    /// A file of the boot folder, with its tag.
    async fn open(&self, dir: &Path, name: String) -> io::Result<(Arc<str>, Content)> {
        let path = dir.join(&name);
        let known = self.kept(&path);
        if let Some(kept) = &known
            && kept.looked.elapsed() < FRESH
        {
            return Ok((kept.tag.clone(), Content::Kept(kept.content.clone())));
        }
        let dir = dir.to_owned();
        let look = spawn_blocking(move || {
            let open = OpenFile::open(&dir, &name)?;
            let tag: Arc<str> = open.tag().into();
            let content = match known.filter(|k| k.tag == tag) {
                Some(kept) => Some(kept.content),
                None if open.len() <= SMALL => Some(open.read_all()?),
                None => None,
            };
            Ok::<_, io::Error>((open, tag, content))
        });
        match look.await.map_err(io::Error::other)? {
            Ok((_, tag, Some(content))) => {
                self.keep(path, Kept { tag: tag.clone(), content: content.clone(), looked: Instant::now() });
                Ok((tag, Content::Kept(content)))
            }
            Ok((open, tag, None)) => {
                self.forget(&path);
                Ok((tag, Content::Disk(open.inner().clone(), open.len())))
            }
            Err(error) => {
                self.forget(&path);
                Err(error)
            }
        }
    }
}

/// Any other file, with a tag.
async fn open(dir: &Path, name: String) -> io::Result<(Arc<str>, Content)> {
    let dir = dir.to_owned();
    let open = spawn_blocking(move || OpenFile::open(&dir, &name)).await.map_err(io::Error::other)??;
    Ok((open.tag().into(), Content::Disk(open.inner().clone(), open.len())))
}

/// `GET /boot/FILE`.
pub(super) async fn boot(
    State(state): State<HttpState>,
    State(files): State<Arc<Files>>,
    UrlPath(file): UrlPath<String>,
    headers: HeaderMap,
) -> Result<Response<Body>, HttpError> {
    let found = files.open(&state.config.boot_dir, name(&file)?).await;
    answer(found, false, &headers)
}

/// `GET /boot/agent/FILE`. The initrd has a second name, since UEFI wants a name that ends in `.img` by custom.
pub(super) async fn agent(
    State(state): State<HttpState>,
    State(files): State<Arc<Files>>,
    UrlPath(file): UrlPath<String>,
    headers: HeaderMap,
) -> Result<Response<Body>, HttpError> {
    let file = match file.as_str() {
        "vmlinuz" => "vmlinuz",
        "initrd" | "initrd.img" => "initrd",
        "iscsi" | "iscsi.img" => "iscsi",
        _ => return Err(HttpError::not_found("no such file; there are vmlinuz, initrd and iscsi")),
    };
    let found = files.open(&state.config.boot_dir, format!("agent/{file}")).await;
    answer(found, false, &headers)
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
    let tag: Arc<str> = format!("\"{sha256}\"").into();
    let found = open(&state.config.images_dir, sha256).await;
    answer(found.map(|(_, content)| (tag, content)), true, &headers)
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
    answer(open(folder, name.to_owned()).await, false, &headers)
}

/// A path from the wire that stays below its folder.
fn name(file: &str) -> Result<String, HttpError> {
    relative(file).ok_or_else(|| HttpError::not_found("no such file"))
}

/// A file, or the part of it that is asked for. Content that is `immutable` never changes under its name.
fn answer(
    found: io::Result<(Arc<str>, Content)>,
    immutable: bool,
    headers: &HeaderMap,
) -> Result<Response<Body>, HttpError> {
    let (tag, content) = match found {
        Ok(found) => found,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            return Err(HttpError::not_found("no such file"));
        }
        Err(error) => return Err(error.into()),
    };
    let len = match &content {
        Content::Kept(bytes) => bytes.len() as u64,
        Content::Disk(_, len) => *len,
    };
    let text = |name: HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
    let mut response = Response::builder()
        .header(header::ETAG, &*tag)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CACHE_CONTROL, if immutable { "public, max-age=31536000, immutable" } else { "no-cache" });
    let known = |list: &str| list.split(',').any(|t| t.trim() == "*" || t.trim().trim_start_matches("W/") == &*tag);
    if text(header::IF_NONE_MATCH).is_some_and(known) {
        return finish(response.status(StatusCode::NOT_MODIFIED), Body::empty());
    }
    // If-Range holds the tag of the part that the client has; with another file it gets all of this one.
    let same = text(header::IF_RANGE).is_none_or(|t| t.trim() == &*tag);
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
    response = response.header(header::CONTENT_LENGTH, count);
    match content {
        // It ends within the file, whose length was known as a `usize`.
        Content::Kept(bytes) => finish(response, Body::from(bytes.slice(first as usize..(first + count) as usize))),
        Content::Disk(file, _) => {
            let segment = Segment { file: file.clone(), first, count };
            finish(response.extension(segment), Body::from_stream(read(file, first, count)))
        }
    }
}

/// A part of a file in chunks.
fn read(file: Arc<File>, first: u64, count: u64) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold((file, first), move |(file, at)| async move {
        let left = first + count - at;
        if left == 0 {
            return Ok(None);
        }
        let size = usize::try_from(left).map_or(CHUNK, |left| Ord::min(left, CHUNK));
        let chunk = read_at(&file, at, size).await?;
        Ok(Some((chunk, (file, at + size as u64))))
    })
}

fn finish(response: axum::http::response::Builder, body: Body) -> Result<Response<Body>, HttpError> {
    response.body(body).map_err(|e| HttpError(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
}
