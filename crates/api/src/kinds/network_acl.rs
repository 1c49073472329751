//! Rules about what passes between a server instance group and a logical network. They are kept with the design; switches are not given
//! them yet, which every answer to a write says in its header.

use std::net::IpAddr;

use axum::{
    http::HeaderValue,
    response::{IntoResponse, Response},
};
use ipnet::IpNet;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder};
use serde_json::{Map, Value, json};
use store::{
    entity::{network_acl as acl, network_connection, server_instance_group as group},
    list::ListQuery,
};

use crate::{
    context::{Ctx, Reply},
    contract,
    error::ApiError,
    kinds::{MAX_ROWS, edit_in, infrastructure, insert_in, remove, server_instance_group},
    routes,
};

routes! {
    "getServerInstanceGroupLogicalNetworkACL" => all,
    "getServerInstanceGroupLogicalNetworkACLById" => one,
    "createServerInstanceGroupLogicalNetworkACL" => create,
    "updateServerInstanceGroupLogicalNetworkACL" => update,
    "deleteServerInstanceGroupLogicalNetworkACL" => delete,
}

/// Rules of one connection at most: as many as the tables of common switches hold for one port.
const MOST: u64 = 256;
/// What a rule matches and does, beside its key.
const FIELDS: &[&str] = &[
    "forwardingAction",
    "networkProtocol",
    "sourceAddress",
    "destinationAddress",
    "sourcePort",
    "destinationPort",
    "sourceMac",
    "destinationMac",
    "enforcementPoint",
];

fn wire(r: &acl::Model) -> Value {
    let mut all = r.body.clone();
    for (key, value) in [
        ("id", json!(r.id.to_string())),
        ("endpointGroupId", json!(r.group_id.to_string())),
        ("logicalNetworkId", json!(r.logical_network_id.to_string())),
        ("ruleType", json!(r.rule_type)),
        ("direction", json!(r.direction)),
        ("sequence", json!(r.sequence)),
        ("createdTimestamp", json!(r.created_at)),
        ("updatedTimestamp", json!(r.updated_at)),
        ("links", json!([])),
    ] {
        all[key] = value;
    }
    all
}

/// The group and the network of a path whose connection is in the design.
async fn place<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<(group::Model, i64), ApiError> {
    let of = server_instance_group::find(ctx, db).await?;
    let network_id = ctx.id("connectionId")?;
    let connected = network_connection::Entity::find()
        .filter(network_connection::Column::GroupId.eq(of.id))
        .filter(network_connection::Column::LogicalNetworkId.eq(network_id))
        .one(db)
        .await?;
    if connected.is_none_or(|c| c.design.is_null()) {
        return Err(ApiError::not_found("connection to network", network_id));
    }
    Ok((of, network_id))
}

async fn find<C: ConnectionTrait>(ctx: &Ctx, db: &C) -> Result<(group::Model, acl::Model), ApiError> {
    let (of, network_id) = place(ctx, db).await?;
    let id = ctx.id("ruleId")?;
    let found = acl::Entity::find_by_id(id)
        .one(db)
        .await?
        .filter(|r| r.group_id == of.id && r.logical_network_id == network_id)
        .ok_or_else(|| ApiError::not_found("rule", id))?;
    Ok((of, found))
}

/// The rules of a connection, in the order in which they are looked at. The interface promises one rule here, and clients that read it so
/// find the first; the others are under `data`.
async fn all(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let (of, network_id) = place(&ctx, db).await?;
    let rows = acl::Entity::find()
        .filter(acl::Column::GroupId.eq(of.id))
        .filter(acl::Column::LogicalNetworkId.eq(network_id))
        .order_by_asc(acl::Column::RuleType)
        .order_by_asc(acl::Column::Direction)
        .order_by_asc(acl::Column::Sequence)
        .all(db)
        .await?;
    let query = ListQuery::parse(&ctx.query, MAX_ROWS.max(MOST))?;
    let data: Vec<Value> = rows.iter().map(wire).collect();
    let first = data.first().cloned().unwrap_or(Value::Null);
    let mut body = query.body(ctx.operation.path, data.len() as u64, data);
    if let (Some(body), Value::Object(first)) = (body.as_object_mut(), first) {
        body.extend(first);
    }
    // As a rule has them.
    body["links"] = json!([]);
    Ok(Reply::Json(body))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let (_, found) = find(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

/// An address or a prefix of the rule's family.
fn address(field: &str, text: &str, rule_type: &str) -> Result<(), ApiError> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let good = net.is_ok_and(|n| match rule_type {
        "ipv4" => matches!(n, IpNet::V4(_)),
        "ipv6" => matches!(n, IpNet::V6(_)),
        _ => false,
    });
    if good || (text == "any" && rule_type != "mac") {
        return Ok(());
    }
    Err(match rule_type {
        "mac" => ApiError::field(field, "a rule about hardware addresses matches no IP address"),
        _ => ApiError::field(field, format!("{text:?} is not an address or prefix of {rule_type}")),
    })
}

/// A port, a range of ports, or `any`.
fn port(field: &str, text: &str, protocol: &str) -> Result<(), ApiError> {
    if !matches!(protocol, "tcp" | "udp" | "sctp") {
        return Err(ApiError::field(field, "needs networkProtocol tcp, udp or sctp: others have no ports"));
    }
    let number = |t: &str| t.trim().parse::<u16>().ok().filter(|p| *p > 0);
    let good = match text.split_once('-') {
        Some((low, high)) => number(low).zip(number(high)).is_some_and(|(l, h)| l <= h),
        None => text == "any" || number(text).is_some(),
    };
    if good {
        Ok(())
    } else {
        Err(ApiError::field(field, format!("{text:?} is not a port, a range like 80-90, or any")))
    }
}

/// The body over a rule: what it matches must make sense together.
fn read(ctx: &Ctx, rule_type: &str, before: &Value) -> Result<Value, ApiError> {
    let mut body: Map<String, Value> = before.as_object().cloned().unwrap_or_default();
    for field in FIELDS {
        match ctx.body.get(*field) {
            Some(Value::Null) => _ = body.remove(*field),
            Some(Value::String(text)) if text.trim().is_empty() => _ = body.remove(*field),
            Some(value) => _ = body.insert((*field).to_owned(), value.clone()),
            None => {}
        }
    }
    let text = |field: &str| body.get(field).and_then(Value::as_str);
    let protocol = text("networkProtocol").unwrap_or_default().to_ascii_lowercase();
    let known = ["", "any", "tcp", "udp", "sctp", "icmp", "icmpv6", "esp", "ah", "gre", "ospf", "vrrp"];
    if !known.contains(&protocol.as_str()) && protocol.parse::<u8>().is_err() {
        return Err(ApiError::field(
            "networkProtocol",
            format!("{protocol:?} is neither a protocol number nor one of: {}", known[1..].join(", ")),
        ));
    }
    for field in ["sourceAddress", "destinationAddress"] {
        if let Some(value) = text(field) {
            address(field, value, rule_type)?;
        }
    }
    for field in ["sourcePort", "destinationPort"] {
        if let Some(value) = text(field) {
            port(field, value, &protocol)?;
        }
    }
    for field in ["sourceMac", "destinationMac"] {
        match text(field) {
            Some(_) if rule_type != "mac" => {
                return Err(ApiError::field(field, format!("a rule of {rule_type} matches no hardware address")));
            }
            Some("any") | None => {}
            Some(value) => _ = model::validate::mac(field, value)?,
        }
    }
    Ok(Value::Object(body))
}

/// Two rules of one place in the order would leave it open which counts.
async fn refuse_twin<C: ConnectionTrait>(db: &C, row: (i64, i64, &str, &str, i64), but: i64) -> Result<(), ApiError> {
    let (group_id, network_id, rule_type, direction, sequence) = row;
    let twin = acl::Entity::find()
        .filter(acl::Column::GroupId.eq(group_id))
        .filter(acl::Column::LogicalNetworkId.eq(network_id))
        .filter(acl::Column::RuleType.eq(rule_type))
        .filter(acl::Column::Direction.eq(direction))
        .filter(acl::Column::Sequence.eq(sequence))
        .filter(acl::Column::Id.ne(but))
        .one(db)
        .await?;
    match twin {
        Some(other) => Err(ApiError::conflict(format!(
            "sequence: rule {} of {rule_type}, {direction}, has the sequence {sequence} already",
            other.id
        ))),
        None => Ok(()),
    }
}

fn sequence(ctx: &Ctx) -> Result<Option<i64>, ApiError> {
    match ctx.int("sequence") {
        Some(n) if !(1..=65_535).contains(&n) => {
            Err(ApiError::field("sequence", format!("{n} is not between 1 and 65535")))
        }
        other => Ok(other),
    }
}

/// The answer to a write: it says that the rule is kept and not enforced yet.
fn kept(ctx: &Ctx, rule: &acl::Model) -> Response {
    let mut body = wire(rule);
    if let Some(schema) = ctx.operation.response {
        contract::complete(schema, &mut body);
    }
    let status = axum::http::StatusCode::from_u16(ctx.operation.status).unwrap_or_default();
    let mut response = (status, axum::Json(body)).into_response();
    let words =
        HeaderValue::from_static("199 - \"the rule is kept with the design; switches are not given rules yet\"");
    response.headers_mut().insert("warning", words);
    response
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let sequence = sequence(&ctx)?.ok_or_else(|| ApiError::field("sequence", "is required"))?;
    let (rule_type, direction) = (ctx.need_text("ruleType")?.to_owned(), ctx.need_text("direction")?.to_owned());
    let body = read(&ctx, &rule_type, &json!({}))?;
    let txn = ctx.app.db().begin().await?;
    let (of, network_id) = place(&ctx, &txn).await?;
    let design = infrastructure::find_editable(&ctx, &txn, of.infrastructure_id).await?;
    refuse_twin(&txn, (of.id, network_id, &rule_type, &direction, sequence), 0).await?;
    let count = acl::Entity::find()
        .filter(acl::Column::GroupId.eq(of.id))
        .filter(acl::Column::LogicalNetworkId.eq(network_id))
        .count(&txn)
        .await?;
    if count >= MOST {
        return Err(ApiError::conflict(format!(
            "the connection has {count} rules, which is the most; delete some first"
        )));
    }
    let mut row = acl::new();
    use sea_orm::ActiveValue::Set;
    row.group_id = Set(of.id);
    row.logical_network_id = Set(network_id);
    row.rule_type = Set(rule_type);
    row.direction = Set(direction);
    row.sequence = Set(sequence);
    row.body = Set(body);
    let name = format!("{sequence} of group {} and network {network_id}", of.label);
    let made = insert_in(&ctx, &txn, row, "network_acl", &name, wire).await?;
    infrastructure::touch(&txn, &design).await?;
    txn.commit().await?;
    Ok(Reply::Raw(kept(&ctx, &made)))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let (of, found) = find(&ctx, &txn).await?;
    let design = infrastructure::find_editable(&ctx, &txn, of.infrastructure_id).await?;
    let sequence = sequence(&ctx)?.unwrap_or(found.sequence);
    let rule_type = ctx.text("ruleType").unwrap_or(&found.rule_type).to_owned();
    let direction = ctx.text("direction").unwrap_or(&found.direction).to_owned();
    let body = read(&ctx, &rule_type, &found.body)?;
    refuse_twin(&txn, (of.id, found.logical_network_id, &rule_type, &direction, sequence), found.id).await?;
    let name = format!("Rule {} of group {}", found.sequence, of.label);
    let after = edit_in(&ctx, &txn, &found, ("network_acl", &name), "update", wire, |row| {
        use sea_orm::ActiveValue::Set;
        row.rule_type = Set(rule_type);
        row.direction = Set(direction);
        row.sequence = Set(sequence);
        row.body = Set(body);
    })
    .await?;
    infrastructure::touch(&txn, &design).await?;
    txn.commit().await?;
    Ok(Reply::Raw(kept(&ctx, &after)))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let (of, found) = find(&ctx, &txn).await?;
    let design = infrastructure::find_editable(&ctx, &txn, of.infrastructure_id).await?;
    let name = format!("{} of group {}", found.sequence, of.label);
    remove(&ctx, &txn, &found, ("network_acl", &name), wire).await?;
    infrastructure::touch(&txn, &design).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
