//! Login and logout.

use axum::{
    Json,
    http::{StatusCode, header},
    response::IntoResponse,
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use store::{
    entity::{session, user},
    time,
};

use crate::{
    auth::{CSRF_COOKIE, SESSION_COOKIE, SESSION_SECONDS, credential},
    context::{Ctx, Reply},
    contract,
    error::ApiError,
    kinds::{record, second_factor, user as wire},
    routes,
};

routes! {
    "login" => login,
    "login2FA" => second_factor,
    "getAuthenticationProvider" => provider,
    "getPublicSignupDisabled" => signup_disabled,
    "logout" => logout,
    "getCurrentUser" => current,
}

/// Seconds that the second half of a login may take.
const CODE_SECONDS: i64 = 300;
/// Codes that may be tried after one password.
const MAX_CODES: i64 = 5;

/// A hash that no password fits: a login for an unknown address takes as long as one for a known address.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

async fn login(ctx: Ctx) -> Result<Reply, ApiError> {
    let refused = || ApiError::new(StatusCode::UNAUTHORIZED, "e-mail address or password is wrong");
    if ctx.text("provider") != Some("mysql") {
        return Err(ApiError::field("provider", "only the built-in users (mysql) are set up here"));
    }
    let property = |name: &str| {
        ctx.body
            .get("properties")
            .and_then(|p| p.get(name))
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| ApiError::field(format!("properties.{name}"), "is required"))
    };
    let (email, password) = (property("email")?.trim().to_lowercase(), property("password")?);
    let found = user::Entity::find().filter(user::Column::Email.eq(email)).one(&ctx.app.db().read).await?;
    let hash = found.as_ref().map_or_else(|| NOBODY.to_owned(), |u| u.password_hash.clone());
    // Hashing takes its time by design: not on the threads that serve requests.
    let fits = tokio::task::spawn_blocking(move || crypto::password::verify(&password, &hash))
        .await
        .map_err(ApiError::internal)?;
    let Some(found) = found.filter(|_| fits) else { return Err(refused()) };
    if found.is_blocked || found.is_archived {
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "this user is blocked or archived; ask an administrator"));
    }
    let (token, csrf) = (crypto::token::random(), crypto::token::random());
    let txn = ctx.app.db().begin().await?;
    session::Entity::delete_many().filter(session::Column::ExpiresAt.lt(time::now())).exec(&txn).await?;
    let mut row = session::new();
    row.token_hash = Set(crypto::token::hash(&token));
    row.user_id = Set(found.id);
    row.csrf = Set(csrf.clone());
    row.expires_at = Set(time::in_seconds(if found.totp_enabled { CODE_SECONDS } else { SESSION_SECONDS }));
    row.pending = Set(found.totp_enabled);
    row.attempts = Set(0);
    row.insert(&txn).await?;
    if found.totp_enabled {
        txn.commit().await?;
        return signed_in(&ctx, &found, &token, &csrf);
    }
    let found = entered(&ctx, &txn, &found).await?;
    txn.commit().await?;
    signed_in(&ctx, &found, &token, &csrf)
}

/// Notes that a user came in.
async fn entered<C: ConnectionTrait>(ctx: &Ctx, txn: &C, user: &user::Model) -> Result<user::Model, ApiError> {
    let mut seen: user::ActiveModel = user.clone().into();
    seen.last_login_at = Set(Some(time::now()));
    let seen = seen.update(txn).await?;
    record(ctx, txn, "user.login", format!("{} logged in", seen.email), ("user", seen.id), json!({})).await?;
    Ok(seen)
}

/// The answer to a login: the user, the token, and the cookies of browsers. While the second factor is owed, the token is good for that alone.
fn signed_in(ctx: &Ctx, user: &user::Model, token: &str, csrf: &str) -> Result<Reply, ApiError> {
    let mut body = wire::wire(user);
    contract::complete("User", &mut body);
    body["sessionToken"] = token.into();
    body["secondFactorRequired"] = (user.totp_enabled && ctx.operation.id == "login").into();
    let secure = if ctx.headers.get("x-forwarded-proto").is_some_and(|p| p == "https") { "; Secure" } else { "" };
    let cookies = [
        format!("{SESSION_COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={SESSION_SECONDS}{secure}"),
        format!("{CSRF_COOKIE}={csrf}; Path=/; SameSite=Strict; Max-Age={SESSION_SECONDS}{secure}"),
    ];
    let mut response = Json(body).into_response();
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie.parse().map_err(ApiError::internal)?);
    }
    Ok(Reply::Raw(response))
}

/// The second half of a login: the code of the authenticator, with the token (or cookie) that the first half gave. A code is good once, and
/// a few wrong ones end the attempt.
async fn second_factor(ctx: Ctx) -> Result<Reply, ApiError> {
    let refused = |words: &str| ApiError::new(StatusCode::UNAUTHORIZED, words);
    let again = || refused("log in with your password first; the code must follow within five minutes");
    let (token, _) = credential(&ctx.headers).ok_or_else(again)?;
    let hash = crypto::token::hash(token);
    let txn = ctx.app.db().begin().await?;
    let owed = session::Entity::find().filter(session::Column::TokenHash.eq(&hash)).one(&txn).await?;
    let owed = owed.filter(|s| s.pending && s.expires_at > time::now()).ok_or_else(again)?;
    let user = user::Entity::find_by_id(owed.user_id).one(&txn).await?;
    let user = user.filter(|u| !u.is_blocked && !u.is_archived && u.totp_enabled).ok_or_else(again)?;
    let Some(extra) = second_factor::accept(&ctx, &user, ctx.need_text("token")?)? else {
        if owed.attempts + 1 >= MAX_CODES {
            session::Entity::delete_by_id(owed.id).exec(&txn).await?;
        } else {
            let mut row: session::ActiveModel = owed.clone().into();
            row.attempts = Set(owed.attempts + 1);
            row.update(&txn).await?;
        }
        txn.commit().await?;
        return Err(refused("the code is wrong or was used already; wait for the next one"));
    };
    let mut row: user::ActiveModel = user.into();
    row.extra = Set(extra);
    let user = row.update(&txn).await?;
    // Another token: the one that was good without a code stays worthless.
    let (token, csrf) = (crypto::token::random(), crypto::token::random());
    let mut row: session::ActiveModel = owed.into();
    row.token_hash = Set(crypto::token::hash(&token));
    row.csrf = Set(csrf.clone());
    row.expires_at = Set(time::in_seconds(SESSION_SECONDS));
    row.pending = Set(false);
    row.update(&txn).await?;
    let user = entered(&ctx, &txn, &user).await?;
    txn.commit().await?;
    signed_in(&ctx, &user, &token, &csrf)
}

async fn logout(ctx: Ctx) -> Result<Reply, ApiError> {
    if let Some(hash) = &ctx.caller.session {
        session::Entity::delete_many().filter(session::Column::TokenHash.eq(hash)).exec(&ctx.app.db().write).await?;
    }
    let mut response = Json(json!({"redirectUrl": "/portal/"})).into_response();
    for name in [SESSION_COOKIE, CSRF_COOKIE] {
        response
            .headers_mut()
            .append(header::SET_COOKIE, format!("{name}=; Path=/; Max-Age=0").parse().map_err(ApiError::internal)?);
    }
    Ok(Reply::Raw(response))
}

async fn current(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = wire::find(&ctx, ctx.caller.user_id).await?;
    Ok(Reply::Tagged(wire::wire(&found), found.revision))
}

/// Who vouches for a user: the built-in users, as yet.
async fn provider(_: Ctx) -> Result<Reply, ApiError> {
    Ok(Reply::Json(json!({"provider": "mysql"})))
}

async fn signup_disabled(_: Ctx) -> Result<Reply, ApiError> {
    Ok(Reply::Json(json!({"isPublicSignupDisabled": true})))
}
