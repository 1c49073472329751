//! What may be connected to what in a design: the designer draws from this table.

use planner::Effect;
use serde_json::{Value, json};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    routes,
};

routes! {
    "getConnectRules" => rules,
}

async fn rules(_: Ctx) -> Result<Reply, ApiError> {
    let rules: Vec<Value> = planner::connect_rules()
        .iter()
        .map(|r| {
            json!({"from": r.from, "to": r.to, "effect": r.effect, "allowed": r.effect != Effect::No, "reason": r.reason})
        })
        .collect();
    Ok(Reply::Json(Value::Array(rules)))
}
