//! A serial console behind SSH: a port of its own (OpenBMC: 2200), or a command in the BMC's shell.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use russh::{
    ChannelMsg, Disconnect,
    client::{self, Handle},
    keys::{PublicKeyBase64, PublicKeyOrCertificate},
};
use tokio::{sync::mpsc, time::timeout};

use super::{INPUTS, Input, OUTPUTS, Serial};
use crate::{Access, BmcError};

/// A shell that shows no prompt is told its command after this time.
const PROMPT: Duration = Duration::from_secs(3);

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
        let shown = crypto::token::digest(&key.public_key().public_key_bytes());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if self.pin.as_ref().is_some_and(|pin| !pin.eq_ignore_ascii_case(&shown)) {
            seen.refused = Some(shown);
            return Ok(false);
        }
        seen.accepted = Some(shown);
        Ok(true)
    }
}

/// Opens it. `access.address` is `host:port` of SSH, and `access.tls_fingerprint` pins its host key.
pub(crate) async fn open(access: Access, command: Option<&str>) -> Result<Serial, BmcError> {
    let unreachable = |cause: String| BmcError::Unreachable { address: access.address.clone(), cause };
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let config = client::Config {
        keepalive_interval: Some(Duration::from_secs(15)),
        keepalive_max: 3,
        nodelay: true,
        ..client::Config::default()
    };
    let checker = Checker { pin: access.tls_fingerprint.clone(), seen: seen.clone() };
    let connected = timeout(access.timeout, client::connect(Arc::new(config), access.address.as_str(), checker)).await;
    let mut session = match connected {
        Err(_) => return Err(unreachable("SSH does not answer in time".into())),
        Ok(Err(e)) => {
            let refused = seen.lock().unwrap_or_else(PoisonError::into_inner).refused.clone();
            return Err(match (refused, access.tls_fingerprint.clone()) {
                (Some(shown), Some(pinned)) => {
                    BmcError::CertificateChanged { address: access.address.clone(), pinned, shown }
                }
                _ => unreachable(format!("SSH: {e}")),
            });
        }
        Ok(Ok(session)) => session,
    };
    let begun = timeout(access.timeout, begin(&mut session, &access)).await;
    let channel = begun.map_err(|_| unreachable("SSH stopped answering".into()))??;
    let host_key = seen.lock().unwrap_or_else(PoisonError::into_inner).accepted.clone();
    let (input, inputs) = mpsc::channel(INPUTS);
    let (outputs, output) = mpsc::channel(OUTPUTS);
    let (address, command) = (access.address.clone(), command.map(str::to_owned));
    tokio::spawn(async move {
        let ended = talk(channel, command, inputs, &outputs).await;
        let _ = session.disconnect(Disconnect::ByApplication, "", "en").await;
        if let Err(cause) = ended {
            let _ = outputs.send(Err(BmcError::Unreachable { address, cause })).await;
        }
    });
    Ok(Serial { via: "SSH to the BMC".into(), breaks: false, host_key, input, output })
}

async fn begin(session: &mut Handle<Checker>, access: &Access) -> Result<russh::Channel<client::Msg>, BmcError> {
    let broke = |e: russh::Error| BmcError::Unreachable { address: access.address.clone(), cause: format!("SSH: {e}") };
    let let_in = session.authenticate_password(&access.username, &access.password.0).await.map_err(broke)?;
    if !let_in.success() {
        return Err(BmcError::Unauthorized(access.address.clone()));
    }
    let channel = session.channel_open_session().await.map_err(broke)?;
    channel.request_pty(false, "xterm", 80, 25, 0, 0, &[]).await.map_err(broke)?;
    channel.request_shell(false).await.map_err(broke)?;
    Ok(channel)
}

/// Until either side has enough; an error says why the BMC had.
async fn talk(
    mut channel: russh::Channel<client::Msg>,
    mut command: Option<String>,
    mut inputs: mpsc::Receiver<Input>,
    outputs: &mpsc::Sender<Result<Vec<u8>, BmcError>>,
) -> Result<(), String> {
    let broke = |e: russh::Error| format!("SSH: {e}");
    loop {
        tokio::select! {
            message = channel.wait() => match message {
                Some(ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. }) => {
                    // A full queue holds the window of SSH back, and with it the BMC.
                    if outputs.send(Ok(data.to_vec())).await.is_err() {
                        return Ok(());
                    }
                    // The shell has greeted: now it hears its command.
                    if let Some(command) = command.take() {
                        channel.data_bytes(format!("{command}\r").into_bytes()).await.map_err(broke)?;
                    }
                }
                Some(ChannelMsg::Failure) => return Err("SSH gives no terminal; allow it to the account".into()),
                Some(ChannelMsg::Eof | ChannelMsg::Close) | None => {
                    return Err("the BMC has closed its console; perhaps somebody else has opened it".into());
                }
                Some(_) => {}
            },
            input = inputs.recv() => match input {
                None => return Ok(()),
                Some(Input::Bytes(bytes)) => channel.data_bytes(bytes).await.map_err(broke)?,
                Some(Input::Size { columns, rows }) => {
                    channel.window_change(columns.into(), rows.into(), 0, 0).await.map_err(broke)?;
                }
                // SSH has a word for it (RFC 4335), which BMCs do not know.
                Some(Input::Break) => {}
            },
            () = tokio::time::sleep(PROMPT), if command.is_some() => {
                let command = command.take().unwrap_or_default();
                channel.data_bytes(format!("{command}\r").into_bytes()).await.map_err(broke)?;
            }
        }
    }
}
