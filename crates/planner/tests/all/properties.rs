//! What holds for every design.

use std::collections::BTreeSet;

use model::{Id, deploy::DeployType};
use planner::*;
use proptest::prelude::*;

/// A design with 1 to 3 groups on up to 3 networks, over a site of random size.
#[derive(Clone, Debug)]
struct Shape {
    leaves: i64,
    spines: i64,
    spanning_tree: bool,
    counts: Vec<u32>,
    wiring: Vec<(usize, bool)>,
    second: Vec<u32>,
    drop: Option<usize>,
    rotate: usize,
}

fn shape() -> impl Strategy<Value = Shape> {
    (
        2..6_i64,
        1..4_i64,
        any::<bool>(),
        prop::collection::vec(0..8_u32, 1..4),
        prop::collection::vec((0..3_usize, any::<bool>()), 3),
        prop::collection::vec(0..8_u32, 3),
        prop::option::of(0..3_usize),
        0..50_usize,
    )
        .prop_map(|(leaves, spines, spanning_tree, counts, wiring, second, drop, rotate)| Shape {
            leaves,
            spines,
            spanning_tree,
            counts,
            wiring,
            second,
            drop,
            rotate,
        })
}

fn build(s: &Shape) -> PlanInput {
    let mut input = crate::world::site(s.leaves, s.spines, 6);
    input.fabrics[0].spanning_tree = s.spanning_tree;
    input.networks = (1..=3).map(|n| crate::world::network(n, &format!("net{n}"), 24)).collect();
    for (n, count) in s.counts.iter().enumerate() {
        let mut group = crate::world::group(n as Id + 1, &format!("group{n}"), *count);
        let (first, bond) = s.wiring[n];
        group.design.connections.push(crate::world::connection(first as Id + 1, false, bond));
        group.design.connections.push(crate::world::connection((first as Id + 1) % 3 + 1, true, bond));
        input.groups.push(group);
    }
    input
}

fn no_double_use(input: &PlanInput) -> Result<(), TestCaseError> {
    let (mut servers, mut ports, mut addresses, mut names) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for state in input.instances.iter().filter_map(|i| i.deployed.as_ref()) {
        prop_assert!(servers.insert(state.server_id), "a server twice");
        prop_assert!(names.insert(&state.hostname), "a name twice");
        for p in &state.ports {
            prop_assert!(ports.insert((p.device_id, &p.port)), "a port twice");
        }
        for a in &state.addresses {
            prop_assert!(addresses.insert(a.address), "an address twice");
            prop_assert!(a.gateway != Some(a.address) && a.subnet.contains(&a.address));
        }
    }
    let vlans: Vec<u16> = input.networks.iter().filter_map(|n| n.allocated.vlan).collect();
    prop_assert_eq!(vlans.len(), vlans.iter().collect::<BTreeSet<_>>().len());
    prop_assert!(vlans.iter().all(|v| (101..=199).contains(v)));
    let subnets: Vec<_> = input.networks.iter().flat_map(|n| &n.allocated.subnets).map(|s| s.subnet).collect();
    for (n, a) in subnets.iter().enumerate() {
        prop_assert!(subnets.iter().skip(n + 1).all(|b| !a.contains(b) && !b.contains(a)));
    }
    Ok(())
}

fn sound(plan: &Plan) -> Result<(), TestCaseError> {
    let mut seen = BTreeSet::new();
    for job in &plan.jobs {
        for dependency in &job.depends_on {
            prop_assert!(seen.contains(dependency), "{} before {}", job.key, dependency);
        }
        prop_assert!(seen.insert(job.key.clone()), "{} twice", job.key);
    }
    prop_assert_eq!(plan.impact.other_tenants_affected, 0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plans_are_sound(s in shape()) {
        let input = build(&s);
        let Ok(first) = plan(&input) else {
            // Only a shortage may stop these designs.
            let codes: Vec<Code> = plan(&input).unwrap_err().iter().map(|p| p.code).collect();
            prop_assert!(codes.iter().all(|c| matches!(c, Code::NoFreeServer)), "{:?}", codes);
            return Ok(());
        };
        sound(&first)?;
        // The order of rows does not matter.
        let mut turned = input.clone();
        turned.groups.reverse();
        turned.networks.reverse();
        turned.switches.reverse();
        let by = s.rotate % turned.servers.len();
        turned.servers.rotate_left(by);
        for g in &mut turned.groups { g.design.connections.reverse(); }
        for x in &mut turned.servers { x.interfaces.reverse(); }
        prop_assert_eq!(&plan(&turned).unwrap(), &first);
        // Serialised and read back it is the same.
        let text = serde_json::to_string(&first).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Plan>(&text).unwrap(), &first);

        let deployed = first.apply_to(&input);
        no_double_use(&deployed)?;
        let again = plan(&deployed).unwrap();
        prop_assert!(again.is_empty(), "{}", again);
        prop_assert!(diff(&deployed).is_empty());

        // Change counts, drop a group: what is not concerned stays exactly as it is.
        let mut changed = deployed.clone();
        changed.options.allow_data_loss = true;
        changed.infrastructure.generation = 2;
        for (n, g) in changed.groups.iter_mut().enumerate() {
            g.design.instance_count = s.second[n];
            if s.drop == Some(n) { g.deploy_type = DeployType::Delete; }
        }
        let Ok(second) = plan(&changed) else { return Ok(()) };
        sound(&second)?;
        let after = second.apply_to(&changed);
        no_double_use(&after)?;
        prop_assert!(plan(&after).unwrap().is_empty());
        for i in &after.instances {
            if let Some(old) = deployed.instances.iter().find(|o| o.id == i.id) {
                prop_assert_eq!(old, i);
            }
        }
        let servers: BTreeSet<Id> = deployed.instances.iter().filter(|o| !after.instances.iter().any(|i| i.id == o.id))
            .filter_map(|o| o.deployed.as_ref()).map(|d| d.server_id).collect();
        let wiped: BTreeSet<Id> = second.impact.servers_wiped.iter().copied().collect();
        prop_assert_eq!(&wiped, &servers);
        for job in second.jobs.iter().filter(|j| j.function == "server.clean" || j.function == "server.power") {
            prop_assert!(servers.contains(&job.refs.server_id.unwrap()));
        }

        // Down to nothing: every VLAN is taken off every switch that ever got it.
        let mut end = after.clone();
        end.infrastructure.deleted = true;
        end.options.allow_data_loss = true;
        let last = plan(&end).unwrap();
        sound(&last)?;
        let mut carried: BTreeSet<(Id, u16)> = BTreeSet::new();
        for p in [&first, &second, &last] {
            for job in p.jobs.iter().filter(|j| j.function == "switch.apply") {
                let apply: model::order::SwitchApply = serde_json::from_value(job.payload.clone()).unwrap();
                for v in apply.patch.vlans_present { carried.insert((apply.network_device_id, v)); }
                for v in apply.patch.vlans_absent { prop_assert!(carried.remove(&(apply.network_device_id, v))); }
            }
        }
        prop_assert!(carried.is_empty(), "left behind: {:?}", carried);
    }
}

#[test]
fn passwords_come_last_and_only_where_asked() {
    let mut input = crate::world::site(2, 1, 2);
    input.groups = vec![crate::world::group(1, "web", 2)];
    let plan = plan(&input).unwrap();
    let jobs = plan
        .materialize(|id| Ok::<_, std::convert::Infallible>(model::secret::Sealed(format!("sealed-{id}"))))
        .unwrap();
    let install: Vec<_> = jobs.iter().filter(|j| j.function == "server.install").collect();
    assert_eq!(install.len(), 2);
    for job in install {
        let payload: model::order::ServerInstall = serde_json::from_value(job.payload.clone()).unwrap();
        assert_eq!(payload.spec.password.0, format!("sealed-{}", payload.spec.instance_id));
    }
    assert!(!serde_json::to_string(&plan).unwrap().contains("sealed-"));
}

#[test]
fn preferred_servers_come_first_and_the_rest_spread_over_leaves() {
    let mut input = crate::world::site(3, 1, 4);
    input.groups = vec![crate::world::group(1, "web", 4)];
    input.options.preferred_servers.insert(1, vec![4]);
    let plan = plan(&input).unwrap();
    let servers: Vec<Id> = plan.instances.iter().map(|i| i.server_id.unwrap()).collect();
    assert_eq!(servers, [4, 1, 5, 9]);
}

#[test]
fn a_server_of_an_unfinished_deploy_is_used_again_or_cleaned() {
    let mut input = crate::world::site(2, 1, 2);
    input.groups = vec![crate::world::group(1, "web", 1)];
    input.networks = vec![crate::world::network(1, "lan", 24)];
    input.groups[0].design.connections = vec![crate::world::connection(1, false, false)];
    input.instances = vec![Instance {
        id: 5,
        group_id: 1,
        index: 1,
        label: "web-1".into(),
        deleted: false,
        reinstall: false,
        reserved_server_id: Some(3),
        deployed: None,
        unfinished: Vec::new(),
    }];
    input.servers[2].available = false;
    let again = plan(&input).unwrap();
    assert_eq!(again.instances[0].server_id, Some(3));
    assert!(again.jobs.iter().any(|j| j.key.starts_with("quarantine/instance-5/")));
    input.instances[0].deleted = true;
    input.groups[0].design.instance_count = 0;
    let gone = plan(&input).unwrap();
    assert!(gone.jobs.iter().any(|j| j.key == "clean/instance-5"), "{gone}");
    assert!(gone.impact.servers_wiped.is_empty());
    // What the unfinished deploy may have left on the switches goes too, after the ports.
    input.networks[0].allocated.vlan = Some(101);
    let gone = plan(&input).unwrap();
    let remove = gone.jobs.iter().find(|j| j.key == "vlan-remove/device-1").unwrap();
    assert_eq!(remove.depends_on, ["detach/instance-5/device-1"]);
    // A server that does not suit any more is cleaned while another one is installed.
    input.instances[0].deleted = false;
    input.groups[0].design.instance_count = 1;
    input.servers[2].type_id = 2;
    let moved = plan(&input).unwrap();
    assert_eq!(moved.instances[0].server_id, Some(1));
    assert!(moved.jobs.iter().any(|j| j.key == "clean/server-3" && j.refs.server_id == Some(3)), "{moved}");
}

#[test]
fn a_shared_network_keeps_its_vlan_where_others_are() {
    let mut input = crate::world::site(3, 1, 2);
    let mut shared = crate::world::network(1, "internet", 24);
    shared.infrastructure_id = None;
    shared.deployed = Some(shared.design.clone());
    shared.allocated.vlan = Some(120);
    shared.allocated.subnets =
        vec![SubnetAllocation { subnet: "10.0.9.0/24".parse().unwrap(), gateway: None, pool_id: Some(1) }];
    shared.addresses_used = ["10.0.9.1".parse().unwrap()].into();
    shared.other_devices = [1, 2].into();
    input.networks = vec![shared];
    input.groups = vec![crate::world::group(1, "web", 1)];
    input.groups[0].design.connections = vec![crate::world::connection(1, false, false)];
    input.occupied_ports = [(1, "swp1".to_owned())].into();
    let first = plan(&input).unwrap();
    // Server 1 is cabled to a port that others use.
    assert_eq!(first.instances[0].server_id, Some(3));
    assert!(!first.jobs.iter().any(|j| j.key.starts_with("vlan/")), "{first}");
    assert_eq!(first.instances[0].after.as_ref().unwrap().addresses[0].address.to_string(), "10.0.9.2");
    let mut end = first.apply_to(&input);
    end.infrastructure.deleted = true;
    end.options.allow_data_loss = true;
    let last = plan(&end).unwrap();
    assert!(!last.jobs.iter().any(|j| j.key.contains("remove")), "{last}");
    assert!(last.networks.is_empty());
    // A pending edit of a shared network is not this infrastructure's to deploy.
    let mut pending = input.clone();
    pending.networks[0].design.vlan = VlanStrategy::Manual { vlan: 130 };
    assert_eq!(plan(&pending).unwrap(), first);
}

#[test]
fn a_thousand_servers_of_ten_thousand_in_no_time() {
    let input = crate::world::large(10_000, 1_000);
    let start = std::time::Instant::now();
    let plan = plan(&input).unwrap();
    let took = start.elapsed();
    assert_eq!(plan.impact.servers_installed.len(), 1_000);
    // Generous for a debug build on a busy machine; a release build needs a fraction.
    assert!(took.as_secs() < 20, "{took:?}");
    println!("{} jobs planned in {took:?}", plan.jobs.len());
}

/// Partitions over a site of which some servers have adapters.
#[derive(Clone, Debug)]
struct Fabric {
    ports: Vec<u8>,
    counts: Vec<u32>,
    wiring: Vec<(usize, bool)>,
    second: Vec<u32>,
    manual: Option<u16>,
    unmanaged: bool,
}

fn fabric() -> impl Strategy<Value = Fabric> {
    (
        prop::collection::vec(0..3_u8, 12),
        prop::collection::vec(0..5_u32, 1..4),
        prop::collection::vec((0..2_usize, any::<bool>()), 3),
        prop::collection::vec(0..5_u32, 3),
        prop::option::of(1..6_u16),
        any::<bool>(),
    )
        .prop_map(|(ports, counts, wiring, second, manual, unmanaged)| Fabric {
            ports,
            counts,
            wiring,
            second,
            manual,
            unmanaged,
        })
}

fn with_partitions(s: &Fabric) -> PlanInput {
    let mut input = crate::world::site(3, 2, 4);
    for (server, count) in input.servers.iter_mut().zip(&s.ports) {
        (0..*count).for_each(|_| crate::world::hca(server, Some(9)));
    }
    let first = input.fabrics[0].clone();
    let infiniband = Some(IbFabric { pkey_ranges: vec![(1, 4)], pkeys_used: [2].into() });
    input.fabrics.push(planner::Fabric { id: 9, name: "ib".into(), unmanaged: s.unmanaged, infiniband, ..first });
    for n in 1..=2 {
        let mut network = crate::world::network(n, &format!("ib{n}"), 24);
        network.fabric_id = 9;
        network.design.ipv4.clear();
        network.design.pkey = Some(match s.manual.filter(|_| n == 1) {
            Some(pkey) => PkeyStrategy::Manual { pkey },
            None => PkeyStrategy::Auto,
        });
        input.networks.push(network);
    }
    for (n, count) in s.counts.iter().enumerate() {
        let mut group = crate::world::group(n as Id + 1, &format!("group{n}"), *count);
        let (network, limited) = s.wiring[n];
        let mut connection = crate::world::connection(network as Id + 1, true, false);
        connection.provides_default_route = false;
        if limited {
            connection.membership = model::infiniband::Membership::Limited;
        }
        group.design.connections = vec![connection];
        input.groups.push(group);
    }
    input
}

/// What a fabric's subnet manager would have after a plan: members by network.
fn manage(have: &mut std::collections::BTreeMap<Id, std::collections::BTreeMap<String, String>>, plan: &Plan) {
    for p in &plan.partitions {
        let members = have.entry(p.network_id).or_default();
        for guid in &p.remove {
            members.remove(guid);
        }
        for m in &p.add {
            members.insert(m.guid.clone(), m.membership.as_str().to_owned());
        }
        if p.delete {
            have.remove(&p.network_id);
        }
    }
}

/// What a design wants of it.
fn wanted(input: &PlanInput) -> std::collections::BTreeMap<Id, std::collections::BTreeMap<String, String>> {
    let mut all = std::collections::BTreeMap::<Id, std::collections::BTreeMap<String, String>>::new();
    for i in &input.instances {
        let group = input.groups.iter().find(|g| g.id == i.group_id).unwrap();
        let server = input.servers.iter().find(|s| s.id == i.deployed.as_ref().unwrap().server_id).unwrap();
        for c in &group.design.connections {
            for guid in server.interfaces.iter().filter_map(|i| i.guid.clone()) {
                all.entry(c.logical_network_id).or_default().insert(guid, c.membership.as_str().to_owned());
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn partitions_hold_who_they_should(s in fabric()) {
        let mut input = with_partitions(&s);
        let mut have = Default::default();
        for round in 0..3 {
            let plan = match plan(&input) {
                Ok(plan) => plan,
                Err(problems) => {
                    let expected = |c: &Code| matches!(c, Code::NoFreeServer | Code::MissingCabling | Code::PkeyInUse | Code::PkeyOutOfRange | Code::PkeyPoolExhausted);
                    prop_assert!(problems.iter().all(|p| expected(&p.code)), "{:?}", problems);
                    return Ok(());
                }
            };
            sound(&plan)?;
            manage(&mut have, &plan);
            let jobs = plan.jobs.iter().filter(|j| j.function == "infiniband.partition").count();
            prop_assert_eq!(jobs, if s.unmanaged { 0 } else { plan.partitions.len() });
            // Nobody's disks are erased while neighbours may still reach them.
            for p in plan.partitions.iter().filter(|p| !p.remove.is_empty() && !p.unmanaged) {
                let key = format!("partition/network-{}", p.network_id);
                for i in plan.instances.iter().filter(|i| i.after.is_none()) {
                    let was = input.instances.iter().find(|r| r.id == i.id).and_then(|r| r.deployed.as_ref());
                    if was.is_some_and(|d| d.partitions.iter().any(|x| x.network_id == p.network_id)) {
                        let clean = plan.jobs.iter().find(|j| j.key == format!("clean/instance-{}", i.id)).unwrap();
                        prop_assert!(clean.depends_on.contains(&key), "{:?}", clean.depends_on);
                    }
                }
            }
            input = plan.apply_to(&input);
            prop_assert_eq!(&have.iter().filter(|(_, m): &(&Id, &std::collections::BTreeMap<String, String>)| !m.is_empty()).map(|(k, v)| (*k, v.clone())).collect::<std::collections::BTreeMap<_, _>>(), &wanted(&input));
            let keys: Vec<u16> = input.networks.iter().filter_map(|n| n.allocated.pkey).collect();
            prop_assert_eq!(keys.len(), keys.iter().collect::<BTreeSet<_>>().len(), "a key twice");
            prop_assert!(keys.iter().all(|k| (1..=4).contains(k) && *k != 2), "{:?}", keys);
            prop_assert!(input.networks.iter().all(|n| n.allocated.vlan.is_none()));
            prop_assert!(round == 2 || planner::plan(&input).unwrap().is_empty(), "there is nothing left to do");
            match round {
                0 => for (g, count) in input.groups.iter_mut().zip(&s.second) {
                    g.design.instance_count = *count;
                    g.design.connections[0].membership = Default::default();
                },
                _ => input.infrastructure.deleted = true,
            }
            input.options.allow_data_loss = true;
            input.infrastructure.generation += 1;
        }
    }
}
