//! Where frames go: VLANs of ports and trunks as configured on the switches, walked as a graph.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use ipnet::IpNet;
use serde::Serialize;

use crate::{
    server::{Server, netcfg::Iface},
    topology::Peer,
    world::World,
};

/// How one switch port forwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortView {
    /// Administratively up.
    pub up: bool,
    /// VLAN of untagged frames.
    pub untagged: Option<u16>,
    /// VLANs of tagged frames.
    pub tagged: BTreeSet<u16>,
}

impl PortView {
    /// VLAN inside the switch of a frame that comes in with this tag.
    pub fn ingress(&self, tag: Option<u16>) -> Option<u16> {
        match tag {
            _ if !self.up => None,
            None => self.untagged,
            Some(tag) => self.tagged.contains(&tag).then_some(tag),
        }
    }

    /// Tag of a frame of this VLAN that goes out: `None` when it does not, `Some(None)` untagged.
    pub fn egress(&self, vlan: u16) -> Option<Option<u16>> {
        if !self.up {
            None
        } else if self.untagged == Some(vlan) {
            Some(None)
        } else {
            self.tagged.contains(&vlan).then_some(Some(vlan))
        }
    }
}

/// Whether the cable of a server port is in and its switch port is up.
pub fn link_up(world: &World, server: &Server, nic: usize) -> bool {
    let Some(facts) = server.spec.nics.get(nic) else { return false };
    server.with(|state| state.kept.cables.get(nic).copied().unwrap_or(false))
        && world.switches[facts.switch].port(facts.port).up
}

/// Whether frames of a server port reach the site's services: the port must be up and on the provisioning VLAN.
pub fn site_reachable(world: &World, server: &Server, nic: usize, tag: Option<u16>) -> bool {
    if !link_up(world, server, nic) {
        return false;
    }
    let facts = &server.spec.nics[nic];
    let vlan = world.switches[facts.switch].port(facts.port).ingress(tag);
    vlan.is_some_and(|vlan| vlan == world.config.provisioning_vlan || world.config.site_vlans.contains(&vlan))
}

/// Answer to "do these two servers see each other?".
#[derive(Clone, Debug, Serialize)]
pub struct Reachability {
    /// Whether they do.
    pub reachable: bool,
    /// Why, or why not.
    pub explanation: String,
    /// Interfaces that see each other.
    pub pairs: Vec<Pair>,
}

/// Two interfaces that see each other.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// Interface of the first server.
    pub a: String,
    /// Interface of the second server.
    pub b: String,
    /// VLAN at the first server's switch.
    pub vlan: u16,
    /// Address of the first server.
    pub address_a: String,
    /// Address of the second server.
    pub address_b: String,
    /// Switches on the way.
    pub path: Vec<String>,
}

type Place = (usize, u16);

/// Every (switch, VLAN) that frames from `start` reach, with where they came from. Loops are fine: each place once.
fn flood(world: &World, start: Place) -> HashMap<Place, Option<Place>> {
    let mut seen = HashMap::from([(start, None)]);
    let mut queue = VecDeque::from([start]);
    while let Some(place @ (switch, vlan)) = queue.pop_front() {
        let here = &world.switches[switch];
        for (port, peer) in here.spec.peers.iter().enumerate() {
            let Some(Peer::Switch { switch: other, port: far }) = peer else { continue };
            let Some(tag) = here.port(port).egress(vlan) else { continue };
            let Some(vlan) = world.switches[*other].port(*far).ingress(tag) else { continue };
            if let std::collections::hash_map::Entry::Vacant(entry) = seen.entry((*other, vlan)) {
                entry.insert(Some(place));
                queue.push_back((*other, vlan));
            }
        }
    }
    seen
}

/// Where the frames of an interface enter: for a bond, every port of it.
fn entries(world: &World, server: &Server, iface: &Iface) -> Vec<Place> {
    iface
        .nics
        .iter()
        .filter(|nic| link_up(world, server, **nic))
        .filter_map(|nic| {
            let facts = server.spec.nics.get(*nic)?;
            let vlan = world.switches[facts.switch].port(facts.port).ingress(iface.vlan)?;
            Some((facts.switch, vlan))
        })
        .collect()
}

/// Addresses of two interfaces that are in one subnet and differ.
fn common_subnet(a: &Iface, b: &Iface) -> Option<(String, String)> {
    for x in &a.addresses {
        for y in &b.addresses {
            let (Ok(net_x), Ok(net_y)) = (x.parse::<IpNet>(), y.parse::<IpNet>()) else { continue };
            if net_x.contains(&net_y.addr()) && net_y.contains(&net_x.addr()) && net_x.addr() != net_y.addr() {
                return Some((x.clone(), y.clone()));
            }
        }
    }
    None
}

/// Whether two running servers see each other on any pair of interfaces.
pub fn reachable(world: &World, a: &Server, b: &Server) -> Reachability {
    let no = |explanation: String| Reachability { reachable: false, explanation, pairs: Vec::new() };
    let (name_a, name_b) = (a.spec.serial.as_str(), b.spec.serial.as_str());
    if a.spec.index == b.spec.index {
        return no("that is one and the same server".into());
    }
    let os = |server: &Server| server.with(|state| state.kept.os.clone());
    let (os_a, os_b) = match (os(a), os(b)) {
        (Some(os_a), Some(os_b)) => (os_a, os_b),
        (None, _) => return no(format!("{name_a} runs no operating system")),
        (_, None) => return no(format!("{name_b} runs no operating system")),
    };
    let live = |interfaces: Vec<Iface>| interfaces.into_iter().filter(|iface| !iface.enslaved).collect::<Vec<_>>();
    let (interfaces_a, interfaces_b) = (live(os_a.interfaces), live(os_b.interfaces));
    let mut why: BTreeMap<u8, String> = BTreeMap::new();
    let mut pairs = Vec::new();
    for from in &interfaces_a {
        let starts = entries(world, a, from);
        if starts.is_empty() {
            why.insert(0, format!("{name_a} {}: no link, or the switch port drops its frames", from.name));
            continue;
        }
        let floods: Vec<_> = starts.iter().map(|start| (*start, flood(world, *start))).collect();
        for to in &interfaces_b {
            let ends = entries(world, b, to);
            if ends.is_empty() {
                why.insert(1, format!("{name_b} {}: no link, or the switch port drops its frames", to.name));
            }
            let met = floods.iter().find_map(|(start, seen)| {
                ends.iter().find(|end| seen.contains_key(*end)).map(|end| (*start, *end, seen))
            });
            let Some((start, end, seen)) = met else {
                if let (Some(from_vlan), Some(to_vlan)) = (starts.first(), ends.first()) {
                    why.insert(
                        2,
                        format!(
                            "{} is in VLAN {} of {}, {} is in VLAN {} of {}: no path",
                            from.name,
                            from_vlan.1,
                            world.switches[from_vlan.0].spec.hostname,
                            to.name,
                            to_vlan.1,
                            world.switches[to_vlan.0].spec.hostname,
                        ),
                    );
                }
                continue;
            };
            let Some((address_a, address_b)) = common_subnet(from, to) else {
                why.insert(
                    3,
                    format!(
                        "{} [{}] and {} [{}] share VLAN {} but no subnet",
                        from.name,
                        from.addresses.join(" "),
                        to.name,
                        to.addresses.join(" "),
                        start.1,
                    ),
                );
                continue;
            };
            let mut path = vec![world.switches[end.0].spec.hostname.clone()];
            let mut at = end;
            while let Some(Some(before)) = seen.get(&at) {
                at = *before;
                path.push(world.switches[at.0].spec.hostname.clone());
            }
            path.reverse();
            pairs.push(Pair { a: from.name.clone(), b: to.name.clone(), vlan: start.1, address_a, address_b, path });
        }
    }
    match pairs.first() {
        Some(pair) => Reachability {
            reachable: true,
            explanation: format!(
                "{} {} and {} {} share VLAN {} by way of {}",
                pair.a,
                pair.address_a,
                pair.b,
                pair.address_b,
                pair.vlan,
                pair.path.join(", ")
            ),
            pairs,
        },
        None => no(why.into_values().next_back().unwrap_or_else(|| "no interface is configured".into())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::{config::YardConfig, lock, server::Os, switch::config};

    /// Two racks with one server each, both running with one untagged or tagged interface on their first port.
    fn two_racks(vlan: Option<u16>) -> Arc<World> {
        let world = World::build(YardConfig { servers: 2, leaves: 4, ..YardConfig::default() }).unwrap();
        for (n, server) in world.servers.iter().enumerate() {
            let iface = Iface {
                name: format!("nic{n}"),
                nics: vec![0],
                vlan,
                addresses: vec![format!("10.0.0.{}/24", n + 1)],
                ..Iface::default()
            };
            let os = Os { hostname: format!("h{n}"), interfaces: vec![iface], since: String::new() };
            server.with(|state| state.kept.os = Some(os));
        }
        world
    }

    fn configure(world: &World, switch: usize, patch: Value) {
        config::apply(&mut lock(&world.switches[switch].state).applied, &patch);
        world.switches[switch].refresh();
    }

    fn ask(world: &World) -> Reachability {
        reachable(world, &world.servers[0], &world.servers[1])
    }

    #[test]
    fn racks_see_each_other_only_over_trunks_that_carry_the_vlan() {
        let world = two_racks(None);
        let found = ask(&world);
        assert!(found.reachable, "{}", found.explanation);
        assert_eq!(found.pairs[0].path.len(), 3, "leaf, spine, leaf: {:?}", found.pairs);

        let access = json!({"interface": {"swp1": {"bridge": {"domain": {"br_default": {"access": 210}}}}}});
        configure(&world, 0, access.clone());
        configure(&world, 2, access);
        assert!(!ask(&world).reachable);
        let carry =
            |port: &str| json!({"interface": {port: {"bridge": {"domain": {"br_default": {"vlan": {"210": {}}}}}}}});
        configure(&world, 0, carry("swp49"));
        configure(&world, 2, carry("swp49"));
        assert!(!ask(&world).reachable, "the spine does not carry it yet");
        configure(&world, 4, carry("swp1"));
        configure(&world, 4, carry("swp3"));
        let found = ask(&world);
        assert!(found.reachable && found.explanation.contains("spine1"), "{}", found.explanation);
        configure(&world, 4, json!({"interface": {"swp3": {"link": {"state": {"down": {}}}}}}));
        assert!(!ask(&world).reachable, "a port that is down carries nothing");
    }

    #[test]
    fn tags_subnets_and_cables_count() {
        let world = two_racks(Some(120));
        assert!(ask(&world).explanation.contains("drops its frames"), "an access port takes no tags");
        for leaf in [0, 2] {
            let trunk = json!({"interface": {
                "swp1": {"bridge": {"domain": {"br_default": {"access": null, "vlan": {"120": {}}}}}},
                "swp50": {"bridge": {"domain": {"br_default": {"vlan": {"120": {}}}}}}}});
            configure(&world, leaf, trunk);
        }
        let spine = json!({"swp1": {"bridge": {"domain": {"br_default": {"vlan": {"120": {}}}}}},
            "swp3": {"bridge": {"domain": {"br_default": {"vlan": {"120": {}}}}}}});
        configure(&world, 5, json!({"interface": spine}));
        assert!(ask(&world).reachable, "{}", ask(&world).explanation);
        world.servers[1].with(|state| {
            if let Some(os) = &mut state.kept.os {
                os.interfaces[0].addresses = vec!["10.0.1.2/24".into()];
            }
        });
        assert!(ask(&world).explanation.contains("no subnet"), "{}", ask(&world).explanation);
        world.servers[0].with(|state| state.kept.cables[0] = false);
        assert!(ask(&world).explanation.contains("no link"), "{}", ask(&world).explanation);
        world.servers[0].with(|state| state.kept.os = None);
        assert!(ask(&world).explanation.contains("no operating system"));
    }
}
