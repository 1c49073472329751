//! Leases: who has which address until when.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
};

use model::{Id, Mac};
use serde::{Deserialize, Serialize};

/// State of a lease. Past its end every state but the memory of it is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// Offered, not yet taken. Kept in memory only.
    Offered,
    /// In use by the client.
    Bound,
    /// A client found somebody else on it: not given to anyone until the end.
    Declined,
    /// Given back; kept so that the client gets the same address again.
    Released,
}

/// One address and its holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// The holder.
    pub mac: Mac,
    /// State.
    pub state: LeaseState,
    /// End, in seconds since 1970-01-01 UTC.
    pub expires_at: i64,
    /// The pool it came from; `None` for a reservation.
    #[serde(default)]
    pub pool_id: Option<Id>,
    /// Host name that the client gave, for people.
    #[serde(default)]
    pub hostname: Option<String>,
}

impl Lease {
    /// Whether it has not ended.
    pub fn live(&self, now: i64) -> bool {
        self.expires_at > now && self.state != LeaseState::Released
    }
}

/// A change to be applied in memory and stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// Insert, or replace the lease of the same address.
    Put(Lease),
    /// Forget this address.
    Remove(Ipv4Addr),
}

/// All leases, indexed by address and by MAC.
#[derive(Clone, Debug, Default)]
pub struct LeaseTable {
    by_address: BTreeMap<Ipv4Addr, Lease>,
    by_mac: HashMap<Mac, BTreeSet<Ipv4Addr>>,
}

impl LeaseTable {
    /// Of these leases.
    pub fn new(leases: impl IntoIterator<Item = Lease>) -> Self {
        let mut table = Self::default();
        for lease in leases {
            table.apply(&LeaseChange::Put(lease));
        }
        table
    }

    /// The lease of an address, ended or not.
    pub fn get(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.by_address.get(&address)
    }

    /// The leases of a MAC, ended or not.
    pub fn of<'a>(&'a self, mac: &str) -> impl Iterator<Item = &'a Lease> + use<'a> {
        self.by_mac.get(mac).into_iter().flatten().filter_map(|a| self.by_address.get(a))
    }

    /// Leases with addresses between two, both included.
    pub fn range(&self, first: Ipv4Addr, last: Ipv4Addr) -> impl Iterator<Item = &Lease> {
        // An inverted range would panic; a pool with its ends exchanged simply holds nothing.
        let last = last.max(first);
        self.by_address.range(first..=last).map(|(_, l)| l)
    }

    /// Number of leases, ended ones included.
    pub fn len(&self) -> usize {
        self.by_address.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    /// Apply one change.
    pub fn apply(&mut self, change: &LeaseChange) {
        let (address, new) = match change {
            LeaseChange::Put(lease) => (lease.address, Some(lease)),
            LeaseChange::Remove(address) => (*address, None),
        };
        if let Some(old) = self.by_address.remove(&address)
            && let Some(set) = self.by_mac.get_mut(&old.mac)
        {
            set.remove(&address);
            if set.is_empty() {
                self.by_mac.remove(&old.mac);
            }
        }
        if let Some(lease) = new {
            self.by_mac.entry(lease.mac.clone()).or_default().insert(address);
            self.by_address.insert(address, lease.clone());
        }
    }

    /// Changes that forget leases which ended more than `retention` seconds ago, and offers that ran out.
    pub fn sweep(&self, now: i64, retention: i64) -> Vec<LeaseChange> {
        self.by_address
            .values()
            .filter(|l| {
                let keep = if l.state == LeaseState::Offered { 0 } else { retention };
                l.expires_at.saturating_add(keep) <= now
            })
            .map(|l| LeaseChange::Remove(l.address))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(last: u8, mac: &str, expires_at: i64) -> Lease {
        Lease {
            address: Ipv4Addr::new(10, 0, 0, last),
            mac: mac.into(),
            state: LeaseState::Bound,
            expires_at,
            pool_id: None,
            hostname: None,
        }
    }

    #[test]
    fn both_indexes_follow_every_change() {
        let mut t = LeaseTable::new([lease(1, "a", 10), lease(2, "a", 10)]);
        assert_eq!(t.of("a").count(), 2);
        t.apply(&LeaseChange::Put(lease(1, "b", 10)));
        assert_eq!(t.of("a").count(), 1);
        assert_eq!(t.of("b").count(), 1);
        t.apply(&LeaseChange::Remove(Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(t.of("a").count(), 0);
        assert_eq!(t.len(), 1);
    }

    #[test]
    fn sweep_forgets_the_old_and_keeps_the_recent() {
        let t = LeaseTable::new([lease(1, "a", 10), lease(2, "b", 100)]);
        assert_eq!(t.sweep(120, 50), vec![LeaseChange::Remove(Ipv4Addr::new(10, 0, 0, 1))]);
    }
}
