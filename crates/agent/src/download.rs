//! Downloads that go on where a broken connection left off.

use std::{
    io::{self, Read},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Result},
    http::{Request, Response, send},
    say,
    site::Site,
};

const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// One file at the site, read from its beginning to its end.
pub struct Download<'a> {
    site: &'a Site,
    url: &'a str,
    size: u64,
    at: u64,
    response: Option<Response>,
    /// When the last byte came; patience begins there.
    alive: Instant,
    pause: Duration,
    /// How often it had to go on.
    pub resumed: u32,
}

/// Opens the file at an offset; skips what a server without ranges sends before it.
fn open(url: &str, first: u64, last: Option<u64>, size: u64) -> Result<io::Result<Response>> {
    let whole = first == 0 && last.is_none();
    let range = (!whole).then_some((first, last));
    let mut response = match send(&Request { method: "GET", url, secure: None, range, body: None }) {
        Ok(response) => response,
        Err(e) => return Ok(Err(e)),
    };
    match response.status {
        200 => {
            if let Some(length) = response.header("content-length").and_then(|l| l.parse::<u64>().ok())
                && length != size
            {
                return Err(Error::Failed(format!("the site's image has {length} bytes, {size} were announced")));
            }
            Ok(io::copy(&mut (&mut response).take(first), &mut io::sink()).map(|_| response))
        }
        206 => {
            let begins = response
                .header("content-range")
                .and_then(|r| r.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
            if begins == Some(first) {
                Ok(Ok(response))
            } else {
                Err(Error::Failed("the site sends another part of the image than the one asked for".into()))
            }
        }
        401 => Err(Error::Dead),
        status if status >= 500 => Ok(Err(io::Error::other(format!("status {status}")))),
        416 => Err(Error::Failed(format!("the site's image is shorter than {size} bytes"))),
        status => Err(Error::Failed(format!("the image cannot be fetched: status {status}"))),
    }
}

impl<'a> Download<'a> {
    /// Of a file with this length.
    pub fn new(site: &'a Site, url: &'a str, size: u64) -> Self {
        let pause = Duration::from_millis(250);
        Self { site, url, size, at: 0, response: None, alive: Instant::now(), pause, resumed: 0 }
    }

    /// Bytes read so far.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Fills the buffer, except at the end of the file. Broken connections are made anew.
    pub fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() && self.at < self.size {
            let most = Ord::min((buffer.len() - filled) as u64, self.size - self.at) as usize;
            let got = match &mut self.response {
                Some(response) => response.read(&mut buffer[filled..filled + most]),
                None => match open(self.url, self.at, None, self.size)? {
                    Ok(response) => {
                        self.response = Some(response);
                        continue;
                    }
                    Err(e) => Err(e),
                },
            };
            match got {
                Ok(got) if got > 0 => {
                    filled += got;
                    self.at += got as u64;
                    self.alive = Instant::now();
                    self.pause = Duration::from_millis(250);
                }
                other => {
                    let why = other.err().map_or_else(|| "the connection ended".to_owned(), |e| e.to_string());
                    self.response = None;
                    if self.alive.elapsed() > self.site.patience() {
                        return Err(Error::Failed(format!(
                            "the image cannot be fetched beyond byte {} of {}: {why}",
                            self.at, self.size
                        )));
                    }
                    say(format_args!("image: {why}; going on from byte {}", self.at));
                    self.resumed += 1;
                    sleep(self.pause);
                    self.pause = Ord::min(self.pause * 2, LONGEST_PAUSE);
                }
            }
        }
        Ok(filled)
    }

    /// A part of the file, apart from the sequence.
    pub fn part(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let last = offset.checked_add(length as u64).filter(|end| length > 0 && *end <= self.size);
        let Some(end) = last else { return Err(Error::Failed("the image points behind its own end".into())) };
        let begun = Instant::now();
        loop {
            let got = open(self.url, offset, Some(end - 1), self.size)?.and_then(|mut response| {
                let mut bytes = vec![0; length];
                response.read_exact(&mut bytes).map(|()| bytes)
            });
            match got {
                Ok(bytes) => return Ok(bytes),
                Err(e) if begun.elapsed() > self.site.patience() => {
                    return Err(Error::Failed(format!("the image cannot be fetched at byte {offset}: {e}")));
                }
                Err(_) => sleep(Duration::from_millis(500)),
            }
        }
    }
}
