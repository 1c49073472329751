//! The engine on a real database: order, retries, operator's words, and crashes between any two steps.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use engine::{Engine, EngineConfig, JobContext, JobError, JobFunction, MIGRATIONS, NewGroup, Outcome, entity::job};
use model::job::{JobCommand, JobRefs, JobSpec, JobStatus, RetryPolicy, Target};
use sea_orm::EntityTrait;
use serde_json::{Value, json};
use store::Database;
use tokio_util::sync::CancellationToken;

/// Fails as often as its payload says, and keeps a log of who ran.
#[derive(Default, Clone)]
struct Step {
    log: Arc<Mutex<Vec<String>>>,
    failures: Arc<Mutex<HashMap<String, u32>>>,
}

#[async_trait]
impl JobFunction for Step {
    fn name(&self) -> &'static str {
        "test.step"
    }
    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        if ctx.job.payload["hang"] == true {
            ctx.progress(50, "hanging");
            std::future::pending::<()>().await;
        }
        let wanted = ctx.job.payload["fail"].as_u64().unwrap_or(0) as u32;
        let mut failures = self.failures.lock().unwrap();
        let seen = failures.entry(ctx.job.key.clone()).or_insert(0);
        if *seen < wanted {
            *seen += 1;
            return Err(JobError::retry(format!("failure {seen}")));
        }
        self.log.lock().unwrap().push(ctx.job.key.clone());
        Ok(Outcome::Done(json!({"key": ctx.job.key})))
    }
}

fn spec(key: &str, on: &[&str], payload: Value) -> JobSpec {
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

struct Rig {
    engine: Engine,
    step: Step,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn database() -> Database {
    let db = Database::open("sqlite::memory:").await.unwrap();
    db.migrate("engine", MIGRATIONS).await.unwrap();
    db
}

fn start(db: &Database, step: Step) -> Rig {
    let engine = Engine::new(db.clone(), vec![Arc::new(step.clone())], EngineConfig::default(), None, None);
    let stop = CancellationToken::new();
    let (e, s) = (engine.clone(), stop.clone());
    Rig { engine, step, stop, task: tokio::spawn(async move { e.run(s).await.unwrap() }) }
}

impl Rig {
    async fn group(&self, jobs: Vec<JobSpec>) -> engine::Created {
        let txn = self.engine.database().begin().await.unwrap();
        let created = self.engine.create_group(&txn, NewGroup { kind: "test".into(), ..Default::default() }, jobs).await.unwrap();
        txn.commit().await.unwrap();
        self.engine.wake();
        created
    }
    async fn job(&self, id: i64) -> job::Model {
        job::Entity::find_by_id(id).one(&self.engine.database().read).await.unwrap().unwrap()
    }
    async fn until(&self, id: i64, status: JobStatus) -> job::Model {
        for _ in 0..2000 {
            let job = self.job(id).await;
            if job.status == status.as_str() {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("job {id} is {:?}, not {status:?}", self.job(id).await);
    }
    async fn stop(self) -> Step {
        self.stop.cancel();
        self.task.await.unwrap();
        self.step
    }
}

#[tokio::test]
async fn dependants_wait_and_failures_are_tried_again() {
    let rig = start(&database().await, Step::default());
    let made = rig.group(vec![spec("c", &["a", "b"], json!({})), spec("a", &[], json!({"fail": 2})), spec("b", &[], json!({}))]).await;
    let c = rig.until(made.job_ids["c"], JobStatus::ReturnedSuccess).await;
    assert_eq!(c.response["key"], "c");
    let a = rig.job(made.job_ids["a"]).await;
    assert_eq!((a.call_count, a.retry_count), (3, 2));
    let log = rig.stop().await.log.lock().unwrap().clone();
    assert_eq!((log.len(), log[2].as_str()), (3, "c"));
}

#[tokio::test]
async fn a_failed_branch_stops_nothing_else_and_can_be_retried_or_skipped() {
    let rig = start(&database().await, Step::default());
    let made = rig
        .group(vec![spec("bad", &[], json!({"fail": 3})), spec("after-bad", &["bad"], json!({})), spec("good", &[], json!({})), spec("after-good", &["good"], json!({}))])
        .await;
    rig.until(made.job_ids["after-good"], JobStatus::ReturnedSuccess).await;
    let bad = rig.until(made.job_ids["bad"], JobStatus::ThrownError).await;
    assert_eq!(bad.error.as_deref(), Some("failure 3"));
    assert_eq!(rig.job(made.job_ids["after-bad"]).await.status, "not_called");
    assert!(rig.engine.command(JobCommand::Retry { job_id: made.job_ids["good"], even_if_successful: false }).await.is_err());
    rig.engine.command(JobCommand::Retry { job_id: bad.id, even_if_successful: false }).await.unwrap();
    rig.until(made.job_ids["after-bad"], JobStatus::ReturnedSuccess).await;
    let group = engine::entity::job_group::Entity::find_by_id(made.group_id).one(&rig.engine.database().read).await.unwrap().unwrap();
    assert!(group.finished_at.is_some());
    let made = rig.group(vec![spec("worse", &[], json!({"fail": 9})), spec("then", &["worse"], json!({}))]).await;
    rig.until(made.job_ids["worse"], JobStatus::ThrownError).await;
    rig.engine.command(JobCommand::Skip { job_id: made.job_ids["worse"], reason: "known".into() }).await.unwrap();
    rig.until(made.job_ids["then"], JobStatus::ReturnedSuccess).await;
    rig.stop().await;
}

#[tokio::test]
async fn kill_and_cancel() {
    let rig = start(&database().await, Step::default());
    let made = rig.group(vec![spec("stuck", &[], json!({"hang": true})), spec("next", &["stuck"], json!({}))]).await;
    rig.until(made.job_ids["stuck"], JobStatus::Running).await;
    rig.engine.command(JobCommand::Kill { job_id: made.job_ids["stuck"] }).await.unwrap();
    let stuck = rig.until(made.job_ids["stuck"], JobStatus::ThrownError).await;
    assert!(stuck.error.unwrap().contains("killed"));
    rig.engine.command(JobCommand::CancelGroup { group_id: made.group_id, reason: "enough".into() }).await.unwrap();
    rig.until(made.job_ids["next"], JobStatus::Skipped).await;
    let group = engine::entity::job_group::Entity::find_by_id(made.group_id).one(&rig.engine.database().read).await.unwrap().unwrap();
    assert!(group.finished_at.is_some(), "a cancelled group ends");
    rig.stop().await;
}

#[tokio::test]
async fn groups_in_a_circle_are_refused() {
    let rig = start(&database().await, Step::default());
    let txn = rig.engine.database().begin().await.unwrap();
    for jobs in [vec![spec("a", &["b"], json!({})), spec("b", &["a"], json!({}))], vec![spec("a", &["x"], json!({}))], vec![spec("a", &[], json!({})), spec("a", &[], json!({}))]] {
        assert!(rig.engine.create_group(&txn, NewGroup::default(), jobs).await.is_err());
    }
    drop(txn);
    rig.stop().await;
}

#[tokio::test]
async fn a_crash_at_any_step_resumes() {
    let db = database().await;
    let mut rig = start(&db, Step::default());
    let keys: Vec<String> = (0..8).map(|i| format!("s{i}")).collect();
    let jobs = keys.iter().enumerate().map(|(i, k)| spec(k, &(if i == 0 { vec![] } else { vec![keys[i - 1].as_str()] }), json!({}))).collect();
    let made = rig.group(jobs).await;
    for key in &keys {
        // The engine dies and another takes over, while this step may be anywhere.
        let step = rig.stop().await;
        rig = start(&db, step);
        rig.until(made.job_ids[key], JobStatus::ReturnedSuccess).await;
    }
    let log = rig.stop().await.log.lock().unwrap().clone();
    let mut seen = log.clone();
    seen.dedup();
    assert_eq!(seen, keys, "each step in order, perhaps twice, never skipped: {log:?}");
}
