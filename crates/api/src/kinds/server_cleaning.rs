//! Servers that came back with somebody's data on their disks are erased before anybody else gets them.

use std::collections::{BTreeMap, BTreeSet};

use engine::NewGroup;
use model::{
    Id,
    job::{JobRefs, JobSpec, RetryPolicy, Target},
    order::{Order, ServerClean},
    secret::{Clear, Sealed},
    server::{By, ServerStatus},
};
use sea_orm::ActiveValue::Set;
use serde_json::{Value, json};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    facts,
    kinds::{
        server::{change, find_locked, refuse_used},
        server_cleanup_policy,
        server_entry::remember,
    },
    routes,
};

routes! {
    "cleanServer" => clean,
}

/// Type of the job group of a cleaning that a person asked for.
pub const GROUP: &str = "server_clean";

/// Overwriting a large hard disk takes days. An agent that falls silent is noticed within minutes all the same.
const TIMEOUT: u32 = 4 * 24 * 3600;

/// Words from the labels of self-encrypting disks, by serial number, sealed for the site.
fn psids(ctx: &Ctx, site_id: Id) -> Result<BTreeMap<String, Sealed>, ApiError> {
    let sealer = ctx.app.sealer().for_site(site_id);
    let mut all = BTreeMap::new();
    for (serial, word) in ctx.body.get("drivePsids").and_then(Value::as_object).into_iter().flatten() {
        // Labels print it in groups.
        let word: String =
            word.as_str().unwrap_or_default().chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
        if serial.trim().is_empty() || word.len() != 32 || !word.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(ApiError::field(
                "drivePsids",
                format!("disk {serial:?}: the PSID on its label has 32 letters and digits"),
            ));
        }
        all.insert(
            serial.trim().to_owned(),
            sealer
                .seal(&Clear(word.to_uppercase()))
                .map_err(|e| ApiError::field("drivePsids", format!("cannot be sealed: {e}")))?,
        );
    }
    Ok(all)
}

/// Erases the disks of a server that waits for it, as its cleanup policy says; then it is available again.
async fn clean(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find_locked(&ctx, &txn).await?;
    refuse_used(&txn, &found, "cleaned").await?;
    let now = ServerStatus::parse(&found.status);
    if !now.is_some_and(|s| s != ServerStatus::Cleaning && s.may_become(ServerStatus::Cleaning, By::Anyone)) {
        return Err(ApiError::conflict(format!(
            "a server that is {} is not cleaned; only one that is cleaning_required is",
            found.status
        )));
    }
    let name = facts::server_name(&found);
    let title = format!("Erase the disks of server {name}");
    let ids = BTreeSet::from([found.id]);
    let mut how = server_cleanup_policy::of_servers(&txn, &ids).await?.remove(&found.id).unwrap_or_default();
    how.plan.psids = psids(&ctx, found.site_id)?;
    let after = change(&ctx, &txn, &found, "clean", |row| {
        row.status = Set(ServerStatus::Cleaning.as_str().into());
        row.status_reason = Set(None);
    })
    .await?;
    let job = JobSpec {
        key: "clean".into(),
        function: ServerClean::NAME.into(),
        title: title.clone(),
        site_id: Some(after.site_id),
        target: Target { kind: "server".into(), id: after.id, generation: 0 },
        payload: serde_json::to_value(ServerClean { server_id: after.id, plan: how.plan })?,
        depends_on: Vec::new(),
        retry: RetryPolicy { max: 2, min_seconds: 10, max_seconds: 60 },
        timeout_seconds: TIMEOUT,
        refs: JobRefs { server_id: Some(after.id), ..Default::default() },
        // Passing it over would hand somebody's data to somebody else.
        can_be_skipped: false,
        requires_confirmation: false,
    };
    let group = NewGroup {
        kind: GROUP.into(),
        description: title,
        params: json!({"serverId": after.id}),
        server_id: Some(after.id),
        site_id: Some(after.site_id),
        ..Default::default()
    };
    let created = ctx.app.engine().create_group(&txn, group, vec![job]).await?;
    let info = json!({"jobGroupId": created.group_id, "jobId": created.job_ids.get("clean")});
    remember(&txn, after, &info).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    Ok(Reply::Json(info))
}
