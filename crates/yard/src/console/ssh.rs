//! SSH of a BMC: the serial port itself (OpenBMC's way), or a shell with a command for it (iDRAC's and iLO's). One session at a time has the
//! port, as with most BMCs.

use std::sync::{Arc, atomic::Ordering};

use russh::{
    Channel, ChannelId, Pty,
    keys::{
        PrivateKey,
        ssh_key::private::{Ed25519Keypair, KeypairData},
    },
    server::{Auth, ChannelOpenHandle, Config, Handle, Handler, Msg, Session},
};
use sha2::{Digest, Sha256};
use tokio::{net::TcpStream, sync::broadcast::error::RecvError};

use super::typed;
use crate::{hardware::Vendor, server::Server, world::World};

/// Prompt of the BMC's shell, and the command that goes over to the serial port. None: the port is all there is.
fn shell(vendor: Vendor) -> Option<(&'static str, &'static str)> {
    match vendor {
        Vendor::Dell => Some(("racadm>>", "console com2")),
        Vendor::Hpe => Some(("</>hpiLO-> ", "vsp")),
        Vendor::Supermicro | Vendor::Nvidia => None,
    }
}

/// Serves one connection.
pub(super) async fn serve(world: Arc<World>, server: Arc<Server>, stream: TcpStream) {
    // The same key after a restart of the simulator: clients pin it.
    let seed: [u8; 32] = Sha256::digest(format!("ssh host key of {}", server.spec.serial)).into();
    let Ok(key) = PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed)), "") else { return };
    let config = Config {
        keys: vec![key],
        auth_rejection_time: std::time::Duration::from_millis(200),
        auth_rejection_time_initial: Some(std::time::Duration::ZERO),
        max_auth_attempts: 3,
        ..Config::default()
    };
    let line = Line { world, server, attached: false, at_shell: String::new() };
    if let Ok(session) = russh::server::run_stream(Arc::new(config), stream, line).await {
        let _ = session.await;
    }
}

struct Line {
    world: Arc<World>,
    server: Arc<Server>,
    /// This one has the port.
    attached: bool,
    /// What was typed at the BMC's shell.
    at_shell: String,
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.attached {
            self.server.console_taken.store(false, Ordering::Release);
        }
    }
}

impl Line {
    /// Goes over to the serial port.
    fn attach(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        if self.server.console_taken.swap(true, Ordering::AcqRel) {
            session.data(channel, "The serial console is in use by another session.\r\n".to_owned())?;
            return session.close(channel);
        }
        self.attached = true;
        let (text, mut more) = self.server.with(|state| state.tty.attach());
        session.data(channel, text)?;
        let handle: Handle = session.handle();
        self.world.tasks.spawn(async move {
            loop {
                match more.recv().await {
                    Ok(text) => {
                        if handle.data(channel, text).await.is_err() {
                            return;
                        }
                    }
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        });
        Ok(())
    }
}

impl Handler for Line {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        let known = self.server.with(|state| {
            let accounts = &state.kept.bmc.accounts;
            accounts.iter().any(|a| a.enabled && a.user == user && a.password.0 == password && a.role != "ReadOnly")
        });
        Ok(if known { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        session.channel_success(channel)?;
        match shell(self.server.spec.model.vendor) {
            Some((prompt, _)) => session.data(channel, format!("\r\n{prompt}")),
            None => self.attach(channel, session),
        }
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        if self.attached {
            typed(&self.world, &self.server, data);
            return Ok(());
        }
        let Some((prompt, command)) = shell(self.server.spec.model.vendor) else { return Ok(()) };
        for byte in data {
            if !matches!(byte, b'\r' | b'\n') {
                self.at_shell.push(char::from(*byte));
                continue;
            }
            let line = std::mem::take(&mut self.at_shell);
            session.data(channel, format!("{line}\r\n"))?;
            if line.trim() == command {
                return self.attach(channel, session);
            }
            session.data(channel, format!("unknown command\r\n{prompt}"))?;
        }
        Ok(())
    }
}
