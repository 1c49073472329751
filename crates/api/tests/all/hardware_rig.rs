//! The interface over one site whose orders are kept to be looked at.

use std::sync::{Arc, Mutex};

use api::{App, router, seed};
use async_trait::async_trait;
use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
};
use crypto::Sealer;
use engine::{Dispatcher, Engine, EngineConfig};
use http_body_util::BodyExt;
use model::{Id, job::JobCommand, order::OrderBook, snapshot::Fact};
use sea_orm::{ActiveModelTrait, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel, QueryFilter};
use serde_json::{Value, json};
use store::{Database, entity};
use tower::ServiceExt;

#[derive(Default)]
pub struct Post(pub Mutex<Vec<(Id, OrderBook)>>);

#[async_trait]
impl Dispatcher for Post {
    async fn orders(&self, _: &DatabaseTransaction, site_id: Id, book: OrderBook) -> Result<(), DbErr> {
        self.0.lock().unwrap().push((site_id, book));
        Ok(())
    }
    async fn command(&self, _: &DatabaseTransaction, _: Id, _: JobCommand) -> Result<(), DbErr> {
        Ok(())
    }
}

pub struct Rig {
    pub router: Router,
    pub app: App,
    pub db: Database,
    pub sealer: Sealer,
    pub post: Arc<Post>,
    pub admin: String,
    pub site: Id,
}

pub struct Answer {
    pub status: StatusCode,
    pub body: Value,
    #[allow(dead_code, reason = "not every test looks at it")]
    pub etag: Option<String>,
}

pub async fn rig(db: Database) -> Rig {
    api::migrate(&db).await.unwrap();
    seed::run(&db, "admin@example.com", "correct horse").await.unwrap();
    let (sealer, post) = (Sealer::generate(), Arc::new(Post::default()));
    let engine = Engine::new(db.clone(), Vec::new(), EngineConfig::default(), Some(post.clone()), None);
    let app = App::new(db.clone(), engine, sealer.clone());
    let mut rig = Rig { router: router(app.clone()), app, db, sealer, post, admin: String::new(), site: 0 };
    rig.admin = rig.login("admin@example.com", "correct horse").await;
    let site = rig.ok(201, "POST", "/sites", json!({"slug": "dc1", "name": "One"})).await;
    rig.site = site["id"].as_i64().unwrap();
    rig
}

impl Rig {
    pub async fn send(
        &self,
        token: &str,
        method: &str,
        path: &str,
        revision: Option<&str>,
        body: Option<Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/api/v2{path}"));
        if !token.is_empty() {
            request = request.header("authorization", token);
        }
        if let Some(revision) = revision {
            request = request.header("if-match", revision);
        }
        let body = body.map_or_else(Body::empty, |b| Body::from(b.to_string()));
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status();
        let etag = response.headers().get("etag").map(|e| e.to_str().unwrap().to_owned());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Answer { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null), etag }
    }

    pub async fn login(&self, email: &str, password: &str) -> String {
        let body = json!({"provider": "mysql", "properties": {"email": email, "password": password}});
        let answer = self.send("", "POST", "/login", None, Some(body)).await;
        format!("Bearer {}", answer.body["sessionToken"].as_str().unwrap())
    }

    pub async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        let body = (!body.is_null()).then_some(body);
        // Some operations want a revision: `*` is any.
        let revision = path.starts_with("/subnets/").then_some("*");
        self.send(&self.admin, method, path, revision, body).await
    }

    pub async fn ok(&self, status: u16, method: &str, path: &str, body: Value) -> Value {
        let answer = self.call(method, path, body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {}", answer.body);
        answer.body
    }

    pub async fn get(&self, path: &str) -> Value {
        self.ok(200, "GET", path, Value::Null).await
    }

    /// Refused with that status, and words that contain `words`.
    pub async fn no(&self, status: u16, method: &str, path: &str, body: Value, words: &str) {
        let answer = self.call(method, path, body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {}", answer.body);
        let message = answer.body["message"].as_str().unwrap_or_default();
        assert!(message.contains(words), "{method} {path}: {message}");
    }

    pub async fn fact(&self, key: &str) -> Option<Fact> {
        let found = entity::site_snapshot_item::Entity::find()
            .filter(entity::site_snapshot_item::Column::SiteId.eq(self.site))
            .filter(entity::site_snapshot_item::Column::ItemKey.eq(key))
            .one(&self.db.read)
            .await
            .unwrap()?;
        (!found.value.is_null()).then(|| serde_json::from_value(found.value).unwrap())
    }

    #[allow(dead_code, reason = "not every test looks at it")]
    pub async fn generation(&self) -> i64 {
        store::snapshot::generation(&self.db.read, self.site).await.unwrap()
    }

    pub async fn register(&self, address: &str) -> Value {
        let body =
            json!({"siteId": self.site, "managementAddress": address, "username": "admin", "password": "calvin"});
        self.ok(202, "POST", "/servers", body).await
    }

    pub async fn switch(&self, name: &str, address: &str) -> Value {
        let body = json!({
            "siteId": self.site, "identifierString": name, "driver": "cumulus_linux", "position": "leaf", "managementAddress": address, "managementPort": 8765,
            "username": "cumulus", "managementPassword": "Cumu1us!",
        });
        self.ok(201, "POST", "/network-devices", body).await
    }

    pub async fn server(&self, id: Id, change: impl FnOnce(&mut entity::server::ActiveModel)) {
        let row = entity::server::Entity::find_by_id(id).one(&self.db.read).await.unwrap().unwrap();
        let mut row = row.into_active_model();
        change(&mut row);
        row.update(&self.db.write).await.unwrap();
    }

    pub fn orders(&self) -> Vec<Vec<String>> {
        let books = self.post.0.lock().unwrap();
        books.iter().map(|(_, b)| b.jobs.iter().map(|j| j.spec.function.clone()).collect()).collect()
    }
}
