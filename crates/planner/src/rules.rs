//! Which designer element may be connected to which. The table is the single source: the user interface draws from it.

use serde::Serialize;

/// Elements of a design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Element {
    ServerGroup,
    VmGroup,
    Network,
    SharedDrive,
    DriveGroup,
    Cluster,
    EndpointGroup,
}

impl Element {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ServerGroup,
        Self::VmGroup,
        Self::Network,
        Self::SharedDrive,
        Self::DriveGroup,
        Self::Cluster,
        Self::EndpointGroup,
    ];
}

/// What connecting two elements does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Not allowed.
    No,
    /// A network connection.
    Connection,
    /// A new network with a connection for either side, after a question.
    NewNetwork,
    /// The drive becomes visible to the group.
    Attach,
    /// The drive group moves to the group.
    Move,
    /// A connection for every role of the cluster.
    ConnectRoles,
}

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ConnectRule {
    /// Dragged from here.
    pub from: Element,
    /// Dropped there.
    pub to: Element,
    /// What happens.
    pub effect: Effect,
    /// Why not, or what to know.
    pub reason: &'static str,
}

/// The whole table, one rule for every ordered pair of elements.
pub fn connect_rules() -> Vec<ConnectRule> {
    Element::ALL.into_iter().flat_map(|from| Element::ALL.into_iter().map(move |to| rule(from, to))).collect()
}

/// The rule for one pair.
pub fn rule(from: Element, to: Element) -> ConnectRule {
    use Element::{Cluster, DriveGroup, EndpointGroup, Network, ServerGroup, SharedDrive, VmGroup};
    let (effect, reason) = match (from, to) {
        (ServerGroup | VmGroup | EndpointGroup, Network) | (Network, ServerGroup | VmGroup | EndpointGroup) => {
            (Effect::Connection, "one untagged and any number of tagged networks per group")
        }
        (ServerGroup | VmGroup, ServerGroup | VmGroup) => {
            (Effect::NewNetwork, "a new network is made, with a connection for either side")
        }
        (ServerGroup | VmGroup, SharedDrive) | (SharedDrive, ServerGroup | VmGroup) => {
            (Effect::Attach, "every instance of the group sees the drive")
        }
        (ServerGroup | VmGroup, DriveGroup) => (Effect::Move, "the drive group moves to this group"),
        (DriveGroup, ServerGroup | VmGroup) => {
            (Effect::Attach, "one drive per instance; a boot drive cannot be detached")
        }
        (Network, Cluster) | (Cluster, Network) => (Effect::ConnectRoles, "every role of the cluster is connected"),
        (ServerGroup | VmGroup, Cluster) | (Cluster, ServerGroup | VmGroup) => {
            (Effect::No, "a cluster has its own groups: connect through the card of a role")
        }
        (ServerGroup | VmGroup, EndpointGroup) | (EndpointGroup, ServerGroup | VmGroup) => {
            (Effect::No, "connect both to the same network")
        }
        (Network, Network) => (Effect::No, "networks are joined by a route domain, not by a cable"),
        (Network, SharedDrive | DriveGroup) | (SharedDrive | DriveGroup, Network) => {
            (Effect::No, "the storage network comes by itself when a drive is attached")
        }
        (DriveGroup | SharedDrive, _) | (_, DriveGroup | SharedDrive) => {
            (Effect::No, "drives are attached to server or VM groups only")
        }
        (Cluster | EndpointGroup, Cluster | EndpointGroup) => (Effect::No, "connect both to the same network"),
    };
    ConnectRule { from, to, effect, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_a_rule_and_every_refusal_a_reason() {
        let rules = connect_rules();
        assert_eq!(rules.len(), 49);
        assert!(rules.iter().all(|r| !r.reason.is_empty()));
        assert_eq!(rule(Element::ServerGroup, Element::Network).effect, Effect::Connection);
        assert_eq!(rule(Element::EndpointGroup, Element::ServerGroup).effect, Effect::No);
        let json = serde_json::to_value(&rules).unwrap();
        assert_eq!(json[0]["from"], "server_group");
        assert_eq!(json[0]["effect"], "new_network");
    }
}
