//! Which address a client gets.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use model::{Id, snapshot::DhcpPool};

use super::{Ctx, LeaseState, Request};

/// Seconds of a lease where no pool says.
const DEFAULT_LEASE: u32 = 3600;
/// Shortest lease: a pool set to less would have its clients do nothing but renew.
const SHORTEST_LEASE: u32 = 60;

/// An address with all that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub address: Ipv4Addr,
    pub subnet: Ipv4Net,
    pub gateway: Option<Ipv4Addr>,
    pub seconds: u32,
    pub pool_id: Option<Id>,
    pub hostname: Option<String>,
}

/// Choice of addresses for one request.
pub(super) struct Selector<'a> {
    request: &'a Request,
    ctx: &'a Ctx<'a>,
    mac: &'a str,
    pools: Vec<&'a DhcpPool>,
}

impl<'a> Selector<'a> {
    /// For the link that the request came from.
    pub fn new(request: &'a Request, ctx: &'a Ctx<'a>, mac: &'a str) -> Self {
        let ranked: Vec<_> = ctx.view.pools().iter().filter_map(|p| Some((rank(p, request, ctx)?, p))).collect();
        let best = ranked.iter().map(|(r, _)| *r).min();
        let pools = ranked.into_iter().filter(|(r, _)| Some(*r) == best).map(|(_, p)| p).collect();
        Self { request, ctx, mac, pools }
    }

    /// For a client that renews: it comes directly, past its relay, so its address tells the link.
    pub fn for_address(request: &'a Request, ctx: &'a Ctx<'a>, mac: &'a str, address: Ipv4Addr) -> Self {
        let pools = ctx.view.pools().iter().filter(|p| p.subnet.contains(&address)).collect();
        Self { request, ctx, mac, pools }
    }

    /// Whether anything is known of this link, so that we may call an address wrong.
    pub fn serves_link(&self) -> bool {
        !self.pools.is_empty() || self.reservation().is_some()
    }

    /// The fixed address of this client on this link, unless somebody else still holds it.
    pub fn reservation(&self) -> Option<Choice> {
        let on_link = |subnet: &Ipv4Net, address: &Ipv4Addr| {
            self.request.link().is_some_and(|l| subnet.contains(&l))
                || self.pools.is_empty()
                || self.pools.iter().any(|p| p.subnet.contains(address))
        };
        let Some(r) = self.ctx.view.reservations(self.mac).find(|r| on_link(&r.subnet, &r.address)) else {
            return self.of_circuit();
        };
        let taken = self
            .ctx
            .leases
            .get(r.address)
            .is_some_and(|l| l.live(self.ctx.now) && l.mac != self.mac && l.state == LeaseState::Bound);
        (!taken).then(|| Choice {
            address: r.address,
            subnet: r.subnet,
            gateway: r.gateway,
            seconds: self
                .pools
                .iter()
                .find(|p| p.subnet.contains(&r.address))
                .map_or(DEFAULT_LEASE, |p| p.lease_seconds.max(SHORTEST_LEASE)),
            pool_id: None,
            hostname: r.hostname.clone(),
        })
    }

    /// The address of the relay's port that the client is behind, where the site has fixed one: whatever is plugged in there gets it.
    fn of_circuit(&self) -> Option<Choice> {
        let circuits = &self.ctx.view.settings().circuits;
        if circuits.is_empty() || self.ctx.view.server(self.mac).is_some() {
            return None;
        }
        let circuit = self.request.circuit_id()?;
        let address = *circuits.get(String::from_utf8_lossy(circuit).trim()).or_else(|| circuits.get(&hex(circuit)))?;
        let pool = self.pools.iter().find(|p| p.subnet.contains(&address))?;
        let taken = self
            .ctx
            .leases
            .get(address)
            .is_some_and(|l| l.live(self.ctx.now) && l.mac != self.mac && l.state == LeaseState::Bound);
        (!taken).then(|| Choice { pool_id: None, ..Self::pool_choice(pool, address) })
    }

    fn pool_choice(pool: &DhcpPool, address: Ipv4Addr) -> Choice {
        Choice {
            address,
            subnet: pool.subnet,
            gateway: pool.gateway,
            seconds: pool.lease_seconds.max(SHORTEST_LEASE),
            pool_id: Some(pool.id),
            hostname: None,
        }
    }

    /// Whether this address of the pool may be given out at all.
    fn usable(&self, pool: &DhcpPool, address: Ipv4Addr) -> bool {
        (pool.first..=pool.last).contains(&address)
            && pool.subnet.contains(&address)
            && (pool.subnet.prefix_len() >= 31
                || (address != pool.subnet.network() && address != pool.subnet.broadcast()))
            && pool.gateway != Some(address)
            && address != self.ctx.identity.server_id
            && !self.ctx.view.is_reserved(address)
            && !self.ctx.view.settings().circuits.values().any(|a| *a == address)
            && self.request.relay() != Some(address)
    }

    /// Whether nobody else holds this address.
    fn free(&self, address: Ipv4Addr) -> bool {
        self.ctx
            .leases
            .get(address)
            .is_none_or(|l| !l.live(self.ctx.now) || (l.mac == self.mac && l.state != LeaseState::Declined))
    }

    /// This very address, if the client may have it.
    pub fn exactly(&self, address: Ipv4Addr) -> Option<Choice> {
        if let Some(choice) = self.reservation() {
            return (choice.address == address).then_some(choice);
        }
        let pool = self.pools.iter().find(|p| self.usable(p, address))?;
        self.free(address).then(|| Self::pool_choice(pool, address))
    }

    /// The best address: its reservation, what it holds or last held, what it asks for, a free one, and when the pools
    /// are used up the one that ended first.
    pub fn any(&self) -> Option<Choice> {
        if let Some(choice) = self.reservation() {
            return Some(choice);
        }
        let mut held: Vec<_> = self.ctx.leases.of(self.mac).collect();
        held.sort_by_key(|l| (!l.live(self.ctx.now), l.state != LeaseState::Bound, std::cmp::Reverse(l.expires_at)));
        held.iter()
            .map(|l| l.address)
            .chain(self.request.requested_address())
            .find_map(|a| self.exactly(a))
            .or_else(|| self.pools.iter().find_map(|p| self.unused(p)))
            .or_else(|| self.longest_ended())
    }

    /// An address without a lease. The search begins at a place that depends on the MAC, so that a client finds the
    /// same address again even if its lease was forgotten, and a fresh pool needs no search.
    fn unused(&self, pool: &DhcpPool) -> Option<Choice> {
        let (first, last) = (u32::from(pool.first), u32::from(pool.last));
        let size = u64::from(last.checked_sub(first)?) + 1;
        let start = first + u32::try_from(fnv1a(self.mac.as_bytes()) % size).unwrap_or(0);
        // Beside the leases in their order: a pool that is nearly used up is walked through once, not searched for every address.
        let within = |from: u32, to: u32| {
            let mut held = self.ctx.leases.range(from.into(), to.into()).map(|l| u32::from(l.address)).peekable();
            (from..=to).find(|a| held.next_if_eq(a).is_none() && self.usable(pool, Ipv4Addr::from(*a)))
        };
        let before = || start.checked_sub(1).filter(|end| *end >= first).and_then(|end| within(first, end));
        within(start, last).or_else(before).map(|a| Self::pool_choice(pool, a.into()))
    }

    fn longest_ended(&self) -> Option<Choice> {
        self.pools
            .iter()
            .flat_map(|p| self.ctx.leases.range(p.first, p.last).map(move |l| (*p, l)))
            .filter(|(p, l)| !l.live(self.ctx.now) && self.usable(p, l.address))
            .min_by_key(|(_, l)| (l.expires_at, l.address))
            .map(|(p, l)| Self::pool_choice(p, l.address))
    }
}

/// How well a pool fits the link of a request; lower is better, `None` is not at all. Only pools of the best rank serve.
fn rank(pool: &DhcpPool, request: &Request, ctx: &Ctx<'_>) -> Option<u8> {
    match (request.relay(), request.link()) {
        (Some(relay), link) => {
            let on_link = link.is_some_and(|l| pool.subnet.contains(&l));
            // A relay that names another link than its own address means that link.
            if link != Some(relay) && on_link {
                return Some(0);
            }
            match (pool.relays.contains(&relay), pool.relays.is_empty()) {
                (true, _) => Some(1),
                (false, true) if on_link => Some(2),
                (false, true) => Some(3),
                (false, false) => None,
            }
        }
        (None, _) if !pool.relays.is_empty() => None,
        (None, Some(link)) if pool.subnet.contains(&link) => Some(0),
        (None, _) if pool.subnet.contains(&ctx.identity.server_id) => Some(1),
        (None, _) => Some(2),
    }
}

/// Bytes that are no text, as people write them: `0004000a0001`.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, b| text + &format!("{b:02x}"))
}

/// FNV-1a, 64 bits: a small hash that is the same on every machine and in every release.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}
