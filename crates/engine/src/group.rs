//! Groups: made from planned jobs, or accepted from the Global Controller.

use std::collections::{BTreeMap, HashMap};

use model::{
    Id,
    job::{JobSpec, JobStatus},
    order::{OrderBook, OrderedJob},
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    QuerySelect,
};
use serde_json::Value;
use store::time;

use crate::{
    Engine, EngineError,
    entity::{job, job_dependency, job_group, object_generation},
};

/// The kind of object whose orders are all numbered.
const NUMBERED: &str = "server";
/// The number of orders for a server that no deploy has taken yet.
const BEFORE_DEPLOYS: i64 = -1;

/// A group to be made.
#[derive(Clone, Debug, Default)]
pub struct NewGroup {
    /// Type, `infrastructure_deploy`.
    pub kind: String,
    /// For people.
    pub description: String,
    /// Parameters, never a secret.
    pub params: Value,
    /// Infrastructure.
    pub infrastructure_id: Option<Id>,
    /// Server.
    pub server_id: Option<Id>,
    /// Network device.
    pub network_device_id: Option<Id>,
    /// Site.
    pub site_id: Option<Id>,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Created {
    /// The group.
    pub group_id: Id,
    /// Ids of its jobs, by key.
    pub job_ids: BTreeMap<String, Id>,
}

impl Engine {
    /// Writes a group and its jobs, and hands the site parts to their sites, all in the caller's transaction. Call [`Engine::wake`] after the commit.
    pub async fn create_group(
        &self,
        txn: &DatabaseTransaction,
        group: NewGroup,
        jobs: Vec<JobSpec>,
    ) -> Result<Created, EngineError> {
        check(&jobs)?;
        let mut jobs = jobs;
        for spec in &mut jobs {
            Self::number(txn, spec).await?;
        }
        let row = job_group::ActiveModel {
            kind: Set(group.kind.clone()),
            description: Set(group.description.clone()),
            created_at: Set(time::now()),
            finished_at: Set(jobs.is_empty().then(time::now)),
            params: Set(group.params),
            archived: Set(false),
            told: Set(!jobs.is_empty() || self.inner.listener.get().is_none()),
            infrastructure_id: Set(group.infrastructure_id),
            server_id: Set(group.server_id),
            network_device_id: Set(group.network_device_id),
            site_id: Set(group.site_id),
            cancel_reason: Set(None),
            ..Default::default()
        }
        .insert(txn)
        .await?;
        let mut job_ids = BTreeMap::new();
        for spec in &jobs {
            let id = self.insert_job(txn, row.id, None, spec, spec.depends_on.len()).await?;
            job_ids.insert(spec.key.clone(), id);
        }
        Self::insert_dependencies(
            txn,
            jobs.iter()
                .map(|j| (job_ids[&j.key], j.depends_on.iter().filter_map(|k| job_ids.get(k).copied()).collect())),
        )
        .await?;
        let mut books: BTreeMap<Id, Vec<OrderedJob>> = BTreeMap::new();
        let site_of: HashMap<&str, Option<Id>> = jobs.iter().map(|j| (j.key.as_str(), j.site_id)).collect();
        for spec in jobs.iter().filter(|j| j.site_id != self.inner.config.owner) {
            let Some(site) = spec.site_id else { continue };
            if let Some(other) = spec.depends_on.iter().find(|k| site_of.get(k.as_str()) != Some(&Some(site))) {
                return Err(EngineError::BadGroup(format!(
                    "job {} of site {site} waits for {other}, which runs elsewhere",
                    spec.key
                )));
            }
            books.entry(site).or_default().push(OrderedJob { id: job_ids[&spec.key], spec: spec.clone() });
        }
        for (site, jobs) in books {
            let book = OrderBook {
                group_id: row.id,
                group_type: group.kind.clone(),
                description: group.description.clone(),
                jobs,
            };
            match &self.inner.dispatcher {
                Some(d) => d.orders(txn, site, book).await?,
                None => return Err(EngineError::BadGroup(format!("no way to reach site {site}"))),
            }
        }
        Ok(Created { group_id: row.id, job_ids })
    }

    /// The site's end: takes a book over, with the ids that it has. Taking it twice changes nothing.
    pub async fn accept_book(&self, book: OrderBook) -> Result<(), EngineError> {
        let txn = self.inner.db.begin().await?;
        let ids: Vec<Id> = book.jobs.iter().map(|j| j.id).collect();
        let mut known: Vec<Id> = Vec::new();
        for chunk in ids.chunks(500) {
            known.extend(
                job::Entity::find()
                    .select_only()
                    .column(job::Column::Id)
                    .filter(job::Column::Id.is_in(chunk.to_vec()))
                    .into_tuple::<i64>()
                    .all(&txn)
                    .await?,
            );
        }
        let group = job_group::Entity::find_by_id(book.group_id).lock_exclusive().one(&txn).await?;
        if group.is_none() {
            let group = job_group::ActiveModel {
                id: Set(book.group_id),
                kind: Set(book.group_type),
                description: Set(book.description),
                created_at: Set(time::now()),
                finished_at: Set(None),
                params: Set(Value::Null),
                archived: Set(false),
                told: Set(true),
                infrastructure_id: Set(None),
                server_id: Set(None),
                network_device_id: Set(None),
                site_id: Set(self.inner.config.owner),
                cancel_reason: Set(None),
            };
            job_group::Entity::insert(group).exec_without_returning(&txn).await?;
        } else if known.len() < ids.len() {
            Self::reopen_group(&txn, book.group_id).await?;
        }
        let by_key: HashMap<&str, Id> = book.jobs.iter().map(|j| (j.spec.key.as_str(), j.id)).collect();
        let mut refused = Vec::new();
        for OrderedJob { id, spec } in book.jobs.iter().filter(|j| !known.contains(&j.id)) {
            let blocked = spec.depends_on.iter().filter(|k| by_key.contains_key(k.as_str())).count();
            self.insert_job(&txn, book.group_id, Some(*id), spec, blocked).await?;
            if let Err(stale) = Self::fence(&txn, spec).await {
                refused.push((*id, stale.to_string()));
            }
        }
        let fresh = book.jobs.iter().filter(|j| !known.contains(&j.id));
        Self::insert_dependencies(
            &txn,
            fresh.map(|j| (j.id, j.spec.depends_on.iter().filter_map(|k| by_key.get(k.as_str()).copied()).collect())),
        )
        .await?;
        let mut told = Vec::new();
        for (id, why) in refused {
            if let Some(before) = job::Entity::find_by_id(id).one(&txn).await? {
                let mut row: job::ActiveModel = before.clone().into();
                row.error = Set(Some(why));
                told.push(self.change(&txn, &before, row, JobStatus::ThrownError).await?);
            }
        }
        txn.commit().await?;
        for job in &told {
            self.told(job);
        }
        self.wake();
        Ok(())
    }

    /// Deploys number their orders for a server. An order of a person takes the number of the newest of them, so that whatever is ordered
    /// later makes it void, however long it waits to be tried again: the server may serve somebody else by then.
    async fn number(txn: &DatabaseTransaction, spec: &mut JobSpec) -> Result<(), EngineError> {
        let target = &mut spec.target;
        if target.kind != NUMBERED {
            return Ok(());
        }
        if target.generation == 0 {
            let key = (target.kind.clone(), target.id);
            let newest = object_generation::Entity::find_by_id(key).one(txn).await?;
            target.generation = newest.map_or(BEFORE_DEPLOYS, |g| g.generation);
            return Ok(());
        }
        // One that is older than the newest is refused where it would be carried out.
        match Self::fence(txn, spec).await {
            Ok(()) | Err(EngineError::Stale { .. }) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// Refuses an order that is older than one already taken for the same object.
    async fn fence(txn: &DatabaseTransaction, spec: &JobSpec) -> Result<(), EngineError> {
        let target = &spec.target;
        if target.generation == 0 {
            return Ok(());
        }
        let found =
            object_generation::Entity::find_by_id((target.kind.clone(), target.id)).lock_exclusive().one(txn).await?;
        match found {
            Some(g) if g.generation > target.generation => Err(EngineError::Stale {
                kind: target.kind.clone(),
                id: target.id,
                given: target.generation,
                known: g.generation,
            }),
            Some(g) if g.generation == target.generation => Ok(()),
            Some(g) => {
                let mut row: object_generation::ActiveModel = g.into();
                row.generation = Set(target.generation);
                row.update(txn).await?;
                Ok(())
            }
            None => {
                let row = object_generation::ActiveModel {
                    kind: Set(target.kind.clone()),
                    object_id: Set(target.id),
                    generation: Set(target.generation),
                };
                object_generation::Entity::insert(row).exec_without_returning(txn).await?;
                Ok(())
            }
        }
    }

    /// Whether newer orders for the same object were taken since this job was.
    pub(crate) async fn superseded(&self, job: &job::Model) -> Result<bool, sea_orm::DbErr> {
        Self::superseded_in(&self.inner.db.write, job).await
    }

    pub(crate) async fn superseded_in<C: ConnectionTrait>(db: &C, job: &job::Model) -> Result<bool, sea_orm::DbErr> {
        let key = (job.target_kind.clone(), job.target_id);
        let found = object_generation::Entity::find_by_id(key).one(db).await?;
        Ok(job.generation != 0 && found.is_some_and(|g| g.generation > job.generation))
    }

    async fn insert_job<C: ConnectionTrait>(
        &self,
        txn: &C,
        group_id: Id,
        id: Option<Id>,
        spec: &JobSpec,
        blocked_by: usize,
    ) -> Result<Id, EngineError> {
        let now = time::now();
        let mut row = job::ActiveModel {
            group_id: Set(group_id),
            key: Set(spec.key.clone()),
            function: Set(spec.function.clone()),
            title: Set(spec.title.clone()),
            site_id: Set(spec.site_id),
            target_kind: Set(spec.target.kind.clone()),
            target_id: Set(spec.target.id),
            generation: Set(spec.target.generation),
            payload: Set(spec.payload.clone()),
            status: Set(JobStatus::NotCalled.as_str().to_owned()),
            sequence: Set(0),
            blocked_by: Set(i32::try_from(blocked_by).unwrap_or(i32::MAX)),
            due_at: Set(now.clone()),
            call_count: Set(0),
            retry_count: Set(0),
            retry_max: Set(spec.retry.max as i32),
            retry_min_seconds: Set(spec.retry.min_seconds as i32),
            retry_max_seconds: Set(spec.retry.max_seconds as i32),
            timeout_seconds: Set(spec.timeout_seconds as i32),
            can_be_skipped: Set(spec.can_be_skipped),
            requires_confirmation: Set(spec.requires_confirmation),
            mark: Set(String::new()),
            percent: Set(0),
            message: Set(spec.requires_confirmation.then(|| "waits for an operator's confirmation".to_owned())),
            error: Set(None),
            response: Set(Value::Null),
            created_at: Set(now.clone()),
            updated_at: Set(now),
            started_at: Set(None),
            finished_at: Set(None),
            server_id: Set(spec.refs.server_id),
            instance_id: Set(spec.refs.instance_id),
            network_device_id: Set(spec.refs.network_device_id),
            infrastructure_id: Set(spec.refs.infrastructure_id),
            archived: Set(false),
            told: Set(true),
            ..Default::default()
        };
        match id {
            Some(id) => {
                row.id = Set(id);
                job::Entity::insert(row).exec_without_returning(txn).await?;
                Ok(id)
            }
            None => Ok(row.insert(txn).await?.id),
        }
    }

    async fn insert_dependencies<C: ConnectionTrait>(
        txn: &C,
        pairs: impl Iterator<Item = (Id, Vec<Id>)>,
    ) -> Result<(), EngineError> {
        let rows: Vec<job_dependency::ActiveModel> = pairs
            .flat_map(|(job, on)| {
                on.into_iter().map(move |d| job_dependency::ActiveModel { job_id: Set(job), depends_on: Set(d) })
            })
            .collect();
        for chunk in rows.chunks(400) {
            job_dependency::Entity::insert_many(chunk.to_vec()).exec_without_returning(txn).await?;
        }
        Ok(())
    }
}

/// The jobs of a group have distinct keys, know each other, and wait in no circle (Kahn's algorithm).
fn check(jobs: &[JobSpec]) -> Result<(), EngineError> {
    let mut waiting: HashMap<&str, usize> = HashMap::new();
    for j in jobs {
        let mut on = j.depends_on.clone();
        on.sort_unstable();
        on.dedup();
        if on.len() != j.depends_on.len() {
            return Err(EngineError::BadGroup(format!("job {} names a dependency twice", j.key)));
        }
        if waiting.insert(&j.key, j.depends_on.len()).is_some() {
            return Err(EngineError::BadGroup(format!("two jobs are called {}", j.key)));
        }
    }
    let mut dependants: HashMap<&str, Vec<&str>> = HashMap::new();
    for j in jobs {
        for on in &j.depends_on {
            if !waiting.contains_key(on.as_str()) {
                return Err(EngineError::BadGroup(format!("job {} waits for {on}, which is not in the group", j.key)));
            }
            dependants.entry(on).or_default().push(&j.key);
        }
    }
    let mut ready: Vec<&str> = waiting.iter().filter(|(_, n)| **n == 0).map(|(k, _)| *k).collect();
    let mut seen = 0;
    while let Some(key) = ready.pop() {
        seen += 1;
        for d in dependants.get(key).into_iter().flatten() {
            if let Some(n) = waiting.get_mut(d) {
                *n -= 1;
                if *n == 0 {
                    ready.push(d);
                }
            }
        }
    }
    if seen == jobs.len() {
        Ok(())
    } else {
        Err(EngineError::BadGroup("the jobs wait for each other in a circle".into()))
    }
}
