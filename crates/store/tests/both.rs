//! The store's promises, on SQLite and on PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed preparation is a failed test")]

use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ConnectionTrait, DbBackend, EntityTrait, PaginatorTrait, SqlErr, Statement,
};
use serde_json::json;
use store::entity::{account, event, network_device_port, subnet};
use store::event::NewEvent;
use store::list::{ListQuery, Revisioned, cas};
use store::migration::{GLOBAL, Migration, create_index, create_table};
use store::{Database, StoreError};

mod db {
    pub use store::Database;
}
// As a file: the library itself is built without its test support.
#[allow(dead_code, reason = "its whole interface is not needed here")]
#[path = "rig/databases.rs"]
mod testing;

async fn migrated(db: &Database) {
    db.migrate("global", GLOBAL).await.unwrap();
}

async fn add_subnet(db: &Database, label: &str, length: i64, pool: bool) -> subnet::Model {
    let mut row = subnet::new();
    row.label = Set(label.into());
    row.name = Set(label.into());
    row.ip_version = Set("ipv4".into());
    row.network_address = Set("10.0.0.0".into());
    row.prefix_length = Set(length);
    row.is_pool = Set(pool);
    for column in [&mut row.annotations, &mut row.tags, &mut row.denylist, &mut row.overlap_rules] {
        *column = Set(json!({"of": label}));
    }
    row.insert(&db.write).await.unwrap()
}

fn new_account(name: &str) -> account::ActiveModel {
    let mut row = account::new();
    row.name = Set(name.into());
    row.parent_account_id = Set(None);
    row.archived = Set(false);
    row.extra = Set(json!({}));
    row
}

/// Every table, column and index, without the journal of migrations.
async fn schema(db: &Database) -> Vec<String> {
    let queries: &[&str] = match db.backend() {
        DbBackend::Sqlite => {
            &["SELECT type || ' ' || name || ' ' || coalesce(sql, '') AS line FROM sqlite_master ORDER BY 1"]
        }
        _ => &[
            "SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' \
             || coalesce(column_default, '') AS line FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1",
            "SELECT indexdef AS line FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
        ],
    };
    let mut lines = Vec::new();
    for query in queries {
        let rows = db.read.query_all_raw(Statement::from_string(db.backend(), *query)).await.unwrap();
        lines.extend(rows.iter().map(|row| row.try_get::<String>("", "line").unwrap()));
    }
    lines
}

fn one(backend: DbBackend) -> Vec<Statement> {
    vec![create_table(backend, account::Entity)]
}

fn two(backend: DbBackend) -> Vec<Statement> {
    vec![create_index(backend, account::Entity, true, &[account::Column::Name])]
}

fn three(backend: DbBackend) -> Vec<Statement> {
    vec![create_table(backend, event::Entity)]
}

fn fails_half_way(backend: DbBackend) -> Vec<Statement> {
    let mut all = three(backend);
    all.push(Statement::from_string(backend, "INSERT INTO no_such_table VALUES (1)"));
    all
}

const STEPS: &[Migration] = &[
    Migration { version: 1, name: "accounts", up: one },
    Migration { version: 2, name: "unique names", up: two },
    Migration { version: 3, name: "events", up: three },
];

#[tokio::test]
async fn migrations_step_by_step_and_again_make_the_same_schema_as_from_scratch() {
    let scratch = std::sync::Mutex::new(Vec::new());
    testing::both(async |db: Database| {
        db.migrate("steps", STEPS).await.unwrap();
        let lines = schema(&db).await;
        assert!(lines.len() > 3, "{lines:?}");
        scratch.lock().unwrap().push(lines);
    })
    .await;
    let scratch = std::sync::Mutex::new(scratch.into_inner().unwrap().into_iter());
    testing::both(async |db: Database| {
        for known in 1..=STEPS.len() {
            db.migrate("steps", &STEPS[..known]).await.unwrap();
            db.migrate("steps", &STEPS[..known]).await.unwrap();
        }
        let expected = scratch.lock().unwrap().next().unwrap();
        assert_eq!(schema(&db).await, expected);
        let newer = db.migrate("steps", &STEPS[..2]).await.unwrap_err();
        assert!(matches!(newer, StoreError::Newer { found: 3, known: 2, .. }), "{newer}");
    })
    .await;
}

#[tokio::test]
async fn the_tables_are_what_the_entities_say() {
    testing::both(async |db: Database| {
        migrated(&db).await;
        let before = schema(&db).await;
        // Idempotent by itself, also where the journal was lost.
        for statement in (GLOBAL[0].up)(db.backend()) {
            db.write.execute_raw(statement).await.unwrap();
        }
        migrated(&db).await;
        assert_eq!(schema(&db).await, before);
    })
    .await;
}

#[tokio::test]
async fn a_failed_migration_leaves_nothing() {
    testing::both(async |db: Database| {
        db.migrate("steps", &STEPS[..2]).await.unwrap();
        let before = schema(&db).await;
        let broken = [STEPS[0], STEPS[1], Migration { version: 3, name: "broken", up: fails_half_way }];
        assert!(db.migrate("steps", &broken).await.is_err());
        assert_eq!(schema(&db).await, before);
        db.migrate("steps", STEPS).await.unwrap();
    })
    .await;
}

async fn labels(db: &Database, pairs: &[(&str, &str)]) -> Result<(Vec<String>, u64), StoreError> {
    let pairs: Vec<(String, String)> = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let page = ListQuery::parse(&pairs, 100)?
        .run(&db.read, subnet::Entity::find(), &[("pool", "is_pool")], &[subnet::Column::Label], subnet::Column::Id)
        .await?;
    Ok((page.rows.into_iter().map(|row| row.label).collect(), page.total))
}

/// Query pairs, and the labels they select.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);

#[tokio::test]
async fn the_list_grammar() {
    testing::both(async |db: Database| {
        migrated(&db).await;
        for (label, length, pool) in
            [("Blue", 24, false), ("green_1", 16, true), ("red", 24, false), ("greenX1", 8, true)]
        {
            add_subnet(&db, label, length, pool).await;
        }
        let cases: &[Case] = &[
            (&[("filter.prefixLength", "24")], &["Blue", "red"]),
            (&[("filter.prefixLength", "24"), ("sortBy", "id:DESC")], &["red", "Blue"]),
            (&[("sortBy", "prefixLength:ASC"), ("sortBy", "id:DESC")], &["greenX1", "green_1", "red", "Blue"]),
            (&[("filter.prefixLength", "$gt:8"), ("filter.prefixLength", "$lt:24")], &["green_1"]),
            (&[("filter.prefixLength", "$gte:16"), ("filter.prefixLength", "$lte:16")], &["green_1"]),
            (&[("filter.prefixLength", "$btw:8,16")], &["green_1", "greenX1"]),
            (&[("filter.prefixLength", "$in:8,16")], &["green_1", "greenX1"]),
            (&[("filter.label", "$not:$eq:red"), ("filter.pool", "true")], &["green_1", "greenX1"]),
            (&[("filter.label", "red"), ("filter.label", "$or:$eq:Blue")], &["Blue", "red"]),
            (&[("filter.label", "RED")], &[]),
            (&[("filter.label", "$ilike:N_")], &["green_1"]),
            (&[("filter.label", "$sw:GREEN")], &["green_1", "greenX1"]),
            (&[("filter.parentId", "$not:$null")], &[]),
            (&[("filter.parentId", "$null"), ("filter.id", "3")], &["red"]),
            (&[("filter.label", "' OR 1=1 --")], &[]),
            (&[("search", "BLU")], &["Blue"]),
            (&[("search", "3")], &["red"]),
            (&[("search", "%")], &[]),
        ];
        for (pairs, expected) in cases {
            let (rows, total) = labels(&db, pairs).await.unwrap();
            assert_eq!(
                (rows.as_slice(), total),
                (&expected.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()[..], expected.len() as u64),
                "{pairs:?}"
            );
        }
        for (page, expected) in [("1", 3), ("2", 1), ("3", 0), ("0", 3), ("x", 3)] {
            let (rows, total) = labels(&db, &[("limit", "3"), ("page", page)]).await.unwrap();
            assert_eq!((rows.len(), total), (expected, 4), "page {page}");
        }
        for (field, value) in [
            ("filter.nonsense", "1"),
            ("sortBy", "nonsense:ASC"),
            ("sortBy", "label:UP"),
            ("filter.prefixLength", "abc"),
            ("filter.pool", "maybe"),
            ("filter.annotations", "x"),
            ("filter.label", "$bogus:x"),
            ("filter.prefixLength", "$btw:1"),
        ] {
            let error = labels(&db, &[(field, value)]).await.unwrap_err();
            assert!(matches!(error, StoreError::Query { .. }), "{field}={value}: {error}");
        }
    })
    .await;
}

#[tokio::test]
async fn of_two_writers_one_wins() {
    testing::both(async |db: Database| {
        migrated(&db).await;
        let row = add_subnet(&db, "blue", 24, false).await;
        let write = async |label: &str| {
            let mut changed = row.edit();
            changed.label = Set(label.into());
            cas(&db.write, &row, changed).await.unwrap()
        };
        let (a, b) = tokio::join!(write("cyan"), write("pink"));
        let winner = match (a, b) {
            (Some(row), None) | (None, Some(row)) => row,
            other => panic!("exactly one must win: {other:?}"),
        };
        let stored = subnet::Entity::find_by_id(row.id).one(&db.read).await.unwrap().unwrap();
        assert_eq!(stored, winner);
        assert_eq!((stored.revision, &stored.tags), (2, &json!({"of": "blue"})));
    })
    .await;
}

#[tokio::test]
async fn uniqueness_is_the_databases() {
    testing::both(async |db: Database| {
        migrated(&db).await;
        new_account("acme").insert(&db.write).await.unwrap();
        let error = new_account("acme").insert(&db.write).await.unwrap_err();
        assert!(matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))), "{error}");
        let port = |device: i64, name: &str| {
            let mut row = network_device_port::new();
            row.network_device_id = Set(device);
            row.name = Set(name.into());
            row.tagged = Set(json!([]));
            row.lldp = Set(json!([]));
            row.observed_at = Set(store::time::now());
            row
        };
        port(1, "swp1").insert(&db.write).await.unwrap();
        port(1, "swp2").insert(&db.write).await.unwrap();
        port(2, "swp1").insert(&db.write).await.unwrap();
        let error = port(2, "swp1").insert(&db.write).await.unwrap_err();
        assert!(matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))), "{error}");
    })
    .await;
}

#[tokio::test]
async fn an_event_shares_the_fate_of_its_change() {
    testing::both(async |db: Database| {
        migrated(&db).await;
        for (name, commit) in [("rolled back", false), ("kept", true)] {
            let txn = db.begin().await.unwrap();
            let row = new_account(name).insert(&txn).await.unwrap();
            let new = NewEvent {
                kind: "account.create".into(),
                title: name.into(),
                object: Some(("account".into(), row.id)),
                context: json!({"name": name}),
                ..NewEvent::default()
            };
            store::event::append(&txn, new).await.unwrap();
            if commit {
                txn.commit().await.unwrap();
            } else {
                txn.rollback().await.unwrap();
            }
            let expected = u64::from(commit);
            assert_eq!(account::Entity::find().count(&db.read).await.unwrap(), expected);
            assert_eq!(event::Entity::find().count(&db.read).await.unwrap(), expected);
        }
        let event = event::Entity::find().one(&db.read).await.unwrap().unwrap();
        assert_eq!(
            (event.title.as_str(), event.severity.as_str(), event.visibility.as_str()),
            ("kept", "info", "private")
        );
        assert_eq!(event.context, json!({"name": "kept"}));
    })
    .await;
}

#[tokio::test]
async fn facts_of_a_site_are_numbered_and_a_repetition_is_no_news() {
    testing::both(async |db: Database| {
        migrated(&db).await;
        let put = async |site, key: &str, value| {
            let txn = db.begin().await.unwrap();
            let changed = store::snapshot::put(&txn, site, key, value).await.unwrap();
            txn.commit().await.unwrap();
            changed
        };
        assert!(!put(1, "server/1", json!(null)).await, "nothing to remove");
        assert!(put(1, "server/1", json!({"a": 1})).await);
        assert!(put(1, "server/2", json!({"a": 2})).await);
        assert!(!put(1, "server/1", json!({"a": 1})).await);
        assert!(put(2, "server/1", json!({"a": 1})).await);
        assert!(put(1, "server/1", json!(null)).await);
        let news = store::snapshot::since(&db.read, 1, 1, 10).await.unwrap();
        let news: Vec<_> = news.iter().map(|i| (i.generation, i.item_key.as_str(), i.value.is_null())).collect();
        assert_eq!(news, [(2, "server/2", false), (3, "server/1", true)]);
        assert_eq!(store::snapshot::generation(&db.read, 2).await.unwrap(), 1);
        assert_eq!(store::snapshot::generation(&db.read, 3).await.unwrap(), 0);
    })
    .await;
}
