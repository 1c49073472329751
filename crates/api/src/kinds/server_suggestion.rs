//! Which server types fit a server: exactly, or nearly, with what differs.

use model::bmc::HardwareInventory;
use sea_orm::EntityTrait;
use serde_json::{Value, json};
use store::entity::{server, server_type};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{server::find, server_wire::inventory},
    routes,
};

routes! {
    "getServerTypeSuggestions" => suggestions,
}

/// Suggestions at most.
const MOST: usize = 10;

/// What differs between a server and a type, in words, and how much: one for each whole difference, less for a small one.
fn compare(s: &server::Model, i: &HardwareInventory, t: &server_type::Model) -> (f64, Vec<String>) {
    let (mut far, mut words) = (0.0, Vec::new());
    let mut number = |what: &str, has: i64, wants: i64| {
        if has != wants {
            let whole = Ord::max(Ord::max(has, wants), 1) as f64;
            far += f64::max((has - wants).abs() as f64 / whole, 0.05);
            words.push(format!("{what}: the server has {has}, the type {wants}"));
        }
    };
    number("memory in GB", s.ram_gb, t.ram_gb);
    number("processors", s.processor_count, t.processor_count);
    number("cores of a processor", s.core_count, t.core_count);
    number("disks", s.disk_count, t.disk_count);
    number("interfaces", i.nics.len() as i64, t.nic_count);
    number("GPUs", s.gpu_count, t.gpu_count);
    let mut has: Vec<&str> = i.processors.iter().map(|p| p.model.trim()).collect();
    has.dedup();
    let wants: Vec<&str> = t.processor_names.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !has.is_empty() && !wants.is_empty() && has != wants {
        far += 0.5;
        words.push(format!("processor: the server has {}, the type {}", has.join(", "), wants.join(", ")));
    }
    (far, words)
}

async fn suggestions(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let found = find(&ctx, db).await?;
    let inside = inventory(&found);
    if found.processor_count == 0 && found.ram_gb == 0 {
        return Err(ApiError::conflict("nothing is known of this server's hardware yet; register it again"));
    }
    let mut all: Vec<(f64, Value)> = server_type::Entity::find()
        .all(db)
        .await?
        .iter()
        .map(|t| {
            let (far, words) = compare(&found, &inside, t);
            let kind = if words.is_empty() { "exact" } else { "near" };
            let current = found.server_type_id == Some(t.id);
            (far, json!({"serverTypeId": t.id, "name": t.name, "label": t.label, "match": kind, "current": current, "differences": words}))
        })
        .filter(|(far, _)| *far < 2.0)
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let data: Vec<Value> = all.into_iter().take(MOST).map(|(_, v)| v).collect();
    Ok(Reply::Json(json!({"data": data})))
}
