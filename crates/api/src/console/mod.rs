//! Consoles of servers: who may open one, which are open, and the way between a viewer's WebSocket and the site.
//!
//! A browser cannot put a token on a WebSocket, so a viewer asks for a ticket first, as for any other change; it is good once, for half a
//! minute. What it grants is looked at again while the console is open: it ends when the viewer signs out, loses the right, or the
//! instance loses the server.

mod relay;

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use model::{
    Id,
    console::{ConsoleKind, Frame, OpenConsole},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use relay::serve;

use crate::error::ApiError;

/// Time in which a ticket is to be used.
pub const TICKET: Duration = Duration::from_secs(30);
/// Consoles that one user has open at one time, tickets included.
pub const PER_USER: usize = 8;
/// Screens of one server at one time: BMCs have few sessions for them.
pub const SCREENS: usize = 2;
/// A console in which nothing was typed for this long is closed.
pub const IDLE: Duration = Duration::from_mins(30);

/// The way to a site: whoever drops an end ends the other.
pub struct Pipe {
    /// To the site.
    pub out: mpsc::Sender<Frame>,
    /// From the site.
    pub incoming: mpsc::Receiver<Frame>,
}

/// What opens consoles at sites.
pub trait Sites: Send + Sync {
    /// Whether the site can be asked now.
    fn is_connected(&self, site_id: Id) -> bool;
    /// Asks for one; an error is words for whoever asked.
    fn open<'a>(
        &'a self,
        site_id: Id,
        wanted: &'a OpenConsole,
    ) -> Pin<Box<dyn Future<Output = Result<Pipe, String>> + Send + 'a>>;
}

/// What a ticket grants.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// The operation by which it was asked for: its permission must still be there.
    pub operation: &'static str,
    /// Path parameter and id of what was named: a server, or a server instance.
    pub object: (&'static str, Id),
    pub site_id: Id,
    pub server_name: String,
    pub wanted: OpenConsole,
    /// Of the instance that holds the server.
    pub infrastructure_id: Option<Id>,
    /// Whose event it is.
    pub account_id: Option<Id>,
    /// Hash of the key or session by which it was asked for.
    pub credential: String,
    pub user: (Id, String),
}

/// A console that is open, as lists show it.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub id: u64,
    pub grant: Grant,
    /// RFC 3339.
    pub since: String,
    pub end: CancellationToken,
}

#[derive(Default)]
struct Inner {
    tickets: HashMap<String, (Instant, Grant)>,
    sessions: BTreeMap<u64, Session>,
    next: u64,
}

/// All that is open.
#[derive(Default)]
pub struct Consoles {
    sites: OnceLock<Arc<dyn Sites>>,
    inner: Mutex<Inner>,
}

impl Consoles {
    /// Names what opens consoles; once.
    pub fn connect(&self, sites: Arc<dyn Sites>) {
        let _ = self.sites.set(sites);
    }

    fn locked(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What opens consoles at that site, where it is connected.
    pub(crate) fn site(&self, site_id: Id) -> Option<Arc<dyn Sites>> {
        self.sites.get().filter(|sites| sites.is_connected(site_id)).cloned()
    }

    /// A ticket for a grant.
    pub(crate) fn ticket(&self, grant: Grant) -> Result<String, ApiError> {
        let mut inner = self.locked();
        let now = Instant::now();
        inner.tickets.retain(|_, (until, _)| *until > now);
        let user = grant.user.0;
        let held = inner.tickets.values().filter(|(_, g)| g.user.0 == user).count()
            + inner.sessions.values().filter(|s| s.grant.user.0 == user).count();
        if held >= PER_USER {
            return Err(ApiError::conflict(format!(
                "you have {held} consoles open or asked for, which is all that one user may have; close one"
            )));
        }
        inner.room(&grant)?;
        let token = crypto::token::random();
        inner.tickets.insert(crypto::token::hash(&token), (now + TICKET, grant));
        Ok(token)
    }

    /// What a ticket grants; it is used up.
    pub(crate) fn redeem(&self, token: &str) -> Option<Grant> {
        let (until, grant) = self.locked().tickets.remove(&crypto::token::hash(token))?;
        (until > Instant::now()).then_some(grant)
    }

    /// Notes a console that opens.
    fn begin(&self, grant: &Grant) -> Result<Session, ApiError> {
        let mut inner = self.locked();
        inner.room(grant)?;
        inner.next += 1;
        let session =
            Session { id: inner.next, grant: grant.clone(), since: store::time::now(), end: CancellationToken::new() };
        inner.sessions.insert(session.id, session.clone());
        Ok(session)
    }

    fn end(&self, id: u64) {
        self.locked().sessions.remove(&id);
    }

    /// Those of a server, the oldest first.
    pub(crate) fn of_server(&self, server_id: Id) -> Vec<Session> {
        self.locked().sessions.values().filter(|s| s.grant.wanted.server_id == server_id).cloned().collect()
    }
}

impl Inner {
    fn room(&self, grant: &Grant) -> Result<(), ApiError> {
        let wanted = &grant.wanted;
        let same = |s: &&Session| s.grant.wanted.server_id == wanted.server_id && s.grant.wanted.kind == wanted.kind;
        let open = self.sessions.values().filter(same).count();
        if wanted.kind == ConsoleKind::Screen && open >= SCREENS {
            return Err(ApiError::conflict(format!(
                "{open} users look at the screen of {}, which is all that a BMC has; wait, or use the serial console",
                grant.server_name
            )));
        }
        Ok(())
    }
}
