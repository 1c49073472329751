//! Logical networks: what servers are connected by, with strategies that say which VLAN and subnet to take.

use model::{
    Id,
    deploy::{DeployStatus, DeployType, ServiceStatus},
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait, PaginatorTrait,
    QueryFilter, QuerySelect, QueryTrait, Select,
};
use serde_json::{Map, Value, json};
use store::{
    entity::{
        logical_network as network, logical_network_profile as profile, network_connection, network_fabric,
        pkey_allocation, subnet, vlan_allocation,
    },
    list::{Revisioned, cas},
    time,
};

use crate::{
    context::{Ctx, Reply, whole},
    error::ApiError,
    kinds::{infrastructure, list, record},
    planning::{self, design},
    routes,
};

routes! {
    "getLogicalNetworks" => networks,
    "getLogicalNetwork" => one,
    "createLogicalNetwork" => create,
    "createLogicalNetworkFromProfile" => create_from_profile,
    "updateLogicalNetwork" => update,
    "getLogicalNetworkConfig" => config,
    "updateLogicalNetworkConfig" => update_config,
    "deleteLogicalNetwork" => delete,
}

/// Blocks of properties, each with the name of its strategies and of its allocations.
const BLOCKS: &[(&str, &str, &str)] = &[
    ("pkey", "pkeyAllocationStrategies", "pkeys"),
    ("vlan", "vlanAllocationStrategies", "vlans"),
    ("vxlan", "vniAllocationStrategies", "vnis"),
    ("ipv4", "subnetAllocationStrategies", "subnets"),
    ("ipv6", "subnetAllocationStrategies", "subnets"),
];

/// The kind of networks, and the type of fabrics, of InfiniBand.
pub(crate) const INFINIBAND: &str = "infiniband";

/// Reads the blocks of a body: strategies get ids and times, and what they name is checked.
pub(super) fn read_blocks(ctx: &Ctx) -> Result<Value, ApiError> {
    ctx.refuse_others(&[
        "label",
        "name",
        "annotations",
        "kind",
        "fabricId",
        "infrastructureId",
        "mtu",
        "vlan",
        "vxlan",
        "ipv4",
        "ipv6",
        "pkey",
    ])?;
    let body = &ctx.body;
    let mut blocks = json!({});
    let given = |block: &str| body.get(block).is_some_and(|v| v.is_object());
    if ctx.text("kind") == Some(INFINIBAND) {
        if let Some(block) = ["vlan", "vxlan", "ipv4", "ipv6"].into_iter().find(|b| given(b)) {
            return Err(ApiError::field(
                block,
                "a network of InfiniBand has partitions alone: no VLAN, and no addresses yet",
            ));
        }
        // It has a key in any case: the next free one, where nobody chooses.
        blocks["pkey"] = json!({"pkeyAllocationStrategies": []});
    } else if given("pkey") {
        return Err(ApiError::field("pkey", "only a network of kind infiniband has a partition key"));
    }
    for (block, strategies, _) in BLOCKS {
        let Some(given) = body.get(*block).filter(|v| !v.is_null()) else { continue };
        let mut list = given.get(*strategies).and_then(Value::as_array).cloned().unwrap_or_default();
        for (n, s) in list.iter_mut().enumerate() {
            read_strategy(block, s, &|f| format!("{block}.{strategies}[{n}].{f}"))?;
            s["id"] = (n + 1).into();
        }
        blocks[*block] = json!({*strategies: list});
    }
    Ok(blocks)
}

/// Checks one strategy and completes it. `at` names its fields.
pub(super) fn read_strategy(block: &str, s: &mut Value, at: &dyn Fn(&str) -> String) -> Result<(), ApiError> {
    if let Some(pkey) = s.get("pkey").and_then(whole).filter(|_| block == "pkey") {
        model::infiniband::pkey(&at("pkey"), pkey)?;
    } else if block == "pkey" && s["kind"] == "manual" {
        return Err(ApiError::field(at("pkey"), "is required by a manual strategy"));
    }
    if let Some(vlan) = s.get("vlanId").and_then(whole) {
        model::validate::vlan(&at("vlanId"), vlan)?;
    } else if block == "vlan" && s["kind"] == "manual" {
        return Err(ApiError::field(at("vlanId"), "is required by a manual strategy"));
    }
    if let Some(length) = s.get("prefixLength").and_then(whole) {
        let longest = if block == "ipv4" { 30 } else { 126 };
        if !(8..=longest).contains(&length) {
            return Err(ApiError::field(at("prefixLength"), format!("{length} is not between 8 and {longest}")));
        }
    }
    let now = time::now();
    let Some(map) = s.as_object_mut() else { return Ok(()) };
    map.insert("createdAt".into(), now.clone().into());
    map.insert("updatedAt".into(), now.into());
    let scope = map.entry("scope").or_insert_with(|| json!({"kind": "global"}));
    if scope.get("resourceId").is_none() {
        scope["resourceId"] = 0.into();
    }
    match block {
        "vlan" => _ = map.entry("granularityLevel").or_insert_with(|| "fabric".into()),
        "ipv4" | "ipv6" => {
            map.entry("gatewayPlacement").or_insert_with(|| "default".into());
            map.entry("subnetPoolIds").or_insert_with(|| json!([]));
        }
        _ => {}
    }
    Ok(())
}

/// The blocks with what was allocated.
pub(super) fn wire_blocks(design: &Value, deployed: &Value) -> Map<String, Value> {
    let mut all = Map::new();
    for (block, strategies, allocations) in BLOCKS {
        // A VLAN is taken also where the design leaves its choice to us.
        if let Some(b) = design.get(*block).or_else(|| deployed.get(*block)) {
            let taken = deployed.pointer(&format!("/{block}/{allocations}")).cloned().unwrap_or_else(|| json!([]));
            let strategies_of = b.get(*strategies).cloned().unwrap_or_else(|| json!([]));
            all.insert((*block).into(), json!({*strategies: strategies_of, *allocations: taken}));
        }
    }
    all
}

fn wire(n: &network::Model) -> Value {
    let mut config = json!({
        "id": n.id, "revision": n.revision, "kind": n.kind, "mtu": n.mtu, "createdAt": n.created_at, "updatedAt": n.updated_at, "deployType": n.deploy_type, "deployStatus": n.deploy_status,
    });
    let mut all = json!({
        "id": n.id, "revision": n.revision, "label": n.label, "name": n.name, "annotations": n.annotations, "createdAt": n.created_at, "updatedAt": n.updated_at, "kind": n.kind,
        "fabricId": n.fabric_id, "infrastructureId": n.infrastructure_id, "serviceStatus": n.service_status, "lastAppliedLogicalNetworkProfileId": n.profile_id,
        "lastLogicalNetworkProfileAppliedAt": n.profile_applied_at, "mtu": n.mtu,
    });
    for (name, block) in wire_blocks(&n.design, &n.deployed) {
        config[&name] = block.clone();
        all[&name] = block;
    }
    all["config"] = config;
    all
}

/// Networks that the caller may see: those of visible infrastructures, and shared ones.
fn visible(ctx: &Ctx) -> Select<network::Entity> {
    let select = network::Entity::find();
    if ctx.caller.is_admin {
        return select;
    }
    let own = infrastructure::visible(ctx).select_only().column(store::entity::infrastructure::Column::Id);
    select.filter(
        Condition::any()
            .add(network::Column::InfrastructureId.is_null())
            .add(network::Column::InfrastructureId.in_subquery(own.into_query())),
    )
}

/// A network that the caller may see.
pub async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C, id: Id) -> Result<network::Model, ApiError> {
    visible(ctx)
        .filter(network::Column::Id.eq(id))
        .one(db)
        .await?
        .ok_or_else(|| ApiError::not_found("logical network", id))
}

async fn networks(ctx: Ctx) -> Result<Reply, ApiError> {
    Ok(Reply::Json(
        list(&ctx, visible(&ctx), &[], &[network::Column::Label, network::Column::Name], network::Column::Id, wire)
            .await?,
    ))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read, ctx.id("id")?).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

async fn config(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read, ctx.id("id")?).await?;
    Ok(Reply::Tagged(wire(&found)["config"].clone(), found.revision))
}

async fn update_config(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let (found, of) = editable(&ctx, &txn).await?;
    let mut row = found.edit();
    edited(&found, &mut row);
    if ctx.has("mtu") {
        row.mtu = Set(check_mtu(ctx.int("mtu"))?);
    }
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    if let Some(of) = of {
        infrastructure::touch(&txn, &of).await?;
    }
    record(
        &ctx,
        &txn,
        "logical_network.edit",
        format!("Network {} changed", after.label),
        ("logical_network", after.id),
        json!({"before": {"mtu": found.mtu}, "after": {"mtu": after.mtu}}),
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&after)["config"].clone(), after.revision))
}

pub(crate) fn check_mtu(mtu: Option<i64>) -> Result<Option<i64>, ApiError> {
    match mtu {
        Some(mtu) if !(1280..=9216).contains(&mtu) => {
            Err(ApiError::field("mtu", format!("{mtu} is not between 1280 and 9216")))
        }
        other => Ok(other),
    }
}

struct New {
    kind: String,
    fabric_id: Id,
    design: Value,
    mtu: Option<i64>,
    profile_id: Option<Id>,
}

async fn insert<C: ConnectionTrait>(ctx: &Ctx, txn: &C, new: New) -> Result<network::Model, ApiError> {
    if !matches!(new.kind.as_str(), "vlan" | INFINIBAND) {
        let words = format!("{:?} networks cannot be deployed yet; use \"vlan\" or \"infiniband\"", new.kind);
        return Err(ApiError::field("kind", words));
    }
    let fabric = network_fabric::Entity::find_by_id(new.fabric_id)
        .one(txn)
        .await?
        .ok_or_else(|| ApiError::field("fabricId", format!("there is no fabric {}", new.fabric_id)))?;
    let is_infiniband = fabric.configuration["fabricType"] == INFINIBAND;
    if is_infiniband != (new.kind == INFINIBAND) {
        let kind = fabric.configuration["fabricType"].as_str().unwrap_or("ethernet");
        return Err(ApiError::field(
            "fabricId",
            format!("fabric {} is one of {kind}, which has no {} networks", fabric.name, new.kind),
        ));
    }
    let infrastructure_id = ctx.int("infrastructureId");
    let of = match infrastructure_id {
        Some(id) => Some(infrastructure::find_editable(ctx, txn, id).await?),
        None if ctx.caller.is_admin => None,
        None => {
            return Err(ApiError::field("infrastructureId", "is required: shared networks are made by administrators"));
        }
    };
    if of.as_ref().is_some_and(|i| i.site_id != fabric.site_id) {
        return Err(ApiError::field(
            "fabricId",
            format!("the fabric {} is not at the infrastructure's site", fabric.name),
        ));
    }
    let label = match ctx.text("label") {
        Some(label) => model::validate::label("label", label)?,
        None => format!("network-{}", network::Entity::find().count(txn).await? + 1),
    };
    let same = network::Entity::find()
        .filter(network::Column::Label.eq(&label))
        .filter(network::Column::ServiceStatus.ne(ServiceStatus::Deleted.as_str()));
    let same = same.filter(
        infrastructure_id
            .map_or_else(|| network::Column::InfrastructureId.is_null(), |id| network::Column::InfrastructureId.eq(id)),
    );
    if same.count(txn).await? > 0 {
        return Err(ApiError::conflict(format!("label: there is a network {label:?} already")));
    }
    check_named(txn, &new.design, None).await?;
    check_mtu(new.mtu)?;
    let mut row = network::new();
    row.name = Set(ctx.text("name").unwrap_or(&label).to_owned());
    row.label = Set(label.clone());
    row.kind = Set(new.kind);
    row.fabric_id = Set(new.fabric_id);
    row.infrastructure_id = Set(infrastructure_id);
    row.service_status = Set(ServiceStatus::Ordered.as_str().into());
    row.deploy_type = Set(DeployType::Create.as_str().into());
    row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
    row.profile_id = Set(new.profile_id);
    row.profile_applied_at = Set(new.profile_id.map(|_| time::now()));
    row.design = Set(new.design);
    row.deployed = Set(json!({}));
    row.allocation = Set(json!({}));
    row.mtu = Set(new.mtu);
    row.annotations = Set(ctx.body.get("annotations").filter(|v| v.is_object()).cloned().unwrap_or_else(|| json!({})));
    let made = row.insert(txn).await?;
    if let Some(of) = of {
        infrastructure::touch(txn, &of).await?;
    }
    record(
        ctx,
        txn,
        "logical_network.create",
        format!("Network {label} created"),
        ("logical_network", made.id),
        json!({"after": made.design}),
    )
    .await?;
    Ok(made)
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let new = New {
        kind: ctx.need_text("kind")?.to_owned(),
        fabric_id: ctx.need_int("fabricId")?,
        design: read_blocks(&ctx)?,
        mtu: ctx.int("mtu"),
        profile_id: None,
    };
    let txn = ctx.app.db().begin().await?;
    let made = insert(&ctx, &txn, new).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

async fn create_from_profile(ctx: Ctx) -> Result<Reply, ApiError> {
    let id = ctx.need_int("logicalNetworkProfileId")?;
    let txn = ctx.app.db().begin().await?;
    let from = profile::Entity::find_by_id(id)
        .one(&txn)
        .await?
        .ok_or_else(|| ApiError::field("logicalNetworkProfileId", format!("there is no profile {id}")))?;
    let mtu = ctx.int("mtu").or_else(|| from.blocks.get("mtu").and_then(whole));
    let made = insert(
        &ctx,
        &txn,
        New { kind: from.kind, fabric_id: from.fabric_id, design: from.blocks, mtu, profile_id: Some(id) },
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

/// A shared network is an administrator's to change.
pub(super) async fn editable<C: ConnectionTrait>(
    ctx: &Ctx,
    txn: &C,
) -> Result<(network::Model, Option<store::entity::infrastructure::Model>), ApiError> {
    let found = find(ctx, txn, ctx.id("id")?).await?;
    let of = match found.infrastructure_id {
        Some(id) => Some(infrastructure::find_editable(ctx, txn, id).await?),
        None if ctx.caller.is_admin => None,
        None => return Err(ApiError::forbidden("a shared network is an administrator's to change")),
    };
    ctx.check_revision(found.revision)?;
    Ok((found, of))
}

/// What the next deploy does with a network that was changed. A change of one that was marked for deletion keeps it.
pub(super) fn edited(found: &network::Model, row: &mut network::ActiveModel) {
    let never = found.service_status == ServiceStatus::Ordered.as_str();
    row.deploy_type = Set(if never { DeployType::Create } else { DeployType::Edit }.as_str().into());
    row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
}

/// A subnet chosen by hand must be one, on IPv4, and free.
pub(super) async fn check_named<C: ConnectionTrait>(db: &C, blocks: &Value, own: Option<Id>) -> Result<(), ApiError> {
    for (n, id) in design::named_subnets(blocks).into_iter().enumerate() {
        let field = || format!("ipv4.subnetAllocationStrategies[{n}].subnetId");
        let found = subnet::Entity::find_by_id(id).one(db).await?;
        let found = found.ok_or_else(|| ApiError::field(field(), format!("there is no subnet {id}")))?;
        if found.is_pool || design::net(&found).is_none() {
            return Err(ApiError::field(
                field(),
                format!("subnet {} cannot be used: it is a pool or not IPv4", found.label),
            ));
        }
        if let Some(other) = found.logical_network_id.filter(|n| Some(*n) != own) {
            return Err(ApiError::field(field(), format!("subnet {} is used by network {other}", found.label)));
        }
    }
    Ok(())
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let (found, of) = editable(&ctx, &txn).await?;
    let mut row = found.edit();
    edited(&found, &mut row);
    if let Some(label) = ctx.text("label") {
        row.label = Set(model::validate::label("label", label)?);
    }
    if let Some(name) = ctx.text("name") {
        row.name = Set(model::validate::name("name", name)?);
    }
    if let Some(annotations) = ctx.body.get("annotations").filter(|v| v.is_object()) {
        row.annotations = Set(annotations.clone());
    }
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    if let Some(of) = of {
        infrastructure::touch(&txn, &of).await?;
    }
    record(
        &ctx,
        &txn,
        "logical_network.edit",
        format!("Network {} changed", after.label),
        ("logical_network", after.id),
        json!({"before": found.label, "after": after.label}),
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let (found, of) = editable(&ctx, &txn).await?;
    let used = network_connection::Entity::find()
        .filter(network_connection::Column::LogicalNetworkId.eq(found.id))
        .all(&txn)
        .await?;
    if used.iter().any(|c| !c.design.is_null()) {
        return Err(ApiError::conflict(format!(
            "network {} is still connected to {} group(s); disconnect them first",
            found.label,
            used.len()
        )));
    }
    let taken = vlan_allocation::Entity::find()
        .filter(vlan_allocation::Column::LogicalNetworkId.eq(found.id))
        .count(&txn)
        .await?;
    let keys = pkey_allocation::Entity::find()
        .filter(pkey_allocation::Column::LogicalNetworkId.eq(found.id))
        .count(&txn)
        .await?;
    let untouched = found.service_status == ServiceStatus::Ordered.as_str() && taken + keys == 0;
    if untouched || (of.is_none() && used.is_empty()) {
        // Never deployed, or shared and on no switch any more: no deploy has anything to do.
        planning::release_network(&txn, found.id).await?;
        network::Entity::delete_by_id(found.id).exec(&txn).await?;
    } else if of.is_none() {
        return Err(ApiError::conflict(format!(
            "network {} is still on servers of {} group(s) until they are deployed; delete it then",
            found.label,
            used.len()
        )));
    } else {
        let mut row = found.edit();
        row.deploy_type = Set(DeployType::Delete.as_str().into());
        row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
        cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    }
    if let Some(of) = of {
        infrastructure::touch(&txn, &of).await?;
    }
    record(
        &ctx,
        &txn,
        "logical_network.delete",
        format!("Network {} deleted", found.label),
        ("logical_network", found.id),
        json!({"before": found.design}),
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
