//! A Global Controller's interface and engine over a small site, with a site that reports what it is told to.
#![allow(dead_code, reason = "each test file uses its part")]

/// Tests that take a rig, each on SQLite and on PostgreSQL.
#[allow(unused_macros, reason = "each test file uses its part")]
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod on {
            $(#[tokio::test]
            async fn $name() {
                crate::testing::both(|db| async { super::$name(crate::deploy_rig::rig(db).await).await }).await;
            })*
        }
    };
}

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use api::{App, LinkAddress, router, seed};
use async_trait::async_trait;
use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
};
use crypto::Sealer;
use engine::{
    Dispatcher, Engine, EngineConfig, JobContext, JobError, JobFunction, Outcome,
    entity::{job, job_group},
};
use http_body_util::BodyExt;
use model::{
    Id,
    job::{JobCommand, JobReport, JobStatus},
    order::{Order, OrderBook},
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder,
};
use serde_json::{Value, json};
use store::{Database, entity};
use tower::ServiceExt;

/// What was sent to sites.
#[derive(Default)]
pub struct Post {
    pub books: Mutex<Vec<(Id, OrderBook)>>,
    pub commands: Mutex<Vec<JobCommand>>,
}

#[async_trait]
impl Dispatcher for Post {
    async fn orders(&self, _: &DatabaseTransaction, site_id: Id, book: OrderBook) -> Result<(), DbErr> {
        self.books.lock().unwrap().push((site_id, book));
        Ok(())
    }
    async fn command(&self, _: &DatabaseTransaction, _: Id, command: JobCommand) -> Result<(), DbErr> {
        self.commands.lock().unwrap().push(command);
        Ok(())
    }
}

/// The end of a deploy, as the Global Controller runs it.
struct Finish(Database, Sealer);

#[async_trait]
impl JobFunction for Finish {
    fn name(&self) -> &'static str {
        planner::InfrastructureFinish::NAME
    }
    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: planner::InfrastructureFinish = ctx.payload()?;
        for _ in 0..2 {
            let txn = self.0.begin().await?;
            api::planning::finish::record(&txn, &self.1, order.generation, Some(ctx.job.group_id))
                .await
                .map_err(JobError::retry)?;
            txn.commit().await?;
        }
        Ok(Outcome::Done(json!({})))
    }
}

pub struct Rig {
    pub router: Router,
    pub db: Database,
    pub engine: Engine,
    pub sealer: Sealer,
    pub post: Arc<Post>,
    pub admin: String,
    stop: tokio_util::sync::CancellationToken,
}

pub struct Answer {
    pub status: StatusCode,
    pub body: Value,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub async fn rig(db: Database) -> Rig {
    api::migrate(&db).await.unwrap();
    seed::run(&db, "admin@example.com", "correct horse").await.unwrap();
    let (sealer, post) = (Sealer::generate(), Arc::new(Post::default()));
    let finish: Arc<dyn JobFunction> = Arc::new(Finish(db.clone(), sealer.clone()));
    let config = EngineConfig { idle: Duration::from_millis(50), ..EngineConfig::default() };
    let engine = Engine::new(db.clone(), vec![finish], config, Some(post.clone()), None);
    let link = LinkAddress { url: "https://global.example:8444".into(), authority: "c0ffee".into() };
    let app = App::with_link(db.clone(), engine.clone(), sealer.clone(), Some(link));
    let stop = tokio_util::sync::CancellationToken::new();
    let (running, token) = (engine.clone(), stop.clone());
    tokio::spawn(async move { running.run(token).await });
    let mut rig = Rig { router: router(app), db, engine, sealer, post, admin: String::new(), stop };
    rig.admin = rig.login("admin@example.com", "correct horse").await;
    rig.site().await;
    rig
}

impl Rig {
    /// Refused with that status, in words that contain `words`, and nothing is sent to the site.
    pub async fn no(&self, status: u16, method: &str, path: &str, body: Value, words: &str) {
        let before = self.post.books.lock().unwrap().len();
        let body = (!body.is_null()).then_some(body);
        let answer = self.send(&self.admin, method, path, None, body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {}", answer.body);
        let message = answer.body["message"].as_str().unwrap_or_default();
        assert!(message.contains(words), "{method} {path}: {message}");
        assert_eq!(self.post.books.lock().unwrap().len(), before, "{method} {path} ordered something");
    }

    pub async fn row(&self, id: Id) -> entity::server::Model {
        entity::server::Entity::find_by_id(id).one(&self.db.read).await.unwrap().unwrap()
    }

    pub async fn login(&self, email: &str, password: &str) -> String {
        let body = json!({"provider": "mysql", "properties": {"email": email, "password": password}});
        let answer = self.send("", "POST", "/login", None, Some(body)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        format!("Bearer {}", answer.body["sessionToken"].as_str().unwrap())
    }

    pub async fn send(
        &self,
        token: &str,
        method: &str,
        path: &str,
        revision: Option<i64>,
        body: Option<Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/api/v2{path}"));
        if !token.is_empty() {
            request = request.header("authorization", token);
        }
        if let Some(revision) = revision {
            request = request.header("if-match", revision.to_string());
        }
        let body = body.map_or_else(Body::empty, |b| Body::from(b.to_string()));
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Answer { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
    }

    /// As the administrator; the status must be the one that is named.
    pub async fn ok(&self, status: u16, method: &str, path: &str, body: Value) -> Value {
        let body = (!body.is_null()).then_some(body);
        let answer = self.send(&self.admin, method, path, None, body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {}", answer.body);
        answer.body
    }

    pub async fn get(&self, path: &str) -> Value {
        self.ok(200, "GET", path, Value::Null).await
    }

    /// One site with two leaves, a spine, three servers of one type, an OS template and a pool of addresses.
    async fn site(&self) {
        self.ok(201, "POST", "/sites", json!({"slug": "dc1", "name": "One"})).await;
        let db = &self.db.write;
        let body = json!({"siteId": 1, "name": "east", "fabricConfiguration": {"fabricType": "ethernet", "vlanRanges": ["100-109"]}});
        self.ok(201, "POST", "/network-fabrics", body).await;
        for (name, position) in [("leaf1", "leaf"), ("leaf2", "leaf"), ("spine1", "spine")] {
            let mut row = entity::network_device::new();
            row.site_id = Set(1);
            row.name = Set(name.into());
            row.driver = Set("cumulus_linux".into());
            row.position = Set(position.into());
            row.status = Set("active".into());
            row.address = Set("127.0.0.1".into());
            row.username = Set("cumulus".into());
            row.password = Set(self.sealer.seal(&model::secret::Clear("x".into())).unwrap().0);
            row.quarantine_vlan = Set((position == "leaf").then_some(5));
            row.tags = Set(json!([]));
            row.facts = Set(json!({}));
            row.extra = Set(json!({}));
            let made = row.insert(db).await.unwrap();
            let mut row = entity::fabric_device::new();
            row.fabric_id = Set(1);
            row.network_device_id = Set(made.id);
            row.insert(db).await.unwrap();
        }
        for leaf in 1..=2 {
            let mut row = entity::fabric_link::new();
            row.fabric_id = Set(1);
            row.device_a = Set(leaf);
            row.port_a = Set("swp51".into());
            row.device_b = Set(3);
            row.port_b = Set(format!("swp{leaf}"));
            row.extra = Set(json!({}));
            row.insert(db).await.unwrap();
        }
        let mut row = entity::server_type::new();
        row.name = Set("M.4".into());
        row.label = Set("m4".into());
        row.ram_gb = Set(64);
        row.processor_count = Set(1);
        row.core_count = Set(16);
        row.core_mhz = Set(2400);
        row.processor_names = Set(json!([]));
        row.disk_count = Set(2);
        row.nic_count = Set(2);
        row.nic_speeds = Set(json!([]));
        row.gpu_count = Set(0);
        row.gpu_info = Set(json!([]));
        row.signature = Set("m4".into());
        row.extra = Set(json!({}));
        row.insert(db).await.unwrap();
        for n in 1..=3 {
            self.server(n).await;
        }
        let mut row = entity::os_template::new();
        row.name = Set("Debian 12".into());
        row.label = Set("debian-12".into());
        row.status = Set("active".into());
        row.visibility = Set("public".into());
        row.body = Set(
            json!({"os": {"name": "Debian", "version": "12", "credential": {"username": "steel", "passwordType": "generated"}}}),
        );
        row.created_by = Set(1);
        row.tags = Set(json!([]));
        row.insert(db).await.unwrap();
        let mut row = entity::template_asset::new();
        row.os_template_id = Set(1);
        row.usage = Set("source_image".into());
        row.name = Set("disk".into());
        row.mime_type = Set("application/octet-stream".into());
        row.url = Set(Some("http://127.0.0.1/debian.raw".into()));
        row.sha256 = Set(Some("a".repeat(64)));
        row.size = Set(4096);
        row.format = Set("raw".into());
        row.is_template = Set(false);
        row.tags = Set(json!([]));
        row.insert(db).await.unwrap();
        self.ok(
            201,
            "POST",
            "/subnets",
            json!({"label": "pool", "networkAddress": "10.0.0.0", "prefixLength": 22, "isPool": true}),
        )
        .await;
    }

    pub async fn server(&self, n: i64) {
        let mut row = entity::server::new();
        row.site_id = Set(1);
        row.serial = Set(Some(format!("SN{n}")));
        row.vendor = Set(Some("Dell".into()));
        row.bmc_address = Set(Some(format!("127.0.0.{n}")));
        row.bmc_username = Set(Some("root".into()));
        row.bmc_password = Set(Some(self.sealer.seal(&model::secret::Clear("calvin".into())).unwrap().0));
        row.server_type_id = Set(Some(1));
        row.status = Set("available".into());
        row.power = Set("off".into());
        row.power_at = Set(store::time::now());
        row.ram_gb = Set(64);
        row.processor_count = Set(1);
        row.core_count = Set(16);
        row.disk_count = Set(2);
        row.gpu_count = Set(0);
        row.inventory = Set(json!({"disks": [{"size_gb": 480}, {"size_gb": 480}]}));
        row.tags = Set(json!([]));
        row.administration_state = Set("managed".into());
        row.dhcp_status = Set("deny_requests".into());
        row.extra = Set(json!({}));
        let made = row.insert(&self.db.write).await.unwrap();
        for leaf in 1..=2 {
            let mut row = entity::server_interface::new();
            row.server_id = Set(made.id);
            row.position = Set(leaf);
            row.name = Set(format!("eno{leaf}"));
            row.mac = Set(format!("52:54:00:00:0{n}:0{leaf}"));
            row.speed_mbps = Set(25_000);
            row.network_device_id = Set(Some(leaf));
            row.network_device_port = Set(Some(format!("swp{n}")));
            row.insert(&self.db.write).await.unwrap();
        }
    }

    /// An infrastructure with one network (a /28 from the pool) and one group on it.
    pub async fn design(&self, label: &str, count: i64) -> (Id, Id, Id) {
        let infrastructure = self.ok(201, "POST", "/infrastructures", json!({"label": label, "siteId": 1})).await;
        let id = infrastructure["id"].as_i64().unwrap();
        let network = json!({
            "label": format!("{label}-net"), "kind": "vlan", "fabricId": 1, "infrastructureId": id,
            "ipv4": {"subnetAllocationStrategies": [{"kind": "auto", "scope": {"kind": "global"}, "prefixLength": 28, "subnetPoolIds": []}]},
        });
        let network = self.ok(201, "POST", "/logical-networks", network).await["id"].as_i64().unwrap();
        let group = json!({"label": "web", "instanceCount": count, "defaultServerTypeId": 1, "osTemplateId": 1});
        let group = self.ok(201, "POST", &format!("/infrastructures/{id}/server-instance-groups"), group).await["id"]
            .as_i64()
            .unwrap();
        let connection =
            json!({"logicalNetworkId": network.to_string(), "tagged": false, "accessMode": "l2", "mtu": 1500});
        self.ok(201, "POST", &format!("/server-instance-groups/{group}/config/networking/connections"), connection)
            .await;
        (id, group, network)
    }

    pub fn options(loss: bool) -> Value {
        let shutdown = json!({"attemptSoftShutdown": false, "softShutdownTimeout": 0, "attemptHardShutdown": false, "forceShutdown": false});
        json!({"allowDataLoss": loss, "shutdownOptions": shutdown})
    }

    pub async fn plan(&self, id: Id, loss: bool) -> Value {
        self.ok(200, "POST", &format!("/infrastructures/{id}/actions/plan"), Self::options(loss)).await
    }

    /// Deploys what a plan says.
    pub async fn deploy_plan(&self, id: Id, plan: &Value, loss: bool) -> Answer {
        let mut body = Self::options(loss);
        body["planId"] = plan["planId"].clone();
        body["revision"] = plan["revision"].clone();
        self.send(&self.admin, "POST", &format!("/infrastructures/{id}/actions/deploy"), None, Some(body)).await
    }

    /// Deploys and brings it to its end. Answers the infrastructure.
    pub async fn deployed(&self, id: Id, loss: bool) -> Value {
        self.ok(202, "POST", &format!("/infrastructures/{id}/actions/deploy"), Self::options(loss)).await;
        self.drive(id, |_| true).await;
        self.until_finished(id).await
    }

    pub async fn group_of(&self, id: Id) -> job_group::Model {
        let all = job_group::Entity::find().filter(job_group::Column::InfrastructureId.eq(id));
        all.order_by_desc(job_group::Column::Id).one(&self.db.read).await.unwrap().unwrap()
    }

    pub async fn jobs_of(&self, id: Id) -> Vec<job::Model> {
        let group = self.group_of(id).await.id;
        job::Entity::find()
            .filter(job::Column::GroupId.eq(group))
            .order_by_asc(job::Column::Id)
            .all(&self.db.read)
            .await
            .unwrap()
    }

    /// The site reports success for all of its jobs of the newest group that `does` picks, in their order.
    pub async fn drive(&self, id: Id, does: impl Fn(&job::Model) -> bool) {
        loop {
            let ready: Vec<job::Model> = self
                .jobs_of(id)
                .await
                .into_iter()
                .filter(|j| j.site_id.is_some() && j.status == "not_called" && j.blocked_by == 0 && does(j))
                .collect();
            if ready.is_empty() {
                return;
            }
            for job in ready {
                self.report(&job, JobStatus::ReturnedSuccess, None).await;
            }
        }
    }

    pub async fn report(&self, job: &job::Model, status: JobStatus, error: Option<&str>) {
        let report = JobReport {
            job_id: job.id,
            sequence: job.sequence + 2,
            status,
            call_count: 1,
            retry_count: 0,
            percent: None,
            message: None,
            error: error.map(str::to_owned),
            response: None,
            started_at: Some(store::time::now()),
            finished_at: Some(store::time::now()),
        };
        self.engine.apply_report(&report).await.unwrap();
    }

    pub async fn until_finished(&self, id: Id) -> Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let now = self.get(&format!("/infrastructures/{id}")).await;
            if now["config"]["deployStatus"] == "finished" {
                return now;
            }
            if Instant::now() > deadline {
                let jobs = self.jobs_of(id).await;
                let jobs: Vec<_> = jobs.iter().map(|j| (&j.key, &j.status, j.blocked_by, &j.error)).collect();
                panic!("not finished: {now} {jobs:?}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn server_status(&self, id: Id) -> String {
        entity::server::Entity::find_by_id(id).one(&self.db.read).await.unwrap().unwrap().status
    }
}
