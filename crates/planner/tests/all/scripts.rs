//! Text scripts: each `tests/scripts/NAME.txt` is a conversation with the planner; the answers are in `NAME.out`.
//! Run with `UPDATE_SCRIPTS=1` to write the answers anew.

use std::{fmt::Write, fs, path::Path};

use model::deploy::{DeployType, ServiceStatus};
use planner::*;

fn group<'a>(input: &'a mut PlanInput, label: &str) -> &'a mut Group {
    input.groups.iter_mut().find(|g| g.design.label == label).unwrap()
}

fn step(input: &mut PlanInput, line: &str, out: &mut String) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |i: usize| words[i].parse::<i64>().unwrap();
    match words[0] {
        "site" => *input = crate::world::site(number(1), number(2), number(3)),
        "group" => {
            let id = input.groups.len() as i64 + 1;
            input.groups.push(crate::world::group(id, words[1], number(2) as u32));
        }
        "network" => {
            let id = input.networks.len() as i64 + 1;
            let mut network = crate::world::network(id, words[1], number(2) as u8);
            if words.get(3) == Some(&"vlan") {
                network.design.vlan = VlanStrategy::Manual { vlan: number(4) as u16 };
            }
            if words.get(3) == Some(&"subnet") {
                network.design.ipv4 = vec![Ipv4Strategy::Manual { subnet: words[4].parse().unwrap(), gateway: None }];
            }
            if words.get(3) == Some(&"owner") {
                network.infrastructure_id = Some(number(4));
            }
            input.networks.push(network);
        }
        "connect" => {
            let id = input.networks.iter().find(|n| n.design.label == words[2]).unwrap().id;
            let c = crate::world::connection(id, words.contains(&"tagged"), words.contains(&"bond"));
            group(input, words[1]).design.connections.push(c);
        }
        "disconnect" => {
            let id = input.networks.iter().find(|n| n.design.label == words[2]).unwrap().id;
            group(input, words[1]).design.connections.retain(|c| c.logical_network_id != id);
        }
        "count" => group(input, words[1]).design.instance_count = number(2) as u32,
        "rename" => group(input, words[1]).design.label = words[2].into(),
        "os" => group(input, words[1]).design.os = Some(crate::world::os(number(2))),
        "no-os" => group(input, words[1]).design.os = None,
        "pick" => input.instances.iter_mut().find(|i| i.label == words[1]).unwrap().deleted = true,
        "stop" => {
            let g = group(input, words[1]);
            assert_eq!(g.service_status, ServiceStatus::Active);
            g.deploy_type = DeployType::Stop;
        }
        "delete" => group(input, words[1]).deploy_type = DeployType::Delete,
        "delete-network" => {
            input.networks.iter_mut().find(|n| n.design.label == words[1]).unwrap().deploy_type = DeployType::Delete;
        }
        "delete-all" => input.infrastructure.deleted = true,
        "allow-data-loss" => input.options.allow_data_loss = true,
        "soft" => input.options.shutdown = Shutdown { attempt_soft: true, attempt_hard: true, ..Default::default() },
        "power-on" => input.servers.iter_mut().for_each(|s| s.power = model::bmc::PowerState::On),
        "spanning-tree" => input.fabrics[0].spanning_tree = true,
        "uncable" => {
            let id = number(1);
            let nics = &mut input.servers.iter_mut().find(|s| s.id == id).unwrap().interfaces;
            let all = words.contains(&"all");
            nics.iter_mut().take(if all { usize::MAX } else { 1 }).for_each(|n| n.cable = None);
        }
        "link" => {
            let (id, nic) = (number(1), number(2) as usize);
            let server = input.servers.iter_mut().find(|s| s.id == id).unwrap();
            server.interfaces[nic - 1].link_up = Some(words[3] == "up");
        }
        "unmanaged" => input.fabrics[0].unmanaged = true,
        "fabric" => {
            let id = number(1);
            let (name, unmanaged) = (words[2].into(), words.contains(&"unmanaged"));
            let first = input.fabrics[0].clone();
            input.fabrics.push(Fabric { id, name, unmanaged, vlans_used: Default::default(), ..first });
        }
        "ib-fabric" => {
            let (id, name, unmanaged) = (number(1), words[2].into(), words.contains(&"unmanaged"));
            let first = input.fabrics[0].clone();
            let ranges = words.get(3).and_then(|r| model::infiniband::pkey_range("r", r).ok()).into_iter().collect();
            let infiniband = Some(IbFabric { pkey_ranges: ranges, pkeys_used: Default::default() });
            input.fabrics.push(Fabric { id, name, unmanaged, infiniband, vlans_used: Default::default(), ..first });
        }
        "hca" => {
            let id = number(1);
            let server = input.servers.iter_mut().find(|s| s.id == id).unwrap();
            crate::world::hca(server, words.get(2).map(|_| number(2)));
        }
        "partition" => {
            let id = input.networks.len() as i64 + 1;
            let mut network = crate::world::network(id, words[1], 24);
            network.fabric_id = number(2);
            network.design.ipv4.clear();
            network.design.pkey = Some(match words.get(3) {
                Some(_) => PkeyStrategy::Manual { pkey: number(3) as u16 },
                None => PkeyStrategy::Auto,
            });
            input.networks.push(network);
        }
        "membership" => {
            let id = input.networks.iter().find(|n| n.design.label == words[2]).unwrap().id;
            let all = &mut group(input, words[1]).design.connections;
            all.iter_mut().find(|c| c.logical_network_id == id).unwrap().membership =
                model::infiniband::Membership::parse(words[3]).unwrap();
        }
        "in-fabric" => {
            input.networks.iter_mut().find(|n| n.design.label == words[1]).unwrap().fabric_id = number(2);
        }
        "aside" => {
            let network = input.networks.iter_mut().find(|n| n.design.label == words[1]).unwrap();
            network.set_aside = words[2..].iter().map(|w| w.parse().unwrap()).collect();
        }
        "vlans" => input.fabrics[0].vlan_ranges = vec![(number(1) as u16, number(2) as u16)],
        "pool" => input.subnet_pools[0].prefix = words[1].parse().unwrap(),
        "plan" => match plan(input) {
            Ok(plan) => write!(out, "{plan}").unwrap(),
            Err(problems) => problems.iter().for_each(|p| writeln!(out, "problem: {p}").unwrap()),
        },
        "netplan" => {
            let plan = plan(input).unwrap();
            let i = plan.instances.iter().find(|i| i.label == words[1]).unwrap();
            let config = &i.after.as_ref().unwrap().network_config;
            writeln!(
                out,
                "{}",
                serde_json::to_string_pretty(&serde_json::from_str::<Sorted>(&config.to_string()).unwrap()).unwrap()
            )
            .unwrap();
        }
        "deploy" => {
            let plan = plan(input).unwrap_or_else(|p| panic!("{line}: {p:?}"));
            *input = plan.apply_to(input);
            writeln!(out, "{} jobs", plan.jobs.len()).unwrap();
        }
        "told" => {
            let plan = plan(input).unwrap();
            let instance = plan.instances.iter().find(|i| i.label == words[1]).unwrap().id;
            let job = plan.jobs.iter().find(|j| j.key == format!("install/instance-{instance}")).unwrap();
            let told = serde_json::from_value::<Sorted>(job.payload["spec"]["storage"].clone()).unwrap();
            writeln!(out, "{}", serde_json::to_string_pretty(&told).unwrap()).unwrap();
        }
        other => assert!(crate::world::storage::step(input, &words), "unknown command {other}"),
    }
}

/// JSON whose keys are in alphabetical order whatever the features of the JSON library.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
enum Sorted {
    Object(std::collections::BTreeMap<String, Sorted>),
    List(Vec<Sorted>),
    Other(serde_json::Value),
}

#[test]
fn scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    names.retain(|p| p.extension().is_some_and(|e| e == "txt"));
    names.sort();
    assert!(names.len() >= 5);
    for path in names {
        let mut input = crate::world::site(3, 2, 2);
        let mut out = String::new();
        for line in fs::read_to_string(&path).unwrap().lines().map(str::trim) {
            writeln!(out, "> {line}").unwrap();
            if !line.is_empty() && !line.starts_with('#') {
                step(&mut input, line, &mut out);
            }
        }
        let golden = path.with_extension("out");
        if std::env::var_os("UPDATE_SCRIPTS").is_some() {
            fs::write(&golden, &out).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(out, expected, "{}", path.display());
    }
}
