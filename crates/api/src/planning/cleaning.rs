//! What becomes of servers that a plan gives back: each is erased as its cleanup policy says; one that was replaced because it is broken is
//! left alone, and nobody gets it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::{
    Id,
    job::JobSpec,
    order::{Order, ServerClean, ServerPower},
    server::ServerStatus,
};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use store::{
    entity::server,
    list::{Revisioned, cas},
};

use crate::kinds::{server::DIRTY, server_cleanup_policy};

/// Note with a server that an instance is to be moved off: who asked, and why.
pub const REPLACED: &str = "replaced";

/// The jobs with the particulars of each cleaning, and without those that are not to be.
pub async fn apply<C: ConnectionTrait>(db: &C, mut jobs: Vec<JobSpec>) -> Result<Vec<JobSpec>, DbErr> {
    let of = |j: &JobSpec| j.refs.server_id.filter(|_| j.function == ServerClean::NAME);
    let servers: BTreeSet<Id> = jobs.iter().filter_map(of).collect();
    let broken = broken(db, &servers).await?;
    let how = server_cleanup_policy::of_servers(db, &servers).await?;
    let mut dropped: HashMap<String, Vec<String>> = HashMap::new();
    for job in &mut jobs {
        let Some(server_id) = job.refs.server_id else { continue };
        let cleans = job.function == ServerClean::NAME;
        let cleaning = how.get(&server_id).filter(|_| cleans);
        // The BMC of a broken server may be as dead as the rest: nothing must wait for it.
        let dead = broken.contains_key(&server_id) && (cleans || job.function == ServerPower::NAME);
        if dead || cleaning.is_some_and(|c| c.by_hand) {
            dropped.insert(job.key.clone(), job.depends_on.clone());
        } else if let Some(cleaning) = cleaning {
            job.payload["plan"] = serde_json::to_value(&cleaning.plan).unwrap_or_default();
        }
    }
    jobs.retain(|j| !dropped.contains_key(&j.key));
    for job in &mut jobs {
        // What waited for a job that is not there waits for what that one waited for.
        while job.depends_on.iter().any(|k| dropped.contains_key(k)) {
            let on: BTreeSet<String> = job
                .depends_on
                .iter()
                .flat_map(|k| dropped.get(k).cloned().unwrap_or_else(|| vec![k.clone()]))
                .collect();
            job.depends_on = on.into_iter().collect();
        }
    }
    Ok(jobs)
}

/// Servers among these that are to be replaced, with the reason.
pub async fn broken<C: ConnectionTrait>(db: &C, ids: &BTreeSet<Id>) -> Result<BTreeMap<Id, String>, DbErr> {
    let rows = server::Entity::find().filter(server::Column::Id.is_in(ids.iter().copied())).all(db).await?;
    Ok(rows
        .into_iter()
        .filter(|s| s.extra[REPLACED].is_object())
        .map(|s| (s.id, s.extra[REPLACED]["reason"].as_str().unwrap_or_default().to_owned()))
        .collect())
}

/// A server that was replaced is defective until a person says otherwise, and its data are still on it.
pub async fn retire<C: ConnectionTrait>(txn: &C, broken: &BTreeMap<Id, String>) -> Result<(), DbErr> {
    let rows = server::Entity::find().filter(server::Column::Id.is_in(broken.keys().copied())).all(txn).await?;
    for row in rows {
        let mut extra = row.extra.as_object().cloned().unwrap_or_default();
        let by = extra.remove(REPLACED).unwrap_or_default();
        extra.insert(DIRTY.into(), true.into());
        extra.insert("replacedFor".into(), by);
        let mut edit = row.edit();
        edit.extra = Set(Value::Object(extra));
        edit.status = Set(ServerStatus::Defective.as_str().into());
        let reason = broken.get(&row.id).map(String::as_str).unwrap_or_default();
        edit.status_reason =
            Set(Some(format!("another server took its place: {reason}; its disks were not erased").trim().to_owned()));
        edit.allocated_at = Set(None);
        cas(txn, &row, edit).await?.ok_or(DbErr::RecordNotUpdated)?;
    }
    Ok(())
}

/// Marks a server as to be replaced, or (`None`) no longer.
pub async fn mark<C: ConnectionTrait>(
    txn: &C,
    server_id: Id,
    why: Option<(Id, &str, &str)>,
) -> Result<Option<server::Model>, DbErr> {
    let Some(row) = server::Entity::find_by_id(server_id).one(txn).await? else { return Ok(None) };
    let mut extra = row.extra.as_object().cloned().unwrap_or_default();
    match why {
        Some((instance_id, reason, by)) => {
            extra.insert(REPLACED.into(), json!({"instanceId": instance_id, "reason": reason, "by": by}))
        }
        None => extra.remove(REPLACED),
    };
    let mut edit = row.edit();
    edit.extra = Set(Value::Object(extra));
    cas(txn, &row, edit).await
}
