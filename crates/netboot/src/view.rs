//! An indexed picture of the site's facts, kept object by object.

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
    sync::Arc,
};

use model::{
    Id, Mac,
    snapshot::{DhcpPool, Fact, Reservation, SiteServer, SiteSettings},
};

/// Servers, pools and settings, indexed for the packet path. A change costs as much as the object that it is about;
/// a clone shares the servers.
#[derive(Clone, Debug, Default)]
pub struct SiteView {
    servers: HashMap<Id, Arc<SiteServer>>,
    /// Servers that claim a MAC, the newest claim last: that one is answered.
    by_mac: HashMap<Mac, Vec<Id>>,
    /// How many servers have an address for themselves.
    reserved: HashMap<Ipv4Addr, u32>,
    pools: Vec<DhcpPool>,
    settings: SiteSettings,
}

impl SiteView {
    /// From the facts of the snapshot; other kinds of fact are passed over.
    pub fn from_facts(facts: impl IntoIterator<Item = Fact>) -> Self {
        let mut view = Self::default();
        for fact in facts {
            view.put(fact);
        }
        view
    }

    /// A new or a changed fact.
    pub fn put(&mut self, fact: Fact) {
        match fact {
            Fact::Server(server) => {
                self.remove_server(server.id);
                for mac in claims(&server) {
                    self.by_mac.entry(mac.clone()).or_default().push(server.id);
                }
                for reservation in &server.reservations {
                    *self.reserved.entry(reservation.address).or_default() += 1;
                }
                self.servers.insert(server.id, Arc::new(server));
            }
            Fact::DhcpPool(pool) => {
                self.remove_pool(pool.id);
                let at = self.pools.partition_point(|p| p.id < pool.id);
                self.pools.insert(at, pool);
            }
            Fact::Settings(settings) => self.settings = settings,
            Fact::NetworkDevice(_) | Fact::Image(_) | Fact::Storage(_) => {}
        }
    }

    /// A fact that is no more.
    pub fn remove(&mut self, fact: &Fact) {
        match fact {
            Fact::Server(server) => self.remove_server(server.id),
            Fact::DhcpPool(pool) => self.remove_pool(pool.id),
            Fact::Settings(_) => self.settings = SiteSettings::default(),
            Fact::NetworkDevice(_) | Fact::Image(_) | Fact::Storage(_) => {}
        }
    }

    fn remove_server(&mut self, id: Id) {
        let Some(server) = self.servers.remove(&id) else { return };
        for mac in claims(&server) {
            if let Some(ids) = self.by_mac.get_mut(mac) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    self.by_mac.remove(mac);
                }
            }
        }
        for reservation in &server.reservations {
            if let Some(count) = self.reserved.get_mut(&reservation.address) {
                *count -= 1;
                if *count == 0 {
                    self.reserved.remove(&reservation.address);
                }
            }
        }
    }

    fn remove_pool(&mut self, id: Id) {
        self.pools.retain(|pool| pool.id != id);
    }

    /// The server with this MAC (lower case, colons).
    pub fn server(&self, mac: &str) -> Option<&SiteServer> {
        self.by_mac.get(mac)?.last().and_then(|id| self.servers.get(id)).map(Arc::as_ref)
    }

    /// The fixed addresses of this MAC.
    pub fn reservations<'a>(&'a self, mac: &'a str) -> impl Iterator<Item = &'a Reservation> {
        self.server(mac).into_iter().flat_map(|s| &s.reservations).filter(move |r| r.mac == mac)
    }

    /// Whether any server has this address for itself.
    pub fn is_reserved(&self, address: Ipv4Addr) -> bool {
        self.reserved.contains_key(&address)
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

/// MAC addresses by which a server is known, each once.
fn claims(server: &SiteServer) -> impl Iterator<Item = &Mac> {
    let macs = server.macs.iter().chain(server.reservations.iter().map(|r| &r.mac));
    macs.collect::<BTreeSet<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(id: Id, mac: &str, address: &str) -> SiteServer {
        SiteServer {
            id,
            name: format!("s{id}"),
            bmc: None,
            macs: vec![mac.to_owned()],
            in_use: false,
            reservations: vec![Reservation {
                mac: mac.to_owned(),
                address: address.parse().unwrap(),
                subnet: "10.0.0.0/24".parse().unwrap(),
                gateway: None,
                hostname: None,
            }],
            ..SiteServer::default()
        }
    }

    #[test]
    fn a_changed_server_leaves_nothing_of_what_it_was() {
        let mut view = SiteView::from_facts([Fact::Server(server(1, "02:00:00:00:00:01", "10.0.0.1"))]);
        view.put(Fact::Server(server(1, "02:00:00:00:00:02", "10.0.0.2")));
        assert!(view.server("02:00:00:00:00:01").is_none());
        assert!(!view.is_reserved("10.0.0.1".parse().unwrap()));
        assert_eq!(view.server("02:00:00:00:00:02").unwrap().id, 1);
        assert!(view.is_reserved("10.0.0.2".parse().unwrap()));
    }

    #[test]
    fn a_mac_that_two_claim_goes_back_when_the_newer_leaves() {
        let (old, new) = (server(1, "02:00:00:00:00:01", "10.0.0.1"), server(2, "02:00:00:00:00:01", "10.0.0.1"));
        let mut view = SiteView::from_facts([Fact::Server(old), Fact::Server(new.clone())]);
        assert_eq!(view.server("02:00:00:00:00:01").unwrap().id, 2);
        view.remove(&Fact::Server(new));
        assert_eq!(view.server("02:00:00:00:00:01").unwrap().id, 1);
        assert!(view.is_reserved("10.0.0.1".parse().unwrap()));
    }
}
