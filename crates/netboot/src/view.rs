//! An immutable, indexed picture of the site's facts.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
};

use model::snapshot::{DhcpPool, Fact, Reservation, SiteServer, SiteSettings};

/// Servers, pools and settings, indexed for the packet path.
#[derive(Clone, Debug, Default)]
pub struct SiteView {
    servers: Vec<SiteServer>,
    by_mac: HashMap<String, usize>,
    reserved: HashSet<Ipv4Addr>,
    pools: Vec<DhcpPool>,
    settings: SiteSettings,
}

impl SiteView {
    /// From the facts of the snapshot; other kinds of fact are passed over.
    pub fn from_facts(facts: impl IntoIterator<Item = Fact>) -> Self {
        let mut view = Self::default();
        for fact in facts {
            match fact {
                Fact::Server(server) => {
                    let index = view.servers.len();
                    for mac in server.macs.iter().chain(server.reservations.iter().map(|r| &r.mac)) {
                        view.by_mac.insert(mac.clone(), index);
                    }
                    view.reserved.extend(server.reservations.iter().map(|r| r.address));
                    view.servers.push(server);
                }
                Fact::DhcpPool(pool) => view.pools.push(pool),
                Fact::Settings(settings) => view.settings = settings,
                Fact::NetworkDevice(_) | Fact::Image(_) => {}
            }
        }
        view.pools.sort_by_key(|p| p.id);
        view
    }

    /// The server with this MAC (lower case, colons).
    pub fn server(&self, mac: &str) -> Option<&SiteServer> {
        self.by_mac.get(mac).and_then(|i| self.servers.get(*i))
    }

    /// The fixed addresses of this MAC.
    pub fn reservations<'a>(&'a self, mac: &'a str) -> impl Iterator<Item = &'a Reservation> {
        self.server(mac).into_iter().flat_map(|s| &s.reservations).filter(move |r| r.mac == mac)
    }

    /// Whether any server has this address for itself.
    pub fn is_reserved(&self, address: Ipv4Addr) -> bool {
        self.reserved.contains(&address)
    }

    /// Pools in order of id.
    pub fn pools(&self) -> &[DhcpPool] {
        &self.pools
    }

    /// Settings of the site.
    pub fn settings(&self) -> &SiteSettings {
        &self.settings
    }
}
