//! Commands on a Linux machine over SSH. The host key of the first contact is pinned; scripts go through the standard input of a shell, so
//! that neither they nor the secrets in them show in a list of processes.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use russh::{
    ChannelMsg, Disconnect,
    client::{self, Handle},
    keys::{PrivateKeyWithHashAlg, PublicKeyBase64, PublicKeyOrCertificate, decode_secret_key},
};
use sha2::{Digest, Sha256};

use crate::{Access, StorageError};

/// Port of SSH.
const PORT: u16 = 22;
/// More output than that is no answer to any of our questions.
const OUTPUT: usize = 4 << 20;

/// Host keys that were met.
#[derive(Default)]
struct Seen {
    accepted: Option<String>,
    refused: Option<String>,
}

struct Checker {
    pin: Option<String>,
    seen: Arc<Mutex<Seen>>,
}

impl client::Handler for Checker {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let shown = hex::encode(Sha256::digest(key.public_key().public_key_bytes()));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = self.pin.as_ref().or(seen.accepted.as_ref());
        if expected.is_some_and(|e| !e.eq_ignore_ascii_case(&shown)) {
            seen.refused = Some(shown);
            return Ok(false);
        }
        *seen = Seen { accepted: Some(shown), refused: None };
        Ok(true)
    }
}

/// What a script left.
#[derive(Debug)]
pub(crate) struct Output {
    /// Exit status.
    pub code: u32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// A machine.
pub(crate) struct Ssh {
    access: Access,
    seen: Arc<Mutex<Seen>>,
    session: tokio::sync::Mutex<Option<Handle<Checker>>>,
}

impl Ssh {
    pub(crate) fn new(access: Access) -> Self {
        Self { access, seen: Arc::default(), session: tokio::sync::Mutex::default() }
    }

    fn seen<T>(&self, get: impl FnOnce(&Seen) -> T) -> T {
        get(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn fingerprint(&self) -> Option<String> {
        self.seen(|s| s.accepted.clone())
    }

    pub(crate) fn refused_fingerprint(&self) -> Option<String> {
        self.seen(|s| s.refused.clone())
    }

    fn unreachable(&self, cause: impl std::fmt::Display) -> StorageError {
        StorageError::Unreachable { storage: self.access.name.clone(), cause: cause.to_string() }
    }

    async fn connect(&self) -> Result<Handle<Checker>, StorageError> {
        let access = &self.access;
        let config = client::Config {
            keepalive_interval: Some(Duration::from_secs(15)),
            keepalive_max: 3,
            nodelay: true,
            ..client::Config::default()
        };
        let checker = Checker { pin: access.tls_fingerprint.clone(), seen: self.seen.clone() };
        let place = (access.address.as_str(), access.port.unwrap_or(PORT));
        let connected = tokio::time::timeout(access.timeout, client::connect(Arc::new(config), place, checker)).await;
        let mut session = match connected {
            Err(_) => return Err(self.unreachable("no answer in time")),
            Ok(Err(e)) => {
                return Err(match self.refused_fingerprint() {
                    Some(shown) if matches!(e, russh::Error::UnknownKey) => StorageError::IdentityChanged {
                        storage: access.name.clone(),
                        pinned: access.tls_fingerprint.clone().or_else(|| self.fingerprint()).unwrap_or_default(),
                        shown,
                    },
                    _ => self.unreachable(e),
                });
            }
            Ok(Ok(session)) => session,
        };
        let refused = || StorageError::Unauthorized(access.name.clone());
        let login = async {
            match &access.private_key {
                Some(pem) => {
                    let key = decode_secret_key(&pem.0, None).map_err(|e| StorageError::Setting {
                        storage: access.name.clone(),
                        reason: format!(
                            "the private key cannot be read ({e}); enter it again, as PEM without a passphrase"
                        ),
                    })?;
                    let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
                    session.authenticate_publickey(&access.username, key).await.map_err(|e| self.unreachable(e))
                }
                None => session
                    .authenticate_password(&access.username, &access.secret.0)
                    .await
                    .map_err(|e| self.unreachable(e)),
            }
        };
        let answer = tokio::time::timeout(access.timeout, login)
            .await
            .map_err(|_| self.unreachable("no answer to the login in time"))??;
        if answer.success() { Ok(session) } else { Err(refused()) }
    }

    /// Runs a shell script as root. Whatever its exit status is, it is told; no answer within `deadline` is an error.
    pub(crate) async fn run(&self, script: &str, deadline: Duration) -> Result<Output, StorageError> {
        let mut channel = None;
        // A connection that has died since its last use is found out here, before anything was sent.
        for _ in 0..2 {
            let mut session = self.session.lock().await;
            if session.as_ref().is_none_or(Handle::is_closed) {
                *session = Some(self.connect().await?);
            }
            let Some(open) = session.as_ref() else { continue };
            match tokio::time::timeout(self.access.timeout, open.channel_open_session()).await {
                Ok(Ok(made)) => {
                    channel = Some(made);
                    break;
                }
                _ => *session = None,
            }
        }
        let channel = channel.ok_or_else(|| self.unreachable("it closes the connection"))?;
        match tokio::time::timeout(deadline, self.talk(channel, script)).await {
            Ok(done) => done,
            Err(_) => {
                self.close().await;
                Err(self.unreachable(format!("a command did not end within {} s", deadline.as_secs())))
            }
        }
    }

    async fn talk(&self, mut channel: russh::Channel<client::Msg>, script: &str) -> Result<Output, StorageError> {
        let shell = if self.access.username == "root" { "exec sh -s" } else { "exec sudo -n sh -s" };
        let fail = |e: russh::Error| self.unreachable(e);
        channel.exec(true, shell).await.map_err(fail)?;
        channel.data_bytes(script.as_bytes().to_vec()).await.map_err(fail)?;
        channel.eof().await.map_err(fail)?;
        let (mut out, mut err, mut code) = (Vec::new(), Vec::new(), None);
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } if out.len() < OUTPUT => out.extend_from_slice(&data),
                ChannelMsg::ExtendedData { data, .. } if err.len() < OUTPUT => err.extend_from_slice(&data),
                ChannelMsg::ExitStatus { exit_status } => code = Some(exit_status),
                _ => {}
            }
        }
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let code = code.ok_or_else(|| self.unreachable("the connection broke in the middle of a command"))?;
        Ok(Output { code, out: text(out), err: text(err) })
    }

    /// Ends the connection.
    pub(crate) async fn close(&self) {
        if let Some(session) = self.session.lock().await.take() {
            let _ = session.disconnect(Disconnect::ByApplication, "", "en").await;
        }
    }
}

/// A word for the shell, whatever is in it.
pub(crate) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn words_stay_words() {
        assert_eq!(super::quote("a b"), "'a b'");
        assert_eq!(super::quote("it's $(rm)"), r"'it'\''s $(rm)'");
    }
}
