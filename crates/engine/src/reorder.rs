//! Orders again what a site has lost with its database.

use std::collections::{BTreeMap, HashMap};

use model::{
    Id,
    job::{JobRefs, JobSpec, JobStatus, RetryPolicy, Target},
    order::{OrderBook, OrderedJob},
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, sea_query::Expr};

use crate::{
    Engine, EngineError,
    entity::{job, job_dependency, job_group},
};

impl Engine {
    /// A site began anew and knows nothing: every job of it that has not ended well is ordered again, under its old id. Dependencies
    /// that are met stay met. Returns how many jobs there were.
    pub async fn reorder(&self, site_id: Id) -> Result<usize, EngineError> {
        let Some(dispatcher) = &self.inner.dispatcher else { return Ok(0) };
        let txn = self.inner.db.begin().await?;
        let open: Vec<job::Model> = job::Entity::find()
            .filter(job::Column::SiteId.eq(site_id))
            .filter(job::Column::Status.is_not_in([JobStatus::ReturnedSuccess.as_str(), JobStatus::Skipped.as_str()]))
            .order_by_asc(job::Column::Id)
            .all(&txn)
            .await?;
        let keys: HashMap<Id, &str> = open.iter().map(|j| (j.id, j.key.as_str())).collect();
        let mut waits: HashMap<Id, Vec<String>> = HashMap::new();
        let mut groups: HashMap<Id, job_group::Model> = HashMap::new();
        for chunk in open.chunks(500) {
            let ids: Vec<Id> = chunk.iter().map(|j| j.id).collect();
            for d in job_dependency::Entity::find()
                .filter(job_dependency::Column::JobId.is_in(ids.clone()))
                .all(&txn)
                .await?
            {
                if let Some(key) = keys.get(&d.depends_on) {
                    waits.entry(d.job_id).or_default().push((*key).to_owned());
                }
            }
            let of: Vec<Id> = chunk.iter().map(|j| j.group_id).collect();
            let found = job_group::Entity::find().filter(job_group::Column::Id.is_in(of)).all(&txn).await?;
            groups.extend(found.into_iter().map(|g| (g.id, g)));
            // The site counts from the start.
            job::Entity::update_many()
                .col_expr(job::Column::Sequence, Expr::value(0))
                .col_expr(job::Column::Status, Expr::value(JobStatus::NotCalled.as_str()))
                .filter(job::Column::Id.is_in(ids))
                .exec(&txn)
                .await?;
        }
        let count = open.len();
        let mut books: BTreeMap<Id, Vec<OrderedJob>> = BTreeMap::new();
        for j in open {
            // A cancelled group is over, whatever its jobs say.
            if groups.get(&j.group_id).is_none_or(|g| g.cancel_reason.is_some()) {
                continue;
            }
            let depends_on = waits.remove(&j.id).unwrap_or_default();
            books.entry(j.group_id).or_default().push(OrderedJob { id: j.id, spec: spec(j, depends_on) });
        }
        for (group_id, jobs) in books {
            let Some(group) = groups.get(&group_id) else { continue };
            let book =
                OrderBook { group_id, group_type: group.kind.clone(), description: group.description.clone(), jobs };
            dispatcher.orders(&txn, site_id, book).await?;
        }
        txn.commit().await?;
        self.wake();
        Ok(count)
    }
}

fn spec(j: job::Model, depends_on: Vec<String>) -> JobSpec {
    JobSpec {
        key: j.key,
        function: j.function,
        title: j.title,
        site_id: j.site_id,
        target: Target { kind: j.target_kind, id: j.target_id, generation: j.generation },
        payload: j.payload,
        depends_on,
        retry: RetryPolicy {
            max: u32::try_from(j.retry_max).unwrap_or(0),
            min_seconds: u32::try_from(j.retry_min_seconds).unwrap_or(1),
            max_seconds: u32::try_from(j.retry_max_seconds).unwrap_or(60),
        },
        timeout_seconds: u32::try_from(j.timeout_seconds).unwrap_or(60),
        refs: JobRefs {
            server_id: j.server_id,
            instance_id: j.instance_id,
            network_device_id: j.network_device_id,
            infrastructure_id: j.infrastructure_id,
        },
        can_be_skipped: j.can_be_skipped,
        requires_confirmation: j.requires_confirmation,
    }
}
