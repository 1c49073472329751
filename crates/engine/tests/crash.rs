//! The process dies between any two steps of its work; the next one on the same database brings it to its end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed preparation is a failed test")]

mod rig;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use engine::{
    Engine, EngineConfig, JobContext, JobError, JobFunction, Listener, ListenerError, MIGRATIONS, Outcome, ReportSink,
    entity::{job, job_group},
};
use model::job::JobReport;
use sea_orm::{DatabaseTransaction, DbErr};
use serde_json::{Value, json};
use store::Database;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Blows at the n-th point that is passed; nobody passes a point afterwards.
struct Fuse {
    left: AtomicI64,
    blown: Notify,
}

impl Fuse {
    fn new(points: i64) -> Arc<Self> {
        Arc::new(Self { left: AtomicI64::new(points), blown: Notify::new() })
    }
    async fn point(&self) {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        if left <= 1 {
            self.blown.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

/// The world outside, which survives: what was done to it, and who was told.
#[derive(Default)]
struct World {
    effects: Mutex<BTreeMap<String, u32>>,
    order: Mutex<Vec<String>>,
    told: Mutex<Vec<String>>,
}

struct Process {
    fuse: Arc<Fuse>,
    world: Arc<World>,
}

#[async_trait]
impl JobFunction for Process {
    fn name(&self) -> &'static str {
        "test.step"
    }
    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        self.fuse.point().await;
        if ctx.job.payload["fail"] == true && ctx.job.retry_count == 0 {
            return Err(JobError::retry("once"));
        }
        let key = ctx.job.key.clone();
        *self.world.effects.lock().unwrap().entry(key.clone()).or_insert(0) += 1;
        self.world.order.lock().unwrap().push(key);
        self.fuse.point().await;
        Ok(Outcome::Done(Value::Null))
    }
}

#[async_trait]
impl ReportSink for Process {
    async fn report(&self, _: &DatabaseTransaction, _: &JobReport) -> Result<(), DbErr> {
        self.fuse.point().await;
        Ok(())
    }
}

#[async_trait]
impl Listener for Process {
    async fn job_ended(&self, job: job::Model) -> Result<(), ListenerError> {
        self.fuse.point().await;
        self.world.told.lock().unwrap().push(job.key);
        self.fuse.point().await;
        Ok(())
    }
    async fn group_finished(&self, _: job_group::Model) -> Result<(), ListenerError> {
        self.fuse.point().await;
        self.world.told.lock().unwrap().push("group".into());
        self.fuse.point().await;
        Ok(())
    }
}

/// One life of the process. True: all was done and told before the fuse blew.
fn live(path: &Path, points: i64, world: &Arc<World>) -> bool {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let done = runtime.block_on(async {
        let db = Database::open(&format!("sqlite://{}?mode=rwc", path.display())).await.unwrap();
        db.migrate("engine", MIGRATIONS).await.unwrap();
        let fuse = Fuse::new(points);
        let process = || Arc::new(Process { fuse: fuse.clone(), world: world.clone() });
        let engine = Engine::new(db, vec![process()], EngineConfig::default(), None, Some(process()));
        engine.listen(process());
        let known = job_group_row(&engine).await;
        if known.is_none() {
            rig::create(
                &engine,
                vec![
                    rig::spec("a", &[], json!({})),
                    rig::spec("b", &["a"], json!({"fail": true})),
                    rig::spec("c", &["a"], json!({})),
                    rig::spec("d", &["b", "c"], json!({})),
                ],
            )
            .await;
        }
        let stop = CancellationToken::new();
        let run = tokio::spawn({
            let (engine, stop) = (engine.clone(), stop.clone());
            async move { engine.run(stop).await }
        });
        let finished = rig::until("the end or the crash", || async {
            if fuse.left.load(Ordering::SeqCst) <= 0 {
                return Some(false);
            }
            let group = job_group_row(&engine).await?;
            (group.finished_at.is_some() && group.told).then_some(true)
        });
        tokio::select! {
            () = fuse.blown.notified() => false,
            done = finished => {
                if done {
                    stop.cancel();
                    run.await.unwrap().unwrap();
                }
                done
            }
        }
    });
    // A crash: nothing is ended in an orderly way, open transactions are torn.
    runtime.shutdown_timeout(Duration::from_secs(5));
    done
}

async fn job_group_row(engine: &Engine) -> Option<job_group::Model> {
    use sea_orm::EntityTrait;
    job_group::Entity::find().one(&engine.database().read).await.unwrap()
}

#[test]
fn a_crash_at_any_point_loses_nothing() {
    let mut points = 0;
    loop {
        points += 1;
        assert!(points < 200, "the fuse always blows");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.db");
        let world = Arc::new(World::default());
        let unharmed = live(&path, points, &world);
        if !unharmed {
            assert!(live(&path, 1_000_000, &world), "the next life ends the work; crash at point {points}");
        }
        let effects = world.effects.lock().unwrap().clone();
        assert_eq!(effects.keys().map(String::as_str).collect::<Vec<_>>(), ["a", "b", "c", "d"], "point {points}");
        assert!(effects.values().all(|n| *n <= 2), "at most the torn step twice; point {points}: {effects:?}");
        let order = world.order.lock().unwrap().clone();
        let (first, last) = (
            |k: &str| order.iter().position(|o| o == k).unwrap(),
            |k: &str| order.iter().rposition(|o| o == k).unwrap(),
        );
        assert!(last("a") < first("b") && last("a") < first("c"), "point {points}: {order:?}");
        assert!(last("b") < first("d") && last("c") < first("d"), "point {points}: {order:?}");
        let told = world.told.lock().unwrap().clone();
        for key in ["a", "b", "c", "d", "group"] {
            assert!(told.iter().any(|t| t == key), "{key} was not told; point {points}: {told:?}");
        }
        assert_eq!(told.last().map(String::as_str), Some("group"), "point {points}: {told:?}");
        if unharmed {
            break;
        }
    }
    assert!(points > 25, "only {points} points: the test no longer looks everywhere");
}
