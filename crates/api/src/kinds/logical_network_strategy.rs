//! How a logical network's VLAN and subnets are chosen: its strategies, one by one.

use sea_orm::ActiveValue::Set;
use serde_json::{Value, json};
use store::{
    list::{ListQuery, Revisioned, cas},
    time,
};

use crate::{
    context::{Ctx, Reply, whole},
    error::ApiError,
    kinds::{
        MAX_ROWS, infrastructure,
        logical_network::{INFINIBAND, check_named, editable, edited, find, read_strategy},
        record,
    },
    planning::design,
    routes,
};

routes! {
    "getLogicalNetworkConfigVlanAllocationStrategies" => vlan::list,
    "getLogicalNetworkConfigVlanAllocationStrategy" => vlan::one,
    "createLogicalNetworkConfigVlanAllocationStrategy" => vlan::create,
    "replaceLogicalNetworkConfigVlanAllocationStrategy" => vlan::replace,
    "deleteLogicalNetworkConfigVlanAllocationStrategy" => vlan::delete,
    "getLogicalNetworkConfigPkeyAllocationStrategies" => pkey::list,
    "getLogicalNetworkConfigPkeyAllocationStrategy" => pkey::one,
    "createLogicalNetworkConfigPkeyAllocationStrategy" => pkey::create,
    "replaceLogicalNetworkConfigPkeyAllocationStrategy" => pkey::replace,
    "deleteLogicalNetworkConfigPkeyAllocationStrategy" => pkey::delete,
    "getLogicalNetworkConfigIpv4SubnetAllocationStrategies" => ipv4::list,
    "getLogicalNetworkConfigIpv4SubnetAllocationStrategy" => ipv4::one,
    "createLogicalNetworkConfigIpv4SubnetAllocationStrategy" => ipv4::create,
    "replaceLogicalNetworkConfigIpv4SubnetAllocationStrategy" => ipv4::replace,
    "deleteLogicalNetworkConfigIpv4SubnetAllocationStrategy" => ipv4::delete,
}

/// A block of a network's design: its name, the name of its strategies, and how many a network may have.
struct Block(&'static str, &'static str, usize);

const PKEY: Block = Block("pkey", "pkeyAllocationStrategies", 1);
const VLAN: Block = Block("vlan", "vlanAllocationStrategies", 1);
const IPV4: Block = Block("ipv4", "subnetAllocationStrategies", 16);

macro_rules! handlers {
    ($($module:ident = $block:ident),*) => {$(
        mod $module {
            use super::{ApiError, Ctx, Reply, $block as BLOCK};
            pub async fn list(ctx: Ctx) -> Result<Reply, ApiError> {
                super::list(ctx, &BLOCK).await
            }
            pub async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
                super::one(ctx, &BLOCK).await
            }
            pub async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
                super::create(ctx, &BLOCK).await
            }
            pub async fn replace(ctx: Ctx) -> Result<Reply, ApiError> {
                super::replace(ctx, &BLOCK).await
            }
            pub async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
                super::delete(ctx, &BLOCK).await
            }
        }
    )*};
}

handlers!(pkey = PKEY, vlan = VLAN, ipv4 = IPV4);

/// Place of the strategy that the path names.
fn place(ctx: &Ctx, list: &[Value]) -> Result<usize, ApiError> {
    let id = ctx.id("allocationStrategyId")?;
    list.iter()
        .position(|s| s.get("id").and_then(whole) == Some(id))
        .ok_or_else(|| ApiError::not_found("allocation strategy", id))
}

async fn list(ctx: Ctx, block: &Block) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read, ctx.id("id")?).await?;
    let all = design::strategies(&found.design, block.0, block.1).to_vec();
    let query = ListQuery::parse(&ctx.query, MAX_ROWS)?;
    let total = all.len() as u64;
    let skip = usize::try_from((query.page - 1).saturating_mul(query.limit)).unwrap_or(usize::MAX);
    let page = all.into_iter().skip(skip).take(usize::try_from(query.limit).unwrap_or(usize::MAX)).collect();
    Ok(Reply::Json(query.body(ctx.operation.path, total, page)))
}

async fn one(ctx: Ctx, block: &Block) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read, ctx.id("id")?).await?;
    let all = design::strategies(&found.design, block.0, block.1);
    let at = place(&ctx, all)?;
    Ok(Reply::Tagged(all[at].clone(), found.revision))
}

/// A change of a network's strategies. Answers what `change` does, with the network's new revision.
async fn change(
    ctx: &Ctx,
    block: &Block,
    change: impl FnOnce(&mut Vec<Value>) -> Result<Value, ApiError>,
) -> Result<(Value, i64), ApiError> {
    let txn = ctx.app.db().begin().await?;
    let (found, of) = editable(ctx, &txn).await?;
    if (found.kind == INFINIBAND) != (block.0 == "pkey") {
        return Err(ApiError::conflict(format!(
            "network {} is of kind {}, which has no {} strategies",
            found.label, found.kind, block.0
        )));
    }
    let mut list = design::strategies(&found.design, block.0, block.1).to_vec();
    let answer = change(&mut list)?;
    let mut blocks = if found.design.is_object() { found.design.clone() } else { json!({}) };
    blocks[block.0] = json!({block.1: list});
    check_named(&txn, &blocks, Some(found.id)).await?;
    let mut row = found.edit();
    edited(&found, &mut row);
    row.design = Set(blocks);
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    if let Some(of) = of {
        infrastructure::touch(&txn, &of).await?;
    }
    let title = format!("Network {}: {} strategies changed", after.label, block.0);
    let context = json!({"before": found.design, "after": after.design});
    record(ctx, &txn, "logical_network.edit", title, ("logical_network", after.id), context).await?;
    txn.commit().await?;
    Ok((answer, after.revision))
}

/// The strategy of the body.
fn read(ctx: &Ctx, block: &Block) -> Result<Value, ApiError> {
    let mut strategy = Value::Object(ctx.body.clone());
    read_strategy(block.0, &mut strategy, &str::to_owned)?;
    if block.0 == "ipv4" && strategy["kind"] == "manual" && design::manual_subnet(&strategy).is_none() {
        return Err(ApiError::field("subnetId", "is required by a manual strategy"));
    }
    Ok(strategy)
}

async fn create(ctx: Ctx, block: &Block) -> Result<Reply, ApiError> {
    let mut strategy = read(&ctx, block)?;
    let (made, revision) = change(&ctx, block, |list| {
        if list.len() >= block.2 {
            return Err(ApiError::conflict(format!(
                "the network has {} {} strategies already, which is as many as it can have; replace one",
                list.len(),
                block.0
            )));
        }
        let next = list.iter().filter_map(|s| s.get("id").and_then(whole)).max().unwrap_or(0) + 1;
        strategy["id"] = next.into();
        list.push(strategy.clone());
        Ok(strategy)
    })
    .await?;
    Ok(Reply::Tagged(made, revision))
}

async fn replace(ctx: Ctx, block: &Block) -> Result<Reply, ApiError> {
    let mut strategy = read(&ctx, block)?;
    let (made, revision) = change(&ctx, block, |list| {
        let at = place(&ctx, list)?;
        strategy["id"] = list[at]["id"].clone();
        strategy["createdAt"] = list[at].get("createdAt").cloned().unwrap_or_else(|| time::now().into());
        list[at] = strategy.clone();
        Ok(strategy)
    })
    .await?;
    Ok(Reply::Tagged(made, revision))
}

async fn delete(ctx: Ctx, block: &Block) -> Result<Reply, ApiError> {
    change(&ctx, block, |list| {
        let at = place(&ctx, list)?;
        Ok(list.remove(at))
    })
    .await?;
    Ok(Reply::Empty)
}
