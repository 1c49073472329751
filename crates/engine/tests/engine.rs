//! Order, retries, limits and operators' words, on SQLite and on PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed preparation is a failed test")]

mod rig;

mod db {
    pub use store::Database;
}
// One test body on both databases: the rig of the store's own tests.
#[allow(dead_code, reason = "its whole interface is not needed here")]
#[path = "../../store/tests/rig/databases.rs"]
mod testing;

use std::{sync::Arc, time::Duration};

use engine::{Engine, EngineConfig, MIGRATIONS, NewGroup, entity::job_attempt};
use model::job::{JobCommand, JobStatus, RetryPolicy};
use proptest::prelude::*;
use rig::{Step, memory, spec, start, start_with, until};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::json;
use store::Database;

async fn tables(db: &Database) {
    db.migrate("engine", MIGRATIONS).await.unwrap();
}

#[tokio::test]
async fn dependants_wait_and_failures_are_tried_again() {
    testing::both(|db| async move {
        tables(&db).await;
        let rig = start(&db, Step::default());
        let made = rig
            .group(vec![
                spec("c", &["a", "b"], json!({})),
                spec("a", &[], json!({"fail": 2})),
                spec("b", &[], json!({})),
            ])
            .await;
        let c = rig.until(made.job_ids["c"], JobStatus::ReturnedSuccess).await;
        assert_eq!(c.response["key"], "c");
        let a = rig.job(made.job_ids["a"]).await;
        assert_eq!((a.call_count, a.retry_count, a.error), (3, 2, None));
        let attempts = job_attempt::Entity::find()
            .filter(job_attempt::Column::JobId.eq(a.id))
            .all(&rig.engine.database().read)
            .await
            .unwrap();
        let errors: Vec<_> = attempts.iter().map(|t| (t.attempt, t.error.as_str())).collect();
        assert_eq!(errors, [(1, "failure 1"), (2, "failure 2")]);
        rig.finished(made.group_id).await;
        let statistics = rig.engine.group_statistics(&[made.group_id, 999]).await.unwrap();
        let s = &statistics[&made.group_id];
        assert_eq!((s.completed, s.total, s.thrown_error, statistics.len()), (3, 3, 0, 1));
        let graph = rig.engine.group_dependencies(made.group_id).await.unwrap();
        assert_eq!(graph, [(c.id, a.id), (c.id, made.job_ids["b"])]);
        let log = rig.stop().await.log();
        assert_eq!((log.len(), log[2].as_str()), (3, "c"));
    })
    .await;
}

#[tokio::test]
async fn a_failed_branch_stops_nothing_else_and_can_be_retried_or_skipped() {
    testing::both(|db| async move {
        tables(&db).await;
        let rig = start(&db, Step::default());
        let made = rig
            .group(vec![
                spec("bad", &[], json!({"fail": 3})),
                spec("after-bad", &["bad"], json!({})),
                spec("good", &[], json!({})),
                spec("after-good", &["good"], json!({})),
            ])
            .await;
        rig.until(made.job_ids["after-good"], JobStatus::ReturnedSuccess).await;
        let bad = rig.until(made.job_ids["bad"], JobStatus::ThrownError).await;
        assert_eq!(bad.error.as_deref(), Some("failure 3"));
        assert_eq!(rig.job(made.job_ids["after-bad"]).await.status, "not_called");
        assert!(rig::group(&rig.engine, made.group_id).await.finished_at.is_none());
        let retry = |job_id| JobCommand::Retry { job_id, even_if_successful: false };
        assert!(rig.engine.command(retry(made.job_ids["good"])).await.is_err());
        rig.engine.command(retry(bad.id)).await.unwrap();
        rig.until(made.job_ids["after-bad"], JobStatus::ReturnedSuccess).await;
        rig.finished(made.group_id).await;

        let made = rig.group(vec![spec("worse", &[], json!({"fail": 9})), spec("then", &["worse"], json!({}))]).await;
        rig.until(made.job_ids["worse"], JobStatus::ThrownError).await;
        rig.engine.command(JobCommand::Skip { job_id: made.job_ids["worse"], reason: "known".into() }).await.unwrap();
        rig.until(made.job_ids["then"], JobStatus::ReturnedSuccess).await;
        assert_eq!(rig.job(made.job_ids["worse"]).await.message.as_deref(), Some("skipped: known"));
        rig.stop().await;
    })
    .await;
}

#[tokio::test]
async fn kill_stop_retrying_confirm_and_cancel() {
    testing::both(|db| async move {
        tables(&db).await;
        let rig = start(&db, Step::default());
        let mut patient = spec("patient", &[], json!({"fail": 5}));
        patient.retry = RetryPolicy { max: 5, min_seconds: 3600, max_seconds: 3600 };
        let mut careful = spec("careful", &[], json!({}));
        careful.requires_confirmation = true;
        let made = rig
            .group(vec![
                spec("stuck", &[], json!({"hang": true})),
                spec("next", &["stuck"], json!({})),
                patient,
                careful,
                spec("also-stuck", &[], json!({"hang": true})),
            ])
            .await;
        let id = |key: &str| made.job_ids[key];
        rig.until(id("stuck"), JobStatus::Running).await;
        rig.engine.command(JobCommand::Kill { job_id: id("stuck") }).await.unwrap();
        let stuck = rig.until(id("stuck"), JobStatus::ThrownError).await;
        assert!(stuck.error.unwrap().contains("killed"));

        let waiting = rig.until(id("patient"), JobStatus::ThrownErrorRetrying).await;
        assert!(waiting.message.unwrap().contains("next try in"));
        rig.engine.command(JobCommand::StopRetrying { job_id: id("patient") }).await.unwrap();
        rig.until(id("patient"), JobStatus::ThrownError).await;

        assert!(rig.job(id("careful")).await.message.unwrap().contains("confirmation"));
        assert_eq!(rig.job(id("careful")).await.status, "not_called");
        rig.engine.command(JobCommand::Confirm { job_id: id("careful") }).await.unwrap();
        rig.until(id("careful"), JobStatus::ReturnedSuccess).await;
        assert!(rig.engine.command(JobCommand::Confirm { job_id: id("careful") }).await.is_err());

        rig.until(id("also-stuck"), JobStatus::Running).await;
        let cancel = JobCommand::CancelGroup { group_id: made.group_id, reason: "enough".into() };
        rig.engine.command(cancel.clone()).await.unwrap();
        rig.until(id("next"), JobStatus::Skipped).await;
        rig.until(id("also-stuck"), JobStatus::ThrownError).await;
        let group = rig.finished(made.group_id).await;
        assert_eq!(group.cancel_reason.as_deref(), Some("enough"));
        assert!(rig.engine.command(cancel).await.is_err(), "nothing is left to cancel");
        let again = JobCommand::Retry { job_id: id("also-stuck"), even_if_successful: true };
        assert!(rig.engine.command(again).await.is_err(), "a cancelled group stays so");
        assert!(rig.engine.command(JobCommand::Kill { job_id: 999_999 }).await.is_err());
        rig.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_succeeded_can_run_again_and_its_group_reopens() {
    testing::both(|db| async move {
        tables(&db).await;
        let rig = start(&db, Step::default());
        let made = rig.group(vec![spec("a", &[], json!({})), spec("b", &["a"], json!({}))]).await;
        rig.finished(made.group_id).await;
        rig.engine.command(JobCommand::Retry { job_id: made.job_ids["a"], even_if_successful: true }).await.unwrap();
        until("a ran twice", || async { Some(()).filter(|()| rig.step.log().len() == 3) }).await;
        rig.finished(made.group_id).await;
        let (a, b) = (rig.job(made.job_ids["a"]).await, rig.job(made.job_ids["b"]).await);
        assert_eq!((a.call_count, b.call_count, b.blocked_by), (2, 1, 0));

        assert_eq!(rig.engine.archive(Duration::from_mins(1)).await.unwrap(), 0, "too young");
        assert_eq!(rig.engine.archive(Duration::ZERO).await.unwrap(), 1);
        let statistics = rig.engine.statistics().await.unwrap();
        assert_eq!((statistics.archived, statistics.by_status[&JobStatus::ReturnedSuccess]), (2, 0));
        assert!(rig.engine.command(JobCommand::Retry { job_id: a.id, even_if_successful: true }).await.is_err());
        rig.stop().await;
    })
    .await;
}

#[tokio::test]
async fn limits_panics_and_unknown_functions_end_as_named_errors() {
    let rig = start(&memory().await, Step::default());
    let mut slow = spec("slow", &[], json!({"hang": true}));
    slow.timeout_seconds = 1;
    slow.retry.max = 0;
    let mut unknown = spec("unknown", &[], json!({}));
    unknown.function = "server.fly".into();
    let made = rig
        .group(vec![
            slow,
            unknown,
            spec("broken", &[], json!({"panic": true})),
            spec("fatal", &[], json!({"fail": 1, "fatal": true})),
        ])
        .await;
    for (key, words, calls) in [
        ("fatal", "failure 1", 1),
        ("broken", "broke off", 3),
        ("unknown", "server.fly is not known", 1),
        ("slow", "not done within 1 s; it was: hanging", 1),
    ] {
        let job = rig.until(made.job_ids[key], JobStatus::ThrownError).await;
        assert!(job.error.as_deref().unwrap().contains(words), "{key}: {:?}", job.error);
        assert_eq!(job.call_count, calls, "{key}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_job_that_waits_says_why_and_keeps_no_worker() {
    let (db, step) = (memory().await, Step::default());
    let config = EngineConfig { workers: 1, ..Default::default() };
    let rig = start_with(Engine::new(db, vec![Arc::new(step.clone())], config, None, None), step);
    let mut hears = rig.engine.subscribe();
    let made = rig
        .group(vec![spec("first", &[], json!({"wait_for": "second"})), spec("second", &[], json!({"fail": 1}))])
        .await;
    let first = rig.until(made.job_ids["first"], JobStatus::ReturnedSuccess).await;
    assert_eq!((first.call_count, first.retry_count), (1, 0), "waiting is no failure");
    assert_eq!(rig.stop().await.log(), ["second", "first"]);
    let mut reasons = Vec::new();
    while let Ok(report) = hears.try_recv() {
        reasons.extend(report.message);
    }
    assert!(reasons.iter().any(|r| r == "waits for second"), "{reasons:?}");
}

#[tokio::test]
async fn progress_is_told_at_once_and_written_soon() {
    let rig = start(&memory().await, Step::default());
    let mut hears = rig.engine.subscribe();
    let made = rig.group(vec![spec("stuck", &[], json!({"hang": true}))]).await;
    let id = made.job_ids["stuck"];
    until("told", || async { rig.engine.live(id) }).await;
    let told = loop {
        let report = tokio::time::timeout(Duration::from_secs(20), hears.recv()).await.unwrap().unwrap();
        if report.percent == Some(50) {
            break report;
        }
    };
    let row = until("written", || async { Some(rig.job(id).await).filter(|j| j.percent == 50) }).await;
    assert_eq!((row.message.as_deref(), row.sequence), (Some("hanging"), told.sequence));
    assert!(rig.engine.stuck(Duration::from_mins(10)).await.unwrap().is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn what_was_asked_for_but_not_begun_is_reported_as_stuck() {
    let db = memory().await;
    let engine = Engine::new(db, vec![], EngineConfig::default(), None, None);
    let made = rig::create(&engine, vec![spec("a", &[], json!({})), spec("b", &["a"], json!({}))]).await;
    let stuck = engine.stuck(Duration::ZERO).await.unwrap();
    assert_eq!(stuck.iter().map(|j| j.id).collect::<Vec<_>>(), [made.job_ids["a"]], "b waits for a with good reason");
}

#[tokio::test]
async fn groups_in_a_circle_are_refused() {
    let rig = start(&memory().await, Step::default());
    let txn = rig.engine.database().begin().await.unwrap();
    for jobs in [
        vec![spec("a", &["b"], json!({})), spec("b", &["a"], json!({}))],
        vec![spec("a", &["x"], json!({}))],
        vec![spec("a", &[], json!({})), spec("a", &[], json!({}))],
        vec![spec("a", &[], json!({})), spec("b", &["a", "a"], json!({}))],
    ] {
        assert!(rig.engine.create_group(&txn, NewGroup::default(), jobs).await.is_err());
    }
    drop(txn);
    rig.stop().await;
}

#[tokio::test]
async fn eight_engines_on_one_database_run_each_job_once() {
    testing::both(|db| async move {
        tables(&db).await;
        let step = Step::default();
        let rigs: Vec<_> = (0..8)
            .map(|_| {
                let config = EngineConfig { workers: 4, idle: Duration::from_millis(20), ..Default::default() };
                start_with(Engine::new(db.clone(), vec![Arc::new(step.clone())], config, None, None), step.clone())
            })
            .collect();
        until("all look for work", || async { rigs.iter().all(|r| r.engine.ready()).then_some(()) }).await;
        let keys: Vec<String> = (0..100).map(|i| format!("j{i}")).collect();
        let made = rigs[0].group(keys.iter().map(|k| spec(k, &[], json!({}))).collect()).await;
        for rig in &rigs {
            rig.engine.wake();
        }
        rigs[0].finished(made.group_id).await;
        let mut log = step.log();
        log.sort();
        let mut keys = keys;
        keys.sort();
        assert_eq!(log, keys);
        for rig in rigs {
            rig.stop().await;
        }
    })
    .await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any DAG with any failures that retries can mend comes to its end, in an order that its edges allow.
    #[test]
    fn every_dag_completes_in_order(
        edges in proptest::collection::vec(any::<u16>(), 1..14),
        failures in proptest::collection::vec(0u64..=2, 14),
        workers in 1usize..5,
    ) {
        let edges = &edges;
        let depends = |i: usize| (0..i).filter(move |j| edges[i] >> j & 1 == 1);
        let count = edges.len();
        let jobs = (0..count).map(|i| {
            let on: Vec<String> = depends(i).map(|j| format!("j{j}")).collect();
            let on: Vec<&str> = on.iter().map(String::as_str).collect();
            spec(&format!("j{i}"), &on, json!({"fail": failures[i]}))
        }).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let log = runtime.block_on(async {
            let (db, step) = (memory().await, Step::default());
            let config = EngineConfig { workers, ..Default::default() };
            let rig = start_with(Engine::new(db, vec![Arc::new(step.clone())], config, None, None), step);
            let made = rig.group(jobs).await;
            rig.finished(made.group_id).await;
            rig.stop().await.log()
        });
        prop_assert_eq!(log.len(), count);
        let place = |i: usize| log.iter().position(|k| *k == format!("j{i}")).unwrap();
        for i in 0..count {
            for j in depends(i) {
                prop_assert!(place(j) < place(i), "j{} before j{}: {:?}", j, i, log);
            }
        }
    }
}
