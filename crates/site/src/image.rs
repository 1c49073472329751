//! Images at hand: fetched from where they are, resumed, checked, and served from the site's own disk.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use model::{Id, template::ImageRef};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
};
use tokio_util::sync::CancellationToken;

use crate::Site;

/// Pause after a failed fetch.
const AGAIN: Duration = Duration::from_secs(10);
/// Nothing arriving for this long ends a fetch; it resumes.
const STALL: Duration = Duration::from_mins(1);

/// Largest file of unknown digest.
const ADOPTED: u64 = 4 << 30;

/// How an image stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    /// On the disk, checked.
    Here,
    /// Bytes so far.
    Coming(u64),
    /// The last try failed; it is tried again.
    Failing(String),
}

/// The images of a site.
pub(crate) struct Images {
    folder: PathBuf,
    wake: Notify,
    /// What is not here yet. Wanted by a fact or by an installation.
    wanted: Mutex<HashMap<String, (ImageRef, State)>>,
}

impl Images {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, wake: Notify::new(), wanted: Mutex::default() }
    }

    /// Where an image lies that is here.
    pub(crate) fn path(&self, sha256: &str) -> PathBuf {
        self.folder.join(sha256)
    }

    /// Where the medium lies that was made for one session. A session that began anew has another token, so its medium is another one.
    pub(crate) fn medium(&self, job_id: Id, token: &str) -> PathBuf {
        let hash = crypto::token::hash(token);
        self.media().join(format!("{job_id}-{}.iso", hash.get(..16).unwrap_or(&hash)))
    }

    /// Folder of media that are made for one installation each.
    pub(crate) fn media(&self) -> PathBuf {
        self.folder.with_file_name("media")
    }

    /// Whether an image is here.
    pub(crate) fn has(&self, sha256: &str) -> bool {
        sha256.len() == 64 && self.path(sha256).exists()
    }

    /// Reads an image again that somebody found to be another one than promised; it is fetched anew when it is. Disks rot.
    pub(crate) async fn look_again(&self, sha256: &str) {
        let path = self.path(sha256);
        match digest(&path).await {
            Ok(found) if found == sha256 => {}
            Ok(found) => {
                tracing::error!(sha256, found, "an image has changed on the disk of this site; it is fetched anew");
                if let Err(error) = tokio::fs::remove_file(&path).await {
                    tracing::error!(sha256, %error, "the image cannot be removed");
                }
            }
            Err(error) => tracing::warn!(sha256, "an image cannot be read: {error:#}"),
        }
    }

    /// Fetches a file whose digest nobody has told, and names it by the one that it has.
    pub(crate) async fn adopt(&self, url: &str) -> Result<String> {
        let part = self.folder.join(format!("{}.part", crypto::token::digest(url.as_bytes())));
        let client = reqwest::Client::builder().connect_timeout(Duration::from_secs(15)).read_timeout(STALL).build()?;
        let answer = client.get(url).send().await.with_context(|| format!("cannot reach {url}"))?;
        if !answer.status().is_success() {
            bail!("{url} answers {}", answer.status());
        }
        let mut file = tokio::fs::File::create(&part).await?;
        let (mut hash, mut got) = (Sha256::new(), 0u64);
        let mut pieces = answer.bytes_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.with_context(|| format!("the connection to {url} broke"))?;
            got += piece.len() as u64;
            if got > ADOPTED {
                bail!("{url} is larger than {} GiB", ADOPTED >> 30);
            }
            hash.update(&piece);
            file.write_all(&piece).await?;
        }
        file.sync_all().await?;
        let digest = hex::encode(hash.finalize());
        tokio::fs::rename(&part, self.path(&digest)).await?;
        Ok(digest)
    }

    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// How an image stands; from now on it is fetched when it is not here.
    pub(crate) fn want(&self, image: &ImageRef) -> State {
        if self.path(&image.sha256).exists() {
            return State::Here;
        }
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, state) = wanted.entry(image.sha256.clone()).or_insert_with(|| {
            self.wake.notify_one();
            (image.clone(), State::Coming(0))
        });
        state.clone()
    }

    fn next(&self) -> Option<ImageRef> {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        // One that fails does not keep others waiting.
        wanted.values().min_by_key(|(_, s)| matches!(s, State::Failing(_))).map(|(image, _)| image.clone())
    }

    fn set(&self, sha256: &str, state: State) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if state == State::Here {
            wanted.remove(sha256);
        } else if let Some(entry) = wanted.get_mut(sha256) {
            entry.1 = state;
        }
    }
}

/// Fetches what is wanted until `shutdown`.
pub(crate) async fn keep(site: Arc<Site>, shutdown: CancellationToken) {
    loop {
        for image in site.facts.images() {
            site.images.want(&image);
        }
        let pause = match site.images.next() {
            None => Duration::from_hours(1),
            Some(image) => {
                let fetched = tokio::select! {
                    fetched = fetch(&site, &image) => fetched,
                    () = shutdown.cancelled() => return,
                };
                match fetched {
                    Ok(()) => {
                        tracing::info!(sha256 = image.sha256, "an image is here");
                        site.images.set(&image.sha256, State::Here);
                        continue;
                    }
                    Err(error) => {
                        tracing::warn!(sha256 = image.sha256, "an image could not be fetched: {error:#}");
                        site.images.set(&image.sha256, State::Failing(format!("{error:#}")));
                        AGAIN
                    }
                }
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = site.images.wake.notified() => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn fetch(site: &Site, image: &ImageRef) -> Result<()> {
    if image.sha256.len() != 64 || !image.sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
        bail!("{:?} is not a SHA-256 in hexadecimal", image.sha256);
    }
    let (whole, part) = (site.images.path(&image.sha256), site.images.path(&format!("{}.part", image.sha256)));
    if whole.exists() {
        return Ok(());
    }
    let have = tokio::fs::metadata(&part).await.map_or(0, |m| m.len());
    let mut file = tokio::fs::OpenOptions::new().create(true).append(true).open(&part).await?;
    let received = match &image.url {
        Some(url) => from_url(site, image, url, have, &mut file).await,
        None => from_link(site, image, have, file.try_clone().await?).await,
    };
    file.sync_all().await?;
    received?;
    let found = digest(&part).await?;
    if found != image.sha256.to_ascii_lowercase() {
        tokio::fs::remove_file(&part).await?;
        bail!("its content has the SHA-256 {found}; correct the template asset or the file behind it");
    }
    tokio::fs::rename(&part, &whole).await?;
    Ok(())
}

async fn from_url(site: &Site, image: &ImageRef, url: &str, have: u64, file: &mut tokio::fs::File) -> Result<()> {
    let client = reqwest::Client::builder().connect_timeout(Duration::from_secs(15)).read_timeout(STALL).build()?;
    let mut request = client.get(url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let answer = request.send().await.with_context(|| format!("cannot reach {url}"))?;
    let status = answer.status();
    if status == reqwest::StatusCode::RANGE_NOT_SATISFIABLE {
        // All is here, or what is here is too long: the digest decides.
        return Ok(());
    }
    if !status.is_success() {
        bail!("{url} answers {status}");
    }
    let mut got = have;
    if have > 0 && status != reqwest::StatusCode::PARTIAL_CONTENT {
        file.set_len(0).await?;
        got = 0;
    }
    let mut pieces = answer.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.with_context(|| format!("the connection to {url} broke"))?;
        file.write_all(&piece).await?;
        got += piece.len() as u64;
        site.images.set(&image.sha256, State::Coming(got));
    }
    Ok(())
}

async fn from_link(site: &Site, image: &ImageRef, have: u64, file: tokio::fs::File) -> Result<()> {
    let file = Arc::new(tokio::sync::Mutex::new((file, have)));
    site.membership
        .current()
        .fetch_image(&image.sha256, have, |piece| {
            let file = file.clone();
            async move {
                let mut file = file.lock().await;
                file.0.write_all(&piece).await?;
                file.1 += piece.len() as u64;
                site.images.set(&image.sha256, State::Coming(file.1));
                Ok(())
            }
        })
        .await?;
    file.lock().await.0.flush().await?;
    Ok(())
}

async fn digest(path: &Path) -> Result<String> {
    let mut file = tokio::fs::File::open(path).await?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0u8; 1 << 20]);
    loop {
        let n = file.read(&mut buffer).await?;
        if n == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(buffer.get(..n).unwrap_or_default());
    }
}
