//! Login and logout.

use axum::{
    Json,
    http::{StatusCode, header},
    response::IntoResponse,
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use store::{
    entity::{session, user},
    time,
};

use crate::{
    auth::{CSRF_COOKIE, SESSION_COOKIE, SESSION_SECONDS},
    context::{Ctx, Reply},
    contract,
    error::ApiError,
    kinds::{record, user as wire},
    routes,
};

routes! {
    "login" => login,
    "logout" => logout,
    "getCurrentUser" => current,
}

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
    row.expires_at = Set(time::in_seconds(SESSION_SECONDS));
    row.insert(&txn).await?;
    let mut seen: user::ActiveModel = found.clone().into();
    seen.last_login_at = Set(Some(time::now()));
    let found = seen.update(&txn).await?;
    record(&ctx, &txn, "user.login", format!("{} logged in", found.email), ("user", found.id), json!({})).await?;
    txn.commit().await?;
    let mut body = wire::wire(&found);
    contract::complete("User", &mut body);
    body["sessionToken"] = token.clone().into();
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
