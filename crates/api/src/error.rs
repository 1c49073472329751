//! Errors as clients see them: status, message, and the fields that were refused.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use model::validate::FieldError;
use serde_json::json;

/// An error on its way to a client.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{status}: {message}")]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// One sentence: what, where, and what to do.
    pub message: String,
    /// Refused fields.
    pub details: Vec<FieldError>,
    /// Anything else that helps, merged into the body.
    pub extra: Option<serde_json::Map<String, serde_json::Value>>,
}

impl ApiError {
    /// An error of that status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), details: Vec::new(), extra: None }
    }
    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
    /// 400 about one field.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        FieldError::new(field, message).into()
    }
    /// 400 about several fields.
    pub fn fields(details: Vec<FieldError>) -> Self {
        let message = details.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        Self { status: StatusCode::BAD_REQUEST, message, details, extra: None }
    }
    /// 404 about an object.
    pub fn not_found(kind: &str, id: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no {kind} {id}, or it is not yours to see"))
    }
    /// 409.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }
    /// 403.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }
    /// 412: the object has moved on.
    pub fn stale(found: i64) -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            format!("the object was changed meanwhile: If-Match does not hold, found {found}; read it again and retry"),
        )
    }
    /// 500, logged in full and shown as a sentence.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "something went wrong on our side; the log has it under this request id",
        )
    }
    /// With more members in the body.
    pub fn with(mut self, key: &str, value: serde_json::Value) -> Self {
        self.extra.get_or_insert_default().insert(key.to_owned(), value);
        self
    }
}

impl From<FieldError> for ApiError {
    fn from(e: FieldError) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: e.to_string(), details: vec![e], extra: None }
    }
}

impl From<sea_orm::DbErr> for ApiError {
    fn from(e: sea_orm::DbErr) -> Self {
        match e.sql_err() {
            Some(sea_orm::SqlErr::UniqueConstraintViolation(what)) => {
                Self::conflict(format!("there is one like it already ({what})"))
            }
            Some(sea_orm::SqlErr::ForeignKeyConstraintViolation(what)) => {
                Self::conflict(format!("it is still used, or names something that is not there ({what})"))
            }
            _ => Self::internal(e),
        }
    }
}

impl From<serde_json::Error> for ApiError {
    fn from(e: serde_json::Error) -> Self {
        Self::internal(e)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = json!({
            "statusCode": self.status.as_u16(),
            "message": self.message,
            "error": self.status.canonical_reason().unwrap_or("Error"),
        });
        if !self.details.is_empty() {
            body["details"] = json!(self.details);
        }
        if let (Some(extra), Some(map)) = (self.extra, body.as_object_mut()) {
            map.extend(extra);
        }
        (self.status, Json(body)).into_response()
    }
}
