//! The second factor of a login: a time-based code of the user's authenticator.

use std::time::{SystemTime, UNIX_EPOCH};

use model::secret::{Clear, Sealed};
use sea_orm::ActiveValue::Set;
use serde_json::{Value, json};
use store::entity::user;

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{
        edit,
        user::{find, wire},
    },
    routes,
};

routes! {
    "generateUser2FASecret" => generate,
    "enableUser2FA" => enable,
    "disableUser2FA" => disable,
}

/// Checks a code. `None`: it is wrong, or was used before; else the user's notes, in which it is marked as used.
pub(crate) fn accept(ctx: &Ctx, user: &user::Model, code: &str) -> Result<Option<Value>, ApiError> {
    let Some(sealed) = &user.totp_secret else { return Ok(None) };
    let secret = ctx.app.sealer().open(&Sealed(sealed.clone())).map_err(|e| {
        ApiError::conflict(format!("the authenticator's secret cannot be opened ({e}); an administrator must reset it"))
    })?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let used = user.extra["codeStep"].as_u64().unwrap_or(0);
    // The step before and the one after are good as well: clocks differ.
    let step = [now.saturating_sub(30), now, now + 30].into_iter().find_map(|at| {
        let fits = crypto::totp::code(&secret.0, at).is_some_and(|c| crypto::token::equal(&c, code.trim()));
        (fits && at / 30 > used).then_some(at / 30)
    });
    Ok(step.map(|step| {
        let mut extra = user.extra.as_object().cloned().unwrap_or_default();
        extra.insert("codeStep".into(), step.into());
        Value::Object(extra)
    }))
}

async fn own(ctx: &Ctx) -> Result<user::Model, ApiError> {
    find(ctx, ctx.caller.user_id).await
}

/// A new secret, shown this once. It counts once a code of it was given.
async fn generate(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = own(&ctx).await?;
    if found.totp_enabled {
        return Err(ApiError::conflict("the second factor is on already; switch it off first"));
    }
    let secret = crypto::totp::secret();
    let sealed = ctx.app.sealer().seal(&Clear(secret.clone())).map_err(ApiError::internal)?;
    edit(&ctx, &found, ("user", &found.email), "generate_second_factor", wire, |row| {
        row.totp_secret = Set(Some(sealed.0));
    })
    .await?;
    let mut uri = url::form_urlencoded::Serializer::new(String::new());
    uri.append_pair("secret", &secret).append_pair("issuer", "Steelyard");
    let account: String = url::form_urlencoded::byte_serialize(found.email.as_bytes()).collect();
    Ok(Reply::Json(
        json!({"secret2FA": secret, "qrCode": format!("otpauth://totp/Steelyard:{account}?{}", uri.finish())}),
    ))
}

async fn enable(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = own(&ctx).await?;
    if found.totp_enabled {
        return Err(ApiError::conflict("the second factor is on already"));
    }
    if found.totp_secret.is_none() {
        return Err(ApiError::conflict("make a secret first (2fa-generate), and enter it in your authenticator"));
    }
    let extra = accept(&ctx, &found, ctx.need_text("token")?)?
        .ok_or_else(|| ApiError::field("token", "is not the code that the authenticator shows now"))?;
    edit(&ctx, &found, ("user", &found.email), "enable_second_factor", wire, |row| {
        row.totp_enabled = Set(true);
        row.extra = Set(extra);
    })
    .await?;
    Ok(Reply::Empty)
}

async fn disable(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = own(&ctx).await?;
    if !found.totp_enabled {
        return Err(ApiError::conflict("the second factor is off already"));
    }
    edit(&ctx, &found, ("user", &found.email), "disable_second_factor", wire, |row| {
        row.totp_enabled = Set(false);
        row.totp_secret = Set(None);
    })
    .await?;
    Ok(Reply::Empty)
}
