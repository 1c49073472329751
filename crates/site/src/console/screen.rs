//! Screens: RFB between a viewer and the VNC server of a BMC, whose password ends here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bmc::{
    BmcError,
    console::rfb::{self, Filter, Greeter, Greeting, Stream},
};
use link::Tunnel;
use model::{
    Id,
    console::{CHUNK, Control, Frame, OpenConsole},
    secret::Clear,
    snapshot::SiteServer,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Site;

/// Time in which a BMC lets us in.
const LIMIT: Duration = Duration::from_secs(20);

/// Passwords that we gave to VNC servers, with the turn in which each is set: a second viewer must not change that of the first.
#[derive(Default)]
pub(super) struct Passwords(Mutex<HashMap<Id, Arc<tokio::sync::Mutex<Option<Clear>>>>>);

/// Serves one viewer; an error says why it ended.
pub(super) async fn serve(
    site: &Arc<Site>,
    server: &SiteServer,
    wanted: &OpenConsole,
    mut tunnel: Tunnel,
) -> Result<(), String> {
    let (stream, via) = open(site, server).await?;
    // Each viewer has a session of its own at the BMC, which shows all of them the same screen.
    let ready = Control::Ready { via, breaks: false, viewers: 1 };
    let hello = [Frame::Control(ready), Frame::Data(Greeter::HELLO.to_vec())];
    for frame in hello {
        if tunnel.out.send(frame).await.is_err() {
            return Ok(());
        }
    }
    let mut greeter = Greeter::default();
    let mut filter = Filter::new(wanted.read_only);
    let first = loop {
        let Some(frame) = tunnel.incoming.recv().await else { return Ok(()) };
        let bytes = match frame {
            Frame::Data(bytes) => bytes,
            Frame::Control(_) => continue,
            Frame::End(_) => return Ok(()),
        };
        match greeter.heard(&bytes)? {
            Greeting::Say(words) if words.is_empty() => {}
            Greeting::Say(words) => {
                if tunnel.out.send(Frame::Data(words)).await.is_err() {
                    return Ok(());
                }
            }
            Greeting::Done { shared: _, rest } => {
                // Always shared: one viewer does not throw another out.
                let mut first = vec![1];
                first.extend(filter.pass(&rest)?);
                break first;
            }
        }
    };
    relay(stream, &first, filter, &mut tunnel).await
}

async fn open(site: &Arc<Site>, server: &SiteServer) -> Result<(Box<dyn Stream>, String), String> {
    let driver = site.bmc(server).map_err(|e| e.message)?;
    let passwords = &site.consoles.screens.0;
    let turn = passwords.lock().unwrap_or_else(PoisonError::into_inner).entry(server.id).or_default().clone();
    let mut known = turn.lock().await;
    loop {
        let screen = driver.screen(known.as_ref()).await.map_err(|e| e.to_string())?;
        match rfb::connect(&screen, LIMIT).await {
            Ok(stream) => {
                known.clone_from(&screen.password);
                return Ok((stream, screen.via));
            }
            // Somebody has set another one since.
            Err(BmcError::Refused { .. }) if known.take().is_some() => {}
            Err(e) => return Err(e.to_string()),
        }
    }
}

async fn relay(stream: Box<dyn Stream>, first: &[u8], mut filter: Filter, tunnel: &mut Tunnel) -> Result<(), String> {
    let (mut from_bmc, mut to_bmc) = tokio::io::split(stream);
    let broke = |e: std::io::Error| format!("the connection to the BMC's screen broke: {e}");
    to_bmc.write_all(first).await.map_err(broke)?;
    let read = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = from_bmc.read(&mut buffer).await.map_err(broke)?;
            if count == 0 {
                return Err("the BMC has closed its screen; perhaps its time limit for VNC is over".to_owned());
            }
            if tunnel.out.send(Frame::Data(buffer[..count].to_vec())).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async {
        while let Some(frame) = tunnel.incoming.recv().await {
            match frame {
                Frame::Data(bytes) => {
                    let passed = filter.pass(&bytes)?;
                    to_bmc.write_all(&passed).await.map_err(broke)?;
                }
                Frame::Control(_) => {}
                Frame::End(_) => return Ok(()),
            }
        }
        Ok(())
    };
    tokio::select! { ended = read => ended, ended = write => ended }
}
