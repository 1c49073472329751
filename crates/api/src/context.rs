//! One request, parsed: who calls, which object, what body. Handlers take it and return a [`Reply`].

use std::collections::{HashMap, HashSet};

use axum::{
    body::Bytes,
    extract::ws::WebSocketUpgrade,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use model::{Id, validate::FieldError};
use serde_json::{Map, Value};

use crate::{
    App,
    contract::{self, Operation},
    error::ApiError,
};

/// Who calls.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// User id.
    pub user_id: Id,
    /// Account id.
    pub account_id: Id,
    /// E-mail address, for events.
    pub email: String,
    /// Sees every tenant's objects.
    pub is_admin: bool,
    /// Permissions of the role.
    pub permissions: HashSet<String>,
    /// May look, and change nothing.
    pub is_suspended: bool,
    /// Hash of the session token, when it is a browser session.
    pub session: Option<String>,
}

impl Caller {
    /// Whether the role grants `permission`.
    pub fn may(&self, permission: &str) -> bool {
        self.permissions.contains(permission)
    }
}

/// One request.
pub struct Ctx {
    /// The application.
    pub app: App,
    /// The operation.
    pub operation: &'static Operation,
    /// Who calls.
    pub caller: Caller,
    /// Path parameters.
    pub path: HashMap<String, String>,
    /// Query pairs in order.
    pub query: Vec<(String, String)>,
    /// Body, validated against the operation's schema; empty when none was sent.
    pub body: Map<String, Value>,
    /// Bytes of the body as they came.
    pub raw: Bytes,
    /// Revision of `If-Match`.
    pub if_match: Option<i64>,
    /// Headers.
    pub headers: HeaderMap,
    /// Request id, for events and logs.
    pub request_id: String,
    /// The connection, where a WebSocket is wanted.
    pub upgrade: Option<WebSocketUpgrade>,
}

impl Ctx {
    /// Id in the path. Exponent form (`1e+06`) is understood because some clients print floats.
    pub fn id(&self, name: &str) -> Result<Id, ApiError> {
        let text = self.path.get(name).map_or("", String::as_str);
        parse_id(text)
            .ok_or_else(|| ApiError::field(name, format!("{text:?} is not an id; ids are positive whole numbers")))
    }

    /// Text in the path.
    pub fn path(&self, name: &str) -> &str {
        self.path.get(name).map_or("", String::as_str)
    }

    /// First value of a query parameter.
    pub fn query_value(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// Refuses the request when `If-Match` names another revision than `current`.
    pub fn check_revision(&self, current: i64) -> Result<(), ApiError> {
        match self.if_match {
            Some(wanted) if wanted != current => Err(ApiError::stale(current)),
            _ => Ok(()),
        }
    }

    /// A text field of the body; `null` and absence are `None`.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.body.get(field).and_then(Value::as_str)
    }

    /// A whole number of the body, also where a client sent a string or a float.
    pub fn int(&self, field: &str) -> Option<i64> {
        self.body.get(field).and_then(whole)
    }

    /// A boolean of the body, also where a client sent 0 or 1.
    pub fn flag(&self, field: &str) -> Option<bool> {
        self.body.get(field).and_then(|v| v.as_bool().or_else(|| whole(v).map(|n| n != 0)))
    }

    /// Whether the body has the field, `null` included.
    pub fn has(&self, field: &str) -> bool {
        self.body.contains_key(field)
    }

    /// Refuses fields of the interface that this operation does not keep: they would be lost silently. A value that says nothing (`null`,
    /// `false`, zero, empty) passes, because clients send whole objects.
    pub fn refuse_others(&self, kept: &[&str]) -> Result<(), ApiError> {
        let says_nothing = |v: &Value| match v {
            Value::Null | Value::Bool(false) => true,
            Value::Number(n) => n.as_f64() == Some(0.0),
            Value::String(s) => s.is_empty(),
            Value::Array(a) => a.is_empty(),
            Value::Object(o) => o.is_empty(),
            Value::Bool(true) => false,
        };
        let lost: Vec<FieldError> = self
            .body
            .iter()
            .filter(|(field, value)| !kept.contains(&field.as_str()) && !says_nothing(value))
            .map(|(field, _)| FieldError::new(field, "cannot be set here yet; leave it out"))
            .collect();
        if lost.is_empty() { Ok(()) } else { Err(ApiError::fields(lost)) }
    }

    /// A required whole number.
    pub fn need_int(&self, field: &str) -> Result<i64, ApiError> {
        self.int(field).ok_or_else(|| ApiError::field(field, "is required"))
    }

    /// A required text.
    pub fn need_text(&self, field: &str) -> Result<&str, ApiError> {
        self.text(field).ok_or_else(|| ApiError::field(field, "is required"))
    }
}

/// A whole number in any of the forms clients send.
pub fn whole(v: &Value) -> Option<i64> {
    v.as_i64()
        .or_else(|| v.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 9e15).map(|f| f as i64))
        .or_else(|| v.as_str().and_then(parse_id))
}

/// An id in decimal or exponent form.
pub fn parse_id(text: &str) -> Option<Id> {
    text.parse::<i64>()
        .ok()
        .or_else(|| {
            text.parse::<f64>().ok().filter(|f| f.is_finite() && f.fract() == 0.0 && f.abs() < 9e15).map(|f| f as i64)
        })
        .filter(|n| *n >= 0)
}

/// `If-Match` in its forms `3`, `"3"` and `W/"3"`.
pub fn parse_if_match(headers: &HeaderMap) -> Result<Option<i64>, FieldError> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or("").trim();
    if text == "*" || text.is_empty() {
        return Ok(None);
    }
    text.trim_start_matches("W/")
        .trim_matches('"')
        .parse()
        .map(Some)
        .map_err(|_| FieldError::new("If-Match", format!("{text:?} is not a revision number")))
}

/// What a handler answers.
pub enum Reply {
    /// JSON with the operation's status; completed against its schema.
    Json(Value),
    /// JSON with an `ETag` of the revision.
    Tagged(Value, i64),
    /// JSON with another status.
    Status(StatusCode, Value),
    /// The operation's status and no body.
    Empty,
    /// Anything.
    Raw(Response),
}

impl Reply {
    /// To HTTP.
    pub fn into_response(self, operation: &Operation) -> Response {
        let status = StatusCode::from_u16(operation.status).unwrap_or(StatusCode::OK);
        let body = |mut v: Value, status: StatusCode| {
            if let Some(schema) = operation.response {
                contract::complete(schema, &mut v);
            }
            (status, axum::Json(v)).into_response()
        };
        match self {
            Self::Json(v) => body(v, status),
            Self::Status(s, v) => body(v, s),
            Self::Tagged(v, revision) => {
                let mut r = body(v, status);
                if let Ok(tag) = format!("\"{revision}\"").parse() {
                    r.headers_mut().insert(header::ETAG, tag);
                }
                r
            }
            Self::Empty => status.into_response(),
            Self::Raw(r) => r,
        }
    }
}
