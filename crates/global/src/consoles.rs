//! Consoles through the connections of sites.

use std::pin::Pin;

use api::console::{Pipe, Sites};
use link::{Tunnel, Tunnels};
use model::{Id, console::OpenConsole};

/// The lines of all sites.
pub(crate) struct Lines {
    pub(crate) tunnels: Tunnels,
}

impl Sites for Lines {
    fn is_connected(&self, site_id: Id) -> bool {
        self.tunnels.is_connected(site_id)
    }

    fn open<'a>(
        &'a self,
        site_id: Id,
        wanted: &'a OpenConsole,
    ) -> Pin<Box<dyn Future<Output = Result<Pipe, String>> + Send + 'a>> {
        Box::pin(async move {
            let Tunnel { out, incoming } = self.tunnels.open(site_id, wanted).await.map_err(|e| e.to_string())?;
            Ok(Pipe { out, incoming })
        })
    }
}
