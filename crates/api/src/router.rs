//! Turns the table of operations and the handlers into an axum router. Authentication and permission are checked here, for every
//! operation, so that no handler can forget them.

use std::{collections::HashMap, pin::Pin};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{FromRequestParts, Path, State, ws::WebSocketUpgrade},
    http::{Request, StatusCode},
    response::{IntoResponse, Response},
    routing::{MethodFilter, on},
};
use serde_json::{Map, Value};

use crate::{
    App, auth,
    context::{Caller, Ctx, Reply, parse_if_match},
    contract::{self, Operation, Permission},
    error::ApiError,
};

/// A handler's answer to come.
pub type Answer = Pin<Box<dyn Future<Output = Result<Reply, ApiError>> + Send>>;
/// An operation id and its handler.
pub type Route = (&'static str, fn(Ctx) -> Answer);

/// `routes!["getServers" => list, …]`: a list of [`Route`]s.
#[macro_export]
macro_rules! routes {
    ($($id:literal => $handler:path),* $(,)?) => {
        /// Operations of this kind and their handlers.
        pub const ROUTES: &[$crate::router::Route] = &[$(($id, |ctx| Box::pin($handler(ctx)))),*];
    };
}

/// Largest body, in bytes: template assets carry base64 content.
const MAX_BODY: usize = 64 << 20;

/// The operations that have a handler, in a stable order.
pub fn operations() -> Vec<&'static Operation> {
    let mut ops: Vec<_> = crate::kinds::all().filter_map(|(id, _)| contract::operation(id)).collect();
    ops.sort_by_key(|o| (o.path, o.method));
    ops
}

/// The router of the whole interface.
pub fn router(app: App) -> Router {
    let mut router = Router::new();
    for (id, handler) in crate::kinds::all() {
        let Some(operation) = contract::operation(id) else {
            tracing::error!(id, "handler without a row in the table of operations");
            continue;
        };
        let Ok(method) =
            MethodFilter::try_from(axum::http::Method::from_bytes(operation.method.as_bytes()).unwrap_or_default())
        else {
            continue;
        };
        let run = move |State(app): State<App>, Path(path): Path<HashMap<String, String>>, request: Request<Body>| {
            handle(app, operation, handler, path, request)
        };
        router = router.route(operation.path, on(method, run));
    }
    router
        .route("/api/openapi.json", axum::routing::get(|| async { axum::Json(contract::openapi(&operations())) }))
        .route("/api/docs", axum::routing::get(crate::docs::page))
        .route("/api/docs/{file}", axum::routing::get(crate::docs::file))
        .method_not_allowed_fallback(|request: Request<Body>| async move {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("{} cannot be done to {}; see /api/docs", request.method(), request.uri().path()),
            )
        })
        .fallback(|request: Request<Body>| async move {
            ApiError::new(
                StatusCode::NOT_FOUND,
                format!("there is no {} {}; see /api/docs", request.method(), request.uri().path()),
            )
        })
        .with_state(app)
}

async fn handle(
    app: App,
    operation: &'static Operation,
    handler: fn(Ctx) -> Answer,
    path: HashMap<String, String>,
    request: Request<Body>,
) -> Response {
    let request_id = uuid::Uuid::now_v7().simple().to_string();
    let answer = match prepare(app.clone(), operation, path, request, &request_id).await {
        Ok(ctx) => handler(ctx).await,
        Err(e) => Err(e),
    };
    if operation.method != "GET" && answer.is_ok() {
        app.wrote();
    }
    let mut response = match answer {
        Ok(reply) => reply.into_response(operation),
        Err(e) => e.with("requestId", Value::String(request_id.clone())).into_response(),
    };
    if let Ok(v) = request_id.parse() {
        response.headers_mut().insert("x-request-id", v);
    }
    response
}

async fn prepare(
    app: App,
    operation: &'static Operation,
    path: HashMap<String, String>,
    request: Request<Body>,
    request_id: &str,
) -> Result<Ctx, ApiError> {
    let (mut parts, body) = request.into_parts();
    let upgrade = if parts.headers.contains_key("upgrade") {
        WebSocketUpgrade::from_request_parts(&mut parts, &()).await.ok()
    } else {
        None
    };
    let caller = match operation.permission {
        Permission::Public => auth::caller(&app, &parts.method, &parts.headers).await.unwrap_or_default(),
        Permission::SignedIn => auth::caller(&app, &parts.method, &parts.headers).await?,
        Permission::Need(permission) => {
            let caller: Caller = auth::caller(&app, &parts.method, &parts.headers).await?;
            if !caller.may(permission) {
                return Err(ApiError::forbidden(format!(
                    "needs the permission {permission}, which your role lacks; ask an administrator"
                )));
            }
            caller
        }
    };
    if caller.is_suspended
        && operation.method != "GET"
        && operation.permission != Permission::Public
        && operation.id != "logout"
    {
        return Err(ApiError::forbidden("you are suspended: you may look, but change nothing; ask an administrator"));
    }
    let if_match = parse_if_match(&parts.headers)?;
    if operation.if_match_required && if_match.is_none() && !parts.headers.contains_key("if-match") {
        return Err(ApiError::new(
            StatusCode::PRECONDITION_REQUIRED,
            "the header If-Match with the object's revision is required",
        ));
    }
    let raw = to_bytes(body, MAX_BODY).await.map_err(|_| {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {} MiB or was cut off", MAX_BODY >> 20),
        )
    })?;
    let body = if raw.is_empty() {
        match operation.request {
            Some(schema) if operation.method != "DELETE" => {
                check(schema, &Value::Object(Map::new())).map(|()| Map::new())?
            }
            _ => Map::new(),
        }
    } else {
        let value: Value = serde_json::from_slice(&raw).map_err(|e| {
            ApiError::bad_request(format!("the body is not JSON: {e}"))
                .with("line", e.line().into())
                .with("column", e.column().into())
        })?;
        if let Some(schema) = operation.request {
            check(schema, &value)?;
        }
        match value {
            Value::Object(map) => map,
            _ if operation.request.is_none() => Map::new(),
            other => Map::from_iter([("items".to_owned(), other)]),
        }
    };
    let query = parts.uri.query().map(form_pairs).unwrap_or_default();
    Ok(Ctx {
        app,
        operation,
        caller,
        path,
        query,
        body,
        raw,
        if_match,
        headers: parts.headers,
        request_id: request_id.to_owned(),
        upgrade,
    })
}

fn check(schema: &str, value: &Value) -> Result<(), ApiError> {
    let errors = contract::validate(schema, value);
    if errors.is_empty() { Ok(()) } else { Err(ApiError::fields(errors)) }
}

fn form_pairs(query: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(query.as_bytes()).map(|(k, v)| (k.into_owned(), v.into_owned())).collect()
}
