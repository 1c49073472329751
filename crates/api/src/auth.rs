//! Who calls: an API key or session token as bearer, or the browser's session cookie with its CSRF header.

use axum::http::{HeaderMap, Method, StatusCode, header};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use store::{
    entity::{api_key, role, session, user},
    time,
};

use crate::{App, context::Caller, error::ApiError};

/// Cookie of a browser session (`HttpOnly`).
pub const SESSION_COOKIE: &str = "steelyard_session";
/// Cookie that scripts may read; its value must come back in the header `X-CSRF-Token` with every write.
pub const CSRF_COOKIE: &str = "steelyard_csrf";
/// Seconds that a session lasts.
pub const SESSION_SECONDS: i64 = 12 * 3600;

fn denied(message: &str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, message)
}

/// Value of a cookie.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|h| h.to_str().ok())
        .flat_map(|h| h.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(k, _)| *k == name)
        .map(|(_, v)| v)
}

/// What a request brings to say who calls, and whether a cookie brought it.
pub fn credential(headers: &HeaderMap) -> Option<(&str, bool)> {
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|h| h.to_str().ok())
        .and_then(|h| h.strip_prefix("Bearer ").or_else(|| h.strip_prefix("bearer ")));
    bearer.map(|token| (token.trim(), false)).or_else(|| cookie(headers, SESSION_COOKIE).map(|token| (token, true)))
}

/// The caller of a request.
pub async fn caller(app: &App, method: &Method, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let (token, from_cookie) = credential(headers)
        .ok_or_else(|| denied("log in first: send Authorization: Bearer with an API key or session token"))?;
    let safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let of_hash = of_hash(app, crypto::token::hash(token)).await?;
    if let (Some(csrf), true, false) = (&of_hash.1, from_cookie, safe)
        && !headers.get("x-csrf-token").and_then(|h| h.to_str().ok()).is_some_and(|h| crypto::token::equal(h, csrf))
    {
        return Err(ApiError::forbidden("the header X-CSRF-Token is missing or wrong; reload the page"));
    }
    Ok(of_hash.0)
}

/// The caller behind the hash of an API key or session token, as it is now, and the session's CSRF value.
pub async fn of_hash(app: &App, hash: String) -> Result<(Caller, Option<String>), ApiError> {
    let db = &app.db().read;
    let found = session::Entity::find().filter(session::Column::TokenHash.eq(&hash)).one(db).await?;
    let mut csrf = None;
    let (user_id, session_hash) = match found {
        Some(s) if s.expires_at < time::now() => return Err(denied("the session has expired; log in again")),
        Some(s) if s.pending => {
            return Err(denied("the code of your authenticator is still owed; send it to /login-2fa"));
        }
        Some(s) => {
            csrf = Some(s.csrf);
            (s.user_id, Some(hash))
        }
        None => {
            let key = api_key::Entity::find().filter(api_key::Column::KeyHash.eq(&hash)).one(db).await?;
            (
                key.ok_or_else(|| denied("the API key or session is not known, or was revoked; log in again"))?.user_id,
                None,
            )
        }
    };
    let user = user::Entity::find_by_id(user_id).one(db).await?.ok_or_else(|| denied("the user is no more"))?;
    if user.is_blocked || user.is_archived {
        return Err(denied("the user is blocked or archived; ask an administrator"));
    }
    let permissions = role::Entity::find()
        .filter(role::Column::Name.eq(&user.role))
        .one(db)
        .await?
        .map(|r| r.permissions)
        .unwrap_or_default();
    let caller = Caller {
        user_id: user.id,
        account_id: user.account_id,
        email: user.email,
        is_admin: is_admin(&user.access_level),
        permissions: serde_json::from_value(permissions).unwrap_or_default(),
        is_suspended: user.is_suspended,
        session: session_hash,
    };
    Ok((caller, csrf))
}

/// Access levels that see every tenant's objects.
pub fn is_admin(access_level: &str) -> bool {
    matches!(access_level, "root" | "admin" | "full_admin")
}
