//! Refusals in plain text: the readers are firmware, agents, and people with curl.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::backend::BackendError;

/// A refusal.
#[derive(Debug)]
pub(super) struct HttpError(pub StatusCode, pub String);

impl HttpError {
    pub fn not_found(what: &str) -> Self {
        Self(StatusCode::NOT_FOUND, what.to_owned())
    }

    pub fn bad_request(what: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, what.into())
    }

    /// The agent's interface is for machines that show one.
    pub fn no_certificate() -> Self {
        Self(StatusCode::UNAUTHORIZED, "this needs TLS with a certificate of the machine".to_owned())
    }

    /// The same words for every wrong token: nobody learns which sessions exist.
    pub fn dead_token() -> Self {
        Self(StatusCode::UNAUTHORIZED, "no boot session has this token".to_owned())
    }
}

impl From<BackendError> for HttpError {
    fn from(error: BackendError) -> Self {
        tracing::warn!(%error, "HTTP boot request failed");
        Self(StatusCode::SERVICE_UNAVAILABLE, "the site's store does not answer; try again".to_owned())
    }
}

impl From<std::io::Error> for HttpError {
    fn from(error: std::io::Error) -> Self {
        tracing::warn!(%error, "HTTP boot file");
        Self(StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read".to_owned())
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let mut response = (self.0, format!("{}\n", self.1)).into_response();
        let headers = response.headers_mut();
        if self.0 == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("5"));
        }
        if self.0 == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        response
    }
}
