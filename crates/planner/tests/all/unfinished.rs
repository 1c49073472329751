//! A deploy of live instances that did not end: the next plan leaves nothing of it behind.

use std::collections::BTreeSet;

use model::switch::SwitchPatch;
use planner::*;

/// Two servers on `lan`, deployed; a second network that nobody uses.
fn deployed() -> PlanInput {
    let mut input = crate::world::site(2, 1, 1);
    input.networks = vec![crate::world::network(1, "lan", 24), crate::world::network(2, "storage", 24)];
    let mut group = crate::world::group(1, "db", 2);
    group.design.connections = vec![crate::world::connection(1, false, false)];
    input.groups = vec![group];
    carried_out(&input)
}

fn carried_out(input: &PlanInput) -> PlanInput {
    let done = plan(input).unwrap().apply_to(input);
    assert!(plan(&done).unwrap().is_empty());
    done
}

/// The deploy of this design was begun and cancelled; then the design went back to what it was.
fn begun_and_reverted(before: &PlanInput, change: impl Fn(&mut GroupConfig)) -> PlanInput {
    let mut changed = before.clone();
    change(&mut changed.groups[0].design);
    let begun = plan(&changed).unwrap();
    let mut after = before.clone();
    for p in begun.instances {
        let i = after.instances.iter_mut().find(|i| i.id == p.id).unwrap();
        i.unfinished.push(p.after.unwrap());
    }
    after
}

fn patches(plan: &Plan, prefix: &str) -> Vec<SwitchPatch> {
    let jobs = plan.jobs.iter().filter(|j| j.key.starts_with(prefix));
    jobs.map(|j| serde_json::from_value(j.payload["patch"].clone()).unwrap()).collect()
}

#[test]
fn what_it_may_have_added_is_taken_away() {
    let before = deployed();
    let vlan = |n: usize| before.networks[n].allocated.vlan.unwrap();
    let after = begun_and_reverted(&before, |g| g.connections.push(crate::world::connection(2, true, false)));
    let undo = plan(&after).unwrap();
    let ports = patches(&undo, "ports/");
    assert_eq!(ports.len(), 2);
    for patch in &ports {
        let vlans = patch.ports.values().find_map(|p| p.vlans.clone()).unwrap();
        assert_eq!((vlans.untagged, vlans.tagged), (Some(vlan(0)), BTreeSet::new()));
    }
    let gone: Vec<SwitchPatch> = patches(&undo, "vlan-remove/");
    assert_eq!(gone.len(), 2);
    assert!(gone.iter().all(|p| p.vlans_absent == BTreeSet::from([vlan(1)])), "{gone:?}");
    let spine = patches(&undo, "trunk-remove/");
    assert!(spine.iter().any(|p| p.vlans_absent.contains(&vlan(1))), "{spine:?}");
    assert_eq!(undo.impact.disks_erased, 0);
    carried_out(&after);
}

#[test]
fn what_it_may_have_taken_away_is_there_again() {
    let before = deployed();
    let vlan = before.networks[0].allocated.vlan.unwrap();
    let after = begun_and_reverted(&before, |g| g.connections.clear());
    let undo = plan(&after).unwrap();
    let there = patches(&undo, "vlan/");
    assert!(there.len() >= 2 && there.iter().all(|p| p.vlans_present.contains(&vlan)), "{there:?}");
    assert_eq!(patches(&undo, "ports/").len(), 2);
    assert!(patches(&undo, "vlan-remove/").is_empty());
    carried_out(&after);
}
