//! Volumes as hosts see them: an iSCSI target of the arrays whose maps are followed (NetApp), with what hosts have written.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Array, ArrayKind,
    tables::{Tables, has, number, text},
};
use crate::{
    iscsi::{BLOCK, target::Units},
    lock,
    world::World,
};

/// Table of blocks that are not zero.
const CONTENT: &str = "content of units";

/// An array's target.
pub struct ArrayUnits {
    /// The datacenter.
    pub world: Arc<World>,
    /// The array.
    pub array: Arc<Array>,
}

/// The volume behind a number: its name and size.
fn volume(t: &Tables, initiator: &str, lun: u32) -> Option<(String, u64)> {
    let mut maps = t.all("/api/protocols/san/lun-maps").iter();
    let map = maps.find(|m| {
        let igroup = t.find("/api/protocols/san/igroups", "name", &text(m, "igroup.name"));
        number(m, "logical_unit_number") == Some(u64::from(lun))
            && igroup.is_some_and(|g| has(g, "initiators.name", initiator))
    })?;
    let name = text(map, "lun.name");
    let size = t.find("/api/storage/luns", "name", &name).and_then(|l| number(l, "space.size"))?;
    Some((name, size))
}

fn at(record: &Value, name: &str, block: u64) -> bool {
    record["name"] == name && record["block"] == block
}

impl Units for ArrayUnits {
    fn name(&self) -> Option<String> {
        let t = lock(&self.array.state);
        let service =
            t.all("/api/protocols/san/iscsi/services").first().filter(|_| self.array.kind == ArrayKind::Netapp)?;
        Some(text(service, "target.name"))
    }

    fn login(&self, initiator: &str) -> Option<(String, String)> {
        let t = lock(&self.array.state);
        let record = t.find("/api/protocols/san/iscsi/credentials", "initiator", initiator)?;
        Some((text(record, "chap.inbound.user"), text(record, "kept")))
    }

    fn knows(&self, initiator: &str) -> bool {
        lock(&self.array.state).find("/api/protocols/san/igroups", "initiators.name", initiator).is_some()
    }

    fn blocks(&self, initiator: &str, lun: u32) -> Option<u64> {
        volume(&lock(&self.array.state), initiator, lun).map(|(_, size)| size / BLOCK as u64)
    }

    fn read(&self, initiator: &str, lun: u32, block: u64) -> Vec<u8> {
        let t = lock(&self.array.state);
        let found = volume(&t, initiator, lun)
            .and_then(|(name, _)| t.all(CONTENT).iter().find(|r| at(r, &name, block)))
            .and_then(|r| hex::decode(r["hex"].as_str()?).ok());
        found.unwrap_or_else(|| vec![0; BLOCK])
    }

    fn write(&self, initiator: &str, lun: u32, block: u64, data: &[u8]) {
        {
            let mut t = lock(&self.array.state);
            let Some((name, _)) = volume(&t, initiator, lun) else { return };
            t.all_mut(CONTENT).retain(|r| !at(r, &name, block));
            if data.iter().any(|b| *b != 0) {
                t.add(CONTENT, json!({"name": name, "block": block, "hex": hex::encode(data)}));
            }
        }
        self.world.changed();
    }
}
