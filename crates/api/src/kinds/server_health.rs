//! The health of servers' hardware, as sites and their BMCs tell it.

use model::{
    Id,
    health::{HardwareEvent, HealthState, Problem, ServerHealth},
};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QuerySelect, sea_query::Expr};
use serde_json::{Value, json};
use store::{entity::server, time};

use super::firmware_record::tell;
use crate::{App, error::ApiError, facts};

/// Words of a BMC that are kept of one message.
const MESSAGE: usize = 500;

fn severity(state: HealthState) -> &'static str {
    match state {
        HealthState::Ok => "success",
        HealthState::Critical => "important",
        HealthState::Warning => "warning",
        HealthState::Unknown => "info",
    }
}

/// The parts that are not well, in one line.
fn line(problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("{} is {}", p.part, p.health.as_str())).collect::<Vec<_>>().join("; ")
}

/// The server, kept from changing, where it is one of that site.
async fn of_site(txn: &DatabaseTransaction, site_id: Option<Id>, id: Id) -> Result<Option<server::Model>, ApiError> {
    let found = server::Entity::find_by_id(id).lock_exclusive().one(txn).await?;
    Ok(found.filter(|s| site_id.is_none_or(|site| site == s.site_id)))
}

/// How a server is now, and an event when that has changed. The revision stays: it is nobody's edit.
pub async fn heard(app: &App, site_id: Option<Id>, server_id: Id, now: &ServerHealth) -> Result<(), ApiError> {
    let txn = app.db().begin().await?;
    let Some(of) = of_site(&txn, site_id, server_id).await? else { return Ok(()) };
    let before = of.health.as_deref().map_or(HealthState::Unknown, HealthState::parse);
    let parts = json!(now.problems);
    let same = before == now.state && of.health_parts.as_ref().unwrap_or(&Value::Null) == &parts;
    let mut update = server::Entity::update_many()
        .col_expr(server::Column::HealthAt, Expr::value(time::now()))
        .filter(server::Column::Id.eq(server_id));
    if !same {
        update = update
            .col_expr(server::Column::Health, Expr::value(now.state.as_str()))
            .col_expr(server::Column::HealthParts, Expr::value(parts));
    }
    update.exec(&txn).await?;
    // The first word that all is well is no news, nor that a BMC says nothing of it.
    let quiet = now.state == HealthState::Unknown || (before == HealthState::Unknown && now.state == HealthState::Ok);
    if !same && !quiet {
        let name = facts::server_name(&of);
        let title = if before == now.state {
            format!("Health of server {name}: {}, by other parts than before", now.state.as_str())
        } else {
            format!("Health of server {name}: {} (was {})", now.state.as_str(), before.as_str())
        };
        tell(&txn, &of, "server.health", severity(now.state), title, line(&now.problems)).await?;
    }
    txn.commit().await?;
    Ok(())
}

/// What a BMC told of its own accord, as one event.
pub async fn log(
    app: &App,
    site_id: Id,
    server_id: Id,
    entries: &[HardwareEvent],
    dropped: u64,
) -> Result<(), ApiError> {
    let Some(worst) = entries.iter().max_by_key(|e| e.severity) else { return Ok(()) };
    let txn = app.db().begin().await?;
    let Some(of) = of_site(&txn, Some(site_id), server_id).await? else { return Ok(()) };
    let short = |e: &HardwareEvent| e.message.chars().take(MESSAGE).collect::<String>();
    let mut lines: Vec<String> = entries
        .iter()
        .map(|e| {
            let id = e.message_id.as_ref().map(|id| format!(" ({id})")).unwrap_or_default();
            format!("{}: {}{id}", e.severity.as_str(), short(e))
        })
        .collect();
    if dropped > 0 {
        lines.push(format!("and {dropped} more, which are in the log of the hardware"));
    }
    let title = format!("Server {}: {}", facts::server_name(&of), short(worst));
    tell(&txn, &of, "server.hardware_log", severity(worst.severity), title, lines.join("\n")).await?;
    txn.commit().await?;
    Ok(())
}

/// Health in wire form: a word, since when it is known, and the parts that make it so.
pub(super) fn wire(s: &server::Model) -> Value {
    json!({
        "health": s.health.as_deref().unwrap_or("unknown"), "healthTimestamp": s.health_at,
        "healthProblems": s.health_parts.clone().unwrap_or_else(|| json!([])),
    })
}
