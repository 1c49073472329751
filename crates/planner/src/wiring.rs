//! Where a VLAN has to be: the switches with members, and the links between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::Id;

use crate::input::PlanInput;

/// Trunk ports by switch. A switch without trunk ports carries the VLAN for its own servers only.
pub(crate) type Spread = BTreeMap<Id, BTreeSet<String>>;

/// Links of one switch by peer: own port and the peer's.
type Peers<'a> = BTreeMap<Id, Vec<(&'a str, Option<&'a str>)>>;

/// The switches and their links.
pub(crate) struct Topology<'a> {
    links: BTreeMap<Id, Peers<'a>>,
    spines: BTreeSet<Id>,
    /// Fabrics whose switches run a spanning tree.
    redundant: BTreeSet<Id>,
}

impl<'a> Topology<'a> {
    pub(crate) fn new(input: &'a PlanInput) -> Self {
        let mut links: BTreeMap<Id, Peers<'a>> = BTreeMap::new();
        for switch in &input.switches {
            for link in &switch.links {
                links
                    .entry(switch.id)
                    .or_default()
                    .entry(link.peer_device_id)
                    .or_default()
                    .push((&link.port, link.peer_port.as_deref()));
            }
        }
        // A link that one end does not know of cannot be configured at that end, so it does not count.
        let known = links.clone();
        for (id, peers) in &mut links {
            peers.retain(|peer, _| known.get(peer).is_some_and(|back| back.contains_key(id)));
        }
        Self {
            links,
            spines: input.switches.iter().filter(|s| s.role == "spine").map(|s| s.id).collect(),
            redundant: input.fabrics.iter().filter(|f| f.spanning_tree).map(|f| f.id).collect(),
        }
    }

    /// All that must carry a VLAN so that its members reach each other. `Err`: members that cannot be reached.
    pub(crate) fn spread(&self, fabric: Id, vlan: u16, members: &BTreeSet<Id>) -> Result<Spread, BTreeSet<Id>> {
        let mut spread: Spread = members.iter().map(|m| (*m, BTreeSet::new())).collect();
        let Some(first) = members.first() else { return Ok(spread) };
        if members.len() == 1 {
            return Ok(spread);
        }
        let reach = self.distances(*first);
        let lost: BTreeSet<Id> = members.iter().copied().filter(|m| !reach.contains_key(m)).collect();
        if !lost.is_empty() {
            return Err(lost);
        }
        if self.redundant.contains(&fabric) {
            self.all_paths(members, &mut spread);
        } else {
            self.tree(vlan, &reach, members, &mut spread);
        }
        Ok(spread)
    }

    fn peers(&self, id: Id) -> impl Iterator<Item = Id> + '_ {
        self.links.get(&id).into_iter().flat_map(|p| p.keys().copied())
    }

    /// Hops from a switch to all it reaches.
    fn distances(&self, from: Id) -> BTreeMap<Id, u32> {
        let mut distance = BTreeMap::from([(from, 0)]);
        let mut queue = VecDeque::from([(from, 0)]);
        while let Some((at, d)) = queue.pop_front() {
            for peer in self.peers(at) {
                distance.entry(peer).or_insert_with(|| {
                    queue.push_back((peer, d + 1));
                    d + 1
                });
            }
        }
        distance
    }

    fn all_paths(&self, members: &BTreeSet<Id>, spread: &mut Spread) {
        let mut used: BTreeSet<(Id, Id)> = BTreeSet::new();
        for from in members {
            let distance = self.distances(*from);
            let mut seen: BTreeSet<Id> = members.iter().copied().filter(|m| m != from).collect();
            let mut stack: Vec<Id> = seen.iter().copied().collect();
            while let Some(at) = stack.pop() {
                let Some(d) = distance.get(&at) else { continue };
                for peer in self.peers(at) {
                    if distance.get(&peer).is_some_and(|p| p + 1 == *d) {
                        used.insert((at.min(peer), at.max(peer)));
                        if seen.insert(peer) {
                            stack.push(peer);
                        }
                    }
                }
            }
        }
        for (a, b) in used {
            self.trunk(a, b, true, spread);
            self.trunk(b, a, true, spread);
        }
    }

    /// One tree: its root is a spine picked by the VLAN's number, so that VLANs share the spines between them and a
    /// tree does not change its root when members come and go.
    fn tree(&self, vlan: u16, reach: &BTreeMap<Id, u32>, members: &BTreeSet<Id>, spread: &mut Spread) {
        let mut roots: Vec<Id> = reach.keys().copied().filter(|id| self.spines.contains(id)).collect();
        if roots.is_empty() {
            roots = reach.keys().copied().take(1).collect();
        }
        let Some(root) = roots.get(vlan as usize % roots.len().max(1)).copied() else { return };
        let mut parent: BTreeMap<Id, Id> = BTreeMap::new();
        let mut queue = VecDeque::from([root]);
        while let Some(at) = queue.pop_front() {
            for peer in self.peers(at) {
                if peer != root && !parent.contains_key(&peer) {
                    parent.insert(peer, at);
                    queue.push_back(peer);
                }
            }
        }
        let mut children: BTreeMap<Id, BTreeSet<Id>> = BTreeMap::new();
        for member in members {
            let mut at = *member;
            while let Some(up) = parent.get(&at) {
                if !children.entry(*up).or_default().insert(at) {
                    break;
                }
                at = *up;
            }
        }
        // The stem above the first branch or member connects nobody.
        let mut top = root;
        while !members.contains(&top) {
            let Some(only) = children.get(&top).filter(|c| c.len() == 1).and_then(|c| c.first().copied()) else {
                break;
            };
            children.remove(&top);
            top = only;
        }
        for (up, downs) in children {
            for down in downs {
                self.trunk(up, down, false, spread);
                self.trunk(down, up, false, spread);
            }
        }
    }

    /// Adds the ports of `at` towards `peer`: all of them, or the one that both ends agree on.
    fn trunk(&self, at: Id, peer: Id, all: bool, spread: &mut Spread) {
        let Some(links) = self.links.get(&at).and_then(|p| p.get(&peer)) else { return };
        let ports = spread.entry(at).or_default();
        if !all {
            let (low, high) = (at.min(peer), at.max(peer));
            let agreed = self
                .links
                .get(&low)
                .and_then(|p| p.get(&high))
                .and_then(|l| l.iter().find_map(|(own, other)| other.map(|o| (*own, o))));
            if let Some((own, other)) = agreed {
                ports.insert(if at == low { own.to_owned() } else { other.to_owned() });
                return;
            }
        }
        ports.extend(links.iter().map(|(own, _)| (*own).to_owned()));
    }
}
