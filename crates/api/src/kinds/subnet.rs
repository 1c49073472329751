//! Subnets: a tree whose pools subnets and addresses are taken from.

use ipnet::IpNet;
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use serde_json::{Value, json};
use store::{
    entity::{ip_allocation, site, subnet},
    list::ListQuery,
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    facts,
    kinds::{MAX_ROWS, edit_in, list, record, remove},
    routes,
};

routes! {
    "getSubnets" => subnets,
    "getSubnet" => one,
    "createSubnet" => create,
    "updateSubnet" => update,
    "deleteSubnet" => delete,
    "getSubnetIps" => addresses,
    "getSubnetIpRanges" => ranges,
}

fn wire(s: &subnet::Model) -> Value {
    let netmask = net(s).map(|n| n.netmask().to_string()).unwrap_or_default();
    json!({
        "id": s.id, "label": s.label, "name": s.name, "annotations": s.annotations, "createdAt": s.created_at, "updatedAt": s.updated_at, "revision": s.revision, "tags": s.tags,
        "parentSubnetId": s.parent_id, "ipVersion": s.ip_version, "networkAddress": s.network_address, "prefixLength": s.prefix_length, "netmask": netmask,
        "defaultGatewayAddress": s.gateway, "isPool": s.is_pool, "allocationDenylist": s.denylist, "childOverlapAllowRules": s.overlap_rules, "links": [],
    })
}

fn net(s: &subnet::Model) -> Option<IpNet> {
    format!("{}/{}", s.network_address, s.prefix_length).parse().ok()
}

async fn find(ctx: &Ctx) -> Result<subnet::Model, ApiError> {
    let id = ctx.id("subnetId")?;
    subnet::Entity::find_by_id(id).one(&ctx.app.db().read).await?.ok_or_else(|| ApiError::not_found("subnet", id))
}

/// Tells the sites whose machines get addresses from this subnet: those named before and after a change.
async fn tell_sites<C: sea_orm::ConnectionTrait>(
    txn: &C,
    before: Option<&subnet::Model>,
    after: Option<&subnet::Model>,
) -> Result<(), ApiError> {
    let old = before.and_then(|s| facts::dhcp_site(&s.tags));
    let new = after.and_then(|s| facts::dhcp_site(&s.tags));
    if let (Some(site_id), Some(subnet)) = (new, after) {
        facts::dhcp_pool(subnet)?;
        if site::Entity::find_by_id(site_id).one(txn).await?.is_none_or(|s| s.decommissioned) {
            return Err(ApiError::field("tags.dhcp-site", format!("there is no site {site_id}")));
        }
        facts::dhcp_pools(txn, site_id).await?;
    }
    if let Some(site_id) = old.filter(|s| Some(*s) != new) {
        facts::dhcp_pools(txn, site_id).await?;
    }
    Ok(())
}

async fn subnets(ctx: Ctx) -> Result<Reply, ApiError> {
    let alias = [("parentSubnetId", "parent_id"), ("defaultGatewayAddress", "gateway")];
    Ok(Reply::Json(
        list(
            &ctx,
            subnet::Entity::find(),
            &alias,
            &[subnet::Column::Label, subnet::Column::Name, subnet::Column::NetworkAddress],
            subnet::Column::Id,
            wire,
        )
        .await?,
    ))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let address = ctx.need_text("networkAddress")?;
    let length = ctx.need_int("prefixLength")?;
    let given: std::net::IpAddr =
        address.parse().map_err(|_| ApiError::field("networkAddress", format!("{address:?} is not an IP address")))?;
    let net = u8::try_from(length)
        .ok()
        .and_then(|l| IpNet::new(given, l).ok())
        .ok_or_else(|| ApiError::field("prefixLength", format!("{length} is no prefix length of {given}")))?;
    if net.network() != given {
        return Err(ApiError::field(
            "networkAddress",
            format!("{given} is inside the network {}; give {}", net.trunc(), net.network()),
        ));
    }
    let gateway = ctx
        .text("defaultGatewayAddress")
        .map(|g| {
            g.parse::<std::net::IpAddr>()
                .ok()
                .filter(|a| net.contains(a))
                .ok_or_else(|| ApiError::field("defaultGatewayAddress", format!("{g:?} is no address of {net}")))
        })
        .transpose()?;
    let txn = ctx.app.db().begin().await?;
    let parent_id = ctx.int("parentSubnetId");
    if let Some(id) = parent_id {
        let parent = subnet::Entity::find_by_id(id)
            .one(&txn)
            .await?
            .ok_or_else(|| ApiError::field("parentSubnetId", format!("there is no subnet {id}")))?;
        if !self::net(&parent).is_some_and(|p| p.contains(&net)) {
            return Err(ApiError::field(
                "networkAddress",
                format!("{net} is not inside its parent {}/{}", parent.network_address, parent.prefix_length),
            ));
        }
    }
    let siblings = subnet::Entity::find()
        .filter(parent_id.map_or_else(|| subnet::Column::ParentId.is_null(), |id| subnet::Column::ParentId.eq(id)))
        .all(&txn)
        .await?;
    if let Some(other) = siblings.iter().find(|s| self::net(s).is_some_and(|o| o.contains(&net) || net.contains(&o))) {
        return Err(ApiError::conflict(format!(
            "networkAddress: {net} overlaps with subnet {} ({}/{})",
            other.label, other.network_address, other.prefix_length
        )));
    }
    let label = model::validate::label(
        "label",
        ctx.text("label").unwrap_or(&format!("subnet-{}-{length}", address.replace([':', '.'], "-"))),
    )?;
    let mut row = subnet::new();
    row.name = Set(ctx.text("name").unwrap_or(&label).to_owned());
    row.label = Set(label);
    row.parent_id = Set(parent_id);
    row.ip_version = Set(if given.is_ipv4() { "ipv4" } else { "ipv6" }.into());
    row.network_address = Set(given.to_string());
    row.prefix_length = Set(length);
    row.gateway = Set(gateway.map(|g| g.to_string()));
    row.is_pool = Set(ctx.flag("isPool").unwrap_or(false));
    let or = |field: &str, fallback: Value| ctx.body.get(field).filter(|v| !v.is_null()).cloned().unwrap_or(fallback);
    row.annotations = Set(or("annotations", json!({})));
    row.tags = Set(or("tags", json!({})));
    row.denylist = Set(or("allocationDenylist", json!([])));
    row.overlap_rules = Set(or("childOverlapAllowRules", json!([])));
    let made = row.insert(&txn).await?;
    tell_sites(&txn, None, Some(&made)).await?;
    record(
        &ctx,
        &txn,
        "subnet.create",
        format!("Subnet {} ({net}) created", made.label),
        ("subnet", made.id),
        json!({}),
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let label = ctx.text("label").map(|l| model::validate::label("label", l)).transpose()?;
    let name = ctx.text("name").map(|n| model::validate::name("name", n)).transpose()?;
    let txn = ctx.app.db().begin().await?;
    let id = ctx.id("subnetId")?;
    let found = subnet::Entity::find_by_id(id).one(&txn).await?.ok_or_else(|| ApiError::not_found("subnet", id))?;
    let subject = format!("Subnet {}", found.label);
    let after = edit_in(&ctx, &txn, &found, ("subnet", &subject), "update", wire, |row| {
        if let Some(label) = label {
            row.label = Set(label);
        }
        if let Some(name) = name {
            row.name = Set(name);
        }
        for (field, column) in [
            ("annotations", &mut row.annotations),
            ("tags", &mut row.tags),
            ("allocationDenylist", &mut row.denylist),
            ("childOverlapAllowRules", &mut row.overlap_rules),
        ] {
            if let Some(value) = ctx.body.get(field).filter(|v| !v.is_null()) {
                *column = Set(value.clone());
            }
        }
    })
    .await?;
    tell_sites(&txn, Some(&found), Some(&after)).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx).await?;
    ctx.check_revision(found.revision)?;
    let txn = ctx.app.db().begin().await?;
    let children = subnet::Entity::find().filter(subnet::Column::ParentId.eq(found.id)).count(&txn).await?;
    let used = ip_allocation::Entity::find().filter(ip_allocation::Column::SubnetId.eq(found.id)).count(&txn).await?;
    if children + used > 0 {
        return Err(ApiError::conflict(format!(
            "subnet {} still has {children} subnet(s) and {used} address(es) in use",
            found.label
        )));
    }
    remove(&ctx, &txn, &found, ("subnet", &found.label), wire).await?;
    tell_sites(&txn, Some(&found), None).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

async fn addresses(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx).await?;
    let select = ip_allocation::Entity::find().filter(ip_allocation::Column::SubnetId.eq(found.id));
    let wire = |a: &ip_allocation::Model| json!({"id": a.id, "address": a.address, "subnetId": a.subnet_id, "revision": a.revision, "createdAt": a.created_at, "updatedAt": a.updated_at, "annotations": {}, "tags": {}, "label": a.address, "name": a.address});
    Ok(Reply::Json(list(&ctx, select, &[], &[ip_allocation::Column::Address], ip_allocation::Column::Id, wire).await?))
}

/// Addresses are taken one by one: no subnet has ranges.
async fn ranges(ctx: Ctx) -> Result<Reply, ApiError> {
    find(&ctx).await?;
    let query = ListQuery::parse(&ctx.query, MAX_ROWS)?;
    Ok(Reply::Json(query.body(ctx.operation.path, 0, Vec::new())))
}
