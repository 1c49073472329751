//! A database, an engine on it, and a function that does what its payload says.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use engine::{
    Created, Engine, EngineConfig, JobContext, JobError, JobFunction, MIGRATIONS, NewGroup, Outcome,
    entity::{job, job_group},
};
use model::job::{JobRefs, JobSpec, JobStatus, RetryPolicy, Target};
use sea_orm::EntityTrait;
use serde_json::{Value, json};
use store::Database;
use tokio_util::sync::CancellationToken;

/// Fails as often as its payload says, waits, hangs or panics, and keeps a log of who came to an end.
#[derive(Default, Clone)]
pub struct Step {
    pub log: Arc<Mutex<Vec<String>>>,
    failures: Arc<Mutex<HashMap<String, u64>>>,
}

impl Step {
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

#[async_trait]
impl JobFunction for Step {
    fn name(&self) -> &'static str {
        "test.step"
    }
    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let payload = ctx.job.payload.clone();
        if payload["hang"] == true {
            ctx.progress(50, "hanging");
            std::future::pending::<()>().await;
        }
        if let Some(key) = payload["wait_for"].as_str()
            && !self.log().iter().any(|k| k == key)
        {
            return Ok(Outcome::Wait { reason: format!("waits for {key}"), after: Duration::from_millis(10) });
        }
        {
            let mut failures = self.failures.lock().unwrap();
            let seen = failures.entry(ctx.job.key.clone()).or_insert(0);
            if *seen < payload["fail"].as_u64().unwrap_or(0) {
                *seen += 1;
                return Err(JobError { message: format!("failure {seen}"), retryable: payload["fatal"] != true });
            }
        }
        assert!(payload["panic"] != true, "told to");
        self.log.lock().unwrap().push(ctx.job.key.clone());
        Ok(Outcome::Done(json!({"key": ctx.job.key})))
    }
}

pub fn spec(key: &str, on: &[&str], payload: Value) -> JobSpec {
    JobSpec {
        key: key.into(),
        function: "test.step".into(),
        title: key.into(),
        site_id: None,
        target: Target { kind: "server".into(), id: 1, generation: 0 },
        payload,
        depends_on: on.iter().map(|k| (*k).to_owned()).collect(),
        retry: RetryPolicy { max: 2, min_seconds: 0, max_seconds: 0 },
        timeout_seconds: 30,
        refs: JobRefs::default(),
        can_be_skipped: true,
        requires_confirmation: false,
    }
}

/// Until the condition gives something, or 20 s have passed.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

pub async fn memory() -> Database {
    let db = Database::open("sqlite::memory:").await.unwrap();
    db.migrate("engine", MIGRATIONS).await.unwrap();
    db
}

pub struct Rig {
    pub engine: Engine,
    pub step: Step,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

pub fn start(db: &Database, step: Step) -> Rig {
    start_with(Engine::new(db.clone(), vec![Arc::new(step.clone())], EngineConfig::default(), None, None), step)
}

pub fn start_with(engine: Engine, step: Step) -> Rig {
    let stop = CancellationToken::new();
    let (e, s) = (engine.clone(), stop.clone());
    Rig { engine, step, stop, task: tokio::spawn(async move { e.run(s).await.unwrap() }) }
}

pub async fn create(engine: &Engine, jobs: Vec<JobSpec>) -> Created {
    let txn = engine.database().begin().await.unwrap();
    let made = engine.create_group(&txn, NewGroup { kind: "test".into(), ..Default::default() }, jobs).await.unwrap();
    txn.commit().await.unwrap();
    engine.wake();
    made
}

pub async fn job(engine: &Engine, id: i64) -> job::Model {
    job::Entity::find_by_id(id).one(&engine.database().read).await.unwrap().unwrap()
}

pub async fn group(engine: &Engine, id: i64) -> job_group::Model {
    job_group::Entity::find_by_id(id).one(&engine.database().read).await.unwrap().unwrap()
}

pub async fn until_status(engine: &Engine, id: i64, status: JobStatus) -> job::Model {
    until(&format!("job {id} is {}", status.as_str()), || async {
        Some(job(engine, id).await).filter(|j| j.status == status.as_str())
    })
    .await
}

pub async fn until_finished(engine: &Engine, id: i64) -> job_group::Model {
    until(&format!("group {id} is finished"), || async {
        Some(group(engine, id).await).filter(|g| g.finished_at.is_some())
    })
    .await
}

impl Rig {
    pub async fn group(&self, jobs: Vec<JobSpec>) -> Created {
        create(&self.engine, jobs).await
    }
    pub async fn job(&self, id: i64) -> job::Model {
        job(&self.engine, id).await
    }
    pub async fn until(&self, id: i64, status: JobStatus) -> job::Model {
        until_status(&self.engine, id, status).await
    }
    pub async fn finished(&self, id: i64) -> job_group::Model {
        until_finished(&self.engine, id).await
    }
    pub async fn stop(self) -> Step {
        self.stop.cancel();
        self.task.await.unwrap();
        self.step
    }
}
