//! Two engines, as a Global Controller and a site have them, with a link in between that repeats everything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed preparation is a failed test")]

mod rig;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use engine::{Dispatcher, Engine, EngineConfig, EngineError, JobFunction, ReportSink};
use model::{
    Id,
    job::{JobCommand, JobReport, JobSpec, JobStatus},
    order::OrderBook,
};
use rig::{Step, memory, spec, start_with, until};
use sea_orm::{DatabaseTransaction, DbErr};
use serde_json::json;

#[derive(Clone)]
enum Letter {
    Orders(OrderBook),
    Command(JobCommand),
}

#[derive(Default)]
struct Post {
    down: Mutex<Vec<Letter>>,
    up: Mutex<Vec<JobReport>>,
}

#[async_trait]
impl Dispatcher for Post {
    async fn orders(&self, _: &DatabaseTransaction, site_id: Id, book: OrderBook) -> Result<(), DbErr> {
        assert_eq!(site_id, 7);
        self.down.lock().unwrap().push(Letter::Orders(book));
        Ok(())
    }
    async fn command(&self, _: &DatabaseTransaction, _: Id, command: JobCommand) -> Result<(), DbErr> {
        self.down.lock().unwrap().push(Letter::Command(command));
        Ok(())
    }
}

#[async_trait]
impl ReportSink for Post {
    async fn report(&self, _: &DatabaseTransaction, report: &JobReport) -> Result<(), DbErr> {
        self.up.lock().unwrap().push(report.clone());
        Ok(())
    }
}

impl Post {
    /// Carries what there is; orders and reports twice, and old reports once more at the end.
    async fn carry(&self, global: &Engine, site: &Engine) {
        let down = std::mem::take(&mut *self.down.lock().unwrap());
        for letter in down {
            match letter {
                Letter::Orders(book) => {
                    site.accept_book(book.clone()).await.unwrap();
                    site.accept_book(book).await.unwrap();
                }
                Letter::Command(command) => site.command(command).await.unwrap(),
            }
        }
        let up = std::mem::take(&mut *self.up.lock().unwrap());
        for report in up.iter().chain(&up) {
            global.apply_report(report).await.unwrap();
        }
    }
}

fn at_site(mut spec: JobSpec) -> JobSpec {
    spec.site_id = Some(7);
    spec
}

struct World {
    post: Arc<Post>,
    global: rig::Rig,
    site: rig::Rig,
}

impl World {
    async fn new() -> Self {
        let post = Arc::new(Post::default());
        let step = Step::default();
        let function = || vec![Arc::new(step.clone()) as Arc<dyn JobFunction>];
        let global = Engine::new(memory().await, function(), EngineConfig::default(), Some(post.clone()), None);
        let config = EngineConfig { owner: Some(7), ..Default::default() };
        let site = Engine::new(memory().await, function(), config, None, Some(post.clone()));
        Self { post, global: start_with(global, step.clone()), site: start_with(site, step) }
    }

    async fn until(&self, id: Id, status: JobStatus) {
        until(&format!("job {id} is {} at the Global Controller", status.as_str()), || async {
            self.post.carry(&self.global.engine, &self.site.engine).await;
            Some(self.global.job(id).await).filter(|j| j.status == status.as_str())
        })
        .await;
    }

    async fn stop(self) {
        self.global.stop().await;
        self.site.stop().await;
    }
}

#[tokio::test]
async fn a_site_works_through_its_part_and_the_rest_follows() {
    let world = World::new().await;
    let made = world
        .global
        .group(vec![
            at_site(spec("install", &[], json!({"fail": 3}))),
            at_site(spec("start", &["install"], json!({}))),
            spec("finish", &["start"], json!({})),
        ])
        .await;
    let id = |key: &str| made.job_ids[key];
    world.until(id("install"), JobStatus::ThrownError).await;
    let install = world.global.job(id("install")).await;
    assert_eq!((install.error.as_deref(), install.call_count), (Some("failure 3"), 3));
    assert_eq!(world.global.job(id("finish")).await.status, "not_called");

    // An operator's word goes to the site; the rest follows.
    world.global.engine.command(JobCommand::Retry { job_id: id("install"), even_if_successful: false }).await.unwrap();
    world.until(id("finish"), JobStatus::ReturnedSuccess).await;
    world.global.finished(made.group_id).await;
    world.site.finished(made.group_id).await;
    assert_eq!(world.site.step.log(), ["install", "start", "finish"], "once each, although all was sent twice");

    // Old news changes nothing.
    let old = JobReport {
        job_id: id("install"),
        sequence: 1,
        status: JobStatus::Running,
        call_count: 1,
        retry_count: 0,
        percent: None,
        message: None,
        error: None,
        response: None,
        started_at: None,
        finished_at: None,
    };
    world.global.engine.apply_report(&old).await.unwrap();
    assert_eq!(world.global.job(id("install")).await.status, "returned_success");
    let unknown = JobReport { job_id: 4711, ..old };
    assert!(matches!(world.global.engine.apply_report(&unknown).await, Err(EngineError::NotFound(..))));
    world.stop().await;
}

#[tokio::test]
async fn a_group_is_cancelled_at_both_ends() {
    let world = World::new().await;
    let made = world
        .global
        .group(vec![
            at_site(spec("hang", &[], json!({"hang": true}))),
            at_site(spec("after", &["hang"], json!({}))),
            spec("finish", &["after"], json!({})),
        ])
        .await;
    world.until(made.job_ids["hang"], JobStatus::Running).await;
    let cancel = JobCommand::CancelGroup { group_id: made.group_id, reason: "wrong site".into() };
    world.global.engine.command(cancel).await.unwrap();
    world.until(made.job_ids["after"], JobStatus::Skipped).await;
    world.until(made.job_ids["hang"], JobStatus::ThrownError).await;
    world.global.finished(made.group_id).await;
    world.site.finished(made.group_id).await;
    assert!(world.site.step.log().is_empty());
    world.stop().await;
}

#[tokio::test]
async fn older_orders_for_the_same_object_are_refused() {
    let world = World::new().await;
    let order = |key: &str, generation: i64, payload| {
        let mut spec = at_site(spec(key, &[], payload));
        spec.target.generation = generation;
        spec
    };
    // Taken while it was the newest, but not yet run when newer orders came.
    let mut early = order("early", 4, json!({}));
    early.requires_confirmation = true;
    let early = world.global.group(vec![early]).await;
    let new = world.global.group(vec![order("new", 5, json!({}))]).await;
    world.until(new.job_ids["new"], JobStatus::ReturnedSuccess).await;
    world.site.engine.command(JobCommand::Confirm { job_id: early.job_ids["early"] }).await.unwrap();
    world.until(early.job_ids["early"], JobStatus::ThrownError).await;
    // Come too late.
    let late = world.global.group(vec![order("late", 4, json!({}))]).await;
    world.until(late.job_ids["late"], JobStatus::ThrownError).await;
    for id in [early.job_ids["early"], late.job_ids["late"]] {
        let error = world.global.job(id).await.error.unwrap();
        assert!(error.contains("generation"), "{error}");
    }
    assert_eq!(world.site.step.log(), ["new"]);
    world.stop().await;
}

#[tokio::test]
async fn a_site_part_must_not_wait_for_what_runs_elsewhere() {
    let world = World::new().await;
    let txn = world.global.engine.database().begin().await.unwrap();
    let jobs = vec![spec("here", &[], json!({})), at_site(spec("there", &["here"], json!({})))];
    let refused = world.global.engine.create_group(&txn, engine::NewGroup::default(), jobs).await;
    assert!(matches!(refused, Err(EngineError::BadGroup(_))));
    drop(txn);
    world.stop().await;
}

#[tokio::test]
async fn an_old_order_of_a_person_is_void_once_a_deploy_has_the_server() {
    let world = World::new().await;
    let order = |key: &str, generation: i64, payload| {
        let mut spec = at_site(spec(key, &[], payload));
        spec.target = model::job::Target { kind: "server".into(), id: 12, generation };
        spec
    };
    let retry = |job_id| JobCommand::Retry { job_id, even_if_successful: false };
    // Before any deploy: it fails, and may be tried again.
    let early = world.global.group(vec![order("early", 0, json!({"fail": 1, "fatal": true}))]).await.job_ids["early"];
    world.until(early, JobStatus::ThrownError).await;
    world.global.engine.command(retry(early)).await.unwrap();
    world.until(early, JobStatus::ReturnedSuccess).await;
    let waiting =
        world.global.group(vec![order("waiting", 0, json!({"fail": 1, "fatal": true}))]).await.job_ids["waiting"];
    world.until(waiting, JobStatus::ThrownError).await;
    // A deploy takes the server. An order of a person that is given now is good, also beside the deploy's.
    let deploy = world.global.group(vec![order("deploy", 7, json!({}))]).await.job_ids["deploy"];
    world.until(deploy, JobStatus::ReturnedSuccess).await;
    let now = world.global.group(vec![order("now", 0, json!({"fail": 1, "fatal": true}))]).await.job_ids["now"];
    world.until(now, JobStatus::ThrownError).await;
    let second = world.global.group(vec![order("second", 7, json!({}))]).await.job_ids["second"];
    world.until(second, JobStatus::ReturnedSuccess).await;
    // What was ordered before is refused at both ends, in words.
    for engine in [&world.global.engine, &world.site.engine] {
        let refused = engine.command(retry(waiting)).await.unwrap_err().to_string();
        assert!(refused.contains("may serve somebody else now"), "{refused}");
    }
    // The next deploy makes void what was good until then.
    let next = world.global.group(vec![order("next", 8, json!({}))]).await.job_ids["next"];
    world.until(next, JobStatus::ReturnedSuccess).await;
    assert!(world.global.engine.command(retry(now)).await.is_err());
    // An order of an older deploy comes too late altogether.
    let late = world.global.group(vec![order("late", 7, json!({}))]).await.job_ids["late"];
    world.until(late, JobStatus::ThrownError).await;
    let log = world.site.step.log();
    assert!(["waiting", "now", "late"].iter().all(|key| !log.iter().any(|l| l == key)), "{log:?}");
    world.stop().await;
}
