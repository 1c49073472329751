//! Serial consoles: a BMC has one session at a time, which all viewers share. What one types, all see.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bmc::console::{Input, SerialWanted};
use link::Tunnel;
use model::{
    Id,
    console::{CHUNK, Control, Frame, OpenConsole},
    snapshot::SiteServer,
};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{known_key, remember_key};
use crate::Site;

/// What was written last, which a viewer who comes later sees first.
const HISTORY: usize = CHUNK;
/// Frames that wait for a viewer.
const QUEUE: usize = 64;
/// A viewer who takes nothing for this long is left behind: the others, and the BMC, wait no longer.
const SLOW: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 5000 });
/// Time in which a BMC ends its session.
const CLOSE: Duration = Duration::from_secs(4);

type Slot = Arc<tokio::sync::Mutex<Option<Hub>>>;

/// Serial consoles by server.
#[derive(Default)]
pub(super) struct Hubs(Mutex<HashMap<Id, Slot>>);

/// One that is open.
struct Hub {
    input: mpsc::Sender<Input>,
    via: String,
    breaks: bool,
    seen: Arc<Mutex<Seen>>,
    pump: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    viewers: HashMap<u64, mpsc::Sender<Frame>>,
    next: u64,
    history: VecDeque<u8>,
    /// For whom the history was written.
    instance_id: Option<Id>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seen {
    fn count(&self) -> u32 {
        self.viewers.len() as u32
    }

    fn write(&mut self, bytes: &[u8]) {
        let over = (self.history.len() + bytes.len()).saturating_sub(HISTORY);
        self.history.drain(..Ord::min(over, self.history.len()));
        self.history.extend(&bytes[bytes.len().saturating_sub(HISTORY)..]);
    }

    /// Tells all how many they are. One who does not take it reads it from the next.
    fn tell(&self) {
        let said = Frame::Control(Control::Viewers { viewers: self.count() });
        for viewer in self.viewers.values() {
            let _ = viewer.try_send(said.clone());
        }
    }
}

/// Serves one viewer; an error says why it ended.
pub(super) async fn serve(
    site: &Arc<Site>,
    server: &SiteServer,
    wanted: &OpenConsole,
    mut tunnel: Tunnel,
) -> Result<(), String> {
    let slot = locked(&site.consoles.serials.0).entry(server.id).or_default().clone();
    let (number, mut frames, input) = {
        let mut hub = slot.lock().await;
        // Whoever waited here may have gone meanwhile.
        if tunnel.out.is_closed() {
            return Ok(());
        }
        if hub.as_ref().is_none_or(|hub| hub.pump.is_finished()) {
            *hub = Some(open(site, server, wanted).await?);
        }
        let Some(hub) = hub.as_ref() else { return Ok(()) };
        let (number, frames) = join(hub, wanted);
        (number, frames, hub.input.clone())
    };
    let ended = relay(&mut tunnel, &mut frames, input, wanted.read_only).await;
    leave(&slot, number).await;
    ended
}

async fn open(site: &Arc<Site>, server: &SiteServer, wanted: &OpenConsole) -> Result<Hub, String> {
    let driver = site.bmc(server).map_err(|e| e.message)?;
    let endpoint = server.bmc.as_ref().ok_or("the server has no BMC")?;
    let words = |e: sea_orm::DbErr| format!("the site's database: {e}");
    let host_key = known_key(site, server.id, endpoint).await.map_err(words)?;
    let serial_wanted = SerialWanted { host_key: host_key.clone(), take_over: wanted.take_over };
    let mut serial = driver.serial(&serial_wanted).await.map_err(|e| e.to_string())?;
    if let Some(shown) = serial.host_key.take().filter(|_| host_key.is_none()) {
        remember_key(site, server.id, endpoint, shown).await.map_err(words)?;
    }
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let (shared, mut output) = (seen.clone(), serial.output);
    let pump = tokio::spawn(async move {
        while let Some(read) = output.recv().await {
            match read {
                Ok(bytes) => spread(&shared, &bytes).await,
                Err(e) => {
                    let all: Vec<_> = locked(&shared).viewers.drain().map(|(_, viewer)| viewer).collect();
                    for viewer in all {
                        let _ = viewer.send_timeout(Frame::End(e.to_string()), SLOW).await;
                    }
                }
            }
        }
    });
    Ok(Hub { input: serial.input, via: serial.via, breaks: serial.breaks, seen, pump })
}

/// What the server wrote goes to all.
async fn spread(seen: &Mutex<Seen>, bytes: &[u8]) {
    let viewers: Vec<(u64, mpsc::Sender<Frame>)> = {
        let mut seen = locked(seen);
        seen.write(bytes);
        seen.viewers.iter().map(|(n, viewer)| (*n, viewer.clone())).collect()
    };
    for chunk in bytes.chunks(CHUNK) {
        for (number, viewer) in &viewers {
            if viewer.send_timeout(Frame::Data(chunk.to_vec()), SLOW).await.is_err() {
                locked(seen).viewers.remove(number);
            }
        }
    }
}

fn join(hub: &Hub, wanted: &OpenConsole) -> (u64, mpsc::Receiver<Frame>) {
    let (viewer, frames) = mpsc::channel(QUEUE);
    let mut seen = locked(&hub.seen);
    // Another tenant's text is nobody's business.
    if seen.instance_id != wanted.instance_id {
        seen.history.clear();
        seen.instance_id = wanted.instance_id;
    }
    let ready = Control::Ready { via: hub.via.clone(), breaks: hub.breaks, viewers: seen.count() + 1 };
    let _ = viewer.try_send(Frame::Control(ready));
    if !seen.history.is_empty() {
        let _ = viewer.try_send(Frame::Data(seen.history.iter().copied().collect()));
    }
    let number = seen.next;
    seen.next += 1;
    seen.viewers.insert(number, viewer);
    seen.tell();
    (number, frames)
}

async fn relay(
    tunnel: &mut Tunnel,
    frames: &mut mpsc::Receiver<Frame>,
    input: mpsc::Sender<Input>,
    read_only: bool,
) -> Result<(), String> {
    let gone = || "the BMC has ended the serial console".to_owned();
    let read = async {
        while let Some(frame) = frames.recv().await {
            if let Frame::End(why) = frame {
                return Err(why);
            }
            if tunnel.out.send(frame).await.is_err() {
                return Ok(());
            }
        }
        Err("this viewer did not take what the server wrote, and was left behind; open the console again".to_owned())
    };
    let write = async {
        while let Some(frame) = tunnel.incoming.recv().await {
            let typed = match frame {
                Frame::Data(bytes) => Input::Bytes(bytes),
                Frame::Control(Control::Break) => Input::Break,
                Frame::Control(Control::Size { columns, rows }) => Input::Size { columns, rows },
                Frame::Control(_) => continue,
                Frame::End(_) => return Ok(()),
            };
            // A window is no typing, but a viewer who only looks changes nothing for the others.
            if !read_only {
                input.send(typed).await.map_err(|_| gone())?;
            }
        }
        Ok(())
    };
    tokio::select! { ended = read => ended, ended = write => ended }
}

/// The last one to go closes the session at the BMC, and the next waits until that is done: it has one.
async fn leave(slot: &Slot, number: u64) {
    let mut place = slot.lock().await;
    let Some(hub) = place.as_ref() else { return };
    let left = {
        let mut seen = locked(&hub.seen);
        seen.viewers.remove(&number);
        seen.tell();
        seen.viewers.len()
    };
    if left == 0
        && let Some(hub) = place.take()
    {
        drop(hub.input);
        let _ = tokio::time::timeout(CLOSE, hub.pump).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub() -> (Hub, mpsc::Receiver<Input>) {
        let (input, inputs) = mpsc::channel(8);
        let pump = tokio::spawn(async {});
        (Hub { input, via: "test".into(), breaks: false, seen: Arc::default(), pump }, inputs)
    }

    fn wanted(instance_id: Option<Id>) -> OpenConsole {
        OpenConsole {
            server_id: 1,
            kind: model::console::ConsoleKind::Serial,
            read_only: false,
            take_over: false,
            instance_id,
        }
    }

    fn text(frames: &mut mpsc::Receiver<Frame>) -> String {
        let mut all = Vec::new();
        while let Ok(frame) = frames.try_recv() {
            if let Frame::Data(bytes) = frame {
                all.extend(bytes);
            }
        }
        String::from_utf8(all).unwrap()
    }

    #[tokio::test]
    async fn a_later_viewer_sees_what_was_written_unless_it_was_for_another() {
        let (hub, _inputs) = hub();
        let (_, mut first) = join(&hub, &wanted(Some(7)));
        spread(&hub.seen, b"login: ").await;
        let (_, mut second) = join(&hub, &wanted(Some(7)));
        assert_eq!((text(&mut first), text(&mut second)), ("login: ".into(), "login: ".into()));
        let (_, mut other) = join(&hub, &wanted(Some(8)));
        assert_eq!(text(&mut other), "", "another tenant's text");
        spread(&hub.seen, &vec![b'x'; 2 * HISTORY]).await;
        assert_eq!(locked(&hub.seen).history.len(), HISTORY);
    }

    #[tokio::test]
    async fn a_viewer_who_takes_nothing_is_left_behind() {
        let (hub, _inputs) = hub();
        let (_, mut slow) = join(&hub, &wanted(None));
        let (_, mut quick) = join(&hub, &wanted(None));
        let reader = tokio::spawn(async move {
            let mut count = 0;
            while let Some(frame) = quick.recv().await {
                count += usize::from(matches!(frame, Frame::Data(_)));
            }
            count
        });
        for _ in 0..2 * QUEUE {
            spread(&hub.seen, b"line\r\n").await;
        }
        assert_eq!(locked(&hub.seen).count(), 1);
        drop(hub);
        assert_eq!(reader.await.unwrap(), 2 * QUEUE, "the other one has all");
        while slow.try_recv().is_ok() {}
    }
}
