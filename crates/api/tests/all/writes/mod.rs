//! Every write of the hardware's and storage's part of the interface: what it refuses, generated from the tables that describe the
//! interface, and that it works, by hand. A write without a row fails here, so none is forgotten.

mod firmware;
mod images;
mod instances;
mod reads;
mod servers;
mod storage;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use crate::deploy_rig::{Rig, rig};
use api::contract;
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait, PaginatorTrait};
use serde_json::{Map, Value, json};
use store::{Database, entity};

/// The tags whose writes are held here.
const TAGS: &[&str] = &[
    "Bucket",
    "Custom Iso",
    "Drive",
    "File Share",
    "Firmware Baseline",
    "Firmware Baseline Search",
    "Firmware Binary",
    "Firmware Catalog",
    "Firmware Policy",
    "OS Template",
    "Resource Pool",
    "Server",
    "Server Cleanup Policy",
    "Server Default Credentials",
    "Server Firmware",
    "Server Instance",
    "Server Instance Group",
    "Server Registration Profile",
    "Server Type",
    "Storage",
    "Template Asset",
    "Unmanaged Servers",
];

/// Writes that nothing else can stand in the way of, and why.
const NO_CONFLICT: &[(&str, &[&str])] = &[
    (
        "it reads, and changes nothing",
        &[
            "checkFirmwareBaselineCompliance",
            "searchFirmwareBaselines",
            "generateServersFirmwareUpgradeAudit",
            "generateFirmwarePolicyAudit",
            "getServerPowerStatus",
            "getServerFirmwareInventory",
            "getPowerStatusBatch",
            "getPowerFromServerInstance",
            "getServerTypesStatisticsBatch",
        ],
    ),
    (
        "names and tags may be the same",
        &[
            "updateBucketMeta",
            "patchDriveMeta",
            "patchFileShareMeta",
            "updateServerInstanceMeta",
            "updateServerInstanceGroupMeta",
        ],
    ),
    (
        "a row that goes is missed by nobody",
        &[
            "deleteCustomIso",
            "deleteFirmwareBinary",
            "deleteFirmwareCatalog",
            "deleteFirmwarePolicy",
            "deleteServerDefaultCredentials",
            "deleteTemplateAsset",
            "deleteUnknownMachine",
            "removeResourcePoolUser",
            "removeServerFromResourcePool",
            "removeSubnetPoolFromResourcePool",
            "removeUnusedServerTypes",
            "deleteServerInstanceGroupLogicalNetworkACL",
        ],
    ),
    (
        "what is the same already stays so",
        &[
            "addResourcePoolUser",
            "addServerToResourcePool",
            "makeCustomIsoPublic",
            "setServerInterfacesDefaultFabric",
            "setServerInterfacesRedundancyGroup",
            "updateServerDefaultCredentials",
            "updateGlobalFirmwareConfiguration",
            "updateStorageInterface",
            "updateServerComponent",
        ],
    ),
    (
        "who asks twice is answered twice",
        &[
            "trustServerCertificate",
            "trustStorageCertificate",
            "discoverStorage",
            "deleteDriveSnapshot",
            "deleteFileShareSnapshot",
            "fetchAndUpdateServerFirmwareAvailableVersions",
            "closeServerConsole",
        ],
    ),
    ("what is for later is looked at then", &["scheduleServerFirmwareUpgrade", "batchScheduleServerFirmwareUpgrade"]),
    (
        "several may be called alike",
        &[
            "createTemplateAsset",
            "updateTemplateAsset",
            "updateCustomIso",
            "updateServerInstanceGroupNetworkConfiguration",
        ],
    ),
    ("each entry of its list has an answer of its own", &["registerServersFromCsv", "registerScannedServers"]),
    (
        "it begins with servers that it may touch, and says which those are",
        &[
            "applyFirmwarePoliciesWithServerInstanceGroups",
            "applyFirmwarePoliciesWithoutServerInstanceGroups",
            "upgradeFirmwareOfServersBatch",
            "scanServers",
        ],
    ),
    ("an image belongs to one catalog, and may be there twice", &["createFirmwareBinary"]),
];

/// Writes whose good end needs a site that is there: what they refuse is held here, that they work elsewhere.
const ELSEWHERE: &[&str] = &["createServerConsole", "createServerInstanceConsole", "closeServerConsole"];

/// A row of the table of operations.
struct Row {
    tag: &'static str,
    id: &'static str,
    method: &'static str,
    path: &'static str,
    permission: &'static str,
    if_match: &'static str,
    request: &'static str,
    status: u16,
    response: &'static str,
}

fn rows() -> Vec<Row> {
    [include_str!("../../../contract/operations.tsv"), include_str!("../../../contract/own_operations.tsv")]
        .iter()
        .flat_map(|t| t.lines())
        .filter(|l| !l.starts_with('#') && !l.is_empty())
        .map(|line| {
            let c: Vec<&'static str> = line.split('\t').collect();
            Row {
                id: c[0],
                tag: c[1],
                method: c[2],
                path: c[3],
                permission: c[4],
                if_match: c[5],
                request: c[6],
                status: c[7].parse().unwrap(),
                response: c[8],
            }
        })
        .collect()
}

/// Fields of the request schemas, by schema.
fn schemas() -> BTreeMap<String, Value> {
    [include_str!("../../../contract/schemas.jsonl"), include_str!("../../../contract/own_schemas.jsonl")]
        .iter()
        .flat_map(|t| t.lines())
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_str::<Value>(l).unwrap())
        .map(|s| (s["schema"].as_str().unwrap().to_owned(), s))
        .collect()
}

pub struct Table {
    pub rig: Rig,
    rows: BTreeMap<&'static str, Row>,
    schemas: BTreeMap<String, Value>,
    /// May do nothing.
    nobody: String,
    /// A tenant who owns nothing.
    stranger: String,
    stranger_may: Vec<String>,
    done: RefCell<BTreeSet<String>>,
    conflicts: RefCell<BTreeSet<String>>,
    wrong: RefCell<Vec<String>>,
}

impl Table {
    fn fail(&self, text: String) {
        self.wrong.borrow_mut().push(text);
    }

    async fn events(&self) -> u64 {
        entity::event::Entity::find().count(&self.rig.db.read).await.unwrap()
    }

    /// Must be refused with that status, and name the field where one is given.
    #[allow(clippy::too_many_arguments, reason = "a row of the table")]
    async fn refused(
        &self,
        status: u16,
        op: &Row,
        token: &str,
        path: &str,
        revision: Option<i64>,
        body: Value,
        why: &str,
        field: &str,
    ) {
        let shown = body.to_string();
        let answer = self.rig.send(token, op.method, path, revision, (!body.is_null()).then_some(body)).await;
        if answer.status.as_u16() != status {
            return self.fail(format!(
                "{} {} {path} {shown} ({why}): {} instead of {status}: {}",
                op.id, op.method, answer.status, answer.body
            ));
        }
        let words = answer.body["message"].as_str().unwrap_or_default();
        if words.is_empty() || answer.body["statusCode"] != status {
            self.fail(format!("{} ({why}): an error without words: {}", op.id, answer.body));
        }
        let named = answer.body["details"].as_array().into_iter().flatten().filter_map(|d| d["field"].as_str());
        if !field.is_empty()
            && !named
                .clone()
                .any(|n| n == field || n.starts_with(&format!("{field}.")) || n.starts_with(&format!("{field}[")))
        {
            self.fail(format!("{} ({why}): {field} is not named: {}", op.id, answer.body));
        }
    }

    /// A value that is not of a type; `None` where any is.
    fn wrong_for(&self, field: &Value) -> Option<Value> {
        if field["e"].is_array() {
            return Some(json!("no-such-word"));
        }
        match field["t"].as_str()? {
            "string" => Some(json!(17)),
            "number" | "integer" => Some(json!("x")),
            "boolean" => Some(json!("maybe")),
            "object" => Some(json!(17)),
            t if t.starts_with('[') => Some(json!({"not": "a list"})),
            t => match self.schemas.get(t) {
                Some(s) if s["enum"].is_array() => Some(json!("no-such-word")),
                Some(s) if s["fields"].as_object().is_some_and(|f| !f.is_empty()) || s["oneOf"].is_array() => {
                    Some(json!(17))
                }
                _ => None,
            },
        }
    }

    /// All that a write refuses whatever it is about.
    async fn refusals(&self, op: &Row, path: &str, body: &Value) {
        let before = self.events().await;
        let admin = self.rig.admin.clone();
        self.refused(401, op, "", path, None, body.clone(), "without a login", "").await;
        if op.permission != "signed_in" {
            self.refused(403, op, &self.nobody, path, None, body.clone(), "without the permission", "").await;
        }
        if op.if_match == "required" {
            self.refused(428, op, &admin, path, None, body.clone(), "without a revision", "").await;
        }
        let any = (op.if_match == "required").then_some(0);
        let template: Vec<&str> = op.path.trim_start_matches("/api/v2").split('/').collect();
        let parts: Vec<&str> = path.split('/').collect();
        assert_eq!(template.len(), parts.len(), "{}: {path} is not {}", op.id, op.path);
        let mut foreign = false;
        for (n, name) in template.iter().enumerate() {
            let Some(name) = name.strip_prefix('{').and_then(|p| p.strip_suffix('}')) else {
                assert_eq!(template[n], parts[n], "{}: {path} is not {}", op.id, op.path);
                continue;
            };
            foreign = true;
            let with = |value: &str| {
                let mut parts = parts.clone();
                parts[n] = value;
                parts.join("/")
            };
            let why = format!("{name} that is not there");
            self.refused(404, op, &admin, &with("424242"), any, body.clone(), &why, "").await;
            let why = format!("{name} that is no id");
            self.refused(400, op, &admin, &with("nonsense"), any, body.clone(), &why, name).await;
        }
        if foreign && self.stranger_may.iter().any(|p| p == op.permission) {
            self.refused(404, op, &self.stranger, path, any, body.clone(), "of somebody else", "").await;
        }
        if op.if_match != "-" {
            self.refused(412, op, &admin, path, Some(987_654), body.clone(), "at a revision that was", "").await;
        }
        if op.request != "-" {
            self.bad_bodies(op, &admin, path, any, body).await;
        }
        let after = self.events().await;
        if after != before {
            self.fail(format!("{}: {} events of what was refused", op.id, after - before));
        }
    }

    async fn bad_bodies(&self, op: &Row, admin: &str, path: &str, any: Option<i64>, body: &Value) {
        if body.is_array() {
            self.refused(400, op, admin, path, any, json!({"a": 1}), "no list", "").await;
            self.refused(400, op, admin, path, any, json!([[]]), "a list of something else", "").await;
            return;
        }
        let good = body.as_object().cloned().unwrap_or_default();
        let change = |change: &dyn Fn(&mut Map<String, Value>)| {
            let mut all = good.clone();
            change(&mut all);
            Value::Object(all)
        };
        self.refused(400, op, admin, path, any, json!(["a"]), "a list as body", "").await;
        let unknown = change(&|b| _ = b.insert("noSuchField".into(), json!(1)));
        self.refused(400, op, admin, path, any, unknown, "an unknown field", "noSuchField").await;
        let fields = self.schemas[op.request]["fields"].as_object().cloned().unwrap_or_default();
        for (name, field) in &fields {
            if let Some(bad) = self.wrong_for(field) {
                let bad = change(&|b| _ = b.insert(name.clone(), bad.clone()));
                self.refused(400, op, admin, path, any, bad, &format!("{name} of another type"), name).await;
            }
            if field["req"] == true {
                let without = change(&|b| _ = b.remove(name));
                self.refused(400, op, admin, path, any, without, &format!("without {name}"), name).await;
            }
        }
    }

    fn row(&self, op: &str) -> &Row {
        let row = self.rows.get(op).unwrap_or_else(|| panic!("there is no operation {op}"));
        assert!(TAGS.contains(&row.tag) && row.method != "GET", "{op} is not of this table");
        row
    }

    /// A write: all that it refuses, then that it works. Answers its body.
    pub async fn write(&self, op: &str, path: &str, body: Value) -> Value {
        let row = self.row(op);
        self.refusals(row, path, &body).await;
        self.again(op, path, body).await
    }

    /// What a write refuses, where its good end is shown elsewhere.
    pub async fn refuses(&self, op: &str, path: &str, body: Value) {
        assert!(ELSEWHERE.contains(&op), "{op} can be shown to work here");
        self.refusals(self.row(op), path, &body).await;
        self.done.borrow_mut().insert(op.to_owned());
    }

    /// That a write works.
    pub async fn again(&self, op: &str, path: &str, body: Value) -> Value {
        let row = self.row(op);
        let shown = body.to_string();
        let answer = self.rig.send(&self.rig.admin, row.method, path, None, (!body.is_null()).then_some(body)).await;
        if answer.status.as_u16() != row.status {
            self.fail(format!("{op} {path} {shown}: {} instead of {}: {}", answer.status, row.status, answer.body));
        } else if row.response != "-" {
            let errors = contract::check_answer(row.response, &answer.body);
            for e in &errors {
                self.fail(format!("{op} {path}: the answer is not of {}: {e}", row.response));
            }
        } else if row.status == 204 && !answer.body.is_null() {
            self.fail(format!("{op}: an answer without content has one: {}", answer.body));
        }
        self.done.borrow_mut().insert(op.to_owned());
        answer.body
    }

    /// What stands in the way of a write, in words.
    pub async fn conflict(&self, op: &str, path: &str, body: Value, words: &str) {
        let row = self.row(op);
        let before = self.events().await;
        let shown = body.to_string();
        let answer = self.rig.send(&self.rig.admin, row.method, path, None, (!body.is_null()).then_some(body)).await;
        let message = answer.body["message"].as_str().unwrap_or_default();
        if answer.status != 409 || !message.contains(words) {
            self.fail(format!("{op} {path} {shown}: {} instead of 409 {words:?}: {}", answer.status, answer.body));
        }
        if self.events().await != before {
            self.fail(format!("{op}: an event of what was refused"));
        }
        self.conflicts.borrow_mut().insert(op.to_owned());
    }

    /// One part of the story. What stops it is told with all else that is wrong, and the other parts go on.
    async fn part(&self, name: &str, part: impl Future<Output = ()>) {
        let mut part = Box::pin(part);
        let end = std::future::poll_fn(|cx| {
            match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| part.as_mut().poll(cx))) {
                Ok(poll) => poll.map(|()| true),
                Err(_) => std::task::Poll::Ready(false),
            }
        });
        if !end.await {
            self.fail(format!("{name} stopped in the middle; see above"));
        }
    }

    pub async fn get(&self, path: &str) -> Value {
        self.rig.get(path).await
    }
}

/// The id in an answer; 0 in one that has none, which is told already.
pub fn id(v: &Value) -> i64 {
    v["id"].as_i64().or_else(|| v["id"].as_str().and_then(|s| s.parse().ok())).unwrap_or(0)
}

async fn every_write(db: Database) {
    let rig = rig(db).await;
    let rows: BTreeMap<_, _> = rows().into_iter().map(|r| (r.id, r)).collect();
    let mut none = entity::role::new();
    none.name = Set("nobody".into());
    none.label = Set("Nobody".into());
    none.description = Set(String::new());
    none.kind = Set("custom".into());
    none.permissions = Set(json!([]));
    none.insert(&rig.db.write).await.unwrap();
    let account = rig.ok(201, "POST", "/accounts", json!({"name": "Elsewhere"})).await["id"].as_i64().unwrap();
    let mut tokens = Vec::new();
    for (name, role) in [("nobody", "nobody"), ("stranger", "user")] {
        let email = format!("{name}@example.com");
        api::seed::create_user(&rig.db.write, &email, name, "correct horse", account, role, "user").await.unwrap();
        tokens.push(rig.login(&email, "correct horse").await);
    }
    let stranger_may = rig.get("/roles/user").await["permissions"].as_array().unwrap().clone();
    let stranger_may = stranger_may.iter().filter_map(|p| p.as_str().map(str::to_owned)).collect();
    let table = Table {
        rig,
        rows,
        schemas: schemas(),
        stranger: tokens.pop().unwrap(),
        nobody: tokens.pop().unwrap(),
        stranger_may,
        done: RefCell::default(),
        conflicts: RefCell::default(),
        wrong: RefCell::default(),
    };
    table.part("servers", servers::run(&table)).await;
    table.part("firmware", firmware::run(&table)).await;
    table.part("images", images::run(&table)).await;
    table.part("instances", instances::run(&table)).await;
    table.part("storage", storage::run(&table)).await;
    table.part("reads", reads::run(&table)).await;
    let free: BTreeSet<&str> = NO_CONFLICT.iter().flat_map(|(_, ops)| ops.iter().copied()).collect();
    for row in table.rows.values().filter(|r| TAGS.contains(&r.tag) && r.method != "GET") {
        if !table.done.borrow().contains(row.id) {
            table.fail(format!("{} is not shown to work", row.id));
        }
        let shown = table.conflicts.borrow().contains(row.id);
        if shown == free.contains(row.id) {
            table.fail(format!("{}: show its conflict, or say why it has none (and not both)", row.id));
        }
    }
    for op in free {
        table.row(op);
    }
    let wrong = table.wrong.borrow();
    assert!(wrong.is_empty(), "{} things are wrong:\n{}", wrong.len(), wrong.join("\n"));
    eprintln!("{} writes refuse what they should and work", table.done.borrow().len());
}

#[tokio::test]
async fn on_both_databases() {
    crate::testing::both(every_write).await;
}
