//! What becomes of servers that a plan gives back: each is erased as its cleanup policy says; one that was replaced because it is broken is
//! left alone, and nobody gets it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::{
    Id,
    job::{JobRefs, JobSpec, RetryPolicy, Target},
    order::{Order, ServerClean, ServerPower, SwitchApply},
    server::ServerStatus,
    switch::{PortIntent, PortVlans, SwitchPatch},
};
use planner::{InfrastructureFinish, Plan};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use store::{
    entity::{server, server_instance},
    list::{Revisioned, cas},
};

use super::load::{self, Loaded};
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

/// Broken servers that instances leave with this plan.
fn left(row: &server_instance::Model, plan: &Plan) -> Option<Id> {
    let server_id = row.extra["replace"]["serverId"].as_i64()?;
    let after = plan.instances.iter().find(|p| p.id == row.id)?.after.as_ref()?;
    (after.server_id != server_id).then_some(server_id)
}

/// Broken servers that instances leave with this plan, before it is recorded that they have.
pub async fn left_behind<C: ConnectionTrait>(db: &C, plan: &Plan) -> Result<BTreeSet<Id>, DbErr> {
    let ids: Vec<Id> = plan.instances.iter().map(|p| p.id).collect();
    let rows = server_instance::Entity::find().filter(server_instance::Column::Id.is_in(ids)).all(db).await?;
    Ok(rows.iter().filter_map(|row| left(row, plan)).collect())
}

/// Takes broken servers off their switch ports where the plan does not: when an earlier deploy, which did not end, has chosen the successor,
/// the plan knows of that one alone.
pub fn detach(loaded: &Loaded, plan: &Plan, jobs: &mut Vec<JobSpec>) {
    let infrastructure = &loaded.input.infrastructure;
    let mut made = Vec::new();
    for row in &loaded.instances {
        let Some(state) = load::deployed(row).filter(|d| left(row, plan) == Some(d.server_id)) else { continue };
        if row.server_id == Some(state.server_id) {
            continue;
        }
        let mut patches: BTreeMap<Id, SwitchPatch> = BTreeMap::new();
        for port in &state.ports {
            let nothing = PortIntent { vlans: Some(PortVlans::default()), ..PortIntent::default() };
            patches.entry(port.device_id).or_default().ports.insert(port.port.clone(), nothing);
        }
        for (network_device_id, patch) in patches {
            made.push(JobSpec {
                key: format!("leave/server-{}/device-{network_device_id}", state.server_id),
                function: SwitchApply::NAME.into(),
                title: format!("Take the broken server of {} off the network", row.label),
                site_id: Some(infrastructure.site_id),
                target: Target { kind: "network_device".into(), id: network_device_id, generation: 0 },
                payload: serde_json::to_value(SwitchApply { network_device_id, patch }).unwrap_or_default(),
                depends_on: Vec::new(),
                retry: RetryPolicy::default(),
                timeout_seconds: 300,
                refs: JobRefs {
                    network_device_id: Some(network_device_id),
                    infrastructure_id: Some(infrastructure.id),
                    instance_id: Some(row.id),
                    ..JobRefs::default()
                },
                can_be_skipped: true,
                requires_confirmation: false,
            });
        }
    }
    for end in jobs.iter_mut().filter(|j| j.function == InfrastructureFinish::NAME) {
        end.depends_on.extend(made.iter().map(|j| j.key.clone()));
    }
    jobs.append(&mut made);
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
