//! Whether the accelerators of a server are well enough to hand it on: as its BMC says, as the boot image sees them, and as many as its
//! type has.

use std::collections::{BTreeSet, HashMap};

use model::{Id, bmc::Gpu};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter};
use serde_json::Value;
use store::entity::{server, server_type};

/// Makers whose accelerators the boot image knows on the bus.
const MAKERS: [&str; 4] = ["nvidia", "amd", "intel", "habana"];

fn gpus(source: &Value) -> Vec<Gpu> {
    serde_json::from_value(source["gpus"].clone()).unwrap_or_default()
}

fn name(gpu: &Gpu) -> String {
    let place = gpu.serial.as_ref().or(gpu.pci.as_ref());
    place.map_or_else(|| gpu.model.clone(), |p| format!("{} {p}", gpu.model))
}

/// What is wrong, in words; `None`: nothing. `wanted`: how many its type has.
pub fn trouble(inventory: &Value, wanted: i64) -> Option<String> {
    let sources = &inventory["sources"];
    let bmc = gpus(&sources["bmc"]);
    let inside = sources["inBand"].is_object().then(|| gpus(&sources["inBand"]));
    let mut said: Vec<String> = Vec::new();
    for gpu in bmc.iter().chain(inside.iter().flatten()) {
        said.extend(gpu.problems.iter().map(|p| format!("{}: {p}", name(gpu))));
    }
    let known = |g: &&Gpu| MAKERS.iter().any(|m| g.vendor.to_lowercase().contains(m));
    let told = bmc.iter().filter(known).count();
    // A type counts what it was made of, which may be the BMC's word alone.
    let least = Ord::max(told, usize::try_from(wanted).unwrap_or(0));
    let is = |n: usize| if n == 1 { "is" } else { "are" };
    match &inside {
        Some(inside) if inside.len() < least && (told > 0 || !inside.is_empty()) => {
            let n = inside.len();
            said.push(format!("{n} of {least} GPUs {} seen by the boot image", is(n)));
        }
        None if !bmc.is_empty() && bmc.len() < least => {
            said.push(format!("{} of {least} GPUs {} told by the BMC", bmc.len(), is(bmc.len())));
        }
        _ => {}
    }
    (!said.is_empty()).then(|| {
        format!(
            "its GPUs are not well: {}; reseat or replace them, then clean the server or register it again",
            said.join("; ")
        )
    })
}

/// Which of these servers have such trouble.
pub async fn ill<C: ConnectionTrait>(db: &C, ids: &BTreeSet<Id>) -> Result<HashMap<Id, String>, DbErr> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = server::Entity::find().filter(server::Column::Id.is_in(ids.iter().copied())).all(db).await?;
    let types: BTreeSet<Id> = rows.iter().filter_map(|s| s.server_type_id).collect();
    let types: HashMap<Id, i64> = server_type::Entity::find()
        .filter(server_type::Column::Id.is_in(types))
        .all(db)
        .await?
        .into_iter()
        .map(|t| (t.id, t.gpu_count))
        .collect();
    let of = |s: &server::Model| {
        let wanted = s.server_type_id.and_then(|id| types.get(&id).copied()).unwrap_or(0);
        Some((s.id, trouble(&s.inventory, wanted)?))
    };
    Ok(rows.iter().filter_map(of).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gpu(problems: &[&str]) -> Value {
        json!({"vendor": "NVIDIA", "model": "H100", "serial": "G1", "problems": problems})
    }

    #[test]
    fn what_is_not_well_is_said() {
        let of = |bmc: Vec<Value>, inside: Option<Vec<Value>>, wanted| {
            let inside = inside.map_or(Value::Null, |g| json!({"gpus": g}));
            trouble(&json!({"sources": {"bmc": {"gpus": bmc}, "inBand": inside}}), wanted)
        };
        let well = || gpu(&[]);
        assert_eq!(of(vec![well(), well()], Some(vec![well(), well()]), 2), None);
        assert_eq!(of(Vec::new(), Some(vec![well()]), 1), None, "the BMC says nothing of accelerators");
        assert_eq!(of(Vec::new(), Some(Vec::new()), 0), None);
        assert_eq!(of(vec![well()], None, 1), None, "never seen from inside");
        assert!(of(vec![well(), well()], Some(vec![well()]), 2).unwrap().contains("1 of 2 GPUs is seen"));
        assert!(of(vec![well()], None, 2).unwrap().contains("1 of 2 GPUs is told by the BMC"));
        assert!(of(Vec::new(), Some(vec![well()]), 2).unwrap().contains("1 of 2"));
        let ill = of(vec![gpu(&["the BMC calls its health critical"])], Some(vec![well()]), 1).unwrap();
        assert!(ill.contains("H100 G1: the BMC calls its health critical"), "{ill}");
        // Something that only a BMC calls an accelerator.
        let other = json!({"vendor": "Acme", "model": "FPGA"});
        assert_eq!(of(vec![other], Some(Vec::new()), 0), None);
        assert_eq!(trouble(&Value::Null, 8), None);
    }
}
