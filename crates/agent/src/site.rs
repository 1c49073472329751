//! The agent's side of the protocol with the site.

use std::{
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use model::agent::{AgentInventory, Done, Next, Progress, Task};
use serde_json::Value;

use crate::{
    error::{Error, Result, Words},
    http::{Request, Secure, send},
    say,
};

/// Longest answer of the site to the agent: a seed with large templates fits.
const MAX_ANSWER: usize = 8 << 20;
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Shortest time between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// The site, and what it takes to talk with it.
pub struct Site {
    url: String,
    token: String,
    tls: Arc<rustls::ClientConfig>,
    patience: Duration,
}

impl Site {
    /// At this URL, with a certificate whose SHA-256 in hex is `pin`. `patience`: how long a site that does not answer is asked again.
    ///
    /// The machine makes a key for this boot, which never leaves its memory; the site takes the first that comes with the token.
    pub fn new(url: &str, pin: &str, token: &str, patience: Duration) -> Result<Self> {
        let made = crypto::Identity::self_signed("machine").and_then(|own| crypto::tls::machine(pin, &own));
        let tls = Arc::new(made.map_err(|e| Error::Failed(format!("no key for this boot: {e}")))?);
        Ok(Self { url: url.trim_end_matches('/').to_owned(), token: token.to_owned(), tls, patience })
    }

    /// How long a peer that does not answer is asked again.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// One request; connection errors and 5xx are tried again, other answers are final. Error texts leave the URL out:
    /// it may hold a token.
    fn ask(&self, method: &'static str, url: &str, what: &str, body: Option<&[u8]>) -> Result<Vec<u8>> {
        let end = Instant::now() + self.patience;
        let mut pause = Duration::from_millis(250);
        loop {
            let secure = Some(Secure { config: &self.tls, token: &self.token });
            let request = Request { method, url, secure, range: None, body };
            let trouble = match send(&request).and_then(|r| Ok((r.status, r.bytes(MAX_ANSWER)?))) {
                Ok((200..=299, bytes)) => return Ok(bytes),
                Ok((401, _)) => return Err(Error::Dead),
                Ok((status, bytes)) => {
                    let words = String::from_utf8_lossy(&bytes).chars().take(500).collect::<String>();
                    let trouble = format!("{what}: status {status} {words}");
                    if status < 500 {
                        return Err(Error::Failed(trouble));
                    }
                    trouble
                }
                Err(error) => format!("{what}: {error}"),
            };
            if Instant::now() + pause > end {
                return Err(Error::Failed(format!("the site does not answer: {trouble}")));
            }
            say(format_args!("{trouble}; trying again"));
            sleep(pause);
            pause = Ord::min(pause * 2, LONGEST_PAUSE);
        }
    }

    fn post(&self, path: &str, body: &impl ToJson) -> Result<Vec<u8>> {
        self.ask("POST", &format!("{}{path}", self.url), path, Some(body.json().to_string().as_bytes()))
    }

    /// What there is to do. A step that this agent does not know is an error in words, before anything is done.
    pub fn task(&self) -> Result<Task> {
        let path = "/agent/v1/task";
        let bytes = self.ask("GET", &format!("{}{path}", self.url), path, None)?;
        serde_json::from_slice(&bytes).words(|| "the site's task has a step that this boot image does not know".into())
    }

    /// Tells how far it is.
    pub fn progress(&self, progress: &Progress) -> Result<()> {
        self.post("/agent/v1/progress", progress).map(|_| ())
    }

    /// Tells what the machine is.
    pub fn inventory(&self, inventory: &AgentInventory) -> Result<()> {
        self.post("/agent/v1/inventory", inventory).map(|_| ())
    }

    /// Tells the end; the answer is what the machine does now.
    pub fn done(&self, done: &Done) -> Result<Next> {
        let bytes = self.post("/agent/v1/done", done)?;
        let answer: Value = serde_json::from_slice(&bytes).words(|| "the answer to done".into())?;
        serde_json::from_value(answer.get("next").cloned().unwrap_or_default()).words(|| "the answer to done".into())
    }

    /// One file of the seed.
    pub fn seed(&self, base: &str, file: &str) -> Result<Vec<u8>> {
        let slash = if base.ends_with('/') { "" } else { "/" };
        self.ask("GET", &format!("{base}{slash}{file}"), &format!("seed {file}"), None)
    }
}

trait ToJson {
    fn json(&self) -> Value;
}

macro_rules! json {
    ($($kind:ty),*) => {$(
        impl ToJson for $kind {
            fn json(&self) -> Value {
                serde_json::to_value(self).unwrap_or_default()
            }
        }
    )*};
}
json!(Progress, AgentInventory, Done);

/// Reports progress of a task, at most once a second. The console hears the same.
pub struct Reporter<'a> {
    site: &'a Site,
    step: usize,
    /// Part of the whole task that this step covers, in percent.
    from: u8,
    to: u8,
    last: Option<Instant>,
}

impl<'a> Reporter<'a> {
    /// For one step, which covers this part of the whole task.
    pub fn new(site: &'a Site, step: usize, from: u8, to: u8) -> Self {
        Self { site, step, from, to, last: None }
    }

    /// Tells at once. Only a dead token stops the work: a report that is lost is not worth a disk half written.
    pub fn tell(&mut self, done: u64, of: u64, message: &str) -> Result<()> {
        self.last = Some(Instant::now());
        let span = u64::from(self.to.saturating_sub(self.from));
        let part = if of == 0 { 0 } else { (u128::from(span) * u128::from(Ord::min(done, of)) / u128::from(of)) as u8 };
        let percent = Ord::min(self.from + part, 100);
        say(format_args!("{percent} % {message}"));
        match self.site.progress(&Progress { step: self.step, percent, message: message.to_owned() }) {
            Err(Error::Dead) => Err(Error::Dead),
            Err(Error::Failed(why)) => {
                say(why);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Tells when a second has passed since the last time.
    pub fn tick(&mut self, done: u64, of: u64, message: impl FnOnce() -> String) -> Result<()> {
        if self.last.is_none_or(|t| t.elapsed() >= REPORT_EVERY) { self.tell(done, of, &message()) } else { Ok(()) }
    }
}
