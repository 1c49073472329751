//! Fetches a catalog: with a deadline, a bound on its size, a proxy where one is set, and not at all while it has not changed.

use std::time::Duration;

use futures::StreamExt;
use reqwest::{StatusCode, header};

/// Largest catalog, packed or unpacked: the whole of Dell's has some 100 MB.
pub const MOST_BYTES: u64 = 256 << 20;
/// How long the other side may take to begin.
const CONNECT: Duration = Duration::from_secs(15);
/// Nothing arriving for this long ends a fetch.
const STALL: Duration = Duration::from_mins(1);
/// How long a whole fetch may take.
const DEADLINE: Duration = Duration::from_mins(15);

/// Where a catalog is fetched from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Its address.
    pub url: String,
    /// The proxy of this installation.
    pub proxy: Option<String>,
    /// Hosts and domains that are reached without it, separated by commas.
    pub no_proxy: Option<String>,
    /// Tag of the one that is known.
    pub etag: Option<String>,
}

/// A document that was fetched.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its tag.
    pub etag: Option<String>,
}

/// How a fetch ended well.
#[derive(Clone, Debug)]
pub enum Fetched {
    /// It is another one than before.
    New(Document),
    /// It is the one that is known.
    Same,
}

/// Why a fetch failed; `again` says whether it is worth another try by itself.
#[derive(Clone, Debug)]
pub struct Failed {
    /// In words.
    pub words: String,
    /// Trying again may help.
    pub again: bool,
}

/// Why, with all that lies below it.
fn cause(error: &reqwest::Error) -> String {
    let mut words = error.to_string();
    let mut below = std::error::Error::source(error);
    while let Some(e) = below {
        words = format!("{words}: {e}");
        below = e.source();
    }
    words
}

/// Fetches a catalog. `progress` is told the bytes so far and, where known, of how many.
pub async fn fetch(source: &Source, progress: impl Fn(u64, Option<u64>)) -> Result<Fetched, Failed> {
    let again = |words: String| Failed { words, again: true };
    let never = |words: String| Failed { words, again: false };
    let mut client = reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .read_timeout(STALL)
        .timeout(DEADLINE)
        .redirect(reqwest::redirect::Policy::limited(5))
        .no_proxy();
    if let Some(address) = &source.proxy {
        let proxy = reqwest::Proxy::all(address)
            .map_err(|e| never(format!("the proxy {address} of the configuration cannot be used: {e}")))?
            .no_proxy(source.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string));
        client = client.proxy(proxy);
    }
    let client = client.build().map_err(|e| never(cause(&e)))?;
    let mut request = client.get(&source.url);
    if let Some(etag) = &source.etag {
        request = request.header(header::IF_NONE_MATCH, etag);
    }
    let way = source.proxy.as_ref().map(|p| format!(" by the proxy {p}")).unwrap_or_default();
    let answer =
        request.send().await.map_err(|e| again(format!("{} cannot be reached{way}: {}", source.url, cause(&e))))?;
    match answer.status() {
        StatusCode::NOT_MODIFIED => return Ok(Fetched::Same),
        status if status.is_success() => {}
        status => {
            let words = format!("{} answers {status}{way}; look at the catalog's address", source.url);
            let busy = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
            return Err(Failed { words, again: busy });
        }
    }
    let total = answer.content_length();
    let large = || never(format!("{} is larger than {} MiB, which no catalog is", source.url, MOST_BYTES >> 20));
    if total.is_some_and(|t| t > MOST_BYTES) {
        return Err(large());
    }
    let etag = answer.headers().get(header::ETAG).and_then(|e| e.to_str().ok()).map(str::to_owned);
    let mut bytes = Vec::new();
    let mut stream = answer.bytes_stream();
    while let Some(part) = stream.next().await {
        let part = part.map_err(|e| again(format!("{} broke off: {}", source.url, cause(&e))))?;
        if bytes.len() as u64 + part.len() as u64 > MOST_BYTES {
            return Err(large());
        }
        bytes.extend_from_slice(&part);
        progress(bytes.len() as u64, total);
    }
    if let Some(total) = total.filter(|t| *t != bytes.len() as u64) {
        return Err(again(format!("{} broke off after {} of {total} bytes", source.url, bytes.len())));
    }
    Ok(Fetched::New(Document { bytes, etag }))
}
