//! Storages and what is put on them, in scripts and properties.

use std::collections::BTreeSet;

use model::{
    Id,
    deploy::DeployType,
    storage::{BlockProtocol, Portal, Technology},
};
use planner::*;

pub fn storage(id: Id, name: &str, gib: u64) -> Storage {
    Storage {
        id,
        name: name.into(),
        fabric_id: None,
        technologies: [Technology::Block, Technology::File, Technology::Object].into(),
        protocol: Some(BlockProtocol::Iscsi),
        ready: true,
        in_maintenance: false,
        experimental: false,
        priority: 0,
        total_bytes: gib * GIB,
        overcommit_percent: 100,
        others_bytes: 0,
        portals: vec![Portal {
            name: "p1".into(),
            node: "a".into(),
            protocol: "iscsi".into(),
            address: format!("10.9.0.{id}"),
            port: 3260,
        }],
        qos: false,
    }
}

pub fn element(id: Id, kind: ElementKind, label: &str, gib: u64, groups: BTreeSet<Id>) -> StorageElement {
    let design = ElementConfig { label: label.into(), size_bytes: gib * GIB, groups, ..ElementConfig::default() };
    let deploy_type = DeployType::Create;
    StorageElement { id, kind, design, deployed: None, deploy_type, state: None, unfinished: Vec::new(), mount: None }
}

fn groups(input: &PlanInput, labels: &[&str]) -> BTreeSet<Id> {
    labels.iter().map(|l| input.groups.iter().find(|g| g.design.label == *l).unwrap().id).collect()
}

/// Carries out a line of a script that is about storage. Answers whether it was one.
pub fn step(input: &mut PlanInput, words: &[&str]) -> bool {
    let number = |i: usize| words[i].parse::<i64>().unwrap();
    if words[0] == "storage" {
        let mut s = storage(number(1), words[2], number(3) as u64);
        for pair in words[4..].chunks(2) {
            let value = pair[1];
            match pair[0] {
                "fabric" => s.fabric_id = Some(value.parse().unwrap()),
                "overcommit" => s.overcommit_percent = value.parse().unwrap(),
                "others" => s.others_bytes = value.parse::<u64>().unwrap() * GIB,
                "only" => s.technologies = [Technology::parse(value).unwrap()].into(),
                other => panic!("unknown option {other}"),
            }
        }
        input.storage.storages.push(s);
        return true;
    }
    if words[0] == "move" {
        // As it is loaded once its server is broken.
        let i = input.instances.iter_mut().find(|i| i.label == words[1]).unwrap();
        let state = i.deployed.take().unwrap();
        let broken = input.servers.iter_mut().find(|s| s.id == state.server_id).unwrap();
        (broken.type_id, broken.available) = (0, false);
        i.reserved_server_id = Some(state.server_id);
        i.unfinished.insert(0, state);
        input.storage.moving.insert(i.id);
        return true;
    }
    if words[0] == "speaks" {
        let s = input.storage.storages.iter_mut().find(|s| s.name == words[1]).unwrap();
        s.protocol = BlockProtocol::parse(words[2]);
        return true;
    }
    if words[0] == "local-only" {
        let group = input.groups.iter_mut().find(|g| g.design.label == words[1]).unwrap();
        group.design.os.as_mut().unwrap().local_disk_only = true;
        return true;
    }
    if words[0] == "maintenance" {
        let s = input.storage.storages.iter_mut().find(|s| s.name == words[1]).unwrap();
        s.in_maintenance = !s.in_maintenance;
        return true;
    }
    let kind = match words[0] {
        "drive" => Some(ElementKind::SharedDrive),
        "drives" => Some(ElementKind::DriveGroup),
        "share" => Some(ElementKind::FileShare),
        "bucket" => Some(ElementKind::Bucket),
        _ => None,
    };
    if let Some(kind) = kind {
        let id = input.storage.elements.iter().map(|e| e.id).max().unwrap_or(0) + 1;
        let e = element(id, kind, words[1], number(2) as u64, groups(input, &words[3..]));
        input.storage.elements.push(e);
        return true;
    }
    if !["hosts", "resize", "on", "via", "apart", "boot", "copy", "drop", "half-done"].contains(&words[0]) {
        return false;
    }
    let hosts = if words[0] == "hosts" { groups(input, &words[2..]) } else { BTreeSet::new() };
    let via = (words[0] == "via").then(|| input.networks.iter().find(|n| n.design.label == words[2]).unwrap().id);
    let others = input.storage.elements.clone();
    let e = input.storage.elements.iter_mut().find(|e| e.design.label == words[1]).unwrap();
    match words[0] {
        "hosts" => e.design.groups = hosts,
        "resize" => e.design.size_bytes = number(2) as u64 * GIB,
        "on" => e.design.storage_id = Some(number(2)),
        "via" => e.design.network_id = via,
        "apart" => e.design.affinity = Affinity::DifferentStorage,
        "copy" => {
            let source = others.iter().find(|o| o.design.label == words[2]).unwrap();
            let key = source.state.as_ref().unwrap().objects.keys().next().unwrap().clone();
            let storage_id = source.state.as_ref().unwrap().storage_id;
            e.design.source = Some(CloneSource { storage_id, key, snapshot: words.get(3).map(|w| (*w).to_owned()) });
        }
        "boot" => e.design.boot = !e.design.boot,
        "half-done" => e.unfinished = e.state.iter().cloned().collect(),
        _ => e.deploy_type = DeployType::Delete,
    }
    true
}
